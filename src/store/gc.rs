//! Collecting what nothing refers to any more.

use std::collections::HashSet;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::Store;
use super::names::{Removed, StoredImage};
use crate::error::{Context, Failure};
use crate::image::{ChainId, DiffId, Digest, Index, Manifest, media_type};
use crate::index::{Index as LayerIndex, InodeNo};

/// Unreferenced blobs younger than this stay: other tools write blobs before they name them, and
/// take no lock.
const GRACE: Duration = Duration::from_secs(24 * 60 * 60);

/// Everything that images refer to.
#[derive(Default)]
struct Reachable {
    blobs: HashSet<Digest>,
    layers: HashSet<DiffId>,
    chains: HashSet<ChainId>,
}

impl Store {
    fn reachable(&self) -> Result<Reachable, Failure> {
        let mut reachable = Reachable::default();
        let index = self.index()?;
        let mut queue: Vec<_> = index
            .manifests
            .into_iter()
            .map(|d| (d.media_type, d.digest))
            .collect();
        while let Some((kind, digest)) = queue.pop() {
            if !reachable.blobs.insert(digest) {
                continue;
            }
            if media_type::is_index(&kind) {
                // What another tool has left incomplete refers to nothing more.
                if let Ok(index) = self.read_json::<Index>(&digest) {
                    queue.extend(
                        index
                            .manifests
                            .into_iter()
                            .map(|d| (d.media_type, d.digest)),
                    );
                }
            } else if let Ok(manifest) = self.read_json::<Manifest>(&digest) {
                reachable.blobs.insert(manifest.config.digest);
                reachable
                    .blobs
                    .extend(manifest.layers.iter().map(|l| l.digest));
                if let Ok(config) =
                    self.read_json::<crate::image::ImageConfig>(&manifest.config.digest)
                {
                    let layers = config.rootfs.diff_ids;
                    reachable.chains.extend(ChainId::of(&layers));
                    reachable.layers.extend(layers);
                }
            }
        }
        for container in self.containers()? {
            reachable
                .blobs
                .extend([container.image, container.image_id]);
            reachable.chains.extend(container.chain);
        }
        Ok(reachable)
    }

    /// Removes what only this image, which is no longer named, has needed. Nothing is removed while
    /// somebody has a lease: the next collection does it.
    pub(super) fn collect_image(&self, image: &StoredImage) -> Result<Vec<Removed>, Failure> {
        let Some(_lock) = self.collector_lock()? else {
            return Ok(Vec::new());
        };
        let keep = self.reachable()?;
        let mut removed = Vec::new();
        let blobs = image.manifest_data.layers.iter().map(|l| l.digest);
        for blob in blobs
            .chain([image.manifest, image.id])
            .filter(|b| !keep.blobs.contains(b))
        {
            remove(&self.blob_path(&blob))?;
        }
        let layers = &image.config.rootfs.diff_ids;
        let mut layers_gone = false;
        for (count, layer) in layers.iter().enumerate().rev() {
            let chain = layers.get(..=count).and_then(ChainId::of);
            if let Some(chain) = chain.filter(|c| !keep.chains.contains(c)) {
                remove(&self.chain_path(&chain))?;
                if !keep.layers.contains(layer) {
                    removed.push(Removed::Deleted(chain.0));
                }
            }
            if !keep.layers.contains(layer) {
                self.remove_layer(layer)?;
                layers_gone = true;
            }
        }
        if layers_gone {
            self.collect_objects(&keep.layers)?;
        }
        Ok(removed)
    }

    fn remove_layer(&self, layer: &DiffId) -> Result<(), Failure> {
        // The record first: without it the layer is not there.
        remove(&self.layer_info_path(layer))?;
        remove(&self.layer_index_path(layer))?;
        remove(&self.layer_tar_path(layer))
    }

    /// Removes everything that no image and no container refers to: blobs older than a day, layers,
    /// chains, files that dead writers have left. Returns how many bytes that freed; `None` when
    /// somebody has a lease.
    ///
    /// # Errors
    /// `Invalid` when `index.json` is damaged; `System`.
    pub fn collect(&self) -> Result<Option<u64>, Failure> {
        let Some(_lock) = self.collector_lock()? else {
            return Ok(None);
        };
        let keep = self.reachable()?;
        let mut freed = 0;
        freed += sweep(&self.path("blobs/sha256"), GRACE, |name| {
            Digest::from_hex(name).is_none_or(|d| keep.blobs.contains(&d))
        })?;
        let stem = |name: &str| Digest::from_hex(name.split('.').next().unwrap_or_default());
        freed += sweep(&self.path("strata/layers"), Duration::ZERO, |name| {
            stem(name).is_some_and(|d| keep.layers.contains(&DiffId(d)))
        })?;
        freed += sweep(&self.path("strata/chains"), Duration::ZERO, |name| {
            stem(name).is_some_and(|d| keep.chains.contains(&ChainId(d)))
        })?;
        freed += sweep(&self.tmp_dir(), Duration::ZERO, |_| false)?;
        freed += self.collect_objects(&keep.layers)?;
        let objects = self.objects()?;
        freed += objects.prune(objects.limits().budget)?.bytes;
        Ok(Some(freed))
    }

    /// Removes the objects that are of none of these layers; the bytes freed. Who has one open keeps
    /// it.
    fn collect_objects(&self, layers: &HashSet<DiffId>) -> Result<u64, Failure> {
        let objects = self.objects()?;
        if objects.list()?.is_empty() {
            return Ok(0);
        }
        let mut keys = HashSet::new();
        for layer in layers {
            // A layer without a whole index makes its objects again when it has one.
            let Ok(index) = LayerIndex::open(&self.layer_index_path(layer)) else {
                continue;
            };
            for number in 0..index.inode_count() {
                if let Ok(inode) = index.inode(InodeNo(number)) {
                    keys.extend(inode.key);
                }
            }
        }
        Ok(objects.retain(|key| keys.contains(&key.0))?.bytes)
    }
}

fn remove(path: &Path) -> Result<(), Failure> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

fn sweep(dir: &Path, grace: Duration, keep: impl Fn(&str) -> bool) -> Result<u64, Failure> {
    let about = || dir.display().to_string();
    let mut freed = 0;
    for entry in std::fs::read_dir(dir).context(about)? {
        let entry = entry.context(about)?;
        let meta = entry.metadata().context(about)?;
        let name = entry.file_name();
        let old = meta
            .modified()
            .ok()
            .and_then(|t| SystemTime::now().duration_since(t).ok());
        if keep(&name.to_string_lossy()) || !meta.is_file() || old.is_none_or(|age| age < grace) {
            continue;
        }
        freed += meta.len();
        remove(&entry.path())?;
    }
    Ok(freed)
}
