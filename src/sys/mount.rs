//! Mounts of one's own: private, read-only views of a directory.
#![expect(
    unsafe_code,
    reason = "mount_setattr(2) takes a structure that no crate here knows"
)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::CWD;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

/// `struct mount_attr`
#[repr(C)]
#[derive(Default)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

const MOUNT_ATTR_RDONLY: u64 = 1;

/// Opens a directory through a private, read-only clone of its mount, without what is mounted
/// below it: nothing that is reached from the descriptor can be opened for writing. The clone goes
/// with the last descriptor in it.
///
/// # Errors
/// `EPERM` without CAP_SYS_ADMIN; `EINVAL` where a user namespace inherited mounts below; what
/// open(2) reports.
pub fn read_only_clone(path: &Path) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = open_tree(CWD, path, flags)?;
    let attr = MountAttr {
        attr_set: MOUNT_ATTR_RDONLY,
        ..MountAttr::default()
    };
    // SAFETY: the path is a NUL-terminated empty string; `attr` has the layout of struct mount_attr
    // in its first version, whose size is passed; both outlive the call.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_fd().as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    };
    if done == 0 {
        Ok(tree)
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Mounts a clone somewhere.
///
/// # Errors
/// What move_mount(2) reports.
pub fn attach(tree: &OwnedFd, at: &Path) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    Ok(move_mount(tree, c"", CWD, at, flags)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{Mode, OFlags};

    #[test]
    fn nothing_in_a_clone_can_be_written() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("f"), b"old").unwrap();
        match read_only_clone(dir.path()) {
            Err(e) => assert!(!rustix::process::geteuid().is_root(), "{e}"),
            Ok(clone) => {
                let write = rustix::fs::openat(&clone, c"f", OFlags::WRONLY, Mode::empty());
                assert_eq!(write.unwrap_err(), rustix::io::Errno::ROFS);
                rustix::fs::openat(&clone, c"f", OFlags::RDONLY, Mode::empty()).unwrap();
            }
        }
    }
}
