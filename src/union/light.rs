//! Objects that nobody has changed, and that the kernel holds in great numbers. All that is to be known
//! of an image's is in the layer's index, so what stays in memory is how many references the kernel has:
//! four bytes. A file of a directory layer takes its directory and its name besides, about 70 bytes.
//! The [`Node`] is made anew when it is asked for.

use std::sync::Arc;

use foldhash::HashMap;

use super::lookup::{CopyUps, Found, Seen};
use super::node::{Identity, Link, WayBack, Xattrs};
use super::{Ino, LowerRef, Node, NodeId, Union};
use crate::error::{Errno, Error, Result};
use crate::layer::Entry;
use crate::name::{Name, NameBuf};
use crate::stat::Stat;

/// A name that was found: the kernel has one reference more on its node.
#[derive(Debug, Clone, Copy)]
pub struct Named {
    /// The node.
    pub id: NodeId,
    /// Its attributes, with the real `st_ino`.
    pub stat: Stat,
}

impl Union {
    /// Looks up a name for the kernel, which gets a reference on what is found; `None` when there is
    /// no such name. Makes no [`Node`] where it can do without.
    ///
    /// # Errors
    /// As [`Union::lookup`].
    pub fn lookup_name(&self, parent: &Arc<Node>, name: &Name) -> Result<Option<Named>> {
        let _tree = self.tree.read();
        let since = self.copy_ups();
        if let Some(dir) = self.pure_dir(parent) {
            let Some(Entry::Node(entry)) = dir.layer().lookup(dir.node(), name)? else {
                return Ok(None);
            };
            let ino = Ino(entry.stat.ino);
            if has_one_name(&entry.stat) && self.noted(ino, since) {
                let id = NodeId(ino.0);
                let stat = entry.stat;
                return Ok(Some(Named { id, stat }));
            }
        }
        let seen = self.see(parent, name)?;
        Ok(seen.map(|seen| self.give((parent, name), seen, since)))
    }

    /// Gives the kernel a reference on what was seen. The tree lock is held.
    pub(super) fn give(&self, at: (&Arc<Node>, &Name), seen: Seen, since: CopyUps) -> Named {
        let Identity { ino, way_back, .. } = seen.identity;
        if way_back == WayBack::Number && self.noted(ino, since) {
            return Named {
                id: NodeId(ino.0),
                stat: seen.stat,
            };
        }
        let Found { node, stat } = self.node_for(at, seen, 1, since);
        Named {
            id: node.id(),
            stat,
        }
    }

    /// Counts a reference on an object without a node, which can't have been copied up since; else
    /// it takes a node.
    fn noted(&self, ino: Ino, since: CopyUps) -> bool {
        if !self.nodes.note(ino) {
            return false;
        }
        let unchanged = since == self.copy_ups();
        if !unchanged {
            self.forget(NodeId(ino.0), 1);
        }
        unchanged
    }

    /// The layer's directory that is all there is of a directory of the merged tree.
    fn pure_dir<'n>(&self, dir: &'n Node) -> Option<&'n LowerRef> {
        let [lower] = dir.lower() else { return None };
        let pure = self.is_at_home(dir, lower) && !dir.has_upper() && !dir.is_removed();
        pure.then_some(lower)
    }

    /// Whether a directory's number is that of its only lower part, whose index leads back to it.
    fn is_at_home(&self, dir: &Node, lower: &LowerRef) -> bool {
        self.indexed == Some(lower.place()) && dir.id().0 == dir.ino().0
    }

    /// How an object of these lowers, found in `parent`, can be found again.
    pub(super) fn way_back(&self, parent: &Node, lower: &[LowerRef], stat: &Stat) -> WayBack {
        let [object] = lower else {
            return WayBack::None;
        };
        match parent.lower() {
            [dir]
                if object.place() == dir.place()
                    && self.is_at_home(parent, dir)
                    && has_one_name(stat) =>
            {
                WayBack::Number
            }
            _ if !stat.is_dir() && has_one_name(stat) => WayBack::Name,
            _ => WayBack::None,
        }
    }

    /// Makes the node again that the kernel has by this number, and its parents.
    ///
    /// # Errors
    /// `ESTALE` when the kernel has none; `EIO` when the index is damaged; what the layers report.
    pub(super) fn recall(&self, id: NodeId) -> Result<Arc<Node>> {
        let stale = || Error::new(Errno::ESTALE);
        if let Some((parent, name)) = self.nodes.parked(id) {
            return self.recall_by_name(id, parent, &name)?.ok_or_else(stale);
        }
        let since = self.copy_ups();
        let place = self.indexed.ok_or_else(stale)?;
        let layer = self.lowers.get(place).ok_or_else(stale)?;
        // From the node up to one that is there, then down again.
        let mut missing = Vec::new();
        let mut at = id;
        let mut parent = loop {
            if let Some(known) = self.nodes.get(at) {
                break known;
            }
            if !self.nodes.is_noted(at) {
                return Err(stale());
            }
            let object = layer.by_ino(at.0)?.ok_or_else(stale)?;
            let (dir, name) = layer.home(object)?.ok_or_else(stale)?;
            missing.push((object, name));
            at = NodeId(layer.stat(dir)?.ino);
        };
        for (object, name) in missing.into_iter().rev() {
            let stat = layer.stat(object)?;
            let identity = Identity {
                ino: Ino(stat.ino),
                kind: stat.kind,
                lower: Box::new([LowerRef::adopt(layer, place, object)]),
                upper: false,
                metacopy: false,
                index: None,
                way_back: WayBack::Number,
                home: Some(Link {
                    parent: Arc::clone(&parent),
                    name: name.clone(),
                }),
                xattrs: Xattrs::Unknown,
            };
            let node = self.nodes.obtain(identity, 0);
            let _tree = self.tree.read();
            self.caught_up(&node, (&parent, &name), false, since);
            parent = node;
        }
        Ok(parent)
    }

    fn recall_by_name(&self, id: NodeId, parent: NodeId, name: &Name) -> Result<Option<Arc<Node>>> {
        let parent = self.get(parent)?;
        let _tree = self.tree.read();
        let since = self.copy_ups();
        let seen = self.see(&parent, name)?;
        let Some(mut seen) = seen.filter(|seen| seen.identity.ino.0 == id.0) else {
            // Whoever has changed what is under the name has made the node.
            return Ok(self.nodes.get(id));
        };
        // A name for a new node only: one that is there may have lost this one since.
        let home = Link {
            parent: Arc::clone(&parent),
            name: NameBuf::from(name),
        };
        seen.identity.home = Some(home);
        let upper = seen.identity.upper;
        let node = self.nodes.obtain(seen.identity, 0);
        self.caught_up(&node, (&parent, name), upper, since);
        Ok(Some(node))
    }
}

/// A directory, or a file with one link.
pub(super) fn has_one_name(stat: &Stat) -> bool {
    stat.is_dir() || stat.nlink == 1
}

/// An object that is found again by its name: the kernel's references (4 bytes), the number of its
/// directory (8 bytes), whether it is known to have no extended attributes (1 byte), and its name, in
/// one allocation.
pub(super) struct Parked(Box<[u8]>);

/// Where the parts are, behind the count.
const PARENT: usize = 4;
const NO_XATTRS: usize = 12;
const NAME: usize = 13;

impl Parked {
    pub fn new(count: u32, home: &Link, xattrs: Xattrs) -> Self {
        let mut bytes = Vec::with_capacity(NAME + home.name.as_bytes().len());
        bytes.extend_from_slice(&count.to_ne_bytes());
        bytes.extend_from_slice(&home.parent.id().0.to_ne_bytes());
        bytes.push(u8::from(xattrs == Xattrs::None));
        bytes.extend_from_slice(home.name.as_bytes());
        Self(bytes.into())
    }

    pub fn has_no_xattrs(&self) -> bool {
        self.0.get(NO_XATTRS).is_some_and(|flag| *flag == 1)
    }

    pub fn count(&self) -> u32 {
        let bytes = self.0.first_chunk().copied();
        u32::from_ne_bytes(bytes.unwrap_or_default())
    }

    pub fn set_count(&mut self, count: u32) {
        if let Some(bytes) = self.0.first_chunk_mut() {
            *bytes = count.to_ne_bytes();
        }
    }

    pub fn parent(&self) -> NodeId {
        let bytes = self.0.get(PARENT..NO_XATTRS);
        let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
        NodeId(u64::from_ne_bytes(bytes.unwrap_or_default()))
    }

    pub fn name(&self) -> Option<NameBuf> {
        let name = Name::from_bytes(self.0.get(NAME..)?);
        Some(NameBuf::from(name.ok()?))
    }
}

/// How many counts are together.
const PAGE: u64 = 1024;

struct Page {
    counts: Box<[u32; PAGE as usize]>,
    used: u32,
}

/// The kernel's references by number. Numbers of an image are close together.
#[derive(Default)]
pub(super) struct Counts(HashMap<u64, Page>);

impl Counts {
    fn slot(id: NodeId) -> (u64, usize) {
        let within = usize::try_from(id.0 % PAGE).unwrap_or(0);
        (id.0 / PAGE, within)
    }

    pub fn of(&self, id: NodeId) -> u32 {
        let (page, within) = Self::slot(id);
        let page = self.0.get(&page);
        page.and_then(|p| p.counts.get(within)).map_or(0, |n| *n)
    }

    pub fn set(&mut self, id: NodeId, count: u32) {
        let (number, within) = Self::slot(id);
        let fresh = || Page {
            counts: Box::new([0; PAGE as usize]),
            used: 0,
        };
        let page = self.0.entry(number).or_insert_with(fresh);
        if let Some(slot) = page.counts.get_mut(within) {
            page.used -= u32::from(*slot > 0);
            page.used += u32::from(count > 0);
            *slot = count;
        }
        if page.used == 0 {
            self.0.remove(&number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leads_back_by_name_is_kept_together() {
        let home = Link {
            parent: Arc::new(Node::root(Box::default(), false)),
            name: NameBuf::new(b"\xff name").unwrap(),
        };
        for xattrs in [Xattrs::None, Xattrs::Unknown] {
            let mut parked = Parked::new(3, &home, xattrs);
            parked.set_count(parked.count() + 1);
            assert_eq!((parked.count(), parked.parent()), (4, NodeId::ROOT));
            assert_eq!(parked.name().unwrap(), home.name);
            assert_eq!(parked.has_no_xattrs(), xattrs == Xattrs::None);
        }
    }

    #[test]
    fn counts_take_memory_while_they_count() {
        let mut counts = Counts::default();
        for id in [1, 5, PAGE - 1, PAGE, 1 << 40] {
            counts.set(NodeId(id), 3);
        }
        assert_eq!(counts.0.len(), 3);
        assert_eq!(counts.of(NodeId(5)), 3);
        assert_eq!((counts.of(NodeId(6)), counts.of(NodeId(1 << 50))), (0, 0));
        counts.set(NodeId(PAGE), 2);
        counts.set(NodeId(PAGE), 0);
        counts.set(NodeId(1 << 40), 0);
        assert_eq!(counts.0.len(), 1);
        for id in [1, 5, PAGE - 1] {
            counts.set(NodeId(id), 0);
        }
        assert!(counts.0.is_empty());
    }
}
