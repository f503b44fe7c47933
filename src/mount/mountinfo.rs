//! `/proc/self/mountinfo` (proc_pid_mountinfo(5)).

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use crate::error::{Context, Failure};

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountEntry {
    /// The mount's number.
    pub id: u64,
    /// Where it is.
    pub mountpoint: PathBuf,
    /// Whether the mount shows other owners than its file system has (mount_setattr(2)).
    pub idmapped: bool,
    /// Type of the file system.
    pub kind: String,
    /// What it is a mount of.
    pub source: OsString,
}

/// All mounts of this process's namespace, in the order in which they lie on each other.
///
/// # Errors
/// `System`
pub fn read() -> Result<Vec<MountEntry>, Failure> {
    let text = std::fs::read("/proc/self/mountinfo").context(|| "read /proc/self/mountinfo")?;
    Ok(text.split(|b| *b == b'\n').filter_map(parse).collect())
}

/// The topmost mount at a place.
///
/// # Errors
/// `System`
pub fn at(mountpoint: &Path) -> Result<Option<MountEntry>, Failure> {
    Ok(read()?.into_iter().rfind(|m| m.mountpoint == mountpoint))
}

/// Whether a path is on a mount that shows other owners than its file system has.
///
/// # Errors
/// What statx(2) reports; `System`.
pub fn is_idmapped(path: &Path) -> Result<bool, Failure> {
    use rustix::fs::{AtFlags, CWD, StatxFlags};
    let flags = StatxFlags::MNT_ID;
    let stat = rustix::fs::statx(CWD, path, AtFlags::empty(), flags)
        .context(|| path.display().to_string())?;
    Ok(read()?
        .iter()
        .any(|m| m.id == stat.stx_mnt_id && m.idmapped))
}

fn parse(line: &[u8]) -> Option<MountEntry> {
    let mut fields = line.split(|b| *b == b' ');
    let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let mountpoint = unescape(fields.nth(3)?);
    let idmapped = fields
        .next()?
        .split(|b| *b == b',')
        .any(|word| word == b"idmapped");
    let mut rest = fields.skip_while(|f| *f != b"-").skip(1);
    let kind = String::from_utf8(rest.next()?.to_vec()).ok()?;
    let source = unescape(rest.next()?);
    Some(MountEntry {
        id,
        mountpoint: mountpoint.into(),
        idmapped,
        kind,
        source,
    })
}

/// Space, tab, newline and backslash are written as `\` and three octal digits.
fn unescape(field: &[u8]) -> OsString {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let digit = |b: &u8| (b'0'..=b'7').contains(b).then(|| u32::from(b - b'0'));
        let code = match (first, after) {
            (b'\\', [a, b, c, ..]) => digit(a)
                .zip(digit(b))
                .zip(digit(c))
                .and_then(|((a, b), c)| u8::try_from(a * 64 + b * 8 + c).ok()),
            _ => None,
        };
        out.push(code.unwrap_or(*first));
        rest = if code.is_some() {
            after.get(3..).unwrap_or_default()
        } else {
            after
        };
    }
    OsString::from_vec(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_taken_apart() {
        let line = br"36 35 98:0 /mnt1 /mnt\0402\134x rw,noatime master:1 shared:2 - fuse.strata a\011b rw,errors=continue";
        let entry = parse(line).unwrap();
        assert_eq!(entry.id, 36);
        assert_eq!(entry.mountpoint, Path::new(r"/mnt 2\x"));
        assert_eq!(
            (entry.kind.as_str(), entry.source.to_str().unwrap()),
            ("fuse.strata", "a\tb")
        );
        assert!(!entry.idmapped);
        let mapped = br"36 35 98:0 / /m rw,relatime,idmapped - ext4 /dev/vda rw";
        assert!(parse(mapped).unwrap().idmapped);
        assert_eq!(parse(b""), None);
        assert!(
            read()
                .unwrap()
                .iter()
                .any(|m| m.mountpoint == Path::new("/proc"))
        );
    }
}
