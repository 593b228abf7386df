//! Sources that fail, lie, block or panic: before the head is out, 500; after it, content cut
//! short so that the peer can see it. Never padding, never a further answer behind it, and nobody
//! else notices.

use super::*;

use std::io::ErrorKind;
use std::panic::panic_any;
use std::sync::Condvar;

/// What a faulty source says in its errors and panics; no peer may read it.
const PRIVATE: &str = "needle in /home/private";

type ReadAt = Box<dyn Fn(u64, &mut [u8]) -> io::Result<usize> + Send + Sync>;

/// A source made of closures.
struct Scripted {
    len: Box<dyn Fn() -> Option<u64> + Send + Sync>,
    read_at: ReadAt,
}

impl ByteSource for Scripted {
    fn len(&self) -> Option<u64> {
        (self.len)()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        (self.read_at)(offset, buf)
    }
}

fn scripted(
    len: Option<u64>,
    read_at: impl Fn(u64, &mut [u8]) -> io::Result<usize> + Send + Sync + 'static,
) -> Arc<dyn ByteSource> {
    Arc::new(Scripted {
        len: Box::new(move || len),
        read_at: Box::new(read_at),
    })
}

/// Fills `buf` with the pattern, up to position `end`.
fn fill(offset: u64, buf: &mut [u8], end: u64) -> usize {
    let n = (end.saturating_sub(offset) as usize).min(buf.len());
    fill_pattern(offset, &mut buf[..n]);
    n
}

/// How a source goes wrong at a position.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Error,
    Ends,
    Panics,
    PanicsWithoutText,
    /// `read_at` says that it wrote one byte more than there was room for.
    Overflows,
    /// The same with the largest number there is.
    OverflowsFar,
}

const FAULTS: [Fault; 6] = [
    Fault::Error,
    Fault::Ends,
    Fault::Panics,
    Fault::PanicsWithoutText,
    Fault::Overflows,
    Fault::OverflowsFar,
];

/// A source that is right up to position `at` and goes wrong there.
fn faulty(len: Option<u64>, at: u64, fault: Fault) -> Arc<dyn ByteSource> {
    scripted(len, move |offset, buf| {
        let n = fill(offset, buf, at);
        if n > 0 {
            return Ok(n);
        }
        match fault {
            Fault::Error => Err(io::Error::other(PRIVATE)),
            Fault::Ends => Ok(0),
            Fault::Panics => panic!("{PRIVATE}"),
            Fault::PanicsWithoutText => panic_any(7_u8),
            Fault::Overflows => Ok(buf.len() + 1),
            Fault::OverflowsFar => Ok(usize::MAX),
        }
    })
}

fn serve(more: Vec<(String, Arc<dyn ByteSource>)>) -> PeerServer {
    let mut map = sources();
    for (handle, source) in more {
        assert!(
            map.insert(handle.clone(), source).is_none(),
            "{handle} twice"
        );
    }
    start_with(map)
}

/// What came for a request with the probe right behind it.
#[derive(Debug)]
struct Outcome {
    response: Option<Response>,
    /// Whether the request behind it was answered, too.
    went_on: bool,
}

/// Sends `bytes` with the probe behind them.
fn exchange(server: &PeerServer, bytes: &[u8]) -> Outcome {
    let mut peer = RawPeer::connect(server.local_addr()).unwrap();
    peer.send(&joined(&[bytes, &probe_request()])).unwrap();
    let to_head = bytes.starts_with(b"HEAD");
    let response = match peer.read_response(to_head) {
        Ok(response) => response,
        Err(ReadError::Ended(_)) => None,
        Err(wrong) => panic!("{wrong} for {}", show(bytes)),
    };
    let mut went_on = false;
    if let Some(first) = &response {
        let text = brief(first);
        assert!(
            !text.contains("needle"),
            "the source's own words are shown: {text}"
        );
        if first.cut.is_none() && first.framing != Framing::UntilClose {
            house_rules(first, to_head).unwrap_or_else(|e| panic!("{e} for {}", show(bytes)));
            match peer.read_response(false) {
                Ok(Some(second)) => {
                    assert_eq!(second.content, PROBE, "behind {text}");
                    went_on = true;
                }
                Ok(None) | Err(ReadError::Ended(_)) => {
                    assert!(
                        first.head.closes(),
                        "ended without Connection: close: {text}"
                    );
                }
                Err(wrong) => panic!("{wrong} behind {text}"),
            }
        }
    }
    Outcome { response, went_on }
}

/// The server answers others as if nothing had been.
fn assert_serves(server: &PeerServer) {
    let outcome = exchange(server, &get("letters", &[]));
    letters().check(&outcome.response.unwrap()).unwrap();
    assert!(outcome.went_on);
}

/// Checks one answer of a source that goes wrong after `good` bytes of the content asked for,
/// which should have begun with `content`.
fn assert_loss_is_seen(name: &str, outcome: &Outcome, status: u16, content: &[u8], good: usize) {
    let response = outcome
        .response
        .as_ref()
        .unwrap_or_else(|| panic!("{name}: no answer"));
    if response.status() == 500 {
        return;
    }
    assert_eq!(response.status(), status, "{name}");
    assert!(
        good > 0,
        "{name}: nothing could be read, and the head went out before that was known"
    );
    assert!(response.cut.is_some(), "{name}: the loss cannot be seen");
    assert!(!outcome.went_on, "{name}: a further answer");
    let got = &response.content;
    assert!(got.len() <= good, "{name}: {} bytes of {good}", got.len());
    assert!(
        *got == content[..got.len()],
        "{name}: other bytes than the source's"
    );
}

const LEN: u64 = 700_001;
const POSITIONS: [u64; 9] = [0, 1, 100, 4096, 65_535, 65_536, 262_144, 524_289, LEN - 1];

#[test]
fn of_known_length_at_every_stage() {
    let mut list = Vec::new();
    for fault in FAULTS {
        for at in POSITIONS {
            list.push((format!("{fault:?}-{at}"), faulty(Some(LEN), at, fault)));
        }
    }
    let server = serve(list);
    let content = patterned(0, LEN as usize);
    for fault in FAULTS {
        for at in POSITIONS {
            let handle = format!("{fault:?}-{at}");
            let name = format!("{handle} whole");
            let outcome = exchange(&server, &get(&handle, &[]));
            assert_loss_is_seen(&name, &outcome, 200, &content, at as usize);
            let name = format!("{handle} from 100");
            let outcome = exchange(&server, &get(&handle, &["Range: bytes=100-"]));
            assert_loss_is_seen(
                &name,
                &outcome,
                206,
                &content[100..],
                at.saturating_sub(100) as usize,
            );
            // What lies before the fault is not touched by it.
            if at > 100 {
                let outcome = exchange(&server, &get(&handle, &["Range: bytes=50-99"]));
                assert_eq!(
                    outcome.response.unwrap().content,
                    content[50..100],
                    "{handle} before"
                );
                assert!(outcome.went_on, "{handle} before");
            }
            // A HEAD reads no content.
            let outcome = exchange(&server, &request("HEAD", &handle, &[]));
            assert_eq!(outcome.response.unwrap().status(), 200, "HEAD of {handle}");
        }
        assert_serves(&server);
    }
}

#[test]
fn of_known_length_to_other_peers() {
    let server = serve(vec![
        ("early".to_owned(), faulty(Some(LEN), 300_000, Fault::Error)),
        ("at once".to_owned(), faulty(Some(LEN), 0, Fault::Error)),
    ]);
    let content = patterned(0, LEN as usize);
    for (line, fields) in [
        ("GET /track/HANDLE HTTP/1.1", &["Connection: close"][..]),
        ("GET /track/HANDLE HTTP/1.0", &[]),
        ("GET /track/HANDLE HTTP/1.0", &["Connection: keep-alive"]),
    ] {
        for (handle, good) in [("early", 300_000), ("at%20once", 0)] {
            let line = line.replace("HANDLE", handle);
            let mut lines = vec![line.as_str(), HOST, AUTH];
            lines.extend_from_slice(fields);
            let outcome = exchange(&server, &head(&lines));
            assert_loss_is_seen(&format!("{line} {fields:?}"), &outcome, 200, &content, good);
        }
    }
    assert_serves(&server);
}

#[test]
fn of_unknown_length_at_every_stage() {
    // An end is an end here, so only the other faults are faults.
    let faults = FAULTS.iter().filter(|fault| !matches!(fault, Fault::Ends));
    let mut list = Vec::new();
    for fault in faults.clone() {
        for at in POSITIONS {
            list.push((format!("{fault:?}-{at}"), faulty(None, at, *fault)));
        }
    }
    let server = serve(list);
    let content = patterned(0, LEN as usize);
    for fault in faults {
        for at in POSITIONS {
            let handle = format!("{fault:?}-{at}");
            // Without the last chunk, the loss is plain to see.
            let outcome = exchange(&server, &get(&handle, &[]));
            let name = format!("{handle} in chunks");
            assert_loss_is_seen(&name, &outcome, 200, &content, at as usize);
            // Close-delimited: nothing but the bytes there are.
            let outcome = exchange(&server, &get(&handle, &["Connection: close"]));
            let response = outcome
                .response
                .unwrap_or_else(|| panic!("{handle}: no answer"));
            if at == 0 {
                assert_eq!(response.status(), 500, "{handle}, close");
            }
            if response.status() != 500 {
                assert!(response.content.len() as u64 <= at, "{handle}, close");
                assert!(
                    response.content == content[..response.content.len()],
                    "{handle}, close"
                );
            }
        }
        assert_serves(&server);
    }
}

#[test]
fn in_several_ranges() {
    // The fault lies in the second part: the first may come whole, no boundary follows it.
    let server = serve(vec![
        (
            "second".to_owned(),
            faulty(Some(LEN), 400_000, Fault::Error),
        ),
        (
            "panics".to_owned(),
            faulty(Some(LEN), 400_000, Fault::Panics),
        ),
        ("first".to_owned(), faulty(Some(LEN), 0, Fault::Error)),
    ]);
    for handle in ["second", "panics"] {
        let outcome = exchange(
            &server,
            &get(
                handle,
                &["Range: bytes=0-299999,399990-500000,600000-600001"],
            ),
        );
        let response = outcome.response.unwrap();
        if response.status() != 500 {
            assert_eq!(response.status(), 206, "{handle}");
            assert!(response.cut.is_some(), "{handle}: the loss cannot be seen");
            assert!(!outcome.went_on, "{handle}");
            // No byte past the fault, and no boundary that would close the part.
            assert!(response.content.len() < 300_000 + 10 + 2048, "{handle}");
        }
    }
    let outcome = exchange(&server, &get("first", &["Range: bytes=0-9,20-29"]));
    let response = outcome.response.unwrap();
    assert!(
        response.status() == 500 || response.cut.is_some(),
        "{}",
        brief(&response)
    );
    assert_serves(&server);
}

#[test]
fn that_have_more_or_less_than_they_say() {
    let long = scripted(Some(1000), |offset, buf| Ok(fill(offset, buf, u64::MAX)));
    let short = scripted(Some(1000), |offset, buf| Ok(fill(offset, buf, 999)));
    let none = scripted(Some(1000), |_, _| Ok(0));
    let endless = scripted(Some(u64::MAX), |_, _| Ok(0));
    let some = scripted(Some(0), |offset, buf| Ok(fill(offset, buf, 10)));
    let server = serve(
        [
            ("long", long),
            ("short", short),
            ("none", none),
            ("endless", endless),
            ("some", some),
        ]
        .map(|(handle, source)| (handle.to_owned(), source))
        .to_vec(),
    );
    let content = patterned(0, 1000);
    // Never more than was declared.
    let outcome = exchange(&server, &get("long", &[]));
    assert_eq!(outcome.response.unwrap().content, content);
    assert!(outcome.went_on);
    let outcome = exchange(&server, &get("long", &["Range: bytes=990-"]));
    assert_eq!(outcome.response.unwrap().content, content[990..]);
    assert!(outcome.went_on);
    let outcome = exchange(&server, &get("some", &[]));
    assert_eq!(outcome.response.unwrap().content, b"");
    assert!(outcome.went_on);
    // Never less without a trace.
    assert_loss_is_seen(
        "short",
        &exchange(&server, &get("short", &[])),
        200,
        &content,
        999,
    );
    let outcome = exchange(&server, &get("short", &["Range: bytes=-1"]));
    assert_loss_is_seen("short at the end", &outcome, 206, &content, 0);
    assert_loss_is_seen(
        "none",
        &exchange(&server, &get("none", &[])),
        200,
        &content,
        0,
    );
    assert_loss_is_seen(
        "endless",
        &exchange(&server, &get("endless", &[])),
        200,
        &content,
        0,
    );
    assert_serves(&server);
}

#[test]
fn that_give_little_at_a_time() {
    let dribble = scripted(Some(5000), |offset, buf| {
        let n = buf.len().min(1 + (offset % 7) as usize);
        Ok(fill(offset, &mut buf[..n], 5000))
    });
    // Positional reads may be interrupted like any other.
    let calls = AtomicUsize::new(0);
    let interrupted = scripted(Some(5000), move |offset, buf| {
        if calls.fetch_add(1, Ordering::Relaxed) % 2 == 0 {
            return Err(ErrorKind::Interrupted.into());
        }
        let n = buf.len().min(1000);
        Ok(fill(offset, &mut buf[..n], 5000))
    });
    let server = serve(vec![
        ("dribble".to_owned(), dribble),
        ("interrupted".to_owned(), interrupted),
    ]);
    let content = patterned(0, 5000);
    for handle in ["dribble", "interrupted"] {
        let outcome = exchange(&server, &get(handle, &[]));
        ok(&content)
            .check(&outcome.response.unwrap())
            .unwrap_or_else(|e| panic!("{handle}: {e}"));
        assert!(outcome.went_on, "{handle}");
        let outcome = exchange(&server, &get(handle, &["Range: bytes=4000-"]));
        assert_eq!(
            outcome.response.unwrap().content,
            content[4000..],
            "{handle}"
        );
        let outcome = exchange(&server, &get(handle, &["Range: bytes=0-9,20-2999"]));
        answer(206)
            .parts(&content, &[(0, 9), (20, 2999)])
            .check(&outcome.response.unwrap())
            .unwrap();
    }
}

#[test]
fn whose_length_changes_as_they_are_asked() {
    // Each answer must agree with itself; which of the lengths it took is not the peer's concern.
    for step in [1_i64, -1, 1000, -1000] {
        let length = Mutex::new(500_000_i64);
        let source: Arc<dyn ByteSource> = Arc::new(Scripted {
            len: Box::new(move || {
                let mut length = length.lock().unwrap();
                *length += step;
                u64::try_from(*length).ok()
            }),
            read_at: Box::new(|offset, buf| Ok(fill(offset, buf, u64::MAX))),
        });
        let server = serve(vec![("changing".to_owned(), source)]);
        for fields in [
            &[][..],
            &["Range: bytes=10-"],
            &["Range: bytes=-10"],
            &["Range: bytes=0-9,20-"],
            &["Range: bytes=9999999-"],
        ] {
            let outcome = exchange(&server, &get("changing", fields));
            let response = outcome.response.unwrap();
            assert_eq!(response.cut, None, "{fields:?} by {step}");
            assert!(outcome.went_on, "{fields:?} by {step}");
            if let Some((first, _, _)) = response
                .field("Content-Range")
                .and_then(|r| parse_content_range(r).ok())
            {
                assert!(response.content == patterned(first, response.content.len()));
            }
        }
    }
    // Known at one moment, unknown at the next.
    let calls = AtomicUsize::new(0);
    let source: Arc<dyn ByteSource> = Arc::new(Scripted {
        len: Box::new(move || (calls.fetch_add(1, Ordering::Relaxed) % 2 == 0).then_some(100)),
        read_at: Box::new(|offset, buf| Ok(fill(offset, buf, 100))),
    });
    let server = serve(vec![("flickering".to_owned(), source)]);
    for _ in 0..4 {
        let outcome = exchange(&server, &get("flickering", &[]));
        ok(&patterned(0, 100))
            .check(&outcome.response.unwrap())
            .unwrap();
    }
}

/// A source whose entity-tag changes once its second block is read: it was replaced meanwhile.
struct Replaced(AtomicUsize);

impl ByteSource for Replaced {
    fn len(&self) -> Option<u64> {
        Some(LEN)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.0.fetch_add(1, Ordering::SeqCst);
        let n = buf.len().min(100_000);
        fill_pattern(offset, &mut buf[..n]);
        Ok(n)
    }

    fn entity_tag(&self) -> Option<EntityTag> {
        let tag = if self.0.load(Ordering::SeqCst) < 2 {
            "before"
        } else {
            "after"
        };
        EntityTag::strong(tag).ok()
    }
}

#[test]
fn that_are_replaced_while_they_are_sent() {
    // RFC 9110 §8.8.1: a strong validator names one version, byte for byte; an answer that bears
    // it and mixes two must not look whole.
    let server = serve(vec![(
        "replaced".to_owned(),
        Arc::new(Replaced(AtomicUsize::new(0))),
    )]);
    let response = exchange(&server, &get("replaced", &[])).response.unwrap();
    assert_eq!(response.field("ETag"), Some("\"before\""));
    assert!(response.cut.is_some(), "two versions in one answer");
    // From then on it is another representation, whole again.
    let outcome = exchange(&server, &get("replaced", &[]));
    let response = outcome.response.unwrap();
    assert_eq!(response.field("ETag"), Some("\"after\""));
    assert_eq!((response.content.len() as u64, response.cut), (LEN, None));
    assert!(outcome.went_on);
}

/// A source that is right but for one method.
struct PanicsIn(&'static str);

impl PanicsIn {
    fn enter(&self, method: &str) {
        assert!(self.0 != method, "{PRIVATE}");
    }
}

impl ByteSource for PanicsIn {
    fn len(&self) -> Option<u64> {
        self.enter("len");
        Some(LETTERS.len() as u64)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.enter("read_at");
        Bare(LETTERS).read_at(offset, buf)
    }

    fn is_empty(&self) -> bool {
        // A provided method can be overridden with nonsense.
        self.enter("is_empty");
        true
    }

    fn content_type(&self) -> Option<&str> {
        self.enter("content_type");
        None
    }

    fn entity_tag(&self) -> Option<EntityTag> {
        self.enter("entity_tag");
        None
    }

    fn last_modified(&self) -> Option<SystemTime> {
        self.enter("last_modified");
        None
    }
}

impl Drop for PanicsIn {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.enter("drop");
        }
    }
}

#[test]
fn that_panic_in_any_method() {
    let resolver: SourceResolver = Arc::new(|handle: &str| match handle {
        "letters" => sources().get("letters").cloned(),
        "probe" => sources().get("probe").cloned(),
        "resolver" => panic!("{PRIVATE}"),
        "resolver without text" => panic_any(7_u8),
        method => {
            let methods = [
                "len",
                "read_at",
                "is_empty",
                "content_type",
                "entity_tag",
                "last_modified",
                "drop",
            ];
            let method = methods.into_iter().find(|m| *m == method)?;
            Some(Arc::new(PanicsIn(method)))
        }
    });
    let server = PeerServer::start("127.0.0.1:0", TOKEN, resolver).unwrap();
    for handle in [
        "len",
        "read_at",
        "content_type",
        "entity_tag",
        "last_modified",
        "resolver",
        "resolver%20without%20text",
    ] {
        for fields in [&[][..], &["Range: bytes=1-2"], &["Connection: close"]] {
            let outcome = exchange(&server, &get(handle, fields));
            let response = outcome
                .response
                .unwrap_or_else(|| panic!("{handle}: no answer"));
            // A method that is not needed for this answer need not be asked.
            let harmless = matches!(handle, "content_type" | "entity_tag" | "last_modified");
            assert!(
                response.status() == 500 || (harmless && response.status() < 300),
                "{handle} {fields:?}: {}",
                brief(&response)
            );
        }
        assert_serves(&server);
    }
    let outcome = exchange(&server, &get("is_empty", &[]));
    letters().check(&outcome.response.unwrap()).unwrap();
    // And a server that saw all this many times goes on.
    for _ in 0..50 {
        exchange(&server, &get("read_at", &[]));
        exchange(&server, &get("resolver", &[]));
    }
    assert_serves(&server);
}

#[test]
fn that_panic_when_they_are_let_go() {
    let resolver: SourceResolver = Arc::new(|handle: &str| match handle {
        "drop" => Some(Arc::new(PanicsIn("drop"))),
        handle => sources().get(handle).cloned(),
    });
    let server = PeerServer::start("127.0.0.1:0", TOKEN, resolver).unwrap();
    for _ in 0..30 {
        let mut peer = RawPeer::connect(server.local_addr()).unwrap();
        peer.send(&joined(&[&get("drop", &[]), &probe_request()]))
            .unwrap();
        let response = peer.read_response(false).unwrap().unwrap();
        letters().check(&response).unwrap();
        // Answered, or cut off: never left hanging.
        match peer.read_response(false) {
            Ok(Some(second)) => assert_eq!(second.content, PROBE),
            Ok(None) | Err(ReadError::Ended(_)) => {}
            Err(wrong) => panic!("behind the answer: {wrong}"),
        }
    }
    assert_serves(&server);
}

#[test]
fn that_lie_about_being_empty() {
    let server = serve(vec![("full".to_owned(), Arc::new(PanicsIn("nothing")))]);
    let outcome = exchange(&server, &get("full", &["Range: bytes=1-2"]));
    part(1, 2).check(&outcome.response.unwrap()).unwrap();
}

/// A gate that a source waits at.
#[derive(Default)]
struct Gate {
    state: Mutex<(usize, bool)>,
    changed: Condvar,
}

impl Gate {
    /// Says that somebody is here, and waits until the gate opens.
    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.0 += 1;
        self.changed.notify_all();
        while !state.1 {
            state = self.changed.wait(state).unwrap();
        }
    }

    /// Waits until `n` have come.
    fn wait_for(&self, n: usize) {
        let mut state = self.state.lock().unwrap();
        while state.0 < n {
            let (next, timeout) = self
                .changed
                .wait_timeout(state, Duration::from_secs(10))
                .unwrap();
            state = next;
            assert!(!timeout.timed_out(), "{} of {n} came", state.0);
        }
    }

    fn open(&self) {
        self.state.lock().unwrap().1 = true;
        self.changed.notify_all();
    }
}

/// Opens the gate even where a test fails, so that no thread waits for ever.
struct OpensOnDrop(Arc<Gate>);

impl Drop for OpensOnDrop {
    fn drop(&mut self) {
        self.0.open();
    }
}

#[test]
fn that_block_keep_only_their_own_peer_waiting() {
    let gate = Arc::new(Gate::default());
    let (read_gate, len_gate, resolve_gate) = (gate.clone(), gate.clone(), gate.clone());
    let mut map = sources();
    map.insert(
        "read".to_owned(),
        scripted(Some(26), move |offset, buf| {
            read_gate.pass();
            Bare(LETTERS).read_at(offset, buf)
        }),
    );
    map.insert(
        "len".to_owned(),
        Arc::new(Scripted {
            len: Box::new(move || {
                len_gate.pass();
                Some(26)
            }),
            read_at: Box::new(|offset, buf| Bare(LETTERS).read_at(offset, buf)),
        }),
    );
    let resolver: SourceResolver = Arc::new(move |handle: &str| {
        if handle == "resolve" {
            resolve_gate.pass();
            return map.get("letters").cloned();
        }
        map.get(handle).cloned()
    });
    let server = PeerServer::start("127.0.0.1:0", TOKEN, resolver).unwrap();
    let opens = OpensOnDrop(gate.clone());
    let mut waiting = Vec::new();
    for handle in ["read", "len", "resolve", "read"] {
        let mut peer = RawPeer::connect(server.local_addr()).unwrap();
        peer.send(&get(handle, &[])).unwrap();
        waiting.push(peer);
    }
    gate.wait_for(4);
    for _ in 0..10 {
        assert_serves(&server);
    }
    // One that hangs up meanwhile is nobody's loss.
    drop(waiting.pop());
    drop(opens);
    for mut peer in waiting {
        ok(LETTERS)
            .check(&peer.read_response(false).unwrap().unwrap())
            .unwrap();
    }
    assert_serves(&server);
}

#[test]
fn faults_beside_a_running_transfer() {
    let server = serve(vec![
        ("panics".to_owned(), faulty(Some(LEN), 5000, Fault::Panics)),
        ("fails".to_owned(), faulty(Some(LEN), 5000, Fault::Error)),
    ]);
    let mut peer = RawPeer::connect(server.local_addr()).unwrap();
    peer.send(&get("big", &[])).unwrap();
    assert_eq!(peer.read_head().unwrap().unwrap().status, 200);
    let (first, _) = peer.read_length(1000).unwrap();
    for _ in 0..20 {
        exchange(&server, &get("panics", &[]));
        exchange(&server, &get("fails", &[]));
    }
    let (rest, cut) = peer.read_length(BIG - 1000).unwrap();
    assert_eq!(cut, None);
    assert!([first, rest].concat() == patterned(0, BIG as usize));
    peer.send(&probe_request()).unwrap();
    ok(PROBE)
        .check(&peer.read_response(false).unwrap().unwrap())
        .unwrap();
}

/// A source that names its own media type and dates.
struct Described {
    content_type: Option<String>,
    modified: Option<SystemTime>,
}

impl ByteSource for Described {
    fn len(&self) -> Option<u64> {
        Bare(LETTERS).len()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        Bare(LETTERS).read_at(offset, buf)
    }

    fn content_type(&self) -> Option<&str> {
        self.content_type.as_deref()
    }

    fn last_modified(&self) -> Option<SystemTime> {
        self.modified
    }
}

#[test]
fn whose_media_type_is_an_injection() {
    // A media type often comes from a file's tag or a database: it is data, never field syntax.
    for bad in [
        "text/plain\r\nX-Evil: 1",
        "text/plain\nX-Evil: 1",
        "text/plain\rX-Evil: 1",
        "text/plain\r\n\r\n<html>",
        "text/plain\0",
        "text/plain\u{b}",
        "text/plain\u{7f}",
        "\r\nX-Evil: 1",
        "\r\n",
        "\n",
        "",
        " ",
    ] {
        let given = Described {
            content_type: Some(bad.to_owned()),
            modified: None,
        };
        let of_bytes = BytesSource::new(LETTERS.to_vec()).with_content_type(bad);
        let server = serve(vec![
            ("given".to_owned(), Arc::new(given)),
            ("bytes".to_owned(), Arc::new(of_bytes)),
        ]);
        for handle in ["given", "bytes"] {
            for fields in [
                &[][..],
                &["Range: bytes=1-2"],
                &["Range: bytes=1-2,5-6"],
                &["If-None-Match: *"],
            ] {
                let outcome = exchange(&server, &get(handle, fields));
                let response = outcome.response.unwrap();
                assert!(
                    matches!(response.status(), 200 | 206 | 304),
                    "{bad:?}: {}",
                    brief(&response)
                );
                assert!(outcome.went_on, "{bad:?}");
                for name in ["X-Evil", "<html>"] {
                    assert_eq!(
                        response.head.values(name).count(),
                        0,
                        "{bad:?}: {}",
                        brief(&response)
                    );
                }
                let text = brief(&response);
                assert!(
                    !text.contains("X-Evil") && !text.contains("<html>"),
                    "{bad:?}: {text}"
                );
                assert_ne!(response.field("Content-Type"), Some(""), "{bad:?}: {text}");
            }
        }
    }
    // What is a media type is sent as it is.
    for good in [
        "audio/mpeg",
        "text/plain; charset=utf-8",
        "video/mp4; codecs=\"avc1.42E01E, mp4a.40.2\"",
    ] {
        let given = Described {
            content_type: Some(good.to_owned()),
            modified: None,
        };
        let server = serve(vec![("given".to_owned(), Arc::new(given))]);
        let response = exchange(&server, &get("given", &[])).response.unwrap();
        assert_eq!(response.field("Content-Type"), Some(good));
    }
}

#[test]
fn whose_dates_no_calendar_holds() {
    let after = |s| UNIX_EPOCH.checked_add(Duration::from_secs(s));
    let before = |s| UNIX_EPOCH.checked_sub(Duration::from_secs(s));
    let dates = [
        before(1),
        before(86_400 * 365 * 400),
        before(1 << 40),
        before(1 << 62),
        UNIX_EPOCH.checked_sub(Duration::from_nanos(1)),
        after(0),
        after(253_402_300_799),
        after(253_402_300_800),
        after(1 << 40),
        after(1 << 62),
        after((1 << 63) - 1),
    ];
    for modified in dates.into_iter().flatten() {
        let server = serve(vec![(
            "dated".to_owned() + "-oddly",
            Arc::new(Described {
                content_type: None,
                modified: Some(modified),
            }),
        )]);
        for fields in [
            &[][..],
            &["Range: bytes=1-2"],
            &["If-Modified-Since: Wed, 01 Jan 2020 00:00:00 GMT"],
            &["If-Unmodified-Since: Wed, 01 Jan 2020 00:00:00 GMT"],
            &[
                "Range: bytes=1-2",
                "If-Range: Wed, 01 Jan 2020 00:00:00 GMT",
            ],
        ] {
            // house_rules: Last-Modified is a date no later than Date, or is not there.
            let outcome = exchange(&server, &get("dated-oddly", fields));
            let response = outcome.response.unwrap();
            let status = response.status();
            assert!(
                matches!(status, 200 | 206 | 304 | 412),
                "{modified:?}: {}",
                brief(&response)
            );
            assert!(outcome.went_on, "{modified:?}");
        }
    }
}

#[test]
fn entity_tags_are_checked_where_they_are_made() {
    for bad in [
        "a\"b",
        "\"a\"",
        "a b",
        "a\r\nb",
        "a\nX-Evil: 1",
        "\0",
        "a\u{7f}",
        "\t",
    ] {
        assert!(EntityTag::strong(bad).is_err(), "{bad:?}");
    }
    for good in [
        "a",
        "0123456789abcdef",
        "a,b",
        "!#$%&'()*+,-./:;<=>?@[\\]^_`{|}~",
    ] {
        let source = tagged(LETTERS, good);
        let server = serve(vec![("tagged".to_owned(), Arc::new(source))]);
        let response = exchange(&server, &get("tagged", &[])).response.unwrap();
        assert_eq!(response.field("ETag"), Some(format!("\"{good}\"").as_str()));
        let back = get("tagged", &[&format!("If-None-Match: \"x\", \"{good}\"")]);
        assert_eq!(
            exchange(&server, &back).response.unwrap().status(),
            304,
            "{good:?}"
        );
    }
}

/// RFC 9110 §6.6.1: a request that waited behind a slow answer is dated when its own is made.
#[test]
fn that_take_their_time() {
    let seconds = || {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs()
    };
    let slow = scripted(Some(LETTERS.len() as u64), move |offset, buf| {
        let came = seconds();
        while seconds() < came + 2 {
            std::thread::sleep(Duration::from_millis(20));
        }
        Bare(LETTERS).read_at(offset, buf)
    });
    let mut map = sources();
    map.insert("slow".to_owned(), slow);
    let server = start_with(map);
    let mut peer = RawPeer::connect(server.local_addr()).unwrap();
    peer.send(&joined(&[&get("slow", &[]), &get("letters", &[])]))
        .unwrap();
    let mut date = || {
        let response = peer.read_response(false).unwrap().unwrap();
        assert_eq!(response.content, LETTERS);
        parse_imf_fixdate(response.head.field("Date").unwrap()).unwrap()
    };
    let (first, second) = (date(), date());
    assert!(first < second, "{first}, {second}");
}
