//! FUSE over io_uring: a ring, the buffers that it lends to the kernel, and the commands on them.
//! The kernel's `Documentation/filesystems/fuse/fuse-io-uring.rst` and `fuse_uring_cmd`.
#![expect(
    unsafe_code,
    reason = "memory shared with the kernel, and commands that point to it"
)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::sync::Arc;

use io_uring::{IoUring, cqueue, opcode, squeue, types};

/// Bytes of `struct fuse_uring_req_header`: in and out header, the operation's structure, and what
/// belongs to the ring.
pub const HEADER: usize = 288;

/// From one header to the next, in bytes.
const HEADER_STRIDE: usize = 320;

/// `FUSE_IO_URING_CMD_REGISTER` and `FUSE_IO_URING_CMD_COMMIT_AND_FETCH`.
const REGISTER: u32 = 1;
const COMMIT_AND_FETCH: u32 = 2;

/// `user_data` of what isn't an entry's.
const WAKE: u64 = u64::MAX;
const TIMER: u64 = u64::MAX - 1;

/// Buffers that stay mapped while anybody has a part of them.
struct Area {
    start: NonNull<u8>,
    len: usize,
    entries: usize,
    payload: usize,
}

// SAFETY: the area is plain memory; who may touch which part of it is ruled by `Slot`.
unsafe impl Send for Area {}
// SAFETY: as above.
unsafe impl Sync for Area {}

impl Area {
    fn new(entries: usize, payload: usize) -> io::Result<Self> {
        let page = rustix::param::page_size();
        let payload = payload.next_multiple_of(page);
        let headers = (entries * HEADER_STRIDE).next_multiple_of(page);
        let len = entries
            .checked_mul(payload)
            .and_then(|bytes| bytes.checked_add(headers))
            .ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))?;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), len, access, kind, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast::<u8>());
        let start = start.ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))?;
        // SAFETY: advice on the mapping just made. A huge page would make the first byte of each
        // buffer cost 2 MiB. Refused where there are none.
        unsafe { libc::madvise(start.as_ptr().cast(), len, libc::MADV_NOHUGEPAGE) };
        Ok(Self {
            start,
            len,
            entries,
            payload,
        })
    }

    fn header(&self, index: usize) -> *mut u8 {
        debug_assert!(index < self.entries);
        // SAFETY: headers come first, one for each entry.
        unsafe { self.start.as_ptr().add(index * HEADER_STRIDE) }
    }

    fn payload(&self, index: usize) -> *mut u8 {
        debug_assert!(index < self.entries);
        let before = self.len - self.entries * self.payload;
        // SAFETY: payloads fill the rest of the mapping, one for each entry.
        unsafe { self.start.as_ptr().add(before + index * self.payload) }
    }
}

impl Drop for Area {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's; nobody has a part of it any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

/// An entry that holds a request: its buffers are ours until it is committed.
pub struct Slot {
    area: Arc<Area>,
    index: usize,
}

impl Slot {
    /// The entry's number in its ring.
    #[must_use]
    pub fn index(&self) -> usize {
        self.index
    }

    /// The header and the payload.
    pub fn parts(&mut self) -> (&mut [u8; HEADER], &mut [u8]) {
        // SAFETY: there is one slot for an entry, made when the kernel gave it to us and taken back
        // by `commit`; until then the kernel leaves both buffers alone. They don't overlap.
        unsafe {
            let header = &mut *self.area.header(self.index).cast::<[u8; HEADER]>();
            let payload =
                std::slice::from_raw_parts_mut(self.area.payload(self.index), self.area.payload);
            (header, payload)
        }
    }
}

/// What a ring reports.
pub enum Event {
    /// The kernel has put a request into an entry.
    Request(Slot),
    /// The command on an entry has failed with this errno; the entry has no command now.
    Failed(usize, i32),
    /// Somebody has called [`Waker::wake`].
    Woken,
    /// The time given to [`FuseRing::set_timer`] is over.
    Timer,
}

/// Where an entry is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// It has no command.
    Idle,
    /// The kernel has it.
    Kernel,
    /// A [`Slot`] has it.
    Ours,
}

struct Entry {
    place: Place,
    queue: u16,
    /// What REGISTER was given: header and payload.
    buffers: [libc::iovec; 2],
    /// The last command, to be given again.
    command: (u32, u64),
}

/// A ring for one thread, with its entries.
pub struct FuseRing {
    // Closed before the memory that its commands point to goes.
    ring: IoUring<squeue::Entry128, cqueue::Entry>,
    entries: Box<[Entry]>,
    area: Arc<Area>,
    waker: Arc<OwnedFd>,
    /// What reading the waker gives; the kernel writes here.
    woken: Box<u64>,
    timer: Box<types::Timespec>,
}

/// Wakes the thread that waits for a ring.
#[derive(Clone)]
pub struct Waker(Arc<OwnedFd>);

impl Waker {
    /// Makes the ring report [`Event::Woken`].
    pub fn wake(&self) {
        if let Err(e) = rustix::io::write(&*self.0, &1_u64.to_ne_bytes()) {
            log::warn!("wake a queue: {e}");
        }
    }
}

impl FuseRing {
    /// A ring on an open `/dev/fuse`, with so many entries with payloads of so many bytes. Memory
    /// is taken up when it is first used. For the thread that will use it.
    ///
    /// # Errors
    /// What io_uring_setup(2), mmap(2) and eventfd(2) report.
    pub fn new(device: BorrowedFd<'_>, entries: usize, payload: usize) -> io::Result<Self> {
        let size = |n: usize| u32::try_from(n).map_err(|_| io::ErrorKind::InvalidInput);
        let ring = IoUring::<squeue::Entry128, cqueue::Entry>::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_cqsize(size(2 * (entries + 2))?)
            .build(size(entries + 2)?)?;
        let fds: [RawFd; 1] = [device.as_raw_fd()];
        ring.submitter().register_files(&fds)?;
        let area = Arc::new(Area::new(entries, payload)?);
        let flags = rustix::event::EventfdFlags::CLOEXEC;
        let waker = Arc::new(rustix::event::eventfd(0, flags)?);
        let entries = (0..entries).map(|index| Entry {
            place: Place::Idle,
            queue: 0,
            buffers: [
                libc::iovec {
                    iov_base: area.header(index).cast(),
                    iov_len: HEADER,
                },
                libc::iovec {
                    iov_base: area.payload(index).cast(),
                    iov_len: area.payload,
                },
            ],
            command: (0, 0),
        });
        let mut this = Self {
            ring,
            entries: entries.collect(),
            area: Arc::clone(&area),
            waker,
            woken: Box::default(),
            timer: Box::default(),
        };
        this.listen()?;
        Ok(this)
    }

    /// What wakes the thread that waits for this ring.
    #[must_use]
    pub fn waker(&self) -> Waker {
        Waker(Arc::clone(&self.waker))
    }

    /// Has the waker read, once.
    fn listen(&mut self) -> io::Result<()> {
        let fd = types::Fd(self.waker.as_fd().as_raw_fd());
        let into = (&raw mut *self.woken).cast::<u8>();
        let read = opcode::Read::new(fd, into, 8).build().user_data(WAKE);
        self.push(&read.into())
    }

    /// Has [`Event::Timer`] reported after so many seconds.
    ///
    /// # Errors
    /// When the submission queue is full.
    pub fn set_timer(&mut self, seconds: u64) -> io::Result<()> {
        *self.timer = types::Timespec::new().sec(seconds);
        let timer = opcode::Timeout::new(&raw const *self.timer).build();
        self.push(&timer.user_data(TIMER).into())
    }

    fn push(&mut self, entry: &squeue::Entry128) -> io::Result<()> {
        // SAFETY: all that an entry points to (buffers, iovecs, the counter, the time) is owned by
        // this value, doesn't move, and goes after the ring.
        let pushed = unsafe { self.ring.submission().push(entry) };
        if pushed.is_ok() {
            return Ok(());
        }
        self.ring.submit()?;
        // SAFETY: as above.
        let pushed = unsafe { self.ring.submission().push(entry) };
        pushed.map_err(|_| io::Error::from_raw_os_error(libc::EBUSY))
    }

    /// Offers an entry to the kernel, for requests of this processor.
    ///
    /// # Errors
    /// When the submission queue is full. A refusal comes as [`Event::Failed`].
    pub fn register(&mut self, index: usize, queue: u16) -> io::Result<()> {
        let entry = self.entry(index)?;
        if entry.place != Place::Idle {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        entry.queue = queue;
        entry.command = (REGISTER, 0);
        self.send(index)
    }

    /// Hands an entry's reply to the kernel, and the entry for the next request. `request` is the
    /// commit id of the request that it held.
    ///
    /// # Errors
    /// When the submission queue is full, or the slot is another ring's.
    pub fn commit(&mut self, slot: Slot, request: u64) -> io::Result<()> {
        if !Arc::ptr_eq(&slot.area, &self.area) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let index = slot.index;
        drop(slot);
        self.entry(index)?.command = (COMMIT_AND_FETCH, request);
        self.send(index)
    }

    /// Gives an entry's last command again.
    ///
    /// # Errors
    /// When the submission queue is full.
    pub fn again(&mut self, index: usize) -> io::Result<()> {
        self.send(index)
    }

    fn entry(&mut self, index: usize) -> io::Result<&mut Entry> {
        let entry = self.entries.get_mut(index);
        entry.ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }

    fn send(&mut self, index: usize) -> io::Result<()> {
        let entry = self.entry(index)?;
        let (operation, request) = entry.command;
        let mut command = [0; 80];
        for (at, bytes) in [
            (8, request.to_ne_bytes().as_slice()),
            (16, entry.queue.to_ne_bytes().as_slice()),
        ] {
            let room = command.iter_mut().skip(at);
            room.zip(bytes).for_each(|(to, from)| *to = *from);
        }
        let buffers = entry.buffers.as_ptr();
        entry.place = Place::Kernel;
        let built = opcode::UringCmd80::new(types::Fixed(0), operation).cmd(command);
        let mut sqe = built.addr(Some(buffers as u64)).build();
        sqe = sqe.user_data(index as u64);
        const { assert!(size_of::<squeue::Entry128>() == 128) };
        // SAFETY: an Entry128 is the kernel's 128-byte submission entry, of which bytes 24 to 27 are
        // `len`: how many buffers `addr` points to.
        unsafe {
            (&raw mut sqe).cast::<u8>().add(24).cast::<u32>().write(2);
        }
        self.push(&sqe)
    }

    /// Gives what was pushed to the kernel.
    ///
    /// # Errors
    /// What io_uring_enter(2) reports.
    pub fn submit(&mut self) -> io::Result<()> {
        self.enter(0)
    }

    /// The same, and waits until there is something to report.
    ///
    /// # Errors
    /// What io_uring_enter(2) reports.
    pub fn submit_and_wait(&mut self) -> io::Result<()> {
        self.enter(1)
    }

    fn enter(&mut self, wait: usize) -> io::Result<()> {
        loop {
            match self.ring.submit_and_wait(wait) {
                Ok(_) => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// The next report, if there is one.
    ///
    /// # Errors
    /// When the waker can't be listened to any more.
    pub fn next_event(&mut self) -> io::Result<Option<Event>> {
        let Some(done) = self.ring.completion().next() else {
            return Ok(None);
        };
        let (data, result) = (done.user_data(), done.result());
        match data {
            WAKE => {
                self.listen()?;
                return Ok(Some(Event::Woken));
            }
            TIMER => return Ok(Some(Event::Timer)),
            _ => {}
        }
        let index = usize::try_from(data).map_err(|_| io::ErrorKind::InvalidData)?;
        let area = Arc::clone(&self.area);
        let entry = self.entry(index)?;
        if result == 0 && entry.place == Place::Kernel {
            entry.place = Place::Ours;
            return Ok(Some(Event::Request(Slot { area, index })));
        }
        entry.place = Place::Idle;
        Ok(Some(Event::Failed(index, -result)))
    }

    /// Gives back the memory of payloads, from `keep` bytes on, of the entries in `indexes` that the
    /// kernel has. Only between the last report and the next submission: the kernel fills them while
    /// this thread submits and waits, and what was committed since the last submission still counts.
    pub fn trim(&mut self, indexes: impl Iterator<Item = usize>, keep: usize) {
        for index in indexes {
            let kernel = self.entries.get(index).map(|e| e.place) == Some(Place::Kernel);
            if !kernel || keep >= self.area.payload {
                continue;
            }
            let keep = keep.next_multiple_of(rustix::param::page_size());
            // SAFETY: the range is within the entry's payload, in which nothing is: the kernel has
            // the entry and copies requests into it only during our own system calls.
            unsafe {
                let from = self.area.payload(index).add(keep);
                let len = self.area.payload.saturating_sub(keep);
                libc::madvise(from.cast(), len, libc::MADV_DONTNEED);
            }
        }
    }
}

/// Whether a ring as it is needed here can be had.
///
/// # Errors
/// What io_uring_setup(2) reports.
pub fn probe() -> io::Result<()> {
    IoUring::<squeue::Entry128, cqueue::Entry>::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .build(2)
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_do_not_overlap() {
        let area = Area::new(3, 5000).unwrap();
        assert_eq!(area.payload % 4096, 0);
        let mut slots: Vec<Slot> = Vec::new();
        let area = Arc::new(area);
        for index in 0..3 {
            let area = Arc::clone(&area);
            slots.push(Slot { area, index });
        }
        for (n, slot) in slots.iter_mut().enumerate() {
            let (header, payload) = slot.parts();
            header.fill(n as u8);
            payload.fill(n as u8 + 10);
        }
        for (n, slot) in slots.iter_mut().enumerate() {
            let (header, payload) = slot.parts();
            assert!(header.iter().all(|b| *b == n as u8));
            assert!(payload.iter().all(|b| *b == n as u8 + 10));
        }
    }

    #[test]
    fn a_ring_wakes_and_reports_refusals() {
        if probe().is_err() {
            return;
        }
        // It knows no commands; /dev/null takes any.
        let other = std::fs::File::open("/dev/zero").unwrap();
        let mut ring = FuseRing::new(other.as_fd(), 2, 4096).unwrap();
        let waker = ring.waker();
        std::thread::spawn(move || waker.wake());
        ring.submit_and_wait().unwrap();
        assert!(matches!(ring.next_event().unwrap(), Some(Event::Woken)));
        // Not a FUSE device.
        ring.register(0, 0).unwrap();
        assert!(ring.register(0, 0).is_err());
        assert!(ring.register(2, 0).is_err());
        ring.submit_and_wait().unwrap();
        let event = ring.next_event().unwrap();
        assert!(matches!(event, Some(Event::Failed(0, 1..))));
        ring.set_timer(0).unwrap();
        ring.submit_and_wait().unwrap();
        assert!(matches!(ring.next_event().unwrap(), Some(Event::Timer)));
    }
}
