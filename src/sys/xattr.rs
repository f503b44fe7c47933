//! Extended attributes of whole values: buffers grow until the answer fits.

use std::ffi::{OsStr, OsString};

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
    let mut buf = vec![0; 256];
    loop {
        let got = match follow {
            Follow::Yes => rustix::fs::getxattr(path, name, &mut buf),
            Follow::No => rustix::fs::lgetxattr(path, name, &mut buf),
        };
        match got {
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
    use std::os::unix::ffi::OsStrExt as _;
    let mut buf = vec![0; 512];
    loop {
        let got = match follow {
            Follow::Yes => rustix::fs::listxattr(path, &mut buf),
            Follow::No => rustix::fs::llistxattr(path, &mut buf),
        };
        match got {
            Ok(len) => {
                buf.truncate(len);
                let names = buf.split(|b| *b == 0).filter(|n| !n.is_empty());
                return Ok(names.map(|n| OsStr::from_bytes(n).to_os_string()).collect());
            }
            Err(Errno::RANGE) if buf.len() < VALUE_MAX => buf.resize(VALUE_MAX, 0),
            Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
            Err(e) => return Err(e),
        }
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
