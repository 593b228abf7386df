//! `cargo xtask canaries [name…]`: plants each bug of `tests/canaries` in a copy of the tree, and
//! wants a test that fails. A suite that lets one live is no proof of anything.
//!
//! A canary is a text file: lines of `#` that say what is wrong, `by` lines that name the quickest
//! checks that should notice, then pairs to replace, each of which has to be there exactly once:
//!
//! ```text
//! # Counts a truncated download as whole.
//! by core fetch::
//! by sim
//! in crates/peer-core/src/fetch/verdict.rs
//! <<<<
//! the text that is there
//! ====
//! the text to plant
//! >>>>
//! ```
//!
//! A check is `sim`, `laws`, `models`, or tests, of which those whose names hold a text: `core fetch::` are
//! unit tests of peer-core, `it wire::` integration tests.

use std::{
    collections::BTreeSet,
    fmt,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    models,
    run::{self, Done, Outcome, Steps},
};

struct Canary {
    name: String,
    about: String,
    by: Vec<Check>,
    edits: Vec<Edit>,
}

/// What may notice a canary.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Check {
    /// The unit tests of a crate whose names hold a text.
    Unit { package: String, filter: String },
    /// The same of the integration tests.
    Integration { filter: String },
    /// The replayed laws.
    Laws,
    /// The models of what threads share.
    Models,
    /// Worlds of the simulator.
    Simulator,
}

impl Check {
    fn read(text: &str) -> Option<Self> {
        let (what, filter) = text.split_once(' ').unwrap_or((text, ""));
        Some(match (what, filter) {
            ("proto" | "core" | "net", _) => Self::Unit {
                package: format!("peer-{what}"),
                filter: filter.to_owned(),
            },
            ("it", _) => Self::Integration {
                filter: filter.to_owned(),
            },
            ("laws", "") => Self::Laws,
            ("models", "") => Self::Models,
            ("sim", "") => Self::Simulator,
            _ => return None,
        })
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, filter) = match self {
            Self::Unit { package, filter } => (package.as_str(), filter.as_str()),
            Self::Integration { filter } => ("it", filter.as_str()),
            Self::Laws => ("laws", ""),
            Self::Models => ("models", ""),
            Self::Simulator => ("sim", ""),
        };
        f.write_str(format!("{what} {filter}").trim_end())
    }
}

struct Edit {
    file: String,
    old: String,
    new: String,
}

impl Edit {
    /// The file, its text, and its text with the bug.
    fn planted(&self, tree: &Path) -> Result<(PathBuf, String, String), String> {
        let path = tree.join(&self.file);
        let text =
            std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", self.file))?;
        match text.matches(&self.old).count() {
            1 => {
                let bug = text.replace(&self.old, &self.new);
                Ok((path, text, bug))
            }
            n => Err(format!(
                "{}: {n} places to plant it:\n{}",
                self.file, self.old
            )),
        }
    }
}

pub(crate) fn run(arguments: &[String]) -> Outcome {
    let canaries: Vec<_> = read_all()?
        .into_iter()
        .filter(|canary| arguments.is_empty() || arguments.contains(&canary.name))
        .collect();
    if canaries.is_empty() {
        return Err("no such canary".to_owned());
    }
    let scratch = run::scratch("canaries");
    let tree = scratch.join("tree");
    if tree.exists() {
        std::fs::remove_dir_all(&tree).map_err(|error| format!("{}: {error}", tree.display()))?;
    }
    run::copy_workspace(&tree)?;
    let mut steps = Steps::new("canaries");
    // A check that fails anyway notices nothing.
    let checks: BTreeSet<_> = canaries.iter().flat_map(|canary| &canary.by).collect();
    let mut sound = true;
    for check in checks {
        steps.step(&format!("without a canary: {check}"), || {
            let caught = caught_by(check, &tree, &scratch)?;
            sound &= caught.is_none();
            match caught {
                None => Ok(Done::Ran("passes".to_owned())),
                Some(test) => Err(format!("fails by itself: {test}")),
            }
        });
    }
    if sound {
        for canary in &canaries {
            steps.step(&canary.name, || plant(canary, &tree, &scratch));
        }
    }
    steps.finish(false)
}

fn plant(canary: &Canary, tree: &Path, scratch: &Path) -> Result<Done, String> {
    let mut saved = Vec::new();
    let mut planted = Ok(());
    for edit in &canary.edits {
        match edit.planted(tree) {
            Ok((path, before, after)) => {
                write(&path, &after)?;
                saved.push((path, before));
            }
            Err(why) => {
                planted = Err(why);
                break;
            }
        }
    }
    let outcome = planted.and_then(|()| {
        for check in &canary.by {
            if let Some(test) = caught_by(check, tree, scratch)? {
                println!("caught by {test}");
                return Ok(Done::Ran(format!("caught by {test}")));
            }
        }
        Err(format!("nobody noticed: {}", canary.about))
    });
    for (path, text) in saved.into_iter().rev() {
        write(&path, &text)?;
    }
    outcome
}

fn write(path: &Path, text: &str) -> Outcome {
    std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

/// Runs a check: the test that failed, if one did.
fn caught_by(check: &Check, tree: &Path, scratch: &Path) -> Result<Option<String>, String> {
    let mut cargo = Command::new(run::cargo().get_program());
    cargo
        .current_dir(tree)
        .env("CARGO_TARGET_DIR", scratch.join("target"))
        .env("RUST_BACKTRACE", "0");
    match check {
        Check::Unit { package, filter } => {
            cargo.args(["test", "--lib", "-p", package, filter]);
        }
        Check::Integration { filter } => {
            cargo.args(["test", "-p", "peer-tests", "--test", "it", filter]);
        }
        Check::Laws => {
            cargo.args(["run", "--quiet", "-p", "peer-tests", "--bin", "laws"]);
        }
        Check::Models => {
            models::explore(&mut cargo, &scratch.join("target"));
            cargo.arg("models::");
        }
        Check::Simulator => {
            cargo.args(["run", "--quiet", "-p", "peer-tests", "--bin", "sim"]);
            cargo.args(["--", "--seeds", "3000"]);
        }
    }
    let output = cargo.output().map_err(|error| format!("cargo: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        // A filter that nothing has in its name lets every canary live.
        return if text.contains("test result: ok. 0 passed") {
            Err(format!("{check}: no test of that name"))
        } else {
            Ok(None)
        };
    }
    if text.contains("could not compile") {
        let error = text.lines().find(|line| line.starts_with("error"));
        return Err(format!("does not compile: {}", error.unwrap_or_default()));
    }
    let test = text.lines().find_map(|line| {
        let failed = line.strip_prefix("test ")?.strip_suffix(" ... FAILED")?;
        Some(format!("{check}: {failed}"))
    });
    let seed = || {
        let line = text.lines().find(|line| line.contains("breaks the law"))?;
        Some(format!("the simulator: {}", line.split(';').next()?))
    };
    let law = || {
        let line = text.lines().find(|line| line.starts_with("the law "))?;
        let (law, file) = line.split_once(" is broken by ")?;
        let file = Path::new(file).file_name()?.to_string_lossy();
        Some(format!("{law} on {file}"))
    };
    test.or_else(seed)
        .or_else(law)
        .map(Some)
        .ok_or_else(|| format!("failed without a failing test:\n{text}"))
}

fn read_all() -> Result<Vec<Canary>, String> {
    let dir = run::root().join("tests/canaries");
    let entries = std::fs::read_dir(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    let mut paths: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "patch")
        })
        .collect();
    paths.sort();
    paths.iter().map(|path| read(path)).collect()
}

fn read(path: &Path) -> Result<Canary, String> {
    let text =
        std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let wrong = |what: &str| format!("{}: {what}", path.display());
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    let mut canary = Canary {
        name: name.into_owned(),
        about: String::new(),
        by: Vec::new(),
        edits: Vec::new(),
    };
    let mut file = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(about) = line.strip_prefix("# ") {
            canary.about = format!("{} {about}", canary.about).trim().to_owned();
        } else if let Some(check) = line.strip_prefix("by ") {
            let check = Check::read(check);
            canary
                .by
                .push(check.ok_or_else(|| wrong(&format!("what is `{line}`?")))?);
        } else if let Some(name) = line.strip_prefix("in ") {
            file = name.to_owned();
        } else if line == "<<<<" {
            let mut part = |end: &str| -> Result<String, String> {
                let mut part = Vec::new();
                loop {
                    match lines.next() {
                        Some(line) if line == end => return Ok(part.join("\n")),
                        Some(line) => part.push(line),
                        None => return Err(wrong(&format!("no {end}"))),
                    }
                }
            };
            let (old, new) = (part("====")?, part(">>>>")?);
            let file = file.clone();
            canary.edits.push(Edit { file, old, new });
        } else if !line.is_empty() {
            return Err(wrong(&format!("what is `{line}`?")));
        }
    }
    if canary.by.is_empty() || canary.edits.is_empty() || canary.about.is_empty() {
        return Err(wrong("incomplete"));
    }
    Ok(canary)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_canary_has_its_place() {
        let canaries = read_all().expect("each is complete");
        assert!(canaries.len() >= 20, "{} canaries", canaries.len());
        for edit in canaries.iter().flat_map(|canary| &canary.edits) {
            let (_, before, after) = edit
                .planted(&run::root())
                .unwrap_or_else(|why| panic!("{why}"));
            assert_ne!(before, after, "{}", edit.file);
        }
    }

    #[test]
    fn checks_are_known() {
        let filter = "fetch::".to_owned();
        let package = "peer-core".to_owned();
        assert_eq!(
            Check::read("core fetch::"),
            Some(Check::Unit { package, filter })
        );
        let filter = String::new();
        assert_eq!(Check::read("it"), Some(Check::Integration { filter }));
        assert_eq!(Check::read("cores"), None);
        // All of them run.
        assert_eq!(Check::read("laws fetch"), None);
    }
}
