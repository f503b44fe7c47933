//! Images and their names: `index.json`.

use std::path::PathBuf;

use super::lock::Mode;
use super::{FileLock, Store, write_atomically};
use crate::error::{Context, Failure};
use crate::image::{
    ChainId, Descriptor, Digest, ImageConfig, Index, Manifest, Platform, Reference, is_id_prefix,
    media_type,
};

/// The annotation that names an image in a layout (OCI image spec, annotations.md).
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// containerd's annotation with the whole name.
pub const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// An image in the store.
#[derive(Debug, Clone)]
pub struct StoredImage {
    /// The manifest's digest.
    pub manifest: Digest,
    /// The manifest's length in bytes.
    pub manifest_size: u64,
    /// The manifest's media type.
    pub media_type: String,
    /// The image's id: the digest of its configuration.
    pub id: Digest,
    /// Its names, sorted.
    pub names: Vec<Reference>,
    /// Its configuration.
    pub config: ImageConfig,
    /// Its manifest.
    pub manifest_data: Manifest,
}

impl StoredImage {
    /// The chainID of its layers; `None` when it has none.
    #[must_use]
    pub fn chain(&self) -> Option<ChainId> {
        ChainId::of(&self.config.rootfs.diff_ids)
    }
}

/// What removing a name or an image did, as Docker reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removed {
    /// A name is gone.
    Untagged(String),
    /// An image, or a layer of it, is gone.
    Deleted(Digest),
}

/// Whether the image spec's grammar permits a text as `ref.name` (annotations.md): letters and
/// digits with single separators between them (or `--`), in components between slashes.
#[must_use]
pub fn is_ref_name(text: &str) -> bool {
    let separators = |component: &str| {
        component
            .split(|c: char| c.is_ascii_alphanumeric())
            .filter(|run| !run.is_empty())
            .all(|run| matches!(run, "-" | "." | "_" | ":" | "@" | "+" | "--"))
    };
    text.split('/').all(|c| {
        c.starts_with(|c: char| c.is_ascii_alphanumeric())
            && c.ends_with(|c: char| c.is_ascii_alphanumeric())
            && separators(c)
    })
}

/// What a descriptor of an index may be called, the best first: a whole name in `ref.name` (umoci
/// gives a new one there, and leaves containerd's as it was), containerd's name, and what else
/// `ref.name` has, often a tag alone.
pub(crate) fn names_in(descriptor: &Descriptor) -> impl Iterator<Item = &str> {
    let get = |key: &str| descriptor.annotations.get(key).map(String::as_str);
    let whole = |text: &&str| text.contains(['/', ':']) && text.parse::<Digest>().is_err();
    let named = get(REF_NAME).filter(whole);
    [named, get(CONTAINERD_NAME), get(REF_NAME)]
        .into_iter()
        .flatten()
}

/// The name that a descriptor of an index carries.
#[must_use]
pub fn name_of(descriptor: &Descriptor) -> Option<Reference> {
    names_in(descriptor).find_map(|text| Reference::parse(text).ok())
}

/// A descriptor that carries this name, or none.
#[must_use]
pub fn with_name(descriptor: &Descriptor, name: Option<&Reference>) -> Descriptor {
    let mut descriptor = descriptor.clone();
    descriptor.annotations.remove(REF_NAME);
    descriptor.annotations.remove(CONTAINERD_NAME);
    if let Some(name) = name {
        let text = name.to_string();
        let short = if is_ref_name(&text) {
            text.clone()
        } else {
            descriptor.digest.to_string()
        };
        descriptor.annotations.insert(REF_NAME.into(), short);
        descriptor.annotations.insert(CONTAINERD_NAME.into(), text);
    }
    descriptor
}

impl Store {
    fn index_path(&self) -> PathBuf {
        self.path("index.json")
    }

    pub(super) fn index(&self) -> Result<Index, Failure> {
        let path = self.index_path();
        match std::fs::read(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Index::default()),
            other => {
                let bytes = other.context(|| format!("read {}", path.display()))?;
                serde_json::from_slice(&bytes)
                    .map_err(|e| Failure::invalid(format!("{}: {e}", path.display())))
            }
        }
    }

    /// Changes `index.json` under its lock. Nothing is written when `change` fails.
    pub(super) fn change_index<T>(
        &self,
        change: impl FnOnce(&mut Index) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let _lock = FileLock::wait(&self.path("strata/index.lock"), Mode::Exclusive)?;
        let mut index = self.index()?;
        let before = index.clone();
        let result = change(&mut index)?;
        if index != before || !self.index_path().exists() {
            let bytes = serde_json::to_vec(&index).map_err(|e| Failure::system(e.to_string()))?;
            let path = self.index_path();
            write_atomically(&path, &bytes).context(|| format!("write {}", path.display()))?;
        }
        Ok(result)
    }

    /// All images, each once, in the order of `index.json`. One that another tool has left
    /// incomplete is passed over with a warning in the log.
    ///
    /// # Errors
    /// `Invalid` when `index.json` is damaged; `System`.
    pub fn images(&self) -> Result<Vec<StoredImage>, Failure> {
        self.images_for(&Platform::host())
    }

    /// As [`Store::images`]; of images that are there for several platforms, those of this one.
    ///
    /// # Errors
    /// As [`Store::images`].
    pub fn images_for(&self, platform: &Platform) -> Result<Vec<StoredImage>, Failure> {
        let mut images: Vec<StoredImage> = Vec::new();
        for descriptor in self.index()?.manifests {
            let image = match self.image_of(&descriptor, platform) {
                Ok(Some(image)) => image,
                Ok(None) => continue,
                Err(e) => {
                    log::warn!("image {} is passed over: {e}", descriptor.digest);
                    continue;
                }
            };
            let known = images.iter_mut().find(|i| i.manifest == image.manifest);
            match known {
                Some(known) => known.names.extend(image.names),
                None => images.push(image),
            }
        }
        for image in &mut images {
            image.names.sort();
            image.names.dedup();
        }
        Ok(images)
    }

    /// The image of a descriptor: itself, or a platform's of an index. `None` for what is no image.
    fn image_of(
        &self,
        descriptor: &Descriptor,
        platform: &Platform,
    ) -> Result<Option<StoredImage>, Failure> {
        let mut manifest = descriptor.clone();
        for _ in 0..4 {
            if !media_type::is_index(&manifest.media_type) {
                break;
            }
            let index: Index = self.read_json(&manifest.digest)?;
            let chosen = platform.choose(&index.manifests).cloned();
            let none = || Failure::not_found(format!("no image for {platform} in the index"));
            manifest = chosen.ok_or_else(none)?;
        }
        if !media_type::is_manifest(&manifest.media_type) {
            return Ok(None);
        }
        let manifest_data: Manifest = self.read_json(&manifest.digest)?;
        let config = self.read_json(&manifest_data.config.digest)?;
        Ok(Some(StoredImage {
            manifest: manifest.digest,
            manifest_size: manifest.size,
            media_type: manifest.media_type,
            id: manifest_data.config.digest,
            names: name_of(descriptor).into_iter().collect(),
            config,
            manifest_data,
        }))
    }

    /// The image that a person means: by name, by `name@digest`, by id, or by the beginning of an
    /// id that no other image's id has.
    ///
    /// # Errors
    /// `NotFound` (`No such image: …`), `Conflict` when several ids begin like that.
    pub fn find(&self, text: &str) -> Result<StoredImage, Failure> {
        self.find_for(text, &Platform::host())
    }

    /// As [`Store::find`]; of an image that is there for several platforms, that of this one.
    ///
    /// # Errors
    /// As [`Store::find`].
    pub fn find_for(&self, text: &str, platform: &Platform) -> Result<StoredImage, Failure> {
        let images = self.images_for(platform)?;
        if let Ok(name) = Reference::parse(text) {
            let named = images.iter().find(|i| i.names.contains(&name));
            let by_digest = || {
                let digest = name.digest()?;
                let same_name = |r: &Reference| r.name() == name.name();
                images
                    .iter()
                    .find(|i| i.manifest == digest && i.names.iter().any(same_name))
            };
            if let Some(image) = named.or_else(by_digest) {
                return Ok(image.clone());
            }
        }
        let none = || Failure::not_found(format!("No such image: {}", text.escape_debug()));
        if !is_id_prefix(text) {
            return Err(none());
        }
        let prefix = text.strip_prefix("sha256:").unwrap_or(text);
        let begins = |d: &Digest| d.hex().starts_with(prefix);
        let fits: Vec<_> = images
            .iter()
            .filter(|i| begins(&i.id) || begins(&i.manifest))
            .collect();
        match fits.as_slice() {
            [] => Err(none()),
            [first, rest @ ..] if rest.iter().all(|i| i.id == first.id) => Ok((*first).clone()),
            _ => Err(Failure::conflict(format!(
                "{text}: {} images' ids begin like that; give more digits",
                fits.len()
            ))),
        }
    }

    /// Adds an image whose blobs are all there, under these names, which other images lose; without
    /// a name, it is added untagged.
    ///
    /// # Errors
    /// `System`
    pub fn add_image(&self, manifest: &Descriptor, names: &[Reference]) -> Result<(), Failure> {
        // What the index names must not be lost when the index is not.
        self.sync_dirs()?;
        self.change_index(|index| {
            for name in names {
                take_name(index, name);
            }
            let there = |d: &Descriptor| d.digest == manifest.digest;
            if names.is_empty() && !index.manifests.iter().any(there) {
                index.manifests.push(with_name(manifest, None));
            }
            if !names.is_empty() {
                index
                    .manifests
                    .retain(|d| !(there(d) && name_of(d).is_none()));
            }
            index
                .manifests
                .extend(names.iter().map(|n| with_name(manifest, Some(n))));
            Ok(())
        })
    }

    /// Gives an image one more name, which another image may lose by it.
    ///
    /// # Errors
    /// As [`Store::find`]; `Invalid` for a name with a digest.
    pub fn tag(&self, image: &str, name: &Reference) -> Result<(), Failure> {
        if name.digest().is_some() {
            return Err(Failure::invalid(
                "refusing to create a tag with a digest reference",
            ));
        }
        let image = self.find(image)?;
        let manifest = Descriptor::new(&image.media_type, image.manifest, image.manifest_size);
        self.add_image(&manifest, std::slice::from_ref(name))
    }

    /// Removes a name, or an image by its id. The image itself goes with its last name, and with it
    /// whatever no other image needs.
    ///
    /// # Errors
    /// `NotFound`; `Conflict`, in Docker's words, when the image has several names, or a container
    /// or mount uses it.
    pub fn remove_image(&self, text: &str, force: bool) -> Result<Vec<Removed>, Failure> {
        let image = self.find(text)?;
        let name = Reference::parse(text)
            .ok()
            .filter(|n| image.names.contains(n));
        let mut removed = Vec::new();
        let short = image.id.short();
        let whole = name.is_none() || image.names.len() == 1;
        if name.is_none() && image.names.len() > 1 && !force {
            return Err(Failure::conflict(format!(
                "conflict: unable to delete {short} (must be forced) - image is referenced in \
                 multiple repositories"
            )));
        }
        let user = if whole { self.user_of(&image)? } else { None };
        if let Some(user) = &user
            && !(force && user.can_be_forced)
        {
            return Err(Failure::conflict(user.refusal(&image, name.as_ref())));
        }
        let gone: Vec<Reference> = match &name {
            Some(name) => vec![name.clone()],
            None => image.names.clone(),
        };
        self.change_index(|index| {
            for name in &gone {
                take_name(index, name);
            }
            // What a container uses stays, untagged.
            if whole && user.is_none() {
                index.manifests.retain(|d| d.digest != image.manifest);
            }
            Ok(())
        })?;
        removed.extend(gone.iter().map(|n| Removed::Untagged(n.familiar())));
        if whole && user.is_none() {
            removed.push(Removed::Deleted(image.id));
            removed.extend(self.collect_image(&image)?);
        }
        Ok(removed)
    }
}

/// Takes a name away from whichever image has it. The image stays, untagged.
fn take_name(index: &mut Index, name: &Reference) {
    let had: Vec<_> = {
        let has = |d: &&Descriptor| name_of(d).as_ref() == Some(name);
        index.manifests.iter().filter(has).cloned().collect()
    };
    index
        .manifests
        .retain(|d| name_of(d).as_ref() != Some(name));
    for descriptor in had {
        if !index
            .manifests
            .iter()
            .any(|d| d.digest == descriptor.digest)
        {
            index.manifests.push(with_name(&descriptor, None));
        }
    }
}

/// Who keeps an image from being removed.
struct User {
    what: String,
    can_be_forced: bool,
}

impl User {
    fn refusal(&self, image: &StoredImage, name: Option<&Reference>) -> String {
        let (id, what) = (image.id.short(), &self.what);
        match (name, self.can_be_forced) {
            (Some(name), true) => format!(
                "conflict: unable to remove repository reference \"{}\" (must force) - {what} is \
                 using its referenced image {id}",
                name.familiar()
            ),
            (None, true) => format!(
                "conflict: unable to delete {id} (must be forced) - image is being used by {what}"
            ),
            (_, false) => format!(
                "conflict: unable to delete {id} (cannot be forced) - image is being used by {what}"
            ),
        }
    }
}

impl Store {
    /// Whether a container or a mount needs an image.
    pub(super) fn is_used(&self, image: &StoredImage) -> Result<bool, Failure> {
        Ok(self.user_of(image)?.is_some())
    }

    fn user_of(&self, image: &StoredImage) -> Result<Option<User>, Failure> {
        let mut stopped = None;
        for container in self.containers()? {
            if container.image != image.manifest {
                continue;
            }
            let id = container.short_id();
            if container.mounted_at(self)?.is_some() {
                let what = format!("running container {id}");
                return Ok(Some(User {
                    what,
                    can_be_forced: false,
                }));
            }
            stopped = Some(User {
                what: format!("stopped container {id}"),
                can_be_forced: true,
            });
        }
        if self.pinned()?.contains(&image.manifest) {
            return Ok(Some(User {
                what: "a mount".into(),
                can_be_forced: false,
            }));
        }
        Ok(stopped)
    }
}
