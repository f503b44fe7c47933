//! File handles: names of inodes that outlive descriptors (name_to_handle_at(2)).
#![expect(unsafe_code, reason = "the calls take a structure of variable length")]

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

/// The longest handle, in bytes (`MAX_HANDLE_SZ`).
const MAX: usize = 128;

/// A file handle: its type, and bytes that mean something to the file system only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileHandle {
    /// `handle_type`
    pub kind: i32,
    /// `f_handle`
    pub bytes: Vec<u8>,
}

#[repr(C)]
struct Raw {
    len: u32,
    kind: i32,
    bytes: [u8; MAX],
}

/// The handle of a descriptor's object (`O_PATH` will do).
///
/// # Errors
/// `EOPNOTSUPP` where the file system has no handles.
pub fn of(fd: impl AsFd) -> io::Result<FileHandle> {
    at(fd, c"", libc::AT_EMPTY_PATH)
}

/// The handle of what is in a directory under a name; of a link, its own.
///
/// # Errors
/// As [`of`]; `ENOENT`.
pub fn of_name(dir: impl AsFd, name: &OsStr) -> io::Result<FileHandle> {
    at(dir, &CString::new(name.as_bytes())?, 0)
}

fn at(dir: impl AsFd, path: &CStr, flags: libc::c_int) -> io::Result<FileHandle> {
    let mut raw = Raw {
        len: 128,
        kind: 0,
        bytes: [0; MAX],
    };
    let mut mount_id: libc::c_int = 0;
    // SAFETY: `raw` has the layout of struct file_handle with room for as many bytes as its first
    // field says; the path is a NUL-terminated string; both outlive the call.
    let done = unsafe {
        libc::syscall(
            libc::SYS_name_to_handle_at,
            dir.as_fd().as_raw_fd(),
            path.as_ptr(),
            &raw mut raw,
            &raw mut mount_id,
            flags,
        )
    };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    let bytes = raw.bytes.iter().take(raw.len as usize).copied().collect();
    Ok(FileHandle {
        kind: raw.kind,
        bytes,
    })
}

/// Opens (`O_PATH`) the object of a handle on the file system of `mount`, which is no `O_PATH`
/// descriptor. Needs CAP_DAC_READ_SEARCH.
///
/// # Errors
/// `ESTALE` when there is no such object any more; `EPERM`.
pub fn open(mount: impl AsFd, handle: &FileHandle) -> io::Result<OwnedFd> {
    let mut raw = Raw {
        len: 0,
        kind: handle.kind,
        bytes: [0; MAX],
    };
    if handle.bytes.len() > MAX {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    for (to, from) in raw.bytes.iter_mut().zip(&handle.bytes) {
        *to = *from;
        raw.len += 1;
    }
    // SAFETY: `raw` is a struct file_handle that outlives the call; what is returned is a new
    // descriptor that nobody else owns.
    unsafe {
        let fd = libc::syscall(
            libc::SYS_open_by_handle_at,
            mount.as_fd().as_raw_fd(),
            &raw const raw,
            libc::O_PATH | libc::O_CLOEXEC | libc::O_NOFOLLOW,
        );
        let Ok(fd) = libc::c_int::try_from(fd) else {
            return Err(io::Error::from_raw_os_error(libc::EBADF));
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// The UUID of a descriptor's file system; zeros where it can't be told (`FS_IOC_GETFSUUID`,
/// Linux 6.9).
#[must_use]
pub fn fs_uuid(fd: impl AsFd) -> [u8; 16] {
    #[repr(C)]
    struct Uuid {
        len: u8,
        bytes: [u8; 16],
    }
    const FS_IOC_GETFSUUID: libc::c_ulong = 0x8011_1500;
    let mut uuid = Uuid {
        len: 0,
        bytes: [0; 16],
    };
    // SAFETY: the request writes one struct fsuuid2, which has the layout of `Uuid`.
    let done = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), FS_IOC_GETFSUUID, &raw mut uuid) };
    if done == 0 && uuid.len == 16 {
        uuid.bytes
    } else {
        [0; 16]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt as _;

    #[test]
    fn a_handle_finds_its_inode_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let file = std::fs::File::create(&path).unwrap();
        let handle = of(&file).unwrap();
        std::fs::rename(&path, dir.path().join("g")).unwrap();
        let mount = std::fs::File::open(dir.path()).unwrap();
        if rustix::process::geteuid().is_root() {
            let again = open(&mount, &handle).unwrap();
            let again = rustix::fs::fstat(&again).unwrap();
            assert_eq!(again.st_ino, file.metadata().unwrap().ino());
            let wrong = FileHandle {
                bytes: vec![0xff; 200],
                ..handle
            };
            assert!(open(&mount, &wrong).is_err());
        }
    }
}
