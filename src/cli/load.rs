//! `strata load`

use std::path::PathBuf;
use std::process::ExitCode;

use super::{Context, print_line, progress};
use crate::archive::load::{LoadOptions, load};
use crate::archive::transport::Source;
use crate::error::Failure;
use crate::image::Platform;

/// Load images that docker, podman, skopeo or buildah saved.
///
/// Reads docker-archives, OCI archives and OCI layouts, compressed or not; whichever it is. Every
/// byte is verified, and nothing is kept of an archive in which something is wrong.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  docker save nginx | strata load\n  strata load -i image.tar.gz\n  \
    strata load oci:layout:v1"
)]
pub struct Args {
    /// Read this archive or layout directory; - is standard input.
    #[arg(short, long, value_name = "FILE", conflicts_with = "source")]
    input: Option<PathBuf>,

    /// Of images that are there for several platforms, those for this one.
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<String>,

    /// Say only what was loaded.
    #[arg(short, long)]
    quiet: bool,

    /// FILE, DIR, oci:DIR[:TAG], oci-archive:FILE[:TAG] or docker-archive:FILE[:NAME] [default: -].
    source: Option<String>,
}

impl Args {
    pub fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let source = match (self.input, self.source) {
            (Some(path), _) if path.as_os_str() == "-" => Source::Stdin,
            (Some(path), _) => Source::Path(path),
            (None, Some(text)) => match Source::parse(&text)? {
                Some(source) => source,
                None => Source::Path(text.into()),
            },
            (None, None) => Source::Stdin,
        };
        let bars = progress::bars(self.quiet);
        let loaded = load(
            &context.store,
            &source,
            &LoadOptions {
                platform: self.platform.as_deref().map(Platform::parse).transpose()?,
                ..LoadOptions::default()
            },
            bars.as_ref(),
        )?;
        drop(bars);
        for image in loaded {
            for name in &image.names {
                print_line(format_args!("Loaded image: {}", name.familiar()))?;
            }
            if image.names.is_empty() {
                print_line(format_args!("Loaded image ID: {}", image.id))?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
