//! `/dev/fuse` without a library: requests are read from it, replies are written to it, files are
//! registered with it.
//!
//! Beside the rings it carries what the kernel never sends through them: FORGET, INTERRUPT, and what
//! is asked before the rings are ready.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use zerocopy::IntoBytes as _;

use super::backing::BackingDevice;
use super::buffer::Buffer;
use super::dispatch::{Context, Outcome};
use super::encode::Reply;
use super::notices::Notifier;
use super::pending::Slot;
use super::wire::{self, FIXED_MOST, InHeader, OutHeader};
use crate::name::NameBuf;
use crate::sys::fuse_dev;
use crate::union::NodeId;

/// An open `/dev/fuse`.
pub(super) struct Device(OwnedFd);

/// A file that is registered with a connection, until it is dropped.
pub struct Backing {
    device: Arc<Device>,
    id: i32,
}

impl Backing {
    /// The kernel's number for it.
    pub(super) fn id(&self) -> i32 {
        self.id
    }
}

impl Drop for Backing {
    fn drop(&mut self) {
        if let Err(e) = fuse_dev::backing_close(&self.device.0, self.id) {
            log::debug!("end a registration: {e}");
        }
    }
}

impl BackingDevice for Arc<Device> {
    type Id = Backing;

    fn open_backing(&self, file: BorrowedFd<'_>) -> io::Result<Backing> {
        Ok(Backing {
            id: fuse_dev::backing_open(&self.0, file)?,
            device: Arc::clone(self),
        })
    }
}

/// What reading a request came to.
enum Read {
    Request(usize),
    /// The request was taken back before it was read.
    Nothing,
    /// The mount is gone.
    End,
}

impl Device {
    pub fn new(fd: OwnedFd) -> Self {
        Self(fd)
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    fn read(&self, buffer: &mut [u8]) -> io::Result<Read> {
        match rustix::io::read(&self.0, buffer) {
            Ok(len) => Ok(Read::Request(len)),
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN | rustix::io::Errno::NOENT) => {
                Ok(Read::Nothing)
            }
            // The second: requests were under way at the end, or the end was forced.
            Err(rustix::io::Errno::NODEV | rustix::io::Errno::CONNABORTED) => Ok(Read::End),
            Err(e) => Err(e.into()),
        }
    }

    /// Reads one request whole: for the greeting.
    pub fn read_one(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.read(buffer)? {
                Read::Request(len) => return Ok(len),
                Read::Nothing => {}
                Read::End => return Err(io::Error::from_raw_os_error(libc::ENODEV)),
            }
        }
    }

    /// Sends a reply.
    pub fn answer(&self, unique: u64, reply: Reply, area: &[u8]) {
        let (error, data) = match reply {
            Ok(len) => (0, area.get(..len).unwrap_or_default()),
            Err(errno) => (-errno, [].as_slice()),
        };
        let header = OutHeader {
            len: u32::try_from(size_of::<OutHeader>() + data.len()).unwrap_or(0),
            error,
            unique,
        };
        let parts = [IoSlice::new(header.as_bytes()), IoSlice::new(data)];
        if let Err(e) = rustix::io::writev(&self.0, &parts) {
            // ENOENT: the request was interrupted, or the mount is gone.
            log::debug!("answer a request: {e}");
        }
    }
}

/// Notices go to the device, whatever brings the requests.
pub(super) struct DeviceNotices(pub Arc<Device>);

impl DeviceNotices {
    fn send(&self, code: i32, parts: &[&[u8]]) -> io::Result<()> {
        let len = parts.iter().map(|part| part.len()).sum::<usize>();
        let header = OutHeader {
            len: u32::try_from(size_of::<OutHeader>() + len).unwrap_or(0),
            error: code,
            unique: 0,
        };
        let mut all = vec![IoSlice::new(header.as_bytes())];
        all.extend(parts.iter().map(|part| IoSlice::new(part)));
        rustix::io::writev(&self.0.0, &all)?;
        Ok(())
    }
}

impl DeviceNotices {
    /// Attributes, and the pages from a place on.
    fn drop_from(&self, node: NodeId, offset: i64) -> io::Result<()> {
        let inode = wire::InvalInode {
            ino: node.0,
            offset,
            len: 0,
        };
        self.send(wire::notify::INVAL_INODE, &[inode.as_bytes()])
    }
}

impl Notifier for DeviceNotices {
    fn attributes(&self, node: NodeId) -> io::Result<()> {
        // No pages with them.
        self.drop_from(node, -1)
    }

    fn listing(&self, dir: NodeId) -> io::Result<()> {
        self.drop_from(dir, 0)
    }

    fn name(&self, parent: NodeId, name: &NameBuf) -> io::Result<()> {
        let name = name.as_os_str().as_encoded_bytes();
        let entry = wire::InvalEntry {
            parent: parent.0,
            name_len: u32::try_from(name.len()).unwrap_or(0),
            flags: 0,
        };
        let parts = [entry.as_bytes(), name, &[0]];
        self.send(wire::notify::INVAL_ENTRY, &parts)
    }

    fn contents(&self, node: NodeId, bytes: &[u8]) -> io::Result<()> {
        let store = wire::Store {
            nodeid: node.0,
            offset: 0,
            size: u32::try_from(bytes.len())
                .map_err(|_| io::Error::from_raw_os_error(libc::EFBIG))?,
            padding: 0,
        };
        self.send(wire::notify::STORE, &[store.as_bytes(), bytes])
    }
}

/// Serves what comes over the device, until the mount is gone.
///
/// # Errors
/// What reading the device reports.
pub(super) fn serve(context: &Arc<Context>) -> io::Result<()> {
    let mut buffer = vec![0; wire_buffer()];
    loop {
        match context.device.read(&mut buffer)? {
            Read::Request(len) => serve_one(context, buffer.get_mut(..).unwrap_or_default(), len),
            Read::Nothing => {}
            Read::End => return Ok(()),
        }
    }
}

/// What the kernel wants a reader to have room for, and the reply's area behind the request.
fn wire_buffer() -> usize {
    super::greeting::MAX_WRITE as usize + (64 << 10)
}

/// Serves one request, which is in the first `len` bytes. The answer is built behind its structure.
fn serve_one(context: &Arc<Context>, buffer: &mut [u8], len: usize) {
    let request = buffer.get(..len).unwrap_or_default();
    let Ok(header) = wire::read::<InHeader>(request) else {
        return log::warn!("a request of {len} bytes");
    };
    let fixed_len = wire::fixed_len(header.opcode);
    let mut fixed = [0; FIXED_MOST];
    let start = size_of::<InHeader>() + fixed_len;
    let given = request.get(size_of::<InHeader>()..start);
    match (given, fixed.get_mut(..fixed_len)) {
        (Some(from), Some(to)) => to.copy_from_slice(from),
        _ => return context.device.answer(header.unique, Err(libc::EINVAL), &[]),
    }
    let area = buffer.get_mut(start..).unwrap_or_default();
    match context.dispatch(&header, &fixed, area, len - start) {
        Outcome::None => {}
        Outcome::Reply(reply) => context.device.answer(header.unique, reply, area),
        Outcome::Deferred(work) => {
            let slot = DeviceSlot {
                device: Arc::clone(&context.device),
                unique: header.unique,
                area: Buffer::new(work.room()),
                answered: false,
            };
            context.defer(&header, slot, work);
        }
    }
}

/// A request whose answer comes later.
struct DeviceSlot {
    device: Arc<Device>,
    unique: u64,
    area: Buffer,
    answered: bool,
}

impl Slot for DeviceSlot {
    fn area(&mut self) -> &mut [u8] {
        self.area.bytes_mut()
    }

    fn answer(mut self, reply: Reply) {
        self.answered = true;
        self.device.answer(self.unique, reply, self.area.bytes());
    }
}

impl Drop for DeviceSlot {
    fn drop(&mut self) {
        if !self.answered {
            self.device.answer(self.unique, Err(libc::EIO), &[]);
        }
    }
}
