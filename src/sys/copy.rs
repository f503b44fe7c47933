//! Copying a file's data: shared blocks where the file system can, holes kept.

use std::fs::File;
use std::os::unix::fs::FileExt;

use rustix::fs::SeekFrom;
use rustix::io::Errno;

use crate::error::Result;

/// Copies the first `len` bytes of `from` to the empty file `to`: FICLONE, else copy_file_range(2)
/// run by run, else reads and writes. Positions of both files are left anywhere.
///
/// # Errors
/// What reading and writing report (`ENOSPC`, `EDQUOT`, `EIO`).
pub fn copy_file(from: &File, to: &File, len: u64) -> Result<()> {
    if rustix::fs::ioctl_ficlone(to, from).is_ok() {
        // The source may have grown since its length was taken.
        rustix::fs::ftruncate(to, len)?;
        return Ok(());
    }
    rustix::fs::ftruncate(to, len)?;
    let mut at = 0;
    while at < len {
        let Some((start, end)) = next_data(from, at, len)? else {
            break;
        };
        copy_range(from, start, to, start, end - start)?;
        at = end;
    }
    Ok(())
}

/// The next run of data at or after `at` and before `len`; `None` when only a hole follows.
///
/// # Errors
/// What lseek(2) reports.
pub fn next_data(file: &File, at: u64, len: u64) -> Result<Option<(u64, u64)>> {
    if at >= len {
        return Ok(None);
    }
    let start = match rustix::fs::seek(file, SeekFrom::Data(at)) {
        Ok(start) => start,
        Err(Errno::NXIO) => return Ok(None),
        // No SEEK_DATA here: all of it is data.
        Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(Some((at, len))),
        Err(e) => return Err(e.into()),
    };
    if start >= len {
        return Ok(None);
    }
    let end = rustix::fs::seek(file, SeekFrom::Hole(start))?;
    Ok(Some((start, end.min(len))))
}

/// Copies a run of bytes: copy_file_range(2), which shares blocks where offsets allow it, else reads
/// and writes. The number of bytes copied: fewer where `from` ends early.
///
/// # Errors
/// What reading and writing report.
pub fn copy_range(
    from: &File,
    mut from_at: u64,
    to: &File,
    mut to_at: u64,
    len: u64,
) -> Result<u64> {
    let mut left = len;
    while left > 0 {
        let chunk = usize::try_from(left.min(1 << 30)).unwrap_or(1 << 30);
        match rustix::fs::copy_file_range(from, Some(&mut from_at), to, Some(&mut to_at), chunk) {
            Ok(0) => break,
            Ok(n) => left -= n as u64,
            Err(Errno::INTR) => {}
            Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::IO) => {
                left -= copy_by_hand(from, from_at, to, to_at, left)?;
                break;
            }
            Err(e) => return Err(e.into()),
        }
    }
    Ok(len - left)
}

fn copy_by_hand(from: &File, mut from_at: u64, to: &File, mut to_at: u64, len: u64) -> Result<u64> {
    let mut buf = vec![0; 256 * 1024];
    let mut left = len;
    while left > 0 {
        let want = usize::try_from(left).unwrap_or(usize::MAX).min(buf.len());
        let Some(space) = buf.get_mut(..want) else {
            break;
        };
        let got = from.read_at(space, from_at)?;
        let Some(data) = space.get(..got).filter(|d| !d.is_empty()) else {
            break;
        };
        to.write_all_at(data, to_at)?;
        from_at += got as u64;
        to_at += got as u64;
        left -= got as u64;
    }
    Ok(len - left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_stay_holes_and_bytes_stay_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let from = File::create_new(dir.path().join("from")).unwrap();
        from.write_all_at(b"head", 0).unwrap();
        from.write_all_at(b"tail", 64 << 20).unwrap();
        let from = File::open(dir.path().join("from")).unwrap();
        let mut to = File::options();
        let to = to
            .read(true)
            .write(true)
            .create_new(true)
            .open(dir.path().join("to"))
            .unwrap();
        let len = from.metadata().unwrap().len();
        copy_file(&from, &to, len).unwrap();
        use std::os::unix::fs::MetadataExt as _;
        assert_eq!(to.metadata().unwrap().len(), len);
        assert!(to.metadata().unwrap().blocks() * 512 < 1 << 20);
        let mut buf = [0; 4];
        to.read_exact_at(&mut buf, 64 << 20).unwrap();
        assert_eq!(&buf, b"tail");
        to.read_exact_at(&mut buf, 4).unwrap();
        assert_eq!(buf, [0; 4]);
    }
}
