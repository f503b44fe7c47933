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
use crate::archive::Progress;
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

/// Who has a file, or did something to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// A layer, 1 for the bottom one.
    Layer(usize),
    /// The container that is looked at.
    Container,
}

/// What became of a file of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It shows.
    Visible,
    /// Something else is at its place.
    Replaced(Owner),
    /// It was removed.
    Removed(Owner),
}

/// A file that is searched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its path, with a leading slash.
    pub path: Vec<u8>,
    /// When all layers are searched: who has the file, and what became of it.
    pub of: Option<(Owner, State)>,
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
    progress: &dyn Progress,
    finder: &mut dyn Finder,
) -> Result<(), Failure> {
    let tree = image.tree()?;
    let start = tree.find(path, Last::Follow)?;
    let files = files(&tree, &start, query)?;
    let files = files.into_iter().map(|(path, object)| File {
        tree: &tree,
        object,
        place: Place { path, of: None },
    });
    read(files.collect(), query, progress, finder)
}

/// Searches the files of every layer at and below a path, from the bottom layer up, and a
/// container's own above them, and says of each what became of it.
///
/// # Errors
/// `NotFound` when no layer has the path; what the finder reports.
pub fn all_layers(
    image: &Image,
    path: &[u8],
    query: &Query,
    progress: &dyn Progress,
    finder: &mut dyn Finder,
) -> Result<(), Failure> {
    let mut trees = Vec::new();
    for layer in &image.layers {
        trees.push(image.tree_of(Span::Layer(layer.number))?);
    }
    let container = match image.container {
        Some(_) => Some(image.tree_of(Span::All)?),
        None => None,
    };
    let indexes: Vec<&Index> = trees.iter().filter_map(Tree::index).collect();
    let mut found = Vec::new();
    let mut missing = None;
    let mut there = false;
    for (at, tree) in trees.iter().enumerate() {
        let Some(start) = start(tree, path, &mut missing)? else {
            continue;
        };
        there = true;
        for (path, object) in files(tree, &start, query)? {
            let names: Vec<&[u8]> = path
                .split(|b| *b == b'/')
                .filter(|n| !n.is_empty())
                .collect();
            let state = match (fate(&indexes, at, &names)?, &container) {
                (Fate::Visible, None) => State::Visible,
                (Fate::Visible, Some(own)) => in_container(own, &path, (tree, &object))?,
                (Fate::Replaced { by }, _) => State::Replaced(Owner::Layer(by + 1)),
                (Fate::Removed { by }, _) => State::Removed(Owner::Layer(by + 1)),
            };
            let of = Some((Owner::Layer(at + 1), state));
            let place = Place { path, of };
            found.push(File {
                tree,
                object,
                place,
            });
        }
    }
    if let Some(tree) = &container
        && let Some(start) = start(tree, path, &mut missing)?
    {
        there = true;
        for (path, object) in files(tree, &start, query)? {
            if tree.has_own_data(&object)? {
                let of = Some((Owner::Container, State::Visible));
                let place = Place { path, of };
                found.push(File {
                    tree,
                    object,
                    place,
                });
            }
        }
    }
    match missing.filter(|_| !there) {
        Some(missing) => Err(missing),
        None => read(found, query, progress, finder),
    }
}

/// What a tree has at a path; why nothing, where it has nothing.
fn start(tree: &Tree, path: &[u8], why: &mut Option<Failure>) -> Result<Option<Found>, Failure> {
    match tree.find(path, Last::Keep) {
        Ok(start) => Ok(Some(start)),
        Err(e) if e.kind() == FailureKind::NotFound => {
            *why = Some(e);
            Ok(None)
        }
        Err(e) => Err(e),
    }
}

/// What a container did to a file that its image shows.
fn in_container(own: &Tree, path: &[u8], file: (&Tree, &Object)) -> Result<State, Failure> {
    let Ok(now) = own.resolve(path, Last::Keep) else {
        return Ok(State::Removed(Owner::Container));
    };
    let same = || -> Result<bool, Failure> {
        let key = own.content_key(&now.object)?;
        Ok(key.is_some() && key == file.0.content_key(file.1)?)
    };
    Ok(match !own.is_changed(&now.object)? || same()? {
        true => State::Visible,
        false => State::Replaced(Owner::Container),
    })
}

/// A file that is to be searched.
struct File<'t> {
    tree: &'t Tree,
    object: Object,
    place: Place,
}

fn read(
    files: Vec<File<'_>>,
    query: &Query,
    progress: &dyn Progress,
    finder: &mut dyn Finder,
) -> Result<(), Failure> {
    let total = files.iter().map(|file| file.object.stat.size);
    progress.begin("Searching", Some(total.fold(0, u64::saturating_add)));
    let searched = files
        .iter()
        .try_for_each(|file| one(file, query, progress, finder));
    progress.end();
    searched
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
    file: &File<'_>,
    query: &Query,
    progress: &dyn Progress,
    finder: &mut dyn Finder,
) -> Result<(), Failure> {
    let place = &file.place;
    let about = || place.path.escape_ascii().to_string();
    let mut reader = match file.tree.open(&file.object) {
        Ok(contents) => Watched {
            inner: ContentReader::new(contents),
            failed: false,
            read: 0,
            progress,
        },
        Err(e) => {
            finder.trouble(place, Failure::from(e).context(about()));
            return Ok(());
        }
    };
    let searched = search(
        &mut reader,
        &query.pattern,
        query.want,
        query.binary,
        &mut |hit| finder.hit(place, hit),
    );
    // What need not be read is done, too.
    progress.advance(file.object.stat.size.saturating_sub(reader.read));
    match searched {
        Ok(count) => finder.file(place, count),
        Err(e) if reader.failed => {
            finder.trouble(place, e.context(about()));
            Ok(())
        }
        Err(e) => Err(e).context(about),
    }
}

/// Tells an error of the file from one of the finder, and how much is read.
struct Watched<'p, R> {
    inner: R,
    failed: bool,
    read: u64,
    progress: &'p dyn Progress,
}

impl<R: std::io::Read> std::io::Read for Watched<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buf);
        self.failed |= read.is_err();
        let n = *read.as_ref().unwrap_or(&0) as u64;
        self.read += n;
        self.progress.advance(n);
        read
    }
}
