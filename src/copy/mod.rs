//! Trees in and out as tar streams: `export` and `cp`.
//!
//! ```text
//!    a Tree --pack--> tar --unpack--> a TreeMut       in two threads; or one end is a stream
//! ```
//!
//! A [`Tree`] is a merged tree ([`MergedTree`]) or a directory of the host ([`HostTree`]); both are
//! walked one name at a time, so that no link leads out of them. What a path means, links included,
//! is said once, in [`walk`]; what `cp SOURCE DESTINATION` means, in [`rules`].

pub mod channel;
pub mod host;
pub mod merged;
pub mod pack;
pub mod rules;
pub mod unpack;
pub mod walk;

pub use host::HostTree;
pub use merged::MergedTree;
pub use pack::pack;
pub use rules::CopyOptions;
pub use unpack::{Unpacked, unpack};
pub use walk::{Links, Walk};

use std::fs::File;

use crate::error::Result;
use crate::layer::Contents;
use crate::name::{Name, NameBuf};
use crate::stat::{Stat, Timespec};
use crate::tar::MemberKind;

/// Extended attributes: names and values.
pub type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// A tree that can be read.
pub trait Tree: Sync {
    /// An object of the tree. It stays the same object when its name changes.
    type Node: Clone + Send + Sync;

    /// The root directory.
    fn root(&self) -> Self::Node;

    /// An object's attributes.
    ///
    /// # Errors
    /// What the file system below reports.
    fn stat(&self, node: &Self::Node) -> Result<Stat>;

    /// What a directory has under a name, links not followed; `None` when there is nothing.
    ///
    /// # Errors
    /// `ENOTDIR`; what the file system below reports.
    fn find(&self, dir: &Self::Node, name: &Name) -> Result<Option<Self::Node>>;

    /// The names in a directory, sorted.
    ///
    /// # Errors
    /// As [`Tree::find`].
    fn names(&self, dir: &Self::Node) -> Result<Vec<NameBuf>>;

    /// A symbolic link's target.
    ///
    /// # Errors
    /// What the file system below reports.
    fn read_link(&self, node: &Self::Node) -> Result<Vec<u8>>;

    /// All extended attributes, sorted by name.
    ///
    /// # Errors
    /// What the file system below reports.
    fn xattrs(&self, node: &Self::Node) -> Result<Xattrs>;

    /// Opens a regular file for reading.
    ///
    /// # Errors
    /// What the file system below reports.
    fn open(&self, node: &Self::Node) -> Result<Contents>;

    /// What tells objects with several names apart: device and number.
    ///
    /// # Errors
    /// What the file system below reports.
    fn id(&self, _node: &Self::Node, stat: &Stat) -> Result<(u64, u64)> {
        Ok((0, stat.ino))
    }

    /// Says that an object is not needed any more.
    fn release(&self, _node: &Self::Node) {}
}

/// A tree that can be changed.
pub trait TreeMut: Tree {
    /// Makes an object under a free name: not a hard link; a regular file empty.
    ///
    /// # Errors
    /// `EEXIST`; what the file system below reports.
    fn make(&self, dir: &Self::Node, name: &Name, kind: &MemberKind) -> Result<Self::Node>;

    /// Gives an object one more name.
    ///
    /// # Errors
    /// `EEXIST`; what the file system below reports.
    fn link(&self, node: &Self::Node, dir: &Self::Node, name: &Name) -> Result<()>;

    /// Removes a name of something that is no directory.
    ///
    /// # Errors
    /// What the file system below reports.
    fn unlink(&self, dir: &Self::Node, name: &Name) -> Result<()>;

    /// Opens a regular file for writing.
    ///
    /// # Errors
    /// What the file system below reports.
    fn write(&self, node: &Self::Node) -> Result<File>;

    /// Sets attributes.
    ///
    /// # Errors
    /// What the file system below reports.
    fn set(&self, node: &Self::Node, attributes: &Attributes) -> Result<()>;

    /// Sets an extended attribute.
    ///
    /// # Errors
    /// What the file system below reports.
    fn set_xattr(&self, node: &Self::Node, name: &[u8], value: &[u8]) -> Result<()>;
}

/// What an object is to have.
#[derive(Debug, Clone, Copy, Default)]
pub struct Attributes {
    /// Owner and group.
    pub owner: Option<(u32, u32)>,
    /// Permission bits with setuid, setgid and sticky. A symbolic link has none.
    pub perm: Option<u32>,
    /// Last change of the contents.
    pub mtime: Option<Timespec>,
}
