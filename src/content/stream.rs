//! Streams: decompression, hashing, verification.

use std::io::{self, BufReader, Read, Write};

use sha2::{Digest as _, Sha256};

use crate::error::Failure;
use crate::image::{Compression, Digest};

/// What the first bytes of a stream say of its compression (four bytes will do).
#[must_use]
pub fn sniff(start: &[u8]) -> Compression {
    // zstd's skippable frames may come first (RFC 8878, 3.1.2).
    match start {
        [0x1f, 0x8b, ..] => Compression::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
        [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
        _ => Compression::None,
    }
}

/// Reads a stream that may be compressed, uncompressed; gzip with several members and zstd with
/// several frames are one stream.
///
/// # Errors
/// What reading the first bytes reports; later, reading reports damage as an error.
pub fn decoder(
    mut reader: Box<dyn Read + Send>,
) -> Result<(Compression, Box<dyn Read + Send>), Failure> {
    let mut start = [0; 4];
    let mut filled = 0;
    while let Some(space) = start.get_mut(filled..).filter(|s| !s.is_empty()) {
        match reader.read(space) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e.into()),
        }
    }
    let start: Vec<u8> = start.into_iter().take(filled).collect();
    let compression = sniff(&start);
    let whole = io::Cursor::new(start).chain(reader);
    let buffered = BufReader::with_capacity(128 * 1024, whole);
    Ok(match compression {
        Compression::None => (compression, Box::new(buffered)),
        Compression::Gzip => {
            let inner = flate2::bufread::MultiGzDecoder::new(buffered);
            (
                compression,
                Box::new(Checked {
                    inner,
                    what: "gzip",
                }),
            )
        }
        Compression::Zstd => {
            let inner = zstd::stream::read::Decoder::with_buffer(buffered)?;
            (
                compression,
                Box::new(Checked {
                    inner,
                    what: "zstd",
                }),
            )
        }
    })
}

/// Says what kind of stream was damaged.
struct Checked<R> {
    inner: R,
    what: &'static str,
}

impl<R: Read> Read for Checked<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buf).map_err(|e| {
            // An error of the stream below (a Failure, or the system's) is passed on as it is.
            if e.raw_os_error().is_some() || e.get_ref().is_some_and(|e| e.is::<Failure>()) {
                return e;
            }
            Failure::invalid(format!("damaged {} data: {e}", self.what)).into()
        })
    }
}

/// Hashes what is read through it.
pub struct HashingReader<R> {
    inner: R,
    hash: Sha256,
    len: u64,
}

impl<R: Read> HashingReader<R> {
    /// Hashes what is read from `inner`.
    pub fn new(inner: R) -> Self {
        Self {
            inner,
            hash: Sha256::new(),
            len: 0,
        }
    }

    /// The digest and the number of the bytes read.
    #[must_use]
    pub fn finish(self) -> (Digest, u64) {
        (Digest::from_bytes(self.hash.finalize().into()), self.len)
    }
}

impl<R: Read> Read for HashingReader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.hash.update(buf.get(..n).unwrap_or_default());
        self.len += n as u64;
        Ok(n)
    }
}

/// Hashes what is written through it.
pub struct HashingWriter<W> {
    inner: W,
    hash: Sha256,
    len: u64,
}

impl<W: Write> HashingWriter<W> {
    /// Hashes what is written to `inner`.
    pub fn new(inner: W) -> Self {
        Self {
            inner,
            hash: Sha256::new(),
            len: 0,
        }
    }

    /// The stream, and the digest and number of the bytes written.
    #[must_use]
    pub fn finish(self) -> (W, Digest, u64) {
        (
            self.inner,
            Digest::from_bytes(self.hash.finalize().into()),
            self.len,
        )
    }
}

impl<W: Write> Write for HashingWriter<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(buf)?;
        self.hash.update(buf.get(..n).unwrap_or_default());
        self.len += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// A stream that can't be read to its end unless its length and digest are as expected.
pub struct VerifiedReader<R> {
    inner: HashingReader<R>,
    digest: Digest,
    size: u64,
    verified: bool,
}

impl<R: Read> VerifiedReader<R> {
    /// Expects `size` bytes with this digest.
    pub fn new(inner: R, digest: Digest, size: u64) -> Self {
        Self {
            inner: HashingReader::new(inner),
            digest,
            size,
            verified: false,
        }
    }

    fn check_end(&mut self) -> io::Result<()> {
        if self.inner.len < self.size {
            let (digest, len, size) = (self.digest, self.inner.len, self.size);
            let text = format!("{digest}: too short: {len} of {size} bytes");
            return Err(Failure::invalid(text).into());
        }
        let found = Digest::from_bytes(self.inner.hash.clone().finalize().into());
        if found != self.digest {
            let text = format!("{}: its contents have the digest {found}", self.digest);
            return Err(Failure::invalid(text).into());
        }
        self.verified = true;
        Ok(())
    }
}

impl<R: Read> Read for VerifiedReader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.verified || buf.is_empty() {
            return Ok(0);
        }
        let n = self.inner.read(buf)?;
        if self.inner.len > self.size {
            let text = format!("{}: longer than its {} bytes", self.digest, self.size);
            return Err(Failure::invalid(text).into());
        }
        if n == 0 {
            self.check_end()?;
        }
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(reader: impl Read) -> Result<Vec<u8>, Failure> {
        let mut reader = reader;
        let mut data = Vec::new();
        reader.read_to_end(&mut data)?;
        Ok(data)
    }

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn streams_are_recognised_and_several_members_are_one() {
        let two = [gzip(b"first "), gzip(b"second")].concat();
        let frames = [
            zstd::encode_all(&b"first "[..], 1).unwrap(),
            zstd::encode_all(&b"second"[..], 1).unwrap(),
        ];
        for (bytes, expected) in [
            (two, Compression::Gzip),
            (frames.concat(), Compression::Zstd),
            (b"first second".to_vec(), Compression::None),
        ] {
            let (compression, reader) = decoder(Box::new(io::Cursor::new(bytes))).unwrap();
            assert_eq!(compression, expected);
            assert_eq!(read_all(reader).unwrap(), b"first second");
        }
        let (compression, reader) = decoder(Box::new(io::empty())).unwrap();
        assert_eq!(
            (compression, read_all(reader).unwrap().len()),
            (Compression::None, 0)
        );
    }

    #[test]
    fn damage_is_named() {
        let mut cut = gzip(&[7; 10_000]);
        cut.truncate(cut.len() - 6);
        let error = read_all(decoder(Box::new(io::Cursor::new(cut))).unwrap().1).unwrap_err();
        assert!(error.to_string().contains("damaged gzip data"), "{error}");
        let mut flipped = zstd::encode_all(&[7; 10_000][..], 1).unwrap();
        let last = flipped.len() - 1;
        flipped[last] ^= 0x55;
        flipped.truncate(last);
        let error = read_all(decoder(Box::new(io::Cursor::new(flipped))).unwrap().1).unwrap_err();
        assert!(error.to_string().contains("damaged zstd data"), "{error}");
    }

    #[test]
    fn the_end_is_not_reached_without_the_right_bytes() {
        let digest = Digest::of(b"data");
        assert_eq!(
            read_all(VerifiedReader::new(&b"data"[..], digest, 4)).unwrap(),
            b"data"
        );
        for (bytes, size, reason) in [
            (&b"dat"[..], 4, "too short"),
            (b"data!", 4, "longer"),
            (b"dato", 4, "have the digest"),
        ] {
            let error = read_all(VerifiedReader::new(bytes, digest, size)).unwrap_err();
            assert!(error.to_string().contains(reason), "{error}");
        }
    }
}
