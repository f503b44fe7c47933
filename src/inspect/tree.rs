//! [`Tree`]: objects by name, of an index or of a container's union.

use std::sync::Arc;

use crate::content::ReadAt;
use crate::error::{Errno, Error, Result};
use crate::index::format::Payload;
use crate::index::reader::Index;
use crate::layer::image::ImageLayer;
use crate::layer::objects::{AsObjects, Objects, number};
use crate::layer::{Contents, Layer as _, LayerNode};
use crate::name::Name;
use crate::union::{Caller, NodeId, OpenFlags, Union};

pub use crate::layer::objects::{Child, Entry, Marks, Object, Xattrs};

/// A tree of objects: a stack of layers together, one layer alone (with its whiteouts), or a
/// container. Clones are the same tree.
#[derive(Clone)]
pub struct Tree(Inner);

#[derive(Clone)]
enum Inner {
    Indexed(Arc<ImageLayer>),
    Union(Arc<Union>),
}

impl AsObjects for Tree {
    fn objects(&self) -> &dyn Objects {
        match &self.0 {
            Inner::Indexed(layer) => layer.index(),
            Inner::Union(union) => union.as_ref(),
        }
    }
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
        Self(Inner::Union(union))
    }

    /// The index, where the tree is one: for questions that need its records. An [`Object::id`] is
    /// then an [`InodeNo`].
    #[must_use]
    pub fn index(&self) -> Option<&Index> {
        match &self.0 {
            Inner::Indexed(layer) => Some(layer.index()),
            Inner::Union(_) => None,
        }
    }

    /// The root directory.
    ///
    /// # Errors
    /// `EIO` and what the file system below reports.
    pub fn root(&self) -> Result<Object> {
        self.objects().root()
    }

    /// What a directory has under a name.
    ///
    /// # Errors
    /// `ENOTDIR` when it is no directory; as [`Tree::root`].
    pub fn lookup(&self, dir: &Object, name: &Name) -> Result<Option<Entry>> {
        self.objects().lookup(dir, name)
    }

    /// A directory's entries, sorted by their names' bytes.
    ///
    /// # Errors
    /// As [`Tree::lookup`].
    pub fn children(&self, dir: &Object) -> Result<Vec<Child>> {
        self.objects().children(dir)
    }

    /// A symbolic link's target.
    ///
    /// # Errors
    /// `EINVAL` when it is none; as [`Tree::root`].
    pub fn read_link(&self, object: &Object) -> Result<Vec<u8>> {
        self.objects().read_link(object)
    }

    /// The path, from the root and without a leading slash, that a hard link to a layer below
    /// stands for; `None` for another object.
    ///
    /// # Errors
    /// As [`Tree::root`].
    pub fn link_target(&self, object: &Object) -> Result<Option<Vec<u8>>> {
        self.objects().link_target(object)
    }

    /// All extended attributes, sorted by name.
    ///
    /// # Errors
    /// As [`Tree::root`].
    pub fn xattrs(&self, object: &Object) -> Result<Xattrs> {
        self.objects().xattrs(object)
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
            Inner::Indexed(layer) => layer.open(LayerNode(object.id()))?,
            Inner::Union(union) => {
                let node = union.get(NodeId(object.id()))?;
                let flags = OpenFlags(libc::O_RDONLY);
                union.open(&node, flags, Caller::default())?.contents
            }
        };
        Ok(match contents {
            Contents::File(file) => file,
            Contents::Stored(stored) => stored,
        })
    }

    /// The blake3 of a regular file's bytes, where an index has it (files with holes have none).
    ///
    /// # Errors
    /// As [`Tree::root`].
    pub fn content_key(&self, object: &Object) -> Result<Option<[u8; 32]>> {
        self.objects().content_key(object)
    }

    /// Whether an object is a container's own: new, or with attributes or contents of its own.
    ///
    /// # Errors
    /// As [`Tree::root`].
    pub fn is_changed(&self, object: &Object) -> Result<bool> {
        match &self.0 {
            Inner::Indexed(_) => Ok(false),
            Inner::Union(union) => Ok(union.get(NodeId(object.id()))?.has_upper()),
        }
    }

    /// Whether an object is a container's own with its contents.
    ///
    /// # Errors
    /// As [`Tree::root`].
    pub fn has_own_data(&self, object: &Object) -> Result<bool> {
        match &self.0 {
            Inner::Indexed(_) => Ok(false),
            Inner::Union(union) => Ok(union.get(NodeId(object.id()))?.has_upper_data()),
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
        let inode = layer.index().inode(number(object)?)?;
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
        let number = number(object)?;
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
