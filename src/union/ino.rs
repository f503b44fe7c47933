//! The numbers that stat shows.

use std::sync::Arc;

use super::{LowerRef, Union};
use crate::error::Result;
use crate::layer::{Layer, Marks};
use crate::stat::Stat;

/// `st_ino`: unique in the mount, and stable over copy-up and remounts.
///
/// Root is 1. Objects of images have their index's numbers. Others have the place of their file
/// system among those of the layers in the high bits and the real number below, as overlayfs's
/// xino has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ino(pub u64);

/// Bits of a real inode number that are kept.
const REAL_BITS: u32 = 48;

/// Set in the numbers of the tree of the lowers alone ([`super::view`]).
const IN_VIEW: u64 = 1 << 61;

impl Ino {
    /// The root's.
    pub const ROOT: Ino = Ino(1);

    /// The number of the same lower object in the tree of the lowers alone.
    pub(super) fn in_view(self) -> Self {
        Self(self.0 | IN_VIEW)
    }

    pub(super) fn is_in_view(self) -> bool {
        self.0 & IN_VIEW != 0
    }

    /// The number that an object of that tree has in the merged one.
    pub(super) fn beside(self) -> Self {
        Self(self.0 & !IN_VIEW)
    }

    fn of_host(place: u64, real: u64) -> Self {
        let low = real & ((1 << REAL_BITS) - 1);
        // Bits above are folded in, so that distinct numbers stay distinct as far as they can.
        let high = (real >> REAL_BITS) << 16;
        Self((place << REAL_BITS) | (low ^ high))
    }
}

/// The file systems below, each with a place from 1.
#[derive(Debug, Default)]
pub(super) struct HostFs {
    /// Device and place of the upper's, and of each lower's that has one.
    upper: u64,
    lowers: Vec<Option<u64>>,
}

impl HostFs {
    pub fn new(upper: Option<u64>, lowers: &[Arc<dyn Layer>]) -> Self {
        let mut devices: Vec<u64> = upper.into_iter().collect();
        let mut place = |dev: u64| {
            let known = devices.iter().position(|d| *d == dev).unwrap_or_else(|| {
                devices.push(dev);
                devices.len() - 1
            });
            known as u64 + 1
        };
        let lowers = lowers
            .iter()
            .map(|l| l.host_dev().map(&mut place))
            .collect();
        Self { upper: 1, lowers }
    }

    fn of_lower(&self, place: usize) -> Option<u64> {
        self.lowers.get(place).copied().flatten()
    }
}

impl Union {
    /// The number of a lower object with these attributes.
    pub(super) fn lower_ino(&self, lower: &LowerRef, stat: &Stat) -> Ino {
        match self.host_fs.of_lower(lower.place()) {
            Some(fs) => Ino::of_host(fs, stat.ino),
            None => Ino(stat.ino),
        }
    }

    /// The number of the lower object that an upper one says it was copied up from.
    pub(super) fn origin_ino(&self, marks: &Marks) -> Result<Option<Ino>> {
        if let Some(origin) = marks.origin {
            for layer in &self.lowers {
                if let Some(node) = layer.resolve(origin) {
                    return Ok(Some(Ino(layer.stat(node)?.ino)));
                }
            }
        }
        if let Some(origin) = &marks.host_origin {
            for (place, layer) in self.lowers.iter().enumerate() {
                if let Some(fs) = self.host_fs.of_lower(place)
                    && let Some(real) = layer.host_ino(origin)
                {
                    return Ok(Some(Ino::of_host(fs, real)));
                }
            }
        }
        Ok(None)
    }

    /// The number of an object that was made in the upper.
    pub(super) fn new_ino(&self, real: u64) -> Ino {
        Ino::of_host(self.host_fs.upper, real)
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
        let high = Ino::of_host(501, u64::MAX);
        for ino in [Ino::ROOT, high] {
            assert!(!ino.is_in_view() && ino.in_view().is_in_view());
            assert_eq!(ino.in_view().beside(), ino);
            assert!(ino.in_view().0 < super::super::table::FIRST_SPARE);
        }
    }
}
