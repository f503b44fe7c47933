//! Walks through the tree, as find(1), tar(1) and a comparison of two mounts make them, and what they
//! are coming to: that is read while the walker is busy with the last.
//!
//! A walk is seen when a directory is listed soon after its parent. Its subdirectories are read from
//! then on, the nearest first, and those of the directories that were expected. Who reads small files
//! in about the order in which they were listed finds them given to the kernel: [`stream`]. And who
//! opens one after the other by name, without a listing, finds them in the host's memory: [`names`].

mod names;
mod stream;

use std::num::NonZeroUsize;
use std::sync::Arc;

use foldhash::HashMap;
use lru::LruCache;

use self::names::{Names, Want};
use self::stream::Stream;
use super::server::Server;
use crate::name::NameBuf;
use crate::sync::Mutex;
use crate::union::{DirList, Node, NodeId};

/// Among how many of the directories that were listed last a parent is looked for.
const RECENT: NonZeroUsize = NonZeroUsize::new(64).expect("not zero");

/// How many subdirectories are known of one that may be walked.
const SUBDIRS_MOST: usize = 256;

/// How many directories wait to be read at most.
const WANTED_MOST: usize = 4096;

/// How many entries are kept for walkers to come, each of some 250 bytes.
const ENTRIES_MOST: usize = 4096;

/// What is known of walks.
pub(super) struct Ahead {
    /// Whether something is gained by reading directories.
    dirs: bool,
    /// By giving files.
    files: bool,
    state: Mutex<State>,
}

struct State {
    recent: LruCache<NodeId, Listed>,
    /// To be read, the next one last.
    wanted: Vec<NodeId>,
    files: Stream,
    names: Names,
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

/// What a part of a listing has.
#[derive(Default)]
pub(super) struct Below {
    pub dirs: Vec<NodeId>,
    /// Small ones.
    pub files: Vec<NodeId>,
}

/// What is to be read next.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Next {
    Dir(NodeId),
    File(NodeId),
    Named(Want),
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
    /// Whether there is something to be gained by reading directories, and by giving files.
    pub fn new(dirs: bool, files: bool) -> Self {
        Self {
            dirs,
            files,
            state: Mutex::new(State {
                recent: LruCache::new(RECENT),
                wanted: Vec::new(),
                files: Stream::default(),
                names: Names::default(),
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

    /// A part of a directory was listed, which has these below. Whether a job is to be started.
    fn listed(&self, (dir, parent): (NodeId, Option<NodeId>), part: &Part, below: Below) -> bool {
        // Listings let go of what they are of, which may take a while: after the lock.
        let mut gone = HashMap::default();
        let mut guard = self.state.lock();
        let state = &mut *guard;
        if let Part::First(expected) = *part {
            if !expected && state.entries >= ENTRIES_MOST {
                // Those they were for have gone elsewhere.
                gone = std::mem::take(&mut state.ready);
                state.wanted.clear();
                state.entries = 0;
            }
            let listed = Listed {
                walked: state.is_walked(dir, parent) || expected,
                below: Vec::new(),
            };
            state.recent.push(dir, listed);
        }
        if self.files {
            let first = matches!(part, Part::First(_));
            state.files.listed(dir, first, below.files);
        }
        let Some(listed) = state.recent.get_mut(&dir) else {
            return false;
        };
        if self.dirs && listed.walked {
            state.want(below.dirs);
        } else if self.dirs {
            listed.below.extend(below.dirs);
            listed.below.truncate(SUBDIRS_MOST);
        }
        let starts = state.start();
        drop(guard);
        drop(gone);
        starts
    }

    /// A small file was opened that the kernel had not been given. Whether a job is to be started.
    fn missed(&self, parent: NodeId) -> bool {
        let mut state = self.state.lock();
        state.files.missed(parent);
        state.start()
    }

    /// A file was opened that the kernel had been given. Whether a job is to be started.
    fn found(&self, file: NodeId) -> bool {
        let mut state = self.state.lock();
        state.files.found(file);
        state.start()
    }

    /// What is to be read next; with nothing the job ends.
    fn next(&self) -> Option<Next> {
        let mut state = self.state.lock();
        let file = state.files.next().map(Next::File);
        let next = file.or_else(|| state.names.next().map(Next::Named));
        let next = match next {
            None if state.entries < ENTRIES_MOST => state.wanted.pop().map(Next::Dir),
            next => next,
        };
        if let Some(Next::Dir(dir)) = next {
            state.reading = Some(dir);
        }
        state.busy = next.is_some();
        next
    }

    /// A directory has been read.
    fn done(&self, dir: NodeId, list: Option<DirList>) {
        let mut state = self.state.lock();
        // Else somebody has listed it meanwhile.
        if state.reading.take() == Some(dir)
            && let Some(list) = list
        {
            state.entries += cost(&list);
            let old = state.ready.insert(dir, list);
            state.entries -= old.as_ref().map_or(0, cost);
            drop(state);
            drop(old);
        }
    }

    /// A file was opened by its name. Whether a job is to be started.
    fn opened(&self, dir: NodeId, name: NameBuf) -> bool {
        let mut state = self.state.lock();
        if state.files.knows(dir) {
            return false;
        }
        state.names.opened(dir, name);
        state.start()
    }

    /// A directory was looked up. Whether a job is to be started.
    fn entered(&self, dir: NodeId) -> bool {
        let mut state = self.state.lock();
        if state.files.knows(dir) {
            return false;
        }
        state.names.entered(dir);
        state.start()
    }

    /// A file was not given after all.
    fn skipped(&self, file: NodeId) {
        self.state.lock().files.skipped(file);
    }

    /// The files of a directory were listed.
    fn named(&self, dir: NodeId, files: Vec<NameBuf>) {
        self.state.lock().names.listed(dir, files);
    }

    fn is_on(&self) -> bool {
        self.dirs || self.files
    }

    /// The kernel has forgotten a node.
    pub fn forget(&self, node: NodeId) {
        if self.is_on() {
            let mut state = self.state.lock();
            state.files.forget(node);
            state.names.forget(node);
            let gone = state.drop_ready(node);
            drop(state);
            drop(gone);
        }
    }
}

impl<I: Send + Sync + 'static> Server<I> {
    /// A directory's listing, if it was prepared; and which part of it is listed.
    pub(super) fn prepared(&self, dir: &Node, from: u64) -> (Option<DirList>, Part) {
        if from > 0 || !self.ahead.is_on() {
            return (None, Part::Next);
        }
        let Taken { list, expected } = self.ahead.take(dir.id());
        let list = list.filter(|_| dir.is_lower_alone());
        (list, Part::First(expected))
    }

    /// Part of a directory was listed, with these below.
    pub(super) fn walked(self: &Arc<Self>, dir: &Node, part: &Part, below: Below) {
        if self.ahead.is_on()
            && self
                .ahead
                .listed((dir.id(), dir.known_parent()), part, below)
        {
            self.start_reading_ahead();
        }
    }

    /// A file was opened that the kernel had been given, or is being given.
    pub(super) fn opened_given(self: &Arc<Self>, file: NodeId) {
        if self.ahead.files && self.ahead.found(file) {
            self.start_reading_ahead();
        }
    }

    /// A file whose data is a lower's was opened.
    pub(super) fn opened_lower(self: &Arc<Self>, file: &Node) {
        if self.ahead.dirs
            && let Some((dir, name)) = file.known_name()
            && self.ahead.opened(dir, name)
        {
            self.start_reading_ahead();
        }
    }

    /// A directory was looked up.
    pub(super) fn entered(self: &Arc<Self>, dir: NodeId) {
        if self.ahead.dirs && self.ahead.entered(dir) {
            self.start_reading_ahead();
        }
    }

    /// A small file was opened that the kernel had not been given before.
    pub(super) fn given_at_open(self: &Arc<Self>, file: &Node) {
        if self.ahead.files
            && let Some(parent) = file.known_parent()
            && self.ahead.missed(parent)
        {
            self.start_reading_ahead();
        }
    }

    fn start_reading_ahead(self: &Arc<Self>) {
        // What is ahead of a mount that has ended keeps nothing of it.
        let server = Arc::downgrade(self);
        let next = move || server.upgrade().is_some_and(|server| server.read_next());
        self.run_job(Box::new(move || while next() {}));
    }

    /// Reads one thing ahead, if there is something.
    fn read_next(&self) -> bool {
        let Some(next) = self.ahead.next() else {
            return false;
        };
        let union = self.union();
        // The kernel may forget what is in use here: that counts afterwards.
        match next {
            Next::File(id) => {
                // Else who opened it was faster.
                let wanted = self.modes.wants_contents(id);
                let file = wanted.then(|| union.get(id).ok()).flatten();
                if !file.is_some_and(|file| self.give_ahead((id, &file))) {
                    self.ahead.skipped(id);
                }
                if wanted {
                    self.forget(id, 0);
                }
            }
            Next::Named(Want::List(id)) => {
                let files = union.get(id).and_then(|dir| union.file_names(&dir));
                self.ahead.named(id, files.unwrap_or_default());
                self.forget(id, 0);
            }
            Next::Named(Want::Fetch(id, name)) => {
                let fetched = union.get(id).and_then(|dir| union.fetch(&dir, &name));
                if let Err(e) = fetched {
                    log::debug!("read {name:?} ahead: {e}");
                }
                self.forget(id, 0);
            }
            Next::Dir(id) => {
                let list = union.get(id).and_then(|dir| union.read_ahead(&dir));
                self.ahead.done(id, list.unwrap_or_default());
                self.forget(id, 0);
            }
        }
        true
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
    fn want(&mut self, mut dirs: Vec<NodeId>) {
        dirs.retain(|dir| !self.ready.contains_key(dir));
        self.wanted.extend(dirs.into_iter().rev());
        let over = self.wanted.len().saturating_sub(WANTED_MOST);
        self.wanted.drain(..over);
    }

    /// Whether a job is to be started.
    fn start(&mut self) -> bool {
        let dirs = !self.wanted.is_empty() && self.entries < ENTRIES_MOST;
        let files = self.files.is_wanted() || self.names.is_wanted();
        let starts = !self.busy && (dirs || files);
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
        let starts = ahead.listed(which, &Part::First(expected), dirs(below));
        (list.is_some(), starts)
    }

    fn dirs(below: &[u64]) -> Below {
        Below {
            dirs: ids(below),
            files: Vec::new(),
        }
    }

    fn read_all(ahead: &Ahead) -> Vec<u64> {
        let mut read = Vec::new();
        while let Some(next) = ahead.next() {
            match next {
                Next::File(id) => read.push(id.0),
                Next::Named(want) => panic!("{want:?}"),
                Next::Dir(id) => {
                    read.push(id.0);
                    ahead.done(id, Some(DirList::default()));
                }
            }
        }
        read
    }

    #[test]
    fn small_files_are_given_to_who_reads_on() {
        let ahead = Ahead::new(false, true);
        let below = Below {
            dirs: ids(&[10, 20]),
            files: (100..400).map(NodeId).collect(),
        };
        assert!(!ahead.missed(NodeId(1)), "never listed");
        assert!(!ahead.listed((NodeId(1), None), &Part::First(false), below));
        assert!(!ahead.missed(NodeId(1)));
        assert!(ahead.missed(NodeId(1)));
        assert!(!ahead.missed(NodeId(1)), "it is under way");
        let mut given = read_all(&ahead);
        let mut opened = 0;
        while opened < given.len() {
            if ahead.found(NodeId(given[opened])) {
                given.extend(read_all(&ahead));
            }
            opened += 1;
        }
        assert_eq!(given, (100..400).collect::<Vec<_>>());
        list(&ahead, 10, 1, &[11]);
        assert!(read_all(&ahead).is_empty(), "no directories");
    }

    #[test]
    fn who_lists_a_directory_and_another_elsewhere_is_no_walker() {
        let ahead = Ahead::new(true, true);
        assert_eq!(list(&ahead, 1, 0, &[10, 20]), (false, false));
        assert_eq!(list(&ahead, 35, 30, &[36, 37]), (false, false));
        assert!(read_all(&ahead).is_empty());
    }

    #[test]
    fn the_nearest_directories_of_a_walk_are_read_first() {
        let ahead = Ahead::new(true, true);
        list(&ahead, 1, 0, &[10, 20, 30]);
        assert_eq!(list(&ahead, 10, 1, &[11, 12]), (false, true));
        // A second part of it, and one job at a time.
        assert!(!ahead.listed((NodeId(10), None), &Part::Next, dirs(&[13])));
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
        let ahead = Ahead::new(true, true);
        list(&ahead, 1, 0, &[10, 20]);
        list(&ahead, 10, 1, &[]);
        assert_eq!(ahead.next(), Some(Next::Dir(NodeId(20))));
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
        let ahead = Ahead::new(true, true);
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
