//! The facade's public API as a text that is reviewed: what a change adds, alters or takes away
//! shows in its diff.
//!
//! The text is what rustdoc prints of each public item: its declaration, the signatures of its
//! methods, the traits it has. Rustdoc inlines what the facade re-exports, so that this is what
//! apps see, wherever it is written. Another release of rustdoc may print the same API in other
//! words; then a difference says nothing and the step is skipped by that reason.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::run::{self, Done, Outcome, Show, Steps};

const FILE: &str = "docs/API.txt";
const FACADE: &str = "cranpose-services";

pub(crate) fn run(arguments: &[String]) -> Outcome {
    match arguments {
        [] => {
            let mut steps = Steps::new("api");
            steps.step(FILE, step);
            steps.finish(false)
        }
        [flag] if flag == "--bless" => {
            let path = run::root().join(FILE);
            std::fs::write(&path, text()?).map_err(|error| format!("{FILE}: {error}"))?;
            println!("{FILE} is written: review its difference");
            Ok(())
        }
        _ => Err("the only flag is --bless".to_owned()),
    }
}

pub(crate) fn step() -> Result<Done, String> {
    let kept = std::fs::read_to_string(run::root().join(FILE))
        .map_err(|error| format!("{FILE}: {error}; `cargo xtask api --bless` writes it"))?;
    let now = text()?;
    if kept == now {
        return Ok(Done::Ran(format!("{} lines", kept.lines().count())));
    }
    let by = |text: &str| text.lines().next().unwrap_or_default().to_owned();
    if by(&kept) != by(&now) {
        return Ok(Done::Skipped(format!(
            "written by another rustdoc: {}",
            by(&kept)
        )));
    }
    let (lost, gained) = differences(&kept, &now);
    for line in &lost {
        eprintln!("- {line}");
    }
    for line in &gained {
        eprintln!("+ {line}");
    }
    Err(format!(
        "the public API is not that of {FILE}: {} lines lost, {} gained; if that is meant, \
         `cargo xtask api --bless`",
        lost.len(),
        gained.len()
    ))
}

/// Lines of each text that the other lacks.
fn differences<'a>(kept: &'a str, now: &'a str) -> (Vec<&'a str>, Vec<&'a str>) {
    let lacks = |text: &'a str, other: &'a str| {
        text.lines()
            .filter(|line| !other.lines().any(|found| found == *line))
            .collect()
    };
    (lacks(kept, now), lacks(now, kept))
}

fn text() -> Result<String, String> {
    let built = run::scratch("api");
    // Pages of items that are gone would stay and be read.
    let pages = built.join("doc");
    if pages.exists() {
        std::fs::remove_dir_all(&pages).map_err(|error| error.to_string())?;
    }
    let mut cargo = run::cargo();
    cargo.args(["doc", "--no-deps", "--all-features", "-p", FACADE]);
    run::run(cargo.env("CARGO_TARGET_DIR", &built), Show::OnFailure)?;
    let rustdoc = std::env::var_os("RUSTDOC").unwrap_or_else(|| "rustdoc".into());
    let version = run::output(Command::new(rustdoc).arg("-V"))?;
    let minor = version
        .split(['.', ' '])
        .take(3)
        .collect::<Vec<_>>()
        .join(".");
    let mut text = format!(
        "By {}. `cargo xtask api` compares.\n",
        minor.replacen('.', " ", 1)
    );
    let root = pages.join(FACADE.replace('-', "_"));
    let mut files = item_pages(&root)?;
    files.sort();
    for file in &files {
        let html = std::fs::read_to_string(file).map_err(|error| error.to_string())?;
        let path = file.strip_prefix(&root).unwrap_or(file).with_extension("");
        let words = path.iter().map(|part| part.to_string_lossy());
        let path: Vec<String> = words
            .map(|part| part.rsplit('.').next().unwrap_or_default().to_owned())
            .collect();
        text.push_str(&format!("\n# {}\n{}", path.join("::"), item(&html)?));
    }
    match files.len() {
        0 => Err(format!("{}: rustdoc wrote no item", root.display())),
        _ => Ok(text),
    }
}

/// The pages of items, in this folder and below; index pages and the like aside.
fn item_pages(dir: &Path) -> Result<Vec<PathBuf>, String> {
    const KINDS: &[&str] = &[
        "constant", "enum", "fn", "macro", "static", "struct", "trait", "type",
    ];
    let mut pages = Vec::new();
    let entries = std::fs::read_dir(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    for entry in entries {
        let path = entry.map_err(|error| error.to_string())?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if path.is_dir() {
            pages.extend(item_pages(&path)?);
        } else if name.ends_with(".html")
            && name
                .split_once('.')
                .is_some_and(|(kind, _)| KINDS.contains(&kind))
        {
            pages.push(path);
        }
    }
    Ok(pages)
}

/// Declaration, methods and traits of one page.
fn item(html: &str) -> Result<String, String> {
    let declaration = html
        .split_once("item-decl\"><code>")
        .and_then(|(_, rest)| rest.split_once("</code></pre>"))
        .map(|(declaration, _)| plain(declaration))
        .ok_or("a page without a declaration")?;
    let mut text = String::new();
    for line in declaration.lines().filter(|line| !line.trim().is_empty()) {
        if !line.trim_start().starts_with("//") {
            text.push_str(line.trim_end());
            text.push('\n');
        }
    }
    let mut section = "";
    let mut rest = html;
    while let Some((kind, found, after)) = next_header(rest) {
        rest = after;
        match kind {
            Header::Section => section = found,
            Header::Impl | Header::Method => {
                let line = plain(found)
                    .split_whitespace()
                    .collect::<Vec<_>>()
                    .join(" ");
                let shown = match (section, &kind) {
                    ("implementations", Header::Method) => true,
                    ("trait-implementations" | "synthetic-implementations", Header::Impl) => {
                        !NOT_OURS
                            .iter()
                            .any(|name| line.contains(&format!(" {name} for ")))
                    }
                    _ => false,
                };
                if shown {
                    text.push_str(&format!("  {line}\n"));
                }
            }
        }
    }
    Ok(text)
}

/// Traits that the compiler gives and no stable program can name.
const NOT_OURS: &[&str] = &[
    "Freeze",
    "!Freeze",
    "StructuralPartialEq",
    "UnsafeUnpin",
    "!UnsafeUnpin",
];

enum Header {
    /// An `h2`; its id.
    Section,
    Impl,
    Method,
}

/// The next header of a page, its text (a section's id), and what follows it.
fn next_header(html: &str) -> Option<(Header, &str, &str)> {
    const CODE: &str = " class=\"code-header\">";
    let mut from = 0;
    loop {
        let at = from + html[from..].find("<h")?;
        let (level, tag) = (html.as_bytes().get(at + 2)?, &html[at + 3..]);
        from = at + 3;
        if *level == b'2' {
            if let Some((id, after)) = tag
                .strip_prefix(" id=\"")
                .and_then(|rest| rest.split_once('"'))
            {
                return Some((Header::Section, id, after));
            }
        }
        if let Some(inside) = tag.strip_prefix(CODE) {
            match level {
                b'3' => {
                    let (found, after) = inside.split_once("</h3>")?;
                    return Some((Header::Impl, found, after));
                }
                b'4' => {
                    let (found, after) = inside.split_once("</h4>")?;
                    return Some((Header::Method, found, after));
                }
                _ => {}
            }
        }
    }
}

/// The text of a piece of HTML.
fn plain(html: &str) -> String {
    let mut text = String::new();
    for (index, part) in html.split('<').enumerate() {
        let (tag, shown) = match index {
            0 => ("", part),
            _ => part.split_once('>').unwrap_or((part, "")),
        };
        // These stand where the eye sees a new line.
        if tag.starts_with("div") || tag.starts_with("/div") || tag.starts_with("br") {
            text.push('\n');
        }
        text.push_str(shown);
    }
    let entities = [
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&quot;", "\""),
        ("&#39;", "'"),
        ("&amp;", "&"),
    ];
    entities.iter().fold(text, |text, (entity, character)| {
        text.replace(entity, character)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "<pre class=\"rust item-decl\"><code>pub struct <a href=\"x\">A</a>&lt;T&gt; {\n    \
        // note\n    pub b: u8,\n}</code></pre>\
        <h2 id=\"implementations\" class=\"s\">Implementations</h2>\
        <h3 class=\"code-header\">impl A</h3>\
        <h4 class=\"code-header\">pub fn <a>f</a>(&amp;self,\n    n: u64)</h4>\
        <h2 id=\"trait-implementations\">Traits</h2>\
        <h3 class=\"code-header\">impl Debug for A</h3>\
        <h4 class=\"code-header\">fn fmt(&amp;self)</h4>\
        <h3 class=\"code-header\">impl Freeze for A</h3>\
        <h2 id=\"blanket-implementations\">Blanket</h2>\
        <h3 class=\"code-header\">impl&lt;T&gt; Any for T</h3>";

    #[test]
    fn an_item_is_its_declaration_methods_and_traits() {
        let text = item(PAGE).expect("a declaration");
        assert_eq!(
            text,
            "pub struct A<T> {\n    pub b: u8,\n}\n  pub fn f(&self, n: u64)\n  impl Debug for A\n"
        );
        assert!(item("<h2 id=\"implementations\">").is_err());
    }

    #[test]
    fn what_was_lost_and_gained() {
        assert_eq!(differences("a\nb\n", "b\nc\n"), (vec!["a"], vec!["c"]));
        assert_eq!(differences("a\n", "a\n"), (vec![], vec![]));
    }
}
