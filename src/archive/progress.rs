//! [`Progress`]: how long work tells whoever started it how far it is.

/// Told how far a piece of work is. Calls of [`Progress::advance`] come from several threads.
pub trait Progress: Send + Sync {
    /// A piece of work begins: its name for people, and its length in bytes where that is known.
    fn begin(&self, what: &str, total: Option<u64>);

    /// `n` more bytes are done.
    fn advance(&self, n: u64);

    /// The piece of work that began last has ended, well or badly.
    fn end(&self);
}

/// Tells nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _what: &str, _total: Option<u64>) {}
    fn advance(&self, _n: u64) {}
    fn end(&self) {}
}
