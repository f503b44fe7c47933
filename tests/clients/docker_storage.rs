//! Docker's fuse-overlayfs driver on strata, which it finds on its PATH under that name.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::cli::{Said, Strata, can_mount, have, said};
use crate::samples::small;

/// dockerd with a state of its own; it and what it has mounted go on drop.
struct Docker {
    dir: PathBuf,
    daemon: Child,
}

impl Docker {
    fn start(dir: &Path) -> Docker {
        let programs = dir.join("bin");
        fs::create_dir_all(&programs).unwrap();
        let strata = env!("CARGO_BIN_EXE_strata");
        std::os::unix::fs::symlink(strata, programs.join("fuse-overlayfs")).unwrap();
        fs::write(dir.join("daemon.json"), "{}").unwrap();
        let log = fs::File::create(dir.join("log")).unwrap();
        let path = std::env::var("PATH").unwrap();
        let at = |name: &str| dir.join(name);
        let mut command = Command::new("dockerd");
        command
            .args(["--iptables=false", "--ip6tables=false", "--bridge=none"])
            .args(["--storage-driver", "fuse-overlayfs", "--host"])
            .arg(format!("unix://{}", at("docker.sock").display()));
        for (option, name) in [
            ("--data-root", "root"),
            ("--exec-root", "exec"),
            ("--pidfile", "pid"),
            ("--config-file", "daemon.json"),
        ] {
            command.arg(option).arg(at(name));
        }
        command.env("PATH", format!("{}:{path}", programs.display()));
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let daemon = command.stderr(log).spawn().unwrap();
        let docker = Docker {
            dir: dir.to_owned(),
            daemon,
        };
        let until = Instant::now() + Duration::from_secs(120);
        while !docker.run(&["version"]).ok {
            let log = || fs::read_to_string(dir.join("log")).unwrap();
            assert!(Instant::now() < until, "dockerd does not answer: {}", log());
            std::thread::sleep(Duration::from_millis(100));
        }
        docker
    }

    fn run(&self, arguments: &[&str]) -> Said {
        let mut command = Command::new("/usr/bin/docker");
        command.env("DOCKER_BUILDKIT", "0").arg("--host");
        command.arg(format!("unix://{}/docker.sock", self.dir.display()));
        said(command.args(arguments))
    }

    fn ok(&self, arguments: &[&str]) -> String {
        self.run(arguments).success()
    }

    /// What it has mounted.
    fn mounts(&self) -> Vec<String> {
        let text = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let fields = text.lines().filter_map(|line| line.split(' ').nth(4));
        let below = fields.filter(|point| Path::new(point).starts_with(&self.dir));
        below.map(str::to_owned).collect()
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        let pid = self.daemon.id().to_string();
        said(Command::new("kill").args(["-TERM", &pid]));
        self.daemon.wait().ok();
        for point in self.mounts().iter().rev() {
            said(Command::new("umount").args(["-l", point]));
        }
    }
}

#[test]
fn a_session_of_docker() {
    const TEST: &str = "clients::docker_storage::a_session_of_docker";
    if !(can_mount(TEST) && have(TEST, &["dockerd", "docker", "containerd", "runc"])) {
        return;
    }
    let Some(sample) = small(TEST) else { return };
    let scratch = Strata::new();
    let docker = Docker::start(&scratch.path("docker"));
    let driver = docker.ok(&["info", "--format", "{{.Driver}}"]);
    assert_eq!(driver, "fuse-overlayfs\n");
    docker.ok(&["load", "-q", "-i", sample.archive.to_str().unwrap()]);
    let script = "rm -rf /etc/issue /usr/share/words/a; mkdir /d; echo x > /d/f; chown 5:6 /d
        mv /usr/share/words/c /usr/share/words/moved; stat -c %u:%g /d";
    let run = ["run", "--network", "none", "--name", "first", sample.name];
    let printed = docker.ok(&[&run[..], &["sh", "-c", script]].concat());
    assert_eq!(printed, "5:6\n");
    let diff = docker.ok(&["diff", "first"]);
    for line in [
        "A /d/f",
        "D /etc/issue",
        "D /usr/share/words/a",
        "D /usr/share/words/c",
    ] {
        assert!(diff.lines().any(|l| l == line), "{line}: {diff}");
    }
    docker.ok(&["commit", "first", "mine"]);
    let context = scratch.path("context");
    fs::create_dir(&context).unwrap();
    fs::write(context.join("f"), "from outside").unwrap();
    let file = "FROM mine\nRUN rm -r /d && echo b > /built\nRUN touch /etc/passwd\nCOPY f /f\n";
    fs::write(context.join("Dockerfile"), file).unwrap();
    let context = context.to_str().unwrap();
    docker.ok(&["build", "-q", "--network", "none", "-t", "built", context]);
    let script = "cat /built /f; ls -d /d /etc/issue; ls /usr/share/words";
    let run = ["run", "--rm", "--network", "none", "built", "sh", "-c"];
    let said = docker.run(&[&run[..], &[script]].concat());
    assert_eq!(
        said.out, "b\nfrom outsideb\nd\ne\nf\nmoved\n",
        "{}",
        said.err
    );
    // Docker's archive is one that strata reads, with the same tree.
    let saved = scratch.path("saved.tar");
    docker.ok(&["save", "-o", saved.to_str().unwrap(), "built"]);
    scratch.load(&saved);
    let mounted = scratch.mount(&["-o", "ro"], "built");
    assert_eq!(fs::read(mounted.path("f")).unwrap(), b"from outside");
    assert!(!mounted.path("d").exists());
    mounted.unmount();
    docker.ok(&["rm", "-f", "first"]);
    let left: Vec<_> = docker.mounts();
    assert!(
        !left.iter().any(|point| point.contains("merged")),
        "{left:?}"
    );
}
