//! What a container changed: the difference of two merged trees, not a walk of the upper, so that
//! moved directories, metacopies and hard links come out as what they are.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::error::{Context, Failure, Result};
use crate::layer::Contents;
use crate::name::NameBuf;
use crate::stat::{FileType, Stat};
use crate::union::{Caller, Found, Node, OpenFlags, Union};

/// What happened to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// It is new.
    Added,
    /// It was there, and something of it is different.
    Modified,
    /// It is gone.
    Deleted,
}

/// One change.
#[derive(Debug, Clone)]
pub struct Change {
    /// The path from the root, without a leading slash; empty for the root itself.
    pub path: Vec<u8>,
    /// What happened.
    pub kind: ChangeKind,
    /// The object as it is now; `None` for one that is gone.
    pub found: Option<Found>,
    /// Whether only the number of its names is different: a layer has to have it, a person
    /// needn't be told.
    pub links_only: bool,
}

/// What a merged tree is compared to.
#[derive(Clone)]
pub enum Base {
    /// Nothing: all of it is new.
    Nothing,
    /// The same lowers, without the upper.
    Lowers(Arc<Union>),
    /// The lowest of the lowers.
    Lowest(Arc<Union>),
}

/// The difference of `merged` to the same lowers without an upper, sorted by path, parents first,
/// each path once.
///
/// # Errors
/// `System` when a layer can't be read.
pub fn changes(base: &Union, merged: &Union) -> Result<Vec<Change>, Failure> {
    compare(base, merged, true)
}

/// As [`changes`], to any base.
///
/// # Errors
/// As [`changes`].
pub fn changes_to(base: &Base, merged: &Union) -> Result<Vec<Change>, Failure> {
    match base {
        Base::Lowers(base) => compare(base, merged, true),
        Base::Lowest(base) => compare(base, merged, false),
        Base::Nothing => everything(merged),
    }
}

fn everything(merged: &Union) -> Result<Vec<Change>, Failure> {
    let mut walk = Walk {
        base: merged,
        merged,
        same_lowers: false,
        changes: Vec::new(),
    };
    let root = merged.root();
    let found = Found {
        stat: merged.getattr(&root)?,
        node: Arc::clone(&root),
    };
    walk.push(Vec::new(), ChangeKind::Modified, Some(found));
    walk.directory(&[], None, &root)?;
    Ok(walk.changes)
}

fn compare(base: &Union, merged: &Union, same_lowers: bool) -> Result<Vec<Change>, Failure> {
    let mut walk = Walk {
        base,
        merged,
        same_lowers,
        changes: Vec::new(),
    };
    let (old, new) = (base.root(), merged.root());
    let stats = (base.getattr(&old)?, merged.getattr(&new)?);
    if attributes_differ(&stats.0, &stats.1) || walk.xattrs_differ(&old, &new)? {
        let found = Found {
            node: Arc::clone(&new),
            stat: stats.1,
        };
        walk.push(Vec::new(), ChangeKind::Modified, Some(found));
    }
    walk.directory(&[], Some(&old), &new)?;
    Ok(walk.changes)
}

struct Walk<'u> {
    base: &'u Union,
    merged: &'u Union,
    /// Whether only the upper is between the two trees.
    same_lowers: bool,
    changes: Vec<Change>,
}

impl Walk<'_> {
    fn push(&mut self, path: Vec<u8>, kind: ChangeKind, found: Option<Found>) {
        self.changes.push(Change {
            path,
            kind,
            found,
            links_only: false,
        });
    }

    /// Compares the entries of a directory. Without `old`, all of it is new.
    fn directory(
        &mut self,
        path: &[u8],
        old: Option<&Arc<Node>>,
        new: &Arc<Node>,
    ) -> Result<(), Failure> {
        let about = || format!("\"/{}\"", path.escape_ascii());
        let mut names: BTreeMap<NameBuf, (bool, bool)> = BTreeMap::new();
        if let Some(old) = old {
            for entry in self
                .base
                .read_dir(old)
                .context(|| "list")
                .map_err(Failure::from)?
                .iter()
            {
                names.entry(entry.name.into()).or_default().0 = true;
            }
        }
        for entry in self.merged.read_dir(new).context(about)?.iter() {
            names.entry(entry.name.into()).or_default().1 = true;
        }
        for (name, (was, is)) in names {
            let mut below = path.to_vec();
            if !below.is_empty() {
                below.push(b'/');
            }
            below.extend_from_slice(name.as_bytes());
            let before = match old {
                Some(old) if was => self.base.peek(old, &name).context(about)?,
                _ => None,
            };
            let now = if is {
                self.merged.peek(new, &name).context(about)?
            } else {
                None
            };
            let ids = (
                before.as_ref().map(|f| f.node.id()),
                now.as_ref().map(|f| f.node.id()),
            );
            self.entry(below, before, now)?;
            // Nodes that no change refers to are not kept.
            if let Some(id) = ids.0 {
                self.base.forget(id, 0);
            }
            if let Some(id) = ids.1 {
                self.merged.forget(id, 0);
            }
        }
        Ok(())
    }

    fn entry(
        &mut self,
        path: Vec<u8>,
        before: Option<Found>,
        now: Option<Found>,
    ) -> Result<(), Failure> {
        match (before, now) {
            (None, None) => Ok(()),
            (Some(_), None) => {
                self.push(path, ChangeKind::Deleted, None);
                Ok(())
            }
            (None, Some(now)) => self.added(path, now),
            (Some(before), Some(now)) => self.both(path, &before, now),
        }
    }

    fn added(&mut self, path: Vec<u8>, now: Found) -> Result<(), Failure> {
        let dir = now.is_dir().then(|| Arc::clone(&now.node));
        self.push(path.clone(), ChangeKind::Added, Some(now));
        match dir {
            Some(dir) => self.directory(&path, None, &dir),
            None => Ok(()),
        }
    }

    fn both(&mut self, path: Vec<u8>, before: &Found, now: Found) -> Result<(), Failure> {
        // Nothing of the upper is here or below: the very same object.
        if !now.node.has_upper() && now.node.ino() == before.node.ino() && !now.node.is_dir() {
            return Ok(());
        }
        if before.stat.kind != now.stat.kind {
            let dir = now.is_dir().then(|| Arc::clone(&now.node));
            self.push(path.clone(), ChangeKind::Modified, Some(now));
            return match dir {
                Some(dir) => self.directory(&path, None, &dir),
                None => Ok(()),
            };
        }
        let differ = attributes_differ(&before.stat, &now.stat)
            || self.xattrs_differ(&before.node, &now.node)?
            || self.contents_differ(before, &now)?;
        let node = Arc::clone(&now.node);
        if !now.is_dir() {
            let links_only = !differ && before.stat.nlink != now.stat.nlink;
            if differ || links_only {
                let found = Some(now);
                self.changes.push(Change {
                    path,
                    kind: ChangeKind::Modified,
                    found,
                    links_only,
                });
            }
            return Ok(());
        }
        // The same parts in the same layers: nothing below can be different. With layers in between
        // that the base doesn't have, a directory of the same number may have other entries.
        let untouched = !node.has_upper() && node.ino() == before.node.ino();
        if untouched && self.same_lowers {
            return Ok(());
        }
        let at = self.changes.len();
        self.push(path.clone(), ChangeKind::Modified, Some(now));
        self.directory(&path, Some(&before.node), &node)?;
        // A directory that was only passed through, and is as it was, is no change.
        if !differ && self.changes.len() == at + 1 {
            self.changes.truncate(at);
        }
        Ok(())
    }

    fn xattrs_differ(&self, before: &Arc<Node>, now: &Arc<Node>) -> Result<bool, Failure> {
        Ok(xattrs(self.base, before)? != xattrs(self.merged, now)?)
    }

    /// Compares what attributes don't tell: link targets, and the bytes of files whose attributes
    /// are all the same.
    fn contents_differ(&self, before: &Found, now: &Found) -> Result<bool, Failure> {
        match now.stat.kind {
            FileType::Symlink => {
                Ok(self.base.read_link(&before.node)? != self.merged.read_link(&now.node)?)
            }
            FileType::Regular if attributes_differ(&before.stat, &now.stat) => Ok(true),
            FileType::Regular => {
                let old = contents(self.base, &before.node)?;
                let new = contents(self.merged, &now.node)?;
                Ok(!same_bytes(&old, &new, now.stat.size)?)
            }
            _ => Ok(false),
        }
    }
}

fn attributes_differ(a: &Stat, b: &Stat) -> bool {
    let of = |s: &Stat| (s.kind, s.perm, s.uid, s.gid, s.mtime, s.rdev);
    let links = |s: &Stat| {
        if s.is_dir() {
            (0, 0)
        } else {
            (s.size, s.nlink)
        }
    };
    of(a) != of(b) || links(a) != links(b)
}

/// Extended attributes: names and values, sorted.
type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// All extended attributes of an object, but those that belong to this machine.
pub(super) fn xattrs(union: &Union, node: &Arc<Node>) -> Result<Xattrs, Failure> {
    use std::os::unix::ffi::OsStrExt as _;
    let mut all = Vec::new();
    for name in union.xattr_names(node)? {
        if name == b"security.selinux" {
            continue;
        }
        if let Some(value) = union.xattr(node, std::ffi::OsStr::from_bytes(&name))? {
            all.push((name, value));
        }
    }
    all.sort();
    Ok(all)
}

/// A file's contents, for reading.
pub(super) fn contents(union: &Union, node: &Arc<Node>) -> Result<Contents, Failure> {
    Ok(union
        .open(node, OpenFlags(libc::O_RDONLY), Caller::default())?
        .contents)
}

fn same_bytes(a: &Contents, b: &Contents, len: u64) -> Result<bool, Failure> {
    let (mut left, mut right) = (vec![0; 256 * 1024], vec![0; 256 * 1024]);
    let mut at = 0;
    while at < len {
        let n = read_at(a, &mut left, at)?;
        if n == 0 || n != read_at(b, &mut right, at)? || left.get(..n) != right.get(..n) {
            return Ok(false);
        }
        at += n as u64;
    }
    Ok(true)
}

/// Reads from a file's contents at an offset.
pub(super) fn read_at(contents: &Contents, buf: &mut [u8], at: u64) -> Result<usize, Failure> {
    use crate::content::ReadAt;
    Ok(match contents {
        Contents::File(file) => ReadAt::read_at(&**file, buf, at)?,
        Contents::Stored(stored) => stored.read_at(buf, at)?,
    })
}
