//! Memory that was freed, back to the kernel.
#![expect(unsafe_code, reason = "malloc_trim has no safe wrapper")]

/// Gives back what the heap has free, in the middle too. After a million small objects were freed, the
/// allocator keeps their pages otherwise.
pub fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: a plain number; the allocator takes its own locks.
    unsafe {
        libc::malloc_trim(0);
    }
}
