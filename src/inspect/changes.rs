//! What a layer changes: the difference it makes to what the layers below show together.

use std::collections::HashSet;

use super::stack::{Merged, Stack};
use super::tree::{Child, Entry, Object, Tree};
use crate::error::{Failure, Result};
use crate::name::NameBuf;

pub use crate::layer::history::Did;

/// A path that a layer has something to say of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerChange {
    /// The path, with a leading slash.
    pub path: Vec<u8>,
    /// What the layer does to it.
    pub did: Did,
    /// The object in the layer; `None` of what is removed.
    pub object: Option<Object>,
    /// A directory whose contents below are hidden.
    pub opaque: bool,
    /// How many objects go by it: at and below a path that is removed, below a directory that
    /// becomes something else.
    pub gone: u64,
}

/// How much a layer changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Objects that are new.
    pub added: u64,
    /// Objects that were there and are different.
    pub changed: u64,
    /// Objects that are gone, with those in directories that are.
    pub removed: u64,
}

impl Counts {
    /// Counts changes.
    #[must_use]
    pub fn of(changes: &[LayerChange]) -> Self {
        let mut counts = Self::default();
        for change in changes {
            match change.did.letter() {
                Some('A') => counts.added += 1,
                Some('C') => counts.changed += 1,
                _ => {}
            }
            counts.removed += change.gone;
        }
        counts
    }
}

/// A directory of a layer on the way.
struct Level {
    path: Vec<u8>,
    object: Object,
    /// What the layers below have at its place; `None` when they have no directory there.
    below: Option<Merged>,
    /// What is below is not merged with it.
    opaque: bool,
}

impl Stack {
    /// What the layer at `place` (from 0) changes, sorted by path, parents first. What it only
    /// writes again is there too; a removed directory is one change.
    ///
    /// # Errors
    /// [`Failure`] of kind `System` when an index is damaged.
    pub fn changes(&self, place: usize) -> Result<Vec<LayerChange>, Failure> {
        let Some(tree) = self.tree(place) else {
            return Ok(Vec::new());
        };
        let mut walk = Walk {
            stack: self,
            tree,
            place,
            found: Vec::new(),
        };
        let root = tree.root()?;
        let below = self.root(place)?;
        let mut levels = Vec::new();
        levels.extend(walk.directory(b"/".to_vec(), root, below, false)?);
        while let Some(level) = levels.pop() {
            levels.extend(walk.inside(&level)?);
        }
        let mut found = walk.found;
        found.sort_by(|a, b| in_tree_order(&a.path, &b.path));
        Ok(found)
    }
}

struct Walk<'s> {
    stack: &'s Stack,
    tree: &'s Tree,
    place: usize,
    found: Vec<LayerChange>,
}

impl Walk<'_> {
    /// A directory of the layer: its own change, and the level that is to be looked into.
    fn directory(
        &mut self,
        path: Vec<u8>,
        object: Object,
        below: Option<Merged>,
        hidden: bool,
    ) -> Result<Option<Level>> {
        let marks = object.marks;
        let before = below.as_ref().map(|merged| merged.shown);
        let opaque = hidden || marks.opaque || marks.replaces;
        let replaces = hidden || marks.replaces;
        let did = match &before {
            None => Some(Did::Added),
            // Nothing says anything of it.
            Some(before) if marks.implicit && !replaces && before.object.is_dir() => None,
            Some(before) => Some(Did::Changed(
                self.stack.difference(self.place, &object, before)?,
            )),
        };
        let below = below.filter(|merged| merged.shown.object.is_dir());
        if let Some(did) = did {
            self.found.push(LayerChange {
                path: path.clone(),
                did,
                object: Some(object),
                opaque: opaque && below.is_some(),
                gone: 0,
            });
        }
        Ok(Some(Level {
            path,
            object,
            below,
            opaque,
        }))
    }

    /// What the layer does in a directory of its own.
    fn inside(&mut self, level: &Level) -> Result<Vec<Level>> {
        let mut levels = Vec::new();
        let children = self.tree.children(&level.object)?;
        if level.opaque {
            self.hidden(level, &children)?;
        }
        for child in children {
            let below = match &level.below {
                Some(below) => self.stack.child(&below.parts, &child.name)?,
                None => None,
            };
            let path = joined(&level.path, child.name.as_bytes());
            match child.entry {
                Entry::Whiteout => self.removed(path, below)?,
                Entry::Object(object) if object.is_dir() => {
                    levels.extend(self.directory(path, object, below, level.opaque)?);
                }
                Entry::Object(object) => self.object(path, object, below)?,
            }
        }
        Ok(levels)
    }

    /// The names that an opaque directory hides and doesn't have itself.
    fn hidden(&mut self, level: &Level, children: &[Child]) -> Result<()> {
        let Some(below) = &level.below else {
            return Ok(());
        };
        let own: HashSet<&NameBuf> = children.iter().map(|child| &child.name).collect();
        for (name, merged) in self.stack.children(&below.parts)? {
            if !own.contains(&name) {
                self.removed(joined(&level.path, name.as_bytes()), Some(merged))?;
            }
        }
        Ok(())
    }

    fn removed(&mut self, path: Vec<u8>, below: Option<Merged>) -> Result<()> {
        // A whiteout of what isn't there does nothing.
        let Some(below) = below else {
            return Ok(());
        };
        self.found.push(LayerChange {
            path,
            did: Did::Removed,
            object: None,
            opaque: false,
            gone: self.stack.count(&below)?,
        });
        Ok(())
    }

    fn object(&mut self, path: Vec<u8>, object: Object, below: Option<Merged>) -> Result<()> {
        let (did, gone) = match below {
            None => (Did::Added, 0),
            Some(before) => {
                let difference = self.stack.difference(self.place, &object, &before.shown)?;
                (Did::Changed(difference), self.stack.count(&before)? - 1)
            }
        };
        self.found.push(LayerChange {
            path,
            did,
            object: Some(object),
            opaque: false,
            gone,
        });
        Ok(())
    }
}

fn joined(dir: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = dir.to_vec();
    if path.last() != Some(&b'/') {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}

/// The order in which a walk comes by paths: by components.
pub(super) fn in_tree_order(a: &[u8], b: &[u8]) -> std::cmp::Ordering {
    a.split(|b| *b == b'/').cmp(b.split(|b| *b == b'/'))
}
