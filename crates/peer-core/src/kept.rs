//! Which connection is kept for the next request, and which one is taken for it.

use std::time::{Duration, Instant};

/// How many idle connections a client keeps, and for how long.
///
/// There is no thread behind this: a connection that is too old is closed when the pool is used
/// next, or with the last clone of the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolLimits {
    /// Idle connections kept at most. 4 unless set; 0 keeps none.
    pub idle_max: usize,
    /// Longest time one is kept. 20 s unless set.
    pub idle_age: Duration,
}

impl Default for PoolLimits {
    fn default() -> Self {
        Self {
            idle_max: 4,
            idle_age: Duration::from_secs(20),
        }
    }
}

/// Idle connections `C`, each to a peer `P`.
#[derive(Clone, Debug)]
pub struct Kept<P, C> {
    limits: PoolLimits,
    /// Oldest first.
    idle: Vec<Idle<P, C>>,
}

#[derive(Clone, Debug)]
struct Idle<P, C> {
    peer: P,
    connection: C,
    since: Instant,
}

/// What taking a connection brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken<C> {
    /// The one to use, if it is still quiet. If it is not, it is to be closed, and another taken.
    pub found: Option<C>,
    /// Those that are too old: to be closed.
    pub old: Vec<C>,
}

impl<P: PartialEq, C> Kept<P, C> {
    /// Keeps none so far.
    #[must_use]
    pub const fn new(limits: PoolLimits) -> Self {
        Self {
            limits,
            idle: Vec::new(),
        }
    }

    /// Takes the connection to `peer` that was used last: the likeliest to be alive.
    pub fn take(&mut self, peer: &P, now: Instant) -> Taken<C> {
        let old = self.remove_old(now);
        let place = self.idle.iter().rposition(|idle| idle.peer == *peer);
        let found = place.map(|place| self.idle.remove(place).connection);
        Taken { found, old }
    }

    /// Keeps a connection whose last answer is complete. Returns those to be closed: what is too old,
    /// and what is too many, the oldest first.
    pub fn put(&mut self, peer: P, connection: C, now: Instant) -> Vec<C> {
        let mut closed = self.remove_old(now);
        self.idle.push(Idle {
            peer,
            connection,
            since: now,
        });
        let over = self.idle.len().saturating_sub(self.limits.idle_max);
        closed.extend(self.idle.drain(..over).map(|idle| idle.connection));
        closed
    }

    /// How many are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.idle.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.idle.is_empty()
    }

    fn remove_old(&mut self, now: Instant) -> Vec<C> {
        let age = self.limits.idle_age;
        let is_old = |idle: &Idle<P, C>| now.saturating_duration_since(idle.since) >= age;
        let count = self.idle.iter().take_while(|idle| is_old(idle)).count();
        let old = self.idle.drain(..count);
        old.map(|idle| idle.connection).collect()
    }
}

impl<P, C> IntoIterator for Kept<P, C> {
    type Item = C;
    type IntoIter = std::vec::IntoIter<C>;

    /// All that are kept, to be closed.
    fn into_iter(self) -> Self::IntoIter {
        let connections: Vec<C> = self.idle.into_iter().map(|idle| idle.connection).collect();
        connections.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_by_peer_number_and_age() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let limits = PoolLimits {
            idle_max: 2,
            idle_age: Duration::from_secs(10),
        };
        let mut kept = Kept::new(limits);
        let took = |found, old: &[u32]| Taken {
            found,
            old: old.to_vec(),
        };
        assert_eq!(kept.put("here", 1, at(0)), []);
        assert_eq!(kept.take(&"there", at(0)), took(None, &[]));
        assert_eq!(kept.put("there", 2, at(1)), []);
        assert_eq!((kept.len(), kept.is_empty()), (2, false));
        assert_eq!(kept.put("here", 3, at(2)), [1], "too many");
        assert_eq!(kept.take(&"there", at(10)), took(Some(2), &[]));
        assert_eq!(kept.put("here", 4, at(11)), []);
        assert_eq!(
            kept.take(&"here", at(11)),
            took(Some(4), &[]),
            "the youngest"
        );
        assert_eq!(kept.take(&"here", at(12)), took(None, &[3]), "too old");
        for number in 5..8 {
            kept.put("here", number, at(20));
        }
        assert_eq!(kept.put("here", 8, at(30)), [6, 7], "all of them too old");
        assert_eq!(kept.len(), 1);
        assert_eq!(kept.clone().into_iter().collect::<Vec<_>>(), [8]);
        assert_eq!(
            kept.take(&"here", at(0)),
            took(Some(8), &[]),
            "the clock went back"
        );
    }

    #[test]
    fn none_is_kept_where_none_may_be() {
        let limits = PoolLimits {
            idle_max: 0,
            ..PoolLimits::default()
        };
        let now = Instant::now();
        let mut kept = Kept::new(limits);
        assert_eq!(kept.put("here", 1, now), [1]);
        assert_eq!(kept.take(&"here", now).found, None);
        assert!(kept.is_empty());
    }
}
