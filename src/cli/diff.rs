//! `strata diff`

use std::io::Write;
use std::process::ExitCode;

use super::{Context, progress};
use crate::error::Failure;
use crate::mount::live::diff_container;

/// List what a container changed: A added, C changed, D deleted.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  strata diff web")]
pub struct Args {
    /// The container, by name or id.
    container: String,
}

impl Args {
    pub fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let container = context.store.container(&self.container)?;
        let lines = diff_container(&context.store, &container, progress::bars(true).as_ref())?;
        let mut out = std::io::BufWriter::new(std::io::stdout().lock());
        for line in lines {
            // Names are bytes; what a terminal would act on is escaped.
            let shown = match std::str::from_utf8(&line.path) {
                Ok(text) => super::format::printable(text),
                Err(_) => line.path.escape_ascii().to_string(),
            };
            writeln!(out, "{} {shown}", line.letter)?;
        }
        out.flush()?;
        Ok(ExitCode::SUCCESS)
    }
}
