//! `strata image …`, as Docker groups the commands, and `strata tag`, `strata rmi`.

use std::process::ExitCode;

use clap::Subcommand;

use super::{Context, each, history, images, import, inspect, load, print_line, prune, save};
use crate::error::Failure;
use crate::image::Reference;
use crate::store::names::Removed;

/// Manage images.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  strata image ls\n  strata image prune -a")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    History(history::Args),
    Import(import::Args),
    Inspect(inspect::ImageArgs),
    Load(load::Args),
    #[command(visible_alias = "list")]
    Ls(images::Args),
    Prune(PruneArgs),
    #[command(visible_alias = "remove")]
    Rm(RmiArgs),
    Save(save::Args),
    Tag(TagArgs),
}

impl Args {
    pub fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        match self.command {
            Command::History(args) => args.run(context),
            Command::Import(args) => args.run(context),
            Command::Inspect(args) => args.run(context),
            Command::Load(args) => args.run(context),
            Command::Ls(args) => args.run(context),
            Command::Prune(args) => args.run(context),
            Command::Rm(args) => args.run(context),
            Command::Save(args) => args.run(context),
            Command::Tag(args) => args.run(context),
        }
    }
}

/// Give an image one more name.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  strata tag nginx localhost/mine:1\n  strata tag 8d2fc7a856f1 app:old"
)]
pub struct TagArgs {
    /// The image, by name or id.
    image: String,

    /// The new name.
    #[arg(value_name = "NAME[:TAG]")]
    name: String,
}

impl TagArgs {
    pub fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let name = Reference::parse(&self.name).map_err(|e| {
            e.context(format!(
                "Error parsing reference: \"{}\" is not a valid repository/tag",
                self.name.escape_debug()
            ))
        })?;
        context.store.tag(&self.image, &name)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Remove names, and images that have lost their last one.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  strata rmi nginx:old\n  strata rmi -f 8d2fc7a856f1\n  \
    strata rmi $(strata images -q -f dangling=true)\n\n\
    An image that a container uses stays: strata rm the container first."
)]
pub struct RmiArgs {
    /// Remove all of an image's names, also when a container uses it.
    #[arg(short, long)]
    force: bool,

    /// Leave images without a name that a removed one was made from.
    #[arg(long)]
    no_prune: bool,

    /// The images, by name or id.
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

impl RmiArgs {
    pub fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let store = &context.store;
        Ok(each(&self.images, |name| {
            let removed = if self.no_prune {
                store.remove_image(name, self.force)?
            } else {
                store.remove_image_and_parents(name, self.force)?
            };
            for removed in removed {
                match removed {
                    Removed::Untagged(name) => print_line(format_args!("Untagged: {name}"))?,
                    Removed::Deleted(digest) => print_line(format_args!("Deleted: {digest}"))?,
                }
            }
            Ok(())
        }))
    }
}

/// Remove images that nothing needs.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  strata image prune\n  strata image prune -a --filter until=24h\n\n\
    Filters: until=TIME, label=KEY[=VALUE], label!=KEY[=VALUE]."
)]
pub struct PruneArgs {
    #[command(flatten)]
    choice: prune::Choice,
}

impl PruneArgs {
    pub fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let filters = self.choice.filters()?;
        let warning = format!("This will remove {}.", self.choice.in_words());
        if self.choice.is_confirmed(&warning)? {
            let pruned = context.store.prune_images(self.choice.which(), &filters)?;
            prune::print_pruned(&pruned.images, pruned.freed)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
