//! Nodes: the objects of the merged tree that the kernel, or another node, holds.

use std::collections::{HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Ino;
use super::light::Counts;
use crate::layer::{Layer, LayerNode, Marks};
use crate::name::{Name, NameBuf};
use crate::stat::FileType;
use crate::sync::Mutex;

/// The kernel's handle of an inode. Equal to `st_ino` but where that number was still taken by an
/// unlinked object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub u64);

impl NodeId {
    /// The root's (`FUSE_ROOT_ID`).
    pub const ROOT: NodeId = NodeId(1);
}

/// An object of one lower: a reference that the layer counts.
pub struct LowerRef {
    layer: Arc<dyn Layer>,
    place: usize,
    node: LayerNode,
}

impl LowerRef {
    /// Takes over a reference that the layer has given. `place` is the layer's in the stack, 0 at
    /// the top.
    pub(super) fn adopt(layer: &Arc<dyn Layer>, place: usize, node: LayerNode) -> Self {
        Self {
            layer: Arc::clone(layer),
            place,
            node,
        }
    }

    /// The layer.
    #[must_use]
    pub fn layer(&self) -> &dyn Layer {
        self.layer.as_ref()
    }

    /// The layer's node.
    #[must_use]
    pub fn node(&self) -> LayerNode {
        self.node
    }

    /// Place of the layer in the stack, 0 at the top.
    #[must_use]
    pub fn place(&self) -> usize {
        self.place
    }

    /// The layer's node of the directory entry below, as a reference of its own.
    pub(super) fn child(&self, node: LayerNode) -> Self {
        Self::adopt(&self.layer, self.place, node)
    }
}

impl Clone for LowerRef {
    fn clone(&self) -> Self {
        self.layer.retain(self.node);
        Self::adopt(&self.layer, self.place, self.node)
    }
}

impl Drop for LowerRef {
    fn drop(&mut self) {
        self.layer.forget(self.node);
    }
}

/// An object of the merged tree.
pub struct Node {
    /// Changes for regular files only: [`Union::renumber`](super::Union::renumber).
    id: AtomicU64,
    ino: Ino,
    kind: FileType,
    /// Whether it can be found again by its number while nothing changes. Immutable.
    plain: bool,
    /// What the lowers contribute, top first; one entry at most unless this is a directory.
    lower: Box<[LowerRef]>,
    state: Mutex<State>,
    /// Held while this node is copied up.
    pub(super) copying: Mutex<()>,
}

/// What changes in a node's life.
#[derive(Default)]
pub(super) struct State {
    /// Whether the object is in the upper.
    pub upper: bool,
    /// Whether the upper file has only attributes; its data is the lower's.
    pub metacopy: bool,
    /// The names by which it has been found and that it still has.
    pub names: Vec<Link>,
    /// Whether its last known name was removed.
    pub removed: bool,
    /// The name in the index of links that the upper object has besides.
    pub index: Option<NameBuf>,
    /// An upper object without a known name: an `O_PATH` descriptor, which also keeps its number
    /// from being used again.
    pub held: Option<Arc<OwnedFd>>,
    /// Whether an upper directory has a default ACL, once that is known.
    pub default_acl: Option<bool>,
    /// What is known of its extended attributes.
    pub xattrs: Xattrs,
}

/// What is known of an object's extended attributes without asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Xattrs {
    #[default]
    Unknown,
    /// It was made here, and was given no file capabilities since: the kernel asks for them at the
    /// first write to each file.
    NoCapabilities,
    /// None are to be seen.
    None,
}

impl Xattrs {
    /// What a lookup has found.
    pub fn of(marks: &Marks) -> Self {
        match marks.no_xattrs {
            true => Xattrs::None,
            false => Xattrs::Unknown,
        }
    }
}

/// One name of a node.
#[derive(Clone)]
pub(super) struct Link {
    pub parent: Arc<Node>,
    pub name: NameBuf,
}

impl Link {
    fn is(&self, parent: &Node, name: &Name) -> bool {
        self.parent.id() == parent.id() && &*self.name == name
    }
}

impl Node {
    pub(super) fn root(lower: Box<[LowerRef]>, upper: bool) -> Self {
        let state = State {
            upper,
            ..State::default()
        };
        Self {
            id: AtomicU64::new(NodeId::ROOT.0),
            ino: Ino::ROOT,
            kind: FileType::Directory,
            plain: false,
            lower,
            state: Mutex::new(state),
            copying: Mutex::new(()),
        }
    }

    /// The kernel's handle.
    #[must_use]
    pub fn id(&self) -> NodeId {
        NodeId(self.id.load(Ordering::Acquire))
    }

    /// Whether the kernel has another number for it than its own: it was taken, or left.
    #[must_use]
    pub fn is_renumbered(&self) -> bool {
        self.id().0 >= FIRST_SPARE
    }

    /// What stat shows.
    #[must_use]
    pub fn ino(&self) -> Ino {
        self.ino
    }

    /// The type. It never changes.
    #[must_use]
    pub fn kind(&self) -> FileType {
        self.kind
    }

    /// Whether this is a directory.
    #[must_use]
    pub fn is_dir(&self) -> bool {
        self.kind == FileType::Directory
    }

    /// What the lowers contribute, top first.
    #[must_use]
    pub fn lower(&self) -> &[LowerRef] {
        &self.lower
    }

    /// Whether the object is in the upper: newly made, or copied up.
    #[must_use]
    pub fn has_upper(&self) -> bool {
        self.state.lock().upper
    }

    /// Whether the object is in the upper with all its data.
    #[must_use]
    pub fn has_upper_data(&self) -> bool {
        let state = self.state.lock();
        state.upper && !state.metacopy
    }

    /// Whether its last known name was removed.
    #[must_use]
    pub fn is_removed(&self) -> bool {
        self.state.lock().removed
    }

    /// The upper object's name in the index of links.
    pub(super) fn index_entry(&self) -> Option<NameBuf> {
        self.state.lock().index.clone()
    }

    pub(super) fn is_root(&self) -> bool {
        self.id() == NodeId::ROOT
    }

    pub(super) fn with_state<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.state.lock())
    }

    /// Its known names, each with its directory.
    #[must_use]
    pub fn known_names(&self) -> Vec<(NodeId, NameBuf)> {
        let names = self.names();
        names.into_iter().map(|l| (l.parent.id(), l.name)).collect()
    }

    pub(super) fn names(&self) -> Vec<Link> {
        self.state.lock().names.clone()
    }

    pub(super) fn add_name(&self, parent: &Arc<Node>, name: &Name) {
        let mut state = self.state.lock();
        state.removed = false;
        if !state.names.iter().any(|l| l.is(parent, name)) {
            state.names.push(Link {
                parent: Arc::clone(parent),
                name: name.into(),
            });
        }
    }

    /// Whether nothing has changed since it was found, and its number is enough to find it again.
    fn is_as_found(&self) -> bool {
        let state = self.state.lock();
        let still = !state.upper && !state.removed && state.index.is_none() && state.held.is_none();
        self.plain && still && state.names.len() == 1 && self.id().0 == self.ino.0
    }

    /// Whether it is an object of the upper alone and has this name.
    pub(super) fn is_new_under(&self, parent: &Node, name: &Name) -> bool {
        let state = self.state.lock();
        let new = state.upper && !state.metacopy && state.index.is_none();
        new && self.lower.is_empty() && state.names.iter().any(|l| l.is(parent, name))
    }

    /// Takes a name away. `held` reaches an upper object that has lost its last known name.
    pub(super) fn drop_name(&self, parent: &Node, name: &Name, held: Option<Arc<OwnedFd>>) {
        let mut state = self.state.lock();
        state.names.retain(|l| !l.is(parent, name));
        if state.names.is_empty() {
            state.removed = true;
            if state.held.is_none() {
                state.held = held;
            }
        }
    }
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "node {} ({:?})", self.id().0, self.kind)
    }
}

/// A node to be put into the table, or found there.
pub(super) struct Identity {
    pub ino: Ino,
    pub kind: FileType,
    pub lower: Box<[LowerRef]>,
    pub upper: bool,
    pub metacopy: bool,
    pub index: Option<NameBuf>,
    /// Whether the number alone is enough to find it again.
    pub plain: bool,
    /// The name of one that is found by its number.
    pub home: Option<Link>,
    pub xattrs: Xattrs,
}

impl Identity {
    /// Of an object that was just made in the upper. Nothing below shows through it, and it has no
    /// marks to be read.
    pub fn made(ino: Ino, kind: FileType) -> Self {
        Self {
            ino,
            kind,
            lower: Box::default(),
            upper: true,
            metacopy: false,
            index: None,
            plain: false,
            home: None,
            xattrs: Xattrs::NoCapabilities,
        }
    }
}

struct Known {
    node: Arc<Node>,
    /// References the kernel holds.
    lookups: u64,
}

#[derive(Default)]
struct Table {
    known: HashMap<NodeId, Known>,
    /// Objects whose number was taken when they were found.
    spare: HashMap<Ino, NodeId>,
    next_spare: u64,
    /// Nodes that need not stay in memory, in the order in which they came.
    plain: VecDeque<NodeId>,
    /// References of the kernel on those that have not stayed.
    noted: Counts,
}

impl Table {
    /// Lets plain nodes go that nobody uses, when there are many: a count stays.
    fn shrink(&mut self) {
        for _ in 0..2 {
            if self.plain.len() <= PLAIN_KEPT {
                return;
            }
            let Some(id) = self.plain.pop_front() else {
                return;
            };
            let Some(known) = self.known.get(&id) else {
                continue;
            };
            if !known.node.is_as_found() {
                continue;
            }
            let count = u32::try_from(known.lookups);
            match count {
                Ok(count) if Arc::strong_count(&known.node) == 1 => {
                    self.known.remove(&id);
                    self.noted.set(id, count);
                }
                _ => self.plain.push_back(id),
            }
        }
    }
}

/// How many plain nodes are kept in memory.
const PLAIN_KEPT: usize = 2048;

/// All nodes in memory, by the kernel's number.
pub(super) struct NodeTable(Mutex<Table>);

/// Spare nodeids start here: above every [`Ino`].
const FIRST_SPARE: u64 = 1 << 62;

impl NodeTable {
    pub fn new(root: Arc<Node>) -> Self {
        let mut table = Table {
            next_spare: FIRST_SPARE,
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
            let same = known.node.kind == found.kind && {
                let state = known.node.state.lock();
                // An unlinked upper object that isn't held may have lost its number to this one.
                !(state.removed && state.upper && state.held.is_none())
            };
            if same {
                known.lookups += lookups;
                return Arc::clone(&known.node);
            }
            id = NodeId(table.next_spare);
            table.next_spare += 1;
            table.spare.insert(found.ino, id);
        }
        let state = State {
            upper: found.upper,
            metacopy: found.metacopy,
            index: found.index,
            names: found.home.into_iter().collect(),
            xattrs: found.xattrs,
            ..State::default()
        };
        let noted = u64::from(table.noted.of(id));
        if noted > 0 {
            table.noted.set(id, 0);
        }
        if found.plain && id.0 == found.ino.0 {
            table.plain.push_back(id);
        }
        let node = Arc::new(Node {
            id: AtomicU64::new(id.0),
            ino: found.ino,
            kind: found.kind,
            plain: found.plain,
            lower: found.lower,
            state: Mutex::new(state),
            copying: Mutex::new(()),
        });
        table.known.insert(
            id,
            Known {
                node: Arc::clone(&node),
                lookups: lookups + noted,
            },
        );
        table.shrink();
        node
    }

    /// Counts a reference of the kernel on an object of an image that has no node in memory; `false`
    /// when it has one.
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

    /// Whether the kernel has references on an object that has no node in memory.
    pub fn is_noted(&self, id: NodeId) -> bool {
        self.0.lock().noted.of(id) > 0
    }

    /// Whether the kernel has references on a node, or it is in use.
    pub fn has(&self, id: NodeId) -> bool {
        let table = self.0.lock();
        table.known.contains_key(&id) || table.noted.of(id) > 0
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
        table.spare.insert(node.ino, new);
        let known = Known {
            node: Arc::clone(node),
            lookups: 0,
        };
        table.known.insert(new, known);
        node.id.store(new.0, Ordering::Release);
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
            let Some(node) = self.release(id, count) else {
                continue;
            };
            gone.push(id);
            if node.id() != id {
                // A number that it had left: it may have been kept by that alone.
                queue.push((node.id(), 0));
                continue;
            }
            // Parents that only this node kept go with it.
            queue.extend(node.names().into_iter().map(|l| (l.parent.id(), 0)));
        }
        gone
    }

    fn release(&self, id: NodeId, count: u64) -> Option<Arc<Node>> {
        let mut table = self.0.lock();
        let Some(known) = table.known.get_mut(&id) else {
            let left = u64::from(table.noted.of(id)).saturating_sub(count);
            table.noted.set(id, u32::try_from(left).unwrap_or(u32::MAX));
            return None;
        };
        known.lookups = known.lookups.saturating_sub(count);
        // One reference is the table's; any other is a child's or an operation's, or the table's under
        // a number that was left.
        let left = known.node.id() != id;
        if known.lookups > 0 || (!left && Arc::strong_count(&known.node) > 1) {
            return None;
        }
        let known = table.known.remove(&id)?;
        if table.spare.get(&known.node.ino) == Some(&id) {
            table.spare.remove(&known.node.ino);
        }
        Some(known.node)
    }
}
