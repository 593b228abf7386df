//! Every call of a scripted session fails once, in every way it can.

use std::{
    io,
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, Mutex, mpsc},
    thread,
};

use cranpose_services::peer::{
    ByteSource, EntityTag, PeerServer, SourceMetadata, SourceResolver, TransferEnd,
};
use peer_net::stream::Stream;
use peer_tests::{
    memory::{Call, Fault, Faults, MemoryStream, pair},
    raw::{Framing, find, parse_head},
};

use super::{Ledger, PATIENCE, TOKEN, deserted, patterned, request, short_deadlines};

const LEN: u64 = 10_000;
const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// A source whose calls can be struck, and which gives little at a time.
struct Struck {
    faults: Arc<Faults>,
    knows_its_length: bool,
}

impl ByteSource for Struck {
    fn len(&self) -> Option<u64> {
        self.knows_its_length.then_some(LEN)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let is_short = self.faults.strike_app(Call::SourceRead)?;
        let rest = patterned(0, LEN as usize)
            .get(offset as usize..)
            .unwrap_or_default();
        let most = if is_short { 1 } else { 3_000 };
        let len = rest.len().min(buf.len()).min(most);
        buf[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    fn entity_tag(&self) -> Option<EntityTag> {
        EntityTag::strong("v1").ok()
    }

    fn metadata(&self) -> SourceMetadata {
        let mut metadata = SourceMetadata::default();
        // Nothing here can return an error, so what is not a panic is a source without qualities.
        if self.faults.strike_app(Call::Metadata).is_ok() {
            metadata.len = self.len();
            metadata.entity_tag = self.entity_tag();
        }
        metadata
    }
}

/// The faults of the session that runs now: the server is one for all.
type Current = Arc<Mutex<Arc<Faults>>>;

fn server(current: &Current, ledger: &Arc<Ledger>) -> PeerServer {
    let current = Arc::clone(current);

    let resolver: SourceResolver = Arc::new(move |handle| {
        let faults = match handle {
            "calm" => Faults::none(),
            _ => Arc::clone(&current.lock().unwrap()),
        };
        if faults.strike_app(Call::Resolve).is_err() || handle == "none" {
            return None;
        }
        Some(Arc::new(Struck {
            faults,
            knows_its_length: handle != "stream",
        }))
    });
    let hook = Arc::clone(ledger);
    PeerServer::builder(TOKEN, resolver)
        .deadlines(short_deadlines())
        .on_event(move |event| hook.hear(event))
        .start()
        .unwrap()
}

/// Everything a session may hold: ranges, several ranges, HEAD, chunks, errors, a request with
/// content, a wrong token. All is sent at once, so the server's calls come in one order.
fn script() -> Vec<u8> {
    let mut script = request("one", TOKEN, "Range: bytes=10-5009\r\n");
    script.extend(request("one", TOKEN, "Range: bytes=0-9,5000-8999\r\n"));
    script.extend(request("stream", TOKEN, ""));
    script.extend(request("none", TOKEN, ""));
    script.extend(request("one", "wrong", ""));
    let post = format!(
        "POST /track/one HTTP/1.1\r\nHost: peer.test\r\nAuthorization: Bearer {TOKEN}\r\n\
         Content-Length: 20\r\n\r\n01234567890123456789"
    );
    script.extend(post.into_bytes());
    script.extend(request("one", TOKEN, "Connection: close\r\n"));
    // Bytes that stay unread, so that the connection ends in two steps.
    script.extend(b"GET /track/late HTTP/1.1\r\n");
    script
}

/// Runs one connection to its end, on a thread that must come back. Returns what the peer got.
fn run(server: &Arc<PeerServer>, faults: &Arc<Faults>, script: &[u8]) -> Vec<u8> {
    // Room for the whole session: else the number of writes would depend on how fast it is read.
    let (ours, theirs) = pair(64 * 1024, faults);
    let (done, is_done) = mpsc::channel();
    let at = Arc::clone(server);
    let serving = thread::spawn(move || {
        at.serve_stream(Arc::new(ours), PEER);
        let _ = done.send(());
    });
    theirs.set_read_timeout(Some(PATIENCE)).unwrap();
    // A server that was struck early reads no more of it.
    let _ = theirs.write_all(script);
    let got = theirs.read_to_end().expect("the server hangs");
    drop(theirs);
    is_done.recv_timeout(PATIENCE).expect("the driver hangs");
    serving.join().expect("the driver panicked");
    got
}

/// The bytes that differ from session to session are made equal: dates, and the boundary, which
/// stand at the same places in every session.
fn mask(golden: &[u8], bytes: &[u8]) -> Vec<u8> {
    let mut masked = bytes.to_vec();
    let mut hide = |needle: &[u8], from: usize, len: usize| {
        let mut at = 0;
        while let Some(found) = find(&golden[at..], needle) {
            at += found + from;
            for byte in masked.iter_mut().skip(at).take(len) {
                *byte = b'*';
            }
            at += 1;
        }
    };
    hide(b"Date: ", 6, 29);
    let boundary = find(golden, b"boundary=").expect("several ranges") + 9;
    let boundary: Vec<u8> = golden[boundary..]
        .iter()
        .copied()
        .take_while(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(byte))
        .collect();
    assert!(boundary.len() >= 16, "not a boundary: {boundary:?}");
    hide(&boundary, 0, boundary.len());
    masked
}

/// Reads answers as far as they came: each is the golden one, whole or the last in part, or says
/// that the server could not (500), or, where a source lost its qualities, is another honest one.
fn check_answers(got: &[u8], context: &str) {
    let mut rest = got;
    while !rest.is_empty() {
        let Some(end) = find(rest, b"\r\n\r\n") else {
            return;
        };
        let head = parse_head(&rest[..end + 2]).unwrap_or_else(|why| panic!("{context}: {why}"));
        assert!(
            [200, 206, 401, 404, 405, 500].contains(&head.status),
            "{context}: {}",
            head.status
        );
        rest = &rest[end + 4..];
        match head.framing(false).unwrap() {
            Framing::Length(len) => {
                let (content, more) = rest.split_at(rest.len().min(len as usize));
                if let (206, Some(range)) = (head.status, head.field("Content-Range")) {
                    assert_eq!(range, "bytes 10-5009/10000", "{context}");
                    assert_eq!(content, patterned(10, content.len()), "{context}");
                } else if head.status == 200 {
                    assert_eq!(content, patterned(0, content.len()), "{context}");
                }
                rest = more;
            }
            // Chunks are compared where the whole session is.
            _ => match find(rest, b"\r\n0\r\n\r\n") {
                Some(at) => rest = &rest[at + 7..],
                None => return,
            },
        }
    }
}

/// Whether a call that is struck so is simply made again, or goes on with less.
fn is_transparent(call: Call, fault: Fault) -> bool {
    use io::ErrorKind::{Interrupted, WouldBlock};
    match (call, fault) {
        (_, Fault::Short) | (Call::SourceRead, Fault::Error(Interrupted)) => true,
        (Call::Read | Call::Write, Fault::Error(kind)) => matches!(kind, Interrupted | WouldBlock),
        _ => false,
    }
}

#[test]
fn each_call_once() {
    let current: Current = Arc::new(Mutex::new(Faults::none()));
    let ledger = Arc::new(Ledger::default());
    let server = Arc::new(server(&current, &ledger));
    let script = script();
    let golden = run(&server, &Faults::none(), &script);
    check_answers(&golden, "golden");
    assert_eq!(ledger.ends().len(), 4);

    // A connection that lives through it all, with a transfer of its own after every session.
    let (ours, neighbour) = pair(4096, &Faults::none());
    neighbour.set_read_timeout(Some(PATIENCE)).unwrap();
    let at = Arc::clone(&server);
    let serving = thread::spawn(move || at.serve_stream(Arc::new(ours), PEER));

    let mut struck_kinds = Vec::new();
    let mut sessions = 0;
    for fault in [
        Fault::Error(io::ErrorKind::ConnectionReset),
        Fault::Error(io::ErrorKind::Interrupted),
        Fault::Error(io::ErrorKind::WouldBlock),
        Fault::Short,
        Fault::Panic,
    ] {
        for n in 0.. {
            let faults = Faults::at(n, fault);
            *current.lock().unwrap() = Arc::clone(&faults);
            let got = run(&server, &faults, &script);
            let Some(call) = faults.struck() else {
                assert_eq!(mask(&golden, &got), mask(&golden, &golden));
                break;
            };
            let context = format!("call {n}, {call:?}: {fault:?}");
            if !struck_kinds.contains(&call) {
                struck_kinds.push(call);
            }
            if is_transparent(call, fault) {
                // Content in smaller blocks is other chunks, so only the lengths are compared there.
                if call == Call::SourceRead && fault == Fault::Short {
                    check_answers(&got, &context);
                } else {
                    assert!(
                        mask(&golden, &got) == mask(&golden, &golden),
                        "{context}: another session"
                    );
                }
            } else if matches!(call, Call::Resolve | Call::Metadata | Call::SourceRead) {
                check_answers(&got, &context);
            } else {
                let (masked, whole) = (mask(&golden, &got), mask(&golden, &golden));
                assert!(whole.starts_with(&masked), "{context}: not a beginning");
            }
            neighbour_fetches(&neighbour, &context);
            sessions += 1;
            assert!(n < 1_000, "the session has no end");
        }
    }
    assert_eq!(struck_kinds.len(), 8, "{struck_kinds:?}");
    assert!(sessions > 200, "{sessions}");
    drop(neighbour);
    serving.join().unwrap();
    deserted(&server);
    // Each transfer that was heard to start was heard to end.
    let ends = ledger.ends();
    for end in [
        TransferEnd::Complete,
        TransferEnd::HungUp,
        TransferEnd::SourceFailed,
    ] {
        assert!(ends.iter().any(|row| row.0 == end), "no {end:?}");
    }
    assert!(ends.iter().all(|row| row.0 != TransferEnd::Stalled));
}

fn neighbour_fetches(neighbour: &MemoryStream, context: &str) {
    neighbour
        .write_all(&request("calm", TOKEN, "Range: bytes=1-9000\r\n"))
        .unwrap();
    let mut got = Vec::new();
    let mut block = [0; 4096];
    loop {
        let n = neighbour.read(&mut block).unwrap();
        assert!(n > 0, "{context}: the neighbour was cut");
        got.extend_from_slice(&block[..n]);
        if let Some(end) = find(&got, b"\r\n\r\n") {
            if got.len() - end - 4 == 9_000 {
                assert!(
                    got[end + 4..] == *patterned(1, 9_000),
                    "{context}: other bytes"
                );
                return;
            }
        }
    }
}
