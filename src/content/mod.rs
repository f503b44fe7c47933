//! The bytes of blobs, at random and as streams.

pub mod compress;
pub mod copy;
pub mod objects;
pub mod stream;
pub mod tar_file;

use std::fs::File;
use std::sync::Arc;

use crate::error::{Errno, Error, Result};
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

    /// Where the bytes from `offset` to the end of their run of data lie in a host file, as that
    /// file and an offset in it: the kernel can copy them by itself.
    fn host_range(&self, _offset: u64) -> Option<(&File, u64)> {
        None
    }

    /// Whether it is worth a host file of its own, which isn't there yet.
    fn is_worth_a_file(&self) -> bool {
        false
    }

    /// Makes that host file; takes as long as copying all bytes.
    ///
    /// # Errors
    /// `EOPNOTSUPP` where it isn't worth one; what reading and writing report.
    fn to_file(&self) -> Result<Arc<File>> {
        Err(Error::new(Errno::EOPNOTSUPP))
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

    /// The file of the layer's own index.
    ///
    /// # Errors
    /// `EIO` with the layer's name when there is none.
    fn index(&self, layer: &DiffId) -> Result<File> {
        let text = format!("index of layer {layer}: it is not kept");
        Err(Error::with(Errno::EIO, text))
    }
}
