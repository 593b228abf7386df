//! `cargo xtask mutants [crate…]`: changes each line of proto and core in turn, and wants a test
//! that fails. A mutant that may survive is listed in `tests/mutants.txt` with its reason.

use std::collections::BTreeSet;

use crate::excuses;
use crate::run::{self, Done, Outcome, Show, Steps};

/// Where the mutants that may survive are listed.
const LIST: &str = "tests/mutants.txt";

pub(crate) fn run(arguments: &[String]) -> Outcome {
    let mut steps = Steps::new("mutants");
    if run::find("cargo-mutants").is_none() {
        steps.step("mutants", || {
            Ok(Done::Skipped(
                "no cargo-mutants: cargo install cargo-mutants".to_owned(),
            ))
        });
        return steps.finish(false);
    }
    let excused = excuses::read(LIST)?;
    let default = ["peer-proto".to_owned(), "peer-core".to_owned()];
    let crates = if arguments.is_empty() {
        &default[..]
    } else {
        arguments
    };
    for name in crates {
        steps.step(name, || test(name, &excused));
    }
    steps.finish(false)
}

fn test(name: &str, excused: &BTreeSet<String>) -> Result<Done, String> {
    let out = run::scratch("mutants").join(name);
    let mut cargo = run::cargo();
    cargo
        .args(["mutants", "--package", name, "--timeout", "120", "--output"])
        .arg(&out)
        .env_remove("CARGO_TARGET_DIR");
    // It fails where a mutant survives; which ones may is judged here.
    let outcome = run::run(&mut cargo, Show::Never);
    let lines = |file: &str| {
        let path = out.join("mutants.out").join(file);
        std::fs::read_to_string(&path).unwrap_or_default()
    };
    let (caught, missed) = (lines("caught.txt"), lines("missed.txt"));
    let timeout = lines("timeout.txt").lines().count();
    if caught.is_empty() {
        return Err(outcome
            .err()
            .unwrap_or_else(|| "no mutant was tested".to_owned()));
    }
    let unexcused: Vec<_> = missed
        .lines()
        .filter(|line| !excused.contains(&without_place(line)))
        .collect();
    if !unexcused.is_empty() {
        return Err(format!("no test notices:\n{}", unexcused.join("\n")));
    }
    Ok(Done::Ran(format!(
        "{} caught, {timeout} by their time, {} excused",
        caught.lines().count(),
        missed.lines().count()
    )))
}

/// `path:line:column: what` as `path: what`: lines move.
fn without_place(mutant: &str) -> String {
    let mut parts = mutant.splitn(4, ':');
    let path = parts.next().unwrap_or_default();
    let what = parts.nth(2).unwrap_or_default();
    format!("{path}:{what}")
}
