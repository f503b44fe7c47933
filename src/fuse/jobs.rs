//! A bounded pool of threads for what a serving thread must not do itself. Threads are made when
//! needed and go when idle.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use crate::sync::{Condvar, Mutex};

/// Something to be done.
pub type Task = Box<dyn FnOnce() + Send>;

/// How long a thread without work stays.
const IDLE: Duration = Duration::from_secs(10);

/// The pool. Dropping it lets the threads finish what is queued and go.
pub struct Jobs {
    shared: Arc<Shared>,
    most: usize,
}

struct Shared {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Task>,
    threads: usize,
    idle: usize,
    closed: bool,
}

impl Jobs {
    /// A pool of at most `most` threads.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self {
            shared: Arc::new(Shared {
                state: Mutex::new(State::default()),
                wake: Condvar::new(),
            }),
            most: most.max(1),
        }
    }

    /// Does something on a thread of the pool, soon.
    pub fn run(&self, task: Task) {
        let mut state = self.shared.state.lock();
        state.queue.push_back(task);
        if state.queue.len() <= state.idle || state.threads >= self.most {
            self.shared.wake.notify_one();
            return;
        }
        let shared = Arc::clone(&self.shared);
        let named = std::thread::Builder::new().name("job".into());
        let start = move || {
            super::standing::be_ordinary();
            work(&shared);
        };
        match named.spawn(start) {
            Ok(_detached) => state.threads += 1,
            Err(e) if state.threads > 0 => log::warn!("a job waits, no further thread: {e}"),
            Err(e) => {
                // Better slow than never.
                log::warn!("a job on the serving thread: {e}");
                let task = state.queue.pop_back();
                drop(state);
                if let Some(task) = task {
                    run_caught(task);
                }
            }
        }
    }
}

impl Drop for Jobs {
    fn drop(&mut self) {
        self.shared.state.lock().closed = true;
        self.shared.wake.notify_all();
    }
}

fn work(shared: &Shared) {
    let mut state = shared.state.lock();
    loop {
        if let Some(task) = state.queue.pop_front() {
            drop(state);
            run_caught(task);
            state = shared.state.lock();
            continue;
        }
        if state.closed {
            break;
        }
        state.idle += 1;
        let timed_out = shared.wake.wait_for(&mut state, IDLE).timed_out();
        state.idle -= 1;
        if timed_out && state.queue.is_empty() {
            break;
        }
    }
    state.threads -= 1;
}

/// A panic ends the task, not the pool: its reply, dropped, says EIO.
fn run_caught(task: Task) {
    if std::panic::catch_unwind(AssertUnwindSafe(task)).is_err() {
        log::error!("a job panicked");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn jobs_run_side_by_side_up_to_a_bound_and_survive_panics() {
        let jobs = Jobs::new(3);
        let (started, starts) = channel();
        let gates: Vec<_> = (0..5)
            .map(|i| {
                let (open, gate) = channel::<()>();
                let started = started.clone();
                jobs.run(Box::new(move || {
                    started.send(i).unwrap();
                    gate.recv().unwrap();
                    assert!(i != 0, "the first one panics");
                }));
                open
            })
            .collect();
        let mut first: Vec<i32> = (0..3).map(|_| starts.recv().unwrap()).collect();
        first.sort_unstable();
        assert_eq!(first, [0, 1, 2]);
        assert!(starts.recv_timeout(Duration::from_millis(50)).is_err());
        for gate in &gates {
            gate.send(()).unwrap();
        }
        let mut rest = [starts.recv().unwrap(), starts.recv().unwrap()];
        rest.sort_unstable();
        assert_eq!(rest, [3, 4]);
    }
}
