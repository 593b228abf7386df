//! Rows, verdicts, and the one runner that all tables share.

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;
use std::{io, thread};

use cranpose_services::peer::{
    PeerClient, PeerError, RetryPolicy, content_length, fetch_range, fetch_to_writer,
};
use peer_tests::script::{Request, Script, ScriptServer};

/// What the source holds: every byte differs from every other, so a shift cannot go unseen.
pub(super) const CONTENT: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
/// The complete length of [`CONTENT`].
pub(super) const COMPLETE: Option<u64> = Some(36);
/// Every character class of a b64token (RFC 6750 §2.1).
pub(super) const TOKEN: &str = "t0ken-._~+/Z==";
pub(super) const HANDLE: &str = "song";

/// The range that a call asks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ask {
    pub(super) start: u64,
    pub(super) len: Option<u64>,
}

pub(super) const WHOLE: Ask = Ask {
    start: 0,
    len: None,
};

pub(super) const fn range(start: u64, len: u64) -> Ask {
    Ask {
        start,
        len: Some(len),
    }
}

pub(super) const fn from(start: u64) -> Ask {
    Ask { start, len: None }
}

/// One outcome that a row accepts.
#[derive(Clone, Debug)]
enum Want {
    /// Exactly these bytes, and one of these total lengths.
    Bytes(Vec<u8>, Vec<Option<u64>>),
    Length(Option<u64>),
    Unauthorized,
    NotFound,
    Status(u16),
    Protocol,
    /// What the caller passed in cannot be used.
    Input,
    /// An error that is not about a status: the exchange itself failed.
    Broken,
    AnyError,
}

/// The outcomes that a row accepts, each with the most bytes that a writer may have got by then.
#[derive(Clone, Debug)]
pub(super) struct Verdict(Vec<(Want, usize)>);

impl Verdict {
    pub(super) fn or(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }
}

fn verdict(want: Want, written_max: usize) -> Verdict {
    Verdict(vec![(want, written_max)])
}

pub(super) fn ok(bytes: &[u8], total: Option<u64>) -> Verdict {
    verdict(Want::Bytes(bytes.to_vec(), vec![total]), 0)
}

/// These bytes; the total length was not said outright, so `None` is accepted as well.
pub(super) fn ok_maybe_total(bytes: &[u8], total: u64) -> Verdict {
    verdict(Want::Bytes(bytes.to_vec(), vec![Some(total), None]), 0)
}

/// All of [`CONTENT`], and its length.
pub(super) fn ok_whole() -> Verdict {
    ok(CONTENT, COMPLETE)
}

/// A `Protocol` error, decided before any content was handed over.
pub(super) fn refused() -> Verdict {
    verdict(Want::Protocol, 0)
}

/// An error about what the caller passed in.
pub(super) fn refused_input() -> Verdict {
    verdict(Want::Input, 0)
}

/// A `Protocol` error; at most this many right bytes were handed over before it.
pub(super) fn protocol(written_max: usize) -> Verdict {
    verdict(Want::Protocol, written_max)
}

/// An error other than one about a status; at most this many right bytes were handed over.
pub(super) fn broken(written_max: usize) -> Verdict {
    verdict(Want::Broken, written_max)
}

pub(super) fn status(code: u16) -> Verdict {
    verdict(Want::Status(code), 0)
}

pub(super) fn unauthorized() -> Verdict {
    verdict(Want::Unauthorized, 0)
}

pub(super) fn not_found() -> Verdict {
    verdict(Want::NotFound, 0)
}

pub(super) fn any_error() -> Verdict {
    verdict(Want::AnyError, 0)
}

/// Any error; at most this many right bytes were handed over before it.
pub(super) fn any_error_writing(written_max: usize) -> Verdict {
    verdict(Want::AnyError, written_max)
}

pub(super) fn known(length: u64) -> Verdict {
    verdict(Want::Length(Some(length)), 0)
}

pub(super) fn unknown() -> Verdict {
    verdict(Want::Length(None), 0)
}

/// Which of the three functions is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    FetchRange(Ask),
    FetchToWriter(Ask),
    ContentLength,
}

impl PartialEq for Ask {
    fn eq(&self, other: &Self) -> bool {
        (self.start, self.len) == (other.start, other.len)
    }
}

impl Eq for Ask {}

/// How a call ended, and what a writer had got by then.
#[derive(Debug)]
pub(super) struct Seen {
    outcome: Outcome,
    written: Vec<u8>,
}

#[derive(Debug)]
enum Outcome {
    Bytes(Vec<u8>, Option<u64>),
    Length(Option<u64>),
    Failed(PeerError),
    Panicked,
    Hung,
}

/// A writer whose bytes can be looked at after the call failed, or while it hangs.
#[derive(Clone, Default)]
pub(super) struct Sink(Arc<Mutex<Vec<u8>>>);

impl Sink {
    pub(super) fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap().clone()
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Makes the call with the free function, on a thread of its own: a client that hangs or panics
/// fails its row alone.
pub(super) fn call(base: &str, token: &str, handle: &str, call: Call) -> Seen {
    let (base, token, handle) = (base.to_owned(), token.to_owned(), handle.to_owned());
    watched(move |writer| match call {
        Call::FetchRange(Ask { start, len }) => fetch_range(&base, &token, &handle, start, len)
            .map(|fetched| Outcome::Bytes(fetched.bytes, fetched.total_len)),
        Call::FetchToWriter(Ask { start, len }) => {
            fetch_to_writer(&base, &token, &handle, start, len, writer)
                .map(|total| Outcome::Bytes(writer.bytes(), total))
        }
        Call::ContentLength => content_length(&base, &token, &handle).map(Outcome::Length),
    })
}

/// Makes the call with this client, whose pool no other test draws on.
fn call_with(client: &PeerClient, call: Call) -> Seen {
    let client = client.clone();
    watched(move |writer| match call {
        Call::FetchRange(Ask { start, len }) => client
            .fetch_range(HANDLE, start, len)
            .map(|fetched| Outcome::Bytes(fetched.bytes, fetched.total_len)),
        Call::FetchToWriter(Ask { start, len }) => client
            .fetch_to_writer(HANDLE, start, len, writer)
            .map(|total| Outcome::Bytes(writer.bytes(), total)),
        Call::ContentLength => client.content_length(HANDLE).map(Outcome::Length),
    })
}

fn watched(call: impl FnOnce(&mut Sink) -> Result<Outcome, PeerError> + Send + 'static) -> Seen {
    let sink = Sink::default();
    let mut writer = sink.clone();
    let (done, result) = mpsc::channel();
    thread::spawn(move || {
        let outcome = call(&mut writer);
        // Nobody listens any more when the row has given up.
        drop(done.send(outcome.unwrap_or_else(Outcome::Failed)));
    });
    let outcome = match result.recv_timeout(PATIENCE) {
        // Whoever waits for bytes that a row does not send has misjudged the answer.
        Ok(Outcome::Failed(PeerError::TimedOut(_))) => Outcome::Hung,
        Ok(outcome) => outcome,
        Err(mpsc::RecvTimeoutError::Timeout) => Outcome::Hung,
        Err(mpsc::RecvTimeoutError::Disconnected) => Outcome::Panicked,
    };
    let written = match outcome {
        Outcome::Failed(_) | Outcome::Hung | Outcome::Panicked => sink.bytes(),
        Outcome::Bytes(..) | Outcome::Length(_) => Vec::new(),
    };
    Seen { outcome, written }
}

/// Compares what was seen with what is accepted.
pub(super) fn judge(verdict: &Verdict, call: Call, seen: &Seen) -> Result<(), String> {
    if let Call::FetchRange(ask) | Call::FetchToWriter(ask) = call {
        let right = right(ask);
        if !right.starts_with(&seen.written) {
            return Err(format!("wrong bytes reached the writer: {seen:?}"));
        }
    }
    let mut reasons = Vec::new();
    for (want, written_max) in &verdict.0 {
        if !meets(want, &seen.outcome) {
            reasons.push(format!("{want:?}"));
        } else if seen.written.len() > *written_max {
            reasons.push(format!("{want:?} with at most {written_max} bytes written"));
        } else {
            return Ok(());
        }
    }
    Err(format!("expected {}, got {seen:?}", reasons.join(" or ")))
}

fn meets(want: &Want, outcome: &Outcome) -> bool {
    match (want, outcome) {
        (Want::Bytes(bytes, totals), Outcome::Bytes(got, total)) => {
            got == bytes && totals.contains(total)
        }
        (Want::Length(length), Outcome::Length(got)) => got == length,
        (Want::Unauthorized, Outcome::Failed(PeerError::Unauthorized))
        | (Want::NotFound, Outcome::Failed(PeerError::NotFound))
        | (Want::Protocol, Outcome::Failed(PeerError::Protocol(_)))
        | (Want::AnyError, Outcome::Failed(_)) => true,
        (Want::Input, Outcome::Failed(error)) => {
            matches!(error, PeerError::Protocol(_) | PeerError::InvalidInput(_))
        }
        (Want::Status(code), Outcome::Failed(PeerError::Status(got))) => got == code,
        (Want::Broken, Outcome::Failed(error)) => !matches!(
            error,
            PeerError::Unauthorized | PeerError::NotFound | PeerError::Status(_)
        ),
        _ => false,
    }
}

/// The bytes of [`CONTENT`] that a range covers.
pub(super) fn right(ask: Ask) -> &'static [u8] {
    let at = |position: u64| {
        usize::try_from(position)
            .unwrap_or(usize::MAX)
            .min(CONTENT.len())
    };
    let end = ask
        .len
        .map_or(u64::MAX, |len| ask.start.saturating_add(len));
    &CONTENT[at(ask.start)..at(end)]
}

type Inspect = Box<dyn Fn(&ScriptServer) -> Result<(), String> + Send>;

/// A script, the calls to make against it, and the verdict on each.
pub(super) struct Row {
    name: String,
    ask: Ask,
    script: Script,
    fetch: Option<Verdict>,
    length: Option<Verdict>,
    requests_max: usize,
    inspect: Vec<Inspect>,
}

impl Row {
    /// A row that asks for the whole of a server that follows this script.
    pub(super) fn new(name: impl Into<String>, script: Script) -> Self {
        Self {
            name: name.into(),
            ask: WHOLE,
            script,
            fetch: None,
            length: None,
            requests_max: 4,
            inspect: Vec::new(),
        }
    }

    pub(super) fn ask(mut self, ask: Ask) -> Self {
        self.ask = ask;
        self
    }

    /// The verdict on `fetch_range` and on `fetch_to_writer`.
    pub(super) fn fetch(mut self, verdict: Verdict) -> Self {
        self.fetch = Some(verdict);
        self
    }

    /// The verdict on `content_length`.
    pub(super) fn length(mut self, verdict: Verdict) -> Self {
        self.length = Some(verdict);
        self
    }

    /// The most requests that one call may make of this server.
    pub(super) fn requests_at_most(mut self, max: usize) -> Self {
        self.requests_max = max;
        self
    }

    /// Looks at the server after the call.
    pub(super) fn inspect(
        mut self,
        inspect: impl Fn(&ScriptServer) -> Result<(), String> + Send + 'static,
    ) -> Self {
        self.inspect.push(Box::new(inspect));
        self
    }

    fn run(&self) -> Vec<String> {
        let mut calls = Vec::new();
        if let Some(verdict) = &self.fetch {
            calls.push((Call::FetchRange(self.ask), verdict));
            calls.push((Call::FetchToWriter(self.ask), verdict));
        }
        if let Some(verdict) = &self.length {
            calls.push((Call::ContentLength, verdict));
        }
        assert!(!calls.is_empty(), "{}: a row that asks nothing", self.name);
        let mut failures = Vec::new();
        for (what, verdict) in calls {
            let server = ScriptServer::start(self.script.clone());
            let seen = call(&server.base(), TOKEN, HANDLE, what);
            let mut found = vec![judge(verdict, what, &seen), self.well_asked(&server)];
            found.extend(self.inspect.iter().map(|inspect| inspect(&server)));
            for failure in found.into_iter().filter_map(Result::err) {
                failures.push(format!("{} [{what:?}]: {failure}", self.name));
            }
        }
        failures
    }

    fn well_asked(&self, server: &ScriptServer) -> Result<(), String> {
        let requests = server.requests();
        if requests.len() > self.requests_max {
            return Err(format!(
                "{} requests, at most {}",
                requests.len(),
                self.requests_max
            ));
        }
        for request in &requests {
            well_formed(request, &server.base(), "/track/song")?;
        }
        Ok(())
    }
}

/// What every request of the client holds to, whatever it asks for.
pub(super) fn well_formed(request: &Request, host: &str, target: &str) -> Result<(), String> {
    let fault = |what: &str| {
        let head = String::from_utf8_lossy(&request.head)
            .escape_debug()
            .to_string();
        Err(format!("the request's {what} is wrong: {head}"))
    };
    if !matches!(request.method().as_str(), "GET" | "HEAD") {
        return fault("method");
    }
    if request.target() != target {
        return fault("target");
    }
    if request.version() != "HTTP/1.1" {
        return fault("version");
    }
    let fields = [
        ("host", host.to_owned()),
        ("authorization", format!("Bearer {TOKEN}")),
        ("accept-encoding", "identity".to_owned()),
    ];
    for (name, value) in fields {
        if request.fields(name) != [value] {
            return fault(name);
        }
    }
    if request.fields("range").len() > 1 {
        return fault("range");
    }
    for name in ["content-length", "transfer-encoding", "expect", "upgrade"] {
        if request.field(name).is_some() {
            return fault(name);
        }
    }
    Ok(())
}

/// Several calls of one server, one after the other, by a client with a pool of its own: what one
/// call leaves behind is there for the next.
pub(super) struct Sequence {
    name: String,
    script: Script,
    calls: Vec<(Call, Verdict)>,
    between: Option<Inspect>,
    inspect: Vec<Inspect>,
}

impl Sequence {
    pub(super) fn new(name: impl Into<String>, script: Script) -> Self {
        let (calls, inspect) = (Vec::new(), Vec::new());
        Self {
            name: name.into(),
            script,
            calls,
            between: None,
            inspect,
        }
    }

    /// Then makes this call.
    pub(super) fn then(mut self, call: Call, verdict: Verdict) -> Self {
        self.calls.push((call, verdict));
        self
    }

    /// Does this between two calls.
    pub(super) fn between(
        mut self,
        between: impl Fn(&ScriptServer) -> Result<(), String> + Send + 'static,
    ) -> Self {
        self.between = Some(Box::new(between));
        self
    }

    /// Looks at the server after the last call.
    pub(super) fn inspect(
        mut self,
        inspect: impl Fn(&ScriptServer) -> Result<(), String> + Send + 'static,
    ) -> Self {
        self.inspect.push(Box::new(inspect));
        self
    }

    fn run(&self) -> Vec<String> {
        assert!(
            !self.calls.is_empty(),
            "{}: a sequence that asks nothing",
            self.name
        );
        let server = ScriptServer::start(self.script.clone());
        let client = PeerClient::builder(server.base(), TOKEN).retry(quick_retry());
        let client = client.build().unwrap();
        let mut found = Vec::new();
        for (index, (what, verdict)) in self.calls.iter().enumerate() {
            if index > 0 {
                found.extend(self.between.iter().map(|between| between(&server)));
            }
            let seen = call_with(&client, *what);
            let judged = judge(verdict, *what, &seen);
            found.push(judged.map_err(|failure| format!("call {index} ({what:?}): {failure}")));
        }
        for request in server.requests() {
            found.push(well_formed(&request, &server.base(), "/track/song"));
        }
        found.extend(self.inspect.iter().map(|inspect| inspect(&server)));
        let failures = found.into_iter().filter_map(Result::err);
        failures
            .map(|failure| format!("{}: {failure}", self.name))
            .collect()
    }
}

/// As the free functions retry, with pauses that suit a table, and with patience for slow machines.
fn quick_retry() -> RetryPolicy {
    let mut retry = RetryPolicy::MEND;
    retry.patience = PATIENCE;
    retry.pause = Duration::from_millis(2);
    retry.pause_max = Duration::from_millis(10);
    retry
}

/// Runs every row and reports every failure at once.
pub(super) fn run(rows: Vec<Row>) {
    run_cases(
        rows.into_iter()
            .map(|row| (row.name.clone(), Box::new(move || row.run()) as Case)),
    );
}

/// Runs every sequence and reports every failure at once.
pub(super) fn run_sequences(sequences: Vec<Sequence>) {
    run_cases(sequences.into_iter().map(|row| {
        let name = row.name.clone();
        (name, Box::new(move || row.run()) as Case)
    }));
}

/// What a named case runs; it returns what failed.
pub(super) type Case = Box<dyn FnOnce() -> Vec<String> + Send>;

/// Runs every case on a few threads and reports every failure at once.
pub(super) fn run_cases(cases: impl IntoIterator<Item = (String, Case)>) {
    let (mut names, cases): (Vec<String>, Vec<Mutex<Option<Case>>>) = cases
        .into_iter()
        .map(|(name, case)| (name, Mutex::new(Some(case))))
        .unzip();
    let count = cases.len();
    assert!(count > 0, "an empty table");
    names.sort();
    let twice: Vec<_> = names.windows(2).filter(|pair| pair[0] == pair[1]).collect();
    assert!(twice.is_empty(), "two rows of one name: {twice:?}");

    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let case = case.lock().unwrap().take().unwrap();
                    let failed = case();
                    let mut failures = failures.lock().unwrap();
                    failures.extend(failed);
                    let hung = failures
                        .iter()
                        .filter(|failure| failure.contains("Hung"))
                        .count();
                    if hung >= HANGS_MAX {
                        next.store(count, Ordering::Relaxed);
                        failures.push(format!("gave up: {hung} calls hang"));
                    }
                }
            });
        }
    });
    let mut failures = failures.into_inner().unwrap();
    failures.sort();
    assert!(
        failures.is_empty(),
        "{} failures in a table of {count}:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

/// How long a call may take before its row is given up. Far above the client's own patience with a
/// peer that says nothing: that is what tells a client that waits in vain from a machine that is
/// slow, on which the attempts and pauses of one call may take many seconds.
const PATIENCE: Duration = Duration::from_secs(120);

/// After this many calls that hang, a table is not worth waiting for.
const HANGS_MAX: usize = 8;

/// How many rows run at a time: most of their time is spent waiting for the other side.
const THREADS: usize = 8;
