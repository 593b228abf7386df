//! `RemoteSource` against the real server: exact bytes for many readers, one request for what they
//! share, and no bytes of two versions.

use std::{
    io::{self, ErrorKind},
    sync::{
        Arc, Barrier, Condvar, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use cranpose_services::peer::{
    ByteSource, BytesSource, Cancel, PeerClient, PeerError, PeerServer, RemoteSource,
    RemoteSourceConfig, RetryPolicy, SourceResolver,
};

use super::{Random, client, sample, serve, serve_one};
use crate::fetch_script::{Script, alone, answer};

/// Small sizes, so that little content goes through all of the policy.
pub(super) fn small() -> RemoteSourceConfig {
    let mut config = RemoteSourceConfig::default();
    config.read_ahead.block_bytes = 1000;
    config.read_ahead.blocks = 16;
    config.read_ahead.request_bytes_min = 4000;
    config.read_ahead.request_bytes_max = 64_000;
    config
}

fn open(server: &PeerServer, config: RemoteSourceConfig) -> RemoteSource {
    RemoteSource::open_with(&client(server.local_addr()), "a", config).unwrap()
}

/// Reads `len` bytes at `offset`, or up to the end.
fn read(source: &dyn ByteSource, offset: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    let mut filled = 0;
    while filled < len {
        match source.read_at(offset + filled as u64, &mut bytes[filled..])? {
            0 => break,
            n => filled += n,
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

/// Reads at random places, and asserts that they hold what they must.
fn compare(source: &dyn ByteSource, bytes: &[u8], seed: u64, rounds: usize) {
    let mut random = Random(seed);
    let mut next = 0;
    for _ in 0..rounds {
        let offset = match random.below(3) {
            0 => random.below(bytes.len() as u64 + 10),
            _ => next,
        };
        let len = random.below(5000) as usize;
        let got = read(source, offset, len).unwrap();
        let from = bytes.len().min(offset as usize);
        assert!(
            got == bytes[from..bytes.len().min(from + len)],
            "at {offset}"
        );
        next = offset + got.len() as u64;
    }
}

#[test]
fn says_what_the_peer_says() {
    let bytes = sample(30_000);
    let origin = BytesSource::new(bytes).with_content_type("audio/flac");
    let tag = origin.entity_tag();
    let server =
        serve_one(origin.with_last_modified(std::time::UNIX_EPOCH + Duration::from_secs(9)));
    let source = open(&server, small());
    assert_eq!(source.len(), Some(30_000));
    assert_eq!(source.content_type(), Some("audio/flac"));
    assert!(tag.is_some() && source.entity_tag() == tag);
    assert_eq!(
        source.metadata().last_modified,
        Some(std::time::UNIX_EPOCH + Duration::from_secs(9))
    );
    assert_eq!(source.requests(), 1);
    // What the first request brought is there for the first reads.
    assert_eq!(read(&source, 0, 4000).unwrap().len(), 4000);
    assert_eq!(source.requests(), 1);
    let shown = format!("{source:?}");
    assert!(
        shown.contains("\"a\"") && !shown.contains("secret"),
        "{shown}"
    );
}

#[test]
fn many_readers_at_random_places() {
    for len in [0, 1, 999, 1000, 1001, 200_000] {
        let bytes = sample(len);
        let server = serve_one(BytesSource::new(bytes.clone()));
        let source = open(&server, small());
        thread::scope(|scope| {
            for seed in 1..=16 {
                // One object for several threads, and clones of their own.
                let own = source.clone();
                let (source, bytes) = (&source, &bytes);
                scope.spawn(move || match seed % 2 {
                    0 => compare(source, bytes, seed, 60),
                    _ => compare(&own, bytes, seed, 60),
                });
            }
        });
        assert!(read(&source, len as u64, 10).unwrap().is_empty());
        assert!(read(&source, u64::MAX, 10).unwrap().is_empty());
    }
}

#[test]
fn readers_of_the_same_share_what_is_fetched() {
    let bytes = sample(60 * 64 * 1024);
    let server = serve_one(BytesSource::new(bytes.clone()));
    let source = open(&server, RemoteSourceConfig::default());
    let start = Barrier::new(16);
    thread::scope(|scope| {
        for _ in 0..16 {
            let (own, start, bytes) = (source.clone(), &start, &bytes);
            scope.spawn(move || {
                start.wait();
                assert!(read(&own, 0, bytes.len()).unwrap() == *bytes);
            });
        }
    });
    drop(source);
    // Everything fits into the blocks that are kept, so nothing was fetched twice.
    let stats = server.stats();
    assert_eq!(stats.content_bytes, bytes.len() as u64);
    assert!(stats.requests <= 5, "{} requests", stats.requests);
}

/// A source that holds its readers up at one place until it is opened.
struct Gated {
    bytes: BytesSource,
    at: u64,
    open: Mutex<bool>,
    opened: Condvar,
    held: AtomicU64,
}

impl Gated {
    fn new(bytes: Vec<u8>, at: u64) -> Arc<Self> {
        Arc::new(Self {
            bytes: BytesSource::new(bytes),
            at,
            open: Mutex::new(false),
            opened: Condvar::new(),
            held: AtomicU64::new(0),
        })
    }

    fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.opened.notify_all();
    }

    /// Waits until somebody stands before it.
    fn wait_until_held(&self) {
        while self.held.load(Ordering::SeqCst) == 0 {
            thread::yield_now();
        }
    }
}

impl ByteSource for Gated {
    fn len(&self) -> Option<u64> {
        self.bytes.len()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let mut buf = buf;
        if offset < self.at {
            let before = usize::try_from(self.at - offset).unwrap().min(buf.len());
            buf = &mut buf[..before];
        } else {
            self.held.fetch_add(1, Ordering::SeqCst);
            let open = self.open.lock().unwrap();
            let waited = self
                .opened
                .wait_timeout_while(open, Duration::from_secs(60), |open| !*open);
            assert!(!waited.unwrap().1.timed_out(), "never opened");
        }
        self.bytes.read_at(offset, buf)
    }

    fn entity_tag(&self) -> Option<cranpose_services::peer::EntityTag> {
        self.bytes.entity_tag()
    }
}

fn serve_shared(source: Arc<dyn ByteSource>) -> PeerServer {
    serve(Arc::new(move |handle| {
        (handle == "a").then(|| Arc::clone(&source))
    }))
}

#[test]
fn a_read_of_what_is_being_fetched_waits_for_it() {
    let bytes = sample(50_000);
    let gated = Gated::new(bytes.clone(), 1500);
    let server = serve_shared(Arc::clone(&gated) as _);
    let source = open(&server, small());
    // What came before the peer stalled is there at once, in the midst of a block.
    assert_eq!(read(&source, 0, 1500).unwrap(), bytes[..1500]);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert_eq!(read(&source, 1500, 2000).unwrap(), bytes[1500..3500]));
        }
        gated.wait_until_held();
        gated.open();
    });
    assert_eq!(server.stats().requests, 1);
}

#[test]
fn cancelling_one_reader_leaves_the_others() {
    let bytes = sample(50_000);
    let gated = Gated::new(bytes.clone(), 1500);
    let server = serve_shared(Arc::clone(&gated) as _);
    let source = open(&server, small());
    let (first, second) = (Cancel::new(), Cancel::new());
    let reader = |cancel: &Cancel| source.reader(cancel).unwrap().unwrap();
    let (one, other) = (reader(&first), reader(&second));
    thread::scope(|scope| {
        let cut = scope.spawn(|| read(&*one, 0, 4000).unwrap_err().kind());
        gated.wait_until_held();
        let goes_on = scope.spawn(|| read(&*other, 0, 4000).unwrap());
        // Wherever the other one is by now, and whether it was waiting for the first or not.
        first.cancel();
        assert_eq!(cut.join().unwrap(), ErrorKind::ConnectionAborted);
        gated.open();
        assert_eq!(goes_on.join().unwrap(), bytes[..4000]);
    });
    assert!(read(&*one, 0, 10).is_err(), "cancelled for good");
}

#[test]
fn what_nobody_follows_ends_where_another_place_is_asked_for() {
    let bytes = sample(400_000);
    let server = serve_one(BytesSource::new(bytes.clone()));
    let source = open(&server, small());
    let reader = || source.reader(&Cancel::new()).unwrap().unwrap();
    // As a player: the first bytes, then the whole on another connection, then a seek.
    assert_eq!(read(&*reader(), 0, 2).unwrap(), bytes[..2]);
    assert_eq!(read(&*reader(), 0, 3000).unwrap(), bytes[..3000]);
    assert_eq!(source.requests(), 1, "gone on with");
    assert_eq!(
        read(&*reader(), 300_000, 3000).unwrap(),
        bytes[300_000..][..3000]
    );
    assert_eq!(source.requests(), 2);
    // The first request was followed by `source` as well, which opened it, and is still there.
    assert_eq!(read(&source, 3000, 500).unwrap(), bytes[3000..3500]);
    assert_eq!(source.requests(), 2);
    let last = reader();
    drop(source);
    let hung_up = server.stats().hung_up;
    assert_eq!(read(&*last, 150_000, 500).unwrap(), bytes[150_000..150_500]);
    // Both of the others end, since nobody goes by them. The peer notices when it goes on sending.
    let started = std::time::Instant::now();
    while server.stats().transfers_running > 1 {
        assert!(
            started.elapsed() < Duration::from_secs(60),
            "{:?}",
            server.stats()
        );
        thread::yield_now();
    }
    assert!(server.stats().hung_up >= hung_up);
}

#[test]
fn a_peer_that_starts_again_is_found_again() {
    let bytes = sample(300_000);
    let origin: Arc<dyn ByteSource> = Arc::new(BytesSource::new(bytes.clone()));
    let resolver: SourceResolver = Arc::new(move |_| Some(Arc::clone(&origin)));
    let server = PeerServer::start((alone(21), 0), "secret", Arc::clone(&resolver)).unwrap();
    let address = server.local_addr();
    let source = RemoteSource::open_with(&client(address), "a", small()).unwrap();
    assert_eq!(read(&source, 0, 2000).unwrap(), bytes[..2000]);
    server.shutdown(Duration::ZERO);
    // Away: several readers try until it is back.
    thread::scope(|scope| {
        let readers: Vec<_> = (0..4)
            .map(|part| {
                let (source, bytes) = (source.clone(), &bytes);
                let from = part * 70_000 + 2000;
                scope.spawn(move || {
                    let got = read(&source, from as u64, 60_000).unwrap();
                    assert!(got == bytes[from..from + 60_000], "from {from}");
                })
            })
            .collect();
        let again = PeerServer::start(address, "secret", resolver).unwrap();
        for reader in readers {
            reader.join().unwrap();
        }
        drop(again);
    });
}

#[test]
fn a_peer_that_is_gone_is_an_error_for_all_who_wait() {
    let server = serve_one(BytesSource::new(sample(300_000)));
    let mut retry = RetryPolicy::default();
    (retry.pause, retry.attempts) = (Duration::from_millis(1), 3);
    let client = PeerClient::builder(server.local_addr().to_string(), "secret")
        .retry(retry)
        .build()
        .unwrap();
    let source = RemoteSource::open_with(&client, "a", small()).unwrap();
    server.shutdown(Duration::ZERO);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let error = read(&source, 200_000, 10).unwrap_err();
                let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
                let inner: &Arc<PeerError> = inner.unwrap();
                assert!(inner.phase().is_some(), "{inner}");
            });
        }
    });
    assert!(RemoteSource::open(&client, "a").is_err());
}

#[test]
fn a_source_that_changes_is_an_error_and_a_new_reader_sees_the_new_one() {
    let version = |byte| -> Arc<dyn ByteSource> { Arc::new(BytesSource::new(vec![byte; 50_000])) };
    let current = Arc::new(Mutex::new(version(1)));
    let shared = Arc::clone(&current);
    let server = serve(Arc::new(move |_| Some(Arc::clone(&shared.lock().unwrap()))));
    let mut config = small();
    config.fresh_for = Duration::ZERO;
    let source = open(&server, config);
    let reader = || source.reader(&Cancel::new()).unwrap().unwrap();
    let old = reader();
    let old_tag = old.entity_tag();
    assert_eq!(read(&*old, 0, 3000).unwrap(), [1; 3000]);
    *current.lock().unwrap() = version(2);
    let error = read(&*old, 3000, 40_000).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    assert_eq!(old.entity_tag(), None, "its version is gone");
    assert!(read(&*old, 0, 10).is_err(), "for good");
    let new = reader();
    assert!(new.entity_tag().is_some() && new.entity_tag() != old_tag);
    assert_eq!(read(&*new, 0, 50_000).unwrap(), [2; 50_000]);
    // Also where everything is here, and nothing would be asked for.
    let all = BytesSource::new(vec![3; 900]);
    *current.lock().unwrap() = Arc::new(all);
    assert_eq!(read(&*reader(), 0, 10_000).unwrap(), [3; 900]);
    *current.lock().unwrap() = version(4);
    assert_eq!(read(&*reader(), 0, 50_000).unwrap(), [4; 50_000]);
}

#[test]
fn a_peer_that_sends_no_validators_is_held_to_its_length() {
    let part = |range: &str, body: &str| {
        answer(format!(
            "HTTP/1.1 206 Partial Content\r\nContent-Length: {}\r\nContent-Range: bytes {range}\r\n\
             Connection: close\r\n\r\n{body}",
            body.len()
        ))
    };
    let mut config = small();
    config.read_ahead.block_bytes = 2;
    config.read_ahead.request_bytes_min = 4;
    let script = Script::play(vec![
        part("0-3/10", "0123"),
        part("8-9/10", "89"),
        part("4-7/11", "4567"),
    ]);
    let source = RemoteSource::open_with(&client(script.base()), "a", config).unwrap();
    assert_eq!(source.entity_tag(), None);
    assert_eq!(read(&source, 8, 5).unwrap(), b"89");
    assert_eq!(read(&source, 0, 4).unwrap(), b"0123");
    let error = read(&source, 4, 4).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData, "{error}");
}

#[test]
fn what_cannot_be_read_at_places_is_refused() {
    let script = Script::play(vec![answer(
        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nwho knows how long",
    )]);
    let error = RemoteSource::open(&client(script.base()), "a").unwrap_err();
    let PeerError::Io(error) = error else {
        panic!("{error}")
    };
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[test]
fn what_cannot_be_opened_says_why() {
    let server = serve_one(BytesSource::new(vec![1]));
    let base = server.local_addr();
    assert!(matches!(
        RemoteSource::open(&client(base), "b").unwrap_err(),
        PeerError::NotFound
    ));
    let stranger = PeerClient::builder(base.to_string(), "other")
        .build()
        .unwrap();
    assert!(matches!(
        RemoteSource::open(&stranger, "a").unwrap_err(),
        PeerError::Unauthorized
    ));
}
