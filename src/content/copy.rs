//! Copying what is readable into a host file, its holes kept.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::ReadAt;
use crate::error::{Errno, Error, Result};
use crate::sys::copy::copy_range;

/// How much is copied at a time where the kernel can't do it by itself, in bytes.
const CHUNK: usize = 1 << 20;

/// Copies all of `from` to the empty file `to`: within the kernel where the bytes are in a host
/// file, else by reading and writing.
///
/// # Errors
/// `EIO` when there are fewer bytes than `from` says; what reading and writing report.
pub fn copy_to(from: &dyn ReadAt, to: &File) -> Result<()> {
    let len = from.len();
    let mut at = 0;
    while let Some((start, end)) = from.next_data(at) {
        let end = end.min(len);
        if start >= end {
            break;
        }
        match from.host_range(start) {
            Some((file, place)) => {
                if copy_range(file, place, to, start, end - start)? < end - start {
                    return Err(Error::with(Errno::EIO, "a layer's data is cut off"));
                }
            }
            None => copy_by_hand(from, to, start, end)?,
        }
        at = end;
    }
    if at < len {
        to.set_len(len)?;
    }
    Ok(())
}

fn copy_by_hand(from: &dyn ReadAt, to: &File, mut at: u64, end: u64) -> Result<()> {
    let mut buf = vec![0; usize::try_from(end - at).unwrap_or(CHUNK).min(CHUNK)];
    while at < end {
        let want = usize::try_from(end - at).unwrap_or(CHUNK).min(buf.len());
        let space = buf.get_mut(..want).unwrap_or_default();
        let got = from.read_at(space, at)?;
        let Some(data) = space.get(..got).filter(|d| !d.is_empty()) else {
            return Err(Error::with(
                Errno::EIO,
                "a layer's file is shorter than its index says",
            ));
        };
        to.write_all_at(data, at)?;
        at += got as u64;
    }
    Ok(())
}
