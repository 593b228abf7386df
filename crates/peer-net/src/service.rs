//! What all connections of a server share: who holds a connection, tokens, counters.

use std::{
    net::IpAddr,
    sync::{Arc, PoisonError, atomic::AtomicU64 as Counter},
    time::{Duration, Instant},
};

use peer_core::{
    Authorization, Foreign,
    admission::{self, Decision, Standing},
    pace::Bucket,
};

use crate::{
    blocks::Blocks,
    callback::call,
    cancel::Cancel,
    config::{ACCEPTORS_MAX, Config, DROP_WAIT, ServerEvent},
    crew::Crew,
    source::SourceResolver,
    stream::Stream,
    sync::{AtomicBool, AtomicU64, Mutex, MutexGuard, Ordering},
    token_set::{Holder, Refusal, TokenSet},
};

/// Locks a mutex whose data stays whole even if a thread panicked with it.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The state behind a server, without its listeners.
pub(crate) struct Service {
    pub(crate) config: Config,
    pub(crate) resolver: SourceResolver,
    pub(crate) tokens: TokenSet,
    pub(crate) blocks: Blocks,
    pub(crate) counters: Counters,
    /// What all transfers may send together, if that is limited.
    pub(crate) rate: Option<Mutex<Bucket>>,
    /// Raised by every change of the token set that takes a token out.
    token_generation: AtomicU64,
    started: Instant,
    connections: Mutex<Vec<Arc<Connection>>>,
    next_arrival: AtomicU64,
    next_transfer: AtomicU64,
    pub(crate) stopping: AtomicBool,
    /// Idle connections end instead of waiting for another request.
    pub(crate) draining: AtomicBool,
    /// Apart, since a thread that ends holds nothing else of a server.
    pub(crate) crew: Arc<Crew<Arc<Connection>>>,
}

/// Counts of what happened on a server since it started.
/// They are `std`'s own: see [`crate::sync`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) accepted: Counter,
    pub(crate) requests: Counter,
    pub(crate) transfers: Counter,
    pub(crate) transfers_complete: Counter,
    pub(crate) transfers_running: Counter,
    pub(crate) content_bytes: Counter,
    pub(crate) tokens_refused: Counter,
    /// Of these, why: only a bridge tells.
    pub(crate) refused_expired: Counter,
    pub(crate) refused_revoked: Counter,
    pub(crate) refused_host: Counter,
    pub(crate) refused_origin: Counter,
    pub(crate) evicted: Counter,
    pub(crate) overloaded: Counter,
    pub(crate) shed: Counter,
    pub(crate) timed_out: Counter,
    pub(crate) hung_up: Counter,
    pub(crate) source_failed: Counter,
    pub(crate) accept_failed: Counter,
}

/// Adds one. The counters are for people, so their order among each other does not matter.
pub(crate) fn count(counter: &Counter) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Values of [`Connection::standing`] below this are no points in time.
const IDLE_FROM: u64 = 3;
const UNHEARD: u64 = 0;
const HEARD: u64 = 1;
const BUSY: u64 = 2;

/// Time for a newcomer's head to arrive, in which it does not give way to a shortage of the system's:
/// whoever finds no descriptor has nobody to let in yet. A few times the way through a bad Wi-Fi.
pub(crate) const HEAD_START: Duration = Duration::from_millis(200);

/// Value of [`Connection::token`] before one was shown.
const NO_TOKEN: u64 = u64::MAX;

/// One connection, as others see it.
pub(crate) struct Connection {
    pub(crate) stream: Arc<dyn Stream>,
    pub(crate) address: IpAddr,
    arrival: u64,
    pub(crate) arrived: Instant,
    /// [`UNHEARD`], [`HEARD`], [`BUSY`], or idle since that many milliseconds after the server's start.
    standing: AtomicU64,
    /// Number of the token it was last authorized with.
    token: AtomicU64,
    /// The server closed it.
    pub(crate) cut: AtomicBool,
    /// Ends what a source of its answer waits for, when it is cut.
    pub(crate) cancel: Cancel,
}

impl Connection {
    fn standing(&self) -> Standing {
        match self.standing.load(Ordering::SeqCst) {
            UNHEARD => Standing::Stranger { heard: false },
            HEARD => Standing::Stranger { heard: true },
            BUSY => Standing::Busy,
            since => Standing::Idle(since),
        }
    }

    /// Ends it from outside; its thread notices at once. Returns whether it was the first to.
    pub(crate) fn cut(&self) -> bool {
        let was_cut = self.cut.swap(true, Ordering::Relaxed);
        self.stream.hang_up();
        self.cancel.cancel();
        !was_cut
    }

    /// States that a connection which has not shown the token is listened to, from now on.
    pub(crate) fn set_heard(&self) {
        self.standing.store(HEARD, Ordering::Relaxed);
    }

    pub(crate) fn set_busy(&self) {
        self.standing.store(BUSY, Ordering::Relaxed);
    }

    /// The content of an answer that is being sent, as opposed to waiting for a request.
    fn is_idle(&self) -> bool {
        self.standing() != Standing::Busy
    }
}

impl Service {
    pub(crate) fn new(config: Config, resolver: SourceResolver) -> Self {
        let limits = config.limits;
        let serving_max = limits.strangers.saturating_add(limits.paired);
        let rate = config.rate.map(|rate| Mutex::new(Bucket::new(rate)));
        Self {
            config,
            rate,
            resolver,
            tokens: TokenSet::default(),
            blocks: Blocks::default(),
            counters: Counters::default(),
            token_generation: AtomicU64::new(0),
            started: Instant::now(),
            connections: Mutex::default(),
            next_arrival: AtomicU64::new(0),
            next_transfer: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            crew: Arc::new(Crew::new(serving_max, ACCEPTORS_MAX)),
        }
    }

    /// Lets a newcomer in, at the cost of whoever must give way. `None`: there is no room.
    pub(crate) fn arrive(
        &self,
        stream: Arc<dyn Stream>,
        address: IpAddr,
    ) -> Option<Arc<Connection>> {
        count(&self.counters.accepted);
        let address = address.to_canonical();
        let mut connections = lock(&self.connections);
        let limits = &self.config.limits;
        let decision = if connections.len() < limits.strangers.min(limits.strangers_per_address) {
            // Whoever they are, and wherever they come from.
            Decision::Admit
        } else {
            admission::admit_stranger(limits, address, &holders(&connections))
        };
        match decision {
            Decision::Admit => {}
            Decision::Replace(arrival) => self.evict(&mut connections, arrival),
            Decision::Refuse => {
                drop(connections);
                count(&self.counters.shed);
                stream.hang_up();
                return None;
            }
        }
        let connection = Arc::new(Connection {
            stream,
            address,
            arrival: self.next_arrival.fetch_add(1, Ordering::Relaxed),
            arrived: Instant::now(),
            standing: AtomicU64::new(UNHEARD),
            token: AtomicU64::new(NO_TOKEN),
            cut: AtomicBool::new(false),
            cancel: Cancel::new(),
        });
        connections.push(Arc::clone(&connection));
        Some(connection)
    }

    /// Takes a connection off the list, and ends it for its peer.
    ///
    /// Dropping it would end it with the last share of its socket, and not all of these are ours:
    /// whoever made the stream may keep one, and on some systems a process that was started meanwhile
    /// has one.
    pub(crate) fn leave(&self, connection: &Connection) {
        lock(&self.connections).retain(|other| other.arrival != connection.arrival);
        connection.stream.hang_up();
    }

    /// Closes a connection, and counts it as gone from now on.
    fn evict(&self, connections: &mut Vec<Arc<Connection>>, arrival: u64) {
        if let Some(at) = connections
            .iter()
            .position(|other| other.arrival == arrival)
        {
            count(&self.counters.evicted);
            connections.swap_remove(at).cut();
        }
    }

    /// Closes the stranger that has to go first, if there is one that had its [`HEAD_START`]: the
    /// system has no more descriptors or threads, and somebody new may hold the token.
    pub(crate) fn evict_stranger(&self, now: Instant) -> bool {
        let mut connections = lock(&self.connections);
        let mut holders = holders(&connections);
        let is_new = |arrival| {
            let mut all = connections.iter();
            let has_come = |since| now.saturating_duration_since(since) < HEAD_START;
            all.any(|other| other.arrival == arrival && has_come(other.arrived))
        };
        holders.retain(|holder| !is_new(holder.arrival));
        let chosen = admission::stranger_to_go(&self.config.limits, &holders);
        if let Some(arrival) = chosen {
            self.evict(&mut connections, arrival);
        }
        chosen.is_some()
    }

    /// Judges a token that a connection presented, and makes room for it.
    pub(crate) fn authorize(
        &self,
        connection: &Connection,
        presented: &[u8],
        foreign: Option<Foreign>,
        now: Instant,
    ) -> (Authorization, Option<Holder>) {
        let holder = loop {
            // A revocation either sees the number stored here, or is seen here.
            let generation = self.token_generation.load(Ordering::SeqCst);
            let found = self.tokens.find(presented, now);
            let holder = match foreign {
                None => found,
                Some(Foreign::Host) => Err(Refusal::Host),
                Some(Foreign::Origin) => Err(Refusal::Origin),
            };
            let id = holder.as_ref().map_or(NO_TOKEN, |holder| holder.id);
            connection.token.store(id, Ordering::SeqCst);
            if self.token_generation.load(Ordering::SeqCst) == generation {
                break holder;
            }
        };
        let holder = match holder {
            Ok(holder) => holder,
            Err(refusal) => {
                self.refused(refusal);
                self.tell(&ServerEvent::TokenRefused {
                    address: connection.address,
                });
                return (Authorization::Denied, None);
            }
        };
        if connection.standing().is_stranger() {
            let mut connections = lock(&self.connections);
            // Whoever has had to give way, or was cut, holds no place: it takes nobody else's.
            if connection.cut.load(Ordering::Relaxed) {
                return (Authorization::Overloaded, None);
            }
            let limits = &self.config.limits;
            let decision = if connections.len() < limits.paired.min(limits.paired_per_address) {
                Decision::Admit
            } else {
                admission::admit_paired(limits, connection.address, &holders(&connections))
            };
            match decision {
                Decision::Admit => {}
                Decision::Replace(arrival) => self.evict(&mut connections, arrival),
                Decision::Refuse => {
                    count(&self.counters.overloaded);
                    return (Authorization::Overloaded, None);
                }
            }
            connection.set_busy();
        }
        (Authorization::Granted, Some(holder))
    }

    fn refused(&self, why: Refusal) {
        let counters = &self.counters;
        count(&counters.tokens_refused);
        match why {
            Refusal::Unknown => {}
            Refusal::Expired => count(&counters.refused_expired),
            Refusal::Revoked => count(&counters.refused_revoked),
            Refusal::Host => count(&counters.refused_host),
            Refusal::Origin => count(&counters.refused_origin),
        }
    }

    /// States that a connection which has shown the token waits for its next request.
    pub(crate) fn set_idle(&self, connection: &Connection, now: Instant) {
        let since = now.saturating_duration_since(self.started).as_millis();
        let since = u64::try_from(since).unwrap_or(u64::MAX - IDLE_FROM) + IDLE_FROM;
        connection.standing.store(since, Ordering::SeqCst);
    }

    /// Cuts every connection that was authorized with one of these tokens.
    pub(crate) fn revoke(&self, tokens: &[u64]) -> usize {
        self.token_generation.fetch_add(1, Ordering::SeqCst);
        let connections = lock(&self.connections);
        let held = connections
            .iter()
            .filter(|connection| tokens.contains(&connection.token.load(Ordering::SeqCst)));
        held.filter(|connection| connection.cut()).count()
    }

    /// Cuts connections: all of them, or those that wait for a request. Returns how many.
    pub(crate) fn cut_connections(&self, idle_only: bool) -> usize {
        let connections = lock(&self.connections);
        let chosen = connections
            .iter()
            .filter(|connection| !idle_only || connection.is_idle());
        chosen.filter(|connection| connection.cut()).count()
    }

    /// Strangers, idle and busy connections, in this order.
    pub(crate) fn standings(&self) -> [usize; 3] {
        let mut counts = [0; 3];
        for connection in lock(&self.connections).iter() {
            match connection.standing() {
                Standing::Stranger { .. } => counts[0] += 1,
                Standing::Idle(_) => counts[1] += 1,
                Standing::Busy => counts[2] += 1,
            }
        }
        counts
    }

    pub(crate) fn next_transfer(&self) -> u64 {
        self.next_transfer.fetch_add(1, Ordering::Relaxed)
    }

    /// Calls the app's hook, if there is one.
    pub(crate) fn tell(&self, event: &ServerEvent<'_>) {
        if let Some(hook) = &self.config.hook {
            let _ = call(|| hook(event));
        }
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Waits until `done`, which must become true by a thread's end, by the server's stop, or before
    /// the crew is notified. Returns whether it came to be in time.
    pub(crate) fn wait(&self, until: Instant, done: impl Fn() -> bool) -> bool {
        self.crew.wait(until, done)
    }

    /// Ends whatever still runs, once no listener is left: idle connections at once, transfers after
    /// `grace`. Waits for all threads but `own`. Returns how many transfers were cut, and whether all
    /// threads have ended.
    pub(crate) fn wind_up(&self, own: usize, grace: Duration) -> (usize, bool) {
        self.stopping.store(true, Ordering::SeqCst);
        // Those that pause.
        self.crew.notify();
        self.cut_connections(true);
        let now = Instant::now();
        let until = now.checked_add(grace).unwrap_or(now);
        let finished = self.crew.wait_for_end(own, until);
        let cut = if finished {
            0
        } else {
            self.cut_connections(false)
        };
        while let Some(connection) = self.crew.next_aside() {
            self.leave(&connection);
        }
        let ended = finished || self.crew.wait_for_end(own, Instant::now() + DROP_WAIT);
        (cut, ended)
    }
}

fn holders(connections: &[Arc<Connection>]) -> Vec<admission::Holder> {
    let holder = |connection: &Arc<Connection>| admission::Holder {
        address: connection.address,
        standing: connection.standing(),
        arrival: connection.arrival,
    };
    connections.iter().map(holder).collect()
}

#[cfg(all(test, peer_models))]
mod models;
