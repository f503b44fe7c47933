//! Containers: an upper and a work directory on top of one image's stack, with a name and an id.

use std::fs::{DirBuilder, File};
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::list::State;
use super::lock::Mode;
use super::names::StoredImage;
use super::{FileLock, Store, write_atomically};
use crate::error::{Context, Failure};
use crate::image::{ChainId, Digest, Overrides, Reference};

/// A container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The digest of its image's manifest.
    pub image: Digest,
    /// The digest of its image's configuration.
    pub image_id: Digest,
    /// The name by which the image was given.
    pub image_name: String,
    /// The stack below its upper; `None` for an image without layers.
    pub chain: Option<ChainId>,
    /// When it was made (RFC 3339).
    pub created: String,
    /// Whether it goes when it is unmounted.
    #[serde(default)]
    pub remove: bool,
    /// What it has of its own: command, environment, labels.
    #[serde(default)]
    pub own: Overrides,
}

/// Where and by whom a container is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountRecord {
    /// The daemon's process id.
    pub pid: u32,
    /// The place in the file system.
    pub mountpoint: PathBuf,
    /// When it was mounted (RFC 3339).
    pub since: String,
}

/// What a new container is to be.
#[derive(Debug, Clone, Default)]
pub struct NewContainer {
    /// Its name; one is made up where there is none.
    pub name: Option<String>,
    /// Whether it goes when it is unmounted.
    pub remove: bool,
    /// What it has of its own: command, environment, labels.
    pub own: Overrides,
}

/// A random id: 64 hexadecimal digits.
pub(super) fn random_id() -> Result<String, Failure> {
    let mut bytes = [0; 32];
    File::open("/dev/urandom")
        .and_then(|mut f| f.read_exact(&mut bytes))
        .context(|| "read /dev/urandom")?;
    Ok(Digest::from_bytes(bytes).hex())
}

const ADJECTIVES: [&str; 16] = [
    "bold", "calm", "clever", "eager", "fair", "gentle", "happy", "keen", "lucid", "merry",
    "nimble", "proud", "quiet", "swift", "vivid", "wise",
];
const NOUNS: [&str; 16] = [
    "basalt", "chalk", "clay", "dune", "flint", "gneiss", "granite", "gravel", "loess", "marble",
    "marl", "pumice", "quartz", "shale", "slate", "tuff",
];

fn made_up_name(id: &str, attempt: usize) -> String {
    let digits: Vec<usize> = id.bytes().map(usize::from).collect();
    let pick = |from: &[&'static str; 16], at: usize| {
        let n = digits.get(at).copied().unwrap_or(0) * 7 + digits.get(at + 1).copied().unwrap_or(0);
        from.get(n % 16).copied().unwrap_or("container")
    };
    let name = format!("{}_{}", pick(&ADJECTIVES, 0), pick(&NOUNS, 2));
    if attempt == 0 {
        name
    } else {
        format!("{name}{attempt}")
    }
}

/// Docker's grammar of container names.
fn check_name(name: &str) -> Result<(), Failure> {
    let first = |c: char| c.is_ascii_alphanumeric();
    let other = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let name_part = name.strip_prefix('/').unwrap_or(name);
    if name_part.len() >= 2 && name_part.starts_with(first) && name_part.chars().all(other) {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "Invalid container name ({}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed",
        name.escape_debug()
    )))
}

impl Container {
    /// The first twelve digits of the id.
    #[must_use]
    pub fn short_id(&self) -> &str {
        self.id.get(..12).unwrap_or(&self.id)
    }

    /// Its directory.
    #[must_use]
    pub fn dir(&self, store: &Store) -> PathBuf {
        store.path("strata/containers").join(&self.id)
    }

    /// The writable layer.
    #[must_use]
    pub fn upper(&self, store: &Store) -> PathBuf {
        self.dir(store).join("upper")
    }

    /// The writable layer's work directory.
    #[must_use]
    pub fn work(&self, store: &Store) -> PathBuf {
        self.dir(store).join("work")
    }

    fn lock_path(&self, store: &Store) -> PathBuf {
        self.dir(store).join("mount.lock")
    }

    fn record_path(&self, store: &Store) -> PathBuf {
        self.dir(store).join("mount.json")
    }

    /// Where the container is mounted, if a daemon serves it now.
    ///
    /// # Errors
    /// `System`
    pub fn mounted_at(&self, store: &Store) -> Result<Option<MountRecord>, Failure> {
        if FileLock::try_exclusive(&self.lock_path(store))?.is_some() {
            return Ok(None);
        }
        let path = self.record_path(store);
        match std::fs::read(&path) {
            // Locked, but not mounted yet.
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Some(MountRecord {
                pid: 0,
                mountpoint: PathBuf::new(),
                since: String::new(),
            })),
            other => {
                let bytes = other.context(|| format!("read {}", path.display()))?;
                let record = serde_json::from_slice(&bytes);
                record
                    .map(Some)
                    .map_err(|e| Failure::invalid(format!("{}: {e}", path.display())))
            }
        }
    }

    /// Takes the container for a mount: nobody else can mount, change or remove it while the lock,
    /// or a process that inherits it, lives.
    ///
    /// # Errors
    /// `Conflict` when it is mounted.
    pub fn claim(&self, store: &Store) -> Result<FileLock, Failure> {
        let mut lock = None;
        // Who only looks whether the container is mounted has the lock for a moment.
        for pause in [0, 1, 2, 4, 8] {
            std::thread::sleep(Duration::from_millis(pause));
            lock = FileLock::try_exclusive(&self.lock_path(store))?;
            if lock.is_some() {
                break;
            }
        }
        let lock = lock.ok_or_else(|| {
            let place = self.mounted_at(store).ok().flatten().map(|r| r.mountpoint);
            let place = place.filter(|p| !p.as_os_str().is_empty());
            let place = place.map_or(String::new(), |p| format!(" at {}", p.display()));
            Failure::conflict(format!("container {} is mounted{place}", self.name))
        })?;
        match std::fs::remove_file(self.record_path(store)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e).context(|| "clear mount.json"),
            _ => Ok(lock),
        }
    }

    fn ended_path(&self, store: &Store) -> PathBuf {
        self.dir(store).join("ended.json")
    }

    /// Removes the record of a mount that is over, and records when, before the claim is given up.
    pub fn clear_mount(&self, store: &Store) {
        let now = crate::image::time::format(jiff::Timestamp::now());
        let noted = write_atomically(&self.ended_path(store), format!("\"{now}\"").as_bytes());
        // What is only for show is no reason to fail.
        if let Err(e) = noted.and_then(|()| std::fs::remove_file(self.record_path(store))) {
            log::debug!("end of the mount: {e}");
        }
    }

    /// What the container is doing.
    ///
    /// # Errors
    /// `System`
    pub fn state(&self, store: &Store) -> Result<State, Failure> {
        if let Some(record) = self.mounted_at(store)? {
            return Ok(State::Mounted(record));
        }
        let read = |path: &Path| match std::fs::read(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            other => other
                .map(Some)
                .context(|| format!("read {}", path.display())),
        };
        // A daemon that ends by itself takes its record away.
        let left = read(&self.record_path(store))?;
        let left: Option<MountRecord> = left.and_then(|b| serde_json::from_slice(&b).ok());
        let ended = read(&self.ended_path(store))?;
        let ended: Option<String> = ended.and_then(|b| serde_json::from_slice(&b).ok());
        let killed = left.is_some();
        let at = left.map(|r| r.since).or(ended);
        Ok(match at.and_then(|at| crate::image::time::parse(&at)) {
            Some(at) => State::Ended { at, killed },
            None => State::Created,
        })
    }

    /// Records where the container, which the caller has claimed, is mounted.
    ///
    /// # Errors
    /// `System`
    pub fn record_mount(&self, store: &Store, record: &MountRecord) -> Result<(), Failure> {
        let bytes = serde_json::to_vec(record).map_err(|e| Failure::system(e.to_string()))?;
        write_atomically(&self.record_path(store), &bytes).context(|| "write mount.json")
    }
}

impl Store {
    fn containers_lock(&self) -> Result<FileLock, Failure> {
        FileLock::wait(&self.path("strata/containers.lock"), Mode::Exclusive)
    }

    /// All containers, newest first.
    ///
    /// # Errors
    /// `System`
    pub fn containers(&self) -> Result<Vec<Container>, Failure> {
        let dir = self.path("strata/containers");
        let mut containers = Vec::new();
        for entry in std::fs::read_dir(&dir).context(|| dir.display().to_string())? {
            let path = entry.context(|| dir.display().to_string())?.path();
            let record = path.join("container.json");
            let bytes = match std::fs::read(&record) {
                // Half made or half removed.
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                other => other.context(|| format!("read {}", record.display()))?,
            };
            match serde_json::from_slice::<Container>(&bytes) {
                Ok(container) => containers.push(container),
                Err(e) => log::warn!("{}: {e}", record.display()),
            }
        }
        containers.sort_by(|a, b| b.created.cmp(&a.created).then(a.id.cmp(&b.id)));
        Ok(containers)
    }

    /// Makes a container of an image.
    ///
    /// # Errors
    /// `Usage` for a name that can't be one, `Conflict` for one that is taken; `System`.
    pub fn create_container(
        &self,
        image: &StoredImage,
        image_name: &str,
        new: NewContainer,
    ) -> Result<Container, Failure> {
        let _lease = self.lease()?;
        let _lock = self.containers_lock()?;
        let others = self.containers()?;
        let id = random_id()?;
        let name = match new.name {
            Some(name) => {
                check_name(&name)?;
                let name = name.trim_start_matches('/').to_owned();
                if let Some(other) = others.iter().find(|c| c.name == name) {
                    return Err(name_taken(&name, other));
                }
                name
            }
            None => (0..)
                .map(|attempt| made_up_name(&id, attempt))
                .find(|name| others.iter().all(|c| c.name != *name))
                .unwrap_or_else(|| id.clone()),
        };
        let container = Container {
            id,
            name,
            image: image.manifest,
            image_id: image.id,
            image_name: image_name.to_owned(),
            chain: image.chain(),
            created: crate::image::time::format(jiff::Timestamp::now()),
            remove: new.remove,
            own: new.own,
        };
        let dir = container.dir(self);
        let about = || format!("make container {}", dir.display());
        DirBuilder::new().mode(0o700).create(&dir).context(about)?;
        DirBuilder::new()
            .mode(0o755)
            .create(container.upper(self))
            .context(about)?;
        DirBuilder::new()
            .mode(0o755)
            .create(container.work(self))
            .context(about)?;
        self.write_container(&container)?;
        Ok(container)
    }

    fn write_container(&self, container: &Container) -> Result<(), Failure> {
        let path = container.dir(self).join("container.json");
        let bytes = serde_json::to_vec(container).map_err(|e| Failure::system(e.to_string()))?;
        write_atomically(&path, &bytes).context(|| format!("write {}", path.display()))
    }

    /// The container that a person means: by name, id, or the beginning of an id that no other has.
    ///
    /// # Errors
    /// `NotFound` (`No such container: …`), `Conflict` when several ids begin like that.
    pub fn container(&self, text: &str) -> Result<Container, Failure> {
        let containers = self.containers()?;
        let name = text.strip_prefix('/').unwrap_or(text);
        let exact = |c: &&Container| c.name == name || c.id == text;
        if let Some(container) = containers.iter().find(exact) {
            return Ok(container.clone());
        }
        let fits: Vec<_> = containers
            .iter()
            .filter(|c| c.id.starts_with(text))
            .collect();
        match fits.as_slice() {
            [only] if !text.is_empty() => Ok((*only).clone()),
            [_, _, ..] if !text.is_empty() => Err(Failure::conflict(format!(
                "{text}: {} containers' ids begin like that; give more digits",
                fits.len()
            ))),
            _ => Err(Failure::not_found(format!(
                "No such container: {}",
                text.escape_debug()
            ))),
        }
    }

    /// Removes a container that is not mounted.
    ///
    /// # Errors
    /// `Conflict` when it is mounted; `System`.
    pub fn remove_container(&self, container: &Container) -> Result<(), Failure> {
        let _lock = self.containers_lock()?;
        let _claim = container.claim(self).map_err(|f| {
            f.context(format!(
                "You cannot remove a running container {}. Unmount it before attempting removal",
                container.id
            ))
        })?;
        let dir = container.dir(self);
        // Without its record it is no container any more, whatever happens to the rest.
        let record = dir.join("container.json");
        std::fs::remove_file(&record).context(|| format!("remove {}", record.display()))?;
        std::fs::remove_dir_all(&dir).context(|| format!("remove {}", dir.display()))
    }

    /// Gives a container another name.
    ///
    /// # Errors
    /// As [`Store::create_container`].
    pub fn rename_container(&self, container: &Container, name: &str) -> Result<(), Failure> {
        check_name(name)?;
        let name = name.trim_start_matches('/');
        let _lock = self.containers_lock()?;
        if name == container.name {
            return Err(Failure::usage(
                "Renaming a container with the same name as its current name",
            ));
        }
        let containers = self.containers()?;
        if let Some(other) = containers.iter().find(|c| c.name == name) {
            return Err(name_taken(name, other));
        }
        // It may have been removed since the caller looked.
        let container = containers.iter().find(|c| c.id == container.id);
        let container = container.ok_or_else(|| Failure::not_found("No such container"))?;
        self.write_container(&Container {
            name: name.to_owned(),
            ..container.clone()
        })
    }

    /// The image of a container. It stays for as long as the container does.
    ///
    /// # Errors
    /// `NotFound` when another tool has removed it.
    pub fn image_of_container(&self, container: &Container) -> Result<StoredImage, Failure> {
        let gone = || {
            Failure::not_found(format!(
                "the image {} of container {} is gone from the store",
                container.image_name, container.name
            ))
        };
        self.images()?
            .into_iter()
            .find(|i| i.manifest == container.image)
            .ok_or_else(gone)
    }
}

fn name_taken(name: &str, other: &Container) -> Failure {
    Failure::conflict(format!(
        "Conflict. The container name \"/{name}\" is already in use by container \"{}\". You have \
         to remove (or rename) that container to be able to reuse that name.",
        other.id
    ))
}

/// Makes sure that a reference is one that an image can be committed to.
///
/// # Errors
/// As [`Reference::parse`]; `Invalid` for one with a digest.
pub fn commit_name(text: &str) -> Result<Reference, Failure> {
    let name = Reference::parse(text)?;
    match name.digest() {
        None => Ok(name),
        Some(_) => Err(Failure::invalid("cannot commit to digest reference")),
    }
}
