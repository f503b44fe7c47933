//! Extended attributes of the merged view: overlay's own are hidden, and names that look like them
//! are escaped on disk, so that an overlay can be mounted on top.

use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::Arc;

use rustix::fs::XattrFlags;

use super::copy_up::{CAPABILITIES, Data};
use super::create::DEFAULT_ACL;
use super::node::Xattrs;
use super::provenance::LAYER;
use super::{LowerRef, Node, NodeId, Union};
use crate::error::{Errno, Error, Result};
use crate::layer::Entry;
use crate::layer::format::MarkSpace;
use crate::layer::owner_record::is_record;
use crate::name::NameBuf;

impl Union {
    fn space(&self) -> MarkSpace {
        self.upper
            .as_ref()
            .map_or_else(MarkSpace::default, super::Upper::space)
    }

    /// Whether an attribute is on disk only.
    pub(super) fn hides(&self, name: &OsStr) -> bool {
        self.options.owner_records && is_record(name)
    }

    /// Refuses what records can't be together with: an ACL on disk would be for the owner on disk.
    fn check_name(&self, name: &OsStr) -> Result<()> {
        let acl = name.as_bytes().starts_with(b"system.posix_acl_");
        match acl && self.upper.as_ref().is_some_and(super::Upper::has_records) {
            true => Err(Error::new(Errno::EOPNOTSUPP)),
            false => Ok(()),
        }
    }

    /// Whether it is known, without a look at the layers, that the object which the kernel calls by
    /// this number has no attribute of this name.
    #[must_use]
    pub fn lacks_xattr(&self, id: NodeId, name: &OsStr) -> bool {
        name != LAYER && self.nodes.has_no_xattrs(id)
    }

    /// Whether it is known, without a look at the layers, that it has no attributes at all.
    #[must_use]
    pub fn lacks_xattrs(&self, id: NodeId) -> bool {
        self.nodes.has_no_xattrs(id)
    }

    /// An attribute's value; `None` when there is none of that name.
    ///
    /// # Errors
    /// What the layers report.
    pub fn xattr(&self, node: &Node, name: &OsStr) -> Result<Option<Vec<u8>>> {
        if self.hides(name) || self.check_name(name).is_err() {
            return Ok(None);
        }
        if name == LAYER {
            return self.layers_of(node);
        }
        match node.with_state(|s| s.xattrs) {
            Xattrs::None => return Ok(None),
            Xattrs::NoCapabilities if name == CAPABILITIES => return Ok(None),
            _ => {}
        }
        if node.has_upper() {
            let _tree = self.tree.read();
            return self.place(node)?.xattr(&self.space().escape(name));
        }
        let lower = self.top_lower(node)?;
        let (layer, from) = (lower.layer(), lower.node());
        let value = if layer.overlay_xattrs_are_data() {
            layer.xattr(from, name.as_bytes())?
        } else {
            layer.xattr(from, self.space().escape(name).as_bytes())?
        };
        Ok(value.map(Vec::from))
    }

    /// The names of all attributes.
    ///
    /// # Errors
    /// What the layers report.
    pub fn xattr_names(&self, node: &Node) -> Result<Vec<Vec<u8>>> {
        if node.with_state(|s| s.xattrs) == Xattrs::None {
            return Ok(Vec::new());
        }
        let space = self.space();
        if node.has_upper() {
            let _tree = self.tree.read();
            let names = self.place(node)?.xattr_names()?;
            let shown = names.iter().filter(|name| !self.hides(name));
            let shown = shown.filter_map(|n| space.unescape(n));
            return Ok(shown.map(OsStringExt::into_vec).collect());
        }
        self.names_below(self.top_lower(node)?)
    }

    /// The names of a lower object's attributes, as they are shown.
    fn names_below(&self, lower: &LowerRef) -> Result<Vec<Vec<u8>>> {
        let space = self.space();
        let (layer, from) = (lower.layer(), lower.node());
        let names = layer.xattr_names(from)?;
        if layer.overlay_xattrs_are_data() {
            return Ok(names.into_iter().map(Vec::from).collect());
        }
        let names = names.iter().map(|name| OsStr::from_bytes(name));
        let shown = names.filter(|name| !self.hides(name));
        let shown = shown.filter_map(|name| space.unescape(name));
        Ok(shown.map(OsStringExt::into_vec).collect())
    }

    /// Whether any object of the lowers has an attribute. Looks at each of them, and asks `go_on` before
    /// each directory; `None` when that said no.
    ///
    /// # Errors
    /// What the layers report.
    pub fn has_xattrs_anywhere(&self, go_on: &dyn Fn() -> bool) -> Result<Option<bool>> {
        let mut dirs = self.root.lower().to_vec();
        for root in &dirs {
            if !self.names_below(root)?.is_empty() {
                return Ok(Some(true));
            }
        }
        while let Some(dir) = dirs.pop() {
            if !go_on() {
                return Ok(None);
            }
            let mut names = Vec::new();
            dir.layer().read_dir(dir.node(), &mut |item| {
                names.extend(item.kind.is_some().then(|| NameBuf::from(item.name)));
                Ok(())
            })?;
            for name in names {
                let Some(Entry::Node(entry)) = dir.layer().lookup(dir.node(), &name)? else {
                    continue;
                };
                let object = dir.child(entry.node);
                if !entry.marks.no_xattrs && !self.names_below(&object)?.is_empty() {
                    return Ok(Some(true));
                }
                if entry.stat.is_dir() {
                    dirs.push(object);
                }
            }
        }
        Ok(Some(false))
    }

    /// Sets an attribute. `flags` are setxattr(2)'s (`XATTR_CREATE`, `XATTR_REPLACE`).
    ///
    /// # Errors
    /// `EEXIST`, `ENODATA` by the flags, `EROFS`, `EPERM` for an attribute that is on disk only; what the upper's file system reports.
    pub fn set_xattr(
        &self,
        node: &Arc<Node>,
        name: &OsStr,
        value: &[u8],
        flags: i32,
    ) -> Result<()> {
        let flags = u32::try_from(flags).ok().and_then(XattrFlags::from_bits);
        let flags = flags.ok_or_else(|| Error::new(Errno::EINVAL))?;
        self.check_name(name)?;
        if self.hides(name) || name == LAYER {
            return Err(Error::new(Errno::EPERM));
        }
        self.copy_up(node, Data::Attributes)?;
        let _tree = self.tree.read();
        self.forget_known(node, name);
        self.place(node)?
            .set_xattr(&self.space().escape(name), value, flags)?;
        node.show_own_ctime();
        Ok(())
    }

    /// Removes an attribute.
    ///
    /// # Errors
    /// `ENODATA`, `EROFS`; what the upper's file system reports.
    pub fn remove_xattr(&self, node: &Arc<Node>, name: &OsStr) -> Result<()> {
        self.writable()?;
        // Nothing is copied up for an attribute that isn't there.
        if self.hides(name)
            || name == LAYER
            || (!node.has_upper() && self.xattr(node, name)?.is_none())
        {
            return Err(Error::new(Errno::ENODATA));
        }
        self.copy_up(node, Data::Attributes)?;
        let _tree = self.tree.read();
        self.forget_known(node, name);
        self.place(node)?.remove_xattr(&self.space().escape(name))?;
        node.show_own_ctime();
        Ok(())
    }

    fn forget_known(&self, node: &Node, name: &OsStr) {
        if name == DEFAULT_ACL {
            node.with_state(|s| s.default_acl = None);
        }
        node.with_state(|s| {
            s.xattrs = match name == CAPABILITIES || s.xattrs == Xattrs::Unknown {
                true => Xattrs::Unknown,
                false => Xattrs::NoCapabilities,
            };
        });
    }
}
