//! [`Upper`]: the writable layer and its work directory.

use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::fs::{
    AtFlags, FileType as RawType, FlockOperation, Mode, OFlags, RenameFlags as RawRename,
    XattrFlags,
};
use rustix::io::Errno as RawErrno;

use super::linked::LinkIndex;
use crate::error::{Errno, Error, Result};
use crate::layer::Marks;
use crate::layer::format::{Mark, MarkSpace};
use crate::layer::owner_record::{OwnerRecords, RecordName};
use crate::layer::place::{Place, open_beneath, stat_from};
use crate::name::Name;
use crate::stat::{FileType, Stat};
use crate::sync::Mutex;

/// What the upper has under a name.
pub(super) enum UpperEntry {
    Whiteout,
    Node { stat: Stat, marks: Marks },
}

/// The writable layer: a directory in overlayfs's format, and a work directory on the same file
/// system, where objects are built before they are renamed into place.
pub struct Upper {
    root: Arc<OwnedFd>,
    /// `None`: for looking only.
    work: Option<Arc<OwnedFd>>,
    space: MarkSpace,
    /// Whether copied-up data may be lost in a crash (`volatile`).
    volatile: bool,
    next_temp: AtomicU64,
    /// Whether some character devices 0:0 are devices.
    devices: AtomicBool,
    /// Owner, mode and type that are kept beside the inodes.
    records: OwnerRecords,
    /// Files of directory layers that have several names, once copied up.
    links: Option<LinkIndex>,
    /// Whether `work/whiteout`, of which all whiteouts are hard links, has been made.
    whiteout: Mutex<bool>,
}

/// The device that every whiteout links to, in the work directory.
const WHITEOUT: &str = "whiteout";

impl Upper {
    /// Opens an upper for changing. What an earlier daemon left half-built in `work` is removed.
    ///
    /// # Errors
    /// `EXDEV` when the two are on different file systems, `EBUSY` when another daemon uses them,
    /// and what opening them reports.
    pub fn open(upper: &Path, work: &Path, space: MarkSpace, volatile: bool) -> Result<Self> {
        let mut this = Self::open_read_only(upper, space)?;
        let about = |e: RawErrno| Error::from(e).context(work.display());
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let outer = rustix::fs::open(work, flags, Mode::empty()).map_err(about)?;
        if rustix::fs::fstat(&outer)?.st_dev != rustix::fs::fstat(&this.root)?.st_dev {
            return Err(Error::with(
                Errno::EXDEV,
                format!(
                    "{}: not on the file system of the upper directory",
                    work.display()
                ),
            ));
        }
        match rustix::fs::mkdirat(&outer, c"work", Mode::RWXU) {
            Ok(()) | Err(RawErrno::EXIST) => {}
            Err(e) => return Err(about(e)),
        }
        let inner = rustix::fs::openat(&outer, c"work", flags, Mode::empty()).map_err(about)?;
        rustix::fs::flock(&inner, FlockOperation::NonBlockingLockExclusive).map_err(
            |e| match e {
                RawErrno::WOULDBLOCK => Error::with(
                    Errno::EBUSY,
                    format!("{}: in use by another mount", work.display()),
                ),
                e => about(e),
            },
        )?;
        clear(&inner)?;
        this.work = Some(Arc::new(inner));
        this.volatile = volatile;
        Ok(this)
    }

    /// Opens an upper for looking only.
    ///
    /// # Errors
    /// What opening it reports.
    pub fn open_read_only(upper: &Path, space: MarkSpace) -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(upper, flags, Mode::empty())
            .map_err(|e| Error::from(e).context(upper.display()))?;
        let root = Arc::new(root);
        let mark = Place::Held(Arc::clone(&root)).xattr(&space.name(Mark::Device));
        Ok(Self {
            devices: AtomicBool::new(mark.is_ok_and(|m| m.is_some())),
            root,
            work: None,
            space,
            volatile: false,
            records: OwnerRecords::default(),
            next_temp: AtomicU64::new(0),
            links: None,
            whiteout: Mutex::new(false),
        })
    }

    /// Keeps hard links of directory layers over copy-up, by overlayfs's `index` in the work
    /// directory. For looking only, an index that is there is read.
    ///
    /// # Errors
    /// What making and reading it reports.
    pub fn with_link_index(mut self, work: &Path) -> Result<Self> {
        let path = work.join("index");
        if !self.is_read_only() {
            match rustix::fs::mkdir(&path, Mode::RWXU) {
                Ok(()) | Err(RawErrno::EXIST) => {}
                Err(e) => return Err(Error::from(e).context(path.display())),
            }
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::open(&path, flags, Mode::empty()) {
            Ok(dir) => self.links = Some(LinkIndex::new(dir)?),
            Err(RawErrno::NOENT) if self.is_read_only() => {}
            Err(e) => return Err(Error::from(e).context(path.display())),
        }
        Ok(self)
    }

    /// Keeps owner, mode and type in an attribute: in this one, or in the one that the root has
    /// already; without a name only in that.
    ///
    /// # Errors
    /// What reading and writing the root's attributes reports.
    pub fn with_owner_records(mut self, name: Option<RecordName>) -> Result<Self> {
        let root = Place::Held(self.root());
        let records = OwnerRecords::of_root(&root)?;
        self.records = match name {
            Some(name) if !records.is_on() && !self.is_read_only() => {
                OwnerRecords::begin(name, &root)?
            }
            _ => records,
        };
        Ok(self)
    }

    /// Whether owner, mode and type are kept in an attribute.
    #[must_use]
    pub fn has_records(&self) -> bool {
        self.records.is_on()
    }

    /// The attributes of an object as the merged tree shows them.
    pub(super) fn stat(&self, place: &Place) -> Result<Stat> {
        self.records.shown(place, place.stat()?)
    }

    /// Changes the owner of an object.
    pub(super) fn chown(&self, place: &Place, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
        if !self.has_records() {
            return place.chown(uid, gid);
        }
        let mut stat = self.stat(place)?;
        stat.uid = uid.unwrap_or(stat.uid);
        stat.gid = gid.unwrap_or(stat.gid);
        self.records.write(place, &stat)
    }

    /// Changes the mode of an object that is no symbolic link.
    pub(super) fn chmod(&self, place: &Place, perm: u32) -> Result<()> {
        if !self.has_records() {
            return place.chmod(perm);
        }
        let mut stat = self.stat(place)?;
        stat.perm = perm & 0o7777;
        self.records.write(place, &stat)
    }

    /// Gives an object under construction these attributes, as far as records keep them.
    pub(super) fn record(&self, place: &Place, stat: &Stat) -> Result<()> {
        self.records.write(place, stat)
    }

    pub(super) fn link_index(&self) -> Option<&LinkIndex> {
        self.links.as_ref()
    }

    /// Whether this upper was opened for looking only.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.work.is_none()
    }

    /// The device of the upper's file system.
    pub(super) fn device(&self) -> Result<u64> {
        Ok(rustix::fs::fstat(&self.root)?.st_dev)
    }

    pub(super) fn root(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.root)
    }

    pub(super) fn space(&self) -> MarkSpace {
        self.space
    }

    pub(super) fn volatile(&self) -> bool {
        self.volatile
    }

    pub(super) fn work(&self) -> Result<&Arc<OwnedFd>> {
        self.work.as_ref().ok_or_else(|| Error::new(Errno::EROFS))
    }

    /// A name that nothing in `work` has.
    pub(super) fn temp_name(&self) -> OsString {
        format!("#{:x}", self.next_temp.fetch_add(1, Ordering::Relaxed)).into()
    }

    /// What `name` is in an upper directory.
    pub(super) fn entry(&self, dir: &Arc<OwnedFd>, name: &Name) -> Result<Option<UpperEntry>> {
        match self.raw_entry(dir, name)? {
            Some(stat) => self.decoded(dir, name, stat).map(Some),
            None => Ok(None),
        }
    }

    /// What is on disk under a name of an upper directory.
    pub(super) fn raw_entry(&self, dir: &OwnedFd, name: &Name) -> Result<Option<Stat>> {
        match rustix::fs::statat(dir, name.as_os_str(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(st) => stat_from(&st).map(Some),
            Err(RawErrno::NOENT) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// What an object on disk means.
    pub(super) fn decoded(
        &self,
        dir: &Arc<OwnedFd>,
        name: &Name,
        stat: Stat,
    ) -> Result<UpperEntry> {
        let place = Place::Named(Arc::clone(dir), name.into());
        if self.is_whiteout(&place, &stat)? {
            return Ok(UpperEntry::Whiteout);
        }
        let mut marks = place.marks(self.space)?;
        if marks.metacopy && stat.size == 0 {
            // It was cut to nothing, and a crash came before the mark was taken away. An empty file has
            // no data elsewhere; with the mark, what is written to it next would be lost.
            if !self.is_read_only() {
                drop_mark(&place, &self.space.name(Mark::Metacopy))?;
            }
            marks.metacopy = false;
        }
        let stat = self.records.shown(&place, stat)?;
        Ok(UpperEntry::Node { stat, marks })
    }

    /// A character device 0:0 is a whiteout unless a mark says that it is a device.
    pub(super) fn is_whiteout(&self, place: &Place, stat: &Stat) -> Result<bool> {
        if !is_null_device(stat) {
            return Ok(false);
        }
        let marked = self.devices.load(Ordering::Relaxed)
            && place.xattr(&self.space.name(Mark::Device))?.is_some();
        Ok(!marked)
    }

    /// Marks a character device 0:0, under construction in `work`, as a device.
    ///
    /// # Errors
    /// `EPERM` where marks are `user.*` attributes, which devices can't have.
    pub(super) fn mark_device(&self, place: &Place) -> Result<()> {
        if self.space == MarkSpace::User {
            return Err(Error::new(Errno::EPERM));
        }
        let mark = self.space.name(Mark::Device);
        if !self.devices.load(Ordering::Relaxed) {
            let root = Place::Held(self.root());
            root.set_xattr(&mark, b"y", XattrFlags::empty())?;
            self.devices.store(true, Ordering::Relaxed);
        }
        place.set_xattr(&mark, b"y", XattrFlags::empty())
    }

    /// Puts a whiteout where nothing is.
    pub(super) fn add_whiteout(&self, dir: impl AsFd, name: &std::ffi::OsStr) -> Result<()> {
        let work = self.work()?;
        let mut made = self.whiteout.lock();
        if !*made {
            match rustix::fs::mknodat(work, WHITEOUT, RawType::CharacterDevice, Mode::empty(), 0) {
                Ok(()) | Err(RawErrno::EXIST) => *made = true,
                Err(e) => return Err(Error::from(e).context("make a whiteout")),
            }
        }
        match rustix::fs::linkat(work, WHITEOUT, &dir, name, AtFlags::empty()) {
            Err(RawErrno::MLINK) => {
                // Full: the next ones link to a new device.
                rustix::fs::unlinkat(work, WHITEOUT, AtFlags::empty())?;
                *made = false;
                drop(made);
                self.add_whiteout(dir, name)
            }
            other => Ok(other?),
        }
    }

    /// Replaces what is at `name` (no directory) by a whiteout, at once.
    pub(super) fn replace_by_whiteout(&self, dir: impl AsFd, name: &Name) -> Result<()> {
        let work = self.work()?;
        let temp = self.temp_name();
        self.add_whiteout(work, &temp)?;
        let renamed = rustix::fs::renameat(work, &temp, dir, name.as_os_str());
        if renamed.is_err() {
            remove_quietly(work, &temp, AtFlags::empty());
        }
        Ok(renamed?)
    }

    /// Empties a directory that holds nothing but whiteouts, so that another can take its place at once.
    /// It stays as it is in the merged view all the time.
    pub(super) fn clear_hidden(&self, dir: impl AsFd, name: &Name) -> Result<()> {
        let within = Arc::new(open_beneath(dir, name, OFlags::PATH | OFlags::DIRECTORY)?);
        let mut names = Vec::new();
        crate::sys::dir::list(&within, |name, _, _| {
            names.push(crate::name::NameBuf::new(name)?);
            Ok(())
        })?;
        if names.is_empty() {
            return Ok(());
        }
        let place = Place::Held(Arc::clone(&within));
        place.set_xattr(&self.space.name(Mark::Opaque), b"y", XattrFlags::empty())?;
        for name in names {
            rustix::fs::unlinkat(&within, name.as_os_str(), AtFlags::empty())?;
        }
        Ok(())
    }

    /// Takes a directory that holds nothing but whiteouts away from `name`; a whiteout stays in
    /// its place if `whiteout`.
    pub(super) fn remove_dir(&self, dir: impl AsFd, name: &Name, whiteout: bool) -> Result<()> {
        let work = self.work()?;
        let temp = self.temp_name();
        if whiteout {
            self.add_whiteout(work, &temp)?;
            let swap = RawRename::EXCHANGE;
            let swapped = rustix::fs::renameat_with(work, &temp, dir, name.as_os_str(), swap);
            if let Err(e) = swapped {
                remove_quietly(work, &temp, AtFlags::empty());
                return Err(e.into());
            }
        } else {
            match rustix::fs::unlinkat(&dir, name.as_os_str(), AtFlags::REMOVEDIR) {
                Err(RawErrno::NOTEMPTY | RawErrno::EXIST) => {}
                other => return Ok(other?),
            }
            rustix::fs::renameat(dir, name.as_os_str(), work, &temp)?;
        }
        // From here on the directory is gone from the tree; what can't be cleared now is cleared
        // by the next mount.
        if let Ok(temp) = Name::new(&temp)
            && let Err(e) = remove_tree(work, temp)
        {
            log::warn!("clear a removed directory in work: {e}");
        }
        Ok(())
    }
}

/// Takes a mark away, if somebody else has not.
fn drop_mark(place: &Place, mark: &std::ffi::OsStr) -> Result<()> {
    match place.remove_xattr(mark) {
        Err(e) if e.errno() == Errno::ENODATA => Ok(()),
        other => other,
    }
}

/// On disk a whiteout is a character device with number 0:0.
pub(super) fn is_null_device(stat: &Stat) -> bool {
    stat.kind == FileType::CharDevice && stat.rdev == 0
}

/// Removes a temporary name after another error, which is the one to report.
pub(super) fn remove_quietly(work: impl AsFd, name: &std::ffi::OsStr, flags: AtFlags) {
    if let Err(e) = rustix::fs::unlinkat(work, name, flags) {
        log::warn!("remove {} from work: {e}", name.display());
    }
}

/// Removes everything in a directory.
fn clear(dir: impl AsFd) -> Result<()> {
    let mut names = Vec::new();
    crate::sys::dir::list(&dir, |name, _, _| {
        names.push(crate::name::NameBuf::new(name)?);
        Ok(())
    })?;
    names.iter().try_for_each(|name| remove_tree(&dir, name))
}

fn remove_tree(dir: impl AsFd, name: &Name) -> Result<()> {
    match rustix::fs::unlinkat(&dir, name.as_os_str(), AtFlags::empty()) {
        Err(RawErrno::ISDIR | RawErrno::PERM) => {}
        other => return Ok(other?),
    }
    clear(open_beneath(&dir, name, OFlags::PATH | OFlags::DIRECTORY)?)?;
    Ok(rustix::fs::unlinkat(
        &dir,
        name.as_os_str(),
        AtFlags::REMOVEDIR,
    )?)
}

impl Upper {
    /// The file system's figures.
    pub(super) fn statvfs(&self) -> Result<rustix::fs::StatVfs> {
        // An O_PATH descriptor will do for fstatfs.
        Ok(rustix::fs::fstatvfs(&self.root)?)
    }

    /// Writes everything of the upper's file system to disk.
    pub(super) fn sync(&self) -> Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::openat(&self.root, c".", flags, Mode::empty())?;
        Ok(rustix::fs::syncfs(dir)?)
    }
}
