//! Starting the writing of dirty pages early.
#![expect(unsafe_code, reason = "sync_file_range has no safe wrapper")]

use std::fs::File;
use std::os::fd::AsRawFd;

/// Asks the kernel to begin writing these bytes of `file`, without waiting for it: the sync that
/// follows then finds little left to do. A hint: where it is not possible, nothing happens.
pub fn start(file: &File, offset: u64, len: u64) {
    let (Ok(offset), Ok(len)) = (i64::try_from(offset), i64::try_from(len)) else {
        return;
    };
    // SAFETY: sync_file_range takes plain numbers and touches no memory of this process; the
    // descriptor is open for as long as `file` is borrowed.
    unsafe {
        libc::sync_file_range(file.as_raw_fd(), offset, len, libc::SYNC_FILE_RANGE_WRITE);
    }
}
