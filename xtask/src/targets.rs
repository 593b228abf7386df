//! The promised targets: one table, and what shows each promise.
//!
//! - *tested*: the suite runs there, natively, under an emulator, or under Wine;
//! - *checked*: everything type-checks against the target's real standard library;
//! - *core only*: the crates without sockets are whole, and the facade compiles.
//!
//! Nothing is installed unasked: `setup` prints what is missing here, `setup --run` installs it.

use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use crate::run::{self, Done, Outcome, Show, Steps};
use crate::toolchain::{self, Std};

mod selftest;
mod setup;
mod web;

/// What is promised of a target.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Tier {
    Tested,
    Checked,
    CoreOnly,
}

impl Tier {
    /// The word for it in tables and documents.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Tested => "tested",
            Self::Checked => "checked",
            Self::CoreOnly => "core only",
        }
    }
}

/// How test programs of a target run on another machine.
#[derive(Clone, Copy)]
enum Runner {
    /// Only where the machine is of this target itself.
    Native,
    /// `qemu-user`, by program name and the root of the target's libraries.
    Qemu(&'static str, &'static str),
    /// Wine, with a prefix of our own.
    Wine,
    /// The Android device or emulator that adb is connected to.
    Android,
    /// The iOS simulator that is booted, on a Mac.
    Simulator,
    /// node: no test harness runs there, so the facade alone is called.
    Web,
}

/// One row of the table.
pub(crate) struct Target {
    pub(crate) triple: &'static str,
    pub(crate) tier: Tier,
    /// What this target stands for, as the documents say it.
    pub(crate) stands_for: &'static str,
    /// What Debian calls its architecture, where its packages of std are of use.
    architecture: Option<&'static str>,
    /// Debian's packages to link and run test programs.
    packages: &'static [&'static str],
    linker: Option<&'static str>,
    runner: Runner,
}

impl Target {
    fn is_host(&self) -> Result<bool, String> {
        Ok(self.triple == toolchain::host_triple()?)
    }
}

const fn tested(
    triple: &'static str,
    stands_for: &'static str,
    architecture: Option<&'static str>,
    packages: &'static [&'static str],
    linker: &'static str,
    runner: Runner,
) -> Target {
    Target {
        triple,
        tier: Tier::Tested,
        stands_for,
        architecture,
        packages,
        linker: Some(linker),
        runner,
    }
}

const fn checked(triple: &'static str, stands_for: &'static str, runner: Runner) -> Target {
    Target {
        triple,
        tier: Tier::Checked,
        stands_for,
        architecture: None,
        packages: &[],
        linker: None,
        runner,
    }
}

pub(crate) const TARGETS: &[Target] = &[
    Target {
        triple: "x86_64-unknown-linux-gnu",
        tier: Tier::Tested,
        stands_for: "Linux desktop",
        architecture: None,
        packages: &[],
        linker: None,
        runner: Runner::Native,
    },
    tested(
        "aarch64-unknown-linux-gnu",
        "64-bit ARM Linux",
        Some("arm64"),
        &[
            "gcc-aarch64-linux-gnu",
            "libc6-dev-arm64-cross",
            "qemu-user",
        ],
        "aarch64-linux-gnu-gcc",
        Runner::Qemu("qemu-aarch64", "/usr/aarch64-linux-gnu"),
    ),
    tested(
        "armv7-unknown-linux-gnueabihf",
        "32-bit ARM Linux",
        Some("armhf"),
        &[
            "gcc-arm-linux-gnueabihf",
            "libc6-dev-armhf-cross",
            "qemu-user",
        ],
        "arm-linux-gnueabihf-gcc",
        Runner::Qemu("qemu-arm", "/usr/arm-linux-gnueabihf"),
    ),
    tested(
        "i686-unknown-linux-gnu",
        "32-bit x86 Linux",
        Some("i386"),
        &["gcc-i686-linux-gnu", "libc6-dev-i386-cross", "qemu-user"],
        "i686-linux-gnu-gcc",
        Runner::Qemu("qemu-i386", "/usr/i686-linux-gnu"),
    ),
    tested(
        "s390x-unknown-linux-gnu",
        "big-endian Linux",
        Some("s390x"),
        &["gcc-s390x-linux-gnu", "libc6-dev-s390x-cross", "qemu-user"],
        "s390x-linux-gnu-gcc",
        Runner::Qemu("qemu-s390x", "/usr/s390x-linux-gnu"),
    ),
    tested(
        "x86_64-pc-windows-gnu",
        "Windows, under Wine",
        None,
        &["gcc-mingw-w64-x86-64", "wine", "wine64"],
        "x86_64-w64-mingw32-gcc",
        Runner::Wine,
    ),
    checked("aarch64-linux-android", "Android phones", Runner::Android),
    checked("x86_64-linux-android", "Android emulator", Runner::Android),
    checked("armv7-linux-androideabi", "32-bit Android", Runner::Android),
    checked("aarch64-apple-ios", "iPhone and iPad", Runner::Native),
    checked("aarch64-apple-ios-sim", "iOS simulator", Runner::Simulator),
    checked(
        "aarch64-apple-darwin",
        "macOS on Apple silicon",
        Runner::Native,
    ),
    checked("x86_64-apple-darwin", "macOS on Intel", Runner::Native),
    checked("x86_64-pc-windows-msvc", "Windows desktop", Runner::Native),
    checked("aarch64-pc-windows-msvc", "Windows on ARM", Runner::Native),
    checked("x86_64-unknown-freebsd", "FreeBSD", Runner::Native),
    Target {
        triple: "wasm32-unknown-unknown",
        tier: Tier::CoreOnly,
        stands_for: "web: network calls return an unsupported error",
        architecture: None,
        packages: &["lld", "nodejs"],
        linker: None,
        runner: Runner::Web,
    },
];

/// What `cargo xtask ci` checks on every run: one target of each family that can be broken apart
/// from the others, and the tests where integers are narrow.
pub(crate) const QUICK_CHECK: &[&str] = &[
    "aarch64-linux-android",
    "aarch64-apple-ios",
    "x86_64-pc-windows-msvc",
    "wasm32-unknown-unknown",
];
pub(crate) const QUICK_TEST: &[&str] = &["i686-unknown-linux-gnu", "wasm32-unknown-unknown"];

/// How much of the suite a target runs.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Suite {
    Whole,
    /// Without the two modules that take most of the time and little of the processor: the tests
    /// of other programs and those of endurance.
    Quick,
}

impl Suite {
    /// For the command lines of test programs.
    pub(crate) fn words(self) -> &'static [&'static str] {
        match self {
            Self::Whole => &[],
            Self::Quick => &["--skip", "real::", "--skip", "hold::"],
        }
    }

    pub(crate) fn note(self) -> &'static str {
        match self {
            Self::Whole => "",
            Self::Quick => ", without real and hold",
        }
    }
}

/// A test program that makes no progress is stopped after this many seconds.
const RUNNER_SECONDS: &str = "3600";

pub(crate) fn run(arguments: &[String]) -> Outcome {
    let (verb, names) = match arguments.split_first() {
        None => ("list", &[][..]),
        Some((verb, names)) => (verb.as_str(), names),
    };
    match verb {
        "list" => {
            print!("{}", list());
            Ok(())
        }
        "markdown" => {
            print!("{}", markdown());
            Ok(())
        }
        "check" => each(
            "targets check",
            names,
            |_| true,
            |target| check(target, Show::Always),
        ),
        "test" => {
            let host = toolchain::host_triple()?;
            let tested = |target: &Target| {
                target.tier == Tier::Tested
                    || target.triple == host
                    || matches!(target.runner, Runner::Web)
            };
            let (names, filters) = match names.iter().position(|name| name == "--") {
                Some(end) => (&names[..end], &names[end + 1..]),
                None => (names, &[][..]),
            };
            each("targets test", names, tested, |target| {
                test(target, Show::Always, Suite::Whole, filters)
            })
        }
        "setup" => setup::run(names),
        "selftest" => selftest::run(names),
        other => Err(format!(
            "no verb `{other}`: list, check, test, setup or selftest"
        )),
    }
}

/// One step for each target that is named, or that `otherwise` takes if none is.
fn each(
    title: &'static str,
    arguments: &[String],
    otherwise: impl Fn(&Target) -> bool,
    step: impl Fn(&Target) -> Result<Done, String>,
) -> Outcome {
    let (flags, names): (Vec<String>, Vec<String>) = arguments
        .iter()
        .cloned()
        .partition(|argument| argument.starts_with("--"));
    if flags.iter().any(|flag| flag != "--deny-skips") {
        return Err("the only flag is --deny-skips".to_owned());
    }
    let mut steps = Steps::new(title);
    for target in select(&names, otherwise)? {
        steps.step(target.triple, || step(target));
    }
    // A target that was asked for by name is not skipped quietly.
    steps.finish(!flags.is_empty() || !names.is_empty())
}

/// The targets of these names, or all that `otherwise` takes if none is named.
fn select(
    names: &[String],
    otherwise: impl Fn(&Target) -> bool,
) -> Result<Vec<&'static Target>, String> {
    if names.is_empty() {
        return Ok(TARGETS.iter().filter(|target| otherwise(target)).collect());
    }
    names.iter().map(|name| named(name)).collect()
}

/// The target of this triple.
pub(crate) fn named(name: &str) -> Result<&'static Target, String> {
    TARGETS
        .iter()
        .find(|target| target.triple == name)
        .ok_or_else(|| format!("`{name}` is not among the promised targets: see `targets list`"))
}

/// Type-checks what the target's tier promises.
pub(crate) fn check(target: &Target, show: Show) -> Result<Done, String> {
    let selection: &[&str] = match target.tier {
        Tier::Tested | Tier::Checked => &["--lib", "--tests", "--examples"],
        Tier::CoreOnly => &[
            "--lib",
            "-p",
            "peer-proto",
            "-p",
            "peer-core",
            "-p",
            "cranpose-services",
        ],
    };
    // A feature may bring code for one system, and hide what takes its place elsewhere.
    check_in(target, show, run::cargo(), selection)?;
    let every_feature = [selection, &["--all-features"]].concat();
    check_in(target, show, run::cargo(), &every_feature)
}

fn check_in(
    target: &Target,
    show: Show,
    mut cargo: Command,
    selection: &[&str],
) -> Result<Done, String> {
    let Some(std) = Std::find(target.triple) else {
        return Ok(Done::Skipped(no_std(target)));
    };
    cargo.arg("check").args(selection);
    if !target.is_host()? {
        std.apply(&mut cargo, target.triple);
    }
    run::run(&mut cargo, show)?;
    Ok(Done::Ran(std.describe()))
}

/// Runs the suite on a target of the tested tier, or on the machine's own: all that `suite` says,
/// or what the words of `filters` let the test programs run.
pub(crate) fn test(
    target: &Target,
    show: Show,
    suite: Suite,
    filters: &[String],
) -> Result<Done, String> {
    let runs = match target.runner {
        Runner::Qemu(..) if filters.is_empty() => in_parts(suite.words()),
        _ => {
            let filters = filters.iter().map(String::as_str);
            vec![suite.words().iter().copied().chain(filters).collect()]
        }
    };
    // One run on a strange target is slow enough to want all that it can say.
    let selection = &["--no-fail-fast", "--lib", "--tests"];
    let done = test_in(
        target,
        show,
        run::cargo,
        selection,
        &runs,
        suite == Suite::Whole,
    )?;
    Ok(match (done, target.runner) {
        (done, Runner::Web) => done,
        (Done::Ran(note), _) => Done::Ran(note + suite.note()),
        (skipped, _) => skipped,
    })
}

/// The modules of the integration tests that an emulator runs apart from the rest. qemu-user 7.2 keeps
/// memory of each thread that ended, 280 KiB for aarch64, and the suite starts 50,000 of them.
const PARTS: &[&str] = &["client::", "bridge::", "hold::", "real::", "wire::"];

/// The words for the test programs of several runs, in which together each test that `words` let run is
/// run once.
fn in_parts<'a>(words: &[&'a str]) -> Vec<Vec<&'a str>> {
    let mut runs = Vec::new();
    let mut rest = words.to_vec();
    for part in PARTS {
        let mut run = rest.clone();
        run.push(part);
        runs.push(run);
        rest.extend(["--skip", part]);
    }
    runs.push(rest);
    runs
}

/// Tests what `selection` says, with cargos made by `cargo`, once with the words of each of `runs` for
/// the test programs; with `example`, the example is built first, for the tests that start it.
fn test_in(
    target: &Target,
    show: Show,
    cargo: impl Fn() -> Command,
    selection: &[&str],
    runs: &[Vec<&str>],
    example: bool,
) -> Result<Done, String> {
    let Some(std) = Std::find(target.triple) else {
        return Ok(Done::Skipped(no_std(target)));
    };
    let place = if target.is_host()? {
        Place::default()
    } else {
        let missing = missing_programs(target);
        if !missing.is_empty() {
            return Ok(Done::Skipped(format!(
                "not found: {}; see `cargo xtask targets setup`",
                missing.join(", ")
            )));
        }
        match target.runner {
            Runner::Native => return Ok(Done::Skipped("runs only on its own machine".to_owned())),
            Runner::Wine if !setup::wine_library().is_file() => {
                return Ok(Done::Skipped(
                    "no Wine prefix yet; see `cargo xtask targets setup`".to_owned(),
                ));
            }
            Runner::Web => return web::test(target, show, &std),
            _ => Place::of(target),
        }
    };
    let cargo = |subcommand: &str, arguments: &[&str]| {
        let mut cargo = cargo();
        cargo.arg(subcommand).args(place.options);
        // Before the arguments: they may end with those of the test programs.
        if !place.native {
            std.apply(&mut cargo, target.triple);
        }
        cargo.args(arguments);
        cargo.envs(place.variables.iter().map(|(key, value)| (key, value)));
        cargo
    };
    let building = Instant::now();
    if example && !place.native {
        let arguments = ["-p", "cranpose-services", "--example", "peer"];
        run::run(&mut cargo("build", &arguments), show)?;
    }
    run::run(
        &mut cargo("test", &[selection, &["--no-run"]].concat()),
        show,
    )?;
    let built = building.elapsed().as_secs();
    let running = Instant::now();
    let (mut count, mut failed) = (0, Vec::new());
    for words in runs {
        let arguments = [selection, &["--"], words].concat();
        match run::run(&mut cargo("test", &arguments), show) {
            Ok(output) => count += passed(&output),
            Err(message) => failed.push(message),
        }
    }
    match count {
        _ if !failed.is_empty() => Err(failed.join("; ")),
        0 => Err("no test ran".to_owned()),
        count => Ok(Done::Ran(format!(
            "{count} tests passed, {}, {}; built in {built} s, ran in {} s",
            place.how,
            std.describe(),
            running.elapsed().as_secs()
        ))),
    }
}

/// Where test programs run, and what cargo is told about it.
struct Place {
    native: bool,
    how: String,
    variables: Vec<(String, String)>,
    /// After cargo's subcommand.
    options: &'static [&'static str],
}

impl Default for Place {
    fn default() -> Self {
        Self {
            native: true,
            how: "native".to_owned(),
            variables: Vec::new(),
            options: &[],
        }
    }
}

impl Place {
    /// The emulator of a target whose programs are known to be here.
    fn of(target: &Target) -> Self {
        let mut variables = Vec::new();
        let mut options: &[&str] = &[];
        let key = |name: &str| {
            let triple = target.triple.to_uppercase().replace('-', "_");
            format!("CARGO_TARGET_{triple}_{name}")
        };
        if let Some(linker) = target.linker {
            variables.push((key("LINKER"), linker.to_owned()));
        }
        let (how, program) = match target.runner {
            Runner::Qemu(program, libraries) => match loader(target, libraries) {
                // A 64-bit x86 machine runs 32-bit programs itself, given their loader; that is
                // ten times as fast, and a program can then start others of its kind.
                Some(loader) => {
                    let flags = format!(
                        "-Clink-arg=-Wl,--dynamic-linker={loader} \
                         -Clink-arg=-Wl,-rpath,{libraries}/lib"
                    );
                    variables.push((key("RUSTFLAGS"), flags));
                    ("native, 32-bit", String::new())
                }
                None => {
                    let runner = format!("{program} -L {libraries}");
                    // An emulated program's children are the system's, unless it is told.
                    variables.push(("PEER_TESTS_RUNNER".to_owned(), runner.clone()));
                    // qemu-user 7.2 forks to start a program, and the child waits for ever where another
                    // thread held the lock of glib's own allocator then. That of libc can be forked.
                    variables.push(("G_SLICE".to_owned(), "always-malloc".to_owned()));
                    // Unoptimized and emulated, it runs into deadlines that are there for hangs.
                    variables.push(("CARGO_PROFILE_DEV_OPT_LEVEL".to_owned(), "1".to_owned()));
                    // The tests themselves take longer to optimize than that gains in one run.
                    options = &["--config", "profile.dev.package.peer-tests.opt-level=0"];
                    (program, runner)
                }
            },
            Runner::Wine => {
                variables.extend(setup::wine_variables());
                ("Wine", "wine".to_owned())
            }
            Runner::Android => {
                let script = run::root().join("xtask/android/run-test");
                ("adb", script.display().to_string())
            }
            Runner::Simulator => ("simctl", "xcrun simctl spawn booted".to_owned()),
            Runner::Native | Runner::Web => ("native", String::new()),
        };
        // Nobody debugs these programs; checks of overflow and `debug_assert` stay.
        for (key, value) in [("DEBUG", "0"), ("INCREMENTAL", "false")] {
            variables.push((format!("CARGO_PROFILE_DEV_{key}"), value.to_owned()));
        }
        let limit = match run::find("timeout") {
            Some(_) => format!("timeout --kill-after=10 {RUNNER_SECONDS} "),
            None => String::new(),
        };
        let runner = limit + &program;
        if !runner.is_empty() {
            variables.push((key("RUNNER"), runner));
        }
        Self {
            native: false,
            how: how.to_owned(),
            variables,
            options,
        }
    }
}

/// The loader of 32-bit x86 programs among the target's libraries, if this machine can run it.
fn loader(target: &Target, libraries: &str) -> Option<String> {
    if !target.triple.starts_with("i686-") || !cfg!(target_arch = "x86_64") {
        return None;
    }
    let loader = format!("{libraries}/lib/ld-linux.so.2");
    run::output(Command::new(&loader).arg("--version")).ok()?;
    Some(loader)
}

/// The number of passed tests in the closing lines of `cargo test`.
pub(crate) fn passed(output: &str) -> u64 {
    output
        .lines()
        .filter_map(|line| {
            line.strip_prefix("test result: ok. ")?
                .split(' ')
                .next()?
                .parse::<u64>()
                .ok()
        })
        .sum()
}

fn no_std(target: &Target) -> String {
    format!(
        "no standard library for it: `rustup target add {}`, or a compiler with its library's \
         source (`cargo xtask targets setup`)",
        target.triple
    )
}

/// Programs that testing a target needs and this machine lacks.
fn missing_programs(target: &Target) -> Vec<&'static str> {
    let runner = match target.runner {
        Runner::Native => None,
        Runner::Qemu(program, _) => Some(program),
        Runner::Wine => Some("wine"),
        Runner::Android => Some("adb"),
        Runner::Simulator => Some("xcrun"),
        Runner::Web => Some("node"),
    };
    let mut missing: Vec<&str> = target
        .linker
        .into_iter()
        .chain(runner)
        .filter(|program| run::find(program).is_none())
        .collect();
    // Some toolchains bring it, outside of `PATH`.
    if matches!(target.runner, Runner::Web) && web::linker().is_none() {
        missing.push(web::LINKER);
    }
    missing
}

fn list() -> String {
    let host = toolchain::host_triple().unwrap_or_default();
    let width = TARGETS
        .iter()
        .map(|target| target.triple.len())
        .max()
        .unwrap_or(0);
    let mut text = String::new();
    for target in TARGETS {
        let std = Std::find(target.triple);
        let here = match &std {
            None => "no standard library here".to_owned(),
            Some(std) => std.describe(),
        };
        let tests = if target.triple == host {
            ", tests run natively".to_owned()
        } else if target.tier == Tier::Tested {
            match missing_programs(target) {
                missing if missing.is_empty() => ", tests can run".to_owned(),
                missing => format!(", tests lack {}", missing.join(", ")),
            }
        } else {
            String::new()
        };
        text.push_str(&format!(
            "{:<width$}  {:<9}  {here}{tests}  ({})\n",
            target.triple,
            target.tier.word(),
            target.stands_for
        ));
    }
    text
}

/// The table as the documents carry it; `cargo xtask tidy` compares.
pub(crate) fn markdown() -> String {
    let mut text = "| target | stands for | promise |\n| --- | --- | --- |\n".to_owned();
    for Target {
        triple,
        stands_for,
        tier,
        ..
    } in TARGETS
    {
        text.push_str(&format!(
            "| `{triple}` | {stands_for} | {} |\n",
            tier.word()
        ));
    }
    text
}

/// Where the workspace is copied to when a command must change it.
pub(crate) fn scratch_copy(name: &str) -> Result<PathBuf, String> {
    let copy = run::scratch(name);
    if copy.exists() {
        std::fs::remove_dir_all(&copy).map_err(|error| format!("{}: {error}", copy.display()))?;
    }
    run::copy_workspace(&copy)?;
    Ok(copy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_triple_is_known_to_the_compiler() {
        let mut rustc = Command::new(toolchain::active_rustc());
        let known = run::output(rustc.args(["--print", "target-list"])).expect("rustc runs");
        for target in TARGETS {
            assert!(
                known.lines().any(|line| line == target.triple),
                "{}",
                target.triple
            );
        }
    }

    #[test]
    fn quick_targets_are_promised_ones() {
        for name in QUICK_CHECK.iter().chain(QUICK_TEST) {
            assert!(named(name).is_ok(), "{name}");
        }
        for name in QUICK_TEST {
            let target = named(name).expect("just found");
            assert!(
                target.tier == Tier::Tested || matches!(target.runner, Runner::Web),
                "{name}"
            );
        }
        assert!(named("x86_64-unknown-nowhere").is_err());
    }

    #[test]
    fn each_test_is_in_one_part() {
        let runs_in = |name: &str, words: &[&str]| {
            let mut words = words.iter();
            let (mut wanted, mut kept) = (Vec::new(), true);
            while let Some(word) = words.next() {
                match *word {
                    "--skip" => kept &= !name.contains(words.next().expect("what to skip")),
                    word => wanted.push(word),
                }
            }
            kept && (wanted.is_empty() || wanted.iter().any(|word| name.contains(word)))
        };
        for (name, quick) in [
            ("client::cut::whole", 1),
            ("fetch_client::whole", 1),
            ("real::bridge::mpv", 0),
            ("hold::soak", 0),
            ("laws::dates", 1),
        ] {
            for (suite, count) in [(Suite::Whole, 1), (Suite::Quick, quick)] {
                let runs = in_parts(suite.words());
                let in_runs = runs.iter().filter(|words| runs_in(name, words));
                assert_eq!(in_runs.count(), count, "{name}");
            }
        }
    }

    #[test]
    fn closing_lines_are_summed() {
        let output = "running 2 tests\ntest result: ok. 2 passed; 0 failed\n\n\
                      test result: ok. 40 passed; 0 failed; 1 ignored\n";
        assert_eq!(passed(output), 42);
        assert_eq!(passed("error: could not compile"), 0);
    }
}
