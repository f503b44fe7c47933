//! The table of nodes: which of the kernel's numbers stand for what. It keeps in memory what has
//! changed or is in use, and of the rest the newest; of the others it has only what leads back to
//! them, and how many references the kernel has.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use foldhash::HashMap;

use super::Ino;
use super::light::{Counts, Parked};
use super::node::{Identity, Node, NodeId, WayBack, Xattrs};
use crate::name::NameBuf;
use crate::sync::Mutex;

struct Known {
    node: Arc<Node>,
    /// References the kernel holds, and one for each object that is parked in this directory.
    lookups: u64,
}

#[derive(Default)]
struct Table {
    known: HashMap<NodeId, Known>,
    /// Objects whose number was taken when they were found.
    spare: HashMap<Ino, NodeId>,
    next_spare: u64,
    /// Nodes that need not stay in memory, in the order in which they came.
    leaving: VecDeque<NodeId>,
    /// How many of them may stay.
    kept: usize,
    /// References of the kernel on those that are found again by their number.
    noted: Counts,
    /// Those that are found again by their name.
    parked: BTreeMap<NodeId, Parked>,
}

/// What giving back references has led to.
enum Released {
    /// Others are left, or there is no such node.
    Stays,
    /// The node has left the table.
    Gone(Arc<Node>),
    /// There was no node; this directory was kept for it.
    Unparked(NodeId),
}

impl Table {
    /// Takes nodes out that nobody uses, when there are many: two at most, so that no one waits long.
    fn shrink(&mut self) -> [Option<Known>; 2] {
        std::array::from_fn(|_| {
            if self.leaving.len() <= self.kept {
                return None;
            }
            let id = self.leaving.pop_front()?;
            self.let_go(id)
        })
    }

    /// Puts what leads back in the place of a node that can go; one in use waits for its next turn.
    fn let_go(&mut self, id: NodeId) -> Option<Known> {
        let known = self.known.get(&id)?;
        let home = known.node.home_as_found()?;
        let count = u32::try_from(known.lookups).ok()?;
        if Arc::strong_count(&known.node) > 1 {
            self.leaving.push_back(id);
            return None;
        }
        match known.node.way_back() {
            WayBack::None => return None,
            WayBack::Number => self.noted.set(id, count),
            WayBack::Name => {
                // The number of a directory never changes, and a name keeps its directory here.
                let parent = home.parent.id();
                let xattrs = known.node.with_state(|state| state.xattrs);
                self.known.get_mut(&parent)?.lookups += 1;
                self.parked.insert(id, Parked::new(count, &home, xattrs));
            }
        }
        self.known.remove(&id)
    }

    /// The references of the kernel on an object without a node that gets one now.
    fn recalled(&mut self, id: NodeId) -> u64 {
        if let Some(parked) = self.parked.remove(&id) {
            // The node keeps its directory from now on.
            if let Some(parent) = self.known.get_mut(&parked.parent()) {
                parent.lookups = parent.lookups.saturating_sub(1);
            }
            return parked.count().into();
        }
        let noted = self.noted.of(id);
        if noted > 0 {
            self.noted.set(id, 0);
        }
        noted.into()
    }

    fn release(&mut self, id: NodeId, count: u64) -> Released {
        let Some(known) = self.known.get_mut(&id) else {
            return self.release_absent(id, count);
        };
        known.lookups = known.lookups.saturating_sub(count);
        // One reference is the table's; any other is a child's or an operation's, or the table's under
        // a number that was left.
        let left = known.node.id() != id;
        if known.lookups > 0 || (!left && Arc::strong_count(&known.node) > 1) {
            return Released::Stays;
        }
        let Some(known) = self.known.remove(&id) else {
            return Released::Stays;
        };
        if self.spare.get(&known.node.ino()) == Some(&id) {
            self.spare.remove(&known.node.ino());
        }
        Released::Gone(known.node)
    }

    fn release_absent(&mut self, id: NodeId, count: u64) -> Released {
        let less = |held: u32| u32::try_from(u64::from(held).saturating_sub(count)).unwrap_or(held);
        if let Some(parked) = self.parked.get_mut(&id) {
            parked.set_count(less(parked.count()));
            if parked.count() > 0 {
                return Released::Stays;
            }
            let parent = parked.parent();
            self.parked.remove(&id);
            return Released::Unparked(parent);
        }
        let noted = self.noted.of(id);
        if noted > 0 {
            self.noted.set(id, less(noted));
        }
        Released::Stays
    }
}

/// All nodes, by the kernel's number.
pub(super) struct NodeTable(Mutex<Table>);

/// Spare nodeids start here: above every [`Ino`].
pub(super) const FIRST_SPARE: u64 = 1 << 62;

impl NodeTable {
    /// A table that keeps `kept` of the nodes in memory that could leave it.
    pub fn new(root: Arc<Node>, kept: usize) -> Self {
        let mut table = Table {
            next_spare: FIRST_SPARE,
            kept,
            ..Table::default()
        };
        table.known.insert(
            NodeId::ROOT,
            Known {
                node: root,
                lookups: 1,
            },
        );
        Self(Mutex::new(table))
    }

    pub fn len(&self) -> usize {
        self.0.lock().known.len()
    }

    pub fn get(&self, id: NodeId) -> Option<Arc<Node>> {
        self.0.lock().known.get(&id).map(|k| Arc::clone(&k.node))
    }

    /// The node of this identity, made if need be, with `lookups` more references of the kernel.
    pub fn obtain(&self, found: Identity, lookups: u64) -> Arc<Node> {
        let mut table = self.0.lock();
        let mut id = table
            .spare
            .get(&found.ino)
            .copied()
            .unwrap_or(NodeId(found.ino.0));
        if let Some(known) = table.known.get_mut(&id) {
            if known.node.kind() == found.kind && !known.node.has_lost_its_number() {
                known.lookups += lookups;
                return Arc::clone(&known.node);
            }
            id = NodeId(table.next_spare);
            table.next_spare += 1;
            table.spare.insert(found.ino, id);
        }
        let lookups = lookups + table.recalled(id);
        if found.way_back != WayBack::None && id.0 == found.ino.0 {
            table.leaving.push_back(id);
        }
        let node = Arc::new(Node::new(id, found));
        table.known.insert(
            id,
            Known {
                node: Arc::clone(&node),
                lookups,
            },
        );
        // Dropping them calls into their layers.
        let gone = table.shrink();
        drop(table);
        drop(gone);
        node
    }

    /// Counts a reference of the kernel on an object that is found again by its number and has no
    /// node in memory; `false` when it has one.
    pub fn note(&self, ino: Ino) -> bool {
        let mut table = self.0.lock();
        let id = NodeId(ino.0);
        if table.known.contains_key(&id) || table.spare.contains_key(&ino) {
            return false;
        }
        let Some(count) = table.noted.of(id).checked_add(1) else {
            return false;
        };
        table.noted.set(id, count);
        true
    }

    /// Whether the kernel has references on an object that is found again by its number.
    pub fn is_noted(&self, id: NodeId) -> bool {
        self.0.lock().noted.of(id) > 0
    }

    /// The directory and the name of an object that is found again by them.
    pub fn parked(&self, id: NodeId) -> Option<(NodeId, NameBuf)> {
        let table = self.0.lock();
        let parked = table.parked.get(&id)?;
        Some((parked.parent(), parked.name()?))
    }

    /// Whether an object, with or without a node, is known to have no extended attributes.
    pub fn has_no_xattrs(&self, id: NodeId) -> bool {
        let table = self.0.lock();
        let known = table.known.get(&id);
        let known = known.map(|k| k.node.with_state(|s| s.xattrs == Xattrs::None));
        known.unwrap_or_else(|| table.parked.get(&id).is_some_and(Parked::has_no_xattrs))
    }

    /// Whether the kernel has references on a node, or it is in use.
    pub fn has(&self, id: NodeId) -> bool {
        let table = self.0.lock();
        table.known.contains_key(&id) || table.parked.contains_key(&id) || table.noted.of(id) > 0
    }

    /// Adds references to a node; one that had left the table comes back.
    pub fn take(&self, node: &Arc<Node>, lookups: u64) {
        let mut table = self.0.lock();
        let fresh = || Known {
            node: Arc::clone(node),
            lookups: 0,
        };
        table.known.entry(node.id()).or_insert_with(fresh).lookups += lookups;
    }

    /// Gives a node that is still called `id` another number; `false` when it has one already. Under
    /// the old one it can be reached until the kernel forgets that.
    pub fn renumber(&self, node: &Arc<Node>, id: NodeId) -> bool {
        let mut table = self.0.lock();
        if node.id() != id {
            return false;
        }
        let new = NodeId(table.next_spare);
        table.next_spare += 1;
        table.spare.insert(node.ino(), new);
        let known = Known {
            node: Arc::clone(node),
            lookups: 0,
        };
        table.known.insert(new, known);
        node.set_id(new);
        true
    }

    /// Gives back references; returns the nodes that have left the table.
    pub fn forget(&self, id: NodeId, count: u64) -> Vec<NodeId> {
        let mut gone = Vec::new();
        let mut queue = vec![(id, count)];
        while let Some((id, count)) = queue.pop() {
            if id == NodeId::ROOT {
                continue;
            }
            let released = self.0.lock().release(id, count);
            match released {
                Released::Stays => {}
                Released::Unparked(parent) => queue.push((parent, 1)),
                Released::Gone(node) if node.id() != id => {
                    gone.push(id);
                    // A number that it had left: it may have been kept by that alone.
                    queue.push((node.id(), 0));
                }
                Released::Gone(node) => {
                    gone.push(id);
                    // Parents that only this node kept go with it.
                    queue.extend(node.names().into_iter().map(|l| (l.parent.id(), 0)));
                }
            }
        }
        gone
    }
}
