//! Fetches from a peer.

use std::{
    io::{self, Write},
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use peer_core::fetch::{Version, Want};
pub use peer_core::transfer::RetryPolicy;
use peer_proto::Token;

pub use crate::pool::PoolLimits;
use crate::{
    base::Base,
    cancel::Cancel,
    client_connect::{Connect, TcpConnect},
    client_exchange::{BytesSink, Hooks, NoSink, Sink, WriterSink},
    client_transfer::{Fetched, RunningTransfer},
    error::{PeerError, Phase},
    pool::Pool,
    progress::{Progress, ProgressState},
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
/// [`Status(416)`](PeerError::Status). `Some(0)` fetches nothing but the total length. Without `len`
/// memory grows by what the peer sends, for as long as it sends.
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

/// A client of the one pool that all these functions share, so that they need not connect anew
/// for every range. They mend a connection that breaks in the content, and report everything else
/// at once.
fn shared(base: &str, token: &str) -> Result<PeerClient, PeerError> {
    static POOL: OnceLock<Arc<Pool>> = OnceLock::new();
    let pool = POOL.get_or_init(|| Arc::new(Pool::new(PoolLimits::default())));
    let builder = PeerClient::builder(base, token).retry(RetryPolicy::MEND);
    builder.build_with(Arc::clone(pool))
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
    retry: RetryPolicy,
    pool: PoolLimits,
    connect: Arc<dyn Connect>,
}

impl PeerClientBuilder {
    /// Sets how long to wait.
    #[must_use]
    pub const fn timeouts(mut self, timeouts: Timeouts) -> Self {
        self.timeouts = timeouts;
        self
    }

    /// Sets when to go on after a setback.
    #[must_use]
    pub const fn retry(mut self, retry: RetryPolicy) -> Self {
        self.retry = retry;
        self
    }

    /// Sets how many connections to keep for later requests.
    #[must_use]
    pub const fn pool(mut self, limits: PoolLimits) -> Self {
        self.pool = limits;
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
    /// [`PeerError::InvalidInput`] for a base or token that cannot be used; [`PeerError::Io`] of
    /// kind [`io::ErrorKind::Unsupported`] on a target without sockets.
    pub fn build(self) -> Result<PeerClient, PeerError> {
        let pool = Arc::new(Pool::new(self.pool));
        self.build_with(pool)
    }

    fn build_with(self, pool: Arc<Pool>) -> Result<PeerClient, PeerError> {
        if cfg!(all(target_family = "wasm", target_os = "unknown")) {
            // Besides sockets, std lacks a clock there: reading it would end the app before a
            // connection could be refused.
            let unsupported = io::ErrorKind::Unsupported.into();
            return Err(PeerError::network(Phase::Connect, unsupported));
        }
        let base = Base::parse(&self.base);
        let base = base.map_err(|error| PeerError::InvalidInput(error.to_string()))?;
        let token = Token::new(self.token);
        let token = token.map_err(|error| PeerError::InvalidInput(error.to_string()))?;
        Ok(PeerClient {
            shared: Arc::new(Shared {
                base,
                token,
                timeouts: self.timeouts,
                retry: self.retry,
                pool,
                connect: self.connect,
            }),
            cancel: None,
            progress: None,
        })
    }
}

impl std::fmt::Debug for PeerClientBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PeerClientBuilder")
            .field("base", &self.base)
            .field("timeouts", &self.timeouts)
            .field("retry", &self.retry)
            .field("pool", &self.pool)
            .finish_non_exhaustive()
    }
}

/// Fetches from one peer, over connections that it keeps. Cheap to clone; clones share settings
/// and connections.
#[derive(Clone)]
pub struct PeerClient {
    pub(crate) shared: Arc<Shared>,
    cancel: Option<Cancel>,
    progress: Option<Progress>,
}

pub(crate) struct Shared {
    pub(crate) base: Base,
    pub(crate) token: Token,
    pub(crate) timeouts: Timeouts,
    pub(crate) retry: RetryPolicy,
    pub(crate) pool: Arc<Pool>,
    pub(crate) connect: Arc<dyn Connect>,
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
            retry: RetryPolicy::default(),
            pool: PoolLimits::default(),
            connect: Arc::new(TcpConnect),
        }
    }

    /// A clone whose operations end when `cancel` is thrown.
    #[must_use]
    pub fn with_cancel(&self, cancel: &Cancel) -> Self {
        Self {
            cancel: Some(cancel.clone()),
            ..self.clone()
        }
    }

    /// A clone whose operations report to `progress`, one at a time.
    #[must_use]
    pub fn with_progress(&self, progress: &Progress) -> Self {
        Self {
            progress: Some(progress.clone()),
            ..self.clone()
        }
    }

    /// A clone that reports to nobody.
    pub(crate) fn without_progress(&self) -> Self {
        Self {
            progress: None,
            ..self.clone()
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
        let fetched = self.fetch(handle, start, len, &mut sink)?;
        Ok(FetchResult {
            total_len: fetched.complete_length,
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
        let fetched = self.fetch(handle, start, len, &mut WriterSink::new(writer))?;
        Ok(fetched.complete_length)
    }

    /// As the free function [`content_length`].
    ///
    /// # Errors
    /// [`PeerError`].
    pub fn content_length(&self, handle: &str) -> Result<Option<u64>, PeerError> {
        let fetched = self.fetch(handle, 0, Some(0), &mut NoSink)?;
        Ok(fetched.complete_length)
    }

    fn fetch(
        &self,
        handle: &str,
        start: u64,
        len: Option<u64>,
        sink: &mut dyn Sink,
    ) -> Result<Fetched, PeerError> {
        let want = match len {
            Some(0) => Want::Length,
            _ => Want::Content { start, len },
        };
        self.transfer(handle, want, None, sink)
    }

    /// Runs a transfer, of `version` if that is known, to its end.
    pub(crate) fn transfer(
        &self,
        handle: &str,
        want: Want,
        version: Option<Version>,
        sink: &mut dyn Sink,
    ) -> Result<Fetched, PeerError> {
        if let Some(progress) = &self.progress {
            progress.begin(0);
        }
        let whole = self.shared.timeouts.whole;
        let whole = whole.and_then(|whole| Instant::now().checked_add(whole));
        let mut running = RunningTransfer::new(want, version, self.shared.retry, whole);
        let result = running.run(self, handle, sink);
        self.hooks().enter(match &result {
            Ok(_) => ProgressState::Done,
            Err(_) => ProgressState::Failed,
        });
        result.map_err(PeerError::of_failure)
    }

    pub(crate) fn hooks(&self) -> Hooks<'_> {
        Hooks {
            cancel: self.cancel.as_ref(),
            progress: self.progress.as_ref(),
        }
    }
}
