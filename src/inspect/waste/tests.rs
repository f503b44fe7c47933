use super::*;
use crate::image::Digest;
use crate::index::{LayerBuilder, flatten};
use crate::stat::Timespec;
use crate::tar::{Member, MemberKind, Segment};

fn member(path: &str, kind: MemberKind) -> Member {
    Member {
        path: path.into(),
        kind,
        perm: 0o755,
        uid: 0,
        gid: 0,
        mtime: Timespec::default(),
        atime: None,
        ctime: None,
        size: 0,
        data_offset: 512,
        stored_size: 0,
        sparse: None,
        xattrs: Vec::new(),
    }
}

/// What a layer of a test has.
enum Has {
    /// A file with these contents, as long as the number says.
    File(&'static str, &'static str, u64),
    Dir(&'static str),
    Link(&'static str, &'static str),
    /// A file of 1000 bytes of which so many are stored.
    Sparse(&'static str, u64),
}
use Has::{Dir, File, Link, Sparse};

struct Made {
    layers: Vec<Index>,
    chain: Index,
    content: Vec<u64>,
}

impl Made {
    fn indexes(&self) -> Vec<&Index> {
        self.layers.iter().collect()
    }
}

fn image(stack: &[(&str, &[Has])]) -> Made {
    let dir = tempfile::tempdir().unwrap();
    let mut layers = Vec::new();
    let mut contents = Vec::new();
    for (place, (name, members)) in stack.iter().enumerate() {
        let mut builder = LayerBuilder::new();
        let mut content = 0;
        for has in *members {
            let (member, key) = match has {
                File(path, text, len) => {
                    content += len;
                    let member = Member {
                        size: *len,
                        stored_size: *len,
                        ..member(path, MemberKind::Regular)
                    };
                    (member, Some(*blake3::hash(text.as_bytes()).as_bytes()))
                }
                Dir(path) => (member(path, MemberKind::Directory), None),
                Link(path, to) => (member(path, MemberKind::HardLink((*to).into())), None),
                Sparse(path, stored) => {
                    content += 1000;
                    let segment = Segment {
                        offset: 0,
                        len: *stored,
                        stored: 0,
                    };
                    let member = Member {
                        size: 1000,
                        stored_size: *stored,
                        sparse: Some(vec![segment]),
                        ..member(path, MemberKind::Regular)
                    };
                    (member, None)
                }
            };
            builder.add(&member, key).unwrap();
        }
        let path = dir.path().join(place.to_string());
        std::fs::write(&path, b"").unwrap();
        builder
            .finish(DiffId(Digest::of(name.as_bytes())), &path)
            .unwrap();
        layers.push(Index::open(&path).unwrap());
        contents.push(content);
    }
    let path = dir.path().join("chain");
    std::fs::write(&path, b"").unwrap();
    flatten(&layers, &path).unwrap();
    Made {
        layers,
        chain: Index::open(&path).unwrap(),
        content: contents,
    }
}

/// Stored and wasted bytes, the bytes of each cause, and the paths with theirs.
type Figures = (u64, u64, Vec<(&'static str, u64)>, Vec<(String, u64)>);

fn found(made: &Made) -> Figures {
    let ids: Vec<_> = made
        .layers
        .iter()
        .map(|l| l.layer(0).unwrap().id())
        .collect();
    let content = |id: &DiffId| {
        let at = ids.iter().position(|other| other == id)?;
        made.content.get(at).copied()
    };
    let waste = waste(&made.indexes(), &made.chain, content).unwrap();
    let by_layer: u64 = waste.layers.iter().map(|l| l.wasted_bytes).sum();
    assert_eq!(by_layer, waste.wasted_bytes);
    assert_eq!(waste.causes.values().sum::<u64>(), waste.wasted_bytes);
    let stored: u64 = waste.layers.iter().map(|l| l.stored_bytes).sum();
    assert_eq!(stored, waste.stored_bytes);
    (
        waste.stored_bytes,
        waste.wasted_bytes,
        waste.causes.iter().map(|(c, b)| (c.word(), *b)).collect(),
        waste
            .paths
            .iter()
            .map(|p| {
                (
                    String::from_utf8_lossy(&p.path).into_owned(),
                    p.wasted_bytes,
                )
            })
            .collect(),
    )
}

fn path(path: &str, bytes: u64) -> (String, u64) {
    (path.to_owned(), bytes)
}

#[test]
fn nothing_is_wasted_where_nothing_is_twice() {
    let made = image(&[
        ("1", &[File("a", "x", 10), File("b", "y", 20)]),
        ("2", &[Dir("d"), File("d/c", "z", 5)]),
    ]);
    assert_eq!(found(&made), (35, 0, vec![], vec![]));
}

#[test]
fn overwritten() {
    let made = image(&[
        ("1", &[File("a", "x", 10)]),
        ("2", &[File("a", "y", 3)]),
        ("3", &[File("a", "z", 4)]),
    ]);
    let expected = (17, 13, vec![("overwritten", 13)], vec![path("a", 13)]);
    assert_eq!(found(&made), expected);
}

#[test]
fn only_metadata_changed() {
    let made = image(&[("1", &[File("a", "x", 10)]), ("2", &[File("a", "x", 10)])]);
    assert_eq!(
        found(&made),
        (20, 10, vec![("metadata", 10)], vec![path("a", 10)])
    );
}

#[test]
fn removed_by_whiteouts_opaque_directories_and_files_in_their_place() {
    let made = image(&[
        (
            "1",
            &[
                File("a", "x", 1),
                Dir("d"),
                File("d/b", "y", 2),
                Dir("e"),
                File("e/c", "z", 4),
                Dir("f"),
                File("f/g", "w", 8),
            ],
        ),
        (
            "2",
            &[
                File(".wh.a", "", 0),
                Dir("d"),
                File("d/.wh..wh..opq", "", 0),
                File("e", "new", 16),
                File(".wh.f", "", 0),
            ],
        ),
    ]);
    let paths = vec![path("f/g", 8), path("e/c", 4), path("d/b", 2), path("a", 1)];
    assert_eq!(found(&made), (31, 15, vec![("removed", 15)], paths));
}

#[test]
fn a_whiteout_of_nothing_and_one_that_hides_what_was_removed_before_waste_nothing_more() {
    let made = image(&[
        ("1", &[File("a", "x", 7)]),
        ("2", &[File(".wh.a", "", 0), File(".wh.never", "", 0)]),
        ("3", &[File(".wh.a", "", 0)]),
    ]);
    assert_eq!(
        found(&made),
        (7, 7, vec![("removed", 7)], vec![path("a", 7)])
    );
}

#[test]
fn duplicates_within_a_layer_and_across() {
    let made = image(&[
        ("1", &[File("a", "x", 10), File("b", "x", 10)]),
        ("2", &[File("c", "x", 10), File("d", "y", 3)]),
    ]);
    let paths = vec![path("b", 10), path("c", 10)];
    assert_eq!(found(&made), (33, 20, vec![("duplicate", 20)], paths));
}

#[test]
fn hard_links_are_one_file() {
    let made = image(&[
        ("1", &[File("a", "x", 10), Link("b", "a"), Link("c", "a")]),
        (
            "2",
            &[Link("d", "a"), File(".wh.a", "", 0), File(".wh.b", "", 0)],
        ),
    ]);
    assert_eq!(found(&made), (10, 0, vec![], vec![]));
    let gone = image(&[
        ("1", &[File("a", "x", 10), Link("b", "a")]),
        ("2", &[File(".wh.a", "", 0), File(".wh.b", "", 0)]),
    ]);
    assert_eq!(
        found(&gone),
        (10, 10, vec![("removed", 10)], vec![path("a", 10)])
    );
}

#[test]
fn holes_are_not_stored() {
    let made = image(&[("1", &[Sparse("a", 30)]), ("2", &[Sparse("a", 7)])]);
    assert_eq!(
        found(&made),
        (37, 30, vec![("overwritten", 30)], vec![path("a", 30)])
    );
}

#[test]
fn a_layer_that_is_there_twice_is_stored_once() {
    let layer: &[Has] = &[File("a", "x", 10)];
    let made = image(&[
        ("same", layer),
        ("2", &[File(".wh.a", "", 0)]),
        ("same", layer),
    ]);
    assert_eq!(found(&made), (10, 0, vec![], vec![]));
}

#[test]
fn what_a_tar_names_twice() {
    let made = image(&[("1", &[File("a", "x", 10), File("a", "y", 3)])]);
    assert_eq!(found(&made), (13, 10, vec![("shadowed", 10)], vec![]));
}

#[test]
fn everything_at_once_counts_each_byte_once() {
    let made = image(&[
        (
            "1",
            &[
                File("keep", "k", 1),
                File("over", "o1", 2),
                File("gone", "k", 1),
                File("mode", "m", 4),
                Dir("dir"),
                File("dir/dup", "d", 8),
                File("dir/lost", "d", 8),
            ],
        ),
        (
            "2",
            &[
                File("over", "o2", 16),
                File(".wh.gone", "", 0),
                File("mode", "m", 4),
                File("copy", "d", 8),
                Dir("dir"),
                File("dir/.wh.lost", "", 0),
                File("twice", "t1", 32),
                File("twice", "t2", 64),
            ],
        ),
        (
            "3",
            &[
                File("over", "o3", 128),
                File("copy2", "o3", 128),
                File("empty", "", 0),
            ],
        ),
    ]);
    let (stored, wasted, causes, paths) = found(&made);
    assert_eq!(stored, 404);
    let expected = [
        ("overwritten", 2 + 16),
        ("metadata", 4),
        ("removed", 1 + 8),
        ("duplicate", 8 + 128),
        ("shadowed", 32),
    ];
    assert_eq!(causes, expected);
    assert_eq!(wasted, 199);
    let expected = [
        path("copy2", 128),
        path("over", 18),
        path("copy", 8),
        path("dir/lost", 8),
        path("mode", 4),
        path("gone", 1),
    ];
    assert_eq!(paths, expected);
}

#[test]
fn efficiency_and_the_users_share() {
    let made = image(&[("1", &[File("a", "x", 60)]), ("2", &[File("a", "y", 40)])]);
    let waste = waste(&made.indexes(), &made.chain, |_| None).unwrap();
    assert!((waste.efficiency() - 0.4).abs() < 1e-9);
    assert_eq!(waste.user_bytes(), 40);
    assert!((waste.user_wasted_ratio() - 1.5).abs() < 1e-9);
    assert!((Waste::default().efficiency() - 1.0).abs() < 1e-9);
}
