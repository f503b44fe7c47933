//! What can be tested as any user: archives and the store, hostile input included.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    missing_docs
)]

#[path = "../common/mod.rs"]
mod common;

mod analysis;
mod archives;
mod cli;
mod containers;
mod cp;
mod explore;
mod golden;
mod hostile;
mod images;
mod layering;
mod look;
