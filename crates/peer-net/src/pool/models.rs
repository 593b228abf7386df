//! The pool in every order of its threads: a connection is one user's at a time.

use std::{
    io,
    sync::{Arc, atomic::AtomicUsize},
};

use loom::thread;

use super::*;
use crate::{
    client_connect::ClientStream,
    stream::Stream,
    sync::{
        AtomicBool, Ordering,
        models::{explore, without_timeouts},
    },
};

/// A stream that only tells whether somebody uses it.
struct Line {
    used: AtomicBool,
    /// Streams that there are.
    all: Arc<AtomicUsize>,
}

impl Line {
    fn connection(all: &Arc<AtomicUsize>) -> Connection {
        all.fetch_add(1, Ordering::Relaxed);
        Connection::new(Arc::new(Self {
            used: AtomicBool::new(false),
            all: Arc::clone(all),
        }))
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.all.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Stream for Line {
    /// Begins to use it.
    fn read(&self, _: &mut [u8]) -> io::Result<usize> {
        assert!(!self.used.swap(true, Ordering::Relaxed), "somebody else's");
        Ok(0)
    }

    /// Is done with it.
    fn write(&self, buf: &[u8]) -> io::Result<usize> {
        assert!(self.used.swap(false, Ordering::Relaxed));
        Ok(buf.len())
    }

    without_timeouts!();

    fn hang_up(&self) {}
}

impl ClientStream for Line {
    fn is_quiet(&self) -> bool {
        !self.used.load(Ordering::Relaxed)
    }
}

#[test]
fn a_connection_goes_to_one_at_a_time() {
    explore(Some(3), || {
        let mut limits = PoolLimits::default();
        limits.idle_max = 2;
        let all = Arc::new(AtomicUsize::new(0));
        let pool = Arc::new(Pool::new(limits));
        let base = Base::parse("127.0.0.1:1").unwrap();
        let now = Instant::now();
        pool.put(&base, Line::connection(&all), now);
        let users: Vec<_> = (0..3)
            .map(|_| {
                let (pool, base, all) = (Arc::clone(&pool), base.clone(), Arc::clone(&all));
                thread::spawn(move || {
                    let kept = pool.take(&base, now);
                    let connection = kept.unwrap_or_else(|| Line::connection(&all));
                    connection.stream().read(&mut [0]).unwrap();
                    connection.stream().write(&[0]).unwrap();
                    pool.put(&base, connection, now);
                })
            })
            .collect();
        for user in users {
            user.join().unwrap();
        }
        let kept = pool.lock().len();
        assert!((1..=2).contains(&kept), "{kept}");
        assert_eq!(all.load(Ordering::Relaxed), kept, "the others are closed");
    });
}
