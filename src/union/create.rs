//! Making objects: create, mkdir, mknod, symlink.
//!
//! An object is made in place, as its owner, so that group, setgid and ACL come from the directory
//! as the file system below has it. Where a whiteout stands in its place, it is made aside, in a
//! directory that passes on the same, and takes the whiteout's place at once.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{
    AtFlags, FileType as RawType, Mode, OFlags, RenameFlags as RawRename, XattrFlags,
};
use rustix::io::Errno as RawErrno;

use super::node::Identity;
use super::open::OpenFlags;
use super::upper::{UpperEntry, remove_quietly};
use super::{Caller, Found, Node, Opened, Union, Upper};
use crate::error::{Errno, Error, Result};
use crate::layer::Contents;
use crate::layer::format::Mark;
use crate::layer::place::{Place, open_beneath};
use crate::name::Name;
use crate::stat::{FileType, Stat};
use crate::sys::creds::as_owner;

/// What mknod(2) makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Special {
    /// An empty regular file.
    Regular,
    /// A named pipe.
    Fifo,
    /// A Unix-domain socket.
    Socket,
    /// A character device with this number.
    CharDevice(u64),
    /// A block device with this number.
    BlockDevice(u64),
}

pub(super) const DEFAULT_ACL: &str = "system.posix_acl_default";

/// An object to be made.
struct New<'a, T> {
    kind: FileType,
    caller: Caller,
    /// Makes it under a name in a directory.
    make: &'a dyn Fn(&OwnedFd, &OsStr) -> rustix::io::Result<T>,
    /// It is the character device 0:0, which needs a mark to be told from a whiteout.
    null_device: bool,
    /// Permission bits, and the number of a device, where records keep them.
    perm: u32,
    rdev: u64,
}

impl Union {
    /// Creates and opens a regular file. The kernel has a reference on it.
    ///
    /// # Errors
    /// `EEXIST`, `EROFS`, `ENOENT` in a removed directory; what the upper's file system reports.
    pub fn create(
        &self,
        parent: &Arc<Node>,
        name: &Name,
        perm: u32,
        flags: OpenFlags,
        caller: Caller,
    ) -> Result<(Found, Opened)> {
        let _tree = self.tree.read();
        let mode = self.mode_for(parent, perm, caller)?;
        let open = flags.below() | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let make = |dir: &OwnedFd, name: &OsStr| rustix::fs::openat(dir, name, open, mode);
        let new = New {
            kind: FileType::Regular,
            caller,
            make: &make,
            null_device: false,
            perm: mode.as_raw_mode(),
            rdev: 0,
        };
        let (found, fd) = self.make(parent, name, &new)?;
        let contents = Contents::File(Arc::new(File::from(fd)));
        Ok((
            found,
            Opened {
                contents,
                from_upper: true,
                guarded: false,
            },
        ))
    }

    /// Creates and opens a regular file without a name (open(2), `O_TMPFILE`); linking gives it one.
    /// The kernel has a reference on it.
    ///
    /// # Errors
    /// `EOPNOTSUPP` where the upper's file system has no such files; as [`Union::create`].
    pub fn tmpfile(
        &self,
        dir: &Arc<Node>,
        perm: u32,
        flags: OpenFlags,
        caller: Caller,
    ) -> Result<(Found, Opened)> {
        let upper = self.writable()?;
        let _tree = self.tree.read();
        if dir.is_removed() {
            return Err(Error::new(Errno::ENOENT));
        }
        let mode = self.mode_for(dir, perm, caller)?;
        let within = self.dir_up(dir)?;
        // O_EXCL would forbid the name; the kernel keeps that promise itself.
        let open = flags.below() | OFlags::TMPFILE;
        let make = || rustix::fs::openat(&within, c".", open, mode);
        let made = if upper.has_records() {
            make()
        } else {
            as_owner(caller.uid, caller.gid, make)
        };
        let file = File::from(made.map_err(|e| match e {
            RawErrno::ISDIR | RawErrno::NOENT => RawErrno::OPNOTSUPP,
            other => other,
        })?);
        let path = crate::sys::fd::magic_path(&file);
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let held = Arc::new(rustix::fs::open(path, flags, Mode::empty())?);
        let place = Place::Held(Arc::clone(&held));
        if upper.has_records() {
            let new = New {
                kind: FileType::Regular,
                caller,
                make: &|_: &OwnedFd, _: &OsStr| Ok(()),
                null_device: false,
                perm: mode.as_raw_mode(),
                rdev: 0,
            };
            let parent = upper.stat(&Place::Held(Arc::clone(&within)))?;
            upper.record(&place, &new.stat(place.stat()?, &parent))?;
        }
        let mut stat = upper.stat(&place)?;
        let ino = self.new_ino(stat.ino);
        stat.ino = ino.0;
        let node = self.nodes.obtain(Identity::made(ino, FileType::Regular), 1);
        node.with_state(|state| {
            state.removed = true;
            state.held = Some(held);
        });
        let contents = Contents::File(Arc::new(file));
        Ok((
            Found { node, stat },
            Opened {
                contents,
                from_upper: true,
                guarded: false,
            },
        ))
    }

    /// Creates a directory. The kernel has a reference on it.
    ///
    /// # Errors
    /// As [`Union::create`].
    pub fn mkdir(
        &self,
        parent: &Arc<Node>,
        name: &Name,
        perm: u32,
        caller: Caller,
    ) -> Result<Found> {
        let _tree = self.tree.read();
        let mode = self.mode_for(parent, perm, caller)?;
        let make = |dir: &OwnedFd, name: &OsStr| rustix::fs::mkdirat(dir, name, mode);
        let new = New {
            kind: FileType::Directory,
            caller,
            make: &make,
            null_device: false,
            perm: mode.as_raw_mode(),
            rdev: 0,
        };
        Ok(self.make(parent, name, &new)?.0)
    }

    /// Creates a file that is neither directory nor symbolic link. The kernel has a reference on it.
    ///
    /// # Errors
    /// As [`Union::create`]; `EPERM` for the character device 0:0, which on disk is a whiteout
    /// without a mark, where marks can't be on devices (`userxattr`).
    pub fn mknod(
        &self,
        parent: &Arc<Node>,
        name: &Name,
        special: Special,
        perm: u32,
        caller: Caller,
    ) -> Result<Found> {
        let (kind, rdev) = match special {
            Special::Regular => (FileType::Regular, 0),
            Special::Fifo => (FileType::Fifo, 0),
            Special::Socket => (FileType::Socket, 0),
            Special::CharDevice(rdev) => (FileType::CharDevice, rdev),
            Special::BlockDevice(rdev) => (FileType::BlockDevice, rdev),
        };
        let _tree = self.tree.read();
        let mode = self.mode_for(parent, perm, caller)?;
        let recorded = self.writable()?.has_records();
        let (raw, number) = if recorded {
            (RawType::RegularFile, 0)
        } else {
            (RawType::from_raw_mode(kind.mode_bits()), rdev)
        };
        let make = |dir: &OwnedFd, name: &OsStr| rustix::fs::mknodat(dir, name, raw, mode, number);
        let new = New {
            kind,
            caller,
            make: &make,
            null_device: special == Special::CharDevice(0) && !recorded,
            perm: mode.as_raw_mode(),
            rdev,
        };
        Ok(self.make(parent, name, &new)?.0)
    }

    /// Puts the character device 0:0 where a name was (`RENAME_WHITEOUT`). The tree lock is held.
    pub(super) fn leave_device(
        &self,
        parent: &Arc<Node>,
        name: &Name,
        caller: Caller,
    ) -> Result<()> {
        let mode = Mode::empty();
        let recorded = self.writable()?.has_records();
        let raw = if recorded {
            RawType::RegularFile
        } else {
            RawType::CharacterDevice
        };
        let make = |dir: &OwnedFd, name: &OsStr| rustix::fs::mknodat(dir, name, raw, mode, 0);
        let new = New {
            kind: FileType::CharDevice,
            caller,
            make: &make,
            null_device: !recorded,
            perm: 0,
            rdev: 0,
        };
        let (found, ()) = self.make(parent, name, &new)?;
        let id = found.node.id();
        drop(found);
        self.forget(id, 1);
        Ok(())
    }

    /// Creates a symbolic link. The kernel has a reference on it.
    ///
    /// # Errors
    /// As [`Union::create`].
    pub fn symlink(
        &self,
        parent: &Arc<Node>,
        name: &Name,
        target: &OsStr,
        caller: Caller,
    ) -> Result<Found> {
        let _tree = self.tree.read();
        let make = |dir: &OwnedFd, name: &OsStr| rustix::fs::symlinkat(target, dir, name);
        let new = New {
            kind: FileType::Symlink,
            caller,
            make: &make,
            null_device: false,
            perm: 0o777,
            rdev: 0,
        };
        Ok(self.make(parent, name, &new)?.0)
    }

    /// The mode of a new object: the umask counts unless the directory has a default ACL (acl(5),
    /// "Object creation and default ACLs").
    fn mode_for(&self, parent: &Arc<Node>, perm: u32, caller: Caller) -> Result<Mode> {
        self.dir_up(parent)?;
        let perm = if self.has_default_acl(parent)? {
            perm
        } else {
            perm & !caller.umask
        };
        Ok(Mode::from_raw_mode(perm & 0o7777))
    }

    fn has_default_acl(&self, dir: &Arc<Node>) -> Result<bool> {
        if let Some(known) = dir.with_state(|s| s.default_acl) {
            return Ok(known);
        }
        let has = self.place(dir)?.xattr(OsStr::new(DEFAULT_ACL))?.is_some();
        dir.with_state(|s| s.default_acl = Some(has));
        Ok(has)
    }

    /// Makes an object under a free name. The tree lock is held.
    fn make<T>(&self, parent: &Arc<Node>, name: &Name, new: &New<'_, T>) -> Result<(Found, T)> {
        let upper = self.writable()?;
        if parent.is_removed() {
            return Err(Error::new(Errno::ENOENT));
        }
        let dir = self.dir_up(parent)?;
        // The upper is asked by making; what a lower has must be asked first, or a new object
        // could hide it unseen.
        let below = self.lower_has(parent, name)?;
        let made = if below || new.null_device || upper.has_records() {
            Err(RawErrno::EXIST)
        } else {
            let (uid, gid) = (new.caller.uid, new.caller.gid);
            as_owner(uid, gid, || (new.make)(&dir, name.as_os_str()))
        };
        let value = match made {
            Ok(value) => value,
            Err(RawErrno::EXIST) => {
                let over = match upper.entry(&dir, name)? {
                    Some(UpperEntry::Whiteout) => Over::Whiteout,
                    None if !below => Over::Nothing,
                    _ => return Err(Error::new(Errno::EEXIST)),
                };
                self.make_aside(upper, parent, &dir, (name, over), new)?
            }
            Err(e) => return Err(e.into()),
        };
        let mut stat = upper.stat(&Place::Named(dir, name.into()))?;
        let ino = self.new_ino(stat.ino);
        stat.ino = ino.0;
        let node = self.nodes.obtain(Identity::made(ino, new.kind), 1);
        node.add_name(parent, name);
        Ok((Found { node, stat }, value))
    }

    /// Makes an object where a whiteout is, or where it has to be complete when it gets its name.
    fn make_aside<T>(
        &self,
        upper: &Upper,
        parent: &Arc<Node>,
        dir: &Arc<OwnedFd>,
        (name, over): (&Name, Over),
        new: &New<'_, T>,
    ) -> Result<T> {
        let work = upper.work()?;
        let nursery = self.nursery(upper, parent, dir)?;
        let within = nursery.as_ref().map_or(&**work, |(_, fd)| fd);
        let temp = upper.temp_name();
        let (uid, gid) = (new.caller.uid, new.caller.gid);
        let made = if upper.has_records() {
            (new.make)(within, &temp)
        } else {
            as_owner(uid, gid, || (new.make)(within, &temp))
        };
        let placed = made.map_err(Error::from).and_then(|value| {
            let finish = || -> Result<()> {
                let held = Arc::new(open_beneath(within, Name::new(&temp)?, OFlags::PATH)?);
                let place = Place::Held(held);
                if new.null_device {
                    upper.mark_device(&place)?;
                }
                if upper.has_records() {
                    let parent = upper.stat(&Place::Held(Arc::clone(dir)))?;
                    upper.record(&place, &new.stat(place.stat()?, &parent))?;
                }
                Ok(())
            };
            if let Err(e) = finish() {
                let dir = match new.kind {
                    FileType::Directory => AtFlags::REMOVEDIR,
                    _ => AtFlags::empty(),
                };
                remove_quietly(within, &temp, dir);
                return Err(e);
            }
            match (new.kind, over) {
                (FileType::Directory, Over::Whiteout) => {
                    self.replace_whiteout(upper, within, &temp, dir, name)
                }
                (kind, _) => place_new(within, &temp, dir, name, kind),
            }
            .map(|()| value)
        });
        if let Some((nursery, _)) = nursery {
            remove_quietly(work, &nursery, AtFlags::REMOVEDIR);
        }
        placed
    }

    /// Puts a directory built in `from` where a whiteout is.
    fn replace_whiteout(
        &self,
        upper: &Upper,
        from: &OwnedFd,
        temp: &OsStr,
        dir: &OwnedFd,
        name: &Name,
    ) -> Result<()> {
        let name = name.as_os_str();
        let swap = || -> Result<()> {
            let fd = open_beneath(from, Name::new(temp)?, OFlags::PATH)?;
            let opaque = upper.space().name(Mark::Opaque);
            Place::Held(Arc::new(fd)).set_xattr(&opaque, b"y", XattrFlags::empty())?;
            Ok(rustix::fs::renameat_with(
                from,
                temp,
                dir,
                name,
                RawRename::EXCHANGE,
            )?)
        };
        if let Err(e) = swap() {
            remove_quietly(from, temp, AtFlags::REMOVEDIR);
            return Err(e);
        }
        remove_quietly(from, temp, AtFlags::empty());
        Ok(())
    }

    /// A directory in `work` that passes on group and ACL as `parent` does; `None` when there is
    /// nothing to pass on.
    fn nursery(
        &self,
        upper: &Upper,
        parent: &Arc<Node>,
        dir: &Arc<OwnedFd>,
    ) -> Result<Option<(std::ffi::OsString, OwnedFd)>> {
        // Records have their own way to hand on a group, and no ACLs.
        if upper.has_records() {
            return Ok(None);
        }
        let place = Place::Held(Arc::clone(dir));
        let stat = place.stat()?;
        let acl = self.has_default_acl(parent)?;
        if stat.perm & libc::S_ISGID == 0 && !acl {
            return Ok(None);
        }
        let work = upper.work()?;
        let temp = upper.temp_name();
        rustix::fs::mkdirat(work, &temp, Mode::RWXU)?;
        let fd = Arc::new(open_beneath(work, Name::new(&temp)?, OFlags::PATH)?);
        let nursery = Place::Held(Arc::clone(&fd));
        nursery.chown(None, Some(stat.gid))?;
        nursery.chmod(0o700 | stat.perm & libc::S_ISGID)?;
        if let Some(value) = place.xattr(OsStr::new(DEFAULT_ACL))? {
            nursery.set_xattr(OsStr::new(DEFAULT_ACL), &value, XattrFlags::empty())?;
        }
        drop(nursery);
        Ok(Arc::into_inner(fd).map(|fd| (temp, fd)))
    }
}

/// What is at a name where something is to be made.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Over {
    Nothing,
    Whiteout,
}

impl<T> New<'_, T> {
    /// The attributes of the new object, where records keep them: owner, and what a setgid directory
    /// hands on (inode(7), "set-group-ID").
    fn stat(&self, made: Stat, parent: &Stat) -> Stat {
        let inherits = parent.perm & libc::S_ISGID != 0;
        let hands_on = inherits && self.kind == FileType::Directory;
        Stat {
            kind: self.kind,
            perm: self.perm | if hands_on { libc::S_ISGID } else { 0 },
            uid: self.caller.uid,
            gid: if inherits {
                parent.gid
            } else {
                self.caller.gid
            },
            rdev: self.rdev,
            ..made
        }
    }
}

/// Gives an object built in `from` its name, where nothing is, or the whiteout of no directory.
fn place_new(
    from: &OwnedFd,
    temp: &OsStr,
    dir: &OwnedFd,
    name: &Name,
    kind: FileType,
) -> Result<()> {
    let renamed = rustix::fs::renameat(from, temp, dir, name.as_os_str());
    if renamed.is_err() {
        let flags = match kind {
            FileType::Directory => AtFlags::REMOVEDIR,
            _ => AtFlags::empty(),
        };
        remove_quietly(from, temp, flags);
    }
    Ok(renamed?)
}
