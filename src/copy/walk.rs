//! What a path means in a [`Tree`]: links lead about in the tree, never out of it.

use std::collections::VecDeque;

use super::Tree;
use crate::error::{Errno, Error, Result};
use crate::name::{Name, NameBuf};
use crate::stat::FileType;

/// How many links a path may lead through (as the kernel's `MAXSYMLINKS`).
const LINKS_MAX: u32 = 40;

/// What is done with a symbolic link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// It is followed, as in a chroot of the tree.
    Follow,
    /// It is not: where a directory is needed, it is an error.
    Refuse,
}

/// A place in a tree.
pub struct Walk<'t, T: Tree> {
    tree: &'t T,
    /// The way from the root, which is not in it.
    way: Vec<(NameBuf, T::Node)>,
}

impl<T: Tree> Clone for Walk<'_, T> {
    fn clone(&self) -> Self {
        Self {
            tree: self.tree,
            way: self.way.clone(),
        }
    }
}

/// Where a path leads.
pub enum Reached<'t, T: Tree> {
    /// To an object.
    Object(Walk<'t, T>),
    /// To a free name in a directory.
    Free(Walk<'t, T>, NameBuf),
}

impl<'t, T: Tree> Walk<'t, T> {
    /// At the root.
    pub fn new(tree: &'t T) -> Self {
        Self {
            tree,
            way: Vec::new(),
        }
    }

    /// The object there.
    #[must_use]
    pub fn node(&self) -> T::Node {
        match self.way.last() {
            Some((_, node)) => node.clone(),
            None => self.tree.root(),
        }
    }

    /// The last component; `None` at the root.
    #[must_use]
    pub fn name(&self) -> Option<&Name> {
        self.way.last().map(|(name, _)| &**name)
    }

    /// The directory that it is in; the root is in itself.
    #[must_use]
    pub fn parent(&self) -> Self {
        let mut parent = self.clone();
        parent.way.pop();
        parent
    }

    /// One step down.
    pub fn enter(&mut self, name: NameBuf, node: T::Node) {
        self.way.push((name, node));
    }

    /// Follows a path. An absolute one begins at the root; `..` never leads above it.
    ///
    /// # Errors
    /// `ENOENT`, `ENOTDIR`, `ELOOP`, `ENAMETOOLONG`; what the tree reports.
    pub fn to(&self, path: &[u8], inner: Links, last: Links) -> Result<Reached<'t, T>> {
        let mut walk = self.clone();
        let mut links = 0;
        let mut left: VecDeque<Vec<u8>> = VecDeque::new();
        let slash = path.last() == Some(&b'/');
        walk.begin(path, &mut left);
        while let Some(component) = left.pop_front() {
            match component.as_slice() {
                b".." => {
                    walk.way.pop();
                    continue;
                }
                b"." => continue,
                _ => {}
            }
            let more = left.iter().any(|c| c != b".");
            let name = NameBuf::new(&component)?;
            let dir = walk.node();
            let Some(node) = self.tree.find(&dir, &name)? else {
                return match more {
                    true => Err(Error::new(Errno::ENOENT)),
                    false => Ok(Reached::Free(walk, name)),
                };
            };
            let kind = self.tree.stat(&node)?.kind;
            let is_last = left.is_empty() && !slash;
            let follow = if is_last { last } else { inner };
            if kind == FileType::Symlink && follow == Links::Follow {
                links += 1;
                if links > LINKS_MAX {
                    return Err(Error::new(Errno::ELOOP));
                }
                let target = self.tree.read_link(&node)?;
                walk.begin(&target, &mut left);
            } else if kind != FileType::Directory && !left.is_empty() {
                return Err(Error::new(Errno::ENOTDIR));
            } else {
                walk.way.push((name, node));
            }
        }
        Ok(Reached::Object(walk))
    }

    /// Puts a path's components before those that are left; an absolute one goes back to the root.
    fn begin(&mut self, path: &[u8], left: &mut VecDeque<Vec<u8>>) {
        if path.first() == Some(&b'/') {
            self.way.clear();
        }
        let components = path.split(|b| *b == b'/').filter(|c| !c.is_empty());
        for (at, component) in components.enumerate() {
            left.insert(at, component.to_vec());
        }
    }
}
