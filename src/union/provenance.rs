//! Where an object of the merged tree is from: what each layer did to its path, as an attribute.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use super::{Node, NodeId, Union};
use crate::error::{Errno, Error, Result};
use crate::layer::history::own_mention;
use crate::layer::objects::{Child, Entry, Marks, Object, Objects, Xattrs};
use crate::layer::stack::Stack;
use crate::name::Name;
use crate::stat::{FileType, Stat};

/// What each layer did to an object's path: a line for each that has something to say of it, from
/// the top. Found when it is asked for by name, and not listed, so that nobody copies it.
pub(super) const LAYER: &str = "user.strata.layer";

/// The longest value of an attribute (`XATTR_SIZE_MAX`).
const LONGEST: usize = 64 << 10;

impl Union {
    /// A layer's number, its diffID or directory, and what it did; `container` (`upper` over
    /// directories alone) for what was changed or made here. Of a file with several names, those
    /// of the one by which it was found first. `None` for what has no name any more.
    pub(super) fn layers_of(&self, node: &Node) -> Result<Option<Vec<u8>>> {
        let Some(path) = path_of(node) else {
            return Ok(None);
        };
        let lowers = self.lowers.get(..self.merged_lowers()).unwrap_or_default();
        let stack = Stack::of_lowers(lowers)?;
        let mut lines = Vec::new();
        if self.upper.is_some() {
            let before = stack.at(stack.len(), &path)?;
            let before = before
                .as_ref()
                .and_then(|merged| Some((stack.tree(merged.shown.place)?, &merged.shown.object)));
            let now = object(node, self.getattr(node)?);
            let own = own_mention(before, Some((self, &now)), node.has_upper())?;
            let over_image = lowers.iter().any(|layer| layer.overlay_xattrs_are_data());
            let name = if over_image { "container" } else { "upper" };
            lines.extend(own.map(|own| [name.as_bytes(), b" ", &own.in_words(&escaped)].concat()));
        }
        for place in (0..stack.len()).rev() {
            if let (Some(told), Some(floor)) = (stack.mention(place, &path)?, stack.tree(place)) {
                let mut line = format!("{} ", place + 1).into_bytes();
                line.extend(escaped(floor.label.as_bytes()));
                line.push(b' ');
                line.extend(told.in_words(&escaped));
                lines.push(line);
            }
        }
        let mut value = lines.join(&b'\n');
        if value.len() > LONGEST {
            let end = value.iter().take(LONGEST).rposition(|b| *b == b'\n');
            value.truncate(end.unwrap_or(0));
        }
        Ok((!value.is_empty()).then_some(value))
    }

    /// How many lowers are merged: the rest is data only.
    fn merged_lowers(&self) -> usize {
        self.lowers.len() - self.data_roots.len()
    }
}

/// A path on one line.
fn escaped(path: &[u8]) -> Vec<u8> {
    match path.iter().any(u8::is_ascii_control) {
        true => path.escape_ascii().to_string().into_bytes(),
        false => path.to_vec(),
    }
}

fn path_of(node: &Node) -> Option<Vec<u8>> {
    let mut names = Vec::new();
    let mut link = node.names().into_iter().next();
    if link.is_none() && !node.is_root() {
        return None;
    }
    while let Some(here) = link {
        link = here.parent.names().into_iter().next();
        if link.is_none() && !here.parent.is_root() {
            return None;
        }
        names.push(here.name);
    }
    let mut path = Vec::new();
    for name in names.iter().rev() {
        path.push(b'/');
        path.extend_from_slice(name.as_bytes());
    }
    Some(path)
}

fn object(node: &Node, stat: Stat) -> Object {
    Object::new(node.id().0, stat, Marks::default())
}

impl Union {
    fn node_of(&self, object: &Object) -> Result<Arc<Node>> {
        self.get(NodeId(object.id()))
    }
}

/// An [`Object::id`] is a [`NodeId`].
impl Objects for Union {
    fn root(&self) -> Result<Object> {
        let root = self.root();
        Ok(object(&root, self.getattr(&root)?))
    }

    fn lookup(&self, dir: &Object, name: &Name) -> Result<Option<Entry>> {
        let found = self.lookup(&self.node_of(dir)?, name)?;
        Ok(found.map(|f| Entry::Object(object(&f.node, f.stat))))
    }

    fn children(&self, dir: &Object) -> Result<Vec<Child>> {
        let mut children = Vec::new();
        let parent = self.node_of(dir)?;
        for item in self.read_dir(&parent)?.iter() {
            if let Some(found) = self.lookup(&parent, item.name)? {
                children.push(Child {
                    name: item.name.into(),
                    entry: Entry::Object(object(&found.node, found.stat)),
                });
            }
        }
        children.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(children)
    }

    fn read_link(&self, object: &Object) -> Result<Vec<u8>> {
        if object.stat.kind != FileType::Symlink {
            return Err(Error::new(Errno::EINVAL));
        }
        self.read_link(self.node_of(object)?.as_ref())
    }

    fn xattrs(&self, object: &Object) -> Result<Xattrs> {
        let mut all = Vec::new();
        let node = self.node_of(object)?;
        for name in self.xattr_names(&node)? {
            let value = self.xattr(&node, OsStr::from_bytes(&name))?;
            all.extend(value.map(|value| (name, value)));
        }
        all.sort_unstable();
        Ok(all)
    }

    fn content_key(&self, object: &Object) -> Result<Option<[u8; 32]>> {
        let node = self.node_of(object)?;
        match node.lower() {
            [lower] if !node.has_upper_data() => lower.layer().content_key(lower.node()),
            _ => Ok(None),
        }
    }
}
