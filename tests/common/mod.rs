//! What the test binaries share.
#![allow(dead_code, reason = "each test binary uses a part of it")]

pub mod build;
pub mod cli;
pub mod daemon;
pub mod golden;
pub mod live;
pub mod random;
pub mod slow;
pub mod tree;
