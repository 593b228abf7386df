//! How fast content may be sent: a token bucket, and who goes first when it runs low.

use std::time::{Duration, Instant};

/// What a transfer is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Priority {
    /// Somebody listens or watches: goes first.
    #[default]
    Playback,
    /// Fetched ahead of need: takes what playback leaves.
    Prefetch,
}

/// A rate limit: so many bytes a second on average, in bursts of at most a tenth of a second's.
#[derive(Clone, Debug)]
pub struct Bucket {
    bytes_per_second: u64,
    /// When the bucket would have been empty, if bytes were sent at the rate: the limit's whole
    /// memory. In the past while there is something in it.
    spent_until: Option<Instant>,
    /// Until when playback has claimed what will be there.
    playback_until: Option<Instant>,
}

/// What may be sent in one go is what the rate gives in this time.
const BURST: Duration = Duration::from_millis(100);

impl Bucket {
    /// A full bucket. A rate of zero is taken for one byte a second: a limit, not a stop.
    #[must_use]
    pub const fn new(bytes_per_second: u64) -> Self {
        let bytes_per_second = if bytes_per_second == 0 {
            1
        } else {
            bytes_per_second
        };
        Self {
            bytes_per_second,
            spent_until: None,
            playback_until: None,
        }
    }

    /// Bytes that should be sent at a time, so that no transfer holds the line for long.
    #[must_use]
    pub fn step(&self) -> u64 {
        let burst = u128::from(self.bytes_per_second) * BURST.as_millis() / 1000;
        u64::try_from(burst).unwrap_or(u64::MAX).max(1)
    }

    /// Takes `bytes` out of the bucket and returns how long to wait before sending them: nothing
    /// while there is enough in it.
    ///
    /// Prefetching also waits for what playback has claimed, so it gets what is left.
    pub fn take(&mut self, now: Instant, bytes: u64, priority: Priority) -> Duration {
        let oldest = now.checked_sub(BURST).unwrap_or(now);
        let spent = self.spent_until.map_or(oldest, |spent| spent.max(oldest));
        let Some(after) = spent.checked_add(self.time_for(bytes)) else {
            return Duration::MAX;
        };
        self.spent_until = Some(after);
        let wait = after.saturating_duration_since(now);
        match priority {
            Priority::Playback => {
                // For as long again as it waits, playback is taken to want more.
                self.playback_until = after.checked_add(wait);
                wait
            }
            Priority::Prefetch => {
                let claimed = self
                    .playback_until
                    .map_or(Duration::ZERO, |until| until.saturating_duration_since(now));
                wait.max(claimed)
            }
        }
    }

    fn time_for(&self, bytes: u64) -> Duration {
        let nanoseconds = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_second);
        u64::try_from(nanoseconds).map_or(Duration::MAX, Duration::from_nanos)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends `bytes` in steps and returns how long it took on a clock of its own.
    fn send(bucket: &mut Bucket, start: Instant, bytes: u64) -> Duration {
        let mut now = start;
        let mut left = bytes;
        while left > 0 {
            let step = left.min(bucket.step());
            now += bucket.take(now, step, Priority::Playback);
            left -= step;
        }
        now - start
    }

    #[test]
    fn the_rate_holds_for_any_rate() {
        let start = Instant::now();
        for rate in [1, 10, 1000, 1_000_000, 10_000_000_000] {
            let mut bucket = Bucket::new(rate);
            let time = send(&mut bucket, start, rate.saturating_mul(10));
            let expected = Duration::from_secs(10);
            assert!(time <= expected, "{rate}: {time:?}");
            assert!(time + 2 * BURST >= expected, "{rate}: {time:?}");
        }
    }

    #[test]
    fn what_was_not_used_is_kept_for_one_burst_only() {
        let start = Instant::now();
        let mut bucket = Bucket::new(1000);
        assert_eq!(bucket.take(start, 100, Priority::Playback), Duration::ZERO);
        assert_eq!(bucket.take(start, 100, Priority::Playback), BURST);
        let later = start + Duration::from_secs(60);
        assert_eq!(bucket.take(later, 100, Priority::Playback), Duration::ZERO);
        assert_eq!(bucket.take(later, 100, Priority::Playback), BURST);
    }

    #[test]
    fn playback_goes_first() {
        // Two transfers that both want more than there is, each sending when it may.
        let mut bucket = Bucket::new(100_000);
        let start = Instant::now();
        let step = bucket.step() / 2;
        let mut sent = [0u64; 2];
        let mut due = [start; 2];
        while due.iter().min().unwrap().duration_since(start) < Duration::from_secs(20) {
            let next = usize::from(due[1] < due[0]);
            let priority = [Priority::Playback, Priority::Prefetch][next];
            let now = due[next];
            due[next] = now + bucket.take(now, step, priority);
            sent[next] += step;
        }
        assert!(sent[0] > sent[1], "{sent:?}");
        assert!(sent[1] > 0, "prefetching is slowed, not starved: {sent:?}");
        let total = sent[0] + sent[1];
        assert!(
            total.abs_diff(2_000_000) < 100_000,
            "together they keep the rate: {total}"
        );
    }

    #[test]
    fn absurd_amounts_wait_for_ever_without_wrapping() {
        let mut bucket = Bucket::new(0);
        assert!(
            bucket.take(Instant::now(), u64::MAX, Priority::Playback)
                > Duration::from_secs(1 << 30)
        );
    }
}
