//! Finding a name: the upper first, then each lower that contributes to the directory, until a
//! whiteout, an opaque directory or a non-directory ends the search.

use std::sync::Arc;

use super::node::Identity;
use super::upper::UpperEntry;
use super::{Ino, LowerRef, Node, Union};
use crate::error::Result;
use crate::layer::{Entry, Marks, NodeEntry};
use crate::name::{Name, NameBuf};
use crate::stat::{FileType, Stat};

/// A node that was found or made, with its attributes.
#[derive(Debug, Clone)]
pub struct Found {
    /// The node.
    pub node: Arc<Node>,
    /// Its attributes.
    pub stat: Stat,
}

/// What the layers say of a name.
pub(super) struct Seen {
    pub identity: Identity,
    pub stat: Stat,
}

impl Union {
    /// Looks up a name and takes a reference of the kernel on what is found; `None` when there is
    /// no such name.
    ///
    /// # Errors
    /// `ENOTDIR` when `parent` is no directory; what the layers report.
    pub fn lookup(&self, parent: &Arc<Node>, name: &Name) -> Result<Option<Found>> {
        let _tree = self.tree.read();
        self.find(parent, name, 1)
    }

    /// Looks up a name without a reference of the kernel. Give it back by `forget(id, 0)`.
    ///
    /// # Errors
    /// As [`Union::lookup`].
    pub fn peek(&self, parent: &Arc<Node>, name: &Name) -> Result<Option<Found>> {
        let _tree = self.tree.read();
        self.find(parent, name, 0)
    }

    /// The tree lock is held.
    pub(super) fn find(
        &self,
        parent: &Arc<Node>,
        name: &Name,
        lookups: u64,
    ) -> Result<Option<Found>> {
        let Some(Seen { identity, stat }) = self.see(parent, name)? else {
            return Ok(None);
        };
        let node = self.nodes.obtain(identity, lookups);
        node.add_name(parent, name);
        Ok(Some(Found { node, stat }))
    }

    /// What the layers have under a name. The tree lock is held.
    pub(super) fn see(&self, parent: &Node, name: &Name) -> Result<Option<Seen>> {
        if !parent.is_dir() {
            return Err(crate::error::Errno::ENOTDIR.into());
        }
        if parent.is_removed() {
            return Ok(None);
        }
        if let Some(upper) = &self.upper
            && parent.has_upper()
        {
            match upper.entry(&self.dir_fd(parent)?, name)? {
                Some(UpperEntry::Whiteout) => return Ok(None),
                Some(UpperEntry::Node { stat, marks }) => {
                    return self.see_upper(parent, name, stat, &marks).map(Some);
                }
                None => {}
            }
        }
        let lower = self.lower_parts(parent.lower(), name)?;
        let Some((first, entry)) = lower.first() else {
            return Ok(None);
        };
        let mut stat = entry.stat;
        let ino = match lower.last() {
            Some((last, bottom)) if stat.is_dir() => self.lower_ino(last, &bottom.stat),
            _ => self.lower_ino(first, &stat),
        };
        stat.ino = ino.0;
        if lower.len() > 1 {
            stat.nlink = 1;
        }
        let lower = lower.into_iter().map(|(l, _)| l).collect();
        let identity = Identity {
            ino,
            kind: stat.kind,
            lower,
            upper: false,
            metacopy: false,
        };
        Ok(Some(Seen { identity, stat }))
    }

    fn see_upper(&self, parent: &Node, name: &Name, mut stat: Stat, marks: &Marks) -> Result<Seen> {
        let mut lower = Vec::new();
        if stat.is_dir() && !marks.opaque {
            lower = match &marks.redirect {
                Some(path) => self.redirected(parent, path)?,
                None => self.lower_parts(parent.lower(), name)?,
            };
            // A file below ends the merge: it is hidden by the directory.
            lower.retain(|(_, e)| e.stat.is_dir());
        } else if marks.metacopy {
            lower = self.data_of(parent, name, marks)?;
            if let Some((_, entry)) = lower.first() {
                stat.blocks = entry.stat.blocks;
            }
        }
        let ino = match lower.last() {
            Some((last, bottom)) if stat.is_dir() => self.lower_ino(last, &bottom.stat),
            _ => self.upper_ino(&stat, marks)?,
        };
        stat.ino = ino.0;
        if stat.is_dir() && !lower.is_empty() {
            // As overlayfs: the number of subdirectories of a merged directory isn't counted.
            stat.nlink = 1;
        }
        let lower = lower.into_iter().map(|(l, _)| l).collect();
        Ok(Seen {
            identity: Identity {
                ino,
                kind: stat.kind,
                lower,
                upper: true,
                metacopy: marks.metacopy,
            },
            stat,
        })
    }

    /// The lower file that has the data of a metacopy: its origin's if that is an image's, else the
    /// one at the redirect or under the same name.
    fn data_of(
        &self,
        parent: &Node,
        name: &Name,
        marks: &Marks,
    ) -> Result<Vec<(LowerRef, NodeEntry)>> {
        if let Some(origin) = marks.origin {
            for (place, layer) in self.lowers.iter().enumerate() {
                if let Some(node) = layer.resolve(origin) {
                    let stat = layer.stat(node)?;
                    let entry = NodeEntry {
                        node,
                        stat,
                        marks: Marks::default(),
                    };
                    return Ok(vec![(LowerRef::adopt(layer, place, node), entry)]);
                }
            }
        }
        let mut parts = match &marks.redirect {
            None => self.lower_parts(parent.lower(), name)?,
            Some(path) => {
                let (dir, last) = match path.iter().rposition(|b| *b == b'/') {
                    Some(at) => path.split_at_checked(at + 1).unwrap_or((path, b"")),
                    None => (&b""[..], &**path),
                };
                let dirs = if dir.is_empty() {
                    parent.lower().to_vec()
                } else if dir == b"/" {
                    self.root.lower().to_vec()
                } else {
                    self.redirected(parent, dir)?
                        .into_iter()
                        .map(|(l, _)| l)
                        .collect()
                };
                self.lower_parts(&dirs, Name::from_bytes(last)?)?
            }
        };
        parts.retain(|(_, e)| e.stat.kind == FileType::Regular);
        Ok(parts)
    }

    /// What the lowers contribute to a name, top first: one object, or several directories.
    pub(super) fn lower_parts(
        &self,
        dirs: &[LowerRef],
        name: &Name,
    ) -> Result<Vec<(LowerRef, NodeEntry)>> {
        let mut name = NameBuf::from(name);
        let mut parts: Vec<(LowerRef, NodeEntry)> = Vec::new();
        for dir in dirs {
            let entry = match dir.layer().lookup(dir.node(), &name)? {
                None => continue,
                Some(Entry::Whiteout) => break,
                Some(Entry::Node(entry)) => entry,
            };
            let lower = dir.child(entry.node);
            let is_dir = entry.stat.is_dir();
            if !is_dir && !parts.is_empty() {
                break;
            }
            let (opaque, redirect) = (entry.marks.opaque, entry.marks.redirect.clone());
            let place = lower.place();
            parts.push((lower, entry));
            if !is_dir || opaque {
                break;
            }
            // A directory that was moved: the layers below have it under another name.
            match redirect {
                Some(path) if path.starts_with(b"/") => {
                    parts.extend(self.lower_dirs_at(self.roots_below(place), &path)?);
                    break;
                }
                Some(sibling) => name = NameBuf::new(&sibling)?,
                None => {}
            }
        }
        Ok(parts)
    }

    fn roots_below(&self, place: usize) -> Vec<LowerRef> {
        self.root
            .lower()
            .iter()
            .filter(|l| l.place() > place)
            .cloned()
            .collect()
    }

    /// The lower directories that an upper directory's redirect names: from the root, or a
    /// sibling's old name.
    fn redirected(&self, parent: &Node, path: &[u8]) -> Result<Vec<(LowerRef, NodeEntry)>> {
        let from = if path.starts_with(b"/") {
            &self.root
        } else {
            parent
        };
        self.lower_dirs_at(from.lower().to_vec(), path)
    }

    fn lower_dirs_at(
        &self,
        mut dirs: Vec<LowerRef>,
        path: &[u8],
    ) -> Result<Vec<(LowerRef, NodeEntry)>> {
        let mut parts = Vec::new();
        for component in path.split(|b| *b == b'/').filter(|c| !c.is_empty()) {
            parts = self.lower_parts(&dirs, Name::from_bytes(component)?)?;
            parts.retain(|(_, e)| e.stat.is_dir());
            dirs = parts.iter().map(|(l, _)| l.clone()).collect();
        }
        Ok(parts)
    }

    /// Whether a name would be there if the upper had nothing under it.
    pub(super) fn lower_has(&self, parent: &Node, name: &Name) -> Result<bool> {
        Ok(!self.lower_parts(parent.lower(), name)?.is_empty())
    }

    /// The number of a directory entry whose listing doesn't tell it.
    ///
    /// # Errors
    /// As [`Union::lookup`].
    pub fn entry_ino(&self, parent: &Arc<Node>, name: &Name) -> Result<Option<Ino>> {
        let _tree = self.tree.read();
        Ok(self.see(parent, name)?.map(|s| s.identity.ino))
    }

    /// The parent of a directory, with a reference of the kernel (LOOKUP of `..`).
    ///
    /// # Errors
    /// `ESTALE` when the directory has been removed; what the layers report.
    pub fn parent(&self, node: &Arc<Node>) -> Result<Found> {
        let parent = match node.names().into_iter().next() {
            Some(link) => link.parent,
            None if node.is_root() => self.root(),
            None => return Err(crate::error::Errno::ESTALE.into()),
        };
        self.again(&parent)
    }

    /// A known node once more, with a reference of the kernel (LOOKUP of `.`).
    ///
    /// # Errors
    /// What the layers report.
    pub fn again(&self, node: &Arc<Node>) -> Result<Found> {
        let stat = self.getattr(node)?;
        self.nodes.take(node, 1);
        Ok(Found {
            node: Arc::clone(node),
            stat,
        })
    }
}

impl Found {
    /// Whether this is a directory.
    #[must_use]
    pub fn is_dir(&self) -> bool {
        self.stat.kind == FileType::Directory
    }
}
