//! Walking a tree: parents before children, names in the order of their bytes, without recursion
//! (a hostile tree may be deep).

use super::tree::{Child, Entry, Object, Tree};
use crate::error::Failure;

/// One step of a walk.
#[derive(Debug, Clone, Copy)]
pub struct Visit<'a> {
    /// The path: the start's path, a slash, and the names below it.
    pub path: &'a [u8],
    /// How many levels below the start.
    pub depth: usize,
    /// What is there.
    pub entry: Entry,
}

impl Visit<'_> {
    /// The last component of the path.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        self.path.rsplit(|b| *b == b'/').next().unwrap_or_default()
    }
}

/// How a walk goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Descend {
    /// With what is in the directory.
    Into,
    /// With what comes after it.
    Over,
    /// Not at all.
    Stop,
}

/// Is told what a walk comes by. A closure is one that only enters.
pub trait Visitor {
    /// An object or whiteout, before what is in it.
    ///
    /// # Errors
    /// One that ends the walk.
    fn enter(&mut self, visit: &Visit<'_>) -> Result<Descend, Failure>;

    /// A directory that was gone into, after all that is in it.
    ///
    /// # Errors
    /// One that ends the walk.
    fn leave(&mut self, _visit: &Visit<'_>) -> Result<(), Failure> {
        Ok(())
    }
}

impl<F: FnMut(&Visit<'_>) -> Result<Descend, Failure>> Visitor for F {
    fn enter(&mut self, visit: &Visit<'_>) -> Result<Descend, Failure> {
        self(visit)
    }
}

/// A directory that is being walked.
struct Level {
    children: std::vec::IntoIter<Child>,
    object: Object,
    /// Length of its path.
    path_len: usize,
}

impl Tree {
    /// Walks an object and all below it. `path` is what its path is shown as: a visit's path is
    /// that, and the names below with slashes between.
    ///
    /// # Errors
    /// What the tree reports, and what the visitor does.
    pub fn walk(
        &self,
        path: &[u8],
        start: Object,
        visitor: &mut dyn Visitor,
    ) -> Result<(), Failure> {
        let mut path = path.to_vec();
        let mut levels: Vec<Level> = Vec::new();
        let mut next = Some(Entry::Object(start));
        loop {
            if let Some(entry) = next.take() {
                let visit = Visit {
                    path: &path,
                    depth: levels.len(),
                    entry,
                };
                let descend = visitor.enter(&visit)?;
                match (descend, entry.object().filter(Object::is_dir)) {
                    (Descend::Stop, _) => return Ok(()),
                    (Descend::Into, Some(object)) => levels.push(Level {
                        children: self.children(&object)?.into_iter(),
                        object,
                        path_len: path.len(),
                    }),
                    _ => {}
                }
            }
            let depth = levels.len();
            let Some(level) = levels.last_mut() else {
                return Ok(());
            };
            path.truncate(level.path_len);
            match level.children.next() {
                Some(child) => {
                    if path.last() != Some(&b'/') {
                        path.push(b'/');
                    }
                    path.extend_from_slice(child.name.as_bytes());
                    next = Some(child.entry);
                }
                None => {
                    let entry = Entry::Object(level.object);
                    visitor.leave(&Visit {
                        path: &path,
                        depth: depth - 1,
                        entry,
                    })?;
                    levels.pop();
                }
            }
        }
    }
}
