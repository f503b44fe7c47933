//! Hard links of directory layers over copy-up, in overlayfs's form (overlayfs.rst, "index").
//!
//! A file of several names is copied up once, into `work/index`, under a name that follows from the
//! lower file's handle: so every lower name of it is known to mean the upper's file, whether or not
//! that name is in the upper yet. The number of names is in `overlay.nlink`.
//!
//! (Files of images need none of this: their index knows all names, and all are copied up at once.)

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, XattrFlags};
use rustix::io::Errno as RawErrno;

use super::node::Link;
use super::times::DirTimes;
use super::{LowerRef, Node, Union};
use crate::error::Result;
use crate::layer::format::Mark;
use crate::layer::place::{Place, stat_from};
use crate::layer::{LayerNode, LinkCount, Marks};
use crate::name::{Name, NameBuf};
use crate::stat::Stat;

/// The directory of copied-up files with several names.
pub(super) struct LinkIndex {
    dir: Arc<OwnedFd>,
    /// Whether anything was ever in it.
    used: AtomicBool,
}

/// Where a lower file's copy is in the index.
fn index_name(origin: &[u8]) -> Result<NameBuf> {
    use std::fmt::Write as _;
    let mut hex = String::with_capacity(origin.len() * 2);
    for byte in origin {
        write!(hex, "{byte:02x}").map_err(|_| crate::error::Errno::EIO)?;
    }
    NameBuf::new(hex.as_bytes())
}

impl LinkIndex {
    pub fn new(dir: OwnedFd) -> Result<Self> {
        let index = Self {
            dir: Arc::new(dir),
            used: AtomicBool::new(false),
        };
        index.used.store(index.has_entries()?, Ordering::Relaxed);
        Ok(index)
    }

    fn has_entries(&self) -> Result<bool> {
        let mut any = false;
        crate::sys::dir::list(&self.dir, |_, _, _| {
            any = true;
            Ok(())
        })?;
        Ok(any)
    }

    pub fn place(&self, name: &Name) -> Place {
        Place::Named(Arc::clone(&self.dir), name.into())
    }

    pub fn dir(&self) -> &Arc<OwnedFd> {
        &self.dir
    }

    fn entry(&self, origin: &[u8]) -> Result<Option<(NameBuf, Stat)>> {
        if !self.used.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let name = index_name(origin)?;
        match rustix::fs::statat(&self.dir, name.as_os_str(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(st) => Ok(Some((name, stat_from(&st)?))),
            Err(RawErrno::NOENT | RawErrno::NAMETOOLONG) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// The name under which a copy is to be put here.
    pub fn name_for(&self, origin: &[u8]) -> Result<NameBuf> {
        self.used.store(true, Ordering::Relaxed);
        index_name(origin)
    }
}

/// A copied-up file found in the index.
pub(super) struct Indexed {
    pub name: NameBuf,
    pub stat: Stat,
    pub marks: Marks,
}

impl Union {
    fn link_index(&self) -> Option<&LinkIndex> {
        self.upper.as_ref().and_then(super::Upper::link_index)
    }

    /// Whether there are copies of files with several names.
    ///
    /// # Errors
    /// What the upper's file system reports.
    pub(super) fn has_linked_copies(&self) -> Result<bool> {
        match self.link_index() {
            Some(index) if index.used.load(Ordering::Relaxed) => index.has_entries(),
            _ => Ok(false),
        }
    }

    /// Whether a lower file's other names stay names of it when it is copied up.
    pub(super) fn keeps_links(&self, lower: &LowerRef) -> bool {
        lower.layer().stable_id(lower.node()).is_some() || self.index_origin(lower).is_some()
    }

    /// The handle by which a linked lower file is found in the index; `None` without an index.
    pub(super) fn index_origin(&self, lower: &LowerRef) -> Option<Box<[u8]>> {
        self.link_index()?;
        lower.layer().host_origin(lower.node())
    }

    /// The copy that a lower file with several names has, if it was copied up under another name.
    pub(super) fn indexed(&self, lower: &LowerRef) -> Result<Option<Indexed>> {
        let Some(index) = self.link_index() else {
            return Ok(None);
        };
        if !index.used.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let Some(origin) = lower.layer().host_origin(lower.node()) else {
            return Ok(None);
        };
        let Some((name, stat)) = index.entry(&origin)? else {
            return Ok(None);
        };
        let marks = match self.upper.as_ref() {
            Some(upper) => index.place(&name).marks(upper.space())?,
            None => Marks::default(),
        };
        // A name that somebody put there proves nothing.
        let genuine = marks.host_origin.as_deref() == Some(&*origin);
        Ok(genuine.then_some(Indexed { name, stat, marks }))
    }

    /// The entry of the index that an upper file is a name of.
    pub(super) fn index_entry_of(&self, stat: &Stat, marks: &Marks) -> Result<Option<NameBuf>> {
        let (Some(index), Some(origin)) = (self.link_index(), &marks.host_origin) else {
            return Ok(None);
        };
        if stat.is_dir() || stat.nlink < 2 {
            return Ok(None);
        }
        let entry = index.entry(origin)?;
        Ok(entry
            .filter(|(_, s)| s.ino == stat.ino)
            .map(|(name, _)| name))
    }

    /// `st_nlink` of a file in the index: names, not counting the index's own.
    pub(super) fn names_of(&self, upper: u32, links: Option<LinkCount>, lower: Option<u32>) -> u32 {
        links
            .and_then(|l| l.names(upper, lower))
            .unwrap_or_else(|| upper.saturating_sub(1))
    }

    /// The number of names of a node that is in the index.
    pub(super) fn indexed_names(&self, node: &Node, place: &Place, upper: u32) -> Result<u32> {
        let Some(own) = &self.upper else {
            return Ok(upper);
        };
        let mark = place.xattr(&own.space().name(Mark::LinkCount))?;
        let links = mark.as_deref().and_then(LinkCount::decode);
        let lower = match (links, node.lower().first()) {
            (Some(LinkCount::BesideLower(_)), Some(lower)) => {
                Some(lower.layer().stat(lower.node())?.nlink)
            }
            _ => None,
        };
        Ok(self.names_of(upper, links, lower))
    }

    fn set_link_count(&self, place: &Place, count: LinkCount) -> Result<()> {
        let upper = self.writable()?;
        let mark = upper.space().name(Mark::LinkCount);
        place.set_xattr(&mark, count.encode().as_bytes(), XattrFlags::empty())
    }

    /// Says how many names a file has, before some of them move up: true at every moment of that.
    pub(super) fn pin_names(&self, place: &Place, names: u32, lower: u32) -> Result<()> {
        let more = i64::from(names) - i64::from(lower);
        let more = i32::try_from(more).unwrap_or(0);
        self.set_link_count(place, LinkCount::BesideLower(more))
    }

    /// Says how many names a file has, before upper names come and go.
    pub(super) fn unpin_names(&self, place: &Place, names: u32) -> Result<()> {
        let more = i64::from(names) - i64::from(place.stat()?.nlink);
        let more = i32::try_from(more).unwrap_or(0);
        self.set_link_count(place, LinkCount::BesideUpper(more))
    }

    /// Sees to it that a name of a copied-up file with several names is in the upper. The tree lock
    /// is held.
    pub(super) fn name_up(&self, node: &Node, parent: &Arc<Node>, name: &Name) -> Result<()> {
        let Some(entry) = node.index_entry() else {
            return Ok(());
        };
        let Some(index) = self.link_index() else {
            return Ok(());
        };
        let below = match node.lower().first() {
            Some(lower) => lower.layer().stat(lower.node())?.nlink,
            // It was found under a name that no lower has; this one is a lower's, or the upper's already.
            None => match self.parts_below(parent, name)?.first() {
                Some((_, entry)) => entry.stat.nlink,
                None => return Ok(()),
            },
        };
        let dir = self.dir_up(parent)?;
        match rustix::fs::statat(&dir, name.as_os_str(), AtFlags::SYMLINK_NOFOLLOW) {
            Err(RawErrno::NOENT) => {}
            Err(e) => return Err(e.into()),
            Ok(_) => return Ok(()),
        }
        let place = index.place(&entry);
        let names = self.indexed_names(node, &place, place.stat()?.nlink)?;
        let times = DirTimes::of(parent, &dir)?;
        self.pin_names(&place, names, below)?;
        let (from, to) = (entry.as_os_str(), name.as_os_str());
        match rustix::fs::linkat(&index.dir, from, &dir, to, AtFlags::empty()) {
            Ok(()) | Err(RawErrno::EXIST) => {}
            Err(e) => return Err(e.into()),
        }
        self.unpin_names(&place, names)?;
        times.give_back();
        Ok(())
    }

    /// Adds the names that a lower file has besides those already known, as far as they are still
    /// to be seen in the merged tree.
    pub(super) fn add_aliases(
        &self,
        node: &Arc<Node>,
        lower: &LowerRef,
        names: &mut Vec<Link>,
    ) -> Result<()> {
        for (dir, name) in lower.layer().aliases(lower.node())?.unwrap_or_default() {
            let Some(parent) = self.merged_dir(lower, dir)? else {
                continue;
            };
            if names
                .iter()
                .any(|l| l.parent.id() == parent.id() && *l.name == *name)
            {
                continue;
            }
            if let Some(found) = self.find(&parent, &name, 0)?
                && found.node.id() == node.id()
            {
                names.push(Link { parent, name });
            }
        }
        Ok(())
    }

    /// The directory of the merged tree that a directory of `beside`'s layer is part of, by its
    /// lower path; `None` if it is hidden there. (Directories that rename has moved have no lower
    /// aliases left in them: rename sees to that.)
    fn merged_dir(&self, beside: &LowerRef, dir: LayerNode) -> Result<Option<Arc<Node>>> {
        let Some(path) = beside.layer().dir_path(dir)? else {
            return Ok(None);
        };
        let mut at = self.root();
        for name in path {
            match self.find(&at, &name, 0)? {
                Some(found) if found.is_dir() => at = found.node,
                _ => return Ok(None),
            }
        }
        let part = at
            .lower()
            .iter()
            .any(|l| l.place() == beside.place() && l.node() == dir);
        Ok(part.then_some(at))
    }

    /// After a name has gone: a file without any leaves the index. The tree lock is held.
    pub(super) fn leave_index(&self, node: &Node) -> Result<()> {
        let (Some(entry), Some(index)) = (node.index_entry(), self.link_index()) else {
            return Ok(());
        };
        let place = index.place(&entry);
        let stat = place.stat()?;
        if stat.nlink > 1 || self.indexed_names(node, &place, stat.nlink)? > 0 {
            return Ok(());
        }
        let held = place.hold()?;
        rustix::fs::unlinkat(&index.dir, entry.as_os_str(), AtFlags::empty())?;
        node.with_state(|s| {
            s.index = None;
            s.held = Some(held);
        });
        Ok(())
    }
}
