//! A deterministic simulator: the real machines of both sides, on a virtual clock, over links that
//! misbehave as a seed says.
//!
//! What is real: [`ServerConnection`](peer_core::ServerConnection), the admission decisions,
//! [`Fetch`](peer_core::fetch::Fetch) and [`Transfer`](peer_core::transfer::Transfer). What is
//! simulated: sockets, clocks, sources, the drivers' few lines between them, and all that can go
//! wrong: latency, short reads and writes, splits, full windows, stalls, ends and resets at any
//! byte, half-closed connections, servers that restart, processes that are suspended, sources that
//! change, fail, end early or block, tokens that are revoked, and strangers.
//!
//! The law, for every seed: each operation ends in bounded virtual time, with exactly the bytes
//! asked for of one version, or with a typed verdict that is true; and each connection ends too.
//!
//! `PEER_SEED=n cargo test -p peer-tests --test it simulation` replays one seed and prints what
//! happened in it.

mod client;
mod dice;
mod downloading;
mod link;
mod reading;
mod running;
mod server;
mod source;
mod stranger;

use std::time::{Duration, Instant};

use peer_core::Now;

use crate::check::server::at;
use client::Client;
use dice::Dice;
use server::Server;
use stranger::Stranger;

/// A point on the virtual clock, in microseconds.
pub(crate) type Time = u64;

const SECOND: Time = 1_000_000;

/// All operations, and after them all connections, are over by then, pauses not counted.
const END: Time = 4 * 3600 * SECOND;

fn instant(time: Time) -> Instant {
    now(time).instant
}

fn now(time: Time) -> Now {
    at(Duration::from_micros(time))
}

fn time_of(instant: Instant) -> Time {
    let elapsed = instant.saturating_duration_since(self::instant(0));
    // Rounded up, so that a deadline has passed when its time has come.
    elapsed.as_nanos().div_ceil(1000) as Time
}

/// What happened in one run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Operations that delivered what was asked for.
    pub delivered: u32,
    /// Operations that failed, with a verdict that is true.
    pub failed: u32,
    /// Reads of readers that brought what was asked for.
    pub reads: u32,
    /// Reads that failed, with a verdict that is true, of readers that could go on.
    pub reads_failed: u32,
    /// Downloads that made a whole file, those among them that went on where another process was.
    pub downloads: u32,
    /// See [`downloads`](Self::downloads).
    pub downloads_resumed: u32,
    /// Attempts after the first, over all operations.
    pub retries: u32,
    /// Content bytes delivered.
    pub bytes: u64,
    /// When all was over, in virtual microseconds.
    pub end: Time,
    /// Turns of the event loop.
    pub turns: u64,
}

impl Report {
    /// Adds another run's figures.
    pub fn add(&mut self, other: &Self) {
        self.delivered += other.delivered;
        self.failed += other.failed;
        self.reads += other.reads;
        self.reads_failed += other.reads_failed;
        self.downloads += other.downloads;
        self.downloads_resumed += other.downloads_resumed;
        self.retries += other.retries;
        self.bytes += other.bytes;
        self.end += other.end;
        self.turns += other.turns;
    }

    /// What `count` runs did that took so long.
    #[must_use]
    pub fn summary(&self, count: u64, took: Duration) -> String {
        let seconds = took.as_secs_f64();
        format!(
            "{count} seeds in {seconds:.1} s, {:.0} per second: {} operations delivered {} bytes \
             with {} retries, {} failed for a true reason; {} reads of readers went well, {} did not; \
             {} downloads made a file, {} of them in several processes; {} hours of virtual time",
            count as f64 / seconds,
            self.delivered,
            self.bytes,
            self.retries,
            self.failed,
            self.reads,
            self.reads_failed,
            self.downloads,
            self.downloads_resumed,
            self.end / 3600 / SECOND,
        )
    }
}

/// Faults that took effect: what a verdict may name as its reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Happened {
    /// A link ended, was reset or stalled.
    pub(crate) link: bool,
    /// The server was down for a while, or started anew.
    pub(crate) restarted: bool,
    /// A process did not run for a while.
    pub(crate) suspended: bool,
    /// A source failed, ended early or blocked.
    pub(crate) source: bool,
    /// A source changed.
    pub(crate) changed: bool,
    /// The token was revoked.
    pub(crate) revoked: bool,
    /// A connection had to give way to another.
    pub(crate) evicted: bool,
}

impl Happened {
    /// Whether a connection may have broken.
    pub(crate) const fn may_break(&self) -> bool {
        self.link
            || self.restarted
            || self.suspended
            || self.source
            || self.changed
            || self.revoked
            || self.evicted
    }
}

/// Runs the world of `seed`.
///
/// # Panics
/// Where the law does not hold; the message names the seed.
#[must_use]
pub fn run_seed(seed: u64, trace: bool) -> Report {
    run(Dice::seeded(seed), trace)
}

/// Runs the world that a fuzzer's input spells. Past its end nothing goes wrong any more.
///
/// # Panics
/// Where the law does not hold.
#[must_use]
pub fn run_bytes(input: &[u8]) -> Report {
    run(Dice::spelled(input), false)
}

fn run(dice: Dice, trace: bool) -> Report {
    let mut world = World::new(dice, trace);
    world.run()
}

/// Everything there is.
struct World {
    dice: Dice,
    time: Time,
    happened: Happened,
    server: Server,
    clients: Vec<Client>,
    strangers: Vec<Stranger>,
    links: link::Links,
    trace: bool,
}

impl World {
    fn new(mut dice: Dice, trace: bool) -> Self {
        // One world in eight is calm: there, every operation has to deliver.
        let calm = dice.below(8) == 0;
        let server = Server::new(&mut dice, calm);
        let clients = (0..1 + dice.below(3))
            .map(|id| Client::new(id as u8, &mut dice, calm, &server))
            .collect();
        let strangers = if calm || dice.below(3) > 0 {
            0
        } else {
            1 + dice.below(12)
        };
        let strangers = (0..strangers).map(|_| Stranger::new(&mut dice)).collect();
        Self {
            dice,
            time: 0,
            happened: Happened::default(),
            server,
            clients,
            strangers,
            links: link::Links::new(calm),
            trace,
        }
    }

    fn run(&mut self) -> Report {
        let mut report = Report::default();
        loop {
            report.turns += 1;
            assert!(
                report.turns < 3_000_000,
                "it goes on and on at {}",
                self.time
            );
            let mut moved = self.links.deliver(self.time, &mut self.happened);
            let mut context = Context {
                time: self.time,
                dice: &mut self.dice,
                happened: &mut self.happened,
                links: &mut self.links,
                trace: self.trace,
            };
            moved |= self.server.step(&mut context);
            for client in &mut self.clients {
                moved |= client.step(&mut context, &mut self.server, &mut report);
            }
            for stranger in &mut self.strangers {
                moved |= stranger.step(&mut context, &mut self.server);
            }
            if moved {
                continue;
            }
            let wakes = self
                .clients
                .iter()
                .filter_map(|client| client.wake(&self.links))
                .chain(self.strangers.iter().filter_map(Stranger::wake))
                .chain(self.server.wake())
                .chain(self.links.wake());
            let Some(next) = wakes.filter(|&wake| wake > self.time).min() else {
                break;
            };
            assert!(next < END, "not over at {next}");
            self.time = next;
        }
        for client in &self.clients {
            client.assert_over();
        }
        self.server.assert_over();
        report.end = self.time;
        report
    }
}

/// What each actor may touch in its turn.
struct Context<'a> {
    time: Time,
    dice: &'a mut Dice,
    happened: &'a mut Happened,
    links: &'a mut link::Links,
    trace: bool,
}

impl Context<'_> {
    fn trace(&self, what: impl FnOnce() -> String) {
        if self.trace {
            let seconds = self.time / SECOND;
            println!("{seconds:>6}.{:06} {}", self.time % SECOND, what());
        }
    }
}
