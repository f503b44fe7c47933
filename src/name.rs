//! [`Name`]: one component of a path, checked once.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;

use crate::error::{Errno, Error, Result};

/// The longest name of a directory entry, in bytes (`NAME_MAX`).
pub const NAME_MAX: usize = 255;

/// A directory entry's name: not empty, not `.` or `..`, no `/`, no NUL, at most
/// [`NAME_MAX`] bytes. Any other byte is allowed: names are not text.
#[derive(PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(transparent)]
pub struct Name(OsStr);

/// An owned [`Name`].
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NameBuf(Box<OsStr>);

fn check(bytes: &[u8]) -> Result<()> {
    if bytes.len() > NAME_MAX {
        return Err(Error::new(Errno::ENAMETOOLONG));
    }
    match bytes {
        b"" => Err(Error::new(Errno::ENOENT)),
        b"." | b".." => Err(Error::new(Errno::EINVAL)),
        _ if bytes.contains(&b'/') || bytes.contains(&0) => Err(Error::new(Errno::EINVAL)),
        _ => Ok(()),
    }
}

impl NameBuf {
    /// Checks and takes a name.
    ///
    /// # Errors
    /// `ENAMETOOLONG` past 255 bytes, `ENOENT` when empty, `EINVAL` otherwise.
    pub fn new(bytes: &[u8]) -> Result<Self> {
        check(bytes)?;
        Ok(Self(OsStr::from_bytes(bytes).into()))
    }
}

impl Name {
    /// Checks and borrows a name.
    ///
    /// # Errors
    /// As [`NameBuf::new`].
    pub fn new<S: AsRef<OsStr> + ?Sized>(name: &S) -> Result<&Self> {
        let name = name.as_ref();
        check(name.as_bytes())?;
        Ok(Self::wrap(name))
    }

    /// Checks and borrows a name given as bytes.
    ///
    /// # Errors
    /// As [`NameBuf::new`].
    pub fn from_bytes(name: &[u8]) -> Result<&Self> {
        Self::new(OsStr::from_bytes(name))
    }

    #[expect(
        unsafe_code,
        reason = "a transparent wrapper's reference cast has no safe form"
    )]
    fn wrap(name: &OsStr) -> &Self {
        // SAFETY: Name is repr(transparent) over OsStr, so the two references have one layout.
        unsafe { &*(std::ptr::from_ref::<OsStr>(name) as *const Self) }
    }

    /// The name's bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// The name as the operating system's string.
    #[must_use]
    pub fn as_os_str(&self) -> &OsStr {
        &self.0
    }
}

impl std::ops::Deref for NameBuf {
    type Target = Name;
    fn deref(&self) -> &Name {
        Name::wrap(&self.0)
    }
}

impl std::borrow::Borrow<Name> for NameBuf {
    fn borrow(&self) -> &Name {
        self
    }
}

impl From<&Name> for NameBuf {
    fn from(name: &Name) -> Self {
        Self(name.0.into())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.as_bytes().escape_ascii())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl fmt::Debug for NameBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        assert!(Name::new("a").is_ok());
        assert!(Name::from_bytes(b"\xff\xfe").is_ok());
        assert!(Name::from_bytes(&[b'x'; 255]).is_ok());
        for (bad, errno) in [
            (&b""[..], Errno::ENOENT),
            (b".", Errno::EINVAL),
            (b"..", Errno::EINVAL),
            (b"a/b", Errno::EINVAL),
            (b"a\0", Errno::EINVAL),
            (&[b'x'; 256], Errno::ENAMETOOLONG),
        ] {
            assert_eq!(Name::from_bytes(bad).unwrap_err().errno(), errno);
            assert_eq!(NameBuf::new(bad).unwrap_err().errno(), errno);
        }
    }
}
