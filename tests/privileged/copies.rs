//! Copy-up shares blocks with the lower's file where the file system below can.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use rustix::mount::{UnmountFlags, unmount};
use tempfile::TempDir;

use crate::common::cli::{can_mount, run};
use crate::common::daemon::Daemon;

const LEN: usize = 48 << 20;

/// A small file system in a loop file.
struct Disk<'p>(&'p Path);

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        unmount(self.0, UnmountFlags::DETACH).unwrap();
    }
}

fn used(disk: &Path) -> u64 {
    let file = File::open(disk).unwrap();
    rustix::fs::syncfs(&file).unwrap();
    let st = rustix::fs::fstatvfs(&file).unwrap();
    (st.f_blocks - st.f_bfree) * st.f_frsize
}

fn shares_blocks(mkfs: &[&str]) {
    let dir = TempDir::with_prefix("strata-copies-").unwrap();
    let (image, disk, point) = (
        dir.path().join("img"),
        dir.path().join("disk"),
        dir.path().join("mount"),
    );
    File::create(&image).unwrap().set_len(400 << 20).unwrap();
    run(mkfs[0], &[&mkfs[1..], &[image.to_str().unwrap()]].concat()).success();
    [&disk, &point]
        .into_iter()
        .for_each(|d| fs::create_dir(d).unwrap());
    run(
        "mount",
        &[
            "-o",
            "loop",
            image.to_str().unwrap(),
            disk.to_str().unwrap(),
        ],
    )
    .success();
    let mounted = Disk(&disk);
    for name in ["lower", "upper", "work"] {
        fs::create_dir(disk.join(name)).unwrap();
    }
    let data: Vec<u8> = (0..LEN).map(|i| (i / 4096 + i) as u8).collect();
    fs::write(disk.join("lower/f"), &data).unwrap();
    let before = used(&disk);
    let options = format!(
        "lowerdir={0}/lower,upperdir={0}/upper,workdir={0}/work",
        disk.display()
    );
    let daemon = Daemon::start(&options, &point);
    let file = OpenOptions::new()
        .write(true)
        .open(point.join("f"))
        .unwrap();
    file.write_all_at(b"new", 4096).unwrap();
    drop(file);
    let more = used(&disk).saturating_sub(before);
    let mut expected = data.clone();
    expected[4096..4099].copy_from_slice(b"new");
    assert!(fs::read(point.join("f")).unwrap() == expected);
    daemon.unmount();
    assert!(
        fs::read(disk.join("lower/f")).unwrap() == data,
        "the lower is unchanged"
    );
    assert!(more < 8 << 20, "{more} bytes for a copy of {LEN}");
    drop(mounted);
}

#[test]
fn a_copy_shares_blocks_on_xfs() {
    if can_mount("copies::a_copy_shares_blocks_on_xfs") {
        shares_blocks(&["mkfs.xfs", "-q"]);
    }
}

#[test]
fn a_copy_shares_blocks_on_btrfs() {
    if can_mount("copies::a_copy_shares_blocks_on_btrfs") {
        shares_blocks(&["mkfs.btrfs", "-q"]);
    }
}
