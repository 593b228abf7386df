//! Connections kept for the next request.

use std::{sync::PoisonError, time::Instant};

use peer_core::kept::{Kept, Taken};

pub use peer_core::kept::PoolLimits;

use crate::{
    base::Base,
    client_connect::Connection,
    sync::{Mutex, MutexGuard},
};

/// The connections that the clones of a client share.
pub(crate) struct Pool {
    idle: Mutex<Kept<Base, Connection>>,
}

impl Pool {
    pub(crate) fn new(limits: PoolLimits) -> Self {
        Self {
            idle: Mutex::new(Kept::new(limits)),
        }
    }

    /// A connection to `base` that has been quiet since its last answer.
    pub(crate) fn take(&self, base: &Base, now: Instant) -> Option<Connection> {
        loop {
            // Closing a connection may take its time, and is done without the lock.
            let Taken { found, old } = self.lock().take(base, now);
            drop(old);
            let connection = found?;
            if connection.stream().is_quiet() {
                return Some(connection);
            }
        }
    }

    /// Keeps a connection whose last answer is complete.
    pub(crate) fn put(&self, base: &Base, connection: Connection, now: Instant) {
        let closed = self.lock().put(base.clone(), connection, now);
        drop(closed);
    }

    fn lock(&self) -> MutexGuard<'_, Kept<Base, Connection>> {
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
    fn one_whose_peer_is_gone_is_not_handed_out() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let connect = || {
            let stream = TcpConnect.connect(address, None).unwrap();
            (Connection::new(stream), listener.accept().unwrap().0)
        };
        let pool = Pool::new(PoolLimits::default());
        let base = Base::parse("127.0.0.1:1").unwrap();
        let now = Instant::now();
        let (alive, _peer) = connect();
        pool.put(&base, alive, now);
        let (dead, peer) = connect();
        drop(peer);
        assert_eq!(dead.stream().read(&mut [0]).unwrap(), 0);
        pool.put(&base, dead, now);
        let taken = pool.take(&base, now).expect("the one that is alive");
        assert!(taken.stream().is_quiet());
        assert!(pool.take(&base, now).is_none(), "the other one is closed");
    }
}
