//! What operations cost, in requests and in system calls: these numbers are not to grow.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::common::cli::{announce, can_mount, run};
use crate::common::daemon::Daemon;
use crate::common::live::Live;

const FEW: &str = "mkdir -p d/e; for i in $(seq 50); do echo $i >d/$i; echo $i >d/e/$i; done";

fn create(path: &Path) {
    drop(
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(path)
            .unwrap(),
    );
}

fn each(dir: &Path, f: impl Fn(&Path)) {
    (1..51).for_each(|i| f(&dir.join(i.to_string())));
}

/// At most so many of these operations and no others.
fn assert_costs(what: &str, counted: &BTreeMap<&str, u64>, most: &[(&str, u64)]) {
    for (op, n) in counted {
        let bound = most.iter().find(|(known, _)| known == op);
        assert!(
            bound.is_some_and(|(_, most)| n <= most),
            "{what}: {counted:?}"
        );
    }
}

#[test]
fn requests_of_the_main_operations() {
    if !can_mount("costs::requests_of_the_main_operations") {
        return;
    }
    for live in [Live::new(FEW), Live::image(FEW)] {
        let find = || assert!(run("find", &[live.point.to_str().unwrap(), "-ls"]).ok);
        find();
        find();
        // The three directories; what changes is asked for at most once more.
        let counted = live.counted(find);
        let most = [("getattr", 3), ("statfs", 1)];
        assert_costs("find", &counted, &most);

        fs::create_dir(live.path("new")).unwrap();
        // The kernel asks for a directory's attributes after each change in it.
        let counted = live.counted(|| each(&live.path("new"), create));
        let most = [("lookup", 50), ("create", 50), ("getattr", 51)];
        assert_costs("create", &counted, &most);

        let open = |path: &Path| drop(File::open(path).unwrap());
        let counted = live.counted(|| each(&live.path("d/e"), open));
        assert_costs("open", &counted, &[("open", 50)]);

        let unlink = |path: &Path| fs::remove_file(path).unwrap();
        for dir in ["new", "d"] {
            let counted = live.counted(|| each(&live.path(dir), unlink));
            assert_costs("unlink", &counted, &[("unlink", 50), ("getattr", 51)]);
        }
        let chmod = |path: &Path| crate::common::live::chmod(path, 0o600);
        let counted = live.counted(|| each(&live.path("d/e"), chmod));
        assert_costs("chmod", &counted, &[("setattr", 50), ("getattr", 1)]);
    }
}

/// strace(1) at a process, for as long as it lives.
struct Trace {
    strace: Child,
    log: PathBuf,
}

impl Trace {
    fn of(pid: u32, log: &Path) -> Trace {
        let strace = Command::new("strace")
            .args([
                "-f",
                "-qq",
                "-e",
                "signal=none",
                "-p",
                &pid.to_string(),
                "-o",
            ])
            .arg(log)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let trace = Trace {
            strace,
            log: log.to_owned(),
        };
        let status = format!("/proc/{pid}/status");
        let tracer = format!("TracerPid:\t{}\n", trace.strace.id());
        for _ in 0..500 {
            if fs::read_to_string(&status).unwrap().contains(&tracer) {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        // The other threads follow at once.
        std::thread::sleep(Duration::from_millis(200));
        trace
    }

    /// The calls by name, without those that fetch requests and answer them.
    fn end(mut self) -> BTreeMap<String, usize> {
        std::thread::sleep(Duration::from_millis(200));
        rustix::process::kill_process(
            rustix::process::Pid::from_child(&self.strace),
            rustix::process::Signal::INT,
        )
        .unwrap();
        self.strace.wait().unwrap();
        let mut calls = BTreeMap::new();
        let transport = [
            "read",
            "writev",
            "futex",
            "io_uring_enter",
            "madvise",
            "mprotect",
            // Locks, as futex is.
            "sched_yield",
        ];
        // Debug builds ask for a descriptor's flags before they close it.
        let others = ["fcntl", "rt_sigtimedwait", "restart_syscall", "+++"];
        for line in fs::read_to_string(&self.log).unwrap().lines() {
            let call = line.split_whitespace().nth(1).unwrap_or_default();
            let name = call.split('(').next().unwrap_or_default();
            if name != "<..." && !transport.contains(&name) && !others.contains(&name) {
                *calls.entry(name.to_owned()).or_default() += 1;
            }
        }
        calls
    }
}

#[test]
fn system_calls_of_the_main_operations() {
    if !can_mount("costs::system_calls_of_the_main_operations") {
        return;
    }
    if Command::new("strace").arg("-V").output().is_err() {
        return announce("costs::system_calls_of_the_main_operations", "no strace");
    }
    let dir = TempDir::with_prefix("strata-costs-").unwrap();
    for name in ["lower", "upper", "work", "mount"] {
        fs::create_dir(dir.path().join(name)).unwrap();
    }
    let mut fill = Command::new("sh");
    fill.args(["-ec", FEW])
        .current_dir(dir.path().join("lower"));
    assert!(fill.status().unwrap().success());
    let options = format!(
        "lowerdir={0}/lower,upperdir={0}/upper,workdir={0}/work,metacopy=on",
        dir.path().display()
    );
    let point = dir.path().join("mount");
    let daemon = Daemon::start(&options, &point);
    fs::create_dir(point.join("new")).unwrap();
    run("find", &[point.to_str().unwrap(), "-ls"]);
    // The first one in a lower directory brings that into the upper.
    fs::remove_file(point.join("d/1")).unwrap();
    fs::write(point.join("d/1"), b"").unwrap();
    let log = dir.path().join("trace");
    let cost = |what: &str, in_dir: &str, each_may: usize, f: &dyn Fn(&Path)| {
        let trace = Trace::of(daemon.pid(), &log);
        each(&point.join(in_dir), f);
        let calls = trace.end();
        let sum: usize = calls.values().sum();
        // Some for what is done once, as a thread for jobs.
        assert!(sum <= 50 * each_may + 50, "{what}: {sum} calls: {calls:?}");
    };
    // The directory's attributes, the name that isn't there, open, attributes; registered and back.
    cost("create", "new", 7, &create);
    cost("chmod", "new", 3, &|p| crate::common::live::chmod(p, 0o600));
    // The file with its file handle, its registration and back.
    cost("open", "d/e", 5, &|p| drop(File::open(p).unwrap()));
    cost("unlink upper", "new", 5, &|p| fs::remove_file(p).unwrap());
    cost("unlink lower", "d", 6, &|p| fs::remove_file(p).unwrap());
    cost("chmod lower", "d/e", 20, &|p| {
        crate::common::live::chmod(p, 0o600)
    });
    daemon.unmount();
}
