//! A fetching host: a pool of kept connections, a process that may be suspended, and what the process
//! does: fetches, readers, downloads, one after the other.

use std::{net::IpAddr, time::Duration};

use peer_core::{
    download::OnChange,
    fetch::{FetchError, Want},
    kept::{Kept, PoolLimits, Taken},
    read_ahead::ReadAheadConfig,
    transfer::{RetryPolicy, Setback},
};

use super::{
    Context, Report, SECOND, Time,
    dice::Dice,
    downloading::{self, DownloadProgress, Downloading, Life},
    instant,
    link::{End, LinkId, Links},
    reading::{Read, ReadProgress, Reading},
    running::{Network, Order, Progress, Running},
    server::Server,
    source::Version as SourceVersion,
};

/// After about so long, a server ends a connection over which nothing goes.
const STALL: Time = 29 * SECOND;

/// What is to be done.
#[derive(Clone, Debug)]
struct Operation {
    /// Number of the source; one past them all names none.
    source: usize,
    goal: Goal,
    policy: RetryPolicy,
    /// How long it may take.
    whole: Option<Time>,
    pause_before: Time,
    right_token: bool,
    seed: u64,
}

#[derive(Clone, Debug)]
enum Goal {
    Fetch(Want),
    /// To read here and there, with these sizes.
    Read(ReadAheadConfig, Vec<Read>),
    /// To a file, by these processes.
    Download(OnChange, Vec<Life>),
}

enum State {
    Pausing { until: Time },
    Fetching(Box<Fetching>),
    Reading(Box<Reading>),
    Downloading(Box<Downloading>),
    Over,
}

struct Fetching {
    running: Running,
    delivered: Vec<u8>,
}

/// What all operations of a process share.
pub(crate) struct Host {
    pub(crate) id: u8,
    pub(crate) address: IpAddr,
    pub(crate) latency: Time,
    pub(crate) stall: Duration,
    kept: Kept<(), LinkId>,
}

impl Host {
    /// A kept connection that has been quiet since its last answer.
    pub(crate) fn take_kept(&mut self, context: &mut Context<'_>) -> Option<LinkId> {
        let time = context.time;
        loop {
            let Taken { found, old } = self.kept.take(&(), instant(time));
            for link in old {
                context.links.close(link, End::Client, time, false);
            }
            let found = found?;
            if !context.links.is_readable(found, End::Client) {
                return Some(found);
            }
            context.links.close(found, End::Client, time, false);
        }
    }

    /// Keeps a connection whose last answer is complete.
    pub(crate) fn keep(&mut self, link: LinkId, context: &mut Context<'_>) {
        let time = context.time;
        for link in self.kept.put((), link, instant(time)) {
            context.links.close(link, End::Client, time, false);
        }
    }

    /// As the end of the process does.
    fn close_kept(&mut self, context: &mut Context<'_>) {
        let kept = std::mem::replace(&mut self.kept, Kept::new(PoolLimits::default()));
        for link in kept {
            context.links.close(link, End::Client, context.time, false);
        }
    }
}

/// The fetching host.
pub(crate) struct Client {
    host: Host,
    calm: bool,
    operations: Vec<Operation>,
    current: usize,
    began: Time,
    state: State,
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
        let mut limits = PoolLimits::default();
        limits.idle_max = dice.pick(&[4, 1, 0]);
        limits.idle_age = Duration::from_secs(dice.pick(&[20, 5, 1000]));
        Self {
            host: Host {
                id,
                address: IpAddr::from([192, 168, 0, 10 + id % 2]),
                latency: dice.pick(&[1000, 100, 20_000, 200_000]),
                stall: Duration::from_secs(dice.pick(&[20, 5, 60])),
                kept: Kept::new(limits),
            },
            calm,
            operations,
            current: 0,
            began: 0,
            state: State::Pausing { until },
            suspended,
        }
    }

    fn is_suspended(&self, time: Time) -> bool {
        self.suspended
            .is_some_and(|(from, until)| (from..until).contains(&time))
    }

    pub(crate) fn wake(&self, links: &Links) -> Option<Time> {
        // Whoever is suspended looks later at what is there.
        let looks_later = self.suspended.is_some();
        let wake = match &self.state {
            State::Pausing { until } => Some(*until),
            State::Fetching(fetching) => fetching.running.wake(links, looks_later),
            State::Reading(reading) => reading.wake(links, looks_later),
            State::Downloading(downloading) => downloading.wake(links, looks_later),
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
                State::Fetching(fetching) => {
                    let Fetching { running, delivered } = &mut **fetching;
                    match running.advance(&mut self.host, context, server, delivered, &mut moved) {
                        Progress::Waits => return moved,
                        Progress::Paused => panic!("there is room for all of it"),
                        Progress::Done {
                            complete_length, ..
                        } => {
                            report.retries += running.retries();
                            let delivered = std::mem::take(delivered);
                            self.done(&delivered, complete_length, context, server, report);
                        }
                        Progress::Failed(setback) => {
                            report.retries += running.retries();
                            let delivered = std::mem::take(delivered);
                            self.failed(&delivered, setback, context, server, report);
                        }
                    }
                }
                State::Reading(reading) => {
                    match reading.advance(&mut self.host, context, server, &mut moved) {
                        ReadProgress::Waits => return moved,
                        ReadProgress::Read(n) => self.has_read(n, context, server, report),
                        ReadProgress::Failed(setback) => {
                            self.read_failed(setback, context, server, report);
                        }
                        ReadProgress::Over => self.end_reading(context, report),
                    }
                }
                State::Downloading(downloading) => {
                    let progress = downloading.advance(&mut self.host, context, server, &mut moved);
                    let versions = self.versions(server, time);
                    if let State::Downloading(downloading) = &self.state {
                        downloading.assert_whole(&versions);
                    }
                    match progress {
                        DownloadProgress::Waits => return moved,
                        DownloadProgress::Failed(setback) => {
                            self.download_failed(&setback, context, server);
                        }
                        DownloadProgress::Done { len, resumed_from } => {
                            let id = self.host.id;
                            context.trace(|| format!("client {id}: a file, {resumed_from} held"));
                            assert!(self.operation().right_token, "served without the token");
                            report.downloads += 1;
                            report.downloads_resumed += u32::from(resumed_from > 0);
                            report.bytes += len;
                            report.delivered += 1;
                            self.end_download(context, report);
                        }
                        DownloadProgress::Over => {
                            report.failed += 1;
                            self.end_download(context, report);
                        }
                    }
                }
            }
            moved = true;
        }
    }

    fn operation(&self) -> &Operation {
        &self.operations[self.current]
    }

    fn begin(&mut self, time: Time) {
        self.began = time;
        let operation = self.operation();
        let order = Order {
            source: operation.source,
            want: Want::Length,
            version: None,
            policy: operation.policy,
            whole: operation.whole.map(|whole| time + whole),
            right_token: operation.right_token,
            seed: operation.seed,
        };
        self.state = match &operation.goal {
            Goal::Fetch(want) => {
                let order = Order {
                    want: *want,
                    ..order
                };
                State::Fetching(Box::new(Fetching {
                    running: Running::new(order, time),
                    delivered: Vec::new(),
                }))
            }
            Goal::Read(config, reads) => {
                // A reader lives as long as it is wanted.
                let order = Order {
                    whole: None,
                    ..order
                };
                State::Reading(Box::new(Reading::new(order, *config, reads.clone(), time)))
            }
            Goal::Download(on_change, lives) => {
                let order = Order {
                    whole: None,
                    ..order
                };
                let lives = lives.clone();
                State::Downloading(Box::new(Downloading::new(order, *on_change, lives, time)))
            }
        };
    }

    fn next(&mut self, context: &mut Context<'_>) {
        self.current += 1;
        self.state = match self.operations.get(self.current) {
            Some(next) => State::Pausing {
                until: context.time + next.pause_before,
            },
            None => {
                self.host.close_kept(context);
                State::Over
            }
        };
    }

    /// The versions of the source that were there during the operation.
    fn versions(&self, server: &Server, time: Time) -> Vec<SourceVersion> {
        let source = server.sources.get(self.operation().source);
        source.map_or_else(Vec::new, |source| source.versions_between(self.began, time))
    }

    /// Done: the bytes asked for, all of them, of one version.
    fn done(
        &mut self,
        delivered: &[u8],
        complete_length: Option<u64>,
        context: &mut Context<'_>,
        server: &Server,
        report: &mut Report,
    ) {
        let operation = self.operation();
        let id = self.host.id;
        context.trace(|| {
            format!(
                "client {id}: done, {} bytes: {operation:?}",
                delivered.len()
            )
        });
        assert!(operation.right_token, "served without the token");
        self.assert_in_time(context.time);
        let versions = self.versions(server, context.time);
        let is_true = versions.iter().any(|version| {
            let length_is_true = complete_length.is_none_or(|length| length == version.len);
            length_is_true
                && match operation.goal {
                    Goal::Fetch(Want::Length) => {
                        let known = server.sources[operation.source].length_known;
                        complete_length.is_some() == known
                    }
                    Goal::Fetch(Want::Content { start, len }) => {
                        let end = len.map_or(u64::MAX, |len| start.saturating_add(len));
                        delivered == version.slice(start.min(end), end)
                    }
                    Goal::Read(..) | Goal::Download(..) => false,
                }
        });
        assert!(
            is_true,
            "{} bytes that are of no version: {operation:?} {complete_length:?} {versions:?}",
            delivered.len()
        );
        report.delivered += 1;
        report.bytes += delivered.len() as u64;
        self.next(context);
    }

    /// Failed: the reason given has to be true.
    fn failed(
        &mut self,
        delivered: &[u8],
        setback: Setback<Network>,
        context: &mut Context<'_>,
        server: &Server,
        report: &mut Report,
    ) {
        self.assert_in_time(context.time);
        self.assert_true(&setback, context, server);
        let versions = self.versions(server, context.time);
        if let Setback::Fetch(FetchError::Truncated { expected, received }) = setback {
            let is_true = received == delivered.len() as u64
                && expected.is_none_or(|expected| expected == 0 || received < expected);
            assert!(is_true, "{setback:?}: {} arrived", delivered.len());
        }
        // What arrived of a source that did not change is a part of it, in any case.
        if let (Goal::Fetch(Want::Content { start, .. }), [only]) =
            (&self.operation().goal, &versions[..])
        {
            let is_part = only.slice(*start, u64::MAX).starts_with(delivered);
            assert!(
                is_part,
                "bytes that are not the source's, before {setback:?}"
            );
        }
        report.failed += 1;
        self.next(context);
    }

    /// One read came to its end.
    fn has_read(
        &mut self,
        n: usize,
        context: &mut Context<'_>,
        server: &Server,
        report: &mut Report,
    ) {
        let id = self.host.id;
        context.trace(|| format!("client {id}: read {n} bytes"));
        assert!(self.operation().right_token, "served without the token");
        let versions = self.versions(server, context.time);
        let State::Reading(reading) = &self.state else {
            return;
        };
        reading.assert_of_one(&versions);
        report.reads += 1;
        report.bytes += n as u64;
    }

    /// One read failed. Another one may go well, unless the source has changed.
    fn read_failed(
        &mut self,
        setback: Setback<Network>,
        context: &mut Context<'_>,
        server: &Server,
        report: &mut Report,
    ) {
        self.assert_true(&setback, context, server);
        let versions = self.versions(server, context.time);
        let State::Reading(reading) = &mut self.state else {
            return;
        };
        if !versions.is_empty() {
            reading.assert_of_one(&versions);
        }
        if reading.is_lost() {
            report.failed += 1;
            self.end_reading(context, report);
        } else {
            report.reads_failed += 1;
            reading.go_on(context.time);
        }
    }

    fn end_reading(&mut self, context: &mut Context<'_>, report: &mut Report) {
        if let State::Reading(reading) = std::mem::replace(&mut self.state, State::Over) {
            report.delivered += u32::from(!reading.is_lost());
            report.retries += reading.close(context);
        }
        self.next(context);
    }

    /// One process of a download was told why it failed, and ended.
    fn download_failed(
        &mut self,
        setback: &Setback<Network>,
        context: &mut Context<'_>,
        server: &Server,
    ) {
        self.assert_true(setback, context, server);
        if let State::Downloading(downloading) = &mut self.state {
            let is_change = matches!(setback, Setback::Fetch(FetchError::Changed));
            assert!(
                !is_change || downloading.tells_changes(),
                "it was to begin anew"
            );
            downloading.go_on(context);
        }
    }

    fn end_download(&mut self, context: &mut Context<'_>, report: &mut Report) {
        if let State::Downloading(downloading) = std::mem::replace(&mut self.state, State::Over) {
            report.retries += downloading.close(context);
        }
        self.next(context);
    }

    /// The reason given for a failure is true.
    fn assert_true(&self, setback: &Setback<Network>, context: &Context<'_>, server: &Server) {
        let operation = self.operation();
        let id = self.host.id;
        context.trace(|| format!("client {id}: failed: {setback:?}: {operation:?}"));
        let (time, happened) = (context.time, *context.happened);
        let versions = self.versions(server, time);
        let dawdled = self.has_dawdled(time, server);
        let may_break = happened.may_break() || dawdled;
        let lie = |why: &str| -> ! {
            panic!("{setback:?} is not true ({why}): {operation:?} {versions:?} {happened:?}")
        };
        match *setback {
            Setback::Network(_) => {
                if !may_break {
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
                    let Goal::Fetch(Want::Content { start, .. }) = operation.goal else {
                        lie("no range was asked for");
                    };
                    let past = |version: &SourceVersion| {
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
                FetchError::Truncated { .. }
                | FetchError::NoAnswer
                | FetchError::HeadCut
                | FetchError::TimedOut(_) => {
                    let slow = operation.whole.is_some();
                    if !may_break && !slow {
                        lie("nothing broke");
                    }
                }
                _ => lie("both sides speak HTTP"),
            },
        }
        assert!(
            !self.calm || dawdled || operation.is_hopeless(&versions),
            "{setback:?} on a calm day"
        );
    }

    /// Whether the server may have ended a connection that this one left lying: what a reader asked for,
    /// while it read elsewhere or not at all. Elsewhere than here, it is mended.
    fn has_dawdled(&self, time: Time, server: &Server) -> bool {
        let operation = self.operation();
        let source = server.sources.get(operation.source);
        let is_mended =
            operation.policy != RetryPolicy::NEVER && source.is_some_and(|source| source.tagged);
        matches!(operation.goal, Goal::Read(..)) && !is_mended && time - self.began >= STALL
    }

    fn assert_in_time(&self, time: Time) {
        let Some(whole) = self.operation().whole else {
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
            self.host.id,
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
        // Some read here and there instead, or download.
        let goal = match dice.below(6) {
            5 => {
                let on_change = dice.pick(&[OnChange::StartAnew, OnChange::Fail]);
                Goal::Download(on_change, downloading::lives(dice, calm, 40 * SECOND))
            }
            3 | 4 => Goal::read(dice, len),
            _ => Goal::Fetch(want),
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
            goal,
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
    fn is_hopeless(&self, versions: &[SourceVersion]) -> bool {
        let past_end = match self.goal {
            Goal::Fetch(Want::Content { start, .. }) => {
                versions.iter().any(|version| start >= version.len)
            }
            Goal::Fetch(Want::Length) | Goal::Read(..) | Goal::Download(..) => false,
        };
        !self.right_token || versions.is_empty() || past_end
    }
}

impl Goal {
    fn read(dice: &mut Dice, len: u64) -> Self {
        let mut config = ReadAheadConfig::default();
        config.block_bytes = 1 + dice.below(4000) as usize;
        config.blocks = 2 + dice.below(12) as usize;
        config.request_bytes_min = dice.below(10_000);
        config.request_bytes_max = dice.below(40_000);
        config.requests = 1 + dice.below(3) as usize;
        let mut position = 0;
        let reads = (0..1 + dice.below(12)).map(|_| {
            position = match dice.below(4) {
                // On from where it was.
                0 | 1 => position,
                2 => dice.below(len + 1),
                _ => dice.below(2 * len + 3),
            };
            let read = Read {
                position,
                len: 1 + dice.below(6000),
                pause_before: match dice.below(4) {
                    0..3 => 0,
                    _ => dice.below(50 * SECOND),
                },
            };
            position += read.len;
            read
        });
        Self::Read(config, reads.collect())
    }
}
