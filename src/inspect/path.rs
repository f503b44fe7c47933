//! Paths: from names to objects, symbolic links followed inside the tree only.

use super::tree::{Entry, Object, Tree};
use crate::error::{Errno, Error, Failure, FailureKind, Result};
use crate::name::Name;
use crate::stat::FileType;

/// How many symbolic links are followed on the way to an object, as Linux does.
const LINKS_MAX: usize = 40;
/// The longest path that is resolved, in bytes, with the targets of its links.
const PATH_MAX: usize = 1 << 16;

/// An object that a path leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The path without links, `.` and `..`, with a leading slash.
    pub path: Vec<u8>,
    /// What is there.
    pub object: Object,
}

/// What happens to a symbolic link at the end of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Last {
    /// It is followed, as by stat(2).
    Follow,
    /// It is itself what is meant, as for lstat(2), unless a slash comes after it.
    Keep,
}

/// The place that a resolution has come to: the objects from the root down.
struct Trail {
    root: Object,
    steps: Vec<(Vec<u8>, Object)>,
}

impl Trail {
    fn object(&self) -> Object {
        self.steps.last().map_or(self.root, |(_, object)| *object)
    }

    fn path(&self) -> Vec<u8> {
        let mut path = Vec::new();
        for (name, _) in &self.steps {
            path.push(b'/');
            path.extend_from_slice(name);
        }
        match path.is_empty() {
            true => b"/".to_vec(),
            false => path,
        }
    }
}

impl Tree {
    /// The object at a path. It begins at the root, with or without a slash; `..` does not leave
    /// the tree, and links with absolute targets begin at its root again.
    ///
    /// # Errors
    /// `ENOENT`, `ENOTDIR`, `ELOOP`, `ENAMETOOLONG` as a system call gives them; what the tree
    /// reports.
    pub fn resolve(&self, path: &[u8], last: Last) -> Result<Found> {
        let mut trail = Trail {
            root: self.root()?,
            steps: Vec::new(),
        };
        // The components still to be walked, the next one last.
        let mut rest = components(path);
        let slash = path.ends_with(b"/") || path.ends_with(b"/.");
        let mut links = 0;
        while let Some(name) = rest.pop() {
            let here = trail.object();
            if !here.is_dir() {
                return Err(Error::new(Errno::ENOTDIR));
            }
            match name.as_slice() {
                b"." => continue,
                b".." => {
                    trail.steps.pop();
                    continue;
                }
                _ => {}
            }
            let found = self.lookup(&here, Name::from_bytes(&name)?)?;
            let object = found
                .and_then(Entry::object)
                .ok_or_else(|| Error::new(Errno::ENOENT))?;
            let keep = rest.is_empty() && !slash && last == Last::Keep;
            if object.stat.kind != FileType::Symlink || keep {
                trail.steps.push((name, object));
                continue;
            }
            links += 1;
            let target = self.read_link(&object)?;
            let length: usize = rest.iter().map(|name| name.len() + 1).sum();
            if links > LINKS_MAX || length + target.len() > PATH_MAX {
                return Err(Error::new(Errno::ELOOP));
            }
            if target.is_empty() {
                return Err(Error::new(Errno::ENOENT));
            }
            if target.starts_with(b"/") {
                trail.steps.clear();
            }
            if target.ends_with(b"/") {
                rest.push(b".".to_vec());
            }
            rest.append(&mut components(&target));
        }
        let object = trail.object();
        if slash && !object.is_dir() {
            return Err(Error::new(Errno::ENOTDIR));
        }
        Ok(Found {
            path: trail.path(),
            object,
        })
    }

    /// As [`Tree::resolve`], with a failure that names the path as the tools do.
    ///
    /// # Errors
    /// [`Failure`] of kind `NotFound` where there is no such object; `System` otherwise.
    pub fn find(&self, path: &[u8], last: Last) -> Result<Found, Failure> {
        self.resolve(path, last).map_err(|error| {
            let kind = match error.errno() {
                Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::ENAMETOOLONG => {
                    FailureKind::NotFound
                }
                _ => FailureKind::System,
            };
            Failure::new(kind, format!("{}: {error}", path.escape_ascii()))
        })
    }
}

/// The components of a path, the first one last.
fn components(path: &[u8]) -> Vec<Vec<u8>> {
    let names = path.split(|b| *b == b'/').filter(|name| !name.is_empty());
    let mut names: Vec<_> = names.map(<[u8]>::to_vec).collect();
    names.reverse();
    names
}

impl Tree {
    /// The path with all links followed, as `realpath` has it: of the last name it need not be
    /// there.
    ///
    /// # Errors
    /// As [`Tree::find`].
    pub fn canonical(&self, path: &[u8]) -> Result<Vec<u8>, Failure> {
        let missing = match self.resolve(path, Last::Follow) {
            Ok(found) => return Ok(found.path),
            Err(error) if error.errno() == Errno::ENOENT => error,
            Err(_) => return self.find(path, Last::Follow).map(|found| found.path),
        };
        let failure = |why: String| {
            let path = path.escape_ascii();
            Failure::not_found(format!("{path}: {why}"))
        };
        let mut names = components(path);
        let (Some(name), false) = (names.first().cloned(), names.is_empty()) else {
            return Err(failure(missing.to_string()));
        };
        names.remove(0);
        names.reverse();
        // A link that leads nowhere is followed to there.
        if let Ok(link) = self.resolve(path, Last::Keep)
            && link.object.stat.kind == FileType::Symlink
        {
            let target = self.read_link(&link.object)?;
            let base = match target.first() {
                Some(b'/') => Vec::new(),
                _ => names.join(&b'/'),
            };
            let target = [&b"/"[..], &base, b"/", &target].concat();
            return match links_left(&target) {
                true => self.canonical(&target),
                false => Err(failure(missing.to_string())),
            };
        }
        let dir = [&b"/"[..], &names.join(&b'/')].concat();
        let found = self.find(&dir, Last::Follow)?;
        match found.object.is_dir() && !matches!(name.as_slice(), b"." | b"..") {
            true if found.path == b"/" => Ok([b"/", name.as_slice()].concat()),
            true => Ok([&found.path, &b"/"[..], &name].concat()),
            false => Err(failure(missing.to_string())),
        }
    }
}

/// Whether a path that grew by following links may be followed further.
fn links_left(path: &[u8]) -> bool {
    path.len() <= PATH_MAX
}
