//! `cargo xtask coverage`: lines of proto, core and net that no test reaches, by cargo-llvm-cov.

use std::path::Path;

use crate::run::{self, Done, Outcome, Show, Steps};

/// Debian's llvm, where the toolchain has no llvm-tools.
const LLVM: &str = "/usr/lib/llvm-22/bin";

pub(crate) fn run(_: &[String]) -> Outcome {
    let mut steps = Steps::new("coverage");
    steps.step("coverage", measure);
    steps.finish(false)
}

fn measure() -> Result<Done, String> {
    if run::find("cargo-llvm-cov").is_none() {
        let why = "no cargo-llvm-cov: cargo install cargo-llvm-cov";
        return Ok(Done::Skipped(why.to_owned()));
    }
    let mut cargo = run::cargo();
    cargo.args([
        "llvm-cov",
        "--package=peer-proto",
        "--package=peer-core",
        "--package=peer-net",
        "--package=peer-tests",
        "--ignore-filename-regex=(tests?/|tests\\.rs|xtask)",
        "--show-missing-lines",
        "--summary-only",
    ]);
    if Path::new(LLVM).is_dir() {
        for (name, tool) in [("LLVM_COV", "llvm-cov"), ("LLVM_PROFDATA", "llvm-profdata")] {
            cargo.env(name, Path::new(LLVM).join(tool));
        }
    }
    let output = run::run(&mut cargo, Show::OnFailure)?;
    let table = output
        .lines()
        .skip_while(|line| !line.starts_with("Filename"));
    for line in table {
        println!("{line}");
    }
    Ok(Done::Ran(String::new()))
}
