//! Searching the contents of files: what a tree shows, or everything that any layer has.

pub mod pattern;
pub mod search;

use regex::bytes::Regex;

use super::data::ContentReader;
use super::fate::{Fate, fate};
use super::glob::{Case, matches};
use super::image::Image;
use super::path::{Found, Last};
use super::target::Span;
use super::tree::{Object, Tree};
use super::walk::{Descend, Visit};
use crate::error::{Context, Failure, FailureKind};
use crate::index::Index;
use search::{Binary, Hit, Want, search};

/// What is searched for, and where.
#[derive(Debug, Clone)]
pub struct Query {
    /// The pattern.
    pub pattern: Regex,
    /// What is wanted of each file.
    pub want: Want,
    /// What is taken for text.
    pub binary: Binary,
    /// Only files whose names match one of these (the shell's patterns); all when there are none.
    pub include: Vec<Vec<u8>>,
    /// No files whose names match one of these.
    pub exclude: Vec<Vec<u8>>,
}

impl Query {
    fn wants(&self, name: &[u8]) -> bool {
        let any = |all: &[Vec<u8>]| all.iter().any(|p| matches(p, name, Case::Kept));
        (self.include.is_empty() || any(&self.include)) && !any(&self.exclude)
    }
}

/// A file that is searched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its path, with a leading slash.
    pub path: Vec<u8>,
    /// When all layers are searched: the layer, 1 for the bottom one, and what became of the file.
    /// The layers of the fate are counted from 1 too.
    pub layer: Option<(usize, Fate)>,
}

/// Is told what a search finds.
pub trait Finder {
    /// Something in a file, where lines are wanted.
    ///
    /// # Errors
    /// One that ends the search.
    fn hit(&mut self, place: &Place, hit: Hit<'_>) -> Result<(), Failure>;

    /// A file has been searched; so many lines matched, or [`Want::Any`] one.
    ///
    /// # Errors
    /// One that ends the search.
    fn file(&mut self, place: &Place, count: u64) -> Result<(), Failure>;

    /// A file can't be read. The search goes on.
    fn trouble(&mut self, place: &Place, failure: Failure);
}

/// Searches what an image or container shows at and below a path, each file once, in the order in
/// which files are stored.
///
/// # Errors
/// `NotFound` when there is no such path; what the finder reports.
pub fn visible(
    image: &Image,
    path: &[u8],
    query: &Query,
    finder: &mut dyn Finder,
) -> Result<(), Failure> {
    let tree = image.tree()?;
    let start = tree.find(path, Last::Follow)?;
    for (path, object) in files(&tree, &start, query)? {
        let place = Place { path, layer: None };
        one(&tree, &object, &place, query, finder)?;
    }
    Ok(())
}

/// Searches the files of every layer at and below a path, from the bottom layer up, and says of each
/// what became of it. A container's own changes are no layer.
///
/// # Errors
/// `NotFound` when no layer has the path; what the finder reports.
pub fn all_layers(
    image: &Image,
    path: &[u8],
    query: &Query,
    finder: &mut dyn Finder,
) -> Result<(), Failure> {
    let mut trees = Vec::new();
    for layer in &image.layers {
        trees.push(image.tree_of(Span::Layer(layer.number))?);
    }
    let indexes: Vec<&Index> = trees.iter().filter_map(Tree::index).collect();
    let mut missing = None;
    let mut there = false;
    for (at, tree) in trees.iter().enumerate() {
        let start = match tree.find(path, Last::Keep) {
            Ok(start) => start,
            Err(e) if e.kind() == FailureKind::NotFound => {
                missing = Some(e);
                continue;
            }
            Err(e) => return Err(e),
        };
        there = true;
        for (path, object) in files(tree, &start, query)? {
            let names: Vec<&[u8]> = path
                .split(|b| *b == b'/')
                .filter(|n| !n.is_empty())
                .collect();
            let fate = match fate(&indexes, at, &names)? {
                Fate::Visible => Fate::Visible,
                Fate::Replaced { by } => Fate::Replaced { by: by + 1 },
                Fate::Removed { by } => Fate::Removed { by: by + 1 },
            };
            let layer = Some((at + 1, fate));
            let place = Place { path, layer };
            one(tree, &object, &place, query, finder)?;
        }
    }
    match missing.filter(|_| !there) {
        Some(missing) => Err(missing),
        None => Ok(()),
    }
}

/// The files that are to be searched, each once, by the place of their bytes.
fn files(tree: &Tree, start: &Found, query: &Query) -> Result<Vec<(Vec<u8>, Object)>, Failure> {
    let mut found = Vec::new();
    let mut seen = std::collections::HashSet::new();
    tree.walk(&start.path, start.object, &mut |visit: &Visit<'_>| {
        let object = visit.entry.object().filter(Object::is_file);
        let Some(object) = object.filter(|o| o.stat.size > 0) else {
            return Ok(Descend::Into);
        };
        // What was named is searched, whatever its name is.
        if (visit.depth == 0 || query.wants(visit.name()))
            && (object.stat.nlink < 2 || seen.insert(object.id()))
        {
            found.push((tree.origin(&object)?, visit.path.to_vec(), object));
        }
        Ok(Descend::Into)
    })?;
    found.sort_by_key(|(origin, _, _)| *origin);
    Ok(found
        .into_iter()
        .map(|(_, path, object)| (path, object))
        .collect())
}

fn one(
    tree: &Tree,
    object: &Object,
    place: &Place,
    query: &Query,
    finder: &mut dyn Finder,
) -> Result<(), Failure> {
    let about = || place.path.escape_ascii().to_string();
    let reader = match tree.open(object) {
        Ok(contents) => Watched {
            inner: ContentReader::new(contents),
            failed: false,
        },
        Err(e) => {
            finder.trouble(place, Failure::from(e).context(about()));
            return Ok(());
        }
    };
    let mut reader = reader;
    let searched = search(
        &mut reader,
        &query.pattern,
        query.want,
        query.binary,
        &mut |hit| finder.hit(place, hit),
    );
    match searched {
        Ok(count) => finder.file(place, count),
        Err(e) if reader.failed => {
            finder.trouble(place, e.context(about()));
            Ok(())
        }
        Err(e) => Err(e).context(about),
    }
}

/// Tells an error of the file from one of the finder.
struct Watched<R> {
    inner: R,
    failed: bool,
}

impl<R: std::io::Read> std::io::Read for Watched<R> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buf);
        self.failed |= read.is_err();
        read
    }
}
