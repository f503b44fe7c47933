//! What is in files: read from a cache, passed through, mapped, with holes, copied.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::time::Duration;

use rustix::fs::{FallocateFlags, Timespec, Timestamps};
use rustix::io::Errno;

use crate::common::live::{read_write, wait_until};

#[test]
fn lower_files_are_read_once() {
    let live = cached!(
        "contents::lower_files_are_read_once",
        "head -c 300000 /dev/urandom > f"
    );
    let expected = fs::read(live.dir.path().join("lower/f")).unwrap();
    let read = || assert_eq!(fs::read(live.path("f")).unwrap(), expected);
    assert!(live.requests(read) > 2);
    read();
    assert_eq!(live.requests(read), 1, "only OPEN");
}

#[test]
fn upper_files_are_passed_through() {
    let live = live!("contents::upper_files_are_passed_through", "");
    assert!(live.server.status().passthrough);
    let data = vec![7; 3 << 20];
    let made = live.requests(|| fs::write(live.path("f"), &data).unwrap());
    assert!(
        made <= 4,
        "attributes, LOOKUP, CREATE, file capabilities, no WRITE: {made}"
    );
    let read = live.requests(|| assert_eq!(fs::read(live.path("f")).unwrap(), data));
    assert!(read <= 3, "OPEN and attributes, no READ: {read}");
    assert_eq!(fs::read(live.upper("f")).unwrap(), data);
    // A handle costs the server no descriptor. The ones of the calls before are closed later.
    wait_until(|| live.server.status().handles == 0);
    let before = fs::read_dir("/proc/self/fd").unwrap().count();
    let open: Vec<_> = (0..50).map(|_| read_write(&live.path("f"))).collect();
    let after = fs::read_dir("/proc/self/fd").unwrap().count();
    assert!(after < before + open.len() + 10, "{before} and {after}");
    assert_eq!(live.server.status().handles, open.len());
    drop(open);
}

#[test]
fn sizes_and_times_of_passthrough_writes_are_seen() {
    let live = live!(
        "contents::sizes_and_times_of_passthrough_writes_are_seen",
        ""
    );
    let mut file = File::create(live.path("f")).unwrap();
    let old = Timespec {
        tv_sec: 1000,
        tv_nsec: 0,
    };
    let times = Timestamps {
        last_access: old,
        last_modification: old,
    };
    rustix::fs::futimens(&file, &times).unwrap();
    assert_eq!(fs::metadata(live.path("f")).unwrap().mtime(), 1000);
    file.write_all(b"hello").unwrap();
    let meta = fs::metadata(live.path("f")).unwrap();
    assert_eq!(meta.len(), 5);
    assert!(meta.mtime() > 1000);
    let mut append = OpenOptions::new()
        .append(true)
        .open(live.path("f"))
        .unwrap();
    append.write_all(b" world").unwrap();
    assert_eq!(fs::read(live.path("f")).unwrap(), b"hello world");
}

#[test]
fn stores_through_a_mapping_are_seen_within_a_second() {
    let live = live!(
        "contents::stores_through_a_mapping_are_seen_within_a_second",
        ""
    );
    fs::write(live.path("f"), [0; 4096]).unwrap();
    let file = read_write(&live.path("f"));
    let old = Timespec {
        tv_sec: 1000,
        tv_nsec: 0,
    };
    let times = Timestamps {
        last_access: old,
        last_modification: old,
    };
    let mut map = map_shared(&file);
    rustix::fs::futimens(&file, &times).unwrap();
    drop(file);
    assert_eq!(fs::metadata(live.path("f")).unwrap().mtime(), 1000);
    map[0] = 1;
    map.flush().unwrap();
    std::thread::sleep(Duration::from_millis(1100));
    assert!(fs::metadata(live.path("f")).unwrap().mtime() > 1000);
    assert_eq!(fs::read(live.upper("f")).unwrap()[0], 1);
}

#[allow(unsafe_code)]
fn map_shared(file: &File) -> memmap2::MmapMut {
    // SAFETY: nobody cuts the file while the test has it mapped.
    unsafe { memmap2::MmapMut::map_mut(file).unwrap() }
}

#[allow(unsafe_code)]
fn map_private(file: &File) -> memmap2::Mmap {
    // SAFETY: nobody cuts the file while the test has it mapped.
    unsafe { memmap2::Mmap::map(file).unwrap() }
}

#[test]
fn a_file_that_is_read_while_it_is_copied_up_stays_one_file() {
    let live = cached!(
        "contents::a_file_that_is_read_while_it_is_copied_up_stays_one_file",
        "head -c 200000 /dev/zero > f"
    );
    let reader = File::open(live.path("f")).unwrap();
    let mapped = map_private(&reader);
    assert_eq!(mapped[100], 0);
    let writer = read_write(&live.path("f"));
    writer.write_all_at(b"new", 100).unwrap();
    writer.write_all_at(b"end", 199_997).unwrap();
    let mut buf = [0; 3];
    reader.read_exact_at(&mut buf, 100).unwrap();
    assert_eq!(&buf, b"new");
    reader.read_exact_at(&mut buf, 199_997).unwrap();
    assert_eq!(&buf, b"end");
    assert_eq!(&mapped[100..103], b"new");
    drop(reader);
    drop(writer);
    // Only the mapping is left: the mode is still cached.
    let again = read_write(&live.path("f"));
    again.write_all_at(b"NEW", 100).unwrap();
    assert_eq!(&mapped[100..103], b"NEW");
    drop(mapped);
    drop(again);
    assert_eq!(&fs::read(live.upper("f")).unwrap()[100..103], b"NEW");
    // From here on it is passed through.
    let settled = || live.server.status().files == 0;
    wait_until(settled);
    assert_eq!(&fs::read(live.path("f")).unwrap()[100..103], b"NEW");
    let file = read_write(&live.path("f"));
    let writes = live.requests(|| {
        (0..50).for_each(|i| file.write_all_at(&[1; 2000], i * 2000).unwrap());
    });
    assert!(writes <= 1, "the question for file capabilities");
    assert_eq!(fs::read(live.path("f")).unwrap()[..100_000], [1; 100_000]);
}

#[test]
fn a_cached_reader_sees_a_truncation() {
    let live = cached!(
        "contents::a_cached_reader_sees_a_truncation",
        "printf 0123456789 > f; printf abc > g"
    );
    let mut reader = File::open(live.path("f")).unwrap();
    fs::write(live.path("f"), b"xy").unwrap();
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "xy");
    let mut reader = File::open(live.path("g")).unwrap();
    let writer = OpenOptions::new().write(true).open(live.path("g")).unwrap();
    writer.set_len(1).unwrap();
    reader.seek(SeekFrom::Start(0)).unwrap();
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "a");
}

#[test]
fn ranges_holes_and_copies() {
    let live = live!(
        "contents::ranges_holes_and_copies",
        "truncate -s 1M sparse; printf data | dd of=sparse bs=1 seek=524288 conv=notrunc 2>/dev/null"
    );
    let lower = File::open(live.path("sparse")).unwrap();
    let seek = |file: &File, from| rustix::fs::seek(file, from);
    assert_eq!(
        seek(&lower, rustix::fs::SeekFrom::Data(0)).unwrap(),
        524_288
    );
    let hole = seek(&lower, rustix::fs::SeekFrom::Hole(524_288)).unwrap();
    assert!((524_292..1 << 20).contains(&hole));
    assert_eq!(
        seek(&lower, rustix::fs::SeekFrom::Data(1 << 20)),
        Err(Errno::NXIO)
    );

    let upper = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(live.path("upper"))
        .unwrap();
    rustix::fs::fallocate(&upper, FallocateFlags::empty(), 0, 100_000).unwrap();
    assert_eq!(upper.metadata().unwrap().len(), 100_000);
    upper.write_all_at(&[1; 100_000], 0).unwrap();
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    rustix::fs::fallocate(&upper, punch, 8192, 8192).unwrap();
    assert_eq!(seek(&upper, rustix::fs::SeekFrom::Hole(0)).unwrap(), 8192);

    let to = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(live.path("copy"))
        .unwrap();
    let (mut from_at, mut to_at) = (524_288, 10);
    let copied =
        rustix::fs::copy_file_range(&lower, Some(&mut from_at), &to, Some(&mut to_at), 4).unwrap();
    assert_eq!(copied, 4);
    assert_eq!(
        fs::read(live.path("copy")).unwrap(),
        b"\0\0\0\0\0\0\0\0\0\0data"
    );
    assert!(
        live.upper("sparse").symlink_metadata().is_err(),
        "reading copies nothing up"
    );
}

#[test]
fn large_and_direct_writes_arrive() {
    let live = cached!(
        "contents::large_and_direct_writes_arrive",
        "head -c 3000000 /dev/urandom > f"
    );
    let expected: Vec<u8> = (0..5_000_000_u32).map(|i| (i % 251) as u8).collect();
    // A reader keeps the file in cached mode, so that writes are requests.
    let reader = File::open(live.path("f")).unwrap();
    let mut writer = OpenOptions::new().write(true).open(live.path("f")).unwrap();
    writer.write_all(&expected).unwrap();
    writer.sync_data().unwrap();
    assert_eq!(fs::read(live.upper("f")).unwrap(), expected);
    let mut seen = Vec::new();
    (&reader).read_to_end(&mut seen).unwrap();
    assert!(seen == expected);
    drop((reader, writer));
    let direct = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_DIRECT)
        .open(live.path("f"))
        .unwrap();
    assert_eq!(direct.metadata().unwrap().len(), 5_000_000);
    assert!(direct.as_fd().try_clone_to_owned().is_ok());
}
