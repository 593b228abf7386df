//! A progress bar on standard error, where that is a terminal.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use cranpose_services::peer::{Progress, ProgressSnapshot, ProgressState};

/// Columns between the brackets.
const WIDTH: usize = 30;
/// Shortest time between two drawings.
const REDRAW: Duration = Duration::from_millis(100);

/// Follows an operation, and draws how far it is if somebody can see it.
pub(crate) fn bar() -> Progress {
    if io::stderr().is_terminal() {
        Progress::with_callback(REDRAW, draw)
    } else {
        Progress::new()
    }
}

fn draw(now: &ProgressSnapshot) {
    let mut line = String::from("\r");
    if let Some(expected) = now.expected {
        let done = if expected == 0 {
            1.0
        } else {
            now.received as f64 / expected as f64
        };
        let filled = "#".repeat((done * WIDTH as f64) as usize);
        line += &format!("[{filled:<WIDTH$}] {:3.0}%  ", done * 100.0);
    }
    let [received, rate] = [now.received as f64, now.rate].map(|bytes| bytes / 1e6);
    line += &format!("{received:.1} MB  {rate:.1} MB/s");
    match (now.state, now.remaining()) {
        (ProgressState::Pausing, _) => line += "  trying again",
        (ProgressState::Receiving, Some(left)) => {
            let seconds = left.as_secs();
            line += &format!("  {}:{:02} left", seconds / 60, seconds % 60);
        }
        _ => {}
    }
    // Erases the rest of a longer line before.
    line += "\x1b[K";
    if matches!(now.state, ProgressState::Done | ProgressState::Failed) {
        line += "\n";
    }
    // A bar that cannot be drawn stops nothing.
    let _ = io::stderr().write_all(line.as_bytes());
}
