//! `-o` lists, as mount(8), overlayfs and fuse-overlayfs have them.

use std::path::PathBuf;

use rustix::mount::MountFlags;

use crate::error::Failure;

/// What `-o` says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MountOptions {
    /// No changes.
    pub read_only: bool,
    /// Flags for mount(2), `MS_RDONLY` aside.
    pub flags: Flags,
    /// What `/proc/mounts` is to name as the source.
    pub fsname: Option<String>,
    /// Directory layers, top first.
    pub lowers: Vec<PathBuf>,
    /// The writable directory layer.
    pub upper: Option<PathBuf>,
    /// The upper's work directory.
    pub work: Option<PathBuf>,
    /// Copied-up data may be lost in a crash.
    pub volatile: bool,
    /// Overlay's marks are `user.overlay.*` attributes.
    pub userxattr: bool,
    /// A change of attributes alone copies no data. The store's containers always do so.
    pub metacopy: bool,
    /// Options that have no effect here, to be said once.
    pub ignored: Vec<String>,
}

/// Flags of mount(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flags(pub MountFlags);

impl Default for Flags {
    /// Programs keep their set-user-ID bits; devices are no devices.
    fn default() -> Self {
        Self(MountFlags::NODEV)
    }
}

/// Words that set or clear a flag.
const FLAGS: &[(&str, MountFlags, bool)] = &[
    ("suid", MountFlags::NOSUID, false),
    ("nosuid", MountFlags::NOSUID, true),
    ("dev", MountFlags::NODEV, false),
    ("nodev", MountFlags::NODEV, true),
    ("exec", MountFlags::NOEXEC, false),
    ("noexec", MountFlags::NOEXEC, true),
    ("atime", MountFlags::NOATIME, false),
    ("noatime", MountFlags::NOATIME, true),
    ("diratime", MountFlags::NODIRATIME, false),
    ("nodiratime", MountFlags::NODIRATIME, true),
    ("relatime", MountFlags::RELATIME, true),
    ("norelatime", MountFlags::RELATIME, false),
    ("strictatime", MountFlags::STRICTATIME, true),
    ("nostrictatime", MountFlags::STRICTATIME, false),
    ("lazytime", MountFlags::LAZYTIME, true),
    ("nolazytime", MountFlags::LAZYTIME, false),
    ("sync", MountFlags::SYNCHRONOUS, true),
    ("async", MountFlags::SYNCHRONOUS, false),
    ("dirsync", MountFlags::DIRSYNC, true),
];

/// Words of mount(8) and fstab(5) that say nothing to a file system, and what is so here anyway.
const NO_EFFECT: &[&str] = &[
    "defaults",
    "rw",
    "auto",
    "noauto",
    "user",
    "nouser",
    "users",
    "owner",
    "group",
    "nofail",
    "_netdev",
    "allow_other",
    "default_permissions",
];

/// Words that take a value.
const VALUED: &[&str] = &[
    "fsname",
    "lowerdir",
    "lowerdir+",
    "upperdir",
    "workdir",
    "metacopy",
];

impl MountOptions {
    /// Takes one `-o` list in. `\,` is a comma in a value, `\:` a colon in a path of `lowerdir`.
    ///
    /// # Errors
    /// `Usage` for an unknown word, with the nearest known one, and for a value that can't be.
    pub fn parse(&mut self, list: &str) -> Result<(), Failure> {
        for item in split(list, ',') {
            let (word, value) = match item.split_once('=') {
                Some((word, value)) => (word, Some(value)),
                None => (item.as_str(), None),
            };
            self.take(word, value)?;
        }
        Ok(())
    }

    fn take(&mut self, word: &str, value: Option<&str>) -> Result<(), Failure> {
        if let Some((_, flag, set)) = FLAGS.iter().find(|(w, ..)| *w == word && value.is_none()) {
            self.flags.0.set(*flag, *set);
            return Ok(());
        }
        if word.is_empty() || word.starts_with("x-") {
            return Ok(());
        }
        match (word, value) {
            ("ro", None) => self.read_only = true,
            ("rw", None) => self.read_only = false,
            ("volatile", None) => self.volatile = true,
            ("userxattr", None) => self.userxattr = true,
            ("fsname", Some(value)) => self.fsname = Some(value.to_owned()),
            ("lowerdir", Some(value)) => {
                self.lowers
                    .extend(split(value, ':').into_iter().map(PathBuf::from));
            }
            ("lowerdir+", Some(value)) => self.lowers.push(value.into()),
            ("upperdir", Some(value)) => self.upper = Some(value.into()),
            ("workdir", Some(value)) => self.work = Some(value.into()),
            ("metacopy", Some("on")) => self.metacopy = true,
            ("metacopy", Some("off")) => self.metacopy = false,
            (word, None) if NO_EFFECT.contains(&word) => {}
            _ => return Err(unknown(word, value)),
        }
        Ok(())
    }

    /// The flags for mount(2).
    #[must_use]
    pub fn mount_flags(&self) -> MountFlags {
        let mut flags = self.flags.0;
        flags.set(MountFlags::RDONLY, self.read_only);
        flags
    }
}

/// Splits at a separator that no backslash precedes; a backslash before it is dropped.
fn split(list: &str, separator: char) -> Vec<String> {
    let mut items = vec![String::new()];
    let mut chars = list.chars().peekable();
    while let Some(c) = chars.next() {
        let item = items.last_mut();
        match c {
            '\\' if chars.peek() == Some(&separator) => {
                if let (Some(item), Some(c)) = (item, chars.next()) {
                    item.push(c);
                }
            }
            c if c == separator => items.push(String::new()),
            c => item.into_iter().for_each(|i| i.push(c)),
        }
    }
    items.retain(|i| !i.is_empty());
    items
}

fn unknown(word: &str, value: Option<&str>) -> Failure {
    if VALUED.contains(&word) {
        let value = value.map_or_else(|| "no value".to_owned(), |v| format!("\"{v}\""));
        return Failure::usage(format!(
            "mount option {word}: {} is no possible value",
            value.escape_debug()
        ));
    }
    let known = FLAGS
        .iter()
        .map(|(w, ..)| *w)
        .chain(NO_EFFECT.iter().copied());
    let known = known
        .chain(VALUED.iter().copied())
        .chain(["ro", "volatile", "userxattr"]);
    let nearest = known
        .min_by_key(|k| distance(k, word))
        .filter(|k| distance(k, word) <= 3);
    let hint = nearest.map_or_else(String::new, |n| format!(" (did you mean {n}?)"));
    Failure::usage(format!(
        "unknown mount option \"{}\"{hint}",
        word.escape_debug()
    ))
}

/// How many letters have to be changed to make one word the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, c) in a.chars().enumerate() {
        let mut above = i;
        let mut left = i + 1;
        let mut next = vec![left];
        for (d, up) in b.iter().zip(row.iter().skip(1)) {
            left = (above + usize::from(c != *d)).min(up + 1).min(left + 1);
            above = *up;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(list: &str) -> Result<MountOptions, Failure> {
        let mut options = MountOptions::default();
        options.parse(list).map(|()| options)
    }

    #[test]
    fn lists_are_taken_apart() {
        let options = parse(
            r"lowerdir=/a\:b:/c\,d:/e,,upperdir=/u,workdir=/w,ro,dev,nosuid,x-systemd.automount,",
        )
        .unwrap();
        assert_eq!(options.lowers, ["/a:b", "/c,d", "/e"].map(PathBuf::from));
        assert_eq!(options.upper.as_deref(), Some(std::path::Path::new("/u")));
        assert!(options.read_only);
        assert_eq!(
            options.mount_flags(),
            MountFlags::RDONLY | MountFlags::NOSUID
        );
        assert_eq!(parse("").unwrap(), MountOptions::default());
    }

    #[test]
    fn unknown_words_are_refused_with_the_nearest() {
        let error = parse("nosiud").unwrap_err().to_string();
        assert_eq!(
            error,
            "unknown mount option \"nosiud\" (did you mean nosuid?)"
        );
        assert_eq!(
            parse("frobnicate=1").unwrap_err().to_string(),
            "unknown mount option \"frobnicate\""
        );
        assert!(
            parse("metacopy=perhaps")
                .unwrap_err()
                .to_string()
                .contains("metacopy")
        );
        assert!(
            parse("upperdir")
                .unwrap_err()
                .to_string()
                .contains("no value")
        );
    }
}
