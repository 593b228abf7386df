//! aria2: one file over four connections at once.

use std::fs;
use std::process::Command;

use super::harness::{Scratch, Share, assert_same, noise, program, succeed};

#[test]
fn fetches_over_four_connections() {
    let Some(_) = program("aria2c") else { return };
    let scratch = Scratch::new();
    let content = noise(4, 12 << 20 | 5);
    let original = scratch.write("large.bin", &content);
    let Some(share) = Share::of([original]) else {
        return;
    };

    let log = scratch.join("log");
    let mut aria2 = Command::new("aria2c");
    aria2.args([
        "--no-conf",
        "--quiet",
        "--max-tries=1",
        "--timeout=60",
        "--log-level=info",
    ]);
    aria2.args(["-x4", "-s4", "-k1M", "--header", &share.authorization()]);
    aria2
        .arg("--log")
        .arg(&log)
        .arg("--dir")
        .arg(scratch.path())
        .args(["--out", "copy"]);
    succeed(aria2.arg(share.url("large.bin")));
    assert_same(&fs::read(scratch.join("copy")).unwrap(), &content);

    // That it came in pieces: the log shows each request.
    let log = String::from_utf8_lossy(&fs::read(log).unwrap()).into_owned();
    let ranges = log
        .lines()
        .filter(|line| line.starts_with("Range: bytes="))
        .count();
    assert!(ranges >= 3, "{ranges} requests with a range");
    assert!(!log.contains("HTTP/1.1 5"), "an answer was a server error");
}
