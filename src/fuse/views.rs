//! The tree of the lowers alone, beside the whole one in the same mount: how it is reached, and what
//! the kernel keeps of it. ([`Union::lower_view`] says what it is for.)
//!
//! Its root has no name that anybody could come upon. One is made up for each mount of it, is good for
//! one lookup, and is bound elsewhere from there.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use foldhash::HashMap;

use super::notices::Notice;
use super::server::{EntryReply, Server};
use crate::error::{Errno, Result};
use crate::name::{Name, NameBuf};
use crate::sync::Mutex;
use crate::union::NodeId;

/// How long a name of the root is good for.
const GOOD_FOR: Duration = Duration::from_secs(10);

/// How many are remembered who asked for the figures of the file system.
const CALLERS_KEPT: usize = 16;

/// What is known of the tree of the lowers alone.
#[derive(Default)]
pub(super) struct Views {
    /// Names of the root, and since when.
    tickets: Mutex<Vec<(NameBuf, Instant)>>,
    has_tickets: AtomicBool,
    /// Directories whose listings the kernel may have kept, and whether from after the last change.
    listed: Mutex<HashMap<NodeId, bool>>,
    has_fresh: AtomicBool,
    /// The threads that asked for the figures last (statfs(2)), and when: a program that is about to
    /// compare two mounts looks whether they are there.
    callers: Mutex<VecDeque<(u32, Instant)>>,
}

impl Views {
    /// Somebody asks for the figures of the file system.
    pub fn asked(&self, thread: u32) {
        let mut callers = self.callers.lock();
        callers.retain(|(known, _)| *known != thread);
        callers.push_front((thread, Instant::now()));
        callers.truncate(CALLERS_KEPT);
    }

    /// How long ago a thread of this process asked.
    fn asked_by(&self, process: u32) -> Option<Duration> {
        let callers = self.callers.lock();
        let of_process = |thread: u32| {
            let path = format!("/proc/{process}/task/{thread}");
            thread == process || Path::new(&path).exists()
        };
        let last = callers.iter().find(|(thread, _)| of_process(*thread))?;
        Some(last.1.elapsed())
    }

    fn new_ticket(&self) -> Result<NameBuf> {
        let mut bytes = [0; 16];
        let got = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
        if got < bytes.len() {
            return Err(Errno::EIO.into());
        }
        let ticket =
            NameBuf::new(format!(".strata-{:032x}", u128::from_ne_bytes(bytes)).as_bytes())?;
        let mut tickets = self.tickets.lock();
        tickets.retain(|(_, since)| since.elapsed() < GOOD_FOR);
        tickets.push((ticket.clone(), Instant::now()));
        self.has_tickets.store(true, Ordering::Release);
        Ok(ticket)
    }

    /// Whether this is a name of the root, for the last time.
    fn take_ticket(&self, name: &Name) -> bool {
        if !self.has_tickets.load(Ordering::Acquire) {
            return false;
        }
        let mut tickets = self.tickets.lock();
        tickets.retain(|(_, since)| since.elapsed() < GOOD_FOR);
        let found = tickets.iter().position(|(ticket, _)| **ticket == *name);
        if let Some(at) = found {
            tickets.swap_remove(at);
        }
        self.has_tickets
            .store(!tickets.is_empty(), Ordering::Release);
        found.is_some()
    }

    /// The kernel is about to get a listing of this directory.
    pub fn lists(&self, dir: NodeId) {
        let mut listed = self.listed.lock();
        listed.insert(dir, true);
        self.has_fresh.store(true, Ordering::SeqCst);
    }

    /// The kernel has forgotten a node.
    pub fn forget(&self, node: NodeId) {
        let mut listed = self.listed.lock();
        if !listed.is_empty() {
            listed.remove(&node);
        }
    }
}

impl<I: Send + Sync + 'static> Server<I> {
    /// Makes a name for the root of the tree of the lowers alone, in the root of the mount. What the
    /// kernel has of that tree's listings is dropped: it may be from before.
    ///
    /// # Errors
    /// As [`Union::lower_view`]; `ENOTCONN` without a way to the kernel.
    pub fn offer_view(&self) -> Result<NameBuf> {
        let root = self.union.lower_view()?;
        self.forget(root.node.id(), 1);
        // They stay known until the kernel has forgotten them: if one can't be dropped, the next time all are
        // tried again.
        let listed: Vec<_> = self.views.listed.lock().keys().copied().collect();
        for dir in listed {
            match self.notices.send_now(&Notice::Listing(dir)) {
                // The kernel had dropped it by itself.
                Err(e) if e.raw_os_error() == Some(libc::ENOENT) => {}
                dropped => dropped?,
            }
        }
        self.views.new_ticket()
    }

    /// How long ago this process asked for the figures of the file system, if it is one of the last.
    #[must_use]
    pub fn asked_by(&self, process: u32) -> Option<Duration> {
        self.views.asked_by(process)
    }

    /// The root of the tree of the lowers alone, if that is what this name in the root is for.
    pub(super) fn view_by(&self, parent: NodeId, name: &Name) -> Result<Option<EntryReply>> {
        if parent != NodeId::ROOT || !self.views.take_ticket(name) {
            return Ok(None);
        }
        let entry = self.entry(&self.union.lower_view()?);
        Ok(Some(EntryReply {
            entry_lifetime: Duration::ZERO,
            ..entry
        }))
    }

    /// Something in the whole tree was changed: the kernel's listings of the other are from before.
    pub(super) fn drop_view_listings(&self) {
        if !self.views.has_fresh.load(Ordering::SeqCst) {
            return;
        }
        let mut dropped = Vec::new();
        let mut listed = self.views.listed.lock();
        self.views.has_fresh.store(false, Ordering::SeqCst);
        // They stay known: an answer that is still on its way comes after this.
        for (dir, fresh) in listed.iter_mut() {
            if std::mem::take(fresh) {
                dropped.push(*dir);
            }
        }
        drop(listed);
        // Before the change is answered. The kernel locks a page of that directory only, and nobody waits
        // for us with one.
        for dir in dropped {
            if let Err(e) = self.notices.send_now(&Notice::Listing(dir)) {
                log::debug!("a listing: {e}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_the_root_is_good_once() {
        let views = Views::default();
        let (one, other) = (views.new_ticket().unwrap(), views.new_ticket().unwrap());
        assert_ne!(one, other);
        let unknown = NameBuf::new(b".strata-0").unwrap();
        assert!(!views.take_ticket(&unknown));
        assert!(views.take_ticket(&one) && !views.take_ticket(&one));
        assert!(views.take_ticket(&other) && !views.take_ticket(&other));
        let mut tickets = views.tickets.lock();
        let Some(long_ago) = Instant::now().checked_sub(GOOD_FOR) else {
            return;
        };
        tickets.push((one.clone(), long_ago));
        drop(tickets);
        views.has_tickets.store(true, Ordering::Relaxed);
        assert!(!views.take_ticket(&one), "too old");
    }

    #[test]
    fn the_last_who_asked_are_known_by_their_process() {
        let views = Views::default();
        let me = std::process::id();
        assert!(views.asked_by(me).is_none());
        let thread = rustix::thread::gettid().as_raw_pid().cast_unsigned();
        views.asked(thread);
        assert!(views.asked_by(me).is_some() && views.asked_by(1).is_none());
        // Threads of init and of nobody.
        (u32::MAX - 15..=u32::MAX).for_each(|n| views.asked(n));
        assert!(views.asked_by(me).is_none());
        assert_eq!(views.callers.lock().len(), CALLERS_KEPT);
    }
}
