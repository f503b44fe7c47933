//! Hostile archives: each is refused in one line that names the archive, the member and the
//! reason, and the store is as it was.

mod docker;
mod layouts;
mod members;

use std::path::Path;

use serde_json::json;
use stratafs::archive::{Limits, LoadOptions, Silent, Source, load};
use stratafs::store::Store;

use self::docker::bad_docker;
use self::layouts::bad_layouts;
use self::members::bad_members;
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
