//! RFC 9112 §6, §7: content that comes with a request, and every known way to hide a second
//! request in it. The probe behind each row tells whether synchronisation was kept.

use super::*;

/// The most content that is read past to keep a connection.
const SKIPPED_MAX: usize = 16 * 1024;

fn with_content(fields: &[&str], content: &[u8]) -> Vec<u8> {
    joined(&[&get("letters", fields), content])
}

fn with_length(content: &[u8]) -> Vec<u8> {
    with_content(&[&format!("Content-Length: {}", content.len())], content)
}

/// A request that must never be answered where it stands in content.
fn smuggled() -> Vec<u8> {
    get("one", &[])
}

#[test]
fn content_length() {
    let much = vec![b'x'; SKIPPED_MAX + 1];
    let whole_request = smuggled();
    let mut rows = vec![
        stays("0", with_length(b""), letters()),
        stays("1", with_length(b"x"), letters()),
        stays("5", with_length(b"hello"), letters()),
        stays("a CRLF", with_length(b"\r\n"), letters()),
        stays("two CRLF", with_length(b"\r\n\r\n"), letters()),
        stays("a request", with_length(&whole_request), letters()),
        stays(
            "half a request",
            with_length(&whole_request[..40]),
            letters(),
        ),
        stays("chunks", with_length(b"5\r\nhello\r\n0\r\n\r\n"), letters()),
        stays(
            "leading zeros",
            with_content(&["Content-Length: 0005"], b"hello"),
            letters(),
        ),
        stays(
            "many leading zeros",
            with_content(
                &["Content-Length: 000000000000000000000000000005"],
                b"hello",
            ),
            letters(),
        ),
        stays(
            "white space around",
            with_content(&["Content-Length: \t 5 \t"], b"hello"),
            letters(),
        ),
        stays(
            "with a range",
            with_content(&["Range: bytes=1-2", "Content-Length: 5"], b"hello"),
            part(1, 2),
        ),
        stays(
            "with a 404",
            joined(&[&get("nothing", &["Content-Length: 5"]), b"hello"]),
            answer(404),
        ),
        stays(
            "with a 416",
            with_content(&["Range: bytes=90-", "Content-Length: 5"], b"hello"),
            unsatisfiable(),
        ),
        stays(
            "with a 304",
            with_content(&["If-None-Match: *", "Content-Length: 5"], b"hello"),
            answer(304),
        ),
        stays("at the limit", with_length(&much[..SKIPPED_MAX]), letters()),
        ends("over the limit", with_length(&much), letters()),
        ends(
            "far over the limit",
            with_length(&vec![b'x'; 900_000]),
            letters(),
        ),
        ends(
            "a request behind 16 KiB",
            with_length(&joined(&[&much, &whole_request])),
            letters(),
        ),
        // Content that will never come all the way.
        ends(
            "2^62",
            with_content(&["Content-Length: 4611686018427387904"], b""),
            letters(),
        ),
        ends(
            "2^63",
            with_content(&["Content-Length: 9223372036854775808"], b""),
            letters(),
        ),
        ends(
            "2^64 - 1",
            with_content(&["Content-Length: 18446744073709551615"], b""),
            letters(),
        ),
    ];
    for length in [
        "18446744073709551616",
        "18446744073709551621",
        "36893488147419103237",
        "340282366920938463463374607431768211461",
        "99999999999999999999999999999999999999999999999999",
    ] {
        // RFC 9110 §8.6: no overflow may turn this into a small number.
        rows.push(
            ends(
                length,
                with_content(&[&format!("Content-Length: {length}")], b"hello"),
                answer_in(&[400, 413]),
            )
            .or(letters(), Then::Ends),
        );
    }
    for bad in [
        "+5", "-5", "-0", "+0", "0x5", "5x", "x", "5 5", "5;", "5.0", "5e0", "1e1", "5,", ",5",
        "5, 6", "5,6", "5 , 6", "0, 5", "5;6", "\"5\"", "'5'", "5_0", "٥", "５", "٠", "five",
        "5\t5", "0b101", "0o5", "#5", "%35", "5\u{a0}", "", " ", "*", "null", "NaN", "∞",
    ] {
        let bytes = with_content(&[&format!("Content-Length: {bad}")], b"hello");
        rows.push(refused(format!("{bad:?}"), bytes));
    }
    run_table(&rows);
}

#[test]
fn content_length_repeated() {
    // §6.3: different values are an unrecoverable error; equal ones may be taken as one.
    let equal = |name: &str, bytes| refused(name, bytes).or(letters(), Then::Stays);
    run_table(&[
        equal(
            "two lines, equal",
            with_content(&["Content-Length: 5", "Content-Length: 5"], b"hello"),
        ),
        equal(
            "one line, equal",
            with_content(&["Content-Length: 5, 5"], b"hello"),
        ),
        equal(
            "one line, no space",
            with_content(&["Content-Length: 5,5"], b"hello"),
        ),
        equal(
            "three, equal",
            with_content(&["Content-Length: 5", "content-length: 5, 5"], b"hello"),
        ),
        equal(
            "two lines of 0",
            with_content(&["Content-Length: 0", "Content-Length: 0"], b""),
        ),
        equal(
            "equal but for zeros",
            with_content(&["Content-Length: 5", "Content-Length: 05"], b"hello"),
        ),
        refused(
            "different",
            with_content(&["Content-Length: 5", "Content-Length: 6"], b"hello"),
        ),
        refused(
            "different, one 0",
            with_content(&["Content-Length: 0", "Content-Length: 5"], b"hello"),
        ),
        refused(
            "different, 0 last",
            with_content(&["Content-Length: 5", "Content-Length: 0"], b"hello"),
        ),
        refused(
            "different, apart",
            with_content(
                &["Content-Length: 5", "Accept: */*", "CONTENT-LENGTH: 6"],
                b"hello",
            ),
        ),
        refused(
            "one line and another",
            with_content(&["Content-Length: 5, 5", "Content-Length: 6"], b"hello"),
        ),
        refused(
            "one of them no number",
            with_content(&["Content-Length: 5", "Content-Length: x"], b"hello"),
        ),
        refused(
            "one of them empty",
            with_content(&["Content-Length: 5", "Content-Length:"], b"hello"),
        ),
        refused(
            "one of them +5",
            with_content(&["Content-Length: 5", "Content-Length: +5"], b"hello"),
        ),
        refused(
            "different without token",
            joined(&[
                &head(&[
                    "GET /track/letters HTTP/1.1",
                    HOST,
                    "Content-Length: 5",
                    "Content-Length: 6",
                ]),
                b"hello",
            ]),
        ),
    ]);
}

#[test]
fn both_framings() {
    // §6.1: Content-Length beside Transfer-Encoding ought to be handled as an error, and the
    // connection MUST be closed.
    let one = smuggled();
    let cl_te = |length: usize, content: &[u8]| {
        with_content(
            &[
                &format!("Content-Length: {length}"),
                "Transfer-Encoding: chunked",
            ],
            content,
        )
    };
    let te_cl = |length: usize, content: &[u8]| {
        with_content(
            &[
                "Transfer-Encoding: chunked",
                &format!("Content-Length: {length}"),
            ],
            content,
        )
    };
    let chunk = joined(&[
        format!("{:x}\r\n", one.len()).as_bytes(),
        &one,
        b"\r\n0\r\n\r\n",
    ]);
    run_table(&[
        refused("CL.TE", cl_te(6, b"0\r\n\r\nG")),
        refused(
            "CL.TE with a request",
            cl_te(5 + one.len(), &joined(&[b"0\r\n\r\n", &one])),
        ),
        refused("TE.CL", te_cl(4, &chunk)),
        refused("TE.CL of 0", te_cl(0, b"0\r\n\r\n")),
        refused("CL.TE of 0", cl_te(0, b"0\r\n\r\n")),
        refused("agreeing", cl_te(15, b"5\r\nhello\r\n0\r\n\r\n")),
        refused(
            "apart",
            with_content(
                &[
                    "Content-Length: 5",
                    "Accept: */*",
                    "transfer-encoding: CHUNKED",
                ],
                b"0\r\n\r\n",
            ),
        ),
        refused(
            "without token",
            joined(&[
                &head(&[
                    "GET /track/letters HTTP/1.1",
                    HOST,
                    "Content-Length: 5",
                    "Transfer-Encoding: chunked",
                ]),
                b"0\r\n\r\n",
            ]),
        ),
        refused(
            "on a POST",
            joined(&[
                &request(
                    "POST",
                    "letters",
                    &["Content-Length: 5", "Transfer-Encoding: chunked"],
                ),
                b"0\r\n\r\n",
            ]),
        ),
        refused(
            "on HTTP/1.0",
            joined(&[
                &head(&[
                    "GET /track/letters HTTP/1.0",
                    AUTH,
                    "Content-Length: 5",
                    "Transfer-Encoding: chunked",
                ]),
                b"0\r\n\r\n",
            ]),
        ),
        ends(
            "beside an unknown coding",
            with_content(
                &["Content-Length: 5", "Transfer-Encoding: xchunked"],
                b"0\r\n\r\n",
            ),
            answer_in(&[400, 501]),
        ),
        ends(
            "beside identity",
            with_content(
                &["Content-Length: 5", "Transfer-Encoding: identity"],
                b"hello",
            ),
            answer_in(&[400, 501]),
        ),
        ends(
            "beside an empty one",
            with_content(&["Content-Length: 5", "Transfer-Encoding:"], b"hello"),
            answer_in(&[400, 501]),
        ),
    ]);
}

#[test]
fn transfer_codings() {
    let chunks = b"5\r\nhello\r\n0\r\n\r\n";
    let coded = |field: &str| with_content(&[field], chunks);
    let mut rows = vec![
        stays("chunked", coded("Transfer-Encoding: chunked"), letters()),
        stays("Chunked", coded("Transfer-Encoding: Chunked"), letters()),
        stays("CHUNKED", coded("TRANSFER-ENCODING:CHUNKED"), letters()),
        stays(
            "white space around",
            coded("Transfer-Encoding: \t chunked \t"),
            letters(),
        ),
        // RFC 9110 §5.6.1.2: empty list elements are to be ignored; refusing is safe here.
        refused(
            "an empty element first",
            coded("Transfer-Encoding: , chunked"),
        )
        .or(letters(), Then::Stays),
        refused(
            "an empty element last",
            coded("Transfer-Encoding: chunked,"),
        )
        .or(letters(), Then::Stays),
    ];
    // §6.1: chunked applied twice, or not last: the length cannot be known.
    for bad in ["chunked, chunked", "chunked,chunked", "chunked , chunked"] {
        rows.push(refused(bad, coded(&format!("Transfer-Encoding: {bad}"))));
    }
    for bad in [
        "chunked, gzip",
        "chunked, identity",
        "chunked,x",
        "chunked, gzip, chunked",
        "chunked, chunked, gzip",
    ] {
        rows.push(refused(bad, coded(&format!("Transfer-Encoding: {bad}"))));
    }
    // §6.3: where chunked is not the final coding, 400 and close is a MUST; where it is, an unknown
    // coding before it gets 501 (§6.1).
    for unended in [
        "xchunked", "gzip", "deflate", "compress", "x-gzip", "br", "chunkedx", "chunke", "chunk",
        "cow",
    ] {
        rows.push(refused(
            unended,
            coded(&format!("Transfer-Encoding: {unended}")),
        ));
    }
    for unknown in ["gzip, chunked", "x, chunked", "gzip, x, chunked"] {
        let bytes = coded(&format!("Transfer-Encoding: {unknown}"));
        rows.push(ends(unknown, bytes, answer(501)));
    }
    for odd in [
        "",
        "identity",
        "identity, chunked",
        "chunked;q=1",
        "chunked; a=b",
        "\"chunked\"",
        "'chunked'",
        "chunked chunked",
        "x chunked",
        "chunked x",
        "[chunked]",
        "chunked\u{a0}",
        "\u{a0}chunked",
        "chun\tked",
        "chun\u{212a}ed",
        "chunked;",
        "=chunked",
        "/",
        ",",
    ] {
        rows.push(ends(
            format!("odd {odd:?}"),
            coded(&format!("Transfer-Encoding: {odd}")),
            answer_in(&[400, 501]),
        ));
    }
    rows.extend([
        refused(
            "two lines of chunked",
            with_content(
                &["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"],
                chunks,
            ),
        ),
        refused(
            "chunked and then gzip",
            with_content(
                &["Transfer-Encoding: chunked", "Transfer-Encoding: gzip"],
                chunks,
            ),
        ),
        ends(
            "gzip and then chunked",
            with_content(
                &["Transfer-Encoding: gzip", "Transfer-Encoding: chunked"],
                chunks,
            ),
            answer(501),
        ),
        ends(
            "chunked and then identity",
            with_content(
                &["Transfer-Encoding: chunked", "Transfer-Encoding: identity"],
                chunks,
            ),
            answer_in(&[400, 501]),
        ),
        ends(
            "cow and then chunked",
            with_content(
                &["Transfer-Encoding: cow", "Transfer-encoding: chunked"],
                chunks,
            ),
            answer_in(&[400, 501]),
        ),
        ends(
            "chunked and then empty",
            with_content(
                &["Transfer-Encoding: chunked", "Transfer-Encoding:"],
                chunks,
            ),
            answer_in(&[400, 501]),
        )
        .or(letters(), Then::Stays),
        refused(
            "space before the colon",
            coded("Transfer-Encoding : chunked"),
        ),
        refused(
            "tab before the colon",
            coded("Transfer-Encoding\t: chunked"),
        ),
        refused(
            "space before the name",
            coded(" Transfer-Encoding: chunked"),
        ),
        refused(
            "obs-fold",
            with_content(&["Transfer-Encoding:", " chunked"], chunks),
        ),
        refused(
            "obs-fold with a tab",
            with_content(&["Transfer-Encoding:", "\tchunked"], chunks),
        ),
        refused(
            "obs-fold of another field",
            with_content(&["X: x", " Transfer-Encoding: chunked"], chunks),
        ),
        refused(
            "behind a bare LF",
            coded("X: x\nTransfer-Encoding: chunked"),
        ),
        refused(
            "behind a bare CR",
            coded("X: x\rTransfer-Encoding: chunked"),
        ),
        refused(
            "a vertical tab before it",
            coded("Transfer-Encoding: \u{b}chunked"),
        ),
        refused(
            "a form feed behind it",
            coded("Transfer-Encoding: chunked\u{c}"),
        ),
        refused("NUL behind it", coded("Transfer-Encoding: chunked\0")),
        refused("NUL in the name", coded("Transfer-Encoding\0: chunked")),
        // Another field, and bytes behind the head that are no request.
        Row::new(
            "an underscore",
            coded("Transfer_Encoding: chunked"),
            vec![letters(), answer(400)],
            Then::Ends,
        ),
        Row::new(
            "another name",
            coded("X-Transfer-Encoding: chunked"),
            vec![letters(), answer(400)],
            Then::Ends,
        ),
        // §6.1: HTTP/1.0 knows no transfer codings; the framing is faulty.
        refused(
            "HTTP/1.0",
            joined(&[
                &head(&[
                    "GET /track/letters HTTP/1.0",
                    AUTH,
                    "Transfer-Encoding: chunked",
                ]),
                chunks,
            ]),
        ),
        refused(
            "HTTP/1.0, keep-alive",
            joined(&[
                &head(&[
                    "GET /track/letters HTTP/1.0",
                    AUTH,
                    "Connection: keep-alive",
                    "Transfer-Encoding: chunked",
                ]),
                chunks,
            ]),
        ),
        ends(
            "unknown without token",
            joined(&[
                &head(&[
                    "GET /track/letters HTTP/1.1",
                    HOST,
                    "Transfer-Encoding: cow",
                ]),
                chunks,
            ]),
            answer_in(&[400, 401]),
        ),
        either(
            "chunked without token",
            joined(&[
                &head(&[
                    "GET /track/letters HTTP/1.1",
                    HOST,
                    "Transfer-Encoding: chunked",
                ]),
                chunks,
            ]),
            answer(401),
        ),
        stays(
            "nominated by Connection",
            with_content(
                &[
                    "Transfer-Encoding: chunked",
                    "Connection: Transfer-Encoding",
                ],
                chunks,
            ),
            letters(),
        ),
    ]);
    run_table(&rows);
}

#[test]
fn chunks_taken() {
    let one = smuggled();
    let chunked = |content: &[u8]| with_content(&["Transfer-Encoding: chunked"], content);
    let sized = |content: &[u8]| {
        joined(&[
            format!("{:x}\r\n", content.len()).as_bytes(),
            content,
            b"\r\n0\r\n\r\n",
        ])
    };
    let small_chunks = joined(&[&b"1\r\nx\r\n".repeat(500), b"0\r\n\r\n"]);
    let mut rows = Vec::new();
    for (name, content) in [
        ("none", &b"0\r\n\r\n"[..]),
        ("one", b"5\r\nhello\r\n0\r\n\r\n"),
        ("two", b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"),
        ("hexadecimal", b"a\r\n0123456789\r\n0\r\n\r\n"),
        (
            "hexadecimal in capitals",
            b"1A\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\n\r\n",
        ),
        ("leading zeros", b"0005\r\nhello\r\n0000\r\n\r\n"),
        (
            "a last chunk of many zeros",
            b"5\r\nhello\r\n0000000000\r\n\r\n",
        ),
        ("an extension", b"5;a=b\r\nhello\r\n0\r\n\r\n"),
        ("an extension without value", b"5;a\r\nhello\r\n0;b\r\n\r\n"),
        ("extensions", b"5;a=b;c=d\r\nhello\r\n0\r\n\r\n"),
        ("a quoted extension", b"5;a=\"b c\"\r\nhello\r\n0\r\n\r\n"),
        (
            "a trailer field",
            b"5\r\nhello\r\n0\r\nX-Trailer: y\r\n\r\n",
        ),
        ("two trailer fields", b"0\r\nX-A: y\r\nX-B: z\r\n\r\n"),
        (
            "a trailer that names a length",
            b"5\r\nhello\r\n0\r\nContent-Length: 500\r\n\r\n",
        ),
        (
            "a trailer that names the token",
            b"5\r\nhello\r\n0\r\nAuthorization: Bearer wrong\r\n\r\n",
        ),
        (
            "a trailer that names a range",
            b"5\r\nhello\r\n0\r\nRange: bytes=0-1\r\n\r\n",
        ),
        (
            "content that looks like chunks",
            b"f\r\n5\r\nhello\r\n0\r\n\r\n\r\n0\r\n\r\n",
        ),
        ("500 small chunks", &small_chunks),
        ("a whole request", &sized(&one)),
    ] {
        rows.push(stays(name, chunked(content), letters()));
    }
    rows.extend([
        stays(
            "16 KiB",
            chunked(&sized(&vec![b'x'; SKIPPED_MAX])),
            letters(),
        )
        .or(letters(), Then::EndsUnannounced),
        stays("15 KiB", chunked(&sized(&vec![b'x'; 15 * 1024])), letters()),
        unannounced("much", chunked(&sized(&vec![b'x'; 300_000])), letters()),
        unannounced(
            "much in small chunks",
            chunked(&joined(&[&b"1\r\nx\r\n".repeat(50_000), b"0\r\n\r\n"])),
            letters(),
        ),
        unannounced(
            "a chunk that will never come",
            chunked(b"ffffffffffffffff\r\n"),
            letters(),
        )
        .or(answer(400), Then::EndsUnannounced),
        unannounced(
            "an extension without end",
            chunked(&[b"5;".to_vec(), vec![b'x'; 100_000]].concat()),
            letters(),
        )
        .or(answer_in(&[400, 431]), Then::EndsUnannounced),
        unannounced(
            "trailers without end",
            chunked(&[b"0\r\n".to_vec(), b"X-A: b\r\n".repeat(20_000)].concat()),
            letters(),
        )
        .or(answer_in(&[400, 431]), Then::EndsUnannounced),
    ]);
    run_table(&rows);
}

#[test]
fn chunks_refused() {
    let one = smuggled();
    let chunked = |content: &[u8]| with_content(&["Transfer-Encoding: chunked"], content);
    let hidden = |before: &str| joined(&[before.as_bytes(), b"\r\n0\r\n\r\n", &one]);
    let mut rows = Vec::new();
    for (name, content) in [
        ("no size", &b"\r\nhello\r\n0\r\n\r\n"[..]),
        ("0x", b"0x5\r\nhello\r\n0\r\n\r\n"),
        ("plus", b"+5\r\nhello\r\n0\r\n\r\n"),
        ("minus", b"-5\r\nhello\r\n0\r\n\r\n"),
        ("minus zero", b"-0\r\n\r\n"),
        ("space first", b" 5\r\nhello\r\n0\r\n\r\n"),
        ("no digits", b"x\r\nhello\r\n0\r\n\r\n"),
        ("digits and more", b"5x\r\nhello\r\n0\r\n\r\n"),
        ("an underscore", b"0_5\r\nhello\r\n0\r\n\r\n"),
        ("a comma", b"5,5\r\nhello\r\n0\r\n\r\n"),
        ("two numbers", b"5 5\r\nhello\r\n0\r\n\r\n"),
        ("a quoted size", b"\"5\"\r\nhello\r\n0\r\n\r\n"),
        ("bare LF behind the size", b"5\nhello\r\n0\r\n\r\n"),
        ("bare CR behind the size", b"5\rhello\r\n0\r\n\r\n"),
        ("CR CR LF behind the size", b"5\r\r\nhello\r\n0\r\n\r\n"),
        ("bare LF behind the data", b"5\r\nhello\n0\r\n\r\n"),
        ("nothing behind the data", b"5\r\nhello0\r\n\r\n"),
        ("two bytes behind the data", b"5\r\nhelloXX0\r\n\r\n"),
        ("data too long", b"5\r\nhello!\r\n0\r\n\r\n"),
        ("data too short", b"5\r\nhell\r\n0\r\n\r\n"),
        ("bare LF in an extension", b"5;a\nb\r\nhello\r\n0\r\n\r\n"),
        ("bare CR in an extension", b"5;a\rb\r\nhello\r\n0\r\n\r\n"),
        ("NUL in an extension", b"5;a\0\r\nhello\r\n0\r\n\r\n"),
        ("NUL in the size", b"5\0\r\nhello\r\n0\r\n\r\n"),
        ("bare LF ends the last chunk", b"0\n\r\n"),
        ("bare LF ends the trailer section", b"0\r\n\n"),
        ("bare LF in a trailer", b"0\r\nX: y\n\r\n"),
        ("trailer without colon", b"0\r\nX\r\n\r\n"),
        ("trailer without name", b"0\r\n: x\r\n\r\n"),
        ("trailer with obs-fold", b"0\r\nX: y\r\n z\r\n\r\n"),
        (
            "trailer with a space before the colon",
            b"0\r\nX : y\r\n\r\n",
        ),
        (
            "17 digits that overflow",
            b"10000000000000005\r\nhello\r\n0\r\n\r\n",
        ),
        (
            "32 digits",
            b"00000000000000010000000000000005\r\nhello\r\n0\r\n\r\n",
        ),
        (
            "many digits",
            b"fffffffffffffffffffffffffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        ),
        ("UTF-8 digits", "٥\r\nhello\r\n0\r\n\r\n".as_bytes()),
        ("a request for a chunk", b"GET /track/one HTTP/1.1\r\n\r\n"),
        (
            "hidden behind 2^64 + 5",
            &hidden("10000000000000005\r\nhello"),
        ),
        ("hidden behind a bare LF", &hidden("5;\nxxxx\r\nhello")),
    ] {
        // Whether the fault is found before the answer or behind it is the server's choice;
        // nothing behind it may be read as a request.
        rows.push(refused(name, chunked(content)).or(letters(), Then::EndsUnannounced));
    }
    // White space around a chunk extension's semicolon is BWS (§7.1.1); alone behind the size it
    // is not in the grammar at all, and skipping it is how parsers come to disagree.
    for (name, content) in [
        ("space behind the size", &b"5 \r\nhello\r\n0\r\n\r\n"[..]),
        ("tab behind the size", b"5\t\r\nhello\r\n0\r\n\r\n"),
        ("BWS before an extension", b"5 ;a=b\r\nhello\r\n0\r\n\r\n"),
        ("BWS behind a semicolon", b"5; a=b\r\nhello\r\n0\r\n\r\n"),
        ("an extension of nothing", b"5;\r\nhello\r\n0\r\n\r\n"),
        ("a quote left open", b"5;a=\"b\r\nhello\r\n0\r\n\r\n"),
    ] {
        rows.push(
            refused(name, chunked(content))
                .or(letters(), Then::EndsUnannounced)
                .or(letters(), Then::Stays),
        );
    }
    run_table(&rows);
}

#[test]
fn content_cut_short() {
    // The peer promised content and ended its half: no further request was made.
    let one = smuggled();
    let row = |name: &str, bytes: Vec<u8>| {
        either(name, bytes, letters())
            .or(answer(400), Then::Ends)
            .or_nothing()
            .half_closed()
    };
    run_table(&[
        row("none of 5", with_content(&["Content-Length: 5"], b"")),
        row("4 of 5", with_content(&["Content-Length: 5"], b"hell")),
        row(
            "all but one of a request",
            with_content(&[&format!("Content-Length: {}", one.len() + 1)], &one),
        ),
        row(
            "no chunk",
            with_content(&["Transfer-Encoding: chunked"], b""),
        ),
        row(
            "half a size",
            with_content(&["Transfer-Encoding: chunked"], b"5"),
        ),
        row(
            "half a chunk",
            with_content(&["Transfer-Encoding: chunked"], b"5\r\nhel"),
        ),
        row(
            "no last chunk",
            with_content(&["Transfer-Encoding: chunked"], b"5\r\nhello\r\n"),
        ),
        row(
            "no end of the trailer section",
            with_content(&["Transfer-Encoding: chunked"], b"0\r\n"),
        ),
    ]);
}

#[test]
fn expectations() {
    // RFC 9110 §10.1.1.
    let hello = |fields: &[&str]| with_content(fields, b"hello");
    run_table(&[
        // No content, so nothing to wait for.
        either(
            "100-continue without content",
            get("letters", &["Expect: 100-continue"]),
            letters(),
        ),
        either(
            "in capitals",
            get("letters", &["EXPECT: 100-CONTINUE"]),
            letters(),
        ),
        either(
            "with content that comes",
            hello(&["Expect: 100-continue", "Content-Length: 5"]),
            letters(),
        ),
        either(
            "with chunks that come",
            with_content(
                &["Expect: 100-continue", "Transfer-Encoding: chunked"],
                b"0\r\n\r\n",
            ),
            letters(),
        ),
        // A client that waits for the 100 gets the final answer instead, and needs send nothing.
        ends(
            "with content that waits",
            get("letters", &["Expect: 100-continue", "Content-Length: 5"]),
            letters(),
        ),
        ends(
            "with chunks that wait",
            get(
                "letters",
                &["Expect: 100-continue", "Transfer-Encoding: chunked"],
            ),
            letters(),
        ),
        ends(
            "with much content that waits",
            get(
                "letters",
                &["Expect: 100-continue", "Content-Length: 99999999"],
            ),
            letters(),
        ),
        ends(
            "404 and content that waits",
            get("nothing", &["Expect: 100-continue", "Content-Length: 5"]),
            answer(404),
        ),
        either(
            "without token",
            head(&[
                "GET /track/letters HTTP/1.1",
                HOST,
                "Expect: 100-continue",
                "Content-Length: 5",
            ]),
            answer(401),
        ),
        either(
            "POST that waits",
            request(
                "POST",
                "letters",
                &["Expect: 100-continue", "Content-Length: 5"],
            ),
            answer(405),
        ),
        // HTTP/1.0: the expectation MUST be ignored.
        ends(
            "1.0",
            head(&["GET /track/letters HTTP/1.0", AUTH, "Expect: 100-continue"]),
            letters(),
        ),
        ends(
            "1.0 with content",
            joined(&[
                &head(&[
                    "GET /track/letters HTTP/1.0",
                    AUTH,
                    "Expect: 100-continue",
                    "Content-Length: 5",
                ]),
                b"hello",
            ]),
            letters(),
        ),
        either("another", get("letters", &["Expect: 200-ok"]), answer(417)),
        either(
            "a part of it",
            get("letters", &["Expect: 100"]),
            answer(417),
        ),
        either(
            "more than it",
            get("letters", &["Expect: 100-continued"]),
            answer(417),
        ),
        either(
            "it and another",
            get("letters", &["Expect: 100-continue, x=y"]),
            answer(417),
        ),
        either(
            "another and it",
            get("letters", &["Expect: x", "Expect: 100-continue"]),
            answer(417),
        ),
        either(
            "another with content",
            hello(&["Expect: x", "Content-Length: 5"]),
            answer(417),
        ),
        either(
            "another without token",
            head(&["GET /track/letters HTTP/1.1", HOST, "Expect: x"]),
            answer(401),
        ),
        either(
            "another, unknown handle",
            get("nothing", &["Expect: x"]),
            answer_in(&[404, 417]),
        ),
        stays("empty", get("letters", &["Expect:"]), letters()).or(answer(417), Then::Either),
    ]);
}

#[test]
fn nothing_hidden_is_ever_answered() {
    // Every way above at once, on one connection each: count the answers and look for the letter
    // that only the hidden request could have brought.
    let server = start();
    let one = smuggled();
    let carriers: Vec<Vec<u8>> = vec![
        with_length(&one),
        with_content(
            &["Content-Length: 5", "Transfer-Encoding: chunked"],
            &joined(&[b"0\r\n\r\n", &one]),
        ),
        with_content(&["Transfer-Encoding: xchunked"], &one),
        with_content(
            &["Transfer-Encoding : chunked"],
            &joined(&[b"0\r\n\r\n", &one]),
        ),
        with_content(&["Content-Length: 3", "Content-Length: 0"], &one),
        with_content(&["Content-Length: +0"], &one),
        with_content(&["Content-Length: 18446744073709551616"], &one),
        with_content(&["X: y\nContent-Length: 0"], &one),
        with_content(
            &["Transfer-Encoding: chunked"],
            &joined(&[b"5\nhello\n0\n\n", &one]),
        ),
        with_content(
            &[
                "Expect: 100-continue",
                &format!("Content-Length: {}", one.len()),
            ],
            &one,
        ),
    ];
    for bytes in carriers {
        let mut peer = RawPeer::connect(server.local_addr()).unwrap();
        let _ = peer.send(&bytes);
        let _ = peer.half_close();
        let mut answers = 0;
        while let Some(response) = peer.read_response(false).unwrap() {
            answers += 1;
            assert_ne!(response.content, b"x", "{}", show(&bytes));
        }
        assert_eq!(answers, 1, "{}", show(&bytes));
    }
}
