//! `strata sum`

use std::ffi::OsString;
use std::io::{BufWriter, Write};
use std::process::ExitCode;

use serde_json::{Map, Value};

use super::format::{Format, show};
use super::look::{NAMES_HELP, bytes_into, open};
use super::{Context, complain, print, progress};
use crate::error::Failure;
use crate::inspect::path::Last;
use crate::inspect::sum::{Summed, sums};

/// Print the sha256 of files of images, as sha256sum(1) does.
#[derive(Debug, clap::Args)]
#[command(after_help = format!(
    "A directory stands for all regular files below it.\n\n{NAMES_HELP}\n\n\
     Example:\n  strata sum nginx:/usr/sbin"
))]
pub struct Args {
    /// json, or a template for each file.
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,

    /// Files and directories.
    #[arg(required = true, value_name = "IMAGE[:PATH]")]
    names: Vec<OsString>,
}

impl Args {
    pub fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let format = Format::of(self.format.as_deref())?;
        let mut code = ExitCode::SUCCESS;
        for name in &self.names {
            match self.one(context, name) {
                Ok(found) => put(&format, &found)?,
                Err(failure) => {
                    complain(&failure);
                    code = ExitCode::FAILURE;
                }
            }
        }
        Ok(code)
    }

    fn one(&self, context: &Context, name: &OsString) -> Result<Vec<Summed>, Failure> {
        let (target, image) = open(context, name)?;
        let tree = image.tree()?;
        let about = |e: Failure| e.context(image.name.escape_debug());
        let found = tree.find(target.path(), Last::Follow).map_err(about)?;
        if !found.object.is_dir() && !found.object.is_file() {
            let path = target.path().escape_ascii();
            let why = format!("{path}: it is no regular file and no directory");
            return Err(about(Failure::invalid(why)));
        }
        let bars = progress::bars(false);
        sums(&tree, target.path(), found.object, bars.as_ref()).map_err(about)
    }
}

fn put(format: &Format, found: &[Summed]) -> Result<(), Failure> {
    if matches!(format, Format::Table) {
        let mut out = BufWriter::new(std::io::stdout().lock());
        for file in found {
            out.write_all(&line(file))?;
        }
        return Ok(out.flush()?);
    }
    let rows: Vec<Value> = found
        .iter()
        .map(|file| {
            let mut row = Map::new();
            bytes_into(&mut row, "Path", &file.path);
            row.insert("SHA256".into(), file.digest.hex().into());
            row.insert("Size".into(), file.size.into());
            Value::Object(row)
        })
        .collect();
    print(&show(format, &[("PATH", "Path")], &rows)?)
}

/// sha256sum's line: a backslash before it says that the name has escapes. It escapes what would
/// break lines; other control characters are left as they are in files, so that `sha256sum -c` reads
/// them, and don't reach a terminal.
fn line(file: &Summed) -> Vec<u8> {
    use std::io::IsTerminal as _;
    let mut name = Vec::with_capacity(file.path.len());
    let mut escaped = false;
    for byte in &file.path {
        let as_escape: &[u8] = match byte {
            b'\\' => b"\\\\",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            byte => {
                name.push(*byte);
                continue;
            }
        };
        escaped = true;
        name.extend_from_slice(as_escape);
    }
    if std::io::stdout().is_terminal() {
        let text = String::from_utf8_lossy(&name);
        name = super::format::printable(&text).into_bytes();
    }
    let mut line = Vec::new();
    if escaped {
        line.push(b'\\');
    }
    line.extend_from_slice(file.digest.hex().as_bytes());
    line.extend_from_slice(b"  ");
    line.append(&mut name);
    line.push(b'\n');
    line
}
