//! dockerd for tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::cli::{Said, said};

/// dockerd with a state of its own; it and what it has mounted go on drop.
pub struct Docker {
    dir: PathBuf,
    daemon: Child,
}

impl Docker {
    /// Starts it with a storage driver; `fuse-overlayfs` is strata, which it finds on its PATH under
    /// that name.
    pub fn start(dir: &Path, driver: &str) -> Docker {
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
            .args(["--storage-driver", driver, "--host"])
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

    /// Runs a docker command.
    pub fn run(&self, arguments: &[&str]) -> Said {
        let mut command = Command::new("/usr/bin/docker");
        command.env("DOCKER_BUILDKIT", "0").arg("--host");
        command.arg(format!("unix://{}/docker.sock", self.dir.display()));
        said(command.args(arguments))
    }

    /// Runs a docker command that must succeed; its output.
    pub fn ok(&self, arguments: &[&str]) -> String {
        self.run(arguments).success()
    }

    /// What it has mounted.
    pub fn mounts(&self) -> Vec<String> {
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
