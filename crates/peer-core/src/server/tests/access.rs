//! Who gets in, by token, page or capability, and what the others learn.

use super::*;

#[test]
fn strangers_learn_nothing() {
    let answer = |challenge: &str| {
        format!(
            "HTTP/1.1 401 Unauthorized\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 17\r\n\
             Cache-Control: no-store\r\nWWW-Authenticate: {challenge}\r\n\r\n401 Unauthorized\n"
        )
    };
    for line in [
        "GET /track/a",
        "GET /nothing",
        "BREW /track/a",
        "PUT /%zz",
        "GET https://h/",
    ] {
        let request = format!("{line} HTTP/1.1\r\nHost: h\r\n\r\n");
        check("", &request, &answer(auth::CHALLENGE), None);
        let request = format!("{line} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer x\r\n\r\n");
        check("", &request, &answer(auth::CHALLENGE_INVALID_TOKEN), None);
    }
}

#[test]
fn the_third_wrong_token_ends_it() {
    let mut peer = Peer::new("");
    let wrong = get("").replace("Bearer t", "Bearer x");
    assert_eq!(peer.receive(wrong.repeat(2).as_bytes()), None);
    assert!(!peer.answers().contains("Connection: close"));
    peer.receive(wrong.repeat(2).as_bytes());
    assert_eq!(peer.answers().matches("401 Unauthorized\r\n").count(), 3);
    assert!(peer.answers().contains("Connection: close"));
    peer.connection.handle_eof(peer.now);
    let reason = CloseReason::Refused(Status::Unauthorized);
    assert_eq!(peer.connection.poll_output(), Output::Close { reason });
}

#[test]
fn overload_is_told_to_who_holds_the_token() {
    let mut peer = Peer::asked("", &get(""), Authorization::Overloaded);
    peer.receive(b"");
    assert!(
        peer.answers()
            .starts_with("HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\n")
    );
    assert!(peer.answers().contains("Retry-After: 1\r\n"));
}

const PREFLIGHT: &[u8] = b"OPTIONS /track/x HTTP/1.1\r\nHost: h\r\nOrigin: https://a\r\n\
    Access-Control-Request-Method: GET\r\n\r\n";

#[test]
fn preflights_prolong_no_stranger() {
    let mut peer = for_pages();
    let deadline = peer.connection.poll_timeout();
    for _ in 0..20 {
        assert_eq!(peer.receive(PREFLIGHT), None);
        assert_eq!(peer.connection.status(), Some(Status::NoContent));
        assert!(!peer.connection.is_authorized());
        assert_eq!(peer.connection.poll_timeout(), deadline, "renewed");
        peer.now.instant += Duration::from_millis(100);
    }
    peer.now.instant = deadline.unwrap().1;
    peer.connection.handle_timeout(peer.now);
    assert!(matches!(
        peer.connection.poll_output(),
        Output::Close { .. }
    ));
}

#[test]
fn a_request_that_ends_in_time_out_still_tells_its_page() {
    let mut peer = for_pages();
    let head = b"POST /track/x HTTP/1.1\r\nHost: h\r\nOrigin: https://a\r\n\
        Content-Length: 9\r\n\r\nabc";
    assert_eq!(peer.receive(head), None);
    peer.now.instant = peer.connection.poll_timeout().unwrap().1;
    peer.connection.handle_timeout(peer.now);
    peer.receive(b"");
    assert_eq!(peer.connection.status(), Some(Status::RequestTimeout));
    let sent = String::from_utf8_lossy(&peer.sent);
    assert!(
        sent.contains("\r\nAccess-Control-Allow-Origin: https://a\r\n"),
        "{sent}"
    );
}

#[test]
fn the_origin_of_a_request_is_not_that_of_the_next() {
    let mut peer = for_pages();
    assert_eq!(peer.receive(PREFLIGHT), None);
    peer.sent.clear();
    assert!(peer.receive(b"malformed\r\n\r\n").is_none());
    let sent = String::from_utf8_lossy(&peer.sent);
    assert!(sent.starts_with("HTTP/1.1 400 "), "{sent}");
    assert!(!sent.contains("Access-Control"), "{sent}");
}

/// What a bridge makes of one request: what is presented, why it is refused whatever that is
/// worth, and the answer's status. Only `cap/a` is worth something, and resolves.
fn at_a_bridge(connection: &mut ServerConnection, request: &str) -> (String, Option<Foreign>, u16) {
    let now = Now::new(Instant::now(), SystemTime::UNIX_EPOCH);
    let buffer = connection.receive_buffer();
    buffer[..request.len()].copy_from_slice(request.as_bytes());
    connection.handle_received(now, request.len());
    let Output::Authorize { token } = connection.poll_output() else {
        panic!("{request}: {:?}", connection.poll_output());
    };
    let presented = String::from_utf8(token.to_vec()).unwrap();
    let foreign = connection.foreign();
    let authorization = match &*presented {
        "cap/a" => Authorization::Granted,
        _ => Authorization::Denied,
    };
    connection.handle_authorized(now, authorization);
    if let Output::Resolve { handle } = connection.poll_output() {
        assert_eq!(handle, "a");
        assert!(connection.is_authorized());
        let empty = SourceInfo {
            complete_length: Some(0),
            ..SourceInfo::default()
        };
        connection.handle_source(now, Some(empty));
    }
    assert!(matches!(connection.poll_output(), Output::Send { .. }));
    connection.handle_sent(now, 0);
    (presented, foreign, connection.status().unwrap().code())
}

fn bridge() -> ServerConnection {
    let now = Now::new(Instant::now(), SystemTime::UNIX_EPOCH);
    let mut origins = AllowedOrigins::default();
    origins.allow("https://a.example").unwrap();
    ServerConnection::new(ServerConfig::default(), 1, now)
        .with_access(Access::Capability)
        .with_allowed_origins(origins)
}

#[test]
fn a_bridge_lets_in_by_the_target_from_here_and_from_no_foreign_page() {
    const HERE: &str = "Host: 127.0.0.1:8\r\n";
    let (own, host, origin) = (None, Some(Foreign::Host), Some(Foreign::Origin));
    for (target, fields, presented, foreign, status) in [
        ("/cap/a", "", "cap/a", own, 200),
        ("http://localhost:8/cap/a", "", "cap/a", own, 200),
        ("/cap/b", "", "cap/b", own, 403),
        ("/cap", "", "", own, 403),
        ("http://a.example/cap/a", "", "cap/a", host, 403),
        (
            "/cap/a",
            "Origin: http://127.0.0.1:8\r\n",
            "cap/a",
            own,
            200,
        ),
        ("/cap/a", "Origin: https://a.example\r\n", "cap/a", own, 200),
        (
            "/cap/a",
            "Origin: https://b.example\r\n",
            "cap/a",
            origin,
            403,
        ),
        (
            "/cap/a",
            "Origin: http://127.0.0.1:9\r\n",
            "cap/a",
            origin,
            403,
        ),
        (
            "/cap/a",
            "Origin: https://127.0.0.1:8\r\n",
            "cap/a",
            origin,
            403,
        ),
        ("/cap/a", "Origin: null\r\n", "cap/a", origin, 403),
        ("/cap/a", "Sec-Fetch-Site: none\r\n", "cap/a", own, 200),
        (
            "/cap/a",
            "Sec-Fetch-Site: same-origin\r\n",
            "cap/a",
            own,
            200,
        ),
        (
            "/cap/a",
            "Sec-Fetch-Site: same-site\r\n",
            "cap/a",
            origin,
            403,
        ),
        (
            "/cap/a",
            "Sec-Fetch-Site: cross-site\r\n",
            "cap/a",
            origin,
            403,
        ),
    ] {
        let request = format!("GET {target} HTTP/1.1\r\n{HERE}{fields}\r\n");
        let got = at_a_bridge(&mut bridge(), &request);
        assert_eq!(got, (presented.to_owned(), foreign, status), "{request}");
    }
    let two = "Origin: https://a.example\r\nOrigin: https://a.example\r\n";
    for (start, foreign) in [
        ("GET /cap/a HTTP/1.1\r\nHost: a.example\r\n", host),
        ("GET /cap/a HTTP/1.0\r\n", host),
        (&*format!("GET /cap/a HTTP/1.1\r\n{HERE}{two}"), origin),
    ] {
        let mut connection = bridge();
        let got = at_a_bridge(&mut connection, &format!("{start}\r\n"));
        assert_eq!(got, ("cap/a".to_owned(), foreign, 403), "{start}");
        assert!(!connection.is_authorized());
    }
}

#[test]
fn a_request_from_elsewhere_says_nothing_of_the_next() {
    let mut connection = bridge();
    let host = Some(Foreign::Host);
    for (name, foreign, status) in [("a.example", host, 403), ("localhost", None, 200)] {
        let request = format!("GET /cap/a HTTP/1.1\r\nHost: {name}\r\n\r\n");
        let got = at_a_bridge(&mut connection, &request);
        assert_eq!(got, ("cap/a".to_owned(), foreign, status));
        assert_eq!(connection.foreign(), None, "between two requests");
    }
    assert!(connection.is_authorized());
}

#[test]
fn a_bridge_answers_preflights_of_allowed_origins_alone() {
    for (origin, status) in [("", 405), ("Origin: https://a.example\r\n", 204)] {
        let request = format!(
            "OPTIONS /cap/a HTTP/1.1\r\nHost: localhost\r\n{origin}\
             Access-Control-Request-Method: GET\r\n\r\n"
        );
        let got = at_a_bridge(&mut bridge(), &request);
        assert_eq!(got, ("cap/a".to_owned(), None, status));
    }
}

#[test]
fn debug_tells_the_state_and_nothing_that_came() {
    let mut peer = Peer::new("abc");
    let mut seen = Vec::new();
    let mut look = |connection: &ServerConnection| seen.push(format!("{connection:?}"));
    look(&peer.connection);
    let request = get("").replace("Bearer t", "Bearer hush");
    peer.connection.receive_buffer()[..request.len()].copy_from_slice(request.as_bytes());
    peer.connection.handle_received(peer.now, request.len());
    look(&peer.connection);
    peer.connection
        .handle_authorized(peer.now, Authorization::Granted);
    look(&peer.connection);
    peer.connection
        .handle_source(peer.now, Some(SourceInfo::default()));
    look(&peer.connection);
    peer.connection.handle_source_failed(peer.now);
    look(&peer.connection);
    let mut pipelined = Peer::new("abc");
    assert_eq!(pipelined.receive((get("") + "GET /").as_bytes()), None);
    let debug = format!("{:?}", pipelined.connection);
    assert!(debug.contains("received: 5,"), "{debug}");
    let names = ["head", "authorize", "resolve", "stream from 0", "answer"];
    for (debug, name) in seen.iter().zip(names) {
        assert!(debug.contains(&format!("state: {name}")), "{debug}");
        for secret in ["hush", "104, 117, 115, 104", "/track/"] {
            assert!(!debug.contains(secret), "{debug}");
        }
    }
}

#[test]
#[cfg(debug_assertions)]
#[should_panic(expected = "not asked for")]
fn a_verdict_on_a_token_that_nobody_showed_is_a_bug() {
    let mut peer = Peer::new("");
    peer.connection
        .handle_authorized(peer.now, Authorization::Granted);
}

#[test]
#[cfg(not(debug_assertions))]
fn a_verdict_on_a_token_that_nobody_showed_changes_nothing() {
    let mut peer = Peer::new("");
    peer.connection
        .handle_authorized(peer.now, Authorization::Granted);
    assert!(!peer.connection.is_authorized());
    assert_eq!(peer.connection.poll_output(), Output::Receive);
}

/// What the log of this thread says while `work` runs.
fn logged(work: impl FnOnce()) -> Vec<String> {
    use std::cell::RefCell;
    thread_local! {
        static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    }
    struct Lines;
    impl log::Log for Lines {
        fn enabled(&self, _: &log::Metadata<'_>) -> bool {
            true
        }
        fn log(&self, record: &log::Record<'_>) {
            LINES.with_borrow_mut(|lines| lines.push(record.args().to_string()));
        }
        fn flush(&self) {}
    }
    static LOGGER: Lines = Lines;
    // Whoever comes second finds the same one.
    let _ = log::set_logger(&LOGGER);
    log::set_max_level(log::LevelFilter::Trace);
    LINES.take();
    work();
    LINES.take()
}

#[test]
fn the_log_tells_states_alone() {
    let lines = logged(|| {
        let mut peer = Peer::new("0123456789");
        let content = "Content-Length: 2\r\n";
        peer.receive(get(content).as_bytes());
        peer.receive(b"xy");
        peer.receive(get("Range: bytes=0-0\r\nConnection: close\r\n").as_bytes());
        peer.connection.handle_eof(peer.now);
        peer.length = None;
        peer.connection = ServerConnection::new(ServerConfig::default(), 1, peer.now);
        peer.receive(get("").as_bytes());
        peer.receive(b"\0");
        peer.connection.handle_eof(peer.now);
    });
    let states = [
        "head",
        "authorize",
        "resolve",
        "answer",
        "spans",
        "stream",
        "discard",
        "half-close",
        "linger",
        "closed",
    ];
    for line in &lines {
        let (from, to) = line.split_once(" -> ").expect(line);
        assert!(states.contains(&from) && states.contains(&to), "{line}");
    }
    for state in states {
        let is_told = lines
            .iter()
            .any(|line| line.split(" -> ").any(|name| name == state));
        assert!(is_told, "{state} in {lines:?}");
    }
    let lines = logged(|| {
        let token = peer_proto::Token::new("hush").unwrap();
        let request = crate::fetch::FetchRequest {
            host: "h",
            token: &token,
            handle: "a",
            want: crate::fetch::Want::Length,
            without_range: false,
            version: None,
        };
        let now = Instant::now();
        let fetch = crate::fetch::Fetch::new(&request, Default::default(), now);
        let mut whole = fetch.clone();
        if let crate::fetch::FetchOutput::Send { bytes } = fetch.poll_output() {
            whole.handle_sent(now, bytes.len());
        }
        let mut cut = whole.clone();
        cut.handle_eof(now);
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n";
        whole.receive_buffer()[..answer.len()].copy_from_slice(answer);
        whole.handle_received(now, answer.len());
    });
    let expected = [
        "sending -> head",
        "head -> failed",
        "head -> content",
        "content -> done",
    ];
    assert_eq!(lines, expected.map(|line| format!("fetch: {line}")));
}
