//! Read-only mounts of what is below another mount, as a part of it: podman's and Docker's comparisons
//! pass over what has one device and one number in both.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{DirEntryExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::common::cli::{self, Mounted, Strata};
use crate::common::tree;
use crate::differential::sides::make_lowers;
use crate::differential::steps::{Act, Random, Slots, Step};

/// What a comparison comes to that passes over entries of one device and one number, as
/// containers/storage's does: the paths, without the root's.
fn come_to(left: &Path, right: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut dirs = vec![PathBuf::new()];
    while let Some(dir) = dirs.pop() {
        let numbers = |root: &Path| -> BTreeSet<(PathBuf, u64, bool)> {
            let Ok(entries) = fs::read_dir(root.join(&dir)) else {
                return BTreeSet::new();
            };
            let entry = |e: std::io::Result<fs::DirEntry>| {
                let e = e.unwrap();
                let is_dir = e.file_type().unwrap().is_dir();
                (dir.join(e.file_name()), e.ino(), is_dir)
            };
            entries.map(entry).collect()
        };
        let device = |root: &Path| fs::metadata(root.join(&dir)).map(|m| m.dev()).ok();
        let (mine, theirs) = (numbers(left), numbers(right));
        let one_device = device(left) == device(right);
        let both: BTreeSet<_> = mine.intersection(&theirs).cloned().collect();
        for entry in mine.union(&theirs) {
            let (path, _, is_dir) = entry;
            if one_device && both.contains(entry) {
                continue;
            }
            found.insert(path.clone());
            if *is_dir && !dirs.contains(path) {
                dirs.push(path.clone());
            }
        }
    }
    found
}

/// The paths under which two trees have different objects.
fn differing(left: &Path, right: &Path) -> BTreeSet<PathBuf> {
    let (left, right) = (tree::list(left), tree::list(right));
    let paths: BTreeSet<_> = left.keys().chain(right.keys()).collect();
    // How many names a file has, and which is the first, is no difference of the others.
    let plain = |tree: &tree::Tree, path: &PathBuf| {
        let mut object = tree.get(path).cloned();
        if let Some(object) = &mut object {
            object.links = None;
        }
        object
    };
    let differ = |path: &&PathBuf| plain(&left, path) != plain(&right, path);
    let differing = paths.into_iter().filter(differ).cloned();
    differing.filter(|p| !p.as_os_str().is_empty()).collect()
}

struct Lowers {
    strata: Strata,
    lowerdir: String,
}

impl Lowers {
    fn new(links: bool) -> Lowers {
        let strata = Strata::new();
        let (top, bottom) = (strata.path("top"), strata.path("bottom"));
        make_lowers(&top, &bottom);
        if !links {
            for name in [
                "top/c/h",
                "top/b/d",
                "bottom/b/h",
                "bottom/h",
                "bottom/a/b/f",
            ] {
                fs::remove_file(strata.path(name)).unwrap();
            }
        }
        let lowerdir = format!("{}:{}", top.display(), bottom.display());
        Lowers { strata, lowerdir }
    }

    fn container(&self, options: &str) -> Mounted<'_> {
        let dir = tempfile::tempdir_in(&self.strata.scratch).unwrap().keep();
        let (upper, work) = (dir.join("upper"), dir.join("work"));
        fs::create_dir(&upper).unwrap();
        fs::create_dir(&work).unwrap();
        self.strata.mount_directories(&format!(
            "lowerdir={},upperdir={},workdir={},{options}",
            self.lowerdir,
            upper.display(),
            work.display()
        ))
    }

    fn below(&self, options: &str) -> Mounted<'_> {
        let lowerdir = &self.lowerdir;
        self.strata
            .mount_directories(&format!("lowerdir={lowerdir},{options}"))
    }
}

fn device(path: &Path) -> u64 {
    fs::symlink_metadata(path).unwrap().dev()
}

fn are_one(left: &Mounted<'_>, right: &Mounted<'_>) -> bool {
    device(&left.point) == device(&right.point)
}

/// Whether a process has these words on its command line.
fn a_daemon_has(words: &str) -> bool {
    let processes = fs::read_dir("/proc").unwrap();
    let mut lines = processes.filter_map(|p| fs::read(p.ok()?.path().join("cmdline")).ok());
    lines.any(|line| String::from_utf8_lossy(&line).contains(words))
}

#[test]
fn a_comparison_comes_to_every_difference() {
    if !cli::can_mount("joint::a_comparison_comes_to_every_difference") {
        return;
    }
    for links in [false, true] {
        let lowers = Lowers::new(links);
        let alone = lowers.below("nojoint");
        for seed in 1..25_u64 {
            let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
            let container = lowers.container("joint");
            let below = lowers.below("joint");
            assert!(are_one(&container, &below) && !are_one(&container, &alone));
            let came = come_to(&container.point, &below.point);
            assert!(came.is_empty(), "nothing has changed: {came:?}");
            let mut slots = Slots::new();
            for part in 0..5 {
                let mut steps = Vec::new();
                for _ in 0..random.below(8) {
                    let act = Act::random(&mut random);
                    if !matches!(act.step, Step::Remount) {
                        act.run(&container.point, &mut slots).ok();
                        steps.push(act.to_string());
                    }
                }
                let differing = differing(&container.point, &alone.point);
                let check = |which: &str, below: &Mounted<'_>| {
                    let came = come_to(&container.point, &below.point);
                    let missed: Vec<_> = differing.difference(&came).collect();
                    let steps = steps.join("\n");
                    assert!(
                        missed.is_empty(),
                        "links {links}, seed {seed}, part {part}, {which}: {missed:?} after\n{steps}"
                    );
                };
                // One that was compared before the changes, and one after them.
                check("old", &below);
                let another = lowers.below("joint");
                check("new", &another);
                another.unmount();
            }
            drop(slots);
            let before = alone.tree();
            tree::assert_same(("alone", &before), ("joint", &below.tree()));
            below.unmount();
            container.unmount();
        }
    }
}

#[test]
fn what_is_below_is_another_tree_that_nobody_changes() {
    if !cli::can_mount("joint::what_is_below_is_another_tree_that_nobody_changes") {
        return;
    }
    let lowers = Lowers::new(false);
    let container = lowers.container("joint");
    let below = lowers.below("joint");
    assert!(are_one(&container, &below));
    let names = |path: &Path| {
        let names = fs::read_dir(path).unwrap();
        names
            .map(|e| e.unwrap().file_name())
            .collect::<BTreeSet<_>>()
    };
    assert_eq!(names(&container.point), names(&below.point));
    // Two inodes, whatever the listings say.
    for name in ["a/b/f", "a", "f"] {
        let number = |mount: &Mounted<'_>| fs::metadata(mount.path(name)).unwrap().ino();
        assert_ne!(number(&container), number(&below), "{name}");
    }
    fs::write(container.path("a/b/f"), "changed").unwrap();
    fs::write(container.path("new"), "new").unwrap();
    assert_eq!(
        fs::read_to_string(below.path("a/b/f")).unwrap(),
        "from the top"
    );
    assert!(!below.path("new").exists());
    let refused = fs::write(below.path("f"), "x").unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::EROFS));
    let expected = ["a", "a/b", "a/b/f", "new"].map(PathBuf::from);
    let came = come_to(&container.point, &below.point);
    assert_eq!(came, expected.into_iter().collect());
    // Its root has no name that stays.
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let point = below.point.to_str().unwrap();
    let line = text.lines().find(|line| line.contains(point)).unwrap();
    let root = line.split(' ').nth(3).unwrap().trim_start_matches('/');
    assert!(root.starts_with(".strata-"), "{line}");
    assert!(!container.path(root).exists());
    // It stays when the other goes, and the daemon goes with the last of them.
    container.unmount();
    assert_eq!(fs::read_to_string(below.path("f")).unwrap(), "top");
    below.unmount();
    let until = Instant::now() + Duration::from_secs(20);
    while a_daemon_has(&lowers.lowerdir) {
        assert!(Instant::now() < until, "a daemon is left");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn of_a_file_with_several_names_all_are_come_to_and_no_other_file() {
    if !cli::can_mount("joint::of_a_file_with_several_names_all_are_come_to_and_no_other_file") {
        return;
    }
    let lowers = Lowers::new(true);
    let container = lowers.container("joint");
    let below = lowers.below("joint");
    fs::write(container.path("h"), "changed").unwrap();
    let came = come_to(&container.point, &below.point);
    for name in ["h", "a", "a/f", "b", "b/h"] {
        assert!(came.contains(Path::new(name)), "{name}: {came:?}");
    }
    for name in ["f", "a/b/c/f", "d", "a/h"] {
        let links = fs::symlink_metadata(container.path(name)).unwrap().nlink();
        assert_eq!(
            came.contains(Path::new(name)),
            links > 1,
            "{name}: {came:?}"
        );
    }
}

#[test]
fn of_a_mount_without_an_upper_all_but_the_first_is_below() {
    if !cli::can_mount("joint::of_a_mount_without_an_upper_all_but_the_first_is_below") {
        return;
    }
    let lowers = Lowers::new(false);
    let changes = lowers.strata.path("changes");
    fs::create_dir_all(changes.join("a/b")).unwrap();
    fs::write(changes.join("a/b/f"), "changed").unwrap();
    fs::write(changes.join("d"), "another").unwrap();
    let whole = lowers.strata.mount_directories(&format!(
        "lowerdir={}:{},joint",
        changes.display(),
        lowers.lowerdir
    ));
    let below = lowers.below("joint");
    assert!(are_one(&whole, &below));
    let expected = ["a", "a/b", "a/b/f", "d"].map(PathBuf::from);
    let came = come_to(&whole.point, &below.point);
    assert_eq!(came, expected.into_iter().collect());
    assert_eq!(fs::read_to_string(below.path("d")).unwrap(), "top");
}

#[test]
fn only_who_was_just_there_joins_and_only_what_is_below() {
    if !cli::can_mount("joint::only_who_was_just_there_joins_and_only_what_is_below") {
        return;
    }
    let lowers = Lowers::new(false);
    // Mounted by a shell, which is gone.
    let dir = &lowers.strata.scratch;
    let script = format!(
        "mkdir up wk point; \"$1\" mount $2 -o joint,lowerdir={},upperdir=up,workdir=wk point; :",
        lowers.lowerdir
    );
    let mut shell = Command::new("sh");
    let transport = cli::transport_option().map_or(String::new(), |t| format!("-o {t}"));
    shell
        .args([
            "-ec",
            &script,
            "sh",
            env!("CARGO_BIN_EXE_strata"),
            &transport,
        ])
        .current_dir(dir);
    cli::said(&mut shell).success();
    let point = dir.join("point");
    let stranger = lowers.below("joint");
    assert_ne!(device(&stranger.point), device(&point));
    stranger.unmount();
    rustix::fs::statfs(&point).unwrap();
    for other in ["nojoint", "", "joint,noacl", "joint,nosuid"] {
        let other = lowers.below(other);
        assert_ne!(device(&other.point), device(&point), "{}", other.printed);
    }
    let reversed: Vec<_> = lowers.lowerdir.split(':').rev().collect();
    let options = format!("joint,lowerdir={}", reversed.join(":"));
    let reversed = lowers.strata.mount_directories(&options);
    assert_ne!(device(&reversed.point), device(&point));
    let joined = lowers.below("joint");
    assert_eq!(device(&joined.point), device(&point));
    joined.unmount();
    let point = point.to_str().unwrap().to_owned();
    lowers.strata.ok(&["umount", &point]);
}
