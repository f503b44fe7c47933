//! Replacing a file: the old contents or the new, at any instant.

use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Writes `bytes` under a temporary name, syncs, renames to `path`, and syncs the directory.
///
/// # Errors
/// What the file system reports; then `path` is as it was.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    let mut file = tempfile::Builder::new()
        .prefix(".new-")
        .permissions(Permissions::from_mode(0o644))
        .tempfile_in(dir)?;
    file.write_all(bytes)?;
    step(file.as_file().sync_all())?;
    step(Ok(()))?;
    file.persist(path).map_err(|e| e.error)?;
    step(File::open(dir)?.sync_all())
}

/// A step after which a crash is to be survived; tests make one fail.
fn step(done: io::Result<()>) -> io::Result<()> {
    #[cfg(test)]
    tests::fault()?;
    done
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::cell::Cell;

    thread_local! {
        /// Steps of this thread that still succeed.
        static LEFT: Cell<u32> = const { Cell::new(u32::MAX) };
    }

    pub fn fault() -> io::Result<()> {
        let left = LEFT.get();
        if left == 0 {
            return Err(io::Error::other("injected"));
        }
        LEFT.set(left.saturating_sub(1));
        Ok(())
    }

    /// Runs `f`, of which only so many steps succeed.
    pub fn failing_after<T>(steps: u32, f: impl FnOnce() -> T) -> T {
        LEFT.set(steps);
        let result = f();
        LEFT.set(u32::MAX);
        result
    }

    #[test]
    fn old_or_new_and_no_litter() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        write_atomically(&path, b"old").unwrap();
        for steps in 0..3 {
            failing_after(steps, || write_atomically(&path, b"new")).unwrap_err();
            let text = std::fs::read(&path).unwrap();
            assert_eq!(text, if steps < 2 { b"old" } else { b"new" });
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        }
    }
}
