//! Small images for tests.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use serde_json::json;
use tar::{Builder, EntryType, Header};
use tempfile::TempDir;

use crate::archive::{LoadOptions, Silent, Source, load};
use crate::image::Digest;
use crate::inspect::{Image, Target};
use crate::store::Store;
use crate::store::containers::{Container, NewContainer};

/// The tar of a layer in the making.
pub(crate) struct LayerTar(Builder<Vec<u8>>);

impl LayerTar {
    pub(crate) fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    fn put(mut self, path: &[u8], kind: EntryType, mode: u32, data: &[u8]) -> Self {
        let mut header = header(kind, mode, data.len());
        let path = Path::new(OsStr::from_bytes(path));
        self.0.append_data(&mut header, path, data).unwrap();
        self
    }

    pub(crate) fn file(self, path: impl AsRef<[u8]>, data: impl AsRef<[u8]>) -> Self {
        self.put(path.as_ref(), EntryType::Regular, 0o644, data.as_ref())
    }

    pub(crate) fn program(self, path: &str, data: &[u8]) -> Self {
        self.put(path.as_bytes(), EntryType::Regular, 0o4755, data)
    }

    pub(crate) fn dir(self, path: impl AsRef<[u8]>) -> Self {
        self.put(path.as_ref(), EntryType::Directory, 0o755, b"")
    }

    pub(crate) fn fifo(self, path: &str) -> Self {
        self.put(path.as_bytes(), EntryType::Fifo, 0o600, b"")
    }

    fn link(mut self, path: &str, to: &[u8], kind: EntryType) -> Self {
        let mut header = header(kind, 0o777, 0);
        let to = Path::new(OsStr::from_bytes(to));
        self.0.append_link(&mut header, path, to).unwrap();
        self
    }

    pub(crate) fn symlink(self, path: &str, to: impl AsRef<[u8]>) -> Self {
        self.link(path, to.as_ref(), EntryType::Symlink)
    }

    pub(crate) fn hard(self, path: &str, to: &str) -> Self {
        self.link(path, to.as_bytes(), EntryType::Link)
    }

    pub(crate) fn gone(self, dir: &str, name: &str) -> Self {
        self.file(format!("{dir}.wh.{name}"), b"")
    }

    pub(crate) fn opaque(self, dir: &str) -> Self {
        self.file(format!("{dir}.wh..wh..opq"), b"")
    }
}

fn header(kind: EntryType, mode: u32, size: usize) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_700_000_000);
    header.set_size(size as u64);
    header
}

/// An archive of one image beside an empty store.
pub(crate) struct Sample {
    dir: TempDir,
    pub(crate) store: Store,
}

impl Sample {
    /// An image of these layers, each with the instruction that made it.
    pub(crate) fn new(layers: Vec<(&str, LayerTar)>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let mut archive = Builder::new(File::create(dir.path().join("image.tar")).unwrap());
        let mut add = |name: &str, data: &[u8]| {
            let mut header = header(EntryType::Regular, 0o644, data.len());
            archive.append_data(&mut header, name, data).unwrap();
        };
        let (mut ids, mut history, mut names) = (Vec::new(), Vec::new(), Vec::new());
        for (number, (instruction, layer)) in layers.into_iter().enumerate() {
            let tar = layer.0.into_inner().unwrap();
            let name = format!("{number}/layer.tar");
            add(&name, &tar);
            ids.push(Digest::of(&tar));
            names.push(name);
            history.push(json!({"created_by": instruction, "created": "2024-01-02T03:04:05Z"}));
        }
        let config = json!({
            "architecture": "amd64", "os": "linux", "config": {}, "history": history,
            "rootfs": {"type": "layers", "diff_ids": ids.iter().map(ToString::to_string).collect::<Vec<_>>()},
        });
        add("config.json", config.to_string().as_bytes());
        let manifest =
            json!([{"Config": "config.json", "RepoTags": ["sample:1"], "Layers": names}]);
        add("manifest.json", manifest.to_string().as_bytes());
        archive.into_inner().unwrap().flush().unwrap();
        Self { dir, store }
    }

    fn archive(&self) -> String {
        format!(
            "docker-archive:{}",
            self.dir.path().join("image.tar").display()
        )
    }

    /// Opens the archive as an argument with this end would.
    pub(crate) fn open(&self, end: &str) -> Image {
        let target = Target::parse(OsStr::new(&format!("{}{end}", self.archive()))).unwrap();
        Image::open(&self.store, &target, &Silent).unwrap()
    }

    /// Opens something of the store.
    pub(crate) fn stored(&self, name: &str) -> Image {
        let target = Target::parse(OsStr::new(name)).unwrap();
        Image::open(&self.store, &target, &Silent).unwrap()
    }

    /// Loads the archive and makes a container of it.
    pub(crate) fn container(&self, name: &str) -> Container {
        let source = Source::parse(&self.archive()).unwrap().unwrap();
        load(&self.store, &source, &LoadOptions::default(), &Silent).unwrap();
        let image = self.store.find("sample:1").unwrap();
        let new = NewContainer {
            name: Some(name.into()),
            ..NewContainer::default()
        };
        self.store
            .create_container(&image, "sample:1", new)
            .unwrap()
    }
}

/// Layers that do everything a layer can do to those below it.
pub(crate) fn eventful() -> Sample {
    let first = LayerTar::new()
        .dir("etc/")
        .file("etc/motd", "hello\n")
        .file("etc/same", "same")
        .file("etc/moded", "moded")
        .dir("usr/")
        .dir("usr/share/")
        .dir("usr/share/doc/")
        .file("usr/share/doc/a", "aaaa")
        .file("usr/share/doc/b", "bb")
        .file("usr/big", vec![b'x'; 20_000])
        .hard("usr/linked", "usr/big")
        .dir("var/")
        .dir("var/cache/")
        .file("var/cache/one", "1")
        .file("var/cache/two", "22")
        .file("thing", "a file that becomes a directory")
        .symlink("link", "etc/motd")
        .fifo("pipe");
    let second = LayerTar::new()
        .file("etc/motd", "hello, world\n")
        .file("etc/same", "same")
        .program("etc/moded", b"moded")
        .file("etc/new", "new")
        .gone("usr/share/", "doc")
        .opaque("var/cache/")
        .file("var/cache/two", "22")
        .file("var/cache/three", "333")
        .dir("thing/")
        .file("thing/inside", "inside")
        .hard("hard", "usr/big");
    let third = LayerTar::new()
        .gone("", "usr")
        .dir("usr/")
        .file("usr/only", "only this")
        .file("var", "a directory that becomes a file")
        .gone("", "nothing")
        .symlink("link", "etc/new");
    Sample::new(vec![
        ("/bin/sh -c #(nop) ADD file:abc in / ", first),
        (
            "RUN /bin/sh -c apt-get update && apt-get install -y things # buildkit",
            second,
        ),
        ("/bin/sh -c rm -rf /usr", third),
    ])
}
