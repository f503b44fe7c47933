//! The `strata` binary: dispatch and exit status, nothing else.

fn main() -> std::process::ExitCode {
    stratafs::cli::main()
}
