//! Files between containers, the host and tar streams. A container that is mounted is reached through
//! its mount, so that what it shows stays right; one that is not, through its layers.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use super::live::{Pause, with_view};
use super::options::MountOptions;
use super::{mountinfo, stack};
use crate::archive::progress::Progress;
use crate::copy::rules::{
    HostPlace, copy, origin_in, origin_on_host, pack_path, target_in, unpack_path,
};
use crate::copy::{CopyOptions, HostTree, Links, MergedTree, TreeMut, Unpacked, pack};
use crate::error::{Context, Failure};
use crate::store::Store;
use crate::store::containers::{Container, MountRecord};

/// What is done with a container's tree.
trait Visitor {
    /// What comes of it.
    type Out;

    fn visit<T: TreeMut>(self, tree: &T) -> Result<Self::Out, Failure>;
}

/// Whether a container's tree is changed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    Write,
}

/// Shows a container's tree to somebody.
fn visit<V: Visitor>(
    store: &Store,
    container: &Container,
    access: Access,
    progress: &dyn Progress,
    visitor: V,
) -> Result<V::Out, Failure> {
    if let Some(record) = container.mounted_at(store)? {
        let place = reachable(container, &record)?;
        let tree = HostTree::open(&place)
            .context(|| format!("the mount at {}", record.mountpoint.display()))?;
        return visitor.visit(&tree);
    }
    if access == Access::Read {
        return with_view(store, container, Pause::Yes, progress, |_, view| {
            visitor.visit(&MergedTree::new(view.merged.clone()))
        });
    }
    // The claim is given up after the upper.
    let stack::Stack {
        union, container, ..
    } = stack::of_container(store, container, &MountOptions::default(), progress)?;
    let done = visitor.visit(&MergedTree::new(union.clone()));
    let synced = union.sync().map_err(Failure::from);
    drop(union);
    drop(container);
    let done = done?;
    synced.map(|()| done)
}

/// A mount's place as this process can reach it: it may be in the mount namespace of its daemon
/// only.
fn reachable(container: &Container, record: &MountRecord) -> Result<PathBuf, Failure> {
    if record.pid == 0 {
        return Err(Failure::conflict(format!(
            "container {} is just being mounted; try again",
            container.name
        )));
    }
    let ours = mountinfo::at(&record.mountpoint)?.is_some_and(|m| m.kind == "fuse.strata");
    if ours {
        return Ok(record.mountpoint.clone());
    }
    let inside = record.mountpoint.strip_prefix("/");
    let inside = inside.unwrap_or(&record.mountpoint);
    Ok(Path::new("/proc")
        .join(record.pid.to_string())
        .join("root")
        .join(inside))
}

/// Who owns what is copied into a container.
fn container_owner() -> Option<(u32, u32)> {
    // Others can't give anything to root.
    rustix::process::geteuid().is_root().then_some((0, 0))
}

struct CopyOut<'a> {
    from: &'a [u8],
    to: &'a Path,
    options: CopyOptions,
    progress: &'a dyn Progress,
}

impl Visitor for CopyOut<'_> {
    type Out = Unpacked;

    fn visit<T: TreeMut>(self, tree: &T) -> Result<Unpacked, Failure> {
        let origin = origin_in(tree, self.from, self.options)?;
        let place = HostPlace::at(self.to)?;
        let how = (self.options, Links::Refuse, None);
        copy(tree, &origin, &place.target(), how, self.progress)
    }
}

struct CopyIn<'a> {
    from: &'a Path,
    to: &'a [u8],
    options: CopyOptions,
    progress: &'a dyn Progress,
}

impl Visitor for CopyIn<'_> {
    type Out = Unpacked;

    fn visit<T: TreeMut>(self, tree: &T) -> Result<Unpacked, Failure> {
        let (host, origin) = origin_on_host(self.from, self.options)?;
        let target = target_in(tree, self.to)?;
        let how = (self.options, Links::Follow, container_owner());
        copy(&host, &origin, &target, how, self.progress)
    }
}

struct StreamOut<'a> {
    from: &'a [u8],
    options: CopyOptions,
    out: &'a mut dyn Write,
    progress: &'a dyn Progress,
}

impl Visitor for StreamOut<'_> {
    type Out = ();

    fn visit<T: TreeMut>(self, tree: &T) -> Result<(), Failure> {
        pack_path(tree, self.from, self.options, self.out, self.progress)
    }
}

struct StreamIn<'a> {
    input: &'a mut dyn Read,
    to: &'a [u8],
    progress: &'a dyn Progress,
}

impl Visitor for StreamIn<'_> {
    type Out = Unpacked;

    fn visit<T: TreeMut>(self, tree: &T) -> Result<Unpacked, Failure> {
        unpack_path(tree, self.to, self.input, self.progress)
    }
}

/// Copies `from` of a container to `to` on the host, by the rules of [`crate::copy::rules`].
///
/// # Errors
/// `NotFound`, `Conflict` or `Denied` where the rules or the file systems say so; `System`.
pub fn copy_from_container(
    store: &Store,
    (container, from): (&Container, &[u8]),
    to: &Path,
    options: CopyOptions,
    progress: &dyn Progress,
) -> Result<Unpacked, Failure> {
    let visitor = CopyOut {
        from,
        to,
        options,
        progress,
    };
    visit(store, container, Access::Read, progress, visitor)
}

/// Copies `from` of the host to `to` in a container.
///
/// # Errors
/// As [`copy_from_container`].
pub fn copy_to_container(
    store: &Store,
    from: &Path,
    (container, to): (&Container, &[u8]),
    options: CopyOptions,
    progress: &dyn Progress,
) -> Result<Unpacked, Failure> {
    let visitor = CopyIn {
        from,
        to,
        options,
        progress,
    };
    visit(store, container, Access::Write, progress, visitor)
}

/// Writes `from` of a container to a stream, as a tar.
///
/// # Errors
/// As [`copy_from_container`].
pub fn stream_from_container(
    store: &Store,
    (container, from): (&Container, &[u8]),
    options: CopyOptions,
    out: &mut dyn Write,
    progress: &dyn Progress,
) -> Result<(), Failure> {
    let visitor = StreamOut {
        from,
        options,
        out,
        progress,
    };
    visit(store, container, Access::Read, progress, visitor)
}

/// Unpacks a tar, compressed or not, into the directory `to` of a container.
///
/// # Errors
/// As [`copy_from_container`]; `Invalid` for an archive that can't be trusted.
pub fn stream_to_container(
    store: &Store,
    input: Box<dyn Read + Send>,
    (container, to): (&Container, &[u8]),
    progress: &dyn Progress,
) -> Result<Unpacked, Failure> {
    let (_, mut input) = crate::content::stream::decoder(input)?;
    let visitor = StreamIn {
        input: &mut input,
        to,
        progress,
    };
    visit(store, container, Access::Write, progress, visitor)
}

/// Writes the whole tree of a container as a tar: from its layers, also when it is mounted, whose
/// writers wait meanwhile. The same tree gives the same bytes.
///
/// ```
/// # use stratafs::archive::{Silent, import::{ImportOptions, import}};
/// # use stratafs::store::{Store, containers::NewContainer};
/// # use stratafs::mount::cp::export_container;
/// # let dir = tempfile::tempdir()?;
/// # let store = Store::open(dir.path())?;
/// # let tar = stratafs::tar::TarWriter::new(Vec::new()).finish()?;
/// let image = import(&store, &mut tar.as_slice(), &ImportOptions::default(), &Silent)?;
/// let image = store.find(&image.to_string())?;
/// let container = store.create_container(&image, "scratch", NewContainer::default())?;
/// let mut out = Vec::new();
/// export_container(&store, &container, &mut out, &Silent)?;
/// assert_eq!(out.len() % 512, 0);
/// # Ok::<(), stratafs::error::Failure>(())
/// ```
///
/// # Errors
/// `Conflict` when somebody else holds the mount; what reading and writing report.
pub fn export_container(
    store: &Store,
    container: &Container,
    out: &mut dyn Write,
    progress: &dyn Progress,
) -> Result<(), Failure> {
    with_view(store, container, Pause::Yes, progress, |_, view| {
        let tree = MergedTree::new(view.merged.clone());
        let root = crate::copy::Tree::root(&tree);
        pack(&tree, &root, b"", out, progress).map(drop)
    })
}
