//! Layers: read-only trees. The union sees a layer only through [`Layer`]; each on-disk form
//! (overlayfs, AUFS, an indexed tar) is decoded once, in here, into [`Entry`] and [`Marks`].

pub mod compare;
pub mod dir;
mod dir_fds;
mod dir_objects;
mod dir_slots;
pub mod format;
pub mod history;
pub mod image;
pub mod objects;
pub mod owner_record;
pub(crate) mod place;
pub mod stack;

use std::fs::File;
use std::sync::Arc;

use crate::content::ReadAt;
use crate::error::Result;
use crate::name::{Name, NameBuf};
use crate::stat::{FileType, Stat, Timespec};

/// A node of one layer, opaque to everyone but that layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LayerNode(pub u64);

/// What names an object of an image for ever: the layer's diffID and the object's ordinal in it.
/// A rebuilt index or a child image gives the same value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StableId {
    /// sha256 of the layer's uncompressed tar.
    pub diff_id: [u8; 32],
    /// Place among the layer's objects, from 0, in the order of the tar.
    pub ordinal: u64,
}

/// What overlayfs's extended attributes say of a node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Marks {
    /// A directory that hides what lower layers have at its place.
    pub opaque: bool,
    /// A directory (or metacopy file) whose lower part is at this path: absolute from the layer's
    /// root when it starts with `/`, else a sibling's name.
    pub redirect: Option<Box<[u8]>>,
    /// A regular file whose data is still in a lower layer.
    pub metacopy: bool,
    /// The object of an image that this one was copied up from.
    pub origin: Option<StableId>,
    /// The object of a host directory that this one was copied up from: `overlay.origin` as it
    /// stands on disk.
    pub host_origin: Option<Box<[u8]>>,
    /// How many names a file that is in the index of links has.
    pub links: Option<LinkCount>,
    /// It is known that there are no extended attributes, these or others.
    pub no_xattrs: bool,
}

/// The number of names that a copied-up file of several names has in the merged tree
/// (`overlay.nlink`), as a difference to what stat(2) says of a real file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkCount {
    /// To the upper's file: right while names of the upper come and go.
    BesideUpper(i32),
    /// To the lower's file: right while a name moves up.
    BesideLower(i32),
}

/// A node with its attributes and marks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeEntry {
    /// The layer's handle of it.
    pub node: LayerNode,
    /// Its attributes.
    pub stat: Stat,
    /// Its marks.
    pub marks: Marks,
}

/// What a layer has under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "it lives on the stack; an allocation for each lookup would cost more"
)]
pub enum Entry {
    /// The name is removed: lower layers' objects of that name are hidden.
    Whiteout,
    /// An object.
    Node(NodeEntry),
}

/// One entry of a directory listing.
#[derive(Debug, Clone, Copy)]
pub struct DirItem<'a> {
    /// The entry's name.
    pub name: &'a Name,
    /// What it is; `None` for a whiteout.
    pub kind: Option<FileType>,
    /// The layer's own inode number of it (0 when unknown).
    pub ino: u64,
}

/// The bytes of a regular file.
#[derive(Clone)]
pub enum Contents {
    /// A whole host file: it can be passed through to the kernel.
    File(Arc<File>),
    /// Something readable at an offset.
    Stored(Arc<dyn ReadAt>),
}

/// A read-only tree.
///
/// Everything a layer says may be cached for ever: a layer does not change while it is mounted.
/// (The upper's `DirLayer` changes, but only through the union that owns it.)
pub trait Layer: Send + Sync {
    /// The root directory.
    ///
    /// # Errors
    /// `EIO` and what the file system below reports.
    fn root(&self) -> Result<NodeEntry>;

    /// What `name` is in directory `dir`; `None` when this layer says nothing of it.
    ///
    /// # Errors
    /// `ENOTDIR` when `dir` is no directory; `EIO` and what the file system below reports.
    fn lookup(&self, dir: LayerNode, name: &Name) -> Result<Option<Entry>>;

    /// Calls `each` for every entry of `dir`, whiteouts included, `.` and `..` excluded, each name
    /// once.
    ///
    /// # Errors
    /// As [`Layer::lookup`]; an error of `each` ends the listing and is returned.
    fn read_dir(
        &self,
        dir: LayerNode,
        each: &mut dyn FnMut(DirItem<'_>) -> Result<()>,
    ) -> Result<()>;

    /// The node's attributes.
    ///
    /// # Errors
    /// `EIO` and what the file system below reports.
    fn stat(&self, node: LayerNode) -> Result<Stat>;

    /// When the object was made (statx(2), `STATX_BTIME`), where the layer knows.
    ///
    /// # Errors
    /// As [`Layer::stat`].
    fn birth_time(&self, _node: LayerNode) -> Result<Option<Timespec>> {
        Ok(None)
    }

    /// A symbolic link's target.
    ///
    /// # Errors
    /// `EINVAL` when the node is no symbolic link.
    fn read_link(&self, node: LayerNode) -> Result<Box<[u8]>>;

    /// One extended attribute's value, by its name in the layer; `None` when there is none.
    ///
    /// # Errors
    /// `EIO` and what the file system below reports.
    fn xattr(&self, node: LayerNode, name: &[u8]) -> Result<Option<Box<[u8]>>>;

    /// The names of all extended attributes.
    ///
    /// # Errors
    /// As [`Layer::xattr`].
    fn xattr_names(&self, node: LayerNode) -> Result<Vec<Box<[u8]>>>;

    /// Opens a regular file for reading.
    ///
    /// # Errors
    /// `EINVAL` when the node is no regular file.
    fn open(&self, node: LayerNode) -> Result<Contents>;

    /// Whether the kernel enforces that nobody can write to the files that [`Layer::open`] gives.
    fn is_guarded(&self) -> bool {
        false
    }

    /// Takes one more reference of `node`. A node that `lookup` has returned has one.
    fn retain(&self, _node: LayerNode) {}

    /// Gives a reference of `node` back; after the last one the node means nothing.
    fn forget(&self, _node: LayerNode) {}

    /// The name of the node that stays, where the layer has such names.
    fn stable_id(&self, _node: LayerNode) -> Option<StableId> {
        None
    }

    /// The blake3 of a regular file's bytes, where the layer knows it without reading them.
    ///
    /// # Errors
    /// `EIO` when the index is damaged.
    fn content_key(&self, _node: LayerNode) -> Result<Option<[u8; 32]>> {
        Ok(None)
    }

    /// The layers that it consists of, bottom first: an image's one by one, a directory itself.
    ///
    /// # Errors
    /// `EIO` when the index of one is gone or damaged.
    fn floors(&self) -> Result<Vec<history::Floor<'_>>> {
        Ok(Vec::new())
    }

    /// The inverse of [`Layer::stable_id`].
    fn resolve(&self, _id: StableId) -> Option<LayerNode> {
        None
    }

    /// The device (`st_dev`) whose inode numbers the layer's stats show; `None` where the numbers
    /// are the layer's own.
    fn host_dev(&self) -> Option<u64> {
        None
    }

    /// Whether inode numbers are the layer's own and lead back to the objects: [`Layer::by_ino`] and
    /// [`Layer::home`] answer.
    fn is_indexed(&self) -> bool {
        false
    }

    /// The object that has this inode number.
    ///
    /// # Errors
    /// `EIO` when the index is damaged.
    fn by_ino(&self, _ino: u64) -> Result<Option<LayerNode>> {
        Ok(None)
    }

    /// The directory and the name of an object that has one name.
    ///
    /// # Errors
    /// `EIO` when the index is damaged.
    fn home(&self, _node: LayerNode) -> Result<Option<(LayerNode, NameBuf)>> {
        Ok(None)
    }

    /// What `overlay.origin` is to say of a copy of this node, where the layer has inodes of its own.
    fn host_origin(&self, _node: LayerNode) -> Option<Box<[u8]>> {
        None
    }

    /// The layer's inode number of the object that an `overlay.origin` names, if it is this layer's.
    fn host_ino(&self, _origin: &[u8]) -> Option<u64> {
        None
    }

    /// All names of a node that has several, as (directory, name); `None` where the layer has no
    /// such list.
    ///
    /// # Errors
    /// `EIO` when the index is damaged.
    fn aliases(&self, _node: LayerNode) -> Result<Option<Vec<(LayerNode, NameBuf)>>> {
        Ok(None)
    }

    /// The path of a directory from the layer's root, as components from the top; `None` where the
    /// layer can't say.
    ///
    /// # Errors
    /// `EIO` when the index is damaged.
    fn dir_path(&self, _dir: LayerNode) -> Result<Option<Vec<NameBuf>>> {
        Ok(None)
    }

    /// Whether the layer's names and values of `*.overlay.*` attributes are plain data (an image's
    /// are; a host directory's steer the union).
    fn overlay_xattrs_are_data(&self) -> bool {
        false
    }
}
