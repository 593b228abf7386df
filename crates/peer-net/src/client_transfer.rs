//! Carries out a [`Transfer`]: makes its attempts, over kept connections or new ones.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    io, thread,
    time::Instant,
};

use peer_core::{
    fetch::{
        Answer, Fetch, FetchDeadline, FetchDone, FetchError, FetchRequest, FetchTimeouts, Version,
        Want,
    },
    transfer::{Attempt, AttemptEnd, RetryPolicy, Setback, Transfer, TransferOutput},
};

use crate::{
    client::PeerClient,
    client_connect::{Connection, NoConnection, dial},
    client_exchange::{Failure, Sink, exchange},
    error::Phase,
    progress::ProgressState,
};

/// A transfer that went well.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fetched {
    pub(crate) complete_length: Option<u64>,
    pub(crate) version: Option<Version>,
}

type NetworkError = (Phase, io::Error);

/// A transfer under way, and the exchange that it is in.
pub(crate) struct RunningTransfer {
    transfer: Transfer<NetworkError>,
    whole: Option<Instant>,
    open: Option<Open>,
    /// The attempt to make is one that a dead connection has swallowed: make it over a new one.
    afresh: bool,
}

struct Open {
    fetch: Fetch,
    connection: Connection,
    /// The connection had carried another request before.
    kept: bool,
}

impl RunningTransfer {
    pub(crate) fn new(
        want: Want,
        version: Option<Version>,
        retry: RetryPolicy,
        whole: Option<Instant>,
    ) -> Self {
        Self {
            transfer: Transfer::new(want, version, retry, whole, seed(), Instant::now()),
            whole,
            open: None,
            afresh: false,
        }
    }

    /// What the head of the answer told that is being received.
    pub(crate) fn answer(&self) -> Option<&Answer> {
        self.open.as_ref()?.fetch.answer()
    }

    /// The media type that the answer gave which is being received.
    pub(crate) fn content_type(&self) -> Option<&str> {
        self.open.as_ref()?.fetch.content_type()
    }

    /// Holds every further answer to the version that the caller has noted.
    pub(crate) fn bind(&mut self, version: Version) {
        self.transfer.bind(version);
    }

    /// Runs to the end, with a sink that takes everything.
    pub(crate) fn run(
        &mut self,
        client: &PeerClient,
        handle: &str,
        sink: &mut dyn Sink,
    ) -> Result<Fetched, Failure> {
        loop {
            if let Some(fetched) = self.advance(client, handle, sink)? {
                return Ok(fetched);
            }
        }
    }

    /// Runs to the end, or until the sink wants nothing more for now: `None`.
    pub(crate) fn advance(
        &mut self,
        client: &PeerClient,
        handle: &str,
        sink: &mut dyn Sink,
    ) -> Result<Option<Fetched>, Failure> {
        loop {
            if let Some(mut open) = self.open.take() {
                match exchange(&mut open.fetch, &mut open.connection, sink, client.hooks()) {
                    Ok(None) => {
                        self.open = Some(open);
                        return Ok(None);
                    }
                    Ok(Some(done)) => self.concluded(client, open, done),
                    // The peer may have closed the kept connection before it saw the request.
                    Err(Failure::Network(..) | Failure::Fetch(FetchError::NoAnswer))
                        if open.kept && !open.fetch.has_begun() =>
                    {
                        self.afresh = true;
                    }
                    Err(failure) => self.set_back(client, failure, Some(&open.fetch))?,
                }
            }
            match self.transfer.poll_output() {
                TransferOutput::Attempt(attempt) => match self.open(client, handle, &attempt) {
                    Ok(open) => self.open = Some(open),
                    Err(failure) => self.set_back(client, failure, None)?,
                },
                TransferOutput::Wait { until } => {
                    client.hooks().enter(ProgressState::Pausing);
                    pause(client, until)?;
                    self.transfer.handle_waited(Instant::now());
                }
                TransferOutput::Done { complete_length } => {
                    return Ok(Some(Fetched {
                        complete_length,
                        version: self.transfer.version(),
                    }));
                }
                TransferOutput::Failed => {
                    return Err(match self.transfer.take_setback() {
                        Some(Setback::Network((phase, error))) => Failure::Network(phase, error),
                        Some(Setback::Fetch(error)) => Failure::Fetch(error),
                        None => Failure::Sink(io::Error::other("the transfer failed before")),
                    });
                }
            }
        }
    }

    /// Finds a connection for an attempt. Nothing is sent yet.
    fn open(
        &mut self,
        client: &PeerClient,
        handle: &str,
        attempt: &Attempt,
    ) -> Result<Open, Failure> {
        let shared = &*client.shared;
        let kept = if std::mem::take(&mut self.afresh) {
            None
        } else {
            shared.pool.take(&shared.base, Instant::now())
        };
        let was_kept = kept.is_some();
        let connection = match kept {
            Some(connection) => connection,
            None => connect(client, attempt.answer_by, self.whole)?,
        };
        let now = Instant::now();
        let left = attempt
            .answer_by
            .map(|answer_by| answer_by.saturating_duration_since(now));
        let timeouts = FetchTimeouts {
            head: shorter(shared.timeouts.head, left),
            stall: shared.timeouts.stall,
            whole: self.whole,
        };
        let request = FetchRequest {
            host: shared.base.host_field(),
            token: &shared.token,
            handle,
            want: attempt.want,
            without_range: attempt.without_range,
            version: attempt.version,
        };
        Ok(Open {
            fetch: Fetch::new(&request, timeouts, now),
            connection,
            kept: was_kept,
        })
    }

    fn concluded(&mut self, client: &PeerClient, open: Open, done: FetchDone) {
        let now = Instant::now();
        let end = attempt_end(&open.fetch, Ok(done));
        if done.reusable {
            client
                .shared
                .pool
                .put(&client.shared.base, open.connection, now);
        }
        self.attempted(client, now, end);
    }

    /// Tells the transfer of a failure, unless that is the end of it.
    fn set_back(
        &mut self,
        client: &PeerClient,
        failure: Failure,
        fetch: Option<&Fetch>,
    ) -> Result<(), Failure> {
        let setback = match failure {
            Failure::Fetch(error) => Setback::Fetch(error),
            Failure::Network(phase, error) => Setback::Network((phase, error)),
            Failure::Sink(_) | Failure::Cancelled => return Err(failure),
        };
        let end = match fetch {
            Some(fetch) => attempt_end(fetch, Err(setback)),
            None => AttemptEnd {
                answer: None,
                received: 0,
                progressed: None,
                result: Err(setback),
            },
        };
        self.attempted(client, Instant::now(), end);
        Ok(())
    }

    fn attempted(&mut self, client: &PeerClient, now: Instant, end: AttemptEnd<NetworkError>) {
        self.transfer.handle_attempt(now, end);
        if let Some(progress) = client.hooks().progress {
            progress.set_retries(self.transfer.retries());
        }
    }
}

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

fn connect(
    client: &PeerClient,
    answer_by: Option<Instant>,
    whole: Option<Instant>,
) -> Result<Connection, Failure> {
    let shared = &*client.shared;
    let hooks = client.hooks();
    hooks.enter(ProgressState::Connecting);
    let timeout = shared.timeouts.connect;
    let own = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let deadline = shorter(shorter(own, answer_by), whole);
    let dialled = dial(&shared.connect, &shared.base, deadline, hooks.cancel);
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

fn pause(client: &PeerClient, until: Instant) -> Result<(), Failure> {
    match client.hooks().cancel {
        Some(cancel) => {
            cancel.wait_for::<()>(Some(until), || None)?;
        }
        None => thread::sleep(until.saturating_duration_since(Instant::now())),
    }
    Ok(())
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
