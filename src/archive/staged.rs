//! [`Staged`]: a file on its way into the store.

use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tempfile::NamedTempFile;

use crate::error::{Context, Failure};
use crate::sys::writeback;

/// How much is written before the kernel is asked to begin writing it out, in bytes.
const WRITEBACK: u64 = 8 << 20;

/// A temporary file in the store. Dropping it removes it.
pub struct Staged {
    file: NamedTempFile,
}

impl Staged {
    /// A new, empty file in `tmp`.
    ///
    /// # Errors
    /// [`Failure`] of kind `System`.
    pub fn new_in(tmp: &Path) -> Result<Self, Failure> {
        let file = tempfile::Builder::new()
            .prefix("load-")
            .permissions(Permissions::from_mode(0o644))
            .tempfile_in(tmp)
            .context(|| format!("make a file in {}", tmp.display()))?;
        Ok(Self { file })
    }

    /// A new file with these bytes, synced.
    ///
    /// # Errors
    /// [`Failure`] of kind `System`.
    pub fn with(tmp: &Path, bytes: &[u8]) -> Result<Self, Failure> {
        let staged = Self::new_in(tmp)?;
        let mut out = staged.writer();
        out.write_all(bytes)?;
        out.finish()?;
        Ok(staged)
    }

    /// Its path while it is temporary.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Writes to it from its start.
    #[must_use]
    pub fn writer(&self) -> StagedWriter<'_> {
        StagedWriter {
            staged: self,
            done: 0,
            begun: 0,
        }
    }

    /// Makes sure that its bytes, which another descriptor may have written, are on the disk.
    ///
    /// # Errors
    /// [`Failure`] of kind `System`.
    pub fn sync(&self) -> Result<(), Failure> {
        let path = self.path();
        File::open(path)
            .and_then(|file| file.sync_data())
            .context(|| format!("sync {}", path.display()))
    }

    /// Gives the synced file its place in the store. The directory is synced by the caller.
    ///
    /// # Errors
    /// [`Failure`] of kind `System`.
    pub fn publish(self, to: &Path) -> Result<(), Failure> {
        self.file
            .persist(to)
            .map(drop)
            .map_err(|error| Failure::from(error.error))
            .context(|| format!("rename to {}", to.display()))
    }
}

/// Writes a [`Staged`] file, and has the kernel write it out meanwhile.
pub struct StagedWriter<'a> {
    staged: &'a Staged,
    done: u64,
    begun: u64,
}

impl StagedWriter<'_> {
    /// Waits until all of it is on the disk.
    ///
    /// # Errors
    /// [`Failure`] of kind `System`.
    pub fn finish(self) -> Result<(), Failure> {
        let path = self.staged.path();
        self.staged
            .file
            .as_file()
            .sync_data()
            .context(|| format!("sync {}", path.display()))
    }
}

impl Write for StagedWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.staged.file.as_file().write(bytes)?;
        self.done += n as u64;
        let fresh = self.done - self.begun;
        if fresh >= WRITEBACK {
            writeback::start(self.staged.file.as_file(), self.begun, fresh);
            self.begun = self.done;
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
