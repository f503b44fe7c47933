//! `strata man` (hidden): manual pages of the same definitions as the help.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::error::{Context as _, Failure};

/// Write a manual page for each command into a directory.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  strata man /usr/local/share/man/man1")]
pub struct Args {
    /// The directory, which is made if it isn't there.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

impl Args {
    pub fn run(self, command: clap::Command) -> Result<ExitCode, Failure> {
        let about = || format!("write manual pages to {}", self.dir.display());
        std::fs::create_dir_all(&self.dir).context(about)?;
        clap_mangen::generate_to(command, &self.dir).context(about)?;
        Ok(ExitCode::SUCCESS)
    }
}
