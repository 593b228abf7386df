//! Runs the simulator over many seeds, on every core: `cargo xtask sim --seeds N`.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Instant,
};

use peer_tests::sim::{Report, run_seed};

fn main() {
    let mut first = 0;
    let mut count = 100_000;
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().and_then(|value| value.parse().ok());
        match (name.as_str(), value) {
            ("--seeds", Some(value)) => count = value,
            ("--first", Some(value)) => first = value,
            ("--seed", Some(seed)) => {
                println!("seed {seed}: {:?}", run_seed(seed, true));
                return;
            }
            _ => {
                eprintln!("usage: sim [--seeds N] [--first N] | --seed N");
                std::process::exit(2);
            }
        }
    }
    let began = Instant::now();
    let next = AtomicU64::new(first);
    let last = first.saturating_add(count);
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let work = || {
        let mut sum = Report::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= last {
                return sum;
            }
            match std::panic::catch_unwind(|| run_seed(seed, false)) {
                Ok(report) => sum.add(&report),
                Err(_) => {
                    eprintln!("seed {seed} breaks the law; replay it with PEER_SEED={seed}");
                    std::process::exit(1);
                }
            }
        }
    };
    let mut sum = Report::default();
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            if let Ok(report) = worker.join() {
                sum.add(&report);
            }
        }
    });
    println!("{}", sum.summary(count, began.elapsed()));
}
