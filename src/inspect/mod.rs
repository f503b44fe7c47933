//! Questions to images: what is in them, which layer it came from, what it costs. All answers come
//! from indexes; nothing is unpacked or mounted, and a layer's data is opened only when contents
//! are asked for.
//!
//! A command's argument is parsed by [`Target::parse`] and opened by [`Image::open`], wherever the
//! image is; an [`Image`] gives [`Tree`]s: the whole, one layer, or the stack up to one.
//!
//! ```text
//!   target ─ source ─ image ─ tree ─ path (names to objects), walk
//!              │        └ data (bytes of layers, opened when read)
//!            cache (indexes of images that were never loaded)
//!   stack (the layers one above the other) ─ levels (listed lazily, beside what each layer did)
//! ```

pub mod cache;
pub mod changes;
pub mod data;
pub mod difference;
pub mod dockerfile;
pub mod fate;
pub mod find;
pub mod glob;
pub mod grep;
pub mod image;
pub mod levels;
pub mod owners;
pub mod packages;
pub mod path;
pub mod source;
pub mod stack;
pub mod sum;
pub mod target;
pub mod tree;
pub mod usage;
pub mod verify;
pub mod walk;
pub mod waste;
pub mod which;

pub use crate::layer::compare::{Differences, compare};
pub use changes::{Counts, Did, LayerChange};
pub use image::{Image, LayerFacts};
pub use levels::Levels;
pub use owners::Owners;
pub use path::Found;
pub use stack::{Merged, Part, Stack};
pub use target::{Span, Target};
pub use tree::{Child, Entry, Object, Tree};
pub use walk::{Descend, Visit, Visitor};
