//! What the kernel is told, and what it does with it: lifetimes, passthrough, jobs, the gate.

use std::ffi::CString;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::common::cli::can_mount;
use crate::common::live::{Live, chmod, dirs, read_write, wait_until};
use crate::common::slow::Slow;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn what_is_known_is_not_asked_again() {
    let live = live!(
        "fuse::what_is_known_is_not_asked_again",
        "mkdir d; for i in 1 2 3 4 5; do echo $i > d/$i; done; ln -s target l"
    );
    let names = || fs::read_dir(live.path("d")).unwrap().count();
    let look = || {
        assert_eq!(names(), 5);
        for i in 1..6 {
            assert_eq!(fs::metadata(live.path(&format!("d/{i}"))).unwrap().len(), 2);
        }
        assert!(!live.path("d/none").exists());
        assert_eq!(fs::read_link(live.path("l")).unwrap(), Path::new("target"));
    };
    // Twice: reading a directory makes the kernel ask for its access time again.
    look();
    look();
    assert_eq!(live.requests(look), 0);
    fs::write(live.path("d/6"), b"").unwrap();
    assert_eq!(names(), 6, "a new name is seen");
    fs::write(live.path("d/none"), b"").unwrap();
    assert!(live.path("d/none").exists());
    fs::remove_file(live.path("d/1")).unwrap();
    assert!(!live.path("d/1").exists());
    assert_eq!(names(), 6);
    let stat = || assert!(fs::metadata(live.path("d/6")).is_ok());
    stat();
    assert_eq!(live.requests(stat), 0);
}

#[test]
fn writing_by_an_ordinary_user_clears_setuid() {
    let live = live!(
        "fuse::writing_by_an_ordinary_user_clears_setuid",
        "for f in append trunc cut; do echo x > $f; chmod 4777 $f; done"
    );
    for how in ["echo y >> append", "echo y > trunc", "truncate -s 1 cut"] {
        live.as_user(how).success();
    }
    for f in ["append", "trunc", "cut"] {
        assert_eq!(mode(&live.path(f)), 0o777, "{f}");
    }
    // Of the upper from the start, and one that became setuid after it was opened.
    for f in ["new", "late", "cached"] {
        fs::write(live.path(f), b"x").unwrap();
        chmod(&live.path(f), 0o6777);
    }
    live.as_user("echo y >> new").success();
    assert_eq!(mode(&live.path("new")), 0o777);
    chmod(&live.path("late"), 0o777);
    let script = "exec 3>>late; touch opened; while [ ! -u late ]; do sleep .01; done; echo y >&3";
    chmod(&live.point, 0o777);
    std::thread::scope(|scope| {
        let said = scope.spawn(|| live.as_user(script));
        wait_until(|| live.path("opened").exists());
        chmod(&live.path("late"), 0o4777);
        said.join().unwrap().success();
    });
    assert_eq!(mode(&live.path("late")), 0o777);
    // Root's writing clears nothing; chown clears for everybody.
    chmod(&live.path("cached"), 0o4755);
    fs::write(live.path("cached"), b"more").unwrap();
    assert_eq!(mode(&live.path("cached")), 0o4755);
    std::os::unix::fs::chown(live.path("cached"), Some(7), None).unwrap();
    assert_eq!(mode(&live.path("cached")), 0o755);
}

#[test]
fn a_cached_write_by_an_ordinary_user_clears_setuid() {
    let live = cached!(
        "fuse::a_cached_write_by_an_ordinary_user_clears_setuid",
        "echo x > f; chmod 4777 f"
    );
    let reader = File::open(live.path("f")).unwrap();
    live.as_user("echo y >> f").success();
    assert_eq!(mode(&live.path("f")), 0o777);
    drop(reader);
}

#[test]
fn umask_and_owner_of_new_files() {
    let live = live!(
        "fuse::umask_and_owner_of_new_files",
        "mkdir sg; chmod 2777 sg; chgrp 77 sg"
    );
    chmod(&live.point, 0o777);
    live.as_user("umask 027; echo > f; mkdir d; echo > sg/f; mkdir sg/d; mkfifo p; ln -s x l")
        .success();
    for (name, expected, gid) in [
        ("f", 0o640, 1000),
        ("d", 0o750, 1000),
        ("sg/f", 0o640, 77),
        ("sg/d", 0o2750, 77),
        ("p", 0o640, 1000),
    ] {
        let meta = fs::metadata(live.path(name)).unwrap();
        assert_eq!(mode(&live.path(name)), expected, "{name}");
        assert_eq!((meta.uid(), meta.gid()), (1000, gid), "{name}");
    }
    live.as_user("cat /etc/shadow > f && exit 1; echo > d/x; rm f")
        .success();
    let said = live.as_user("cd /; chown 0 l 2>&1");
    assert!(!said.ok);
}

#[test]
fn times_of_all_ages() {
    let live = live!("fuse::times_of_all_ages", "touch old");
    for (sec, nsec) in [
        (-1, 0),
        (-2, 800_000_000),
        (-2_000_000_000, 1),
        (0, 999_999_999),
        (4_000_000_000, 5),
        (13_000_000_000, 123_456_789),
    ] {
        let time = Timespec {
            tv_sec: sec,
            tv_nsec: nsec,
        };
        let times = Timestamps {
            last_access: time,
            last_modification: time,
        };
        for name in ["old", "new"] {
            fs::write(live.path("new"), b"").unwrap();
            rustix::fs::utimensat(CWD, live.path(name), &times, AtFlags::empty()).unwrap();
            let there = fs::metadata(live.path(name)).unwrap();
            let below = fs::metadata(live.upper(name)).unwrap();
            assert_eq!(
                (there.mtime(), there.mtime_nsec()),
                (below.mtime(), below.mtime_nsec())
            );
            assert_eq!((there.mtime(), there.mtime_nsec()), (sec, nsec), "{name}");
            assert_eq!((there.atime(), there.atime_nsec()), (sec, nsec), "{name}");
        }
    }
}

#[test]
fn held_changes_wait_while_everything_can_be_read() {
    let live = cached!(
        "fuse::held_changes_wait_while_everything_can_be_read",
        "mkdir d quiet; echo lower > d/f; mkdir d/gone; echo x > quiet/f"
    );
    let _cached = File::open(live.path("d/f")).unwrap();
    let writer = read_write(&live.path("d/f"));
    live.server.hold().unwrap();
    let path = |name: &str| live.path(name);
    // More changes than there are serving threads.
    let changes: [Box<dyn FnOnce() + Send>; 5] = [
        Box::new(|| writer.write_all_at(b"LOWER", 0).unwrap()),
        Box::new(|| fs::write(path("d/new"), b"new").unwrap()),
        Box::new(|| fs::create_dir(path("d/dir")).unwrap()),
        Box::new(|| fs::remove_dir(path("d/gone")).unwrap()),
        Box::new(|| chmod(&path("d/f"), 0o600)),
    ];
    std::thread::scope(|scope| {
        let changes = changes.map(|change| scope.spawn(change));
        std::thread::sleep(Duration::from_millis(300));
        let waiting = changes.iter().filter(|c| !c.is_finished()).count();
        // Elsewhere: the kernel has locked the directory, and the pages, in which a change waits.
        let read = fs::read_to_string(path("quiet/f")).unwrap();
        let names = fs::read_dir(path("quiet")).unwrap().count();
        let (held, made) = (live.server.status().held, live.upper("d/new").exists());
        live.server.release();
        assert_eq!(waiting, 5);
        assert_eq!((read.as_str(), names), ("x\n", 1));
        assert!(held && !made);
        changes
            .into_iter()
            .for_each(|change| change.join().unwrap());
    });
    assert_eq!(fs::read(path("d/new")).unwrap(), b"new");
    assert_eq!(fs::read(path("d/f")).unwrap(), b"LOWER\n");
    assert_eq!(mode(&path("d/f")), 0o600);
    assert!(!path("d/gone").exists() && path("d/dir").exists());
}

#[test]
fn slow_reads_stop_nothing_else() {
    if !can_mount("fuse::slow_reads_stop_nothing_else") {
        return;
    }
    let dir = dirs();
    for i in 0..64 {
        fs::write(dir.path().join(format!("lower/{i}")), format!("file {i}")).unwrap();
    }
    fs::create_dir_all(dir.path().join("lower/elsewhere/deep")).unwrap();
    let (layer, door) = Slow::open(&dir.path().join("lower"));
    let live = Live::over(dir, Arc::new(layer));
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..64)
            .map(|i| {
                let path = live.path(&i.to_string());
                scope.spawn(move || fs::read_to_string(path).unwrap())
            })
            .collect();
        // As many as there are threads for jobs are waiting, and all the others behind them.
        door.wait_for(8);
        let (done, finished) = channel();
        let path = live.path("elsewhere");
        let new = live.path("elsewhere/new");
        scope.spawn(move || {
            let names = fs::read_dir(&path).unwrap().count();
            fs::write(&new, b"upper").unwrap();
            let read = fs::read(&new).unwrap();
            done.send((names, read)).unwrap();
        });
        let answer = finished.recv_timeout(Duration::from_secs(20));
        door.open();
        assert_eq!(answer.unwrap(), (1, b"upper".to_vec()));
        for (i, reader) in readers.into_iter().enumerate() {
            assert_eq!(reader.join().unwrap(), format!("file {i}"));
        }
    });
}

#[test]
fn handles_are_found_again_by_number() {
    let live = live!(
        "fuse::handles_are_found_again_by_number",
        "mkdir -p a/b; echo x > a/b/f"
    );
    let mount = File::open(&live.point).unwrap();
    let file = File::open(live.path("a/b/f")).unwrap();
    let handle = stratafs::sys::handle::of(&file).unwrap();
    let again = stratafs::sys::handle::open(&mount, &handle).unwrap();
    let (a, b) = (
        rustix::fs::fstat(&file).unwrap(),
        rustix::fs::fstat(&again).unwrap(),
    );
    assert_eq!((a.st_ino, a.st_dev), (b.st_ino, b.st_dev));
}

#[test]
fn an_overlay_can_be_mounted_on_top() {
    let live = live!(
        "fuse::an_overlay_can_be_mounted_on_top",
        "echo lower > f; mkdir d"
    );
    fs::write(live.path("upper"), b"upper").unwrap();
    let dir = dirs();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let data = format!(
        "lowerdir={},upperdir={},workdir={}",
        live.point.display(),
        at("upper"),
        at("work")
    );
    let data = CString::new(data).unwrap();
    let point = dir.path().join("mount");
    let flags = MountFlags::empty();
    mount("overlay", &point, "overlay", flags, data.as_c_str()).unwrap();
    let work = || {
        assert_eq!(fs::read(point.join("upper")).unwrap(), b"upper");
        fs::write(point.join("f"), b"changed").unwrap();
        fs::remove_dir(point.join("d")).unwrap();
        assert_eq!(fs::read(point.join("f")).unwrap(), b"changed");
    };
    let worked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
    unmount(&point, UnmountFlags::DETACH).unwrap();
    worked.unwrap();
    assert_eq!(fs::read(live.path("f")).unwrap(), b"lower\n");
}

#[test]
fn a_listing_stays_right_while_entries_come_and_go() {
    let live = live!(
        "fuse::a_listing_stays_right_while_entries_come_and_go",
        "mkdir d; i=0; while [ $i -lt 2000 ]; do : > d/a-long-name-to-fill-buffers-$i; i=$((i+1)); done"
    );
    let mut names = std::collections::BTreeSet::new();
    let mut dir = rustix::fs::Dir::read_from(File::open(live.path("d")).unwrap()).unwrap();
    let mut count = 0;
    while let Some(entry) = dir.read() {
        let entry = entry.unwrap();
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') {
            continue;
        }
        assert!(names.insert(name.clone()), "{name} twice");
        count += 1;
        if count % 2 == 0 {
            fs::remove_file(live.path("d").join(&name)).unwrap();
        }
    }
    assert_eq!(names.len(), 2000);
    dir.rewind();
    let left = dir.filter(|e| {
        e.as_ref()
            .is_ok_and(|e| e.file_name().to_bytes()[0] != b'.')
    });
    assert_eq!(left.count(), 1000);
    assert_eq!(fs::read_dir(live.path("d")).unwrap().count(), 1000);
    // As rm -r does it.
    fs::remove_dir_all(live.path("d")).unwrap();
    assert!(!live.path("d").exists());
}

#[test]
fn unlinked_files_stay_usable() {
    let live = live!("fuse::unlinked_files_stay_usable", "echo lower > lower");
    fs::write(live.path("upper"), b"upper").unwrap();
    for name in ["lower", "upper"] {
        let file = read_write(&live.path(name));
        let reader = File::open(live.path(name)).unwrap();
        fs::remove_file(live.path(name)).unwrap();
        assert_eq!(file.metadata().unwrap().nlink(), 0, "{name}");
        file.write_all_at(b"XY", 0).unwrap();
        let mut text = [0; 3];
        reader.read_exact_at(&mut text, 0).unwrap();
        assert_eq!(&text[..2], b"XY");
        rustix::fs::fchmod(&file, rustix::fs::Mode::from_raw_mode(0o604)).unwrap();
        rustix::fs::ftruncate(&file, 2).unwrap();
        let meta = reader.metadata().unwrap();
        assert_eq!((meta.len(), meta.mode() & 0o777), (2, 0o604), "{name}");
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(99);
        file.set_modified(time).unwrap();
        assert_eq!(reader.metadata().unwrap().modified().unwrap(), time);
        file.sync_all().unwrap();
        fs::write(live.path(name), b"another").unwrap();
        assert_ne!(
            fs::metadata(live.path(name)).unwrap().ino(),
            file.metadata().unwrap().ino()
        );
        assert_eq!(reader.metadata().unwrap().len(), 2);
    }
}

#[test]
fn names_that_are_too_long_are_told_so() {
    let live = live!("fuse::names_that_are_too_long_are_told_so", "");
    let long = "x".repeat(256);
    let error = fs::metadata(live.path(&long)).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENAMETOOLONG));
    let error = fs::write(live.path(&long), b"").unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENAMETOOLONG));
    fs::write(live.path(&"y".repeat(255)), b"").unwrap();
}
