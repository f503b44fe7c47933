//! Acting on the file system below as somebody else, for one thread.
#![expect(
    unsafe_code,
    reason = "setfsuid, setfsgid and prctl have no safe wrapper per thread"
)]

use std::cell::Cell;

thread_local! {
    /// Whether this thread keeps its capabilities over a change of its file-system uid.
    static KEEPS_CAPS: Cell<bool> = const { Cell::new(false) };
    /// The file-system ids of this thread: (uid, gid), as far as they are known.
    static OWN: Cell<Option<(u32, u32)>> = const { Cell::new(None) };
}

/// Runs `f` with the thread's file-system uid and gid set, so that what it creates belongs to them
/// and takes group and ACL from its directory as the file system below does for any caller.
/// Capabilities stay, so that `f` isn't refused what the kernel has already allowed.
pub fn as_owner<T>(uid: u32, gid: u32, f: impl FnOnce() -> T) -> T {
    let own = OWN.get().unwrap_or_else(|| {
        let own = (
            rustix::process::geteuid().as_raw(),
            rustix::process::getegid().as_raw(),
        );
        OWN.set(Some(own));
        own
    });
    if (uid, gid) == own {
        return f();
    }
    keep_caps();
    let guard = Ids(own);
    set_fs_ids(uid, gid);
    let result = f();
    drop(guard);
    result
}

/// Puts the thread's own ids back, also when a panic passes.
struct Ids((u32, u32));

impl Drop for Ids {
    fn drop(&mut self) {
        set_fs_ids(self.0.0, self.0.1);
    }
}

fn set_fs_ids(uid: u32, gid: u32) {
    // SAFETY: both calls take plain numbers and change only the calling thread's ids. They report
    // no errors; what is refused leaves the id as it was.
    unsafe {
        libc::syscall(libc::SYS_setfsgid, gid);
        libc::syscall(libc::SYS_setfsuid, uid);
    }
}

fn keep_caps() {
    const SECBIT_NO_SETUID_FIXUP: libc::c_ulong = 1 << 2;
    if !KEEPS_CAPS.replace(true) {
        // SAFETY: prctl with plain numbers; it fails without CAP_SETPCAP, and then the kernel
        // drops the file capabilities for as long as the ids differ, which is only stricter.
        unsafe {
            let bits = libc::prctl(libc::PR_GET_SECUREBITS);
            if let Ok(bits) = libc::c_ulong::try_from(bits) {
                libc::prctl(libc::PR_SET_SECUREBITS, bits | SECBIT_NO_SETUID_FIXUP);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt as _;

    #[test]
    fn files_belong_to_whom_they_are_made_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        if rustix::process::geteuid().is_root() {
            // The directory is 0700 of root: only kept capabilities let uid 1234 in.
            as_owner(1234, 4321, || std::fs::write(&path, b"")).unwrap();
            let meta = std::fs::metadata(&path).unwrap();
            assert_eq!((meta.uid(), meta.gid()), (1234, 4321));
        }
        std::fs::write(dir.path().join("g"), b"").unwrap();
        let meta = std::fs::metadata(dir.path().join("g")).unwrap();
        assert_eq!(meta.uid(), rustix::process::geteuid().as_raw());
    }
}
