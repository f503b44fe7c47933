//! Commit: a container's changes as a new layer, and the image that has it.

pub mod changes;
pub mod diff;
pub mod layer_tar;

use std::fs::Permissions;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;

use crate::archive::chain::ensure_chain;
use crate::content::compress::{Compressor, Setting};
use crate::error::{Context, Failure};
use crate::image::{
    Compression, Descriptor, DiffId, Digest, History, ImageConfig, Manifest, Overrides, Reference,
    media_type, time,
};
use crate::index::LayerBuilder;
use crate::store::layers::LayerInfo;
use crate::store::names::StoredImage;
use crate::store::{BlobWriter, Store};
use crate::union::Union;

use changes::{Base, Change};

/// How often a layer is written anew because a file was being written to.
const ATTEMPTS: u32 = 3;

/// Two views of a container: as its image is, and as the container shows it.
pub struct View {
    /// The image's layers, the lowest of them, or none.
    pub base: Base,
    /// All of the image's layers, with the container's upper.
    pub merged: Arc<Union>,
    /// How many of the image's layers `base` has. Those above it become one with the new layer.
    pub kept: usize,
}

impl View {
    /// What is different above `base`.
    ///
    /// # Errors
    /// `System` when a layer can't be read.
    pub fn changes(&self) -> Result<Vec<Change>, Failure> {
        changes::changes_to(&self.base, &self.merged)
    }
}

/// How to commit.
#[derive(Debug, Clone, Default)]
pub struct CommitOptions {
    /// Who makes the image.
    pub author: Option<String>,
    /// A comment.
    pub message: Option<String>,
    /// Dockerfile instructions to apply to the configuration.
    pub changes: Vec<String>,
    /// How to compress the layer; gzip by default.
    pub compression: Option<Setting>,
    /// What the container has of its own, which becomes the image's.
    pub own: Overrides,
    /// How many of the image's uppermost layers become one with the new one.
    pub squash: Option<usize>,
    /// The new image's name.
    pub name: Option<Reference>,
    /// When it is made; now by default.
    pub created: Option<Timestamp>,
}

/// Makes an image of what a container shows; its id. The container's image is `image`.
///
/// # Errors
/// `Usage` for a change that can't be applied, `Conflict` for a file that is being written to all
/// the time, `Invalid` for a name that a layer can't hold; `System`.
pub fn commit(
    store: &Store,
    image: &StoredImage,
    view: &View,
    options: &CommitOptions,
) -> Result<Digest, Failure> {
    let mut config = image.config.clone();
    config.config = options.own.over(&config.config);
    crate::image::changes::apply_all(&mut config.config, &options.changes)?;
    let _lease = store.lease()?;
    let mut layers: Vec<_> = image.manifest_data.layers.iter().map(as_oci).collect();
    fold(&mut config, &mut layers, view.kept);
    let compression = options.compression.unwrap_or(Compression::Gzip.into());
    let layer = add_layer(store, view, compression)?;
    let empty_layer = layer.is_none();
    if let Some(info) = layer {
        config.rootfs.diff_ids.push(info.diff_id);
        layers.push(Descriptor::new(&info.media_type, info.digest, info.size));
        ensure_chain(store, &config.rootfs.diff_ids)?;
    }
    describe(&mut config, options, empty_layer)?;
    let config_bytes = to_json(&config)?;
    let id = store.add_blob(&config_bytes)?;
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(media_type::OCI_MANIFEST.into()),
        config: Descriptor::new(media_type::OCI_CONFIG, id, config_bytes.len() as u64),
        layers,
        annotations: image.manifest_data.annotations.clone(),
        other: serde_json::Map::new(),
    };
    let bytes = to_json(&manifest)?;
    let digest = store.add_blob(&bytes)?;
    let descriptor = Descriptor::new(media_type::OCI_MANIFEST, digest, bytes.len() as u64);
    store.add_image(&descriptor, options.name.as_slice())?;
    Ok(id)
}

/// Takes away the layers that become one with the new one. Their steps stay in the history.
fn fold(config: &mut ImageConfig, layers: &mut Vec<Descriptor>, kept: usize) {
    layers.truncate(kept);
    config.rootfs.diff_ids.truncate(kept);
    let made = config.history.iter_mut().filter(|step| !step.empty_layer);
    for step in made.skip(kept) {
        step.empty_layer = true;
    }
}

fn to_json(value: &impl serde::Serialize) -> Result<Vec<u8>, Failure> {
    serde_json::to_vec(value).map_err(|e| Failure::system(e.to_string()))
}

/// A layer of a Docker manifest in an OCI one.
fn as_oci(layer: &Descriptor) -> Descriptor {
    let mut layer = layer.clone();
    if layer
        .media_type
        .starts_with("application/vnd.docker.image.rootfs.diff.")
        && let Some(compression) = Compression::from_media_type(&layer.media_type)
    {
        layer.media_type = compression.oci_layer().to_owned();
    }
    layer
}

/// What the new image's configuration says of how it was made.
fn describe(
    config: &mut ImageConfig,
    options: &CommitOptions,
    empty_layer: bool,
) -> Result<(), Failure> {
    let created = time::format(match options.created {
        Some(time) => time,
        None => time::now()?,
    });
    // Docker's records of the container that made the image below.
    for key in [
        "container",
        "container_config",
        "docker_version",
        "id",
        "parent",
    ] {
        config.other.remove(key);
    }
    config.created = Some(created.clone());
    config.author = options.author.clone();
    config.history.push(History {
        created: Some(created),
        created_by: Some(match options.own.cmd.as_slice() {
            [] => "/bin/sh".to_owned(),
            words => words.join(" "),
        }),
        author: options.author.clone(),
        comment: options.message.clone(),
        empty_layer,
        ..History::default()
    });
    Ok(())
}

/// Writes the layer and puts it into the store; `None` when nothing has changed.
fn add_layer(
    store: &Store,
    view: &View,
    compression: Setting,
) -> Result<Option<LayerInfo>, Failure> {
    let mut attempt = 1;
    loop {
        let changes = view.changes()?;
        if changes.is_empty() {
            return Ok(None);
        }
        match write_layer(store, &view.merged, &changes, compression) {
            Err(e) if layer_tar::is_unsettled(&e) && attempt < ATTEMPTS => attempt += 1,
            other => return other.map(Some),
        }
    }
}

/// One pass over the data: the tar goes to the hash of the diffID, to the copy in the store, and
/// through the compressor to the blob; its index is made on the way.
fn write_layer(
    store: &Store,
    merged: &Union,
    changes: &[Change],
    setting: Setting,
) -> Result<LayerInfo, Failure> {
    let compression = setting.compression();
    let temp = |what: &str| {
        tempfile::Builder::new()
            .prefix(what)
            .permissions(Permissions::from_mode(0o644))
            .tempfile_in(store.tmp_dir())
            .context(|| format!("make a file in {}", store.tmp_dir().display()))
    };
    let copy = (compression != Compression::None)
        .then(|| temp("tar-"))
        .transpose()?;
    let tee = Tee {
        hash: Sha256::new(),
        copy,
        blob: Compressor::new(store.blob_writer(None)?, setting)?,
    };
    let mut builder = LayerBuilder::new();
    let buffered = io::BufWriter::with_capacity(256 * 1024, tee);
    let (buffered, written) = layer_tar::write(merged, changes, buffered, &mut builder)?;
    let tee = buffered
        .into_inner()
        .map_err(|e| Failure::from(e.into_error()))?;
    let diff_id = DiffId(Digest::from_bytes(tee.hash.finalize().into()));
    let index = temp("index-")?;
    builder.finish(diff_id, index.path())?;
    let (digest, size) = tee.blob.finish()?.finish()?;
    if let Some(copy) = tee.copy {
        publish(copy, &store.layer_tar_path(&diff_id))?;
    }
    publish(index, &store.layer_index_path(&diff_id))?;
    // What is recorded of the layer says that all three are there.
    store.sync_blobs()?;
    let info = LayerInfo {
        diff_id,
        digest,
        media_type: compression.oci_layer().to_owned(),
        size,
        uncompressed_size: written.size,
        entries: written.entries,
        content_size: written.content_size,
    };
    store.add_layer(&info)?;
    Ok(info)
}

fn publish(file: NamedTempFile, to: &std::path::Path) -> Result<(), Failure> {
    let about = || format!("write {}", to.display());
    file.as_file().sync_data().context(about)?;
    file.persist(to)
        .map(drop)
        .map_err(|e| Failure::from(e.error))
        .context(about)
}

struct Tee {
    hash: Sha256,
    copy: Option<NamedTempFile>,
    blob: Compressor<BlobWriter>,
}

impl Write for Tee {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.hash.update(buf);
        if let Some(copy) = &mut self.copy {
            copy.write_all(buf)?;
        }
        self.blob.write_all(buf)?;
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
