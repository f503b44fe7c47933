//! Images as the OCI image specification and Docker describe them: pure data, no I/O.

mod digest;

pub use digest::{ChainId, DiffId, Digest};
