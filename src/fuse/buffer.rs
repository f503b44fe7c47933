//! Buffers for answers to READ: one per thread, used again and again, because a fresh one of
//! 128 KiB costs as many page faults as it has pages.

use std::cell::Cell;

thread_local! {
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Bytes for a reply. Dropped, they are the thread's next buffer.
pub struct Buffer {
    bytes: Vec<u8>,
    len: usize,
}

impl Buffer {
    /// A buffer of `len` bytes, whose contents are anything.
    #[must_use]
    pub fn new(len: usize) -> Self {
        let mut bytes = SPARE.take();
        if bytes.len() < len {
            bytes.resize(len, 0);
        }
        Self { bytes, len }
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// Its bytes, to be filled.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(..self.len).unwrap_or_default()
    }

    /// Keeps the first `len` bytes only.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        SPARE.set(std::mem::take(&mut self.bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_used_again() {
        let mut buffer = Buffer::new(1000);
        buffer.bytes_mut().fill(7);
        buffer.truncate(10);
        assert_eq!(buffer.bytes(), [7; 10]);
        let at = buffer.bytes().as_ptr();
        drop(buffer);
        let again = Buffer::new(500);
        assert_eq!(again.bytes().as_ptr(), at);
        assert_eq!(again.bytes().len(), 500);
    }
}
