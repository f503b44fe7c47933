//! What can be tested as any user: archives and the store, hostile input included.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    missing_docs
)]

mod analysis;
mod archives;
mod build;
mod hostile;
mod layering;
mod look;
