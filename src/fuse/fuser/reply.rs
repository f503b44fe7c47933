//! What the fuser crate is answered with: its replies, sent what a [`Server`](crate::fuse::Server) says, and its values
//! from and to ours.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ::fuser::{
    BackingId, Errno as FuserErrno, FileAttr, FileHandle, FileType as FuserType, FopenFlags,
    Generation, INodeNo, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus,
    ReplyEmpty, ReplyEntry, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, TimeOrNow,
};

use crate::error::{Error, Result};
use crate::fuse::backing::BackingDevice;
use crate::fuse::buffer::Buffer;
use crate::fuse::files::{OpenedIo, OpenedReply};
use crate::fuse::server::{AttrReply, EntryReply, XattrReply};
use crate::stat::{FileType, Stat, Timespec};
use crate::union::{FsStat, SetTime};

/// A reply that takes an answer of type `R`.
pub(super) trait Answer<R>: Send + Sized + 'static {
    fn done(self, answer: R);
    fn fail(self, errno: FuserErrno);

    fn send(self, op: &'static str, result: Result<R>) {
        match result {
            Ok(answer) => self.done(answer),
            Err(e) => self.fail(errno(op, &e)),
        }
    }
}

pub(super) fn errno(op: &'static str, error: &Error) -> FuserErrno {
    FuserErrno::from_i32(crate::fuse::encode::errno(op, error))
}

pub(super) fn kind(kind: FileType) -> FuserType {
    match kind {
        FileType::Regular => FuserType::RegularFile,
        FileType::Directory => FuserType::Directory,
        FileType::Symlink => FuserType::Symlink,
        FileType::CharDevice => FuserType::CharDevice,
        FileType::BlockDevice => FuserType::BlockDevice,
        FileType::Fifo => FuserType::NamedPipe,
        FileType::Socket => FuserType::Socket,
    }
}

pub(super) fn attr(ino: u64, stat: &Stat) -> FileAttr {
    FileAttr {
        ino: INodeNo(ino),
        size: stat.size,
        blocks: stat.blocks,
        atime: system_time(stat.atime),
        mtime: system_time(stat.mtime),
        ctime: system_time(stat.ctime),
        crtime: UNIX_EPOCH,
        kind: kind(stat.kind),
        perm: u16::try_from(stat.perm & 0o7777).unwrap_or(0),
        nlink: stat.nlink,
        uid: stat.uid,
        gid: stat.gid,
        rdev: u32::try_from(stat.rdev).unwrap_or(0),
        blksize: 4096,
        flags: 0,
    }
}

fn system_time(time: Timespec) -> SystemTime {
    let whole = Duration::from_secs(time.sec.unsigned_abs());
    let start = if time.sec < 0 {
        UNIX_EPOCH.checked_sub(whole)
    } else {
        UNIX_EPOCH.checked_add(whole)
    };
    let exact = start.and_then(|t| t.checked_add(Duration::from_nanos(time.nsec.into())));
    exact.unwrap_or(UNIX_EPOCH)
}

/// A time to be set. fuser 0.18 gives a time before 1970 as that many seconds *and* nanoseconds
/// before it, although the nanoseconds count forward; undone here.
pub(super) fn time_to_set(time: TimeOrNow) -> SetTime {
    let TimeOrNow::SpecificTime(time) = time else {
        return SetTime::Now;
    };
    let (sec, nsec) = match time.duration_since(UNIX_EPOCH) {
        Ok(after) => (i64::try_from(after.as_secs()), after.subsec_nanos()),
        Err(e) => {
            let before = e.duration();
            let sec = i64::try_from(before.as_secs()).map(|sec| -sec);
            (sec, before.subsec_nanos())
        }
    };
    let sec = sec.unwrap_or(i64::MIN);
    SetTime::At(Timespec { sec, nsec })
}

impl BackingDevice for ReplyOpen {
    type Id = BackingId;
    fn open_backing(&self, file: BorrowedFd<'_>) -> io::Result<BackingId> {
        ReplyOpen::open_backing(self, file)
    }
}

impl BackingDevice for ReplyCreate {
    type Id = BackingId;
    fn open_backing(&self, file: BorrowedFd<'_>) -> io::Result<BackingId> {
        ReplyCreate::open_backing(self, file)
    }
}

/// ENTRY for what was made: it is there.
pub(super) struct Made(pub ReplyEntry);

macro_rules! answers {
    ($($reply:ty, $answer:ty, |$r:ident, $a:ident| $done:expr;)*) => {
        $(impl Answer<$answer> for $reply {
            fn done(self, $a: $answer) {
                let $r = self;
                $done
            }
            fn fail(self, errno: FuserErrno) {
                self.error(errno);
            }
        })*
    };
}

impl Made {
    fn error(self, errno: FuserErrno) {
        self.0.error(errno);
    }
}

answers! {
    ReplyEmpty, (), |reply, _done| reply.ok();
    ReplyDirectory, (), |reply, _done| reply.ok();
    ReplyDirectoryPlus, (), |reply, _done| reply.ok();
    ReplyData, Vec<u8>, |reply, data| reply.data(&data);
    ReplyData, Buffer, |reply, data| reply.data(data.bytes());
    ReplyWrite, u32, |reply, len| reply.written(len);
    ReplyLseek, u64, |reply, at| reply.offset(i64::try_from(at).unwrap_or(i64::MAX));
    ReplyAttr, AttrReply, |reply, a| reply.attr(&a.lifetime, &attr(a.stat.ino, &a.stat));
    ReplyEntry, Option<EntryReply>, |reply, entry| send_entry(reply, entry);
    Made, EntryReply, |reply, entry| send_entry(reply.0, Some(entry));
    ReplyOpen, OpenedReply<BackingId>, |reply, opened| send_opened(reply, opened);
    ReplyCreate, (EntryReply, OpenedReply<BackingId>), |reply, made| send_created(reply, made);
    ReplyStatfs, FsStat, |reply, s| reply.statfs(
        s.blocks, s.free, s.available, s.files, s.files_free, s.block, s.name_max, s.fragment,
    );
    ReplyXattr, XattrReply, |reply, value| match value {
        XattrReply::Size(size) => reply.size(size),
        XattrReply::Data(data) => reply.data(&data),
    };
}

/// The kernel keeps the listing, also for the next one who opens the directory.
pub(super) const CACHED_DIR: FopenFlags =
    FopenFlags::FOPEN_CACHE_DIR.union(FopenFlags::FOPEN_KEEP_CACHE);

fn send_entry(reply: ReplyEntry, entry: Option<EntryReply>) {
    match entry {
        Some(e) => {
            let attr = attr(e.id.0, &e.stat);
            reply.entry_with_ttls(&e.attr_lifetime, &e.entry_lifetime, &attr, Generation(0));
        }
        None => {
            // Node 0: there is no such name, and that holds.
            let nothing = attr(0, &NOTHING);
            let forever = crate::fuse::policy::FOREVER;
            reply.entry_with_ttls(&Duration::ZERO, &forever, &nothing, Generation(0));
        }
    }
}

fn open_flags(io: &OpenedIo<BackingId>) -> FopenFlags {
    match io {
        OpenedIo::KeepPages => FopenFlags::FOPEN_NOFLUSH | FopenFlags::FOPEN_KEEP_CACHE,
        OpenedIo::Passthrough(_) | OpenedIo::DropPages => FopenFlags::FOPEN_NOFLUSH,
    }
}

fn send_opened(reply: ReplyOpen, opened: OpenedReply<BackingId>) {
    let (handle, flags) = (FileHandle(opened.handle), open_flags(&opened.io));
    match opened.io {
        OpenedIo::Passthrough(backing) => reply.opened_passthrough(handle, flags, &backing),
        _ => reply.opened(handle, flags),
    }
}

fn send_created(reply: ReplyCreate, (entry, opened): (EntryReply, OpenedReply<BackingId>)) {
    let (handle, flags) = (FileHandle(opened.handle), open_flags(&opened.io));
    let attr = attr(entry.id.0, &entry.stat);
    // One lifetime for the name and the attributes.
    let lifetime = entry.attr_lifetime.min(entry.entry_lifetime);
    match opened.io {
        OpenedIo::Passthrough(backing) => {
            reply.created_passthrough(&lifetime, &attr, Generation(0), handle, flags, &backing);
        }
        _ => reply.created(&lifetime, &attr, Generation(0), handle, flags),
    }
}

const NOTHING: Stat = Stat {
    ino: 0,
    kind: FileType::Regular,
    perm: 0,
    nlink: 0,
    uid: 0,
    gid: 0,
    rdev: 0,
    size: 0,
    blocks: 0,
    atime: Timespec { sec: 0, nsec: 0 },
    mtime: Timespec { sec: 0, nsec: 0 },
    ctime: Timespec { sec: 0, nsec: 0 },
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Errno;

    #[test]
    fn times_before_1970_come_through_both_ways() {
        let time = Timespec {
            sec: -2,
            nsec: 800_000_000,
        };
        let expected = UNIX_EPOCH - Duration::from_millis(1200);
        assert_eq!(system_time(time), expected);
        // What fuser makes of (-2, 800000000).
        let odd = UNIX_EPOCH - Duration::new(2, 800_000_000);
        let set = time_to_set(TimeOrNow::SpecificTime(odd));
        assert_eq!(set, SetTime::At(time));
        assert_eq!(
            system_time(Timespec {
                sec: i64::MAX,
                nsec: 5
            })
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs(),
            i64::MAX.unsigned_abs()
        );
        for sec in [i64::MIN, -1, 0, 1 << 40] {
            let _any = system_time(Timespec { sec, nsec: 1 });
        }
    }

    #[test]
    fn enosys_of_one_file_is_not_for_the_mount() {
        let error = Error::new(Errno::ENOSYS);
        assert_eq!(errno("x", &error).code(), libc::EOPNOTSUPP);
        assert_eq!(errno("x", &Error::new(Errno::ENOENT)).code(), libc::ENOENT);
    }
}
