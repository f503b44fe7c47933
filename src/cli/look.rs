//! What the commands that look into images share: opening what an argument names, and how names,
//! modes, owners and times are shown.

use std::ffi::OsStr;
use std::io::IsTerminal;

use serde_json::{Map, Value, json};

use super::{Context, progress};
use crate::error::Failure;
use crate::inspect::find::type_letter;
use crate::inspect::{Entry, Image, Object, Owners, Target, Tree};
use crate::stat::{FileType, Stat, Timespec};

/// What the help of each of these commands says of its arguments.
pub const NAMES_HELP: &str = "\
An IMAGE is a name, id or container of the store, or a file that need not be loaded: oci:DIR[:TAG],
oci-archive:FILE[:TAG], docker-archive:FILE[:REF], or a layer's tar:FILE. IMAGE@N is layer N alone (1
is the bottom one), IMAGE@..N the layers 1 to N together. IMAGE:/PATH is a path in it.";

/// Opens what an argument names.
pub fn open(context: &Context, argument: &OsStr) -> Result<(Target, Image), Failure> {
    let target = Target::parse(argument)?;
    let image = Image::open(&context.store, &target, progress::bars(false).as_ref())?;
    Ok((target, image))
}

/// How names are shown: as they are, or, on a terminal, as the shell would take them, so that
/// nothing in them acts on the terminal.
#[derive(Debug, Clone, Copy)]
pub struct Names {
    terminal: bool,
}

impl Names {
    /// For standard output.
    pub fn of_stdout() -> Self {
        Self {
            terminal: std::io::stdout().is_terminal(),
        }
    }

    /// A name or path.
    pub fn show(self, name: &[u8]) -> Vec<u8> {
        match self.terminal {
            true => quoted(name),
            false => name.to_vec(),
        }
    }
}

/// A name in the shell's quotes, where it needs them; control characters and what is no UTF-8 as
/// `$'\033'`.
pub fn quoted(name: &[u8]) -> Vec<u8> {
    let plain = |c: char| c.is_alphanumeric() || "_./+,:@%^=-]{}".contains(c);
    let all_plain = |text: &str| text.chars().all(|c| plain(c) && !c.is_control());
    if std::str::from_utf8(name).is_ok_and(|t| !t.is_empty() && all_plain(t)) {
        return name.to_vec();
    }
    let mut out = Quoting::default();
    for chunk in name.utf8_chunks() {
        for c in chunk.valid().chars() {
            let mut bytes = [0; 4];
            let bytes = c.encode_utf8(&mut bytes).as_bytes();
            // What reorders text is as bad as what moves the cursor.
            let hidden = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
            match c {
                '\'' => out.escaped(b"\\'"),
                '\n' => out.special(b"\\n"),
                '\t' => out.special(b"\\t"),
                '\r' => out.special(b"\\r"),
                c if c.is_control() || hidden => bytes.iter().for_each(|b| out.octal(*b)),
                _ => out.plain(bytes),
            }
        }
        chunk.invalid().iter().for_each(|b| out.octal(*b));
    }
    out.finish()
}

/// Text on its way into quotes.
#[derive(Default)]
struct Quoting {
    out: Vec<u8>,
    open: Option<&'static [u8]>,
}

impl Quoting {
    fn within(&mut self, quotes: Option<&'static [u8]>) {
        if self.open != quotes {
            if self.open.is_some() {
                self.out.push(b'\'');
            }
            self.out.extend_from_slice(quotes.unwrap_or_default());
            self.open = quotes;
        }
    }

    fn plain(&mut self, bytes: &[u8]) {
        self.within(Some(b"'"));
        self.out.extend_from_slice(bytes);
    }

    fn escaped(&mut self, bytes: &[u8]) {
        self.within(None);
        self.out.extend_from_slice(bytes);
    }

    fn special(&mut self, bytes: &[u8]) {
        self.within(Some(b"$'"));
        self.out.extend_from_slice(bytes);
    }

    fn octal(&mut self, byte: u8) {
        self.special(format!("\\{byte:03o}").as_bytes());
    }

    fn finish(mut self) -> Vec<u8> {
        self.within(None);
        match self.out.is_empty() {
            true => b"''".to_vec(),
            false => self.out,
        }
    }
}

/// ls(1)'s ten letters; `w` is a whiteout, `h` a hard link to a file of a layer below.
pub fn mode_letters(entry: &Entry) -> String {
    let Entry::Object(object) = entry else {
        return "w---------".to_owned();
    };
    let kind = match type_letter(entry) {
        _ if object.marks.link_below => 'h',
        b'f' => '-',
        letter => letter.into(),
    };
    let perm = object.stat.perm;
    let mut letters = String::from(kind);
    for (shift, special, set) in [
        (6, 0o4000, ('s', 'S')),
        (3, 0o2000, ('s', 'S')),
        (0, 0o1000, ('t', 'T')),
    ] {
        let bits = perm >> shift;
        letters.push(if bits & 4 != 0 { 'r' } else { '-' });
        letters.push(if bits & 2 != 0 { 'w' } else { '-' });
        letters.push(match (perm & special != 0, bits & 1 != 0) {
            (true, true) => set.0,
            (true, false) => set.1,
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    letters
}

/// A user's or group's name, where there is one, else its number. The name is from the image, and
/// is shown as the names of files are.
pub fn owner(name: Option<&[u8]>, id: u32) -> String {
    match name {
        Some(name) => match String::from_utf8(Names::of_stdout().show(name)) {
            Ok(shown) => shown,
            Err(_) => String::from_utf8_lossy(&quoted(name)).into_owned(),
        },
        None => id.to_string(),
    }
}

/// Major and minor number of a device.
pub fn device(stat: &Stat) -> Option<(u32, u32)> {
    let special = matches!(stat.kind, FileType::CharDevice | FileType::BlockDevice);
    special.then(|| (rustix::fs::major(stat.rdev), rustix::fs::minor(stat.rdev)))
}

/// A time in UTC by a format of strftime(3); seconds where it is out of all calendars.
pub fn time(time: Timespec, format: &str) -> String {
    let nanoseconds = i32::try_from(time.nsec).unwrap_or(0);
    match jiff::Timestamp::new(time.sec, nanoseconds) {
        Ok(moment) => moment.strftime(format).to_string(),
        Err(_) => format!("@{}", time.sec),
    }
}

/// A time with all digits, as `ls --full-time` and stat(1) have it.
pub fn full_time(at: Timespec) -> String {
    let seconds = time(at, "%Y-%m-%d %H:%M:%S");
    format!("{seconds}.{:09} +0000", at.nsec)
}

/// A time as `ls -l` has it: with the hour if it is less than half a year ago.
pub fn short_time(at: Timespec) -> String {
    let now = jiff::Timestamp::now().as_second();
    let recent = (now - 31_556_952 / 2..=now).contains(&at.sec);
    time(at, if recent { "%b %e %H:%M" } else { "%b %e  %Y" })
}

/// A size as `ls -h` has it: rounded up, with one digit behind the point below ten.
pub fn human(size: u64) -> String {
    if size < 1024 {
        return size.to_string();
    }
    let mut unit: u64 = 1;
    for letter in "KMGTPE".chars() {
        unit = unit.saturating_mul(1024);
        let tenths = (u128::from(size) * 10).div_ceil(u128::from(unit));
        if tenths < 100 {
            return format!("{}.{}{letter}", tenths / 10, tenths % 10);
        }
        let whole = size.div_ceil(unit);
        if whole < 1024 || letter == 'E' {
            return format!("{whole}{letter}");
        }
    }
    size.to_string()
}

/// The target of a link, symbolic or to a layer below.
pub fn link_target(tree: &Tree, object: &Object) -> Result<Option<Vec<u8>>, Failure> {
    if object.stat.kind == FileType::Symlink {
        return Ok(Some(tree.read_link(object)?));
    }
    let target = tree.link_target(object)?;
    Ok(target.map(|path| [b"/", path.as_slice()].concat()))
}

/// Bytes as JSON: a string, and beside it, where it isn't UTF-8, its bytes in hexadecimal digits.
pub fn bytes_into(row: &mut Map<String, Value>, member: &str, bytes: &[u8]) {
    row.insert(member.into(), String::from_utf8_lossy(bytes).into());
    if std::str::from_utf8(bytes).is_err() {
        let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        row.insert(format!("{member}Hex"), hex.into());
    }
}

/// An object as JSON.
pub fn row(tree: &Tree, owners: &Owners, path: &[u8], entry: &Entry) -> Result<Value, Failure> {
    let mut row = Map::new();
    bytes_into(&mut row, "Path", path);
    let kind = match entry {
        Entry::Whiteout => "whiteout",
        Entry::Object(object) if object.marks.link_below => "hard link",
        Entry::Object(object) => kind_name(object.stat.kind),
    };
    row.insert("Type".into(), kind.into());
    let Entry::Object(object) = entry else {
        return Ok(Value::Object(row));
    };
    let stat = &object.stat;
    let facts = json!({
        "Mode": format!("{:04o}", stat.perm),
        "Links": stat.nlink,
        "UID": stat.uid,
        "GID": stat.gid,
        "Size": stat.size,
        "Inode": stat.ino,
        "ModTime": time(stat.mtime, "%Y-%m-%dT%H:%M:%S.%9fZ"),
        "Layer": tree.origin(object)?.map(|(layer, _)| layer),
    });
    if let Value::Object(facts) = facts {
        row.extend(facts);
    }
    for (member, name) in [
        ("User", owners.user(stat.uid)),
        ("Group", owners.group(stat.gid)),
    ] {
        if let Some(name) = name {
            bytes_into(&mut row, member, name);
        }
    }
    if let Some((major, minor)) = device(stat) {
        row.insert("Device".into(), json!([major, minor]));
    }
    if let Some(target) = link_target(tree, object)? {
        bytes_into(&mut row, "Target", &target);
    }
    if object.marks.opaque {
        row.insert("Opaque".into(), true.into());
    }
    Ok(Value::Object(row))
}

/// A type in words, as stat(1) has it.
pub fn kind_name(kind: FileType) -> &'static str {
    match kind {
        FileType::Regular => "regular file",
        FileType::Directory => "directory",
        FileType::Symlink => "symbolic link",
        FileType::CharDevice => "character special file",
        FileType::BlockDevice => "block special file",
        FileType::Fifo => "fifo",
        FileType::Socket => "socket",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_do_not_act_on_terminals() {
        for (name, shown) in [
            (&b"plain-1.txt"[..], "plain-1.txt"),
            (b"a b", "'a b'"),
            (b"it's", r"'it'\''s'"),
            (b"\x1b[31mred", r"$'\033''[31mred'"),
            (b"a\nb", r"'a'$'\n''b'"),
            (b"\xff", r"$'\377'"),
            ("é".as_bytes(), "é"),
            ("\u{9b}x".as_bytes(), r"$'\302\233''x'"),
            ("a\u{202e}b".as_bytes(), r"'a'$'\342\200\256''b'"),
            (b"", "''"),
        ] {
            assert_eq!(String::from_utf8(quoted(name)).unwrap(), shown);
        }
    }

    #[test]
    fn sizes_are_those_of_ls() {
        for (size, shown) in [
            (0, "0"),
            (1023, "1023"),
            (1024, "1.0K"),
            (1025, "1.1K"),
            (10 * 1024, "10K"),
            (10 * 1024 + 1, "11K"),
            (1 << 20, "1.0M"),
            ((1 << 20) - 1, "1.0M"),
            (u64::MAX, "16E"),
        ] {
            assert_eq!(human(size), shown, "{size}");
        }
    }
}
