//! [`Outline`]: what an archive of some images contains, before a byte of it is written.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use serde_json::json;

use super::oci::path_of;
use super::part::Part;
use super::save::{Blob, Documents, SaveFormat, SaveOptions, Saved};
use crate::content::compress::{Compressor, Setting};
use crate::content::stream::decoder;
use crate::error::{Context, Failure};
use crate::image::{
    Compression, Descriptor, DiffId, Digest, Index, Manifest, Platform, Reference, media_type,
};
use crate::store::Store;
use crate::store::names::{StoredImage, with_name};

/// The contents of an archive.
pub struct Outline {
    /// The blobs, by digest.
    pub blobs: BTreeMap<Digest, Blob>,
    /// The documents at the top, by name.
    pub documents: Documents,
    /// What is to be said of it.
    pub saved: Saved,
}

impl Outline {
    /// How many bytes of blobs it has.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.blobs.values().map(Blob::size).sum()
    }
}

/// An image that is going out, under these names.
struct Outgoing {
    image: StoredImage,
    names: Vec<Reference>,
}

/// Finds the images and says what their archive contains.
///
/// # Errors
/// As [`super::save::save`].
pub fn outline(store: &Store, specs: &[String], options: &SaveOptions) -> Result<Outline, Failure> {
    options.check()?;
    let since = match &options.since {
        Some(name) => store.find(name)?.config.rootfs.diff_ids,
        None => Vec::new(),
    };
    let mut outline = Outline {
        blobs: BTreeMap::new(),
        documents: BTreeMap::new(),
        saved: Saved::default(),
    };
    let mut manifests = Vec::new();
    let mut items = Vec::new();
    let mut repositories: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for Outgoing { image, names } in outgoing(store, specs, options)? {
        let what = || format!("save image {}", image.id);
        let (descriptor, manifest) = outline.add(store, &image, options, &since).context(what)?;
        manifests.extend(descriptors(&descriptor, &names));
        items.push(json!({
            "Config": path_of(&manifest.config.digest),
            "RepoTags": names.iter().map(Reference::familiar).collect::<Vec<_>>(),
            "Layers": manifest.layers.iter().map(|layer| path_of(&layer.digest)).collect::<Vec<_>>(),
        }));
        let top = manifest.layers.last().unwrap_or(&manifest.config).digest;
        for name in &names {
            let tags = repositories.entry(name.familiar_name()).or_default();
            tags.insert(name.tag().unwrap_or_default().to_owned(), top.hex());
        }
    }
    let index = Index {
        manifests,
        ..Index::default()
    };
    outline.document("index.json", &index)?;
    outline.document("oci-layout", &json!({"imageLayoutVersion": "1.0.0"}))?;
    if options.format == SaveFormat::DockerArchive {
        outline.document("manifest.json", &items)?;
        outline.document("repositories", &repositories)?;
    }
    Ok(outline)
}

/// The images that `specs` name, each once. A name without a tag stands for all tags of its
/// repository, as in `docker save`; an id brings no name along.
fn outgoing(
    store: &Store,
    specs: &[String],
    options: &SaveOptions,
) -> Result<Vec<Outgoing>, Failure> {
    let host = Platform::host();
    let platform = options.platform.as_ref().unwrap_or(&host);
    let mut found: Vec<Outgoing> = Vec::new();
    for spec in specs {
        let mut add = |image: StoredImage, name: Option<Reference>| {
            let place = found
                .iter()
                .position(|out| out.image.manifest == image.manifest);
            let place = place.unwrap_or_else(|| {
                let names = Vec::new();
                found.push(Outgoing { image, names });
                found.len() - 1
            });
            if let (Some(out), Some(name)) = (found.get_mut(place), name)
                && !out.names.contains(&name)
            {
                out.names.push(name);
                out.names.sort_by_key(Reference::to_string);
            }
        };
        let name = Reference::parse(spec).ok();
        let bare = !spec.contains('@') && !spec.rsplit('/').next().unwrap_or(spec).contains(':');
        let tags = match &name {
            Some(name) if bare => tags_of(store, name, platform)?,
            _ => Vec::new(),
        };
        if tags.is_empty() {
            let image = store.find_for(spec, platform)?;
            let name = name.filter(|name| image.names.contains(name));
            add(image, name);
        }
        for (image, name) in tags {
            add(image, Some(name));
        }
    }
    if options.platform.is_some() {
        for Outgoing { image, .. } in &found {
            is_for(image, platform)?;
        }
    }
    Ok(found)
}

/// An image that is there for one platform only may not be for the one that is asked for.
fn is_for(image: &StoredImage, platform: &Platform) -> Result<(), Failure> {
    let own = Platform {
        architecture: image.config.architecture.clone(),
        os: image.config.os.clone(),
        variant: image.config.variant.clone(),
        ..Platform::default()
    };
    let variant = platform.variant.is_none() || platform.variant == own.variant;
    match own.runs_on(platform) && variant {
        true => Ok(()),
        false => Err(Failure::not_found(format!(
            "image {} is for {own}, not for {platform}",
            image.id
        ))),
    }
}

/// All tags of `name`'s repository, sorted.
fn tags_of(
    store: &Store,
    name: &Reference,
    platform: &Platform,
) -> Result<Vec<(StoredImage, Reference)>, Failure> {
    let mut tags = Vec::new();
    for image in store.images_for(platform)? {
        for other in &image.names {
            if other.familiar_name() == name.familiar_name() && other.tag().is_some() {
                tags.push((image.clone(), other.clone()));
            }
        }
    }
    tags.sort_by_key(|(_, name)| name.to_string());
    Ok(tags)
}

/// One descriptor for each name, or one without.
fn descriptors(descriptor: &Descriptor, names: &[Reference]) -> Vec<Descriptor> {
    match names {
        [] => vec![descriptor.clone()],
        _ => names
            .iter()
            .map(|name| with_name(descriptor, Some(name)))
            .collect(),
    }
}

impl Outline {
    fn document(
        &mut self,
        name: &'static str,
        value: &impl serde::Serialize,
    ) -> Result<(), Failure> {
        let bytes = to_json(value)?;
        self.documents.insert(name, bytes);
        Ok(())
    }

    /// Adds an image's blobs; its manifest's descriptor, and the manifest, as they go out.
    fn add(
        &mut self,
        store: &Store,
        image: &StoredImage,
        options: &SaveOptions,
        since: &[DiffId],
    ) -> Result<(Descriptor, Manifest), Failure> {
        let mut manifest = image.manifest_data.clone();
        self.stored(store, &manifest.config.digest)?;
        let mut changed = false;
        let diff_ids = image.config.rootfs.diff_ids.iter().map(Some);
        let diff_ids = diff_ids.chain(std::iter::repeat(None));
        for (layer, diff_id) in manifest.layers.iter_mut().zip(diff_ids) {
            if diff_id.is_some_and(|id| since.contains(id)) {
                if !self.saved.left_out.contains(&layer.digest) {
                    self.saved.left_out.push(layer.digest);
                }
            } else if let Some(setting) = rewrite(layer, options) {
                *layer = self.compressed(store, layer, setting)?;
                changed = true;
            } else {
                self.stored(store, &layer.digest)?;
            }
        }
        if changed {
            let bytes = to_json(&manifest)?;
            let digest = Digest::of(&bytes);
            let descriptor = Descriptor::new(&image.media_type, digest, bytes.len() as u64);
            self.blobs.insert(digest, Blob::Bytes(bytes.into()));
            return Ok((descriptor, manifest));
        }
        let size = self.stored(store, &image.manifest)?;
        let descriptor = Descriptor::new(&image.media_type, image.manifest, size);
        Ok((descriptor, manifest))
    }

    /// Adds a blob as it stands in the store; its length.
    fn stored(&mut self, store: &Store, digest: &Digest) -> Result<u64, Failure> {
        if let Some(blob) = self.blobs.get(digest) {
            return Ok(blob.size());
        }
        let file = store.open_blob(digest)?;
        let size = file.metadata()?.len();
        self.blobs
            .insert(*digest, Blob::Part(Part::new(Arc::new(file), 0, size)));
        Ok(size)
    }

    /// Adds a layer compressed anew; its descriptor.
    fn compressed(
        &mut self,
        store: &Store,
        layer: &Descriptor,
        setting: Setting,
    ) -> Result<Descriptor, Failure> {
        let made = self
            .saved
            .rewritten
            .iter()
            .find(|(from, _)| *from == layer.digest);
        let digest = match made {
            Some((_, digest)) => *digest,
            None => {
                let part = recompress(store, layer, setting)
                    .context(|| format!("layer {}", layer.digest))?;
                let mut hash = crate::content::stream::HashingReader::new(part.reader());
                std::io::copy(&mut hash, &mut std::io::sink())?;
                let (digest, _) = hash.finish();
                self.blobs.insert(digest, Blob::Part(part));
                self.saved.rewritten.push((layer.digest, digest));
                digest
            }
        };
        let docker = layer.media_type.starts_with("application/vnd.docker.");
        let kind = match setting.compression() {
            Compression::Gzip if docker => media_type::DOCKER_LAYER_GZIP,
            Compression::None if docker => media_type::DOCKER_LAYER_TAR,
            other => other.oci_layer(),
        };
        let size = self.blobs.get(&digest).map_or(0, Blob::size);
        Ok(Descriptor::new(kind, digest, size))
    }
}

/// How a layer is to be compressed anew; `None` when it goes out as it is.
fn rewrite(layer: &Descriptor, options: &SaveOptions) -> Option<Setting> {
    let now = Compression::from_media_type(&layer.media_type);
    match options.compression {
        Some(setting) if setting.has_level() || now != Some(setting.compression()) => Some(setting),
        None if options.format == SaveFormat::DockerArchive && now == Some(Compression::Zstd) => {
            Some(Compression::Gzip.into())
        }
        _ => None,
    }
}

/// A layer's tar, compressed anew, in an unnamed file.
fn recompress(store: &Store, layer: &Descriptor, setting: Setting) -> Result<Part, Failure> {
    let blob = store.open_blob(&layer.digest)?;
    let (_, mut tar) = decoder(Box::new(blob))?;
    let file = tempfile::tempfile_in(store.tmp_dir())?;
    let mut out = Compressor::new(file, setting)?;
    std::io::copy(&mut tar, &mut out)?;
    let mut file = out.finish()?;
    file.flush()?;
    let size = file.metadata()?.len();
    Ok(Part::new(Arc::new(file), 0, size))
}

fn to_json(value: &impl serde::Serialize) -> Result<Vec<u8>, Failure> {
    serde_json::to_vec(value).map_err(|error| Failure::system(error.to_string()))
}
