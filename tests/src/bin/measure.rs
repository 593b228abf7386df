//! Measures what the client needs, with a limit to each figure that the exit status holds it to:
//!
//! ```text
//! measure memory [GIBIBYTES]      peak memory of whole processes, on Linux
//! measure cancel [TIMES]          time from the switch to the end of what it ends
//! ```

use std::{
    io::{self, Read, Write},
    process::{Command, ExitCode, Stdio},
    sync::{
        Arc,
        mpsc::{Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use cranpose_services::peer::{
    ByteSource, Cancel, FetchDeadline, PeerClient, PeerClientBuilder, PeerError, PeerServer,
    Progress, ProgressState, RetryPolicy, Timeouts,
};
use peer_tests::{
    script::{Script, ScriptServer, Step, response},
    silent::Silent,
};

const TOKEN: &str = "secret";
const GIB: u64 = 1 << 30;

/// What a fetch may add to the memory of a process, in KiB: its buffers and threads, with room for
/// what an allocator keeps.
const GROWTH_MAX: u64 = 4 * 1024;

/// Time in which a cancelled operation has to end, in optimized builds on an idle machine.
const CANCEL_MAX: Duration = Duration::from_millis(100);

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args().skip(1).collect();
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let number = |word: &str| word.parse::<u64>().ok();
    let result = match words[..] {
        ["memory"] => memory(10),
        ["memory", gibibytes] => number(gibibytes).map_or_else(usage, memory),
        ["memory-of", case, base, gibibytes] => {
            number(gibibytes).map_or_else(usage, |gibibytes| memory_of(case, base, gibibytes))
        }
        ["cancel"] => cancel(1000),
        ["cancel", times] => number(times).map_or_else(usage, cancel),
        _ => usage(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            eprintln!("{text}");
            ExitCode::FAILURE
        }
    }
}

type Outcome = Result<(), String>;

fn usage() -> Outcome {
    Err("usage: measure memory [GIBIBYTES] | cancel [TIMES]".to_owned())
}

/// A source of any length, of bytes that repeat after a prime.
struct Pattern(u64);

const PERIOD: usize = 251;

/// Enough of the pattern to copy a block from, wherever it begins.
fn pattern() -> Vec<u8> {
    (0..=250).cycle().take(PERIOD + (1 << 20)).collect()
}

impl ByteSource for Pattern {
    fn len(&self) -> Option<u64> {
        Some(self.0)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.0.saturating_sub(offset)).unwrap_or(usize::MAX);
        let len = buf.len().min(left);
        for (place, byte) in (offset..).zip(&mut buf[..len.min(PERIOD)]) {
            *byte = (place % PERIOD as u64) as u8;
        }
        // What is there repeats, so it can be copied to behind itself.
        let mut done = len.min(PERIOD);
        while done < len {
            let more = (done - done % PERIOD).min(len - done);
            buf.copy_within(..more, done);
            done += more;
        }
        Ok(len)
    }
}

/// Compares what comes with the pattern, and has enough after so many bytes.
struct Judge {
    pattern: Vec<u8>,
    taken: u64,
    enough: u64,
    writes: u64,
}

impl Judge {
    fn new(enough: u64) -> Self {
        Self {
            pattern: pattern(),
            taken: 0,
            enough,
            writes: 0,
        }
    }
}

impl Write for Judge {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if self.taken >= self.enough {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let from = (self.taken % PERIOD as u64) as usize;
        if self.pattern.get(from..from + buf.len()) != Some(buf) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.taken += buf.len() as u64;
        self.writes += 1;
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Cases of `measure memory`, each in a process of its own: what comes from our server, and what
/// comes from one that never ends something.
const HONEST: [&str; 2] = ["writer", "reader"];
const ENDLESS: [&str; 8] = [
    "head",
    "field lines",
    "interim answers",
    "chunk extension",
    "trailer section",
    "content for a range",
    "content for the length",
    "content for a writer",
];

fn memory(gibibytes: u64) -> Outcome {
    let source: Arc<dyn ByteSource> = Arc::new(Pattern(gibibytes * GIB + 1));
    let resolver = move |_: &str| Some(Arc::clone(&source));
    let server = PeerServer::start("127.0.0.1:0", TOKEN, Arc::new(resolver));
    let server = server.map_err(|error| error.to_string())?;
    let honest = server.local_addr().to_string();
    let itself = std::env::current_exe().map_err(|error| error.to_string())?;
    let run = |case: &str, base: &str| {
        let mut command = Command::new(&itself);
        command.args(["memory-of", case, base, &gibibytes.to_string()]);
        let status = command.stdin(Stdio::null()).status();
        match status {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(format!("{case}: {status}")),
            Err(error) => Err(format!("{case}: {error}")),
        }
    };
    println!("what | bytes received | peak before, KiB | peak after, KiB");
    let mut result = Ok(());
    for case in HONEST {
        result = result.and(run(case, &honest));
    }
    for case in ENDLESS {
        let server = ScriptServer::start(endless(case));
        result = result.and(run(case, &server.base()));
    }
    result
}

/// A server that begins something and never ends it.
fn endless(case: &str) -> Script {
    let pattern = pattern();
    let content = &pattern[..PERIOD * 256];
    let whole = |field: &str, content: &[u8]| response("HTTP/1.1 200 OK", &[field], content);
    let chunked = |content: &[u8]| whole("Transfer-Encoding: chunked", content);
    let chunk = [b"fb00\r\n", content, b"\r\n"].concat();
    let (begin, again) = match case {
        "head" => (b"HTTP/1.1 200 ".to_vec(), vec![b'x'; 4096]),
        "field lines" => (b"HTTP/1.1 200 OK\r\n".to_vec(), b"X-A: b\r\n".to_vec()),
        "interim answers" => (Vec::new(), b"HTTP/1.1 100 Go\r\n\r\n".to_vec()),
        "chunk extension" => (chunked(b"5;a"), vec![b'x'; 4096]),
        "trailer section" => (chunked(b"0\r\n"), b"X-A: b\r\n".to_vec()),
        _ => (chunked(b""), chunk),
    };
    Script::always([Step::Send(begin), Step::Endless(again, u64::MAX)])
}

/// Runs one case, and judges how far the peak of this process rose.
fn memory_of(case: &str, base: &str, gibibytes: u64) -> Outcome {
    let client = PeerClient::builder(base, TOKEN).build();
    let client = client.map_err(|error| error.to_string())?;
    let fail = |error: PeerError| format!("{case}: {error}");
    let mut judge = Judge::new(u64::MAX);
    // The first of everything is there before the first look: threads, sockets, the pattern.
    if HONEST.contains(&case) {
        client.fetch_range("a", 0, Some(1)).map_err(fail)?;
    }
    let before = peak()?;
    let received = match case {
        "writer" => {
            client
                .fetch_to_writer("a", 0, None, &mut judge)
                .map_err(fail)?;
            println!(
                "(writes of {} bytes on the average)",
                judge.taken / judge.writes
            );
            expect(judge.taken == gibibytes * GIB + 1, "not all came")?;
            judge.taken
        }
        "reader" => {
            let mut reader = client.reader("a").map_err(fail)?;
            io::copy(&mut reader.by_ref().take(gibibytes * GIB), &mut judge)
                .map_err(|error| error.to_string())?;
            expect(judge.taken == gibibytes * GIB, "not all came")?;
            judge.taken
        }
        "content for a range" => {
            let got = client.fetch_range("a", 0, Some(1 << 20)).map_err(fail)?;
            expect(got.bytes.len() == 1 << 20, "not what was asked for")?;
            1 << 20
        }
        "content for the length" => {
            let length = client.content_length("a").map_err(fail)?;
            expect(length.is_none(), "nothing tells a length")?;
            0
        }
        "content for a writer" => {
            judge.enough = gibibytes * GIB;
            let result = client.fetch_to_writer("a", 0, None, &mut judge);
            expect(
                matches!(result, Err(PeerError::Io(ref error)) if error.kind() == io::ErrorKind::StorageFull),
                "the writer's error",
            )?;
            judge.taken
        }
        _ => {
            let result = client.fetch_to_writer("a", 0, None, &mut judge);
            expect(matches!(result, Err(PeerError::Protocol(_))), "refused")?;
            judge.taken
        }
    };
    let after = peak()?;
    println!("{case} | {received} | {before} | {after}");
    let kept = match case {
        // What it returns, and what it reads ahead by default.
        "content for a range" => 1024,
        "reader" => 64 * 64,
        _ => 0,
    };
    expect(
        after - before <= GROWTH_MAX + kept,
        "the memory of the process grew",
    )
}

fn expect(holds: bool, what: &str) -> Outcome {
    if holds {
        return Ok(());
    }
    Err(format!("expected otherwise: {what}"))
}

/// `VmHWM` in KiB: the most memory this process has had.
fn peak() -> Result<u64, String> {
    let status = std::fs::read_to_string("/proc/self/status");
    let status = status.map_err(|error| format!("/proc/self/status: {error}"))?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let number = line.and_then(|line| line.split_ascii_whitespace().nth(1)?.parse().ok());
    number.ok_or_else(|| "no VmHWM in /proc/self/status".to_owned())
}

/// Where an operation is when it is cancelled.
const PLACES: [&str; 4] = ["connecting", "before the head", "in the content", "pausing"];

fn cancel(times: u64) -> Outcome {
    println!("cancelled while | times | median | 99 % | longest");
    let mut result = Ok(());
    for place in PLACES {
        let mut took = Vec::new();
        let setting = Setting::new(place)?;
        for _ in 0..times.max(1) {
            took.push(setting.cancelled_after()?);
        }
        took.sort_unstable();
        let at = |hundredths: usize| took[(took.len() - 1) * hundredths / 100];
        println!(
            "{place} | {} | {:?} | {:?} | {:?}",
            took.len(),
            at(50),
            at(99),
            at(100)
        );
        result = result.and(expect(at(100) <= CANCEL_MAX, "ended sooner"));
    }
    if result.is_ok() {
        result = timed_out();
    }
    result
}

/// A client that is blocked in one place as soon as it reports its state.
struct Setting {
    client: PeerClient,
    blocked: ProgressState,
    _silent: Option<Silent>,
    _server: Option<ScriptServer>,
}

impl Setting {
    fn new(place: &str) -> Result<Self, String> {
        let cut = response(
            "HTTP/1.1 200 OK",
            &["Content-Length: 9", "ETag: \"v\""],
            b"01",
        );
        let (script, blocked) = match place {
            "connecting" => (None, ProgressState::Connecting),
            "before the head" => (Some(vec![Step::Hold]), ProgressState::Waiting),
            "in the content" => (
                Some(vec![Step::Send(cut), Step::Hold]),
                ProgressState::Receiving,
            ),
            _ => (
                Some(vec![Step::Send(cut), Step::Fin]),
                ProgressState::Pausing,
            ),
        };
        let server = script.map(|steps| ScriptServer::start(Script::always(steps)));
        let silent = match server {
            Some(_) => None,
            None => Some(Silent::new().map_err(|error| error.to_string())?),
        };
        let base = match (&server, &silent) {
            (Some(server), _) => server.base(),
            (_, Some(silent)) => silent.address().to_string(),
            _ => String::new(),
        };
        let mut timeouts = Timeouts::default();
        (timeouts.connect, timeouts.head, timeouts.stall) = (None, None, None);
        let mut retry = RetryPolicy::default();
        (retry.pause, retry.pause_max) = (Duration::from_secs(60), Duration::from_secs(60));
        retry.patience = Duration::from_secs(3600);
        let builder = PeerClient::builder(base, TOKEN)
            .timeouts(timeouts)
            .retry(retry);
        Ok(Self {
            client: build(builder)?,
            blocked,
            _silent: silent,
            _server: server,
        })
    }

    /// Begins an operation, cancels it once it is where it belongs, and tells how long its end took.
    fn cancelled_after(&self) -> Result<Duration, String> {
        let (begun, blocked) = channel();
        let progress = report(self.blocked, begun);
        let cancel = Cancel::new();
        let client = self.client.with_cancel(&cancel).with_progress(&progress);
        let operation = thread::spawn(move || {
            let result = client.fetch_range("a", 0, None);
            (Instant::now(), result.map(|_| ()))
        });
        blocked.recv().map_err(|error| error.to_string())?;
        // It has said what it is about to do; let it.
        thread::sleep(Duration::from_millis(2));
        let thrown = Instant::now();
        cancel.cancel();
        let (ended, result) = operation.join().map_err(|_| "a panic".to_owned())?;
        expect(matches!(result, Err(PeerError::Cancelled)), "cancelled")?;
        Ok(ended.saturating_duration_since(thrown))
    }
}

fn build(builder: PeerClientBuilder) -> Result<PeerClient, String> {
    builder.build().map_err(|error| error.to_string())
}

fn report(state: ProgressState, begun: Sender<()>) -> Progress {
    Progress::with_callback(Duration::MAX, move |snapshot| {
        if snapshot.state == state {
            // The first time is enough, and nobody waits for a second.
            let _ = begun.send(());
        }
    })
}

/// How late the deadline for a connection is noticed.
fn timed_out() -> Outcome {
    const AFTER: Duration = Duration::from_millis(200);
    let silent = Silent::new().map_err(|error| error.to_string())?;
    let mut timeouts = Timeouts::default();
    timeouts.connect = Some(AFTER);
    let builder = PeerClient::builder(silent.address().to_string(), TOKEN).timeouts(timeouts);
    let client = build(builder)?;
    let mut late = Duration::ZERO;
    for _ in 0..20 {
        let begun = Instant::now();
        let result = client.content_length("a");
        let expected = matches!(result, Err(PeerError::TimedOut(FetchDeadline::Connect)));
        expect(expected, "timed out")?;
        late = late.max(begun.elapsed().saturating_sub(AFTER));
    }
    println!("connect timeout of {AFTER:?}, 20 times: at most {late:?} late");
    Ok(())
}
