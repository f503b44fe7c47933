//! `strata system df`, `strata system prune`, `strata info`, `strata version`

use std::collections::HashMap;
use std::process::ExitCode;

use clap::Subcommand;
use serde_json::{Value, json};

use super::format::{Column, Format, age, ellipsis, exact_size, show};
use super::ps::{command_line, seconds_since, status};
use super::{Context, print, print_line, prune};
use crate::error::Failure;
use crate::image::Reference;
use crate::mount::info::{Info, Version, info};
use crate::store::Store;
use crate::store::usage::{DiskUsage, ImageUsage};

/// Look after the store.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  strata system df -v\n  strata system prune")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Df(DfArgs),
    Info(InfoArgs),
    Prune(PruneArgs),
}

impl Args {
    pub fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        match self.command {
            Command::Df(args) => args.run(context),
            Command::Info(args) => args.run(context),
            Command::Prune(args) => args.run(context),
        }
    }
}

/// Show what the store takes.
///
/// SIZE is what Docker would say: bytes in files, layer by layer. ON DISK is what is really taken:
/// blobs as they were received, uncompressed layers, indexes, writable layers; it adds up to what du
/// says of the store.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  strata system df\n  strata system df -v\n  \
    strata system df --format '{{.Type}}: {{.DiskSize}}'\n  \
    strata system df -v --format '{{json .}}'\n\n\
    Members for --format: .Type .TotalCount .Active .Size .Reclaimable (Docker's) and .DiskSize; \
    with -v, the whole as one object."
)]
pub struct DfArgs {
    /// Image by image, container by container.
    #[arg(short, long)]
    verbose: bool,

    /// How to show it: table, json, a Go template, or "table TEMPLATE".
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,
}

impl DfArgs {
    pub fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let format = Format::of(self.format.as_deref())?;
        let usage = context.store.disk_usage()?;
        if !self.verbose {
            let columns = [
                ("TYPE", "Type"),
                ("TOTAL", "TotalCount"),
                ("ACTIVE", "Active"),
                ("SIZE", "Size"),
                ("RECLAIMABLE", "Reclaimable"),
                ("ON DISK", "DiskSize"),
            ];
            print(&show(&format, &columns, &summary(&usage))?)?;
            return Ok(ExitCode::SUCCESS);
        }
        match &format {
            Format::Table => print(&verbose(&context.store, &usage)?)?,
            Format::Json => print_line(value(&usage)?)?,
            Format::Lines(template) | Format::Columns(template) => {
                let whole = value(&usage)?;
                print_line(template.render(&capitals(&whole))?)?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn value(data: &impl serde::Serialize) -> Result<Value, Failure> {
    serde_json::to_value(data).map_err(|e| Failure::system(e.to_string()))
}

/// Members named as templates name them: `images_unique` is `.ImagesUnique`.
fn capitals(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(capitals).collect(),
        Value::Object(members) => {
            let name = |key: &String| {
                let words = key.split('_').map(|word| {
                    let mut chars = word.chars();
                    let first = chars.next().map(|c| c.to_ascii_uppercase());
                    first.into_iter().chain(chars).collect::<String>()
                });
                words.collect::<String>()
            };
            let members = members.iter().map(|(k, v)| (name(k), capitals(v)));
            Value::Object(members.collect())
        }
        other => other.clone(),
    }
}

fn reclaimable(bytes: u64, of: u64) -> String {
    match bytes.saturating_mul(100).checked_div(of) {
        Some(percent) => format!("{} ({percent}%)", exact_size(bytes)),
        None => exact_size(bytes),
    }
}

/// Docker's rows, and what else is on the disk.
fn summary(usage: &DiskUsage) -> Vec<Value> {
    let active = usage.images.iter().filter(|i| i.containers > 0);
    let used = active
        .clone()
        .map(|i| i.unique)
        .fold(0, u64::saturating_add);
    let idle = usage.containers.iter().filter(|c| !c.mounted);
    let written: u64 = usage.containers.iter().map(|c| c.size).sum();
    let row = |kind: &str, counts: [String; 2], size: String, free: String, disk: u64| {
        let [total, active] = counts;
        json!({
            "Active": active,
            "DiskSize": exact_size(disk),
            "Reclaimable": free,
            "Size": size,
            "TotalCount": total,
            "Type": kind,
        })
    };
    let none = || [String::new(), String::new()];
    let idle_size = idle.clone().map(|c| c.size).sum();
    vec![
        row(
            "Images",
            [usage.images.len().to_string(), active.count().to_string()],
            exact_size(usage.layers_size),
            reclaimable(usage.layers_size.saturating_sub(used), usage.layers_size),
            usage.images_unique + usage.images_shared,
        ),
        row(
            "Containers",
            [
                usage.containers.len().to_string(),
                (usage.containers.len() - idle.count()).to_string(),
            ],
            exact_size(written),
            reclaimable(idle_size, written),
            usage.containers_disk,
        ),
        row(
            "Unused",
            none(),
            String::new(),
            exact_size(usage.unused),
            usage.unused,
        ),
        row("Cache", none(), String::new(), String::new(), usage.cache),
        row("Other", none(), String::new(), String::new(), usage.other),
        row("Total", none(), String::new(), String::new(), usage.total),
    ]
}

const IMAGES: [Column; 8] = [
    ("REPOSITORY", "Repository"),
    ("TAG", "Tag"),
    ("IMAGE ID", "ID"),
    ("CREATED", "CreatedSince"),
    ("SIZE", "Size"),
    ("SHARED SIZE", "SharedSize"),
    ("UNIQUE SIZE", "UniqueSize"),
    ("CONTAINERS", "Containers"),
];

const CONTAINERS: [Column; 8] = [
    ("CONTAINER ID", "ID"),
    ("IMAGE", "Image"),
    ("COMMAND", "Command"),
    ("LOCAL VOLUMES", "LocalVolumes"),
    ("SIZE", "Size"),
    ("CREATED", "CreatedSince"),
    ("STATUS", "Status"),
    ("NAMES", "Names"),
];

const DISK: [Column; 6] = [
    ("IMAGE ID", "ID"),
    ("REPOSITORY", "Repository"),
    ("DOWNLOAD", "Download"),
    ("ON DISK", "Disk"),
    ("SHARED", "DiskShared"),
    ("UNIQUE", "DiskUnique"),
];

const PARTS: [Column; 2] = [("PART", "Part"), ("ON DISK", "Disk")];

/// Docker's sections, and a third one for the disk.
fn verbose(store: &Store, usage: &DiskUsage) -> Result<String, Failure> {
    let images = store.images()?;
    let names: HashMap<_, _> = images.iter().map(|image| (image.manifest, image)).collect();
    let mut rows = Vec::new();
    let mut disk = Vec::new();
    for used in &usage.images {
        let Some(image) = names.get(&used.manifest) else {
            continue;
        };
        let created = image.config.created.as_deref();
        let since = created.map_or_else(|| "N/A".to_owned(), |c| age(seconds_since(c)));
        let named = image.names.iter().map(Some);
        let unnamed = image.names.is_empty().then_some(None);
        for name in named.chain(unnamed) {
            rows.push(image_row(used, name, &since));
        }
        disk.push(json!({
            "ID": used.id.short(),
            "Repository": image.names.first().map_or("<none>".into(), Reference::familiar),
            "Download": exact_size(used.download),
            "Disk": exact_size(used.disk),
            "DiskShared": exact_size(used.disk_shared),
            "DiskUnique": exact_size(used.disk_unique),
        }));
    }
    let parts = [
        ("Images, unshared", usage.images_unique),
        ("Images, shared", usage.images_shared),
        ("Containers", usage.containers_disk),
        ("Unused", usage.unused),
        ("Cache", usage.cache),
        ("Other", usage.other),
        ("Total", usage.total),
    ];
    let part = |(part, bytes): (&str, u64)| json!({"Part": part, "Disk": exact_size(bytes)});
    let parts: Vec<_> = parts.into_iter().map(part).collect();
    let table = |columns: &[Column], rows: &[Value]| show(&Format::Table, columns, rows);
    Ok(format!(
        "Images space usage:\n\n{}\nContainers space usage:\n\n{}\nDisk usage of {}:\n\n{}\n{}",
        table(&IMAGES, &rows)?,
        table(&CONTAINERS, &container_rows(store, usage)?)?,
        store.root().display(),
        table(&DISK, &disk)?,
        table(&PARTS, &parts)?,
    ))
}

fn image_row(used: &ImageUsage, name: Option<&Reference>, since: &str) -> Value {
    let none = || "<none>".to_owned();
    json!({
        "Repository": name.map_or_else(none, Reference::familiar_name),
        "Tag": name.and_then(Reference::tag).map_or_else(none, str::to_owned),
        "ID": used.id.short(),
        "CreatedSince": since,
        "Size": exact_size(used.size),
        "SharedSize": exact_size(used.shared),
        "UniqueSize": exact_size(used.unique),
        "Containers": used.containers,
    })
}

fn container_rows(store: &Store, usage: &DiskUsage) -> Result<Vec<Value>, Failure> {
    let mut rows = Vec::new();
    for container in store.containers()? {
        let Some(used) = usage.containers.iter().find(|u| u.id == container.id) else {
            continue;
        };
        // A damaged store shows no command.
        let image = store.image_of_container(&container).ok();
        let config = image.map(|i| i.config.config).unwrap_or_default();
        let config = container.own.over(&config);
        let words = config.entrypoint.into_iter().chain(config.cmd).flatten();
        rows.push(json!({
            "ID": container.short_id(),
            "Image": container.image_name,
            "Command": format!("\"{}\"", ellipsis(&command_line(words), 20)),
            "LocalVolumes": 0,
            "Size": exact_size(used.size),
            "CreatedSince": age(seconds_since(&container.created)),
            "Status": status(&container.state(store)?),
            "Names": container.name,
        }));
    }
    Ok(rows)
}

/// Remove containers that are not mounted, images that nothing needs, and what is left over.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  strata system prune\n  strata system prune -af --filter until=48h\n\n\
    Filters: until=TIME, label=KEY[=VALUE], label!=KEY[=VALUE]."
)]
pub struct PruneArgs {
    #[command(flatten)]
    choice: prune::Choice,
}

impl PruneArgs {
    pub fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let filters = self.choice.filters()?;
        let warning = format!(
            "This will remove:\n  - all containers that are not mounted, and what was changed in \
             them\n  - {}\n  - whatever no image refers to\n",
            self.choice.in_words()
        );
        if !self.choice.is_confirmed(&warning)? {
            return Ok(ExitCode::SUCCESS);
        }
        let pruned = context.store.prune(self.choice.which(), &filters)?;
        if !pruned.containers.is_empty() {
            let ids = pruned.containers.join("\n");
            print(&format!("Deleted Containers:\n{ids}\n\n"))?;
        }
        prune::print_pruned(&pruned.images, pruned.freed)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Show the store, the kernel, and what the kernel offers to mounts.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  strata info\n  strata info --format '{{.DockerRootDir}}'\n  \
    strata info --format '{{json .Fuse}}'"
)]
pub struct InfoArgs {
    /// Show this: a Go template, or json.
    #[arg(short, long, value_name = "TEMPLATE")]
    format: Option<String>,
}

impl InfoArgs {
    pub fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let format = Format::of(self.format.as_deref())?;
        let info = info(&context.store)?;
        match &format {
            Format::Table => print(&info_text(&info))?,
            Format::Json => print_line(value(&info)?)?,
            Format::Lines(template) | Format::Columns(template) => {
                print_line(template.render(&value(&info)?)?)?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn info_text(info: &Info) -> String {
    let mut lines = vec![
        format!("Containers: {}", info.containers),
        format!(" Running: {}", info.containers_running),
        format!(" Stopped: {}", info.containers_stopped),
        format!("Images: {}", info.images),
        format!("Version: {}", info.server_version),
        format!("Storage Driver: {}", info.driver),
    ];
    let facts = info.driver_status.iter();
    lines.extend(facts.map(|[name, value]| format!(" {name}: {value}")));
    lines.extend([
        format!("Root Dir: {}", info.docker_root_dir.display()),
        format!("Kernel Version: {}", info.kernel_version),
        format!("Operating System: {}", info.operating_system),
        format!("OSType: {}", info.os_type),
        format!("Architecture: {}", info.architecture),
        format!("CPUs: {}", info.ncpu),
        format!("Total Memory: {}", exact_size(info.mem_total)),
        format!("Name: {}", info.name),
    ]);
    lines.join("\n") + "\n"
}

/// Show the version.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  strata version\n  strata version --format '{{.Version}}'")]
pub struct VersionArgs {
    /// Show this: a Go template, or json.
    #[arg(short, long, value_name = "TEMPLATE")]
    format: Option<String>,
}

impl VersionArgs {
    pub fn run(self) -> Result<ExitCode, Failure> {
        let format = Format::of(self.format.as_deref())?;
        let version = Version::here();
        let mut data = value(&version)?;
        // Docker has the client's and the server's; here they are one.
        if let Value::Object(members) = &mut data {
            let one = Value::Object(members.clone());
            members.insert("Client".into(), one.clone());
            members.insert("Server".into(), one);
        }
        match &format {
            Format::Table => print(&format!(
                "strata {}\n OS/Arch: {}/{}\n Kernel:  {}\n",
                version.version, version.os, version.arch, version.kernel_version
            ))?,
            Format::Json => print_line(data)?,
            Format::Lines(template) | Format::Columns(template) => {
                print_line(template.render(&data)?)?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
