//! The web target: there are no sockets, and an app must be told so instead of dying of it.

use std::path::PathBuf;
use std::process::Command;

use super::Target;
use crate::run::{self, Done, Show};
use crate::toolchain::{self, Std};

/// Builds the facade behind its C interface into a module, and calls it from node: start and fetch
/// must both answer that this is not supported.
pub(super) fn test(target: &Target, show: Show, std: &Std) -> Result<Done, String> {
    let linker = linker().ok_or_else(|| format!("no {LINKER}"))?;
    let built = run::scratch("web");
    let mut cargo = run::cargo();
    cargo
        .args(["build", "--locked", "--manifest-path"])
        .arg(run::root().join("tests/host/Cargo.toml"));
    cargo.env("CARGO_TARGET_DIR", &built);
    cargo.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker);
    std.apply(&mut cargo, target.triple);
    run::run(&mut cargo, show)?;
    let mut node = Command::new("node");
    node.arg(run::root().join("tests/host/web.cjs"));
    node.arg(built.join(target.triple).join("debug/peer_host.wasm"));
    run::run(&mut node, show)?;
    Ok(Done::Ran(format!(
        "start and fetch are refused, node, {}",
        std.describe()
    )))
}

/// The linker's name where the toolchain does not bring it.
pub(super) const LINKER: &str = "wasm-ld";

/// The toolchain's own linker, or the system's.
pub(super) fn linker() -> Option<PathBuf> {
    shipped().or_else(|| ["rust-lld", LINKER].into_iter().find_map(run::find))
}

fn shipped() -> Option<PathBuf> {
    let mut sysroot = Command::new(toolchain::active_rustc());
    let sysroot = run::output(sysroot.args(["--print", "sysroot"])).ok()?;
    let shipped = PathBuf::from(sysroot.trim())
        .join("lib/rustlib")
        .join(toolchain::host_triple().ok()?)
        .join("bin/rust-lld");
    shipped.is_file().then_some(shipped)
}
