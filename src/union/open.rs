//! Opening regular files, and writing them to disk.

use std::fs::File;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};

use super::attr::{cut, kill_priv};
use super::copy_up::Data;
use super::{Caller, Node, Union};
use crate::error::{Errno, Error, Result};
use crate::layer::Contents;
use crate::stat::FileType;

/// The flags of open(2), as the kernel hands them on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OpenFlags(pub i32);

impl OpenFlags {
    /// Whether data can be written through it.
    #[must_use]
    pub fn writes(self) -> bool {
        self.0 & libc::O_ACCMODE != libc::O_RDONLY
    }

    /// Whether the file is to be cut to nothing.
    #[must_use]
    pub fn truncates(self) -> bool {
        self.0 & libc::O_TRUNC != 0
    }

    /// Whether the file is opened to be executed (`__FMODE_EXEC`, which open(2) doesn't know).
    #[must_use]
    pub fn executes(self) -> bool {
        const FMODE_EXEC: i32 = 0x20;
        self.0 & FMODE_EXEC != 0
    }

    /// What is asked of the file below: the access mode and whether writes wait for the disk. The
    /// kernel itself does the rest (append positions, direct I/O's alignment).
    pub(super) fn below(self) -> OFlags {
        let kept = libc::O_ACCMODE | libc::O_SYNC | libc::O_DSYNC;
        OFlags::from_bits_retain((self.0 & kept).cast_unsigned()) | OFlags::CLOEXEC | OFlags::NOCTTY
    }
}

/// An open file.
pub struct Opened {
    /// Its bytes.
    pub contents: Contents,
    /// Whether it is the upper's file.
    pub from_upper: bool,
    /// Of a lower's file: whether the kernel keeps everybody from writing to it.
    pub guarded: bool,
}

impl Union {
    /// Whether opening for writing, or changing attributes, copies from a lower first.
    #[must_use]
    pub fn needs_copy_up(&self, node: &Node) -> bool {
        !node.has_upper_data()
    }

    /// The length, in bytes, of a file that is copied up from a directory layer without being written to
    /// disk; `None` of any other.
    #[must_use]
    pub fn copied_without_sync(&self, node: &Node) -> Option<u64> {
        self.upper.as_ref().filter(|upper| upper.volatile())?;
        let lower = self.data_lower(node).ok()?;
        lower.layer().host_dev()?;
        Some(lower.layer().stat(lower.node()).ok()?.size)
    }

    /// The length of a file whose data is a lower's, in bytes; `None` of everything else.
    ///
    /// # Errors
    /// What the layer reports.
    pub fn lower_len(&self, node: &Node) -> Result<Option<u64>> {
        if node.has_upper_data() || node.kind() != FileType::Regular {
            return Ok(None);
        }
        let lower = self.data_lower(node)?;
        Ok(Some(lower.layer().stat(lower.node())?.size))
    }

    /// Opens a regular file; for writing it is copied up first, for truncating without its data.
    ///
    /// # Errors
    /// `EROFS` when writing without an upper, `EINVAL` when the node is no regular file; what the
    /// layers report.
    pub fn open(&self, node: &Arc<Node>, flags: OpenFlags, caller: Caller) -> Result<Opened> {
        if node.kind() != FileType::Regular {
            return Err(Error::new(Errno::EINVAL));
        }
        if flags.writes() || flags.truncates() {
            let data = if flags.truncates() {
                Data::Nothing
            } else {
                Data::All
            };
            self.copy_up(node, data)?;
        }
        if !node.has_upper_data() {
            let lower = self.data_lower(node)?;
            let contents = lower.layer().open(lower.node())?;
            return Ok(Opened {
                contents,
                from_upper: false,
                guarded: lower.layer().is_guarded(),
            });
        }
        let _tree = self.tree.read();
        let place = self.place(node)?;
        let file = place.open(flags.below())?;
        if flags.truncates() {
            let said = if flags.writes() {
                rustix::fs::ftruncate(&file, 0)
            } else {
                rustix::fs::ftruncate(place.open(OFlags::WRONLY)?, 0)
            };
            cut(&place, 0, said)?;
            if caller.kills_priv() {
                kill_priv(self.writable()?, &place)?;
            }
        }
        Ok(Opened {
            contents: Contents::File(Arc::new(file)),
            from_upper: true,
            guarded: false,
        })
    }

    /// Writes a file or directory to disk (fsync(2)), or its data only. Lowers are there already.
    ///
    /// # Errors
    /// What the upper's file system reports.
    pub fn sync_node(&self, node: &Node, data_only: bool) -> Result<()> {
        if !node.has_upper() {
            return Ok(());
        }
        let file = {
            let _tree = self.tree.read();
            self.place(node)?.open(OFlags::RDONLY)?
        };
        self.sync_file(&file, data_only)
    }

    /// Writes an open file of the upper to disk; nothing on a volatile mount.
    ///
    /// # Errors
    /// What the upper's file system reports.
    pub fn sync_file(&self, file: &File, data_only: bool) -> Result<()> {
        if self.upper.as_ref().is_none_or(super::Upper::volatile) {
            return Ok(());
        }
        if data_only {
            file.sync_data()?
        } else {
            file.sync_all()?
        }
        Ok(())
    }

    /// Writes everything to disk (syncfs(2)).
    ///
    /// # Errors
    /// What the upper's file system reports.
    pub fn sync(&self) -> Result<()> {
        match &self.upper {
            Some(upper) if !upper.is_read_only() && !upper.volatile() => upper.sync(),
            _ => Ok(()),
        }
    }
}

/// Opens a new, empty, nameless file in a directory, where the file system has such.
pub(super) fn open_nameless(dir: impl std::os::fd::AsFd, perm: u32) -> Result<Option<File>> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    match rustix::fs::openat(dir, c".", flags, Mode::from_raw_mode(perm)) {
        Ok(fd) => Ok(Some(File::from(fd))),
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR | rustix::io::Errno::NOENT) => {
            Ok(None)
        }
        Err(e) => Err(e.into()),
    }
}
