//! An image that Docker 20.10 committed and saved: whiteouts, an opaque directory, a hard link to a lower
//! file that came up, a device, a fifo, a symlink, a renamed directory.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::common::cli::{Strata, can_mount};
use crate::common::tree::{Tree, expect, expect_absent};

const NAME: &str = "localhost/committed:1";

#[test]
fn committed_by_docker_20_10() {
    if !can_mount("clients::golden::committed_by_docker_20_10") {
        return;
    }
    let strata = Strata::new();
    let packed =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/committed.docker-20.10.tar.zst");
    // As it was packed for the repository, and as Docker wrote it.
    let plain = strata.path("committed.tar");
    let mut bytes = Vec::new();
    zstd::Decoder::new(fs::File::open(&packed).unwrap())
        .unwrap()
        .read_to_end(&mut bytes)
        .unwrap();
    fs::write(&plain, bytes).unwrap();
    for archive in [&plain, &packed] {
        assert_eq!(strata.load(archive), format!("Loaded image: {NAME}\n"));
    }
    let mounted = strata.mount(&["-o", "ro"], NAME);
    assert_tree(&mounted.tree());
    assert_eq!(fs::read_to_string(mounted.path("newf")).unwrap(), "1\n");
    assert_eq!(
        fs::read_to_string(mounted.path("etc/passwd"))
            .unwrap()
            .lines()
            .last(),
        Some("x")
    );
    mounted.unmount();
    let history = strata.ok(&["history", "--no-trunc", NAME]);
    assert!(history.contains("a message"), "{history}");
}

fn assert_tree(tree: &Tree) {
    let top: Vec<&str> = tree
        .keys()
        .filter_map(|path| path.to_str())
        .filter(|path| !path.contains('/'))
        .collect();
    assert_eq!(
        top,
        [
            "", "bin", "dev", "etc", "ff", "hard", "newf", "nod", "proc", "root", "sl", "sys",
            "tmp", "usr", "var"
        ]
    );
    // Whiteouts, the opaque directory, the renamed directory.
    expect_absent(tree, "bin/vi");
    expect_absent(tree, "usr/bin");
    expect(tree, "usr/bin2", "dir");
    let below = |dir: &str| tree.keys().filter(|path| path.starts_with(dir)).count() - 1;
    assert_eq!(below("tmp"), 0);
    assert!(
        tree.keys()
            .all(|path| !path.to_string_lossy().contains(".wh.")),
        "a marker shows as a file"
    );
    // Kinds and attributes.
    expect(tree, "etc/n/m", "dir");
    assert_eq!(expect(tree, "ff", "fifo").mode, 0o644);
    assert_eq!(expect(tree, "nod", "char").rdev, Some((1, 3)));
    assert_eq!(
        expect(tree, "sl", "symlink").target.as_deref(),
        Some("a".as_ref())
    );
    assert_eq!(expect(tree, "root", "dir").mode, 0o700);
    assert_eq!(expect(tree, "newf", "file").size, 2);
    // Docker's upper layer has bin/busybox with a second name; the other names stay with the layer below.
    let busybox = expect(tree, "bin/busybox", "file");
    assert_eq!(busybox.links, Some((2, PathBuf::from("bin/busybox"))));
    assert_eq!(expect(tree, "hard", "file").links, busybox.links);
    let lower = expect(tree, "bin/ash", "file");
    assert_eq!(
        lower.links.as_ref().map(|(_, first)| first.clone()),
        Some(PathBuf::from("bin/["))
    );
    assert_eq!(lower.sha256, busybox.sha256);
    assert_eq!(
        (lower.size, lower.mode, lower.mtime),
        (1_982_256, 0o755, 1_700_000_000)
    );
    let names = tree
        .values()
        .filter(|object| object.links == lower.links)
        .count();
    assert_eq!(
        names, 267,
        "names of the lower busybox that are still visible"
    );
}
