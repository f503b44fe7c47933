//! An image layer: a mapped index, and the tars in which the files' bytes are. Usually the index is
//! a whole stack's, flattened.

use std::sync::{Arc, OnceLock};

use super::history::Floor;
use super::{Contents, DirItem, Entry, Layer, LayerNode, Marks, NodeEntry, StableId};
use crate::content::objects::{Key, Objects, Unmade};
use crate::content::tar_file::{FileRange, Run, SparseRange};
use crate::content::{LayerData, ReadAt};
use crate::error::{Errno, Error, Result};
use crate::index::format::{DirentKind, Inode, NONE, Names, OPAQUE, Payload};
use crate::index::reader::{Dirent, Index, InodeNo, ROOT};
use crate::name::{Name, NameBuf};
use crate::stat::{FileType, Stat};

/// An indexed layer, or stack of layers.
pub struct ImageLayer {
    index: Index,
    data: Arc<dyn LayerData>,
    /// The layers' tars, opened when a file in them is.
    tars: Vec<OnceLock<Arc<dyn ReadAt>>>,
    /// The layers' own indexes, opened when it is asked what each did.
    floors: OnceLock<Vec<Index>>,
    /// Whole files, where there is such a cache.
    objects: Option<Arc<Objects>>,
}

impl ImageLayer {
    /// A layer of an index, whose contents are where `data` says.
    #[must_use]
    pub fn new(index: Index, data: Arc<dyn LayerData>) -> Self {
        let tars = (0..index.layer_count()).map(|_| OnceLock::new()).collect();
        Self {
            index,
            data,
            tars,
            floors: OnceLock::new(),
            objects: None,
        }
    }

    /// The same, whose files are served as objects where they are worth it.
    #[must_use]
    pub fn with_objects(mut self, objects: Arc<Objects>) -> Self {
        self.objects = Some(objects);
        self
    }

    /// The index.
    #[must_use]
    pub fn index(&self) -> &Index {
        &self.index
    }

    fn tar(&self, row: u32) -> Result<Arc<dyn ReadAt>> {
        let slot = self.tars.get(row as usize);
        let slot = slot.ok_or_else(|| Error::with(Errno::EIO, "no such layer in the index"))?;
        if let Some(tar) = slot.get() {
            return Ok(Arc::clone(tar));
        }
        let tar = self.data.open(&self.index.layer(row)?.id())?;
        Ok(Arc::clone(slot.get_or_init(|| tar)))
    }

    /// The object that a file is to be served as.
    fn object_of(&self, inode: &Inode) -> Option<(&Arc<Objects>, Key)> {
        let objects = self.objects.as_ref()?;
        let worth = inode.kind == Some(FileType::Regular)
            && inode.size >= objects.limits().smallest.max(1)
            && objects.limits().budget > 0;
        let key = inode.key.filter(|_| worth)?;
        Some((objects, Key(key)))
    }

    /// A file's bytes in its layer's tar.
    fn stored(&self, inode: &Inode) -> Result<Arc<dyn ReadAt>> {
        match inode.payload {
            Payload::Stored { offset, .. } => Ok(Arc::new(FileRange::new(
                self.tar(inode.layer)?,
                offset,
                inode.size,
            ))),
            Payload::Sparse { offset, .. } => {
                let map = self.index.sparse_map(inode)?;
                let run = |s: &crate::tar::Segment| Run {
                    offset: s.offset,
                    len: s.len,
                    stored: s.stored,
                };
                let runs = map.iter().flat_map(|m| &m.segments).map(run).collect();
                Ok(Arc::new(SparseRange::new(
                    self.tar(inode.layer)?,
                    offset,
                    inode.size,
                    runs,
                )))
            }
            _ => Err(Error::new(Errno::EINVAL)),
        }
    }

    fn entry(&self, dirent: &Dirent<'_>) -> Result<Entry> {
        match dirent.inode {
            None => Ok(Entry::Whiteout),
            Some(number) => self.node_entry(number).map(Entry::Node),
        }
    }

    fn node_entry(&self, number: InodeNo) -> Result<NodeEntry> {
        let inode = self.index.inode(number)?;
        let marks = Marks {
            opaque: inode.marks & OPAQUE != 0,
            ..Marks::default()
        };
        Ok(NodeEntry {
            node: LayerNode(number.0.into()),
            stat: self.index.stat(number, &inode)?,
            marks,
        })
    }
}

fn number(node: LayerNode) -> Result<InodeNo> {
    u32::try_from(node.0)
        .map(InodeNo)
        .map_err(|_| Error::new(Errno::ESTALE))
}

impl Layer for ImageLayer {
    fn root(&self) -> Result<NodeEntry> {
        self.node_entry(ROOT)
    }

    fn lookup(&self, dir: LayerNode, name: &Name) -> Result<Option<Entry>> {
        match self.index.lookup(number(dir)?, name.as_bytes())? {
            Some(dirent) => self.entry(&dirent).map(Some),
            None => Ok(None),
        }
    }

    fn read_dir(
        &self,
        dir: LayerNode,
        each: &mut dyn FnMut(DirItem<'_>) -> Result<()>,
    ) -> Result<()> {
        for dirent in self.index.children(number(dir)?)? {
            let dirent = dirent?;
            let kind = match dirent.kind {
                DirentKind::Whiteout => None,
                DirentKind::Node(kind) => Some(kind),
                DirentKind::Link => Some(FileType::Regular),
            };
            let ino = match dirent.inode {
                Some(number) => self.index.ino(number, &self.index.inode(number)?)?,
                None => 0,
            };
            each(DirItem {
                name: dirent.name,
                kind,
                ino,
            })?;
        }
        Ok(())
    }

    fn stat(&self, node: LayerNode) -> Result<Stat> {
        let number = number(node)?;
        self.index.stat(number, &self.index.inode(number)?)
    }

    fn read_link(&self, node: LayerNode) -> Result<Box<[u8]>> {
        let inode = self.index.inode(number(node)?)?;
        Ok(self.index.target(&inode)?.into())
    }

    fn xattr(&self, node: LayerNode, name: &[u8]) -> Result<Option<Box<[u8]>>> {
        let mut found = None;
        self.index
            .xattrs(&self.index.inode(number(node)?)?, |n, value| {
                if n == name {
                    found = Some(value.into());
                }
            })?;
        Ok(found)
    }

    fn xattr_names(&self, node: LayerNode) -> Result<Vec<Box<[u8]>>> {
        let mut names = Vec::new();
        self.index
            .xattrs(&self.index.inode(number(node)?)?, |name, _| {
                names.push(name.into())
            })?;
        Ok(names)
    }

    fn open(&self, node: LayerNode) -> Result<Contents> {
        let inode = self.index.inode(number(node)?)?;
        let Some((objects, key)) = self.object_of(&inode) else {
            return self.stored(&inode).map(Contents::Stored);
        };
        if let Some(file) = objects.find(&key, inode.size) {
            return Ok(Contents::File(Arc::new(file)));
        }
        let unmade = Unmade::new(Arc::clone(objects), key, self.stored(&inode)?);
        Ok(Contents::Stored(Arc::new(unmade)))
    }

    fn is_guarded(&self) -> bool {
        self.objects.as_ref().is_some_and(|o| o.is_guarded())
    }

    fn stable_id(&self, node: LayerNode) -> Option<StableId> {
        let inode = self.index.inode(number(node).ok()?).ok()?;
        let layer = self.index.layer(inode.layer).ok()?;
        Some(StableId {
            diff_id: layer.diff_id,
            ordinal: inode.ordinal.into(),
        })
    }

    fn content_key(&self, node: LayerNode) -> Result<Option<[u8; 32]>> {
        Ok(self.index.inode(number(node)?)?.key)
    }

    fn floors(&self) -> Result<Vec<Floor<'_>>> {
        let rows = 0..self.index.layer_count();
        let indexes = match self.floors.get() {
            Some(indexes) => indexes,
            None => {
                let open = |row| {
                    let id = self.index.layer(row)?.id();
                    Index::from_file(&self.data.index(&id)?, &id.to_string())
                };
                let opened = rows.clone().map(open).collect::<Result<_>>()?;
                self.floors.get_or_init(|| opened)
            }
        };
        rows.zip(indexes)
            .map(|(row, index)| Ok(Floor::of_index(&self.index.layer(row)?.id(), index)))
            .collect()
    }

    fn resolve(&self, id: StableId) -> Option<LayerNode> {
        let ordinal = u32::try_from(id.ordinal).ok()?;
        if ordinal == NONE {
            return Some(LayerNode(ROOT.0.into()));
        }
        // The same layer may be in a stack twice: the object is in one of them.
        (0..self.index.layer_count())
            .filter(|row| {
                self.index
                    .layer(*row)
                    .is_ok_and(|l| l.diff_id == id.diff_id)
            })
            .find_map(|row| self.index.find(row, ordinal).ok().flatten())
            .map(|n| LayerNode(n.0.into()))
    }

    fn is_indexed(&self) -> bool {
        true
    }

    fn by_ino(&self, ino: u64) -> Result<Option<LayerNode>> {
        let number = self.index.by_ino(ino)?;
        Ok(number.map(|number| LayerNode(number.0.into())))
    }

    fn home(&self, node: LayerNode) -> Result<Option<(LayerNode, NameBuf)>> {
        let inode = self.index.inode(number(node)?)?;
        let Names::One(dirent) = inode.names else {
            return Ok(None);
        };
        let dirent = self.index.dirent(dirent)?;
        Ok(Some((
            LayerNode(dirent.parent.0.into()),
            dirent.name.into(),
        )))
    }

    fn aliases(&self, node: LayerNode) -> Result<Option<Vec<(LayerNode, NameBuf)>>> {
        let number = number(node)?;
        let inode = self.index.inode(number)?;
        if !matches!(inode.names, Names::Several(_)) {
            return Ok(Some(Vec::new()));
        }
        let names = self.index.names_of(number, &inode)?;
        let alias = |d: &Dirent<'_>| (LayerNode(d.parent.0.into()), NameBuf::from(d.name));
        Ok(Some(names.iter().map(alias).collect()))
    }

    fn dir_path(&self, dir: LayerNode) -> Result<Option<Vec<NameBuf>>> {
        self.index.path_of(number(dir)?).map(Some)
    }

    fn overlay_xattrs_are_data(&self) -> bool {
        true
    }
}
