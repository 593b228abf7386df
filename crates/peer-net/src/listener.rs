//! The threads that accept connections, and serve them.
//!
//! Every thread here does the same: it accepts a connection, sees to it that another thread is
//! left at `accept`, serves the connection itself, and comes back. So no connection is handed from
//! thread to thread, and the listener's backlog never waits for work. The count of threads at
//! `accept` is exact: the one that takes it to zero has to find a successor before it serves, and
//! when there is none to be had it goes on accepting and puts the connection aside.

use std::{
    collections::VecDeque,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{
    callback::call,
    config::{ACCEPTORS_MAX, STACK_BYTES, ServerEvent},
    connection,
    service::{Connection, Service, count, lock},
};

/// First and longest pause after an `accept` that failed for want of descriptors or memory.
const BACKOFF_MIN: Duration = Duration::from_millis(10);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// Failures in a row, for no known reason, after which a listener counts as lost.
const FAILURES_MAX: u32 = 32;

/// A bound socket.
struct Bound {
    listener: TcpListener,
    /// The same socket once more, to shut it down by. Made early: when descriptors have run out is
    /// no time to make it.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    waker: TcpStream,
}

impl Bound {
    /// On Linux and Android, shutting a listening socket down ends every `accept` on it. It is
    /// reached through the type of a connected one, which has the call.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn new(listener: TcpListener) -> io::Result<Self> {
        let waker = TcpStream::from(std::os::fd::OwnedFd::from(listener.try_clone()?));
        Ok(Self { listener, waker })
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    #[allow(clippy::unnecessary_wraps, reason = "it can fail elsewhere")]
    const fn new(listener: TcpListener) -> io::Result<Self> {
        Ok(Self { listener })
    }
}

/// A bound socket, and who waits at it.
pub(crate) struct Listener {
    /// Gone when it is retired. Whoever is at `accept` holds a share of it, so that the port is
    /// free as soon as the last one has returned, whatever transfers still run.
    socket: Mutex<Option<Arc<Bound>>>,
    address: SocketAddr,
    /// Threads at `accept`, or on their way to it.
    acceptors: AtomicUsize,
    /// No more connections are wanted from it.
    retired: AtomicBool,
    /// It gave no connection for too long, or never will.
    lost: AtomicBool,
    /// When descriptors or memory were last short: said once, until it is over.
    short: Mutex<Option<Instant>>,
}

/// The listeners' side of a server.
pub(crate) struct Acceptors {
    pub(crate) service: Arc<Service>,
    threads_max: usize,
    /// Connections that were let in, and wait for a thread that is about to end its own.
    aside: Mutex<VecDeque<Arc<Connection>>>,
}

thread_local! {
    /// Whether this is one of our threads: one that waits for them all must not wait for itself.
    static IS_OURS: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Whether the current thread serves connections.
pub(crate) fn is_server_thread() -> bool {
    IS_OURS.get()
}

impl Listener {
    pub(crate) fn new(socket: TcpListener) -> io::Result<Arc<Self>> {
        let address = socket.local_addr()?;
        Ok(Arc::new(Self {
            socket: Mutex::new(Some(Arc::new(Bound::new(socket)?))),
            address,
            acceptors: AtomicUsize::new(0),
            retired: AtomicBool::new(false),
            lost: AtomicBool::new(false),
            short: Mutex::new(None),
        }))
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::SeqCst)
    }

    fn is_retired(&self) -> bool {
        self.retired.load(Ordering::SeqCst)
    }

    /// Ends it: whoever waits at `accept` returns.
    pub(crate) fn retire(&self) {
        self.retired.store(true, Ordering::SeqCst);
        let socket = lock(&self.socket).take();
        if let Some(socket) = socket {
            self.wake(&socket);
        }
    }

    /// Whether no thread waits at it any more.
    pub(crate) fn is_deserted(&self) -> bool {
        self.acceptors.load(Ordering::SeqCst) == 0
    }

    /// A connection was accepted. One at a time may get through while descriptors are short, so it is
    /// over when it has been for a while.
    fn end_shortage(&self) {
        let mut short = lock(&self.short);
        if short.is_some_and(|last| last.elapsed() > BACKOFF_MAX) {
            *short = None;
            log::info!("accepting connections again");
        }
    }

    /// Takes a thread out of those at `accept`, unless it is the last one. Returns whether it may go.
    fn leave_accept(&self) -> bool {
        let leave = |waiting: usize| (waiting > 1).then(|| waiting - 1);
        self.acceptors
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, leave)
            .is_ok()
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn wake(&self, socket: &Bound) {
        if socket.waker.shutdown(std::net::Shutdown::Both).is_err() {
            self.wake_by_connecting();
        }
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    fn wake(&self, _: &Bound) {
        self.wake_by_connecting();
    }

    /// Elsewhere each `accept` gets a connection of our own to return with. The unspecified
    /// address stands for "any"; as a destination some platforms refuse it.
    fn wake_by_connecting(&self) {
        let mut address = self.address;
        match address.ip() {
            ip if !ip.is_unspecified() => {}
            std::net::IpAddr::V4(_) => address.set_ip(Ipv4Addr::LOCALHOST.into()),
            std::net::IpAddr::V6(_) => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        }
        // Each connection wakes one thread; some may be on their way to `accept` still.
        for _ in 0..2 * ACCEPTORS_MAX {
            if self.acceptors.load(Ordering::SeqCst) == 0 {
                return;
            }
            if TcpStream::connect_timeout(&address, Duration::from_millis(250)).is_err() {
                thread::yield_now();
            }
        }
    }
}

impl Acceptors {
    pub(crate) fn new(service: Arc<Service>) -> Arc<Self> {
        let limits = service.config.limits;
        let threads_max = limits
            .strangers
            .saturating_add(limits.paired)
            .saturating_add(ACCEPTORS_MAX);
        Arc::new(Self {
            service,
            threads_max,
            aside: Mutex::default(),
        })
    }

    /// Starts accepting on a listener.
    pub(crate) fn start(self: &Arc<Self>, listener: &Arc<Listener>) -> io::Result<()> {
        self.spawn(listener)
    }

    /// Starts one more thread at `accept`.
    fn spawn(self: &Arc<Self>, listener: &Arc<Listener>) -> io::Result<()> {
        if !self.service.begin_thread(self.threads_max) {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        listener.acceptors.fetch_add(1, Ordering::SeqCst);
        let (acceptors, at) = (Arc::clone(self), Arc::clone(listener));
        let thread = thread::Builder::new()
            .name("peer-server".into())
            .stack_size(STACK_BYTES);
        let started = thread.spawn(move || {
            IS_OURS.set(true);
            // The count must come down whatever happens, or the server could never be waited for.
            let _count = CountedThread(Arc::clone(&acceptors.service));
            acceptors.run(&at);
        });
        if let Err(error) = started {
            listener.acceptors.fetch_sub(1, Ordering::SeqCst);
            self.service.end_thread();
            return Err(error);
        }
        Ok(())
    }

    /// One thread's life: accept, serve, and again.
    fn run(self: &Arc<Self>, listener: &Arc<Listener>) {
        let mut failures = 0;
        let mut backoff = BACKOFF_MIN;
        loop {
            let socket = lock(&listener.socket)
                .clone()
                .filter(|_| !self.is_over(listener));
            let Some(socket) = socket else {
                listener.acceptors.fetch_sub(1, Ordering::SeqCst);
                return;
            };
            let accepted = socket.listener.accept();
            drop(socket);
            match accepted {
                Ok((stream, address)) => {
                    (failures, backoff) = (0, BACKOFF_MIN);
                    listener.end_shortage();
                    if self.is_over(listener) {
                        continue;
                    }
                    if self.take(listener, stream, address) {
                        return;
                    }
                }
                Err(error) => match Failure::of(&error) {
                    Failure::OfConnection => {}
                    _ if self.is_over(listener) => {}
                    Failure::Shortage => {
                        self.shortage(listener, &error);
                        if self.service.evict_stranger() {
                            // Room is on its way, and whoever waits in the backlog may hold the token.
                            backoff = BACKOFF_MIN;
                        }
                        self.service.pause(backoff);
                        backoff = (backoff * 2).min(BACKOFF_MAX);
                    }
                    Failure::OfListener if failures < FAILURES_MAX && !is_final(&error) => {
                        failures += 1;
                        count(&self.service.counters.accept_failed);
                        self.service.pause(backoff);
                        backoff = (backoff * 2).min(BACKOFF_MAX);
                    }
                    Failure::OfListener => self.lose(listener, &error),
                },
            }
        }
    }

    fn is_over(&self, listener: &Listener) -> bool {
        listener.is_retired() || listener.is_lost() || self.service.is_stopping()
    }

    /// Takes an accepted connection. Returns whether this thread is no longer needed.
    fn take(
        self: &Arc<Self>,
        listener: &Arc<Listener>,
        stream: TcpStream,
        address: SocketAddr,
    ) -> bool {
        // The last thread at accept has to find another one before it leaves.
        let was_last = listener.acceptors.fetch_sub(1, Ordering::SeqCst) == 1;
        let successor = if was_last {
            self.spawn(listener)
        } else {
            Ok(())
        };
        let connection = match &successor {
            // The system is out of threads. A stranger's will do; without one, shed what cannot be
            // served.
            Err(error)
                if error.kind() != io::ErrorKind::QuotaExceeded
                    && !self.service.evict_stranger() =>
            {
                log::debug!("cannot start a thread: {error}");
                count(&self.service.counters.shed);
                None
            }
            _ => self.let_in(stream, address),
        };
        if successor.is_err() {
            listener.acceptors.fetch_add(1, Ordering::SeqCst);
            if let Some(connection) = connection {
                // All threads serve; whoever had to give way for this one takes it over.
                let mut aside = lock(&self.aside);
                aside.retain(|waiting| !waiting.cut.load(Ordering::Relaxed));
                aside.push_back(connection);
            }
            if !self.has_aside() || !listener.leave_accept() {
                return false;
            }
        } else if let Some(connection) = connection {
            self.serve(&connection);
        }
        loop {
            while let Some(connection) = self.next_aside() {
                self.serve(&connection);
            }
            let waiting = listener.acceptors.fetch_add(1, Ordering::SeqCst);
            // Either this sees what was put aside in between, or who did that sees this one here.
            if self.has_aside() && listener.leave_accept() {
                continue;
            }
            let is_spare = waiting >= ACCEPTORS_MAX;
            if is_spare {
                listener.acceptors.fetch_sub(1, Ordering::SeqCst);
            }
            return is_spare;
        }
    }

    fn has_aside(&self) -> bool {
        !lock(&self.aside).is_empty()
    }

    fn next_aside(&self) -> Option<Arc<Connection>> {
        lock(&self.aside).pop_front()
    }

    fn let_in(&self, stream: TcpStream, address: SocketAddr) -> Option<Arc<Connection>> {
        // Without it, a head that waits for its content's acknowledgement costs 40 ms.
        let _ = stream.set_nodelay(true);
        self.service.arrive(Arc::new(stream), address.ip())
    }

    fn serve(&self, connection: &Connection) {
        if !self.service.is_stopping() {
            // The driver guards every call into the app, so this is for a bug of ours: it costs one
            // connection, not a thread that others wait for.
            if call(|| connection::serve(&self.service, connection)).is_err() {
                log::error!("{}: the connection's driver panicked", connection.address);
                connection.stream.hang_up();
            }
        }
        self.service.leave(connection);
    }

    fn shortage(&self, listener: &Listener, error: &io::Error) {
        count(&self.service.counters.accept_failed);
        if lock(&listener.short).replace(Instant::now()).is_none() {
            log::warn!("cannot accept connections for now: {error}");
        }
    }

    /// Gives a listener up, and says so once.
    fn lose(&self, listener: &Listener, error: &io::Error) {
        if !listener.lost.swap(true, Ordering::SeqCst) {
            log::error!("the listener on {} is lost: {error}", listener.address);
            let socket = lock(&listener.socket).take();
            if let Some(socket) = socket {
                listener.wake(&socket);
            }
            self.service.tell(&ServerEvent::ListenerLost {
                address: listener.address,
            });
        }
    }

    /// Closes what was put aside and never served.
    pub(crate) fn drop_aside(&self) {
        while let Some(connection) = self.next_aside() {
            self.service.leave(&connection);
        }
    }
}

struct CountedThread(Arc<Service>);

impl Drop for CountedThread {
    fn drop(&mut self) {
        self.0.end_thread();
    }
}

/// What an `accept` that failed says.
enum Failure {
    /// Something about the connection that was to be accepted: take the next one.
    OfConnection,
    /// Descriptors, buffers or memory are short: wait.
    Shortage,
    /// Something about the listener.
    OfListener,
}

impl Failure {
    fn of(error: &io::Error) -> Self {
        use io::ErrorKind as Kind;
        match error.kind() {
            Kind::ConnectionAborted
            | Kind::ConnectionReset
            | Kind::Interrupted
            | Kind::TimedOut => Self::OfConnection,
            Kind::OutOfMemory => Self::Shortage,
            _ if is_descriptor_shortage(error) => Self::Shortage,
            // Errors of the network that Linux passes on from the new connection (accept(2)).
            Kind::NetworkDown
            | Kind::NetworkUnreachable
            | Kind::HostUnreachable
            | Kind::PermissionDenied
            | Kind::WouldBlock => Self::OfConnection,
            _ => Self::OfListener,
        }
    }
}

/// ENFILE, EMFILE, ENOBUFS and ENOMEM, by number: they have no `ErrorKind`.
fn is_descriptor_shortage(error: &io::Error) -> bool {
    let Some(code) = error.raw_os_error() else {
        return false;
    };
    if cfg!(windows) {
        // WSAEMFILE, WSAENOBUFS
        matches!(code, 10024 | 10055)
    } else {
        // ENOBUFS is 105 on Linux and 55 on the BSDs and Apple's systems.
        matches!(code, 12 | 23 | 24)
            || code
                == if cfg!(target_os = "linux") || cfg!(target_os = "android") {
                    105
                } else {
                    55
                }
    }
}

/// A socket that is closed or does not listen will not come back: EBADF, EINVAL, ENOTSOCK.
fn is_final(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidInput || error.raw_os_error() == Some(9)
}
