//! The bytes of layers that are not in the store: read from the archive itself, at random where it
//! is not compressed, else forward through a decompressor. Nothing is opened before it is read.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::cache::FileId;
use crate::content::stream::{decoder, sniff};
use crate::content::tar_file::FileRange;
use crate::content::{LayerData, ReadAt};
use crate::error::{Errno, Error, Failure, Result};
use crate::image::{Compression, DiffId};

/// Counts how often a layer's data is opened.
pub struct Counted {
    inner: Arc<dyn LayerData>,
    opens: Arc<AtomicU64>,
}

impl Counted {
    /// Counts the opens of `inner` into `opens`.
    #[must_use]
    pub fn new(inner: Arc<dyn LayerData>, opens: Arc<AtomicU64>) -> Self {
        Self { inner, opens }
    }
}

impl LayerData for Counted {
    fn open(&self, layer: &DiffId) -> Result<Arc<dyn ReadAt>> {
        self.opens.fetch_add(1, Ordering::Relaxed);
        self.inner.open(layer)
    }
}

/// Where a layer's blob is: a run of bytes of a file.
#[derive(Debug, Clone)]
pub struct BlobPlace {
    /// The file, as it was when the layer was verified.
    pub file: FileId,
    /// Whether the file as a whole is compressed; the run is of what is in it.
    pub wrapped: bool,
    /// Where the run begins.
    pub offset: u64,
    /// Its length in bytes.
    pub size: u64,
}

/// The data of an archive's layers; of those that it doesn't say, another's.
pub struct ArchiveData {
    places: HashMap<DiffId, BlobPlace>,
    others: Arc<dyn LayerData>,
}

impl ArchiveData {
    /// The data of the layers at `places`, and of `others`.
    #[must_use]
    pub fn new(places: HashMap<DiffId, BlobPlace>, others: Arc<dyn LayerData>) -> Self {
        Self { places, others }
    }
}

impl LayerData for ArchiveData {
    fn open(&self, layer: &DiffId) -> Result<Arc<dyn ReadAt>> {
        let Some(place) = self.places.get(layer) else {
            return self.others.open(layer);
        };
        open_place(place).map_err(|e| e.context(place.file.path.display()))
    }
}

fn open_place(place: &BlobPlace) -> Result<Arc<dyn ReadAt>> {
    let file = File::open(&place.file.path)?;
    if FileId::of(&place.file.path, &file.metadata()?) != place.file {
        return Err(Error::with(
            Errno::ESTALE,
            "it has changed since it was looked at",
        ));
    }
    let outer: Arc<dyn ReadAt> = match place.wrapped {
        false => Arc::new(file),
        true => Arc::new(Forward::new(Arc::new(file))),
    };
    let blob: Arc<dyn ReadAt> = Arc::new(FileRange::new(outer, place.offset, place.size));
    let mut start = [0; 4];
    let filled = blob.read_at(&mut start, 0)?;
    let start = start.get(..filled).unwrap_or_default();
    Ok(match sniff(start) {
        Compression::None => blob,
        _ => Arc::new(Forward::new(blob)),
    })
}

/// A compressed stream, readable at offsets: cheap when they ascend, from the start otherwise.
struct Forward {
    compressed: Arc<dyn ReadAt>,
    state: Mutex<Option<Running>>,
}

struct Running {
    decoded: Box<dyn Read + Send>,
    at: u64,
}

impl Forward {
    fn new(compressed: Arc<dyn ReadAt>) -> Self {
        Self {
            compressed,
            state: Mutex::new(None),
        }
    }

    fn start(&self) -> Result<Running> {
        let reader = ContentReader::new(Arc::clone(&self.compressed));
        let (_, decoded) = decoder(Box::new(reader)).map_err(of_failure)?;
        Ok(Running { decoded, at: 0 })
    }
}

fn of_failure(failure: Failure) -> Error {
    Error::with(Errno::EIO, failure.to_string())
}

impl Running {
    /// Fills `buf` as far as the stream goes.
    fn fill(&mut self, buf: &mut [u8]) -> Result<usize> {
        let mut filled = 0;
        while let Some(space) = buf.get_mut(filled..).filter(|s| !s.is_empty()) {
            match self.decoded.read(space) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(of_failure(e.into())),
            }
        }
        self.at += filled as u64;
        Ok(filled)
    }
}

impl ReadAt for Forward {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
        let mut state = self.state.lock();
        let mut running = match state.take() {
            Some(running) if running.at <= offset => running,
            _ => self.start()?,
        };
        let mut skipped = vec![0; 128 << 10];
        while running.at < offset {
            let left = usize::try_from(offset - running.at).unwrap_or(usize::MAX);
            let want = left.min(skipped.len());
            let space = skipped.get_mut(..want).unwrap_or_default();
            if running.fill(space)? < want {
                return Ok(0);
            }
        }
        let filled = running.fill(buf)?;
        *state = Some(running);
        Ok(filled)
    }

    /// Not known without reading all of it; those who read know where their part ends.
    fn len(&self) -> u64 {
        u64::MAX
    }
}

/// Reads something from its start to its end.
pub struct ContentReader {
    inner: Arc<dyn ReadAt>,
    at: u64,
}

impl ContentReader {
    /// A reader at the start.
    #[must_use]
    pub fn new(inner: Arc<dyn ReadAt>) -> Self {
        Self { inner, at: 0 }
    }
}

impl Read for ContentReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self
            .inner
            .read_at(buf, self.at)
            .map_err(|error| io::Error::from(Failure::from(error)))?;
        self.at += n as u64;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn compressed_streams_are_read_at_any_offset() {
        let data: Vec<u8> = (0..600_000_u32).map(|i| (i % 251) as u8).collect();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&data).unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&gzip.finish().unwrap()).unwrap();
        let stream = Forward::new(Arc::new(file));
        let mut buf = [0; 1000];
        for offset in [0, 10, 500_000, 499_000, 599_500, 3, 600_000, 700_000, 5] {
            let n = stream.read_at(&mut buf, offset).unwrap();
            let from = (offset as usize).min(data.len());
            let expected = &data[from..(from + 1000).min(data.len())];
            assert_eq!(&buf[..n], expected, "{offset}");
        }
    }
}
