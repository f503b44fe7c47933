//! The names of contents.

use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::error::Result;

/// The blake3 of a file's bytes, holes read as zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(pub [u8; 32]);

impl Key {
    /// The key of a file's contents: reads all of it.
    ///
    /// # Errors
    /// What reading reports.
    pub fn of(file: &File) -> Result<Self> {
        let mut hash = blake3::Hasher::new();
        let mut buf = vec![0; 256 << 10];
        let mut at = 0;
        loop {
            let got = match file.read_at(&mut buf, at) {
                Ok(0) => return Ok(Self(*hash.finalize().as_bytes())),
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                got => got?,
            };
            hash.update(buf.get(..got).unwrap_or_default());
            at += got as u64;
        }
    }

    /// The key that an object's name says.
    #[must_use]
    pub fn from_name(name: &[u8]) -> Option<Self> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        let mut key = [0; 32];
        if name.len() != 64 {
            return None;
        }
        for (byte, pair) in key.iter_mut().zip(name.chunks_exact(2)) {
            let [high, low] = pair else { return None };
            *byte = digit(*high)? << 4 | digit(*low)?;
        }
        Some(Self(key))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
