//! What is read without having been opened: directories, and files of mounts that can't change.

use std::fs::{self, File, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::sync::Arc;

use stratafs::fuse::{Pages, ServeOptions};
use stratafs::layer::Layer;
use stratafs::layer::dir::{DirForms, DirLayer};
use stratafs::union::{Union, UnionOptions};

use crate::common::cli::{can_mount, run};
use crate::common::live::{Live, dirs, image_layer, transport};

const FILES: &str = "mkdir -p d/e; for i in $(seq 300); do echo $i >d/$i; done; \
    head -c 3000000 /dev/urandom >large; truncate -s 1M holes; printf x >>holes; : >empty";

fn read_only(layer: impl FnOnce(&std::path::Path) -> Arc<dyn Layer>, pages: Pages) -> Live {
    let dir = dirs();
    let layer = layer(dir.path());
    let union = Union::new(vec![layer], None, UnionOptions::default()).unwrap();
    let options = ServeOptions {
        pages,
        ..ServeOptions::default()
    };
    Live::serve_as(transport(), dir, union, options)
}

fn image(dir: &std::path::Path) -> Arc<dyn Layer> {
    image_layer(dir, FILES)
}

fn directory(dir: &std::path::Path) -> Arc<dyn Layer> {
    let lower = dir.join("lower");
    run("sh", &["-ec", &format!("cd {}; {FILES}", lower.display())]).success();
    Arc::new(DirLayer::open(&lower, DirForms::default()).unwrap())
}

#[test]
fn who_reads_a_read_only_mount_again_asks_for_nothing() {
    if !can_mount("unopened::who_reads_a_read_only_mount_again_asks_for_nothing") {
        return;
    }
    for layer in [image, directory] {
        let live = read_only(layer, Pages::Own);
        let lower = live.dir.path().join("lower");
        let same = || {
            for i in 1..301 {
                let text = fs::read_to_string(live.path(&format!("d/{i}"))).unwrap();
                assert_eq!(text, format!("{i}\n"));
            }
            for name in ["large", "holes", "empty"] {
                assert!(fs::read(live.path(name)).unwrap() == fs::read(lower.join(name)).unwrap());
            }
        };
        let first = live.counted(same);
        assert!(first.get("open").is_none_or(|n| *n == 1), "{first:?}");
        assert!(first["read"] > 300, "{first:?}");
        let again = live.counted(same);
        assert!(
            !again.contains_key("open") && !again.contains_key("read"),
            "{again:?}"
        );
        assert_eq!(live.server.status().handles, 0);
        let find = || assert!(run("find", &[live.point.to_str().unwrap()]).ok);
        find();
        let again = live.counted(find);
        assert!(
            !again.contains_key("opendir") && !again.contains_key("readdir"),
            "{again:?}"
        );
    }
}

#[test]
fn unopened_files_are_read_in_every_way() {
    if !can_mount("unopened::unopened_files_are_read_in_every_way") {
        return;
    }
    for layer in [image, directory] {
        let live = read_only(layer, Pages::Own);
        let lower = live.dir.path().join("lower");
        let expected = fs::read(lower.join("large")).unwrap();
        let mut direct = OpenOptions::new();
        let direct = direct
            .read(true)
            .custom_flags(libc::O_DIRECT)
            .open(live.path("large"));
        let mut text = vec![0; 8192];
        direct.unwrap().read_exact_at(&mut text, 4096).unwrap();
        assert!(text == expected[4096..12_288]);
        // The first byte that isn't in the hole.
        let holes = File::open(live.path("holes")).unwrap();
        let data = rustix::fs::seek(&holes, rustix::fs::SeekFrom::Data(0)).unwrap();
        assert!(data > 0 && data <= 1 << 20, "{data}");
        holes.sync_all().unwrap();
        let refused = OpenOptions::new().append(true).open(live.path("large"));
        assert_eq!(refused.unwrap_err().raw_os_error(), Some(libc::EROFS));
        // A program, which is mapped.
        let copied = fs::read(live.path("d/1")).unwrap();
        assert_eq!(copied, b"1\n");
        let mut file = File::open(live.path("large")).unwrap();
        fs::read_dir(live.path("d"))
            .unwrap()
            .for_each(|e| drop(e.unwrap()));
        let mut text = Vec::new();
        file.read_to_end(&mut text).unwrap();
        assert!(text == expected);
    }
}

#[test]
fn pages_are_shared_where_that_is_wanted() {
    if !can_mount("unopened::pages_are_shared_where_that_is_wanted") {
        return;
    }
    let live = read_only(directory, Pages::Shared);
    let counted = live.counted(|| drop(fs::read(live.path("large")).unwrap()));
    assert!(
        counted["open"] == 1 && !counted.contains_key("read"),
        "{counted:?}"
    );
}

/// Many read one large directory at once, each from its own place on, while names come and go.
#[test]
fn a_directory_is_read_by_many_without_a_handle() {
    if !can_mount("unopened::a_directory_is_read_by_many_without_a_handle") {
        return;
    }
    let live = Live::new("mkdir d; cd d; seq 1 20000 | xargs touch");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..5 {
                    let mut seen = std::collections::HashSet::new();
                    for entry in fs::read_dir(live.path("d")).unwrap() {
                        let name = entry.unwrap().file_name();
                        assert!(seen.insert(name.clone()), "{name:?} twice");
                    }
                    let there =
                        (1..20_001).filter(|i| seen.contains(std::ffi::OsStr::new(&i.to_string())));
                    assert_eq!(there.count(), 20_000);
                }
            });
        }
        for i in 0..500 {
            fs::write(live.path(&format!("d/new{i}")), b"").unwrap();
            fs::remove_file(live.path(&format!("d/new{i}"))).unwrap();
        }
    });
    assert_eq!(live.server.status().handles, 0);
}
