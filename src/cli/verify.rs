//! `strata verify`

use std::process::ExitCode;

use super::format::{Format, Listing, size};
use super::{Context, print, print_line, progress};
use crate::error::Failure;
use crate::inspect::verify::{Damage, Mode, Scope, verify};

/// Check what the store has against its digests, and make again what can be.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Blobs are read and hashed; uncompressed copies, indexes and objects are \
    compared with what they were made from. --repair makes these again; a blob that is damaged has \
    to be loaded again.\n\nExit status: 0 all is well (now), 1 damage stays, or it failed.\n\n\
    Example:\n  strata verify --repair nginx"
)]
pub struct Args {
    /// Everything in the store: the default when no image is named.
    #[arg(long, conflicts_with = "images")]
    all: bool,

    /// Make again what is derived from something that is not damaged.
    #[arg(long)]
    repair: bool,

    /// How to show what is damaged: json, or a Go template.
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,

    /// Images, by name or id.
    #[arg(value_name = "IMAGE")]
    images: Vec<String>,
}

impl Args {
    pub fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let format = Format::of(self.format.as_deref())?;
        let scope = match self.all || self.images.is_empty() {
            true => Scope::All,
            false => Scope::Images(self.images),
        };
        let mode = match self.repair {
            true => Mode::Repair,
            false => Mode::Check,
        };
        let bars = progress::bars(false);
        let report = verify(&context.store, &scope, mode, bars.as_ref())?;
        match format {
            Format::Table => {
                for damage in &report.damage {
                    print_line(line(damage))?;
                }
                let (files, bytes) = (report.files, size(report.bytes));
                print_line(match report.damage.len() {
                    0 => format!("{files} files, {bytes}: no damage"),
                    n => format!("{files} files, {bytes}: {n} damaged"),
                })?;
                if mode == Mode::Check && report.damage.iter().any(|d| d.part.is_derived()) {
                    print_line("strata verify --repair makes again what is derived")?;
                }
            }
            format => {
                let rows: Vec<_> = report.damage.iter().map(row).collect();
                print(&LISTING.show(&format, &rows)?)?;
            }
        }
        Ok(match report.is_sound() {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        })
    }
}

const LISTING: Listing<'static> = Listing {
    columns: &[
        ("STATE", "State"),
        ("PART", "Part"),
        ("PATH", "Path"),
        ("WHY", "Why"),
        ("IMAGES", "Images"),
    ],
    others: &[],
};

fn state(damage: &Damage) -> &'static str {
    match damage.repaired {
        true => "repaired",
        false => "damaged",
    }
}

fn line(damage: &Damage) -> String {
    let images = match damage.images.is_empty() {
        true => String::new(),
        false => format!(" (of {})", damage.images.join(", ")),
    };
    super::format::printable(&format!(
        "{}: {} {}: {}{images}",
        state(damage),
        damage.part.word(),
        damage.path.display(),
        damage.why
    ))
}

fn row(damage: &Damage) -> serde_json::Value {
    serde_json::json!({
        "State": state(damage),
        "Part": damage.part.word(),
        "Path": damage.path.display().to_string(),
        "Why": damage.why,
        "Images": damage.images.join(", "),
    })
}
