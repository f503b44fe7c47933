//! The index of a stack: its layers applied one after the other, as unpacking them would (OCI image
//! spec, layer.md, "Applying Changesets").

use std::collections::HashMap;
use std::path::Path;

use super::build::write_to;
use super::format::{
    DirentKind, IMPLICIT, Inode, LayerRow, Names, OPAQUE, Payload, REPLACES, Scope,
};
use super::reader::{Index, InodeNo, ROOT};
use super::tree::{Entry, TREE_ROOT, Tree};
use super::writer::{Pools, small};
use crate::error::{Context, Failure};
use crate::stat::FileType;

/// `st_ino` of the bottom layer's first object: the root is 1.
const FIRST_INO: u64 = 2;

/// Merges the indexes of layers, bottom first, into an existing, empty file.
///
/// # Errors
/// `Invalid`, naming the member, for a hard link to what no layer below has; `System`, also for a
/// damaged index.
pub fn flatten(layers: &[Index], path: &Path) -> Result<(), Failure> {
    let mut stack = Stack {
        tree: Tree::default(),
        pools: Pools::default(),
    };
    let mut rows: Vec<LayerRow> = Vec::new();
    let mut first_ino = FIRST_INO;
    for (place, layer) in layers.iter().enumerate() {
        let row = layer.layer(0)?;
        rows.push(LayerRow { first_ino, ..row });
        first_ino = first_ino
            .checked_add(row.entries)
            .ok_or_else(|| Failure::invalid("the image has too many objects"))?;
        let mut apply = Apply {
            stack: &mut stack,
            layer,
            place: small(place)?,
            known: HashMap::new(),
        };
        apply
            .links()
            .and_then(|()| apply.all())
            .context(|| format!("layer {}", place + 1))?;
    }
    write_to(path, |out| {
        stack.tree.write(out, Scope::Chain, &rows, &stack.pools)
    })
    .map(drop)
}

/// What the layers so far show.
struct Stack {
    tree: Tree,
    pools: Pools,
}

/// One layer on its way onto the stack.
struct Apply<'s> {
    stack: &'s mut Stack,
    layer: &'s Index,
    place: u32,
    /// Nodes of objects with several names, and of links to layers below.
    known: HashMap<InodeNo, u32>,
}

impl Apply<'_> {
    /// Finds the targets of hard links to layers below, as those show them.
    fn links(&mut self) -> Result<(), Failure> {
        for number in (0..self.layer.inode_count()).map(InodeNo) {
            let inode = self.layer.inode(number)?;
            if inode.kind.is_some() {
                continue;
            }
            let target = self.layer.target(&inode)?;
            let found = self.stack.tree.resolve(target)?;
            let file = match found {
                Some(node) if !self.stack.tree.inode(node)?.is_dir() => node,
                other => {
                    let name = self.layer.path_of(number)?;
                    let name: Vec<_> = name.iter().map(|n| n.to_string()).collect();
                    let what = if other.is_some() {
                        "is a directory"
                    } else {
                        "is in no layer"
                    };
                    return Err(Failure::invalid(format!(
                        "member \"{}\": a hard link to \"{}\", which {what}",
                        name.join("/"),
                        target.escape_ascii()
                    )));
                }
            };
            self.known.insert(number, file);
        }
        Ok(())
    }

    fn all(&mut self) -> Result<(), Failure> {
        let root = self.layer.inode(ROOT)?;
        self.merge_dir(TREE_ROOT, &root)?;
        let mut queue = vec![(ROOT, TREE_ROOT)];
        while let Some((from, to)) = queue.pop() {
            for dirent in self.layer.children(from)? {
                let dirent = dirent?;
                let name = dirent.name.as_bytes();
                let Some(number) = dirent.inode.filter(|_| dirent.kind != DirentKind::Whiteout)
                else {
                    self.stack.tree.entries_mut(to)?.remove(name);
                    continue;
                };
                if dirent.kind == DirentKind::Node(FileType::Directory) {
                    queue.push((number, self.directory(to, name, number)?));
                    continue;
                }
                let node = self.object(number)?;
                self.stack
                    .tree
                    .entries_mut(to)?
                    .insert(name.into(), Entry::Node(node));
            }
        }
        Ok(())
    }

    /// A directory of the layer at its place in the tree: merged with the one there, or new.
    fn directory(&mut self, parent: u32, name: &[u8], number: InodeNo) -> Result<u32, Failure> {
        let inode = self.layer.inode(number)?;
        if let Some(Entry::Node(there)) = self.stack.tree.get(parent, name)?
            && self.stack.tree.inode(there)?.is_dir()
            && inode.marks & REPLACES == 0
        {
            self.merge_dir(there, &inode)?;
            return Ok(there);
        }
        let inode = self.converted(&inode)?;
        let node = self.stack.tree.add(inode)?;
        self.stack
            .tree
            .entries_mut(parent)?
            .insert(name.into(), Entry::Node(node));
        Ok(node)
    }

    /// The directory keeps its number, its lowest part's; attributes are the top's.
    fn merge_dir(&mut self, there: u32, inode: &Inode) -> Result<(), Failure> {
        if inode.marks & OPAQUE != 0 {
            self.stack.tree.entries_mut(there)?.clear();
        }
        if inode.marks & IMPLICIT == 0 {
            let new = self.converted(inode)?;
            let old = self.stack.tree.inode_mut(there)?;
            *old = Inode {
                layer: old.layer,
                ordinal: old.ordinal,
                ..new
            };
        }
        Ok(())
    }

    /// An object that is no directory; one with several names is one node.
    fn object(&mut self, number: InodeNo) -> Result<u32, Failure> {
        if let Some(node) = self.known.get(&number) {
            return Ok(*node);
        }
        let inode = self.layer.inode(number)?;
        let several = matches!(inode.names, Names::Several(_));
        let node = self.converted(&inode)?;
        let node = self.stack.tree.add(node)?;
        if several {
            self.known.insert(number, node);
        }
        Ok(node)
    }

    /// A record of the layer, with what it refers to taken over.
    fn converted(&mut self, inode: &Inode) -> Result<Inode, Failure> {
        let pools = &mut self.stack.pools;
        let payload = match inode.payload {
            Payload::Target { .. } => Payload::Target {
                offset: pools.add_target(self.layer.target(inode)?)?,
            },
            Payload::Sparse { offset, .. } => {
                let map = self.layer.sparse_map(inode)?;
                let map = map.ok_or_else(|| Failure::system("a sparse file without its map"))?;
                Payload::Sparse {
                    offset,
                    map: pools.add_sparse(&map.segments, map.stored)?,
                }
            }
            other => other,
        };
        let xattrs = match self.layer.encoded_xattrs(inode)? {
            [] => 0,
            set => pools.add_encoded_xattrs(set)?,
        };
        Ok(Inode {
            layer: self.place,
            xattrs,
            marks: inode.marks & IMPLICIT,
            names: Names::Root,
            payload,
            ..*inode
        })
    }
}
