//! Programs that compare whole trees ask each object for its extended attributes, and the kernel keeps
//! no answer. Where nothing can change, and no object turns out to have any, it can be told so once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::union::Union;

/// So many answers of "none" are given before it is worth a look at everything.
const WORTH_A_LOOK: u32 = 1000;

/// What is known of the extended attributes of a whole mount.
pub(super) struct Survey {
    wanted: bool,
    in_vain: AtomicU32,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    none: AtomicBool,
    /// The mount has ended.
    stop: AtomicBool,
}

impl Survey {
    pub fn new(wanted: bool) -> Self {
        Self {
            wanted,
            in_vain: AtomicU32::new(0),
            state: Arc::default(),
        }
    }

    /// Whether no object has any.
    pub fn found_none(&self) -> bool {
        self.state.none.load(Ordering::Relaxed)
    }

    /// Somebody has asked an object that has none; the first thousand times lead to a look at all, in a
    /// thread of its own.
    pub fn asked_in_vain(&self, union: &Arc<Union>) {
        if !self.wanted || self.in_vain.fetch_add(1, Ordering::Relaxed) + 1 != WORTH_A_LOOK {
            return;
        }
        let (union, state) = (Arc::clone(union), Arc::clone(&self.state));
        let look = move || match union.has_xattrs_anywhere(&|| !state.stop.load(Ordering::Relaxed))
        {
            Ok(found) => state.none.store(found == Some(false), Ordering::Relaxed),
            Err(e) => log::debug!("look for extended attributes: {e}"),
        };
        let thread = std::thread::Builder::new().name("survey".into());
        if let Err(e) = thread.spawn(look) {
            log::debug!("start a thread: {e}");
        }
    }
}

impl Drop for Survey {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::Relaxed);
    }
}
