//! [`HostTree`]: a directory of the host, or a live mount.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, FileType as RawType, Mode, OFlags, Timestamps, XattrFlags};

use super::{Attributes, Tree, TreeMut, Xattrs};
use crate::error::{Errno, Error, Result};
use crate::layer::Contents;
use crate::layer::place::{Place, open_beneath};
use crate::name::{Name, NameBuf};
use crate::stat::{Stat, Timespec};
use crate::sys::fd::magic_path;
use crate::tar::MemberKind;

/// A directory of the host. Its objects are held by descriptors, and nothing in it is followed.
pub struct HostTree {
    root: Arc<OwnedFd>,
}

impl HostTree {
    /// The tree at a path, which is followed as any program follows it.
    ///
    /// # Errors
    /// What open(2) reports.
    pub fn open(path: &Path) -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(path, flags, Mode::empty())?;
        Ok(Self {
            root: Arc::new(root),
        })
    }

    /// The object at a path of the host, which needn't be in a tree: only its last component, if a
    /// link, is not followed, unless that is asked for.
    ///
    /// # Errors
    /// What open(2) reports.
    pub fn object(path: &Path, last: super::Links) -> Result<Arc<OwnedFd>> {
        let mut flags = OFlags::PATH | OFlags::CLOEXEC;
        if last == super::Links::Refuse {
            flags |= OFlags::NOFOLLOW;
        }
        Ok(Arc::new(rustix::fs::open(path, flags, Mode::empty())?))
    }
}

fn held(node: &Arc<OwnedFd>) -> Place {
    Place::Held(Arc::clone(node))
}

impl Tree for HostTree {
    type Node = Arc<OwnedFd>;

    fn root(&self) -> Self::Node {
        Arc::clone(&self.root)
    }

    fn stat(&self, node: &Self::Node) -> Result<Stat> {
        held(node).stat()
    }

    fn find(&self, dir: &Self::Node, name: &Name) -> Result<Option<Self::Node>> {
        match open_beneath(dir, name, OFlags::PATH) {
            Ok(fd) => Ok(Some(Arc::new(fd))),
            Err(e) if e.errno() == Errno::ENOENT => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn names(&self, dir: &Self::Node) -> Result<Vec<NameBuf>> {
        let mut names = Vec::new();
        crate::sys::dir::list(dir, |name, _, _| {
            names.push(NameBuf::new(name)?);
            Ok(())
        })?;
        names.sort();
        Ok(names)
    }

    fn read_link(&self, node: &Self::Node) -> Result<Vec<u8>> {
        held(node).read_link()
    }

    fn xattrs(&self, node: &Self::Node) -> Result<Xattrs> {
        let place = held(node);
        let mut all = Vec::new();
        for name in place.xattr_names()? {
            // One that has gone meanwhile, or that we may not see, is none.
            if let Some(value) = place.xattr(&name)? {
                all.push((name.into_vec(), value));
            }
        }
        all.sort();
        Ok(all)
    }

    fn id(&self, node: &Self::Node, stat: &Stat) -> Result<(u64, u64)> {
        Ok((rustix::fs::fstat(node)?.st_dev, stat.ino))
    }

    fn open(&self, node: &Self::Node) -> Result<Contents> {
        let flags = OFlags::RDONLY | OFlags::NOCTTY | OFlags::NONBLOCK;
        held(node).open(flags).map(|f| Contents::File(Arc::new(f)))
    }
}

impl TreeMut for HostTree {
    fn make(&self, dir: &Self::Node, name: &Name, kind: &MemberKind) -> Result<Self::Node> {
        let at = name.as_os_str();
        let device = |raw, rdev| rustix::fs::mknodat(dir, at, raw, Mode::RUSR | Mode::WUSR, rdev);
        match kind {
            MemberKind::Directory => rustix::fs::mkdirat(dir, at, Mode::RWXU)?,
            MemberKind::Regular => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
                drop(rustix::fs::openat(dir, at, flags, Mode::RUSR | Mode::WUSR)?);
            }
            MemberKind::Symlink(target) => {
                rustix::fs::symlinkat(OsStr::from_bytes(target), dir, at)?;
            }
            MemberKind::CharDevice(rdev) => device(RawType::CharacterDevice, *rdev)?,
            MemberKind::BlockDevice(rdev) => device(RawType::BlockDevice, *rdev)?,
            MemberKind::Fifo => device(RawType::Fifo, 0)?,
            MemberKind::HardLink(_) => return Err(Error::new(Errno::EINVAL)),
        }
        Ok(Arc::new(open_beneath(dir, name, OFlags::PATH)?))
    }

    fn link(&self, node: &Self::Node, dir: &Self::Node, name: &Name) -> Result<()> {
        let from = magic_path(node);
        Ok(rustix::fs::linkat(
            CWD,
            from,
            dir,
            name.as_os_str(),
            AtFlags::SYMLINK_FOLLOW,
        )?)
    }

    fn unlink(&self, dir: &Self::Node, name: &Name) -> Result<()> {
        Ok(rustix::fs::unlinkat(
            dir,
            name.as_os_str(),
            AtFlags::empty(),
        )?)
    }

    fn write(&self, node: &Self::Node) -> Result<File> {
        held(node).open(OFlags::WRONLY | OFlags::NOCTTY)
    }

    fn set(&self, node: &Self::Node, attributes: &Attributes) -> Result<()> {
        let place = held(node);
        if let Some((uid, gid)) = attributes.owner {
            place.chown(Some(uid), Some(gid))?;
        }
        if let Some(perm) = attributes.perm {
            place.chmod(perm)?;
        }
        if let Some(mtime) = attributes.mtime {
            let omit = rustix::fs::Timespec {
                tv_sec: 0,
                tv_nsec: rustix::fs::UTIME_OMIT,
            };
            place.set_times(&Timestamps {
                last_access: omit,
                last_modification: raw(mtime),
            })?;
        }
        Ok(())
    }

    fn set_xattr(&self, node: &Self::Node, name: &[u8], value: &[u8]) -> Result<()> {
        held(node).set_xattr(OsStr::from_bytes(name), value, XattrFlags::empty())
    }
}

fn raw(time: Timespec) -> rustix::fs::Timespec {
    rustix::fs::Timespec {
        tv_sec: time.sec,
        tv_nsec: i64::from(time.nsec),
    }
}
