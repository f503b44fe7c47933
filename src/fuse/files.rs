//! Open files: open, read, write, and what else is done through a handle.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::fs::{FallocateFlags, SeekFrom};

use super::BackingDevice;
use super::backing::{Access, Mode, Offer, Reader, Side};
use super::buffer::Buffer;
use super::changes::step_try;
use super::handles::{At, FileHandle};
use super::policy;
use super::server::Server;
use super::step::{Cost, Step};
use crate::content::ReadAt;
use crate::error::{Errno, Error, Result};
use crate::layer::Contents;
use crate::union::{Caller, Node, NodeId, OpenFlags, Opened, SetAttr};

/// What OPEN and CREATE answer.
pub struct OpenedReply<I> {
    /// The handle's number.
    pub handle: u64,
    /// How it is read and written.
    pub io: OpenedIo<I>,
}

/// How a handle is read and written.
pub enum OpenedIo<I> {
    /// By the kernel itself.
    Passthrough(Arc<I>),
    /// By requests, with the pages that the kernel has.
    KeepPages,
    /// By requests, after the kernel has dropped its pages.
    DropPages,
}

/// One end of copy_file_range(2).
#[derive(Debug, Clone, Copy)]
pub struct CopyEnd {
    /// The handle's number.
    pub handle: u64,
    /// Where to begin, in bytes.
    pub offset: u64,
}

/// How long the kernel is kept waiting for a file that it is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Patience {
    /// It takes a copy, or it is not given.
    None,
    /// Only who wants this very file waits.
    ToDecompress,
}

/// The longest file that is copied into a host file of its own while its OPEN waits, in bytes.
const WAITED_FOR: u64 = 256 << 20;

/// The most that one COPY_FILE_RANGE copies, in bytes.
const COPY_MOST: u64 = 1 << 30;

impl<I: Send + Sync + 'static> Server<I> {
    /// OPEN of a regular file. With `O_TRUNC` the file is cut, and its setuid cleared, at once.
    pub fn open<D: BackingDevice<Id = I>>(
        self: &Arc<Self>,
        device: &D,
        id: NodeId,
        flags: OpenFlags,
        caller: Caller,
    ) -> Step<OpenedReply<I>, D> {
        let changes = flags.writes() || flags.truncates();
        if !changes && !flags.executes() && self.modes.attach_given(id) {
            // The kernel has its pages, or asks for them by the handle.
            self.opened_given(id);
            return Step::Done(Ok(self.unread_handle(id, None, OpenedIo::KeepPages)));
        }
        let node = step_try!(self.union.get(id));
        if node.id() != id && !self.may_be_alias(id) {
            let why = "the file has another number now";
            return Step::Done(Err(Error::with(Errno::ESTALE, why)));
        }
        if changes {
            // The kernel asks whether a program runs before it opens for writing, but cuts first and asks
            // then when the file is to be cut and only read.
            if !flags.writes() && self.handles.executes(&node) {
                return Step::Done(Err(Errno::ETXTBSY.into()));
            }
            if self.modes.is_lower(id) {
                return Step::Done(Err(self.leave_lower(&node, id)));
            }
            let cost = self.copy_cost(&node);
            return self.change(cost, device, move |server, device| {
                let opened = server.union.open(&node, flags, caller)?;
                server.attach(device, (id, &node), &opened, flags)
            });
        }
        if let Some(len) = step_try!(self.union.lower_len(&node)) {
            self.opened_lower(&node);
            if self.is_small(len) {
                return self.open_small((id, &node), len, flags);
            }
        }
        let mut opened = step_try!(self.union.open(&node, flags, caller));
        let Some(stored) = self.to_be_a_file((id, &node), &opened) else {
            return Step::Done(self.attach(device, (id, &node), &opened, flags));
        };
        let server = Arc::clone(self);
        Step::Later(Box::new(move |device| {
            if let Some(file) = made(&*stored) {
                opened.contents = Contents::File(file);
            }
            server.attach(device, (id, &node), &opened, flags)
        }))
    }

    /// Whether a number that its node has left can be opened: when nothing is read from a lower under
    /// it any more, and no pages have to be kept the same under two numbers.
    fn may_be_alias(&self, id: NodeId) -> bool {
        self.modes.is_upper_or_free(id) && self.passthrough.load(Ordering::Relaxed)
    }

    /// What is worth a host file of its own before it is opened, because the kernel can read that by
    /// itself. A long one is made for the next who opens it; nobody waits for that.
    fn to_be_a_file(
        self: &Arc<Self>,
        (id, node): (NodeId, &Node),
        opened: &Opened,
    ) -> Option<Arc<dyn ReadAt>> {
        let Contents::Stored(stored) = &opened.contents else {
            return None;
        };
        let passes = self.passes_lower(node, opened) && self.modes.may_pass(id);
        if !passes || !stored.is_worth_a_file() {
            return None;
        }
        let stored = Arc::clone(stored);
        if stored.len() <= WAITED_FOR {
            return Some(stored);
        }
        self.run_job(Box::new(move || drop(made(&*stored))));
        None
    }

    /// Whether the lower's file that was opened may be passed through: where it can be copied up, the
    /// kernel has to keep the lower from being written to, and to be told. Not under a number that
    /// the file has got because it is about to change: the kernel looks a name up again once, not
    /// twice.
    fn passes_lower(&self, node: &Node, opened: &Opened) -> bool {
        let told = opened.guarded && self.notices.are_possible();
        let safe = told && !node.is_renumbered();
        self.passthrough.load(Ordering::Relaxed) && (self.union.is_read_only() || safe)
    }

    /// Gives an opened file a handle, in the node's I/O mode.
    pub(super) fn attach<D: BackingDevice<Id = I>>(
        &self,
        device: &D,
        (id, node): (NodeId, &Arc<Node>),
        opened: &Opened,
        flags: OpenFlags,
    ) -> Result<OpenedReply<I>> {
        let access = match flags.0 & libc::O_ACCMODE {
            libc::O_RDWR => Access::ReadWrite,
            libc::O_WRONLY => Access::Write,
            _ if flags.truncates() => Access::ReadWrite,
            _ => Access::Read,
        };
        let file = match &opened.contents {
            Contents::File(file) if opened.from_upper => Some((file, Side::Upper)),
            Contents::File(file) if self.passes_lower(node, opened) => Some((file, Side::Lower)),
            _ => None,
        };
        let offer = file.and_then(|(file, side)| self.offer(device, id, file, side));
        let reader = (access != Access::Write).then(|| Reader::from(opened));
        let mode = self.modes.attach(id, offer, reader, access);
        let io = self.io_of(mode, (id, node))?;
        let writer = match (&io, file) {
            (OpenedIo::Passthrough(_), _) | (_, None) => None,
            (_, Some((file, _))) => flags.writes().then(|| Arc::clone(file)),
        };
        let handle = self.handles.add(FileHandle {
            id,
            writer,
            executes: flags.executes().then(|| Arc::clone(node)),
        });
        Ok(OpenedReply { handle, io })
    }

    /// What a new handle of a node is told.
    fn io_of(&self, mode: Mode<I>, (id, node): (NodeId, &Arc<Node>)) -> Result<OpenedIo<I>> {
        Ok(match mode {
            Mode::Passthrough(id) => OpenedIo::Passthrough(id),
            Mode::Lower => return Err(self.leave_lower(node, id)),
            Mode::Cached { pages_valid: true } => OpenedIo::KeepPages,
            Mode::Cached { pages_valid: false } => OpenedIo::DropPages,
        })
    }

    /// Whether a lower's file is given to the kernel as a whole; its length in bytes.
    pub(super) fn is_small(&self, len: u64) -> bool {
        let limit = match self.passthrough.load(Ordering::Relaxed) {
            true => policy::WORTH_PASSING,
            false => policy::WORTH_ASKING,
        };
        len < limit
    }

    /// Opens a lower's small file to be read. Who has it open first finds its pages there: the kernel
    /// is given them with the answer, and asks neither for them nor, as it does after each READ, for
    /// the attributes.
    fn open_small<D>(
        self: &Arc<Self>,
        (id, node): (NodeId, &Arc<Node>),
        len: u64,
        flags: OpenFlags,
    ) -> Step<OpenedReply<I>, D> {
        if let Some(kept) = node.try_keep_lower() {
            let given = self.give_contents((id, node), len, Patience::None);
            let reply = self.attach_unread((id, node), flags);
            drop(kept);
            if given {
                self.given_at_open(node);
            }
            return Step::Done(reply);
        }
        // The kernel must not read what another thread is giving it: pages that wait for us would have
        // that thread wait for them.
        let (server, node) = (Arc::clone(self), Arc::clone(node));
        Step::Later(Box::new(move |_| {
            let kept = node.keep_lower();
            server.opened_given(id);
            let reply = server.attach_unread((id, &node), flags);
            drop(kept);
            reply
        }))
    }

    /// Gives the kernel a small file that somebody will open soon; whether it did.
    pub(super) fn give_ahead(&self, (id, node): (NodeId, &Arc<Node>)) -> bool {
        if node.id() == id
            && let Some(_kept) = node.try_keep_lower()
            && let Ok(Some(len)) = self.union.lower_len(node)
            && self.is_small(len)
        {
            return self.give_contents((id, node), len, Patience::ToDecompress);
        }
        false
    }

    /// Gives the kernel all of a small file that nobody has open, the first time, unless it takes longer
    /// than there is patience for; `false` when it was given before or can't be. The caller keeps the file from being copied up. Without it, the kernel asks.
    fn give_contents(
        &self,
        (id, node): (NodeId, &Arc<Node>),
        len: u64,
        patience: Patience,
    ) -> bool {
        let wanted = len > 0 && self.modes.wants_contents(id) && self.notices.are_possible();
        if !wanted || node.has_upper_data() {
            return false;
        }
        let given = || -> Result<()> {
            let flags = OpenFlags(libc::O_RDONLY);
            let opened = self.union.open(node, flags, Caller::default())?;
            let source = Source(opened.contents);
            if patience == Patience::ToDecompress || source.is_at_hand() {
                let bytes = source.read(0, usize::try_from(len).unwrap_or(0))?;
                self.notices.give(id, bytes.bytes())?;
            }
            Ok(())
        };
        let given = given();
        match &given {
            Ok(()) => self.modes.contents_given(id),
            Err(e) => log::debug!("give the kernel a file: {e}"),
        }
        given.is_ok()
    }

    /// Gives a file that is read by requests a handle, before it is known what it is read from.
    fn attach_unread(
        &self,
        (id, node): (NodeId, &Arc<Node>),
        flags: OpenFlags,
    ) -> Result<OpenedReply<I>> {
        let mode = self.modes.attach(id, None, None, Access::Read);
        let io = self.io_of(mode, (id, node))?;
        let executes = flags.executes().then(|| Arc::clone(node));
        Ok(self.unread_handle(id, executes, io))
    }

    fn unread_handle(
        &self,
        id: NodeId,
        executes: Option<Arc<Node>>,
        io: OpenedIo<I>,
    ) -> OpenedReply<I> {
        let handle = self.handles.add(FileHandle {
            id,
            writer: None,
            executes,
        });
        OpenedReply { handle, io }
    }

    /// Registers a file for passthrough, if the node's mode is still open and the kernel is
    /// willing.
    fn offer<D: BackingDevice<Id = I>>(
        &self,
        device: &D,
        node: NodeId,
        file: &File,
        side: Side,
    ) -> Option<Offer<I>> {
        if !self.passthrough.load(Ordering::Relaxed) || !self.modes.is_free(node) {
            return None;
        }
        match device.open_backing(file.as_fd()) {
            Ok(id) => Some(Offer { id, side }),
            Err(e) if side == Side::Lower && e.raw_os_error() == Some(libc::ELOOP) => {
                // This layer is itself on a stacked file system; others need not be.
                log::debug!("a lower's file is not passed through: {e}");
                None
            }
            Err(e) => {
                // Without the privilege, or over a stacked file system, it will not work the next
                // time either. All is served from here then.
                log::info!("files are not passed through: {e}");
                self.passthrough.store(false, Ordering::Relaxed);
                None
            }
        }
    }

    /// RELEASE.
    pub fn release_file(&self, handle: u64) {
        if let Some(file) = self.handles.remove(handle) {
            self.modes.detach(file.id);
        }
    }

    /// READ. What isn't a host file's is read by a job.
    pub fn read(self: &Arc<Self>, at: At, offset: u64, size: u32) -> Step<Buffer> {
        let source = step_try!(self.source(at));
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        if source.is_at_hand() {
            return Step::Done(source.read(offset, size));
        }
        self.later(move |_| source.read(offset, size))
    }

    /// What a file is read from now.
    ///
    /// # Errors
    /// `EBADF`; what the union reports.
    pub fn source(&self, at: At) -> Result<Source> {
        Ok(Source(self.reader(at)?.contents))
    }

    fn reader(&self, at: At) -> Result<Reader> {
        if !self.unopened.files() {
            return self.reader_of(&*self.handles.get(at.handle)?);
        }
        self.unopened.reader(at.node, || {
            let (node, flags) = (self.union.get(at.node)?, OpenFlags(libc::O_RDONLY));
            let opened = self.union.open(&node, flags, Caller::default())?;
            Ok(Reader::from(&opened))
        })
    }

    /// What a node is read from now: after a copy-up, the upper.
    fn reader_of(&self, handle: &FileHandle) -> Result<Reader> {
        let node = self.union.get(handle.id)?;
        let known = self.modes.reader(handle.id);
        match known {
            Some(reader) if reader.from_upper || !node.has_upper_data() => Ok(reader),
            _ => {
                let flags = OpenFlags(libc::O_RDONLY);
                let opened = self.union.open(&node, flags, Caller::default())?;
                let reader = Reader::from(&opened);
                self.modes.set_reader(handle.id, reader.clone());
                Ok(reader)
            }
        }
    }

    /// A descriptor through which a handle's file can be written.
    fn writer(&self, handle: &FileHandle) -> Result<Arc<File>> {
        if let Some(file) = &handle.writer {
            return Ok(Arc::clone(file));
        }
        let node = self.union.get(handle.id)?;
        let flags = OpenFlags(libc::O_WRONLY);
        let opened = self.union.open(&node, flags, Caller::default())?;
        match opened.contents {
            Contents::File(file) => Ok(file),
            Contents::Stored(_) => Err(Error::new(Errno::EBADF)),
        }
    }

    /// WRITE; the number of bytes written. `kill_priv`: by someone whose writing clears setuid.
    pub fn write(
        self: &Arc<Self>,
        handle: u64,
        offset: u64,
        data: &[u8],
        kill_priv: KillPriv,
    ) -> Step<u32> {
        let handle = step_try!(self.handles.get(handle));
        match self.pass() {
            Some(pass) => {
                let written = self.write_now(&handle, offset, data, kill_priv);
                self.drop_view_listings();
                drop(pass);
                Step::Done(written)
            }
            None => {
                // The data is lent for the time of the request only.
                let data = data.to_vec();
                self.change(Cost::Quick, &(), move |server, ()| {
                    server.write_now(&handle, offset, &data, kill_priv)
                })
            }
        }
    }

    fn write_now(
        &self,
        handle: &FileHandle,
        offset: u64,
        data: &[u8],
        kill_priv: KillPriv,
    ) -> Result<u32> {
        let file = self.writer(handle)?;
        if kill_priv == KillPriv::Yes {
            let set = SetAttr {
                kill_priv: true,
                ..SetAttr::default()
            };
            let node = self.union.get(handle.id)?;
            self.union.setattr(&node, &set, Caller::default(), None)?;
        }
        write_at(&file, offset, data)
    }

    /// FSYNC.
    pub fn fsync(self: &Arc<Self>, at: At, data_only: bool) -> Step<()> {
        if self.unopened.files() {
            return self.fsyncdir(at.node);
        }
        let handle = step_try!(self.handles.get(at.handle));
        let node = step_try!(self.union.get(handle.id));
        if !node.has_upper() {
            return Step::Done(Ok(()));
        }
        self.later(move |server| match &handle.writer {
            Some(file) => server.union.sync_file(file, data_only),
            None => server.union.sync_node(&node, data_only),
        })
    }

    /// FALLOCATE. `mode` is fallocate(2)'s.
    pub fn fallocate(self: &Arc<Self>, handle: u64, mode: i32, offset: u64, len: u64) -> Step<()> {
        let handle = step_try!(self.handles.get(handle));
        self.change(Cost::of(len), &(), move |server, ()| {
            let mode = FallocateFlags::from_bits_retain(mode.cast_unsigned());
            let file = server.writer(&handle)?;
            Ok(rustix::fs::fallocate(&file, mode, offset, len)?)
        })
    }

    /// COPY_FILE_RANGE; the number of bytes copied. Where the file system below can't do it, the
    /// kernel copies by reading and writing.
    pub fn copy_file_range(self: &Arc<Self>, from: CopyEnd, to: CopyEnd, len: u64) -> Step<u32> {
        let source = step_try!(self.handles.get(from.handle));
        let sink = step_try!(self.handles.get(to.handle));
        let cost = match step_try!(self.reader_of(&source)).contents {
            Contents::File(file) => {
                let there = step_try!(file.metadata().map_err(Error::from))
                    .len()
                    .saturating_sub(from.offset);
                Cost::of(len.min(there))
            }
            Contents::Stored(_) => return Step::Done(Err(Errno::EXDEV.into())),
        };
        self.change(cost, &(), move |server, ()| {
            let Contents::File(source) = server.reader_of(&source)?.contents else {
                return Err(Error::new(Errno::EXDEV));
            };
            let sink = server.writer(&sink)?;
            let (mut read, mut written) = (from.offset, to.offset);
            let len = usize::try_from(len.min(COPY_MOST)).unwrap_or(0);
            let (read, written) = (Some(&mut read), Some(&mut written));
            let copied = rustix::fs::copy_file_range(&source, read, &sink, written, len)?;
            Ok(u32::try_from(copied).unwrap_or(u32::MAX))
        })
    }

    /// LSEEK for `SEEK_DATA` and `SEEK_HOLE`; the kernel does the rest itself.
    ///
    /// # Errors
    /// `ENXIO` past the end, `EINVAL` for anything else.
    pub fn lseek(&self, at: At, offset: i64, whence: i32) -> Result<u64> {
        let offset = u64::try_from(offset).map_err(|_| Error::new(Errno::ENXIO))?;
        let contents = self.reader(at)?.contents;
        match (contents, whence) {
            // The position of a descriptor of ours is used by nobody.
            (Contents::File(file), libc::SEEK_DATA) => {
                Ok(rustix::fs::seek(&file, SeekFrom::Data(offset))?)
            }
            (Contents::File(file), libc::SEEK_HOLE) => {
                Ok(rustix::fs::seek(&file, SeekFrom::Hole(offset))?)
            }
            (Contents::Stored(stored), libc::SEEK_DATA) => seek_data(&*stored, offset),
            (Contents::Stored(stored), libc::SEEK_HOLE) => seek_hole(&*stored, offset),
            _ => Err(Error::new(Errno::EINVAL)),
        }
    }
}

/// A file's own host file, if it can be had; it is served from where it is otherwise.
fn made(stored: &dyn ReadAt) -> Option<Arc<File>> {
    match stored.to_file() {
        Ok(file) => Some(file),
        Err(e) => {
            log::warn!("a file of a layer gets no file of its own: {e}");
            None
        }
    }
}

/// Whether a write clears setuid and setgid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KillPriv {
    /// The kernel asks for it.
    Yes,
    /// The writer may keep them.
    No,
}

/// What an open file is read from.
pub struct Source(Contents);

impl Source {
    /// Whether reading costs no more than a copy; else it is a job's work.
    #[must_use]
    pub fn is_at_hand(&self) -> bool {
        match &self.0 {
            Contents::File(_) => true,
            Contents::Stored(stored) => stored.is_at_hand(),
        }
    }

    /// Reads into a buffer; how many bytes. Fewer than it has room for are the file's last ones.
    ///
    /// # Errors
    /// What the layer reports.
    pub fn read_into(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        match &self.0 {
            Contents::File(file) => ReadAt::read_at(&**file, buffer, offset),
            Contents::Stored(stored) => stored.read_at(buffer, offset),
        }
    }

    /// Reads so many bytes, or as many as there are.
    ///
    /// # Errors
    /// What the layer reports.
    pub fn read(&self, offset: u64, size: usize) -> Result<Buffer> {
        let mut buffer = Buffer::new(size);
        let got = self.read_into(buffer.bytes_mut(), offset)?;
        buffer.truncate(got);
        Ok(buffer)
    }
}

/// Writes all of it, or as much as there is room for.
fn write_at(file: &File, offset: u64, data: &[u8]) -> Result<u32> {
    let mut done = 0;
    while let Some(rest) = data.get(done..).filter(|rest| !rest.is_empty()) {
        match file.write_at(rest, offset + done as u64) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) if done == 0 => return Err(e.into()),
            Err(_) => break,
        }
    }
    u32::try_from(done).map_err(|_| Error::new(Errno::EINVAL))
}

fn seek_data(stored: &dyn ReadAt, offset: u64) -> Result<u64> {
    match stored.next_data(offset) {
        Some((start, _)) => Ok(start.max(offset)),
        None => Err(Error::new(Errno::ENXIO)),
    }
}

fn seek_hole(stored: &dyn ReadAt, offset: u64) -> Result<u64> {
    if offset >= stored.len() {
        return Err(Error::new(Errno::ENXIO));
    }
    let mut at = offset;
    while let Some((start, end)) = stored.next_data(at) {
        if start > at || end <= at {
            break;
        }
        at = end;
    }
    Ok(at)
}
