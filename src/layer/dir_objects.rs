//! A directory layer as a tree of objects, to be compared with others.

use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use super::dir::DirLayer;
use super::objects::{Child, Entry, Marks, Object, Objects, Xattrs};
use super::owner_record::is_record;
use super::{Entry as LayerEntry, Layer, LayerNode, NodeEntry};
use crate::error::Result;
use crate::name::{Name, NameBuf};
use crate::sync::Mutex;

/// The objects of a directory layer. What was looked up is given back at the end.
pub struct DirObjects<'l> {
    layer: &'l DirLayer,
    taken: Mutex<Vec<LayerNode>>,
}

impl<'l> DirObjects<'l> {
    pub fn new(layer: &'l DirLayer) -> Self {
        let taken = Mutex::new(Vec::new());
        Self { layer, taken }
    }
}

impl Drop for DirObjects<'_> {
    fn drop(&mut self) {
        for node in self.taken.lock().drain(..) {
            self.layer.forget(node);
        }
    }
}

fn object(found: &NodeEntry) -> Object {
    let marks = Marks {
        opaque: found.marks.opaque,
        metacopy: found.marks.metacopy,
        ..Marks::default()
    };
    Object::new(found.node.0, found.stat, marks)
}

impl Objects for DirObjects<'_> {
    fn root(&self) -> Result<Object> {
        Ok(object(&self.layer.root()?))
    }

    fn lookup(&self, dir: &Object, name: &Name) -> Result<Option<Entry>> {
        Ok(match self.layer.lookup(LayerNode(dir.id()), name)? {
            None => None,
            Some(LayerEntry::Whiteout) => Some(Entry::Whiteout),
            Some(LayerEntry::Node(found)) => {
                self.taken.lock().push(found.node);
                Some(Entry::Object(object(&found)))
            }
        })
    }

    fn children(&self, dir: &Object) -> Result<Vec<Child>> {
        let mut names: Vec<NameBuf> = Vec::new();
        self.layer.read_dir(LayerNode(dir.id()), &mut |item| {
            names.push(item.name.into());
            Ok(())
        })?;
        names.sort_unstable();
        let mut children = Vec::new();
        for name in names {
            let entry = self.lookup(dir, &name)?;
            children.extend(entry.map(|entry| Child { name, entry }));
        }
        Ok(children)
    }

    fn read_link(&self, object: &Object) -> Result<Vec<u8>> {
        self.layer.read_link(LayerNode(object.id())).map(Vec::from)
    }

    fn xattrs(&self, object: &Object) -> Result<Xattrs> {
        let node = LayerNode(object.id());
        let mut all = Vec::new();
        for raw in self.layer.xattr_names(node)? {
            let name = OsStr::from_bytes(&raw);
            let record = self.layer.has_records() && is_record(name);
            let Some(shown) = self.layer.space().unescape(name).filter(|_| !record) else {
                continue;
            };
            let value = self.layer.xattr(node, &raw)?;
            all.extend(value.map(|value| (shown.into_vec(), value.into_vec())));
        }
        all.sort_unstable();
        Ok(all)
    }
}
