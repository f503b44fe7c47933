//! Directory layers to be mounted with options.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::cli::{self, Said, Strata, can_mount, is_mounted, run};

/// Directories `a`, `b` (lowers), `u`, `w` and a mount point `m`; what is mounted goes on drop.
pub struct Dirs {
    pub strata: Strata,
    pub point: PathBuf,
}

pub const LAYERS: &str = "lowerdir=a:b,upperdir=u,workdir=w";

impl Dirs {
    /// `script` fills the layers.
    pub fn new(test: &str, script: &str) -> Option<Dirs> {
        if !can_mount(test) {
            return None;
        }
        let strata = Strata::new();
        let script = format!("mkdir a b u w m; {script}");
        let mut shell = Command::new("sh");
        cli::said(shell.args(["-ec", &script]).current_dir(&strata.scratch)).success();
        let point = strata.path("m");
        Some(Dirs { strata, point })
    }

    /// `strata -o OPTIONS m`, as a mount program, in the directory of the layers.
    pub fn mount(&self, options: &str) -> Said {
        let mut command = Command::new(env!("CARGO_BIN_EXE_strata"));
        if let Some(transport) = cli::transport_option() {
            command.args(["-o", &transport]);
        }
        let words = ["-o", options, "m"];
        command.args(words).current_dir(&self.strata.scratch);
        // A store that can't be: directory layers need none.
        cli::said(command.env("STRATA_ROOT", "/proc/none"))
    }

    pub fn mounted(&self, options: &str) -> String {
        let said = self.mount(options);
        let err = said.err.clone();
        said.success();
        assert!(is_mounted(&self.point));
        err
    }

    /// `strata mount -o OPTIONS m`
    pub fn mounted_by_command(&self, options: &str) {
        let mut command = self.strata.command();
        command.arg("mount");
        if let Some(transport) = cli::transport_option() {
            command.args(["-o", &transport]);
        }
        let words = ["-o", options, "m"];
        cli::said(command.args(words).current_dir(&self.strata.scratch)).success();
    }

    pub fn umount(&self) {
        run("umount", &[&self.point]).success();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.point.join(name)
    }

    /// The line of /proc/self/mountinfo.
    pub fn info(&self) -> String {
        let text = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let here = format!(" {} ", self.point.display());
        text.lines()
            .find(|line| line.contains(&here))
            .unwrap()
            .to_owned()
    }

    /// Runs a shell script in the mount as an ordinary user.
    pub fn as_user(&self, uid: u32, script: &str) -> Said {
        for dir in [self.strata.scratch.parent().unwrap(), &self.strata.scratch] {
            fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let mut command = Command::new("setpriv");
        command.args([&format!("--reuid={uid}"), &format!("--regid={uid}")]);
        command.args(["--clear-groups", "sh", "-c", script]);
        cli::said(command.current_dir(&self.point))
    }
}

pub fn owner(path: &Path) -> (u32, u32) {
    let meta = fs::symlink_metadata(path).unwrap();
    (meta.uid(), meta.gid())
}
