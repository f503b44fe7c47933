//! Directories and files that are read before somebody comes to them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::{DirEntryExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::common::cli::can_mount;
use crate::common::live::Live;

/// Forty directories with four in each, and files in all of them, one of which has a name elsewhere.
const FILL: &str = "for i in $(seq 40); do mkdir $i; echo $i >$i/gone; echo $i >$i/mode
    echo $i >$i/grown; echo $i >$i/moved; echo $i >$i/linked; ln $i/linked link$i
    for j in 1 2 3 4; do mkdir $i/$j; echo $j >$i/$j/f; done; done";

/// Names and what readdir(3) and stat(2) tell of them.
fn listed(dir: &Path) -> BTreeSet<(String, u64, u32, u64)> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| {
        let entry = entry.unwrap();
        let stat = fs::symlink_metadata(entry.path()).unwrap();
        assert_eq!(entry.ino(), stat.ino());
        let name = entry.file_name().into_string().unwrap();
        let len = if stat.is_dir() { 0 } else { stat.len() };
        (name, stat.ino(), stat.mode(), len)
    });
    entries.collect()
}

/// Directories in the order in which a walker comes to them.
fn subdirs(dir: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(Result::unwrap);
    let dirs = entries.filter(|entry| entry.file_type().unwrap().is_dir());
    dirs.map(|entry| entry.path()).collect()
}

#[test]
fn what_changes_before_a_walker_comes_is_seen() {
    if !can_mount("ahead::what_changes_before_a_walker_comes_is_seen") {
        return;
    }
    let live = Live::new(FILL);
    let dirs = subdirs(&live.point);
    assert_eq!(dirs.len(), 40);
    let mut changed = BTreeSet::new();
    // Some are read ahead by the time they are changed, others not yet, or just then.
    for (i, dir) in dirs.iter().enumerate() {
        for below in subdirs(dir) {
            assert!(!listed(&below).is_empty());
        }
        for ahead in dirs.iter().skip(i + 1).step_by(7).take(3) {
            let name = ahead.file_name().unwrap().to_str().unwrap();
            if !changed.insert(ahead) {
                continue;
            }
            fs::write(live.path(&format!("link{name}")), [0; 1000]).unwrap();
            // Of every other one nothing but that, so that it stays the lower's.
            if is_even(ahead) {
                let file = |name: &str| ahead.join(name);
                fs::remove_file(file("gone")).unwrap();
                fs::write(file("new"), b"new").unwrap();
                fs::set_permissions(file("mode"), fs::Permissions::from_mode(0o640)).unwrap();
                fs::write(file("grown"), [0; 1000]).unwrap();
                fs::rename(file("moved"), ahead.join("1/moved")).unwrap();
                fs::rename(file("2"), file("renamed")).unwrap();
            }
        }
        let seen = listed(dir);
        let find = |name: &str| seen.iter().find(|e| e.0 == name).unwrap();
        let mut names: Vec<_> = seen.iter().map(|e| e.0.as_str()).collect();
        names.retain(|name| name.parse::<u8>().is_err());
        if changed.contains(dir) {
            assert_eq!(find("linked").3, 1000);
        }
        if changed.contains(dir) && is_even(dir) {
            assert_eq!(names, ["grown", "linked", "mode", "new", "renamed"]);
            assert_eq!((find("grown").3, find("mode").2 & 0o777), (1000, 0o640));
            assert_eq!(listed(&dir.join("1")).len(), 2);
            assert_eq!(listed(&dir.join("renamed")).len(), 1);
        } else {
            assert_eq!(names, ["gone", "grown", "linked", "mode", "moved"]);
        }
    }
    assert!(changed.len() > 30);
}

/// The files of a tree in the order in which a walker comes to them, which has looked at each.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        match entry.metadata().unwrap().is_dir() {
            true => found.extend(files(&entry.path())),
            false => found.push(entry.path()),
        }
    }
    found
}

#[test]
fn what_changes_before_a_reader_comes_is_read() {
    if !can_mount("ahead::what_changes_before_a_reader_comes_is_read") {
        return;
    }
    let by_name: fn(&Path) -> Vec<PathBuf> = |dir| {
        let below = "gone grown linked mode moved 1/f 2/f 3/f 4/f".split(' ');
        let dirs = (1..41).flat_map(|i| below.clone().map(move |name| format!("{i}/{name}")));
        let links = (1..41).map(|i| format!("link{i}"));
        let mut all: Vec<_> = dirs.chain(links).map(|name| dir.join(name)).collect();
        all.sort();
        all
    };
    for (live, listed) in [
        (Live::new(FILL), true),
        (Live::new(FILL), false),
        (Live::image(FILL), true),
    ] {
        let all = if listed {
            files(&live.point)
        } else {
            by_name(&live.point)
        };
        assert_eq!(all.len(), 40 * 10);
        // By then the kernel may have been given them, or just then, or not yet.
        let has_links = |path: &Path| path.to_string_lossy().contains("link");
        let mut expected = BTreeMap::new();
        for (i, path) in all.iter().enumerate() {
            let read = fs::read(path);
            match expected.get(path) {
                Some(Some(new)) => assert_eq!(&read.unwrap(), new),
                Some(None) => assert_eq!(read.unwrap_err().kind(), ErrorKind::NotFound),
                None => assert!(read.unwrap().len() < 4),
            }
            if i % 3 > 0 {
                continue;
            }
            for (ahead, how) in [(1, 0), (5, 1), (17, 2), (70, 3)] {
                let Some(path) = all.get(i + ahead) else {
                    continue;
                };
                if has_links(path) || expected.contains_key(path) {
                    continue;
                }
                let new = format!("{i} and {ahead}: longer than it was").into_bytes();
                let new = match how {
                    0 => fs::write(path, &new).map(|()| Some(new)),
                    1 => fs::remove_file(path).map(|()| None),
                    2 => {
                        let other = live.path("other");
                        fs::write(&other, &new).unwrap();
                        fs::rename(other, path).map(|()| Some(new))
                    }
                    _ => File::options().write(true).open(path).and_then(|file| {
                        file.set_len(1)?;
                        Ok(fs::read(path).ok())
                    }),
                };
                expected.insert(path.clone(), new.unwrap());
            }
        }
    }
}

fn is_even(dir: &Path) -> bool {
    let number: u32 = dir.file_name().unwrap().to_str().unwrap().parse().unwrap();
    number.is_multiple_of(2)
}

#[test]
fn walkers_beside_each_other_see_everything() {
    if !can_mount("ahead::walkers_beside_each_other_see_everything") {
        return;
    }
    let live = Live::new(FILL);
    let walk = |dir: &Path| {
        let mut count = 0;
        let mut left = vec![dir.to_owned()];
        while let Some(dir) = left.pop() {
            count += listed(&dir).len();
            left.extend(subdirs(&dir));
        }
        count
    };
    std::thread::scope(|scope| {
        let walkers: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| (0..5).map(|_| walk(&live.point)).collect::<Vec<_>>()))
            .collect();
        for walker in walkers {
            // 40 directories and links, five files and four directories in each, a file in each of those.
            assert_eq!(walker.join().unwrap(), [80 + 40 * 9 + 160; 5]);
        }
    });
}
