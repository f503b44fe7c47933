//! [`Stack`]: layers as what they are, one above the other, and what those below a layer show
//! together.

use super::compare::{Differences, compare};
use super::objects::{AsObjects, Entry, Object};
use crate::error::Result;
use crate::name::{Name, NameBuf};

/// The trees of layers, bottom first.
pub struct Stack<T> {
    trees: Vec<T>,
}

/// An object of one layer of a stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// The layer: its place from the bottom, from 0.
    pub place: usize,
    /// The object.
    pub object: Object,
}

/// What some layers together have at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merged {
    /// The object that shows: of a directory, the one whose attributes it has.
    pub shown: Part,
    /// The parts of a directory, from the top; of another object, itself.
    pub parts: Vec<Part>,
}

impl<T> Stack<T> {
    /// A stack of these layers, bottom first.
    #[must_use]
    pub fn new(trees: Vec<T>) -> Self {
        Self { trees }
    }

    /// How many layers there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.trees.len()
    }

    /// Whether there are no layers.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.trees.is_empty()
    }

    /// A layer's tree, by its place from 0; `None` when there is no such layer.
    #[must_use]
    pub fn tree(&self, place: usize) -> Option<&T> {
        self.trees.get(place)
    }
}

impl<T: AsObjects> Stack<T> {
    /// The roots of the lowest `count` layers together; `None` for none.
    ///
    /// # Errors
    /// `EIO` when an index is damaged.
    pub fn root(&self, count: usize) -> Result<Option<Merged>> {
        let mut found = Search::default();
        for (place, tree) in self.trees.iter().enumerate().take(count).rev() {
            let object = tree.objects().root()?;
            if found.take(Part { place, object }) {
                break;
            }
        }
        Ok(found.merged())
    }

    /// What the parts of a directory have together under a name.
    ///
    /// # Errors
    /// `EIO` when an index is damaged.
    pub fn child(&self, dir: &[Part], name: &Name) -> Result<Option<Merged>> {
        let mut found = Search::default();
        for part in dir {
            let Some(tree) = self.trees.get(part.place) else {
                continue;
            };
            match tree.objects().lookup(&part.object, name)? {
                None => {}
                Some(Entry::Whiteout) => break,
                Some(Entry::Object(object)) => {
                    let place = part.place;
                    if found.take(Part { place, object }) {
                        break;
                    }
                }
            }
        }
        Ok(found.merged())
    }

    /// What the lowest `count` layers together have at a path, links not followed.
    ///
    /// # Errors
    /// `EIO` when an index is damaged.
    pub fn at(&self, count: usize, path: &[u8]) -> Result<Option<Merged>> {
        let mut here = self.root(count)?;
        for name in path.split(|b| *b == b'/').filter(|n| !n.is_empty()) {
            let (Some(merged), Ok(name)) = (&here, Name::from_bytes(name)) else {
                return Ok(None);
            };
            if !merged.shown.object.is_dir() {
                return Ok(None);
            }
            here = self.child(&merged.parts, name)?;
        }
        Ok(here)
    }

    /// The names in a directory of several parts, sorted, with what is there.
    ///
    /// # Errors
    /// `EIO` when an index is damaged.
    pub fn children(&self, dir: &[Part]) -> Result<Vec<(NameBuf, Merged)>> {
        let mut names = std::collections::BTreeSet::new();
        for part in dir {
            let Some(tree) = self.trees.get(part.place) else {
                continue;
            };
            let children = tree.objects().children(&part.object)?;
            names.extend(children.into_iter().map(|child| child.name));
        }
        let mut found = Vec::new();
        for name in names {
            if let Some(merged) = self.child(dir, &name)? {
                found.push((name, merged));
            }
        }
        Ok(found)
    }

    /// How many objects there are at and below one, each name counted.
    ///
    /// # Errors
    /// `EIO` when an index is damaged.
    pub fn count(&self, of: &Merged) -> Result<u64> {
        let mut count = 0;
        let mut left = vec![of.clone()];
        while let Some(merged) = left.pop() {
            count += 1;
            if merged.shown.object.is_dir() {
                let children = self.children(&merged.parts)?;
                left.extend(children.into_iter().map(|(_, child)| child));
            }
        }
        Ok(count)
    }

    /// Whether an object of a layer, or what the hard link of the layer leads to, is just as what
    /// the layers below it show at its place.
    pub fn difference(&self, place: usize, object: &Object, before: &Part) -> Result<Differences> {
        let (Some(tree), Some(old)) = (self.tree(place), self.tree(before.place)) else {
            return Ok(Differences::default());
        };
        let old = (old, &before.object);
        let Some(target) = tree.objects().link_target(object)? else {
            return compare(old, (tree, object));
        };
        // flatten refuses a link to nowhere; a bare layer may have one.
        let Some(linked) = self.at(place, &target)? else {
            let content = true;
            return Ok(Differences {
                content,
                ..Differences::default()
            });
        };
        match self.tree(linked.shown.place) {
            Some(tree) if linked.shown != *before => compare(old, (tree, &linked.shown.object)),
            _ => Ok(Differences::default()),
        }
    }
}

/// Layers asked one after the other, from the top.
#[derive(Default)]
struct Search {
    shown: Option<Part>,
    parts: Vec<Part>,
    /// An opaque directory hides the parts below it, which may still give it its attributes.
    closed: bool,
}

impl Search {
    /// Takes what the next layer has; whether that is the end: what is below does not show.
    fn take(&mut self, part: Part) -> bool {
        let object = part.object;
        if !object.is_dir() {
            // Below a directory it is hidden by it.
            if self.shown.is_none() {
                self.shown = Some(part);
                self.parts.push(part);
            }
            return true;
        }
        if !self.closed {
            self.parts.push(part);
        }
        // A directory that no member describes says nothing of its attributes.
        if self.shown.is_none_or(|shown| shown.object.marks.implicit) {
            self.shown = Some(part);
        }
        self.closed |= object.marks.opaque;
        object.marks.replaces
    }

    fn merged(self) -> Option<Merged> {
        let shown = self.shown?;
        let parts = self.parts;
        Some(Merged { shown, parts })
    }
}
