//! Directory listings: a snapshot per opened directory, so that cursors stay right while entries
//! come and go.

use std::collections::HashSet;
use std::sync::Arc;

use rustix::fs::AtFlags;

use super::upper::is_whiteout;
use super::{Ino, Node, Union};
use crate::error::Result;
use crate::layer::place::stat_from;
use crate::name::Name;
use crate::stat::FileType;

/// A directory's entries at one moment, without `.` and `..`.
#[derive(Debug, Default)]
pub struct DirList {
    /// All names, one after the other.
    names: Vec<u8>,
    items: Vec<Item>,
}

#[derive(Debug)]
struct Item {
    /// End of the name in `names`; it starts where the one before ends.
    end: u32,
    kind: FileType,
    ino: Option<Ino>,
}

/// One entry of a listing.
#[derive(Debug, Clone, Copy)]
pub struct DirEntry<'a> {
    /// The name.
    pub name: &'a Name,
    /// The type.
    pub kind: FileType,
    /// The number; `None` where it takes a look at the object ([`Union::entry_ino`]).
    pub ino: Option<Ino>,
}

impl DirList {
    /// Number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there are no entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The entry at a place.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<DirEntry<'_>> {
        let item = self.items.get(index)?;
        let start = match index.checked_sub(1) {
            Some(before) => self.items.get(before)?.end,
            None => 0,
        };
        let name = self.names.get(start as usize..item.end as usize)?;
        Some(DirEntry {
            name: Name::from_bytes(name).ok()?,
            kind: item.kind,
            ino: item.ino,
        })
    }

    /// All entries.
    pub fn iter(&self) -> impl Iterator<Item = DirEntry<'_>> {
        (0..self.len()).filter_map(|i| self.get(i))
    }

    fn push(&mut self, name: &Name, kind: FileType, ino: Option<Ino>) -> Result<()> {
        self.names.extend_from_slice(name.as_bytes());
        let end = u32::try_from(self.names.len()).map_err(|_| crate::error::Errno::EOVERFLOW)?;
        self.items.push(Item { end, kind, ino });
        Ok(())
    }
}

impl Union {
    /// Lists a directory.
    ///
    /// # Errors
    /// `ENOTDIR`; what the layers report.
    pub fn read_dir(&self, node: &Arc<Node>) -> Result<DirList> {
        let _tree = self.tree.read();
        self.list(node)
    }

    /// The tree lock is held.
    pub(super) fn list(&self, node: &Arc<Node>) -> Result<DirList> {
        if !node.is_dir() {
            return Err(crate::error::Errno::ENOTDIR.into());
        }
        let mut list = DirList::default();
        if node.is_removed() {
            return Ok(list);
        }
        let mut seen: HashSet<Box<[u8]>> = HashSet::new();
        let several = node.lower().len() + usize::from(node.has_upper()) > 1;
        if node.has_upper() {
            self.list_upper(node, &mut list, &mut seen, several)?;
        }
        for lower in node.lower() {
            let layer = lower.layer();
            layer.read_dir(lower.node(), &mut |item| {
                if several {
                    let name = item.name.as_bytes();
                    if seen.contains(name) {
                        return Ok(());
                    }
                    seen.insert(name.into());
                }
                match item.kind {
                    None => Ok(()),
                    Some(kind) => {
                        // A merged directory's number is its lowest part's.
                        let plain = node.lower().len() == 1 || kind != FileType::Directory;
                        let ino = plain && layer.host_dev().is_none() && item.ino != 0;
                        list.push(item.name, kind, ino.then_some(Ino(item.ino)))
                    }
                }
            })?;
        }
        Ok(list)
    }

    fn list_upper(
        &self,
        node: &Arc<Node>,
        list: &mut DirList,
        seen: &mut HashSet<Box<[u8]>>,
        several: bool,
    ) -> Result<()> {
        let dir = self.dir_fd(node)?;
        crate::sys::dir::list(&dir, |name, raw, _| {
            if several {
                seen.insert(name.into());
            }
            let name = Name::from_bytes(name)?;
            let kind = match FileType::from_mode(raw.as_raw_mode()) {
                Some(kind) if kind != FileType::CharDevice => kind,
                // A whiteout, or a file system that doesn't tell types.
                _ => {
                    let flags = AtFlags::SYMLINK_NOFOLLOW;
                    let stat = stat_from(&rustix::fs::statat(&dir, name.as_os_str(), flags)?)?;
                    if is_whiteout(&stat) {
                        return Ok(());
                    }
                    stat.kind
                }
            };
            list.push(name, kind, None)
        })
    }
}
