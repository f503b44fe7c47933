//! How many requests there were, by operation.

use std::sync::atomic::{AtomicU64, Ordering};

/// The operations that are counted. FORGET, RELEASE, RELEASEDIR and FLUSH are not.
const OPERATIONS: [&str; 29] = [
    "lookup",
    "getattr",
    "readdirplus",
    "readdir",
    "opendir",
    "open",
    "create",
    "read",
    "write",
    "setattr",
    "unlink",
    "mkdir",
    "rmdir",
    "rename",
    "symlink",
    "readlink",
    "link",
    "mknod",
    "tmpfile",
    "getxattr",
    "listxattr",
    "setxattr",
    "removexattr",
    "statfs",
    "statx",
    "fsync",
    "fallocate",
    "lseek",
    "other",
];

/// A counter for each.
#[derive(Default)]
pub(super) struct Counts([AtomicU64; OPERATIONS.len()]);

impl Counts {
    fn place(operation: &str) -> usize {
        let known = OPERATIONS.iter().position(|o| *o == operation);
        known.unwrap_or(OPERATIONS.len() - 1)
    }

    pub fn add(&self, operation: &str) {
        if let Some(count) = self.0.get(Self::place(operation)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Those of one operation.
    pub fn of(&self, operation: &str) -> u64 {
        let count = self.0.get(Self::place(operation));
        count.map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// Operations with requests, and how many.
    pub fn all(&self) -> Vec<(&'static str, u64)> {
        let counted = OPERATIONS.iter().zip(&self.0);
        let counted = counted.map(|(op, count)| (*op, count.load(Ordering::Relaxed)));
        counted.filter(|(_, count)| *count > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_operation_is_counted_by_itself() {
        let counts = Counts::default();
        for op in ["open", "read", "read", "ioctl", "poll"] {
            counts.add(op);
        }
        assert_eq!(counts.all(), [("open", 1), ("read", 2), ("other", 2)]);
        assert_eq!((counts.of("read"), counts.of("write")), (2, 0));
    }
}
