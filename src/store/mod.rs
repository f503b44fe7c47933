//! The store: an OCI image layout that other tools read and write as it is, and beside it, below
//! `strata/`, what is ours.
//!
//! ```text
//! oci-layout  index.json  blobs/sha256/<hex>     the layout; blobs exactly as received
//! strata/lock                                    flock: shared by writers, exclusive for gc
//! strata/index.lock                              flock: held while index.json is replaced
//! strata/layers/<diffID>.index .json             a layer's index, and what is known of it
//! strata/layers/<diffID>.tar                     its uncompressed tar, if its blob is compressed
//! strata/chains/<chainID>.index                  a stack's flattened index
//! strata/objects/<blake3>                        files of layers, whole: a cache
//! strata/containers/<id>/                        container.json, upper, work, log (mount::logs),
//!                                                mount.json, and ended.json after a mount
//! strata/mounts/<id>                             flocked while an image is mounted by itself
//! strata/tmp/                                    files on their way in
//! ```
//!
//! Every change is a new file, synced, renamed into place, and its directory synced; killed at any
//! instant, nothing that was reported done is lost, and what is half-done is not visible.

mod atomic;
mod blobs;
pub mod containers;
pub mod describe;
mod gc;
pub mod history;
pub mod images;
pub mod layers;
pub mod list;
mod lock;
pub mod names;
mod pins;
pub mod prune;
pub mod usage;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use atomic::write_atomically;
pub use blobs::BlobWriter;
pub use lock::{FileLock, Lease};
pub use pins::Pin;

use crate::content::objects::{Limits, Objects};
use crate::error::{Context, Failure, FailureKind};
use crate::image::{ChainId, DiffId, Digest};

/// The content of `oci-layout` (OCI image spec, image-layout.md).
const OCI_LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

const DIRS: [&str; 9] = [
    "blobs/sha256",
    "strata/layers",
    "strata/chains",
    "strata/objects",
    "strata/containers",
    "strata/mounts",
    "strata/tmp",
    "strata/inspect",
    "strata",
];

/// A store. Clones are the same store.
#[derive(Debug, Clone)]
pub struct Store {
    root: Arc<PathBuf>,
}

impl Store {
    /// Opens the store at `root`, which is made if it isn't there.
    ///
    /// # Errors
    /// `Denied` or `System` when it can't be made or isn't writable; `Invalid` when the directory
    /// holds something else.
    pub fn open(root: &Path) -> Result<Self, Failure> {
        let about = || format!("store {}", root.display());
        let root = std::path::absolute(root).context(about)?;
        let layout = root.join("oci-layout");
        let foreign = || -> std::io::Result<bool> {
            let ours = layout.exists() || root.join("strata").exists();
            Ok(!ours && root.is_dir() && has_entries(&root)?)
        };
        if foreign().context(about)? {
            return Err(Failure::invalid(format!(
                "{} is not empty and no store: name another directory with --root",
                root.display()
            )));
        }
        for dir in DIRS {
            std::fs::create_dir_all(root.join(dir)).map_err(|e| denied(&root, &e))?;
        }
        if !layout.exists() {
            write_atomically(&layout, OCI_LAYOUT).context(about)?;
        }
        let store = Self {
            root: Arc::new(root),
        };
        if !store.path("index.json").exists() {
            store.change_index(|_| Ok(())).context(about)?;
        }
        Ok(store)
    }

    /// Where the store is when nothing else is said: `/var/lib/strata` for root,
    /// `$XDG_DATA_HOME/strata` (`~/.local/share/strata`) for others.
    #[must_use]
    pub fn default_root() -> PathBuf {
        if rustix::process::geteuid().is_root() {
            return "/var/lib/strata".into();
        }
        let home =
            || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".local/share");
        let data = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from);
        data.filter(|d| d.is_absolute())
            .unwrap_or_else(home)
            .join("strata")
    }

    /// The store's directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn path(&self, below: &str) -> PathBuf {
        self.root.join(below)
    }

    /// For files on their way into the store: on its file system.
    #[must_use]
    pub fn tmp_dir(&self) -> PathBuf {
        self.path("strata/tmp")
    }

    /// For what is known of images outside the store: a cache.
    #[must_use]
    pub fn inspect_dir(&self) -> PathBuf {
        self.path("strata/inspect")
    }

    /// Where a blob is, or will be.
    #[must_use]
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.path("blobs/sha256").join(digest.hex())
    }

    /// Where a layer's index is, or will be.
    #[must_use]
    pub fn layer_index_path(&self, layer: &DiffId) -> PathBuf {
        self.path("strata/layers")
            .join(format!("{}.index", layer.0.hex()))
    }

    /// Where the uncompressed copy of a layer's tar is, or will be.
    #[must_use]
    pub fn layer_tar_path(&self, layer: &DiffId) -> PathBuf {
        self.path("strata/layers")
            .join(format!("{}.tar", layer.0.hex()))
    }

    fn layer_info_path(&self, layer: &DiffId) -> PathBuf {
        self.path("strata/layers")
            .join(format!("{}.json", layer.0.hex()))
    }

    /// Where a stack's flattened index is, or will be.
    #[must_use]
    pub fn chain_path(&self, chain: &ChainId) -> PathBuf {
        self.path("strata/chains")
            .join(format!("{}.index", chain.0.hex()))
    }

    /// The cache of whole files, of the size that `STRATA_OBJECTS` says (bytes, or with K, M, G or T;
    /// 0 for none), else 16 GiB.
    ///
    /// # Errors
    /// `Usage` when that is no size; `System` when the cache can't be opened.
    pub fn objects(&self) -> Result<Objects, Failure> {
        let mut limits = Limits::default();
        if let Some(size) = std::env::var_os(OBJECTS_VARIABLE) {
            limits.budget = size.to_str().and_then(parse_size).ok_or_else(|| {
                Failure::usage(format!(
                    "{OBJECTS_VARIABLE}={}: not a size; 0, 500M and 20G are some",
                    size.display()
                ))
            })?;
        }
        let path = self.path("strata/objects");
        Objects::open(&path, limits)
            .map_err(|e| Failure::from(e).context(format!("open {}", path.display())))
    }

    /// Makes renames into the store's directories last.
    ///
    /// # Errors
    /// `System`
    pub fn sync_dirs(&self) -> Result<(), Failure> {
        self.sync_blobs()?;
        self.sync_dir("strata/layers")?;
        self.sync_dir("strata/chains")
    }

    /// The same for blobs alone.
    ///
    /// # Errors
    /// `System`
    pub fn sync_blobs(&self) -> Result<(), Failure> {
        self.sync_dir("blobs/sha256")
    }

    fn sync_dir(&self, dir: &str) -> Result<(), Failure> {
        let path = self.path(dir);
        File::open(&path)
            .and_then(|d| d.sync_all())
            .context(|| format!("sync {}", path.display()))
    }
}

/// Names the size of the cache of whole files.
const OBJECTS_VARIABLE: &str = "STRATA_OBJECTS";

/// A number of bytes, with a binary unit or without.
fn parse_size(text: &str) -> Option<u64> {
    let shift = match text.bytes().last()?.to_ascii_uppercase() {
        b'K' => 10,
        b'M' => 20,
        b'G' => 30,
        b'T' => 40,
        _ => return text.parse().ok(),
    };
    let number: u64 = text.get(..text.len() - 1)?.parse().ok()?;
    number.checked_mul(1 << shift)
}

fn has_entries(dir: &Path) -> std::io::Result<bool> {
    Ok(std::fs::read_dir(dir)?.next().transpose()?.is_some())
}

fn denied(root: &Path, error: &std::io::Error) -> Failure {
    let kind = match error.kind() {
        std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
            FailureKind::Denied
        }
        _ => FailureKind::System,
    };
    Failure::new(
        kind,
        format!(
            "store {}: {error}; name another with --root or STRATA_ROOT",
            root.display()
        ),
    )
}

#[cfg(test)]
mod tests;
