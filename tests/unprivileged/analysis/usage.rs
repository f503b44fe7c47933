//! du: waste, thresholds, sizes by kind and by package.

use super::*;

#[test]
fn waste_is_exact_and_opens_no_blob() {
    let bench = Bench::new();
    bench.load(&Docker::new("app:1", &refs(&wasteful())).pack());
    let rows = json_lines(&bench.ok(&["du", "--waste", "--format", "json", "app:1"]));
    let same = 42;
    assert_eq!(
        rows[0]["Causes"],
        json!({
            "overwritten": 11,
            "metadata": 12,
            "removed": 27 + 12,
            "duplicate": same,
            "shadowed": 5,
        })
    );
    assert_eq!(rows[0]["WastedBytes"], 11 + 12 + 27 + 12 + same + 5);
    assert_eq!(
        rows[0]["StoredBytes"],
        (11 + 27 + same + 5 + 10 + 12) + (22 + 12) + same
    );
    let paths = rows[0]["Paths"].as_array().unwrap();
    assert_eq!(
        paths[0],
        json!({"Path": "/copy.txt", "WastedBytes": same, "Wasted": same.to_string(),
        "Count": 1, "Causes": "duplicate", "Layers": [3]})
    );
    let lib = paths.iter().find(|p| p["Path"] == "/lib/x.so").unwrap();
    assert_eq!(
        (&lib["Count"], &lib["WastedBytes"]),
        (&json!(2), &json!(24))
    );
    let layers = bench.ok(&["du", "--by", "layer", "app:1"]);
    assert_eq!(layers.lines().count(), 4, "{layers}");

    let image = bench.image("app:1");
    of_image(&image).unwrap();
    let tree = image.tree().unwrap();
    let root = tree.find(b"/", Last::Follow).unwrap();
    usage(&tree, &root, Rows::default()).unwrap();
    by_extension(&tree, &root).unwrap();
    assert_eq!(image.blob_opens(), 0);
}

#[test]
fn thresholds_decide_the_exit_status() {
    let bench = Bench::new();
    bench.load(&Docker::new("app:1", &refs(&wasteful())).pack());
    let ci = |rules: &str| {
        let file = bench.put(".dive-ci", rules.as_bytes());
        bench.run(&[
            "du".as_ref(),
            "--ci".as_ref(),
            file.as_os_str(),
            "app:1".as_ref(),
        ])
    };
    let lax = ci(
        "rules:\n  lowestEfficiency: 0.1\n  highestWastedBytes: 1KB\n  \
        highestUserWastedPercent: disabled\n",
    );
    assert_eq!(lax.code, 0, "{}", lax.out);
    for line in [
        "PASS: lowestEfficiency",
        "PASS: highestWastedBytes",
        "SKIP: highestUserWastedPercent",
    ] {
        assert!(lax.out.contains(line), "{}", lax.out);
    }
    let strict = ci("rules:\n  lowestEfficiency: 0.99\n  highestWastedBytes: '10 B'\n");
    assert_eq!(strict.code, 1);
    assert!(
        strict.out.contains("FAIL: lowestEfficiency") && strict.out.contains("FAIL: highestWasted")
    );
    let wrong = ci("rules:\n  lowestEfficiency: lots\n");
    assert_eq!(wrong.code, 1);
    assert!(
        wrong.err.contains("line 2") && wrong.err.lines().count() == 1,
        "{}",
        wrong.err
    );
    let part = bench.run(&["du", "--waste", "app:1:/etc"]);
    assert_eq!(part.code, 2, "{}", part.err);
}

#[test]
fn usage_is_what_du_says() {
    let bench = Bench::new();
    bench.load(&Docker::new("app:1", &refs(&wasteful())).pack());
    let all = bench.ok(&["du", "-a", "app:1"]);
    assert_eq!(
        all,
        "42\t/copy.txt\n42\t/etc/a.txt\n22\t/etc/passwd\n64\t/etc\n0\t/lib\n10\t/twice\n116\t/\n"
    );
    assert_eq!(bench.ok(&["du", "-d", "1", "app:1:/etc"]), "64\t/etc\n");
    assert_eq!(bench.ok(&["du", "-s", "-h", "app:1"]), "116\t/\n");
    let kinds = bench.ok(&[
        "du",
        "--by",
        "kind",
        "--format",
        "{{.Name}} {{.Bytes}} {{.Files}}",
        "app:1",
    ]);
    assert_eq!(kinds, ".txt 84 2\n(none) 32 3\n");
    let none = bench.run(&["du", "--by", "package", "app:1"]);
    assert_eq!(none.code, 1);
    assert!(
        none.err.contains("no database of dpkg or apk"),
        "{}",
        none.err
    );
}

#[test]
fn usage_by_package() {
    let status = b"Package: a\nVersion: 1.5\n\nPackage: b\nVersion: 2\n";
    let layer = Tar::new()
        .file("var/lib/dpkg/status", status)
        .file("var/lib/dpkg/info/a.list", b"/.\n/bin\n/bin/one\n/gone\n")
        .file("var/lib/dpkg/info/b:amd64.list", b"/usr/bin/two\n")
        .link(b'2', "bin", "usr/bin")
        .file("usr/bin/one", &[b'x'; 100])
        .file("usr/bin/two", &[b'x'; 50])
        .end();
    let bench = Bench::new();
    bench.load(&Docker::new("app:1", &[&layer]).pack());
    let shown = bench.ok(&[
        "du",
        "--by",
        "package",
        "--format",
        "{{.Name}} {{.Version}} {{.Bytes}}",
        "app:1",
    ]);
    let databases = status.len() + 23 + 13;
    assert_eq!(shown, format!("a 1.5 100\n(none)  {databases}\nb 2 50\n"));
}
