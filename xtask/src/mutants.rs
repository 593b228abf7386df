//! `cargo xtask mutants [crate…] [shard=k/n | on]`: changes each line of proto and core in turn, and
//! wants a test that fails. A mutant that may survive is listed in `tests/mutants.txt` with its reason.
//!
//! The unit tests of the changed crate judge proto and core, and nothing else: they are there to hold each
//! line, and are built and run in seconds. What only a law or the simulator notices is a row that they
//! lack. Any other crate does most of its work over sockets, so the integration tests judge it as well.
//!
//! `shard=k/n` takes every `n`th mutant from the `k`th on, counted from 0: a part of a run that is too
//! long, or a sample. `on` goes on with a whole run that was stopped, and looks again at what survived
//! one: what was caught is not tried again while it stands at the same line and column. A figure is
//! of a run without it.

use std::collections::BTreeMap;
use std::process::Stdio;

use crate::excuses;
use crate::run::{self, Done, Outcome, Steps};

/// Where the mutants that may survive are listed.
const LIST: &str = "tests/mutants.txt";

/// Crates of which no mutant may survive unexcused, and which are tested when none is named.
const HELD: [&str; 2] = ["peer-proto", "peer-core"];

/// Least part of the mutants of any other crate that has to be caught, in percent.
const CAUGHT_LEAST: usize = 90;

/// What tests may take at least before they are taken for endless, in seconds. A tree without a
/// change takes 3 s; where others keep the machine busy, cargo-mutants measures that and waits longer.
const TIMEOUT: &str = "30";

/// What tests may take where the integration tests judge, in seconds. A tree without a change takes 20 s.
const TIMEOUT_OVER_SOCKETS: &str = "150";

/// How these run: without other programs, crowds, and what is measured; and many at the same time, as most
/// of them wait for something.
const OVER_SOCKETS: [&str; 10] = [
    "--skip=real::",
    "--skip=hold::exhaustion::",
    "--skip=hold::memory::",
    "--skip=hold::pace::",
    "--skip=hold::sigpipe::",
    "--skip=hold::soak::",
    "--skip=hold::strangers::",
    "--skip=simulation::",
    "--skip=laws::",
    "--test-threads=8",
];

/// Code of tests, most of which these do not even compile.
const EXCLUDED: [&str; 3] = ["models.rs", "stress.rs", "yields.rs"];

/// What building may take, in seconds: a table that is worked out by the compiler can be endless, too.
const BUILD_TIMEOUT: &str = "300";

/// The same with the integration tests, whose dependencies the first build of each copy has to do.
const BUILD_TIMEOUT_OVER_SOCKETS: &str = "900";

/// How many mutants are tested at the same time at most: each has a copy of the tree and builds there.
const JOBS_MAX: usize = 4;

pub(crate) fn run(arguments: &[String]) -> Outcome {
    let mut crates = Vec::new();
    let mut part = Part::Whole;
    for argument in arguments {
        match (argument.as_str(), argument.strip_prefix("shard=")) {
            ("on", _) => part = Part::Rest,
            (_, Some(shard)) => part = Part::Shard(shard.to_owned()),
            (name, None) => crates.push(name),
        }
    }
    if crates.is_empty() {
        crates.extend(HELD);
    }
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
    for name in crates {
        steps.step(name, || test(name, &part, &excused));
    }
    steps.finish(false)
}

/// Which mutants of a crate are tested.
#[derive(PartialEq)]
enum Part {
    /// All.
    Whole,
    /// All that the run before did not catch.
    Rest,
    /// `k/n` of them, as cargo-mutants takes it.
    Shard(String),
}

fn test(name: &str, part: &Part, excused: &[String]) -> Result<Done, String> {
    let held = HELD.contains(&name);
    let jobs = std::thread::available_parallelism().map_or(1, |threads| threads.get());
    let mut out = run::scratch("mutants").join(name);
    let mut cargo = run::cargo();
    cargo
        .args(["mutants", "--package", name])
        .args(["--jobs", &jobs.min(JOBS_MAX).to_string()]);
    match part {
        Part::Whole => {}
        // cargo-mutants does not say how many of them it could not build, so no part can be told.
        Part::Rest if !held => return Err(format!("{name} is sampled: shard=k/n")),
        Part::Rest => drop(cargo.arg("--iterate")),
        Part::Shard(shard) => {
            // A run of the whole stays, so that it can be gone on with.
            out.push(format!("shard-{}", shard.replace('/', "-of-")));
            cargo.args(["--sharding", "round-robin", "--shard", shard]);
        }
    }
    cargo.arg("--output").arg(&out);
    if held {
        cargo.args(["--minimum-test-timeout", TIMEOUT]);
        cargo.args(["--build-timeout", BUILD_TIMEOUT]);
        cargo.args(["--", "--lib"]);
    } else {
        cargo.args(EXCLUDED.map(|name| format!("--exclude={name}")));
        // Its own `--test-package` leaves the unchanged tree to the tests of the changed crate.
        cargo.arg("--cargo-arg=--package=peer-tests");
        cargo.args(["--timeout", TIMEOUT_OVER_SOCKETS]);
        cargo.args(["--build-timeout", BUILD_TIMEOUT_OVER_SOCKETS]);
        cargo
            .args(["--", "--lib", "--test", "it", "--"])
            .args(OVER_SOCKETS);
    }
    // Nobody debugs it; and the little that optimizing adds to building core its tests give back.
    cargo
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        .env("CARGO_PROFILE_DEV_OPT_LEVEL", "1")
        .env_remove("CARGO_TARGET_DIR");
    std::fs::create_dir_all(&out).map_err(|error| format!("{}: {error}", out.display()))?;
    let status = cargo.stdin(Stdio::null()).status();
    let status = status.map_err(|error| format!("cargo mutants: {error}"))?;
    // 2 where a mutant survives, 3 where one had to be ended: which ones may is judged here. Anything
    // else, and not every mutant was tested.
    if !matches!(status.code(), Some(0 | 2 | 3)) {
        return Err(format!("cargo mutants: {status}"));
    }
    let lines = |file: &str| {
        let path = out.join("mutants.out").join(file);
        std::fs::read_to_string(&path).unwrap_or_default()
    };
    let count = |file: &str| lines(file).lines().count();
    let missed = lines("missed.txt");
    let before = match part {
        Part::Rest => count("previously_caught.txt"),
        Part::Whole | Part::Shard(_) => 0,
    };
    let ended = count("timeout.txt");
    let caught = count("caught.txt") + ended;
    let judged = Judged::of(name, &missed, excused);
    let tested = caught + judged.unnoticed.len();
    if tested + before == 0 {
        return Err("no mutant was tested".to_owned());
    }
    let mut note = format!(
        "{caught} caught, {ended} of them by their time; {} missed, {} excused; {} did not compile",
        judged.unnoticed.len(),
        judged.excused,
        count("unviable.txt"),
    );
    if before > 0 {
        note.push_str(&format!("; {before} caught or not compiled before"));
    }
    for mutant in &judged.unnoticed {
        println!("no test notices: {mutant}");
    }
    if held {
        if !judged.unnoticed.is_empty() {
            return Err(note);
        }
    } else {
        note.push_str(&format!("; {} % caught", 100 * caught / tested));
        if 100 * caught < CAUGHT_LEAST * tested {
            return Err(note);
        }
    }
    // Of a part of the mutants, nobody can tell.
    if held && !matches!(part, Part::Shard(_)) && !judged.stale.is_empty() {
        let stale = judged.stale.join("\n");
        return Err(format!("{LIST} excuses what is caught or gone:\n{stale}"));
    }
    Ok(Done::Ran(note))
}

/// What survived, held against the list of what may.
#[derive(Debug, PartialEq)]
struct Judged<'a> {
    /// Survivors that no line excuses.
    unnoticed: Vec<&'a str>,
    /// How many are excused.
    excused: usize,
    /// Lines of the list that excuse nothing.
    stale: Vec<&'a str>,
}

impl<'a> Judged<'a> {
    /// A line excuses one survivor: a function may have two places where the same may be changed.
    fn of(name: &str, missed: &'a str, list: &'a [String]) -> Self {
        let folder = format!("crates/{name}/");
        let mut left = BTreeMap::<_, usize>::new();
        for line in list.iter().filter(|line| line.starts_with(&folder)) {
            *left.entry(line.as_str()).or_default() += 1;
        }
        let mut unnoticed = Vec::new();
        let mut excused = 0;
        for mutant in missed.lines() {
            match left.get_mut(without_place(mutant).as_str()) {
                Some(count @ 1..) => {
                    *count -= 1;
                    excused += 1;
                }
                _ => unnoticed.push(mutant),
            }
        }
        let stale = left.into_iter().filter(|(_, count)| *count > 0);
        Self {
            unnoticed,
            excused,
            stale: stale.map(|(line, _)| line).collect(),
        }
    }
}

/// `path:line:column: what` as `path: what`: lines move.
fn without_place(mutant: &str) -> String {
    let mut parts = mutant.splitn(4, ':');
    let path = parts.next().unwrap_or_default();
    let what = parts.nth(2).unwrap_or_default();
    format!("{path}:{what}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_excuses_one_survivor_of_its_crate() {
        let list = [
            "crates/a/src/x.rs: replace + with - in f",
            "crates/a/src/x.rs: replace + with - in f",
            "crates/a/src/y.rs: replace < with <= in A::g",
            "crates/b/src/z.rs: replace h -> bool with true",
        ];
        let list = list.map(str::to_owned);
        let missed = "crates/a/src/x.rs:1:2: replace + with - in f\n\
                      crates/a/src/x.rs:3:4: replace + with - in f\n\
                      crates/a/src/x.rs:5:6: replace + with - in f\n";
        let judged = Judged::of("a", missed, &list);
        assert_eq!(
            judged,
            Judged {
                unnoticed: vec!["crates/a/src/x.rs:5:6: replace + with - in f"],
                excused: 2,
                stale: vec!["crates/a/src/y.rs: replace < with <= in A::g"],
            }
        );
        assert_eq!(Judged::of("b", "", &list).stale, [list[3].as_str()]);
    }
}
