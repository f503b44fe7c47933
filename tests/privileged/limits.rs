//! The daemon with 1,024 descriptors, soft and hard: a tree with many more files is walked and
//! changed, and more files are open at a time.
//!
//! `STRATA_FILES` changes how many.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::cli::{self, can_mount, have};
use crate::common::daemon::Daemon;
use crate::common::random::number;

const IN_A_DIRECTORY: u64 = 100;

fn path(dir: &Path, n: u64) -> PathBuf {
    let at = n / IN_A_DIRECTORY;
    dir.join(format!("{}/{}/{n}", at % 40, at))
}

#[test]
fn few_descriptors_are_enough_for_many_files() {
    let test = "limits::few_descriptors_are_enough_for_many_files";
    if !can_mount(test) || !have(test, &["prlimit"]) {
        return;
    }
    let files = number("STRATA_FILES", 6000);
    let dir = tempfile::TempDir::with_prefix("strata-limits-").unwrap();
    let [lower, point] = ["lower", "mount"].map(|n| dir.path().join(n));
    for name in ["lower", "upper", "work", "mount"] {
        fs::create_dir(dir.path().join(name)).unwrap();
    }
    for n in 0..files {
        let path = path(&lower, n);
        if n % IN_A_DIRECTORY == 0 {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
        }
        fs::write(path, n.to_string()).unwrap();
    }
    let mut limited = Command::new("prlimit");
    limited.args([
        "--nofile=1024:1024",
        env!("CARGO_BIN_EXE_strata"),
        "mount",
        "-f",
        "-o",
    ]);
    limited.arg(format!(
        "metacopy=on,redirect_dir=on,lowerdir={0}/lower,upperdir={0}/upper,workdir={0}/work",
        dir.path().display()
    ));
    let daemon = Daemon::run(limited.arg(&point), &point);
    let limits = fs::read_to_string(format!("/proc/{}/limits", daemon.pid())).unwrap();
    let line = limits
        .lines()
        .find(|l| l.starts_with("Max open files"))
        .unwrap();
    assert_eq!(line.matches("1024").count(), 2, "{line}");

    let found = cli::run("find", &[point.as_os_str(), "-type".as_ref(), "f".as_ref()]).success();
    assert_eq!(found.lines().count() as u64, files);
    for n in 0..files {
        let path = path(&point, n);
        match n % 5 {
            0 => OpenOptions::new()
                .append(true)
                .open(path)
                .unwrap()
                .write_all(b"!")
                .unwrap(),
            1 => fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap(),
            2 => fs::rename(&path, path.with_extension("moved")).unwrap(),
            3 => fs::remove_file(path).unwrap(),
            _ => {}
        }
    }
    for n in 0..files {
        let path = path(&point, n);
        let moved = path.with_extension("moved");
        let text = fs::read_to_string(if n % 5 == 2 { &moved } else { &path }).ok();
        let expected = match n % 5 {
            0 => Some(format!("{n}!")),
            3 => None,
            _ => Some(n.to_string()),
        };
        assert_eq!(text, expected, "{n}");
    }

    // Of the upper and of the lower, unlinked ones too.
    let mut open = Vec::new();
    for n in (0..files).filter(|n| matches!(n % 5, 0 | 4)).take(3000) {
        let file =
            File::open(path(&point, n)).unwrap_or_else(|e| panic!("{} are open: {e}", open.len()));
        if n % 25 == 0 {
            fs::remove_file(path(&point, n)).unwrap();
        }
        open.push((n, file));
    }
    for (n, file) in &mut open {
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text.trim_end_matches('!'), n.to_string());
    }
    drop(open);
    daemon.unmount();
}
