//! `strata inspect`

use std::process::ExitCode;

use serde_json::Value;

use super::format::Format;
use super::{Context, complain, print};
use crate::error::{Failure, FailureKind};
use crate::store::Store;
use crate::store::describe::Sizes;

/// Show all that is known of images and containers, as JSON.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  strata inspect nginx web\n  strata inspect -s --type container web\n  \
    strata inspect --format '{{.Config.Cmd}} {{json .Config.Labels}}' nginx\n  \
    strata inspect --format '{{range .Config.Env}}{{println .}}{{end}}' nginx\n\n\
    Exit status: 64 for a template that can't be parsed."
)]
pub struct Args {
    /// Show this of each: a Go template, or json for an object a line.
    #[arg(short, long, value_name = "TEMPLATE")]
    format: Option<String>,

    /// Only look for one kind.
    #[arg(long = "type", value_enum, value_name = "KIND")]
    kind: Option<Kind>,

    /// Show how large a container's changes are.
    #[arg(short, long)]
    size: bool,

    /// Images and containers, by name or id.
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

/// Show all that is known of images, as JSON.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  strata image inspect --format '{{.Id}}' nginx")]
pub struct ImageArgs {
    /// Show this of each: a Go template, or json for an object a line.
    #[arg(short, long, value_name = "TEMPLATE")]
    format: Option<String>,

    /// Images, by name or id.
    #[arg(required = true, value_name = "IMAGE")]
    names: Vec<String>,
}

/// Show all that is known of containers, as JSON.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  strata container inspect --format '{{.State.Status}}' web")]
pub struct ContainerArgs {
    /// Show this of each: a Go template, or json for an object a line.
    #[arg(short, long, value_name = "TEMPLATE")]
    format: Option<String>,

    /// Show how large their changes are.
    #[arg(short, long)]
    size: bool,

    /// Containers, by name or id.
    #[arg(required = true, value_name = "CONTAINER")]
    names: Vec<String>,
}

impl ContainerArgs {
    pub fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let args = Args {
            format: self.format,
            kind: Some(Kind::Container),
            size: self.size,
            names: self.names,
        };
        args.run(context)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    /// Images.
    Image,
    /// Containers.
    Container,
}

/// Docker's status for a template that can't be parsed.
const BAD_TEMPLATE: u8 = 64;

impl ImageArgs {
    pub fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let args = Args {
            format: self.format,
            kind: Some(Kind::Image),
            size: false,
            names: self.names,
        };
        args.run(context)
    }
}

impl Args {
    pub fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let format = match Format::of(self.format.as_deref()) {
            Ok(format) => format,
            Err(failure) => {
                complain(&failure);
                return Ok(ExitCode::from(BAD_TEMPLATE));
            }
        };
        let (mut found, mut failures) = (Vec::new(), Vec::new());
        for name in &self.names {
            match self.look_up(&context.store, name) {
                Ok(value) => found.push(value),
                Err(failure) => failures.push(failure),
            }
        }
        match &format {
            Format::Table => print(&indented(&Value::Array(found))?)?,
            Format::Json => found
                .iter()
                .try_for_each(|value| print(&format!("{value}\n")))?,
            Format::Columns(template) | Format::Lines(template) => {
                for value in &found {
                    match template.render(value) {
                        Ok(text) => print(&format!("{text}\n"))?,
                        Err(failure) => failures.push(failure),
                    }
                }
            }
        }
        failures.iter().for_each(complain);
        Ok(if failures.is_empty() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }

    fn look_up(&self, store: &Store, name: &str) -> Result<Value, Failure> {
        if self.kind != Some(Kind::Image) {
            let sizes = if self.size { Sizes::Yes } else { Sizes::No };
            match store.container(name) {
                Ok(container) => return value(&store.describe_container(&container, sizes)?),
                Err(e) if self.kind == Some(Kind::Container) => return Err(e),
                Err(e) if e.kind() == FailureKind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
        match store.find(name) {
            Ok(image) => value(&store.describe_image(&image)?),
            Err(e) if e.kind() == FailureKind::NotFound && self.kind.is_none() => Err(
                Failure::not_found(format!("No such object: {}", name.escape_debug())),
            ),
            Err(e) => Err(e),
        }
    }
}

fn value(data: &impl serde::Serialize) -> Result<Value, Failure> {
    serde_json::to_value(data).map_err(|e| Failure::system(e.to_string()))
}

/// JSON with four spaces, as Docker indents it.
pub(super) fn indented(value: &Value) -> Result<String, Failure> {
    let mut out = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, formatter);
    serde::Serialize::serialize(value, &mut serializer)
        .map_err(|e| Failure::system(e.to_string()))?;
    out.push(b'\n');
    String::from_utf8(out).map_err(|e| Failure::system(e.to_string()))
}
