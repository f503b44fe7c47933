//! Times across a copy-up, which changes nothing for those who use the merged tree. A directory gets
//! its times back after an entry was brought into it. Its ctime can't be set, and the copy's is new
//! too, so while these tell of copy-ups alone, the ctime of before is shown: tar(1) compares what it
//! saw of a directory and a file before and after it read them, and the kernel, which was told the
//! old one, is not told that it has changed.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::Node;
use super::attr::times_of;
use crate::error::Result;
use crate::layer::place::Place;
use crate::stat::{Stat, Timespec};
use crate::sync::MutexGuard;

/// The ctime that is shown in place of an object's own.
#[derive(Debug, Clone, Copy)]
pub(super) struct KeptCtime {
    /// The object's own times, as the last copy-up left them. They change with every other change but
    /// for those within a tick of the clock.
    own: (Timespec, Timespec),
    shown: Timespec,
}

impl Node {
    /// Attributes of its upper object, as they are shown.
    pub(super) fn with_kept_ctime(&self, mut stat: Stat) -> Stat {
        let own = (stat.ctime, stat.mtime);
        self.with_state(|state| match &state.kept_ctime {
            Some(kept) if kept.own == own => stat.ctime = kept.shown,
            _ => {}
        });
        stat
    }

    /// How often it was changed on purpose.
    pub(super) fn changes(&self) -> Changes {
        Changes(self.with_state(|state| state.changes))
    }

    /// The upper object at `place` has only been copied up, or got an entry that was, since `before`
    /// was shown; `changes` were as many before that.
    pub(super) fn keep_ctime(&self, place: &Place, before: &Stat, changes: Changes) {
        let after = match place.stat() {
            // Else something else has happened to it at the same time.
            Ok(after) if after.mtime == before.mtime => after,
            Ok(_) => return,
            Err(e) => return log::warn!("keep the ctime of what was copied up: {e}"),
        };
        let kept = KeptCtime {
            own: (after.ctime, after.mtime),
            shown: before.ctime,
        };
        self.with_state(|state| {
            if state.changes == changes.0 {
                state.kept_ctime = Some(Box::new(kept));
            }
        });
    }

    /// It has been changed on purpose, maybe within the same tick of the file system's clock.
    pub(super) fn show_own_ctime(&self) {
        self.with_state(|state| {
            state.kept_ctime = None;
            state.changes = state.changes.wrapping_add(1);
        });
    }
}

/// How often an object was changed on purpose, at some moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Changes(u32);

/// The times of a directory of the upper that is to get a copied-up entry; no other one gets there
/// meanwhile.
pub(super) struct DirTimes<'n> {
    node: &'n Node,
    place: Place,
    before: Stat,
    changes: Changes,
    _alone: MutexGuard<'n, ()>,
}

impl<'n> DirTimes<'n> {
    /// As they are. `dir` is the node's directory.
    pub fn of(node: &'n Node, dir: &Arc<OwnedFd>) -> Result<Self> {
        let alone = node.copying.lock();
        let changes = node.changes();
        let place = Place::Held(Arc::clone(dir));
        let before = node.with_kept_ctime(place.stat()?);
        Ok(Self {
            node,
            place,
            before,
            changes,
            _alone: alone,
        })
    }

    /// Gives them back. The entry is there then, so a failure is of no consequence for it.
    pub fn give_back(self) {
        match self.place.set_times(&times_of(&self.before)) {
            Ok(()) => self
                .node
                .keep_ctime(&self.place, &self.before, self.changes),
            Err(e) => log::warn!("keep a directory's times: {e}"),
        }
    }
}
