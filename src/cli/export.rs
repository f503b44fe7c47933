//! `strata export`

use std::io::{BufWriter, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use super::{Context, progress};
use crate::archive::save::write_file;
use crate::error::Failure;
use crate::mount::cp::export_container;

/// Write a container's whole tree as a tar.
///
/// It is read from the layers, whether the container is mounted or not; writers wait meanwhile. The
/// same tree gives the same bytes.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  strata export -o web.tar web\n  strata export web | tar tv\n  \
    strata export web | strata import - web:flat"
)]
pub struct Args {
    /// Write to this file; without it, or with -, to standard output.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// The container, by name or id.
    container: String,
}

impl Args {
    pub fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let store = &context.store;
        let container = store.container(&self.container)?;
        let bars = progress::bars(false);
        bars.begin("Exporting", None);
        let export = |out: &mut dyn Write| export_container(store, &container, out, bars.as_ref());
        let done = match self.output.filter(|path| path.as_os_str() != "-") {
            Some(path) => write_file(&path, export),
            None => {
                let out = std::io::stdout().lock();
                if out.is_terminal() {
                    return Err(Failure::usage(
                        "cowardly refusing to save to a terminal. Use the -o flag or redirect",
                    ));
                }
                let mut out = BufWriter::with_capacity(256 * 1024, out);
                export(&mut out).and_then(|()| Ok(out.flush()?))
            }
        };
        bars.end();
        done?;
        Ok(ExitCode::SUCCESS)
    }
}
