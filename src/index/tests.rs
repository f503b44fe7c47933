//! Layers and stacks against a naive model: changesets applied to a map of paths.

use std::collections::BTreeMap;
use std::path::PathBuf;

use proptest::prelude::*;

use super::reader::ROOT;
use super::*;
use crate::image::{DiffId, Digest};
use crate::stat::Timespec;
use crate::tar::{Member, MemberKind, Segment};

fn member(path: &str, kind: MemberKind) -> Member {
    Member {
        path: path.into(),
        kind,
        perm: 0o755,
        uid: 1,
        gid: 2,
        mtime: Timespec { sec: 5, nsec: 6 },
        atime: None,
        ctime: None,
        size: 0,
        data_offset: 512,
        stored_size: 0,
        sparse: None,
        xattrs: Vec::new(),
    }
}

fn file(path: &str, size: u64) -> Member {
    Member {
        size,
        stored_size: size,
        ..member(path, MemberKind::Regular)
    }
}

fn dir(path: &str) -> Member {
    member(path, MemberKind::Directory)
}

fn link(path: &str, target: &str) -> Member {
    member(path, MemberKind::HardLink(target.into()))
}

struct Files(tempfile::TempDir);

impl Files {
    fn path(&self, name: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, b"").unwrap();
        path
    }

    fn layer(&self, name: &str, members: &[Member]) -> Result<Index, crate::error::Failure> {
        let mut builder = LayerBuilder::new();
        for m in members {
            builder.add(m, None)?;
        }
        let path = self.path(name);
        builder.finish(DiffId(Digest::of(name.as_bytes())), &path)?;
        Ok(Index::open(&path)?)
    }

    fn stack(&self, layers: &[Vec<Member>]) -> Result<Index, crate::error::Failure> {
        let names = (0..layers.len()).map(|i| format!("layer{i}"));
        let indexes: Result<Vec<_>, _> = names
            .zip(layers)
            .map(|(name, members)| self.layer(&name, members))
            .collect();
        let path = self.path("chain");
        flatten(&indexes?, &path)?;
        let index = Index::open(&path)?;
        index.verify()?;
        Ok(index)
    }
}

fn files() -> Files {
    Files(tempfile::tempdir().unwrap())
}

/// Every path of an index, with a short description.
fn listing(index: &Index) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let mut queue = vec![(String::new(), ROOT)];
    while let Some((path, number)) = queue.pop() {
        for dirent in index.children(number).unwrap() {
            let dirent = dirent.unwrap();
            let below = format!("{path}/{}", dirent.name);
            let Some(number) = dirent.inode else {
                all.insert(below, "whiteout".into());
                continue;
            };
            let inode = index.inode(number).unwrap();
            let stat = index.stat(number, &inode).unwrap();
            let size = if stat.is_dir() { 0 } else { stat.size };
            all.insert(
                below.clone(),
                format!("{:?} {size} {}", stat.kind, stat.nlink),
            );
            if stat.is_dir() {
                queue.push((below, number));
            }
            assert_eq!(
                index
                    .lookup(dirent.parent, dirent.name.as_bytes())
                    .unwrap()
                    .unwrap()
                    .inode,
                Some(number)
            );
        }
    }
    all
}

fn shown(index: &Index) -> Vec<String> {
    listing(index)
        .into_iter()
        .map(|(path, what)| format!("{path} {what}"))
        .collect()
}

#[test]
fn a_layer_in_any_order_with_implicit_parents() {
    let f = files();
    let members = [
        link("z/l", "a/f"),
        file("a/f", 7),
        file("a/b/c/d", 1),
        dir("a"),
    ];
    let index = f.layer("l", &members).unwrap();
    assert_eq!(
        shown(&index),
        [
            "/a Directory 0 3",
            "/a/b Directory 0 3",
            "/a/b/c Directory 0 2",
            "/a/b/c/d Regular 1 1",
            "/a/f Regular 7 2",
            "/z Directory 0 2",
            "/z/l Regular 7 2",
        ]
    );
    let find = |path: &str| {
        path.split('/').fold(ROOT, |at, name| {
            index
                .lookup(at, name.as_bytes())
                .unwrap()
                .unwrap()
                .inode
                .unwrap()
        })
    };
    let a = index.inode(find("a")).unwrap();
    assert_eq!((a.perm, a.uid), (0o755, 1), "described after its children");
    let implicit = index.inode(find("a/b")).unwrap();
    assert_eq!((implicit.perm, implicit.uid), (0o755, 0));
    let f = index.inode(find("a/f")).unwrap();
    let names: Vec<_> = index
        .names_of(find("z/l"), &f)
        .unwrap()
        .iter()
        .map(|d| d.name.to_string())
        .collect();
    assert_eq!(names.len(), 2);
    assert_eq!(
        index.layer(0).unwrap().entries,
        4 + 3,
        "members, then implicit parents"
    );
    let path: Vec<_> = index
        .path_of(find("a/b/c"))
        .unwrap()
        .iter()
        .map(|n| n.to_string())
        .collect();
    assert_eq!(path, ["a", "b", "c"]);
}

#[test]
fn whiteouts_opaque_directories_and_replacements() {
    let f = files();
    let bottom = vec![
        dir("d"),
        file("d/a", 1),
        file("d/b", 2),
        dir("o"),
        file("o/x", 3),
        file("f", 4),
        dir("g"),
        file("g/y", 5),
    ];
    let top = vec![
        file("d/.wh.a", 0),
        file("o/.wh..wh..opq", 0),
        file("o/new", 6),
        dir("f"),
        file("f/in", 7),
        file("g", 8),
        file(".wh..wh.plnk/x", 0),
    ];
    let stack = f.stack(&[bottom, top]).unwrap();
    assert_eq!(
        shown(&stack),
        [
            "/d Directory 0 2",
            "/d/b Regular 2 1",
            "/f Directory 0 2",
            "/f/in Regular 7 1",
            "/g Regular 8 1",
            "/o Directory 0 2",
            "/o/new Regular 6 1",
        ]
    );
}

#[test]
fn hard_links_across_layers_and_the_numbers_of_merged_directories() {
    let f = files();
    let stack = f
        .stack(&[
            vec![dir("d"), file("d/a", 9)],
            vec![link("d/b", "d/a"), dir("d")],
        ])
        .unwrap();
    assert_eq!(
        shown(&stack),
        ["/d Directory 0 2", "/d/a Regular 9 2", "/d/b Regular 9 2"]
    );
    let d = stack.lookup(ROOT, b"d").unwrap().unwrap().inode.unwrap();
    let a = stack.lookup(d, b"a").unwrap().unwrap().inode.unwrap();
    assert_eq!(stack.lookup(d, b"b").unwrap().unwrap().inode, Some(a));
    let ino = |n| stack.ino(n, &stack.inode(n).unwrap()).unwrap();
    assert_eq!((ino(ROOT), ino(d), ino(a)), (1, 2, 3));
    assert_eq!(stack.find(0, 1).unwrap(), Some(a));
    for (members, reason) in [
        (vec![link("b", "nowhere")], "is in no layer"),
        (vec![link("b", "d")], "is a directory"),
        (vec![link("b", "b")], "is in no layer"),
    ] {
        let error = f
            .stack(&[vec![dir("d")], members])
            .map(drop)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(reason) && error.contains("member \"b\""),
            "{error}"
        );
    }
}

#[test]
fn links_to_links_before_their_target() {
    let f = files();
    let index = f
        .layer("l", &[link("a", "b"), link("b", "c"), file("c", 4)])
        .unwrap();
    assert_eq!(
        shown(&index),
        ["/a Regular 4 3", "/b Regular 4 3", "/c Regular 4 3"]
    );
}

#[test]
fn a_file_and_then_a_directory_of_one_name_hide_what_is_below() {
    let f = files();
    let stack = f
        .stack(&[
            vec![dir("d"), file("d/old", 1)],
            vec![file("d", 2), dir("d")],
        ])
        .unwrap();
    assert_eq!(shown(&stack), ["/d Directory 0 2"]);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let f = files();
    for (members, reason) in [
        (vec![file("a", 0), file("a/b", 0)], "is no directory"),
        (vec![dir("d"), link("l", "d")], "hard link to the directory"),
        (vec![file(".wh.", 0)], "no possible name"),
        (vec![file(".wh...", 0)], "no possible name"),
        (vec![member("", MemberKind::Fifo)], "root of a layer"),
        (vec![file(".wh.a/b", 0)], "is a whiteout"),
    ] {
        let error = f.layer("bad", &members).map(drop).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn details_survive_flattening() {
    let f = files();
    let mut sparse = file("s", 10_000);
    sparse.sparse = Some(vec![Segment {
        offset: 100,
        len: 5,
        stored: 0,
    }]);
    sparse.stored_size = 512;
    sparse.xattrs = vec![
        (b"security.capability".into(), vec![1, 2, 3]),
        (b"user.x".into(), vec![]),
    ];
    let symlink = member("l", MemberKind::Symlink(b"../\xff".into()));
    let device = member("c", MemberKind::CharDevice(rustix::fs::makedev(10, 200)));
    let stack = f
        .stack(&[vec![file("f", 1)], vec![sparse, symlink, device]])
        .unwrap();
    let get = |name: &str| {
        let number = stack
            .lookup(ROOT, name.as_bytes())
            .unwrap()
            .unwrap()
            .inode
            .unwrap();
        (number, stack.inode(number).unwrap())
    };
    let (_, s) = get("s");
    let map = stack.sparse_map(&s).unwrap().unwrap();
    assert_eq!(
        map.segments,
        [Segment {
            offset: 100,
            len: 5,
            stored: 0
        }]
    );
    let mut xattrs = Vec::new();
    stack
        .xattrs(&s, |n, v| xattrs.push((n.to_vec(), v.to_vec())))
        .unwrap();
    assert_eq!(xattrs.len(), 2);
    assert_eq!(xattrs[0].1, [1, 2, 3]);
    assert_eq!(stack.target(&get("l").1).unwrap(), b"../\xff");
    let (number, device) = get("c");
    assert_eq!(
        stack.stat(number, &device).unwrap().rdev,
        rustix::fs::makedev(10, 200)
    );
    assert_eq!(device.layer, 1);
}

#[test]
fn damage_is_an_error_wherever_it_is() {
    let f = files();
    let members: Vec<_> = (0..300)
        .map(|i| file(&format!("dir{}/file{i}", i % 7), i))
        .collect();
    f.stack(&[members]).unwrap();
    let path = f.0.path().join("chain");
    let good = std::fs::read(&path).unwrap();
    for at in (0..good.len()).step_by(397).chain(0..64) {
        let mut bad = good.clone();
        bad[at] ^= 0x41;
        std::fs::write(f.0.path().join("bad"), &bad).unwrap();
        let found = Index::open(&f.0.path().join("bad")).and_then(|index| {
            index.verify()?;
            let mut queue = vec![ROOT];
            while let Some(dir) = queue.pop() {
                for dirent in index.children(dir)? {
                    let dirent = dirent?;
                    let number = dirent.inode.unwrap();
                    if index.inode(number)?.is_dir() {
                        queue.push(number);
                    }
                }
            }
            Ok(())
        });
        assert!(found.is_err() || (248..4092).contains(&at), "byte {at}");
    }
    for len in [0, 10, 4095, 4096, good.len() / 2, good.len() - 1] {
        std::fs::write(f.0.path().join("bad"), &good[..len]).unwrap();
        assert!(
            Index::open(&f.0.path().join("bad")).is_err(),
            "cut to {len}"
        );
    }
}

#[test]
fn a_hundred_thousand_entries() {
    let f = files();
    let mut builder = LayerBuilder::new();
    for i in 0..100_000_u32 {
        builder
            .add(&file(&format!("d{}/e{}/f{i}", i % 100, i % 1000), 1), None)
            .unwrap();
    }
    let path = f.path("big");
    builder.finish(DiffId(Digest::of(b"")), &path).unwrap();
    let index = Index::open(&path).unwrap();
    assert_eq!(index.inode_count(), 1 + 100 + 1000 + 100_000);
    let at = |dir, name: &str| {
        index
            .lookup(dir, name.as_bytes())
            .unwrap()
            .unwrap()
            .inode
            .unwrap()
    };
    let e = at(at(ROOT, "d42"), "e542");
    assert!(index.lookup(e, b"f542").unwrap().is_some());
    assert!(index.lookup(e, b"f543").unwrap().is_none());
}

#[derive(Debug, Clone)]
enum Op {
    File(String, u64),
    Dir(String),
    Whiteout(String),
    Opaque(String),
}

fn op() -> impl Strategy<Value = Op> {
    let path = prop::collection::vec(prop::sample::select(vec!["a", "b", "c"]), 1..4)
        .prop_map(|parts| parts.join("/"));
    prop_oneof![
        (path.clone(), 1..100_u64).prop_map(|(p, n)| Op::File(p, n)),
        path.clone().prop_map(Op::Dir),
        path.clone().prop_map(Op::Whiteout),
        path.prop_map(Op::Opaque),
    ]
}

/// Whether a layer's operations make sense together: each path once, nothing below a file, no
/// whiteout beside or above what is there.
fn consistent(ops: &[Op]) -> bool {
    let touched = |op: &Op| match op {
        Op::File(p, _) | Op::Dir(p) | Op::Whiteout(p) => p.clone(),
        Op::Opaque(p) => format!("{p}/."),
    };
    let leaf = |op: &Op| matches!(op, Op::File(..) | Op::Whiteout(_));
    ops.iter().enumerate().all(|(i, a)| {
        ops.iter().enumerate().all(|(j, b)| {
            i == j
                || (touched(a) != touched(b)
                    && !(leaf(a) && touched(b).starts_with(&format!("{}/", touched(a)))))
        })
    })
}

fn model(layers: &[Vec<Op>]) -> BTreeMap<String, u64> {
    const DIR: u64 = 0;
    let mut tree: BTreeMap<String, u64> = BTreeMap::new();
    let clear = |tree: &mut BTreeMap<String, u64>, path: &str| {
        tree.retain(|p, _| !p.starts_with(&format!("{path}/")));
    };
    for layer in layers {
        // What hides applies to the layers below only: first.
        for op in layer {
            match op {
                Op::Whiteout(p) => {
                    tree.remove(p);
                    clear(&mut tree, p);
                }
                Op::Opaque(p) => clear(&mut tree, p),
                _ => {}
            }
        }
        for op in layer {
            let (path, what) = match op {
                Op::File(p, n) => (p.clone(), *n),
                Op::Dir(p) => (p.clone(), DIR),
                Op::Opaque(p) => (p.clone(), DIR),
                Op::Whiteout(p) => match p.rsplit_once('/') {
                    Some((dir, _)) => (dir.to_owned(), DIR),
                    None => continue,
                },
            };
            let mut parent = String::new();
            for part in path.split('/') {
                if !parent.is_empty() && tree.get(&parent) != Some(&DIR) {
                    tree.insert(parent.clone(), DIR);
                }
                parent = if parent.is_empty() {
                    part.into()
                } else {
                    format!("{parent}/{part}")
                };
            }
            if what != DIR {
                clear(&mut tree, &path);
            }
            tree.insert(path, what);
        }
    }
    tree
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn stacks_show_what_unpacking_would(
        layers in prop::collection::vec(prop::collection::vec(op(), 0..7).prop_filter("consistent", |l| consistent(l)), 1..4)
    ) {
        let f = files();
        let members: Vec<Vec<Member>> = layers.iter().map(|ops| ops.iter().map(|op| match op {
            Op::File(p, n) => file(p, *n),
            Op::Dir(p) => dir(p),
            Op::Whiteout(p) => match p.rsplit_once('/') {
                Some((d, n)) => file(&format!("{d}/.wh.{n}"), 0),
                None => file(&format!(".wh.{p}"), 0),
            },
            Op::Opaque(p) => file(&format!("{p}/.wh..wh..opq"), 0),
        }).collect()).collect();
        let stack = f.stack(&members).unwrap();
        let found: BTreeMap<String, u64> = listing(&stack).into_iter().map(|(path, what)| {
            let size = what.split(' ').nth(1).unwrap().parse().unwrap();
            (path[1..].to_owned(), size)
        }).collect();
        prop_assert_eq!(found, model(&layers));
    }

    #[test]
    fn arbitrary_bytes_are_no_index(bytes in prop::collection::vec(any::<u8>(), 0..9000)) {
        let f = files();
        std::fs::write(f.0.path().join("x"), &bytes).unwrap();
        prop_assert!(Index::open(&f.0.path().join("x")).is_err());
    }
}
