//! What the store takes: Docker's sizes, and blocks on the disk. Nothing is mounted or unpacked.

use std::collections::{HashMap, HashSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Store;
use super::containers::Container;
use super::images::created;
use super::names::StoredImage;
use crate::error::{Context, Failure};
use crate::image::{ChainId, DiffId, Digest};

/// What an image takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageUsage {
    /// The image's id.
    pub id: Digest,
    /// The digest of its manifest.
    pub manifest: Digest,
    /// Bytes in its files, layer by layer, as Docker counts them.
    pub size: u64,
    /// The part of that in layers that other images have too.
    pub shared: u64,
    /// The part of that in layers that only this image has.
    pub unique: u64,
    /// Bytes of its blobs, as they would be downloaded or saved.
    pub download: u64,
    /// Bytes on the disk of all that the store has of it: blobs, uncompressed layers, indexes.
    pub disk: u64,
    /// The part of that which other images need too.
    pub disk_shared: u64,
    /// The part of that which goes when the image is removed.
    pub disk_unique: u64,
    /// How many containers are on top of it.
    pub containers: u64,
    /// How many of these are mounted.
    pub mounted: u64,
}

/// What a container takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerUsage {
    /// The container's id.
    pub id: String,
    /// Bytes in the files of its writable layer, each file once, as Docker counts them.
    pub size: u64,
    /// Bytes on the disk of all that the store has of it.
    pub disk: u64,
    /// Whether it is mounted.
    pub mounted: bool,
}

/// What the store takes. `images_unique + images_shared + unused + containers_disk + cache + other`
/// is `total`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskUsage {
    /// Each image, newest first.
    pub images: Vec<ImageUsage>,
    /// Each container, newest first.
    pub containers: Vec<ContainerUsage>,
    /// Bytes in the files of all layers, each layer once, as Docker counts them.
    pub layers_size: u64,
    /// Bytes on the disk that one image alone needs.
    pub images_unique: u64,
    /// Bytes on the disk that several images need.
    pub images_shared: u64,
    /// Bytes on the disk of blobs, layers and indexes that no image needs: `system prune` takes them
    /// (blobs when they are a day old).
    pub unused: u64,
    /// Bytes on the disk of all containers.
    pub containers_disk: u64,
    /// Bytes on the disk of files' contents that are kept to be shared by mounts; they can be made
    /// again.
    pub cache: u64,
    /// Bytes on the disk of everything else: directories, locks.
    pub other: u64,
    /// Bytes on the disk of the whole store: what `du` says of its directory.
    pub total: u64,
}

/// A file or files that images need as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Unit {
    Blob(Digest),
    Layer(DiffId),
    Chain(ChainId),
}

/// Bytes on the disk, file by file.
#[derive(Default)]
struct Survey {
    units: HashMap<Unit, u64>,
    containers: HashMap<String, u64>,
    cache: u64,
    total: u64,
    /// Files with several names, which count once.
    seen: HashSet<(u64, u64)>,
}

impl Survey {
    /// Blocks of all below a directory, itself too. What vanishes meanwhile counts as nothing.
    fn walk(&mut self, path: &Path, each: &mut dyn FnMut(&Path, u64)) -> Result<(), Failure> {
        let meta = match std::fs::symlink_metadata(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            other => other.context(|| path.display().to_string())?,
        };
        if meta.is_dir() || meta.nlink() == 1 || self.seen.insert((meta.dev(), meta.ino())) {
            let bytes = meta.blocks().saturating_mul(512);
            self.total += bytes;
            each(path, bytes);
        }
        if !meta.is_dir() {
            return Ok(());
        }
        let entries = match std::fs::read_dir(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            other => other.context(|| path.display().to_string())?,
        };
        for entry in entries {
            let entry = entry.context(|| path.display().to_string())?;
            self.walk(&entry.path(), each)?;
        }
        Ok(())
    }

    fn of(store: &Store) -> Result<Survey, Failure> {
        let mut survey = Survey::default();
        let root = store.root().to_owned();
        let mut units: HashMap<Unit, u64> = HashMap::new();
        let mut containers: HashMap<String, u64> = HashMap::new();
        let mut cache = 0;
        survey.walk(&root, &mut |path, bytes| {
            let below = path.strip_prefix(&root).unwrap_or(path);
            let mut parts = below.iter().map(|part| part.to_str().unwrap_or_default());
            let parts = [parts.next(), parts.next(), parts.next()];
            let stem = |name: &str| Digest::from_hex(name.split('.').next().unwrap_or_default());
            let unit = match parts {
                [Some("blobs"), Some("sha256"), Some(name)] => stem(name).map(Unit::Blob),
                [Some("strata"), Some("layers"), Some(name)] => {
                    stem(name).map(|d| Unit::Layer(DiffId(d)))
                }
                [Some("strata"), Some("chains"), Some(name)] => {
                    stem(name).map(|d| Unit::Chain(ChainId(d)))
                }
                [Some("strata"), Some("containers"), Some(id)] => {
                    *containers.entry(id.to_owned()).or_default() += bytes;
                    None
                }
                [Some("strata"), Some("objects"), Some(_)] => {
                    cache += bytes;
                    None
                }
                _ => None,
            };
            if let Some(unit) = unit {
                *units.entry(unit).or_default() += bytes;
            }
        })?;
        survey.units = units;
        survey.containers = containers;
        survey.cache = cache;
        Ok(survey)
    }
}

/// All that an image needs.
fn units_of(image: &StoredImage) -> HashSet<Unit> {
    let mut units = HashSet::from([Unit::Blob(image.manifest), Unit::Blob(image.id)]);
    let blobs = image.manifest_data.layers.iter();
    units.extend(blobs.map(|layer| Unit::Blob(layer.digest)));
    let layers = &image.config.rootfs.diff_ids;
    for (count, layer) in layers.iter().enumerate() {
        units.insert(Unit::Layer(*layer));
        let chain = layers.get(..=count).and_then(ChainId::of);
        units.extend(chain.map(Unit::Chain));
    }
    units
}

/// How many images need each thing.
#[derive(Default)]
struct Users {
    units: HashMap<Unit, usize>,
    layers: HashMap<DiffId, usize>,
}

impl Users {
    fn of(images: &[StoredImage]) -> Users {
        let mut users = Users::default();
        for image in images {
            for unit in units_of(image) {
                *users.units.entry(unit).or_default() += 1;
            }
            let layers: HashSet<_> = image.config.rootfs.diff_ids.iter().collect();
            for layer in layers {
                *users.layers.entry(*layer).or_default() += 1;
            }
        }
        users
    }
}

/// What an image takes on the disk, and would take on a wire.
fn image_blocks(image: &StoredImage, survey: &Survey, users: &Users) -> ImageUsage {
    // Sizes that a manifest claims are whatever somebody wrote there.
    let blobs = image.manifest_data.layers.iter().map(|l| l.size);
    let download = blobs
        .chain([image.manifest_size, image.manifest_data.config.size])
        .fold(0, u64::saturating_add);
    let mut used = ImageUsage {
        id: image.id,
        manifest: image.manifest,
        size: 0,
        shared: 0,
        unique: 0,
        download,
        disk: 0,
        disk_shared: 0,
        disk_unique: 0,
        containers: 0,
        mounted: 0,
    };
    for unit in units_of(image) {
        let bytes = survey.units.get(&unit).copied().unwrap_or(0);
        used.disk += bytes;
        if users.units.get(&unit).is_some_and(|users| *users > 1) {
            used.disk_shared += bytes;
        } else {
            used.disk_unique += bytes;
        }
    }
    used
}

impl Store {
    /// What the store takes.
    ///
    /// ```
    /// use stratafs::store::Store;
    ///
    /// let dir = tempfile::tempdir()?;
    /// let usage = Store::open(dir.path())?.disk_usage()?;
    /// assert_eq!(usage.layers_size, 0);
    /// assert_eq!(usage.total, usage.other);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `Invalid` when the store is damaged; `System`.
    pub fn disk_usage(&self) -> Result<DiskUsage, Failure> {
        let mut images = self.images()?;
        images.sort_by_key(|image| std::cmp::Reverse(created(image)));
        let survey = Survey::of(self)?;
        let users = Users::of(&images);
        let mut usage = DiskUsage {
            containers_disk: survey.containers.values().sum(),
            cache: survey.cache,
            total: survey.total,
            ..DiskUsage::default()
        };
        for (unit, bytes) in &survey.units {
            match users.units.get(unit) {
                None => usage.unused += bytes,
                Some(1) => usage.images_unique += bytes,
                Some(_) => usage.images_shared += bytes,
            }
        }
        let images_disk = usage.unused + usage.images_unique + usage.images_shared;
        usage.other = usage.total - images_disk - usage.containers_disk - usage.cache;
        let containers = self.containers()?;
        for container in &containers {
            let used = self.container_usage(container, &survey)?;
            usage.containers.push(used);
        }
        let mut counted = HashSet::new();
        for image in &images {
            let mut used = image_blocks(image, &survey, &users);
            for (layer, size) in self.layer_sizes(image)? {
                used.size = used.size.saturating_add(size);
                if users.layers.get(&layer).is_some_and(|users| *users > 1) {
                    used.shared = used.shared.saturating_add(size);
                } else {
                    used.unique = used.unique.saturating_add(size);
                }
                if counted.insert(layer) {
                    usage.layers_size = usage.layers_size.saturating_add(size);
                }
            }
            for (container, usage) in containers.iter().zip(&usage.containers) {
                if container.image == image.manifest {
                    used.containers += 1;
                    used.mounted += u64::from(usage.mounted);
                }
            }
            usage.images.push(used);
        }
        Ok(usage)
    }

    /// An image's layers with their sizes as Docker counts them.
    fn layer_sizes(&self, image: &StoredImage) -> Result<Vec<(DiffId, u64)>, Failure> {
        let blobs = image.manifest_data.layers.iter().map(|l| l.size);
        let layers = image.config.rootfs.diff_ids.iter();
        let sized = layers.zip(blobs.chain(std::iter::repeat(0)));
        sized
            .map(|(layer, blob)| Ok((*layer, self.layer_size(layer, blob)?)))
            .collect()
    }

    fn container_usage(
        &self,
        container: &Container,
        survey: &Survey,
    ) -> Result<ContainerUsage, Failure> {
        Ok(ContainerUsage {
            id: container.id.clone(),
            size: self.writable_size(container)?,
            disk: survey.containers.get(&container.id).copied().unwrap_or(0),
            mounted: container.mounted_at(self)?.is_some(),
        })
    }

    /// Bytes in the files of a container's writable layer, each file once: what Docker calls its
    /// size. A file of which only attributes were changed has no bytes of its own.
    ///
    /// # Errors
    /// `System`
    pub fn writable_size(&self, container: &Container) -> Result<u64, Failure> {
        let mut size = 0;
        Survey::default().walk(&container.upper(self), &mut |path, blocks| {
            if blocks > 0
                && let Ok(meta) = std::fs::symlink_metadata(path)
                && meta.is_file()
            {
                size += meta.len();
            }
        })?;
        Ok(size)
    }
}
