//! The bytes of an index: mapped, and each page's checksum compared when it is first touched.

use std::fs::File;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::error::{Errno, Error, Result};
use crate::index::format::{Extent, Fields, HEADER_LEN, Header, PAGE_LEN};
use crate::sys::map::Map;

/// A mapped index file.
pub(super) struct Pages {
    map: Map,
    name: Box<str>,
    checksums: Extent,
    /// One bit a page: its checksum has been found right.
    checked: Box<[AtomicU64]>,
    reported: AtomicBool,
}

impl Pages {
    /// Maps an index and decodes its header; `name` is for messages. What the sections hold is not
    /// looked at.
    ///
    /// # Errors
    /// `EIO` when it is no index, of another version, or cut short; what mmap(2) reports.
    pub fn open(file: &File, name: &str) -> Result<(Self, Header)> {
        let damaged = |what: &str| Error::with(Errno::EIO, format!("index {name}: {what}"));
        let file_len = file.metadata()?.len();
        if file_len < HEADER_LEN {
            return Err(damaged("truncated header"));
        }
        let map = Map::open(file)?;
        let bytes = map.bytes().get(..HEADER_LEN as usize).unwrap_or_default();
        let header = Header::decode(bytes).map_err(damaged)?;
        if header.file_len != file_len || map.bytes().len() as u64 != file_len || map.failed() {
            return Err(damaged("its length is not what its header says"));
        }
        let [.., checksums] = header.sections;
        // Each section begins behind the header, and ends within the file.
        let count = (checksums.offset - HEADER_LEN).div_ceil(PAGE_LEN);
        if checksums.len != count.saturating_mul(4) {
            return Err(damaged("malformed section table"));
        }
        let pages = Self {
            map,
            name: name.into(),
            checksums,
            checked: (0..count.div_ceil(64)).map(|_| AtomicU64::new(0)).collect(),
            reported: AtomicBool::new(false),
        };
        Ok((pages, header))
    }

    /// The name that messages give it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Reads every page and checks its checksum.
    ///
    /// # Errors
    /// `EIO` when one does not match.
    pub fn verify(&self) -> Result<()> {
        (0..self.checksums.len / 4).try_for_each(|page| self.check_page(page))?;
        self.sound()
    }

    /// `EIO` when a page of the mapping could not be read since the index was opened.
    ///
    /// # Errors
    /// That.
    pub fn sound(&self) -> Result<()> {
        if self.map.failed() {
            return Err(self.damaged("a page could not be read"));
        }
        Ok(())
    }

    /// One of a section's rows of `width` bytes.
    pub fn row(&self, section: Extent, row: u64, width: u64) -> Result<&[u8]> {
        // Rows are numbered in 32 bits and short: no overflow.
        self.bytes(section, row * width, width)
    }

    /// As [`Self::bytes`], to be decoded.
    pub fn fields(&self, section: Extent, offset: u64, len: u64) -> Result<Fields<'_>> {
        self.bytes(section, offset, len).map(Fields)
    }

    /// Bytes of a section, their pages' checksums checked.
    pub fn bytes(&self, section: Extent, offset: u64, len: u64) -> Result<&[u8]> {
        let end = offset.checked_add(len).filter(|end| *end <= section.len);
        let Some(end) = end else {
            return Err(self.damaged("a reference leads outside its section"));
        };
        let (start, end) = (section.offset + offset, section.offset + end);
        if start == end {
            return Ok(&[]);
        }
        for page in (start - HEADER_LEN) / PAGE_LEN..=(end - 1 - HEADER_LEN) / PAGE_LEN {
            self.check_page(page)?;
        }
        self.slice(start, end)
    }

    fn slice(&self, start: u64, end: u64) -> Result<&[u8]> {
        let range = usize::try_from(start).ok().zip(usize::try_from(end).ok());
        range
            .and_then(|(start, end)| self.map.bytes().get(start..end))
            .ok_or_else(|| self.damaged("a reference leads outside the file"))
    }

    fn check_page(&self, page: u64) -> Result<()> {
        let word = usize::try_from(page / 64)
            .ok()
            .and_then(|word| self.checked.get(word));
        let word = word.ok_or_else(|| self.damaged("a page without a checksum"))?;
        let bit = 1 << (page % 64);
        if word.load(Ordering::Relaxed) & bit != 0 {
            return Ok(());
        }
        let start = HEADER_LEN + page * PAGE_LEN;
        let end = (start + PAGE_LEN).min(self.checksums.offset);
        let at = self.checksums.offset + page * 4;
        let expected = Fields(self.slice(at, at + 4)?).u32();
        if expected != Some(crc32fast::hash(self.slice(start, end)?)) {
            return Err(self.damaged("checksum does not match"));
        }
        self.sound()?;
        word.fetch_or(bit, Ordering::Relaxed);
        Ok(())
    }

    /// `EIO`, and once a line in the log.
    #[cold]
    pub fn damaged(&self, what: &str) -> Error {
        if !self.reported.swap(true, Ordering::Relaxed) {
            log::error!("index {} is damaged: {what}", self.name);
        }
        Error::with(Errno::EIO, format!("index {}: {what}", self.name))
    }
}
