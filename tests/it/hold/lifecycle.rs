//! Stop, start again, move: no thread is left behind, and no port stays taken.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    process::Stdio,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use cranpose_services::peer::{ByteSource, Limits, PeerServer, TransferEnd};
use peer_tests::raw::{End, RawPeer};

use super::{
    ALONE, CONTENT_BYTES, Gate, Ledger, PATIENCE, TOKEN, alone, alone_with, descriptors, deserted,
    eventually, fetch_exact, get, limited, measured, named_threads, patterned, request, resolver,
    short_deadlines, size,
};
use crate::capability::{Capability, has, this_program};

/// Where all of 127/8 is loopback, an address of one's own is a range of ports of one's own.
fn own_address() -> SocketAddr {
    let ip = if Capability::LoopbackNetwork.is_here() {
        Ipv4Addr::new(127, 83, 7, 1)
    } else {
        Ipv4Addr::LOCALHOST
    };
    (ip, 0).into()
}

fn start(address: SocketAddr) -> PeerServer {
    PeerServer::builder(TOKEN, resolver(CONTENT_BYTES))
        .deadlines(short_deadlines())
        .listen(address)
        .unwrap()
        .start()
        .unwrap()
}

/// A peer in the middle of a transfer: the head is read, the rest is on its way.
fn midway(address: SocketAddr) -> RawPeer {
    let mut peer = RawPeer::connect(address).unwrap();
    peer.send(&request("any", TOKEN, "")).unwrap();
    assert_eq!(peer.read_head().unwrap().unwrap().status, 200);
    peer
}

#[test]
fn stop_and_start_on_one_port() {
    if !alone("hold::lifecycle::stop_and_start_on_one_port") {
        return;
    }
    let times = size("PEER_RESTARTS", 100);
    let first = start(own_address());
    let address = first.local_addr();
    drop(first);
    let descriptors_before = descriptors();
    let began = Instant::now();
    for n in 0..times {
        let server = start(address);
        assert_eq!(server.local_addr(), address, "start {n}");
        fetch_exact(address, n, 1_000).unwrap_or_else(|why| panic!("start {n}: {why}"));
        // By turns with nobody there, an idle connection, a stranger, a running transfer.
        let idle = match n % 4 {
            0 => None,
            1 => {
                let mut peer = RawPeer::connect(address).unwrap();
                peer.send(&request("any", TOKEN, "Range: bytes=0-9\r\n"))
                    .unwrap();
                assert_eq!(peer.read_response(false).unwrap().unwrap().status(), 206);
                Some(peer)
            }
            2 => Some(RawPeer::connect(address).unwrap()),
            _ => Some(midway(address)),
        };
        if n % 2 == 0 {
            drop(server);
        } else {
            assert!(
                server.shutdown(Duration::ZERO).all_threads_ended,
                "stop {n}"
            );
        }
        // The system counts a thread for a moment longer than it runs.
        eventually("its threads are gone", || named_threads().unwrap_or(0) == 0);
        assert!(
            TcpStream::connect(address).is_err(),
            "stop {n} left a listener"
        );
        drop(idle);
    }
    measured(&format!(
        "{times} stops and starts on one port took {:?}",
        began.elapsed()
    ));
    assert_eq!(descriptors(), descriptors_before);
}

#[test]
fn rebind_keeps_what_runs() {
    let server = start(own_address());
    let address = server.local_addr();
    let mut running = midway(address);
    for n in 0..20 {
        // The same port again, and any other.
        let same = n % 2 == 0;
        let wanted = if same {
            server.status()[0].address
        } else {
            own_address()
        };
        let bound = server.rebind(wanted).unwrap();
        assert!(!same || bound == wanted);
        let status = server.status();
        assert_eq!(status.len(), 1);
        assert!(status[0].listening && status[0].address == bound);
        fetch_exact(bound, n, 5_000).unwrap();
        let (content, cut) = running.read_length(100_000).unwrap();
        assert_eq!(cut, None, "rebind {n}");
        assert!(content == patterned(n * 100_000, 100_000), "rebind {n}");
    }
    let read = 20 * 100_000;
    let (rest, cut) = running.read_length((CONTENT_BYTES - read) as u64).unwrap();
    assert!(cut.is_none() && rest == patterned(read as u64, CONTENT_BYTES - read));
    // An address that cannot be had leaves it without a listener, and able to go on.
    assert!(server.rebind("192.0.2.1:1").is_err());
    assert!(server.status().is_empty());
    let bound = server.rebind(own_address()).unwrap();
    fetch_exact(bound, 0, 1_000).unwrap();
    assert!(server.shutdown(PATIENCE).all_threads_ended);
}

#[test]
fn shutdown_lets_transfers_finish_within_the_grace() {
    let server = start(own_address());
    let address = server.local_addr();
    let mut running = midway(address);
    let mut idle = RawPeer::connect(address).unwrap();
    idle.send(&request("any", TOKEN, "Range: bytes=0-9\r\n"))
        .unwrap();
    idle.read_response(false).unwrap().unwrap();
    eventually("it is idle", || server.stats().idle == 1);
    let mut stranger = RawPeer::connect(address).unwrap();
    eventually("the stranger is in", || server.stats().strangers == 1);
    let stopping = thread::spawn(move || server.shutdown(PATIENCE));
    // Whoever waits is let go at once, while the transfer still runs.
    assert!(matches!(idle.read_response(false), Ok(None)));
    let began = Instant::now();
    assert!(matches!(stranger.read_head(), Ok(None)));
    assert!(began.elapsed() < short_deadlines().head_timeout);
    assert!(!stopping.is_finished());
    assert!(TcpStream::connect(address).is_err(), "still accepting");
    let (content, cut) = running.read_length(CONTENT_BYTES as u64).unwrap();
    assert!(cut.is_none() && content == patterned(0, CONTENT_BYTES));
    let shutdown = stopping.join().unwrap();
    assert_eq!((shutdown.cut, shutdown.all_threads_ended), (0, true));
}

#[test]
fn shutdown_cuts_what_does_not_finish() {
    let server = start(own_address());
    let mut running = midway(server.local_addr());
    let shutdown = server.shutdown(Duration::from_millis(50));
    assert_eq!((shutdown.cut, shutdown.all_threads_ended), (1, true));
    let (content, cut) = running.read_length(CONTENT_BYTES as u64).unwrap();
    assert!(cut.is_some(), "a part that looks whole");
    assert!(content == patterned(0, content.len()));
}

/// Only transfers count as cut; who merely waited was let go, and lost nothing.
#[test]
fn shutdown_counts_what_it_cut() {
    let server = start(own_address());
    let address = server.local_addr();
    let mut idle = Vec::new();
    for _ in 0..30 {
        let mut peer = RawPeer::connect(address).unwrap();
        peer.send(&request("any", TOKEN, "Range: bytes=0-9\r\n"))
            .unwrap();
        peer.read_response(false).unwrap().unwrap();
        idle.push(peer);
    }
    eventually("all are idle", || server.stats().idle == 30);
    let shutdown = server.shutdown(Duration::ZERO);
    assert_eq!((shutdown.cut, shutdown.all_threads_ended), (0, true));
}

#[test]
fn a_hundred_transfers_stop_at_once() {
    if !alone("hold::lifecycle::a_hundred_transfers_stop_at_once") {
        return;
    }
    let ledger = Arc::new(Ledger::default());
    let hook = Arc::clone(&ledger);
    let server = PeerServer::builder(TOKEN, resolver(CONTENT_BYTES))
        .limits(Limits::default())
        .on_event(move |event| hook.hear(event))
        .listen(own_address())
        .unwrap()
        .start()
        .unwrap();
    let address = server.local_addr();
    let peers: Vec<RawPeer> = (0..100).map(|_| midway(address)).collect();
    eventually("all run", || server.stats().transfers_running == 100);
    let began = Instant::now();
    let shutdown = server.shutdown(Duration::ZERO);
    let took = began.elapsed();
    measured(&format!("100 live transfers stopped in {took:?}"));
    assert_eq!((shutdown.cut, shutdown.all_threads_ended), (100, true));
    assert!(took < Duration::from_millis(900), "{took:?}");
    eventually("its threads are gone", || named_threads().unwrap_or(0) == 0);
    let ends = ledger.ends();
    assert_eq!(ends.len(), 100);
    assert!(ends.iter().all(|row| row.0 == TransferEnd::Cut), "{ends:?}");
    drop(peers);
}

#[test]
fn dropped_by_its_own_resolver() {
    let slot: Arc<Mutex<Option<PeerServer>>> = Arc::default();
    let own = Arc::clone(&slot);
    let dropped = Arc::new(Gate::default());
    let says = Arc::clone(&dropped);
    let took = Arc::new(OnceLock::new());
    let tells = Arc::clone(&took);
    let server = PeerServer::start(
        own_address(),
        TOKEN,
        Arc::new(move |_| {
            let server = own.lock().unwrap_or_else(PoisonError::into_inner).take();
            let began = Instant::now();
            drop(server);
            let _ = tells.set(began.elapsed());
            says.open();
            None
        }),
    )
    .unwrap();
    let address = server.local_addr();
    *slot.lock().unwrap() = Some(server);
    // Whether it is answered is open; that it ends is not.
    let _ = get(address, TOKEN, "any", "");
    dropped.wait();
    let took = took.get().unwrap();
    assert!(
        *took < Duration::from_millis(900),
        "it waited for itself: {took:?}"
    );
    assert!(TcpStream::connect(address).is_err());
}

/// A source that holds its reader until it is told to go on.
struct Blocks {
    entered: Arc<AtomicBool>,
    gate: Arc<Gate>,
}

impl ByteSource for Blocks {
    fn len(&self) -> Option<u64> {
        Some(1_000)
    }

    fn read_at(&self, _: u64, buf: &mut [u8]) -> std::io::Result<usize> {
        self.entered.store(true, Ordering::SeqCst);
        self.gate.wait();
        Ok(buf.len())
    }
}

/// A source that blocks cannot be interrupted: shutdown says so, and does not wait for ever.
#[test]
fn shutdown_does_not_wait_for_the_app() {
    let (entered, gate) = (Arc::new(AtomicBool::new(false)), Arc::new(Gate::default()));
    let (enters, waits) = (Arc::clone(&entered), Arc::clone(&gate));
    let server = PeerServer::start(
        own_address(),
        TOKEN,
        Arc::new(move |_| {
            let (entered, gate) = (Arc::clone(&enters), Arc::clone(&waits));
            Some(Arc::new(Blocks { entered, gate }))
        }),
    )
    .unwrap();
    let mut peer = RawPeer::connect(server.local_addr()).unwrap();
    peer.send(&request("any", TOKEN, "")).unwrap();
    eventually("the source is read", || entered.load(Ordering::SeqCst));
    let shutdown = server.shutdown(Duration::ZERO);
    assert_eq!((shutdown.cut, shutdown.all_threads_ended), (1, false));
    gate.open();
}

/// Stopping takes no descriptor, or has kept one: there may be none left.
#[test]
fn stop_without_descriptors() {
    let name = "hold::lifecycle::stop_without_descriptors";
    if !alone_with(name, |own| limited(own, "ulimit -n 64")) {
        return;
    }
    let server = start(own_address());
    fetch_exact(server.local_addr(), 0, 1_000).unwrap();
    deserted(&server);
    let mut files = Vec::new();
    while let Ok(file) = std::fs::File::open("/dev/null") {
        files.push(file);
        assert!(files.len() < 1_000, "there is no limit");
    }
    assert!(server.shutdown(Duration::ZERO).all_threads_ended);
}

#[test]
fn streams_end_with_the_server_that_serves_them() {
    let server = start(own_address());
    deserted(&server);
    let mut peers: Vec<RawPeer> = (0..20)
        .map(|_| RawPeer::connect(server.local_addr()).unwrap())
        .collect();
    eventually("all are in", || server.stats().strangers == 20);
    drop(server);
    for peer in &mut peers {
        assert!(matches!(peer.read_head(), Ok(None)));
    }
}

/// Two ends of one connection, and a share of the first.
fn shared() -> (TcpStream, TcpStream, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let theirs = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (ours, _) = listener.accept().unwrap();
    let share = ours.try_clone().unwrap();
    for end in [&theirs, &share] {
        end.set_read_timeout(Some(PATIENCE)).unwrap();
    }
    (ours, share, theirs)
}

/// An app that keeps a share of the connection it handed over does not keep it open.
#[test]
fn whoever_keeps_a_share_keeps_no_connection() {
    let here = Ipv4Addr::LOCALHOST.into();
    let server = start(own_address());
    let (ours, share, mut theirs) = shared();
    // Refused, and then waited for to hang up.
    theirs.write_all(b"nonsense\r\n\r\n").unwrap();
    server.serve_stream(Arc::new(ours), here);
    let mut answer = Vec::new();
    theirs.read_to_end(&mut answer).unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 400 "), "{answer:?}");
    // The peer has not ended its half: the share reads an end only if this one was ended.
    assert_eq!((&share).read(&mut [0]).unwrap(), 0);

    let nobody = Limits {
        strangers: 0,
        ..Limits::default()
    };
    let server = PeerServer::builder(TOKEN, resolver(CONTENT_BYTES))
        .limits(nobody)
        .start()
        .unwrap();
    let (ours, share, mut theirs) = shared();
    server.serve_stream(Arc::new(ours), here);
    assert_eq!(theirs.read(&mut [0]).unwrap(), 0);
    assert_eq!((&share).read(&mut [0]).unwrap(), 0);
    assert_eq!(server.stats().shed, 1);
}

/// On Windows a program may inherit whatever connections are there when it is started, and a connection
/// that is closed is not at its end while a program has it. A media player that an app starts would
/// keep every peer waiting whose answer ends with its connection.
#[test]
fn a_program_started_meanwhile_holds_up_no_end() {
    let name = "hold::lifecycle::a_program_started_meanwhile_holds_up_no_end";
    if std::env::var_os(ALONE).is_some() {
        println!("\nHERE");
        // It stays until it is let go.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        return;
    }
    if !has(&[Capability::OwnPrograms]) {
        return;
    }
    let server = start(own_address());
    let mut peer = RawPeer::connect(server.local_addr()).unwrap();
    peer.send(&request("any", TOKEN, "Connection: close\r\n"))
        .unwrap();
    assert_eq!(peer.read_head().unwrap().unwrap().status, 200);
    let mut own = this_program();
    own.args(["--exact", name, "--nocapture", "--test-threads=1"]);
    own.env(ALONE, "1").stdin(Stdio::piped());
    let mut child = own.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "HERE"));
    let (content, end) = peer.read_to_end().unwrap();
    assert!(content == patterned(0, CONTENT_BYTES) && end == End::Closed);
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
}
