//! What the sequences are made of: system calls on a few names, so that they collide.

use std::collections::HashMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, RenameFlags, Timespec, Timestamps, XattrFlags,
};
use rustix::io::Errno;

/// A small, fast generator: the sequence must be the same on every machine.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, n: u64) -> u64 {
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

/// One call.
#[derive(Debug, Clone)]
pub enum Step {
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
    /// Opens a file for reading and writing, and keeps it open in a slot.
    Open {
        slot: u8,
        path: String,
    },
    /// Writes through the open file of a slot, whatever became of its name.
    WriteOpen {
        slot: u8,
        at: u64,
        data: usize,
    },
    TruncateOpen {
        slot: u8,
        size: u64,
    },
    /// Attributes and contents of the open file.
    LookOpen {
        slot: u8,
    },
    Read {
        path: String,
    },
    Remount,
}

/// A step, and who does it.
#[derive(Debug, Clone)]
pub struct Act {
    pub step: Step,
    /// 0 or an ordinary user's.
    pub uid: u32,
}

impl Act {
    pub fn random(r: &mut Random) -> Act {
        Act {
            step: Step::random(r),
            uid: r.pick(&[0, 0, 0, 1000]),
        }
    }

    /// Carries the step out below `root`, in a thread of its own that is the user.
    pub fn run(&self, root: &Path, slots: &mut Slots) -> Result<String, Errno> {
        if self.uid == 0 {
            return self.step.run(root, slots);
        }
        std::thread::scope(|scope| {
            let act = scope.spawn(|| {
                use rustix::process::{Gid, Uid};
                let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.uid));
                rustix::thread::set_thread_groups(&[]).unwrap();
                rustix::thread::set_thread_res_gid(gid, gid, gid).unwrap();
                rustix::thread::set_thread_res_uid(uid, uid, uid).unwrap();
                self.step.run(root, slots)
            });
            act.join().unwrap()
        })
    }
}

/// What the lines of a printed sequence need.
pub const PRELUDE: &str = "import os, sys
slots = {}
def put(fd, at, n): os.pwrite(fd, (b'strata!' * (n // 7 + 1))[:n], at)
def act(uid, call):
    pid = os.fork()
    if pid == 0:
        if uid: os.setgroups([]); os.setgid(uid); os.setuid(uid)
        try: call()
        except OSError as e: print(e)
        os._exit(0)
    os.waitpid(pid, 0)";

impl std::fmt::Display for Act {
    /// The step as a line of Python. (What goes through an open file is done by root there.)
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let call = match &self.step {
            Step::Create { path, mode, data } => format!(
                "put(os.open({path:?}, os.O_CREAT|os.O_EXCL|os.O_WRONLY, 0o{mode:o}), 0, {data})"
            ),
            Step::Write {
                path,
                at,
                data,
                trunc,
            } => {
                let trunc = if *trunc { "|os.O_TRUNC" } else { "" };
                format!(
                    "put(os.open({path:?}, os.O_WRONLY|os.O_NOFOLLOW|os.O_NONBLOCK{trunc}), {at}, {data})"
                )
            }
            Step::Truncate { path, size } => {
                format!("os.truncate({path:?}, {size})")
            }
            Step::Mkdir { path, mode } => format!("os.mkdir({path:?}, 0o{mode:o})"),
            Step::Mknod { path } => format!("os.mkfifo({path:?}, 0o640)"),
            Step::Symlink { path, target } => format!("os.symlink({target:?}, {path:?})"),
            Step::Link { from, to } => format!("os.link({from:?}, {to:?}, follow_symlinks=False)"),
            Step::Unlink { path } => format!("os.unlink({path:?})"),
            Step::Rmdir { path } => format!("os.rmdir({path:?})"),
            Step::Rename { from, to, flags: 0 } => format!("os.rename({from:?}, {to:?})"),
            Step::Rename { from, to, flags } => {
                format!("os.system('renameat2 flags {flags}: {from} {to}')")
            }
            Step::Chmod { path, mode } => format!("os.chmod({path:?}, 0o{mode:o})"),
            Step::Chown { path, uid, gid } => format!("os.lchown({path:?}, {uid}, {gid})"),
            Step::Times { path, sec, nsec } => {
                let ns = i128::from(*sec) * 1_000_000_000 + i128::from(*nsec);
                format!("os.utime({path:?}, ns=({ns}, {ns}), follow_symlinks=False)")
            }
            Step::SetXattr { path, name, len } => {
                format!("os.setxattr({path:?}, {name:?}, b'v'*{len}, follow_symlinks=False)")
            }
            Step::RemoveXattr { path, name } => {
                format!("os.removexattr({path:?}, {name:?}, follow_symlinks=False)")
            }
            Step::List { path } => format!("print(sorted(os.listdir({path:?})))"),
            Step::Stat { path } => format!("print(os.lstat({path:?}))"),
            Step::ReadLink { path } => format!("print(os.readlink({path:?}))"),
            Step::Read { path } => format!("print(len(open({path:?}, 'rb').read()))"),
            Step::Open { slot, path } => {
                return write!(
                    f,
                    "slots[{slot}] = os.open({path:?}, os.O_RDWR|os.O_NOFOLLOW)"
                );
            }
            Step::WriteOpen { slot, at, data } => {
                return write!(f, "put(slots[{slot}], {at}, {data})");
            }
            Step::TruncateOpen { slot, size } => {
                return write!(f, "os.ftruncate(slots[{slot}], {size})");
            }
            Step::LookOpen { slot } => return write!(f, "print(os.fstat(slots[{slot}]))"),
            Step::Remount => return f.write_str("# remount"),
        };
        write!(f, "act({}, lambda: {call})", self.uid)
    }
}

/// The open files of a sequence on one side.
pub type Slots = HashMap<u8, File>;

const XATTRS: [&str; 3] = ["user.one", "user.two", "trusted.three"];

impl Step {
    pub fn random(r: &mut Random) -> Step {
        match r.below(48) {
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
            39 | 40 => Step::Open {
                slot: u8::try_from(r.below(3)).unwrap(),
                path: r.path(),
            },
            41 | 42 => Step::WriteOpen {
                slot: u8::try_from(r.below(3)).unwrap(),
                at: r.pick(&[0, 4000]),
                data: r.pick(&[1, 5000]),
            },
            43 => Step::TruncateOpen {
                slot: u8::try_from(r.below(3)).unwrap(),
                size: r.pick(&[0, 3, 9000]),
            },
            44 | 45 => Step::LookOpen {
                slot: u8::try_from(r.below(3)).unwrap(),
            },
            46 => Step::Read { path: r.path() },
            _ => Step::Remount,
        }
    }

    /// Carries the step out below `root`; what it says is to be the same everywhere.
    pub fn run(&self, root: &Path, slots: &mut Slots) -> Result<String, Errno> {
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
            Step::Open { slot, path } => {
                slots.remove(slot);
                let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK;
                let file = File::from(rustix::fs::open(at(path), flags, Mode::empty())?);
                // The two sides' pipes are two pipes.
                if file.metadata().is_ok_and(|m| m.is_file()) {
                    slots.insert(*slot, file);
                }
                Ok(String::new())
            }
            Step::WriteOpen { slot, at, data } => match slots.get(slot) {
                Some(file) => write(file, *at, *data).map(done),
                None => Ok(String::new()),
            },
            Step::TruncateOpen { slot, size } => match slots.get(slot) {
                Some(file) => rustix::fs::ftruncate(file, *size).map(done),
                None => Ok(String::new()),
            },
            Step::LookOpen { slot } => match slots.get(slot) {
                Some(file) => look(file),
                None => Ok(String::new()),
            },
            Step::Read { path } => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
                let fd = rustix::fs::open(at(path), flags, Mode::empty())?;
                let file = File::from(fd);
                match file.metadata().is_ok_and(|m| m.is_file()) {
                    true => look(&file),
                    false => Ok(String::new()),
                }
            }
            Step::Remount => Ok(String::new()),
        }
    }
}

fn look(file: &File) -> Result<String, Errno> {
    let st = rustix::fs::fstat(file)?;
    let mut data = vec![0; usize::try_from(st.st_size).unwrap()];
    let got = file
        .read_at(&mut data, 0)
        .map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))?;
    let sum = data.iter().fold(0u64, |sum, b| {
        sum.wrapping_mul(31).wrapping_add(u64::from(*b))
    });
    let (mode, size, links) = (st.st_mode, st.st_size, st.st_nlink);
    Ok(format!("{mode:o} {size} {links} {got} {sum:x}"))
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
