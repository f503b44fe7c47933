use std::collections::BTreeMap;
use std::fs;

use super::sample::{LayerTar, Sample, eventful};
use super::*;
use crate::index::Index;
use crate::inspect::{Counts, Descend, Visit};
use crate::layer::format::MarkSpace;
use crate::layer::image::ImageLayer;
use crate::stat::Stat;
use crate::union::{Union, UnionOptions, Upper};

fn paths(levels: &Levels, level: usize) -> BTreeMap<Vec<u8>, (Option<char>, Stat)> {
    let mut found = BTreeMap::new();
    levels
        .walk(level, false, &mut |path, step| {
            if let Step::Enter(shown) = step {
                found.insert(path.to_vec(), (shown.letter(), shown.part.object.stat));
            }
            true
        })
        .unwrap();
    found
}

fn letters(levels: &Levels, level: usize) -> Vec<String> {
    let changed = paths(levels, level).into_iter();
    changed
        .filter_map(|(path, (letter, _))| Some(format!("{} {}", letter?, path.escape_ascii())))
        .collect()
}

/// What of attributes both ways to read a tree must agree on: numbers are each tree's own.
fn attributes(stat: &Stat) -> impl PartialEq + std::fmt::Debug + use<> {
    (
        stat.kind, stat.perm, stat.uid, stat.gid, stat.size, stat.mtime,
    )
}

#[test]
fn a_level_shows_what_the_flattened_stack_shows() {
    let sample = eventful();
    let image = sample.open("");
    let levels = Levels::of(&image).unwrap();
    assert_eq!(levels.len(), 3);
    for level in 0..3 {
        let tree = image.tree_of(Span::UpTo(level + 1)).unwrap();
        let mut expected = BTreeMap::new();
        let mut visit = |visit: &Visit<'_>| {
            let stat = visit.entry.object().unwrap().stat;
            expected.insert(visit.path.to_vec(), attributes(&stat));
            Ok(Descend::Into)
        };
        tree.walk(b"", tree.root().unwrap(), &mut visit).unwrap();
        let shown = paths(&levels, level).into_iter();
        let shown = shown.filter(|(_, (letter, _))| *letter != Some('D'));
        let shown: BTreeMap<_, _> = shown.map(|(p, (_, stat))| (p, attributes(&stat))).collect();
        assert_eq!(
            format!("{shown:#?}"),
            format!("{expected:#?}"),
            "level {level}"
        );
    }
    assert_eq!(image.blob_opens(), 0);
}

#[test]
fn what_a_layer_did_is_marked() {
    let sample = eventful();
    let levels = Levels::of(&sample.open("")).unwrap();
    assert_eq!(
        letters(&levels, 1),
        [
            "C /etc/moded",
            "C /etc/motd",
            "A /etc/new",
            "A /hard",
            "C /thing",
            "A /thing/inside",
            "D /usr/share/doc",
            "D /usr/share/doc/a",
            "D /usr/share/doc/b",
            "D /var/cache/one",
            "A /var/cache/three",
        ]
    );
    assert_eq!(
        letters(&levels, 2),
        [
            "C /link",
            "D /usr/big",
            "D /usr/linked",
            "A /usr/only",
            "D /usr/share",
            "C /var",
        ]
    );
}

#[test]
fn sums_are_those_of_the_changes() {
    let sample = eventful();
    let image = sample.open("");
    let levels = Levels::of(&image).unwrap();
    let stack = Stack::of(&image).unwrap();
    for level in 0..3 {
        let counts = Counts::of(&stack.changes(level).unwrap());
        let tally = levels.tally(level).unwrap();
        let found = (
            tally.added.entries,
            tally.changed.entries,
            tally.removed.entries,
        );
        assert_eq!(
            found,
            (counts.added, counts.changed, counts.removed),
            "level {level}"
        );
    }
    let first = levels.tally(0).unwrap();
    // The file with two names counts once.
    let bytes = 20_000 + 6 + 4 + 5 + 4 + 2 + 1 + 2 + 31;
    assert_eq!(first.added.bytes, bytes);
    // A link to a file of the layer below stores nothing.
    assert_eq!(levels.tally(1).unwrap().added.bytes, 3 + 3 + 6);
    let third = levels.tally(2).unwrap();
    // With what was in the directory that became a file.
    assert_eq!(
        (third.removed.bytes, third.changed.bytes),
        (20_000 + 2 + 3, 31)
    );
}

#[test]
fn directories_know_what_is_in_them() {
    let sample = eventful();
    let levels = Levels::of(&sample.open("")).unwrap();
    let facts = levels.facts(1, &|| true).unwrap().unwrap();
    let of = |path: &str| facts.dirs[path.as_bytes()];
    let doc = of("/usr/share/doc");
    assert_eq!((doc.bytes, doc.written, doc.removed), (0, 0, 6));
    assert!(of("/usr").kinds.removed && !of("/usr").kinds.added);
    assert_eq!(
        of("/var/cache"),
        DirFacts {
            bytes: 5,
            written: 5,
            removed: 1,
            kinds: Kinds {
                added: true,
                changed: false,
                removed: true,
            },
        }
    );
    assert_eq!(of("").bytes, 20_000 + 13 + 4 + 5 + 3 + 5 + 6);
    assert!(of("").kinds.meet(Kinds {
        changed: true,
        ..Kinds::default()
    }));
    assert!(levels.facts(1, &|| false).unwrap().is_none());
}

#[test]
fn the_layers_that_have_a_path_are_found() {
    let sample = eventful();
    let image = sample.open("");
    let levels = Levels::of(&image).unwrap();
    let which = |path: &str| -> Vec<String> {
        let found = levels.which(path.as_bytes()).unwrap().into_iter();
        found
            .map(|(level, shown)| format!("{level}{}", shown.letter().unwrap_or('=')))
            .collect()
    };
    assert_eq!(which("/etc/motd"), ["1C", "0A"]);
    assert_eq!(which("/etc/same"), ["1=", "0A"]);
    assert_eq!(which("/usr/share/doc/a"), ["1D", "0A"]);
    assert_eq!(which("/usr/big"), ["2D", "0A"]);
    assert_eq!(which("/hard"), ["1A"]);
    for path in [
        "/etc/motd",
        "/etc/same",
        "/usr/share/doc/a",
        "/usr",
        "/var/cache/two",
        "/thing",
    ] {
        let other = crate::inspect::which::which(&image, path.as_bytes()).unwrap();
        let other: Vec<_> = other
            .mentions
            .iter()
            .map(|m| (m.layer.unwrap() - 1, m.did))
            .collect();
        let found = levels.which(path.as_bytes()).unwrap().into_iter();
        let found: Vec<_> = found
            .map(|(level, shown)| (level, shown.did.unwrap()))
            .collect();
        assert_eq!(found, other, "{path}");
    }
    assert!(which("/none/such").is_empty() && which("/etc/motd/x").is_empty());
    let hard = levels.at(1, b"/hard").unwrap().unwrap();
    assert_eq!((hard.part.place, hard.part.object.stat.size), (0, 20_000));
    let removed = levels.at(1, b"/usr/share/doc/a").unwrap().unwrap();
    let mut bytes = [0; 8];
    let n = levels
        .open(&removed.part)
        .unwrap()
        .read_at(&mut bytes, 0)
        .unwrap();
    assert_eq!(&bytes[..n], b"aaaa");
}

#[test]
fn searches_end_where_they_are_told_to() {
    let sample = eventful();
    let levels = Levels::of(&sample.open("")).unwrap();
    let search = |touched, limit| {
        levels
            .search(1, touched, limit, &|path| path.contains(&b'o'), &|| true)
            .unwrap()
    };
    let all = search(false, 100);
    assert!(!all.more && all.paths.contains(&b"/etc/motd".to_vec()));
    assert_eq!(all.paths.iter().filter(|p| p.ends_with(b"/one")).count(), 1);
    let some = search(true, 2);
    assert!(some.more);
    assert_eq!(some.paths, [b"/etc/moded".to_vec(), b"/etc/motd".to_vec()]);
}

#[test]
fn a_containers_changes_are_its_own_level() {
    let sample = Sample::new(vec![(
        "ADD rootfs /",
        LayerTar::new()
            .dir("etc/")
            .file("etc/a", "a")
            .file("etc/b", "b")
            .dir("etc/sub/")
            .file("etc/sub/x", "x")
            .file("kept", "kept"),
    )]);
    let container = sample.container("web");
    let (upper, work) = (
        container.upper(&sample.store),
        container.work(&sample.store),
    );
    {
        let image = sample.store.find("sample:1").unwrap();
        let chain = sample.store.chain_path(&image.chain().unwrap());
        let index = Index::open(&chain).unwrap();
        let layer = Arc::new(ImageLayer::new(index, Arc::new(sample.store.clone())));
        let upper = Upper::open(&upper, &work, MarkSpace::native(), false).unwrap();
        let union = Union::new(vec![layer], Some(upper), UnionOptions::default()).unwrap();
        let name = |text: &str| NameBuf::new(text.as_bytes()).unwrap();
        let etc = union.lookup(&union.root(), &name("etc")).unwrap().unwrap();
        union.unlink(&etc.node, &name("a")).unwrap();
    }
    fs::write(upper.join("etc/b"), "changed").unwrap();
    fs::write(upper.join("new"), "new").unwrap();
    let image = sample.stored("web");
    let levels = Levels::of(&image).unwrap();
    assert_eq!(levels.len(), 2);
    let changed = letters(&levels, 1);
    let changed: Vec<_> = changed
        .iter()
        .filter(|l| !l.ends_with("/etc") && l.len() > 2)
        .collect();
    assert_eq!(changed, ["D /etc/a", "C /etc/b", "A /new"]);
    let tally = levels.tally(1).unwrap();
    assert_eq!(
        (tally.added.bytes, tally.changed.bytes, tally.removed.bytes),
        (3, 7, 1)
    );
    let kept = levels.at(1, b"/kept").unwrap().unwrap();
    assert!(kept.did.is_none() && !kept.touched);
    assert_eq!(levels.which(b"/etc/a").unwrap().len(), 2);
}
