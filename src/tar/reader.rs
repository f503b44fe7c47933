//! Reading layer tars without trusting them: V7, ustar, GNU and PAX.

use std::io::Read;

use tar::{EntryType, Header};

use super::pax::Pax;
use super::sparse::{pairs, read_leading_map, segments};
use super::{MAX_XATTR_VALUE, Member, MemberKind, Segment};
use crate::error::{Failure, FailureKind};
use crate::stat::Timespec;

const BLOCK: usize = 512;
/// The largest extended header, and GNU long name, that is read into memory.
const MAX_EXTENSION: u64 = 1 << 20;
/// The largest global extended header, in bytes.
const MAX_GLOBAL: usize = 4096;
/// The longest path of a member, in bytes.
const MAX_PATH: usize = 64 * 1024;
/// The largest file: what `off_t` can hold.
const MAX_SIZE: u64 = i64::MAX as u64;
/// Extension headers in a row before a member.
const MAX_EXTENSIONS: u32 = 16;

/// Reads an archive member by member.
pub struct TarReader<R> {
    input: Input<R>,
    global: Pax,
    ended: bool,
}

/// The stream, with its position and what is left of the current member.
struct Input<R> {
    inner: R,
    position: u64,
    /// Stored bytes of the current member not read yet.
    left: u64,
    /// Zero bytes that fill the member's last block.
    padding: u64,
}

impl<R: Read> Read for Input<R> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let want = usize::try_from(self.left)
            .unwrap_or(usize::MAX)
            .min(buf.len());
        let Some(buf) = buf.get_mut(..want).filter(|b| !b.is_empty()) else {
            return Ok(0);
        };
        let got = self.inner.read(buf)?;
        if got == 0 {
            return Err(Failure::invalid("the archive is cut off in a member's data").into());
        }
        self.left -= got as u64;
        self.position += got as u64;
        Ok(got)
    }
}

impl<R: Read> Input<R> {
    /// One block; `None` at the end of the stream.
    fn block(&mut self) -> Result<Option<[u8; BLOCK]>, Failure> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while let Some(space) = block.get_mut(filled..).filter(|s| !s.is_empty()) {
            match self.inner.read(space) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(Failure::invalid("the archive is cut off in a header")),
                Ok(n) => filled += n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e.into()),
            }
        }
        self.position += BLOCK as u64;
        Ok(Some(block))
    }

    fn begin(&mut self, size: u64) {
        self.left = size;
        self.padding = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
    }

    /// Reads over what is left of the member.
    fn skip(&mut self) -> Result<(), Failure> {
        std::io::copy(self, &mut std::io::sink())?;
        self.left = std::mem::take(&mut self.padding);
        std::io::copy(self, &mut std::io::sink())?;
        Ok(())
    }

    /// The whole data of an extension header.
    fn extension(&mut self, size: u64) -> Result<Vec<u8>, Failure> {
        if size > MAX_EXTENSION {
            return Err(Failure::invalid("an extended header is over 1 MiB"));
        }
        self.begin(size);
        let mut data = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
        self.read_to_end(&mut data)?;
        self.skip()?;
        Ok(data)
    }
}

/// What stands before a member and belongs to it.
#[derive(Default)]
struct Extensions {
    pax: Option<Pax>,
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

impl<R: Read> TarReader<R> {
    /// Reads the archive in a stream.
    pub fn new(inner: R) -> Self {
        let input = Input {
            inner,
            position: 0,
            left: 0,
            padding: 0,
        };
        Self {
            input,
            global: Pax::default(),
            ended: false,
        }
    }

    /// The next member; `None` at the end. Data of the one before that was not read is skipped.
    ///
    /// # Errors
    /// [`FailureKind::Invalid`] naming the member and what is wrong with it.
    pub fn next_member(&mut self) -> Result<Option<Member>, Failure> {
        self.input.skip()?;
        let mut extensions = Extensions::default();
        for _ in 0..=MAX_EXTENSIONS {
            let Some(block) = self.header()? else {
                return match extensions.is_empty() {
                    true => Ok(None),
                    false => Err(Failure::invalid(
                        "the archive ends after an extended header",
                    )),
                };
            };
            let header = Header::from_byte_slice(&block);
            if !self.extend(header, &mut extensions)? {
                let shown = extensions.shown_name(header);
                let member = self.member(header, extensions);
                return member.map(Some).map_err(|f| match f.kind() {
                    FailureKind::Invalid => f.context(format!("member \"{shown}\"")),
                    _ => f,
                });
            }
        }
        Err(Failure::invalid("too many extended headers in a row"))
    }

    /// The stored bytes of the current member.
    pub fn data(&mut self) -> &mut dyn Read {
        &mut self.input
    }

    /// How many bytes of the archive have been read.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.input.position
    }

    /// The next header that isn't the end.
    fn header(&mut self) -> Result<Option<[u8; BLOCK]>, Failure> {
        if self.ended {
            return Ok(None);
        }
        match self.input.block()? {
            None => {
                self.ended = true;
                Ok(None)
            }
            Some(block) if block.iter().all(|b| *b == 0) => {
                // Two zero blocks end an archive; one will do, as for GNU tar.
                self.ended = true;
                Ok(None)
            }
            Some(block) => {
                check_sum(&block)?;
                Ok(Some(block))
            }
        }
    }

    /// Takes an extension header in; `false` if this is a member's own.
    fn extend(&mut self, header: &Header, to: &mut Extensions) -> Result<bool, Failure> {
        let kind = header.entry_type();
        let data = match kind {
            EntryType::XHeader
            | EntryType::XGlobalHeader
            | EntryType::GNULongName
            | EntryType::GNULongLink => {
                let size = numeric(field(header, 124, 12)).and_then(|n| u64::try_from(n).ok());
                let size = size.ok_or_else(|| Failure::invalid("an extended header's size"))?;
                self.input.extension(size)?
            }
            _ => return Ok(false),
        };
        match kind {
            EntryType::XHeader => {
                let mut pax = to.pax.take().unwrap_or_else(|| self.global.clone());
                pax.read(&data).map_err(Failure::invalid)?;
                to.pax = Some(pax);
            }
            EntryType::XGlobalHeader => self.take_global(&data)?,
            EntryType::GNULongName => to.name = Some(until_nul(&data).into()),
            _ => to.link = Some(until_nul(&data).into()),
        }
        Ok(true)
    }

    /// Every following member has what a global header says, so it has to be short.
    fn take_global(&mut self, data: &[u8]) -> Result<(), Failure> {
        if data.len() > MAX_GLOBAL {
            return Err(Failure::invalid("a global extended header is over 4 KiB"));
        }
        self.global.read(data).map_err(Failure::invalid)
    }

    fn member(&mut self, header: &Header, extensions: Extensions) -> Result<Member, Failure> {
        let invalid = |why: String| Failure::invalid(why);
        let pax = extensions.pax.unwrap_or_else(|| self.global.clone());
        let name = pax
            .sparse
            .name
            .clone()
            .or(pax.path.clone())
            .or(extensions.name);
        let name = name.unwrap_or_else(|| header.path_bytes().into_owned());
        let path = clean_path(&name, Target::Member).map_err(invalid)?;
        let link = pax.link_path.clone().or(extensions.link);
        let link = link.unwrap_or_else(|| until_nul(field(header, 157, 100)).to_vec());
        let stated = match pax.size {
            Some(size) => Some(size),
            None => number_in(header, 124, 12),
        };
        let stated = stated.filter(|s| *s <= MAX_SIZE);
        let stated = stated.ok_or_else(|| invalid("its size is not a possible one".into()))?;
        let (kind, has_data) = kind_of(header, &name, &link).map_err(invalid)?;
        let stored_size = if has_data { stated } else { 0 };
        let id = |pax: Option<u64>, at, what: &str| {
            let id = pax.or_else(|| number_in(header, at, 8));
            let id = id
                .and_then(|id| u32::try_from(id).ok())
                .filter(|id| *id != u32::MAX);
            id.ok_or_else(|| Failure::invalid(format!("its {what} is not a possible one")))
        };
        let mtime = match pax.mtime {
            Some(time) => Some(time),
            None => numeric(field(header, 136, 12)).map(|sec| Timespec { sec, nsec: 0 }),
        };
        let mode = number_in(header, 100, 8).ok_or_else(|| invalid("its mode".into()))?;
        let regular = kind == MemberKind::Regular;
        let mut member = Member {
            path,
            kind,
            perm: u32::try_from(mode & 0o7777).unwrap_or(0),
            uid: id(pax.uid, 108, "uid")?,
            gid: id(pax.gid, 116, "gid")?,
            mtime: mtime.ok_or_else(|| invalid("its modification time".into()))?,
            atime: pax.atime,
            ctime: pax.ctime,
            size: if regular { stored_size } else { 0 },
            data_offset: self.input.position,
            stored_size: if regular { stored_size } else { 0 },
            sparse: None,
            xattrs: Vec::new(),
        };
        self.input.begin(stored_size);
        if regular {
            self.sparse(header, &pax, &mut member).map_err(invalid)?;
        }
        let len: usize = pax.xattrs.iter().map(|(n, v)| n.len() + v.len()).sum();
        if len > 4 * MAX_XATTR_VALUE {
            return Err(invalid("its extended attributes are over 256 KiB".into()));
        }
        member.xattrs = pax.xattrs.into_iter().collect();
        Ok(member)
    }

    /// Finds out whether the member is sparse, and its map.
    fn sparse(&mut self, header: &Header, pax: &Pax, member: &mut Member) -> Result<(), String> {
        let (runs, size) = if header.entry_type() == EntryType::GNUSparse {
            let start = self.input.position;
            let (runs, size) = self.old_gnu_map(header)?;
            // The map's further blocks stand between the header and the data.
            member.data_offset += self.input.position - start;
            (runs, size)
        } else if pax.sparse.major == Some(1) {
            let size = pax
                .sparse
                .real_size
                .ok_or("a sparse file without its size")?;
            let (runs, taken) = read_leading_map(&mut self.input)?;
            member.data_offset += taken;
            member.stored_size = member.stored_size.saturating_sub(taken);
            (runs, size)
        } else if pax.sparse.mapped {
            let size = pax
                .sparse
                .real_size
                .ok_or("a sparse file without its size")?;
            (pairs(&pax.sparse.map)?, size)
        } else {
            return Ok(());
        };
        if size > MAX_SIZE {
            return Err("its size is not a possible one".into());
        }
        let map: Vec<Segment> = segments(runs, size, member.stored_size)?;
        member.size = size;
        member.sparse = Some(map);
        Ok(())
    }

    /// The map of GNU's old format: four runs in the header, 21 in each further block.
    fn old_gnu_map(&mut self, header: &Header) -> Result<(Vec<(u64, u64)>, u64), String> {
        let gnu = header
            .as_gnu()
            .ok_or("a sparse member of a format that has none")?;
        let number = |bytes: &[u8]| numeric(bytes).and_then(|n| u64::try_from(n).ok());
        let size = number(&gnu.realsize).ok_or("its size is not a possible one")?;
        let mut runs = Vec::new();
        let mut take = |sparse: &tar::GnuSparseHeader| -> Result<(), String> {
            if !sparse.is_empty() {
                let run = (number(&sparse.offset), number(&sparse.numbytes));
                let (Some(offset), Some(len)) = run else {
                    return Err("the sparse map is malformed".into());
                };
                runs.push((offset, len));
            }
            Ok(())
        };
        gnu.sparse.iter().try_for_each(&mut take)?;
        let mut more = gnu.is_extended();
        let mut blocks = 0;
        while more {
            blocks += 1;
            if blocks > super::pax::MAX_RUNS / 21 {
                return Err("the sparse map has too many runs".into());
            }
            let block = self.input.block().map_err(|f| f.to_string())?;
            let block = block.ok_or("the archive is cut off in a sparse map")?;
            let mut extended = tar::GnuExtSparseHeader::new();
            extended.as_mut_bytes().copy_from_slice(&block);
            extended.sparse().iter().try_for_each(&mut take)?;
            more = extended.is_extended();
        }
        Ok((runs, size))
    }
}

impl Extensions {
    fn is_empty(&self) -> bool {
        self.pax.is_none() && self.name.is_none() && self.link.is_none()
    }

    fn shown_name(&self, header: &Header) -> String {
        let pax = self.pax.as_ref().and_then(|p| p.path.clone());
        let name = pax.or_else(|| self.name.clone());
        let name = name.unwrap_or_else(|| header.path_bytes().into_owned());
        let mut shown = name.escape_ascii().to_string();
        if shown.len() > 200 {
            shown = shown.chars().take(200).chain("…".chars()).collect();
        }
        shown
    }
}

/// The member's type, and whether data follows its header.
fn kind_of(header: &Header, name: &[u8], link: &[u8]) -> Result<(MemberKind, bool), String> {
    let device = || -> Result<u64, String> {
        let number = |at| number_in(header, at, 8).and_then(|n| u32::try_from(n).ok());
        match (number(329), number(337)) {
            (Some(major), Some(minor)) => Ok(rustix::fs::makedev(major, minor)),
            _ => Err("its device number is not a possible one".into()),
        }
    };
    Ok(match header.entry_type() {
        // Old archives know a directory by its slash; data that follows all the same is skipped.
        EntryType::Regular if name.ends_with(b"/") => (MemberKind::Directory, true),
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
            (MemberKind::Regular, true)
        }
        EntryType::Link => {
            let target = clean_path(link, Target::HardLink)?;
            (MemberKind::HardLink(target), false)
        }
        EntryType::Symlink => {
            if link.is_empty() || link.contains(&0) || link.len() > 4095 {
                return Err("its target is not a possible one".into());
            }
            (MemberKind::Symlink(link.into()), false)
        }
        EntryType::Char => (MemberKind::CharDevice(device()?), false),
        EntryType::Block => (MemberKind::BlockDevice(device()?), false),
        EntryType::Directory => (MemberKind::Directory, false),
        EntryType::Fifo => (MemberKind::Fifo, false),
        other => {
            return Err(format!(
                "its type '{}' is unknown",
                other.as_byte().escape_ascii()
            ));
        }
    })
}

/// What a path is used for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Target {
    Member,
    HardLink,
}

/// A path from the root: without `/` at its ends, empty and `.` components.
fn clean_path(path: &[u8], target: Target) -> Result<Vec<u8>, String> {
    if path.contains(&0) {
        return Err("a NUL in a path".into());
    }
    if path.len() > MAX_PATH {
        return Err(format!("a path over {MAX_PATH} bytes"));
    }
    let mut clean = Vec::with_capacity(path.len());
    for component in path.split(|b| *b == b'/') {
        match component {
            b"" | b"." => continue,
            b".." => {
                let what = match target {
                    Target::Member => "its path",
                    Target::HardLink => "its link target",
                };
                return Err(format!("{what} leaves the archive (\"..\")"));
            }
            _ => {}
        }
        // The limit is that of the object, whose name a whiteout's holds.
        let name = component.strip_prefix(b".wh.").unwrap_or(component);
        if name.len() > 255 {
            return Err("a name over 255 bytes".into());
        }
        if !clean.is_empty() {
            clean.push(b'/');
        }
        clean.extend_from_slice(component);
    }
    if clean.is_empty() && (target == Target::HardLink || path.is_empty()) {
        return Err("an empty path".into());
    }
    Ok(clean)
}

fn field(header: &Header, at: usize, len: usize) -> &[u8] {
    header.as_bytes().get(at..at + len).unwrap_or_default()
}

fn number_in(header: &Header, at: usize, len: usize) -> Option<u64> {
    numeric(field(header, at, len)).and_then(|n| u64::try_from(n).ok())
}

/// An octal number, or GNU's base-256 number, which may be negative.
fn numeric(field: &[u8]) -> Option<i64> {
    let (first, rest) = field.split_first()?;
    if first & 0x80 != 0 {
        // Two's complement, big endian, the marker bit aside.
        let start = if first & 0x40 != 0 {
            i128::from(*first) - 0x100
        } else {
            i128::from(first & 0x3f)
        };
        let mut value = start;
        for byte in rest {
            value = value.checked_mul(256)?.checked_add(i128::from(*byte))?;
        }
        return i64::try_from(value).ok();
    }
    let text: Vec<u8> = field.iter().copied().skip_while(|b| *b == b' ').collect();
    let digits = text
        .split(|b| *b == 0 || *b == b' ')
        .next()
        .unwrap_or_default();
    digits.iter().try_fold(0_i64, |n, b| match b {
        b'0'..=b'7' => n.checked_mul(8)?.checked_add(i64::from(b - b'0')),
        _ => None,
    })
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|b| *b == 0).next().unwrap_or_default()
}

fn check_sum(block: &[u8; BLOCK]) -> Result<(), Failure> {
    let stated = block.get(148..156).and_then(numeric);
    let byte = |(at, b): (usize, &u8)| if (148..156).contains(&at) { b' ' } else { *b };
    let sum: i64 = block.iter().enumerate().map(|x| i64::from(byte(x))).sum();
    // Some old tars summed signed bytes.
    let signed: i64 = block
        .iter()
        .enumerate()
        .map(|x| i64::from(byte(x).cast_signed()))
        .sum();
    if stated == Some(sum) || stated == Some(signed) {
        return Ok(());
    }
    Err(Failure::invalid(
        "not a tar archive, or a damaged one: a header's checksum is wrong",
    ))
}

#[cfg(test)]
mod tests;
