//! Copy-up: moving a lower object into the upper so that it can change. Built aside and put into
//! place in one step, so that a crash at any instant leaves the old or the new.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{
    AtFlags, CWD, FallocateFlags, FileType as RawType, Mode, OFlags, RenameFlags as RawRename,
    XattrFlags,
};
use rustix::io::Errno as RawErrno;

use super::attr::times_of;
use super::node::Link;
use super::open::open_nameless;
use super::times::DirTimes;
use super::upper::{is_null_device, remove_quietly};
use super::{LowerRef, Node, Union, Upper};
use crate::content::copy::copy_to;
use crate::error::{Context, Errno, Error, Result};
use crate::layer::Contents;
use crate::layer::format::{Mark, encode_origin};
use crate::layer::place::{Place, open_beneath};
use crate::name::{Name, NameBuf};
use crate::stat::{FileType, Stat};

/// How much of a file's data is worth copying.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Data {
    All,
    /// It is about to be cut to nothing.
    Nothing,
    /// Only attributes are about to change.
    Attributes,
}

/// The attribute of file capabilities.
pub(super) const CAPABILITIES: &str = "security.capability";

/// An object under construction.
enum Temp {
    Nameless(Arc<OwnedFd>),
    Named(NameBuf),
}

impl Union {
    /// Brings a node into the upper, with its parents; all names of a file with several.
    ///
    /// # Errors
    /// `EROFS` without an upper, or beside it; what the layers and the upper's file system report. Nothing is
    /// left behind then.
    pub(super) fn copy_up(&self, node: &Arc<Node>, data: Data) -> Result<()> {
        let upper = self.writable_for(node)?;
        let enough = || match data {
            Data::Attributes => node.has_upper(),
            Data::All | Data::Nothing => node.has_upper_data(),
        };
        if enough() {
            return Ok(());
        }
        if node.is_dir() {
            let _tree = self.tree.read();
            return self.dir_up(node).map(drop);
        }
        let _copying = node.copying.lock();
        if enough() {
            return Ok(());
        }
        let before = node.changes();
        let lower = self.top_lower(node)?;
        let stat = lower.layer().stat(lower.node())?;
        let source = self.data_lower(node)?;
        if node.has_upper() {
            return self
                .complete(upper, node, source, data)
                .context(|| "copy-up of data");
        }
        // Who opens a file may still leave it as it is.
        let changes = data != Data::All;
        let origin = (stat.nlink > 1).then(|| self.index_origin(lower)).flatten();
        let data = match data {
            Data::Attributes if origin.is_some() => Data::All,
            Data::Attributes if !self.options.metacopy || stat.kind != FileType::Regular => {
                Data::All
            }
            Data::Attributes if stat.size == 0 => Data::All,
            data => data,
        };
        let temp = self
            .build(upper, (lower, source), &stat, data)
            .context(|| "copy-up")?;
        let _tree = self.tree.read();
        node.with_state(|s| s.publishing = true);
        let published = match &origin {
            None => self.publish(upper, &temp, node, lower, &stat, data),
            Some(origin) => self.publish_linked(upper, &temp, node, &stat, origin),
        };
        node.with_state(|s| s.publishing = false);
        if published.is_err() {
            temp.discard(upper);
        } else if !changes {
            node.keep_ctime(&self.place(node)?, &stat, before);
        }
        published.context(|| "copy-up")
    }

    /// Whether changing a node's attributes copies a file's data from a lower first.
    ///
    /// # Errors
    /// What the layers report.
    pub fn attributes_need_data(&self, node: &Node) -> Result<bool> {
        if node.kind() != FileType::Regular || node.has_upper() {
            return Ok(false);
        }
        let lower = self.top_lower(node)?;
        Ok(!self.options.metacopy || lower.layer().stat(lower.node())?.nlink > 1)
    }

    /// Gives a metacopy its data. Until the mark is gone the data is taken from the lower, and the
    /// size is right all the time, so a crash on the way loses nothing.
    fn complete(
        &self,
        upper: &Upper,
        node: &Arc<Node>,
        lower: &LowerRef,
        data: Data,
    ) -> Result<()> {
        let (place, file) = {
            let _tree = self.tree.read();
            let place = self.place(node)?;
            let file = place.open(OFlags::RDWR)?;
            (place, file)
        };
        let before = node.changes();
        let stat = node.with_kept_ctime(place.stat()?);
        // Who writes as root keeps setuid, but not capabilities.
        let capabilities = place.xattr(CAPABILITIES.as_ref())?;
        let filled = fill(upper, &file, lower, &stat, data);
        if filled.is_err() {
            empty_again(&file, stat.size);
        }
        if let Some(value) = capabilities {
            place.set_xattr(CAPABILITIES.as_ref(), &value, XattrFlags::empty())?;
        }
        rustix::fs::futimens(&file, &times_of(&stat))?;
        filled?;
        match rustix::fs::fremovexattr(&file, upper.space().name(Mark::Metacopy)) {
            // Who looks a cut file up takes the mark away too.
            Ok(()) | Err(RawErrno::NODATA) => {}
            Err(e) => return Err(e.into()),
        }
        node.with_state(|s| s.metacopy = false);
        node.keep_ctime(&place, &stat, before);
        Ok(())
    }

    /// Builds a copy of a lower object, complete and on disk, out of sight.
    /// Its data comes from `source`.
    fn build(
        &self,
        upper: &Upper,
        (lower, source): (&LowerRef, &LowerRef),
        stat: &Stat,
        data: Data,
    ) -> Result<Temp> {
        let temp = make_temp(upper, lower, stat)?;
        let finish = || -> Result<()> {
            let place = temp.place(upper)?;
            // The length first: setting it clears capabilities.
            if data == Data::Attributes {
                temp.set_len(&place, stat.size)?;
            }
            if stat.kind == FileType::Regular && data == Data::All && stat.size > 0 {
                copy_data(
                    &source.layer().open(source.node())?,
                    &temp.file(&place)?,
                    stat.size,
                )?;
            }
            self.copy_metadata(upper, lower, stat, &place)?;
            if is_null_device(stat) && !upper.has_records() {
                upper.mark_device(&place)?;
            }
            if data == Data::Attributes {
                let mark = upper.space().name(Mark::Metacopy);
                return place.set_xattr(&mark, b"", XattrFlags::empty());
            }
            if stat.kind == FileType::Regular && !upper.volatile() {
                temp.file(&place)?.sync_all()?;
            }
            Ok(())
        };
        match finish() {
            Ok(()) => Ok(temp),
            Err(e) => {
                temp.discard(upper);
                Err(e)
            }
        }
    }

    /// Owner, extended attributes, mode and times, in the order in which none undoes another.
    fn copy_metadata(
        &self,
        upper: &Upper,
        lower: &LowerRef,
        stat: &Stat,
        place: &Place,
    ) -> Result<()> {
        let (space, layer, from) = (upper.space(), lower.layer(), lower.node());
        if !upper.has_records() {
            place.chown(Some(stat.uid), Some(stat.gid))?;
        }
        for name in layer.xattr_names(from)? {
            let Some(value) = layer.xattr(from, &name)? else {
                continue;
            };
            let name = <OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(&name);
            if layer.overlay_xattrs_are_data() {
                copy_xattr(place, &space.escape(name), &value)?;
            } else if space.unescape(name).is_some() && !self.hides(name) {
                copy_xattr(place, name, &value)?;
            }
        }
        if stat.kind != FileType::Directory {
            let origin = match layer.stable_id(from) {
                Some(id) => Some((Mark::Origin, Box::from(encode_origin(&id)))),
                None => layer
                    .host_origin(from)
                    .map(|value| (Mark::HostOrigin, value)),
            };
            if let Some((mark, value)) = origin {
                match place.set_xattr(&space.name(mark), &value, XattrFlags::empty()) {
                    // user.* attributes can't be on special files; they lose a stable number.
                    Err(e) if stat.kind != FileType::Regular => log::debug!("origin: {e}"),
                    other => other?,
                }
            }
        }
        if upper.has_records() {
            upper.record(place, stat)?;
        } else if stat.kind != FileType::Symlink {
            place.chmod(stat.perm)?;
        }
        place.set_times(&times_of(stat))
    }

    /// Puts a finished copy under all the node's names. The tree lock is held.
    fn publish(
        &self,
        upper: &Upper,
        temp: &Temp,
        node: &Arc<Node>,
        lower: &LowerRef,
        stat: &Stat,
        data: Data,
    ) -> Result<()> {
        let mut names = node.names();
        if stat.nlink > 1 {
            self.add_aliases(node, lower, &mut names)?;
        }
        let mut placed = Vec::new();
        if let Err(e) = self.place_names(upper, temp, names, &mut placed) {
            // A name in the upper that its node knows nothing of would be in the way of the next try.
            for (dir, name) in placed {
                remove_quietly(dir, name.as_os_str(), AtFlags::empty());
            }
            return Err(e);
        }
        let held = match placed.is_empty() {
            false => None,
            true => Some(temp.hold(upper)?),
        };
        node.with_state(|s| {
            s.upper = true;
            s.metacopy = data == Data::Attributes;
            s.held = held;
        });
        self.count_copy_up();
        Ok(())
    }

    /// Gives a copy these names, and tells which it has got. The tree lock is held.
    fn place_names(
        &self,
        upper: &Upper,
        temp: &Temp,
        names: Vec<Link>,
        placed: &mut Vec<(Arc<OwnedFd>, NameBuf)>,
    ) -> Result<()> {
        for link in names {
            let dir = match self.dir_up(&link.parent) {
                Ok(dir) => dir,
                // An alias in a directory that has been removed since it was found.
                Err(e) if !placed.is_empty() && e.errno() == Errno::ENOENT => continue,
                Err(e) => return Err(e),
            };
            let times = DirTimes::of(&link.parent, &dir)?;
            let name = link.name.as_os_str();
            match placed.first() {
                None => temp.link(upper, &dir, name)?,
                Some((first, first_name)) => {
                    let (from, flags) = (first_name.as_os_str(), AtFlags::empty());
                    match rustix::fs::linkat(first, from, &dir, name, flags) {
                        Ok(()) => {}
                        // Removed meanwhile: a whiteout is there.
                        Err(RawErrno::EXIST) => continue,
                        Err(e) => return Err(e.into()),
                    }
                }
            }
            times.give_back();
            placed.push((dir, link.name));
        }
        Ok(())
    }

    /// Puts a finished copy of a directory layer's file with several names into the index of links,
    /// and under the names that are known. The tree lock is held.
    fn publish_linked(
        &self,
        upper: &Upper,
        temp: &Temp,
        node: &Arc<Node>,
        stat: &Stat,
        origin: &[u8],
    ) -> Result<()> {
        let Some(index) = upper.link_index() else {
            return Err(Error::with(Errno::EIO, "no index of links"));
        };
        let entry = index.name_for(origin)?;
        self.pin_names(&temp.place(upper)?, stat.nlink, stat.nlink)?;
        match temp.link(upper, index.dir(), entry.as_os_str()) {
            Ok(()) => {}
            // An attempt that failed half-way: its copy is as good.
            Err(e) if e.errno() == Errno::EEXIST => temp.discard(upper),
            Err(e) => return Err(e),
        }
        let place = index.place(&entry);
        for link in node.names() {
            let dir = self.dir_up(&link.parent)?;
            let times = DirTimes::of(&link.parent, &dir)?;
            let (from, to) = (entry.as_os_str(), link.name.as_os_str());
            match rustix::fs::linkat(index.dir(), from, &dir, to, AtFlags::empty()) {
                Ok(()) | Err(RawErrno::EXIST) => {}
                Err(e) => return Err(e.into()),
            }
            times.give_back();
        }
        self.unpin_names(&place, stat.nlink)?;
        node.with_state(|s| {
            s.upper = true;
            s.metacopy = false;
            s.index = Some(entry);
        });
        self.count_copy_up();
        Ok(())
    }

    /// Brings a directory into the upper, with its parents, and returns its descriptor. The tree
    /// lock is held.
    ///
    /// # Errors
    /// `ENOENT` when the directory has been removed.
    pub(super) fn dir_up(&self, node: &Arc<Node>) -> Result<Arc<OwnedFd>> {
        if node.has_upper() {
            return self.dir_fd(node);
        }
        let upper = self.writable_for(node)?;
        let _copying = node.copying.lock();
        if node.has_upper() {
            return self.dir_fd(node);
        }
        let link = node
            .names()
            .into_iter()
            .next()
            .ok_or_else(|| Error::new(Errno::ENOENT))?;
        let parent = self.dir_up(&link.parent)?;
        let lower = self.top_lower(node)?;
        let stat = lower.layer().stat(lower.node())?;
        let temp = self.build(upper, (lower, lower), &stat, Data::Nothing)?;
        let times = DirTimes::of(&link.parent, &parent)?;
        node.with_state(|s| s.publishing = true);
        if let Err(e) = temp.link(upper, &parent, link.name.as_os_str()) {
            node.with_state(|s| s.publishing = false);
            temp.discard(upper);
            return Err(e.context("copy-up of a directory"));
        }
        times.give_back();
        node.keep_ctime(&Place::Named(parent, link.name), &stat, node.changes());
        node.with_state(|s| {
            s.publishing = false;
            s.upper = true;
        });
        self.count_copy_up();
        self.dir_fd(node)
    }

    /// Gives a new upper's root the attributes of the lowers' root.
    pub(super) fn adopt_root(&self) -> Result<()> {
        let Some(upper) = self.upper.as_ref().filter(|u| !u.is_read_only()) else {
            return Ok(());
        };
        let Some(lower) = self.root.lower().first() else {
            return Ok(());
        };
        let Some(id) = lower.layer().stable_id(lower.node()) else {
            return Ok(());
        };
        let place = Place::Held(upper.root());
        if place.marks(upper.space())?.origin.is_some() {
            return Ok(());
        }
        let stat = lower.layer().stat(lower.node())?;
        self.copy_metadata(upper, lower, &stat, &place)?;
        let origin = upper.space().name(Mark::Origin);
        place.set_xattr(&origin, &encode_origin(&id), XattrFlags::empty())?;
        place.set_times(&times_of(&stat))
    }
}

impl Temp {
    fn place(&self, upper: &Upper) -> Result<Place> {
        Ok(match self {
            Temp::Nameless(fd) => Place::Held(Arc::clone(fd)),
            Temp::Named(name) => Place::Named(Arc::clone(upper.work()?), name.clone()),
        })
    }

    fn file(&self, place: &Place) -> Result<File> {
        match self {
            Temp::Nameless(fd) => Ok(File::from(fd.try_clone()?)),
            Temp::Named(_) => place.open(OFlags::RDWR),
        }
    }

    fn set_len(&self, place: &Place, len: u64) -> Result<()> {
        match self {
            Temp::Nameless(fd) => Ok(rustix::fs::ftruncate(fd, len)?),
            Temp::Named(_) => Ok(place.open(OFlags::RDWR)?.set_len(len)?),
        }
    }

    /// Gives the object its name, where nothing is.
    fn link(&self, upper: &Upper, dir: &OwnedFd, name: &OsStr) -> Result<()> {
        match self {
            Temp::Nameless(fd) => {
                let from = crate::sys::fd::magic_path(fd);
                Ok(rustix::fs::linkat(
                    CWD,
                    from,
                    dir,
                    name,
                    AtFlags::SYMLINK_FOLLOW,
                )?)
            }
            Temp::Named(temp) => {
                let (work, temp) = (upper.work()?, temp.as_os_str());
                let flags = RawRename::NOREPLACE;
                match rustix::fs::renameat_with(work, temp, dir, name, flags) {
                    Err(RawErrno::INVAL) => Ok(rustix::fs::renameat(work, temp, dir, name)?),
                    other => Ok(other?),
                }
            }
        }
    }

    /// Keeps an object that gets no name.
    fn hold(&self, upper: &Upper) -> Result<Arc<OwnedFd>> {
        match self {
            Temp::Nameless(fd) => Ok(Arc::clone(fd)),
            Temp::Named(name) => {
                let work = upper.work()?;
                let held = open_beneath(work, name, OFlags::PATH)?;
                rustix::fs::unlinkat(work, name.as_os_str(), AtFlags::empty())?;
                Ok(Arc::new(held))
            }
        }
    }

    fn discard(&self, upper: &Upper) {
        if let (Temp::Named(name), Ok(work)) = (self, upper.work()) {
            let name = name.as_os_str();
            if rustix::fs::unlinkat(work, name, AtFlags::REMOVEDIR).is_err() {
                remove_quietly(work, name, AtFlags::empty());
            }
        }
    }
}

/// Makes an empty object of the right kind in the work directory.
fn make_temp(upper: &Upper, lower: &LowerRef, stat: &Stat) -> Result<Temp> {
    let work = upper.work()?;
    let private = Mode::RUSR | Mode::WUSR;
    if stat.kind == FileType::Regular
        && let Some(file) = open_nameless(work, private.bits())?
    {
        return Ok(Temp::Nameless(Arc::new(file.into())));
    }
    let name = upper.temp_name();
    match stat.kind {
        FileType::Regular => {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
            rustix::fs::openat(work, &name, flags, private).map(drop)?;
        }
        FileType::Directory => rustix::fs::mkdirat(work, &name, Mode::RWXU)?,
        FileType::Symlink => {
            let target = lower.layer().read_link(lower.node())?;
            rustix::fs::symlinkat(&*target, work, &name)?;
        }
        _ if upper.has_records() => {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
            rustix::fs::openat(work, &name, flags, private).map(drop)?;
        }
        FileType::CharDevice | FileType::BlockDevice | FileType::Fifo | FileType::Socket => {
            let kind = RawType::from_raw_mode(stat.kind.mode_bits());
            rustix::fs::mknodat(work, &name, kind, private, stat.rdev)?;
        }
    }
    Ok(Temp::Named(Name::new(&name)?.into()))
}

/// Writes a metacopy's data, whose length it has already.
fn fill(upper: &Upper, file: &File, lower: &LowerRef, stat: &Stat, data: Data) -> Result<()> {
    if data == Data::Nothing {
        return Ok(file.set_len(0)?);
    }
    if stat.size > 0 {
        copy_data(&lower.layer().open(lower.node())?, file, stat.size)?;
    }
    if !upper.volatile() {
        file.sync_all()?;
    }
    Ok(())
}

/// Gives back what a metacopy has of its data. Its size stays.
fn empty_again(file: &File, size: u64) {
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    if size > 0 && rustix::fs::fallocate(file, punch, 0, size).is_ok() {
        return;
    }
    if let Err(e) = file.set_len(0).and_then(|()| file.set_len(size)) {
        log::warn!("give up the data of a copy that has failed: {e}");
    }
}

/// Sets an attribute on a copy; those that the upper's file system can't have are lost with a word.
fn copy_xattr(place: &Place, name: &OsStr, value: &[u8]) -> Result<()> {
    match place.set_xattr(name, value, XattrFlags::empty()) {
        Err(e) if matches!(e.errno(), Errno::EOPNOTSUPP | Errno::EPERM) => {
            log::warn!("copy-up: attribute {} can't be kept: {e}", name.display());
            Ok(())
        }
        other => other,
    }
}

fn copy_data(from: &Contents, to: &File, len: u64) -> Result<()> {
    match from {
        Contents::File(file) => crate::sys::copy::copy_file(file, to, len),
        Contents::Stored(stored) => copy_to(&**stored, to),
    }
}
