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

/// How many directories are kept open. Well below the usual limit of 1,024 descriptors.
const KEPT: NonZeroUsize = NonZeroUsize::new(192).expect("not zero");

type Key = (u64, LayerNode);

static OPEN: LazyLock<Mutex<LruCache<Key, Arc<OwnedFd>>>> =
    LazyLock::new(|| Mutex::new(LruCache::new(KEPT)));

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
