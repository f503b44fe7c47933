//! Answers as the bytes that follow a reply's header, built where the transport wants them.

use zerocopy::{Immutable, IntoBytes};

use super::buffer::Buffer;
use super::device::Backing;
use super::dirs::{DirEntryPlusReply, DirEntryReply, Room};
use super::files::{OpenedIo, OpenedReply};
use super::policy::FOREVER;
use super::server::{AttrReply, EntryReply, StatxReply, XattrReply};
use super::wire::{
    Attr, AttrOut, CreateOut, Dirent, EntryOut, OffsetOut, OpenOut, SizeOut, StatfsOut, StatxOut,
    StatxTime, fopen,
};
use crate::error::{Errno, Error, Result};
use crate::stat::{Stat, Timespec};
use crate::union::FsStat;

/// What goes back to the kernel: how many bytes of the area are the answer, or an errno.
pub(super) type Reply = std::result::Result<usize, i32>;

/// An answer that can be put into the area of a reply.
pub(super) trait Encode {
    /// Puts it there; how many bytes it takes.
    fn encode(self, area: &mut [u8]) -> Result<usize>;
}

/// The number for the kernel. It remembers ENOSYS for the life of the mount, so that is not for what
/// a file system below says of one file.
pub(super) fn errno(op: &'static str, error: &Error) -> i32 {
    match error.errno() {
        Errno::EIO | Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM => log::warn!("{op}: {error}"),
        _ => log::debug!("{op}: {error}"),
    }
    match error.errno() {
        Errno::ENOSYS => libc::EOPNOTSUPP,
        errno => errno.0,
    }
}

/// Encodes an answer, or says what went wrong.
pub(super) fn reply<R: Encode>(op: &'static str, result: Result<R>, area: &mut [u8]) -> Reply {
    let encoded = result.and_then(|answer| answer.encode(area));
    encoded.map_err(|e| errno(op, &e))
}

fn put<T: IntoBytes + Immutable>(value: &T, area: &mut [u8]) -> Result<usize> {
    match value.write_to_prefix(area) {
        Ok(()) => Ok(size_of::<T>()),
        Err(_) => Err(Error::with(Errno::EIO, "a reply has no room")),
    }
}

fn put_bytes(bytes: &[u8], area: &mut [u8]) -> Result<usize> {
    put_at(bytes, area, 0)
}

fn put_at(bytes: &[u8], area: &mut [u8], at: usize) -> Result<usize> {
    match area.get_mut(at..).and_then(|to| to.get_mut(..bytes.len())) {
        Some(to) => {
            to.copy_from_slice(bytes);
            Ok(bytes.len())
        }
        None => Err(Error::with(Errno::EIO, "a reply has no room")),
    }
}

/// A directory, of which no handle is needed.
pub(super) struct OpenedDir;

/// The answer is in the area already.
pub(super) struct Filled(pub usize);

/// How many bytes were copied, for `COPY_FILE_RANGE_64`.
pub(super) struct Copied(pub u32);

fn attr(stat: &Stat) -> Attr {
    Attr {
        ino: stat.ino,
        size: stat.size,
        blocks: stat.blocks,
        atime: stat.atime.sec,
        mtime: stat.mtime.sec,
        ctime: stat.ctime.sec,
        atimensec: stat.atime.nsec,
        mtimensec: stat.mtime.nsec,
        ctimensec: stat.ctime.nsec,
        mode: stat.mode(),
        nlink: stat.nlink,
        uid: stat.uid,
        gid: stat.gid,
        rdev: u32::try_from(stat.rdev).unwrap_or(0),
        blksize: BLOCK,
        flags: 0,
    }
}

/// `st_blksize`
const BLOCK: u32 = 4096;

fn entry(found: &EntryReply) -> EntryOut {
    EntryOut {
        nodeid: found.id.0,
        generation: 0,
        entry_valid: found.entry_lifetime.as_secs(),
        attr_valid: found.attr_lifetime.as_secs(),
        entry_valid_nsec: found.entry_lifetime.subsec_nanos(),
        attr_valid_nsec: found.attr_lifetime.subsec_nanos(),
        attr: attr(&found.stat),
    }
}

fn opened(reply: &OpenedReply<Backing>) -> OpenOut {
    let (flags, backing_id) = match &reply.io {
        OpenedIo::KeepPages => (fopen::KEEP_CACHE, 0),
        OpenedIo::DropPages => (0, 0),
        OpenedIo::Passthrough(backing) => (fopen::PASSTHROUGH, backing.id()),
    };
    OpenOut {
        fh: reply.handle,
        open_flags: flags | fopen::NOFLUSH,
        backing_id,
    }
}

impl Encode for () {
    fn encode(self, _area: &mut [u8]) -> Result<usize> {
        Ok(0)
    }
}

impl Encode for Filled {
    fn encode(self, _area: &mut [u8]) -> Result<usize> {
        Ok(self.0)
    }
}

impl Encode for Vec<u8> {
    fn encode(self, area: &mut [u8]) -> Result<usize> {
        put_bytes(&self, area)
    }
}

impl Encode for Buffer {
    fn encode(self, area: &mut [u8]) -> Result<usize> {
        put_bytes(self.bytes(), area)
    }
}

impl Encode for EntryReply {
    fn encode(self, area: &mut [u8]) -> Result<usize> {
        put(&entry(&self), area)
    }
}

impl Encode for Option<EntryReply> {
    fn encode(self, area: &mut [u8]) -> Result<usize> {
        match self {
            Some(found) => found.encode(area),
            // Node 0: there is no such name, and that holds.
            None => put(
                &EntryOut {
                    entry_valid: FOREVER.as_secs(),
                    ..EntryOut::default()
                },
                area,
            ),
        }
    }
}

impl Encode for AttrReply {
    fn encode(self, area: &mut [u8]) -> Result<usize> {
        let out = AttrOut {
            attr_valid: self.lifetime.as_secs(),
            attr_valid_nsec: self.lifetime.subsec_nanos(),
            dummy: 0,
            attr: attr(&self.stat),
        };
        put(&out, area)
    }
}

impl Encode for StatxReply {
    fn encode(self, area: &mut [u8]) -> Result<usize> {
        let stat = &self.stat;
        let time = |t: Timespec| StatxTime {
            sec: t.sec,
            nsec: t.nsec,
            reserved: 0,
        };
        let born = self.born.map_or(0, |_| libc::STATX_BTIME);
        let out = StatxOut {
            attr_valid: self.lifetime.as_secs(),
            attr_valid_nsec: self.lifetime.subsec_nanos(),
            mask: libc::STATX_BASIC_STATS | born,
            blksize: BLOCK,
            nlink: stat.nlink,
            uid: stat.uid,
            gid: stat.gid,
            mode: u16::try_from(stat.mode()).unwrap_or(0),
            ino: stat.ino,
            size: stat.size,
            blocks: stat.blocks,
            atime: time(stat.atime),
            btime: time(self.born.unwrap_or_default()),
            ctime: time(stat.ctime),
            mtime: time(stat.mtime),
            rdev_major: rustix::fs::major(stat.rdev),
            rdev_minor: rustix::fs::minor(stat.rdev),
            ..StatxOut::default()
        };
        put(&out, area)
    }
}

impl Encode for OpenedReply<Backing> {
    fn encode(self, area: &mut [u8]) -> Result<usize> {
        put(&opened(&self), area)
    }
}

impl Encode for (EntryReply, OpenedReply<Backing>) {
    fn encode(self, area: &mut [u8]) -> Result<usize> {
        let out = CreateOut {
            entry: entry(&self.0),
            open: opened(&self.1),
        };
        put(&out, area)
    }
}

impl Encode for OpenedDir {
    fn encode(self, area: &mut [u8]) -> Result<usize> {
        let out = OpenOut {
            // The kernel keeps the listing, also for the next one who opens the directory.
            open_flags: fopen::CACHE_DIR | fopen::KEEP_CACHE,
            ..OpenOut::default()
        };
        put(&out, area)
    }
}

impl Encode for u32 {
    fn encode(self, area: &mut [u8]) -> Result<usize> {
        let out = SizeOut {
            size: self,
            padding: 0,
        };
        put(&out, area)
    }
}

impl Encode for u64 {
    fn encode(self, area: &mut [u8]) -> Result<usize> {
        put(&OffsetOut { offset: self }, area)
    }
}

impl Encode for Copied {
    fn encode(self, area: &mut [u8]) -> Result<usize> {
        u64::from(self.0).encode(area)
    }
}

impl Encode for FsStat {
    fn encode(self, area: &mut [u8]) -> Result<usize> {
        let out = StatfsOut {
            blocks: self.blocks,
            bfree: self.free,
            bavail: self.available,
            files: self.files,
            ffree: self.files_free,
            bsize: self.block,
            namelen: self.name_max,
            frsize: self.fragment,
            ..StatfsOut::default()
        };
        put(&out, area)
    }
}

impl Encode for XattrReply {
    fn encode(self, area: &mut [u8]) -> Result<usize> {
        match self {
            XattrReply::Size(size) => size.encode(area),
            XattrReply::Data(data) => data.encode(area),
        }
    }
}

/// A listing under construction.
pub(super) struct Listing<'a> {
    area: &'a mut [u8],
    len: usize,
}

impl<'a> Listing<'a> {
    pub fn new(area: &'a mut [u8]) -> Self {
        Self { area, len: 0 }
    }

    pub fn filled(self) -> Filled {
        Filled(self.len)
    }

    /// Adds an entry of READDIR.
    pub fn add(&mut self, item: &DirEntryReply<'_>) -> Room {
        let kind = item.kind.mode_bits() >> 12;
        self.append(&[], (item.ino, item.next, kind), item.name)
    }

    /// Adds an entry of READDIRPLUS.
    pub fn add_plus(&mut self, item: &DirEntryPlusReply<'_>) -> Room {
        let mut out = entry(&item.entry);
        if matches!(item.name, b"." | b"..") {
            // The kernel takes no reference on these; at node 0 it doesn't look further.
            out.nodeid = 0;
        }
        let stat = &item.entry.stat;
        let kind = stat.kind.mode_bits() >> 12;
        self.append(out.as_bytes(), (item.ino, item.next, kind), item.name)
    }

    fn append(&mut self, before: &[u8], (ino, off, kind): (u64, u64, u32), name: &[u8]) -> Room {
        let head = Dirent {
            ino,
            off,
            namelen: u32::try_from(name.len()).unwrap_or(u32::MAX),
            kind,
        };
        let named = before.len() + size_of::<Dirent>();
        let unpadded = named + name.len();
        let len = unpadded.next_multiple_of(8);
        let Some(room) = self
            .area
            .get_mut(self.len..)
            .and_then(|rest| rest.get_mut(..len))
        else {
            return Room::None;
        };
        let put = |bytes: &[u8], room: &mut [u8], at| put_at(bytes, room, at).is_ok();
        let done = put(before, room, 0)
            && put(head.as_bytes(), room, before.len())
            && put(name, room, named);
        if let (Some(padding), true) = (room.get_mut(unpadded..), done) {
            padding.fill(0);
            self.len += len;
            Room::Left
        } else {
            Room::None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stat::FileType;

    #[test]
    fn listings_end_at_the_last_entry_that_fits() {
        let mut area = [0xff; 100];
        let mut listing = Listing::new(&mut area);
        let mut added = 0;
        let entry = |next, name| DirEntryReply {
            next,
            name,
            kind: FileType::Regular,
            ino: 7,
        };
        while listing.add(&entry(added, b"abc")) == Room::Left {
            added += 1;
        }
        assert_eq!(added, 3, "32 bytes each");
        assert_eq!(listing.filled().0, 96);
        assert_eq!(&area[24..32], b"abc\0\0\0\0\0");
        assert_eq!(area[96..], [0xff; 4]);
        assert_eq!(area[20], 8, "DT_REG");
    }

    #[test]
    fn replies_without_room_are_errors() {
        let stat = FsStat::default();
        assert!(stat.encode(&mut [0; 79]).is_err());
        assert_eq!(stat.encode(&mut [0; 80]).unwrap(), 80);
        assert!(vec![1; 5].encode(&mut [0; 4]).is_err());
        let absent: Option<EntryReply> = None;
        let mut area = [1; 128];
        assert_eq!(absent.encode(&mut area).unwrap(), 128);
        assert_eq!(area[..16], [0; 16]);
        assert_eq!(
            reply("x", Err::<u32, _>(Errno::ENOSYS.into()), &mut []),
            Err(libc::EOPNOTSUPP)
        );
    }
}
