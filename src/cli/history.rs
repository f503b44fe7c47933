//! `strata history`

use std::process::ExitCode;

use serde_json::{Value, json};

use super::format::{Column, Format, Listing, age, ellipsis, size};
use super::ps::seconds_since;
use super::{Context, print, print_line};
use crate::error::Failure;
use crate::store::history::HistoryEntry;

/// Show how an image came about, the newest step first.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  strata history nginx\n  strata history --no-trunc nginx\n  \
    strata history -H=false --format 'table {{.CreatedAt}}\\t{{.Size}}\\t{{.Layer}}' nginx\n\n\
    Members for --format: .ID .CreatedSince .CreatedAt .CreatedBy .Size .Comment (Docker's), and \
    .Layer (the diffID of the layer that the step made; empty for a step that made none)."
)]
pub struct Args {
    /// Only ids.
    #[arg(short, long)]
    quiet: bool,

    /// Sizes and dates for people.
    #[arg(short = 'H', long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1,
        default_missing_value = "true", require_equals = true, value_name = "BOOL")]
    human: bool,

    /// Don't shorten anything.
    #[arg(long)]
    no_trunc: bool,

    /// How to show it: table, json, a Go template, or "table TEMPLATE".
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,

    /// The image, by name or id.
    image: String,
}

const OTHERS: [Column; 3] = [
    ("CREATED", "CreatedSince"),
    ("CREATED AT", "CreatedAt"),
    ("LAYER", "Layer"),
];

impl Args {
    pub fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let format = Format::of(self.format.as_deref())?;
        let image = context.store.find(&self.image)?;
        let entries = context.store.history(&image)?;
        if self.quiet {
            for entry in &entries {
                print_line(self.id(entry))?;
            }
            return Ok(ExitCode::SUCCESS);
        }
        let rows: Vec<_> = entries.iter().map(|entry| self.row(entry)).collect();
        let created = if self.human {
            ("CREATED", "CreatedSince")
        } else {
            ("CREATED AT", "CreatedAt")
        };
        let columns = [
            ("IMAGE", "ID"),
            created,
            ("CREATED BY", "CreatedBy"),
            ("SIZE", "Size"),
            ("COMMENT", "Comment"),
        ];
        let listing = Listing {
            columns: &columns,
            others: &OTHERS,
        };
        print(&listing.show(&format, &rows)?)?;
        Ok(ExitCode::SUCCESS)
    }

    fn id(&self, entry: &HistoryEntry) -> String {
        match (entry.image, self.no_trunc) {
            (None, _) => "<missing>".into(),
            (Some(id), true) => id.to_string(),
            (Some(id), false) => id.short(),
        }
    }

    fn row(&self, entry: &HistoryEntry) -> Value {
        let by = entry.created_by.replace(['\t', '\n'], " ");
        let created = entry.created.as_deref();
        let since = created.map_or_else(|| "N/A".to_owned(), |c| age(seconds_since(c)));
        json!({
            "Comment": entry.comment,
            "CreatedAt": created.unwrap_or("N/A"),
            "CreatedBy": if self.no_trunc { by } else { ellipsis(&by, 45) },
            "CreatedSince": since,
            "ID": self.id(entry),
            "Layer": entry.layer.map_or_else(String::new, |layer| layer.to_string()),
            "Size": if self.human { size(entry.size) } else { entry.size.to_string() },
        })
    }
}
