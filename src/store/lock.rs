//! Locks between processes: flock(2), which the kernel releases when their holder dies.

use std::fs::{File, OpenOptions};
use std::path::Path;

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::Store;
use crate::error::{Context, Failure};

/// A held lock; dropping it releases it.
#[derive(Debug)]
pub struct FileLock {
    file: File,
}

/// Whether others may hold a lock too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Shared,
    Exclusive,
}

impl FileLock {
    /// Waits for a lock.
    pub(super) fn wait(path: &Path, mode: Mode) -> Result<Self, Failure> {
        let about = || format!("lock {}", path.display());
        let file = open(path).context(about)?;
        let operation = match mode {
            Mode::Shared => FlockOperation::LockShared,
            Mode::Exclusive => FlockOperation::LockExclusive,
        };
        loop {
            match rustix::fs::flock(&file, operation) {
                Err(Errno::INTR) => {}
                other => return other.map(|()| Self { file }).context(about),
            }
        }
    }

    /// Takes an exclusive lock if nobody has the file locked.
    ///
    /// # Errors
    /// `System`
    pub fn try_exclusive(path: &Path) -> Result<Option<Self>, Failure> {
        let about = || format!("lock {}", path.display());
        let file = open(path).context(about)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self { file })),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(e) => Err(e).context(about),
        }
    }

    /// The locked file.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }
}

fn open(path: &Path) -> std::io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
}

/// Keeps everything in the store from being collected while it lives: what was found there, and
/// what was added and isn't named in `index.json` yet.
#[derive(Debug)]
pub struct Lease {
    _lock: FileLock,
}

impl Store {
    /// Takes a lease. Whoever relies on something in the store, or adds to it, holds one.
    ///
    /// # Errors
    /// `System`
    pub fn lease(&self) -> Result<Lease, Failure> {
        let _lock = FileLock::wait(&self.path("strata/lock"), Mode::Shared)?;
        Ok(Lease { _lock })
    }

    /// The lock of collectors, if there are no leases now.
    pub(super) fn collector_lock(&self) -> Result<Option<FileLock>, Failure> {
        FileLock::try_exclusive(&self.path("strata/lock"))
    }
}
