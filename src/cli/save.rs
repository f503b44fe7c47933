//! `strata save`

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use super::commit::{CompressionArg, setting};
use super::{Context, progress};
use crate::archive::save::{SaveFormat, SaveOptions, save, save_dir, save_file};
use crate::error::Failure;
use crate::image::Platform;

/// Save images to an archive, or to an OCI layout.
///
/// The default archive is for docker load, podman load and skopeo alike: a docker-archive that is
/// an OCI layout too. Layers are saved as they are in the store; docker-archives have no zstd, so
/// layers compressed with it are rewritten for them.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  strata save -o app.tar app:1 app:2\n  strata save app | docker load\n  \
    strata save --format oci-dir -o layout app\n  \
    strata save --format oci-archive --compression zstd --compression-level 19 -o app.tar app\n  \
    strata save --format oci-archive --since app:1 -o update.tar app:2"
)]
pub struct Args {
    /// Write to this file or directory; without it, to standard output.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// What to write.
    #[arg(long, value_enum, default_value = "docker-archive")]
    format: FormatArg,

    /// Compress layers like this; without it, they stay as they are.
    #[arg(long, value_enum)]
    compression: Option<CompressionArg>,

    /// How hard to compress: gzip 1 to 9, zstd 1 to 22.
    #[arg(long, value_name = "LEVEL", requires = "compression")]
    compression_level: Option<i32>,

    /// Of images that are there for several platforms, those for this one.
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<String>,

    /// Leave out the layers of this image: for those who have it.
    #[arg(long, value_name = "IMAGE")]
    since: Option<String>,

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
        let compression = self.compression.map(|c| setting(c, self.compression_level));
        let options = SaveOptions {
            format: match self.format {
                FormatArg::DockerArchive => SaveFormat::DockerArchive,
                FormatArg::OciArchive => SaveFormat::OciArchive,
                FormatArg::OciDir => SaveFormat::OciDir,
            },
            compression: compression.transpose()?,
            platform: self.platform.as_deref().map(Platform::parse).transpose()?,
            since: self.since,
        };
        let saved = match (self.format, &self.output) {
            (FormatArg::OciDir, Some(dir)) => {
                save_dir(store, &self.images, &options, dir, bars.as_ref())?
            }
            (FormatArg::OciDir, None) => {
                return Err(Failure::usage("an OCI layout directory needs -o DIR"));
            }
            (_, Some(file)) => save_file(store, &self.images, &options, file, bars.as_ref())?,
            (_, None) => {
                let mut out = std::io::stdout().lock();
                if out.is_terminal() {
                    return Err(Failure::usage(
                        "cowardly refusing to save to a terminal. Use the -o flag or redirect",
                    ));
                }
                save(store, &self.images, &options, &mut out, bars.as_ref())?
            }
        };
        drop(bars);
        if !saved.left_out.is_empty() {
            eprintln!(
                "strata: {} layers are left out; whoever loads it needs them",
                saved.left_out.len()
            );
        }
        if !saved.rewritten.is_empty() && options.compression.is_none() {
            eprintln!(
                "strata: {} zstd layers were rewritten with gzip for the docker-archive; their \
                 digests differ (--format oci-archive keeps them)",
                saved.rewritten.len()
            );
        }
        Ok(ExitCode::SUCCESS)
    }
}
