//! What threads share state by. Whatever in this crate locks, waits or is atomic comes from here, so that
//! tests can put other types in place of `std`'s. Counters for people do not: nothing is decided by them.

pub(crate) use std::sync::{
    Condvar, Mutex, MutexGuard, RwLock,
    atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
};
