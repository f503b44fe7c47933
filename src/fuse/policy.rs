//! How long the kernel may keep what it was told.
//!
//! The upper changes only through the mount and lowers never, so everything may be kept for good:
//! names, names that don't exist, attributes. Two exceptions are about attributes.

use std::time::Duration;

use crate::union::Named;

/// For good: ten years.
pub const FOREVER: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// How long attributes last that can change without a request: stores through a shared mapping of a
/// passthrough file.
pub const SHORT: Duration = Duration::from_secs(1);

/// Where the kernel keeps what is read of a mount that can't change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pages {
    /// In the files below, where they can be passed through: once for all mounts that show them.
    #[default]
    Shared,
    /// In the mount itself. Files are not opened then: who reads one again asks for nothing.
    Own,
}

/// Files of layers from this length on are passed through, in bytes. A shorter one is given to the kernel
/// for the mount's own pages, once, instead of being registered each time it is opened: with a limit of
/// one byte, reading a tree again took a quarter longer.
pub const WORTH_PASSING: u64 = 16 << 10;

/// The same where nothing is passed through: files of layers below this length are given to the kernel
/// whole when they are opened, longer ones are asked for in parts. Where the limit is best has not been
/// measured.
pub const WORTH_ASKING: u64 = 64 << 10;

/// The longest that the kernel may keep what it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetimes {
    /// Names.
    pub entry: Duration,
    /// Attributes.
    pub attr: Duration,
    /// Names that don't exist. A time that ends is none: each such name is asked for again.
    pub absent: Duration,
}

impl Default for Lifetimes {
    fn default() -> Self {
        Self {
            entry: FOREVER,
            attr: FOREVER,
            absent: FOREVER,
        }
    }
}

/// Whether a file's contents can change behind our back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stores {
    /// Every change is a request, or the kernel drops what it knew itself (write(2)).
    Seen,
    /// It has, or had, a passthrough handle through which it can be mapped for writing.
    Unseen,
}

/// Lifetime of the attributes that GETATTR and SETATTR give.
#[must_use]
pub fn attributes(stores: Stores) -> Duration {
    match stores {
        Stores::Seen => FOREVER,
        Stores::Unseen => SHORT,
    }
}

/// Lifetime of the attributes that come with an entry, in which the nodeid stands where `st_ino`
/// should: where the two differ, stat(2) is to ask.
#[must_use]
pub fn entry_attributes(found: Named, stores: Stores) -> Duration {
    if found.id.0 == found.stat.ino {
        attributes(stores)
    } else {
        Duration::ZERO
    }
}
