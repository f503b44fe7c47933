//! Differences and usage beside what GNU tools say of the trees that umoci unpacks.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt as _;
use std::process::Command;

use crate::common::cli::{Stopwatch, Strata, can_mount, have, said};
use crate::common::tree::{Object, Tree, list};
use crate::peers::umoci_unpack;
use crate::samples::{self, Sample};

/// A as only the second has it, D as only the first, C with the words that strata has for it.
fn expected(before: &Tree, after: &Tree) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for path in before.keys().chain(after.keys()) {
        let shown = match path.to_str() {
            Some(text) => format!("/{text}"),
            None => format!("/{}", path.as_os_str().as_bytes().escape_ascii()),
        };
        let said = match (before.get(path), after.get(path)) {
            (None, Some(_)) => "A".to_owned(),
            (Some(_), None) => "D".to_owned(),
            (Some(old), Some(new)) => match words(old, new) {
                words if words.is_empty() => continue,
                words => format!("C {}", words.join(", ")),
            },
            (None, None) => continue,
        };
        found.insert(shown, said);
    }
    found
}

fn words(old: &Object, new: &Object) -> Vec<&'static str> {
    let mut words = Vec::new();
    let same_kind = old.kind == new.kind;
    let content = same_kind
        && ((new.kind == "file" && old.sha256 != new.sha256)
            || old.target != new.target
            || old.rdev != new.rdev);
    let what = match (&new.target, new.rdev) {
        (Some(_), _) => "target",
        (_, Some(_)) => "device",
        _ => "content",
    };
    let all = [
        (!same_kind, "type"),
        (content, what),
        (old.mode != new.mode, "mode"),
        ((old.uid, old.gid) != (new.uid, new.gid), "owner"),
        (old.xattrs != new.xattrs, "xattrs"),
    ];
    words.extend(all.iter().filter(|(is, _)| *is).map(|(_, word)| *word));
    words
}

fn assert_same(ours: &BTreeMap<String, String>, theirs: &BTreeMap<String, String>, what: &str) {
    let paths = ours.keys().chain(theirs.keys());
    let wrong: Vec<_> = paths
        .filter(|path| ours.get(*path) != theirs.get(*path))
        .map(|path| {
            format!(
                "{path}: strata {:?}, GNU {:?}",
                ours.get(path),
                theirs.get(path)
            )
        })
        .collect();
    assert!(wrong.is_empty(), "{what}: {wrong:#?}");
}

fn compare(test: &'static str, sample: &Sample) {
    let mut watch = Stopwatch::start(test);
    let strata = Strata::new();
    strata.load(&sample.archive);
    let mounted = strata.mount(&["--name", "changed"], sample.name);
    crate::story::change(&mounted.point, sample);
    mounted.unmount();
    let container = strata.run(&["diff", "--ignore", "times,config", sample.name, "changed"]);
    assert_eq!(container.err, "");
    strata.ok(&["commit", "changed", "localhost/changed:1"]);
    watch.lap("load, change, commit");

    let root = strata.root.clone();
    let mut trees = Vec::new();
    for name in [sample.name, "localhost/changed:1"] {
        let layout = strata.path(&format!("layout-{}", trees.len()));
        strata.ok(&[
            "save",
            "--format",
            "oci-dir",
            "-o",
            layout.to_str().unwrap(),
            name,
        ]);
        let index = std::fs::read_to_string(layout.join("index.json")).unwrap();
        let index: serde_json::Value = serde_json::from_str(&index).unwrap();
        let tag = index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"].clone();
        let bundle = strata.path(&format!("bundle-{}", trees.len()));
        let unpacked = umoci_unpack(&layout, tag.as_str().unwrap(), &bundle);
        trees.push((list(&unpacked), unpacked));
    }
    watch.lap("umoci");
    assert!(root.exists());

    let mut expected = expected(&trees[0].0, &trees[1].0);
    let image = strata.run(&[
        "diff",
        "--ignore",
        "times,config",
        sample.name,
        "localhost/changed:1",
    ]);
    assert_eq!(image.err, "");
    watch.lap("strata diff");
    let parse = |text: &str| -> BTreeMap<String, String> {
        let line = |line: &str| {
            let (letter, rest) = line.split_once(' ').unwrap();
            match rest.rsplit_once(" (") {
                Some((path, words)) if letter == "C" => (
                    path.to_owned(),
                    format!("C {}", words.trim_end_matches(')')),
                ),
                _ => (rest.to_owned(), letter.to_owned()),
            }
        };
        text.lines().map(line).collect()
    };
    let mut found = parse(&image.out);
    // umoci makes the root itself where no layer names it.
    found.remove("/");
    expected.remove("/");
    assert_same(&found, &expected, "images");
    let mut of_container = parse(&container.out);
    of_container.remove("/");
    assert_same(&of_container, &expected, "the image and the container");

    // Bytes of files, each inode once, as du(1) would have them.
    let script = "find \"$1\" -xdev -type f -printf '%i %s\\n' | sort -u | awk '{s += $2} END {printf \"%d\", s}'";
    let du = said(
        Command::new("sh")
            .args(["-c", script, "sh"])
            .arg(&trees[0].1),
    )
    .success();
    let ours = strata.ok(&["du", "-s", sample.name]);
    assert_eq!(ours, format!("{du}\t/\n"));
    watch.lap("du");
}

#[test]
fn the_small_image() {
    const TEST: &str = "clients::analysis::the_small_image";
    if !(can_mount(TEST) && have(TEST, &["umoci", "find", "awk"])) {
        return;
    }
    if let Some(sample) = samples::small(TEST) {
        compare(TEST, &sample);
    }
}

#[test]
fn the_big_image() {
    const TEST: &str = "clients::analysis::the_big_image";
    if !(can_mount(TEST) && have(TEST, &["umoci", "find", "awk"])) {
        return;
    }
    if let Some(sample) = samples::big(TEST) {
        compare(TEST, &sample);
    }
}
