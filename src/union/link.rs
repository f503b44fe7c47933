//! Links, hard and symbolic.

use std::sync::Arc;

use rustix::fs::{AtFlags, CWD};
use rustix::io::Errno as RawErrno;

use super::copy_up::Data;
use super::upper::{UpperEntry, remove_quietly};
use super::{Found, Node, Union};
use crate::error::{Errno, Error, Result};
use crate::layer::place::Place;
use crate::name::Name;
use crate::stat::FileType;

impl Union {
    /// A symbolic link's target.
    ///
    /// # Errors
    /// `EINVAL` when the node is no symbolic link; what the layers report.
    pub fn read_link(&self, node: &Node) -> Result<Vec<u8>> {
        if node.kind() != FileType::Symlink {
            return Err(Error::new(Errno::EINVAL));
        }
        if node.has_upper() {
            let _tree = self.tree.read();
            return self.place(node)?.read_link();
        }
        let lower = self.top_lower(node)?;
        Ok(lower.layer().read_link(lower.node())?.into_vec())
    }

    /// Gives a node another name. The kernel has a further reference on it.
    ///
    /// # Errors
    /// `EPERM` for a directory, `EEXIST`, `EROFS`, `ENOENT` for an unlinked file or in a removed
    /// directory; what the upper's file system reports.
    pub fn link(&self, node: &Arc<Node>, parent: &Arc<Node>, name: &Name) -> Result<Found> {
        let upper = self.writable()?;
        if node.is_dir() {
            return Err(Error::new(Errno::EPERM));
        }
        self.copy_up(node, Data::All)?;
        let _tree = self.tree.read();
        if parent.is_removed() {
            return Err(Error::new(Errno::ENOENT));
        }
        let dir = self.dir_up(parent)?;
        if self.lower_has(parent, name)?
            && !matches!(upper.entry(&dir, name)?, Some(UpperEntry::Whiteout))
        {
            return Err(Error::new(Errno::EEXIST));
        }
        let place = self.place(node)?;
        match place.link_to(&dir, name.as_os_str()) {
            Ok(()) => {}
            Err(RawErrno::EXIST) => {
                let Some(UpperEntry::Whiteout) = upper.entry(&dir, name)? else {
                    return Err(Error::new(Errno::EEXIST));
                };
                let (work, temp) = (upper.work()?, upper.temp_name());
                place.link_to(work, &temp)?;
                let renamed = rustix::fs::renameat(work, &temp, &dir, name.as_os_str());
                if renamed.is_err() {
                    remove_quietly(work, &temp, AtFlags::empty());
                }
                renamed?;
            }
            Err(e) => return Err(e.into()),
        }
        node.add_name(parent, name);
        node.show_own_ctime();
        let stat = self.stat_of(node)?;
        self.nodes.take(node, 1);
        Ok(Found {
            node: Arc::clone(node),
            stat,
        })
    }
}

impl Place {
    fn link_to(
        &self,
        dir: &std::os::fd::OwnedFd,
        name: &std::ffi::OsStr,
    ) -> rustix::io::Result<()> {
        match self {
            Place::Named(from, from_name) => {
                rustix::fs::linkat(from, from_name.as_os_str(), dir, name, AtFlags::empty())
            }
            Place::Held(fd) => {
                let from = crate::sys::fd::magic_path(fd);
                rustix::fs::linkat(CWD, from, dir, name, AtFlags::SYMLINK_FOLLOW)
            }
        }
    }
}
