//! Removing names: unlink and rmdir. A whiteout is left only where a lower has the name, so that
//! layers stay reproducible.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::AtFlags;

use super::copy_up::Data;
use super::{Node, Union};
use crate::error::{Errno, Error, Result};
use crate::name::Name;

impl Union {
    /// Removes a name of a file.
    ///
    /// # Errors
    /// `ENOENT`, `EISDIR`, `EROFS`; what the upper's file system reports.
    pub fn unlink(&self, parent: &Arc<Node>, name: &Name) -> Result<()> {
        let upper = self.writable()?;
        let found = self
            .peek(parent, name)?
            .ok_or_else(|| Error::new(Errno::ENOENT))?;
        if found.is_dir() {
            return Err(Error::new(Errno::EISDIR));
        }
        self.keep_other_names(&found.node)?;
        let _tree = self.tree.read();
        self.name_up(&found.node, parent, name)?;
        let dir = self.dir_up(parent)?;
        let whiteout = self.lower_has(parent, name)?;
        let mut held = None;
        if found.node.has_upper() {
            held = self.hold_last_name(&found.node)?;
            if whiteout {
                upper.replace_by_whiteout(&dir, name)?;
            } else {
                rustix::fs::unlinkat(&dir, name.as_os_str(), AtFlags::empty())?;
            }
        } else if whiteout {
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
        self.check_empty(&found.node)?;
        let dir = self.dir_up(parent)?;
        let whiteout = self.lower_has(parent, name)?;
        let mut held = None;
        if found.node.has_upper() {
            held = self.hold_last_name(&found.node)?;
            upper.remove_dir(&dir, name, whiteout)?;
        } else if whiteout {
            upper.add_whiteout(&dir, name.as_os_str())?;
        }
        self.dir_fds.remove(found.node.id());
        found.node.drop_name(parent, name, held);
        Ok(())
    }

    /// Before one of several lower names goes: the file moves to the upper with all its names, so
    /// that its link count is true and its names stay one file.
    pub(super) fn keep_other_names(&self, node: &Arc<Node>) -> Result<()> {
        if !node.has_upper() {
            let lower = self.top_lower(node)?;
            if lower.layer().stat(lower.node())?.nlink > 1 && self.keeps_links(lower) {
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
