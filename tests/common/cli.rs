//! Runs the real `strata` binary, and other programs, as a user would.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::tree;

/// A program's result as text.
pub struct Said {
    /// The command line, for messages.
    pub command: String,
    /// Exit status 0.
    pub ok: bool,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

/// Runs a program without standard input.
pub fn run<S: AsRef<OsStr>>(program: impl AsRef<OsStr>, arguments: &[S]) -> Said {
    let mut command = Command::new(program.as_ref());
    command.args(arguments);
    said(&mut command)
}

/// Runs a prepared command without standard input.
pub fn said(command: &mut Command) -> Said {
    let shown = format!("{command:?}");
    let Output {
        status,
        stdout,
        stderr,
    } = command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|e| panic!("{shown}: {e}"));
    Said {
        command: shown,
        ok: status.success(),
        out: String::from_utf8_lossy(&stdout).into_owned(),
        err: String::from_utf8_lossy(&stderr).into_owned(),
    }
}

impl Said {
    /// The standard output, when the program succeeded.
    pub fn success(self) -> String {
        assert!(
            self.ok,
            "{} failed\n--- stdout\n{}--- stderr\n{}",
            self.command, self.out, self.err
        );
        self.out
    }

    /// The standard error, when the program failed.
    pub fn failure(self) -> String {
        assert!(
            !self.ok,
            "{} succeeded\n--- stdout\n{}",
            self.command, self.out
        );
        self.err
    }
}

/// A store of its own in a temporary directory, and the mounts made from it.
pub struct Strata {
    /// The store's root.
    pub root: PathBuf,
    /// For archives, mount points and other files of the test.
    pub scratch: PathBuf,
    dir: TempDir,
}

impl Strata {
    /// An empty store.
    pub fn new() -> Strata {
        let dir = TempDir::with_prefix("strata-test-").unwrap();
        let scratch = dir.path().join("scratch");
        fs::create_dir(&scratch).unwrap();
        Strata {
            root: dir.path().join("store"),
            scratch,
            dir,
        }
    }

    /// Runs `strata --root ROOT ARGUMENTS`.
    pub fn run<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Said {
        said(self.command().args(arguments))
    }

    /// Runs it and gives the output; fails the test when the command fails.
    pub fn ok<S: AsRef<OsStr>>(&self, arguments: &[S]) -> String {
        self.run(arguments).success()
    }

    /// `strata --root ROOT`, to be completed.
    pub fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_strata"));
        command
            .arg("--root")
            .arg(&self.root)
            .env_remove("STRATA_ROOT");
        command
    }

    /// A path in the scratch directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.scratch.join(name)
    }

    /// Loads an archive; gives what the command printed.
    pub fn load(&self, archive: &Path) -> String {
        self.ok(&[
            "load".as_ref(),
            "-q".as_ref(),
            "-i".as_ref(),
            archive.as_os_str(),
        ])
    }

    /// `strata mount OPTIONS SOURCE` on a new directory; unmounted on drop.
    pub fn mount(&self, options: &[&str], source: &str) -> Mounted<'_> {
        let mut arguments = options.to_vec();
        arguments.push(source);
        self.mount_with(&arguments)
    }

    /// `strata mount -o OPTIONS` of directories, on a new directory; unmounted on drop.
    pub fn mount_directories(&self, options: &str) -> Mounted<'_> {
        self.mount_with(&["-o", options])
    }

    fn mount_with(&self, before: &[&str]) -> Mounted<'_> {
        let point = tempfile::Builder::new()
            .prefix("mount-")
            .tempdir_in(&self.scratch)
            .unwrap()
            .keep();
        let mut arguments: Vec<OsString> = vec!["mount".into()];
        if let Some(transport) = transport_option() {
            arguments.extend(["-o".into(), transport.into()]);
        }
        arguments.extend(before.iter().map(OsString::from));
        arguments.push(point.clone().into());
        let printed = self.ok(&arguments);
        let mounted = Mounted {
            strata: self,
            point,
            printed,
        };
        assert!(
            is_mounted(&mounted.point),
            "strata mount returned before the mount was live"
        );
        mounted
    }

    /// Every blob's name and the SHA-256 of what is in it now.
    pub fn blobs(&self) -> Vec<(String, String)> {
        let mut found: Vec<_> = fs::read_dir(self.root.join("blobs/sha256"))
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                (
                    entry.file_name().into_string().unwrap(),
                    tree::sha256(&entry.path()).unwrap(),
                )
            })
            .collect();
        found.sort();
        found
    }

    /// Fails when a blob's contents are not what its name says, or one of `before` is gone.
    pub fn assert_blobs_intact(&self, before: &[(String, String)]) {
        let now = self.blobs();
        for (name, sha256) in &now {
            assert_eq!(name, sha256, "a blob's contents are not what its name says");
        }
        for blob in before {
            assert!(now.contains(blob), "blob {} is gone", blob.0);
        }
    }
}

impl Drop for Strata {
    fn drop(&mut self) {
        // What a failed test left mounted would keep the directory from being removed.
        for point in mounts_below(self.dir.path()) {
            detach(&point);
        }
    }
}

/// A live mount; unmounted on drop, also when the test panics.
pub struct Mounted<'s> {
    strata: &'s Strata,
    /// The mount point.
    pub point: PathBuf,
    /// What `strata mount` printed.
    pub printed: String,
}

impl Mounted<'_> {
    /// The tree that the mount shows.
    pub fn tree(&self) -> tree::Tree {
        tree::list(&self.point)
    }

    /// A path in the mount.
    pub fn path(&self, name: &str) -> PathBuf {
        self.point.join(name)
    }

    /// Runs a program of the mounted tree in a chroot there.
    pub fn chroot(&self, arguments: &[&str]) -> Said {
        chroot(&self.point, arguments)
    }

    /// `strata umount`, which must succeed and leave nothing mounted.
    pub fn unmount(self) {
        let umount = || {
            let arguments = ["umount".as_ref(), self.point.as_os_str()];
            self.strata.run(&arguments)
        };
        until_free(umount).success();
        assert!(
            !is_mounted(&self.point),
            "still mounted after strata umount"
        );
    }
}

/// Tries again for a moment what a mount refuses because it is busy: a process that another test is
/// just starting has all files of this one open until it becomes what it is to be.
pub fn until_free(attempt: impl Fn() -> Said) -> Said {
    for _ in 0..200 {
        let said = attempt();
        if said.ok || !(said.err.contains("busy") || said.err.contains("in use")) {
            return said;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    attempt()
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        if is_mounted(&self.point) {
            let said = self
                .strata
                .run(&["umount".as_ref(), self.point.as_os_str()]);
            if !said.ok {
                detach(&self.point);
            }
        }
    }
}

/// Tells on the real standard error how long each part of a long test took.
pub struct Stopwatch {
    test: &'static str,
    begin: Instant,
}

impl Stopwatch {
    /// Starts it.
    pub fn start(test: &'static str) -> Stopwatch {
        Stopwatch {
            test,
            begin: Instant::now(),
        }
    }

    /// A part has ended, and the next one begins.
    pub fn lap(&mut self, part: &str) {
        let seconds = self.begin.elapsed().as_secs_f64();
        writeln!(
            std::io::stderr(),
            "    {}: {part}: {seconds:.1} s",
            self.test
        )
        .ok();
        self.begin = Instant::now();
    }
}

/// Runs a program in a chroot, with nothing of the host mounted below it and a minimal environment.
pub fn chroot(root: &Path, arguments: &[&str]) -> Said {
    let mut command = Command::new("chroot");
    command.arg(root).args(arguments).env_clear();
    command.env(
        "PATH",
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    );
    said(&mut command)
}

/// Whether something is mounted exactly there.
pub fn is_mounted(point: &Path) -> bool {
    mounts_below(point).iter().any(|mounted| mounted == point)
}

/// The mount points at and below a directory, deepest first.
fn mounts_below(dir: &Path) -> Vec<PathBuf> {
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut found: Vec<PathBuf> = mountinfo
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|point| PathBuf::from(point.replace("\\040", " ")))
        .filter(|point| point.starts_with(dir))
        .collect();
    found.sort();
    found.reverse();
    found
}

fn detach(point: &Path) {
    let mut umount = Command::new("umount");
    umount
        .arg("-l")
        .arg(point)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .ok();
    let deadline = Instant::now() + Duration::from_secs(5);
    while is_mounted(point) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The mount option for the transport that `STRATA_TEST_TRANSPORT` says, if it says one.
pub fn transport_option() -> Option<String> {
    let said = std::env::var("STRATA_TEST_TRANSPORT").ok()?;
    Some(format!("transport={said}"))
}

/// Whether a test can mount over io_uring. scripts/test switches that on where the kernel has it.
pub fn can_uring(test: &str) -> bool {
    use stratafs::fuse::Offer;
    if !can_mount(test) {
        return false;
    }
    match Offer::here() {
        Offer::Uring => true,
        // Nothing to be done about it on this machine.
        Offer::Unknown => {
            announce(test, &Offer::Unknown.to_string());
            false
        }
        other => {
            skip(test, &other.to_string());
            false
        }
    }
}

/// Skips a test that cannot run here; with `STRATA_TEST_NO_SKIP` set that is a failure.
pub fn skip(test: &str, why: &str) {
    assert!(
        std::env::var_os("STRATA_TEST_NO_SKIP").is_none(),
        "{test} cannot run ({why}), and STRATA_TEST_NO_SKIP is set"
    );
    announce(test, why);
}

/// Says on the real standard error, which the test runner does not capture, that a test did not run.
pub fn announce(test: &str, why: &str) {
    writeln!(std::io::stderr(), "\n*** SKIPPED {test}: {why} ***").ok();
}

/// Whether a test can mount: root and /dev/fuse. Says so loudly otherwise.
pub fn can_mount(test: &str) -> bool {
    if !rustix::process::geteuid().is_root() {
        skip(test, "not root");
        return false;
    }
    if !Path::new("/dev/fuse").exists() {
        skip(test, "no /dev/fuse");
        return false;
    }
    true
}

/// Whether all these programs are on the PATH. Names the missing ones loudly otherwise.
pub fn have(test: &str, programs: &[&str]) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let missing: Vec<&str> = programs
        .iter()
        .filter(|program| !std::env::split_paths(&path).any(|dir| dir.join(program).is_file()))
        .copied()
        .collect();
    if missing.is_empty() {
        return true;
    }
    skip(test, &format!("{} missing", missing.join(", ")));
    false
}
