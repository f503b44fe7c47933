//! The fuser crate's face of a [`Server`]: requests decoded, replies encoded, nothing decided.

mod reply;
mod session;

use std::ffi::OsStr;
use std::io;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use ::fuser::{
    BackingId, BsdFileFlags, CopyFileRangeFlags, Errno as FuserErrno, FileHandle, Filesystem,
    Generation, INodeNo, IoctlFlags, KernelConfig, LockOwner, OpenFlags as FuserOpenFlags,
    PollEvents, PollFlags, PollNotifier, RenameFlags as FuserRename, ReplyAttr, ReplyBmap,
    ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl,
    ReplyLseek, ReplyOpen, ReplyPoll, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow,
    WriteFlags,
};

use self::reply::{Answer, CACHED_DIR, Made, attr, kind, time_to_set};
use super::dirs::Room;
use super::files::{CopyEnd, KillPriv};
use super::handles::At;
use super::server::Server;
use super::step::Step;
use crate::error::{Errno, Error, Result};
use crate::union::{Caller, NodeId, OpenFlags, RenameFlags, SetAttr};

pub(super) use self::session::DevSession;

type FuserServer = Server<BackingId>;

/// The adapter.
struct Adapter(Arc<FuserServer>);

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
        session::negotiate(config, &self.0);
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
