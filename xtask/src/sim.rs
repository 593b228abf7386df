//! `cargo xtask sim [--seeds N] [--first N] | [--seed N]`: the simulator in release, on every core.

use crate::run::{self, Outcome, Show};

pub(crate) fn run(arguments: &[String]) -> Outcome {
    let mut cargo = run::cargo();
    cargo
        .args([
            "run",
            "--quiet",
            "--release",
            "-p",
            "peer-tests",
            "--bin",
            "sim",
            "--",
        ])
        .args(arguments);
    run::run(&mut cargo, Show::Always).map(drop)
}
