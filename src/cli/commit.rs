//! `strata commit`

use std::process::ExitCode;

use super::{Context, print_line, progress};
use crate::commit::CommitOptions;
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
    strata commit -m 'new page' -a 'A <a@b.c>' -c 'CMD [\"nginx\", \"-g\", \"daemon off;\"]' web nginx:mine")]
pub struct Args {
    /// Who makes the image.
    #[arg(short, long)]
    author: Option<String>,

    /// A comment for the history.
    #[arg(short, long)]
    message: Option<String>,

    /// Apply an instruction: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, ONBUILD, STOPSIGNAL, USER,
    /// VOLUME or WORKDIR.
    #[arg(short, long = "change", value_name = "INSTRUCTION")]
    changes: Vec<String>,

    /// Keep writers waiting while the container is read.
    #[arg(short, long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1,
        default_missing_value = "true", require_equals = true, value_name = "BOOL")]
    pause: bool,

    /// How to compress the layer.
    #[arg(long, value_enum, default_value = "gzip")]
    compression: CompressionArg,

    /// The container, by name or id.
    container: String,

    /// The new image's name.
    #[arg(value_name = "NAME[:TAG]")]
    name: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum CompressionArg {
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
            compression: Some(match self.compression {
                CompressionArg::Gzip => Compression::Gzip,
                CompressionArg::Zstd => Compression::Zstd,
                CompressionArg::None => Compression::None,
            }),
            name: self.name.as_deref().map(commit_name).transpose()?,
            created: None,
        };
        let pause = if self.pause { Pause::Yes } else { Pause::No };
        let bars = progress::bars(false);
        let id = commit_container(store, &container, &options, pause, bars.as_ref())?;
        drop(bars);
        print_line(id)?;
        Ok(ExitCode::SUCCESS)
    }
}
