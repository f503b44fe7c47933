//! Files that the kernel's FUSE reads and writes by itself: registered by ioctl(2) on `/dev/fuse`.
#![expect(
    unsafe_code,
    reason = "ioctl(2) with structures that no crate here knows"
)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::ioctl::opcode;

/// `struct fuse_backing_map`
#[repr(C)]
struct BackingMap {
    fd: i32,
    flags: u32,
    padding: u64,
}

/// `FUSE_DEV_IOC_BACKING_OPEN`
const BACKING_OPEN: libc::Ioctl = opcode::write::<BackingMap>(229, 1) as libc::Ioctl;

/// `FUSE_DEV_IOC_BACKING_CLOSE`
const BACKING_CLOSE: libc::Ioctl = opcode::write::<u32>(229, 2) as libc::Ioctl;

/// Registers a file with a FUSE connection; its number there.
///
/// # Errors
/// `EPERM` without CAP_SYS_ADMIN, `ELOOP` for a file on a stacked file system.
pub fn backing_open(device: impl AsFd, file: BorrowedFd<'_>) -> io::Result<i32> {
    let map = BackingMap {
        fd: file.as_raw_fd(),
        flags: 0,
        padding: 0,
    };
    // SAFETY: the structure has the layout and the size that the command's number says, and
    // outlives the call.
    let id = unsafe { libc::ioctl(device.as_fd().as_raw_fd(), BACKING_OPEN, &raw const map) };
    if id > 0 {
        Ok(id)
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Ends a registration; handles that are open stay.
///
/// # Errors
/// `ENOENT` for a number that isn't registered.
pub fn backing_close(device: impl AsFd, id: i32) -> io::Result<()> {
    let id = id.cast_unsigned();
    // SAFETY: the command takes a pointer to 32 bits, which outlive the call.
    let done = unsafe { libc::ioctl(device.as_fd().as_raw_fd(), BACKING_CLOSE, &raw const id) };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
