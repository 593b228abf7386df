//! SIGPIPE at its default action, which ends a process that writes to a connection nobody reads.
//!
//! A Rust program ignores the signal before its `main` runs, so its tests would not notice. Apps
//! that are not written in Rust do not ignore it. Here a few lines of C, loaded before the program,
//! let its request to ignore the signal fall flat.

use std::{
    io::Write,
    os::unix::process::ExitStatusExt,
    process::{Command, Stdio},
};

use super::{ALONE, skip};
use crate::capability::{Capability, has, this_program};

const C: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
typedef void (*handler)(int);
handler signal(int number, handler action) {
    if (number == SIGPIPE) return SIG_DFL;
    handler (*next)(int, handler) = (handler (*)(int, handler))dlsym(RTLD_NEXT, "signal");
    return next(number, action);
}
"#;

/// The tests that run again so; `PEER_SIGPIPE_SUITE` has all of them run.
const AGAIN: &[&str] = &[
    "hold::faults",
    "hold::events",
    "hold::lifecycle::shutdown",
    "hold::tokens::revocation",
    "client::cut",
    "client::keep_alive",
    "wire::persistence",
];

/// Writes to a pipe that nobody reads: only where the signal is ignored does it get an error.
#[test]
fn canary() {
    if std::env::var_os(ALONE).is_none() {
        return;
    }
    let mut child = Command::new("true").stdin(Stdio::piped()).spawn().unwrap();
    let mut pipe = child.stdin.take().unwrap();
    child.wait().unwrap();
    let error = pipe.write_all(b"x").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
}

#[test]
fn at_its_default() {
    if std::env::var_os(ALONE).is_some() || std::env::var_os(UNDER_DEFAULT).is_some() {
        return;
    }
    // A library is loaded before this program, and a signal ends it.
    if !has(&[Capability::OwnPrograms, Capability::NotEmulated]) {
        return;
    }
    let directory = std::env::temp_dir().join(format!("peer-sigpipe-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let library = directory.join("sigpipe.so");
    let source = directory.join("sigpipe.c");
    std::fs::write(&source, C).unwrap();
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .args([&library, &source])
        .arg("-ldl")
        .output();
    if !compiled
        .as_ref()
        .is_ok_and(|output| output.status.success())
    {
        return skip(&format!("no C compiler: {compiled:?}"));
    }
    let run = |alone: bool, tests: &[&str]| {
        let mut command = this_program();
        command.env("LD_PRELOAD", &library).env(UNDER_DEFAULT, "1");
        if alone {
            command.env(ALONE, "1").arg("--exact");
        }
        command.args(tests).stdin(Stdio::null()).output().unwrap()
    };
    // The canary must die, or the tests show nothing.
    let canary = run(true, &["hold::sigpipe::canary"]);
    if canary.status.signal() != Some(13) {
        let _ = std::fs::remove_dir_all(&directory);
        return skip(&format!("the signal stays ignored here: {}", canary.status));
    }
    let whole = std::env::var_os("PEER_SIGPIPE_SUITE").is_some();
    let tests = run(false, if whole { &[] } else { AGAIN });
    let _ = std::fs::remove_dir_all(&directory);
    let out = String::from_utf8_lossy(&tests.stdout);
    let err = String::from_utf8_lossy(&tests.stderr);
    assert!(tests.status.success(), "{}\n{out}\n{err}", tests.status);
    let passed = out.lines().find(|line| line.starts_with("test result"));
    let passed = passed.unwrap_or_default();
    assert!(
        passed.contains(" passed") && !passed.contains(" 0 passed"),
        "{out}"
    );
    super::measured(&format!("with SIGPIPE at its default: {passed}"));
}

/// Set in the run that has the signal at its default action.
const UNDER_DEFAULT: &str = "PEER_SIGPIPE_DEFAULT";
