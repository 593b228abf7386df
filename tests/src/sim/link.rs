//! Connections between two hosts, as TCP shows them to its users: two pipes of bytes that arrive
//! late, in pieces, not at all, or not any more.

use std::collections::VecDeque;

use super::{Happened, SECOND, Time, dice::Dice};

/// Which end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Client = 0,
    Server = 1,
}

impl End {
    pub(crate) const fn peer(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

/// What reading brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Read {
    Bytes(usize),
    End,
    Reset,
    /// Nothing yet.
    Wait,
}

/// What writing brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    Bytes(usize),
    Reset,
    /// No room.
    Wait,
}

/// What a link does to its bytes, once so many have passed.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// Both ends see a reset.
    Reset,
    /// The sending end is taken for closed: a process that died politely.
    End,
    /// Nothing passes for so long.
    Stall(Time),
}

/// One direction, named by the end that reads it.
#[derive(Debug)]
struct Pipe {
    in_flight: VecDeque<(Time, Vec<u8>)>,
    ready: VecDeque<u8>,
    /// Bytes accepted in all.
    passed: u64,
    in_flight_bytes: usize,
    fault: Option<(u64, Fault)>,
    /// When the end of the stream arrives.
    end: Option<Time>,
    ended: bool,
    last_arrival: Time,
}

impl Pipe {
    fn new(fault: Option<(u64, Fault)>) -> Self {
        Self {
            in_flight: VecDeque::new(),
            ready: VecDeque::new(),
            passed: 0,
            in_flight_bytes: 0,
            fault,
            end: None,
            ended: false,
            last_arrival: 0,
        }
    }
}

/// One connection.
#[derive(Debug)]
struct Link {
    pipes: [Pipe; 2],
    latency: Time,
    window: usize,
    /// Most bytes that one read or write moves.
    piece: u64,
    /// An end's socket is closed: nothing that arrives there is read.
    closed: [bool; 2],
    /// When a reset reaches an end.
    reset_at: [Option<Time>; 2],
    reset: [bool; 2],
}

/// The identity of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LinkId(usize);

/// All connections.
#[derive(Debug)]
pub(crate) struct Links {
    links: Vec<Option<Link>>,
    calm: bool,
}

impl Links {
    pub(crate) const fn new(calm: bool) -> Self {
        Self {
            links: Vec::new(),
            calm,
        }
    }

    /// A connection of hosts that are `latency` apart.
    pub(crate) fn open(&mut self, latency: Time, dice: &mut Dice) -> LinkId {
        let mut fault = |percent| {
            if self.calm || !dice.chance(percent) {
                return None;
            }
            let at = match dice.below(3) {
                0 => dice.below(40),
                1 => dice.below(600),
                _ => dice.below(40_000),
            };
            let fault = match dice.below(4) {
                0 | 1 => Fault::Reset,
                2 => Fault::End,
                _ => Fault::Stall(dice.below(90) * SECOND),
            };
            Some((at, fault))
        };
        let pipes = [Pipe::new(fault(25)), Pipe::new(fault(10))];
        let link = Link {
            pipes,
            latency,
            window: dice.pick(&[65_536, 16_384, 2_000, 300]),
            piece: match dice.below(30) {
                0..15 => u64::MAX,
                15..25 => 1460,
                25..28 => 100,
                28 => 7,
                _ => 1,
            },
            closed: [false; 2],
            reset_at: [None; 2],
            reset: [false; 2],
        };
        self.links.push(Some(link));
        LinkId(self.links.len() - 1)
    }

    fn get(&mut self, id: LinkId) -> Option<&mut Link> {
        self.links[id.0].as_mut()
    }

    /// Moves on what has arrived by `time`. Whether anything did.
    pub(crate) fn deliver(&mut self, time: Time, happened: &mut Happened) -> bool {
        let mut moved = false;
        for slot in &mut self.links {
            let Some(link) = slot else { continue };
            for end in [End::Client, End::Server] {
                let at = end as usize;
                if link.reset_at[at].is_some_and(|due| due <= time) {
                    link.reset_at[at] = None;
                    link.reset[at] = true;
                    // What was not read yet is lost with the connection.
                    link.pipes[at].ready.clear();
                    moved = true;
                }
                let closed = link.closed[at];
                let latency = link.latency;
                let pipe = &mut link.pipes[at];
                while pipe.in_flight.front().is_some_and(|&(due, _)| due <= time) {
                    let (_, bytes) = pipe.in_flight.pop_front().unwrap_or_default();
                    pipe.in_flight_bytes -= bytes.len();
                    moved = true;
                    if closed {
                        // Nobody is there any more.
                        let peer = end.peer() as usize;
                        link.reset_at[peer].get_or_insert(time + latency);
                    } else {
                        pipe.ready.extend(bytes);
                    }
                }
                if pipe.end.is_some_and(|due| due <= time) && pipe.in_flight.is_empty() {
                    pipe.end = None;
                    pipe.ended = true;
                    moved = true;
                }
            }
            let gone = |at: usize| link.closed[at] || link.reset[at];
            if link.closed == [true; 2] || (link.closed.contains(&true) && gone(0) && gone(1)) {
                let quiet = link.pipes.iter().all(|pipe| pipe.in_flight.is_empty());
                if quiet && link.closed == [true; 2] {
                    *slot = None;
                }
            }
        }
        let _ = happened;
        moved
    }

    /// When something arrives next.
    pub(crate) fn wake(&self) -> Option<Time> {
        self.links
            .iter()
            .flatten()
            .flat_map(|link| {
                let arrivals = link.pipes.iter().flat_map(|pipe| {
                    let end = pipe.end.map(|end| end.max(pipe.last_arrival));
                    pipe.in_flight
                        .front()
                        .map(|&(due, _)| due)
                        .into_iter()
                        .chain(end)
                });
                arrivals.chain(link.reset_at.iter().flatten().copied())
            })
            .min()
    }

    /// Reads at `end` into `buf`.
    pub(crate) fn read(&mut self, id: LinkId, end: End, buf: &mut [u8], dice: &mut Dice) -> Read {
        let Some(link) = self.get(id) else {
            return Read::Reset;
        };
        let at = end as usize;
        if link.reset[at] {
            return Read::Reset;
        }
        let piece = usize::try_from(link.piece).unwrap_or(usize::MAX);
        let pipe = &mut link.pipes[at];
        if pipe.ready.is_empty() {
            return if pipe.ended { Read::End } else { Read::Wait };
        }
        let mut n = buf.len().min(pipe.ready.len()).min(piece);
        if n > 1 && dice.chance(10) {
            n = 1 + dice.below(n as u64) as usize;
        }
        let (first, second) = pipe.ready.as_slices();
        let from_first = n.min(first.len());
        buf[..from_first].copy_from_slice(&first[..from_first]);
        buf[from_first..n].copy_from_slice(&second[..n - from_first]);
        pipe.ready.drain(..n);
        Read::Bytes(n)
    }

    /// Writes a part of `bytes` at `end`.
    pub(crate) fn write(
        &mut self,
        id: LinkId,
        end: End,
        bytes: &[u8],
        time: Time,
        happened: &mut Happened,
        dice: &mut Dice,
    ) -> Written {
        let Some(link) = self.get(id) else {
            return Written::Reset;
        };
        if link.reset[end as usize] {
            return Written::Reset;
        }
        let (window, latency) = (link.window, link.latency);
        let piece = usize::try_from(link.piece).unwrap_or(usize::MAX);
        let reader = end.peer() as usize;
        let pipe = &mut link.pipes[reader];
        if pipe.ended || pipe.end.is_some() {
            // The link has ended this stream already: the bytes go nowhere.
            return Written::Bytes(bytes.len());
        }
        let used = pipe.in_flight_bytes + pipe.ready.len();
        let mut n = bytes
            .len()
            .min(window.saturating_sub(used))
            .min(piece.max(64));
        if n == 0 {
            return Written::Wait;
        }
        if n > 1 && dice.chance(10) {
            n = 1 + dice.below(n as u64) as usize;
        }
        let mut delay = latency;
        let mut lost = 0;
        if let Some((place, fault)) = pipe.fault {
            if pipe.passed + n as u64 > place {
                pipe.fault = None;
                happened.link = true;
                let kept = (place - pipe.passed.min(place)) as usize;
                match fault {
                    Fault::Stall(stall) => delay += stall,
                    Fault::End => {
                        lost = n - kept;
                        pipe.end = Some(time + latency);
                    }
                    Fault::Reset => {
                        lost = n - kept;
                        link.reset_at = [Some(time + latency); 2];
                    }
                }
            }
        }
        pipe.passed += n as u64;
        // In order: nothing overtakes what was sent before.
        let arrival = (time + delay).max(pipe.last_arrival);
        pipe.last_arrival = arrival;
        let kept = n - lost;
        if kept > 0 {
            pipe.in_flight_bytes += kept;
            pipe.in_flight.push_back((arrival, bytes[..kept].to_vec()));
        }
        if let Some(end) = &mut pipe.end {
            *end = (*end).max(arrival);
        }
        Written::Bytes(n)
    }

    /// Ends the stream that `end` sends.
    pub(crate) fn shut(&mut self, id: LinkId, end: End, time: Time) {
        let Some(link) = self.get(id) else { return };
        let latency = link.latency;
        let pipe = &mut link.pipes[end.peer() as usize];
        if !pipe.ended {
            let arrival = (time + latency).max(pipe.last_arrival);
            pipe.end.get_or_insert(arrival);
        }
    }

    /// Closes the socket at `end`. Bytes that were not read make it a reset, as TCP does.
    pub(crate) fn close(&mut self, id: LinkId, end: End, time: Time, abort: bool) {
        self.shut(id, end, time);
        let Some(link) = self.get(id) else { return };
        if link.closed[end as usize] {
            return;
        }
        link.closed[end as usize] = true;
        if abort || !link.pipes[end as usize].ready.is_empty() {
            let due = time + link.latency;
            link.reset_at[end.peer() as usize].get_or_insert(due);
        }
    }

    /// Whether an end has to look: bytes, an end or a reset are there.
    pub(crate) fn is_readable(&self, id: LinkId, end: End) -> bool {
        let Some(link) = &self.links[id.0] else {
            return true;
        };
        let pipe = &link.pipes[end as usize];
        link.reset[end as usize] || pipe.ended || !pipe.ready.is_empty()
    }
}
