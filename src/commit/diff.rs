//! `diff CONTAINER`: a container's changes as Docker lists them.

use super::View;
use super::changes::ChangeKind;
use crate::error::Failure;

/// One line of the listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiffLine {
    /// `A`, `C` or `D`.
    pub letter: char,
    /// The path, with a leading slash.
    pub path: Vec<u8>,
}

/// What a container changed, sorted by path. The root itself is not listed, as Docker doesn't.
///
/// # Errors
/// `System` when a layer can't be read.
pub fn diff(view: &View) -> Result<Vec<DiffLine>, Failure> {
    let all = view.changes()?;
    let line = |change: super::Change| DiffLine {
        letter: match change.kind {
            ChangeKind::Added => 'A',
            ChangeKind::Modified => 'C',
            ChangeKind::Deleted => 'D',
        },
        path: [b"/", &change.path[..]].concat(),
    };
    Ok(all
        .into_iter()
        .filter(|c| !c.path.is_empty() && !c.links_only)
        .map(line)
        .collect())
}
