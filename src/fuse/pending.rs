//! Requests whose answer comes later, and those among them that can be interrupted.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::encode::Reply;
use crate::sync::Mutex;

/// Where a late answer goes. Dropped without one, it answers `EIO`.
pub(super) trait Slot: Send + 'static {
    /// Room for the answer.
    fn area(&mut self) -> &mut [u8];

    /// Sends the answer, which is in the area.
    fn answer(self, reply: Reply);
}

/// A slot for which two may reach: the job that has the answer, and an interrupt.
pub(super) struct Ticket<S>(Mutex<Option<S>>);

impl<S: Slot> Ticket<S> {
    pub fn new(slot: S) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Some(slot))))
    }

    /// The slot, for the first who asks.
    pub fn take(&self) -> Option<S> {
        self.0.lock().take()
    }
}

/// What an interrupt can do.
trait Interrupt: Send + Sync {
    fn interrupt(&self);
}

impl<S: Slot> Interrupt for Ticket<S> {
    fn interrupt(&self) {
        if let Some(slot) = self.take() {
            slot.answer(Err(libc::EINTR));
        }
    }
}

/// How many interrupts are remembered whose requests haven't been seen.
const EARLY: usize = 64;

/// Requests that can be interrupted, by their number.
#[derive(Default)]
pub(super) struct Pending(Mutex<State>);

#[derive(Default)]
struct State {
    waiting: HashMap<u64, Arc<dyn Interrupt>>,
    /// Interrupts come another way than requests do, and may overtake them.
    early: VecDeque<u64>,
}

impl Pending {
    /// Lets a request be interrupted from now on; `false` when it has been already, and answered.
    #[must_use]
    pub fn add<S: Slot>(&self, unique: u64, ticket: &Arc<Ticket<S>>) -> bool {
        let mut state = self.0.lock();
        if let Some(at) = state.early.iter().position(|early| *early == unique) {
            state.early.remove(at);
            drop(state);
            ticket.interrupt();
            return false;
        }
        let ticket: Arc<dyn Interrupt> = Arc::<Ticket<S>>::clone(ticket);
        state.waiting.insert(unique, ticket);
        true
    }

    /// The request can't be interrupted any more.
    pub fn remove(&self, unique: u64) {
        self.0.lock().waiting.remove(&unique);
    }

    /// INTERRUPT
    pub fn interrupt(&self, unique: u64) {
        let mut state = self.0.lock();
        let found = state.waiting.remove(&unique);
        if found.is_none() {
            if state.early.len() == EARLY {
                state.early.pop_front();
            }
            state.early.push_back(unique);
        }
        drop(state);
        if let Some(ticket) = found {
            ticket.interrupt();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Sender, channel};

    struct Told(Sender<Reply>);

    impl Slot for Told {
        fn area(&mut self) -> &mut [u8] {
            &mut []
        }
        fn answer(self, reply: Reply) {
            self.0.send(reply).unwrap();
        }
    }

    #[test]
    fn a_request_is_answered_once() {
        let pending = Pending::default();
        let (tell, told) = channel();
        let ticket = Ticket::new(Told(tell.clone()));
        assert!(pending.add(2, &ticket));
        pending.interrupt(4);
        assert!(told.try_recv().is_err());
        pending.interrupt(2);
        assert_eq!(told.try_recv().unwrap(), Err(libc::EINTR));
        assert!(ticket.take().is_none(), "the job finds it answered");
        // The interrupt that came before its request.
        let late = Ticket::new(Told(tell.clone()));
        assert!(!pending.add(4, &late));
        assert_eq!(told.try_recv().unwrap(), Err(libc::EINTR));
        let again = Ticket::new(Told(tell));
        assert!(pending.add(4, &again));
        pending.remove(4);
        pending.interrupt(4);
        assert!(told.try_recv().is_err());
        again.take().unwrap().answer(Ok(0));
        assert_eq!(told.try_recv().unwrap(), Ok(0));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let pending = Pending::default();
        (0..10 * EARLY as u64).for_each(|n| pending.interrupt(n));
        assert_eq!(pending.0.lock().early.len(), EARLY);
    }
}
