//! Rules about manifests and documents: what they claim must be so.

use std::collections::BTreeSet;

use super::source::code_only;
use super::{Complaint, Tree, target_table};

/// Which of our crates a crate may depend on, lowest first.
const LAYERS: &[(&str, &[&str])] = &[
    ("peer-proto", &[]),
    ("peer-core", &["peer-proto"]),
    ("peer-net", &["peer-proto", "peer-core"]),
    (
        "cranpose-services",
        &["peer-proto", "peer-core", "peer-net"],
    ),
];

pub(super) fn dependency_direction(tree: &Tree) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for (path, manifest) in tree.iter().filter(|(path, _)| path.ends_with("Cargo.toml")) {
        let name = package_name(manifest);
        let layer = LAYERS.iter().find(|(layer, _)| Some(*layer) == name);
        for (section, key) in entries(manifest) {
            let ends_in = |kind: &str| section == kind || section.ends_with(&format!(".{kind}"));
            if !ends_in("dependencies") && !ends_in("build-dependencies") {
                continue;
            }
            // Both `name.workspace = true` and `name = { … }`.
            let dependency = key.split('.').next().unwrap_or(key).trim_matches('"');
            match layer {
                Some((_, allowed)) => {
                    let ours = LAYERS.iter().any(|(layer, _)| *layer == dependency);
                    if (ours && !allowed.contains(&dependency)) || dependency == "peer-tests" {
                        complaints.push(format!("{path}: `{dependency}` is not below this crate"));
                    }
                }
                None if name == Some("xtask") => {
                    complaints.push(format!("{path}: `{dependency}`: xtask needs std alone"));
                }
                None => {}
            }
        }
    }
    for (layer, _) in LAYERS {
        if tree.get(&format!("crates/{layer}/Cargo.toml")).is_none() {
            complaints.push(format!(
                "crates/{layer}: no such crate, but a layer of that name"
            ));
        }
    }
    complaints
}

/// Workspaces of their own, which the lints of this one do not reach.
const OTHER_WORKSPACES: &[&str] = &[
    // Exports functions to C, which takes an unsafe attribute.
    "tests/host/",
    // The fuzzer's entry point is a macro with unsafe code in it.
    "tests/fuzz/",
];

pub(super) fn unsafe_forbidden(tree: &Tree) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    let workspace = tree.get("Cargo.toml").unwrap_or_default();
    let forbids =
        values(workspace, "workspace.lints.rust", "unsafe_code").any(|v| v == "\"forbid\"");
    if !forbids {
        complaints.push("Cargo.toml: [workspace.lints.rust] must forbid unsafe_code".to_owned());
    }
    for (path, manifest) in tree.iter().filter(|(path, _)| path.ends_with("Cargo.toml")) {
        let other = OTHER_WORKSPACES.iter().any(|dir| path.starts_with(dir));
        if package_name(manifest).is_some() && !other {
            let inherits = values(manifest, "lints", "workspace").any(|value| value == "true");
            if !inherits {
                complaints.push(format!("{path}: `[lints] workspace = true` is missing"));
            }
        }
    }
    for (path, text) in tree.rust() {
        if OTHER_WORKSPACES.iter().any(|dir| path.starts_with(dir)) {
            continue;
        }
        let code = code_only(text);
        if code.contains("allow(unsafe_code") || code.contains("expect(unsafe_code") {
            complaints.push(format!("{path}: allows unsafe code"));
        }
    }
    complaints
}

pub(super) fn manifest_msrv(manifest: &str) -> Option<String> {
    value(manifest, "workspace.package", "rust-version")
}

/// The value of `key` in `[section]` of a manifest, without its quotes.
pub(crate) fn value(manifest: &str, section: &str, key: &str) -> Option<String> {
    values(manifest, section, key)
        .next()
        .map(|value| value.trim_matches('"').to_owned())
}

/// The names of a manifest's features, `default` aside.
pub(crate) fn features(manifest: &str) -> Vec<String> {
    entries(manifest)
        .filter(|(section, key)| *section == "features" && *key != "default")
        .map(|(_, key)| key.to_owned())
        .collect()
}

pub(super) fn readme_msrv(tree: &Tree) -> Vec<Complaint> {
    let Some(msrv) = manifest_msrv(tree.get("Cargo.toml").unwrap_or_default()) else {
        return vec!["Cargo.toml: no rust-version in [workspace.package]".to_owned()];
    };
    let Some(readme) = tree.get("README.md") else {
        return Vec::new();
    };
    let told = rust_versions(readme);
    if told.is_empty() {
        return vec!["README.md: does not tell the minimum Rust version".to_owned()];
    }
    told.iter()
        .filter(|version| **version != msrv)
        .map(|version| format!("README.md: tells Rust {version}, the manifest {msrv}"))
        .collect()
}

/// Versions that follow the word Rust or MSRV.
fn rust_versions(text: &str) -> Vec<&str> {
    let mut words =
        text.split(|c: char| c.is_whitespace() || matches!(c, '*' | '`' | '(' | ')' | ','));
    let mut found = Vec::new();
    let mut previous = "";
    for word in words.by_ref().filter(|word| !word.is_empty()) {
        let version = word.trim_end_matches(['.', '+', ';', ':']);
        let number = version.starts_with("1.")
            && version[2..]
                .bytes()
                .all(|b| b.is_ascii_digit() || b == b'.');
        if number && matches!(previous.trim_end_matches(':'), "Rust" | "MSRV" | "rustc") {
            found.push(version);
        }
        previous = word;
    }
    found
}

pub(super) fn readme_commands(tree: &Tree) -> Vec<Complaint> {
    let Some(readme) = tree.get("README.md") else {
        return Vec::new();
    };
    README_COMMANDS
        .iter()
        .filter(|command| !readme.lines().any(|line| line.trim() == **command))
        .map(|command| format!("README.md: no line `{command}`, which cargo xtask ci runs"))
        .collect()
}

/// Set-up, main job and tests, as the README tells them and `cargo xtask ci` runs them.
pub(crate) const README_COMMANDS: &[&str] = &[
    "cargo xtask setup",
    "cargo run --release --example peer",
    "cargo test --workspace",
];

const TARGETS_BEGIN: &str = "<!-- targets: begin -->";
const TARGETS_END: &str = "<!-- targets: end -->";

pub(super) fn target_tables(tree: &Tree) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for path in ["README.md", "docs/PORTABILITY.md"] {
        let Some(text) = tree.get(path) else { continue };
        let told = text
            .split_once(TARGETS_BEGIN)
            .and_then(|(_, rest)| rest.split_once(TARGETS_END))
            .map(|(table, _)| table.trim());
        match told {
            None => complaints.push(format!(
                "{path}: no table between {TARGETS_BEGIN} and its end"
            )),
            Some(table) if table != target_table().trim() => {
                complaints.push(format!(
                    "{path}: not the table of `cargo xtask targets markdown`"
                ));
            }
            Some(_) => {}
        }
    }
    complaints
}

/// Every row of every table in these documents ends with the tests that show it, in backticks.
pub(super) fn rows_with_tests(tree: &Tree) -> Vec<Complaint> {
    let names = test_names(tree);
    ["docs/HTTP.md", "docs/WEB.md"]
        .into_iter()
        .filter_map(|path| Some((path, tree.get(path)?)))
        .flat_map(|(path, text)| rows_without_tests(path, text, &names))
        .collect()
}

fn rows_without_tests(path: &str, text: &str, names: &BTreeSet<String>) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    let mut rows = 0;
    let mut in_table = false;
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if !line.starts_with('|') {
            in_table = false;
            continue;
        }
        let last = last_cell(line);
        if !in_table {
            in_table = true;
            if !matches!(last.to_lowercase().as_str(), "test" | "tests") {
                complaints.push(format!(
                    "{path}:{}: the last column is not `tests`",
                    number + 1
                ));
            }
            continue;
        }
        if last.chars().all(|c| matches!(c, '-' | ':' | ' ')) && !last.is_empty() {
            continue;
        }
        rows += 1;
        let tests: Vec<&str> = last.split('`').skip(1).step_by(2).collect();
        if tests.is_empty() {
            complaints.push(format!("{path}:{}: this row names no test", number + 1));
        }
        for test in tests {
            let name = test.rsplit("::").next().unwrap_or(test);
            if !names.contains(name) {
                complaints.push(format!("{path}:{}: no test is named `{test}`", number + 1));
            }
        }
    }
    if rows == 0 {
        complaints.push(format!("{path}: no table of rules"));
    }
    complaints
}

/// The last cell of a table row; a `\|` does not end a cell.
fn last_cell(line: &str) -> String {
    let line = line.replace("\\|", "\u{1}");
    let line = line.strip_suffix('|').unwrap_or(&line);
    line.rsplit('|')
        .next()
        .unwrap_or_default()
        .trim()
        .replace('\u{1}', "|")
}

/// Names a test can go by: functions, rows named by a string, and rows of a macro named by an
/// identifier at the start of a line.
fn test_names(tree: &Tree) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (_, text) in tree.rust().filter(|(path, _)| !path.starts_with("xtask/")) {
        if !text.contains("#[test]") && !text.contains("!") {
            continue;
        }
        for line in code_only(text).lines() {
            let line = line.trim_start();
            if let Some((_, rest)) = line.split_once("fn ") {
                names.insert(identifier(rest).to_owned());
            }
            let first = identifier(line);
            if !first.is_empty()
                && line[first.len()..]
                    .trim_start()
                    .starts_with([':', ',', '='])
            {
                names.insert(first.to_owned());
            }
        }
        // Pairs of quotes lose their place after a raw string; each odd and even part is taken.
        names.extend(
            text.lines()
                .flat_map(|line| line.split('"'))
                .map(str::to_owned),
        );
    }
    names
}

fn identifier(text: &str) -> &str {
    let end = text
        .find(|c: char| c != '_' && !c.is_ascii_alphanumeric())
        .unwrap_or(text.len());
    &text[..end]
}

fn package_name(manifest: &str) -> Option<&str> {
    values(manifest, "package", "name")
        .next()
        .map(|value| value.trim_matches('"'))
}

/// The values of `key` in `[section]` of a manifest, quotes and all.
fn values<'a>(manifest: &'a str, section: &'a str, key: &'a str) -> impl Iterator<Item = &'a str> {
    lines(manifest).filter_map(move |(found_section, found_key, value)| {
        (found_section == section && found_key == key).then_some(value)
    })
}

/// Section and key of each entry of a manifest.
fn entries(manifest: &str) -> impl Iterator<Item = (&str, &str)> {
    lines(manifest).map(|(section, key, _)| (section, key))
}

/// The `key = value` lines of a manifest, with the section they stand in. Enough of TOML for the
/// manifests of this tree; an array over several lines shows as its first line.
fn lines(manifest: &str) -> impl Iterator<Item = (&str, &str, &str)> {
    let mut section = "";
    manifest.lines().filter_map(move |line| {
        let line = line.trim();
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']').trim_start_matches('[');
            return None;
        }
        let (key, value) = line.split_once('=')?;
        (!line.starts_with('#')).then(|| (section, key.trim(), value.trim()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str = "[workspace.package]\nrust-version = \"1.85\"\n\
                        [workspace.lints.rust]\nunsafe_code = \"forbid\"\n";

    fn with_layers(extra: &[(&str, &str)]) -> Tree {
        let mut files = vec![("Cargo.toml", ROOT)];
        for (path, name) in [
            ("crates/peer-proto/Cargo.toml", "peer-proto"),
            ("crates/peer-core/Cargo.toml", "peer-core"),
            ("crates/peer-net/Cargo.toml", "peer-net"),
            ("crates/cranpose-services/Cargo.toml", "cranpose-services"),
        ] {
            assert!(path.contains(name));
            files.push((path, ""));
        }
        files.extend(extra);
        Tree::of(&files)
    }

    #[test]
    fn a_dependency_upwards_is_found() {
        assert_eq!(
            dependency_direction(&with_layers(&[])),
            Vec::<String>::new()
        );
        for (manifest, expected) in [
            (
                "[package]\nname = \"peer-core\"\n[dependencies]\npeer-proto.workspace = true\n",
                0,
            ),
            (
                "[package]\nname = \"peer-core\"\n[dependencies]\npeer-net.workspace = true\n",
                1,
            ),
            (
                "[package]\nname = \"peer-core\"\n[dev-dependencies]\npeer-tests = \"0\"\n",
                0,
            ),
            (
                "[package]\nname = \"peer-proto\"\n[target.x.dependencies]\npeer-core = {}\n",
                1,
            ),
            (
                "[package]\nname = \"xtask\"\n[dependencies]\nanyhow = \"1\"\n",
                1,
            ),
        ] {
            let tree = with_layers(&[("crates/peer-core/Cargo.toml", manifest)]);
            assert_eq!(dependency_direction(&tree).len(), expected, "{manifest}");
        }
    }

    #[test]
    fn features_are_read() {
        let manifest = "[features]\ndefault = []\nsendfile = [\"x\"]\n[lints]\nworkspace = true\n";
        assert_eq!(features(manifest), ["sendfile"]);
    }

    #[test]
    fn unsafe_code_is_forbidden_everywhere() {
        let good = "[package]\nname = \"a\"\n[lints]\nworkspace = true\n";
        let bad = "[package]\nname = \"a\"\n[lints.rust]\nunsafe_code = \"allow\"\n";
        let rule = |files: &[(&str, &str)]| unsafe_forbidden(&Tree::of(files)).len();
        assert_eq!(rule(&[("Cargo.toml", ROOT), ("a/Cargo.toml", good)]), 0);
        assert_eq!(rule(&[("Cargo.toml", ROOT), ("a/Cargo.toml", bad)]), 1);
        assert_eq!(
            rule(&[("Cargo.toml", ROOT), ("tests/host/Cargo.toml", bad)]),
            0
        );
        assert_eq!(rule(&[("Cargo.toml", ""), ("a/Cargo.toml", good)]), 1);
        assert_eq!(
            rule(&[("Cargo.toml", ROOT), ("a.rs", "#![allow(unsafe_code)]")]),
            1
        );
    }

    #[test]
    fn the_readme_tells_the_manifests_version() {
        let rule =
            |readme: &str| readme_msrv(&Tree::of(&[("Cargo.toml", ROOT), ("README.md", readme)]));
        assert_eq!(rule("Needs Rust 1.85."), Vec::<String>::new());
        assert_eq!(
            rule("MSRV: **1.85**, Rust `1.85` or later"),
            Vec::<String>::new()
        );
        assert_eq!(rule("Needs Rust 1.84.").len(), 1);
        assert_eq!(rule("Needs a compiler.").len(), 1);
        assert_eq!(rule("HTTP/1.1 in Rust").len(), 1);
    }

    #[test]
    fn the_readme_tells_the_commands() {
        let rule = |readme: &str| readme_commands(&Tree::of(&[("README.md", readme)])).len();
        assert_eq!(rule(&README_COMMANDS.join("\n")), 0);
        assert_eq!(rule("cargo test"), README_COMMANDS.len());
    }

    #[test]
    fn target_tables_are_compared() {
        let rule = |text: &str| target_tables(&Tree::of(&[("README.md", text)])).len();
        let table = format!("{TARGETS_BEGIN}\n{}{TARGETS_END}\n", target_table());
        assert_eq!(rule(&table), 0);
        assert_eq!(rule(&table.replace("tested", "checked")), 1);
        assert_eq!(rule("no table"), 1);
    }

    #[test]
    fn rows_of_http_name_tests_that_exist() {
        let rule = |rows: &str| {
            let table = format!("| rule | tests |\n| --- | --- |\n{rows}");
            let test =
                "#[test]\nfn head_is_split() {}\nrows! {\n    bare_lf: 400,\n}\nrow(\"no host\");";
            rows_with_tests(&Tree::of(&[
                ("docs/HTTP.md", &table),
                ("tests/it/wire.rs", test),
            ]))
            .len()
        };
        assert_eq!(rule("| a | `wire::head_is_split` |\n"), 0);
        assert_eq!(rule("| a | `bare_lf`, `no host` |\n"), 0);
        assert_eq!(rule("| a \\| b | `bare_lf` |\n"), 0);
        assert_eq!(rule("| a | `missing` |\n"), 1);
        assert_eq!(rule("| a | bare_lf |\n"), 1);
        assert_eq!(rule("| a | |\n"), 1);
        assert_eq!(rule(""), 1);
        let web = Tree::of(&[("docs/WEB.md", "| a | tests |\n| - | - |\n| c | `d` |\n")]);
        assert_eq!(rows_with_tests(&web).len(), 1);
        let other = Tree::of(&[("docs/HTTP.md", "| a | b |\n| - | - |\n| c | `d` |\n")]);
        assert_eq!(rows_with_tests(&other).len(), 2);
    }
}
