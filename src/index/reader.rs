//! Reads an index without trusting it: any damage is `EIO`, never a panic, a loop or a wild
//! allocation.

use std::cmp::Ordering as Order;
use std::fmt;
use std::fs::File;
use std::path::Path;

use crate::error::{Errno, Error, Result};
use crate::image::{DiffId, Digest};
use crate::index::format::{
    DIRENT_LEN, DirentKind, DirentRow, Extent, INODE_LEN, Inode, LAYER_LEN, LayerRow, NONE, Names,
    Payload, Scope,
};
use crate::index::pages::Pages;
use crate::name::{Name, NameBuf};
use crate::stat::{FileType, Stat};
use crate::tar::Segment;

/// Number of an inode record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InodeNo(pub u32);

/// The root directory.
pub const ROOT: InodeNo = InodeNo(0);

/// A directory entry, checked to belong to the directory that it was read from.
#[derive(Debug, Clone, Copy)]
pub struct Dirent<'a> {
    /// Its number.
    pub number: u32,
    /// The name.
    pub name: &'a Name,
    /// The object; `None` for a whiteout.
    pub inode: Option<InodeNo>,
    /// The directory.
    pub parent: InodeNo,
    /// What it stands for.
    pub kind: DirentKind,
}

/// Which bytes of a sparse file are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SparseMap {
    /// Runs of data, ascending, without overlaps, within the file's size.
    pub segments: Vec<Segment>,
    /// Stored bytes.
    pub stored: u64,
}

/// The sections' places, by name.
#[derive(Clone, Copy)]
struct Sections {
    layers: Extent,
    inodes: Extent,
    dirents: Extent,
    names: Extent,
    xattrs: Extent,
    targets: Extent,
    sparse: Extent,
    aliases: Extent,
}

/// An open index.
pub struct Index {
    pages: Pages,
    scope: Scope,
    sections: Sections,
}

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Index({})", self.name())
    }
}

impl Index {
    /// Maps an index and checks its header. The cost does not depend on its length.
    ///
    /// # Errors
    /// `EIO` when it is no index, of another version, or cut short; what open(2) and mmap(2)
    /// report.
    pub fn open(path: &Path) -> Result<Self> {
        let context = |e: Error| e.context(format_args!("index {}", path.display()));
        let file = File::open(path).map_err(|e| context(e.into()))?;
        Self::from_file(&file, &path.display().to_string())
    }

    /// As [`Index::open`]; `name` is for messages.
    ///
    /// # Errors
    /// As [`Index::open`].
    pub fn from_file(file: &File, name: &str) -> Result<Self> {
        let (pages, header) = Pages::open(file, name)?;
        let [
            layers,
            inodes,
            dirents,
            names,
            xattrs,
            targets,
            sparse,
            aliases,
            checksums,
        ] = header.sections;
        let sections = Sections {
            layers,
            inodes,
            dirents,
            names,
            xattrs,
            targets,
            sparse,
            aliases,
        };
        let fits = |section: Extent, width: u64| {
            section.end().is_some_and(|end| end <= checksums.offset)
                && section.len.is_multiple_of(width)
                && section.len / width < u64::from(NONE)
        };
        if !(fits(layers, LAYER_LEN)
            && fits(inodes, INODE_LEN)
            && inodes.len > 0
            && fits(dirents, DIRENT_LEN)
            && fits(names, 1)
            && [xattrs, targets, sparse].iter().all(|s| {
                fits(*s, 1)
                    || s.len >= u64::from(NONE)
                        && s.end().is_some_and(|end| end <= checksums.offset)
            })
            && fits(aliases, 4))
        {
            return Err(pages.damaged("malformed section table"));
        }
        Ok(Self {
            pages,
            scope: header.scope,
            sections,
        })
    }

    /// The name that messages give it.
    #[must_use]
    pub fn name(&self) -> &str {
        self.pages.name()
    }

    /// Whether it describes one layer or a flattened stack.
    #[must_use]
    pub fn scope(&self) -> Scope {
        self.scope
    }

    /// Number of inode records.
    #[must_use]
    pub fn inode_count(&self) -> u32 {
        u32::try_from(self.sections.inodes.len / INODE_LEN).unwrap_or(NONE)
    }

    /// Number of directory entries.
    #[must_use]
    pub fn dirent_count(&self) -> u32 {
        u32::try_from(self.sections.dirents.len / DIRENT_LEN).unwrap_or(NONE)
    }

    /// Number of layers that it describes.
    #[must_use]
    pub fn layer_count(&self) -> u32 {
        u32::try_from(self.sections.layers.len / LAYER_LEN).unwrap_or(NONE)
    }

    /// A row of the layers table, 0 for the bottom layer.
    ///
    /// # Errors
    /// `EIO` when the index is damaged.
    pub fn layer(&self, row: u32) -> Result<LayerRow> {
        let bytes = self
            .pages
            .row(self.sections.layers, u64::from(row), LAYER_LEN)?;
        let row = LayerRow::decode(bytes);
        self.pages.sound()?;
        row.ok_or_else(|| self.pages.damaged("malformed layers table"))
    }

    /// The layers, bottom first.
    ///
    /// # Errors
    /// `EIO` when the index is damaged.
    pub fn layers(&self) -> Result<Vec<LayerRow>> {
        (0..self.layer_count()).map(|row| self.layer(row)).collect()
    }

    /// An inode record.
    ///
    /// # Errors
    /// `EIO` when there is no such record or the index is damaged.
    pub fn inode(&self, inode: InodeNo) -> Result<Inode> {
        let bytes = self
            .pages
            .row(self.sections.inodes, u64::from(inode.0), INODE_LEN)?;
        let record = Inode::decode(bytes);
        self.pages.sound()?;
        record.ok_or_else(|| self.pages.damaged("malformed inode record"))
    }

    /// `st_ino` of an object.
    ///
    /// # Errors
    /// `EIO` when the index is damaged.
    pub fn ino(&self, number: InodeNo, inode: &Inode) -> Result<u64> {
        if number == ROOT {
            return Ok(1);
        }
        self.layer(inode.layer)?
            .first_ino
            .checked_add(u64::from(inode.ordinal))
            .ok_or_else(|| self.pages.damaged("an inode number is too large"))
    }

    /// The object of an inode number: the inverse of [`Index::ino`].
    ///
    /// # Errors
    /// `EIO` when the index is damaged.
    pub fn by_ino(&self, ino: u64) -> Result<Option<InodeNo>> {
        if ino == 1 {
            return Ok(Some(ROOT));
        }
        for row in 0..self.layer_count() {
            let layer = self.layer(row)?;
            let ordinal = ino.checked_sub(layer.first_ino);
            if let Some(ordinal) = ordinal.filter(|o| *o < layer.entries) {
                let ordinal = u32::try_from(ordinal).ok();
                return ordinal.map_or(Ok(None), |ordinal| self.find(row, ordinal));
            }
        }
        Ok(None)
    }

    /// The attributes of an object, as stat(2) gives them. A hard link to a lower layer counts as
    /// an empty regular file.
    ///
    /// # Errors
    /// `EIO` when the index is damaged.
    pub fn stat(&self, number: InodeNo, inode: &Inode) -> Result<Stat> {
        let stored = match inode.payload {
            Payload::Stored { len, .. } => len,
            Payload::Sparse { map, .. } => self.sparse_header(map)?.1,
            Payload::Directory { .. } => 4096,
            _ => 0,
        };
        Ok(Stat {
            ino: self.ino(number, inode)?,
            kind: inode.kind.unwrap_or(FileType::Regular),
            perm: inode.perm,
            nlink: inode.nlink,
            uid: inode.uid,
            gid: inode.gid,
            rdev: match inode.payload {
                Payload::Device(rdev) => rdev,
                _ => 0,
            },
            size: match inode.kind {
                Some(FileType::Directory) => 4096,
                Some(_) => inode.size,
                None => 0,
            },
            blocks: stored.div_ceil(512),
            atime: inode.atime,
            mtime: inode.mtime,
            ctime: inode.ctime,
        })
    }

    /// What a directory has under a name: a binary search.
    ///
    /// # Errors
    /// `ENOTDIR` when `dir` is none; `EIO` when the index is damaged.
    pub fn lookup(&self, dir: InodeNo, name: &[u8]) -> Result<Option<Dirent<'_>>> {
        let (mut low, mut high) = self.entry_range(dir)?;
        while low < high {
            let middle = low + (high - low) / 2;
            let row = self.dirent_row(middle)?;
            let order = self.name_bytes(&row)?.cmp(name);
            match order {
                Order::Less => low = middle + 1,
                Order::Greater => high = middle,
                Order::Equal => return self.checked_dirent(dir, middle, &row).map(Some),
            }
        }
        self.pages.sound()?;
        Ok(None)
    }

    /// A directory's entries, by name.
    ///
    /// # Errors
    /// `ENOTDIR` when `dir` is none; `EIO` when the index is damaged.
    pub fn children(&self, dir: InodeNo) -> Result<Children<'_>> {
        let (next, end) = self.entry_range(dir)?;
        Ok(Children {
            index: self,
            dir,
            next,
            end,
            before: None,
        })
    }

    /// A directory entry by its number.
    ///
    /// # Errors
    /// `EIO` when there is none or the index is damaged.
    pub fn dirent(&self, number: u32) -> Result<Dirent<'_>> {
        let row = self.dirent_row(number)?;
        self.checked_dirent(InodeNo(row.parent), number, &row)
    }

    /// All names of an object; none for the root.
    ///
    /// # Errors
    /// `EIO` when the index is damaged.
    pub fn names_of(&self, number: InodeNo, inode: &Inode) -> Result<Vec<Dirent<'_>>> {
        let own = |dirent: u32| {
            let dirent = self.dirent(dirent)?;
            if dirent.inode == Some(number) {
                Ok(dirent)
            } else {
                Err(self.pages.damaged("a name belongs to another object"))
            }
        };
        match inode.names {
            Names::Root => Ok(Vec::new()),
            Names::One(dirent) => Ok(vec![own(dirent)?]),
            Names::Several(list) => {
                let offset = u64::from(list) * 4;
                let count = self.pages.fields(self.sections.aliases, offset, 4)?.u32();
                let count = count.ok_or_else(|| self.pages.damaged("malformed alias list"))?;
                let mut list =
                    self.pages
                        .fields(self.sections.aliases, offset + 4, u64::from(count) * 4)?;
                let mut names = Vec::new();
                while let Some(dirent) = list.u32() {
                    names.push(own(dirent)?);
                }
                self.pages.sound()?;
                Ok(names)
            }
        }
    }

    /// The components of an object's path from the root, by its first name.
    ///
    /// # Errors
    /// `EIO` when the index is damaged.
    pub fn path_of(&self, mut number: InodeNo) -> Result<Vec<NameBuf>> {
        let mut path = Vec::new();
        while number != ROOT {
            // A tree has fewer levels than directories; only a damaged one can have more.
            if path.len() > self.inode_count() as usize {
                return Err(self.pages.damaged("directories form a loop"));
            }
            let inode = self.inode(number)?;
            let dirent = match inode.names {
                Names::One(dirent) => self.dirent(dirent)?,
                _ => *self
                    .names_of(number, &inode)?
                    .first()
                    .ok_or_else(|| self.pages.damaged("an object without a name"))?,
            };
            if dirent.inode != Some(number) {
                return Err(self.pages.damaged("a name belongs to another object"));
            }
            path.push(NameBuf::from(dirent.name));
            number = dirent.parent;
        }
        path.reverse();
        self.pages.sound()?;
        Ok(path)
    }

    /// A link's target: of a symbolic link, or the path from the root of a hard link to a lower
    /// layer.
    ///
    /// # Errors
    /// `EINVAL` when it is no link; `EIO` when the index is damaged.
    pub fn target(&self, inode: &Inode) -> Result<&[u8]> {
        match inode.payload {
            Payload::Target { offset } => {
                self.pages.bytes(self.sections.targets, offset, inode.size)
            }
            _ => Err(Error::new(Errno::EINVAL)),
        }
    }

    /// Which bytes of a sparse file are stored; `None` for another one.
    ///
    /// # Errors
    /// `EIO` when the index is damaged.
    pub fn sparse_map(&self, inode: &Inode) -> Result<Option<SparseMap>> {
        let Payload::Sparse { map, .. } = inode.payload else {
            return Ok(None);
        };
        let (count, stored) = self.sparse_header(map)?;
        let len = count
            .checked_mul(24)
            .ok_or_else(|| self.pages.damaged("malformed sparse map"))?;
        let mut fields = self
            .pages
            .fields(self.sections.sparse, map.saturating_add(16), len)?;
        let mut segments: Vec<Segment> = Vec::new();
        let mut end = 0;
        while let (Some(offset), Some(len), Some(at)) = (fields.u64(), fields.u64(), fields.u64()) {
            let next = offset.checked_add(len).filter(|next| *next <= inode.size);
            let inside = at.checked_add(len).is_some_and(|last| last <= stored);
            end = match next {
                Some(next) if offset >= end && inside => next,
                _ => return Err(self.pages.damaged("malformed sparse map")),
            };
            segments.push(Segment {
                offset,
                len,
                stored: at,
            });
        }
        self.pages.sound()?;
        Ok(Some(SparseMap { segments, stored }))
    }

    fn sparse_header(&self, map: u64) -> Result<(u64, u64)> {
        let mut fields = self.pages.fields(self.sections.sparse, map, 16)?;
        let header = fields.u64().zip(fields.u64());
        self.pages.sound()?;
        header.ok_or_else(|| self.pages.damaged("malformed sparse map"))
    }

    /// Calls `each` for every extended attribute, as name and value.
    ///
    /// # Errors
    /// `EIO` when the index is damaged.
    pub fn xattrs<'a>(
        &'a self,
        inode: &Inode,
        mut each: impl FnMut(&'a [u8], &'a [u8]),
    ) -> Result<()> {
        let Some(reference) = inode.xattrs.checked_sub(1) else {
            return Ok(());
        };
        let mut at = u64::from(reference) * 8;
        let count = self.pages.fields(self.sections.xattrs, at, 4)?.u32();
        at += 4;
        for _ in 0..count.unwrap_or(0) {
            let mut fields = self.pages.fields(self.sections.xattrs, at, 8)?;
            let (Some([name_len, ..]), Some(value_len)) = (fields.array::<4>(), fields.u32())
            else {
                return Err(self.pages.damaged("malformed attribute set"));
            };
            let (name_len, value_len) = (u64::from(name_len), u64::from(value_len));
            let name = self.pages.bytes(self.sections.xattrs, at + 8, name_len)?;
            let value = self
                .pages
                .bytes(self.sections.xattrs, at + 8 + name_len, value_len)?;
            each(name, value);
            at += 8 + name_len + value_len;
        }
        self.pages.sound()
    }

    /// A set of attributes in the file's form, to be stored in another index.
    pub(super) fn encoded_xattrs(&self, inode: &Inode) -> Result<&[u8]> {
        let Some(reference) = inode.xattrs.checked_sub(1) else {
            return Ok(&[]);
        };
        let mut len = 4;
        self.xattrs(inode, |name, value| {
            len += 8 + (name.len() + value.len()) as u64
        })?;
        self.pages
            .bytes(self.sections.xattrs, u64::from(reference) * 8, len)
    }

    /// The object with this place in a layer (a row of the layers table).
    ///
    /// # Errors
    /// `EIO` when the index is damaged.
    pub fn find(&self, layer: u32, ordinal: u32) -> Result<Option<InodeNo>> {
        // Number 0 is the root, which has no place.
        let (mut low, mut high) = (1, self.inode_count());
        while low < high {
            let middle = low + (high - low) / 2;
            let inode = self.inode(InodeNo(middle))?;
            match (inode.layer, inode.ordinal).cmp(&(layer, ordinal)) {
                Order::Less => low = middle + 1,
                Order::Greater => high = middle,
                Order::Equal => return Ok(Some(InodeNo(middle))),
            }
        }
        Ok(None)
    }

    /// Reads every page and checks its checksum.
    ///
    /// # Errors
    /// `EIO` when one does not match.
    pub fn verify(&self) -> Result<()> {
        self.pages.verify()
    }

    fn entry_range(&self, dir: InodeNo) -> Result<(u32, u32)> {
        let Payload::Directory { first, count } = self.inode(dir)?.payload else {
            return Err(Error::new(Errno::ENOTDIR));
        };
        match first.checked_add(count) {
            Some(end) if end <= self.dirent_count() => Ok((first, end)),
            _ => Err(self.pages.damaged("a directory's entries lie outside")),
        }
    }

    fn dirent_row(&self, number: u32) -> Result<DirentRow> {
        let bytes = self
            .pages
            .row(self.sections.dirents, u64::from(number), DIRENT_LEN)?;
        DirentRow::decode(bytes).ok_or_else(|| self.pages.damaged("malformed directory entry"))
    }

    fn name_bytes(&self, row: &DirentRow) -> Result<&[u8]> {
        let len = u64::from(row.name_len);
        self.pages
            .bytes(self.sections.names, u64::from(row.name), len)
    }

    /// Checks that an entry is `dir`'s and, if it is a directory, that this is its only name: so
    /// nothing that is reached from the root can form a loop.
    fn checked_dirent(&self, dir: InodeNo, number: u32, row: &DirentRow) -> Result<Dirent<'_>> {
        let name = Name::from_bytes(self.name_bytes(row)?)
            .map_err(|_| self.pages.damaged("a name that no file can have"))?;
        let inode = (row.inode != NONE).then_some(InodeNo(row.inode));
        let right = match (row.kind, inode) {
            (DirentKind::Whiteout, inode) => inode.is_none(),
            (DirentKind::Node(FileType::Directory), Some(inode)) => {
                let record = self.inode(inode)?;
                record.is_dir() && record.names == Names::One(number)
            }
            (_, Some(inode)) => inode != ROOT && inode.0 < self.inode_count(),
            (_, None) => false,
        };
        self.pages.sound()?;
        if !right || row.parent != dir.0 {
            return Err(self
                .pages
                .damaged("a directory entry is not its directory's"));
        }
        Ok(Dirent {
            number,
            name,
            inode,
            parent: dir,
            kind: row.kind,
        })
    }
}

impl LayerRow {
    /// The layer's diffID.
    #[must_use]
    pub fn id(&self) -> DiffId {
        DiffId(Digest::from_bytes(self.diff_id))
    }
}

/// A directory's entries in the order of their names.
pub struct Children<'a> {
    index: &'a Index,
    dir: InodeNo,
    next: u32,
    end: u32,
    before: Option<&'a Name>,
}

impl<'a> Iterator for Children<'a> {
    type Item = Result<Dirent<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        let number = self.next;
        if number >= self.end {
            return None;
        }
        self.next += 1;
        let dirent = self
            .index
            .dirent_row(number)
            .and_then(|row| self.index.checked_dirent(self.dir, number, &row))
            .and_then(|dirent| {
                if self
                    .before
                    .is_some_and(|before| before.as_bytes() >= dirent.name.as_bytes())
                {
                    return Err(self.index.pages.damaged("names are not in order"));
                }
                self.before = Some(dirent.name);
                Ok(dirent)
            });
        if dirent.is_err() {
            self.next = self.end;
        }
        Some(dirent)
    }
}
