//! The threads that accept connections, and serve them.
//!
//! Every thread here does the same: it accepts a connection, sees to it that another thread is
//! left at `accept`, serves the connection itself, and comes back. So no connection is handed from
//! thread to thread, and the listener's backlog never waits for work. Who may leave `accept` is
//! decided by `crew`: the last thread there has to find a successor before it serves, and when there is
//! none to be had it goes on accepting and puts the connection aside.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    callback::call,
    config::{ACCEPTORS_MAX, ServerEvent},
    connection,
    crew::{Crew, Post, Work},
    service::{Connection, Service, count, lock},
    sync::{AtomicBool, Mutex, Ordering},
    system::System,
};

/// First and longest pause after an `accept` that failed for want of descriptors or memory.
const BACKOFF_MIN: Duration = Duration::from_millis(10);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// Failures in a row, for no known reason, after which a listener counts as lost.
const FAILURES_MAX: u32 = 32;

/// Failures in a row of the connections that were to be accepted, after which a thread pauses, and
/// those after which it looks whether the listener is still there: more than wait in its backlog.
const ABORTED_PAUSE: u32 = 64;
const ABORTED_KNOCK: u32 = 256;

/// First and longest pause of a thread that has to ask again and again whether somebody came.
const POLL_MIN: Duration = Duration::from_millis(1);
const POLL_MAX: Duration = Duration::from_millis(100);

/// How long threads at `accept` are given to notice that they are to come back: on a machine with much
/// else to do, a thread may wait for a second to run at all.
const WAKE_MAX: Duration = Duration::from_secs(3);
/// And how long before the next attempt to wake them.
const WAKE_AGAIN: Duration = Duration::from_millis(20);

/// A bound socket, and who waits at it.
pub(crate) struct Listener {
    /// Gone when it is retired. Whoever is at `accept` holds a share of it, so that the port is
    /// free as soon as the last one has returned, whatever transfers still run.
    socket: Mutex<Option<Arc<TcpListener>>>,
    /// The same socket once more, to end `accept` by; where that cannot be done, closing it leaves a
    /// descriptor to connect with. Made early: when descriptors have run out is no time to make it.
    share: Mutex<Option<TcpListener>>,
    address: SocketAddr,
    /// Nothing would wake a thread that waits in `accept` for sure, so none does: each asks, and
    /// sleeps for a while.
    polled: bool,
    /// Its connections send at once. Without that, a block that waits for the acknowledgement of the
    /// one before costs 40 ms.
    without_delay: bool,
    post: Post,
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
    system: Arc<dyn System>,
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
    fn new(socket: TcpListener, system: &dyn System) -> io::Result<Arc<Self>> {
        let address = socket.local_addr()?;
        // Over loopback it can be reached as long as it is there. Any other address may leave the
        // device, with the Wi-Fi it belongs to, and take the way to our own listener along.
        let ip = address.ip().to_canonical();
        let polled = !system.can_end_accept() && !ip.is_loopback() && !ip.is_unspecified();
        if polled {
            socket.set_nonblocking(true)?;
        }
        let without_delay = system.set_nodelay(&socket).is_ok();
        Ok(Arc::new(Self {
            share: Mutex::new(Some(socket.try_clone()?)),
            socket: Mutex::new(Some(Arc::new(socket))),
            address,
            polled,
            without_delay,
            // More of those that poll would ask in vain more often.
            post: Post::new(if polled { 1 } else { ACCEPTORS_MAX }),
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

    /// A connection was accepted. One at a time may get through while descriptors are short, so it is
    /// over when it has been for a while.
    fn end_shortage(&self) {
        let mut short = lock(&self.short);
        if short.is_some_and(|last| last.elapsed() > BACKOFF_MAX) {
            *short = None;
            log::info!("accepting connections again");
        }
    }

    /// Where it can be reached from the device itself. The unspecified address stands for "any"; as a
    /// destination some platforms refuse it.
    fn own_addresses(&self) -> impl Iterator<Item = SocketAddr> {
        let own: &[IpAddr] = match self.address.ip() {
            ip if !ip.is_unspecified() => &[],
            IpAddr::V4(_) => &[IpAddr::V4(Ipv4Addr::LOCALHOST)],
            // Where it takes both, either may be switched off on the device.
            IpAddr::V6(_) => &[
                IpAddr::V6(Ipv6Addr::LOCALHOST),
                IpAddr::V4(Ipv4Addr::LOCALHOST),
            ],
        };
        let port = self.address.port();
        let itself = own.is_empty().then_some(self.address);
        itself
            .into_iter()
            .chain(own.iter().map(move |ip| SocketAddr::new(*ip, port)))
    }
}

impl Acceptors {
    pub(crate) fn new(service: Arc<Service>, system: Arc<dyn System>) -> Arc<Self> {
        Arc::new(Self { service, system })
    }

    /// Starts accepting on a bound socket.
    pub(crate) fn start(self: &Arc<Self>, socket: TcpListener) -> io::Result<Arc<Listener>> {
        let listener = Listener::new(socket, &*self.system)?;
        self.man(&listener)?;
        Ok(listener)
    }

    /// Ends a listener: whoever waits at `accept` returns. Waits for that, though not for ever.
    pub(crate) fn retire(&self, listener: &Listener) {
        listener.retired.store(true, Ordering::SeqCst);
        self.wake(listener, 0);
    }

    /// Has all threads come back from `accept` on a listener that is over, but for `own` of them.
    fn wake(&self, listener: &Listener, own: usize) {
        drop(lock(&listener.socket).take());
        // Those that sleep between two attempts.
        self.service.crew.notify();
        let share = lock(&listener.share).take();
        // Where it is gone, another thread is about this already; what is left is to wait.
        let ended = share.is_none_or(|share| self.system.end_accept(share).is_ok());
        let ended = ended || listener.polled;
        let is_deserted = || listener.post.waiting() <= own;
        let until = Instant::now() + WAKE_MAX;
        while !is_deserted() && Instant::now() < until {
            if !ended {
                // Each `accept` gets a connection of our own to return with.
                for _ in own..listener.post.waiting() {
                    let _ = self.knock(listener);
                }
            }
            let again = until.min(Instant::now() + WAKE_AGAIN);
            self.service.wait(again, is_deserted);
        }
    }

    /// Connects to a listener of our own. The error is that of its first address.
    fn knock(&self, listener: &Listener) -> io::Result<TcpStream> {
        let mut first = None;
        for address in listener.own_addresses() {
            match self.system.connect(&address) {
                Ok(stream) => return Ok(stream),
                Err(error) => first = first.or(Some(error)),
            }
        }
        Err(first.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into()))
    }

    /// Starts the first thread at `accept`.
    fn man(self: &Arc<Self>, listener: &Arc<Listener>) -> io::Result<()> {
        let crew = &self.service.crew;
        crew.enlist(&listener.post);
        self.spawn(listener)
            .inspect_err(|_| crew.dismiss(&listener.post))
    }

    /// Starts a thread at `accept`, which is counted already.
    fn spawn(self: &Arc<Self>, listener: &Arc<Listener>) -> io::Result<()> {
        let (acceptors, at) = (Arc::clone(self), Arc::clone(listener));
        self.system.spawn(Box::new(move || {
            IS_OURS.set(true);
            // The count must come down whatever happens, or the server could never be waited for. It
            // does so last: what the app gave is not held any longer when that wait is over.
            let _count = CountedThread(Arc::clone(&acceptors.service.crew));
            let (acceptors, at) = (acceptors, at);
            acceptors.run(&at);
        }))
    }

    /// One thread's life: accept, serve, and again.
    fn run(self: &Arc<Self>, listener: &Arc<Listener>) {
        let mut trouble = Trouble::default();
        loop {
            let socket = lock(&listener.socket)
                .clone()
                .filter(|_| !self.is_over(listener));
            let Some(socket) = socket else {
                let accepted = None;
                let mut work = Working {
                    acceptors: self,
                    listener,
                    accepted,
                };
                if self.service.crew.depart(&listener.post, &mut work) {
                    return;
                }
                continue;
            };
            let accepted = self.system.accept(&socket);
            drop(socket);
            if self.is_over(listener) {
                continue;
            }
            match accepted {
                Ok((stream, address)) => {
                    trouble = Trouble::default();
                    listener.end_shortage();
                    if self.take(listener, stream, address) {
                        return;
                    }
                }
                Err(error) => self.bear(listener, &error, &mut trouble),
            }
        }
    }

    /// Does what is to be done about an `accept` that failed, so that it is worth trying again.
    fn bear(&self, listener: &Listener, error: &io::Error, trouble: &mut Trouble) {
        let failure = Failure::of(error);
        if !matches!(failure, Failure::NobodyYet) {
            count(&self.service.counters.accept_failed);
        }
        match failure {
            Failure::NobodyYet => {
                self.pause(listener, trouble.poll);
                trouble.poll = (trouble.poll * 2).min(POLL_MAX);
            }
            Failure::OfConnection => {
                trouble.aborted = trouble.aborted.saturating_add(1);
                if trouble.aborted % ABORTED_PAUSE == 0 {
                    self.pause(listener, trouble.backoff);
                }
                if trouble.aborted % ABORTED_KNOCK == 0 {
                    self.doubt(listener, error, trouble);
                }
            }
            Failure::Shortage => {
                self.shortage(listener, error);
                if self.service.evict_stranger(Instant::now()) {
                    // Room is on its way, and whoever waits in the backlog may hold the token.
                    trouble.backoff = BACKOFF_MIN;
                }
                self.pause(listener, trouble.backoff);
                trouble.grow();
            }
            Failure::OfListener if trouble.failures < FAILURES_MAX && !is_final(error) => {
                trouble.failures += 1;
                self.pause(listener, trouble.backoff);
                trouble.grow();
            }
            Failure::OfListener => self.lose(listener, error),
        }
    }

    /// Connection after connection failed. On iOS a listener that the system took says no more than
    /// that, for ever; but so does one that somebody connects to and resets at once, again and again.
    /// A connection of our own, which is kept, tells them apart: a dead listener refuses it, and
    /// from a living one it comes out when those before it in the backlog have.
    fn doubt(&self, listener: &Listener, error: &io::Error, trouble: &mut Trouble) {
        match self.knock(listener) {
            Ok(stream) => trouble.knock = Some(stream),
            Err(refused) if refused.kind() == io::ErrorKind::ConnectionRefused => {
                return self.lose(listener, error);
            }
            Err(_) => {}
        }
        // If it does not come out either, there is nothing to hurry for.
        trouble.grow();
    }

    /// Sleeps, but not past the end of the listener.
    fn pause(&self, listener: &Listener, time: Duration) {
        let until = Instant::now() + time;
        self.service.wait(until, || self.is_over(listener));
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
        let accepted = Some((stream, address));
        let mut work = Working {
            acceptors: self,
            listener,
            accepted,
        };
        self.service.crew.take(&listener.post, &mut work)
    }

    fn let_in(
        &self,
        listener: &Listener,
        stream: TcpStream,
        address: SocketAddr,
    ) -> Option<Arc<Connection>> {
        // Many platforms have it inherit that from the listener.
        if listener.polled && stream.set_nonblocking(false).is_err() {
            count(&self.service.counters.shed);
            return None;
        }
        if !listener.without_delay {
            let _ = stream.set_nodelay(true);
        }
        self.service.arrive(Arc::new(stream), address.ip())
    }

    /// Serves a connection that was let in to its end, and ends it.
    pub(crate) fn serve(&self, connection: &Connection) {
        if !self.service.is_stopping() {
            // The driver guards every call into the app, so this is for a bug of ours: it costs one
            // connection, not a thread that others wait for.
            if call(|| connection::serve(&self.service, connection)).is_err() {
                log::error!("{}: the connection's driver panicked", connection.address);
            }
        }
        self.service.leave(connection);
    }

    fn shortage(&self, listener: &Listener, error: &io::Error) {
        if lock(&listener.short).replace(Instant::now()).is_none() {
            log::warn!("cannot accept connections for now: {error}");
        }
    }

    /// Gives a listener up, and says so once.
    fn lose(&self, listener: &Listener, error: &io::Error) {
        if listener.lost.swap(true, Ordering::SeqCst) {
            return;
        }
        log::error!("the listener on {} is lost: {error}", listener.address);
        // The app may make a new one at once, on the same port: all are off the old one before it
        // hears of this, and this thread is not waited for while it does.
        self.wake(listener, 1);
        self.service.crew.step_out(&listener.post);
        self.service.tell(&ServerEvent::ListenerLost {
            address: listener.address,
        });
        self.service.crew.step_in(&listener.post);
    }
}

/// What a thread has had of failures since its last connection.
struct Trouble {
    /// Failures for no known reason.
    failures: u32,
    /// Failures of the connections that were to be accepted.
    aborted: u32,
    backoff: Duration,
    poll: Duration,
    /// A connection of our own, which is somewhere in the backlog.
    knock: Option<TcpStream>,
}

impl Default for Trouble {
    fn default() -> Self {
        Self {
            failures: 0,
            aborted: 0,
            backoff: BACKOFF_MIN,
            poll: POLL_MIN,
            knock: None,
        }
    }
}

impl Trouble {
    fn grow(&mut self) {
        self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
    }
}

/// What a thread does with the connections of a listener.
struct Working<'a> {
    acceptors: &'a Arc<Acceptors>,
    listener: &'a Arc<Listener>,
    /// What `accept` gave.
    accepted: Option<(TcpStream, SocketAddr)>,
}

impl Work<Arc<Connection>> for Working<'_> {
    fn spawn(&mut self) -> io::Result<()> {
        self.acceptors.spawn(self.listener)
    }

    fn let_in(&mut self, error: Option<&io::Error>) -> Option<Arc<Connection>> {
        let (stream, address) = self.accepted.take()?;
        let service = &self.acceptors.service;
        // The system is out of threads. A stranger's will do; without one, shed what cannot be served.
        if let Some(error) = error.filter(|_| !service.evict_stranger(Instant::now())) {
            log::debug!("cannot start a thread: {error}");
            count(&service.counters.shed);
            return None;
        }
        self.acceptors.let_in(self.listener, stream, address)
    }

    fn is_gone(connection: &Arc<Connection>) -> bool {
        connection.cut.load(Ordering::Relaxed)
    }

    fn serve(&mut self, connection: Arc<Connection>) {
        self.acceptors.serve(&connection);
    }
}

struct CountedThread(Arc<Crew<Arc<Connection>>>);

impl Drop for CountedThread {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// What an `accept` that failed says.
enum Failure {
    /// No connection is there, where `accept` does not wait for one.
    NobodyYet,
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
            Kind::WouldBlock => Self::NobodyYet,
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
            | Kind::PermissionDenied => Self::OfConnection,
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

#[cfg(test)]
mod tests;
