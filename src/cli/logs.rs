//! `strata logs`

use std::process::ExitCode;

use super::format::printable;
use super::{Context, print_line};
use crate::error::Failure;
use crate::image::time;
use crate::mount::logs::{LogEntry, LogQuery, follow, read};

/// Show what the daemons of a container's mounts have logged.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  strata logs web\n  strata logs -f -n 10 web\n  \
    strata logs --since 10m --format json web\n\nstrata --log-level debug mount … has more logged."
)]
pub struct Args {
    /// Go on as long as the container is mounted.
    #[arg(short, long)]
    follow: bool,

    /// Only the last N; all is all.
    #[arg(short = 'n', long, default_value = "all", value_name = "N")]
    tail: String,

    /// Only what is as new as this: a time, or how long ago, such as 10m.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,

    /// Only what is older than this.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,

    /// How to show it.
    #[arg(long, value_enum, default_value = "text")]
    format: Form,

    /// The container, by name or id.
    container: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    /// Time, level, message and fields on a line.
    Text,
    /// One JSON object a line.
    Json,
}

impl Args {
    pub fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let store = &context.store;
        let container = store.container(&self.container)?;
        let last = match self.tail.as_str() {
            "all" => None,
            count => Some(count.parse().map_err(|_| {
                Failure::usage(format!(
                    "--tail {}: want a number, or all",
                    count.escape_debug()
                ))
            })?),
        };
        let query = LogQuery {
            last,
            since: self.since.as_deref().map(time::parse_moment).transpose()?,
            until: self.until.as_deref().map(time::parse_moment).transpose()?,
        };
        let mut show = |entry: &LogEntry| print_line(self.shown(entry)?);
        if self.follow {
            follow(store, &container, &query, &mut show)?;
        } else {
            read(store, &container, &query)?.iter().try_for_each(show)?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn shown(&self, entry: &LogEntry) -> Result<String, Failure> {
        Ok(match self.format {
            Form::Json => {
                serde_json::to_string(entry).map_err(|e| Failure::system(e.to_string()))?
            }
            Form::Text => printable(&entry.to_string()),
        })
    }
}
