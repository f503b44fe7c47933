//! A file of a lower that is open, passed through, and then changed: who writes gets a new number for
//! it. What can be seen of that, besides what `passthrough` shows (DESIGN 5.4's named differences).

use std::fs::{self, File, OpenOptions};
use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use rustix::fs::FlockOperation;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, unmount};

use crate::common::cli::can_mount;
use crate::common::live::Live;

/// Long enough to be passed through.
const FILE: &str = "head -c 50000 /dev/zero >f";

fn change(path: &Path) {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(b"new", 0).unwrap();
}

fn first(file: &File) -> [u8; 3] {
    let mut bytes = [9; 3];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

fn errno(opened: std::io::Result<File>) -> Option<i32> {
    opened.err().and_then(|e| e.raw_os_error())
}

/// A mount at a place, detached on drop.
struct Mounted<'p>(&'p Path);

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        unmount(self.0, UnmountFlags::DETACH).unwrap();
    }
}

#[test]
fn a_lock_of_before_does_not_hold_for_the_changed_file() {
    if !can_mount("switch::a_lock_of_before_does_not_hold_for_the_changed_file") {
        return;
    }
    let live = Live::new(FILE);
    let lock = |file: &File| rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive);
    let old = File::open(live.path("f")).unwrap();
    lock(&old).unwrap();
    let new = OpenOptions::new().write(true).open(live.path("f")).unwrap();
    lock(&new).unwrap();
    // Of the new number there is one lock again.
    let other = File::open(live.path("f")).unwrap();
    assert_eq!(lock(&other), Err(rustix::io::Errno::WOULDBLOCK));
    drop((new, old));
    lock(&other).unwrap();
}

#[test]
fn a_watch_on_the_directory_sees_the_change_one_on_the_file_does_not() {
    let test = "switch::a_watch_on_the_directory_sees_the_change_one_on_the_file_does_not";
    if !can_mount(test) {
        return;
    }
    let live = Live::new(FILE);
    let old = File::open(live.path("f")).unwrap();
    let watch = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).unwrap();
    let on = |path: &Path| inotify::add_watch(&watch, path, WatchFlags::MODIFY).unwrap();
    let (file, dir) = (on(&live.path("f")), on(&live.point));
    change(&live.path("f"));
    let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
    let mut events = inotify::Reader::new(watch.as_fd(), &mut buffer);
    let mut seen = Vec::new();
    while let Ok(event) = events.next() {
        if event.events().contains(ReadFlags::MODIFY) {
            seen.push(event.wd());
        }
    }
    assert!(seen.contains(&dir) && !seen.contains(&file), "{seen:?}");
    drop(old);
}

#[test]
fn a_bind_mount_of_the_file_waits_for_the_old_descriptor() {
    if !can_mount("switch::a_bind_mount_of_the_file_waits_for_the_old_descriptor") {
        return;
    }
    let live = Live::new(FILE);
    let bound = live.dir.path().join("bound");
    fs::write(&bound, b"").unwrap();
    mount_bind(live.path("f"), &bound).unwrap();
    let mounted = Mounted(&bound);
    let old = File::open(&bound).unwrap();
    change(&live.path("f"));
    assert_eq!(errno(File::open(&bound)), Some(libc::ESTALE));
    assert_eq!(
        (first(&old), first(&File::open(live.path("f")).unwrap())),
        ([0; 3], *b"new")
    );
    drop(old);
    // RELEASE comes a moment after close(2).
    let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
    let again = loop {
        match File::open(&bound) {
            Err(e)
                if e.raw_os_error() == Some(libc::ESTALE) && std::time::Instant::now() < until =>
            {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            opened => break opened.unwrap(),
        }
    };
    assert_eq!(first(&again), *b"new");
    OpenOptions::new()
        .write(true)
        .open(&bound)
        .unwrap()
        .write_all_at(b"NEW", 0)
        .unwrap();
    assert_eq!(first(&File::open(live.path("f")).unwrap()), *b"NEW");
    drop(again);
    drop(mounted);
}

/// overlayfs forbids that its lower is changed beside it; what it says of a file that was open, and
/// only of that.
#[test]
fn an_overlay_on_top_calls_the_changed_file_stale() {
    if !can_mount("switch::an_overlay_on_top_calls_the_changed_file_stale") {
        return;
    }
    let live = Live::new("head -c 50000 /dev/zero >f; cp f g");
    let at = |name: &str| live.dir.path().join(name);
    for name in ["top", "top-upper", "top-work"] {
        fs::create_dir(at(name)).unwrap();
    }
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        live.point.display(),
        at("top-upper").display(),
        at("top-work").display()
    );
    let top = at("top");
    let over = || {
        let options = std::ffi::CString::new(options.clone()).unwrap();
        mount(
            "overlay",
            &top,
            "overlay",
            MountFlags::empty(),
            options.as_c_str(),
        )
        .unwrap();
        Mounted(&top)
    };
    let mounted = over();
    let mut old = File::open(top.join("f")).unwrap();
    change(&live.path("f"));
    assert_eq!(errno(File::open(top.join("f"))), Some(libc::ESTALE));
    let mut text = Vec::new();
    old.read_to_end(&mut text).unwrap();
    assert!(text == [0; 50_000], "the descriptor reads on");
    change(&top.join("g"));
    drop((old, mounted));
    let mounted = over();
    assert_eq!(first(&File::open(top.join("f")).unwrap()), *b"new");
    assert_eq!(first(&File::open(top.join("g")).unwrap()), *b"new");
    drop(mounted);
}
