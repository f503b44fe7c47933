//! What each layer of a stack did to a path.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use super::Layer;
use super::compare::{Differences, compare};
use super::dir_objects::DirObjects;
use super::objects::{AsObjects, Entry, Object, Objects};
use super::stack::{Merged, Stack};
use crate::error::Result;
use crate::image::DiffId;
use crate::index::Index;
use crate::name::Name;

/// What a layer does to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Did {
    /// There was nothing.
    Added,
    /// Something was there; how what is there now differs. No difference: it was only written
    /// again.
    Changed(Differences),
    /// What was there is gone.
    Removed,
}

impl Did {
    /// `A`, `C` or `D`, as `docker diff` has them; `None` for what was only written again.
    #[must_use]
    pub fn letter(self) -> Option<char> {
        match self {
            Did::Added => Some('A'),
            Did::Changed(differences) => differences.any().then_some('C'),
            Did::Removed => Some('D'),
        }
    }
}

impl fmt::Display for Did {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Did::Added => f.write_str("added"),
            Did::Removed => f.write_str("removed"),
            Did::Changed(differences) if differences.any() => {
                write!(f, "changed {}", differences.names().join(", "))
            }
            Did::Changed(_) => f.write_str("written again"),
        }
    }
}

/// What one layer did to a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mention {
    /// The layer's number, 1 for the bottom one; `None` for the changes of a container or upper.
    pub layer: Option<usize>,
    /// What it did.
    pub did: Did,
    /// The object there; `None` of what it removed.
    pub object: Option<Object>,
    /// A directory whose contents below it hides.
    pub opaque: bool,
    /// The directory with which the path was removed, or hidden, if it isn't the path itself.
    pub with: Option<Vec<u8>>,
}

impl Mention {
    /// What it did, in words; `quote` shows a path.
    #[must_use]
    pub fn in_words(&self, quote: &dyn Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
        let mut words = self.did.to_string().into_bytes();
        if self.opaque {
            words.extend_from_slice(b", made opaque");
        }
        if let Some(with) = &self.with {
            words.extend_from_slice(b" with ");
            words.extend(quote(if with.is_empty() { b"/" } else { with }));
        }
        words
    }
}

/// A layer of a stack, to be compared with those below it.
pub struct Floor<'l> {
    /// What it is called: an image's layer by its diffID, a directory by its path.
    pub label: String,
    tree: FloorTree<'l>,
}

enum FloorTree<'l> {
    Index(&'l Index),
    Dir(DirObjects<'l>),
}

impl<'l> Floor<'l> {
    /// A layer of an image.
    #[must_use]
    pub fn of_index(layer: &DiffId, index: &'l Index) -> Self {
        Self {
            label: layer.to_string(),
            tree: FloorTree::Index(index),
        }
    }

    /// A directory.
    pub(super) fn of_dir(path: &Path, objects: DirObjects<'l>) -> Self {
        Self {
            label: path.display().to_string(),
            tree: FloorTree::Dir(objects),
        }
    }
}

impl AsObjects for Floor<'_> {
    fn objects(&self) -> &dyn Objects {
        match &self.tree {
            FloorTree::Index(index) => *index,
            FloorTree::Dir(objects) => objects,
        }
    }
}

impl<'l> Stack<Floor<'l>> {
    /// The layers of a union, from its lowers, top first.
    ///
    /// # Errors
    /// `EIO` when the index of an image's layer is gone or damaged.
    pub fn of_lowers(lowers: &'l [Arc<dyn Layer>]) -> Result<Self> {
        let mut floors = Vec::new();
        for layer in lowers.iter().rev() {
            floors.extend(layer.floors()?);
        }
        Ok(Self::new(floors))
    }
}

fn names(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|b| *b == b'/').filter(|name| !name.is_empty())
}

/// The beginning of a path, of so many names.
fn beginning(path: &[u8], count: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for name in names(path).take(count) {
        out.push(b'/');
        out.extend_from_slice(name);
    }
    out
}

impl<T: AsObjects> Stack<T> {
    /// What the layer at `place` (from 0) did to a path; `None` when it has nothing to say of it.
    ///
    /// # Errors
    /// `EIO` when an index is damaged.
    pub fn mention(&self, place: usize, path: &[u8]) -> Result<Option<Mention>> {
        let Some(tree) = self.tree(place) else {
            return Ok(None);
        };
        let tree = tree.objects();
        let before = self.at(place, path)?;
        let gone = |with: Option<Vec<u8>>| Mention {
            layer: Some(place + 1),
            did: Did::Removed,
            object: None,
            opaque: false,
            with,
        };
        let removed = |with| Ok(before.is_some().then(|| gone(with)));
        let total = names(path).count();
        let mut here = tree.root()?;
        // The lowest directory of the layer on the way that hides what is below.
        let mut hidden = here.marks.opaque.then_some(0);
        for (depth, name) in (1..).zip(names(path)) {
            if !here.is_dir() {
                return removed(Some(beginning(path, depth - 1)));
            }
            let Ok(name) = Name::from_bytes(name) else {
                return Ok(None);
            };
            here = match tree.lookup(&here, name)? {
                Some(Entry::Object(object)) => object,
                Some(Entry::Whiteout) => {
                    return removed((depth < total).then(|| beginning(path, depth)));
                }
                None => {
                    return match hidden {
                        Some(at) => removed(Some(beginning(path, at))),
                        None => Ok(None),
                    };
                }
            };
            if depth < total && (here.marks.opaque || here.marks.replaces) {
                hidden = Some(depth);
            }
        }
        self.found(place, here, before, hidden.is_some())
    }

    fn found(
        &self,
        place: usize,
        object: Object,
        before: Option<Merged>,
        hidden: bool,
    ) -> Result<Option<Mention>> {
        let replaces = hidden || object.marks.replaces;
        let opaque = object.is_dir() && (object.marks.opaque || replaces);
        let did = match &before {
            None => Did::Added,
            Some(before) if object.marks.implicit && !replaces && before.shown.object.is_dir() => {
                // The layer has something in the directory, and says nothing of the directory
                // itself.
                match opaque {
                    true => Did::Changed(Differences::default()),
                    false => return Ok(None),
                }
            }
            Some(before) => Did::Changed(self.difference(place, &object, &before.shown)?),
        };
        let hides = before.is_some_and(|before| before.shown.object.is_dir());
        Ok(Some(Mention {
            layer: Some(place + 1),
            did,
            object: Some(object),
            opaque: opaque && hides,
            with: None,
        }))
    }
}

/// What a container or an upper did to a path, which is as it is `now` over layers that have
/// `before` there. `changed` says whether the object is its own.
///
/// # Errors
/// What the trees report.
pub fn own_mention<A: AsObjects, B: AsObjects>(
    before: Option<(&A, &Object)>,
    now: Option<(&B, &Object)>,
    changed: bool,
) -> Result<Option<Mention>> {
    let mention = |did, object| Mention {
        layer: None,
        did,
        object,
        opaque: false,
        with: None,
    };
    Ok(match (before, now) {
        (None, None) => None,
        (Some(_), None) => Some(mention(Did::Removed, None)),
        (None, Some((_, object))) => Some(mention(Did::Added, Some(*object))),
        (Some(_), Some(_)) if !changed => None,
        (Some(before), Some(now)) => {
            let did = Did::Changed(compare(before, now)?);
            Some(mention(did, Some(*now.1)))
        }
    })
}
