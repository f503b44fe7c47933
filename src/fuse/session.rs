//! A mount that the kernel has greeted, whatever its transport.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use super::fuser::DevSession;
use super::server::{ServeOptions, Server, ServerStatus};
use super::transport::Transport;
use super::uring::UringSession;
use crate::error::{Failure, Result};
use crate::name::NameBuf;
use crate::union::Union;

/// Who may use a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Everybody, as far as permissions allow.
    All,
    /// The user who mounted it, and root.
    OwnerAndRoot,
    /// The user who mounted it.
    Owner,
}

/// What serves a mount, for those who want to know or to hold it.
pub trait Serving: Send + Sync {
    /// Figures.
    fn status(&self) -> ServerStatus;

    /// How many requests there were, by operation.
    fn requests(&self) -> Vec<(&'static str, u64)>;

    /// Lets changes under way finish and parks new ones.
    ///
    /// # Errors
    /// As [`Server::hold`].
    fn hold(&self) -> Result<()>;

    /// Allows changes again.
    fn release(&self);

    /// Makes a name for the root of the tree of the lowers alone.
    ///
    /// # Errors
    /// As [`Server::offer_view`].
    fn offer_view(&self) -> Result<NameBuf>;

    /// How long ago this process asked for the figures of the file system.
    fn asked_by(&self, process: u32) -> Option<Duration>;
}

impl<I: Send + Sync + 'static> Serving for Server<I> {
    fn status(&self) -> ServerStatus {
        Server::status(self)
    }

    fn requests(&self) -> Vec<(&'static str, u64)> {
        Server::requests(self)
    }

    fn hold(&self) -> Result<()> {
        Server::hold(self)
    }

    fn release(&self) {
        Server::release(self);
    }

    fn offer_view(&self) -> Result<NameBuf> {
        Server::offer_view(self)
    }

    fn asked_by(&self, process: u32) -> Option<Duration> {
        Server::asked_by(self, process)
    }
}

/// A mount that the kernel has greeted, ready to be served.
pub struct Session(Inner);

enum Inner {
    Dev(DevSession),
    Uring(UringSession),
}

impl Session {
    /// Waits for the kernel's greeting on the descriptor of a mount and answers it.
    ///
    /// # Errors
    /// `System` when the kernel is too old, has hung up, or refuses the transport. The connection is
    /// of no use then.
    pub fn greet(
        union: Arc<Union>,
        fuse: OwnedFd,
        access: Access,
        options: ServeOptions,
        transport: Transport,
    ) -> std::result::Result<Self, Failure> {
        Ok(Self(match transport {
            Transport::Dev => Inner::Dev(DevSession::greet(union, fuse, access, options)?),
            Transport::Uring => {
                let owner = rustix::process::geteuid().as_raw();
                let owner = (access != Access::All).then_some(owner);
                Inner::Uring(UringSession::greet(union, fuse, owner, options)?)
            }
        }))
    }

    /// What serves the mount.
    #[must_use]
    pub fn server(&self) -> Arc<dyn Serving> {
        match &self.0 {
            Inner::Dev(session) => session.server(),
            Inner::Uring(session) => session.server(),
        }
    }

    /// How requests come.
    #[must_use]
    pub fn transport(&self) -> Transport {
        match &self.0 {
            Inner::Dev(_) => Transport::Dev,
            Inner::Uring(_) => Transport::Uring,
        }
    }

    /// Serves the mount until it is unmounted.
    ///
    /// # Errors
    /// `System` when the kernel's device fails.
    pub fn run(self) -> std::result::Result<(), Failure> {
        match self.0 {
            Inner::Dev(session) => session.run(),
            Inner::Uring(session) => session.run(),
        }
    }
}
