//! Automation for maintainers, on std alone: `cargo xtask help` lists it.
//!
//! Each subcommand is one module with one `run` function; a new one is a row of [`SUBCOMMANDS`].

use std::process::ExitCode;

mod api;
mod bench;
mod canaries;
mod ci;
mod coverage;
mod excuses;
mod fuzz;
mod host;
mod models;
mod mutants;
mod release;
mod run;
mod setup;
mod sim;
mod targets;
mod tidy;
mod toolchain;

struct Subcommand {
    name: &'static str,
    arguments: &'static str,
    about: &'static str,
    run: fn(&[String]) -> run::Outcome,
}

const SUBCOMMANDS: &[Subcommand] = &[
    Subcommand {
        name: "setup",
        arguments: "",
        about: "build everything; name the optional programs that are missing",
        run: setup::run,
    },
    Subcommand {
        name: "ci",
        arguments: "[--list] [--whole] [--deny-skips] [step…]",
        about: "everything that must pass before a change lands",
        run: ci::run,
    },
    Subcommand {
        name: "tidy",
        arguments: "",
        about: "the rules of this tree that no compiler checks",
        run: tidy::run,
    },
    Subcommand {
        name: "targets",
        arguments: "list | check | test [--deny-skips] | setup [--run] | selftest, then [target…]; \
                    after test, [-- words for the test programs]",
        about: "check and test the promised targets",
        run: targets::run,
    },
    Subcommand {
        name: "api",
        arguments: "[--bless]",
        about: "compare the facade's public API with docs/API.txt",
        run: api::run,
    },
    Subcommand {
        name: "bench",
        arguments: "[peers | strangers | bridge] [word=value…] | counts",
        about: "measure against others, under attack or through a bridge, or count instructions",
        run: bench::run,
    },
    Subcommand {
        name: "host",
        arguments: "",
        about: "link the facade into a C program, start, fetch, stop, unload",
        run: host::run,
    },
    Subcommand {
        name: "release",
        arguments: "--dry-run",
        about: "build and test each crate from its package alone",
        run: release::run,
    },
    Subcommand {
        name: "fuzz",
        arguments: "[target…] [seconds] [jobs=n] [address]",
        about: "fuzz the parsers and machines from their committed corpora",
        run: fuzz::run,
    },
    Subcommand {
        name: "sim",
        arguments: "[--seeds N] [--first N] | --seed N",
        about: "both sides on a virtual clock, over links that misbehave",
        run: sim::run,
    },
    Subcommand {
        name: "models",
        arguments: "[explore | stress] [module…]",
        about: "what threads share, in every order of theirs, and giving way at random",
        run: models::run,
    },
    Subcommand {
        name: "canaries",
        arguments: "[name…]",
        about: "plant each known bug in a copy, and want a test that fails",
        run: canaries::run,
    },
    Subcommand {
        name: "mutants",
        arguments: "[crate…] [shard=k/n | on]",
        about: "change each line of proto and core, and want a test that fails",
        run: mutants::run,
    },
    Subcommand {
        name: "coverage",
        arguments: "[core|net]",
        about: "what of proto, core and net no test reaches, and whether it may stay so",
        run: coverage::run,
    },
];

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or_else(|| "help".to_owned());
    let rest: Vec<String> = arguments.collect();
    if matches!(name.as_str(), "help" | "-h" | "--help") {
        help();
        return ExitCode::SUCCESS;
    }
    let Some(subcommand) = SUBCOMMANDS
        .iter()
        .find(|subcommand| subcommand.name == name)
    else {
        eprintln!("xtask: no subcommand `{name}`");
        help();
        return ExitCode::from(2);
    };
    match (subcommand.run)(&rest) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("xtask {name}: {message}");
            ExitCode::FAILURE
        }
    }
}

fn help() {
    println!("cargo xtask <subcommand>");
    for Subcommand {
        name,
        arguments,
        about,
        ..
    } in SUBCOMMANDS
    {
        println!("  {:<8} {about}", name);
        if !arguments.is_empty() {
            println!("           {arguments}");
        }
    }
}
