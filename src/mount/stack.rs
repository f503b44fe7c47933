//! Stacks: the layers of an image or container, or directories, put together.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};

use super::mountinfo;
use super::options::{MountOptions, Switch, Verity};
use super::source::Layers;
use crate::archive::chain::{ensure_chain, ensure_image};
use crate::archive::progress::{Progress, Silent};
use crate::commit::View;
use crate::commit::changes::Base;
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
    /// The container, if it is one's.
    pub container: Option<Claimed>,
    /// Keeps a mounted image in the store.
    pub pin: Option<crate::store::Pin>,
}

/// A container that is mounted by this process.
pub struct Claimed {
    /// Its store.
    pub store: Store,
    /// The container.
    pub container: Container,
    /// Keeps others from mounting it.
    pub claim: FileLock,
}

/// The layers of an image, as one; none for an image without layers.
fn image_layers(
    store: &Store,
    image: &StoredImage,
    progress: &dyn Progress,
) -> Result<Vec<Arc<dyn Layer>>, Failure> {
    let path = ensure_image(store, image, progress)?;
    chain_layers(store, &path)
}

/// The stack of an index, as one layer.
fn chain_layers(store: &Store, path: &Path) -> Result<Vec<Arc<dyn Layer>>, Failure> {
    let index = Index::open(path).map_err(|e| {
        Failure::from(e).context("this image can't be mounted; remove it and load it again")
    })?;
    let data = Arc::new(LayerFiles::open(store)?);
    let layer = ImageLayer::new(index, data).with_objects(Arc::new(store.objects()?));
    Ok(vec![Arc::new(layer)])
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

fn open_in(dir: &OwnedFd, name: &str) -> rustix::io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::empty()).map(File::from)
}

fn gone(what: &str, layer: &DiffId, why: rustix::io::Errno) -> Error {
    Error::with(Errno::EIO, format!("{what} of layer {layer}: {why}"))
}

impl LayerData for LayerFiles {
    fn open(&self, layer: &DiffId) -> Result<Arc<dyn ReadAt>, Error> {
        let hex = layer.0.hex();
        let file = match open_in(&self.layers, &format!("{hex}.tar")) {
            Err(rustix::io::Errno::NOENT) => open_in(&self.blobs, &hex),
            other => other,
        };
        match file {
            Ok(file) => Ok(Arc::new(file)),
            Err(e) => Err(gone("data", layer, e)),
        }
    }

    fn index(&self, layer: &DiffId) -> Result<File, Error> {
        let file = open_in(&self.layers, &format!("{}.index", layer.0.hex()));
        file.map_err(|e| gone("index", layer, e))
    }
}

/// How long a mount waits for the daemon of the one before, which may be on its way out.
pub(super) const HANDOVER: Duration = Duration::from_secs(60);

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

/// Why an upper can't be opened for changing.
enum OpenUpper {
    ReadOnly(Failure),
    Other(Failure),
}

impl From<OpenUpper> for Failure {
    fn from(why: OpenUpper) -> Self {
        match why {
            OpenUpper::ReadOnly(failure) | OpenUpper::Other(failure) => failure,
        }
    }
}

/// Opens an upper for changing, as [`claim`] claims.
fn open_upper(
    upper: &Path,
    work: &Path,
    space: MarkSpace,
    volatile: bool,
) -> Result<Upper, OpenUpper> {
    let until = Instant::now() + HANDOVER;
    loop {
        let error = match Upper::open(upper, work, space, volatile) {
            Ok(upper) => return Ok(upper),
            Err(e) => e,
        };
        match error.errno() {
            Errno::EBUSY if Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Errno::EBUSY => return Err(OpenUpper::Other(Failure::conflict(error.to_string()))),
            Errno::EROFS => return Err(OpenUpper::ReadOnly(of_path(error))),
            _ => return Err(OpenUpper::Other(of_path(error))),
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

/// An image's stack, read-only.
///
/// # Errors
/// `Invalid` when the image is damaged; `System`.
pub fn of_image(
    store: &Store,
    image: &StoredImage,
    options: &MountOptions,
    progress: &dyn Progress,
) -> Result<Stack, Failure> {
    let pin = store.pin(&image.manifest)?;
    let layers = image_layers(store, image, progress)?;
    let union_options = UnionOptions {
        nodes: options.nodes,
        ..options_of(store)?
    };
    let union = Union::new(layers, None, union_options)?;
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
        Upper::open_read_only(&upper, MarkSpace::native())?
    } else {
        open_upper(&upper, &work, MarkSpace::native(), options.volatile)?
    };
    let union_options = UnionOptions {
        nodes: options.nodes,
        ..options_of(store)?
    };
    let union = Union::new(layers, Some(upper), union_options)?;
    let source = container.name.clone();
    Ok(Stack {
        union,
        source,
        container: Some(Claimed {
            store: store.clone(),
            container: container.clone(),
            claim,
        }),
        pin: None,
    })
}

/// Gives the root of a new container, which the caller has claimed, the attributes of its image's:
/// the first mount does it otherwise.
///
/// # Errors
/// `Invalid` when its image is damaged; `System`.
pub fn adopt_root(store: &Store, container: &Container) -> Result<(), Failure> {
    let image = store.image_of_container(container)?;
    let (upper, work) = (container.upper(store), container.work(store));
    let upper = match open_upper(&upper, &work, MarkSpace::native(), true) {
        Ok(upper) => upper,
        // The container can't change, and is looked at as it is.
        Err(OpenUpper::ReadOnly(_)) => return Ok(()),
        Err(e) => return Err(e.into()),
    };
    let layers = image_layers(store, &image, &Silent)?;
    Union::new(layers, Some(upper), options_of(store)?)?;
    Ok(())
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
    view_above(store, container, 0, progress)
}

/// As [`view`], but the image is without its `fold` uppermost layers.
///
/// # Errors
/// As [`view`].
pub fn view_above(
    store: &Store,
    container: &Container,
    fold: usize,
    progress: &dyn Progress,
) -> Result<(StoredImage, View), Failure> {
    let image = store.image_of_container(container)?;
    let diff_ids = &image.config.rootfs.diff_ids;
    let kept = diff_ids.len().saturating_sub(fold);
    let all = image_layers(store, &image, progress)?;
    let base = if fold == 0 {
        Base::Lowers(Union::new(all, None, options_of(store)?)?)
    } else if kept == 0 {
        Base::Nothing
    } else {
        // The layers have their indexes; their stack may not have had one yet.
        let path = ensure_chain(store, diff_ids.get(..kept).unwrap_or_default())?;
        Base::Lowest(Union::new(
            chain_layers(store, &path)?,
            None,
            options_of(store)?,
        )?)
    };
    let upper = Upper::open_read_only(&container.upper(store), MarkSpace::native())?;
    let layers = image_layers(store, &image, progress)?;
    let merged = Union::new(layers, Some(upper), options_of(store)?)?;
    let view = View { base, merged, kept };
    Ok((image, view))
}

/// A stack of layers given one by one: directories, as overlayfs's options name them, and perhaps
/// an image of the store below them.
///
/// # Errors
/// `Usage` for directories that can't be together; `Conflict` for an upper in use; `NotFound` for an
/// unknown image; `System` for a directory that can't be opened.
pub fn of_layers(
    store: &dyn Fn() -> Result<Store, Failure>,
    layers: &Layers,
    options: &MountOptions,
    progress: &dyn Progress,
) -> Result<Stack, Failure> {
    if matches!(options.verity, Some(Verity::On | Verity::Require)) {
        return Err(Failure::usage(
            "mount option verity: digests of files are not checked here; leave it out",
        ));
    }
    check_apart(layers)?;
    let space = if options.userxattr {
        MarkSpace::User
    } else {
        MarkSpace::native()
    };
    let forms = DirForms {
        space,
        aufs: options.aufs,
        records: options.aufs || options.xattr_permissions.is_some(),
    };
    let (mut lowers, records) = open_layers(&layers.lowers, forms)?;
    let mut pin = None;
    if let Some(name) = &layers.image {
        let store = store()?;
        let image = store.find(name)?;
        pin = Some(store.pin(&image.manifest)?);
        lowers.extend(image_layers(&store, &image, progress)?);
    }
    let upper = match (&layers.upper, &layers.work) {
        (Some(upper), Some(work)) => Some(open_upper_for(upper, work, space, options)?),
        _ => None,
    };
    let first = layers.lowers.first().map(|p| open_dir(p)).transpose()?;
    let union_options = UnionOptions {
        statfs_dir: first,
        metacopy: options.metacopy.is_some_and(Switch::is_on),
        redirect: options.redirect_dir.unwrap_or_default(),
        data_lowers: open_layers(&layers.data_lowers, forms)?.0,
        nodes: options.nodes,
        owner_records: records || upper.as_ref().is_some_and(Upper::has_records),
    };
    let union = Union::new(lowers, upper, union_options)?;
    Ok(Stack {
        union,
        source: layers.label(),
        container: None,
        pin,
    })
}

/// Opens directories as layers, and tells whether some keep owner and mode in an attribute.
fn open_layers(paths: &[PathBuf], forms: DirForms) -> Result<(Vec<Arc<dyn Layer>>, bool), Failure> {
    let mut layers: Vec<Arc<dyn Layer>> = Vec::with_capacity(paths.len());
    let mut records = false;
    for path in paths {
        let layer = DirLayer::open(path, forms);
        let layer = layer.map_err(|e| of_path(e).context("lowerdir"))?;
        records |= layer.has_records();
        layers.push(Arc::new(layer));
    }
    Ok((layers, records))
}

/// Opens the upper of directory layers. One on a file system that is read-only is only looked at;
/// `-o ro` alone leaves a later `remount,rw` possible.
fn open_upper_for(
    upper: &Path,
    work: &Path,
    space: MarkSpace,
    options: &MountOptions,
) -> Result<Upper, Failure> {
    let opened = match open_upper(upper, work, space, options.volatile) {
        Err(OpenUpper::ReadOnly(_)) if options.read_only => {
            Upper::open_read_only(upper, space).map_err(|e| of_path(e).context("upperdir"))
        }
        other => Ok(other?),
    }?;
    let opened = match options.index {
        Some(Switch::Off) => opened,
        _ => opened.with_link_index(work).map_err(of_path)?,
    };
    if options.aufs || options.xattr_permissions.is_some() {
        return opened
            .with_owner_records(options.xattr_permissions)
            .map_err(|e| of_path(e).context("mount option xattr_permissions"));
    }
    Ok(opened)
}

/// The directories of a writable layer are beside each other, and not in or around a lower.
fn check_apart(layers: &Layers) -> Result<(), Failure> {
    let (Some(upper), Some(work)) = (&layers.upper, &layers.work) else {
        return Ok(());
    };
    let real = |what: &str, path: &Path| {
        std::fs::canonicalize(path)
            .map_err(|e| of_path(Error::from(e).context(path.display())).context(what))
    };
    let (real_upper, real_work) = (real("upperdir", upper)?, real("workdir", work)?);
    let clash = |a: &Path, b: &Path| a.starts_with(b) || b.starts_with(a);
    if clash(&real_upper, &real_work) {
        return Err(Failure::usage(format!(
            "upperdir {} and workdir {} must not be inside each other",
            upper.display(),
            work.display()
        )));
    }
    for lower in layers.lowers.iter().chain(&layers.data_lowers) {
        let real_lower = real("lowerdir", lower)?;
        if clash(&real_upper, &real_lower) || clash(&real_work, &real_lower) {
            return Err(Failure::usage(format!(
                "lowerdir {} and upperdir {} or its workdir must not be inside each other: lower \
                 layers don't change",
                lower.display(),
                upper.display()
            )));
        }
    }
    Ok(())
}

/// An error about a path, in its class.
fn of_path(error: Error) -> Failure {
    let kind = match error.errno() {
        Errno::ENOENT | Errno::ENOTDIR => FailureKind::NotFound,
        Errno::EACCES | Errno::EPERM => FailureKind::Denied,
        _ => FailureKind::System,
    };
    Failure::new(kind, error.to_string())
}
