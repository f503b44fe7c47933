//! `strata inspect`

use std::process::ExitCode;

use serde_json::{Value, json};

use super::format::Format;
use super::images::image_size;
use super::{Context, complain, print};
use crate::error::{Failure, FailureKind};
use crate::store::containers::Container;
use crate::store::names::StoredImage;

/// Show all that is known of images and containers, as JSON.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  strata inspect nginx web")]
pub struct Args {
    /// table is indented JSON in a list, json one object a line.
    #[arg(short, long, value_name = "TEMPLATE")]
    format: Option<String>,

    /// Images and containers, by name or id.
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

impl Args {
    pub fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let format = Format::of(self.format.as_deref())?;
        let mut found = Vec::new();
        let mut code = ExitCode::SUCCESS;
        for name in &self.names {
            match self.look_up(context, name) {
                Ok(value) => found.push(value),
                Err(failure) => {
                    complain(&failure);
                    code = ExitCode::FAILURE;
                }
            }
        }
        let text = match &format {
            Format::Json => {
                let lines: Vec<_> = found.iter().map(|v| format!("{v}\n")).collect();
                lines.concat()
            }
            Format::Table => indented(&Value::Array(found))?,
            Format::Columns(template) | Format::Lines(template) => {
                let lines = found.iter().map(|v| Ok(template.render(v)? + "\n"));
                lines.collect::<Result<String, Failure>>()?
            }
        };
        print(&text)?;
        Ok(code)
    }

    fn look_up(&self, context: &Context, name: &str) -> Result<Value, Failure> {
        if let Ok(container) = context.store.container(name) {
            return describe_container(context, &container);
        }
        match context.store.find(name) {
            Ok(image) => describe_image(context, &image),
            Err(e) if e.kind() == FailureKind::NotFound => Err(Failure::not_found(format!(
                "Error: No such object: {}",
                name.escape_debug()
            ))),
            Err(e) => Err(e),
        }
    }
}

/// JSON with four spaces, as Docker indents it.
fn indented(value: &Value) -> Result<String, Failure> {
    let mut out = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, formatter);
    serde::Serialize::serialize(value, &mut serializer)
        .map_err(|e| Failure::system(e.to_string()))?;
    out.push(b'\n');
    String::from_utf8(out).map_err(|e| Failure::system(e.to_string()))
}

fn describe_image(context: &Context, image: &StoredImage) -> Result<Value, Failure> {
    let config = &image.config;
    let tags: Vec<_> = image
        .names
        .iter()
        .filter(|n| n.tag().is_some())
        .map(|n| n.familiar())
        .collect();
    let digests: Vec<_> = image
        .names
        .iter()
        .map(|n| format!("{}@{}", n.familiar_name(), image.manifest))
        .collect();
    let comment = config
        .history
        .last()
        .and_then(|h| h.comment.as_deref())
        .unwrap_or_default();
    let blobs: u64 = image.manifest_data.layers.iter().map(|l| l.size).sum();
    Ok(json!({
        "Id": image.id,
        "RepoTags": tags,
        "RepoDigests": digests,
        "Comment": comment,
        "Created": config.created,
        "Author": config.author.as_deref().unwrap_or_default(),
        "Config": config.config,
        "Architecture": config.architecture,
        "Variant": config.variant,
        "Os": config.os,
        "Size": image_size(&context.store, image)?,
        "CompressedSize": blobs,
        "Digest": image.manifest,
        "RootFS": {"Type": config.rootfs.kind, "Layers": config.rootfs.diff_ids},
        "History": config.history,
    }))
}

fn describe_container(context: &Context, container: &Container) -> Result<Value, Failure> {
    let store = &context.store;
    let mounted = container.mounted_at(store)?;
    Ok(json!({
        "Id": container.id,
        "Created": container.created,
        "Name": format!("/{}", container.name),
        "Image": container.image_id,
        "ImageName": container.image_name,
        "State": {
            "Status": if mounted.is_some() { "running" } else { "created" },
            "Running": mounted.is_some(),
            "Pid": mounted.as_ref().map_or(0, |m| m.pid),
            "StartedAt": mounted.as_ref().map(|m| &m.since),
        },
        "Mountpoint": mounted.as_ref().map(|m| &m.mountpoint),
        "GraphDriver": {
            "Name": "strata",
            "Data": {
                "Chain": container.chain,
                "UpperDir": container.upper(store),
                "WorkDir": container.work(store),
                "MergedDir": mounted.as_ref().map(|m| &m.mountpoint),
            },
        },
        "LogPath": container.dir(store).join("log"),
        "AutoRemove": container.remove,
    }))
}
