//! [`Place`]: where an object of a host directory can be reached, and what can be done to it there.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, Timestamps, XattrFlags};

use super::Marks;
use super::format::MarkSpace;
use crate::error::{Errno, Error, Result};
use crate::name::{Name, NameBuf};
use crate::stat::{FileType, Stat, Timespec};
use crate::sys::fd::{magic_path, magic_path_in};
use crate::sys::handle::{self, FileHandle};
use crate::sys::xattr::{self, Follow};

/// An object of a host directory.
pub(crate) enum Place {
    /// A name in a directory.
    Named(Arc<OwnedFd>, NameBuf),
    /// The object of an `O_PATH` descriptor: the root, or one without a name.
    Held(Arc<OwnedFd>),
}

/// Opens `name` in `dir` without following a link.
pub(crate) fn open_beneath(dir: impl AsFd, name: &Name, flags: OFlags) -> Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = || rustix::fs::openat2(&dir, name.as_os_str(), flags, Mode::empty(), resolve);
    // EAGAIN: a rename or mount elsewhere; the kernel asks to try again (openat2(2)).
    for _ in 0..16 {
        match open() {
            Err(rustix::io::Errno::AGAIN) => {}
            other => return Ok(other?),
        }
    }
    Ok(open()?)
}

/// The attributes that stat(2) gives.
pub(crate) fn stat_from(st: &rustix::fs::Stat) -> Result<Stat> {
    let time = |sec: i64, nsec| Timespec {
        sec,
        nsec: u32::try_from(nsec).unwrap_or(0),
    };
    let kind = FileType::from_mode(st.st_mode);
    Ok(Stat {
        ino: st.st_ino,
        kind: kind.ok_or_else(|| Error::with(Errno::EIO, "an object of no known type"))?,
        perm: st.st_mode & 0o7777,
        nlink: u32::try_from(st.st_nlink).unwrap_or(u32::MAX),
        uid: st.st_uid,
        gid: st.st_gid,
        rdev: st.st_rdev,
        size: u64::try_from(st.st_size).unwrap_or(0),
        blocks: u64::try_from(st.st_blocks).unwrap_or(0),
        atime: time(st.st_atime, st.st_atime_nsec),
        mtime: time(st.st_mtime, st.st_mtime_nsec),
        ctime: time(st.st_ctime, st.st_ctime_nsec),
    })
}

impl Place {
    /// A path for the calls that know no descriptors, and whether to follow its last link.
    fn path(&self) -> (OsString, Follow) {
        match self {
            Place::Named(dir, name) => (magic_path_in(dir, name.as_os_str()), Follow::No),
            Place::Held(fd) => (magic_path(fd), Follow::Yes),
        }
    }

    pub fn stat(&self) -> Result<Stat> {
        let st = match self {
            Place::Named(dir, name) => {
                rustix::fs::statat(dir, name.as_os_str(), AtFlags::SYMLINK_NOFOLLOW)?
            }
            Place::Held(fd) => rustix::fs::statat(fd, c"", AtFlags::EMPTY_PATH)?,
        };
        stat_from(&st)
    }

    /// When it was made, where the file system knows.
    pub fn birth_time(&self) -> Result<Option<Timespec>> {
        let mask = rustix::fs::StatxFlags::BTIME;
        let st = match self {
            Place::Named(dir, name) => {
                let flags = AtFlags::SYMLINK_NOFOLLOW;
                rustix::fs::statx(dir, name.as_os_str(), flags, mask)?
            }
            Place::Held(fd) => rustix::fs::statx(fd, c"", AtFlags::EMPTY_PATH, mask)?,
        };
        let known = st.stx_mask & mask.bits() != 0;
        Ok(known.then_some(Timespec {
            sec: st.stx_btime.tv_sec,
            nsec: st.stx_btime.tv_nsec,
        }))
    }

    /// Opens the object (no creation, no truncation).
    pub fn open(&self, flags: OFlags) -> Result<File> {
        let flags = flags | OFlags::CLOEXEC;
        Ok(File::from(match self {
            Place::Named(dir, name) => open_beneath(dir, name, flags)?,
            Place::Held(fd) => rustix::fs::openat(CWD, magic_path(fd), flags, Mode::empty())?,
        }))
    }

    /// An `O_PATH` descriptor that reaches the object when its name is gone.
    pub fn hold(&self) -> Result<Arc<OwnedFd>> {
        match self {
            Place::Named(dir, name) => Ok(Arc::new(open_beneath(dir, name, OFlags::PATH)?)),
            Place::Held(fd) => Ok(Arc::clone(fd)),
        }
    }

    /// The handle that finds the object again.
    pub fn handle(&self) -> Result<FileHandle> {
        Ok(match self {
            Place::Named(dir, name) => handle::of_name(dir, name.as_os_str())?,
            Place::Held(fd) => handle::of(fd)?,
        })
    }

    pub fn read_link(&self) -> Result<Vec<u8>> {
        let target = match self {
            Place::Named(dir, name) => {
                rustix::fs::readlinkat(dir, name.as_os_str(), Vec::with_capacity(256))?
            }
            Place::Held(fd) => rustix::fs::readlinkat(fd, c"", Vec::with_capacity(256))?,
        };
        Ok(target.into_bytes())
    }

    pub fn chmod(&self, perm: u32) -> Result<()> {
        let mode = Mode::from_raw_mode(perm & 0o7777);
        // Never a symbolic link: the kernel refuses to change the mode of one.
        match self {
            Place::Named(dir, name) => {
                rustix::fs::chmodat(dir, name.as_os_str(), mode, AtFlags::empty())?;
            }
            Place::Held(fd) => rustix::fs::chmod(magic_path(fd), mode)?,
        }
        Ok(())
    }

    pub fn chown(&self, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
        let uid = uid.map(rustix::fs::Uid::from_raw);
        let gid = gid.map(rustix::fs::Gid::from_raw);
        match self {
            Place::Named(dir, name) => {
                let flags = AtFlags::SYMLINK_NOFOLLOW;
                rustix::fs::chownat(dir, name.as_os_str(), uid, gid, flags)?;
            }
            Place::Held(fd) => rustix::fs::chownat(fd, c"", uid, gid, AtFlags::EMPTY_PATH)?,
        }
        Ok(())
    }

    pub fn set_times(&self, times: &Timestamps) -> Result<()> {
        match self {
            Place::Named(dir, name) => {
                let flags = AtFlags::SYMLINK_NOFOLLOW;
                rustix::fs::utimensat(dir, name.as_os_str(), times, flags)?;
            }
            Place::Held(fd) => {
                rustix::fs::utimensat(CWD, magic_path(fd), times, AtFlags::empty())?;
            }
        }
        Ok(())
    }

    pub fn xattr(&self, name: &OsStr) -> Result<Option<Vec<u8>>> {
        if let Place::Named(dir, of) = self
            && let Some(value) = xattr::get_at(dir, of.as_os_str(), name)
        {
            return Ok(value?);
        }
        let (path, follow) = self.path();
        Ok(xattr::get(&path, name, follow)?)
    }

    pub fn xattr_names(&self) -> Result<Vec<OsString>> {
        if let Place::Named(dir, of) = self
            && let Some(names) = xattr::list_at(dir, of.as_os_str())
        {
            return Ok(names?);
        }
        let (path, follow) = self.path();
        Ok(xattr::list(&path, follow)?)
    }

    pub fn set_xattr(&self, name: &OsStr, value: &[u8], flags: XattrFlags) -> Result<()> {
        let (path, follow) = self.path();
        Ok(xattr::set(&path, name, value, flags, follow)?)
    }

    pub fn remove_xattr(&self, name: &OsStr) -> Result<()> {
        let (path, follow) = self.path();
        Ok(xattr::remove(&path, name, follow)?)
    }

    /// The marks among the object's attributes.
    pub fn marks(&self, space: MarkSpace) -> Result<Marks> {
        let names = self.xattr_names()?;
        let mut marks = Marks {
            no_xattrs: names.is_empty(),
            ..Marks::default()
        };
        for name in names {
            if space.unescape(&name).is_none()
                && let Some(value) = self.xattr(&name)?
            {
                space.decode(&mut marks, &name, &value);
            }
        }
        Ok(marks)
    }
}
