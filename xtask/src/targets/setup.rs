//! What the targets need that is not there: printed, and installed only when asked.

use std::path::PathBuf;
use std::process::Command;

use super::{QUICK_CHECK, QUICK_TEST, Runner, Target, missing_programs, named, select};
use crate::run::{self, Outcome, Show};
use crate::toolchain::{self, Std};

/// The distribution's compiler with the source of its standard library.
const COMPILER: &[&str] = &["rustc-web", "rust-web-src"];

/// The packages that hold a whole toolchain of one release, and the libraries that their programs
/// need, which unpacking does not bring.
const EXACT: &[&str] = &["rustc-web", "libstd-rust-web-dev", "cargo-web"];
const EXACT_LIBRARIES: &[&str] = &[
    "libcurl4",
    "libhttp-parser2.9",
    "libllvm19",
    "libpcre3",
    "libsqlite3-0",
    "libssh2-1",
    "libssl3",
    "zlib1g",
];

pub(super) fn run(arguments: &[String]) -> Outcome {
    let (flags, names): (Vec<String>, Vec<String>) = arguments
        .iter()
        .cloned()
        .partition(|argument| argument.starts_with("--"));
    let install = match flags.as_slice() {
        [] => false,
        [flag] if flag == "--run" => true,
        _ => return Err("setup takes --run and names of targets".to_owned()),
    };
    // Two names beside those of targets: what `cargo xtask ci` uses.
    let (exact, names): (Vec<String>, Vec<String>) =
        names.into_iter().partition(|name| name == "msrv");
    let everything = exact.is_empty() && names.is_empty();
    let targets = match names.iter().position(|name| name == "quick") {
        Some(_) => QUICK_CHECK
            .iter()
            .chain(QUICK_TEST)
            .map(|name| named(name))
            .collect(),
        None if names.is_empty() && !everything => Ok(Vec::new()),
        None => select(&names, |_| true),
    }?;
    let release = crate::tidy::msrv(&run::root())?;
    let found = toolchain::Exact::find(&release);
    // Only beside an unpacked compiler: rustup keeps other builds of the same release.
    let unpacked = found.as_ref().is_none_or(toolchain::Exact::is_unpacked);
    let version = madison(EXACT[0], &release).filter(|_| unpacked);
    let architectures = match version {
        Some(_) => lacking_std(&targets),
        None => Vec::new(),
    };
    let mut commands = commands(&targets, !architectures.is_empty())?;
    let wanted = everything || !exact.is_empty() || !architectures.is_empty();
    if wanted && found.is_none() {
        commands.extend(exact_toolchain(&release, version.as_deref()));
    }
    if let Some(version) = version.filter(|_| !architectures.is_empty()) {
        commands.push(exact_std(&release, &version, &architectures)?);
    }
    if commands.is_empty() {
        println!("nothing to install");
    } else if !install {
        println!("# missing here; `cargo xtask targets setup --run` runs these lines:");
        for command in &commands {
            println!("{command}");
        }
    } else {
        for command in &commands {
            run::run(Command::new("sh").args(["-ec", command]), Show::Always)?;
        }
        if wanted && toolchain::Exact::find(&release).is_none() {
            return Err(format!(
                "Rust {release} is installed and does not run: is a library of its cargo missing?"
            ));
        }
    }
    let wine = targets
        .iter()
        .any(|target| matches!(target.runner, Runner::Wine));
    if wine && !wine_library().is_file() {
        if install {
            make_wine_prefix()?;
        } else {
            println!(
                "# and it makes a Wine prefix in {}",
                wine_prefix().display()
            );
        }
    }
    Ok(())
}

/// Debian's names of the architectures among `targets` whose standard library is not here, or
/// would have to be built.
fn lacking_std(targets: &[&Target]) -> Vec<&'static str> {
    targets
        .iter()
        .filter(|target| matches!(Std::find(target.triple), None | Some(Std::Source(_))))
        .filter_map(|target| target.architecture)
        .collect()
}

/// Shell lines that install what `targets` lack. With `packaged`, the standard libraries of
/// architectures that have a name in Debian come from elsewhere.
fn commands(targets: &[&Target], packaged: bool) -> Result<Vec<String>, String> {
    let host = toolchain::host_triple()?;
    let apt = run::find("apt-get").is_some();
    let mut packages: Vec<&str> = Vec::new();
    let mut lines = Vec::new();
    let without_std: Vec<&str> = targets
        .iter()
        .filter(|target| !(packaged && target.architecture.is_some()))
        .filter(|target| Std::find(target.triple).is_none())
        .map(|target| target.triple)
        .collect();
    if !without_std.is_empty() {
        if apt && available(COMPILER[1]) {
            packages.extend(COMPILER);
        } else {
            lines.push(format!("rustup target add {}", without_std.join(" ")));
        }
    }
    for target in targets.iter().filter(|target| !target.packages.is_empty()) {
        if target.triple != host && !missing_programs(target).is_empty() {
            packages.extend(target.packages);
        }
    }
    packages.sort_unstable();
    packages.dedup();
    if !packages.is_empty() && apt {
        lines.push(apt_install(&packages));
    } else if !packages.is_empty() {
        println!(
            "# no apt here; packages of Debian's names: {}",
            packages.join(" ")
        );
    }
    Ok(lines)
}

/// Shell lines that unpack the distribution's packages of `release` beside the system's own, since
/// only one release of a package can be installed.
fn exact_toolchain(release: &str, version: Option<&str>) -> Vec<String> {
    let Some(version) = version else {
        return vec![format!(
            "rustup toolchain install {release} --profile minimal"
        )];
    };
    let into = toolchain::unpacked(release);
    let mut download: Vec<String> = EXACT
        .iter()
        .map(|package| format!("{package}={version}"))
        .collect();
    download.push(format!("libstd-rust-web-{release}={version}"));
    vec![
        apt_install(EXACT_LIBRARIES),
        format!(
            "mkdir -p {dir} && cd {dir} && apt-get download -q {} && {UNPACK}",
            download.join(" "),
            dir = into.display(),
        ),
    ]
}

/// In a directory of packages: what they hold instead.
const UNPACK: &str = "for package in *.deb; do dpkg -x \"$package\" . ; done && rm -f *.deb";

/// A shell line that unpacks the same version's standard libraries of other architectures, beside
/// the compiler's own. They are found through package lists of our own: the system's know one
/// architecture, and are left as they are.
fn exact_std(release: &str, version: &str, architectures: &[&str]) -> Result<String, String> {
    let own = run::output(Command::new("dpkg").arg("--print-architecture"))?;
    let dir = toolchain::unpacked(release);
    let dir = dir.display();
    let mut apt = "apt-get -q -o Acquire::Languages=none".to_owned();
    apt.push_str(&format!(
        " -o Dir::State::lists={dir}/apt/lists -o Dir::Cache={dir}/apt"
    ));
    for architecture in [own.trim()].iter().chain(architectures) {
        apt.push_str(&format!(" -o APT::Architectures::={architecture}"));
    }
    let packages: Vec<String> = architectures
        .iter()
        .map(|architecture| format!("{}:{architecture}={version}", EXACT[1]))
        .collect();
    // A source of packages that lacks an architecture fails the update, and not what comes next.
    Ok(format!(
        "mkdir -p {dir}/apt/lists/partial {dir}/apt/archives/partial && cd {dir} \
         && {{ {apt} update || true; }} && {apt} download {} && {UNPACK} && rm -rf apt",
        packages.join(" ")
    ))
}

/// The version of `package` in the distribution that is of the Rust release `release`.
fn madison(package: &str, release: &str) -> Option<String> {
    let list = run::output(Command::new("apt-cache").args(["madison", package])).ok()?;
    list.lines()
        .filter_map(|line| line.split('|').nth(1))
        .map(str::trim)
        .find(|version| version.starts_with(&format!("{release}.")))
        .map(str::to_owned)
}

fn available(package: &str) -> bool {
    madison(package, "1").is_some()
}

fn apt_install(packages: &[&str]) -> String {
    let sudo = if is_root() { "" } else { "sudo " };
    format!(
        "{sudo}apt-get install -q -y --no-install-recommends -o DPkg::Lock::Timeout=300 {}",
        packages.join(" ")
    )
}

fn is_root() -> bool {
    run::output(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0")
}

/// A prefix of our own: the user's is left alone, and tests start from a known one.
fn wine_prefix() -> PathBuf {
    run::scratch("wine")
}

/// The library that Wine lacks, where Windows programs look for it.
pub(super) fn wine_library() -> PathBuf {
    wine_prefix().join("drive_c/windows/system32/bcryptprimitives.dll")
}

/// Make Wine use our prefix and keep its remarks to itself.
pub(super) fn wine_variables() -> Vec<(String, String)> {
    vec![
        ("WINEPREFIX".to_owned(), wine_prefix().display().to_string()),
        ("WINEDEBUG".to_owned(), "-all".to_owned()),
    ]
}

fn make_wine_prefix() -> Outcome {
    let mut boot = Command::new("wine");
    boot.args(["wineboot", "-i"]);
    boot.envs(wine_variables());
    std::fs::create_dir_all(run::scratch("")).map_err(|error| error.to_string())?;
    run::run(&mut boot, Show::Always)?;
    let mut compile = Command::new("x86_64-w64-mingw32-gcc");
    compile.args(["-shared", "-O2", "-o"]).arg(wine_library());
    compile
        .arg(run::root().join("xtask/wine/bcryptprimitives.c"))
        .arg("-ladvapi32");
    run::run(&mut compile, Show::Always)?;
    Ok(())
}
