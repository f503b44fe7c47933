//! [`Tree`]: objects by name, of an index or of a container's union.

use std::sync::Arc;

use crate::content::ReadAt;
use crate::error::{Errno, Error, Result};
use crate::index::format::{DirentKind, IMPLICIT, OPAQUE, Payload, REPLACES};
use crate::index::reader::{Dirent, Index, InodeNo, ROOT};
use crate::layer::image::ImageLayer;
use crate::layer::{Contents, Layer as _, LayerNode};
use crate::name::{Name, NameBuf};
use crate::stat::{FileType, Stat};
use crate::union::{Caller, Node, NodeId, OpenFlags, Union};

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
    /// A hard link to a file of a layer below: [`Tree::link_target`] says which.
    pub link_below: bool,
}

impl Object {
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

/// A tree of objects: a stack of layers together, one layer alone (with its whiteouts), or a
/// container. Clones are the same tree.
#[derive(Clone)]
pub struct Tree(Inner);

#[derive(Clone)]
enum Inner {
    Indexed(Arc<ImageLayer>),
    /// With the image's layer, where it is the only one below.
    Union(Arc<Union>, Option<Arc<ImageLayer>>),
}

impl Tree {
    /// The tree of an index.
    #[must_use]
    pub fn of_index(layer: Arc<ImageLayer>) -> Self {
        Self(Inner::Indexed(layer))
    }

    /// The tree of a union.
    #[must_use]
    pub fn of_union(union: Arc<Union>) -> Self {
        Self(Inner::Union(union, None))
    }

    /// The tree of a union whose one lower is this layer: what the upper has not changed has the
    /// layer's content keys.
    #[must_use]
    pub fn of_container(union: Arc<Union>, layer: Arc<ImageLayer>) -> Self {
        Self(Inner::Union(union, Some(layer)))
    }

    /// The index, where the tree is one: for questions that need its records. An [`Object::id`] is
    /// then an [`InodeNo`].
    #[must_use]
    pub fn index(&self) -> Option<&Index> {
        match &self.0 {
            Inner::Indexed(layer) => Some(layer.index()),
            Inner::Union(..) => None,
        }
    }

    /// The root directory.
    ///
    /// # Errors
    /// `EIO` and what the file system below reports.
    pub fn root(&self) -> Result<Object> {
        match &self.0 {
            Inner::Indexed(layer) => indexed(layer.index(), ROOT),
            Inner::Union(union, _) => {
                let root = union.root();
                let stat = union.getattr(&root)?;
                Ok(of_node(&root, stat))
            }
        }
    }

    /// What a directory has under a name.
    ///
    /// # Errors
    /// `ENOTDIR` when it is no directory; as [`Tree::root`].
    pub fn lookup(&self, dir: &Object, name: &Name) -> Result<Option<Entry>> {
        match &self.0 {
            Inner::Indexed(layer) => {
                let index = layer.index();
                let found = index.lookup(number(dir.node)?, name.as_bytes())?;
                found.map(|dirent| entry(index, &dirent)).transpose()
            }
            Inner::Union(union, _) => {
                let parent = union.get(NodeId(dir.node))?;
                let found = union.lookup(&parent, name)?;
                Ok(found.map(|f| Entry::Object(of_node(&f.node, f.stat))))
            }
        }
    }

    /// A directory's entries, sorted by their names' bytes.
    ///
    /// # Errors
    /// As [`Tree::lookup`].
    pub fn children(&self, dir: &Object) -> Result<Vec<Child>> {
        let mut children = Vec::new();
        match &self.0 {
            Inner::Indexed(layer) => {
                let index = layer.index();
                for dirent in index.children(number(dir.node)?)? {
                    let dirent = dirent?;
                    children.push(Child {
                        name: dirent.name.into(),
                        entry: entry(index, &dirent)?,
                    });
                }
            }
            Inner::Union(union, _) => {
                let parent = union.get(NodeId(dir.node))?;
                for item in union.read_dir(&parent)?.iter() {
                    if let Some(found) = union.lookup(&parent, item.name)? {
                        children.push(Child {
                            name: item.name.into(),
                            entry: Entry::Object(of_node(&found.node, found.stat)),
                        });
                    }
                }
                children.sort_unstable_by(|a, b| a.name.cmp(&b.name));
            }
        }
        Ok(children)
    }

    /// A symbolic link's target.
    ///
    /// # Errors
    /// `EINVAL` when it is none; as [`Tree::root`].
    pub fn read_link(&self, object: &Object) -> Result<Vec<u8>> {
        if object.stat.kind != FileType::Symlink {
            return Err(Error::new(Errno::EINVAL));
        }
        match &self.0 {
            Inner::Indexed(layer) => layer.read_link(LayerNode(object.node)).map(Vec::from),
            Inner::Union(union, _) => {
                let node = union.get(NodeId(object.node))?;
                union.read_link(&node)
            }
        }
    }

    /// The path, from the root and without a leading slash, that a hard link to a layer below
    /// stands for; `None` for another object.
    ///
    /// # Errors
    /// As [`Tree::root`].
    pub fn link_target(&self, object: &Object) -> Result<Option<Vec<u8>>> {
        match &self.0 {
            Inner::Indexed(layer) if object.marks.link_below => {
                let index = layer.index();
                let inode = index.inode(number(object.node)?)?;
                Ok(Some(index.target(&inode)?.to_vec()))
            }
            _ => Ok(None),
        }
    }

    /// All extended attributes, sorted by name.
    ///
    /// # Errors
    /// As [`Tree::root`].
    pub fn xattrs(&self, object: &Object) -> Result<Xattrs> {
        let mut all = Vec::new();
        match &self.0 {
            Inner::Indexed(layer) => {
                let index = layer.index();
                let inode = index.inode(number(object.node)?)?;
                index.xattrs(&inode, |name, value| {
                    all.push((name.to_vec(), value.to_vec()))
                })?;
            }
            Inner::Union(union, _) => {
                use std::os::unix::ffi::OsStrExt as _;
                let node = union.get(NodeId(object.node))?;
                for name in union.xattr_names(&node)? {
                    let value = union.xattr(&node, std::ffi::OsStr::from_bytes(&name))?;
                    all.extend(value.map(|value| (name, value)));
                }
            }
        }
        all.sort_unstable();
        Ok(all)
    }

    /// Opens a regular file's contents. This, and nothing else, opens the layer's data.
    ///
    /// # Errors
    /// `EINVAL` when it is no regular file, or a link to one of a layer below; as [`Tree::root`].
    pub fn open(&self, object: &Object) -> Result<Arc<dyn ReadAt>> {
        if !object.is_file() {
            return Err(Error::new(Errno::EINVAL));
        }
        let contents = match &self.0 {
            Inner::Indexed(layer) => layer.open(LayerNode(object.node))?,
            Inner::Union(union, _) => {
                let node = union.get(NodeId(object.node))?;
                let flags = OpenFlags(libc::O_RDONLY);
                union.open(&node, flags, Caller::default())?.contents
            }
        };
        Ok(match contents {
            Contents::File(file) => file,
            Contents::Stored(stored) => stored,
        })
    }

    /// The blake3 of a regular file's bytes, where the index has it (files with holes have none).
    ///
    /// # Errors
    /// As [`Tree::root`].
    pub fn content_key(&self, object: &Object) -> Result<Option<[u8; 32]>> {
        match &self.0 {
            Inner::Indexed(layer) => Ok(layer.index().inode(number(object.node)?)?.key),
            Inner::Union(union, layer) => {
                let node = union.get(NodeId(object.node))?;
                match (layer, node.lower()) {
                    (Some(layer), [lower]) if !node.has_upper_data() => {
                        Ok(layer.index().inode(number(lower.node().0)?)?.key)
                    }
                    _ => Ok(None),
                }
            }
        }
    }

    /// Whether an object is a container's own: new, or with attributes or contents of its own.
    ///
    /// # Errors
    /// As [`Tree::root`].
    pub fn is_changed(&self, object: &Object) -> Result<bool> {
        match &self.0 {
            Inner::Indexed(_) => Ok(false),
            Inner::Union(union, _) => Ok(union.get(NodeId(object.node))?.has_upper()),
        }
    }

    /// Where an object of an index comes from: the layer, 1 for the bottom one of those that the
    /// index describes, and the place of its bytes there, to read many files in the order in which
    /// they are stored. Of a directory that several layers have, the lowest. `None` in a container.
    ///
    /// # Errors
    /// As [`Tree::root`].
    pub fn origin(&self, object: &Object) -> Result<Option<(usize, u64)>> {
        let Inner::Indexed(layer) = &self.0 else {
            return Ok(None);
        };
        let inode = layer.index().inode(number(object.node)?)?;
        let offset = match inode.payload {
            Payload::Stored { offset, .. } | Payload::Sparse { offset, .. } => offset,
            _ => 0,
        };
        Ok(Some((inode.layer as usize + 1, offset)))
    }

    /// All paths of an object that has several names, with their leading slashes; only in an index.
    ///
    /// # Errors
    /// As [`Tree::root`].
    pub fn paths_of(&self, object: &Object) -> Result<Vec<Vec<u8>>> {
        let Inner::Indexed(layer) = &self.0 else {
            return Ok(Vec::new());
        };
        let index = layer.index();
        let number = number(object.node)?;
        let mut paths = Vec::new();
        for dirent in index.names_of(number, &index.inode(number)?)? {
            let mut path = Vec::new();
            for name in index.path_of(dirent.parent)? {
                path.push(b'/');
                path.extend_from_slice(name.as_bytes());
            }
            path.push(b'/');
            path.extend_from_slice(dirent.name.as_bytes());
            paths.push(path);
        }
        Ok(paths)
    }
}

fn number(node: u64) -> Result<InodeNo> {
    u32::try_from(node)
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
    Ok(Object {
        node: number.0.into(),
        stat,
        marks: Marks {
            implicit: inode.marks & IMPLICIT != 0,
            opaque: inode.marks & OPAQUE != 0,
            replaces: inode.marks & REPLACES != 0,
            link_below: inode.kind.is_none(),
        },
    })
}

fn of_node(node: &Arc<Node>, stat: Stat) -> Object {
    Object {
        node: node.id().0,
        stat,
        marks: Marks::default(),
    }
}
