//! `strata cat`

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use super::look::{NAMES_HELP, open};
use super::{Context, complain};
use crate::error::Failure;
use crate::inspect::data::ContentReader;
use crate::inspect::path::Last;

/// Print files of images.
#[derive(Debug, clap::Args)]
#[command(after_help = format!("{NAMES_HELP}\n\nExample:\n  strata cat nginx:/etc/os-release"))]
pub struct Args {
    /// The files.
    #[arg(required = true, value_name = "IMAGE:PATH")]
    names: Vec<OsString>,
}

impl Args {
    pub fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let mut code = ExitCode::SUCCESS;
        for name in &self.names {
            if let Err(failure) = cat(context, name) {
                complain(&failure);
                code = ExitCode::FAILURE;
            }
        }
        Ok(code)
    }
}

fn cat(context: &Context, name: &OsString) -> Result<(), Failure> {
    let (target, image) = open(context, name)?;
    let tree = image.tree()?;
    let about = |e: Failure| e.context(image.name.escape_debug());
    let found = tree.find(target.path(), Last::Follow).map_err(about)?;
    let said = |why: &str| {
        let path = target.path().escape_ascii();
        about(Failure::invalid(format!("{path}: {why}")))
    };
    if found.object.is_dir() {
        return Err(said("it is a directory"));
    }
    if let Some(below) = tree.link_target(&found.object)? {
        let below = below.escape_ascii();
        return Err(said(&format!(
            "a hard link to /{below} of a layer below: ask for the stack (IMAGE@..N)"
        )));
    }
    if !found.object.is_file() {
        return Err(said("it is no regular file"));
    }
    let mut reader = ContentReader::new(tree.open(&found.object)?);
    let mut out = std::io::stdout().lock();
    let mut buffer = vec![0; 256 << 10];
    loop {
        let n = std::io::Read::read(&mut reader, &mut buffer)?;
        if n == 0 {
            return Ok(out.flush()?);
        }
        out.write_all(buffer.get(..n).unwrap_or_default())?;
    }
}
