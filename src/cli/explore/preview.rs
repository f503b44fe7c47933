//! [`Preview`]: the beginning of a file, as text or as bytes.

use std::fmt::Write as _;

use super::text;

/// How much of a file is read at most.
pub const LIMIT: usize = 256 << 10;
/// So much of the beginning tells text from other data.
const SAMPLE: usize = 8 << 10;
/// Bytes in a line of hexadecimal digits.
const HEX_LINE: usize = 16;

/// A file that is looked into.
pub struct Preview {
    /// Its path.
    pub path: Vec<u8>,
    /// Its length in bytes.
    pub size: u64,
    /// Which question the contents are the answer to.
    pub token: u64,
    /// As bytes, not as text.
    pub hex: bool,
    /// The first line that is shown.
    pub top: usize,
    /// The first column of text that is shown.
    pub left: usize,
    state: State,
}

enum State {
    Reading,
    Failed(String),
    Read {
        bytes: Vec<u8>,
        /// Where each line begins.
        lines: Vec<usize>,
    },
}

impl Preview {
    /// A file whose contents are still to come.
    pub fn new(path: Vec<u8>, size: u64, token: u64) -> Self {
        Self {
            path,
            size,
            token,
            hex: false,
            top: 0,
            left: 0,
            state: State::Reading,
        }
    }

    /// Takes the contents.
    pub fn read(&mut self, contents: Result<Vec<u8>, String>) {
        self.state = match contents {
            Err(why) => State::Failed(why),
            Ok(bytes) => {
                self.hex = is_binary(&bytes);
                let ends = bytes.iter().enumerate().filter(|(_, b)| **b == b'\n');
                let starts = ends.map(|(at, _)| at + 1).filter(|at| *at < bytes.len());
                let first = (!bytes.is_empty()).then_some(0);
                let lines = first.into_iter().chain(starts).collect();
                State::Read { bytes, lines }
            }
        };
    }

    /// What there is to say instead of contents.
    pub fn note(&self) -> Option<&str> {
        match &self.state {
            State::Reading => Some("reading"),
            State::Failed(why) => Some(why),
            State::Read { bytes, .. } if bytes.is_empty() => Some("empty"),
            State::Read { .. } => None,
        }
    }

    /// Whether reading failed.
    pub fn failed(&self) -> bool {
        matches!(self.state, State::Failed(_))
    }

    /// Whether the file goes on after what was read.
    pub fn is_cut(&self) -> bool {
        match &self.state {
            State::Read { bytes, .. } => (bytes.len() as u64) < self.size,
            _ => false,
        }
    }

    /// How many lines there are.
    pub fn len(&self) -> usize {
        match &self.state {
            State::Read { bytes, .. } if self.hex => bytes.len().div_ceil(HEX_LINE),
            State::Read { lines, .. } => lines.len(),
            _ => 0,
        }
    }

    /// A line in at most so many columns.
    pub fn line(&self, number: usize, columns: usize, unicode: bool) -> String {
        let State::Read { bytes, lines } = &self.state else {
            return String::new();
        };
        if self.hex {
            let start = number * HEX_LINE;
            let row = bytes.get(start..).unwrap_or_default();
            let row = row.get(..HEX_LINE).unwrap_or(row);
            let shown = hex_line(start, row);
            return text::cut(text::without(&shown, self.left), columns).to_owned();
        }
        let Some(start) = lines.get(number) else {
            return String::new();
        };
        let end = lines.get(number + 1).copied().unwrap_or(bytes.len());
        let line = bytes.get(*start..end).unwrap_or_default();
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        // No character takes more than four bytes in a column but combining ones, of which a line
        // can be full: those past this end don't show.
        let most = (self.left + columns).saturating_mul(8).max(64);
        let line = text::line(line.get(..most).unwrap_or(line), unicode);
        text::cut(text::without(&line, self.left), columns).to_owned()
    }

    /// Switches between text and bytes; about the same place stays in sight.
    pub fn switch(&mut self) {
        if let State::Read { lines, .. } = &self.state {
            self.top = match self.hex {
                true => lines
                    .partition_point(|at| *at <= self.top * HEX_LINE)
                    .saturating_sub(1),
                false => lines.get(self.top).copied().unwrap_or(0) / HEX_LINE,
            };
        }
        self.hex = !self.hex;
        self.left = 0;
    }
}

/// Whether these are the first bytes of something that isn't text.
fn is_binary(bytes: &[u8]) -> bool {
    let sample = bytes.get(..SAMPLE).unwrap_or(bytes);
    if sample.contains(&0) {
        return true;
    }
    let odd: usize = sample
        .utf8_chunks()
        .map(|chunk| chunk.invalid().len() + chunk.valid().chars().filter(|c| is_odd(*c)).count())
        .sum();
    odd * 10 > sample.len()
}

fn is_odd(c: char) -> bool {
    c.is_control() && !matches!(c, '\n' | '\r' | '\t' | '\x0c' | '\x1b' | '\x08')
}

/// `00000010  68 65 …  |he…|`
fn hex_line(offset: usize, bytes: &[u8]) -> String {
    let mut out = format!("{offset:08x} ");
    for at in 0..HEX_LINE {
        if at % 8 == 0 {
            out.push(' ');
        }
        match bytes.get(at) {
            Some(byte) => drop(write!(out, "{byte:02x} ")),
            None => out.push_str("   "),
        }
    }
    out.push_str(" |");
    out.extend(bytes.iter().map(|byte| match byte {
        0x20..=0x7e => char::from(*byte),
        _ => '.',
    }));
    out.push('|');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn preview(bytes: &[u8]) -> Preview {
        let mut preview = Preview::new(b"/f".to_vec(), bytes.len() as u64, 1);
        preview.read(Ok(bytes.to_vec()));
        preview
    }

    #[test]
    fn text_is_shown_in_lines() {
        let mut p = preview(b"one\r\n\ttwo\x1b[2J\n\nlast \xff");
        assert!(!p.hex);
        let lines: Vec<_> = (0..p.len()).map(|n| p.line(n, 40, true)).collect();
        assert_eq!(lines, ["one", "        two\\x1b[2J", "", "last \\xff"]);
        assert_eq!(p.line(9, 40, true), "");
        p.left = 6;
        assert_eq!(p.line(1, 4, true), "  tw");
        assert_eq!(preview(b"a\n").len(), 1);
        assert_eq!(preview(b"").note(), Some("empty"));
        assert_eq!(preview(b"").len(), 0);
    }

    #[test]
    fn other_data_is_shown_in_bytes() {
        let mut p = preview(b"\x7fELF\0\0 and text after it\n");
        assert!(p.hex);
        assert_eq!(
            p.line(0, 100, true),
            "00000000  7f 45 4c 46 00 00 20 61  6e 64 20 74 65 78 74 20  |.ELF.. and text |"
        );
        assert_eq!(
            p.line(1, 100, true),
            "00000010  61 66 74 65 72 20 69 74  0a                       |after it.|"
        );
        assert_eq!(p.len(), 2);
        p.top = 1;
        p.switch();
        assert_eq!((p.hex, p.top), (false, 0));
        assert!(is_binary(&[0xff; 100]) && !is_binary("日本語".as_bytes()));
    }

    #[test]
    fn a_long_line_of_combining_characters_is_cut() {
        let bytes = "e\u{301}\u{301}\u{301}".repeat(40_000);
        let p = preview(&bytes.as_bytes()[..LIMIT]);
        assert!(text::width(&p.line(0, 80, true)) <= 80);
    }
}
