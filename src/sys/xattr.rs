//! Extended attributes of whole values: buffers grow until the answer fits.
#![expect(
    unsafe_code,
    reason = "getxattrat(2) and listxattrat(2) have no wrapper"
)]

use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::XattrFlags;
use rustix::io::Errno;

/// Which object a path names when it ends in a symbolic link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follow {
    /// The link's target. For the magic paths of `O_PATH` descriptors: the object itself.
    Yes,
    /// The link.
    No,
}

/// The longest value the kernel keeps (`XATTR_SIZE_MAX`), in bytes.
pub const VALUE_MAX: usize = 65536;

/// The value of an attribute; `None` when the object, or its file system, has none of that name.
///
/// # Errors
/// What getxattr(2) reports, but `ENODATA` and `EOPNOTSUPP`.
pub fn get(path: &OsStr, name: &OsStr, follow: Follow) -> Result<Option<Vec<u8>>, Errno> {
    value_by(|buf| match follow {
        Follow::Yes => rustix::fs::getxattr(path, name, buf),
        Follow::No => rustix::fs::lgetxattr(path, name, buf),
    })
}

fn value_by(
    mut read: impl FnMut(&mut [u8]) -> Result<usize, Errno>,
) -> Result<Option<Vec<u8>>, Errno> {
    let mut buf = vec![0; 256];
    loop {
        match read(&mut buf) {
            Ok(len) => {
                buf.truncate(len);
                return Ok(Some(buf));
            }
            Err(Errno::RANGE) if buf.len() < VALUE_MAX => buf.resize(VALUE_MAX, 0),
            Err(Errno::NODATA | Errno::OPNOTSUPP) => return Ok(None),
            Err(e) => return Err(e),
        }
    }
}

/// The names of all attributes; none where the file system has no attributes.
///
/// # Errors
/// What listxattr(2) reports, but `EOPNOTSUPP`.
pub fn list(path: &OsStr, follow: Follow) -> Result<Vec<OsString>, Errno> {
    names_by(|buf| match follow {
        Follow::Yes => rustix::fs::listxattr(path, buf),
        Follow::No => rustix::fs::llistxattr(path, buf),
    })
}

fn names_by(
    mut read: impl FnMut(&mut [u8]) -> Result<usize, Errno>,
) -> Result<Vec<OsString>, Errno> {
    let mut buf = [0; 512];
    match read(&mut buf) {
        Ok(0) | Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        Ok(len) => return Ok(split(buf.get(..len).unwrap_or_default())),
        Err(Errno::RANGE) => {}
        Err(e) => return Err(e),
    }
    let mut buf = vec![0; VALUE_MAX];
    let len = read(&mut buf)?;
    Ok(split(buf.get(..len).unwrap_or_default()))
}

fn split(names: &[u8]) -> Vec<OsString> {
    let names = names.split(|b| *b == 0).filter(|n| !n.is_empty());
    names.map(|n| OsStr::from_bytes(n).to_os_string()).collect()
}

/// The value of an attribute of what has this name in a directory, without a detour over its path.
/// As [`get`], without following a link; `None` where the kernel (before 6.13) can't.
///
/// # Errors
/// As [`get`].
pub fn get_at(dir: impl AsFd, of: &OsStr, name: &OsStr) -> Option<Result<Option<Vec<u8>>, Errno>> {
    let (of, name) = (CString::new(of.as_bytes()), CString::new(name.as_bytes()));
    let (Ok(of), Ok(name)) = (of, name) else {
        return Some(Err(Errno::INVAL));
    };
    let dir = dir.as_fd();
    known(value_by(|buf| {
        let args = XattrArgs {
            value: buf.as_mut_ptr() as u64,
            size: u32::try_from(buf.len()).unwrap_or(u32::MAX),
            flags: 0,
        };
        at(GETXATTRAT, dir, &of, |number, dir, of, flags| {
            // SAFETY: both names end with a NUL; `args` points to a buffer of the size that it
            // says, and has the layout and size that are told; all outlive the call.
            unsafe {
                let size = size_of::<XattrArgs>();
                libc::syscall(number, dir, of, flags, name.as_ptr(), &raw const args, size)
            }
        })
    }))
}

/// The names of all attributes of what has this name in a directory: as [`get_at`].
///
/// # Errors
/// As [`list`].
pub fn list_at(dir: impl AsFd, of: &OsStr) -> Option<Result<Vec<OsString>, Errno>> {
    let Ok(of) = CString::new(of.as_bytes()) else {
        return Some(Err(Errno::INVAL));
    };
    let dir = dir.as_fd();
    known(names_by(|buf| {
        at(LISTXATTRAT, dir, &of, |number, dir, of, flags| {
            // SAFETY: the name ends with a NUL; the buffer has the size that is told; both outlive
            // the call.
            unsafe { libc::syscall(number, dir, of, flags, buf.as_mut_ptr(), buf.len()) }
        })
    }))
}

/// `struct xattr_args`
#[repr(C)]
struct XattrArgs {
    value: u64,
    size: u32,
    flags: u32,
}

/// The same numbers on all architectures but those that count from elsewhere.
const GETXATTRAT: libc::c_long = 464;
const LISTXATTRAT: libc::c_long = 465;
const NUMBERED: bool = cfg!(any(
    target_arch = "x86_64",
    target_arch = "aarch64",
    target_arch = "riscv64"
));

/// The kernel, or a seccomp filter, has no such calls.
static MISSING: AtomicBool = AtomicBool::new(false);

fn at(
    number: libc::c_long,
    dir: BorrowedFd<'_>,
    of: &std::ffi::CStr,
    call: impl FnOnce(libc::c_long, i32, *const libc::c_char, i32) -> libc::c_long,
) -> Result<usize, Errno> {
    if !NUMBERED || MISSING.load(Ordering::Relaxed) {
        return Err(Errno::NOSYS);
    }
    let flags = libc::AT_SYMLINK_NOFOLLOW;
    let said = call(number, dir.as_raw_fd(), of.as_ptr(), flags);
    usize::try_from(said).map_err(|_| {
        let error = std::io::Error::last_os_error();
        Errno::from_io_error(&error).unwrap_or(Errno::IO)
    })
}

/// Leaves out that the calls are missing, and remembers it.
fn known<T>(said: Result<T, Errno>) -> Option<Result<T, Errno>> {
    match said {
        Err(Errno::NOSYS) => {
            MISSING.store(true, Ordering::Relaxed);
            None
        }
        said => Some(said),
    }
}

/// Sets an attribute.
///
/// # Errors
/// What setxattr(2) reports.
pub fn set(
    path: &OsStr,
    name: &OsStr,
    value: &[u8],
    flags: XattrFlags,
    follow: Follow,
) -> Result<(), Errno> {
    match follow {
        Follow::Yes => rustix::fs::setxattr(path, name, value, flags),
        Follow::No => rustix::fs::lsetxattr(path, name, value, flags),
    }
}

/// Removes an attribute.
///
/// # Errors
/// What removexattr(2) reports.
pub fn remove(path: &OsStr, name: &OsStr, follow: Follow) -> Result<(), Errno> {
    match follow {
        Follow::Yes => rustix::fs::removexattr(path, name),
        Follow::No => rustix::fs::lremovexattr(path, name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_tell_the_same() {
        let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, b"").unwrap();
        std::os::unix::fs::symlink("f", dir.path().join("l")).unwrap();
        let at = std::fs::File::open(dir.path()).unwrap();
        let long = vec![7; 1000];
        for (name, value) in [("user.a", b"1".as_slice()), ("user.long", &long)] {
            let (path, name) = (path.as_os_str(), OsStr::new(name));
            match set(path, name, value, XattrFlags::empty(), Follow::No) {
                // A file system without attributes.
                Err(Errno::OPNOTSUPP) => return,
                done => done.unwrap(),
            }
        }
        let file = OsStr::new("f");
        let Some(listed) = list_at(&at, file) else {
            return;
        };
        assert_eq!(listed, list(path.as_os_str(), Follow::No));
        assert_eq!(listed.unwrap().len(), 2);
        for name in ["user.a", "user.long", "user.none"] {
            let name = OsStr::new(name);
            let got = get_at(&at, file, name).unwrap();
            assert_eq!(got, get(path.as_os_str(), name, Follow::No));
        }
        assert_eq!(list_at(&at, OsStr::new("l")).unwrap().unwrap().len(), 0);
        let none = list_at(&at, OsStr::new("none")).unwrap();
        assert_eq!(none, Err(Errno::NOENT));
    }
}
