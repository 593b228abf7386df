//! A server and its listeners.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, ToSocketAddrs},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use peer_core::{ServerConfig, admission::Limits};

use crate::{
    config::{Config, ServerEvent},
    error::PeerError,
    listener::{Acceptors, Listener, is_server_thread},
    service::{Service, lock},
    source::SourceResolver,
    stream::Stream,
    sync::{Mutex, Ordering},
    system::{Os, System},
    token_set::TokenGrant,
};

/// How long the port of a listener that was just closed may be found taken, and how often that is looked
/// at: starting a program takes milliseconds, and more where much else is going on.
const TAKEN_MAX: Duration = Duration::from_millis(500);
const TAKEN_PAUSE: Duration = Duration::from_millis(5);

/// Name of the token that a server is started with.
pub const FIRST_TOKEN: &str = "default";

/// Serves what its resolver gives to whoever holds its token.
///
/// Connections are threads, bounded in number. Dropping a server stops it: it accepts no more,
/// connections are closed, and its threads end; [`shutdown`](Self::shutdown) lets transfers finish
/// first.
pub struct PeerServer {
    service: Arc<Service>,
    acceptors: Arc<Acceptors>,
    listeners: Mutex<Vec<Arc<Listener>>>,
    /// Held by one rebind at a time.
    rebinding: Mutex<()>,
    first_address: SocketAddr,
}

/// A server's options, before it starts.
#[must_use = "a builder does nothing until it is started"]
pub struct PeerServerBuilder {
    config: Config,
    token: String,
    resolver: SourceResolver,
    sockets: Vec<TcpListener>,
}

impl PeerServerBuilder {
    /// Listens on the first of these addresses that can be bound. Call it again for a further
    /// listener.
    ///
    /// # Errors
    /// [`PeerError::Io`] when none of them can be bound.
    pub fn listen(mut self, address: impl ToSocketAddrs) -> Result<Self, PeerError> {
        self.sockets
            .push(TcpListener::bind(address).map_err(PeerError::Io)?);
        Ok(self)
    }

    /// Listens on `address`, on its port if that is free and on any other if not: for an app that
    /// wants the port its peers know from last time.
    ///
    /// # Errors
    /// [`PeerError::Io`] when the address cannot be bound on any port.
    pub fn listen_preferring(mut self, address: SocketAddr) -> Result<Self, PeerError> {
        let any_port = SocketAddr::new(address.ip(), 0);
        let socket = TcpListener::bind(address).or_else(|_| TcpListener::bind(any_port));
        self.sockets.push(socket.map_err(PeerError::Io)?);
        Ok(self)
    }

    /// Deadlines, in place of [`ServerConfig::default`].
    pub const fn deadlines(mut self, deadlines: ServerConfig) -> Self {
        self.config.deadlines = deadlines;
        self
    }

    /// Budgets of connections, in place of [`Limits::default`]. Threads are at most the sum of
    /// strangers and paired connections, and 8 for each listener.
    pub const fn limits(mut self, limits: Limits) -> Self {
        self.config.limits = limits;
        self
    }

    /// Limits the content of all transfers together to so many bytes a second, so that sharing does
    /// not stall what this device plays itself. Sources of [`Priority::Prefetch`] get what those of
    /// [`Priority::Playback`] leave. Without it the network decides.
    ///
    /// [`Priority::Prefetch`]: peer_core::pace::Priority::Prefetch
    /// [`Priority::Playback`]: peer_core::pace::Priority::Playback
    pub const fn rate_limit(mut self, bytes_per_second: u64) -> Self {
        self.config.rate = Some(bytes_per_second);
        self
    }

    /// Limits the content of each transfer to so many bytes a second.
    pub const fn transfer_rate_limit(mut self, bytes_per_second: u64) -> Self {
        self.config.transfer_rate = Some(bytes_per_second);
        self
    }

    /// Lets web pages of `origin` read what this server answers. Call it once for each origin;
    /// without it, no page of another origin can read anything.
    ///
    /// The origin is as browsers write it, as in `https://player.example` or
    /// `http://localhost:8080`. It replaces no token: a page needs one like every peer, and sends
    /// it with `fetch`. What works from which page is told in `docs/WEB.md`.
    ///
    /// # Errors
    /// [`PeerError::InvalidInput`] for what no browser sends, and for `*` and `null`, which stand
    /// for every page there is.
    pub fn allow_origin(mut self, origin: &str) -> Result<Self, PeerError> {
        self.config
            .origins
            .allow(origin)
            .map_err(|error| PeerError::InvalidInput(format!("origin {origin:?}: {error}")))?;
        Ok(self)
    }

    /// Has `hook` called with what happens. See [`ServerEvent`].
    pub fn on_event(mut self, hook: impl Fn(&ServerEvent<'_>) + Send + Sync + 'static) -> Self {
        self.config.hook = Some(Arc::new(hook));
        self
    }

    /// Starts the server. Without a listener it serves what is given to
    /// [`PeerServer::serve_stream`].
    ///
    /// # Errors
    /// [`PeerError::InvalidInput`] for a token that is empty or cannot be sent in a field,
    /// [`PeerError::Io`] when no thread can be started.
    pub fn start(self) -> Result<PeerServer, PeerError> {
        self.start_on(Arc::new(Os))
    }

    /// Starts it on a system of one's own.
    pub(crate) fn start_on(self, system: Arc<dyn System>) -> Result<PeerServer, PeerError> {
        let grant = TokenGrant::new(self.token)
            .map_err(|error| PeerError::InvalidInput(error.to_string()))?;
        PeerServer::start_with(
            self.config,
            self.resolver,
            self.sockets,
            Some(grant),
            system,
        )
    }
}

impl fmt::Debug for PeerServerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerServerBuilder")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl PeerServer {
    /// Starts a server with its first token, or with none.
    pub(crate) fn start_with(
        config: Config,
        resolver: SourceResolver,
        sockets: Vec<TcpListener>,
        grant: Option<TokenGrant>,
        system: Arc<dyn System>,
    ) -> Result<Self, PeerError> {
        let service = Arc::new(Service::new(config, resolver));
        if let Some(grant) = grant {
            service.tokens.add(FIRST_TOKEN, grant);
        }
        let acceptors = Acceptors::new(Arc::clone(&service), system);
        let mut server = Self {
            service,
            acceptors,
            listeners: Mutex::default(),
            rebinding: Mutex::default(),
            first_address: SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0),
        };
        // Whatever fails: what was started until then ends with `server`.
        for (n, socket) in sockets.into_iter().enumerate() {
            let listener = server.acceptors.start(socket).map_err(PeerError::Io)?;
            if n == 0 {
                server.first_address = listener.address();
            }
            lock(&server.listeners).push(listener);
        }
        Ok(server)
    }

    /// What the server's connections share.
    pub(crate) fn service(&self) -> &Service {
        &self.service
    }

    /// Serves on `bind_addr`, with the defaults.
    ///
    /// # Errors
    /// [`PeerError::Io`] when the address cannot be bound or no thread can be started,
    /// [`PeerError::InvalidInput`] for a token that is empty or cannot be sent in a field.
    pub fn start(
        bind_addr: impl ToSocketAddrs,
        token: impl Into<String>,
        resolver: SourceResolver,
    ) -> Result<Self, PeerError> {
        Self::builder(token, resolver).listen(bind_addr)?.start()
    }

    /// A server with options.
    pub fn builder(token: impl Into<String>, resolver: SourceResolver) -> PeerServerBuilder {
        let config = Config::default();
        PeerServerBuilder {
            config,
            token: token.into(),
            resolver,
            sockets: Vec::new(),
        }
    }

    /// The address of the first listener, as it was when the server started.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.first_address
    }

    /// The port of [`local_addr`](Self::local_addr).
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.first_address.port()
    }

    /// Serves one connection that was made elsewhere, on this thread, to its end. It is admitted,
    /// limited and counted like an accepted one, and hung up in the end, whether it was let in or
    /// not.
    pub fn serve_stream(&self, stream: Arc<dyn Stream>, address: IpAddr) {
        if let Some(connection) = self.service.arrive(stream, address) {
            self.acceptors.serve(&connection);
        }
    }

    /// Whether each listener still takes connections, by its address.
    #[must_use]
    pub fn status(&self) -> Vec<ListenerStatus> {
        let listeners = lock(&self.listeners);
        let status = |listener: &Arc<Listener>| ListenerStatus {
            address: listener.address(),
            listening: !listener.is_lost(),
        };
        listeners.iter().map(status).collect()
    }

    /// Replaces all listeners by one on `address`: another one, or the same again. Tokens,
    /// resolver and running transfers are kept. Returns the address that was bound.
    ///
    /// # Errors
    /// [`PeerError::Io`] when the address cannot be bound or no thread can be started. The server
    /// is then without a listener; call it again.
    pub fn rebind(&self, address: impl ToSocketAddrs) -> Result<SocketAddr, PeerError> {
        let _turn = lock(&self.rebinding);
        // First the old ones, since the new one may want their port.
        let retired = self.retire_all();
        let listener = address
            .to_socket_addrs()
            .and_then(|addresses| bind_after(&retired, &addresses.collect::<Vec<_>>()))
            .and_then(|socket| self.acceptors.start(socket))
            .map_err(PeerError::Io)?;
        let address = listener.address();
        lock(&self.listeners).push(listener);
        Ok(address)
    }

    /// Ends all listeners, which were at these addresses. The list is not locked meanwhile: the app may
    /// ask for it in its hook.
    fn retire_all(&self) -> Vec<SocketAddr> {
        let listeners = std::mem::take(&mut *lock(&self.listeners));
        for listener in &listeners {
            self.acceptors.retire(listener);
        }
        let addresses = listeners.iter().map(|listener| listener.address());
        addresses.collect()
    }

    /// Adds a token under a name: one per paired device, so that each can be taken back. A name
    /// may have several, which is how one is rotated: add the new one, and when the device has it,
    /// call [`remove_older_tokens`](Self::remove_older_tokens).
    pub fn add_token(&self, name: &str, grant: TokenGrant) {
        self.service.tokens.add(name, grant);
    }

    /// Takes back all tokens of a name, and cuts the connections that used them. Returns how many
    /// connections were cut.
    pub fn revoke(&self, name: &str) -> usize {
        self.service.revoke(&self.service.tokens.remove(name))
    }

    /// Takes back all tokens of a name but the one added last, and cuts the connections that used
    /// them. Returns how many connections were cut.
    pub fn remove_older_tokens(&self, name: &str) -> usize {
        self.service.revoke(&self.service.tokens.remove_older(name))
    }

    /// The names under which there are tokens. The first token's is [`FIRST_TOKEN`].
    #[must_use]
    pub fn token_names(&self) -> Vec<String> {
        self.service.tokens.names()
    }

    /// What the server does, and has done, in numbers.
    #[must_use]
    pub fn stats(&self) -> ServerStats {
        let [strangers, idle, busy] = self.service.standings();
        let counters = &self.service.counters;
        let read = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        ServerStats {
            strangers,
            idle,
            busy,
            threads: self.service.crew.threads(),
            accepted: read(&counters.accepted),
            requests: read(&counters.requests),
            transfers: read(&counters.transfers),
            transfers_running: read(&counters.transfers_running),
            transfers_complete: read(&counters.transfers_complete),
            content_bytes: read(&counters.content_bytes),
            tokens_refused: read(&counters.tokens_refused),
            evicted: read(&counters.evicted),
            overloaded: read(&counters.overloaded),
            shed: read(&counters.shed),
            timed_out: read(&counters.timed_out),
            hung_up: read(&counters.hung_up),
            source_failed: read(&counters.source_failed),
            accept_failed: read(&counters.accept_failed),
        }
    }

    /// Stops the server: no more connections, idle ones close at once, running transfers may
    /// finish within `grace` and are cut then. Returns when all of its threads have ended, except
    /// those that a callback of the app holds up for more than a second after that.
    pub fn shutdown(self, grace: Duration) -> Shutdown {
        self.stop(grace)
    }

    pub(crate) fn stop(&self, grace: Duration) -> Shutdown {
        if self.service.is_stopping() {
            return Shutdown {
                cut: 0,
                all_threads_ended: true,
            };
        }
        self.service.draining.store(true, Ordering::SeqCst);
        self.retire_all();
        // A thread of the server cannot wait for itself: a resolver that drops its server.
        let own = usize::from(is_server_thread());
        let (cut, ended) = self.service.wind_up(own, grace);
        Shutdown {
            cut,
            all_threads_ended: ended,
        }
    }
}

/// Binds one of `addresses`, where listeners at the addresses `retired` have just been closed.
///
/// That they are closed is not always the end of them: a program that the app is about to start has
/// shares of all sockets until it runs.
fn bind_after(retired: &[SocketAddr], addresses: &[SocketAddr]) -> io::Result<TcpListener> {
    let was_ours = |address: &SocketAddr| retired.iter().any(|own| own.port() == address.port());
    let until = Instant::now() + TAKEN_MAX;
    loop {
        match TcpListener::bind(addresses) {
            Err(error)
                if error.kind() == io::ErrorKind::AddrInUse
                    && addresses.iter().any(was_ours)
                    && Instant::now() < until =>
            {
                thread::sleep(TAKEN_PAUSE);
            }
            bound => return bound,
        }
    }
}

impl Drop for PeerServer {
    fn drop(&mut self) {
        self.stop(Duration::ZERO);
    }
}

impl fmt::Debug for PeerServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerServer")
            .field("address", &self.first_address)
            .finish_non_exhaustive()
    }
}

/// How a server's end went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Shutdown {
    /// Connections that were cut because their transfers did not finish in time.
    pub cut: usize,
    /// Whether no thread of the server is left. One that is blocked in the app's own resolver or
    /// source ends when that returns.
    pub all_threads_ended: bool,
}

/// Whether a listener lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListenerStatus {
    /// The address it listens, or listened, on.
    pub address: SocketAddr,
    /// Whether it still takes connections. If not: [`PeerServer::rebind`].
    pub listening: bool,
}

/// A server in numbers: what there is now, and counts since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerStats {
    /// Connections now that have not shown the token.
    pub strangers: usize,
    /// Connections now that have, and wait for their next request.
    pub idle: usize,
    /// Connections now that are being served.
    pub busy: usize,
    /// Threads now.
    pub threads: usize,
    /// Connections accepted.
    pub accepted: u64,
    /// Requests with a valid token and a target that names a handle.
    pub requests: u64,
    /// Transfers begun.
    pub transfers: u64,
    /// Transfers running now.
    pub transfers_running: u64,
    /// Transfers of which every byte was sent.
    pub transfers_complete: u64,
    /// Content bytes handed to the network.
    pub content_bytes: u64,
    /// Requests with a wrong token.
    pub tokens_refused: u64,
    /// Connections closed to make room for others.
    pub evicted: u64,
    /// Requests answered with 503, since there was no room and nobody to give way.
    pub overloaded: u64,
    /// Connections closed unserved, for want of a thread or of any budget.
    pub shed: u64,
    /// Connections ended by a deadline.
    pub timed_out: u64,
    /// Connections that the peer ended in the middle of something. Every seek of every player does.
    pub hung_up: u64,
    /// Connections cut because a source failed, ended early or changed.
    pub source_failed: u64,
    /// Failed calls of `accept`.
    pub accept_failed: u64,
}
