//! The transport over io_uring: its faults, what only it can do, and the same results as over
//! `/dev/fuse`.

use std::fs::{self, File, OpenOptions};
use std::io::Read as _;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, FallocateFlags, Mode, OFlags, StatxFlags, Timespec, Timestamps};
use stratafs::fuse::Transport;
use stratafs::fuse::transport::PARAMETER;
use tempfile::TempDir;

use crate::common::cli::{self, Strata, can_mount, can_uring, have, run};
use crate::common::daemon::Daemon;
use crate::common::live::{Live, chmod, dirs};
use crate::common::slow::{Door, Slow};
use crate::common::tree;

/// `Live` over io_uring, or the end of the test.
macro_rules! live {
    ($test:literal, $script:expr) => {{
        if !can_uring($test) {
            return;
        }
        Live::on(Transport::Uring, $script)
    }};
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn wait_until(what: &str, done: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < until, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Work of all kinds in a directory; what it shows then.
fn work(dir: &Path) -> tree::Tree {
    let at = |name: &str| dir.join(name);
    chmod(dir, 0o751);
    fs::create_dir(at("new")).unwrap();
    for i in 0..300 {
        let path = at(&format!("new/file-{i}"));
        fs::write(&path, vec![i as u8; i * 7]).unwrap();
        chmod(&path, 0o600 + (i as u32 % 64));
    }
    for i in 0..100 {
        fs::rename(
            at(&format!("new/file-{i}")),
            at(&format!("new/renamed-{i}")),
        )
        .unwrap();
        fs::remove_file(at(&format!("new/file-{}", 200 + i))).unwrap();
    }
    assert_eq!(fs::read_dir(at("new")).unwrap().count(), 200);
    fs::hard_link(at("new/renamed-1"), at("link")).unwrap();
    symlink("somewhere", at("symlink")).unwrap();
    assert_eq!(
        fs::read_link(at("symlink")).unwrap(),
        Path::new("somewhere")
    );
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(at("big"))
        .unwrap();
    file.write_all_at(&[9; 100_000], 1_500_000).unwrap();
    file.set_len(2_000_001).unwrap();
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    rustix::fs::fallocate(&file, punch, 8192, 40_000).unwrap();
    file.sync_all().unwrap();
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(at("big"), "user.x", b"value", flags).unwrap();
    rustix::fs::setxattr(at("big"), "user.gone", b"v", flags).unwrap();
    rustix::fs::removexattr(at("big"), "user.gone").unwrap();
    rustix::fs::mknodat(CWD, at("fifo"), rustix::fs::FileType::Fifo, Mode::RUSR, 0).unwrap();
    let null = rustix::fs::makedev(1, 3);
    let kind = rustix::fs::FileType::CharacterDevice;
    rustix::fs::mknodat(CWD, at("null"), kind, Mode::RUSR, null).unwrap();
    std::os::unix::fs::chown(at("owned"), Some(12), Some(34)).unwrap();
    let time = |sec| Timespec {
        tv_sec: sec,
        tv_nsec: 5,
    };
    let times = Timestamps {
        last_access: time(-7),
        last_modification: time(1 << 33),
    };
    rustix::fs::utimensat(CWD, at("owned"), &times, AtFlags::empty()).unwrap();
    fs::remove_dir_all(at("tree")).unwrap();
    fs::create_dir(at("tree")).unwrap();
    fs::remove_file(at("removed")).unwrap();
    rustix::fs::renameat_with(
        CWD,
        at("xa"),
        CWD,
        at("xb"),
        rustix::fs::RenameFlags::EXCHANGE,
    )
    .unwrap();
    let mut shown = tree::list(dir);
    // When it was done isn't what is compared.
    for (name, object) in &mut shown {
        if !name.ends_with("owned") {
            object.mtime = 0;
        }
    }
    shown
}

const FILLED: &str = "mkdir -p tree/a/b; echo x >tree/a/b/c; echo o >owned; echo r >removed
    echo a >xa; mkdir xb; echo b >xb/f; head -c 1700000 /dev/zero | tr '\\0' b >big; chmod 4755 big";

#[test]
fn both_transports_do_what_a_directory_does() {
    let test = "uring::both_transports_do_what_a_directory_does";
    if !can_uring(test) {
        return;
    }
    let plain = TempDir::with_prefix("strata-plain-").unwrap();
    chmod(plain.path(), 0o755);
    cli::said(
        Command::new("sh")
            .args(["-ec", FILLED])
            .current_dir(plain.path()),
    )
    .success();
    let expected = work(plain.path());
    for transport in [Transport::Dev, Transport::Uring] {
        let live = Live::on(transport, FILLED);
        let seen = work(&live.point);
        let differences = tree::differences(&expected, &seen);
        assert!(differences.is_empty(), "{transport}: {differences:#?}");
        // And once more, from below.
        let upper = fs::read(live.upper("big")).unwrap();
        assert!(fs::read(live.path("big")).unwrap() == upper);
    }
}

#[test]
fn both_transports_ask_as_little() {
    if !can_uring("uring::both_transports_ask_as_little") {
        return;
    }
    for transport in [Transport::Dev, Transport::Uring] {
        let live = Live::on(transport, "mkdir d; for i in 1 2 3; do echo $i >d/$i; done");
        let look = || {
            assert_eq!(fs::read_dir(live.path("d")).unwrap().count(), 3);
            for i in 1..4 {
                assert_eq!(fs::metadata(live.path(&format!("d/{i}"))).unwrap().len(), 2);
            }
            assert!(!live.path("d/none").exists());
        };
        look();
        look();
        assert_eq!(live.requests(look), 0, "{transport}");
        let create = || drop(File::create(live.path("d/new")).unwrap());
        assert!(live.requests(create) <= 2, "LOOKUP and CREATE");
        let unlink = || fs::remove_file(live.path("d/new")).unwrap();
        // The kernel drops a directory's attributes at each change.
        assert!(
            live.requests(unlink) <= 2,
            "{transport}: GETATTR and UNLINK"
        );
    }
}

#[test]
fn the_option_chooses_and_the_control_socket_tells() {
    let test = "uring::the_option_chooses_and_the_control_socket_tells";
    if !can_uring(test) {
        return;
    }
    let dir = layers(1);
    for (word, expected) in [("auto", 1), ("uring", 1), ("dev", 0)] {
        let options = format!("transport={word},{}", options(dir.path(), 0));
        let daemon = Daemon::start(&options, &dir.path().join("m0"));
        assert_eq!(queue_threads(daemon.pid()).min(1), expected, "{word}");
        fs::write(dir.path().join("m0/f"), word).unwrap();
        daemon.unmount();
    }
    let strata = Strata::new();
    let script = r#"
        mkdir rootfs; echo tiny > rootfs/name; tar -C rootfs -cf layer.tar .
        sum=$(sha256sum layer.tar | cut -d' ' -f1)
        echo '{"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":["sha256:'$sum'"]}}' > config.json
        echo '[{"Config":"config.json","RepoTags":["tiny:latest"],"Layers":["layer.tar"]}]' > manifest.json
        tar cf image.tar config.json manifest.json layer.tar"#;
    let mut shell = Command::new("sh");
    cli::said(shell.args(["-ec", script]).current_dir(&strata.scratch)).success();
    strata.load(&strata.path("image.tar"));
    let name = "tiny";
    for word in ["uring", "dev"] {
        let mounted = strata.mount(&["-o", &format!("transport={word}"), "--name", word], name);
        let store = stratafs::store::Store::open(&strata.root).unwrap();
        let container = store.container(word).unwrap();
        let mut connection =
            stratafs::mount::control::Connection::open(&container.dir(&store)).unwrap();
        assert_eq!(connection.status().unwrap().transport, word);
        connection.hold().unwrap();
        drop(connection);
        mounted.unmount();
    }
}

/// Directory layers `lN`, `uN`, `wN` and mount points `mN`, and one file in each lower.
fn layers(count: usize) -> TempDir {
    let dir = TempDir::with_prefix("strata-uring-").unwrap();
    chmod(dir.path(), 0o755);
    for n in 0..count {
        for kind in ["l", "u", "w", "m"] {
            fs::create_dir(dir.path().join(format!("{kind}{n}"))).unwrap();
        }
        fs::write(dir.path().join(format!("l{n}/lower")), b"lower").unwrap();
    }
    dir
}

fn options(dir: &Path, n: usize) -> String {
    let dir = dir.display();
    format!("lowerdir={dir}/l{n},upperdir={dir}/u{n},workdir={dir}/w{n}")
}

/// How many of a process's threads serve queues.
fn queue_threads(pid: u32) -> usize {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    tasks
        .filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok())
        .filter(|comm| comm.trim() == "queue")
        .count()
}

/// A figure of `/proc/PID/status`, in KiB.
fn memory(pid: u32, figure: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix(figure)).unwrap();
    line.trim_matches([':', ' ', '\t'])
        .split_whitespace()
        .next()
        .unwrap()
        .parse()
        .unwrap()
}

#[test]
fn a_registration_refused_half_way_leaves_a_mount_over_dev() {
    let test = "uring::a_registration_refused_half_way_leaves_a_mount_over_dev";
    if !can_uring(test) || !have(test, &["strace"]) {
        return;
    }
    let dir = layers(1);
    let point = dir.path().join("m0");
    // The first batch of a queue's entries is registered, the second isn't.
    let start = |word: &str| {
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-o", "/dev/null"]);
        strace.args(["-e", "trace=io_uring_enter"]);
        strace.args(["-e", "inject=io_uring_enter:error=ENOMEM:when=2"]);
        strace.arg(env!("CARGO_BIN_EXE_strata"));
        strace.args(["mount", "-f", "-o", &format!("transport={word}")]);
        strace.args(["-o", &options(dir.path(), 0)]).arg(&point);
        strace
    };
    let daemon = Daemon::run(&mut start("auto"), &point);
    fs::write(point.join("f"), b"works").unwrap();
    assert_eq!(fs::read(point.join("f")).unwrap(), b"works");
    let log = daemon.log();
    assert!(log.contains("the mount goes over /dev/fuse"), "{log}");
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let here = format!(" {} ", point.display());
    assert_eq!(mounts.matches(&here).count(), 1, "the first one is gone");
    daemon.unmount();
    let failure = cli::said(&mut start("uring")).failure();
    assert!(failure.contains("register a ring"), "{failure}");
    assert_eq!(failure.lines().count(), 1, "{failure}");
    assert!(!cli::is_mounted(&point));
}

#[test]
fn without_the_kernels_switch_uring_is_refused_and_auto_is_dev() {
    let test = "uring::without_the_kernels_switch_uring_is_refused_and_auto_is_dev";
    if !can_mount(test) || !Path::new(PARAMETER).exists() {
        return cli::announce(test, "no FUSE over io_uring in this kernel");
    }
    let dir = layers(1);
    // Of this command only: others may need the switch as it is.
    let switched_off = |word: &str| {
        let off = dir.path().join("off");
        fs::write(&off, b"N\n").unwrap();
        let script = "mount --bind off \"$1\"; shift; \"$@\" m0; echo x >m0/f
            stat -c %W m0/f; umount m0";
        let mut command = Command::new("unshare");
        command.args([
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-ec",
            script,
            "sh",
        ]);
        command.args([PARAMETER, env!("CARGO_BIN_EXE_strata"), "mount"]);
        command.args(["-o", &format!("transport={word}"), "-o"]);
        command.arg(options(dir.path(), 0)).current_dir(dir.path());
        command
    };
    // No birth time: it is served over /dev/fuse.
    let said = cli::said(&mut switched_off("auto")).success();
    assert!(["0\n", "-\n"].contains(&said.as_str()), "{said}");
    let failure = cli::said(&mut switched_off("uring")).failure();
    assert!(failure.contains("switched off"), "{failure}");
    assert_eq!(failure.lines().count(), 1, "{failure}");
}

#[test]
fn an_aborted_connection_ends_requests_and_the_session() {
    let test = "uring::an_aborted_connection_ends_requests_and_the_session";
    if !can_uring(test) {
        return;
    }
    for how in ["abort", "umount -f"] {
        let (live, door) = slow_files(8);
        std::thread::scope(|scope| {
            let readers: Vec<_> = (0..8)
                .map(|i| {
                    let path = live.path(&i.to_string());
                    scope.spawn(move || fs::read(path))
                })
                .collect();
            door.wait_for(4);
            if how == "abort" {
                abort(&live.point);
            } else {
                let point = live.point.as_os_str();
                run("umount", &["-f".as_ref(), "-l".as_ref(), point]).success();
            }
            for reader in readers {
                let error = reader.join().unwrap().unwrap_err();
                let ended = [libc::ENOTCONN, libc::ECONNABORTED, libc::EIO, libc::EINTR];
                assert!(
                    ended.contains(&error.raw_os_error().unwrap()),
                    "{how}: {error}"
                );
            }
            // The jobs are still at it; their answers come to nothing.
            door.open();
        });
        assert!(fs::metadata(live.path("0")).is_err() || how != "abort");
    }
}

/// Ends the connection of a mount from the kernel's side.
fn abort(point: &Path) {
    let connections = TempDir::with_prefix("strata-fusectl-").unwrap();
    let place = connections.path();
    run(
        "mount",
        &[
            "-t".as_ref(),
            "fusectl".as_ref(),
            "none".as_ref(),
            place.as_os_str(),
        ],
    )
    .success();
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = mountinfo
        .lines()
        .find(|l| l.split(' ').nth(4) == point.to_str())
        .unwrap();
    let device = line.split(' ').nth(2).unwrap();
    let minor = device.split(':').nth(1).unwrap();
    let aborted = fs::write(place.join(minor).join("abort"), b"1");
    run("umount", &[place]).success();
    aborted.unwrap();
}

/// Files whose contents aren't at hand until the door is opened.
fn slow_files(count: usize) -> (Live, Arc<Door>) {
    let dir = dirs();
    for i in 0..count {
        fs::write(dir.path().join(format!("lower/{i}")), format!("file {i}")).unwrap();
    }
    fs::create_dir(dir.path().join("lower/elsewhere")).unwrap();
    let (layer, door) = Slow::open(&dir.path().join("lower"));
    let live = Live::over_on(Transport::Uring, dir, Arc::new(layer));
    (live, door)
}

#[test]
fn who_is_killed_need_not_wait() {
    let test = "uring::who_is_killed_need_not_wait";
    if !can_uring(test) || !have(test, &["python3"]) {
        return;
    }
    let (live, door) = slow_files(2);
    // A page fault reads one page and waits for it; read(2) would wait for the page's lock only.
    let script = "import mmap,os,signal,sys
signal.signal(signal.SIGUSR1, lambda *_: None)
fd = os.open(sys.argv[1], os.O_RDONLY)
m = mmap.mmap(fd, 0, prot=mmap.PROT_READ)
m.madvise(mmap.MADV_RANDOM)
sys.stdout.write(m[:].decode())";
    let reader = |file: &str| {
        let mut python = Command::new("python3");
        python.args(["-c", script]).arg(live.path(file));
        python.stdout(Stdio::piped()).spawn().unwrap()
    };
    let mut killed = reader("0");
    door.wait_for(1);
    run("kill", &["-KILL", &killed.id().to_string()]).success();
    assert!(!killed.wait().unwrap().success());
    // A signal that a handler takes ends nothing.
    door.forget();
    let handles = reader("1");
    door.wait_for(1);
    run("kill", &["-USR1", &handles.id().to_string()]).success();
    // A change that waits is taken back too, and is not made.
    live.server.hold().unwrap();
    let mut mkdir = Command::new("mkdir")
        .arg(live.path("made"))
        .spawn()
        .unwrap();
    wait_until("the request", || waits(&mkdir));
    // The kernel says nothing of a signal that comes before the request is in its entry.
    std::thread::sleep(Duration::from_millis(300));
    run("kill", &["-KILL", &mkdir.id().to_string()]).success();
    mkdir.wait().unwrap();
    live.server.release();
    door.open();
    let said = handles.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(said.stdout).unwrap(), "file 1");
    assert!(!live.path("made").exists());
    assert!(!live.upper("made").exists());
}

/// Whether a process waits for MKDIR.
fn waits(child: &Child) -> bool {
    let stack = fs::read_to_string(format!("/proc/{}/stack", child.id())).unwrap_or_default();
    stack.contains("mkdir") && stack.contains("fuse")
}

/// Has a thread run on these processors only.
fn stay_on(cpus: &[usize]) {
    let mut set = rustix::thread::CpuSet::new();
    cpus.iter().for_each(|cpu| set.set(*cpu));
    rustix::thread::sched_setaffinity(None, &set).unwrap();
}

fn processors() -> Vec<usize> {
    let set = rustix::thread::sched_getaffinity(None).unwrap();
    (0..rustix::thread::CpuSet::MAX_CPU)
        .filter(|cpu| set.is_set(*cpu))
        .collect()
}

#[test]
fn more_clients_than_entries_all_get_their_answers() {
    let test = "uring::more_clients_than_entries_all_get_their_answers";
    if !can_uring(test) {
        return;
    }
    let (live, door) = slow_files(300);
    let cpus = processors();
    std::thread::scope(|scope| {
        // All of them ask on one processor.
        let readers: Vec<_> = (0..300)
            .map(|i| {
                let (path, cpu) = (live.path(&i.to_string()), cpus[0]);
                scope.spawn(move || {
                    stay_on(&[cpu]);
                    fs::read_to_string(path)
                })
            })
            .collect();
        door.wait_for(16);
        if let [_, other, ..] = cpus[..] {
            let elsewhere = live.path("elsewhere");
            let looked = scope.spawn(move || {
                stay_on(&[other]);
                fs::write(elsewhere.join("new"), b"new")?;
                fs::read_dir(elsewhere).map(Iterator::count)
            });
            wait_until("another processor's client", || looked.is_finished());
            assert_eq!(looked.join().unwrap().unwrap(), 1);
        }
        door.open();
        for (i, reader) in readers.into_iter().enumerate() {
            assert_eq!(reader.join().unwrap().unwrap(), format!("file {i}"));
        }
    });
}

#[test]
fn a_client_that_moves_between_processors_is_served() {
    let live = live!(
        "uring::a_client_that_moves_between_processors_is_served",
        "mkdir d"
    );
    let cpus = processors();
    std::thread::scope(|scope| {
        for client in 0..4 {
            let (live, cpus) = (&live, &cpus);
            scope.spawn(move || {
                for i in 0..200 {
                    stay_on(&[cpus[(i + client) % cpus.len()]]);
                    let path = live.path(&format!("d/{client}-{i}"));
                    fs::write(&path, path.as_os_str().as_encoded_bytes()).unwrap();
                    stay_on(&[cpus[(i + client + 1) % cpus.len()]]);
                    let read = fs::read(&path).unwrap();
                    assert_eq!(read, path.as_os_str().as_encoded_bytes());
                    fs::remove_file(&path).unwrap();
                }
            });
        }
    });
    assert_eq!(fs::read_dir(live.path("d")).unwrap().count(), 0);
}

#[test]
fn a_daemon_that_may_not_run_everywhere_serves_everywhere() {
    let test = "uring::a_daemon_that_may_not_run_everywhere_serves_everywhere";
    if !can_uring(test) || !have(test, &["taskset"]) {
        return;
    }
    let cpus = processors();
    for cpu in &cpus {
        let dir = layers(1);
        let point = dir.path().join("m0");
        let mut command = Command::new("taskset");
        command.args(["-c", &cpu.to_string(), env!("CARGO_BIN_EXE_strata")]);
        command.args(["mount", "-f", "-o", "transport=uring", "-o"]);
        command.arg(options(dir.path(), 0)).arg(&point);
        let daemon = Daemon::run(&mut command, &point);
        assert!(queue_threads(daemon.pid()) > 0);
        for client in &cpus {
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    stay_on(&[*client]);
                    fs::write(point.join("f"), client.to_string()).unwrap();
                    let read = fs::read_to_string(point.join("f")).unwrap();
                    assert_eq!(read, client.to_string());
                });
            });
        }
        daemon.unmount();
    }
}

#[test]
fn a_killed_daemon_lets_its_clients_go() {
    let test = "uring::a_killed_daemon_lets_its_clients_go";
    if !can_uring(test) {
        return;
    }
    let dir = layers(1);
    let point = dir.path().join("m0");
    for round in 0..5 {
        let options = format!("transport=uring,{}", options(dir.path(), 0));
        let daemon = Daemon::start(&options, &point);
        // By a descriptor: the path is soon the empty directory below.
        let opened = File::open(&point).unwrap();
        let root = PathBuf::from(format!("/proc/self/fd/{}", opened.as_raw_fd()));
        std::thread::scope(|scope| {
            let clients: Vec<_> = (0..4)
                .map(|client| {
                    let root = &root;
                    scope.spawn(move || {
                        for i in 0.. {
                            let path = root.join(format!("{client}-{i}"));
                            if let Err(e) = fs::write(&path, b"x").and_then(|()| fs::read(&path)) {
                                return e;
                            }
                        }
                        unreachable!()
                    })
                })
                .collect();
            std::thread::sleep(Duration::from_millis(30 + 20 * round));
            daemon.kill();
            for client in clients {
                let error = client.join().unwrap();
                let ended = [
                    libc::ENOTCONN,
                    libc::ECONNABORTED,
                    libc::ECANCELED,
                    libc::EIO,
                ];
                let errno = error.raw_os_error().unwrap();
                assert!(ended.contains(&errno), "{error}");
            }
        });
        assert_eq!(fs::read(dir.path().join("l0/lower")).unwrap(), b"lower");
    }
}

#[test]
fn fifty_mounts_take_little_memory() {
    let test = "uring::fifty_mounts_take_little_memory";
    if !can_uring(test) {
        return;
    }
    let dir = layers(50);
    let at = |name: String| dir.path().join(name);
    for n in 0..50 {
        let data = fs::File::create(at(format!("l{n}/data"))).unwrap();
        data.set_len(3 << 20).unwrap();
    }
    // Into the background: the rings are made after the fork.
    std::thread::scope(|scope| {
        for part in 0..5 {
            let dir = dir.path();
            scope.spawn(move || {
                for n in (part * 10)..(part * 10 + 10) {
                    let options = format!("transport=uring,fsname=fifty{n},{}", options(dir, n));
                    let point = dir.join(format!("m{n}"));
                    let mut strata = Command::new(env!("CARGO_BIN_EXE_strata"));
                    strata.args(["mount", "-o", &options]).arg(&point);
                    cli::said(&mut strata).success();
                }
            });
        }
    });
    let daemons: Vec<u32> = daemons_of(dir.path());
    assert_eq!(daemons.len(), 50);
    assert!(daemons.iter().all(|pid| queue_threads(*pid) > 0));
    for n in 0..50 {
        let point = at(format!("m{n}"));
        // Lower files of a writable mount are read by request, a MiB at a time.
        let mut all = Vec::new();
        let mut data = File::open(point.join("data")).unwrap();
        assert_eq!(data.read_to_end(&mut all).unwrap(), 3 << 20);
        for i in 0..20 {
            fs::write(point.join(i.to_string()), b"x").unwrap();
        }
        assert_eq!(fs::read_dir(&point).unwrap().count(), 22);
    }
    let mut total = 0;
    for pid in &daemons {
        let (private, shared) = (memory(*pid, "RssAnon"), memory(*pid, "RssShmem"));
        // The most that entries keep, two stacks, and everything else.
        assert!(private + shared < 24 << 10, "{pid}: {private} KiB");
        total += private + shared;
    }
    println!("50 mounts: {total} KiB of their own memory");
    for n in 0..50 {
        run("umount", &[at(format!("m{n}"))]).success();
    }
    wait_until("the daemons' ends", || daemons_of(dir.path()).is_empty());
}

/// The processes whose command line names a directory.
fn daemons_of(dir: &Path) -> Vec<u32> {
    let all = fs::read_dir("/proc").unwrap().filter_map(|e| {
        let name = e.ok()?.file_name();
        let pid: u32 = name.to_str()?.parse().ok()?;
        let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let text = String::from_utf8_lossy(&line).into_owned();
        (text.contains(&dir.display().to_string()) && text.contains("strata")).then_some(pid)
    });
    all.collect()
}

#[test]
fn files_without_a_name_are_made_and_named() {
    let live = live!(
        "uring::files_without_a_name_are_made_and_named",
        "mkdir -m 2775 d; chgrp 77 d"
    );
    for dir in ["", "d"] {
        let dir = live.path(dir);
        let flags = OFlags::TMPFILE | OFlags::RDWR;
        let fd = rustix::fs::open(&dir, flags, Mode::from_raw_mode(0o640)).unwrap();
        let file = File::from(fd);
        file.write_all_at(b"nameless", 0).unwrap();
        assert_eq!(file.metadata().unwrap().nlink(), 0);
        assert_eq!(file.metadata().unwrap().len(), 8);
        let named = dir.join("named");
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        rustix::fs::linkat(CWD, path, CWD, &named, AtFlags::SYMLINK_FOLLOW).unwrap();
        assert_eq!(fs::read(&named).unwrap(), b"nameless");
        let (a, b) = (file.metadata().unwrap(), fs::metadata(&named).unwrap());
        assert_eq!((a.ino(), b.nlink(), mode(&named)), (b.ino(), 1, 0o640));
        drop(file);
        assert_eq!(fs::read(&named).unwrap(), b"nameless");
        fs::remove_file(&named).unwrap();
        // One that never gets a name is gone with its descriptor.
        drop(rustix::fs::open(&dir, flags, Mode::RUSR).unwrap());
    }
    let meta = fs::metadata(live.path("d")).unwrap();
    assert_eq!(meta.gid(), 77);
    wait_until("the handles", || live.server.status().handles == 0);
}

#[test]
fn birth_times_are_those_below() {
    let live = live!("uring::birth_times_are_those_below", "echo x >lower");
    fs::write(live.path("upper"), b"x").unwrap();
    let born = |path: PathBuf| {
        let st = rustix::fs::statx(CWD, path, AtFlags::empty(), StatxFlags::BTIME).unwrap();
        let known = st.stx_mask & StatxFlags::BTIME.bits() != 0;
        known.then_some((st.stx_btime.tv_sec, st.stx_btime.tv_nsec))
    };
    let below = born(live.upper("upper"));
    assert_eq!(born(live.path("upper")), below);
    let below = born(live.dir.path().join("lower/lower"));
    assert_eq!(born(live.path("lower")), below);
}

#[test]
fn who_may_keep_setuid_keeps_it() {
    let test = "uring::who_may_keep_setuid_keeps_it";
    let live = live!(
        "uring::who_may_keep_setuid_keeps_it",
        "for f in cut trunc kept kept2; do echo x >$f; chmod 6777 $f; done"
    );
    if !have(test, &["setpriv", "sh", "truncate"]) {
        return;
    }
    let as_root_without = |script: &str| {
        let mut command = Command::new("setpriv");
        command.args([
            "--inh-caps=-fsetid",
            "--bounding-set=-fsetid",
            "sh",
            "-c",
            script,
        ]);
        cli::said(command.current_dir(&live.point)).success();
    };
    // Root without CAP_FSETID is as anybody.
    as_root_without("truncate -s 1 cut; echo y >trunc");
    assert_eq!(
        (mode(&live.path("cut")), mode(&live.path("trunc"))),
        (0o777, 0o777)
    );
    // And somebody with it is as root.
    let mut command = Command::new("setpriv");
    command.args(["--reuid=1000", "--regid=1000", "--clear-groups"]);
    command.args(["--inh-caps=+fsetid", "--ambient-caps=+fsetid", "sh", "-c"]);
    command.arg("truncate -s 1 kept; echo y >kept2");
    cli::said(command.current_dir(&live.point)).success();
    assert_eq!(
        (mode(&live.path("kept")), mode(&live.path("kept2"))),
        (0o6777, 0o6777)
    );
    // chown clears for everybody.
    std::os::unix::fs::chown(live.path("kept"), Some(5), None).unwrap();
    assert_eq!(mode(&live.path("kept")), 0o777);
}

#[test]
fn numbers_are_right_without_being_asked_for() {
    let live = live!("uring::numbers_are_right_without_being_asked_for", "");
    // Held while its number is used again below, so that the next one's nodeid is another.
    let mut apart = false;
    for _ in 0..50 {
        fs::write(live.path("f"), b"x").unwrap();
        let held = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_PATH)
            .open(live.path("f"))
            .unwrap();
        fs::remove_file(live.path("f")).unwrap();
        fs::write(live.path("g"), b"y").unwrap();
        let shown = fs::metadata(live.path("g")).unwrap().ino();
        let listed = fs::read_dir(&live.point).unwrap();
        let listed = listed.map(|e| e.unwrap()).find(|e| e.file_name() == "g");
        let stat = || assert_eq!(fs::metadata(live.path("g")).unwrap().ino(), shown);
        stat();
        assert_eq!(live.requests(stat), 0, "attributes came with the entry");
        let listed = std::os::unix::fs::DirEntryExt::ino(&listed.unwrap());
        assert_eq!(listed, shown, "d_ino is st_ino");
        apart |= held.metadata().unwrap().ino() != shown;
        fs::remove_file(live.path("g")).unwrap();
    }
    assert!(apart);
}

#[test]
fn large_reads_and_writes_by_request_arrive() {
    if !can_uring("uring::large_reads_and_writes_by_request_arrive") {
        return;
    }
    let live = Live::cached_on(Transport::Uring, "head -c 5000001 /dev/urandom >f");
    let expected = fs::read(live.dir.path().join("lower/f")).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert!(fs::read(live.path("f")).unwrap() == expected));
        }
    });
    // A reader keeps the file in cached mode, so that writes are requests.
    let reader = File::open(live.path("f")).unwrap();
    let turned: Vec<u8> = expected.iter().rev().copied().collect();
    fs::write(live.path("f"), &turned).unwrap();
    assert!(fs::read(live.upper("f")).unwrap() == turned);
    let mut seen = Vec::new();
    (&reader).read_to_end(&mut seen).unwrap();
    assert!(seen == turned);
    assert!(reader.as_fd().try_clone_to_owned().is_ok());
}
