//! The kernel's structures, as `<linux/fuse.h>` has them: what a request carries and what a reply
//! is made of. Plain data; nothing is decided here.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::error::{Errno, Error, Result};
use crate::stat::Timespec;
use crate::union::{SetAttr, SetTime};

/// What requests ask for.
pub(super) mod op {
    pub const LOOKUP: u32 = 1;
    pub const FORGET: u32 = 2;
    pub const GETATTR: u32 = 3;
    pub const SETATTR: u32 = 4;
    pub const READLINK: u32 = 5;
    pub const SYMLINK: u32 = 6;
    pub const MKNOD: u32 = 8;
    pub const MKDIR: u32 = 9;
    pub const UNLINK: u32 = 10;
    pub const RMDIR: u32 = 11;
    pub const RENAME: u32 = 12;
    pub const LINK: u32 = 13;
    pub const OPEN: u32 = 14;
    pub const READ: u32 = 15;
    pub const WRITE: u32 = 16;
    pub const STATFS: u32 = 17;
    pub const RELEASE: u32 = 18;
    pub const FSYNC: u32 = 20;
    pub const SETXATTR: u32 = 21;
    pub const GETXATTR: u32 = 22;
    pub const LISTXATTR: u32 = 23;
    pub const REMOVEXATTR: u32 = 24;
    pub const FLUSH: u32 = 25;
    pub const INIT: u32 = 26;
    pub const OPENDIR: u32 = 27;
    pub const READDIR: u32 = 28;
    pub const RELEASEDIR: u32 = 29;
    pub const FSYNCDIR: u32 = 30;
    pub const CREATE: u32 = 35;
    pub const INTERRUPT: u32 = 36;
    pub const DESTROY: u32 = 38;
    pub const IOCTL: u32 = 39;
    pub const NOTIFY_REPLY: u32 = 41;
    pub const BATCH_FORGET: u32 = 42;
    pub const FALLOCATE: u32 = 43;
    pub const READDIRPLUS: u32 = 44;
    pub const RENAME2: u32 = 45;
    pub const LSEEK: u32 = 46;
    pub const COPY_FILE_RANGE: u32 = 47;
    pub const SYNCFS: u32 = 50;
    pub const TMPFILE: u32 = 51;
    pub const STATX: u32 = 52;
    pub const COPY_FILE_RANGE_64: u32 = 53;
}

/// What a request asks for, as it is counted.
pub(super) fn operation(opcode: u32) -> &'static str {
    match opcode {
        op::LOOKUP => "lookup",
        op::GETATTR => "getattr",
        op::SETATTR => "setattr",
        op::READLINK => "readlink",
        op::SYMLINK => "symlink",
        op::MKNOD => "mknod",
        op::MKDIR => "mkdir",
        op::UNLINK => "unlink",
        op::RMDIR => "rmdir",
        op::RENAME | op::RENAME2 => "rename",
        op::LINK => "link",
        op::OPEN => "open",
        op::READ => "read",
        op::WRITE => "write",
        op::STATFS => "statfs",
        op::FSYNC => "fsync",
        op::SETXATTR => "setxattr",
        op::GETXATTR => "getxattr",
        op::LISTXATTR => "listxattr",
        op::REMOVEXATTR => "removexattr",
        op::OPENDIR => "opendir",
        op::READDIR => "readdir",
        op::READDIRPLUS => "readdirplus",
        op::CREATE => "create",
        op::FALLOCATE => "fallocate",
        op::LSEEK => "lseek",
        op::TMPFILE => "tmpfile",
        op::STATX => "statx",
        _ => "other",
    }
}

/// The most that an operation's own structure takes, in bytes (`FUSE_URING_OP_IN_OUT_SZ`).
pub(super) const FIXED_MOST: usize = 128;

/// How long the structure is that a request of this kind begins with. Of an unknown kind nothing is
/// read.
pub(super) fn fixed_len(opcode: u32) -> usize {
    match opcode {
        op::FORGET | op::MKDIR | op::RENAME | op::LINK | op::OPEN | op::OPENDIR => 8,
        op::GETXATTR | op::LISTXATTR | op::INTERRUPT | op::BATCH_FORGET | op::SYNCFS => 8,
        op::GETATTR | op::MKNOD | op::CREATE | op::TMPFILE | op::FSYNC | op::FSYNCDIR => 16,
        op::RENAME2 | op::SETXATTR => 16,
        op::RELEASE | op::RELEASEDIR | op::FLUSH | op::LSEEK | op::STATX => 24,
        op::FALLOCATE | op::IOCTL => 32,
        op::READ | op::WRITE | op::READDIR | op::READDIRPLUS => 40,
        op::COPY_FILE_RANGE | op::COPY_FILE_RANGE_64 => 56,
        op::INIT => 64,
        op::SETATTR => 88,
        _ => 0,
    }
}

/// Reads a structure from the beginning of some bytes.
///
/// # Errors
/// `EINVAL` when there are too few.
pub(super) fn read<T: FromBytes + KnownLayout + Immutable>(bytes: &[u8]) -> Result<T> {
    match T::read_from_prefix(bytes) {
        Ok((value, _)) => Ok(value),
        Err(_) => Err(Error::with(Errno::EINVAL, "a request is too short")),
    }
}

/// Takes a name, with its NUL, from the beginning of some bytes.
///
/// # Errors
/// `EINVAL` when there is none.
pub(super) fn take_name<'b>(bytes: &mut &'b [u8]) -> Result<&'b [u8]> {
    let end = bytes.iter().position(|b| *b == 0);
    let split = end.and_then(|end| Some((bytes.get(..end)?, bytes.get(end + 1..)?)));
    let (name, rest) = split.ok_or_else(|| Error::with(Errno::EINVAL, "a name without an end"))?;
    *bytes = rest;
    Ok(name)
}

/// Declares structures that are copied from or to the kernel, field by field as it has them.
macro_rules! wire {
    ($($(#[$doc:meta])* $name:ident { $($field:ident: $type:ty),* $(,)? })*) => {
        $($(#[$doc])*
        #[repr(C)]
        #[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
        pub(super) struct $name { $(pub $field: $type),* })*
    };
}

wire! {
    /// `fuse_in_header`
    InHeader {
        len: u32, opcode: u32, unique: u64, nodeid: u64, uid: u32, gid: u32, pid: u32,
        total_extlen: u16, padding: u16,
    }
    /// `fuse_out_header`
    OutHeader { len: u32, error: i32, unique: u64 }
    /// `fuse_notify_inval_inode_out`
    InvalInode { ino: u64, offset: i64, len: i64 }
    /// `fuse_notify_inval_entry_out`
    InvalEntry { parent: u64, name_len: u32, flags: u32 }
    /// `fuse_notify_store_out`
    Store { nodeid: u64, offset: u64, size: u32, padding: u32 }
    /// `fuse_uring_ent_in_out`
    RingHeader { flags: u64, commit_id: u64, payload_len: u32, padding: u32, reserved: u64 }
    /// `fuse_init_in`
    InitIn {
        major: u32, minor: u32, max_readahead: u32, flags: u32, flags2: u32, unused: [u32; 11],
    }
    /// `fuse_init_out`
    InitOut {
        major: u32, minor: u32, max_readahead: u32, flags: u32, max_background: u16,
        congestion_threshold: u16, max_write: u32, time_gran: u32, max_pages: u16,
        map_alignment: u16, flags2: u32, max_stack_depth: u32, request_timeout: u16,
        unused: [u16; 11],
    }
    /// `fuse_forget_in`
    ForgetIn { nlookup: u64 }
    /// `fuse_batch_forget_in`
    BatchForgetIn { count: u32, dummy: u32 }
    /// `fuse_forget_one`
    ForgetOne { nodeid: u64, nlookup: u64 }
    /// `fuse_interrupt_in`
    InterruptIn { unique: u64 }
    /// `fuse_setattr_in`
    SetattrIn {
        valid: u32, padding: u32, fh: u64, size: u64, lock_owner: u64, atime: i64, mtime: i64,
        ctime: i64, atimensec: u32, mtimensec: u32, ctimensec: u32, mode: u32, unused4: u32,
        uid: u32, gid: u32, unused5: u32,
    }
    /// `fuse_mknod_in`
    MknodIn { mode: u32, rdev: u32, umask: u32, padding: u32 }
    /// `fuse_mkdir_in`
    MkdirIn { mode: u32, umask: u32 }
    /// `fuse_rename2_in`, of which `fuse_rename_in` is the beginning
    RenameIn { newdir: u64, flags: u32, padding: u32 }
    /// `fuse_link_in`
    LinkIn { oldnodeid: u64 }
    /// `fuse_open_in`
    OpenIn { flags: i32, open_flags: u32 }
    /// `fuse_create_in`
    CreateIn { flags: i32, mode: u32, umask: u32, open_flags: u32 }
    /// `fuse_read_in`
    ReadIn {
        fh: u64, offset: u64, size: u32, read_flags: u32, lock_owner: u64, flags: u32,
        padding: u32,
    }
    /// `fuse_write_in`
    WriteIn {
        fh: u64, offset: u64, size: u32, write_flags: u32, lock_owner: u64, flags: u32,
        padding: u32,
    }
    /// `fuse_release_in`
    ReleaseIn { fh: u64, flags: u32, release_flags: u32, lock_owner: u64 }
    /// `fuse_fsync_in`
    FsyncIn { fh: u64, flags: u32, padding: u32 }
    /// `fuse_setxattr_in`, with the extension
    SetxattrIn { size: u32, flags: i32, setxattr_flags: u32, padding: u32 }
    /// `fuse_getxattr_in`
    GetxattrIn { size: u32, padding: u32 }
    /// `fuse_fallocate_in`
    FallocateIn { fh: u64, offset: u64, length: u64, mode: i32, padding: u32 }
    /// `fuse_lseek_in`
    LseekIn { fh: u64, offset: i64, whence: i32, padding: u32 }
    /// `fuse_copy_file_range_in`
    CopyFileRangeIn {
        fh_in: u64, off_in: u64, nodeid_out: u64, fh_out: u64, off_out: u64, len: u64, flags: u64,
    }
    /// `fuse_attr`
    Attr {
        ino: u64, size: u64, blocks: u64, atime: i64, mtime: i64, ctime: i64, atimensec: u32,
        mtimensec: u32, ctimensec: u32, mode: u32, nlink: u32, uid: u32, gid: u32, rdev: u32,
        blksize: u32, flags: u32,
    }
    /// `fuse_entry_out`
    EntryOut {
        nodeid: u64, generation: u64, entry_valid: u64, attr_valid: u64, entry_valid_nsec: u32,
        attr_valid_nsec: u32, attr: Attr,
    }
    /// `fuse_attr_out`
    AttrOut { attr_valid: u64, attr_valid_nsec: u32, dummy: u32, attr: Attr }
    /// `fuse_open_out`
    OpenOut { fh: u64, open_flags: u32, backing_id: i32 }
    /// `fuse_entry_out` and `fuse_open_out`
    CreateOut { entry: EntryOut, open: OpenOut }
    /// `fuse_write_out`, `fuse_getxattr_out`
    SizeOut { size: u32, padding: u32 }
    /// `fuse_lseek_out`, `fuse_copy_file_range_out`
    OffsetOut { offset: u64 }
    /// `fuse_statfs_out`
    StatfsOut {
        blocks: u64, bfree: u64, bavail: u64, files: u64, ffree: u64, bsize: u32, namelen: u32,
        frsize: u32, padding: u32, spare: [u32; 6],
    }
    /// `fuse_dirent`, without the name
    Dirent { ino: u64, off: u64, namelen: u32, kind: u32 }
    /// `fuse_sx_time`
    StatxTime { sec: i64, nsec: u32, reserved: i32 }
    /// `fuse_statx_out` with its `fuse_statx`
    StatxOut {
        attr_valid: u64, attr_valid_nsec: u32, out_flags: u32, spare: [u64; 2],
        mask: u32, blksize: u32, attributes: u64, nlink: u32, uid: u32, gid: u32, mode: u16,
        spare0: u16, ino: u64, size: u64, blocks: u64, attributes_mask: u64, atime: StatxTime,
        btime: StatxTime, ctime: StatxTime, mtime: StatxTime, rdev_major: u32, rdev_minor: u32,
        dev_major: u32, dev_minor: u32, spare2: [u64; 14],
    }
}

impl SetattrIn {
    /// What is to be changed.
    pub fn changes(&self) -> SetAttr {
        let has = |flag| self.valid & flag != 0;
        let time = |flag, now, sec, nsec| match (has(flag), has(now)) {
            (false, _) => None,
            (true, true) => Some(SetTime::Now),
            (true, false) => Some(SetTime::At(Timespec { sec, nsec })),
        };
        SetAttr {
            perm: has(fattr::MODE).then_some(self.mode & 0o7777),
            uid: has(fattr::UID).then_some(self.uid),
            gid: has(fattr::GID).then_some(self.gid),
            size: has(fattr::SIZE).then_some(self.size),
            atime: time(fattr::ATIME, fattr::ATIME_NOW, self.atime, self.atimensec),
            mtime: time(fattr::MTIME, fattr::MTIME_NOW, self.mtime, self.mtimensec),
            kill_priv: has(fattr::KILL_SUIDGID),
        }
    }
}

/// `FATTR_*`
pub(super) mod fattr {
    pub const MODE: u32 = 1;
    pub const UID: u32 = 1 << 1;
    pub const GID: u32 = 1 << 2;
    pub const SIZE: u32 = 1 << 3;
    pub const ATIME: u32 = 1 << 4;
    pub const MTIME: u32 = 1 << 5;
    pub const FH: u32 = 1 << 6;
    pub const ATIME_NOW: u32 = 1 << 7;
    pub const MTIME_NOW: u32 = 1 << 8;
    pub const KILL_SUIDGID: u32 = 1 << 11;
}

/// `FUSE_OPEN_KILL_SUIDGID`, in requests to open and create.
pub(super) const OPEN_KILL_SUIDGID: u32 = 1;

/// `FUSE_WRITE_KILL_SUIDGID`
pub(super) const WRITE_KILL_SUIDGID: u32 = 1 << 2;

/// `FUSE_SETXATTR_ACL_KILL_SGID`
pub(super) const SETXATTR_ACL_KILL_SGID: u32 = 1;

/// `FUSE_NOTIFY_*`: what the kernel is told without having asked.
pub(super) mod notify {
    pub const INVAL_INODE: i32 = 2;
    pub const INVAL_ENTRY: i32 = 3;
    pub const STORE: i32 = 4;
}

/// `FUSE_FSYNC_FDATASYNC`
pub(super) const FSYNC_DATA: u32 = 1;

/// `FOPEN_*`
pub(super) mod fopen {
    pub const KEEP_CACHE: u32 = 1 << 1;
    pub const CACHE_DIR: u32 = 1 << 3;
    pub const NOFLUSH: u32 = 1 << 5;
    pub const PASSTHROUGH: u32 = 1 << 7;
}

/// Flags of INIT.
pub(super) mod init {
    pub const ASYNC_READ: u64 = 1;
    pub const ATOMIC_O_TRUNC: u64 = 1 << 3;
    pub const EXPORT_SUPPORT: u64 = 1 << 4;
    pub const BIG_WRITES: u64 = 1 << 5;
    pub const DONT_MASK: u64 = 1 << 6;
    pub const DO_READDIRPLUS: u64 = 1 << 13;
    pub const ASYNC_DIO: u64 = 1 << 15;
    pub const NO_OPEN_SUPPORT: u64 = 1 << 17;
    pub const PARALLEL_DIROPS: u64 = 1 << 18;
    pub const NO_OPENDIR_SUPPORT: u64 = 1 << 24;
    pub const POSIX_ACL: u64 = 1 << 20;
    pub const MAX_PAGES: u64 = 1 << 22;
    pub const CACHE_SYMLINKS: u64 = 1 << 23;
    pub const HANDLE_KILLPRIV_V2: u64 = 1 << 28;
    pub const SETXATTR_EXT: u64 = 1 << 29;
    pub const INIT_EXT: u64 = 1 << 30;
    pub const PASSTHROUGH: u64 = 1 << 37;
    pub const OVER_IO_URING: u64 = 1 << 41;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_have_the_kernels_sizes() {
        assert_eq!(size_of::<InHeader>(), 40);
        assert_eq!(size_of::<OutHeader>(), 16);
        assert_eq!(size_of::<RingHeader>(), 32);
        assert_eq!(size_of::<InitIn>(), fixed_len(op::INIT));
        assert_eq!(size_of::<InitOut>(), 64);
        assert_eq!(size_of::<SetattrIn>(), fixed_len(op::SETATTR));
        assert_eq!(size_of::<ReadIn>(), fixed_len(op::READ));
        assert_eq!(size_of::<WriteIn>(), fixed_len(op::WRITE));
        assert_eq!(size_of::<RenameIn>(), fixed_len(op::RENAME2));
        assert_eq!(size_of::<ReleaseIn>(), fixed_len(op::RELEASE));
        assert_eq!(size_of::<LseekIn>(), fixed_len(op::LSEEK));
        assert_eq!(size_of::<FallocateIn>(), fixed_len(op::FALLOCATE));
        assert_eq!(size_of::<CopyFileRangeIn>(), fixed_len(op::COPY_FILE_RANGE));
        assert_eq!(size_of::<Attr>(), 88);
        assert_eq!(size_of::<EntryOut>(), 128);
        assert_eq!(size_of::<AttrOut>(), 104);
        assert_eq!(size_of::<StatfsOut>(), 80);
        assert_eq!(size_of::<Dirent>(), 24);
        assert_eq!(size_of::<StatxOut>(), 288);
    }

    #[test]
    fn names_end() {
        let mut bytes = b"old\0new\0rest".as_slice();
        assert_eq!(take_name(&mut bytes).unwrap(), b"old");
        assert_eq!(take_name(&mut bytes).unwrap(), b"new");
        assert_eq!(bytes, b"rest");
        assert_eq!(take_name(&mut bytes).unwrap_err().errno(), Errno::EINVAL);
        assert!(take_name(&mut b"".as_slice()).is_err());
        assert!(read::<SetattrIn>(&[0; 87]).is_err());
        assert!(read::<SetattrIn>(&[0; 88]).is_ok());
    }
}
