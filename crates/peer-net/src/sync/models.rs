//! Runs a test in every order that its threads can take.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

pub(super) use loom::sync::atomic;

/// Before an access. loom takes `SeqCst` for acquire and release; a fence before the access adds the
/// one order of them all, as on processors that know no such access.
pub(super) fn before(order: Ordering) {
    if order == Ordering::SeqCst {
        atomic::fence(Ordering::SeqCst);
    }
}

pub(super) const fn after() {}

/// Runs `model` in every order of its threads and, for what is atomic, with every value that a load may
/// give; those with more than `preemptions` switches away from a thread that could go on are left out.
/// loom ends an order in which nobody can go on with a panic, so whoever is not woken is found; no
/// time passes, so no timeout wakes anybody.
#[track_caller]
pub(crate) fn explore(preemptions: Option<usize>, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(preemptions);
    builder.max_branches = 20_000;
    let orders = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&orders);
    builder.check(move || {
        count.fetch_add(1, Ordering::Relaxed);
        model();
    });
    let orders = orders.load(Ordering::Relaxed);
    let bound = builder.preemption_bound;
    let bound = bound.map_or(String::new(), |n| format!(" with up to {n} preemptions"));
    let name = std::thread::current().name().unwrap_or_default().to_owned();
    println!("model {name}: {orders} orders{bound}");
    // A model of one order has no threads that meet: it shows nothing.
    assert!(orders > 1, "{name}: {orders} orders");
}

/// For the `impl` of a model's [`Stream`](crate::stream::Stream): what makes no difference where no time
/// passes, and where no peer looks for the end of one half.
macro_rules! without_timeouts {
    () => {
        fn set_read_timeout(&self, _: Option<std::time::Duration>) -> std::io::Result<()> {
            Ok(())
        }

        fn set_write_timeout(&self, _: Option<std::time::Duration>) -> std::io::Result<()> {
            Ok(())
        }

        fn shutdown_write(&self) -> std::io::Result<()> {
            Ok(())
        }
    };
}
pub(crate) use without_timeouts;
