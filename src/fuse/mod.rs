//! FUSE: between the kernel's requests and the union.
//!
//! [`server`] answers requests with plain values; how a request arrives and a reply leaves is the
//! business of a [`transport`]: fuser's, over `/dev/fuse`, or our own, over io_uring. A serving thread never waits: what
//! copies, syncs or decompresses is a [`jobs`] job; what may not change now is parked at the
//! [`gate`]. How long the kernel may keep what it was told is in [`policy`]; which files it reads
//! and writes by itself, in [`backing`]; what a walker will come to is read by `ahead`.

mod ahead;
pub mod backing;
mod buffer;
mod changes;
mod counts;
mod device;
mod dirs;
mod dispatch;
mod encode;
mod files;
mod fuser;
pub mod gate;
mod greeting;
mod handles;
pub mod ids;
pub mod jobs;
mod notices;
mod pending;
pub mod policy;
pub mod server;
pub mod session;
mod standing;
mod step;
mod survey;
pub mod transport;
mod unopened;
mod uring;
mod views;
mod wire;

pub use backing::BackingDevice;
pub use buffer::Buffer;
pub use ids::Ids;
pub use notices::Notifier;
pub use policy::{Lifetimes, Pages};
pub use server::{ServeOptions, Server};
pub use session::Session;
pub use step::{Job, Step};
pub use transport::{Offer, Transport};
