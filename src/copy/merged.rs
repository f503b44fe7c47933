//! [`MergedTree`]: a union, as a tree to copy from and to, without a mount.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use super::{Attributes, Tree, TreeMut, Xattrs};
use crate::error::{Errno, Error, Result};
use crate::layer::Contents;
use crate::name::{Name, NameBuf};
use crate::stat::Stat;
use crate::tar::MemberKind;
use crate::union::{Caller, Node, OpenFlags, SetAttr, SetTime, Special, Union};

/// A merged tree.
pub struct MergedTree {
    union: Arc<Union>,
}

impl MergedTree {
    /// The tree of a union.
    #[must_use]
    pub fn new(union: Arc<Union>) -> Self {
        Self { union }
    }
}

impl Tree for MergedTree {
    type Node = Arc<Node>;

    fn root(&self) -> Self::Node {
        self.union.root()
    }

    fn stat(&self, node: &Self::Node) -> Result<Stat> {
        self.union.getattr(node)
    }

    fn find(&self, dir: &Self::Node, name: &Name) -> Result<Option<Self::Node>> {
        Ok(self.union.peek(dir, name)?.map(|found| found.node))
    }

    fn names(&self, dir: &Self::Node) -> Result<Vec<NameBuf>> {
        let list = self.union.read_dir(dir)?;
        let mut names: Vec<NameBuf> = list.iter().map(|entry| entry.name.into()).collect();
        names.sort();
        Ok(names)
    }

    fn read_link(&self, node: &Self::Node) -> Result<Vec<u8>> {
        self.union.read_link(node)
    }

    fn xattrs(&self, node: &Self::Node) -> Result<Xattrs> {
        let mut all = Vec::new();
        for name in self.union.xattr_names(node)? {
            if let Some(value) = self.union.xattr(node, OsStr::from_bytes(&name))? {
                all.push((name, value));
            }
        }
        all.sort();
        Ok(all)
    }

    fn open(&self, node: &Self::Node) -> Result<Contents> {
        let flags = OpenFlags(libc::O_RDONLY);
        Ok(self.union.open(node, flags, Caller::default())?.contents)
    }

    fn release(&self, node: &Self::Node) {
        self.union.forget(node.id(), 0);
    }
}

/// Objects are made as root's, as everything that is copied into a container is at first.
const MAKER: Caller = Caller {
    uid: 0,
    gid: 0,
    pid: 0,
    umask: 0,
    keeps_priv: None,
};

impl TreeMut for MergedTree {
    fn make(&self, dir: &Self::Node, name: &Name, kind: &MemberKind) -> Result<Self::Node> {
        let special = |special| self.union.mknod(dir, name, special, 0o600, MAKER);
        let found = match kind {
            MemberKind::Directory => self.union.mkdir(dir, name, 0o700, MAKER),
            MemberKind::Regular => special(Special::Regular),
            MemberKind::Symlink(target) => {
                let target = OsStr::from_bytes(target);
                self.union.symlink(dir, name, target, MAKER)
            }
            MemberKind::CharDevice(rdev) => special(Special::CharDevice(*rdev)),
            MemberKind::BlockDevice(rdev) => special(Special::BlockDevice(*rdev)),
            MemberKind::Fifo => special(Special::Fifo),
            MemberKind::HardLink(_) => Err(Error::new(Errno::EINVAL)),
        }?;
        Ok(self.given_back(found.node))
    }

    fn link(&self, node: &Self::Node, dir: &Self::Node, name: &Name) -> Result<()> {
        let found = self.union.link(node, dir, name)?;
        self.given_back(found.node);
        Ok(())
    }

    fn unlink(&self, dir: &Self::Node, name: &Name) -> Result<()> {
        self.union.unlink(dir, name)
    }

    fn write(&self, node: &Self::Node) -> Result<File> {
        let opened = self.union.open(node, OpenFlags(libc::O_WRONLY), MAKER)?;
        match opened.contents {
            Contents::File(file) => Ok(file.try_clone()?),
            Contents::Stored(_) => Err(Error::with(Errno::EIO, "a file that can't be written to")),
        }
    }

    fn set(&self, node: &Self::Node, attributes: &Attributes) -> Result<()> {
        let set = SetAttr {
            uid: attributes.owner.map(|(uid, _)| uid),
            gid: attributes.owner.map(|(_, gid)| gid),
            perm: attributes.perm,
            mtime: attributes.mtime.map(SetTime::At),
            ..SetAttr::default()
        };
        self.union.setattr(node, &set, MAKER, None).map(drop)
    }

    fn set_xattr(&self, node: &Self::Node, name: &[u8], value: &[u8]) -> Result<()> {
        self.union
            .set_xattr(node, OsStr::from_bytes(name), value, 0)
    }
}

impl MergedTree {
    /// The reference of the kernel that making something gives, given back.
    fn given_back(&self, node: Arc<Node>) -> Arc<Node> {
        self.union.forget(node.id(), 1);
        node
    }
}
