//! Walks through the tree, as find(1), tar(1) and a comparison of two mounts make them, and the
//! directories that they are coming to: these are read while the walker is busy with the last one.
//!
//! A walk is seen when a directory is listed soon after its parent. Its subdirectories are read from
//! then on, the nearest first, and those of the directories that were expected.

use std::num::NonZeroUsize;
use std::sync::Arc;

use foldhash::HashMap;
use lru::LruCache;

use super::server::Server;
use crate::sync::Mutex;
use crate::union::{DirList, Node, NodeId};

/// Among how many of the directories that were listed last a parent is looked for.
const RECENT: NonZeroUsize = NonZeroUsize::new(16).expect("not zero");

/// How many subdirectories are known of one that may be walked.
const SUBDIRS_MOST: usize = 256;

/// How many directories wait to be read at most.
const WANTED_MOST: usize = 4096;

/// How many entries are kept for walkers to come, each of some 250 bytes.
const ENTRIES_MOST: usize = 4096;

/// What is known of walks.
pub(super) struct Ahead {
    on: bool,
    state: Mutex<State>,
}

struct State {
    recent: LruCache<NodeId, Listed>,
    /// To be read, the next one last.
    wanted: Vec<NodeId>,
    /// Being read.
    reading: Option<NodeId>,
    ready: HashMap<NodeId, DirList>,
    /// Entries of those.
    entries: usize,
    /// Whether a job is at it.
    busy: bool,
}

/// A directory that was listed.
struct Listed {
    walked: bool,
    /// Its subdirectories, until it is known to be walked.
    below: Vec<NodeId>,
}

/// What was prepared for who lists a directory.
struct Taken {
    list: Option<DirList>,
    /// Whether the directory was expected to be listed.
    expected: bool,
}

/// The beginning or a further part of a directory's listing.
pub(super) enum Part {
    /// Whether the directory was expected.
    First(bool),
    Next,
}

impl Ahead {
    /// `on`: whether there is something to be gained.
    pub fn new(on: bool) -> Self {
        Self {
            on,
            state: Mutex::new(State {
                recent: LruCache::new(RECENT),
                wanted: Vec::new(),
                reading: None,
                ready: HashMap::default(),
                entries: 0,
                busy: false,
            }),
        }
    }

    /// A directory is about to be listed from its beginning: takes what was prepared for that.
    fn take(&self, dir: NodeId) -> Taken {
        let mut state = self.state.lock();
        let list = state.drop_ready(dir);
        let wanted = state.wanted.iter().rposition(|id| *id == dir);
        if let Some(at) = wanted {
            state.wanted.remove(at);
        }
        // What is being read comes too late.
        let reading = state.reading.take_if(|id| *id == dir);
        Taken {
            expected: list.is_some() || wanted.is_some() || reading.is_some(),
            list,
        }
    }

    /// A part of a directory was listed, which has these subdirectories. Whether a job is to be
    /// started.
    fn listed(
        &self,
        (dir, parent): (NodeId, Option<NodeId>),
        part: &Part,
        below: Vec<NodeId>,
    ) -> bool {
        let mut state = self.state.lock();
        let state = &mut *state;
        if let Part::First(expected) = *part {
            if !expected && state.entries >= ENTRIES_MOST {
                // Those they were for have gone elsewhere.
                state.ready.clear();
                state.wanted.clear();
                state.entries = 0;
            }
            let listed = Listed {
                walked: state.is_walked(dir, parent) || expected,
                below: Vec::new(),
            };
            state.recent.push(dir, listed);
        }
        let Some(listed) = state.recent.get_mut(&dir) else {
            return false;
        };
        if listed.walked {
            state.want(below);
        } else {
            listed.below.extend(below);
            listed.below.truncate(SUBDIRS_MOST);
        }
        state.start()
    }

    /// The next directory to be read; with none the job ends.
    fn next(&self) -> Option<NodeId> {
        let mut state = self.state.lock();
        state.reading = match state.entries < ENTRIES_MOST {
            true => state.wanted.pop(),
            false => None,
        };
        state.busy = state.reading.is_some();
        state.reading
    }

    /// A directory has been read.
    fn done(&self, dir: NodeId, list: Option<DirList>) {
        let mut state = self.state.lock();
        // Else somebody has listed it meanwhile.
        if state.reading.take() == Some(dir)
            && let Some(list) = list
        {
            state.entries += cost(&list);
            state.ready.insert(dir, list);
        }
    }

    /// The kernel has forgotten a node.
    pub fn forget(&self, dir: NodeId) {
        if self.on {
            let gone = self.state.lock().drop_ready(dir);
            drop(gone);
        }
    }
}

impl<I: Send + Sync + 'static> Server<I> {
    /// A directory's listing, if it was prepared; and which part of it is listed.
    pub(super) fn prepared(&self, dir: &Node, from: u64) -> (Option<DirList>, Part) {
        if from > 0 || !self.ahead.on {
            return (None, Part::Next);
        }
        let Taken { list, expected } = self.ahead.take(dir.id());
        let list = list.filter(|_| dir.is_lower_alone());
        (list, Part::First(expected))
    }

    /// Part of a directory was listed, with these subdirectories.
    pub(super) fn walked(self: &Arc<Self>, dir: &Node, part: &Part, below: Vec<NodeId>) {
        if !self.ahead.on {
            return;
        }
        let parent = dir.known_names().first().map(|(parent, _)| *parent);
        if self.ahead.listed((dir.id(), parent), part, below) {
            let server = Arc::clone(self);
            self.run_job(Box::new(move || server.read_ahead()));
        }
    }

    fn read_ahead(&self) {
        while let Some(id) = self.ahead.next() {
            let union = self.union();
            let list = union.get(id).and_then(|dir| union.read_ahead(&dir));
            // The kernel may have forgotten it while it was in use here.
            union.forget(id, 0);
            self.ahead.done(id, list.unwrap_or_default());
            if !union.has(id) {
                self.ahead.forget(id);
            }
        }
    }
}

impl State {
    /// Whether a directory with this parent is part of a walk. Its siblings are then, too.
    fn is_walked(&mut self, dir: NodeId, parent: Option<NodeId>) -> bool {
        let Some(parent) = parent.and_then(|parent| self.recent.get_mut(&parent)) else {
            return false;
        };
        parent.walked = true;
        let mut siblings = std::mem::take(&mut parent.below);
        siblings.retain(|sibling| *sibling != dir);
        self.want(siblings);
        true
    }

    /// Puts directories before those that are waiting.
    fn want(&mut self, dirs: Vec<NodeId>) {
        self.wanted.extend(dirs.into_iter().rev());
        let over = self.wanted.len().saturating_sub(WANTED_MOST);
        self.wanted.drain(..over);
    }

    /// Whether a job is to be started.
    fn start(&mut self) -> bool {
        let starts = !self.busy && !self.wanted.is_empty() && self.entries < ENTRIES_MOST;
        self.busy |= starts;
        starts
    }

    fn drop_ready(&mut self, dir: NodeId) -> Option<DirList> {
        let list = self.ready.remove(&dir)?;
        self.entries -= cost(&list);
        Some(list)
    }
}

/// What keeping a listing counts.
fn cost(list: &DirList) -> usize {
    list.len() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(numbers: &[u64]) -> Vec<NodeId> {
        numbers.iter().copied().map(NodeId).collect()
    }

    /// As the kernel lists a directory.
    fn list(ahead: &Ahead, dir: u64, parent: u64, below: &[u64]) -> (bool, bool) {
        let Taken { list, expected } = ahead.take(NodeId(dir));
        let which = (NodeId(dir), Some(NodeId(parent)));
        let starts = ahead.listed(which, &Part::First(expected), ids(below));
        (list.is_some(), starts)
    }

    fn read_all(ahead: &Ahead) -> Vec<u64> {
        let mut read = Vec::new();
        while let Some(id) = ahead.next() {
            read.push(id.0);
            ahead.done(id, Some(DirList::default()));
        }
        read
    }

    #[test]
    fn who_lists_a_directory_and_another_elsewhere_is_no_walker() {
        let ahead = Ahead::new(true);
        assert_eq!(list(&ahead, 1, 0, &[10, 20]), (false, false));
        assert_eq!(list(&ahead, 35, 30, &[36, 37]), (false, false));
        assert!(read_all(&ahead).is_empty());
    }

    #[test]
    fn the_nearest_directories_of_a_walk_are_read_first() {
        let ahead = Ahead::new(true);
        list(&ahead, 1, 0, &[10, 20, 30]);
        assert_eq!(list(&ahead, 10, 1, &[11, 12]), (false, true));
        // A second part of it, and one job at a time.
        assert!(!ahead.listed((NodeId(10), None), &Part::Next, ids(&[13])));
        assert_eq!(read_all(&ahead), [13, 11, 12, 20, 30]);
        assert_eq!(list(&ahead, 11, 10, &[]), (true, false));
        assert_eq!(list(&ahead, 11, 10, &[]), (false, false), "once");
        // However long ago its parent was listed.
        (100..200).for_each(|dir| assert_eq!(list(&ahead, dir, 99, &[]), (false, false)));
        assert_eq!(list(&ahead, 20, 1, &[21]), (true, true));
        assert_eq!(read_all(&ahead), [21]);
    }

    #[test]
    fn what_is_listed_while_it_is_read_ahead_is_not_kept() {
        let ahead = Ahead::new(true);
        list(&ahead, 1, 0, &[10, 20]);
        list(&ahead, 10, 1, &[]);
        assert_eq!(ahead.next(), Some(NodeId(20)));
        list(&ahead, 20, 1, &[21]);
        ahead.done(NodeId(20), Some(DirList::default()));
        assert_eq!(read_all(&ahead), [21]);
        assert_eq!(list(&ahead, 20, 1, &[]), (false, false));
        ahead.forget(NodeId(21));
        assert_eq!(list(&ahead, 21, 20, &[]), (false, false));
        assert_eq!(ahead.state.lock().entries, 0);
    }

    #[test]
    fn it_stays_in_bounds() {
        let ahead = Ahead::new(true);
        let many: Vec<u64> = (100..100 + 2 * WANTED_MOST as u64).collect();
        list(&ahead, 1, 0, &[10]);
        assert_eq!(list(&ahead, 10, 1, &many), (false, true));
        assert_eq!(read_all(&ahead), many[..ENTRIES_MOST]);
        assert_eq!(
            list(&ahead, many[0], 10, &[]),
            (true, false),
            "none is left"
        );
        list(&ahead, 10, 1, &many[ENTRIES_MOST..]);
        assert_eq!(read_all(&ahead).len(), 1, "as many as were taken");
        // A walk elsewhere has the room to itself.
        list(&ahead, 2, 0, &[20, 30]);
        assert_eq!(list(&ahead, 20, 2, &[]), (false, true));
        assert_eq!(read_all(&ahead), [30]);
    }
}
