//! The index of one layer, from the members of its tar in any order.

use std::fs::OpenOptions;
use std::io::BufWriter;
use std::path::Path;

use super::format::{IMPLICIT, Inode, LayerRow, NONE, Names, OPAQUE, Payload, REPLACES, Scope};
use super::tree::{Entry, TREE_ROOT, Tree};
use super::writer::Pools;
use crate::error::{Context, Failure};
use crate::image::DiffId;
use crate::name::Name;
use crate::stat::FileType;
use crate::tar::{Member, MemberKind};

/// AUFS's prefix of whiteouts, which OCI has taken over (image spec, layer.md, "Whiteouts").
const WHITEOUT: &[u8] = b".wh.";
/// Prefix of AUFS's own files.
const META: &[u8] = b".wh..wh.";
/// The mark of an opaque directory.
const OPAQUE_NAME: &[u8] = b".wh..wh..opq";
/// `st_ino` of a layer's first object when it is the only layer.
const FIRST_INO: u64 = 2;

/// What an index came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerSummary {
    /// How many numbers the layer's objects take.
    pub entries: u64,
}

/// Takes members and writes their index.
#[derive(Default)]
pub struct LayerBuilder {
    tree: Tree,
    pools: Pools,
    /// The next object's place.
    next: u32,
    /// Hard links whose target was not there yet: directory, name, target.
    links: Vec<(u32, Box<[u8]>, Vec<u8>)>,
}

impl LayerBuilder {
    /// A layer without members.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a member. A later one of the same name takes its place, as when a tar is unpacked; two
    /// directories are one, with the later attributes. `key` is the blake3 of a file's bytes.
    ///
    /// # Errors
    /// `Invalid`, naming the member: it is below something that is no directory, or a hard link to
    /// a directory, or the layer is too large.
    pub fn add(&mut self, member: &Member, key: Option<[u8; 32]>) -> Result<(), Failure> {
        self.take(member, key)
            .context(|| format!("member \"{}\"", member.path.escape_ascii()))
    }

    fn take(&mut self, member: &Member, key: Option<[u8; 32]>) -> Result<(), Failure> {
        let ordinal = self.next;
        self.next = ordinal
            .checked_add(1)
            .filter(|n| *n < NONE)
            .ok_or_else(|| Failure::invalid("the layer has too many members"))?;
        let Some(split) = member.path.iter().rposition(|b| *b == b'/') else {
            if member.path.is_empty() {
                return self.root(member);
            }
            return self.place(TREE_ROOT, &member.path, member, key, ordinal);
        };
        let (dirs, name) = member.path.split_at_checked(split).unwrap_or_default();
        if let Some(above) = dirs.split(|b| *b == b'/').find(|c| c.starts_with(WHITEOUT)) {
            // AUFS keeps files of its own there; below a whiteout there can be nothing.
            return match above.starts_with(META) {
                true => Ok(()),
                false => Err(Failure::invalid(format!(
                    "\"{}\" above it is a whiteout",
                    above.escape_ascii()
                ))),
            };
        }
        let dir = self.directory(dirs)?;
        self.place(
            dir,
            name.strip_prefix(b"/").unwrap_or(name),
            member,
            key,
            ordinal,
        )
    }

    fn root(&mut self, member: &Member) -> Result<(), Failure> {
        if member.kind != MemberKind::Directory {
            return Err(Failure::invalid("the root of a layer is a directory"));
        }
        let (ordinal, marks) = (NONE, self.tree.inode(TREE_ROOT)?.marks & !IMPLICIT);
        let inode = self.inode_of(member, None, ordinal)?;
        *self.tree.inode_mut(TREE_ROOT)? = Inode { marks, ..inode };
        Ok(())
    }

    /// The directory at a path, made if need be.
    fn directory(&mut self, path: &[u8]) -> Result<u32, Failure> {
        let mut at = TREE_ROOT;
        for name in path.split(|b| *b == b'/') {
            at = match self.tree.get(at, name)? {
                Some(Entry::Node(node)) if self.tree.inode(node)?.is_dir() => node,
                Some(Entry::Node(_)) => {
                    return Err(Failure::invalid(format!(
                        "\"{}\" above it is no directory",
                        name.escape_ascii()
                    )));
                }
                whiteout => {
                    check_name(name)?;
                    let mut inode = Inode::implicit_dir();
                    if whiteout.is_some() {
                        inode.marks |= REPLACES | OPAQUE;
                    }
                    let node = self.tree.add(inode)?;
                    self.tree
                        .entries_mut(at)?
                        .insert(name.into(), Entry::Node(node));
                    node
                }
            };
        }
        Ok(at)
    }

    fn place(
        &mut self,
        dir: u32,
        name: &[u8],
        member: &Member,
        key: Option<[u8; 32]>,
        ordinal: u32,
    ) -> Result<(), Failure> {
        if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            return self.whiteout(dir, name, hidden);
        }
        check_name(name)?;
        let before = self.tree.get(dir, name)?;
        let whiteout = match before {
            Some(Entry::Whiteout) => REPLACES,
            Some(Entry::Node(node)) => self.tree.inode(node)?.marks & REPLACES,
            None => 0,
        };
        if let MemberKind::HardLink(target) = &member.kind {
            return self.link(dir, name, target, whiteout, ordinal);
        }
        let mut inode = self.inode_of(member, key, ordinal)?;
        inode.marks |= whiteout;
        if inode.is_dir() {
            if let Some(Entry::Node(node)) = before
                && self.tree.inode(node)?.is_dir()
            {
                let old = self.tree.inode_mut(node)?;
                inode.marks |= old.marks & !IMPLICIT;
                if old.ordinal != NONE {
                    inode.ordinal = old.ordinal;
                }
                *old = inode;
                return Ok(());
            }
            // What it takes the place of, it hides in the layers below too.
            if whiteout != 0 || before.is_some() {
                inode.marks |= REPLACES | OPAQUE;
            }
        }
        let node = self.tree.add(inode)?;
        self.tree
            .entries_mut(dir)?
            .insert(name.into(), Entry::Node(node));
        Ok(())
    }

    fn whiteout(&mut self, dir: u32, name: &[u8], hidden: &[u8]) -> Result<(), Failure> {
        if name == OPAQUE_NAME {
            self.tree.inode_mut(dir)?.marks |= OPAQUE;
            return Ok(());
        }
        if name.starts_with(META) {
            return Ok(());
        }
        check_name(hidden)?;
        match self.tree.get(dir, hidden)? {
            // What the layer has itself stays, and hides what is below.
            Some(Entry::Node(node)) => {
                let inode = self.tree.inode_mut(node)?;
                inode.marks |= REPLACES;
                if inode.is_dir() {
                    inode.marks |= OPAQUE;
                }
            }
            _ => {
                self.tree
                    .entries_mut(dir)?
                    .insert(hidden.into(), Entry::Whiteout);
            }
        }
        Ok(())
    }

    fn link(
        &mut self,
        dir: u32,
        name: &[u8],
        target: &[u8],
        marks: u32,
        ordinal: u32,
    ) -> Result<(), Failure> {
        let found = self.tree.resolve(target)?;
        let node = match found {
            Some(node) if self.tree.inode(node)?.is_dir() => {
                return Err(Failure::invalid(format!(
                    "a hard link to the directory \"{}\"",
                    target.escape_ascii()
                )));
            }
            Some(node) => node,
            None => {
                let payload = Payload::Target {
                    offset: self.pools.add_target(target)?,
                };
                self.links.push((dir, name.into(), target.to_vec()));
                let size = target.len() as u64;
                let inode = Inode {
                    kind: None,
                    perm: 0,
                    marks,
                    ordinal,
                    size,
                    payload,
                    ..Inode::implicit_dir()
                };
                self.tree.add(inode)?
            }
        };
        self.tree
            .entries_mut(dir)?
            .insert(name.into(), Entry::Node(node));
        Ok(())
    }

    fn inode_of(
        &mut self,
        member: &Member,
        key: Option<[u8; 32]>,
        ordinal: u32,
    ) -> Result<Inode, Failure> {
        let (kind, payload) = match &member.kind {
            MemberKind::Regular => (FileType::Regular, self.data_of(member)?),
            MemberKind::Symlink(target) => {
                let offset = self.pools.add_target(target)?;
                (FileType::Symlink, Payload::Target { offset })
            }
            MemberKind::CharDevice(rdev) => (FileType::CharDevice, Payload::Device(*rdev)),
            MemberKind::BlockDevice(rdev) => (FileType::BlockDevice, Payload::Device(*rdev)),
            MemberKind::Directory => (
                FileType::Directory,
                Payload::Directory { first: 0, count: 0 },
            ),
            MemberKind::Fifo => (FileType::Fifo, Payload::Nothing),
            MemberKind::HardLink(_) => return Err(Failure::system("a hard link has no inode")),
        };
        Ok(Inode {
            kind: Some(kind),
            perm: member.perm & 0o7777,
            uid: member.uid,
            gid: member.gid,
            nlink: 1,
            layer: 0,
            ordinal,
            xattrs: self.pools.add_xattrs(&member.xattrs)?,
            marks: 0,
            mtime: member.mtime,
            atime: member.atime.unwrap_or(member.mtime),
            ctime: member.ctime.unwrap_or(member.mtime),
            names: Names::Root,
            size: match &member.kind {
                MemberKind::Regular => member.size,
                MemberKind::Symlink(target) => target.len() as u64,
                _ => 0,
            },
            payload,
            key,
        })
    }

    fn data_of(&mut self, member: &Member) -> Result<Payload, Failure> {
        let offset = member.data_offset;
        Ok(match &member.sparse {
            None => Payload::Stored {
                offset,
                len: member.stored_size,
            },
            Some(map) => Payload::Sparse {
                offset,
                map: self.pools.add_sparse(map, member.stored_size)?,
            },
        })
    }

    /// Finds targets that have come after their links, which may be links themselves.
    fn settle_links(&mut self) -> Result<(), Failure> {
        let mut waiting = std::mem::take(&mut self.links);
        loop {
            let before = waiting.len();
            let mut left = Vec::new();
            for (dir, name, target) in waiting {
                let Some(Entry::Node(link)) = self.tree.get(dir, &name)? else {
                    continue;
                };
                if self.tree.inode(link)?.kind.is_some() {
                    continue;
                }
                let found = self.tree.resolve(&target)?.filter(|n| *n != link);
                let kind = found
                    .map(|n| self.tree.inode(n))
                    .transpose()?
                    .and_then(|i| i.kind);
                match (found, kind) {
                    (Some(node), Some(kind)) if kind != FileType::Directory => {
                        self.tree.entries_mut(dir)?.insert(name, Entry::Node(node));
                    }
                    _ => left.push((dir, name, target)),
                }
            }
            if left.len() == before || left.is_empty() {
                return Ok(());
            }
            waiting = left;
        }
    }

    /// Writes the index into an existing, empty file.
    ///
    /// # Errors
    /// `Invalid` when the layer is too large for an index; `System`.
    pub fn finish(mut self, diff_id: DiffId, path: &Path) -> Result<LayerSummary, Failure> {
        self.settle_links()?;
        let entries = u64::from(self.tree.number_implicit(self.next)?);
        let row = LayerRow {
            diff_id: *diff_id.0.as_bytes(),
            entries,
            first_ino: FIRST_INO,
        };
        write_to(path, |out| {
            self.tree.write(out, Scope::Layer, &[row], &self.pools)
        })?;
        Ok(LayerSummary { entries })
    }
}

/// Writes an index into a file that is there.
pub(super) fn write_to<T>(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<std::fs::File>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let about = || format!("write index {}", path.display());
    let file = OpenOptions::new()
        .write(true)
        .truncate(true)
        .open(path)
        .context(about)?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    let written = write(&mut out).context(about)?;
    let file = out
        .into_inner()
        .map_err(|e| Failure::from(e.into_error()))
        .context(about)?;
    file.sync_data().context(about)?;
    Ok(written)
}

fn check_name(name: &[u8]) -> Result<(), Failure> {
    Name::from_bytes(name)
        .map(drop)
        .map_err(|_| Failure::invalid(format!("\"{}\" is no possible name", name.escape_ascii())))
}
