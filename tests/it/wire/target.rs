//! RFC 9112 §3.2, RFC 9110 §4.2, §7.1, RFC 3986: the request-target and the handle in it.

use super::*;

/// Everything but the unreserved characters encoded, as the documented client does it.
fn encoded(handle: &str) -> String {
    handle
        .bytes()
        .map(|b| match b {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                (b as char).to_string()
            }
            _ => format!("%{b:02X}"),
        })
        .collect()
}

#[test]
fn odd_handles() {
    let mut rows = Vec::new();
    for handle in ODD_HANDLES {
        let upper = encoded(handle);
        let own = || ok(handle.as_bytes());
        rows.push(stays(format!("{handle:?}"), get(&upper, &[]), own()));
        rows.push(stays(
            format!("{handle:?}, lower-case digits"),
            get(
                &upper
                    .replace("%C", "%c")
                    .replace("%B", "%b")
                    .replace("%2F", "%2f"),
                &[],
            ),
            own(),
        ));
        // RFC 3986 §2.3: an encoded unreserved character is the character itself.
        let all: String = handle.bytes().map(|b| format!("%{b:02x}")).collect();
        rows.push(stays(
            format!("{handle:?}, all encoded"),
            get(&all, &[]),
            own(),
        ));
    }
    run_table(&rows);
}

#[test]
fn slashes_and_dots() {
    run_table(&[
        stays("plain slashes", get("a/b/c", &[]), ok(b"a/b/c")),
        stays("encoded slashes", get("a%2Fb%2fc", &[]), ok(b"a/b/c")),
        stays("both", get("a/b%2Fc", &[]), ok(b"a/b/c")),
        stays("two slashes", get("a//b", &[]), ok(b"a//b")),
        stays("two encoded slashes", get("a%2F%2Fb", &[]), ok(b"a//b")),
        stays(
            "slash first",
            get("/slash%20first", &[]),
            ok(b"/slash first"),
        ),
        stays("slash last", get("slash%20last/", &[]), ok(b"slash last/")),
        stays(
            "slash last, encoded",
            get("slash%20last%2F", &[]),
            ok(b"slash last/"),
        ),
        stays("a slash behind a handle", get("letters/", &[]), answer(404)),
        stays("a slash before a handle", get("/letters", &[]), answer(404)),
        // Dot segments are part of the handle, never a path to walk.
        stays("dot", get(".", &[]), ok(b".")),
        stays("dot dot", get("..", &[]), ok(b"..")),
        stays(
            "up to the letters",
            get("../letters", &[]),
            ok(b"../letters"),
        ),
        stays(
            "up, encoded",
            get("%2e%2e%2Fletters", &[]),
            ok(b"../letters"),
        ),
        stays("dots inside", get("dots/../up", &[]), ok(b"dots/../up")),
        stays("here", get("./here", &[]), ok(b"./here")),
        stays(
            "dots that would lead to the letters",
            get("x/../letters", &[]),
            answer(404),
        ),
        stays(
            "dot that would lead to the letters",
            get("./letters", &[]),
            answer(404),
        ),
        stays("dots behind", get("letters/..", &[]), answer(404)),
        stays(
            "out of the prefix and in",
            with_line("GET /x/../track/letters HTTP/1.1"),
            answer(404),
        ),
        stays(
            "out to the root",
            with_line("GET /../track/letters HTTP/1.1"),
            answer(404),
        ),
        stays(
            "out of everything",
            get("../../../../etc/passwd", &[]),
            answer(404),
        ),
        stays(
            "out, encoded",
            get("..%2f..%2f..%2fetc%2fpasswd", &[]),
            answer(404),
        ),
        stays(
            "out, encoded twice",
            get("%252e%252e%252fletters", &[]),
            answer(404),
        ),
        stays("encoded once more", get("%2541", &[]), ok(b"%41")),
        stays(
            "backslashes, encoded",
            get("%5Cwindows%5Cpath", &[]),
            ok(b"\\windows\\path"),
        ),
    ]);
}

#[test]
fn paths() {
    let rows: Vec<Row> = [
        "/",
        "//",
        "/track",
        "/track/",
        "/track?letters",
        "/tracks/letters",
        "/Track/letters",
        "/TRACK/letters",
        "/trac/letters",
        "/track//letters",
        "//track/letters",
        "/letters",
        "/track/nothing",
        "/track/letters%20%20",
        "/track/%20%20letters",
        "/track/letter",
        "/track/letterss",
        "/track/Letters",
        "/index.html",
        "/favicon.ico",
        "/track/%EF%BB%BFletters",
        "/a/track/letters",
        "/?/track/letters",
        "/track;x/letters",
        "/track%2Fnothing",
    ]
    .into_iter()
    .map(|path| {
        stays(
            path,
            with_line(&format!("GET {path} HTTP/1.1")),
            answer(404),
        )
    })
    .collect();
    run_table(&rows);
}

#[test]
fn percent_encoding() {
    let mut rows = Vec::new();
    for bad in [
        "%", "%4", "%zz", "%4z", "%z4", "%%41", "% 41", "%-1", "%+1", "%0x", "%u0041", "a%", "a%2",
    ] {
        // A space makes it another malformed request-line; the answer is the same.
        rows.push(either(format!("handle {bad}"), get(bad, &[]), answer(400)));
    }
    for bad in ["%", "%4", "%zz", "%4z"] {
        let path = format!("letters?q={bad}");
        rows.push(either(format!("query {bad}"), get(&path, &[]), answer(400)));
    }
    // Valid encoding of bytes that are not UTF-8: no handle can be that.
    for not_utf8 in [
        "%FF",
        "%80",
        "%C3",
        "%C3%28",
        "%E2%82",
        "%C0%AF",
        "%C0%80",
        "%ED%A0%80",
        "%F4%90%80%80",
        "%F8%88%80%80%80",
        "letters%FF",
        "%EF%BF",
        "%E9",
    ] {
        rows.push(stays(
            format!("not UTF-8: {not_utf8}"),
            get(not_utf8, &[]),
            answer(404),
        ));
    }
    rows.extend([
        // Composed and decomposed are two handles.
        stays("composed", get("%C3%A9", &[]), ok("\u{e9}".as_bytes())),
        stays("decomposed", get("e%CC%81", &[]), ok("e\u{301}".as_bytes())),
        stays("plus is plus", get("a+b", &[]), ok(b"a+b")),
        stays("plus is no space", get("a%20b", &[]), ok(b"a b")),
        stays(
            "the replacement character",
            get("%EF%BF%BD", &[]),
            answer(404),
        ),
        stays("NUL", get("nul%00inside", &[]), ok(b"nul\0inside")),
        stays(
            "NUL does not end a handle",
            get("letters%00", &[]),
            answer(404),
        ),
        stays(
            "CRLF, encoded",
            get("line%0D%0Abreak", &[]),
            ok(b"line\r\nbreak"),
        ),
        stays(
            "a header, encoded",
            get("letters%0D%0AX:%20y", &[]),
            answer(404),
        ),
        stays("letters in part", get("%6Cetters", &[]), letters()),
        stays("letters all", get("%6c%65%74%74%65%72%73", &[]), letters()),
        stays(
            "prefix in part",
            with_line("GET /%74rack/letters HTTP/1.1"),
            answer_in(&[200, 404]),
        ),
    ]);
    run_table(&rows);
}

#[test]
fn queries() {
    let rows: Vec<Row> = [
        "letters?",
        "letters?x",
        "letters?x=y",
        "letters??",
        "letters?a?b",
        "letters?/../x",
        "letters?x=%20",
        "letters?a&b&c",
        "letters?utm_source=a;b",
        "letters?:@!$'()*+,-._~",
        "letters?token=x",
        "letters?path=/track/probe",
        "letters?%41",
    ]
    .into_iter()
    .map(|path| stays(path, get(path, &[]), letters()))
    .chain([
        stays(
            "an encoded ? is in the handle",
            get("what%3F", &[]),
            ok(b"what?"),
        ),
        stays("a plain ? is not", get("what?", &[]), answer(404)),
        stays(
            "handle that looks like a query",
            get("letters%3Fx", &[]),
            answer(404),
        ),
    ])
    .collect();
    run_table(&rows);
}

#[test]
fn bytes_that_no_uri_holds() {
    // RFC 3986 §2: neither reserved nor unreserved, or reserved but not for a path or a query.
    let mut rows = Vec::new();
    for b in b"\"<>\\^`{|}#[]" {
        let c = *b as char;
        rows.push(either(
            format!("path {c}"),
            get(&format!("let{c}ters"), &[]),
            answer(400),
        ));
        rows.push(either(
            format!("query {c}"),
            get(&format!("letters?{c}"), &[]),
            answer(400),
        ));
    }
    rows.push(either("a fragment", get("letters#t=10", &[]), answer(400)));
    for (name, path) in [
        ("UTF-8", &b"\xc3\xbcnicode"[..]),
        ("Latin-1", b"\xfcnicode"),
    ] {
        let line = [b"GET /track/", path, b" HTTP/1.1"].concat();
        rows.push(either(
            format!("raw {name}"),
            with_line_bytes(&line),
            answer(400),
        ));
    }
    run_table(&rows);
}

#[test]
fn every_pchar_is_taken() {
    // What the grammar allows in a path segment is a handle byte like any other.
    let rows: Vec<Row> = b"!$&'()*+,;=:@-._~"
        .iter()
        .map(|&b| {
            let handle = format!("none{}", b as char);
            stays(handle.clone(), get(&handle, &[]), answer(404))
        })
        .collect();
    run_table(&rows);
}

#[test]
fn absolute_form() {
    // §3.2.2: a server MUST accept it, and the target's authority stands in for Host.
    let line = |target: &str| with_line(&format!("GET {target} HTTP/1.1"));
    let mut rows = Vec::new();
    for target in [
        "http://peer.test/track/letters",
        "HTTP://peer.test/track/letters",
        "hTtP://peer.test/track/letters",
        "http://PEER.TEST/track/letters",
        "http://peer.test:80/track/letters",
        "http://peer.test:8080/track/letters",
        "http://peer.test:/track/letters",
        "http://other.test/track/letters",
        "http://127.0.0.1/track/letters",
        "http://127.0.0.1:5000/track/letters",
        "http://[::1]/track/letters",
        "http://[::1]:5000/track/letters",
        "http://[fe80::1]/track/letters",
        "http://a-b_c.test/track/letters",
        "http://p%65er.test/track/letters",
        "http://peer.test/track/letters?query",
        "http://peer.test/track/l%65tters",
    ] {
        rows.push(stays(target, line(target), letters()));
    }
    for target in [
        "http://peer.test",
        "http://peer.test/",
        "http://peer.test?x",
        "http://peer.test/track",
        "http://peer.test/nothing",
        "http://peer.test//track/letters",
        "http://peer.test/track/http://peer.test/track/letters",
    ] {
        rows.push(stays(target, line(target), answer(404)));
    }
    for target in [
        // RFC 9110 §4.2.1: an http URI with an empty host is invalid; §4.2.4: userinfo is an error.
        "http:///track/letters",
        "http://:80/track/letters",
        "http://",
        "http:",
        "http:/track/letters",
        "http:track/letters",
        "http://user@peer.test/track/letters",
        "http://user:pass@peer.test/track/letters",
        "http://@peer.test/track/letters",
        "http://[::1/track/letters",
        "http://::1]/track/letters",
        "http://[zz]/track/letters",
        "http://peer.test:port/track/letters",
        "http://peer.test:80:80/track/letters",
        "http://pe\\er.test/track/letters",
        "http://pe\"er/track/letters",
        "http://pe<er/track/letters",
        "http://peer%zz/track/letters",
        "http://peer.test/track/letters#x",
        "http://peer.test#x",
        "http//peer.test/track/letters",
        "://peer.test/track/letters",
        "1http://peer.test/track/letters",
    ] {
        rows.push(either(target, line(target), answer(400)));
    }
    for target in [
        "https://peer.test/track/letters",
        "HTTPS://peer.test/track/letters",
        "https://127.0.0.1:443/",
    ] {
        // RFC 9110 §7.4.
        rows.push(either(target, line(target), answer(421)));
    }
    for target in [
        "ftp://peer.test/track/letters",
        "file:///track/letters",
        "ws://peer.test/track/letters",
    ] {
        rows.push(either(target, line(target), answer_in(&[400, 404, 421])));
    }
    rows.extend([
        stays(
            "range in absolute-form",
            head(&[
                "GET http://peer.test/track/letters HTTP/1.1",
                HOST,
                AUTH,
                "Range: bytes=2-3",
            ]),
            part(2, 3),
        ),
        stays(
            "HEAD in absolute-form",
            with_line("HEAD http://peer.test/track/letters HTTP/1.1"),
            answer(200).has("Content-Length", "26").for_head(),
        ),
        stays(
            "dot segments stay in the handle",
            line("http://peer.test/track/../letters"),
            ok(b"../letters"),
        ),
        stays(
            "Host that differs is ignored",
            head(&[
                "GET http://peer.test/track/letters HTTP/1.1",
                "Host: other.test",
                AUTH,
            ]),
            letters(),
        ),
        either(
            "Host is still required",
            head(&["GET http://peer.test/track/letters HTTP/1.1", AUTH]),
            answer(400),
        ),
        either(
            "HTTP/1.0",
            head(&["GET http://peer.test/track/letters HTTP/1.0", AUTH]),
            letters(),
        ),
    ]);
    run_table(&rows);
}

#[test]
fn other_forms() {
    let line = |line: &str| with_line(line);
    run_table(&[
        // §3.2.3, §3.2.4: authority-form is for CONNECT, asterisk-form for OPTIONS.
        either("GET asterisk-form", line("GET * HTTP/1.1"), answer(400)),
        either(
            "HEAD asterisk-form",
            line("HEAD * HTTP/1.1"),
            answer(400).for_head(),
        ),
        either(
            "GET authority-form",
            line("GET peer.test:80 HTTP/1.1"),
            answer_in(&[400, 421]),
        ),
        either(
            "GET host alone",
            line("GET peer.test HTTP/1.1"),
            answer(400),
        ),
        either(
            "GET relative",
            line("GET track/letters HTTP/1.1"),
            answer(400),
        ),
        either(
            "GET dot relative",
            line("GET ./track/letters HTTP/1.1"),
            answer(400),
        ),
        either(
            "GET query alone",
            line("GET ?letters HTTP/1.1"),
            answer(400),
        ),
        either(
            "GET network-path",
            line("GET //peer.test/track/letters HTTP/1.1"),
            answer(404),
        ),
        either("GET double asterisk", line("GET ** HTTP/1.1"), answer(400)),
        either(
            "OPTIONS asterisk-form",
            line("OPTIONS * HTTP/1.1"),
            answer(405),
        ),
        either(
            "CONNECT authority-form",
            line("CONNECT peer.test:443 HTTP/1.1"),
            answer(405),
        ),
        either(
            "backslash path",
            line("GET \\track\\letters HTTP/1.1"),
            answer(400),
        ),
    ]);
}
