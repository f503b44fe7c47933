//! The difference between two images, containers, layers or archives: their trees and their
//! configurations.
//!
//! Trees are compared by their indexes. A file's bytes are read only where the indexes can't tell: its
//! length is the same, and one of the two has no content key (a file that a container has written).

pub mod config;
pub mod text;

use std::cmp::Ordering;

use super::path::Found;
use super::tree::{Child, Entry, Object, Tree};
use crate::content::ReadAt;
use crate::error::{Context, Failure};
use crate::layer::compare::{Differences, compare};
use crate::stat::FileType;

/// What became of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Letter {
    /// Only the second tree has it.
    Added,
    /// Both have it, and it is not the same.
    Changed,
    /// Only the first tree has it.
    Deleted,
}

impl Letter {
    /// `A`, `C` or `D`.
    #[must_use]
    pub fn char(self) -> char {
        match self {
            Letter::Added => 'A',
            Letter::Changed => 'C',
            Letter::Deleted => 'D',
        }
    }
}

/// A path at which two trees differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeChange {
    /// The path below what was compared, with a leading slash.
    pub path: Vec<u8>,
    /// What became of it.
    pub letter: Letter,
    /// What is different, where both have it.
    pub differences: Differences,
    /// In single layers: what is there is a whiteout, an opaque mark or a link to a layer below, in
    /// one of the two or in another way.
    pub marks: bool,
    /// What the first tree has.
    pub before: Option<Entry>,
    /// What the second tree has.
    pub after: Option<Entry>,
}

impl TreeChange {
    /// What is different, a word each: `type`, `content`, `target`, `device`, `mode`, `owner`,
    /// `times`, `xattrs`, `marks`.
    #[must_use]
    pub fn words(&self) -> Vec<&'static str> {
        let kind = self.after.and_then(Entry::object).map(|o| o.stat.kind);
        let content = match kind {
            Some(FileType::Symlink) => "target",
            Some(FileType::CharDevice | FileType::BlockDevice) => "device",
            _ => "content",
        };
        let names = self.differences.names().into_iter();
        let mut words: Vec<_> = names
            .map(|n| if n == "content" { content } else { n })
            .collect();
        if self.marks {
            words.push("marks");
        }
        words
    }

    /// The regular files whose bytes are different: of an added or deleted one, itself.
    #[must_use]
    pub fn files(&self) -> (Option<Object>, Option<Object>) {
        let file = |entry: Option<Entry>| entry.and_then(Entry::object).filter(Object::is_file);
        match self.letter {
            Letter::Changed if !self.differences.in_content() => (None, None),
            _ => (file(self.before), file(self.after)),
        }
    }
}

/// How much is different.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stat {
    /// Objects that only the second tree has.
    pub added: u64,
    /// Objects that both have.
    pub changed: u64,
    /// Objects that only the first tree has.
    pub deleted: u64,
    /// Bytes of files that are new or different, in the second tree.
    pub bytes_added: u64,
    /// Bytes of files that are gone or different, in the first tree.
    pub bytes_deleted: u64,
}

impl Stat {
    /// Counts one more change.
    pub fn count(&mut self, change: &TreeChange) {
        match change.letter {
            Letter::Added => self.added += 1,
            Letter::Changed => self.changed += 1,
            Letter::Deleted => self.deleted += 1,
        }
        let (before, after) = change.files();
        let len = |file: Option<Object>| file.map_or(0, |f| f.stat.size);
        self.bytes_added += len(after);
        self.bytes_deleted += len(before);
    }
}

/// A directory of both trees on the way, with what is still to be looked at in it.
struct Level {
    before: std::iter::Peekable<std::vec::IntoIter<Child>>,
    after: std::iter::Peekable<std::vec::IntoIter<Child>>,
    /// Length of its path.
    path_len: usize,
}

/// Calls `each` for every path at which what is at and below `before` differs from `after`: parents
/// before children, names in the order of their bytes.
///
/// # Errors
/// `System` when an index is damaged or a file can't be read; what `each` reports.
pub fn trees(
    before: (&Tree, &Found),
    after: (&Tree, &Found),
    each: &mut dyn FnMut(TreeChange) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut walk = Walk {
        before: before.0,
        after: after.0,
        each,
    };
    let mut path = b"/".to_vec();
    let (old, new) = (
        Entry::Object(before.1.object),
        Entry::Object(after.1.object),
    );
    let mut levels: Vec<Level> = Vec::new();
    levels.extend(walk.pair(&path, Some(old), Some(new))?);
    while let Some(level) = levels.last_mut() {
        path.truncate(level.path_len);
        let order = match (level.before.peek(), level.after.peek()) {
            (None, None) => {
                levels.pop();
                continue;
            }
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(a), Some(b)) => a.name.as_bytes().cmp(b.name.as_bytes()),
        };
        let old = order.is_le().then(|| level.before.next()).flatten();
        let new = order.is_ge().then(|| level.after.next()).flatten();
        let Some(name) = old.as_ref().or(new.as_ref()).map(|c| c.name.clone()) else {
            continue;
        };
        if path.last() != Some(&b'/') {
            path.push(b'/');
        }
        path.extend_from_slice(name.as_bytes());
        levels.extend(walk.pair(&path, old.map(|c| c.entry), new.map(|c| c.entry))?);
    }
    Ok(())
}

struct Walk<'a> {
    before: &'a Tree,
    after: &'a Tree,
    each: &'a mut dyn FnMut(TreeChange) -> Result<(), Failure>,
}

impl Walk<'_> {
    /// Compares what is at a path; what is below it is still to be looked at.
    fn pair(
        &mut self,
        path: &[u8],
        before: Option<Entry>,
        after: Option<Entry>,
    ) -> Result<Option<Level>, Failure> {
        let (differences, marks) = match (before, after) {
            (Some(Entry::Object(old)), Some(Entry::Object(new))) => self
                .objects(&old, &new)
                .context(|| path.escape_ascii().to_string())?,
            (Some(old), Some(new)) => (Differences::default(), old != new),
            _ => (Differences::default(), false),
        };
        let letter = match (before, after) {
            (None, _) => Some(Letter::Added),
            (_, None) => Some(Letter::Deleted),
            _ => (differences.any() || marks).then_some(Letter::Changed),
        };
        if let Some(letter) = letter {
            (self.each)(TreeChange {
                path: path.to_vec(),
                letter,
                differences,
                marks,
                before,
                after,
            })?;
        }
        let dir = |entry: Option<Entry>| entry.and_then(Entry::object).filter(Object::is_dir);
        let (old, new) = (dir(before), dir(after));
        if old.is_none() && new.is_none() {
            return Ok(None);
        }
        let children = |tree: &Tree, dir: Option<Object>| match dir {
            Some(dir) => tree.children(&dir),
            None => Ok(Vec::new()),
        };
        Ok(Some(Level {
            before: children(self.before, old)?.into_iter().peekable(),
            after: children(self.after, new)?.into_iter().peekable(),
            path_len: path.len(),
        }))
    }

    fn objects(&self, old: &Object, new: &Object) -> Result<(Differences, bool), Failure> {
        let mut differences = compare((self.before, old), (self.after, new))?;
        let links = (self.before.link_target(old)?, self.after.link_target(new)?);
        let marks = links.0 != links.1
            || old.marks.opaque != new.marks.opaque
            || old.marks.replaces != new.marks.replaces;
        if links.0.is_some() && links.1.is_some() {
            differences.content = false;
        }
        let may_be_same =
            differences.content && old.is_file() && new.is_file() && old.stat.size == new.stat.size;
        if may_be_same {
            let keys = (self.before.content_key(old)?, self.after.content_key(new)?);
            if keys.0.is_none() || keys.1.is_none() {
                let (old, new) = (self.before.open(old)?, self.after.open(new)?);
                differences.content = !same(old.as_ref(), new.as_ref())?;
            }
        }
        Ok((differences, marks))
    }
}

/// Whether two files have the same bytes.
fn same(a: &dyn ReadAt, b: &dyn ReadAt) -> Result<bool, Failure> {
    let (mut left, mut right) = (vec![0; 256 << 10], vec![0; 256 << 10]);
    let mut at = 0;
    loop {
        let n = a.read_at(&mut left, at)?;
        let m = b.read_at(&mut right, at)?;
        if left.get(..n) != right.get(..m) {
            return Ok(false);
        }
        if n == 0 {
            return Ok(true);
        }
        at += n as u64;
    }
}
