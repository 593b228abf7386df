//! A fetching host: the real transfer and fetch machines, a pool of kept connections, and a
//! process that may be suspended.

use std::{net::IpAddr, time::Duration};

use peer_core::{
    fetch::{Fetch, FetchDone, FetchError, FetchOutput, FetchRequest, FetchTimeouts, Want},
    transfer::{Attempt, AttemptEnd, RetryPolicy, Setback, Transfer, TransferOutput},
};
use peer_proto::Token;

use super::{
    Context, Report, SECOND, Time,
    dice::Dice,
    instant,
    link::{End, LinkId, Read, Written},
    server::Server,
    source::Version,
    time_of,
};

/// How the network failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Network {
    Refused,
    Reset,
}

/// What is to be fetched.
#[derive(Clone, Copy, Debug)]
struct Operation {
    /// Number of the source; one past them all names none.
    source: usize,
    want: Want,
    policy: RetryPolicy,
    /// How long it may take.
    whole: Option<Time>,
    pause_before: Time,
    right_token: bool,
    seed: u64,
}

enum State {
    Pausing { until: Time },
    Planning,
    Connecting { until: Time, attempt: Attempt },
    Exchanging { exchange: Box<Exchange> },
    Over,
}

struct Exchange {
    fetch: Fetch,
    link: LinkId,
    was_kept: bool,
    attempt: Attempt,
}

/// What came of an exchange.
type Ended = Result<FetchDone, Setback<Network>>;

/// The fetching host.
pub(crate) struct Client {
    id: u8,
    address: IpAddr,
    latency: Time,
    calm: bool,
    operations: Vec<Operation>,
    current: usize,
    began: Time,
    transfer: Option<Transfer<Network>>,
    delivered: Vec<u8>,
    state: State,
    kept: Vec<LinkId>,
    stall: Duration,
    suspended: Option<(Time, Time)>,
}

impl Client {
    pub(crate) fn new(id: u8, dice: &mut Dice, calm: bool, server: &Server) -> Self {
        let operations: Vec<_> = (0..1 + dice.below(4))
            .map(|_| Operation::new(dice, calm, server))
            .collect();
        let suspended = (!calm && dice.chance(10)).then(|| {
            let from = dice.below(20 * SECOND);
            (from, from + 1 + dice.below(4000) * SECOND)
        });
        let until = operations[0].pause_before;
        Self {
            id,
            address: IpAddr::from([192, 168, 0, 10 + id % 2]),
            latency: dice.pick(&[1000, 100, 20_000, 200_000]),
            calm,
            operations,
            current: 0,
            began: 0,
            transfer: None,
            delivered: Vec::new(),
            state: State::Pausing { until },
            kept: Vec::new(),
            stall: Duration::from_secs(dice.pick(&[20, 5, 60])),
            suspended,
        }
    }

    fn is_suspended(&self, time: Time) -> bool {
        self.suspended
            .is_some_and(|(from, until)| (from..until).contains(&time))
    }

    pub(crate) fn wake(&self, links: &super::link::Links) -> Option<Time> {
        let wake = match &self.state {
            State::Pausing { until } | State::Connecting { until, .. } => Some(*until),
            State::Planning => match self.transfer.as_ref()?.poll_output() {
                TransferOutput::Wait { until } => Some(time_of(until)),
                _ => None,
            },
            State::Exchanging { exchange } => {
                if links.is_readable(exchange.link, End::Client) && self.suspended.is_none() {
                    None
                } else {
                    exchange.fetch.poll_timeout().map(time_of)
                }
            }
            State::Over => None,
        };
        match self.suspended {
            Some((from, until)) if !matches!(self.state, State::Over) => Some(match wake {
                Some(wake) if wake < from => wake,
                Some(wake) => wake.max(until),
                None => until,
            }),
            _ => wake,
        }
    }

    /// Goes on until it has to wait. Whether anything happened.
    pub(crate) fn step(
        &mut self,
        context: &mut Context<'_>,
        server: &mut Server,
        report: &mut Report,
    ) -> bool {
        let time = context.time;
        if self.is_suspended(time) {
            context.happened.suspended = true;
            return false;
        }
        let mut moved = false;
        loop {
            match &mut self.state {
                State::Pausing { until } if *until <= time => self.begin(time),
                State::Pausing { .. } | State::Over => return moved,
                State::Planning => {
                    let transfer = self.transfer.as_mut().expect("an operation");
                    match transfer.poll_output() {
                        TransferOutput::Attempt(attempt) => self.attempt(attempt, time),
                        TransferOutput::Wait { until } if until <= instant(time) => {
                            transfer.handle_waited(instant(time));
                        }
                        TransferOutput::Wait { .. } => return moved,
                        TransferOutput::Done { complete_length } => {
                            self.done(complete_length, context, server, report);
                        }
                        TransferOutput::Failed => self.failed(context, server, report),
                    }
                }
                State::Connecting { until, .. } if *until > time => return moved,
                State::Connecting { attempt, .. } => {
                    let attempt = *attempt;
                    match server.connect(context, self.address, self.latency) {
                        Some(link) => self.exchange(attempt, link, false, time),
                        None => {
                            let end = AttemptEnd {
                                answer: None,
                                received: 0,
                                progressed: None,
                                result: Err(Setback::Network(Network::Refused)),
                            };
                            self.end_attempt(end, time);
                        }
                    }
                }
                State::Exchanging { exchange } => {
                    let before = self.delivered.len();
                    let Some(ended) = exchange.step(context, &mut self.delivered, &mut moved)
                    else {
                        return moved;
                    };
                    assert!(self.delivered.len() >= before);
                    self.end_exchange(ended, context);
                }
            }
            moved = true;
        }
    }

    fn begin(&mut self, time: Time) {
        let operation = &self.operations[self.current];
        let whole = operation.whole.map(|whole| instant(time + whole));
        self.began = time;
        self.delivered.clear();
        self.transfer = Some(Transfer::new(
            operation.want,
            None,
            operation.policy,
            whole,
            operation.seed,
            instant(time),
        ));
        self.state = State::Planning;
    }

    fn attempt(&mut self, attempt: Attempt, time: Time) {
        match self.kept.pop() {
            Some(link) => self.exchange(attempt, link, true, time),
            None => self.connect(attempt, time),
        }
    }

    fn connect(&mut self, attempt: Attempt, time: Time) {
        let until = time + 2 * self.latency;
        self.state = State::Connecting { until, attempt };
    }

    fn exchange(&mut self, attempt: Attempt, link: LinkId, was_kept: bool, time: Time) {
        let operation = &self.operations[self.current];
        let token = if operation.right_token {
            "secret"
        } else {
            "secre"
        };
        let token = Token::new(token).expect("a token");
        let handle = format!("s{}", operation.source);
        let left = attempt
            .answer_by
            .map(|by| by.saturating_duration_since(instant(time)));
        let head = Duration::from_secs(10);
        let timeouts = FetchTimeouts {
            head: Some(left.map_or(head, |left| left.min(head))),
            stall: Some(self.stall),
            whole: operation.whole.map(|whole| instant(self.began + whole)),
        };
        let request = FetchRequest {
            host: "h",
            token: &token,
            handle: &handle,
            want: attempt.want,
            without_range: attempt.without_range,
            version: attempt.version,
        };
        let exchange = Exchange {
            fetch: Fetch::new(&request, timeouts, instant(time)),
            link,
            was_kept,
            attempt,
        };
        self.state = State::Exchanging {
            exchange: Box::new(exchange),
        };
    }

    fn end_exchange(&mut self, ended: Ended, context: &mut Context<'_>) {
        let State::Exchanging { exchange } = std::mem::replace(&mut self.state, State::Planning)
        else {
            return;
        };
        let (time, id) = (context.time, self.id);
        context.trace(|| format!("client {id}: {ended:?}"));
        let reusable = matches!(ended, Ok(done) if done.reusable);
        if reusable {
            self.kept.push(exchange.link);
        } else {
            context.links.close(exchange.link, End::Client, time, false);
        }
        let unanswered = matches!(
            ended,
            Err(Setback::Network(_) | Setback::Fetch(FetchError::NoAnswer))
        );
        if unanswered && exchange.was_kept && !exchange.fetch.has_begun() {
            // The connection was dead already: nothing was tried yet.
            return self.attempt(exchange.attempt, time);
        }
        let end = AttemptEnd {
            answer: exchange.fetch.answer().copied(),
            received: exchange.fetch.received(),
            progressed: exchange.fetch.progressed(),
            result: ended,
        };
        self.end_attempt(end, time);
    }

    fn end_attempt(&mut self, end: AttemptEnd<Network>, time: Time) {
        let transfer = self.transfer.as_mut().expect("an operation");
        transfer.handle_attempt(instant(time), end);
        self.state = State::Planning;
    }

    fn next(&mut self, context: &mut Context<'_>, report: &mut Report) {
        let retries = self
            .transfer
            .take()
            .map_or(0, |transfer| transfer.retries());
        report.retries += retries;
        self.current += 1;
        self.state = match self.operations.get(self.current) {
            Some(next) => State::Pausing {
                until: context.time + next.pause_before,
            },
            None => {
                for link in self.kept.drain(..) {
                    context.links.close(link, End::Client, context.time, false);
                }
                State::Over
            }
        };
    }

    /// The versions of the source that were there during the operation.
    fn versions(&self, server: &Server, time: Time) -> Vec<Version> {
        let source = server.sources.get(self.operations[self.current].source);
        source.map_or_else(Vec::new, |source| source.versions_between(self.began, time))
    }

    /// Done: the bytes asked for, all of them, of one version.
    fn done(
        &mut self,
        complete_length: Option<u64>,
        context: &mut Context<'_>,
        server: &Server,
        report: &mut Report,
    ) {
        let operation = self.operations[self.current];
        let (id, delivered) = (self.id, self.delivered.len());
        context.trace(|| format!("client {id}: done, {delivered} bytes: {operation:?}"));
        assert!(operation.right_token, "served without the token");
        self.assert_in_time(context.time);
        let versions = self.versions(server, context.time);
        let is_true = versions.iter().any(|version| {
            let length_is_true = complete_length.is_none_or(|length| length == version.len);
            length_is_true
                && match operation.want {
                    Want::Length => {
                        let known = server.sources[operation.source].length_known;
                        complete_length.is_some() == known
                    }
                    Want::Content { start, len } => {
                        let end = len.map_or(u64::MAX, |len| start.saturating_add(len));
                        self.delivered == version.slice(start.min(end), end)
                    }
                }
        });
        assert!(
            is_true,
            "{} bytes that are of no version: {operation:?} {complete_length:?} {versions:?}",
            self.delivered.len()
        );
        report.delivered += 1;
        report.bytes += self.delivered.len() as u64;
        self.next(context, report);
    }

    /// Failed: the reason given has to be true.
    fn failed(&mut self, context: &mut Context<'_>, server: &Server, report: &mut Report) {
        let transfer = self.transfer.as_mut().expect("an operation");
        let setback = transfer.take_setback().expect("a reason");
        let operation = self.operations[self.current];
        let id = self.id;
        context.trace(|| format!("client {id}: failed: {setback:?}: {operation:?}"));
        let (time, happened) = (context.time, *context.happened);
        self.assert_in_time(time);
        let versions = self.versions(server, time);
        let lie = |why: &str| -> ! {
            panic!("{setback:?} is not true ({why}): {operation:?} {versions:?} {happened:?}")
        };
        match setback {
            Setback::Network(_) => {
                if !happened.may_break() {
                    lie("nothing broke");
                }
            }
            Setback::Fetch(error) => match error {
                FetchError::Unauthorized => {
                    if operation.right_token && !happened.revoked {
                        lie("the token is right");
                    }
                }
                FetchError::NotFound => {
                    if operation.source < server.sources.len() {
                        lie("it is there");
                    }
                }
                FetchError::Changed => {
                    if versions.len() < 2 {
                        lie("it did not change");
                    }
                }
                FetchError::RangeNotSatisfiable { complete_length } => {
                    let Want::Content { start, .. } = operation.want else {
                        lie("no range was asked for");
                    };
                    let past = |version: &Version| {
                        start >= version.len
                            && complete_length.is_none_or(|length| length == version.len)
                    };
                    if !versions.iter().any(past) {
                        lie("there is more");
                    }
                }
                FetchError::Status(500) => {
                    if !happened.source && !happened.changed {
                        lie("the source did not fail");
                    }
                }
                FetchError::Status(503) => {
                    if !happened.evicted {
                        lie("there is room");
                    }
                }
                FetchError::Status(408) => {
                    if !happened.link && !happened.suspended {
                        lie("it was in time");
                    }
                }
                FetchError::Truncated { expected, received } => {
                    if !happened.may_break() {
                        lie("nothing broke");
                    }
                    if received != self.delivered.len() as u64
                        || expected.is_some_and(|expected| expected != 0 && received >= expected)
                    {
                        lie("another number arrived");
                    }
                }
                FetchError::NoAnswer | FetchError::HeadCut | FetchError::TimedOut(_) => {
                    let slow = operation.whole.is_some();
                    if !happened.may_break() && !slow {
                        lie("nothing broke");
                    }
                }
                _ => lie("both sides speak HTTP"),
            },
        }
        // What arrived of a source that did not change is a part of it, in any case.
        if let (Want::Content { start, .. }, [only]) = (operation.want, &versions[..]) {
            let is_part = only.slice(start, u64::MAX).starts_with(&self.delivered);
            assert!(
                is_part,
                "bytes that are not the source's, before {setback:?}"
            );
        }
        assert!(
            !self.calm || operation.is_hopeless(&versions),
            "{setback:?} on a calm day"
        );
        report.failed += 1;
        self.next(context, report);
    }

    fn assert_in_time(&self, time: Time) {
        let Some(whole) = self.operations[self.current].whole else {
            return;
        };
        let mut due = self.began + whole;
        if let Some((from, until)) = self.suspended {
            if from <= due {
                due = due.max(until);
            }
        }
        // A connection that is being made is not given up half way in this world.
        let late = time.saturating_sub(due);
        assert!(late <= SECOND, "over {late} µs after its deadline");
    }

    pub(crate) fn assert_over(&self) {
        assert!(
            matches!(self.state, State::Over),
            "client {} waits for ever in operation {}",
            self.id,
            self.current
        );
    }
}

impl Operation {
    fn new(dice: &mut Dice, calm: bool, server: &Server) -> Self {
        let source = dice.below(server.sources.len() as u64) as usize;
        let source = if dice.chance(4) {
            server.sources.len()
        } else {
            source
        };
        let len = server
            .sources
            .get(source)
            .map_or(100, |source| source.versions[0].len);
        let start = match dice.below(4) {
            0 | 1 => 0,
            2 => dice.below(len + 1),
            _ => dice.below(2 * len + 3),
        };
        let count = match dice.below(4) {
            0 | 1 => None,
            2 => Some(1 + dice.below(len + 2)),
            _ => Some(1 + dice.below(20)),
        };
        let want = if dice.chance(8) {
            Want::Length
        } else {
            Want::Content { start, len: count }
        };
        let mut policy = dice.pick(&[
            RetryPolicy::default(),
            RetryPolicy::MEND,
            RetryPolicy::NEVER,
        ]);
        if policy != RetryPolicy::NEVER {
            policy.from_nothing = dice.chance(40);
        }
        Self {
            source,
            want,
            policy,
            whole: (!calm && dice.chance(25)).then(|| dice.below(60 * SECOND)),
            pause_before: match dice.below(4) {
                0 | 1 => 0,
                2 => dice.below(5 * SECOND),
                _ => dice.below(90 * SECOND),
            },
            right_token: !dice.chance(4),
            seed: dice.below(1 << 20),
        }
    }

    /// Whether it cannot be done even when nothing goes wrong.
    fn is_hopeless(&self, versions: &[Version]) -> bool {
        let past_end = match self.want {
            Want::Content { start, .. } => versions.iter().any(|version| start >= version.len),
            Want::Length => false,
        };
        !self.right_token || versions.is_empty() || past_end
    }
}

impl Exchange {
    /// Carries out instructions until it has to wait, or is over.
    fn step(
        &mut self,
        context: &mut Context<'_>,
        delivered: &mut Vec<u8>,
        moved: &mut bool,
    ) -> Option<Ended> {
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
                        Written::Reset => return Some(Err(Setback::Network(Network::Reset))),
                        Written::Wait => return None,
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
                        Read::Reset => return Some(Err(Setback::Network(Network::Reset))),
                        Read::Wait => return None,
                    }
                }
                FetchOutput::Content { bytes } => {
                    let n = bytes.len();
                    delivered.extend_from_slice(bytes);
                    self.fetch.handle_content(now, n as u64);
                }
                FetchOutput::ReceiveContent { max } | FetchOutput::ReceiveSkipped { max } => {
                    let skipped =
                        matches!(self.fetch.poll_output(), FetchOutput::ReceiveSkipped { .. });
                    let mut block = [0; 4096];
                    let room = &mut block[..max.min(4096) as usize];
                    match context
                        .links
                        .read(self.link, End::Client, room, context.dice)
                    {
                        Read::Bytes(n) => {
                            if !skipped {
                                delivered.extend_from_slice(&room[..n]);
                            }
                            self.fetch.handle_content(now, n as u64);
                        }
                        Read::End => self.fetch.handle_eof(now),
                        Read::Reset => return Some(Err(Setback::Network(Network::Reset))),
                        Read::Wait => return None,
                    }
                }
                FetchOutput::Done(done) => return Some(Ok(done)),
                FetchOutput::Failed(error) => return Some(Err(Setback::Fetch(error))),
            }
            *moved = true;
        }
    }
}
