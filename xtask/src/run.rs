//! Runs programs, and keeps the table of what ran, what was skipped and why, and how long it took.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What a subcommand ends with: the error is one line for a person.
pub(crate) type Outcome = Result<(), String>;

/// What a step that did not fail has to say.
pub(crate) enum Done {
    /// It ran; the note, if any, goes into the table.
    Ran(String),
    /// It could not run here, for this reason.
    Skipped(String),
}

/// When a program's output is shown: while it runs, only if it fails, or not even then.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Show {
    Always,
    OnFailure,
    Never,
}

/// The directory of the workspace.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// Cargo's target directory for this workspace.
pub(crate) fn target_dir() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => root().join(dir),
        None => root().join("target"),
    }
}

/// The part of the target directory that belongs to xtask.
pub(crate) fn scratch(name: &str) -> PathBuf {
    target_dir().join("xtask").join(name)
}

/// Copies every file of the workspace that git knows or would add; a command that must change a
/// file changes it there.
pub(crate) fn copy_workspace(copy: &Path) -> Outcome {
    let root = root();
    for file in files(&root)? {
        let to = copy.join(&file);
        let dir = to.parent().unwrap_or(copy);
        std::fs::create_dir_all(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        std::fs::copy(root.join(&file), &to).map_err(|error| format!("{file}: {error}"))?;
    }
    Ok(())
}

/// The workspace's files, relative, with `/` between the parts.
pub(crate) fn files(root: &Path) -> Result<Vec<String>, String> {
    let mut git = Command::new("git");
    git.current_dir(root).args([
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]);
    let list = output(&mut git)?;
    // A file deleted but not yet committed is still in the index.
    let exists = |file: &&str| root.join(file).is_file();
    Ok(list
        .split('\0')
        .filter(|file| !file.is_empty())
        .filter(exists)
        .map(str::to_owned)
        .collect())
}

/// The cargo that runs this program, in the workspace.
pub(crate) fn cargo() -> Command {
    let mut command =
        Command::new(std::env::var_os("CARGO").unwrap_or_else(|| OsStr::new("cargo").to_owned()));
    command.current_dir(root());
    command
}

/// Where `program` stands in `PATH`.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .flat_map(|dir| [dir.join(program), dir.join(format!("{program}.exe"))])
        .find(|file| file.is_file())
}

/// Standard output of a program that must succeed; its diagnostics go into the error.
pub(crate) fn output(command: &mut Command) -> Result<String, String> {
    let line = describe(command);
    let output = command
        .output()
        .map_err(|error| format!("{line}: {error}"))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{line}: {}\n{}", output.status, stderr.trim_end()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a program that must succeed and returns its standard output.
///
/// Lines are passed on as they come, or kept and printed only if the program fails.
pub(crate) fn run(command: &mut Command, show: Show) -> Result<String, String> {
    let line = describe(command);
    if show == Show::Always {
        println!("$ {line}");
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command.stderr(if show == Show::Always {
        Stdio::inherit()
    } else {
        Stdio::piped()
    });
    let mut child = command
        .spawn()
        .map_err(|error| format!("{line}: {error}"))?;
    let stderr = child.stderr.take().map(|mut stderr| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = stderr.read_to_end(&mut bytes);
            String::from_utf8_lossy(&bytes).into_owned()
        })
    });
    let mut kept = String::new();
    if let Some(stdout) = child.stdout.take() {
        for bytes in BufReader::new(stdout).split(b'\n') {
            let bytes = bytes.map_err(|error| format!("{line}: {error}"))?;
            let text = String::from_utf8_lossy(&bytes);
            if show == Show::Always {
                println!("{text}");
            }
            kept.push_str(text.trim_end_matches('\r'));
            kept.push('\n');
        }
    }
    let diagnostics = stderr
        .and_then(|thread| thread.join().ok())
        .unwrap_or_default();
    let status = child.wait().map_err(|error| format!("{line}: {error}"))?;
    if status.success() {
        return Ok(kept);
    }
    if show == Show::OnFailure {
        eprintln!("$ {line}\n{kept}{diagnostics}");
    }
    Err(format!("`{line}`: {status}"))
}

/// The command line as a person would type it, with the variables it sets in front.
fn describe(command: &Command) -> String {
    let mut words: Vec<String> = command
        .get_envs()
        .filter_map(|(key, value)| {
            let (key, value) = (key.to_str()?, value?.to_str()?);
            let value = if value.contains(' ') {
                format!("'{value}'")
            } else {
                value.to_owned()
            };
            Some(format!("{key}={value}"))
        })
        .collect();
    let program = Path::new(command.get_program());
    words.push(
        program
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
    );
    words.extend(
        command
            .get_args()
            .map(|argument| argument.to_string_lossy().into_owned()),
    );
    words.join(" ")
}

/// The steps of a subcommand in the order in which they ran.
pub(crate) struct Steps {
    title: &'static str,
    rows: Vec<(String, Result<Done, String>, Duration)>,
}

impl Steps {
    pub(crate) fn new(title: &'static str) -> Self {
        Self {
            title,
            rows: Vec::new(),
        }
    }

    /// Runs one step; a failure is kept and the next step still runs.
    pub(crate) fn step(&mut self, name: &str, step: impl FnOnce() -> Result<Done, String>) {
        println!("==> {}: {name}", self.title);
        let start = Instant::now();
        let result = step();
        self.done(name, result, start.elapsed());
    }

    /// Keeps what a step gave that ran for `time`, beside others.
    pub(crate) fn done(&mut self, name: &str, result: Result<Done, String>, time: Duration) {
        match &result {
            Ok(Done::Skipped(reason)) => eprintln!("SKIPPED {name}: {reason}"),
            Err(message) => eprintln!("FAILED {name}: {message}"),
            Ok(Done::Ran(_)) => {}
        }
        self.rows.push((name.to_owned(), result, time));
    }

    /// Whether a step failed.
    pub(crate) fn failed(&self) -> bool {
        self.rows.iter().any(|(_, result, _)| result.is_err())
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(crate) fn skipped(&self) -> usize {
        self.rows
            .iter()
            .filter(|(_, result, _)| matches!(result, Ok(Done::Skipped(_))))
            .count()
    }

    /// Prints the table and fails if a step failed, if nothing ran, or, with `deny_skips`, if a
    /// step was skipped.
    pub(crate) fn finish(self, deny_skips: bool) -> Outcome {
        let width = self
            .rows
            .iter()
            .map(|(name, ..)| name.chars().count())
            .max()
            .unwrap_or(0);
        let skipped = self.skipped();
        let mut failed = Vec::new();
        println!("\n{}:", self.title);
        for (name, result, time) in &self.rows {
            let (mark, note) = match result {
                Ok(Done::Ran(note)) => ("ok", note.as_str()),
                Ok(Done::Skipped(reason)) => ("SKIPPED", reason.as_str()),
                Err(message) => {
                    failed.push(name.as_str());
                    ("FAILED", message.lines().next().unwrap_or_default())
                }
            };
            println!(
                "  {name:<width$}  {mark:<7} {:>6.1} s  {note}",
                time.as_secs_f64()
            );
        }
        let total: Duration = self.rows.iter().map(|(.., time)| *time).sum();
        println!("  in all {:.1} s", total.as_secs_f64());
        if !failed.is_empty() {
            return Err(format!("failed: {}", failed.join(", ")));
        }
        if skipped == self.rows.len() {
            return Err("nothing ran".to_owned());
        }
        if deny_skips && skipped > 0 {
            return Err(format!("{skipped} skipped, and every step was asked for"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finished(results: Vec<Result<Done, String>>, deny_skips: bool) -> Outcome {
        let mut steps = Steps::new("test");
        for result in results {
            steps.step("step", || result);
        }
        steps.finish(deny_skips)
    }

    #[test]
    fn a_failed_step_fails_the_whole_and_a_skip_only_when_denied() {
        let ran = || Ok(Done::Ran(String::new()));
        let skipped = || Ok(Done::Skipped("no program".to_owned()));
        assert_eq!(finished(vec![ran(), ran()], true), Ok(()));
        assert_eq!(finished(vec![ran(), skipped()], false), Ok(()));
        assert!(finished(vec![ran(), skipped()], true).is_err());
        assert!(finished(vec![skipped()], false).is_err(), "nothing ran");
        assert!(finished(vec![Err("broken".to_owned()), ran()], false).is_err());
    }

    #[test]
    fn a_program_that_fails_is_an_error_with_its_command_line() {
        let error = run(cargo().arg("no-such-subcommand"), Show::OnFailure)
            .expect_err("cargo has no such subcommand");
        assert!(error.contains("no-such-subcommand"), "{error}");
    }
}
