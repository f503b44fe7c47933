//! The fuser crate's face of a [`Server`]: requests decoded, replies encoded, nothing decided.

use std::ffi::OsStr;
use std::io;
use std::os::fd::BorrowedFd;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ::fuser::{
    BackingId, BsdFileFlags, CopyFileRangeFlags, Errno as FuserErrno, FileAttr, FileHandle,
    FileType as FuserType, Filesystem, FopenFlags, Generation, INodeNo, IoctlFlags, KernelConfig,
    LockOwner, OpenFlags as FuserOpenFlags, PollEvents, PollFlags, PollNotifier,
    RenameFlags as FuserRename, ReplyAttr, ReplyBmap, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen, ReplyPoll,
    ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};

use super::backing::BackingDevice;
use super::buffer::Buffer;
use super::dirs::Room;
use super::files::{CopyEnd, KillPriv, OpenedIo, OpenedReply};
use super::fuser_session;
use super::handles::At;
use super::server::{AttrReply, EntryReply, Server, XattrReply};
use super::step::Step;
use crate::error::{Errno, Error, Result};
use crate::stat::{FileType, Stat, Timespec};
use crate::union::{Caller, FsStat, NodeId, OpenFlags, RenameFlags, SetAttr, SetTime};

type FuserServer = Server<BackingId>;

/// The adapter.
pub(super) struct Adapter(pub Arc<FuserServer>);

/// A reply that takes an answer of type `R`.
trait Answer<R>: Send + Sized + 'static {
    fn done(self, answer: R);
    fn fail(self, errno: FuserErrno);

    fn send(self, op: &'static str, result: Result<R>) {
        match result {
            Ok(answer) => self.done(answer),
            Err(e) => self.fail(errno(op, &e)),
        }
    }
}

fn errno(op: &'static str, error: &Error) -> FuserErrno {
    FuserErrno::from_i32(super::encode::errno(op, error))
}

impl Adapter {
    /// Answers a request now, or has it answered by a job.
    fn answer<R: 'static, P: Answer<R>>(
        &self,
        op: &'static str,
        reply: P,
        step: impl FnOnce(&Arc<FuserServer>) -> Step<R>,
    ) {
        self.answer_with(op, reply, |server, _| step(server).with_device());
    }

    /// The same, for what is lent the reply to register files by.
    fn answer_with<R: 'static, P: Answer<R>>(
        &self,
        op: &'static str,
        reply: P,
        step: impl FnOnce(&Arc<FuserServer>, &P) -> Step<R, P>,
    ) {
        self.0.count(op);
        // A panic must not end the thread that serves the mount.
        let caught = std::panic::catch_unwind(AssertUnwindSafe(|| step(&self.0, &reply)));
        match caught.unwrap_or_else(|_| Step::Done(Err(Error::with(Errno::EIO, "a panic")))) {
            Step::Done(result) => reply.send(op, result),
            Step::Later(job) => self.0.run_job(Box::new(move || {
                let result = job(&reply);
                reply.send(op, result);
            })),
            Step::Parked(job) => self.0.run_parked(Box::new(move |pass| {
                let result = job(&reply, pass);
                reply.send(op, result);
            })),
        }
    }

    /// Answers a request that never waits.
    fn now<R: 'static, P: Answer<R>>(
        &self,
        op: &'static str,
        reply: P,
        work: impl FnOnce(&Arc<FuserServer>) -> Result<R>,
    ) {
        self.answer(op, reply, |server| Step::Done(work(server)));
    }
}

fn at(node: INodeNo, handle: FileHandle) -> At {
    At {
        node: id(node),
        handle: handle.0,
    }
}

fn caller(request: &Request, umask: u32) -> Caller {
    Caller {
        uid: request.uid(),
        gid: request.gid(),
        pid: request.pid(),
        umask,
        keeps_priv: None,
    }
}

impl Filesystem for Adapter {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        fuser_session::negotiate(config, &self.0);
        Ok(())
    }

    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.now("lookup", reply, |s| s.lookup(id(parent), name));
    }

    fn forget(&self, _request: &Request, node: INodeNo, count: u64) {
        self.0.forget(id(node), count);
    }

    fn getattr(
        &self,
        _request: &Request,
        node: INodeNo,
        _handle: Option<FileHandle>,
        reply: ReplyAttr,
    ) {
        self.now("getattr", reply, |s| s.getattr(id(node)));
    }

    fn setattr(
        &self,
        request: &Request,
        node: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        handle: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let set = SetAttr {
            perm: mode.map(|mode| mode & 0o7777),
            uid,
            gid,
            size,
            atime: atime.map(time_to_set),
            mtime: mtime.map(time_to_set),
            kill_priv: false,
        };
        let (caller, handle) = (caller(request, 0), handle.map(|h| h.0));
        self.answer("setattr", reply, |s| {
            s.setattr(id(node), set, handle, caller)
        });
    }

    fn readlink(&self, _request: &Request, node: INodeNo, reply: ReplyData) {
        self.now("readlink", reply, |s| s.readlink(id(node)));
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        let caller = caller(request, umask);
        self.answer("mknod", Made(reply), |s| {
            s.mknod(id(parent), name, mode, rdev, caller)
        });
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        let caller = caller(request, umask);
        self.answer("mkdir", Made(reply), |s| {
            s.mkdir(id(parent), name, mode, caller)
        });
    }

    fn unlink(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.answer("unlink", reply, |s| s.unlink(id(parent), name));
    }

    fn rmdir(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.answer("rmdir", reply, |s| s.rmdir(id(parent), name));
    }

    fn symlink(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        let caller = caller(request, 0);
        self.answer("symlink", Made(reply), |s| {
            s.symlink(id(parent), name, target.as_os_str(), caller)
        });
    }

    fn rename(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: FuserRename,
        reply: ReplyEmpty,
    ) {
        let flags = match flags.bits() {
            0 => RenameFlags::Replace,
            libc::RENAME_NOREPLACE => RenameFlags::NoReplace,
            libc::RENAME_EXCHANGE => RenameFlags::Exchange,
            libc::RENAME_WHITEOUT => RenameFlags::Whiteout(caller(request, 0)),
            _ => return reply.error(FuserErrno::EINVAL),
        };
        let (from, to) = ((id(parent), name), (id(new_parent), new_name));
        self.answer("rename", reply, |s| s.rename(from, to, flags));
    }

    fn link(
        &self,
        _request: &Request,
        node: INodeNo,
        new_parent: INodeNo,
        new_name: &OsStr,
        reply: ReplyEntry,
    ) {
        self.answer("link", Made(reply), |s| {
            s.link(id(node), id(new_parent), new_name)
        });
    }

    fn open(&self, request: &Request, node: INodeNo, flags: FuserOpenFlags, reply: ReplyOpen) {
        if self.0.spares_open() {
            return reply.error(FuserErrno::ENOSYS);
        }
        let (flags, caller) = (OpenFlags(flags.0), caller(request, 0));
        self.answer_with("open", reply, |s, reply| {
            s.open(reply, id(node), flags, caller)
        });
    }

    fn read(
        &self,
        _request: &Request,
        node: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: FuserOpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let at = at(node, handle);
        self.answer("read", reply, |s| s.read(at, offset, size));
    }

    fn write(
        &self,
        _request: &Request,
        _node: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        _flags: FuserOpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let kill = match write_flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID) {
            true => KillPriv::Yes,
            false => KillPriv::No,
        };
        self.answer("write", reply, |s| s.write(handle.0, offset, data, kill));
    }

    fn flush(
        &self,
        _request: &Request,
        _node: INodeNo,
        _handle: FileHandle,
        _lock_owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        match self.0.spares_open() {
            true => reply.error(FuserErrno::ENOSYS),
            false => reply.ok(),
        }
    }

    fn release(
        &self,
        _request: &Request,
        _node: INodeNo,
        handle: FileHandle,
        _flags: FuserOpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.0.release_file(handle.0);
        reply.ok();
    }

    fn fsync(
        &self,
        _request: &Request,
        node: INodeNo,
        handle: FileHandle,
        data_only: bool,
        reply: ReplyEmpty,
    ) {
        let at = at(node, handle);
        self.answer("fsync", reply, |s| s.fsync(at, data_only));
    }

    fn opendir(
        &self,
        _request: &Request,
        _node: INodeNo,
        _flags: FuserOpenFlags,
        reply: ReplyOpen,
    ) {
        self.0.count("opendir");
        match self.0.spares_opendir() {
            true => reply.error(FuserErrno::ENOSYS),
            false => reply.opened(FileHandle(0), CACHED_DIR),
        }
    }

    fn readdir(
        &self,
        _request: &Request,
        node: INodeNo,
        _handle: FileHandle,
        from: u64,
        mut reply: ReplyDirectory,
    ) {
        self.0.count("readdir");
        let listed = self.0.readdir(id(node), from, |entry| {
            let (ino, name) = (INodeNo(entry.ino), os(entry.name));
            room(reply.add(ino, entry.next, kind(entry.kind), name))
        });
        reply.send("readdir", listed);
    }

    fn readdirplus(
        &self,
        _request: &Request,
        node: INodeNo,
        _handle: FileHandle,
        from: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        self.0.count("readdirplus");
        let listed = self.0.readdirplus(id(node), from, |item| {
            let attr = attr(item.entry.id.0, &item.entry.stat);
            // One lifetime for the name and the attributes.
            let lifetime = item.entry.attr_lifetime.min(item.entry.entry_lifetime);
            let (ino, name) = (attr.ino, os(item.name));
            room(reply.add(ino, item.next, name, &lifetime, &attr, Generation(0)))
        });
        reply.send("readdirplus", listed);
    }

    fn releasedir(
        &self,
        _request: &Request,
        _node: INodeNo,
        _handle: FileHandle,
        _flags: FuserOpenFlags,
        reply: ReplyEmpty,
    ) {
        reply.ok();
    }

    fn fsyncdir(
        &self,
        _request: &Request,
        node: INodeNo,
        _handle: FileHandle,
        _data_only: bool,
        reply: ReplyEmpty,
    ) {
        self.answer("fsyncdir", reply, |s| s.fsyncdir(id(node)));
    }

    fn statfs(&self, request: &Request, _node: INodeNo, reply: ReplyStatfs) {
        self.now("statfs", reply, |s| s.statfs(request.pid()));
    }

    fn setxattr(
        &self,
        request: &Request,
        node: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        self.answer("setxattr", reply, |s| {
            s.setxattr(id(node), name, value, flags, caller(request, 0))
        });
    }

    fn getxattr(
        &self,
        _request: &Request,
        node: INodeNo,
        name: &OsStr,
        size: u32,
        reply: ReplyXattr,
    ) {
        if self.0.spares_xattr(name) {
            return reply.error(FuserErrno::ENOSYS);
        }
        self.now("getxattr", reply, |s| s.getxattr(id(node), name, size));
    }

    fn listxattr(&self, request: &Request, node: INodeNo, size: u32, reply: ReplyXattr) {
        if self.0.spares_xattrs() {
            return reply.error(FuserErrno::ENOSYS);
        }
        let caller = caller(request, 0);
        self.now("listxattr", reply, |s| s.listxattr(id(node), size, caller));
    }

    fn removexattr(&self, _request: &Request, node: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.answer("removexattr", reply, |s| s.removexattr(id(node), name));
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let (flags, caller) = (OpenFlags(flags), caller(request, umask));
        self.answer_with("create", reply, |s, reply| {
            s.create(reply, id(parent), name, mode, flags, caller)
        });
    }

    fn fallocate(
        &self,
        _request: &Request,
        _node: INodeNo,
        handle: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        self.answer("fallocate", reply, |s| {
            s.fallocate(handle.0, mode, offset, length)
        });
    }

    fn lseek(
        &self,
        _request: &Request,
        node: INodeNo,
        handle: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        let at = at(node, handle);
        self.now("lseek", reply, |s| s.lseek(at, offset, whence));
    }

    fn copy_file_range(
        &self,
        _request: &Request,
        _node_in: INodeNo,
        handle_in: FileHandle,
        offset_in: u64,
        _node_out: INodeNo,
        handle_out: FileHandle,
        offset_out: u64,
        len: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        let end = |handle: FileHandle, offset| CopyEnd {
            handle: handle.0,
            offset,
        };
        let (from, to) = (end(handle_in, offset_in), end(handle_out, offset_out));
        self.answer("copy_file_range", reply, |s| {
            s.copy_file_range(from, to, len)
        });
    }

    // What the kernel need not ask again.

    fn ioctl(
        &self,
        _request: &Request,
        _node: INodeNo,
        _handle: FileHandle,
        _flags: IoctlFlags,
        _command: u32,
        _data: &[u8],
        _out_size: u32,
        reply: ReplyIoctl,
    ) {
        reply.error(FuserErrno::from_i32(libc::ENOTTY));
    }

    fn poll(
        &self,
        _request: &Request,
        _node: INodeNo,
        _handle: FileHandle,
        _notifier: PollNotifier,
        _events: PollEvents,
        _flags: PollFlags,
        reply: ReplyPoll,
    ) {
        reply.error(FuserErrno::from_i32(libc::ENOSYS));
    }

    fn bmap(&self, _request: &Request, _node: INodeNo, _size: u32, _index: u64, reply: ReplyBmap) {
        reply.error(FuserErrno::from_i32(libc::ENOSYS));
    }
}

fn id(node: INodeNo) -> NodeId {
    NodeId(node.0)
}

fn os(name: &[u8]) -> &OsStr {
    std::os::unix::ffi::OsStrExt::from_bytes(name)
}

fn room(full: bool) -> Room {
    if full { Room::None } else { Room::Left }
}

fn kind(kind: FileType) -> FuserType {
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

fn attr(ino: u64, stat: &Stat) -> FileAttr {
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
fn time_to_set(time: TimeOrNow) -> SetTime {
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
struct Made(ReplyEntry);

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
const CACHED_DIR: FopenFlags = FopenFlags::FOPEN_CACHE_DIR.union(FopenFlags::FOPEN_KEEP_CACHE);

fn send_entry(reply: ReplyEntry, entry: Option<EntryReply>) {
    match entry {
        Some(e) => {
            let attr = attr(e.id.0, &e.stat);
            reply.entry_with_ttls(&e.attr_lifetime, &e.entry_lifetime, &attr, Generation(0));
        }
        None => {
            // Node 0: there is no such name, and that holds.
            let nothing = attr(0, &NOTHING);
            let forever = super::policy::FOREVER;
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
