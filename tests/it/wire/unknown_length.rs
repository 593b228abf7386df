//! Sources of unknown length: RFC 9112 §6.3, §7.1, RFC 9110 §14.3; and what published peers,
//! which know nothing of chunks, can be told.

use super::*;

fn whole() -> Answer {
    ok(&patterned(0, UNKNOWN as usize))
        .has("Accept-Ranges", "none")
        .lacks("Content-Range")
        .lacks("Content-Length")
}

/// The whole in chunks.
fn chunked() -> Answer {
    whole().has("Transfer-Encoding", "chunked")
}

/// The whole, and then the end of the connection.
fn close_delimited() -> Answer {
    whole()
        .lacks("Transfer-Encoding")
        .has("Connection", "close")
}

#[test]
fn to_peers_that_keep_the_connection() {
    let asked = |fields: &[&str]| get("unknown", fields);
    let mut rows = vec![
        stays("GET", asked(&[]), chunked()),
        stays(
            "GET in absolute-form",
            with_line("GET http://peer.test/track/unknown HTTP/1.1"),
            chunked(),
        ),
        stays("1.2", with_line("GET /track/unknown HTTP/1.2"), chunked()),
        stays(
            "with content",
            joined(&[&asked(&["Content-Length: 5"]), b"hello"]),
            chunked(),
        ),
        stays(
            "no content",
            get("unknown-empty", &[]),
            ok(b"")
                .has("Accept-Ranges", "none")
                .has("Transfer-Encoding", "chunked"),
        ),
        stays(
            "no content, range",
            get("unknown-empty", &["Range: bytes=0-"]),
            ok(b"").has("Accept-Ranges", "none"),
        ),
        stays(
            "HEAD",
            request("HEAD", "unknown", &[]),
            answer(200)
                .has("Accept-Ranges", "none")
                .lacks("Content-Length")
                .for_head(),
        ),
        stays(
            "TE without chunked",
            asked(&["TE: trailers", "Connection: TE"]),
            chunked(),
        ),
        stays("If-None-Match", asked(&["If-None-Match: \"x\""]), chunked()),
        stays("If-None-Match *", asked(&["If-None-Match: *"]), answer(304)),
        stays("If-Match", asked(&["If-Match: \"x\""]), answer(412)),
        Row::new(
            "three in a row",
            asked(&[]).repeat(3),
            vec![chunked(), chunked(), chunked()],
            Then::Stays,
        ),
        Row::new(
            "between others",
            joined(&[
                &get("letters", &[]),
                &asked(&[]),
                &get("letters", &["Range: bytes=1-1"]),
            ]),
            vec![letters(), chunked(), part(1, 1)],
            Then::Stays,
        ),
    ];
    // Nothing can be said about positions in what has no known end: the range is ignored.
    for range in [
        "bytes=0-",
        "bytes=0-0",
        "bytes=0-4",
        "bytes=5-",
        "bytes=5-9",
        "bytes=99999999-",
        "bytes=-5",
        "bytes=-0",
        "bytes=0-0,2-2",
        "bytes=5-6,8-9",
        "bytes=x",
        "bytes=9-5",
        "lines=1-2",
        "bytes=18446744073709551616-",
    ] {
        rows.push(stays(
            range,
            asked(&[&format!("Range: {range}")]),
            chunked(),
        ));
        rows.push(stays(
            format!("{range} with If-Range"),
            asked(&[&format!("Range: {range}"), "If-Range: \"x\""]),
            chunked(),
        ));
    }
    run_table(&rows);
}

#[test]
fn to_peers_that_close() {
    // §6.1: no transfer coding to HTTP/1.0; and published peers say Connection: close and read to
    // the end, chunk framing included, so they get none either.
    let refused = || answer(416).lacks("Content-Range");
    let mut rows = Vec::new();
    let lines: [(&str, &str, &[&str]); 4] = [
        (
            "close",
            "GET /track/unknown HTTP/1.1",
            &["Connection: close"],
        ),
        ("1.0", "GET /track/unknown HTTP/1.0", &[]),
        (
            "1.0 close",
            "GET /track/unknown HTTP/1.0",
            &["Connection: close"],
        ),
        (
            "1.0 keep-alive",
            "GET /track/unknown HTTP/1.0",
            &["Connection: keep-alive"],
        ),
    ];
    for (name, line, fields) in lines {
        let asked = |range: Option<&str>| {
            let range = range.map(|r| format!("Range: {r}"));
            let mut lines = vec![line, HOST, AUTH];
            lines.extend_from_slice(fields);
            lines.extend(range.as_deref());
            head(&lines)
        };
        rows.push(ends(name, asked(None), close_delimited()));
        let of_nothing = String::from_utf8(asked(None))
            .unwrap()
            .replace("unknown", "unknown-empty");
        rows.push(ends(
            format!("{name}, no content"),
            of_nothing.into_bytes(),
            ok(b"")
                .lacks("Transfer-Encoding")
                .has("Connection", "close"),
        ));
        for range in [
            "bytes=0-",
            "bytes=0-0",
            "bytes=0-4",
            "BYTES=0-",
            "bytes=000-",
        ] {
            rows.push(ends(
                format!("{name}, {range}"),
                asked(Some(range)),
                close_delimited(),
            ));
        }
        // They would take the content for the range they asked for.
        for range in [
            "bytes=1-",
            "bytes=5-9",
            "bytes=99999999-",
            "BYTES=5-",
            "bytes=18446744073709551616-",
            "bytes=1-1",
        ] {
            rows.push(either(
                format!("{name}, {range}"),
                asked(Some(range)),
                refused(),
            ));
        }
        // What no published peer sends needs no such care.
        for range in [
            "bytes=-5",
            "bytes=5-6,8-9",
            "bytes=x",
            "lines=5-9",
            "bytes=9-5",
        ] {
            rows.push(ends(
                format!("{name}, {range}"),
                asked(Some(range)),
                close_delimited(),
            ));
        }
    }
    rows.extend([
        ends(
            "HEAD close",
            request("HEAD", "unknown", &["Connection: close"]),
            answer(200).lacks("Content-Length").for_head(),
        ),
        ends(
            "HEAD 1.0",
            head(&["HEAD /track/unknown HTTP/1.0", AUTH]),
            answer(200)
                .lacks("Content-Length")
                .lacks("Transfer-Encoding")
                .for_head(),
        ),
        ends(
            "HEAD close with Range",
            request("HEAD", "unknown", &["Connection: close", "Range: bytes=5-"]),
            answer(200).for_head(),
        ),
        ends(
            "304 close",
            get("unknown", &["Connection: close", "If-None-Match: *"]),
            answer(304),
        ),
    ]);
    run_table(&rows);
}

/// A source that gives its content in pieces of these lengths, whatever is asked for.
struct InPieces(Vec<usize>);

impl ByteSource for InPieces {
    fn len(&self) -> Option<u64> {
        None
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let mut at = 0;
        for &piece in &self.0 {
            if offset < at + piece as u64 {
                let n = ((at + piece as u64 - offset) as usize).min(buf.len());
                fill_pattern(offset, &mut buf[..n]);
                return Ok(n);
            }
            at += piece as u64;
        }
        Ok(0)
    }
}

#[test]
fn chunks_of_every_size() {
    let lists: [&[usize]; 7] = [
        &[1],
        &[1, 1, 1],
        &[9, 10, 15, 16, 17],
        &[255, 256, 257],
        &[4095, 4096, 4097],
        &[65_535, 65_536, 65_537, 1],
        &[1_048_577, 1, 300_000],
    ];
    let map = lists
        .iter()
        .enumerate()
        .map(|(n, list)| {
            (
                format!("p{n}"),
                Arc::new(InPieces(list.to_vec())) as Arc<dyn ByteSource>,
            )
        })
        .collect();
    let server = start_with(map);
    let rows: Vec<Row> = lists
        .iter()
        .enumerate()
        .flat_map(|(n, list)| {
            let content = patterned(0, list.iter().sum());
            [
                stays(
                    format!("{list:?}"),
                    get(&format!("p{n}"), &[]),
                    ok(&content),
                ),
                ends(
                    format!("{list:?}, close"),
                    get(&format!("p{n}"), &["Connection: close"]),
                    ok(&content),
                ),
            ]
        })
        .collect();
    run_table_at(&server, &rows);
}
