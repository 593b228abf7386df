//! The header section (RFC 9112 §5): what is malformed is refused, what is merely odd is read, and
//! no head makes the client hold more than its limit.

use peer_tests::script::{Script, Step, response};

use super::table::{
    COMPLETE, CONTENT, Row, Verdict, broken, known, ok, ok_whole, range, refused, run,
};

/// An answer of the whole content, with these bytes where a field line could stand, before
/// `Content-Length`.
fn before(lines: &[u8]) -> Vec<u8> {
    let mut bytes = b"HTTP/1.1 200 OK\r\n".to_vec();
    bytes.extend_from_slice(lines);
    bytes.extend_from_slice(b"Content-Length: 36\r\n\r\n");
    bytes.extend_from_slice(CONTENT);
    bytes
}

/// The same with the bytes behind `Content-Length`, as the last of the section.
fn after(lines: &[u8]) -> Vec<u8> {
    let mut bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 36\r\n".to_vec();
    bytes.extend_from_slice(lines);
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(CONTENT);
    bytes
}

fn row(name: String, bytes: Vec<u8>, fetch: Verdict, length: Verdict) -> Row {
    Row::new(name, Script::answer(bytes))
        .fetch(fetch)
        .length(length)
}

#[test]
fn odd_lines_are_read() {
    let lines: &[(&str, &[u8])] = &[
        ("an unknown field", b"X-Odd: 1\r\n"),
        ("an empty value", b"X-Odd:\r\n"),
        ("a value of white space", b"X-Odd: \t \r\n"),
        ("no white space after the colon", b"X-Odd:1\r\n"),
        (
            "much white space around the value",
            b"X-Odd: \t \t 1 \t \t\r\n",
        ),
        ("a colon in the value", b"X-Odd: a:b:c\r\n"),
        ("a tab in the value", b"X-Odd: a\tb\r\n"),
        ("obs-text in the value", b"X-Odd: \xe4\xff\x80\r\n"),
        ("UTF-8 in the value", "X-Odd: 音楽\r\n".as_bytes()),
        ("every tchar in the name", b"!#$%&'*+-.^_`|~09azAZ: 1\r\n"),
        ("one name twice", b"X-Odd: 1\r\nX-Odd: 2\r\n"),
        ("a long name", &[&[b'n'; 4000][..], b": 1\r\n"].concat()),
        (
            "a long value",
            &[b"X-Odd: ", &[b'v'; 15_000][..], b"\r\n"].concat(),
        ),
        ("60 more lines", &b"X-Odd: 1\r\n".repeat(60)),
        (
            "fields that only requests have",
            b"Range: bytes=9-9\r\nHost: elsewhere\r\nExpect: x\r\n",
        ),
        ("a Trailer field", b"Trailer: Content-Length\r\n"),
        ("an Upgrade field", b"Upgrade: h2c\r\n"),
        ("a Set-Cookie field", b"Set-Cookie: a=b; Path=/\r\n"),
        ("an obsolete fold", b"X-Odd: a\r\n b\r\n"),
        ("an obsolete fold with a tab", b"X-Odd: a\r\n\tb\r\n"),
        ("an obsolete fold after nothing", b"X-Odd:\r\n a\r\n"),
        ("two obsolete folds", b"X-Odd: a\r\n b\r\n c\r\n"),
        ("a fold of white space alone", b"X-Odd: a\r\n \r\n"),
        (
            "a fold that looks like a field",
            b"X-Odd: a\r\n Content-Length: 5\r\n",
        ),
        (
            "a fold that looks like a chunked field",
            b"X-Odd: a\r\n\tTransfer-Encoding: chunked\r\n",
        ),
    ];
    let mut rows = Vec::new();
    for (name, lines) in lines {
        rows.push(row(
            format!("{name}, first"),
            before(lines),
            ok_whole(),
            known(36),
        ));
        rows.push(row(
            format!("{name}, last"),
            after(lines),
            ok_whole(),
            known(36),
        ));
    }
    run(rows);
}

#[test]
fn malformed_lines_are_refused() {
    let lines: &[(&str, &[u8])] = &[
        ("a space before the colon", b"X-Odd : 1\r\n"),
        ("a tab before the colon", b"X-Odd\t: 1\r\n"),
        ("a space in the name", b"X Odd: 1\r\n"),
        ("an empty name", b": 1\r\n"),
        ("no colon", b"X-Odd\r\n"),
        ("an opening parenthesis in the name", b"X(Odd: 1\r\n"),
        ("a quotation mark in the name", b"X\"Odd: 1\r\n"),
        ("a slash in the name", b"X/Odd: 1\r\n"),
        ("an at sign in the name", b"X@Odd: 1\r\n"),
        ("obs-text in the name", b"X\xe4Odd: 1\r\n"),
        ("a control byte in the name", b"X\x01Odd: 1\r\n"),
        ("NUL in the name", b"X\0Odd: 1\r\n"),
        ("NUL in the value", b"X-Odd: a\0b\r\n"),
        ("NUL as the value", b"X-Odd: \0\r\n"),
        ("bare CR in the value", b"X-Odd: a\rb\r\n"),
        ("bare CR before CRLF", b"X-Odd: a\r\r\n"),
        (
            "bare CR that hides a line",
            b"X-Odd: a\rContent-Length: 5\r\n",
        ),
        ("bare CR in the name", b"X-\rOdd: 1\r\n"),
        ("bare LF after the value", b"X-Odd: a\n"),
        ("bare LF that hides a line", b"X-Odd: a\nX-Even: b\r\n"),
        ("bare LF before a fold", b"X-Odd: a\n b\r\n"),
        ("a response within", b"HTTP/1.1 200 OK\r\n"),
    ];
    let mut rows = Vec::new();
    for (name, lines) in lines {
        rows.push(row(
            format!("{name}, first"),
            before(lines),
            refused(),
            refused(),
        ));
        rows.push(row(
            format!("{name}, last"),
            after(lines),
            refused(),
            refused(),
        ));
    }
    run(rows);
}

#[test]
fn either_read_or_refused() {
    let lines: &[(&str, &[u8])] = &[
        // RFC 9110 §5.5: a recipient may keep other control bytes, for robustness.
        ("a control byte in the value", b"X-Odd: a\x01b\r\n"),
        ("ESC in the value", b"X-Odd: \x1b[2J\r\n"),
        ("DEL in the value", b"X-Odd: a\x7fb\r\n"),
        ("VT in the value", b"X-Odd: a\x0bb\r\n"),
    ];
    let mut rows = Vec::new();
    for (name, lines) in lines {
        let (fetch, length) = (ok_whole().or(refused()), known(36).or(refused()));
        rows.push(row((*name).to_owned(), before(lines), fetch, length));
    }
    // RFC 9112 §2.2: white space between the status-line and the first field is refused, or each
    // such line is dropped unread. Dropping must not let a Content-Length through.
    for (name, line) in [
        ("white space before the first field", &b" X-Odd: 1\r\n"[..]),
        (
            "white space that would be a length",
            b" Content-Length: 5\r\n",
        ),
        (
            "white space that would be chunked",
            b"\tTransfer-Encoding: chunked\r\n",
        ),
        ("a line of white space", b" \r\n"),
    ] {
        let (fetch, length) = (ok_whole().or(refused()), known(36).or(refused()));
        rows.push(row(name.to_owned(), before(line), fetch, length));
    }
    run(rows);
}

#[test]
fn line_ends() {
    let crlf = response("HTTP/1.1 200 OK", &["X-Odd: 1", "Content-Length: 36"], b"");
    let replaced = |crlf_at: usize, with: &[u8]| {
        let mut bytes = Vec::new();
        for (index, line) in crlf.split_inclusive(|byte| *byte == b'\n').enumerate() {
            let (line, end) = line.split_at(line.len() - 2);
            bytes.extend_from_slice(line);
            bytes.extend_from_slice(if index == crlf_at { with } else { end });
        }
        bytes.extend_from_slice(CONTENT);
        bytes
    };
    let mut rows = Vec::new();
    let places = [
        "the status-line",
        "the first field",
        "the last field",
        "the section",
    ];
    for (end_name, end) in [
        ("LF", &b"\n"[..]),
        ("CR", b"\r"),
        ("LF CR", b"\n\r"),
        ("CR CR LF", b"\r\r\n"),
    ] {
        for (index, place) in places.iter().enumerate() {
            // A lone CR after the section leaves the head open: more bytes could come.
            let bytes = replaced(index, end);
            let script = Script::always([Step::Send(bytes), Step::Fin]);
            let name = format!("{end_name} ends {place}");
            rows.push(Row::new(name, script).fetch(refused()).length(refused()));
        }
    }
    let all_lf: Vec<u8> = crlf.iter().copied().filter(|byte| *byte != b'\r').collect();
    let script = Script::always([Step::Send([&all_lf[..], CONTENT].concat()), Step::Fin]);
    rows.push(
        Row::new("LF ends every line", script)
            .fetch(refused())
            .length(refused()),
    );
    run(rows);
}

#[test]
fn names_in_any_case() {
    let mut rows = Vec::new();
    for name in ["content-length", "CONTENT-LENGTH", "cOnTeNt-LeNgTh"] {
        let answer = response("HTTP/1.1 200 OK", &[&format!("{name}: 36")], CONTENT);
        rows.push(row(name.to_owned(), answer, ok_whole(), known(36)));
    }
    for name in ["content-range", "CONTENT-RANGE"] {
        let fields = [&format!("{name}: bytes 5-9/36"), "CONTENT-length: 5"];
        let script = Script::answer(response("HTTP/1.1 206 x", &fields, b"56789"));
        rows.push(
            Row::new(name, script)
                .ask(range(5, 5))
                .fetch(ok(b"56789", COMPLETE)),
        );
    }
    for name in ["transfer-encoding", "TRANSFER-ENCODING"] {
        let chunked = [b"24\r\n", &CONTENT[..], b"\r\n0\r\n\r\n"].concat();
        let answer = response("HTTP/1.1 200 OK", &[&format!("{name}: chunked")], &chunked);
        let script = Script::answer(answer);
        rows.push(Row::new(name, script).fetch(super::table::ok_maybe_total(CONTENT, 36)));
    }
    run(rows);
}

#[test]
fn folds_in_fields_that_count() {
    // RFC 9112 §5.2: a user agent replaces each fold with spaces before it interprets the value.
    let chunked = [b"24\r\n", &CONTENT[..], b"\r\n0\r\n\r\n"].concat();
    let rows = vec![
        row(
            "a length behind a fold".to_owned(),
            response("HTTP/1.1 200 OK", &["Content-Length:", " 36"], CONTENT),
            ok_whole(),
            known(36),
        ),
        row(
            "a length before a fold".to_owned(),
            response("HTTP/1.1 200 OK", &["Content-Length: 36", "\t"], CONTENT),
            ok_whole(),
            known(36),
        ),
        row(
            "a length torn by a fold".to_owned(),
            response("HTTP/1.1 200 OK", &["Content-Length: 3", " 6"], CONTENT),
            refused(),
            refused(),
        ),
        row(
            "two lengths joined by a fold".to_owned(),
            response("HTTP/1.1 200 OK", &["Content-Length: 36,", " 35"], CONTENT),
            refused(),
            refused(),
        ),
        Row::new(
            "chunked behind a fold",
            Script::answer(response(
                "HTTP/1.1 200 OK",
                &["Transfer-Encoding:", "\tchunked"],
                &chunked,
            )),
        )
        .fetch(super::table::ok_maybe_total(CONTENT, 36))
        .length(super::table::unknown()),
        Row::new(
            "a folded Content-Range",
            Script::answer(response(
                "HTTP/1.1 206 Partial Content",
                &["Content-Range: bytes", " 5-9/36", "Content-Length: 5"],
                b"56789",
            )),
        )
        .ask(range(5, 5))
        // One space, or several in the fold's place: RFC 9112 §5.2 allows both, and only one of
        // them makes a Content-Range.
        .fetch(ok(b"56789", COMPLETE).or(refused())),
        Row::new(
            "a Content-Range torn by a fold",
            Script::answer(response(
                "HTTP/1.1 206 Partial Content",
                &["Content-Range: bytes 5-9/3", " 6", "Content-Length: 5"],
                b"56789",
            )),
        )
        .ask(range(5, 5))
        .fetch(refused()),
        Row::new(
            "a folded Content-Encoding",
            Script::answer(response(
                "HTTP/1.1 200 OK",
                &["Content-Encoding:", " gzip", "Content-Length: 36"],
                CONTENT,
            )),
        )
        .fetch(refused()),
    ];
    run(rows);
}

#[test]
fn limits() {
    let padded = |size: usize| {
        let unpadded = response("HTTP/1.1 200 OK", &["Content-Length: 36", "X-Odd: "], b"");
        let pad = format!("X-Odd: {}", "v".repeat(size - unpadded.len()));
        let head = response("HTTP/1.1 200 OK", &["Content-Length: 36", &pad], b"");
        assert_eq!(head.len(), size);
        [&head[..], CONTENT].concat()
    };
    let lines = |count: usize| {
        let mut fields = vec!["Content-Length: 36"];
        fields.resize(count, "a: b");
        response("HTTP/1.1 200 OK", &fields, CONTENT)
    };
    let reason = |size: usize| {
        let line = format!("HTTP/1.1 200 {}", "O".repeat(size));
        response(&line, &["Content-Length: 36"], CONTENT)
    };
    let read = |name: &str, bytes| row(name.to_owned(), bytes, ok_whole(), known(36));
    let too_much = |name: &str, bytes| row(name.to_owned(), bytes, refused(), refused());
    run(vec![
        read("a head of 8 KiB", padded(8 << 10)),
        read("a head of 16 KiB", padded(16 << 10)),
        too_much("a head of 16 KiB and a byte", padded((16 << 10) + 1)),
        too_much("a head of 17 KiB", padded(17 << 10)),
        too_much("a head of 64 KiB", padded(64 << 10)),
        too_much("a head of 1 MiB", padded(1 << 20)),
        read("64 field lines", lines(64)),
        too_much("65 field lines", lines(65)),
        too_much("2,000 field lines", lines(2000)),
        read("a reason of 4 KiB", reason(4 << 10)),
        too_much("a reason of 17 KiB", reason(17 << 10)),
    ]);
}

#[test]
fn endless_heads() {
    const CAP: u64 = 64 << 20;
    let starts: &[(&str, &[u8], &[u8])] = &[
        (
            "field lines",
            b"HTTP/1.1 200 OK\r\nContent-Length: 36\r\n",
            b"a: b\r\n",
        ),
        (
            "one value",
            b"HTTP/1.1 200 OK\r\nContent-Length: 36\r\nX-Odd: ",
            b"v",
        ),
        ("one name", b"HTTP/1.1 200 OK\r\n", b"n"),
        (
            "white space after a colon",
            b"HTTP/1.1 200 OK\r\nContent-Length:",
            b" ",
        ),
        ("folds", b"HTTP/1.1 200 OK\r\nX-Odd: a\r\n", b" b\r\n"),
        ("a reason", b"HTTP/1.1 200 ", b"O"),
        ("a version", b"HTTP/1.", b"1"),
        ("a status code", b"HTTP/1.1 ", b"2"),
        ("empty lines", b"", b"\r\n"),
        ("NUL", b"", b"\0"),
        ("CR", b"", b"\r"),
    ];
    run(starts
        .iter()
        .map(|(name, start, unit)| {
            let steps = [
                Step::Send(start.to_vec()),
                Step::Endless(unit.to_vec(), CAP),
                Step::Fin,
            ];
            Row::new(format!("endless {name}"), Script::always(steps))
                .fetch(broken(0))
                .length(broken(0))
                .inspect(|server| match server.capped() {
                    true => Err(format!("the client took all {CAP} bytes")),
                    false => Ok(()),
                })
        })
        .collect());
}

#[test]
fn heads_that_break_off() {
    let whole = response("HTTP/1.1 200 OK", &["Content-Length: 36", "X-Odd: 1"], b"");
    let mut rows = Vec::new();
    for cut in 0..whole.len() {
        for end in [Step::Fin, Step::Reset] {
            let name = format!("{end:?} after {cut} bytes of the head");
            let script = Script::always([Step::Send(whole[..cut].to_vec()), end]);
            rows.push(Row::new(name, script).fetch(broken(0)).length(broken(0)));
        }
    }
    run(rows);
}

#[test]
fn heads_that_come_slowly() {
    let whole = response(
        "HTTP/1.1 200 OK",
        &["Content-Length: 36", "X-Odd: 1"],
        CONTENT,
    );
    let script = Script::always([Step::Drip(whole, 1)]);
    run(vec![
        Row::new("a byte at a time", script)
            .fetch(ok_whole())
            .length(known(36)),
    ]);
}
