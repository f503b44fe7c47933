//! The bytes of blobs, at random and as streams.

pub mod compress;
pub mod stream;
pub mod tar_file;

use std::sync::Arc;

use crate::error::Result;
use crate::image::DiffId;

/// Something readable at an offset.
pub trait ReadAt: Send + Sync {
    /// Reads into `buf` from `offset`; fewer bytes than asked only at the end; 0 past it.
    ///
    /// # Errors
    /// `EIO` and what the file system below reports.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize>;

    /// Length in bytes.
    fn len(&self) -> u64;

    /// Whether there are no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a read takes no longer than one of an open host file: nothing has to be decompressed
    /// or fetched first.
    fn is_at_hand(&self) -> bool {
        false
    }

    /// The next data at or after `offset` as (start, end), or `None` when only a hole follows:
    /// what `SEEK_DATA` and `SEEK_HOLE` need. The default: one run of data.
    fn next_data(&self, offset: u64) -> Option<(u64, u64)> {
        (offset < self.len()).then(|| (offset, self.len()))
    }
}

/// Where the uncompressed tar streams of an image's layers are. The store implements it.
pub trait LayerData: Send + Sync {
    /// The uncompressed tar of a layer.
    ///
    /// # Errors
    /// `EIO` with the layer's name when its data is gone.
    fn open(&self, layer: &DiffId) -> Result<Arc<dyn ReadAt>>;
}
