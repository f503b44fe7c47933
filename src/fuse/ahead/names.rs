//! A reader that opens files by their names, one after the other, without having listed the
//! directory, as `xargs cat` with a list: the host reads the next ones from the disk meanwhile.

use std::num::NonZeroUsize;

use lru::LruCache;

use crate::name::NameBuf;
use crate::union::NodeId;

/// Of how many directories the names are known.
const RECENT: NonZeroUsize = NonZeroUsize::new(16).expect("not zero");

/// How many files are read ahead of the reader: twice as many as at first after two neighbours, and so
/// on.
const AHEAD_FIRST: usize = 4;
const AHEAD_MOST: usize = 64;

/// How many directories a reader looks up, at most, before it opens a file again.
const ENTERED_MOST: usize = 8;

/// What is to be done next for a reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Want {
    /// The names of a directory's files, in order.
    List(NodeId),
    /// The beginning of a file.
    Fetch(NodeId, NameBuf),
}

/// Where a reader is, and whether it takes one file after the other.
pub(super) struct Names {
    dirs: LruCache<NodeId, Dir>,
    at: Option<NodeId>,
    follows: bool,
    most: usize,
    /// Directories that were looked up since.
    entered: usize,
}

#[derive(Default)]
struct Dir {
    files: Files,
    before: Option<NameBuf>,
    last: Option<NameBuf>,
    /// The place after the last one that was opened.
    from: usize,
    /// The place of the next one to be read.
    next: usize,
}

#[derive(Default)]
enum Files {
    #[default]
    Unknown,
    /// Being listed.
    Asked,
    Known(Vec<NameBuf>),
}

impl Default for Names {
    fn default() -> Self {
        Self {
            dirs: LruCache::new(RECENT),
            at: None,
            follows: false,
            most: AHEAD_FIRST,
            entered: 0,
        }
    }
}

impl Names {
    /// A file was opened.
    pub fn opened(&mut self, dir: NodeId, name: NameBuf) {
        let known = self.dirs.get_or_insert_mut(dir, Dir::default);
        known.before = known.last.replace(name);
        self.at = Some(dir);
        self.entered = 0;
        self.judge(dir);
    }

    /// A directory was looked up. Who goes through files goes through it next.
    pub fn entered(&mut self, dir: NodeId) {
        self.entered += 1;
        if self.entered > ENTERED_MOST {
            self.stop();
        }
        if self.follows {
            self.dirs.get_or_insert(dir, Dir::default);
            self.at = Some(dir);
        }
    }

    fn stop(&mut self) {
        (self.follows, self.most) = (false, AHEAD_FIRST);
    }

    /// These are the files of a directory, in order.
    pub fn listed(&mut self, dir: NodeId, files: Vec<NameBuf>) {
        if let Some(known) = self.dirs.peek_mut(&dir) {
            known.files = Files::Known(files);
            self.judge(dir);
        }
    }

    fn judge(&mut self, dir: NodeId) {
        let Some(known) = self.dirs.peek_mut(&dir) else {
            return;
        };
        let Files::Known(files) = &known.files else {
            return;
        };
        let place = |name: &Option<NameBuf>| files.binary_search(name.as_ref()?).ok();
        let Some(last) = place(&known.last) else {
            return;
        };
        known.from = last + 1;
        known.next = known.next.max(known.from);
        match &known.before {
            // The first in a directory that it has come to.
            None if last == 0 => {}
            before if place(before).is_some_and(|before| last == before + 1) => {
                self.follows = true;
                self.most = (self.most * 2).min(AHEAD_MOST);
            }
            _ => self.stop(),
        }
    }

    /// Whether there is something to be done.
    pub fn is_wanted(&self) -> bool {
        let Some(dir) = self.at.and_then(|dir| self.dirs.peek(&dir)) else {
            return false;
        };
        match &dir.files {
            Files::Unknown => self.follows || dir.before.is_some(),
            Files::Asked => false,
            Files::Known(files) => self.follows && dir.next < files.len().min(dir.from + self.most),
        }
    }

    /// What is to be done next.
    pub fn next(&mut self) -> Option<Want> {
        if !self.is_wanted() {
            return None;
        }
        let at = self.at?;
        let dir = self.dirs.peek_mut(&at)?;
        match &dir.files {
            Files::Known(files) => {
                let name = files.get(dir.next)?.clone();
                dir.next += 1;
                Some(Want::Fetch(at, name))
            }
            _ => {
                dir.files = Files::Asked;
                Some(Want::List(at))
            }
        }
    }

    /// A node is gone.
    pub fn forget(&mut self, node: NodeId) {
        self.dirs.pop(&node);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIR: NodeId = NodeId(7);
    const OTHER: NodeId = NodeId(8);

    fn name(number: usize) -> NameBuf {
        NameBuf::new(format!("{number:03}").as_bytes()).unwrap()
    }

    fn fetched(names: &mut Names) -> Vec<NameBuf> {
        let next = std::iter::from_fn(|| names.next());
        next.map(|want| match want {
            Want::Fetch(_, name) => name,
            Want::List(dir) => panic!("{dir:?} is to be listed"),
        })
        .collect()
    }

    fn between(from: usize, to: usize) -> Vec<NameBuf> {
        (from..to).map(name).collect()
    }

    #[test]
    fn who_opens_neighbours_finds_the_next_ones_read() {
        let mut names = Names::default();
        names.opened(DIR, name(3));
        assert_eq!(names.next(), None, "one alone");
        names.opened(DIR, name(4));
        assert_eq!(names.next(), Some(Want::List(DIR)));
        assert_eq!(names.next(), None);
        names.listed(DIR, between(0, 500));
        assert_eq!(fetched(&mut names), between(5, 13));
        names.opened(DIR, name(5));
        assert_eq!(fetched(&mut names), between(13, 22));
        (6..400).for_each(|n| names.opened(DIR, name(n)));
        assert_eq!(fetched(&mut names), between(400, 464));
        // It goes on in the next directory, from the first.
        names.entered(OTHER);
        assert_eq!(names.next(), Some(Want::List(OTHER)));
        names.listed(OTHER, between(0, 3));
        assert_eq!(fetched(&mut names), between(0, 3));
        names.opened(OTHER, name(0));
        // And comes back.
        names.opened(DIR, name(400));
        assert_eq!(fetched(&mut names), between(464, 465));
    }

    #[test]
    fn who_has_followed_may_end_to() {
        let reader = || {
            let mut names = Names::default();
            names.opened(DIR, name(0));
            names.opened(DIR, name(1));
            names.next();
            names.listed(DIR, between(0, 10));
            assert_eq!(fetched(&mut names).len(), 8);
            names
        };
        // One file in the middle of each directory.
        let mut names = reader();
        names.entered(OTHER);
        names.next();
        names.listed(OTHER, between(0, 10));
        names.opened(OTHER, name(5));
        assert!(!names.is_wanted());
        // None at all.
        let mut names = reader();
        (0..20).for_each(|dir| names.entered(NodeId(100 + dir)));
        assert!(!names.is_wanted());
    }

    #[test]
    fn who_opens_one_here_and_there_does_not() {
        let mut names = Names::default();
        names.opened(DIR, name(3));
        names.opened(OTHER, name(3));
        names.entered(NodeId(9));
        assert_eq!(names.next(), None);
        names.opened(DIR, name(8));
        assert_eq!(names.next(), Some(Want::List(DIR)));
        names.listed(DIR, between(0, 500));
        assert_eq!(names.next(), None);
        // A reader that was on its way goes elsewhere.
        names.opened(DIR, name(9));
        assert!(names.is_wanted());
        names.opened(DIR, name(100));
        assert_eq!(names.next(), None);
        names.forget(DIR);
        names.listed(DIR, between(0, 500));
        assert_eq!(names.next(), None);
    }
}
