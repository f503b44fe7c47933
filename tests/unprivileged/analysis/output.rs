//! What all of these commands print: names, errors, and a Dockerfile.

use super::*;

#[test]
fn names_cannot_act_on_a_terminal() {
    let bench = Bench::new();
    let layer = Tar::new()
        .with(b"a\x1b[31m\nred", b'0', b"needle", |_| {})
        .with(b"b\xff.x\x1b", b'0', b"needle", |_| {})
        .end();
    let other = Tar::new().file("c", b"").end();
    let mut docker = Docker::new("app:1", &[&layer]);
    docker.add(
        &["app:2"],
        &[&layer, &other, &Tar::new().file("c", b"x").end()],
    );
    docker.add(&["app:3"], &[&other]);
    bench.load(&docker.pack());
    for arguments in [
        vec!["du", "-a", "app:1"],
        vec!["du", "--by", "kind", "app:1"],
        vec!["du", "--waste", "app:2"],
        vec!["grep", "needle", "app:1"],
        vec!["grep", "-l", "needle", "app:1"],
        vec!["grep", "--all-layers", "needle", "app:1"],
        vec!["diff", "app:1", "app:3"],
        vec!["diff", "--content", "app:1", "app:3"],
        vec!["diff", "--format", "json", "app:1", "app:3"],
        vec!["dockerfile", "app:1"],
    ] {
        let ran = bench.run(&arguments);
        assert!(!ran.out.contains('\x1b'), "{arguments:?}: {}", ran.out);
        assert!(
            !ran.out.lines().any(|l| l.starts_with("red")),
            "{arguments:?}: {}",
            ran.out
        );
    }
}

#[test]
fn hostile_archives_are_one_line() {
    let bench = Bench::new();
    let bad = Docker::new("bad:1", &[&Tar::new().file("../x", b"").end()]).pack();
    let archive = bench.put("bad.tar", &bad);
    let name = format!("docker-archive:{}", archive.display());
    for (arguments, code) in [
        (vec!["du", &name], 1),
        (vec!["du", "--waste", &name], 1),
        (vec!["grep", "x", &name], 2),
        (vec!["diff", &name, &name], 2),
        (vec!["dockerfile", &name], 1),
    ] {
        let ran = bench.run(&arguments);
        assert_eq!(
            (ran.code, ran.err.lines().count()),
            (code, 1),
            "{arguments:?}: {}",
            ran.err
        );
        assert!(
            ran.err.contains("bad.tar") && ran.out.is_empty(),
            "{arguments:?}: {}",
            ran.err
        );
    }
}

#[test]
fn dockerfiles_name_their_base() {
    let bench = Bench::new();
    let (base, app) = (layer("base"), layer("app"));
    let mut docker = Docker::new("base:1", &[&base]);
    docker.add(&["app:1"], &[&base, &app]);
    bench.load(&docker.pack());
    let text = bench.ok(&["dockerfile", "app:1"]);
    assert!(text.starts_with("# A reconstruction"), "{text}");
    assert!(
        text.contains("\nFROM base:1\n") && text.contains("# layer 2: 3B\n"),
        "{text}"
    );
    assert!(text.ends_with("CMD [\"sh\"]\n"), "{text}");
    let text = bench.ok(&["dockerfile", "base:1"]);
    assert!(text.contains("\nFROM scratch\n"), "{text}");
}
