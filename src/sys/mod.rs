//! System calls. The only modules with `unsafe`; each file is one family of calls.

pub mod copy;
pub mod creds;
pub mod dir;
pub mod fd;
pub mod fuse_dev;
pub mod handle;
pub mod heap;
pub mod map;
pub mod mount;
pub mod process;
pub mod uring;
pub mod writeback;
pub mod xattr;
