//! One pass over a layer: everything that is made of it and everything that is checked about it,
//! side by side on threads.
//!
//! ```text
//!   reader ─┬─ sha256 of the blob           a plain tar's tree is read straight from here
//!           ├─ the blob, as received
//!           └─ decompress ─┬─ sha256 of the tar (diffID)
//!                          ├─ the uncompressed copy
//!                          └─ members ─ content keys ─ layer index
//! ```
//!
//! Nothing is visible in the store before [`StagedLayer::publish`]; dropping a [`StagedLayer`]
//! removes what was written.

use std::io::Read;
use std::path::Path;

use super::expansion::Limits;
use super::pipe::{Buffer, Fan, Pool};
use super::progress::Progress;
use super::staged::Staged;
use super::stages::{Plan, Stages, Stop, Verified, feed};
use crate::content::stream::sniff;
use crate::error::Failure;
use crate::image::{Compression, DiffId, Digest};
use crate::store::Store;
use crate::store::layers::LayerInfo;

/// What is known of a layer before it is read.
#[derive(Debug, Clone, Default)]
pub struct LayerSpec {
    /// The sha256 that the blob must have.
    pub digest: Option<Digest>,
    /// The length that the blob must have, in bytes.
    pub size: Option<u64>,
    /// The sha256 that the uncompressed tar must have.
    pub diff_id: Option<DiffId>,
    /// The media type that the manifest gives the blob; found out without.
    pub media_type: Option<String>,
}

/// What is wanted of a layer besides its verification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// The blob, as received.
    pub blob: bool,
    /// The index.
    pub tree: bool,
    /// The uncompressed copy, where the blob is compressed.
    pub copy: bool,
}

/// A layer that has been read and verified, and is not visible in the store yet.
pub struct StagedLayer {
    /// What is now known of it.
    pub info: LayerInfo,
    blob: Option<Staged>,
    tar: Option<Staged>,
    index: Option<Staged>,
}

impl StagedLayer {
    /// Where its index is until it is published.
    #[must_use]
    pub fn index(&self) -> Option<&Path> {
        self.index.as_ref().map(Staged::path)
    }

    /// Gives the index alone a place, outside the store's own; what is now known of the layer.
    ///
    /// # Errors
    /// [`Failure`] of kind `System`.
    pub fn publish_index(self, to: &Path) -> Result<LayerInfo, Failure> {
        if let Some(index) = self.index {
            index.publish(to)?;
        }
        Ok(self.info)
    }

    /// Makes it visible: its data first, then its index, then the record that says that both are
    /// there, so that a crash in between leaves unused files and nothing else.
    ///
    /// # Errors
    /// [`Failure`] of kind `System`.
    pub fn publish(self, store: &Store) -> Result<LayerInfo, Failure> {
        let info = self.info;
        if let Some(blob) = self.blob
            && !store.has(&info.digest)
        {
            blob.publish(&store.blob_path(&info.digest))?;
        }
        if let Some(tar) = self.tar {
            tar.publish(&store.layer_tar_path(&info.diff_id))?;
        }
        if let Some(index) = self.index {
            index.publish(&store.layer_index_path(&info.diff_id))?;
            store.add_layer(&info)?;
        }
        Ok(info)
    }
}

/// Reads a layer and puts it into the store.
///
/// # Errors
/// As [`stage_layer`] and [`StagedLayer::publish`].
pub fn ingest_layer(
    store: &Store,
    reader: &mut (dyn Read + Send),
    spec: &LayerSpec,
    progress: &dyn Progress,
) -> Result<LayerInfo, Failure> {
    let keep = Keep {
        blob: true,
        tree: true,
        copy: true,
    };
    stage_layer(
        &store.tmp_dir(),
        reader,
        spec,
        keep,
        Limits::default(),
        progress,
    )?
    .publish(store)
}

/// Reads a layer once: verifies it, and writes what is to be kept of it into `tmp`.
///
/// # Errors
/// [`Failure`] of kind `Invalid` when it doesn't have the length, the digest or the diffID that
/// `spec` says, can't be decompressed, expands past `limits`, or is no tar that can be a layer;
/// `System` when reading or writing fails. Where one fault brings others with it, the first.
pub fn stage_layer(
    tmp: &Path,
    reader: &mut (dyn Read + Send),
    spec: &LayerSpec,
    keep: Keep,
    limits: Limits,
    progress: &dyn Progress,
) -> Result<StagedLayer, Failure> {
    let pool = Pool::default();
    let first = pool.fill(reader)?;
    let start = first.as_deref().map(Buffer::bytes).unwrap_or_default();
    let compression = sniff(start);
    let plain = compression == Compression::None;
    let blob = keep.blob.then(|| Staged::new_in(tmp)).transpose()?;
    let tar = (keep.copy && !plain)
        .then(|| Staged::new_in(tmp))
        .transpose()?;
    let plan = Plan {
        compression,
        blob: blob.as_ref(),
        tar: tar.as_ref(),
        tree: keep.tree,
        limits,
    };
    let results = std::thread::scope(|scope| {
        let mut fan = Fan::default();
        let stop = Stop::default();
        let stages = Stages::start(scope, &mut fan, &plan, &stop);
        let fed = feed(reader, &pool, first, fan, spec.size, &stop, progress);
        stages.join(fed)
    });
    let Verified {
        blob: (digest, size),
        tar: (tar_digest, uncompressed_size),
        tree,
    } = results.verdict(spec)?;
    let diff_id = DiffId(tar_digest);
    let (mut entries, mut content_size) = (0, 0);
    let index = match tree {
        Some(tree) => {
            let index = Staged::new_in(tmp)?;
            entries = tree.builder.finish(diff_id, index.path())?.entries;
            content_size = tree.content_size;
            index.sync()?;
            Some(index)
        }
        None => None,
    };
    let media_type = spec
        .media_type
        .clone()
        .unwrap_or_else(|| compression.oci_layer().to_owned());
    let info = LayerInfo {
        diff_id,
        digest,
        media_type,
        size,
        uncompressed_size,
        entries,
        content_size,
    };
    Ok(StagedLayer {
        info,
        blob,
        tar,
        index,
    })
}
