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
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{
    callback::call,
    config::{ACCEPTORS_MAX, ServerEvent},
    connection,
    service::{Connection, Service, count, lock},
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
    system: Arc<dyn System>,
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

    /// Threads that may wait at it beyond those that serve.
    const fn acceptors_max(&self) -> usize {
        // More of them would ask in vain more often.
        if self.polled { 1 } else { ACCEPTORS_MAX }
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
        let limits = service.config.limits;
        let threads_max = limits
            .strangers
            .saturating_add(limits.paired)
            .saturating_add(ACCEPTORS_MAX);
        Arc::new(Self {
            service,
            system,
            threads_max,
            aside: Mutex::default(),
        })
    }

    /// Starts accepting on a bound socket.
    pub(crate) fn start(self: &Arc<Self>, socket: TcpListener) -> io::Result<Arc<Listener>> {
        let listener = Listener::new(socket, &*self.system)?;
        self.spawn(&listener)?;
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
        self.service.notify();
        let share = lock(&listener.share).take();
        // Where it is gone, another thread is about this already; what is left is to wait.
        let ended = share.is_none_or(|share| self.system.end_accept(share).is_ok());
        let ended = ended || listener.polled;
        let is_deserted = || listener.acceptors.load(Ordering::SeqCst) <= own;
        let until = Instant::now() + WAKE_MAX;
        while !is_deserted() && Instant::now() < until {
            if !ended {
                // Each `accept` gets a connection of our own to return with.
                for _ in own..listener.acceptors.load(Ordering::SeqCst) {
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

    /// Starts one more thread at `accept`.
    fn spawn(self: &Arc<Self>, listener: &Arc<Listener>) -> io::Result<()> {
        if !self.service.begin_thread(self.threads_max) {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        listener.acceptors.fetch_add(1, Ordering::SeqCst);
        let (acceptors, at) = (Arc::clone(self), Arc::clone(listener));
        let started = self.system.spawn(Box::new(move || {
            IS_OURS.set(true);
            // The count must come down whatever happens, or the server could never be waited for.
            let _count = CountedThread(Arc::clone(&acceptors.service));
            acceptors.run(&at);
        }));
        if let Err(error) = started {
            listener.acceptors.fetch_sub(1, Ordering::SeqCst);
            self.service.end_thread();
            return Err(error);
        }
        Ok(())
    }

    /// One thread's life: accept, serve, and again.
    fn run(self: &Arc<Self>, listener: &Arc<Listener>) {
        let mut trouble = Trouble::default();
        loop {
            let socket = lock(&listener.socket)
                .clone()
                .filter(|_| !self.is_over(listener));
            let Some(socket) = socket else {
                listener.acceptors.fetch_sub(1, Ordering::SeqCst);
                return;
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
                if self.service.evict_stranger() {
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
            _ => self.let_in(listener, stream, address),
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
            let is_spare = waiting >= listener.acceptors_max();
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

    /// Serves a connection that only this thread and the list of all have: leaving that closes it.
    fn serve(&self, connection: &Connection) {
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
        listener.acceptors.fetch_sub(1, Ordering::SeqCst);
        self.service.tell(&ServerEvent::ListenerLost {
            address: listener.address,
        });
        listener.acceptors.fetch_add(1, Ordering::SeqCst);
    }

    /// Closes what was put aside and never served.
    pub(crate) fn drop_aside(&self) {
        while let Some(connection) = self.next_aside() {
            self.service.leave(&connection);
        }
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

struct CountedThread(Arc<Service>);

impl Drop for CountedThread {
    fn drop(&mut self) {
        self.0.end_thread();
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
