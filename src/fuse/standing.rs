//! How a serving thread stands to those whom it serves.
//!
//! Who asks sleeps until the answer is there, so one processor is enough for both, and the two take turns on it four
//! times as fast as from one processor to another. But the scheduler wakes who is answered where nothing runs, if there is
//! such a processor, and on this one the answering thread still does. A thread of the class `SCHED_IDLE` counts for
//! nothing there: who is answered stays, and its next request comes to the same thread.
//!
//! The other side of it: such a thread has to wait as soon as anybody else wants its processor. It looks how long it
//! did, and goes back to an ordinary class for a while where that was long.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::sys::process::{Class, class, set_class};

/// How often it is looked how long the thread had to wait.
const LOOK: Duration = Duration::from_millis(2);

/// How long the thread may wait for its processor each time that it is woken. Whoever has woken it goes to sleep within
/// two microseconds, with four clients on two processors within twenty.
const ALLOWED: Duration = Duration::from_micros(25);

/// How much longer, all in all, it waits before it becomes ordinary. Others run there now and then.
const PATIENCE: Duration = Duration::from_millis(10);

/// When it is tried again after it was too long: first, and at last.
const AGAIN: Duration = Duration::from_secs(1);
const AGAIN_LAST: Duration = Duration::from_secs(16);

/// A serving thread's class.
pub(super) struct Standing {
    /// The calling thread's schedstat; none where its class stays.
    waits: Option<File>,
    plan: Plan,
}

/// How often a thread was put on its processor, and how long it had waited for that, all in all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Waits {
    times: u64,
    nanoseconds: u64,
}

/// Which class it is to be, from what was seen.
#[derive(Debug)]
struct Plan {
    class: Class,
    before: Waits,
    /// How much longer it has waited than allowed, and not yet less.
    excess: Duration,
    /// Since when it is in this class, and when there is something to be decided.
    since: Instant,
    look: Instant,
    /// How long it stays ordinary the next time.
    again: Duration,
}

impl Standing {
    /// For the calling thread, which serves, and stays on one processor if it is `pinned`.
    pub fn new(pinned: bool) -> Self {
        let now = Instant::now();
        // Another class was chosen for the daemon.
        let chosen = class() != libc::SCHED_OTHER;
        if !chosen {
            OURS.store(true, Ordering::Relaxed);
            if let Err(e) = set_class(Class::Waits) {
                log::info!("the class of a serving thread: {e}");
            }
        }
        let waits = (pinned && !chosen)
            .then(|| File::open("/proc/thread-self/schedstat").ok())
            .flatten();
        Self {
            waits,
            plan: Plan::new(now),
        }
    }

    /// The thread has something to do. Costs a look at the clock, mostly.
    pub fn woken(&mut self) {
        let Some(file) = &self.waits else { return };
        let now = Instant::now();
        if now < self.plan.look {
            return;
        }
        let changed = match Waits::read(file) {
            Ok(waits) => self.plan.decide(now, waits).map_or(Ok(()), |class| {
                match class == Class::Idle && !can_come_back() {
                    true => Err(io::ErrorKind::PermissionDenied.into()),
                    false => set_class(class),
                }
            }),
            Err(e) => Err(e),
        };
        if let Err(e) = changed {
            log::debug!("a serving thread keeps its class: {e}");
            self.waits = None;
        }
    }
}

/// Whether serving threads have classes of our choice.
static OURS: AtomicBool = AtomicBool::new(false);

/// For a thread that may have been started by a serving one, and has got its class: it works for those who wait.
pub(super) fn be_ordinary() {
    if OURS.load(Ordering::Relaxed)
        && let Err(e) = set_class(Class::Waits)
    {
        log::info!("the class of a thread: {e}");
    }
}

/// Whether threads of this process may leave `SCHED_IDLE`: that takes a privilege.
fn can_come_back() -> bool {
    static CAN: OnceLock<bool> = OnceLock::new();
    *CAN.get_or_init(|| {
        let back_and_forth = || set_class(Class::Idle).and_then(|()| set_class(Class::Waits));
        let tried = std::thread::Builder::new().spawn(back_and_forth);
        tried.is_ok_and(|thread| thread.join().is_ok_and(|result| result.is_ok()))
    })
}

impl Waits {
    /// Reads a thread's schedstat (Documentation/scheduler/sched-stats.rst): time on a processor, time waited for one, how
    /// often on one.
    fn read(file: &File) -> io::Result<Self> {
        let mut bytes = [0; 80];
        let len = file.read_at(&mut bytes, 0)?;
        let text = bytes.get(..len).and_then(|text| str::from_utf8(text).ok());
        Self::parse(text.unwrap_or_default()).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    fn parse(text: &str) -> Option<Self> {
        let mut fields = text.split_ascii_whitespace().skip(1);
        let mut next = || fields.next()?.parse().ok();
        let (nanoseconds, times) = (next()?, next()?);
        Some(Self { times, nanoseconds })
    }

    /// How long was waited since, and how long would have been allowed.
    fn since(self, before: Self) -> (Duration, Duration) {
        let times = self.times.saturating_sub(before.times);
        let waited = Duration::from_nanos(self.nanoseconds.saturating_sub(before.nanoseconds));
        (waited, ALLOWED * u32::try_from(times).unwrap_or(u32::MAX))
    }
}

impl Plan {
    /// Ordinary at first; most mounts are not busy for long.
    fn new(now: Instant) -> Self {
        Self {
            class: Class::Waits,
            before: Waits::default(),
            excess: Duration::ZERO,
            since: now,
            look: now + 10 * LOOK,
            again: AGAIN,
        }
    }

    /// The class to change to, if any.
    fn decide(&mut self, now: Instant, waits: Waits) -> Option<Class> {
        let (waited, allowed) = waits.since(std::mem::replace(&mut self.before, waits));
        self.look = now + LOOK;
        match self.class {
            Class::Waits => {
                self.class = Class::Idle;
                self.excess = Duration::ZERO;
            }
            Class::Idle => {
                self.excess = (self.excess + waited).saturating_sub(allowed);
                if self.excess <= PATIENCE {
                    if now.duration_since(self.since) > AGAIN {
                        self.again = AGAIN;
                    }
                    return None;
                }
                self.class = Class::Waits;
                self.look = now + self.again;
                self.again = (self.again * 2).min(AGAIN_LAST);
            }
        }
        self.since = now;
        Some(self.class)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(times: u64, microseconds: u64) -> Waits {
        Waits {
            times,
            nanoseconds: microseconds * 1000,
        }
    }

    #[test]
    fn who_has_to_wait_becomes_ordinary_for_longer_each_time() {
        let start = Instant::now();
        let mut plan = Plan::new(start);
        let (mut now, mut seen) = (start, waits(0, 0));
        let mut wait = |times, microseconds| {
            seen = waits(seen.times + times, seen.nanoseconds / 1000 + microseconds);
            seen
        };
        for pause in [1, 2, 4, 8, 16, 16] {
            now += Duration::from_millis(20);
            assert_eq!(plan.decide(now, wait(7, 300_000)), Some(Class::Idle));
            assert_eq!(plan.look, now + LOOK);
            now += LOOK;
            assert_eq!(
                plan.decide(now, wait(100, 200)),
                None,
                "two microseconds each time"
            );
            now += LOOK;
            assert_eq!(plan.decide(now, wait(1, 9000)), None, "once long");
            now += LOOK;
            assert_eq!(
                plan.decide(now, wait(500, 1000)),
                None,
                "and soon forgotten"
            );
            now += LOOK;
            assert_eq!(plan.decide(now, wait(1, 9000)), None);
            now += LOOK;
            assert_eq!(plan.decide(now, wait(1, 3000)), Some(Class::Waits));
            assert_eq!(plan.look, now + Duration::from_secs(pause));
            now = plan.look;
        }
        // After a good second it begins anew.
        assert_eq!(plan.decide(now, wait(0, 0)), Some(Class::Idle));
        now += 2 * AGAIN;
        assert_eq!(plan.decide(now, wait(1, 1)), None);
        assert_eq!(plan.decide(now, wait(1, 30_000)), Some(Class::Waits));
        assert_eq!(plan.look, now + AGAIN);
    }

    #[test]
    fn a_schedstat_is_read() {
        assert_eq!(
            Waits::parse("2100426 2158220 47\n"),
            Some(Waits {
                times: 47,
                nanoseconds: 2_158_220
            })
        );
        assert_eq!(Waits::parse("1 2"), None);
        assert_eq!(Waits::parse(""), None);
        let Ok(file) = File::open("/proc/thread-self/schedstat") else {
            return;
        };
        let before = Waits::read(&file).unwrap();
        std::thread::sleep(Duration::from_millis(5));
        assert!(Waits::read(&file).unwrap().times > before.times);
    }

    #[test]
    fn the_class_follows_and_is_not_that_of_threads_for_jobs() {
        std::thread::spawn(|| {
            let mut standing = Standing::new(true);
            assert_eq!(class(), libc::SCHED_BATCH);
            std::thread::sleep(30 * LOOK);
            standing.woken();
            let lowered = standing.waits.is_some();
            assert_eq!(lowered, can_come_back());
            assert_eq!(lowered, class() == libc::SCHED_IDLE);
            let job = std::thread::spawn(|| {
                be_ordinary();
                class()
            });
            assert_eq!(job.join().unwrap(), libc::SCHED_BATCH);
        })
        .join()
        .unwrap();
    }
}
