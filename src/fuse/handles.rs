//! Open files and directories, by the number that the kernel has for them.

use std::collections::HashMap;
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Errno, Error, Result};
use crate::sync::{Mutex, RwLock};
use crate::union::{DirList, Node, NodeId};

/// An open file.
pub(super) struct FileHandle {
    /// What the kernel calls the node.
    pub id: NodeId,
    pub node: Arc<Node>,
    /// The upper's file, when the handle is cached and can be written. A passthrough handle needs no
    /// descriptor of ours.
    pub writer: Option<Arc<File>>,
}

/// An open directory.
pub(super) struct DirHandle {
    pub node: Arc<Node>,
    /// What is in it, taken at the first READDIR and again after each rewind, so that the entries'
    /// places stay right while others come and go.
    pub list: Mutex<Option<Arc<DirList>>>,
}

#[derive(Clone)]
enum Handle {
    File(Arc<FileHandle>),
    Dir(Arc<DirHandle>),
}

#[derive(Default)]
pub(super) struct Handles {
    open: RwLock<HashMap<u64, Handle>>,
    next: AtomicU64,
}

impl Handles {
    pub fn add_file(&self, handle: FileHandle) -> u64 {
        self.add(Handle::File(Arc::new(handle)))
    }

    pub fn add_dir(&self, node: Arc<Node>) -> u64 {
        let list = Mutex::new(None);
        self.add(Handle::Dir(Arc::new(DirHandle { node, list })))
    }

    fn add(&self, handle: Handle) -> u64 {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.open.write().insert(number, handle);
        number
    }

    /// # Errors
    /// `EBADF`
    pub fn file(&self, number: u64) -> Result<Arc<FileHandle>> {
        match self.open.read().get(&number) {
            Some(Handle::File(file)) => Ok(Arc::clone(file)),
            _ => Err(Error::new(Errno::EBADF)),
        }
    }

    /// # Errors
    /// `EBADF`
    pub fn dir(&self, number: u64) -> Result<Arc<DirHandle>> {
        match self.open.read().get(&number) {
            Some(Handle::Dir(dir)) => Ok(Arc::clone(dir)),
            _ => Err(Error::new(Errno::EBADF)),
        }
    }

    pub fn remove_file(&self, number: u64) -> Option<Arc<FileHandle>> {
        match self.open.write().remove(&number)? {
            Handle::File(file) => Some(file),
            Handle::Dir(_) => None,
        }
    }

    pub fn remove_dir(&self, number: u64) {
        let gone = self.open.write().remove(&number);
        drop(gone);
    }

    pub fn len(&self) -> usize {
        self.open.read().len()
    }
}
