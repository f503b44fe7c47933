//! Finding a name: the upper first, then each lower that contributes to the directory, until a
//! whiteout, an opaque directory or a non-directory ends the search.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::linked::Indexed;
use super::names::Which;
use super::node::{Identity, WayBack, Xattrs};
use super::upper::UpperEntry;
use super::{Ino, LowerRef, Node, NodeId, RedirectDir, Union};
use crate::error::{Errno, Error, Result};
use crate::layer::{Entry, Marks, NodeEntry};
use crate::name::{Name, NameBuf};
use crate::stat::{FileType, Stat};

/// A node that was found or made, with its attributes.
#[derive(Debug, Clone)]
pub struct Found {
    /// The node.
    pub node: Arc<Node>,
    /// Its attributes.
    pub stat: Stat,
}

/// How many objects had been copied up at some moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CopyUps(u64);

/// What the layers say of a name.
pub(super) struct Seen {
    pub identity: Identity,
    pub stat: Stat,
}

impl Union {
    /// Looks up a name and takes a reference of the kernel on what is found; `None` when there is
    /// no such name.
    ///
    /// # Errors
    /// `ENOTDIR` when `parent` is no directory; what the layers report.
    pub fn lookup(&self, parent: &Arc<Node>, name: &Name) -> Result<Option<Found>> {
        let _tree = self.tree.read();
        self.find(parent, name, 1)
    }

    /// Looks up a name without a reference of the kernel. Give it back by `forget(id, 0)`.
    ///
    /// # Errors
    /// As [`Union::lookup`].
    pub fn peek(&self, parent: &Arc<Node>, name: &Name) -> Result<Option<Found>> {
        let _tree = self.tree.read();
        self.find(parent, name, 0)
    }

    /// The tree lock is held.
    pub(super) fn find(
        &self,
        parent: &Arc<Node>,
        name: &Name,
        lookups: u64,
    ) -> Result<Option<Found>> {
        let since = self.copy_ups();
        let seen = self.see(parent, name)?;
        Ok(seen.map(|seen| self.node_for((parent, name), seen, lookups, since)))
    }

    /// How many objects were copied up: who looks at a name takes this first.
    pub(super) fn copy_ups(&self) -> CopyUps {
        CopyUps(self.copy_ups.load(Ordering::Acquire))
    }

    /// An object has come into the upper under its names.
    pub(super) fn count_copy_up(&self) {
        self.copy_ups.fetch_add(1, Ordering::Release);
    }

    /// The node of what was seen under a name. The tree lock is held.
    pub(super) fn node_for(
        &self,
        (parent, name): (&Arc<Node>, &Name),
        Seen { identity, stat }: Seen,
        lookups: u64,
        since: CopyUps,
    ) -> Found {
        let upper = identity.upper;
        let node = self.nodes.obtain(identity, lookups);
        node.add_name(parent, name);
        let now = self.caught_up(&node, (parent, name), upper, since);
        let stat = node.with_kept_ctime(now.unwrap_or(stat));
        Found { node, stat }
    }

    /// Between a look at a name and the node for it, what it names may have been copied up, and its
    /// node of then been forgotten: the new one would show the lower's for ever. The attributes of
    /// now, where they are the upper's. `upper`: whether it was seen there. The tree lock is held.
    pub(super) fn caught_up(
        &self,
        node: &Node,
        (parent, name): (&Node, &Name),
        upper: bool,
        since: CopyUps,
    ) -> Option<Stat> {
        let doubtful = match upper {
            true => !node.has_upper(),
            false => since != self.copy_ups(),
        };
        if !doubtful {
            return None;
        }
        if node.has_upper() {
            return self.stat_of(node).ok();
        }
        let Seen { identity, stat } = self.see(parent, name).ok()??;
        if !identity.upper || identity.ino != node.ino() {
            return None;
        }
        node.with_state(|state| {
            // Who is copying it up says so itself, once all names are there.
            if !state.upper && !state.publishing {
                state.metacopy = identity.metacopy;
                state.index = identity.index;
                state.xattrs = identity.xattrs;
                state.upper = true;
            }
        });
        Some(stat)
    }

    /// What the layers have under a name. The tree lock is held.
    pub(super) fn see(&self, parent: &Node, name: &Name) -> Result<Option<Seen>> {
        if !parent.is_dir() {
            return Err(Errno::ENOTDIR.into());
        }
        if parent.is_removed() {
            return Ok(None);
        }
        if let Some(upper) = &self.upper
            && parent.has_upper()
        {
            let dir = self.dir_fd(parent)?;
            if let Some(stat) = upper.raw_entry(&dir, name)? {
                if !upper.has_records()
                    && let Some(seen) = self.see_again(parent, name, &stat)
                {
                    return Ok(Some(seen));
                }
                return match upper.decoded(&dir, name, stat)? {
                    UpperEntry::Whiteout => Ok(None),
                    UpperEntry::Node { stat, marks } => {
                        self.see_upper(parent, name, stat, &marks).map(Some)
                    }
                };
            }
        }
        let lower = self.parts_below(parent, name)?;
        let Some((first, entry)) = lower.first() else {
            return Ok(None);
        };
        if entry.stat.nlink > 1
            && !entry.stat.is_dir()
            && !parent.is_in_view()
            && let Some(indexed) = self.indexed(first)?
        {
            return self.see_indexed(first, &entry.stat, indexed).map(Some);
        }
        let mut stat = entry.stat;
        let known = Xattrs::of(&entry.marks);
        let ino = match lower.last() {
            Some((last, bottom)) if stat.is_dir() => self.lower_ino(last, &bottom.stat),
            _ => self.lower_ino(first, &stat),
        };
        let ino = match parent.is_in_view() {
            true => ino.in_view(),
            false => ino,
        };
        stat.ino = ino.0;
        if lower.len() > 1 && stat.is_dir() {
            stat.nlink = 1;
        } else if let (Some((_, data)), true) = (lower.last(), lower.len() > 1) {
            stat.blocks = data.stat.blocks;
        }
        let lower: Box<[LowerRef]> = lower.into_iter().map(|(l, _)| l).collect();
        let identity = Identity {
            ino,
            kind: stat.kind,
            way_back: self.way_back(parent, &lower, &stat),
            home: None,
            lower,
            upper: false,
            metacopy: false,
            index: None,
            xattrs: known,
        };
        Ok(Some(Seen { identity, stat }))
    }

    /// An upper object that is known by this name and has nothing of a lower: its marks need not be
    /// read again.
    fn see_again(&self, parent: &Node, name: &Name, stat: &Stat) -> Option<Seen> {
        let ino = self.new_ino(stat.ino);
        let node = self.nodes.get(NodeId(ino.0))?;
        let known = node.kind() == stat.kind && node.is_new_under(parent, name);
        known.then(|| Seen {
            identity: Identity {
                ino,
                kind: stat.kind,
                lower: Box::default(),
                upper: true,
                metacopy: false,
                index: None,
                way_back: WayBack::None,
                home: None,
                xattrs: Xattrs::Unknown,
            },
            stat: Stat {
                ino: ino.0,
                ..*stat
            },
        })
    }

    /// A lower name of a file that was copied up under another one.
    fn see_indexed(&self, lower: &LowerRef, below: &Stat, indexed: Indexed) -> Result<Seen> {
        let mut stat = indexed.stat;
        let ino = self.lower_ino(lower, below);
        stat.ino = ino.0;
        stat.nlink = self.names_of(stat.nlink, indexed.marks.links, Some(below.nlink));
        if indexed.marks.metacopy {
            stat.blocks = below.blocks;
        }
        Ok(Seen {
            identity: Identity {
                ino,
                kind: stat.kind,
                lower: Box::new([lower.clone()]),
                upper: true,
                metacopy: indexed.marks.metacopy,
                index: Some(indexed.name),
                way_back: WayBack::None,
                home: None,
                xattrs: Xattrs::Unknown,
            },
            stat,
        })
    }

    fn see_upper(&self, parent: &Node, name: &Name, mut stat: Stat, marks: &Marks) -> Result<Seen> {
        let mut lower = Vec::new();
        if stat.is_dir() && !marks.opaque {
            lower = match self.followed(marks.redirect.as_deref()) {
                Some(path) => self.redirected(parent, path)?,
                None => self.parts_below(parent, name)?,
            };
            // A file below ends the merge: it is hidden by the directory.
            lower.retain(|(_, e)| e.stat.is_dir());
        } else if marks.metacopy {
            lower = self.data_of(parent, name, marks)?;
            if let Some((_, entry)) = lower.last() {
                stat.blocks = entry.stat.blocks;
            }
        }
        let ino = match lower.last() {
            Some((last, bottom)) if stat.is_dir() => self.lower_ino(last, &bottom.stat),
            _ => self.copied_ino(parent, name, &stat, marks)?,
        };
        let index = self.index_entry_of(&stat, marks)?;
        if index.is_some() {
            // The lower file's own count is asked for where the mark is against that.
            if lower.is_empty() {
                lower = self.parts_below(parent, name)?;
                lower.retain(|(l, _)| l.layer().host_origin(l.node()) == marks.host_origin);
            }
            let below = lower.first().map(|(_, entry)| entry.stat.nlink);
            stat.nlink = self.names_of(stat.nlink, marks.links, below);
        }
        let known = Xattrs::of(marks);
        stat.ino = ino.0;
        if stat.is_dir() && !lower.is_empty() {
            // As overlayfs: the number of subdirectories of a merged directory isn't counted.
            stat.nlink = 1;
        }
        let lower = lower.into_iter().map(|(l, _)| l).collect();
        Ok(Seen {
            identity: Identity {
                ino,
                kind: stat.kind,
                lower,
                upper: true,
                metacopy: marks.metacopy,
                index,
                way_back: WayBack::None,
                home: None,
                xattrs: known,
            },
            stat,
        })
    }

    /// The number of an upper object that is no merged directory.
    fn copied_ino(&self, parent: &Node, name: &Name, stat: &Stat, marks: &Marks) -> Result<Ino> {
        if let Some(ino) = self.origin_ino(marks)? {
            return Ok(ino);
        }
        // Without the right to open by handle, the handle is still as good as a name for what is
        // under the same path.
        if marks.host_origin.is_some() && !stat.is_dir() {
            let below = self.parts_below(parent, name)?;
            if let Some((lower, entry)) = below.first()
                && lower.layer().host_origin(lower.node()) == marks.host_origin
            {
                return Ok(self.lower_ino(lower, &entry.stat));
            }
        }
        Ok(self.new_ino(stat.ino))
    }

    /// The lower file that has the data of a metacopy: its origin's if that is an image's, else the
    /// one at the redirect or under the same name.
    fn data_of(
        &self,
        parent: &Node,
        name: &Name,
        marks: &Marks,
    ) -> Result<Vec<(LowerRef, NodeEntry)>> {
        if let Some(origin) = marks.origin {
            for (place, layer) in self.lowers.iter().enumerate() {
                if let Some(node) = layer.resolve(origin) {
                    let stat = layer.stat(node)?;
                    let entry = NodeEntry {
                        node,
                        stat,
                        marks: Marks::default(),
                    };
                    return Ok(vec![(LowerRef::adopt(layer, place, node), entry)]);
                }
            }
        }
        let below = parent.lower();
        let roots = self.root.lower().to_vec();
        self.metacopy_data(below, name, marks.redirect.as_deref(), roots)
    }

    /// The files that a metacopy's data comes from, the data itself last: at its redirect, else
    /// under its name.
    fn metacopy_data(
        &self,
        below: &[LowerRef],
        name: &Name,
        redirect: Option<&[u8]>,
        roots: Vec<LowerRef>,
    ) -> Result<Vec<(LowerRef, NodeEntry)>> {
        let mut parts = match self.followed(redirect) {
            None => self.lower_parts(below, name)?,
            Some(path) if path.starts_with(b"/") => {
                let mut parts = self.file_at(roots, path)?;
                for layer in &self.data_roots {
                    if parts.is_empty() {
                        parts = self.file_at(vec![layer.clone()], path)?;
                    }
                }
                parts
            }
            Some(sibling) => self.lower_parts(below, Name::from_bytes(sibling)?)?,
        };
        parts.retain(|(_, e)| e.stat.kind == FileType::Regular);
        Ok(parts)
    }

    /// What is at an absolute path of the lowers.
    fn file_at(&self, roots: Vec<LowerRef>, path: &[u8]) -> Result<Vec<(LowerRef, NodeEntry)>> {
        let at = path.iter().rposition(|b| *b == b'/').unwrap_or(0);
        let (dir, name) = path.split_at_checked(at + 1).unwrap_or((b"/", path));
        let dirs = if dir == b"/" {
            roots
        } else {
            let parts = self.lower_dirs_at(roots, dir)?;
            parts.into_iter().map(|(lower, _)| lower).collect()
        };
        self.lower_parts(&dirs, Name::from_bytes(name)?)
    }

    /// What the lowers contribute to a name in a directory, top first.
    pub(super) fn parts_below(
        &self,
        parent: &Node,
        name: &Name,
    ) -> Result<Vec<(LowerRef, NodeEntry)>> {
        let dirs = parent.lower();
        let which = match dirs.len() < 2 {
            true => None,
            false => self.names.which(parent.id(), dirs, name)?,
        };
        self.parts_in(dirs, name, which)
    }

    /// What these directories contribute to a name, top first: one object, or several directories.
    pub(super) fn lower_parts(
        &self,
        dirs: &[LowerRef],
        name: &Name,
    ) -> Result<Vec<(LowerRef, NodeEntry)>> {
        self.parts_in(dirs, name, None)
    }

    /// The same; `which` are known to be the only ones that have the name.
    fn parts_in(
        &self,
        dirs: &[LowerRef],
        name: &Name,
        mut which: Option<Which>,
    ) -> Result<Vec<(LowerRef, NodeEntry)>> {
        let mut name = NameBuf::from(name);
        let mut parts: Vec<(LowerRef, NodeEntry)> = Vec::new();
        for (at, dir) in dirs.iter().enumerate() {
            if which.as_ref().is_some_and(|which| !which.has(at)) {
                continue;
            }
            let entry = match dir.layer().lookup(dir.node(), &name)? {
                None => continue,
                Some(Entry::Whiteout) => break,
                Some(Entry::Node(entry)) => entry,
            };
            let lower = dir.child(entry.node);
            let is_dir = entry.stat.is_dir();
            if !is_dir && !parts.is_empty() {
                break;
            }
            let Marks {
                opaque,
                redirect,
                metacopy,
                ..
            } = entry.marks.clone();
            let (place, file) = (lower.place(), entry.stat.kind == FileType::Regular);
            parts.push((lower, entry));
            if metacopy && file {
                let below = dirs.get(at + 1..).unwrap_or_default();
                let roots = self.roots_below(place);
                let data = self.metacopy_data(below, &name, redirect.as_deref(), roots)?;
                let last = data.into_iter().next_back();
                parts.push(last.ok_or_else(|| {
                    Error::with(
                        Errno::EIO,
                        format!("{name:?}: the data of a metacopy is gone"),
                    )
                })?);
            }
            if !is_dir || opaque {
                break;
            }
            // A directory that was moved: the layers below have it under another name.
            match self.followed(redirect.as_deref()) {
                Some(path) if path.starts_with(b"/") => {
                    parts.extend(self.lower_dirs_at(self.roots_below(place), path)?);
                    break;
                }
                Some(sibling) => {
                    name = NameBuf::new(sibling)?;
                    which = None;
                }
                None => {}
            }
        }
        Ok(parts)
    }

    /// A redirect, if redirects count.
    fn followed<'r>(&self, redirect: Option<&'r [u8]>) -> Option<&'r [u8]> {
        redirect.filter(|_| self.options.redirect != RedirectDir::NoFollow)
    }

    fn roots_below(&self, place: usize) -> Vec<LowerRef> {
        self.root
            .lower()
            .iter()
            .filter(|l| l.place() > place)
            .cloned()
            .collect()
    }

    /// The lower directories that an upper directory's redirect names: from the root, or a
    /// sibling's old name.
    fn redirected(&self, parent: &Node, path: &[u8]) -> Result<Vec<(LowerRef, NodeEntry)>> {
        let from = if path.starts_with(b"/") {
            &self.root
        } else {
            parent
        };
        self.lower_dirs_at(from.lower().to_vec(), path)
    }

    fn lower_dirs_at(
        &self,
        mut dirs: Vec<LowerRef>,
        path: &[u8],
    ) -> Result<Vec<(LowerRef, NodeEntry)>> {
        let mut parts = Vec::new();
        for component in path.split(|b| *b == b'/').filter(|c| !c.is_empty()) {
            parts = self.lower_parts(&dirs, Name::from_bytes(component)?)?;
            parts.retain(|(_, e)| e.stat.is_dir());
            dirs = parts.iter().map(|(l, _)| l.clone()).collect();
        }
        Ok(parts)
    }

    /// Whether a name would be there if the upper had nothing under it.
    pub(super) fn lower_has(&self, parent: &Node, name: &Name) -> Result<bool> {
        Ok(!self.parts_below(parent, name)?.is_empty())
    }

    /// The attributes of a directory entry, and so its number where the listing doesn't tell it.
    ///
    /// # Errors
    /// As [`Union::lookup`].
    pub fn entry_stat(&self, parent: &Arc<Node>, name: &Name) -> Result<Option<Stat>> {
        let _tree = self.tree.read();
        Ok(self.see(parent, name)?.map(|seen| seen.stat))
    }

    /// The parent of a directory, with a reference of the kernel (LOOKUP of `..`).
    ///
    /// # Errors
    /// `ESTALE` when the directory has been removed; what the layers report.
    pub fn parent(&self, node: &Arc<Node>) -> Result<Found> {
        let parent = match node.names().into_iter().next() {
            Some(link) => link.parent,
            None if node.is_root() => self.root(),
            None if node.is_view_root() => Arc::clone(node),
            None => return Err(Errno::ESTALE.into()),
        };
        self.again(&parent)
    }

    /// A known node once more, with a reference of the kernel (LOOKUP of `.`).
    ///
    /// # Errors
    /// What the layers report.
    pub fn again(&self, node: &Arc<Node>) -> Result<Found> {
        let stat = self.getattr(node)?;
        self.nodes.take(node, 1);
        Ok(Found {
            node: Arc::clone(node),
            stat,
        })
    }
}

impl Found {
    /// Whether this is a directory.
    #[must_use]
    pub fn is_dir(&self) -> bool {
        self.stat.kind == FileType::Directory
    }
}
