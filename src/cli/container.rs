//! `strata container …`: the same commands, as Docker groups them.

use std::process::ExitCode;

use clap::Subcommand;

use super::Context;
use super::{commit, cp, create, diff, export, inspect, logs, mount, ps, rm};
use crate::error::Failure;

/// Manage containers.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  strata container ls -a\n  strata container prune")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Commit(commit::Args),
    Cp(cp::Args),
    Create(create::CreateArgs),
    Diff(diff::Args),
    Export(export::Args),
    Inspect(inspect::ContainerArgs),
    Logs(logs::Args),
    #[command(visible_aliases = ["list", "ps"])]
    Ls(ps::PsArgs),
    Mount(mount::Args),
    Prune(rm::PruneArgs),
    Rename(rm::RenameArgs),
    Rm(rm::RmArgs),
    Stop(rm::StopArgs),
    #[command(visible_alias = "unmount")]
    Umount(mount::UmountArgs),
}

impl Args {
    pub fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        match self.command {
            Command::Commit(args) => args.run(context),
            Command::Cp(args) => args.run(context),
            Command::Create(args) => args.run(context),
            Command::Diff(args) => args.run(context),
            Command::Export(args) => args.run(context),
            Command::Inspect(args) => args.run(context),
            Command::Logs(args) => args.run(context),
            Command::Ls(args) => args.run(context),
            Command::Mount(args) => args.run(context),
            Command::Prune(args) => args.run(context),
            Command::Rename(args) => args.run(context),
            Command::Rm(args) => args.run(context),
            Command::Stop(args) => args.run(context),
            Command::Umount(args) => args.run(context),
        }
    }
}
