//! Moving bytes between the stages of a load: reference-counted buffers that are used again, sent
//! to several stages at once through bounded channels.

use std::io::{self, Read};
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, bounded};

/// Length of a buffer in bytes.
pub const BUFFER: usize = 256 << 10;
/// How many buffers wait for one stage at most.
const DEPTH: usize = 8;

/// A filled buffer. Its memory goes back to its pool when the last stage lets go of it.
pub struct Buffer {
    bytes: Vec<u8>,
    len: usize,
    home: Sender<Vec<u8>>,
}

impl Buffer {
    /// What was read into it.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // A full or closed pool takes no more: the memory is freed.
        self.home.try_send(std::mem::take(&mut self.bytes)).ok();
    }
}

/// Where buffers come from.
pub struct Pool {
    free: Receiver<Vec<u8>>,
    home: Sender<Vec<u8>>,
}

impl Default for Pool {
    fn default() -> Self {
        let (home, free) = bounded(2 * DEPTH);
        Self { free, home }
    }
}

impl Pool {
    /// Reads the next [`BUFFER`] bytes, fewer only at the end; `None` after it.
    ///
    /// # Errors
    /// What the reader reports.
    pub fn fill(&self, reader: &mut dyn Read) -> io::Result<Option<Arc<Buffer>>> {
        let bytes = self.free.try_recv().unwrap_or_else(|_| vec![0; BUFFER]);
        let mut buffer = Buffer {
            bytes,
            len: 0,
            home: self.home.clone(),
        };
        while let Some(rest) = buffer.bytes.get_mut(buffer.len..).filter(|b| !b.is_empty()) {
            match reader.read(rest) {
                Ok(0) => break,
                Ok(n) => buffer.len += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok((buffer.len > 0).then(|| Arc::new(buffer)))
    }
}

/// The sending end: gives every buffer to each stage that still listens.
#[derive(Default)]
pub struct Fan {
    stages: Vec<Sender<Arc<Buffer>>>,
}

impl Fan {
    /// One more stage. It sees the end when the fan is dropped.
    pub fn stage(&mut self) -> Intake {
        let (send, receive) = bounded(DEPTH);
        self.stages.push(send);
        Intake {
            receive,
            current: None,
            at: 0,
        }
    }

    /// Hands a buffer on. A stage that has gone is passed over; `false` when all have.
    #[must_use]
    pub fn send(&mut self, buffer: &Arc<Buffer>) -> bool {
        self.stages
            .retain(|stage| stage.send(Arc::clone(buffer)).is_ok());
        !self.stages.is_empty()
    }
}

/// The receiving end: buffers one by one, or a [`Read`].
pub struct Intake {
    receive: Receiver<Arc<Buffer>>,
    current: Option<Arc<Buffer>>,
    at: usize,
}

impl Intake {
    /// The next buffer; `None` at the end.
    pub fn recv(&mut self) -> Option<Arc<Buffer>> {
        self.receive.recv().ok()
    }
}

impl Read for Intake {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(rest) = self.current.as_ref().and_then(|b| b.bytes().get(self.at..))
                && !rest.is_empty()
            {
                let n = rest.len().min(buf.len());
                let (to, from) = (buf.get_mut(..n), rest.get(..n));
                if let (Some(to), Some(from)) = (to, from) {
                    to.copy_from_slice(from);
                }
                self.at += n;
                return Ok(n);
            }
            self.at = 0;
            self.current = self.recv();
            if self.current.is_none() {
                return Ok(0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stage_sees_every_byte() {
        let data: Vec<u8> = (0..3 * BUFFER + 17).map(|i| (i % 251) as u8).collect();
        let mut fan = Fan::default();
        let mut one = fan.stage();
        let mut two = fan.stage();
        drop(fan.stage());
        std::thread::scope(|scope| {
            let first = scope.spawn(move || {
                let mut all = Vec::new();
                one.read_to_end(&mut all).unwrap();
                all
            });
            let second = scope.spawn(move || {
                let mut all = Vec::new();
                while let Some(buffer) = two.recv() {
                    all.extend_from_slice(buffer.bytes());
                }
                all
            });
            let pool = Pool::default();
            let mut input = &data[..];
            while let Some(buffer) = pool.fill(&mut input).unwrap() {
                assert!(fan.send(&buffer));
            }
            drop(fan);
            assert!(first.join().unwrap() == data);
            assert!(second.join().unwrap() == data);
        });
    }

    #[test]
    fn nobody_listening_is_told() {
        let mut fan = Fan::default();
        drop(fan.stage());
        let pool = Pool::default();
        let buffer = pool.fill(&mut &b"x"[..]).unwrap().unwrap();
        assert!(!fan.send(&buffer));
        assert!(pool.fill(&mut &b""[..]).unwrap().is_none());
    }
}
