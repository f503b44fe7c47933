//! A [`Tree`], or a part of it, as a tar: sorted, parents first, hard links as links, files with
//! holes as sparse ones.

use std::collections::HashMap;
use std::io::{self, Read, Write};

use super::Tree;
use crate::archive::progress::Progress;
use crate::content::ReadAt;
use crate::error::{Context, Failure};
use crate::layer::Contents;
use crate::stat::{FileType, Stat};
use crate::tar::writer::TarWriter;
use crate::tar::{Member, MemberKind, Segment};

/// Attributes that belong to the machine, not to the tree.
const LOCAL: [&[u8]; 1] = [b"security.selinux"];

/// Writes an object, and all below it, as a tar in which it is called `name`; empty for the root.
/// Gives back the stream.
///
/// # Errors
/// `Invalid` for a file that became shorter while it was read; what reading and writing report.
pub fn pack<T: Tree, W: Write>(
    tree: &T,
    node: &T::Node,
    name: &[u8],
    out: W,
    progress: &dyn Progress,
) -> Result<W, Failure> {
    let mut pack = Pack {
        tree,
        tar: TarWriter::new(out),
        links: HashMap::new(),
        progress,
    };
    pack.object(node, name.to_vec())?;
    pack.tar.finish()
}

struct Pack<'t, T, W> {
    tree: &'t T,
    tar: TarWriter<W>,
    /// The first path of each object with several names.
    links: HashMap<(u64, u64), Vec<u8>>,
    progress: &'t dyn Progress,
}

impl<T: Tree, W: Write> Pack<'_, T, W> {
    fn object(&mut self, node: &T::Node, path: Vec<u8>) -> Result<(), Failure> {
        let about = || format!("\"/{}\"", path.escape_ascii());
        let stat = self.tree.stat(node).context(about)?;
        let Some(kind) = self.kind_of(node, &stat, &path).context(about)? else {
            log::warn!("{}: a socket can't be in an archive", about());
            return Ok(());
        };
        let mut member = Member::new(&path, kind, &stat);
        if !matches!(member.kind, MemberKind::HardLink(_)) {
            member.xattrs = self.tree.xattrs(node).context(about)?;
            member
                .xattrs
                .retain(|(name, _)| !LOCAL.contains(&name.as_slice()));
        }
        match member.kind {
            MemberKind::Regular => self.file(node, member, stat.blocks).context(about)?,
            _ => drop(self.tar.append(&member, &mut io::empty()).context(about)?),
        }
        if stat.is_dir() {
            self.below(node, &path)?;
        }
        Ok(())
    }

    fn below(&mut self, dir: &T::Node, path: &[u8]) -> Result<(), Failure> {
        let about = || format!("\"/{}\"", path.escape_ascii());
        for name in self.tree.names(dir).context(about)? {
            let mut below = path.to_vec();
            if !below.is_empty() {
                below.push(b'/');
            }
            below.extend_from_slice(name.as_bytes());
            // In a live tree it may be gone.
            let Some(node) = self.tree.find(dir, &name).context(about)? else {
                continue;
            };
            let packed = self.object(&node, below);
            self.tree.release(&node);
            packed?;
        }
        Ok(())
    }

    /// What an object is in a tar; `None` for what can't be in one.
    fn kind_of(
        &mut self,
        node: &T::Node,
        stat: &Stat,
        path: &[u8],
    ) -> Result<Option<MemberKind>, Failure> {
        if !stat.is_dir() && stat.nlink > 1 && stat.kind != FileType::Socket {
            let id = self.tree.id(node, stat)?;
            if let Some(first) = self.links.get(&id) {
                return Ok(Some(MemberKind::HardLink(first.clone())));
            }
            self.links.insert(id, path.to_vec());
        }
        Ok(Some(match stat.kind {
            FileType::Regular => MemberKind::Regular,
            FileType::Directory => MemberKind::Directory,
            FileType::Symlink => MemberKind::Symlink(self.tree.read_link(node)?),
            FileType::CharDevice => MemberKind::CharDevice(stat.rdev),
            FileType::BlockDevice => MemberKind::BlockDevice(stat.rdev),
            FileType::Fifo => MemberKind::Fifo,
            FileType::Socket => return Ok(None),
        }))
    }

    fn file(&mut self, node: &T::Node, mut member: Member, blocks: u64) -> Result<(), Failure> {
        let contents = self.tree.open(node)?;
        let size = member.size;
        if let Contents::File(file) = &contents
            && blocks.saturating_mul(512) < size
        {
            // Fewer blocks without a hole: they are compressed, or in the inode.
            let whole = |runs: &Vec<Segment>| matches!(runs[..], [run] if run.len == size);
            member.sparse = Some(runs(file, size)?).filter(|runs| !whole(runs));
        }
        let whole = [Segment {
            offset: 0,
            len: size,
            stored: 0,
        }];
        let runs = member.sparse.clone();
        let mut data = Runs {
            contents: &contents,
            runs: runs.as_deref().unwrap_or(&whole),
            at: 0,
            progress: self.progress,
        };
        match &member.sparse {
            Some(_) => self.tar.append_sparse(&member, &mut data)?,
            None => drop(self.tar.append(&member, &mut data)?),
        }
        Ok(())
    }
}

/// A file's runs of data.
fn runs(file: &std::fs::File, size: u64) -> Result<Vec<Segment>, Failure> {
    let (mut runs, mut at, mut stored) = (Vec::new(), 0, 0);
    while let Some((offset, end)) = crate::sys::copy::next_data(file, at, size)? {
        let len = end - offset;
        runs.push(Segment {
            offset,
            len,
            stored,
        });
        stored += len;
        at = end;
    }
    Ok(runs)
}

/// Reads the runs of a file one after the other.
struct Runs<'f> {
    contents: &'f Contents,
    runs: &'f [Segment],
    /// How much of the first run has been read, in bytes.
    at: u64,
    progress: &'f dyn Progress,
}

impl Read for Runs<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let run = loop {
            match self.runs.split_first() {
                None => return Ok(0),
                Some((run, rest)) if self.at >= run.len => {
                    self.runs = rest;
                    self.at = 0;
                }
                Some((run, _)) => break run,
            }
        };
        let left = usize::try_from(run.len - self.at).unwrap_or(usize::MAX);
        let want = left.min(buf.len());
        let Some(space) = buf.get_mut(..want) else {
            return Ok(0);
        };
        let at = run.offset + self.at;
        let n = match self.contents {
            Contents::File(file) => ReadAt::read_at(&**file, space, at),
            Contents::Stored(stored) => stored.read_at(space, at),
        };
        let n = n.map_err(|e| io::Error::from(Failure::from(e)))?;
        self.at += n as u64;
        self.progress.advance(n as u64);
        Ok(n)
    }
}
