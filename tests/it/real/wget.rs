//! wget: whole, and `-c` where an earlier run left off.

use std::fs;
use std::process::Command;

use super::harness::{Scratch, Share, assert_same, noise, program, succeed};

#[test]
fn continues_a_file() {
    let Some(_) = program("wget") else { return };
    let scratch = Scratch::new();
    let content = noise(3, 2_000_003);
    let original = scratch.write("a song.bin", &content);
    let Some(share) = Share::of([original]) else {
        return;
    };

    for (held, answer) in [
        (0, " 200 "),
        (1, " 206 "),
        (1_234_567, " 206 "),
        (2_000_002, " 206 "),
    ] {
        let file = scratch.write("copy", &content[..held]);
        let mut wget = Command::new("wget");
        wget.args([
            "--no-config",
            "--no-verbose",
            "--no-proxy",
            "--server-response",
        ]);
        wget.args([
            "--tries=1",
            "--timeout=60",
            "--header",
            &share.authorization(),
        ]);
        let ran = succeed(
            wget.args(["-c", "-O"])
                .arg(&file)
                .arg(share.url("a song.bin")),
        );
        assert!(ran.stderr.contains(answer), "{held}: {}", ran.stderr);
        assert_same(&fs::read(&file).unwrap(), &content);
    }
}
