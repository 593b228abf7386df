//! The switch in every order of its threads: no cancellation and no value is lost.

use std::io;

use loom::thread;

use super::*;
use crate::{
    stream::Stream,
    sync::models::{explore, without_timeouts},
};

/// A stream that only tells whether it was hung up.
#[derive(Default)]
struct Line {
    /// Nobody may hang it up from now on.
    returned: AtomicBool,
    hung_up: AtomicBool,
}

impl Stream for Line {
    fn read(&self, _: &mut [u8]) -> io::Result<usize> {
        Ok(0)
    }

    fn write(&self, buf: &[u8]) -> io::Result<usize> {
        Ok(buf.len())
    }

    without_timeouts!();

    fn hang_up(&self) {
        assert!(!self.returned.load(Ordering::Relaxed), "after the watch");
        self.hung_up.store(true, Ordering::Relaxed);
    }
}

impl ClientStream for Line {
    fn is_quiet(&self) -> bool {
        true
    }
}

#[test]
fn a_cancel_is_not_lost_between_look_and_wait() {
    explore(None, || {
        let cancel = Cancel::new();
        let waiter = cancel.clone();
        let waiter = thread::spawn(move || waiter.wait_for::<()>(None, || None));
        let other = cancel.clone();
        let other = thread::spawn(move || other.cancel());
        assert_eq!(waiter.join().unwrap(), Err(Cancelled));
        other.join().unwrap();
        assert!(cancel.is_cancelled());
    });
}

#[test]
fn a_value_is_not_lost_between_look_and_wait() {
    explore(None, || {
        let cancel = Cancel::new();
        let value = Arc::new(AtomicBool::new(false));
        let waiter = {
            let (cancel, value) = (cancel.clone(), Arc::clone(&value));
            let poll = move || value.load(Ordering::Relaxed).then_some(7);
            thread::spawn(move || cancel.wait_for(None, poll))
        };
        // Somebody else's, which wakes all.
        let other = cancel.clone();
        let other = thread::spawn(move || other.stir());
        value.store(true, Ordering::Relaxed);
        cancel.stir();
        assert_eq!(waiter.join().unwrap(), Ok(Some(7)));
        other.join().unwrap();
    });
}

#[test]
fn a_watched_stream_is_hung_up_and_one_that_is_not_watched_any_more_is_not() {
    explore(None, || {
        let cancel = Cancel::new();
        let thrower = cancel.clone();
        let thrower = thread::spawn(move || thrower.cancel());
        let kept = Arc::new(Line::default());
        let brief = Arc::new(Line::default());
        let watched: Arc<dyn ClientStream> = Arc::<Line>::clone(&kept);
        let watch = cancel.watch(&watched);
        {
            let watched: Arc<dyn ClientStream> = Arc::<Line>::clone(&brief);
            drop(cancel.watch(&watched));
            brief.returned.store(true, Ordering::Relaxed);
        }
        thrower.join().unwrap();
        let hung_up = kept.hung_up.load(Ordering::Relaxed);
        assert_eq!(hung_up, watch.is_ok(), "neither told nor hung up, or both");
    });
}
