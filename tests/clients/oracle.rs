//! The tree oracle must see each kind of difference: a checker that nothing makes fail proves nothing.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::common::cli::said;
use crate::common::tree::{differences, list};

fn sample() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    fs::create_dir_all(root.join("d/e")).unwrap();
    fs::write(root.join("d/file"), "contents").unwrap();
    fs::write(root.join("linked"), "two names").unwrap();
    fs::hard_link(root.join("linked"), root.join("d/other-name")).unwrap();
    fs::write(root.join("d/same"), "two names").unwrap();
    symlink("target", root.join("link")).unwrap();
    said(Command::new("mkfifo").arg(root.join("fifo"))).success();
    let mut touch = Command::new("find");
    touch
        .arg(root)
        .args(["-exec", "touch", "-h", "-d", "@1000000000", "{}", "+"]);
    said(&mut touch).success();
    dir
}

fn seen_after(change: impl FnOnce(&Path)) -> String {
    let (left, right) = (sample(), sample());
    assert_eq!(
        differences(&list(left.path()), &list(right.path())),
        Vec::<String>::new()
    );
    change(right.path());
    differences(&list(left.path()), &list(right.path())).join("\n")
}

#[test]
fn sees_each_difference() {
    let touch = |root: &Path| {
        said(
            Command::new("touch")
                .args(["-d", "@1000000001"])
                .arg(root.join("d/file")),
        )
        .success();
    };
    assert_eq!(
        seen_after(touch),
        "differs:    \"d/file\" mtime 1000000000 | 1000000001"
    );
    let mode = |root: &Path| {
        fs::set_permissions(root.join("d/e"), fs::Permissions::from_mode(0o2700)).unwrap()
    };
    assert!(seen_after(mode).contains("differs:    \"d/e\" mode 755 | 2700"));
    let contents = |root: &Path| fs::write(root.join("d/file"), "contentz").unwrap();
    assert!(seen_after(contents).contains("sha256"));
    let removed = |root: &Path| fs::remove_dir(root.join("d/e")).unwrap();
    assert!(seen_after(removed).contains("only left:  \"d/e\" dir"));
    let added = |root: &Path| fs::create_dir(root.join("d/f")).unwrap();
    assert!(seen_after(added).contains("only right: \"d/f\" dir"));
    let retarget = |root: &Path| {
        fs::remove_file(root.join("link")).unwrap();
        symlink("elsewhere", root.join("link")).unwrap();
    };
    assert!(seen_after(retarget).contains("target Some(\"target\") | Some(\"elsewhere\")"));
    let unlink = |root: &Path| {
        fs::remove_file(root.join("d/other-name")).unwrap();
        fs::copy(root.join("linked"), root.join("d/other-name")).unwrap();
    };
    assert!(seen_after(unlink).contains("\"linked\" links Some((2, \"d/other-name\")) | None"));
    let relink = |root: &Path| {
        fs::remove_file(root.join("d/other-name")).unwrap();
        fs::rename(root.join("d/same"), root.join("d/other-name")).unwrap();
        fs::hard_link(root.join("linked"), root.join("d/same")).unwrap();
    };
    assert!(
        seen_after(relink)
            .contains("\"linked\" links Some((2, \"d/other-name\")) | Some((2, \"d/same\"))")
    );
    let kind = |root: &Path| {
        fs::remove_file(root.join("fifo")).unwrap();
        fs::write(root.join("fifo"), "").unwrap();
    };
    assert!(seen_after(kind).contains("kind \"fifo\" | \"file\""));
}

#[test]
fn sees_extended_attributes() {
    let set = |root: &Path| {
        let value = b"v".as_slice();
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(root.join("d/file"), "user.x", value, flags).unwrap();
    };
    assert!(seen_after(set).contains("xattrs {} | {\"user.x\": [118]}"));
}
