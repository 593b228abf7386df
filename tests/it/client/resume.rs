//! Content that breaks off and goes on (RFC 9110 §13.1.5, §15.3.7.3): bytes of two answers make
//! one only when a strong validator says that they are of one version. Never a splice.

use peer_tests::script::{
    Connection, Modern, Request, Script, ScriptServer, Step, Track, response,
};

use super::table::{
    Ask, COMPLETE, CONTENT, Call, HANDLE, Sequence, TOKEN, Verdict, WHOLE, any_error_writing,
    broken, from, ok, range, right, run_sequences,
};

const PARTIAL: &str = "HTTP/1.1 206 Partial Content";
/// Bytes of which none is at its place in [`CONTENT`].
const OTHER: &[u8; 36] = b"zyxwvutsrqponmlkjihgfedcba9876543210";

fn modern(bytes: &[u8]) -> Modern {
    Modern::new(TOKEN, vec![Track::new(HANDLE, bytes)])
}

/// Where the head of an answer ends.
fn head_len(answer: &[u8]) -> usize {
    answer
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .unwrap()
        + 4
}

/// A connection on which the server breaks off after so many bytes of content.
fn broken_off(server: Modern, content: usize, end: Step) -> Connection {
    Connection::respond(move |request| {
        let answer = server.answer(request);
        let cut = (head_len(&answer) + content).min(answer.len());
        vec![Step::Send(answer[..cut].to_vec()), end.clone()]
    })
}

fn answering(server: Modern) -> Connection {
    Connection::respond(move |request| vec![Step::Send(server.answer(request))])
}

/// The same steps for every request.
fn fixed(answer: Vec<u8>) -> Connection {
    Connection::respond(move |_| vec![Step::Send(answer.clone())])
}

fn row(name: String, connections: Vec<Connection>, what: Call, verdict: Verdict) -> Sequence {
    Sequence::new(
        format!("{name}, {what:?}"),
        Script::connections(connections),
    )
    .then(what, verdict)
}

fn both(ask: Ask) -> [Call; 2] {
    [Call::FetchRange(ask), Call::FetchToWriter(ask)]
}

/// Every request but the first names the version and the place where the content broke off.
fn asked_for_the_rest(server: &ScriptServer, at: u64) -> Result<(), String> {
    let requests = server.requests();
    let continues = |request: &Request| {
        request.fields("if-range") == ["\"v1\""]
            && request
                .range()
                .is_some_and(|(first_pos, _)| first_pos == at)
    };
    match &requests[..] {
        [first, rest @ ..] if first.field("if-range").is_none() && !rest.is_empty() => {
            match rest.iter().all(continues) {
                true => Ok(()),
                false => Err(format!("the rest from {at} was not asked for: {rest:?}")),
            }
        }
        other => Err(format!("not one request and its continuation: {other:?}")),
    }
}

#[test]
fn at_every_byte() {
    let mut rows = Vec::new();
    for ask in [WHOLE, from(5), range(5, 20)] {
        let right = right(ask);
        for cut in 1..right.len() {
            for end in [Step::Fin, Step::Reset] {
                for what in both(ask) {
                    let connections = vec![
                        broken_off(modern(CONTENT), cut, end.clone()),
                        answering(modern(CONTENT)),
                    ];
                    let name = format!("{end:?} after {cut} bytes");
                    let at = ask.start + cut as u64;
                    rows.push(
                        row(name, connections, what, ok(right, COMPLETE))
                            .inspect(move |server| asked_for_the_rest(server, at)),
                    );
                }
            }
        }
    }
    run_sequences(rows);
}

#[test]
fn again_and_again() {
    let mut rows = Vec::new();
    for piece in [1, 7, 35] {
        for what in both(WHOLE) {
            // Each connection brings some bytes, so that none is in vain.
            let connections = vec![broken_off(modern(CONTENT), piece, Step::Fin)];
            rows.push(row(
                format!("{piece} bytes each time"),
                connections,
                what,
                ok(CONTENT, COMPLETE),
            ));
        }
    }
    for what in both(WHOLE) {
        // Ten bytes, then never another: an end in bounded time, and with the ten.
        let connections = vec![
            broken_off(modern(CONTENT), 10, Step::Fin),
            broken_off(modern(CONTENT), 0, Step::Fin),
        ];
        rows.push(
            row(
                "ten bytes and no more".to_owned(),
                connections,
                what,
                any_error_writing(10),
            )
            .inspect(|server| match server.connections() {
                0..=40 => Ok(()),
                more => Err(format!("{more} connections without a byte")),
            }),
        );
    }
    run_sequences(rows);
}

#[test]
fn never_a_splice() {
    let cut = 10;
    let part = |range: &str, tag: &str, content: &[u8]| {
        let length = format!("Content-Length: {}", content.len());
        let range = format!("Content-Range: bytes {range}");
        let fields = [length.as_str(), &range, tag];
        response(
            PARTIAL,
            if tag.is_empty() {
                &fields[..2]
            } else {
                &fields
            },
            content,
        )
    };
    let same = "ETag: \"v1\"";
    let other_rest = &OTHER[cut..];
    let changed = Modern {
        entity_tag: "\"v2\"".to_owned(),
        ..modern(OTHER)
    };
    let longer = [&OTHER[..], b"!"].concat();
    // What every later connection answers. All but right bytes, so that a splice shows.
    let later: Vec<(&str, Connection)> = vec![
        ("a new version", answering(changed.clone())),
        (
            "a new version that ignores Range",
            answering(Modern {
                ignores_range: true,
                ..changed.clone()
            }),
        ),
        (
            "a new version in parts",
            answering(Modern {
                part_max: Some(3),
                ..changed
            }),
        ),
        (
            "a 206 of another entity-tag",
            fixed(part("10-35/36", "ETag: \"v2\"", other_rest)),
        ),
        (
            "a 206 of the entity-tag in another case",
            fixed(part("10-35/36", "ETag: \"V1\"", other_rest)),
        ),
        (
            "a 206 of a weak entity-tag",
            fixed(part("10-35/36", "ETag: W/\"v1\"", other_rest)),
        ),
        (
            "a 206 of an entity-tag without quotes",
            fixed(part("10-35/36", "ETag: v1", other_rest)),
        ),
        (
            "a 206 of an empty entity-tag",
            fixed(part("10-35/36", "ETag: \"\"", other_rest)),
        ),
        (
            "a 206 of a longer entity-tag",
            fixed(part("10-35/36", "ETag: \"v11\"", other_rest)),
        ),
        (
            "a 206 without an entity-tag",
            fixed(part("10-35/36", "", other_rest)),
        ),
        (
            "a 206 of two entity-tags",
            fixed(part("10-35/36", "ETag: \"v1\"\r\nETag: \"v2\"", other_rest)),
        ),
        (
            "a longer source",
            fixed(part("10-36/37", same, &longer[cut..])),
        ),
        (
            "a shorter source",
            fixed(part("10-20/21", same, &OTHER[cut..21])),
        ),
        ("another range", fixed(part("9-35/36", same, &OTHER[9..]))),
        ("a later range", fixed(part("11-35/36", same, &OTHER[11..]))),
        (
            "the first part again",
            fixed(part("0-9/36", same, &OTHER[..10])),
        ),
        ("the whole as a part", fixed(part("0-35/36", same, OTHER))),
        (
            "no Content-Range",
            fixed(response(PARTIAL, &[same, "Content-Length: 26"], other_rest)),
        ),
        (
            "gzip",
            fixed(part(
                "10-35/36",
                "ETag: \"v1\"\r\nContent-Encoding: gzip",
                other_rest,
            )),
        ),
        (
            "a 200 of the new version",
            fixed(response(
                "HTTP/1.1 200 OK",
                &["ETag: \"v2\"", "Content-Length: 36"],
                OTHER,
            )),
        ),
        (
            "a 200 without an entity-tag",
            fixed(response("HTTP/1.1 200 OK", &["Content-Length: 36"], OTHER)),
        ),
        (
            "a 200 of a weak entity-tag",
            fixed(response(
                "HTTP/1.1 200 OK",
                &["ETag: W/\"v1\"", "Content-Length: 36"],
                OTHER,
            )),
        ),
        (
            "an empty 200",
            fixed(response(
                "HTTP/1.1 200 OK",
                &["ETag: \"v2\"", "Content-Length: 0"],
                b"",
            )),
        ),
        (
            "a 416 with its length",
            fixed(response(
                "HTTP/1.1 416 x",
                &[
                    "Content-Range: bytes */10",
                    "ETag: \"v2\"",
                    "Content-Length: 0",
                ],
                b"",
            )),
        ),
        (
            "a 416",
            fixed(response("HTTP/1.1 416 x", &["Content-Length: 0"], b"")),
        ),
        (
            "a 404",
            fixed(response("HTTP/1.1 404 x", &["Content-Length: 0"], b"")),
        ),
        (
            "a 401",
            fixed(response("HTTP/1.1 401 x", &["Content-Length: 0"], b"")),
        ),
        ("a 304", fixed(response("HTTP/1.1 304 x", &[same], b""))),
        (
            "a 412",
            fixed(response("HTTP/1.1 412 x", &["Content-Length: 0"], b"")),
        ),
        (
            "a 500",
            fixed(response("HTTP/1.1 500 x", &["Content-Length: 0"], b"")),
        ),
        (
            "something that is no HTTP",
            fixed(b"220 mail.example ESMTP\r\n".to_vec()),
        ),
    ];
    let mut rows = Vec::new();
    for (name, connection) in later {
        for what in both(WHOLE) {
            let first = broken_off(modern(CONTENT), cut, Step::Fin);
            // The error differs; what was written is the first ten bytes and nothing behind them.
            let verdict = any_error_writing(cut);
            rows.push(row(
                name.to_owned(),
                vec![first, connection.clone()],
                what,
                verdict,
            ));
        }
    }
    run_sequences(rows);
}

/// The whole of the same version in place of the rest: read past, or given up.
#[test]
fn a_whole_for_the_rest() {
    let mut rows = Vec::new();
    for what in both(WHOLE) {
        let ignoring = Modern {
            ignores_range: true,
            ..modern(CONTENT)
        };
        let connections = vec![
            broken_off(modern(CONTENT), 10, Step::Fin),
            answering(ignoring),
        ];
        let verdict = ok(CONTENT, COMPLETE).or(broken(10));
        rows.push(row(
            "the same entity-tag".to_owned(),
            connections,
            what,
            verdict,
        ));
    }
    run_sequences(rows);
}

/// Validators that say nothing about each byte (RFC 9110 §8.8.1), and fields that are none.
const WEAK: &[(&str, &[&str])] = &[
    ("none", &[]),
    ("a weak entity-tag", &["ETag: W/\"v1\""]),
    ("an entity-tag without quotes", &["ETag: v1"]),
    ("an entity-tag with an open quote", &["ETag: \"v1"]),
    ("two entity-tags", &["ETag: \"v1\"", "ETag: \"v2\""]),
    (
        "a modification time alone",
        &["Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT"],
    ),
    (
        "a modification time and a date",
        &[
            "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT",
            "Date: Tue, 15 Nov 1994 08:12:31 GMT",
        ],
    ),
    (
        "a modification time and a weak entity-tag",
        &[
            "ETag: W/\"v1\"",
            "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT",
        ],
    ),
];

/// The answer to a request for all of `content`, or for what lies behind an offset of it.
fn with_fields(content: &[u8; 36], fields: &[&str], request: &Request, part_max: usize) -> Vec<u8> {
    let (line, own) = match request.range() {
        Some((first, last)) => {
            let first = usize::try_from(first).unwrap();
            let last = last
                .map_or(35, |last| usize::try_from(last).unwrap())
                .min(35);
            let last = last.min(first + part_max - 1);
            let own = vec![
                format!("Content-Range: bytes {first}-{last}/36"),
                format!("Content-Length: {}", last - first + 1),
            ];
            (PARTIAL, (own, &content[first..=last]))
        }
        None => (
            "HTTP/1.1 200 OK",
            (vec!["Content-Length: 36".to_owned()], &content[..]),
        ),
    };
    let (own, content) = own;
    let all: Vec<&str> = own
        .iter()
        .map(String::as_str)
        .chain(fields.iter().copied())
        .collect();
    response(line, &all, content)
}

/// Without a strong validator nothing can be continued: what a second answer brings could be of
/// another version, and here it is.
#[test]
fn not_without_a_strong_validator() {
    let mut rows = Vec::new();
    for (name, fields) in WEAK {
        for end in [Step::Fin, Step::Reset] {
            for what in both(WHOLE) {
                let end_here = end.clone();
                let connections = vec![
                    Connection::respond(move |request| {
                        let answer = with_fields(CONTENT, fields, request, 36);
                        let cut = head_len(&answer) + 10;
                        vec![Step::Send(answer[..cut].to_vec()), end_here.clone()]
                    }),
                    Connection::respond(move |request| {
                        vec![Step::Send(with_fields(OTHER, fields, request, 36))]
                    }),
                ];
                rows.push(row(
                    format!("{name}, {end:?}"),
                    connections,
                    what,
                    broken(10),
                ));
            }
        }
    }
    run_sequences(rows);
}

/// The same for a server that answers with less than was asked for: each part could be of another
/// version, and the second one is.
#[test]
fn no_parts_without_a_strong_validator() {
    let mut rows = Vec::new();
    for (name, fields) in WEAK {
        for ask in [from(5), range(5, 20)] {
            for what in both(ask) {
                let connection = Connection::respond(move |request| {
                    let is_first = request.range().is_some_and(|(first, _)| first == 5);
                    let content = if is_first { CONTENT } else { OTHER };
                    vec![Step::Send(with_fields(content, fields, request, 7))]
                });
                rows.push(row((*name).to_owned(), vec![connection], what, broken(7)));
            }
        }
    }
    run_sequences(rows);
}

/// The continuation is honest and delimited in every way there is.
#[test]
fn in_every_framing() {
    use peer_tests::script::Delimited;
    let mut rows = Vec::new();
    for delimited in [Delimited::Length, Delimited::Chunked(4), Delimited::Close] {
        for part_max in [None, Some(6)] {
            let server = Modern {
                delimited,
                part_max,
                ..modern(CONTENT)
            };
            for ask in [WHOLE, from(3), range(3, 30)] {
                for what in both(ask) {
                    let closing = server.clone();
                    let connections = vec![
                        broken_off(modern(CONTENT), 10, Step::Fin),
                        Connection::respond(move |request| {
                            let mut steps = vec![Step::Send(closing.answer(request))];
                            steps.extend((delimited == Delimited::Close).then_some(Step::Fin));
                            steps
                        }),
                    ];
                    let name = format!("{delimited:?}, parts of {part_max:?}");
                    rows.push(row(name, connections, what, ok(right(ask), COMPLETE)));
                }
            }
        }
    }
    run_sequences(rows);
}
