//! `strata rm`, `strata rename`, `strata stop`, `strata container prune`

use std::process::ExitCode;
use std::time::Duration;

use super::confirm::confirmed;
use super::format::size;
use super::{Context, each, print_line};
use crate::error::Failure;
use crate::mount::{Umount, stop, umount};
use crate::store::list::ContainerFilters;

/// Remove containers, with what was changed in them.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  strata rm web\n  strata rm -f web db\n  strata rm $(strata ps -aq)"
)]
pub struct RmArgs {
    /// Unmount those that are mounted.
    #[arg(short, long)]
    force: bool,

    /// Remove anonymous volumes too. Containers here have none: it has no effect.
    #[arg(short, long)]
    volumes: bool,

    /// The containers, by name or id.
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl RmArgs {
    pub fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let store = &context.store;
        if self.volumes {
            log::warn!("--volumes has no effect: containers here have no volumes");
        }
        Ok(each(&self.containers, |name| {
            let container = store.container(name)?;
            if self.force && container.mounted_at(store)?.is_some() {
                umount(store, &container.id, Umount::Idle)?;
                // A container made with --rm has gone by itself.
                if store.container(&container.id).is_err() {
                    return print_line(name);
                }
            }
            store.remove_container(&container)?;
            print_line(name)
        }))
    }
}

/// Give a container another name.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  strata rename web web-old")]
pub struct RenameArgs {
    /// The container, by name or id.
    container: String,

    /// Its new name.
    name: String,
}

impl RenameArgs {
    pub fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let container = context.store.container(&self.container)?;
        context.store.rename_container(&container, &self.name)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Unmount containers; prints each as it is done.
///
/// One that is in use is waited for; after that its mount is taken out of the tree, and ends when
/// the last that uses it does.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  strata stop -t 1 web")]
pub struct StopArgs {
    /// How many seconds to wait for a mount that is in use.
    #[arg(
        short = 't',
        long = "time",
        default_value_t = 10,
        value_name = "SECONDS"
    )]
    seconds: u64,

    /// The containers, by name or id.
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl StopArgs {
    pub fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let patience = Duration::from_secs(self.seconds);
        Ok(each(&self.containers, |name| {
            let container = context.store.container(name)?;
            stop(&context.store, &container, patience)?;
            print_line(name)
        }))
    }
}

/// Remove all containers that are not mounted.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  strata container prune\n  \
    strata container prune -f --filter until=24h\n\nFilters: as of strata ps.")]
pub struct PruneArgs {
    /// Don't ask.
    #[arg(short, long)]
    force: bool,

    /// Only those that fit, as for strata ps.
    #[arg(long = "filter", value_name = "FILTER")]
    filters: Vec<String>,
}

impl PruneArgs {
    pub fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let filters = ContainerFilters::parse(&self.filters)?;
        if !self.force && !confirmed("This will remove all stopped containers.")? {
            return Ok(ExitCode::SUCCESS);
        }
        let (removed, freed) = context.store.prune_containers(&filters)?;
        if !removed.is_empty() {
            print_line("Deleted Containers:")?;
            for container in &removed {
                print_line(&container.id)?;
            }
            print_line("")?;
        }
        print_line(format_args!("Total reclaimed space: {}", size(freed)))?;
        Ok(ExitCode::SUCCESS)
    }
}
