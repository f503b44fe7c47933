//! `strata history`

use std::process::ExitCode;

use serde_json::{Value, json};

use super::containers::seconds_since;
use super::format::{Format, age, ellipsis, show, size};
use super::{Context, print, print_line};
use crate::error::Failure;
use crate::image::history::{HistoryRow, rows};

/// Show how an image came about, the newest step first.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  strata history --no-trunc nginx")]
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

    /// How to show it.
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,

    /// The image, by name or id.
    image: String,
}

impl Args {
    pub fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let image = context.store.find(&self.image)?;
        let id = if self.no_trunc {
            image.id.to_string()
        } else {
            image.id.short()
        };
        let ids = std::iter::once(id.as_str()).chain(std::iter::repeat("<missing>"));
        let mut shown = Vec::new();
        for (row, id) in rows(&image.config).iter().zip(ids) {
            shown.push(self.row(context, row, id)?);
        }
        if self.quiet {
            for row in &shown {
                print_line(row.get("ID").and_then(Value::as_str).unwrap_or_default())?;
            }
            return Ok(ExitCode::SUCCESS);
        }
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
        print(&show(
            &Format::of(self.format.as_deref())?,
            &columns,
            &shown,
        )?)?;
        Ok(ExitCode::SUCCESS)
    }

    fn row(&self, context: &Context, row: &HistoryRow<'_>, id: &str) -> Result<Value, Failure> {
        let bytes = match &row.layer {
            Some(layer) => context
                .store
                .layer(layer)?
                .map_or(0, |info| info.content_size),
            None => 0,
        };
        let by = row.created_by.replace(['\t', '\n'], " ");
        Ok(json!({
            "Comment": row.comment,
            "CreatedAt": row.created.unwrap_or("N/A"),
            "CreatedBy": if self.no_trunc { by } else { ellipsis(&by, 45) },
            "CreatedSince": row.created.map_or_else(|| "N/A".to_owned(), |c| age(seconds_since(c))),
            "ID": id,
            "Size": if self.human { size(bytes) } else { bytes.to_string() },
        }))
    }
}
