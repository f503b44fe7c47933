//! The lowers beside the whole: a second tree in the same mount, of what is below the container's
//! changes.
//!
//! Who compares a container with its image walks two trees side by side (podman's and Docker's
//! `diff`, `commit` and `build` do), and passes over what has the same device and the same number in
//! both listings. So an entry of this tree is listed under the number that it has in the other as
//! long as that shows the same object, unchanged. `st_ino` always differs: these are two inodes.
//!
//! An object of the upper is always at its merged path there. What the upper has nothing of at a path
//! is, at that path, the lowers' own; and of a directory that the upper doesn't have, so is all below
//! it. Files with several names are the exception: see [`Above`].

use std::collections::HashSet;
use std::os::fd::AsFd;
use std::sync::Arc;

use rustix::fs::OFlags;

use super::node::{Identity, WayBack, Xattrs};
use super::{Found, Ino, LowerRef, Node, Union};
use crate::error::{Errno, Error, Result};
use crate::layer::Entry;
use crate::layer::place::open_beneath;
use crate::name::{Name, NameBuf};
use crate::stat::{FileType, Stat};

/// What is above the lowers in one of their directories.
#[derive(Debug, Default)]
pub struct Above {
    /// It could not be looked at.
    unknown: bool,
    /// A file of several names was copied up: its other names mean the copy, wherever they are.
    linked: bool,
    names: HashSet<NameBuf>,
}

impl Above {
    /// `d_ino` of an entry with these attributes.
    #[must_use]
    pub fn listed(&self, name: &Name, stat: &Stat) -> Ino {
        let may_mean_a_copy = self.linked && (stat.is_dir() || stat.nlink > 1);
        let ino = Ino(stat.ino);
        match self.unknown || may_mean_a_copy || self.names.contains(name) {
            true => ino,
            false => ino.beside(),
        }
    }
}

impl Node {
    /// Whether it is of the tree of the lowers alone.
    #[must_use]
    pub fn is_in_view(&self) -> bool {
        self.ino().is_in_view()
    }

    pub(super) fn is_view_root(&self) -> bool {
        self.ino() == Ino::ROOT.in_view()
    }
}

impl Union {
    /// The root of the tree of the lowers alone, with a reference of the kernel: of all lowers below
    /// an upper, or of all but the first where there is none.
    ///
    /// # Errors
    /// `EOPNOTSUPP` where nothing is left, or where a lower is no directory of the host: the numbers of
    /// images are their own. What the layers report.
    pub fn lower_view(&self) -> Result<Found> {
        let lower: Box<[LowerRef]> = self
            .root
            .lower()
            .iter()
            .skip(usize::from(self.upper.is_none()))
            .cloned()
            .collect();
        let of_host = |layer: &Arc<dyn crate::layer::Layer>| layer.host_dev().is_some();
        if lower.is_empty() || !self.lowers.iter().all(of_host) {
            return Err(Error::with(Errno::EOPNOTSUPP, "no directories below"));
        }
        let root = self.nodes.obtain(
            Identity {
                ino: Ino::ROOT.in_view(),
                kind: FileType::Directory,
                lower,
                upper: false,
                metacopy: false,
                index: None,
                way_back: WayBack::None,
                home: None,
                xattrs: Xattrs::Unknown,
            },
            0,
        );
        self.again(&root)
    }

    /// What is above a directory of the tree of the lowers alone.
    #[must_use]
    pub fn above(&self, dir: &Node) -> Above {
        let seen = path_in_view(dir).and_then(|path| match &self.upper {
            Some(upper) => Ok(Above {
                linked: self.has_linked_copies()?,
                ..names_in(upper.root(), &path)?
            }),
            None => self.names_in_first(&path),
        });
        // What can't be looked at may be anything.
        seen.unwrap_or_else(|e| {
            log::debug!("look above {dir:?}: {e}");
            Above {
                unknown: true,
                ..Above::default()
            }
        })
    }

    /// The names that the first lower has in a directory.
    fn names_in_first(&self, path: &[NameBuf]) -> Result<Above> {
        let Some(mut dir) = self.root.lower().first().cloned() else {
            return Ok(Above::default());
        };
        for name in path {
            dir = match dir.layer().lookup(dir.node(), name)? {
                Some(Entry::Node(entry)) if entry.stat.is_dir() => dir.child(entry.node),
                Some(Entry::Node(entry)) => {
                    drop(dir.child(entry.node));
                    return Ok(Above::default());
                }
                Some(Entry::Whiteout) | None => return Ok(Above::default()),
            };
        }
        let mut above = Above::default();
        dir.layer().read_dir(dir.node(), &mut |item| {
            above.names.insert(item.name.into());
            Ok(())
        })?;
        Ok(above)
    }
}

/// The names in a directory of the upper.
fn names_in(root: impl AsFd, path: &[NameBuf]) -> Result<Above> {
    let mut above = Above::default();
    let mut dir = None;
    for name in path {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let next = match &dir {
            None => open_beneath(&root, name, flags),
            Some(dir) => open_beneath(dir, name, flags),
        };
        match next {
            Ok(next) => dir = Some(next),
            // There is none, or something else in its place.
            Err(e) if [Errno::ENOENT, Errno::ENOTDIR, Errno::ELOOP].contains(&e.errno()) => {
                return Ok(above);
            }
            Err(e) => return Err(e),
        }
    }
    let each = |name: &[u8], _, _| {
        above.names.insert(NameBuf::new(name)?);
        Ok(())
    };
    match &dir {
        None => crate::sys::dir::list(&root, each)?,
        Some(dir) => crate::sys::dir::list(dir, each)?,
    }
    Ok(above)
}

/// The path of a directory from the root of its tree.
fn path_in_view(dir: &Node) -> Result<Vec<NameBuf>> {
    let mut path = Vec::new();
    let mut link = dir.names().into_iter().next();
    let mut at_root = dir.is_view_root();
    while let Some(here) = link {
        at_root = here.parent.is_view_root();
        link = here.parent.names().into_iter().next();
        path.push(here.name);
    }
    path.reverse();
    match at_root {
        true => Ok(path),
        false => Err(Error::with(Errno::ESTALE, "a directory without a path")),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::copy_up::Data;
    use super::super::{UnionOptions, Upper};
    use super::*;
    use crate::layer::Layer;
    use crate::layer::dir::{DirForms, DirLayer};
    use crate::layer::format::MarkSpace;

    fn layer(path: &Path, files: &[&str]) -> Arc<dyn Layer> {
        for file in files {
            let file = path.join(file);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, "text").unwrap();
        }
        Arc::new(DirLayer::open(path, DirForms::default()).unwrap())
    }

    fn find(union: &Union, at: &Arc<Node>, path: &str) -> Arc<Node> {
        path.split('/').fold(Arc::clone(at), |at, name| {
            let name = Name::new(name).unwrap();
            union.lookup(&at, name).unwrap().unwrap().node
        })
    }

    #[test]
    fn what_is_unchanged_is_listed_under_one_number() {
        let dir = tempfile::tempdir().unwrap();
        let top = layer(&dir.path().join("top"), &["a/b/f", "file/in"]);
        let low = layer(
            &dir.path().join("low"),
            &["a/b/f", "a/b/g", "a/c/h", "file"],
        );
        let union = Union::new(vec![top, low], None, UnionOptions::default()).unwrap();
        let (root, view) = (union.root(), union.lower_view().unwrap().node);
        assert!(view.is_in_view() && !root.is_in_view());
        for (dir, name, same) in [
            ("", "a", false),
            ("", "file", false),
            ("a", "b", false),
            ("a", "c", true),
            ("a/b", "f", false),
            ("a/b", "g", true),
            ("a/c", "h", true),
        ] {
            let at = |tree: &Arc<Node>| match dir {
                "" => Arc::clone(tree),
                dir => find(&union, tree, dir),
            };
            let (mine, theirs) = (at(&root), at(&view));
            let (mine, node) = (find(&union, &mine, name), find(&union, &theirs, name));
            assert_ne!(mine.ino(), node.ino());
            let stat = union.getattr(&node).unwrap();
            assert_eq!(stat.ino, node.ino().0);
            let name = Name::new(name).unwrap();
            let listed = union.above(&theirs).listed(name, &stat);
            assert_eq!(listed == mine.ino(), same, "{dir}/{name}");
            assert_ne!(listed == node.ino(), same, "{dir}/{name}");
        }
    }

    #[test]
    fn nothing_in_it_changes_beside_an_upper_that_can() {
        let dir = tempfile::tempdir().unwrap();
        let (upper, work) = (dir.path().join("upper"), dir.path().join("work"));
        std::fs::create_dir(&upper).unwrap();
        std::fs::create_dir(&work).unwrap();
        let opened = Upper::open(&upper, &work, MarkSpace::User, true).unwrap();
        let low = layer(&dir.path().join("low"), &["a/f"]);
        let union = Union::new(vec![low], Some(opened), UnionOptions::default()).unwrap();
        let view = union.lower_view().unwrap().node;
        for (path, data) in [
            ("a/f", Data::All),
            ("a/f", Data::Attributes),
            ("a", Data::All),
        ] {
            let node = find(&union, &view, path);
            let refused = union.copy_up(&node, data).unwrap_err();
            assert_eq!(refused.errno(), Errno::EROFS);
        }
        let a = find(&union, &view, "a");
        let refused = union.unlink(&a, Name::new("f").unwrap()).unwrap_err();
        assert_eq!(refused.errno(), Errno::EROFS);
        assert_eq!(std::fs::read_dir(&upper).unwrap().count(), 0);
        union
            .copy_up(&find(&union, &union.root(), "a/f"), Data::All)
            .unwrap();
        assert!(upper.join("a/f").exists());
    }

    #[test]
    fn there_is_none_of_a_single_layer() {
        let dir = tempfile::tempdir().unwrap();
        let only = layer(dir.path(), &["f"]);
        let union = Union::new(vec![only], None, UnionOptions::default()).unwrap();
        let refused = union.lower_view().unwrap_err();
        assert_eq!(refused.errno(), Errno::EOPNOTSUPP);
    }
}
