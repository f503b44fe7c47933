//! `user.strata.layer`: which layers an object of a mount is from.

use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use stratafs::image::Digest;

use crate::common::build::{Docker, Tar};
use crate::common::cli::{Strata, can_mount};

fn layer_of(path: &Path) -> Result<String, rustix::io::Errno> {
    let mut value = [0; 1000];
    let path = CString::new(path.as_os_str().as_bytes()).unwrap();
    let n = rustix::fs::lgetxattr(&path, "user.strata.layer", &mut value)?;
    Ok(String::from_utf8(value[..n].to_vec()).unwrap())
}

#[test]
fn the_layer_is_told_when_it_is_asked_for_by_name() {
    if !can_mount("privileged::provenance") {
        return;
    }
    let one = Tar::new().dir("d/").file("d/a", b"a").file("b", b"b").end();
    let two = Tar::new().file("d/new", b"n").file("b", b"bb").end();
    let strata = Strata::new();
    let archive = strata.path("two.tar");
    fs::write(&archive, Docker::new("two:1", &[&one, &two]).pack()).unwrap();
    strata.load(&archive);
    let mount = strata.mount(&["--name", "box"], "two:1");
    let first = format!("1 {}", Digest::of(&one));
    let second = format!("2 {}", Digest::of(&two));
    for (path, expected) in [
        ("d", &first),
        ("d/a", &first),
        ("b", &second),
        ("d/new", &second),
    ] {
        assert_eq!(layer_of(&mount.path(path)).unwrap(), *expected, "{path}");
        // The same as the command.
        let told = strata.ok(&["which", "--format", "{{.Layer}} {{.DiffID}}", "two:1", path]);
        assert!(told.lines().any(|line| line == expected), "{path}: {told}");
    }
    let mut names = [0; 100];
    let b = mount.path("b");
    assert_eq!(rustix::fs::llistxattr(&b, &mut names).unwrap(), 0);
    let flags = rustix::fs::XattrFlags::empty();
    let set = rustix::fs::setxattr(&b, "user.strata.layer", b"x", flags);
    assert_eq!(set.unwrap_err(), rustix::io::Errno::PERM);
    let removed = rustix::fs::removexattr(&b, "user.strata.layer");
    assert_eq!(removed.unwrap_err(), rustix::io::Errno::NODATA);
    fs::write(mount.path("own"), "x").unwrap();
    fs::write(mount.path("d/a"), "changed").unwrap();
    assert_eq!(layer_of(&mount.path("own")).unwrap(), "container");
    let both = format!("container\n{first}");
    assert_eq!(layer_of(&mount.path("d/a")).unwrap(), both);
    let told = strata.ok(&["which", "--format", "{{.Layer}} {{.Did}}", "box", "/d/a"]);
    assert_eq!(
        told.lines().next(),
        Some("container changed content, times")
    );
    assert_eq!(strata.ok(&["cat", "box:/d/a"]), "changed");
    assert_eq!(strata.ok(&["ls", "box"]), "b\nd\nown\n");
    assert_eq!(strata.ok(&["ls", "box@1"]), "b\nd\n");
    // Directories of the host have no such thing.
    let dir = strata.path("dir");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("f"), "f").unwrap();
    let plain = strata.mount_directories(&format!("lowerdir={}", dir.display()));
    let none = layer_of(&plain.path("f")).unwrap_err();
    assert_eq!(none, rustix::io::Errno::NODATA);
}
