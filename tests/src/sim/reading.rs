//! A reader on a fetching host: the real policy of what to ask for, keep and drop, over transfers that
//! leave off when a block is full.

use std::time::Duration;

use peer_core::{
    fetch::{FetchError, Version, Want},
    read_ahead::{ReadAhead, ReadAheadConfig, ReadStep},
    transfer::Setback,
};

use super::{
    Context, Time,
    client::Host,
    link::Links,
    running::{Network, Order, Progress, Running, Sink},
    server::Server,
    source::Version as SourceVersion,
};

/// Something to be read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Read {
    pub(crate) position: u64,
    pub(crate) len: u64,
    pub(crate) pause_before: Time,
}

/// How far a reader came.
pub(crate) enum ReadProgress {
    Waits,
    /// So many bytes were read: fewer than asked for only at the end.
    Read(usize),
    Failed(Setback<Network>),
    /// Everything was read.
    Over,
}

enum Doing {
    Pausing {
        until: Time,
    },
    Looking,
    Opening {
        lane: usize,
        start: u64,
        len: Option<u64>,
        begun: Time,
        running: Box<Running>,
    },
    Receiving {
        lane: usize,
        slot: usize,
        /// Where in the slot the first byte belongs, and the next.
        offset: usize,
        end: usize,
        begun: Time,
    },
}

/// A reader.
pub(crate) struct Reading {
    order: Order,
    policy: ReadAhead,
    slots: Vec<Vec<u8>>,
    lanes: Vec<Option<Box<Running>>>,
    version: Option<Version>,
    changed: bool,
    /// The first request was answered.
    open: bool,
    reads: Vec<Read>,
    current: usize,
    /// What the current read has brought so far.
    got: Vec<u8>,
    doing: Doing,
    retries: u32,
    /// Where and what was read so far, and how much was asked for.
    history: Vec<(u64, Vec<u8>, u64)>,
}

/// Takes nothing.
pub(crate) struct NoSink;

impl Sink for NoSink {
    fn room(&self) -> usize {
        0
    }

    fn take(&mut self, _content: &[u8]) {
        panic!("no room");
    }
}

/// Fills a block from a place on.
struct BlockSink<'a> {
    block: &'a mut [u8],
    end: &'a mut usize,
}

impl Sink for BlockSink<'_> {
    fn room(&self) -> usize {
        self.block.len() - *self.end
    }

    fn take(&mut self, content: &[u8]) {
        self.block[*self.end..*self.end + content.len()].copy_from_slice(content);
        *self.end += content.len();
    }
}

impl Reading {
    pub(crate) fn new(order: Order, config: ReadAheadConfig, reads: Vec<Read>, time: Time) -> Self {
        let policy = ReadAhead::new(config);
        let config = *policy.config();
        let until = time + reads.first().map_or(0, |read| read.pause_before);
        Self {
            order,
            policy,
            slots: vec![vec![0; config.block_bytes]; config.blocks],
            lanes: (0..config.requests).map(|_| None).collect(),
            version: None,
            changed: false,
            open: false,
            reads,
            current: 0,
            got: Vec::new(),
            doing: Doing::Pausing { until },
            retries: 0,
            history: Vec::new(),
        }
    }

    pub(crate) fn wake(&self, links: &Links, looks_later: bool) -> Option<Time> {
        match &self.doing {
            Doing::Pausing { until } => Some(*until),
            Doing::Looking => None,
            Doing::Opening { running, .. } => running.wake(links, looks_later),
            Doing::Receiving { lane, .. } => {
                let running = self.lanes[*lane].as_ref()?;
                running.wake(links, looks_later)
            }
        }
    }

    /// What was read so far is of one of these versions, and so is the length that was told.
    pub(crate) fn assert_of_one(&self, versions: &[SourceVersion]) {
        let is_of = |version: &&SourceVersion| {
            let length = self.policy.complete_length();
            let mut history = self.history.iter();
            length.is_none_or(|length| length == version.len)
                && history.all(|(position, got, asked)| {
                    *got == version.slice(*position, position.saturating_add(*asked))
                })
        };
        assert!(
            versions.iter().any(|version| is_of(&version)),
            "a reader's bytes are of no version: length {:?}, {:?} of {versions:?}",
            self.policy.complete_length(),
            self.history
                .iter()
                .map(|(position, got, asked)| (position, got.len(), asked))
                .collect::<Vec<_>>()
        );
    }

    /// Whether reading fails for good: the first request failed, or the source has changed.
    pub(crate) const fn is_lost(&self) -> bool {
        self.changed || !self.open
    }

    /// Closes what is open. Returns the attempts made again.
    pub(crate) fn close(self, context: &mut Context<'_>) -> u32 {
        let opening = match self.doing {
            Doing::Opening { running, .. } => Some(running),
            _ => None,
        };
        let mut retries = self.retries;
        for running in self.lanes.into_iter().flatten().chain(opening) {
            retries += running.retries();
            running.abandon(context);
        }
        retries
    }

    /// Goes on until it has to wait, or something was read or failed.
    pub(crate) fn advance(
        &mut self,
        host: &mut Host,
        context: &mut Context<'_>,
        server: &mut Server,
        moved: &mut bool,
    ) -> ReadProgress {
        let time = context.time;
        loop {
            match &mut self.doing {
                Doing::Pausing { until } if *until > time => return ReadProgress::Waits,
                Doing::Pausing { .. } => self.doing = Doing::Looking,
                Doing::Looking => {
                    if let Some(progress) = self.look(context) {
                        return progress;
                    }
                }
                Doing::Opening { running, .. } => {
                    match running.advance(host, context, server, &mut NoSink, moved) {
                        Progress::Waits => return ReadProgress::Waits,
                        Progress::Paused => self.opened(None, time),
                        Progress::Done {
                            complete_length,
                            version,
                        } => self.opened(Some((complete_length, version)), time),
                        Progress::Failed(setback) => return self.failed(setback),
                    }
                }
                &mut Doing::Receiving {
                    lane,
                    slot,
                    offset,
                    ref mut end,
                    begun,
                } => {
                    let running = self.lanes[lane].as_mut().expect("an open lane");
                    let mut sink = BlockSink {
                        block: &mut self.slots[slot],
                        end,
                    };
                    let progress = running.advance(host, context, server, &mut sink, moved);
                    let n = *end - offset;
                    let is_last = match progress {
                        Progress::Waits => return ReadProgress::Waits,
                        Progress::Paused => false,
                        Progress::Done { .. } => true,
                        Progress::Failed(setback) => {
                            // The block may be half of one thing and half of another.
                            self.policy.handle_dropped(slot);
                            return self.failed(setback);
                        }
                    };
                    let elapsed = Duration::from_micros(time - begun);
                    self.policy.handle_received(lane, slot, n, is_last, elapsed);
                    if is_last {
                        self.retries += self.lanes[lane].take().map_or(0, |lane| lane.retries());
                    }
                    self.doing = Doing::Looking;
                }
            }
            *moved = true;
        }
    }

    /// Does what the policy says next.
    fn look(&mut self, context: &mut Context<'_>) -> Option<ReadProgress> {
        let time = context.time;
        let Some(read) = self.reads.get(self.current).copied() else {
            return Some(ReadProgress::Over);
        };
        // The first request is made where the source begins, whatever is read first.
        let position = match self.open {
            true => read.position.saturating_add(self.got.len() as u64),
            false => 0,
        };
        let wanted = read.len - self.got.len() as u64;
        if wanted == 0 {
            return Some(self.has_read(time));
        }
        if self.changed {
            return Some(ReadProgress::Failed(Setback::Fetch(FetchError::Changed)));
        }
        let step = self.policy.poll(position);
        assert_eq!(step, self.policy.poll(position), "polling is pure");
        match step {
            ReadStep::End => return Some(self.has_read(time)),
            ReadStep::Serve { slot, offset, len } => {
                let n = (len as u64).min(wanted) as usize;
                self.got
                    .extend_from_slice(&self.slots[slot][offset..offset + n]);
                self.policy.handle_served(slot);
            }
            ReadStep::Receive { lane, slot, offset } => {
                if self.lanes[lane].is_none() {
                    self.policy.handle_closed(lane);
                    return None;
                }
                self.doing = Doing::Receiving {
                    lane,
                    slot,
                    offset,
                    end: offset,
                    begun: time,
                };
            }
            ReadStep::Open { lane, start, len } => {
                self.policy.handle_closed(lane);
                // The connection goes with what is still to come over it.
                if let Some(old) = self.lanes[lane].take() {
                    self.retries += old.retries();
                    old.abandon(context);
                }
                let order = Order {
                    want: Want::Content { start, len },
                    version: self.version,
                    ..self.order
                };
                self.doing = Doing::Opening {
                    lane,
                    start,
                    len,
                    begun: time,
                    running: Box::new(Running::new(order, time)),
                };
            }
            ReadStep::Wait { .. } => panic!("nobody else reads"),
        }
        None
    }

    /// The head of a request's answer is there, or all of it.
    fn opened(&mut self, done: Option<(Option<u64>, Option<Version>)>, time: Time) {
        let Doing::Opening {
            lane,
            start,
            len,
            begun,
            mut running,
        } = std::mem::replace(&mut self.doing, Doing::Looking)
        else {
            return;
        };
        let answer = running.answer();
        let told = answer.map(|answer| (answer.complete_length, Some(answer.version())));
        let (told, version) = done.or(told).unwrap_or_default();
        if let (None, Some(version)) = (self.version, version) {
            self.version = Some(version);
            running.bind(version);
        }
        let latency = Duration::from_micros(time - begun);
        self.policy.handle_opened(lane, start, len, told, latency);
        self.lanes[lane] = Some(running);
        self.open = true;
        // What is asked for from here on is known to be there.
        self.order.policy.from_nothing = true;
    }

    fn has_read(&mut self, time: Time) -> ReadProgress {
        let n = self.got.len();
        let read = self.reads[self.current];
        self.note(read.len);
        self.next(time);
        ReadProgress::Read(n)
    }

    fn note(&mut self, asked: u64) {
        let position = self.reads[self.current].position;
        let got = std::mem::take(&mut self.got);
        self.history.push((position, got, asked));
    }

    /// On to the next read.
    fn next(&mut self, time: Time) {
        self.current += 1;
        let pause = self
            .reads
            .get(self.current)
            .map_or(0, |read| read.pause_before);
        self.doing = Doing::Pausing {
            until: time + pause,
        };
    }

    fn failed(&mut self, setback: Setback<Network>) -> ReadProgress {
        let lane = match std::mem::replace(&mut self.doing, Doing::Looking) {
            Doing::Opening { lane, running, .. } => {
                self.retries += running.retries();
                lane
            }
            Doing::Receiving { lane, .. } => {
                self.retries += self.lanes[lane].take().map_or(0, |lane| lane.retries());
                lane
            }
            Doing::Pausing { .. } | Doing::Looking => return ReadProgress::Failed(setback),
        };
        self.policy.handle_closed(lane);
        self.changed |= matches!(setback, Setback::Fetch(FetchError::Changed));
        // What it had brought is the beginning of what was asked for.
        let asked = self.got.len() as u64;
        self.note(asked);
        ReadProgress::Failed(setback)
    }

    /// On to the next read, behind one that failed.
    pub(crate) fn go_on(&mut self, time: Time) {
        self.next(time);
    }
}
