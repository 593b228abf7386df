//! `cargo xtask models [explore | stress] [module…]`: what threads share.
//!
//! `explore` runs the model tests of peer-net, or those of some of its modules, in every order that
//! their threads can take; a thread that nobody wakes waits for ever there, and is told of. `stress`
//! runs its unit tests, and a server and clients over loopback, with threads that give way at random
//! wherever they share state: `PEER_SEEDS=n` worlds of it, or the one of `PEER_SEED=n`.

use std::{path::Path, process::Command};

use crate::run::{self, Done, Outcome, Show, Steps};

pub(crate) fn run(arguments: &[String]) -> Outcome {
    let (only, modules) = match arguments.split_first() {
        Some((first, rest)) if matches!(first.as_str(), "explore" | "stress") => {
            (Some(first.as_str()), rest)
        }
        _ => (None, arguments),
    };
    let is_wanted = |name| only.is_none_or(|only| only == name);
    let mut steps = Steps::new("models");
    if is_wanted("explore") {
        steps.step("explore", || explored(modules, Show::Always));
    }
    if is_wanted("stress") {
        steps.step("stress", || {
            let mut cargo = run::cargo();
            stress(&mut cargo, &run::target_dir());
            cargo.args(["--", "--nocapture"]).args(modules);
            let text = run::run(&mut cargo, Show::OnFailure)?;
            let worlds = text.lines().find(|line| line.starts_with("stress: "));
            let passed = text.lines().find(|line| line.starts_with("test result: "));
            let note = worlds.or(passed).ok_or("no test ran")?;
            println!("{note}");
            Ok(Done::Ran(note.to_owned()))
        });
    }
    steps.finish(false)
}

/// The models as a step of `cargo xtask ci`.
pub(crate) fn step() -> Result<Done, String> {
    explored(&[], Show::OnFailure)
}

fn explored(modules: &[String], show: Show) -> Result<Done, String> {
    let mut cargo = run::cargo();
    explore(&mut cargo, &run::target_dir());
    cargo.args(["--", "--nocapture"]);
    // Nothing else can run with loom's types.
    if modules.is_empty() {
        cargo.arg("models::");
    }
    cargo.args(modules.iter().map(|module| format!("{module}::models::")));
    let orders = sum(&run::run(&mut cargo, show)?);
    if orders == 0 {
        return Err("no model ran".to_owned());
    }
    Ok(Done::Ran(format!("{orders} orders")))
}

/// Has `cargo` build the models and run those that are then named. They have a target directory of
/// their own, or each build would undo the other.
pub(crate) fn explore(cargo: &mut Command, target: &Path) {
    watched(cargo, target, "models");
}

fn stress(cargo: &mut Command, target: &Path) {
    watched(cargo, target, "yields");
}

fn watched(cargo: &mut Command, target: &Path, name: &str) {
    cargo
        .args(["test", "--release", "--lib", "-p", "peer-net"])
        .env("CARGO_TARGET_DIR", target.join(name))
        .env("RUSTFLAGS", format!("--cfg peer_{name}"));
}

/// The orders that the models told of.
fn sum(text: &str) -> u64 {
    let told = |line: &str| {
        let (before, _) = line.split_once(" orders")?;
        before.rsplit(' ').next()?.parse::<u64>().ok()
    };
    text.lines().filter_map(told).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_summed() {
        let text = "running 2 tests\nmodel a::models::b: 12 orders\ntest b ... ok\n\
                    test d ... model c::models::d: 30 orders with up to 2 preemptions\n";
        assert_eq!(sum(text), 42);
        assert_eq!(sum("test result: ok. 0 passed"), 0);
    }
}
