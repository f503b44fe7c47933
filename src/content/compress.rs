//! Compressing layers, the same way every time.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender};
use flate2::{Compress, FlushCompress, Status};

use crate::error::Failure;
use crate::image::Compression;

/// How much is compressed at a time, in bytes. Part of the format that we write: another value
/// gives other bytes.
const BLOCK: usize = 256 * 1024;
/// What deflate looks back on, in bytes.
const WINDOW: usize = 32 * 1024;
/// gzip's usual level.
const LEVEL: u32 = 6;
/// zstd's usual level.
const ZSTD_LEVEL: i32 = 3;
/// A gzip header without name and time (RFC 1952, 2.3): unknown system.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

/// A block to be compressed, with the data before it.
struct Work {
    data: Arc<Vec<u8>>,
    before: Option<Arc<Vec<u8>>>,
    level: u32,
    reply: Sender<io::Result<Vec<u8>>>,
}

/// Writes one gzip member; blocks are compressed on several threads, each with the 32 KiB before it
/// as its dictionary, so that the bytes don't depend on the number of threads.
pub struct GzipWriter<W: Write> {
    inner: W,
    block: Vec<u8>,
    before: Option<Arc<Vec<u8>>>,
    crc: crc32fast::Hasher,
    len: u64,
    pending: VecDeque<Receiver<io::Result<Vec<u8>>>>,
    work: Option<Sender<Work>>,
    threads: Vec<JoinHandle<()>>,
    started: bool,
    level: u32,
}

impl<W: Write> GzipWriter<W> {
    /// Compresses into `inner`, on as many threads as there are processors.
    pub fn new(inner: W) -> Self {
        Self::with_threads(
            inner,
            std::thread::available_parallelism().map_or(2, usize::from),
        )
    }

    /// Compresses into `inner` on this many threads.
    pub fn with_threads(inner: W, threads: usize) -> Self {
        let (work, jobs) = crossbeam_channel::bounded::<Work>(threads);
        let thread = |_| {
            let jobs = jobs.clone();
            std::thread::spawn(move || {
                for job in jobs {
                    // Nobody waits for the answer once the writer is gone.
                    job.reply
                        .send(deflate(&job.data, job.before.as_deref(), job.level))
                        .ok();
                }
            })
        };
        Self {
            inner,
            block: Vec::with_capacity(BLOCK),
            before: None,
            crc: crc32fast::Hasher::new(),
            len: 0,
            pending: VecDeque::new(),
            work: Some(work),
            threads: (0..threads.max(1)).map(thread).collect(),
            started: false,
            level: LEVEL,
        }
    }

    /// With another level than 6.
    #[must_use]
    pub fn at_level(mut self, level: u32) -> Self {
        self.level = level;
        self
    }

    /// Writes what is left and the trailer, and gives the stream back.
    ///
    /// # Errors
    /// What writing reports.
    pub fn finish(mut self) -> Result<W, Failure> {
        self.start()?;
        if !self.block.is_empty() {
            self.dispatch()?;
        }
        while !self.pending.is_empty() {
            self.collect()?;
        }
        // An empty last block, and the trailer (RFC 1951, 3.2.3; RFC 1952, 2.3.1).
        self.inner.write_all(&[0x03, 0x00])?;
        self.inner.write_all(&self.crc.finalize().to_le_bytes())?;
        // The length modulo 2^32.
        let len = u32::try_from(self.len & u64::from(u32::MAX)).unwrap_or(0);
        self.inner.write_all(&len.to_le_bytes())?;
        self.inner.flush()?;
        drop(self.work.take());
        for thread in self.threads {
            if thread.join().is_err() {
                return Err(Failure::system("a compressing thread has failed"));
            }
        }
        Ok(self.inner)
    }

    fn start(&mut self) -> io::Result<()> {
        if !std::mem::replace(&mut self.started, true) {
            self.inner.write_all(&HEADER)?;
        }
        Ok(())
    }

    fn dispatch(&mut self) -> io::Result<()> {
        let data = Arc::new(std::mem::replace(
            &mut self.block,
            Vec::with_capacity(BLOCK),
        ));
        self.crc.update(&data);
        self.len += data.len() as u64;
        let (reply, answer) = crossbeam_channel::bounded(1);
        let before = self.before.replace(Arc::clone(&data));
        let gone = || io::Error::other("the compressing threads have ended");
        let work = self.work.as_ref().ok_or_else(gone)?;
        work.send(Work {
            data,
            before,
            level: self.level,
            reply,
        })
        .map_err(|_| gone())?;
        self.pending.push_back(answer);
        if self.pending.len() > 2 * self.threads.len() {
            self.collect()?;
        }
        Ok(())
    }

    fn collect(&mut self) -> io::Result<()> {
        if let Some(answer) = self.pending.pop_front() {
            let failed = |_| io::Error::other("a compressing thread has failed");
            self.inner.write_all(&answer.recv().map_err(failed)??)?;
        }
        Ok(())
    }
}

impl<W: Write> Write for GzipWriter<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.start()?;
        let room = BLOCK - self.block.len();
        let taken = buf.get(..room.min(buf.len())).unwrap_or_default();
        self.block.extend_from_slice(taken);
        if self.block.len() == BLOCK {
            self.dispatch()?;
        }
        Ok(taken.len())
    }

    /// Does nothing: where blocks end must not depend on the writer.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One block as deflate data that ends at a byte (a sync flush), without a last block.
fn deflate(data: &[u8], before: Option<&Vec<u8>>, level: u32) -> io::Result<Vec<u8>> {
    let mut compress = Compress::new(flate2::Compression::new(level), false);
    if let Some(before) = before {
        let start = before.len().saturating_sub(WINDOW);
        compress.set_dictionary(before.get(start..).unwrap_or_default())?;
    }
    let mut out = Vec::with_capacity(data.len() / 2 + 1024);
    loop {
        let read = usize::try_from(compress.total_in()).unwrap_or(usize::MAX);
        let rest = data.get(read..).unwrap_or_default();
        let status = compress.compress_vec(rest, &mut out, FlushCompress::Sync)?;
        // Room left means that all of it, and the flush, is out.
        if out.len() < out.capacity() {
            return Ok(out);
        }
        if status == Status::BufError && out.len() == out.capacity() || status == Status::Ok {
            out.reserve(64 * 1024);
        }
    }
}

/// A compression and how hard it tries, where that is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    compression: Compression,
    level: Option<i32>,
}

impl Setting {
    /// A compression with a level that it has: gzip 1 to 9, zstd 1 to 22.
    ///
    /// # Errors
    /// `Usage`
    pub fn new(compression: Compression, level: Option<i32>) -> Result<Self, Failure> {
        let (name, most) = match compression {
            Compression::None => ("none", 0),
            Compression::Gzip => ("gzip", 9),
            Compression::Zstd => ("zstd", 22),
        };
        match level {
            Some(level) if most == 0 => Err(Failure::usage(format!(
                "compression level {level}: without compression there is no level"
            ))),
            Some(level) if !(1..=most).contains(&level) => Err(Failure::usage(format!(
                "compression level {level}: {name} has 1 to {most}"
            ))),
            _ => Ok(Self { compression, level }),
        }
    }

    /// The compression.
    #[must_use]
    pub fn compression(self) -> Compression {
        self.compression
    }

    /// Whether a level is asked for.
    #[must_use]
    pub fn has_level(self) -> bool {
        self.level.is_some()
    }
}

impl From<Compression> for Setting {
    fn from(compression: Compression) -> Self {
        Self {
            compression,
            level: None,
        }
    }
}

/// A writer that compresses as asked.
pub enum Compressor<W: Write> {
    /// Not at all.
    None(W),
    /// gzip, in parallel.
    Gzip(GzipWriter<W>),
    /// Zstandard, with a checksum.
    Zstd(zstd::stream::write::Encoder<'static, W>),
}

impl<W: Write> Compressor<W> {
    /// Compresses into `inner`.
    ///
    /// # Errors
    /// What setting up zstd reports.
    pub fn new(inner: W, how: impl Into<Setting>) -> Result<Self, Failure> {
        let Setting { compression, level } = how.into();
        Ok(match compression {
            Compression::None => Self::None(inner),
            Compression::Gzip => {
                let level = level.and_then(|l| u32::try_from(l).ok()).unwrap_or(LEVEL);
                Self::Gzip(GzipWriter::new(inner).at_level(level))
            }
            Compression::Zstd => {
                let level = level.unwrap_or(ZSTD_LEVEL);
                let mut encoder = zstd::stream::write::Encoder::new(inner, level)?;
                encoder.include_checksum(true)?;
                Self::Zstd(encoder)
            }
        })
    }

    /// Writes what is left, and gives the stream back.
    ///
    /// # Errors
    /// What writing reports.
    pub fn finish(self) -> Result<W, Failure> {
        match self {
            Self::None(inner) => Ok(inner),
            Self::Gzip(gzip) => gzip.finish(),
            Self::Zstd(zstd) => Ok(zstd.finish()?),
        }
    }
}

impl<W: Write> Write for Compressor<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::None(inner) => inner.write(buf),
            Self::Gzip(gzip) => gzip.write(buf),
            Self::Zstd(zstd) => zstd.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::None(inner) => inner.flush(),
            Self::Gzip(gzip) => gzip.flush(),
            Self::Zstd(zstd) => zstd.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::stream::decoder;
    use super::*;
    use std::io::Read as _;

    /// Text, noise and zeros, so that blocks of all kinds occur.
    fn sample(len: usize) -> Vec<u8> {
        let mut state = 1_u32;
        (0..len)
            .map(|i| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                match i >> 17 & 3 {
                    0 => b"the quick brown fox "[i % 20],
                    1 => (state >> 24) as u8,
                    2 => 0,
                    _ => b"abcd"[(state >> 30) as usize],
                }
            })
            .collect()
    }

    fn compressed(data: &[u8], threads: usize, step: usize) -> Vec<u8> {
        let mut gzip = GzipWriter::with_threads(Vec::new(), threads);
        for chunk in data.chunks(step) {
            gzip.write_all(chunk).unwrap();
        }
        gzip.finish().unwrap()
    }

    #[test]
    fn the_bytes_depend_on_the_data_only() {
        for len in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 5 * BLOCK + 77] {
            let data = sample(len);
            let bytes = compressed(&data, 1, 1 << 20);
            assert_eq!(bytes, compressed(&data, 4, 1000), "{len}");
            let mut back = Vec::new();
            decoder(Box::new(io::Cursor::new(bytes)))
                .unwrap()
                .1
                .read_to_end(&mut back)
                .unwrap();
            assert!(back == data, "{len}");
        }
    }

    #[test]
    fn gzip_itself_accepts_it() {
        let data = sample(3 * BLOCK + 5);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.gz");
        std::fs::write(&path, compressed(&data, 2, 4096)).unwrap();
        let out = std::process::Command::new("gzip")
            .arg("-dc")
            .arg(&path)
            .output()
            .unwrap();
        assert!(out.status.success() && out.stdout == data);
    }

    #[test]
    fn every_compressor_gives_the_data_back() {
        let data = sample(BLOCK + 10);
        for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
            let mut writer = Compressor::new(Vec::new(), compression).unwrap();
            writer.write_all(&data).unwrap();
            let bytes = writer.finish().unwrap();
            let (found, mut reader) = decoder(Box::new(io::Cursor::new(bytes))).unwrap();
            let mut back = Vec::new();
            reader.read_to_end(&mut back).unwrap();
            assert_eq!(found, compression);
            assert!(back == data);
        }
    }

    #[test]
    fn levels_count_and_have_bounds() {
        let data = sample(4 * BLOCK);
        let at = |compression, level| {
            let how = Setting::new(compression, Some(level)).unwrap();
            let mut writer = Compressor::new(Vec::new(), how).unwrap();
            writer.write_all(&data).unwrap();
            writer.finish().unwrap().len()
        };
        assert!(at(Compression::Gzip, 1) > at(Compression::Gzip, 9));
        assert!(at(Compression::Zstd, 1) > at(Compression::Zstd, 19));
        for (compression, level) in [
            (Compression::Gzip, 0),
            (Compression::Gzip, 10),
            (Compression::Zstd, 23),
            (Compression::None, 1),
        ] {
            assert!(Setting::new(compression, Some(level)).is_err());
        }
    }
}
