//! The members of an outer archive (what `docker save` and its relatives write): one walk over the
//! tar headers gives a table, and then every member can be read at random.
//!
//! The archive is not trusted: names that leave it, links that go round in circles, members that
//! appear twice and sizes past the end are refused, each in one line that names the member.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use tar::{EntryType, Header};

use super::part::Part;
use crate::error::{Context, Failure};

/// The unit of a tar file, in bytes.
const BLOCK: u64 = 512;
/// The largest PAX header or long name that is read into memory, in bytes.
const EXTENSION_MAX: u64 = 1 << 20;
/// The most members that an archive may have.
const MEMBERS_MAX: usize = 1 << 20;
/// The most links that are followed from one name.
const HOPS_MAX: usize = 16;

/// What stands under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Slot {
    /// A regular file: where its bytes are.
    Data { offset: u64, size: u64 },
    /// A symbolic or hard link to this path from the archive's root; `None` when it leaves it.
    Link(Option<Vec<u8>>),
    /// A directory.
    Directory,
    /// Something that has no bytes to read (a device, a sparse file), by its name for people.
    Other(&'static str),
    /// More than one member has the name.
    Twice,
}

/// The table of members of a tar file.
pub struct Members {
    file: Arc<File>,
    len: u64,
    slots: HashMap<Vec<u8>, Slot>,
}

/// The path from the archive's root that `path`, seen from directory `from`, stands for; `None`
/// when it leaves the archive.
fn resolve(from: &[u8], path: &[u8]) -> Option<Vec<u8>> {
    let mut parts: Vec<&[u8]> = from
        .split(|b| *b == b'/')
        .filter(|part| !part.is_empty())
        .collect();
    for part in path.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop()?;
            }
            _ if part.contains(&0) => return None,
            _ => parts.push(part),
        }
    }
    Some(parts.join(&b'/'))
}

/// The directory part of a path.
fn parent(path: &[u8]) -> &[u8] {
    let end = path.iter().rposition(|b| *b == b'/').unwrap_or(0);
    path.get(..end).unwrap_or_default()
}

/// A name for a message.
fn shown(name: &[u8]) -> String {
    name.escape_ascii().to_string()
}

/// What the extension headers before a member say of it.
#[derive(Default)]
struct Extension {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    sparse: bool,
}

impl Extension {
    /// Takes the records of a PAX header (POSIX.1-2008, pax, "pax Extended Header").
    fn take_pax(&mut self, data: &[u8]) -> Result<(), Failure> {
        let mut rest = data;
        while !rest.is_empty() && rest.iter().any(|b| *b != 0) {
            let (key, value, after) =
                record(rest).ok_or_else(|| Failure::invalid("malformed PAX record"))?;
            rest = after;
            match key {
                b"path" => self.path = Some(value.to_vec()),
                b"linkpath" => self.link = Some(value.to_vec()),
                b"size" => {
                    let size = std::str::from_utf8(value)
                        .ok()
                        .and_then(|text| text.parse().ok())
                        .ok_or_else(|| Failure::invalid("malformed size in a PAX record"))?;
                    self.size = Some(size);
                }
                _ if key.starts_with(b"GNU.sparse.") => self.sparse = true,
                _ => {}
            }
        }
        Ok(())
    }
}

/// Splits `LENGTH KEY=VALUE\n` off the front.
fn record(data: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = data.iter().take(20).position(|b| *b == b' ')?;
    let len: usize = std::str::from_utf8(data.get(..space)?).ok()?.parse().ok()?;
    let (one, rest) = data.split_at_checked(len)?;
    let body = one.get(space.checked_add(1)?..)?.strip_suffix(b"\n")?;
    let equals = body.iter().position(|b| *b == b'=')?;
    Some((body.get(..equals)?, body.get(equals + 1..)?, rest))
}

impl Members {
    /// Reads the table of members of `file`, an uncompressed tar.
    ///
    /// # Errors
    /// [`Failure`] of kind `Invalid` when it is no tar, is cut short, or has more than 1,048,576
    /// members; of kind `System` when it can't be read.
    pub fn scan(file: Arc<File>) -> Result<Self, Failure> {
        let len = file.metadata()?.len();
        if len == 0 {
            return Err(Failure::invalid("the file is empty"));
        }
        let mut members = Self {
            file,
            len,
            slots: HashMap::new(),
        };
        members.walk()?;
        Ok(members)
    }

    /// Whether the archive has a member of this name.
    #[must_use]
    pub fn has(&self, path: &str) -> bool {
        resolve(b"", path.as_bytes()).is_some_and(|path| self.slots.contains_key(&path))
    }

    /// Where a member's bytes are, links followed; `None` when there is no such member.
    ///
    /// # Errors
    /// [`Failure`] of kind `Invalid` when the name leaves the archive, is there twice, is a link
    /// to nowhere or in a circle, or is no regular file.
    pub fn get(&self, path: &str) -> Result<Option<Part>, Failure> {
        let bad =
            |why: &str| Failure::invalid(format!("member \"{}\": {why}", path.escape_debug()));
        let mut at =
            resolve(b"", path.as_bytes()).ok_or_else(|| bad("the name leaves the archive"))?;
        for hop in 0..=HOPS_MAX {
            match self.slots.get(&at) {
                Some(Slot::Data { offset, size }) => {
                    return Ok(Some(Part::new(Arc::clone(&self.file), *offset, *size)));
                }
                Some(Slot::Link(Some(target))) => at.clone_from(target),
                Some(Slot::Link(None)) => return Err(bad("the link leaves the archive")),
                Some(Slot::Directory) => {
                    return Err(bad("a directory stands where a file is needed"));
                }
                Some(Slot::Other(what)) => {
                    return Err(bad(&format!("{what} stands where a file is needed")));
                }
                Some(Slot::Twice) => return Err(bad("the archive has it twice")),
                None if hop == 0 => return Ok(None),
                None => {
                    return Err(bad(&format!(
                        "it links to {}, which is missing",
                        shown(&at)
                    )));
                }
            }
        }
        Err(bad("its links go round in a circle"))
    }

    fn walk(&mut self) -> Result<(), Failure> {
        let mut at = 0;
        let mut extension = Extension::default();
        let mut last = String::new();
        loop {
            let header = match self.header(at) {
                Ok(Some(header)) => header,
                Ok(None) => return Ok(()),
                Err(failure) if last.is_empty() => return Err(failure),
                Err(failure) => return Err(failure.context(format!("after {last}"))),
            };
            at += BLOCK;
            let kind = header.entry_type();
            let ours = std::mem::take(&mut extension);
            let name = ours
                .path
                .clone()
                .unwrap_or_else(|| header.path_bytes().into_owned());
            let size = match ours.size {
                Some(size) if is_data(kind) => size,
                _ if has_data(kind) => header.entry_size().map_err(|_| {
                    Failure::invalid(format!("member \"{}\": malformed size", shown(&name)))
                })?,
                _ => 0,
            };
            let end = at
                .checked_add(size)
                .filter(|end| *end <= self.len)
                .ok_or_else(|| {
                    Failure::invalid(format!(
                        "truncated: member \"{}\" should have {size} bytes",
                        shown(&name)
                    ))
                })?;
            if kind.is_gnu_longname() || kind.is_gnu_longlink() || kind.is_pax_local_extensions() {
                extension = ours;
                self.extend(&mut extension, kind, at, size)
                    .context(|| format!("extension header at byte {at}"))?;
            } else if !kind.is_pax_global_extensions() {
                last = format!("member \"{}\"", shown(&name));
                self.insert(&name, &header, &ours, at, size)?;
            }
            at = end.next_multiple_of(BLOCK);
        }
    }

    /// The header block at `at`; `None` at the archive's end.
    fn header(&self, at: u64) -> Result<Option<Header>, Failure> {
        if at >= self.len {
            return Ok(None);
        }
        let mut header = Header::new_old();
        let block = header.as_mut_bytes();
        if self.len - at < BLOCK {
            return Err(Failure::invalid("not a tar archive, or cut short"));
        }
        self.file.read_exact_at(block, at)?;
        if block.iter().all(|b| *b == 0) {
            return Ok(None);
        }
        let sum: u32 = block
            .iter()
            .enumerate()
            .map(|(i, b)| {
                if (148..156).contains(&i) {
                    32
                } else {
                    u32::from(*b)
                }
            })
            .sum();
        if header.cksum().ok() != Some(sum) {
            return Err(Failure::invalid(
                "not a tar archive: no header, or a damaged one",
            ));
        }
        Ok(Some(header))
    }

    fn extend(
        &self,
        extension: &mut Extension,
        kind: EntryType,
        at: u64,
        size: u64,
    ) -> Result<(), Failure> {
        if size > EXTENSION_MAX {
            return Err(Failure::invalid(format!(
                "{size} bytes long, at most {EXTENSION_MAX} are read"
            )));
        }
        let mut data = vec![0; usize::try_from(size).unwrap_or(0)];
        self.file.read_exact_at(&mut data, at)?;
        if kind.is_pax_local_extensions() {
            return extension.take_pax(&data);
        }
        let end = data.iter().position(|b| *b == 0).unwrap_or(data.len());
        data.truncate(end);
        if kind.is_gnu_longname() {
            extension.path = Some(data);
        } else {
            extension.link = Some(data);
        }
        Ok(())
    }

    fn insert(
        &mut self,
        name: &[u8],
        header: &Header,
        extension: &Extension,
        offset: u64,
        size: u64,
    ) -> Result<(), Failure> {
        let kind = header.entry_type();
        // A name that leaves the archive can't be asked for: it is passed over, like any other
        // member that no manifest names.
        let Some(path) = resolve(b"", name) else {
            return Ok(());
        };
        let target = || {
            let link = extension.link.clone();
            link.or_else(|| header.link_name_bytes().map(|name| name.into_owned()))
                .unwrap_or_default()
        };
        let slot = match kind {
            _ if extension.sparse || kind.is_gnu_sparse() => Slot::Other("a sparse file"),
            _ if is_data(kind) && name.ends_with(b"/") => Slot::Directory,
            _ if is_data(kind) => Slot::Data { offset, size },
            EntryType::Symlink => {
                let target = target();
                Slot::Link(match target.first() {
                    Some(b'/') => None,
                    _ => resolve(parent(&path), &target),
                })
            }
            EntryType::Link => Slot::Link(resolve(b"", &target())),
            EntryType::Directory => Slot::Directory,
            _ => Slot::Other("a special file"),
        };
        if self.slots.len() >= MEMBERS_MAX {
            return Err(Failure::invalid(format!("more than {MEMBERS_MAX} members")));
        }
        self.slots
            .entry(path)
            .and_modify(|old| {
                if *old != Slot::Directory || slot != Slot::Directory {
                    *old = Slot::Twice;
                }
            })
            .or_insert(slot);
        Ok(())
    }
}

/// Whether this type is a regular file's.
fn is_data(kind: EntryType) -> bool {
    kind.is_file() || kind.is_contiguous()
}

/// Whether bytes follow a header of this type.
fn has_data(kind: EntryType) -> bool {
    !matches!(
        kind,
        EntryType::Link
            | EntryType::Symlink
            | EntryType::Char
            | EntryType::Block
            | EntryType::Directory
            | EntryType::Fifo
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    fn table(build: impl FnOnce(&mut tar::Builder<Vec<u8>>)) -> Result<Members, Failure> {
        let mut builder = tar::Builder::new(Vec::new());
        build(&mut builder);
        scan(&builder.into_inner().unwrap())
    }

    fn scan(bytes: &[u8]) -> Result<Members, Failure> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        Members::scan(Arc::new(file))
    }

    fn file(builder: &mut tar::Builder<Vec<u8>>, name: &str, data: &[u8]) {
        let mut header = Header::new_gnu();
        header.set_size(data.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, data).unwrap();
    }

    fn link(builder: &mut tar::Builder<Vec<u8>>, kind: EntryType, name: &str, target: &str) {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(0);
        header.as_gnu_mut().unwrap().linkname[..target.len()].copy_from_slice(target.as_bytes());
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        builder.append(&header, &b""[..]).unwrap();
    }

    fn text(members: &Members, name: &str) -> String {
        let mut text = String::new();
        let part = members.get(name).unwrap().unwrap();
        part.reader().read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn members_are_found_by_any_spelling_and_through_links() {
        let long = format!("{}/layer.tar", "d".repeat(180));
        let members = table(|b| {
            file(b, "./a.json", b"one");
            file(b, &long, b"two");
            link(b, EntryType::Symlink, "x/layer.tar", "../a.json");
            link(b, EntryType::Symlink, "y/layer.tar", "../x/layer.tar");
            link(b, EntryType::Link, "z", "a.json");
        })
        .unwrap();
        assert_eq!(text(&members, "a.json"), "one");
        assert_eq!(text(&members, "./a.json"), "one");
        assert_eq!(text(&members, &long), "two");
        assert_eq!(text(&members, "y/layer.tar"), "one");
        assert_eq!(text(&members, "z"), "one");
        assert!(members.get("b.json").unwrap().is_none());
        assert!(members.has("z") && !members.has("b.json"));
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        let members = table(|b| {
            file(b, "twice", b"1");
            file(b, "twice", b"2");
            link(b, EntryType::Symlink, "loop", "pool");
            link(b, EntryType::Symlink, "pool", "loop");
            link(b, EntryType::Symlink, "out", "../../etc/passwd");
            link(b, EntryType::Symlink, "abs", "/etc/passwd");
            link(b, EntryType::Symlink, "gone", "nothing");
            link(b, EntryType::Directory, "dir", "");
            link(b, EntryType::Fifo, "fifo", "");
        })
        .unwrap();
        for (name, why) in [
            ("twice", "the archive has it twice"),
            ("loop", "its links go round in a circle"),
            ("out", "the link leaves the archive"),
            ("abs", "the link leaves the archive"),
            ("gone", "it links to nothing, which is missing"),
            ("dir", "a directory stands where a file is needed"),
            ("fifo", "a special file stands where a file is needed"),
            ("../x", "the name leaves the archive"),
        ] {
            let error = members.get(name).err().unwrap().to_string();
            assert_eq!(error, format!("member \"{name}\": {why}"));
        }
    }

    #[test]
    fn pax_sizes_and_paths_count() {
        let members = table(|b| {
            b.append_pax_extensions([("path", &b"long/name"[..]), ("mtime", b"1.5")])
                .unwrap();
            file(b, "short", b"data");
        })
        .unwrap();
        assert_eq!(text(&members, "long/name"), "data");
        assert!(!members.has("short"));
    }

    #[test]
    fn damaged_archives_are_refused() {
        let mut builder = tar::Builder::new(Vec::new());
        file(&mut builder, "a", &[7; 2000]);
        let whole = builder.into_inner().unwrap();
        assert!(scan(&whole).is_ok());
        let text = |bytes: &[u8]| scan(bytes).err().unwrap().to_string();
        assert_eq!(text(b""), "the file is empty");
        assert!(text(&[1; 100]).contains("not a tar archive"));
        assert!(text(&[1; 1024]).contains("not a tar archive"));
        assert_eq!(
            text(&whole[..1000]),
            "truncated: member \"a\" should have 2000 bytes"
        );
        let mut flipped = whole.clone();
        flipped[3] ^= 1;
        assert!(text(&flipped).contains("not a tar archive"));
    }

    #[test]
    fn thousands_of_members() {
        let members = table(|b| {
            for i in 0..20_000 {
                file(b, &format!("m{i}"), b"");
            }
            file(b, "last", b"here");
        })
        .unwrap();
        assert_eq!(text(&members, "last"), "here");
    }
}
