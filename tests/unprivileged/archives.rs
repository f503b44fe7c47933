//! Archives and layouts into the store and out again.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::json;
use stratafs::archive::{
    LoadOptions, Loaded, Progress, SaveFormat, Silent, Source, load, save, save_dir, save_file,
};
use stratafs::image::Digest;
use stratafs::store::Store;

use crate::common::build::*;

/// A store in a directory of its own, with room for archives.
struct Bench {
    dir: tempfile::TempDir,
    store: Store,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        Self { dir, store }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn put(&self, name: &str, bytes: &[u8]) -> PathBuf {
        std::fs::write(self.path(name), bytes).unwrap();
        self.path(name)
    }

    fn load(&self, path: &Path) -> Vec<Loaded> {
        self.load_from(&Source::Path(path.to_owned()))
    }

    fn load_from(&self, source: &Source) -> Vec<Loaded> {
        load(&self.store, source, &LoadOptions::default(), &Silent).unwrap()
    }

    fn save(&self, images: &[&str], format: SaveFormat) -> Vec<u8> {
        let images: Vec<String> = images.iter().map(|name| (*name).to_owned()).collect();
        let mut out = Vec::new();
        save(&self.store, &images, &format.into(), &mut out, &Silent).unwrap();
        out
    }
}

fn names(loaded: &Loaded) -> Vec<String> {
    loaded.names.iter().map(|name| name.familiar()).collect()
}

/// Counts the bytes that a load reads.
#[derive(Default)]
struct Count(AtomicU64);

impl Progress for Count {
    fn begin(&self, _what: &str, _total: Option<u64>) {}
    fn advance(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }
    fn end(&self) {}
}

#[test]
fn docker_archives_load_under_their_names() {
    let bench = Bench::new();
    let mut docker = Docker::new("app:1", &[&layer("base"), &layer("one")]);
    docker.add(
        &["app:2", "localhost/app:two"],
        &[&layer("base"), &layer("two")],
    );
    docker.add(&[], &[&layer("base")]);
    let loaded = bench.load(&bench.put("d.tar", &docker.pack()));
    assert_eq!(names(&loaded[0]), ["app:1"]);
    assert_eq!(names(&loaded[1]), ["app:2", "localhost/app:two"]);
    assert!(loaded[2].names.is_empty());
    assert_eq!(loaded[2].id, Digest::of(&config(&[&layer("base")])));
    assert_eq!(bench.store.images().unwrap().len(), 3);
    assert_eq!(bench.store.find("app:2").unwrap().id, loaded[1].id);
}

#[test]
fn one_image_of_several_can_be_asked_for() {
    let bench = Bench::new();
    let mut docker = Docker::new("app:1", &[&layer("one")]);
    docker.add(&["app:2"], &[&layer("two")]);
    let file = bench.put("d.tar", &docker.pack());
    let source = |reference: &str| Source::DockerArchive {
        file: file.clone(),
        reference: Some(reference.to_owned()),
    };
    let loaded = bench.load_from(&source("app:2"));
    assert_eq!(loaded.len(), 1);
    assert_eq!(names(&loaded[0]), ["app:2"]);
    assert_eq!(names(&bench.load_from(&source("@0"))[0]), ["app:1"]);
    let error = load(
        &bench.store,
        &source("app:3"),
        &LoadOptions::default(),
        &Silent,
    );
    assert!(error.unwrap_err().to_string().contains("no image app:3"));
}

#[test]
fn layers_that_are_there_are_not_read_again() {
    let bench = Bench::new();
    let big = Tar::new().file("big", &[7; 1 << 20]).end();
    bench.load(&bench.put("a.tar", &Docker::new("a:1", &[&big]).pack()));
    let file = bench.put("b.tar", &Docker::new("b:1", &[&big, &layer("more")]).pack());
    let count = Count::default();
    load(
        &bench.store,
        &Source::Path(file),
        &LoadOptions::default(),
        &count,
    )
    .unwrap();
    assert_eq!(count.0.into_inner(), layer("more").len() as u64);
}

#[test]
fn any_compression_of_file_and_layers() {
    let plain = layer("text");
    let zstd = |bytes: &[u8]| zstd::encode_all(bytes, 3).unwrap();
    let id = Digest::of(&config(&[&plain]));
    for (kind, blob) in [
        (TAR, plain.clone()),
        (GZIP, gzip(&plain)),
        (ZSTD, zstd(&plain)),
    ] {
        let mut layout = Layout::new();
        let image = layout.image(&[(kind, &blob, &plain)]);
        let packed = layout.list(image, "app:1").pack();
        for archive in [packed.clone(), gzip(&packed), zstd(&packed)] {
            let bench = Bench::new();
            let loaded = bench.load(&bench.put("a", &archive));
            assert_eq!(loaded[0].id, id);
            let stored = bench.store.find("app:1").unwrap();
            assert_eq!(stored.manifest_data.layers[0].digest, Digest::of(&blob));
        }
    }
    let bench = Bench::new();
    let mut docker = Docker::new("app:1", &[&plain]);
    let path = docker.manifest[0]["Layers"][0].as_str().unwrap().to_owned();
    docker.files.insert(path, gzip(&plain));
    assert_eq!(bench.load(&bench.put("a", &docker.pack()))[0].id, id);
}

#[test]
fn a_layout_is_loaded_from_its_directory_too() {
    let bench = Bench::new();
    let plain = layer("text");
    let mut layout = Layout::new();
    let one = layout.image(&[(TAR, &plain, &plain)]);
    let two = layout.image(&[(GZIP, &gzip(&plain), &plain), (TAR, &plain, &plain)]);
    layout
        .list(one, "one")
        .list(two, "docker.io/team/two:v2")
        .unpack(&bench.path("layout"));
    let loaded = bench.load(&bench.path("layout"));
    assert_eq!(names(&loaded[0]), ["one:latest"]);
    assert_eq!(names(&loaded[1]), ["team/two:v2"]);
    let source = |reference: &str| Source::OciDir {
        dir: bench.path("layout"),
        reference: Some(reference.to_owned()),
    };
    assert_eq!(names(&bench.load_from(&source("one"))[0]), ["one:latest"]);
    assert_eq!(
        names(&bench.load_from(&source("team/two:v2"))[0]),
        ["team/two:v2"]
    );
}

#[test]
fn an_index_gives_this_machines_image() {
    let bench = Bench::new();
    let mut layout = Layout::new();
    let mut members = Vec::new();
    for arch in ["s390x", "amd64", "arm64", "riscv64"] {
        let plain = layer(arch);
        let mut image = layout.image(&[(TAR, &plain, &plain)]);
        image["platform"] = json!({"architecture": arch, "os": "linux"});
        members.push(image);
    }
    let host = stratafs::image::Platform::host().architecture;
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": members});
    let index = layout.blob(INDEX, index.to_string().as_bytes());
    let loaded = bench.load(&bench.put("i.tar", &layout.list(index, "multi:1").pack()));
    assert_eq!(loaded.len(), 1);
    assert_eq!(loaded[0].id, Digest::of(&config(&[&layer(&host)])));
}

#[test]
fn what_is_saved_is_the_same_each_time_and_loads_again() {
    let one = Bench::new();
    let plain = layer("text");
    let mut layout = Layout::new();
    let image = layout.image(&[(GZIP, &gzip(&plain), &plain), (TAR, &plain, &plain)]);
    one.load(&one.put("a.tar", &layout.list(image, "app:1").pack()));
    let stored = one.store.find("app:1").unwrap();
    for format in [SaveFormat::DockerArchive, SaveFormat::OciArchive] {
        let saved = one.save(&["app:1"], format);
        assert_eq!(saved, one.save(&["app:1"], format));
        let two = Bench::new();
        let path = two.put("again.tar", &saved);
        let loaded = two.load(&path);
        assert_eq!(loaded[0].manifest, stored.manifest);
        assert_eq!(names(&loaded[0]), ["app:1"]);
        assert_eq!(saved, two.save(&["app:1"], format));
    }
    // The default is a docker-archive as well.
    let three = Bench::new();
    let file = three.put("d.tar", &one.save(&["app:1"], SaveFormat::DockerArchive));
    let loaded = three.load_from(&Source::DockerArchive {
        file,
        reference: Some("app:1".to_owned()),
    });
    assert_eq!(loaded[0].id, stored.id);
}

#[test]
fn zstd_layers_are_rewritten_for_docker_only() {
    let bench = Bench::new();
    let plain = layer("text");
    let zstd = zstd::encode_all(&plain[..], 3).unwrap();
    let mut layout = Layout::new();
    let image = layout.image(&[(ZSTD, &zstd, &plain)]);
    let loaded = bench.load(&bench.put("a.tar", &layout.list(image, "app:1").pack()));
    let images = ["app:1".to_owned()];
    let mut out = Vec::new();
    let saved = save(
        &bench.store,
        &images,
        &SaveFormat::DockerArchive.into(),
        &mut out,
        &Silent,
    )
    .unwrap();
    assert_eq!(saved.rewritten.len(), 1);
    assert_eq!(saved.rewritten[0].0, Digest::of(&zstd));
    let again = Bench::new();
    let reloaded = again.load(&again.put("b.tar", &out));
    assert_eq!(reloaded[0].id, loaded[0].id);
    assert_ne!(reloaded[0].manifest, loaded[0].manifest);
    let kept = again.load(&again.put("c.tar", &bench.save(&["app:1"], SaveFormat::OciArchive)));
    assert_eq!(kept[0].manifest, loaded[0].manifest);
}

#[test]
fn names_go_out_as_they_were_asked_for() {
    let bench = Bench::new();
    let mut docker = Docker::new("app:1", &[&layer("one")]);
    docker.add(&["app:2", "other:1"], &[&layer("two")]);
    let two = bench.load(&bench.put("d.tar", &docker.pack()))[1].id;
    let loaded = |images: &[&str]| {
        let again = Bench::new();
        let saved = bench.save(images, SaveFormat::DockerArchive);
        let loaded = again.load(&again.put("a.tar", &saved));
        loaded.iter().map(names).collect::<Vec<_>>()
    };
    assert_eq!(loaded(&["app:2"]), [["app:2"]]);
    assert_eq!(loaded(&["app"]), [["app:1"], ["app:2"]]);
    assert_eq!(loaded(&["other:1", "app:2"]), [["app:2", "other:1"]]);
    assert_eq!(loaded(&[&two.hex()]), [[""; 0]]);
    let missing = save(
        &bench.store,
        &["gone:1".into()],
        &SaveFormat::OciArchive.into(),
        &mut Vec::new(),
        &Silent,
    );
    assert!(missing.is_err());
}

#[test]
fn saved_files_and_directories_are_whole_or_absent() {
    let bench = Bench::new();
    bench.load(&bench.put("d.tar", &Docker::new("app:1", &[&layer("one")]).pack()));
    let images = ["app:1".to_owned()];
    let format = SaveFormat::DockerArchive;
    let dir = bench.path("out");
    save_dir(
        &bench.store,
        &images,
        &SaveFormat::OciDir.into(),
        &dir,
        &Silent,
    )
    .unwrap();
    let again = Bench::new();
    assert_eq!(names(&again.load(&dir)[0]), ["app:1"]);
    let full = save_dir(
        &bench.store,
        &images,
        &SaveFormat::OciDir.into(),
        &dir,
        &Silent,
    );
    assert!(full.unwrap_err().to_string().contains("not empty"));
    save_file(
        &bench.store,
        &images,
        &format.into(),
        &bench.path("a.tar"),
        &Silent,
    )
    .unwrap();
    assert_eq!(
        names(&Bench::new().load(&bench.path("a.tar"))[0]),
        ["app:1"]
    );

    // A blob that is damaged in the store does not go out.
    let stored = bench.store.find("app:1").unwrap();
    let blob = bench
        .store
        .blob_path(&stored.manifest_data.layers[0].digest);
    let mut bytes = std::fs::read(&blob).unwrap();
    bytes[600] ^= 1;
    std::fs::remove_file(&blob).unwrap();
    std::fs::write(&blob, bytes).unwrap();
    let list = || files(bench.dir.path()).len();
    let before = list();
    let error = save_file(
        &bench.store,
        &images,
        &format.into(),
        &bench.path("b.tar"),
        &Silent,
    );
    assert!(error.unwrap_err().to_string().contains("damaged"));
    let error = save_dir(
        &bench.store,
        &images,
        &SaveFormat::OciDir.into(),
        &bench.path("out2"),
        &Silent,
    );
    assert!(error.unwrap_err().to_string().contains("damaged"));
    assert!(!bench.path("b.tar").exists() && !bench.path("out2").exists());
    assert_eq!(list(), before);
}
