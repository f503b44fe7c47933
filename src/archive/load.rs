//! `load`: images from outside into the store, all of an archive's or none.
//!
//! Every layer is read once, verified, and staged in temporary files; only when the last image of
//! the archive has turned out right are they renamed to their places, and the images' names
//! written last. A load that fails, or is killed, leaves the store as it was.

use super::candidate::candidates_for;
use super::expansion::Limits;
use super::progress::Progress;
use super::staging::Staging;
use super::transport::Source;
use crate::error::{Context, Failure};
use crate::image::{Digest, Platform, Reference};
use crate::store::Store;

/// How a load is to be done.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// Which of the images that are there for several platforms; this machine's by default.
    pub platform: Option<Platform>,
    /// How far compressed input may expand.
    pub limits: Limits,
}

/// An image that has been loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// The names it has been given; none when the archive has none for it.
    pub names: Vec<Reference>,
    /// Its id: the digest of its configuration.
    pub id: Digest,
    /// The digest of its manifest.
    pub manifest: Digest,
}

/// Loads the images of `source`.
///
/// # Errors
/// [`Failure`], one line that names the source, the member or blob, and the reason. The store is
/// then as it was.
pub fn load(
    store: &Store,
    source: &Source,
    options: &LoadOptions,
    progress: &dyn Progress,
) -> Result<Vec<Loaded>, Failure> {
    let limits = options.limits;
    let platform = options.platform.clone().unwrap_or_else(Platform::host);
    let staging = || {
        let bundle = source.open(&store.tmp_dir(), limits, progress)?;
        let images = candidates_for(source, &bundle, &platform)?;
        Staging::of(store, &images, limits, progress)
    };
    staging().context(|| source.shown())?.publish()
}
