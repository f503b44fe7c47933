//! Attributes: getattr, setattr, statfs.

use std::fs::File;
use std::os::fd::AsFd;
use std::sync::Arc;

use rustix::fs::{Timestamps, UTIME_NOW, UTIME_OMIT};

use super::copy_up::Data;
use super::{Caller, Node, Union, Upper};
use crate::error::{Errno, Error, Result};
use crate::layer::place::Place;
use crate::stat::{FileType, Stat, Timespec};

/// A time to be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetTime {
    /// The clock's.
    Now,
    /// This one.
    At(Timespec),
}

/// Which attributes to change, and to what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SetAttr {
    /// Permission bits with setuid, setgid and sticky.
    pub perm: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Length in bytes.
    pub size: Option<u64>,
    /// Last access.
    pub atime: Option<SetTime>,
    /// Last change of the contents.
    pub mtime: Option<SetTime>,
    /// Clear setuid, and setgid if the group may execute, as a write by an ordinary user does.
    pub kill_priv: bool,
}

/// A file system's figures (statvfs(3)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FsStat {
    /// Size in units of `fragment`.
    pub blocks: u64,
    /// Free blocks.
    pub free: u64,
    /// Free blocks for ordinary users.
    pub available: u64,
    /// Inodes.
    pub files: u64,
    /// Free inodes.
    pub files_free: u64,
    /// Preferred block size in bytes.
    pub block: u32,
    /// Fragment size in bytes.
    pub fragment: u32,
    /// Longest name in bytes.
    pub name_max: u32,
}

impl Union {
    /// A node's attributes.
    ///
    /// # Errors
    /// `ESTALE` for an unlinked object that could not be kept; what the layers report.
    pub fn getattr(&self, node: &Node) -> Result<Stat> {
        let _tree = self.tree.read();
        self.stat_of(node)
    }

    /// When a node's object was made, where the file system that has it knows (statx(2),
    /// `STATX_BTIME`): of what was copied up, the copy.
    ///
    /// # Errors
    /// As [`Union::getattr`].
    pub fn birth_time(&self, node: &Node) -> Result<Option<Timespec>> {
        let _tree = self.tree.read();
        if node.has_upper() {
            return self.place(node)?.birth_time();
        }
        let lower = self.top_lower(node)?;
        lower.layer().birth_time(lower.node())
    }

    /// The tree lock is held.
    pub(super) fn stat_of(&self, node: &Node) -> Result<Stat> {
        let mut stat;
        if node.has_upper() {
            let place = self.place(node)?;
            stat = node.with_kept_ctime(self.shown(&place)?);
            if node.index_entry().is_some() {
                stat.nlink = self.indexed_names(node, &place, stat.nlink)?;
            }
            if node.is_dir() && !node.lower().is_empty() && !node.is_removed() {
                stat.nlink = 1;
            }
            if !node.has_upper_data() {
                let lower = self.data_lower(node)?;
                stat.blocks = lower.layer().stat(lower.node())?.blocks;
            }
        } else {
            let lower = self.top_lower(node)?;
            stat = lower.layer().stat(lower.node())?;
            if node.is_removed() {
                stat.nlink = 0;
            } else if node.lower().len() > 1 && node.is_dir() {
                stat.nlink = 1;
            }
            if node.lower().len() > 1 && !node.is_dir() {
                let data = self.data_lower(node)?;
                stat.blocks = data.layer().stat(data.node())?.blocks;
            }
        }
        stat.ino = node.ino().0;
        Ok(stat)
    }

    /// The attributes of an object of the upper.
    pub(super) fn shown(&self, place: &Place) -> Result<Stat> {
        match &self.upper {
            Some(upper) => upper.stat(place),
            None => place.stat(),
        }
    }

    /// The lower object that a node without an upper part shows.
    pub(super) fn top_lower<'n>(&self, node: &'n Node) -> Result<&'n super::LowerRef> {
        node.lower()
            .first()
            .ok_or_else(|| Error::with(Errno::EIO, "a node without a layer"))
    }

    /// The lower file that has the data of a node without upper data: of a metacopy in a lower it is
    /// another than the one that has the attributes.
    pub(super) fn data_lower<'n>(&self, node: &'n Node) -> Result<&'n super::LowerRef> {
        node.lower()
            .last()
            .ok_or_else(|| Error::with(Errno::EIO, "a metacopy without a lower file"))
    }

    /// Changes attributes. `handle` is an open file of the node, if the caller has one.
    ///
    /// # Errors
    /// `EROFS` without an upper; what the upper's file system reports.
    pub fn setattr(
        &self,
        node: &Arc<Node>,
        set: &SetAttr,
        caller: Caller,
        handle: Option<&File>,
    ) -> Result<Stat> {
        let data = match set.size {
            None => Data::Attributes,
            Some(0) => Data::Nothing,
            Some(_) => Data::All,
        };
        self.copy_up(node, data)?;
        let upper = self.writable()?;
        let _tree = self.tree.read();
        let place = self.place(node)?;
        if let Some(size) = set.size {
            truncate(&place, size, handle)?;
        }
        let chowns = set.uid.is_some() || set.gid.is_some();
        // chown(2) below clears them itself.
        let told = set.kill_priv && (!chowns || upper.has_records());
        if told || (set.size.is_some() && caller.kills_priv()) {
            kill_priv(upper, &place)?;
        }
        if chowns {
            upper.chown(&place, set.uid, set.gid)?;
        }
        if let Some(perm) = set.perm {
            upper.chmod(&place, perm)?;
        }
        if set.atime.is_some() || set.mtime.is_some() {
            let times = Timestamps {
                last_access: raw_time(set.atime),
                last_modification: raw_time(set.mtime),
            };
            place.set_times(&times)?;
        }
        node.show_own_ctime();
        self.stat_of(node)
    }

    /// Clears setgid after a change of the access ACL by somebody who is not of the file's group
    /// (chmod(2), "S_ISGID").
    ///
    /// # Errors
    /// What the upper's file system reports.
    pub fn clear_setgid(&self, node: &Node, caller: Caller) -> Result<()> {
        let told = caller.keeps_priv;
        if told.unwrap_or(caller.uid == 0) || !node.has_upper() {
            return Ok(());
        }
        let upper = self.writable()?;
        let _tree = self.tree.read();
        let place = self.place(node)?;
        let stat = upper.stat(&place)?;
        let strange = || {
            told.is_some()
                || stat.gid != caller.gid
                    && !crate::sys::process::groups_of(caller.pid).contains(&stat.gid)
        };
        if stat.perm & libc::S_ISGID != 0 && strange() {
            upper.chmod(&place, stat.perm & !libc::S_ISGID)?;
            node.show_own_ctime();
        }
        Ok(())
    }

    /// The file system's figures: the upper's, else those of the directory given for it.
    ///
    /// # Errors
    /// What the file system below reports.
    pub fn statfs(&self) -> Result<FsStat> {
        let st = match (&self.upper, &self.options.statfs_dir) {
            (Some(upper), _) => upper.statvfs()?,
            (None, Some(dir)) => rustix::fs::fstatvfs(dir)?,
            (None, None) => {
                return Ok(FsStat {
                    block: 4096,
                    fragment: 4096,
                    name_max: 255,
                    ..FsStat::default()
                });
            }
        };
        let small = |n: u64| u32::try_from(n).unwrap_or(4096);
        Ok(FsStat {
            blocks: st.f_blocks,
            free: st.f_bfree,
            available: st.f_bavail,
            files: st.f_files,
            files_free: st.f_ffree,
            block: small(st.f_bsize),
            fragment: small(st.f_frsize),
            name_max: small(st.f_namemax),
        })
    }
}

fn raw_time(time: Option<SetTime>) -> rustix::fs::Timespec {
    match time {
        None => rustix::fs::Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        Some(SetTime::Now) => rustix::fs::Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_NOW,
        },
        Some(SetTime::At(t)) => rustix::fs::Timespec {
            tv_sec: t.sec,
            tv_nsec: t.nsec.into(),
        },
    }
}

/// Access and modification time as they are, for the calls that set both.
pub(super) fn times_of(stat: &Stat) -> Timestamps {
    Timestamps {
        last_access: raw_time(Some(SetTime::At(stat.atime))),
        last_modification: raw_time(Some(SetTime::At(stat.mtime))),
    }
}

fn truncate(place: &Place, size: u64, handle: Option<&File>) -> Result<()> {
    if let Some(file) = handle {
        match rustix::fs::ftruncate(file.as_fd(), size) {
            // The handle is for reading only.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::BADF) => {}
            other => return cut(place, size, other),
        }
    }
    let file = place.open(rustix::fs::OFlags::WRONLY)?;
    cut(place, size, rustix::fs::ftruncate(&file, size))
}

/// Takes in what ftruncate(2) said. A file that was copied up without its data has been cut by that.
pub(super) fn cut(place: &Place, size: u64, said: rustix::io::Result<()>) -> Result<()> {
    match said {
        Err(e) if size == 0 && place.stat()?.size == 0 => {
            log::warn!("a file is cut, its times are not set: {e}");
            Ok(())
        }
        said => Ok(said?),
    }
}

/// Clears what a write by an ordinary user clears (inode(7), "set-user-ID").
pub(super) fn kill_priv(upper: &Upper, place: &Place) -> Result<()> {
    let stat = upper.stat(place)?;
    if stat.kind != FileType::Regular {
        return Ok(());
    }
    let mut perm = stat.perm & !libc::S_ISUID;
    if stat.perm & libc::S_IXGRP != 0 {
        perm &= !libc::S_ISGID;
    }
    if perm != stat.perm {
        upper.chmod(place, perm)?;
    }
    Ok(())
}
