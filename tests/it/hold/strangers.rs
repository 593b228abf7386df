//! Whoever holds the token is never kept out by who does not.

use std::{
    io::{self, BufRead, BufReader, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use cranpose_services::peer::{Limits, PeerServer};
use peer_net::stream::Stream;
use peer_tests::{
    memory::{Faults, MemoryStream, pair},
    raw::RawPeer,
};

use super::{
    CONTENT_BYTES, Gate, PATIENCE, TOKEN, alone, deserted, eventually, fetch_exact, measured,
    patterned, proc_number, request, resolver, server_threads, short_deadlines, size, skip,
};
use crate::capability::{Capability, has};

/// Silent strangers, and as many tricklers. The full size is 1000.
fn strangers() -> usize {
    size("PEER_STRANGERS", 100) as usize
}

const FETCHES: usize = 100;
const FETCH_BYTES: usize = 64 * 1024;
const TRANSFER_BYTES: usize = CONTENT_BYTES;

/// Pause between two of the strangers that connect, do harm and connect again: 200 a second.
const RECONNECT: Duration = Duration::from_millis(5);

/// What strangers send before they are recognized: the beginning of a request.
const TRICKLE: &[u8] = b"GET /track/any HTTP/1.1\r\nHost: peer.test\r\nX: ";

fn server(len: usize) -> PeerServer {
    PeerServer::builder(TOKEN, resolver(len))
        .deadlines(short_deadlines())
        .listen("127.0.0.1:0")
        .unwrap()
        .start()
        .unwrap()
}

/// Strangers from one address, all on one thread.
struct Horde {
    stop: Arc<AtomicBool>,
    connected: Arc<AtomicUsize>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Horde {
    fn of(count: usize, address: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let connected = Arc::new(AtomicUsize::new(0));
        let (stopped, grown) = (Arc::clone(&stop), Arc::clone(&connected));
        let thread = thread::spawn(move || {
            let mut silent = Vec::new();
            let mut trickling = Vec::new();
            let connect = || {
                let stream = TcpStream::connect(address).ok()?;
                stream.set_nonblocking(true).ok()?;
                Some(stream)
            };
            let mut trickled = Instant::now();
            for turn in 0.. {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                if silent.len() + trickling.len() < 2 * count {
                    // All of them first, as fast as they get in.
                    if let (Some(one), Some(other)) = (connect(), connect()) {
                        silent.push(one);
                        trickling.push(other);
                        grown.fetch_add(2, Ordering::SeqCst);
                    }
                } else {
                    // Then for ever: garbage, a wrong token, and new ones for those that were shed.
                    let Some(mut stream) = connect() else {
                        continue;
                    };
                    match turn % 4 {
                        0 => drop(stream.write_all(&[0xff; 512])),
                        1 => drop(stream.write_all(&request("any", "wrong", ""))),
                        2 => silent[turn / 4 % count] = stream,
                        _ => trickling[turn / 4 % count] = stream,
                    }
                    thread::sleep(RECONNECT);
                }
                if trickled.elapsed() >= Duration::from_secs(1) {
                    for stream in &mut trickling {
                        // Those that were shed fail.
                        let _ = stream.write(&TRICKLE[..1]);
                    }
                    trickled = Instant::now();
                }
            }
        });
        let thread = Some(thread);
        Self {
            stop,
            connected,
            thread,
        }
    }
}

impl Drop for Horde {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

/// A peer that takes a large transfer slowly, for as long as it is told, and then to its end.
struct SlowTransfer {
    hurry: Arc<AtomicBool>,
    thread: thread::JoinHandle<bool>,
}

impl SlowTransfer {
    fn start(address: SocketAddr) -> Self {
        let mut peer = RawPeer::connect(address).unwrap();
        peer.send(&request("any", TOKEN, "")).unwrap();
        let head = peer.read_head().unwrap().unwrap();
        assert_eq!(head.status, 200);
        let hurry = Arc::new(AtomicBool::new(false));
        let hurries = Arc::clone(&hurry);
        let thread = thread::spawn(move || {
            let mut at = 0;
            while at < TRANSFER_BYTES {
                let len = (TRANSFER_BYTES - at).min(32 * 1024);
                let (content, cut) = peer.read_length(len as u64).unwrap();
                if cut.is_some() || content != patterned(at as u64, len) {
                    return false;
                }
                at += len;
                if !hurries.load(Ordering::SeqCst) {
                    thread::sleep(Duration::from_millis(20));
                }
            }
            true
        });
        Self { hurry, thread }
    }

    fn finish(self) -> bool {
        self.hurry.store(true, Ordering::SeqCst);
        self.thread.join().unwrap()
    }
}

/// Watches the greatest number of threads and strangers.
struct Watch {
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<(usize, usize)>,
}

impl Watch {
    fn start(server: &Arc<PeerServer>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (server, stopped) = (Arc::clone(server), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            let mut most = (0, 0);
            while !stopped.load(Ordering::SeqCst) {
                let strangers = server.stats().strangers;
                most = (most.0.max(server_threads(&server)), most.1.max(strangers));
                thread::sleep(Duration::from_millis(10));
            }
            most
        });
        Self { stop, thread }
    }

    fn most(self) -> (usize, usize) {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().unwrap()
    }
}

/// What must hold while strangers do their worst: everything the paired do succeeds, the transfer that was
/// running when they came too.
fn paired_are_served(
    server: &Arc<PeerServer>,
    transfer: SlowTransfer,
    who: &str,
    has_come: impl FnOnce(),
) {
    let limits = Limits::default();
    let address = server.local_addr();
    let memory_before = proc_number("status", "VmHWM:");
    let watch = Watch::start(server);
    has_come();
    let mut times = Vec::new();
    for n in 0..FETCHES {
        let start = Instant::now();
        let fetched = fetch_exact(address, (n * 1_000) as u64, FETCH_BYTES);
        fetched.unwrap_or_else(|why| panic!("{who}: fetch {n}: {why}"));
        times.push(start.elapsed());
        // Time for strangers to come back between two fetches.
        thread::sleep(4 * RECONNECT);
    }
    assert!(
        transfer.finish(),
        "{who}: the running transfer was not exact"
    );
    let (threads, strangers) = watch.most();
    let threads_max = limits.strangers + limits.paired + 8;
    assert!(threads <= threads_max, "{who}: {threads} threads");
    assert!(
        strangers <= limits.strangers,
        "{who}: {strangers} strangers"
    );
    assert!(strangers > 0, "{who}: there were none");
    times.sort();
    let stats = server.stats();
    measured(&format!(
        "{who}: {FETCHES} of {FETCHES} fetches exact, median {:?}, worst {:?}; at most {threads} \
         threads and {strangers} strangers; accepted {}, evicted {}, tokens refused {}, shed {}; \
         peak memory {memory_before:?} -> {:?} KiB",
        times[FETCHES / 2],
        times[FETCHES - 1],
        stats.accepted,
        stats.evicted,
        stats.tokens_refused,
        stats.shed,
        proc_number("status", "VmHWM:"),
    ));
}

/// Strangers that stay, and send nothing or little, are gone within the deadline of a head and of
/// lingering.
fn strangers_are_gone(server: &PeerServer, who: &str) {
    let took = eventually("all strangers are gone", || server.stats().strangers == 0);
    let deadlines = short_deadlines();
    let within = deadlines.head_timeout + deadlines.linger_timeout;
    measured(&format!(
        "{who}: all strangers gone after {took:?}, deadlines {within:?}"
    ));
    // The margin is for a machine that is busy with other things.
    assert!(took < within + Duration::from_secs(5), "{who}: {took:?}");
}

#[test]
fn from_one_address() {
    if !alone("hold::strangers::from_one_address") {
        return;
    }
    let server = Arc::new(server(TRANSFER_BYTES));
    // Before them: in a rush from the peer's own address its own connection may be the one that goes, as
    // all others there may have had no turn either. `that_come_in_a_burst` has it come among them.
    let transfer = SlowTransfer::start(server.local_addr());
    let horde = Horde::of(strangers(), server.local_addr());
    paired_are_served(&server, transfer, "strangers from one address", || {
        eventually("all strangers have come", || {
            horde.connected.load(Ordering::SeqCst) >= 2 * strangers()
        });
    });
    drop(horde);
    // The last of them, who stay.
    let mut staying = Vec::new();
    for _ in 0..20 {
        let mut stream = TcpStream::connect(server.local_addr()).unwrap();
        stream.write_all(TRICKLE).unwrap();
        staying.push(stream);
    }
    eventually("they are in", || server.stats().strangers >= 20);
    strangers_are_gone(&server, "strangers from one address");
    deserted(&server);
}

/// Connects from 127.1.x.y, since std cannot choose the address it connects from. Says `ready`
/// when all have come, lets each do its worst until its input ends, and then leaves them be until
/// it ends again.
const PYTHON: &str = r"
import resource, select, socket, sys, time
port, count = int(sys.argv[1]), int(sys.argv[2])
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
def connect(n):
    s = socket.socket()
    s.bind(('127.1.%d.%d' % (n // 250 % 250, n % 250 + 1), 0))
    s.connect(('127.0.0.1', port))
    s.setblocking(False)
    return s
def send(s, data):
    try: s.send(data)
    except OSError: pass
silent = [connect(n) for n in range(count)]
trickling = [connect(count + n) for n in range(count)]
print('ready', flush=True)
turn, trickled = 0, time.monotonic()
while not select.select([sys.stdin], [], [], 0.005)[0]:
    s = connect(turn)
    kind, at = turn % 4, turn // 4 % count
    if kind == 0: send(s, b'\xff' * 512)
    elif kind == 1: send(s, b'GET /track/any HTTP/1.1\r\nHost: p\r\nAuthorization: Bearer no\r\n\r\n')
    elif kind == 2: silent[at] = s
    else: trickling[at] = s
    turn += 1
    if time.monotonic() - trickled >= 1:
        for s in trickling: send(s, b'G')
        trickled = time.monotonic()
sys.stdin.readline()
print('left', flush=True)
sys.stdin.readline()
";

/// The strangers from many addresses: a process of its own.
struct Strangers {
    child: Child,
    said: BufReader<std::process::ChildStdout>,
}

impl Strangers {
    fn start(server: &PeerServer) -> io::Result<Self> {
        let mut child = Command::new("python3")
            .args(["-c", PYTHON])
            .args([server.port().to_string(), strangers().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let said = BufReader::new(child.stdout.take().unwrap());
        Ok(Self { child, said })
    }

    fn hears(&mut self, word: &str) {
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        assert_eq!(line.trim(), word);
    }

    fn tell(&mut self) {
        self.child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    }
}

impl Drop for Strangers {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn from_many_addresses() {
    if !has(&[Capability::LoopbackNetwork]) {
        return;
    }
    if !alone("hold::strangers::from_many_addresses") {
        return;
    }
    let server = Arc::new(server(TRANSFER_BYTES));
    let mut strangers = match Strangers::start(&server) {
        Ok(strangers) => strangers,
        Err(error) => return skip(&format!("python3 cannot be run: {error}")),
    };
    let transfer = SlowTransfer::start(server.local_addr());
    paired_are_served(&server, transfer, "strangers from many addresses", || {
        strangers.hears("ready");
    });
    strangers.tell();
    strangers.hears("left");
    strangers_are_gone(&server, "strangers from many addresses");
    deserted(&server);
}

/// The same decisions where no operating system has a say: streams in memory, each from an address
/// of its own.
#[test]
fn from_many_addresses_in_memory() {
    let server = Arc::new(
        PeerServer::builder(TOKEN, resolver(1 << 20))
            .deadlines(short_deadlines())
            .start()
            .unwrap(),
    );
    let limits = Limits::default();
    let serve = |stream: Arc<dyn Stream>, address: IpAddr| {
        let server = Arc::clone(&server);
        thread::spawn(move || server.serve_stream(stream, address))
    };
    let mut strangers = Vec::new();
    let mut threads = Vec::new();
    for n in 0..200_u32 {
        let (ours, theirs) = pair(4096, &Faults::none());
        if n % 2 == 0 {
            theirs.write_all(TRICKLE).unwrap();
        }
        let address = Ipv4Addr::from_bits(0x0a00_0000 + n);
        threads.push(serve(Arc::new(ours), address.into()));
        strangers.push(theirs);
        assert!(server.stats().strangers <= limits.strangers);
        if n % 4 == 0 {
            let (ours, theirs) = pair(4096, &Faults::none());
            theirs.set_read_timeout(Some(PATIENCE)).unwrap();
            let more = "Range: bytes=7-1006\r\nConnection: close\r\n";
            theirs.write_all(&request("any", TOKEN, more)).unwrap();
            let serving = serve(Arc::new(ours), Ipv4Addr::new(192, 0, 2, 7).into());
            let answer = theirs.read_to_end().unwrap();
            assert!(answer.ends_with(patterned(7, 1_000)), "after {n} strangers");
            serving.join().unwrap();
        }
    }
    let stats = server.stats();
    assert_eq!(stats.transfers_complete, 50);
    for thread in threads {
        thread.join().unwrap();
    }
    deserted(&server);
    drop(strangers);
}

/// A stranger is a stranger however busy it is: who asks and asks without the token has the same
/// deadline as who is silent.
#[test]
fn that_never_pause() {
    let server = server(1_000);
    let asks = b"GET /track/any HTTP/1.1\r\nHost: peer.test\r\n\r\n".repeat(20);
    let mut stream = TcpStream::connect(server.local_addr()).unwrap();
    let answers = stream.try_clone().unwrap();
    let reads = thread::spawn(move || {
        let mut block = [0; 64 * 1024];
        while Stream::read(&answers, &mut block).is_ok_and(|n| n > 0) {}
    });
    let start = Instant::now();
    while stream.write_all(&asks).is_ok() {
        assert!(
            start.elapsed() < PATIENCE,
            "asked for {:?}",
            start.elapsed()
        );
    }
    reads.join().unwrap();
    deserted(&server);
}

/// A stranger that asks without reading the answers holds its place no longer than one that reads.
#[test]
fn that_do_not_read() {
    let server = PeerServer::builder(TOKEN, resolver(1_000))
        .deadlines(cranpose_services::peer::ServerConfig {
            stall_timeout: Duration::from_secs(600),
            ..short_deadlines()
        })
        .start()
        .unwrap();
    let (ours, theirs) = pair(1_000, &Faults::none());
    let server = Arc::new(server);
    let at = Arc::clone(&server);
    let serving =
        thread::spawn(move || at.serve_stream(Arc::new(ours), Ipv4Addr::LOCALHOST.into()));
    let asks = b"GET /track/any HTTP/1.1\r\nHost: peer.test\r\n\r\n".repeat(400);
    theirs.set_write_timeout(Some(PATIENCE)).unwrap();
    // Ends when the server has hung up.
    let ended = theirs.write_all(&asks).unwrap_err();
    assert_eq!(ended.kind(), io::ErrorKind::BrokenPipe, "still there");
    serving.join().unwrap();
    deserted(&server);
}

/// A stream whose thread has its turn when the test says so, and that says when it was read from.
struct Gated {
    stream: MemoryStream,
    turn: Option<Arc<Gate>>,
    read: Option<Arc<Gate>>,
}

impl Stream for Gated {
    fn read(&self, buf: &mut [u8]) -> io::Result<usize> {
        if let Some(read) = &self.read {
            read.open();
        }
        self.stream.read(buf)
    }

    fn write(&self, buf: &[u8]) -> io::Result<usize> {
        self.stream.write(buf)
    }

    /// What the driver does before it reads.
    fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        if let Some(turn) = &self.turn {
            turn.wait();
        }
        self.stream.set_read_timeout(timeout)
    }

    fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.stream.set_write_timeout(timeout)
    }

    fn shutdown_write(&self) -> io::Result<()> {
        self.stream.shutdown_write()
    }

    fn hang_up(&self) {
        self.stream.hang_up();
    }
}

/// A burst does not push out the peer whose head is there, and waits for its thread's turn.
#[test]
fn that_come_in_a_burst() {
    let server = PeerServer::builder(TOKEN, resolver(1 << 20))
        .deadlines(short_deadlines())
        .start()
        .unwrap();
    let server = Arc::new(server);
    let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let serve = |stream: Arc<dyn Stream>| {
        let server = Arc::clone(&server);
        thread::spawn(move || server.serve_stream(stream, address))
    };
    let gate = Arc::new(Gate::default());
    let (ours, theirs) = pair(4096, &Faults::none());
    let more = "Range: bytes=0-999\r\nConnection: close\r\n";
    theirs.write_all(&request("any", TOKEN, more)).unwrap();
    theirs.set_read_timeout(Some(PATIENCE)).unwrap();
    let late = Gated {
        stream: ours,
        turn: Some(Arc::clone(&gate)),
        read: None,
    };
    let mut threads = vec![serve(Arc::new(late))];
    eventually("the peer is in", || server.stats().strangers == 1);
    let mut strangers = Vec::new();
    for n in 0..100 {
        let (ours, stranger) = pair(4096, &Faults::none());
        threads.push(serve(Arc::new(ours)));
        strangers.push(stranger);
        eventually("the next is in", || server.stats().accepted == n + 2);
    }
    assert!(server.stats().evicted > 50);
    gate.open();
    let answer = theirs.read_to_end().unwrap();
    assert!(answer.ends_with(patterned(0, 1_000)), "pushed out");
    drop(strangers);
    for thread in threads {
        thread.join().unwrap();
    }
    deserted(&server);
}

/// Strangers who keep the server busy do not outlast a peer whose head is still on its way: it is
/// silent for these milliseconds, and they never are.
#[test]
fn that_are_never_silent() {
    // Few enough that all of this is over before an answer that nobody takes is given up, in a second.
    let limits = Limits {
        strangers_per_address: 8,
        ..Limits::default()
    };
    let server = PeerServer::builder(TOKEN, resolver(1 << 20))
        .deadlines(short_deadlines())
        .limits(limits)
        .start()
        .unwrap();
    let server = Arc::new(server);
    let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let serve = |stream: Arc<dyn Stream>| {
        let server = Arc::clone(&server);
        thread::spawn(move || server.serve_stream(stream, address))
    };
    let mut threads = Vec::new();
    let mut strangers = Vec::new();
    // Each has asked with a wrong token, and does not take the answer.
    let room = limits.strangers_per_address - 1;
    for _ in 0..room {
        let (ours, theirs) = pair(200, &Faults::none());
        threads.push(serve(Arc::new(ours)));
        theirs.write_all(&request("any", "wrong", "")).unwrap();
        strangers.push(theirs);
    }
    eventually("all have asked", || {
        server.stats().tokens_refused == room as u64
    });
    let read = Arc::new(Gate::default());
    let (ours, theirs) = pair(4096, &Faults::none());
    theirs.set_read_timeout(Some(PATIENCE)).unwrap();
    let telling = Gated {
        stream: ours,
        turn: None,
        read: Some(Arc::clone(&read)),
    };
    threads.push(serve(Arc::new(telling)));
    read.wait();
    for n in 1..=5 {
        let (ours, stranger) = pair(4096, &Faults::none());
        threads.push(serve(Arc::new(ours)));
        strangers.push(stranger);
        eventually("the next is in", || server.stats().evicted >= n);
    }
    let more = "Range: bytes=0-999\r\nConnection: close\r\n";
    theirs
        .write_all(&request("any", TOKEN, more))
        .expect("it had to give way");
    assert!(theirs.read_to_end().unwrap().ends_with(patterned(0, 1_000)));
    drop(strangers);
    for thread in threads {
        thread.join().unwrap();
    }
    deserted(&server);
}
