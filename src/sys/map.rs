//! Files mapped for reading, and what happens when the storage below one fails: SIGBUS becomes a
//! page of zeros and a mark, which readers check after each access.
#![expect(
    unsafe_code,
    reason = "mapping a file, and catching the signal that a failing mapping raises"
)]

use std::fs::File;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::error::{Errno, Error, Result};

/// How many mappings a process can have at a time.
const SLOTS: usize = 4096;
/// A slot that is being filled in: no address is so low.
const CLAIMED: usize = 1;

/// Where a mapping is, for the signal handler. `start` is 0 when the slot is free.
struct Slot {
    start: AtomicUsize,
    len: AtomicUsize,
    failed: AtomicBool,
}

static TABLE: [Slot; SLOTS] = [const {
    Slot {
        start: AtomicUsize::new(0),
        len: AtomicUsize::new(0),
        failed: AtomicBool::new(false),
    }
}; SLOTS];

/// What handled SIGBUS before us (the runtime's stack overflow report).
static BEFORE: OnceLock<libc::sigaction> = OnceLock::new();

/// A file, mapped for reading.
pub struct Map {
    bytes: memmap2::Mmap,
    slot: &'static Slot,
}

impl Map {
    /// Maps the whole of a file that nobody changes in place.
    ///
    /// # Errors
    /// `ENFILE` when the process has 4096 mappings, and what mmap(2) reports.
    pub fn open(file: &File) -> Result<Self> {
        install();
        let slot = TABLE
            .iter()
            .find(|slot| {
                slot.start
                    .compare_exchange(0, CLAIMED, Ordering::Acquire, Ordering::Relaxed)
                    .is_ok()
            })
            .ok_or_else(|| Error::with(Errno::ENFILE, "too many mapped files"))?;
        // SAFETY: the mapping is private to us and read-only; the files that are mapped are
        // replaced by rename and never written in place, and one that shrinks all the same
        // raises SIGBUS, which the handler turns into zeros.
        let bytes = match unsafe { memmap2::Mmap::map(file) } {
            Ok(bytes) => bytes,
            Err(error) => {
                slot.start.store(0, Ordering::Release);
                return Err(error.into());
            }
        };
        slot.failed.store(false, Ordering::Relaxed);
        slot.len.store(bytes.len(), Ordering::Relaxed);
        slot.start.store(bytes.as_ptr() as usize, Ordering::Release);
        Ok(Self { bytes, slot })
    }

    /// The bytes. What was read is right only if [`Map::failed`] says no afterwards.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether a page could not be read and was replaced by zeros.
    #[must_use]
    pub fn failed(&self) -> bool {
        self.slot.failed.load(Ordering::Acquire)
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // Before the unmapping, which follows when the fields are dropped.
        self.slot.start.store(0, Ordering::Release);
    }
}

fn install() {
    BEFORE.get_or_init(|| {
        // SAFETY: both structures are plain data for which zeros are a valid value, they live
        // through the call, and the handler has the signature that SA_SIGINFO asks for.
        unsafe {
            let mut before: libc::sigaction = std::mem::zeroed();
            let mut ours: libc::sigaction = std::mem::zeroed();
            let handler: extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void) = on_sigbus;
            ours.sa_sigaction = handler as usize;
            ours.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
            libc::sigaction(libc::SIGBUS, &raw const ours, &raw mut before);
            before
        }
    });
}

/// Does only what a signal handler may: atomics, mmap(2), sigaction(2).
extern "C" fn on_sigbus(_: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid siginfo to an SA_SIGINFO handler.
    let address = unsafe { (*info).si_addr() } as usize;
    // SAFETY: errno's place is valid for the thread's life.
    let errno = unsafe { *libc::__errno_location() };
    let slot = TABLE.iter().find(|slot| {
        let start = slot.start.load(Ordering::Acquire);
        start > CLAIMED && address >= start && address - start < slot.len.load(Ordering::Relaxed)
    });
    if !slot.is_some_and(|slot| replace_page(slot, address)) {
        // Not ours, or beyond help: the fault comes again and whoever was there before gets it.
        if let Some(before) = BEFORE.get() {
            // SAFETY: `before` is what sigaction(2) gave us.
            unsafe { libc::sigaction(libc::SIGBUS, before, std::ptr::null_mut()) };
        } else {
            // SAFETY: restores the default action; the fault then ends the process.
            unsafe { libc::signal(libc::SIGBUS, libc::SIG_DFL) };
        }
    }
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
}

fn replace_page(slot: &Slot, address: usize) -> bool {
    // SAFETY: sysconf(3) has no preconditions.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    let Ok(page) = usize::try_from(page) else {
        return false;
    };
    let start = address & !(page.wrapping_sub(1));
    slot.failed.store(true, Ordering::Release);
    // SAFETY: the page lies in a mapping of ours (its slot is taken), which nothing else uses,
    // so replacing it by zeros changes only what readers of that mapping see.
    let mapped = unsafe {
        libc::mmap(
            start as *mut libc::c_void,
            page,
            libc::PROT_READ,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED,
            -1,
            0,
        )
    };
    mapped != libc::MAP_FAILED
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn a_file_cut_short_reads_as_zeros_and_is_marked() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![7; 5 * 65536]).unwrap();
        let map = Map::open(&file).unwrap();
        let other = Map::open(&file).unwrap();
        assert_eq!(map.bytes()[200_000], 7);
        assert!(!map.failed());
        file.set_len(4096).unwrap();
        assert_eq!(map.bytes()[200_000], 0);
        assert_eq!(map.bytes()[100], 7);
        assert!(map.failed());
        assert!(!other.failed());
        assert_eq!(other.bytes()[65536], 0);
        assert!(other.failed());
    }

    #[test]
    fn slots_are_used_again() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"abc").unwrap();
        for _ in 0..SLOTS + 10 {
            assert_eq!(Map::open(&file).unwrap().bytes(), b"abc");
        }
    }
}
