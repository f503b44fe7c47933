//! Archives made by hand, good and bad.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use stratafs::image::Digest;

/// The media types that the images here use.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub const TAR: &str = "application/vnd.oci.image.layer.v1.tar";
pub const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub const ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";

/// A tar, header by header, without a writer's scruples.
#[derive(Clone, Default)]
pub struct Tar(Vec<u8>);

impl Tar {
    pub fn new() -> Self {
        Self::default()
    }

    /// A member whose header `change` may spoil; the checksum is right.
    pub fn with(
        mut self,
        name: &[u8],
        kind: u8,
        data: &[u8],
        change: impl FnOnce(&mut [u8]),
    ) -> Self {
        let mut header = tar::Header::new_ustar();
        header.set_mode(if kind == b'5' { 0o755 } else { 0o644 });
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_600_000_000);
        header.set_size(data.len() as u64);
        header.set_entry_type(tar::EntryType::new(kind));
        let block = header.as_mut_bytes();
        block[..name.len()].copy_from_slice(name);
        change(block);
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.extend_from_slice(block);
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub fn file(self, name: &str, data: &[u8]) -> Self {
        self.with(name.as_bytes(), b'0', data, |_| {})
    }

    pub fn dir(self, name: &str) -> Self {
        self.with(name.as_bytes(), b'5', b"", |_| {})
    }

    pub fn link(self, kind: u8, name: &str, target: &str) -> Self {
        self.with(name.as_bytes(), kind, b"", |block| {
            block[157..157 + target.len()].copy_from_slice(target.as_bytes());
        })
    }

    /// A PAX header with these bytes for the member that follows.
    pub fn pax(self, records: &[u8]) -> Self {
        self.with(b"PaxHeaders/x", b'x', records, |_| {})
    }

    /// The archive with its end.
    pub fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

/// One PAX record.
pub fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut len = rest + 1;
    while len != rest + len.to_string().len() {
        len = rest + len.to_string().len();
    }
    let mut record = format!("{len} {key}=").into_bytes();
    record.extend_from_slice(value);
    record.push(b'\n');
    record
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

/// A small layer that is all right.
pub fn layer(text: &str) -> Vec<u8> {
    Tar::new()
        .dir("etc/")
        .file("etc/motd", text.as_bytes())
        .link(b'2', "etc/link", "motd")
        .link(b'1', "etc/hard", "etc/motd")
        .end()
}

/// A configuration with layers of these uncompressed contents.
pub fn config(layers: &[&[u8]]) -> Vec<u8> {
    let diff_ids: Vec<_> = layers.iter().map(|layer| Digest::of(layer)).collect();
    json!({
        "created": "2026-01-02T03:04:05Z",
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": [],
    })
    .to_string()
    .into_bytes()
}

/// A docker-archive, to be changed before it is packed.
#[derive(Clone)]
pub struct Docker {
    pub files: BTreeMap<String, Vec<u8>>,
    pub manifest: Value,
}

impl Docker {
    /// One image under one name.
    pub fn new(name: &str, layers: &[&[u8]]) -> Self {
        let mut docker = Self {
            files: BTreeMap::new(),
            manifest: json!([]),
        };
        docker.add(&[name], layers);
        docker
    }

    pub fn add(&mut self, names: &[&str], layers: &[&[u8]]) {
        let config = config(layers);
        let config_name = format!("{}.json", Digest::of(&config).hex());
        self.files.insert(config_name.clone(), config);
        let mut paths = Vec::new();
        for layer in layers {
            let path = format!("{}/layer.tar", Digest::of(layer).hex());
            self.files.insert(path.clone(), layer.to_vec());
            paths.push(path);
        }
        self.manifest.as_array_mut().unwrap().push(json!({
            "Config": config_name, "RepoTags": names, "Layers": paths,
        }));
    }

    /// The archive without its end, for more members.
    pub fn open(&self) -> Tar {
        let mut tar = Tar::new();
        for (name, data) in &self.files {
            tar = tar.file(name, data);
        }
        tar.file("manifest.json", self.manifest.to_string().as_bytes())
    }

    pub fn pack(&self) -> Vec<u8> {
        self.open().end()
    }
}

/// An OCI layout, to be changed before it is packed.
#[derive(Clone)]
pub struct Layout {
    pub files: BTreeMap<String, Vec<u8>>,
    pub manifests: Vec<Value>,
}

impl Layout {
    pub fn new() -> Self {
        let version = br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec();
        Self {
            files: BTreeMap::from([("oci-layout".to_owned(), version)]),
            manifests: Vec::new(),
        }
    }

    /// A blob's descriptor.
    pub fn blob(&mut self, kind: &str, bytes: &[u8]) -> Value {
        let digest = Digest::of(bytes);
        let path = format!("blobs/sha256/{}", digest.hex());
        self.files.insert(path, bytes.to_vec());
        json!({"mediaType": kind, "digest": digest, "size": bytes.len()})
    }

    /// An image's descriptor, of layers as (type, blob, uncompressed).
    pub fn image(&mut self, layers: &[(&str, &[u8], &[u8])]) -> Value {
        let plain: Vec<&[u8]> = layers.iter().map(|layer| layer.2).collect();
        let config = self.blob(CONFIG, &config(&plain));
        let layers: Vec<_> = layers
            .iter()
            .map(|(kind, blob, _)| self.blob(kind, blob))
            .collect();
        self.manifest(&json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers,
        }))
    }

    pub fn manifest(&mut self, manifest: &Value) -> Value {
        self.blob(MANIFEST, manifest.to_string().as_bytes())
    }

    /// Lists a descriptor in `index.json` under a name.
    pub fn list(mut self, mut descriptor: Value, name: &str) -> Self {
        descriptor["annotations"] = json!({"org.opencontainers.image.ref.name": name});
        self.manifests.push(descriptor);
        self
    }

    pub fn pack(&self) -> Vec<u8> {
        let index = json!({"schemaVersion": 2, "manifests": self.manifests});
        let mut tar = Tar::new();
        for (name, data) in &self.files {
            tar = tar.file(name, data);
        }
        tar.file("index.json", index.to_string().as_bytes()).end()
    }

    /// Writes it as a directory.
    pub fn unpack(&self, dir: &Path) {
        let index = json!({"schemaVersion": 2, "manifests": self.manifests});
        std::fs::create_dir_all(dir.join("blobs/sha256")).unwrap();
        for (name, data) in &self.files {
            std::fs::write(dir.join(name), data).unwrap();
        }
        std::fs::write(dir.join("index.json"), index.to_string()).unwrap();
    }
}

/// Every file below `root` with its length, sorted.
pub fn files(root: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    let mut dirs = vec![root.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            let meta = entry.metadata().unwrap();
            if meta.is_dir() {
                dirs.push(entry.path());
            } else {
                found.push((entry.path(), meta.len()));
            }
        }
    }
    found.sort();
    found
}
