//! Names of users and groups, as the image's own `/etc/passwd` and `/etc/group` give them.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::io::Read as _;

use super::data::ContentReader;
use super::image::Image;
use super::path::Last;
use super::target::Span;
use super::tree::Tree;
use crate::error::{Failure, FailureKind};

/// So much of such a file is read at most, in bytes.
const LIMIT: u64 = 4 << 20;

/// What is known of the users and groups of an image. Its files are read when the first is asked
/// for: the only contents that listings need.
pub struct Owners {
    tree: Tree,
    users: OnceCell<Option<Names>>,
    groups: OnceCell<Option<Names>>,
}

/// What a file says; of what it says twice, the first.
#[derive(Default)]
struct Names {
    names: HashMap<u32, Vec<u8>>,
    ids: HashMap<Vec<u8>, u32>,
}

impl Names {
    fn of(text: &[u8]) -> Self {
        let mut all = Self::default();
        for (name, id) in text.split(|b| *b == b'\n').filter_map(entry) {
            all.names.entry(id).or_insert_with(|| name.clone());
            all.ids.entry(name).or_insert(id);
        }
        all
    }
}

impl Owners {
    /// Those of what is looked at; of a layer alone, of the image up to it.
    #[must_use]
    pub fn of(image: &Image, tree: &Tree) -> Self {
        let whole = match image.span {
            Span::Layer(number) if image.id.is_some() => image.tree_of(Span::UpTo(number)).ok(),
            _ => None,
        };
        Self::of_tree(&whole.unwrap_or_else(|| tree.clone()))
    }

    /// Those that a tree's files name.
    #[must_use]
    pub fn of_tree(tree: &Tree) -> Self {
        Self {
            tree: tree.clone(),
            users: OnceCell::new(),
            groups: OnceCell::new(),
        }
    }

    /// A user's name.
    #[must_use]
    pub fn user(&self, id: u32) -> Option<&[u8]> {
        name_of(self.users(), id)
    }

    /// A group's name.
    #[must_use]
    pub fn group(&self, id: u32) -> Option<&[u8]> {
        name_of(self.groups(), id)
    }

    /// A user's number. root is 0 without looking.
    #[must_use]
    pub fn user_id(&self, name: &[u8]) -> Option<u32> {
        (name == b"root")
            .then_some(0)
            .or_else(|| id_of(self.users(), name))
    }

    /// A group's number. root is 0 without looking.
    #[must_use]
    pub fn group_id(&self, name: &[u8]) -> Option<u32> {
        (name == b"root")
            .then_some(0)
            .or_else(|| id_of(self.groups(), name))
    }

    fn users(&self) -> Option<&Names> {
        let users = self.users.get_or_init(|| self.read(b"/etc/passwd"));
        users.as_ref()
    }

    fn groups(&self) -> Option<&Names> {
        let groups = self.groups.get_or_init(|| self.read(b"/etc/group"));
        groups.as_ref()
    }

    /// The names in a file; `None` where there is no such file. One that can't be read makes no
    /// listing fail: it is said, and there are numbers.
    fn read(&self, path: &[u8]) -> Option<Names> {
        match self.text(path) {
            Ok(text) => text.as_deref().map(Names::of),
            Err(why) => {
                log::warn!("{}: {why}", path.escape_ascii());
                None
            }
        }
    }

    fn text(&self, path: &[u8]) -> Result<Option<Vec<u8>>, Failure> {
        let found = match self.tree.find(path, Last::Follow) {
            Ok(found) if found.object.is_file() => found.object,
            Ok(_) => return Ok(None),
            Err(e) if e.kind() == FailureKind::System => return Err(e),
            Err(_) => return Ok(None),
        };
        let mut text = Vec::new();
        if found.stat.size > 0 {
            let contents = ContentReader::new(self.tree.open(&found)?);
            contents.take(LIMIT).read_to_end(&mut text)?;
        }
        Ok(Some(text))
    }
}

/// The name and the number of a line of passwd(5) or group(5).
fn entry(line: &[u8]) -> Option<(Vec<u8>, u32)> {
    let mut fields = line.split(|b| *b == b':');
    let name = fields.next().filter(|name| !name.is_empty())?;
    // What begins so is a comment, or speaks of a directory service.
    if matches!(name.first(), Some(b'#' | b'+' | b'-')) {
        return None;
    }
    let id = std::str::from_utf8(fields.nth(1)?).ok()?;
    Some((name.to_vec(), id.parse().ok()?))
}

/// A number's name. Without the file, 0 is root everywhere.
fn name_of(names: Option<&Names>, id: u32) -> Option<&[u8]> {
    match names {
        Some(names) => names.names.get(&id).map(Vec::as_slice),
        None => (id == 0).then_some(b"root"),
    }
}

fn id_of(names: Option<&Names>, name: &[u8]) -> Option<u32> {
    names?.ids.get(name).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_passwd_and_group() {
        let line = |line: &str| entry(line.as_bytes());
        assert_eq!(
            line("www:x:33:33:web:/:/bin/sh"),
            Some((b"www".to_vec(), 33))
        );
        assert_eq!(line("staff:x:50:"), Some((b"staff".to_vec(), 50)));
        for odd in [
            "",
            ":",
            "a:x",
            "a:x:",
            "a:x:-1",
            "a:x:4294967296:",
            "#a:x:1:",
            "+:x:1:",
            ":x:1:",
        ] {
            assert_eq!(line(odd), None, "{odd}");
        }
        let names = Names::of(b"a:x:1:\nb:x:1:\na:x:2:\n");
        assert_eq!(name_of(Some(&names), 1), Some(&b"a"[..]));
        assert_eq!(name_of(Some(&names), 0), None);
        assert_eq!(name_of(None, 0), Some(&b"root"[..]));
        assert_eq!(id_of(Some(&names), b"b"), Some(1));
        assert_eq!(id_of(Some(&names), b"a"), Some(1));
    }
}
