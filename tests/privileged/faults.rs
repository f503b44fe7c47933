//! Full disks and errors below: they come up as themselves, nothing half copied-up stays, and the
//! mount goes on working.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::common::cli::{self, can_mount, is_mounted};
use crate::common::daemon::Daemon;
use crate::common::tree;

/// A small ext4 in a file, for the upper; unmounted on drop.
struct Disk {
    point: PathBuf,
}

impl Disk {
    fn new(dir: &Path, mkfs: &[&str], size: u64) -> Disk {
        let (image, point) = (dir.join("disk.img"), dir.join("disk"));
        File::create(&image).unwrap().set_len(size).unwrap();
        let mut words = vec!["-q", "-m", "0"];
        words.extend(mkfs);
        words.push(image.to_str().unwrap());
        cli::run("mkfs.ext4", &words).success();
        fs::create_dir(&point).unwrap();
        let paths = [image.as_os_str(), point.as_os_str()];
        cli::run(
            "mount",
            &["-o".as_ref(), "loop".as_ref(), paths[0], paths[1]],
        )
        .success();
        for name in ["upper", "work"] {
            fs::create_dir(point.join(name)).unwrap();
        }
        Disk { point }
    }

    fn remount(&self, how: &str) {
        let point = self.point.to_str().unwrap();
        let until = Instant::now() + Duration::from_secs(60);
        // What was released a moment ago may still be in use.
        while !cli::run("mount", &["-o", how, point]).ok {
            assert!(Instant::now() < until, "{how}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if is_mounted(&self.point) {
            cli::run("umount", &["-l".as_ref(), self.point.as_os_str()]);
        }
    }
}

/// A mount whose upper is on a small disk. (Fields are dropped in this order.)
struct Bench {
    daemon: Daemon,
    disk: Disk,
    dir: TempDir,
}

impl Bench {
    fn new(mkfs: &[&str], size: u64, lower: impl FnOnce(&Path)) -> Bench {
        let dir = TempDir::with_prefix("strata-faults-").unwrap();
        fs::create_dir(dir.path().join("lower")).unwrap();
        fs::create_dir(dir.path().join("mount")).unwrap();
        lower(&dir.path().join("lower"));
        let disk = Disk::new(dir.path(), mkfs, size);
        let daemon = Daemon::start(&Self::options(dir.path()), &dir.path().join("mount"));
        Bench { daemon, disk, dir }
    }

    fn options(dir: &Path) -> String {
        let dir = dir.display();
        format!(
            "metacopy=on,redirect_dir=on,lowerdir={dir}/lower,upperdir={dir}/disk/upper,workdir={dir}/disk/work"
        )
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("mount").join(name)
    }

    fn upper(&self, name: &str) -> PathBuf {
        self.disk.point.join("upper").join(name)
    }

    fn assert_nothing_in_work(&self) {
        assert_empty(&self.disk.point.join("work/work"));
    }

    /// What is shown is also what a new mount shows.
    fn assert_same_after_remount(self) {
        let point = self.path("");
        let before = tree::list(&point);
        self.daemon.unmount();
        let daemon = Daemon::start(
            &Self::options(self.dir.path()),
            &self.dir.path().join("mount"),
        );
        tree::assert_same(("before", &before), ("remounted", &tree::list(&point)));
        daemon.unmount();
    }
}

/// Whiteouts are links to one device, which stays in `work`.
fn assert_empty(work: &Path) {
    let left: Vec<_> = fs::read_dir(work)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .filter(|name| name != "whiteout")
        .collect();
    assert!(left.is_empty(), "in work: {left:?}");
}

fn errno<T>(result: io::Result<T>) -> Option<i32> {
    result.err().and_then(|e| e.raw_os_error())
}

fn open_to_write(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(path)
}

/// What has just been removed gives its room back when the kernel has told that it forgot it.
fn with_room<T>(mut open: impl FnMut() -> io::Result<T>) -> T {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        match open() {
            Err(e) if e.raw_os_error() == Some(libc::ENOSPC) && Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(10));
            }
            opened => return opened.unwrap(),
        }
    }
}

const MIB: usize = 1 << 20;

#[test]
fn a_full_disk_is_told_and_nothing_half_done_stays() {
    if !can_mount("faults::a_full_disk_is_told_and_nothing_half_done_stays") {
        return;
    }
    let data = |n: u8| vec![n + 1; 3 * MIB];
    let bench = Bench::new(&[], 16 << 20, |lower| {
        for n in 0..8 {
            fs::write(lower.join(n.to_string()), data(n)).unwrap();
        }
    });
    let file = |n: u8| bench.path(&n.to_string());
    // A copy without data has room, its data will not.
    fs::set_permissions(file(7), fs::Permissions::from_mode(0o600)).unwrap();
    let mut copied = 0;
    let failed = loop {
        match open_to_write(&file(copied)) {
            Ok(writer) => writer.write_all_at(b"new", 0).unwrap(),
            Err(e) => break e,
        }
        copied += 1;
    };
    assert_eq!(failed.raw_os_error(), Some(libc::ENOSPC));
    assert!((1..7).contains(&copied), "{copied}");
    assert!(bench.upper(&copied.to_string()).symlink_metadata().is_err());
    let before = fs::metadata(file(7)).unwrap();
    assert_eq!(errno(open_to_write(&file(7))), Some(libc::ENOSPC));
    let after = fs::metadata(file(7)).unwrap();
    let shown = |meta: &fs::Metadata| (meta.len(), meta.mode(), meta.mtime(), meta.mtime_nsec());
    assert_eq!(shown(&after), shown(&before));
    for n in copied..8 {
        assert!(fs::read(file(n)).unwrap() == data(n), "{n} reads as before");
    }
    // A new file takes what there is, and then the error comes.
    let mut filler = File::create(bench.path("filler")).unwrap();
    let full = loop {
        if let Err(e) = filler.write_all(&[1; 64 << 10]) {
            break e;
        }
    };
    assert_eq!(full.raw_os_error(), Some(libc::ENOSPC));
    drop(filler);
    assert_eq!(errno(open_to_write(&file(copied))), Some(libc::ENOSPC));
    assert_eq!(fs::read(file(0)).unwrap()[..4], [b'n', b'e', b'w', 1]);
    bench.assert_nothing_in_work();
    // With room again, all goes on.
    fs::remove_file(bench.path("filler")).unwrap();
    fs::remove_file(file(0)).unwrap();
    assert!(!file(0).exists());
    for n in [copied, 7] {
        with_room(|| open_to_write(&file(n)))
            .write_all_at(b"new", 0)
            .unwrap();
        let mut expected = data(n);
        expected[..3].copy_from_slice(b"new");
        assert!(fs::read(file(n)).unwrap() == expected, "{n}");
        if n == copied {
            fs::remove_file(file(1)).unwrap();
        }
    }
    bench.assert_nothing_in_work();
    bench.assert_same_after_remount();
}

#[test]
fn no_inodes_left_is_told() {
    if !can_mount("faults::no_inodes_left_is_told") {
        return;
    }
    let bench = Bench::new(&["-N", "64"], 16 << 20, |lower| {
        fs::write(lower.join("file"), b"lower").unwrap();
        fs::create_dir(lower.join("dir")).unwrap();
        fs::write(lower.join("dir/file"), b"lower").unwrap();
    });
    let made = (0..100)
        .map(|n| fs::write(bench.path(&n.to_string()), b""))
        .take_while(io::Result::is_ok)
        .count();
    assert!((10..64).contains(&made), "{made}");
    let full = Some(libc::ENOSPC);
    assert_eq!(errno(fs::write(bench.path("new"), b"")), full);
    assert_eq!(errno(fs::create_dir(bench.path("new"))), full);
    assert_eq!(
        errno(std::os::unix::fs::symlink("x", bench.path("new"))),
        full
    );
    assert_eq!(errno(open_to_write(&bench.path("file"))), full);
    assert_eq!(errno(open_to_write(&bench.path("dir/file"))), full);
    assert_eq!(
        errno(fs::rename(bench.path("dir"), bench.path("moved"))),
        full
    );
    assert_eq!(fs::read(bench.path("dir/file")).unwrap(), b"lower");
    bench.assert_nothing_in_work();
    for n in 0..4 {
        fs::remove_file(bench.path(&n.to_string())).unwrap();
    }
    with_room(|| fs::rename(bench.path("dir"), bench.path("moved")));
    with_room(|| fs::write(bench.path("moved/file"), b"new"));
    bench.assert_nothing_in_work();
    bench.assert_same_after_remount();
}

#[test]
fn an_upper_that_turns_read_only_is_told_and_comes_back() {
    if !can_mount("faults::an_upper_that_turns_read_only_is_told_and_comes_back") {
        return;
    }
    let bench = Bench::new(&[], 16 << 20, |lower| {
        fs::write(lower.join("lower"), b"lower").unwrap();
    });
    fs::write(bench.path("upper"), b"upper").unwrap();
    bench.disk.remount("remount,ro");
    let read_only = Some(libc::EROFS);
    for name in ["lower", "upper"] {
        let path = bench.path(name);
        assert_eq!(errno(open_to_write(&path)), read_only, "{name}");
        let mode = fs::Permissions::from_mode(0o600);
        assert_eq!(errno(fs::set_permissions(&path, mode)), read_only, "{name}");
        assert_eq!(errno(fs::remove_file(&path)), read_only, "{name}");
        assert_eq!(
            errno(fs::rename(&path, bench.path("n"))),
            read_only,
            "{name}"
        );
        assert_eq!(fs::read(&path).unwrap(), name.as_bytes());
    }
    assert_eq!(errno(fs::create_dir(bench.path("new"))), read_only);
    bench.disk.remount("remount,rw");
    for name in ["lower", "upper"] {
        fs::write(bench.path(name), b"written").unwrap();
        fs::rename(bench.path(name), bench.path("moved")).unwrap();
    }
    bench.assert_nothing_in_work();
    bench.assert_same_after_remount();
}

/// A lower on a disk that loses its end: what can't be read is EIO, and is not copied up.
#[test]
fn a_lower_that_cannot_be_read_is_an_io_error() {
    if !can_mount("faults::a_lower_that_cannot_be_read_is_an_io_error") {
        return;
    }
    let dir = TempDir::with_prefix("strata-faults-").unwrap();
    for name in ["upper", "work", "mount"] {
        fs::create_dir(dir.path().join(name)).unwrap();
    }
    let disk = Disk::new(dir.path(), &[], 32 << 20);
    fs::write(disk.point.join("small"), b"small").unwrap();
    fs::write(disk.point.join("big"), vec![7; 20 * MIB]).unwrap();
    disk.remount("remount,ro");
    let image = OpenOptions::new()
        .write(true)
        .open(dir.path().join("disk.img"))
        .unwrap();
    image.set_len(12 << 20).unwrap();
    let at = dir.path().display();
    let options = format!("lowerdir={at}/disk,upperdir={at}/upper,workdir={at}/work");
    let daemon = Daemon::start(&options, &dir.path().join("mount"));
    // What the kernel has of the file in memory would be read in spite of all.
    let file = File::open(disk.point.join("big")).unwrap();
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    let big = dir.path().join("mount/big");
    assert_eq!(errno(fs::read(&big)), Some(libc::EIO));
    assert_eq!(errno(open_to_write(&big)), Some(libc::EIO));
    assert!(dir.path().join("upper/big").symlink_metadata().is_err());
    assert_empty(&dir.path().join("work/work"));
    fs::write(dir.path().join("mount/small"), b"new").unwrap();
    fs::write(&big, b"cut").unwrap();
    assert_eq!(fs::read(&big).unwrap(), b"cut");
    daemon.unmount();
}
