//! Writes an index: sections one after the other, checksums on the way, the header last.

use std::collections::HashMap;
use std::io::{self, Seek, SeekFrom, Write};

use crate::error::{Context as _, Failure};
use crate::index::format::{
    ALIGN, Extent, HEADER_LEN, Header, PAGE_LEN, SECTIONS, Scope, put, put64,
};
use crate::tar::Segment;

/// A limit on what hostile layers can make us hold in memory, for each kind of variable data.
const POOL_LIMIT: usize = 1 << 30;

/// Attribute sets, link targets and sparse maps of an index in the making.
#[derive(Default)]
pub(super) struct Pools {
    xattrs: Vec<u8>,
    sets: HashMap<[u8; 32], u32>,
    targets: Vec<u8>,
    sparse: Vec<u8>,
}

impl Pools {
    /// Stores a set of attributes once; gives its reference.
    pub fn add_xattrs(&mut self, set: &[(Vec<u8>, Vec<u8>)]) -> Result<u32, Failure> {
        if set.is_empty() {
            return Ok(0);
        }
        let mut bytes = Vec::new();
        put(&mut bytes, small(set.len())?);
        for (name, value) in set {
            let name_len = u8::try_from(name.len())
                .ok()
                .filter(|len| *len > 0)
                .ok_or_else(|| {
                    Failure::invalid("an extended attribute's name is not 1 to 255 bytes")
                })?;
            bytes.extend_from_slice(&[name_len, 0, 0, 0]);
            put(&mut bytes, small(value.len())?);
            bytes.extend_from_slice(name);
            bytes.extend_from_slice(value);
        }
        self.add_encoded_xattrs(&bytes)
    }

    /// As [`Pools::add_xattrs`], for a set in the file's form.
    pub fn add_encoded_xattrs(&mut self, set: &[u8]) -> Result<u32, Failure> {
        let hash = *blake3::hash(set).as_bytes();
        if let Some(known) = self.sets.get(&hash) {
            return Ok(*known);
        }
        limit(&self.xattrs, set.len(), "extended attributes")?;
        self.xattrs.resize(self.xattrs.len().next_multiple_of(8), 0);
        let reference = small(self.xattrs.len() / 8 + 1)?;
        self.xattrs.extend_from_slice(set);
        self.sets.insert(hash, reference);
        Ok(reference)
    }

    /// Stores a link's target; gives its offset.
    pub fn add_target(&mut self, target: &[u8]) -> Result<u64, Failure> {
        limit(&self.targets, target.len(), "link targets")?;
        let offset = self.targets.len() as u64;
        self.targets.extend_from_slice(target);
        Ok(offset)
    }

    /// Stores a sparse map; gives its offset.
    pub fn add_sparse(&mut self, segments: &[Segment], stored: u64) -> Result<u64, Failure> {
        limit(
            &self.sparse,
            segments.len().saturating_mul(24),
            "sparse maps",
        )?;
        let offset = self.sparse.len() as u64;
        put64(&mut self.sparse, segments.len() as u64);
        put64(&mut self.sparse, stored);
        for segment in segments {
            put64(&mut self.sparse, segment.offset);
            put64(&mut self.sparse, segment.len);
            put64(&mut self.sparse, segment.stored);
        }
        Ok(offset)
    }
}

/// A number that a 32-bit field of the index has to hold.
pub(super) fn small(n: usize) -> Result<u32, Failure> {
    u32::try_from(n)
        .ok()
        .filter(|n| *n < u32::MAX - 1)
        .ok_or_else(|| Failure::invalid("the layer is too large for an index"))
}

fn limit(pool: &[u8], more: usize, what: &str) -> Result<(), Failure> {
    if more > POOL_LIMIT || pool.len() > POOL_LIMIT - more {
        return Err(Failure::invalid(format!(
            "the layer has more than {} MiB of {what}",
            POOL_LIMIT >> 20
        )));
    }
    Ok(())
}

/// Lays out an index file.
pub(super) struct IndexWriter<W: Write + Seek> {
    out: W,
    start: u64,
    page: Vec<u8>,
    pages: Vec<u32>,
    written: u64,
    sections: Vec<Extent>,
}

impl<W: Write + Seek> IndexWriter<W> {
    /// Starts an index at the present place of `out`, which has to be at its end.
    pub fn new(mut out: W) -> Result<Self, Failure> {
        let start = out.stream_position().context(|| "cannot write an index")?;
        out.write_all(&[0; HEADER_LEN as usize])
            .context(|| "cannot write an index")?;
        Ok(Self {
            out,
            start,
            page: Vec::with_capacity(PAGE_LEN as usize),
            pages: Vec::new(),
            written: HEADER_LEN,
            sections: Vec::with_capacity(SECTIONS),
        })
    }

    /// Starts the next section.
    pub fn section(&mut self) -> io::Result<()> {
        self.close_section();
        while !self.written.is_multiple_of(ALIGN) {
            self.put(&[0])?;
        }
        self.sections.push(Extent {
            offset: self.written,
            len: 0,
        });
        Ok(())
    }

    fn close_section(&mut self) {
        if let Some(last) = self.sections.last_mut() {
            last.len = self.written - last.offset;
        }
    }

    /// Adds bytes to the section.
    pub fn put(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        self.written += bytes.len() as u64;
        while !bytes.is_empty() {
            let room = PAGE_LEN as usize - self.page.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.page.extend_from_slice(now);
            bytes = later;
            if self.page.len() == PAGE_LEN as usize {
                self.flush_page()?;
            }
        }
        Ok(())
    }

    fn flush_page(&mut self) -> io::Result<()> {
        self.pages.push(crc32fast::hash(&self.page));
        self.out.write_all(&self.page)?;
        self.page.clear();
        Ok(())
    }

    /// Adds the sections of attributes, targets and sparse maps.
    pub fn pools(&mut self, pools: &Pools) -> io::Result<()> {
        for pool in [&pools.xattrs, &pools.targets, &pools.sparse] {
            self.section()?;
            self.put(pool)?;
        }
        Ok(())
    }

    /// Writes checksums and header; gives the file's length in bytes.
    pub fn finish(mut self, scope: Scope) -> Result<u64, Failure> {
        self.close(scope).context(|| "cannot write an index")
    }

    fn close(&mut self, scope: Scope) -> io::Result<u64> {
        self.section()?;
        if !self.page.is_empty() {
            self.flush_page()?;
        }
        let table: Vec<u8> = self
            .pages
            .iter()
            .flat_map(|crc| crc.to_le_bytes())
            .collect();
        self.out.write_all(&table)?;
        self.written += table.len() as u64;
        self.close_section();
        let header = Header {
            scope,
            file_len: self.written,
            sections: <[Extent; SECTIONS]>::try_from(self.sections.as_slice())
                .map_err(|_| io::Error::other("an index with a section too many or too few"))?,
        };
        self.out.seek(SeekFrom::Start(self.start))?;
        self.out.write_all(&header.encode())?;
        self.out.seek(SeekFrom::Start(self.start + self.written))?;
        self.out.flush()?;
        Ok(self.written)
    }
}
