//! Sums over a level: what it adds, changes and removes, and how much is in each directory.

use std::collections::{HashMap, HashSet};

use super::{Levels, Shown, Step};
use crate::error::Failure;
use crate::inspect::changes::Did;
use crate::inspect::usage::bytes_of;

/// Objects, and the bytes of the files among them. A file with several names counts its bytes once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sum {
    /// How many names.
    pub entries: u64,
    /// Bytes of regular files.
    pub bytes: u64,
}

impl Sum {
    fn add(&mut self, bytes: u64) {
        self.entries += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

/// How much a level does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// What is new.
    pub added: Sum,
    /// What was there and is different: as it is now.
    pub changed: Sum,
    /// What is gone, with what was in directories that are.
    pub removed: Sum,
}

/// Kinds of changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Kinds {
    /// Something is added.
    pub added: bool,
    /// Something is changed.
    pub changed: bool,
    /// Something is removed.
    pub removed: bool,
}

impl Kinds {
    /// All of them.
    pub const ALL: Kinds = Kinds {
        added: true,
        changed: true,
        removed: true,
    };

    /// What a level did to one path.
    #[must_use]
    pub fn of(shown: &Shown) -> Self {
        let letter = shown.letter();
        Self {
            added: letter == Some('A'),
            changed: letter == Some('C'),
            removed: letter == Some('D'),
        }
    }

    /// Whether the two have a kind in common.
    #[must_use]
    pub fn meet(self, other: Kinds) -> bool {
        self.added && other.added || self.changed && other.changed || self.removed && other.removed
    }

    fn join(&mut self, other: Kinds) {
        self.added |= other.added;
        self.changed |= other.changed;
        self.removed |= other.removed;
    }
}

/// What is in a directory, and in those below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DirFacts {
    /// Bytes of what shows.
    pub bytes: u64,
    /// Bytes of what the level added, changed or wrote again.
    pub written: u64,
    /// Bytes of what it removed.
    pub removed: u64,
    /// What it did below.
    pub kinds: Kinds,
}

impl DirFacts {
    fn join(&mut self, other: &DirFacts) {
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.written = self.written.saturating_add(other.written);
        self.removed = self.removed.saturating_add(other.removed);
        self.kinds.join(other.kinds);
    }
}

/// What is in each directory of a level.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// By path: empty for the root, else with a leading slash.
    pub dirs: HashMap<Vec<u8>, DirFacts>,
}

/// Files with several names that have been counted.
#[derive(Default)]
struct Once(HashSet<(usize, u64)>);

impl Once {
    fn bytes(&mut self, shown: &Shown) -> u64 {
        let object = &shown.part.object;
        let several = object.stat.nlink > 1 && !object.is_dir();
        match several && !self.0.insert((shown.part.place, object.id())) {
            true => 0,
            false => bytes_of(object),
        }
    }

    /// As [`Once::bytes`]; none of a hard link to a file of a layer below, which the level doesn't
    /// store.
    fn stored(&mut self, level: usize, shown: &Shown) -> u64 {
        match shown.part.place == level {
            true => self.bytes(shown),
            false => 0,
        }
    }
}

impl Levels {
    /// What a level adds, changes and removes. Looks only at what the level has.
    ///
    /// # Errors
    /// `System` when an index is damaged.
    pub fn tally(&self, level: usize) -> Result<Tally, Failure> {
        let mut tally = Tally::default();
        let (mut now, mut gone) = (Once::default(), Once::default());
        let mut replaced = Vec::new();
        self.walk(level, true, &mut |path, step| {
            let Step::Enter(shown) = step else {
                return true;
            };
            match shown.letter() {
                Some('A') => tally.added.add(now.stored(level, shown)),
                Some('C') => tally.changed.add(now.stored(level, shown)),
                Some(_) => tally.removed.add(gone.bytes(shown)),
                None => {}
            }
            let retyped = matches!(shown.did, Some(Did::Changed(differences)) if differences.kind);
            if retyped && !shown.part.object.is_dir() {
                replaced.push(path.to_vec());
            }
            true
        })?;
        for path in replaced {
            self.below(level, &path, &mut tally.removed, &mut gone)?;
        }
        Ok(tally)
    }

    /// Adds what was in a directory that a level made something else.
    fn below(
        &self,
        level: usize,
        path: &[u8],
        sum: &mut Sum,
        once: &mut Once,
    ) -> Result<(), Failure> {
        let Some(was) = self.stack.at(level, path)? else {
            return Ok(());
        };
        let mut left: Vec<_> = super::removed(was).dir.into_iter().collect();
        while let Some(dir) = left.pop() {
            for (_, shown) in self.list(level, &dir)? {
                sum.add(once.bytes(&shown));
                left.extend(shown.dir);
            }
        }
        Ok(())
    }

    /// How much is in each directory of a level; `None` when `go_on` said no.
    ///
    /// # Errors
    /// `System` when an index is damaged.
    pub fn facts(&self, level: usize, go_on: &dyn Fn() -> bool) -> Result<Option<Facts>, Failure> {
        let mut facts = Facts::default();
        let mut open: Vec<DirFacts> = Vec::new();
        let (mut now, mut gone) = (Once::default(), Once::default());
        let mut ended = false;
        self.walk(level, false, &mut |path, step| {
            match step {
                Step::Enter(shown) => {
                    let own = one(level, shown, &mut now, &mut gone);
                    match (shown.dir.is_some(), open.last_mut()) {
                        (false, Some(dir)) => dir.join(&own),
                        _ => open.push(DirFacts::default()),
                    }
                }
                Step::Leave(shown) => {
                    let Some(dir) = open.pop() else {
                        return false;
                    };
                    if let Some(above) = open.last_mut() {
                        above.join(&dir);
                        above.kinds.join(Kinds::of(shown));
                    }
                    facts.dirs.insert(path.to_vec(), dir);
                }
            }
            ended = !go_on();
            !ended
        })?;
        Ok((!ended).then_some(facts))
    }
}

/// What one object that is no directory adds to the directory that it is in.
fn one(level: usize, shown: &Shown, now: &mut Once, gone: &mut Once) -> DirFacts {
    let mut facts = DirFacts {
        kinds: Kinds::of(shown),
        ..DirFacts::default()
    };
    if shown.did == Some(Did::Removed) {
        facts.removed = gone.bytes(shown);
    } else {
        facts.bytes = now.bytes(shown);
        let stored = shown.touched && shown.part.place == level;
        facts.written = if stored { facts.bytes } else { 0 };
    }
    facts
}
