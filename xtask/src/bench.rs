//! Benchmarks, which judge nothing, and counts, which do.

use std::process::Command;

use crate::run::{self, Done, Outcome, Show};

mod size;

/// The workspace of the harness, from the main one.
const HARNESS: &str = "tests/bench-peers/Cargo.toml";

/// The parts of the harness that write a table.
const TABLES: [&str; 5] = ["fetches", "growth", "profile", "strangers", "bridge"];

pub(crate) fn run(arguments: &[String]) -> Outcome {
    match arguments.split_first() {
        Some((part, [])) if part == "counts" => counts_step().map(|_| ()),
        Some((part, [])) if part == "size" => size::run(),
        Some((part, words)) if part == "peers" => measure("table", words),
        Some((part, words)) if TABLES.contains(&part.as_str()) => measure(part, words),
        Some((part, [])) if UNITS.contains(&part.as_str()) => units(&[part.as_str()]),
        None => units(&UNITS),
        _ => Err(format!(
            "bench takes nothing, one of {UNITS:?}, `counts` or `size`; or `peers` or one of {TABLES:?}, \
             with words `name=value`"
        )),
    }
}

/// The benchmarks of a crate each, by criterion.
const UNITS: [&str; 3] = ["proto", "core", "net"];

fn units(names: &[&str]) -> Outcome {
    let mut cargo = harness("bench");
    for name in names {
        cargo.args(["--bench", name]);
    }
    run::run(&mut cargo, Show::Always).map(|_| ())
}

fn harness(subcommand: &str) -> Command {
    let mut cargo = run::cargo();
    cargo.env("CARGO_TARGET_DIR", run::scratch("bench")).args([
        subcommand,
        "--manifest-path",
        HARNESS,
    ]);
    cargo
}

/// Ours and others side by side, ours with and without strangers, directly and through a bridge, or with
/// more and more to do; writes its table into `docs/BENCHMARKS.md`, and its figures beside it.
fn measure(part: &str, words: &[String]) -> Outcome {
    if !cfg!(target_os = "linux") {
        return Err("placement and CPU times are read in the ways of Linux".to_owned());
    }
    run::run(
        harness("build").args(["--release", "--package", "bench-rivals"]),
        Show::OnFailure,
    )?;
    let mut cargo = harness("run");
    cargo.args([
        "--release",
        "--package",
        "bench-peers",
        "--",
        part,
        "out=docs",
    ]);
    run::run(cargo.args(words), Show::Always).map(|_| ())
}

/// Instruction counts, which repeat exactly however busy the machine is.
pub(crate) fn counts_step() -> Result<Done, String> {
    if run::find("valgrind").is_none() {
        eprintln!("SKIPPED instruction counts: valgrind is not installed");
        return Ok(Done::Skipped("valgrind is not installed".to_owned()));
    }
    let mut cargo = harness("test");
    run::run(cargo.args(["--", "--nocapture"]), Show::Always)?;
    Ok(Done::Ran("instructions counted".to_owned()))
}
