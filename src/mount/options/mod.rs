//! `-o` lists, as mount(8), overlayfs, fuse-overlayfs and FUSE have them.
//!
//! What each word does is data, in `table`; how a list is taken apart is in `words`; this is what
//! comes out.

mod table;
mod values;
mod words;

#[cfg(test)]
mod tests;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use rustix::mount::{MountFlags, MountPropagationFlags};

use crate::error::Failure;
pub use crate::fuse::transport::Wanted as Transport;
use crate::fuse::{Ids, Lifetimes, Pages};
use crate::layer::owner_record::RecordName;
use crate::union::RedirectDir;
pub use values::{Switch, Verity, Xino};

/// What `-o` says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MountOptions {
    /// No changes.
    pub read_only: bool,
    /// Change the options of the mount that is there (mount(8), `remount`).
    pub remount: bool,
    /// Flags for mount(2), `MS_RDONLY` aside.
    pub flags: Flags,
    /// How mounts and unmounts below spread to peers; `None`: as the parent mount has it.
    pub propagation: Option<MountPropagationFlags>,
    /// Who may use the mount; `None`: everybody for a mount of root's.
    pub users: Option<Users>,
    /// Words for the kernel, as they are.
    pub kernel_words: Vec<String>,
    /// What `/proc/mounts` is to name as the source.
    pub fsname: Option<String>,
    /// The store's directory.
    pub root: Option<PathBuf>,
    /// The image to mount.
    pub image: Option<String>,
    /// The container to mount.
    pub container: Option<String>,
    /// The new container's name.
    pub name: Option<String>,
    /// Whether the new container goes when it is unmounted.
    pub remove: bool,
    /// How requests reach the daemon.
    pub transport: Transport,
    /// Where the kernel keeps what is read of a read-only mount; `None`: in the mount.
    pub pages: Option<Pages>,
    /// How many nodes of unchanged objects stay in the daemon's memory that could be made again;
    /// `None`: [`NODES_KEPT`](crate::union::NODES_KEPT).
    pub nodes: Option<usize>,
    /// Directory layers, top first.
    pub lowers: Vec<PathBuf>,
    /// Directory layers below all others whose files are seen only through redirects of metacopies
    /// ("Data-only lower layers").
    pub data_lowers: Vec<PathBuf>,
    /// The writable directory layer.
    pub upper: Option<PathBuf>,
    /// The upper's work directory.
    pub work: Option<PathBuf>,
    /// Copied-up data may be lost in a crash.
    pub volatile: bool,
    /// Overlay's marks are `user.overlay.*` attributes.
    pub userxattr: bool,
    /// AUFS's and fuse-overlayfs's whiteouts in lowers count too.
    pub aufs: bool,
    /// [`ServeOptions::spare_xattrs`](crate::fuse::ServeOptions::spare_xattrs)
    pub spare_xattrs: bool,
    /// A change of attributes alone copies no data. The store's containers always do so.
    pub metacopy: Option<Switch>,
    /// What renaming a directory that has lower parts does.
    pub redirect_dir: Option<RedirectDir>,
    /// Hard links stay links over copy-up.
    pub index: Option<Switch>,
    /// File handles survive copy-up and remounts.
    pub nfs_export: Option<Switch>,
    /// Inode numbers that name the layer's file system too.
    pub xino: Option<Xino>,
    /// Digests of data-only files.
    pub verity: Option<Verity>,
    /// Owner, mode and type are kept in an extended attribute.
    pub xattr_permissions: Option<RecordName>,
    /// Whom files are shown to belong to.
    pub ids: Ids,
    /// How long the kernel keeps names and attributes.
    pub lifetimes: Lifetimes,
    /// Directories are shown with one link.
    pub static_nlink: bool,
    /// There are no extended attributes.
    pub noxattrs: bool,
    /// There are no ACLs.
    pub noacl: bool,
    /// A read-only mount becomes a part of one above it ([`super::joint`]), and others of this one;
    /// `None`: as the program was called.
    pub joint: Option<bool>,
    /// Serve in this process and say much.
    pub debug: bool,
    /// Options that have no effect here, to be said once.
    pub ignored: Vec<String>,
}

/// Who may use a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Users {
    /// Everybody, as far as permissions allow (`allow_other`).
    All,
    /// Who mounted it, and root (`allow_root`).
    OwnerAndRoot,
}

/// Flags of mount(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flags(pub MountFlags);

impl Default for Flags {
    /// Programs keep their set-user-ID bits; devices are no devices.
    fn default() -> Self {
        Self(MountFlags::NODEV)
    }
}

impl MountOptions {
    /// Takes one `-o` list in; later words win. A backslash before a comma keeps it in a value, one
    /// before a colon keeps it in a path of `lowerdir`; commas between double quotes stay too.
    ///
    /// # Errors
    /// `Usage` for an unknown word, with the nearest known one, and for a value that can't be.
    pub fn parse(&mut self, list: impl AsRef<OsStr>) -> Result<(), Failure> {
        for item in words::split_list(list.as_ref().as_bytes()) {
            table::take(self, item)?;
        }
        Ok(())
    }

    /// The same, but leaves out what nobody knows (mount(8), `-s`).
    ///
    /// # Errors
    /// `Usage` for a value that can't be.
    pub fn parse_known(&mut self, list: impl AsRef<OsStr>) -> Result<(), Failure> {
        for item in words::split_list(list.as_ref().as_bytes()) {
            if table::knows(item) {
                table::take(self, item)?;
            }
        }
        Ok(())
    }

    /// The flags for mount(2).
    #[must_use]
    pub fn mount_flags(&self) -> MountFlags {
        let mut flags = self.flags.0;
        flags.set(MountFlags::RDONLY, self.read_only);
        flags
    }

    /// One line on the options that have no effect here, if there are any.
    #[must_use]
    pub fn notice(&self) -> Option<String> {
        let mut words = self.ignored.clone();
        words.sort();
        words.dedup();
        (!words.is_empty()).then(|| format!("no effect here: {}", words.join(", ")))
    }

    /// Whether directories are named as layers.
    #[must_use]
    pub fn has_layers(&self) -> bool {
        !self.lowers.is_empty() || !self.data_lowers.is_empty() || self.upper.is_some()
    }

    /// What overlayfs and fuse-overlayfs do when nothing is said, where we would do more, the forms
    /// that fuse-overlayfs reads in lowers, and no questions about attributes that nothing has.
    pub fn as_mount_program(&mut self) {
        self.aufs = true;
        self.spare_xattrs = true;
        self.redirect_dir.get_or_insert(RedirectDir::Follow);
        self.joint.get_or_insert(true);
    }

    fn ignore(&mut self, word: &str) {
        self.ignored.push(word.to_owned());
    }

    fn set_timeout(&mut self, limit: Duration) {
        self.lifetimes = Lifetimes {
            entry: limit,
            attr: limit,
            absent: limit,
        };
    }
}
