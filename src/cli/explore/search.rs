//! [`Search`]: the paths that a text is in, and the way from one to the next.

use std::cmp::Ordering;

use super::work::Query;
use crate::inspect::levels::Matches;

/// A search and what it found.
pub struct Search {
    /// What was asked.
    pub query: Query,
    forward: bool,
    matches: Option<Matches>,
}

impl Search {
    /// A search whose answer is still to come; it then goes on in this direction.
    pub fn new(query: Query, forward: bool) -> Self {
        Self {
            query,
            forward,
            matches: None,
        }
    }

    /// Takes the answer; the direction in which to go on.
    pub fn take(&mut self, matches: Matches) -> bool {
        self.matches = Some(matches);
        self.forward
    }

    /// Whether the answer is still to come.
    pub fn is_running(&self) -> bool {
        self.matches.is_none()
    }

    /// The match after or before a path, from the other end when there is none: its place and path.
    pub fn step(&self, here: &[u8], forward: bool) -> Option<(usize, Vec<u8>)> {
        let paths = &self.matches.as_ref()?.paths;
        let before = paths.partition_point(|path| in_order(path, here).is_lt());
        let place = match forward {
            true => {
                let here = paths.get(before).is_some_and(|path| path == here);
                let next = before + usize::from(here);
                if next < paths.len() { next } else { 0 }
            }
            false => before.checked_sub(1).unwrap_or(paths.len().checked_sub(1)?),
        };
        paths.get(place).map(|path| (place, path.clone()))
    }

    /// What there is to say of a match.
    pub fn place(&self, place: usize) -> String {
        let matches = self.matches.as_ref();
        let all = matches.map_or(0, |m| m.paths.len());
        let more = if matches.is_some_and(|m| m.more) {
            "+"
        } else {
            ""
        };
        format!(
            "match {} of {all}{more} for \"{}\"",
            place + 1,
            self.query.pattern.escape_debug()
        )
    }
}

/// The order in which a walk comes by paths.
fn in_order(a: &[u8], b: &[u8]) -> Ordering {
    a.split(|b| *b == b'/').cmp(b.split(|b| *b == b'/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_follow_each_other_round() {
        let query = Query {
            level: 0,
            changes: false,
            pattern: "x".into(),
        };
        let mut search = Search::new(query, true);
        assert!(search.step(b"/a", true).is_none() && search.is_running());
        let paths: Vec<Vec<u8>> = [&b"/a/x"[..], b"/a-x", b"/x"].map(<[u8]>::to_vec).into();
        assert!(search.take(Matches { paths, more: true }));
        let step = |here: &[u8], forward| search.step(here, forward).unwrap().0;
        assert_eq!(step(b"/a", true), 0);
        assert_eq!(step(b"/a/x", true), 1);
        assert_eq!(step(b"/a-x", false), 0);
        assert_eq!(step(b"/x", true), 0);
        assert_eq!(step(b"", false), 2);
        assert_eq!(search.place(1), "match 2 of 3+ for \"x\"");
        search.take(Matches::default());
        assert!(search.step(b"/a", true).is_none() && search.step(b"/a", false).is_none());
    }
}
