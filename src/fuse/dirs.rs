//! Directory listings.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::ahead::Below;
use super::server::{EntryReply, Server};
use super::step::Step;
use crate::error::Result;
use crate::stat::{FileType, Stat};
use crate::union::{Above, DirList, Ino, Node, NodeId};

/// One entry of READDIR.
pub struct DirEntryReply<'a> {
    /// What the kernel passes to continue after this entry.
    pub next: u64,
    /// The name.
    pub name: &'a [u8],
    /// The type.
    pub kind: FileType,
    /// `d_ino`
    pub ino: u64,
}

/// One entry of READDIRPLUS.
pub struct DirEntryPlusReply<'a> {
    /// What the kernel passes to continue after this entry.
    pub next: u64,
    /// The name.
    pub name: &'a [u8],
    /// `d_ino`
    pub ino: u64,
    /// The entry; of `.` and `..` the kernel takes no reference.
    pub entry: EntryReply,
}

/// Whether a reply has room for more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// The entry was taken.
    Left,
    /// It did not fit.
    None,
}

/// Cursors of `.` and `..`; those of the other entries are above.
const DOT: u64 = 1;
const DOT_DOT: u64 = 2;

impl<I: Send + Sync + 'static> Server<I> {
    /// READDIR from a place on, until `each` has no room.
    ///
    /// # Errors
    /// `ESTALE`, `ENOTDIR`; what the union reports.
    pub fn readdir(
        &self,
        dir: NodeId,
        from: u64,
        mut each: impl FnMut(DirEntryReply<'_>) -> Room,
    ) -> Result<()> {
        let dir = self.union.get(dir)?;
        let list = self.listing(&dir, from, None)?;
        let above = self.above(&dir);
        for at in Walk::from(from, &list) {
            let room = match self.at(&dir, at)? {
                At::Dot(next, name, stat) => each(DirEntryReply {
                    next,
                    name,
                    kind: FileType::Directory,
                    ino: stat.ino,
                }),
                At::Entry(entry) => {
                    let Ino(ino) = match (entry.ino, &above) {
                        (Some(ino), None) => ino,
                        (_, above) => {
                            // Or gone since the listing was taken.
                            let Some(stat) = self.union.entry_stat(&dir, entry.name)? else {
                                continue;
                            };
                            match above {
                                Some(above) => above.listed(entry.name, &stat),
                                None => Ino(stat.ino),
                            }
                        }
                    };
                    each(DirEntryReply {
                        next: entry.cursor,
                        name: entry.name.as_bytes(),
                        kind: entry.kind,
                        ino,
                    })
                }
            };
            if room == Room::None {
                break;
            }
        }
        if above.is_some() {
            // A change meanwhile took it for done.
            self.views.lists(dir.id());
        }
        Ok(())
    }

    /// What is above a directory of the tree of the lowers alone.
    fn above(&self, dir: &Node) -> Option<Above> {
        dir.is_in_view().then(|| {
            self.views.lists(dir.id());
            self.union.above(dir)
        })
    }

    /// READDIRPLUS from a place on, until `each` has no room. The kernel gets a reference on each
    /// entry that was taken.
    ///
    /// Of the tree of the lowers alone fuser's gets the dots first, and asks READDIR for the rest: `d_ino` is
    /// not `st_ino` there, and in fuser's READDIRPLUS they are one.
    ///
    /// # Errors
    /// `ESTALE`, `ENOTDIR`; what the union reports.
    pub fn readdirplus(
        self: &Arc<Self>,
        dir: NodeId,
        from: u64,
        mut each: impl FnMut(DirEntryPlusReply<'_>) -> Room,
    ) -> Result<()> {
        let dir = self.union.get(dir)?;
        let (prepared, part) = self.prepared(&dir, from);
        let list = self.listing(&dir, from, prepared)?;
        let mut below = Below::default();
        let above = self.above(&dir);
        let apart = self.numbers_apart.load(Ordering::Relaxed);
        for at in Walk::from(from, &list) {
            match self.at(&dir, at)? {
                At::Dot(next, name, stat) => {
                    let (ino, entry) = (stat.ino, unreferenced(stat));
                    let item = DirEntryPlusReply {
                        next,
                        name,
                        ino,
                        entry,
                    };
                    if each(item) == Room::None {
                        break;
                    }
                }
                At::Entry(_) if above.is_some() && !apart && from == 0 => break,
                At::Entry(item) => {
                    let Some(found) = self.union.lookup_entry(&dir, &list, &item)? else {
                        continue;
                    };
                    let entry = self.named(found);
                    let Ino(ino) = match &above {
                        Some(above) if apart => above.listed(item.name, &entry.stat),
                        _ => Ino(entry.stat.ino),
                    };
                    let reply = DirEntryPlusReply {
                        next: item.cursor,
                        name: item.name.as_bytes(),
                        ino,
                        entry,
                    };
                    if each(reply) == Room::None {
                        self.forget(entry.id, 1);
                        break;
                    }
                    match item.kind {
                        FileType::Directory => below.dirs.push(entry.id),
                        FileType::Regular
                            if entry.stat.size > 0 && self.is_small(entry.stat.size) =>
                        {
                            below.files.push(entry.id);
                        }
                        _ => {}
                    }
                }
            }
        }
        match above {
            Some(_) => self.views.lists(dir.id()),
            None => self.walked(&dir, &part, below),
        }
        Ok(())
    }

    /// FSYNCDIR.
    pub fn fsyncdir(self: &Arc<Self>, dir: NodeId) -> Step<()> {
        match self.union.get(dir) {
            Ok(dir) if dir.has_upper() => {
                self.later(move |server| server.union.sync_node(&dir, false))
            }
            Ok(_) => Step::Done(Ok(())),
            Err(e) => Step::Done(Err(e)),
        }
    }

    /// A directory's listing, taken anew at its beginning unless it was prepared, and kept while
    /// somebody may read on in it.
    fn listing(
        &self,
        dir: &Arc<Node>,
        from: u64,
        prepared: Option<DirList>,
    ) -> Result<Arc<DirList>> {
        if from > 0
            && let Some(list) = self.unopened.list(dir.id())
        {
            if list.after(from) == list.len() {
                self.unopened.drop_list(dir.id());
            }
            return Ok(list);
        }
        let list = Arc::new(match prepared {
            Some(list) => list,
            None => self.union.read_dir(dir)?,
        });
        self.unopened.keep_list(dir.id(), &list);
        Ok(list)
    }

    fn at<'l>(&self, dir: &Arc<Node>, place: Place<'l>) -> Result<At<'l>> {
        match place {
            Place::Dot => Ok(At::Dot(DOT, b".", self.union.getattr(dir)?)),
            Place::DotDot => {
                // A removed directory has no parent any more; it is its own.
                let Ok(parent) = self.union.parent(dir) else {
                    let stat = self.union.getattr(dir)?;
                    return Ok(At::Dot(DOT_DOT, b"..", stat));
                };
                let (id, stat) = (parent.node.id(), parent.stat);
                drop(parent);
                self.union.forget(id, 1);
                Ok(At::Dot(DOT_DOT, b"..", stat))
            }
            Place::Entry(entry) => Ok(At::Entry(entry)),
        }
    }
}

/// What a listing goes on to.
enum Place<'l> {
    Dot,
    DotDot,
    Entry(crate::union::DirEntry<'l>),
}

/// A listing from a cursor on.
struct Walk<'l> {
    /// Cursors of the dots that are still to come are above it.
    dots: u64,
    list: &'l DirList,
    index: usize,
}

impl<'l> Walk<'l> {
    fn from(cursor: u64, list: &'l DirList) -> Self {
        let index = list.after(cursor);
        let dots = cursor;
        Self { dots, list, index }
    }
}

impl<'l> Iterator for Walk<'l> {
    type Item = Place<'l>;

    fn next(&mut self) -> Option<Place<'l>> {
        if self.dots < DOT_DOT {
            self.dots += 1;
            return Some(match self.dots {
                DOT => Place::Dot,
                _ => Place::DotDot,
            });
        }
        let entry = self.list.get(self.index)?;
        self.index += 1;
        Some(Place::Entry(entry))
    }
}

/// An entry, looked up; the dots with their cursors.
enum At<'l> {
    Dot(u64, &'static [u8], Stat),
    Entry(crate::union::DirEntry<'l>),
}

fn unreferenced(stat: Stat) -> EntryReply {
    EntryReply {
        id: NodeId(stat.ino),
        stat,
        entry_lifetime: Duration::ZERO,
        attr_lifetime: Duration::ZERO,
    }
}
