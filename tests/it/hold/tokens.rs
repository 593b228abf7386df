//! Tokens that come and go while the server serves, and are never shown.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use cranpose_services::peer::{PeerServer, TokenGrant, TransferEnd, content_length, fetch_range};
use peer_tests::raw::RawPeer;

use super::{
    CONTENT_BYTES, Ledger, Log, TOKEN, alone, deserted, eventually, get, measured, patterned,
    request, resolver,
};

fn server(ledger: &Arc<Ledger>) -> PeerServer {
    let hook = Arc::clone(ledger);
    PeerServer::builder(TOKEN, resolver(CONTENT_BYTES))
        .on_event(move |event| hook.hear(event))
        .listen("127.0.0.1:0")
        .unwrap()
        .start()
        .unwrap()
}

fn status(server: &PeerServer, token: &str, handle: &str) -> u16 {
    let response = get(server.local_addr(), token, handle, "Range: bytes=0-9\r\n");
    response.unwrap().status()
}

fn midway(server: &PeerServer, token: &str) -> RawPeer {
    let mut peer = RawPeer::connect(server.local_addr()).unwrap();
    peer.send(&request("any", token, "")).unwrap();
    assert_eq!(peer.read_head().unwrap().unwrap().status, 200);
    peer
}

#[test]
fn rotation_with_overlap() {
    let ledger = Arc::new(Ledger::default());
    let server = server(&ledger);
    server.add_token("phone", TokenGrant::new("old").unwrap());
    assert_eq!(status(&server, "old", "any"), 206);
    assert_eq!(status(&server, "new", "any"), 401);
    server.add_token("phone", TokenGrant::new("new").unwrap());
    assert_eq!(status(&server, "old", "any"), 206);
    assert_eq!(status(&server, "new", "any"), 206);
    deserted(&server);
    let mut with_old = midway(&server, "old");
    let mut with_new = midway(&server, "new");
    assert_eq!(server.remove_older_tokens("phone"), 1);
    assert_eq!(status(&server, "old", "any"), 401);
    assert_eq!(status(&server, "new", "any"), 206);
    let (_, cut) = with_old.read_length(CONTENT_BYTES as u64).unwrap();
    assert!(cut.is_some(), "the old token's transfer went on");
    let (content, cut) = with_new.read_length(CONTENT_BYTES as u64).unwrap();
    assert!(cut.is_none() && content == patterned(0, CONTENT_BYTES));
    assert_eq!(server.token_names(), ["default", "phone"]);
}

#[test]
fn revocation_cuts_running_transfers_and_no_others() {
    let ledger = Arc::new(Ledger::default());
    let server = server(&ledger);
    server.add_token("phone", TokenGrant::new("p").unwrap());
    let mut revoked: Vec<RawPeer> = (0..10).map(|_| midway(&server, "p")).collect();
    let mut other = midway(&server, TOKEN);
    // One that was served and waits is the device's as well.
    let mut idle = RawPeer::connect(server.local_addr()).unwrap();
    idle.send(&request("any", "p", "Range: bytes=0-0\r\n"))
        .unwrap();
    idle.read_response(false).unwrap().unwrap();
    let began = Instant::now();
    assert_eq!(server.revoke("phone"), 11);
    eventually("all are cut", || server.stats().transfers_running == 1);
    measured(&format!(
        "10 transfers of a revoked token ended in {:?}",
        began.elapsed()
    ));
    for peer in &mut revoked {
        let (content, cut) = peer.read_length(CONTENT_BYTES as u64).unwrap();
        assert!(cut.is_some() && content.len() < CONTENT_BYTES);
    }
    assert!(
        idle.read_response(false)
            .is_ok_and(|response| response.is_none())
    );
    assert_eq!(status(&server, "p", "any"), 401);
    assert_eq!(server.revoke("phone"), 0);
    assert_eq!(server.token_names(), ["default"]);
    let (content, cut) = other.read_length(CONTENT_BYTES as u64).unwrap();
    assert!(cut.is_none() && content == patterned(0, CONTENT_BYTES));
    drop(other);
    deserted(&server);
    let ends = ledger.ends();
    let count = |end| ends.iter().filter(|row| row.0 == end).count();
    assert_eq!(
        (count(TransferEnd::Cut), count(TransferEnd::Complete)),
        (10, 2),
        "{ends:?}"
    );
}

#[test]
fn the_first_token_can_be_taken_back_too() {
    let server = server(&Arc::default());
    assert_eq!(status(&server, TOKEN, "any"), 206);
    server.revoke(&server.token_names()[0]);
    assert_eq!(status(&server, TOKEN, "any"), 401);
    assert_eq!(server.token_names(), [""; 0]);
}

#[test]
fn expiry_ends_what_is_asked_for_later() {
    let server = server(&Arc::default());
    let lives = Duration::from_secs(1);
    let end = Instant::now() + lives;
    server.add_token("guest", TokenGrant::new("g").unwrap().expires_at(end));
    let mut kept = RawPeer::connect(server.local_addr()).unwrap();
    kept.send(&request("any", "g", "Range: bytes=0-9\r\n"))
        .unwrap();
    let first = kept.read_response(false).unwrap().unwrap().status();
    let mut running = (first == 206).then(|| midway(&server, "g"));
    assert!(first == 206 || Instant::now() >= end, "{first}");
    eventually("it has expired", || Instant::now() >= end);
    assert_eq!(status(&server, "g", "any"), 401);
    // Also where the connection was opened before.
    kept.send(&request("any", "g", "Range: bytes=0-9\r\n"))
        .unwrap();
    assert_eq!(kept.read_response(false).unwrap().unwrap().status(), 401);
    if let Some(running) = &mut running {
        let (content, cut) = running.read_length(CONTENT_BYTES as u64).unwrap();
        assert!(
            cut.is_none() && content == patterned(0, CONTENT_BYTES),
            "as documented"
        );
    }
    assert_eq!(status(&server, TOKEN, "any"), 206);
}

#[test]
fn limited_to_some_handles() {
    let asked = Arc::new(std::sync::Mutex::new(Vec::new()));
    let asks = Arc::clone(&asked);
    let any = resolver(100);
    let server = PeerServer::start(
        "127.0.0.1:0",
        TOKEN,
        Arc::new(move |handle| {
            asks.lock().unwrap().push(handle.to_owned());
            any(handle)
        }),
    )
    .unwrap();
    let guest = TokenGrant::new("g").unwrap();
    server.add_token("guest", guest.for_handles(|handle| handle == "shown"));
    assert_eq!(status(&server, "g", "shown"), 206);
    assert_eq!(status(&server, "g", "hidden"), 404);
    // Another spelling of the same path is the same handle.
    assert_eq!(status(&server, "g", "%73hown"), 206);
    assert_eq!(status(&server, "g", "%68idden"), 404);
    assert_eq!(*asked.lock().unwrap(), ["shown", "shown"]);
    assert_eq!(status(&server, TOKEN, "hidden"), 206);
}

/// A limit is the app's code, and may panic: no answer but 500, and no harm to anybody else.
#[test]
fn a_limit_that_panics() {
    let server = server(&Arc::default());
    let grant = TokenGrant::new("g").unwrap();
    server.add_token("guest", grant.for_handles(|_| panic!("on purpose")));
    let mut peer = RawPeer::connect(server.local_addr()).unwrap();
    for _ in 0..3 {
        peer.send(&request("any", "g", "")).unwrap();
        let response = peer.read_response(false).unwrap().unwrap();
        assert_eq!(response.status(), 500);
    }
    assert_eq!(status(&server, TOKEN, "any"), 206);
    drop(peer);
    deserted(&server);
}

/// The same on a stream that was handed in: its thread is the app's, and gets no panic.
#[test]
fn a_limit_that_panics_on_a_stream() {
    use peer_tests::memory::{Faults, pair};
    let server = PeerServer::builder(TOKEN, resolver(100)).start().unwrap();
    let grant = TokenGrant::new("g").unwrap();
    server.add_token("guest", grant.for_handles(|_| panic!("on purpose")));
    let (ours, theirs) = pair(4096, &Faults::none());
    theirs
        .write_all(&request("any", "g", "Connection: close\r\n"))
        .unwrap();
    server.serve_stream(Arc::new(ours), std::net::Ipv4Addr::LOCALHOST.into());
    let answer = theirs.read_to_end().unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 500 "));
    deserted(&server);
}

const SECRETS: [&str; 4] = [
    "sesame-first",
    "sesame-named",
    "sesame-wrong",
    "sesame-other",
];

/// Looks for the secrets in everything that is said: the log at its most talkative, what `Debug`
/// shows, errors, and what is sent back.
#[test]
fn never_shown() {
    if !alone("hold::tokens::never_shown") {
        return;
    }
    let log = Log::install();
    let [first, named, wrong, other] = SECRETS;
    let mut said = Vec::new();
    let builder = PeerServer::builder(first, resolver(10_000))
        .listen("127.0.0.1:0")
        .unwrap();
    said.push(format!("{builder:?}"));
    let server = builder.start().unwrap();
    let grant = TokenGrant::new(named).unwrap().for_handles(|_| true);
    said.push(format!("{grant:?} {:#?}", grant.clone()));
    server.add_token("tv", grant);
    said.push(format!(
        "{server:?} {:?} {:?}",
        server.stats(),
        server.token_names()
    ));
    let address = server.local_addr();
    for token in [first, named, wrong] {
        for (handle, more) in [
            ("any", "Range: bytes=0-99\r\n"),
            ("any", "Range: bytes=99999-\r\n"),
            ("%00", ""),
            ("any", "Expect: wonders\r\n"),
            ("any", "Bad Field: x\r\n"),
            ("any", "Transfer-Encoding: gzip\r\n"),
            (other, ""),
        ] {
            if let Ok(mut peer) = RawPeer::connect(address) {
                let _ = peer.send(&request(handle, token, more));
                let _ = peer.half_close();
                if let Ok((bytes, _)) = peer.read_to_end() {
                    said.push(String::from_utf8_lossy(&bytes).into_owned());
                }
            }
        }
        let base = address.to_string();
        said.push(format!(
            "{:?}",
            fetch_range(&base, token, "any", 0, Some(3))
        ));
        for result in [
            content_length(&base, token, "none"),
            content_length("[::1]:1", token, "x"),
        ] {
            if let Err(error) = result {
                said.push(format!("{error} {error:?}"));
            }
        }
    }
    for bad in ["", "sesame\nfirst", " sesame-first"] {
        said.push(format!("{:?}", TokenGrant::new(bad).err()));
        said.push(format!(
            "{:?}",
            PeerServer::start("127.0.0.1:0", bad, resolver(1)).err()
        ));
    }
    server.revoke("tv");
    drop(server);
    let lines = log.lines();
    assert!(lines.len() > 20, "nothing was logged: {lines:?}");
    said.extend(lines.into_iter().map(|line| line.1));
    for text in said {
        assert!(!text.contains("sesame"), "{text}");
    }
}
