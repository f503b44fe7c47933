//! No lower ever changes: files that are read and mapped while they are opened for writing in every
//! way, written, cut and grown.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::Command;

use memmap2::{Mmap, MmapMut, MmapOptions};
use rustix::fs::{FallocateFlags, Mode, OFlags};

use crate::common::cli::{self, Strata, can_mount};
use crate::common::daemon::Daemon;

const SIZE: usize = 5 * 4096;

/// Every combination of access mode and flags that open(2) has for a file that is there.
fn ways() -> Vec<OFlags> {
    let access = [OFlags::RDONLY, OFlags::WRONLY, OFlags::RDWR];
    let others = [
        OFlags::TRUNC,
        OFlags::APPEND,
        OFlags::CREATE,
        OFlags::DIRECT,
        OFlags::SYNC,
        OFlags::NOATIME,
    ];
    let subset = |bits: usize| {
        let chosen = others
            .iter()
            .enumerate()
            .filter(move |(n, _)| bits >> n & 1 == 1);
        chosen.fold(OFlags::empty(), |all, (_, flag)| all | *flag)
    };
    access
        .into_iter()
        .flat_map(|access| (0..1 << others.len()).map(move |bits| access | subset(bits)))
        .collect()
}

fn name(n: usize) -> String {
    format!("f{n}")
}

fn original(n: usize) -> Vec<u8> {
    (0..SIZE).map(|at| ((at + n) % 251) as u8).collect()
}

fn make(dir: &Path, count: usize) {
    fs::create_dir_all(dir).unwrap();
    (0..count).for_each(|n| fs::write(dir.join(name(n)), original(n)).unwrap());
}

/// What a changed lower would show.
fn seen(dir: &Path, count: usize) -> Vec<(Vec<u8>, i64, i64, i64, i64, u64)> {
    let one = |n| {
        let meta = fs::metadata(dir.join(name(n))).unwrap();
        let data = fs::read(dir.join(name(n))).unwrap();
        let (m, c) = (meta.mtime_nsec(), meta.ctime_nsec());
        (data, meta.mtime(), m, meta.ctime(), c, meta.blocks())
    };
    (0..count).map(one).collect()
}

#[allow(unsafe_code)]
fn map_to_read(file: &File) -> [Mmap; 2] {
    // SAFETY: the pages that the file loses are not touched after that.
    unsafe {
        let private = MmapOptions::new().map_copy_read_only(file).unwrap();
        [Mmap::map(file).unwrap(), private]
    }
}

#[allow(unsafe_code)]
fn store_through_a_mapping(file: &File) {
    // SAFETY: the file is as long as the mapping while that is there.
    let mut map = unsafe { MmapMut::map_mut(file).unwrap() };
    map[0..3].copy_from_slice(b"map");
    map.flush().unwrap();
}

/// Everything that changes an open file.
fn change(file: &File, how: OFlags) -> io::Result<()> {
    // Direct I/O wants whole blocks from an aligned place.
    let mut block = MmapMut::map_anon(4096)?;
    block.fill(b'w');
    file.write_all_at(&block, 4096)?;
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    rustix::fs::fallocate(file, punch, 0, 4096)?;
    rustix::fs::fallocate(file, FallocateFlags::empty(), 0, 40_960)?;
    if how.contains(OFlags::RDWR) {
        store_through_a_mapping(file);
    }
    file.set_len(4096)?;
    file.set_len(8192)?;
    file.set_modified(std::time::UNIX_EPOCH)?;
    rustix::fs::fchmod(file, Mode::RWXU)?;
    file.sync_all()
}

/// Opens, reads, maps, opens in one way, changes; then again through the reader's descriptor.
fn go(dir: &Path, n: usize, how: OFlags) {
    let path = dir.join(name(n));
    let reader = File::open(&path).unwrap();
    let maps = map_to_read(&reader);
    assert!(maps.iter().all(|map| map[..] == original(n)[..]), "{how:?}");
    let opened = rustix::fs::open(&path, how | OFlags::CLOEXEC, Mode::RUSR);
    let file = File::from(opened.unwrap_or_else(|e| panic!("{how:?}: {e}")));
    if how.intersects(OFlags::WRONLY | OFlags::RDWR) {
        change(&file, how).unwrap_or_else(|e| panic!("{how:?}: {e}"));
        assert_eq!(fs::metadata(&path).unwrap().len(), 8192, "{how:?}");
    } else {
        let refused = rustix::io::pwrite(&file, b"no", 0);
        assert_eq!(refused, Err(rustix::io::Errno::BADF), "{how:?}");
        let cut = how.contains(OFlags::TRUNC);
        let expected = if cut { 0 } else { SIZE };
        assert_eq!(fs::read(&path).unwrap().len(), expected, "{how:?}");
    }
    drop(file);
    drop(maps);
    let again = format!("/proc/self/fd/{}", reader.as_raw_fd());
    if let Ok(again) = File::options().read(true).write(true).open(again) {
        change(&again, OFlags::RDWR).unwrap();
    }
}

#[test]
fn no_lower_directory_changes() {
    if !can_mount("lowers::no_lower_directory_changes") {
        return;
    }
    let dir = tempfile::TempDir::with_prefix("strata-lowers-").unwrap();
    let [lower, point] = ["lower", "mount"].map(|n| dir.path().join(n));
    for name in ["upper", "work", "mount"] {
        fs::create_dir(dir.path().join(name)).unwrap();
    }
    let ways = ways();
    make(&lower, 2 * ways.len());
    let before = seen(&lower, 2 * ways.len());
    for (round, options) in ["", ",metacopy=on"].into_iter().enumerate() {
        let options = format!(
            "lowerdir={0}/lower,upperdir={0}/upper,workdir={0}/work{options}",
            dir.path().display()
        );
        let daemon = Daemon::start(&options, &point);
        for (n, how) in ways.iter().enumerate() {
            go(&point, round * ways.len() + n, *how);
        }
        daemon.unmount();
    }
    assert!(before == seen(&lower, 2 * ways.len()));
}

#[test]
fn no_image_changes() {
    if !can_mount("lowers::no_image_changes") {
        return;
    }
    let strata = Strata::new();
    let dir = strata.path("made");
    let ways = ways();
    make(&dir.join("rootfs"), ways.len());
    let script = r#"
        cd rootfs && tar cf ../layer.tar . && cd ..
        sum=$(sha256sum layer.tar | cut -d' ' -f1)
        echo '{"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":["sha256:'$sum'"]}}' > config.json
        echo '[{"Config":"config.json","RepoTags":["lowers:latest"],"Layers":["layer.tar"]}]' > manifest.json
        tar cf image.tar config.json manifest.json layer.tar"#;
    cli::said(Command::new("sh").args(["-ec", script]).current_dir(&dir)).success();
    strata.load(&dir.join("image.tar"));
    let blobs = strata.blobs();
    let pure = strata.mount(&["-o", "ro"], "lowers");
    let mounted = strata.mount(&[], "lowers");
    for (n, how) in ways.iter().enumerate() {
        go(&mounted.point, n, *how);
    }
    mounted.unmount();
    for n in 0..ways.len() {
        assert!(fs::read(pure.path(&name(n))).unwrap() == original(n), "{n}");
    }
    pure.unmount();
    strata.assert_blobs_intact(&blobs);
    let pure = strata.mount(&["-o", "ro"], "lowers");
    for n in 0..ways.len() {
        assert!(fs::read(pure.path(&name(n))).unwrap() == original(n), "{n}");
    }
    pure.unmount();
}
