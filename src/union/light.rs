//! Nodes of an image that nobody has changed. All that is to be known of one is in the layer's index,
//! so what stays in memory is how many references the kernel has: four bytes. The [`Node`] is made
//! anew when it is asked for.

use std::collections::HashMap;
use std::sync::Arc;

use super::lookup::Seen;
use super::node::{Identity, Link, Xattrs};
use super::{Ino, LowerRef, Node, NodeId, Union};
use crate::error::{Errno, Error, Result};
use crate::layer::Entry;
use crate::name::Name;
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
        if let Some(dir) = self.pure_dir(parent) {
            let Some(Entry::Node(entry)) = dir.layer().lookup(dir.node(), name)? else {
                return Ok(None);
            };
            let ino = Ino(entry.stat.ino);
            if has_one_name(&entry.stat) && self.nodes.note(ino) {
                let id = NodeId(ino.0);
                let stat = entry.stat;
                return Ok(Some(Named { id, stat }));
            }
        }
        let Some(Seen { identity, stat }) = self.see(parent, name)? else {
            return Ok(None);
        };
        if identity.plain && self.nodes.note(identity.ino) {
            let id = NodeId(identity.ino.0);
            return Ok(Some(Named { id, stat }));
        }
        let node = self.nodes.obtain(identity, 1);
        node.add_name(parent, name);
        Ok(Some(Named {
            id: node.id(),
            stat,
        }))
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

    /// Whether a lower object, found in `parent`, can be found again by its number alone.
    pub(super) fn is_plain(&self, parent: &Node, lower: &[LowerRef], stat: &Stat) -> bool {
        let ([dir], [object]) = (parent.lower(), lower) else {
            return false;
        };
        object.place() == dir.place() && self.is_at_home(parent, dir) && has_one_name(stat)
    }

    /// Makes the node again that the kernel has by this number, and its parents.
    ///
    /// # Errors
    /// `ESTALE` when the kernel has none; `EIO` when the index is damaged.
    pub(super) fn recall(&self, id: NodeId) -> Result<Arc<Node>> {
        let stale = || Error::new(Errno::ESTALE);
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
                plain: true,
                home: Some(Link { parent, name }),
                xattrs: Xattrs::Unknown,
            };
            parent = self.nodes.obtain(identity, 0);
        }
        Ok(parent)
    }
}

/// A directory, or a file with one link.
fn has_one_name(stat: &Stat) -> bool {
    stat.is_dir() || stat.nlink == 1
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
