//! From what an argument names to an image with indexes: found in the store, or read once from an
//! archive into the cache.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::cache::{Cache, FileId, LayerRecord, Record};
use super::data::{ArchiveData, BlobPlace};
use crate::archive::candidate::{Candidate, CandidateLayer, candidates, parse_config};
use crate::archive::chain::{chain_of, stage_chain};
use crate::archive::ingest::{Keep, LayerSpec, StagedLayer, stage_layer};
use crate::archive::part::{Bundle, Part};
use crate::archive::{Limits, Progress, Source, ensure_image};
use crate::content::LayerData;
use crate::content::stream::sniff;
use crate::error::{Context, Failure, FailureKind};
use crate::image::{Compression, DiffId, Digest, ImageConfig, Manifest, Reference};
use crate::store::Store;
use crate::store::containers::Container;
use crate::store::layers::LayerInfo;
use crate::store::names::StoredImage;

/// An image as its source has it.
pub(super) struct Origin {
    pub names: Vec<Reference>,
    pub manifest: Option<(Digest, Manifest)>,
    pub config: Option<(Digest, ImageConfig)>,
    /// Bottom first, each with its index.
    pub layers: Vec<(LayerInfo, PathBuf)>,
    pub data: Arc<dyn LayerData>,
    pub container: Option<Container>,
    /// The index of the whole stack, where the store has it.
    pub chain: Option<PathBuf>,
}

/// What is known of an archive while it is read for the first time.
#[derive(Debug, Clone)]
pub enum Found {
    /// The image: nothing of its layers has been read.
    Image {
        /// Its configuration.
        config: Box<ImageConfig>,
        /// How many bytes each layer takes in the archive, bottom first; `None` for one that is not
        /// in it.
        sizes: Vec<Option<u64>>,
    },
    /// The next layer, counted from the bottom, is indexed.
    Layer(Box<LayerInfo>),
}

/// A container or image of the store; a container if there are both.
pub(super) fn stored(
    store: &Store,
    name: &str,
    progress: &dyn Progress,
) -> Result<Origin, Failure> {
    let container = match store.container(name) {
        Ok(container) => Some(container),
        Err(e) if e.kind() == FailureKind::NotFound => None,
        Err(e) => return Err(e),
    };
    let image = match &container {
        Some(container) => store.image_of_container(container)?,
        None => store.find(name)?,
    };
    let chain = ensure_image(store, &image, progress)?;
    let mut layers = Vec::new();
    for (diff_id, blob) in image
        .config
        .rootfs
        .diff_ids
        .iter()
        .zip(&image.manifest_data.layers)
    {
        let info = store.layer(diff_id)?;
        let info = info.ok_or_else(|| Failure::system(format!("layer {diff_id} is gone")))?;
        // The same tar may be there in another compression: the image's own is meant.
        let info = LayerInfo {
            digest: blob.digest,
            size: blob.size,
            media_type: blob.media_type.clone(),
            ..info
        };
        layers.push((info, store.layer_index_path(diff_id)));
    }
    let StoredImage {
        manifest,
        id,
        names,
        config,
        manifest_data,
        ..
    } = image;
    Ok(Origin {
        names,
        manifest: Some((manifest, manifest_data)),
        config: Some((id, config)),
        layers,
        data: Arc::new(store.clone()),
        container,
        chain: Some(chain),
    })
}

/// An image outside the store, or a layer by itself: from the cache, or read once.
pub(super) struct Outside<'a> {
    pub store: &'a Store,
    pub cache: &'a Cache,
    pub progress: &'a dyn Progress,
    /// Is told what is found in an archive.
    pub watch: &'a dyn Fn(Found),
}

impl Outside<'_> {
    /// The image that a transport names.
    pub fn archive(&self, source: &Source) -> Result<Origin, Failure> {
        let path = source
            .path()
            .ok_or_else(|| Failure::usage("standard input can't be read twice: load it first"))?;
        let kind = match source {
            Source::OciDir { .. } => "oci",
            Source::OciArchive { .. } => "oci-archive",
            Source::DockerArchive { .. } => "docker-archive",
            Source::Stdin | Source::Path(_) => "any",
        };
        let read = |path: &Path| self.read_archive(source, path);
        self.remembered(kind, path, source.reference(), read)
    }

    /// A layer's tar by itself.
    pub fn tar(&self, path: &Path) -> Result<Origin, Failure> {
        self.remembered("tar", path, None, |path| self.read_tar(path))
    }

    /// What the cache remembers, or what `read` finds; both with all indexes.
    fn remembered(
        &self,
        kind: &str,
        path: &Path,
        reference: Option<&str>,
        read: impl Fn(&Path) -> Result<Record, Failure>,
    ) -> Result<Origin, Failure> {
        let about = || path.display();
        let path = std::path::absolute(path).context(about)?;
        if let Some(record) = self.cache.record(kind, &path, reference)
            && record.layers.iter().all(|l| self.index(&l.info).is_some())
        {
            return self.origin(record).context(about);
        }
        let record = read(&path).context(about)?;
        self.cache.keep(kind, &path, reference, &record)?;
        self.cache.trim()?;
        self.origin(record).context(about)
    }

    /// The index of a layer, in the store or the cache.
    fn index(&self, info: &LayerInfo) -> Option<PathBuf> {
        let stored = self.store.layer(&info.diff_id).ok().flatten();
        if stored.is_some() {
            return Some(self.store.layer_index_path(&info.diff_id));
        }
        let cached = self.cache.layer_path(&info.diff_id);
        self.cache.has(&cached).then_some(cached)
    }

    fn read_tar(&self, path: &Path) -> Result<Record, Failure> {
        let file = open_regular(path)?;
        let meta = file.metadata()?;
        if meta.len() == 0 {
            return Err(Failure::invalid("the file is empty"));
        }
        let id = FileId::of(path, &meta);
        let part = Part::new(Arc::new(file), 0, meta.len());
        self.progress.begin("Indexing the layer", Some(part.size()));
        let staged = self.stage(&part, &LayerSpec::default());
        self.progress.end();
        let staged = staged?;
        let index = self.cache.layer_path(&staged.info.diff_id);
        let info = staged.publish_index(&index)?;
        let mut record = Record::new(vec![id.clone()]);
        record.layers.push(LayerRecord {
            info,
            file: Some(id),
            wrapped: false,
            offset: 0,
            size: part.size(),
        });
        Ok(record)
    }

    fn read_archive(&self, source: &Source, path: &Path) -> Result<Record, Failure> {
        let limits = Limits::default();
        let whole = match source {
            Source::OciDir { .. } => None,
            _ if path.is_file() => Some((FileId::now(path)?, is_compressed(path)?)),
            _ => None,
        };
        let bundle = source.open(&self.store.tmp_dir(), limits, self.progress)?;
        let files = match (&bundle, &whole) {
            (Bundle::Dir(dir), _) => vec![FileId::now(&dir.join("index.json"))?],
            (Bundle::Tar(_), Some((id, _))) => vec![id.clone()],
            (Bundle::Tar(_), None) => {
                return Err(Failure::invalid("not a regular file: load it first"));
            }
        };
        let image = the_only(candidates(source, &bundle)?)?;
        (self.watch)(Found::Image {
            config: Box::new(parse_config(&image.config, image.layers.len())?),
            sizes: image
                .layers
                .iter()
                .map(|layer| layer.part.as_ref().map(Part::size))
                .collect(),
        });
        let mut record = Record::new(files);
        let total = image.layers.iter().filter_map(|l| l.part.as_ref());
        let total = total.map(Part::size).sum();
        self.progress.begin("Indexing layers", Some(total));
        let layers = self.layers(&image, &bundle, whole.as_ref());
        self.progress.end();
        record.layers = layers?;
        record.names = image.names.iter().map(ToString::to_string).collect();
        record.manifest = image
            .manifest
            .map(|(bytes, kind)| Ok::<_, Failure>((text(bytes)?, kind)))
            .transpose()?;
        record.config = Some(text(image.config)?);
        Ok(record)
    }

    /// Where the bytes of a layer of an archive are.
    fn place_of(
        &self,
        layer: &CandidateLayer,
        bundle: &Bundle,
        whole: Option<&(FileId, bool)>,
    ) -> Result<Option<BlobPlace>, Failure> {
        let Some(part) = &layer.part else {
            return Ok(None);
        };
        let (file, wrapped) = match (bundle, whole, &layer.blob) {
            (Bundle::Dir(dir), _, Some(blob)) => {
                let path = dir.join(crate::archive::oci::path_of(&blob.digest));
                (FileId::now(&std::path::absolute(path)?)?, false)
            }
            (Bundle::Tar(_), Some((file, wrapped)), _) => (file.clone(), *wrapped),
            _ => return Ok(None),
        };
        Ok(Some(BlobPlace {
            file,
            wrapped,
            offset: part.offset(),
            size: part.size(),
        }))
    }

    /// Reads what is not known of an image's layers. Nothing of it is kept unless all of it, and the
    /// stack of it, is right.
    fn layers(
        &self,
        image: &Candidate,
        bundle: &Bundle,
        whole: Option<&(FileId, bool)>,
    ) -> Result<Vec<LayerRecord>, Failure> {
        let mut staged: Vec<StagedLayer> = Vec::new();
        let mut records = Vec::new();
        let mut indexes = Vec::new();
        for layer in &image.layers {
            let (info, new) = self.layer(layer, &staged).context(|| &layer.what)?;
            staged.extend(new);
            (self.watch)(Found::Layer(Box::new(info.clone())));
            let place = self.place_of(layer, bundle, whole)?;
            let fresh = staged.iter().find(|s| s.info.diff_id == info.diff_id);
            let index = fresh.and_then(StagedLayer::index).map(Path::to_owned);
            indexes.push(index.unwrap_or_else(|| self.store.layer_index_path(&info.diff_id)));
            records.push(LayerRecord {
                info,
                file: place.as_ref().map(|p| p.file.clone()),
                wrapped: place.as_ref().is_some_and(|p| p.wrapped),
                offset: place.as_ref().map_or(0, |p| p.offset),
                size: place.as_ref().map_or(0, |p| p.size),
            });
        }
        let id = chain_of(&image.diff_ids());
        let known = self.store.chain_path(&id).is_file();
        let chain = (!known).then(|| stage_chain(&self.store.tmp_dir(), id, &indexes));
        let chain = chain.transpose()?;
        for layer in staged {
            let path = self.cache.layer_path(&layer.info.diff_id);
            layer.publish_index(&path)?;
        }
        if let Some(chain) = chain {
            chain.publish_at(&self.cache.chain_path(&id))?;
        }
        Ok(records)
    }

    /// Reads a layer of an archive, unless the store has it, or it was just read.
    fn layer(
        &self,
        layer: &CandidateLayer,
        staged: &[StagedLayer],
    ) -> Result<(LayerInfo, Option<StagedLayer>), Failure> {
        let known = match self.store.layer(&layer.diff_id)? {
            Some(info) => Some(info),
            None => staged
                .iter()
                .find(|s| s.info.diff_id == layer.diff_id)
                .map(|s| s.info.clone()),
        };
        match (known, &layer.blob, &layer.part) {
            (Some(info), None, _) => Ok((info, None)),
            (Some(info), Some(blob), _) => {
                let info = LayerInfo {
                    digest: blob.digest,
                    size: blob.size,
                    media_type: blob.media_type.clone(),
                    ..info
                };
                Ok((info, None))
            }
            (None, blob, Some(part)) => {
                let spec = LayerSpec {
                    digest: blob.as_ref().map(|blob| blob.digest),
                    size: blob.as_ref().map(|blob| blob.size),
                    diff_id: Some(layer.diff_id),
                    media_type: blob.as_ref().map(|blob| blob.media_type.clone()),
                };
                let new = self.stage(part, &spec)?;
                Ok((new.info.clone(), Some(new)))
            }
            (None, _, None) => Err(Failure::invalid(
                "it is missing; an archive saved with --since needs its base loaded first",
            )),
        }
    }

    /// Reads and verifies a layer.
    fn stage(&self, part: &Part, spec: &LayerSpec) -> Result<StagedLayer, Failure> {
        let keep = Keep {
            blob: false,
            tree: true,
            copy: false,
        };
        stage_layer(
            &self.store.tmp_dir(),
            &mut part.reader(),
            spec,
            keep,
            Limits::default(),
            self.progress,
        )
    }

    fn origin(&self, record: Record) -> Result<Origin, Failure> {
        let mut places = HashMap::new();
        let mut layers = Vec::new();
        for layer in record.layers {
            let diff_id = layer.info.diff_id;
            let index = self.index(&layer.info);
            let index = index.ok_or_else(|| Failure::system(format!("layer {diff_id} is gone")))?;
            if let Some(file) = layer.file {
                places.insert(
                    diff_id,
                    BlobPlace {
                        file,
                        wrapped: layer.wrapped,
                        offset: layer.offset,
                        size: layer.size,
                    },
                );
            }
            layers.push((layer.info, index));
        }
        let damaged = |e: serde_json::Error| Failure::system(e.to_string());
        let manifest = match record.manifest {
            Some((text, _)) => {
                let manifest = serde_json::from_str(&text).map_err(damaged)?;
                Some((Digest::of(text.as_bytes()), manifest))
            }
            None => None,
        };
        let config = match record.config {
            Some(text) => {
                let config = serde_json::from_str(&text).map_err(damaged)?;
                Some((Digest::of(text.as_bytes()), config))
            }
            None => None,
        };
        let names = record.names.iter().filter_map(|n| Reference::parse(n).ok());
        let diff_ids: Vec<DiffId> = layers.iter().map(|(info, _)| info.diff_id).collect();
        let chain = self.store.chain_path(&chain_of(&diff_ids));
        Ok(Origin {
            names: names.collect(),
            manifest,
            config,
            layers,
            data: Arc::new(ArchiveData::new(places, Arc::new(self.store.clone()))),
            container: None,
            chain: chain.is_file().then_some(chain),
        })
    }
}

fn open_regular(path: &Path) -> Result<File, Failure> {
    let meta = match path.metadata() {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return Err(Failure::not_found("no such file or directory"));
        }
        other => other?,
    };
    match meta.is_file() {
        true => Ok(File::open(path)?),
        false => Err(Failure::invalid("not a regular file")),
    }
}

fn is_compressed(path: &Path) -> Result<bool, Failure> {
    let mut start = Vec::new();
    File::open(path)?.take(4).read_to_end(&mut start)?;
    Ok(sniff(&start) != Compression::None)
}

/// The one image of an archive.
fn the_only(mut images: Vec<Candidate>) -> Result<Candidate, Failure> {
    match (images.pop(), images.as_slice()) {
        (Some(only), []) => Ok(only),
        (Some(last), others) => {
            let named = others.iter().chain([&last]);
            let names: Vec<_> = named
                .flat_map(|image| image.names.iter().map(Reference::familiar))
                .collect();
            Err(Failure::usage(format!(
                "there are {} images in it: put the name of one behind it, after a colon ({})",
                others.len() + 1,
                names.join(", ")
            )))
        }
        (None, _) => Err(Failure::invalid("there is no image in it")),
    }
}

fn text(bytes: Vec<u8>) -> Result<String, Failure> {
    String::from_utf8(bytes).map_err(|_| Failure::invalid("a document in it is not UTF-8"))
}
