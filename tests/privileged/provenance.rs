//! `user.strata.layer`: what each layer did to a path of a mount.

use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::common::build::{Docker, Tar};
use crate::common::cli::{Mounted, Strata, can_mount};

fn layer_of(path: &Path) -> Result<String, rustix::io::Errno> {
    let mut value = [0; 1000];
    let path = CString::new(path.as_os_str().as_bytes()).unwrap();
    let n = rustix::fs::lgetxattr(&path, "user.strata.layer", &mut value)?;
    Ok(String::from_utf8(value[..n].to_vec()).unwrap())
}

/// The attribute's lines, and what `which` tells of the path.
fn both(strata: &Strata, mount: &Mounted<'_>, image: &str, path: &str) -> (String, String) {
    let rows = strata.ok(&["which", "--format", "json", image, path]);
    let line = |row: &str| {
        let row: serde_json::Value = serde_json::from_str(row).unwrap();
        let fields = ["Layer", "DiffID", "Did"].map(|field| match &row[field] {
            serde_json::Value::String(text) => text.clone(),
            serde_json::Value::Null => String::new(),
            number => number.to_string(),
        });
        let fields = fields.into_iter().filter(|field| !field.is_empty());
        fields.collect::<Vec<_>>().join(" ")
    };
    let told: Vec<String> = rows.lines().map(line).collect();
    (layer_of(&mount.path(path)).unwrap(), told.join("\n"))
}

/// What was done, without the layers' digests.
fn deeds(value: &str) -> Vec<String> {
    let words = |line: &str| {
        let words = line.split(' ').filter(|w| !w.starts_with("sha256:"));
        words.collect::<Vec<_>>().join(" ")
    };
    value.lines().map(words).collect()
}

#[test]
fn the_attribute_tells_the_same_as_which() {
    if !can_mount("privileged::provenance") {
        return;
    }
    let mode = |tar: Tar, name: &str, data: &[u8]| {
        tar.with(name.as_bytes(), b'0', data, |block| {
            block[100..108].copy_from_slice(b"0000600\0");
        })
    };
    let one = Tar::new().dir("d/").file("d/a", b"a").file("b", b"b");
    let one = one.file("mode", b"m").file("back", b"x").dir("opaque/");
    let one = one.file("opaque/old", b"o").file("same", b"s").end();
    let two = Tar::new().file("d/new", b"n").file("b", b"bb");
    let two = mode(two, "mode", b"m").file(".wh.back", b"").end();
    let three = Tar::new().dir("opaque/").file("opaque/.wh..wh..opq", b"");
    let three = three.file("opaque/new", b"o").file("back", b"again");
    let three = three.dir("d/").file("same", b"s").end();
    let strata = Strata::new();
    let archive = strata.path("image.tar");
    let docker = Docker::new("three:1", &[&one, &two, &three]);
    fs::write(&archive, docker.pack()).unwrap();
    strata.load(&archive);
    let mount = strata.mount(&["--name", "box"], "three:1");
    for (path, expected) in [
        ("d", &["3 written again", "1 added"][..]),
        ("d/a", &["1 added"]),
        ("d/new", &["2 added"]),
        ("b", &["2 changed content", "1 added"]),
        ("mode", &["2 changed mode", "1 added"]),
        ("back", &["3 added", "2 removed", "1 added"]),
        ("opaque", &["3 written again, made opaque", "1 added"]),
        ("opaque/new", &["3 added"]),
        ("same", &["3 written again", "1 added"]),
    ] {
        let (layer, told) = both(&strata, &mount, "three:1", path);
        assert_eq!(layer, told, "{path}");
        assert_eq!(deeds(&layer), expected, "{path}");
    }
    let mut names = [0; 100];
    let b = mount.path("b");
    assert_eq!(rustix::fs::llistxattr(&b, &mut names).unwrap(), 0);
    let flags = rustix::fs::XattrFlags::empty();
    let set = rustix::fs::setxattr(&b, "user.strata.layer", b"x", flags);
    assert_eq!(set.unwrap_err(), rustix::io::Errno::PERM);
    let removed = rustix::fs::removexattr(&b, "user.strata.layer");
    assert_eq!(removed.unwrap_err(), rustix::io::Errno::NODATA);
    // What the container does itself.
    fs::write(mount.path("own"), "x").unwrap();
    fs::write(mount.path("d/a"), "changed").unwrap();
    let owner_only = std::os::unix::fs::PermissionsExt::from_mode(0o400);
    fs::set_permissions(mount.path("b"), owner_only).unwrap();
    fs::rename(mount.path("opaque"), mount.path("moved")).unwrap();
    fs::remove_file(mount.path("mode")).unwrap();
    fs::write(mount.path("mode"), "m").unwrap();
    for (path, expected) in [
        ("own", &["container added"][..]),
        ("d/a", &["container changed content, times", "1 added"]),
        (
            "b",
            &["container changed mode", "2 changed content", "1 added"],
        ),
        ("moved", &["container added"]),
        ("moved/new", &["container added"]),
        ("back", &["3 added", "2 removed", "1 added"]),
    ] {
        let (layer, told) = both(&strata, &mount, "box", path);
        assert_eq!(layer, told, "{path}");
        assert_eq!(deeds(&layer), expected, "{path}");
    }
    for path in [".", "d", "mode"] {
        let (layer, told) = both(&strata, &mount, "box", path);
        assert_eq!(layer, told, "{path}");
    }
    // A file that is open and has no name any more.
    let open = fs::File::open(mount.path("d/new")).unwrap();
    fs::remove_file(mount.path("d/new")).unwrap();
    let mut value = [0; 100];
    let gone = rustix::fs::fgetxattr(&open, "user.strata.layer", &mut value);
    assert_eq!(gone.unwrap_err(), rustix::io::Errno::NODATA);
}

#[test]
fn directories_are_told_by_their_paths() {
    if !can_mount("privileged::provenance") {
        return;
    }
    let strata = Strata::new();
    let path = |name: &str| strata.path(name);
    for dir in ["low", "low/d", "high", "high/d", "upper", "work"] {
        fs::create_dir(path(dir)).unwrap();
    }
    for (file, text) in [("low/f", "f"), ("low/gone", "g"), ("low/d/in", "i")] {
        fs::write(path(file), text).unwrap();
    }
    fs::write(path("high/f"), "longer").unwrap();
    let device = rustix::fs::FileType::CharacterDevice;
    let mode = rustix::fs::Mode::empty();
    rustix::fs::mknodat(rustix::fs::CWD, path("high/gone"), device, mode, 0).unwrap();
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(path("high/d"), "trusted.overlay.opaque", b"y", flags).unwrap();
    let options = ["high", "low"].map(|name| path(name).display().to_string());
    let [high, low] = options;
    let (upper, work) = (path("upper"), path("work"));
    let mount = strata.mount_directories(&format!(
        "lowerdir={high}:{low},upperdir={},workdir={}",
        upper.display(),
        work.display()
    ));
    fs::write(mount.path("gone"), "new").unwrap();
    let layer = |name: &str| layer_of(&mount.path(name)).unwrap();
    let f = layer("f");
    let lines: Vec<_> = f.lines().collect();
    assert!(
        lines[0].starts_with(&format!("2 {high} changed content")),
        "{f}"
    );
    assert_eq!(lines[1], format!("1 {low} added"));
    let added = format!("upper added\n2 {high} removed\n1 {low} added");
    assert_eq!(layer("gone"), added);
    let d = layer("d");
    assert!(d.lines().next().unwrap().ends_with(", made opaque"), "{d}");
    fs::write(mount.path("f"), "mine").unwrap();
    assert!(
        layer("f").starts_with("upper changed content"),
        "{}",
        layer("f")
    );
    let mut names = [0; 100];
    assert_eq!(
        rustix::fs::llistxattr(mount.path("f"), &mut names).unwrap(),
        0
    );
}

#[test]
fn secrets_of_a_container_are_found_too() {
    if !can_mount("privileged::provenance") {
        return;
    }
    let one = Tar::new().file("removed", b"secret 1\n");
    let one = one
        .file("replaced", b"secret 2\n")
        .file("mode", b"secret 3\n");
    let one = one.file("kept", b"secret 4\n").end();
    let strata = Strata::new();
    let archive = strata.path("image.tar");
    fs::write(&archive, Docker::new("one:1", &[&one]).pack()).unwrap();
    strata.load(&archive);
    let mount = strata.mount(&["--name", "box"], "one:1");
    fs::remove_file(mount.path("removed")).unwrap();
    fs::write(mount.path("replaced"), "secret 5\n").unwrap();
    let owner_only = std::os::unix::fs::PermissionsExt::from_mode(0o400);
    fs::set_permissions(mount.path("mode"), owner_only).unwrap();
    fs::create_dir(mount.path("d")).unwrap();
    fs::write(mount.path("d/new"), "secret 6\n").unwrap();
    let mut found: Vec<String> = strata
        .ok(&["grep", "--all-layers", "secret", "box"])
        .lines()
        .map(str::to_owned)
        .collect();
    found.sort();
    assert_eq!(
        found,
        [
            "container (visible):/d/new:secret 6",
            "container (visible):/replaced:secret 5",
            "layer 1 (removed by container):/removed:secret 1",
            "layer 1 (replaced by container):/replaced:secret 2",
            "layer 1 (visible):/kept:secret 4",
            "layer 1 (visible):/mode:secret 3",
        ]
    );
    let json = strata.ok(&["grep", "--all-layers", "--format", "json", "6", "box:/d"]);
    assert!(json.contains("\"Layer\":\"container\""), "{json}");
    let image = strata.ok(&["grep", "--all-layers", "-l", "secret", "one:1"]);
    assert_eq!(image.lines().count(), 4, "{image}");
}
