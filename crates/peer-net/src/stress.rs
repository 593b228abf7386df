//! Server and client over loopback while threads give way at random wherever they share state, by
//! `cargo xtask models`. `PEER_SEED=n` runs the world of one seed; `PEER_SEEDS=n`, so many.

use std::{
    io::Cursor,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use peer_core::admission::Limits;

use crate::{
    ByteSource, BytesSource, Cancel, PeerClient, PeerError, PeerServer, PoolLimits, RetryPolicy,
    SourceResolver, SpoolSource, TokenGrant,
    sync::{AtomicBool, Ordering, yields},
};

const TOKEN: &str = "stress-token";
const LEN: usize = 300_000;

/// Whatever happens, a world is over by then.
const PATIENCE: Duration = Duration::from_secs(120);

fn content() -> Vec<u8> {
    (0..LEN).map(|n| (n % 251) as u8).collect()
}

/// A world: fetches from several threads, while tokens come and go, operations are cancelled, the
/// second listener moves, and there is little room; then an end with fetches under way.
fn world(seed: u64) {
    yields::seed(seed);
    let limits = Limits {
        strangers: 3,
        strangers_per_address: 3,
        paired: 4,
        paired_per_address: 4,
    };
    let content = content();
    let bytes: Arc<dyn ByteSource> = Arc::new(BytesSource::new(content.clone()));
    let held = Arc::new(());
    let resolver: SourceResolver = {
        let (content, held) = (content.clone(), Arc::clone(&held));
        Arc::new(move |handle| {
            let _held = &held;
            match handle {
                "bytes" => Some(Arc::clone(&bytes)),
                "spool" => {
                    let stream = Cursor::new(content.clone());
                    let source = SpoolSource::with_memory(stream, LEN / 2).ok()?;
                    Some(Arc::new(source.with_len(LEN as u64)))
                }
                _ => None,
            }
        })
    };
    let server = PeerServer::builder(TOKEN, resolver)
        .limits(limits)
        .listen("127.0.0.1:0")
        .and_then(|builder| builder.listen("127.0.0.1:0"))
        .and_then(|builder| builder.start())
        .unwrap();
    let bases: Vec<_> = server
        .status()
        .iter()
        .map(|listener| listener.address.to_string())
        .collect();
    let done = AtomicBool::new(false);
    let fetched = thread::scope(|scope| {
        let fetchers: Vec<_> = (0..4)
            .map(|n| {
                let (base, content, done) = (&bases[n % 2], &content, &done);
                scope.spawn(move || fetch_on(base, content, done, n))
            })
            .collect();
        for round in 0..20 {
            let name = format!("guest-{round}");
            server.add_token(&name, TokenGrant::new(format!("guest {round}")).unwrap());
            let base = bases[round % 2].as_str();
            let guest = PeerClient::builder(base, format!("guest {round}"));
            let guest = guest.retry(RetryPolicy::NEVER).build().unwrap();
            let fetching = scope.spawn(move || guest.fetch_range("bytes", 0, Some(9)).map(drop));
            server.revoke(&name);
            let _ = fetching.join().unwrap();
            let late = PeerClient::builder(base, format!("guest {round}"));
            let late = late.retry(RetryPolicy::NEVER).build().unwrap();
            let refused = late.fetch_range("bytes", 0, Some(9));
            assert!(refused.is_err(), "seed {seed}: revoked, and let in");
        }
        done.store(true, Ordering::SeqCst);
        let counts = fetchers.into_iter().map(|fetcher| fetcher.join().unwrap());
        counts.sum::<usize>()
    });
    assert!(fetched > 0, "seed {seed}: nothing came through");
    // Fetches that the end of the server meets, wherever they are.
    thread::scope(|scope| {
        for n in 0..4 {
            let (base, content) = (&bases[n % 2], &content);
            scope.spawn(move || fetch_until_it_fails(base, content));
        }
        let shutdown = server.shutdown(Duration::from_millis(seed % 3));
        assert!(shutdown.all_threads_ended, "seed {seed}: {shutdown:?}");
        assert_eq!(
            Arc::strong_count(&held),
            1,
            "seed {seed}: the resolver is still held"
        );
    });
}

fn client(base: &str) -> PeerClient {
    let mut limits = PoolLimits::default();
    limits.idle_max = 1;
    let builder = PeerClient::builder(base, TOKEN).retry(RetryPolicy::NEVER);
    builder.pool(limits).build().unwrap()
}

/// Fetches, and cancels one fetch in three, until it is `done`. Returns how many were whole.
fn fetch_on(base: &str, content: &[u8], done: &AtomicBool, number: usize) -> usize {
    let client = client(base);
    let mut whole = 0;
    let mut round = number;
    while !done.load(Ordering::SeqCst) {
        round += 1;
        let handle = ["bytes", "spool"][round % 2];
        let start = round * 7_919 % LEN;
        let cancel = Cancel::new();
        let fetched = thread::scope(|scope| {
            if round % 3 == 0 {
                scope.spawn(|| cancel.cancel());
            }
            client
                .with_cancel(&cancel)
                .fetch_range(handle, start as u64, None)
        });
        match fetched {
            Ok(part) => {
                assert!(part.bytes == content[start..], "other bytes");
                whole += 1;
            }
            Err(PeerError::Cancelled) => assert!(cancel.is_cancelled()),
            // There is less room than there are peers: some have to give way.
            Err(PeerError::Status(503) | PeerError::Io(_) | PeerError::Truncated { .. }) => {}
            Err(error) => panic!("{error:?}"),
        }
    }
    whole
}

fn fetch_until_it_fails(base: &str, content: &[u8]) {
    let client = client(base);
    while let Ok(part) = client.fetch_range("bytes", 5, None) {
        assert!(part.bytes == content[5..], "other bytes");
    }
}

#[test]
fn worlds_in_which_threads_give_way_at_random() {
    let number = |name: &str| Some(std::env::var(name).ok()?.parse::<u64>().unwrap());
    let seeds = match number("PEER_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("PEER_SEEDS").unwrap_or(200),
    };
    let start = Instant::now();
    let count = seeds.end - seeds.start;
    for seed in seeds {
        println!("seed {seed}");
        let begun = Instant::now();
        world(seed);
        assert!(begun.elapsed() < PATIENCE, "seed {seed}: it hung");
    }
    println!("stress: {count} worlds in {:?}", start.elapsed());
}
