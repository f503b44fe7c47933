//! strata mounts container images: the union of an image's read-only layers and one writable
//! container layer, presented through FUSE; [`commit`] turns the writable layer into a new image
//! layer.
//!
//! Dependencies point downward only (a test greps the `use` lines):
//!
//! ```text
//!    cli   runtime                 the only printing
//!       \  /
//!       mount                      options -> source -> stack -> union -> session
//!       /   \
//!    fuse   store                  protocol <-> union          OCI layout, containers, locks
//!     |       |
//!    union    |                    the merged tree: a file per verb
//!     |       |
//!    layer    |                    read-only trees: a host directory, or an indexed blob
//!       \    /
//!    index   content               mapped index; bytes of a blob at random
//!
//!    mount, inspect -> archive -> {store, index, tar}      commit -> {union, store, index, tar}
//!    mount -> copy -> {union, archive, tar}                export and cp: trees as tar streams
//!    image, tar: pure data and formats      sys: below all, the only unsafe
//! ```

pub mod archive;
pub mod cli;
pub mod commit;
pub mod content;
pub mod copy;
pub mod error;
pub mod fuse;
pub mod image;
pub mod index;
pub mod inspect;
pub mod layer;
pub mod mount;
pub mod name;
pub mod runtime;
pub mod stat;
pub mod store;
pub mod sync;
pub mod sys;
pub mod tar;
pub mod union;
