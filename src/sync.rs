//! The locks used everywhere, in one place, so that a model checker can replace them in tests.

pub use parking_lot::{Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
