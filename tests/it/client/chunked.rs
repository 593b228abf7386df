//! Chunked content (RFC 9112 §7.1), and what `Transfer-Encoding` may say (§6.1).

use peer_tests::script::{Script, Step, chunked, response};

use super::table::{
    COMPLETE, CONTENT, Row, Verdict, broken, from, ok, ok_maybe_total, ok_whole, protocol, range,
    refused, run, unknown,
};

const OK: &str = "HTTP/1.1 200 OK";
const PARTIAL: &str = "HTTP/1.1 206 Partial Content";
const CHUNKED: &str = "Transfer-Encoding: chunked";

fn answer(body: &[u8]) -> Vec<u8> {
    response(OK, &[CHUNKED], body)
}

fn whole() -> Verdict {
    ok_maybe_total(CONTENT, 36)
}

/// A chunk of the first five bytes between these, then the rest, properly.
fn around_first_chunk(size_line: &[u8], data_end: &[u8]) -> Vec<u8> {
    [
        size_line,
        &CONTENT[..5],
        data_end,
        &chunked(&CONTENT[5..], 31),
    ]
    .concat()
}

#[test]
fn well_formed() {
    let hex = |size: &str| [size.as_bytes(), b"\r\n", CONTENT, b"\r\n0\r\n\r\n"].concat();
    let trailers = |lines: &str| {
        [
            b"24\r\n",
            &CONTENT[..],
            b"\r\n0\r\n",
            lines.as_bytes(),
            b"\r\n",
        ]
        .concat()
    };
    let bodies: Vec<(&str, Vec<u8>)> = vec![
        ("one chunk", chunked(CONTENT, 36)),
        ("chunks of one byte", chunked(CONTENT, 1)),
        ("chunks of seven bytes", chunked(CONTENT, 7)),
        ("a leading zero", hex("024")),
        ("a size of 16 digits", hex("0000000000000024")),
        (
            "a last chunk of several zeros",
            [&b"24\r\n"[..], CONTENT, b"\r\n0000\r\n\r\n"].concat(),
        ),
        ("an extension", hex("24;name=value")),
        ("an extension without a value", hex("24;name")),
        ("an extension with a quoted value", hex("24;name=\"a b;c\"")),
        ("a quoted value with an escape", hex("24;name=\"a\\\"b\"")),
        ("two extensions", hex("24;a=1;b=2")),
        (
            "an extension of 1,000 bytes",
            hex(&format!("24;name={}", "v".repeat(1000))),
        ),
        ("white space around an extension", hex("24 ; name = value")),
        ("an extension that looks like a size", hex("24;5")),
        (
            "an extension of the last chunk",
            [&b"24\r\n"[..], CONTENT, b"\r\n0;name=value\r\n\r\n"].concat(),
        ),
        ("a trailer", trailers("X-Odd: 1\r\n")),
        (
            "three trailers",
            trailers("X-Odd: 1\r\nX-Even: 2\r\nDigest: x\r\n"),
        ),
        ("an empty trailer", trailers("X-Odd:\r\n")),
        // RFC 9112 §7.1.2: trailers never change how the message is read.
        (
            "Content-Length in the trailers",
            trailers("Content-Length: 5\r\n"),
        ),
        (
            "Transfer-Encoding in the trailers",
            trailers("Transfer-Encoding: gzip\r\n"),
        ),
        (
            "Content-Range in the trailers",
            trailers("Content-Range: bytes 9-9/10\r\n"),
        ),
        (
            "Content-Encoding in the trailers",
            trailers("Content-Encoding: gzip\r\n"),
        ),
    ];
    let mut rows: Vec<Row> = bodies
        .iter()
        .map(|(name, body)| Row::new(*name, Script::answer(answer(body))).fetch(whole()))
        .collect();
    rows.extend(bodies.iter().map(|(name, body)| {
        let script = Script::always([Step::Drip(answer(body), 1)]);
        Row::new(format!("{name}, a byte at a time"), script).fetch(whole())
    }));
    for size in ["a", "A"] {
        let body = [size.as_bytes(), b"\r\n0123456789\r\n0\r\n\r\n"].concat();
        let row = Row::new(format!("size {size}"), Script::answer(answer(&body)));
        rows.push(row.fetch(ok_maybe_total(b"0123456789", 10)));
    }
    let nothing = Script::answer(answer(b"0\r\n\r\n"));
    rows.push(Row::new("nothing but the last chunk", nothing).fetch(ok_maybe_total(b"", 0)));
    run(rows);
}

#[test]
fn length_of_chunked() {
    let closed = answer(&chunked(CONTENT, 7));
    run(vec![
        Row::new("complete", Script::answer(closed)).length(unknown()),
        // Whoever asks for the length has it, or knows that it is not said, by the end of the head.
        Row::new(
            "content that never comes",
            Script::always([Step::Send(answer(b"")), Step::Hold]),
        )
        .length(unknown()),
        Row::new(
            "endless content",
            Script::always([
                Step::Send(answer(b"")),
                Step::Endless(b"5\r\nhello\r\n".to_vec(), 64 << 20),
            ]),
        )
        .length(unknown())
        .inspect(|server| match server.capped() {
            true => Err("the client read all of it to learn a length".to_owned()),
            false => Ok(()),
        }),
    ]);
}

#[test]
fn malformed_size_lines() {
    let lines: &[(&str, &[u8])] = &[
        ("no size", b"\r\n"),
        ("an extension without a size", b";name\r\n"),
        ("a letter beyond f", b"g\r\n"),
        ("a letter behind the size", b"5x\r\n"),
        ("a minus sign", b"-5\r\n"),
        ("a plus sign", b"+5\r\n"),
        ("0x", b"0x5\r\n"),
        ("an underscore", b"0_5\r\n"),
        ("white space before the size", b" 5\r\n"),
        ("a tab before the size", b"\t5\r\n"),
        ("a fraction", b"5.0\r\n"),
        ("two sizes", b"5 5\r\n"),
        ("quoted", b"\"5\"\r\n"),
        ("NUL behind the size", b"5\0\r\n"),
        ("NUL in an extension", b"5;a=\0\r\n"),
        ("bare LF behind the size", b"5\n"),
        ("bare CR behind the size", b"5\r"),
        ("CR CR LF behind the size", b"5\r\r\n"),
        ("bare LF in an extension", b"5;a\nb\r\n"),
        ("bare LF behind an extension", b"5;a=b\n"),
        ("bare CR in an extension", b"5;a\rb\r\n"),
        ("an empty line before the size", b"\r\n5\r\n"),
        ("digits of another script", "５\r\n".as_bytes()),
        ("2^64", b"10000000000000000\r\n"),
        ("2^64 + 5, which wraps to 5", b"10000000000000005\r\n"),
        ("seventeen f", b"fffffffffffffffff\r\n"),
        (
            "2^32 + 5 of 2^128",
            b"100000000000000000000000100000005\r\n",
        ),
    ];
    let mut rows = Vec::new();
    for (name, line) in lines {
        let first = answer(&around_first_chunk(line, b"\r\n"));
        rows.push(Row::new(format!("{name}, first chunk"), fin(first)).fetch(protocol(0)));
        let body = [&b"5\r\n01234\r\n"[..], line, b"56789\r\n0\r\n\r\n"].concat();
        let second = fin(answer(&body));
        rows.push(Row::new(format!("{name}, second chunk"), second).fetch(protocol(5)));
    }
    // Beyond the limit, though well-formed.
    let long = [b"5;a=", &[b'v'; 20_000][..], b"\r\n"].concat();
    let script = fin(answer(&around_first_chunk(&long, b"\r\n")));
    rows.push(Row::new("an extension of 20,000 bytes", script).fetch(protocol(0)));
    let zeros = [&[b'0'; 20_000][..], b"5\r\n"].concat();
    let script = fin(answer(&around_first_chunk(&zeros, b"\r\n")));
    rows.push(Row::new("20,000 leading zeros", script).fetch(protocol(0)));
    run(rows);
}

fn fin(answer: Vec<u8>) -> Script {
    Script::always([Step::Send(answer), Step::Fin])
}

#[test]
fn size_lines_read_or_refused() {
    let lines: &[(&str, &[u8])] = &[
        // RFC 9112 §7.1.1 allows white space before an extension, not before CRLF.
        ("white space behind the size", b"5 \r\n"),
        ("a tab behind the size", b"5\t\r\n"),
        ("a semicolon and nothing", b"5;\r\n"),
        ("an extension without a name", b"5;=v\r\n"),
        ("an extension that is no token", b"5;a(b\r\n"),
        ("an open quotation", b"5;a=\"b\r\n"),
        ("a control byte in an extension", b"5;a=\x01\r\n"),
        ("17 digits of a small number", b"00000000000000005\r\n"),
    ];
    run(lines
        .iter()
        .map(|(name, line)| {
            let script = fin(answer(&around_first_chunk(line, b"\r\n")));
            Row::new(*name, script).fetch(whole().or(protocol(0)))
        })
        .collect());
}

#[test]
fn bytes_behind_chunk_data() {
    let ends: &[(&str, &[u8])] = &[
        ("nothing", b""),
        ("bare LF", b"\n"),
        ("bare CR", b"\r"),
        ("LF CR", b"\n\r"),
        ("CR CR LF", b"\r\r\n"),
        ("two bytes", b"XX"),
        ("CR and a byte", b"\rX"),
        ("a byte and LF", b"X\n"),
        ("a byte too much", b"5\r\n"),
        ("NUL NUL", b"\0\0"),
        ("white space before CRLF", b" \r\n"),
    ];
    let mut rows = Vec::new();
    for (name, end) in ends {
        let script = fin(answer(&around_first_chunk(b"5\r\n", end)));
        rows.push(Row::new(*name, script).fetch(protocol(5)));
    }
    let body = [b"24\r\n", &CONTENT[..], b"XX0\r\n\r\n"].concat();
    rows.push(Row::new("two bytes, last chunk next", fin(answer(&body))).fetch(protocol(36)));
    let body = [b"23\r\n", &CONTENT[..], b"\r\n0\r\n\r\n"].concat();
    rows.push(Row::new("a size one too small", fin(answer(&body))).fetch(protocol(35)));
    let body = [b"25\r\n", &CONTENT[..], b"\r\n0\r\n\r\n"].concat();
    // The CR is taken for a content byte that was not asked for; whoever stops before it has
    // every byte of the range.
    rows.push(
        Row::new("a size one too large", fin(answer(&body)))
            .ask(range(0, 36))
            .fetch(whole().or(protocol(36))),
    );
    run(rows);
}

#[test]
fn huge_sizes() {
    let first = |size: &str| answer(&[size.as_bytes(), b"\r\n", &CONTENT[..10]].concat());
    let second = |size: &str| {
        answer(&[b"5\r\n01234\r\n", size.as_bytes(), b"\r\n", &CONTENT[5..10]].concat())
    };
    let mut rows = Vec::new();
    for size in [
        "ffffffffffffffff",
        "7fffffffffffffff",
        "8000000000000000",
        "ffffffff",
        "100000000",
    ] {
        // The size is a number that can be held: the content breaks off, or the sum overflows.
        let name = format!("{size}, ten bytes");
        rows.push(
            Row::new(name, fin(first(size)))
                .fetch(broken(10))
                .length(unknown()),
        );
        let name = format!("{size} behind five bytes");
        rows.push(Row::new(name, fin(second(size))).fetch(broken(10)));
    }
    run(rows);
}

#[test]
fn ends_too_early() {
    let mut rows = Vec::new();
    let pieces: &[(&str, &[u8], usize)] = &[
        ("before the first chunk", b"", 0),
        ("in the first size", b"5", 0),
        ("behind a size", b"5\r", 0),
        ("before the data", b"5\r\n", 0),
        ("in the data", b"5\r\n012", 3),
        ("behind the data", b"5\r\n01234", 5),
        ("in the CRLF behind the data", b"5\r\n01234\r", 5),
        ("without a last chunk", b"5\r\n01234\r\n", 5),
        ("in the last chunk's size", b"5\r\n01234\r\n0", 5),
        ("in the last chunk's CRLF", b"5\r\n01234\r\n0\r", 5),
        ("before the trailers", b"5\r\n01234\r\n0\r\n", 5),
        ("in the last CRLF", b"5\r\n01234\r\n0\r\n\r", 5),
        ("in a trailer", b"5\r\n01234\r\n0\r\nX-Odd: 1", 5),
        ("behind a trailer", b"5\r\n01234\r\n0\r\nX-Odd: 1\r\n", 5),
    ];
    for (name, body, data) in pieces {
        for end in [Step::Fin, Step::Reset] {
            let script = Script::always([Step::Send(answer(body)), end.clone()]);
            rows.push(Row::new(format!("{end:?} {name}"), script).fetch(broken(*data)));
        }
    }
    run(rows);
}

#[test]
fn trailer_sections() {
    let trailers =
        |lines: &[u8]| answer(&[b"24\r\n", &CONTENT[..], b"\r\n0\r\n", lines, b"\r\n"].concat());
    let malformed: &[(&str, &[u8])] = &[
        ("NUL", b"X-Odd: \0\r\n"),
        ("bare LF", b"X-Odd: 1\n"),
        ("bare CR", b"X-Odd: 1\r2\r\n"),
        (
            "20,000 bytes",
            &[b"X-Odd: ", &[b'v'; 20_000][..], b"\r\n"].concat(),
        ),
        ("3,000 lines", &b"X-Odd: 1\r\n".repeat(3000)),
        ("no colon", b"X-Odd\r\n"),
        ("white space before the colon", b"X-Odd : 1\r\n"),
        ("another last chunk", b"0\r\n"),
    ];
    // Every content byte was there and the last chunk said so; a client may ignore the trailers,
    // but not lose its place in them.
    let mut rows: Vec<Row> = malformed
        .iter()
        .map(|(name, lines)| {
            let script = fin(trailers(lines));
            Row::new(format!("malformed: {name}"), script).fetch(whole().or(protocol(36)))
        })
        .collect();
    let endless: &[(&str, &[u8])] = &[("lines", b"a: b\r\n"), ("bytes", b"v")];
    for (name, unit) in endless {
        let start = answer(&[b"24\r\n", &CONTENT[..], b"\r\n0\r\nX-Odd: 1\r\n"].concat());
        let script = Script::always([
            Step::Send(start),
            Step::Endless(unit.to_vec(), 64 << 20),
            Step::Fin,
        ]);
        let row = Row::new(format!("endless {name}"), script).fetch(broken(36));
        rows.push(row.inspect(stopped));
    }
    run(rows);
}

fn stopped(server: &peer_tests::script::ScriptServer) -> Result<(), String> {
    match server.capped() {
        true => Err("the client took every byte that was sent".to_owned()),
        false => Ok(()),
    }
}

#[test]
fn endless_framing() {
    let starts: &[(&str, &[u8], &[u8])] = &[
        ("zeros of a size", b"", b"0"),
        ("digits of a size", b"", b"1"),
        ("extension", b"5;a=", b"v"),
        ("white space", b"5", b" "),
        ("extensions", b"5", b";a"),
    ];
    run(starts
        .iter()
        .map(|(name, start, unit)| {
            let steps = [
                Step::Send(answer(start)),
                Step::Endless(unit.to_vec(), 64 << 20),
                Step::Fin,
            ];
            Row::new(*name, Script::always(steps))
                .fetch(broken(0))
                .inspect(stopped)
        })
        .collect());
}

#[test]
fn content_that_exceeds_a_206() {
    // The Content-Range says what is in the content: chunked content has to agree.
    let part = |body: &[u8]| {
        fin(response(
            PARTIAL,
            &["Content-Range: bytes 5-9/36", CHUNKED],
            body,
        ))
    };
    let five = range(5, 5);
    run(vec![
        Row::new("as said", part(&chunked(b"56789", 2)))
            .ask(five)
            .fetch(ok(b"56789", COMPLETE)),
        Row::new("one byte less", part(&chunked(b"5678", 2)))
            .ask(five)
            .fetch(broken(4)),
        Row::new("nothing", part(b"0\r\n\r\n"))
            .ask(five)
            .fetch(broken(0)),
        Row::new("one byte more", part(&chunked(b"56789a", 2)))
            .ask(five)
            .fetch(broken(5)),
        Row::new(
            "one byte more, a chunk of its own",
            part(&chunked(b"56789a", 5)),
        )
        .ask(five)
        .fetch(broken(5)),
        Row::new("no last chunk", part(b"5\r\n56789\r\n"))
            .ask(five)
            .fetch(broken(5)),
        Row::new("a huge chunk", part(b"ffffffffffffffff\r\n56789"))
            .ask(five)
            .fetch(broken(5)),
        Row::new(
            "open-ended, as said",
            fin(response(
                PARTIAL,
                &["Content-Range: bytes 5-35/36", CHUNKED],
                &chunked(&CONTENT[5..], 4),
            )),
        )
        .ask(from(5))
        .fetch(ok(&CONTENT[5..], COMPLETE)),
    ]);
}

#[test]
fn transfer_encodings() {
    let body = chunked(CONTENT, 7);
    let is_whole: &[(&str, &[&str])] = &[
        ("in another case", &["Transfer-Encoding: Chunked"]),
        ("in capitals", &["TRANSFER-ENCODING: CHUNKED"]),
        ("with white space", &["Transfer-Encoding: \tchunked "]),
    ];
    let is_refused: &[(&str, &[&str])] = &[
        ("gzip, chunked", &["Transfer-Encoding: gzip, chunked"]),
        (
            "gzip and chunked in two lines",
            &["Transfer-Encoding: gzip", CHUNKED],
        ),
        ("chunked, gzip", &["Transfer-Encoding: chunked, gzip"]),
        ("chunked twice", &["Transfer-Encoding: chunked, chunked"]),
        ("chunked in two lines", &[CHUNKED, CHUNKED]),
        (
            "chunked, identity",
            &["Transfer-Encoding: chunked, identity"],
        ),
        (
            "identity, chunked",
            &["Transfer-Encoding: identity, chunked"],
        ),
        ("gzip", &["Transfer-Encoding: gzip"]),
        ("deflate", &["Transfer-Encoding: deflate"]),
        ("compress", &["Transfer-Encoding: compress"]),
        ("identity", &["Transfer-Encoding: identity"]),
        ("an unknown coding", &["Transfer-Encoding: odd"]),
        ("xchunked", &["Transfer-Encoding: xchunked"]),
        ("chunkedx", &["Transfer-Encoding: chunkedx"]),
        (
            "chunked with a control byte",
            &["Transfer-Encoding: \u{b}chunked"],
        ),
        ("quoted", &["Transfer-Encoding: \"chunked\""]),
        ("two words", &["Transfer-Encoding: chunked chunked"]),
        ("a prefix", &["Transfer-Encoding: chunk"]),
        (
            "gzip with a length",
            &["Transfer-Encoding: gzip", "Content-Length: 36"],
        ),
        (
            "identity with a length",
            &["Transfer-Encoding: identity", "Content-Length: 36"],
        ),
        (
            "an unknown coding with a length",
            &["Transfer-Encoding: odd", "Content-Length: 36"],
        ),
    ];
    let is_either: &[(&str, &[&str])] = &[
        ("with an empty element", &["Transfer-Encoding: chunked,"]),
        (
            "with an empty element first",
            &["Transfer-Encoding: , chunked"],
        ),
        // RFC 9112 §7.1 gives chunked no parameters: their presence SHOULD count as an error.
        ("with a parameter", &["Transfer-Encoding: chunked;q=1"]),
        ("an empty line too", &["Transfer-Encoding:", CHUNKED]),
        // §6.3: Transfer-Encoding overrides Content-Length, or the message is refused.
        ("with Content-Length", &[CHUNKED, "Content-Length: 36"]),
        ("behind Content-Length", &["Content-Length: 36", CHUNKED]),
        (
            "with a Content-Length of the framed bytes",
            &[CHUNKED, "Content-Length: 59"],
        ),
        (
            "with a Content-Length of zero",
            &["Content-Length: 0", CHUNKED],
        ),
        (
            "with a Content-Length too small",
            &["Content-Length: 5", CHUNKED],
        ),
        (
            "with a Content-Length too large",
            &["Content-Length: 5000", CHUNKED],
        ),
        (
            "with a Content-Length beyond 2^64",
            &["Content-Length: 99999999999999999999", CHUNKED],
        ),
        (
            "with a Content-Length of words",
            &["Content-Length: odd", CHUNKED],
        ),
        (
            "with two Content-Lengths",
            &["Content-Length: 5", CHUNKED, "Content-Length: 6"],
        ),
    ];
    let mut rows = Vec::new();
    let mut table = |names: &[(&str, &[&str])], fetch: Verdict, length: Verdict| {
        for (name, fields) in names {
            rows.push(
                Row::new(*name, fin(response(OK, fields, &body)))
                    .fetch(fetch.clone())
                    .length(length.clone()),
            );
        }
    };
    table(is_whole, whole(), unknown());
    table(is_refused, refused(), refused());
    table(is_either, whole().or(refused()), unknown().or(refused()));
    // RFC 9112 §6.1: in an HTTP/1.0 message it marks the framing as faulty.
    for (name, fields) in [
        ("HTTP/1.0", &[CHUNKED][..]),
        ("HTTP/1.0 with a length", &[CHUNKED, "Content-Length: 36"]),
    ] {
        let script = fin(response("HTTP/1.0 200 OK", fields, &body));
        rows.push(
            Row::new(name, script)
                .fetch(whole().or(refused()))
                .length(unknown().or(refused())),
        );
    }
    let empty = fin(response(
        OK,
        &["Transfer-Encoding:", "Content-Length: 36"],
        CONTENT,
    ));
    rows.push(Row::new("an empty value and a length", empty).fetch(ok_whole().or(refused())));
    run(rows);
}
