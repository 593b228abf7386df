//! RFC 9112 §3.2, RFC 9110 §7.2: Host.

use super::*;

const LINE: &str = "GET /track/letters HTTP/1.1";
const LINE_1_0: &str = "GET /track/letters HTTP/1.0";

#[test]
fn presence() {
    run_table(&[
        either("missing", head(&[LINE, AUTH]), answer(400)),
        either("missing, without token", head(&[LINE]), answer(400)),
        either(
            "missing in a HEAD",
            head(&["HEAD /track/letters HTTP/1.1", AUTH]),
            answer(400).for_head(),
        ),
        either(
            "missing in 1.2",
            head(&["GET /track/letters HTTP/1.2", AUTH]),
            answer(400),
        ),
        ends("missing in 1.0", head(&[LINE_1_0, AUTH]), letters()),
        either("twice, equal", head(&[LINE, HOST, HOST, AUTH]), answer(400)),
        either("twice, apart", head(&[LINE, HOST, AUTH, HOST]), answer(400)),
        either(
            "twice, different",
            head(&[LINE, HOST, "Host: other.test", AUTH]),
            answer(400),
        ),
        either(
            "twice, one empty",
            head(&[LINE, HOST, "Host:", AUTH]),
            answer(400),
        ),
        either(
            "twice, another case",
            head(&[LINE, HOST, "hOST: peer.test", AUTH]),
            answer(400),
        ),
        either(
            "three times",
            head(&[LINE, HOST, HOST, HOST, AUTH]),
            answer(400),
        ),
        either(
            "twice in 1.0",
            head(&[LINE_1_0, HOST, HOST, AUTH]),
            answer(400),
        ),
        either(
            "twice in absolute-form",
            head(&[
                "GET http://peer.test/track/letters HTTP/1.1",
                HOST,
                HOST,
                AUTH,
            ]),
            answer(400),
        ),
        stays("last", head(&[LINE, AUTH, "Accept: */*", HOST]), letters()),
        // The authority of an origin-form target may be unknown to the client.
        either(
            "empty",
            head(&[LINE, "Host:", AUTH]),
            answer_in(&[200, 400]),
        ),
    ]);
}

#[test]
fn values_taken() {
    let rows: Vec<Row> = [
        "peer.test",
        "PEER.test",
        "peer.test:80",
        "peer.test:65535",
        "peer.test:",
        "localhost",
        "localhost:4567",
        "127.0.0.1",
        "127.0.0.1:8080",
        "[::1]",
        "[::1]:8080",
        "[2001:db8::1]",
        "[FE80::1]",
        "[::ffff:192.0.2.1]",
        "[v1.fe80::a+en1]",
        "a",
        "a-b",
        "a_b",
        "a.b.",
        "1.2.3",
        "xn--bcher-kva.example",
        "p%65er",
        "a,b",
        "a!$&'()*+;=",
        "~",
        "300.300.300.300",
    ]
    .into_iter()
    .map(|host| {
        stays(
            host,
            head(&[LINE, &format!("Host: {host}"), AUTH]),
            letters(),
        )
    })
    .chain([
        stays("no space", head(&[LINE, "Host:peer.test", AUTH]), letters()),
        stays(
            "tabs and spaces",
            head(&[LINE, "Host: \t peer.test \t", AUTH]),
            letters(),
        ),
        stays(
            "name in capitals",
            head(&[LINE, "HOST: peer.test", AUTH]),
            letters(),
        ),
    ])
    .collect();
    run_table(&rows);
}

#[test]
fn values_refused() {
    let mut rows = Vec::new();
    for host in [
        "peer test",
        "peer\ttest",
        "peer.test/",
        "peer.test/track",
        "http://peer.test",
        "user@peer.test",
        "user:pass@peer.test",
        "peer.test:port",
        "peer.test:80x",
        "peer.test:80:80",
        "peer.test:-1",
        "peer.test: 80",
        "peer.test :80",
        "::1",
        "fe80::1",
        "[::1",
        "::1]",
        "[::1]80",
        "[::1]x",
        "[]",
        "[::1]:x",
        "[127.0.0.1]",
        "[peer.test]",
        "[:::1]",
        "[12345::1]",
        "[1:2:3:4:5:6:7:8:9]",
        "peer.test?x",
        "peer.test#x",
        "peer\\test",
        "peer\"test",
        "<peer>",
        "{peer}",
        "peer|test",
        "peer^",
        "peer`",
        "peer%",
        "peer%z",
        "peer%zz",
        "pe[er",
        "peer.test, other.test x",
    ] {
        let bytes = head(&[LINE, &format!("Host: {host}"), AUTH]);
        rows.push(either(host, bytes, answer(400)));
    }
    for (name, host) in [
        ("UTF-8", &b"Host: p\xc3\xa9\xc3\xa9r"[..]),
        ("Latin-1", b"Host: p\xe9\xe9r"),
        ("NUL", b"Host: peer\0test"),
        ("DEL", b"Host: peer\x7ftest"),
        ("CR", b"Host: peer\rtest"),
        ("LF", b"Host: peer\ntest"),
    ] {
        let line = format!("{LINE}\r\n");
        let bytes = joined(&[line.as_bytes(), host, b"\r\n", &head(&[AUTH])]);
        rows.push(either(name, bytes, answer(400)));
    }
    run_table(&rows);
}
