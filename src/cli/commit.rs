//! `strata commit`

use std::process::ExitCode;

use super::{Context, print_line, progress};
use crate::commit::CommitOptions;
use crate::content::compress::Setting;
use crate::error::Failure;
use crate::image::Compression;
use crate::mount::live::{Pause, commit_container};
use crate::store::containers::commit_name;

/// Make an image of a container's changes; prints its id.
///
/// The container may be mounted: its changes wait for the moment. The same changes with the same
/// SOURCE_DATE_EPOCH give the same image.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  strata commit web nginx:mine\n  \
    strata commit --squash web nginx:flat\n  strata commit -m 'new page' -a 'A <a@b.c>' -c 'CMD [\"nginx\", \"-g\", \"daemon off;\"]' web nginx:mine")]
pub struct Args {
    /// Who makes the image.
    #[arg(short, long)]
    author: Option<String>,

    /// A comment for the history.
    #[arg(short, long)]
    message: Option<String>,

    /// Apply an instruction: CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL,
    /// USER, VOLUME or WORKDIR.
    #[arg(short, long = "change", value_name = "INSTRUCTION")]
    changes: Vec<String>,

    /// Keep writers waiting while the container is read.
    #[arg(short, long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1,
        default_missing_value = "true", require_equals = true, value_name = "BOOL")]
    pause: bool,

    /// How to compress the layer.
    #[arg(long, value_enum, default_value = "gzip")]
    compression: CompressionArg,

    /// How hard to compress: gzip 1 to 9, zstd 1 to 22.
    #[arg(long, value_name = "LEVEL")]
    compression_level: Option<i32>,

    /// Make one layer of the changes and the image's N uppermost layers; of all without N.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "all",
        value_name = "N")]
    squash: Option<String>,

    /// The container, by name or id.
    container: String,

    /// The new image's name.
    #[arg(value_name = "NAME[:TAG]")]
    name: Option<String>,
}

/// How many layers `--squash` means.
fn layers(text: &str) -> Result<usize, Failure> {
    match text {
        "all" => Ok(usize::MAX),
        _ => text.parse().map_err(|_| {
            Failure::usage(format!(
                "--squash={}: want a number of layers",
                text.escape_debug()
            ))
        }),
    }
}

/// A compression as the command line says it.
pub(super) fn setting(how: CompressionArg, level: Option<i32>) -> Result<Setting, Failure> {
    let compression = match how {
        CompressionArg::Gzip => Compression::Gzip,
        CompressionArg::Zstd => Compression::Zstd,
        CompressionArg::None => Compression::None,
    };
    Setting::new(compression, level)
}

/// How layers are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum CompressionArg {
    /// Understood by everything.
    Gzip,
    /// Faster and smaller.
    Zstd,
    /// Fastest.
    None,
}

impl Args {
    pub fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let store = &context.store;
        let container = store.container(&self.container)?;
        let options = CommitOptions {
            author: self.author,
            message: self.message,
            changes: self.changes,
            compression: Some(setting(self.compression, self.compression_level)?),
            squash: self.squash.as_deref().map(layers).transpose()?,
            name: self.name.as_deref().map(commit_name).transpose()?,
            ..CommitOptions::default()
        };
        let pause = if self.pause { Pause::Yes } else { Pause::No };
        let bars = progress::bars(false);
        let id = commit_container(store, &container, &options, pause, bars.as_ref())?;
        drop(bars);
        print_line(id)?;
        Ok(ExitCode::SUCCESS)
    }
}
