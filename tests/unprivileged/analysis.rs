//! du, diff, grep, dockerfile and verify, by the library and by the command line.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use stratafs::archive::{LoadOptions, Silent, Source, load};
use stratafs::inspect::difference::trees;
use stratafs::inspect::path::Last;
use stratafs::inspect::usage::{Rows, by_extension, usage};
use stratafs::inspect::verify::{Mode, Part, Scope, verify};
use stratafs::inspect::waste::of_image;
use stratafs::inspect::{Image, Target};
use stratafs::store::Store;

use crate::common::build::*;

struct Bench {
    dir: tempfile::TempDir,
    store: Store,
}

struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        Self { dir, store }
    }

    fn put(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    fn load(&self, bytes: &[u8]) {
        let path = self.put("archive.tar", bytes);
        load(
            &self.store,
            &Source::Path(path),
            &LoadOptions::default(),
            &Silent,
        )
        .unwrap();
    }

    fn image(&self, name: &str) -> Image {
        let target = Target::parse(OsStr::new(name)).unwrap();
        Image::open(&self.store, &target, &Silent).unwrap()
    }

    fn run<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Ran {
        let output = Command::new(env!("CARGO_BIN_EXE_strata"))
            .arg("--root")
            .arg(self.store.root())
            .args(arguments)
            .env_remove("STRATA_ROOT")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        Ran {
            code: output.status.code().unwrap(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    fn ok<S: AsRef<OsStr>>(&self, arguments: &[S]) -> String {
        let ran = self.run(arguments);
        assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
        ran.out
    }
}

fn json_lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect()
}

/// Three layers with every kind of waste.
fn wasteful() -> Vec<Vec<u8>> {
    let same = b"the same contents, stored again and again\n";
    vec![
        Tar::new()
            .dir("etc/")
            .file("etc/passwd", b"root:x:0:0\n")
            .file("etc/secret.pem", b"-----BEGIN KEY-----\nsecret\n")
            .file("etc/a.txt", same)
            .file("twice", b"first")
            .file("twice", b"second one")
            .link(b'1', "etc/hard", "etc/a.txt")
            .dir("lib/")
            .file("lib/x.so", b"\x7fELF\0secret\0")
            .end(),
        Tar::new()
            .file("etc/.wh.secret.pem", b"")
            .file("etc/passwd", b"root:x:0:0\nuser:x:1:1\n")
            .with(b"lib/x.so", b'0', b"\x7fELF\0secret\0", |h| {
                h[100..107].copy_from_slice(b"0000755");
            })
            .end(),
        Tar::new()
            .file("copy.txt", same)
            .dir("lib/")
            .file("lib/.wh..wh..opq", b"")
            .end(),
    ]
}

fn refs(layers: &[Vec<u8>]) -> Vec<&[u8]> {
    layers.iter().map(Vec::as_slice).collect()
}

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

/// What is done to a file.
#[derive(Debug, Clone, Copy)]
enum Harm {
    Truncate,
    Delete,
    Flip,
}

fn harm(path: &Path, harm: Harm) {
    let mut bytes = fs::read(path).unwrap();
    match harm {
        Harm::Truncate => bytes.truncate(bytes.len() / 2),
        Harm::Delete => return fs::remove_file(path).unwrap(),
        Harm::Flip => {
            let at = bytes.len() / 4;
            bytes[at] ^= 0x04;
        }
    }
    // A new file: the old one may be a link to the template's.
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy_tree(&entry.path(), &to),
            false => drop(fs::copy(entry.path(), to).unwrap()),
        }
    }
}

/// Every kind of file, truncated, deleted and with a bit flipped: what verify says, what a repair
/// makes of it, and what is shown then.
#[test]
fn damage_matrix() {
    let template = Bench::new();
    let (packed, plain) = (
        layer("packed"),
        Tar::new().file("plain", &[b'p'; 3000]).end(),
    );
    let zipped = gzip(&packed);
    let mut layout = Layout::new();
    let image = layout.image(&[(GZIP, &zipped, &packed), (TAR, &plain, &plain)]);
    template.load(&layout.list(image, "app:1").pack());
    let shown = template.ok(&["ls", "-lR", "app:1"]);
    let stored = template.store.find("app:1").unwrap();
    let (zipped, plain) = (
        &stored.manifest_data.layers[0],
        &stored.manifest_data.layers[1],
    );
    let packed = stored.config.rootfs.diff_ids[0];
    let store = &template.store;
    fs::create_dir_all(store.root().join("strata/objects")).unwrap();
    let object = store
        .root()
        .join("strata/objects")
        .join(blake3::hash(b"object").to_hex().as_str());
    fs::write(&object, b"object").unwrap();
    let index = store.layer_index_path(&packed);
    // The file, its part, and whether it can be made again.
    let files = [
        (store.blob_path(&zipped.digest), Part::Layer, false),
        (store.blob_path(&plain.digest), Part::Layer, false),
        (store.blob_path(&stored.manifest), Part::Manifest, false),
        (store.blob_path(&stored.id), Part::Config, false),
        (index.with_extension("json"), Part::LayerRecord, true),
        (index, Part::LayerIndex, true),
        (store.layer_tar_path(&packed), Part::LayerTar, true),
        (
            store.chain_path(&stored.chain().unwrap()),
            Part::ChainIndex,
            true,
        ),
        (object, Part::Object, true),
    ];
    let mut made = 0;
    for (path, part, derived) in &files {
        assert!(path.exists(), "{part:?}: {}", path.display());
        for how in [Harm::Truncate, Harm::Delete, Harm::Flip] {
            let case = format!("{part:?} {how:?}");
            let bench = Bench::new();
            copy_tree(store.root(), bench.store.root());
            let below = path.strip_prefix(store.root()).unwrap();
            harm(&bench.store.root().join(below), how);
            // What is derived and not there is no damage, unless something vouches for it.
            let harmless = matches!(how, Harm::Delete)
                && matches!(part, Part::LayerRecord | Part::ChainIndex | Part::Object);
            let report = verify(&bench.store, &Scope::All, Mode::Check, &Silent).unwrap();
            let found: Vec<_> = report.damage.iter().map(|d| d.part).collect();
            match harmless {
                true => assert_eq!(found, [], "{case}: {:?}", report.damage),
                false => assert_eq!(found, [*part], "{case}: {:?}", report.damage),
            }
            assert_eq!(report.is_sound(), harmless, "{case}");
            let ran = bench.run(&["verify", "--repair"]);
            let sound = harmless || *derived;
            assert_eq!(
                ran.code,
                i32::from(!sound),
                "{case}: {}{}",
                ran.out,
                ran.err
            );
            let again = bench.run(&["verify", "--all"]);
            assert_eq!(
                again.code,
                i32::from(!sound),
                "{case}: {}{}",
                again.out,
                again.err
            );
            if sound {
                assert_eq!(bench.ok(&["ls", "-lR", "app:1"]), shown, "{case}");
                assert_eq!(bench.ok(&["verify", "app:1"]).lines().count(), 1, "{case}");
                made += usize::from(!harmless);
            }
        }
    }
    assert_eq!(made, 12);
}

#[test]
fn indexes_that_are_sound_but_not_their_layers_are_found() {
    let bench = Bench::new();
    let (one, two) = (layer("one"), layer("two"));
    let mut docker = Docker::new("app:1", &[&one]);
    docker.add(&["app:2"], &[&two]);
    bench.load(&docker.pack());
    let layer = |name: &str| bench.store.find(name).unwrap().config.rootfs.diff_ids[0];
    let path = |name: &str| bench.store.layer_index_path(&layer(name));
    fs::copy(path("app:2"), path("app:1")).unwrap();
    let report = verify(
        &bench.store,
        &Scope::Images(vec!["app:1".into()]),
        Mode::Check,
        &Silent,
    );
    let report = report.unwrap();
    assert!(
        report
            .damage
            .iter()
            .any(|d| d.part == Part::LayerIndex && d.why == "another layer's")
    );
    assert_eq!(report.damage[0].images, ["app:1"]);
    assert_eq!(bench.run(&["verify", "app:2"]).code, 0);
    assert_eq!(bench.run(&["verify", "--repair", "app:1"]).code, 0);
    assert_eq!(bench.run(&["verify"]).code, 0);
    assert_eq!(bench.run(&["verify", "app:3"]).code, 1);
}

#[test]
fn both_copies_of_a_layer_lost() {
    let bench = Bench::new();
    let packed = layer("packed");
    let zipped = gzip(&packed);
    let mut layout = Layout::new();
    let image = layout.image(&[(GZIP, &zipped, &packed)]);
    bench.load(&layout.list(image, "app:1").pack());
    let stored = bench.store.find("app:1").unwrap();
    let diff_id = stored.config.rootfs.diff_ids[0];
    harm(
        &bench
            .store
            .blob_path(&stored.manifest_data.layers[0].digest),
        Harm::Flip,
    );
    harm(&bench.store.layer_index_path(&diff_id), Harm::Flip);
    // The uncompressed copy still gives the index.
    let ran = bench.run(&["verify", "--repair"]);
    assert_eq!(ran.code, 1);
    assert!(
        ran.out.contains("repaired: layer's index") && ran.out.contains("damaged: layer blobs"),
        "{}",
        ran.out
    );
    harm(&bench.store.layer_tar_path(&diff_id), Harm::Flip);
    harm(&bench.store.layer_index_path(&diff_id), Harm::Truncate);
    let ran = bench.run(&["verify", "--repair"]);
    assert_eq!(ran.code, 1);
    assert!(ran.out.contains("load the image again"), "{}", ran.out);
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
