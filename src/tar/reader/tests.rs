//! Archives that GNU tar makes, and archives that nobody should make.

use std::path::Path;
use std::process::Command;

use proptest::prelude::*;
use tar::EntryType;

use super::*;
use crate::tar::pax::write_record;

fn read_all(bytes: &[u8]) -> Result<Vec<(Member, Vec<u8>)>, Failure> {
    let mut reader = TarReader::new(bytes);
    let mut members = Vec::new();
    while let Some(member) = reader.next_member()? {
        let mut data = Vec::new();
        reader.data().read_to_end(&mut data)?;
        members.push((member, data));
    }
    Ok(members)
}

fn contents(member: &Member, stored: &[u8]) -> Vec<u8> {
    let mut whole = vec![0; usize::try_from(member.size).unwrap()];
    let all = [Segment {
        offset: 0,
        len: member.size,
        stored: 0,
    }];
    for s in member.sparse.as_deref().unwrap_or(&all) {
        let [offset, len, from] = [s.offset, s.len, s.stored].map(|n| usize::try_from(n).unwrap());
        whole[offset..offset + len].copy_from_slice(&stored[from..from + len]);
    }
    whole
}

fn gnu_tar(dir: &Path, arguments: &[&str]) -> Vec<u8> {
    let out = Command::new("tar")
        .args(arguments)
        .args(["-C"])
        .arg(dir)
        .args(["-cf", "-", "."])
        .output()
        .unwrap();
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    out.stdout
}

#[test]
fn archives_of_gnu_tar_in_all_its_formats() {
    use std::os::unix::ffi::OsStrExt as _;
    let dir = tempfile::tempdir().unwrap();
    let deep = "d".repeat(60);
    std::fs::create_dir_all(dir.path().join(&deep).join(&deep)).unwrap();
    let at = |name: &str| dir.path().join(name);
    std::fs::write(at("plain"), b"contents").unwrap();
    std::fs::hard_link(at("plain"), at("zlink")).unwrap();
    std::fs::write(at(&deep).join(&deep).join("f"), b"deep").unwrap();
    std::os::unix::fs::symlink("somewhere/else", at("sym")).unwrap();
    std::fs::write(
        at("x").with_file_name(std::ffi::OsStr::from_bytes(b"\xff\xfe")),
        b"",
    )
    .unwrap();
    for format in ["ustar", "gnu", "oldgnu", "pax"] {
        let members = read_all(&gnu_tar(
            dir.path(),
            &[&format!("--format={format}"), "--sort=name"],
        ))
        .unwrap();
        let find = |path: &str| {
            members
                .iter()
                .find(|(m, _)| m.path == path.as_bytes())
                .unwrap_or_else(|| panic!("{format} {path}"))
        };
        assert_eq!(find("").0.kind, MemberKind::Directory);
        assert_eq!(find("plain").1, b"contents");
        assert_eq!(find("zlink").0.kind, MemberKind::HardLink(b"plain".into()));
        assert_eq!(
            find("sym").0.kind,
            MemberKind::Symlink(b"somewhere/else".into())
        );
        assert_eq!(find(&format!("{deep}/{deep}/f")).1, b"deep");
        assert!(members.iter().any(|(m, _)| m.path == b"\xff\xfe"));
        if format == "pax" {
            assert_ne!(find("plain").0.mtime.nsec, 0);
        }
    }
}

#[test]
fn sparse_files_in_all_formats() {
    use std::os::unix::fs::FileExt as _;
    let dir = tempfile::tempdir().unwrap();
    let file = std::fs::File::create(dir.path().join("sparse")).unwrap();
    for i in 0..40_u64 {
        file.write_all_at(b"data", i * 65536 + 8192).unwrap();
    }
    file.set_len(5_000_000).unwrap();
    std::fs::write(dir.path().join("zlast"), b"after").unwrap();
    let whole = std::fs::read(dir.path().join("sparse")).unwrap();
    for arguments in [
        &["--format=gnu", "--sparse"][..],
        &["--format=pax", "--sparse", "--sparse-version=0.0"],
        &["--format=pax", "--sparse", "--sparse-version=0.1"],
        &["--format=pax", "--sparse", "--sparse-version=1.0"],
    ] {
        let archive = gnu_tar(dir.path(), &[arguments, &["--sort=name"]].concat());
        assert!(archive.len() < 1_000_000, "{arguments:?} is not sparse");
        let members = read_all(&archive).unwrap();
        let (member, stored) = members.iter().find(|(m, _)| m.path == b"sparse").unwrap();
        assert!(member.sparse.is_some(), "{arguments:?}");
        assert!(contents(member, stored) == whole, "{arguments:?}");
        let start = usize::try_from(member.data_offset).unwrap();
        assert_eq!(
            &archive[start..start + stored.len()],
            stored,
            "{arguments:?}"
        );
        assert_eq!(members.last().unwrap().1, b"after");
    }
}

/// A block with a right checksum.
fn header(path: &str, kind: EntryType, size: &[u8]) -> Vec<u8> {
    let mut header = Header::new_ustar();
    header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.as_mut_bytes()[124..124 + size.len()].copy_from_slice(size);
    header.set_cksum();
    header.as_bytes().to_vec()
}

fn with_field(mut block: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    block[at..at + bytes.len()].copy_from_slice(bytes);
    let mut header = Header::from_byte_slice(&block).clone();
    header.set_cksum();
    header.as_bytes().to_vec()
}

fn file(path: &str) -> Vec<u8> {
    header(path, EntryType::Regular, b"00000000000\0")
}

fn data(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.resize(bytes.len().div_ceil(512) * 512, 0);
    bytes
}

fn pax(records: &[(&str, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (key, value) in records {
        write_record(&mut body, key.as_bytes(), value);
    }
    raw_pax(body)
}

fn raw_pax(body: Vec<u8>) -> Vec<u8> {
    let size = format!("{:011o}\0", body.len());
    [
        header("pax", EntryType::XHeader, size.as_bytes()),
        data(body),
    ]
    .concat()
}

fn long_name(len: usize) -> Vec<u8> {
    let size = format!("{len:011o}\0");
    [
        header("L", EntryType::GNULongName, size.as_bytes()),
        data(vec![b'n'; len]),
    ]
    .concat()
}

fn linked(kind: EntryType, target: &str) -> Vec<u8> {
    with_field(header("l", kind, b"00000000000\0"), 157, target.as_bytes())
}

fn sparse_pax(size: &str, map: &str, stored: &str) -> Vec<u8> {
    let records = [
        ("GNU.sparse.size", size.as_bytes()),
        ("GNU.sparse.map", map.as_bytes()),
    ];
    let size = format!("{stored:0>11}\0");
    [
        pax(&records),
        header("s", EntryType::Regular, size.as_bytes()),
        data(vec![1; 512]),
    ]
    .concat()
}

#[test]
fn hostile_archives_are_refused_with_a_reason() {
    let long_component = format!("d/{}/f", "x".repeat(256));
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("parent", file("a/../../etc/passwd"), "leaves the archive"),
        ("parent only", file(".."), "leaves the archive"),
        (
            "hard link out",
            linked(EntryType::Link, "../../etc/shadow"),
            "leaves the archive",
        ),
        (
            "hard link to nothing",
            linked(EntryType::Link, ""),
            "empty path",
        ),
        (
            "hard link to the root",
            linked(EntryType::Link, "/"),
            "empty path",
        ),
        (
            "symlink to nothing",
            linked(EntryType::Symlink, ""),
            "target",
        ),
        ("no name", file(""), "empty path"),
        (
            "size past the end",
            header("f", EntryType::Regular, b"77777777777\0"),
            "cut off",
        ),
        (
            "size not octal",
            header("f", EntryType::Regular, b"99999999999\0"),
            "size",
        ),
        (
            "size negative",
            header("f", EntryType::Regular, &[0xff; 12]),
            "size",
        ),
        (
            "size huge",
            header(
                "f",
                EntryType::Regular,
                &[
                    0x80, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                ],
            ),
            "size",
        ),
        (
            "uid negative",
            with_field(file("f"), 108, &[0xff; 8]),
            "uid",
        ),
        (
            "uid of nobody",
            [pax(&[("uid", b"4294967295")]), file("f")].concat(),
            "uid",
        ),
        (
            "gid too large",
            [pax(&[("gid", b"99999999999")]), file("f")].concat(),
            "gid",
        ),
        ("mode", with_field(file("f"), 100, b"rwxrwxr\0"), "mode"),
        ("type unknown", with_field(file("f"), 156, b"Z"), "unknown"),
        (
            "checksum",
            {
                let mut b = file("f");
                b[0] = b'g';
                b
            },
            "checksum",
        ),
        ("no archive", vec![b'x'; 1024], "checksum"),
        ("cut in a header", file("f")[..300].to_vec(), "cut off"),
        (
            "cut in data",
            [
                header("f", EntryType::Regular, b"00000001000\0"),
                vec![0; 100],
            ]
            .concat(),
            "cut off",
        ),
        (
            "cut in PAX",
            header("p", EntryType::XHeader, b"00000001000\0"),
            "cut off",
        ),
        ("PAX without member", pax(&[("path", b"x")]), "ends after"),
        (
            "PAX malformed",
            [raw_pax(b"nonsense".to_vec()), file("f")].concat(),
            "malformed",
        ),
        (
            "PAX too large",
            header("p", EntryType::XHeader, b"00010000000\0"),
            "over 1 MiB",
        ),
        (
            "PAX path with NUL",
            [pax(&[("path", b"a\0b")]), file("f")].concat(),
            "NUL",
        ),
        (
            "PAX size",
            [pax(&[("size", b"-1")]), file("f")].concat(),
            "size",
        ),
        (
            "PAX size overflows",
            [pax(&[("size", b"18446744073709551615")]), file("f")].concat(),
            "size",
        ),
        (
            "PAX time",
            [pax(&[("mtime", b"soon")]), file("f")].concat(),
            "mtime",
        ),
        (
            "xattr too large",
            [pax(&[("SCHILY.xattr.user.x", &vec![0; 65537])]), file("f")].concat(),
            "64 KiB",
        ),
        (
            "xattr name too long",
            [
                pax(&[(&format!("SCHILY.xattr.user.{}", "x".repeat(256)), b"")]),
                file("f"),
            ]
            .concat(),
            "name",
        ),
        (
            "name too long",
            [pax(&[("path", long_component.as_bytes())]), file("f")].concat(),
            "255",
        ),
        (
            "path too long",
            [long_name(70_000), file("f")].concat(),
            "path over",
        ),
        (
            "long names without end",
            long_name(5).repeat(20),
            "too many extended",
        ),
        (
            "long name too large",
            header("L", EntryType::GNULongName, b"77777777777\0"),
            "over 1 MiB",
        ),
        (
            "sparse overlaps",
            sparse_pax("1000", "0,100,50,100", "310"),
            "overlaps",
        ),
        (
            "sparse past the end",
            sparse_pax("100", "90,20", "24"),
            "overlaps",
        ),
        (
            "sparse overflows",
            sparse_pax("9000000000000000000", "18446744073709551615,2", "2"),
            "overlaps",
        ),
        (
            "sparse wants more data",
            sparse_pax("1000", "0,600", "1000"),
            "more data",
        ),
        (
            "sparse odd",
            sparse_pax("1000", "0,100,200", "144"),
            "without a length",
        ),
        (
            "device number",
            with_field(
                header("d", EntryType::Char, b"00000000000\0"),
                329,
                b"zzzzzzz\0",
            ),
            "device",
        ),
    ];
    assert!(cases.len() >= 25);
    for (what, bytes, reason) in cases {
        let error = read_all(&bytes).map(drop).expect_err(what);
        let text = error.to_string();
        assert!(text.contains(reason), "{what}: {text}");
        assert!(
            !text.contains('\n') && !text.contains('\u{1b}'),
            "{what}: {text}"
        );
        assert_eq!(error.kind(), FailureKind::Invalid, "{what}");
    }
}

#[test]
fn odd_but_harmless_archives_are_read() {
    let absolute = read_all(&file("/etc//./passwd")).unwrap();
    assert_eq!(absolute[0].0.path, b"etc/passwd");
    let whiteout = format!(".wh.{}", "x".repeat(255));
    let whiteout = [pax(&[("path", whiteout.as_bytes())]), file("f")].concat();
    assert_eq!(read_all(&whiteout).unwrap()[0].0.path.len(), 259);
    let slash = read_all(&file("dir/")).unwrap();
    assert_eq!(slash[0].0.kind, MemberKind::Directory);
    let with_data = [
        header("d/", EntryType::Regular, b"00000000005\0"),
        data(b"bytes".to_vec()),
        file("after"),
    ]
    .concat();
    let read = read_all(&with_data).unwrap();
    assert_eq!(
        (read[0].0.kind.clone(), read[0].0.size),
        (MemberKind::Directory, 0)
    );
    assert_eq!(read[1].0.path, b"after");
    assert!(read_all(b"").unwrap().is_empty());
    assert!(read_all(&[0; 1024]).unwrap().is_empty());
    let negative = with_field(
        file("f"),
        136,
        &[
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfb,
        ],
    );
    assert_eq!(read_all(&negative).unwrap()[0].0.mtime.sec, -5);
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..3000)) {
        read_all(&bytes).ok();
    }

    #[test]
    fn arbitrary_fields_never_panic(at in 0_usize..512, bytes in proptest::collection::vec(any::<u8>(), 1..40)) {
        let end = (at + bytes.len()).min(512);
        let block = with_field(file("some/file"), at, &bytes[..end - at]);
        read_all(&block).ok();
        let block = with_field(header("s", EntryType::GNUSparse, b"00000001000\0"), at, &bytes[..end - at]);
        read_all(&data([block, vec![0; 512]].concat())).ok();
        read_all(&[raw_pax(bytes), file("f")].concat()).ok();
    }
}
