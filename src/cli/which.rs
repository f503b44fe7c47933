//! `strata which`

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

use serde_json::{Map, Value, json};

use super::format::{Column, Format, ellipsis, show, size};
use super::look::{NAMES_HELP, bytes_into, open, quoted};
use super::{Context, complain, print};
use crate::error::Failure;
use crate::inspect::Image;
use crate::inspect::changes::Did;
use crate::inspect::which::{Mention, which};

/// Show which layers have a path, and what each did to it.
#[derive(Debug, clap::Args)]
#[command(after_help = format!(
    "From the top layer down: added, changed (content, mode, owner, times, xattrs), written again \
     without a\ndifference, removed.\n\nExit status: 1 when no layer has it.\n\n{NAMES_HELP}\n\n\
     Example:\n  strata which nginx /etc/passwd"
))]
pub struct Args {
    /// Don't shorten anything.
    #[arg(long)]
    no_trunc: bool,

    /// json, or a template for each layer.
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,

    /// The image.
    #[arg(value_name = "IMAGE")]
    name: OsString,

    /// The path in it.
    #[arg(value_name = "PATH")]
    path: Option<OsString>,
}

const COLUMNS: [Column; 4] = [
    ("LAYER", "Layer"),
    ("DID", "Did"),
    ("SIZE", "Size"),
    ("CREATED BY", "CreatedBy"),
];

impl Args {
    pub fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let (target, image) = open(context, &self.name)?;
        let path = match (&self.path, target.path) {
            (Some(path), None) => path.as_bytes().to_vec(),
            (None, Some(path)) => path,
            _ => return Err(Failure::usage("which: name one path")),
        };
        let format = Format::of(self.format.as_deref())?;
        let history = which(&image, &path)?;
        if history.mentions.is_empty() {
            let path = path.escape_ascii();
            let why = format!("{path}: no layer has it");
            complain(&Failure::not_found(why).context(image.name.escape_debug()));
            return Ok(ExitCode::FAILURE);
        }
        let mut rows = Vec::new();
        for mention in &history.mentions {
            rows.push(self.row(&image, &history.path, mention, &format));
        }
        print(&show(&format, &COLUMNS, &rows)?)?;
        Ok(ExitCode::SUCCESS)
    }

    fn row(&self, image: &Image, path: &[u8], mention: &Mention, format: &Format) -> Value {
        let table = matches!(format, Format::Table | Format::Columns(_));
        let layer = mention.layer.and_then(|number| image.layer(number).ok());
        let by = match layer {
            Some(layer) => layer.created_by().replace(['\n', '\t'], " "),
            None => String::new(),
        };
        let by = match table && !self.no_trunc {
            true => ellipsis(&by, 60),
            false => by,
        };
        let did = mention.in_words(&quoted);
        let did = String::from_utf8_lossy(&did).into_owned();
        let length = mention.object.map(|object| object.stat.size);
        let mut row = Map::new();
        let number = match mention.layer {
            Some(number) => Value::from(number),
            None => "container".into(),
        };
        row.insert("Layer".into(), number);
        row.insert("Did".into(), did.into());
        let shown = match (length, table) {
            (Some(length), true) => size(length).into(),
            (None, true) => "-".into(),
            (length, false) => json!(length),
        };
        row.insert("Size".into(), shown);
        row.insert("CreatedBy".into(), by.into());
        bytes_into(&mut row, "Path", path);
        row.insert("Removed".into(), (mention.did == Did::Removed).into());
        row.insert("Opaque".into(), mention.opaque.into());
        if let Did::Changed(differences) = mention.did {
            row.insert("Changed".into(), differences.names().into());
        }
        if let Some(layer) = layer {
            row.insert("DiffID".into(), json!(layer.info.diff_id));
            row.insert("Digest".into(), json!(layer.info.digest));
        }
        Value::Object(row)
    }
}
