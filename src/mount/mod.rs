//! From a command line to a live mount: options, the stack of layers, the daemon that serves it and
//! how to reach it.

pub mod control;
pub mod cp;
pub mod daemon;
pub mod info;
pub mod joint;
pub mod live;
pub mod logger;
pub mod logs;
pub mod mountinfo;
pub mod options;
pub mod remount;
pub mod source;
pub mod stack;
pub mod umount;

use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use crate::archive::progress::Progress;
use crate::error::{Context, Failure};
use crate::fuse::Offer;
use crate::store::Store;
use crate::store::containers::{Container, NewContainer};

pub use options::MountOptions;
pub use source::Source;
pub use umount::{Umount, stop, umount};

/// What is to be mounted.
#[derive(Debug, Clone, Default)]
pub struct MountRequest {
    /// What.
    pub source: Source,
    /// What `/proc/mounts` is to show as the source, if the options don't say (`fsname=`).
    pub label: Option<String>,
    /// Where.
    pub mountpoint: PathBuf,
    /// How.
    pub options: MountOptions,
    /// Whether to serve the mount in this process.
    pub foreground: bool,
}

/// A mount that is live (or, in the foreground, over).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mounted {
    /// The container, where there is one.
    pub container: Option<Container>,
}

/// Mounts; returns when the mount is live. `root` is the store's directory, which is not looked at
/// for directory layers.
///
/// # Errors
/// `NotFound` for an unknown image or container, `Conflict` for a container or an upper that is in
/// use, `Usage` for a mount point or option that can't be; `System` with the reason why the mount
/// did not come up. A container that was made for it is gone then.
pub fn mount(
    root: &Path,
    request: &MountRequest,
    progress: &dyn Progress,
) -> Result<Mounted, Failure> {
    if request.options.remount {
        remount::remount(&request.mountpoint, &request.options)?;
        return Ok(Mounted { container: None });
    }
    // Before anything is made for it.
    Offer::here().choose(request.options.transport)?;
    let root = request.options.root.as_deref().unwrap_or(root);
    let mountpoint = check_mountpoint(root, &request.mountpoint)?;
    let request = &leave_mapping_to_kernel(request)?;
    // Each layer takes descriptors.
    crate::sys::process::raise_file_limit();
    let start = |stack| daemon::run(stack, &mountpoint, request);
    let options = &request.options;
    let name = match &request.source {
        Source::Layers(layers) => {
            if !request.foreground && joint::join(layers, &mountpoint, options) {
                return Ok(Mounted { container: None });
            }
            let stack = stack::of_layers(&|| Store::open(root), layers, options, progress)?;
            start(stack)?;
            return Ok(Mounted { container: None });
        }
        Source::Any(name) | Source::Image(name) | Source::Container(name) => name,
    };
    let store = Store::open(root)?;
    if let Some(container) = named_container(&store, &request.source, options)? {
        start(stack::of_container(&store, &container, options, progress)?)?;
        return Ok(Mounted {
            container: Some(container),
        });
    }
    let image = store.find(name).map_err(|f| other_kinds(f, name))?;
    if options.read_only {
        start(stack::of_image(&store, &image, options, progress)?)?;
        return Ok(Mounted { container: None });
    }
    let new = NewContainer {
        name: options.name.clone(),
        remove: options.remove,
        ..NewContainer::default()
    };
    let container = store.create_container(&image, name, new)?;
    match stack::of_container(&store, &container, options, progress).and_then(start) {
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

/// podman gives `uidmapping=` also where it has made the lowers idmapped mounts, and the upper holds
/// owners as they are shown then: what the kernel maps is not mapped again.
fn leave_mapping_to_kernel(request: &MountRequest) -> Result<MountRequest, Failure> {
    let mut request = request.clone();
    let Source::Layers(layers) = &request.source else {
        return Ok(request);
    };
    if !layers.lowers.is_empty() && !request.options.ids.is_plain() {
        let mapped = layers
            .lowers
            .iter()
            .map(|path| mountinfo::is_idmapped(path));
        let mapped: Vec<bool> = mapped.collect::<Result<_, _>>().context(|| "lowerdir")?;
        if mapped.into_iter().all(|is| is) {
            request.options.ids.clear_ranges();
        }
    }
    Ok(request)
}

/// The container that is meant, if one is. A name for a new container means that none is.
fn named_container(
    store: &Store,
    source: &Source,
    options: &MountOptions,
) -> Result<Option<Container>, Failure> {
    match source {
        Source::Container(name) => store.container(name).map(Some),
        Source::Any(name) if options.name.is_none() => Ok(store.container(name).ok()),
        _ => Ok(None),
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
fn check_mountpoint(root: &Path, mountpoint: &Path) -> Result<PathBuf, Failure> {
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
    let root = std::fs::canonicalize(root).unwrap_or_else(|_| root.to_path_buf());
    if path.starts_with(&root) {
        return Err(Failure::usage(format!(
            "mount point {shown} is inside the store"
        )));
    }
    Ok(path)
}
