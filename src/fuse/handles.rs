//! Open files, by the number that the kernel has for them.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use foldhash::HashMap;

use crate::error::{Errno, Result};
use crate::sync::RwLock;
use crate::union::{Node, NodeId};

/// An open file.
pub(super) struct FileHandle {
    /// What the kernel calls the node. It has references on it while the file is open.
    pub id: NodeId,
    /// The upper's file, when the handle is cached and can be written. A passthrough handle needs no
    /// descriptor of ours.
    pub writer: Option<Arc<File>>,
    /// The program's file, when one is executed through it.
    pub executes: Option<Arc<Node>>,
}

/// How a request names the file that it is about.
#[derive(Debug, Clone, Copy)]
pub struct At {
    /// What the kernel calls the node.
    pub node: NodeId,
    /// The handle's number. It says nothing where files are not opened.
    pub handle: u64,
}

#[derive(Default)]
pub(super) struct Handles {
    open: RwLock<HashMap<u64, Arc<FileHandle>>>,
    next: AtomicU64,
}

impl Handles {
    pub fn add(&self, handle: FileHandle) -> u64 {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.open.write().insert(number, Arc::new(handle));
        number
    }

    /// # Errors
    /// `EBADF`
    pub fn get(&self, number: u64) -> Result<Arc<FileHandle>> {
        let open = self.open.read();
        open.get(&number)
            .cloned()
            .ok_or_else(|| Errno::EBADF.into())
    }

    pub fn remove(&self, number: u64) -> Option<Arc<FileHandle>> {
        self.open.write().remove(&number)
    }

    /// Whether a file is being executed.
    pub fn executes(&self, node: &Arc<Node>) -> bool {
        let open = self.open.read();
        let mut open = open.values();
        open.any(|handle| {
            let file = handle.executes.as_ref();
            file.is_some_and(|file| Arc::ptr_eq(file, node))
        })
    }

    pub fn len(&self) -> usize {
        self.open.read().len()
    }
}
