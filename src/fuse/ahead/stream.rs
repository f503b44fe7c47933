//! Small files in the order in which their directories were listed, and a reader that goes through
//! them in about that order, as tar(1), cp(1) and grep(1) do: it finds the next ones given to the
//! kernel. It may come long after the listing, which the kernel keeps and does not ask for again.

use std::collections::VecDeque;

use foldhash::HashMap;

use crate::union::NodeId;

/// How many files are remembered of one directory, and in all, of eight bytes each; and of how many
/// directories, which take about a hundred each.
const IN_DIR_MOST: usize = 4096;
const KEPT_MOST: usize = 128 * 1024;
const DIRS_MOST: usize = 32 * 1024;

/// How many files the kernel is given before their reader comes, at first and at most.
const AHEAD_FIRST: usize = 16;
const AHEAD_MOST: usize = 256;

/// How many directories further on a file may be for its reader still to follow the order, and how
/// many it is kept ahead of: few of what they have may be there to be given.
const NEAR: u64 = 16;
const DIRS_AHEAD: u64 = 64;

/// What was listed, and how far a reader is.
#[derive(Default)]
pub(super) struct Stream {
    /// The directories in order, the first of this number.
    dirs: VecDeque<Dir>,
    first: u64,
    numbers: HashMap<NodeId, u64>,
    /// The files of all of them.
    kept: usize,
    reader: Option<Reader>,
    /// The directory of the last file that was opened.
    opened: Option<u64>,
}

struct Dir {
    id: NodeId,
    files: Vec<NodeId>,
}

/// One that follows the order.
struct Reader {
    /// What is given next: a directory's number, and a place there.
    dir: u64,
    place: usize,
    /// What was given, and not opened since, and the numbers of the directories.
    given: HashMap<NodeId, u64>,
    /// How many these may be.
    most: usize,
}

impl Stream {
    /// A part of a directory was listed, the first or a further one.
    pub fn listed(&mut self, dir: NodeId, first: bool, files: Vec<NodeId>) {
        if first {
            self.forget(dir);
        }
        if files.is_empty() {
            return;
        }
        let next = self.first + self.dirs.len() as u64;
        let number = *self.numbers.entry(dir).or_insert(next);
        if number == next {
            let files = Vec::new();
            self.dirs.push_back(Dir { id: dir, files });
        }
        if let Some(dir) = at_mut(&mut self.dirs, self.first, number) {
            let room = IN_DIR_MOST.saturating_sub(dir.files.len());
            let before = dir.files.len();
            dir.files.extend(files.into_iter().take(room));
            self.kept += dir.files.len() - before;
            // A reader that was given all there was.
            if let Some(reader) = &mut self.reader
                && (reader.dir, reader.place) == (number + 1, 0)
            {
                (reader.dir, reader.place) = (number, before);
            }
        }
        while self.kept > KEPT_MOST || self.dirs.len() > DIRS_MOST {
            self.drop_first();
        }
    }

    fn drop_first(&mut self) {
        let Some(gone) = self.dirs.pop_front() else {
            return;
        };
        self.kept -= gone.files.len();
        if self.numbers.get(&gone.id) == Some(&self.first) {
            self.numbers.remove(&gone.id);
        }
        self.first += 1;
    }

    /// A node is gone, or listed anew: what is known of it, if it is a directory, is old.
    pub fn forget(&mut self, node: NodeId) {
        if let Some(number) = self.numbers.remove(&node)
            && let Some(dir) = at_mut(&mut self.dirs, self.first, number)
        {
            self.kept -= std::mem::take(&mut dir.files).len();
        }
        // Nothing leads to the empty ones at both ends: what is made and removed comes last, again and again.
        while self.dirs.back().is_some_and(|dir| dir.files.is_empty()) {
            self.dirs.pop_back();
        }
        // Their numbers are those of the next ones, at which no reader has been.
        let end = self.first + self.dirs.len() as u64;
        if let Some(reader) = &mut self.reader
            && reader.dir > end
        {
            (reader.dir, reader.place) = (end, 0);
        }
        while self.dirs.front().is_some_and(|dir| dir.files.is_empty()) {
            self.drop_first();
        }
    }

    /// Whether the files of a directory are known.
    pub fn knows(&self, dir: NodeId) -> bool {
        self.numbers.contains_key(&dir)
    }

    /// A file in this directory was opened that the kernel had not been given.
    pub fn missed(&mut self, dir: NodeId) {
        let Some(&number) = self.numbers.get(&dir) else {
            return;
        };
        let follows = |last: u64| (last..=last + NEAR).contains(&number);
        let before = self.opened.replace(number);
        match &mut self.reader {
            // It is being given, or could not be.
            Some(reader) if (number..=number + DIRS_AHEAD + 1).contains(&reader.dir) => {
                let has_another_order = reader.dir == number && reader.given.len() >= reader.most;
                reader.most = match has_another_order {
                    true => (reader.most * 2).min(AHEAD_MOST),
                    false => reader.most,
                };
            }
            _ if before.is_some_and(follows) => {
                self.reader = Some(Reader {
                    dir: number,
                    place: 0,
                    given: HashMap::default(),
                    most: AHEAD_FIRST,
                });
            }
            // Somebody looks into one file; a reader that has gone elsewhere is seen by its next.
            _ => {}
        }
    }

    /// A file was opened that the kernel had been given, or is being given.
    pub fn found(&mut self, file: NodeId) {
        if let Some(reader) = &mut self.reader
            && let Some(number) = reader.given.remove(&file)
        {
            self.opened = Some(number);
            if reader.given.len() == reader.most / 2 {
                reader.most = (reader.most * 2).min(AHEAD_MOST);
            }
        }
    }

    /// Whether there is something to be given now.
    pub fn is_wanted(&self) -> bool {
        let room = |reader: &Reader| {
            reader.dir <= self.last_ahead() && reader.given.len() <= reader.most / 2
        };
        self.reader.as_ref().is_some_and(room)
    }

    /// The last directory that files may be given of.
    fn last_ahead(&self) -> u64 {
        let last = (self.first + self.dirs.len() as u64).saturating_sub(1);
        self.opened
            .map_or(0, |opened| last.min(opened + DIRS_AHEAD))
    }

    /// The next file to be given.
    pub fn next(&mut self) -> Option<NodeId> {
        let last = self.last_ahead();
        let reader = self.reader.as_mut()?;
        if reader.given.len() >= reader.most {
            return None;
        }
        if reader.dir < self.first {
            (reader.dir, reader.place) = (self.first, 0);
        }
        while reader.dir <= last {
            let dir = at_mut(&mut self.dirs, self.first, reader.dir)?;
            if let Some(file) = dir.files.get(reader.place) {
                reader.place += 1;
                reader.given.insert(*file, reader.dir);
                return Some(*file);
            }
            (reader.dir, reader.place) = (reader.dir + 1, 0);
        }
        None
    }

    /// What came next was not given.
    pub fn skipped(&mut self, file: NodeId) {
        if let Some(reader) = &mut self.reader {
            reader.given.remove(&file);
        }
    }
}

fn at_mut(dirs: &mut VecDeque<Dir>, first: u64, number: u64) -> Option<&mut Dir> {
    let at = usize::try_from(number.checked_sub(first)?).ok()?;
    dirs.get_mut(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The files of a directory, by their numbers.
    fn files(dir: u64, count: u64) -> Vec<NodeId> {
        (0..count).map(|i| NodeId(dir * 10_000 + i)).collect()
    }

    fn stream(dirs: std::ops::Range<u64>, count: u64) -> Stream {
        let mut stream = Stream::default();
        for dir in dirs {
            stream.listed(NodeId(dir), true, files(dir, count));
        }
        stream
    }

    fn given(stream: &mut Stream) -> Vec<u64> {
        std::iter::from_fn(|| stream.next())
            .map(|id| id.0)
            .collect()
    }

    #[test]
    fn who_opens_one_file_here_and_there_is_no_reader() {
        let mut stream = stream(1..200, 3);
        for dir in [5, 100, 50, 150, 3, 999, 30] {
            stream.missed(NodeId(dir));
            assert!(!stream.is_wanted(), "{dir}");
            assert_eq!(stream.next(), None);
        }
    }

    #[test]
    fn a_reader_finds_the_next_files_given_and_more_the_longer_it_reads() {
        let mut stream = stream(1..100, 10);
        stream.missed(NodeId(7));
        stream.missed(NodeId(7));
        assert!(stream.is_wanted());
        let first = given(&mut stream);
        let expected: Vec<_> = [files(7, 10), files(8, 6)].concat();
        assert_eq!(first, expected.iter().map(|id| id.0).collect::<Vec<_>>());
        assert!(!stream.is_wanted());
        let (mut all, mut read) = (first, 0);
        while read < all.len() {
            stream.found(NodeId(all[read]));
            read += 1;
            if stream.is_wanted() {
                all.extend(given(&mut stream));
            }
            assert!(all.len() - read <= AHEAD_MOST);
        }
        let last = files(99, 10).last().unwrap().0;
        assert_eq!((all.len(), all.last()), (93 * 10, Some(&last)));
        assert!(!stream.is_wanted(), "that was the end");
        // What is listed from now on follows.
        stream.listed(NodeId(300), true, files(300, 2));
        stream.missed(NodeId(300));
        assert_eq!(given(&mut stream), [3_000_000, 3_000_001]);
    }

    #[test]
    fn who_overtakes_is_followed_and_who_goes_elsewhere_too() {
        let mut stream = stream(1..1000, 10);
        stream.missed(NodeId(1));
        stream.missed(NodeId(2));
        assert_eq!(given(&mut stream).first(), Some(&20_000));
        // Misses of what is under way change nothing.
        stream.missed(NodeId(2));
        stream.missed(NodeId(2));
        stream.found(NodeId(20_000));
        assert!(!stream.is_wanted());
        stream.missed(NodeId(700));
        assert!(!stream.is_wanted());
        stream.missed(NodeId(701));
        assert_eq!(given(&mut stream).first(), Some(&7_010_000));
    }

    #[test]
    fn what_needs_not_be_given_makes_room() {
        let mut stream = stream(1..100, 10);
        stream.missed(NodeId(1));
        stream.missed(NodeId(1));
        let mut skipped = 0;
        let mut skip = |stream: &mut Stream| {
            while let Some(file) = stream.next() {
                stream.skipped(file);
                skipped += 1;
            }
            skipped
        };
        // So far, and on when the reader goes on.
        assert_eq!(skip(&mut stream), 65 * 10);
        assert!(!stream.is_wanted());
        stream.missed(NodeId(1));
        assert_eq!(skip(&mut stream), 65 * 10);
        stream.missed(NodeId(3));
        assert!(stream.is_wanted());
        assert_eq!(skip(&mut stream), 67 * 10);
    }

    #[test]
    fn a_further_part_of_a_directory_is_given_too() {
        let mut stream = stream(1..3, 10);
        stream.missed(NodeId(2));
        stream.missed(NodeId(2));
        assert_eq!(given(&mut stream).len(), 10);
        (20_000..20_006).for_each(|id| stream.found(NodeId(id)));
        assert!(!stream.is_wanted());
        stream.listed(NodeId(2), false, files(9, 3));
        assert!(stream.is_wanted());
        assert_eq!(given(&mut stream), [90_000, 90_001, 90_002]);
    }

    #[test]
    fn who_reads_a_directory_in_another_order_is_given_more() {
        let mut stream = stream(1..2, 1000);
        stream.missed(NodeId(1));
        stream.missed(NodeId(1));
        let mut all = given(&mut stream).len();
        assert_eq!(all, 16);
        for _ in 0..20 {
            stream.missed(NodeId(1));
            all += given(&mut stream).len();
        }
        assert_eq!(all, AHEAD_MOST);
    }

    #[test]
    fn directories_that_are_forgotten_or_listed_again_leave_nothing() {
        let mut stream = stream(1..4, 10);
        stream.listed(NodeId(3), false, files(4, 5));
        assert_eq!(stream.kept, 35);
        stream.listed(NodeId(2), true, files(5, 1));
        assert_eq!(stream.kept, 26);
        stream.missed(NodeId(3));
        stream.missed(NodeId(3));
        assert_eq!(given(&mut stream).len(), 16);
        (1..4).for_each(|dir| stream.forget(NodeId(dir)));
        assert_eq!((stream.kept, stream.dirs.len()), (0, 0));
        // One that stays, before others that come and go.
        stream.listed(NodeId(9), true, files(9, 1));
        for _ in 0..DIRS_MOST + 10 {
            stream.listed(NodeId(10), true, files(10, 1));
            assert!(stream.dirs.len() <= 2);
        }
        for dir in 11..20 {
            stream.listed(NodeId(dir), true, files(dir, 1));
        }
        (11..20).for_each(|dir| stream.forget(NodeId(dir)));
        assert!(stream.dirs.len() <= 2 && stream.knows(NodeId(9)));
        (9..11).for_each(|dir| stream.forget(NodeId(dir)));
        assert!(stream.numbers.is_empty() && stream.next().is_none());
        stream.missed(NodeId(3));
        assert!(!stream.is_wanted());
    }

    #[test]
    fn a_reader_of_what_is_removed_is_ahead_in_what_comes_instead() {
        let mut stream = stream(1..20, 1);
        stream.missed(NodeId(1));
        stream.missed(NodeId(1));
        assert_eq!(given(&mut stream).len(), 16);
        (1..17).for_each(|dir| stream.found(NodeId(dir * 10_000)));
        assert_eq!(given(&mut stream).len(), 3);
        (17..20).for_each(|dir| stream.found(NodeId(dir * 10_000)));
        (10..20).for_each(|dir| stream.forget(NodeId(dir)));
        for dir in 30..35 {
            stream.listed(NodeId(dir), true, files(dir, 1));
        }
        stream.missed(NodeId(30));
        assert_eq!(
            given(&mut stream),
            [300_000, 310_000, 320_000, 330_000, 340_000]
        );
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut stream = stream(1..200, 3000);
        assert!(stream.kept <= KEPT_MOST && stream.kept > KEPT_MOST - 3000);
        assert_eq!(stream.numbers.len(), stream.dirs.len());
        stream.missed(NodeId(1));
        stream.missed(NodeId(1));
        assert_eq!(stream.next(), None, "long gone");
        stream.listed(NodeId(500), true, files(500, 9000));
        assert_eq!(stream.dirs.back().unwrap().files.len(), IN_DIR_MOST);
        for dir in 1000..1010 + DIRS_MOST as u64 {
            stream.listed(NodeId(dir), true, files(dir, 1));
        }
        assert_eq!(
            (stream.dirs.len(), stream.numbers.len()),
            (DIRS_MOST, DIRS_MOST)
        );
    }
}
