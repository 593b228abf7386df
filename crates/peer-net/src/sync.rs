//! What threads share state by. Whatever in this crate locks, waits or is atomic comes from here.
//!
//! In a build it is `std`'s. `cargo xtask models` builds the tests with other types in their place:
//! loom's, which run a test in every order that its threads can take (`peer_models`), and ones that let
//! other threads go first, at random, before and after each access (`peer_yields`). Counters for people
//! stay `std`'s, as nothing is decided by them.

pub(crate) use std::sync::atomic::Ordering;

#[cfg(not(all(test, any(peer_models, peer_yields))))]
pub(crate) use std::sync::{
    Condvar, Mutex, MutexGuard, RwLock,
    atomic::{AtomicBool, AtomicU64, AtomicUsize},
};

#[cfg(all(test, any(peer_models, peer_yields)))]
mod atomics;
#[cfg(all(test, any(peer_models, peer_yields)))]
pub(crate) use atomics::{AtomicBool, AtomicU64, AtomicUsize};

#[cfg(all(test, peer_models))]
pub(crate) mod models;
#[cfg(all(test, peer_models))]
pub(crate) use loom::sync::{Condvar, Mutex, MutexGuard, RwLock};
#[cfg(all(test, peer_models))]
use models as watched;

#[cfg(all(test, peer_yields))]
pub(crate) mod yields;
#[cfg(all(test, peer_yields))]
use yields as watched;
#[cfg(all(test, peer_yields))]
pub(crate) use yields::{Condvar, Mutex, MutexGuard, RwLock};
