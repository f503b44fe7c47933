//! Requests as the kernel sends them, for a [`Server`]: taken apart, handed on, the answers put
//! where the transport wants them. Nothing is decided here, and whatever a request holds, the answer
//! is an answer.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use super::device::{Backing, Device};
use super::encode::{Copied, Encode, Filled, Listing, OpenedDir, Reply, errno, reply};
use super::files::{CopyEnd, KillPriv};
use super::gate::Pass;
use super::handles::At;
use super::pending::{Pending, Slot, Ticket};
use super::server::Server;
use super::step::Step;
use super::wire::{self, InHeader, fattr, op, read, take_name};
use crate::error::{Errno, Error, Result};
use crate::union::{Caller, NodeId, OpenFlags, RenameFlags};

/// A server for requests that are taken apart here.
pub(super) type WireServer = Server<Backing>;

/// What serves the requests of one connection.
pub(super) struct Context {
    pub server: Arc<WireServer>,
    pub device: Arc<Device>,
    /// Of a mount for its owner and root: whom else to refuse.
    pub owner: Option<u32>,
    pub pending: Pending,
}

/// Gives an answer, lent the device.
type Work = Box<dyn FnOnce(&Arc<Device>) -> Finish + Send>;

/// The same, with the right to change something.
type ParkedWork = Box<dyn FnOnce(&Arc<Device>, Pass) -> Finish + Send>;

/// Puts a late answer into the area that is there by then.
type Finish = Box<dyn FnOnce(&mut [u8]) -> Reply + Send>;

/// Work that gives an answer later.
pub(super) enum Deferred {
    /// On a thread of the pool, at once.
    Job {
        work: Work,
        /// How much room the answer takes at most, in bytes.
        room: usize,
        /// It changes nothing, so nobody has to wait for it.
        interruptible: bool,
    },
    /// When changes are allowed again.
    Parked(ParkedWork),
}

impl Deferred {
    /// How much room the answer takes at most, in bytes.
    pub fn room(&self) -> usize {
        match self {
            Deferred::Job { room, .. } => *room,
            Deferred::Parked(_) => SMALL,
        }
    }
}

/// Room for any answer that isn't data.
const SMALL: usize = 4096;

/// What becomes of a request.
pub(super) enum Outcome {
    /// It has this answer.
    Reply(Reply),
    /// The kernel wants none.
    None,
    /// The answer comes later.
    Deferred(Deferred),
}

/// The kernel remembers it for the life of the mount.
const NOT_ASKED_AGAIN: Outcome = Outcome::Reply(Err(libc::ENOSYS));

/// A request: its header, its structure, and the area in which the rest of it is, and into which the
/// answer goes.
struct Request<'a> {
    header: &'a InHeader,
    fixed: &'a [u8],
    area: &'a mut [u8],
    len: usize,
}

impl Request<'_> {
    fn payload(&self) -> &[u8] {
        self.area.get(..self.len).unwrap_or_default()
    }

    fn node(&self) -> NodeId {
        NodeId(self.header.nodeid)
    }

    fn caller(&self) -> Caller {
        Caller {
            uid: self.header.uid,
            gid: self.header.gid,
            pid: self.header.pid,
            ..Caller::default()
        }
    }

    /// The caller, who is told whether setuid and setgid go.
    fn caller_who(&self, kills: bool) -> Caller {
        Caller {
            keeps_priv: Some(!kills),
            ..self.caller()
        }
    }

    fn with_umask(&self, umask: u32) -> Caller {
        Caller {
            umask,
            ..self.caller()
        }
    }

    fn name(&self) -> Result<&OsStr> {
        Ok(OsStr::from_bytes(take_name(&mut self.payload())?))
    }

    fn two_names(&self) -> Result<(&OsStr, &OsStr)> {
        let mut rest = self.payload();
        let first = take_name(&mut rest)?;
        let second = take_name(&mut rest)?;
        Ok((OsStr::from_bytes(first), OsStr::from_bytes(second)))
    }

    /// As much of the area as an answer of so many bytes needs.
    fn room(&mut self, size: u32) -> &mut [u8] {
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let len = self.area.len().min(size);
        self.area.get_mut(..len).unwrap_or_default()
    }
}

/// The answer of a step, now or later.
fn outcome<R, D>(op: &'static str, step: Step<R, D>, area: &mut [u8]) -> Outcome
where
    R: Encode + Send + 'static,
    D: Lend + 'static,
{
    match step {
        Step::Done(result) => Outcome::Reply(reply(op, result, area)),
        Step::Later(job) => Outcome::Deferred(Deferred::Job {
            work: Box::new(move |device| {
                let result = job(D::of(device));
                Box::new(move |area| reply(op, result, area))
            }),
            room: SMALL,
            interruptible: false,
        }),
        Step::Parked(job) => Outcome::Deferred(Deferred::Parked(Box::new(move |device, pass| {
            let result = job(D::of(device), pass);
            Box::new(move |area| reply(op, result, area))
        }))),
    }
}

/// What jobs are lent: the device, or nothing.
trait Lend {
    fn of(device: &Arc<Device>) -> &Self;
}

impl Lend for Arc<Device> {
    fn of(device: &Arc<Device>) -> &Self {
        device
    }
}

impl Lend for () {
    fn of(_device: &Arc<Device>) -> &Self {
        &()
    }
}

fn now<R: Encode>(op: &'static str, result: Result<R>, area: &mut [u8]) -> Outcome {
    Outcome::Reply(reply(op, result, area))
}

fn refuse(op: &'static str, error: &Error) -> Outcome {
    Outcome::Reply(Err(errno(op, error)))
}

impl Context {
    /// Serves a request. The rest of it is in the first `len` bytes of the area; of the answer, what
    /// follows the header is put there.
    pub fn dispatch(
        &self,
        header: &InHeader,
        fixed: &[u8],
        area: &mut [u8],
        len: usize,
    ) -> Outcome {
        let request = Request {
            header,
            fixed,
            len: len.min(area.len()),
            area,
        };
        if self.is_refused(&request) {
            return Outcome::Reply(Err(libc::EACCES));
        }
        // A panic must not end the thread that serves the mount.
        let caught = std::panic::catch_unwind(AssertUnwindSafe(|| self.answer(request)));
        match caught {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(e)) => refuse("a request", &e),
            Err(_) => refuse("a request", &Error::with(Errno::EIO, "a panic")),
        }
    }

    /// Whether it comes from somebody whom the mount isn't for. What is open may be used by whoever
    /// got it.
    fn is_refused(&self, request: &Request<'_>) -> bool {
        let uid = request.header.uid;
        let open = [
            op::READ,
            op::WRITE,
            op::FLUSH,
            op::FSYNC,
            op::RELEASE,
            op::READDIR,
            op::READDIRPLUS,
            op::FSYNCDIR,
            op::RELEASEDIR,
            op::FORGET,
            op::BATCH_FORGET,
            op::INTERRUPT,
            op::DESTROY,
        ];
        let strange = |owner| uid != 0 && uid != owner;
        self.owner.is_some_and(strange) && !open.contains(&request.header.opcode)
    }

    fn answer(&self, request: Request<'_>) -> Result<Outcome> {
        match request.header.opcode {
            op::FORGET | op::BATCH_FORGET | op::INTERRUPT | op::NOTIFY_REPLY => {
                return self.note(&request).map(|()| Outcome::None);
            }
            op::RELEASE | op::RELEASEDIR | op::FLUSH | op::DESTROY => {
                return self.close(&request);
            }
            opcode => self.server.count(wire::operation(opcode)),
        }
        match request.header.opcode {
            op::LOOKUP | op::GETATTR | op::STATX | op::READLINK | op::STATFS | op::LSEEK => {
                self.look(request)
            }
            op::OPEN | op::CREATE | op::TMPFILE | op::OPENDIR => self.open(request),
            op::READ | op::READDIR | op::READDIRPLUS => self.read(request),
            op::MKNOD | op::MKDIR | op::SYMLINK | op::LINK => self.make(request),
            op::UNLINK | op::RMDIR | op::RENAME | op::RENAME2 => self.rename(request),
            op::SETXATTR | op::GETXATTR | op::LISTXATTR | op::REMOVEXATTR => self.xattr(request),
            op::IOCTL => Ok(Outcome::Reply(Err(libc::ENOTTY))),
            _ => self.write(request),
        }
    }

    /// What has no answer.
    fn note(&self, request: &Request<'_>) -> Result<()> {
        match request.header.opcode {
            op::FORGET => {
                let forget: wire::ForgetIn = read(request.fixed)?;
                self.server.forget(request.node(), forget.nlookup);
            }
            op::BATCH_FORGET => {
                let batch: wire::BatchForgetIn = read(request.fixed)?;
                let each = request.payload().chunks_exact(size_of::<wire::ForgetOne>());
                for one in each.take(usize::try_from(batch.count).unwrap_or(0)) {
                    let one: wire::ForgetOne = read(one)?;
                    self.server.forget(NodeId(one.nodeid), one.nlookup);
                }
            }
            op::INTERRUPT => {
                let interrupt: wire::InterruptIn = read(request.fixed)?;
                self.pending.interrupt(interrupt.unique);
            }
            _ => {}
        }
        Ok(())
    }

    /// What ends the use of something, and isn't counted.
    fn close(&self, request: &Request<'_>) -> Result<Outcome> {
        match request.header.opcode {
            op::RELEASE => {
                let release: wire::ReleaseIn = read(request.fixed)?;
                self.server.release_file(release.fh);
            }
            op::FLUSH if self.server.spares_open() => return Ok(NOT_ASKED_AGAIN),
            _ => {}
        }
        Ok(Outcome::Reply(Ok(0)))
    }

    fn look(&self, request: Request<'_>) -> Result<Outcome> {
        let (server, node) = (&self.server, request.node());
        Ok(match request.header.opcode {
            op::LOOKUP => {
                let found = request.name().and_then(|name| server.lookup(node, name));
                now("lookup", found, request.area)
            }
            op::GETATTR => now("getattr", server.getattr(node), request.area),
            op::STATX => now("statx", server.statx(node), request.area),
            op::READLINK => now("readlink", server.readlink(node), request.area),
            op::LSEEK => {
                let seek: wire::LseekIn = read(request.fixed)?;
                let handle = seek.fh;
                let found = server.lseek(At { node, handle }, seek.offset, seek.whence);
                now("lseek", found, request.area)
            }
            _ => now("statfs", server.statfs(request.header.pid), request.area),
        })
    }

    fn open(&self, request: Request<'_>) -> Result<Outcome> {
        let (server, node) = (&self.server, request.node());
        if request.header.opcode == op::OPENDIR {
            return Ok(match server.spares_opendir() {
                true => NOT_ASKED_AGAIN,
                false => now("opendir", Ok(OpenedDir), request.area),
            });
        }
        if request.header.opcode == op::OPEN {
            if server.spares_open() {
                return Ok(NOT_ASKED_AGAIN);
            }
            let open: wire::OpenIn = read(request.fixed)?;
            let caller = request.caller_who(open.open_flags & wire::OPEN_KILL_SUIDGID != 0);
            let step = server.open(&self.device, node, OpenFlags(open.flags), caller);
            return Ok(outcome("open", step, request.area));
        }
        let create: wire::CreateIn = read(request.fixed)?;
        let (mode, flags) = (create.mode, OpenFlags(create.flags));
        let caller = Caller {
            umask: create.umask,
            ..request.caller_who(create.open_flags & wire::OPEN_KILL_SUIDGID != 0)
        };
        if request.header.opcode == op::TMPFILE {
            let step = server.tmpfile(&self.device, node, mode, flags, caller);
            return Ok(outcome("tmpfile", step, request.area));
        }
        let name = request.name()?;
        let step = server.create(&self.device, node, name, mode, flags, caller);
        Ok(outcome("create", step, request.area))
    }

    fn read(&self, mut request: Request<'_>) -> Result<Outcome> {
        let args: wire::ReadIn = read(request.fixed)?;
        let node = request.node();
        let opcode = request.header.opcode;
        let area = request.room(args.size);
        if opcode == op::READ {
            let handle = args.fh;
            let source = self.server.source(At { node, handle })?;
            if source.is_at_hand() {
                let got = source.read_into(area, args.offset).map(Filled);
                return Ok(now("read", got, area));
            }
            let room = area.len();
            return Ok(Outcome::Deferred(Deferred::Job {
                work: Box::new(move |_| {
                    let got = source.read(args.offset, room);
                    Box::new(move |area| reply("read", got, area))
                }),
                room,
                interruptible: true,
            }));
        }
        let mut listing = Listing::new(area);
        let (server, from) = (&self.server, args.offset);
        let listed = match opcode {
            op::READDIR => server.readdir(node, from, |item| listing.add(&item)),
            _ => server.readdirplus(node, from, |item| listing.add_plus(&item)),
        };
        let filled = listing.filled();
        Ok(now("readdir", listed.map(|()| filled), &mut []))
    }

    fn make(&self, request: Request<'_>) -> Result<Outcome> {
        let (server, node) = (&self.server, request.node());
        let (op, step) = match request.header.opcode {
            op::MKNOD => {
                let mknod: wire::MknodIn = read(request.fixed)?;
                let caller = request.with_umask(mknod.umask);
                let name = request.name()?;
                let step = server.mknod(node, name, mknod.mode, mknod.rdev, caller);
                ("mknod", step)
            }
            op::MKDIR => {
                let mkdir: wire::MkdirIn = read(request.fixed)?;
                let caller = request.with_umask(mkdir.umask);
                let step = server.mkdir(node, request.name()?, mkdir.mode, caller);
                ("mkdir", step)
            }
            op::SYMLINK => {
                let (name, target) = request.two_names()?;
                let step = server.symlink(node, name, target, request.caller());
                ("symlink", step)
            }
            _ => {
                let link: wire::LinkIn = read(request.fixed)?;
                let step = server.link(NodeId(link.oldnodeid), node, request.name()?);
                ("link", step)
            }
        };
        Ok(outcome(op, step, request.area))
    }

    fn rename(&self, request: Request<'_>) -> Result<Outcome> {
        let (server, node) = (&self.server, request.node());
        let rename = match request.header.opcode {
            op::UNLINK => {
                let step = server.unlink(node, request.name()?);
                return Ok(outcome("unlink", step, request.area));
            }
            op::RMDIR => {
                let step = server.rmdir(node, request.name()?);
                return Ok(outcome("rmdir", step, request.area));
            }
            op::RENAME2 => read(request.fixed)?,
            _ => wire::RenameIn {
                newdir: read(request.fixed)?,
                ..wire::RenameIn::default()
            },
        };
        let flags = match rename.flags {
            0 => RenameFlags::Replace,
            libc::RENAME_NOREPLACE => RenameFlags::NoReplace,
            libc::RENAME_EXCHANGE => RenameFlags::Exchange,
            libc::RENAME_WHITEOUT => RenameFlags::Whiteout(request.caller()),
            _ => return Err(Errno::EINVAL.into()),
        };
        let (from, to) = request.two_names()?;
        let step = server.rename((node, from), (NodeId(rename.newdir), to), flags);
        Ok(outcome("rename", step, request.area))
    }

    fn xattr(&self, request: Request<'_>) -> Result<Outcome> {
        let (server, node) = (&self.server, request.node());
        match request.header.opcode {
            op::SETXATTR => {
                let set: wire::SetxattrIn = read(request.fixed)?;
                let caller =
                    request.caller_who(set.setxattr_flags & wire::SETXATTR_ACL_KILL_SGID != 0);
                let mut value = request.payload();
                let name = OsStr::from_bytes(take_name(&mut value)?);
                let value = usize::try_from(set.size)
                    .ok()
                    .and_then(|len| value.get(..len));
                let value = value.ok_or_else(|| Error::new(Errno::EINVAL))?;
                let step = server.setxattr(node, name, value, set.flags, caller);
                Ok(outcome("setxattr", step, request.area))
            }
            op::REMOVEXATTR => {
                let step = server.removexattr(node, request.name()?);
                Ok(outcome("removexattr", step, request.area))
            }
            op::GETXATTR => {
                let get: wire::GetxattrIn = read(request.fixed)?;
                let name = request.name()?;
                if server.spares_xattr(name) {
                    return Ok(NOT_ASKED_AGAIN);
                }
                let value = server.getxattr(node, name, get.size);
                Ok(now("getxattr", value, request.area))
            }
            _ => {
                let list: wire::GetxattrIn = read(request.fixed)?;
                if server.spares_xattrs() {
                    return Ok(NOT_ASKED_AGAIN);
                }
                let names = server.listxattr(node, list.size, request.caller());
                Ok(now("listxattr", names, request.area))
            }
        }
    }

    /// What changes a file or brings it to disk. What is unknown isn't asked again.
    fn write(&self, request: Request<'_>) -> Result<Outcome> {
        let server = &self.server;
        Ok(match request.header.opcode {
            op::WRITE => {
                let write: wire::WriteIn = read(request.fixed)?;
                let data = usize::try_from(write.size).ok();
                let data = data.and_then(|len| request.payload().get(..len));
                let data = data.ok_or_else(|| Error::new(Errno::EINVAL))?;
                let kill = match write.write_flags & wire::WRITE_KILL_SUIDGID {
                    0 => KillPriv::No,
                    _ => KillPriv::Yes,
                };
                let step = server.write(write.fh, write.offset, data, kill);
                outcome("write", step, request.area)
            }
            op::SETATTR => {
                let set: wire::SetattrIn = read(request.fixed)?;
                let handle = (set.valid & fattr::FH != 0).then_some(set.fh);
                let kills = set.valid & fattr::KILL_SUIDGID != 0;
                let caller = request.caller_who(kills);
                let step = server.setattr(request.node(), set.changes(), handle, caller);
                outcome("setattr", step, request.area)
            }
            op::FALLOCATE => {
                let args: wire::FallocateIn = read(request.fixed)?;
                let step = server.fallocate(args.fh, args.mode, args.offset, args.length);
                outcome("fallocate", step, request.area)
            }
            op::COPY_FILE_RANGE | op::COPY_FILE_RANGE_64 => self.copy(request)?,
            op::FSYNC => {
                let sync: wire::FsyncIn = read(request.fixed)?;
                let (node, handle) = (request.node(), sync.fh);
                let data_only = sync.flags & wire::FSYNC_DATA != 0;
                let step = server.fsync(At { node, handle }, data_only);
                interruptible(outcome("fsync", step, request.area))
            }
            op::FSYNCDIR => {
                let step = server.fsyncdir(request.node());
                interruptible(outcome("fsyncdir", step, request.area))
            }
            op::SYNCFS => interruptible(outcome("syncfs", server.syncfs(), request.area)),
            _ => NOT_ASKED_AGAIN,
        })
    }

    fn copy(&self, request: Request<'_>) -> Result<Outcome> {
        let args: wire::CopyFileRangeIn = read(request.fixed)?;
        let end = |handle, offset| CopyEnd { handle, offset };
        let (from, to) = (end(args.fh_in, args.off_in), end(args.fh_out, args.off_out));
        let step = self.server.copy_file_range(from, to, args.len);
        Ok(match request.header.opcode {
            op::COPY_FILE_RANGE => outcome("copy_file_range", step, request.area),
            _ => outcome("copy_file_range", step.map(Copied), request.area),
        })
    }

    /// Has work done whose answer comes later.
    pub fn defer<S: Slot>(self: &Arc<Self>, header: &InHeader, slot: S, work: Deferred) {
        let (unique, pid) = (header.unique, header.pid);
        let this = Arc::clone(self);
        let finish = |mut slot: S, finish: Finish| {
            let reply = finish(slot.area());
            slot.answer(reply);
        };
        match work {
            Deferred::Job {
                work,
                interruptible: false,
                ..
            } => self.server.run_job(Box::new(move || {
                finish(slot, work(&this.device));
            })),
            Deferred::Job { work, .. } => {
                let ticket = Ticket::new(slot);
                if self.pending.add(unique, pid, &ticket) {
                    self.server.run_job(Box::new(move || {
                        let done = work(&this.device);
                        this.pending.remove(unique);
                        if let Some(slot) = ticket.take() {
                            finish(slot, done);
                        }
                    }));
                }
            }
            Deferred::Parked(work) => {
                let ticket = Ticket::new(slot);
                if self.pending.add(unique, pid, &ticket) {
                    self.server.run_parked(Box::new(move |pass| {
                        this.pending.remove(unique);
                        // Interrupted before it began: nothing is changed.
                        if let Some(slot) = ticket.take() {
                            finish(slot, work(&this.device, pass));
                        }
                    }));
                }
            }
        }
    }
}

/// Nobody has to wait for what changes nothing.
fn interruptible(outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Deferred(Deferred::Job { work, room, .. }) => Outcome::Deferred(Deferred::Job {
            work,
            room,
            interruptible: true,
        }),
        other => other,
    }
}

#[cfg(test)]
mod tests;
