//! The nodes of a directory layer: a table of (parent, name), counted by reference, so that memory
//! follows what is in use.

use foldhash::HashMap;

use super::LayerNode;
use crate::name::{Name, NameBuf};

/// The root's slot. It is never given back.
pub(super) const ROOT: LayerNode = LayerNode(0);

struct Slot {
    parent: LayerNode,
    name: NameBuf,
    refs: u64,
    how: Listing,
}

/// How a directory's entries are to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Listing {
    /// Empty files with an `overlay.whiteout` attribute are whiteouts (`overlay.opaque` is `x`).
    pub xattr_whiteouts: bool,
    /// It has been listed, and no name in it is one of AUFS's.
    pub no_aufs: bool,
}

#[derive(Default)]
pub(super) struct Slots {
    slots: HashMap<LayerNode, Slot>,
    by_name: HashMap<(LayerNode, NameBuf), LayerNode>,
    last: u64,
}

impl Slots {
    /// The slot of a name, with one more reference.
    pub fn take(&mut self, parent: LayerNode, name: &Name, how: Listing) -> LayerNode {
        let key = (parent, NameBuf::from(name));
        if let Some(&node) = self.by_name.get(&key)
            && let Some(slot) = self.slots.get_mut(&node)
        {
            slot.refs += 1;
            return node;
        }
        self.last += 1;
        let node = LayerNode(self.last);
        self.slots.insert(
            node,
            Slot {
                parent,
                name: name.into(),
                refs: 1,
                how,
            },
        );
        self.by_name.insert(key, node);
        self.retain(parent);
        node
    }

    pub fn retain(&mut self, node: LayerNode) {
        if let Some(slot) = self.slots.get_mut(&node) {
            slot.refs += 1;
        }
    }

    /// Gives a reference back; returns the slots that are gone by it.
    pub fn forget(&mut self, mut node: LayerNode) -> Vec<LayerNode> {
        let mut gone = Vec::new();
        while let Some(slot) = self.slots.get_mut(&node) {
            slot.refs -= 1;
            if slot.refs > 0 {
                break;
            }
            let Some(slot) = self.slots.remove(&node) else {
                break;
            };
            self.by_name.remove(&(slot.parent, slot.name));
            gone.push(node);
            node = slot.parent;
        }
        gone
    }

    /// Where a node is, unless it is the root.
    pub fn link(&self, node: LayerNode) -> Option<(LayerNode, NameBuf)> {
        self.slots.get(&node).map(|s| (s.parent, s.name.clone()))
    }

    /// A listing has come to its end, and no name was one of AUFS's.
    pub fn has_no_aufs(&mut self, dir: LayerNode) {
        if let Some(slot) = self.slots.get_mut(&dir) {
            slot.how.no_aufs = true;
        }
    }

    pub fn listing(&self, node: LayerNode) -> Listing {
        self.slots.get(&node).map(|s| s.how).unwrap_or_default()
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.slots.len()
    }
}
