//! `Content-Encoding` (RFC 9110 §8.4): encoded content is not the source's bytes, and its length
//! is not the source's length. The client asked for `identity`; whatever else comes is refused.

use peer_tests::script::{Script, chunked, response};

use super::table::{
    CONTENT, Row, Verdict, known, not_found, ok_maybe_total, ok_whole, range, refused, run,
};

const CODINGS: &[(&str, &[&str])] = &[
    ("gzip", &["Content-Encoding: gzip"]),
    ("x-gzip", &["Content-Encoding: x-gzip"]),
    ("in another case", &["content-encoding: GZip"]),
    ("deflate", &["Content-Encoding: deflate"]),
    ("compress", &["Content-Encoding: compress"]),
    ("br", &["Content-Encoding: br"]),
    ("zstd", &["Content-Encoding: zstd"]),
    ("unknown", &["Content-Encoding: odd"]),
    ("aws-chunked", &["Content-Encoding: aws-chunked"]),
    ("a list", &["Content-Encoding: gzip, br"]),
    ("identity, then gzip", &["Content-Encoding: identity, gzip"]),
    ("gzip, then identity", &["Content-Encoding: gzip, identity"]),
    (
        "two lines",
        &["Content-Encoding: identity", "Content-Encoding: gzip"],
    ),
    ("white space around", &["Content-Encoding: \tgzip "]),
];

#[test]
fn codings() {
    let with = |fields: &[&'static str], more: &[&'static str]| -> Vec<&'static str> {
        fields.iter().chain(more).copied().collect()
    };
    let mut rows = Vec::new();
    for (name, fields) in CODINGS {
        let by_length = with(fields, &["Content-Length: 36"]);
        let by_length = Script::answer(response("HTTP/1.1 200 OK", &by_length, CONTENT));
        let framed = with(fields, &["Transfer-Encoding: chunked"]);
        let framed = Script::answer(response("HTTP/1.1 200 OK", &framed, &chunked(CONTENT, 9)));
        let part = with(
            fields,
            &["Content-Range: bytes 5-9/36", "Content-Length: 5"],
        );
        let part = Script::answer(response("HTTP/1.1 206 Partial", &part, b"56789"));
        let first = with(
            fields,
            &["Content-Range: bytes 0-0/36", "Content-Length: 1"],
        );
        let first = Script::answer(response("HTTP/1.1 206 Partial", &first, b"0"));
        rows.extend([
            Row::new(format!("{name}, 200"), by_length)
                .fetch(refused())
                .length(refused()),
            Row::new(format!("{name}, chunked"), framed)
                .fetch(refused())
                .length(refused()),
            Row::new(format!("{name}, 206"), part)
                .ask(range(5, 5))
                .fetch(refused()),
            Row::new(format!("{name}, 206 to content_length"), first).length(refused()),
        ]);
    }
    run(rows);
}

#[test]
fn no_coding_at_all() {
    let read_or_refused = |fields: &[&str], verdict: Verdict, length: Verdict| {
        let name = format!("{fields:?}");
        let script = Script::answer(response("HTTP/1.1 200 OK", fields, CONTENT));
        Row::new(name, script).fetch(verdict).length(length)
    };
    let either = || (ok_whole().or(refused()), known(36).or(refused()));
    let mut rows: Vec<Row> = [
        &["Content-Encoding: identity", "Content-Length: 36"][..],
        &["Content-Encoding: Identity", "Content-Length: 36"],
        &["Content-Encoding:", "Content-Length: 36"],
    ]
    .into_iter()
    .map(|fields| read_or_refused(fields, either().0, either().1))
    .collect();
    // Fields that name codings without applying any.
    rows.push(read_or_refused(
        &[
            "Accept-Encoding: gzip",
            "Vary: Accept-Encoding",
            "Content-Length: 36",
        ],
        ok_whole(),
        known(36),
    ));
    rows.push(read_or_refused(
        &["Content-Type: application/gzip", "Content-Length: 36"],
        ok_whole(),
        known(36),
    ));
    let framed = response(
        "HTTP/1.1 200 OK",
        &["TE: gzip", "Transfer-Encoding: chunked"],
        &chunked(CONTENT, 9),
    );
    rows.push(
        Row::new("TE in an answer", Script::answer(framed)).fetch(ok_maybe_total(CONTENT, 36)),
    );
    let encoded_error = response(
        "HTTP/1.1 404 No",
        &["Content-Encoding: gzip", "Content-Length: 3"],
        b"\x1f\x8b!",
    );
    rows.push(
        Row::new("an encoded error", Script::answer(encoded_error))
            .fetch(not_found())
            .length(not_found()),
    );
    run(rows);
}
