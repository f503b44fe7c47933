//! [`Levels`]: an image as it grows, layer by layer, listed a directory at a time: what the layers
//! up to one show together, beside what that one did to each entry. A container's own changes are a
//! level above its image's layers.
//!
//! Nothing is made for what isn't asked for: a level of 1,000,000 entries costs what is listed of it.

mod facts;
#[cfg(test)]
pub(crate) mod sample;
#[cfg(test)]
mod tests;
mod walk;

pub use facts::{DirFacts, Facts, Kinds, Sum, Tally};
pub use walk::{Matches, Step};

use std::sync::Arc;

use super::changes::Did;
use super::image::Image;
use super::stack::{Merged, Part, Stack};
use super::target::Span;
use super::tree::{Child, Entry, Object, Tree};
use crate::content::ReadAt;
use crate::error::{Errno, Error, Failure, Result};
use crate::layer::compare::compare;
use crate::name::{Name, NameBuf};

/// The levels of an image, from 0: its layers from the bottom, then the container's changes.
pub struct Levels {
    stack: Stack,
    container: Option<Tree>,
}

/// What there is at a path, at one level.
#[derive(Debug, Clone)]
pub struct Shown {
    /// The object and the level that it is of; of one that the level removes, as it was.
    pub part: Part,
    /// What the level did to it; `None` when the level says nothing of it.
    pub did: Option<Did>,
    /// Whether the level has something to say of it or of what is in it.
    pub touched: bool,
    /// What it takes to list it, of a directory.
    pub dir: Option<Box<Dir>>,
}

impl Shown {
    /// `A`, `C` or `D`; `None` for what is as it was.
    #[must_use]
    pub fn letter(&self) -> Option<char> {
        self.did.and_then(Did::letter)
    }
}

/// A directory at one level.
#[derive(Debug, Clone)]
pub struct Dir {
    /// As the level leaves it; `None` when it is gone.
    now: Option<Merged>,
    /// As it was before; `None` when it was not there, or is as it was.
    before: Option<Merged>,
    /// Whether the level has something to say of it.
    touched: bool,
    /// The level hides what was in it.
    hidden: bool,
}

impl Levels {
    /// The levels of an image or container.
    ///
    /// # Errors
    /// `System` for a damaged index or a container that can't be read.
    pub fn of(image: &Image) -> Result<Self, Failure> {
        let container = match &image.container {
            Some(_) => Some(image.tree_of(Span::All)?),
            None => None,
        };
        Ok(Self {
            stack: Stack::of(image)?,
            container,
        })
    }

    /// How many levels there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.stack.len() + usize::from(self.container.is_some())
    }

    /// Whether there is none: an image without layers.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The tree that the objects of a level's parts are of.
    #[must_use]
    pub fn tree(&self, level: usize) -> Option<&Tree> {
        match level.checked_sub(self.stack.len()) {
            None => self.stack.tree(level),
            Some(0) => self.container.as_ref(),
            Some(_) => None,
        }
    }

    /// The tree of a part.
    fn tree_of(&self, part: &Part) -> Result<&Tree> {
        let tree = self.tree(part.place);
        tree.ok_or_else(|| Error::new(Errno::ESTALE))
    }

    /// The container's tree, when a level is its.
    fn container(&self, level: usize) -> Option<&Tree> {
        self.container
            .as_ref()
            .filter(|_| level == self.stack.len())
    }

    /// The root directory at a level; `None` when there is no such level.
    ///
    /// # Errors
    /// `EIO` when an index is damaged.
    pub fn root(&self, level: usize) -> Result<Option<Shown>> {
        let before = self.stack.root(level)?;
        let now = match self.container(level) {
            Some(tree) => Some(alone(level, tree.root()?)),
            None if level < self.stack.len() => self.stack.root(level + 1)?,
            None => None,
        };
        match now {
            Some(now) => self.judge(level, Some(now), before, false),
            None => Ok(None),
        }
    }

    /// What is in a directory at a level, sorted by name: what shows, and what the level removes.
    ///
    /// # Errors
    /// `EIO` when an index is damaged.
    pub fn list(&self, level: usize, dir: &Dir) -> Result<Vec<(NameBuf, Shown)>> {
        let now = match &dir.now {
            Some(now) => self.children(now)?,
            None => Vec::new(),
        };
        if !dir.touched {
            let rows = now.into_iter().map(|(name, now)| (name, untouched(now)));
            return rows
                .map(|(name, shown)| Ok((name, self.resolved(shown)?)))
                .collect();
        }
        let mut before = match &dir.before {
            Some(before) => self.stack.children(&before.parts)?,
            None => Vec::new(),
        }
        .into_iter()
        .peekable();
        let mut rows = Vec::with_capacity(now.len());
        for (name, now) in now {
            while let Some((gone, was)) = before.next_if(|(old, _)| *old < name) {
                rows.extend(self.row(level, gone, None, Some(was), dir.hidden)?);
            }
            let was = before.next_if(|(old, _)| *old == name).map(|(_, was)| was);
            rows.extend(self.row(level, name, Some(now), was, dir.hidden)?);
        }
        for (gone, was) in before {
            rows.extend(self.row(level, gone, None, Some(was), dir.hidden)?);
        }
        Ok(rows)
    }

    fn row(
        &self,
        level: usize,
        name: NameBuf,
        now: Option<Merged>,
        before: Option<Merged>,
        hidden: bool,
    ) -> Result<Option<(NameBuf, Shown)>> {
        let shown = self.judge(level, now, before, hidden)?;
        Ok(shown.map(|shown| (name, shown)))
    }

    /// What a directory has under a name at a level.
    fn child(&self, level: usize, dir: &Dir, name: &Name) -> Result<Option<Shown>> {
        let now = match &dir.now {
            Some(now) => self.lookup(now, name)?,
            None => None,
        };
        if !dir.touched {
            let shown = now.map(untouched);
            return shown.map(|shown| self.resolved(shown)).transpose();
        }
        let before = match &dir.before {
            Some(before) => self.stack.child(&before.parts, name)?,
            None => None,
        };
        self.judge(level, now, before, dir.hidden)
    }

    /// What there is at a path at a level, or was before it; links are not followed.
    ///
    /// # Errors
    /// `EIO` when an index is damaged.
    pub fn at(&self, level: usize, path: &[u8]) -> Result<Option<Shown>> {
        let mut here = self.root(level)?;
        for name in path.split(|b| *b == b'/').filter(|n| !n.is_empty()) {
            let (Some(shown), Ok(name)) = (&here, Name::from_bytes(name)) else {
                return Ok(None);
            };
            let Some(dir) = &shown.dir else {
                return Ok(None);
            };
            here = self.child(level, dir, name)?;
        }
        Ok(here)
    }

    /// The levels that have something to say of a path, from the top, and what they say.
    ///
    /// # Errors
    /// `EIO` when an index is damaged.
    pub fn which(&self, path: &[u8]) -> Result<Vec<(usize, Shown)>> {
        let mut found = Vec::new();
        for level in (0..self.len()).rev() {
            let shown = match self.at(level, path)? {
                // What was in a directory that is something else now.
                None => self.stack.at(level, path)?.map(removed),
                shown => shown,
            };
            found.extend(shown.filter(|s| s.did.is_some()).map(|s| (level, s)));
        }
        Ok(found)
    }

    /// Opens a regular file's contents.
    ///
    /// # Errors
    /// As [`Tree::open`].
    pub fn open(&self, part: &Part) -> Result<Arc<dyn ReadAt>> {
        self.tree_of(part)?.open(&part.object)
    }

    fn children(&self, dir: &Merged) -> Result<Vec<(NameBuf, Merged)>> {
        let level = dir.shown.place;
        let Some(tree) = self.container(level) else {
            return self.stack.children(&dir.parts);
        };
        let object = |child: Child| Some((child.name, alone(level, child.entry.object()?)));
        let children = tree.children(&dir.shown.object)?;
        Ok(children.into_iter().filter_map(object).collect())
    }

    fn lookup(&self, dir: &Merged, name: &Name) -> Result<Option<Merged>> {
        let level = dir.shown.place;
        let Some(tree) = self.container(level) else {
            return self.stack.child(&dir.parts, name);
        };
        let found = tree.lookup(&dir.shown.object, name)?;
        Ok(found.and_then(Entry::object).map(|o| alone(level, o)))
    }

    /// What a level did, from what there was before and is now. `hidden`: it hides what was in the
    /// directory.
    fn judge(
        &self,
        level: usize,
        now: Option<Merged>,
        before: Option<Merged>,
        hidden: bool,
    ) -> Result<Option<Shown>> {
        let (now, before) = match (now, before) {
            (Some(now), before) => (now, before),
            (None, Some(before)) => return self.resolved(removed(before)).map(Some),
            (None, None) => return Ok(None),
        };
        let own = now.parts.first().filter(|part| part.place == level);
        let own = own.map(|part| part.object);
        let Some(own) = self.written(level, own, before.is_some())? else {
            return self.resolved(untouched(now)).map(Some);
        };
        let marks = own.marks;
        let replaces = hidden || marks.replaces;
        let did = match &before {
            None => Some(Did::Added),
            // Nothing says anything of it.
            Some(before) if marks.implicit && !replaces && before.shown.object.is_dir() => None,
            Some(before) => Some(Did::Changed(self.difference(level, &own, &before.shown)?)),
        };
        let part = now.shown;
        let dir = part.object.is_dir().then(|| {
            Box::new(Dir {
                now: Some(now),
                before: before.filter(|merged| merged.shown.object.is_dir()),
                touched: true,
                hidden: replaces || marks.opaque,
            })
        });
        let shown = Shown {
            part,
            did,
            touched: true,
            dir,
        };
        self.resolved(shown).map(Some)
    }

    /// The object, if the level wrote it.
    fn written(&self, level: usize, own: Option<Object>, was: bool) -> Result<Option<Object>> {
        let (Some(own), Some(tree)) = (own, self.container(level)) else {
            return Ok(own);
        };
        // What was moved with its directory is new at its place.
        let written = !was || tree.is_changed(&own)?;
        Ok(written.then_some(own))
    }

    fn difference(&self, level: usize, own: &Object, before: &Part) -> Result<super::Differences> {
        match (self.container(level), self.stack.tree(before.place)) {
            (Some(tree), Some(old)) => compare((old, &before.object), (tree, own)),
            _ => self.stack.difference(level, own, before),
        }
    }

    /// With what a hard link to a layer below leads to.
    fn resolved(&self, mut shown: Shown) -> Result<Shown> {
        let part = shown.part;
        if part.object.marks.link_below
            && let Some(target) = self.tree_of(&part)?.link_target(&part.object)?
            && let Some(linked) = self.stack.at(part.place, &target)?
        {
            shown.part = linked.shown;
        }
        Ok(shown)
    }
}

/// An object of one level that nothing is merged with.
fn alone(place: usize, object: Object) -> Merged {
    let shown = Part { place, object };
    Merged {
        shown,
        parts: vec![shown],
    }
}

fn untouched(now: Merged) -> Shown {
    let part = now.shown;
    let dir = part.object.is_dir().then(|| {
        Box::new(Dir {
            now: Some(now),
            before: None,
            touched: false,
            hidden: false,
        })
    });
    Shown {
        part,
        did: None,
        touched: false,
        dir,
    }
}

fn removed(before: Merged) -> Shown {
    let part = before.shown;
    let dir = part.object.is_dir().then(|| {
        Box::new(Dir {
            now: None,
            before: Some(before),
            touched: true,
            hidden: true,
        })
    });
    Shown {
        part,
        did: Some(Did::Removed),
        touched: true,
        dir,
    }
}
