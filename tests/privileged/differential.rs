//! The same random operations on the kernel's overlayfs and on a strata mount: every call gives the
//! same result, the trees are the same at the end and after a remount, and the kernel's overlayfs
//! shows the same tree over the upper that strata wrote.
//!
//! `STRATA_SEQUENCES` and `STRATA_SEED` change how many sequences are run, and from which seed.

use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, RenameFlags, Timespec, Timestamps, XattrFlags,
};
use rustix::io::Errno;

use crate::common::cli::{self, Strata};
use crate::common::tree::{self, Tree};

/// A small, fast generator: the sequence must be the same on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::try_from(self.below(from.len() as u64)).unwrap()]
    }

    /// A path of one to three components out of few names, so that operations collide.
    fn path(&mut self) -> String {
        let depth = self.pick(&[1, 1, 2, 2, 2, 3]);
        let names = ["a", "b", "c", "d", "f", "g", "h"];
        (0..depth)
            .map(|_| self.pick(&names))
            .collect::<Vec<_>>()
            .join("/")
    }
}

#[derive(Debug, Clone)]
enum Step {
    Create {
        path: String,
        mode: u32,
        data: usize,
    },
    Write {
        path: String,
        at: u64,
        data: usize,
        trunc: bool,
    },
    Truncate {
        path: String,
        size: u64,
    },
    Mkdir {
        path: String,
        mode: u32,
    },
    Mknod {
        path: String,
    },
    Symlink {
        path: String,
        target: String,
    },
    Link {
        from: String,
        to: String,
    },
    Unlink {
        path: String,
    },
    Rmdir {
        path: String,
    },
    Rename {
        from: String,
        to: String,
        flags: u32,
    },
    Chmod {
        path: String,
        mode: u32,
    },
    Chown {
        path: String,
        uid: u32,
        gid: u32,
    },
    Times {
        path: String,
        sec: i64,
        nsec: i64,
    },
    SetXattr {
        path: String,
        name: &'static str,
        len: usize,
    },
    RemoveXattr {
        path: String,
        name: &'static str,
    },
    List {
        path: String,
    },
    Stat {
        path: String,
    },
    ReadLink {
        path: String,
    },
    Remount,
}

const XATTRS: [&str; 3] = ["user.one", "user.two", "trusted.three"];

impl Step {
    fn random(r: &mut Random) -> Step {
        match r.below(40) {
            0..=3 => Step::Create {
                path: r.path(),
                mode: r.pick(&[0o644, 0o600, 0o4755, 0o2711, 0o400]),
                data: r.pick(&[0, 5, 5000]),
            },
            4..=7 => Step::Write {
                path: r.path(),
                at: r.pick(&[0, 3, 4096, 70_000]),
                data: r.pick(&[1, 100, 9000]),
                trunc: r.below(4) == 0,
            },
            8 => Step::Truncate {
                path: r.path(),
                size: r.pick(&[0, 1, 4097, 100_000]),
            },
            9..=11 => Step::Mkdir {
                path: r.path(),
                mode: r.pick(&[0o755, 0o700, 0o2775, 0o1777]),
            },
            12 => Step::Mknod { path: r.path() },
            13 => Step::Symlink {
                path: r.path(),
                target: r.path(),
            },
            14..=16 => Step::Link {
                from: r.path(),
                to: r.path(),
            },
            17..=20 => Step::Unlink { path: r.path() },
            21..=23 => Step::Rmdir { path: r.path() },
            24..=29 => Step::Rename {
                from: r.path(),
                to: r.path(),
                flags: r.pick(&[0, 0, 0, 1, 2]),
            },
            30 => Step::Chmod {
                path: r.path(),
                mode: r.pick(&[0o600, 0o755, 0o2755, 0o4711]),
            },
            31 => Step::Chown {
                path: r.path(),
                uid: r.pick(&[0, 1, 1000]),
                gid: r.pick(&[0, 5]),
            },
            32 => Step::Times {
                path: r.path(),
                sec: r.pick(&[-5, 0, 1_000_000_000, 4_000_000_000]),
                nsec: r.pick(&[0, 1, 999_999_999]),
            },
            33 => Step::SetXattr {
                path: r.path(),
                name: r.pick(&XATTRS),
                len: r.pick(&[0, 9, 300]),
            },
            34 => Step::RemoveXattr {
                path: r.path(),
                name: r.pick(&XATTRS),
            },
            35 => Step::List { path: r.path() },
            36 | 37 => Step::Stat { path: r.path() },
            38 => Step::ReadLink { path: r.path() },
            _ => Step::Remount,
        }
    }

    /// Carries the step out below `root`; what it says is to be the same everywhere.
    fn run(&self, root: &Path) -> Result<String, Errno> {
        let at = |path: &String| root.join(path);
        let done = |()| String::new();
        match self {
            Step::Create { path, mode, data } => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY;
                let fd = rustix::fs::open(at(path), flags, Mode::from_raw_mode(*mode))?;
                write(&File::from(fd), 0, *data).map(done)
            }
            Step::Write {
                path,
                at: offset,
                data,
                trunc,
            } => {
                let trunc = if *trunc {
                    OFlags::TRUNC
                } else {
                    OFlags::empty()
                };
                let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | trunc;
                let fd = rustix::fs::open(at(path), flags, Mode::empty())?;
                write(&File::from(fd), *offset, *data).map(done)
            }
            Step::Truncate { path, size } => {
                let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
                let fd = rustix::fs::open(at(path), flags, Mode::empty())?;
                rustix::fs::ftruncate(&fd, *size).map(done)
            }
            Step::Mkdir { path, mode } => {
                rustix::fs::mkdir(at(path), Mode::from_raw_mode(*mode)).map(done)
            }
            Step::Mknod { path } => {
                let mode = Mode::from_raw_mode(0o640);
                rustix::fs::mknodat(CWD, at(path), FileType::Fifo, mode, 0).map(done)
            }
            Step::Symlink { path, target } => rustix::fs::symlink(target, at(path)).map(done),
            Step::Link { from, to } => {
                rustix::fs::linkat(CWD, at(from), CWD, at(to), AtFlags::empty()).map(done)
            }
            Step::Unlink { path } => rustix::fs::unlink(at(path)).map(done),
            Step::Rmdir { path } => rustix::fs::rmdir(at(path)).map(done),
            Step::Rename { from, to, flags } => {
                let flags = RenameFlags::from_bits_retain(*flags);
                rustix::fs::renameat_with(CWD, at(from), CWD, at(to), flags).map(done)
            }
            Step::Chmod { path, mode } => match is_link(&at(path))? {
                true => Ok("link".into()),
                false => rustix::fs::chmod(at(path), Mode::from_raw_mode(*mode)).map(done),
            },
            Step::Chown { path, uid, gid } => {
                let (uid, gid) = (
                    rustix::fs::Uid::from_raw(*uid),
                    rustix::fs::Gid::from_raw(*gid),
                );
                let flags = AtFlags::SYMLINK_NOFOLLOW;
                rustix::fs::chownat(CWD, at(path), Some(uid), Some(gid), flags).map(done)
            }
            Step::Times { path, sec, nsec } => {
                let time = Timespec {
                    tv_sec: *sec,
                    tv_nsec: *nsec,
                };
                let times = Timestamps {
                    last_access: time,
                    last_modification: time,
                };
                rustix::fs::utimensat(CWD, at(path), &times, AtFlags::SYMLINK_NOFOLLOW).map(done)
            }
            Step::SetXattr { path, name, len } => {
                let value = vec![b'v'; *len];
                rustix::fs::lsetxattr(at(path), *name, &value, XattrFlags::empty()).map(done)
            }
            Step::RemoveXattr { path, name } => rustix::fs::lremovexattr(at(path), *name).map(done),
            Step::List { path } => {
                let mut names: Vec<_> = fs::read_dir(at(path))
                    .map_err(|e| Errno::from_io_error(&e).unwrap())?
                    .map(|e| e.unwrap().file_name().into_string().unwrap())
                    .collect();
                names.sort();
                Ok(names.join(" "))
            }
            Step::Stat { path } => {
                let st = rustix::fs::statat(CWD, at(path), AtFlags::SYMLINK_NOFOLLOW)?;
                let dir = st.st_mode & libc::S_IFMT == libc::S_IFDIR;
                let (size, nlink) = if dir {
                    (0, 0)
                } else {
                    (st.st_size, st.st_nlink)
                };
                Ok(format!(
                    "{:o} {} {} {size} {nlink}",
                    st.st_mode, st.st_uid, st.st_gid
                ))
            }
            Step::ReadLink { path } => {
                let target = rustix::fs::readlink(at(path), Vec::new())?;
                Ok(target.to_string_lossy().into_owned())
            }
            Step::Remount => Ok(String::new()),
        }
    }
}

fn is_link(path: &Path) -> Result<bool, Errno> {
    let st = rustix::fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(st.st_mode & libc::S_IFMT == libc::S_IFLNK)
}

fn write(file: &File, at: u64, len: usize) -> Result<(), Errno> {
    let data: Vec<u8> = (0..len).map(|i| b"strata!"[i % 7]).collect();
    file.write_all_at(&data, at)
        .map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))
}

/// The lowers' tree: a bit of everything.
fn make_lower(lower: &Path) {
    let script = r#"
        set -e
        mkdir -p a/b/c a/d b/a b/g c d/a/f
        printf 'in a' >a/f; printf 'in b' >b/f; printf 'deep' >a/b/c/f; printf top >f; : >g
        head -c 100000 /dev/zero | tr '\0' x >a/g
        ln a/f b/h; ln a/f h; ln a/b/c/f a/b/f
        ln -s ../f a/h; ln -s nowhere d/g; mkfifo c/f
        chmod 2775 b; chmod 1777 c; chmod 4755 f; chown 1:2 a/g; chown 3:4 d
        setfattr -n user.one -v lower a/f; setfattr -n user.two -v dir a
        touch -d @1500000000.5 a/f f; touch -h -d @1400000000 a/h a/b/c d b/g
    "#;
    fs::create_dir_all(lower).unwrap();
    let said = cli::said(Command::new("sh").arg("-c").arg(script).current_dir(lower));
    said.success();
}

/// An archive, as `docker save` writes them, whose one layer is the tree.
fn make_archive(lower: &Path, archive: &Path) {
    let dir = archive.with_extension("d");
    fs::create_dir_all(&dir).unwrap();
    let tar = |out: &Path, from: &Path, what: &[&str]| {
        let mut command = Command::new("tar");
        command.args([
            "--xattrs",
            "--xattrs-include=*",
            "--format=pax",
            "--numeric-owner",
            "-cf",
        ]);
        cli::said(command.arg(out).arg("-C").arg(from).args(what)).success();
    };
    tar(&dir.join("layer.tar"), lower, &["."]);
    let diff_id = tree::sha256(&dir.join("layer.tar")).unwrap();
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{}},"rootfs":{{"type":"layers","diff_ids":["sha256:{diff_id}"]}}}}"#
    );
    fs::write(dir.join("config.json"), config).unwrap();
    let manifest =
        r#"[{"Config":"config.json","RepoTags":["differential:latest"],"Layers":["layer.tar"]}]"#;
    fs::write(dir.join("manifest.json"), manifest).unwrap();
    tar(
        archive,
        &dir,
        &["manifest.json", "config.json", "layer.tar"],
    );
}

/// A kernel overlay mount that goes with the value.
struct Overlay {
    point: PathBuf,
    options: String,
}

impl Overlay {
    fn new(dir: &Path, lower: &Path, upper: &Path, options: &str) -> Overlay {
        let (work, point) = (dir.join("work"), dir.join("merged"));
        for d in [&work, &point] {
            fs::create_dir_all(d).unwrap();
        }
        let options = format!(
            "lowerdir={},upperdir={},workdir={},{options}",
            lower.display(),
            upper.display(),
            work.display()
        );
        let overlay = Overlay { point, options };
        overlay.mount();
        overlay
    }

    fn mount(&self) {
        let mut command = Command::new("mount");
        command
            .args(["-t", "overlay", "overlay", "-o", &self.options])
            .arg(&self.point);
        cli::said(&mut command).success();
    }

    fn unmount(&self) {
        cli::run("umount", &[self.point.as_os_str()]).success();
    }
}

impl Drop for Overlay {
    fn drop(&mut self) {
        if cli::is_mounted(&self.point) {
            cli::run("umount", &[OsStr::new("-l"), self.point.as_os_str()]);
        }
    }
}

/// A tree as it is to be compared: times of this run are not.
fn comparable(root: &Path, since: i64) -> Tree {
    let mut tree = tree::list(root);
    for object in tree.values_mut() {
        if (since..since + 1_000_000).contains(&object.mtime) {
            object.mtime = since;
        }
    }
    tree
}

struct Bench {
    strata: Strata,
    lower: PathBuf,
    since: i64,
}

struct Difference(String);

impl fmt::Debug for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Bench {
    fn new() -> Bench {
        let strata = Strata::new();
        let lower = strata.path("lower");
        make_lower(&lower);
        let archive = strata.path("image.tar");
        make_archive(&lower, &archive);
        strata.load(&archive);
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap();
        Bench {
            strata,
            lower,
            since: i64::try_from(now.as_secs()).unwrap() - 5,
        }
    }

    fn run(&self, steps: &[Step]) -> Result<(), Difference> {
        let dir = tempfile::tempdir_in(&self.strata.scratch).unwrap();
        let upper = dir.path().join("upper");
        fs::create_dir(&upper).unwrap();
        copy_root(&self.lower, &upper);
        let options = "redirect_dir=on,index=on,metacopy=off";
        let kernel = Overlay::new(dir.path(), &self.lower, &upper, options);
        let name = format!("c{}", self.since.unsigned_abs() + self.next());
        let mut ours = self.strata.mount(&["--name", &name], "differential");
        for (n, step) in steps.iter().enumerate() {
            if let Step::Remount = step {
                kernel.unmount();
                kernel.mount();
                ours.unmount();
                ours = self.strata.mount(&[], &name);
                continue;
            }
            let (theirs, mine) = (step.run(&kernel.point), step.run(&ours.point));
            if theirs != mine {
                return Err(Difference(format!(
                    "step {n} {step:?}: kernel {theirs:?}, strata {mine:?}"
                )));
            }
        }
        let expected = comparable(&kernel.point, self.since);
        let compare = |what: &str, tree: &Tree| -> Result<(), Difference> {
            match tree::differences(&expected, tree).as_slice() {
                [] => Ok(()),
                lines => Err(Difference(format!("{what}:\n  {}", lines.join("\n  ")))),
            }
        };
        compare("live", &comparable(&ours.point, self.since))?;
        ours.unmount();
        let again = self.strata.mount(&[], &name);
        compare("remounted", &comparable(&again.point, self.since))?;
        again.unmount();
        let container = self.container_dir(&name);
        let beside = dir.path().join("beside");
        fs::create_dir(&beside).unwrap();
        let over = Overlay::new(
            &beside,
            &self.lower,
            &container.join("upper"),
            "redirect_dir=on,metacopy=on",
        );
        let shown = comparable(&over.point, self.since);
        drop(over);
        compare("strata's upper below the kernel's overlayfs", &shown)?;
        self.strata.ok(&["rm", &name]);
        Ok(())
    }

    fn next(&self) -> u64 {
        use std::sync::atomic::{AtomicU64, Ordering};
        static NEXT: AtomicU64 = AtomicU64::new(0);
        NEXT.fetch_add(1, Ordering::Relaxed)
    }

    fn container_dir(&self, name: &str) -> PathBuf {
        let text = self.strata.ok(&["inspect", name]);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let id = value[0]["Id"].as_str().unwrap();
        self.strata.root.join("strata/containers").join(id)
    }

    /// The smallest part of a failing sequence that still fails, with what it says.
    fn shrink(&self, mut steps: Vec<Step>, mut why: Difference) -> (Vec<Step>, Difference) {
        let mut chunk = steps.len() / 2;
        while chunk > 0 {
            let mut at = 0;
            while at < steps.len() {
                let mut fewer = steps.clone();
                fewer.drain(at..(at + chunk).min(steps.len()));
                match self.run(&fewer) {
                    Err(e) => (steps, why) = (fewer, e),
                    Ok(()) => at += chunk,
                }
            }
            chunk /= 2;
        }
        (steps, why)
    }
}

/// overlayfs shows the upper root's attributes: the kernel's upper gets those of the lower.
fn copy_root(lower: &Path, upper: &Path) {
    let script = r#"chmod --reference="$1" "$2" && chown --reference="$1" "$2" && touch --reference="$1" "$2""#;
    let arguments = [
        OsStr::new("-c"),
        OsStr::new(script),
        OsStr::new("sh"),
        lower.as_os_str(),
        upper.as_os_str(),
    ];
    cli::run("sh", &arguments).success();
}

fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |v| v.parse().unwrap())
}

#[test]
fn random_operations_as_on_kernel_overlayfs() {
    if !cli::can_mount("differential") {
        return;
    }
    let bench = Bench::new();
    let first = setting("STRATA_SEED", 1);
    for seed in first..first + setting("STRATA_SEQUENCES", 60) {
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        let length = 5 + random.below(45);
        let steps: Vec<_> = (0..length).map(|_| Step::random(&mut random)).collect();
        if let Err(why) = bench.run(&steps) {
            let (steps, why) = bench.shrink(steps, why);
            let script: Vec<_> = steps.iter().map(|s| format!("  {s:?}")).collect();
            panic!(
                "seed {seed}: {why:?}\nthe shortest sequence:\n{}",
                script.join("\n")
            );
        }
    }
}
