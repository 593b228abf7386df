//! `cargo xtask bench size`: what a program that serves and fetches a range costs, in bytes, crates and
//! time to build, beside one that does nothing and one of other crates.

use std::{env::consts::EXE_SUFFIX, fs, process::Command, time::Instant};

use super::harness;
use crate::run::{self, Outcome, Show};

/// The programs, and what they stand for.
const PROGRAMS: [(&str, &str); 3] = [
    ("size-nothing", "nothing but `println!`"),
    ("size-peer", "ours"),
    ("size-others", "tiny_http and ureq"),
];

/// Prints a table.
pub(super) fn run() -> Outcome {
    // Before the clock starts.
    run::run(harness("fetch").arg("--locked"), Show::OnFailure)?;
    println!("| program | KiB | above nothing | crates | clean build, s | of CPU, s |");
    println!("| --- | --- | --- | --- | --- | --- |");
    let mut nothing = None;
    for (package, title) in PROGRAMS {
        let bytes = measure(package, title, nothing)?;
        nothing.get_or_insert(bytes);
    }
    Ok(())
}

/// Builds one from nothing, runs it, and prints its row. Returns its bytes.
fn measure(package: &str, title: &str, nothing: Option<u64>) -> Result<u64, String> {
    let target = run::scratch("bench").join("size");
    let _ = fs::remove_dir_all(&target);
    let (began, cpu) = (Instant::now(), children_cpu());
    let build = |profile| {
        let mut cargo = harness("build");
        cargo.args(["--profile", profile, "--package", package]);
        run::run(cargo.env("CARGO_TARGET_DIR", &target), Show::OnFailure)
    };
    build("plain")?;
    let (seconds, cpu) = (began.elapsed().as_secs_f64(), children_cpu() - cpu);
    build("size")?;
    let program = target.join("size").join(format!("{package}{EXE_SUFFIX}"));
    let bytes = fs::metadata(&program)
        .map_err(|error| format!("{}: {error}", program.display()))?
        .len();
    run::run(&mut Command::new(&program), Show::OnFailure)?;
    let mut tree = harness("tree");
    tree.args([
        "--package",
        package,
        "--edges",
        "normal",
        "--prefix",
        "none",
    ]);
    let listed = run::run(&mut tree, Show::OnFailure)?;
    let mut crates: Vec<_> = listed
        .lines()
        .map(|line| line.trim_end_matches(" (*)"))
        .filter(|line| !line.is_empty())
        .collect();
    crates.sort_unstable();
    crates.dedup();
    println!(
        "| {title} | {} | {} | {} | {seconds:.1} | {cpu:.1} |",
        bytes.div_ceil(1024),
        bytes
            .saturating_sub(nothing.unwrap_or(bytes))
            .div_ceil(1024),
        // Itself is none of them.
        crates.len() - 1,
    );
    Ok(bytes)
}

/// Seconds of CPU that ended children have used, to a hundredth, where Linux tells.
fn children_cpu() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The second field, in parentheses, may have blanks; the 16th and 17th are the children's.
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let ticks = fields.split_whitespace().skip(13).take(2);
    ticks
        .filter_map(|field| field.parse::<f64>().ok())
        .sum::<f64>()
        / 100.0
}
