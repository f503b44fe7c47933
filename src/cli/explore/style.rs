//! Colours and symbols: what the terminal can show, and what the user wants.

use std::ffi::OsString;

use ratatui::style::{Color, Modifier, Style};

/// How things look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Colours, beside letters and attributes that say the same.
    pub colour: bool,
    /// Characters that are not ASCII.
    pub unicode: bool,
}

impl Look {
    /// What the environment says: `NO_COLOR`, `TERM`, and the locale's character set.
    pub fn of(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let locale = set("LC_ALL")
            .or_else(|| set("LC_CTYPE"))
            .or_else(|| set("LANG"));
        let locale = locale.unwrap_or_default().to_string_lossy().to_lowercase();
        let term = set("TERM").unwrap_or_default();
        let plain = ["vt100", "vt102", "vt220"];
        Self {
            colour: set("NO_COLOR").is_none() && !plain.iter().any(|t| term == *t),
            unicode: locale.contains("utf-8") || locale.contains("utf8"),
        }
    }

    fn coloured(self, style: Style, colour: Color) -> Style {
        match self.colour {
            true => style.fg(colour),
            false => style,
        }
    }

    /// Of what a layer did: `A`, `C`, `D`.
    pub fn letter(self, letter: Option<char>) -> Style {
        let style = Style::new();
        match letter {
            Some('A') => self.coloured(style, Color::Green),
            Some('C') => self.coloured(style, Color::Yellow),
            Some(_) => self.coloured(style.add_modifier(Modifier::DIM), Color::Red),
            None => style,
        }
    }

    /// A directory's name.
    pub fn directory(self) -> Style {
        self.coloured(Style::new().add_modifier(Modifier::BOLD), Color::Blue)
    }

    /// What is less important.
    pub fn quiet(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    /// The selected line: of the panel that has the keyboard, or of another.
    pub fn selected(self, focus: bool) -> Style {
        match focus {
            true => Style::new().add_modifier(Modifier::REVERSED),
            false => Style::new().add_modifier(Modifier::UNDERLINED),
        }
    }

    /// A panel's title.
    pub fn title(self, focus: bool) -> Style {
        match focus {
            true => self.coloured(Style::new().add_modifier(Modifier::BOLD), Color::Cyan),
            false => Style::new(),
        }
    }

    /// A key in the line of keys.
    pub fn key(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// What went wrong.
    pub fn trouble(self) -> Style {
        self.coloured(Style::new().add_modifier(Modifier::BOLD), Color::Red)
    }

    /// What stands for a text that is cut off.
    pub fn more(self) -> &'static str {
        self.pick("…", "~")
    }

    /// Before a directory that is open.
    pub fn open(self) -> &'static str {
        self.pick("▾ ", "- ")
    }

    /// Before a directory that is closed.
    pub fn closed(self) -> &'static str {
        self.pick("▸ ", "+ ")
    }

    /// A horizontal line.
    pub fn horizontal(self) -> &'static str {
        self.pick("─", "-")
    }

    /// A vertical line.
    pub fn vertical(self) -> &'static str {
        self.pick("│", "|")
    }

    /// Before the title of the panel that has the keyboard.
    pub fn focus(self) -> &'static str {
        self.pick("●", "*")
    }

    /// Between a link and its target.
    pub fn arrow(self) -> &'static str {
        self.pick("→", "->")
    }

    fn pick(self, unicode: &'static str, ascii: &'static str) -> &'static str {
        match self.unicode {
            true => unicode,
            false => ascii,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_decides() {
        let look = |set: &[(&str, &str)]| {
            Look::of(|name| set.iter().find(|(n, _)| *n == name).map(|(_, v)| v.into()))
        };
        let colour = |set| look(set).colour;
        assert!(colour(&[("TERM", "xterm")]));
        assert!(colour(&[("TERM", "xterm"), ("NO_COLOR", "")]));
        assert!(!colour(&[("TERM", "xterm"), ("NO_COLOR", "1")]));
        assert!(!colour(&[("TERM", "vt100")]));
        let unicode = |set| look(set).unicode;
        assert!(unicode(&[("LANG", "C.UTF-8")]));
        assert!(unicode(&[("LC_ALL", "de_DE.utf8"), ("LANG", "C")]));
        assert!(!unicode(&[("LC_ALL", "C"), ("LANG", "C.UTF-8")]));
        assert!(!unicode(&[]));
        let plain = Look {
            colour: false,
            unicode: true,
        };
        for style in [
            plain.letter(Some('A')),
            plain.directory(),
            plain.trouble(),
            plain.title(true),
        ] {
            assert_eq!((style.fg, style.bg), (None, None));
        }
    }
}
