//! Scenarios on the machine alone; what goes over a real wire is tested in the `tests` package.

use std::time::SystemTime;

use super::*;
use peer_proto::limits::DISCARD_BYTES_MAX;

/// A connection with a driver that answers every instruction from `content`.
struct Peer {
    connection: ServerConnection,
    now: Now,
    content: Vec<u8>,
    length: Option<u64>,
    /// The source fails when asked for this offset.
    fails_at: Option<u64>,
    sent: Vec<u8>,
}

impl Peer {
    fn new(content: &str) -> Self {
        let now = Now::new(
            Instant::now(),
            SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000),
        );
        Self {
            connection: ServerConnection::new(ServerConfig::default(), 1, now),
            now,
            content: content.into(),
            length: Some(content.len() as u64),
            fails_at: None,
            sent: Vec::new(),
        }
    }

    /// Hands over bytes and carries out instructions until more bytes, or nothing, is wanted.
    fn receive(&mut self, mut bytes: &[u8]) -> Option<CloseReason> {
        loop {
            let poll = format!("{:?}", self.connection.poll_output());
            assert_eq!(
                poll,
                format!("{:?}", self.connection.poll_output()),
                "polling is pure"
            );
            match self.connection.poll_output() {
                Output::Receive if bytes.is_empty() => return None,
                Output::Receive => {
                    let buffer = self.connection.receive_buffer();
                    assert!(!buffer.is_empty());
                    let n = bytes.len().min(buffer.len());
                    buffer[..n].copy_from_slice(&bytes[..n]);
                    bytes = &bytes[n..];
                    self.connection.handle_received(self.now, n);
                }
                Output::Authorize { token: b"t" } => {
                    self.connection
                        .handle_authorized(self.now, Authorization::Granted);
                }
                Output::Authorize { .. } => {
                    self.connection
                        .handle_authorized(self.now, Authorization::Denied);
                }
                Output::Resolve { handle } => {
                    let source = (handle == "a").then_some(SourceInfo {
                        complete_length: self.length,
                        content_type: Some("audio/mpeg"),
                        validators: Validators::default(),
                    });
                    self.connection.handle_source(self.now, source);
                }
                Output::Send { bytes } => {
                    assert!(!bytes.is_empty(), "nothing to send");
                    self.sent.extend_from_slice(bytes);
                    self.connection.handle_sent(self.now, 0);
                }
                Output::SendSource { offset, .. } if self.fails_at == Some(offset) => {
                    self.connection.handle_source_failed(self.now);
                }
                Output::SendSource {
                    prefix,
                    offset,
                    len,
                    chunked,
                } => {
                    // Three bytes at a time: every answer takes several steps.
                    let rest = self.content.get(offset as usize..).unwrap_or_default();
                    let n = rest.len().min(3).min(len.unwrap_or(3) as usize);
                    if n == 0 {
                        self.connection.handle_source_end(self.now);
                        continue;
                    }
                    self.sent.extend_from_slice(prefix);
                    if chunked {
                        self.sent.extend_from_slice(format!("{n:x}\r\n").as_bytes());
                    }
                    self.sent.extend_from_slice(&rest[..n]);
                    if chunked {
                        self.sent.extend_from_slice(b"\r\n");
                    }
                    self.connection.handle_sent(self.now, n as u64);
                }
                Output::HalfClose => self.connection.handle_half_closed(self.now),
                Output::Close { reason } => return Some(reason),
            }
        }
    }

    /// The answers so far, without their `Date`.
    fn answers(&self) -> String {
        let text = String::from_utf8(self.sent.clone()).unwrap();
        text.replace("Date: Sun, 09 Sep 2001 01:46:40 GMT\r\n", "")
    }

    fn wait(&mut self, time: Duration) {
        self.now.instant += time;
        self.connection.handle_timeout(self.now);
    }
}

fn get(more: &str) -> String {
    format!("GET /track/a HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer t\r\n{more}\r\n")
}

fn check(content: &str, request: &str, expected: &str, end: Option<CloseReason>) {
    let mut whole = Peer::new(content);
    assert_eq!(whole.receive(request.as_bytes()), end, "{request}");
    assert_eq!(whole.answers(), expected, "{request}");
    // Byte by byte comes to the same.
    let mut bytes = Peer::new(content);
    let mut last = None;
    for byte in request.bytes() {
        last = bytes.receive(&[byte]);
    }
    assert_eq!(
        (bytes.answers(), last),
        (expected.to_owned(), end),
        "{request}"
    );
}

const WHOLE: &str = "HTTP/1.1 200 OK\r\nCache-Control: private, no-transform\r\nAccept-Ranges: bytes\r\n\
                     Content-Type: audio/mpeg\r\nContent-Length: 10\r\n\r\n0123456789";

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

#[test]
fn whole_and_again() {
    check("0123456789", &get(""), WHOLE, None);
    check("0123456789", &get("").repeat(3), &WHOLE.repeat(3), None);
}

#[test]
fn a_range() {
    let expected = "HTTP/1.1 206 Partial Content\r\nCache-Control: private, no-transform\r\n\
         Accept-Ranges: bytes\r\nContent-Type: audio/mpeg\r\nContent-Length: 4\r\n\
         Content-Range: bytes 2-5/10\r\n\r\n2345";
    check("0123456789", &get("Range: bytes=2-5\r\n"), expected, None);
}

#[test]
fn several_ranges() {
    let line = format!("{:032x}", 1);
    let part = |range: &str, content: &str| {
        format!(
            "--{line}\r\nContent-Type: audio/mpeg\r\nContent-Range: bytes {range}/10\r\n\r\n{content}\r\n"
        )
    };
    let content = part("0-3", "0123") + &part("9-9", "9") + &format!("--{line}--\r\n");
    let expected = format!(
        "HTTP/1.1 206 Partial Content\r\nCache-Control: private, no-transform\r\nAccept-Ranges: bytes\r\n\
         Content-Type: multipart/byteranges; boundary={line}\r\nContent-Length: {}\r\n\r\n{content}",
        content.len()
    );
    check(
        "0123456789",
        &get("Range: bytes=0-3,-1\r\n"),
        &expected,
        None,
    );
}

#[test]
fn head_has_no_content() {
    let request = get("Range: bytes=2-5\r\n").replace("GET", "HEAD") + &get("");
    let head = WHOLE.strip_suffix("0123456789").unwrap();
    check("0123456789", &request, &format!("{head}{WHOLE}"), None);
}

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
fn unknown_length() {
    let mut peer = Peer::new("01234");
    peer.length = None;
    peer.receive(get("Range: bytes=2-\r\n").as_bytes());
    let head = "HTTP/1.1 200 OK\r\nCache-Control: private, no-transform\r\nAccept-Ranges: none\r\n\
                Content-Type: audio/mpeg\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(
        peer.answers(),
        format!("{head}3\r\n012\r\n2\r\n34\r\n0\r\n\r\n")
    );
    let mut peer = Peer::new("01234");
    peer.length = None;
    let end = peer.receive(get("Connection: close\r\n").as_bytes());
    assert!(peer.answers().ends_with("\r\n\r\n01234"));
    assert_eq!(end, Some(CloseReason::Finished));
    let mut peer = Peer::new("01234");
    peer.length = None;
    peer.receive(get("Connection: close\r\nRange: bytes=1-\r\n").as_bytes());
    assert!(peer.answers().starts_with("HTTP/1.1 416 "));
    assert!(!peer.answers().contains("Content-Range"));
}

#[test]
fn a_failing_source_is_an_honest_500_or_a_cut() {
    for (length, fails_at, status, cut) in [
        (Some(10), 0, "500 Internal Server Error", false),
        (Some(10), 3, "200 OK", true),
        (None, 0, "500 Internal Server Error", false),
        (None, 3, "200 OK", true),
        // It ends before its length.
        (Some(13), 13, "200 OK", true),
    ] {
        let mut peer = Peer::new("0123456789");
        peer.length = length;
        peer.fails_at = Some(fails_at);
        let end = peer.receive(get("").repeat(2).as_bytes());
        assert!(
            peer.answers().starts_with(&format!("HTTP/1.1 {status}")),
            "{fails_at}"
        );
        assert_eq!(end, cut.then_some(CloseReason::SourceFailed), "{fails_at}");
        if cut {
            assert_eq!(
                peer.answers().matches("HTTP/1.1").count(),
                1,
                "nothing comes behind it"
            );
            assert!(!peer.answers().contains("\r\n0\r\n\r\n"), "no last chunk");
        }
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
fn strangers_have_one_deadline_for_all_they_send() {
    let mut peer = Peer::new("");
    let head = peer.connection.config.head_timeout;
    let stranger = get("").replace("Bearer t", "Bearer x");
    peer.now.instant += head / 2;
    assert_eq!(peer.receive(stranger.as_bytes()), None);
    peer.now.instant += head / 2;
    assert_eq!(peer.receive(b"GET /"), None);
    peer.connection.handle_timeout(peer.now);
    peer.receive(b"");
    assert!(
        peer.answers()
            .contains("HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n")
    );
}

#[test]
fn paired_peers_have_a_deadline_for_each_thing() {
    let mut peer = Peer::new("0123456789");
    let ServerConfig {
        head_timeout,
        idle_timeout,
        linger_timeout,
        ..
    } = peer.connection.config;
    assert_eq!(peer.receive(get("").as_bytes()), None);
    assert_eq!(
        peer.connection.poll_timeout(),
        Some((Deadline::Idle, peer.now.instant + idle_timeout))
    );
    peer.wait(idle_timeout - Duration::from_millis(1));
    assert_eq!(peer.receive(b"GET"), None);
    assert_eq!(
        peer.connection.poll_timeout(),
        Some((Deadline::Head, peer.now.instant + head_timeout))
    );
    let armed = peer.connection.poll_timeout();
    peer.now.instant += Duration::from_secs(1);
    assert_eq!(peer.receive(b" /"), None);
    assert_eq!(peer.connection.poll_timeout(), armed, "not per read");
    peer.wait(head_timeout);
    assert_eq!(peer.receive(b""), None);
    assert!(peer.answers().contains("HTTP/1.1 408"));
    assert_eq!(
        peer.connection.poll_timeout(),
        Some((Deadline::Linger, peer.now.instant + linger_timeout))
    );
    peer.wait(linger_timeout);
    let reason = CloseReason::TimedOut(Deadline::Head);
    assert_eq!(peer.connection.poll_output(), Output::Close { reason });
}

#[test]
fn a_suspended_phone_is_not_a_failed_peer() {
    let mut peer = Peer::new("0123456789");
    assert_eq!(peer.receive(get("").as_bytes()), None);
    peer.wait(Duration::from_secs(8 * 60 * 60));
    assert_eq!(peer.connection.poll_output(), Output::Receive);
    assert_eq!(peer.receive(get("").as_bytes()), None);
    assert_eq!(peer.answers(), WHOLE.repeat(2));
}

/// Whatever is waited for when the phone is put away: the time for it begins again once it is back,
/// and ends as it would have.
#[test]
fn each_deadline_survives_a_suspension() {
    type Scene = (&'static str, Deadline, fn(&mut Peer));
    let scenes: [Scene; 6] = [
        ("a stranger, silent", Deadline::Head, |_| {}),
        ("a stranger's head", Deadline::Head, |peer| {
            assert_eq!(peer.receive(b"GET /tr"), None);
        }),
        ("a later head", Deadline::Head, |peer| {
            assert_eq!(peer.receive((get("") + "GET /tr").as_bytes()), None);
        }),
        ("the next request", Deadline::Idle, |peer| {
            assert_eq!(peer.receive(get("").as_bytes()), None);
        }),
        ("content", Deadline::Stall, |peer| {
            let request = get("");
            peer.connection.receive_buffer()[..request.len()].copy_from_slice(request.as_bytes());
            peer.connection.handle_received(peer.now, request.len());
            let granted = Authorization::Granted;
            peer.connection.handle_authorized(peer.now, granted);
            let source = SourceInfo {
                complete_length: Some(10),
                ..SourceInfo::default()
            };
            peer.connection.handle_source(peer.now, Some(source));
        }),
        ("the peer's end", Deadline::Linger, |peer| {
            // Refused, and the rest of it is not read as a request.
            assert_eq!(peer.receive(b"nonsense\r\n\r\n"), None);
        }),
    ];
    for (scene, deadline, begin) in scenes {
        let mut peer = Peer::new("0123456789");
        begin(&mut peer);
        let (armed, at) = peer.connection.poll_timeout().expect(scene);
        assert_eq!(armed, deadline, "{scene}");
        let whole = at.duration_since(peer.now.instant);
        let before = format!("{:?}", peer.connection.poll_output());
        peer.wait(Duration::from_secs(8 * 60 * 60));
        let renewed = Some((deadline, peer.now.instant + whole));
        assert_eq!(peer.connection.poll_timeout(), renewed, "{scene}");
        assert_eq!(format!("{:?}", peer.connection.poll_output()), before);
        peer.wait(whole);
        let end = match peer.receive(b"") {
            // It was told first.
            None => {
                assert!(peer.answers().contains("HTTP/1.1 408"), "{scene}");
                peer.wait(peer.connection.config.linger_timeout);
                peer.receive(b"")
            }
            end => end,
        };
        if deadline == Deadline::Linger {
            // Nothing is to be done any more: it ends for what it was refused for.
            assert!(
                matches!(end, Some(CloseReason::Refused(_))),
                "{scene}: {end:?}"
            );
        } else {
            assert_eq!(end, Some(CloseReason::TimedOut(deadline)), "{scene}");
        }
    }
}

#[test]
fn a_suspended_phone_gives_a_stranger_one_more_deadline_not_one_for_each_request() {
    let mut peer = Peer::new("");
    let head = peer.connection.config.head_timeout;
    let stranger = get("").replace("Bearer t", "Bearer x");
    peer.wait(Duration::from_secs(8 * 60 * 60));
    let renewed = Some((Deadline::Head, peer.now.instant + head));
    assert_eq!(peer.connection.poll_timeout(), renewed);
    peer.now.instant += head / 2;
    assert_eq!(peer.receive(stranger.as_bytes()), None);
    assert_eq!(peer.connection.poll_timeout(), renewed);
    peer.wait(head / 2);
    let reason = CloseReason::TimedOut(Deadline::Head);
    assert_eq!(peer.connection.poll_output(), Output::Close { reason });
}

#[test]
fn a_reader_that_takes_nothing_stalls() {
    let mut peer = Peer::new("0123456789");
    let ServerConfig { stall_timeout, .. } = peer.connection.config;
    let request = get("");
    peer.connection.receive_buffer()[..request.len()].copy_from_slice(request.as_bytes());
    peer.connection.handle_received(peer.now, request.len());
    peer.connection
        .handle_authorized(peer.now, Authorization::Granted);
    assert_eq!(
        peer.connection.poll_timeout(),
        None,
        "the app may take its time"
    );
    let source = SourceInfo {
        complete_length: Some(10),
        ..SourceInfo::default()
    };
    peer.connection.handle_source(peer.now, Some(source));
    peer.wait(stall_timeout - Duration::from_millis(1));
    peer.connection.handle_progress(peer.now);
    peer.wait(stall_timeout - Duration::from_millis(1));
    assert!(matches!(
        peer.connection.poll_output(),
        Output::SendSource { offset: 0, .. }
    ));
    peer.wait(Duration::from_millis(1));
    let reason = CloseReason::TimedOut(Deadline::Stall);
    assert_eq!(peer.connection.poll_output(), Output::Close { reason });
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
fn overload_is_told_to_who_holds_the_token() {
    let mut peer = Peer::new("");
    let request = get("");
    peer.connection.receive_buffer()[..request.len()].copy_from_slice(request.as_bytes());
    peer.connection.handle_received(peer.now, request.len());
    peer.connection
        .handle_authorized(peer.now, Authorization::Overloaded);
    peer.receive(b"");
    assert!(
        peer.answers()
            .starts_with("HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\n")
    );
    assert!(peer.answers().contains("Retry-After: 1\r\n"));
}

#[test]
#[should_panic(expected = "sent more than asked for")]
fn sending_more_than_asked_for_is_a_bug() {
    let mut peer = Peer::new("");
    let request = get("Range: bytes=0-4\r\n");
    peer.connection.receive_buffer()[..request.len()].copy_from_slice(request.as_bytes());
    peer.connection.handle_received(peer.now, request.len());
    peer.connection
        .handle_authorized(peer.now, Authorization::Granted);
    let source = SourceInfo {
        complete_length: Some(10),
        ..SourceInfo::default()
    };
    peer.connection.handle_source(peer.now, Some(source));
    peer.connection.handle_sent(peer.now, 6);
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

/// A connection that lets pages of `https://a` in.
fn for_pages() -> Peer {
    let mut peer = Peer::new("abc");
    let mut origins = AllowedOrigins::default();
    origins.allow("https://a").unwrap();
    peer.connection = peer.connection.with_allowed_origins(origins);
    peer
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
fn a_stream_without_chunks_ends_with_the_connection() {
    for content in ["", "a", "abcdefg"] {
        let mut peer = Peer::new(content);
        peer.length = None;
        let request = "GET /track/a HTTP/1.0\r\nAuthorization: Bearer t\r\n\r\n";
        assert_eq!(
            peer.receive(request.as_bytes()),
            Some(CloseReason::Finished)
        );
        let answers = peer.answers();
        let (head, sent) = answers.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(!head.contains("Content-Length"), "{head}");
        assert_eq!(sent, content);
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

/// The head that a request for `source` is answered with, and whether content follows.
fn head_of(method: &str, fields: &str, source: SourceInfo<'_>) -> (String, bool) {
    let mut peer = Peer::new("");
    let request = get(fields).replacen("GET", method, 1);
    peer.connection.receive_buffer()[..request.len()].copy_from_slice(request.as_bytes());
    peer.connection.handle_received(peer.now, request.len());
    peer.connection
        .handle_authorized(peer.now, Authorization::Granted);
    peer.connection.handle_source(peer.now, Some(source));
    let (head, content) = match peer.connection.poll_output() {
        Output::Send { bytes } => (bytes, false),
        Output::SendSource { prefix, .. } => (prefix, true),
        other => panic!("{other:?}"),
    };
    (String::from_utf8(head.to_vec()).unwrap(), content)
}

#[test]
fn validators_and_types_are_told_to_whom_they_are_news() {
    let modified = peer_proto::HttpDate::parse(b"Sun, 06 Nov 1994 08:49:37 GMT");
    let tag = peer_proto::EntityTag::strong("v").ok();
    let since = "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
    for (fields, tag, status, dated, typed) in [
        ("", tag, 200, true, true),
        ("Range: bytes=0-1\r\n", tag, 206, true, true),
        (
            "Range: bytes=0-1\r\nIf-Range: \"v\"\r\n",
            tag,
            206,
            false,
            false,
        ),
        (
            "Range: bytes=0-1\r\nIf-Range: \"w\"\r\n",
            tag,
            200,
            true,
            true,
        ),
        (
            "Range: bytes=0-1,4-5\r\nIf-Range: \"v\"\r\n",
            tag,
            206,
            true,
            false,
        ),
        ("If-None-Match: \"v\"\r\n", tag, 304, false, false),
        (since, tag, 304, false, false),
        (since, None, 304, true, false),
    ] {
        let source = SourceInfo {
            complete_length: Some(10),
            content_type: Some("audio/mpeg"),
            validators: Validators {
                entity_tag: tag,
                last_modified: modified,
            },
        };
        let (head, content) = head_of("GET", fields, source);
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
        assert_eq!(
            head.contains("\r\nETag: \"v\"\r\n"),
            tag.is_some(),
            "{head}"
        );
        let date = "\r\nLast-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
        assert_eq!(head.contains(date), dated, "{fields}{head}");
        let (own, _parts) = head.split_once("\r\n\r\n").unwrap();
        assert_eq!(
            own.contains("\r\nContent-Type: audio/mpeg"),
            typed,
            "{head}"
        );
        assert_eq!(content, status != 304);
        assert!(!head_of("HEAD", fields, source).1);
    }
}

#[test]
fn what_is_no_media_type_is_not_passed_on() {
    let longest = "a".repeat(255);
    let longer = longest.clone() + "a";
    for (content_type, expected) in [
        (Some("audio/mpeg"), "audio/mpeg"),
        (Some(&*longest), &*longest),
        (Some(&*longer), "application/octet-stream"),
        (Some("a\r\nX: y"), "application/octet-stream"),
        (None, "application/octet-stream"),
    ] {
        let source = SourceInfo {
            complete_length: None,
            content_type,
            ..SourceInfo::default()
        };
        let (head, content) = head_of("GET", "", source);
        assert!(
            head.contains(&format!("\r\nContent-Type: {expected}\r\n")),
            "{head}"
        );
        assert!(content);
        let (head, content) = head_of("HEAD", "", source);
        assert!(head.ends_with("\r\n\r\n") && !content, "{head}");
    }
}

#[test]
fn an_app_that_fails_before_there_is_a_source_is_a_500() {
    let mut peer = Peer::new("abc");
    let request = get("");
    peer.connection.receive_buffer()[..request.len()].copy_from_slice(request.as_bytes());
    peer.connection.handle_received(peer.now, request.len());
    peer.connection
        .handle_authorized(peer.now, Authorization::Granted);
    peer.connection.handle_source_failed(peer.now);
    assert_eq!(peer.receive(b""), None);
    let answers = peer.answers();
    assert!(answers.starts_with("HTTP/1.1 500 "), "{answers}");
    // And when it is over, it is over for the reason that there was.
    peer.connection.handle_eof(peer.now);
    let over = format!("{:?}", peer.connection.poll_output());
    assert!(over.starts_with("Close"), "{over}");
    peer.connection.handle_source_failed(peer.now);
    assert_eq!(format!("{:?}", peer.connection.poll_output()), over);
}

#[test]
#[cfg(debug_assertions)]
#[should_panic(expected = "not asked for")]
fn progress_where_nothing_is_sent_is_a_bug() {
    let mut peer = Peer::new("");
    peer.connection.handle_progress(peer.now);
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
fn parts_whose_length_cannot_be_said_are_answered_with_the_whole() {
    let mut peer = Peer::new("");
    peer.length = Some(u64::MAX);
    let most = u64::MAX - 2;
    let request = get(&format!("Range: bytes=0-{},{most}-{most}\r\n", most - 200));
    peer.connection.receive_buffer()[..request.len()].copy_from_slice(request.as_bytes());
    peer.connection.handle_received(peer.now, request.len());
    peer.connection
        .handle_authorized(peer.now, Authorization::Granted);
    let source = SourceInfo {
        complete_length: peer.length,
        ..SourceInfo::default()
    };
    peer.connection.handle_source(peer.now, Some(source));
    assert_eq!(peer.connection.status(), Some(Status::Ok));
    assert!(matches!(
        peer.connection.poll_output(),
        Output::SendSource {
            offset: 0,
            len: Some(u64::MAX),
            ..
        }
    ));
}

#[test]
fn of_two_ranges_neither_counts() {
    let mut peer = Peer::new("abc");
    peer.receive(get("Range: bytes=0-0\r\nRange: bytes=1-1\r\n").as_bytes());
    assert!(peer.answers().starts_with("HTTP/1.1 200 OK\r\n"));
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
fn a_clock_that_http_cannot_tell_tells_no_date() {
    for (is_told, date) in [(true, Peer::new("").now.date), (false, None)] {
        let mut peer = Peer::new("abc");
        peer.now.date = date;
        peer.receive(get("").as_bytes());
        let sent = String::from_utf8_lossy(&peer.sent);
        assert!(sent.starts_with("HTTP/1.1 200 OK\r\n"), "{sent}");
        assert_eq!(sent.contains("\r\nDate: "), is_told, "{sent}");
    }
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
