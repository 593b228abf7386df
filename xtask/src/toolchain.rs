//! Which compiler and which standard library a command uses.
//!
//! A target's standard library is installed with the active toolchain (`rustup target add`), or
//! unpacked beside the compiler of the minimum Rust version, from the distribution's packages for
//! that architecture, or built by cargo from the library's source. The last works for every target
//! the compiler knows, and takes minutes for each; cargo's `-Zbuild-std` is behind a nightly gate,
//! which `RUSTC_BOOTSTRAP=1` opens for a released compiler.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::run;

/// Where a target's standard library comes from.
#[derive(Debug)]
pub(crate) enum Std {
    /// Precompiled, beside the active toolchain.
    Installed,
    /// Precompiled, beside the toolchain of the minimum Rust version.
    Release(&'static str, &'static Exact),
    /// Built from the source that came with this compiler.
    Source(PathBuf),
}

impl Std {
    /// The standard library to use for `triple`, if there is one on this machine.
    pub(crate) fn find(triple: &str) -> Option<Self> {
        let active = active_rustc();
        let mut libdir = Command::new(&active);
        libdir.args(["--print", "target-libdir", "--target", triple]);
        if run::output(&mut libdir).is_ok_and(|dir| has_std(Path::new(dir.trim()))) {
            return Some(Self::Installed);
        }
        // Looked for once: it takes several programs, and there are many targets.
        static MINIMUM: OnceLock<Option<(String, Exact)>> = OnceLock::new();
        let minimum = MINIMUM.get_or_init(|| {
            let release = crate::tidy::msrv(&run::root()).ok()?;
            let exact = Exact::find(&release)?;
            Some((release, exact))
        });
        if let Some((release, exact)) = minimum.as_ref().filter(|(_, exact)| exact.has_std(triple))
        {
            return Some(Self::Release(release, exact));
        }
        [active, PathBuf::from("/usr/bin/rustc")]
            .into_iter()
            .find(|rustc| has_std_source(rustc) && knows(rustc, triple))
            .map(Self::Source)
    }

    /// Adds what cargo needs to use this library for `triple`.
    pub(crate) fn apply(&self, cargo: &mut Command, triple: &str) {
        cargo.args(["--target", triple]);
        let own_dir = match self {
            Self::Installed => return,
            Self::Release(release, exact) => {
                exact.apply(cargo);
                Exact::target_dir(release)
            }
            Self::Source(rustc) => {
                cargo
                    .arg("-Zbuild-std")
                    .env("RUSTC", rustc)
                    .env("RUSTC_BOOTSTRAP", "1");
                cargo.env("RUSTDOC", rustc.with_file_name("rustdoc"));
                run::scratch("build-std")
            }
        };
        // Apart, so that two compilers do not evict each other's fingerprints.
        if !cargo.get_envs().any(|(key, _)| key == "CARGO_TARGET_DIR") {
            cargo.env("CARGO_TARGET_DIR", own_dir);
        }
    }

    /// For the table: `rustup` or the compiler whose source is built.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Installed => "installed std".to_owned(),
            Self::Release(release, _) => format!("std of Rust {release}"),
            Self::Source(rustc) => format!("std from source, rustc {}", version(rustc)),
        }
    }
}

/// The compiler that cargo would use.
pub(crate) fn active_rustc() -> PathBuf {
    std::env::var_os("RUSTC").map_or_else(|| PathBuf::from("rustc"), PathBuf::from)
}

/// The triple this program's compiler builds for when none is given.
pub(crate) fn host_triple() -> Result<String, String> {
    let verbose = run::output(Command::new(active_rustc()).arg("-vV"))?;
    let host = verbose.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned)
        .ok_or_else(|| "rustc -vV names no host".to_owned())
}

/// The release a compiler calls itself, such as `1.96.0`.
pub(crate) fn version(rustc: &Path) -> String {
    let line = run::output(Command::new(rustc).arg("-V")).unwrap_or_default();
    line.split_whitespace()
        .nth(1)
        .unwrap_or("of unknown version")
        .to_owned()
}

/// A toolchain of exactly the release `version` (two numbers, such as `1.85`).
#[derive(Debug)]
pub(crate) struct Exact {
    cargo: PathBuf,
    rustc: PathBuf,
    libraries: Option<PathBuf>,
}

impl Exact {
    /// The active toolchain if it is that release, else rustup's, else the one that
    /// `cargo xtask targets setup` unpacked from the distribution's packages.
    pub(crate) fn find(release: &str) -> Option<Self> {
        let is_release = |text: &str| {
            text == release
                || text
                    .strip_prefix(release)
                    .is_some_and(|rest| rest.starts_with('.'))
        };
        let active = active_rustc();
        if is_release(&version(&active)) {
            let cargo = std::env::var_os("CARGO").map_or_else(|| "cargo".into(), PathBuf::from);
            return Some(Self {
                cargo,
                rustc: active,
                libraries: None,
            });
        }
        let mut which = Command::new("rustup");
        which
            .args(["which", "rustc", "--toolchain", release])
            .env("RUSTUP_AUTO_INSTALL", "0");
        if let Ok(path) = run::output(&mut which) {
            let rustc = PathBuf::from(path.trim());
            return Some(Self {
                cargo: rustc.with_file_name("cargo"),
                rustc,
                libraries: None,
            });
        }
        let usr = unpacked(release).join("usr");
        let rustc = usr.join("bin/rustc");
        let libraries = std::fs::read_dir(usr.join("lib"))
            .ok()?
            .flatten()
            .find_map(|entry| {
                entry
                    .file_name()
                    .to_string_lossy()
                    .ends_with("-linux-gnu")
                    .then(|| entry.path())
            })?;
        let found = Self {
            cargo: usr.join("bin/cargo"),
            rustc,
            libraries: Some(libraries),
        };
        let runs = run::output(
            found
                .apply(&mut Command::new(&found.cargo))
                .arg("--version"),
        );
        runs.is_ok().then_some(found)
    }

    /// Whether it is the one from the distribution's packages.
    pub(crate) fn is_unpacked(&self) -> bool {
        self.libraries.is_some()
    }

    /// This toolchain's cargo, in the workspace, with a target directory of its own.
    pub(crate) fn cargo(&self, release: &str) -> Command {
        let mut command = Command::new(&self.cargo);
        command.current_dir(run::root());
        command.env("CARGO_TARGET_DIR", Self::target_dir(release));
        self.apply(&mut command);
        command
    }

    fn target_dir(release: &str) -> PathBuf {
        run::scratch(&format!("rust-{release}"))
    }

    /// Whether the standard library for `triple` stands beside this compiler.
    pub(crate) fn has_std(&self, triple: &str) -> bool {
        let mut rustc = Command::new(&self.rustc);
        rustc.args(["--print", "target-libdir", "--target", triple]);
        run::output(self.apply(&mut rustc)).is_ok_and(|dir| has_std(Path::new(dir.trim())))
    }

    fn apply<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command
            .env("RUSTC", &self.rustc)
            .env("RUSTDOC", self.rustc.with_file_name("rustdoc"));
        command.env_remove("RUSTUP_TOOLCHAIN");
        if let Some(path) = &self.libraries {
            command.env("LD_LIBRARY_PATH", path);
        }
        command
    }
}

/// Where the distribution's packages of a release are unpacked, apart from the system.
pub(crate) fn unpacked(release: &str) -> PathBuf {
    run::scratch("toolchains").join(release)
}

fn has_std(dir: &Path) -> bool {
    std::fs::read_dir(dir).is_ok_and(|entries| {
        entries.flatten().any(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name.starts_with("libstd-") && name.ends_with(".rlib")
        })
    })
}

fn has_std_source(rustc: &Path) -> bool {
    run::output(Command::new(rustc).args(["--print", "sysroot"])).is_ok_and(|sysroot| {
        Path::new(sysroot.trim())
            .join("lib/rustlib/src/rust/library/std/Cargo.toml")
            .is_file()
    })
}

fn knows(rustc: &Path, triple: &str) -> bool {
    run::output(Command::new(rustc).args(["--print", "target-list"]))
        .is_ok_and(|list| list.lines().any(|line| line == triple))
}
