//! A release, rehearsed: each crate as it would be published, built and tested from its package
//! alone, and the claims of the documents held against the manifests. Nothing is uploaded.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::run::{self, Done, Outcome, Show, Steps};
use crate::tidy;

/// The crates that are published, each after what it depends on.
pub(crate) const CRATES: &[&str] = &["peer-proto", "peer-core", "peer-net", "cranpose-services"];

/// What every package must hold beside its sources.
const PACKAGED: &[&str] = &["Cargo.toml", "LICENSE-APACHE", "LICENSE-MIT"];

pub(crate) fn run(arguments: &[String]) -> Outcome {
    if arguments != ["--dry-run"] {
        return Err("only --dry-run: docs/RELEASING.md tells what a person does after it".into());
    }
    let mut steps = Steps::new("release");
    steps.step("versions", versions);
    steps.step("changelog", changelog);
    steps.step("claims", claims);
    steps.step("package", package_step);
    let mut unpacked = Err("not unpacked".to_owned());
    steps.step("unpack", || {
        unpacked = unpack();
        unpacked
            .clone()
            .map(|dir| Done::Ran(dir.display().to_string()))
    });
    if let Ok(dir) = unpacked {
        for name in CRATES {
            steps.step(&format!("test {name}"), || test(&dir, name));
        }
        for name in CRATES {
            steps.step(&format!("docs {name}"), || docs(&dir, name));
        }
    }
    steps.step("semver", semver);
    steps.finish(false)
}

/// One version for all, also where they require each other.
fn versions() -> Result<Done, String> {
    let manifest = read(&run::root().join("Cargo.toml"))?;
    let version = version(&manifest)?;
    for name in CRATES {
        let requirement = format!("version = \"{version}\"");
        let line = manifest
            .lines()
            .find(|line| line.starts_with(&format!("{name} = ")));
        if !line.is_some_and(|line| line.contains(&requirement)) {
            return Err(format!(
                "Cargo.toml: {name} is not required with {requirement}"
            ));
        }
        let own = read(&run::root().join(format!("crates/{name}/Cargo.toml")))?;
        if !own
            .lines()
            .any(|line| line.trim() == "version.workspace = true")
        {
            return Err(format!(
                "crates/{name}/Cargo.toml: not the workspace's version"
            ));
        }
    }
    Ok(Done::Ran(version))
}

fn version(manifest: &str) -> Result<String, String> {
    tidy::value(manifest, "workspace.package", "version")
        .ok_or_else(|| "Cargo.toml: no version in [workspace.package]".to_owned())
}

/// `Unreleased` stands on top, and this version has a section or will take that one over.
fn changelog() -> Result<Done, String> {
    let text = read(&run::root().join("CHANGELOG.md"))?;
    let version = version(&read(&run::root().join("Cargo.toml"))?)?;
    let mut sections = text.lines().filter_map(|line| line.strip_prefix("## "));
    let first = sections.next().unwrap_or_default();
    if !first.to_lowercase().contains("unreleased") {
        return Err(format!(
            "CHANGELOG.md: the first section is `{first}`, not Unreleased"
        ));
    }
    let unreleased = text
        .lines()
        .skip_while(|line| !line.starts_with("## "))
        .skip(1)
        .take_while(|line| !line.starts_with("## "))
        .filter(|line| line.starts_with("- "))
        .count();
    let told = sections.any(|section| section.trim_start_matches('[').starts_with(&version));
    match (told, unreleased) {
        (true, 0) => Ok(Done::Ran(format!("{version} has its section"))),
        (true, n) => Err(format!(
            "CHANGELOG.md: {n} unreleased lines, but {version} is written"
        )),
        (false, 0) => Err(format!("CHANGELOG.md: nothing is told of {version}")),
        (false, n) => Ok(Done::Ran(format!("{n} lines become {version}"))),
    }
}

/// README and target table against manifests: the same rules as in `cargo xtask tidy`.
fn claims() -> Result<Done, String> {
    if !run::root().join("README.md").is_file() {
        return Err("no README.md".to_owned());
    }
    tidy::run(&[])?;
    Ok(Done::Ran(String::new()))
}

/// Packages every crate and looks into the packages.
pub(crate) fn package_step() -> Result<Done, String> {
    let mut cargo = run::cargo();
    cargo.args(["package", "--no-verify", "--allow-dirty", "--quiet"]);
    for name in CRATES {
        cargo.args(["-p", name]);
    }
    cargo.env("CARGO_TARGET_DIR", packages());
    run::run(&mut cargo, Show::OnFailure)?;
    let mut files = 0;
    for package in package_files()? {
        let list = run::output(Command::new("tar").arg("-tzf").arg(&package))?;
        let inside: Vec<&str> = list
            .lines()
            .filter_map(|line| line.split_once('/').map(|(_, file)| file))
            .collect();
        for file in PACKAGED {
            if !inside.contains(file) {
                return Err(format!("{}: no {file}", package.display()));
            }
        }
        files += inside.len();
    }
    Ok(Done::Ran(format!(
        "{} packages, {files} files",
        CRATES.len()
    )))
}

fn packages() -> PathBuf {
    run::scratch("packages")
}

fn package_files() -> Result<Vec<PathBuf>, String> {
    let version = version(&read(&run::root().join("Cargo.toml"))?)?;
    CRATES
        .iter()
        .map(|name| {
            let file = packages().join(format!("package/{name}-{version}.crate"));
            if file.is_file() {
                Ok(file)
            } else {
                Err(format!("{} is missing", file.display()))
            }
        })
        .collect()
}

/// Unpacks the packages side by side, in a workspace in which they find each other as they would
/// on the registry.
fn unpack() -> Result<PathBuf, String> {
    let dir = run::scratch("release");
    if dir.exists() {
        std::fs::remove_dir_all(&dir).map_err(|error| error.to_string())?;
    }
    std::fs::create_dir_all(&dir).map_err(|error| error.to_string())?;
    let version = version(&read(&run::root().join("Cargo.toml"))?)?;
    let mut manifest = "[workspace]\nresolver = \"3\"\nmembers = [\"*-*\"]\n\n".to_owned();
    manifest.push_str("[patch.crates-io]\n");
    for (name, package) in CRATES.iter().zip(package_files()?) {
        run::output(
            Command::new("tar")
                .arg("-xzf")
                .arg(&package)
                .arg("-C")
                .arg(&dir),
        )?;
        manifest.push_str(&format!("{name} = {{ path = \"{name}-{version}\" }}\n"));
    }
    std::fs::write(dir.join("Cargo.toml"), manifest).map_err(|error| error.to_string())?;
    // The versions that were tested, not whatever is newest today.
    std::fs::copy(run::root().join("Cargo.lock"), dir.join("Cargo.lock"))
        .map_err(|error| error.to_string())?;
    Ok(dir)
}

fn test(dir: &Path, name: &str) -> Result<Done, String> {
    let mut cargo = run::cargo();
    cargo.current_dir(dir).args(["test", "-p", name]);
    cargo.env("CARGO_TARGET_DIR", run::scratch("release-target"));
    let output = run::run(&mut cargo, Show::OnFailure)?;
    Ok(Done::Ran(format!(
        "{} tests passed",
        crate::targets::passed(&output)
    )))
}

/// As docs.rs builds them: from the package, its `docsrs` cfg set, on a compiler with the nightly
/// gates open.
fn docs(dir: &Path, name: &str) -> Result<Done, String> {
    let mut cargo = run::cargo();
    cargo
        .current_dir(dir)
        .args(["doc", "--no-deps", "--lib", "-p", name]);
    cargo.env("CARGO_TARGET_DIR", run::scratch("release-target"));
    cargo
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTDOCFLAGS", "--cfg docsrs -D warnings");
    run::run(&mut cargo, Show::OnFailure)?;
    Ok(Done::Ran(String::new()))
}

/// The facade alone is a promise between versions.
fn semver() -> Result<Done, String> {
    if run::find("cargo-semver-checks").is_none() {
        let install = "cargo install --locked cargo-semver-checks";
        return Ok(Done::Skipped(format!(
            "no cargo-semver-checks: `{install}`"
        )));
    }
    let mut git = Command::new("git");
    git.current_dir(run::root())
        .args(["tag", "--list", "v*", "--sort=-v:refname"]);
    let tags = run::output(&mut git)?;
    let Some(last) = tags.lines().next() else {
        return Ok(Done::Skipped("no release yet to compare with".to_owned()));
    };
    let mut cargo = run::cargo();
    cargo.args([
        "semver-checks",
        "-p",
        "cranpose-services",
        "--baseline-rev",
        last,
    ]);
    run::run(&mut cargo, Show::OnFailure)?;
    Ok(Done::Ran(format!("against {last}")))
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}
