//! What the kernel reads without having opened it. A directory needs no handle: a listing's cursors
//! follow from the names, so that any listing of it will do. A file of a tree that can't change needs
//! none either: the kernel keeps its pages, and who opens it again asks for nothing at all.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lru::LruCache;

use super::backing::Reader;
use crate::error::Result;
use crate::sync::Mutex;
use crate::union::{DirList, NodeId};

/// How many files are kept open to be read from. The limit may be 1,024 descriptors.
const FILES_KEPT: NonZeroUsize = NonZeroUsize::new(256).expect("not zero");

/// How many listings are kept for who reads on in them, and how many entries they have in all as far
/// as they are several.
const LISTS_KEPT: NonZeroUsize = NonZeroUsize::new(64).expect("not zero");
const ENTRIES_KEPT: usize = 1 << 16;

/// What is read without having been opened.
pub(super) struct Unopened {
    files: AtomicBool,
    dirs: AtomicBool,
    readers: Mutex<LruCache<NodeId, Reader>>,
    lists: Mutex<Lists>,
}

struct Lists {
    kept: LruCache<NodeId, Arc<DirList>>,
    entries: usize,
}

impl Default for Unopened {
    fn default() -> Self {
        Self {
            files: AtomicBool::new(false),
            dirs: AtomicBool::new(false),
            readers: Mutex::new(LruCache::new(FILES_KEPT)),
            lists: Mutex::new(Lists {
                kept: LruCache::new(LISTS_KEPT),
                entries: 0,
            }),
        }
    }
}

impl Unopened {
    /// The kernel opens no files.
    pub fn spare_files(&self) {
        self.files.store(true, Ordering::Relaxed);
    }

    /// The kernel opens no directories.
    pub fn spare_dirs(&self) {
        self.dirs.store(true, Ordering::Relaxed);
    }

    /// Whether files are read without having been opened.
    pub fn files(&self) -> bool {
        self.files.load(Ordering::Relaxed)
    }

    /// Whether directories are.
    pub fn dirs(&self) -> bool {
        self.dirs.load(Ordering::Relaxed)
    }

    /// What a file is read from, opened if it isn't.
    ///
    /// # Errors
    /// What `open` reports.
    pub fn reader(&self, node: NodeId, open: impl FnOnce() -> Result<Reader>) -> Result<Reader> {
        if let Some(reader) = self.readers.lock().get(&node) {
            return Ok(reader.clone());
        }
        let reader = open()?;
        // What falls out is closed after the lock is gone.
        let old = self.readers.lock().push(node, reader.clone());
        drop(old);
        Ok(reader)
    }

    /// The listing of a directory in which somebody reads.
    pub fn list(&self, dir: NodeId) -> Option<Arc<DirList>> {
        self.lists.lock().kept.get(&dir).cloned()
    }

    /// Keeps a listing for who reads on in it.
    pub fn keep_list(&self, dir: NodeId, list: &Arc<DirList>) {
        let mut gone = Vec::new();
        let mut lists = self.lists.lock();
        lists.entries += list.len();
        if let Some((_, old)) = lists.kept.push(dir, Arc::clone(list)) {
            lists.entries -= old.len();
            gone.push(old);
        }
        while lists.entries > ENTRIES_KEPT && lists.kept.len() > 1 {
            if let Some((_, old)) = lists.kept.pop_lru() {
                lists.entries -= old.len();
                gone.push(old);
            }
        }
        drop(lists);
    }

    /// Somebody has read a directory to its end.
    pub fn drop_list(&self, dir: NodeId) {
        let mut lists = self.lists.lock();
        let old = lists.kept.pop(&dir);
        lists.entries -= old.as_ref().map_or(0, |list| list.len());
        drop(lists);
        drop(old);
    }

    /// The kernel has forgotten a node.
    pub fn forget(&self, node: NodeId) {
        let old = self.readers.lock().pop(&node);
        drop(old);
        self.drop_list(node);
    }
}
