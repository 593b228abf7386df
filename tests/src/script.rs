//! A scripted server on loopback: sends exactly the bytes a test wrote down, and records what it
//! was asked.
//!
//! The client's rows judge what a client makes of an answer, so the answers here are bytes, not
//! responses: nothing corrects them on the way. A [`Script`] says what each accepted connection
//! does; the last connection of a script is repeated for every further one, so that a client that
//! asks again meets the same answer, however often it asks.
//!
//! Two servers that do read the request ([`Published`], [`Modern`]) stand in for the peers that a
//! client meets in the field.
//!
//! # How a connection is reset
//!
//! Safe std has no `SO_LINGER`. A socket that is closed while bytes wait unread in its receive
//! queue is reset by Linux and Windows (RFC 9293 §3.10.4 and RFC 1122 §4.2.2.13 ask for it), so
//! [`Step::Reset`] leaves the last byte of the request unread and drops the socket. On loopback
//! everything sent before lies in the client's receive queue by then, and Linux lets it be read
//! before the reset is reported; other systems may discard it.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use cranpose_services::peer::Stream;

/// A request head as it arrived, and the connection it came on.
#[derive(Clone, Debug)]
pub struct Request {
    /// Which accepted connection this came on, counted from 0.
    pub connection: usize,
    /// The head, up to and including the empty line.
    pub head: Vec<u8>,
}

impl Request {
    /// The method of the request-line.
    pub fn method(&self) -> String {
        self.request_line_part(0)
    }

    /// The request-target of the request-line.
    pub fn target(&self) -> String {
        self.request_line_part(1)
    }

    /// The HTTP-version of the request-line.
    pub fn version(&self) -> String {
        self.request_line_part(2)
    }

    /// The values of every field line of this name, white space around them removed.
    pub fn fields(&self, name: &str) -> Vec<String> {
        let head = String::from_utf8_lossy(&self.head);
        head.split("\r\n")
            .skip(1)
            .filter_map(|line| line.split_once(':'))
            .filter(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim_matches([' ', '\t']).to_owned())
            .collect()
    }

    /// The value of the first field line of this name.
    pub fn field(&self, name: &str) -> Option<String> {
        self.fields(name).into_iter().next()
    }

    /// `Range: bytes=first-last` as first-pos and last-pos; `None` when absent or of another form.
    pub fn range(&self) -> Option<(u64, Option<u64>)> {
        let value = self.field("range")?;
        let (first, last) = value.strip_prefix("bytes=")?.split_once('-')?;
        let first = first.parse().ok()?;
        match last {
            "" => Some((first, None)),
            last => Some((first, Some(last.parse().ok()?))),
        }
    }

    fn request_line_part(&self, index: usize) -> String {
        let head = String::from_utf8_lossy(&self.head);
        let line = head.split("\r\n").next().unwrap_or_default();
        line.split(' ').nth(index).unwrap_or_default().to_owned()
    }
}

/// A door between a test and a script: closed until one of them opens it.
#[derive(Clone, Debug, Default)]
pub struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    /// A closed gate.
    pub fn new() -> Self {
        Self::default()
    }

    /// Opens it, for good.
    pub fn open(&self) {
        *lock(&self.0.0) = true;
        self.0.1.notify_all();
    }

    /// Waits until it is open; false when it did not open within [`PATIENCE`].
    pub fn wait(&self) -> bool {
        let guard = lock(&self.0.0);
        let waited = self.0.1.wait_timeout_while(guard, PATIENCE, |open| !*open);
        waited.is_ok_and(|(open, _)| *open)
    }
}

/// One thing the server does on a connection.
#[derive(Clone, Debug)]
pub enum Step {
    /// Sends the bytes in one write.
    Send(Vec<u8>),
    /// Sends the bytes in pieces, cut at these offsets, with a pause of [`PIECE_PAUSE`] between
    /// them: long enough that a waiting reader sees most of them apart, and nothing depends on it.
    Split(Vec<u8>, Vec<usize>),
    /// Sends the bytes in pieces of this size, with the same pause between them.
    Drip(Vec<u8>, usize),
    /// Sends the bytes again and again, until the peer goes away or this many bytes are out.
    Endless(Vec<u8>, u64),
    /// Reads exactly this many bytes and does not record them as a request.
    Receive(usize),
    /// Does nothing for this long: for rows about deadlines, where time is what is tested.
    Wait(Duration),
    /// Waits until the test opens the gate.
    Pause(Gate),
    /// Opens the gate, to tell the test how far the script has come.
    Signal(Gate),
    /// Ends the sending direction (FIN), then reads until the peer has ended its own.
    Fin,
    /// Resets the connection (RST); see the module's documentation.
    Reset,
    /// Sends nothing more and keeps the connection open until the peer ends it.
    Hold,
}

/// Decides what to do about a request.
pub type Responder = Arc<dyn Fn(&Request) -> Vec<Step> + Send + Sync>;

/// What one accepted connection does.
#[derive(Clone)]
pub struct Connection {
    greeting: Vec<Step>,
    answers: Answers,
}

#[derive(Clone)]
enum Answers {
    List(Vec<Vec<Step>>),
    Respond(Responder),
}

impl Connection {
    /// Answers its first request with the first steps, and so on; ends (FIN) when a request comes
    /// for which there are none, and at once when there are none at all.
    pub fn answers(answers: impl IntoIterator<Item = Vec<Step>>) -> Self {
        let answers = Answers::List(answers.into_iter().collect());
        Self {
            greeting: Vec::new(),
            answers,
        }
    }

    /// Asks the responder about each request.
    pub fn respond(responder: impl Fn(&Request) -> Vec<Step> + Send + Sync + 'static) -> Self {
        Self {
            greeting: Vec::new(),
            answers: Answers::Respond(Arc::new(responder)),
        }
    }

    /// Does this before it waits for the first request.
    #[must_use]
    pub fn greeting(mut self, steps: impl IntoIterator<Item = Step>) -> Self {
        self.greeting = steps.into_iter().collect();
        self
    }
}

/// What a scripted server does, connection by connection.
#[derive(Clone)]
pub struct Script {
    connections: Vec<Connection>,
}

impl Script {
    /// Runs these steps for every request on every connection. The content is left out for HEAD.
    pub fn always(steps: impl IntoIterator<Item = Step>) -> Self {
        let steps: Vec<Step> = steps.into_iter().collect();
        Self::respond(move |_| steps.clone())
    }

    /// Answers every request on every connection with these bytes, and waits for the next.
    pub fn answer(bytes: impl Into<Vec<u8>>) -> Self {
        Self::always([Step::Send(bytes.into())])
    }

    /// Asks the responder about each request on each connection.
    pub fn respond(responder: impl Fn(&Request) -> Vec<Step> + Send + Sync + 'static) -> Self {
        Self::connections([Connection::respond(responder)])
    }

    /// The first accepted connection does the first, and so on; the last is repeated.
    pub fn connections(connections: impl IntoIterator<Item = Connection>) -> Self {
        let connections: Vec<Connection> = connections.into_iter().collect();
        assert!(!connections.is_empty(), "a script needs a connection");
        Self { connections }
    }
}

/// The running server. Dropping it ends every connection and joins every thread, unless one goes on for
/// [`PATIENCE`]: on Windows, shutting a connection down need not return who is blocked in it.
pub struct ScriptServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    accept: Option<JoinHandle<()>>,
    /// Disconnected when the last thread has ended: each holds a sender, and nobody sends.
    running: Mutex<Receiver<()>>,
}

struct Shared {
    script: Script,
    stop: AtomicBool,
    log: Mutex<Log>,
    open: Mutex<HashMap<usize, TcpStream>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

#[derive(Default)]
struct Log {
    connections: usize,
    requests: Vec<Request>,
    received: u64,
    capped: bool,
}

impl ScriptServer {
    /// Listens on an ephemeral port of [`own_loopback`].
    pub fn start(script: Script) -> Self {
        match Self::start_on(&format!("{}:0", own_loopback()), script) {
            Ok(server) => server,
            Err(error) => panic!("cannot listen on loopback: {error}"),
        }
    }

    /// Listens on this address.
    ///
    /// # Errors
    ///
    /// When the address cannot be bound, as on a machine without IPv6.
    pub fn start_on(address: &str, script: Script) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            script,
            stop: AtomicBool::new(false),
            log: Mutex::default(),
            open: Mutex::default(),
            threads: Mutex::default(),
        });
        let (runs, running) = mpsc::channel();
        let accept = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || accept(&listener, &shared, &runs))
        };
        Ok(Self {
            address,
            shared,
            accept: Some(accept),
            running: Mutex::new(running),
        })
    }

    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address as a `base`: `host:port`.
    pub fn base(&self) -> String {
        self.address.to_string()
    }

    /// Every request so far, in the order in which they were read.
    pub fn requests(&self) -> Vec<Request> {
        lock(&self.shared.log).requests.clone()
    }

    /// How many connections were accepted.
    pub fn connections(&self) -> usize {
        lock(&self.shared.log).connections
    }

    /// How many bytes were received on all connections.
    pub fn received(&self) -> u64 {
        lock(&self.shared.log).received
    }

    /// Whether a [`Step::Endless`] came to its cap: the peer took all of it.
    pub fn capped(&self) -> bool {
        lock(&self.shared.log).capped
    }
}

impl Drop for ScriptServer {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        // Wakes the accepting thread; it sees `stop` and leaves.
        drop(TcpStream::connect(self.address));
        if let Some(accept) = self.accept.take() {
            drop(accept.join());
        }
        for stream in lock(&self.shared.open).values() {
            drop(stream.shutdown(Shutdown::Both));
        }
        let ended = lock(&self.running).recv_timeout(PATIENCE);
        if ended == Err(RecvTimeoutError::Timeout) {
            eprintln!("a scripted connection did not end, and is left");
            return;
        }
        let threads: Vec<_> = lock(&self.shared.threads).drain(..).collect();
        for thread in threads {
            drop(thread.join());
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>, runs: &Sender<()>) {
    for stream in listener.incoming() {
        if shared.stop.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let Ok(registered) = stream.try_clone() else {
            continue;
        };
        let index = {
            let mut log = lock(&shared.log);
            log.connections += 1;
            log.connections - 1
        };
        lock(&shared.open).insert(index, registered);
        let thread = {
            let shared = Arc::clone(shared);
            let runs = runs.clone();
            thread::spawn(move || {
                let _runs = runs;
                let shared_here = Arc::clone(&shared);
                let live = Live {
                    stream,
                    index,
                    shared: shared_here,
                    mid_request: false,
                };
                // Either side may end a connection at any point: not an error here, what the
                // client made of it is judged elsewhere.
                drop(live.serve());
                // The registered clone keeps the socket open: without it, dropping would not
                // reset. `Live::serve` has removed it already where that matters.
                lock(&shared.open).remove(&index);
            })
        };
        lock(&shared.threads).push(thread);
    }
}

/// One accepted connection.
struct Live {
    stream: TcpStream,
    index: usize,
    shared: Arc<Shared>,
    /// A [`Step::Receive`] took the beginning of a request: what follows is no head of its own.
    mid_request: bool,
}

enum Next {
    Request,
    Ended,
}

impl Live {
    fn serve(mut self) -> io::Result<()> {
        self.stream.set_nodelay(true)?;
        let connections = &self.shared.script.connections;
        let script = connections[self.index.min(connections.len() - 1)].clone();
        if matches!(self.run(&script.greeting)?, Next::Ended) {
            return Ok(());
        }
        for count in 0.. {
            if matches!(&script.answers, Answers::List(answers) if count >= answers.len()) {
                self.run(&[Step::Fin])?;
                return Ok(());
            }
            let Some(head) = self.receive_head()? else {
                break;
            };
            let request = Request {
                connection: self.index,
                head,
            };
            lock(&self.shared.log).requests.push(request.clone());
            let mut steps = match &script.answers {
                Answers::List(answers) => answers[count].clone(),
                Answers::Respond(responder) => responder(&request),
            };
            if request.method() == "HEAD" {
                steps = without_content(steps);
            }
            if !steps.iter().any(|step| matches!(step, Step::Reset)) {
                self.receive(1)?;
            }
            if matches!(self.run(&steps)?, Next::Ended) {
                return Ok(());
            }
        }
        Ok(())
    }

    fn run(&mut self, steps: &[Step]) -> io::Result<Next> {
        for step in steps {
            match step {
                Step::Send(bytes) => self.stream.write_all(bytes)?,
                Step::Split(bytes, at) => {
                    let mut sent = 0;
                    for end in at.iter().copied().chain([bytes.len()]) {
                        self.send_piece(&bytes[sent..end])?;
                        sent = end;
                    }
                }
                Step::Drip(bytes, size) => {
                    for piece in bytes.chunks(*size) {
                        self.send_piece(piece)?;
                    }
                }
                Step::Endless(unit, cap) => self.send_endless(unit, *cap)?,
                Step::Receive(count) => {
                    self.receive(*count)?;
                    self.mid_request |= *count > 0;
                }
                Step::Wait(pause) => thread::sleep(*pause),
                Step::Pause(gate) => {
                    gate.wait();
                }
                Step::Signal(gate) => gate.open(),
                Step::Fin => {
                    self.stream.shutdown(Shutdown::Write)?;
                    self.drain()?;
                    return Ok(Next::Ended);
                }
                Step::Hold => {
                    self.drain()?;
                    return Ok(Next::Ended);
                }
                Step::Reset => {
                    // Makes sure that a byte lies unread, then lets go of every handle.
                    self.stream.peek(&mut [0])?;
                    lock(&self.shared.open).remove(&self.index);
                    return Ok(Next::Ended);
                }
            }
        }
        Ok(Next::Request)
    }

    fn send_piece(&mut self, piece: &[u8]) -> io::Result<()> {
        if !piece.is_empty() {
            self.stream.write_all(piece)?;
            thread::sleep(PIECE_PAUSE);
        }
        Ok(())
    }

    fn send_endless(&mut self, unit: &[u8], cap: u64) -> io::Result<()> {
        let block = unit.repeat((64 * 1024 / unit.len()).max(1));
        let mut sent = 0;
        while sent < cap {
            self.stream.write_all(&block)?;
            sent += block.len() as u64;
        }
        lock(&self.shared.log).capped = true;
        Ok(())
    }

    /// Reads a head up to its last byte, which stays in the socket: whoever resets the connection
    /// needs a byte unread. `None` when the peer ended the connection first.
    fn receive_head(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut head = Vec::new();
        loop {
            let mut byte = [0];
            if head.ends_with(b"\r\n\r") {
                if self.stream.peek(&mut byte)? == 0 {
                    return Ok(None);
                }
                if byte == *b"\n" {
                    head.push(b'\n');
                    return Ok(Some(head));
                }
            }
            let mut block = [0; 4096];
            let received = if head.is_empty() {
                // Between heads it waits for as long as the client keeps the connection. Only a read of
                // the library's ends on Windows when whoever drops the server shuts the connection down.
                let received = Stream::read(&self.stream, &mut byte)?;
                head.extend(&byte[..received]);
                received
            } else {
                let there = self.stream.peek(&mut block)?;
                let mut taken = 0;
                while taken < there && (taken == 0 || !head.ends_with(b"\r\n\r")) {
                    head.push(block[taken]);
                    taken += 1;
                }
                self.stream.read_exact(&mut block[..taken])?;
                taken
            };
            if received == 0 {
                return Ok(None);
            }
            lock(&self.shared.log).received += received as u64;
        }
    }

    fn receive(&mut self, count: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        self.stream.read_exact(&mut bytes)?;
        lock(&self.shared.log).received += count as u64;
        Ok(bytes)
    }

    /// Reads until the peer ends its direction. Requests found on the way are recorded: they came
    /// after the end of the script, and nobody answers them.
    fn drain(&mut self) -> io::Result<()> {
        while let Some(head) = self.receive_head()? {
            self.receive(1)?;
            if !std::mem::take(&mut self.mid_request) {
                lock(&self.shared.log).requests.push(Request {
                    connection: self.index,
                    head,
                });
            }
        }
        Ok(())
    }
}

/// The steps of an answer to HEAD: what is sent ends with the final response's head.
fn without_content(steps: Vec<Step>) -> Vec<Step> {
    let mut ended = false;
    let mut kept = Vec::new();
    for step in steps {
        let bytes = match step {
            Step::Send(bytes) | Step::Split(bytes, _) | Step::Drip(bytes, _) => bytes,
            Step::Endless(..) if ended => continue,
            other => {
                kept.push(other);
                continue;
            }
        };
        if !ended {
            let (head, complete) = final_head(&bytes);
            kept.push(Step::Send(head.to_vec()));
            ended = complete;
        }
    }
    kept
}

/// The part of `bytes` up to the end of the first head that is not an interim one.
fn final_head(bytes: &[u8]) -> (&[u8], bool) {
    let mut start = 0;
    while let Some(end) = bytes[start..]
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
    {
        let interim = bytes[start..].get(8..10) == Some(b" 1");
        start += end + 4;
        if !interim {
            return (&bytes[..start], true);
        }
    }
    (bytes, false)
}

/// A track that [`Published`] or [`Modern`] serves.
#[derive(Clone, Debug)]
pub struct Track {
    /// The handle, as the client's caller names it.
    pub handle: String,
    /// What the source holds.
    pub bytes: Vec<u8>,
    /// Whether the source says how long it is.
    pub length_known: bool,
    /// Where the source breaks off, when it does.
    pub ends_at: Option<usize>,
}

impl Track {
    /// A source of known length.
    pub fn new(handle: &str, bytes: &[u8]) -> Self {
        let (handle, bytes) = (handle.to_owned(), bytes.to_vec());
        Self {
            handle,
            bytes,
            length_known: true,
            ends_at: None,
        }
    }

    /// A source that does not say its length.
    pub fn of_unknown_length(handle: &str, bytes: &[u8]) -> Self {
        Self {
            length_known: false,
            ..Self::new(handle, bytes)
        }
    }

    /// A source that says its length and ends before it.
    pub fn ending_at(handle: &str, bytes: &[u8], ends_at: usize) -> Self {
        Self {
            ends_at: Some(ends_at),
            ..Self::new(handle, bytes)
        }
    }

    fn target(&self) -> String {
        let mut target = "/track/".to_owned();
        for &byte in self.handle.as_bytes() {
            if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
                target.push(char::from(byte));
            } else {
                target.push_str(&format!("%{byte:02X}"));
            }
        }
        target
    }
}

/// A server with the habits of the published one: one request per connection, GET only, no
/// validators, a `Range` that it cannot parse is ignored, 416 without `Content-Range` for a range
/// of an empty source or of one of unknown length, and an early close where a source ends early.
#[derive(Clone, Debug)]
pub struct Published {
    /// The only token it takes.
    pub token: String,
    /// What it serves.
    pub tracks: Vec<Track>,
}

impl Published {
    /// The script of this server.
    pub fn script(self) -> Script {
        Script::respond(move |request| {
            let answer = self.answer(request);
            vec![Step::Send(answer), Step::Fin]
        })
    }

    fn answer(&self, request: &Request) -> Vec<u8> {
        const CLOSE: &str = "Connection: close";
        const NONE: &str = "Content-Length: 0";
        if request.field("authorization") != Some(format!("Bearer {}", self.token)) {
            return response("HTTP/1.1 401 Unauthorized", &[NONE, CLOSE], b"");
        }
        if request.method() != "GET" {
            return response("HTTP/1.1 405 Method Not Allowed", &[NONE, CLOSE], b"");
        }
        let found = self
            .tracks
            .iter()
            .find(|track| track.target() == request.target());
        let Some(track) = found else {
            return response("HTTP/1.1 404 Not Found", &[NONE, CLOSE], b"");
        };
        let complete = track.bytes.len() as u64;
        let ends_at = track.ends_at.unwrap_or(track.bytes.len());
        let unsatisfiable = response("HTTP/1.1 416 Range Not Satisfiable", &[NONE, CLOSE], b"");
        match request.range() {
            Some(_) if !track.length_known || complete == 0 => unsatisfiable,
            Some((first, last)) if last.is_none_or(|last| first <= last) => {
                if first >= complete {
                    return unsatisfiable;
                }
                let last = last.map_or(complete - 1, |last| last.min(complete - 1));
                let fields = [
                    format!("Content-Range: bytes {first}-{last}/{complete}"),
                    format!("Content-Length: {}", last - first + 1),
                ];
                let content = slice(&track.bytes[..ends_at], first, last);
                let fields = [&fields[0], &fields[1], "Accept-Ranges: bytes", CLOSE];
                response("HTTP/1.1 206 Partial Content", &fields, content)
            }
            _ if track.length_known => {
                let length = format!("Content-Length: {complete}");
                let fields = [length.as_str(), "Accept-Ranges: bytes", CLOSE];
                response("HTTP/1.1 200 OK", &fields, &track.bytes[..ends_at])
            }
            _ => response("HTTP/1.1 200 OK", &[CLOSE], &track.bytes[..ends_at]),
        }
    }
}

/// How [`Modern`] delimits its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delimited {
    /// By `Content-Length`.
    Length,
    /// By chunked framing, in chunks of this size.
    Chunked(usize),
    /// By the end of the connection.
    Close,
}

/// A server as RFC 9110 has it: persistent connections, GET and HEAD, an entity-tag, `If-Range`,
/// 416 with the complete length.
#[derive(Clone, Debug)]
pub struct Modern {
    /// The only token it takes.
    pub token: String,
    /// What it serves.
    pub tracks: Vec<Track>,
    /// The entity-tag of every track, with its quotes.
    pub entity_tag: String,
    /// How content is delimited.
    pub delimited: Delimited,
    /// The most bytes that one 206 brings: a server may answer less than asked (RFC 9110 §15.3.7).
    pub part_max: Option<u64>,
    /// Whether `Range` is ignored, as RFC 9110 §14.2 allows.
    pub ignores_range: bool,
}

impl Modern {
    /// A server of these tracks that delimits by `Content-Length` and answers what it is asked.
    pub fn new(token: &str, tracks: Vec<Track>) -> Self {
        Self {
            token: token.to_owned(),
            tracks,
            entity_tag: "\"v1\"".to_owned(),
            delimited: Delimited::Length,
            part_max: None,
            ignores_range: false,
        }
    }

    /// The script of this server.
    pub fn script(self) -> Script {
        Script::respond(move |request| {
            let mut steps = vec![Step::Send(self.answer(request))];
            if self.delimited == Delimited::Close {
                steps.push(Step::Fin);
            }
            steps
        })
    }

    /// What it says to this request.
    pub fn answer(&self, request: &Request) -> Vec<u8> {
        if request.field("authorization") != Some(format!("Bearer {}", self.token)) {
            let fields = ["WWW-Authenticate: Bearer", "Content-Length: 0"];
            return response("HTTP/1.1 401 Unauthorized", &fields, b"");
        }
        if !matches!(request.method().as_str(), "GET" | "HEAD") {
            let fields = ["Allow: GET, HEAD", "Content-Length: 0"];
            return response("HTTP/1.1 405 Method Not Allowed", &fields, b"");
        }
        let found = self
            .tracks
            .iter()
            .find(|track| track.target() == request.target());
        let Some(track) = found else {
            return response("HTTP/1.1 404 Not Found", &["Content-Length: 0"], b"");
        };
        let complete = track.bytes.len() as u64;
        let current = request
            .field("if-range")
            .is_none_or(|tag| tag == self.entity_tag);
        let usable = request.method() == "GET" && !self.ignores_range && current && complete > 0;
        match request.range().filter(|_| usable) {
            Some((first, _)) if first >= complete => {
                let fields = [
                    &format!("Content-Range: bytes */{complete}"),
                    "Content-Length: 0",
                ];
                response("HTTP/1.1 416 Range Not Satisfiable", &fields, b"")
            }
            Some((first, last)) if last.is_none_or(|last| first <= last) => {
                let mut last = last.map_or(complete - 1, |last| last.min(complete - 1));
                if let Some(part_max) = self.part_max {
                    last = last.min(first + part_max - 1);
                }
                let range = format!("Content-Range: bytes {first}-{last}/{complete}");
                let content = slice(&track.bytes, first, last);
                self.with_content("HTTP/1.1 206 Partial Content", &[&range], content)
            }
            _ => self.with_content("HTTP/1.1 200 OK", &[], &track.bytes),
        }
    }

    fn with_content(&self, status_line: &str, fields: &[&str], content: &[u8]) -> Vec<u8> {
        let tag = format!("ETag: {}", self.entity_tag);
        let length = format!("Content-Length: {}", content.len());
        let mut fields: Vec<&str> = fields.to_vec();
        fields.extend(["Accept-Ranges: bytes", "Content-Type: audio/mpeg", &tag]);
        match self.delimited {
            Delimited::Length => {
                fields.push(&length);
                response(status_line, &fields, content)
            }
            Delimited::Chunked(size) => {
                fields.push("Transfer-Encoding: chunked");
                response(status_line, &fields, &chunked(content, size))
            }
            Delimited::Close => {
                fields.push("Connection: close");
                response(status_line, &fields, content)
            }
        }
    }
}

/// A response: the status-line, the field lines, the empty line, the content as it is.
pub fn response(status_line: &str, fields: &[&str], content: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in [status_line].iter().chain(fields) {
        bytes.extend_from_slice(line.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(content);
    bytes
}

/// The content in chunks of at most `size` bytes, and the last chunk.
pub fn chunked(content: &[u8], size: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for chunk in content.chunks(size) {
        bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        bytes.extend_from_slice(chunk);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes
}

/// A loopback address that this process has to itself, where the system takes all of 127.0.0.0/8
/// for loopback; 127.0.0.1 elsewhere.
///
/// Tests of restarted servers dial ports that they have given up, and the system may have given
/// such a port to a server here: then a stranger's request turns up among those a row counts.
pub fn own_loopback() -> Ipv4Addr {
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    let own = Ipv4Addr::new(127, high | 0x80, middle, low);
    match TcpListener::bind((own, 0)) {
        Ok(_) => own,
        Err(_) => Ipv4Addr::LOCALHOST,
    }
}

/// The bytes from `first` to `last`, as far as there are any.
fn slice(bytes: &[u8], first: u64, last: u64) -> &[u8] {
    let at = |position: u64| {
        usize::try_from(position)
            .unwrap_or(usize::MAX)
            .min(bytes.len())
    };
    &bytes[at(first)..at(last.saturating_add(1))]
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// How long a [`Gate`] is waited for.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The pause after each piece of [`Step::Split`] and [`Step::Drip`].
pub const PIECE_PAUSE: Duration = Duration::from_micros(500);
