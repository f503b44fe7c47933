//! A bounded cache of descriptors of upper directories: no descriptor per inode.

use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use lru::LruCache;

use super::NodeId;
use crate::sync::Mutex;

/// How many directories are kept open. Well below the usual limit of 1,024 descriptors.
const KEPT: NonZeroUsize = NonZeroUsize::new(128).expect("not zero");

pub(super) struct DirFds(Mutex<LruCache<NodeId, Arc<OwnedFd>>>);

impl Default for DirFds {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(KEPT)))
    }
}

impl DirFds {
    pub fn get(&self, id: NodeId) -> Option<Arc<OwnedFd>> {
        self.0.lock().get(&id).cloned()
    }

    pub fn put(&self, id: NodeId, fd: &Arc<OwnedFd>) {
        // What falls out is closed after the lock is gone.
        let old = self.0.lock().push(id, Arc::clone(fd));
        drop(old);
    }

    pub fn remove(&self, id: NodeId) {
        let old = self.0.lock().pop(&id);
        drop(old);
    }
}
