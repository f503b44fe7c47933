//! The allocator's memory: as little as the threads need, and what was freed back to the kernel.
#![expect(unsafe_code, reason = "mallopt and malloc_trim have no safe wrappers")]

/// Has all threads share one arena per processor. Without that each thread may get its own, up to eight
/// per processor, and what is freed in one is of no use to the others: threads that come and go with the
/// load would leave their arenas behind, each larger than what is in it.
pub fn share() {
    #[cfg(target_env = "gnu")]
    {
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let arenas = libc::c_int::try_from(processors).unwrap_or(libc::c_int::MAX);
        // SAFETY: plain numbers; the allocator takes its own locks.
        unsafe {
            libc::mallopt(libc::M_ARENA_MAX, arenas);
        }
    }
}

/// Gives back what the heap has free, in the middle too. After a million small objects were freed, the
/// allocator keeps their pages otherwise.
pub fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: a plain number; the allocator takes its own locks.
    unsafe {
        libc::malloc_trim(0);
    }
}
