//! The daemon: mounts, goes into the background, serves until the mount is gone.
//!
//! Everything that can fail is done before the fork or reported through a pipe, so that the command
//! ends with the reason, or with a live mount.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use rustix::fs::{Mode, OFlags};
use rustix::mount::{UnmountFlags, mount, unmount};

use super::MountRequest;
use super::control::{self, Held};
use super::mountinfo;
use super::stack::Stack;
use crate::error::{Context, Errno, Error, Failure};
use crate::fuse::session::{Access, DevFuseServer, Session};
use crate::store::Store;
use crate::store::containers::MountRecord;
use crate::sys::process::{self, Fork};

/// Mounts a stack and serves it: in the background, returning when the mount is live, or in this
/// process, returning when it is over.
///
/// # Errors
/// `Denied` without the right to mount; `System`.
pub fn run(
    store: &Store,
    stack: Stack,
    mountpoint: &Path,
    request: &MountRequest,
) -> Result<(), Failure> {
    let device = open_device()?;
    attach(device.as_fd(), &stack, mountpoint, request)?;
    let serving = Serving {
        store: store.clone(),
        mountpoint: mountpoint.to_path_buf(),
    };
    if request.foreground {
        return serving.serve(device, stack, || Ok(()));
    }
    let (mut reader, writer) = std::io::pipe().context(|| "pipe")?;
    match process::fork() {
        Ok(Fork::Child) => {
            drop(reader);
            serving.in_background(device, stack, writer)
        }
        Ok(Fork::Parent(_)) => {
            // Only the daemon keeps the mount and its claims.
            drop((device, writer));
            std::mem::forget(stack.pin);
            let mut said = String::new();
            reader
                .read_to_string(&mut said)
                .context(|| "wait for the mount")?;
            match said.as_str() {
                "ready" => Ok(()),
                "" => Err(serving.abandon("its daemon has died; its log says why")),
                why => Err(serving.abandon(why)),
            }
        }
        Err(e) => {
            serving.abandon("");
            Err(e).context(|| "start a daemon")
        }
    }
}

fn open_device() -> Result<OwnedFd, Failure> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    rustix::fs::open("/dev/fuse", flags, Mode::empty()).map_err(|e| {
        Failure::from(Error::from(e)).context("open /dev/fuse (is the fuse module loaded?)")
    })
}

/// mount(2).
fn attach(
    device: impl AsFd,
    stack: &Stack,
    mountpoint: &Path,
    request: &MountRequest,
) -> Result<(), Failure> {
    let mut flags = request.options.mount_flags();
    if stack.union.is_read_only() {
        flags |= rustix::mount::MountFlags::RDONLY;
    }
    let data = format!(
        "fd={},rootmode=40000,user_id={},group_id={},default_permissions,allow_other",
        device.as_fd().as_raw_fd(),
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    );
    let data = CString::new(data).map_err(|e| Failure::system(e.to_string()))?;
    let source = request.options.fsname.as_ref().unwrap_or(&stack.source);
    mount(source.as_str(), mountpoint, "fuse.strata", flags, &*data).map_err(|e| {
        let hint = match e {
            rustix::io::Errno::PERM => " (mounting needs root, or root of a user namespace)",
            _ => "",
        };
        Failure::from(Error::from(e)).context(format!("mount at {}{hint}", mountpoint.display()))
    })
}

/// A mount on its way.
struct Serving {
    store: Store,
    mountpoint: PathBuf,
}

impl Serving {
    /// Takes the mount away again after a failure, which is to be reported.
    fn abandon(&self, why: &str) -> Failure {
        if let Err(e) = unmount(&self.mountpoint, UnmountFlags::DETACH) {
            log::debug!("unmount {}: {e}", self.mountpoint.display());
        }
        Failure::system(format!("mount at {}: {why}", self.mountpoint.display()))
    }

    /// The child's life. It never returns to what the parent was doing.
    fn in_background(self, device: OwnedFd, stack: Stack, mut ready: std::io::PipeWriter) -> ! {
        let log = stack
            .container
            .as_ref()
            .map(|(c, _)| c.dir(&self.store).join("log"));
        let result = detach_from_terminal(log.as_deref()).and_then(|()| {
            self.serve(device, stack, || {
                ready.write_all(b"ready")?;
                // The parent waits for the end of the pipe.
                drop(ready);
                Ok(())
            })
        });
        let status = match result {
            Ok(()) => 0,
            Err(e) => {
                log::error!("{e}");
                1
            }
        };
        std::process::exit(status)
    }

    fn serve(
        &self,
        device: OwnedFd,
        stack: Stack,
        live: impl FnOnce() -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        process::raise_file_limit();
        rustix::process::umask(Mode::empty());
        process::block_ending_signals().context(|| "block signals")?;
        let Stack {
            union,
            container,
            pin,
            ..
        } = stack;
        let mount_id = mountinfo::at(&self.mountpoint)?.map(|m| m.id);
        let session = Session::greet(union, device, Access::All)?;
        let server = session.server();
        let announced = self
            .announce(container.as_ref().map(|(c, _)| c), &server, mount_id)
            .and_then(|()| live());
        if announced.is_err() {
            unmount(&self.mountpoint, UnmountFlags::DETACH).ok();
        }
        drop(server);
        let served = session.run();
        drop(pin);
        if let Some((container, claim)) = container {
            control::close(&container.dir(&self.store));
            container.clear_mount(&self.store);
            drop(claim);
            if container.remove {
                self.store.remove_container(&container)?;
            }
        }
        announced?;
        served
    }

    /// Makes the mount known: its record, its control socket, its signals.
    fn announce(
        &self,
        container: Option<&crate::store::containers::Container>,
        server: &Arc<DevFuseServer>,
        mount_id: Option<u64>,
    ) -> Result<(), Failure> {
        if let Some(container) = container {
            control::listen(
                &container.dir(&self.store),
                Arc::new(Holder(Arc::downgrade(server))),
            )?;
            let record = MountRecord {
                pid: std::process::id(),
                mountpoint: self.mountpoint.clone(),
                since: crate::image::time::format(jiff::Timestamp::now()),
            };
            container.record_mount(&self.store, &record)?;
        }
        let mountpoint = self.mountpoint.clone();
        let watch = move || unmount_on_signals(&mountpoint, mount_id);
        std::thread::Builder::new()
            .name("signals".into())
            .spawn(watch)
            .map(drop)
            .context(|| "start a thread")
    }
}

/// The mount's server, for those who hold it. It doesn't keep the server alive: the upper is given
/// up before the claim on the container is.
struct Holder(Weak<DevFuseServer>);

impl Held for Holder {
    fn hold(&self) -> crate::error::Result<()> {
        self.0
            .upgrade()
            .map_or_else(|| Err(Errno::ENOTCONN.into()), |server| server.hold())
    }

    fn release(&self) {
        if let Some(server) = self.0.upgrade() {
            server.release();
        }
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
