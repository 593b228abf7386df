//! Measures servers and clients of byte ranges against each other, side by side.
//!
//! One program plays every part of ours: `serve` is an app that shares a file, `fetch` one that
//! fetches, `load` is a client that asks and checks, `table` and `fetches` place them and others on
//! CPUs, run them in turn and compare. `attack` is a thousand strangers and more, `strangers` finds
//! out what they cost, `bridge` what a bridge costs, `growth` how cost grows, with `cycles` as a part
//! of it, and `profile` what servers spend it on. `cargo xtask bench` starts it.

use std::process::ExitCode;

mod attack;
mod bridge;
mod content;
mod cpu;
mod fetch;
mod growth;
mod growth_report;
mod load;
mod probe;
mod profile;
mod report;
mod serve;
mod strangers;
mod table;
mod units;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (part, rest) = match arguments.split_first() {
        Some((part, rest)) => (part.as_str(), rest),
        None => ("", &[][..]),
    };
    let ended = match part {
        "attack" => attack::run(rest),
        "bridge" => bridge::run(rest),
        "bridge-serve" => bridge::serve(rest),
        "cycles" => growth::cycles(rest),
        "fetch" => fetch::run(rest),
        "fetches" => fetch::table(rest),
        "growth" => growth::run(rest),
        "serve" => serve::run(rest),
        "load" => load::run(rest),
        "profile" => profile::run(rest),
        "probe" => probe::run(rest),
        "strangers" => strangers::run(rest),
        "table" => table::run(rest),
        "units" => units::run(rest),
        part => Err(format!("no part `{part}`")),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("bench-peers {part}: {message}");
            ExitCode::FAILURE
        }
    }
}
