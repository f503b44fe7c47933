//! Images as the OCI image specification and Docker describe them: pure data, no I/O.

pub mod changes;
mod config;
mod digest;
mod glob;
mod health;
pub mod history;
mod manifest;
pub mod media_type;
mod overrides;
mod platform;
mod reference;
pub mod time;

pub use config::{History, ImageConfig, RootFs, RuntimeConfig, StringSet};
pub use digest::{ChainId, DiffId, Digest};
pub use glob::Glob;
pub use manifest::{Annotations, Descriptor, Index, Manifest};
pub use media_type::Compression;
pub use overrides::Overrides;
pub use platform::Platform;
pub use reference::{Reference, is_id_prefix};
