//! Directory listings.

use std::sync::Arc;
use std::time::Duration;

use super::handles::DirHandle;
use super::server::{EntryReply, Server};
use super::step::Step;
use crate::error::Result;
use crate::name::Name;
use crate::stat::{FileType, Stat};
use crate::union::{DirList, Ino, NodeId};

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

/// Places of `.` and `..`; the other entries follow.
const DOTS: u64 = 2;

impl<I: Send + Sync + 'static> Server<I> {
    /// OPENDIR: the handle's number. Nothing is listed until it is asked for: the kernel may have
    /// the listing.
    ///
    /// # Errors
    /// `ESTALE`
    pub fn opendir(&self, dir: NodeId) -> Result<u64> {
        Ok(self.handles.add_dir(self.union.get(dir)?))
    }

    /// RELEASEDIR.
    pub fn releasedir(&self, handle: u64) {
        self.handles.remove_dir(handle);
    }

    /// READDIR from a place on, until `each` has no room.
    ///
    /// # Errors
    /// `EBADF`; what the union reports.
    pub fn readdir(
        &self,
        handle: u64,
        from: u64,
        mut each: impl FnMut(DirEntryReply<'_>) -> Room,
    ) -> Result<()> {
        let dir = self.handles.dir(handle)?;
        let list = self.listing(&dir, from)?;
        for place in from.. {
            let next = place + 1;
            let room = match self.at(&dir, &list, place)? {
                At::Dot(name, stat) => each(DirEntryReply {
                    next,
                    name,
                    kind: FileType::Directory,
                    ino: stat.ino,
                }),
                At::Entry(entry) => {
                    let ino = match entry.ino {
                        Some(ino) => Some(ino),
                        None => self.union.entry_ino(&dir.node, entry.name)?,
                    };
                    // Gone since the listing was taken.
                    let Some(Ino(ino)) = ino else { continue };
                    each(DirEntryReply {
                        next,
                        name: entry.name.as_bytes(),
                        kind: entry.kind,
                        ino,
                    })
                }
                At::End => break,
            };
            if room == Room::None {
                break;
            }
        }
        Ok(())
    }

    /// READDIRPLUS from a place on, until `each` has no room. The kernel gets a reference on each
    /// entry that was taken.
    ///
    /// # Errors
    /// `EBADF`; what the union reports.
    pub fn readdirplus(
        &self,
        handle: u64,
        from: u64,
        mut each: impl FnMut(DirEntryPlusReply<'_>) -> Room,
    ) -> Result<()> {
        let dir = self.handles.dir(handle)?;
        let list = self.listing(&dir, from)?;
        for place in from.. {
            let next = place + 1;
            match self.at(&dir, &list, place)? {
                At::Dot(name, stat) => {
                    let entry = unreferenced(stat);
                    if each(DirEntryPlusReply { next, name, entry }) == Room::None {
                        break;
                    }
                }
                At::Entry(item) => {
                    let Some(entry) = self.found(&dir, item.name)? else {
                        continue;
                    };
                    let name = item.name.as_bytes();
                    if each(DirEntryPlusReply { next, name, entry }) == Room::None {
                        self.forget(entry.id, 1);
                        break;
                    }
                }
                At::End => break,
            }
        }
        Ok(())
    }

    /// FSYNCDIR.
    pub fn fsyncdir(self: &Arc<Self>, handle: u64) -> Step<()> {
        match self.handles.dir(handle) {
            Ok(dir) if dir.node.has_upper() => {
                self.later(move |server| server.union.sync_node(&dir.node, false))
            }
            Ok(_) => Step::Done(Ok(())),
            Err(e) => Step::Done(Err(e)),
        }
    }

    fn found(&self, dir: &DirHandle, name: &Name) -> Result<Option<EntryReply>> {
        let found = self.union.lookup(&dir.node, name)?;
        Ok(found.map(|found| self.entry(&found)))
    }

    /// The handle's listing, taken anew at its beginning.
    fn listing(&self, dir: &DirHandle, from: u64) -> Result<Arc<DirList>> {
        if from > 0
            && let Some(list) = &*dir.list.lock()
        {
            return Ok(Arc::clone(list));
        }
        let list = Arc::new(self.union.read_dir(&dir.node)?);
        let old = dir.list.lock().replace(Arc::clone(&list));
        drop(old);
        Ok(list)
    }

    fn at<'l>(&self, dir: &DirHandle, list: &'l DirList, place: u64) -> Result<At<'l>> {
        match place {
            0 => Ok(At::Dot(b".", self.union.getattr(&dir.node)?)),
            1 => {
                // A removed directory has no parent any more; it is its own.
                let Ok(parent) = self.union.parent(&dir.node) else {
                    return Ok(At::Dot(b"..", self.union.getattr(&dir.node)?));
                };
                let (id, stat) = (parent.node.id(), parent.stat);
                drop(parent);
                self.union.forget(id, 1);
                Ok(At::Dot(b"..", stat))
            }
            place => {
                let index = usize::try_from(place - DOTS).ok();
                Ok(index.and_then(|i| list.get(i)).map_or(At::End, At::Entry))
            }
        }
    }
}

/// What is at a place of a listing.
enum At<'l> {
    Dot(&'static [u8], Stat),
    Entry(crate::union::DirEntry<'l>),
    End,
}

fn unreferenced(stat: Stat) -> EntryReply {
    EntryReply {
        id: NodeId(stat.ino),
        stat,
        entry_lifetime: Duration::ZERO,
        attr_lifetime: Duration::ZERO,
    }
}
