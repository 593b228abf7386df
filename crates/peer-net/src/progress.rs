//! How far an operation has come.

use std::{
    collections::VecDeque,
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use crate::sync::{Mutex, MutexGuard};

/// Time over which the rate is measured.
const RATE_WINDOW: Duration = Duration::from_secs(3);

/// Time between two samples of it.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(100);

/// Follows an operation from outside, by looking at it or by being told.
///
/// Clones follow the same operation. One that is used for another operation starts anew.
#[derive(Clone, Default)]
pub struct Progress {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    counters: Mutex<Counters>,
    callback: Option<Callback>,
}

struct Callback {
    interval: Duration,
    call: Box<dyn Fn(&ProgressSnapshot) + Send + Sync>,
}

#[derive(Default)]
struct Counters {
    received: u64,
    expected: Option<u64>,
    retries: u32,
    state: ProgressState,
    samples: VecDeque<(Instant, u64)>,
    told: Option<Instant>,
}

/// What an operation is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProgressState {
    /// Not begun, or making a connection.
    #[default]
    Connecting,
    /// Waiting for the answer.
    Waiting,
    /// Receiving content.
    Receiving,
    /// Waiting before the next attempt: the connection broke.
    Pausing,
    /// Over, and all is there.
    Done,
    /// Over: it failed or was cancelled.
    Failed,
}

/// An operation at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct ProgressSnapshot {
    /// Bytes of content received.
    pub received: u64,
    /// Bytes that will have been received at the end, if the peer told.
    pub expected: Option<u64>,
    /// Bytes per second over the last seconds. Falls to zero while nothing comes.
    pub rate: f64,
    /// Requests made beyond the first, to go on where a connection broke or an answer was short.
    pub retries: u32,
    /// What it is doing.
    pub state: ProgressState,
}

impl ProgressSnapshot {
    /// Time until the end at this rate, if both are known.
    #[must_use]
    pub fn remaining(&self) -> Option<Duration> {
        let left = self.expected?.saturating_sub(self.received);
        Duration::try_from_secs_f64(left as f64 / self.rate).ok()
    }
}

impl Progress {
    /// A counter to look at with [`snapshot`](Self::snapshot).
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A counter that also calls `call`, from the operation's own thread: when the state changes,
    /// and at most once per `interval` while content comes.
    #[must_use]
    pub fn with_callback(
        interval: Duration,
        call: impl Fn(&ProgressSnapshot) + Send + Sync + 'static,
    ) -> Self {
        let call = Box::new(call);
        Self {
            shared: Arc::new(Shared {
                counters: Mutex::default(),
                callback: Some(Callback { interval, call }),
            }),
        }
    }

    /// How far the operation is.
    #[must_use]
    pub fn snapshot(&self) -> ProgressSnapshot {
        self.lock().snapshot(Instant::now())
    }

    /// States that an operation begins, `received` of whose bytes an earlier one has brought.
    pub(crate) fn begin(&self, received: u64) {
        *self.lock() = Counters {
            received,
            ..Counters::default()
        };
    }

    pub(crate) fn enter(&self, state: ProgressState) {
        self.update(Instant::now(), true, |counters| counters.state = state);
    }

    pub(crate) fn set_retries(&self, retries: u32) {
        self.lock().retries = retries;
    }

    /// States that content begins to come, and how much there will have been at the end.
    pub(crate) fn receiving(&self, expected: Option<u64>) {
        self.update(Instant::now(), true, |counters| {
            counters.state = ProgressState::Receiving;
            counters.expected = expected.map(|more| counters.received.saturating_add(more));
        });
    }

    pub(crate) fn received(&self, now: Instant, n: u64) {
        self.update(now, false, |counters| {
            if counters.samples.is_empty() {
                counters.samples.push_back((now, counters.received));
            }
            counters.received = counters.received.saturating_add(n);
            let since = |sample: Option<&(Instant, u64)>| {
                sample.map(|(time, _)| now.saturating_duration_since(*time))
            };
            if since(counters.samples.back()).is_none_or(|since| since >= SAMPLE_INTERVAL) {
                counters.samples.push_back((now, counters.received));
            }
            while since(counters.samples.get(1)).is_some_and(|since| since >= RATE_WINDOW) {
                counters.samples.pop_front();
            }
        });
    }

    fn update(&self, now: Instant, always: bool, change: impl FnOnce(&mut Counters)) {
        let mut counters = self.lock();
        change(&mut counters);
        let Some(callback) = &self.shared.callback else {
            return;
        };
        let is_due = counters
            .told
            .is_none_or(|told| now.saturating_duration_since(told) >= callback.interval);
        if always || is_due {
            counters.told = Some(now);
            let snapshot = counters.snapshot(now);
            // The callback may look at the counter.
            drop(counters);
            (callback.call)(&snapshot);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Counters> {
        // Nothing under this lock can panic half-way.
        let counters = self.shared.counters.lock();
        counters.unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.snapshot().fmt(f)
    }
}

impl Counters {
    fn snapshot(&self, now: Instant) -> ProgressSnapshot {
        ProgressSnapshot {
            received: self.received,
            expected: self.expected,
            rate: self.rate(now),
            retries: self.retries,
            state: self.state,
        }
    }

    fn rate(&self, now: Instant) -> f64 {
        let Some((since, before)) = self.samples.front() else {
            return 0.0;
        };
        let newest = self.samples.back().map_or(now, |(time, _)| *time);
        if now.saturating_duration_since(newest) >= RATE_WINDOW {
            return 0.0;
        }
        // A first block says nothing about a rate yet.
        let span = now.saturating_duration_since(*since).max(SAMPLE_INTERVAL);
        (self.received - before) as f64 / span.as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_rate_is_measured_and_fades() {
        let progress = Progress::new();
        let start = Instant::now();
        progress.receiving(Some(200_000));
        for step in 0..=100u64 {
            progress.received(start + Duration::from_millis(100 * step), 1000);
        }
        let now = start + Duration::from_secs(10);
        let snapshot = progress.lock().snapshot(now);
        assert_eq!(snapshot.received, 101_000);
        assert_eq!(snapshot.expected, Some(200_000));
        assert!(
            (9_000.0..=11_000.0).contains(&snapshot.rate),
            "{snapshot:?}"
        );
        let remaining = snapshot.remaining().unwrap().as_secs_f64();
        assert!((9.0..=11.0).contains(&remaining), "{remaining}");
        assert!(progress.lock().samples.len() < 40);
        let later = progress.lock().snapshot(now + Duration::from_secs(2));
        assert!(later.rate < 7_000.0, "{later:?}");
        let stalled = progress.lock().snapshot(now + Duration::from_secs(3));
        assert_eq!((stalled.rate, stalled.remaining()), (0.0, None));
    }

    #[test]
    fn callbacks_come_by_state_and_by_interval() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let list = Arc::clone(&told);
        let interval = Duration::from_secs(1);
        let progress = Progress::with_callback(interval, move |snapshot| {
            list.lock()
                .unwrap()
                .push((snapshot.state, snapshot.received));
        });
        progress.enter(ProgressState::Waiting);
        progress.receiving(None);
        let start = Instant::now();
        for step in 0..=20u64 {
            progress.received(start + Duration::from_millis(100 * step), 1);
        }
        progress.enter(ProgressState::Done);
        let told = told.lock().unwrap();
        let states: Vec<_> = told.iter().map(|(state, _)| *state).collect();
        assert_eq!(told.last(), Some(&(ProgressState::Done, 21)));
        assert_eq!(
            states[..2],
            [ProgressState::Waiting, ProgressState::Receiving]
        );
        assert!((4..=6).contains(&told.len()), "{told:?}");
    }
}
