//! A progress bar on standard error, where that is a terminal.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// Columns between the brackets.
const WIDTH: u64 = 30;
/// Shortest time between two drawings.
const REDRAW: Duration = Duration::from_millis(100);

/// Hands everything on to another writer, and shows how far it is.
pub(crate) struct Progress<'a> {
    inner: &'a mut dyn Write,
    expected: Option<u64>,
    written: u64,
    started: Instant,
    /// When the bar was drawn last; `None` where there is no terminal to draw on.
    drawn: Option<Instant>,
}

impl<'a> Progress<'a> {
    /// Counts what is written to `inner` towards the expected number of bytes, if that is known.
    pub(crate) fn new(inner: &'a mut dyn Write, expected: Option<u64>) -> Self {
        let started = Instant::now();
        let drawn = io::stderr().is_terminal().then_some(started);
        Self {
            inner,
            expected,
            written: 0,
            started,
            drawn,
        }
    }

    fn draw(&self) {
        let seconds = self.started.elapsed().as_secs_f64().max(0.001);
        let rate = self.written as f64 / seconds;
        let megabytes = |bytes: f64| bytes / 1e6;
        let mut line = String::from("\r");
        if let Some(expected) = self.expected.filter(|expected| *expected > 0) {
            let done = (self.written as f64 / expected as f64).min(1.0);
            let filled = (done * WIDTH as f64) as usize;
            let left = (expected.saturating_sub(self.written) as f64 / rate.max(1.0)) as u64;
            line += &format!("[{:<width$}] ", "#".repeat(filled), width = WIDTH as usize);
            line += &format!("{:3.0}% {}:{:02} left ", done * 100.0, left / 60, left % 60);
        }
        line += &format!(
            "{:.1} MB, {:.1} MB/s",
            megabytes(self.written as f64),
            megabytes(rate)
        );
        // Erases the rest of a longer line before; a bar that cannot be drawn stops nothing.
        let _ = write!(io::stderr(), "{line}\x1b[K");
    }
}

impl Write for Progress<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.written += written as u64;
        if self.drawn.is_some_and(|drawn| drawn.elapsed() >= REDRAW) {
            self.draw();
            self.drawn = Some(Instant::now());
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        if self.drawn.is_some() {
            self.draw();
            let _ = writeln!(io::stderr());
        }
    }
}
