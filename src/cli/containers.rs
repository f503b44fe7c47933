//! `strata create`, `strata ps`, `strata rm`

use std::process::ExitCode;

use serde_json::{Value, json};

use super::format::{Format, age, ellipsis, show};
use super::{Context, each, print, print_line};
use crate::error::Failure;
use crate::image::time;
use crate::mount::{Umount, umount};
use crate::store::Store;
use crate::store::containers::{Container, NewContainer};

/// Make a container of an image, without mounting it; prints its id.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  strata create --name web nginx")]
pub struct CreateArgs {
    /// Its name; one is made up otherwise.
    #[arg(long)]
    name: Option<String>,

    /// The image, by name or id.
    image: String,
}

impl CreateArgs {
    pub fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let image = context.store.find(&self.image)?;
        let new = NewContainer {
            name: self.name,
            remove: false,
        };
        let container = context.store.create_container(&image, &self.image, new)?;
        print_line(&container.id)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// List containers: the mounted ones, or all.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  strata ps -a")]
pub struct PsArgs {
    /// Those that are not mounted too.
    #[arg(short, long)]
    all: bool,

    /// Only ids.
    #[arg(short, long)]
    quiet: bool,

    /// Don't shorten anything.
    #[arg(long)]
    no_trunc: bool,

    /// How to show them.
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,
}

impl PsArgs {
    pub fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let store = &context.store;
        let mut rows = Vec::new();
        for container in store.containers()? {
            let row = self.row(store, &container)?;
            if self.all || row.get("State") == Some(&json!("running")) {
                rows.push(row);
            }
        }
        if self.quiet {
            for row in &rows {
                print_line(row.get("ID").and_then(Value::as_str).unwrap_or_default())?;
            }
            return Ok(ExitCode::SUCCESS);
        }
        let columns = [
            ("CONTAINER ID", "ID"),
            ("IMAGE", "Image"),
            ("COMMAND", "Command"),
            ("CREATED", "RunningFor"),
            ("STATUS", "Status"),
            ("MOUNTPOINT", "Mountpoint"),
            ("NAMES", "Names"),
        ];
        print(&show(
            &Format::of(self.format.as_deref())?,
            &columns,
            &rows,
        )?)?;
        Ok(ExitCode::SUCCESS)
    }

    fn row(&self, store: &Store, container: &Container) -> Result<Value, Failure> {
        let mounted = container.mounted_at(store)?;
        let ago = |text: &str| age(seconds_since(text));
        let status = mounted.as_ref().map_or_else(
            || "Created".to_owned(),
            |m| format!("Up {}", ago(&m.since).trim_end_matches(" ago")),
        );
        // The image of a container stays, so its command is there; a damaged store shows none.
        let config = store
            .image_of_container(container)
            .map(|i| i.config.config)
            .unwrap_or_default();
        let words = config.entrypoint.into_iter().chain(config.cmd).flatten();
        let command = words.collect::<Vec<_>>().join(" ");
        let command = if self.no_trunc {
            command
        } else {
            ellipsis(&command, 20)
        };
        let id = if self.no_trunc {
            &container.id
        } else {
            container.short_id()
        };
        Ok(json!({
            "Command": format!("\"{command}\""),
            "CreatedAt": container.created,
            "ID": id,
            "Image": container.image_name,
            "Mountpoint": mounted.as_ref().map_or(String::new(), |m| m.mountpoint.display().to_string()),
            "Names": container.name,
            "RunningFor": ago(&container.created),
            "State": if mounted.is_some() { "running" } else { "created" },
            "Status": status,
        }))
    }
}

/// Whole seconds since a time; 0 for what is none.
pub(super) fn seconds_since(text: &str) -> i64 {
    time::parse(text).map_or(0, |t| jiff::Timestamp::now().as_second() - t.as_second())
}

/// Remove containers, with what was changed in them.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  strata rm -f web")]
pub struct RmArgs {
    /// Unmount those that are mounted.
    #[arg(short, long)]
    force: bool,

    /// The containers, by name or id.
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl RmArgs {
    pub fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let store = &context.store;
        Ok(each(&self.containers, |name| {
            let container = store.container(name)?;
            if self.force && container.mounted_at(store)?.is_some() {
                umount(store, &container.id, Umount::Idle)?;
                // A container made with --rm has gone by itself.
                if store.container(&container.id).is_err() {
                    return print_line(name);
                }
            }
            store.remove_container(&container)?;
            print_line(name)
        }))
    }
}
