//! What goes wrong below io_uring, and around it.

use super::*;

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
    let test = "uring::faults::a_registration_refused_half_way_leaves_a_mount_over_dev";
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
    let test = "uring::faults::without_the_kernels_switch_uring_is_refused_and_auto_is_dev";
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
    let test = "uring::faults::an_aborted_connection_ends_requests_and_the_session";
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
    let test = "uring::faults::who_is_killed_need_not_wait";
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
    wait_until(|| waits(&mkdir));
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
    let test = "uring::faults::more_clients_than_entries_all_get_their_answers";
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
            wait_until(|| looked.is_finished());
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
        "uring::faults::a_client_that_moves_between_processors_is_served",
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
    let test = "uring::faults::a_daemon_that_may_not_run_everywhere_serves_everywhere";
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
    let test = "uring::faults::a_killed_daemon_lets_its_clients_go";
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
    let test = "uring::faults::fifty_mounts_take_little_memory";
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
    wait_until(|| daemons_of(dir.path()).is_empty());
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
