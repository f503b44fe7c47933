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

mod compare;
mod damage;
mod output;
mod search;
mod usage;

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
