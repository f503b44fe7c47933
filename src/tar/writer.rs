//! Writing layer tars: ustar headers, with PAX records where those don't reach. The same members
//! give the same bytes.

use std::io::{Read, Write};

use tar::{EntryType, Header};

use super::pax::{XATTR, encode_name, write_record};
use super::{Member, MemberKind};
use crate::error::Failure;

const BLOCK: u64 = 512;

/// Writes an archive member by member.
pub struct TarWriter<W> {
    inner: W,
    position: u64,
}

impl<W: Write> TarWriter<W> {
    /// Writes an archive to a stream.
    pub fn new(inner: W) -> Self {
        Self { inner, position: 0 }
    }

    /// How many bytes of the archive have been written.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Writes a member, and `member.size` bytes of `data` if it is a regular file (a sparse file
    /// is written whole: `data` gives zeros for its holes). Returns where the data starts.
    ///
    /// # Errors
    /// `Invalid` when `data` is shorter than the member says; what reading and writing report.
    pub fn append(&mut self, member: &Member, data: &mut dyn Read) -> Result<u64, Failure> {
        self.append_with(member, Vec::new(), data)
    }

    fn append_with(
        &mut self,
        member: &Member,
        mut records: Vec<u8>,
        data: &mut dyn Read,
    ) -> Result<u64, Failure> {
        let size = if member.kind == MemberKind::Regular {
            member.size
        } else {
            0
        };
        let (header, more) = header_of(member, size);
        records.extend(more);
        if !records.is_empty() {
            let mut extended = plain_header(EntryType::XHeader, records.len() as u64);
            extended.set_mode(0o644);
            set_text(&mut extended, 0, 100, &pax_name(&member.path));
            extended.set_cksum();
            self.put(extended.as_bytes())?;
            self.put(&records)?;
            self.pad()?;
        }
        self.put(header.as_bytes())?;
        let start = self.position;
        let copied = std::io::copy(&mut data.take(size), &mut Counted(self))?;
        if copied != size {
            return Err(Failure::invalid(format!(
                "\"{}\" gave {copied} bytes instead of {size}",
                member.path.escape_ascii()
            )));
        }
        self.pad()?;
        Ok(start)
    }

    /// Writes a file with holes: only its runs (`member.sparse`), whose bytes `data` gives one after
    /// the other. The form is GNU's PAX 1.0, which every tar of today reads.
    ///
    /// # Errors
    /// As [`TarWriter::append`].
    pub fn append_sparse(&mut self, member: &Member, data: &mut dyn Read) -> Result<(), Failure> {
        let runs = member.sparse.as_deref().unwrap_or_default();
        // A hole at the end is told by a run of nothing: GNU tar ends a file with its last run.
        let end = runs.last().map_or(0, |run| run.offset + run.len);
        let tail = (end < member.size).then_some((member.size, 0));
        let pairs: Vec<(u64, u64)> = runs.iter().map(|r| (r.offset, r.len)).chain(tail).collect();
        let mut map = format!("{}\n", pairs.len()).into_bytes();
        for (offset, len) in pairs {
            map.extend_from_slice(format!("{offset}\n{len}\n").as_bytes());
        }
        map.resize(map.len().next_multiple_of(BLOCK as usize), 0);
        let mut records = Vec::new();
        write_record(&mut records, b"GNU.sparse.major", b"1");
        write_record(&mut records, b"GNU.sparse.minor", b"0");
        write_record(&mut records, b"GNU.sparse.name", &member.path);
        let size = member.size.to_string();
        write_record(&mut records, b"GNU.sparse.realsize", size.as_bytes());
        let name = member
            .path
            .rsplit(|b| *b == b'/')
            .next()
            .unwrap_or_default();
        let outer = Member {
            // What a tar that knows nothing of sparse files makes of it.
            path: [b"GNUSparseFile.0/", name].concat(),
            size: map.len() as u64 + runs.iter().map(|run| run.len).sum::<u64>(),
            sparse: None,
            ..member.clone()
        };
        let mut stored = map.as_slice().chain(data);
        self.append_with(&outer, records, &mut stored).map(drop)
    }

    /// Writes the end of the archive and gives the stream back.
    ///
    /// # Errors
    /// What writing reports.
    pub fn finish(mut self) -> Result<W, Failure> {
        self.put(&[0; 2 * BLOCK as usize])?;
        Ok(self.inner)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.inner.write_all(bytes)?;
        self.position += bytes.len() as u64;
        Ok(())
    }

    fn pad(&mut self) -> Result<(), Failure> {
        let over = usize::try_from(self.position % BLOCK).unwrap_or(0);
        match over {
            0 => Ok(()),
            _ => self.put([0; BLOCK as usize].get(over..).unwrap_or_default()),
        }
    }
}

struct Counted<'w, W>(&'w mut TarWriter<W>);

impl<W: Write> Write for Counted<'_, W> {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        let n = self.0.inner.write(buf)?;
        self.0.position += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.inner.flush()
    }
}

/// A header without anything that differs between machines.
fn plain_header(kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

fn pax_name(path: &[u8]) -> Vec<u8> {
    let last = path.rsplit(|b| *b == b'/').next().unwrap_or_default();
    let mut name = b"PaxHeaders/".to_vec();
    name.extend_from_slice(last.get(..last.len().min(80)).unwrap_or_default());
    name
}

/// A member's own header, and its PAX records.
fn header_of(member: &Member, size: u64) -> (Header, Vec<u8>) {
    let mut records = Vec::new();
    let mut path = member.path.clone();
    if member.kind == MemberKind::Directory {
        path = if path.is_empty() {
            b"./".to_vec()
        } else {
            [&path[..], b"/"].concat()
        };
    }
    let (kind, link, device) = match &member.kind {
        MemberKind::Regular => (EntryType::Regular, None, None),
        MemberKind::HardLink(target) => (EntryType::Link, Some(target), None),
        MemberKind::Symlink(target) => (EntryType::Symlink, Some(target), None),
        MemberKind::CharDevice(rdev) => (EntryType::Char, None, Some(*rdev)),
        MemberKind::BlockDevice(rdev) => (EntryType::Block, None, Some(*rdev)),
        MemberKind::Directory => (EntryType::Directory, None, None),
        MemberKind::Fifo => (EntryType::Fifo, None, None),
    };
    let mut header = plain_header(kind, 0);
    header.set_mode(member.perm);
    if !set_path(&mut header, &path) {
        write_record(&mut records, b"path", &path);
    }
    if let Some(link) = link {
        if link.len() <= 100 {
            set_text(&mut header, 157, 100, link);
        } else {
            set_text(&mut header, 157, 100, link.get(..100).unwrap_or_default());
            write_record(&mut records, b"linkpath", link);
        }
    }
    for (key, at, len, value) in [
        (&b"size"[..], 124, 12, size),
        (b"uid", 108, 8, member.uid.into()),
        (b"gid", 116, 8, member.gid.into()),
    ] {
        if !set_octal(&mut header, at, len, value) {
            set_octal(&mut header, at, len, 0);
            write_record(&mut records, key, value.to_string().as_bytes());
        }
    }
    let seconds = u64::try_from(member.mtime.sec).unwrap_or(0);
    let exact = member.mtime.nsec == 0 && member.mtime.sec >= 0;
    if !set_octal(&mut header, 136, 12, seconds) || !exact {
        write_record(&mut records, b"mtime", member.mtime.to_pax().as_bytes());
    }
    for (key, time) in [(&b"atime"[..], member.atime), (b"ctime", member.ctime)] {
        if let Some(time) = time {
            write_record(&mut records, key, time.to_pax().as_bytes());
        }
    }
    if let Some(rdev) = device {
        // Seven octal digits hold both halves of any dev_t that Linux uses.
        set_octal(&mut header, 329, 8, rustix::fs::major(rdev).into());
        set_octal(&mut header, 337, 8, rustix::fs::minor(rdev).into());
    }
    for (name, value) in &member.xattrs {
        write_record(&mut records, &[XATTR, &encode_name(name)].concat(), value);
    }
    header.set_cksum();
    (header, records)
}

/// Puts a path into the header, split at a slash if need be; whether it fits.
fn set_path(header: &mut Header, path: &[u8]) -> bool {
    if path.len() <= 100 {
        set_text(header, 0, 100, path);
        return true;
    }
    let split = path.iter().enumerate().find(|(at, b)| {
        **b == b'/' && *at > 0 && *at <= 155 && (1..=100).contains(&(path.len() - at - 1))
    });
    match split.and_then(|(at, _)| path.split_at_checked(at)) {
        Some((prefix, name)) => {
            set_text(header, 345, 155, prefix);
            set_text(header, 0, 100, name.strip_prefix(b"/").unwrap_or(name));
            true
        }
        None => {
            // What old readers see.
            set_text(header, 0, 100, path.get(..100).unwrap_or_default());
            false
        }
    }
}

fn set_text(header: &mut Header, at: usize, len: usize, text: &[u8]) {
    if let Some(field) = header.as_mut_bytes().get_mut(at..at + len) {
        field.fill(0);
        for (to, from) in field.iter_mut().zip(text) {
            *to = *from;
        }
    }
}

/// Writes an octal number with a NUL after it; whether it fits.
fn set_octal(header: &mut Header, at: usize, len: usize, value: u64) -> bool {
    let digits = format!("{value:0width$o}", width = len - 1);
    let fits = digits.len() < len;
    if fits {
        set_text(header, at, len, digits.as_bytes());
    }
    fits
}

#[cfg(test)]
mod tests {
    use super::super::{Segment, TarReader};
    use super::*;
    use crate::stat::Timespec;

    fn member(path: &[u8], kind: MemberKind) -> Member {
        Member {
            path: path.into(),
            kind,
            perm: 0o4751,
            uid: 7,
            gid: 8,
            mtime: Timespec {
                sec: 1_500_000_000,
                nsec: 0,
            },
            atime: None,
            ctime: None,
            size: 0,
            data_offset: 0,
            stored_size: 0,
            sparse: None,
            xattrs: Vec::new(),
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let long: Vec<u8> = [&b"d/"[..]; 60]
            .concat()
            .into_iter()
            .chain([b'n'; 200])
            .collect();
        let mut members = vec![
            member(b"", MemberKind::Directory),
            member(b"d", MemberKind::Directory),
            member(&long, MemberKind::Regular),
            member(b"\xff\xfe", MemberKind::Symlink(vec![b't'; 300])),
            member(b"l", MemberKind::HardLink(long.clone())),
            member(
                b"c",
                MemberKind::CharDevice(rustix::fs::makedev(259, 1_048_575)),
            ),
            member(b"b", MemberKind::BlockDevice(rustix::fs::makedev(8, 1))),
            member(b"p", MemberKind::Fifo),
        ];
        members[2].size = 700;
        members[2].xattrs = vec![
            (b"security.capability".into(), vec![0, 1, 10, 0]),
            (b"user.a=b%".into(), vec![b'=']),
        ];
        members[3].mtime = Timespec {
            sec: -5,
            nsec: 250_000_000,
        };
        members[4].uid = 4_000_000_000;
        members[5].mtime.sec = 1 << 40;
        let mut writer = TarWriter::new(Vec::new());
        let data = vec![9; 700];
        for m in &members {
            writer.append(m, &mut &data[..]).unwrap();
        }
        let bytes = writer.finish().unwrap();
        assert_eq!(bytes.len() % 512, 0);
        let mut reader = TarReader::new(&bytes[..]);
        for expected in &members {
            let mut found = reader.next_member().unwrap().unwrap();
            if found.kind == MemberKind::Regular {
                let mut read = Vec::new();
                reader.data().read_to_end(&mut read).unwrap();
                assert_eq!(read, data);
                let start = usize::try_from(found.data_offset).unwrap();
                assert_eq!(bytes[start..start + 700], data);
            }
            (found.data_offset, found.stored_size) = (0, 0);
            assert_eq!(&found, expected);
        }
        assert_eq!(reader.next_member().unwrap(), None);
    }

    #[test]
    fn gnu_tar_reads_it() {
        let path = [&b"a/"[..]; 80]
            .concat()
            .into_iter()
            .chain(*b"name")
            .collect::<Vec<_>>();
        let mut sparse = member(&path, MemberKind::Regular);
        sparse.size = 5;
        sparse.sparse = Some(vec![Segment {
            offset: 4,
            len: 1,
            stored: 0,
        }]);
        let mut writer = TarWriter::new(Vec::new());
        writer.append(&sparse, &mut &b"\0\0\0\0x"[..]).unwrap();
        let bytes = writer.finish().unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("t.tar"), bytes).unwrap();
        let out = std::process::Command::new("tar")
            .args(["--numeric-owner", "-tvf"])
            .arg(dir.path().join("t.tar"))
            .output()
            .unwrap();
        let text = String::from_utf8(out.stdout).unwrap();
        assert!(text.starts_with("-rwsr-x--x 7/8 "), "{text}");
        assert!(text.trim_end().ends_with("a/name"), "{text}");
    }

    #[test]
    fn data_that_is_too_short_is_an_error() {
        let mut short = member(b"f", MemberKind::Regular);
        short.size = 10;
        assert!(
            TarWriter::new(Vec::new())
                .append(&short, &mut &b"abc"[..])
                .is_err()
        );
    }
}
