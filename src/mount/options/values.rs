//! Values that are one of a few words.

/// A switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Switch {
    /// `on`
    On,
    /// `off`
    Off,
}

impl Switch {
    /// Whether it is on.
    #[must_use]
    pub fn is_on(self) -> bool {
        self == Switch::On
    }
}

/// Inode numbers that name the layer's file system too (overlayfs's `xino`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Xino {
    /// Always.
    On,
    /// Never.
    Off,
    /// Where the numbers below leave room.
    Auto,
}

/// Digests of data-only files (overlayfs's `verity`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verity {
    /// Checked where a metacopy has one.
    On,
    /// Not looked at.
    Off,
    /// Every metacopy must have one.
    Require,
}

/// The value among several that a word names.
pub(super) fn one_of<T: Copy>(value: &str, known: &[(&str, T)]) -> Result<T, String> {
    let found = known.iter().find(|(word, _)| *word == value);
    found.map(|(_, value)| *value).ok_or_else(|| {
        let words: Vec<&str> = known.iter().map(|(word, _)| *word).collect();
        format!(
            "\"{}\" is none of {}",
            value.escape_debug(),
            words.join(", ")
        )
    })
}

/// `on` and `off`.
pub(super) const SWITCH: &[(&str, Switch)] = &[("on", Switch::On), ("off", Switch::Off)];
