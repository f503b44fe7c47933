//! Hard links, cursors, devices and the forms that the kernel's overlayfs reads and writes, on
//! directory layers.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, RenameFlags, SeekFrom};

use crate::common::cli::{self, Strata};

fn sh(dir: &Path, script: &str) {
    let mut command = std::process::Command::new("sh");
    cli::said(command.args(["-ec", script]).current_dir(dir)).success();
}

/// Directories for layers, filled by a script, in a store's scratch directory.
fn layers(strata: &Strata, script: &str) {
    sh(&strata.scratch, "mkdir top bottom upper work");
    sh(&strata.scratch, script);
}

fn options(strata: &Strata, more: &str) -> String {
    let at = |name| strata.path(name).display().to_string();
    format!(
        "lowerdir={}:{},upperdir={},workdir={}{more}",
        at("top"),
        at("bottom"),
        at("upper"),
        at("work")
    )
}

#[test]
fn linked_lower_files_stay_one_file() {
    let live = live!(
        "links::linked_lower_files_stay_one_file",
        "mkdir d; echo old >a; ln a b; ln a d/c"
    );
    let ino = |name: &str| fs::metadata(live.path(name)).unwrap().ino();
    let links = |name: &str| fs::metadata(live.path(name)).unwrap().nlink();
    let before = ino("a");
    fs::write(live.path("a"), b"new").unwrap();
    for name in ["a", "b", "d/c"] {
        assert_eq!(fs::read(live.path(name)).unwrap(), b"new", "{name}");
        assert_eq!((ino(name), links(name)), (before, 3), "{name}");
    }
    fs::remove_file(live.path("b")).unwrap();
    assert_eq!((links("a"), links("d/c")), (2, 2));
    fs::hard_link(live.path("d/c"), live.path("e")).unwrap();
    fs::rename(live.path("d/c"), live.path("c")).unwrap();
    for (name, left) in [("a", 3), ("c", 2), ("e", 1)] {
        assert_eq!(links(name), left, "{name}");
        fs::remove_file(live.path(name)).unwrap();
    }
    let index = live.dir.path().join("work/index");
    assert_eq!(
        fs::read_dir(index).unwrap().count(),
        0,
        "the last name went"
    );
    assert_eq!(fs::read(live.dir.path().join("lower/b")).unwrap(), b"old\n");
}

#[test]
fn the_kernel_reads_the_index_of_links() {
    if !cli::can_mount("links::the_kernel_reads_the_index_of_links") {
        return;
    }
    let strata = Strata::new();
    layers(
        &strata,
        "cd bottom; echo old >a; ln a b; ln a c; chmod a-x a",
    );
    let ours = strata.mount_directories(&options(&strata, ""));
    fs::write(ours.path("b"), b"new").unwrap();
    fs::remove_file(ours.path("c")).unwrap();
    ours.unmount();
    let point = strata.path("kernel");
    fs::create_dir(&point).unwrap();
    let mut mount = std::process::Command::new("mount");
    let how = options(&strata, ",index=on");
    mount
        .args(["-t", "overlay", "overlay", "-o", &how])
        .arg(&point);
    cli::said(&mut mount).success();
    let seen = ["a", "b"].map(|name| {
        let stat = fs::metadata(point.join(name)).unwrap();
        (fs::read(point.join(name)).unwrap(), stat.nlink())
    });
    let gone = !point.join("c").exists();
    fs::write(point.join("a"), b"newer").unwrap();
    cli::run("umount", &[&point]).success();
    assert_eq!(seen, [(b"new".to_vec(), 2), (b"new".to_vec(), 2)]);
    assert!(gone);
    let again = strata.mount_directories(&options(&strata, ""));
    assert_eq!(fs::read(again.path("b")).unwrap(), b"newer");
    assert_eq!(fs::metadata(again.path("b")).unwrap().nlink(), 2);
    again.unmount();
}

#[test]
fn a_name_of_a_lower_goes_from_a_file_found_under_a_new_one() {
    if !cli::can_mount("links::a_name_of_a_lower_goes_from_a_file_found_under_a_new_one") {
        return;
    }
    let strata = Strata::new();
    layers(&strata, "cd bottom; echo x >a; ln a b; ln a c; echo y >f");
    let how = options(&strata, ",metacopy=on");
    let ours = strata.mount_directories(&how);
    fs::rename(ours.path("a"), ours.path("f")).unwrap();
    ours.unmount();
    let links = |at: std::path::PathBuf| fs::metadata(at).unwrap().nlink();
    let ours = strata.mount_directories(&how);
    assert_eq!(links(ours.path("f")), 3);
    fs::remove_file(ours.path("b")).unwrap();
    assert_eq!((links(ours.path("f")), links(ours.path("c"))), (2, 2));
    fs::rename(ours.path("c"), ours.path("g")).unwrap();
    ours.unmount();
    let ours = strata.mount_directories(&how);
    assert_eq!((links(ours.path("f")), links(ours.path("g"))), (2, 2));
    fs::remove_file(ours.path("g")).unwrap();
    assert_eq!(links(ours.path("f")), 1);
    fs::remove_file(ours.path("f")).unwrap();
    ours.unmount();
    assert_eq!(fs::read_dir(strata.path("work/index")).unwrap().count(), 0);
}

#[test]
fn a_null_device_is_no_whiteout() {
    if !cli::can_mount("links::a_null_device_is_no_whiteout") {
        return;
    }
    let strata = Strata::new();
    layers(&strata, "mkdir bottom/d; touch bottom/d/f bottom/gone");
    let ours = strata.mount_directories(&options(&strata, ""));
    let is_null = |path: &Path| {
        let stat = fs::symlink_metadata(path).unwrap();
        stat.file_type().is_char_device() && stat.rdev() == 0
    };
    fs::remove_file(ours.path("gone")).unwrap();
    for name in ["null", "gone", "d/null"] {
        let mode = Mode::from_raw_mode(0o640);
        rustix::fs::mknodat(CWD, ours.path(name), FileType::CharacterDevice, mode, 0).unwrap();
    }
    fs::remove_file(ours.path("d/f")).unwrap();
    fs::rename(ours.path("null"), ours.path("null2")).unwrap();
    ours.unmount();
    let again = strata.mount_directories(&options(&strata, ""));
    for name in ["null2", "gone", "d/null"] {
        assert!(is_null(&again.path(name)), "{name}");
        let mode = fs::symlink_metadata(again.path(name)).unwrap().mode();
        assert_eq!(mode & 0o7777, 0o640);
    }
    let listed: BTreeSet<_> = fs::read_dir(&again.point)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(listed, ["d", "gone", "null2"].map(String::from).into());
    assert!(!again.path("d/f").exists());
    fs::remove_file(again.path("gone")).unwrap();
    assert!(!again.path("gone").exists());
    again.unmount();
    // As a lower, the upper shows the same.
    let lower = format!("lowerdir={}", strata.path("upper").display());
    let over = strata.mount_directories(&lower);
    assert!(is_null(&over.path("d/null")) && !over.path("gone").exists());
    over.unmount();
}

#[test]
fn rename_leaves_a_whiteout_when_asked() {
    let live = live!(
        "links::rename_leaves_a_whiteout_when_asked",
        "echo lower >l"
    );
    fs::write(live.path("u"), b"upper").unwrap();
    for name in ["l", "u"] {
        let to = live.path(&format!("{name}2"));
        let flags = RenameFlags::WHITEOUT;
        rustix::fs::renameat_with(CWD, live.path(name), CWD, &to, flags).unwrap();
        let left = fs::symlink_metadata(live.path(name)).unwrap();
        assert!(left.file_type().is_char_device() && left.rdev() == 0);
        assert!(to.exists());
    }
}

#[test]
fn cursors_stay_right_while_entries_come_and_go() {
    let live = live!(
        "links::cursors_stay_right_while_entries_come_and_go",
        "mkdir d; cd d; seq -f 'lower%g' 1 2000 | xargs touch"
    );
    let dir = live.path("d");
    for n in 0..2000 {
        fs::write(dir.join(format!("upper{n}")), b"").unwrap();
    }
    let open = || {
        let fd = rustix::fs::open(&dir, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        Dir::new(fd).unwrap()
    };
    // One reader fills the kernel's cache of the directory, another reads from that until a change
    // drops it, and goes on.
    assert_eq!(open().count(), 4002);
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    for (n, entry) in open().enumerate() {
        let name = entry.unwrap().file_name().to_str().unwrap().to_owned();
        *counts.entry(name).or_default() += 1;
        if n % 100 == 50 {
            let (gone, new) = (format!("upper{n}"), format!("new{n}"));
            fs::remove_file(dir.join(&gone)).ok();
            fs::remove_file(dir.join(format!("lower{}", n + 1))).ok();
            fs::write(dir.join(new), b"").unwrap();
        }
    }
    assert!(counts.values().all(|n| *n == 1), "no entry twice");
    for entry in fs::read_dir(&dir).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let seen = counts.contains_key(&name);
        assert!(seen || name.starts_with("new"), "{name} was missed");
    }
}

#[test]
fn a_place_in_a_directory_is_found_again() {
    let live = live!(
        "links::a_place_in_a_directory_is_found_again",
        "seq 1 300 | xargs touch"
    );
    let fd = rustix::fs::open(&live.point, OFlags::RDONLY, Mode::empty()).unwrap();
    let mut buf = vec![0; 512];
    let mut read = |cookies: &mut Vec<(i64, String)>| {
        use std::mem::MaybeUninit;
        let mut space: Vec<MaybeUninit<u8>> = buf.iter().map(|b| MaybeUninit::new(*b)).collect();
        let mut entries = rustix::fs::RawDir::new(&fd, &mut space);
        while let Some(entry) = entries.next() {
            let entry = entry.unwrap();
            let name = entry.file_name().to_str().unwrap().to_owned();
            cookies.push((entry.next_entry_cookie().cast_signed(), name));
            if entries.is_buffer_empty() {
                return true;
            }
        }
        buf[0] = 0;
        false
    };
    let mut all = Vec::new();
    while read(&mut all) {}
    assert_eq!(all.len(), 302);
    for at in [0, 1, 2, 77, 200] {
        let offset = all[at].0.cast_unsigned();
        rustix::fs::seek(&fd, SeekFrom::Start(offset)).unwrap();
        let mut rest = Vec::new();
        read(&mut rest);
        assert_eq!(rest[0], all[at + 1], "after {}", all[at].1);
    }
}

#[test]
fn data_is_found_below_metacopies_and_redirects_of_lowers() {
    if !cli::can_mount("links::data_is_found_below_metacopies_and_redirects_of_lowers") {
        return;
    }
    let strata = Strata::new();
    // The kernel writes the metacopies: changed attributes, one under a new name.
    layers(
        &strata,
        "umask 022; mkdir bottom/d merged; echo same >bottom/d/f; echo moved >bottom/d/g
         mount -t overlay overlay merged -o lowerdir=bottom,upperdir=upper,workdir=work,metacopy=on,redirect_dir=on
         chmod 600 merged/d/f; chmod 640 merged/d/g; mv merged/d/g merged/n; umount merged
         mv upper top2; rm -rf work; mkdir upper work",
    );
    let at = |name| strata.path(name).display().to_string();
    let how = format!(
        "lowerdir={}:{}:{},upperdir={},workdir={},metacopy=on",
        at("top"),
        at("top2"),
        at("bottom"),
        at("upper"),
        at("work")
    );
    let ours = strata.mount_directories(&how);
    for (name, text, mode) in [("d/f", "same\n", 0o600), ("n", "moved\n", 0o640)] {
        assert_eq!(fs::read_to_string(ours.path(name)).unwrap(), text);
        assert_eq!(fs::metadata(ours.path(name)).unwrap().mode() & 0o777, mode);
    }
    fs::write(ours.path("d/f"), "changed\n").unwrap();
    ours.unmount();
    let again = strata.mount_directories(&how);
    assert_eq!(fs::read_to_string(again.path("d/f")).unwrap(), "changed\n");
    again.unmount();
}
