//! The facade inside a program that is not Rust: linked static, and loaded and unloaded as a
//! dynamic library, with SIGPIPE at its default action.

use std::path::Path;
use std::process::Command;

use crate::run::{self, Done, Outcome, Show, Steps};

pub(crate) fn run(arguments: &[String]) -> Outcome {
    if let Some(argument) = arguments.first() {
        return Err(format!("host takes no `{argument}`"));
    }
    let mut steps = Steps::new("host");
    steps.step("C program", step);
    steps.finish(false)
}

pub(crate) fn step() -> Result<Done, String> {
    if !cfg!(unix) {
        return Ok(Done::Skipped(
            "the C program is written for POSIX".to_owned(),
        ));
    }
    let Some(cc) = ["cc", "gcc", "clang"].into_iter().find_map(run::find) else {
        return Ok(Done::Skipped("no C compiler".to_owned()));
    };
    let host = run::root().join("tests/host");
    let built = run::scratch("host");
    let mut cargo = run::cargo();
    cargo
        .arg("rustc")
        .arg("--manifest-path")
        .arg(host.join("Cargo.toml"));
    cargo.env("CARGO_TARGET_DIR", &built).args([
        "--locked",
        "--lib",
        "--",
        "--print",
        "native-static-libs",
    ]);
    // The compiler tells what the archive needs only when it makes it.
    let mut clean = run::cargo();
    clean
        .arg("clean")
        .arg("--manifest-path")
        .arg(host.join("Cargo.toml"));
    clean
        .env("CARGO_TARGET_DIR", &built)
        .args(["-p", "peer-host"]);
    run::run(&mut clean, Show::OnFailure)?;
    let libraries = native_static_libraries(&mut cargo)?;

    let debug = built.join("debug");
    let source = host.join("main.c");
    let compile = |program: &Path, arguments: &[&str]| {
        let mut command = Command::new(&cc);
        command
            .args(["-std=c99", "-Wall", "-Wextra", "-Werror", "-o"])
            .arg(program)
            .arg(&source);
        run::run(command.args(arguments), Show::OnFailure)
    };
    let archive = debug.join("libpeer_host.a").display().to_string();
    let mut arguments = vec!["-DSTATIC", archive.as_str()];
    arguments.extend(libraries.iter().map(String::as_str));
    let linked = built.join("static");
    compile(&linked, &arguments)?;
    run::run(&mut Command::new(&linked), Show::Always)?;

    let loading = built.join("dynamic");
    compile(
        &loading,
        if cfg!(target_os = "linux") {
            &["-ldl"]
        } else {
            &[]
        },
    )?;
    let extension = if cfg!(target_vendor = "apple") {
        "dylib"
    } else {
        "so"
    };
    let library = debug.join(format!("libpeer_host.{extension}"));
    run::run(Command::new(&loading).arg(library), Show::Always)?;
    Ok(Done::Ran("static and dynamic".to_owned()))
}

/// Builds the libraries; the system libraries that the archive needs stand in a note of rustc.
fn native_static_libraries(cargo: &mut Command) -> Result<Vec<String>, String> {
    let output = cargo.output().map_err(|error| error.to_string())?;
    let notes = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("the host library does not build\n{notes}"));
    }
    let marker = "native-static-libs: ";
    let line = notes
        .lines()
        .find_map(|line| line.split_once(marker).map(|(_, rest)| rest));
    let line = line.ok_or("rustc printed no native-static-libs")?;
    Ok(line.split_whitespace().map(str::to_owned).collect())
}
