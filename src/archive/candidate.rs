//! [`Candidate`]: an image as an archive presents it, before any of its layers has been read.

use super::docker;
use super::oci;
use super::part::{Bundle, Part};
use super::transport::Source;
use crate::error::Failure;
use crate::image::{Descriptor, DiffId, Digest, ImageConfig, Platform, Reference};

/// The most layers that an image may have.
const LAYERS_MAX: usize = 500;

/// One layer of a [`Candidate`].
#[derive(Debug, Clone)]
pub struct CandidateLayer {
    /// Its name in messages: the member, or the blob's digest.
    pub what: String,
    /// Its bytes; `None` when the archive doesn't have them.
    pub part: Option<Part>,
    /// What the manifest says of it; `None` where there is no manifest (docker-archive).
    pub blob: Option<Descriptor>,
    /// The sha256 that its uncompressed tar must have.
    pub diff_id: DiffId,
}

/// An image that an archive holds.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The names that the archive gives it.
    pub names: Vec<Reference>,
    /// The manifest's bytes and media type; `None` where the archive has none.
    pub manifest: Option<(Vec<u8>, String)>,
    /// The configuration's bytes. Their sha256 is the image's id.
    pub config: Vec<u8>,
    /// The configuration's media type, where the archive names one.
    pub config_type: Option<String>,
    /// The layers, bottom first.
    pub layers: Vec<CandidateLayer>,
}

impl Candidate {
    /// The image's id.
    #[must_use]
    pub fn id(&self) -> Digest {
        Digest::of(&self.config)
    }

    /// The layers' diffIDs, bottom first.
    #[must_use]
    pub fn diff_ids(&self) -> Vec<DiffId> {
        self.layers.iter().map(|layer| layer.diff_id).collect()
    }
}

/// The images of `bundle`, those that `source` asks for.
///
/// # Errors
/// [`Failure`] of kind `Invalid` when the archive is of no known kind or contradicts itself,
/// `NotFound` when it doesn't have the image that is asked for.
pub fn candidates(source: &Source, bundle: &Bundle) -> Result<Vec<Candidate>, Failure> {
    candidates_for(source, bundle, &Platform::host())
}

/// As [`candidates`]; of images that are there for several platforms, those of this one.
///
/// # Errors
/// As [`candidates`].
pub fn candidates_for(
    source: &Source,
    bundle: &Bundle,
    platform: &Platform,
) -> Result<Vec<Candidate>, Failure> {
    let is_layout = bundle.has("oci-layout") && bundle.has("index.json");
    let is_docker = bundle.has("manifest.json");
    let found = match source {
        Source::DockerArchive { reference, .. } => docker::images(bundle, reference.as_deref()),
        Source::OciDir { reference, .. } | Source::OciArchive { reference, .. } => {
            oci::images_for(bundle, reference.as_deref(), platform)
        }
        Source::Stdin | Source::Path(_) if is_layout => {
            let mut images = oci::images_for(bundle, None, platform)?;
            if is_docker {
                docker::add_names(bundle, &mut images)?;
            }
            Ok(images)
        }
        Source::Stdin | Source::Path(_) if is_docker => docker::images(bundle, None),
        Source::Stdin | Source::Path(_) if bundle.has("repositories") => Err(Failure::invalid(
            "written by Docker before 1.10 (it has no manifest.json), which can't be read here",
        )),
        Source::Stdin | Source::Path(_) => Err(Failure::invalid(
            "neither a docker-archive (no manifest.json) nor an OCI layout (no oci-layout and index.json)",
        )),
    }?;
    match found.is_empty() {
        true => Err(Failure::invalid("there is no image in it")),
        false => Ok(found),
    }
}

/// Reads a configuration: it must describe a container image with `layers` layers.
///
/// # Errors
/// [`Failure`] of kind `Invalid` that says what is wrong with it; the caller names it.
pub fn parse_config(bytes: &[u8], layers: usize) -> Result<ImageConfig, Failure> {
    let config: ImageConfig = serde_json::from_slice(bytes)
        .map_err(|error| Failure::invalid(format!("not an image configuration: {error}")))?;
    let listed = config.rootfs.diff_ids.len();
    if listed != layers {
        return Err(Failure::invalid(format!(
            "it lists {listed} layers where the manifest has {layers}"
        )));
    }
    if layers > LAYERS_MAX {
        return Err(Failure::invalid(format!(
            "{layers} layers, at most {LAYERS_MAX} are possible"
        )));
    }
    Ok(config)
}
