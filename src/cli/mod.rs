//! The command line: Docker's words where Docker has them. A command prints and decides nothing
//! that a user of the library couldn't do.
//!
//! Exit status: 0 done; 1 it failed, with one line on standard error that says why; 2 the command
//! line is wrong; 64 `inspect` was given a template that can't be parsed. A command on several objects
//! does what it can, and ends with 1 when one of them failed.

mod bytes;
mod cat;
mod commit;
mod completion;
mod confirm;
mod container;
mod cp;
mod create;
mod diff;
mod difference;
mod dockerfile;
mod du;
mod explore;
mod export;
mod find;
pub mod format;
mod grep;
mod history;
mod image;
mod images;
mod import;
mod inspect;
mod layers;
mod load;
mod logs;
mod look;
mod ls;
mod man;
mod mount;
mod progress;
mod prune;
mod ps;
mod readlink;
mod rm;
mod save;
mod stat;
mod sum;
mod system;
mod tree;
mod verify;
mod which;

use std::io::{IsTerminal as _, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::error::{Failure, FailureKind};
use crate::store::Store;

/// Mount container images: read-only layers and one writable layer as a single tree.
#[derive(Debug, Parser)]
#[command(
    name = "strata",
    version,
    propagate_version = true,
    max_term_width = 100,
    after_help = "Examples:\n  strata load -i image.tar\n  strata mount --name web nginx /mnt\n  \
        strata commit -m 'new page' web nginx:mine\n  strata save -o mine.tar nginx:mine\n\n\
        Exit status: 0 done, 1 failed (one line on standard error says why), 2 wrong usage, \
        64 a template of inspect that can't be parsed."
)]
struct Cli {
    /// The store's directory [default: /var/lib/strata for root, else ~/.local/share/strata].
    #[arg(
        long,
        global = true,
        env = "STRATA_ROOT",
        hide_env_values = true,
        value_name = "DIR"
    )]
    root: Option<PathBuf>,

    /// How much is said on standard error, and logged by the daemon of a mount [default: warn, and
    /// info for daemons].
    #[arg(long, global = true, value_enum, value_name = "LEVEL")]
    log_level: Option<Level>,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Level {
    /// Nothing.
    Off,
    /// What failed.
    Error,
    /// What should be looked at.
    Warn,
    /// What happens to a mount.
    Info,
    /// What helps to find a fault.
    Debug,
    /// Everything.
    Trace,
}

impl From<Level> for log::LevelFilter {
    fn from(level: Level) -> Self {
        match level {
            Level::Off => Self::Off,
            Level::Error => Self::Error,
            Level::Warn => Self::Warn,
            Level::Info => Self::Info,
            Level::Debug => Self::Debug,
            Level::Trace => Self::Trace,
        }
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    Load(load::Args),
    Save(save::Args),
    Import(import::Args),
    Export(export::Args),
    Mount(mount::Args),
    #[command(visible_alias = "unmount")]
    Umount(mount::UmountArgs),
    Container(container::Args),
    Create(create::CreateArgs),
    Ps(ps::PsArgs),
    Rm(rm::RmArgs),
    Rename(rm::RenameArgs),
    Stop(rm::StopArgs),
    Commit(commit::Args),
    Cp(cp::Args),
    Diff(diff::Args),
    Logs(logs::Args),
    Image(image::Args),
    Images(images::Args),
    History(history::Args),
    Inspect(inspect::Args),
    Tag(image::TagArgs),
    Rmi(image::RmiArgs),
    Ls(ls::Args),
    Tree(tree::Args),
    Stat(stat::Args),
    Cat(cat::Args),
    Find(find::Args),
    Readlink(readlink::Args),
    Sum(sum::Args),
    Layers(layers::Args),
    Which(which::Args),
    Explore(explore::Args),
    Du(du::Args),
    Grep(grep::Args),
    Dockerfile(dockerfile::Args),
    Verify(verify::Args),
    System(system::Args),
    Info(system::InfoArgs),
    Version(system::VersionArgs),
    Completion(completion::Args),
    #[command(hide = true)]
    Man(man::Args),
}

/// What every command has.
struct Context {
    store: Store,
}

/// Whether a word is one of our commands.
#[must_use]
pub fn is_command(word: &[u8]) -> bool {
    Cli::command().get_subcommands().any(|command| {
        let mut names = command
            .get_all_aliases()
            .chain([command.get_name(), "help"]);
        names.any(|name| name.as_bytes() == word)
    })
}

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    crate::sys::process::end_on_closed_pipe();
    completion::answer(Cli::command);
    crate::mount::logger::install(warn);
    let cli = Cli::parse();
    if let Some(level) = cli.log_level {
        crate::mount::logger::set_level(level.into());
    }
    let done = match cli.command {
        // What is not about a store opens, and makes, none.
        Command::Completion(args) => args.run(),
        Command::Man(args) => args.run(Cli::command()),
        command => open(cli.root).and_then(|context| run(&context, command)),
    };
    match done {
        Ok(code) => code,
        Err(failure) => {
            complain(&failure);
            ExitCode::from(if failure.kind() == FailureKind::Usage {
                2
            } else {
                1
            })
        }
    }
}

fn open(root: Option<PathBuf>) -> Result<Context, Failure> {
    let root = root.unwrap_or_else(Store::default_root);
    Ok(Context {
        store: Store::open(&root)?,
    })
}

fn run(context: &Context, command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Load(args) => args.run(context),
        Command::Save(args) => args.run(context),
        Command::Import(args) => args.run(context),
        Command::Export(args) => args.run(context),
        Command::Container(args) => args.run(context),
        Command::Rename(args) => args.run(context),
        Command::Stop(args) => args.run(context),
        Command::Cp(args) => args.run(context),
        Command::Logs(args) => args.run(context),
        Command::Completion(args) => args.run(),
        Command::Man(args) => args.run(Cli::command()),
        Command::Mount(args) => args.run(context),
        Command::Umount(args) => args.run(context),
        Command::Create(args) => args.run(context),
        Command::Ps(args) => args.run(context),
        Command::Rm(args) => args.run(context),
        Command::Commit(args) => args.run(context),
        Command::Diff(args) => args.run(context),
        Command::Image(args) => args.run(context),
        Command::Images(args) => args.run(context),
        Command::History(args) => args.run(context),
        Command::Inspect(args) => args.run(context),
        Command::Tag(args) => args.run(context),
        Command::Rmi(args) => args.run(context),
        Command::Ls(args) => args.run(context),
        Command::Tree(args) => args.run(context),
        Command::Stat(args) => args.run(context),
        Command::Cat(args) => args.run(context),
        Command::Find(args) => args.run(context),
        Command::Readlink(args) => args.run(context),
        Command::Sum(args) => args.run(context),
        Command::Layers(args) => args.run(context),
        Command::Which(args) => args.run(context),
        Command::Explore(args) => args.run(context),
        Command::Du(args) => args.run(context),
        Command::Grep(args) => args.run(context),
        Command::Dockerfile(args) => args.run(context),
        Command::Verify(args) => args.run(context),
        Command::System(args) => args.run(context),
        Command::Info(args) => args.run(context),
        Command::Version(args) => args.run(),
    }
}

/// One line on standard error, and nothing in it that a terminal would act on.
fn complain(failure: &Failure) {
    eprintln!("strata: {}", format::printable(&failure.to_string()));
}

/// A warning of the library.
fn warn(record: &log::Record<'_>) {
    let level = record.level().as_str().to_lowercase();
    let line = format!("strata: {level}: {}", record.args());
    if !explore::keep_for_later(&line) {
        eprintln!("{line}");
    }
}

/// Does something for each of several names: what fails is said, and the others are done.
fn each(names: &[String], mut f: impl FnMut(&str) -> Result<(), Failure>) -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    for name in names {
        if let Err(failure) = f(name) {
            complain(&failure);
            code = ExitCode::FAILURE;
        }
    }
    code
}

/// Prints to standard output. A terminal gets nothing that it would act on.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    if out.is_terminal() {
        out.write_all(format::printable_lines(text).as_bytes())?;
    } else {
        out.write_all(text.as_bytes())?;
    }
    Ok(out.flush()?)
}

/// Prints a line to standard output.
fn print_line(text: impl std::fmt::Display) -> Result<(), Failure> {
    print(&format!("{text}\n"))
}
