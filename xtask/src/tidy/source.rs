//! Rules about Rust sources.

use std::collections::BTreeSet;

use super::{Complaint, Tree};

/// What the sources of a layer do without, outside of tests, comments and strings.
struct Ban {
    /// The start of the paths it holds for.
    layer: &'static str,
    calls: &'static [&'static str],
    why: &'static str,
}

const BANS: &[Ban] = &[
    Ban {
        layer: "crates/peer-proto/src/",
        calls: &[
            "std::net",
            "std::fs",
            "std::thread",
            "Instant",
            "SystemTime::now",
        ],
        why: "proto turns bytes into values and back; it has no socket, thread or clock",
    },
    Ban {
        layer: "crates/peer-core/src/",
        calls: &[
            "std::net",
            "std::fs",
            "std::thread",
            "Instant::now",
            "SystemTime::now",
        ],
        why: "core decides; sockets, threads and clocks are the driver's",
    },
    Ban {
        layer: "crates/",
        calls: &["io::copy"],
        why: "io::copy moves 8 KiB blocks between a file and a socket and halves the rate",
    },
    Ban {
        layer: "crates/",
        calls: &["write_vectored"],
        why: "write_vectored on a socket raises SIGPIPE where write does not",
    },
    Ban {
        layer: "crates/",
        calls: &[
            "println!",
            "print!",
            "eprintln!",
            "eprint!",
            "process::exit",
            "process::abort",
        ],
        why: "a library inside an app logs; it neither prints nor ends the process",
    },
    Ban {
        layer: "",
        calls: &["todo!", "unimplemented!", "dbg!"],
        why: "unfinished",
    },
];

pub(super) fn banned_calls(tree: &Tree) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for (path, text) in tree.rust() {
        if is_test_file(path) {
            continue;
        }
        let code = without_tests(&code_only(text));
        for (number, line) in code.lines().enumerate() {
            for ban in BANS.iter().filter(|ban| applies(ban, path)) {
                for call in ban.calls.iter().filter(|call| contains_path(line, call)) {
                    complaints.push(format!("{path}:{}: `{call}`: {}", number + 1, ban.why));
                }
            }
        }
    }
    complaints
}

fn applies(ban: &Ban, path: &str) -> bool {
    // Examples and benches are programs of their own.
    path.starts_with(ban.layer) && (ban.layer.is_empty() || path.contains("/src/"))
}

fn is_test_file(path: &str) -> bool {
    let of_crate = |name| path.starts_with("crates/") && path.ends_with(name);
    path.ends_with("/tests.rs")
        || path.contains("/tests/")
        || path.starts_with("tests/")
        || of_crate("/models.rs")
        || of_crate("/stress.rs")
}

/// Whether `line` uses `path` as a whole, not as a part of a longer name.
fn contains_path(line: &str, path: &str) -> bool {
    let is_name = |byte: u8| byte == b'_' || byte.is_ascii_alphanumeric();
    line.match_indices(path).any(|(at, _)| {
        let before = line.as_bytes()[..at].last().copied();
        let after = line.as_bytes().get(at + path.len()).copied();
        !before.is_some_and(is_name) && !after.is_some_and(is_name)
    })
}

const COLUMNS: usize = 110;

pub(super) fn long_lines(tree: &Tree) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for (path, text) in tree.rust() {
        for (number, line) in text.lines().enumerate() {
            let columns = line.chars().count();
            if columns > COLUMNS {
                complaints.push(format!("{path}:{}: {columns} columns", number + 1));
            }
        }
    }
    complaints
}

pub(super) fn undocumented_modules(tree: &Tree) -> Vec<Complaint> {
    tree.rust()
        // A fuzz target is one call of the law that its file is named after.
        .filter(|(path, _)| !path.starts_with("tests/fuzz/"))
        .filter(|(_, text)| !text.lines().map(str::trim).find_map(tells).unwrap_or(false))
        .map(|(path, _)| format!("{path}:1: no `//!` says what this module is for"))
        .collect()
}

/// Whether this line of a module's start tells what it is for; None for a line that may come
/// before the one that does.
fn tells(line: &str) -> Option<bool> {
    match line.strip_prefix("//!") {
        Some(words) => Some(!words.trim().is_empty()),
        None if line.starts_with("#![doc =") => Some(true),
        None if line.is_empty() || line.starts_with("#!") || line.starts_with("//") => None,
        None => Some(false),
    }
}

pub(super) fn ignored_tests(tree: &Tree) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for (path, text) in tree.rust() {
        for (number, line) in code_only(text).lines().enumerate() {
            if line.replace(' ', "").contains("#[ignore]") {
                complaints.push(format!("{path}:{}: ignored without a reason", number + 1));
            }
        }
    }
    complaints
}

/// Files that no crate root leads to: they look like code and are never compiled.
pub(super) fn unreachable_files(tree: &Tree) -> Vec<Complaint> {
    let mut reached = BTreeSet::new();
    let mut open: Vec<String> = tree
        .rust()
        .map(|(path, _)| path)
        .filter(|path| is_root(tree, path))
        .map(str::to_owned)
        .collect();
    while let Some(path) = open.pop() {
        let Some(text) = tree.get(&path) else {
            continue;
        };
        if reached.insert(path.clone()) {
            open.extend(modules(tree, &path, text));
        }
    }
    tree.rust()
        .filter(|(path, _)| !reached.contains(*path))
        .map(|(path, _)| format!("{path}: no crate root leads to this file"))
        .collect()
}

/// Whether cargo takes `path` for the root of a crate.
fn is_root(tree: &Tree, path: &str) -> bool {
    let Some((dir, manifest)) = package(tree, path) else {
        return false;
    };
    let inside = path.strip_prefix(dir).unwrap_or(path);
    if matches!(inside, "src/lib.rs" | "src/main.rs" | "build.rs")
        || manifest.contains(&format!("path = \"{inside}\""))
    {
        return true;
    }
    // examples/name.rs and examples/name/main.rs, and the same in the other folders.
    ["examples/", "benches/", "tests/", "src/bin/"]
        .iter()
        .any(|folder| {
            inside
                .strip_prefix(folder)
                .is_some_and(|rest| match rest.split_once('/') {
                    None => true,
                    Some((_, file)) => file == "main.rs",
                })
        })
}

/// The folder of the package that holds `path`, with its `/`, and the package's manifest.
fn package<'a>(tree: &'a Tree, path: &'a str) -> Option<(&'a str, &'a str)> {
    let mut end = path.len();
    while let Some(slash) = path[..end].rfind('/') {
        if let Some(manifest) = tree.get(&format!("{}/Cargo.toml", &path[..slash])) {
            return Some((&path[..=slash], manifest));
        }
        end = slash;
    }
    None
}

/// The files that the `mod name;` items and `include!`s of a file lead to.
fn modules(tree: &Tree, path: &str, text: &str) -> Vec<String> {
    let (dir, file) = path.rsplit_once('/').unwrap_or(("", path));
    let stem = file.trim_end_matches(".rs");
    let own = if is_root(tree, path) || stem == "mod" {
        dir.to_owned()
    } else {
        format!("{dir}/{stem}")
    };
    let mut found = Vec::new();
    // Inline modules that are open, each with the brace depth it was opened at.
    let mut inline: Vec<(String, usize)> = Vec::new();
    let mut depth = 0;
    let mut given_path = None;
    for (line, original) in code_only(text).lines().zip(text.lines()) {
        let words = line.trim();
        for macro_name in ["#[path", "include!"] {
            if words.contains(macro_name) {
                given_path = original.split('"').nth(1).map(|name| join(dir, name));
            }
        }
        if words.contains("include!") {
            found.extend(given_path.take());
        }
        if let Some(name) = module_name(words) {
            let opens = words.ends_with('{');
            if opens {
                inline.push((name.to_owned(), depth));
            } else if words.ends_with(';') {
                let mut base = own.clone();
                for (part, _) in &inline {
                    base = format!("{base}/{part}");
                }
                match given_path.take() {
                    Some(path) => found.push(path),
                    None => {
                        found.push(format!("{base}/{name}.rs"));
                        found.push(format!("{base}/{name}/mod.rs"));
                    }
                }
            }
        }
        for byte in line.bytes() {
            match byte {
                b'{' => depth += 1,
                b'}' => {
                    depth = depth.saturating_sub(1);
                    if inline.last().is_some_and(|(_, opened)| *opened == depth) {
                        inline.pop();
                    }
                }
                _ => {}
            }
        }
    }
    found
}

/// `name` of a line such as `pub(crate) mod name;` or `mod name {`.
fn module_name(line: &str) -> Option<&str> {
    let rest = match line.strip_prefix("pub") {
        Some(rest) => match rest.strip_prefix('(') {
            Some(scoped) => scoped.split_once(')')?.1,
            None => rest,
        },
        None => line,
    };
    let rest = rest.trim_start().strip_prefix("mod ")?;
    let end = rest.find(|c: char| c != '_' && !c.is_alphanumeric())?;
    Some(&rest[..end])
}

fn join(dir: &str, relative: &str) -> String {
    let mut parts: Vec<&str> = dir.split('/').collect();
    for part in relative.split('/') {
        match part {
            ".." => {
                parts.pop();
            }
            "." => {}
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// The source with comments, strings and characters blanked out, line for line.
pub(super) fn code_only(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes[at..].starts_with(b"//") => bytes[at..]
                .iter()
                .position(|&byte| byte == b'\n')
                .map_or(bytes.len(), |n| at + n),
            b'/' if bytes[at..].starts_with(b"/*") => block_comment_end(bytes, at),
            b'"' => string_end(bytes, at),
            b'r' | b'b' | b'c' if !continues_name(bytes, at) => match raw_string_end(bytes, at) {
                Some(end) => end,
                None => {
                    at += 1;
                    continue;
                }
            },
            b'\'' => match character_end(bytes, at) {
                Some(end) => end,
                None => {
                    at += 1;
                    continue;
                }
            },
            _ => {
                at += 1;
                continue;
            }
        };
        for byte in &mut code[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end;
    }
    String::from_utf8_lossy(&code).into_owned()
}

fn continues_name(bytes: &[u8], at: usize) -> bool {
    at > 0 && (bytes[at - 1] == b'_' || bytes[at - 1].is_ascii_alphanumeric())
}

fn block_comment_end(bytes: &[u8], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0);
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if bytes[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    bytes.len()
}

fn string_end(bytes: &[u8], quote: usize) -> usize {
    let mut at = quote + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// The end of `r"…"`, `br#"…"#` and the like; of `b"…"` too. None if no string starts here.
fn raw_string_end(bytes: &[u8], start: usize) -> Option<usize> {
    let mut at = start;
    while matches!(bytes.get(at), Some(b'b' | b'c' | b'r')) && at < start + 2 {
        at += 1;
    }
    let raw = bytes[start..at].contains(&b'r');
    let hashes = bytes[at..].iter().take_while(|&&byte| byte == b'#').count();
    let quote = at + hashes;
    if bytes.get(quote) != Some(&b'"') || (hashes > 0 && !raw) {
        return None;
    }
    if !raw {
        return Some(string_end(bytes, quote));
    }
    let close: Vec<u8> = std::iter::once(b'"')
        .chain(std::iter::repeat_n(b'#', hashes))
        .collect();
    let body = quote + 1;
    let found = bytes[body..]
        .windows(close.len())
        .position(|window| window == close);
    Some(found.map_or(bytes.len(), |n| body + n + close.len()))
}

/// The end of a character; None for a lifetime.
fn character_end(bytes: &[u8], quote: usize) -> Option<usize> {
    if bytes.get(quote + 1) == Some(&b'\\') {
        let close = bytes[quote + 3..].iter().position(|&byte| byte == b'\'')?;
        return Some(quote + 3 + close + 1);
    }
    let text = std::str::from_utf8(&bytes[quote + 1..]).ok()?;
    let width = text.chars().next()?.len_utf8();
    (bytes.get(quote + 1 + width) == Some(&b'\'')).then_some(quote + 1 + width + 1)
}

/// `code` (as [`code_only`] leaves it) with every item under `#[cfg(test)]` blanked out.
fn without_tests(code: &str) -> String {
    let mut kept = code.as_bytes().to_vec();
    for (start, attribute) in code.match_indices("#[cfg(test)]") {
        let bytes = code.as_bytes();
        let mut at = start + attribute.len();
        let mut depth = 0;
        while at < bytes.len() {
            match bytes[at] {
                b'{' => depth += 1,
                b'}' => depth -= 1,
                _ => {}
            }
            at += 1;
            if depth == 0 && matches!(bytes[at - 1], b'}' | b';') {
                break;
            }
        }
        for byte in &mut kept[start..at] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
    }
    String::from_utf8_lossy(&kept).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: (&str, &str) = ("crates/peer-core/Cargo.toml", "[package]\n");

    fn complaints_about(rule: fn(&Tree) -> Vec<Complaint>, path: &str, text: &str) -> usize {
        rule(&Tree::of(&[MANIFEST, (path, text)])).len()
    }

    #[test]
    fn banned_calls_are_found_in_code_alone() {
        let core = "crates/peer-core/src/server.rs";
        for (text, expected) in [
            ("let now = Instant::now();", 1),
            ("use std::net::TcpStream;", 1),
            ("let now = std::time::SystemTime::now();", 1),
            ("std::thread::spawn(f);", 1),
            (concat!("to", "do!()"), 1),
            ("fn f(now: Instant) {}", 0),
            ("// Instant::now()", 0),
            ("/* a /* b */ Instant::now() */", 0),
            ("let text = \"Instant::now()\";", 0),
            ("let text = r#\"a \" Instant::now()\"#;", 0),
            ("let c = '\"'; let now = Instant::now(); // \"", 1),
            ("let c = '\\''; Instant::now();", 1),
            ("fn f<'a>(x: &'a str) { Instant::now(); }", 1),
            ("let now = MyInstant::now();", 0),
            ("#[cfg(test)]\nmod tests { fn f() { Instant::now(); } }", 0),
            (
                "#[cfg(test)]\nmod tests { fn f() {} }\nfn g() { Instant::now(); }",
                1,
            ),
        ] {
            assert_eq!(
                complaints_about(banned_calls, core, text),
                expected,
                "{text}"
            );
        }
        let net = "crates/peer-net/src/send.rs";
        assert_eq!(
            complaints_about(banned_calls, net, "std::io::copy(&mut a, &mut b)?;"),
            1
        );
        assert_eq!(
            complaints_about(banned_calls, net, "stream.write_vectored(&parts)?;"),
            1
        );
        assert_eq!(
            complaints_about(banned_calls, net, "let now = Instant::now();"),
            0
        );
        let example = "crates/cranpose-services/examples/peer/main.rs";
        assert_eq!(
            complaints_about(banned_calls, example, "println!(\"shared\");"),
            0
        );
    }

    #[test]
    fn long_lines_are_counted_in_characters() {
        let path = "crates/peer-core/src/lib.rs";
        assert_eq!(complaints_about(long_lines, path, &"x".repeat(111)), 1);
        assert_eq!(complaints_about(long_lines, path, &"…".repeat(110)), 0);
    }

    #[test]
    fn modules_need_a_word() {
        let path = "crates/peer-core/src/lib.rs";
        assert_eq!(
            complaints_about(undocumented_modules, path, "//! Decides.\n"),
            0
        );
        assert_eq!(
            complaints_about(undocumented_modules, path, "#![x]\n\n//! Decides.\n"),
            0
        );
        let included = "#![doc = include_str!(\"../README.md\")]\n";
        assert_eq!(complaints_about(undocumented_modules, path, included), 0);
        assert_eq!(
            complaints_about(undocumented_modules, path, "fn f() {}\n//! Late.\n"),
            1
        );
        assert_eq!(
            complaints_about(undocumented_modules, path, "//!\nfn f() {}\n"),
            1
        );
        assert_eq!(complaints_about(undocumented_modules, path, ""), 1);
    }

    #[test]
    fn ignored_tests_need_a_reason() {
        let path = "tests/it/main.rs";
        assert_eq!(
            complaints_about(ignored_tests, path, "#[ignore]\nfn f() {}"),
            1
        );
        assert_eq!(
            complaints_about(ignored_tests, path, "#[ignore = \"an hour\"]"),
            0
        );
        assert_eq!(complaints_about(ignored_tests, path, "// #[ignore]"), 0);
    }

    #[test]
    fn files_that_no_module_names_are_found() {
        let tree = Tree::of(&[
            ("a/Cargo.toml", "[[test]]\npath = \"it/start.rs\"\n"),
            (
                "a/src/lib.rs",
                "pub(crate) mod used;\nmod inner {\n    mod deep;\n}\n// mod lost;\n",
            ),
            (
                "a/src/used.rs",
                "mod below;\n#[path = \"other/odd.rs\"]\nmod named;\n",
            ),
            ("a/src/used/below.rs", ""),
            ("a/src/other/odd.rs", ""),
            ("a/src/inner/deep.rs", ""),
            ("a/src/lost.rs", ""),
            ("a/examples/one.rs", ""),
            ("a/examples/two/main.rs", "mod part;\n"),
            ("a/examples/two/part.rs", ""),
            ("a/examples/two/lost.rs", ""),
            ("a/it/start.rs", "mod rows;\n"),
            ("a/it/rows.rs", ""),
        ]);
        let found = unreachable_files(&tree).join("\n");
        assert_eq!(found.lines().count(), 2, "{found}");
        assert!(found.contains("a/src/lost.rs") && found.contains("a/examples/two/lost.rs"));
    }
}
