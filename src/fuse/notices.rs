//! What the kernel is told without having asked. A notice to drop something may wait for locks that
//! the kernel holds while it waits for us, so those are sent by a thread of their own.

use std::io;
use std::sync::{Arc, OnceLock};

use crossbeam_channel::Sender;

use crate::name::NameBuf;
use crate::union::NodeId;

/// How a transport tells the kernel something.
pub trait Notifier: Send + Sync + 'static {
    /// The attributes that the kernel has of a node are not right any more.
    ///
    /// # Errors
    /// What writing to the device reports; `ENOENT` where the kernel doesn't know the node.
    fn attributes(&self, node: NodeId) -> io::Result<()>;

    /// The listing that the kernel has of a directory is not right any more.
    ///
    /// # Errors
    /// As for attributes.
    fn listing(&self, dir: NodeId) -> io::Result<()>;

    /// A name is to be looked up again.
    ///
    /// # Errors
    /// As for attributes.
    fn name(&self, parent: NodeId, name: &NameBuf) -> io::Result<()>;

    /// The bytes of a whole file, for the kernel's pages of it. The kernel waits for pages that it is
    /// reading.
    ///
    /// # Errors
    /// As for attributes; `ENOMEM`.
    fn contents(&self, node: NodeId, bytes: &[u8]) -> io::Result<()>;
}

/// Something for the kernel to drop.
pub(super) enum Notice {
    Attributes(NodeId),
    Listing(NodeId),
    Name(NodeId, NameBuf),
}

impl Notice {
    fn tell(&self, notifier: &dyn Notifier) -> io::Result<()> {
        match self {
            Notice::Attributes(node) => notifier.attributes(*node),
            Notice::Listing(dir) => notifier.listing(*dir),
            Notice::Name(parent, name) => notifier.name(*parent, name),
        }
    }
}

/// The way to the kernel, and to the thread that sends.
#[derive(Default)]
pub(super) struct Notices(OnceLock<Running>);

struct Running {
    sender: Sender<Notice>,
    notifier: Arc<dyn Notifier>,
}

impl Notices {
    /// Starts the thread. It ends with the server.
    pub fn start(&self, notifier: impl Notifier) {
        let (sender, notices) = crossbeam_channel::unbounded();
        let notifier: Arc<dyn Notifier> = Arc::new(notifier);
        let running = Running {
            sender,
            notifier: Arc::clone(&notifier),
        };
        let send = move || {
            for notice in notices {
                // Mostly ENOENT: the kernel had dropped it by itself.
                if let Err(e) = notice.tell(&*notifier) {
                    log::debug!("a notice: {e}");
                }
            }
        };
        match std::thread::Builder::new()
            .name("notices".into())
            .spawn(send)
        {
            // A second start would find a thread there; the first goes on.
            Ok(_detached) => drop(self.0.set(running)),
            Err(e) => log::warn!("no thread for notices: {e}"),
        }
    }

    /// Whether notices can be sent.
    pub fn are_possible(&self) -> bool {
        self.0.get().is_some()
    }

    /// Has a notice sent, soon.
    pub fn send(&self, notice: Notice) {
        if let Some(running) = self.0.get()
            && running.sender.send(notice).is_err()
        {
            log::warn!("the thread of notices has ended");
        }
    }

    /// Sends a notice at once. Nobody may wait for an answer of the calling thread.
    ///
    /// # Errors
    /// As for [`Notices::give`].
    pub fn send_now(&self, notice: &Notice) -> io::Result<()> {
        match self.0.get() {
            Some(running) => notice.tell(&*running.notifier),
            None => Err(io::Error::from_raw_os_error(libc::ENOTCONN)),
        }
    }

    /// Gives the kernel a file's bytes, at once. No page of the file may be waiting for an answer of
    /// ours.
    ///
    /// # Errors
    /// What writing to the device reports; `ENOTCONN` without a way to the kernel.
    pub fn give(&self, node: NodeId, bytes: &[u8]) -> io::Result<()> {
        match self.0.get() {
            Some(running) => running.notifier.contents(node, bytes),
            None => Err(io::Error::from_raw_os_error(libc::ENOTCONN)),
        }
    }
}
