//! Files inside a tar: ranges of it, and ranges with holes.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::ReadAt;
use crate::error::{Errno, Error, Result};

impl ReadAt for File {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
        let mut filled = 0;
        while let Some(space) = buf.get_mut(filled..).filter(|s| !s.is_empty()) {
            match FileExt::read_at(self, space, offset + filled as u64) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(filled)
    }

    fn len(&self) -> u64 {
        self.metadata().map_or(0, |m| m.len())
    }

    fn is_at_hand(&self) -> bool {
        true
    }

    fn host_range(&self, offset: u64) -> Option<(&File, u64)> {
        Some((self, offset))
    }
}

/// A run of data of a file with holes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Where it is in the file.
    pub offset: u64,
    /// Length in bytes.
    pub len: u64,
    /// Where it is in what is stored.
    pub stored: u64,
}

/// A part of something readable, as a file of its own.
pub struct FileRange {
    inner: Arc<dyn ReadAt>,
    start: u64,
    len: u64,
}

impl FileRange {
    /// `len` bytes from `start`.
    #[must_use]
    pub fn new(inner: Arc<dyn ReadAt>, start: u64, len: u64) -> Self {
        Self { inner, start, len }
    }
}

impl ReadAt for FileRange {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
        let left = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX);
        let want = buf.len().min(left);
        let Some(buf) = buf.get_mut(..want).filter(|b| !b.is_empty()) else {
            return Ok(0);
        };
        let got = self.inner.read_at(buf, self.start + offset)?;
        if got < want {
            return Err(Error::with(Errno::EIO, "a layer's data is cut off"));
        }
        Ok(got)
    }

    fn len(&self) -> u64 {
        self.len
    }

    fn is_at_hand(&self) -> bool {
        self.inner.is_at_hand()
    }

    fn host_range(&self, offset: u64) -> Option<(&File, u64)> {
        self.inner.host_range(self.start + offset)
    }
}

/// A file with holes, of which the runs of data are stored one after the other.
pub struct SparseRange {
    inner: Arc<dyn ReadAt>,
    start: u64,
    len: u64,
    /// Ascending, not overlapping, within `len`.
    runs: Vec<Run>,
}

impl SparseRange {
    /// A file of `len` bytes whose stored data starts at `start`.
    #[must_use]
    pub fn new(inner: Arc<dyn ReadAt>, start: u64, len: u64, runs: Vec<Run>) -> Self {
        Self {
            inner,
            start,
            len,
            runs,
        }
    }

    /// The runs that end after an offset.
    fn from(&self, offset: u64) -> impl Iterator<Item = &Run> {
        let first = self.runs.partition_point(|r| r.offset + r.len <= offset);
        self.runs.iter().skip(first)
    }
}

impl ReadAt for SparseRange {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
        let left = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX);
        let want = buf.len().min(left);
        let Some(buf) = buf.get_mut(..want).filter(|b| !b.is_empty()) else {
            return Ok(0);
        };
        buf.fill(0);
        let end = offset + want as u64;
        for run in self.from(offset).take_while(|r| r.offset < end) {
            let (from, to) = (run.offset.max(offset), (run.offset + run.len).min(end));
            let part = usize::try_from(from - offset)
                .ok()
                .zip(usize::try_from(to - offset).ok());
            let space = part
                .and_then(|(a, b)| buf.get_mut(a..b))
                .unwrap_or_default();
            let at = self.start + run.stored + (from - run.offset);
            if self.inner.read_at(space, at)? < space.len() {
                return Err(Error::with(Errno::EIO, "a layer's data is cut off"));
            }
        }
        Ok(want)
    }

    fn len(&self) -> u64 {
        self.len
    }

    fn is_at_hand(&self) -> bool {
        self.inner.is_at_hand()
    }

    fn host_range(&self, offset: u64) -> Option<(&File, u64)> {
        let run = self.from(offset).next().filter(|r| r.offset <= offset)?;
        let at = self.start + run.stored + (offset - run.offset);
        self.inner.host_range(at)
    }

    fn next_data(&self, offset: u64) -> Option<(u64, u64)> {
        let run = self.from(offset).next()?;
        Some((run.offset.max(offset), run.offset + run.len))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bytes(Vec<u8>);

    impl ReadAt for Bytes {
        fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
            let rest = self
                .0
                .get(usize::try_from(offset).unwrap()..)
                .unwrap_or_default();
            let n = rest.len().min(buf.len());
            buf[..n].copy_from_slice(&rest[..n]);
            Ok(n)
        }

        fn len(&self) -> u64 {
            self.0.len() as u64
        }
    }

    #[test]
    fn ranges_end_where_they_should() {
        let range = FileRange::new(Arc::new(Bytes((0..100).collect())), 10, 20);
        let mut buf = [0; 50];
        assert_eq!(range.read_at(&mut buf, 15).unwrap(), 5);
        assert_eq!(buf[..5], [25, 26, 27, 28, 29]);
        assert_eq!(range.read_at(&mut buf, 20).unwrap(), 0);
        assert_eq!(range.read_at(&mut buf, u64::MAX).unwrap(), 0);
        let beyond = FileRange::new(Arc::new(Bytes(vec![0; 5])), 0, 20);
        assert_eq!(beyond.read_at(&mut buf, 0).unwrap_err().errno(), Errno::EIO);
    }

    #[test]
    fn holes_are_zeros_and_are_found() {
        let runs = vec![
            Run {
                offset: 4,
                len: 3,
                stored: 0,
            },
            Run {
                offset: 10,
                len: 2,
                stored: 3,
            },
        ];
        let file = SparseRange::new(Arc::new(Bytes(b"__abcde".to_vec())), 2, 16, runs);
        let whole = b"\0\0\0\0abc\0\0\0de\0\0\0\0";
        for start in 0..=16 {
            for len in 0..=17 {
                let mut buf = vec![9; len];
                let got = file.read_at(&mut buf, start as u64).unwrap();
                assert_eq!(buf[..got], whole[start..(start + len).min(16)]);
            }
        }
        assert_eq!(file.next_data(0), Some((4, 7)));
        assert_eq!(file.next_data(5), Some((5, 7)));
        assert_eq!(file.next_data(7), Some((10, 12)));
        assert_eq!(file.next_data(12), None);
    }
}
