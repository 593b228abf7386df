//! The simulator over seeds: 1,000 of them, or those that the environment names.
//!
//! `PEER_SEED=n` replays one and prints what happens in it; `PEER_SEEDS=n` runs that many, and
//! `PEER_SEED_FIRST=n` says from where.

use std::time::Instant;

use peer_tests::sim::{Report, run_seed};

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
}

#[test]
fn seeds() {
    if let Some(seed) = number("PEER_SEED") {
        let report = run_seed(seed, true);
        println!("seed {seed}: {report:?}");
        return;
    }
    let first = number("PEER_SEED_FIRST").unwrap_or(0);
    let count = number("PEER_SEEDS").unwrap_or(1000);
    let began = Instant::now();
    let mut sum = Report::default();
    for seed in first..first + count {
        let report = std::panic::catch_unwind(|| run_seed(seed, false)).unwrap_or_else(|_| {
            panic!("seed {seed} breaks the law; replay it with PEER_SEED={seed}")
        });
        sum.add(&report);
    }
    println!("{}", sum.summary(count, began.elapsed()));
    if count >= 1000 {
        // A simulator in which nothing happens proves nothing.
        assert!(sum.delivered > sum.failed && u64::from(sum.failed) > count / 10);
        assert!(u64::from(sum.retries) > count / 20);
        assert!(u64::from(sum.reads) > count && u64::from(sum.reads_failed) > count / 20);
        assert!(u64::from(sum.downloads) > count / 10 && sum.downloads_resumed > 0);
    }
}

/// Worlds in which something was wrong once. What happens in them changes with the simulator, so
/// each bug has a test of its own, too.
#[test]
fn seeds_that_found_something() {
    for seed in [141, 2304, 65_549] {
        assert!(run_seed(seed, false).turns > 0, "{seed}");
    }
}

#[test]
fn a_seed_is_one_world() {
    for seed in [1, 2, 3, 50] {
        assert_eq!(run_seed(seed, false), run_seed(seed, false), "{seed}");
    }
}
