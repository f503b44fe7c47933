//! A tar into a [`TreeMut`].

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

use super::walk::{Links, Reached, Walk};
use super::{Attributes, TreeMut, Xattrs};
use crate::archive::progress::Progress;
use crate::error::{Context, Errno, Failure};
use crate::name::{Name, NameBuf};
use crate::stat::FileType;
use crate::tar::{Member, MemberKind, TarReader};

/// How to unpack.
#[derive(Debug, Clone, Copy)]
pub struct UnpackOptions {
    /// What links on a member's way mean.
    pub links: Links,
    /// Whose everything is to be; as the archive says without.
    pub owner: Option<(u32, u32)>,
    /// Whether owners are set at all: without, things belong to whoever makes them.
    pub chown: bool,
    /// Whether a member for the place itself changes the attributes of what is there.
    pub root: bool,
}

/// What was unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Unpacked {
    /// Members.
    pub entries: u64,
    /// Bytes in files.
    pub bytes: u64,
}

/// Unpacks an archive below a directory. Files are replaced; a directory and something else never
/// take each other's place.
///
/// # Errors
/// `Invalid` for an archive that can't be trusted, naming the member; `Conflict` where something
/// else is in a member's way; what reading and writing report.
pub fn unpack<T: TreeMut>(
    tree: &T,
    base: &Walk<'_, T>,
    input: &mut dyn Read,
    options: UnpackOptions,
    progress: &dyn Progress,
) -> Result<Unpacked, Failure> {
    let mut unpack = Unpack {
        tree,
        base: base.clone(),
        options,
        last: None,
        dirs: Vec::new(),
        done: Unpacked::default(),
        refused: false,
        progress,
    };
    let mut tar = TarReader::new(&mut *input);
    while let Some(member) = tar.next_member()? {
        unpack
            .member(&member, tar.data())
            .context(|| format!("\"{}\"", member.path.escape_ascii()))?;
    }
    drop(tar);
    // What comes after the end is read, so that who writes it is not told that nobody listens.
    io::copy(input, &mut io::sink())?;
    unpack.finish()
}

struct Unpack<'t, T: TreeMut> {
    tree: &'t T,
    base: Walk<'t, T>,
    options: UnpackOptions,
    /// The directory that the last member was in.
    last: Option<(Vec<u8>, Walk<'t, T>)>,
    /// Directories, whose attributes are set when nothing is put into them any more.
    dirs: Vec<(Vec<u8>, Attributes)>,
    done: Unpacked,
    /// Whether it was said that attributes can't be set.
    refused: bool,
    progress: &'t dyn Progress,
}

impl<'t, T: TreeMut> Unpack<'t, T> {
    fn member(&mut self, member: &Member, data: &mut dyn Read) -> Result<(), Failure> {
        self.done.entries += 1;
        let attributes = self.attributes(member);
        let Some((dir, name)) = split(&member.path)? else {
            if member.kind != MemberKind::Directory {
                return Err(Failure::invalid("the root is no directory in it"));
            }
            if self.options.root {
                self.set_xattrs(&self.base.node(), &member.xattrs)?;
                self.dirs.push((Vec::new(), attributes));
            }
            return Ok(());
        };
        let dir = self.dir(dir)?.node();
        let there = self.tree.find(&dir, &name)?;
        let kind = there.as_ref().map(|n| self.tree.stat(n)).transpose()?;
        let kind = kind.map(|stat| stat.kind);
        if member.kind == MemberKind::Directory {
            let node = match (there, kind) {
                (Some(node), Some(FileType::Directory)) => node,
                (Some(_), _) => {
                    return Err(Failure::conflict(
                        "cannot overwrite non-directory with directory",
                    ));
                }
                (None, _) => self.tree.make(&dir, &name, &member.kind)?,
            };
            self.set_xattrs(&node, &member.xattrs)?;
            self.dirs.push((member.path.clone(), attributes));
            return Ok(());
        }
        if kind == Some(FileType::Directory) {
            return Err(Failure::conflict(
                "cannot overwrite directory with non-directory",
            ));
        }
        if let MemberKind::HardLink(target) = &member.kind {
            return self.hard_link(target, &dir, &name, there);
        }
        if there.is_some() {
            self.tree.unlink(&dir, &name)?;
        }
        let node = self.tree.make(&dir, &name, &member.kind)?;
        if member.kind == MemberKind::Regular {
            self.fill(&node, member, data)?;
        }
        if attributes.owner.is_some() {
            let owner = Attributes {
                owner: attributes.owner,
                ..Attributes::default()
            };
            self.tree.set(&node, &owner)?;
        }
        self.set_xattrs(&node, &member.xattrs)?;
        let rest = Attributes {
            owner: None,
            ..attributes
        };
        self.tree.set(&node, &rest)?;
        self.tree.release(&node);
        Ok(())
    }

    fn attributes(&self, member: &Member) -> Attributes {
        let owner = self.options.owner.unwrap_or((member.uid, member.gid));
        let is_link = matches!(member.kind, MemberKind::Symlink(_));
        Attributes {
            owner: self.options.chown.then_some(owner),
            perm: (!is_link).then_some(member.perm),
            mtime: Some(member.mtime),
        }
    }

    fn hard_link(
        &mut self,
        target: &[u8],
        dir: &T::Node,
        name: &Name,
        there: Option<T::Node>,
    ) -> Result<(), Failure> {
        let missing = || {
            let target = target.escape_ascii();
            Failure::invalid(format!("a hard link to \"{target}\", which is not there"))
        };
        let (above, last) = split(target)?.ok_or_else(missing)?;
        let above = self.dir(above)?.node();
        let node = self.tree.find(&above, &last)?.ok_or_else(missing)?;
        let stat = self.tree.stat(&node)?;
        if stat.is_dir() {
            return Err(Failure::invalid("a hard link to a directory"));
        }
        if let Some(there) = there {
            let same = self.tree.stat(&there)?;
            if self.tree.id(&there, &same)? == self.tree.id(&node, &stat)? {
                return Ok(());
            }
            self.tree.unlink(dir, name)?;
        }
        Ok(self.tree.link(&node, dir, name)?)
    }

    /// The directory at a member's path; made where it is missing.
    fn dir(&mut self, path: &[u8]) -> Result<Walk<'t, T>, Failure> {
        if path.is_empty() {
            return Ok(self.base.clone());
        }
        if let Some((_, walk)) = self.last.as_ref().filter(|(last, _)| last == path) {
            return Ok(walk.clone());
        }
        let mut walk = self.base.clone();
        for component in path.split(|b| *b == b'/') {
            walk = self.step(&walk, component)?;
        }
        self.last = Some((path.to_vec(), walk.clone()));
        Ok(walk)
    }

    fn step(&self, from: &Walk<'t, T>, component: &[u8]) -> Result<Walk<'t, T>, Failure> {
        let links = self.options.links;
        let about = || format!("in its way: \"{}\"", component.escape_ascii());
        match from.to(component, links, links).context(about)? {
            Reached::Object(walk) => match self.tree.stat(&walk.node())?.kind {
                FileType::Directory => Ok(walk),
                FileType::Symlink => {
                    Err(Failure::conflict("a symbolic link, which is not followed")).context(about)
                }
                _ => Err(Failure::conflict("not a directory")).context(about),
            },
            Reached::Free(mut walk, name) => {
                let node = self
                    .tree
                    .make(&walk.node(), &name, &MemberKind::Directory)?;
                let attributes = Attributes {
                    owner: self.options.owner.filter(|_| self.options.chown),
                    perm: Some(0o755),
                    mtime: None,
                };
                self.tree.set(&node, &attributes)?;
                walk.enter(name, node);
                Ok(walk)
            }
        }
    }

    fn fill(
        &mut self,
        node: &T::Node,
        member: &Member,
        data: &mut dyn Read,
    ) -> Result<(), Failure> {
        let file = self.tree.write(node)?;
        self.done.bytes += member.size;
        let Some(runs) = &member.sparse else {
            return self.run(&file, data, 0, member.size);
        };
        for run in runs {
            self.run(&file, data, run.offset, run.len)?;
        }
        Ok(file.set_len(member.size)?)
    }

    fn run(&self, file: &File, data: &mut dyn Read, at: u64, len: u64) -> Result<(), Failure> {
        let mut out = At { file, at };
        let copied = io::copy(
            &mut data.take(len),
            &mut Told {
                out: &mut out,
                progress: self.progress,
            },
        )?;
        match copied == len {
            true => Ok(()),
            false => Err(Failure::invalid("the archive is cut off")),
        }
    }

    /// Sets attributes that the place can have; says once that it can't have some.
    fn set_xattrs(&mut self, node: &T::Node, xattrs: &Xattrs) -> Result<(), Failure> {
        for (name, value) in xattrs {
            match self.tree.set_xattr(node, name, value) {
                Ok(()) => {}
                Err(e) if matches!(e.errno(), Errno::EPERM | Errno::EOPNOTSUPP) => {
                    if !std::mem::replace(&mut self.refused, true) {
                        let name = name.escape_ascii();
                        log::warn!("attribute {name}, and maybe others, can't be set there: {e}");
                    }
                }
                Err(e) => {
                    return Err(
                        Failure::from(e).context(format!("set attribute {}", name.escape_ascii()))
                    );
                }
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Unpacked, Failure> {
        for (path, attributes) in std::mem::take(&mut self.dirs).into_iter().rev() {
            let node = self.dir(&path)?.node();
            self.tree
                .set(&node, &attributes)
                .context(|| format!("\"{}\"", path.escape_ascii()))?;
        }
        Ok(self.done)
    }
}

/// A member's directory and its name there; `None` for the root.
fn split(path: &[u8]) -> Result<Option<(&[u8], NameBuf)>, Failure> {
    if path.is_empty() {
        return Ok(None);
    }
    let (dir, name) = match path.iter().rposition(|b| *b == b'/') {
        Some(at) => (
            path.get(..at).unwrap_or_default(),
            path.get(at + 1..).unwrap_or_default(),
        ),
        None => (&b""[..], path),
    };
    Ok(Some((dir, NameBuf::new(name)?)))
}

/// Writes a file from an offset on.
struct At<'f> {
    file: &'f File,
    at: u64,
}

impl io::Write for At<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let n = self.file.write_at(buf, self.at)?;
        self.at += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Tells of what is written.
struct Told<'w, W> {
    out: &'w mut W,
    progress: &'w dyn Progress,
}

impl<W: io::Write> io::Write for Told<'_, W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let n = self.out.write(buf)?;
        self.progress.advance(n as u64);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
