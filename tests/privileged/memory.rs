//! What stays in memory, and that what doesn't is as good as what does.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};

use crate::common::cli::{can_mount, run, said};
use crate::common::live::{Live, NODES_KEPT};

/// 4,250 small files in 85 directories.
const MANY: &str = "for d in $(seq 85); do mkdir -p a/$d; (cd a/$d; seq 50 | while read f; \
     do echo $d/$f >$f; done); done";

/// More than are kept of what could go.
const KEPT: usize = NODES_KEPT + 256;

fn sh(dir: &std::path::Path, script: &str) -> String {
    let mut sh = std::process::Command::new("sh");
    said(sh.args(["-ec", script]).current_dir(dir)).success()
}

#[test]
fn nodes_leave_memory_and_come_back() {
    if !can_mount("memory::nodes_leave_memory_and_come_back") {
        return;
    }
    let kinds = [
        Live::image,
        Live::read_only_image,
        Live::new,
        Live::cached,
        Live::read_only,
    ];
    for live in kinds.map(|kind| kind(MANY)) {
        let seen = sh(&live.point, "find . | wc -l; cat a/*/* | wc -l");
        assert_eq!(seen, "4337\n4250\n");
        let held: Vec<_> = (1..86)
            .map(|d| File::open(live.path(&format!("a/{d}/7"))).unwrap())
            .collect();
        let numbers = |d: u64| fs::metadata(live.path(&format!("a/{d}/7"))).unwrap().ino();
        let before: Vec<_> = (1..86).map(numbers).collect();
        sh(
            &live.point,
            "cat a/*/* >/dev/null; find . -name 'x*'; stat a/*/1* >/dev/null",
        );
        let nodes = live.server.status().nodes;
        assert!(nodes < KEPT, "{nodes}");
        for (d, file) in (1..).zip(&held) {
            assert_eq!(file.metadata().unwrap().ino(), before[d - 1]);
            let mut text = [0; 16];
            let n = file.read_at(&mut text, 0).unwrap();
            assert_eq!(String::from_utf8_lossy(&text[..n]), format!("{d}/7\n"));
        }
        let after: Vec<_> = (1..86).map(numbers).collect();
        assert_eq!(before, after);
        drop(held);
        fs::write("/proc/sys/vm/drop_caches", "2").unwrap();
        assert_eq!(sh(&live.point, "find . | wc -l"), "4337\n");
    }
}

/// Everything that can be done to what the kernel knows and the server has nothing of.
const CHANGES: &str = "
    cd a
    for d in $(seq 1 10); do mv $d moved$d; done
    for d in $(seq 11 20); do for f in 1 2 3; do rm $d/$f; done; done
    for d in $(seq 21 30); do for f in 1 2 3; do echo more >>$d/$f; done; done
    for d in $(seq 31 40); do for f in 1 2 3; do mv $d/$f moved1/$d-$f; done; done
    for d in $(seq 41 50); do rm -r $d; mkdir $d; echo new >$d/1; done
    for d in $(seq 51 60); do for f in 1 2 3; do ln $d/$f $d/link$f; done; done
    for d in $(seq 61 70); do chmod 600 $d/*; done
    for d in $(seq 71 80); do echo cut >$d/1; ln -sf 2 $d/3; mv $d/4 $d/5; done
    for d in $(seq 2 10); do echo below >>moved$d/9; mv moved$d/8 $d; done
    mv 81 82/below; mv 82 83/below; echo deep >>83/below/below/1";

/// All that is to be seen of a tree.
const SHOWN: &str = "find . -printf '%p %y %m %n %s %l\\n' | grep -v ' d ' | sort; find . -type d | sort; \
     find . -type f | sort | xargs cat";

#[test]
fn what_has_left_memory_can_be_changed() {
    if !can_mount("memory::what_has_left_memory_can_be_changed") {
        return;
    }
    for live in [Live::image, Live::new, Live::cached].map(|kind| kind(MANY)) {
        let plain = live.dir.path().join("plain");
        run(
            "cp",
            &["-a".as_ref(), live.path(".").as_os_str(), plain.as_ref()],
        )
        .success();
        sh(
            &live.point,
            "find . -ls >/dev/null; cat a/*/* >/dev/null; ls -l a/* >/dev/null",
        );
        let lower = sh(&live.dir.path().join("lower"), SHOWN);
        for dir in [&live.point, &plain] {
            sh(dir, CHANGES);
        }
        assert!(sh(&live.point, SHOWN) == sh(&plain, SHOWN));
        sh(&live.point, "cat a/*/* >/dev/null 2>&1 || true");
        fs::write("/proc/sys/vm/drop_caches", "2").unwrap();
        assert!(sh(&live.point, SHOWN) == sh(&plain, SHOWN));
        assert!(sh(&live.dir.path().join("lower"), SHOWN) == lower);
    }
}

#[test]
fn a_directory_of_many_entries_is_listed_once_and_right() {
    if !can_mount("memory::a_directory_of_many_entries_is_listed_once_and_right") {
        return;
    }
    let live = Live::image("mkdir d; cd d; seq 1 20000 | xargs touch");
    let names = || fs::read_dir(live.path("d")).unwrap().count();
    assert_eq!(names(), 20_000);
    run(
        "sh",
        &[
            "-c",
            &format!("cd {}/d && touch new && rm 77 78", live.point.display()),
        ],
    )
    .success();
    assert_eq!(names(), 19_999);
    assert!(live.server.status().nodes < KEPT);
}
