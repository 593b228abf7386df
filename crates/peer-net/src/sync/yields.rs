//! Lets other threads go first, at random, wherever threads share state.
//!
//! The system decides what comes of it, so a seed does not bring an order back; but it brings back
//! where each thread gives way.

use std::{
    cell::Cell,
    sync::{
        LockResult, PoisonError, RwLockReadGuard, RwLockWriteGuard, WaitTimeoutResult,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

pub(crate) use std::sync::MutexGuard;
pub(super) use std::sync::atomic;

static SEED: AtomicU64 = AtomicU64::new(0);
static THREADS: AtomicU64 = AtomicU64::new(1);

thread_local! {
    static STATE: Cell<u64> = const { Cell::new(0) };
}

/// Makes the threads that are started from now on give way by another pattern.
pub(crate) fn seed(seed: u64) {
    SEED.store(seed, Ordering::Relaxed);
    THREADS.store(1, Ordering::Relaxed);
}

/// A random number: splitmix64, of the seed and the thread's number.
fn random() -> u64 {
    // A thread that ends has no state any more, and goes on without.
    let next = STATE.try_with(|state| {
        if state.get() == 0 {
            let number = THREADS.fetch_add(1, Ordering::Relaxed);
            state.set((SEED.load(Ordering::Relaxed) << 16) ^ number);
        }
        state.set(state.get().wrapping_add(0x9e37_79b9_7f4a_7c15));
        state.get()
    });
    let mut mixed = next.unwrap_or(0);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn give_way() {
    match random() % 64 {
        0..16 => thread::yield_now(),
        16..20 => (0..random() % 2_000).for_each(|_| std::hint::spin_loop()),
        20 => thread::sleep(Duration::from_micros(random() % 200)),
        _ => {}
    }
}

pub(super) fn before(_: Ordering) {
    give_way();
}

pub(super) fn after() {
    give_way();
}

#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(std::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(std::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        give_way();
        let guard = self.0.lock();
        give_way();
        guard
    }
}

#[derive(Debug, Default)]
pub(crate) struct RwLock<T>(std::sync::RwLock<T>);

impl<T> RwLock<T> {
    pub(crate) fn read(&self) -> LockResult<RwLockReadGuard<'_, T>> {
        give_way();
        let guard = self.0.read();
        give_way();
        guard
    }

    pub(crate) fn write(&self) -> LockResult<RwLockWriteGuard<'_, T>> {
        give_way();
        let guard = self.0.write();
        give_way();
        guard
    }
}

#[derive(Debug, Default)]
pub(crate) struct Condvar(std::sync::Condvar);

impl Condvar {
    pub(crate) const fn new() -> Self {
        Self(std::sync::Condvar::new())
    }

    pub(crate) fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> LockResult<MutexGuard<'a, T>> {
        // One in eight wakes for no reason, as the system may have it.
        if random() % 8 == 0 {
            let woken = self.wait_timeout(guard, Duration::from_micros(random() % 100));
            return woken
                .map(|woken| woken.0)
                .map_err(|poisoned| PoisonError::new(poisoned.into_inner().0));
        }
        give_way();
        self.0.wait(guard)
    }

    pub(crate) fn wait_timeout<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        time: Duration,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)> {
        let time = if random() % 8 == 0 {
            time.min(Duration::from_micros(random() % 100))
        } else {
            time
        };
        self.0.wait_timeout(guard, time)
    }

    pub(crate) fn notify_all(&self) {
        give_way();
        self.0.notify_all();
    }
}
