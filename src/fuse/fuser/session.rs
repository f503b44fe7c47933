//! A mount served over `/dev/fuse`: what is agreed with the kernel, and the serving threads.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use ::fuser::{BackingId, Config, INodeNo, InitFlags, KernelConfig, SessionACL};

use super::Adapter;
use crate::error::{Context, Failure};
use crate::fuse::greeting::{MAX_BACKGROUND, MAX_WRITE};
use crate::fuse::notices::Notifier;
use crate::fuse::server::{ServeOptions, Server};
use crate::fuse::session::Access;
use crate::name::NameBuf;
use crate::union::{NodeId, Union};

/// A server whose transport is `/dev/fuse`.
pub(in crate::fuse) type DevFuseServer = Server<BackingId>;

/// A mount that the kernel has greeted, ready to be served.
pub(in crate::fuse) struct DevSession {
    server: Arc<DevFuseServer>,
    inner: ::fuser::Session<Adapter>,
}

impl DevSession {
    /// Waits for the kernel's greeting on the descriptor of a mount and answers it.
    ///
    /// # Errors
    /// `System` when the kernel is too old, or has hung up.
    pub fn greet(
        union: Arc<Union>,
        fuse: OwnedFd,
        access: Access,
        options: ServeOptions,
    ) -> Result<Self, Failure> {
        let server = Server::new(union, options);
        let acl = match access {
            Access::All => SessionACL::All,
            Access::OwnerAndRoot => SessionACL::RootAndOwner,
            Access::Owner => SessionACL::Owner,
        };
        let mut config = Config::default();
        config.n_threads = Some(threads());
        config.clone_fd = true;
        let adapter = Adapter(Arc::clone(&server));
        let inner = ::fuser::Session::from_fd(adapter, fuse, acl, config)
            .context(|| "agree with the kernel on a FUSE session")?;
        server.notify_by(Notices(inner.notifier()));
        Ok(Self { server, inner })
    }

    /// What serves the mount.
    #[must_use]
    pub fn server(&self) -> Arc<DevFuseServer> {
        Arc::clone(&self.server)
    }

    /// Serves the mount until it is unmounted.
    ///
    /// # Errors
    /// `System` when the kernel's device fails.
    pub fn run(self) -> Result<(), Failure> {
        match self.inner.run() {
            // What the kernel says instead of ENODEV when requests were under way at the end, or when
            // the end was forced.
            Err(e) if e.raw_os_error() == Some(libc::ECONNABORTED) => {
                log::info!("the connection was aborted");
                Ok(())
            }
            ended => ended.context(|| "serve the mount"),
        }
    }
}

struct Notices(::fuser::Notifier);

impl Notifier for Notices {
    fn attributes(&self, node: NodeId) -> std::io::Result<()> {
        self.0.inval_inode(INodeNo(node.0), -1, 0)
    }

    fn listing(&self, dir: NodeId) -> std::io::Result<()> {
        self.0.inval_inode(INodeNo(dir.0), 0, 0)
    }

    fn name(&self, parent: NodeId, name: &NameBuf) -> std::io::Result<()> {
        self.0.inval_entry(INodeNo(parent.0), name.as_os_str())
    }

    fn contents(&self, node: NodeId, bytes: &[u8]) -> std::io::Result<()> {
        self.0.store(INodeNo(node.0), 0, bytes)
    }
}

/// No more threads than can run, and two at least, so that one slow system call stops nothing.
fn threads() -> usize {
    std::thread::available_parallelism().map_or(2, |n| n.get().clamp(2, 8))
}

/// Asks for what the server is made for. What an older kernel doesn't have costs speed only.
pub(super) fn negotiate(config: &mut KernelConfig, server: &DevFuseServer) {
    let wanted = [
        InitFlags::FUSE_ATOMIC_O_TRUNC,
        InitFlags::FUSE_EXPORT_SUPPORT,
        InitFlags::FUSE_DONT_MASK,
        InitFlags::FUSE_DO_READDIRPLUS,
        InitFlags::FUSE_ASYNC_DIO,
        InitFlags::FUSE_PARALLEL_DIROPS,
        InitFlags::FUSE_POSIX_ACL,
        InitFlags::FUSE_CACHE_SYMLINKS,
        InitFlags::FUSE_HANDLE_KILLPRIV_V2,
    ];
    let options = server.options();
    for flag in wanted {
        if flag == InitFlags::FUSE_POSIX_ACL && (options.noacl || options.noxattrs) {
            continue;
        }
        if config.add_capabilities(flag).is_err() {
            log::info!("the kernel has no {flag:?}");
        }
    }
    // READDIR after the first answer: the numbers of joint mounts (`Server::readdirplus`).
    if options.joint
        && config
            .add_capabilities(InitFlags::FUSE_READDIRPLUS_AUTO)
            .is_err()
    {
        log::info!("the kernel always asks for READDIRPLUS");
    }
    let passthrough = config.capabilities().contains(InitFlags::FUSE_PASSTHROUGH);
    if passthrough
        && config.add_capabilities(InitFlags::FUSE_PASSTHROUGH).is_ok()
        && config.set_max_stack_depth(1).is_ok()
    {
        server.allow_passthrough();
    }
    let offered = config.capabilities();
    if offered.contains(InitFlags::FUSE_NO_OPENDIR_SUPPORT) {
        server.spare_opendir();
    }
    if offered.contains(InitFlags::FUSE_NO_OPEN_SUPPORT) {
        server.spare_open();
    }
    if config.set_max_write(MAX_WRITE).is_err()
        || config.set_max_background(MAX_BACKGROUND).is_err()
    {
        log::warn!("the session keeps its default sizes");
    }
}
