//! The daemon: mounts, goes into the background, serves until the mount is gone.
//!
//! Everything that can fail is done before the fork or reported through a pipe, so that the command
//! ends with the reason, or with a live mount.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io::{PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_change, unmount};

use super::control::{self, Held, MountStatus};
use super::options::{MountOptions, Users};
use super::stack::{Claimed, HANDOVER, Stack};
use super::{MountRequest, Source, joint, mountinfo};
use crate::error::{Context, Errno, Error, Failure, FailureKind};
use crate::fuse::session::{Access, Serving as Served, Session};
use crate::fuse::transport::{Offer, Transport, Wanted};
use crate::fuse::{Pages, ServeOptions};
use crate::store::Store;
use crate::store::containers::{Container, MountRecord};
use crate::sys::process::{self, Fork};
use crate::union::Union;

/// Mounts a stack and serves it: in the background, returning when the mount is live, or in this
/// process, returning when it is over.
///
/// # Errors
/// `Denied` without the right to mount; `System`.
pub fn run(stack: Stack, mountpoint: &Path, request: &MountRequest) -> Result<(), Failure> {
    let offer = match &request.source {
        Source::Layers(layers) => joint::Offer::of(layers, &request.options),
        _ => None,
    };
    let serving = Serving {
        offer,
        mountpoint: mountpoint.to_path_buf(),
        options: request.options.clone(),
        label: request.label.clone(),
    };
    if request.foreground {
        return serving.serve(stack, || Ok(()));
    }
    let (reader, writer) = std::io::pipe().context(|| "pipe")?;
    match process::fork().context(|| "start a daemon")? {
        Fork::Child => {
            drop(reader);
            serving.in_background(stack, writer)
        }
        Fork::Parent(_) => {
            // Only the daemon keeps the mount and its claims.
            drop(writer);
            std::mem::forget(stack.pin);
            serving.wait_until_live(reader)
        }
    }
}

fn open_device() -> Result<OwnedFd, Failure> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    rustix::fs::open("/dev/fuse", flags, Mode::empty()).map_err(|e| {
        Failure::from(Error::from(e)).context("open /dev/fuse (is the fuse module loaded?)")
    })
}

/// Who may use a mount. A mount of root's, also of root in a user namespace, is for everybody.
fn access(options: &MountOptions) -> Access {
    match options.users {
        Some(Users::OwnerAndRoot) => Access::OwnerAndRoot,
        Some(Users::All) => Access::All,
        None if rustix::process::geteuid().is_root() => Access::All,
        None => Access::Owner,
    }
}

/// mount(2).
fn attach(
    device: impl AsFd,
    union: &Union,
    source: &str,
    mountpoint: &Path,
    options: &MountOptions,
) -> Result<(), Failure> {
    let mut flags = options.mount_flags();
    if union.is_read_only() {
        flags |= MountFlags::RDONLY;
    }
    let mut data = format!(
        "fd={},rootmode=40000,user_id={},group_id={},default_permissions",
        device.as_fd().as_raw_fd(),
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    );
    if access(options) != Access::Owner {
        data.push_str(",allow_other");
    }
    for word in &options.kernel_words {
        data.push(',');
        data.push_str(word);
    }
    let data = CString::new(data).map_err(|e| Failure::system(e.to_string()))?;
    mount(source, mountpoint, "fuse.strata", flags, &*data).map_err(|e| {
        let hint = match e {
            rustix::io::Errno::PERM => " (mounting needs root, or root of a user namespace)",
            _ => "",
        };
        Failure::from(Error::from(e)).context(format!("mount at {}{hint}", mountpoint.display()))
    })
}

/// A mount on its way.
struct Serving {
    /// What others may join.
    offer: Option<joint::Offer>,
    mountpoint: PathBuf,
    options: MountOptions,
    label: Option<String>,
}

/// What the daemon says when the mount is live; anything else is why it isn't.
const READY: &str = "ready";

impl Serving {
    /// Waits for the daemon's word.
    fn wait_until_live(&self, mut reader: PipeReader) -> Result<(), Failure> {
        let mut said = String::new();
        reader
            .read_to_string(&mut said)
            .context(|| "wait for the mount")?;
        match said.split_once(' ') {
            None if said == READY => Ok(()),
            Some((kind, why)) => Err(Failure::new(kind_of(kind), why)),
            None => {
                super::umount::detach_dead(&self.mountpoint)?;
                Err(Failure::system(format!(
                    "mount at {}: the daemon has died; its log may say why",
                    self.mountpoint.display()
                )))
            }
        }
    }

    /// The child's life. It never returns to what the parent was doing.
    fn in_background(self, stack: Stack, ready: PipeWriter) -> ! {
        let log = stack
            .container
            .as_ref()
            .map(|c| c.container.dir(&c.store).join("log"));
        let mut ready = Some(ready);
        let result = detach_from_terminal(log.as_deref()).and_then(|()| {
            self.serve(stack, || {
                // The parent waits for the end of the pipe.
                let writer = ready.take();
                Ok(writer.map_or(Ok(()), |mut w| w.write_all(READY.as_bytes()))?)
            })
        });
        let Err(failure) = result else {
            std::process::exit(0)
        };
        log::error!("{failure}");
        if let Some(mut ready) = ready {
            // When nobody listens any more, the log has it.
            write!(ready, "{:?} {failure}", failure.kind()).ok();
        }
        std::process::exit(1)
    }

    /// Mounts and serves. What has a path is opened before the mount: it may be above the store.
    fn serve(
        &self,
        stack: Stack,
        live: impl FnOnce() -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        process::raise_file_limit();
        crate::sys::heap::share();
        rustix::process::umask(Mode::empty());
        process::block_ending_signals().context(|| "block signals")?;
        let Stack {
            union,
            source: own_name,
            container,
            pin,
        } = stack;
        let socket = match &container {
            Some(claimed) => Some(self.announce(claimed)?),
            None => None,
        };
        let source = self.options.fsname.as_ref().or(self.label.as_ref());
        let source = source.unwrap_or(&own_name);
        let read_only = union.is_read_only();
        let session = self.mount(&union, source)?;
        // The session has it; the upper is given up before the claim on the container is.
        drop(union);
        let transport = session.transport();
        let threads = self.start_threads(&session, socket);
        self.or_unmount(threads.and_then(|()| live()))?;
        log::info!(
            mountpoint:% = self.mountpoint.display(),
            pid = std::process::id(),
            source:% = source,
            read_only,
            transport:%;
            "mounted"
        );
        let served = session.run();
        log::info!(mountpoint:% = self.mountpoint.display(); "the mount has ended");
        drop(pin);
        if let Some(Claimed {
            store,
            container,
            claim,
        }) = container
        {
            control::close(&container.dir(&store));
            container.clear_mount(&store);
            drop(claim);
            if container.remove {
                remove(&store, &container)?;
            }
        }
        served
    }

    /// Mounts, over the transport that is wanted and can be had. What the kernel refuses on the way
    /// is had over `/dev/fuse`, on a mount made anew: the first is of no use then.
    fn mount(&self, union: &Arc<Union>, source: &str) -> Result<Session, Failure> {
        let offer = Offer::here();
        let wanted = self.options.transport;
        let transport = offer.choose(wanted)?;
        if offer == Offer::Off && wanted == Wanted::Auto && rustix::process::geteuid().is_root() {
            log::info!("{offer}; scripts/install --uring does it for good");
        }
        match self.mount_over(transport, union, source) {
            Err(why) if transport == Transport::Uring && wanted == Wanted::Auto => {
                log::warn!("{why}; the mount goes over /dev/fuse");
                self.mount_over(Transport::Dev, union, source)
            }
            mounted => mounted,
        }
    }

    fn mount_over(
        &self,
        transport: Transport,
        union: &Arc<Union>,
        source: &str,
    ) -> Result<Session, Failure> {
        let device = open_device()?;
        attach(&device, union, source, &self.mountpoint, &self.options)?;
        let (access, options) = (access(&self.options), self.serve_options());
        if self.options.pages == Some(Pages::Own) && !union.is_read_only() {
            log::warn!("mount option pages: own has no effect on a mount that can be changed");
        }
        self.or_unmount(
            self.spread().and_then(|()| {
                Session::greet(Arc::clone(union), device, access, options, transport)
            }),
        )
    }

    /// How mounts below are to spread.
    fn spread(&self) -> Result<(), Failure> {
        let Some(how) = self.options.propagation else {
            return Ok(());
        };
        mount_change(&self.mountpoint, how)
            .context(|| format!("set the propagation of {}", self.mountpoint.display()))
    }

    fn serve_options(&self) -> ServeOptions {
        ServeOptions {
            ids: self.options.ids.clone(),
            lifetimes: self.options.lifetimes,
            static_nlink: self.options.static_nlink,
            noxattrs: self.options.noxattrs,
            spare_xattrs: self.options.spare_xattrs,
            noacl: self.options.noacl,
            pages: self.options.pages.unwrap_or(Pages::Own),
            joint: self.offer.is_some(),
        }
    }

    /// Takes the mount away again after a failure.
    fn or_unmount<T>(&self, result: Result<T, Failure>) -> Result<T, Failure> {
        if result.is_err()
            && let Err(e) = unmount(&self.mountpoint, UnmountFlags::DETACH)
        {
            log::warn!("unmount {}: {e}", self.mountpoint.display());
        }
        result
    }

    /// Makes the mount known: its record and its control socket.
    fn announce(&self, claimed: &Claimed) -> Result<UnixListener, Failure> {
        let (store, container) = (&claimed.store, &claimed.container);
        let record = MountRecord {
            pid: std::process::id(),
            mountpoint: self.mountpoint.clone(),
            since: crate::image::time::format(jiff::Timestamp::now()),
        };
        container.record_mount(store, &record)?;
        control::bind(&container.dir(store))
    }

    /// Threads for the control socket and for signals.
    fn start_threads(
        &self,
        session: &Session,
        socket: Option<UnixListener>,
    ) -> Result<(), Failure> {
        if let Some(socket) = socket {
            let holder = Holder {
                server: Arc::downgrade(&session.server()),
                transport: session.transport(),
            };
            control::listen(socket, Arc::new(holder))?;
        }
        if let Some(offer) = &self.offer {
            let server = Arc::downgrade(&session.server());
            // Without it others are mounts of their own.
            if let Err(e) = offer.listen(&self.mountpoint, move || server.upgrade()) {
                log::warn!("{e}");
            }
        }
        let mount_id = mountinfo::at(&self.mountpoint)?.map(|m| m.id);
        let mountpoint = self.mountpoint.clone();
        let watch = move || unmount_on_signals(&mountpoint, mount_id);
        std::thread::Builder::new()
            .name("signals".into())
            .spawn(watch)
            .map(drop)
            .context(|| "start a thread")
    }
}

/// Removes a container that goes with its mount. Somebody may just be looking whether it is
/// mounted, and that takes its lock for a moment.
fn remove(store: &Store, container: &Container) -> Result<(), Failure> {
    let until = Instant::now() + HANDOVER;
    loop {
        match store.remove_container(container) {
            Err(e) if e.kind() == FailureKind::Conflict && Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(2));
            }
            other => return other,
        }
    }
}

fn kind_of(word: &str) -> FailureKind {
    let kinds = [
        FailureKind::NotFound,
        FailureKind::Conflict,
        FailureKind::Invalid,
        FailureKind::Denied,
        FailureKind::Usage,
    ];
    let known = kinds.into_iter().find(|k| format!("{k:?}") == word);
    known.unwrap_or(FailureKind::System)
}

/// The mount's server, for those who hold it. It doesn't keep the server alive: the upper is given
/// up before the claim on the container is.
struct Holder {
    server: Weak<dyn Served>,
    transport: Transport,
}

impl Held for Holder {
    fn hold(&self) -> crate::error::Result<()> {
        let server = self.server.upgrade();
        let server = server.ok_or_else(|| Error::new(Errno::ENOTCONN))?;
        server.hold()?;
        log::info!("changes are held, for a commit or a look at the whole");
        Ok(())
    }

    fn release(&self) {
        if let Some(server) = self.server.upgrade() {
            server.release();
            log::info!("changes go on");
        }
    }

    fn status(&self) -> Option<MountStatus> {
        let server = self.server.upgrade()?;
        Some(MountStatus {
            transport: self.transport.to_string(),
            passthrough: server.status().passthrough,
        })
    }
}

/// A signal that would end the daemon unmounts, if the mount there is still ours and idle.
fn unmount_on_signals(mountpoint: &Path, mount_id: Option<u64>) {
    loop {
        match process::wait_for_end() {
            Ok(signal) => log::info!("signal {signal}: unmounting"),
            Err(e) => return log::warn!("wait for signals: {e}"),
        }
        match mountinfo::at(mountpoint) {
            Ok(Some(there)) if Some(there.id) == mount_id => {}
            _ => return log::info!("{} is no longer ours", mountpoint.display()),
        }
        match unmount(mountpoint, UnmountFlags::NOFOLLOW) {
            Ok(()) => return,
            Err(e) => log::warn!(
                "unmount {}: {}",
                mountpoint.display(),
                Errno(e.raw_os_error())
            ),
        }
    }
}

fn detach_from_terminal(log: Option<&Path>) -> Result<(), Failure> {
    rustix::process::setsid().context(|| "setsid")?;
    std::env::set_current_dir("/").context(|| "chdir /")?;
    let null = OpenOptions::new().read(true).write(true).open("/dev/null");
    let null: File = null.context(|| "open /dev/null")?;
    for redirect in [
        rustix::stdio::dup2_stdin,
        rustix::stdio::dup2_stdout,
        rustix::stdio::dup2_stderr,
    ] {
        redirect(&null).context(|| "redirect to /dev/null")?;
    }
    if let Some(path) = log {
        super::logger::to_file(path).context(|| format!("open {}", path.display()))?;
    }
    Ok(())
}
