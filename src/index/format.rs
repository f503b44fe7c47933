//! The index file, byte by byte. All numbers are little endian.
//!
//! ```text
//! 0      header, 4096 bytes
//!          0  magic "STRATAIX"
//!          8  version u32 (1)              12  kind u32 (1 one layer, 2 a flattened stack)
//!         16  length of the file u64       24  page size u32 (65536)    28  sections u32 (9)
//!         32  section table: 9 x {id u32, 0 u32, offset u64, length u64}, ids 1 to 9 in order
//!        248  zeros                      4092  crc32 of the bytes before
//! 4096   sections, each aligned to 128 bytes
//!          1  layers     48 each: diffID 32, entries u64, first st_ino u64; bottom layer first
//!          2  inodes     128 each, below; number 0 is the root, the others ascend by
//!                        (layer, ordinal)
//!          3  dirents    16 each, below; a directory's are adjacent and ascend by name
//!          4  names      the dirents' names, end to end
//!          5  xattrs     sets, each aligned to 8: count u32, then count x {name length u8, 0 x 3,
//!                        value length u32, name, value}; no set is there twice
//!          6  targets    targets of symbolic links, and of hard links to a lower layer, end to end
//!          7  sparse     maps: count u64, stored bytes u64, then count x {offset, length, stored} u64
//!          8  aliases    lists: count u32, then count dirent numbers u32
//!          9  checksums  crc32 u32 of each 65536 bytes from 4096 to the start of this section
//! ```
//!
//! An inode record:
//!
//! ```text
//!   0  mode u32 (S_IFMT and 07777; S_IFMT 0 is a hard link whose target is in a lower layer)
//!   4  uid u32              8  gid u32             12  nlink u32 (visible names; 2 + subdirectories)
//!  16  layer u32           20  ordinal u32 (4294967295 for the root)
//!  24  xattrs u32: 0, or 1 + offset of the set / 8
//!  28  flags u32: 1 implicit, 2 opaque, 4 replaces, 8 content key, 16 sparse, 32 several names
//!  32  mtime i64           40  atime i64           48  ctime i64
//!  56  mtime ns u32        60  atime ns u32        64  ctime ns u32
//!  68  name u32: number of the dirent, or offset / 4 of the alias list; 4294967295 for the root
//!  72  size u64
//!  80  regular: offset of the data in the layer's tar u64; directory: first dirent u32, dirents u32;
//!      link: offset of the target u64; device: rdev u64
//!  88  regular: stored bytes u64, or, when sparse, offset of the sparse map u64
//!  96  regular: content key (blake3), 32 bytes
//! ```
//!
//! A dirent: name offset u32, inode u32 (4294967295 for a whiteout), directory's inode u32,
//! name length u8, kind u8 (0 whiteout, 1 regular, 2 directory, 3 symbolic link, 4 character
//! device, 5 block device, 6 pipe, 7 socket, 8 hard link to a lower layer), 0 u16.
//!
//! The layer and the ordinal give `st_ino`: the layer's first one plus the ordinal. A merged
//! directory has those of its lowest part; the root is 1.

use crate::stat::{FileType, Timespec};

/// The first eight bytes of an index.
pub const MAGIC: [u8; 8] = *b"STRATAIX";
/// The version that this code reads and writes.
pub const VERSION: u32 = 1;
/// Length of the header in bytes.
pub const HEADER_LEN: u64 = 4096;
/// Bytes that one checksum covers.
pub const PAGE_LEN: u64 = 65536;
/// Length of an inode record in bytes.
pub const INODE_LEN: u64 = 128;
/// Length of a directory entry in bytes.
pub const DIRENT_LEN: u64 = 16;
/// Length of a row of the layers table in bytes.
pub const LAYER_LEN: u64 = 48;
/// The number that stands for none.
pub const NONE: u32 = u32::MAX;

pub(super) const SECTIONS: usize = 9;
pub(super) const ALIGN: u64 = 128;
const CRC_AT: usize = 4092;

/// What an index describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// One layer: whiteouts, opaque marks and links to lower layers are there.
    Layer,
    /// A flattened stack: what its layers show together.
    Chain,
}

/// Where a section is in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Extent {
    /// Offset in bytes.
    pub offset: u64,
    /// Length in bytes.
    pub len: u64,
}

impl Extent {
    /// The first byte after it, where that is a number.
    #[must_use]
    pub fn end(self) -> Option<u64> {
        self.offset.checked_add(self.len)
    }
}

/// The header: what opening an index reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// What the index describes.
    pub scope: Scope,
    /// Length of the file in bytes.
    pub file_len: u64,
    /// The sections, in the order of their ids.
    pub sections: [Extent; SECTIONS],
}

impl Header {
    /// The header's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(4096);
        out.extend_from_slice(&MAGIC);
        put(&mut out, VERSION);
        put(
            &mut out,
            match self.scope {
                Scope::Layer => 1,
                Scope::Chain => 2,
            },
        );
        put64(&mut out, self.file_len);
        put64(&mut out, PAGE_LEN | (SECTIONS as u64) << 32);
        for (id, section) in (1_u32..).zip(&self.sections) {
            put(&mut out, id);
            put(&mut out, 0);
            put64(&mut out, section.offset);
            put64(&mut out, section.len);
        }
        out.resize(CRC_AT, 0);
        let crc = crc32fast::hash(&out);
        put(&mut out, crc);
        out
    }

    /// Reads and checks a header; the error says what is wrong with it.
    ///
    /// # Errors
    /// What is wrong, as half a sentence.
    pub fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        let mut fields = Fields(bytes);
        if fields.array::<8>() != Some(MAGIC) {
            return Err("not an index");
        }
        if fields.u32() != Some(VERSION) {
            return Err("an index of another version");
        }
        let (covered, crc) = bytes.split_at_checked(CRC_AT).ok_or("truncated header")?;
        if Fields(crc).u32() != Some(crc32fast::hash(covered)) {
            return Err("header checksum does not match");
        }
        Self::fields(&mut fields).ok_or("malformed header")
    }

    fn fields(fields: &mut Fields<'_>) -> Option<Self> {
        let scope = match fields.u32()? {
            1 => Scope::Layer,
            2 => Scope::Chain,
            _ => return None,
        };
        let file_len = fields.u64()?;
        if u64::from(fields.u32()?) != PAGE_LEN || fields.u32()? != SECTIONS as u32 {
            return None;
        }
        let mut sections = [Extent::default(); SECTIONS];
        for (id, section) in (1_u32..).zip(&mut sections) {
            if fields.u32()? != id || fields.u32()? != 0 {
                return None;
            }
            section.offset = fields.u64()?;
            section.len = fields.u64()?;
            if section.offset < HEADER_LEN || section.end()? > file_len {
                return None;
            }
        }
        Some(Self {
            scope,
            file_len,
            sections,
        })
    }
}

/// A row of the layers table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerRow {
    /// sha256 of the layer's uncompressed tar.
    pub diff_id: [u8; 32],
    /// How many numbers its objects take: members of the tar plus implicit parents.
    pub entries: u64,
    /// `st_ino` of the object with ordinal 0.
    pub first_ino: u64,
}

impl LayerRow {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.diff_id);
        put64(out, self.entries);
        put64(out, self.first_ino);
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut f = Fields(bytes);
        Some(Self {
            diff_id: f.array()?,
            entries: f.u64()?,
            first_ino: f.u64()?,
        })
    }
}

/// What belongs to one type of inode only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload {
    /// Nothing: a pipe, a socket.
    Nothing,
    /// A regular file whose bytes are together.
    Stored {
        /// Offset in the layer's uncompressed tar.
        offset: u64,
        /// Stored bytes.
        len: u64,
    },
    /// A regular file with holes.
    Sparse {
        /// Offset of the stored data in the layer's uncompressed tar.
        offset: u64,
        /// Offset of the map in its section.
        map: u64,
    },
    /// A directory's entries.
    Directory {
        /// Number of the first one.
        first: u32,
        /// How many.
        count: u32,
    },
    /// The target of a link (symbolic, or hard to a lower layer); its length is the size.
    Target {
        /// Offset in its section.
        offset: u64,
    },
    /// The device that a node stands for (`makedev` encoding).
    Device(u64),
}

/// Where an object's names are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// Nowhere: the root.
    Root,
    /// One name: the number of its dirent.
    One(u32),
    /// Several: the place of the list among the aliases, in units of four bytes.
    Several(u32),
}

/// A directory that no member of the layer describes.
pub const IMPLICIT: u32 = 1;
/// A directory that hides the entries of the lower ones at its place.
pub const OPAQUE: u32 = 2;
/// An object that removes what lower layers have at its place, attributes included.
pub const REPLACES: u32 = 4;
const KEY: u32 = 8;
const SPARSE: u32 = 16;
const SEVERAL: u32 = 32;
const MARKS: u32 = IMPLICIT | OPAQUE | REPLACES;

/// An inode record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inode {
    /// The type; `None` for a hard link whose target is in a lower layer.
    pub kind: Option<FileType>,
    /// Permission bits with setuid, setgid and sticky.
    pub perm: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Visible names; of a directory 2 + its subdirectories.
    pub nlink: u32,
    /// Row of the layers table.
    pub layer: u32,
    /// Place in the layer, from 0; [`NONE`] for the root.
    pub ordinal: u32,
    /// 0, or 1 + the offset of its attribute set / 8.
    pub xattrs: u32,
    /// [`IMPLICIT`], [`OPAQUE`] and [`REPLACES`].
    pub marks: u32,
    /// Last change of the contents.
    pub mtime: Timespec,
    /// Last access.
    pub atime: Timespec,
    /// Last change of the attributes.
    pub ctime: Timespec,
    /// Where its names are.
    pub names: Names,
    /// Length in bytes, of a link its target's.
    pub size: u64,
    /// What belongs to its type.
    pub payload: Payload,
    /// blake3 of a regular file's bytes, where it was computed.
    pub key: Option<[u8; 32]>,
}

impl Inode {
    /// A directory that nobody described: 0755, root's, 1970.
    #[must_use]
    pub fn implicit_dir() -> Self {
        let zero = Timespec::default();
        Self {
            kind: Some(FileType::Directory),
            perm: 0o755,
            uid: 0,
            gid: 0,
            nlink: 2,
            layer: 0,
            ordinal: NONE,
            xattrs: 0,
            marks: IMPLICIT,
            mtime: zero,
            atime: zero,
            ctime: zero,
            names: Names::Root,
            size: 0,
            payload: Payload::Directory { first: 0, count: 0 },
            key: None,
        }
    }

    /// Whether it is a directory.
    #[must_use]
    pub fn is_dir(&self) -> bool {
        self.kind == Some(FileType::Directory)
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let mut flags = self.marks & MARKS;
        let (a, b) = match self.payload {
            Payload::Nothing => (0, 0),
            Payload::Stored { offset, len } => (offset, len),
            Payload::Sparse { offset, map } => {
                flags |= SPARSE;
                (offset, map)
            }
            Payload::Directory { first, count } => (u64::from(first) | u64::from(count) << 32, 0),
            Payload::Target { offset } => (offset, 0),
            Payload::Device(rdev) => (rdev, 0),
        };
        let name = match self.names {
            Names::Root => NONE,
            Names::One(dirent) => dirent,
            Names::Several(list) => {
                flags |= SEVERAL;
                list
            }
        };
        if self.key.is_some() {
            flags |= KEY;
        }
        put(out, self.kind.map_or(0, FileType::mode_bits) | self.perm);
        for field in [
            self.uid,
            self.gid,
            self.nlink,
            self.layer,
            self.ordinal,
            self.xattrs,
            flags,
        ] {
            put(out, field);
        }
        for time in [self.mtime, self.atime, self.ctime] {
            put64(out, time.sec as u64);
        }
        for time in [self.mtime, self.atime, self.ctime] {
            put(out, time.nsec);
        }
        put(out, name);
        put64(out, self.size);
        put64(out, a);
        put64(out, b);
        out.extend_from_slice(&self.key.unwrap_or_default());
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut f = Fields(bytes);
        let mode = f.u32()?;
        let kind = match mode & libc::S_IFMT {
            0 => None,
            _ => Some(FileType::from_mode(mode)?),
        };
        let (uid, gid, nlink) = (f.u32()?, f.u32()?, f.u32()?);
        let (layer, ordinal) = (f.u32()?, f.u32()?);
        let (xattrs, flags) = (f.u32()?, f.u32()?);
        let (mtime, atime, ctime) = (f.u64()?, f.u64()?, f.u64()?);
        let mut time = |sec: u64| {
            let nsec = f.u32().filter(|nsec| *nsec < 1_000_000_000)?;
            let sec = sec as i64;
            Some(Timespec { sec, nsec })
        };
        let (mtime, atime, ctime) = (time(mtime)?, time(atime)?, time(ctime)?);
        let name = f.u32()?;
        let size = f.u64()?;
        let (a, b) = (f.u64()?, f.u64()?);
        let payload = match kind {
            Some(FileType::Regular) if flags & SPARSE != 0 => Payload::Sparse { offset: a, map: b },
            Some(FileType::Regular) => Payload::Stored { offset: a, len: b },
            Some(FileType::Directory) => Payload::Directory {
                first: a as u32,
                count: (a >> 32) as u32,
            },
            None | Some(FileType::Symlink) => Payload::Target { offset: a },
            Some(FileType::CharDevice | FileType::BlockDevice) => Payload::Device(a),
            Some(FileType::Fifo | FileType::Socket) => Payload::Nothing,
        };
        Some(Self {
            kind,
            perm: mode & 0o7777,
            uid,
            gid,
            nlink,
            layer,
            ordinal,
            xattrs,
            marks: flags & MARKS,
            mtime,
            atime,
            ctime,
            names: match name {
                NONE => Names::Root,
                list if flags & SEVERAL != 0 => Names::Several(list),
                dirent => Names::One(dirent),
            },
            size,
            payload,
            key: if flags & KEY != 0 {
                Some(f.array()?)
            } else {
                None
            },
        })
    }
}

/// What a directory entry stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DirentKind {
    /// The name is removed.
    Whiteout,
    /// An object of this type.
    Node(FileType),
    /// A hard link whose target is in a lower layer.
    Link,
}

impl DirentKind {
    fn code(self) -> u8 {
        match self {
            DirentKind::Whiteout => 0,
            DirentKind::Node(FileType::Regular) => 1,
            DirentKind::Node(FileType::Directory) => 2,
            DirentKind::Node(FileType::Symlink) => 3,
            DirentKind::Node(FileType::CharDevice) => 4,
            DirentKind::Node(FileType::BlockDevice) => 5,
            DirentKind::Node(FileType::Fifo) => 6,
            DirentKind::Node(FileType::Socket) => 7,
            DirentKind::Link => 8,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => DirentKind::Whiteout,
            1 => DirentKind::Node(FileType::Regular),
            2 => DirentKind::Node(FileType::Directory),
            3 => DirentKind::Node(FileType::Symlink),
            4 => DirentKind::Node(FileType::CharDevice),
            5 => DirentKind::Node(FileType::BlockDevice),
            6 => DirentKind::Node(FileType::Fifo),
            7 => DirentKind::Node(FileType::Socket),
            8 => DirentKind::Link,
            _ => return None,
        })
    }
}

/// A directory entry's record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirentRow {
    /// Offset of the name among the names.
    pub name: u32,
    /// Length of the name in bytes.
    pub name_len: u8,
    /// Number of the inode; [`NONE`] for a whiteout.
    pub inode: u32,
    /// Number of the directory's inode.
    pub parent: u32,
    /// What it stands for.
    pub kind: DirentKind,
}

impl DirentRow {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put(out, self.name);
        put(out, self.inode);
        put(out, self.parent);
        out.extend_from_slice(&[self.name_len, self.kind.code(), 0, 0]);
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut f = Fields(bytes);
        let (name, inode, parent) = (f.u32()?, f.u32()?, f.u32()?);
        let [name_len, kind, _, _] = f.array()?;
        Some(Self {
            name,
            name_len,
            inode,
            parent,
            kind: DirentKind::from_code(kind)?,
        })
    }
}

pub(super) fn put(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

pub(super) fn put64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

/// Takes fields off the front of some bytes.
pub(super) struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    pub fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, tail) = self.0.split_first_chunk()?;
        self.0 = tail;
        Some(*head)
    }

    pub fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_have_the_documented_lengths() {
        let mut out = Vec::new();
        Inode::implicit_dir().encode(&mut out);
        assert_eq!(out.len() as u64, INODE_LEN);
        out.clear();
        let row = DirentRow {
            name: 1,
            name_len: 2,
            inode: 3,
            parent: 4,
            kind: DirentKind::Link,
        };
        row.encode(&mut out);
        assert_eq!(out.len() as u64, DIRENT_LEN);
        assert_eq!(DirentRow::decode(&out), Some(row));
        out.clear();
        let layer = LayerRow {
            diff_id: [7; 32],
            entries: 5,
            first_ino: 2,
        };
        layer.encode(&mut out);
        assert_eq!(out.len() as u64, LAYER_LEN);
        assert_eq!(LayerRow::decode(&out), Some(layer));
    }

    #[test]
    fn an_inode_comes_back_as_it_was() {
        let file = Inode {
            kind: Some(FileType::Regular),
            perm: 0o4755,
            uid: 1,
            gid: u32::MAX,
            mtime: Timespec {
                sec: -5,
                nsec: 999_999_999,
            },
            names: Names::Several(9),
            size: 1 << 40,
            payload: Payload::Sparse {
                offset: 512,
                map: 8,
            },
            key: Some([3; 32]),
            marks: REPLACES,
            ..Inode::implicit_dir()
        };
        let mut out = Vec::new();
        file.encode(&mut out);
        assert_eq!(Inode::decode(&out), Some(file));
        assert_eq!(Inode::decode(&out[..100]), None);
    }
}
