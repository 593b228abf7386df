//! Where the servers' time goes: perf looks at CPU 0 while a load runs, and each look at a server is
//! put down to what its thread was doing.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::{
    cpu,
    report::{put, with_table},
    table::{self, SIDES, Words},
};

/// The works that are looked at, by the names that the table of sides has for them.
const WORKS: [&str; 8] = [
    "1 GiB on two CPUs",
    "1 KiB × 1",
    "1 KiB × 64",
    "64 KiB × 16",
    "64 KiB × 64",
    "64 KiB discarded × 16",
    "64 KiB discarded × 64",
    "1 KiB, a connection each × 64",
];

/// What threads do, in the order of the columns.
const DOINGS: [&str; 8] = [
    "own code",
    "copying",
    "reading",
    "sending",
    "receiving",
    "waiting",
    "connections, files",
    "rest",
];

/// Functions that are named for each side.
const NAMED: usize = 4;

/// `profile [milliseconds=1000] [rows=TEXT] [sides=TEXT] [scratch=DIR] [out=DIR]`: with `rows` or
/// `sides`, nothing is written.
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let words = Words(arguments);
    let time = Duration::from_millis(words.number("milliseconds", 1000)?);
    let place = words.place()?;
    let samples = place.scratch.join("perf.data");
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut text = "| work | side | µs per request |".to_owned();
    for doing in DOINGS {
        text += &format!(" {doing} |");
    }
    text += &format!(" most |\n{}\n", "| --- ".repeat(DOINGS.len() + 4) + "|");
    for row in table::rows(time) {
        if !WORKS.contains(&row.name.as_str()) || !words.wants("rows", &row.name) {
            continue;
        }
        for side in SIDES.iter().take(3) {
            if !words.wants("sides", side.name) {
                continue;
            }
            cpu::pin(&[0])?;
            let server = match (side.start)(&place) {
                Ok(server) => server,
                Err(reason) => {
                    eprintln!("SKIPPED {}: {reason}", side.name);
                    continue;
                }
            };
            cpu::pin(&[usize::from(row.two_cpus)])?;
            let mut check = row.work.clone();
            (check.verify, check.time) = (true, time / 20);
            let failed = |error: String| format!("{}, {}: {error}", side.name, row.name);
            table::load(&server, &check, &[0]).map_err(failed)?;
            let mut perf = Command::new("perf");
            perf.args(["record", "--quiet", "--event=cpu-clock", "--freq=4000"])
                .args(["--call-graph=fp", "--cpu=0", "--output"])
                .arg(&samples)
                .arg("--")
                .arg(&program);
            let figures = table::load_by(perf, &server, &row.work, &[0]).map_err(failed)?;
            let profile = Profile::read(&samples, server.child.id())?;
            let cost = figures.server_cpu / figures.requests as f64 * 1e6;
            let line = format!("| {} | {} {}", row.name, side.name, profile.columns(cost));
            println!("{line}");
            text += &line;
            text += "\n";
        }
    }
    let _ = std::fs::remove_file(&samples);
    match words.get("out") {
        Some(out) if words.get("rows").or(words.get("sides")).is_none() => {
            let out = Path::new(out);
            let document = std::fs::read_to_string(out.join("BENCHMARKS.md"))
                .map_err(|error| format!("BENCHMARKS.md: {error}"))?;
            put(
                out,
                "BENCHMARKS.md",
                &with_table(&document, "profile", &text)?,
            )
        }
        _ => Ok(()),
    }
}

/// How often a server was seen doing what, and in which function.
#[derive(Default)]
struct Profile {
    doings: BTreeMap<&'static str, u64>,
    functions: BTreeMap<String, u64>,
    all: u64,
}

impl Profile {
    fn read(samples: &PathBuf, process: u32) -> Result<Self, String> {
        let output = Command::new("perf")
            .args(["script", "--fields=ip,sym", "--pid", &process.to_string()])
            .arg("--input")
            .arg(samples)
            .output()
            .map_err(|error| format!("perf: {error}"))?;
        if !output.status.success() {
            let reason = String::from_utf8_lossy(&output.stderr);
            return Err(format!("perf script: {}", reason.trim()));
        }
        let profile = Self::parse(&String::from_utf8_lossy(&output.stdout));
        if profile.all == 0 {
            return Err("perf has not seen the server".to_owned());
        }
        Ok(profile)
    }

    /// Samples with an empty line behind each; each a line for each frame, the innermost first.
    fn parse(text: &str) -> Self {
        let mut profile = Self::default();
        for sample in text.split("\n\n") {
            let name = |line: &str| Some(line.trim().split_once(' ')?.1.to_owned());
            let frames: Vec<String> = sample.lines().filter_map(name).collect();
            let Some(innermost) = frames.first() else {
                continue;
            };
            profile.all += 1;
            *profile.doings.entry(doing(&frames)).or_default() += 1;
            *profile.functions.entry(innermost.clone()).or_default() += 1;
        }
        profile
    }

    fn share(&self, times: u64) -> f64 {
        times as f64 / self.all as f64
    }

    /// Cost of a request, what of it goes where, and the functions that were seen most.
    fn columns(&self, cost: f64) -> String {
        let mut text = format!("| {cost:.1} |");
        for doing in DOINGS {
            let share = self.share(self.doings.get(doing).copied().unwrap_or(0));
            text += &format!(" {:.0} % |", share * 100.0);
        }
        let mut most: Vec<_> = self.functions.iter().collect();
        most.sort_by_key(|(name, times)| (u64::MAX - **times, name.as_str()));
        let most: Vec<String> = most
            .iter()
            .take(NAMED)
            .map(|(name, times)| format!("`{name}` {:.0} %", self.share(**times) * 100.0))
            .collect();
        text + &format!(" {} |", most.join(", "))
    }
}

/// What a thread is doing, by the functions it is in.
fn doing(frames: &[String]) -> &'static str {
    let is_in = |name: &str| frames.iter().any(|frame| frame == name);
    // Some are missing where the compiler made a jump of a call.
    let call = frames.iter().find_map(|frame| match frame.as_str() {
        "do_writev" | "vfs_writev" => Some("writev"),
        "ep_poll" | "do_epoll_wait" => Some("epoll_wait"),
        frame => {
            let (before, call) = frame.split_once("_sys_")?;
            before.starts_with("__").then_some(call)
        }
    });
    let Some(call) = call else {
        let is_kernel = [
            "do_syscall_64",
            "entry_SYSCALL_64_after_hwframe",
            "el0t_64_sync",
        ]
        .into_iter()
        .any(is_in)
            || frames.iter().any(|frame| frame.starts_with("asm_"));
        return if is_kernel { "rest" } else { "own code" };
    };
    let copies = ["_copy_to_iter", "_copy_from_iter", "rep_movs_alternative"];
    let waits = ["schedule", "__schedule", "schedule_timeout"];
    match call {
        _ if copies.contains(&frames[0].as_str()) => "copying",
        _ if waits.into_iter().any(is_in) && !is_in("try_to_wake_up") => "waiting",
        "pread64" => "reading",
        "sendto" | "sendfile64" | "sendfile" | "writev" => "sending",
        "recvfrom" => "receiving",
        _ => "connections, files",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_put_down_to_what_was_done() {
        let text = "    ffff _copy_to_iter\n    ffff __x64_sys_pread64\n    ffff do_syscall_64\n\n    \
                    ffff tcp_ack\n    ffff __x64_sys_sendto\n    ffff do_syscall_64\n\n    \
                    7f00 peer_net::serve\n\n    \
                    ffff finish_task_switch.isra.0\n    ffff schedule\n    ffff __x64_sys_recvfrom\n\n";
        let profile = Profile::parse(text);
        let doings: Vec<_> = profile.doings.keys().copied().collect();
        assert_eq!(doings, ["copying", "own code", "sending", "waiting"]);
        assert_eq!(profile.all, 4);
        let columns = profile.columns(2.0);
        let shares =
            "| 2.0 | 25 % | 25 % | 0 % | 25 % | 0 % | 25 % | 0 % | 0 % | `_copy_to_iter` 25 %";
        assert!(columns.starts_with(shares), "{columns}");
    }
}
