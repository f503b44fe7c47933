//! Images between the store and the world: archives and layouts in ([`load`]) and out ([`save`]).
//!
//! The way in: a [`transport::Source`] opens as a [`part::Bundle`] (files by name, of a tar or a
//! directory); [`candidate`] finds the images in it by [`docker`] or [`oci`]; [`staging`] reads
//! each layer once through [`ingest`]; and the store changes only when all of it is right.

pub mod candidate;
pub mod chain;
pub mod docker;
pub mod expansion;
pub mod import;
pub mod ingest;
pub mod load;
pub mod members;
pub mod oci;
pub mod outline;
pub mod part;
pub mod pipe;
pub mod progress;
pub mod save;
pub mod staged;
pub mod stages;
pub mod staging;
pub mod transport;

pub use chain::{ensure_chain, ensure_image};
pub use expansion::Limits;
pub use import::{ImportOptions, import};
pub use ingest::{LayerSpec, ingest_layer};
pub use load::{LoadOptions, Loaded, load};
pub use progress::{Progress, Silent};
pub use save::{SaveFormat, SaveOptions, Saved, save, save_dir, save_file};
pub use transport::Source;
