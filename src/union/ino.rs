//! The numbers that stat shows.

use super::{LowerRef, Union};
use crate::error::Result;
use crate::layer::Marks;
use crate::stat::Stat;

/// `st_ino`: unique in the mount, and stable over copy-up and remounts.
///
/// Root is 1. Objects of images have their index's numbers. Others have the place of their file
/// system in the high bits and the real number below, as overlayfs's xino has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ino(pub u64);

/// Bits of a real inode number that are kept.
const REAL_BITS: u32 = 48;

impl Ino {
    /// The root's.
    pub const ROOT: Ino = Ino(1);

    /// A host object's: `place` 1 is the upper, 2 the top lower, and so on.
    fn of_host(place: u64, real: u64) -> Self {
        let low = real & ((1 << REAL_BITS) - 1);
        // Bits above are folded in, so that distinct numbers stay distinct as far as they can.
        let high = (real >> REAL_BITS) << 16;
        Self((place << REAL_BITS) | (low ^ high))
    }
}

impl Union {
    /// The number of an upper object that is no merged directory: its origin's if it was copied up.
    pub(super) fn upper_ino(&self, stat: &Stat, marks: &Marks) -> Result<Ino> {
        if let Some(origin) = marks.origin {
            for (place, layer) in self.lowers.iter().enumerate() {
                if let Some(node) = layer.resolve(origin) {
                    let lower = LowerRef::adopt(layer, place, node);
                    return Ok(lower.ino(&layer.stat(node)?));
                }
            }
        }
        Ok(Ino::of_host(1, stat.ino))
    }
}

impl LowerRef {
    /// The number of a lower object with these attributes.
    pub(super) fn ino(&self, stat: &Stat) -> Ino {
        match self.layer().stable_id(self.node()) {
            Some(_) => Ino(stat.ino),
            None => Ino::of_host(self.place() as u64 + 2, stat.ino),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_different_places_differ() {
        assert_ne!(Ino::of_host(1, 5), Ino::of_host(2, 5));
        assert_ne!(Ino::of_host(1, 5), Ino(5));
        assert_ne!(Ino::of_host(1, 5), Ino::of_host(1, 5 | 1 << 50));
        assert_eq!(Ino::of_host(1, 77).0 & 0xffff_ffff, 77);
    }
}
