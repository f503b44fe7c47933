//! `strata ps`

use std::process::ExitCode;

use serde_json::{Value, json};

use super::format::{Column, Format, Listing, age, ellipsis, size};
use super::{Context, print, print_line};
use crate::error::Failure;
use crate::image::time;
use crate::store::Store;
use crate::store::list::{ContainerFilters, Listed, Selection, State};

/// List containers: the mounted ones, or all.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  strata ps -a\n  strata ps -aq --filter label=team=web\n  \
    strata ps -as --filter ancestor=nginx\n  \
    strata ps --format 'table {{.Names}}\\t{{.Mountpoint}}'\n\nFilters: name=, id= (regular expressions), \
    label=KEY[=VALUE], status=created|running|exited, ancestor=IMAGE, before=CONTAINER, \
    since=CONTAINER, until=TIME."
)]
pub struct PsArgs {
    /// Those that are not mounted too.
    #[arg(short, long)]
    all: bool,

    /// Only ids.
    #[arg(short, long)]
    quiet: bool,

    /// Show sizes: of what was changed, and with the image below.
    #[arg(short, long)]
    size: bool,

    /// Only the newest N, mounted or not.
    #[arg(short = 'n', long, value_name = "N")]
    last: Option<usize>,

    /// Only the newest one, mounted or not.
    #[arg(short, long, conflicts_with = "last")]
    latest: bool,

    /// Only those that fit: name=, id=, label=, status=, ancestor=, before=, since= or until=.
    #[arg(short, long = "filter", value_name = "FILTER")]
    filters: Vec<String>,

    /// Don't shorten anything.
    #[arg(long)]
    no_trunc: bool,

    /// How to show them: table, json, a Go template, or "table TEMPLATE".
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,
}

/// What only a template shows.
const OTHERS: [Column; 9] = [
    ("CREATED AT", "CreatedAt"),
    ("LABELS", "Labels"),
    ("LOCAL VOLUMES", "LocalVolumes"),
    ("MOUNTS", "Mounts"),
    ("NETWORKS", "Networks"),
    ("PORTS", "Ports"),
    ("SIZE", "Size"),
    ("STATE", "State"),
    ("PLATFORM", "Platform"),
];

impl PsArgs {
    pub fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let store = &context.store;
        let format = Format::of(self.format.as_deref())?;
        let which = Selection {
            all: self.all,
            last: if self.latest { Some(1) } else { self.last },
            filters: ContainerFilters::parse(&self.filters)?,
        };
        let listed = store.list_containers(&which)?;
        if self.quiet {
            for item in &listed {
                print_line(self.id(item))?;
            }
            return Ok(ExitCode::SUCCESS);
        }
        let mut columns = vec![
            ("CONTAINER ID", "ID"),
            ("IMAGE", "Image"),
            ("COMMAND", "Command"),
            ("CREATED", "RunningFor"),
            ("STATUS", "Status"),
            ("MOUNTPOINT", "Mountpoint"),
            ("NAMES", "Names"),
        ];
        if self.size {
            columns.push(("SIZE", "Size"));
        }
        // Sizes are found by a walk: not where nobody sees them.
        let sizes =
            self.size || (format.mentions("Size") && self.format.as_deref() != Some("json"));
        let rows = listed.iter().map(|item| self.row(store, item, sizes));
        let rows = rows.collect::<Result<Vec<_>, _>>()?;
        let listing = Listing {
            columns: &columns,
            others: &OTHERS,
        };
        print(&listing.show(&format, &rows)?)?;
        Ok(ExitCode::SUCCESS)
    }

    fn id<'i>(&self, item: &'i Listed) -> &'i str {
        if self.no_trunc {
            &item.container.id
        } else {
            item.container.short_id()
        }
    }

    fn row(&self, store: &Store, item: &Listed, sizes: bool) -> Result<Value, Failure> {
        let container = &item.container;
        // The image of a container stays, so its command is there; a damaged store shows none.
        let image = store.image_of_container(container).ok();
        let config = image.as_ref().map(|i| i.config.config.clone());
        let platform = image
            .as_ref()
            .map(|i| (i.config.os.clone(), i.config.architecture.clone()));
        let platform = platform.unwrap_or_default();
        let config = container.own.over(&config.unwrap_or_default());
        let words = config.entrypoint.into_iter().chain(config.cmd).flatten();
        let command = command_line(words);
        let command = if self.no_trunc {
            command
        } else {
            ellipsis(&command, 20)
        };
        let labels = config.labels.iter().map(|(k, v)| format!("{k}={v}"));
        let sizes = if sizes {
            let own = store.writable_size(container)?;
            let below = image.map(|i| store.image_size(&i)).transpose()?;
            format!("{} (virtual {})", size(own), size(own + below.unwrap_or(0)))
        } else {
            "0B".into()
        };
        let mountpoint = item
            .state
            .mount()
            .map(|m| m.mountpoint.display().to_string());
        Ok(json!({
            "Command": format!("\"{command}\""),
            "CreatedAt": container.created,
            "ID": self.id(item),
            "Image": container.image_name,
            "Label": config.labels,
            "Labels": labels.collect::<Vec<_>>().join(","),
            "LocalVolumes": "0",
            "Mountpoint": mountpoint.unwrap_or_default(),
            "Mounts": "",
            "Names": container.name,
            "Networks": "",
            "Platform": format!("{}/{}", platform.0, platform.1),
            "Ports": "",
            "RunningFor": age(seconds_since(&container.created)),
            "Size": sizes,
            "State": item.state.word(),
            "Status": status(&item.state),
        }))
    }
}

/// A command as Docker shows it: arguments with spaces in them are quoted.
fn command_line(words: impl Iterator<Item = String>) -> String {
    let shown = words.enumerate().map(|(at, word)| {
        if at > 0 && word.contains(' ') {
            format!("'{word}'")
        } else {
            word
        }
    });
    shown.collect::<Vec<_>>().join(" ")
}

/// The state in Docker's words.
pub(super) fn status(state: &State) -> String {
    match state {
        State::Created => "Created".to_owned(),
        State::Mounted(record) => {
            let age = age(seconds_since(&record.since));
            format!("Up {}", age.trim_end_matches(" ago"))
        }
        State::Ended { at, killed } => {
            // As of a process that was killed (128 + SIGKILL).
            let code = if *killed { 137 } else { 0 };
            let seconds = jiff::Timestamp::now().as_second() - at.as_second();
            format!("Exited ({code}) {}", age(seconds))
        }
    }
}

/// Whole seconds since a time; 0 for what is none.
pub(super) fn seconds_since(text: &str) -> i64 {
    time::parse(text).map_or(0, |t| jiff::Timestamp::now().as_second() - t.as_second())
}
