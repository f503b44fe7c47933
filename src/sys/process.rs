//! Processes: forking a daemon off, its signals, and when its threads run.
#![expect(
    unsafe_code,
    reason = "fork, signal masks and scheduling policies have no safe wrapper"
)]

use std::io;

/// Which side of a fork one is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fork {
    /// The new process.
    Child,
    /// The old one, with the new one's id.
    Parent(i32),
}

/// Splits the process in two.
///
/// # Errors
/// `EBUSY` when there are other threads, which the child would not have; what fork(2) reports.
pub fn fork() -> io::Result<Fork> {
    // A thread that was joined is listed for a moment still.
    let mut patience = 1000;
    while std::fs::read_dir("/proc/self/task")?.count() != 1 {
        if patience == 0 {
            return Err(io::Error::from_raw_os_error(libc::EBUSY));
        }
        patience -= 1;
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    // SAFETY: there is one thread, so the child has everything that this process has, in a
    // consistent state.
    match unsafe { libc::fork() } {
        0 => Ok(Fork::Child),
        pid if pid > 0 => Ok(Fork::Parent(pid)),
        _ => Err(io::Error::last_os_error()),
    }
}

/// How a thread stands to others that want its processor (sched(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// When it wakes it waits until who runs there sleeps or has had its share (`SCHED_BATCH`).
    Waits,
    /// It runs when nobody else wants to, nearly (`SCHED_IDLE`).
    Idle,
}

/// This thread's policy, as sched_getscheduler(2) has it.
#[must_use]
pub fn class() -> i32 {
    // SAFETY: no pointer is passed; 0 is the calling thread.
    unsafe { libc::sched_getscheduler(0) }
}

/// Puts this thread into a class, and the threads that it starts from now on.
///
/// # Errors
/// What sched_setscheduler(2) reports: `EPERM` where it may not leave `Idle` (`CAP_SYS_NICE`, or
/// `RLIMIT_NICE`).
pub fn set_class(class: Class) -> io::Result<()> {
    let policy = match class {
        Class::Waits => libc::SCHED_BATCH,
        Class::Idle => libc::SCHED_IDLE,
    };
    let same = libc::sched_param { sched_priority: 0 };
    // SAFETY: `same` is valid for the call; 0 is the calling thread.
    match unsafe { libc::sched_setscheduler(0, policy, &raw const same) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Signals that end a daemon.
fn ending() -> libc::sigset_t {
    // SAFETY: a sigset_t of zeros is a valid value for sigemptyset to fill; the calls take valid
    // pointers and signal numbers.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
            libc::sigaddset(&raw mut set, signal);
        }
        set
    }
}

/// Keeps the signals that end a process from this thread and those it starts; they are to be taken
/// by [`wait_for_end`].
///
/// # Errors
/// What pthread_sigmask(3) reports.
pub fn block_ending_signals() -> io::Result<()> {
    let set = ending();
    // SAFETY: `set` is initialised and outlives the call; the old mask is not asked for.
    match unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) } {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

/// Waits for one of the signals that [`block_ending_signals`] keeps away.
///
/// # Errors
/// What sigwait(3) reports.
pub fn wait_for_end() -> io::Result<i32> {
    let set = ending();
    let mut signal = 0;
    // SAFETY: both pointers are valid for the call.
    match unsafe { libc::sigwait(&raw const set, &raw mut signal) } {
        0 => Ok(signal),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

/// Lets a write to a closed pipe end the process quietly, as other tools do (Rust's runtime
/// ignores the signal).
pub fn end_on_closed_pipe() {
    // SAFETY: the default action needs no handler.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
    }
}

/// Raises the soft limit of open files to the hard one, where that is allowed.
pub fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if let Err(e) = setrlimit(Resource::Nofile, raised) {
        log::debug!("raise the limit of open files: {e}");
    }
}

/// How many files may be open at once now; `u64::MAX` where that has no limit.
#[must_use]
pub fn file_limit() -> u64 {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current.unwrap_or(u64::MAX)
}

/// Whether a process, or one of its threads, has been sent what kills it (`SigPnd`, `ShdPnd` in
/// proc(5)). One that is out of sight isn't.
#[must_use]
pub fn is_dying(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    has_sigkill(&status)
}

fn has_sigkill(status: &str) -> bool {
    let pending = status.lines().filter_map(|line| {
        let mask = line
            .strip_prefix("SigPnd:")
            .or(line.strip_prefix("ShdPnd:"));
        u64::from_str_radix(mask?.trim(), 16).ok()
    });
    pending.fold(0, |all, mask| all | mask) & (1 << (libc::SIGKILL - 1)) != 0
}

/// A process's supplementary groups; none when it is gone or out of sight.
#[must_use]
pub fn groups_of(pid: u32) -> Vec<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("Groups:"));
    let groups = line.unwrap_or_default().split_whitespace();
    groups.filter_map(|g| g.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_kills_is_dying() {
        let status = |own: &str, shared: &str| {
            format!("Name:\tx\nSigPnd:\t{own}\nShdPnd:\t{shared}\nSigBlk:\tffffffffffffffff\n")
        };
        assert!(!has_sigkill(&status(
            "0000000000000000",
            "0000000000000202"
        )));
        assert!(has_sigkill(&status("0000000000000100", "0000000000000000")));
        assert!(has_sigkill(&status("0000000000000000", "0000000000000102")));
        assert!(!has_sigkill(""));
        assert!(!is_dying(std::process::id()));
    }
}
