//! Changes as a layer's tar: each path once, parents first, sorted; explicit whiteouts (OCI image
//! spec, layer.md).

use std::collections::HashMap;
use std::io::{self, Read, Write};

use super::changes::{Change, contents, read_at, xattrs};
use crate::error::{Context, Failure, FailureKind};
use crate::index::LayerBuilder;
use crate::layer::Contents;
use crate::stat::{FileType, Stat, Timespec};
use crate::tar::writer::TarWriter;
use crate::tar::{Member, MemberKind};
use crate::union::{Found, Ino, Union};

/// The prefix of whiteouts in layers.
const WHITEOUT: &[u8] = b".wh.";

/// What a layer's tar came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Written {
    /// Bytes of the tar.
    pub size: u64,
    /// Members.
    pub entries: u64,
    /// Bytes in regular files.
    pub content_size: u64,
}

/// Writes the tar of a layer, and tells the builder of each member.
///
/// # Errors
/// `Invalid` for a name that a layer can't hold, `Conflict` for a file that is being written to;
/// what reading and writing report.
pub fn write<W: Write>(
    union: &Union,
    changes: &[Change],
    out: W,
    index: &mut LayerBuilder,
) -> Result<(W, Written), Failure> {
    let mut layer = Layer {
        union,
        tar: TarWriter::new(out),
        index,
        links: HashMap::new(),
        written: Written::default(),
    };
    for change in changes {
        layer
            .change(change)
            .context(|| format!("\"/{}\"", change.path.escape_ascii()))?;
    }
    layer.written.size = layer.tar.position() + 1024;
    Ok((layer.tar.finish()?, layer.written))
}

struct Layer<'u, W> {
    union: &'u Union,
    tar: TarWriter<W>,
    index: &'u mut LayerBuilder,
    /// The first path of each object with several names.
    links: HashMap<Ino, Vec<u8>>,
    written: Written,
}

impl<W: Write> Layer<'_, W> {
    fn change(&mut self, change: &Change) -> Result<(), Failure> {
        let name = change
            .path
            .rsplit(|b| *b == b'/')
            .next()
            .unwrap_or_default();
        if name.starts_with(WHITEOUT) {
            return Err(Failure::invalid(
                "a name that starts with \".wh.\" can't be in a layer; rename or remove it",
            ));
        }
        let Some(found) = &change.found else {
            return self.whiteout(&change.path);
        };
        let Some(kind) = self.kind_of(found, &change.path)? else {
            log::warn!(
                "\"/{}\": a socket can't be in a layer",
                change.path.escape_ascii()
            );
            return Ok(());
        };
        let mut member = Member::new(&change.path, kind, &found.stat);
        member.xattrs = xattrs(self.union, &found.node)?;
        if member.kind != MemberKind::Regular {
            return self.append(member, &mut io::empty(), None);
        }
        let file = contents(self.union, &found.node)?;
        let before = file_state(&file)?;
        let mut data = Hashed {
            file: &file,
            at: 0,
            end: member.size,
            hash: blake3::Hasher::new(),
        };
        member.data_offset = self.tar.append(&member, &mut data)?;
        let key = *data.hash.finalize().as_bytes();
        if file_state(&file)? != before {
            return Err(Failure::conflict(
                "it is being written to; stop what writes and try again",
            ));
        }
        self.note(&member, Some(key))
    }

    fn whiteout(&mut self, path: &[u8]) -> Result<(), Failure> {
        let start = path.iter().rposition(|b| *b == b'/').map_or(0, |at| at + 1);
        let mut hidden = path.to_vec();
        hidden.splice(start..start, WHITEOUT.iter().copied());
        let stat = Stat {
            ino: 0,
            kind: FileType::Regular,
            perm: 0,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            size: 0,
            blocks: 0,
            atime: Timespec::default(),
            mtime: Timespec::default(),
            ctime: Timespec::default(),
        };
        self.append(
            Member::new(&hidden, MemberKind::Regular, &stat),
            &mut io::empty(),
            None,
        )
    }

    /// What the object is in a tar; `None` for what can't be in one.
    fn kind_of(&mut self, found: &Found, path: &[u8]) -> Result<Option<MemberKind>, Failure> {
        let stat = &found.stat;
        if !stat.is_dir() && stat.nlink > 1 && stat.kind != FileType::Socket {
            if let Some(first) = self.links.get(&found.node.ino()) {
                return Ok(Some(MemberKind::HardLink(first.clone())));
            }
            self.links.insert(found.node.ino(), path.to_vec());
        }
        Ok(Some(match stat.kind {
            FileType::Regular => MemberKind::Regular,
            FileType::Directory => MemberKind::Directory,
            FileType::Symlink => MemberKind::Symlink(self.union.read_link(&found.node)?),
            FileType::CharDevice => MemberKind::CharDevice(stat.rdev),
            FileType::BlockDevice => MemberKind::BlockDevice(stat.rdev),
            FileType::Fifo => MemberKind::Fifo,
            FileType::Socket => return Ok(None),
        }))
    }

    fn append(
        &mut self,
        mut member: Member,
        data: &mut dyn Read,
        key: Option<[u8; 32]>,
    ) -> Result<(), Failure> {
        if matches!(member.kind, MemberKind::HardLink(_)) {
            member.xattrs.clear();
        }
        member.data_offset = self.tar.append(&member, data)?;
        self.note(&member, key)
    }

    fn note(&mut self, member: &Member, key: Option<[u8; 32]>) -> Result<(), Failure> {
        self.written.entries += 1;
        self.written.content_size += member.size;
        self.index.add(member, key)
    }
}

/// Reads a file's contents from its start, and hashes them.
struct Hashed<'f> {
    file: &'f Contents,
    at: u64,
    end: u64,
    hash: blake3::Hasher,
}

impl Read for Hashed<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        let want = left.min(buf.len());
        let Some(space) = buf.get_mut(..want).filter(|s| !s.is_empty()) else {
            return Ok(0);
        };
        let n = read_at(self.file, space, self.at)?;
        self.hash.update(space.get(..n).unwrap_or_default());
        self.at += n as u64;
        Ok(n)
    }
}

/// What changes when a file is written to; nothing for a layer's file.
fn file_state(file: &Contents) -> Result<Option<[i64; 4]>, Failure> {
    use std::os::unix::fs::MetadataExt as _;
    match file {
        Contents::Stored(_) => Ok(None),
        Contents::File(file) => {
            let m = file.metadata()?;
            Ok(Some([m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec()]))
        }
    }
}

/// Whether another attempt may succeed: a file was being written to.
pub(super) fn is_unsettled(failure: &Failure) -> bool {
    failure.kind() == FailureKind::Conflict
}
