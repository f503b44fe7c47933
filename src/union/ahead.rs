//! Reading directories in advance: who walks a tree comes to them soon, and what they have in
//! directory layers is many system calls away. Only what is a lower's alone is prepared. It can't
//! change: what changes in a directory brings that into the upper first. And who opens one file after
//! the other comes to the next ones: the host reads those from its disk.

use std::num::NonZeroU64;
use std::sync::Arc;

use super::light::has_one_name;
use super::lookup::Seen;
use super::read_dir::{DirEntry, DirList};
use super::{Named, Node, Union};
use crate::error::Result;
use crate::layer::Contents;
use crate::name::{Name, NameBuf};
use crate::stat::FileType;
use crate::sync::Mutex;

/// The longest listing that is prepared, in entries.
const LONGEST: usize = 512;

/// The longest listing of which files are fetched, in entries.
const LONGEST_FETCHED: usize = 4096;

/// How much of each file is fetched, in bytes: as much as the kernel reads ahead at first.
const FETCHED: NonZeroU64 = NonZeroU64::new(128 << 10).expect("not zero");

/// What was seen of a listing's entries, in its order, until they are asked for.
#[derive(Default)]
pub(super) struct SeenAhead(Mutex<Vec<Option<Seen>>>);

impl SeenAhead {
    fn take(&self, place: usize) -> Option<Seen> {
        self.0.lock().get_mut(place)?.take()
    }
}

impl std::fmt::Debug for SeenAhead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} entries", self.0.lock().len())
    }
}

impl Node {
    /// Whether nothing in this directory has changed, so that what was read of it is right.
    #[must_use]
    pub fn is_lower_alone(&self) -> bool {
        !self.has_upper() && !self.is_removed()
    }
}

impl Union {
    /// Whether looking at an entry takes system calls.
    #[must_use]
    pub fn is_worth_reading_ahead(&self) -> bool {
        self.lowers.iter().any(|layer| layer.host_dev().is_some())
    }

    /// Lists a directory and looks at its entries. `None` for one that is long, or has a part in the
    /// upper.
    ///
    /// # Errors
    /// `ENOTDIR`; what the layers report.
    pub fn read_ahead(&self, dir: &Arc<Node>) -> Result<Option<DirList>> {
        if !dir.is_lower_alone() {
            return Ok(None);
        }
        let mut list = self.read_dir(dir)?;
        if list.len() > LONGEST {
            return Ok(None);
        }
        let mut all = Vec::with_capacity(list.len());
        for entry in list.iter() {
            // One by one: renaming waits for this lock.
            let _tree = self.tree.read();
            let seen = self.see(dir, entry.name)?;
            // A file with several names may change under another one.
            all.push(seen.filter(|seen| has_one_name(&seen.stat)));
        }
        list.seen = SeenAhead(Mutex::new(all));
        Ok(dir.is_lower_alone().then_some(list))
    }

    /// The names of the files in a directory, in order, unless it is long or has a part in the upper.
    ///
    /// # Errors
    /// `ENOTDIR`; what the layers report.
    pub fn file_names(&self, dir: &Arc<Node>) -> Result<Vec<NameBuf>> {
        if !dir.is_lower_alone() {
            return Ok(Vec::new());
        }
        let list = self.read_dir(dir)?;
        if list.len() > LONGEST_FETCHED {
            return Ok(Vec::new());
        }
        let files = list.iter().filter(|entry| entry.kind == FileType::Regular);
        let mut names: Vec<_> = files.map(|entry| NameBuf::from(entry.name)).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// Has the host read the beginning of a file of a directory layer, and what it knows of it.
    ///
    /// # Errors
    /// What the layers report.
    pub fn fetch(&self, dir: &Arc<Node>, name: &Name) -> Result<()> {
        let tree = self.tree.read();
        let seen = self.see(dir, name)?;
        drop(tree);
        let Some(identity) = seen.map(|seen| seen.identity) else {
            return Ok(());
        };
        if let [lower] = &*identity.lower
            && !identity.upper
            && identity.kind == FileType::Regular
            && let Contents::File(file) = lower.layer().open(lower.node())?
        {
            rustix::fs::fadvise(&*file, 0, Some(FETCHED), rustix::fs::Advice::WillNeed)?;
        }
        Ok(())
    }

    /// Looks up an entry of a listing for the kernel, as [`Union::lookup_name`].
    ///
    /// # Errors
    /// As [`Union::lookup`].
    pub fn lookup_entry(
        &self,
        dir: &Arc<Node>,
        list: &DirList,
        entry: &DirEntry<'_>,
    ) -> Result<Option<Named>> {
        if let Some(seen) = list.seen.take(entry.place) {
            let _tree = self.tree.read();
            let since = self.copy_ups();
            if dir.is_lower_alone() {
                return Ok(Some(self.give((dir, entry.name), seen, since)));
            }
        }
        self.lookup_name(dir, entry.name)
    }
}
