//! What the client sends: the range as RFC 9110 §14.2 writes it, and nothing that a published
//! server could trip over.

use peer_tests::script::{Modern, Script, ScriptServer, Step, Track, response};

use super::table::{
    Ask, CONTENT, HANDLE, Row, TOKEN, WHOLE, any_error, from, known, ok, ok_maybe_total, range,
    right, run, status, unknown,
};

fn modern() -> Script {
    Modern::new(TOKEN, vec![Track::new(HANDLE, CONTENT)]).script()
}

#[test]
fn ranges() {
    // An empty string stands for no Range field.
    const ASKS: &[(&str, Ask, &[&str])] = &[
        ("the whole", WHOLE, &["", "bytes=0-"]),
        ("the first byte", range(0, 1), &["bytes=0-0"]),
        ("from the start", range(0, 5), &["bytes=0-4"]),
        ("within", range(5, 5), &["bytes=5-9"]),
        ("one byte", range(5, 1), &["bytes=5-5"]),
        ("the last byte", range(35, 1), &["bytes=35-35"]),
        ("beyond the end", range(30, 100), &["bytes=30-129"]),
        ("open-ended", from(5), &["bytes=5-"]),
        (
            "open-ended, far on",
            from(1 << 40),
            &["bytes=1099511627776-"],
        ),
        (
            "beyond 2^32",
            range(1 << 32, 1 << 32),
            &["bytes=4294967296-8589934591"],
        ),
        (
            "all but one of 2^64 bytes, bounded",
            range(0, u64::MAX),
            &["", "bytes=0-", "bytes=0-18446744073709551614"],
        ),
        (
            "the last position is the last of all",
            range(1, u64::MAX),
            &["bytes=1-", "bytes=1-18446744073709551615"],
        ),
        (
            "beyond the last of all",
            range(5, u64::MAX),
            &[
                "bytes=5-",
                "bytes=5-18446744073709551615",
                "bytes=5-18446744073709551614",
            ],
        ),
        (
            "the last of 2^64 bytes",
            range(u64::MAX, 1),
            &[
                "bytes=18446744073709551615-18446744073709551615",
                "bytes=18446744073709551615-",
            ],
        ),
        (
            "the last and beyond",
            range(u64::MAX, u64::MAX),
            &[
                "bytes=18446744073709551615-18446744073709551615",
                "bytes=18446744073709551615-",
            ],
        ),
        (
            "open-ended from the last",
            from(u64::MAX),
            &["bytes=18446744073709551615-"],
        ),
    ];
    run(ASKS
        .iter()
        .map(|(name, ask, ranges)| {
            let verdict = match ask.start {
                0..36 => ok(right(*ask), Some(36)),
                _ => status(416),
            };
            Row::new(*name, modern())
                .ask(*ask)
                .fetch(verdict)
                .inspect(move |server| {
                    let requests = server.requests();
                    let [request] = &requests[..] else {
                        return Err(format!("{} requests for one range", requests.len()));
                    };
                    let range = request.field("range").unwrap_or_default();
                    match request.method() == "GET" && ranges.contains(&range.as_str()) {
                        true => Ok(()),
                        false => Err(format!("asked for {range:?}, expected one of {ranges:?}")),
                    }
                })
        })
        .collect());
}

#[test]
fn nothing_asked_for() {
    let mut rows = Vec::new();
    for start in [0, 5, 35, 36] {
        let row = Row::new(format!("0 bytes at {start}"), modern()).ask(range(start, 0));
        rows.push(row.fetch(ok_maybe_total(b"", 36)));
    }
    for start in [37, 1 << 40, u64::MAX] {
        let row = Row::new(format!("0 bytes at {start}"), modern()).ask(range(start, 0));
        rows.push(row.fetch(ok_maybe_total(b"", 36).or(status(416))));
    }
    run(rows);
    // Whether or not a request is made, no answer can turn nothing into something.
    let answers: Vec<(&str, Vec<u8>)> = vec![
        (
            "the whole",
            response("HTTP/1.1 200 OK", &["Content-Length: 36"], CONTENT),
        ),
        (
            "a byte",
            response(
                "HTTP/1.1 206 x",
                &["Content-Range: bytes 5-5/36", "Content-Length: 1"],
                b"5",
            ),
        ),
        (
            "an error",
            response("HTTP/1.1 500 x", &["Content-Length: 0"], b""),
        ),
    ];
    run(answers
        .into_iter()
        .map(|(name, answer)| {
            let row = Row::new(name, Script::answer(answer)).ask(range(5, 0));
            row.fetch(ok_maybe_total(b"", 36).or(any_error()))
        })
        .collect());
}

#[test]
fn lengths() {
    let asked = |server: &ScriptServer| {
        for request in server.requests() {
            let range = request.field("range").unwrap_or_default();
            if !matches!(
                (request.method().as_str(), range.as_str()),
                ("HEAD", "") | ("GET", "bytes=0-0" | "")
            ) {
                return Err(format!("{} {range:?} to learn a length", request.method()));
            }
        }
        match server.requests().len() {
            1..=2 => Ok(()),
            more => Err(format!("{more} requests to learn a length")),
        }
    };
    let ignoring = Modern {
        ignores_range: true,
        ..Modern::new(TOKEN, vec![Track::new(HANDLE, CONTENT)])
    };
    let empty = Modern::new(TOKEN, vec![Track::new(HANDLE, b"")]);
    // 416 to a range, and the whole without one, as published servers do for an empty source.
    let refusing = |head: &'static str, fields: &'static [&'static str], end: Option<Step>| {
        Script::respond(move |request| {
            if request.range().is_some() {
                let fields = ["Content-Length: 0"];
                return vec![Step::Send(response("HTTP/1.1 416 x", &fields, b""))];
            }
            [Step::Send(response(head, fields, b""))]
                .into_iter()
                .chain(end.clone())
                .collect()
        })
    };
    let ok = "HTTP/1.1 200 OK";
    run(vec![
        Row::new("a modern server", modern())
            .length(known(36))
            .inspect(asked),
        Row::new("one that ignores Range", ignoring.script())
            .length(known(36))
            .inspect(asked),
        Row::new("an empty source", empty.script())
            .length(known(0))
            .inspect(asked),
        Row::new(
            "416, then an empty 200",
            refusing(ok, &["Content-Length: 0"], None),
        )
        .length(known(0))
        .inspect(asked),
        Row::new(
            "416, then 200 without a length",
            refusing(ok, &[], Some(Step::Fin)),
        )
        .length(unknown())
        .inspect(asked),
        Row::new(
            "416, then chunked",
            refusing(ok, &["Transfer-Encoding: chunked"], Some(Step::Hold)),
        )
        .length(unknown())
        .inspect(asked),
        Row::new(
            "416, then 404",
            refusing("HTTP/1.1 404 x", &["Content-Length: 0"], None),
        )
        .length(super::table::not_found())
        .inspect(asked),
        Row::new(
            "416, then 500",
            refusing("HTTP/1.1 500 x", &["Content-Length: 0"], None),
        )
        .length(status(500))
        .inspect(asked),
    ]);
}

#[test]
fn no_conditions() {
    // The first request of a fetch has nothing to compare with.
    let row = Row::new("a fetch", modern())
        .ask(range(5, 5))
        .fetch(ok(b"56789", Some(36)));
    run(vec![row.length(known(36)).inspect(|server| {
        for name in [
            "if-range",
            "if-match",
            "if-none-match",
            "if-modified-since",
            "te",
            "cookie",
        ] {
            if server
                .requests()
                .iter()
                .any(|request| request.field(name).is_some())
            {
                return Err(format!("a {name} field in a first request"));
            }
        }
        Ok(())
    })]);
}
