//! Layers: what is known of each, and their data.

use std::fs::File;
use std::io;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Store, write_atomically};
use crate::content::{LayerData, ReadAt};
use crate::error::{Context, Errno, Error, Failure, Result};
use crate::image::{DiffId, Digest};

/// What is known of a layer that has been read once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerInfo {
    /// sha256 of the uncompressed tar.
    pub diff_id: DiffId,
    /// sha256 of the blob.
    pub digest: Digest,
    /// Type of the blob.
    pub media_type: String,
    /// Length of the blob in bytes.
    pub size: u64,
    /// Length of the uncompressed tar in bytes.
    pub uncompressed_size: u64,
    /// Number of members.
    pub entries: u64,
    /// Bytes in its regular files: what Docker calls the layer's size.
    #[serde(default)]
    pub content_size: u64,
}

impl Store {
    /// What is known of a layer; `None` when it has not been read, or its data is gone.
    ///
    /// # Errors
    /// `Invalid` when the record is damaged; `System`.
    pub fn layer(&self, layer: &DiffId) -> Result<Option<LayerInfo>, Failure> {
        let path = self.layer_info_path(layer);
        let about = || format!("{}", path.display());
        let bytes = match std::fs::read(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.context(about)?,
        };
        let info: LayerInfo = serde_json::from_slice(&bytes)
            .map_err(|e| Failure::invalid(e.to_string()))
            .context(about)?;
        let data = self.layer_tar_path(layer).exists() || self.has(&layer.0);
        Ok((data && self.layer_index_path(layer).exists()).then_some(info))
    }

    /// Records a layer whose blob, index and data are in place.
    ///
    /// # Errors
    /// `System`
    pub fn add_layer(&self, info: &LayerInfo) -> Result<(), Failure> {
        let path = self.layer_info_path(&info.diff_id);
        let bytes = serde_json::to_vec(info).map_err(|e| Failure::system(e.to_string()))?;
        write_atomically(&path, &bytes).context(|| format!("write {}", path.display()))
    }
}

impl LayerData for Store {
    fn open(&self, layer: &DiffId) -> Result<Arc<dyn ReadAt>> {
        let copy = match File::open(self.layer_tar_path(layer)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => File::open(self.blob_path(&layer.0)),
            other => other,
        };
        match copy {
            Ok(file) => Ok(Arc::new(file)),
            Err(e) => Err(Error::with(
                Errno::EIO,
                format!("data of layer {layer}: {e}"),
            )),
        }
    }
}
