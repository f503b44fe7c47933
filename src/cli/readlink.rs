//! `strata readlink`

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

use serde_json::{Map, Value};

use super::format::{Format, show};
use super::look::{NAMES_HELP, Names, bytes_into, open};
use super::{Context, complain, print};
use crate::error::Failure;
use crate::inspect::path::Last;
use crate::stat::FileType;

/// Print where symbolic links of images lead.
#[derive(Debug, clap::Args)]
#[command(after_help = format!(
    "{NAMES_HELP}\n\nExit status: 1 when one is no link.\n\nExample:\n  strata readlink -f debian:/bin/sh"
))]
pub struct Args {
    /// The path with all links followed, within the image; of the last name it need not be there.
    #[arg(short = 'f', long)]
    canonicalize: bool,

    /// json, or a template for each link.
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,

    /// The links.
    #[arg(required = true, value_name = "IMAGE:PATH")]
    names: Vec<OsString>,
}

impl Args {
    pub fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let mut code = ExitCode::SUCCESS;
        let format = Format::of(self.format.as_deref())?;
        for name in &self.names {
            match self.one(context, name) {
                Ok(Some(path)) => put(&format, name, &path)?,
                // As readlink(1): no link is no answer.
                Ok(None) => code = ExitCode::FAILURE,
                Err(failure) => {
                    complain(&failure);
                    code = ExitCode::FAILURE;
                }
            }
        }
        Ok(code)
    }

    fn one(&self, context: &Context, name: &OsString) -> Result<Option<Vec<u8>>, Failure> {
        let (target, image) = open(context, name)?;
        let tree = image.tree()?;
        let about = |e: Failure| e.context(image.name.escape_debug());
        if self.canonicalize {
            return tree.canonical(target.path()).map(Some).map_err(about);
        }
        let found = tree.find(target.path(), Last::Keep).map_err(about)?;
        match found.object.stat.kind {
            FileType::Symlink => Ok(Some(tree.read_link(&found.object)?)),
            _ => Ok(None),
        }
    }
}

fn put(format: &Format, name: &OsString, target: &[u8]) -> Result<(), Failure> {
    if matches!(format, Format::Table) {
        let mut line = Names::of_stdout().show(target);
        line.push(b'\n');
        return Ok(std::io::stdout().lock().write_all(&line)?);
    }
    let mut row = Map::new();
    bytes_into(&mut row, "Name", name.as_bytes());
    bytes_into(&mut row, "Target", target);
    print(&show(
        format,
        &[("TARGET", "Target")],
        &[Value::Object(row)],
    )?)
}
