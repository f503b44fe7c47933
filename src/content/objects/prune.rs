//! What objects there are, whether they are what they say, and which have to go.

use std::fs::File;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno as RawErrno;

use super::{Key, Objects};
use crate::error::Result;

/// One object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Its name.
    pub key: Key,
    /// Length in bytes.
    pub len: u64,
    /// Bytes that it takes on disk.
    pub allocated: u64,
    /// When it was used last, to the hour, in seconds since 1970.
    pub used: i64,
}

/// What was deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Freed {
    /// How many objects.
    pub objects: u64,
    /// How many bytes on disk.
    pub bytes: u64,
}

/// Files under construction that are older than this have no maker any more, in seconds.
const ABANDONED: i64 = 24 * 60 * 60;

impl Objects {
    /// All objects, in no order.
    ///
    /// # Errors
    /// What reading the directory reports.
    pub fn list(&self) -> Result<Vec<ObjectInfo>> {
        let mut list = Vec::new();
        crate::sys::dir::list(&self.dir, |name, _, _| {
            let stat = match rustix::fs::statat(&self.dir, name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(RawErrno::NOENT) => return Ok(()),
                other => other?,
            };
            let unsigned = |n: i64| u64::try_from(n).unwrap_or(0);
            match Key::from_name(name) {
                Some(key) => list.push(ObjectInfo {
                    key,
                    len: unsigned(stat.st_size),
                    allocated: unsigned(stat.st_blocks) * 512,
                    used: stat.st_atime,
                }),
                None if super::now().tv_sec - stat.st_ctime > ABANDONED => {
                    rustix::fs::unlinkat(&self.dir, name, AtFlags::empty())?;
                }
                None => {}
            }
            Ok(())
        })?;
        Ok(list)
    }

    /// How much space all objects take, in bytes.
    ///
    /// # Errors
    /// As [`Objects::list`].
    pub fn size(&self) -> Result<u64> {
        Ok(self.list()?.iter().map(|o| o.allocated).sum())
    }

    /// Deletes the objects that have not been used for longest until a tenth below `budget` bytes,
    /// if there are more.
    ///
    /// # Errors
    /// As [`Objects::list`]; what unlink(2) reports.
    pub fn prune(&self, budget: u64) -> Result<Freed> {
        let mut list = self.list()?;
        let mut size: u64 = list.iter().map(|o| o.allocated).sum();
        let mut freed = Freed::default();
        if size <= budget {
            return Ok(freed);
        }
        list.sort_unstable_by_key(|o| o.used);
        for object in list {
            if size <= budget - budget / 10 {
                break;
            }
            self.remove(&object.key)?;
            size = size.saturating_sub(object.allocated);
            freed.objects += 1;
            freed.bytes += object.allocated;
        }
        Ok(freed)
    }

    /// Deletes the objects that nothing refers to any more.
    ///
    /// # Errors
    /// As [`Objects::prune`].
    pub fn retain(&self, keep: impl Fn(&Key) -> bool) -> Result<Freed> {
        let mut freed = Freed::default();
        for object in self.list()?.iter().filter(|o| !keep(&o.key)) {
            self.remove(&object.key)?;
            freed.objects += 1;
            freed.bytes += object.allocated;
        }
        Ok(freed)
    }

    /// Whether an object is what its name says; `None` when there is none of that name. Reads all of
    /// it.
    ///
    /// # Errors
    /// What reading reports.
    pub fn check(&self, key: &Key) -> Result<Option<bool>> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        match rustix::fs::openat(&self.view, key.to_string(), flags, Mode::empty()) {
            Ok(fd) => Ok(Some(Key::of(&File::from(fd))? == *key)),
            Err(RawErrno::NOENT) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }
}
