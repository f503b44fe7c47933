//! Stacks: the layers of an image or container, or directories, put together.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};

use super::mountinfo;
use super::options::MountOptions;
use crate::archive::chain::ensure_image;
use crate::archive::progress::Progress;
use crate::commit::View;
use crate::content::{LayerData, ReadAt};
use crate::error::{Context, Errno, Error, Failure, FailureKind};
use crate::image::DiffId;
use crate::index::Index;
use crate::layer::Layer;
use crate::layer::dir::{DirForms, DirLayer};
use crate::layer::format::MarkSpace;
use crate::layer::image::ImageLayer;
use crate::store::containers::Container;
use crate::store::names::StoredImage;
use crate::store::{FileLock, Store};
use crate::union::{Union, UnionOptions, Upper};

/// A stack that is ready to be mounted, and what keeps it as it is.
pub struct Stack {
    /// The merged tree.
    pub union: Arc<Union>,
    /// What `/proc/mounts` shows as the source.
    pub source: String,
    /// The container, and the claim on it.
    pub container: Option<(Container, FileLock)>,
    /// Keeps a mounted image in the store.
    pub pin: Option<crate::store::Pin>,
}

/// The layers of an image, as one; none for an image without layers.
fn image_layers(
    store: &Store,
    image: &StoredImage,
    progress: &dyn Progress,
) -> Result<Vec<Arc<dyn Layer>>, Failure> {
    let path = ensure_image(store, image, progress)?;
    let index = Index::open(&path).map_err(|e| {
        Failure::from(e).context("this image can't be mounted; remove it and load it again")
    })?;
    let data = Arc::new(LayerFiles::open(store)?);
    Ok(vec![Arc::new(ImageLayer::new(index, data))])
}

/// The data of a store's layers, reached from descriptors: also when a mount is above the store.
struct LayerFiles {
    layers: OwnedFd,
    blobs: OwnedFd,
}

impl LayerFiles {
    fn open(store: &Store) -> Result<Self, Failure> {
        Ok(Self {
            layers: open_dir(&store.root().join("strata/layers"))?,
            blobs: open_dir(&store.root().join("blobs/sha256"))?,
        })
    }
}

impl LayerData for LayerFiles {
    fn open(&self, layer: &DiffId) -> Result<Arc<dyn ReadAt>, Error> {
        let hex = layer.0.hex();
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let open = |dir: &OwnedFd, name: &str| rustix::fs::openat(dir, name, flags, Mode::empty());
        let file = match open(&self.layers, &format!("{hex}.tar")) {
            Err(rustix::io::Errno::NOENT) => open(&self.blobs, &hex),
            other => other,
        };
        match file {
            Ok(fd) => Ok(Arc::new(File::from(fd))),
            Err(e) => {
                let text = format!("data of layer {layer}: {e}");
                Err(Error::with(Errno::EIO, text))
            }
        }
    }
}

/// How long a mount waits for the daemon of the one before, which may be on its way out.
pub(super) const HANDOVER: Duration = Duration::from_secs(5);

/// Claims a container; a moment later, if its mount is gone and only the daemon is still there.
fn claim(store: &Store, container: &Container) -> Result<FileLock, Failure> {
    let until = Instant::now() + HANDOVER;
    loop {
        let refused = match container.claim(store) {
            Err(e) if e.kind() == FailureKind::Conflict => e,
            other => return other,
        };
        let live = match container.mounted_at(store)? {
            Some(record) => mountinfo::at(&record.mountpoint)?.is_some(),
            None => false,
        };
        if live || Instant::now() >= until {
            return Err(refused);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Opens an upper for changing, as [`claim`] claims.
fn open_upper(
    upper: &Path,
    work: &Path,
    space: MarkSpace,
    volatile: bool,
) -> Result<Upper, Failure> {
    let until = Instant::now() + HANDOVER;
    loop {
        match Upper::open(upper, work, space, volatile) {
            Err(e) if e.errno() == Errno::EBUSY && Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(e) if e.errno() == Errno::EBUSY => return Err(Failure::conflict(e.to_string())),
            other => return Ok(other?),
        }
    }
}

fn options_of(store: &Store) -> Result<UnionOptions, Failure> {
    Ok(UnionOptions {
        statfs_dir: Some(open_dir(store.root())?),
        metacopy: true,
        ..UnionOptions::default()
    })
}

fn open_dir(path: &Path) -> Result<OwnedFd, Failure> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).context(|| path.display().to_string())
}

fn mark_space() -> MarkSpace {
    // Only root of the first user namespace may set trusted attributes.
    if rustix::process::geteuid().is_root() && !in_user_namespace() {
        MarkSpace::Trusted
    } else {
        MarkSpace::User
    }
}

fn in_user_namespace() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    !map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// An image's stack, read-only.
///
/// # Errors
/// `Invalid` when the image is damaged; `System`.
pub fn of_image(
    store: &Store,
    image: &StoredImage,
    progress: &dyn Progress,
) -> Result<Stack, Failure> {
    let pin = store.pin(&image.manifest)?;
    let layers = image_layers(store, image, progress)?;
    let union = Union::new(layers, None, options_of(store)?)?;
    let source = image
        .names
        .first()
        .map_or_else(|| image.id.to_string(), |n| n.familiar());
    Ok(Stack {
        union,
        source,
        container: None,
        pin: Some(pin),
    })
}

/// A container's stack, claimed.
///
/// # Errors
/// `Conflict` when it is mounted; `Invalid` when its image is damaged; `System`.
pub fn of_container(
    store: &Store,
    container: &Container,
    options: &MountOptions,
    progress: &dyn Progress,
) -> Result<Stack, Failure> {
    let claim = claim(store, container)?;
    let image = store.image_of_container(container)?;
    let layers = image_layers(store, &image, progress)?;
    let (upper, work) = (container.upper(store), container.work(store));
    let upper = if options.read_only {
        Upper::open_read_only(&upper, mark_space())?
    } else {
        open_upper(&upper, &work, mark_space(), options.volatile)?
    };
    let union = Union::new(layers, Some(upper), options_of(store)?)?;
    let source = container.name.clone();
    Ok(Stack {
        union,
        source,
        container: Some((container.clone(), claim)),
        pin: None,
    })
}

/// Two views of a container for a commit or a diff: as its image is, and as it is now. A live mount
/// of it must be held while they are used.
///
/// # Errors
/// `Invalid` when its image is damaged; `System`.
pub fn view(
    store: &Store,
    container: &Container,
    progress: &dyn Progress,
) -> Result<(StoredImage, View), Failure> {
    let image = store.image_of_container(container)?;
    let base = Union::new(
        image_layers(store, &image, progress)?,
        None,
        options_of(store)?,
    )?;
    let upper = Upper::open_read_only(&container.upper(store), mark_space())?;
    let layers = image_layers(store, &image, progress)?;
    let merged = Union::new(layers, Some(upper), options_of(store)?)?;
    Ok((image, View { base, merged }))
}

/// A stack of directories, as overlayfs's options name them.
///
/// # Errors
/// `Usage` for an upper without a work directory; `System` for a directory that can't be opened,
/// or is in use.
pub fn of_directories(options: &MountOptions) -> Result<Stack, Failure> {
    let space = if options.userxattr {
        MarkSpace::User
    } else {
        mark_space()
    };
    let mut layers: Vec<Arc<dyn Layer>> = Vec::new();
    for path in &options.lowers {
        let layer = DirLayer::open(path, DirForms { space, aufs: false });
        layers.push(Arc::new(
            layer.map_err(|e| Failure::from(e).context("lowerdir"))?,
        ));
    }
    let upper = match (&options.upper, &options.work) {
        (None, _) => None,
        (Some(_), None) => return Err(Failure::usage("upperdir needs a workdir beside it")),
        (Some(upper), Some(work)) if options.read_only => {
            Some(Upper::open_read_only(upper, space)?.with_link_index(work)?)
        }
        (Some(upper), Some(work)) => {
            Some(open_upper(upper, work, space, options.volatile)?.with_link_index(work)?)
        }
    };
    let first = options.lowers.first().map(|p| open_dir(p)).transpose()?;
    let union_options = UnionOptions {
        statfs_dir: first,
        metacopy: options.metacopy,
        ..UnionOptions::default()
    };
    let union = Union::new(layers, upper, union_options)?;
    Ok(Stack {
        union,
        source: "strata".into(),
        container: None,
        pin: None,
    })
}
