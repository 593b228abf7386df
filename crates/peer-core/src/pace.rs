//! How fast content may be sent: a token bucket, and who goes first when it runs low.

use std::time::{Duration, Instant};

/// What a transfer is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Priority {
    /// Somebody listens or watches: goes first.
    #[default]
    Playback,
    /// Fetched ahead of need: takes what playback leaves, and a tenth of a second's bytes in two
    /// seconds where that is nothing, so that it is not taken for dead.
    Prefetch,
}

/// A rate limit: so many bytes a second on average, in bursts of at most a tenth of a second's.
#[derive(Clone, Debug)]
pub struct Bucket {
    bytes_per_second: u64,
    /// When the bucket would have been empty, if bytes were sent at the rate: the limit's whole
    /// memory. In the past while there is something in it.
    spent_until: Option<Instant>,
    /// Until when playback is taken to want whatever there is.
    playback_until: Option<Instant>,
    /// When prefetching last got a turn that playback wanted.
    prefetch_yielded: Option<Instant>,
    /// Who of those that prefetch asks longest: since when, and when it last did.
    eldest: Option<(Instant, Instant)>,
}

/// What a transfer that wants to send is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// The bytes are its own: it sends them after this time.
    Send(Duration),
    /// It is not its turn, and nothing was taken: it asks again after this time.
    Ask(Duration),
}

/// What may be sent in one go is what the rate gives in this time.
const BURST: Duration = Duration::from_millis(100);

/// Prefetching gets one burst in this time even if playback wants everything: a transfer that gets
/// nothing at all would be taken for dead by its peer.
const PREFETCH_WITHIN: Duration = Duration::from_secs(2);

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
            prefetch_yielded: None,
            eldest: None,
        }
    }

    /// Bytes that should be sent at a time, so that no transfer holds the line for long.
    #[must_use]
    pub fn step(&self) -> u64 {
        let burst = u128::from(self.bytes_per_second) * BURST.as_millis() / 1000;
        u64::try_from(burst).unwrap_or(u64::MAX).max(1)
    }

    /// Takes `bytes` out of the bucket, or says when to ask again. `since` is when it was first asked
    /// for these bytes.
    ///
    /// Playback books what is not there yet, and waits for it. Prefetching takes only what is there
    /// while no playback waits, so that it is never what playback waits for, but for one burst.
    pub fn take(&mut self, now: Instant, bytes: u64, priority: Priority, since: Instant) -> Turn {
        let oldest = now.checked_sub(BURST).unwrap_or(now);
        let spent = self.spent_until.map_or(oldest, |spent| spent.max(oldest));
        if priority == Priority::Prefetch {
            let free = self.playback_until.map_or(spent, |until| until.max(spent));
            let left = free.saturating_duration_since(now);
            if !left.is_zero() {
                let begun = self.prefetch_yielded.map_or(since, |last| last.max(since));
                let waited = now.saturating_duration_since(begun);
                let more = PREFETCH_WITHIN.saturating_sub(waited);
                if !self.is_eldest(now, since) || !more.is_zero() {
                    let more = if more.is_zero() { left } else { more };
                    return Turn::Ask(left.min(more));
                }
                self.prefetch_yielded = Some(now);
            }
            self.eldest = self.eldest.filter(|(asks, _)| *asks != since);
        }
        let Some(after) = spent.checked_add(self.time_for(bytes)) else {
            return Turn::Send(Duration::MAX);
        };
        self.spent_until = Some(after);
        let wait = after.saturating_duration_since(now);
        if priority == Priority::Playback && !wait.is_zero() {
            // It is held back, so it is taken to come again as soon as it has sent this.
            self.playback_until = after.checked_add(BURST);
        }
        Turn::Send(wait)
    }

    /// Whether nobody asks longer than who does since `since`. Whoever stopped asking is forgotten.
    fn is_eldest(&mut self, now: Instant, since: Instant) -> bool {
        let is_there = |&(_, last): &(Instant, Instant)| {
            now.saturating_duration_since(last) <= 2 * PREFETCH_WITHIN
        };
        let eldest = self.eldest.filter(is_there);
        let is_eldest = eldest.is_none_or(|(other, _)| since <= other);
        self.eldest = if is_eldest {
            Some((since, now))
        } else {
            eldest
        };
        is_eldest
    }

    fn time_for(&self, bytes: u64) -> Duration {
        let nanoseconds = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_second);
        u64::try_from(nanoseconds).map_or(Duration::MAX, Duration::from_nanos)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(turn: Turn) -> Duration {
        match turn {
            Turn::Send(wait) => wait,
            Turn::Ask(again) => panic!("asked to come again after {again:?}"),
        }
    }

    /// Sends `bytes` in steps and returns how long it took on a clock of its own.
    fn send(bucket: &mut Bucket, start: Instant, bytes: u64) -> Duration {
        let mut now = start;
        let mut left = bytes;
        while left > 0 {
            let step = left.min(bucket.step());
            now += wait(bucket.take(now, step, Priority::Playback, now));
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
        let mut take = |at| wait(bucket.take(at, 100, Priority::Playback, at));
        assert_eq!(take(start), Duration::ZERO);
        assert_eq!(take(start), BURST);
        let later = start + Duration::from_secs(60);
        assert_eq!(take(later), Duration::ZERO);
        assert_eq!(take(later), BURST);
    }

    const RATE: u64 = 100_000;

    /// Transfers that each want more than there is, and the time each needs between two of its
    /// steps. Returns what each has sent in a minute.
    fn compete(transfers: &[(Priority, Duration)]) -> Vec<u64> {
        let mut bucket = Bucket::new(RATE);
        let step = bucket.step();
        let start = Instant::now();
        let end = start + Duration::from_secs(60);
        let mut sent = vec![0; transfers.len()];
        // When each asks next, and since when it does.
        let mut due = vec![start; transfers.len()];
        let mut since = due.clone();
        loop {
            let (next, &now) = due.iter().enumerate().min_by_key(|row| row.1).unwrap();
            if now >= end {
                return sent;
            }
            let (priority, own_time) = transfers[next];
            match bucket.take(now, step, priority, since[next]) {
                Turn::Send(wait) => {
                    sent[next] += step;
                    due[next] = now + wait + own_time;
                    since[next] = due[next];
                }
                Turn::Ask(again) => {
                    assert!(!again.is_zero());
                    due[next] = now + again;
                }
            }
            let all = sent.iter().sum::<u64>();
            let booked = (transfers.len() as u64 + 1) * step;
            let time = now.duration_since(start).as_secs_f64();
            assert!(
                all <= (RATE as f64 * time) as u64 + booked,
                "{all} in {time} s"
            );
        }
    }

    #[test]
    fn playback_goes_first() {
        use Priority::{Playback, Prefetch};
        let soon = Duration::from_millis(1);
        for prefetching in [1, 3, 20] {
            let mut transfers = vec![(Prefetch, soon); prefetching];
            transfers.insert(prefetching / 2, (Playback, soon));
            let sent = compete(&transfers);
            let all = sent.iter().sum::<u64>();
            let playback = sent[prefetching / 2];
            assert!(playback * 100 >= all * 90, "{sent:?}");
            // Thirty turns in a minute: as many for each, give or take one.
            let slowed = sent.iter().filter(|sent| **sent < playback);
            let turns: Vec<u64> = slowed.map(|sent| sent / 10_000).collect();
            let fair = 30 / prefetching as u64;
            let is_fair = |turns: &u64| turns.abs_diff(fair) <= 2;
            assert!(turns.iter().all(is_fair), "slowed, not starved: {sent:?}");
            assert!(all >= RATE * 58, "nothing is left unused: {sent:?}");
        }
    }

    #[test]
    fn prefetch_takes_all_that_playback_leaves() {
        use Priority::{Playback, Prefetch};
        let soon = Duration::from_millis(1);
        // Playback that wants a step of 10,000 bytes every half second: a fifth of the rate.
        let sent = compete(&[
            (Prefetch, soon),
            (Playback, Duration::from_millis(500)),
            (Prefetch, soon),
        ]);
        let all = sent.iter().sum::<u64>();
        assert!(sent[1] >= 100 * 10_000, "it was held back: {sent:?}");
        assert!(all >= RATE * 55, "{sent:?}");
        let alone = compete(&[(Prefetch, soon), (Prefetch, soon)]);
        assert!(alone.iter().sum::<u64>() >= RATE * 58, "{alone:?}");
        assert!(alone.iter().all(|sent| *sent > RATE * 10), "{alone:?}");
    }

    #[test]
    fn absurd_amounts_wait_for_ever_without_wrapping() {
        let mut bucket = Bucket::new(0);
        let now = Instant::now();
        let turn = bucket.take(now, u64::MAX, Priority::Playback, now);
        assert!(wait(turn) > Duration::from_secs(1 << 30));
    }
}
