//! Many layers, and layers of every origin.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::common::cli::{self, Strata};

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
