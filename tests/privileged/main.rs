//! Real mounts: root and /dev/fuse are needed; without them the tests say so and pass.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    missing_docs
)]

#[path = "../common/mod.rs"]
mod common;

/// A mount of directories, the lower made by a script; where none can be made the test is skipped by
/// its name.
macro_rules! live {
    ($test:literal, $script:expr) => {{
        if !$crate::common::cli::can_mount($test) {
            return;
        }
        $crate::common::live::Live::new($script)
    }};
}

/// The same with a lower whose files are read by requests.
macro_rules! cached {
    ($test:literal, $script:expr) => {{
        if !$crate::common::cli::can_mount($test) {
            return;
        }
        $crate::common::live::Live::cached($script)
    }};
}

mod ahead;
mod containers;
mod contents;
mod copies;
mod costs;
mod daemon;
mod differential;
mod dirs;
mod faults;
mod fuse;
mod given;
mod injected;
mod joint;
mod kill;
mod layers;
mod limits;
mod links;
mod lowers;
mod memory;
mod mount8;
mod options;
mod owners;
mod passthrough;
mod provenance;
mod semantics;
mod switch;
mod unopened;
mod uring;
mod verify;
mod xattrs;
