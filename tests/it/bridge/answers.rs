//! What a bridge answers over the life of peers, sources and URLs: the exact bytes, or visibly less.

use std::{
    sync::{
        Condvar, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Instant,
};

use cranpose_services::peer::{BytesSource, EntityTag, PeerError, ServerStats};

use super::*;
use crate::fetch_script::{Script, alone, answer};

/// A resolver with one source for every handle.
fn resolver(bytes: &[u8]) -> SourceResolver {
    let source: Arc<dyn ByteSource> = Arc::new(BytesSource::new(bytes.to_vec()));
    Arc::new(move |_| Some(Arc::clone(&source)))
}

/// The server's numbers when every connection is gone, and what its answer read with it.
fn settled(bridge: &PeerBridge) -> ServerStats {
    let started = Instant::now();
    loop {
        let stats = bridge.stats().server;
        if stats.strangers + stats.idle + stats.busy == 0 {
            return stats;
        }
        assert!(started.elapsed() < Duration::from_secs(60), "{stats:?}");
        thread::yield_now();
    }
}

#[test]
fn sixteen_players_get_their_bytes_from_two_peers() {
    let bytes = sample(3_000_000);
    let reversed: Vec<u8> = bytes.iter().rev().copied().collect();
    let (one, other) = (
        serve_one(BytesSource::new(bytes.clone())),
        serve_one(BytesSource::new(reversed.clone())),
    );
    let bridge = PeerBridge::start().unwrap();
    let urls = [
        (
            bridge
                .url(&client(one.local_addr()), "a", "1.flac")
                .unwrap(),
            &bytes,
        ),
        (
            bridge
                .url(&client(other.local_addr()), "a", "2.flac")
                .unwrap(),
            &reversed,
        ),
    ];
    thread::scope(|scope| {
        for number in 0..16 {
            let ((url, bytes), bridge) = (&urls[number % 2], &bridge);
            scope.spawn(move || {
                let mut random = Random(number as u64 + 1);
                for _ in 0..12 {
                    let first = random.below(bytes.len() as u64);
                    let last = first + random.below(bytes.len() as u64 - first);
                    let range = format!("Range: bytes={first}-{last}");
                    let answer = ask(bridge, "GET", target(url), &[&range]);
                    assert_eq!(answer.status(), 206);
                    assert!(answer.cut.is_none());
                    let expected = &bytes[first as usize..=last as usize];
                    assert!(answer.content == expected, "{range}");
                }
            });
        }
    });
    // The last byte of an answer may be here before the server has noted that it is.
    let stats = settled(&bridge);
    assert_eq!(stats.transfers_complete, 16 * 12, "{stats:?}");
}

#[test]
fn a_peer_that_starts_again_between_answers_and_within_one() {
    let bytes = sample(20_000_000);
    let resolver = resolver(&bytes);
    let start = |address| PeerServer::start(address, "secret", Arc::clone(&resolver)).unwrap();
    let server = start((alone(22), 0).into());
    let address = server.local_addr();
    let bridge = PeerBridge::start().unwrap();
    let url = bridge.url(&client(address), "a", "a.wav").unwrap();
    let host = bridge.local_addr().to_string();
    let mut peer = RawPeer::connect(bridge.local_addr()).unwrap();
    peer.send(&request("GET", target(&url), &host, &[]))
        .unwrap();
    assert_eq!(peer.read_head().unwrap().unwrap().status, 200);
    let (first, _) = peer.read_length(1_000_000).unwrap();
    server.shutdown(Duration::ZERO);
    let server = start(address);
    let (rest, cut) = peer.read_length(19_000_000).unwrap();
    assert!(cut.is_none() && first == bytes[..1_000_000] && rest == bytes[1_000_000..]);
    server.shutdown(Duration::ZERO);
    // While it is away the player waits.
    thread::scope(|scope| {
        let player = scope.spawn(|| {
            ask(
                &bridge,
                "GET",
                target(&url),
                &["Range: bytes=5000000-5999999"],
            )
        });
        let server = start(address);
        let answer = player.join().unwrap();
        assert_eq!((answer.status(), answer.cut), (206, None));
        assert!(answer.content == bytes[5_000_000..6_000_000]);
        drop(server);
    });
}

/// A source whose bytes come only as far as it was told.
struct Held {
    bytes: BytesSource,
    upto: Mutex<u64>,
    moved: Condvar,
    fails: AtomicBool,
    waited: AtomicBool,
}

impl Held {
    fn new(bytes: Vec<u8>, upto: u64) -> Arc<Self> {
        Arc::new(Self {
            bytes: BytesSource::new(bytes),
            upto: Mutex::new(upto),
            moved: Condvar::new(),
            fails: AtomicBool::new(false),
            waited: AtomicBool::new(false),
        })
    }

    fn wait_until_held(&self) {
        let started = Instant::now();
        while !self.waited.load(Ordering::SeqCst) {
            assert!(started.elapsed() < Duration::from_secs(60), "nobody came");
            thread::yield_now();
        }
    }

    fn fail(&self) {
        self.fails.store(true, Ordering::SeqCst);
        *self.upto.lock().unwrap() = u64::MAX;
        self.moved.notify_all();
    }
}

impl ByteSource for Held {
    fn len(&self) -> Option<u64> {
        self.bytes.len()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> std::io::Result<usize> {
        let mut upto = self.upto.lock().unwrap();
        while *upto <= offset {
            self.waited.store(true, Ordering::SeqCst);
            upto = self.moved.wait(upto).unwrap();
        }
        if self.fails.load(Ordering::SeqCst) {
            return Err(std::io::ErrorKind::Other.into());
        }
        let len = (*upto - offset).min(buf.len() as u64) as usize;
        self.bytes.read_at(offset, &mut buf[..len])
    }

    fn entity_tag(&self) -> Option<EntityTag> {
        self.bytes.entity_tag()
    }
}

fn serve_held(held: &Arc<Held>) -> PeerServer {
    let source: Arc<dyn ByteSource> = Arc::clone(held) as _;
    serve(Arc::new(move |_| Some(Arc::clone(&source))))
}

/// A player in the midst of an answer that waits for the peer.
fn waiting_player(bridge: &PeerBridge, url: &BridgeUrl, held: &Held, sent: u64) -> RawPeer {
    let mut peer = RawPeer::connect(bridge.local_addr()).unwrap();
    let host = bridge.local_addr().to_string();
    peer.send(&request("GET", target(url), &host, &[])).unwrap();
    assert_eq!(peer.read_head().unwrap().unwrap().status, 200);
    assert_eq!(peer.read_length(sent).unwrap().0.len() as u64, sent);
    held.wait_until_held();
    peer
}

#[test]
fn a_url_taken_back_cuts_its_answer_and_no_other() {
    let held = Held::new(sample(1_000_000), 10_000);
    let server = serve_held(&held);
    let bridge = PeerBridge::start().unwrap();
    let peer = client(server.local_addr());
    let (url, other) = (
        bridge.url(&peer, "a", "a.mp3").unwrap(),
        bridge
            .url_of(Arc::new(BytesSource::new(vec![1])), "b.mp3")
            .unwrap(),
    );
    // Blocked in the peer, which sends nothing: the cut does not wait for it.
    let mut player = waiting_player(&bridge, &url, &held, 10_000);
    assert_eq!(bridge.revoke(&url), 1);
    assert_eq!(player.read_to_end().unwrap().0, b"");
    // Long before the client would give the silent peer up.
    let started = Instant::now();
    while bridge.stats().server.busy > 0 {
        assert!(started.elapsed() < Duration::from_secs(10), "still waits");
        thread::yield_now();
    }
    assert_eq!(ask(&bridge, "GET", target(&url), &[]).status(), 403);
    assert_eq!(ask(&bridge, "GET", target(&other), &[]).status(), 200);
    assert_eq!(bridge.revoke(&url), 0);
    held.fail();
}

#[test]
fn closing_revokes_everything_and_cuts_what_runs() {
    let held = Held::new(sample(1_000_000), 10_000);
    let server = serve_held(&held);
    let bridge = PeerBridge::start().unwrap();
    let url = bridge
        .url(&client(server.local_addr()), "a", "a.mp3")
        .unwrap();
    let mut player = waiting_player(&bridge, &url, &held, 10_000);
    let address = bridge.local_addr();
    bridge.close();
    assert_eq!(player.read_to_end().unwrap().0, b"");
    assert!(RawPeer::connect(address).is_err());
    held.fail();
}

#[test]
fn a_peer_that_fails_midway_shows() {
    let held = Held::new(sample(1_000_000), 10_000);
    let server = serve_held(&held);
    let mut retry = RetryPolicy::default();
    (retry.pause, retry.attempts) = (Duration::from_millis(1), 3);
    let peer = PeerClient::builder(server.local_addr().to_string(), "secret");
    let peer = peer.retry(retry).build().unwrap();
    let bridge = PeerBridge::start().unwrap();
    let url = bridge.url(&peer, "a", "a.mp3").unwrap();
    let mut player = waiting_player(&bridge, &url, &held, 10_000);
    held.fail();
    let (rest, _) = player.read_to_end().unwrap();
    assert_eq!(rest, b"", "no padding");
    // And before anything was sent, an honest answer.
    let answer = ask(&bridge, "GET", target(&url), &["Range: bytes=500000-"]);
    assert_eq!(answer.status(), 500);
    drop(server);
    assert_eq!(
        ask(&bridge, "GET", target(&url), &["Range: bytes=500000-"]).status(),
        500
    );
    let stats = bridge.stats().server;
    assert_eq!(
        (stats.source_failed, stats.transfers_complete),
        (1, 0),
        "{stats:?}"
    );
}

#[test]
fn a_source_that_changes_cuts_the_answer_and_the_next_is_of_the_new_one() {
    // More than all buffers on the way hold: a player that does not read has not been sent it all.
    const LEN: usize = 64 << 20;
    let version = |byte: u8| -> Arc<dyn ByteSource> {
        let tag = EntityTag::strong([b'0' + byte]).unwrap();
        Arc::new(BytesSource::new(vec![byte; LEN]).with_entity_tag(tag))
    };
    let current = Arc::new(Mutex::new(version(1)));
    let shared = Arc::clone(&current);
    let server = serve(Arc::new(move |_| Some(Arc::clone(&shared.lock().unwrap()))));
    let bridge = PeerBridge::start().unwrap();
    let url = bridge
        .url(&client(server.local_addr()), "a", "a.mp3")
        .unwrap();
    let host = bridge.local_addr().to_string();
    let mut player = RawPeer::connect(bridge.local_addr()).unwrap();
    player
        .send(&request("GET", target(&url), &host, &[]))
        .unwrap();
    let old_tag = player
        .read_head()
        .unwrap()
        .unwrap()
        .field("ETag")
        .unwrap()
        .to_owned();
    *current.lock().unwrap() = version(2);
    // What was asked for before comes still, of the old version; then the connection is cut.
    let (content, _) = player.read_to_end().unwrap();
    assert!(content.len() < LEN && content.iter().all(|byte| *byte == 1));
    let held = format!("If-Range: {old_tag}");
    let answer = ask(&bridge, "GET", target(&url), &["Range: bytes=100-", &held]);
    assert_eq!(answer.status(), 200, "the whole of the new one");
    assert_ne!(answer.field("ETag"), Some(&*old_tag));
    assert!(answer.content == vec![2; LEN]);
}

#[test]
fn a_handle_that_the_peer_does_not_know_is_not_found() {
    let server = serve_one(BytesSource::new(vec![1]));
    let bridge = PeerBridge::start().unwrap();
    let peer = client(server.local_addr());
    let url = bridge.url(&peer, "unknown", "a.mp3").unwrap();
    for method in ["GET", "HEAD"] {
        assert_eq!(ask(&bridge, method, target(&url), &[]).status(), 404);
    }
    assert!(matches!(
        bridge.url(&peer, "unknown", "a"),
        Err(PeerError::NotFound)
    ));
    let stranger = PeerClient::builder(server.local_addr().to_string(), "other");
    let url = bridge
        .url(&stranger.build().unwrap(), "a", "a.mp3")
        .unwrap();
    // Whoever plays can do nothing about the token, and is not asked for one.
    let answer = ask(&bridge, "GET", target(&url), &[]);
    assert_eq!(
        (answer.status(), answer.field("WWW-Authenticate")),
        (500, None)
    );
}

#[test]
fn names_and_media_types_agree() {
    let peer = |content_type: &str| {
        serve_one(BytesSource::new(vec![1, 2, 3]).with_content_type(content_type))
    };
    let bridge = PeerBridge::start().unwrap();
    for (told, name, path, content_type) in [
        ("audio/flac", "x.mp3", "x.mp3", "audio/mpeg"),
        ("audio/flac", "x", "x.flac", "audio/flac"),
        (
            "audio/ogg; codecs=opus",
            "Dr. No",
            "Dr.%20No.ogg",
            "audio/ogg; codecs=opus",
        ),
        (
            "application/octet-stream",
            "x",
            "x",
            "application/octet-stream",
        ),
        ("application/octet-stream", "x.m4a", "x.m4a", "audio/mp4"),
        // A peer's content is never a page of the bridge's own origin.
        ("text/html", "x", "x", "application/octet-stream"),
        (
            "image/svg+xml",
            "x.svg",
            "x.svg",
            "application/octet-stream",
        ),
    ] {
        let server = peer(told);
        let url = bridge.url(&client(server.local_addr()), "a", name).unwrap();
        assert!(
            url.as_str().ends_with(&format!("/{path}")),
            "{}",
            url.as_str()
        );
        let answer = ask(&bridge, "GET", target(&url), &[]);
        assert_eq!(
            answer.field("Content-Type"),
            Some(content_type),
            "{told} {name}"
        );
        assert_eq!(answer.content, [1, 2, 3]);
    }
    // The app's own may be anything.
    let page = BytesSource::new(b"<p>".to_vec()).with_content_type("text/html");
    let url = bridge.url_of(Arc::new(page), "player").unwrap();
    assert_eq!(
        ask(&bridge, "GET", target(&url), &[]).field("Content-Type"),
        Some("text/html")
    );
    let client = client(peer("audio/flac").local_addr());
    for name in ["", ".", &"a".repeat(300)] {
        let error = bridge
            .url_of(Arc::new(BytesSource::new(vec![])), name)
            .unwrap_err();
        assert!(matches!(error, PeerError::InvalidInput(_)), "{error}");
    }
    assert!(matches!(
        bridge.url(&client, "a", ""),
        Err(PeerError::InvalidInput(_))
    ));
}

#[test]
fn what_rests_keeps_its_bytes_until_another_one_rests() {
    let bytes = sample(200_000);
    let resolver = resolver(&bytes);
    let server = serve(resolver);
    let bridge = PeerBridge::start().unwrap();
    let peer = client(server.local_addr());
    let urls = ["1.mp3", "2.mp3"].map(|name| bridge.url(&peer, name, name).unwrap());
    let requests = |url: &BridgeUrl| {
        let before = server.stats().requests;
        assert!(ask(&bridge, "GET", target(url), &[]).content == bytes);
        settled(&bridge);
        server.stats().requests - before
    };
    assert!(requests(&urls[0]) > 0);
    assert_eq!(requests(&urls[0]), 0, "all of it is here");
    assert!(requests(&urls[1]) > 0);
    assert_eq!(requests(&urls[1]), 0);
    assert!(
        requests(&urls[0]) > 0,
        "it was let go when the other one rested"
    );
}

#[test]
fn a_published_peer_is_bridged_too() {
    let bytes = sample(1000);
    let part = |first: usize, last: usize| {
        let mut sent = format!(
            "HTTP/1.1 206 Partial Content\r\nContent-Length: {}\r\n\
             Content-Range: bytes {first}-{last}/1000\r\nConnection: close\r\n\r\n",
            last + 1 - first
        )
        .into_bytes();
        sent.extend_from_slice(&bytes[first..=last]);
        answer(sent)
    };
    let script = Script::play(vec![part(0, 999)]);
    let bridge = PeerBridge::start().unwrap();
    let url = bridge.url(&client(script.base()), "a", "a.mp3").unwrap();
    let answer = ask(&bridge, "GET", target(&url), &["Range: bytes=10-19"]);
    assert_eq!((answer.status(), answer.field("ETag")), (206, None));
    assert_eq!(answer.content, bytes[10..20]);
    assert!(ask(&bridge, "GET", target(&url), &[]).content == bytes);
}
