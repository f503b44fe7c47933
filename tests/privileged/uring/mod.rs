//! The transport over io_uring: its faults, what only it can do, and the same results as over
//! `/dev/fuse`.

use std::fs::{self, File, OpenOptions};
use std::io::Read as _;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, FallocateFlags, Mode, OFlags, StatxFlags, Timespec, Timestamps};
use stratafs::fuse::Transport;
use stratafs::fuse::transport::PARAMETER;
use tempfile::TempDir;

use crate::common::cli::{self, Strata, can_mount, can_uring, have, run};
use crate::common::daemon::Daemon;
use crate::common::live::{Live, chmod, dirs, wait_until};
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

mod faults;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
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
    wait_until(|| live.server.status().handles == 0);
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
