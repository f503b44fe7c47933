//! A tree in memory, on its way into an index file.

use std::collections::{BTreeMap, HashMap};
use std::io::{Seek, Write};

use super::format::{
    DirentKind, DirentRow, INODE_LEN, Inode, LayerRow, NONE, Names, Payload, Scope, put,
};
use super::writer::{IndexWriter, Pools, small};
use crate::error::{Context, Failure};
use crate::stat::FileType;

/// What a directory has under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    Whiteout,
    Node(u32),
}

/// A directory's entries, by name.
pub(super) type Entries = BTreeMap<Box<[u8]>, Entry>;

struct Node {
    inode: Inode,
    /// Directories have entries.
    entries: Option<Box<Entries>>,
}

/// A tree. Node 0 is the root; nodes that nothing refers to are not written.
pub(super) struct Tree {
    nodes: Vec<Node>,
}

pub(super) const TREE_ROOT: u32 = 0;

impl Default for Tree {
    fn default() -> Self {
        let mut tree = Self { nodes: Vec::new() };
        tree.nodes.push(Node {
            inode: Inode::implicit_dir(),
            entries: Some(Box::default()),
        });
        tree
    }
}

impl Tree {
    pub fn add(&mut self, inode: Inode) -> Result<u32, Failure> {
        let number = small(self.nodes.len())?;
        let entries = inode.is_dir().then(Box::default);
        self.nodes.push(Node { inode, entries });
        Ok(number)
    }

    fn node(&self, node: u32) -> Result<&Node, Failure> {
        self.nodes
            .get(node as usize)
            .ok_or_else(|| Failure::system("a node that isn't there"))
    }

    pub fn inode(&self, node: u32) -> Result<&Inode, Failure> {
        Ok(&self.node(node)?.inode)
    }

    pub fn inode_mut(&mut self, node: u32) -> Result<&mut Inode, Failure> {
        let node = self.nodes.get_mut(node as usize);
        Ok(&mut node
            .ok_or_else(|| Failure::system("a node that isn't there"))?
            .inode)
    }

    pub fn get(&self, dir: u32, name: &[u8]) -> Result<Option<Entry>, Failure> {
        let entries = self.node(dir)?.entries.as_ref();
        Ok(entries.and_then(|e| e.get(name).copied()))
    }

    pub fn entries_mut(&mut self, dir: u32) -> Result<&mut Entries, Failure> {
        let entries = self
            .nodes
            .get_mut(dir as usize)
            .and_then(|n| n.entries.as_deref_mut());
        entries.ok_or_else(|| Failure::system("a directory that is none"))
    }

    /// The object at a path; `None` when there is none.
    pub fn resolve(&self, path: &[u8]) -> Result<Option<u32>, Failure> {
        let mut at = TREE_ROOT;
        for name in path.split(|b| *b == b'/').filter(|c| !c.is_empty()) {
            match self.get(at, name)? {
                Some(Entry::Node(node)) => at = node,
                _ => return Ok(None),
            }
        }
        Ok(Some(at))
    }

    /// Gives every directory that no member describes its place after those that are.
    pub fn number_implicit(&mut self, mut next: u32) -> Result<u32, Failure> {
        for node in self.reachable()? {
            let inode = self.inode_mut(node)?;
            if inode.ordinal == NONE && node != TREE_ROOT {
                inode.ordinal = next;
                next = next
                    .checked_add(1)
                    .ok_or_else(|| Failure::invalid("too many objects"))?;
            }
        }
        Ok(next)
    }

    /// All nodes that the root leads to, each once, parents before children.
    fn reachable(&self) -> Result<Vec<u32>, Failure> {
        let mut seen = vec![false; self.nodes.len()];
        let mut order = vec![TREE_ROOT];
        let mut at = 0;
        while let Some(node) = order.get(at).copied() {
            at += 1;
            let entries = self.node(node)?.entries.as_ref();
            for entry in entries.iter().flat_map(|e| e.values()) {
                if let Entry::Node(child) = entry
                    && let Some(seen) = seen.get_mut(*child as usize)
                    && !std::mem::replace(seen, true)
                {
                    order.push(*child);
                }
            }
        }
        Ok(order)
    }

    /// Writes the tree as an index; the number of inode records.
    pub fn write<W: Write + Seek>(
        &self,
        out: W,
        scope: Scope,
        layers: &[LayerRow],
        pools: &Pools,
    ) -> Result<u64, Failure> {
        let mut order = self.reachable()?;
        order.sort_by_key(|n| {
            let inode = self.inode(*n).ok();
            (*n != TREE_ROOT, inode.map(|i| (i.layer, i.ordinal)), *n)
        });
        let numbers: HashMap<u32, u32> = order.iter().copied().zip(0..).collect();
        let names = self.collect_names(&order, &numbers)?;
        let mut writer = IndexWriter::new(out)?;
        let about = || "cannot write an index";
        let mut bytes = Vec::new();
        writer.section().context(about)?;
        for layer in layers {
            layer.encode(&mut bytes);
        }
        writer.put(&bytes).context(about)?;
        writer.section().context(about)?;
        let mut aliases = Vec::new();
        for node in &order {
            bytes.clear();
            self.finished(*node, &names, &mut aliases)?
                .encode(&mut bytes);
            debug_assert_eq!(bytes.len() as u64, INODE_LEN);
            writer.put(&bytes).context(about)?;
        }
        writer.section().context(about)?;
        for row in &names.rows {
            bytes.clear();
            row.encode(&mut bytes);
            writer.put(&bytes).context(about)?;
        }
        writer.section().context(about)?;
        writer.put(&names.text).context(about)?;
        writer.pools(pools).context(about)?;
        writer.section().context(about)?;
        writer.put(&aliases).context(about)?;
        writer.finish(scope)?;
        Ok(order.len() as u64)
    }

    /// The rows of all directory entries, directory by directory.
    fn collect_names(
        &self,
        order: &[u32],
        numbers: &HashMap<u32, u32>,
    ) -> Result<NameTable, Failure> {
        let mut table = NameTable::default();
        for (number, dir) in (0_u32..).zip(order) {
            let Some(entries) = &self.node(*dir)?.entries else {
                continue;
            };
            let first = small(table.rows.len())?;
            let mut subdirs = 0;
            for (name, entry) in entries.iter() {
                let (inode, kind) = match entry {
                    Entry::Whiteout => (NONE, DirentKind::Whiteout),
                    Entry::Node(node) => {
                        let kind = match self.inode(*node)?.kind {
                            Some(kind) => DirentKind::Node(kind),
                            None => DirentKind::Link,
                        };
                        subdirs += u32::from(kind == DirentKind::Node(FileType::Directory));
                        let dirent = small(table.rows.len())?;
                        table.of.entry(*node).or_default().push(dirent);
                        (numbers.get(node).copied().unwrap_or(NONE), kind)
                    }
                };
                let name_len = u8::try_from(name.len())
                    .map_err(|_| Failure::invalid("a name over 255 bytes"))?;
                let row = DirentRow {
                    name: small(table.text.len())?,
                    name_len,
                    inode,
                    parent: number,
                    kind,
                };
                table.rows.push(row);
                table.text.extend_from_slice(name);
            }
            let count = small(entries.len())?;
            table.dirs.insert(*dir, (first, count, subdirs));
        }
        Ok(table)
    }

    /// An inode record, complete.
    fn finished(
        &self,
        node: u32,
        names: &NameTable,
        aliases: &mut Vec<u8>,
    ) -> Result<Inode, Failure> {
        let mut inode = *self.inode(node)?;
        let dirents = names.of.get(&node).map(Vec::as_slice).unwrap_or_default();
        inode.names = match dirents {
            [] => Names::Root,
            [only] => Names::One(*only),
            several => {
                let list = small(aliases.len() / 4)?;
                put(aliases, small(several.len())?);
                several.iter().for_each(|d| put(aliases, *d));
                Names::Several(list)
            }
        };
        inode.nlink = small(dirents.len())?;
        if let Some((first, count, subdirs)) = names.dirs.get(&node) {
            inode.payload = Payload::Directory {
                first: *first,
                count: *count,
            };
            inode.nlink = 2 + subdirs;
        }
        Ok(inode)
    }
}

#[derive(Default)]
struct NameTable {
    rows: Vec<DirentRow>,
    text: Vec<u8>,
    /// The entries that lead to each node.
    of: HashMap<u32, Vec<u32>>,
    /// First entry, number of entries, and of subdirectories, of each directory.
    dirs: HashMap<u32, (u32, u32, u32)>,
}
