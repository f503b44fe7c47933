//! `import`: a tar of a file system as an image of one layer.

use std::io::{Cursor, Read};

use jiff::Timestamp;

use super::chain::{chain_of, stage_chain};
use super::expansion::Limits;
use super::ingest::{Keep, LayerSpec, stage_layer};
use super::progress::Progress;
use super::transport::refuse_foreign;
use crate::error::{Context, Failure};
use crate::image::{
    Descriptor, Digest, History, ImageConfig, Manifest, Platform, Reference, RuntimeConfig,
    changes, media_type, time,
};
use crate::store::Store;

/// How to import.
#[derive(Debug, Clone, Default)]
pub struct ImportOptions {
    /// A comment for the history.
    pub message: Option<String>,
    /// Dockerfile instructions that make the configuration.
    pub changes: Vec<String>,
    /// What the image is for; this machine by default.
    pub platform: Option<Platform>,
    /// The image's name.
    pub name: Option<Reference>,
    /// When it is made; now by default.
    pub created: Option<Timestamp>,
    /// How far compressed input may expand.
    pub limits: Limits,
}

/// Makes an image of a tar, compressed or not; its id. The tar is kept as it is, as the image's one
/// layer, and read as one: whiteouts in it mean nothing below.
///
/// ```
/// use stratafs::archive::{ImportOptions, Silent, import};
/// use stratafs::store::Store;
///
/// let dir = tempfile::tempdir()?;
/// let store = Store::open(dir.path())?;
/// let tar = stratafs::tar::TarWriter::new(Vec::new()).finish()?;
/// let options = ImportOptions {
///     changes: vec![r#"CMD ["sh"]"#.into()],
///     ..ImportOptions::default()
/// };
/// let id = import(&store, &mut tar.as_slice(), &options, &Silent)?;
/// let image = store.find(&id.to_string())?;
/// assert_eq!(image.config.config.cmd.as_deref(), Some(&["sh".to_owned()][..]));
/// # Ok::<(), stratafs::error::Failure>(())
/// ```
///
/// # Errors
/// `Invalid` when the input is no tar, or one that can't be a layer; `Usage` for a change that can't
/// be applied; `System`. The store is then as it was.
pub fn import(
    store: &Store,
    input: &mut (dyn Read + Send),
    options: &ImportOptions,
    progress: &dyn Progress,
) -> Result<Digest, Failure> {
    let mut runtime = RuntimeConfig::default();
    changes::apply_all(&mut runtime, &options.changes)?;
    let created = match options.created {
        Some(created) => created,
        None => time::now()?,
    };
    let mut start = Vec::new();
    (&mut *input).take(512).read_to_end(&mut start)?;
    if start.is_empty() {
        return Err(Failure::invalid("there is nothing in it: want a tar"));
    }
    refuse_foreign(&start)?;
    let _lease = store.lease()?;
    let tmp = store.tmp_dir();
    let keep = Keep {
        blob: true,
        tree: true,
        copy: true,
    };
    let spec = LayerSpec::default();
    let mut input = Cursor::new(start).chain(input);
    progress.begin("Importing", None);
    let staged = stage_layer(&tmp, &mut input, &spec, keep, options.limits, progress);
    progress.end();
    let layer = staged?;
    let layers = [layer.info.diff_id];
    let index = layer.index().map(ToOwned::to_owned);
    let chain = stage_chain(&tmp, chain_of(&layers), index.as_slice())?;
    let info = layer.publish(store)?;
    chain.publish(store)?;
    let platform = options.platform.clone().unwrap_or_else(Platform::host);
    let created = time::format(created);
    let config = ImageConfig {
        created: Some(created.clone()),
        architecture: platform.architecture,
        os: platform.os,
        variant: platform.variant,
        config: runtime,
        rootfs: crate::image::RootFs {
            diff_ids: layers.to_vec(),
            ..Default::default()
        },
        history: vec![History {
            created: Some(created),
            comment: options.message.clone(),
            ..History::default()
        }],
        ..ImageConfig::default()
    };
    let config = to_json(&config)?;
    let id = store.add_blob(&config)?;
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(media_type::OCI_MANIFEST.to_owned()),
        config: Descriptor::new(media_type::OCI_CONFIG, id, config.len() as u64),
        layers: vec![Descriptor::new(&info.media_type, info.digest, info.size)],
        annotations: Default::default(),
        other: Default::default(),
    };
    let manifest = to_json(&manifest)?;
    let digest = store.add_blob(&manifest)?;
    let descriptor = Descriptor::new(media_type::OCI_MANIFEST, digest, manifest.len() as u64);
    store
        .add_image(&descriptor, options.name.as_slice())
        .context(|| "name the image")?;
    Ok(id)
}

fn to_json(value: &impl serde::Serialize) -> Result<Vec<u8>, Failure> {
    serde_json::to_vec(value).map_err(|e| Failure::system(e.to_string()))
}
