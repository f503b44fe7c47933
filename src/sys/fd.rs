//! Descriptors as paths: `/proc/self/fd/N` reaches the very object of an `O_PATH` descriptor, also
//! a symbolic link's own inode and an unlinked file's.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;

/// The path that reaches the object of a descriptor. System calls that *follow* links end at the
/// object itself.
#[must_use]
pub fn magic_path(fd: impl AsFd) -> OsString {
    format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd()).into()
}

/// The path of `name` in the directory of a descriptor.
#[must_use]
pub fn magic_path_in(dir: impl AsFd, name: &OsStr) -> OsString {
    let mut path = Vec::with_capacity(24 + name.len());
    path.extend_from_slice(b"/proc/self/fd/");
    path.extend_from_slice(dir.as_fd().as_raw_fd().to_string().as_bytes());
    path.push(b'/');
    path.extend_from_slice(name.as_bytes());
    OsStr::from_bytes(&path).to_os_string()
}
