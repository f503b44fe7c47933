//! The names and values by which overlayfs marks objects on disk (Linux,
//! Documentation/filesystems/overlayfs.rst), decoded in this one place.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use crate::layer::{LinkCount, Marks, StableId};
use crate::sys::handle::FileHandle;

/// Which extended attributes carry the marks: `trusted.overlay.*`, or `user.overlay.*` where the
/// daemon has no CAP_SYS_ADMIN over the file system (`userxattr`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MarkSpace {
    /// `trusted.overlay.`
    #[default]
    Trusted,
    /// `user.overlay.`
    User,
}

/// One of overlayfs's attributes, and those that are ours (`strata.*` below the same prefix, so
/// that the kernel hides them too).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// `opaque`: `y` on a directory that hides lower ones; `x` on one with whiteouts in xattr form.
    Opaque,
    /// `redirect`: the path of the lower part.
    Redirect,
    /// `metacopy`: the file's data is still in a lower layer.
    Metacopy,
    /// `whiteout`: an empty file that stands for a whiteout, in a directory marked `x`.
    Whiteout,
    /// `origin`: the file handle of the host object that was copied up.
    HostOrigin,
    /// `nlink`: the number of names of a linked file, against its upper's or its lower's.
    LinkCount,
    /// `strata.origin`: diffID and ordinal of the image object that was copied up.
    Origin,
    /// `strata.device`: a character device 0:0 that is a device and no whiteout; on a layer's root:
    /// that the layer has such.
    Device,
}

impl MarkSpace {
    /// The one that this process can write: only root of the first user namespace may set trusted
    /// attributes.
    #[must_use]
    pub fn native() -> Self {
        let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        let first = map.split_whitespace().eq(["0", "0", "4294967295"]);
        match rustix::process::geteuid().is_root() && first {
            true => MarkSpace::Trusted,
            false => MarkSpace::User,
        }
    }

    /// The prefix of all marks.
    #[must_use]
    pub fn prefix(self) -> &'static str {
        match self {
            MarkSpace::Trusted => "trusted.overlay.",
            MarkSpace::User => "user.overlay.",
        }
    }

    /// An attribute's full name.
    #[must_use]
    pub fn name(self, mark: Mark) -> OsString {
        let tail = match mark {
            Mark::Opaque => "opaque",
            Mark::Redirect => "redirect",
            Mark::Metacopy => "metacopy",
            Mark::Whiteout => "whiteout",
            Mark::HostOrigin => "origin",
            Mark::LinkCount => "nlink",
            Mark::Origin => "strata.origin",
            Mark::Device => "strata.device",
        };
        format!("{}{tail}", self.prefix()).into()
    }

    /// How an attribute of the merged view is named in a directory layer: overlay's own names are
    /// escaped, so that an overlay can be mounted on the view ("Nesting overlayfs mounts").
    #[must_use]
    pub fn escape(self, name: &OsStr) -> OsString {
        match name.as_bytes().strip_prefix(self.prefix().as_bytes()) {
            None => name.to_os_string(),
            Some(tail) => {
                let mut escaped = format!("{}overlay.", self.prefix()).into_bytes();
                escaped.extend_from_slice(tail);
                OsString::from_vec(escaped)
            }
        }
    }

    /// The inverse of [`MarkSpace::escape`]; `None` for a mark, which the merged view hides.
    #[must_use]
    pub fn unescape(self, name: &OsStr) -> Option<OsString> {
        let Some(tail) = name.as_bytes().strip_prefix(self.prefix().as_bytes()) else {
            return Some(name.to_os_string());
        };
        let tail = tail.strip_prefix(b"overlay.")?;
        let mut plain = self.prefix().as_bytes().to_vec();
        plain.extend_from_slice(tail);
        Some(OsString::from_vec(plain))
    }

    /// Takes one attribute into `marks`, if it is a mark.
    pub fn decode(self, marks: &mut Marks, name: &OsStr, value: &[u8]) {
        if name == self.name(Mark::Opaque) {
            marks.opaque = value == b"y";
        } else if name == self.name(Mark::Metacopy) {
            marks.metacopy = true;
        } else if name == self.name(Mark::Redirect) {
            marks.redirect = valid_redirect(value).then(|| value.into());
        } else if name == self.name(Mark::Origin) {
            marks.origin = decode_origin(value);
        } else if name == self.name(Mark::HostOrigin) {
            marks.host_origin = Some(value.into());
        } else if name == self.name(Mark::LinkCount) {
            marks.links = LinkCount::decode(value);
        }
    }
}

impl LinkCount {
    /// The value of `overlay.nlink`: `U` or `L`, and a signed difference.
    #[must_use]
    pub fn encode(self) -> String {
        match self {
            LinkCount::BesideUpper(more) => format!("U{more:+}"),
            LinkCount::BesideLower(more) => format!("L{more:+}"),
        }
    }

    /// The inverse of [`LinkCount::encode`]; `None` for anything else.
    #[must_use]
    pub fn decode(value: &[u8]) -> Option<Self> {
        let (first, more) = value.split_first()?;
        let more = std::str::from_utf8(more).ok()?;
        let more = more.starts_with(['+', '-']).then(|| more.parse().ok())??;
        match first {
            b'U' => Some(LinkCount::BesideUpper(more)),
            b'L' => Some(LinkCount::BesideLower(more)),
            _ => None,
        }
    }

    /// The number of names, from `st_nlink` of the upper's file and of the lower's; `None` where
    /// the mark makes no sense.
    #[must_use]
    pub fn names(self, upper: u32, lower: Option<u32>) -> Option<u32> {
        let (real, more) = match self {
            LinkCount::BesideUpper(more) => (upper, more),
            LinkCount::BesideLower(more) => (lower?, more),
        };
        u32::try_from(i64::from(real) + i64::from(more)).ok()
    }
}

/// A redirect is a path from the layer's root, or one name; anything else is ignored, as hostile.
fn valid_redirect(value: &[u8]) -> bool {
    let path = value.strip_prefix(b"/").unwrap_or(value);
    let absolute = path.len() != value.len();
    !path.is_empty()
        && (absolute || !path.contains(&b'/'))
        && path
            .split(|b| *b == b'/')
            .all(|c| !c.is_empty() && c != b"." && c != b".." && c.len() <= 255 && !c.contains(&0))
}

/// The on-disk form of an origin: 32 bytes of diffID, the ordinal as 8 bytes little endian.
#[must_use]
pub fn encode_origin(id: &StableId) -> [u8; 40] {
    let mut bytes = [0; 40];
    let (diff_id, ordinal) = bytes.split_at_mut(32);
    diff_id.copy_from_slice(&id.diff_id);
    ordinal.copy_from_slice(&id.ordinal.to_le_bytes());
    bytes
}

fn decode_origin(value: &[u8]) -> Option<StableId> {
    let (diff_id, ordinal) = value.split_at_checked(32)?;
    Some(StableId {
        diff_id: diff_id.try_into().ok()?,
        ordinal: u64::from_le_bytes(ordinal.try_into().ok()?),
    })
}

/// The head of overlayfs's file handles (struct ovl_fb): version 0, magic, length, flags (little
/// endian: none), handle type; then the file system's UUID and the handle.
const HANDLE_HEAD: usize = 5 + 16;
const HANDLE_MAGIC: u8 = 0xfb;
/// `OVL_FH_FLAG_BIG_ENDIAN`, set to the machine's byte order.
const HANDLE_ORDER: u8 = if cfg!(target_endian = "big") { 1 } else { 0 };

/// The value of `overlay.origin` for a file handle, as the kernel writes it; `None` when it doesn't
/// fit.
#[must_use]
pub fn encode_handle(uuid: &[u8; 16], handle: &FileHandle) -> Option<Box<[u8]>> {
    let len = u8::try_from(HANDLE_HEAD + handle.bytes.len()).ok()?;
    let kind = u8::try_from(handle.kind).ok()?;
    let mut value = vec![0, HANDLE_MAGIC, len, HANDLE_ORDER, kind];
    value.extend_from_slice(uuid);
    value.extend_from_slice(&handle.bytes);
    Some(value.into())
}

/// The inverse of [`encode_handle`].
#[must_use]
pub fn decode_handle(value: &[u8]) -> Option<([u8; 16], FileHandle)> {
    let (head, rest) = value.split_at_checked(5)?;
    let (uuid, bytes) = rest.split_at_checked(16)?;
    match *head {
        [0, HANDLE_MAGIC, len, HANDLE_ORDER, kind] if usize::from(len) == value.len() => Some((
            uuid.try_into().ok()?,
            FileHandle {
                kind: kind.into(),
                bytes: bytes.into(),
            },
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_escaped_and_hidden() {
        let space = MarkSpace::Trusted;
        let plain = OsStr::new("trusted.overlay.opaque");
        let escaped = space.escape(plain);
        assert_eq!(escaped, "trusted.overlay.overlay.opaque");
        assert_eq!(space.unescape(&escaped).unwrap(), plain);
        assert_eq!(space.unescape(plain), None);
        assert_eq!(space.escape(OsStr::new("user.overlay.x")), "user.overlay.x");
        assert_eq!(space.unescape(OsStr::new("user.a")).unwrap(), "user.a");
    }

    #[test]
    fn crafted_values_are_ignored() {
        let space = MarkSpace::Trusted;
        let mut marks = Marks::default();
        for bad in [
            &b"/../x"[..],
            b"a/b",
            b"/",
            b"",
            b"/a//b",
            b"/a/./b",
            b"..",
            b"/a\0",
        ] {
            space.decode(&mut marks, &space.name(Mark::Redirect), bad);
            assert_eq!(marks.redirect, None, "{}", bad.escape_ascii());
        }
        space.decode(&mut marks, &space.name(Mark::Redirect), b"/a/b");
        assert_eq!(marks.redirect.as_deref(), Some(&b"/a/b"[..]));
        space.decode(&mut marks, &space.name(Mark::Origin), b"short");
        assert_eq!(marks.origin, None);
        let id = StableId {
            diff_id: [7; 32],
            ordinal: 1 << 40,
        };
        space.decode(&mut marks, &space.name(Mark::Origin), &encode_origin(&id));
        assert_eq!(marks.origin, Some(id));
    }

    #[test]
    fn link_counts_are_what_the_kernel_writes() {
        assert_eq!(LinkCount::BesideUpper(2).encode(), "U+2");
        assert_eq!(LinkCount::BesideLower(0).encode(), "L+0");
        for good in ["U-1", "U+0", "L+3"] {
            let count = LinkCount::decode(good.as_bytes()).unwrap();
            assert_eq!(count.encode(), good);
        }
        for bad in ["", "U", "U1", "X+1", "L+", "U+99999999999", "L+1x"] {
            assert_eq!(LinkCount::decode(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(LinkCount::BesideUpper(-1).names(3, None), Some(2));
        assert_eq!(LinkCount::BesideLower(1).names(9, Some(2)), Some(3));
        assert_eq!(LinkCount::BesideUpper(-5).names(3, None), None);
    }

    #[test]
    fn handles_are_read_as_they_are_written() {
        let handle = FileHandle {
            kind: 1,
            bytes: vec![1, 2, 3, 4, 5, 6, 7, 8],
        };
        let value = encode_handle(&[9; 16], &handle).unwrap();
        assert_eq!(decode_handle(&value), Some(([9; 16], handle)));
        for cut in 0..value.len() {
            assert_eq!(decode_handle(&value[..cut]), None);
        }
        let long = FileHandle {
            kind: 1,
            bytes: vec![0; 250],
        };
        assert_eq!(encode_handle(&[0; 16], &long), None);
    }
}
