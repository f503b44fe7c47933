//! Small files of lowers, whose contents the kernel gets with the answer to their first open.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::{Barrier, Mutex};

use crate::common::cli::can_mount;
use crate::common::live::Live;

const FILES: usize = 200;
const FILL: &str = "for i in $(seq 200); do head -c $((i * 61)) /dev/urandom >$i; done; : >empty; \
    head -c 16383 /dev/urandom >longest; head -c 16384 /dev/urandom >too-long";

fn both() -> [Live; 2] {
    [Live::new(FILL), Live::image(FILL)]
}

fn names() -> impl Iterator<Item = String> {
    (1..=FILES).map(|i| i.to_string())
}

/// What tar(1) does with a file.
fn archive(path: &Path) -> Vec<u8> {
    let mut file = File::open(path).unwrap();
    let (mut bytes, mut buffer) = (Vec::new(), [0; 10240]);
    // Not read_to_end and metadata, which want the time of birth, too.
    loop {
        match file.read(&mut buffer).unwrap() {
            0 => break,
            n => bytes.extend_from_slice(&buffer[..n]),
        }
    }
    let stat = rustix::fs::fstat(&file).unwrap();
    assert_eq!(usize::try_from(stat.st_size), Ok(bytes.len()));
    bytes
}

#[test]
fn who_reads_small_files_asks_to_open_them_only() {
    if !can_mount("given::who_reads_small_files_asks_to_open_them_only") {
        return;
    }
    for live in both() {
        let lower = live.dir.path().join("lower");
        let read = || {
            for name in names().chain(["empty".into(), "longest".into()]) {
                let right = archive(&live.path(&name)) == fs::read(lower.join(&name)).unwrap();
                assert!(right, "{name}");
            }
        };
        let opened = FILES as u64 + 2;
        for again in [false, true] {
            let counted = live.counted(read);
            let left = counted.keys().find(|op| {
                !matches!(
                    **op,
                    "open" | "release" | "lookup" | "getattr" | "readdirplus"
                )
            });
            assert_eq!(left, None, "again: {again}: {counted:?}");
            assert!(counted["open"] == opened, "{counted:?}");
            // The kernel asks for attributes after each READ.
            assert!(
                counted.get("getattr").is_none_or(|n| *n < 10),
                "{counted:?}"
            );
        }
        let name = "too-long";
        assert!(archive(&live.path(name)) == fs::read(lower.join(name)).unwrap());
    }
}

/// What it is, and how it is done.
type Change = (&'static str, fn(&Path));

#[test]
fn a_small_file_opened_while_it_is_cut_or_written_ends_as_changed() {
    if !can_mount("given::a_small_file_opened_while_it_is_cut_or_written_ends_as_changed") {
        return;
    }
    let changes: [Change; 4] = [
        ("cut by its name", |path| cut(path, 40)),
        ("extended by its name", |path| cut(path, 20_000)),
        ("cut when opened", |path| {
            let mut file = OpenOptions::new();
            let mut file = file.write(true).truncate(true).open(path).unwrap();
            file.write_all(b"new").unwrap();
        }),
        ("appended to", |path| {
            let mut file = OpenOptions::new().append(true).open(path).unwrap();
            file.write_all(b"more").unwrap();
        }),
    ];
    for live in both() {
        let lower = live.dir.path().join("lower");
        // Not asserted at once: the others would wait for who has failed.
        let (start, wrong) = (Barrier::new(3), Mutex::new(Vec::new()));
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for name in names() {
                        start.wait();
                        let old = fs::read(lower.join(&name)).unwrap();
                        let bytes = fs::read(live.path(&name)).unwrap();
                        // While it is being cut, what is to go can be zeros already.
                        let old = old.iter().zip(&bytes);
                        let right = old.clone().all(|(old, now)| old == now || *now == 0);
                        if !right && bytes != b"new" {
                            let differs = old.filter(|(old, now)| old != now).count();
                            let what = format!("{name}: {differs} of {} bytes", bytes.len());
                            wrong.lock().unwrap().push(what);
                        }
                    }
                });
            }
            scope.spawn(|| {
                for (i, name) in names().enumerate() {
                    start.wait();
                    changes[i % changes.len()].1(&live.path(&name));
                }
            });
        });
        let wrong = wrong.into_inner().unwrap();
        assert!(wrong.is_empty(), "{wrong:#?}");
        for (i, name) in names().enumerate() {
            let (what, mut right) = (changes[i % 4].0, fs::read(lower.join(&name)).unwrap());
            match i % 4 {
                0 => right.resize(40, 0),
                1 => right.resize(20_000, 0),
                2 => right = b"new".into(),
                _ => right.extend_from_slice(b"more"),
            }
            let got = fs::read(live.path(&name)).unwrap();
            assert!(got == right, "{name}, {what}: {} bytes", got.len());
            let len = fs::metadata(live.path(&name)).unwrap().len();
            assert_eq!(len, right.len() as u64, "{name}, {what}");
        }
    }
}

/// truncate(2); `File::set_len` needs a file that is open.
#[allow(unsafe_code)]
fn cut(path: &Path, len: i64) {
    let path = CString::new(path.as_os_str().as_bytes()).unwrap();
    // SAFETY: the path is a string of C and outlives the call.
    let done = unsafe { libc::truncate(path.as_ptr(), len) };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
}

#[test]
fn many_open_the_same_small_file_at_once() {
    if !can_mount("given::many_open_the_same_small_file_at_once") {
        return;
    }
    for live in both() {
        let lower = live.dir.path().join("lower");
        let (start, wrong) = (Barrier::new(8), Mutex::new(Vec::new()));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for name in names() {
                        start.wait();
                        let right = fs::read(lower.join(&name)).unwrap();
                        if fs::read(live.path(&name)).unwrap() != right {
                            wrong.lock().unwrap().push(name);
                        }
                    }
                });
            }
        });
        let wrong = wrong.into_inner().unwrap();
        assert!(wrong.is_empty(), "{wrong:?}");
    }
}
