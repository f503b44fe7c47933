//! Whom files are shown to belong to: fuse-overlayfs's `uidmapping`, `gidmapping` and `squash_*`.
//!
//! The union knows the owners that are on disk; the kernel is told others. This is the one place
//! where they are translated, on the way out and on the way in.

use crate::error::{Errno, Error, Result};
use crate::stat::Stat;
use crate::union::{Caller, SetAttr};

/// The id that stands for one without a counterpart (`/proc/sys/kernel/overflowuid`).
const OVERFLOW: u32 = 65534;

/// An id that means "leave it" to chown(2).
const NONE: u32 = u32::MAX;

/// A run of ids on disk, and what they are shown as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    disk: u32,
    shown: u32,
    len: u32,
}

/// Ids on disk and ids shown. Without ranges they are the same.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IdMap {
    ranges: Vec<Range>,
    squash: Option<u32>,
}

/// Owners and groups.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ids {
    /// Owners.
    pub uids: IdMap,
    /// Groups.
    pub gids: IdMap,
}

impl IdMap {
    /// Reads `DISK:SHOWN:COUNT[:DISK:SHOWN:COUNT…]`; empty parts are left out.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> std::result::Result<Self, String> {
        let numbers = text.split(':').filter(|part| !part.is_empty());
        let numbers: Vec<u32> = numbers
            .map(|part| part.parse().map_err(|_| format!("{part:?} is no id")))
            .collect::<std::result::Result<_, _>>()?;
        let mut ranges = Vec::new();
        for group in numbers.chunks(3) {
            let [disk, shown, len] = *group else {
                return Err("not groups of three numbers (on disk, shown, how many)".into());
            };
            if disk.checked_add(len).is_none() || shown.checked_add(len).is_none() {
                return Err(format!("{disk}:{shown}:{len} goes beyond the last id"));
            }
            ranges.push(Range { disk, shown, len });
        }
        Ok(Self {
            ranges,
            squash: None,
        })
    }

    /// Shows everything as one id, whatever the map says.
    pub fn squash(&mut self, id: u32) {
        self.squash = Some(id);
    }

    /// Whether everything is shown as one id.
    #[must_use]
    pub fn is_squashed(&self) -> bool {
        self.squash.is_some()
    }

    /// Takes the ranges of another map.
    pub fn set_ranges(&mut self, other: Self) {
        self.ranges = other.ranges;
    }

    /// Whether ids are shown as they are.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.ranges.is_empty() && self.squash.is_none()
    }

    /// What an id on disk is shown as.
    #[must_use]
    pub fn shown(&self, disk: u32) -> u32 {
        if let Some(id) = self.squash {
            return id;
        }
        let (id, ranges) = (disk, &self.ranges);
        let mapped = ranges
            .iter()
            .find_map(|r| shift(id, r.disk, r.shown, r.len));
        match mapped {
            None if ranges.is_empty() => id,
            mapped => mapped.unwrap_or(OVERFLOW),
        }
    }

    /// What an id that the kernel names is on disk; `None` when it can't be there.
    #[must_use]
    pub fn on_disk(&self, shown: u32) -> Option<u32> {
        let (id, ranges) = (shown, &self.ranges);
        if ranges.is_empty() {
            return Some(id);
        }
        ranges
            .iter()
            .find_map(|r| shift(id, r.shown, r.disk, r.len))
    }
}

fn shift(id: u32, from: u32, to: u32, len: u32) -> Option<u32> {
    let within = id.checked_sub(from).filter(|within| *within < len)?;
    to.checked_add(within)
}

impl Ids {
    /// Whether ids are shown as they are.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.uids.is_plain() && self.gids.is_plain()
    }

    /// Attributes as they are shown.
    #[must_use]
    pub fn stat(&self, mut stat: Stat) -> Stat {
        stat.uid = self.uids.shown(stat.uid);
        stat.gid = self.gids.shown(stat.gid);
        stat
    }

    /// Who makes something, as on disk. What a caller without a counterpart makes belongs to nobody:
    /// podman makes files in a container's root as the host's root.
    #[must_use]
    pub fn caller(&self, caller: Caller) -> Caller {
        Caller {
            uid: self.uids.on_disk(caller.uid).unwrap_or(OVERFLOW),
            gid: self.gids.on_disk(caller.gid).unwrap_or(OVERFLOW),
            ..caller
        }
    }

    /// Leaves out the ranges: what is below maps already. Squashed ids stay so.
    pub fn clear_ranges(&mut self) {
        self.uids.ranges.clear();
        self.gids.ranges.clear();
    }

    /// A change of attributes, as on disk.
    ///
    /// # Errors
    /// `EINVAL` for an owner without a counterpart, as chown(2) in a user namespace.
    pub fn set(&self, set: SetAttr) -> Result<SetAttr> {
        let to_disk = |map: &IdMap, id: Option<u32>| match id {
            None | Some(NONE) => Ok(id),
            Some(id) => match map.on_disk(id) {
                Some(id) => Ok(Some(id)),
                None => Err(Error::with(Errno::EINVAL, "an owner outside the mapping")),
            },
        };
        Ok(SetAttr {
            uid: to_disk(&self.uids, set.uid)?,
            gid: to_disk(&self.gids, set.gid)?,
            ..set
        })
    }

    /// An ACL as it is shown: the ids in it are those on disk (acl(5); the form of the extended
    /// attribute is a version and entries of tag, permissions and id, little endian).
    #[must_use]
    pub fn acl_shown(&self, value: Vec<u8>) -> Vec<u8> {
        self.acl(value, &|map, id| Some(map.shown(id)))
            .unwrap_or_default()
    }

    /// An ACL as on disk.
    ///
    /// # Errors
    /// `EINVAL` for an id outside the mapping.
    pub fn acl_on_disk(&self, value: Vec<u8>) -> Result<Vec<u8>> {
        let absent = || Error::with(Errno::EINVAL, "an ACL with an id outside the mapping");
        self.acl(value, &IdMap::on_disk).ok_or_else(absent)
    }

    fn acl(
        &self,
        mut value: Vec<u8>,
        translate: &dyn Fn(&IdMap, u32) -> Option<u32>,
    ) -> Option<Vec<u8>> {
        for entry in value.get_mut(4..).unwrap_or_default().chunks_exact_mut(8) {
            let (head, id) = entry.split_at_mut(4);
            let map = match *head {
                [2, 0, ..] => &self.uids,
                [8, 0, ..] => &self.gids,
                _ => continue,
            };
            let old = u32::from_le_bytes((&*id).try_into().ok()?);
            id.copy_from_slice(&translate(map, old)?.to_le_bytes());
        }
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_go_out_and_come_back() {
        let map = IdMap::parse(":0:100000:65536").unwrap();
        assert_eq!(map.shown(0), 100_000);
        assert_eq!(map.shown(65535), 165_535);
        assert_eq!(map.shown(65536), OVERFLOW);
        assert_eq!(map.on_disk(100_001), Some(1));
        assert_eq!(map.on_disk(0), None);
        let two = IdMap::parse("0:1000:1:1:110000:65536").unwrap();
        for id in [0, 1, 2, 65536] {
            assert_eq!(two.on_disk(two.shown(id)), Some(id));
        }
        assert_eq!(IdMap::default().shown(7), 7);
        assert_eq!(IdMap::default().on_disk(7), Some(7));
    }

    #[test]
    fn wrong_maps_are_refused() {
        for wrong in ["0:1", "a:b:c", "0:1:2:3", "4294967295:0:2", "-1:0:1"] {
            assert!(IdMap::parse(wrong).is_err(), "{wrong}");
        }
        assert!(IdMap::parse("").unwrap().is_plain());
    }

    #[test]
    fn squashed_ids_are_shown_and_not_written() {
        let mut map = IdMap::default();
        map.squash(0);
        assert_eq!(map.shown(1234), 0);
        assert_eq!(map.on_disk(1234), Some(1234));
    }

    #[test]
    fn acls_are_translated() {
        let ids = Ids {
            uids: IdMap::parse("0:1000:10").unwrap(),
            gids: IdMap::parse("0:2000:10").unwrap(),
        };
        let entry = |tag: u16, id: u32| {
            let mut bytes = tag.to_le_bytes().to_vec();
            bytes.extend([7, 0]);
            bytes.extend(id.to_le_bytes());
            bytes
        };
        let acl = |user: u32, group: u32| {
            let mut value = 2u32.to_le_bytes().to_vec();
            for part in [entry(1, NONE), entry(2, user), entry(8, group)] {
                value.extend(part);
            }
            value
        };
        assert_eq!(ids.acl_shown(acl(3, 4)), acl(1003, 2004));
        assert_eq!(ids.acl_on_disk(acl(1003, 2004)).unwrap(), acl(3, 4));
        assert_eq!(
            ids.acl_on_disk(acl(3, 4)).unwrap_err().errno(),
            Errno::EINVAL
        );
        for cut in 0..acl(3, 4).len() {
            let short = acl(3, 4)[..cut].to_vec();
            assert_eq!(ids.acl_shown(short).len(), cut);
        }
    }
}
