//! `cargo xtask fuzz [target] [seconds]`: runs the fuzz targets of `tests/fuzz` with cargo-fuzz,
//! each from its committed corpus. What it finds is kept in the target directory, and never added
//! to the committed corpus by itself.

use std::process::Command;

use crate::run::{self, Done, Outcome, Show, Steps};

/// How long each target runs when nobody says.
const SECONDS: u64 = 10;

pub(crate) fn run(arguments: &[String]) -> Outcome {
    let mut wanted = None;
    let mut seconds = SECONDS;
    for argument in arguments {
        match argument.parse() {
            Ok(number) => seconds = number,
            Err(_) => wanted = Some(argument.as_str()),
        }
    }
    let all = targets()?;
    let chosen: Vec<_> = all
        .iter()
        .filter(|name| wanted.is_none_or(|wanted| wanted == name.as_str()))
        .collect();
    if chosen.is_empty() {
        return Err(format!("no such target; there are: {}", all.join(", ")));
    }
    let mut steps = Steps::new("fuzz");
    if let Some(why) = missing() {
        steps.step("fuzz", || Ok(Done::Skipped(why)));
        return steps.finish(false);
    }
    steps.step("build", || {
        run::run(cargo_fuzz("build").arg("--fuzz-dir=."), Show::OnFailure)?;
        Ok(Done::Ran(format!("{} targets", all.len())))
    });
    for name in chosen {
        steps.step(name, || fuzz(name, seconds));
    }
    steps.finish(false)
}

fn fuzz(name: &str, seconds: u64) -> Result<Done, String> {
    let found = run::scratch("fuzz").join(name);
    std::fs::create_dir_all(&found).map_err(|error| format!("{}: {error}", found.display()))?;
    let mut command = cargo_fuzz("run");
    command
        .args(["--fuzz-dir=.", name])
        .arg(&found)
        .arg(format!("corpus/{name}"))
        .args(["--", "-max_len=4096", "-print_final_stats=1"])
        .arg(format!("-max_total_time={seconds}"));
    let output = run::run(&mut command, Show::OnFailure)?;
    let figure = |key: &str| {
        let line = output.lines().rev().find(|line| line.starts_with(key));
        line.and_then(|line| line.split_whitespace().last())
            .unwrap_or("?")
            .to_owned()
    };
    let coverage = output.lines().rev().find_map(|line| {
        let (_, rest) = line.split_once(" cov: ")?;
        rest.split_whitespace().next()
    });
    Ok(Done::Ran(format!(
        "{} executions, {} edges",
        figure("stat::number_of_executed_units"),
        coverage.unwrap_or("?")
    )))
}

fn cargo_fuzz(verb: &str) -> Command {
    let mut command = Command::new("cargo");
    command
        .args(["+nightly", "fuzz", verb])
        .current_dir(run::root().join("tests/fuzz"))
        .env_remove("RUSTFLAGS");
    command
}

/// Why there can be no fuzzing here.
fn missing() -> Option<String> {
    let nightly = Command::new("cargo")
        .args(["+nightly", "--version"])
        .output();
    if !nightly.is_ok_and(|output| output.status.success()) {
        return Some("no nightly toolchain: rustup toolchain install nightly".to_owned());
    }
    run::find("cargo-fuzz")
        .is_none()
        .then(|| "no cargo-fuzz: cargo install cargo-fuzz".to_owned())
}

/// The names of all targets, in order.
fn targets() -> Result<Vec<String>, String> {
    let dir = run::root().join("tests/fuzz/targets");
    let entries = std::fs::read_dir(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    let mut names: Vec<_> = entries
        .filter_map(|entry| {
            Some(
                entry
                    .ok()?
                    .path()
                    .file_stem()?
                    .to_string_lossy()
                    .into_owned(),
            )
        })
        .collect();
    names.sort();
    Ok(names)
}
