//! [`Step`]: an answer, or the job that will give it.

use super::gate::Pass;
use super::greeting::MAX_WRITE;
use crate::error::Result;

/// As much data, in bytes, is copied on the serving thread as one WRITE can bring. A job has to wait for a processor,
/// which takes longer than copying a small file.
const AT_ONCE: u64 = MAX_WRITE as u64;

/// Where an operation may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cost {
    /// On the serving thread: metadata calls, and reads, writes and copies of up to [`AT_ONCE`].
    Quick,
    /// As a job: it copies more, syncs or decompresses.
    Slow,
}

impl Cost {
    /// What it costs to copy so many bytes.
    pub fn of(bytes: u64) -> Self {
        match bytes <= AT_ONCE {
            true => Self::Quick,
            false => Self::Slow,
        }
    }
}

/// Work that gives an answer on a thread of the pool. It is lent the transport's `D`, by which
/// files can be registered for passthrough.
pub type Job<R, D = ()> = Box<dyn FnOnce(&D) -> Result<R> + Send>;

/// Work that waits until changes are allowed again.
pub type ParkedJob<R, D = ()> = Box<dyn FnOnce(&D, Pass) -> Result<R> + Send>;

/// What an operation comes to on the thread that serves it.
pub enum Step<R, D = ()> {
    /// The answer.
    Done(Result<R>),
    /// The answer comes from this job; the serving thread goes on.
    Later(Job<R, D>),
    /// The answer comes from this job, once changes are allowed again.
    Parked(ParkedJob<R, D>),
}

impl<R, D> From<Result<R>> for Step<R, D> {
    fn from(result: Result<R>) -> Self {
        Step::Done(result)
    }
}

impl<R: 'static> Step<R> {
    /// The same step for a transport's device, which it does not need.
    #[must_use]
    pub fn with_device<D: 'static>(self) -> Step<R, D> {
        match self {
            Step::Done(result) => Step::Done(result),
            Step::Later(job) => Step::Later(Box::new(move |_| job(&()))),
            Step::Parked(job) => Step::Parked(Box::new(move |_, pass| job(&(), pass))),
        }
    }
}

impl<R: 'static, D: 'static> Step<R, D> {
    /// The same step with its answer in another form.
    #[must_use]
    pub fn map<T>(self, form: impl FnOnce(R) -> T + Send + 'static) -> Step<T, D> {
        match self {
            Step::Done(result) => Step::Done(result.map(form)),
            Step::Later(job) => Step::Later(Box::new(move |device| job(device).map(form))),
            Step::Parked(job) => {
                Step::Parked(Box::new(move |device, pass| job(device, pass).map(form)))
            }
        }
    }
}
