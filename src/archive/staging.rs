//! What a load is going to add to the store, complete and verified before any of it is visible.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;

use super::candidate::{Candidate, CandidateLayer};
use super::chain::{StagedChain, chain_of, stage_chain};
use super::expansion::Limits;
use super::ingest::{Keep, LayerSpec, StagedLayer, stage_layer};
use super::load::Loaded;
use super::part::Part;
use super::progress::Progress;
use super::staged::Staged;
use crate::error::{Context, Failure};
use crate::image::{Descriptor, DiffId, Digest, Manifest, media_type};
use crate::store::layers::LayerInfo;
use crate::store::{Lease, Store};

/// How many layers are read at the same time: each keeps several threads busy by itself.
const AT_ONCE: usize = 2;

/// Names one blob of one layer: the same tar may be there in several compressions.
type LayerKey = (DiffId, Option<Digest>);

fn key_of(layer: &CandidateLayer) -> LayerKey {
    (layer.diff_id, layer.blob.as_ref().map(|blob| blob.digest))
}

/// How a layer comes into the store.
enum Way {
    /// It is there.
    There(LayerInfo),
    /// It is to be read.
    Read(Reading),
}

/// A layer to be read.
struct Reading {
    key: LayerKey,
    what: String,
    part: Part,
    spec: LayerSpec,
    keep: Keep,
}

/// Decides what is to be done for a layer. One that is there already is not read.
fn way(store: &Store, layer: &CandidateLayer) -> Result<Way, Failure> {
    let there = store.layer(&layer.diff_id)?;
    let there = there.filter(|info| store.has(&info.digest));
    let has_blob = match (&there, &layer.blob) {
        (Some(info), None) => return Ok(Way::There(info.clone())),
        (Some(info), Some(blob)) if info.digest == blob.digest => {
            return Ok(Way::There(info.clone()));
        }
        (_, Some(blob)) => store.has(&blob.digest),
        (None, None) => false,
    };
    let part = match (&layer.part, &layer.blob) {
        (Some(part), _) => part.clone(),
        (None, Some(blob)) if has_blob => {
            let file = store.open_blob(&blob.digest)?;
            Part::new(Arc::new(file), 0, blob.size)
        }
        _ => {
            return Err(Failure::invalid(format!(
                "{}: it is missing; an archive saved with --since needs its base loaded first",
                layer.what
            )));
        }
    };
    Ok(Way::Read(Reading {
        key: key_of(layer),
        what: layer.what.clone(),
        part,
        spec: LayerSpec {
            digest: layer.blob.as_ref().map(|blob| blob.digest),
            size: layer.blob.as_ref().map(|blob| blob.size),
            diff_id: Some(layer.diff_id),
            media_type: layer.blob.as_ref().map(|blob| blob.media_type.clone()),
        },
        keep: Keep {
            blob: !has_blob,
            tree: there.is_none(),
            copy: there.is_none(),
        },
    }))
}

/// An image whose layers are all there or staged.
struct StagedImage {
    loaded: Loaded,
    descriptor: Descriptor,
    manifest: Staged,
    config: Staged,
}

/// Everything that a load is going to add.
pub struct Staging<'a> {
    store: &'a Store,
    /// Keeps what was found there from being collected.
    lease: Lease,
    known: HashMap<LayerKey, LayerInfo>,
    layers: Vec<StagedLayer>,
    chains: Vec<StagedChain>,
    images: Vec<StagedImage>,
}

impl<'a> Staging<'a> {
    /// Reads and verifies what the store doesn't have of `images`.
    ///
    /// # Errors
    /// [`Failure`] that names the member or blob and the reason. Nothing stays.
    pub fn of(
        store: &'a Store,
        images: &[Candidate],
        limits: Limits,
        progress: &dyn Progress,
    ) -> Result<Self, Failure> {
        let mut staging = Self {
            store,
            lease: store.lease()?,
            known: HashMap::new(),
            layers: Vec::new(),
            chains: Vec::new(),
            images: Vec::new(),
        };
        let mut readings: Vec<Reading> = Vec::new();
        for layer in images.iter().flat_map(|image| &image.layers) {
            let key = key_of(layer);
            if staging.known.contains_key(&key) || readings.iter().any(|r| r.key == key) {
                continue;
            }
            match way(store, layer)? {
                Way::There(info) => drop(staging.known.insert(key, info)),
                Way::Read(reading) => readings.push(reading),
            }
        }
        staging.read(readings, limits, progress)?;
        for image in images {
            staging.chain(&image.diff_ids())?;
            staging.image(image)?;
        }
        Ok(staging)
    }

    /// Reads layers, some at a time. The first failure in their order is the one reported.
    fn read(
        &mut self,
        readings: Vec<Reading>,
        limits: Limits,
        progress: &dyn Progress,
    ) -> Result<(), Failure> {
        if readings.is_empty() {
            return Ok(());
        }
        let total = readings.iter().map(|reading| reading.part.size()).sum();
        let tmp = self.store.tmp_dir();
        let queue = Mutex::new(readings.into_iter().enumerate());
        let results = Mutex::new(Vec::new());
        let work = || {
            loop {
                let Some((place, reading)) = queue.lock().next() else {
                    return;
                };
                let mut reader = reading.part.reader();
                let staged = stage_layer(
                    &tmp,
                    &mut reader,
                    &reading.spec,
                    reading.keep,
                    limits,
                    progress,
                )
                .context(|| &reading.what);
                if staged.is_err() {
                    queue.lock().by_ref().for_each(drop);
                }
                results.lock().push((place, reading.key, staged));
            }
        };
        progress.begin("Loading layers", Some(total));
        std::thread::scope(|scope| {
            for _ in 1..AT_ONCE {
                scope.spawn(work);
            }
            work();
        });
        progress.end();
        let mut results = results.into_inner();
        results.sort_by_key(|(place, ..)| *place);
        for (_, key, staged) in results {
            let staged = staged?;
            self.known.insert(key, staged.info.clone());
            self.layers.push(staged);
        }
        Ok(())
    }

    /// Stages the flattened index of a stack.
    fn chain(&mut self, layers: &[DiffId]) -> Result<(), Failure> {
        let id = chain_of(layers);
        let staged = self.chains.iter().any(|chain| chain.id() == id);
        if staged || self.store.chain_path(&id).exists() {
            return Ok(());
        }
        let path = |diff_id: &DiffId| -> PathBuf {
            self.layers
                .iter()
                .filter(|layer| layer.info.diff_id == *diff_id)
                .find_map(StagedLayer::index)
                .map_or_else(|| self.store.layer_index_path(diff_id), PathBuf::from)
        };
        let indexes: Vec<PathBuf> = layers.iter().map(path).collect();
        let chain = stage_chain(&self.store.tmp_dir(), id, &indexes)?;
        self.chains.push(chain);
        Ok(())
    }

    /// Stages an image's configuration and manifest; makes the manifest where the archive has none.
    fn image(&mut self, image: &Candidate) -> Result<(), Failure> {
        let tmp = self.store.tmp_dir();
        let (bytes, kind) = match &image.manifest {
            Some((bytes, kind)) => (bytes.clone(), kind.clone()),
            None => (
                self.manifest_of(image)?,
                media_type::OCI_MANIFEST.to_owned(),
            ),
        };
        let digest = Digest::of(&bytes);
        self.images.push(StagedImage {
            loaded: Loaded {
                names: image.names.clone(),
                id: image.id(),
                manifest: digest,
            },
            descriptor: Descriptor::new(&kind, digest, bytes.len() as u64),
            manifest: Staged::with(&tmp, &bytes)?,
            config: Staged::with(&tmp, &image.config)?,
        });
        Ok(())
    }

    fn manifest_of(&self, image: &Candidate) -> Result<Vec<u8>, Failure> {
        let mut layers = Vec::with_capacity(image.layers.len());
        for layer in &image.layers {
            let info = self
                .known
                .get(&key_of(layer))
                .ok_or_else(|| Failure::system(format!("{}: it was not read", layer.what)))?;
            layers.push(Descriptor::new(&info.media_type, info.digest, info.size));
        }
        let config = Descriptor::new(
            media_type::OCI_CONFIG,
            image.id(),
            image.config.len() as u64,
        );
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(media_type::OCI_MANIFEST.to_owned()),
            config,
            layers,
            annotations: Default::default(),
            other: Default::default(),
        };
        serde_json::to_vec(&manifest).map_err(|error| Failure::system(error.to_string()))
    }

    /// Makes all of it visible: data before what refers to it, names last.
    ///
    /// # Errors
    /// [`Failure`] of kind `System`. What is visible then is complete, and what is not named is
    /// collected later.
    pub fn publish(self) -> Result<Vec<Loaded>, Failure> {
        let store = self.store;
        for layer in self.layers {
            layer.publish(store)?;
        }
        for chain in self.chains {
            chain.publish(store)?;
        }
        let mut loaded = Vec::with_capacity(self.images.len());
        for image in self.images {
            for (staged, digest) in [
                (image.config, image.loaded.id),
                (image.manifest, image.loaded.manifest),
            ] {
                if !store.has(&digest) {
                    staged.publish(&store.blob_path(&digest))?;
                }
            }
            store.add_image(&image.descriptor, &image.loaded.names)?;
            loaded.push(image.loaded);
        }
        drop(self.lease);
        Ok(loaded)
    }
}
