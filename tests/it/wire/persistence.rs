//! RFC 9112 §9: connections that stay, connections that end, pipelines, and heads in pieces.

use super::*;

const LINE_1_0: &str = "GET /track/letters HTTP/1.0";

#[test]
fn who_closes() {
    let asked = |fields: &[&str]| get("letters", fields);
    let close = || letters().has("Connection", "close");
    let mut rows = vec![
        stays("1.1", asked(&[]), letters()),
        stays(
            "1.1 keep-alive",
            asked(&["Connection: keep-alive"]),
            letters(),
        ),
        ends("1.1 close", asked(&["Connection: close"]), close()),
        ends("in capitals", asked(&["CONNECTION: CLOSE"]), close()),
        ends("among others", asked(&["Connection: x, close, y"]), close()),
        ends("without space", asked(&["Connection: x,close"]), close()),
        ends(
            "among empty elements",
            asked(&["Connection: , close ,"]),
            close(),
        ),
        ends(
            "in a second line",
            asked(&["Connection: x", "Connection: close"]),
            close(),
        ),
        ends(
            "beside keep-alive",
            asked(&["Connection: keep-alive, close"]),
            close(),
        ),
        ends(
            "before keep-alive",
            asked(&["Connection: close, keep-alive"]),
            close(),
        ),
        ends(
            "keep-alive in a second line",
            asked(&["Connection: close", "Connection: keep-alive"]),
            close(),
        ),
        stays("1.2", with_line("GET /track/letters HTTP/1.2"), letters()),
        ends(
            "1.2 close",
            head(&[
                "GET /track/letters HTTP/1.2",
                HOST,
                AUTH,
                "Connection: close",
            ]),
            close(),
        ),
        ends("1.0", head(&[LINE_1_0, AUTH]), letters()),
        ends("1.0 with Host", head(&[LINE_1_0, HOST, AUTH]), letters()),
        ends(
            "1.0 close",
            head(&[LINE_1_0, AUTH, "Connection: close"]),
            letters(),
        ),
        ends(
            "1.0 keep-alive, close",
            head(&[LINE_1_0, AUTH, "Connection: keep-alive, close"]),
            letters(),
        ),
        ends(
            "1.0 Keep-Alive without Connection",
            head(&[LINE_1_0, AUTH, "Keep-Alive: timeout=5"]),
            letters(),
        ),
        ends(
            "1.0 Proxy-Connection",
            head(&[LINE_1_0, AUTH, "Proxy-Connection: keep-alive"]),
            letters(),
        ),
        ends(
            "1.0, another option",
            head(&[LINE_1_0, AUTH, "Connection: upgrade"]),
            letters(),
        ),
        // §9.3: who answers HTTP/1.0 and stays says so.
        stays(
            "1.0 keep-alive",
            head(&[LINE_1_0, AUTH, "Connection: keep-alive"]),
            letters().has("Connection", "keep-alive"),
        ),
        stays(
            "1.0 Keep-Alive in capitals",
            head(&[LINE_1_0, AUTH, "Connection: Keep-Alive"]),
            letters().has("Connection", "keep-alive"),
        ),
        stays(
            "1.0 keep-alive among others",
            head(&[LINE_1_0, AUTH, "Connection: x, keep-alive"]),
            letters(),
        ),
        stays(
            "1.0 keep-alive with Range",
            head(&[LINE_1_0, AUTH, "Connection: keep-alive", "Range: bytes=1-2"]),
            part(1, 2),
        ),
        stays(
            "1.0 keep-alive 404",
            head(&[
                "GET /track/nothing HTTP/1.0",
                AUTH,
                "Connection: keep-alive",
            ]),
            answer(404),
        ),
        stays(
            "1.0 keep-alive HEAD",
            head(&[
                "HEAD /track/letters HTTP/1.0",
                AUTH,
                "Connection: keep-alive",
            ]),
            answer(200).for_head(),
        ),
        stays(
            "1.0 keep-alive with content",
            joined(&[
                &head(&[
                    LINE_1_0,
                    AUTH,
                    "Connection: keep-alive",
                    "Content-Length: 5",
                ]),
                b"hello",
            ]),
            letters(),
        ),
        ends(
            "404 close",
            get("nothing", &["Connection: close"]),
            answer(404).has("Connection", "close"),
        ),
        ends(
            "416 close",
            asked(&["Range: bytes=90-", "Connection: close"]),
            unsatisfiable().has("Connection", "close"),
        ),
        ends(
            "412 close",
            asked(&["If-Match: \"x\"", "Connection: close"]),
            answer(412).has("Connection", "close"),
        ),
        ends(
            "405 close",
            request(
                "POST",
                "letters",
                &["Connection: close", "Content-Length: 0"],
            ),
            answer(405).has("Connection", "close"),
        ),
        ends(
            "401 close",
            head(&["GET /track/letters HTTP/1.1", HOST, "Connection: close"]),
            answer(401).has("Connection", "close"),
        ),
        ends(
            "close with content",
            joined(&[
                &asked(&["Connection: close", "Content-Length: 5"]),
                b"hello",
            ]),
            close(),
        ),
        ends(
            "big close",
            get("big", &["Connection: close"]),
            answer(200).content(&patterned(0, BIG as usize)),
        ),
        stays("404 stays", get("nothing", &[]), answer(404)),
        stays("416 stays", asked(&["Range: bytes=90-"]), unsatisfiable()),
        stays("412 stays", asked(&["If-Match: \"x\""]), answer(412)),
        stays("304 stays", asked(&["If-None-Match: *"]), answer(304)),
        stays("405 stays", request("DELETE", "letters", &[]), answer(405)),
    ];
    for other in [
        "closed",
        "clos",
        "xclose",
        "close-x",
        "\"close\"",
        "c l o s e",
        "close;x",
        "keep",
        "",
    ] {
        let field = format!("Connection: {other}");
        rows.push(stays(format!("1.1 {other:?}"), asked(&[&field]), letters()));
    }
    for field in [
        "Proxy-Connection: close",
        "Keep-Alive: timeout=0, max=0",
        "X-Connection: close",
    ] {
        rows.push(stays(field, asked(&[field]), letters()));
    }
    run_table(&rows);
}

#[test]
fn pipelines() {
    // §9.3.2: answers in the order of the requests, whatever they are.
    let a = get("letters", &[]);
    let post = joined(&[
        &request("POST", "letters", &["Content-Length: 5"]),
        b"hello",
    ]);
    let body = joined(&[&get("letters", &["Content-Length: 5"]), b"hello"]);
    let chunked = joined(&[
        &get("letters", &["Transfer-Encoding: chunked"]),
        b"5\r\nhello\r\n0\r\n\r\n",
    ]);
    let last = get("letters", &["Range: bytes=0-0", "Connection: close"]);
    let big = patterned(0, BIG as usize);
    let mut rows = vec![
        Row::new(
            "two",
            joined(&[&a, &a]),
            vec![letters(), letters()],
            Then::Stays,
        ),
        Row::new("thirty", a.repeat(30), vec![letters(); 30], Then::Stays),
        Row::new(
            "mixed",
            joined(&[
                &a,
                &request("HEAD", "letters", &[]),
                &get("nothing", &[]),
                &get("letters", &["Range: bytes=3-5"]),
                &get("letters", &["Range: bytes=99-"]),
                &get("letters", &["If-None-Match: *"]),
                &get("letters", &["If-Match: \"x\""]),
                &get("letters", &["Range: bytes=0-0,2-2"]),
                &get("empty", &["Range: bytes=0-"]),
                &request("DELETE", "letters", &[]),
                &get("unknown-empty", &[]),
                &a,
            ]),
            vec![
                letters(),
                answer(200).for_head(),
                answer(404),
                part(3, 5),
                unsatisfiable(),
                not_modified(),
                answer(412),
                answer(206).parts(LETTERS, &[(0, 0), (2, 2)]),
                ok(b""),
                answer(405),
                ok(b""),
                letters(),
            ],
            Then::Stays,
        ),
        Row::new(
            "with content",
            joined(&[&body, &a, &chunked, &body, &chunked, &a]),
            vec![letters(); 6],
            Then::Stays,
        ),
        Row::new(
            "big among small",
            joined(&[
                &a,
                &get("big", &[]),
                &a,
                &get("big", &["Range: bytes=5-"]),
                &a,
            ]),
            vec![
                letters(),
                ok(&big),
                letters(),
                answer(206).content(&big[5..]),
                letters(),
            ],
            Then::Stays,
        ),
        // §9.6: nothing behind a close is answered.
        Row::new(
            "close in the middle",
            joined(&[&a, &last, &a, &a]),
            vec![letters(), part(0, 0)],
            Then::Ends,
        ),
        Row::new(
            "1.0 in the middle",
            joined(&[&a, &head(&[LINE_1_0, AUTH]), &a]),
            vec![letters(), letters()],
            Then::Ends,
        ),
        Row::new(
            "1.0 keep-alive, then 1.1",
            joined(&[&head(&[LINE_1_0, AUTH, "Connection: keep-alive"]), &a]),
            vec![letters().has("Connection", "keep-alive"), letters()],
            Then::Stays,
        ),
        Row::new(
            "malformed in the middle",
            joined(&[&a, b"GARBAGE\r\n\r\n", &a]),
            vec![letters(), answer(400)],
            Then::Ends,
        ),
        Row::new(
            "too large in the middle",
            joined(&[
                &a,
                &get("letters", &[&format!("X: {}", "x".repeat(20_000))]),
                &a,
            ]),
            vec![letters(), answer(431)],
            Then::Ends,
        ),
        Row::new(
            "both framings in the middle",
            joined(&[
                &a,
                &get(
                    "letters",
                    &["Content-Length: 0", "Transfer-Encoding: chunked"],
                ),
                b"0\r\n\r\n",
                &a,
            ]),
            vec![letters(), answer(400)],
            Then::Ends,
        ),
    ];
    rows.push(either("POST and more", post, answer(405)));
    run_table(&rows);
}

fn not_modified() -> Answer {
    answer(304).content(b"")
}

#[test]
fn half_closed_peers_get_their_answers() {
    // §9.6 asks no more of a peer than to stop sending: what it asked before is answered.
    let a = get("letters", &[]);
    let big = patterned(0, BIG as usize);
    run_table(&[
        Row::new("nothing asked", Vec::new(), Vec::new(), Then::Ends).half_closed(),
        Row::new("one", a.clone(), vec![letters()], Then::Ends).half_closed(),
        Row::new(
            "a range",
            get("letters", &["Range: bytes=1-2"]),
            vec![part(1, 2)],
            Then::Ends,
        )
        .half_closed(),
        Row::new("three", a.repeat(3), vec![letters(); 3], Then::Ends).half_closed(),
        Row::new("twenty", a.repeat(20), vec![letters(); 20], Then::Ends).half_closed(),
        Row::new("big", get("big", &[]), vec![ok(&big)], Then::Ends).half_closed(),
        Row::new(
            "big and small",
            joined(&[&get("big", &[]), &a]),
            vec![ok(&big), letters()],
            Then::Ends,
        )
        .half_closed(),
        Row::new(
            "unknown length",
            get("unknown", &[]),
            vec![ok(&patterned(0, UNKNOWN as usize))],
            Then::Ends,
        )
        .half_closed(),
        Row::new(
            "an empty line behind",
            joined(&[&a, b"\r\n"]),
            vec![letters()],
            Then::Ends,
        )
        .half_closed(),
        Row::new(
            "with content",
            joined(&[&get("letters", &["Content-Length: 5"]), b"hello"]),
            vec![letters()],
            Then::Ends,
        )
        .half_closed(),
        Row::new(
            "close",
            get("letters", &["Connection: close"]),
            vec![letters()],
            Then::Ends,
        )
        .half_closed(),
        Row::new("1.0", head(&[LINE_1_0, AUTH]), vec![letters()], Then::Ends).half_closed(),
        Row::new(
            "401",
            head(&["GET /track/letters HTTP/1.1", HOST]),
            vec![answer(401)],
            Then::Ends,
        )
        .half_closed(),
        Row::new("404", get("nothing", &[]), vec![answer(404)], Then::Ends).half_closed(),
        Row::new(
            "405 with content",
            joined(&[
                &request("POST", "letters", &["Content-Length: 5"]),
                b"hello",
            ]),
            vec![answer(405)],
            Then::Ends,
        )
        .half_closed(),
        Row::new(
            "one and a half",
            joined(&[&a, &a[..30]]),
            vec![letters()],
            Then::Ends,
        )
        .half_closed()
        .or_two(letters(), answer(400)),
    ]);
}

impl Row {
    /// Two answers are as right as the row's own.
    fn or_two(mut self, first: Answer, second: Answer) -> Self {
        self.outcomes.push(Outcome {
            answers: vec![first, second],
            then: Then::Ends,
        });
        self
    }
}

/// Sends `bytes` in two parts, cut at every offset in turn, on many connections at once: all the
/// first parts go out before any second part does, so that the server meets the cut.
fn at_every_offset(bytes: &[u8], check: impl Fn(&mut RawPeer) -> Result<(), String>) {
    const BATCH: usize = 12;
    let server = start();
    let offsets: Vec<usize> = (1..bytes.len()).collect();
    for batch in offsets.chunks(BATCH) {
        let mut peers: Vec<RawPeer> = batch
            .iter()
            .map(|_| RawPeer::connect(server.local_addr()).unwrap())
            .collect();
        for (peer, &at) in peers.iter_mut().zip(batch) {
            peer.send(&bytes[..at]).unwrap();
        }
        // Round trips on another connection give the server's threads their turn.
        let mut other = RawPeer::connect(server.local_addr()).unwrap();
        for _ in 0..2 {
            other.send(&probe_request()).unwrap();
            assert_eq!(other.read_response(false).unwrap().unwrap().status(), 200);
        }
        for (peer, &at) in peers.iter_mut().zip(batch) {
            peer.send(&bytes[at..]).unwrap();
        }
        for (peer, &at) in peers.iter_mut().zip(batch) {
            if let Err(wrong) = check(peer) {
                panic!("cut at {at} of {}: {wrong}", bytes.len());
            }
        }
    }
}

/// Reads these answers and then the end or the answer to a further request.
fn expect(answers: Vec<Answer>, then: Then) -> impl Fn(&mut RawPeer) -> Result<(), String> {
    move |peer| {
        for answer in &answers {
            let response = peer
                .read_response(answer.to_head)
                .map_err(|e| e.to_string())?
                .ok_or("ended without an answer")?;
            house_rules(&response, answer.to_head)?;
            answer.check(&response)?;
        }
        if then == Then::Stays {
            peer.send(&probe_request()).map_err(|e| e.to_string())?;
            let probe = peer.read_response(false).map_err(|e| e.to_string())?;
            ok(PROBE).check(&probe.ok_or("ended before the probe")?)
        } else {
            match peer.read_to_end().map_err(|e| e.to_string())? {
                (rest, End::Closed) if rest.is_empty() => Ok(()),
                (rest, end) => Err(format!("{end:?} after {}", show(&rest))),
            }
        }
    }
}

#[test]
fn a_request_cut_at_every_offset() {
    let bytes = get("letters", &["Range: bytes=3-5"]);
    at_every_offset(&bytes, expect(vec![part(3, 5)], Then::Stays));
}

#[test]
fn a_head_request_cut_at_every_offset() {
    let bytes = request("HEAD", "letters", &[]);
    at_every_offset(&bytes, expect(vec![answer(200).for_head()], Then::Stays));
}

#[test]
fn empty_lines_and_a_request_cut_at_every_offset() {
    let bytes = joined(&[b"\r\n\r\n", &get("a%20b", &[])]);
    at_every_offset(&bytes, expect(vec![ok(b"a b")], Then::Stays));
}

#[test]
fn content_cut_at_every_offset() {
    let bytes = joined(&[
        &get("letters", &["Content-Length: 11"]),
        b"\r\nhello\r\n\r\n",
        &get("letters", &["Range: bytes=1-1"]),
    ]);
    at_every_offset(&bytes, expect(vec![letters(), part(1, 1)], Then::Stays));
}

#[test]
fn chunks_cut_at_every_offset() {
    let bytes = joined(&[
        &get("letters", &["Transfer-Encoding: chunked"]),
        b"5;a=\"b\"\r\nhello\r\n00c\r\n\r\n0\r\n\r\nworld\r\n0\r\nX-T: y\r\n\r\n",
        &get("letters", &["Range: bytes=1-1"]),
    ]);
    at_every_offset(&bytes, expect(vec![letters(), part(1, 1)], Then::Stays));
}

#[test]
fn a_pipeline_cut_at_every_offset() {
    let bytes = joined(&[
        &get("letters", &[]),
        &get("nothing", &[]),
        &request("HEAD", "letters", &[]),
        &get("letters", &["Range: bytes=-2", "Connection: close"]),
    ]);
    let answers = vec![letters(), answer(404), answer(200).for_head(), part(24, 25)];
    at_every_offset(&bytes, expect(answers, Then::Ends));
}

#[test]
fn a_malformed_head_cut_at_every_offset() {
    let bytes = get("letters", &["X : y"]);
    let server = start();
    for at in 1..bytes.len() {
        let mut peer = RawPeer::connect(server.local_addr()).unwrap();
        // The refusal may come before the second part: then there is nobody to take it.
        peer.send(&bytes[..at]).unwrap();
        let _ = peer.send(&bytes[at..]);
        expect(vec![answer(400)], Then::Ends)(&mut peer).unwrap_or_else(|e| panic!("{at}: {e}"));
    }
}

#[test]
fn a_thousand_requests_on_one_connection() {
    let server = start();
    let mut peer = RawPeer::connect(server.local_addr()).unwrap();
    for n in 0..1000_usize {
        let (first, last) = (n % 26, (n % 26 + n / 40 % 5).min(25));
        peer.send(&get("letters", &[&format!("Range: bytes={first}-{last}")]))
            .unwrap();
        let response = peer.read_response(false).unwrap().unwrap();
        part(first, last)
            .check(&response)
            .unwrap_or_else(|wrong| panic!("request {n}: {wrong}"));
    }
}

#[test]
fn a_deep_pipeline_is_answered_in_order() {
    // The peer sends all it has to ask before it reads a byte, and reads slowly.
    let server = start();
    let mut peer = RawPeer::connect(server.local_addr()).unwrap();
    let asked = |n: usize| get("letters", &[&format!("Range: bytes={0}-{0}", n % 26)]);
    let all: Vec<u8> = (0..200).flat_map(asked).collect();
    peer.send(&all).unwrap();
    peer.half_close().unwrap();
    for n in 0..200 {
        let response = peer.read_response(false).unwrap().unwrap();
        part(n % 26, n % 26)
            .check(&response)
            .unwrap_or_else(|wrong| panic!("answer {n}: {wrong}"));
    }
    assert!(peer.read_response(false).unwrap().is_none());
}

#[test]
fn refusals_reach_a_peer_that_is_still_sending() {
    // §9.6: a server that closes while data is on its way may destroy its own answer by a reset;
    // it half-closes and drains first.
    let server = start();
    for (bytes, status) in [
        (
            joined(&[
                &request("POST", "letters", &["Content-Length: 900000"]),
                &[b'x'; 900_000],
            ]),
            405,
        ),
        (
            joined(&[
                &get("letters", &["Content-Length: 900000"]),
                &[b'x'; 900_000],
            ]),
            200,
        ),
        (
            get("letters", &[&format!("X: {}", "x".repeat(900_000))]),
            431,
        ),
        (
            with_line(&format!("GET /{} HTTP/1.1", "x".repeat(900_000))),
            414,
        ),
        (joined(&[b"GARBAGE\r\n\r\n", &[b'x'; 900_000]]), 400),
        (get("letters", &["Connection: close"]).repeat(2000), 200),
    ] {
        let mut peer = RawPeer::connect(server.local_addr()).unwrap();
        // A server may at last lose patience with a peer that never stops; its answer was sent.
        let _ = peer.send(&bytes);
        let response = peer.read_response(false).unwrap().unwrap();
        assert_eq!(response.status(), status);
        assert!(response.head.closes(), "{status} without Connection: close");
        assert_eq!(response.cut, None, "{status}");
    }
}

#[test]
fn many_connections_at_once() {
    let server = start();
    let addr = server.local_addr();
    let big = patterned(0, BIG as usize);
    std::thread::scope(|scope| {
        for n in 0..24_usize {
            let big = &big;
            scope.spawn(move || {
                let mut peer = RawPeer::connect(addr).unwrap();
                for round in 0..3 {
                    let first = n * 10_007 + round;
                    peer.send(&get("big", &[&format!("Range: bytes={first}-")]))
                        .unwrap();
                    let response = peer.read_response(false).unwrap().unwrap();
                    assert_eq!(response.status(), 206);
                    assert!(
                        response.content == big[first..],
                        "connection {n}, round {round}"
                    );
                }
            });
        }
    });
}

#[test]
fn an_idle_connection_keeps_nobody_waiting() {
    // Connections that say nothing, or half of something, beside one that is served.
    let server = start();
    let mut idle: Vec<RawPeer> = (0..20)
        .map(|_| RawPeer::connect(server.local_addr()).unwrap())
        .collect();
    for peer in idle.iter_mut().skip(10) {
        peer.send(b"GET /track/letters HT").unwrap();
    }
    let mut peer = RawPeer::connect(server.local_addr()).unwrap();
    peer.send(&get("letters", &[])).unwrap();
    letters()
        .check(&peer.read_response(false).unwrap().unwrap())
        .unwrap();
    for peer in idle.iter_mut().skip(10) {
        let rest = &get("letters", &["Range: bytes=1-1"])[b"GET /track/letters HT".len()..];
        peer.send(rest).unwrap();
        part(1, 1)
            .check(&peer.read_response(false).unwrap().unwrap())
            .unwrap();
    }
}

#[test]
fn peers_that_hang_up_harm_nobody() {
    let server = start();
    for n in 0..40 {
        let mut peer = RawPeer::connect(server.local_addr()).unwrap();
        peer.send(&get(if n % 2 == 0 { "big" } else { "max" }, &[]))
            .unwrap();
        if n % 4 < 2 {
            assert_eq!(peer.read_head().unwrap().unwrap().status, 200);
        }
        drop(peer);
    }
    let mut peer = RawPeer::connect(server.local_addr()).unwrap();
    peer.send(&get("letters", &[])).unwrap();
    letters()
        .check(&peer.read_response(false).unwrap().unwrap())
        .unwrap();
}
