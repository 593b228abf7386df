//! Fetches from a peer.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    io::{self, Write},
    sync::{Arc, OnceLock},
    thread,
    time::{Duration, Instant},
};

pub use peer_core::transfer::RetryPolicy;
use peer_core::{
    fetch::{
        Fetch, FetchDeadline, FetchDone, FetchError, FetchRequest, FetchTimeouts, Version, Want,
    },
    transfer::{Attempt, AttemptEnd, Setback, Transfer, TransferOutput},
};
use peer_proto::Token;

pub use crate::pool::PoolLimits;
use crate::{
    base::Base,
    cancel::Cancel,
    client_connect::{Connect, Connection, NoConnection, TcpConnect, dial},
    client_exchange::{BytesSink, Failure, Hooks, NoSink, Sink, WriterSink, exchange},
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
    /// [`PeerError::InvalidInput`] for a base or token that cannot be used.
    pub fn build(self) -> Result<PeerClient, PeerError> {
        let pool = Arc::new(Pool::new(self.pool));
        self.build_with(pool)
    }

    fn build_with(self, pool: Arc<Pool>) -> Result<PeerClient, PeerError> {
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
    shared: Arc<Shared>,
    cancel: Option<Cancel>,
    progress: Option<Progress>,
}

struct Shared {
    base: Base,
    token: Token,
    timeouts: Timeouts,
    retry: RetryPolicy,
    pool: Arc<Pool>,
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
        self.transfer(handle, want, None, self.shared.retry, sink)
    }

    /// Runs a transfer, of `version` if that is known, to its end.
    pub(crate) fn transfer(
        &self,
        handle: &str,
        want: Want,
        version: Option<Version>,
        retry: RetryPolicy,
        sink: &mut dyn Sink,
    ) -> Result<Fetched, PeerError> {
        if let Some(progress) = &self.progress {
            progress.begin();
        }
        let result = self.run(handle, want, version, retry, sink);
        self.hooks().enter(match &result {
            Ok(_) => ProgressState::Done,
            Err(_) => ProgressState::Failed,
        });
        result.map_err(PeerError::from)
    }

    fn run(
        &self,
        handle: &str,
        want: Want,
        version: Option<Version>,
        retry: RetryPolicy,
        sink: &mut dyn Sink,
    ) -> Result<Fetched, Failure> {
        let start = Instant::now();
        let whole = self.shared.timeouts.whole;
        let whole = whole.and_then(|whole| start.checked_add(whole));
        let mut transfer = Transfer::new(want, version, retry, whole, seed(), start);
        loop {
            match transfer.poll_output() {
                TransferOutput::Attempt(attempt) => {
                    let end = self.attempt(handle, &attempt, whole, sink)?;
                    transfer.handle_attempt(Instant::now(), end);
                    if let Some(progress) = &self.progress {
                        progress.set_retries(transfer.retries());
                    }
                }
                TransferOutput::Wait { until } => {
                    self.hooks().enter(ProgressState::Pausing);
                    self.pause(until)?;
                    transfer.handle_waited(Instant::now());
                }
                TransferOutput::Done { complete_length } => {
                    return Ok(Fetched { complete_length });
                }
                TransferOutput::Failed => break,
            }
        }
        Err(match transfer.into_setback() {
            Some(Setback::Network((phase, error))) => Failure::Network(phase, error),
            Some(Setback::Fetch(error)) => Failure::Fetch(error),
            None => unreachable!("a failed transfer has its setback"),
        })
    }

    fn pause(&self, until: Instant) -> Result<(), Failure> {
        match &self.cancel {
            Some(cancel) => {
                cancel.wait_for::<()>(Some(until), || None)?;
            }
            None => thread::sleep(until.saturating_duration_since(Instant::now())),
        }
        Ok(())
    }

    /// Makes one attempt. Fails only with what no further attempt can help.
    fn attempt(
        &self,
        handle: &str,
        attempt: &Attempt,
        whole: Option<Instant>,
        sink: &mut dyn Sink,
    ) -> Result<AttemptEnd<(Phase, io::Error)>, Failure> {
        let shared = &*self.shared;
        let request = FetchRequest {
            host: shared.base.host_field(),
            token: &shared.token,
            handle,
            want: attempt.want,
            without_range: attempt.without_range,
            version: attempt.version,
        };
        let mut kept = shared.pool.take(&shared.base, Instant::now());
        loop {
            let was_kept = kept.is_some();
            let connection = match kept.take() {
                Some(connection) => Ok(connection),
                None => self.connect(attempt.answer_by, whole),
            };
            let mut connection = match connection {
                Ok(connection) => connection,
                Err(failure) => return set_back(failure, None),
            };
            let now = Instant::now();
            let left = attempt
                .answer_by
                .map(|answer_by| answer_by.saturating_duration_since(now));
            let timeouts = FetchTimeouts {
                head: shorter(shared.timeouts.head, left),
                stall: shared.timeouts.stall,
                whole,
            };
            let mut fetch = Fetch::new(&request, timeouts, now);
            let result = exchange(&mut fetch, &mut connection, sink, self.hooks());
            return match result {
                Ok(done) => {
                    if done.reusable {
                        shared.pool.put(&shared.base, connection, Instant::now());
                    }
                    Ok(attempt_end(&fetch, Ok(done)))
                }
                // The peer may have closed the kept connection before it saw the request.
                Err(Failure::Network(..) | Failure::Fetch(FetchError::NoAnswer))
                    if was_kept && !fetch.has_begun() =>
                {
                    continue;
                }
                Err(failure) => set_back(failure, Some(&fetch)),
            };
        }
    }

    fn connect(
        &self,
        answer_by: Option<Instant>,
        whole: Option<Instant>,
    ) -> Result<Connection, Failure> {
        let shared = &*self.shared;
        self.hooks().enter(ProgressState::Connecting);
        let timeout = shared.timeouts.connect;
        let own = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let deadline = shorter(shorter(own, answer_by), whole);
        let dialled = dial(
            &shared.connect,
            &shared.base,
            deadline,
            self.cancel.as_ref(),
        );
        dialled.map_err(|error| match error {
            NoConnection::Failed(phase, error) => Failure::Network(phase, error),
            NoConnection::TimedOut => Failure::Fetch(FetchError::TimedOut(
                if whole.is_some_and(|whole| Instant::now() >= whole) {
                    FetchDeadline::Whole
                } else {
                    FetchDeadline::Connect
                },
            )),
            NoConnection::Cancelled => Failure::Cancelled,
        })
    }

    fn hooks(&self) -> Hooks<'_> {
        Hooks {
            cancel: self.cancel.as_ref(),
            progress: self.progress.as_ref(),
        }
    }
}

/// A transfer that went well.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fetched {
    pub(crate) complete_length: Option<u64>,
}

type NetworkError = (Phase, io::Error);

fn attempt_end(
    fetch: &Fetch,
    result: Result<FetchDone, Setback<NetworkError>>,
) -> AttemptEnd<NetworkError> {
    AttemptEnd {
        answer: fetch.answer().copied(),
        received: fetch.received(),
        progressed: fetch.progressed(),
        result,
    }
}

/// A failure as a setback of the transfer, unless it is the end of it.
fn set_back(failure: Failure, fetch: Option<&Fetch>) -> Result<AttemptEnd<NetworkError>, Failure> {
    let setback = match failure {
        Failure::Fetch(error) => Setback::Fetch(error),
        Failure::Network(phase, error) => Setback::Network((phase, error)),
        Failure::Sink(_) | Failure::Cancelled => return Err(failure),
    };
    Ok(match fetch {
        Some(fetch) => attempt_end(fetch, Err(setback)),
        None => AttemptEnd {
            answer: None,
            received: 0,
            progressed: None,
            result: Err(setback),
        },
    })
}

/// The lesser of two bounds, where `None` is none.
fn shorter<T: Ord>(a: Option<T>, b: Option<T>) -> Option<T> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// A number that differs from process to process, and from call to call.
fn seed() -> u64 {
    RandomState::new().build_hasher().finish()
}
