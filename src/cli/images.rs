//! `strata images`

use std::collections::HashMap;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::format::{Column, Format, Listing, age, exact_size, go_time, size};
use super::ps::seconds_since;
use super::{Context, print, print_line};
use crate::error::Failure;
use crate::image::{Digest, Reference};
use crate::store::Store;
use crate::store::images::{ImageFilters, Intermediate, ListedImage};
use crate::store::names::StoredImage;
use crate::store::usage::ImageUsage;

/// List images, the newest first.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  strata images\n  strata images nginx\n  strata images 'nginx:1.*'\n  \
    strata images -q -f dangling=true\n  \
    strata images --format '{{.Repository}}:{{.Tag}} {{.Size}}'\n  \
    strata images --format 'table {{.ID}}\\t{{.Size}}\\t{{.DownloadSize}}\\t{{.DiskUnique}}'\n\n\
    Filters: dangling=true|false, reference=PATTERN, before=IMAGE, since=IMAGE, until=TIME, \
    label=KEY[=VALUE], label!=KEY[=VALUE].\n\n\
    Members for --format: .Repository .Tag .Digest .ID .CreatedSince .CreatedAt .Size \
    .VirtualSize .SharedSize .UniqueSize .Containers (Docker's), and .DownloadSize (its blobs), \
    .DiskSize .DiskShared .DiskUnique (blocks that the store has of it)."
)]
pub struct Args {
    /// Images without a name too that are there only for others made from them.
    #[arg(short, long)]
    all: bool,

    /// Only ids.
    #[arg(short, long)]
    quiet: bool,

    /// Don't shorten ids.
    #[arg(long)]
    no_trunc: bool,

    /// Show the manifests' digests.
    #[arg(long)]
    digests: bool,

    /// Only those that fit: dangling=, reference=, before=, since=, until=, label= or label!=.
    #[arg(short, long = "filter", value_name = "FILTER")]
    filters: Vec<String>,

    /// How to show them: table, json, a Go template, or "table TEMPLATE".
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,

    /// Only images of this name; * and ? stand for any characters, and any one.
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: Option<String>,
}

const OTHERS: [Column; 10] = [
    ("DIGEST", "Digest"),
    ("CREATED AT", "CreatedAt"),
    ("VIRTUAL SIZE", "VirtualSize"),
    ("SHARED SIZE", "SharedSize"),
    ("UNIQUE SIZE", "UniqueSize"),
    ("CONTAINERS", "Containers"),
    ("DOWNLOAD", "DownloadSize"),
    ("ON DISK", "DiskSize"),
    ("SHARED ON DISK", "DiskShared"),
    ("UNIQUE ON DISK", "DiskUnique"),
];

/// Members of a row that are found out by looking at the whole store.
const COSTLY: [&str; 7] = [
    "SharedSize",
    "UniqueSize",
    "Containers",
    "DownloadSize",
    "DiskSize",
    "DiskShared",
    "DiskUnique",
];

impl Args {
    pub fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let format = Format::of(self.format.as_deref())?;
        let mut filters = ImageFilters::parse(&self.filters)?;
        if let Some(name) = &self.name {
            filters.add_reference(name)?;
        }
        let intermediate = if self.all {
            Intermediate::Shown
        } else {
            Intermediate::Hidden
        };
        let store = &context.store;
        let images = store.list_images(&filters, intermediate)?;
        if self.quiet {
            let mut ids: Vec<_> = images.iter().map(|row| self.id(&row.image)).collect();
            ids.dedup();
            ids.iter().try_for_each(print_line)?;
            return Ok(ExitCode::SUCCESS);
        }
        let usage: HashMap<Digest, ImageUsage> =
            if COSTLY.iter().any(|member| format.mentions(member)) {
                let all = store.disk_usage()?.images;
                all.into_iter()
                    .map(|usage| (usage.manifest, usage))
                    .collect()
            } else {
                HashMap::new()
            };
        let mut rows = Vec::new();
        for listed in &images {
            rows.push(self.row(store, listed, usage.get(&listed.image.manifest))?);
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
        let listing = Listing {
            columns: &columns,
            others: &OTHERS,
        };
        print(&listing.show(&format, &rows)?)?;
        Ok(ExitCode::SUCCESS)
    }

    fn id(&self, image: &StoredImage) -> String {
        if self.no_trunc {
            image.id.to_string()
        } else {
            image.id.short()
        }
    }

    fn row(
        &self,
        store: &Store,
        listed: &ListedImage,
        usage: Option<&ImageUsage>,
    ) -> Result<Value, Failure> {
        let ListedImage { image, name } = listed;
        let none = || "<none>".to_owned();
        let name = name.as_ref();
        let created = image.config.created.as_deref();
        let bytes = store.image_size(image)?;
        let used = |of: fn(&ImageUsage) -> u64| {
            usage.map_or_else(|| "N/A".to_owned(), |usage| exact_size(of(usage)))
        };
        Ok(json!({
            "Containers": usage.map_or_else(|| "N/A".to_owned(), |u| u.containers.to_string()),
            "CreatedAt": created.map_or_else(|| "N/A".to_owned(), go_time),
            "CreatedSince": created.map_or_else(|| "N/A".to_owned(), |c| age(seconds_since(c))),
            "Digest": image.manifest.to_string(),
            "DiskShared": used(|u| u.disk_shared),
            "DiskSize": used(|u| u.disk),
            "DiskUnique": used(|u| u.disk_unique),
            "DownloadSize": used(|u| u.download),
            "ID": self.id(image),
            "Repository": name.map_or_else(none, Reference::familiar_name),
            "SharedSize": used(|u| u.shared),
            "Size": size(bytes),
            "Tag": name.and_then(Reference::tag).map_or_else(none, str::to_owned),
            "UniqueSize": used(|u| u.unique),
            "VirtualSize": exact_size(bytes),
        }))
    }
}
