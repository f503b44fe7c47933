//! Each system call of the daemon is made to fail in turn, by strace(1): what was asked for either
//! happens or fails with that error and leaves everything as it was.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::fs::{CWD, RenameFlags, XattrFlags};
use tempfile::TempDir;

use crate::common::cli::{self, can_mount, have};
use crate::common::daemon::Daemon;
use crate::common::live::wait_until;
use crate::common::tree;

/// The calls that change something below, by the name that strace has for them, and the errors that
/// a full, a limited and a broken disk give.
const FAULTS: [(&str, &str, i32); 18] = [
    ("copy_file_range", "EDQUOT", libc::EDQUOT),
    ("copy_file_range,pwrite64", "EIO", libc::EIO),
    ("ftruncate", "EDQUOT", libc::EDQUOT),
    ("fsync", "EIO", libc::EIO),
    ("linkat", "EDQUOT", libc::EDQUOT),
    ("renameat2,renameat", "ENOSPC", libc::ENOSPC),
    ("mkdirat", "EDQUOT", libc::EDQUOT),
    ("symlinkat", "ENOSPC", libc::ENOSPC),
    ("fsetxattr,setxattr,lsetxattr", "ENOSPC", libc::ENOSPC),
    ("fsetxattr,setxattr,lsetxattr", "EDQUOT", libc::EDQUOT),
    ("fremovexattr,removexattr,lremovexattr", "EIO", libc::EIO),
    ("fchmod,fchmodat,?fchmodat2", "EIO", libc::EIO),
    ("fchown,fchownat", "EDQUOT", libc::EDQUOT),
    ("utimensat", "EIO", libc::EIO),
    ("utimensat", "EIO:when=2+", libc::EIO),
    ("linkat", "EIO:when=2+", libc::EIO),
    ("fsetxattr,setxattr,lsetxattr", "EIO:when=2+", libc::EIO),
    ("unlinkat", "EIO", libc::EIO),
];

/// strace(1), attached to a process; detached on drop.
struct Strace(Child);

impl Strace {
    fn attach(pid: u32, calls: &str, error: &str) -> Strace {
        let child = Command::new("strace")
            .args(["-f", "-qq", "-o", "/dev/null", "-p", &pid.to_string()])
            .args(["-e", &format!("trace={calls}")])
            .args(["-e", &format!("inject={calls}:error={error}")])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let strace = Strace(child);
        wait_until(|| traced(pid).iter().all(|by| by != "0"));
        strace
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        cli::run("kill", &["-INT", &self.0.id().to_string()]);
        self.0.wait().unwrap();
    }
}

/// By whom each thread of a process is traced.
fn traced(pid: u32) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let status = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("status")).ok());
    let tracer = |text: String| {
        let line = text.lines().find(|l| l.starts_with("TracerPid:"))?;
        Some(line.split_whitespace().nth(1)?.to_owned())
    };
    status.filter_map(tracer).collect()
}

type Ask = fn(&Path) -> io::Result<()>;

fn write(path: &Path, data: &[u8]) -> io::Result<()> {
    OpenOptions::new()
        .write(true)
        .open(path)?
        .write_all_at(data, 0)
}

fn chmod(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// What is asked for, each of names of its own.
const ASKED: [(&str, Ask); 19] = [
    ("copy up", |d| write(&d.join("copied"), b"new")),
    ("cut", |d| {
        OpenOptions::new()
            .write(true)
            .truncate(true)
            .open(d.join("cut"))
            .map(drop)
    }),
    ("shorten", |d| {
        OpenOptions::new()
            .write(true)
            .open(d.join("short"))?
            .set_len(1000)
    }),
    ("mode", |d| chmod(&d.join("mode"), 0o600)),
    ("owner", |d| {
        std::os::unix::fs::chown(d.join("owner"), Some(7), Some(8))
    }),
    ("fill a metacopy", |d| write(&d.join("meta"), b"new")),
    ("unlink", |d| fs::remove_file(d.join("unlinked"))),
    ("rename", |d| fs::rename(d.join("from"), d.join("to"))),
    ("rename over", |d| {
        fs::rename(d.join("over"), d.join("overed"))
    }),
    ("exchange", |d| {
        let (a, b) = (d.join("xa"), d.join("xb"));
        Ok(rustix::fs::renameat_with(
            CWD,
            a,
            CWD,
            b,
            RenameFlags::EXCHANGE,
        )?)
    }),
    ("rename a directory", |d| {
        fs::rename(d.join("dir"), d.join("dir2"))
    }),
    ("remove a directory", |d| fs::remove_dir(d.join("empty"))),
    ("create", |d| File::create_new(d.join("new")).map(drop)),
    ("make a directory", |d| fs::create_dir(d.join("newdir"))),
    ("make a link", |d| {
        fs::hard_link(d.join("linked"), d.join("link"))
    }),
    ("make a symbolic link", |d| symlink("x", d.join("symlink"))),
    ("set an attribute", |d| {
        let flags = XattrFlags::empty();
        Ok(rustix::fs::setxattr(d.join("attr"), "user.x", b"x", flags)?)
    }),
    ("unlink an own file", |d| fs::remove_file(d.join("own"))),
    ("over a whiteout", |d| fs::create_dir(d.join("gone"))),
];

fn lower(dir: &Path) {
    let script = "mkdir dir empty gone; echo x >gone/x; echo x >dir/x
        for f in copied cut short mode owner meta unlinked from to over overed xa xb linked attr; do
            head -c 20000 /dev/zero | tr '\\0' $(echo $f | cut -c1) >$f
        done";
    fs::create_dir(dir).unwrap();
    cli::said(Command::new("sh").args(["-ec", script]).current_dir(dir)).success();
}

/// What a directory shows, without the times that a failure may change.
fn shown(dir: &Path) -> tree::Tree {
    let mut tree = tree::list(dir);
    tree.values_mut().for_each(|object| object.mtime = 0);
    tree
}

#[test]
fn what_fails_below_changes_nothing() {
    let test = "injected::what_fails_below_changes_nothing";
    if !can_mount(test) || !have(test, &["strace"]) {
        return;
    }
    let dir = TempDir::with_prefix("strata-injected-").unwrap();
    for name in ["lower", "upper", "work", "mount"] {
        fs::create_dir(dir.path().join(name)).unwrap();
    }
    let at = |name: &str| -> PathBuf { dir.path().join(name) };
    for n in 0..FAULTS.len() {
        lower(&at("lower").join(n.to_string()));
    }
    let options = format!(
        "metacopy=on,redirect_dir=on,lowerdir={0}/lower,upperdir={0}/upper,workdir={0}/work",
        dir.path().display()
    );
    let daemon = Daemon::start(&options, &at("mount"));
    let mut wrong = Vec::new();
    for (n, (calls, error, errno)) in FAULTS.into_iter().enumerate() {
        let here = at("mount").join(n.to_string());
        fs::remove_dir_all(here.join("gone")).unwrap();
        chmod(&here.join("meta"), 0o604).unwrap();
        fs::write(here.join("own"), b"own").unwrap();
        let mut failures = 0;
        for (what, ask) in ASKED {
            let before = shown(&here);
            let strace = Strace::attach(daemon.pid(), calls, error);
            let result = ask(&here);
            drop(strace);
            let what = format!("{what} with {calls} = {error}: {result:?}");
            if let Err(e) = result {
                failures += 1;
                if e.raw_os_error() != Some(errno) {
                    wrong.push(format!("{what}: another error"));
                }
                let after = shown(&here);
                for line in tree::differences(&before, &after) {
                    wrong.push(format!("{what}: {line}"));
                }
                // And now it works.
                if let Err(e) = ask(&here) {
                    wrong.push(format!("{what}: again, {e}"));
                }
            }
        }
        println!("{calls} = {error}: {failures} of {} failed", ASKED.len());
        if failures == 0 && !error.contains("when") {
            wrong.push(format!("{calls} = {error}: nothing failed"));
        }
    }
    let before = tree::list(&at("mount"));
    daemon.unmount();
    let daemon = Daemon::start(&options, &at("mount"));
    for line in tree::differences(&before, &tree::list(&at("mount"))) {
        wrong.push(format!("remounted: {line}"));
    }
    daemon.unmount();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
