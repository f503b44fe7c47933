//! From a command line to a live mount: options, the stack of layers, the daemon that serves it and
//! how to reach it.

pub mod control;
pub mod daemon;
pub mod live;
pub mod logger;
pub mod mountinfo;
pub mod options;
pub mod stack;
pub mod umount;

use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use crate::archive::progress::Progress;
use crate::error::{Context, Failure};
use crate::store::Store;
use crate::store::containers::{Container, NewContainer};

pub use options::MountOptions;
pub use umount::{Umount, umount};

/// What is to be mounted.
#[derive(Debug, Clone, Default)]
pub struct MountRequest {
    /// An image or a container, as a person names it; empty for a stack of directories.
    pub source: String,
    /// Where.
    pub mountpoint: PathBuf,
    /// How.
    pub options: MountOptions,
    /// Whether to serve the mount in this process.
    pub foreground: bool,
    /// The new container's name.
    pub name: Option<String>,
    /// Whether the new container goes when it is unmounted.
    pub remove: bool,
}

/// A mount that is live (or, in the foreground, over).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mounted {
    /// The container, where there is one.
    pub container: Option<Container>,
}

/// Mounts; returns when the mount is live.
///
/// # Errors
/// `NotFound` for an unknown image or container, `Conflict` for a container that is mounted,
/// `Usage` for a mount point or option that can't be; `System` with the reason why the mount did
/// not come up. A container that was made for it is gone then.
pub fn mount(
    store: &Store,
    request: &MountRequest,
    progress: &dyn Progress,
) -> Result<Mounted, Failure> {
    let mountpoint = check_mountpoint(store, &request.mountpoint)?;
    if !request.options.lowers.is_empty() {
        let stack = stack::of_directories(&request.options)?;
        daemon::run(store, stack, &mountpoint, request)?;
        return Ok(Mounted { container: None });
    }
    let found = if request.name.is_none() {
        store.container(&request.source).ok()
    } else {
        None
    };
    if let Some(container) = found {
        let stack = stack::of_container(store, &container, &request.options, progress)?;
        daemon::run(store, stack, &mountpoint, request)?;
        return Ok(Mounted {
            container: Some(container),
        });
    }
    let image = store
        .find(&request.source)
        .map_err(|f| other_kinds(f, &request.source))?;
    if request.options.read_only {
        let stack = stack::of_image(store, &image, progress)?;
        daemon::run(store, stack, &mountpoint, request)?;
        return Ok(Mounted { container: None });
    }
    let new = NewContainer {
        name: request.name.clone(),
        remove: request.remove,
    };
    let container = store.create_container(&image, &request.source, new)?;
    let mounted = stack::of_container(store, &container, &request.options, progress)
        .and_then(|stack| daemon::run(store, stack, &mountpoint, request));
    match mounted {
        Ok(()) => Ok(Mounted {
            container: Some(container),
        }),
        Err(e) => {
            if let Err(left) = store.remove_container(&container) {
                log::warn!("container {} stays: {left}", container.name);
            }
            Err(e)
        }
    }
}

fn other_kinds(failure: Failure, source: &str) -> Failure {
    if failure.kind() == crate::error::FailureKind::NotFound {
        return Failure::not_found(format!(
            "No such image or container: {} (strata images and strata ps -a list them)",
            source.escape_debug()
        ));
    }
    failure
}

/// The mount point, absolute and usable.
fn check_mountpoint(store: &Store, mountpoint: &Path) -> Result<PathBuf, Failure> {
    let shown = mountpoint.display();
    umount::detach_dead(mountpoint)?;
    let path = std::fs::canonicalize(mountpoint).context(|| format!("mount point {shown}"))?;
    let kind = std::fs::metadata(&path)
        .context(|| format!("mount point {shown}"))?
        .file_type();
    if !kind.is_dir() {
        let what = if kind.is_socket() {
            "a socket"
        } else {
            "not a directory"
        };
        return Err(Failure::usage(format!("mount point {shown} is {what}")));
    }
    let root = std::fs::canonicalize(store.root()).unwrap_or_else(|_| store.root().to_path_buf());
    if path.starts_with(&root) {
        return Err(Failure::usage(format!(
            "mount point {shown} is inside the store"
        )));
    }
    Ok(path)
}
