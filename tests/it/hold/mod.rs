//! The server against whoever means ill, and against its own misfortunes: strangers in masses,
//! calls that fail, descriptors and threads that run out, tokens that are taken back, listeners
//! that come and go.
//!
//! What counts threads, descriptors or memory runs alone, in a process of its own: this binary
//! again, with the name of one test. Sizes are small by default; `PEER_STRANGERS`, `PEER_RESTARTS`
//! and `PEER_SOAK_SECONDS` set them.

mod events;
mod exhaustion;
mod faults;
mod lifecycle;
mod listeners;
mod memory;
mod pace;
#[cfg(target_os = "linux")]
mod sigpipe;
mod soak;
mod strangers;
mod tokens;

use std::{
    io::{self, Read as _, Seek as _},
    net::SocketAddr,
    process::{Command, Stdio},
    sync::{
        Arc, Condvar, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use cranpose_services::peer::{
    ByteSource, EntityTag, PeerServer, ServerConfig, ServerEvent, SourceResolver, TransferEnd,
};
use peer_tests::raw::{RawPeer, Response};

use crate::capability::{Capability, has, tell, this_program};

const TOKEN: &str = "hold-token";

/// Longer than anything here takes on a busy machine, shorter than a hang is worth waiting for.
const PATIENCE: Duration = Duration::from_secs(30);

/// Deadlines that a test can wait for.
fn short_deadlines() -> ServerConfig {
    ServerConfig {
        head_timeout: Duration::from_secs(2),
        idle_timeout: Duration::from_secs(10),
        stall_timeout: Duration::from_secs(10),
        linger_timeout: Duration::from_millis(500),
    }
}

/// The byte of every source here at `offset`.
fn pattern(offset: u64) -> u8 {
    (offset.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8
}

/// The longest source here: more than the buffers of a connection hold.
const CONTENT_BYTES: usize = 16 << 20;

fn content() -> &'static [u8] {
    static CONTENT: OnceLock<Vec<u8>> = OnceLock::new();
    CONTENT.get_or_init(|| (0..CONTENT_BYTES as u64).map(pattern).collect())
}

fn patterned(offset: u64, len: usize) -> &'static [u8] {
    &content()[offset as usize..][..len]
}

/// A source in memory that is made once, and given out for every handle.
struct Patterned(&'static [u8]);

impl ByteSource for Patterned {
    fn len(&self) -> Option<u64> {
        Some(self.0.len() as u64)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let rest = self.0.get(offset as usize..).unwrap_or_default();
        let len = rest.len().min(buf.len());
        buf[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    fn entity_tag(&self) -> Option<EntityTag> {
        EntityTag::strong("pattern").ok()
    }
}

/// Gives the same `len` bytes for every handle.
fn resolver(len: usize) -> SourceResolver {
    let source: Arc<dyn ByteSource> = Arc::new(Patterned(patterned(0, len)));
    Arc::new(move |_| Some(Arc::clone(&source)))
}

/// A GET as bytes. `more` are whole field lines.
fn request(handle: &str, token: &str, more: &str) -> Vec<u8> {
    format!(
        "GET /track/{handle} HTTP/1.1\r\nHost: peer.test\r\nAuthorization: Bearer {token}\r\n\
         {more}\r\n"
    )
    .into_bytes()
}

/// One GET on a connection of its own.
fn get(address: SocketAddr, token: &str, handle: &str, more: &str) -> Result<Response, String> {
    let mut peer = RawPeer::connect(address).map_err(|error| format!("connect: {error}"))?;
    let more = format!("Connection: close\r\n{more}");
    peer.send(&request(handle, token, &more))
        .map_err(|error| format!("send: {error}"))?;
    match peer.read_response(false) {
        Ok(Some(response)) => Ok(response),
        Ok(None) => Err("closed without an answer".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Fetches a range on a connection of its own, and compares every byte.
fn fetch_exact(address: SocketAddr, offset: u64, len: usize) -> Result<(), String> {
    let range = format!("Range: bytes={offset}-{}\r\n", offset + len as u64 - 1);
    let response = get(address, TOKEN, "any", &range)?;
    if response.status() != 206 || response.cut.is_some() {
        return Err(format!("{} {:?}", response.status(), response.cut));
    }
    if response.content == patterned(offset, len) {
        Ok(())
    } else {
        Err("other bytes".to_owned())
    }
}

/// Waits until `done`. Returns how long it took.
fn eventually(what: &str, mut done: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "never: {what}");
        thread::sleep(Duration::from_millis(2));
    }
    start.elapsed()
}

/// Waits until nobody is connected and nothing runs.
fn deserted(server: &PeerServer) {
    eventually("nobody is connected", || {
        let stats = server.stats();
        stats.strangers + stats.idle + stats.busy == 0 && stats.transfers_running == 0
    });
}

/// A number from the environment, for the sizes of the big runs.
fn size(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

/// A gate that is closed until it is opened.
#[derive(Default)]
struct Gate(Mutex<bool>, Condvar);

impl Gate {
    fn open(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.1.notify_all();
    }

    fn wait(&self) {
        let open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (open, _) = self
            .1
            .wait_timeout_while(open, PATIENCE, |open| !*open)
            .unwrap_or_else(PoisonError::into_inner);
        assert!(*open, "nobody opened the gate");
    }
}

// --------------------------------------------------------------------------- what the hook heard

/// Transfers by what the event hook said of them.
#[derive(Default)]
struct Ledger {
    /// `(id, sent as last heard, how it ended)`.
    transfers: Mutex<Vec<(u64, u64, Option<TransferEnd>)>>,
    refused: AtomicU64,
    faults: Mutex<Vec<String>>,
}

impl Ledger {
    fn hear(&self, event: &ServerEvent<'_>) {
        let mut transfers = self
            .transfers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let fault = |text: String| {
            let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
            faults.push(text);
        };
        match event {
            ServerEvent::TransferStarted(transfer) => {
                if transfers.iter().any(|row| row.0 == transfer.id) {
                    fault(format!("{} started twice", transfer.id));
                }
                transfers.push((transfer.id, 0, None));
            }
            ServerEvent::TransferProgressed { transfer, sent } => {
                match transfers.iter_mut().find(|row| row.0 == transfer.id) {
                    Some(row) if row.2.is_none() && *sent > row.1 => row.1 = *sent,
                    row => fault(format!("progress to {sent} of {row:?}")),
                }
            }
            ServerEvent::TransferEnded {
                transfer,
                sent,
                end,
            } => match transfers.iter_mut().find(|row| row.0 == transfer.id) {
                Some(row) if row.2.is_none() && *sent >= row.1 => {
                    (row.1, row.2) = (*sent, Some(*end));
                }
                row => fault(format!("end {end:?} at {sent} of {row:?}")),
            },
            ServerEvent::TokenRefused { .. } => {
                self.refused.fetch_add(1, Ordering::SeqCst);
            }
            _ => {}
        }
    }

    /// How the transfers ended, in the order of their start, with what was sent of each.
    fn ends(&self) -> Vec<(TransferEnd, u64)> {
        let faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(faults.is_empty(), "{faults:?}");
        let transfers = self
            .transfers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let end = |row: &(u64, u64, Option<TransferEnd>)| {
            (row.2.unwrap_or_else(|| panic!("{row:?} has no end")), row.1)
        };
        transfers.iter().map(end).collect()
    }
}

// ------------------------------------------------------------------------------- processes alone

/// Set in a process that runs one test alone.
const ALONE: &str = "PEER_HOLD_ALONE";

/// Runs the rest of a test in a process of its own. `true`: this is that process.
///
/// `name` is the test's, without the crate; `wrap` may change the command, to run it under a limit
/// say.
fn alone_with(name: &str, wrap: impl FnOnce(&mut Command) -> Option<Command>) -> bool {
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    if !has(&[Capability::OwnPrograms]) {
        return false;
    }
    let mut own = this_program();
    own.args(["--exact", name, "--nocapture", "--test-threads=1"]);
    let Some(mut command) = wrap(&mut own) else {
        return false;
    };
    command.env(ALONE, "1").stdin(Stdio::null());
    let output = command.output().unwrap();
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(
        output.status.success(),
        "{name}: {}\n{out}\n{err}",
        output.status
    );
    assert!(out.contains("1 passed"), "{name}: no such test\n{out}");
    for line in err.lines().filter(|line| is_news(line)) {
        tell(line);
    }
    false
}

fn alone(name: &str) -> bool {
    alone_with(name, |own| Some(std::mem::replace(own, Command::new(""))))
}

/// Runs `own` under a limit of the shell's.
fn limited(own: &Command, limit: &str) -> Option<Command> {
    if !has(&[Capability::DescriptorLimit]) {
        return None;
    }
    let mut shell = Command::new("sh");
    shell
        .args(["-c", &format!("{limit} && exec \"$0\" \"$@\"")])
        .arg(own.get_program())
        .args(own.get_args());
    Some(shell)
}

fn is_news(line: &str) -> bool {
    line.starts_with("MEASURED") || line.starts_with("SKIPPED")
}

fn skip(why: &str) {
    tell(&format!("SKIPPED: {why}"));
}

fn measured(what: &str) {
    tell(&format!("MEASURED: {what}"));
}

/// Where the system tells of this process, if it does.
fn own_numbers() -> Option<&'static str> {
    Capability::OwnNumbers.is_here().then_some("/proc/self")
}

/// The number behind `key` in a file of `/proc/self`, where there is one.
fn proc_number(file: &str, key: &str) -> Option<u64> {
    let text = std::fs::read_to_string(format!("{}/{file}", own_numbers()?)).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Threads of servers in this process. Elsewhere than on Linux, what the server says.
fn server_threads(server: &PeerServer) -> usize {
    named_threads().unwrap_or_else(|| server.stats().threads)
}

/// Threads that carry the name of a server's, where they can be counted.
fn named_threads() -> Option<usize> {
    let tasks = std::fs::read_dir(format!("{}/task", own_numbers()?)).ok()?;
    let is_ours = |task: io::Result<std::fs::DirEntry>| {
        let name = std::fs::read_to_string(task.ok()?.path().join("comm")).ok()?;
        (name.trim() == "peer-server").then_some(())
    };
    Some(tasks.filter_map(is_ours).count())
}

/// Open descriptors of this process, where they can be counted.
fn descriptors() -> Option<usize> {
    Some(
        std::fs::read_dir(format!("{}/fd", own_numbers()?))
            .ok()?
            .count(),
    )
}

/// Processor time of this process, where it can be read. Opened early: reading it takes no
/// descriptor then.
struct ProcessorTime(std::fs::File);

impl ProcessorTime {
    fn open() -> Option<Self> {
        let stat = format!("{}/stat", own_numbers()?);
        std::fs::File::open(stat).ok().map(Self)
    }

    fn so_far(&mut self) -> Duration {
        let mut stat = String::new();
        self.0.seek(io::SeekFrom::Start(0)).unwrap();
        self.0.read_to_string(&mut stat).unwrap();
        // The second field is a name in parentheses, which may hold anything.
        let fields: Vec<&str> = stat
            .rsplit_once(')')
            .unwrap()
            .1
            .split_whitespace()
            .collect();
        let ticks = |field: usize| fields[field].parse::<u64>().unwrap();
        Duration::from_millis((ticks(11) + ticks(12)) * 10)
    }

    /// The part of the next two seconds that this process keeps a processor busy.
    fn load(&mut self) -> f64 {
        let time = Duration::from_secs(2);
        let before = self.so_far();
        thread::sleep(time);
        (self.so_far() - before).as_secs_f64() / time.as_secs_f64()
    }
}

// ------------------------------------------------------------------------------------- the log

/// Keeps every line that is logged. For processes that run one test alone.
struct Log(Mutex<Vec<(log::Level, String)>>);

static LOG: Log = Log(Mutex::new(Vec::new()));

impl Log {
    fn install() -> &'static Self {
        log::set_logger(&LOG).unwrap();
        log::set_max_level(log::LevelFilter::Trace);
        &LOG
    }

    fn lines(&self) -> Vec<(log::Level, String)> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn count(&self, level: log::Level) -> usize {
        self.lines().iter().filter(|line| line.0 == level).count()
    }
}

impl log::Log for Log {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let line = (record.level(), record.args().to_string());
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(line);
    }

    fn flush(&self) {}
}
