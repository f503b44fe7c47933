//! The cache of what is known of images that were never loaded, in the store's directory:
//!
//! ```text
//! strata/inspect/HEX.json       what was found at a place: sha256 of the place's name
//!                DIFFID.layer   a layer's index             CHAINID.chain   a stack's
//! ```
//!
//! An index is named by the digest of what it describes, and that was verified when it was made. A
//! record says which layers a file has as long as the file is the same: device, inode, length and
//! times. Files appear by rename, and the oldest go when they are too much together; what has gone
//! is made again.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::error::{Context, Failure};
use crate::image::{ChainId, DiffId, Digest};
use crate::store::layers::LayerInfo;
use crate::store::{Store, write_atomically};

/// How many bytes the cache may have before the oldest files go.
const BUDGET: u64 = 1 << 30;
/// A file that was used is marked so at most once in this time.
const TOUCH_AFTER: Duration = Duration::from_secs(600);
/// The form of the records.
const VERSION: u32 = 1;

/// A file, and what tells that it is still the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileId {
    /// Where it is, absolute.
    #[serde(with = "path_bytes")]
    pub path: PathBuf,
    dev: u64,
    ino: u64,
    len: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl FileId {
    /// What these attributes of a file say.
    #[must_use]
    pub fn of(path: &Path, meta: &Metadata) -> Self {
        Self {
            path: path.to_owned(),
            dev: meta.dev(),
            ino: meta.ino(),
            len: meta.len(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        }
    }

    /// The file at a path as it is now.
    ///
    /// # Errors
    /// What stat(2) reports.
    pub fn now(path: &Path) -> io::Result<Self> {
        Ok(Self::of(path, &path.metadata()?))
    }

    fn is_same(&self) -> bool {
        Self::now(&self.path).is_ok_and(|now| now == *self)
    }
}

/// Paths are bytes, which JSON strings can't hold.
mod path_bytes {
    use std::ffi::OsString;
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    use std::path::{Path, PathBuf};

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
        path.as_os_str().as_bytes().serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
        Ok(OsString::from_vec(Vec::deserialize(deserializer)?).into())
    }
}

/// A layer of an image outside the store.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LayerRecord {
    /// What is known of it.
    pub info: LayerInfo,
    /// The file that its blob is in; `None` when only the store has it.
    pub file: Option<FileId>,
    /// Whether that file is compressed as a whole.
    pub wrapped: bool,
    /// Where the blob begins.
    pub offset: u64,
    /// The blob's length in bytes.
    pub size: u64,
}

/// What was found at a place.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    version: u32,
    /// The files that it follows from.
    pub files: Vec<FileId>,
    /// The image's names, in full.
    pub names: Vec<String>,
    /// The manifest and its media type, where there is one.
    pub manifest: Option<(String, String)>,
    /// The configuration; `None` of a layer by itself.
    pub config: Option<String>,
    /// The layers, bottom first.
    pub layers: Vec<LayerRecord>,
}

impl Record {
    /// A record without layers yet.
    #[must_use]
    pub fn new(files: Vec<FileId>) -> Self {
        Self {
            version: VERSION,
            files,
            names: Vec::new(),
            manifest: None,
            config: None,
            layers: Vec::new(),
        }
    }
}

/// The cache of a store.
#[derive(Debug, Clone)]
pub struct Cache {
    dir: PathBuf,
    budget: u64,
}

impl Cache {
    /// The cache of a store.
    #[must_use]
    pub fn of(store: &Store) -> Self {
        Self {
            dir: store.inspect_dir(),
            budget: BUDGET,
        }
    }

    /// Where a layer's index is, or will be.
    #[must_use]
    pub fn layer_path(&self, layer: &DiffId) -> PathBuf {
        self.dir.join(format!("{}.layer", layer.0.hex()))
    }

    /// Where a stack's index is, or will be.
    #[must_use]
    pub fn chain_path(&self, chain: &ChainId) -> PathBuf {
        self.dir.join(format!("{}.chain", chain.0.hex()))
    }

    fn record_path(&self, kind: &str, path: &Path, reference: Option<&str>) -> PathBuf {
        let mut key = kind.as_bytes().to_vec();
        for part in [
            path.as_os_str().as_bytes(),
            reference.unwrap_or_default().as_bytes(),
        ] {
            key.push(0);
            key.extend_from_slice(part);
        }
        self.dir.join(format!("{}.json", Digest::of(&key).hex()))
    }

    /// What was found at a place; `None` when nothing is known, or one of the files is another now.
    #[must_use]
    pub fn record(&self, kind: &str, path: &Path, reference: Option<&str>) -> Option<Record> {
        let file = self.record_path(kind, path, reference);
        // A record that can't be read is one that isn't there: it is made again.
        let record: Record = serde_json::from_slice(&std::fs::read(&file).ok()?).ok()?;
        let layers = record.layers.iter().filter_map(|l| l.file.as_ref());
        let same = record.files.iter().chain(layers).all(FileId::is_same);
        if record.version != VERSION || !same {
            return None;
        }
        touch(&file);
        Some(record)
    }

    /// Keeps what was found at a place.
    ///
    /// # Errors
    /// `System`
    pub fn keep(
        &self,
        kind: &str,
        path: &Path,
        reference: Option<&str>,
        record: &Record,
    ) -> Result<(), Failure> {
        let file = self.record_path(kind, path, reference);
        let bytes = serde_json::to_vec(record).map_err(|e| Failure::system(e.to_string()))?;
        write_atomically(&file, &bytes).context(|| format!("write {}", file.display()))
    }

    /// Whether an index is there. It counts as used then.
    #[must_use]
    pub fn has(&self, path: &Path) -> bool {
        let there = path.is_file();
        if there {
            touch(path);
        }
        there
    }

    /// Removes the files that were not used for the longest time, until the rest fits the budget.
    ///
    /// # Errors
    /// `System`
    pub fn trim(&self) -> Result<(), Failure> {
        let about = || self.dir.display().to_string();
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&self.dir).context(about)? {
            let entry = entry.context(about)?;
            // One that another process has just removed has no length.
            if let Ok(meta) = entry.metadata() {
                files.push((meta.modified().ok(), meta.len(), entry.path()));
            }
        }
        files.sort();
        let mut sum: u64 = files.iter().map(|(_, len, _)| len).sum();
        for (_, len, path) in files {
            if sum <= self.budget {
                break;
            }
            match std::fs::remove_file(&path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    return Err(e).context(|| format!("remove {}", path.display()));
                }
                _ => sum -= len,
            }
        }
        Ok(())
    }
}

/// Marks a file as used. It is only a hint: failing does no harm.
fn touch(path: &Path) {
    let now = SystemTime::now();
    let mark = || -> io::Result<()> {
        let file = File::open(path)?;
        let age = now.duration_since(file.metadata()?.modified()?);
        match age.is_ok_and(|age| age < TOUCH_AFTER) {
            true => Ok(()),
            false => file.set_modified(now),
        }
    };
    if let Err(e) = mark() {
        log::debug!("touch {}: {e}", path.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_first_and_changed_files_are_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache {
            dir: dir.path().join("cache"),
            budget: 250,
        };
        std::fs::create_dir(&cache.dir).unwrap();
        for (age, name) in [(30, "a"), (10, "b"), (20, "c")] {
            let file = File::create(cache.dir.join(name)).unwrap();
            file.set_len(100).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(age * 3600))
                .unwrap();
        }
        assert!(cache.has(&cache.dir.join("a")));
        assert!(!cache.has(&cache.dir.join("d")));
        cache.trim().unwrap();
        let mut left: Vec<_> = std::fs::read_dir(&cache.dir)
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        left.sort();
        assert_eq!(left, ["a", "b"]);

        let file = dir.path().join("f");
        std::fs::write(&file, "one").unwrap();
        let record = Record::new(vec![FileId::now(&file).unwrap()]);
        cache.keep("tar", &file, None, &record).unwrap();
        assert!(cache.record("tar", &file, None).is_some());
        assert!(cache.record("tar", &file, Some("x")).is_none());
        std::fs::write(&file, "three").unwrap();
        assert!(cache.record("tar", &file, None).is_none());
    }
}
