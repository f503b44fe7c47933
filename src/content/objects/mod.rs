//! Objects: files of image layers as host files, one per content, shared by every layer, image and
//! container. A cache: each can be deleted at any time, by anyone, and comes back from its layer.
//!
//! An object is a file named by its contents' blake3 in hex. It is complete when it gets its name.
//! Nothing is synced: that would cost more than all the rest. Instead the modification time is a mark
//! of the boot in which the object was made or last checked, and one of another boot, which a crash
//! may have torn, is read and checked before it is used. The access time is set to the last use, to
//! the hour.
//!
//! Objects are made through one descriptor and served through another, a private read-only clone of
//! the mount, so that the kernel sees to it that nothing that is served ever changes.

mod key;
mod prune;

use std::collections::HashSet;
use std::fs::File;
use std::io::Read as _;
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{Advice, AtFlags, CWD, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno as RawErrno;

pub use key::Key;
pub use prune::{Freed, ObjectInfo};

use super::ReadAt;
use super::copy::copy_to;
use crate::error::{Errno, Error, Result};
use crate::sync::{Condvar, Mutex};
use crate::sys::fd::magic_path;
use crate::sys::mount::read_only_clone;

/// What is kept as objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Length of the shortest file that is worth one, in bytes.
    pub smallest: u64,
    /// How much space all of them may take, in bytes.
    pub budget: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            smallest: 16 << 10,
            budget: 16 << 30,
        }
    }
}

/// A directory of objects.
pub struct Objects {
    /// What is written goes through here.
    dir: OwnedFd,
    /// What is served comes from here.
    view: OwnedFd,
    guarded: bool,
    limits: Limits,
    /// The mark of this boot, as a time in seconds.
    boot: i64,
    making: Mutex<HashSet<Key>>,
    made: Condvar,
    /// Bytes made here since the last look at the budget.
    unseen: AtomicU64,
}

/// What stands under an object's name.
enum Found {
    Whole(File),
    /// Of another boot: it is to be checked.
    Doubtful(File),
    Nothing,
}

/// The most that the kernel reads ahead in one piece, in bytes.
const LARGEST_PIECE: u64 = 2 << 20;

/// How old a noted use is when the next is noted, in seconds.
const NOTED: i64 = 60 * 60;

impl Objects {
    /// Opens a directory of objects.
    ///
    /// # Errors
    /// What open(2) reports.
    pub fn open(path: &Path, limits: Limits) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = || rustix::fs::open(path, flags, Mode::empty());
        let dir = open()?;
        let (view, guarded) = match read_only_clone(path) {
            Ok(view) => (view, true),
            Err(_) => (open()?, false),
        };
        Ok(Self {
            dir,
            view,
            guarded,
            limits,
            boot: boot_mark()?,
            making: Mutex::default(),
            made: Condvar::default(),
            unseen: AtomicU64::new(u64::MAX / 2),
        })
    }

    /// Whether the kernel enforces that what is served never changes.
    #[must_use]
    pub fn is_guarded(&self) -> bool {
        self.guarded
    }

    /// What is kept.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// The object of this name, if it is there and whole.
    #[must_use]
    pub fn find(&self, key: &Key, len: u64) -> Option<File> {
        match self.look(key, len) {
            Ok(Found::Whole(file)) => Some(file),
            Ok(_) => None,
            Err(e) => {
                log::warn!("object {key}: {e}");
                None
            }
        }
    }

    fn look(&self, key: &Key, len: u64) -> Result<Found> {
        let name = key.to_string();
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let open = |more| rustix::fs::openat(&self.view, &name, flags | more, Mode::empty());
        // Only the owner may leave the access time still.
        let opened = match open(OFlags::NOATIME) {
            Err(RawErrno::PERM) => open(OFlags::empty()),
            other => other,
        };
        let file = match opened {
            Ok(fd) => File::from(fd),
            Err(RawErrno::NOENT) => return Ok(Found::Nothing),
            Err(e) => return Err(e.into()),
        };
        let stat = rustix::fs::fstat(&file)?;
        if u64::try_from(stat.st_size) != Ok(len) {
            return Ok(Found::Nothing);
        }
        if stat.st_mtime != self.boot {
            return Ok(Found::Doubtful(file));
        }
        if now().tv_sec.abs_diff(stat.st_atime) > NOTED.unsigned_abs() {
            self.mark(&name)?;
        }
        Ok(Found::Whole(file))
    }

    /// Makes the object of what `source` reads, unless it is there. The bytes are taken on trust:
    /// they have been checked when the layer came in.
    ///
    /// # Errors
    /// What reading and writing report; `ENOSPC` where there is no room.
    pub fn make(&self, key: &Key, source: &dyn ReadAt) -> Result<File> {
        let _claim = Claim::take(self, *key);
        let len = source.len();
        match self.look(key, len)? {
            Found::Whole(file) => return Ok(file),
            Found::Doubtful(file) if Key::of(&file)? == *key => {
                self.mark(&key.to_string())?;
                return Ok(file);
            }
            Found::Doubtful(_) | Found::Nothing => self.remove(key)?,
        }
        self.build(key, source)?;
        self.account(len);
        match self.look(key, len)? {
            Found::Whole(file) => Ok(file),
            _ => Err(Error::with(
                Errno::EIO,
                format!("object {key} is gone again"),
            )),
        }
    }

    fn build(&self, key: &Key, source: &dyn ReadAt) -> Result<()> {
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        let mode = Mode::RUSR;
        let (file, temp) = match rustix::fs::openat(&self.dir, c".", flags, mode) {
            Ok(fd) => (File::from(fd), None),
            Err(RawErrno::OPNOTSUPP | RawErrno::ISDIR) => {
                let name = format!(".new-{}-{key}", std::process::id());
                let flags = OFlags::CREATE | OFlags::TRUNC | OFlags::WRONLY | OFlags::CLOEXEC;
                (
                    File::from(rustix::fs::openat(&self.dir, &name, flags, mode)?),
                    Some(name),
                )
            }
            Err(e) => return Err(e.into()),
        };
        let placed = self.fill(&file, source).and_then(|()| {
            let name = key.to_string();
            match &temp {
                Some(temp) => rustix::fs::renameat(&self.dir, temp, &self.dir, &name)?,
                None => link_open(&file, &self.dir, &name)?,
            }
            Ok(())
        });
        if let (Some(temp), Err(_)) = (&temp, &placed) {
            // The error before is the one to report; a leftover is collected.
            rustix::fs::unlinkat(&self.dir, temp, AtFlags::empty()).ok();
        }
        placed
    }

    fn fill(&self, file: &File, source: &dyn ReadAt) -> Result<()> {
        copy_to(source, file)?;
        forget_pages(source);
        Ok(rustix::fs::futimens(file, &self.times())?)
    }

    /// Notes a use, and that the object is whole.
    fn mark(&self, name: &str) -> Result<()> {
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        match rustix::fs::utimensat(&self.dir, name, &self.times(), flags) {
            // Deleted meanwhile, or not ours to mark: it is checked again the next time.
            Err(RawErrno::NOENT | RawErrno::PERM | RawErrno::ACCESS | RawErrno::ROFS) => Ok(()),
            other => Ok(other?),
        }
    }

    fn times(&self) -> Timestamps {
        let boot = Timespec {
            tv_sec: self.boot,
            tv_nsec: 0,
        };
        Timestamps {
            last_access: now(),
            last_modification: boot,
        }
    }

    /// Counts what was made; now and then the budget is looked at.
    fn account(&self, len: u64) {
        let unseen = self.unseen.fetch_add(len, Ordering::Relaxed);
        if unseen.saturating_add(len) < self.limits.budget / 16 {
            return;
        }
        self.unseen.store(0, Ordering::Relaxed);
        match self.prune(self.limits.budget) {
            Ok(freed) if freed.objects > 0 => {
                log::info!("{} objects, {} bytes, deleted", freed.objects, freed.bytes);
            }
            Ok(_) => {}
            Err(e) => log::warn!("objects: {e}"),
        }
    }

    /// Deletes an object; it may be gone already. Who has it open keeps it.
    ///
    /// # Errors
    /// What unlink(2) reports.
    pub fn remove(&self, key: &Key) -> Result<()> {
        match rustix::fs::unlinkat(&self.dir, key.to_string(), AtFlags::empty()) {
            Err(RawErrno::NOENT) => Ok(()),
            other => Ok(other?),
        }
    }
}

/// Keeps others from making the same object at the same time.
struct Claim<'o> {
    objects: &'o Objects,
    key: Key,
}

impl<'o> Claim<'o> {
    fn take(objects: &'o Objects, key: Key) -> Self {
        let mut making = objects.making.lock();
        while !making.insert(key) {
            objects.made.wait(&mut making);
        }
        Self { objects, key }
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.objects.making.lock().remove(&self.key);
        self.objects.made.notify_all();
    }
}

/// Has the kernel drop the pages of a layer that an object was made of: it is read from now on, and
/// would be in memory twice. With them goes what lies before, in a piece of pages that was read ahead
/// for both and is only dropped as a whole.
fn forget_pages(source: &dyn ReadAt) {
    let mut at = 0;
    while let Some((start, end)) = source.next_data(at)
        && let Some((layer, place)) = source.host_range(start)
        && let from = place.saturating_sub(LARGEST_PIECE)
        && let Some(len) = NonZeroU64::new(end.saturating_sub(start) + (place - from))
    {
        if let Err(e) = rustix::fs::fadvise(layer, from, Some(len), Advice::DontNeed) {
            log::debug!("pages of a layer: {e}");
        }
        at = end;
    }
}

/// Gives a nameless file a name; one of the same name is as good.
fn link_open(file: &File, dir: &OwnedFd, name: &str) -> Result<()> {
    let flags = AtFlags::SYMLINK_FOLLOW;
    match rustix::fs::linkat(CWD, magic_path(file), dir, name, flags) {
        Err(RawErrno::EXIST) => Ok(()),
        other => Ok(other?),
    }
}

fn now() -> Timespec {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let sec = since.map_or(0, |d| d.as_secs());
    Timespec {
        tv_sec: i64::try_from(sec).unwrap_or(i64::MAX),
        tv_nsec: 0,
    }
}

/// A time that stands for this boot, from the kernel's random name of it.
fn boot_mark() -> Result<i64> {
    let mut text = String::new();
    File::open("/proc/sys/kernel/random/boot_id")?.read_to_string(&mut text)?;
    let first = text.get(..8).and_then(|t| u32::from_str_radix(t, 16).ok());
    let first = first.ok_or_else(|| Error::with(Errno::EIO, "no boot_id that can be read"))?;
    // Within what every file system can keep.
    Ok(i64::from(first & 0x7fff_ffff) | 1)
}

/// A file of a layer that is worth an object and has none yet.
pub struct Unmade {
    objects: Arc<Objects>,
    key: Key,
    inner: Arc<dyn ReadAt>,
}

impl Unmade {
    /// A file that is read from `inner`, and has the object `key` once it is made.
    #[must_use]
    pub fn new(objects: Arc<Objects>, key: Key, inner: Arc<dyn ReadAt>) -> Self {
        Self {
            objects,
            key,
            inner,
        }
    }
}

impl ReadAt for Unmade {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
        self.inner.read_at(buf, offset)
    }

    fn len(&self) -> u64 {
        self.inner.len()
    }

    fn is_at_hand(&self) -> bool {
        self.inner.is_at_hand()
    }

    fn host_range(&self, offset: u64) -> Option<(&File, u64)> {
        self.inner.host_range(offset)
    }

    fn next_data(&self, offset: u64) -> Option<(u64, u64)> {
        self.inner.next_data(offset)
    }

    fn is_worth_a_file(&self) -> bool {
        true
    }

    fn to_file(&self) -> Result<Arc<File>> {
        self.objects.make(&self.key, &*self.inner).map(Arc::new)
    }
}

#[cfg(test)]
mod tests;
