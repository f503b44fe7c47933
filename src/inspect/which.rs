//! Which layers have a path, and what each did to it.

use super::image::Image;
use super::path::Last;
use super::stack::Stack;
use super::target::Span;
use super::tree::Tree;
use crate::error::Failure;
use crate::layer::history::own_mention;

pub use crate::layer::history::Mention;

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
        mentions.extend(stack.mention(place, &path)?);
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

/// What a container did to a path of its image.
fn in_container(image: &Image, path: &[u8]) -> Result<Option<Mention>, Failure> {
    let merged = image.tree()?;
    let base = image.tree_of(Span::UpTo(image.layers.len()))?;
    let now = merged.resolve(path, Last::Keep).ok();
    let before = base.resolve(path, Last::Keep).ok();
    let changed = match &now {
        Some(now) => merged.is_changed(&now.object)?,
        None => true,
    };
    Ok(own_mention(
        before.as_ref().map(|found| (&base, &found.object)),
        now.as_ref().map(|found| (&merged, &found.object)),
        changed,
    )?)
}
