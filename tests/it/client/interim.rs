//! Interim responses (RFC 9110 §15.2): any number of them may come first, and none of them is the
//! answer.

use peer_tests::script::{Script, Step, response};

use super::table::{
    COMPLETE, CONTENT, Row, any_error, broken, known, ok, ok_whole, range, refused, run, status,
    unauthorized,
};

fn whole() -> Vec<u8> {
    response("HTTP/1.1 200 OK", &["Content-Length: 36"], CONTENT)
}

#[test]
fn before_the_answer() {
    let interims: &[(&str, &[u8])] = &[
        ("100", b"HTTP/1.1 100 Continue\r\n\r\n"),
        ("102", b"HTTP/1.1 102 Processing\r\n\r\n"),
        (
            "103",
            b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n",
        ),
        ("104", b"HTTP/1.1 104 Odd\r\n\r\n"),
        ("150", b"HTTP/1.1 150 Odd\r\n\r\n"),
        ("199", b"HTTP/1.1 199 Odd\r\n\r\n"),
        ("without a reason", b"HTTP/1.1 100 \r\n\r\n"),
        ("of HTTP/1.0", b"HTTP/1.0 100 Continue\r\n\r\n"),
        // An interim response has no content, whatever its fields say.
        (
            "with a length",
            b"HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\n",
        ),
        (
            "with two lengths",
            b"HTTP/1.1 103 x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        ),
        (
            "with chunked framing",
            b"HTTP/1.1 103 x\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
        (
            "with a Content-Range",
            b"HTTP/1.1 103 x\r\nContent-Range: bytes 7-8/9\r\n\r\n",
        ),
        (
            "with a Content-Encoding",
            b"HTTP/1.1 103 x\r\nContent-Encoding: gzip\r\n\r\n",
        ),
        (
            "with Connection: close",
            b"HTTP/1.1 103 x\r\nConnection: close\r\n\r\n",
        ),
        ("with an ETag", b"HTTP/1.1 103 x\r\nETag: \"v9\"\r\n\r\n"),
        (
            "100, 102 and 103",
            b"HTTP/1.1 100 a\r\n\r\nHTTP/1.1 102 b\r\n\r\nHTTP/1.1 103 c\r\n\r\n",
        ),
        ("ten", &b"HTTP/1.1 100 Continue\r\n\r\n".repeat(10)),
        (
            "of 10 KiB",
            &[
                b"HTTP/1.1 103 x\r\nLink: ",
                &[b'v'; 10 << 10][..],
                b"\r\n\r\n",
            ]
            .concat(),
        ),
    ];
    let part = response(
        "HTTP/1.1 206 Partial Content",
        &["Content-Range: bytes 5-9/36", "Content-Length: 5"],
        b"56789",
    );
    let mut rows = Vec::new();
    for (name, interim) in interims {
        let together = Script::answer([interim, &whole()[..]].concat());
        let apart = Script::always([
            Step::Split(interim.to_vec(), vec![interim.len() / 2]),
            Step::Send(whole()),
        ]);
        let before_part = Script::answer([interim, &part[..]].concat());
        rows.extend([
            Row::new(format!("{name}, at once"), together)
                .fetch(ok_whole())
                .length(known(36)),
            Row::new(format!("{name}, apart"), apart)
                .fetch(ok_whole())
                .length(known(36)),
            Row::new(format!("{name}, before a 206"), before_part)
                .ask(range(5, 5))
                .fetch(ok(b"56789", COMPLETE)),
        ]);
    }
    run(rows);
}

#[test]
fn before_an_error() {
    let interim = b"HTTP/1.1 100 Continue\r\n\r\n";
    let answer = |line: &str| {
        Script::answer([&interim[..], &response(line, &["Content-Length: 0"], b"")].concat())
    };
    run(vec![
        Row::new("401", answer("HTTP/1.1 401 No"))
            .fetch(unauthorized())
            .length(unauthorized()),
        Row::new("500", answer("HTTP/1.1 500 No"))
            .fetch(status(500))
            .length(status(500)),
        Row::new("204", answer("HTTP/1.1 204 No"))
            .fetch(any_error())
            .length(any_error()),
    ]);
}

#[test]
fn that_are_no_interim_responses() {
    let followed = |interim: &[u8]| Script::answer([interim, &whole()[..]].concat());
    let bytes: &[(&str, &[u8])] = &[
        // Nobody asked to change the protocol (RFC 9110 §15.2.2).
        (
            "101",
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n",
        ),
        (
            "content behind a 100",
            b"HTTP/1.1 100 Continue\r\nContent-Length: 5\r\n\r\nhello",
        ),
        (
            "a malformed field",
            b"HTTP/1.1 100 Continue\r\nX-Odd : 1\r\n\r\n",
        ),
        ("a bare LF", b"HTTP/1.1 100 Continue\n\r\n"),
        ("another version", b"HTTP/2.0 100 Continue\r\n\r\n"),
        ("two digits", b"HTTP/1.1 10 Continue\r\n\r\n"),
        (
            "17 KiB",
            &[
                b"HTTP/1.1 103 x\r\nLink: ",
                &[b'v'; 17 << 10][..],
                b"\r\n\r\n",
            ]
            .concat(),
        ),
    ];
    let mut rows: Vec<Row> = bytes
        .iter()
        .map(|(name, interim)| {
            // 101 has a code of its own to report.
            let verdict = if *name == "101" {
                any_error()
            } else {
                refused()
            };
            Row::new(*name, followed(interim))
                .fetch(verdict.clone())
                .length(verdict)
        })
        .collect();
    // A limit is due somewhere between ten and endless.
    let many = followed(&b"HTTP/1.1 100 Continue\r\n\r\n".repeat(100));
    rows.push(
        Row::new("a hundred", many)
            .fetch(ok_whole().or(refused()))
            .length(known(36).or(refused())),
    );
    let endless = Script::always([
        Step::Endless(b"HTTP/1.1 100 Continue\r\n\r\n".to_vec(), 64 << 20),
        Step::Fin,
    ]);
    rows.push(
        Row::new("endless", endless)
            .fetch(broken(0))
            .length(broken(0))
            .inspect(|server| match server.capped() {
                true => Err("the client took every one".to_owned()),
                false => Ok(()),
            }),
    );
    run(rows);
}

#[test]
fn and_nothing_else() {
    let mut rows = Vec::new();
    for code in [
        "100 Continue",
        "102 Processing",
        "103 Early Hints",
        "199 Odd",
    ] {
        for end in [Step::Fin, Step::Reset] {
            let interim = format!("HTTP/1.1 {code}\r\n\r\n").into_bytes();
            let script = Script::always([Step::Send(interim), end.clone()]);
            rows.push(Row::new(format!("{code}, then {end:?}"), script));
        }
    }
    run(rows
        .into_iter()
        .map(|row| row.fetch(broken(0)).length(broken(0)))
        .collect());
}
