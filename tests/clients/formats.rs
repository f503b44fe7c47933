//! The same image in the forms that other tools write, and in a store that other tools write to.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::common::cli::{Strata, can_mount, have, run, said};
use crate::common::tree::{Tree, assert_same};
use crate::peers::{Podman, skopeo_copy, validate};
use crate::samples::{self, Sample};

const NAME: &str = "localhost/forms:1";

/// The tree that the archive of the sample shows when it is loaded as it is.
fn reference(sample: &Sample) -> Tree {
    let strata = Strata::new();
    strata.load(&sample.archive);
    strata.mount(&["-o", "ro"], sample.name).tree()
}

fn shows(form: &str, archive: &Path, expected: &Tree) {
    let strata = Strata::new();
    let printed = strata.load(archive);
    assert_eq!(printed, format!("Loaded image: {NAME}\n"), "{form}");
    strata.assert_blobs_intact(&[]);
    assert_same(
        ("the image as docker saves it", expected),
        (form, &strata.mount(&["-o", "ro"], NAME).tree()),
    );
}

/// Pipes a file through a compressor.
fn compressed(program: &str, file: &Path, suffix: &str) -> PathBuf {
    let mut to = file.as_os_str().to_owned();
    to.push(suffix);
    let output = fs::File::create(&to).unwrap();
    let status = Command::new(program)
        .arg("-c")
        .arg(file)
        .stdin(Stdio::null())
        .stdout(output)
        .status()
        .unwrap();
    assert!(status.success(), "{program}");
    to.into()
}

#[test]
fn archives_and_layouts_of_skopeo() {
    const TEST: &str = "clients::formats::archives_and_layouts_of_skopeo";
    if !(can_mount(TEST) && have(TEST, &["skopeo", "gzip"])) {
        return;
    }
    let Some(sample) = samples::small(TEST) else {
        return;
    };
    let expected = reference(&sample);
    let scratch = Strata::new();
    let from = format!("docker-archive:{}", sample.archive.display());
    let path = |name: &str| scratch.path(name);

    let docker = path("docker.tar");
    skopeo_copy(
        &from,
        &format!("docker-archive:{}:{NAME}", docker.display()),
    );
    shows("skopeo's docker-archive", &docker, &expected);
    shows(
        "a docker-archive in gzip",
        &compressed("gzip", &docker, ".gz"),
        &expected,
    );
    let layout = path("layout");
    skopeo_copy(&from, &format!("oci:{}:{NAME}", layout.display()));
    shows("an OCI layout with gzip layers", &layout, &expected);
    let archive = path("oci.tar");
    skopeo_copy(&from, &format!("oci-archive:{}:{NAME}", archive.display()));
    shows("an OCI archive with gzip layers", &archive, &expected);
    let zstd = path("zstd");
    let to = format!("oci:{}:{NAME}", zstd.display());
    run(
        "skopeo",
        &[
            "--insecure-policy",
            "copy",
            "-q",
            "--dest-compress-format",
            "zstd",
            &from,
            &to,
        ],
    )
    .success();
    shows("an OCI layout with zstd layers", &zstd, &expected);
}

#[test]
fn standard_input() {
    const TEST: &str = "clients::formats::standard_input";
    if !can_mount(TEST) {
        return;
    }
    let Some(sample) = samples::small(TEST) else {
        return;
    };
    let strata = Strata::new();
    let pipe = |arguments: &str| {
        let mut shell = Command::new("sh");
        let line = format!("cat \"$1\" | \"$2\" --root \"$3\" load {arguments}");
        shell.args([
            OsStr::new("-c"),
            line.as_ref(),
            "sh".as_ref(),
            sample.archive.as_os_str(),
        ]);
        shell.args([
            OsStr::new(env!("CARGO_BIN_EXE_strata")),
            strata.root.as_os_str(),
        ]);
        said(&mut shell).success()
    };
    assert_eq!(pipe("-q"), format!("Loaded image: {}\n", sample.name));
    assert_eq!(pipe("-q -i -"), format!("Loaded image: {}\n", sample.name));
    assert_same(
        ("the archive as a file", &reference(&sample)),
        (
            "the archive from a pipe",
            &strata.mount(&["-o", "ro"], sample.name).tree(),
        ),
    );
}

#[test]
fn archives_of_podman() {
    const TEST: &str = "clients::formats::archives_of_podman";
    if !(can_mount(TEST) && have(TEST, &["podman"])) {
        return;
    }
    let Some(sample) = samples::small(TEST) else {
        return;
    };
    let expected = reference(&sample);
    let scratch = Strata::new();
    let podman = Podman::new(&scratch.path("podman"));
    podman
        .run(&["load", "-q", "-i", sample.archive.to_str().unwrap()])
        .success();
    podman
        .run(&["tag", "localhost/busybox:latest", NAME])
        .success();
    podman
        .run(&["tag", "localhost/busybox:latest", "localhost/second:2"])
        .success();
    podman.run(&["rmi", "localhost/busybox:latest"]).success();
    let save = |format: &str, file: &str, names: &[&str]| {
        let file = scratch.path(file);
        let mut arguments = vec![
            "save",
            "-q",
            "--format",
            format,
            "-o",
            file.to_str().unwrap(),
        ];
        arguments.extend(names);
        podman.run(&arguments).success();
        file.clone()
    };
    shows(
        "podman's docker-archive",
        &save("docker-archive", "docker.tar", &[NAME]),
        &expected,
    );
    shows(
        "podman's OCI archive",
        &save("oci-archive", "oci.tar", &[NAME]),
        &expected,
    );

    // Two names of one image in one file.
    let both = save("docker-archive", "both.tar", &[NAME, "localhost/second:2"]);
    let strata = Strata::new();
    let printed = strata.load(&both);
    assert!(
        printed.contains(&format!("Loaded image: {NAME}\n")),
        "{printed}"
    );
    assert!(
        printed.contains("Loaded image: localhost/second:2\n"),
        "{printed}"
    );
    assert_same(
        ("podman's", &expected),
        (
            "by its second name",
            &strata.mount(&["-o", "ro"], "localhost/second:2").tree(),
        ),
    );
}

#[test]
fn images_that_other_tools_put_into_the_store() {
    const TEST: &str = "clients::formats::images_that_other_tools_put_into_the_store";
    if !(can_mount(TEST) && have(TEST, &["skopeo", "umoci", "oci-image-tool"])) {
        return;
    }
    let Some(sample) = samples::small(TEST) else {
        return;
    };
    let strata = Strata::new();
    strata.load(&sample.archive);
    let expected = strata.mount(&["-o", "ro"], sample.name).tree();
    // Compressed by skopeo: other blobs, the same diffIDs.
    let from = format!("docker-archive:{}", sample.archive.display());
    skopeo_copy(&from, &format!("oci:{}:{NAME}", strata.root.display()));
    let image = format!("{}:{NAME}", strata.root.display());
    run("umoci", &["tag", "--image", &image, "localhost/tagged:2"]).success();
    for name in [NAME, "localhost/tagged:2"] {
        let shown = strata.mount(&["-o", "ro"], name).tree();
        assert_same(("the loaded image", &expected), (name, &shown));
    }
    let listed = strata.ok(&["images"]);
    assert!(
        listed.contains("localhost/forms") && listed.contains("localhost/tagged"),
        "{listed}"
    );
    let container = strata.mount(&["--name", "box"], NAME);
    fs::write(container.path("added"), "x").unwrap();
    strata.ok(&["commit", "box", "localhost/onto:3"]);
    container.unmount();
    validate(&strata.root);
    strata.assert_blobs_intact(&[]);
}

#[test]
fn a_commit_is_reproducible() {
    const TEST: &str = "clients::formats::a_commit_is_reproducible";
    if !can_mount(TEST) {
        return;
    }
    let Some(sample) = samples::small(TEST) else {
        return;
    };
    let strata = Strata::new();
    strata.load(&sample.archive);
    let container = strata.mount(&["--name", "box"], sample.name);
    fs::write(container.path("added"), "x").unwrap();
    fs::remove_file(container.path("etc/motd")).unwrap();
    let commit = |name: &str| {
        let mut command = strata.command();
        command
            .env("SOURCE_DATE_EPOCH", "1700000000")
            .args(["commit", "box", name]);
        said(&mut command).success()
    };
    let while_mounted = commit("localhost/a:1");
    container.unmount();
    assert_eq!(
        while_mounted,
        commit("localhost/b:1"),
        "mounted and not mounted"
    );
    let inspected: serde_json::Value =
        serde_json::from_str(&strata.ok(&["inspect", "localhost/a:1"])).unwrap();
    assert_eq!(inspected[0]["Created"], "2023-11-14T22:13:20Z");
}
