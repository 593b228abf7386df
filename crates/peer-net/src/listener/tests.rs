//! The listeners of a real server, on a system whose calls can be made to fail.

use std::{
    ffi::OsString,
    io::{Read, Write},
    net::Shutdown,
    process::Command,
    sync::{Weak, atomic::AtomicUsize},
    thread,
};

use peer_core::{Authorization, admission::Limits};

use super::*;
use crate::system::Os;
use crate::{
    BytesSource, PeerServer, SourceResolver, TokenGrant, config::Config, error::PeerError,
    server::FIRST_TOKEN, service::HEAD_START, source::ByteSource,
};

const TOKEN: &str = "listener-token";
const LEN: usize = 4 << 20;
const PATIENCE: Duration = Duration::from_secs(30);

// ------------------------------------------------------------------------------------ the system

/// A call that can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Accept,
    Spawn,
    EndAccept,
    Connect,
}

/// What a call returns instead of being made.
type Fault = Box<dyn FnMut(Call) -> Option<io::Error> + Send>;

/// The operating system, but for what a test has changed about it.
#[derive(Default)]
struct Odd {
    fault: Mutex<Option<Fault>>,
    /// It has no way to end `accept` from outside.
    cannot_end_accept: bool,
    /// Each call that was asked for.
    calls: Mutex<Vec<Call>>,
    /// Shares of what was accepted, where they are wanted.
    accepted: Option<Mutex<Vec<TcpStream>>>,
    /// For so long somebody else has a share of a listener that was closed.
    held: Duration,
}

impl Odd {
    fn failing(fault: impl FnMut(Call) -> Option<io::Error> + Send + 'static) -> Self {
        Self {
            fault: Mutex::new(Some(Box::new(fault))),
            ..Self::default()
        }
    }

    /// As all but Linux and Android are.
    fn elsewhere() -> Self {
        Self {
            cannot_end_accept: true,
            ..Self::default()
        }
    }

    fn call(&self, call: Call) -> io::Result<()> {
        lock(&self.calls).push(call);
        let fault = lock(&self.fault).as_mut().and_then(|fault| fault(call));
        fault.map_or(Ok(()), Err)
    }

    fn count(&self, call: Call) -> usize {
        lock(&self.calls)
            .iter()
            .filter(|made| **made == call)
            .count()
    }

    fn mend(&self) {
        *lock(&self.fault) = None;
    }
}

impl System for Odd {
    fn accept(&self, listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
        self.call(Call::Accept)?;
        let (stream, address) = listener.accept()?;
        if let Some(accepted) = &self.accepted {
            lock(accepted).push(stream.try_clone()?);
        }
        Ok((stream, address))
    }

    fn spawn(&self, run: Box<dyn FnOnce() + Send>) -> io::Result<()> {
        self.call(Call::Spawn)?;
        Os.spawn(run)
    }

    fn can_end_accept(&self) -> bool {
        !self.cannot_end_accept && Os.can_end_accept()
    }

    fn end_accept(&self, share: TcpListener) -> io::Result<()> {
        self.call(Call::EndAccept)?;
        if self.cannot_end_accept {
            let held = self.held;
            if !held.is_zero() {
                thread::spawn(move || {
                    thread::sleep(held);
                    drop(share);
                });
            }
            return Err(io::ErrorKind::Unsupported.into());
        }
        Os.end_accept(share)
    }

    fn set_nodelay(&self, listener: &TcpListener) -> io::Result<()> {
        if self.cannot_end_accept {
            return Err(io::ErrorKind::Unsupported.into());
        }
        Os.set_nodelay(listener)
    }

    fn connect(&self, address: &SocketAddr) -> io::Result<TcpStream> {
        self.call(Call::Connect)?;
        Os.connect(address)
    }
}

fn content() -> &'static [u8] {
    static CONTENT: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    CONTENT.get_or_init(|| (0..LEN).map(|n| (n % 251) as u8).collect())
}

fn resolver() -> SourceResolver {
    let source: Arc<dyn ByteSource> = Arc::new(BytesSource::new(content().to_vec()));
    Arc::new(move |_| Some(Arc::clone(&source)))
}

fn start_at(address: &str, system: &Arc<Odd>) -> Result<PeerServer, PeerError> {
    let builder = PeerServer::builder(TOKEN, resolver()).listen(address)?;
    builder.start_on(Arc::<Odd>::clone(system))
}

/// On Linux all of 127/8 is loopback, and an address of one's own is a range of ports of one's own:
/// nobody else takes one that is free for a moment.
const OWN: &str = if cfg!(target_os = "linux") {
    "127.83.7.2:0"
} else {
    "127.0.0.1:0"
};

fn start(system: &Arc<Odd>) -> PeerServer {
    start_at(OWN, system).unwrap()
}

/// The listeners' side of a server, bare.
fn bare(system: &Arc<Odd>) -> Arc<Acceptors> {
    let service = Service::new(Config::default(), resolver());
    service
        .tokens
        .add(FIRST_TOKEN, TokenGrant::new(TOKEN).unwrap());
    Acceptors::new(Arc::new(service), Arc::<Odd>::clone(system))
}

/// A connection that nobody serves.
fn arrive(service: &Service, listener: &TcpListener) -> Arc<Connection> {
    let address = listener.local_addr().unwrap();
    let stream = Arc::new(TcpStream::connect(address).unwrap());
    service.arrive(stream, address.ip()).unwrap()
}

/// Asks for content. `more` are whole field lines.
fn ask(address: SocketAddr, more: &str) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let request = format!(
        "GET /track/any HTTP/1.1\r\nHost: peer.test\r\nAuthorization: Bearer {TOKEN}\r\n{more}\r\n"
    );
    stream.write_all(request.as_bytes())?;
    Ok(stream)
}

/// Fetches on a connection of its own, which a client of ours might keep.
fn fetch(address: SocketAddr, start: u64, len: u64) -> io::Result<()> {
    let end = start + len - 1;
    let more = format!("Range: bytes={start}-{end}\r\nConnection: close\r\n");
    let mut got = Vec::new();
    ask(address, &more)?.read_to_end(&mut got)?;
    let expected = &content()[start as usize..][..len as usize];
    if got.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    assert!(got.starts_with(b"HTTP/1.1 206 "), "not the answer");
    assert!(got.ends_with(expected), "other bytes");
    Ok(())
}

fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "never: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Stops a server, and wants all of its threads back.
fn stop(server: PeerServer) {
    assert!(server.shutdown(Duration::ZERO).all_threads_ended);
}

// ---------------------------------------------------------------------------------- connections

#[test]
fn each_connection_sends_at_once() {
    for system in [Odd::default(), Odd::elsewhere()] {
        let system = Arc::new(Odd {
            accepted: Some(Mutex::default()),
            ..system
        });
        let server = start(&system);
        let mut stream = ask(server.local_addr(), "Range: bytes=0-9\r\n").unwrap();
        stream.read_exact(&mut [0; 200]).unwrap();
        let accepted = lock(system.accepted.as_ref().unwrap());
        assert!(accepted.last().unwrap().nodelay().unwrap());
    }
}

/// A share of a connection that is kept elsewhere held its end back. Under Wine each process that was
/// started while it was there has one, and peers whose answers end with the connection waited for
/// those processes.
#[test]
fn a_connection_ends_with_its_answer_whoever_has_a_share_of_it() {
    let system = Arc::new(Odd {
        accepted: Some(Mutex::default()),
        ..Odd::default()
    });
    let server = start(&system);
    fetch(server.local_addr(), 0, 1_000).unwrap();
    assert_eq!(lock(system.accepted.as_ref().unwrap()).len(), 1);
    stop(server);
}

// ---------------------------------------------------------------------------------- coming back

/// The ways to wake whoever waits at `accept`, over each kind of address.
#[test]
fn all_come_back_from_accept() {
    for cannot_end_accept in [false, true] {
        for address in [OWN, "0.0.0.0:0", "[::1]:0", "[::]:0"] {
            let system = Arc::new(Odd {
                cannot_end_accept,
                ..Odd::default()
            });
            let Ok(server) = start_at(address, &system) else {
                eprintln!("SKIPPED {address}: it cannot be bound here");
                continue;
            };
            let mut own = server.local_addr();
            if own.ip().is_unspecified() {
                own.set_ip(if own.is_ipv4() {
                    Ipv4Addr::LOCALHOST.into()
                } else {
                    Ipv6Addr::LOCALHOST.into()
                });
            }
            // Several at once, so that several threads wait afterwards.
            thread::scope(|scope| {
                for n in 0..6 {
                    scope.spawn(move || fetch(own, n, 100_000).unwrap());
                }
            });
            if address == OWN {
                let bound = server.rebind(server.local_addr()).unwrap();
                assert_eq!(bound, server.local_addr(), "the port is free at once");
            }
            fetch(own, 0, 1_000).unwrap();
            stop(server);
            let listeners = 1 + usize::from(address == OWN);
            assert_eq!(system.count(Call::EndAccept), listeners);
            let connects = system.count(Call::Connect) > 0;
            let wanted = cannot_end_accept || !Os.can_end_accept();
            assert_eq!(connects, wanted, "{address}");
            // Where closing it is what ends it, a program that another test is about to start holds it
            // until it runs.
            eventually("it is gone", || TcpStream::connect(own).is_err());
        }
    }
}

/// A program that is being started has shares of all sockets until it runs. Where closing a listener is
/// what ends it, its port was found taken for as long.
#[test]
fn a_listener_that_a_program_holds_for_a_moment() {
    let system = Arc::new(Odd {
        held: Duration::from_millis(100),
        ..Odd::elsewhere()
    });
    let server = start(&system);
    let address = server.local_addr();
    fetch(address, 0, 1_000).unwrap();
    assert_eq!(server.rebind(address).unwrap(), address);
    fetch(address, 0, 1_000).unwrap();
    stop(server);
}

/// Where an address may leave the device, and nothing but a connection to it would wake `accept`,
/// nobody waits there. Loopback stands in for such an address.
#[test]
fn a_polled_listener() {
    let system = Arc::new(Odd {
        // Nor can it be connected to, which is what happens to it.
        fault: Mutex::new(Some(Box::new(|call| {
            (call == Call::Connect).then(|| io::ErrorKind::AddrNotAvailable.into())
        }))),
        ..Odd::elsewhere()
    });
    let acceptors = bare(&system);
    let socket = TcpListener::bind(OWN).unwrap();
    let real = socket.local_addr().unwrap();
    let mut listener = Listener::new(socket, &*system).unwrap();
    {
        let listener = Arc::get_mut(&mut listener).unwrap();
        listener.polled = true;
        listener.post = Post::new(1);
        lock(&listener.socket)
            .as_ref()
            .unwrap()
            .set_nonblocking(true)
            .unwrap();
    }
    acceptors.man(&listener).unwrap();
    thread::scope(|scope| {
        for n in 0..6 {
            scope.spawn(move || fetch(real, n, LEN as u64 / 2).unwrap());
        }
    });
    eventually("one thread is left to ask", || listener.post.waiting() == 1);
    let asked = system.count(Call::Accept);
    thread::sleep(5 * POLL_MAX);
    let asked = system.count(Call::Accept) - asked;
    assert!(
        (1..=20).contains(&asked),
        "asked {asked} times in {:?}",
        5 * POLL_MAX
    );
    let began = Instant::now();
    acceptors.retire(&listener);
    assert_eq!(listener.post.waiting(), 0);
    assert!(began.elapsed() < WAKE_MAX, "{:?}", began.elapsed());
    let service = &acceptors.service;
    assert!(service.crew.wait_for_end(0, Instant::now() + PATIENCE));
}

#[test]
fn which_listeners_are_polled() {
    let polled = |address: &str, system: &Odd| {
        let socket = TcpListener::bind(address).ok()?;
        Some(Listener::new(socket, system).unwrap().polled)
    };
    for address in [
        "127.0.0.1:0",
        "127.0.0.2:0",
        "[::1]:0",
        "0.0.0.0:0",
        "[::]:0",
    ] {
        for system in [Odd::default(), Odd::elsewhere()] {
            assert_ne!(polled(address, &system), Some(true), "{address}");
        }
    }
    // The address by which this machine reaches others, if it has one: nothing is sent to find it.
    let outward = std::net::UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
        socket.connect("192.0.2.1:9")?;
        socket.local_addr()
    });
    match outward {
        Ok(address) if !address.ip().is_loopback() => {
            let address = format!("{}:0", address.ip());
            assert_eq!(polled(&address, &Odd::elsewhere()), Some(true));
            assert_eq!(
                polled(&address, &Odd::default()),
                Some(!Os.can_end_accept())
            );
        }
        _ => eprintln!("SKIPPED an address beyond loopback: this machine has none"),
    }
}

/// A thread that cannot be woken does not hold its server up for ever, and is told of.
#[test]
fn nothing_wakes_it() {
    let system = Arc::new(Odd {
        fault: Mutex::new(Some(Box::new(|call| {
            (call == Call::Connect).then(|| io::ErrorKind::ConnectionRefused.into())
        }))),
        ..Odd::elsewhere()
    });
    let acceptors = bare(&system);
    let service = &acceptors.service;
    let listener = acceptors.start(TcpListener::bind(OWN).unwrap()).unwrap();
    fetch(listener.address(), 0, 1_000).unwrap();
    let began = Instant::now();
    acceptors.retire(&listener);
    assert!(began.elapsed() < PATIENCE);
    assert!(!service.crew.wait_for_end(0, Instant::now()));
    // Whoever comes next lets one go, unserved.
    eventually("the threads end", || {
        drop(TcpStream::connect(listener.address()));
        service.crew.wait_for_end(0, Instant::now())
    });
    assert_eq!(service.counters.accepted.load(Ordering::SeqCst), 1);
}

/// Threads that wait at one listener cannot be called to another one. They took part of its budget: who
/// came there last got no thread, while as many as eight had nothing to do.
#[test]
fn spare_threads_of_one_listener_cost_another_no_connection() {
    let paired = 7;
    let limits = Limits {
        strangers: 1,
        strangers_per_address: 1,
        paired,
        paired_per_address: paired,
    };
    let server = PeerServer::builder(TOKEN, resolver())
        .limits(limits)
        .listen(OWN)
        .and_then(|builder| builder.listen(OWN))
        .and_then(|builder| builder.start())
        .unwrap();
    let addresses: Vec<_> = server.status().iter().map(|one| one.address).collect();
    let answered = |address: SocketAddr| {
        let mut stream = ask(address, "Range: bytes=0-0\r\n").unwrap();
        let mut byte = [0];
        stream.read_exact(&mut byte).map(|()| stream)
    };
    // As many as there may be, and one that has not shown the token.
    let fill = |address: SocketAddr| {
        let held: Vec<_> = (0..paired).map(|_| answered(address).unwrap()).collect();
        let stranger = TcpStream::connect(address).unwrap();
        eventually("the stranger is in", || server.stats().strangers == 1);
        (held, stranger)
    };
    drop(fill(addresses[0]));
    eventually("all wait again", || {
        let stats = server.stats();
        stats.strangers + stats.idle + stats.busy == 0
    });
    let _held = fill(addresses[1]);
    // The stranger gives way, and then the connection that was idle for longest: there is room.
    let last = answered(addresses[1]);
    assert!(last.is_ok(), "{last:?}, {:?}", server.stats());
    stop(server);
}

/// Somebody who has only come may be about to show the token.
#[test]
fn where_the_system_has_no_room_only_strangers_go_that_had_time_to_speak() {
    let service = Service::new(Config::default(), resolver());
    let listener = TcpListener::bind(OWN).unwrap();
    let first = arrive(&service, &listener);
    let between = Instant::now();
    while Instant::now() == between {}
    let second = arrive(&service, &listener);
    let gone = || [&first, &second].map(|connection| connection.cut.load(Ordering::Relaxed));
    assert!(!service.evict_stranger(first.arrived));
    assert_eq!(gone(), [false, false]);
    let now = between + HEAD_START;
    assert!(service.evict_stranger(now));
    assert_eq!(gone(), [true, false]);
    assert!(!service.evict_stranger(now));
    assert_eq!(gone(), [true, false]);
}

/// A stranger that was made to give way, and whose request was read all the same, made a paired peer
/// give way for it.
#[test]
fn who_has_given_way_takes_nobodys_place() {
    let limits = Limits {
        strangers: 1,
        strangers_per_address: 1,
        paired: 1,
        paired_per_address: 1,
    };
    let config = Config {
        limits,
        ..Config::default()
    };
    let service = Service::new(config, resolver());
    service
        .tokens
        .add(FIRST_TOKEN, TokenGrant::new(TOKEN).unwrap());
    let listener = TcpListener::bind(OWN).unwrap();
    let arrive = || arrive(&service, &listener);
    let authorize = |connection: &Connection| {
        let now = Instant::now();
        service.authorize(connection, TOKEN.as_bytes(), None, now).0
    };
    let holder = arrive();
    assert_eq!(authorize(&holder), Authorization::Granted);
    service.set_idle(&holder, Instant::now());
    let first = arrive();
    let second = arrive();
    assert_eq!(authorize(&first), Authorization::Overloaded);
    assert!(!holder.cut.load(Ordering::Relaxed), "for nobody");
    assert_eq!(authorize(&second), Authorization::Granted);
    assert!(holder.cut.load(Ordering::Relaxed));
}

// -------------------------------------------------------------------------- failures for ever

/// What `accept` says on a listener that iOS has taken, and what a policy may say for ever.
#[test]
fn a_listener_that_aborts_every_connection_is_not_spun_on() {
    for kind in [
        io::ErrorKind::ConnectionAborted,
        io::ErrorKind::PermissionDenied,
    ] {
        let system = Arc::new(Odd::failing(move |call| {
            (call == Call::Accept).then(|| kind.into())
        }));
        let server = start(&system);
        eventually("it is doubted", || system.count(Call::Connect) > 0);
        let before = system.count(Call::Accept);
        thread::sleep(Duration::from_millis(500));
        let tried = system.count(Call::Accept) - before;
        // Without pauses it would be a hundred thousand.
        assert!(tried < 5_000, "{kind:?}: {tried} times in half a second");
        // It is there, so it is not given up; and when all is well again, it serves.
        assert!(server.status()[0].listening);
        system.mend();
        fetch(server.local_addr(), 1, 1_000).unwrap();
        assert!(server.stats().accept_failed >= u64::from(ABORTED_KNOCK));
        stop(server);
    }
}

#[test]
fn a_listener_that_was_taken_is_lost_soon() {
    let system = Arc::new(Odd::failing(|call| match call {
        Call::Accept => Some(io::ErrorKind::ConnectionAborted.into()),
        Call::Connect => Some(io::ErrorKind::ConnectionRefused.into()),
        _ => None,
    }));
    // The app takes a new listener as soon as it hears that the old one is gone.
    let slot: Arc<Mutex<Weak<PeerServer>>> = Arc::default();
    let (own, on) = (Arc::clone(&slot), Arc::clone(&system));
    let lost = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&lost);
    let server = PeerServer::builder(TOKEN, resolver())
        .on_event(move |event| {
            let ServerEvent::ListenerLost { address } = event else {
                return;
            };
            let mut server = None;
            eventually("the server is there", || {
                server = lock(&own).upgrade();
                server.is_some()
            });
            let server = server.unwrap();
            assert!(!server.status()[0].listening);
            on.mend();
            let began = Instant::now();
            assert_eq!(server.rebind(*address).unwrap(), *address);
            lock(&heard).push(began.elapsed());
        })
        .listen(OWN)
        .unwrap()
        .start_on(Arc::<Odd>::clone(&system))
        .unwrap();
    let server = Arc::new(server);
    *lock(&slot) = Arc::downgrade(&server);
    eventually("it is bound again", || !lock(&lost).is_empty());
    let took = lock(&lost).clone();
    assert!(took.len() == 1 && took[0] < WAKE_MAX, "{took:?}");
    fetch(server.local_addr(), 7, 1_000).unwrap();
    assert!(server.status()[0].listening);
    eventually("the hook is through", || Arc::strong_count(&server) == 1);
    stop(Arc::into_inner(server).unwrap());
}

/// Who connects and is gone at once does not slow down who stays.
#[test]
fn aborted_connections_between_others() {
    let mut n = 0;
    let system = Arc::new(Odd::failing(move |call| {
        if call != Call::Accept {
            return None;
        }
        n += 1;
        (n % 50 != 0).then(|| io::ErrorKind::ConnectionAborted.into())
    }));
    let server = start(&system);
    for n in 0..20 {
        fetch(server.local_addr(), n, 1_000).unwrap();
    }
    assert_eq!(system.count(Call::Connect), 0, "it was never in doubt");
    stop(server);
}

// ------------------------------------------------------------------------------ every call once

/// Open descriptors of this process, where they can be counted.
fn descriptors() -> Option<usize> {
    // Under Wine it is that of another process.
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let number = status.lines().find_map(|line| line.strip_prefix("Pid:"))?;
    if number.trim() != std::process::id().to_string() {
        return None;
    }
    Some(std::fs::read_dir("/proc/self/fd").ok()?.count())
}

/// Whether a loss is to be expected: the errors that say that the listener is no more.
fn is_end_of_listener(code: i32) -> bool {
    is_final(&io::Error::from_raw_os_error(code))
}

/// A session in which everything happens that takes connections and threads: a transfer that runs
/// through it, fetches at the same time, a stranger, a new listener. Returns how many fetches failed.
fn session(system: &Arc<Odd>, fatal: bool) -> Option<usize> {
    let began = Instant::now();
    let server = match start_at(OWN, system) {
        Ok(server) => server,
        Err(PeerError::Io(_)) => return None,
        Err(error) => panic!("{error}"),
    };
    let failed = AtomicUsize::new(0);
    let tried = |address: SocketAddr, start: u64| {
        // A connection may be shed, and a listener lost: a typed error, and the next one succeeds.
        let mut tries = 0;
        while let Err(error) = fetch(address, start, 10_000) {
            failed.fetch_add(1, Ordering::SeqCst);
            if fatal && server.status().iter().any(|listener| !listener.listening) {
                return;
            }
            tries += 1;
            assert!(tries < 20, "{error}");
        }
    };
    let address = server.local_addr();
    let mut running = None;
    eventually("a transfer runs", || {
        let Ok(mut stream) = ask(address, "") else {
            return server.status().iter().any(|listener| !listener.listening);
        };
        let mut byte = [0];
        let began = stream.read(&mut byte);
        if matches!(began, Ok(1)) {
            running = Some(stream);
        }
        running.is_some()
    });
    let stranger = TcpStream::connect(address);
    thread::scope(|scope| {
        for n in 0..3 {
            let tried = &tried;
            scope.spawn(move || tried(address, n));
        }
    });
    // Whatever happened to the old listener, or to the new one's first thread.
    let mut bound = server.rebind(address);
    for _ in 0..3 {
        bound = bound.or_else(|_| server.rebind(address));
    }
    tried(bound.unwrap(), 100);
    drop(stranger);
    if let Some(mut stream) = running {
        let mut got = Vec::new();
        let mut block = vec![0; 64 * 1024];
        while !got.ends_with(&content()[LEN - 1_000..]) || got.len() < LEN {
            let n = stream.read(&mut block).unwrap();
            assert!(n > 0, "the running transfer was cut");
            got.extend_from_slice(&block[..n]);
        }
        assert!(
            got.ends_with(content()),
            "the running transfer got other bytes"
        );
        let _ = stream.shutdown(Shutdown::Both);
    }
    stop(server);
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
    Some(failed.into_inner())
}

/// Runs the rest of a test in a process of its own, since descriptors are the process's; `limit` is
/// for the shell. `true`: this is that process.
fn alone(name: &str, limit: &str) -> bool {
    const ALONE: &str = "PEER_LISTENER_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    // Where an emulator runs this, its words stand in front, as `cargo xtask targets test` says.
    let runner = std::env::var("PEER_TESTS_RUNNER").unwrap_or_default();
    let own = std::env::current_exe().unwrap();
    let mut words: Vec<_> = runner.split_whitespace().map(OsString::from).collect();
    words.push(own.into_os_string());
    let mut command = if limit.is_empty() {
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        command
    } else if cfg!(unix) {
        let mut shell = Command::new("sh");
        shell
            .args(["-c", &format!("{limit} && exec \"$0\" \"$@\"")])
            .args(&words);
        shell
    } else {
        eprintln!("SKIPPED {name}: no limits of this kind here");
        return false;
    };
    command
        .args(["--exact", name, "--nocapture"])
        .env(ALONE, "1");
    match command.output() {
        Ok(output) => {
            let out = String::from_utf8_lossy(&output.stdout);
            let err = String::from_utf8_lossy(&output.stderr);
            assert!(
                output.status.success() && out.contains("1 passed"),
                "{out}\n{err}"
            );
        }
        // An emulator runs this binary, and the system cannot.
        Err(error) => eprintln!("SKIPPED {name}: no process of its own: {error}"),
    }
    false
}

/// Also where it takes a connection, stopping finds a descriptor when there are none left.
#[test]
fn all_come_back_without_descriptors() {
    if !alone(
        "listener::tests::all_come_back_without_descriptors",
        "ulimit -n 64",
    ) {
        return;
    }
    let system = Arc::new(Odd::elsewhere());
    let server = start(&system);
    fetch(server.local_addr(), 0, 1_000).unwrap();
    eventually("nobody is connected", || {
        server.stats().busy + server.stats().idle == 0
    });
    let mut files = Vec::new();
    while let Ok(file) = std::fs::File::open("/dev/null") {
        files.push(file);
        assert!(files.len() < 1_000, "there is no limit");
    }
    let shutdown = server.shutdown(Duration::ZERO);
    drop(files);
    assert!(shutdown.all_threads_ended);
    assert!(system.count(Call::Connect) > 0);
}

#[test]
fn each_call_fails_once() {
    if !alone("listener::tests::each_call_fails_once", "") {
        return;
    }
    assert_eq!(session(&Arc::default(), false), Some(0));
    let began = Instant::now();
    let before = descriptors();
    let mut struck_calls = Vec::new();
    let mut sessions = 0;
    // EPERM, EINTR, EIO, EBADF, EAGAIN, EMFILE, ECONNABORTED: by kind where the number is another
    // elsewhere.
    let errors: [fn() -> io::Error; 7] = [
        || io::ErrorKind::PermissionDenied.into(),
        || io::ErrorKind::Interrupted.into(),
        || io::Error::from_raw_os_error(5),
        || io::Error::from_raw_os_error(9),
        || io::ErrorKind::WouldBlock.into(),
        || io::Error::from_raw_os_error(24),
        || io::ErrorKind::ConnectionAborted.into(),
    ];
    for elsewhere in [false, true] {
        for error in errors {
            for call in [Call::Accept, Call::Spawn, Call::EndAccept, Call::Connect] {
                // Only of a failed `accept` does it matter why, and not twice.
                let is_one = error().kind() == io::ErrorKind::WouldBlock;
                if !is_one && (call != Call::Accept || elsewhere) {
                    continue;
                }
                for n in 0.. {
                    let struck = Arc::new(AtomicBool::new(false));
                    let (strikes, mut left) = (Arc::clone(&struck), n);
                    let mut system = Odd::failing(move |made| {
                        if made != call || strikes.load(Ordering::SeqCst) {
                            return None;
                        }
                        if left > 0 {
                            left -= 1;
                            return None;
                        }
                        strikes.store(true, Ordering::SeqCst);
                        Some(error())
                    });
                    system.cannot_end_accept = elsewhere;
                    let system = Arc::new(system);
                    let fatal = call == Call::Accept
                        && (is_end_of_listener(error().raw_os_error().unwrap_or(0))
                            || is_final(&error()));
                    let failed = session(&system, fatal);
                    sessions += 1;
                    let context = format!("{call:?} {n}: {}, elsewhere {elsewhere}", error());
                    if !struck.load(Ordering::SeqCst) {
                        assert_eq!(failed, Some(0), "{context}");
                        break;
                    }
                    let starts_nothing = call == Call::Spawn && n == 0;
                    assert_eq!(failed.is_none(), starts_nothing, "{context}");
                    if !struck_calls.contains(&call) {
                        struck_calls.push(call);
                    }
                    eventually("all descriptors are closed", || descriptors() == before);
                    assert!(n < 200, "{context}: the session has no end");
                }
            }
        }
    }
    assert_eq!(struck_calls.len(), 4, "{struck_calls:?}");
    println!("{sessions} sessions took {:?}", began.elapsed());
}
