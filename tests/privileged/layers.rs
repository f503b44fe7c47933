//! Many layers, and layers of every origin.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::common::cli::{self, Strata};
use crate::common::daemon::Daemon;
use crate::common::tree;

fn sh(dir: &Path, script: &str) {
    let mut command = Command::new("sh");
    cli::said(command.args(["-ec", script]).current_dir(dir)).success();
}

#[test]
fn five_hundred_layers_fit_into_1024_descriptors() {
    if !cli::can_mount("layers::five_hundred_layers_fit_into_1024_descriptors") {
        return;
    }
    let strata = Strata::new();
    sh(
        &strata.scratch,
        "mkdir upper work point; for n in $(seq 1 500); do
           mkdir -p l$n/d/e; echo $n >l$n/f$n; echo $n >l$n/d/g$n; echo $n >l$n/d/e/same
         done",
    );
    let lowers: Vec<_> = (1..=500).map(|n| format!("l{n}")).collect();
    let options = format!("lowerdir={},upperdir=upper,workdir=work", lowers.join(":"));
    let point = strata.path("point");
    let mut mount = Command::new("prlimit");
    mount
        .arg("--nofile=1024:1024")
        .arg(env!("CARGO_BIN_EXE_strata"))
        .args(["mount", "-o", &options])
        .arg(&point)
        .current_dir(&strata.scratch);
    cli::said(&mut mount).success();
    let look = || -> std::io::Result<()> {
        assert_eq!(fs::read_dir(&point)?.count(), 501);
        assert_eq!(fs::read_dir(point.join("d"))?.count(), 501);
        assert_eq!(fs::read_to_string(point.join("d/e/same"))?, "1\n");
        for n in (1..=500).step_by(7) {
            let name = point.join(format!("d/g{n}"));
            assert_eq!(fs::read_to_string(&name)?, format!("{n}\n"));
            fs::write(&name, "changed")?;
            fs::remove_file(point.join(format!("f{n}")))?;
        }
        assert_eq!(fs::read_to_string(point.join("d/g498"))?, "changed");
        Ok(())
    };
    let looked = look();
    strata.ok(&["umount".as_ref(), point.as_os_str()]);
    looked.unwrap();
}

#[test]
fn layers_may_be_anywhere_and_overlap() {
    if !cli::can_mount("layers::layers_may_be_anywhere_and_overlap") {
        return;
    }
    let strata = Strata::new();
    let dir = &strata.scratch;
    // A tmpfs that is read-only, an overlay mount, a strata mount, a directory and one within it;
    // names with what option lists are taken apart by.
    sh(
        dir,
        "mkdir ram kernel one two up wk 'a:b,c' upper work; mount -t tmpfs ram ram
         echo ram >ram/ram; mount -o remount,ro ram
         echo one >one/one; mkdir one/in; echo in >one/in/deep; echo odd >'a:b,c/odd'
         mount -t overlay overlay kernel -o lowerdir=one:two,upperdir=up,workdir=wk
         echo kernel >kernel/kernel",
    );
    let inner = strata.mount_directories(&format!("lowerdir={}", dir.join("one").display()));
    let at = |name: &str| dir.join(name).display().to_string();
    let options = format!(
        r"lowerdir={}:{}:{}:{}:{}:{}/a\:b\,c,upperdir={},workdir={}",
        at("ram"),
        at("kernel"),
        inner.point.display(),
        at("one"),
        at("one/in"),
        dir.display(),
        at("upper"),
        at("work"),
    );
    let merged = strata.mount_directories(&options);
    let look = || {
        for name in ["ram", "kernel", "one", "odd", "deep", "in/deep"] {
            let text = fs::read_to_string(merged.path(name)).unwrap();
            let expected = name.rsplit('/').next().unwrap().replace("deep", "in");
            assert_eq!(text.trim(), expected, "{name}");
            fs::write(merged.path(name), "changed").unwrap();
            assert_eq!(fs::read_to_string(merged.path(name)).unwrap(), "changed");
        }
        assert_eq!(fs::read_to_string(dir.join("one/in/deep")).unwrap(), "in\n");
        assert_eq!(fs::read_to_string(dir.join("ram/ram")).unwrap(), "ram\n");
    };
    let looked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(look));
    merged.unmount();
    inner.unmount();
    sh(dir, "umount kernel ram");
    looked.unwrap();
}

/// Enough of them that which has a name is looked up in their listings: files, directories, whiteouts
/// and opaque directories under few names, in every order, beside the kernel.
#[test]
fn many_layers_show_what_the_kernel_shows() {
    if !cli::can_mount("layers::many_layers_show_what_the_kernel_shows") {
        return;
    }
    let strata = Strata::new();
    sh(
        &strata.scratch,
        "mkdir ours theirs upper work
         for l in $(seq 1 12); do
           mkdir -p l$l/sub
           for at in l$l l$l/sub; do
             for n in $(seq 1 40); do
               case $(((l * 7 + n * n * 3 + l * n) % 9)) in
                 0 | 1) echo $l >$at/n$n ;;
                 2 | 3) mkdir $at/n$n; echo $l >$at/n$n/f$((l % 4)) ;;
                 4) mknod $at/n$n c 0 0 ;;
                 5) mkdir $at/n$n; setfattr -n trusted.overlay.opaque -v y $at/n$n; echo $l >$at/n$n/g ;;
                 6) mkdir $at/n$n; ln -s $l $at/n$n/f$((l % 3)) ;;
               esac
             done
           done
         done
         touch -d @1500000000 l1 upper",
    );
    let at = |name: &str| strata.path(name);
    let lowers: Vec<_> = (1..=12)
        .map(|n| at(&format!("l{n}")).display().to_string())
        .collect();
    let lowers = format!("lowerdir={}", lowers.join(":"));
    let theirs = at("theirs");
    let words = [
        "-t",
        "overlay",
        "overlay",
        "-o",
        &lowers,
        theirs.to_str().unwrap(),
    ];
    cli::run("mount", &words).success();
    let expected = std::panic::catch_unwind(|| tree::list(&theirs));
    cli::run("umount", &[&theirs]).success();
    let expected = expected.unwrap();
    let options = format!(
        "{lowers},upperdir={},workdir={}",
        at("upper").display(),
        at("work").display()
    );
    let daemon = Daemon::start(&options, &at("ours"));
    for _ in 0..2 {
        tree::assert_same(
            ("overlayfs", &expected),
            ("strata", &tree::list(&at("ours"))),
        );
    }
    // A name of a lower is hidden by a whiteout; one of none isn't.
    for name in ["n3", "none"] {
        let path = at("ours").join(name);
        if path.is_dir() {
            fs::remove_dir_all(&path).unwrap();
        } else if path.exists() {
            fs::remove_file(&path).unwrap();
        }
        fs::write(&path, b"new").unwrap();
        fs::remove_file(&path).unwrap();
        assert!(!path.exists());
    }
    let there = |name: &str| at("upper").join(name).symlink_metadata().is_ok();
    assert!(there("n3") && !there("none"));
    daemon.unmount();
}
