//! Looking into images without running them: `layers` and `which` against layers made by tar(1),
//! archives that were never loaded, names that would act on a terminal, and what is opened for it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use stratafs::archive::{LoadOptions, Silent, Source, load};
use stratafs::image::Digest;
use stratafs::inspect::path::Last;
use stratafs::inspect::sum::sums;
use stratafs::inspect::which::which;
use stratafs::inspect::{Counts, Descend, Image, Span, Stack, Target, Visit};
use stratafs::store::Store;

use crate::common::build::*;

/// Runs a script of the shell in a directory; it must succeed.
fn shell(dir: &Path, script: &str) {
    let mut sh = Command::new("sh");
    let status = sh.args(["-ec", script]).current_dir(dir).status().unwrap();
    assert!(status.success(), "{script}");
}

/// A store and files beside it.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn store(&self) -> Store {
        Store::open(&self.path("store")).unwrap()
    }

    fn run(&self, words: &[&str]) -> Output {
        self.run_os(&words.iter().map(OsStr::new).collect::<Vec<_>>())
    }

    fn run_os(&self, words: &[&OsStr]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_strata"))
            .arg("--root")
            .arg(self.path("store"))
            .args(words)
            .env("LC_ALL", "C")
            .output()
            .unwrap()
    }

    /// What a command prints that succeeds.
    fn ok(&self, words: &[&str]) -> String {
        let output = self.run(words);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words:?}: {error}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// The exit status and the message of one that fails.
    fn fails(&self, words: &[&str]) -> (i32, String) {
        let output = self.run(words);
        assert!(!output.status.success(), "{words:?}");
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(error.lines().count(), 1, "{words:?}: {error}");
        (output.status.code().unwrap(), error)
    }

    fn open(&self, name: &str) -> Result<Image, String> {
        let target = Target::parse(OsStr::new(name)).unwrap();
        Image::open(&self.store(), &target, &Silent).map_err(|e| e.to_string())
    }
}

/// Four layers by tar(1) that do everything that layers do.
fn by_tar(place: &Place) -> Docker {
    let dir = place.path("layers");
    std::fs::create_dir(&dir).unwrap();
    shell(
        &dir,
        r#"
        stamp() { find "$1" -exec touch -h -d "@$2" {} +; }
        pack() { tar -C "$1" --sort=name --format=pax --owner=0 --group=0 --numeric-owner -cf "$1.tar" $2; }
        umask 022
        mkdir -p 1/etc 1/turn 1/opaque/sub 1/gone/deep
        echo one > 1/etc/content; echo same > 1/etc/mode; echo again > 1/etc/again
        echo x > 1/turn/inside; echo x > 1/opaque/hidden; echo x > 1/opaque/kept; echo x > 1/opaque/sub/leaf
        echo x > 1/gone/deep/leaf; echo x > 1/gone/leaf; echo x > 1/removed; ln -s etc 1/link
        echo file > 1/file-to-dir
        stamp 1 1000000000; pack 1 .
        mkdir -p 2/etc 2/file-to-dir
        echo two > 2/etc/content; echo same > 2/etc/mode; chmod 600 2/etc/mode
        echo again > 2/etc/again; echo x > 2/etc/added; echo y > 2/turn; echo x > 2/file-to-dir/child
        touch 2/.wh.removed 2/.wh.gone 2/.wh.never-there
        stamp 2 1000000000; touch -d @1000000001 2/etc/content; pack 2 "etc turn file-to-dir .wh.removed .wh.gone .wh.never-there"
        mkdir -p 3/opaque/sub 3/turn
        touch 3/opaque/.wh..wh..opq; echo z > 3/opaque/kept; echo z > 3/opaque/new; echo z > 3/turn/back
        stamp 3 1000000000; pack 3 "opaque turn"
        mkdir -p 4/etc 4/removed
        ln 2/etc/content 4/etc/content; ln 4/etc/content 4/etc/second; echo q > 4/removed/again
        stamp 4/removed 1000000000; pack 4 "etc/content etc/second removed"
        "#,
    );
    let layers: Vec<Vec<u8>> = (1..=4)
        .map(|n| std::fs::read(dir.join(format!("{n}.tar"))).unwrap())
        .collect();
    let layers: Vec<&[u8]> = layers.iter().map(Vec::as_slice).collect();
    let mut docker = Docker::new("four:1", &layers);
    with_history(
        &mut docker,
        &["ADD one", "RUN two", "RUN three", "RUN four"],
    );
    docker
}

/// Gives the image's configuration a history: a step without a layer before each with one.
fn with_history(docker: &mut Docker, steps: &[&str]) {
    let old = docker.manifest[0]["Config"].as_str().unwrap().to_owned();
    let bytes = docker.files.remove(&old).unwrap();
    let mut config: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    let history: Vec<_> = steps
        .iter()
        .flat_map(|step| {
            [
                serde_json::json!({"created_by": "ENV a=b", "empty_layer": true}),
                serde_json::json!({"created_by": step}),
            ]
        })
        .collect();
    config["history"] = history.into();
    let bytes = config.to_string().into_bytes();
    let name = format!("{}.json", Digest::of(&bytes).hex());
    docker.files.insert(name.clone(), bytes);
    docker.manifest[0]["Config"] = name.into();
}

fn four() -> (Place, String) {
    let place = Place::new();
    let archive = place.path("four.tar");
    std::fs::write(&archive, by_tar(&place).pack()).unwrap();
    let name = format!("docker-archive:{}", archive.display());
    (place, name)
}

#[test]
fn what_each_layer_changed_is_what_its_tar_says() {
    let (place, name) = four();
    let changed = |number: &str| place.ok(&["layers", &name, number]);
    assert_eq!(
        changed("1").lines().count(),
        18,
        "all of the first is new: {}",
        changed("1")
    );
    // etc itself is as it was; what only was written again is no change, and a whiteout of nothing
    // does nothing.
    assert_eq!(
        changed("2"),
        "A /etc/added\nC /etc/content\nC /etc/mode\nC /file-to-dir\nA /file-to-dir/child\nD /gone\n\
         D /removed\nC /turn\n"
    );
    assert_eq!(
        changed("3"),
        "D /opaque/hidden\nC /opaque/kept\nA /opaque/new\nD /opaque/sub/leaf\nC /turn\nA /turn/back\n"
    );
    assert_eq!(
        changed("4"),
        "A /etc/second\nA /removed\nA /removed/again\n"
    );
    let rows = place.ok(&[
        "layers",
        "--format",
        "{{.Layer}} {{.CreatedBy}} {{.Added}} {{.Changed}} {{.Removed}} {{.Uncompressed}}",
        &name,
    ]);
    let length = |n: usize| {
        let tar = place.path(&format!("layers/{n}.tar"));
        std::fs::metadata(tar).unwrap().len()
    };
    let expected = [
        // The root and 18 more.
        format!("1 ADD one 19 0 0 {}", length(1)),
        // gone with three objects in it, removed, and what was in the directory turn.
        format!("2 RUN two 2 4 6 {}", length(2)),
        format!("3 RUN three 2 2 2 {}", length(3)),
        format!("4 RUN four 3 0 0 {}", length(4)),
    ];
    assert_eq!(rows.lines().collect::<Vec<_>>(), expected);
    assert_eq!(place.fails(&["layers", &name, "5"]).0, 1);
}

#[test]
fn which_tells_every_layer_that_has_a_path() {
    let (place, name) = four();
    let told = |path: &str| {
        let rows = place.ok(&["which", "--format", "{{.Layer}} {{.Did}}", &name, path]);
        rows.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(
        told("/etc/content"),
        ["4 written again", "2 changed content, times", "1 added"]
    );
    assert_eq!(told("/etc/mode"), ["2 changed mode", "1 added"]);
    assert_eq!(told("/etc/again"), ["2 written again", "1 added"]);
    assert_eq!(told("/link/again"), ["2 written again", "1 added"]);
    assert_eq!(told("/link"), ["1 added"]);
    assert_eq!(told("/removed"), ["4 added", "2 removed", "1 added"]);
    assert_eq!(told("/gone/deep/leaf"), ["2 removed with /gone", "1 added"]);
    assert_eq!(
        told("/turn"),
        ["3 changed type, mode", "2 changed type, mode", "1 added"]
    );
    assert_eq!(told("/turn/inside"), ["2 removed with /turn", "1 added"]);
    assert_eq!(
        told("/opaque/hidden"),
        ["3 removed with /opaque", "1 added"]
    );
    assert_eq!(
        told("/opaque/sub/leaf"),
        ["3 removed with /opaque", "1 added"]
    );
    assert_eq!(told("/opaque"), ["3 written again, made opaque", "1 added"]);
    assert_eq!(told("/file-to-dir/child"), ["2 added"]);
    let row = place.ok(&["which", "--format", "json", &name, "/etc/mode"]);
    let row: serde_json::Value = serde_json::from_str(row.lines().next().unwrap()).unwrap();
    assert_eq!(row["CreatedBy"], "RUN two");
    assert_eq!(row["Size"], 5);
    assert_eq!(row["Changed"], serde_json::json!(["mode"]));
    let (status, said) = place.fails(&["which", &name, "/never-there"]);
    assert!(status == 1 && said.contains("no layer has it"), "{said}");
}

#[test]
fn layers_alone_and_stacks_are_trees_too() {
    let (place, name) = four();
    let list = |words: &[&str]| place.ok(words);
    assert_eq!(
        list(&["ls", "-A", &format!("{name}@2")]),
        "etc\nfile-to-dir\ngone\nnever-there\nremoved\nturn\n"
    );
    assert_eq!(
        list(&["find", &format!("{name}@2"), "-type", "w"]),
        "/gone\n/never-there\n/removed\n"
    );
    assert_eq!(list(&["ls", &format!("{name}@..1:/turn")]), "inside\n");
    assert_eq!(list(&["ls", "-d", &format!("{name}@..2:/turn")]), "/turn\n");
    assert_eq!(list(&["ls", &format!("{name}:/turn")]), "back\n");
    assert_eq!(list(&["cat", &format!("{name}@..1:/etc/content")]), "one\n");
    assert_eq!(list(&["cat", &format!("{name}:/link/content")]), "two\n");
    assert_eq!(place.fails(&["ls", &format!("{name}@9")]).0, 2);
    let tar = format!("tar:{}", place.path("layers/3.tar").display());
    assert_eq!(list(&["ls", &format!("{tar}:/opaque")]), "kept\nnew\nsub\n");
    assert_eq!(list(&["cat", &format!("{tar}:/turn/back")]), "z\n");
    assert_eq!(
        list(&["find", &name, "-links", "2", "-type", "f"]),
        "/etc/content\n/etc/second\n"
    );
    assert_eq!(list(&["readlink", &format!("{name}:/link")]), "etc\n");
    let row = list(&["readlink", "--format", "json", &format!("{name}:/link")]);
    assert!(row.contains("\"Target\":\"etc\""), "{row}");
    assert_eq!(
        list(&["readlink", "-f", &format!("{name}:/link/x")]),
        "/etc/x\n"
    );
    assert_eq!(
        place
            .run(&["readlink", &format!("{name}:/etc")])
            .status
            .code(),
        Some(1)
    );
    assert_eq!(
        list(&["stat", "-c", "%a %F %s %l %n", &format!("{name}:/etc/mode")]),
        "600 regular file 5 2 /etc/mode\n"
    );
}

/// Each form of an archive gives what the loaded image gives, is read once, and is noticed when it
/// is another file.
#[test]
fn archives_are_read_once_and_give_what_the_store_gives() {
    let (place, name) = four();
    let archive = place.path("four.tar");
    let store = place.store();
    let source = Source::Path(archive.clone());
    let listing = |name: &str| {
        [&["ls", "-lR"][..], &["find", "-ls"], &["sum"]].map(|words| match words {
            ["find", action] => place.ok(&["find", name, action]),
            words => place.ok(&[words, &[name]].concat()),
        })
    };
    let before = listing(&name);
    let gz = place.path("four.tar.gz");
    std::fs::write(&gz, gzip(&std::fs::read(&archive).unwrap())).unwrap();
    let wrapped = format!("docker-archive:{}", gz.display());
    assert_eq!(listing(&wrapped), before);
    let layers: Vec<Vec<u8>> = (1..=4)
        .map(|n| std::fs::read(place.path(&format!("layers/{n}.tar"))).unwrap())
        .collect();
    let packed: Vec<Vec<u8>> = layers.iter().map(|layer| gzip(layer)).collect();
    let layers: Vec<_> = layers
        .iter()
        .zip(&packed)
        .map(|(plain, packed)| (GZIP, packed.as_slice(), plain.as_slice()))
        .collect();
    let mut layout = Layout::new();
    let image = layout.image(&layers);
    let layout = layout.list(image, "four:2");
    layout.unpack(&place.path("layout"));
    std::fs::write(place.path("oci.tar"), layout.pack()).unwrap();
    for name in [
        format!("oci:{}", place.path("layout").display()),
        format!("oci-archive:{}:four:2", place.path("oci.tar").display()),
    ] {
        assert_eq!(listing(&name), before, "{name}");
    }

    // Nothing is unpacked: indexes and records are all that there is now.
    let kept = files(&place.path("store/strata/inspect"));
    assert!(kept.iter().all(|(path, _)| {
        path.extension()
            .is_some_and(|e| e == "layer" || e == "chain" || e == "json")
    }));
    assert!(files(&place.path("store/strata/layers")).is_empty());
    assert!(files(&place.path("store/blobs")).is_empty());

    load(&store, &source, &LoadOptions::default(), &Silent).unwrap();
    assert_eq!(listing("four:1"), before);
    std::fs::write(&archive, Docker::new("one:1", &[&layer("one")]).pack()).unwrap();
    assert_eq!(place.ok(&["ls", &name]), "etc\n");
}

/// From the index alone: only contents open a layer's data.
#[test]
fn only_contents_open_blobs() {
    let (place, name) = four();
    let image = place.open(&name).unwrap();
    for span in [Span::All, Span::UpTo(2), Span::Layer(3)] {
        let tree = image.tree_of(span).unwrap();
        let mut seen = 0;
        let mut each = |visit: &Visit<'_>| {
            seen += 1;
            if let Some(object) = visit.entry.object() {
                tree.xattrs(&object)?;
                tree.content_key(&object)?;
                tree.paths_of(&object)?;
            }
            Ok(Descend::Into)
        };
        tree.walk(b"/", tree.root().unwrap(), &mut each).unwrap();
        assert!(seen > 5);
    }
    let stack = Stack::of(&image).unwrap();
    for place in 0..stack.len() {
        let changes = stack.changes(place).unwrap();
        assert_ne!(Counts::of(&changes), Counts::default());
    }
    assert!(!which(&image, b"/etc/content").unwrap().mentions.is_empty());
    let tree = image.tree().unwrap();
    let words = ["-user", "root", "-perm", "-600", "-size", "-2"].map(|w| w.as_bytes().to_vec());
    let find = stratafs::inspect::find::Find::parse(&words, &tree).unwrap();
    let mut found = 0;
    let root = tree.root().unwrap();
    find.run(&tree, b"/", root, &mut |_, _| {
        found += 1;
        Ok(())
    })
    .unwrap();
    assert!(found > 5);
    assert_eq!(image.blob_opens(), 0);
    let file = tree.resolve(b"/etc/content", Last::Follow).unwrap();
    assert_eq!(sums(&tree, b"/x", file.object, &Silent).unwrap().len(), 1);
    assert_eq!(image.blob_opens(), 1);
}

#[test]
fn names_are_bytes_and_never_act_on_a_terminal() {
    let place = Place::new();
    let odd = Tar::new()
        .with(b"\x1b[31mred", b'0', b"r", |_| {})
        .with(b"latin-\xe9", b'0', b"l", |_| {})
        .with(b"back\\slash\nline", b'0', b"b", |_| {})
        .end();
    std::fs::write(place.path("odd.tar"), &odd).unwrap();
    let name = format!("tar:{}", place.path("odd.tar").display());
    // Into a file, names are as they are.
    let output = place.run(&["ls", "-1", &name]).stdout;
    assert_eq!(output, b"\x1b[31mred\nback\\slash\nline\nlatin-\xe9\n");
    let path = [name.as_bytes(), b":/latin-\xe9"].concat();
    let output = place.run_os(&[OsStr::new("cat"), OsStr::from_bytes(&path)]);
    assert_eq!(output.stdout, b"l");
    let output = place.run_os(&[
        OsStr::new("find"),
        OsStr::new(&name),
        OsStr::new("-name"),
        OsStr::from_bytes(b"latin-\xe9"),
        OsStr::new("-print0"),
    ]);
    assert_eq!(output.stdout, b"/latin-\xe9\0");
    let sums = place.ok(&["sum", &name]);
    assert!(
        sums.contains("\n\\") && sums.contains("  /back\\\\slash\\nline\n"),
        "{sums}"
    );
    for word in ["json", "{{json .}}"] {
        let rows = place.ok(&["ls", "--format", word, &name]);
        assert!(!rows.contains('\x1b') && rows.contains("PathHex"), "{rows}");
    }
    let (_, said) = place.fails(&["ls", &format!("{name}:/\x1b[0m")]);
    assert!(!said.contains('\x1b'), "{said:?}");
    // On a terminal, which script(1) makes.
    let strata = env!("CARGO_BIN_EXE_strata");
    let root = place.path("store");
    for command in ["ls", "ls -l", "tree", "find", "sum", "layers"] {
        let more = if command == "layers" { " 1" } else { "" };
        let line = format!("{strata} --root {} {command} {name}{more}", root.display());
        let Ok(output) = Command::new("script")
            .args(["-qec", &line, "/dev/null"])
            .output()
        else {
            eprintln!("*** SKIPPED names on a terminal: no script(1) ***");
            return;
        };
        assert!(output.status.success(), "{line}");
        let text = output.stdout;
        assert!(!text.contains(&0x1b), "{line}: {}", text.escape_ascii());
        assert!(text.windows(3).any(|w| w == b"red"), "{line}");
    }
}

#[test]
fn wrong_expressions_are_refused_in_a_line() {
    let (place, name) = four();
    for (words, says) in [
        (&["-delete"][..], "doesn't change"),
        (&["-exec", "rm", "{}", ";"], "mount the image"),
        (&["-name"], "argument"),
        (&["(", "-name", "x"], "not closed"),
        (&["-name", "x", ")"], "nothing is open"),
        (&["-nonsense"], "not one of the tests"),
        (&["-type", "q"], "letters"),
        (&["-size", "x"], "number"),
        (&["!"], "too early"),
    ] {
        let (status, said) = place.fails(&[&["find", &name][..], words].concat());
        assert!(status == 2 && said.contains(says), "{words:?}: {said}");
    }
    let deep = vec!["!"; 100_000];
    let tree = place.open(&name).unwrap().tree().unwrap();
    let deep: Vec<_> = deep.iter().map(|w| w.as_bytes().to_vec()).collect();
    assert!(stratafs::inspect::find::Find::parse(&deep, &tree).is_err());
    let found = place.ok(&[
        "find", &name, "/etc", "/turn", "(", "-name", "a*", "-o", "-name", "b*", ")", "!", "-name",
        "ad*",
    ]);
    assert_eq!(found, "/etc/again\n/turn/back\n");
    let (status, said) = place.fails(&["find", &name, "-user", "nobody"]);
    assert!(status == 1 && said.contains("/etc/passwd"), "{said}");
}

#[test]
fn owners_have_the_names_of_the_image() {
    let owned = |tar: Tar, name: &str, uid: &[u8; 7], gid: &[u8; 7]| {
        tar.with(name.as_bytes(), b'0', b"x", |block| {
            block[108..115].copy_from_slice(uid);
            block[116..123].copy_from_slice(gid);
        })
    };
    let passwd = b"# users\nroot:x:0:0::/:/bin/sh\nwww:x:33:33::/:\nagain:x:33:33::/:\n\
        +nis::34:\n\xff\x1b[31m:x:35:35::/:\nlate:x:36:x::/:\n";
    let one = Tar::new()
        .dir("etc/")
        .file("etc/passwd", passwd)
        .file("etc/group", b"root:x:0:\nwww-data:x:33:www\n");
    let one = owned(one, "www", b"0000041", b"0000041");
    let one = owned(one, "nobody", b"0000042", b"0000042");
    let one = owned(one, "odd", b"0000043", b"0000043").end();
    let two = owned(Tar::new(), "late", b"0000044", b"0000000").end();
    let other = owned(Tar::new(), "f", b"0000041", b"0000000").end();
    let place = Place::new();
    let archive = place.path("owners.tar");
    let mut docker = Docker::new("app:1", &[&one, &two]);
    docker.add(&["bare:1"], &[&other]);
    std::fs::write(&archive, docker.pack()).unwrap();
    let app = format!("docker-archive:{}:app:1", archive.display());
    let bare = format!("docker-archive:{}:bare:1", archive.display());
    let owners = |words: &[&str]| -> Vec<String> {
        let text = place.ok(words);
        let rows = text.lines().filter(|line| line.starts_with('-'));
        rows.map(|row| {
            let fields: Vec<_> = row.split_whitespace().collect();
            format!("{} {} {}", fields.last().unwrap(), fields[2], fields[3])
        })
        .collect()
    };
    let odd = "odd $'\\377\\033''[31m' 35";
    let all = ["late late root", "nobody 34 34", odd, "www www www-data"];
    assert_eq!(owners(&["ls", "-l", &app]), all);
    let numbers = ["late 36 0", "nobody 34 34", "odd 35 35", "www 33 33"];
    assert_eq!(owners(&["ls", "-n", &app]), numbers);
    // A layer alone has the names of the image up to it; without the files, root is 0.
    assert_eq!(
        owners(&["ls", "-l", &format!("{app}@2")]),
        ["late late root"]
    );
    assert_eq!(owners(&["ls", "-l", &bare]), ["f 33 root"]);
    let full = place.ok(&["stat", &format!("{app}:/www")]);
    assert!(
        full.contains("Uid: (   33/     www)   Gid: (   33/www-data)"),
        "{full}"
    );
    let letters = ["stat", "-c", "%u %U %g %G"];
    let stat = |path: &str| place.ok(&[&letters[..], &[&format!("{app}:{path}")]].concat());
    assert_eq!(stat("/www"), "33 www 33 www-data\n");
    assert_eq!(stat("/nobody"), "34 UNKNOWN 34 UNKNOWN\n");
    let listed = place.ok(&["find", &app, "-user", "www", "-group", "www-data", "-ls"]);
    assert!(listed.contains(" www      www-data "), "{listed}");
    assert_eq!(place.ok(&["find", &app, "-nouser"]), "/nobody\n");
    for command in ["ls", "tree", "find", "stat"] {
        let name = match command {
            "find" => app.clone(),
            "stat" => format!("{app}:/www"),
            _ => format!("{app}:/"),
        };
        let rows = place.ok(&[command, "--format", "json", &name]);
        let row = rows.lines().find(|row| row.contains("\"/www\"")).unwrap();
        let row: serde_json::Value = serde_json::from_str(row).unwrap();
        assert_eq!((&row["UID"], &row["User"]), (&33.into(), &"www".into()));
        assert_eq!(
            (&row["GID"], &row["Group"]),
            (&33.into(), &"www-data".into())
        );
    }
}

#[test]
fn find_knows_ages_and_regular_expressions() {
    let now = std::time::SystemTime::now();
    let now = now.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let aged = |tar: Tar, name: &str, age: u64| {
        tar.with(name.as_bytes(), b'0', b"x", |block| {
            block[136..148].copy_from_slice(format!("{:011o}\0", now - age).as_bytes());
        })
    };
    const HOUR: u64 = 3600;
    let tar = aged(Tar::new(), "fresh", 90);
    let tar = aged(tar, "day", 30 * HOUR);
    let tar = aged(tar, "days", 80 * HOUR);
    let tar = aged(tar, "coming.txt", 0);
    let place = Place::new();
    let archive = place.path("ages.tar");
    std::fs::write(&archive, tar.end()).unwrap();
    let name = format!("tar:{}", archive.display());
    let find = |words: &[&str]| {
        let found = place.ok(&[&["find", &name, "-type", "f"], words].concat());
        found.replace('\n', " ").trim_end().to_owned()
    };
    assert_eq!(find(&["-mtime", "0"]), "/coming.txt /fresh");
    assert_eq!(find(&["-mtime", "1"]), "/day");
    assert_eq!(find(&["-mtime", "+0"]), "/day /days");
    assert_eq!(find(&["-mtime", "+2"]), "/days");
    assert_eq!(find(&["-mtime", "-3"]), "/coming.txt /day /fresh");
    assert_eq!(find(&["-mmin", "2"]), "/fresh");
    assert_eq!(find(&["-mmin", "-60"]), "/coming.txt /fresh");
    assert_eq!(find(&["-mmin", "+60"]), "/day /days");
    assert_eq!(find(&["-regex", "/da.+"]), "/day /days");
    assert_eq!(find(&["-regex", "/da"]), "");
    assert_eq!(find(&["-regex", r"/\(day\|fresh\)"]), "/day /fresh");
    assert_eq!(find(&["-iregex", "/DAY"]), "/day");
    let extended = ["-regextype", "posix-extended", "-regex", "/[a-z]{3,4}"];
    assert_eq!(find(&extended), "/day /days");
    for wrong in [
        &["-mtime", "x"][..],
        &["-regex", r"\("],
        &["-regextype", "perl"],
        &["-regex"],
    ] {
        let (status, said) = place.fails(&[&["find", &name], wrong].concat());
        assert!(
            status == 2 && said.lines().count() == 1,
            "{wrong:?}: {said}"
        );
    }
}
