//! `strata save`

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use super::{Context, progress};
use crate::archive::save::{SaveFormat, save, save_dir, save_file};
use crate::error::Failure;

/// Save images to an archive, or to an OCI layout.
///
/// The default archive is for docker load, podman load and skopeo alike: a docker-archive that is
/// an OCI layout too. Layers are saved as they are in the store; docker-archives have no zstd, so
/// layers compressed with it are rewritten for them.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  strata save -o app.tar app:1 app:2\n  strata save app | docker load\n  \
    strata save --format oci-dir -o layout app"
)]
pub struct Args {
    /// Write to this file or directory; without it, to standard output.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// What to write.
    #[arg(long, value_enum, default_value = "docker-archive")]
    format: FormatArg,

    /// Show no progress.
    #[arg(short, long)]
    quiet: bool,

    /// The images, by name or id.
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum FormatArg {
    /// For docker load and everything else.
    DockerArchive,
    /// An OCI layout in a tar.
    OciArchive,
    /// An OCI layout in a directory.
    OciDir,
}

impl Args {
    pub fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let store = &context.store;
        let bars = progress::bars(self.quiet);
        let format = match self.format {
            FormatArg::DockerArchive => SaveFormat::DockerArchive,
            FormatArg::OciArchive | FormatArg::OciDir => SaveFormat::OciArchive,
        };
        let saved = match (self.format, &self.output) {
            (FormatArg::OciDir, Some(dir)) => save_dir(store, &self.images, dir, bars.as_ref())?,
            (FormatArg::OciDir, None) => {
                return Err(Failure::usage("an OCI layout directory needs -o DIR"));
            }
            (_, Some(file)) => save_file(store, &self.images, format, file, bars.as_ref())?,
            (_, None) => {
                let mut out = std::io::stdout().lock();
                if out.is_terminal() {
                    return Err(Failure::usage(
                        "cowardly refusing to save to a terminal. Use the -o flag or redirect",
                    ));
                }
                save(store, &self.images, format, &mut out, bars.as_ref())?
            }
        };
        drop(bars);
        if !saved.rewritten.is_empty() {
            eprintln!(
                "strata: {} zstd layers were rewritten with gzip for the docker-archive; their \
                 digests differ (--format oci-archive keeps them)",
                saved.rewritten.len()
            );
        }
        Ok(ExitCode::SUCCESS)
    }
}
