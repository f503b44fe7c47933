//! Layer tars: reading them without trusting them, and writing them reproducibly.

mod pax;
pub mod reader;
mod sparse;
pub mod writer;

pub use reader::TarReader;
pub use writer::TarWriter;

use crate::stat::{Stat, Timespec};

/// The longest value of an extended attribute (`XATTR_SIZE_MAX`), in bytes.
pub(crate) const MAX_XATTR_VALUE: usize = 65536;

/// What a tar member is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemberKind {
    /// A regular file.
    Regular,
    /// A hard link to the member with this path (components, as [`Member::path`]).
    HardLink(Vec<u8>),
    /// A symbolic link with this target, as it stands.
    Symlink(Vec<u8>),
    /// A character device (`makedev` encoding).
    CharDevice(u64),
    /// A block device (`makedev` encoding).
    BlockDevice(u64),
    /// A directory.
    Directory,
    /// A named pipe.
    Fifo,
}

/// A run of data of a sparse member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Offset in the file.
    pub offset: u64,
    /// Length in bytes.
    pub len: u64,
    /// Offset in the member's stored data.
    pub stored: u64,
}

/// A tar member, checked: its path can't leave the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Path from the root: no leading or trailing `/`, no empty, `.` or `..` component, no NUL.
    /// Empty for the root itself. AUFS whiteout names are left as they are.
    pub path: Vec<u8>,
    /// The type, with what belongs to it.
    pub kind: MemberKind,
    /// Permission bits with setuid, setgid and sticky.
    pub perm: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last change of the contents.
    pub mtime: Timespec,
    /// Last access, where the archive has it.
    pub atime: Option<Timespec>,
    /// Last change of the attributes, where the archive has it.
    pub ctime: Option<Timespec>,
    /// Length of a regular file in bytes, holes included.
    pub size: u64,
    /// Where the stored data starts in the uncompressed archive.
    pub data_offset: u64,
    /// How many bytes of data are stored (less than `size` for a sparse file).
    pub stored_size: u64,
    /// The runs of data of a sparse file, ascending, within `size`; `None` for an ordinary one.
    pub sparse: Option<Vec<Segment>>,
    /// Extended attributes (`SCHILY.xattr.*`), sorted by name, each name once.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Member {
    /// A member for an object with these attributes. Of its times only the last change of the contents is
    /// kept, so that an archive doesn't depend on when it is made.
    #[must_use]
    pub fn new(path: &[u8], kind: MemberKind, stat: &Stat) -> Self {
        let size = match kind {
            MemberKind::Regular => stat.size,
            _ => 0,
        };
        Self {
            path: path.to_vec(),
            kind,
            perm: stat.perm,
            uid: stat.uid,
            gid: stat.gid,
            mtime: stat.mtime,
            atime: None,
            ctime: None,
            size,
            data_offset: 0,
            stored_size: size,
            sparse: None,
            xattrs: Vec::new(),
        }
    }
}
