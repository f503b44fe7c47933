//! [`Part`]: a run of bytes of a file, and [`Bundle`]: the named parts of an archive or a directory.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};

use super::members::Members;
use crate::error::{Context, Failure};

/// The largest JSON document that is read into memory, in bytes.
pub const DOCUMENT_MAX: u64 = 16 << 20;

/// A run of bytes of a file.
#[derive(Debug, Clone)]
pub struct Part {
    file: Arc<File>,
    offset: u64,
    size: u64,
}

impl Part {
    /// `size` bytes of `file` from `offset`.
    #[must_use]
    pub fn new(file: Arc<File>, offset: u64, size: u64) -> Self {
        Self { file, offset, size }
    }

    /// Its length in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Where it begins in its file.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Reads it from the start. Readers do not disturb each other.
    #[must_use]
    pub fn reader(&self) -> PartReader {
        PartReader {
            part: self.clone(),
            done: 0,
        }
    }

    /// All of it, where it is at most [`DOCUMENT_MAX`] bytes long.
    ///
    /// # Errors
    /// [`Failure`] of kind `Invalid` when it is longer, `System` when it can't be read.
    pub fn document(&self) -> Result<Vec<u8>, Failure> {
        if self.size > DOCUMENT_MAX {
            return Err(Failure::invalid(format!(
                "{} bytes long, at most {DOCUMENT_MAX} are read",
                self.size
            )));
        }
        let mut bytes = Vec::new();
        self.reader().read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// Reads a [`Part`]. A file that has become shorter is an error, not an early end.
#[derive(Debug)]
pub struct PartReader {
    part: Part,
    done: u64,
}

impl Read for PartReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let left = self.part.size.saturating_sub(self.done);
        let want = usize::try_from(left).unwrap_or(usize::MAX).min(buf.len());
        let Some(buf) = buf.get_mut(..want).filter(|buf| !buf.is_empty()) else {
            return Ok(0);
        };
        let at = self.part.offset.saturating_add(self.done);
        let n = self.part.file.read_at(buf, at)?;
        if n == 0 {
            return Err(io::Error::other(Failure::invalid(
                "the file became shorter while it was read",
            )));
        }
        self.done = self.done.saturating_add(n as u64);
        Ok(n)
    }
}

/// Files by name: an archive's members, or a directory's.
pub enum Bundle {
    /// A tar file.
    Tar(Members),
    /// A directory.
    Dir(PathBuf),
}

impl Bundle {
    /// Whether there is something of this name.
    #[must_use]
    pub fn has(&self, path: &str) -> bool {
        match self {
            Bundle::Tar(members) => members.has(path),
            Bundle::Dir(dir) => dir.join(path).exists(),
        }
    }

    /// The file of this name; `None` when there is none.
    ///
    /// # Errors
    /// [`Failure`] when it can't be opened, or is no regular file.
    pub fn get(&self, path: &str) -> Result<Option<Part>, Failure> {
        match self {
            Bundle::Tar(members) => members.get(path),
            Bundle::Dir(dir) => {
                let inside = |part| matches!(part, Component::Normal(_) | Component::CurDir);
                if !Path::new(path).components().all(inside) {
                    let path = path.escape_debug();
                    return Err(Failure::invalid(format!(
                        "member \"{path}\": the name leaves the directory"
                    )));
                }
                open(&dir.join(path))
            }
        }
    }

    /// A small file's bytes; `None` when there is none.
    ///
    /// # Errors
    /// As [`Bundle::get`] and [`Part::document`].
    pub fn document(&self, path: &str) -> Result<Option<Vec<u8>>, Failure> {
        let Some(part) = self.get(path)? else {
            return Ok(None);
        };
        let bytes = part
            .document()
            .context(|| format!("member \"{}\"", path.escape_debug()))?;
        Ok(Some(bytes))
    }
}

/// Opens a regular file; `None` when there is none. A fifo is not waited for.
fn open(path: &Path) -> Result<Option<Part>, Failure> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(fd) => File::from(fd),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(None),
        Err(error) => return Err(error).context(|| format!("open {}", path.display())),
    };
    let meta = file
        .metadata()
        .context(|| format!("stat {}", path.display()))?;
    if !meta.is_file() {
        return Err(Failure::invalid(format!(
            "{} is no regular file",
            path.display()
        )));
    }
    Ok(Some(Part::new(Arc::new(file), 0, meta.len())))
}
