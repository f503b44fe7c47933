//! Which files the kernel reads and writes by itself (passthrough), and what the others are read
//! from.
//!
//! A nodeid has one I/O mode from its first open handle to its last: passthrough, on one backing
//! file, or cached. The kernel answers EIO to a mixture. So the mode is decided once, here, under one
//! lock, and each further handle follows. A file without open handles goes through; one that has
//! cached handles when it is copied up stays cached.
//!
//! Handles that go through to a lower's file can't follow a copy-up. What would change the file, or
//! is to see a change, is refused ([`Mode::Lower`]), and the name gets another nodeid.

use std::collections::hash_map::Entry;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use foldhash::{HashMap, HashSet};
use lru::LruCache;

use super::policy::Stores;
use crate::layer::Contents;
use crate::sync::Mutex;
use crate::union::{NodeId, Opened};

/// How a transport registers a file that the kernel is to read and write by itself.
pub trait BackingDevice {
    /// A registered file. Dropping it ends the registration; handles that are open stay.
    type Id: Send + Sync + 'static;

    /// Registers a file. One registration serves handles of any access mode.
    ///
    /// # Errors
    /// `EPERM` without CAP_SYS_ADMIN, `ELOOP` when the file is itself on a stacked file system.
    fn open_backing(&self, file: BorrowedFd<'_>) -> io::Result<Self::Id>;
}

/// What cached handles of a node are read from.
#[derive(Clone)]
pub(super) struct Reader {
    pub contents: Contents,
    pub from_upper: bool,
}

impl From<&Opened> for Reader {
    fn from(opened: &Opened) -> Self {
        Self {
            contents: opened.contents.clone(),
            from_upper: opened.from_upper,
        }
    }
}

/// Whose file is passed through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Lower,
    Upper,
}

/// A file, registered to be passed through.
pub(super) struct Offer<I> {
    pub id: I,
    pub side: Side,
}

/// A node's mode, as a new handle finds it.
pub(super) enum Mode<I> {
    Passthrough(Arc<I>),
    /// The node's handles go through to a lower's file, and this one is to write: it was not added.
    Lower,
    /// Whether the pages that the kernel has of the file are still right.
    Cached {
        pages_valid: bool,
    },
}

/// The I/O modes of all nodes that have open handles.
pub(super) struct Modes<I>(Mutex<Table<I>>);

struct Table<I> {
    open: HashMap<NodeId, Open<I>>,
    /// Nodes that have, or had, a passthrough handle, until they are forgotten.
    passed: HashMap<NodeId, Stores>,
    /// Nodes whose contents the kernel was given, or is to ask for, until they are forgotten.
    given: HashSet<NodeId>,
    /// Whose host files are open for cached handles.
    files: LruCache<NodeId, ()>,
}

/// How many host files are kept open to be read from. The limit may be 1,024 descriptors, and what is
/// open in the mount has no limit: who falls out is opened again at the next read.
const KEPT: NonZeroUsize = NonZeroUsize::new(256).expect("not zero");

struct Open<I> {
    handles: usize,
    by: By<I>,
}

enum By<I> {
    Kernel(Arc<I>, Side),
    Us(Option<Reader>),
}

/// What a handle is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    /// Nothing is read through it, and so nothing mapped.
    Write,
    ReadWrite,
}

impl Access {
    /// Whether the contents can be changed through such a handle without a request.
    fn stores(self) -> Stores {
        match self {
            Access::ReadWrite => Stores::Unseen,
            Access::Read | Access::Write => Stores::Seen,
        }
    }
}

impl<I> Default for Modes<I> {
    fn default() -> Self {
        Self(Mutex::new(Table {
            open: HashMap::default(),
            passed: HashMap::default(),
            given: HashSet::default(),
            files: LruCache::new(KEPT),
        }))
    }
}

impl<I> Modes<I> {
    /// Whether the next handle decides the node's mode.
    pub fn is_free(&self, node: NodeId) -> bool {
        !self.0.lock().open.contains_key(&node)
    }

    /// Whether a node's handles go through to a lower's file.
    pub fn is_lower(&self, node: NodeId) -> bool {
        let table = self.0.lock();
        let open = table.open.get(&node);
        open.is_some_and(|open| matches!(open.by, By::Kernel(_, Side::Lower)))
    }

    /// Whether a node's handles, if it has any, go through to the upper's file.
    pub fn is_upper_or_free(&self, node: NodeId) -> bool {
        let table = self.0.lock();
        let open = table.open.get(&node);
        open.is_none_or(|open| matches!(open.by, By::Kernel(_, Side::Upper)))
    }

    /// Whether the next handle of a node is read by the kernel itself, if its file can be.
    pub fn may_pass(&self, node: NodeId) -> bool {
        let table = self.0.lock();
        let open = table.open.get(&node);
        open.is_none_or(|open| matches!(open.by, By::Kernel(..)))
    }

    /// Adds a handle. `offer` is the node's file, registered, if it can be passed through; `reader`
    /// what the handle can be read from; `access` what it is for.
    pub fn attach(
        &self,
        node: NodeId,
        offer: Option<Offer<I>>,
        reader: Option<Reader>,
        access: Access,
    ) -> Mode<I> {
        // Dropped after the lock: to end a registration is a system call.
        let _refused;
        let _dropped;
        let mut table = self.0.lock();
        let table = &mut *table;
        let open = match table.open.entry(node) {
            Entry::Occupied(open) => {
                _refused = offer;
                open.into_mut()
            }
            Entry::Vacant(free) => {
                _refused = None;
                let by = match offer {
                    Some(offer) => By::Kernel(Arc::new(offer.id), offer.side),
                    None => By::Us(None),
                };
                free.insert(Open { handles: 0, by })
            }
        };
        if access != Access::Read && matches!(open.by, By::Kernel(_, Side::Lower)) {
            return Mode::Lower;
        }
        open.handles += 1;
        let stores = access.stores();
        match &mut open.by {
            By::Kernel(id, _) => {
                _dropped = None;
                let id = Arc::clone(id);
                let known = table.passed.entry(node).or_insert(stores);
                if stores == Stores::Unseen {
                    *known = stores;
                }
                Mode::Passthrough(id)
            }
            By::Us(current) => {
                let is_file = reader.as_ref().is_some_and(Reader::is_file);
                if let Some(reader) = reader {
                    improve(current, reader);
                }
                _dropped = is_file.then(|| table.keep(node));
                let pages_valid = !table.passed.contains_key(&node);
                Mode::Cached { pages_valid }
            }
        }
    }

    /// Adds a handle to read a file whose contents were given, of which the kernel still has the
    /// right pages; `false` for any other.
    pub fn attach_given(&self, node: NodeId) -> bool {
        let mut table = self.0.lock();
        if !table.given.contains(&node) || table.passed.contains_key(&node) {
            return false;
        }
        let fresh = || Open {
            handles: 0,
            by: By::Us(None),
        };
        let open = table.open.entry(node).or_insert_with(fresh);
        let ours = matches!(open.by, By::Us(_));
        open.handles += usize::from(ours);
        ours
    }

    /// Takes a handle away.
    pub fn detach(&self, node: NodeId) {
        let mut table = self.0.lock();
        let Some(open) = table.open.get_mut(&node) else {
            return;
        };
        open.handles -= 1;
        let last = if open.handles == 0 {
            table.files.pop(&node);
            table.open.remove(&node)
        } else {
            None
        };
        drop(table);
        drop(last);
    }

    /// What cached handles of a node are read from, if it has any and it is at hand.
    pub fn reader(&self, node: NodeId) -> Option<Reader> {
        let mut table = self.0.lock();
        table.files.promote(&node);
        match &table.open.get(&node)?.by {
            By::Us(reader) => reader.clone(),
            By::Kernel(..) => None,
        }
    }

    /// What cached handles of a node are read from, from now on: the upper, if it was copied up.
    pub fn set_reader(&self, node: NodeId, reader: Reader) {
        let mut table = self.0.lock();
        let is_file = reader.is_file();
        if let Some(open) = table.open.get_mut(&node)
            && let By::Us(current) = &mut open.by
        {
            improve(current, reader);
            let dropped = is_file.then(|| table.keep(node));
            drop(table);
            drop(dropped);
        }
    }

    /// Whether a node's contents can change unseen.
    pub fn stores(&self, node: NodeId) -> Stores {
        let table = self.0.lock();
        table.passed.get(&node).copied().unwrap_or(Stores::Seen)
    }

    /// Whether the kernel can be given a node's contents: that was not tried yet, nobody has it open,
    /// and so nobody waits for one of its pages.
    pub fn wants_contents(&self, node: NodeId) -> bool {
        let table = self.0.lock();
        let known = table.passed.contains_key(&node) || table.given.contains(&node);
        !known && !table.open.contains_key(&node)
    }

    /// The kernel has got them, or is to ask for what takes longer to read.
    pub fn contents_given(&self, node: NodeId) {
        self.0.lock().given.insert(node);
    }

    /// The node is gone.
    pub fn forget(&self, node: NodeId) {
        let mut table = self.0.lock();
        table.passed.remove(&node);
        table.given.remove(&node);
    }

    /// Number of nodes with open handles.
    pub fn len(&self) -> usize {
        self.0.lock().open.len()
    }
}

impl<I> Table<I> {
    /// A node has a file open; the one that has not been used for longest may lose its own.
    fn keep(&mut self, node: NodeId) -> Option<Reader> {
        let (old, ()) = self.files.push(node, ())?;
        match &mut self.open.get_mut(&old)?.by {
            By::Us(reader) if old != node => reader.take(),
            _ => None,
        }
    }
}

impl Reader {
    fn is_file(&self) -> bool {
        matches!(self.contents, Contents::File(_))
    }
}

/// The upper's file replaces the lower's, never the other way round.
fn improve(current: &mut Option<Reader>, reader: Reader) {
    match current {
        Some(known) if known.from_upper || !reader.from_upper => {}
        _ => *current = Some(reader),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(from_upper: bool) -> Option<Reader> {
        let file = Arc::new(tempfile::tempfile().unwrap());
        Some(Reader {
            contents: Contents::File(file),
            from_upper,
        })
    }

    const NODE: NodeId = NodeId(7);

    #[expect(clippy::unnecessary_wraps, reason = "what attach takes")]
    fn offer(id: u32, side: Side) -> Option<Offer<u32>> {
        Some(Offer { id, side })
    }

    #[test]
    fn who_writes_is_kept_from_a_lower_file() {
        let modes = Modes::<u32>::default();
        let lower = || offer(1, Side::Lower);
        assert!(modes.may_pass(NODE) && !modes.is_lower(NODE));
        let mode = modes.attach(NODE, lower(), reader(false), Access::Read);
        assert!(matches!(mode, Mode::Passthrough(id) if *id == 1));
        assert!(modes.may_pass(NODE) && modes.is_lower(NODE));
        for access in [Access::Write, Access::ReadWrite] {
            let mode = modes.attach(NODE, offer(2, Side::Upper), reader(true), access);
            assert!(matches!(mode, Mode::Lower));
        }
        // Who reads reads on; the refused ones are not counted.
        let mode = modes.attach(NODE, None, reader(true), Access::Read);
        assert!(matches!(mode, Mode::Passthrough(id) if *id == 1));
        modes.detach(NODE);
        modes.detach(NODE);
        assert!(!modes.is_lower(NODE));
        let mode = modes.attach(NODE, offer(2, Side::Upper), reader(true), Access::Write);
        assert!(matches!(mode, Mode::Passthrough(id) if *id == 2));
        assert!(!modes.is_lower(NODE));
    }

    #[test]
    fn few_files_are_kept_open() {
        let modes = Modes::<u32>::default();
        let nodes = (10..10 + 2 * KEPT.get() as u64).map(NodeId);
        for node in nodes.clone() {
            drop(modes.attach(node, None, reader(false), Access::Read));
        }
        let open = || nodes.clone().filter(|n| modes.reader(*n).is_some()).count();
        assert_eq!(open(), KEPT.get());
        assert!(modes.reader(NodeId(10)).is_none(), "the oldest");
        modes.set_reader(NodeId(10), reader(true).unwrap());
        assert!(modes.reader(NodeId(10)).unwrap().from_upper);
        assert_eq!(open(), KEPT.get());
        nodes.clone().for_each(|node| modes.detach(node));
        assert_eq!(open(), 0);
    }

    #[test]
    fn what_was_given_is_opened_without_a_look_until_it_is_passed_through() {
        let modes = Modes::<u32>::default();
        assert!(!modes.attach_given(NODE) && modes.is_free(NODE));
        modes.contents_given(NODE);
        assert!(modes.attach_given(NODE) && modes.attach_given(NODE));
        let mode = modes.attach(NODE, offer(1, Side::Upper), reader(true), Access::Write);
        assert!(matches!(mode, Mode::Cached { pages_valid: true }));
        (0..3).for_each(|_| modes.detach(NODE));
        assert!(modes.is_free(NODE));
        let mode = modes.attach(NODE, offer(1, Side::Upper), reader(true), Access::Write);
        assert!(matches!(mode, Mode::Passthrough(_)));
        assert!(!modes.attach_given(NODE));
        modes.detach(NODE);
        assert!(!modes.attach_given(NODE), "its pages are old");
        modes.forget(NODE);
        modes.contents_given(NODE);
        assert!(modes.attach_given(NODE));
    }

    #[test]
    fn a_node_keeps_its_mode_until_its_last_handle() {
        let modes = Modes::<u32>::default();
        let mode = modes.attach(NODE, None, reader(false), Access::Read);
        assert!(matches!(mode, Mode::Cached { pages_valid: true }));
        // Copied up while a cached handle is open: stays cached, read from the upper.
        let mode = modes.attach(NODE, offer(1, Side::Upper), reader(true), Access::ReadWrite);
        assert!(matches!(mode, Mode::Cached { pages_valid: true }));
        assert!(modes.reader(NODE).unwrap().from_upper);
        assert_eq!(modes.stores(NODE), Stores::Seen);
        modes.detach(NODE);
        assert!(!modes.is_free(NODE));
        modes.detach(NODE);
        assert!(modes.is_free(NODE));
        // From here on it goes through, always on the first registration.
        for id in [2, 3] {
            let mode = modes.attach(NODE, offer(id, Side::Upper), reader(true), Access::Read);
            assert!(matches!(mode, Mode::Passthrough(id) if *id == 2));
        }
        assert_eq!(modes.stores(NODE), Stores::Seen);
        drop(modes.attach(NODE, None, None, Access::ReadWrite));
        (0..3).for_each(|_| modes.detach(NODE));
        assert_eq!(modes.stores(NODE), Stores::Unseen, "until forgotten");
        let mode = modes.attach(NODE, None, reader(true), Access::Read);
        assert!(matches!(mode, Mode::Cached { pages_valid: false }));
        modes.forget(NODE);
        assert_eq!(modes.stores(NODE), Stores::Seen);
    }
}
