//! Names and contents as bytes, on their way to a terminal or to a program.

use std::io::IsTerminal as _;

use super::format::printable;

/// A name in a line of text: one line, without what a terminal would act on, whatever its bytes are.
pub fn shown(name: &[u8]) -> String {
    match std::str::from_utf8(name) {
        Ok(text) => printable(text),
        Err(_) => name.escape_ascii().to_string(),
    }
}

/// Contents as they are for a program; for a terminal, without what it would act on.
pub struct Contents {
    terminal: bool,
}

impl Contents {
    /// For standard output.
    pub fn new() -> Self {
        Self {
            terminal: std::io::stdout().is_terminal(),
        }
    }

    /// What is written of some lines.
    pub fn of<'t>(&self, text: &'t [u8]) -> std::borrow::Cow<'t, [u8]> {
        let acts = |b: &u8| b.is_ascii_control() && !matches!(b, b'\n' | b'\t') || *b >= 0x80;
        if !self.terminal || !text.iter().any(acts) {
            return text.into();
        }
        let text = String::from_utf8_lossy(text);
        super::format::printable_lines(&text).into_bytes().into()
    }
}
