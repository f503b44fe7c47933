//! Which lower parts of a merged directory have a name. A directory may have a hundred parts, and a
//! lookup would ask each; who looks more than a few names up has their listings read once instead, and
//! who lists it has done so.

use std::hash::{BuildHasher, RandomState};
use std::ops::Range;
use std::sync::Arc;

use foldhash::HashMap;

use super::{LowerRef, NodeId};
use crate::error::Result;
use crate::name::Name;
use crate::sync::Mutex;

/// From so many parts on it is worth it to list them for that alone.
const MANY: usize = 4;

/// So many times parts of a directory are asked without. Listing one takes about three times as long as
/// asking it, and who looks one name up in a directory comes back for more.
const ASKED_FIRST: usize = 16;

/// How many entries are kept in all, as far as they are of several directories: 16 bytes each.
const KEPT: usize = 1 << 19;

/// The names of a directory's parts: hash and part, sorted.
pub(super) struct NameIndex(Vec<(u64, u16)>);

impl NameIndex {
    fn new(mut names: Vec<(u64, u16)>) -> Self {
        names.sort_unstable();
        names.shrink_to_fit();
        Self(names)
    }

    fn build(parts: &[LowerRef], hasher: &RandomState) -> Result<Self> {
        let mut names = Vec::new();
        for (at, part) in parts.iter().enumerate() {
            // Past what a number has room for there is no layer: 500 is the most.
            let at = u16::try_from(at).unwrap_or(u16::MAX);
            part.layer().read_dir(part.node(), &mut |item| {
                names.push((hasher.hash_one(item.name.as_bytes()), at));
                Ok(())
            })?;
        }
        Ok(Self::new(names))
    }

    fn parts_of(&self, hash: u64) -> Range<usize> {
        let from = self.0.partition_point(|(known, _)| *known < hash);
        let rest = self.0.get(from..).unwrap_or_default();
        let len = rest.iter().take_while(|(known, _)| *known == hash).count();
        from..from + len
    }
}

/// The indexes of the directories in which somebody looks names up.
#[derive(Default)]
pub(super) struct Names {
    hasher: RandomState,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    dirs: HashMap<NodeId, Dir>,
    entries: usize,
}

enum Dir {
    /// How many times parts were asked.
    Asked(usize),
    Indexed(Arc<NameIndex>),
}

/// The parts that may have a name.
pub(super) struct Which {
    index: Arc<NameIndex>,
    /// Where they are in the index.
    parts: Range<usize>,
}

impl Which {
    /// Whether a part is one of them.
    pub fn has(&self, part: usize) -> bool {
        let parts = self.index.0.get(self.parts.clone()).unwrap_or_default();
        parts.iter().any(|(_, at)| usize::from(*at) == part)
    }
}

impl Names {
    /// Which of a directory's parts may have a name; `None` when all have to be asked.
    ///
    /// # Errors
    /// What listing the parts reports.
    pub fn which(&self, dir: NodeId, parts: &[LowerRef], name: &Name) -> Result<Option<Which>> {
        let hash = self.hasher.hash_one(name.as_bytes());
        let known = {
            let mut table = self.table.lock();
            match table.dirs.entry(dir).or_insert(Dir::Asked(0)) {
                Dir::Indexed(index) => Some(Arc::clone(index)),
                Dir::Asked(_) if parts.len() < MANY => return Ok(None),
                Dir::Asked(times) if *times + parts.len() <= ASKED_FIRST => {
                    *times += parts.len();
                    return Ok(None);
                }
                Dir::Asked(_) => None,
            }
        };
        let index = match known {
            Some(index) => index,
            None => self.add(dir, NameIndex::build(parts, &self.hasher)?),
        };
        let parts = index.parts_of(hash);
        Ok(Some(Which { index, parts }))
    }

    /// Whether there is an index of a directory.
    pub fn knows(&self, dir: NodeId) -> bool {
        matches!(self.table.lock().dirs.get(&dir), Some(Dir::Indexed(_)))
    }

    /// Keeps what a listing of all parts has shown: names with their parts, counted from 0 at the top.
    pub fn learn<'n>(&self, dir: NodeId, names: impl Iterator<Item = (&'n [u8], u16)>) {
        let names = names.map(|(name, part)| (self.hasher.hash_one(name), part));
        self.add(dir, NameIndex::new(names.collect()));
    }

    fn add(&self, dir: NodeId, index: NameIndex) -> Arc<NameIndex> {
        let index = Arc::new(index);
        let mut table = self.table.lock();
        if table.entries + index.0.len() > KEPT {
            table.dirs.clear();
            table.entries = 0;
        }
        table.entries += index.0.len();
        if let Some(Dir::Indexed(old)) = table.dirs.insert(dir, Dir::Indexed(Arc::clone(&index))) {
            table.entries -= old.0.len();
        }
        index
    }

    /// A directory has left memory: what has its number next is another one.
    pub fn forget(&self, dir: NodeId) {
        let mut table = self.table.lock();
        let old = table.dirs.remove(&dir);
        if let Some(Dir::Indexed(old)) = &old {
            table.entries -= old.0.len();
        }
        drop(table);
        drop(old);
    }
}
