//! `strata import`

use std::fs::File;
use std::io::Read;
use std::process::ExitCode;

use super::{Context, print_line, progress};
use crate::archive::import::{ImportOptions, import};
use crate::error::{Context as _, Failure};
use crate::image::Platform;
use crate::store::containers::commit_name;

/// Make an image of a tar of a file system; prints its id.
///
/// The tar may be compressed (gzip, zstd); it is kept as it is, as the image's one layer.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  strata import rootfs.tar.gz mine:1\n  \
    strata export web | strata import -c 'CMD [\"nginx\"]' -m flat - web:flat\n  \
    curl -L https://example.org/rootfs.tar.zst | strata import - mine:2")]
pub struct Args {
    /// Apply an instruction: CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL,
    /// USER, VOLUME or WORKDIR.
    #[arg(short, long = "change", value_name = "INSTRUCTION")]
    changes: Vec<String>,

    /// A comment for the history.
    #[arg(short, long)]
    message: Option<String>,

    /// What the image is for, if not for this machine.
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<String>,

    /// The tar; - is standard input.
    #[arg(value_name = "FILE|-")]
    file: String,

    /// The new image's name.
    #[arg(value_name = "NAME[:TAG]")]
    name: Option<String>,
}

impl Args {
    pub fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        if self.file.starts_with("http://") || self.file.starts_with("https://") {
            return Err(Failure::usage(format!(
                "{0}: not downloaded here: curl -L {0} | strata import - NAME",
                self.file
            )));
        }
        let options = ImportOptions {
            // Docker's words, which also stand for a file.
            message: self.message.or_else(|| Some("Imported from -".into())),
            changes: self.changes,
            platform: self.platform.as_deref().map(Platform::parse).transpose()?,
            name: self.name.as_deref().map(commit_name).transpose()?,
            ..ImportOptions::default()
        };
        let shown = || match self.file.as_str() {
            "-" => "standard input".to_owned(),
            file => file.to_owned(),
        };
        let mut input: Box<dyn Read + Send> = match self.file.as_str() {
            "-" => Box::new(std::io::stdin()),
            file => Box::new(File::open(file).context(shown)?),
        };
        let bars = progress::bars(false);
        let id = import(&context.store, &mut *input, &options, bars.as_ref()).context(shown)?;
        drop(bars);
        print_line(id)?;
        Ok(ExitCode::SUCCESS)
    }
}
