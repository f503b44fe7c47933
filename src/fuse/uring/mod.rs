//! The transport over io_uring: for each processor a queue, whose thread answers in place.
//!
//! A request costs one system call, which hands over the last answer and waits for the next
//! request, in the same buffers. What comes later (jobs, what was parked) goes through the queue's
//! own thread: others put it into its mailbox and wake it. `/dev/fuse` stays in use beside the rings,
//! for what the kernel never sends through them ([`super::device`]).

mod plan;
mod queue;

use std::io;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;

use super::device::{self, Device, DeviceNotices};
use super::dispatch::{Context, WireServer};
use super::greeting;
use super::pending::Pending;
use super::server::{ServeOptions, Server};
use super::wire::init;
use crate::error::{Context as _, Failure};
use crate::union::Union;
use plan::{Processors, ThreadPlan};
use queue::{Mailbox, Queue};

/// A mount whose requests come through rings.
pub(super) struct UringSession {
    context: Arc<Context>,
    queues: Queues,
}

/// The threads of all queues.
#[derive(Default)]
struct Queues(Vec<(Arc<Mailbox>, JoinHandle<()>)>);

impl UringSession {
    /// Answers the kernel's greeting and goes over to rings, one thread after the other. `owner` is
    /// whom, besides root, the mount is for; `None`: for everybody.
    ///
    /// # Errors
    /// `System` when the kernel has no such transport, or refuses a ring or a registration. The
    /// connection is of no use then.
    pub fn greet(
        union: Arc<Union>,
        fuse: std::os::fd::OwnedFd,
        owner: Option<u32>,
        options: ServeOptions,
    ) -> Result<Self, Failure> {
        let device = Arc::new(Device::new(fuse));
        let agreed = greeting::exchange(&device, &options)?;
        if !agreed.has(init::OVER_IO_URING) {
            return Err(Failure::system(
                "the kernel offers no FUSE over io_uring on this mount",
            ));
        }
        let server: Arc<WireServer> = Server::new(union, options);
        server.tell_numbers_apart();
        server.notify_by(DeviceNotices(Arc::clone(&device)));
        if agreed.has(init::PASSTHROUGH) {
            server.allow_passthrough();
        }
        if agreed.has(init::NO_OPENDIR_SUPPORT) {
            server.spare_opendir();
        }
        if agreed.has(init::NO_OPEN_SUPPORT) {
            server.spare_open();
        }
        let context = Arc::new(Context {
            server,
            device,
            owner,
            pending: Pending::default(),
        });
        let queues = Queues::start(&context, Processors::here().plan())?;
        Ok(Self { context, queues })
    }

    /// What serves the mount.
    pub fn server(&self) -> Arc<WireServer> {
        Arc::clone(&self.context.server)
    }

    /// Serves the mount until it is unmounted.
    ///
    /// # Errors
    /// `System` when the kernel's device fails.
    pub fn run(self) -> Result<(), Failure> {
        let served = device::serve(&self.context).context(|| "serve the mount");
        drop(self.queues);
        served
    }
}

impl Queues {
    fn start(context: &Arc<Context>, plans: Vec<ThreadPlan>) -> Result<Self, Failure> {
        let mut this = Self::default();
        for plan in plans {
            let about = || format!("register a ring for processors {:?}", plan.queues);
            let queue = start_one(context, plan.clone()).context(about)?;
            this.0.push(queue);
        }
        Ok(this)
    }
}

impl Drop for Queues {
    fn drop(&mut self) {
        for (mailbox, _) in &self.0 {
            mailbox.stop();
        }
        for (_, thread) in self.0.drain(..) {
            if thread.join().is_err() {
                log::error!("a queue's thread panicked");
            }
        }
    }
}

/// Starts a thread and waits until its entries are registered.
fn start_one(
    context: &Arc<Context>,
    plan: ThreadPlan,
) -> io::Result<(Arc<Mailbox>, JoinHandle<()>)> {
    let (tell, told) = sync_channel(1);
    let context = Arc::clone(context);
    let serve = move || {
        let opened = Queue::open(&context, &plan);
        let said = opened.map(|queue| {
            let mailbox = queue.mailbox();
            (queue, mailbox)
        });
        match said {
            Ok((queue, mailbox)) => {
                if tell.send(Ok(mailbox)).is_ok() {
                    queue.run();
                }
            }
            Err(e) => drop(tell.send(Err(e))),
        }
    };
    let named = std::thread::Builder::new().name("queue".into());
    let thread = named.spawn(serve)?;
    match told.recv() {
        Ok(Ok(mailbox)) => Ok((mailbox, thread)),
        Ok(Err(e)) => Err(e),
        Err(_) => Err(io::Error::other("the thread has ended")),
    }
}
