//! Files that the kernel reads and writes by itself: the upper's, directory lowers', objects of images;
//! and what happens when one that is open changes.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use stratafs::union::{Union, UnionOptions};

use crate::common::cli::{can_mount, run};
use crate::common::live::{Live, dirs, image_layer, stored_layer, transport, wait_until};

const LARGE: &str = "head -c 5000000 /dev/urandom >f; cp f g; cp f h";

fn data_requests(live: &Live, f: impl FnOnce()) -> u64 {
    let counted = live.counted(f);
    let of = |op| counted.get(op).copied().unwrap_or(0);
    of("read") + of("write")
}

fn append(path: &Path, bytes: &[u8]) {
    let mut options = OpenOptions::new();
    let mut file = options.append(true).open(path).unwrap();
    file.write_all(bytes).unwrap();
}

#[test]
fn large_files_cause_no_read_and_no_write() {
    if !can_mount("passthrough::large_files_cause_no_read_and_no_write") {
        return;
    }
    for live in [Live::new(LARGE), Live::image(LARGE)] {
        let lower = |name: &str| live.dir.path().join("lower").join(name);
        let expected = fs::read(lower("f")).unwrap();
        let requests = data_requests(&live, || {
            // Sequential, mapped, at random, direct.
            assert!(fs::read(live.path("f")).unwrap() == expected);
            let file = File::open(live.path("g")).unwrap();
            let map = map(&file);
            assert!(map[..] == expected);
            let mut page = vec![0; 4096];
            for at in [4_096_000, 8192, 1_000_000] {
                file.read_exact_at(&mut page, at).unwrap();
                assert!(page == expected[at as usize..][..4096]);
            }
            let mut direct = OpenOptions::new();
            let direct = direct.read(true).custom_flags(libc::O_DIRECT);
            drop(direct.open(live.path("g")).unwrap());
            // New, copied up, cut.
            fs::write(live.path("new"), &expected).unwrap();
            append(&live.path("h"), b"more");
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .open(live.path("h"));
            let file = file.unwrap();
            file.write_all_at(&[1; 100_000], 50).unwrap();
            file.set_len(60_000).unwrap();
            file.sync_all().unwrap();
            assert_eq!(fs::read(live.path("h")).unwrap().len(), 60_000);
        });
        assert_eq!(requests, 0);
        assert!(fs::read(lower("h")).unwrap() == expected);
    }
}

#[allow(unsafe_code)]
fn map(file: &File) -> memmap2::Mmap {
    // SAFETY: nobody cuts the file while the test has it mapped.
    unsafe { memmap2::Mmap::map(file).unwrap() }
}

#[test]
fn containers_of_an_image_share_one_file() {
    if !can_mount("passthrough::containers_of_an_image_share_one_file") {
        return;
    }
    let first = Live::image(LARGE);
    let store = stratafs::store::Store::open(&first.dir.path().join("store")).unwrap();
    let objects = first.dir.path().join("store/strata/objects");
    let expected = fs::read(first.path("f")).unwrap();
    // f, g and h have the same contents.
    assert!(fs::read(first.path("h")).unwrap() == expected);
    assert_eq!(fs::read_dir(&objects).unwrap().count(), 1);
    let layer = image_name(&first);
    let second = Live::over(dirs(), stored_layer(&store, &layer));
    let made = || {
        let object = fs::read_dir(&objects).unwrap().next().unwrap().unwrap();
        object.metadata().unwrap().ino()
    };
    let object = made();
    let counted = second.counted(|| assert!(fs::read(second.path("f")).unwrap() == expected));
    assert_eq!(counted.get("read"), None, "{counted:?}");
    assert_eq!(made(), object);
    // Deleted by anyone: who reads reads on, and it comes back.
    let reader = File::open(first.path("f")).unwrap();
    fs::remove_file(
        fs::read_dir(&objects)
            .unwrap()
            .next()
            .unwrap()
            .unwrap()
            .path(),
    )
    .unwrap();
    let mut page = [0; 4096];
    reader.read_exact_at(&mut page, 4096).unwrap();
    assert!(page == expected[4096..][..4096]);
    assert!(fs::read(second.path("g")).unwrap() == expected);
    assert_eq!(fs::read_dir(&objects).unwrap().count(), 1);
}

#[test]
fn sparse_and_small_files_of_an_image_are_right() {
    if !can_mount("passthrough::sparse_and_small_files_of_an_image_are_right") {
        return;
    }
    let live = Live::image(
        "for i in 0 1 511 4096 16383 16384 16385 100000; do head -c $i /dev/urandom >$i; done
         truncate -s 1M s; printf data | dd of=s bs=1 seek=524288 conv=notrunc 2>/dev/null
         head -c 100000 /dev/urandom | dd of=t bs=4096 seek=100 2>/dev/null; truncate -s 2M t",
    );
    for entry in fs::read_dir(live.dir.path().join("lower")).unwrap() {
        let entry = entry.unwrap();
        let seen = live.path(entry.file_name().to_str().unwrap());
        let expected = fs::read(entry.path()).unwrap();
        assert!(fs::read(&seen).unwrap() == expected, "{seen:?}");
        append(&seen, b"x");
        let mut changed = fs::read(&seen).unwrap();
        assert_eq!(changed.pop(), Some(b'x'));
        assert!(changed == expected, "{seen:?}");
    }
}

#[test]
fn without_room_for_objects_files_are_read_from_the_layer() {
    if !can_mount("passthrough::without_room_for_objects_files_are_read_from_the_layer") {
        return;
    }
    let live = Live::image("head -c 300000 /dev/urandom >f; cp f g");
    let objects = live.dir.path().join("store/strata/objects");
    let tiny = run(
        "mount",
        &[
            "-t",
            "tmpfs",
            "-o",
            "size=64k",
            "none",
            objects.to_str().unwrap(),
        ],
    );
    tiny.success();
    // The cache was opened before; this one sees the small file system.
    let dir = dirs();
    let store = stratafs::store::Store::open(&live.dir.path().join("store")).unwrap();
    let layer = image_name(&live);
    let small = Live::over(dir, stored_layer(&store, &layer));
    let expected = fs::read(live.dir.path().join("lower/f")).unwrap();
    let same = fs::read(small.path("f")).unwrap() == expected;
    let left = fs::read_dir(&objects).unwrap().count();
    drop(small);
    drop(store);
    run("umount", &["-l", objects.to_str().unwrap()]).success();
    assert!(same);
    assert_eq!(left, 0);
}

fn image_name(live: &Live) -> stratafs::image::DiffId {
    let layers = fs::read_dir(live.dir.path().join("store/strata/layers")).unwrap();
    let index = layers
        .map(|l| l.unwrap().path())
        .find(|p| p.extension().is_some_and(|e| e == "index"))
        .unwrap();
    let hex = index.file_stem().unwrap().to_str().unwrap();
    stratafs::image::DiffId(stratafs::image::Digest::from_hex(hex).unwrap())
}

#[test]
fn who_reads_a_lower_file_reads_on_when_it_changes() {
    if !can_mount("passthrough::who_reads_a_lower_file_reads_on_when_it_changes") {
        return;
    }
    let script = "for f in append trunc cut range; do printf 0123456789 >$f; done; ln append link";
    for live in [Live::new(script), Live::cached(script)] {
        let passes = live.dir.path().join("lower/append");
        let reader = |name: &str| File::open(live.path(name)).unwrap();
        let readers = ["append", "trunc", "cut", "range"].map(|name| (name, reader(name)));
        let before = readers.each_ref().map(|(_, f)| f.metadata().unwrap().ino());
        append(&live.path("append"), b"AB");
        fs::write(live.path("trunc"), b"xy").unwrap();
        run("truncate", &["-s", "3", live.path("cut").to_str().unwrap()]).success();
        let range = OpenOptions::new().write(true).open(live.path("range"));
        range.unwrap().write_all_at(b"AB", 2).unwrap();
        let expected = ["0123456789AB", "xy", "012", "01AB456789"];
        for (((name, old), ino), expected) in readers.iter().zip(before).zip(expected) {
            let path = live.path(name);
            assert_eq!(fs::read_to_string(&path).unwrap(), expected, "{name}");
            let meta = fs::metadata(&path).unwrap();
            assert_eq!(
                (meta.ino(), meta.len()),
                (ino, expected.len() as u64),
                "{name}"
            );
            // Its attributes are the file's, as on overlayfs.
            let meta = old.metadata().unwrap();
            assert_eq!(
                (meta.ino(), meta.len()),
                (ino, expected.len() as u64),
                "{name}"
            );
        }
        assert_eq!(fs::read(&passes).unwrap(), b"0123456789");
        // The other name is the same file.
        wait_until(|| fs::metadata(live.path("link")).unwrap().len() == 12);
        assert_eq!(fs::read(live.path("link")).unwrap(), b"0123456789AB");
        append(&live.path("link"), b"CD");
        assert_eq!(fs::read(live.path("append")).unwrap(), b"0123456789ABCD");
        drop(readers);
        wait_until(|| live.server.status().files == 0);
        assert_eq!(fs::read(live.path("append")).unwrap(), b"0123456789ABCD");
        append(&live.path("append"), b"E");
        assert_eq!(fs::read(live.path("link")).unwrap(), b"0123456789ABCDE");
    }
}

#[test]
fn the_old_contents_stay_with_the_old_descriptor() {
    if !can_mount("passthrough::the_old_contents_stay_with_the_old_descriptor") {
        return;
    }
    let live = Live::new("head -c 100000 /dev/zero >f");
    let mut old = File::open(live.path("f")).unwrap();
    let mapped = map(&old);
    for round in 1..4_u8 {
        fs::write(live.path("f"), [round; 1000]).unwrap();
        assert_eq!(fs::read(live.path("f")).unwrap(), [round; 1000]);
    }
    let mut text = Vec::new();
    old.read_to_end(&mut text).unwrap();
    assert_eq!(text, [0; 100_000]);
    assert!(mapped.iter().all(|byte| *byte == 0));
    // The descriptor can't be made one for the new file.
    let again = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&old));
    let refused = OpenOptions::new().write(true).open(&again).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::ESTALE));
    drop((old, mapped));
    // A change of attributes alone changes nothing for it.
    let live = Live::new("printf abc >f; chmod 644 f");
    let old = File::open(live.path("f")).unwrap();
    crate::common::live::chmod(&live.path("f"), 0o600);
    assert_eq!(old.metadata().unwrap().mode() & 0o777, 0o600);
    assert_eq!(fs::read(live.path("f")).unwrap(), b"abc");
    append(&live.path("f"), b"d");
    assert_eq!(fs::read(live.path("f")).unwrap(), b"abcd");
}

#[test]
fn readers_and_writers_together_fail_at_nothing() {
    if !can_mount("passthrough::readers_and_writers_together_fail_at_nothing") {
        return;
    }
    let live = Live::new("for i in $(seq 40); do head -c 20000 /dev/zero >$i; done");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    for i in 1..41 {
                        let text = fs::read(live.path(&i.to_string())).unwrap();
                        let head = text.iter().take_while(|b| **b == 0).count();
                        assert!(head == 20_000 || head == 0, "{i}: {head}");
                        assert!(text[head..].iter().all(|b| *b == 1));
                    }
                }
            });
        }
        for i in 1..41 {
            let path = live.path(&i.to_string());
            let held = File::open(&path).unwrap();
            append(&path, &[1; 100]);
            append(&path, &[1; 100]);
            if i % 2 == 0 {
                fs::write(&path, b"").unwrap();
                append(&path, &[1; 50]);
            }
            let len = fs::metadata(&path).unwrap().len();
            assert_eq!(len, if i % 2 == 0 { 50 } else { 20_200 });
            let mut old = [9; 10];
            held.read_exact_at(&mut old, 0).unwrap();
            assert_eq!(old, [0; 10]);
        }
        done.store(true, Ordering::Relaxed);
    });
    wait_until(|| live.server.status().handles == 0);
    for i in 1..41 {
        let lower = fs::read(live.dir.path().join(format!("lower/{i}"))).unwrap();
        assert!(lower == [0; 20_000]);
    }
}

#[test]
fn a_read_only_image_is_read_by_the_kernel_alone() {
    if !can_mount("passthrough::a_read_only_image_is_read_by_the_kernel_alone") {
        return;
    }
    let live = Live::read_only_image(LARGE);
    let expected = fs::read(live.dir.path().join("lower/f")).unwrap();
    let requests = data_requests(&live, || {
        assert!(fs::read(live.path("f")).unwrap() == expected);
        assert!(fs::read(live.path("g")).unwrap() == expected);
    });
    assert_eq!(requests, 0);
}

/// What a second mount of the same layers shows, also while the first one has them open.
#[test]
fn a_layer_can_be_mounted_twice() {
    if !can_mount("passthrough::a_layer_can_be_mounted_twice") {
        return;
    }
    let dir = dirs();
    let layer = image_layer(dir.path(), LARGE);
    let other = dirs();
    let union = Union::new(vec![Arc::clone(&layer) as _], None, UnionOptions::default()).unwrap();
    let read_only = Live::serve(transport(), other, union);
    let live = Live::over(dir, layer);
    let expected = fs::read(read_only.path("f")).unwrap();
    append(&live.path("f"), b"x");
    assert_eq!(fs::read(live.path("f")).unwrap().len(), expected.len() + 1);
    assert!(fs::read(read_only.path("f")).unwrap() == expected);
}
