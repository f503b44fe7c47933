//! Owner, mode and type kept in an attribute instead of the inode: what containers/storage
//! (`force_mask`) and fuse-overlayfs (`xattr_permissions`) write where ids and modes can't be set, or
//! where everybody is to read a layer's files.
//!
//! The value is `UID:GID:MODE`, the mode octal, and for what is a regular file on disk and none
//! otherwise `:TYPE` after it: `pipe`, `socket`, `block-MAJOR-MINOR`, `char-MAJOR-MINOR`. A layer
//! whose root has such an attribute has them throughout.

use std::ffi::OsStr;

use rustix::fs::XattrFlags;

use super::place::Place;
use crate::error::{Errno, Result};
use crate::stat::{FileType, Stat};

/// The attribute that keeps the records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordName {
    /// `security.fuseoverlayfs.override_stat`, which only root can write.
    Privileged,
    /// `user.fuseoverlayfs.override_stat`, which older versions of fuse-overlayfs write.
    FuseOverlayfs,
    /// `user.containers.override_stat`, containers/storage's.
    Containers,
}

const ALL: [RecordName; 3] = [
    RecordName::Privileged,
    RecordName::Containers,
    RecordName::FuseOverlayfs,
];

/// What objects with records are on disk: readable to everybody, changeable by the owner.
const PERM_ON_DISK: u32 = 0o755;

impl RecordName {
    fn name(self) -> &'static OsStr {
        OsStr::new(match self {
            RecordName::Privileged => "security.fuseoverlayfs.override_stat",
            RecordName::FuseOverlayfs => "user.fuseoverlayfs.override_stat",
            RecordName::Containers => "user.containers.override_stat",
        })
    }
}

/// Whether an attribute has the name of a record.
pub(crate) fn is_record(name: &OsStr) -> bool {
    ALL.iter().any(|known| known.name() == name)
}

/// The records of one layer, if it has some.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct OwnerRecords(Option<RecordName>);

impl OwnerRecords {
    /// Those that a layer's root says that it has.
    pub fn of_root(root: &Place) -> Result<Self> {
        for known in ALL {
            if root.xattr(known.name())?.is_some() {
                return Ok(Self(Some(known)));
            }
        }
        Ok(Self(None))
    }

    /// Records in an upper from now on: its root gets one if it has none.
    pub fn begin(name: RecordName, root: &Place) -> Result<Self> {
        let records = Self(Some(name));
        if root.xattr(name.name())?.is_none() {
            records.write(root, &root.stat()?)?;
        }
        Ok(records)
    }

    /// Whether there are any.
    pub fn is_on(self) -> bool {
        self.0.is_some()
    }

    /// The attributes of an object as its record has them. A record that makes no sense counts for
    /// nothing, and none makes a regular file a directory or a link.
    pub fn shown(self, place: &Place, mut stat: Stat) -> Result<Stat> {
        let Some(name) = self.0 else {
            return Ok(stat);
        };
        if stat.kind == FileType::Symlink {
            return Ok(stat);
        }
        if let Some(value) = place.xattr(name.name())? {
            match Record::decode(&value) {
                Some(record) => record.show(&mut stat),
                None => log::debug!("a record of owner and mode that makes no sense"),
            }
        }
        Ok(stat)
    }

    /// Writes the record of an object that is to show `stat`, and makes its inode fit for that.
    /// A symbolic link can have no record; its owner means nothing to anybody and is set where
    /// that is permitted.
    pub fn write(self, place: &Place, stat: &Stat) -> Result<()> {
        let Some(name) = self.0 else {
            return Ok(());
        };
        if stat.kind == FileType::Symlink {
            return match place.chown(Some(stat.uid), Some(stat.gid)) {
                Err(e) if matches!(e.errno(), Errno::EPERM | Errno::EINVAL) => Ok(()),
                other => other,
            };
        }
        if place.stat()?.perm != PERM_ON_DISK {
            place.chmod(PERM_ON_DISK)?;
        }
        let value = Record::of(stat).encode();
        place.set_xattr(name.name(), value.as_bytes(), XattrFlags::empty())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Record {
    uid: u32,
    gid: u32,
    perm: u32,
    /// What a regular file stands for, and a device's number.
    special: Option<(FileType, u64)>,
}

impl Record {
    fn of(stat: &Stat) -> Self {
        let plain = matches!(stat.kind, FileType::Regular | FileType::Directory);
        Self {
            uid: stat.uid,
            gid: stat.gid,
            perm: stat.perm,
            special: (!plain).then_some((stat.kind, stat.rdev)),
        }
    }

    fn show(&self, stat: &mut Stat) {
        stat.uid = self.uid;
        stat.gid = self.gid;
        stat.perm = self.perm;
        if let Some((kind, rdev)) = self.special
            && stat.kind == FileType::Regular
        {
            stat.kind = kind;
            stat.rdev = rdev;
            stat.size = 0;
        }
    }

    fn encode(&self) -> String {
        let Self { uid, gid, perm, .. } = self;
        let plain = format!("{uid}:{gid}:0{perm:o}");
        let number = |rdev| (rustix::fs::major(rdev), rustix::fs::minor(rdev));
        match self.special {
            Some((FileType::Fifo, _)) => plain + ":pipe",
            Some((FileType::Socket, _)) => plain + ":socket",
            Some((kind @ (FileType::CharDevice | FileType::BlockDevice), rdev)) => {
                let (major, minor) = number(rdev);
                let word = match kind {
                    FileType::BlockDevice => "block",
                    _ => "char",
                };
                format!("{plain}:{word}-{major}-{minor}")
            }
            _ => plain,
        }
    }

    fn decode(value: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(value).ok()?;
        let mut words = text.trim_end_matches('\0').splitn(4, ':');
        let uid = words.next()?.parse().ok()?;
        let gid = words.next()?.parse().ok()?;
        let mode = u32::from_str_radix(words.next()?, 8).ok()?;
        Some(Self {
            uid,
            gid,
            perm: mode & 0o7777,
            special: match words.next() {
                None | Some("file" | "dir") => None,
                Some(word) => Some(special(word)?),
            },
        })
    }
}

fn special(word: &str) -> Option<(FileType, u64)> {
    match word {
        "pipe" => return Some((FileType::Fifo, 0)),
        "socket" => return Some((FileType::Socket, 0)),
        _ => {}
    }
    let (kind, number) = word.split_once('-')?;
    let kind = match kind {
        "block" => FileType::BlockDevice,
        "char" => FileType::CharDevice,
        _ => return None,
    };
    let (major, minor) = number.split_once('-')?;
    let rdev = rustix::fs::makedev(major.parse().ok()?, minor.parse().ok()?);
    Some((kind, rdev))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_as_they_are_written() {
        let device = rustix::fs::makedev(8, 17);
        for (text, perm, special) in [
            ("0:0:0755", 0o755, None),
            ("1000:100:04711", 0o4711, None),
            ("1:2:0640:pipe", 0o640, Some((FileType::Fifo, 0))),
            ("1:2:0640:socket", 0o640, Some((FileType::Socket, 0))),
            (
                "0:6:0660:block-8-17",
                0o660,
                Some((FileType::BlockDevice, device)),
            ),
            (
                "0:6:0660:char-8-17",
                0o660,
                Some((FileType::CharDevice, device)),
            ),
        ] {
            let record = Record::decode(text.as_bytes()).unwrap();
            assert_eq!((record.perm, record.special), (perm, special), "{text}");
            assert_eq!(record.encode(), text);
        }
        let others = Record::decode(b"5:6:100644:file").unwrap();
        assert_eq!(others.perm, 0o644, "the type bits of a mode are not needed");
    }

    #[test]
    fn what_makes_no_sense_is_no_record() {
        for bad in [
            "",
            "0",
            "0:0",
            "0:0:",
            "0:0:9",
            "-1:0:755",
            "0:0:755:symlink",
            "0:0:755:char-1",
            "0:0:755:char-1-x",
            "4294967296:0:755",
            "0:0:755:file:more",
        ] {
            assert_eq!(Record::decode(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(Record::decode(b"\xff:0:755"), None);
    }
}
