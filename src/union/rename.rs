//! Rename: plain, NOREPLACE, EXCHANGE and WHITEOUT.
//!
//! A directory with lower parts moves by a redirect (overlayfs.rst, "redirect_dir"): its upper part
//! is renamed and remembers where the lower parts are. Files are copied up and renamed.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{AtFlags, RenameFlags as RawRename, XattrFlags};
use rustix::io::Errno as RawErrno;

use super::copy_up::Data;
use super::upper::UpperEntry;
use super::{Caller, Found, LowerRef, Node, RedirectDir, Union, Upper};
use crate::error::{Errno, Error, Result};
use crate::layer::format::Mark;
use crate::layer::{Entry, Layer, LayerNode};
use crate::name::{Name, NameBuf};

/// What rename does with a name that is taken (renameat2(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RenameFlags {
    /// It is replaced.
    Replace,
    /// `EEXIST`.
    NoReplace,
    /// The two change places.
    Exchange,
    /// As `Replace`, and the character device 0:0, made by this caller, takes the old name.
    Whiteout(Caller),
}

/// One side of a rename.
struct Side<'a> {
    parent: &'a Arc<Node>,
    name: &'a Name,
    dir: Arc<OwnedFd>,
    /// Whether the lowers have the name.
    below: bool,
}

impl Union {
    /// Renames.
    ///
    /// # Errors
    /// `ENOENT`, `EEXIST`, `ENOTDIR`, `EISDIR`, `ENOTEMPTY`, `EINVAL` for a directory into itself,
    /// `EXDEV` for a directory that several lowers have under different names, `EROFS`; what the upper's file system
    /// reports.
    pub fn rename(
        &self,
        parent: &Arc<Node>,
        name: &Name,
        new_parent: &Arc<Node>,
        new_name: &Name,
        flags: RenameFlags,
    ) -> Result<()> {
        let from = self.peek(parent, name)?;
        let from = from.ok_or_else(|| Error::new(Errno::ENOENT))?;
        let to = self.peek(new_parent, new_name)?;
        self.rename_found((parent, name), (new_parent, new_name), flags, (from, to))
    }

    /// Renames what was just found under the two names.
    ///
    /// # Errors
    /// As [`Union::rename`].
    pub fn rename_found(
        &self,
        (parent, name): (&Arc<Node>, &Name),
        (new_parent, new_name): (&Arc<Node>, &Name),
        flags: RenameFlags,
        (from, to): (Found, Option<Found>),
    ) -> Result<()> {
        let upper = self.writable()?;
        match (&to, flags) {
            (Some(_), RenameFlags::NoReplace) => return Err(Error::new(Errno::EEXIST)),
            (None, RenameFlags::Exchange) => return Err(Error::new(Errno::ENOENT)),
            (Some(to), _) if to.node.id() == from.node.id() => return Ok(()),
            (Some(to), RenameFlags::Replace | RenameFlags::Whiteout(_)) => check_types(&from, to)?,
            _ => {}
        }
        for moved in [
            Some(&from),
            to.as_ref().filter(|_| flags == RenameFlags::Exchange),
        ] {
            if let Some(moved) = moved
                && moved.is_dir()
                && !moved.node.lower().is_empty()
                && self.options.redirect != RedirectDir::On
            {
                return Err(Error::new(Errno::EXDEV));
            }
        }
        self.prepare(&from.node)?;
        match (&to, flags) {
            (Some(to), RenameFlags::Exchange) => self.prepare(&to.node)?,
            (Some(to), _) => self.keep_other_names(to)?,
            _ => {}
        }
        let _tree = self.tree.write();
        let (old, new) = (self.side(parent, name)?, self.side(new_parent, new_name)?);
        self.name_up(&from.node, parent, name)?;
        if let Some(to) = &to {
            self.name_up(&to.node, new_parent, new_name)?;
        }
        self.settle(upper, &from.node, &new)?;
        match (to, flags) {
            (Some(to), RenameFlags::Exchange) => {
                self.settle(upper, &to.node, &old)?;
                self.exchange(&from.node, &to.node, &old, &new)
            }
            (to, flags) => {
                self.replace(upper, &from.node, to.map(|t| t.node), &old, &new)?;
                match flags {
                    RenameFlags::Whiteout(caller) => self.leave_device(parent, name, caller),
                    _ => Ok(()),
                }
            }
        }
    }

    fn side<'a>(&self, parent: &'a Arc<Node>, name: &'a Name) -> Result<Side<'a>> {
        let below = self.lower_has(parent, name)?;
        Ok(Side {
            parent,
            name,
            dir: self.dir_up(parent)?,
            below,
        })
    }

    /// Brings what is to be moved into the upper; of a lower directory also the files with several
    /// names that are beneath it, which are found by their lower path.
    fn prepare(&self, node: &Arc<Node>) -> Result<()> {
        if node.is_dir() {
            self.copy_up_linked(node)?;
        }
        self.copy_up(node, Data::All)
    }

    fn copy_up_linked(&self, dir: &Arc<Node>) -> Result<()> {
        for lower in dir.lower() {
            // A directory layer's files are found by their handles, wherever they are.
            if lower.layer().stable_id(lower.node()).is_some()
                && has_linked(lower.layer(), lower.node())?
            {
                return self.copy_up_linked_below(dir);
            }
        }
        Ok(())
    }

    fn copy_up_linked_below(&self, dir: &Arc<Node>) -> Result<()> {
        for entry in self.read_dir(dir)?.iter() {
            let Some(found) = self.peek(dir, entry.name)? else {
                continue;
            };
            if found.is_dir() {
                self.copy_up_linked(&found.node)?;
            } else {
                self.keep_other_names(&found)?;
            }
            let id = found.node.id();
            drop(found);
            self.forget(id, 0);
        }
        Ok(())
    }

    /// Marks a directory so that at its new place it merges with just what it merges with now. The
    /// tree lock is written.
    fn settle(&self, upper: &Upper, node: &Arc<Node>, new: &Side<'_>) -> Result<()> {
        if !node.is_dir() {
            return Ok(());
        }
        let place = self.place(node)?;
        let space = upper.space();
        if node.lower().is_empty() {
            if new.below {
                place.set_xattr(&space.name(Mark::Opaque), b"y", XattrFlags::empty())?;
            }
            return Ok(());
        }
        if place
            .marks(space)?
            .redirect
            .is_some_and(|r| r.starts_with(b"/"))
        {
            return Ok(());
        }
        let redirect = self.lower_path(node.lower())?;
        place.set_xattr(&space.name(Mark::Redirect), &redirect, XattrFlags::empty())
    }

    /// The path, from the root of the lowers, of a directory's lower parts.
    fn lower_path(&self, lower: &[LowerRef]) -> Result<Vec<u8>> {
        let mut common: Option<Vec<NameBuf>> = None;
        for part in lower {
            let path = part.layer().dir_path(part.node())?;
            // Layers that have the directory under different names need a redirect each.
            if path.is_none() || common.is_some() && common != path {
                return Err(Error::new(Errno::EXDEV));
            }
            common = path;
        }
        let mut path = Vec::new();
        for name in common.iter().flatten() {
            path.push(b'/');
            path.extend_from_slice(name.as_bytes());
        }
        if path.is_empty() {
            Err(Error::new(Errno::EXDEV))
        } else {
            Ok(path)
        }
    }

    fn exchange(
        &self,
        from: &Arc<Node>,
        to: &Arc<Node>,
        old: &Side<'_>,
        new: &Side<'_>,
    ) -> Result<()> {
        raw_rename(old, new, RawRename::EXCHANGE)?;
        move_name(from, old, new);
        move_name(to, new, old);
        Ok(())
    }

    fn replace(
        &self,
        upper: &Upper,
        from: &Arc<Node>,
        to: Option<Arc<Node>>,
        old: &Side<'_>,
        new: &Side<'_>,
    ) -> Result<()> {
        let mut held = None;
        if let Some(to) = &to {
            if to.is_dir() {
                self.check_empty(to)?;
            }
            if to.has_upper() {
                held = self.hold_last_name(to)?;
            }
        }
        if from.is_dir() {
            self.move_dir(upper, old, new)?;
        } else if old.below {
            match raw_rename(old, new, RawRename::WHITEOUT) {
                Err(e) if e.errno() == Errno::EINVAL => {
                    // No RENAME_WHITEOUT here. A crash between the two shows the lower object again
                    // beside the new name: nothing is lost.
                    raw_rename(old, new, RawRename::empty())?;
                    upper.add_whiteout(&old.dir, old.name.as_os_str())?;
                }
                other => other?,
            }
        } else {
            raw_rename(old, new, RawRename::empty())?;
        }
        if let Some(to) = to {
            self.dir_fds.remove(to.id());
            to.drop_name(new.parent, new.name, held);
            self.leave_index(&to)?;
        }
        move_name(from, old, new);
        Ok(())
    }

    /// Moves an upper directory onto a free name, a whiteout, or a directory that is empty in the
    /// merged view (but may hold whiteouts in the upper).
    fn move_dir(&self, upper: &Upper, old: &Side<'_>, new: &Side<'_>) -> Result<()> {
        let there = upper.entry(&new.dir, new.name)?;
        let old_name = old.name.as_os_str();
        match there {
            None if old.below => {
                // The whiteout is put into the new place first, and then the two change places.
                upper.add_whiteout(&new.dir, new.name.as_os_str())?;
                let swapped = raw_rename(old, new, RawRename::EXCHANGE);
                if swapped.is_err() && !new.below {
                    super::upper::remove_quietly(&new.dir, new.name.as_os_str(), AtFlags::empty());
                }
                swapped
            }
            None => raw_rename(old, new, RawRename::empty()),
            Some(UpperEntry::Whiteout) => {
                raw_rename(old, new, RawRename::EXCHANGE)?;
                if !old.below {
                    rustix::fs::unlinkat(&old.dir, old_name, AtFlags::empty())?;
                }
                Ok(())
            }
            Some(UpperEntry::Node { .. }) => {
                upper.clear_hidden(&new.dir, new.name)?;
                let flags = match old.below {
                    true => RawRename::WHITEOUT,
                    false => RawRename::empty(),
                };
                match raw_rename(old, new, flags) {
                    Err(e) if old.below && e.errno() == Errno::EINVAL => {
                        // No RENAME_WHITEOUT here. A crash between the two shows an empty directory
                        // under the old name.
                        raw_rename(old, new, RawRename::EXCHANGE)?;
                        upper.remove_dir(&old.dir, old.name, old.below)
                    }
                    other => other,
                }
            }
        }
    }
}

fn check_types(from: &Found, to: &Found) -> Result<()> {
    match (from.is_dir(), to.is_dir()) {
        (true, false) => Err(Error::new(Errno::ENOTDIR)),
        (false, true) => Err(Error::new(Errno::EISDIR)),
        _ => Ok(()),
    }
}

fn raw_rename(old: &Side<'_>, new: &Side<'_>, flags: RawRename) -> Result<()> {
    let (from, to) = (old.name.as_os_str(), new.name.as_os_str());
    match rustix::fs::renameat_with(&old.dir, from, &new.dir, to, flags) {
        Err(RawErrno::NOSYS) if flags.is_empty() => {
            Ok(rustix::fs::renameat(&old.dir, from, &new.dir, to)?)
        }
        other => Ok(other?),
    }
}

fn move_name(node: &Arc<Node>, from: &Side<'_>, to: &Side<'_>) {
    node.add_name(to.parent, to.name);
    node.drop_name(from.parent, from.name, None);
    node.show_own_ctime();
}

/// Whether a lower tree has a file with several names.
fn has_linked(layer: &dyn Layer, dir: LayerNode) -> Result<bool> {
    let mut names = Vec::new();
    layer.read_dir(dir, &mut |item| {
        if item.kind.is_some() {
            names.push(NameBuf::from(item.name));
        }
        Ok(())
    })?;
    for name in names {
        if let Some(Entry::Node(entry)) = layer.lookup(dir, &name)? {
            let linked = if entry.stat.is_dir() {
                has_linked(layer, entry.node)
            } else {
                Ok(entry.stat.nlink > 1)
            };
            layer.forget(entry.node);
            if linked? {
                return Ok(true);
            }
        }
    }
    Ok(false)
}
