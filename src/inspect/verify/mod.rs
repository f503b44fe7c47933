//! Whether what a store has is what it should be, and making again what can be made again.
//!
//! ```text
//! oci-layout, index.json         are what the layout's specification says
//! blobs/sha256/HEX               have the length and the sha256 that name them
//! a layer's blob                 decompresses to a tar with its diffID
//! strata/layers/DIFFID.json      agrees with the blob                        made again
//!                DIFFID.tar      has the sha256 that names it                made again
//!                DIFFID.index    is what the tar gives, byte for byte        made again
//! strata/chains/CHAINID.index    is what the layers' indexes give            made again
//! strata/objects/KEY             has the blake3 that names it                deleted: it comes back
//! ```
//!
//! What is derived and simply not there is no damage: the next use makes it. What is made again is
//! renamed into place, so that whoever has the old file open keeps it.

mod layer;

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::archive::chain::stage_chain;
use crate::archive::progress::Progress;
use crate::archive::staged::Staged;
use crate::error::{Context, Failure};
use crate::image::{
    ChainId, Descriptor, DiffId, Digest, ImageConfig, Index as ImageIndex, Manifest, Platform,
    Reference, is_id_prefix, media_type,
};
use crate::index::flatten;
use crate::index::reader::Index;
use crate::store::Store;
use crate::store::names::name_of;

/// What is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Everything in the store.
    All,
    /// These images, by name or id, and what they need.
    Images(Vec<String>),
}

/// What is done about damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It is reported.
    Check,
    /// What is derived is made again.
    Repair,
}

/// A kind of file in a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// `oci-layout`
    Layout,
    /// `index.json`
    Names,
    /// A manifest, or an index of manifests.
    Manifest,
    /// An image's configuration.
    Config,
    /// A layer's blob.
    Layer,
    /// A blob that no image needs.
    Unused,
    /// What is known of a layer.
    LayerRecord,
    /// The uncompressed copy of a layer's tar.
    LayerTar,
    /// A layer's index.
    LayerIndex,
    /// A stack's index.
    ChainIndex,
    /// A file of layers as a host file.
    Object,
    /// What is known of the containers.
    Containers,
}

impl Part {
    /// Its name for people.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Part::Layout => "layout",
            Part::Names => "list of images",
            Part::Manifest => "manifest",
            Part::Config => "configuration",
            Part::Layer => "layer",
            Part::Unused => "unused blob",
            Part::LayerRecord => "layer's record",
            Part::LayerTar => "layer's uncompressed copy",
            Part::LayerIndex => "layer's index",
            Part::ChainIndex => "stack's index",
            Part::Object => "object",
            Part::Containers => "containers",
        }
    }
}

impl Part {
    /// Whether it follows from something else in the store.
    #[must_use]
    pub fn is_derived(self) -> bool {
        matches!(
            self,
            Part::LayerRecord | Part::LayerTar | Part::LayerIndex | Part::ChainIndex | Part::Object
        )
    }
}

/// Something that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// What it is.
    pub part: Part,
    /// The file, from the store's root.
    pub path: PathBuf,
    /// What is wrong with it.
    pub why: String,
    /// The names (or manifests) of the images that need it.
    pub images: Vec<String>,
    /// Whether it was made again.
    pub repaired: bool,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// Files that were read.
    pub files: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// What is damaged, or was.
    pub damage: Vec<Damage>,
}

impl Report {
    /// Whether all is well now.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.damage.iter().all(|d| d.repaired)
    }
}

/// Verifies a store, or some of its images.
///
/// # Errors
/// `NotFound` when there is no such image; `System` when nothing can be verified at all. Damage is
/// no error: it is in the report.
pub fn verify(
    store: &Store,
    scope: &Scope,
    mode: Mode,
    progress: &dyn Progress,
) -> Result<Report, Failure> {
    let _lease = store.lease()?;
    let mut run = Run {
        store,
        mode,
        progress,
        report: Report::default(),
        blobs: HashMap::new(),
        layers: HashMap::new(),
        user: String::new(),
    };
    run.layout(scope)?;
    Ok(run.report)
}

/// A verification under way.
struct Run<'a> {
    store: &'a Store,
    mode: Mode,
    progress: &'a dyn Progress,
    report: Report,
    /// Blobs that were looked at, and whether they are what they should be.
    blobs: HashMap<Digest, bool>,
    /// Layers that were looked at, and whether their index can be used.
    layers: HashMap<DiffId, bool>,
    /// The image for which something is looked at.
    user: String,
}

impl Run<'_> {
    fn layout(&mut self, scope: &Scope) -> Result<(), Failure> {
        let root = self.store.root().to_owned();
        self.document(Part::Layout, &root.join("oci-layout"));
        let names = self.document(Part::Names, &root.join("index.json"));
        let manifests = match names.map(serde_json::from_value::<ImageIndex>) {
            Some(Ok(index)) => index.manifests,
            Some(Err(e)) => {
                self.damaged(Part::Names, &root.join("index.json"), e.to_string());
                Vec::new()
            }
            None => Vec::new(),
        };
        for descriptor in self.chosen(&manifests, scope)? {
            self.user = match name_of(&descriptor) {
                Some(name) => name.familiar(),
                None => descriptor.digest.to_string(),
            };
            self.image(&descriptor, 0);
        }
        self.user.clear();
        if *scope == Scope::All {
            self.unused()?;
            self.objects()?;
            if let Err(e) = self.store.containers() {
                let path = root.join("strata/containers");
                self.damaged(Part::Containers, &path, e.to_string());
            }
        }
        Ok(())
    }

    /// The descriptors of the images that are asked for.
    fn chosen(&self, all: &[Descriptor], scope: &Scope) -> Result<Vec<Descriptor>, Failure> {
        let Scope::Images(names) = scope else {
            return Ok(all.to_vec());
        };
        let mut chosen: Vec<Descriptor> = Vec::new();
        for text in names {
            let name = Reference::parse(text).ok();
            let by_name = |d: &&Descriptor| name.is_some() && name_of(d) == name;
            let mut found: Vec<&Descriptor> = all.iter().filter(by_name).collect();
            if found.is_empty() && is_id_prefix(text) {
                let prefix = text.strip_prefix("sha256:").unwrap_or(text);
                let by_id = |d: &&Descriptor| {
                    d.digest.hex().starts_with(prefix)
                        || self
                            .store
                            .read_json::<Manifest>(&d.digest)
                            .is_ok_and(|m| m.config.digest.hex().starts_with(prefix))
                };
                found = all.iter().filter(by_id).collect();
            }
            if found.is_empty() {
                return Err(Failure::not_found(format!(
                    "No such image: {}",
                    text.escape_debug()
                )));
            }
            chosen.extend(found.into_iter().cloned());
        }
        Ok(chosen)
    }

    fn image(&mut self, descriptor: &Descriptor, depth: usize) {
        let digest = &descriptor.digest;
        if !self.blob(Part::Manifest, digest, Some(descriptor.size)) || depth > 3 {
            return;
        }
        if media_type::is_index(&descriptor.media_type) {
            let Ok(index) = self.store.read_json::<ImageIndex>(digest) else {
                return self.damaged(
                    Part::Manifest,
                    &self.store.blob_path(digest),
                    "not an index".into(),
                );
            };
            let own = Platform::host().choose(&index.manifests).map(|d| d.digest);
            for manifest in &index.manifests {
                // The images of other machines need not be there.
                if Some(manifest.digest) == own || self.store.has(&manifest.digest) {
                    self.image(manifest, depth + 1);
                }
            }
            return;
        }
        let Ok(manifest) = self.store.read_json::<Manifest>(digest) else {
            return self.damaged(
                Part::Manifest,
                &self.store.blob_path(digest),
                "not a manifest".into(),
            );
        };
        let (config, size) = (manifest.config.digest, manifest.config.size);
        let known = self.blob(Part::Config, &config, Some(size));
        let parsed = known
            .then(|| self.store.read_json::<ImageConfig>(&config).ok())
            .flatten();
        let layers = match parsed {
            Some(parsed) if parsed.rootfs.diff_ids.len() == manifest.layers.len() => {
                parsed.rootfs.diff_ids
            }
            // Of an artifact that is no image, blobs are all there is.
            _ => {
                for layer in &manifest.layers {
                    self.blob(Part::Layer, &layer.digest, Some(layer.size));
                }
                return;
            }
        };
        let mut whole = true;
        for (diff_id, blob) in layers.iter().zip(&manifest.layers) {
            whole &= self.layer(diff_id, blob);
        }
        if whole {
            self.chain(&layers);
        }
    }

    /// A file that holds JSON.
    fn document(&mut self, part: Part, path: &Path) -> Option<serde_json::Value> {
        let found = std::fs::read(path)
            .map_err(|e| missing(&e))
            .and_then(|bytes| {
                self.report.files += 1;
                self.report.bytes += bytes.len() as u64;
                serde_json::from_slice(&bytes).map_err(|e| e.to_string())
            });
        match found {
            Ok(value) => Some(value),
            Err(why) => {
                self.damaged(part, path, why);
                None
            }
        }
    }

    /// A blob by itself; whether it is what it should be.
    fn blob(&mut self, part: Part, digest: &Digest, size: Option<u64>) -> bool {
        if let Some(sound) = self.blobs.get(digest) {
            return *sound;
        }
        let path = self.store.blob_path(digest);
        let found = self.hash(&path, &format!("Verifying a {}", part.word()));
        let wrong = match found {
            Err(e) => Some(missing(&e)),
            Ok((_, len)) if size.is_some_and(|size| size != len) => Some(format!(
                "{len} bytes long, not {}",
                size.unwrap_or_default()
            )),
            Ok((is, _)) if is != *digest => Some(format!("its contents have the digest {is}")),
            Ok(_) => None,
        };
        let sound = wrong.is_none();
        self.blobs.insert(*digest, sound);
        if let Some(why) = wrong {
            self.damaged(part, &path, why);
        }
        sound
    }

    /// The sha256 and the length of a file.
    fn hash(&mut self, path: &Path, what: &str) -> io::Result<(Digest, u64)> {
        let mut file = File::open(path)?;
        self.progress
            .begin(what, file.metadata().ok().map(|m| m.len()));
        let mut hash = Sha256::new();
        let read = each_block(&mut file, |block| {
            hash.update(block);
            self.progress.advance(block.len() as u64);
        });
        self.progress.end();
        let len = read?;
        self.report.files += 1;
        self.report.bytes += len;
        Ok((Digest::from_bytes(hash.finalize().into()), len))
    }

    /// The index of a stack whose layers' indexes are sound. It need not be there.
    fn chain(&mut self, layers: &[DiffId]) {
        let Some(id) = ChainId::of(layers) else {
            return;
        };
        let path = self.store.chain_path(&id);
        if !path.exists() {
            return;
        }
        let indexes: Vec<PathBuf> = layers
            .iter()
            .map(|l| self.store.layer_index_path(l))
            .collect();
        // Layers that another tool has put there may have no index yet.
        if !indexes.iter().all(|p| p.exists()) {
            return;
        }
        let wrong = match self.chain_differs(&path, &indexes) {
            Ok(false) => return,
            Ok(true) => "not what its layers' indexes give".to_owned(),
            Err(e) => e.to_string(),
        };
        self.damaged(Part::ChainIndex, &path, wrong);
        self.repair(|run| {
            stage_chain(&run.store.tmp_dir(), id, &indexes)?.publish(run.store)?;
            run.store.sync_dirs()
        });
    }

    fn chain_differs(&mut self, path: &Path, indexes: &[PathBuf]) -> Result<bool, Failure> {
        let index = Index::open(path)?;
        index.verify()?;
        let mut layers = Vec::new();
        for path in indexes {
            layers.push(Index::open(path)?);
        }
        let fresh = Staged::new_in(&self.store.tmp_dir())?;
        flatten(&layers, fresh.path())?;
        self.report.files += 1;
        self.report.bytes += path.metadata().map_or(0, |m| m.len());
        Ok(!same_bytes(path, fresh.path())?)
    }

    /// Blobs that no image needs: their names still say what they are.
    fn unused(&mut self) -> Result<(), Failure> {
        for (name, _) in self.files_of("blobs/sha256")? {
            if let Some(digest) = Digest::from_hex(&name) {
                self.blob(Part::Unused, &digest, None);
            }
        }
        Ok(())
    }

    /// Objects: their names are the keys of their contents.
    fn objects(&mut self) -> Result<(), Failure> {
        for (name, path) in self.files_of("strata/objects")? {
            if name.len() != 64 || !name.bytes().all(|b| b.is_ascii_hexdigit()) {
                continue;
            }
            let mut hash = blake3::Hasher::new();
            let read = File::open(&path).and_then(|mut file| {
                each_block(&mut file, |block| {
                    hash.update(block);
                })
            });
            let wrong = match read {
                // A cache: whoever deletes one does no harm.
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => missing(&e),
                Ok(len) => {
                    self.report.files += 1;
                    self.report.bytes += len;
                    match hash.finalize().to_hex().as_str() == name {
                        true => continue,
                        false => "its contents are not what its name says".into(),
                    }
                }
            };
            self.damaged(Part::Object, &path, wrong);
            self.repair(|_| {
                std::fs::remove_file(&path).context(|| format!("remove {}", path.display()))
            });
        }
        Ok(())
    }

    /// The regular files of a directory of the store, sorted; none when it isn't there.
    fn files_of(&self, dir: &str) -> Result<Vec<(String, PathBuf)>, Failure> {
        let dir = self.store.root().join(dir);
        let about = || dir.display().to_string();
        let entries = match std::fs::read_dir(&dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.context(about)?,
        };
        let mut files = Vec::new();
        for entry in entries {
            let entry = entry.context(about)?;
            if entry.file_type().context(about)?.is_file() {
                let name = entry.file_name().to_string_lossy().into_owned();
                files.push((name, entry.path()));
            }
        }
        files.sort();
        Ok(files)
    }

    /// Notes damage.
    fn damaged(&mut self, part: Part, path: &Path, why: String) {
        let path = path.strip_prefix(self.store.root()).unwrap_or(path);
        let images = match self.user.is_empty() {
            true => Vec::new(),
            false => vec![self.user.clone()],
        };
        self.report.damage.push(Damage {
            part,
            path: path.to_owned(),
            why,
            images,
            repaired: false,
        });
    }

    /// Makes again what was noted last, if that is wanted; whether it was.
    fn repair(&mut self, make: impl FnOnce(&mut Self) -> Result<(), Failure>) -> bool {
        if self.mode == Mode::Check {
            return false;
        }
        let made = make(self);
        let Some(damage) = self.report.damage.last_mut() else {
            return false;
        };
        match made {
            Ok(()) => damage.repaired = true,
            Err(e) => damage.why = format!("{}; repairing it failed: {e}", damage.why),
        }
        damage.repaired
    }
}

fn missing(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "missing".into(),
        _ => error.to_string(),
    }
}

/// Reads to the end; how many bytes that were.
fn each_block(reader: &mut dyn Read, mut each: impl FnMut(&[u8])) -> io::Result<u64> {
    let mut buffer = vec![0; 256 << 10];
    let mut len = 0;
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(len),
            Ok(n) => {
                len += n as u64;
                each(buffer.get(..n).unwrap_or_default());
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

/// Whether two files have the same bytes.
fn same_bytes(a: &Path, b: &Path) -> Result<bool, Failure> {
    let open = |path: &Path| File::open(path).context(|| path.display().to_string());
    let (mut a, mut b) = (open(a)?, open(b)?);
    if a.metadata()?.len() != b.metadata()?.len() {
        return Ok(false);
    }
    let (mut left, mut right) = (vec![0; 128 << 10], vec![0; 128 << 10]);
    loop {
        let n = a.read(&mut left)?;
        if n == 0 {
            return Ok(true);
        }
        let right = right.get_mut(..n).unwrap_or_default();
        if b.read_exact(right).is_err() || left.get(..n) != Some(right) {
            return Ok(false);
        }
    }
}
