//! The flattened index of a stack of layers: what a mount opens.

use std::path::{Path, PathBuf};

use super::expansion::Limits;
use super::ingest::{Keep, LayerSpec, stage_layer};
use super::part::Part;
use super::progress::Progress;
use super::staged::Staged;
use crate::error::{Context, Failure};
use crate::image::{ChainId, DiffId, Digest};
use crate::index::flatten::flatten;
use crate::index::reader::Index;
use crate::store::Store;
use crate::store::names::StoredImage;

/// A stack's index that is not visible in the store yet.
pub struct StagedChain {
    id: ChainId,
    index: Staged,
}

impl StagedChain {
    /// The stack.
    #[must_use]
    pub fn id(&self) -> ChainId {
        self.id
    }

    /// Gives it its place in the store.
    ///
    /// # Errors
    /// [`Failure`] of kind `System`.
    pub fn publish(self, store: &Store) -> Result<(), Failure> {
        let path = store.chain_path(&self.id);
        self.publish_at(&path)
    }

    /// Gives it a place elsewhere.
    ///
    /// # Errors
    /// [`Failure`] of kind `System`.
    pub fn publish_at(self, path: &Path) -> Result<(), Failure> {
        self.index.publish(path)
    }
}

/// The name of a stack; that of no layers at all is the digest of nothing.
#[must_use]
pub fn chain_of(layers: &[DiffId]) -> ChainId {
    ChainId::of(layers).unwrap_or_else(|| ChainId(Digest::of(b"")))
}

/// Flattens the layer indexes at `indexes`, bottom first, into a file in `tmp`.
///
/// # Errors
/// [`Failure`] of kind `Invalid` when the layers don't fit each other (a hard link to a file that
/// none of them has), `System` when reading or writing fails.
pub fn stage_chain(tmp: &Path, id: ChainId, indexes: &[PathBuf]) -> Result<StagedChain, Failure> {
    let mut open = Vec::with_capacity(indexes.len());
    for path in indexes {
        open.push(Index::open(path).context(|| format!("open {}", path.display()))?);
    }
    let index = Staged::new_in(tmp)?;
    flatten(&open, index.path())?;
    index.sync()?;
    Ok(StagedChain { id, index })
}

/// The index of an image's stack: made now where it is not there, and so are the indexes of its
/// layers (another tool may have put the image into the store).
///
/// # Errors
/// [`Failure`] that names the layer: its blob is missing or is not what its digest says, or it
/// can't be a layer; of kind `System` when reading or writing fails.
pub fn ensure_image(
    store: &Store,
    image: &StoredImage,
    progress: &dyn Progress,
) -> Result<PathBuf, Failure> {
    let _lease = store.lease()?;
    let layers = &image.config.rootfs.diff_ids;
    let blobs = &image.manifest_data.layers;
    if layers.len() != blobs.len() {
        return Err(Failure::invalid(format!(
            "image {}: its configuration lists {} layers, its manifest {}",
            image.id,
            layers.len(),
            blobs.len()
        )));
    }
    for (diff_id, blob) in layers.iter().zip(blobs) {
        if store.layer(diff_id)?.is_some() {
            continue;
        }
        let what = || format!("image {}: layer {}", image.id, blob.digest);
        let file = store.open_blob(&blob.digest).context(what)?;
        let size = file.metadata()?.len();
        let spec = LayerSpec {
            digest: Some(blob.digest),
            size: Some(blob.size),
            diff_id: Some(*diff_id),
            media_type: Some(blob.media_type.clone()),
        };
        let keep = Keep {
            blob: false,
            tree: true,
            copy: true,
        };
        let mut reader = Part::new(file.into(), 0, size).reader();
        progress.begin("Indexing a layer", Some(size));
        let limits = Limits::default();
        let staged = stage_layer(&store.tmp_dir(), &mut reader, &spec, keep, limits, progress);
        progress.end();
        staged
            .and_then(|layer| layer.publish(store))
            .context(what)?;
    }
    ensure_chain(store, layers)
}

/// The index of a stack whose layers all have theirs: made now where it is not there.
///
/// # Errors
/// [`Failure`], as [`stage_chain`].
pub fn ensure_chain(store: &Store, layers: &[DiffId]) -> Result<PathBuf, Failure> {
    let id = chain_of(layers);
    let path = store.chain_path(&id);
    if !path.exists() {
        let indexes: Vec<_> = layers
            .iter()
            .map(|layer| store.layer_index_path(layer))
            .collect();
        stage_chain(&store.tmp_dir(), id, &indexes)?.publish(store)?;
        store.sync_dirs()?;
    }
    Ok(path)
}
