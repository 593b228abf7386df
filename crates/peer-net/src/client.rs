//! Fetches from a peer.

use std::{
    io::{self, Write},
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use peer_core::fetch::{
    Fetch, FetchDeadline, FetchDone, FetchError, FetchRequest, FetchTimeouts, Want,
};
use peer_proto::Token;

use crate::{
    base::Base,
    client_connect::{Connect, Connection, TcpConnect},
    client_exchange::{BytesSink, Failure, NoSink, Sink, WriterSink, exchange},
    error::{PeerError, Phase},
};

/// A range of a handle's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchResult {
    /// Length of the whole source, if the peer knows it.
    pub total_len: Option<u64>,
    /// The bytes of the range: fewer than asked for only where the source ends.
    pub bytes: Vec<u8>,
}

/// Fetches `len` bytes of a handle from offset `start`, or all to its end.
///
/// `base` is `host:port`: an IPv4 address, `[IPv6]`, `[IPv6%scope]` or a name. A range that goes
/// past the end is cut there; one that begins at the end or behind it is
/// [`Status(416)`](PeerError::Status). `Some(0)` fetches nothing but the total length.
///
/// # Errors
/// [`PeerError`]. Whatever is returned as `Ok` is complete.
pub fn fetch_range(
    base: &str,
    token: &str,
    handle: &str,
    start: u64,
    len: Option<u64>,
) -> Result<FetchResult, PeerError> {
    shared(base, token)?.fetch_range(handle, start, len)
}

/// Fetches like [`fetch_range`], into a writer. Returns the total length, if the peer knows it.
///
/// # Errors
/// [`PeerError`]; the writer's own errors are [`PeerError::Io`]. After an error the writer holds
/// a part of what was asked for, from its beginning.
pub fn fetch_to_writer(
    base: &str,
    token: &str,
    handle: &str,
    start: u64,
    len: Option<u64>,
    writer: &mut dyn Write,
) -> Result<Option<u64>, PeerError> {
    shared(base, token)?.fetch_to_writer(handle, start, len, writer)
}

/// Asks how long a handle's source is. `None`: the peer does not know.
///
/// # Errors
/// [`PeerError`].
pub fn content_length(base: &str, token: &str, handle: &str) -> Result<Option<u64>, PeerError> {
    shared(base, token)?.content_length(handle)
}

fn shared(base: &str, token: &str) -> Result<PeerClient, PeerError> {
    static CONNECT: OnceLock<Arc<dyn Connect>> = OnceLock::new();
    let connect = CONNECT.get_or_init(|| Arc::new(TcpConnect));
    PeerClient::builder(base, token)
        .connector(Arc::clone(connect))
        .build()
}

/// How long a client waits. Every field can be `None`: for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Timeouts {
    /// For a connection, name look-up included. 5 s unless set.
    pub connect: Option<Duration>,
    /// From the request to the end of the answer's head. 15 s unless set.
    pub head: Option<Duration>,
    /// For the next byte of content. 15 s unless set.
    pub stall: Option<Duration>,
    /// For an operation from its beginning to its end. `None` unless set.
    pub whole: Option<Duration>,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Some(Duration::from_secs(5)),
            head: Some(Duration::from_secs(15)),
            stall: Some(Duration::from_secs(15)),
            whole: None,
        }
    }
}

/// Settings for a [`PeerClient`].
#[derive(Clone)]
pub struct PeerClientBuilder {
    base: String,
    token: String,
    timeouts: Timeouts,
    connect: Arc<dyn Connect>,
}

impl PeerClientBuilder {
    /// Sets how long to wait.
    #[must_use]
    pub const fn timeouts(mut self, timeouts: Timeouts) -> Self {
        self.timeouts = timeouts;
        self
    }

    /// Sets how connections are made: over TCP unless told otherwise.
    #[must_use]
    pub fn connector(mut self, connect: Arc<dyn Connect>) -> Self {
        self.connect = connect;
        self
    }

    /// Makes the client. Nothing is sent yet.
    ///
    /// # Errors
    /// [`PeerError::InvalidInput`] for a base or token that cannot be used.
    pub fn build(self) -> Result<PeerClient, PeerError> {
        let base = Base::parse(&self.base);
        let base = base.map_err(|error| PeerError::InvalidInput(error.to_string()))?;
        let token = Token::new(self.token);
        let token = token.map_err(|error| PeerError::InvalidInput(error.to_string()))?;
        Ok(PeerClient {
            shared: Arc::new(Shared {
                base,
                token,
                timeouts: self.timeouts,
                connect: self.connect,
            }),
        })
    }
}

impl std::fmt::Debug for PeerClientBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PeerClientBuilder")
            .field("base", &self.base)
            .field("timeouts", &self.timeouts)
            .finish_non_exhaustive()
    }
}

/// Fetches from one peer. Cheap to clone; clones share their settings.
#[derive(Clone)]
pub struct PeerClient {
    shared: Arc<Shared>,
}

struct Shared {
    base: Base,
    token: Token,
    timeouts: Timeouts,
    connect: Arc<dyn Connect>,
}

impl std::fmt::Debug for PeerClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PeerClient")
            .field("base", &self.shared.base.host_field())
            .finish_non_exhaustive()
    }
}

impl PeerClient {
    /// Begins the settings of a client for the peer at `base`, which expects `token`.
    #[must_use]
    pub fn builder(base: impl Into<String>, token: impl Into<String>) -> PeerClientBuilder {
        PeerClientBuilder {
            base: base.into(),
            token: token.into(),
            timeouts: Timeouts::default(),
            connect: Arc::new(TcpConnect),
        }
    }

    /// As the free function [`fetch_range`].
    ///
    /// # Errors
    /// [`PeerError`].
    pub fn fetch_range(
        &self,
        handle: &str,
        start: u64,
        len: Option<u64>,
    ) -> Result<FetchResult, PeerError> {
        let mut sink = BytesSink::default();
        let total_len = self.fetch(handle, start, len, &mut sink)?;
        Ok(FetchResult {
            total_len,
            bytes: sink.into_bytes(),
        })
    }

    /// As the free function [`fetch_to_writer`].
    ///
    /// # Errors
    /// [`PeerError`].
    pub fn fetch_to_writer(
        &self,
        handle: &str,
        start: u64,
        len: Option<u64>,
        writer: &mut dyn Write,
    ) -> Result<Option<u64>, PeerError> {
        self.fetch(handle, start, len, &mut WriterSink::new(writer))
    }

    /// As the free function [`content_length`].
    ///
    /// # Errors
    /// [`PeerError`].
    pub fn content_length(&self, handle: &str) -> Result<Option<u64>, PeerError> {
        self.fetch(handle, 0, Some(0), &mut NoSink)
    }

    fn fetch(
        &self,
        handle: &str,
        start: u64,
        len: Option<u64>,
        sink: &mut dyn Sink,
    ) -> Result<Option<u64>, PeerError> {
        let want = match len {
            Some(0) => Want::Length,
            _ => Want::Content { start, len },
        };
        let whole = self.shared.timeouts.whole;
        let deadline = whole.and_then(|whole| Instant::now().checked_add(whole));
        let done = match self.attempt(handle, want, false, deadline, sink) {
            // Published peers refuse every range of a source that is empty or of unknown length.
            Err(Failure::Fetch(FetchError::RangeNotSatisfiable { .. }))
                if start == 0 || want == Want::Length =>
            {
                self.attempt(handle, want, true, deadline, sink)
            }
            result => result,
        }?;
        if done.short {
            return Err(PeerError::Truncated {
                expected: None,
                received: done.received,
            });
        }
        Ok(done.complete_length)
    }

    fn attempt(
        &self,
        handle: &str,
        want: Want,
        without_range: bool,
        deadline: Option<Instant>,
        sink: &mut dyn Sink,
    ) -> Result<FetchDone, Failure> {
        let shared = &*self.shared;
        let mut connection = self.connect(deadline)?;
        let request = FetchRequest {
            host: shared.base.host_field(),
            token: &shared.token,
            handle,
            want,
            without_range,
            version: None,
        };
        let timeouts = FetchTimeouts {
            head: shared.timeouts.head,
            stall: shared.timeouts.stall,
            whole: deadline,
        };
        let mut fetch = Fetch::new(&request, timeouts, Instant::now());
        let result = exchange(&mut fetch, &mut connection, sink);
        connection.stream().hang_up();
        result
    }

    fn connect(&self, whole: Option<Instant>) -> Result<Connection, Failure> {
        let shared = &*self.shared;
        let addresses = shared.base.resolve();
        let addresses = addresses.map_err(|error| Failure::Network(Phase::Resolve, error))?;
        let timeout = shared.timeouts.connect;
        let own = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let deadline = match (own, whole) {
            (Some(own), Some(whole)) => Some(own.min(whole)),
            (own, whole) => own.or(whole),
        };
        let which = if deadline.is_some() && deadline == whole {
            FetchDeadline::Whole
        } else {
            FetchDeadline::Connect
        };
        let mut last = None;
        for (index, address) in addresses.iter().enumerate() {
            // Each address gets its share, so that one that is silent leaves time for the next.
            let left = deadline.map(|deadline| {
                deadline.saturating_duration_since(Instant::now())
                    / (addresses.len() - index) as u32
            });
            if left.is_some_and(|left| left.is_zero()) {
                break;
            }
            match shared.connect.connect(*address, left) {
                Ok(stream) => return Ok(Connection::new(stream)),
                Err(error) => last = Some(error),
            }
        }
        Err(match last {
            Some(error) if error.kind() != io::ErrorKind::TimedOut => {
                Failure::Network(Phase::Connect, error)
            }
            _ => Failure::Fetch(FetchError::TimedOut(which)),
        })
    }
}
