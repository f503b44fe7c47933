//! `strata dockerfile`

use std::ffi::OsString;
use std::process::ExitCode;

use super::format::size;
use super::{Context, print, progress};
use crate::error::Failure;
use crate::image::{DiffId, Digest, ImageConfig};
use crate::inspect::dockerfile::{Base, find_base, reconstruct};
use crate::inspect::target::Place;
use crate::inspect::{Image, Target};
use crate::store::names::StoredImage;

/// Reconstruct the Dockerfile of an image from its history and configuration.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "What the history has lost is said in comments: names of copied files, mounts of \
    RUN, stages. FROM names a stored image whose layers are the image's first ones, or the one that \
    the history names.\n\nExample:\n  strata dockerfile nginx >Dockerfile"
)]
pub struct Args {
    /// The image: a name, an id, or oci:DIR, oci-archive:FILE, docker-archive:FILE.
    image: OsString,
}

impl Args {
    pub fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let target = Target::parse(&self.image)?;
        let (id, config, sizes) = match &target.place {
            // No index is needed for it.
            Place::Stored(name) => match context.store.find(name) {
                Ok(image) => (Some(image.id), image.config, Vec::new()),
                Err(_) => opened(context, &target)?,
            },
            _ => opened(context, &target)?,
        };
        let base = base(context, id, &config)?;
        let about = |layer: &DiffId| {
            let known = sizes
                .iter()
                .find(|(id, _)| id == layer)
                .map(|(_, size)| *size);
            let stored = || {
                context
                    .store
                    .layer(layer)
                    .ok()
                    .flatten()
                    .map(|l| l.content_size)
            };
            known.or_else(stored).map(size)
        };
        print(&reconstruct(&config, base).text(about))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Id, configuration, and sizes of layers.
type Opened = (Option<Digest>, ImageConfig, Vec<(DiffId, u64)>);

fn opened(context: &Context, target: &Target) -> Result<Opened, Failure> {
    let image = Image::open(&context.store, target, progress::bars(false).as_ref())?;
    if image.id.is_none() {
        return Err(Failure::usage(format!(
            "{}: a layer by itself has no history",
            image.name.escape_debug()
        )));
    }
    let sizes = image
        .layers
        .iter()
        .map(|l| (l.info.diff_id, l.info.content_size));
    Ok((image.id, image.config.clone(), sizes.collect()))
}

/// The stored image on which this one was built.
fn base(
    context: &Context,
    id: Option<Digest>,
    config: &ImageConfig,
) -> Result<Option<Base>, Failure> {
    let stored = context.store.images()?;
    let others = stored.iter().filter(|i| Some(i.id) != id);
    // One with a name is better than one without.
    let (mut named, unnamed): (Vec<_>, Vec<_>) = others.partition(|i| !i.names.is_empty());
    named.extend(unnamed);
    Ok(find_base(
        config,
        named.into_iter().map(|i| (name(i), &i.config)),
    ))
}

fn name(image: &StoredImage) -> String {
    match image.names.first() {
        Some(name) => name.familiar(),
        None => image.id.short(),
    }
}
