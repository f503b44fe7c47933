//! `strata diff`

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::process::ExitCode;

use super::{Context, difference, progress};
use crate::error::Failure;
use crate::mount::live::diff_container;

/// List what a container changed, or how two images differ: A added, C changed, D deleted.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Two images, containers, layers (IMAGE@N), archives, or paths in them \
    (IMAGE:PATH) are compared by their trees and their configurations; a file is read only where the \
    indexes can't tell.\n\nExit status of a comparison: 0 the same, 1 different, 2 it failed.\n\n\
    Examples:\n  strata diff web\n  strata diff nginx:1.26 nginx:1.27\n  \
    strata diff --content nginx:1.26:/etc nginx:1.27:/etc"
)]
pub struct Args {
    /// The container, by name or id; with a second argument: what to compare.
    container: OsString,

    /// What to compare it with.
    #[arg(value_name = "OTHER")]
    other: Option<OsString>,

    #[command(flatten)]
    options: difference::Options,
}

impl Args {
    pub fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        match &self.other {
            Some(other) => Ok(difference::run(
                context,
                &self.container,
                other,
                &self.options,
            )),
            None if self.options.given() => Err(Failure::usage(
                "--content, --stat, --ignore and --format compare two images: name the second one",
            )),
            None => of_container(context, &self.container),
        }
    }
}

/// Docker's list of what a container changed.
fn of_container(context: &Context, container: &OsStr) -> Result<ExitCode, Failure> {
    let container = context.store.container(&container.to_string_lossy())?;
    let lines = diff_container(&context.store, &container, progress::bars(true).as_ref())?;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for line in lines {
        // Names are bytes; what a terminal would act on is escaped.
        writeln!(out, "{} {}", line.letter, super::bytes::shown(&line.path))?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}
