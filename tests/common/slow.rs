//! A layer whose files are not at hand: reading waits until it is allowed.

use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use stratafs::content::ReadAt;
use stratafs::error::Result;
use stratafs::layer::dir::{DirForms, DirLayer};
use stratafs::layer::{Contents, DirItem, Entry, Layer, LayerNode, NodeEntry};
use stratafs::name::Name;
use stratafs::stat::Stat;

/// A directory layer behind a [`Door`].
pub struct Slow {
    inner: DirLayer,
    door: Arc<Door>,
}

/// What readers wait for.
#[derive(Default)]
pub struct Door {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    open: bool,
    waiting: usize,
}

impl Slow {
    /// A directory layer behind a door that is shut.
    pub fn open(dir: &Path) -> (Slow, Arc<Door>) {
        let door = Arc::new(Door::default());
        let inner = DirLayer::open(dir, DirForms::default()).unwrap();
        let slow = Slow {
            inner,
            door: Arc::clone(&door),
        };
        (slow, door)
    }
}

impl Door {
    /// Lets everybody through, from now on.
    pub fn open(&self) {
        self.state.lock().unwrap().open = true;
        self.changed.notify_all();
    }

    /// Waits until so many readers wait, or have waited.
    pub fn wait_for(&self, readers: usize) {
        let state = self.state.lock().unwrap();
        let few = |state: &mut State| state.waiting < readers;
        let patience = Duration::from_secs(60);
        let waited = self.changed.wait_timeout_while(state, patience, few);
        assert!(!waited.unwrap().1.timed_out(), "nobody reads");
    }

    /// Counts from none again.
    pub fn forget(&self) {
        self.state.lock().unwrap().waiting = 0;
    }
}

struct SlowFile(Arc<File>, Arc<Door>);

impl ReadAt for SlowFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
        let mut state = self.1.state.lock().unwrap();
        state.waiting += 1;
        self.1.changed.notify_all();
        while !state.open {
            state = self.1.changed.wait(state).unwrap();
        }
        drop(state);
        ReadAt::read_at(&*self.0, buf, offset)
    }

    fn len(&self) -> u64 {
        ReadAt::len(&*self.0)
    }
}

impl Layer for Slow {
    fn root(&self) -> Result<NodeEntry> {
        self.inner.root()
    }
    fn lookup(&self, dir: LayerNode, name: &Name) -> Result<Option<Entry>> {
        self.inner.lookup(dir, name)
    }
    fn read_dir(
        &self,
        dir: LayerNode,
        each: &mut dyn FnMut(DirItem<'_>) -> Result<()>,
    ) -> Result<()> {
        self.inner.read_dir(dir, each)
    }
    fn stat(&self, node: LayerNode) -> Result<Stat> {
        self.inner.stat(node)
    }
    fn read_link(&self, node: LayerNode) -> Result<Box<[u8]>> {
        self.inner.read_link(node)
    }
    fn xattr(&self, node: LayerNode, name: &[u8]) -> Result<Option<Box<[u8]>>> {
        self.inner.xattr(node, name)
    }
    fn xattr_names(&self, node: LayerNode) -> Result<Vec<Box<[u8]>>> {
        self.inner.xattr_names(node)
    }
    fn open(&self, node: LayerNode) -> Result<Contents> {
        match self.inner.open(node)? {
            Contents::File(file) => {
                let slow = SlowFile(file, Arc::clone(&self.door));
                Ok(Contents::Stored(Arc::new(slow)))
            }
            other => Ok(other),
        }
    }
    fn retain(&self, node: LayerNode) {
        self.inner.retain(node);
    }
    fn forget(&self, node: LayerNode) {
        self.inner.forget(node);
    }
    fn host_dev(&self) -> Option<u64> {
        self.inner.host_dev()
    }
}
