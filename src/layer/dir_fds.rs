//! Open directories of all directory layers, in one bounded cache: the limit of descriptors is the
//! process's, and a stack may have hundreds of layers.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Weak};

use lru::LruCache;

use super::LayerNode;
use crate::error::Result;
use crate::sync::Mutex;
use crate::sys::process::file_limit;

/// How many directories are kept open: an eighth of the descriptors that the process may have, within
/// these bounds. A walk of a tree holds those from the root down, in each of its layers; who has less
/// opens all of them for every name.
const KEPT_LEAST: NonZeroUsize = NonZeroUsize::new(192).expect("not zero");
const KEPT_MOST: usize = 4096;

type Key = (u64, LayerNode);

static OPEN: LazyLock<Mutex<LruCache<Key, Arc<OwnedFd>>>> =
    LazyLock::new(|| Mutex::new(LruCache::new(kept(file_limit()))));

fn kept(limit: u64) -> NonZeroUsize {
    let share = usize::try_from(limit / 8).unwrap_or(usize::MAX);
    NonZeroUsize::new(share.min(KEPT_MOST)).map_or(KEPT_LEAST, |share| share.max(KEPT_LEAST))
}

/// One layer's part of the cache.
pub(super) struct LayerFds {
    layer: u64,
}

impl Default for LayerFds {
    fn default() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self {
            layer: NEXT.fetch_add(1, Ordering::Relaxed),
        }
    }
}

impl LayerFds {
    pub fn get(&self, dir: LayerNode) -> Option<Arc<OwnedFd>> {
        OPEN.lock().get(&(self.layer, dir)).cloned()
    }

    pub fn put(&self, dir: LayerNode, fd: &Arc<OwnedFd>) {
        // What falls out is closed after the lock is gone.
        let old = OPEN.lock().push((self.layer, dir), Arc::clone(fd));
        drop(old);
    }

    pub fn remove(&self, dirs: &[LayerNode]) {
        let mut open = OPEN.lock();
        let closed: Vec<_> = dirs
            .iter()
            .filter_map(|dir| open.pop(&(self.layer, *dir)))
            .collect();
        drop(open);
        drop(closed);
    }
}

impl Drop for LayerFds {
    fn drop(&mut self) {
        let mut open = OPEN.lock();
        let mine: Vec<_> = open
            .iter()
            .map(|(key, _)| *key)
            .filter(|(layer, _)| *layer == self.layer)
            .collect();
        let closed: Vec<_> = mine.iter().filter_map(|key| open.pop(key)).collect();
        drop(open);
        drop(closed);
    }
}

/// A descriptor on a file system, by which its objects are found by handle: one for all layers on
/// it.
///
/// # Errors
/// What fstat(2) and `open` report.
pub(super) fn on_file_system(
    dir: impl AsFd,
    open: impl FnOnce() -> Result<OwnedFd>,
) -> Result<(Arc<OwnedFd>, u64)> {
    static KNOWN: LazyLock<Mutex<HashMap<u64, Weak<OwnedFd>>>> = LazyLock::new(Mutex::default);
    let device = rustix::fs::fstat(dir)?.st_dev;
    if let Some(fd) = KNOWN.lock().get(&device).and_then(Weak::upgrade) {
        return Ok((fd, device));
    }
    let fd = Arc::new(open()?);
    KNOWN.lock().insert(device, Arc::downgrade(&fd));
    Ok((fd, device))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_the_descriptors_is_used() {
        let limits = [0, 1024, 20_000, 1 << 20, u64::MAX];
        let shares = limits.map(|limit| kept(limit).get());
        assert_eq!(shares, [192, 192, 2500, 4096, 4096]);
    }
}
