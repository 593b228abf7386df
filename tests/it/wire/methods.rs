//! RFC 9110 §9: methods.

use super::*;

/// Methods that are known and not served here.
const NOT_ALLOWED: &[&str] = &[
    "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT",
];

#[test]
fn known_and_unknown() {
    let mut rows = vec![
        stays("GET", request("GET", "letters", &[]), letters()),
        stays(
            "HEAD",
            request("HEAD", "letters", &[]),
            answer(200).for_head(),
        ),
    ];
    for method in NOT_ALLOWED {
        let allow = || answer(405).has("Allow", "GET, HEAD");
        let target = if *method == "CONNECT" {
            "peer.test:80"
        } else {
            "/track/letters"
        };
        let line = format!("{method} {target} HTTP/1.1");
        rows.push(stays(
            format!("{method}, no content"),
            with_line(&line),
            allow(),
        ));
        rows.push(either(
            format!("{method}, some content"),
            joined(&[
                &head(&[&line, HOST, AUTH, "Content-Length: 26"]),
                b"GET /track/big HTTP/1.1\r\n\r",
            ]),
            allow(),
        ));
        rows.push(either(
            format!("{method}, chunked content"),
            joined(&[
                &head(&[&line, HOST, AUTH, "Transfer-Encoding: chunked"]),
                b"5\r\nhello\r\n0\r\n\r\n",
            ]),
            allow(),
        ));
        rows.push(either(
            format!("{method}, much content"),
            joined(&[
                &head(&[&line, HOST, AUTH, "Content-Length: 300000"]),
                &[b'x'; 300_000],
            ]),
            allow(),
        ));
        rows.push(either(
            format!("{method} of nothing"),
            with_line(&line.replace("letters", "nothing")),
            answer_in(&[404, 405]),
        ));
        rows.push(either(
            format!("{method}, no token"),
            head(&[&line, HOST]),
            answer(401),
        ));
        rows.push(either(
            format!("{method} in 1.0"),
            with_line(&line.replace("HTTP/1.1", "HTTP/1.0")),
            allow(),
        ));
        rows.push(either(
            format!("{method} with preconditions"),
            head(&[&line, HOST, AUTH, "If-Match: \"x\"", "Range: bytes=900-"]),
            allow(),
        ));
    }
    for method in [
        "get",
        "head",
        "Get",
        "GeT",
        "Head",
        "post",
        "BREW",
        "PROPFIND",
        "GETT",
        "GE",
        "G",
        "XGET",
        "GET-X",
        "M-SEARCH",
        "PURGE",
        "LINK",
        "SOURCE",
        "MOVE",
        "QUERY",
        "NOTIFY",
        "!",
        "0",
        "~",
        "AVERYLONGMETHODNAMETHATNOBODYKNOWS",
    ] {
        let row = either(method, request(method, "letters", &[]), answer(501));
        rows.push(row);
        let line = format!("{method} /track/letters HTTP/1.1");
        rows.push(either(
            format!("{method}, no token"),
            head(&[&line, HOST]),
            answer(401),
        ));
    }
    let long = "M".repeat(2000);
    rows.push(either(
        "2000 letters",
        request(&long, "letters", &[]),
        answer_in(&[400, 501]),
    ));
    run_table(&rows);
}

#[test]
fn trace_echoes_nothing() {
    let server = start();
    let mut peer = RawPeer::connect(server.local_addr()).unwrap();
    peer.send(&request("TRACE", "letters", &["X-Echo: needle"]))
        .unwrap();
    let response = peer.read_response(false).unwrap().unwrap();
    assert_eq!(response.status(), 405);
    let text = brief(&response);
    assert!(
        !text.contains("needle") && !text.contains("X-Echo"),
        "{text}"
    );
}

#[test]
fn no_error_echoes_the_request() {
    // An explanation that quotes the peer is a way to put words into a page or a terminal.
    let server = start();
    for bytes in [
        get("needle", &[]),
        request("NEEDLE", "letters", &[]),
        with_line("GET needle HTTP/1.1"),
        with_line("GET /track/needle%zz HTTP/1.1"),
        with_line("GET /track/letters NEEDLE/1.1"),
        get("letters", &["Expect: needle"]),
        get("letters", &["Transfer-Encoding: needle"]),
        get("letters", &["Content-Length: needle"]),
        get("letters", &["needle needle: x"]),
        head(&["GET /track/letters HTTP/1.1", "Host: need/le needle", AUTH]),
        head(&[
            "GET /track/letters HTTP/1.1",
            HOST,
            "Authorization: Bearer needle",
        ]),
        get("letters", &["If-Match: \"needle\""]),
    ] {
        let mut peer = RawPeer::connect(server.local_addr()).unwrap();
        peer.send(&bytes).unwrap();
        let response = peer.read_response(false).unwrap().unwrap();
        assert!(response.status() >= 400, "{}", show(&bytes));
        let text = brief(&response).to_ascii_lowercase();
        assert!(
            !text.contains("needle"),
            "{} is answered with {text}",
            show(&bytes)
        );
    }
}

#[test]
fn head_says_what_get_says() {
    // RFC 9110 §9.3.2: the same fields as for a GET, except those known only from the content.
    let server = start();
    for handle in [
        "letters", "plain", "empty", "one", "bare", "dated", "big", "huge", "max", "unknown",
        "nothing",
    ] {
        let fields = |method: &str| {
            let mut peer = RawPeer::connect(server.local_addr()).unwrap();
            peer.send(&request(method, handle, &[])).unwrap();
            let head = peer.read_head().unwrap().unwrap();
            let mut fields: BTreeMap<String, String> = head
                .fields
                .iter()
                .map(|(name, value)| (name.to_ascii_lowercase(), value.clone()))
                .collect();
            assert!(fields.remove("date").is_some());
            (head.status, fields)
        };
        let (mut of_get, mut of_head) = (fields("GET"), fields("HEAD"));
        if handle == "unknown" {
            // How a length nobody knows is framed is not for a HEAD to say.
            of_get.1.remove("transfer-encoding");
            of_head.1.remove("transfer-encoding");
            assert!(!of_head.1.contains_key("content-length"));
        }
        assert_eq!(of_get, of_head, "{handle}");
    }
}

#[test]
fn head_of_everything() {
    // §14.2: Range is defined for GET alone.
    let heads = |path: &str, fields: &[&str]| request("HEAD", path, fields);
    let whole = || {
        answer(200)
            .has("Content-Length", "26")
            .has("ETag", LETTERS_TAG)
            .has("Accept-Ranges", "bytes")
            .lacks("Content-Range")
            .for_head()
    };
    run_table(&[
        stays("whole", heads("letters", &[]), whole()),
        stays(
            "with Range",
            heads("letters", &["Range: bytes=0-4"]),
            whole(),
        ),
        stays(
            "with unsatisfiable Range",
            heads("letters", &["Range: bytes=900-"]),
            whole(),
        ),
        stays(
            "with several ranges",
            heads("letters", &["Range: bytes=0-0,2-2"]),
            whole(),
        ),
        stays(
            "with If-Range",
            heads("letters", &["Range: bytes=0-4", "If-Range: \"x\""]),
            whole(),
        ),
        stays(
            "unknown handle",
            heads("nothing", &[]),
            answer(404).for_head(),
        ),
        stays(
            "empty",
            heads("empty", &[]),
            answer(200).has("Content-Length", "0").for_head(),
        ),
        stays(
            "huge",
            heads("huge", &[]),
            answer(200)
                .has("Content-Length", "5497558138880")
                .for_head(),
        ),
        stays(
            "max",
            heads("max", &[]),
            answer(200)
                .has("Content-Length", "18446744073709551615")
                .for_head(),
        ),
        stays(
            "unknown length",
            heads("unknown", &[]),
            answer(200)
                .lacks("Content-Length")
                .has("Accept-Ranges", "none")
                .for_head(),
        ),
        either(
            "unknown length, close",
            heads("unknown", &["Connection: close", "Range: bytes=5-"]),
            answer(200).lacks("Content-Length").for_head(),
        ),
        stays(
            "304",
            heads("letters", &["If-None-Match: \"letters-1\""]),
            answer(304).for_head(),
        ),
        stays(
            "412",
            heads("letters", &["If-Match: \"x\""]),
            answer(412).for_head(),
        ),
        either(
            "417",
            heads("letters", &["Expect: x"]),
            answer(417).for_head(),
        ),
        either(
            "401",
            head(&["HEAD /track/letters HTTP/1.1", HOST]),
            answer(401).for_head(),
        ),
        either(
            "400",
            head(&["HEAD /track/letters HTTP/1.1", AUTH]),
            answer(400).for_head(),
        ),
        ends(
            "1.0",
            head(&["HEAD /track/letters HTTP/1.0", AUTH]),
            whole(),
        ),
        ends("close", heads("letters", &["Connection: close"]), whole()),
        stays(
            "with content",
            joined(&[&heads("letters", &["Content-Length: 5"]), b"hello"]),
            whole(),
        ),
        Row::new(
            "many, with GETs between",
            joined(&[
                &heads("letters", &[]),
                &get("letters", &[]),
                &heads("big", &[]),
                &heads("nothing", &[]),
                &get("letters", &["Range: bytes=3-4"]),
                &heads("unknown", &[]),
                &heads("empty", &[]),
            ]),
            vec![
                whole(),
                letters(),
                answer(200).for_head(),
                answer(404).for_head(),
                part(3, 4),
                answer(200).for_head(),
                answer(200).for_head(),
            ],
            Then::Stays,
        ),
    ]);
}
