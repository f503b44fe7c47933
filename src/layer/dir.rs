//! A directory layer: a host directory in overlayfs's format. Every access stays beneath the
//! layer's root, from one directory descriptor to the next, one name at a time.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, Mode, OFlags};

use super::dir_fds::{LayerFds, on_file_system};
use super::dir_objects::DirObjects;
use super::dir_slots::{Listing, ROOT, Slots};
use super::format::{Mark, MarkSpace, decode_handle, encode_handle};
use super::history::Floor;
use super::owner_record::OwnerRecords;
use super::place::{Place, open_beneath, stat_from};
use super::{Contents, DirItem, Entry, Layer, LayerNode, Marks, NodeEntry};
use crate::error::{Errno, Error, Result};
use crate::name::{Name, NameBuf};
use crate::stat::{FileType, Stat, Timespec};
use crate::sync::Mutex;
use crate::sys::handle;
use crate::sys::mount::read_only_clone;

/// Prefix of AUFS's whiteouts.
const AUFS: &[u8] = b".wh.";
/// AUFS's mark of an opaque directory.
const AUFS_OPAQUE: &[u8] = b".wh..wh..opq";

/// fuse-overlayfs's names of `overlay.opaque`: with root's rights, without, and its own.
const OPAQUE_NAMES: [&str; 3] = [
    "trusted.overlay.opaque",
    "user.overlay.opaque",
    "user.fuseoverlayfs.opaque",
];

/// Which on-disk forms a directory layer knows besides overlayfs's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DirForms {
    /// Where overlayfs's marks are.
    pub space: MarkSpace,
    /// Read AUFS's whiteouts and opaque markers (`.wh.*`) too, and what fuse-overlayfs writes by
    /// whatever right it has. They hide real files of that name.
    pub aufs: bool,
    /// Read owner, mode and type from an attribute in layers whose root has one.
    pub records: bool,
}

/// A host directory as a layer.
pub struct DirLayer {
    root: Arc<OwnedFd>,
    /// Where it was opened; empty where only a descriptor was given.
    path: PathBuf,
    forms: DirForms,
    slots: Mutex<Slots>,
    fds: LayerFds,
    /// The layer's file system, as file handles name it.
    uuid: [u8; 16],
    /// Whether some character devices 0:0 are devices, and carry a mark that says so.
    devices: bool,
    records: OwnerRecords,
    /// Whether the root is in a mount that is read-only.
    guarded: bool,
    /// A readable descriptor for finding objects by handle, and their device; `None` where that
    /// isn't allowed.
    by_handle: Option<(Arc<OwnedFd>, u64)>,
}

impl DirLayer {
    /// Opens a layer, where the process may through a read-only clone of its mount, so that the
    /// kernel sees to it that the layer does not change.
    ///
    /// # Errors
    /// What open(2) reports.
    pub fn open(path: &Path, forms: DirForms) -> Result<Self> {
        if let Ok(tree) = read_only_clone(path) {
            let dir = rustix::fs::fstat(&tree)?;
            if FileType::from_mode(dir.st_mode) != Some(FileType::Directory) {
                return Err(Error::new(Errno::ENOTDIR).context(path.display()));
            }
            return Ok(Self::from_fd(tree, forms)?.named(path));
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|e| Error::from(e).context(path.display()))?;
        Ok(Self::from_fd(root, forms)?.named(path))
    }

    fn named(self, path: &Path) -> Self {
        let path = path.to_path_buf();
        Self { path, ..self }
    }

    /// A layer whose root is already open.
    ///
    /// # Errors
    /// What reading its attributes reports.
    pub fn from_fd(root: OwnedFd, forms: DirForms) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let readable = || Ok(rustix::fs::openat(&root, c".", flags, Mode::empty())?);
        let by_handle = on_file_system(&root, readable).ok();
        let root = Arc::new(root);
        let place = Place::Held(Arc::clone(&root));
        let mark = place.xattr(&forms.space.name(Mark::Device));
        let records = if forms.records {
            OwnerRecords::of_root(&place)?
        } else {
            OwnerRecords::default()
        };
        let mount = rustix::fs::fstatvfs(&root)?.f_flag;
        Ok(Self {
            guarded: mount.contains(rustix::fs::StatVfsMountFlags::RDONLY),
            devices: mark.is_ok_and(|m| m.is_some()),
            records,
            uuid: by_handle
                .as_ref()
                .map(|(fd, _)| handle::fs_uuid(fd))
                .unwrap_or_default(),
            by_handle,
            root,
            path: PathBuf::new(),
            forms,
            slots: Mutex::new(Slots::default()),
            fds: LayerFds::default(),
        })
    }

    /// Where overlayfs's marks are.
    pub(super) fn space(&self) -> MarkSpace {
        self.forms.space
    }

    /// Whether owner, mode and type are kept in an attribute here.
    #[must_use]
    pub fn has_records(&self) -> bool {
        self.records.is_on()
    }

    fn link(&self, node: LayerNode) -> Result<(LayerNode, NameBuf)> {
        let link = self.slots.lock().link(node);
        link.ok_or_else(|| Error::with(Errno::ESTALE, "a node of a directory layer"))
    }

    fn place(&self, node: LayerNode) -> Result<Place> {
        if node == ROOT {
            return Ok(Place::Held(Arc::clone(&self.root)));
        }
        let (parent, name) = self.link(node)?;
        Ok(Place::Named(self.fd(parent)?, name))
    }

    fn fd(&self, dir: LayerNode) -> Result<Arc<OwnedFd>> {
        if dir == ROOT {
            return Ok(Arc::clone(&self.root));
        }
        if let Some(fd) = self.fds.get(dir) {
            return Ok(fd);
        }
        self.open_dir(dir, OFlags::PATH)
    }

    fn open_dir(&self, dir: LayerNode, how: OFlags) -> Result<Arc<OwnedFd>> {
        let (parent, name) = self.link(dir)?;
        let parent = self.fd(parent)?;
        let fd = Arc::new(open_beneath(&parent, &name, how | OFlags::DIRECTORY)?);
        self.fds.put(dir, &fd);
        Ok(fd)
    }

    /// A directory's descriptor, and whether it was just opened, and can be read from its beginning.
    /// Whoever finds it in the cache reads it through one of their own.
    fn fd_to_list(&self, dir: LayerNode) -> Result<(Arc<OwnedFd>, bool)> {
        if dir == ROOT {
            return Ok((Arc::clone(&self.root), false));
        }
        if let Some(fd) = self.fds.get(dir) {
            return Ok((fd, false));
        }
        match self.open_dir(dir, OFlags::RDONLY) {
            Ok(fd) => Ok((fd, true)),
            Err(e) if e.errno() == Errno::EACCES => Ok((self.fd(dir)?, false)),
            Err(e) => Err(e),
        }
    }

    /// The marks of an object, and how to read it if it is a directory.
    fn marks(&self, place: &Place, stat: &Stat) -> Result<(Marks, Listing)> {
        let mut marks = place.marks(self.forms.space)?;
        // Cut to nothing, and a crash came before the mark was taken away.
        marks.metacopy &= stat.size > 0;
        let mut how = Listing::default();
        if stat.is_dir() {
            let opaque = self.forms.space.name(Mark::Opaque);
            how.xattr_whiteouts = !marks.opaque
                && !marks.no_xattrs
                && place.xattr(&opaque)?.is_some_and(|value| value == b"x");
            if self.forms.aufs && !marks.opaque {
                marks.opaque = exists(&*place.hold()?, AUFS_OPAQUE)?
                    || (!marks.no_xattrs && opaque_anyhow(place)?);
            }
        }
        Ok((marks, how))
    }

    fn is_whiteout(&self, place: &Place, stat: &Stat, how: Listing) -> Result<bool> {
        if stat.kind == FileType::CharDevice && stat.rdev == 0 {
            return Ok(
                !self.devices || place.xattr(&self.forms.space.name(Mark::Device))?.is_none()
            );
        }
        if how.xattr_whiteouts && stat.kind == FileType::Regular && stat.size == 0 {
            return Ok(place
                .xattr(&self.forms.space.name(Mark::Whiteout))?
                .is_some());
        }
        Ok(false)
    }

    fn item(&self, dir: &Arc<OwnedFd>, how: Listing, raw: RawItem<'_>) -> Result<Option<FileType>> {
        let plain = match raw.kind {
            Some(FileType::CharDevice) | None => false,
            Some(FileType::Regular) => !how.xattr_whiteouts && !self.records.is_on(),
            Some(_) => true,
        };
        if plain {
            return Ok(raw.kind);
        }
        let name = raw.name.as_os_str();
        let stat = stat_from(&rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?)?;
        let place = Place::Named(Arc::clone(dir), raw.name.into());
        if self.is_whiteout(&place, &stat, how)? {
            return Ok(None);
        }
        Ok(Some(self.records.shown(&place, stat)?.kind))
    }
}

#[derive(Clone, Copy)]
struct RawItem<'a> {
    name: &'a Name,
    kind: Option<FileType>,
}

fn exists(dir: &OwnedFd, name: &[u8]) -> Result<bool> {
    match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => Ok(true),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NAMETOOLONG) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// Whether any of the names that fuse-overlayfs gives the mark says that a directory is opaque.
fn opaque_anyhow(place: &Place) -> Result<bool> {
    for name in place.xattr_names()? {
        if OPAQUE_NAMES.iter().any(|n| name == *n)
            && place.xattr(&name)?.is_some_and(|value| value == b"y")
        {
            return Ok(true);
        }
    }
    Ok(false)
}

impl Layer for DirLayer {
    fn root(&self) -> Result<NodeEntry> {
        let stat = self.stat(ROOT)?;
        Ok(NodeEntry {
            node: ROOT,
            stat,
            marks: Marks::default(),
        })
    }

    fn lookup(&self, dir: LayerNode, name: &Name) -> Result<Option<Entry>> {
        let fd = self.fd(dir)?;
        let how = self.slots.lock().listing(dir);
        if self.forms.aufs {
            if name.as_bytes().starts_with(AUFS) {
                return Ok(None);
            }
            if !how.no_aufs && exists(&fd, &[AUFS, name.as_bytes()].concat())? {
                return Ok(Some(Entry::Whiteout));
            }
        }
        let st = match rustix::fs::statat(&fd, name.as_os_str(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(st) => st,
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        let stat = stat_from(&st)?;
        let place = Place::Named(fd, name.into());
        if self.is_whiteout(&place, &stat, how)? {
            return Ok(Some(Entry::Whiteout));
        }
        let (marks, how) = self.marks(&place, &stat)?;
        let stat = self.records.shown(&place, stat)?;
        let node = self.slots.lock().take(dir, name, how);
        Ok(Some(Entry::Node(NodeEntry { node, stat, marks })))
    }

    fn read_dir(
        &self,
        dir: LayerNode,
        each: &mut dyn FnMut(DirItem<'_>) -> Result<()>,
    ) -> Result<()> {
        let (fd, fresh) = self.fd_to_list(dir)?;
        let how = self.slots.lock().listing(dir);
        let mut no_aufs = true;
        let each = |bytes: &[u8], raw: rustix::fs::FileType, ino: u64| {
            if self.forms.aufs
                && let Some(hidden) = bytes.strip_prefix(AUFS)
            {
                no_aufs = false;
                return match Name::from_bytes(hidden) {
                    Ok(name) if !hidden.starts_with(AUFS) => each(DirItem {
                        name,
                        kind: None,
                        ino: 0,
                    }),
                    _ => Ok(()),
                };
            }
            let name = Name::from_bytes(bytes)?;
            let kind = FileType::from_mode(raw.as_raw_mode());
            let kind = self.item(&fd, how, RawItem { name, kind })?;
            each(DirItem { name, kind, ino })
        };
        match fresh {
            true => crate::sys::dir::list_on(&fd, each)?,
            false => crate::sys::dir::list(&fd, each)?,
        }
        if self.forms.aufs && no_aufs {
            self.slots.lock().has_no_aufs(dir);
        }
        Ok(())
    }

    fn stat(&self, node: LayerNode) -> Result<Stat> {
        let place = self.place(node)?;
        self.records.shown(&place, place.stat()?)
    }

    fn birth_time(&self, node: LayerNode) -> Result<Option<Timespec>> {
        self.place(node)?.birth_time()
    }

    fn read_link(&self, node: LayerNode) -> Result<Box<[u8]>> {
        Ok(self.place(node)?.read_link()?.into())
    }

    fn xattr(&self, node: LayerNode, name: &[u8]) -> Result<Option<Box<[u8]>>> {
        let name = <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(name);
        Ok(self.place(node)?.xattr(name)?.map(Vec::into_boxed_slice))
    }

    fn xattr_names(&self, node: LayerNode) -> Result<Vec<Box<[u8]>>> {
        let names = self.place(node)?.xattr_names()?;
        let bytes = names
            .into_iter()
            .map(std::os::unix::ffi::OsStringExt::into_vec);
        Ok(bytes.map(Vec::into_boxed_slice).collect())
    }

    fn open(&self, node: LayerNode) -> Result<Contents> {
        let place = self.place(node)?;
        if place.stat()?.kind != FileType::Regular {
            return Err(Error::new(Errno::EINVAL));
        }
        let file: File =
            place
                .open(OFlags::RDONLY | OFlags::NOATIME)
                .or_else(|e| match e.errno() {
                    // Only the owner may leave the access time still.
                    Errno::EPERM => place.open(OFlags::RDONLY),
                    _ => Err(e),
                })?;
        Ok(Contents::File(Arc::new(file)))
    }

    fn is_guarded(&self) -> bool {
        self.guarded
    }

    fn dir_path(&self, dir: LayerNode) -> Result<Option<Vec<NameBuf>>> {
        let slots = self.slots.lock();
        let mut path = Vec::new();
        let mut at = dir;
        while let Some((parent, name)) = slots.link(at) {
            path.push(name);
            at = parent;
        }
        path.reverse();
        Ok((at == ROOT).then_some(path))
    }

    fn floors(&self) -> Result<Vec<Floor<'_>>> {
        Ok(vec![Floor::of_dir(&self.path, DirObjects::new(self))])
    }

    fn host_dev(&self) -> Option<u64> {
        Some(rustix::fs::fstat(&self.root).ok()?.st_dev)
    }

    fn host_origin(&self, node: LayerNode) -> Option<Box<[u8]>> {
        let handle = self.place(node).ok()?.handle().ok()?;
        encode_handle(&self.uuid, &handle)
    }

    fn host_ino(&self, origin: &[u8]) -> Option<u64> {
        let (uuid, handle) = decode_handle(origin)?;
        let (mount, dev) = self.by_handle.as_ref()?;
        if uuid != self.uuid {
            return None;
        }
        let st = rustix::fs::fstat(handle::open(mount, &handle).ok()?).ok()?;
        (st.st_dev == *dev).then_some(st.st_ino)
    }

    fn retain(&self, node: LayerNode) {
        self.slots.lock().retain(node);
    }

    fn forget(&self, node: LayerNode) {
        let gone = self.slots.lock().forget(node);
        self.fds.remove(&gone);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(layer: &DirLayer, dir: LayerNode, name: &str) -> Option<Entry> {
        layer.lookup(dir, Name::new(name).unwrap()).unwrap()
    }

    #[test]
    fn nodes_go_when_they_are_given_back() {
        let tmp = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(tmp.path().join("a/b")).unwrap();
        std::fs::write(tmp.path().join("a/b/f"), b"x").unwrap();
        let layer = DirLayer::open(tmp.path(), DirForms::default()).unwrap();
        let Some(Entry::Node(a)) = entry(&layer, ROOT, "a") else {
            panic!()
        };
        let Some(Entry::Node(b)) = entry(&layer, a.node, "b") else {
            panic!()
        };
        let Some(Entry::Node(f)) = entry(&layer, b.node, "f") else {
            panic!()
        };
        assert_eq!(layer.slots.lock().len(), 3);
        layer.forget(a.node);
        layer.forget(b.node);
        assert_eq!(layer.slots.lock().len(), 3, "f keeps its parents");
        assert_eq!(layer.stat(f.node).unwrap().size, 1);
        layer.forget(f.node);
        assert_eq!(layer.slots.lock().len(), 0);
    }

    #[test]
    fn a_directory_is_listed_whole_again_and_again() {
        let tmp = tempfile::tempdir().unwrap();
        let sub = tmp.path().join("sub");
        std::fs::create_dir(&sub).unwrap();
        for n in 0..3000 {
            std::fs::write(sub.join(format!("a rather long name {n}")), b"").unwrap();
        }
        let layer = DirLayer::open(tmp.path(), DirForms::default()).unwrap();
        let Some(Entry::Node(dir)) = entry(&layer, ROOT, "sub") else {
            panic!()
        };
        let count = || {
            let mut count = 0;
            let mut each = |_: DirItem<'_>| {
                count += 1;
                Ok(())
            };
            layer.read_dir(dir.node, &mut each).map(|()| count).unwrap()
        };
        assert_eq!(
            layer.fds.get(dir.node).map(|_| ()),
            None,
            "the first to open it"
        );
        // By whom it is opened, out of the cache, and after a listing that ended early.
        assert_eq!([count(), count()], [3000, 3000]);
        layer.fds.remove(&[dir.node]);
        let stop = &mut |_: DirItem<'_>| Err(Errno::EINTR.into());
        layer.read_dir(dir.node, stop).unwrap_err();
        assert_eq!(count(), 3000);
        assert!(entry(&layer, dir.node, "a rather long name 2999").is_some());
        layer.fds.remove(&[dir.node]);
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(count)).collect();
            for thread in threads {
                assert_eq!(thread.join().unwrap(), 3000);
            }
        });
    }

    #[test]
    fn aufs_names_hide_only_when_asked_for() {
        let tmp = tempfile::tempdir().unwrap();
        for name in ["keep", ".wh.keep", ".wh..wh..opq"] {
            std::fs::write(tmp.path().join(name), b"").unwrap();
        }
        let names = |layer: &DirLayer| {
            let mut names = Vec::new();
            layer
                .read_dir(ROOT, &mut |item| {
                    names.push((item.name.to_string(), item.kind.is_some()));
                    Ok(())
                })
                .unwrap();
            names.sort();
            names
        };
        let plain = DirLayer::open(tmp.path(), DirForms::default()).unwrap();
        assert_eq!(names(&plain).len(), 3);
        assert!(matches!(entry(&plain, ROOT, "keep"), Some(Entry::Node(_))));
        let forms = DirForms {
            aufs: true,
            ..DirForms::default()
        };
        let aufs = DirLayer::open(tmp.path(), forms).unwrap();
        assert_eq!(entry(&aufs, ROOT, "keep"), Some(Entry::Whiteout));
        assert!(names(&aufs).contains(&("keep".into(), false)));
    }

    #[test]
    fn what_fuse_overlayfs_marks_is_opaque_when_asked_for() {
        let tmp = tempfile::tempdir().unwrap();
        for name in ["user.fuseoverlayfs.opaque", "user.overlay.opaque"] {
            let dir = tmp.path().join(name);
            std::fs::create_dir(&dir).unwrap();
            rustix::fs::setxattr(&dir, name, b"y", rustix::fs::XattrFlags::empty()).unwrap();
        }
        let opaque = |aufs, name: &str| {
            let space = MarkSpace::Trusted;
            let layer = DirLayer::open(
                tmp.path(),
                DirForms {
                    space,
                    aufs,
                    ..DirForms::default()
                },
            )
            .unwrap();
            let Some(Entry::Node(found)) = entry(&layer, ROOT, name) else {
                panic!()
            };
            found.marks.opaque
        };
        for name in ["user.fuseoverlayfs.opaque", "user.overlay.opaque"] {
            assert!(opaque(true, name) && !opaque(false, name), "{name}");
        }
    }
}
