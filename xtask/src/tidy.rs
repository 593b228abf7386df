//! The rules of this tree that no compiler checks. Also a test, so `cargo test` keeps them.
//!
//! A rule is a function from the tree to complaints; each has a test that plants the fault it
//! looks for, so that none can pass by seeing nothing.

use std::collections::BTreeMap;
use std::path::Path;

use crate::run::{self, Outcome};
use crate::targets;

mod documents;
mod source;

pub(crate) use documents::{features, value};

/// The text files of the workspace by path, with `/` between the parts.
pub(crate) struct Tree(BTreeMap<String, String>);

impl Tree {
    /// Reads every Rust source, manifest and document that git knows or would add.
    pub(crate) fn read(root: &Path) -> Result<Self, String> {
        let mut files = BTreeMap::new();
        for file in run::files(root)? {
            let kind = Path::new(&file)
                .extension()
                .and_then(|extension| extension.to_str());
            if matches!(kind, Some("rs" | "toml" | "md")) {
                let text = std::fs::read_to_string(root.join(&file));
                files.insert(
                    file.clone(),
                    text.map_err(|error| format!("{file}: {error}"))?,
                );
            }
        }
        Ok(Self(files))
    }

    #[cfg(test)]
    fn of(files: &[(&str, &str)]) -> Self {
        Self(
            files
                .iter()
                .map(|(path, text)| ((*path).to_owned(), (*text).to_owned()))
                .collect(),
        )
    }

    fn get(&self, path: &str) -> Option<&str> {
        self.0.get(path).map(String::as_str)
    }

    fn rust(&self) -> impl Iterator<Item = (&str, &str)> {
        self.iter().filter(|(path, _)| path.ends_with(".rs"))
    }

    fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(path, text)| (path.as_str(), text.as_str()))
    }
}

/// One complaint: where, and what is wrong.
pub(crate) type Complaint = String;

type Rule = (&'static str, fn(&Tree) -> Vec<Complaint>);

const RULES: &[Rule] = &[
    ("calls a layer does without", source::banned_calls),
    ("reachable files", source::unreachable_files),
    ("line length", source::long_lines),
    ("a word on every module", source::undocumented_modules),
    ("ignored tests have a reason", source::ignored_tests),
    ("crates point one way", documents::dependency_direction),
    ("unsafe code is forbidden", documents::unsafe_forbidden),
    ("one minimum Rust version", documents::readme_msrv),
    (
        "tables of rules name their tests",
        documents::rows_with_tests,
    ),
    ("promised targets are told", documents::target_tables),
    ("documented commands exist", documents::readme_commands),
];

pub(crate) fn run(_: &[String]) -> Outcome {
    let tree = Tree::read(&run::root())?;
    let complaints = complaints(&tree);
    for complaint in &complaints {
        eprintln!("{complaint}");
    }
    match complaints.len() {
        0 => {
            println!("tidy: {} rules, {} files", RULES.len(), tree.0.len());
            Ok(())
        }
        n => Err(format!("{n} complaints")),
    }
}

fn complaints(tree: &Tree) -> Vec<Complaint> {
    RULES
        .iter()
        .flat_map(|(name, rule)| {
            rule(tree)
                .into_iter()
                .map(move |complaint| format!("{complaint} [{name}]"))
        })
        .collect()
}

/// The minimum Rust version of the workspace's manifest.
pub(crate) fn msrv(root: &Path) -> Result<String, String> {
    let manifest = root.join("Cargo.toml");
    let text = std::fs::read_to_string(&manifest)
        .map_err(|error| format!("{}: {error}", manifest.display()))?;
    documents::manifest_msrv(&text).ok_or_else(|| "Cargo.toml has no rust-version".to_owned())
}

/// The promised targets as the documents must show them.
fn target_table() -> String {
    targets::markdown()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_tidy() {
        let tree = Tree::read(&run::root()).expect("git lists the tree");
        assert!(
            tree.get("xtask/src/tidy.rs").is_some(),
            "the tree was not read"
        );
        let complaints = complaints(&tree);
        assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    }
}
