//! Walking a level: parents before children, without recursion.

use super::{Levels, Shown};
use crate::error::Failure;
use crate::name::NameBuf;

/// One step of a walk.
pub enum Step<'a> {
    /// Something, before what is in it.
    Enter(&'a Shown),
    /// A directory, after all that is in it.
    Leave(&'a Shown),
}

/// What a search found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Matches {
    /// Paths with their leading slashes, in the order of a walk.
    pub paths: Vec<Vec<u8>>,
    /// Whether there are more than were asked for.
    pub more: bool,
}

struct Frame {
    shown: Shown,
    children: std::vec::IntoIter<(NameBuf, Shown)>,
    /// Length of its path.
    path_len: usize,
}

impl Levels {
    /// Walks a level, or only what it did. `each` is given the path (empty for the root, else with a
    /// leading slash) and returns whether the walk goes on.
    ///
    /// # Errors
    /// `System` when an index is damaged.
    pub fn walk(
        &self,
        level: usize,
        only_touched: bool,
        each: &mut dyn FnMut(&[u8], Step<'_>) -> bool,
    ) -> Result<(), Failure> {
        let mut path = Vec::new();
        let mut frames: Vec<Frame> = Vec::new();
        let mut next = self.root(level)?;
        loop {
            if let Some(shown) = next.take()
                && (shown.touched || !only_touched)
            {
                if !each(&path, Step::Enter(&shown)) {
                    return Ok(());
                }
                if let Some(dir) = &shown.dir {
                    frames.push(Frame {
                        children: self.list(level, dir)?.into_iter(),
                        path_len: path.len(),
                        shown,
                    });
                }
            }
            let Some(frame) = frames.last_mut() else {
                return Ok(());
            };
            path.truncate(frame.path_len);
            match frame.children.next() {
                Some((name, shown)) => {
                    path.push(b'/');
                    path.extend_from_slice(name.as_bytes());
                    next = Some(shown);
                }
                None => {
                    if !each(&path, Step::Leave(&frame.shown)) {
                        return Ok(());
                    }
                    frames.pop();
                }
            }
        }
    }

    /// The paths of a level, or of what it did, that `wanted` says yes to; at most `limit`. Ends
    /// early, with what there is, when `go_on` says no.
    ///
    /// # Errors
    /// `System` when an index is damaged.
    pub fn search(
        &self,
        level: usize,
        only_touched: bool,
        limit: usize,
        wanted: &dyn Fn(&[u8]) -> bool,
        go_on: &dyn Fn() -> bool,
    ) -> Result<Matches, Failure> {
        let mut found = Matches::default();
        self.walk(level, only_touched, &mut |path, step| {
            let enters = matches!(step, Step::Enter(_));
            if enters && !path.is_empty() && wanted(path) {
                if found.paths.len() == limit {
                    found.more = true;
                    return false;
                }
                found.paths.push(path.to_vec());
            }
            go_on()
        })?;
        Ok(found)
    }
}
