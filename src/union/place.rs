//! Where a node's upper part is.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::OFlags;

use super::{Node, Union};
use crate::error::{Errno, Error, Result};
use crate::layer::place::{Place, open_beneath};

impl Union {
    /// Where a node's upper part is. The tree lock is held.
    pub(super) fn place(&self, node: &Node) -> Result<Place> {
        if node.is_root() {
            return Ok(Place::Held(self.dir_fd(node)?));
        }
        let (index, link, held) =
            node.with_state(|s| (s.index.clone(), s.names.first().cloned(), s.held.clone()));
        if let (Some(entry), Some(upper)) = (index, &self.upper)
            && let Some(index) = upper.link_index()
        {
            return Ok(index.place(&entry));
        }
        match (link, held) {
            (Some(link), _) => Ok(Place::Named(self.dir_fd(&link.parent)?, link.name)),
            (None, Some(held)) => Ok(Place::Held(held)),
            (None, None) => Err(Error::with(
                Errno::ESTALE,
                "an unlinked object that isn't held",
            )),
        }
    }

    /// A descriptor (`O_PATH`) of an upper directory. The tree lock is held.
    pub(super) fn dir_fd(&self, node: &Node) -> Result<Arc<OwnedFd>> {
        if node.is_root() {
            let upper = self
                .upper
                .as_ref()
                .ok_or_else(|| Error::new(Errno::EROFS))?;
            return Ok(upper.root());
        }
        if let Some(fd) = self.dir_fds.get(node.id()) {
            return Ok(fd);
        }
        let (link, held) = node.with_state(|s| (s.names.first().cloned(), s.held.clone()));
        let Some(link) = link else {
            return held.ok_or_else(|| Error::new(Errno::ENOENT));
        };
        let parent = self.dir_fd(&link.parent)?;
        let fd = Arc::new(open_beneath(
            &parent,
            &link.name,
            OFlags::PATH | OFlags::DIRECTORY,
        )?);
        self.dir_fds.put(node.id(), &fd);
        Ok(fd)
    }
}
