//! Looking into an image shows what GNU's tools show of the tree that umoci makes of it.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::build::{Docker, Tar, record};
use crate::common::cli::{Strata, have, said, skip};
use crate::peers::{skopeo_copy, umoci_unpack};
use crate::samples;

/// What a shell's command line prints in a directory.
fn gnu(dir: &Path, line: &str) -> Vec<u8> {
    let mut sh = Command::new("sh");
    sh.args(["-ec", line]).current_dir(dir);
    sh.env("LC_ALL", "C").env("TZ", "UTC");
    let output = sh.output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {error}");
    output.stdout
}

fn strata(of: &Strata, words: &[&str]) -> Vec<u8> {
    let output = of.command().args(words).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {error}");
    output.stdout
}

/// Lines of ls without what a file system decides for itself: totals, sizes of directories, and how
/// wide columns are.
fn listed(bytes: &[u8]) -> Vec<String> {
    let lines = bytes.split(|b| *b == b'\n');
    lines
        .filter(|line| !line.starts_with(b"total "))
        .map(|line| {
            let line = line.strip_prefix(b".").unwrap_or(line);
            let line = if line == b":" { b"/:" } else { line };
            let text = line.escape_ascii().to_string();
            let mode = text.split(' ').next().unwrap_or_default();
            if mode.len() != 10 || !"-dlcbps".contains(&mode[..1]) {
                return text;
            }
            let mut rest = text.as_str();
            let mut fields = Vec::new();
            let count = if "cb".contains(&mode[..1]) { 9 } else { 8 };
            for _ in 0..count {
                let (field, after) = rest.split_once(' ').unwrap();
                fields.push(field);
                rest = after.trim_start_matches(' ');
            }
            if mode.starts_with('d') {
                fields[4] = "-";
            }
            format!("{} {rest}", fields.join(" "))
        })
        .collect()
}

fn sorted(bytes: &[u8], end: u8) -> Vec<String> {
    let mut lines: Vec<_> = bytes
        .split(|b| *b == end)
        .map(|line| line.escape_ascii().to_string())
        .collect();
    lines.sort();
    lines
}

fn assert_lines(what: &str, left: &[String], right: &[String]) {
    if left != right {
        let only = |a: &[String], b: &[String]| {
            let b: std::collections::HashSet<_> = b.iter().collect();
            let lines = a.iter().filter(|line| !b.contains(line)).take(10);
            lines.cloned().collect::<Vec<_>>().join("\n")
        };
        panic!(
            "{what}\n--- only strata\n{}\n--- only GNU\n{}",
            only(left, right),
            only(right, left)
        );
    }
}

/// The same questions to both.
fn assert_agree(of: &Strata, image: &str, rootfs: &Path) {
    let ours = strata(of, &["ls", "-lRAn", "--full-time", image]);
    let theirs = gnu(rootfs, "ls -lRAn --full-time .");
    assert_lines("ls", &listed(&ours), &listed(&theirs));
    for expression in [
        "",
        "-type f -size +100k",
        "-type l -lname '*/*'",
        "-type d -empty",
        "-type f -empty",
        "-perm /6000",
        "-perm -u+x,g+x -type f",
        "-type f -links +1",
        "! -uid 0",
        "-name '*[0-9].*' -a ! -path '*/share/*'",
        "-iname '*LICENSE*' -o -name '.*' -type f",
        "-maxdepth 2 -mindepth 1 ( -type d -o -type l )",
        "-type d -links 2",
        "-newer /etc",
        "-mtime +100",
        "-mtime -3",
        "-mtime 1",
        "-mmin +100 -type f",
        "-regex '.*/lib[a-z]+\\.so\\.[0-9]'",
        "-regex '.*/\\(bin\\|etc\\)/[^/]*'",
        "-iregex '.*/READ.?ME.*'",
        "-regextype posix-extended -regex '.*/(bin|etc)/[a-z]{2,4}'",
        "-regextype posix-basic -regex '.*/[a-z]\\{2,4\\}'",
        "-regex 'etc'",
    ] {
        let words: Vec<&str> = expression
            .split_whitespace()
            .map(|word| word.trim_matches('\''))
            .collect();
        let ours = strata(of, &[&["find", image], &words[..], &["-print0"]].concat());
        let quoted = expression.replace("( ", "\\( ").replace(" )", " \\)");
        let quoted = quoted.replace("-newer /", "-newer ./");
        // What is printed is bound to the last alternative; so it is there.
        let theirs = gnu(rootfs, &format!("find . {quoted} -print0"));
        let theirs: Vec<u8> = theirs
            .split(|b| *b == 0)
            .filter(|path| !path.is_empty())
            .flat_map(|path| match path {
                b"." => b"/\0".to_vec(),
                path => [&path[1..], b"\0"].concat(),
            })
            .collect();
        assert_lines(expression, &sorted(&ours, 0), &sorted(&theirs, 0));
    }
    let ours = strata(of, &["sum", image]);
    let theirs = gnu(rootfs, "find . -type f -print0 | xargs -0 -r sha256sum");
    let theirs: Vec<u8> = theirs
        .split_inclusive(|b| *b == b'\n')
        .flat_map(|line| {
            let at = line.windows(3).position(|w| w == b"  .").unwrap();
            [&line[..at + 2], &line[at + 3..]].concat()
        })
        .collect();
    assert_lines("sum", &sorted(&ours, b'\n'), &sorted(&theirs, b'\n'));
}

fn prerequisites(test: &str) -> bool {
    if !rustix::process::geteuid().is_root() {
        skip(test, "not root");
        return false;
    }
    have(test, &["skopeo", "umoci", "find", "sha256sum"])
}

fn compare_sample(sample: &samples::Sample) -> (Strata, PathBuf) {
    let of = Strata::new();
    let layout = of.path("layout");
    let from = format!("docker-archive:{}", sample.archive.display());
    skopeo_copy(&from, &format!("oci:{}:sample", layout.display()));
    let rootfs = umoci_unpack(&layout, "sample", &of.path("bundle"));
    // Never loaded; compressed layers.
    assert_agree(&of, &format!("oci:{}:sample", layout.display()), &rootfs);
    of.load(&sample.archive);
    assert_agree(&of, sample.name, &rootfs);
    (of, rootfs)
}

#[test]
fn small_image_agrees_with_gnu_tools() {
    const TEST: &str = "clients::look::small_image_agrees_with_gnu_tools";
    if prerequisites(TEST)
        && let Some(sample) = samples::small(TEST)
    {
        compare_sample(&sample);
    }
}

#[test]
fn big_image_agrees_with_gnu_tools() {
    const TEST: &str = "clients::look::big_image_agrees_with_gnu_tools";
    if prerequisites(TEST)
        && let Some(sample) = samples::big(TEST)
    {
        let (of, rootfs) = compare_sample(&sample);
        // Owners have the names that they have in the image itself.
        for dir in ["/etc", "/var", "/var/log"] {
            let ours = strata(
                &of,
                &[
                    "ls",
                    "-lA",
                    "--full-time",
                    &format!("{}:{dir}", sample.name),
                ],
            );
            let theirs = gnu(&rootfs, &format!("chroot . ls -lA --full-time {dir}"));
            assert_lines("ls", &listed(&ours), &listed(&theirs));
        }
    }
}

/// Names that are no text, links across layers, opaque directories, devices and attributes.
#[test]
fn odd_image_agrees_with_gnu_tools() {
    const TEST: &str = "clients::look::odd_image_agrees_with_gnu_tools";
    if !prerequisites(TEST) || !have(TEST, &["getfattr"]) {
        return;
    }
    let device = |major: &'static [u8], minor: &'static [u8]| {
        move |block: &mut [u8]| {
            block[329..329 + major.len()].copy_from_slice(major);
            block[337..337 + minor.len()].copy_from_slice(minor);
        }
    };
    let one = Tar::new()
        .dir("./")
        .dir("etc/")
        .dir("d/")
        .dir("d/sub/")
        .dir("dev/")
        .with(b"d/latin-\xe9\xff", b'0', b"latin", |_| {})
        .with(b"d/line\nbreak \\ x", b'0', b"line", |_| {})
        .file("d/sub/hidden", b"hidden")
        .file("d/linked", b"linked")
        .link(b'1', "d/linked-too", "d/linked")
        .with(b"dev/null", b'3', b"", device(b"0000001\0", b"0000003\0"))
        .with(b"dev/loop", b'4', b"", device(b"0000007\0", b"0000012\0"))
        .with(b"dev/fifo", b'6', b"", |_| {})
        .pax(&record("SCHILY.xattr.user.color", b"blue\0green"))
        .file("d/xattr", b"x")
        .with(b"d/suid", b'0', b"s", |block| {
            block[100..108].copy_from_slice(b"0006755\0");
            block[108..116].copy_from_slice(b"0001750\0");
        })
        .link(b'2', "d/out", "../../../etc")
        .end();
    let two = Tar::new()
        .link(b'1', "etc/across", "d/linked")
        .dir("d/sub/")
        .file("d/sub/.wh..wh..opq", b"")
        .file("d/sub/shown", b"shown")
        .file("d/.wh.xattr-not", b"")
        .end();
    let of = Strata::new();
    let archive = of.path("odd.tar");
    let mut docker = Docker::new("odd:1", &[&one, &two]);
    docker.add(&["other:1"], &[&one]);
    std::fs::write(&archive, docker.pack()).unwrap();
    let name = format!("docker-archive:{}:odd:1", archive.display());
    let layout = of.path("layout");
    skopeo_copy(&name, &format!("oci:{}:odd", layout.display()));
    let rootfs = umoci_unpack(&layout, "odd", &of.path("bundle"));
    assert_agree(&of, &name, &rootfs);
    of.load(&archive);
    assert_agree(&of, "odd:1", &rootfs);
    let value = said(
        Command::new("getfattr")
            .args(["-d", "--absolute-names", "-e", "hex"])
            .arg(rootfs.join("d/xattr")),
    )
    .success();
    assert!(
        value.contains("user.color=0x626c756500677265656e"),
        "{value}"
    );
    let found = of.ok(&["find", "odd:1", "-xattr", "user.*"]);
    assert_eq!(found, "/d/xattr\n");
    let shown = of.ok(&["stat", "odd:1:/d/xattr"]);
    assert!(shown.contains("user.color=\"blue\\x00green\""), "{shown}");
    let found = of.ok(&["find", "odd:1", "-layer", "2"]);
    assert_eq!(found, "/d/sub/shown\n");
}
