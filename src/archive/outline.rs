//! [`Outline`]: what an archive of some images contains, before a byte of it is written.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use serde_json::json;

use super::oci::path_of;
use super::part::Part;
use super::save::{Blob, Documents, SaveFormat, Saved};
use crate::content::compress::GzipWriter;
use crate::content::stream::decoder;
use crate::error::{Context, Failure};
use crate::image::{Compression, Descriptor, Digest, Index, Manifest, Reference, media_type};
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
pub fn outline(store: &Store, specs: &[String], format: SaveFormat) -> Result<Outline, Failure> {
    let mut outline = Outline {
        blobs: BTreeMap::new(),
        documents: BTreeMap::new(),
        saved: Saved::default(),
    };
    let mut manifests = Vec::new();
    let mut items = Vec::new();
    let mut repositories: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for Outgoing { image, names } in outgoing(store, specs)? {
        let what = || format!("save image {}", image.id);
        let (descriptor, manifest) = outline.add(store, &image, format).context(what)?;
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
    if format == SaveFormat::DockerArchive {
        outline.document("manifest.json", &items)?;
        outline.document("repositories", &repositories)?;
    }
    Ok(outline)
}

/// The images that `specs` name, each once. A name without a tag stands for all tags of its
/// repository, as in `docker save`; an id brings no name along.
fn outgoing(store: &Store, specs: &[String]) -> Result<Vec<Outgoing>, Failure> {
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
            Some(name) if bare => tags_of(store, name)?,
            _ => Vec::new(),
        };
        if tags.is_empty() {
            let image = store.find(spec)?;
            let name = name.filter(|name| image.names.contains(name));
            add(image, name);
        }
        for (image, name) in tags {
            add(image, Some(name));
        }
    }
    Ok(found)
}

/// All tags of `name`'s repository, sorted.
fn tags_of(store: &Store, name: &Reference) -> Result<Vec<(StoredImage, Reference)>, Failure> {
    let mut tags = Vec::new();
    for image in store.images()? {
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
        format: SaveFormat,
    ) -> Result<(Descriptor, Manifest), Failure> {
        let mut manifest = image.manifest_data.clone();
        self.stored(store, &manifest.config.digest)?;
        let mut changed = false;
        for layer in &mut manifest.layers {
            let zstd = Compression::from_media_type(&layer.media_type) == Some(Compression::Zstd);
            if format == SaveFormat::DockerArchive && zstd {
                *layer = self.as_gzip(store, layer)?;
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
    fn as_gzip(&mut self, store: &Store, layer: &Descriptor) -> Result<Descriptor, Failure> {
        let made = self
            .saved
            .rewritten
            .iter()
            .find(|(from, _)| *from == layer.digest);
        let digest = match made {
            Some((_, digest)) => *digest,
            None => {
                let part =
                    recompress(store, layer).context(|| format!("layer {}", layer.digest))?;
                let mut hash = crate::content::stream::HashingReader::new(part.reader());
                std::io::copy(&mut hash, &mut std::io::sink())?;
                let (digest, _) = hash.finish();
                self.blobs.insert(digest, Blob::Part(part));
                self.saved.rewritten.push((layer.digest, digest));
                digest
            }
        };
        let kind = match layer.media_type.starts_with("application/vnd.docker.") {
            true => media_type::DOCKER_LAYER_GZIP,
            false => media_type::OCI_LAYER_GZIP,
        };
        let size = self.blobs.get(&digest).map_or(0, Blob::size);
        Ok(Descriptor::new(kind, digest, size))
    }
}

/// A layer's tar, compressed with gzip, in an unnamed file.
fn recompress(store: &Store, layer: &Descriptor) -> Result<Part, Failure> {
    let blob = store.open_blob(&layer.digest)?;
    let (_, mut tar) = decoder(Box::new(blob))?;
    let file = tempfile::tempfile_in(store.tmp_dir())?;
    let mut gzip = GzipWriter::new(file);
    std::io::copy(&mut tar, &mut gzip)?;
    let mut file = gzip.finish()?;
    file.flush()?;
    let size = file.metadata()?.len();
    Ok(Part::new(Arc::new(file), 0, size))
}

fn to_json(value: &impl serde::Serialize) -> Result<Vec<u8>, Failure> {
    serde_json::to_vec(value).map_err(|error| Failure::system(error.to_string()))
}
