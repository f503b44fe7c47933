//! `strata layers`

use std::ffi::OsString;
use std::io::{BufWriter, Write};
use std::process::ExitCode;

use serde_json::{Map, Value, json};

use super::format::{Column, Format, ellipsis, show, size};
use super::look::{NAMES_HELP, Names, bytes_into, open};
use super::{Context, print};
use crate::error::Failure;
use crate::image::Digest;
use crate::inspect::{Counts, Did, Image, LayerChange, LayerFacts, Stack};

/// List the layers of an image, or what one of them changed.
#[derive(Debug, clap::Args)]
#[command(after_help = format!(
    "Without a number: each layer from the bottom, with how many files and directories it added, \
     changed\nand removed (with what was in them). With one: its changes, A added, C changed, D \
     deleted.\n\n{NAMES_HELP}\n\nExamples:\n  strata layers nginx\n  strata layers nginx 3"
))]
pub struct Args {
    /// Don't shorten anything.
    #[arg(long)]
    no_trunc: bool,

    /// json, or a template for each layer or change.
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,

    /// The image.
    #[arg(value_name = "IMAGE")]
    name: OsString,

    /// A layer, 1 is the bottom one.
    #[arg(value_name = "N")]
    number: Option<usize>,
}

const COLUMNS: [Column; 9] = [
    ("LAYER", "Layer"),
    ("CREATED BY", "CreatedBy"),
    ("DIGEST", "Digest"),
    ("DIFF ID", "DiffID"),
    ("SIZE", "Size"),
    ("UNCOMPRESSED", "Uncompressed"),
    ("ADDED", "Added"),
    ("CHANGED", "Changed"),
    ("REMOVED", "Removed"),
];

impl Args {
    pub fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let (target, image) = open(context, &self.name)?;
        if target.path.is_some() {
            return Err(Failure::usage("layers: name an image without a path"));
        }
        let format = Format::of(self.format.as_deref())?;
        let stack = Stack::of(&image)?;
        if let Some(number) = self.number {
            let place = image.layer(number)?.number - 1;
            return changes(&stack.changes(place)?, &format);
        }
        let mut rows = Vec::new();
        for layer in &image.layers {
            rows.push(self.row(&image, layer, &stack, &format)?);
        }
        print(&show(&format, &COLUMNS, &rows)?)?;
        Ok(ExitCode::SUCCESS)
    }

    fn row(
        &self,
        image: &Image,
        layer: &LayerFacts,
        stack: &Stack,
        format: &Format,
    ) -> Result<Value, Failure> {
        let counts = Counts::of(&stack.changes(layer.number - 1)?);
        let info = &layer.info;
        let table = matches!(format, Format::Table | Format::Columns(_));
        let cut = table && !self.no_trunc;
        let digest = |digest: &Digest| match cut {
            true => digest.short(),
            false => digest.to_string(),
        };
        let bytes = |n: u64| match table {
            true => Value::from(size(n)),
            false => n.into(),
        };
        let by = layer.created_by().replace(['\n', '\t'], " ");
        let by = if cut { ellipsis(&by, 45) } else { by };
        let comment = layer.history.as_ref().and_then(|h| h.comment.as_deref());
        Ok(json!({
            "Image": image.name,
            "Layer": layer.number,
            "CreatedBy": by,
            "Comment": comment.unwrap_or_default(),
            "MediaType": info.media_type,
            "Digest": digest(&info.digest),
            "DiffID": digest(&info.diff_id.0),
            "Size": bytes(info.size),
            "Uncompressed": bytes(info.uncompressed_size),
            "Added": counts.added,
            "Changed": counts.changed,
            "Removed": counts.removed,
        }))
    }
}

fn changes(all: &[LayerChange], format: &Format) -> Result<ExitCode, Failure> {
    let listed = all
        .iter()
        .filter(|change| change.path != b"/")
        .filter_map(|change| Some((change.did.letter()?, change)));
    if matches!(format, Format::Table) {
        let names = Names::of_stdout();
        let mut out = BufWriter::new(std::io::stdout().lock());
        for (letter, change) in listed {
            write!(out, "{letter} ")?;
            out.write_all(&names.show(&change.path))?;
            out.write_all(b"\n")?;
        }
        out.flush()?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<Value> = listed
        .map(|(letter, change)| {
            let mut row = Map::new();
            row.insert("Kind".into(), letter.to_string().into());
            bytes_into(&mut row, "Path", &change.path);
            if let Did::Changed(differences) = change.did {
                row.insert("Changed".into(), differences.names().into());
            }
            row.insert("Size".into(), json!(change.object.map(|o| o.stat.size)));
            row.insert("Opaque".into(), change.opaque.into());
            row.insert("Gone".into(), change.gone.into());
            Value::Object(row)
        })
        .collect();
    print(&show(format, &[("PATH", "Path")], &rows)?)?;
    Ok(ExitCode::SUCCESS)
}
