//! What container runtimes call: strata as their mount program.

pub mod mount_program;
