//! Directory listings: a snapshot per opened directory, in the order of the entries' cursors. A
//! cursor follows from the name alone, so that it stays right while entries come and go, in every
//! listing: the kernel may go on in another one than it began with, when its own cache of the
//! directory was dropped on the way.

use std::sync::Arc;

use rustix::fs::AtFlags;

use super::ahead::SeenAhead;
use super::{Ino, Node, Union, Upper};
use crate::error::{Errno, Result};
use crate::layer::place::{Place, stat_from};
use crate::name::Name;
use crate::stat::FileType;

/// A directory's entries at one moment, without `.` and `..`.
#[derive(Debug, Default)]
pub struct DirList {
    /// All names, one after the other.
    names: Vec<u8>,
    items: Vec<Item>,
    /// Of one that was read ahead.
    pub(super) seen: SeenAhead,
}

#[derive(Debug)]
struct Item {
    cursor: u64,
    /// 0 where it takes a look at the object.
    ino: u64,
    /// Where the name is in `names`.
    start: u32,
    len: u8,
    /// `None` for a whiteout, until all are there.
    kind: Option<FileType>,
    /// Which of the directory's parts it is of, from the top.
    part: u16,
}

/// Cursors start above this; what is below is for `.` and `..`.
const FIRST: u64 = 16;

/// A name's cursor: the same in every listing. Positive as a signed number, which telldir(3) gives.
fn cursor(name: &[u8]) -> u64 {
    // FNV-1a, then mixed so that every bit counts: names in a directory differ in a few digits.
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in name {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    hash ^= hash >> 32;
    (hash >> 1).max(FIRST)
}

/// One entry of a listing.
#[derive(Debug, Clone, Copy)]
pub struct DirEntry<'a> {
    /// The name.
    pub name: &'a Name,
    /// The type.
    pub kind: FileType,
    /// The number; `None` where it takes a look at the object ([`Union::entry_stat`]).
    pub ino: Option<Ino>,
    /// What a listing goes on after ([`DirList::after`]).
    pub cursor: u64,
    /// Its place in the listing.
    pub(super) place: usize,
}

impl DirList {
    /// Number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there are no entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The entry at a place.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<DirEntry<'_>> {
        let item = self.items.get(index)?;
        let start = item.start as usize;
        let name = self.names.get(start..start + usize::from(item.len))?;
        Some(DirEntry {
            name: Name::from_bytes(name).ok()?,
            kind: item.kind?,
            ino: (item.ino != 0).then_some(Ino(item.ino)),
            cursor: item.cursor,
            place: index,
        })
    }

    /// The place of the first entry behind a cursor, which may be one of an entry that is gone.
    #[must_use]
    pub fn after(&self, cursor: u64) -> usize {
        self.items.partition_point(|item| item.cursor <= cursor)
    }

    /// All entries.
    pub fn iter(&self) -> impl Iterator<Item = DirEntry<'_>> {
        (0..self.len()).filter_map(|i| self.get(i))
    }

    fn push(&mut self, name: &Name, kind: Option<FileType>, ino: u64, part: u16) -> Result<()> {
        let start = u32::try_from(self.names.len()).map_err(|_| Errno::EOVERFLOW)?;
        let name = name.as_bytes();
        self.names.extend_from_slice(name);
        self.items.push(Item {
            cursor: cursor(name),
            ino,
            start,
            len: u8::try_from(name.len()).map_err(|_| Errno::ENAMETOOLONG)?,
            kind,
            part,
        });
        Ok(())
    }

    /// All that has been pushed, with the part that each is of.
    fn pushed(&self) -> impl Iterator<Item = (&[u8], u16)> {
        self.items.iter().filter_map(|item| {
            let start = item.start as usize;
            let name = self.names.get(start..start + usize::from(item.len))?;
            Some((name, item.part))
        })
    }

    /// Puts the entries into the order of their cursors; of two names with one cursor the second
    /// gets the next. Of one name that several parts have, the uppermost counts, and where that is a
    /// whiteout, none.
    fn sort(&mut self) {
        let names = &self.names;
        let name = |item: &Item| {
            let start = item.start as usize;
            names.get(start..start + usize::from(item.len))
        };
        self.items.sort_unstable_by(|a, b| {
            let by_name = || name(a).cmp(&name(b));
            let by_part = || a.part.cmp(&b.part);
            a.cursor
                .cmp(&b.cursor)
                .then_with(by_name)
                .then_with(by_part)
        });
        self.items
            .dedup_by(|b, a| a.cursor == b.cursor && name(a) == name(b));
        self.items.retain(|item| item.kind.is_some());
        let mut last = 0;
        for item in &mut self.items {
            item.cursor = item.cursor.max(last + 1);
            last = item.cursor;
        }
        self.items.shrink_to_fit();
        self.names.shrink_to_fit();
    }
}

impl Union {
    /// Lists a directory.
    ///
    /// # Errors
    /// `ENOTDIR`; what the layers report.
    pub fn read_dir(&self, node: &Arc<Node>) -> Result<DirList> {
        let _tree = self.tree.read();
        self.list(node)
    }

    /// The tree lock is held.
    pub(super) fn list(&self, node: &Arc<Node>) -> Result<DirList> {
        if !node.is_dir() {
            return Err(Errno::ENOTDIR.into());
        }
        let mut list = DirList::default();
        if node.is_removed() {
            return Ok(list);
        }
        let mut first = 0;
        if let Some(upper) = self.upper.as_ref().filter(|_| node.has_upper()) {
            self.list_upper(upper, node, &mut list)?;
            first = 1;
        }
        let mut part = first;
        for lower in node.lower() {
            let layer = lower.layer();
            let own_numbers = layer.host_dev().is_none();
            layer.read_dir(lower.node(), &mut |item| {
                // A merged directory's number is its lowest part's.
                let plain = node.lower().len() == 1 || item.kind != Some(FileType::Directory);
                let known = plain && own_numbers;
                list.push(item.name, item.kind, if known { item.ino } else { 0 }, part)
            })?;
            part = part.saturating_add(1);
        }
        if node.lower().len() > 1 && !self.names.knows(node.id()) {
            let below = list.pushed();
            let below = below.filter_map(|(name, part)| Some((name, part.checked_sub(first)?)));
            self.names.learn(node.id(), below);
        }
        list.sort();
        Ok(list)
    }

    fn list_upper(&self, upper: &Upper, node: &Arc<Node>, list: &mut DirList) -> Result<()> {
        let dir = self.dir_fd(node)?;
        crate::sys::dir::list(&dir, |name, raw, _| {
            let name = Name::from_bytes(name)?;
            let kind = match FileType::from_mode(raw.as_raw_mode()) {
                Some(FileType::Regular) if upper.has_records() => {
                    upper
                        .stat(&Place::Named(Arc::clone(&dir), name.into()))?
                        .kind
                }
                Some(kind) if kind != FileType::CharDevice => kind,
                // A whiteout, or a file system that doesn't tell types.
                _ => {
                    let flags = AtFlags::SYMLINK_NOFOLLOW;
                    let stat = stat_from(&rustix::fs::statat(&dir, name.as_os_str(), flags)?)?;
                    let place = Place::Named(Arc::clone(&dir), name.into());
                    if upper.is_whiteout(&place, &stat)? {
                        return list.push(name, None, 0, 0);
                    }
                    stat.kind
                }
            };
            list.push(name, Some(kind), 0, 0)
        })
    }
}
