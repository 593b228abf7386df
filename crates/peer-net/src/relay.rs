//! What the readers of one remote source share: what is here of it, and the requests for more.
//!
//! No thread stands behind it. Whoever reads what is not here fetches it, over a lane that is its
//! own for that long; whoever needs the same bytes waits for it. What to ask for, keep and drop is
//! decided by [`peer_core::read_ahead`].

use std::{
    io,
    sync::{Arc, PoisonError, Weak},
    time::{Duration, Instant},
};

use peer_core::{
    fetch::{Version, Want},
    read_ahead::{ReadAhead, ReadStep},
    transfer::RetryPolicy,
};

use crate::{
    callback::call,
    cancel::Cancel,
    client::PeerClient,
    client_exchange::{Failure, NoSink, PieceSink},
    client_transfer::RunningTransfer,
    error::PeerError,
    remote_source::RemoteSourceConfig,
    service::lock,
    sync::{AtomicU64, Condvar, Mutex, MutexGuard, Ordering},
};

/// How long a reader that waits for another one's bytes may not notice that it was cancelled.
const WAIT_SLICE: Duration = Duration::from_millis(50);

/// What the peer said of the present version.
pub(crate) struct Known {
    /// Different for each version of one source.
    pub(crate) epoch: u64,
    pub(crate) len: u64,
    pub(crate) content_type: Option<Box<str>>,
    pub(crate) version: Version,
}

/// One source, as all of its readers see it.
pub(crate) struct Shared {
    pub(crate) client: PeerClient,
    pub(crate) handle: String,
    config: RemoteSourceConfig,
    /// For lanes: what they ask for is known to be there, so they may try for as long as a broken
    /// one may be mended.
    retry: RetryPolicy,
    family: Option<Arc<Family>>,
    pub(crate) requests: AtomicU64,
    next_seat: AtomicU64,
    state: Mutex<State>,
    stirred: Condvar,
}

#[derive(Default)]
struct State {
    /// Readers that have read and are not gone.
    seated: usize,
    next_epoch: u64,
    /// Somebody is asking the peer what the source is.
    learning: bool,
    /// How that failed last, for those who waited.
    learning_failed: Failures,
    epoch: Option<Epoch>,
}

/// The source at one version, and what is here of it.
struct Epoch {
    known: Arc<Known>,
    /// When the peer last said that this is the version.
    confirmed: Instant,
    policy: ReadAhead,
    blocks: Vec<Box<[u8]>>,
    lanes: Vec<Lane>,
}

#[derive(Default)]
struct Lane {
    // Boxed, since most lanes of most sources are closed.
    running: Option<Box<Running>>,
    failed: Failures,
}

/// A request that is open, and room for what comes next over it.
struct Running {
    transfer: RunningTransfer,
    room: Box<[u8]>,
}

impl Running {
    fn new(transfer: RunningTransfer, block_bytes: usize) -> Box<Self> {
        let room = vec![0; block_bytes].into_boxed_slice();
        Box::new(Self { transfer, room })
    }
}

/// Failures of what several may wait for.
#[derive(Default)]
struct Failures {
    count: u64,
    last: Option<Arc<PeerError>>,
}

impl Failures {
    fn add(&mut self, error: &Arc<PeerError>) {
        // Whoever cancelled did so for itself alone.
        if !matches!(**error, PeerError::Cancelled) {
            self.count += 1;
            self.last = Some(Arc::clone(error));
        }
    }

    /// What failed since there were `noted`.
    fn since(&self, noted: u64) -> Option<Arc<PeerError>> {
        let last = self.last.as_ref().filter(|_| self.count > noted);
        last.map(Arc::clone)
    }
}

/// Sources of which one at most keeps blocks while nobody reads it: those of one bridge.
#[derive(Default)]
pub(crate) struct Family {
    resting: Mutex<Weak<Shared>>,
}

impl Shared {
    pub(crate) fn new(
        client: &PeerClient,
        handle: &str,
        config: RemoteSourceConfig,
        family: Option<Arc<Family>>,
    ) -> Arc<Self> {
        let mut retry = client.shared.retry;
        retry.from_nothing = true;
        Arc::new(Self {
            // One progress cannot tell of several requests.
            client: client.without_progress(),
            handle: handle.to_owned(),
            config,
            retry,
            family,
            requests: AtomicU64::new(0),
            next_seat: AtomicU64::new(0),
            state: Mutex::default(),
            stirred: Condvar::new(),
        })
    }

    /// Whether the source still is at this version, as far as it is known.
    pub(crate) fn is_at(&self, epoch: u64) -> bool {
        self.epoch(&mut lock(&self.state), epoch).is_some()
    }

    /// Takes a place for a reader, and gives its number.
    pub(crate) fn enter(&self) -> u64 {
        lock(&self.state).seated += 1;
        self.next_seat.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn leave(self: &Arc<Self>, number: u64) {
        let mut state = lock(&self.state);
        state.seated -= 1;
        if let Some(epoch) = &mut state.epoch {
            epoch.policy.handle_left(number);
        }
        let is_deserted = state.seated == 0;
        drop(state);
        if let Some(family) = self.family.as_ref().filter(|_| is_deserted) {
            let rested = std::mem::replace(&mut *lock(&family.resting), Arc::downgrade(self));
            if let Some(rested) = rested.upgrade().filter(|rested| !Arc::ptr_eq(rested, self)) {
                rested.forget();
            }
        }
    }

    /// Drops the blocks and the requests that nobody reads.
    fn forget(&self) {
        let mut state = lock(&self.state);
        if state.seated > 0 {
            return;
        }
        if let Some(epoch) = &mut state.epoch {
            epoch.policy.handle_forgotten();
            epoch.blocks.fill(Box::default());
            epoch.lanes.iter_mut().for_each(|lane| lane.running = None);
        }
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let waited = self.stirred.wait_timeout(state, WAIT_SLICE);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// The version that the peer has, as far as it was said lately.
    pub(crate) fn learn(
        &self,
        cancel: Option<&Cancel>,
        seat: u64,
    ) -> Result<Arc<Known>, Arc<PeerError>> {
        let mut state = lock(&self.state);
        let noted = state.learning_failed.count;
        let held = loop {
            if cancel.is_some_and(Cancel::is_cancelled) {
                return Err(Arc::new(PeerError::Cancelled));
            }
            let held = state.epoch.as_ref();
            if let Some(epoch) =
                held.filter(|epoch| epoch.confirmed.elapsed() < self.config.fresh_for)
            {
                return Ok(Arc::clone(&epoch.known));
            }
            if !state.learning {
                break held.map(|epoch| Arc::clone(&epoch.known));
            }
            state = self.wait(state);
            if let Some(error) = state.learning_failed.since(noted) {
                return Err(error);
            }
        };
        state.learning = true;
        drop(state);
        let learned = match held {
            Some(known) => self.ask_again(cancel, seat, known),
            None => self.ask(cancel, seat),
        };
        let learned = learned.map_err(Arc::new);
        let mut state = lock(&self.state);
        state.learning = false;
        if let Err(error) = &learned {
            state.learning_failed.add(error);
        }
        self.stirred.notify_all();
        learned
    }

    /// Asks whether the version is still the one that is known.
    fn ask_again(
        &self,
        cancel: Option<&Cancel>,
        seat: u64,
        known: Arc<Known>,
    ) -> Result<Arc<Known>, PeerError> {
        let client = self.client_for(cancel);
        self.requests.fetch_add(1, Ordering::Relaxed);
        let asked = guarded(|| {
            let (want, version) = (Want::Length, Some(known.version));
            RunningTransfer::new(want, version, client.shared.retry, None).run(
                &client,
                &self.handle,
                &mut NoSink,
            )
        });
        match asked {
            Err(PeerError::Changed) => {
                self.give_up(known.epoch);
                self.ask(cancel, seat)
            }
            Err(error @ (PeerError::NotFound | PeerError::Unauthorized | PeerError::Cancelled)) => {
                Err(error)
            }
            // The peer is not there now. What is here can be read all the same, and whatever is
            // asked for later is held to this version.
            Ok(_) | Err(_) => {
                if let Some(epoch) = self.epoch(&mut lock(&self.state), known.epoch) {
                    epoch.confirmed = Instant::now();
                }
                Ok(known)
            }
        }
    }

    /// Asks for the beginning of the source, and with it what the source is.
    pub(crate) fn ask(&self, cancel: Option<&Cancel>, seat: u64) -> Result<Arc<Known>, PeerError> {
        let client = self.client_for(cancel);
        let mut policy = ReadAhead::new(self.config.read_ahead);
        let ReadStep::Open { lane, start, len } = policy.poll(0) else {
            return Err(PeerError::Io(io::Error::other("nothing to ask for")));
        };
        self.requests.fetch_add(1, Ordering::Relaxed);
        let begun = Instant::now();
        let want = Want::Content { start, len };
        let mut transfer = RunningTransfer::new(want, None, client.shared.retry, None);
        let ended = guarded(|| transfer.advance(&client, &self.handle, &mut NoSink))?;
        let version = match (&ended, transfer.answer()) {
            (Some(fetched), _) => fetched.version.map(|version| Version {
                complete_length: fetched.complete_length,
                ..version
            }),
            (None, answer) => answer.map(|answer| answer.version()),
        };
        let told = version.and_then(|version| Some((version, version.complete_length?)));
        let Some((version, len_told)) = told else {
            return Err(PeerError::Io(io::Error::new(
                io::ErrorKind::Unsupported,
                "the peer does not tell how long the source is",
            )));
        };
        transfer.bind(version);
        policy.handle_opened(lane, start, len, Some(len_told), begun.elapsed());
        policy.handle_followed(lane, seat);
        let content_type = transfer.content_type().map(Box::from);
        let config = *policy.config();
        let mut lanes: Vec<Lane> = Vec::new();
        lanes.resize_with(config.requests, Lane::default);
        lanes[lane].running = ended
            .is_none()
            .then(|| Running::new(transfer, config.block_bytes));
        let mut state = lock(&self.state);
        let known = Arc::new(Known {
            epoch: state.next_epoch,
            len: len_told,
            content_type,
            version,
        });
        state.next_epoch += 1;
        state.epoch = Some(Epoch {
            known: Arc::clone(&known),
            confirmed: Instant::now(),
            blocks: vec![Box::default(); config.blocks],
            policy,
            lanes,
        });
        Ok(known)
    }

    /// The source is of this version no longer.
    fn give_up(&self, epoch: u64) {
        let mut state = lock(&self.state);
        if self.epoch(&mut state, epoch).is_some() {
            state.epoch = None;
        }
        self.stirred.notify_all();
    }

    #[allow(clippy::unused_self, reason = "reads as what it is")]
    fn epoch<'a>(&self, state: &'a mut State, number: u64) -> Option<&'a mut Epoch> {
        let epoch = state.epoch.as_mut();
        epoch.filter(|epoch| epoch.known.epoch == number)
    }

    fn client_for(&self, cancel: Option<&Cancel>) -> PeerClient {
        match cancel {
            Some(cancel) => self.client.with_cancel(cancel),
            None => self.client.clone(),
        }
    }
}

/// One read by one reader.
pub(crate) struct Reading<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) seat: u64,
    pub(crate) cancel: Option<&'a Cancel>,
    /// The version that it is held to.
    pub(crate) epoch: u64,
}

impl Reading<'_> {
    pub(crate) fn read(&self, offset: u64, buf: &mut [u8]) -> Result<usize, Arc<PeerError>> {
        let mut state = lock(&self.shared.state);
        loop {
            if self.cancel.is_some_and(Cancel::is_cancelled) {
                return Err(Arc::new(PeerError::Cancelled));
            }
            let Some(epoch) = self.shared.epoch(&mut state, self.epoch) else {
                return Err(Arc::new(PeerError::Changed));
            };
            let step = epoch.policy.poll(offset);
            match step {
                ReadStep::End => return Ok(0),
                ReadStep::Serve { .. } => return Ok(epoch.serve(offset, buf)),
                ReadStep::Wait { lane } => {
                    let noted = lane.map(|lane| (lane, epoch.lanes[lane].failed.count));
                    if let Some(lane) = lane {
                        epoch.policy.handle_followed(lane, self.seat);
                    }
                    state = self.shared.wait(state);
                    let epoch = self.shared.epoch(&mut state, self.epoch);
                    let failed = epoch
                        .zip(noted)
                        .and_then(|(epoch, (lane, noted))| epoch.lanes[lane].failed.since(noted));
                    if let Some(error) = failed {
                        return Err(error);
                    }
                }
                ReadStep::Receive { lane, offset, .. } => {
                    epoch.policy.handle_taken(&step);
                    epoch.policy.handle_followed(lane, self.seat);
                    let running = epoch.lanes[lane].running.take();
                    drop(state);
                    let received = self.receive(running, offset);
                    state = self.received(lane, received)?;
                }
                ReadStep::Open { lane, start, len } => {
                    epoch.policy.handle_taken(&step);
                    epoch.policy.handle_followed(lane, self.seat);
                    let version = epoch.known.version;
                    let mut ended = vec![epoch.lanes[lane].running.take()];
                    for left in epoch.policy.left_lanes().collect::<Vec<_>>() {
                        epoch.policy.handle_closed(left);
                        ended.push(epoch.lanes[left].running.take());
                    }
                    drop(state);
                    // Their connections go with them, outside of the lock.
                    drop(ended);
                    let begun = Instant::now();
                    let opened = self.open(start, len, version);
                    state = self.opened(lane, start, len, begun, opened)?;
                }
            }
        }
    }

    fn open(
        &self,
        start: u64,
        len: Option<u64>,
        version: Version,
    ) -> Result<RunningTransfer, PeerError> {
        let client = self.shared.client_for(self.cancel);
        self.shared.requests.fetch_add(1, Ordering::Relaxed);
        let want = Want::Content { start, len };
        let mut transfer = RunningTransfer::new(want, Some(version), self.shared.retry, None);
        let ended = guarded(|| transfer.advance(&client, &self.shared.handle, &mut NoSink))?;
        transfer.bind(version);
        // There is something at this place of this version, so an answer without content is of
        // another one.
        let is_content = ended.is_none();
        is_content.then_some(transfer).ok_or(PeerError::Changed)
    }

    fn opened(
        &self,
        lane: usize,
        start: u64,
        len: Option<u64>,
        begun: Instant,
        opened: Result<RunningTransfer, PeerError>,
    ) -> Result<MutexGuard<'_, State>, Arc<PeerError>> {
        let transfer = match opened {
            Ok(transfer) => transfer,
            Err(error) => return Err(self.failed(lane, error)),
        };
        let mut state = lock(&self.shared.state);
        if let Some(epoch) = self.shared.epoch(&mut state, self.epoch) {
            epoch.confirmed = Instant::now();
            let told = Some(epoch.known.len);
            epoch
                .policy
                .handle_opened(lane, start, len, told, begun.elapsed());
            let block_bytes = epoch.policy.config().block_bytes;
            epoch.lanes[lane].running = Some(Running::new(transfer, block_bytes));
        }
        self.shared.stirred.notify_all();
        Ok(state)
    }

    /// Receives what comes next over a lane, up to the end of the block that it is in.
    fn receive(&self, running: Option<Box<Running>>, offset: usize) -> Result<Received, PeerError> {
        let Some(mut running) = running else {
            return Err(PeerError::Io(io::Error::other("a lane without a request")));
        };
        let client = self.shared.client_for(self.cancel);
        let begun = Instant::now();
        let mut sink = PieceSink {
            room: &mut running.room[offset..],
            len: 0,
        };
        let transfer = &mut running.transfer;
        let ended = guarded(|| transfer.advance(&client, &self.shared.handle, &mut sink))?;
        Ok(Received {
            len: sink.len,
            offset,
            ended: ended.is_some(),
            elapsed: begun.elapsed(),
            running,
        })
    }

    fn received(
        &self,
        lane: usize,
        received: Result<Received, PeerError>,
    ) -> Result<MutexGuard<'_, State>, Arc<PeerError>> {
        let received = match received {
            Ok(received) => received,
            Err(error) => return Err(self.failed(lane, error)),
        };
        let mut state = lock(&self.shared.state);
        if let Some(epoch) = self.shared.epoch(&mut state, self.epoch) {
            epoch.take(lane, received);
        }
        self.shared.stirred.notify_all();
        Ok(state)
    }

    /// A lane is lost, for whoever waited for it too.
    fn failed(&self, lane: usize, error: PeerError) -> Arc<PeerError> {
        let error = Arc::new(error);
        let mut state = lock(&self.shared.state);
        if let Some(epoch) = self.shared.epoch(&mut state, self.epoch) {
            epoch.policy.handle_closed(lane);
            epoch.lanes[lane].failed.add(&error);
            if matches!(*error, PeerError::Changed) {
                state.epoch = None;
            }
        }
        self.shared.stirred.notify_all();
        error
    }
}

/// What came over a lane.
struct Received {
    running: Box<Running>,
    /// Where in the lane's room, and in its block, it begins.
    offset: usize,
    len: usize,
    ended: bool,
    elapsed: Duration,
}

impl Epoch {
    /// Copies what is here from `offset` on, as far as it goes on without a gap.
    fn serve(&mut self, offset: u64, buf: &mut [u8]) -> usize {
        let mut served = 0;
        while served < buf.len() {
            let step = self.policy.poll(offset.saturating_add(served as u64));
            let ReadStep::Serve { slot, offset, len } = step else {
                break;
            };
            let n = len.min(buf.len() - served);
            let held = &self.blocks[slot][offset..offset + n];
            buf[served..served + n].copy_from_slice(held);
            self.policy.handle_served(slot);
            served += n;
        }
        served
    }

    fn take(&mut self, lane: usize, received: Received) {
        let Received {
            running,
            offset,
            len,
            ended,
            elapsed,
        } = received;
        let slot = self.policy.slot_for(lane);
        let block = &mut self.blocks[slot];
        if len > 0 {
            if block.is_empty() {
                *block = vec![0; self.policy.config().block_bytes].into_boxed_slice();
            }
            block[offset..offset + len].copy_from_slice(&running.room[offset..offset + len]);
        }
        self.policy.handle_received(lane, slot, len, ended, elapsed);
        self.lanes[lane].running = (!ended).then_some(running);
    }
}

/// Runs the client, in which an app's connector may panic.
fn guarded<T>(work: impl FnOnce() -> Result<T, Failure>) -> Result<T, PeerError> {
    match call(work) {
        Ok(result) => result.map_err(PeerError::of_failure),
        Err(_) => Err(PeerError::Io(io::Error::other("the connector panicked"))),
    }
}

#[cfg(all(test, peer_models))]
mod models;
