//! Searching a stream line by line, with bounded memory.

use std::io::{self, Read};

use regex::bytes::Regex;

use crate::error::Failure;

/// The longest line that is looked at as a whole, in bytes. A longer one is looked at in pieces.
pub const MAX_LINE: usize = 1 << 20;
/// How much of a piece is looked at again with the next one: a match up to this length is found
/// wherever it is.
const OVERLAP: usize = 64 << 10;
/// How much is read at a time.
const BLOCK: usize = 128 << 10;

/// What is wanted of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// Each line that matches.
    Lines,
    /// How many lines match.
    Count,
    /// Whether one does.
    Any,
}

/// What is taken for text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binary {
    /// Of a file with NUL bytes only that it matches.
    Mention,
    /// It is text like any other.
    Text,
}

/// Something found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hit<'a> {
    /// A line without its end; `cut` when it is a piece of a longer one.
    Line {
        /// Its number, from 1.
        number: u64,
        /// Its bytes.
        text: &'a [u8],
        /// Whether it is longer than [`MAX_LINE`], and this is a piece of it.
        cut: bool,
    },
    /// The file is no text, and matches.
    Binary,
}

/// Lines of a stream.
struct Lines<R> {
    reader: R,
    buffer: Vec<u8>,
    /// Where the line begins that is next.
    start: usize,
    /// Up to where it is known that there is no end of line.
    scanned: usize,
    ended: bool,
    /// Whether a NUL byte has been read.
    nul: bool,
}

/// A line, or a piece of a long one.
struct Piece {
    start: usize,
    end: usize,
    /// There is more of the line.
    open: bool,
}

impl<R: Read> Lines<R> {
    fn new(reader: R) -> Self {
        Self {
            reader,
            buffer: Vec::new(),
            start: 0,
            scanned: 0,
            ended: false,
            nul: false,
        }
    }

    fn next(&mut self) -> io::Result<Option<Piece>> {
        loop {
            let rest = self.buffer.get(self.scanned..).unwrap_or_default();
            if let Some(end) = rest.iter().position(|b| *b == b'\n') {
                let piece = Piece {
                    start: self.start,
                    end: self.scanned + end,
                    open: false,
                };
                self.start = piece.end + 1;
                self.scanned = self.start;
                return Ok(Some(piece));
            }
            self.scanned = self.buffer.len();
            if self.ended {
                if self.start >= self.buffer.len() {
                    return Ok(None);
                }
                let piece = Piece {
                    start: self.start,
                    end: self.buffer.len(),
                    open: false,
                };
                self.start = piece.end;
                return Ok(Some(piece));
            }
            if self.buffer.len() - self.start >= MAX_LINE {
                let piece = Piece {
                    start: self.start,
                    end: self.buffer.len(),
                    open: true,
                };
                self.start = piece.end - OVERLAP;
                return Ok(Some(piece));
            }
            self.fill()?;
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        self.buffer.drain(..self.start);
        self.scanned -= self.start;
        self.start = 0;
        let old = self.buffer.len();
        self.buffer.resize(old + BLOCK, 0);
        let read = loop {
            match self
                .reader
                .read(self.buffer.get_mut(old..).unwrap_or_default())
            {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        let n = *read.as_ref().unwrap_or(&0);
        self.buffer.truncate(old + n);
        self.nul |= self.buffer.get(old..).unwrap_or_default().contains(&0);
        self.ended = n == 0;
        read.map(drop)
    }
}

/// Searches a stream; how many lines match (1 when no more than that is wanted, or the file is
/// binary and counting isn't).
///
/// # Errors
/// What reading reports, and what `each` does.
pub fn search(
    reader: impl Read,
    pattern: &Regex,
    want: Want,
    binary: Binary,
    each: &mut dyn FnMut(Hit<'_>) -> Result<(), Failure>,
) -> Result<u64, Failure> {
    let mut lines = Lines::new(reader);
    let (mut number, mut count) = (1, 0);
    // The line that is looked at in pieces has matched.
    let mut matched = false;
    while let Some(piece) = lines.next()? {
        let text = lines.buffer.get(piece.start..piece.end).unwrap_or_default();
        if !matched && pattern.is_match(text) {
            count += 1;
            matched = true;
            match want {
                Want::Any => return Ok(count),
                Want::Count => {}
                Want::Lines if lines.nul && binary == Binary::Mention => {
                    each(Hit::Binary)?;
                    return Ok(count);
                }
                Want::Lines => {
                    let cut = piece.open || text.len() >= MAX_LINE;
                    each(Hit::Line { number, text, cut })?;
                }
            }
        }
        if !piece.open {
            number += 1;
            matched = false;
        }
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(data: &[u8], pattern: &str, want: Want, binary: Binary) -> (u64, Vec<String>) {
        let mut all = Vec::new();
        let pattern = Regex::new(pattern).unwrap();
        let count = search(data, &pattern, want, binary, &mut |hit| {
            all.push(match hit {
                Hit::Line { number, text, cut } => {
                    let shown = String::from_utf8_lossy(text.get(..text.len().min(9)).unwrap());
                    format!("{number}:{shown}{}", if cut { "…" } else { "" })
                }
                Hit::Binary => "binary".into(),
            });
            Ok(())
        });
        (count.unwrap(), all)
    }

    #[test]
    fn lines_numbers_and_binary_files() {
        let text = b"one\ntwo\nthree\n\nlast two";
        let both = (2, vec!["2:two".to_owned(), "5:last two".to_owned()]);
        assert_eq!(found(text, "two", Want::Lines, Binary::Mention), both);
        assert_eq!(
            found(text, "two", Want::Count, Binary::Mention),
            (2, vec![])
        );
        assert_eq!(found(text, "two", Want::Any, Binary::Mention), (1, vec![]));
        assert_eq!(found(text, "^$", Want::Count, Binary::Mention).0, 1);
        assert_eq!(found(b"", "^$", Want::Count, Binary::Mention).0, 0);
        let data = b"two\n\0\ntwo\n";
        assert_eq!(
            found(data, "two", Want::Lines, Binary::Mention),
            (1, vec!["binary".into()])
        );
        assert_eq!(found(data, "two", Want::Lines, Binary::Text).0, 2);
        assert_eq!(found(data, "two", Want::Count, Binary::Mention).0, 2);
    }

    #[test]
    fn long_lines_are_looked_at_in_pieces() {
        let mut data = vec![b'x'; 5 * MAX_LINE];
        data.extend_from_slice(b"\nneedle\n");
        for at in [
            0,
            MAX_LINE - 3,
            MAX_LINE + 5,
            2 * MAX_LINE - 3,
            5 * MAX_LINE - 6,
        ] {
            let mut data = data.clone();
            data.splice(at..at + 6, *b"needle");
            let (count, lines) = found(&data, "needle", Want::Lines, Binary::Mention);
            assert_eq!(count, 2, "{at}");
            assert!(
                lines[0].starts_with("1:") && lines[0].ends_with('…'),
                "{at}: {lines:?}"
            );
            assert_eq!(lines[1], "2:needle", "{at}");
        }
    }
}
