//! A stream between two threads.

use std::io::{self, Read, Write};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::error::Failure;

/// How many pieces wait at most.
const DEPTH: usize = 8;
/// How long a piece is at most, in bytes.
const PIECE: usize = 256 * 1024;

/// What writing to a stream without a reader fails with.
pub(super) const NOBODY: &str = "nobody reads the copy any more";

/// The two ends of a stream. What is written comes out in order; the reader's end is the writer's
/// [`Sending::finish`] or drop.
#[must_use]
pub fn stream() -> (Sending, Receiving) {
    let (send, receive) = bounded(DEPTH);
    let sending = Sending {
        send,
        piece: Vec::with_capacity(PIECE),
    };
    let receiving = Receiving {
        receive,
        piece: Vec::new(),
        at: 0,
    };
    (sending, receiving)
}

/// The end that is written to.
pub struct Sending {
    send: Sender<Vec<u8>>,
    piece: Vec<u8>,
}

impl Sending {
    fn pass(&mut self) -> io::Result<()> {
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE));
        self.send
            .send(piece)
            .map_err(|_| io::Error::other(Failure::system(NOBODY)))
    }

    /// Passes on what is left.
    ///
    /// # Errors
    /// Without a reader.
    pub fn finish(mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        self.pass()
    }
}

impl Write for Sending {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let room = PIECE - self.piece.len();
        let taken = buf.get(..room.min(buf.len())).unwrap_or_default();
        self.piece.extend_from_slice(taken);
        if self.piece.len() == PIECE {
            self.pass()?;
        }
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The end that is read from.
pub struct Receiving {
    receive: Receiver<Vec<u8>>,
    piece: Vec<u8>,
    at: usize,
}

impl Read for Receiving {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.at >= self.piece.len() {
            self.at = 0;
            self.piece = match self.receive.recv() {
                Ok(piece) => piece,
                Err(_) => return Ok(0),
            };
        }
        let mut rest = self.piece.get(self.at..).unwrap_or_default();
        let n = rest.read(buf)?;
        self.at += n;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let data: Vec<u8> = (0..5 * PIECE + 3).map(|i| (i % 251) as u8).collect();
        let (mut sending, mut receiving) = stream();
        let copy = data.clone();
        let writer = std::thread::spawn(move || {
            sending.write_all(&copy).unwrap();
            sending.finish().unwrap();
        });
        let mut all = Vec::new();
        receiving.read_to_end(&mut all).unwrap();
        writer.join().unwrap();
        assert!(all == data);
    }

    #[test]
    fn without_a_reader_writing_fails() {
        let (mut sending, receiving) = stream();
        drop(receiving);
        let error = sending.write_all(&vec![0; 2 * PIECE]).unwrap_err();
        assert_eq!(error.to_string(), NOBODY);
    }
}
