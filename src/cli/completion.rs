//! `strata completion`: shells complete commands, options, and the names of images and containers,
//! which they ask this program for at each press of the key (clap_complete's engine; the scripts it
//! gives fit the same version of strata, so `scripts/install` writes them anew).

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Arg, Command};
use clap_complete::engine::{
    ArgValueCompleter, CompletionCandidate, PathCompleter, ValueCompleter,
};
use clap_complete::env::{CompleteEnv, Shells};

use super::print;
use crate::error::Failure;
use crate::store::Store;

/// The variable by which a shell's script asks for completions.
const VARIABLE: &str = "COMPLETE";

/// Print the script that makes a shell complete strata's commands.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  source <(strata completion bash)\n  \
    strata completion zsh > ~/.zfunc/_strata\n  \
    strata completion fish > ~/.config/fish/completions/strata.fish")]
pub struct Args {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Shell {
    /// GNU Bash.
    Bash,
    /// Z shell.
    Zsh,
    /// fish.
    Fish,
}

impl Args {
    pub fn run(self) -> Result<ExitCode, Failure> {
        let name = match self.shell {
            Shell::Bash => "bash",
            Shell::Zsh => "zsh",
            Shell::Fish => "fish",
        };
        let shells = Shells::builtins();
        let shell = shells.completer(name);
        let shell = shell.ok_or_else(|| Failure::usage(format!("no completion for {name}")))?;
        let mut script = Vec::new();
        shell.write_registration(VARIABLE, "strata", "strata", "strata", &mut script)?;
        print(&String::from_utf8_lossy(&script))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Answers a shell that asks for completions; the process then ends.
pub fn answer(command: fn() -> Command) {
    CompleteEnv::with_factory(move || with_names(command()))
        .var(VARIABLE)
        .bin("strata")
        .complete();
}

/// What an argument's value is, by the name of its value in the help.
fn with_names(command: Command) -> Command {
    command
        .mut_args(|arg| match completer(&arg) {
            Some(completer) => arg.add(completer),
            None => arg,
        })
        .mut_subcommands(with_names)
}

fn completer(arg: &Arg) -> Option<ArgValueCompleter> {
    let names = arg.get_value_names()?;
    let says = |word: &str| names.iter().any(|n| n.split('|').any(|w| w == word));
    // Of inspect; the name of something new is a NAME as well.
    let anything = arg.get_id() == "names" && says("NAME");
    let wanted = Wanted {
        images: says("IMAGE") || anything,
        containers: says("CONTAINER") || anything,
        paths_in: says("CONTAINER:PATH"),
        dirs: says("MOUNTPOINT") || says("DIR"),
        files: says("FILE") || says("PATH"),
    };
    wanted
        .something()
        .then(|| ArgValueCompleter::new(move |current: &OsStr| wanted.candidates(current)))
}

/// What may stand for a value.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    images: bool,
    containers: bool,
    paths_in: bool,
    dirs: bool,
    files: bool,
}

impl Wanted {
    fn something(self) -> bool {
        self.images || self.containers || self.paths_in || self.dirs || self.files
    }

    fn candidates(self, current: &OsStr) -> Vec<CompletionCandidate> {
        let mut words: Vec<OsString> = Vec::new();
        // A shell is told of no trouble: there is nothing to complete then.
        if let Some(store) = store() {
            if self.images {
                words.extend(image_names(&store));
            }
            if self.containers || self.paths_in {
                let names = store.containers().unwrap_or_default().into_iter();
                let end = if self.paths_in { ":" } else { "" };
                words.extend(names.map(|c| format!("{}{end}", c.name).into()));
            }
        }
        let begins = |word: &OsString| {
            word.as_encoded_bytes()
                .starts_with(current.as_encoded_bytes())
        };
        let words = words.into_iter().filter(begins);
        let mut candidates: Vec<_> = words.map(CompletionCandidate::new).collect();
        if self.files {
            candidates.extend(PathCompleter::any().complete(current));
        } else if self.dirs {
            candidates.extend(PathCompleter::dir().complete(current));
        }
        candidates
    }
}

fn image_names(store: &Store) -> Vec<OsString> {
    let images = store.images().unwrap_or_default();
    let names = images.iter().flat_map(|i| &i.names);
    let mut words: Vec<OsString> = names.map(|n| n.familiar().into()).collect();
    words.sort();
    words
}

/// The store that the command line being completed is about, if it is there: none is made.
fn store() -> Option<Store> {
    let words: Vec<OsString> = std::env::args_os().collect();
    let mut root = std::env::var_os("STRATA_ROOT").map(PathBuf::from);
    for pair in words.windows(2) {
        if let [option, value] = pair
            && option == "--root"
        {
            root = Some(value.into());
        }
    }
    for word in &words {
        if let Some(value) = word.to_str().and_then(|w| w.strip_prefix("--root=")) {
            root = Some(value.into());
        }
    }
    let root = root.unwrap_or_else(Store::default_root);
    if !root.join("oci-layout").exists() {
        return None;
    }
    Store::open(&root).ok()
}
