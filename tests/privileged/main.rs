//! Real mounts: root and /dev/fuse are needed; without them the tests say so and pass.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    missing_docs
)]

#[path = "../common/mod.rs"]
mod common;

mod ahead;
mod containers;
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
