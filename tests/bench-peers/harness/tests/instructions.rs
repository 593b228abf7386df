//! Instructions, counted by callgrind: a figure that repeats exactly on one machine, however busy.

use std::{path::Path, process::Command};

/// Instructions of one repetition.
fn cost(unit: &str) -> u64 {
    let collected = |count: u64| {
        let output = Command::new("valgrind")
            .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
            .arg(env!("CARGO_BIN_EXE_bench-peers"))
            .args(["units", unit, &count.to_string()])
            .output()
            .expect("valgrind starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        let line = said.lines().find_map(|line| line.split_once("Collected :"));
        let (_, number) = line.expect("callgrind tells what it collected");
        number.trim().parse::<u64>().expect("a number")
    };
    (collected(2_000) - collected(1_000)) / 1_000
}

fn has_valgrind() -> bool {
    let found = std::env::var_os("PATH").is_some_and(|path| {
        std::env::split_paths(&path).any(|dir| Path::new(&dir).join("valgrind").is_file())
    });
    if !found {
        eprintln!("SKIPPED: valgrind is not installed");
    }
    found
}

#[test]
fn a_head_costs_at_most_half_more_than_httparse_alone() {
    if !has_valgrind() {
        return;
    }
    let empty = cost("nothing");
    let (alone, ours) = (cost("httparse") - empty, cost("head") - empty);
    println!("a head: {ours} instructions, httparse alone {alone}");
    assert!(alone > 100, "it parses something");
    assert!(
        2 * ours <= 3 * alone,
        "{ours} instructions, httparse alone {alone}"
    );
}

#[test]
fn a_range_decision_costs_less_than_300() {
    if !has_valgrind() {
        return;
    }
    let cost = cost("range") - cost("nothing");
    println!("a range decision: {cost} instructions");
    assert!((20..300).contains(&cost), "{cost} instructions");
}
