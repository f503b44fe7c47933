//! Extended attributes that nothing has: who compares whole trees asks for them all the same.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{lgetxattr, llistxattr};
use rustix::io::Errno;
use stratafs::fuse::ServeOptions;
use stratafs::layer::dir::{DirForms, DirLayer};
use stratafs::union::{Union, UnionOptions};

use crate::common::cli::{can_mount, run};
use crate::common::live::{Live, dirs, transport};

const FILES: usize = 1200;

fn live(script: &str, options: ServeOptions) -> Live {
    let dir = dirs();
    let lower = dir.path().join("lower");
    let fill = format!(
        "cd {}; mkdir -p d/e; seq 1200 | while read i; do : >d/$i; done; {script}",
        lower.display()
    );
    run("sh", &["-ec", &fill]).success();
    let layer = Arc::new(DirLayer::open(&lower, DirForms::default()).unwrap());
    let union = Union::new(vec![layer], None, UnionOptions::default()).unwrap();
    Live::serve_as(transport(), dir, union, options)
}

fn capabilities(path: &Path) -> io::Result<usize> {
    Ok(lgetxattr(path, "security.capability", &mut [0; 64])?)
}

/// Asks each file, and says what the last one has answered.
fn ask_all(live: &Live) -> Errno {
    let mut last = None;
    for i in 1..=FILES {
        let path = live.path(&format!("d/{i}"));
        last = lgetxattr(&path, "security.capability", &mut [0; 64]).err();
        match llistxattr(&path, &mut [0_u8; 64]) {
            Ok(0) | Err(Errno::OPNOTSUPP) => {}
            other => panic!("{other:?}"),
        }
    }
    last.unwrap()
}

#[test]
fn where_nothing_has_attributes_nobody_is_asked_for_long() {
    if !can_mount("xattrs::where_nothing_has_attributes_nobody_is_asked_for_long") {
        return;
    }
    let wanted = || ServeOptions {
        spare_xattrs: true,
        ..ServeOptions::default()
    };
    let none = live("", wanted());
    let until = Instant::now() + Duration::from_secs(60);
    while ask_all(&none) != Errno::OPNOTSUPP {
        assert!(Instant::now() < until, "the kernel goes on asking");
    }
    let counts = none.counted(|| assert_eq!(ask_all(&none), Errno::OPNOTSUPP));
    for op in ["getxattr", "listxattr"] {
        assert!(!counts.contains_key(op), "{counts:?}");
    }
    // One object is enough, wherever it is; and nothing is decided where it isn't wanted.
    let one = live(
        "setfattr -n user.a -v b d/e; : >d/e/f; setfattr -n user.x -v yz d/e/f",
        wanted(),
    );
    let unasked = live("", ServeOptions::default());
    for live in [one, unasked] {
        for _ in 0..5 {
            assert_eq!(ask_all(&live), Errno::NODATA);
            std::thread::sleep(Duration::from_millis(50));
        }
        let found = capabilities(&live.path("d/e"));
        assert_eq!(
            found.unwrap_err().kind(),
            io::Error::from(Errno::NODATA).kind()
        );
        if live.path("d/e/f").exists() {
            let mut value = [0_u8; 8];
            assert_eq!(lgetxattr(live.path("d/e/f"), "user.x", &mut value), Ok(2));
        }
    }
}

#[test]
fn who_checks_access_first_is_told_of_no_acl() {
    if !can_mount("xattrs::who_checks_access_first_is_told_of_no_acl") {
        return;
    }
    let options = ServeOptions {
        spare_xattrs: true,
        ..ServeOptions::default()
    };
    let live = live("chmod 664 d/*; chown 1000:1000 d/*", options);
    for i in 1..=1000 {
        let path = live.path(&format!("d/{i}"));
        let asked = lgetxattr(&path, "security.capability", &mut [0_u8; 64]);
        assert_eq!(asked, Err(Errno::NODATA));
    }
    // The thousandth led to a look, which has found nothing by now; the kernel was not told.
    std::thread::sleep(Duration::from_millis(500));
    for i in 1001..=1050 {
        let path = live.path(&format!("d/{i}"));
        let acl = lgetxattr(&path, "system.posix_acl_access", &mut [0_u8; 64]);
        assert_eq!(acl, Err(Errno::NODATA));
        std::fs::read(&path).unwrap();
    }
    assert_eq!(ask_all(&live), Errno::OPNOTSUPP);
}

#[test]
fn without_attributes_the_kernel_asks_once() {
    if !can_mount("xattrs::without_attributes_the_kernel_asks_once") {
        return;
    }
    let options = ServeOptions {
        noxattrs: true,
        ..ServeOptions::default()
    };
    let live = live("setfattr -n user.x -v yz d/1", options);
    let counts = live.counted(|| assert_eq!(ask_all(&live), Errno::OPNOTSUPP));
    for op in ["getxattr", "listxattr"] {
        assert!(counts.get(op).is_none_or(|n| *n == 1), "{counts:?}");
    }
}
