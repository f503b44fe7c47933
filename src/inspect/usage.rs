//! Where the bytes of a tree are: by directory, by kind of file, by package.
//!
//! A file's bytes are those of its contents that are no hole. A file with several names counts once,
//! under the first one in the order of the walk. Directories and links have none.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::packages::{Package, packages};
use super::path::Found;
use super::tree::{Object, Tree};
use super::walk::{Descend, Visit, Visitor};
use crate::error::Failure;

/// What is at and below a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    /// The path.
    pub path: Vec<u8>,
    /// How many levels below the start.
    pub depth: usize,
    /// Whether it is a directory.
    pub is_dir: bool,
    /// Bytes of files at and below it.
    pub bytes: u64,
    /// How many objects there are at and below it, each name counted.
    pub entries: u64,
}

/// What files of one kind take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// The kind: an extension with its dot, a package, or empty for those that have none.
    pub name: Vec<u8>,
    /// A package's version; empty otherwise.
    pub version: String,
    /// Bytes.
    pub bytes: u64,
    /// Files.
    pub files: u64,
}

/// Bytes of an object's contents that are no hole.
#[must_use]
pub fn bytes_of(object: &Object) -> u64 {
    match object.is_file() {
        true => object.stat.size.min(object.stat.blocks.saturating_mul(512)),
        false => 0,
    }
}

/// Files with several names that have been counted.
#[derive(Default)]
struct Once(HashSet<u64>);

impl Once {
    /// Its bytes; `None` when it has been counted.
    fn take(&mut self, object: &Object) -> Option<u64> {
        let again = object.stat.nlink > 1 && !object.is_dir() && !self.0.insert(object.id());
        (!again).then(|| bytes_of(object))
    }

    fn bytes(&mut self, object: &Object) -> u64 {
        self.take(object).unwrap_or(0)
    }
}

/// Which rows of [`usage`] are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rows {
    /// The deepest level, 0 for the start alone; all without.
    pub max_depth: Option<usize>,
    /// Files too, not directories alone.
    pub files: bool,
}

/// The usage of an object and of what is below it, as du(1) orders it: what is in a directory before
/// the directory.
///
/// # Errors
/// `System` when an index is damaged.
pub fn usage(tree: &Tree, start: &Found, rows: Rows) -> Result<Vec<Usage>, Failure> {
    let mut walk = UsageWalk {
        rows,
        once: Once::default(),
        open: Vec::new(),
        found: Vec::new(),
    };
    tree.walk(&start.path, start.object, &mut walk)?;
    Ok(walk.found)
}

struct UsageWalk {
    rows: Rows,
    once: Once,
    /// Bytes and entries of the directories that are being walked.
    open: Vec<(u64, u64)>,
    found: Vec<Usage>,
}

impl UsageWalk {
    fn row(&mut self, visit: &Visit<'_>, is_dir: bool, bytes: u64, entries: u64) {
        let wanted = is_dir || self.rows.files || visit.depth == 0;
        if wanted && self.rows.max_depth.is_none_or(|max| visit.depth <= max) {
            self.found.push(Usage {
                path: visit.path.to_vec(),
                depth: visit.depth,
                is_dir,
                bytes,
                entries,
            });
        }
    }

    fn count(&mut self, bytes: u64, entries: u64) {
        if let Some((all, count)) = self.open.last_mut() {
            *all += bytes;
            *count += entries;
        }
    }
}

impl Visitor for UsageWalk {
    fn enter(&mut self, visit: &Visit<'_>) -> Result<Descend, Failure> {
        match visit.entry.object() {
            Some(object) if object.is_dir() => self.open.push((0, 1)),
            Some(object) => {
                let bytes = self.once.take(&object);
                self.count(bytes.unwrap_or(0), 1);
                if let Some(bytes) = bytes {
                    self.row(visit, false, bytes, 1);
                }
            }
            None => {}
        }
        Ok(Descend::Into)
    }

    fn leave(&mut self, visit: &Visit<'_>) -> Result<(), Failure> {
        let (bytes, entries) = self.open.pop().unwrap_or_default();
        self.count(bytes, entries);
        self.row(visit, true, bytes, entries);
        Ok(())
    }
}

/// The usage of files by extension, the largest first, then by name.
///
/// # Errors
/// `System` when an index is damaged.
pub fn by_extension(tree: &Tree, start: &Found) -> Result<Vec<Share>, Failure> {
    let mut shares = Shares::default();
    let mut once = Once::default();
    tree.walk(&start.path, start.object, &mut |visit: &Visit<'_>| {
        if let Some(object) = visit.entry.object().filter(Object::is_file) {
            shares.add(extension(visit.name()), "", once.bytes(&object));
        }
        Ok(Descend::Into)
    })?;
    Ok(shares.sorted())
}

/// A name's extension with its dot, in lower case; empty when it has none. A library's version is no
/// part of it.
fn extension(name: &[u8]) -> Vec<u8> {
    let version = |b: &u8| b.is_ascii_digit() || *b == b'.';
    let end = name
        .iter()
        .rposition(|b| !version(b))
        .map_or(0, |at| at + 1);
    let name = match name.get(..end).filter(|n| n.ends_with(b".so")) {
        Some(library) => library,
        None => name,
    };
    let Some(dot) = name.iter().rposition(|b| *b == b'.').filter(|dot| *dot > 0) else {
        return Vec::new();
    };
    let extension = name.get(dot..).unwrap_or_default();
    let sound = (2..=17).contains(&extension.len())
        && extension
            .iter()
            .skip(1)
            .all(|b| b.is_ascii_alphanumeric() || b"_+-".contains(b));
    match sound {
        true => extension.to_ascii_lowercase(),
        false => Vec::new(),
    }
}

/// The usage of files by the package that they belong to, the largest first, then by name; `None`
/// when there is no database of packages. Reads the databases.
///
/// # Errors
/// `System` when an index is damaged or a database can't be read.
pub fn by_package(tree: &Tree, start: &Found) -> Result<Option<Vec<Share>>, Failure> {
    let Some(packages) = packages(tree)? else {
        return Ok(None);
    };
    let mut owners: HashMap<u64, &Package> = HashMap::new();
    for package in &packages {
        for path in &package.files {
            // What a package lists may be gone, or below a directory that is a link now.
            if let Ok(found) = tree.resolve(path, super::path::Last::Keep)
                && found.object.is_file()
            {
                owners.entry(found.object.id()).or_insert(package);
            }
        }
    }
    let mut shares = Shares::default();
    let mut once = Once::default();
    tree.walk(&start.path, start.object, &mut |visit: &Visit<'_>| {
        if let Some(object) = visit.entry.object().filter(Object::is_file) {
            let owner = owners.get(&object.id());
            let name = owner.map_or(Vec::new(), |p| p.name.clone());
            shares.add(name, owner.map_or("", |p| &p.version), once.bytes(&object));
        }
        Ok(Descend::Into)
    })?;
    Ok(Some(shares.sorted()))
}

#[derive(Default)]
struct Shares(BTreeMap<Vec<u8>, Share>);

impl Shares {
    fn add(&mut self, name: Vec<u8>, version: &str, bytes: u64) {
        let share = self.0.entry(name.clone()).or_insert_with(|| Share {
            name,
            version: version.to_owned(),
            bytes: 0,
            files: 0,
        });
        share.bytes += bytes;
        share.files += 1;
    }

    fn sorted(self) -> Vec<Share> {
        let mut all: Vec<_> = self.0.into_values().collect();
        all.sort_by_key(|share| std::cmp::Reverse(share.bytes));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extensions() {
        let text = |name: &str| String::from_utf8(extension(name.as_bytes())).unwrap();
        assert_eq!(text("a.tar.GZ"), ".gz");
        for none in [
            "a",
            ".bashrc",
            "a.",
            "a.b c",
            "x.this-is-no-extension-at-all",
        ] {
            assert_eq!(text(none), "", "{none}");
        }
        for library in ["lib.so", "lib.so.1.2"] {
            assert_eq!(text(library), ".so");
        }
        assert_eq!(text("man.1"), ".1");
    }
}
