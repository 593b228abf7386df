//! The README's set-up: fetches and builds everything, installs nothing, and says which optional
//! programs the tests against other software would use.

use crate::run::{self, Outcome, Show};

/// Programs that tests run against ours, with the Debian package of each.
const OPTIONAL: &[(&str, &str)] = &[
    ("apache2", "apache2"),
    ("aria2c", "aria2"),
    ("caddy", "caddy"),
    ("chromedriver", "chromium-driver"),
    ("chromium", "chromium"),
    ("curl", "curl"),
    ("cvlc", "vlc-bin"),
    ("ffmpeg", "ffmpeg"),
    ("ffprobe", "ffmpeg"),
    ("go", "golang-go"),
    ("gst-launch-1.0", "gstreamer1.0-tools"),
    ("ip", "iproute2"),
    ("lighttpd", "lighttpd"),
    ("mpv", "mpv"),
    ("nginx", "nginx"),
    ("openssl", "openssl"),
    ("python3", "python3"),
    ("script", "bsdutils"),
    ("tc", "iproute2"),
    ("wget", "wget"),
];

pub(crate) fn run(arguments: &[String]) -> Outcome {
    if let Some(argument) = arguments.first() {
        return Err(format!("setup takes no `{argument}`"));
    }
    run::run(
        run::cargo().args(["build", "--workspace", "--examples"]),
        Show::Always,
    )?;
    // What the README's other two commands build, so that they start at once.
    run::run(
        run::cargo().args(["build", "--release", "--examples"]),
        Show::Always,
    )?;
    run::run(
        run::cargo().args(["test", "--workspace", "--no-run"]),
        Show::Always,
    )?;
    let missing: Vec<_> = OPTIONAL
        .iter()
        .filter(|(program, _)| run::find(program).is_none())
        .collect();
    if missing.is_empty() {
        println!("\nready: every optional program is here");
        return Ok(());
    }
    let programs: Vec<_> = missing.iter().map(|(program, _)| *program).collect();
    let mut packages: Vec<_> = missing.iter().map(|(_, package)| *package).collect();
    packages.sort_unstable();
    packages.dedup();
    println!(
        "\nready; tests that need these programs will be skipped: {}",
        programs.join(" ")
    );
    println!(
        "on Debian or Ubuntu: sudo apt-get install {}",
        packages.join(" ")
    );
    Ok(())
}
