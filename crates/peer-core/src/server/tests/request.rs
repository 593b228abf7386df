//! What comes, as it comes: heads, content that nobody asked for, and what is too much.

use super::*;

#[test]
fn the_buffer_is_as_large_as_the_head_needs() {
    let fields = "Authorization: Bearer t\r\n";
    let plain = format!("GET /track/a HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    let with_padding = |length: usize| {
        let start = format!("GET /track/a HTTP/1.1\r\nHost: a\r\n{fields}X: ");
        let padding = "x".repeat(length - start.len() - 4);
        format!("{start}{padding}\r\n\r\n")
    };
    let mut peer = Peer::new("content");
    for _ in 0..1000 {
        assert_eq!(peer.receive(plain.as_bytes()), None);
        assert_eq!(peer.connection.buffer.len(), BUFFER_BYTES_MIN);
    }
    for length in [600, 5000, HEAD_BYTES_MAX - 1, HEAD_BYTES_MAX] {
        peer.sent.clear();
        assert_eq!(peer.receive(with_padding(length).as_bytes()), None);
        assert!(peer.sent.starts_with(b"HTTP/1.1 200 OK\r\n"), "{length}");
        // Twice as large each time, so that a long head is moved a few times alone.
        assert_eq!(peer.connection.buffer.len(), length.next_power_of_two());
    }
    assert_eq!(peer.connection.buffer.capacity(), HEAD_BYTES_MAX);
    let too_long = with_padding(HEAD_BYTES_MAX + 1);
    peer.receive(too_long.as_bytes());
    assert_eq!(
        peer.connection.status(),
        Some(Status::RequestHeaderFieldsTooLarge)
    );
    assert_eq!(peer.connection.buffer.capacity(), HEAD_BYTES_MAX);
}

/// RFC 9112 §3.2: exactly one `Host` that is one, which HTTP/1.0 may leave out.
#[test]
fn host() {
    for (version, hosts, good) in [
        ("1.1", "Host: h\r\n", true),
        ("1.1", "Host:\r\n", true),
        ("1.1", "", false),
        ("1.1", "Host: a b\r\n", false),
        ("1.1", "Host: h\r\nHost: h\r\n", false),
        ("1.0", "Host: h\r\n", true),
        ("1.0", "", true),
        ("1.0", "Host: a b\r\n", false),
        ("1.0", "Host: h\r\nHost: h\r\n", false),
    ] {
        let mut peer = Peer::new("content");
        let fields = "Authorization: Bearer t\r\n";
        peer.receive(format!("GET /track/a HTTP/{version}\r\n{hosts}{fields}\r\n").as_bytes());
        let status = if good { "200" } else { "400" };
        let sent = peer.answers();
        assert!(
            sent.starts_with(&format!("HTTP/1.1 {status} ")),
            "{version} {hosts:?}: {sent}"
        );
    }
}

#[test]
fn request_content_is_read_past_or_ends_the_connection() {
    let with_content = |fields: &str, content: &str| get(fields) + content + &get("");
    check(
        "0123456789",
        &with_content("Content-Length: 5\r\n", "GET /"),
        &WHOLE.repeat(2),
        None,
    );
    let chunks = "5\r\nGET /\r\n0\r\nA: b\r\n\r\n";
    check(
        "0123456789",
        &with_content("Transfer-Encoding: chunked\r\n", chunks),
        &WHOLE.repeat(2),
        None,
    );
    for fields in [
        "Content-Length: 16385\r\n",
        "Content-Length: 5\r\nExpect: 100-continue\r\n",
    ] {
        let mut peer = Peer::new("0123456789");
        peer.receive(with_content(fields, "GET /").as_bytes());
        assert_eq!(
            peer.answers().matches("HTTP/1.1 200").count(),
            1,
            "{fields}"
        );
        assert!(peer.answers().contains("Connection: close\r\n"), "{fields}");
    }
}

#[test]
fn the_end_of_the_peers_half() {
    for (request, reason) in [
        (String::new(), CloseReason::Finished),
        (get(""), CloseReason::Finished),
        (get("").repeat(2), CloseReason::Finished),
        (get("") + "GET", CloseReason::Incomplete),
        (
            get("Content-Length: 5\r\n") + "GET",
            CloseReason::Incomplete,
        ),
    ] {
        let mut peer = Peer::new("0123456789");
        assert_eq!(peer.receive(request.as_bytes()), None);
        peer.connection.handle_eof(peer.now);
        assert_eq!(
            peer.connection.poll_output(),
            Output::Close { reason },
            "{request}"
        );
    }
}

#[test]
fn a_malformed_line_that_never_ends_is_refused_however_it_was_split() {
    let request = b"GET /track/a HTTP/1.1\r\nHost: h\r\nA:\rB";
    for step in [request.len(), 1] {
        let mut peer = Peer::new("0123456789");
        for bytes in request.chunks(step) {
            peer.receive(bytes);
        }
        peer.connection.handle_eof(peer.now);
        peer.receive(b"");
        let answers = peer.answers();
        assert!(answers.starts_with("HTTP/1.1 400 Bad Request"), "{answers}");
    }
}

#[test]
fn whoever_sends_more_than_is_read_gets_its_answer_before_the_end() {
    let close = get("Connection: close\r\n");
    let large = get("Content-Length: 100000\r\n");
    for (request, end) in [
        (close.clone(), Some(CloseReason::Finished)),
        (close + "x", None),
        (large.clone(), None),
        (large + "x", None),
    ] {
        let mut peer = Peer::new("0123456789");
        assert_eq!(peer.receive(request.as_bytes()), end, "{request}");
        assert!(peer.answers().ends_with("0123456789"), "{request}");
        let armed = peer.connection.poll_timeout();
        let lingers = armed.is_some_and(|(deadline, _)| deadline == Deadline::Linger);
        assert_eq!(lingers, end.is_none(), "{request}");
    }
}

#[test]
fn what_a_request_is_answered_with() {
    let chunked = |size: &str| get("Transfer-Encoding: chunked\r\n") + size + "\r\n";
    let old = |fields: &str| get(fields).replace("HTTP/1.1", "HTTP/1.0");
    let page = "Origin: https://a\r\n";
    let preflight = page.to_owned() + "Access-Control-Request-Method: GET\r\n";
    for (request, status) in [
        (get("").replace("1.1", "2.0"), 505),
        (get("").replace("Host: h\r\n", ""), 400),
        (old("").replace("Host: h\r\n", ""), 200),
        (get("Expect: 100-continue\r\n"), 200),
        (get("Expect: a-miracle\r\n"), 417),
        (old("Expect: a-miracle\r\n"), 200),
        // A chunk that is more than is read is not waited for.
        (chunked("4001"), 200),
        (chunked("3ffb"), 200),
        (get(page), 200),
        (get(&preflight), 200),
        (get(&preflight).replace("GET", "OPTIONS"), 204),
        (get(page).replace("GET", "OPTIONS"), 405),
        (get("").replace("GET", "POST"), 405),
        (get("").replace("GET", "BREW"), 501),
    ] {
        let mut peer = for_pages();
        peer.receive(request.as_bytes());
        let got = peer.connection.status().map(Status::code);
        assert_eq!(got, Some(status), "{request}");
    }
    let mut peer = for_pages();
    for piece in [chunked("3ffa").as_bytes(), b"x"] {
        assert_eq!(peer.receive(piece), None);
        assert_eq!(peer.connection.status(), None, "all of it may be read");
    }
    // Nobody has to wait with content that there is none of.
    let mut peer = for_pages();
    let empty = get("Expect: 100-continue\r\nContent-Length: 0\r\n");
    assert_eq!(peer.receive(empty.repeat(2).as_bytes()), None);
    assert_eq!(peer.answers().matches("HTTP/1.1 200 OK").count(), 2);
}

#[test]
fn what_is_too_long_is_refused_when_that_shows_however_it_comes() {
    use peer_proto::limits::START_LINE_BYTES_MAX;
    let line = "GET /".to_owned() + &"a".repeat(HEAD_BYTES_MAX);
    let fields = "GET / HTTP/1.1\r\nA: ".to_owned() + &"a".repeat(HEAD_BYTES_MAX);
    for (text, fits, status) in [
        (line, START_LINE_BYTES_MAX, Status::UriTooLong),
        (
            fields,
            HEAD_BYTES_MAX - 1,
            Status::RequestHeaderFieldsTooLarge,
        ),
    ] {
        for step in [1, 100, 5000] {
            let mut peer = Peer::new("");
            for piece in text.as_bytes()[..fits].chunks(step) {
                assert_eq!(peer.receive(piece), None);
            }
            assert_eq!(peer.connection.status(), None, "{step}");
            peer.receive(b"a");
            assert_eq!(peer.connection.status(), Some(status), "{step}");
        }
    }
}

#[test]
fn a_full_buffer_makes_room_for_what_is_behind() {
    // So many small requests that one is cut by the buffer's end, and the next part moves to the
    // front.
    let mut peer = Peer::new("abc");
    let one = get("");
    let many = one.repeat(2 * HEAD_BYTES_MAX / one.len());
    assert_eq!(peer.receive(many.as_bytes()), None);
    let answered = peer.answers().matches("HTTP/1.1 200 OK").count();
    assert_eq!(answered, 2 * HEAD_BYTES_MAX / one.len());
}

#[test]
fn what_lingers_sends_only_so_much() {
    let mut peer = Peer::new("");
    assert_eq!(peer.receive(b"\0"), None);
    let much = vec![b'x'; LINGER_BYTES_MAX - 2];
    assert_eq!(peer.receive(&much), None, "not yet");
    assert!(peer.receive(b"xxx").is_some(), "enough");
}

#[test]
fn a_coding_before_chunked_is_not_implemented() {
    let mut peer = Peer::new("abc");
    peer.receive(get("Transfer-Encoding: gzip, chunked\r\n").as_bytes());
    assert!(
        peer.answers().starts_with("HTTP/1.1 501 "),
        "{}",
        peer.answers()
    );
}

#[test]
fn content_in_small_chunks_is_read_so_far_and_no_further() {
    let mut peer = Peer::new("abc");
    let chunks = "1\r\nx\r\n".repeat(DISCARD_BYTES_MAX as usize / 6 + 2);
    let request = get("Transfer-Encoding: chunked\r\n") + &chunks;
    peer.receive(request.as_bytes());
    let answers = peer.answers();
    let closes = "HTTP/1.1 200 OK\r\nConnection: close\r\n";
    assert!(answers.starts_with(closes), "{answers}");
}
