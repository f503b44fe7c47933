//! All that is known of an image or a container, as Docker's `inspect` shows it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Store;
use super::containers::Container;
use super::images::parents;
use super::names::StoredImage;
use crate::error::Failure;
use crate::image::{ChainId, DiffId, Digest, History, RootFs, RuntimeConfig, StringSet};

/// An image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ImageDetails {
    /// The image's id.
    pub id: Digest,
    /// Its names, as Docker shows them.
    pub repo_tags: Vec<String>,
    /// Its names with the digest of its manifest.
    pub repo_digests: Vec<String>,
    /// The id of the image that it was made from, if that is there.
    pub parent: String,
    /// The last step's comment.
    pub comment: String,
    /// When it was made (RFC 3339).
    pub created: String,
    /// The container that it was committed from, if it says.
    pub container: String,
    /// What that container ran.
    pub container_config: ConfigDetails,
    /// The version of Docker that made it, if it says.
    pub docker_version: String,
    /// Who made it.
    pub author: String,
    /// What its containers run.
    pub config: ConfigDetails,
    /// CPU architecture.
    pub architecture: String,
    /// Variant of the CPU.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
    /// Operating system.
    pub os: String,
    /// Bytes in its files, as Docker counts them.
    pub size: u64,
    /// The same: Docker's older name.
    pub virtual_size: u64,
    /// Bytes of its layers' blobs.
    pub compressed_size: u64,
    /// How it is mounted.
    pub graph_driver: GraphDriver,
    /// Its layers.
    #[serde(rename = "RootFS")]
    pub root_fs: Layers,
    /// What Docker keeps beside images.
    pub metadata: Metadata,
    /// The digest of its manifest.
    pub digest: Digest,
    /// The type of its manifest.
    pub media_type: String,
    /// How it came about, oldest first.
    pub history: Vec<History>,
}

/// What containers of an image run, with all members that Docker shows.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ConfigDetails {
    /// Name of the machine.
    pub hostname: String,
    /// Its domain.
    pub domainname: String,
    /// User and group.
    pub user: String,
    /// Docker's `--attach`.
    pub attach_stdin: bool,
    /// Docker's `--attach`.
    pub attach_stdout: bool,
    /// Docker's `--attach`.
    pub attach_stderr: bool,
    /// Ports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exposed_ports: Option<StringSet>,
    /// Whether it has a terminal.
    pub tty: bool,
    /// Docker's `--interactive`.
    pub open_stdin: bool,
    /// Docker's `--interactive`.
    pub stdin_once: bool,
    /// Environment.
    pub env: Option<Vec<String>>,
    /// Arguments, or command.
    pub cmd: Option<Vec<String>>,
    /// How its health is told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Value>,
    /// The image it was made from.
    pub image: String,
    /// Directories that are volumes.
    pub volumes: Option<StringSet>,
    /// Where the command starts.
    pub working_dir: String,
    /// The command's fixed part.
    pub entrypoint: Option<Vec<String>>,
    /// Instructions for builds.
    pub on_build: Option<Vec<String>>,
    /// Labels.
    pub labels: Option<BTreeMap<String, String>>,
    /// The signal that stops the command.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
    /// The shell of shell-form instructions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shell: Option<Value>,
}

/// An image's layers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Layers {
    /// `layers`
    #[serde(rename = "Type")]
    pub kind: String,
    /// Their diffIDs, bottom first.
    pub layers: Vec<DiffId>,
}

/// What Docker keeps beside images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Metadata {
    /// When it was last tagged. A store that other tools change doesn't know.
    pub last_tag_time: String,
}

/// How an image or a container is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct GraphDriver {
    /// Where its parts are.
    pub data: DriverData,
    /// `strata`
    pub name: String,
}

/// Where the parts of a stack are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DriverData {
    /// The chainID of the layers.
    pub chain: Option<ChainId>,
    /// The merged view, while it is mounted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merged_dir: Option<PathBuf>,
    /// A container's writable layer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upper_dir: Option<PathBuf>,
    /// Its scratch directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub work_dir: Option<PathBuf>,
}

/// A container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ContainerDetails {
    /// Its id.
    pub id: String,
    /// When it was made (RFC 3339).
    pub created: String,
    /// What it is doing.
    pub state: ContainerState,
    /// The id of its image.
    pub image: Digest,
    /// The name by which the image was given.
    pub image_name: String,
    /// Where its daemon logs.
    pub log_path: PathBuf,
    /// Its name, with Docker's slash.
    pub name: String,
    /// `strata`
    pub driver: String,
    /// What it runs.
    pub config: ConfigDetails,
    /// How it is mounted.
    pub graph_driver: GraphDriver,
    /// Where it is mounted.
    pub mountpoint: Option<PathBuf>,
    /// Whether it goes when it is unmounted.
    pub auto_remove: bool,
    /// Bytes in the files of its writable layer, if asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_rw: Option<u64>,
    /// Those, and the image's, if asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_root_fs: Option<u64>,
}

/// What a container is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ContainerState {
    /// `running` when it is mounted, `exited` when it was, `created` before.
    pub status: String,
    /// Whether it is mounted.
    pub running: bool,
    /// The process that serves the mount.
    pub pid: u32,
    /// Since when.
    pub started_at: Option<String>,
}

/// Whether sizes that take a walk are found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sizes {
    /// They are.
    Yes,
    /// They are not.
    No,
}

impl From<&RuntimeConfig> for ConfigDetails {
    fn from(config: &RuntimeConfig) -> Self {
        let text = |key: &str| text_of(&config.other, key);
        let flag = |key: &str| {
            config
                .other
                .get(key)
                .and_then(Value::as_bool)
                .unwrap_or(false)
        };
        let some = |list: &Vec<String>| (!list.is_empty()).then(|| list.clone());
        Self {
            hostname: text("Hostname"),
            domainname: text("Domainname"),
            user: config.user.clone(),
            attach_stdin: flag("AttachStdin"),
            attach_stdout: flag("AttachStdout"),
            attach_stderr: flag("AttachStderr"),
            exposed_ports: (!config.exposed_ports.is_empty()).then(|| config.exposed_ports.clone()),
            tty: flag("Tty"),
            open_stdin: flag("OpenStdin"),
            stdin_once: flag("StdinOnce"),
            env: some(&config.env),
            cmd: config.cmd.clone(),
            healthcheck: config.other.get("Healthcheck").cloned(),
            image: text("Image"),
            volumes: (!config.volumes.is_empty()).then(|| config.volumes.clone()),
            working_dir: config.working_dir.clone(),
            entrypoint: config.entrypoint.clone(),
            on_build: some(&config.on_build),
            labels: (!config.labels.is_empty()).then(|| config.labels.clone()),
            stop_signal: config.stop_signal.clone(),
            shell: config.other.get("Shell").cloned(),
        }
    }
}

impl From<&RootFs> for Layers {
    fn from(layers: &RootFs) -> Self {
        Self {
            kind: layers.kind.clone(),
            layers: layers.diff_ids.clone(),
        }
    }
}

fn text_of(members: &Map<String, Value>, key: &str) -> String {
    let text = members.get(key).and_then(Value::as_str);
    text.unwrap_or_default().to_owned()
}

impl Store {
    /// All that is known of an image.
    ///
    /// # Errors
    /// `Invalid` when the store is damaged; `System`.
    pub fn describe_image(&self, image: &StoredImage) -> Result<ImageDetails, Failure> {
        let config = &image.config;
        let images = self.images()?;
        let parent = parents(&images).get(&image.manifest).copied();
        let parent = images.iter().find(|i| Some(i.manifest) == parent);
        let last = config.history.last();
        let tags = image.names.iter().filter(|n| n.tag().is_some());
        let mut digests: Vec<_> = image
            .names
            .iter()
            .map(|n| format!("{}@{}", n.familiar_name(), image.manifest))
            .collect();
        digests.dedup();
        let ran = config.other.get("container_config").cloned();
        let ran: RuntimeConfig = ran
            .and_then(|c| serde_json::from_value(c).ok())
            .unwrap_or_default();
        let size = self.image_size(image)?;
        let blobs = image.manifest_data.layers.iter().map(|l| l.size);
        Ok(ImageDetails {
            id: image.id,
            repo_tags: tags.map(|n| n.familiar()).collect(),
            repo_digests: digests,
            parent: parent.map_or(String::new(), |p| p.id.to_string()),
            comment: last.and_then(|h| h.comment.clone()).unwrap_or_default(),
            created: config.created.clone().unwrap_or_default(),
            container: text_of(&config.other, "container"),
            container_config: ConfigDetails::from(&ran),
            docker_version: text_of(&config.other, "docker_version"),
            author: config.author.clone().unwrap_or_default(),
            config: ConfigDetails::from(&config.config),
            architecture: config.architecture.clone(),
            variant: config.variant.clone().unwrap_or_default(),
            os: config.os.clone(),
            size,
            virtual_size: size,
            compressed_size: blobs.fold(0, u64::saturating_add),
            graph_driver: GraphDriver {
                data: DriverData {
                    chain: image.chain(),
                    merged_dir: None,
                    upper_dir: None,
                    work_dir: None,
                },
                name: "strata".into(),
            },
            root_fs: Layers::from(&config.rootfs),
            metadata: Metadata {
                last_tag_time: "0001-01-01T00:00:00Z".into(),
            },
            digest: image.manifest,
            media_type: image.media_type.clone(),
            history: config.history.clone(),
        })
    }

    /// All that is known of a container.
    ///
    /// # Errors
    /// `Invalid` when the store is damaged; `System`.
    pub fn describe_container(
        &self,
        container: &Container,
        sizes: Sizes,
    ) -> Result<ContainerDetails, Failure> {
        let state = container.state(self)?;
        let mount = state.mount();
        // The image of a container stays; where another tool removed it, the rest is still known.
        let image = self.image_of_container(container).ok();
        let own = match sizes {
            Sizes::Yes => Some(self.writable_size(container)?),
            Sizes::No => None,
        };
        let below = match (&image, sizes) {
            (Some(image), Sizes::Yes) => self.image_size(image)?,
            _ => 0,
        };
        let config = image.map(|i| i.config.config).unwrap_or_default();
        let config = container.own.over(&config);
        let mountpoint = mount.map(|m| m.mountpoint.clone());
        Ok(ContainerDetails {
            id: container.id.clone(),
            created: container.created.clone(),
            state: ContainerState {
                status: state.word().into(),
                running: mount.is_some(),
                pid: mount.map_or(0, |m| m.pid),
                started_at: mount.map(|m| m.since.clone()),
            },
            image: container.image_id,
            image_name: container.image_name.clone(),
            log_path: container.dir(self).join("log"),
            name: format!("/{}", container.name),
            driver: "strata".into(),
            config: ConfigDetails::from(&config),
            graph_driver: GraphDriver {
                data: DriverData {
                    chain: container.chain,
                    merged_dir: mountpoint.clone(),
                    upper_dir: Some(container.upper(self)),
                    work_dir: Some(container.work(self)),
                },
                name: "strata".into(),
            },
            mountpoint,
            auto_remove: container.remove,
            size_rw: own,
            size_root_fs: own.map(|own| own.saturating_add(below)),
        })
    }
}
