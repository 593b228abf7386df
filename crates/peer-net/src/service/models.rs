//! What connections share, in every order of their threads: whom a revocation, the drain and the end
//! reach, and that no budget is exceeded.

use std::{io, net::Ipv4Addr};

use loom::thread;
use peer_core::admission::Limits;

use super::*;
use crate::{
    sync::{
        Condvar,
        models::{explore, without_timeouts},
    },
    token_set::TokenGrant,
};

const TOKEN: &str = "model-token";
const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A stream on which nothing comes: reading ends when it is hung up.
#[derive(Default)]
struct Line {
    hung_up: Mutex<bool>,
    changed: Condvar,
}

impl Stream for Line {
    fn read(&self, _: &mut [u8]) -> io::Result<usize> {
        let mut hung_up = lock(&self.hung_up);
        while !*hung_up {
            hung_up = self.changed.wait(hung_up).unwrap();
        }
        Ok(0)
    }

    fn write(&self, buf: &[u8]) -> io::Result<usize> {
        Ok(buf.len())
    }

    without_timeouts!();

    fn hang_up(&self) {
        *lock(&self.hung_up) = true;
        self.changed.notify_all();
    }
}

fn service(strangers: usize, paired: usize) -> Arc<Service> {
    let config = Config {
        limits: Limits {
            strangers,
            strangers_per_address: strangers,
            paired,
            paired_per_address: paired,
        },
        ..Config::default()
    };
    let service = Service::new(config, Arc::new(|_| None));
    let grant = TokenGrant::new(TOKEN).unwrap();
    service.tokens.add("peer", grant);
    Arc::new(service)
}

fn arrive(service: &Service) -> Arc<Connection> {
    let stream = Arc::new(Line::default());
    service.arrive(stream, ADDRESS).unwrap()
}

fn authorize(service: &Service, connection: &Connection) -> Authorization {
    let now = Instant::now();
    let (authorization, _) = service.authorize(connection, TOKEN.as_bytes(), None, now);
    authorization
}

fn is_cut(connection: &Connection) -> bool {
    connection.cut.load(Ordering::Relaxed)
}

#[test]
fn a_revoked_token_lets_nobody_in_and_nobody_stay() {
    explore(Some(3), || {
        let service = service(4, 4);
        let connections = [arrive(&service), arrive(&service)];
        let peers = connections.clone().map(|connection| {
            let service = Arc::clone(&service);
            thread::spawn(move || authorize(&service, &connection))
        });
        service.revoke(&service.tokens.remove("peer"));
        let after = arrive(&service);
        assert_eq!(authorize(&service, &after), Authorization::Denied);
        let cut = connections.each_ref().map(|connection| is_cut(connection));
        for (peer, (connection, cut)) in peers.into_iter().zip(connections.iter().zip(cut)) {
            let granted = peer.join().unwrap() == Authorization::Granted;
            // Who was let in while it was revoked is cut by the time that revoking is over, or
            // had not been told so by then.
            assert!(!granted || is_cut(connection), "let in, and stays");
            assert!(!cut || is_cut(connection));
        }
    });
}

/// Both see each other late or not at all only where loads may be older than stores of one's own.
#[test]
fn an_idle_connection_ends_by_a_drain() {
    explore(None, || {
        let service = service(1, 1);
        let connection = arrive(&service);
        assert_eq!(authorize(&service, &connection), Authorization::Granted);
        let server = Arc::clone(&service);
        let driver = thread::spawn(move || {
            // As the driver does between two requests.
            server.set_idle(&connection, Instant::now());
            if !server.draining.load(Ordering::SeqCst) {
                assert_eq!(connection.stream.read(&mut [0]).unwrap(), 0);
            }
            server.leave(&connection);
        });
        service.draining.store(true, Ordering::SeqCst);
        service.cut_connections(true);
        driver.join().unwrap();
        assert_eq!(service.standings(), [0; 3]);
    });
}

/// Whoever comes while the server ends is either reached by the end, or sees it.
#[test]
fn the_end_reaches_every_connection_and_waits_for_every_thread() {
    explore(Some(3), || {
        let service = service(4, 4);
        let post = Arc::new(crate::crew::Post::new(4));
        let ended = Arc::new(AtomicU64::new(0));
        for _ in 0..2 {
            service.crew.enlist(&post);
            let (service, ended) = (Arc::clone(&service), Arc::clone(&ended));
            thread::spawn(move || {
                let connection = arrive(&service);
                if !service.is_stopping() {
                    assert_eq!(connection.stream.read(&mut [0]).unwrap(), 0);
                }
                service.leave(&connection);
                let crew = Arc::clone(&service.crew);
                drop((service, connection));
                ended.fetch_add(1, Ordering::Relaxed);
                crew.end();
            });
        }
        service.draining.store(true, Ordering::SeqCst);
        let (_, all) = service.wind_up(0, Duration::ZERO);
        assert!(all);
        assert_eq!(ended.load(Ordering::Relaxed), 2, "a thread still runs");
        assert_eq!(service.standings(), [0; 3]);
        assert_eq!(Arc::strong_count(&service), 1, "somebody holds the server");
    });
}

#[test]
fn no_budget_is_exceeded() {
    explore(Some(3), || {
        let service = service(1, 1);
        let within = |service: &Service| {
            let [strangers, idle, busy] = service.standings();
            assert!(
                strangers <= 1 && idle + busy <= 1,
                "{:?}",
                service.standings()
            );
        };
        let holder = arrive(&service);
        assert_eq!(authorize(&service, &holder), Authorization::Granted);
        service.set_idle(&holder, Instant::now());
        let peers: Vec<_> = (0..2)
            .map(|_| {
                let service = Arc::clone(&service);
                thread::spawn(move || {
                    let connection = arrive(&service);
                    within(&service);
                    let granted = authorize(&service, &connection) == Authorization::Granted;
                    within(&service);
                    if granted {
                        service.set_idle(&connection, Instant::now());
                    }
                    (connection, granted)
                })
            })
            .collect();
        let ends: Vec<_> = peers.into_iter().map(|peer| peer.join().unwrap()).collect();
        within(&service);
        assert!(ends.iter().any(|(_, granted)| *granted), "nobody got in");
        let all = lock(&service.connections);
        for connection in ends
            .iter()
            .map(|(connection, _)| connection)
            .chain([&holder])
        {
            let is_inside = all.iter().any(|other| Arc::ptr_eq(other, connection));
            assert_ne!(is_inside, is_cut(connection), "gone means cut");
        }
    });
}

#[test]
fn who_has_given_way_takes_nobodys_place() {
    explore(None, || {
        let service = service(1, 1);
        let holder = arrive(&service);
        assert_eq!(authorize(&service, &holder), Authorization::Granted);
        service.set_idle(&holder, Instant::now());
        let peer = arrive(&service);
        let stranger = {
            let service = Arc::clone(&service);
            thread::spawn(move || arrive(&service))
        };
        let granted = authorize(&service, &peer) == Authorization::Granted;
        let _stranger = stranger.join().unwrap();
        assert_eq!(granted, !is_cut(&peer), "let in, or made to give way");
        assert_eq!(is_cut(&holder), granted, "it gave way to nobody");
    });
}
