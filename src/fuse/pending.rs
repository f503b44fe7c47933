//! Requests whose answer comes later, and those among them that can be interrupted.
//!
//! Any signal to whoever waits makes the kernel say INTERRUPT, also one that a handler takes. Programs
//! don't reckon with a file that can't be read because of that, and a page fault would become a
//! SIGBUS. So only who is being killed is let go. (The kernel says it once for a request: who has
//! taken another signal meanwhile, and is killed then, waits for the answer.)

use std::collections::VecDeque;
use std::sync::Arc;

use foldhash::HashMap;

use super::encode::Reply;
use crate::sync::Mutex;
use crate::sys::process::is_dying;

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

/// A request that waits, and whose.
struct Waiting {
    ticket: Arc<dyn Interrupt>,
    pid: u32,
}

#[derive(Default)]
struct State {
    waiting: HashMap<u64, Waiting>,
    /// Interrupts come another way than requests do, and may overtake them.
    early: VecDeque<u64>,
}

impl Pending {
    /// Lets a request of a process be interrupted from now on; `false` when it has been already, and
    /// answered.
    #[must_use]
    pub fn add<S: Slot>(&self, unique: u64, pid: u32, ticket: &Arc<Ticket<S>>) -> bool {
        let mut state = self.0.lock();
        let early = state.early.iter().position(|early| *early == unique);
        if let Some(at) = early {
            state.early.remove(at);
        }
        if early.is_some() && is_dying(pid) {
            drop(state);
            ticket.interrupt();
            return false;
        }
        let ticket: Arc<dyn Interrupt> = Arc::<Ticket<S>>::clone(ticket);
        state.waiting.insert(unique, Waiting { ticket, pid });
        true
    }

    /// The request can't be interrupted any more.
    pub fn remove(&self, unique: u64) {
        self.0.lock().waiting.remove(&unique);
    }

    /// INTERRUPT
    pub fn interrupt(&self, unique: u64) {
        let mut state = self.0.lock();
        let ticket = match state.waiting.get(&unique) {
            Some(waiting) if !is_dying(waiting.pid) => None,
            Some(_) => state.waiting.remove(&unique).map(|found| found.ticket),
            None => {
                if state.early.len() == EARLY {
                    state.early.pop_front();
                }
                state.early.push_back(unique);
                None
            }
        };
        drop(state);
        if let Some(ticket) = ticket {
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

    /// A process that can't die of the SIGKILL that it was sent: its parent doesn't ask how it went,
    /// and the dead have it pending still.
    fn dying() -> std::process::Child {
        let mut child = std::process::Command::new("sleep")
            .arg("100")
            .spawn()
            .unwrap();
        child.kill().unwrap();
        for _ in 0..1000 {
            if is_dying(child.id()) {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        child
    }

    #[test]
    fn only_who_dies_is_let_go_and_a_request_is_answered_once() {
        let pending = Pending::default();
        let (tell, told) = channel();
        let mut dying = dying();
        let (dead, alive) = (dying.id(), std::process::id());
        let ticket = Ticket::new(Told(tell.clone()));
        assert!(pending.add(2, dead, &ticket));
        pending.interrupt(4);
        pending.interrupt(6);
        assert!(told.try_recv().is_err());
        pending.interrupt(2);
        assert_eq!(told.try_recv().unwrap(), Err(libc::EINTR));
        assert!(ticket.take().is_none(), "the job finds it answered");
        // Interrupts that came before their requests.
        let late = Ticket::new(Told(tell.clone()));
        assert!(!pending.add(4, dead, &late));
        assert_eq!(told.try_recv().unwrap(), Err(libc::EINTR));
        let ours = Ticket::new(Told(tell.clone()));
        assert!(pending.add(6, alive, &ours));
        pending.interrupt(6);
        assert!(told.try_recv().is_err());
        pending.remove(6);
        ours.take().unwrap().answer(Ok(0));
        assert_eq!(told.try_recv().unwrap(), Ok(0));
        dying.wait().unwrap();
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let pending = Pending::default();
        (0..10 * EARLY as u64).for_each(|n| pending.interrupt(n));
        assert_eq!(pending.0.lock().early.len(), EARLY);
    }
}
