//! diff of two images, trees and layers.

use super::*;

/// Two images that differ in every way.
fn pair() -> (Vec<u8>, Vec<u8>) {
    let mode = |h: &mut [u8]| h[100..107].copy_from_slice(b"0000600");
    let owner = |h: &mut [u8]| h[108..115].copy_from_slice(b"0000005");
    let times = |h: &mut [u8]| h[136..147].copy_from_slice(b"14000000000");
    let before = Tar::new()
        .file("content", b"one\ntwo\nthree\n")
        .file("binary", b"\0a")
        .file("mode", b"m")
        .file("owner", b"o")
        .file("times", b"t")
        .file("xattrs", b"x")
        .link(b'2', "target", "a")
        .file("type", b"t")
        .dir("gone/")
        .file("gone/file", b"g")
        .file("same", b"s")
        .end();
    let after = Tar::new()
        .file("content", b"one\n2\nthree\n")
        .file("binary", b"\0b")
        .with(b"mode", b'0', b"m", mode)
        .with(b"owner", b'0', b"o", owner)
        .with(b"times", b'0', b"t", times)
        .pax(&record("SCHILY.xattr.user.a", b"1"))
        .file("xattrs", b"x")
        .link(b'2', "target", "b")
        .dir("type/")
        .file("type/in", b"i")
        .file("same", b"s")
        .file("new", b"n")
        .end();
    (before, after)
}

#[test]
fn trees_and_configurations_are_compared() {
    let bench = Bench::new();
    let (before, after) = pair();
    let mut docker = Docker::new("app:1", &[&before]);
    docker.add(&["app:2"], &[&after]);
    bench.load(&docker.pack());
    let same = bench.run(&["diff", "app:1", "app:1"]);
    assert_eq!((same.code, same.out.as_str()), (0, ""));
    let different = bench.run(&["diff", "app:1", "app:2"]);
    assert_eq!(different.code, 1, "{}", different.err);
    let expected = "C /binary (content)\nC /content (content)\nD /gone\nD /gone/file\nC /mode (mode)\n\
        A /new\nC /owner (owner)\nC /target (target)\nC /times (times)\nC /type (type, mode)\n\
        A /type/in\nC /xattrs (xattrs)\n";
    assert_eq!(different.out, expected);
    let ignoring = bench.run(&[
        "diff",
        "--ignore",
        "times,owner,mode,xattrs",
        "app:1",
        "app:2",
    ]);
    assert!(!ignoring.out.contains("/times") && ignoring.out.contains("C /type (type)"));
    let stat = bench.run(&["diff", "--stat", "app:1", "app:2"]);
    assert_eq!(stat.code, 1);
    assert!(
        stat.out.starts_with("2 added, 8 changed, 2 deleted, +"),
        "{}",
        stat.out
    );
    let content = bench.run(&["diff", "--content", "app:1", "app:2"]).out;
    assert!(
        content.contains("C /binary (content)\nBinary files differ\n"),
        "{content}"
    );
    assert!(
        content.contains("--- a/content\n+++ b/content\n@@ -1,3 +1,3 @@\n one\n-two\n+2\n three\n"),
        "{content}"
    );
    assert!(
        content.contains("--- /dev/null\n+++ b/new\n@@ -0,0 +1 @@\n+n\n"),
        "{content}"
    );
    let rows = json_lines(
        &bench
            .run(&["diff", "--format", "json", "app:1", "app:2"])
            .out,
    );
    assert_eq!(rows[4]["Name"], "/mode");
    assert_eq!(
        (&rows[4]["Before"]["Mode"], &rows[4]["After"]["Mode"]),
        (&json!("0644"), &json!("0600"))
    );
    let part = bench.run(&["diff", "app:1:/content", "app:2:/content"]);
    assert_eq!((part.code, part.out.as_str()), (1, "C / (content)\n"));
    for wrong in [
        ["diff", "app:1", "nothing"],
        ["diff", "app:1:/nothing", "app:2"],
    ] {
        let ran = bench.run(&wrong);
        assert_eq!((ran.code, ran.err.lines().count()), (2, 1), "{}", ran.err);
    }

    let (one, two) = (bench.image("app:1"), bench.image("app:2"));
    let (a, b) = (one.tree().unwrap(), two.tree().unwrap());
    let (x, y) = (
        a.find(b"/", Last::Follow).unwrap(),
        b.find(b"/", Last::Follow).unwrap(),
    );
    trees((&a, &x), (&b, &y), &mut |_| Ok(())).unwrap();
    assert_eq!(one.blob_opens() + two.blob_opens(), 0);
}

#[test]
fn layers_and_configurations_are_compared() {
    let bench = Bench::new();
    bench.load(&Docker::new("app:1", &refs(&wasteful())).pack());
    let layers = bench.run(&["diff", "app:1@1", "app:1@2"]);
    assert_eq!(layers.code, 1, "{}", layers.err);
    assert!(
        layers.out.contains("C /etc/passwd (content)"),
        "{}",
        layers.out
    );
    let stacks = bench.run(&["diff", "app:1@..2", "app:1@..3"]);
    assert_eq!(stacks.out, "A /copy.txt\nD /lib/x.so\n");
    let archive = bench.dir.path().join("archive.tar");
    let other = format!("docker-archive:{}", archive.display());
    assert_eq!(bench.run(&["diff", "app:1", &other]).code, 0);
}
