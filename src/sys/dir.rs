//! Listing directories.

use std::os::fd::AsFd;

use rustix::fs::{FileType, Mode, OFlags, RawDir};

use crate::error::Result;

/// Calls `each` with name, type and inode number for every entry of a directory but `.` and `..`.
/// The directory is opened anew, so the descriptor may be `O_PATH` and has no position of its own.
///
/// # Errors
/// What open(2) and getdents64(2) report; an error of `each` ends the listing.
pub fn list(dir: impl AsFd, each: impl FnMut(&[u8], FileType, u64) -> Result<()>) -> Result<()> {
    let fd = rustix::fs::openat(
        dir,
        c".",
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    list_on(fd, each)
}

/// The same, on from where a readable descriptor stands.
///
/// # Errors
/// As [`list`], without those of open(2).
pub fn list_on(
    dir: impl AsFd,
    mut each: impl FnMut(&[u8], FileType, u64) -> Result<()>,
) -> Result<()> {
    let mut buf = Vec::with_capacity(32 * 1024);
    let mut entries = RawDir::new(dir, buf.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            each(name, entry.file_type(), entry.ino())?;
        }
    }
    Ok(())
}
