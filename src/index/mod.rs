//! The index of a layer, and of a stack of layers: a memory-mapped file that needs no parsing.
//!
//! [`build::LayerBuilder`] takes the members of a layer's tar in any order and writes the layer's
//! index; [`flatten::flatten`] merges the indexes of a stack, which is what a mount opens;
//! [`reader::Index`] reads both. [`format`] describes the file.

pub mod build;
pub mod flatten;
pub mod format;
mod pages;
pub mod reader;
mod tree;
mod writer;

#[cfg(test)]
mod tests;

pub use build::{LayerBuilder, LayerSummary};
pub use flatten::flatten;
pub use reader::{Index, InodeNo};
