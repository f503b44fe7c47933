//! Which layers have a path, and what each did to it.

use super::changes::Did;
use super::image::Image;
use super::path::Last;
use super::stack::{Merged, Stack};
use super::target::Span;
use super::tree::{Entry, Object, Tree};
use crate::error::{Failure, Result};
use crate::name::Name;

/// What one layer did to a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mention {
    /// The layer's number, 1 for the bottom one; `None` for a container's own changes.
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

/// The answer for a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// The path that was looked for: links on the way to it followed, where the image has it.
    pub path: Vec<u8>,
    /// Those who have something to say of it, from the top.
    pub mentions: Vec<Mention>,
}

/// Every layer of those named that has a path, from the top, and what it did.
///
/// # Errors
/// [`Failure`] of kind `System` when an index is damaged.
pub fn which(image: &Image, path: &[u8]) -> Result<History, Failure> {
    let stack = Stack::of(image)?;
    let path = canonical(&image.tree()?, path);
    let mut mentions = Vec::new();
    let (low, high) = match image.span {
        Span::All => (0, stack.len()),
        Span::UpTo(count) => (0, count),
        Span::Layer(number) => (number - 1, number),
    };
    if image.container.is_some() && image.span == Span::All {
        mentions.extend(in_container(image, &path)?);
    }
    for place in (low..high).rev() {
        mentions.extend(mention(&stack, place, &path)?);
    }
    Ok(History { path, mentions })
}

/// The path with the links of its directories followed, where it is in the tree; else of as much of
/// it as is there.
fn canonical(tree: &Tree, path: &[u8]) -> Vec<u8> {
    let whole = [b"/", path].concat();
    let mut names: Vec<&[u8]> = whole.split(|b| *b == b'/').collect();
    names.retain(|name| !name.is_empty() && *name != b".");
    let mut rest: Vec<&[u8]> = Vec::new();
    loop {
        let here = [b"/", names.join(&b'/').as_slice()].concat();
        // The last name is not followed, unless more came after it.
        let last = match rest.is_empty() {
            true => Last::Keep,
            false => Last::Follow,
        };
        if let Ok(found) = tree.resolve(&here, last) {
            let mut path = found.path;
            for name in rest.iter().rev() {
                if path.last() != Some(&b'/') {
                    path.push(b'/');
                }
                path.extend_from_slice(name);
            }
            return path;
        }
        match names.pop() {
            Some(name) => rest.push(name),
            None => return whole,
        }
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

/// What the layer at `place` has to say of a path.
fn mention(stack: &Stack, place: usize, path: &[u8]) -> Result<Option<Mention>> {
    let Some(tree) = stack.tree(place) else {
        return Ok(None);
    };
    let before = stack.at(place, path)?;
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
    found(stack, place, here, before, hidden.is_some())
}

fn found(
    stack: &Stack,
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
            // The layer has something in the directory, and says nothing of the directory itself.
            match opaque {
                true => Did::Changed(Default::default()),
                false => return Ok(None),
            }
        }
        Some(before) => Did::Changed(stack.difference(place, &object, &before.shown)?),
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

/// What a container did to a path of its image.
fn in_container(image: &Image, path: &[u8]) -> Result<Option<Mention>, Failure> {
    let merged = image.tree()?;
    let base = image.tree_of(Span::UpTo(image.layers.len()))?;
    let now = merged.resolve(path, Last::Keep).ok();
    let before = base.resolve(path, Last::Keep).ok();
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
        (None, Some(now)) => Some(mention(Did::Added, Some(now.object))),
        (Some(before), Some(now)) => {
            if !merged.is_changed(&now.object)? {
                return Ok(None);
            }
            let did = super::compare::compare((&base, &before.object), (&merged, &now.object))?;
            Some(mention(Did::Changed(did), Some(now.object)))
        }
    })
}
