//! What the app hears is what happened: one end for each start, with the true verdict.

use std::{
    io,
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use cranpose_services::peer::{
    ByteSource, EntityTag, PeerServer, ServerConfig, ServerEvent, SourceResolver, TransferEnd,
};
use peer_net::stream::Stream as _;
use peer_tests::{
    memory::{Faults, pair},
    raw::{Head, RawPeer, find, parse_head},
};

use super::{
    CONTENT_BYTES, Ledger, TOKEN, deserted, eventually, fetch_exact, get, patterned, request,
    resolver, short_deadlines,
};

/// A source that goes wrong in the way its handle says, behind the bytes that are right.
struct Wrong {
    how: String,
    tags: AtomicU64,
}

impl ByteSource for Wrong {
    fn len(&self) -> Option<u64> {
        (self.how != "unknown").then_some(CONTENT_BYTES as u64)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let at_start = self.how.ends_with("at once");
        if at_start || offset >= CONTENT_BYTES as u64 / 2 {
            match self.how.trim_end_matches(" at once") {
                "fails" => return Err(io::Error::other("on purpose")),
                "panics" => panic!("on purpose"),
                "ends" => return Ok(0),
                "lies" => return Ok(buf.len() + 1),
                _ => {}
            }
        }
        let rest = patterned(0, CONTENT_BYTES)
            .get(offset as usize..)
            .unwrap_or_default();
        let len = rest.len().min(buf.len());
        buf[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    fn entity_tag(&self) -> Option<EntityTag> {
        if self.how == "changes" {
            let version = self.tags.fetch_add(1, Ordering::SeqCst);
            return EntityTag::strong(format!("v{version}")).ok();
        }
        None
    }
}

fn wrong() -> SourceResolver {
    Arc::new(|handle| {
        let how = handle.to_owned();
        let tags = AtomicU64::new(0);
        Some(Arc::new(Wrong { how, tags }))
    })
}

fn server(resolver: SourceResolver, deadlines: ServerConfig, ledger: &Arc<Ledger>) -> PeerServer {
    let hook = Arc::clone(ledger);
    PeerServer::builder(TOKEN, resolver)
        .deadlines(deadlines)
        .on_event(move |event| hook.hear(event))
        .listen("127.0.0.1:0")
        .unwrap()
        .start()
        .unwrap()
}

#[test]
fn each_end_is_the_true_one() {
    use TransferEnd::{Complete, SourceFailed};
    for (handle, expected) in [
        ("right", Complete),
        ("unknown", Complete),
        ("fails", SourceFailed),
        ("panics", SourceFailed),
        ("ends", SourceFailed),
        ("lies", SourceFailed),
        ("changes", SourceFailed),
        // Before anything went out, the peer gets a 500; the transfer failed all the same.
        ("fails%20at%20once", SourceFailed),
        ("panics%20at%20once", SourceFailed),
        ("ends%20at%20once", SourceFailed),
        ("lies%20at%20once", SourceFailed),
    ] {
        let ledger = Arc::new(Ledger::default());
        let server = server(wrong(), short_deadlines(), &ledger);
        let response = get(server.local_addr(), TOKEN, handle, "").unwrap();
        let whole = response.cut.is_none() && response.status() == 200;
        assert_eq!(whole, expected == Complete, "{handle}: {:?}", response.head);
        deserted(&server);
        let ends = ledger.ends();
        assert_eq!(ends.len(), 1, "{handle}: {ends:?}");
        assert_eq!(ends[0].0, expected, "{handle}");
        assert!(
            expected != Complete || ends[0].1 == CONTENT_BYTES as u64,
            "{handle}"
        );
        let stats = server.stats();
        assert_eq!(stats.transfers, 1, "{handle}");
        assert_eq!(
            stats.transfers_complete,
            u64::from(expected == Complete),
            "{handle}"
        );
        // Counted where it cost the connection.
        let was_cut = response.cut.is_some();
        assert_eq!(stats.source_failed, u64::from(was_cut), "{handle}");
        assert_eq!(stats.content_bytes, ends[0].1, "{handle}");
    }
}

#[test]
fn peers_that_go_away_or_stop_taking() {
    let ledger = Arc::new(Ledger::default());
    let deadlines = ServerConfig {
        stall_timeout: Duration::from_millis(300),
        ..short_deadlines()
    };
    let server = server(resolver(CONTENT_BYTES), deadlines, &ledger);
    let mut gone = RawPeer::connect(server.local_addr()).unwrap();
    gone.send(&request("any", TOKEN, "")).unwrap();
    gone.read_head().unwrap().unwrap();
    drop(gone);
    deserted(&server);
    let mut stalls = RawPeer::connect(server.local_addr()).unwrap();
    stalls.send(&request("any", TOKEN, "")).unwrap();
    stalls.read_head().unwrap().unwrap();
    deserted(&server);
    fetch_exact(server.local_addr(), 5, 100).unwrap();
    deserted(&server);
    let ends = ledger.ends();
    let ended: Vec<TransferEnd> = ends.iter().map(|row| row.0).collect();
    let expected = [
        TransferEnd::HungUp,
        TransferEnd::Stalled,
        TransferEnd::Complete,
    ];
    assert_eq!(ended, expected);
    let stats = server.stats();
    assert_eq!(
        (stats.hung_up, stats.timed_out, stats.source_failed),
        (1, 1, 0)
    );
    assert_eq!((stats.transfers, stats.transfers_complete), (3, 1));
    drop(stalls);
}

/// What is counted is what was handed to the network, to the byte, also where a block stops in its
/// middle: in plain, in chunks, and behind what stands before a part of several.
#[test]
fn bytes_of_a_block_that_was_cut() {
    for (handle, more) in [
        ("right", ""),
        ("unknown", ""),
        ("right", "Range: bytes=0-9,1000000-1999999\r\n"),
    ] {
        for stalls in [true, false] {
            let context = format!("{handle} {more:?}, stalls: {stalls}");
            let ledger = Arc::new(Ledger::default());
            let deadlines = ServerConfig {
                stall_timeout: Duration::from_millis(if stalls { 50 } else { 30_000 }),
                ..short_deadlines()
            };
            let server = Arc::new(server(wrong(), deadlines, &ledger));
            let (ours, theirs) = pair(1_000, &Faults::none());
            theirs.write_all(&request(handle, TOKEN, more)).unwrap();
            let at = Arc::clone(&server);
            let serving =
                thread::spawn(move || at.serve_stream(Arc::new(ours), Ipv4Addr::LOCALHOST.into()));
            let mut got = vec![0; 54_321];
            let mut len = 0;
            while len < got.len() {
                match theirs.read(&mut got[len..]).unwrap() {
                    // This thread had to wait for so long that it was given up already.
                    0 => break,
                    n => len += n,
                }
            }
            got.truncate(len);
            if stalls {
                eventually("it is given up", || server.stats().timed_out == 1);
            } else {
                assert_eq!(server.revoke("default"), 1);
            }
            serving.join().unwrap();
            got.extend(theirs.read_to_end().unwrap());
            let end = find(&got, b"\r\n\r\n").unwrap();
            let head = parse_head(&got[..end + 2]).unwrap();
            let content = content_bytes(&got[end + 4..], &head);
            let expected = if stalls {
                TransferEnd::Stalled
            } else {
                TransferEnd::Cut
            };
            assert_eq!(ledger.ends(), [(expected, content)], "{context}");
            assert_eq!(server.stats().content_bytes, content, "{context}");
        }
    }
}

/// The bytes of the source in the beginning of an answer's content.
fn content_bytes(mut bytes: &[u8], head: &Head) -> u64 {
    let line = |bytes: &[u8]| find(bytes, b"\r\n").map(|end| end + 2);
    if head.field("Transfer-Encoding").is_some() {
        let mut count = 0;
        while let Some(end) = line(bytes) {
            let size = std::str::from_utf8(&bytes[..end - 2]).unwrap();
            let size = usize::from_str_radix(size, 16).unwrap();
            let rest = &bytes[end..];
            count += size.min(rest.len());
            bytes = rest.get(size + 2..).unwrap_or_default();
        }
        return count as u64;
    }
    if head.field("Content-Range").is_some() || head.status == 200 {
        return bytes.len() as u64;
    }
    // Two parts: the first of ten bytes, the second cut.
    let first = find(bytes, b"\r\n\r\n").unwrap() + 4;
    let second = find(&bytes[first..], b"\r\n\r\n").unwrap() + 4;
    (10 + bytes.len() - first - second) as u64
}

/// A source that counts what is read of it.
struct Counted(AtomicU64);

impl ByteSource for Counted {
    fn len(&self) -> Option<u64> {
        Some(CONTENT_BYTES as u64)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let rest = &patterned(0, CONTENT_BYTES)[offset as usize..];
        let len = rest.len().min(buf.len());
        buf[..len].copy_from_slice(&rest[..len]);
        self.0.fetch_add(len as u64, Ordering::SeqCst);
        Ok(len)
    }
}

/// Nothing is read for who is gone: at most the block that was on its way.
#[test]
fn a_hang_up_ends_the_reading() {
    const BLOCK: u64 = 256 * 1024;
    const PIPE: u64 = 10_000;
    for taken in [1, 100_000, 1_000_000] {
        let source = Arc::new(Counted(AtomicU64::new(0)));
        let gives: Arc<dyn ByteSource> = Arc::<Counted>::clone(&source);
        let given: SourceResolver = Arc::new(move |_| Some(Arc::clone(&gives)));
        let ledger = Arc::new(Ledger::default());
        let server = Arc::new(server(given, short_deadlines(), &ledger));
        let (ours, theirs) = pair(PIPE as usize, &Faults::none());
        theirs.write_all(&request("any", TOKEN, "")).unwrap();
        let at = Arc::clone(&server);
        let serving =
            thread::spawn(move || at.serve_stream(Arc::new(ours), Ipv4Addr::LOCALHOST.into()));
        let mut block = vec![0; taken];
        let mut len = 0;
        while len < taken {
            len += theirs.read(&mut block[len..]).unwrap();
        }
        drop(theirs);
        serving.join().unwrap();
        let read = source.0.load(Ordering::SeqCst);
        let most = taken as u64 + PIPE + BLOCK;
        assert!(read <= most, "{read} bytes were read for {taken}");
        let ends = ledger.ends();
        assert!(matches!(ends[..], [(TransferEnd::HungUp, sent)] if sent <= read));
        assert_eq!(server.stats().hung_up, 1);
    }
}

#[test]
fn answers_without_content_are_no_transfers() {
    let ledger = Arc::new(Ledger::default());
    let server = server(resolver(100), short_deadlines(), &ledger);
    let address = server.local_addr();
    assert_eq!(get(address, "wrong", "any", "").unwrap().status(), 401);
    assert_eq!(
        get(address, TOKEN, "any", "Range: bytes=100-\r\n")
            .unwrap()
            .status(),
        416
    );
    let more = "If-None-Match: \"pattern\"\r\n";
    assert_eq!(get(address, TOKEN, "any", more).unwrap().status(), 304);
    deserted(&server);
    assert_eq!(ledger.ends(), []);
    assert_eq!(ledger.refused.load(Ordering::SeqCst), 1);
    let stats = server.stats();
    assert_eq!(
        (stats.transfers, stats.tokens_refused, stats.accepted),
        (0, 1, 3)
    );
    assert_eq!(stats.requests, 2);
}

#[test]
fn a_hook_that_panics_harms_nobody() {
    let calls = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&calls);
    let server = PeerServer::builder(TOKEN, resolver(1 << 20))
        .on_event(move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
            panic!("on purpose");
        })
        .listen("127.0.0.1:0")
        .unwrap()
        .start()
        .unwrap();
    let address = server.local_addr();
    for n in 0..5 {
        fetch_exact(address, n, 1_000).unwrap();
    }
    assert_eq!(get(address, "wrong", "any", "").unwrap().status(), 401);
    deserted(&server);
    assert_eq!(server.stats().transfers_complete, 5);
    assert_eq!(calls.load(Ordering::SeqCst), 5 * 3 + 1);
}

/// No lock is held while the hook runs: it may call whatever the server offers.
#[test]
fn a_hook_may_call_the_server() {
    use std::sync::{OnceLock, Weak};
    let slot: Arc<OnceLock<Weak<PeerServer>>> = Arc::default();
    let own = Arc::clone(&slot);
    let called = Arc::new(AtomicBool::new(false));
    let calls = Arc::clone(&called);
    let server = PeerServer::builder(TOKEN, resolver(1 << 20))
        .on_event(move |event| {
            let Some(server) = own.get().and_then(Weak::upgrade) else {
                return;
            };
            let _ = (server.stats(), server.status(), server.token_names());
            if let ServerEvent::TransferStarted(transfer) = event {
                assert!(server.stats().transfers_running >= 1);
                server.revoke("nobody");
                server.add_token(
                    transfer.handle,
                    cranpose_services::peer::TokenGrant::new("x").unwrap(),
                );
                calls.store(true, Ordering::SeqCst);
            }
        })
        .listen("127.0.0.1:0")
        .unwrap()
        .start()
        .unwrap();
    let server = Arc::new(server);
    slot.set(Arc::downgrade(&server)).unwrap();
    fetch_exact(server.local_addr(), 0, 1_000).unwrap();
    let refused = get(server.local_addr(), "wrong", "any", "").unwrap();
    assert_eq!(refused.status(), 401, "the hook heard of it, and came back");
    eventually("the hook was through", || called.load(Ordering::SeqCst));
    assert_eq!(server.token_names(), ["default", "any"]);
    deserted(&server);
}
