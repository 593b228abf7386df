//! Connections kept for the next request.

use std::{
    sync::PoisonError,
    time::{Duration, Instant},
};

use crate::{
    base::Base,
    client_connect::Connection,
    sync::{Mutex, MutexGuard},
};

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

pub(crate) struct Pool {
    limits: PoolLimits,
    /// Oldest first.
    idle: Mutex<Vec<Idle>>,
}

struct Idle {
    base: Base,
    connection: Connection,
    since: Instant,
}

impl Pool {
    pub(crate) fn new(limits: PoolLimits) -> Self {
        Self {
            limits,
            idle: Mutex::new(Vec::new()),
        }
    }

    /// A connection to `base` that has been quiet since its last answer.
    pub(crate) fn take(&self, base: &Base, now: Instant) -> Option<Connection> {
        loop {
            let mut idle = self.lock();
            let old = self.remove_old(&mut idle, now);
            // The youngest one is the likeliest to be alive.
            let place = idle.iter().rposition(|idle| idle.base == *base);
            let found = place.map(|place| idle.remove(place));
            drop(idle);
            drop(old);
            let connection = found?.connection;
            if connection.stream().is_quiet() {
                return Some(connection);
            }
        }
    }

    /// Keeps a connection whose last answer is complete.
    pub(crate) fn put(&self, base: &Base, connection: Connection, now: Instant) {
        let mut idle = self.lock();
        let mut old = self.remove_old(&mut idle, now);
        idle.push(Idle {
            base: base.clone(),
            connection,
            since: now,
        });
        let over = idle.len().saturating_sub(self.limits.idle_max);
        old.extend(idle.drain(..over));
        drop(idle);
        // Closing a connection may take its time, and is done without the lock.
        drop(old);
    }

    fn remove_old(&self, idle: &mut Vec<Idle>, now: Instant) -> Vec<Idle> {
        let age = self.limits.idle_age;
        let is_old = |idle: &Idle| now.saturating_duration_since(idle.since) >= age;
        let count = idle.iter().take_while(|idle| is_old(idle)).count();
        idle.drain(..count).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Idle>> {
        // Nothing under this lock can panic half-way.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(all(test, peer_models))]
mod models;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client_connect::{Connect, TcpConnect};
    use std::net::TcpListener;

    #[test]
    fn kept_by_peer_number_and_age() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut peers = Vec::new();
        let mut connect = || {
            let stream = TcpConnect.connect(address, None).unwrap();
            peers.push(listener.accept().unwrap().0);
            Connection::new(stream)
        };
        let limits = PoolLimits {
            idle_max: 2,
            idle_age: Duration::from_secs(10),
        };
        let pool = Pool::new(limits);
        let here = Base::parse("127.0.0.1:1").unwrap();
        let there = Base::parse("127.0.0.1:2").unwrap();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        pool.put(&here, connect(), at(0));
        assert!(pool.take(&there, at(0)).is_none());
        let connection = pool.take(&here, at(9)).unwrap();
        assert!(pool.take(&here, at(9)).is_none());
        pool.put(&here, connection, at(9));
        assert!(pool.take(&here, at(19)).is_none(), "too old");
        assert!(pool.lock().is_empty());
        for second in 20..25 {
            pool.put(&here, connect(), at(second));
        }
        assert_eq!(pool.lock().len(), 2);
        assert_eq!(pool.lock()[0].since, at(23));
        while pool.take(&here, at(25)).is_some() {}
        // One whose peer is gone, as its end shows, is not handed out.
        let connection = connect();
        peers.clear();
        assert_eq!(connection.stream().read(&mut [0]).unwrap(), 0);
        pool.put(&here, connection, at(25));
        assert!(pool.take(&here, at(25)).is_none());
        assert!(pool.lock().is_empty());
    }
}
