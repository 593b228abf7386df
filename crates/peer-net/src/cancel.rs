//! Ends an operation from another thread.

use std::{
    sync::{Arc, PoisonError},
    time::Instant,
};

use crate::{
    client_connect::ClientStream,
    sync::{AtomicBool, Condvar, Mutex, MutexGuard, Ordering},
};

/// Ends operations from another thread, wherever they are: connecting, waiting, receiving.
///
/// Clones are handles to the same switch, and it is thrown once: an operation begun afterwards
/// ends at once. One switch may serve any number of operations.
#[derive(Clone, Default)]
pub struct Cancel {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    cancelled: AtomicBool,
    watched: Mutex<Watched>,
    stirred: Condvar,
}

/// The streams to hang up.
#[derive(Default)]
struct Watched {
    streams: Vec<(u64, Arc<dyn ClientStream>)>,
    next: u64,
}

/// An operation was cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cancelled;

impl Cancel {
    /// A switch that has not been thrown.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancels. Operations that carry this switch end with
    /// [`PeerError::Cancelled`](crate::PeerError::Cancelled), those that are blocked in the
    /// network among them.
    pub fn cancel(&self) {
        self.shared.cancelled.store(true, Ordering::SeqCst);
        let watched = self.lock();
        for (_, stream) in &watched.streams {
            stream.hang_up();
        }
        drop(watched);
        self.shared.stirred.notify_all();
    }

    /// Whether it has been thrown.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.shared.cancelled.load(Ordering::SeqCst)
    }

    /// Hangs `stream` up when the switch is thrown, until the guard is dropped.
    pub(crate) fn watch(&self, stream: &Arc<dyn ClientStream>) -> Result<Watch<'_>, Cancelled> {
        let mut watched = self.lock();
        // Under the lock, so that a switch thrown from here on finds the stream.
        if self.is_cancelled() {
            return Err(Cancelled);
        }
        let id = watched.next;
        watched.next += 1;
        watched.streams.push((id, Arc::clone(stream)));
        Ok(Watch { cancel: self, id })
    }

    /// Waits until `poll` has something, time is up (`None`), or the switch is thrown. Whoever
    /// makes `poll` have something calls [`stir`](Self::stir) afterwards.
    pub(crate) fn wait_for<T>(
        &self,
        until: Option<Instant>,
        mut poll: impl FnMut() -> Option<T>,
    ) -> Result<Option<T>, Cancelled> {
        let mut watched = self.lock();
        loop {
            if self.is_cancelled() {
                return Err(Cancelled);
            }
            if let Some(value) = poll() {
                return Ok(Some(value));
            }
            let stirred = &self.shared.stirred;
            watched = match until {
                None => stirred
                    .wait(watched)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(until) => {
                    let left = until.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Ok(None);
                    }
                    let waited = stirred.wait_timeout(watched, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// Makes every [`wait_for`](Self::wait_for) poll again.
    pub(crate) fn stir(&self) {
        // The lock makes sure that a waiter that has polled in vain is waiting by now.
        drop(self.lock());
        self.shared.stirred.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Watched> {
        // Nothing under this lock can panic half-way.
        let watched = self.shared.watched.lock();
        watched.unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Cancel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cancel")
            .field("cancelled", &self.is_cancelled())
            .finish()
    }
}

/// While it lives, its stream is hung up when the switch is thrown.
pub(crate) struct Watch<'a> {
    cancel: &'a Cancel,
    id: u64,
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        let mut watched = self.cancel.lock();
        watched.streams.retain(|(id, _)| *id != self.id);
    }
}

#[cfg(all(test, peer_models))]
mod models;

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn waiting_ends_by_value_time_or_switch() {
        let cancel = Cancel::new();
        assert_eq!(cancel.wait_for(None, || Some(5)), Ok(Some(5)));
        assert_eq!(
            cancel.wait_for::<()>(Some(Instant::now()), || None),
            Ok(None)
        );
        let slot = Arc::new(Mutex::new(None));
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| cancel.wait_for(None, || slot.lock().unwrap().take()));
            *slot.lock().unwrap() = Some(7);
            cancel.stir();
            assert_eq!(waiter.join().unwrap(), Ok(Some(7)));
            let waiter = scope.spawn(|| cancel.wait_for::<()>(None, || None));
            cancel.cancel();
            assert_eq!(waiter.join().unwrap(), Err(Cancelled));
        });
        let later = Instant::now() + Duration::from_secs(3600);
        assert_eq!(cancel.wait_for::<()>(Some(later), || None), Err(Cancelled));
    }
}
