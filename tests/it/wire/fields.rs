//! RFC 9110 §5, RFC 9112 §5: field lines, and how many of them are read.

use super::*;

/// A GET of the letters with `lines` between the Host and the token.
fn with(lines: &[&str]) -> Vec<u8> {
    let mut all = vec!["GET /track/letters HTTP/1.1", HOST];
    all.extend_from_slice(lines);
    all.push(AUTH);
    head(&all)
}

#[test]
fn lines_taken() {
    run_table(&[
        stays(
            "an unknown field",
            with(&["X-Unknown: anything"]),
            letters(),
        ),
        stays("an empty value", with(&["X-Empty:"]), letters()),
        stays("a value of white space", with(&["X-Empty: \t "]), letters()),
        stays("no space after the colon", with(&["X-A:b"]), letters()),
        stays("white space around", with(&["X-A:\t  b \t"]), letters()),
        stays("tab inside", with(&["X-A: b\tc"]), letters()),
        stays("colons in the value", with(&["X-A: b:c: d"]), letters()),
        stays(
            "quotes in the value",
            with(&["X-A: \"b\\\"c\", (d)"]),
            letters(),
        ),
        stays("an unclosed quote", with(&["X-A: \"b"]), letters()),
        stays("UTF-8 in the value", with(&["X-A: größe 🎵"]), letters()),
        stays(
            "every tchar in the name",
            with(&["!#$%&'*+-.^_`|~09azAZ: b"]),
            letters(),
        ),
        stays("a field twice", with(&["X-A: b", "X-A: c"]), letters()),
        stays(
            "a field of 8000 bytes",
            with(&[&format!("X-A: {}", "b".repeat(8000))]),
            letters(),
        ),
        stays(
            "a name of 8000 bytes",
            with(&[&format!("{}: b", "X".repeat(8000))]),
            letters(),
        ),
        stays("Range in capitals", with(&["RANGE: bytes=1-2"]), part(1, 2)),
        stays(
            "Range in small letters",
            with(&["range:bytes=1-2"]),
            part(1, 2),
        ),
        stays(
            "Range in white space",
            with(&["Range: \t bytes=1-2 \t "]),
            part(1, 2),
        ),
        stays(
            "a longer name is another field",
            with(&["XRange: bytes=1-2", "Range-X: bytes=1-2"]),
            letters(),
        ),
        stays(
            "an underscore is no hyphen",
            with(&["If_None_Match: \"letters-1\""]),
            letters(),
        ),
        stays(
            "fields of browsers",
            with(&[
                "Accept: */*",
                "Accept-Encoding: identity;q=1, *;q=0",
                "Accept-Language: de-DE,de;q=0.9",
                "Sec-Fetch-Dest: audio",
                "Sec-Fetch-Mode: no-cors",
                "Referer: http://peer.test/",
                "DNT: 1",
                "User-Agent: Mozilla/5.0 (X11; Linux x86_64)",
                "Cache-Control: no-cache",
                "Pragma: no-cache",
                "Priority: u=4, i",
                "Range: bytes=0-",
            ]),
            part(0, 25),
        ),
        stays(
            "fields of ffmpeg",
            with(&[
                "User-Agent: Lavf/60.16.100",
                "Accept: */*",
                "Range: bytes=3-",
                "Icy-MetaData: 1",
            ]),
            part(3, 25),
        ),
        stays(
            "Accept that allows nothing",
            with(&["Accept: text/x-nothing"]),
            letters(),
        ),
        stays(
            "identity refused",
            with(&["Accept-Encoding: gzip, identity;q=0"]),
            answer_in(&[200]),
        ),
        stays(
            "TE",
            with(&["TE: trailers, deflate;q=0.5", "Connection: TE"]),
            letters(),
        ),
        stays(
            "Upgrade is not taken up",
            with(&[
                "Upgrade: h2c",
                "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
                "Connection: Upgrade, HTTP2-Settings",
            ]),
            letters().lacks("Upgrade"),
        ),
        stays(
            "Upgrade to websocket",
            with(&[
                "Upgrade: websocket",
                "Connection: Upgrade",
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
                "Sec-WebSocket-Version: 13",
            ]),
            letters(),
        ),
        stays(
            "Cookie",
            with(&["Cookie: a=b; c=d"]),
            letters().lacks("Set-Cookie"),
        ),
        stays(
            "Origin",
            with(&["Origin: http://evil.test"]),
            letters().lacks("Access-Control-Allow-Origin"),
        ),
        stays(
            "Forwarded",
            with(&[
                "Forwarded: for=192.0.2.1",
                "X-Forwarded-For: 192.0.2.1",
                "Via: 1.1 proxy",
            ]),
            letters(),
        ),
        stays(
            "method override",
            with(&["X-HTTP-Method-Override: DELETE"]),
            letters(),
        ),
        stays("Max-Forwards", with(&["Max-Forwards: 0"]), letters()),
        stays(
            "Prefer and Want-Digest",
            with(&["Prefer: wait=1", "Want-Digest: sha-256"]),
            letters(),
        ),
    ]);
}

#[test]
fn lines_refused() {
    let mut rows = Vec::new();
    for (name, lines) in [
        ("space before the colon", &["X-A : b"][..]),
        ("tab before the colon", &["X-A\t: b"]),
        ("space before the colon of Range", &["Range : bytes=1-2"]),
        (
            "space before the colon of Content-Length",
            &["Content-Length : 0"],
        ),
        (
            "space before the colon of Authorization",
            &["Authorization : Bearer secret"],
        ),
        ("no name", &[": b"]),
        ("a space for a name", &[" : b"]),
        ("no colon", &["X-A"]),
        ("no colon, a value", &["X-A b"]),
        ("an equals sign", &["X-A=b"]),
        ("obs-fold with a space", &["X-A: b", " c"]),
        ("obs-fold with a tab", &["X-A: b", "\tc"]),
        ("obs-fold of nothing", &["X-A:", " "]),
        ("obs-fold of Range", &["Range:", " bytes=1-2"]),
        (
            "obs-fold that looks like a field",
            &["X-A: b", " Range: bytes=1-2"],
        ),
        ("space in the name", &["X A: b"]),
        ("a comment", &["# X-A: b"]),
        ("a second request-line", &["GET /track/probe HTTP/1.1"]),
        ("a quoted name", &["\"X-A\": b"]),
        ("a name in brackets", &["[X-A]: b"]),
        ("UTF-8 in the name", &["X-Größe: b"]),
    ] {
        rows.push(refused(name, with(lines)));
    }
    // RFC 9112 §2.2: no white space between the request-line and the first field line.
    for (name, white) in [("space", " "), ("tab", "\t"), ("spaces", "   ")] {
        let bytes = format!("GET /track/letters HTTP/1.1\r\n{white}{HOST}\r\n{AUTH}\r\n\r\n");
        rows.push(refused(
            format!("{name} before the first field line"),
            bytes.into_bytes(),
        ));
        let bytes = format!("GET /track/letters HTTP/1.1\r\n{white}\r\n{HOST}\r\n{AUTH}\r\n\r\n");
        rows.push(refused(
            format!("a line of {name} first"),
            bytes.into_bytes(),
        ));
    }
    for (name, bytes) in [
        (
            "bare LF behind a field",
            "GET /track/letters HTTP/1.1\r\nHost: peer.test\nX-A: b\r\n\
             Authorization: Bearer secret\r\n\r\n",
        ),
        (
            "bare LF ends the head",
            "GET /track/letters HTTP/1.1\r\nHost: peer.test\r\nAuthorization: Bearer secret\r\n\n",
        ),
        (
            "LF LF ends the head",
            "GET /track/letters HTTP/1.1\r\nHost: peer.test\r\nAuthorization: Bearer secret\n\n",
        ),
        (
            "LF CRLF ends the head",
            "GET /track/letters HTTP/1.1\r\nHost: peer.test\r\nAuthorization: Bearer secret\n\r\n",
        ),
        (
            "CR CR LF behind a field",
            "GET /track/letters HTTP/1.1\r\nHost: peer.test\r\r\n\
             Authorization: Bearer secret\r\n\r\n",
        ),
        (
            "bare CR as a line end",
            "GET /track/letters HTTP/1.1\r\nHost: peer.test\rX-A: b\r\n\
             Authorization: Bearer secret\r\n\r\n",
        ),
        (
            "CR before the name",
            "GET /track/letters HTTP/1.1\r\n\rHost: peer.test\r\n\
             Authorization: Bearer secret\r\n\r\n",
        ),
        (
            "CR CR ends the head",
            "GET /track/letters HTTP/1.1\r\nHost: peer.test\r\n\
             Authorization: Bearer secret\r\n\r\r\n\r\n",
        ),
    ] {
        rows.push(refused(name, bytes.as_bytes().to_vec()));
    }
    run_table(&rows);
}

#[test]
fn every_byte_in_a_value() {
    // RFC 9110 §5.5: CR, LF and NUL are refused; so are the other controls, which no peer of ours
    // has a use for; obs-text is opaque.
    let rows: Vec<Row> = (0..=0xff_u8)
        .filter(|b| !b"\r\n".contains(b))
        .map(|b| {
            let line = [&b"X-A: b"[..], &[b], b"c"].concat();
            let name = format!("{b:#04x}");
            if b == b'\t' || (b >= 0x20 && b != 0x7f) {
                stays(name, with_field_bytes(&line), letters())
            } else {
                refused(name, with_field_bytes(&line))
            }
        })
        .collect();
    run_table(&rows);
}

#[test]
fn every_byte_in_a_name() {
    let rows: Vec<Row> = (0..=0xff_u8)
        .filter(|b| !b"\r\n:".contains(b))
        .map(|b| {
            let line = [&b"X"[..], &[b], b"A: b"].concat();
            let name = format!("{b:#04x}");
            if is_tchar(b) {
                stays(name, with_field_bytes(&line), letters())
            } else {
                refused(name, with_field_bytes(&line))
            }
        })
        .collect();
    run_table(&rows);
}

#[test]
fn limits() {
    let lines = |n: usize| {
        let more: Vec<String> = (0..n - 2).map(|i| format!("X-{i}: b")).collect();
        with(&more.iter().map(String::as_str).collect::<Vec<_>>())
    };
    // A whole head of exactly `n` bytes, the empty line included.
    let head_of = |n: usize| {
        let frame = with(&["X-A: "]).len();
        let bytes = with(&[&format!("X-A: {}", "b".repeat(n - frame))]);
        assert_eq!(bytes.len(), n);
        bytes
    };
    let many_short = |n: usize| {
        let mut bytes = b"GET /track/letters HTTP/1.1\r\n".to_vec();
        bytes.extend(b"a:b\r\n".repeat(n));
        bytes
    };
    let unended = |n: usize| {
        let mut bytes =
            format!("GET /track/letters HTTP/1.1\r\n{HOST}\r\n{AUTH}\r\nX-A: ").into_bytes();
        bytes.resize(n, b'b');
        bytes
    };
    run_table(&[
        stays("63 lines", lines(63), letters()),
        stays("64 lines", lines(64), letters()),
        ends("65 lines", lines(65), answer(431)),
        ends("66 lines", lines(66), answer(431)),
        ends("500 lines", lines(500), answer(431)),
        stays("a head of 16000 bytes", head_of(16_000), letters()),
        stays("a head of 16383 bytes", head_of(16_383), letters()),
        stays("a head of 16384 bytes", head_of(16_384), letters()),
        ends("a head of 16385 bytes", head_of(16_385), answer(431)),
        ends("a head of 17000 bytes", head_of(17_000), answer(431)),
        ends("a head of 64 KiB", head_of(65_536), answer(431)),
        ends("a head of 900 kB", head_of(900_000), answer(431)),
        // No answer waits for the end of a head that need not have one.
        ends("20000 bytes without end", unended(20_000), answer(431)),
        ends("65 lines without end", many_short(66), answer(431)),
        ends("5000 lines without end", many_short(5000), answer(431)),
        ends(
            "a name without end",
            [
                b"GET /track/letters HTTP/1.1\r\n".to_vec(),
                vec![b'X'; 20_000],
            ]
            .concat(),
            answer_in(&[400, 431]),
        ),
        ends(
            "too large without a token",
            head(&[
                "GET /track/letters HTTP/1.1",
                HOST,
                &format!("X-A: {}", "b".repeat(20_000)),
            ]),
            answer(431),
        ),
        Row::new(
            "the limit is per head",
            joined(&[&head_of(16_384), &head_of(16_384), &lines(64)]),
            vec![letters(), letters(), letters()],
            Then::Stays,
        ),
    ]);
}

#[test]
fn singletons_sent_twice() {
    // RFC 9110 §5.3: a recipient may not combine what is no list; what cannot be understood is
    // ignored, and the whole representation is always a right answer.
    let date = format!("If-Modified-Since: {LETTERS_DATE_TEXT}");
    let since = "If-Unmodified-Since: Mon, 01 Jan 2018 00:00:00 GMT";
    run_table(&[
        stays(
            "Range, different",
            with(&["Range: bytes=0-1", "Range: bytes=3-4"]),
            letters(),
        ),
        stays(
            "Range, equal",
            with(&["Range: bytes=0-1", "Range: bytes=0-1"]),
            letters(),
        ),
        stays(
            "Range, one unknown",
            with(&["Range: lines=0-1", "Range: bytes=0-1"]),
            letters(),
        ),
        stays(
            "Range, apart",
            with(&["Range: bytes=0-1", "Accept: */*", "RANGE: bytes=3-4"]),
            letters(),
        ),
        stays(
            "Range, unsatisfiable",
            with(&["Range: bytes=90-", "Range: bytes=90-"]),
            letters(),
        ),
        stays(
            "If-Range, equal",
            with(&[
                "Range: bytes=0-1",
                "If-Range: \"letters-1\"",
                "If-Range: \"letters-1\"",
            ]),
            letters(),
        ),
        stays(
            "If-Range, different",
            with(&[
                "Range: bytes=0-1",
                "If-Range: \"x\"",
                "If-Range: \"letters-1\"",
            ]),
            letters(),
        ),
        stays("If-Modified-Since", with(&[&date, &date]), letters()),
        stays("If-Unmodified-Since", with(&[since, since]), letters()),
    ]);
}
