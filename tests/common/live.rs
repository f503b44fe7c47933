//! A mount that is served by threads of the test itself, so that a test can look at its server.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use stratafs::archive::ingest::{LayerSpec, ingest_layer};
use stratafs::archive::progress::Silent;
use stratafs::error::Failure;
use stratafs::fuse::ServeOptions;
use stratafs::fuse::session::{Access, Serving, Session};
use stratafs::fuse::transport::{Offer, Transport, Wanted};
use stratafs::image::DiffId;
use stratafs::index::Index;
use stratafs::layer::Layer;
use stratafs::layer::dir::{DirForms, DirLayer};
use stratafs::layer::format::MarkSpace;
use stratafs::layer::image::ImageLayer;
use stratafs::store::Store;
use stratafs::union::{Union, UnionOptions, Upper};
use tempfile::TempDir;

/// The transport of the mounts of this run, which `STRATA_TEST_TRANSPORT` (dev, uring) says; else the
/// one that is offered.
pub fn transport() -> Transport {
    let said = std::env::var("STRATA_TEST_TRANSPORT").unwrap_or_default();
    let wanted = match said.as_str() {
        "dev" => Wanted::Dev,
        "uring" => Wanted::Uring,
        _ => Wanted::Auto,
    };
    Offer::here().choose(wanted).unwrap()
}

/// How many nodes that could be made again stay in memory.
pub const NODES_KEPT: usize = 2048;

fn options() -> UnionOptions {
    UnionOptions {
        metacopy: true,
        nodes: Some(NODES_KEPT),
        ..UnionOptions::default()
    }
}

/// A mount; unmounted on drop, also when the test panics.
pub struct Live {
    /// What serves it.
    pub server: Arc<dyn Serving>,
    /// Where it is.
    pub point: PathBuf,
    /// Holds the layers `lower`, `upper` and `work`, and the mount point.
    pub dir: TempDir,
    serving: Option<JoinHandle<Result<(), Failure>>>,
}

impl Live {
    /// One lower directory, which a shell script fills, and an upper.
    pub fn new(script: &str) -> Live {
        Self::on(transport(), script)
    }

    /// The same over this transport.
    pub fn on(transport: Transport, script: &str) -> Live {
        let dir = dirs();
        fill(&dir.path().join("lower"), script);
        let lower = DirLayer::open(&dir.path().join("lower"), DirForms::default()).unwrap();
        Self::over_on(transport, dir, Arc::new(lower))
    }

    /// The same with a lower that the kernel does not keep from being written to: its files are read
    /// by requests.
    pub fn cached(script: &str) -> Live {
        Self::cached_on(transport(), script)
    }

    /// The same over this transport.
    pub fn cached_on(transport: Transport, script: &str) -> Live {
        let dir = dirs();
        fill(&dir.path().join("lower"), script);
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let root = rustix::fs::open(dir.path().join("lower"), flags, Mode::empty()).unwrap();
        let lower = DirLayer::from_fd(root, DirForms::default()).unwrap();
        Self::over_on(transport, dir, Arc::new(lower))
    }

    /// An image of one layer, which a shell script fills, and an upper. The store is `store`.
    pub fn image(script: &str) -> Live {
        let dir = dirs();
        let layer = image_layer(dir.path(), script);
        Self::over(dir, layer)
    }

    /// The same without an upper.
    pub fn read_only_image(script: &str) -> Live {
        let dir = dirs();
        let layer = image_layer(dir.path(), script);
        let union = Union::new(vec![layer], None, options()).unwrap();
        Self::serve(transport(), dir, union)
    }

    /// One lower directory, which a shell script fills, and no upper.
    pub fn read_only(script: &str) -> Live {
        let dir = dirs();
        fill(&dir.path().join("lower"), script);
        let lower = DirLayer::open(&dir.path().join("lower"), DirForms::default()).unwrap();
        let union = Union::new(vec![Arc::new(lower)], None, options()).unwrap();
        Self::serve(transport(), dir, union)
    }

    /// One lower layer and an upper. `dir` is from [`dirs`].
    pub fn over(dir: TempDir, lower: Arc<dyn Layer>) -> Live {
        Self::over_on(transport(), dir, lower)
    }

    /// The same over this transport.
    pub fn over_on(transport: Transport, dir: TempDir, lower: Arc<dyn Layer>) -> Live {
        let (upper, work) = (dir.path().join("upper"), dir.path().join("work"));
        let upper = Upper::open(&upper, &work, MarkSpace::Trusted, true)
            .and_then(|upper| upper.with_link_index(&work))
            .unwrap();
        let union = Union::new(vec![lower], Some(upper), options()).unwrap();
        Self::serve(transport, dir, union)
    }

    /// A union of one's own. `dir` is from [`dirs`].
    pub fn serve(transport: Transport, dir: TempDir, union: Arc<Union>) -> Live {
        Self::serve_as(transport, dir, union, ServeOptions::default())
    }

    /// The same, shown like this.
    pub fn serve_as(
        transport: Transport,
        dir: TempDir,
        union: Arc<Union>,
        options: ServeOptions,
    ) -> Live {
        rustix::process::umask(rustix::fs::Mode::empty());
        let point = dir.path().join("mount");
        let fuse: OwnedFd = File::options()
            .read(true)
            .write(true)
            .open("/dev/fuse")
            .unwrap()
            .into();
        let data = format!(
            "fd={},rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other",
            fuse.as_raw_fd()
        );
        let data = CString::new(data).unwrap();
        let flags = match union.is_read_only() {
            true => MountFlags::RDONLY,
            false => MountFlags::empty(),
        };
        mount("live", &point, "fuse.strata", flags, data.as_c_str()).unwrap();
        watch(point.clone());
        let session = Session::greet(union, fuse, Access::All, options, transport).unwrap();
        assert_eq!(session.transport(), transport);
        let server = session.server();
        let serving = std::thread::spawn(move || session.run());
        Live {
            server,
            point,
            dir,
            serving: Some(serving),
        }
    }

    /// A path in the mount.
    pub fn path(&self, name: &str) -> PathBuf {
        self.point.join(name)
    }

    /// A path in the upper directory.
    pub fn upper(&self, name: &str) -> PathBuf {
        self.dir.path().join("upper").join(name)
    }

    /// Runs a shell script in the mount as an ordinary user; its output.
    pub fn as_user(&self, script: &str) -> super::cli::Said {
        let mut command = std::process::Command::new("setpriv");
        command.args(["--reuid=1000", "--regid=1000", "--clear-groups", "sh", "-c"]);
        super::cli::said(command.arg(script).current_dir(&self.point))
    }

    /// How many requests `f` makes.
    pub fn requests(&self, f: impl FnOnce()) -> u64 {
        let before = self.server.status().requests;
        f();
        self.server.status().requests - before
    }

    /// How many requests of each operation something causes.
    pub fn counted(&self, f: impl FnOnce()) -> BTreeMap<&'static str, u64> {
        let before: BTreeMap<_, _> = self.server.requests().into_iter().collect();
        f();
        let after = self.server.requests().into_iter();
        let new = after.map(|(op, n)| (op, n - before.get(op).unwrap_or(&0)));
        new.filter(|(_, n)| *n > 0).collect()
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        if unmount(&self.point, UnmountFlags::NOFOLLOW).is_err() {
            end(&self.point);
        }
        let served = self.serving.take().map(JoinHandle::join);
        if let (Some(served), false) = (served, std::thread::panicking()) {
            served.unwrap().unwrap();
        }
    }
}

fn fill(dir: &Path, script: &str) {
    let mut fill = std::process::Command::new("sh");
    fill.args(["-ec", script]).current_dir(dir);
    super::cli::said(&mut fill).success();
}

/// A layer of a store in `dir`, with what a shell script puts into `lower`.
pub fn image_layer(dir: &Path, script: &str) -> Arc<ImageLayer> {
    fill(&dir.join("lower"), script);
    let tar = dir.join("layer.tar");
    let mut pack = std::process::Command::new("tar");
    pack.arg("-cSf")
        .arg(&tar)
        .arg("-C")
        .arg(dir.join("lower"))
        .arg(".");
    super::cli::said(&mut pack).success();
    let store = Store::open(&dir.join("store")).unwrap();
    let mut tar = File::open(tar).unwrap();
    let info = ingest_layer(&store, &mut tar, &LayerSpec::default(), &Silent).unwrap();
    stored_layer(&store, &info.diff_id)
}

/// A layer that is in a store.
pub fn stored_layer(store: &Store, layer: &DiffId) -> Arc<ImageLayer> {
    let index = Index::open(&store.layer_index_path(layer)).unwrap();
    let objects = Arc::new(store.objects().unwrap());
    Arc::new(ImageLayer::new(index, Arc::new(store.clone())).with_objects(objects))
}

/// Ends a mount whatever is under way: requests without an answer get ENOTCONN.
fn end(point: &Path) {
    unmount(point, UnmountFlags::FORCE | UnmountFlags::DETACH).ok();
}

/// A test that hangs on a mount that its own process serves can't be killed. So it is ended.
fn watch(point: PathBuf) {
    std::thread::spawn(move || {
        std::thread::sleep(PATIENCE);
        if super::cli::is_mounted(&point) {
            super::cli::announce(&point.display().to_string(), "it hangs; the mount is ended");
            end(&point);
        }
    });
}

/// No test takes longer.
const PATIENCE: Duration = Duration::from_secs(120);

/// A temporary directory with `lower`, `upper`, `work` and `mount` in it.
pub fn dirs() -> TempDir {
    let dir = TempDir::with_prefix("strata-live-").unwrap();
    for name in ["lower", "upper", "work", "mount"] {
        std::fs::create_dir(dir.path().join(name)).unwrap();
    }
    chmod(dir.path(), 0o755);
    dir
}

/// chmod(2)
pub fn chmod(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// Opens a file that is there for reading and writing.
pub fn read_write(path: &Path) -> File {
    let mut options = File::options();
    options.read(true).write(true).open(path).unwrap()
}

/// Waits until something has come about, a minute at most.
///
/// # Panics
/// When it has not.
#[track_caller]
pub fn wait_until(done: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < until, "waited in vain");
        std::thread::sleep(Duration::from_millis(5));
    }
}
