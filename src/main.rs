//! The `strata` binary: dispatch and exit status, nothing else.

use stratafs::runtime::mount_program::{self, Role};

fn main() -> std::process::ExitCode {
    let words: Vec<_> = std::env::args_os().collect();
    match Role::of(&words) {
        Some(role) => mount_program::main(role, &words),
        None => stratafs::cli::main(),
    }
}
