//! Hostile archives: each is refused in one line that names the archive, the member and the
//! reason, and the store is as it was.

use std::path::Path;

use serde_json::json;
use stratafs::archive::{Limits, LoadOptions, Silent, Source, load};
use stratafs::image::Digest;
use stratafs::store::Store;

use crate::common::build::*;

/// An archive, and what the refusal must say besides the archive's name.
struct Case {
    name: &'static str,
    bytes: Vec<u8>,
    says: Vec<String>,
}

fn case(name: &'static str, bytes: Vec<u8>, says: &[&str]) -> Case {
    Case {
        name,
        bytes,
        says: says.iter().map(|text| (*text).to_owned()).collect(),
    }
}

/// A docker-archive around a bad layer: its digests are all right.
fn bad_layer(name: &'static str, layer: Vec<u8>, says: &[&str]) -> Case {
    let mut case = case(name, Docker::new("bad:1", &[&layer]).pack(), says);
    case.says
        .push(format!("{}/layer.tar", Digest::of(&layer).hex()));
    case
}

/// A layer that can't go onto those below: found when all are together, and so named by its place.
fn bad_stack(name: &'static str, layer: Vec<u8>, says: &[&str]) -> Case {
    let mut case = case(name, Docker::new("bad:1", &[&layer]).pack(), says);
    case.says.push("layer 1".to_owned());
    case
}

/// A good image, changed.
fn docker(change: impl FnOnce(&mut Docker)) -> Vec<u8> {
    let mut docker = Docker::new("bad:1", &[&layer("bad")]);
    change(&mut docker);
    docker.pack()
}

fn only_layer(docker: &Docker) -> String {
    docker.manifest[0]["Layers"][0].as_str().unwrap().to_owned()
}

fn sized(field: &[u8; 12]) -> impl FnOnce(&mut [u8]) {
    let field = *field;
    move |block: &mut [u8]| block[124..136].copy_from_slice(&field)
}

fn bad_members() -> Vec<Case> {
    let long = "n".repeat(256);
    let big_xattr = record("SCHILY.xattr.user.big", &vec![b'v'; 70_000]);
    let sparse: Vec<u8> = [
        record("GNU.sparse.major", b"0"),
        record("GNU.sparse.minor", b"1"),
        record("GNU.sparse.size", b"100"),
        record("GNU.sparse.numblocks", b"2"),
        record("GNU.sparse.map", b"0,50,20,10"),
    ]
    .concat();
    let t = Tar::new;
    let mut flipped = t().file("etc/motd", b"hello").end();
    flipped[0] ^= 1;
    let mut unended = t().file("etc/motd", &[1; 2000]).end();
    unended.truncate(1500);
    vec![
        bad_layer(
            "parent",
            t().file("../../etc/passwd", b"x").end(),
            &["etc/passwd"],
        ),
        bad_layer(
            "inner-parent",
            t().file("a/../../b", b"x").end(),
            &["a/../../b"],
        ),
        bad_layer(
            "link-out",
            t().link(b'1', "a", "../../etc/passwd").end(),
            &["member \"a\""],
        ),
        bad_stack(
            "link-nowhere",
            t().link(b'1', "a", "nothing").end(),
            &["nothing"],
        ),
        bad_layer(
            "link-to-dir",
            t().dir("d/").link(b'1', "a", "d").end(),
            &["member \"a\""],
        ),
        bad_stack(
            "link-to-itself",
            t().link(b'1', "a", "a").end(),
            &["member \"a\""],
        ),
        bad_layer(
            "below-a-file",
            t().file("a", b"x").file("a/b", b"y").end(),
            &["a/b"],
        ),
        bad_layer(
            "nul",
            t().pax(&record("path", b"a\0b")).file("a", b"x").end(),
            &["NUL"],
        ),
        bad_layer(
            "long-name",
            t().pax(&record("path", long.as_bytes()))
                .file("a", b"")
                .end(),
            &["255"],
        ),
        bad_layer(
            "negative-size",
            t().with(
                b"a",
                b'0',
                b"",
                sized(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xf0"),
            )
            .end(),
            &["size"],
        ),
        bad_layer(
            "huge-size",
            t().with(
                b"a",
                b'0',
                b"",
                sized(b"\x80\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff"),
            )
            .end(),
            &["size"],
        ),
        bad_layer(
            "size-of-letters",
            t().with(b"a", b'0', b"", sized(b"notanumber!\0")).end(),
            &["member \"a\""],
        ),
        bad_layer(
            "lying-size",
            t().with(b"a", b'0', b"x", sized(b"00077777777\0")).end(),
            &["member \"a\""],
        ),
        bad_layer("cut", unended, &["member \"etc/motd\""]),
        bad_layer("flipped", flipped, &["checksum"]),
        bad_layer(
            "bad-record",
            t().pax(b"99 path=x\n").file("a", b"").end(),
            &["PAX"],
        ),
        bad_layer(
            "record-without-length",
            t().pax(b"path=x\n").file("a", b"").end(),
            &["PAX"],
        ),
        bad_layer(
            "big-pax",
            t().pax(&record("comment", &vec![b'c'; 2 << 20]))
                .file("a", b"")
                .end(),
            &["1 MiB"],
        ),
        bad_layer(
            "big-xattr",
            t().pax(&big_xattr).file("a", b"").end(),
            &["xattr"],
        ),
        bad_layer(
            "overlapping-sparse",
            t().pax(&sparse).file("a", &[7; 60]).end(),
            &["sparse"],
        ),
        bad_layer("no-tar", b"this is no tar archive".repeat(100), &[]),
    ]
}

fn bad_docker() -> Vec<Case> {
    let good = Docker::new("bad:1", &[&layer("bad")]);
    let path = only_layer(&good);
    let config = good.manifest[0]["Config"].as_str().unwrap().to_owned();
    let without_layer = |kind: u8, target: &str| {
        let mut docker = good.clone();
        docker.files.remove(&path);
        docker.open().link(kind, &path, target).end()
    };
    let many: Vec<String> = vec![path.clone(); 600];
    let many_ids = vec![Digest::of(&layer("bad")); 600];
    let many_config = json!({"architecture": "amd64", "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": many_ids}});
    vec![
        case(
            "no-archive",
            b"plain text, and more of it ".repeat(50),
            &["not a tar archive"],
        ),
        case("empty", Vec::new(), &["empty"]),
        case("cut-outer", good.pack()[..1000].to_vec(), &["truncated"]),
        case(
            "no-manifest",
            Tar::new().file("hello", b"x").end(),
            &["manifest.json"],
        ),
        case(
            "old-docker",
            Tar::new().file("repositories", b"{}").end(),
            &["1.10"],
        ),
        case(
            "manifest-no-json",
            Tar::new().file("manifest.json", b"{[").end(),
            &["manifest.json"],
        ),
        case(
            "no-images",
            Tar::new().file("manifest.json", b"[]").end(),
            &["no image"],
        ),
        case(
            "no-config",
            docker(|d| drop(d.files.remove(&config))),
            &[&config, "missing"],
        ),
        case(
            "config-no-json",
            docker(|d| {
                d.files.insert("c.json".into(), b"]".to_vec());
                d.manifest[0]["Config"] = json!("c.json");
            }),
            &["member \"c.json\""],
        ),
        case(
            "config-digest",
            docker(|d| d.files.get_mut(&config).unwrap().push(b' ')),
            &[&config, "digest"],
        ),
        case(
            "config-out",
            docker(|d| d.manifest[0]["Config"] = json!("../../etc/passwd")),
            &["../../etc/passwd", "leaves"],
        ),
        case(
            "no-layer",
            docker(|d| drop(d.files.remove(&path))),
            &[&path, "missing"],
        ),
        case(
            "layer-count",
            docker(|d| d.manifest[0]["Layers"] = json!([path, path])),
            &[&config, "1 layers", "2"],
        ),
        case(
            "layer-out",
            docker(|d| d.manifest[0]["Layers"] = json!(["../../../etc/passwd"])),
            &["../../../etc/passwd", "leaves"],
        ),
        case(
            "layer-changed",
            docker(|d| drop(d.files.insert(path.clone(), layer("other")))),
            &[&path, "digest"],
        ),
        case(
            "layer-links-out",
            without_layer(b'2', "/etc/passwd"),
            &[&path, "leaves"],
        ),
        case(
            "layer-links-in-a-circle",
            without_layer(b'2', "layer.tar"),
            &[&path, "circle"],
        ),
        case(
            "layer-links-nowhere",
            without_layer(b'1', "gone"),
            &[&path, "gone"],
        ),
        case(
            "layer-is-a-directory",
            without_layer(b'5', ""),
            &[&path, "directory"],
        ),
        case(
            "layer-is-a-fifo",
            without_layer(b'6', ""),
            &[&path, "special file"],
        ),
        case(
            "layer-twice",
            good.open().file(&path, b"x").end(),
            &[&path, "twice"],
        ),
        case(
            "manifest-twice",
            good.open().file("manifest.json", b"[]").end(),
            &["manifest.json", "twice"],
        ),
        case(
            "bad-name",
            docker(|d| d.manifest[0]["RepoTags"] = json!(["Bad Name:1"])),
            &["manifest.json", "Bad Name:1"],
        ),
        case(
            "many-layers",
            docker(|d| {
                d.files
                    .insert("c.json".into(), many_config.to_string().into_bytes());
                d.manifest[0]["Config"] = json!("c.json");
                d.manifest[0]["Layers"] = json!(many);
            }),
            &["600 layers"],
        ),
        case("xz", b"\xfd7zXZ\0 and so on".to_vec(), &["xz"]),
        case(
            "gzip-of-nonsense",
            gzip(b"nonsense"),
            &["not a tar archive"],
        ),
        case(
            "gzip-cut",
            {
                let mut g = gzip(&good.pack());
                g.truncate(g.len() / 2);
                g
            },
            &[],
        ),
        case("gzip-bomb-outside", gzip(&vec![0; 8 << 20]), &["bomb"]),
        case(
            "zstd-bomb-outside",
            zstd::encode_all(&vec![0; 8 << 20][..], 3).unwrap(),
            &["bomb"],
        ),
    ]
}

fn layout(change: impl FnOnce(&mut Layout, &mut serde_json::Value)) -> Vec<u8> {
    let mut layout = Layout::new();
    let plain = layer("bad");
    let mut image = layout.image(&[(GZIP, &gzip(&plain), &plain)]);
    change(&mut layout, &mut image);
    layout.list(image, "bad:1").pack()
}

/// The path of the layer's blob in [`layout`].
fn blob_path() -> String {
    format!("blobs/sha256/{}", Digest::of(&gzip(&layer("bad"))).hex())
}

fn bad_layouts() -> Vec<Case> {
    let blob = Digest::of(&gzip(&layer("bad"))).to_string();
    let one = |kind: &str, blob: &[u8], plain: &[u8]| {
        let mut layout = Layout::new();
        let image = layout.image(&[(kind, blob, plain)]);
        layout.list(image, "bad:1").pack()
    };
    let bomb = Tar::new().file("zeros", &vec![0; 8 << 20]).end();
    let plain = layer("bad");
    let mut cut = gzip(&plain);
    cut.truncate(cut.len() - 12);
    let mut flipped = gzip(&plain);
    flipped[20] ^= 0x55;
    vec![
        case(
            "blob-changed",
            layout(|l, _| l.files.get_mut(&blob_path()).unwrap()[30] ^= 1),
            &[&blob, "digest"],
        ),
        case(
            "blob-longer",
            layout(|l, _| l.files.get_mut(&blob_path()).unwrap().push(0)),
            &[&blob, "bytes long"],
        ),
        case(
            "blob-missing",
            layout(|l, _| drop(l.files.remove(&blob_path()))),
            &[&blob, "missing"],
        ),
        case(
            "manifest-changed",
            layout(|_, image| image["digest"] = json!(Digest::of(b"other"))),
            &["missing"],
        ),
        case(
            "manifest-size",
            layout(|_, image| image["size"] = json!(7)),
            &["its descriptor says 7"],
        ),
        case(
            "digest-with-path",
            layout(|_, image| image["digest"] = json!("sha256:../../../etc/passwd")),
            &["index.json", "digest"],
        ),
        case(
            "digest-sha512",
            layout(|_, image| image["digest"] = json!("sha512:00")),
            &["index.json", "digest"],
        ),
        case(
            "unknown-type",
            layout(|_, image| image["mediaType"] = json!("text/plain")),
            &["text/plain"],
        ),
        case(
            "layout-version",
            layout(|l, _| {
                drop(l.files.insert(
                    "oci-layout".into(),
                    br#"{"imageLayoutVersion":"9.0"}"#.to_vec(),
                ))
            }),
            &["oci-layout", "9.0"],
        ),
        case(
            "other-platform",
            layout(|l, image| {
                image["platform"] = json!({"architecture": "s390x", "os": "linux"});
                let mut other = image.clone();
                other["platform"] = json!({"architecture": "mips", "os": "linux"});
                let index = json!({"schemaVersion": 2, "manifests": [image.clone(), other]});
                *image = l.blob(INDEX, index.to_string().as_bytes());
            }),
            &["linux/s390x", "linux/mips"],
        ),
        case(
            "indexes-too-deep",
            layout(|l, image| {
                for _ in 0..10 {
                    let index = json!({"schemaVersion": 2, "manifests": [image.clone()]});
                    *image = l.blob(INDEX, index.to_string().as_bytes());
                }
            }),
            &["deep"],
        ),
        case(
            "index-of-nothing",
            layout(|l, image| {
                *image = l.blob(INDEX, br#"{"schemaVersion":2,"manifests":[]}"#);
            }),
            &["lists no image"],
        ),
        case(
            "no-image-but-a-chart",
            layout(|l, image| {
                let config = l.blob("application/vnd.cncf.helm.config.v1+json", b"{}");
                *image = l.manifest(&json!({"schemaVersion": 2, "config": config, "layers": []}));
            }),
            &["helm"],
        ),
        case(
            "encrypted",
            one(
                "application/vnd.oci.image.layer.v1.tar+gzip+encrypted",
                b"secret",
                &plain,
            ),
            &["encrypted"],
        ),
        case(
            "diff-id",
            one(GZIP, &gzip(&layer("other")), &plain),
            &["the configuration says"],
        ),
        case(
            "gzip-cut-inside",
            one(GZIP, &cut, &plain),
            &["layer sha256:"],
        ),
        case(
            "gzip-flipped-inside",
            one(GZIP, &flipped, &plain),
            &["layer sha256:"],
        ),
        case("gzip-bomb", one(GZIP, &gzip(&bomb), &bomb), &["bomb"]),
        case(
            "zstd-bomb",
            one(ZSTD, &zstd::encode_all(&bomb[..], 3).unwrap(), &bomb),
            &["bomb"],
        ),
        case(
            "parent-in-gzip",
            {
                let bad = Tar::new().file("../up", b"x").end();
                one(GZIP, &gzip(&bad), &bad)
            },
            &["../up"],
        ),
    ]
}

fn try_load(store: &Store, archive: &Path) -> Result<usize, String> {
    let options = LoadOptions {
        limits: Limits {
            floor_bytes: 4 << 20,
            ratio: 100,
        },
        ..LoadOptions::default()
    };
    load(store, &Source::Path(archive.to_owned()), &options, &Silent)
        .map(|loaded| loaded.len())
        .map_err(|failure| failure.to_string())
}

/// A store with one good image in it.
fn store(dir: &Path) -> Store {
    let store = Store::open(&dir.join("store")).unwrap();
    let good = dir.join("good.tar");
    std::fs::write(&good, Docker::new("good:1", &[&layer("good")]).pack()).unwrap();
    assert_eq!(try_load(&store, &good), Ok(1));
    store
}

#[test]
fn hostile_archives_are_refused_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let root = dir.path().join("store");
    let mut before = files(&root);
    let cases: Vec<Case> = bad_members()
        .into_iter()
        .chain(bad_docker())
        .chain(bad_layouts())
        .collect();
    assert!(cases.len() >= 25);
    let mut wrong = Vec::new();
    for case in &cases {
        let archive = dir.path().join(format!("{}.tar", case.name));
        std::fs::write(&archive, &case.bytes).unwrap();
        let name = archive.display().to_string();
        match try_load(&store, &archive) {
            Ok(_) => wrong.push(format!("{}: accepted", case.name)),
            Err(line) => {
                let says = case.says.iter().map(String::as_str).chain([name.as_str()]);
                for text in says.filter(|text| !line.contains(text)) {
                    wrong.push(format!("{}: {text:?} is not in {line:?}", case.name));
                }
                if line.contains('\n') || line.len() > 700 {
                    wrong.push(format!("{}: not one line: {line:?}", case.name));
                }
            }
        }
        if files(&root) != before {
            wrong.push(format!("{}: the store has changed", case.name));
            before = files(&root);
        }
        std::fs::remove_file(&archive).unwrap();
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(store.images().unwrap().len(), 1);
}

/// What only looks into an archive says the same as a load of it, and keeps nothing.
#[test]
fn hostile_archives_are_refused_in_the_same_line_when_they_are_looked_into() {
    use stratafs::inspect::{Image, Target};
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let root = dir.path().join("store");
    let archive = dir.path().join("hostile.tar");
    let mut compared = 0;
    for (transport, cases) in [
        ("docker-archive", bad_members()),
        ("docker-archive", bad_docker()),
        ("oci-archive", bad_layouts()),
    ] {
        for case in cases {
            std::fs::write(&archive, &case.bytes).unwrap();
            let name = format!("{transport}:{}", archive.display());
            let source = Source::parse(&name).unwrap().unwrap();
            let options = LoadOptions::default();
            let before = files(&root);
            // Some are refused as what they are only when their kind is not told.
            let Err(expected) = load(&store, &source, &options, &Silent) else {
                continue;
            };
            let target = Target::parse(name.as_ref()).unwrap();
            let seen = Image::open(&store, &target, &Silent);
            let line = seen.map(|_| ()).unwrap_err().to_string();
            if !line.contains("images in it") {
                assert_eq!(line, expected.to_string(), "{}", case.name);
                compared += 1;
            }
            assert_eq!(files(&root), before, "{}", case.name);
        }
    }
    assert!(compared > 50, "{compared}");
}

#[test]
fn a_directory_is_not_left() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let unpacked = dir.path().join("unpacked");
    std::fs::create_dir(&unpacked).unwrap();
    std::fs::write(dir.path().join("secret"), config(&[])).unwrap();
    let secret = dir.path().join("secret").display().to_string();
    for path in ["../secret", secret.as_str()] {
        let manifest = json!([{"Config": path, "RepoTags": ["x:1"], "Layers": []}]);
        std::fs::write(unpacked.join("manifest.json"), manifest.to_string()).unwrap();
        let line = try_load(&store, &unpacked).unwrap_err();
        assert!(line.contains("leaves the directory"), "{line}");
    }
}

#[test]
fn one_bad_image_of_two_loads_neither() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let before = files(&dir.path().join("store"));
    let bad = Tar::new().file("ok", b"x").file("../up", b"x").end();
    let mut docker = Docker::new("fine:1", &[&layer("fine")]);
    docker.add(&["bad:1"], &[&layer("fine"), &bad]);
    let archive = dir.path().join("two.tar");
    std::fs::write(&archive, docker.pack()).unwrap();
    assert!(try_load(&store, &archive).is_err());
    assert_eq!(files(&dir.path().join("store")), before);
}

/// Archives damaged anywhere: no panic, and the store changes only when the load succeeds.
#[test]
fn damage_anywhere_is_survived() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("store");
    let plain = layer("bad");
    let mut two = Layout::new();
    let image = two.image(&[
        (GZIP, &gzip(&plain), &plain),
        (TAR, &layer("x"), &layer("x")),
    ]);
    let archives = [
        Docker::new("bad:1", &[&layer("bad"), &layer("x")]).pack(),
        two.list(image, "bad:1").pack(),
    ];
    let store = store(dir.path());
    let before = files(&root);
    let archive = dir.path().join("damaged.tar");
    for whole in &archives {
        for step in 0..150 {
            let at = step * whole.len() / 150;
            let mut damaged = whole.clone();
            match step % 3 {
                0 => damaged.truncate(at),
                1 => damaged[at] ^= 0x41,
                _ => drop(damaged.drain(at..(at + 100).min(whole.len()))),
            }
            std::fs::write(&archive, &damaged).unwrap();
            match try_load(&store, &archive) {
                Err(line) => {
                    assert!(!line.contains('\n'), "{line:?}");
                    assert_eq!(files(&root), before, "after {line}");
                }
                // What was hit did not matter (padding, a time). Start again from a clean store.
                Ok(_) => {
                    std::fs::remove_dir_all(&root).unwrap();
                    let again = self::store(dir.path());
                    drop(again);
                }
            }
        }
    }
}
