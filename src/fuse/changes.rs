//! Requests that change names and extended attributes.

use std::ffi::OsStr;
use std::sync::Arc;

use super::BackingDevice;
use super::files::OpenedReply;
use super::server::{EntryReply, Server, is_acl, owned};
use super::step::{Cost, Step};
use crate::error::{Errno, Error, Result};
use crate::name::NameBuf;
use crate::stat::FileType;
use crate::union::{Caller, Found, Node, NodeId, OpenFlags, RenameFlags, Special};

/// What a request names: a directory, and a name in it.
type Target = (Arc<Node>, NameBuf);

/// Leaves with the error as the answer.
macro_rules! step_try {
    ($result:expr) => {
        match $result {
            Ok(value) => value,
            Err(e) => return Step::Done(Err(e)),
        }
    };
}
pub(super) use step_try;

/// The attribute whose change takes setgid from a file of a strange group.
const ACCESS_ACL: &str = "system.posix_acl_access";

impl<I: Send + Sync + 'static> Server<I> {
    fn target(&self, parent: NodeId, name: &OsStr) -> Result<Target> {
        Ok((self.union.get(parent)?, owned(name)?))
    }

    /// CREATE: makes a regular file and opens it.
    pub fn create<D: BackingDevice<Id = I>>(
        self: &Arc<Self>,
        device: &D,
        parent: NodeId,
        name: &OsStr,
        mode: u32,
        flags: OpenFlags,
        caller: Caller,
    ) -> Step<(EntryReply, OpenedReply<I>), D> {
        let caller = self.options().ids.caller(caller);
        let (parent, name) = step_try!(self.target(parent, name));
        self.change(Cost::Quick, device, move |server, device| {
            let perm = mode & 0o7777;
            let (found, opened) = server.union.create(&parent, &name, perm, flags, caller)?;
            // Attached first: the entry's lifetimes depend on the mode.
            let node = (found.node.id(), &found.node);
            let handle = server.attach(device, node, &opened, flags)?;
            Ok((server.entry(&found), handle))
        })
    }

    /// TMPFILE: makes a regular file without a name and opens it.
    pub fn tmpfile<D: BackingDevice<Id = I>>(
        self: &Arc<Self>,
        device: &D,
        dir: NodeId,
        mode: u32,
        flags: OpenFlags,
        caller: Caller,
    ) -> Step<(EntryReply, OpenedReply<I>), D> {
        let caller = self.options().ids.caller(caller);
        let dir = step_try!(self.union.get(dir));
        self.change(Cost::Quick, device, move |server, device| {
            let (found, opened) = server.union.tmpfile(&dir, mode & 0o7777, flags, caller)?;
            let node = (found.node.id(), &found.node);
            let handle = server.attach(device, node, &opened, flags)?;
            Ok((server.entry(&found), handle))
        })
    }

    /// MKNOD. `rdev` is in the kernel's encoding, which is makedev(3)'s for numbers of 32 bits.
    pub fn mknod(
        self: &Arc<Self>,
        parent: NodeId,
        name: &OsStr,
        mode: u32,
        rdev: u32,
        caller: Caller,
    ) -> Step<EntryReply> {
        let caller = self.options().ids.caller(caller);
        let (parent, name) = step_try!(self.target(parent, name));
        let special = match FileType::from_mode(mode) {
            Some(FileType::Regular) => Special::Regular,
            Some(FileType::Fifo) => Special::Fifo,
            Some(FileType::Socket) => Special::Socket,
            Some(FileType::CharDevice) => Special::CharDevice(rdev.into()),
            Some(FileType::BlockDevice) => Special::BlockDevice(rdev.into()),
            _ => return Step::Done(Err(Error::new(Errno::EINVAL))),
        };
        self.change(Cost::Quick, &(), move |server, ()| {
            let perm = mode & 0o7777;
            let found = server.union.mknod(&parent, &name, special, perm, caller)?;
            Ok(server.entry(&found))
        })
    }

    /// MKDIR.
    pub fn mkdir(
        self: &Arc<Self>,
        parent: NodeId,
        name: &OsStr,
        mode: u32,
        caller: Caller,
    ) -> Step<EntryReply> {
        let caller = self.options().ids.caller(caller);
        let (parent, name) = step_try!(self.target(parent, name));
        self.change(Cost::Quick, &(), move |server, ()| {
            let found = server.union.mkdir(&parent, &name, mode & 0o7777, caller)?;
            Ok(server.entry(&found))
        })
    }

    /// SYMLINK.
    pub fn symlink(
        self: &Arc<Self>,
        parent: NodeId,
        name: &OsStr,
        target: &OsStr,
        caller: Caller,
    ) -> Step<EntryReply> {
        let caller = self.options().ids.caller(caller);
        let (parent, name) = step_try!(self.target(parent, name));
        let target = target.to_os_string();
        self.change(Cost::Quick, &(), move |server, ()| {
            let found = server.union.symlink(&parent, &name, &target, caller)?;
            Ok(server.entry(&found))
        })
    }

    /// LINK.
    pub fn link(self: &Arc<Self>, node: NodeId, parent: NodeId, name: &OsStr) -> Step<EntryReply> {
        let node = step_try!(self.union.get(node));
        let (parent, name) = step_try!(self.target(parent, name));
        self.change(self.copy_cost(&node), &(), move |server, ()| {
            let found = server.union.link(&node, &parent, &name)?;
            Ok(server.entry(&found))
        })
    }

    /// UNLINK.
    pub fn unlink(self: &Arc<Self>, parent: NodeId, name: &OsStr) -> Step<()> {
        let (parent, name) = step_try!(self.target(parent, name));
        let found = step_try!(self.union.peek(&parent, &name));
        let found = step_try!(found.ok_or_else(|| Error::new(Errno::ENOENT)));
        self.change(removal_cost(Some(&found)), &(), move |server, ()| {
            server.union.unlink_found(&parent, &name, &found)
        })
    }

    /// RMDIR.
    pub fn rmdir(self: &Arc<Self>, parent: NodeId, name: &OsStr) -> Step<()> {
        let (parent, name) = step_try!(self.target(parent, name));
        self.change(Cost::Quick, &(), move |server, ()| {
            server.union.rmdir(&parent, &name)
        })
    }

    /// RENAME2.
    pub fn rename(
        self: &Arc<Self>,
        (parent, name): (NodeId, &OsStr),
        (new_parent, new_name): (NodeId, &OsStr),
        flags: RenameFlags,
    ) -> Step<()> {
        let (parent, name) = step_try!(self.target(parent, name));
        let (new_parent, new_name) = step_try!(self.target(new_parent, new_name));
        let from = step_try!(self.union.peek(&parent, &name));
        let from = step_try!(from.ok_or_else(|| Error::new(Errno::ENOENT)));
        let to = step_try!(self.union.peek(&new_parent, &new_name));
        let other = match flags {
            RenameFlags::Exchange => self.move_cost(to.as_ref()),
            _ => removal_cost(to.as_ref()),
        };
        let cost = match self.move_cost(Some(&from)) {
            Cost::Quick => other,
            Cost::Slow => Cost::Slow,
        };
        self.change(cost, &(), move |server, ()| {
            let (old, new) = ((&parent, &*name), (&new_parent, &*new_name));
            server.union.rename_found(old, new, flags, (from, to))
        })
    }

    /// SETXATTR.
    pub fn setxattr(
        self: &Arc<Self>,
        node: NodeId,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        caller: Caller,
    ) -> Step<()> {
        step_try!(self.check_xattr(name));
        let node = step_try!(self.union.get(node));
        let (name, mut value) = (name.to_os_string(), value.to_vec());
        if is_acl(&name) && !self.options().ids.is_plain() {
            value = step_try!(self.options().ids.acl_on_disk(value));
        }
        self.change(
            step_try!(self.attribute_cost(&node)),
            &(),
            move |server, ()| {
                server.union.set_xattr(&node, &name, &value, flags)?;
                if name == ACCESS_ACL {
                    server.union.clear_setgid(&node, caller)?;
                }
                Ok(())
            },
        )
    }

    /// REMOVEXATTR.
    pub fn removexattr(self: &Arc<Self>, node: NodeId, name: &OsStr) -> Step<()> {
        step_try!(self.check_xattr(name));
        let node = step_try!(self.union.get(node));
        let name = name.to_os_string();
        self.change(
            step_try!(self.attribute_cost(&node)),
            &(),
            move |server, ()| server.union.remove_xattr(&node, &name),
        )
    }

    /// What it costs to bring a node into the upper with its data.
    pub(super) fn copy_cost(&self, node: &Node) -> Cost {
        match self.union.needs_copy_up(node) {
            true => self.data_cost(node),
            false => Cost::Quick,
        }
    }

    fn data_cost(&self, node: &Node) -> Cost {
        let len = self.union.copied_without_sync(node);
        len.map_or(Cost::Slow, Cost::of)
    }

    /// What it costs to move what was found: a lower file is copied, of a lower directory the files
    /// with several names that are beneath it.
    fn move_cost(&self, found: Option<&Found>) -> Cost {
        let copies = |found: &Found| {
            let lower_dir = found.is_dir() && !found.node.lower().is_empty();
            lower_dir || self.union.needs_copy_up(&found.node)
        };
        if found.is_some_and(copies) {
            Cost::Slow
        } else {
            Cost::Quick
        }
    }

    /// What a change of attributes alone costs.
    pub(super) fn attribute_cost(&self, node: &Node) -> Result<Cost> {
        Ok(match self.union.attributes_need_data(node)? {
            true => self.data_cost(node),
            false => Cost::Quick,
        })
    }
}

/// What it costs to remove a name: a lower file with further names is copied up first.
fn removal_cost(found: Option<&Found>) -> Cost {
    match found {
        Some(f) if !f.is_dir() && f.stat.nlink > 1 && !f.node.has_upper() => Cost::Slow,
        _ => Cost::Quick,
    }
}
