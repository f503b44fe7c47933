//! The guard against decompression bombs.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::Failure;

/// How far compressed input may expand.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Output up to this many bytes is always accepted.
    pub floor_bytes: u64,
    /// Beyond that, at most this many bytes of output for each byte of input.
    pub ratio: u64,
}

impl Default for Limits {
    /// 1 GiB, and then 250 to 1: real layers compress 2 to 10 to 1.
    fn default() -> Self {
        Self {
            floor_bytes: 1 << 30,
            ratio: 250,
        }
    }
}

/// Counts what goes through it.
pub struct Counting<R> {
    inner: R,
    count: Arc<AtomicU64>,
}

impl<R: Read> Counting<R> {
    /// Counts what is read from `inner` into `count`, in bytes.
    pub fn new(inner: R, count: Arc<AtomicU64>) -> Self {
        Self { inner, count }
    }
}

impl<R: Read> Read for Counting<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.count.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

/// A decoder's output that ends with an error when it grows out of proportion to its input.
pub struct Guarded<R> {
    inner: R,
    input: Arc<AtomicU64>,
    output: u64,
    limits: Limits,
}

impl<R: Read> Guarded<R> {
    /// Guards `inner`, which decodes what `input` counts.
    pub fn new(inner: R, input: Arc<AtomicU64>, limits: Limits) -> Self {
        Self {
            inner,
            input,
            output: 0,
            limits,
        }
    }
}

impl<R: Read> Read for Guarded<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.output = self.output.saturating_add(n as u64);
        let input = self.input.load(Ordering::Relaxed);
        if self.output > self.limits.floor_bytes
            && self.output > input.saturating_mul(self.limits.ratio)
        {
            return Err(Failure::invalid(format!(
                "decompression bomb: {input} compressed bytes have become more than {} bytes",
                self.limits
                    .floor_bytes
                    .max(input.saturating_mul(self.limits.ratio))
            ))
            .into());
        }
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn out_of_proportion_is_an_error() {
        let limits = Limits {
            floor_bytes: 1000,
            ratio: 10,
        };
        let read = |input: u64, output: u64| {
            let guarded = Guarded::new(io::repeat(0).take(output), Arc::new(input.into()), limits);
            io::copy(&mut { guarded }, &mut io::sink())
        };
        assert_eq!(read(1, 1000).unwrap(), 1000);
        assert_eq!(read(200, 2000).unwrap(), 2000);
        assert!(read(1, 1001).unwrap_err().to_string().contains("bomb"));
        assert!(read(200, 2001).is_err());
    }
}
