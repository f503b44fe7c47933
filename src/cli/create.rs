//! `strata create`

use std::process::ExitCode;

use super::{Context, print_line};
use crate::error::Failure;
use crate::image::Overrides;
use crate::store::containers::NewContainer;

/// Make a container of an image, without mounting it; prints its id.
///
/// Nothing is run: command, environment and labels are kept for `ps` and `inspect`, and a commit of
/// the container has them.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  strata create --name web nginx\n  \
    strata create -l team=web -e MODE=test nginx nginx -g 'daemon off;'\n  strata mount web /mnt")]
pub struct CreateArgs {
    /// Its name; one is made up otherwise.
    #[arg(long)]
    name: Option<String>,

    /// A label: KEY or KEY=VALUE.
    #[arg(short, long = "label", value_name = "LABEL")]
    labels: Vec<String>,

    /// An environment variable: NAME=VALUE, or NAME to take this process's.
    #[arg(short, long = "env", value_name = "NAME=VALUE")]
    env: Vec<String>,

    /// The command's fixed part, instead of the image's; empty for none.
    #[arg(long, value_name = "COMMAND")]
    entrypoint: Option<String>,

    /// User, or uid, and group.
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,

    /// Where the command is to start.
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,

    /// The image, by name or id.
    image: String,

    /// The command and its arguments.
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "COMMAND"
    )]
    command: Vec<String>,
}

impl CreateArgs {
    pub fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let image = context.store.find(&self.image)?;
        let pair = |label: &String| match label.split_once('=') {
            Some((key, value)) => (key.to_owned(), value.to_owned()),
            None => (label.clone(), String::new()),
        };
        let new = NewContainer {
            name: self.name,
            remove: false,
            own: Overrides {
                cmd: self.command,
                entrypoint: self.entrypoint.map(|word| {
                    if word.is_empty() {
                        Vec::new()
                    } else {
                        vec![word]
                    }
                }),
                env: self.env.iter().filter_map(|e| variable(e)).collect(),
                user: self.user,
                working_dir: self.workdir,
                labels: self.labels.iter().map(pair).collect(),
            },
        };
        let container = context.store.create_container(&image, &self.image, new)?;
        print_line(&container.id)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// `NAME` is this process's variable, and nothing when there is none, as for Docker.
fn variable(text: &str) -> Option<String> {
    if text.contains('=') {
        return Some(text.to_owned());
    }
    let value = std::env::var(text).ok()?;
    Some(format!("{text}={value}"))
}
