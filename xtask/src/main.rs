//! Automation for maintainers, on std alone: `cargo xtask help` lists it.
//!
//! Each subcommand is one module with one `run` function; a new one is a row of [`SUBCOMMANDS`].

use std::process::ExitCode;

mod ci;
mod host;
mod release;
mod run;
mod setup;
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
        arguments: "[--list] [--deny-skips] [step…]",
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
        arguments: "list | check | test [--deny-skips] | setup [--run] | selftest, then [target…]",
        about: "check and test the promised targets",
        run: targets::run,
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
