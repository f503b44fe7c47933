//! Removing names: unlink and rmdir. A whiteout is left only where a lower has the name, so that
//! layers stay reproducible.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::AtFlags;
use rustix::io::Errno as RawErrno;

use super::copy_up::Data;
use super::{Found, Node, Union};
use crate::error::{Errno, Error, Result};
use crate::name::Name;

impl Union {
    /// Removes a name of a file.
    ///
    /// # Errors
    /// `ENOENT`, `EISDIR`, `EROFS`; what the upper's file system reports.
    pub fn unlink(&self, parent: &Arc<Node>, name: &Name) -> Result<()> {
        let found = self.peek(parent, name)?;
        let found = found.ok_or_else(|| Error::new(Errno::ENOENT))?;
        self.unlink_found(parent, name, &found)
    }

    /// Removes a name of a file that was just found under it.
    ///
    /// # Errors
    /// As [`Union::unlink`].
    pub fn unlink_found(&self, parent: &Arc<Node>, name: &Name, found: &Found) -> Result<()> {
        let upper = self.writable()?;
        if found.is_dir() {
            return Err(Error::new(Errno::EISDIR));
        }
        self.keep_other_names(found)?;
        let _tree = self.tree.read();
        self.name_up(&found.node, parent, name)?;
        let dir = self.dir_up(parent)?;
        // What isn't in the upper was found in a lower.
        let in_upper = found.node.has_upper();
        let whiteout = !in_upper || self.lower_has(parent, name)?;
        let mut held = None;
        if in_upper {
            held = self.hold_last_name(&found.node)?;
            if whiteout {
                upper.replace_by_whiteout(&dir, name)?;
            } else {
                rustix::fs::unlinkat(&dir, name.as_os_str(), AtFlags::empty())?;
            }
        } else {
            upper.add_whiteout(&dir, name.as_os_str())?;
        }
        found.node.drop_name(parent, name, held);
        self.leave_index(&found.node)
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// `ENOENT`, `ENOTDIR`, `ENOTEMPTY`, `EROFS`; what the upper's file system reports.
    pub fn rmdir(&self, parent: &Arc<Node>, name: &Name) -> Result<()> {
        let upper = self.writable()?;
        let found = self
            .peek(parent, name)?
            .ok_or_else(|| Error::new(Errno::ENOENT))?;
        if !found.is_dir() {
            return Err(Error::new(Errno::ENOTDIR));
        }
        let _tree = self.tree.read();
        // The file system below checks a directory that has nothing of a lower.
        let pure = found.node.has_upper() && found.node.lower().is_empty();
        if !pure {
            self.check_empty(&found.node)?;
        }
        let dir = self.dir_up(parent)?;
        let whiteout = self.lower_has(parent, name)?;
        let mut held = None;
        if found.node.has_upper() {
            held = self.hold_last_name(&found.node)?;
            if !pure || whiteout || !remove_if_empty(&dir, name)? {
                if pure {
                    self.check_empty(&found.node)?;
                }
                upper.remove_dir(&dir, name, whiteout)?;
            }
        } else if whiteout {
            upper.add_whiteout(&dir, name.as_os_str())?;
        }
        self.dir_fds.remove(found.node.id());
        found.node.drop_name(parent, name, held);
        Ok(())
    }

    /// Before one of several lower names goes: the file moves to the upper with all its names, so
    /// that its link count is true and its names stay one file.
    pub(super) fn keep_other_names(&self, found: &Found) -> Result<()> {
        let node = &found.node;
        if !found.is_dir() && found.stat.nlink > 1 && !node.has_upper() {
            let lower = self.top_lower(node)?;
            if self.keeps_links(lower) {
                self.copy_up(node, Data::Attributes)?;
            }
        }
        Ok(())
    }

    /// A descriptor that keeps an upper object usable, and its number taken, when its last known
    /// name goes: the kernel may hold it without any handle of ours.
    pub(super) fn hold_last_name(&self, node: &Node) -> Result<Option<Arc<OwnedFd>>> {
        match node.with_state(|s| s.names.len()) {
            0 | 1 => self.place(node)?.hold().map(Some),
            _ => Ok(None),
        }
    }

    /// # Errors
    /// `ENOTEMPTY`
    pub(super) fn check_empty(&self, node: &Arc<Node>) -> Result<()> {
        if self.list(node)?.is_empty() {
            Ok(())
        } else {
            Err(Error::new(Errno::ENOTEMPTY))
        }
    }
}

/// Removes a directory if there is nothing in it on disk; whether that is so.
fn remove_if_empty(dir: &OwnedFd, name: &Name) -> Result<bool> {
    match rustix::fs::unlinkat(dir, name.as_os_str(), AtFlags::REMOVEDIR) {
        Ok(()) => Ok(true),
        Err(RawErrno::NOTEMPTY | RawErrno::EXIST) => Ok(false),
        Err(e) => Err(e.into()),
    }
}
