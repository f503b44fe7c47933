//! One serving thread: its ring, the requests in its entries, the answers that come from elsewhere.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use zerocopy::IntoBytes as _;

use super::super::dispatch::{Context, Outcome};
use super::super::encode::Reply;
use super::super::greeting::MAX_WRITE;
use super::super::pending;
use super::super::standing::Standing;
use super::super::wire::{self, InHeader, OutHeader, RingHeader};
use super::plan::ThreadPlan;
use crate::sync::Mutex;
use crate::sys::uring::{Event, FuseRing, Slot, Waker};

/// Where the operation's structure is in an entry's header, and where the ring's part.
const FIXED: std::ops::Range<usize> = 128..256;
const RING: usize = 256;

/// Where the payload's length is.
const PAYLOAD_LEN: usize = RING + 16;

/// Registrations that are sent at once.
const BATCH: usize = 16;

/// How long the kernel is given to hand back its entries at the end.
const LAST_SECONDS: u64 = 5;

/// Payload memory that a thread keeps although it isn't used, in bytes; and how much of it each
/// entry keeps always.
const KEPT: usize = 4 << 20;
const KEPT_EACH: usize = 64 << 10;

/// How others reach a queue's thread.
pub(super) struct Mailbox {
    answered: Mutex<Vec<Answered>>,
    waker: Waker,
    stop: AtomicBool,
}

/// An entry with its answer in it.
struct Answered {
    slot: Slot,
    commit_id: u64,
}

impl Mailbox {
    fn put(&self, answered: Answered) {
        let mut waiting = self.answered.lock();
        waiting.push(answered);
        let first = waiting.len() == 1;
        drop(waiting);
        if first {
            self.waker.wake();
        }
    }

    /// The mount is gone: the thread is to end.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.waker.wake();
    }
}

/// A request in an entry, whose answer comes from another thread.
struct RingSlot {
    slot: Option<Slot>,
    commit_id: u64,
    unique: u64,
    mailbox: Arc<Mailbox>,
}

impl RingSlot {
    fn send(&mut self, reply: Reply) {
        if let Some(mut slot) = self.slot.take() {
            write_reply(&mut slot, self.unique, reply);
            self.mailbox.put(Answered {
                slot,
                commit_id: self.commit_id,
            });
        }
    }
}

impl pending::Slot for RingSlot {
    fn area(&mut self) -> &mut [u8] {
        match &mut self.slot {
            Some(slot) => slot.parts().1,
            None => &mut [],
        }
    }

    fn answer(mut self, reply: Reply) {
        self.send(reply);
    }
}

impl Drop for RingSlot {
    fn drop(&mut self) {
        self.send(Err(libc::EIO));
    }
}

/// Writes a reply's header; its data is in the payload.
fn write_reply(slot: &mut Slot, unique: u64, reply: Reply) {
    let (header, payload) = slot.parts();
    let (error, len) = match reply {
        Ok(len) => (0, len.min(payload.len())),
        Err(errno) => (-errno, 0),
    };
    let size = |len: usize| u32::try_from(len).unwrap_or(0);
    let out = OutHeader {
        len: size(size_of::<OutHeader>() + len),
        error,
        unique,
    };
    let (out, payload_len) = (out.as_bytes(), size(len).to_ne_bytes());
    for (at, bytes) in [(0, out), (PAYLOAD_LEN, payload_len.as_slice())] {
        if let Some(to) = header.get_mut(at..at + bytes.len()) {
            to.copy_from_slice(bytes);
        }
    }
}

/// A ring and what is known of its entries.
pub(super) struct Queue {
    ring: FuseRing,
    context: Arc<Context>,
    mailbox: Arc<Mailbox>,
    standing: Standing,
    /// Reports that were taken and not looked at.
    events: Vec<Event>,
    /// How many entries have a command in the kernel.
    in_kernel: usize,
    /// How much of each entry's payload was used since its memory was given back, in bytes, and all
    /// of it together as far as it is more than each keeps.
    used: Box<[usize]>,
    excess: usize,
    /// The kernel has hung up.
    ended: bool,
    /// The thread was told to end.
    stopping: bool,
}

impl Queue {
    /// Makes the ring and offers its entries to the kernel. For the thread that will serve it.
    ///
    /// # Errors
    /// What the system calls report; what the kernel refuses a registration with.
    pub fn open(context: &Arc<Context>, plan: &ThreadPlan) -> io::Result<Self> {
        if let Some(cpu) = plan.pin {
            let mut set = rustix::thread::CpuSet::new();
            if cpu < rustix::thread::CpuSet::MAX_CPU {
                set.set(cpu);
            }
            if let Err(e) = rustix::thread::sched_setaffinity(None, &set) {
                log::info!("a queue's thread can't stay on processor {cpu}: {e}");
            }
        }
        // Who waits for an answer sleeps; who doesn't, having closed a file, goes on to its next request,
        // and both are served at once.
        let standing = Standing::new(plan.pin.is_some());
        let entries = plan.entries();
        let ring = FuseRing::new(context.device.fd(), entries, MAX_WRITE as usize)?;
        let mailbox = Arc::new(Mailbox {
            answered: Mutex::default(),
            waker: ring.waker(),
            stop: AtomicBool::new(false),
        });
        let mut this = Self {
            ring,
            context: Arc::clone(context),
            mailbox,
            standing,
            events: Vec::new(),
            in_kernel: 0,
            used: vec![0; entries].into(),
            excess: 0,
            ended: false,
            stopping: false,
        };
        let queues = plan.queues.iter();
        let each = queues.flat_map(|(queue, depth)| std::iter::repeat_n(*queue, *depth));
        for (index, queue) in each.enumerate() {
            this.ring.register(index, queue)?;
            this.in_kernel += 1;
            if (index + 1) % BATCH == 0 || index + 1 == entries {
                this.submit_registrations()?;
            }
        }
        Ok(this)
    }

    fn submit_registrations(&mut self) -> io::Result<()> {
        self.ring.submit()?;
        self.take_events()?;
        for event in &self.events {
            if let Event::Failed(_, errno) = event {
                return Err(io::Error::from_raw_os_error(*errno));
            }
        }
        Ok(())
    }

    /// How others reach the thread.
    pub fn mailbox(&self) -> Arc<Mailbox> {
        Arc::clone(&self.mailbox)
    }

    /// Serves requests until the mount is gone.
    pub fn run(mut self) {
        while !self.is_over() {
            if let Err(e) = self.turn() {
                // Without this thread all who ask from its processors would wait for ever.
                log::error!("a queue: {e}");
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
        }
    }

    fn is_over(&self) -> bool {
        (self.ended || self.stopping) && self.in_kernel == 0
    }

    /// Waits for reports and acts on them.
    fn turn(&mut self) -> io::Result<()> {
        if self.events.is_empty() {
            self.ring.submit_and_wait()?;
            self.standing.woken();
            self.take_events()?;
        }
        // Here nothing is in the payloads of the entries that the kernel has.
        self.give_back_memory();
        let mut events = std::mem::take(&mut self.events);
        let mut result = Ok(());
        for event in events.drain(..) {
            result = result.and(self.act(event));
        }
        self.events = events;
        result
    }

    fn take_events(&mut self) -> io::Result<()> {
        while let Some(event) = self.ring.next_event()? {
            if matches!(event, Event::Request(_) | Event::Failed(..)) {
                self.in_kernel -= 1;
            }
            self.events.push(event);
        }
        Ok(())
    }

    fn act(&mut self, event: Event) -> io::Result<()> {
        match event {
            Event::Request(slot) => self.serve(slot),
            Event::Failed(index, libc::EAGAIN | libc::EINTR) => {
                self.in_kernel += 1;
                self.ring.again(index)
            }
            Event::Failed(
                _,
                libc::ENOTCONN | libc::ENODEV | libc::ECONNABORTED | libc::ECANCELED,
            ) => {
                self.ended = true;
                Ok(())
            }
            Event::Failed(index, errno) => {
                let why = io::Error::from_raw_os_error(errno);
                log::warn!("entry {index} of a queue is lost: {why}");
                Ok(())
            }
            Event::Woken => self.take_mail(),
            Event::Timer => {
                log::debug!("{} entries don't come back", self.in_kernel);
                self.in_kernel = 0;
                Ok(())
            }
        }
    }

    fn take_mail(&mut self) -> io::Result<()> {
        let answered = std::mem::take(&mut *self.mailbox.answered.lock());
        for Answered { slot, commit_id } in answered {
            self.commit(slot, commit_id)?;
        }
        if self.mailbox.stop.load(Ordering::Acquire) && !self.stopping {
            self.stopping = true;
            self.ring.set_timer(LAST_SECONDS)?;
        }
        Ok(())
    }

    fn commit(&mut self, slot: Slot, commit_id: u64) -> io::Result<()> {
        self.ring.commit(slot, commit_id)?;
        self.in_kernel += 1;
        Ok(())
    }

    /// Serves the request in an entry.
    fn serve(&mut self, mut slot: Slot) -> io::Result<()> {
        let index = slot.index();
        let (header, payload) = slot.parts();
        let bytes: &[u8] = header.as_slice();
        let head: InHeader = wire::read(bytes).unwrap_or_default();
        let ring = wire::read::<RingHeader>(bytes.get(RING..).unwrap_or_default());
        let RingHeader {
            commit_id,
            payload_len,
            ..
        } = ring.unwrap_or_default();
        let fixed = bytes.get(FIXED).unwrap_or_default();
        let len = usize::try_from(payload_len).unwrap_or(0);
        let outcome = self.context.dispatch(&head, fixed, payload, len);
        let reply = match outcome {
            Outcome::Reply(reply) => reply,
            Outcome::None => Ok(0),
            Outcome::Deferred(work) => {
                self.note_use(index, len.max(work.room()));
                let slot = RingSlot {
                    slot: Some(slot),
                    commit_id,
                    unique: head.unique,
                    mailbox: Arc::clone(&self.mailbox),
                };
                self.context.defer(&head, slot, work);
                return Ok(());
            }
        };
        self.note_use(index, len.max(reply.unwrap_or(0)));
        write_reply(&mut slot, head.unique, reply);
        self.commit(slot, commit_id)
    }

    /// So much of an entry's payload was used.
    fn note_use(&mut self, index: usize, len: usize) {
        if let Some(used) = self.used.get_mut(index)
            && len > KEPT_EACH
            && len > *used
        {
            self.excess += len - (*used).max(KEPT_EACH);
            *used = len;
        }
    }

    fn give_back_memory(&mut self) {
        if self.excess <= KEPT {
            return;
        }
        let large = self.used.iter().enumerate();
        let large = large.filter(|(_, used)| **used > KEPT_EACH);
        self.ring.trim(large.map(|(index, _)| index), KEPT_EACH);
        self.used.fill(0);
        self.excess = 0;
    }
}
