//! Bad members of layers: an archive inside one whose digests are all right.

use stratafs::image::Digest;

use super::{Case, case};
use crate::common::build::*;

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

fn sized(field: &[u8; 12]) -> impl FnOnce(&mut [u8]) {
    let field = *field;
    move |block: &mut [u8]| block[124..136].copy_from_slice(&field)
}

pub fn bad_members() -> Vec<Case> {
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
