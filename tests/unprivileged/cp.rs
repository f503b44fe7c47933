//! `cp`: Docker's rules, links, streams, hostile input; the container is not mounted.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Stdio;

use crate::common::build::Tar;
use crate::common::cli::{Said, Strata};
use crate::common::tree;
use crate::containers::with_base;

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// The paths and contents of files below a directory.
fn files(root: &Path) -> Vec<(String, String)> {
    let tree = tree::list(root);
    let files = tree.iter().filter(|(_, object)| object.kind == "file");
    files
        .map(|(path, _)| {
            let text = fs::read_to_string(root.join(path)).unwrap();
            (path.to_str().unwrap().to_owned(), text)
        })
        .collect()
}

/// The same, of a container, by a copy of its directory.
fn files_in(strata: &Strata, dir: &str) -> Vec<(String, String)> {
    let out = tempfile::tempdir_in(&strata.scratch).unwrap();
    let from = format!("box:{dir}/.");
    strata.ok(&["cp", "-q", &from, out.path().to_str().unwrap()]);
    files(out.path())
}

fn with_box() -> Strata {
    let strata = with_base();
    strata.ok(&["create", "--name", "box", "base:1"]);
    write(&strata.path("src/dir/a"), "a\n");
    write(&strata.path("src/dir/sub/b"), "b\n");
    write(&strata.path("src/file"), "file\n");
    strata
}

/// Pipes bytes into `strata cp - PLACE`.
fn pour(strata: &Strata, tar: &[u8], place: &str) -> Said {
    let mut command = strata.command();
    command.args(["cp", "-", place]).stdin(Stdio::piped());
    let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // One that refuses the beginning reads no further.
    child.stdin.take().unwrap().write_all(tar).ok();
    let output = child.wait_with_output().unwrap();
    Said {
        command: format!("cp - {place}"),
        ok: output.status.success(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Each rule: source, destination, and the file that comes of it (below /srv, or `out`), or what is
/// said against it.
const RULES: &[(&str, &str, Result<&str, &str>)] = &[
    ("file", "new", Ok("new")),
    ("file", "new/", Err("no such directory")),
    ("file", "old", Ok("old")),
    ("file", "old/", Err("Not a directory")),
    ("file", "there", Ok("there/file")),
    ("file", "there/", Ok("there/file")),
    ("file", "gone/new", Err("No such file or directory")),
    ("file/", "new", Err("Not a directory")),
    ("dir", "new", Ok("new/sub/b")),
    ("dir", "new/", Ok("new/sub/b")),
    ("dir/", "new", Ok("new/sub/b")),
    ("dir", "old", Err("cannot copy a directory to a file")),
    ("dir", "there", Ok("there/dir/sub/b")),
    ("dir/.", "there", Ok("there/sub/b")),
    ("dir/.", "new", Ok("new/sub/b")),
    ("dir/sub/..", "there", Ok("there/dir/sub/b")),
    ("dir", "link", Ok("there/dir/sub/b")),
    ("gone", "new", Err("No such file or directory")),
];

#[test]
fn dockers_rules_hold_into_a_container() {
    for (source, destination, expected) in RULES {
        let strata = with_box();
        write(&strata.path("to/old"), "old\n");
        write(&strata.path("to/there/x"), "x\n");
        symlink("there", strata.path("to/link")).unwrap();
        let to = strata.path("to");
        strata.ok(&["cp", "-q", to.to_str().unwrap(), "box:/srv/"]);
        let from = strata.path("src").join(source);
        // `Path::join` keeps what is at the end of the text.
        let from = format!("{}", from.display());
        let said = strata.run(&["cp", &from, &format!("box:/srv/to/{destination}")]);
        check(source, destination, expected, said, || {
            files_in(&strata, "/srv/to")
        });
    }
}

#[test]
fn dockers_rules_hold_out_of_a_container() {
    for (source, destination, expected) in RULES {
        let strata = with_box();
        let from = strata.path("src");
        strata.ok(&["cp", "-q", from.to_str().unwrap(), "box:/srv/"]);
        let out = strata.path("out");
        write(&out.join("old"), "old\n");
        write(&out.join("there/x"), "x\n");
        symlink("there", out.join("link")).unwrap();
        let to = format!("{}/{destination}", out.display());
        let said = strata.run(&["cp", &format!("box:srv/src/{source}"), &to]);
        check(source, destination, expected, said, || files(&out));
    }
}

fn check(
    source: &str,
    destination: &str,
    expected: &Result<&str, &str>,
    said: Said,
    files: impl FnOnce() -> Vec<(String, String)>,
) {
    let rule = format!("{source} -> {destination}");
    match expected {
        Ok(file) => {
            assert!(said.ok, "{rule}: {}", said.err);
            let text = if source.starts_with("file") {
                "file\n"
            } else {
                "b\n"
            };
            let found = files();
            let entry = ((*file).to_owned(), text.to_owned());
            assert!(found.contains(&entry), "{rule}: {found:?}");
        }
        Err(why) => {
            assert!(!said.ok, "{rule}");
            let one = said.err.lines().count() == 1;
            assert!(one && said.err.contains(why), "{rule}: {}", said.err);
            let old = ("old".to_owned(), "old\n".to_owned());
            assert!(files().contains(&old), "{rule}");
        }
    }
}

#[test]
fn links_never_lead_out_of_the_container() {
    let strata = with_box();
    let secret = strata.path("secret");
    write(&secret, "secret\n");
    let path = secret.to_str().unwrap();
    // In the container: links to an absolute path and above the root.
    let up = format!("../../../../../../../..{path}");
    let tar = Tar::new()
        .link(b'2', "abs", path)
        .link(b'2', "up", &up)
        .link(b'2', "loop", "loop")
        .link(b'2', "lib", "usr/lib")
        .dir("usr/lib/")
        .end();
    assert!(pour(&strata, &tar, "box:/").ok);
    let out = strata.path("out");
    for link in ["abs", "up", "loop"] {
        let said = strata.run(&["cp", "-L", &format!("box:/{link}"), out.to_str().unwrap()]);
        assert!(!said.ok && !out.exists(), "{link}");
        // Without -L, the link itself.
        strata.ok(&["cp", &format!("box:/{link}"), out.to_str().unwrap()]);
        assert!(fs::symlink_metadata(&out).unwrap().is_symlink());
        fs::remove_file(&out).unwrap();
    }
    // Into the container: a link on the way is followed inside it.
    let file = strata.path("src/file");
    let file = file.to_str().unwrap();
    let said = strata.run(&["cp", file, "box:/abs"]);
    assert!(!said.ok, "its directory is not there in the container");
    assert_eq!(fs::read_to_string(&secret).unwrap(), "secret\n");
    strata.ok(&["cp", file, "box:/lib/"]);
    assert_eq!(
        files_in(&strata, "/usr/lib"),
        [("file".to_owned(), "file\n".to_owned())]
    );
    let merged = Tar::new().dir("lib/").end();
    let refused = pour(&strata, &merged, "box:/");
    assert!(
        refused.err.contains("cannot overwrite non-directory"),
        "{}",
        refused.err
    );
    let below = Tar::new().file("lib/below", b"below\n").end();
    assert!(pour(&strata, &below, "box:/").ok);
    assert_eq!(files_in(&strata, "/usr/lib").len(), 2);
}

#[test]
fn links_on_the_host_are_not_followed_below_the_destination() {
    let strata = with_box();
    let elsewhere = strata.path("elsewhere");
    write(&elsewhere.join("kept"), "kept\n");
    let src = strata.path("src");
    strata.ok(&["cp", "-q", src.to_str().unwrap(), "box:/srv/"]);
    let out = strata.path("out");
    fs::create_dir(&out).unwrap();
    symlink(&elsewhere, out.join("dir")).unwrap();
    let said = strata.run(&["cp", "box:/srv/src/dir", out.to_str().unwrap()]);
    assert!(
        said.err
            .contains("cannot overwrite non-directory with directory"),
        "{}",
        said.err
    );
    fs::remove_file(out.join("dir")).unwrap();
    fs::create_dir(out.join("dir")).unwrap();
    symlink(&elsewhere, out.join("dir/sub")).unwrap();
    assert!(
        !strata
            .run(&["cp", "box:/srv/src/dir", out.to_str().unwrap()])
            .ok
    );
    // A file in a link's place takes it, and what the link was to stays.
    fs::remove_file(out.join("dir/sub")).unwrap();
    fs::remove_file(out.join("dir/a")).unwrap();
    symlink(elsewhere.join("kept"), out.join("dir/a")).unwrap();
    strata.ok(&["cp", "box:/srv/src/dir", out.to_str().unwrap()]);
    assert!(fs::symlink_metadata(out.join("dir/a")).unwrap().is_file());
    assert_eq!(
        files(&elsewhere),
        [("kept".to_owned(), "kept\n".to_owned())]
    );
    // A destination that is a link itself is meant by whoever names it.
    symlink(elsewhere.join("new"), strata.path("named")).unwrap();
    strata.ok(&[
        "cp",
        "box:/srv/src/file",
        strata.path("named").to_str().unwrap(),
    ]);
    assert_eq!(fs::read_to_string(elsewhere.join("new")).unwrap(), "file\n");
}

#[test]
fn owners_modes_and_times_are_kept_or_given() {
    let strata = with_box();
    let file = strata.path("src/file");
    let time = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_500_000_000);
    fs::File::options()
        .write(true)
        .open(&file)
        .unwrap()
        .set_modified(time)
        .unwrap();
    let root = rustix::process::geteuid().is_root();
    if root {
        std::os::unix::fs::chown(&file, Some(5), Some(6)).unwrap();
    }
    fs::set_permissions(&file, fs::Permissions::from_mode(0o4751)).unwrap();
    let from = file.to_str().unwrap();
    let out = strata.path("out");
    let after = |into: &[&str], back: &[&str]| {
        strata.ok(&[&["cp"], into, &[from, "box:/srv/f"]].concat());
        strata.ok(&[&["cp"], back, &["box:/srv/f", out.to_str().unwrap()]].concat());
        let meta = fs::metadata(&out).unwrap();
        assert_eq!(
            (meta.mode() & 0o7777, meta.mtime()),
            (0o4751, 1_500_000_000)
        );
        (meta.uid(), meta.gid())
    };
    let me = (
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    );
    assert_eq!(after(&[], &[]), me);
    if root {
        assert_eq!(after(&["-a"], &["-a"]), (5, 6));
        assert_eq!(after(&["-a"], &[]), me);
        assert_eq!(after(&[], &["-a"]), (0, 0));
    }
}

#[test]
fn trees_go_through_streams_unchanged() {
    let strata = with_box();
    let src = strata.path("src");
    fs::hard_link(src.join("file"), src.join("dir/hard")).unwrap();
    symlink("../file", src.join("dir/soft")).unwrap();
    fs::write(src.join("wei\u{df} x\n"), "name\n").unwrap();
    let sparse = fs::File::create(src.join("sparse")).unwrap();
    sparse.set_len(1 << 30).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"end", (1 << 29) + 5).unwrap();
    drop(sparse);
    let mut tar = std::process::Command::new("tar");
    tar.args(["c", "-S", "-C"]).arg(&strata.scratch).arg("src");
    let tar = tar.output().unwrap().stdout;
    let said = pour(&strata, &tar, "box:/srv");
    assert!(said.ok, "{}", said.err);
    let out = strata
        .command()
        .args(["cp", "box:/srv/src", "-"])
        .output()
        .unwrap();
    assert!(out.status.success());
    assert!(
        out.stdout.len() < 4 << 20,
        "holes were written: {}",
        out.stdout.len()
    );
    let back = strata.path("back");
    fs::create_dir(&back).unwrap();
    let mut untar = std::process::Command::new("tar");
    untar
        .args(["x", "-p", "-C"])
        .arg(&back)
        .stdin(Stdio::piped());
    let mut child = untar.spawn().unwrap();
    child.stdin.take().unwrap().write_all(&out.stdout).unwrap();
    assert!(child.wait().unwrap().success());
    tree::assert_same(
        ("sent", &tree::list(&src)),
        ("back", &tree::list(&back.join("src"))),
    );
    let blocks = fs::metadata(back.join("src/sparse")).unwrap().blocks();
    assert!(blocks < 2048, "{blocks}");
}

#[test]
fn hostile_streams_are_refused_by_member() {
    let strata = with_box();
    let outside = strata.path("outside");
    write(&outside, "outside\n");
    let link = outside.to_str().unwrap();
    for (what, tar) in [
        ("up", Tar::new().file("../../up", b"x").end()),
        ("link nowhere", Tar::new().link(b'1', "h", "nowhere").end()),
        (
            "link above",
            Tar::new().link(b'1', "h", "../../etc/passwd").end(),
        ),
        (
            "link to directory",
            Tar::new().dir("d/").link(b'1', "h", "d").end(),
        ),
        (
            "directory over file",
            Tar::new().file("f", b"").dir("f/").end(),
        ),
        (
            "file over directory",
            Tar::new().dir("d/").file("d", b"").end(),
        ),
        (
            "below a file",
            Tar::new().file("f", b"").file("f/g", b"").end(),
        ),
        (
            "cut",
            Tar::new().file("f", &[1; 2000]).end()[..1200].to_vec(),
        ),
        ("noise", vec![b'n'; 2000]),
    ] {
        let said = pour(&strata, &tar, "box:/srv");
        assert!(!said.ok, "{what}");
        assert_eq!(said.err.lines().count(), 1, "{what}: {}", said.err);
    }
    // A hard link through a symbolic link, and a file through one, stay inside.
    let tar = Tar::new()
        .link(b'2', "s", link)
        .link(b'1', "h", "s")
        .file("s", b"new\n")
        .end();
    assert!(pour(&strata, &tar, "box:/srv").ok);
    assert_eq!(fs::read_to_string(&outside).unwrap(), "outside\n");
    let said = pour(&strata, &Tar::new().end(), "box:/etc/motd");
    assert!(said.err.contains("must be a directory"), "{}", said.err);
    for words in [
        &["cp", "a", "b"][..],
        &["cp", "box:/etc", "box:/srv"],
        &["cp", "box:", "x"],
        &["cp", "gone:/etc", "x"],
        &["cp", "-", "-"],
    ] {
        assert_eq!(strata.run(words).failure().lines().count(), 1, "{words:?}");
    }
}

#[test]
fn lower_files_are_replaced_and_layers_stay() {
    let strata = with_box();
    let blobs = strata.blobs();
    write(&strata.path("motd"), "third\n");
    let motd = strata.path("motd");
    strata.ok(&["cp", motd.to_str().unwrap(), "box:/etc/motd"]);
    assert_eq!(strata.ok(&["diff", "box"]), "C /etc\nC /etc/motd\n");
    let etc = files_in(&strata, "/etc");
    assert!(
        etc.contains(&("motd".to_owned(), "third\n".to_owned())),
        "{etc:?}"
    );
    strata.assert_blobs_intact(&blobs);
}
