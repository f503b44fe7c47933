//! [`Objects`]: a tree by name with all that is known of each object, of whatever it is a tree: what
//! comparing layers needs, without opening any data.

use crate::error::{Errno, Error, Result};
use crate::index::format::{DirentKind, IMPLICIT, OPAQUE, REPLACES};
use crate::index::reader::{Dirent, Index, InodeNo, ROOT};
use crate::name::{Name, NameBuf};
use crate::stat::{FileType, Stat};

/// An object of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Object {
    node: u64,
    /// Its attributes.
    pub stat: Stat,
    /// In a single layer: what it does to the layers below.
    pub marks: Marks,
}

/// What an object of a single layer is besides what its attributes say. All false in a whole tree,
/// but for `implicit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Marks {
    /// A directory that no member of the layer's tar describes.
    pub implicit: bool,
    /// A directory that hides what is below at its place.
    pub opaque: bool,
    /// Takes the place of what is below, attributes included.
    pub replaces: bool,
    /// A hard link to a file of a layer below: [`Objects::link_target`] says which.
    pub link_below: bool,
    /// A file whose data is a lower layer's.
    pub metacopy: bool,
}

impl Object {
    /// An object that its tree calls by this number.
    #[must_use]
    pub fn new(id: u64, stat: Stat, marks: Marks) -> Self {
        Self {
            node: id,
            stat,
            marks,
        }
    }

    /// Its number in the tree: two names of one object have the same.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.node
    }

    /// Whether it is a directory.
    #[must_use]
    pub fn is_dir(&self) -> bool {
        self.stat.is_dir()
    }

    /// Whether it is a regular file whose bytes are in this tree.
    #[must_use]
    pub fn is_file(&self) -> bool {
        self.stat.kind == FileType::Regular && !self.marks.link_below
    }
}

/// What a directory has under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// In a single layer: what is below under the name is removed.
    Whiteout,
    /// An object.
    Object(Object),
}

impl Entry {
    /// The object, if it is one.
    #[must_use]
    pub fn object(self) -> Option<Object> {
        match self {
            Entry::Whiteout => None,
            Entry::Object(object) => Some(object),
        }
    }
}

/// One entry of a directory.
#[derive(Debug, Clone)]
pub struct Child {
    /// Its name.
    pub name: NameBuf,
    /// What it is.
    pub entry: Entry,
}

/// Extended attributes: names and values, sorted.
pub type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// A tree of objects.
pub trait Objects: Send + Sync {
    /// The root directory.
    ///
    /// # Errors
    /// `EIO` and what the file system below reports.
    fn root(&self) -> Result<Object>;

    /// What a directory has under a name.
    ///
    /// # Errors
    /// `ENOTDIR` when it is no directory; as [`Objects::root`].
    fn lookup(&self, dir: &Object, name: &Name) -> Result<Option<Entry>>;

    /// A directory's entries, sorted by their names' bytes.
    ///
    /// # Errors
    /// As [`Objects::lookup`].
    fn children(&self, dir: &Object) -> Result<Vec<Child>>;

    /// A symbolic link's target.
    ///
    /// # Errors
    /// `EINVAL` when it is none; as [`Objects::root`].
    fn read_link(&self, object: &Object) -> Result<Vec<u8>>;

    /// The path, from the root and without a leading slash, that a hard link to a layer below
    /// stands for; `None` for another object.
    ///
    /// # Errors
    /// As [`Objects::root`].
    fn link_target(&self, _object: &Object) -> Result<Option<Vec<u8>>> {
        Ok(None)
    }

    /// All extended attributes, sorted by name.
    ///
    /// # Errors
    /// As [`Objects::root`].
    fn xattrs(&self, object: &Object) -> Result<Xattrs>;

    /// The blake3 of a regular file's bytes, where it is known (files with holes have none).
    ///
    /// # Errors
    /// As [`Objects::root`].
    fn content_key(&self, _object: &Object) -> Result<Option<[u8; 32]>> {
        Ok(None)
    }
}

/// Something that is, or has, a tree of objects.
pub trait AsObjects {
    /// The tree.
    fn objects(&self) -> &dyn Objects;
}

impl<T: Objects> AsObjects for T {
    fn objects(&self) -> &dyn Objects {
        self
    }
}

/// An [`Object::id`] of an index is an [`InodeNo`].
impl Objects for Index {
    fn root(&self) -> Result<Object> {
        indexed(self, ROOT)
    }

    fn lookup(&self, dir: &Object, name: &Name) -> Result<Option<Entry>> {
        let found = self.lookup(number(dir)?, name.as_bytes())?;
        found.map(|dirent| entry(self, &dirent)).transpose()
    }

    fn children(&self, dir: &Object) -> Result<Vec<Child>> {
        let mut children = Vec::new();
        for dirent in self.children(number(dir)?)? {
            let dirent = dirent?;
            children.push(Child {
                name: dirent.name.into(),
                entry: entry(self, &dirent)?,
            });
        }
        Ok(children)
    }

    fn read_link(&self, object: &Object) -> Result<Vec<u8>> {
        if object.stat.kind != FileType::Symlink {
            return Err(Error::new(Errno::EINVAL));
        }
        let inode = self.inode(number(object)?)?;
        Ok(self.target(&inode)?.to_vec())
    }

    fn link_target(&self, object: &Object) -> Result<Option<Vec<u8>>> {
        if !object.marks.link_below {
            return Ok(None);
        }
        let inode = self.inode(number(object)?)?;
        Ok(Some(self.target(&inode)?.to_vec()))
    }

    fn xattrs(&self, object: &Object) -> Result<Xattrs> {
        let mut all = Vec::new();
        let inode = self.inode(number(object)?)?;
        self.xattrs(&inode, |name, value| {
            all.push((name.to_vec(), value.to_vec()))
        })?;
        all.sort_unstable();
        Ok(all)
    }

    fn content_key(&self, object: &Object) -> Result<Option<[u8; 32]>> {
        Ok(self.inode(number(object)?)?.key)
    }
}

/// The number of an index's object.
///
/// # Errors
/// `ESTALE` for what is no object of an index.
pub fn number(object: &Object) -> Result<InodeNo> {
    u32::try_from(object.node)
        .map(InodeNo)
        .map_err(|_| Error::new(Errno::ESTALE))
}

fn entry(index: &Index, dirent: &Dirent<'_>) -> Result<Entry> {
    match (dirent.kind, dirent.inode) {
        (DirentKind::Whiteout, _) | (_, None) => Ok(Entry::Whiteout),
        (_, Some(number)) => indexed(index, number).map(Entry::Object),
    }
}

fn indexed(index: &Index, number: InodeNo) -> Result<Object> {
    let inode = index.inode(number)?;
    let mut stat = index.stat(number, &inode)?;
    // Whatever a tar says of it: on Linux a symbolic link has no mode of its own.
    if stat.kind == FileType::Symlink {
        stat.perm = 0o777;
    }
    let marks = Marks {
        implicit: inode.marks & IMPLICIT != 0,
        opaque: inode.marks & OPAQUE != 0,
        replaces: inode.marks & REPLACES != 0,
        link_below: inode.kind.is_none(),
        metacopy: false,
    };
    Ok(Object::new(number.0.into(), stat, marks))
}
