//! Time as an input: what `now` is, and which deadline is armed.

use std::time::{Duration, Instant, SystemTime};

use peer_proto::HttpDate;

/// The time of a fact, read by the driver from its two clocks.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// The monotonic clock: deadlines.
    pub instant: Instant,
    /// The wall clock, in what HTTP can say of it: the `Date` field. `None` outside of 1970–9999.
    pub date: Option<HttpDate>,
}

impl Now {
    /// Readings of the monotonic and of the wall clock, taken together.
    #[must_use]
    pub fn new(instant: Instant, wall: SystemTime) -> Self {
        Self {
            instant,
            date: HttpDate::new(wall),
        }
    }
}

/// A deadline of a server connection, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deadline {
    /// The whole head of a request, from its first byte; for a connection that has not shown the
    /// token yet, from its acceptance.
    Head,
    /// The next request on a connection that has shown the token.
    Idle,
    /// Progress of what is being sent.
    Stall,
    /// The peer's half, after ours was closed.
    Linger,
}

/// How late a deadline may be noticed before it is taken for a clock that jumped.
///
/// A driver that waits by socket timeouts notices within milliseconds, or a loaded machine within
/// a second. When it is later than this, the process was not running: a phone was suspended. The
/// peer had no chance to be heard in that time, so it is given the deadline once more.
pub const SUSPENDED: Duration = Duration::from_secs(5);

/// A deadline that is armed, and how long it was given.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Armed {
    pub(crate) deadline: Deadline,
    pub(crate) at: Instant,
    timeout: Duration,
}

/// What a timer's end means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expiry {
    /// Woken too early: wait on.
    NotYet,
    /// Noticed so late that the clock jumped: given once more.
    Renewed,
    /// The deadline has passed.
    Passed,
}

impl Armed {
    /// Arms `deadline` for `timeout` from `now`. `None` where the clock cannot count that far:
    /// such a deadline never comes.
    pub(crate) fn new(deadline: Deadline, now: Instant, timeout: Duration) -> Option<Self> {
        Some(Self {
            deadline,
            at: now.checked_add(timeout)?,
            timeout,
        })
    }

    /// Judges a timer that ended at `now`.
    pub(crate) fn expire(&mut self, now: Instant) -> Expiry {
        let Some(late) = now.checked_duration_since(self.at) else {
            return Expiry::NotYet;
        };
        if late <= SUSPENDED {
            return Expiry::Passed;
        }
        match now.checked_add(self.timeout) {
            Some(at) => {
                self.at = at;
                Expiry::Renewed
            }
            None => Expiry::Passed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jumped_clock_renews() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let mut armed = Armed::new(Deadline::Idle, start, second).unwrap();
        assert_eq!(armed.expire(start), Expiry::NotYet);
        assert_eq!(armed.expire(start + second / 2), Expiry::NotYet);
        assert_eq!(armed.expire(start + second), Expiry::Passed);
        assert_eq!(armed.expire(start + second + SUSPENDED), Expiry::Passed);
        let woken = start + 2 * second + SUSPENDED;
        assert_eq!(armed.expire(woken), Expiry::Renewed);
        assert_eq!(armed.at, woken + second);
        assert_eq!(armed.expire(woken + second), Expiry::Passed);
    }

    #[test]
    fn what_cannot_be_renewed_has_passed() {
        let start = Instant::now();
        // Nearly half of what the clock can count to from here.
        let mut timeout = Duration::from_secs(1 << 62);
        while start.checked_add(timeout).is_none() {
            timeout /= 2;
        }
        timeout = timeout * 3 / 4;
        let fits = |timeout: Duration| {
            let twice = timeout.checked_mul(2);
            twice.is_some_and(|twice| start.checked_add(twice).is_some())
        };
        while fits(timeout) {
            timeout += timeout / 4;
        }
        let mut armed = Armed::new(Deadline::Idle, start, timeout).unwrap();
        let woken = armed.at + 2 * SUSPENDED;
        assert_eq!(armed.expire(woken), Expiry::Passed);
    }

    #[test]
    fn a_deadline_beyond_the_clock_never_comes() {
        assert!(Armed::new(Deadline::Idle, Instant::now(), Duration::MAX).is_none());
    }
}
