//! Nodes: the objects of the merged tree that the kernel, or another node, holds.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Ino;
use super::times::KeptCtime;
use crate::layer::{Layer, LayerNode, Marks};
use crate::name::{Name, NameBuf};
use crate::stat::FileType;
use crate::sync::{Mutex, MutexGuard};

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
    /// How it is found again when it has left memory, while nothing changes. Immutable.
    way_back: WayBack,
    /// What the lowers contribute, top first; one entry at most unless this is a directory.
    lower: Box<[LowerRef]>,
    state: Mutex<State>,
    /// Held while this node is copied up, by who needs its data to stay a lower's, and while a
    /// directory gets what was copied up.
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
    /// The ctime of before it was copied up.
    pub kept_ctime: Option<Box<KeptCtime>>,
    /// How often it was changed on purpose: who keeps a ctime looks at it.
    pub changes: u32,
    /// Whether its copy is being given its names.
    pub publishing: bool,
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
    pub(super) fn new(id: NodeId, found: Identity) -> Self {
        let state = State {
            upper: found.upper,
            metacopy: found.metacopy,
            index: found.index,
            names: found.home.into_iter().collect(),
            xattrs: found.xattrs,
            ..State::default()
        };
        Self {
            id: AtomicU64::new(id.0),
            ino: found.ino,
            kind: found.kind,
            way_back: found.way_back,
            lower: found.lower,
            state: Mutex::new(state),
            copying: Mutex::new(()),
        }
    }

    pub(super) fn root(lower: Box<[LowerRef]>, upper: bool) -> Self {
        let state = State {
            upper,
            ..State::default()
        };
        Self {
            id: AtomicU64::new(NodeId::ROOT.0),
            ino: Ino::ROOT,
            kind: FileType::Directory,
            way_back: WayBack::None,
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
        self.id().0 >= super::table::FIRST_SPARE
    }

    pub(super) fn set_id(&self, id: NodeId) {
        self.id.store(id.0, Ordering::Release);
    }

    pub(super) fn way_back(&self) -> WayBack {
        self.way_back
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

    /// Keeps it from being copied up, unless that is going on, or somebody else keeps it.
    pub fn try_keep_lower(&self) -> Option<MutexGuard<'_, ()>> {
        self.copying.try_lock()
    }

    /// The same, after waiting for them.
    pub fn keep_lower(&self) -> MutexGuard<'_, ()> {
        self.copying.lock()
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

    /// The directory of one of them.
    #[must_use]
    pub fn known_parent(&self) -> Option<NodeId> {
        self.state.lock().names.first().map(|l| l.parent.id())
    }

    /// One of its names, in that directory.
    #[must_use]
    pub fn known_name(&self) -> Option<(NodeId, NameBuf)> {
        let state = self.state.lock();
        let link = state.names.first()?;
        Some((link.parent.id(), link.name.clone()))
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

    /// Its only name, when nothing has changed since it was found and it can be found again.
    pub(super) fn home_as_found(&self) -> Option<Link> {
        let state = self.state.lock();
        let still = !state.upper && !state.removed && state.index.is_none() && state.held.is_none();
        match state.names.as_slice() {
            [home] if still && self.id().0 == self.ino.0 => Some(home.clone()),
            _ => None,
        }
    }

    /// Another object has come under its number: it is unlinked, in the upper, and nothing kept the
    /// number.
    pub(super) fn has_lost_its_number(&self) -> bool {
        let state = self.state.lock();
        state.removed && state.upper && state.held.is_none()
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

/// How an object that nobody has changed is found again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum WayBack {
    /// It has to stay in memory.
    #[default]
    None,
    /// By its number: the only indexed layer leads from it to the object, and to its directory.
    Number,
    /// By the only name that it has, in its directory: no directory itself.
    Name,
}

/// A node to be put into the table, or found there.
pub(super) struct Identity {
    pub ino: Ino,
    pub kind: FileType,
    pub lower: Box<[LowerRef]>,
    pub upper: bool,
    pub metacopy: bool,
    pub index: Option<NameBuf>,
    /// How it is found again when it has left memory.
    pub way_back: WayBack,
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
            way_back: WayBack::None,
            home: None,
            xattrs: Xattrs::NoCapabilities,
        }
    }
}
