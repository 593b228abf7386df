//! A transfer under way on a fetching host: the real transfer and fetch machines, and a driver that
//! stops wherever it would wait.

use std::time::Duration;

use peer_core::{
    fetch::{
        Answer, Fetch, FetchDone, FetchError, FetchOutput, FetchRequest, FetchTimeouts, Version,
        Want,
    },
    transfer::{Attempt, AttemptEnd, RetryPolicy, Setback, Transfer, TransferOutput},
};
use peer_proto::Token;

use super::{
    Context, Time,
    client::Host,
    instant,
    link::{End, LinkId, Read, Written},
    server::Server,
    time_of,
};

/// How the network failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Network {
    Refused,
    Reset,
}

/// What a transfer is of, and how it is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Order {
    /// Number of the source.
    pub(crate) source: usize,
    pub(crate) want: Want,
    pub(crate) version: Option<Version>,
    pub(crate) policy: RetryPolicy,
    /// When it has to be over.
    pub(crate) whole: Option<Time>,
    pub(crate) right_token: bool,
    pub(crate) seed: u64,
}

/// Where content goes.
pub(crate) trait Sink {
    /// Bytes that it takes now; 0 makes the driver leave off.
    fn room(&self) -> usize;

    fn take(&mut self, content: &[u8]);
}

/// Takes everything.
impl Sink for Vec<u8> {
    fn room(&self) -> usize {
        4096
    }

    fn take(&mut self, content: &[u8]) {
        self.extend_from_slice(content);
    }
}

/// How far a transfer came.
pub(crate) enum Progress {
    /// It waits for time to pass, or for the peer.
    Waits,
    /// There is content, and no room for it.
    Paused,
    Done {
        complete_length: Option<u64>,
        version: Option<Version>,
    },
    Failed(Setback<Network>),
}

enum State {
    Planning,
    Connecting { until: Time, attempt: Attempt },
    Exchanging(Box<Exchange>),
}

struct Exchange {
    fetch: Fetch,
    link: LinkId,
    was_kept: bool,
    attempt: Attempt,
    /// Content was left lying.
    paused: bool,
}

/// What came of an exchange.
type Ended = Result<FetchDone, Setback<Network>>;

/// A transfer, and where its attempt is.
pub(crate) struct Running {
    order: Order,
    transfer: Transfer<Network>,
    state: State,
}

impl Running {
    pub(crate) fn new(order: Order, time: Time) -> Self {
        Self {
            order,
            transfer: Transfer::new(
                order.want,
                order.version,
                order.policy,
                order.whole.map(instant),
                order.seed,
                instant(time),
            ),
            state: State::Planning,
        }
    }

    pub(crate) const fn retries(&self) -> u32 {
        self.transfer.retries()
    }

    /// What the head of the answer told that is being received.
    pub(crate) fn answer(&self) -> Option<&Answer> {
        match &self.state {
            State::Exchanging(exchange) => exchange.fetch.answer(),
            _ => None,
        }
    }

    /// Holds every further answer to a version.
    pub(crate) fn bind(&mut self, version: Version) {
        self.transfer.bind(version);
    }

    /// Drops the connection, with everything that was still to come.
    pub(crate) fn abandon(self, context: &mut Context<'_>) {
        if let State::Exchanging(exchange) = self.state {
            let time = context.time;
            context.links.close(exchange.link, End::Client, time, false);
        }
    }

    /// When it goes on by itself. `None`: when the peer is heard.
    pub(crate) fn wake(&self, links: &super::link::Links, looks_later: bool) -> Option<Time> {
        match &self.state {
            State::Planning => match self.transfer.poll_output() {
                TransferOutput::Wait { until } => Some(time_of(until)),
                _ => None,
            },
            State::Connecting { until, .. } => Some(*until),
            State::Exchanging(exchange) => {
                if links.is_readable(exchange.link, End::Client) && !looks_later {
                    None
                } else {
                    exchange.fetch.poll_timeout().map(time_of)
                }
            }
        }
    }

    /// Goes on until it has to wait, until there is no room, or to the end.
    pub(crate) fn advance(
        &mut self,
        host: &mut Host,
        context: &mut Context<'_>,
        server: &mut Server,
        sink: &mut dyn Sink,
        moved: &mut bool,
    ) -> Progress {
        let time = context.time;
        loop {
            match &mut self.state {
                State::Planning => match self.transfer.poll_output() {
                    TransferOutput::Attempt(attempt) => match host.take_kept(context) {
                        Some(link) => self.exchange(host, attempt, link, true, time),
                        None => self.connect(host, attempt, time),
                    },
                    TransferOutput::Wait { until } if until <= instant(time) => {
                        self.transfer.handle_waited(instant(time));
                    }
                    TransferOutput::Wait { .. } => return Progress::Waits,
                    TransferOutput::Done { complete_length } => {
                        return Progress::Done {
                            complete_length,
                            version: self.transfer.version(),
                        };
                    }
                    TransferOutput::Failed => {
                        let setback = self.transfer.take_setback();
                        return Progress::Failed(setback.expect("a reason"));
                    }
                },
                State::Connecting { until, .. } if *until > time => return Progress::Waits,
                State::Connecting { attempt, .. } => {
                    let attempt = *attempt;
                    match server.connect(context, host.address, host.latency) {
                        Some(link) => self.exchange(host, attempt, link, false, time),
                        None => self.attempted(
                            AttemptEnd {
                                answer: None,
                                received: 0,
                                progressed: None,
                                result: Err(Setback::Network(Network::Refused)),
                            },
                            time,
                        ),
                    }
                }
                State::Exchanging(exchange) => {
                    if std::mem::take(&mut exchange.paused) {
                        exchange.fetch.handle_resumed(instant(time));
                    }
                    match exchange.step(context, sink, moved) {
                        Step::Waits => return Progress::Waits,
                        Step::Paused => {
                            exchange.paused = true;
                            return Progress::Paused;
                        }
                        Step::Ended(ended) => self.end_exchange(host, ended, context),
                    }
                }
            }
            *moved = true;
        }
    }

    fn connect(&mut self, host: &Host, attempt: Attempt, time: Time) {
        let until = time + 2 * host.latency;
        self.state = State::Connecting { until, attempt };
    }

    fn exchange(
        &mut self,
        host: &Host,
        attempt: Attempt,
        link: LinkId,
        was_kept: bool,
        time: Time,
    ) {
        let token = if self.order.right_token {
            "secret"
        } else {
            "secre"
        };
        let token = Token::new(token).expect("a token");
        let handle = format!("s{}", self.order.source);
        let left = attempt
            .answer_by
            .map(|by| by.saturating_duration_since(instant(time)));
        let head = Duration::from_secs(10);
        let timeouts = FetchTimeouts {
            head: Some(left.map_or(head, |left| left.min(head))),
            stall: Some(host.stall),
            whole: self.order.whole.map(instant),
        };
        let request = FetchRequest {
            host: "h",
            token: &token,
            handle: &handle,
            want: attempt.want,
            without_range: attempt.without_range,
            version: attempt.version,
        };
        self.state = State::Exchanging(Box::new(Exchange {
            fetch: Fetch::new(&request, timeouts, instant(time)),
            link,
            was_kept,
            attempt,
            paused: false,
        }));
    }

    fn end_exchange(&mut self, host: &mut Host, ended: Ended, context: &mut Context<'_>) {
        let State::Exchanging(exchange) = std::mem::replace(&mut self.state, State::Planning)
        else {
            return;
        };
        let (time, id) = (context.time, host.id);
        context.trace(|| format!("client {id}: {ended:?}"));
        if matches!(ended, Ok(done) if done.reusable) {
            host.keep(exchange.link, context);
        } else {
            context.links.close(exchange.link, End::Client, time, false);
        }
        let unanswered = matches!(
            ended,
            Err(Setback::Network(_) | Setback::Fetch(FetchError::NoAnswer))
        );
        if unanswered && exchange.was_kept && !exchange.fetch.has_begun() {
            // The connection was dead already: nothing was tried yet. Over a new one, or every kept
            // one could swallow it in turn.
            return self.connect(host, exchange.attempt, time);
        }
        let end = AttemptEnd {
            answer: exchange.fetch.answer().copied(),
            received: exchange.fetch.received(),
            progressed: exchange.fetch.progressed(),
            result: ended,
        };
        self.attempted(end, time);
    }

    fn attempted(&mut self, end: AttemptEnd<Network>, time: Time) {
        self.transfer.handle_attempt(instant(time), end);
        self.state = State::Planning;
    }
}

enum Step {
    Waits,
    Paused,
    Ended(Ended),
}

impl Exchange {
    /// Carries out instructions until it has to wait, or is over.
    fn step(&mut self, context: &mut Context<'_>, sink: &mut dyn Sink, moved: &mut bool) -> Step {
        let time = context.time;
        let now = instant(time);
        loop {
            if self
                .fetch
                .poll_timeout()
                .is_some_and(|deadline| deadline <= now)
            {
                self.fetch.handle_timeout(now);
            }
            match self.fetch.poll_output() {
                FetchOutput::Send { bytes } => {
                    let written = context.links.write(
                        self.link,
                        End::Client,
                        bytes,
                        time,
                        context.happened,
                        context.dice,
                    );
                    match written {
                        Written::Bytes(n) => self.fetch.handle_sent(now, n),
                        Written::Reset => return RESET,
                        Written::Wait => return Step::Waits,
                    }
                }
                FetchOutput::Receive => {
                    let buffer = self.fetch.receive_buffer();
                    match context
                        .links
                        .read(self.link, End::Client, buffer, context.dice)
                    {
                        Read::Bytes(n) => self.fetch.handle_received(now, n),
                        Read::End => self.fetch.handle_eof(now),
                        Read::Reset => return RESET,
                        Read::Wait => return Step::Waits,
                    }
                }
                FetchOutput::Content { .. } | FetchOutput::ReceiveContent { .. }
                    if sink.room() == 0 =>
                {
                    return Step::Paused;
                }
                FetchOutput::Content { bytes } => {
                    let n = bytes.len().min(sink.room());
                    sink.take(&bytes[..n]);
                    self.fetch.handle_content(now, n as u64);
                }
                FetchOutput::ReceiveContent { max } | FetchOutput::ReceiveSkipped { max } => {
                    let skipped =
                        matches!(self.fetch.poll_output(), FetchOutput::ReceiveSkipped { .. });
                    let mut block = [0; 4096];
                    let most = if skipped { 4096 } else { sink.room().min(4096) };
                    let room = &mut block[..max.min(most as u64) as usize];
                    match context
                        .links
                        .read(self.link, End::Client, room, context.dice)
                    {
                        Read::Bytes(n) => {
                            if !skipped {
                                sink.take(&room[..n]);
                            }
                            self.fetch.handle_content(now, n as u64);
                        }
                        Read::End => self.fetch.handle_eof(now),
                        Read::Reset => return RESET,
                        Read::Wait => return Step::Waits,
                    }
                }
                FetchOutput::Done(done) => return Step::Ended(Ok(done)),
                FetchOutput::Failed(error) => {
                    return Step::Ended(Err(Setback::Fetch(error)));
                }
            }
            *moved = true;
        }
    }
}

const RESET: Step = Step::Ended(Err(Setback::Network(Network::Reset)));
