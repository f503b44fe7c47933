//! Containers that are not mounted: lists and filters, export and import, squashed commits.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::common::build::{Docker, Layout, MANIFEST, TAR, Tar, ZSTD, gzip, layer, record};
use crate::common::cli::{Strata, said};

/// A store with `base:1`, an image of two layers.
pub fn with_base() -> Strata {
    let strata = Strata::new();
    let upper = Tar::new()
        .dir("etc/")
        .file("etc/.wh.hard", b"")
        .file("etc/motd", b"second\n")
        .dir("srv/")
        .file("srv/data", b"data\n")
        .link(b'2', "srv/out", "/etc")
        .end();
    let archive = strata.path("base.tar");
    fs::write(
        &archive,
        Docker::new("base:1", &[&layer("first\n"), &upper]).pack(),
    )
    .unwrap();
    assert_eq!(strata.load(&archive), "Loaded image: base:1\n");
    strata
}

/// What `strata inspect` says of something.
pub fn inspect(strata: &Strata, name: &str) -> Value {
    let text = strata.ok(&["inspect", name]);
    serde_json::from_str::<Value>(&text).unwrap()[0].take()
}

#[test]
fn filters_choose_containers() {
    let strata = with_base();
    let archive = strata.path("other.tar");
    fs::write(&archive, Docker::new("other:1", &[&layer("other")]).pack()).unwrap();
    strata.load(&archive);
    let create = |words: &[&str]| {
        let id = strata.ok(&[&["create"], words].concat());
        // Times of creation tell them apart.
        std::thread::sleep(std::time::Duration::from_millis(2));
        id.trim().to_owned()
    };
    let web1 = create(&["--name", "web1", "-l", "team=a", "-l", "tier", "base:1"]);
    create(&["--name", "web2", "--label", "team=b", "base:1", "cmd"]);
    create(&["--name", "db", "-l", "team=a", "other:1"]);
    // A commit onto base descends from it, and has the labels of what was committed.
    strata.ok(&["commit", "web1", "child:1"]);
    create(&["--name", "kid", "child:1"]);
    let names = |words: &[&str]| {
        let text = strata.ok(&[&["ps"], words].concat());
        let names = text.lines().skip(1).map(|l| l.split_whitespace().last());
        names.flatten().collect::<Vec<_>>().join(" ")
    };
    for (filter, found) in [
        ("name=web", "web2 web1"),
        ("name=^/web1$", "web1"),
        ("name=^eb", ""),
        ("label=team", "kid db web2 web1"),
        ("label=team=a", "kid db web1"),
        ("label=tier=", "kid web1"),
        ("status=created", "kid db web2 web1"),
        ("status=running", ""),
        ("status=exited", ""),
        ("ancestor=other:1", "db"),
        ("ancestor=base:1", "kid web2 web1"),
        ("before=db", "web2 web1"),
        ("since=web2", "kid db"),
        ("until=1h", ""),
    ] {
        assert_eq!(names(&["-a", "-f", filter]), found, "{filter}");
    }
    assert_eq!(
        names(&["-a", "-f", "name=web", "-f", "label=team=a"]),
        "web1"
    );
    assert_eq!(
        names(&["-a", "-f", "name=web1", "-f", "name=db"]),
        "db web1"
    );
    let by_id = format!("id={}", &web1[..12]);
    assert_eq!(names(&["-a", "-f", &by_id]), "web1");
    assert_eq!(names(&[]), "");
    assert_eq!(names(&["-l"]), "kid");
    assert_eq!(names(&["-n", "2"]), "kid db");
    // A filter for states asks for those that are not mounted too.
    assert_eq!(names(&["-f", "status=created", "-f", "name=db"]), "db");
    assert_eq!(
        strata.ok(&["ps", "-aq", "-f", "name=web1", "--no-trunc"]),
        format!("{web1}\n")
    );
    for (filter, why) in [
        ("colour=red", "invalid filter 'colour=red'"),
        ("name", "bad format of filter"),
        ("name=[", "no regular expression"),
        ("status=lost", "invalid filter"),
        ("before=gone", "No such container: gone"),
        ("until=soon", "is no time"),
    ] {
        let said = strata.run(&["ps", "-a", "-f", filter]).failure();
        assert!(
            said.contains(why) && said.lines().count() == 1,
            "{filter}: {said}"
        );
    }
}

#[test]
fn names_change_and_containers_go() {
    let strata = with_base();
    for name in ["one", "two", "three"] {
        strata.ok(&["create", "--name", name, "base:1"]);
    }
    strata.ok(&["rename", "one", "uno"]);
    let taken = strata.run(&["container", "rename", "two", "uno"]).failure();
    assert!(taken.contains("already in use"), "{taken}");
    let same = strata.run(&["rename", "uno", "uno"]).failure();
    assert!(same.contains("same name"), "{same}");
    let gone = strata.run(&["rename", "one", "x1"]).failure();
    assert_eq!(gone, "strata: No such container: one\n");
    // What can be removed is, and what can't is said.
    let said = strata.run(&["rm", "-v", "uno", "gone", "two"]);
    assert!(!said.ok);
    assert_eq!(said.out, "uno\ntwo\n");
    assert_eq!(said.err.lines().count(), 2, "{}", said.err);
    assert!(said.err.contains("--volumes has no effect"), "{}", said.err);
    let file = strata.path("f");
    fs::write(&file, vec![1; 5000]).unwrap();
    strata.ok(&["cp", "-q", file.to_str().unwrap(), "three:/"]);
    let kept = strata.ok(&["container", "prune", "-f", "--filter", "until=1h"]);
    assert_eq!(kept, "Total reclaimed space: 0B\n");
    let asked = strata.ok(&["container", "prune"]);
    assert!(asked.ends_with("[y/N] "), "{asked}");
    let pruned = strata.ok(&["container", "prune", "-f"]);
    assert!(pruned.starts_with("Deleted Containers:\n"), "{pruned}");
    assert!(
        pruned.ends_with("\nTotal reclaimed space: 5kB\n"),
        "{pruned}"
    );
    assert_eq!(strata.ok(&["container", "ls", "-aq"]), "");
}

#[test]
fn what_a_container_has_of_its_own_becomes_the_images() {
    let strata = with_base();
    strata.ok(&[
        "create",
        "--name",
        "box",
        "-l",
        "k=v",
        "-e",
        "A=1",
        "-u",
        "www",
        "-w",
        "/srv",
        "--entrypoint",
        "/run",
        "base:1",
        "-x",
        "y z",
    ]);
    strata.ok(&[
        "commit",
        "--compression",
        "zstd",
        "--compression-level",
        "19",
        "-c",
        "HEALTHCHECK --interval=5m CMD curl -f http://localhost/",
        "box",
        "own:1",
    ]);
    let image = inspect(&strata, "own:1");
    let config = &image["Config"];
    assert_eq!(config["Entrypoint"][0], "/run");
    assert_eq!(config["Cmd"][1], "y z");
    assert_eq!(config["Env"][0], "A=1");
    assert_eq!(
        (&config["User"], &config["WorkingDir"]),
        (&"www".into(), &"/srv".into())
    );
    assert_eq!(config["Labels"]["k"], "v");
    assert_eq!(config["Healthcheck"]["Test"][0], "CMD-SHELL");
    let shell = strata
        .run(&["commit", "-c", "SHELL [\"sh\"]", "box"])
        .failure();
    assert_eq!(shell, "strata: shell is not a valid change command\n");
    let level = strata
        .run(&["commit", "--compression-level", "10", "box"])
        .failure();
    assert!(level.contains("gzip has 1 to 9"), "{level}");
}

/// The tar that `strata export` writes.
fn export(strata: &Strata, container: &str) -> Vec<u8> {
    let file = strata.path("export.tar");
    strata.ok(&["export", "-o", file.to_str().unwrap(), container]);
    fs::read(file).unwrap()
}

#[test]
fn an_exported_tree_comes_back_the_same() {
    let strata = with_base();
    strata.ok(&["create", "--name", "box", "base:1"]);
    let first = export(&strata, "box");
    assert!(
        first == export(&strata, "box"),
        "the same tree, other bytes"
    );
    let to_stdout = strata.command().args(["export", "box"]).output().unwrap();
    assert!(to_stdout.status.success() && to_stdout.stdout == first);
    let import = |words: &[&str], input: &[u8]| {
        let mut command = strata.command();
        let command = command.arg("import").args(words).stdin(Stdio::piped());
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let words = [
        "-c",
        "CMD [\"a\"]",
        "-m",
        "note",
        "--platform",
        "linux/arm64/v8",
        "-",
        "flat:1",
    ];
    let id = import(&words, &gzip(&first));
    let image = inspect(&strata, "flat:1");
    assert_eq!(image["Id"], *id);
    assert_eq!(
        (&image["Architecture"], &image["Variant"]),
        (&"arm64".into(), &"v8".into())
    );
    assert_eq!(
        (&image["Comment"], &image["Config"]["Cmd"][0]),
        (&"note".into(), &"a".into())
    );
    // Compressed input is kept as it is; the tree is the same.
    let blob = strata.root.join("blobs/sha256");
    let layer = inspect(&strata, "flat:1")["CompressedSize"]
        .as_u64()
        .unwrap();
    assert_eq!(layer, gzip(&first).len() as u64);
    assert!(blob.exists());
    strata.ok(&["create", "--name", "again", "flat:1"]);
    assert!(first == export(&strata, "again"), "export, import, export");
    let zstd = zstd::encode_all(&first[..], 3).unwrap();
    let file = strata.path("flat.tar.zst");
    fs::write(&file, zstd).unwrap();
    strata.ok(&["import", file.to_str().unwrap(), "flat:2"]);
    let comment = inspect(&strata, "flat:2")["Comment"].clone();
    assert_eq!(comment, "Imported from -");
}

/// The members of a tar: path, kind, and contents or the target of a link.
fn members(tar: &[u8]) -> Vec<(String, char, String)> {
    let mut archive = tar::Archive::new(tar);
    let members = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().to_str().unwrap().to_owned();
        let link = entry.link_name().unwrap();
        let link = link.map(|l| l.to_str().unwrap().to_owned());
        let kind = match entry.header().entry_type() {
            tar::EntryType::Link => 'h',
            tar::EntryType::Directory => 'd',
            tar::EntryType::Symlink => 'l',
            _ => 'f',
        };
        let mut text = String::new();
        std::io::Read::read_to_string(&mut entry, &mut text).unwrap();
        (path, kind, link.unwrap_or(text))
    });
    members.collect()
}

/// Others get these wrong: a link to a file that a later layer replaces, a directory that a later
/// layer makes anew, a marker in the lowest layer.
#[test]
fn an_export_is_right_across_layers() {
    let strata = Strata::new();
    let first = Tar::new()
        .file("a", b"old")
        .link(b'1', "b", "a")
        .dir("d/")
        .file("d/gone", b"x")
        .file(".wh.nothing", b"")
        .end();
    let second = Tar::new()
        .file("a", b"new")
        .dir("d/")
        .file("d/.wh..wh..opq", b"")
        .file("d/kept", b"y")
        .end();
    let third = Tar::new().link(b'1', "c", "a").file("z", b"").end();
    let archive = strata.path("three.tar");
    fs::write(
        &archive,
        Docker::new("three:1", &[&first, &second, &third]).pack(),
    )
    .unwrap();
    strata.load(&archive);
    strata.ok(&["create", "--name", "box", "three:1"]);
    let found = members(&export(&strata, "box"));
    let expected = [
        ("./", 'd', ""),
        ("a", 'f', "new"),
        ("b", 'f', "old"),
        ("c", 'h', "a"),
        ("d/", 'd', ""),
        ("d/kept", 'f', "y"),
        ("z", 'f', ""),
    ];
    let expected = expected.map(|(path, kind, text)| (path.to_owned(), kind, text.to_owned()));
    assert_eq!(found, expected);
}

#[test]
fn what_can_not_be_imported_leaves_nothing() {
    let strata = with_base();
    let pax = record("SCHILY.xattr.user.x", &[0; 300_000]);
    let before = crate::common::build::files(&strata.root);
    for (what, bytes) in [
        ("empty", Vec::new()),
        ("noise", vec![b'x'; 4096]),
        ("xz", b"\xfd7zXZ\0 and more".to_vec()),
        ("up", Tar::new().file("../up", b"x").end()),
        ("link", Tar::new().link(b'1', "a", "nowhere").end()),
        ("cut", layer("x")[..700].to_vec()),
        (
            "file as directory",
            Tar::new().file("a", b"").file("a/b", b"").end(),
        ),
        ("huge attributes", Tar::new().pax(&pax).file("a", b"").end()),
        ("cut gzip", gzip(&layer("x"))[..60].to_vec()),
    ] {
        let file = strata.path("bad.tar");
        fs::write(&file, bytes).unwrap();
        let said = strata
            .run(&["import", file.to_str().unwrap(), "bad:1"])
            .failure();
        assert_eq!(said.lines().count(), 1, "{what}: {said}");
        assert!(said.contains("bad.tar"), "{what}: {said}");
        assert_eq!(crate::common::build::files(&strata.root), before, "{what}");
    }
    for words in [
        &["import", "http://example.org/x.tar"][..],
        &["import", "/nonexistent.tar"],
        &["import", "-c", "RUN x", "/dev/null"],
        &["import", "--platform", "a/b/c/d", "/dev/null"],
    ] {
        strata.run(words).failure();
    }
}

#[test]
fn squashed_commits_show_the_same_tree() {
    let strata = with_base();
    strata.ok(&["create", "--name", "box", "base:1"]);
    let file = strata.path("new");
    fs::write(&file, "new\n").unwrap();
    strata.ok(&["cp", "-q", file.to_str().unwrap(), "box:/srv/"]);
    let tree = export(&strata, "box");
    for (option, layers) in [
        ("--squash", 1),
        ("--squash=1", 2),
        ("--squash=9", 1),
        ("--pause", 3),
    ] {
        let mut commit = strata.command();
        commit.env("SOURCE_DATE_EPOCH", "1700000000");
        commit.args(["commit", option, "box", "flat:1"]);
        said(&mut commit).success();
        let image = inspect(&strata, "flat:1");
        let count = image["RootFS"]["Layers"].as_array().unwrap().len();
        assert_eq!(count, layers, "{option}");
        strata.ok(&["create", "--name", "flat", "flat:1"]);
        assert!(export(&strata, "flat") == tree, "{option}");
        let diff = strata.ok(&["diff", "flat"]);
        assert_eq!(diff, "", "{option}");
        strata.ok(&["rm", "flat"]);
    }
}

#[test]
fn archives_for_those_who_have_the_base() {
    let strata = with_base();
    strata.ok(&["create", "--name", "box", "base:1"]);
    let file = strata.path("new");
    fs::write(&file, vec![7; 100_000]).unwrap();
    strata.ok(&["cp", "-q", file.to_str().unwrap(), "box:/"]);
    strata.ok(&["commit", "box", "child:1"]);
    let out = strata.path("child.tar");
    let out = out.to_str().unwrap();
    let save = [
        "save",
        "--format",
        "oci-archive",
        "--since",
        "base:1",
        "-o",
        out,
        "child:1",
    ];
    let said = strata.run(&save);
    assert!(
        said.ok && said.err.contains("2 layers are left out"),
        "{}",
        said.err
    );
    let alone = Strata::new();
    let refused = alone.run(&["load", "-i", out]).failure();
    assert!(refused.contains("--since needs its base"), "{refused}");
    let base = strata.path("base.tar");
    alone.load(&base);
    assert_eq!(alone.ok(&["load", "-i", out]), "Loaded image: child:1\n");
    for key in ["Id", "Digest"] {
        assert_eq!(
            inspect(&alone, "child:1")[key],
            inspect(&strata, "child:1")[key]
        );
    }
    let docker = strata
        .run(&["save", "--since", "base:1", "-o", out, "child:1"])
        .failure();
    assert!(docker.contains("oci-archive"), "{docker}");
}

#[test]
fn every_form_and_compression_keeps_the_ids() {
    let strata = with_base();
    strata.ok(&["tag", "base:1", "second:2"]);
    let digest = |strata: &Strata, key: &str| inspect(strata, "base:1")[key].clone();
    let out = strata.path("out");
    for (words, same_digest) in [
        (&["--format", "docker-archive"][..], true),
        (&["--format", "oci-archive"], true),
        (&["--format", "oci-dir"], true),
        (&["--compression", "gzip"], false),
        (
            &["--compression", "gzip", "--compression-level", "1"],
            false,
        ),
        (&["--format", "oci-archive", "--compression", "zstd"], false),
        (
            &[
                "--format",
                "oci-dir",
                "--compression",
                "zstd",
                "--compression-level",
                "19",
            ],
            false,
        ),
        (&["--compression", "none"], true),
    ] {
        let arguments = [
            &["save", "-o", out.to_str().unwrap()],
            words,
            &["base:1", "second:2"],
        ];
        strata.ok(&arguments.concat());
        let other = Strata::new();
        let loaded = other.load(&out);
        assert_eq!(
            loaded, "Loaded image: base:1\nLoaded image: second:2\n",
            "{words:?}"
        );
        assert_eq!(digest(&other, "Id"), digest(&strata, "Id"), "{words:?}");
        let same = digest(&other, "Digest") == digest(&strata, "Digest");
        assert_eq!(same, same_digest, "{words:?}");
        other.assert_blobs_intact(&[]);
        if out.is_dir() {
            fs::remove_dir_all(&out).unwrap();
        } else {
            fs::remove_file(&out).unwrap();
        }
    }
    for words in [
        &["save", "--compression", "zstd", "base:1"][..],
        &["save", "--compression-level", "3", "base:1"],
        &[
            "save",
            "--compression",
            "none",
            "--compression-level",
            "3",
            "base:1",
        ],
        &["save", "--platform", "linux/s390x", "-o", "x", "base:1"],
    ] {
        strata.run(words).failure();
    }
    // From one store into another, through a pipe.
    let other = Strata::new();
    let mut shell = Command::new("sh");
    let line = "\"$1\" --root \"$2\" save base:1 second:2 | \"$1\" --root \"$3\" load";
    shell.args(["-c", line, "sh", env!("CARGO_BIN_EXE_strata")]);
    shell.arg(&strata.root).arg(&other.root);
    said(&mut shell).success();
    for key in ["Id", "Digest"] {
        assert_eq!(digest(&other, key), digest(&strata, key));
    }
}

#[test]
fn an_image_for_another_platform_is_chosen_by_name() {
    let strata = Strata::new();
    let mut layout = Layout::new();
    let mut manifests = Vec::new();
    for (architecture, text) in [("amd64", "here"), ("arm64", "elsewhere")] {
        let plain = layer(text);
        let zstd = zstd::encode_all(&plain[..], 3).unwrap();
        let mut config: Value =
            serde_json::from_slice(&crate::common::build::config(&[&plain])).unwrap();
        config["architecture"] = architecture.into();
        let config = layout.blob(crate::common::build::CONFIG, config.to_string().as_bytes());
        let layer = layout.blob(ZSTD, &zstd);
        let mut manifest = layout.manifest(&serde_json::json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer],
        }));
        manifest["platform"] = serde_json::json!({"os": "linux", "architecture": architecture});
        manifests.push(manifest);
    }
    let index = serde_json::json!({"schemaVersion": 2, "manifests": manifests});
    let index = layout.blob(crate::common::build::INDEX, index.to_string().as_bytes());
    let archive = strata.path("both.tar");
    fs::write(&archive, layout.list(index, "both:1").pack()).unwrap();
    let archive = archive.to_str().unwrap();
    strata.ok(&["load", "-q", "--platform", "linux/arm64", "-i", archive]);
    assert_eq!(inspect(&strata, "both:1")["Architecture"], "arm64");
    let missing = strata
        .run(&["load", "--platform", "linux/s390x", "-i", archive])
        .failure();
    assert!(missing.contains("no image for linux/s390x"), "{missing}");
    let wrong = strata
        .run(&["save", "--platform", "amd64", "-o", "x", "both:1"])
        .failure();
    assert!(
        wrong.contains("is for linux/arm64, not for linux/amd64"),
        "{wrong}"
    );
    let out = strata.path("arm.tar");
    strata.ok(&[
        "save",
        "--platform",
        "arm64",
        "-o",
        out.to_str().unwrap(),
        "both:1",
    ]);
    assert!(TAR.ends_with("tar"));
}
