//! `strata images`, `strata tag`, `strata rmi`

use std::process::ExitCode;

use serde_json::{Value, json};

use super::containers::seconds_since;
use super::format::{Format, age, show, size};
use super::{Context, each, print, print_line};
use crate::error::Failure;
use crate::image::Reference;
use crate::store::Store;
use crate::store::names::{Removed, StoredImage};

/// List images, the newest first.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  strata images\n  strata images --format json nginx")]
pub struct Args {
    /// Only ids.
    #[arg(short, long)]
    quiet: bool,

    /// Don't shorten ids.
    #[arg(long)]
    no_trunc: bool,

    /// Show the manifests' digests.
    #[arg(long)]
    digests: bool,

    /// How to show them.
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,

    /// Only images of this name.
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: Option<String>,
}

/// Bytes in an image's files, counted layer by layer, as Docker counts them. A layer that has not
/// been read yet counts with what its blob takes.
pub(super) fn image_size(store: &Store, image: &StoredImage) -> Result<u64, Failure> {
    let mut total = 0_u64;
    let blobs = image
        .manifest_data
        .layers
        .iter()
        .map(|l| l.size)
        .chain(std::iter::repeat(0));
    for (layer, blob) in image.config.rootfs.diff_ids.iter().zip(blobs) {
        let size = store.layer(layer)?.map_or(blob, |info| info.content_size);
        total = total.saturating_add(size);
    }
    Ok(total)
}

impl Args {
    pub fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let wanted = self.name.as_deref().map(Reference::parse).transpose()?;
        let tagged = self
            .name
            .as_deref()
            .is_some_and(|n| n.rsplit('/').next().is_some_and(|last| last.contains(':')));
        let fits = |name: Option<&Reference>| match (&wanted, name) {
            (None, _) => true,
            (Some(wanted), Some(name)) => {
                name.name() == wanted.name() && (!tagged || name.tag() == wanted.tag())
            }
            (Some(_), None) => false,
        };
        let mut images = context.store.images()?;
        images.sort_by_key(|i| seconds_since(i.config.created.as_deref().unwrap_or_default()));
        let mut rows = Vec::new();
        for image in &images {
            let names: Vec<_> = image
                .names
                .iter()
                .map(Some)
                .chain(image.names.is_empty().then_some(None))
                .collect();
            for name in names.into_iter().filter(|n| fits(*n)) {
                rows.push(self.row(context, image, name)?);
            }
        }
        if self.quiet {
            rows.dedup();
            for row in &rows {
                print_line(row.get("ID").and_then(Value::as_str).unwrap_or_default())?;
            }
            return Ok(ExitCode::SUCCESS);
        }
        let mut columns = vec![("REPOSITORY", "Repository"), ("TAG", "Tag")];
        if self.digests {
            columns.push(("DIGEST", "Digest"));
        }
        columns.extend([
            ("IMAGE ID", "ID"),
            ("CREATED", "CreatedSince"),
            ("SIZE", "Size"),
        ]);
        print(&show(
            &Format::of(self.format.as_deref())?,
            &columns,
            &rows,
        )?)?;
        Ok(ExitCode::SUCCESS)
    }

    fn row(
        &self,
        context: &Context,
        image: &StoredImage,
        name: Option<&Reference>,
    ) -> Result<Value, Failure> {
        let none = || "<none>".to_owned();
        let created = image.config.created.as_deref();
        Ok(json!({
            "CreatedAt": created.unwrap_or("N/A"),
            "CreatedSince": created.map_or_else(|| "N/A".to_owned(), |c| age(seconds_since(c))),
            "Digest": image.manifest.to_string(),
            "ID": if self.no_trunc { image.id.to_string() } else { image.id.short() },
            "Repository": name.map_or_else(none, Reference::familiar_name),
            "Size": size(image_size(&context.store, image)?),
            "Tag": name.and_then(Reference::tag).map_or_else(none, str::to_owned),
        }))
    }
}

/// Give an image one more name.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  strata tag nginx localhost/mine:1")]
pub struct TagArgs {
    /// The image, by name or id.
    image: String,

    /// The new name.
    #[arg(value_name = "NAME[:TAG]")]
    name: String,
}

impl TagArgs {
    pub fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let name = Reference::parse(&self.name).map_err(|e| {
            e.context(format!(
                "Error parsing reference: \"{}\" is not a valid repository/tag",
                self.name.escape_debug()
            ))
        })?;
        context.store.tag(&self.image, &name)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Remove names, and images that have lost their last one.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  strata rmi nginx:old")]
pub struct RmiArgs {
    /// Remove all of an image's names, also when a container uses it.
    #[arg(short, long)]
    force: bool,

    /// The images, by name or id.
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

impl RmiArgs {
    pub fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        Ok(each(&self.images, |name| {
            for removed in context.store.remove_image(name, self.force)? {
                match removed {
                    Removed::Untagged(name) => print_line(format_args!("Untagged: {name}"))?,
                    Removed::Deleted(digest) => print_line(format_args!("Deleted: {digest}"))?,
                }
            }
            Ok(())
        }))
    }
}
