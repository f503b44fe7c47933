//! The merged tree: lowers, an upper, and the rules by which they are one file system. A file per
//! verb; nothing here knows of FUSE.
//!
//! An object of the upper is always at its merged path in the upper directory. So a [`Node`] needs
//! no handle of its upper part: it knows its names, and directories are reached through a small
//! cache of descriptors, one name at a time.
//!
//! # Locks, in the order in which they are taken
//!
//! 1. `Node::copying`: a node's copy-up; a child's before its parent's. The only lock that is held
//!    while data is copied, or given to the kernel.
//! 2. `Union::tree`: read by every operation that goes by names, written by rename. Taken once per
//!    operation, never while data is copied.
//! 3. `NodeTable`, then `Node::state`; `DirFds`: leaves. Never across a call into a layer or the file
//!    system below.
//!
//! Two operations that change the same directory are kept apart by the kernel, which holds the
//! directory's `i_rwsem`; what remains (aliases in other directories) is safe by the atomicity of
//! the system calls below, each of which fails when its premise has gone.
#![doc = include_str!("SEMANTICS.md")]

mod ahead;
mod attr;
mod copy_up;
mod create;
mod dir_fds;
mod ino;
mod light;
mod link;
mod linked;
mod lookup;
mod names;
mod node;
mod open;
mod place;
mod provenance;
mod read_dir;
mod remove;
mod rename;
mod table;
mod times;
mod upper;
mod view;
mod xattr;

#[cfg(test)]
mod tests;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

pub use attr::{FsStat, SetAttr, SetTime};
pub use create::Special;
pub use ino::Ino;
pub use light::Named;
pub use lookup::Found;
pub use node::{LowerRef, Node, NodeId};
pub use open::{OpenFlags, Opened};
pub use read_dir::{DirEntry, DirList};
pub use rename::RenameFlags;
pub use upper::Upper;
pub use view::Above;

use crate::error::{Errno, Error, Result};
use crate::layer::Layer;
use crate::stat::FileType;
use crate::sync::RwLock;
use dir_fds::DirFds;
use ino::HostFs;
use names::Names;
use table::NodeTable;

/// Who asks: what the protocol knows of the requesting process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Caller {
    /// Its file-system uid.
    pub uid: u32,
    /// Its file-system gid.
    pub gid: u32,
    /// Its process id.
    pub pid: u32,
    /// Its umask; applied to new objects unless the directory has a default ACL.
    pub umask: u32,
    /// Whether files keep setuid and setgid when it changes them, where the protocol tells.
    pub keeps_priv: Option<bool>,
}

impl Caller {
    /// Whether setuid and setgid go when it truncates a file (inode(7), "set-user-ID").
    fn kills_priv(self) -> bool {
        !self.keeps_priv.unwrap_or(self.uid == 0)
    }
}

/// How a union behaves beyond its layers.
#[derive(Default)]
pub struct UnionOptions {
    /// A directory whose file system `statfs` describes when there is no upper.
    pub statfs_dir: Option<OwnedFd>,
    /// Whether a change of attributes alone copies no data (overlayfs's `metacopy=on`).
    pub metacopy: bool,
    /// What renaming a directory that has lower parts does.
    pub redirect: RedirectDir,
    /// Layers below all others, from the top, whose files are seen only through the redirects of
    /// metacopies ("Data-only lower layers").
    pub data_lowers: Vec<Arc<dyn Layer>>,
    /// How many nodes of unchanged objects stay in memory that could be made again ([`NODES_KEPT`]
    /// when not given).
    pub nodes: Option<usize>,
    /// Some layers keep owner, mode and type in an attribute, which is not shown then.
    pub owner_records: bool,
}

/// How many nodes that could be made again are kept in memory unless told otherwise. Each takes about
/// 500 bytes, and making one again costs a lookup in the layers.
pub const NODES_KEPT: usize = 8192;

/// Renamed directories (overlayfs's `redirect_dir`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RedirectDir {
    /// They are renamed, and remember where their lower parts are.
    #[default]
    On,
    /// Redirects that are there count; renaming such a directory fails with `EXDEV`, and programs
    /// copy it.
    Follow,
    /// Redirects that are there don't count either.
    NoFollow,
}

/// A stack of layers as one file system.
pub struct Union {
    /// Top first, the data-only ones last. Immutable.
    lowers: Vec<Arc<dyn Layer>>,
    /// Roots of the data-only ones. Immutable.
    data_roots: Vec<LowerRef>,
    /// Immutable.
    upper: Option<Upper>,
    host_fs: HostFs,
    options: UnionOptions,
    /// Place of the only layer whose numbers lead back to its objects. Immutable.
    indexed: Option<usize>,
    root: Arc<Node>,
    nodes: NodeTable,
    dir_fds: DirFds,
    names: Names,
    tree: RwLock<()>,
    /// How many objects have come into the upper.
    copy_ups: AtomicU64,
}

impl Union {
    /// Puts layers together: `lowers` from the top, and the upper if changes are to be possible.
    ///
    /// A new, empty upper takes the attributes of the root of the lowers.
    ///
    /// # Errors
    /// `EINVAL` without any layer; what the layers and the upper's file system report.
    pub fn new(
        mut lowers: Vec<Arc<dyn Layer>>,
        upper: Option<Upper>,
        mut options: UnionOptions,
    ) -> Result<Arc<Self>> {
        if lowers.is_empty() && upper.is_none() {
            return Err(Error::with(Errno::EINVAL, "a union needs a layer"));
        }
        let mut lower = Vec::new();
        for (place, layer) in lowers.iter().enumerate() {
            lower.push(LowerRef::adopt(layer, place, layer.root()?.node));
        }
        let merged = lowers.len();
        lowers.append(&mut options.data_lowers);
        let mut data_roots = Vec::new();
        for (place, layer) in lowers.iter().enumerate().skip(merged) {
            data_roots.push(LowerRef::adopt(layer, place, layer.root()?.node));
        }
        let root = Arc::new(Node::root(lower.into(), upper.is_some()));
        let mut indexed = (0..lowers.len()).filter(|place| {
            let layer = lowers.get(*place);
            layer.is_some_and(|layer| layer.is_indexed())
        });
        let indexed = indexed.next().filter(|_| indexed.next().is_none());
        let kept = options.nodes.unwrap_or(NODES_KEPT);
        let device = upper.as_ref().map(Upper::device).transpose()?;
        let union = Self {
            host_fs: HostFs::new(device, &lowers),
            lowers,
            data_roots,
            upper,
            options,
            indexed,
            nodes: NodeTable::new(Arc::clone(&root), kept),
            root,
            dir_fds: DirFds::default(),
            names: Names::default(),
            tree: RwLock::new(()),
            copy_ups: AtomicU64::new(0),
        };
        union.adopt_root()?;
        Ok(Arc::new(union))
    }

    /// The root directory.
    #[must_use]
    pub fn root(&self) -> Arc<Node> {
        Arc::clone(&self.root)
    }

    /// The node that the kernel calls by this number.
    ///
    /// # Errors
    /// `ESTALE` when there is none.
    pub fn get(&self, id: NodeId) -> Result<Arc<Node>> {
        match self.nodes.get(id) {
            Some(node) => Ok(node),
            None => self.recall(id),
        }
    }

    /// Whether the kernel has references on a node, or it is in use.
    #[must_use]
    pub fn has(&self, id: NodeId) -> bool {
        self.nodes.has(id)
    }

    /// Says that the kernel gives back `count` references of a node.
    pub fn forget(&self, id: NodeId, count: u64) {
        for gone in self.nodes.forget(id, count) {
            self.dir_fds.remove(gone);
            self.names.forget(gone);
        }
    }

    /// Gives a regular file that the kernel calls `id` another number; `false` when it has one
    /// already. Under the old one it can be reached until the kernel forgets that.
    pub fn renumber(&self, node: &Arc<Node>, id: NodeId) -> bool {
        node.kind() == FileType::Regular && self.nodes.renumber(node, id)
    }

    /// How many nodes are in memory.
    #[must_use]
    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// Whether nothing can be changed.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.upper.as_ref().is_none_or(Upper::is_read_only)
    }

    /// The upper, for an operation that changes something.
    fn writable(&self) -> Result<&Upper> {
        match &self.upper {
            Some(upper) if !upper.is_read_only() => Ok(upper),
            _ => Err(Error::new(Errno::EROFS)),
        }
    }

    /// The same, for a change of this node: of the lowers alone nothing changes.
    fn writable_for(&self, node: &Node) -> Result<&Upper> {
        match node.is_in_view() {
            true => Err(Error::new(Errno::EROFS)),
            false => self.writable(),
        }
    }
}
