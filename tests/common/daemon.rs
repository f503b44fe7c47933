//! A daemon in the foreground, whose process the test knows.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::cli::{is_mounted, run};

/// A mount and the process that serves it; both end on drop.
pub struct Daemon {
    child: Child,
    point: PathBuf,
    log: PathBuf,
}

/// What anything may take on a slow machine.
const PATIENCE: Duration = Duration::from_secs(60);

impl Daemon {
    /// `strata mount -f -o OPTIONS POINT`; returns when the mount is live. What it says goes to
    /// `POINT.log`.
    pub fn start(options: &str, point: &Path) -> Daemon {
        let mut strata = Command::new(env!("CARGO_BIN_EXE_strata"));
        strata.args(["mount", "-f"]);
        if let Some(transport) = super::cli::transport_option() {
            strata.args(["-o", &transport]);
        }
        strata.args(["-o", options]).arg(point);
        Self::run(&mut strata, point)
    }

    /// A prepared command that serves a mount.
    pub fn run(command: &mut Command, point: &Path) -> Daemon {
        let log = point.with_extension("log");
        let child = command
            .stdin(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut daemon = Daemon {
            child,
            point: point.to_owned(),
            log,
        };
        daemon.wait(|d| {
            assert!(d.is_alive(), "no mount: {}", d.log());
            is_mounted(&d.point) && fs::metadata(&d.point).is_ok()
        });
        daemon
    }

    fn wait(&mut self, done: impl Fn(&mut Daemon) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !done(self) {
            assert!(Instant::now() < until, "waited in vain: {}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it is still there.
    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// What it has said.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// SIGKILL; the dead mount is detached.
    pub fn kill(mut self) {
        assert!(self.is_alive(), "it had died: {}", self.log());
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        run("umount", &["-l".as_ref(), self.point.as_os_str()]).success();
    }

    /// umount(8), and the end of the process, which must be a good one.
    pub fn unmount(mut self) {
        // A test beside this one may be starting a program, which has our descriptors for a moment.
        self.wait(|d| run("umount", &[&d.point]).ok);
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}: {}", self.log());
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if is_mounted(&self.point) {
            run("umount", &["-l".as_ref(), self.point.as_os_str()]);
        }
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
