//! The whole story of an image: load, mount, run its application, change, commit, mount the new image,
//! save; and at each step another tool must agree.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::cli::{Mounted, Stopwatch, Strata, can_mount, chroot, have, said};
use crate::common::tree::{self, Tree, assert_same, expect, expect_absent};
use crate::peers::{Podman, skopeo_copy, skopeo_layers, umoci_unpack, validate};
use crate::samples::{self, Sample};

const NEW: &str = "localhost/changed:1";
const TOOLS: &[&str] = &["chroot", "setfattr", "setcap"];

#[test]
fn small_image() {
    const TEST: &str = "clients::story::small_image";
    if can_mount(TEST)
        && have(TEST, TOOLS)
        && let Some(sample) = samples::small(TEST)
    {
        story(TEST, &sample);
    }
}

#[test]
fn big_image() {
    const TEST: &str = "clients::story::big_image";
    if can_mount(TEST)
        && have(TEST, TOOLS)
        && let Some(sample) = samples::big(TEST)
    {
        story(TEST, &sample);
    }
}

fn story(test: &'static str, sample: &Sample) {
    let mut watch = Stopwatch::start(test);
    let strata = Strata::new();
    let printed = strata.ok(&["load".as_ref(), "-i".as_ref(), sample.archive.as_os_str()]);
    assert_eq!(printed, format!("Loaded image: {}\n", sample.name));
    let loaded = strata.blobs();
    strata.assert_blobs_intact(&loaded);
    watch.lap("load");

    let mounted = strata.mount(&["--name", "story"], sample.name);
    let original = mounted.tree();
    assert!(
        original.len() >= sample.objects,
        "only {} objects",
        original.len()
    );
    watch.lap("mount, the whole tree");
    if have(test, &["skopeo", "umoci"]) {
        original_is_what_umoci_unpacks(&strata, sample, &original);
    }
    watch.lap("the same tree by umoci");

    let said_before = mounted.chroot(sample.application).success();
    assert_same(
        ("before the application ran", &original),
        ("after", &mounted.tree()),
    );
    watch.lap("the application in a chroot, the tree again");
    change(&mounted.point, sample);
    watch.lap("changes");
    let changed = mounted.tree();
    assert_changes(sample, &original, &changed);
    let said_after = mounted.chroot(sample.application).success();
    if sample.name.contains("node-app") {
        assert_eq!(
            said_before, said_after,
            "the changes don't touch what the application loads"
        );
    }
    watch.lap("the changed tree, the application again");

    let id = commit(&strata);
    watch.lap("commit");
    assert_same(
        ("before the commit", &changed),
        ("the container after it", &mounted.tree()),
    );
    committed_image_mounts(&strata, sample, &changed, &said_after);
    mounted.unmount();
    let again = strata.mount(&[], "story");
    assert_same(
        ("the container", &changed),
        ("the same container mounted again", &again.tree()),
    );
    again.unmount();
    described(&strata, &id);
    watch.lap("the trees of the container, the new image, a container of it");

    let archive = save(&strata);
    watch.lap("save, twice");
    if have(test, &["skopeo", "umoci", "oci-image-tool"]) {
        readable_by_others(&strata, &archive, &changed);
    }
    watch.lap("skopeo, oci-image-tool, umoci");
    if have(test, &["podman", "runc"]) {
        podman_runs(&strata, &archive, sample, &said_after);
    }
    watch.lap("podman load and run");
    loads_into_another_store(&archive, &changed);
    strata.assert_blobs_intact(&loaded);
    watch.lap("load of the saved archive, its tree");
}

/// An independent reading of the archive gives the same tree as the mount.
fn original_is_what_umoci_unpacks(strata: &Strata, sample: &Sample, original: &Tree) {
    let layout = strata.path("original");
    skopeo_copy(
        &format!("docker-archive:{}", sample.archive.display()),
        &format!("oci:{}:original", layout.display()),
    );
    let unpacked = umoci_unpack(&layout, "original", &strata.path("original-bundle"));
    same_as_unpacked(
        ("umoci's tree of the archive", &unpacked),
        ("the mount", original),
    );
    fs::remove_dir_all(strata.path("original-bundle")).unwrap();
    fs::remove_dir_all(layout).unwrap();
}

/// umoci makes the root directory itself when no layer names it, with the time of the unpacking.
fn same_as_unpacked(unpacked: (&str, &Path), mounted: (&str, &Tree)) {
    let mut left = tree::list(unpacked.1);
    let mut right = mounted.1.clone();
    for root in [left.get_mut(Path::new("")), right.get_mut(Path::new(""))]
        .into_iter()
        .flatten()
    {
        root.mtime = 0;
    }
    assert_same((unpacked.0, &left), (mounted.0, &right));
}

pub(super) fn change(root: &Path, sample: &Sample) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/change.sh");
    let mut shell = Command::new("bash");
    shell.arg("-eu").arg(script).current_dir(root);
    for (purpose, path) in sample.changes {
        shell.env(format!("CHANGE_{purpose}"), path);
    }
    said(&mut shell).success();
}

/// The mount shows what the script did (the rest is what the commit is compared with).
fn assert_changes(sample: &Sample, before: &Tree, after: &Tree) {
    let text = |path: &str| {
        expect(after, path, "file")
            .sha256
            .clone()
            .unwrap_or_default()
    };
    assert_eq!(
        expect(after, "opt/new/hello", "file").links,
        Some((2, PathBuf::from("opt/new/hello")))
    );
    assert_eq!(expect(after, "opt/new/sparse", "file").size, 16 << 20);
    assert_eq!(expect(after, "opt/new/null", "char").rdev, Some((1, 3)));
    assert_eq!(expect(after, "opt/new/disk", "block").rdev, Some((7, 200)));
    assert_eq!(
        expect(after, "opt/new/dangling", "symlink").mtime,
        -157_766_400
    );
    assert_eq!(expect(after, "opt/new/setgid", "dir").mode, 0o2755);
    assert_eq!(expect(after, "opt/new/setuid", "file").mode, 0o4711);
    let er = expect(after, "opt/new/deep/er", "dir");
    assert_eq!((er.uid, er.gid), (4_000_000, 4_000_001));
    expect(after, "opt/new/fifo", "fifo");
    let latin = Path::new(OsStr::from_bytes(b"opt/new/not-utf8-\xff\xfe"));
    assert!(after.contains_key(latin), "a name that is not UTF-8");
    assert!(
        expect(after, "opt/new/capable", "file")
            .xattrs
            .contains_key(OsStr::new("security.capability"))
    );
    let note = expect(after, "opt/new/hello", "file")
        .xattrs
        .get(OsStr::new("user.note"))
        .cloned();
    assert_eq!(note, Some(b"some text".to_vec()));

    let touched = sample.change("TOUCH");
    let (old, new) = (
        expect(before, touched, "file"),
        expect(after, touched, "file"),
    );
    assert_eq!(
        (&old.sha256, old.links.clone()),
        (&new.sha256, new.links.clone()),
        "{touched}"
    );
    assert_eq!(new.mtime, 1_355_314_332, "{touched}");
    assert_eq!(expect(after, sample.change("TRUNCATE"), "file").size, 0);
    for gone in ["DELETE_FILE", "DELETE_DIR", "RENAME_FILE", "RENAME_DIR"] {
        expect_absent(after, sample.change(gone));
    }
    let moved = sample.change("RENAME_DIR");
    let inside = |tree: &Tree, dir: &str| tree.keys().filter(|path| path.starts_with(dir)).count();
    assert_eq!(
        inside(after, &format!("{moved}.moved")),
        inside(before, moved) + 1,
        "{moved}"
    );
    assert_ne!(
        text(sample.change("RENAME_OVER")),
        expect(before, sample.change("RENAME_OVER"), "file")
            .sha256
            .clone()
            .unwrap()
    );
    assert_eq!(inside(after, sample.change("REPLACE_DIR")), 2);
    expect(after, sample.change("DIR_TO_FILE"), "file");
    expect(after, sample.change("FILE_TO_DIR"), "dir");
    expect_absent(after, "opt/brief");
    let linked = expect(after, "opt/linked", "file").links.clone();
    assert_eq!(linked, expect(after, sample.change("LINK"), "file").links);
}

fn commit(strata: &Strata) -> String {
    let printed = strata.ok(&[
        "commit",
        "-m",
        "a message",
        "-a",
        "An Author <a@b.c>",
        "-c",
        "ENV ADDED=yes",
        "-c",
        "LABEL k=v",
        "story",
        NEW,
    ]);
    let id = printed.trim_end().to_owned();
    assert!(
        id.strip_prefix("sha256:")
            .is_some_and(|hex| hex.len() == 64),
        "commit printed {printed:?}"
    );
    id
}

/// The new image shows exactly the tree that the container showed, read-only and as a new container.
fn committed_image_mounts(strata: &Strata, sample: &Sample, changed: &Tree, application: &str) {
    let read_only = strata.mount(&["-o", "ro"], NEW);
    assert_same(
        ("the container", changed),
        ("the committed image", &read_only.tree()),
    );
    assert_eq!(read_only.chroot(sample.application).success(), application);
    let refused = fs::write(read_only.path("opt/x"), "x").unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::EROFS));
    read_only.unmount();
    let container: Mounted = strata.mount(&["--name", "child"], NEW);
    assert_same(
        ("the container", changed),
        ("a container of the committed image", &container.tree()),
    );
    fs::write(container.path("opt/new/hello"), "written in the child").unwrap();
    container.unmount();
    strata.ok(&["rm", "child"]);
}

/// images, history and inspect know the new image.
fn described(strata: &Strata, id: &str) {
    let images = strata.ok(&["images"]);
    let short = id.trim_start_matches("sha256:").get(..12).unwrap();
    assert!(
        images
            .lines()
            .any(|line| line.contains("localhost/changed") && line.contains(short)),
        "{images}"
    );
    let history = strata.ok(&["history", NEW]);
    assert!(
        history
            .lines()
            .nth(1)
            .is_some_and(|row| row.contains("a message")),
        "{history}"
    );
    let inspected: serde_json::Value = serde_json::from_str(&strata.ok(&["inspect", NEW])).unwrap();
    let image = &inspected[0];
    assert_eq!(image["Id"], id);
    assert_eq!(image["Author"], "An Author <a@b.c>");
    let environment = image["Config"]["Env"].as_array().unwrap();
    assert!(
        environment.iter().any(|variable| variable == "ADDED=yes"),
        "{environment:?}"
    );
}

/// Saved twice: the same bytes.
fn save(strata: &Strata) -> PathBuf {
    let [first, second] = ["saved.tar", "saved-again.tar"].map(|name| strata.path(name));
    for file in [&first, &second] {
        strata.ok(&[
            "save".as_ref(),
            "-o".as_ref(),
            file.as_os_str(),
            NEW.as_ref(),
        ]);
    }
    assert_eq!(
        tree::sha256(&first).unwrap(),
        tree::sha256(&second).unwrap(),
        "two saves differ"
    );
    fs::remove_file(second).unwrap();
    first
}

/// skopeo reads the store and the archive with the same digests; umoci unpacks the same tree.
fn readable_by_others(strata: &Strata, archive: &Path, changed: &Tree) {
    validate(&strata.root);
    let store = format!("oci:{}:{NEW}", strata.root.display());
    let layers = skopeo_layers(&store);
    let from_store = strata.path("from-store");
    skopeo_copy(&store, &format!("oci:{}:changed", from_store.display()));
    validate(&from_store);
    let unpacked = umoci_unpack(&from_store, "changed", &strata.path("bundle"));
    same_as_unpacked(
        ("umoci's tree of the store", &unpacked),
        ("the container", changed),
    );
    fs::remove_dir_all(strata.path("bundle")).unwrap();

    let directory = strata.path("saved-dir");
    strata.ok(&[
        "save".as_ref(),
        "--format".as_ref(),
        "oci-dir".as_ref(),
        "-o".as_ref(),
        directory.as_os_str(),
        NEW.as_ref(),
    ]);
    validate(&directory);
    assert_eq!(
        skopeo_layers(&format!("oci:{}:{NEW}", directory.display())),
        layers
    );
    let oci = strata.path("saved-oci.tar");
    strata.ok(&[
        "save".as_ref(),
        "--format".as_ref(),
        "oci-archive".as_ref(),
        "-o".as_ref(),
        oci.as_os_str(),
        NEW.as_ref(),
    ]);
    assert_eq!(
        skopeo_layers(&format!("oci-archive:{}:{NEW}", oci.display())),
        layers
    );
    fs::remove_file(oci).unwrap();

    // The default archive is both at once.
    assert_eq!(
        skopeo_layers(&format!("oci-archive:{}:{NEW}", archive.display())),
        layers
    );
    let from_archive = strata.path("from-archive");
    skopeo_copy(
        &format!("docker-archive:{}", archive.display()),
        &format!("oci:{}:changed", from_archive.display()),
    );
    validate(&from_archive);
    let unpacked = umoci_unpack(&from_archive, "changed", &strata.path("bundle"));
    same_as_unpacked(
        ("umoci's tree of the saved archive", &unpacked),
        ("the container", changed),
    );
    for dir in ["bundle", "from-store", "from-archive", "saved-dir"] {
        fs::remove_dir_all(strata.path(dir)).unwrap();
    }
}

/// podman loads the archive and runs the application with the same result as the chroot.
fn podman_runs(strata: &Strata, archive: &Path, sample: &Sample, application: &str) {
    let podman = Podman::new(&strata.path("podman"));
    let printed = podman
        .run(&["load", "-q", "-i", archive.to_str().unwrap()])
        .success();
    assert!(printed.contains(NEW), "podman load printed {printed:?}");
    let mut arguments = vec!["run", "--rm", "--network", "host", NEW];
    arguments.extend(sample.application);
    assert_eq!(podman.run(&arguments).success(), application);
}

/// The archive loads into an empty store of ours with the same tree.
fn loads_into_another_store(archive: &Path, changed: &Tree) {
    let other = Strata::new();
    assert_eq!(other.load(archive), format!("Loaded image: {NEW}\n"));
    let mounted = other.mount(&["-o", "ro"], NEW);
    assert_same(
        ("the container", changed),
        ("the saved image in another store", &mounted.tree()),
    );
    let said = chroot(&mounted.point, &["/bin/sh", "-c", "cat /opt/new/deep/er/x"]).success();
    assert_eq!(said, "x");
    mounted.unmount();
}
