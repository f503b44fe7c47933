use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::PathBuf;

use super::*;
use crate::content::tar_file::{FileRange, Run, SparseRange};

const LIMITS: Limits = Limits {
    smallest: 0,
    budget: 1 << 20,
};

struct Cache {
    dir: tempfile::TempDir,
    objects: Arc<Objects>,
}

fn cache() -> Cache {
    let dir = tempfile::tempdir().unwrap();
    let objects = Arc::new(Objects::open(dir.path(), LIMITS).unwrap());
    Cache { dir, objects }
}

impl Cache {
    fn path(&self, key: &Key) -> PathBuf {
        self.dir.path().join(key.to_string())
    }

    fn names(&self) -> usize {
        std::fs::read_dir(self.dir.path()).unwrap().count()
    }
}

fn stored(bytes: &[u8]) -> (Key, Arc<dyn ReadAt>) {
    let tar = tempfile::tempfile().unwrap();
    tar.write_all_at(bytes, 512).unwrap();
    let key = Key(*blake3::hash(bytes).as_bytes());
    let range = FileRange::new(Arc::new(tar), 512, bytes.len() as u64);
    (key, Arc::new(range))
}

fn bytes_of(file: &File) -> Vec<u8> {
    let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

#[test]
fn made_once_found_by_others_and_back_when_deleted() {
    let cache = cache();
    let (key, source) = stored(b"contents of a file");
    assert!(cache.objects.find(&key, source.len()).is_none());
    let unmade = Unmade::new(Arc::clone(&cache.objects), key, Arc::clone(&source));
    assert!(unmade.is_worth_a_file());
    let made = unmade.to_file().unwrap();
    assert_eq!(bytes_of(&made), b"contents of a file");
    let again = cache.objects.make(&key, &*source).unwrap();
    let (made, again) = (made.metadata().unwrap(), again.metadata().unwrap());
    assert_eq!(made.ino(), again.ino());
    let other = Objects::open(cache.dir.path(), LIMITS).unwrap();
    let found = other.find(&key, source.len()).unwrap();
    assert_eq!(found.metadata().unwrap().ino(), made.ino());
    assert!(other.find(&key, 3).is_none(), "of another length");
    std::fs::remove_file(cache.path(&key)).unwrap();
    assert_eq!(
        bytes_of(&found),
        b"contents of a file",
        "who has it keeps it"
    );
    let back = cache.objects.make(&key, &*source).unwrap();
    assert_eq!(bytes_of(&back), b"contents of a file");
    assert_eq!(cache.names(), 1);
}

/// How many pages of a part of a file are in memory. Those that are not get read by the question.
fn cached_pages(file: &File, from: u64, to: u64) -> usize {
    let file = File::open(magic_path(file)).unwrap();
    rustix::fs::fadvise(&file, 0, None, Advice::Random).unwrap();
    let is_cached = |at: &u64| {
        let mut byte = [0];
        let mut into = [std::io::IoSliceMut::new(&mut byte)];
        let now = rustix::io::ReadWriteFlags::NOWAIT;
        rustix::io::preadv2(&file, &mut into, *at, now).is_ok()
    };
    (from..to).step_by(4096).filter(is_cached).count()
}

#[test]
fn a_layers_pages_go_when_objects_were_made_of_them() {
    const START: u64 = (3 << 20) + 512;
    const EACH: u64 = 100_000;
    let dir = tempfile::tempdir().unwrap();
    let objects = Objects::open(dir.path(), Limits::default()).unwrap();
    let layer = tempfile::tempfile().unwrap();
    layer.write_all_at(&vec![7; 16 << 20], 0).unwrap();
    layer.sync_all().unwrap();
    rustix::fs::fadvise(&layer, 0, None, Advice::DontNeed).unwrap();
    if cached_pages(&layer, 0, 4096) > 0 {
        return eprintln!("skipped: this file system keeps its pages");
    }
    // Read ahead, in pieces that are larger than one of the files.
    std::io::copy(&mut &layer, &mut std::io::sink()).unwrap();
    assert!(cached_pages(&layer, 0, 16 << 20) > 2048);
    let layer = Arc::new(layer);
    let end = START + 40 * EACH;
    for start in (START..end).step_by(EACH as usize) {
        let source = FileRange::new(Arc::clone(&layer) as Arc<dyn ReadAt>, start, EACH);
        let key = Key(*blake3::hash(&start.to_ne_bytes()).as_bytes());
        objects.make(&key, &source).unwrap();
    }
    // What the last one shares a piece with stays; elsewhere a page that somebody was just using.
    let left = cached_pages(&layer, START, end - LARGEST_PIECE);
    assert!(left < 32, "{left} pages");
    assert!(cached_pages(&layer, end + LARGEST_PIECE, 16 << 20) > 0);
}

#[test]
fn nobody_can_write_to_what_is_served() {
    let cache = cache();
    let (key, source) = stored(b"contents");
    let file = cache.objects.make(&key, &*source).unwrap();
    if !cache.objects.is_guarded() {
        assert!(!rustix::process::geteuid().is_root());
        return;
    }
    let path = magic_path(&file);
    for flags in [OFlags::WRONLY, OFlags::RDWR, OFlags::RDWR | OFlags::TRUNC] {
        let denied = rustix::fs::open(&path, flags, Mode::empty());
        assert_eq!(denied.unwrap_err(), RawErrno::ROFS);
    }
}

#[test]
fn one_of_another_boot_is_checked_before_it_is_used() {
    let cache = cache();
    let (key, source) = stored(&[7; 100_000]);
    let first = cache.objects.make(&key, &*source).unwrap();
    let age = |bytes: &[u8]| {
        let path = cache.path(&key);
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        std::fs::write(&path, bytes).unwrap();
        let old = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1000);
        let file = File::options().write(true).open(&path).unwrap();
        file.set_modified(old).unwrap();
    };
    // Whole: it stays, and is trusted from then on.
    age(&[7; 100_000]);
    assert!(cache.objects.find(&key, source.len()).is_none());
    let checked = cache.objects.make(&key, &*source).unwrap();
    let same = |a: &File, b: &File| a.metadata().unwrap().ino() == b.metadata().unwrap().ino();
    assert!(same(&checked, &first));
    assert!(cache.objects.find(&key, source.len()).is_some());
    // Torn by a crash: zeros where data should be.
    let mut torn = vec![7; 100_000];
    torn[50_000..].fill(0);
    age(&torn);
    assert_eq!(cache.objects.check(&key).unwrap(), Some(false));
    let made = cache.objects.make(&key, &*source).unwrap();
    assert_eq!(bytes_of(&made), [7; 100_000]);
    assert_eq!(cache.objects.check(&key).unwrap(), Some(true));
    // Cut short.
    age(&[7; 10]);
    let made = cache.objects.make(&key, &*source).unwrap();
    assert_eq!(bytes_of(&made), [7; 100_000]);
}

#[test]
fn holes_stay_holes() {
    let cache = cache();
    let tar = tempfile::tempfile().unwrap();
    tar.write_all_at(&[1; 8192], 512).unwrap();
    let run = |offset, stored| Run {
        offset,
        len: 4096,
        stored,
    };
    let runs = vec![run(1 << 20, 0), run(8 << 20, 4096)];
    let source = SparseRange::new(Arc::new(tar), 512, 16 << 20, runs);
    let mut expected = vec![0; 16 << 20];
    expected[1 << 20..][..4096].fill(1);
    expected[8 << 20..][..4096].fill(1);
    let key = Key(*blake3::hash(&expected).as_bytes());
    let made = cache.objects.make(&key, &source).unwrap();
    assert!(bytes_of(&made) == expected);
    assert!(made.metadata().unwrap().blocks() * 512 < 1 << 20);
    assert_eq!(cache.objects.check(&key).unwrap(), Some(true));
}

#[test]
fn the_least_used_go_when_there_are_too_many() {
    let cache = cache();
    let keys: Vec<Key> = (0..24_u8)
        .map(|i| {
            let (key, source) = stored(&[i; 64 << 10]);
            cache.objects.make(&key, &*source).unwrap();
            let used = Timespec {
                tv_sec: i64::from(i) + 1,
                tv_nsec: 0,
            };
            let times = Timestamps {
                last_access: used,
                last_modification: cache.objects.times().last_modification,
            };
            rustix::fs::utimensat(CWD, cache.path(&key), &times, AtFlags::empty()).unwrap();
            key
        })
        .collect();
    // 24 times 64 KiB were made; there is room for 16.
    assert!(cache.objects.size().unwrap() <= LIMITS.budget + (64 << 10));
    assert!(!cache.path(&keys[0]).exists());
    assert!(cache.path(&keys[23]).exists());
    let freed = cache.objects.prune(256 << 10).unwrap();
    assert!(freed.objects >= 10 && freed.bytes >= 10 * (64 << 10));
    assert!(cache.objects.size().unwrap() <= 256 << 10);
    assert!(cache.path(&keys[23]).exists());
    // A use is noted.
    assert!(cache.objects.find(&keys[23], 64 << 10).is_some());
    let list = cache.objects.list().unwrap();
    let last = list.iter().find(|o| o.key == keys[23]).unwrap();
    assert!(last.used > 1_000_000 && last.len == 64 << 10);
    let freed = cache.objects.retain(|key| *key == keys[23]).unwrap();
    assert_eq!(freed.objects as usize, list.len() - 1);
    assert_eq!(cache.names(), 1);
}

#[test]
fn many_at_once_make_one() {
    let cache = cache();
    let (key, source) = stored(&[3; 1 << 20]);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let made = cache.objects.make(&key, &*source).unwrap();
                assert_eq!(bytes_of(&made), [3; 1 << 20]);
            });
        }
    });
    assert_eq!(cache.names(), 1);
}

#[test]
fn what_fails_leaves_nothing() {
    let cache = cache();
    let (key, _) = stored(b"something else");
    let tar = tempfile::tempfile().unwrap();
    tar.write_all_at(b"short", 0).unwrap();
    let source = FileRange::new(Arc::new(tar), 0, 100);
    let e = cache.objects.make(&key, &source).unwrap_err();
    assert_eq!(e.errno(), Errno::EIO);
    assert_eq!(cache.names(), 0);
    assert!(cache.objects.check(&key).unwrap().is_none());
}

#[test]
fn names_are_keys_and_nothing_else() {
    let key = Key([0xab; 32]);
    assert_eq!(Key::from_name(key.to_string().as_bytes()), Some(key));
    for name in ["", "ab", ".new-1-2", &"g".repeat(64), &"A".repeat(64)] {
        assert_eq!(Key::from_name(name.as_bytes()), None);
    }
}
