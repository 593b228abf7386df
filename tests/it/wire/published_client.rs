//! The published client, byte for byte as it is documented: HTTP/1.1 with Host, Authorization,
//! Range (always) and Connection: close; it reads by Content-Length or to the end of the
//! connection, and knows neither chunks nor interim responses.

use super::*;

/// What the published client makes of an answer: status and content.
///
/// It reads everything to the end of the connection first, so whatever a server sends too much,
/// or frames in a way it does not know, is in its hands as content.
fn published_fetch(addr: SocketAddr, handle: &str, range: &str) -> (u16, String, Vec<u8>) {
    let bytes = format!(
        "GET /track/{handle} HTTP/1.1\r\nHost: {addr}\r\nAuthorization: Bearer {TOKEN}\r\n\
         Range: {range}\r\nConnection: close\r\n\r\n"
    );
    let mut peer = RawPeer::connect(addr).unwrap();
    peer.send(bytes.as_bytes()).unwrap();
    let (all, end) = peer.read_to_end().unwrap();
    assert_eq!(end, End::Closed, "{handle} {range}");
    let at = peer_tests::raw::find(&all, b"\r\n\r\n").unwrap();
    let head = String::from_utf8(all[..at].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let mut content = all[at + 4..].to_vec();
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse::<usize>().unwrap())
    });
    if let Some(length) = length {
        assert_eq!(content.len(), length, "{handle} {range}");
        content.truncate(length);
    }
    (status, head.to_ascii_lowercase(), content)
}

#[test]
fn fetches_every_kind_of_source() {
    let server = start();
    let addr = server.local_addr();
    let unknown = patterned(0, UNKNOWN as usize);
    let big = patterned(0, BIG as usize);
    for (handle, range, status, content) in [
        ("letters", "bytes=0-", 206, LETTERS),
        ("letters", "bytes=0-25", 206, LETTERS),
        ("letters", "bytes=0-0", 206, b"a"),
        ("letters", "bytes=5-9", 206, b"fghij"),
        ("letters", "bytes=20-", 206, b"uvwxyz"),
        ("letters", "bytes=20-99", 206, b"uvwxyz"),
        ("plain", "bytes=0-", 206, LETTERS),
        ("bare", "bytes=0-", 206, LETTERS),
        ("one", "bytes=0-", 206, b"x"),
        ("one", "bytes=0-0", 206, b"x"),
        ("big", "bytes=0-", 206, &big),
        (
            "big",
            "bytes=1048576-2097151",
            206,
            &big[1_048_576..2_097_152],
        ),
        // The published server answers these with 416; ours has what was asked for: nothing.
        ("empty", "bytes=0-", 200, b""),
        ("empty", "bytes=0-0", 200, b""),
        ("unknown", "bytes=0-", 200, &unknown),
        ("unknown", "bytes=0-0", 200, &unknown),
        ("unknown", "bytes=0-99", 200, &unknown),
        ("unknown-empty", "bytes=0-", 200, b""),
        ("a%20b", "bytes=0-", 206, b"a b"),
        ("a%2Fb%2Fc", "bytes=0-", 206, b"a/b/c"),
        ("%C3%BCn%C3%AFcode", "bytes=0-", 206, "ünïcode".as_bytes()),
        (
            "%E6%97%A5%E6%9C%AC%E8%AA%9E",
            "bytes=0-",
            206,
            "日本語".as_bytes(),
        ),
        ("%F0%9F%8E%B5", "bytes=0-3", 206, "🎵".as_bytes()),
        ("50%25", "bytes=0-", 206, b"50%"),
        ("..", "bytes=0-", 206, b".."),
        ("%2Fslash%20first", "bytes=0-", 206, b"/slash first"),
        (
            "~tilde_under-score.dot",
            "bytes=0-",
            206,
            b"~tilde_under-score.dot",
        ),
    ] {
        let (got, head, bytes) = published_fetch(addr, handle, range);
        assert_eq!(got, status, "{handle} {range}");
        assert!(bytes == content, "{handle} {range}: {}", show(&bytes));
        assert!(
            !head.contains("transfer-encoding"),
            "{handle} {range}: {head}"
        );
        assert!(
            head.contains("connection: close"),
            "{handle} {range}: {head}"
        );
        assert_eq!(
            head.contains("content-range: bytes "),
            status == 206,
            "{handle} {range}: {head}"
        );
    }
}

#[test]
fn is_refused_as_it_expects() {
    let server = start();
    let addr = server.local_addr();
    for (handle, range, status) in [
        ("nothing", "bytes=0-", 404),
        ("letters%20%20", "bytes=0-", 404),
        ("letters", "bytes=26-", 416),
        ("letters", "bytes=99-100", 416),
        ("unknown", "bytes=1-", 416),
        ("unknown", "bytes=5-9", 416),
        ("unknown", "bytes=99999999-", 416),
    ] {
        let (got, head, _) = published_fetch(addr, handle, range);
        assert_eq!(got, status, "{handle} {range}");
        assert!(
            head.contains("connection: close"),
            "{handle} {range}: {head}"
        );
        let told = handle == "letters";
        assert_eq!(
            head.contains("content-range:"),
            told,
            "{handle} {range}: {head}"
        );
    }
}

#[test]
fn finds_the_length_by_a_range() {
    // However it asks, the complete length is in Content-Range, or there is nothing to tell.
    let server = start();
    let addr = server.local_addr();
    for (handle, range, told) in [
        ("letters", "bytes=0-0", Some("content-range: bytes 0-0/26")),
        ("letters", "bytes=0-", Some("content-range: bytes 0-25/26")),
        (
            "huge",
            "bytes=0-0",
            Some("content-range: bytes 0-0/5497558138880"),
        ),
        (
            "max",
            "bytes=0-0",
            Some("content-range: bytes 0-0/18446744073709551615"),
        ),
        ("empty", "bytes=0-0", Some("content-length: 0")),
        ("unknown", "bytes=0-0", None),
    ] {
        let (_, head, _) = published_fetch(addr, handle, range);
        match told {
            Some(line) => assert!(head.lines().any(|l| l == line), "{handle} {range}: {head}"),
            None => assert!(
                !head.contains("content-length:"),
                "{handle} {range}: {head}"
            ),
        }
    }
}

#[test]
fn rows() {
    // The same requests as rows: in one write, with a request behind them, byte by byte.
    let asked = |handle: &str, range: &str| {
        format!(
            "GET /track/{handle} HTTP/1.1\r\nHost: 127.0.0.1:4711\r\nAuthorization: Bearer secret\r\n\
             Range: {range}\r\nConnection: close\r\n\r\n"
        )
        .into_bytes()
    };
    let of_unknown = || ok(&patterned(0, UNKNOWN as usize)).lacks("Transfer-Encoding");
    let stranger = |line: &str| {
        let lines = [
            "GET /track/letters HTTP/1.1",
            "Host: 127.0.0.1:4711",
            line,
            "Range: bytes=0-",
            "Connection: close",
        ];
        head(&lines)
    };
    run_table(&[
        ends("whole", asked("letters", "bytes=0-"), part(0, 25)),
        ends("from 3", asked("letters", "bytes=3-"), part(3, 25)),
        ends("3 to 5", asked("letters", "bytes=3-5"), part(3, 5)),
        ends("first byte", asked("letters", "bytes=0-0"), part(0, 0)),
        ends("last byte", asked("letters", "bytes=25-25"), part(25, 25)),
        ends(
            "past the end",
            asked("letters", "bytes=26-"),
            unsatisfiable(),
        ),
        ends(
            "empty",
            asked("empty", "bytes=0-"),
            ok(b"").has("Content-Length", "0"),
        ),
        ends("unknown length", asked("unknown", "bytes=0-"), of_unknown()),
        ends(
            "unknown length, not from 0",
            asked("unknown", "bytes=1-"),
            answer(416).lacks("Content-Range"),
        ),
        ends("unknown handle", asked("nothing", "bytes=0-"), answer(404)),
        ends(
            "wrong token",
            stranger("Authorization: Bearer wrong"),
            answer(401),
        ),
        ends(
            "token of another case",
            stranger("Authorization: Bearer SECRET"),
            answer(401),
        ),
    ]);
}
