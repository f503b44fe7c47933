//! grep, of stored images and of archives.

use super::*;

#[test]
fn contents_are_searched() {
    let bench = Bench::new();
    bench.load(&Docker::new("app:1", &refs(&wasteful())).pack());
    assert_eq!(
        bench.ok(&["grep", "-n", "^user", "app:1"]),
        "/etc/passwd:2:user:x:1:1\n"
    );
    assert_eq!(
        bench.ok(&["grep", "-c", "x:", "app:1:/etc/passwd"]),
        "/etc/passwd:2\n"
    );
    assert_eq!(
        bench.ok(&["grep", "-l", "-i", "SAME", "app:1"]),
        "/etc/a.txt\n/copy.txt\n"
    );
    assert_eq!(
        bench.ok(&["grep", "-l", "--include", "c*", "same", "app:1"]),
        "/copy.txt\n"
    );
    assert_eq!(
        bench.ok(&["grep", "-l", "--exclude", "c*", "same", "app:1"]),
        "/etc/a.txt\n"
    );
    assert_eq!(
        bench.ok(&["grep", "-F", "x:0:", "app:1"]),
        "/etc/passwd:root:x:0:0\n"
    );
    let none = bench.run(&["grep", "secret", "app:1"]);
    assert_eq!(
        (none.code, none.out.as_str(), none.err.as_str()),
        (1, "", "")
    );
    let all = bench.ok(&["grep", "--all-layers", "secret", "app:1"]);
    let expected = "layer 1 (removed by layer 2):/etc/secret.pem:secret\n\
        layer 1 (replaced by layer 2):/lib/x.so: binary file matches\n\
        layer 2 (removed by layer 3):/lib/x.so: binary file matches\n";
    assert_eq!(all, expected);
    let rows =
        json_lines(&bench.ok(&["grep", "--all-layers", "--format", "json", "BEGIN", "app:1"]));
    assert_eq!(
        rows,
        [
            json!({"Path": "/etc/secret.pem", "Layer": 1, "State": "removed by layer 2", "Line": 1,
            "Text": "-----BEGIN KEY-----"})
        ]
    );
    let text = bench.ok(&["grep", "-a", "--all-layers", "-c", "secret", "app:1:/lib"]);
    assert!(
        text.contains("layer 1 (replaced by layer 2):/lib/x.so:1\n"),
        "{text}"
    );
    for wrong in [
        vec!["grep", "x", "nothing"],
        vec!["grep", "x", "app:1:/nothing"],
        vec!["grep", "--all-layers", "x", "app:1:/nothing"],
        vec!["grep", "-E", "(", "app:1"],
    ] {
        let ran = bench.run(&wrong);
        assert_eq!((ran.code, ran.err.lines().count()), (2, 1), "{}", ran.err);
    }
}

#[test]
fn compressed_archives_are_searched_without_loading() {
    let mut layout = Layout::new();
    let layers = wasteful();
    let zipped: Vec<_> = layers.iter().map(|l| gzip(l)).collect();
    let parts: Vec<_> = zipped
        .iter()
        .zip(&layers)
        .map(|(z, l)| (GZIP, &z[..], &l[..]))
        .collect();
    let image = layout.image(&parts);
    let bench = Bench::new();
    let archive = bench.put("oci.tar", &layout.list(image, "app").pack());
    let name = format!("oci-archive:{}", archive.display());
    let all = bench.ok(&["grep", "--all-layers", "-l", "secret", &name]);
    assert_eq!(all.lines().count(), 3, "{all}");
    let waste = json_lines(&bench.ok(&["du", "--waste", "--format", "json", &name]));
    assert_eq!(waste[0]["WastedBytes"], 109);
    assert!(bench.ok(&["images", "-q"]).is_empty());
}

#[test]
fn bytes_are_names() {
    let bench = Bench::new();
    let layer = Tar::new().with(b"b\xff", b'0', b"needle", |_| {}).end();
    bench.load(&Docker::new("app:1", &[&layer]).pack());
    let mut name = OsString::from("app:1:/b");
    name.push(OsStr::from_bytes(b"\xff"));
    let ran = bench.run(&[
        OsStr::new("grep"),
        OsStr::new("-c"),
        OsStr::new("needle"),
        &name,
    ]);
    assert_eq!((ran.code, ran.out.as_str()), (0, "/b\\xff:1\n"));
    let pattern = OsStr::from_bytes(b"\xff");
    assert_eq!(
        bench
            .run(&[OsStr::new("grep"), pattern, OsStr::new("app:1")])
            .code,
        1
    );
}
