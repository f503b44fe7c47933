//! The difference between two files, as diff(1) `-u` shows it.

use std::io::Read as _;
use std::time::Duration;

use similar::TextDiff;

use super::TreeChange;
use crate::error::{Context, Failure};
use crate::inspect::data::ContentReader;
use crate::inspect::tree::{Object, Tree};

/// The longest file of which differences are shown line by line, in bytes.
pub const MAX_TEXT: u64 = 16 << 20;
/// After so long the differences are no longer made as few as can be.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is to be said of two files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Lines in the unified format, with their headings.
    Text(Vec<u8>),
    /// One of them is no text.
    Binary,
    /// One of them is longer than [`MAX_TEXT`].
    Long,
}

/// The difference of the files that a change concerns; `None` when it concerns the bytes of none.
///
/// # Errors
/// `System` when a file can't be read.
pub fn content(
    before: &Tree,
    after: &Tree,
    change: &TreeChange,
) -> Result<Option<Content>, Failure> {
    let (old, new) = change.files();
    if old.is_none() && new.is_none() {
        return Ok(None);
    }
    let size = |file: Option<Object>| file.map_or(0, |f| f.stat.size);
    if size(old).max(size(new)) > MAX_TEXT {
        return Ok(Some(Content::Long));
    }
    let read = |tree: &Tree, file: Option<Object>| match file {
        Some(file) => read(tree, &file),
        None => Ok(Vec::new()),
    };
    let about = || change.path.escape_ascii().to_string();
    let a = read(before, old).context(about)?;
    let b = read(after, new).context(about)?;
    if a.contains(&0) || b.contains(&0) {
        return Ok(Some(Content::Binary));
    }
    let path = shown(&change.path);
    let name = |side: char, file: Option<Object>| match file {
        Some(_) => format!("{side}{path}"),
        None => "/dev/null".to_owned(),
    };
    Ok(Some(Content::Text(unified(
        (&name('a', old), &a),
        (&name('b', new), &b),
    ))))
}

fn read(tree: &Tree, file: &Object) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    ContentReader::new(tree.open(file)?)
        .take(MAX_TEXT + 1)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A path in a heading: one line, whatever is in it.
fn shown(path: &[u8]) -> String {
    match std::str::from_utf8(path) {
        Ok(text) if text.chars().all(|c| !c.is_control()) => text.to_owned(),
        _ => path.escape_ascii().to_string(),
    }
}

fn unified(old: (&str, &[u8]), new: (&str, &[u8])) -> Vec<u8> {
    let diff = TextDiff::configure()
        .timeout(PATIENCE)
        .diff_lines(old.1, new.1);
    let mut out = Vec::new();
    // Writing into a vector can't fail.
    diff.unified_diff()
        .context_radius(3)
        .header(old.0, new.0)
        .to_writer(&mut out)
        .unwrap_or_default();
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_shown_as_diff_does() {
        let out = unified(
            ("a/x", b"1\n2\n3\n4\n5\n6\n7\n8\n9\n"),
            ("b/x", b"1\n2\n3\n4\nfive\n6\n7\n8\n9"),
        );
        let expected = "--- a/x\n+++ b/x\n@@ -2,8 +2,8 @@\n 2\n 3\n 4\n-5\n+five\n 6\n 7\n 8\n-9\n+9\n\
            \\ No newline at end of file\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
        assert_eq!(unified(("a", b"\xff\n"), ("b", b"\xff\n")), b"");
    }

    #[test]
    fn names_stay_in_their_line() {
        assert_eq!(shown(b"/a\n+++ b\x1b"), "/a\\n+++ b\\x1b");
        assert_eq!(shown("/ä".as_bytes()), "/ä");
    }
}
