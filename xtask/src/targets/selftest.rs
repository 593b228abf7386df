//! Shows that the checks of other targets see what they are for: each slip is planted into a copy
//! of the workspace, where this machine's own tests still pass and the target's must not.

use std::path::Path;

use super::{check_in, named, scratch_copy, test_in};
use crate::run::{self, Done, Outcome, Show, Steps};
use crate::toolchain;

/// A fault that this machine does not notice and a target does.
struct Slip {
    name: &'static str,
    target: &'static str,
    file: &'static str,
    /// Text that stands in the file exactly once, and what is put in its place.
    replace: (&'static str, &'static str),
    /// A type error shows in a check; a wrong number only when tests run.
    caught_by: Caught,
}

#[derive(Clone, Copy, PartialEq)]
enum Caught {
    Check,
    Test,
}

const SLIPS: &[Slip] = &[
    Slip {
        name: "a type error for Windows alone",
        target: "x86_64-pc-windows-msvc",
        file: "crates/peer-proto/src/text.rs",
        replace: (
            "/// Cuts optional white space",
            "#[cfg(windows)]\npub(crate) const SLIP: u64 = \"slip\";\n\n/// Cuts optional white space",
        ),
        caught_by: Caught::Check,
    },
    Slip {
        name: "a length cut to 32 bits",
        target: "i686-unknown-linux-gnu",
        file: "crates/peer-proto/src/range.rs",
        replace: (
            "let to_end = complete_length - first_pos;",
            "let to_end = (complete_length - first_pos) as usize as u64;",
        ),
        caught_by: Caught::Test,
    },
    Slip {
        name: "a number in the machine's byte order",
        target: "s390x-unknown-linux-gnu",
        file: "crates/peer-proto/src/multipart.rs",
        replace: (
            "HEX[(random >> (4 * shift)) as usize & 15]",
            "HEX[(u128::from_le_bytes(random.to_ne_bytes()) >> (4 * shift)) as usize & 15]",
        ),
        caught_by: Caught::Test,
    },
];

/// The slips are all in this crate, so that the self-test stays cheap.
const SELECTION: &[&str] = &["-p", "peer-proto", "--lib"];

pub(super) fn run(names: &[String]) -> Outcome {
    let mut steps = Steps::new("targets selftest");
    for slip in SLIPS
        .iter()
        .filter(|slip| names.is_empty() || names.iter().any(|n| n == slip.target))
    {
        steps.step(slip.name, || try_slip(slip));
    }
    steps.finish(!names.is_empty())
}

fn try_slip(slip: &Slip) -> Result<Done, String> {
    let copy = scratch_copy("selftest")?;
    // A target directory of its own: cargo takes a workspace's place for nothing, so that a slip
    // that was built into a shared one would pass there for the real sources.
    let in_copy = || {
        let mut cargo = run::cargo();
        cargo
            .current_dir(&copy)
            .env("CARGO_TARGET_DIR", run::scratch("selftest-target"));
        cargo
    };
    let on = |triple: &str, show: Show| match slip.caught_by {
        Caught::Check => check_in(named(triple)?, show, in_copy(), SELECTION),
        Caught::Test => test_in(named(triple)?, show, in_copy, SELECTION, &[vec![]], false),
    };
    // A target that fails anyway, for want of a library say, would catch everything.
    match on(slip.target, Show::OnFailure) {
        Ok(Done::Ran(_)) => {}
        Ok(Done::Skipped(reason)) => return Ok(Done::Skipped(reason)),
        Err(message) => {
            return Err(format!("{} fails without a slip: {message}", slip.target));
        }
    }
    plant(&copy, slip)?;
    if let Err(message) = on(&toolchain::host_triple()?, Show::Never) {
        return Err(format!(
            "seen on this machine already, so it shows nothing: {message}"
        ));
    }
    match on(slip.target, Show::Never) {
        Ok(_) => Err(format!("{} did not notice", slip.target)),
        Err(_) => Ok(Done::Ran(format!("caught on {}", slip.target))),
    }
}

fn plant(copy: &Path, slip: &Slip) -> Outcome {
    let file = copy.join(slip.file);
    let text = std::fs::read_to_string(&file).map_err(|error| format!("{}: {error}", slip.file))?;
    let (from, to) = slip.replace;
    if text.matches(from).count() != 1 {
        return Err(format!("{}: `{from}` does not stand there once", slip.file));
    }
    std::fs::write(&file, text.replacen(from, to, 1)).map_err(|error| error.to_string())
}
