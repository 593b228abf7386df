//! `cargo xtask fuzz [target…] [seconds] [jobs=n] [address]`: runs the fuzz targets of `tests/fuzz` with
//! cargo-fuzz, each from its committed corpus, as many side by side as there are processors. What it
//! finds is kept in the target directory, and never added to the committed corpus by itself.
//!
//! Without a sanitizer, unless `address` asks for that one: no crate here has unsafe code in which it
//! could find anything, and a target does three to five times as much without it. What it can find
//! is in the packages that we use.

use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::Instant;

use crate::run::{self, Done, Outcome, Show, Steps};

/// How long each target runs when nobody says.
const SECONDS: u64 = 10;

pub(crate) fn run(arguments: &[String]) -> Outcome {
    let all = targets()?;
    let asked = Asked::read(arguments, &all)?;
    let mut steps = Steps::new("fuzz");
    if let Some(why) = missing() {
        steps.step("fuzz", || Ok(Done::Skipped(why)));
        return steps.finish(false);
    }
    steps.step("build", || {
        run::run(
            cargo_fuzz("build", asked.address).arg("--fuzz-dir=."),
            Show::OnFailure,
        )?;
        Ok(Done::Ran(format!("{} targets", all.len())))
    });
    if steps.failed() {
        return steps.finish(false);
    }
    let queue = Mutex::new(asked.targets.iter());
    let (sender, results) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..asked.jobs {
            let (queue, sender, asked) = (&queue, sender.clone(), &asked);
            scope.spawn(move || {
                let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
                while let Some(name) = next() {
                    let start = Instant::now();
                    let result = fuzz(name, asked);
                    let _ = sender.send((name, result, start.elapsed()));
                }
            });
        }
        drop(sender);
        for (name, result, time) in results {
            if let Ok(Done::Ran(note)) = &result {
                println!("{name}: {note}");
            }
            steps.done(name, result, time);
        }
    });
    steps.finish(false)
}

/// What the arguments ask for.
#[derive(Debug, PartialEq)]
struct Asked {
    /// In the order in which they start.
    targets: Vec<String>,
    /// How long each runs.
    seconds: u64,
    /// How many run side by side.
    jobs: usize,
    /// Whether the address sanitizer watches.
    address: bool,
}

impl Asked {
    fn read(arguments: &[String], all: &[String]) -> Result<Self, String> {
        let mut asked = Self {
            targets: Vec::new(),
            seconds: SECONDS,
            jobs: std::thread::available_parallelism().map_or(1, |threads| threads.get()),
            address: false,
        };
        for argument in arguments {
            if let Some(jobs) = argument.strip_prefix("jobs=") {
                let jobs = jobs.parse().ok().filter(|jobs| *jobs > 0);
                asked.jobs = jobs.ok_or("jobs= wants how many run side by side")?;
            } else if let Ok(seconds) = argument.parse() {
                asked.seconds = seconds;
            } else if argument == "address" {
                asked.address = true;
            } else if all.contains(argument) {
                asked.targets.push(argument.clone());
            } else {
                let all = all.join(", ");
                return Err(format!("no target is called {argument}; there are: {all}"));
            }
        }
        if asked.targets.is_empty() {
            asked.targets = all.to_vec();
        }
        Ok(asked)
    }
}

fn fuzz(name: &str, asked: &Asked) -> Result<Done, String> {
    let found = run::scratch("fuzz").join(name);
    std::fs::create_dir_all(&found).map_err(|error| format!("{}: {error}", found.display()))?;
    let mut command = cargo_fuzz("run", asked.address);
    command
        .args(["--fuzz-dir=.", name])
        .arg(&found)
        .arg(format!("corpus/{name}"))
        .args(["--", "-max_len=4096", "-print_final_stats=1"])
        .arg(format!("-max_total_time={}", asked.seconds));
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("cargo fuzz: {error}"))?;
    // The fuzzer writes everything there.
    let log = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        eprintln!("{log}");
        return Err(format!("cargo fuzz run {name}: {}", output.status));
    }
    let figures = Figures::read(&log).ok_or("the fuzzer did not say what it did")?;
    Ok(Done::Ran(format!(
        "{} executions, {} edges",
        figures.executions, figures.edges
    )))
}

/// What a run of a target did.
#[derive(Debug, PartialEq)]
struct Figures {
    executions: u64,
    edges: u64,
}

impl Figures {
    fn read(log: &str) -> Option<Self> {
        let last = |key: &str| {
            log.lines().rev().find_map(|line| {
                let (_, rest) = line.split_once(key)?;
                rest.split_whitespace().next()?.parse().ok()
            })
        };
        Some(Self {
            executions: last("stat::number_of_executed_units:")?,
            edges: last(" cov: ")?,
        })
    }
}

fn cargo_fuzz(verb: &str, address: bool) -> Command {
    let mut command = Command::new("cargo");
    command
        .args(["+nightly", "fuzz", verb])
        .arg(format!(
            "--sanitizer={}",
            if address { "address" } else { "none" }
        ))
        .current_dir(run::root().join("tests/fuzz"))
        // A workspace of its own would have a target directory of its own.
        .env("CARGO_TARGET_DIR", run::scratch("fuzz-build"))
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
    let mut names = Vec::new();
    for entry in entries {
        let path = entry
            .map_err(|error| format!("{}: {error}", dir.display()))?
            .path();
        names.extend(
            path.file_stem()
                .map(|name| name.to_string_lossy().into_owned()),
        );
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_understood_or_refused() {
        let words = |words: &str| {
            words
                .split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let all = words("dates server");
        let read = |line: &str| Asked::read(&words(line), &all);
        let asked = read("server 1800 jobs=7 address").unwrap();
        assert_eq!(
            asked,
            Asked {
                targets: words("server"),
                seconds: 1800,
                jobs: 7,
                address: true,
            }
        );
        let asked = read("").unwrap();
        assert_eq!(
            (asked.targets, asked.seconds, asked.address),
            (all.clone(), SECONDS, false)
        );
        for line in ["client", "jobs=0", "jobs=many", "-1"] {
            assert!(read(line).is_err(), "{line}");
        }
    }

    #[test]
    fn figures_are_read_or_missed() {
        let log = "#2\tINITED cov: 12 ft: 13 corp: 1/1b\n\
                   #9\tDONE   cov: 345 ft: 13 corp: 1/1b\n\
                   stat::number_of_executed_units: 6789\n\
                   stat::average_exec_per_sec:     67\n";
        let figures = Figures {
            executions: 6789,
            edges: 345,
        };
        assert_eq!(Figures::read(log), Some(figures));
        assert_eq!(Figures::read("Done 9 runs in 1 second"), None);
    }
}
