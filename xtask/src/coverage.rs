//! `cargo xtask coverage [core|net]`: what no test reaches, by cargo-llvm-cov.
//!
//! The crates that need no socket are held to all of their regions, by tests that need none either:
//! their own, the laws over random and committed inputs, and the simulator. What may stay unreached
//! is listed in `tests/coverage.txt` with its reason. The crate above them is held to [`NET_LEAST`],
//! by everything but the tests beside other programs.
//!
//! Code of tests, which lies in the same files, counts for nothing here.

use std::collections::BTreeMap;
use std::path::Path;

use crate::excuses;
use crate::run::{self, Done, Outcome, Show, Steps};

/// Debian's llvm, where the toolchain has no llvm-tools.
const LLVM: &str = "/usr/lib/llvm-22/bin";

/// Where the lines that may stay unreached are listed.
const LIST: &str = "tests/coverage.txt";

/// Least part of peer-net's regions and lines that has to be reached, in percent.
const NET_LEAST: f64 = 95.0;

/// What is measured together.
struct Part {
    name: &'static str,
    crates: &'static [&'static str],
    /// The tests that may reach it: what cargo is told.
    tests: &'static [&'static [&'static str]],
}

const PARTS: &[Part] = &[
    Part {
        name: "core",
        crates: &["peer-proto", "peer-core"],
        tests: &[
            &["--package=peer-proto", "--package=peer-core", "--lib"],
            &[
                "--package=peer-tests",
                "--test=it",
                "--",
                "laws::",
                "corpus::",
                "simulation::",
            ],
        ],
    },
    Part {
        name: "net",
        crates: &["peer-net"],
        tests: &[
            &["--package=peer-net", "--lib", "--all-features"],
            &[
                "--package=peer-tests",
                "--test=it",
                "--all-features",
                "--",
                "--skip=real::",
            ],
        ],
    },
];

pub(crate) fn run(arguments: &[String]) -> Outcome {
    let known = |name: &String| PARTS.iter().any(|part| part.name == name);
    if let Some(unknown) = arguments.iter().find(|name| !known(name)) {
        return Err(format!("{unknown}: neither core nor net"));
    }
    let mut steps = Steps::new("coverage");
    for part in PARTS {
        if arguments.is_empty() || arguments.iter().any(|argument| argument == part.name) {
            steps.step(part.name, || measure(part));
        }
    }
    steps.finish(false)
}

fn measure(part: &Part) -> Result<Done, String> {
    if run::find("cargo-llvm-cov").is_none() {
        let why = "no cargo-llvm-cov: cargo install cargo-llvm-cov";
        return Ok(Done::Skipped(why.to_owned()));
    }
    let llvm_cov = |arguments: &[&str]| {
        let mut cargo = run::cargo();
        cargo.arg("llvm-cov").args(arguments);
        if Path::new(LLVM).is_dir() {
            for (name, tool) in [("LLVM_COV", "llvm-cov"), ("LLVM_PROFDATA", "llvm-profdata")] {
                cargo.env(name, Path::new(LLVM).join(tool));
            }
        }
        run::run(&mut cargo, Show::OnFailure)
    };
    // What another state of the tree has left would be counted, too.
    llvm_cov(&["clean", "--workspace"])?;
    for test in part.tests {
        llvm_cov(&[&["--no-report"], *test].concat())?;
    }
    let report = run::scratch("coverage").join(format!("{}.json", part.name));
    let folder = report.parent().unwrap_or(&report);
    std::fs::create_dir_all(folder).map_err(|error| error.to_string())?;
    let path = report.to_string_lossy();
    llvm_cov(&["report", "--json", "--output-path", &path])?;
    let report = std::fs::read_to_string(&report).map_err(|error| error.to_string())?;
    let excused = excuses::read(LIST)?;
    let mut notes = Vec::new();
    let mut failures = Vec::new();
    for name in part.crates {
        let folder = format!("crates/{name}/src/");
        let reached = Reached::of(&report, &folder)?;
        notes.push(format!("{name}: {reached}"));
        let missed = reached.missed.keys();
        let unexcused: Vec<_> = missed.filter(|line| !excused.contains(*line)).collect();
        for line in &unexcused {
            println!("{} ({})", line, reached.missed[*line]);
        }
        if *name == "peer-net" {
            if reached.percent().0.min(reached.percent().1) < NET_LEAST {
                failures.push(format!("{name}: less than {NET_LEAST} %"));
            }
            continue;
        }
        if !unexcused.is_empty() {
            failures.push(format!(
                "{name}: {} lines that no test reaches whole",
                unexcused.len()
            ));
        }
        let here = excused.iter().filter(|line| line.starts_with(&folder));
        for line in here.filter(|line| !reached.missed.contains_key(*line)) {
            failures.push(format!("{LIST} excuses what is reached: {line}"));
        }
    }
    println!("{}", notes.join("\n"));
    if failures.is_empty() {
        Ok(Done::Ran(notes.join("; ")))
    } else {
        Err(failures.join("\n"))
    }
}

/// What tests reach of some files.
#[derive(Default)]
struct Reached {
    regions: usize,
    regions_missed: usize,
    lines: usize,
    lines_missed: usize,
    /// `path: text` of the lines that hold a region which is not reached, each with its places.
    missed: BTreeMap<String, String>,
}

/// Where a stretch of code begins, and how often it ran, as llvm-cov exports it.
struct Segment {
    line: usize,
    column: usize,
    count: u64,
    has_count: bool,
    is_entry: bool,
}

impl Reached {
    /// What `report` says of the files in `folder`, up to the tests at their end.
    fn of(report: &str, folder: &str) -> Result<Self, String> {
        let mut reached = Self::default();
        for (path, segments) in files(report) {
            let Some(at) = path.find(folder) else {
                continue;
            };
            let path = &path[at..];
            if path.ends_with("/tests.rs") || path.contains("/tests/") {
                continue;
            }
            let text = std::fs::read_to_string(run::root().join(path))
                .map_err(|error| format!("{path}: {error}"))?;
            let lines: Vec<_> = text.lines().collect();
            reached.add(path, without_tests(&lines), &segments);
        }
        match reached.regions {
            0 => Err(format!("the report says nothing of {folder}")),
            _ => Ok(reached),
        }
    }

    fn add(&mut self, path: &str, lines: &[&str], segments: &[Segment]) {
        let mut wrapping: Option<u64> = None;
        let mut segments = segments.iter().peekable();
        for (number, text) in (1..).zip(lines) {
            let mut count = wrapping;
            while let Some(segment) = segments.next_if(|segment| segment.line <= number) {
                let own = segment.has_count.then_some(segment.count);
                wrapping = own;
                if segment.is_entry && segment.has_count {
                    count = count.max(own);
                    self.regions += 1;
                    if segment.count == 0 {
                        self.regions_missed += 1;
                        let line = format!("{path}: {}", text.trim());
                        let places = self.missed.entry(line).or_default();
                        places.push_str(if places.is_empty() { "" } else { ", " });
                        places.push_str(&format!("{number}:{}", segment.column));
                    }
                }
            }
            self.lines += usize::from(count.is_some());
            self.lines_missed += usize::from(count == Some(0));
        }
    }

    /// Regions and lines that are reached.
    fn percent(&self) -> (f64, f64) {
        let of = |missed: usize, all: usize| 100.0 - 100.0 * missed as f64 / all.max(1) as f64;
        (
            of(self.regions_missed, self.regions),
            of(self.lines_missed, self.lines),
        )
    }
}

impl std::fmt::Display for Reached {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (regions, lines) = self.percent();
        write!(
            f,
            "{regions:.2} % of {} regions, {lines:.2} % of {} lines",
            self.regions, self.lines
        )
    }
}

/// The lines of a file up to the tests at its end. Tests in a file of their own end nothing.
fn without_tests<'a, 'b>(lines: &'a [&'b str]) -> &'a [&'b str] {
    let begins = |pair: &[&str]| pair[0] == "#[cfg(test)]" && pair[1].ends_with('{');
    let tests = lines.windows(2).position(begins);
    &lines[..tests.unwrap_or(lines.len())]
}

/// The files of a report, each with its segments. Only as much of JSON is read as llvm-cov writes
/// there: `"filename":"…"`, later `"segments":[[line,column,count,has_count,is_entry,is_gap],…]`.
fn files(report: &str) -> Vec<(&str, Vec<Segment>)> {
    let mut files = Vec::new();
    for file in report.split("\"filename\":\"").skip(1) {
        let path = file.split('"').next().unwrap_or_default();
        let segments = file.split("\"segments\":[").nth(1).unwrap_or_default();
        let segments = segments.split("]]").next().unwrap_or_default();
        let segments = segments.split("],[").filter_map(|segment| {
            let mut fields = segment.trim_matches(['[', ']']).split(',');
            let mut field = || fields.next();
            let (line, column) = (field()?.parse().ok()?, field()?.parse().ok()?);
            let count = field()?.parse().ok()?;
            let (has_count, is_entry) = (field()? == "true", field()? == "true");
            let is_gap = field()? == "true";
            Some(Segment {
                line,
                column,
                count,
                has_count,
                is_entry: is_entry && !is_gap,
            })
        });
        files.push((path, segments.collect()));
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_at_the_end_are_left_out() {
        let code = ["#[cfg(test)]", "mod tests;", "fn a() {}"];
        assert_eq!(without_tests(&code), code);
        let file = [&code[..], &["#[cfg(test)]", "mod tests {", "}"]].concat();
        assert_eq!(without_tests(&file), code);
    }

    #[test]
    fn a_report_is_read() {
        let report = r#"{"data":[{"files":[{"branches":[],"filename":"/x/crates/a/src/b.rs",
            "segments":[[1,1,3,true,true,false],[2,5,0,true,true,false],[2,9,3,true,false,false],
            [4,2,0,false,false,false]],"summary":{}},{"filename":"/x/c.rs","segments":[]}]}]}"#;
        let report: String = report.split_whitespace().collect();
        let files = files(&report);
        assert_eq!(files.len(), 2);
        assert_eq!((files[0].0, files[0].1.len()), ("/x/crates/a/src/b.rs", 4));
        let mut reached = Reached::default();
        reached.add("b.rs", &["fn a() {", "    b?", "}", "}", ""], &files[0].1);
        assert_eq!((reached.regions, reached.regions_missed), (2, 1));
        assert_eq!((reached.lines, reached.lines_missed), (4, 0));
        let missed: Vec<_> = reached.missed.into_iter().collect();
        assert_eq!(missed, [("b.rs: b?".to_owned(), "2:5".to_owned())]);
    }
}
