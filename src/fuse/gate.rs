//! The gate through which changes go. It can be shut for the time a commit needs to walk the
//! upper: changes that are under way finish, new ones are parked, and no serving thread waits.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::{Errno, Error, Result};
use crate::sync::{Condvar, Mutex};

/// A change that waits. It is handed the pass that it needs.
pub type Parked = Box<dyn FnOnce(Pass) + Send>;

/// Lets changes through, or parks them.
#[derive(Default)]
pub struct Gate(Arc<Inner>);

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    quiet: Condvar,
}

#[derive(Default)]
struct State {
    held: bool,
    /// Passes that are out.
    running: usize,
    parked: Vec<Parked>,
}

/// The right to change something; given back when dropped.
pub struct Pass(Arc<Inner>);

impl Drop for Pass {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.running -= 1;
        if state.running == 0 {
            self.0.quiet.notify_all();
        }
    }
}

impl Gate {
    /// A pass, unless changes are held.
    #[must_use]
    pub fn enter(&self) -> Option<Pass> {
        let mut state = self.0.state.lock();
        if state.held {
            return None;
        }
        Some(self.pass(&mut state))
    }

    fn pass(&self, state: &mut State) -> Pass {
        state.running += 1;
        Pass(Arc::clone(&self.0))
    }

    /// Parks a change that was given no pass. If changes have been released since, it comes back
    /// with its pass, to be run.
    #[must_use]
    pub fn park(&self, change: Parked) -> Option<(Parked, Pass)> {
        let mut state = self.0.state.lock();
        if state.held {
            state.parked.push(change);
            return None;
        }
        Some((change, self.pass(&mut state)))
    }

    /// Shuts the gate and waits until the changes under way are done.
    ///
    /// # Errors
    /// `EBUSY` when it is shut already; `ETIMEDOUT` when changes still go on after `patience`: the
    /// gate then stays shut, and [`Gate::release`] opens it.
    pub fn hold(&self, patience: Duration) -> Result<()> {
        let until = Instant::now() + patience;
        let mut state = self.0.state.lock();
        if state.held {
            return Err(Error::with(Errno::EBUSY, "changes are held already"));
        }
        state.held = true;
        while state.running > 0 {
            if self.0.quiet.wait_until(&mut state, until).timed_out() && state.running > 0 {
                return Err(Error::with(Errno::ETIMEDOUT, "changes are still under way"));
            }
        }
        Ok(())
    }

    /// Opens the gate. What was parked comes back with its passes, to be run.
    #[must_use]
    pub fn release(&self) -> Vec<(Parked, Pass)> {
        let mut state = self.0.state.lock();
        state.held = false;
        let parked = std::mem::take(&mut state.parked);
        parked
            .into_iter()
            .map(|change| (change, self.pass(&mut state)))
            .collect()
    }

    /// Whether changes are held.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.0.state.lock().held
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    const SOON: Duration = Duration::from_millis(20);

    #[test]
    fn held_changes_wait_and_then_go_on() {
        let gate = Gate::default();
        drop(gate.enter().unwrap());
        gate.hold(SOON).unwrap();
        assert!(gate.enter().is_none());
        assert_eq!(gate.hold(SOON).unwrap_err().errno(), Errno::EBUSY);
        let done = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&done);
        let parked = gate.park(Box::new(move |_pass| {
            counted.fetch_add(1, Ordering::Relaxed);
        }));
        assert!(parked.is_none());
        for (change, pass) in gate.release() {
            change(pass);
        }
        assert_eq!(done.load(Ordering::Relaxed), 1);
        assert!(gate.enter().is_some());
        assert!(
            gate.park(Box::new(|_| {})).is_some(),
            "released in the meantime"
        );
    }

    #[test]
    fn a_hold_waits_for_changes_under_way() {
        let gate = Arc::new(Gate::default());
        let pass = gate.enter().unwrap();
        assert_eq!(gate.hold(SOON).unwrap_err().errno(), Errno::ETIMEDOUT);
        assert!(gate.release().is_empty());
        let holder = {
            let gate = Arc::clone(&gate);
            std::thread::spawn(move || gate.hold(Duration::from_secs(10)))
        };
        while !gate.is_held() {
            std::thread::yield_now();
        }
        assert!(!holder.is_finished());
        drop(pass);
        holder.join().unwrap().unwrap();
    }
}
