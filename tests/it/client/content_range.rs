//! `Content-Range` against what was asked (RFC 9110 §14.4, §15.3.7): a 206 is worth nothing until
//! it is known which bytes it brings.

use peer_tests::script::{Modern, Request, Script, Step, Track, response};

use super::table::{
    Ask, COMPLETE, CONTENT, HANDLE, Row, TOKEN, Verdict, WHOLE, any_error, broken, from, known, ok,
    ok_whole, range, refused, right, run, status, unknown,
};

const PARTIAL: &str = "HTTP/1.1 206 Partial Content";

/// A 206 with this Content-Range and this content, delimited by its length.
fn part(content_range: &str, content: &[u8]) -> Vec<u8> {
    let length = format!("Content-Length: {}", content.len());
    let range = format!("Content-Range: {content_range}");
    response(PARTIAL, &[&range, &length], content)
}

#[test]
fn values_for_a_bounded_range() {
    let five = || ok(b"56789", COMPLETE);
    let values: Vec<(&str, &str, Verdict)> = vec![
        ("as asked", "bytes 5-9/36", five()),
        (
            "complete length not said",
            "bytes 5-9/*",
            ok(b"56789", None),
        ),
        ("leading zeros", "bytes 005-009/0036", five()),
        ("white space behind", "bytes 5-9/36 \t", five()),
        ("white space before", " \tbytes 5-9/36", five()),
        (
            "the largest complete length",
            "bytes 5-9/18446744073709551615",
            ok(b"56789", Some(u64::MAX)),
        ),
        (
            "a complete length beyond 2^53",
            "bytes 5-9/9007199254740993",
            ok(b"56789", Some((1 << 53) + 1)),
        ),
        // Range units are case-insensitive (RFC 9110 §14.1).
        ("the unit in another case", "Bytes 5-9/36", five()),
        ("the unit in capitals", "BYTES 5-9/36", five()),
        (
            "two spaces behind the unit",
            "bytes  5-9/36",
            five().or(refused()),
        ),
        (
            "a tab behind the unit",
            "bytes\t5-9/36",
            five().or(refused()),
        ),
        (
            "forty leading zeros",
            "bytes 00000000000000000000000000000000000000005-9/36",
            five().or(refused()),
        ),
        ("shifted by one", "bytes 6-10/36", refused()),
        ("shifted back by one", "bytes 4-8/36", refused()),
        ("from the start", "bytes 0-4/36", refused()),
        ("far off", "bytes 31-35/36", refused()),
        (
            "the first position off by 2^32",
            "bytes 4294967301-4294967305/4294967332",
            refused(),
        ),
        ("another unit", "items 5-9/36", refused()),
        ("seconds", "seconds 5-9/36", refused()),
        ("byte, not bytes", "byte 5-9/36", refused()),
        ("no unit", "5-9/36", refused()),
        ("an equals sign behind the unit", "bytes=5-9/36", refused()),
        ("a colon behind the unit", "bytes: 5-9/36", refused()),
        ("no white space behind the unit", "bytes5-9/36", refused()),
        ("the unit alone", "bytes", refused()),
        ("empty", "", refused()),
        ("no complete length", "bytes 5-9", refused()),
        ("an empty complete length", "bytes 5-9/", refused()),
        ("unsatisfied", "bytes */36", refused()),
        ("nothing known", "bytes */*", refused()),
        ("no last position", "bytes 5-/36", refused()),
        ("no first position", "bytes -9/36", refused()),
        ("one position", "bytes 5/36", refused()),
        ("reversed", "bytes 9-5/36", refused()),
        (
            "complete length is the last position",
            "bytes 5-9/9",
            refused(),
        ),
        (
            "complete length below the first position",
            "bytes 5-9/3",
            refused(),
        ),
        ("complete length of zero", "bytes 5-9/0", refused()),
        ("negative complete length", "bytes 5-9/-1", refused()),
        ("a plus sign", "bytes +5-9/36", refused()),
        ("a minus sign", "bytes -5-9/36", refused()),
        ("hexadecimal", "bytes 0x5-0x9/0x24", refused()),
        ("a fraction", "bytes 5.0-9/36", refused()),
        ("white space around the hyphen", "bytes 5 - 9/36", refused()),
        ("white space around the slash", "bytes 5-9 / 36", refused()),
        ("a dash that is no hyphen", "bytes 5–9/36", refused()),
        ("digits of another script", "bytes ５-９/36", refused()),
        ("text behind", "bytes 5-9/36 x", refused()),
        ("digits behind an asterisk", "bytes 5-9/*36", refused()),
        ("a parameter", "bytes 5-9/36;x", refused()),
        ("two values", "bytes 5-9/36, bytes 5-9/36", refused()),
        ("two ranges", "bytes 5-6,7-9/36", refused()),
        ("quoted", "\"bytes 5-9/36\"", refused()),
        (
            "the first position wraps to 5",
            "bytes 18446744073709551621-18446744073709551625/*",
            refused(),
        ),
        (
            "the last position wraps to 9",
            "bytes 5-18446744073709551625/*",
            refused(),
        ),
        (
            "the last position is 2^64",
            "bytes 5-18446744073709551616/*",
            refused(),
        ),
        (
            "the complete length wraps to 36",
            "bytes 5-9/18446744073709551652",
            refused(),
        ),
        (
            "the complete length is 2^64",
            "bytes 5-9/18446744073709551616",
            refused(),
        ),
        (
            "the complete length has thirty digits",
            "bytes 5-9/999999999999999999999999999999",
            refused(),
        ),
    ];
    run(values
        .into_iter()
        .map(|(name, value, verdict)| {
            Row::new(name, Script::answer(part(value, b"56789")))
                .ask(range(5, 5))
                .fetch(verdict)
        })
        .collect());
}

#[test]
fn more_than_asked() {
    let mut rows = Vec::new();
    for (name, ask, first, last) in [
        ("a byte more", range(5, 5), 5, 10),
        ("to the end", range(5, 5), 5, 35),
        ("a byte before", range(5, 5), 4, 9),
        ("everything", range(5, 5), 0, 35),
        ("a byte more from the start", range(0, 5), 0, 5),
        ("one byte too much for one", range(35, 1), 34, 35),
        ("open-ended, a byte before", from(5), 4, 35),
        ("open-ended, everything", from(5), 0, 35),
    ] {
        for complete in ["36", "*"] {
            let content = &CONTENT[first..=last];
            let script = Script::answer(part(&format!("bytes {first}-{last}/{complete}"), content));
            let name = format!("{name}, of {complete}");
            rows.push(Row::new(name, script).ask(ask).fetch(refused()));
        }
    }
    run(rows);
}

/// The same 206 to every request: whoever asks for the rest gets what it did not ask for.
#[test]
fn less_than_asked_and_never_more() {
    let mut rows = Vec::new();
    for (name, ask, first, last) in [
        ("a byte less", range(5, 5), 5, 8),
        ("one byte", range(5, 5), 5, 5),
        ("open-ended, not to the end", from(5), 5, 34),
        ("open-ended, one byte", from(5), 5, 5),
        ("the whole, not to the end", WHOLE, 0, 34),
        ("the whole, one byte", WHOLE, 0, 0),
        ("beyond the end, not to the end", range(30, 100), 30, 34),
    ] {
        let content = &CONTENT[first..=last];
        let script = Script::answer(part(&format!("bytes {first}-{last}/36"), content));
        rows.push(Row::new(name, script).ask(ask).fetch(broken(content.len())));
    }
    // The complete length is not said, so that the range asked for could exist.
    for (name, ask, first, last) in [
        ("a byte less, of *", range(5, 5), 5, 8),
        ("beyond the end, of *", range(30, 100), 30, 35),
    ] {
        let content = &CONTENT[first..=last];
        let script = Script::answer(part(&format!("bytes {first}-{last}/*"), content));
        rows.push(Row::new(name, script).ask(ask).fetch(broken(content.len())));
    }
    run(rows);
}

#[test]
fn accepted_ranges() {
    let mut rows = Vec::new();
    for (name, ask, value) in [
        ("one byte", range(5, 1), "bytes 5-5/36"),
        ("the first byte", range(0, 1), "bytes 0-0/36"),
        ("the last byte", range(35, 1), "bytes 35-35/36"),
        ("to the end, exactly", range(30, 6), "bytes 30-35/36"),
        ("beyond the end", range(30, 100), "bytes 30-35/36"),
        (
            "far beyond the end",
            range(30, u64::MAX - 30),
            "bytes 30-35/36",
        ),
        ("beyond every end", range(30, u64::MAX), "bytes 30-35/36"),
        ("open-ended", from(5), "bytes 5-35/36"),
        ("open-ended, the last byte", from(35), "bytes 35-35/36"),
        ("from the start, bounded", range(0, 36), "bytes 0-35/36"),
        ("the whole", WHOLE, "bytes 0-35/36"),
    ] {
        let script = Script::answer(part(value, right(ask)));
        rows.push(
            Row::new(name, script)
                .ask(ask)
                .fetch(ok(right(ask), COMPLETE)),
        );
    }
    for (name, ask, value) in [
        ("open-ended, of *", from(5), "bytes 5-35/*"),
        ("one byte, of *", range(5, 1), "bytes 5-5/*"),
    ] {
        let script = Script::answer(part(value, right(ask)));
        rows.push(Row::new(name, script).ask(ask).fetch(ok(right(ask), None)));
    }
    // Without a complete length, only a client that asked `bytes=0-` may take this for the whole.
    let script = Script::answer(part("bytes 0-35/*", CONTENT));
    rows.push(Row::new("the whole, of *", script).fetch(ok(CONTENT, None).or(broken(36))));
    run(rows);
}

#[test]
fn content_lengths() {
    let answer = |value: &str, length: &str, content: &[u8]| {
        let range = format!("Content-Range: {value}");
        let length = format!("Content-Length: {length}");
        Script::always([
            Step::Send(response(PARTIAL, &[&range, &length], content)),
            Step::Fin,
        ])
    };
    let row = |name: &str, script| Row::new(name, script).ask(range(5, 5));
    run(vec![
        row("one less", answer("bytes 5-9/36", "4", b"5678")).fetch(refused()),
        row("one more", answer("bytes 5-9/36", "6", b"56789a")).fetch(refused()),
        row("zero", answer("bytes 5-9/36", "0", b"")).fetch(refused()),
        row("the complete length", answer("bytes 5-9/36", "36", CONTENT)).fetch(refused()),
        row("the rest", answer("bytes 5-9/36", "31", &CONTENT[5..])).fetch(refused()),
        row(
            "2^63",
            answer("bytes 5-9/36", "9223372036854775808", b"56789"),
        )
        .fetch(refused()),
        row(
            "off by 2^32",
            answer("bytes 5-9/36", "4294967301", b"56789"),
        )
        .fetch(refused()),
        row("malformed", answer("bytes 5-9/36", "5x", b"56789")).fetch(refused()),
        // Whatever the arithmetic, last - first + 1 must not wrap to anything.
        Row::new(
            "a range of 2^64 bytes",
            answer("bytes 0-18446744073709551615/*", "0", b""),
        )
        .fetch(refused()),
        Row::new(
            "the last of 2^64 bytes",
            answer(
                "bytes 18446744073709551615-18446744073709551615/*",
                "1",
                b"!",
            ),
        )
        .ask(range(u64::MAX, 1))
        .fetch(any_error().or(ok(b"!", None))),
    ]);
}

#[test]
fn fields() {
    let row = |name: &str, fields: &[&str], content: &[u8]| {
        Row::new(
            name,
            Script::always([Step::Send(response(PARTIAL, fields, content)), Step::Fin]),
        )
        .ask(range(5, 5))
    };
    let multipart = b"--b\r\nContent-Range: bytes 5-9/36\r\n\r\n56789\r\n--b--\r\n";
    let multipart_length = format!("Content-Length: {}", multipart.len());
    let as_asked = "Content-Range: bytes 5-9/36";
    run(vec![
        row("no Content-Range", &["Content-Length: 5"], b"56789").fetch(refused()),
        row("no field at all", &[], b"56789").fetch(refused()),
        row(
            "one that differs",
            &[
                as_asked,
                "Content-Range: bytes 6-10/36",
                "Content-Length: 5",
            ],
            b"56789",
        )
        .fetch(refused()),
        row(
            "one that differs, first",
            &[
                "Content-Range: bytes 6-10/36",
                as_asked,
                "Content-Length: 5",
            ],
            b"56789",
        )
        .fetch(refused()),
        // A singleton field said twice is malformed (RFC 9110 §5.3), if harmless when equal.
        row(
            "the same twice",
            &[as_asked, as_asked, "Content-Length: 5"],
            b"56789",
        )
        .fetch(ok(b"56789", COMPLETE).or(refused())),
        row(
            "multipart to a single range",
            &[
                "Content-Type: multipart/byteranges; boundary=b",
                &multipart_length,
            ],
            multipart,
        )
        .fetch(refused()),
        row(
            "multipart with a Content-Range",
            &[
                "Content-Type: multipart/byteranges; boundary=b",
                as_asked,
                &multipart_length,
            ],
            multipart,
        )
        .fetch(refused()),
        row(
            "multipart of exactly the length asked for",
            &[
                "Content-Type: Multipart/ByteRanges;boundary=b",
                as_asked,
                "Content-Length: 5",
            ],
            b"--b--",
        )
        .fetch(refused()),
        row(
            "a media type",
            &["Content-Type: audio/flac", as_asked, "Content-Length: 5"],
            b"56789",
        )
        .fetch(ok(b"56789", COMPLETE)),
        row(
            "Accept-Ranges: none",
            &["Accept-Ranges: none", as_asked, "Content-Length: 5"],
            b"56789",
        )
        .fetch(ok(b"56789", COMPLETE)),
        row(
            "a Range field",
            &["Range: bytes=0-4", as_asked, "Content-Length: 5"],
            b"56789",
        )
        .fetch(ok(b"56789", COMPLETE)),
    ]);
}

#[test]
fn unasked_206() {
    // Whether or not a Range was sent, the whole is 0 to the complete length.
    let row = |name: &str, value: &str, content: &[u8]| {
        Row::new(name, Script::answer(part(value, content)))
    };
    run(vec![
        row("the whole", "bytes 0-35/36", CONTENT).fetch(ok_whole()),
        row("not from the start", "bytes 5-35/36", &CONTENT[5..]).fetch(refused()),
        row("the last byte", "bytes 35-35/36", b"z").fetch(refused()),
        row("malformed", "bytes 0-35", CONTENT).fetch(refused()),
        Row::new(
            "without Content-Range",
            Script::answer(response(PARTIAL, &["Content-Length: 36"], CONTENT)),
        )
        .fetch(refused()),
    ]);
}

#[test]
fn content_length_of_the_source() {
    let zero = |value: &str| part(value, b"0");
    let values: Vec<(&str, Vec<u8>, Verdict)> = vec![
        ("the first byte", zero("bytes 0-0/36"), known(36)),
        ("one byte in all", zero("bytes 0-0/1"), known(1)),
        (
            "the largest",
            zero("bytes 0-0/18446744073709551615"),
            known(u64::MAX),
        ),
        (
            "beyond 2^32",
            zero("bytes 0-0/5497558138880"),
            known(5 << 40),
        ),
        ("not said", zero("bytes 0-0/*"), unknown()),
        ("another byte", zero("bytes 1-1/36"), refused()),
        ("of nothing", zero("bytes 0-0/0"), refused()),
        ("unsatisfied", zero("bytes */36"), refused()),
        ("not at all", zero("bytes 0-0"), refused()),
        ("2^64", zero("bytes 0-0/18446744073709551616"), refused()),
        ("another unit", zero("items 0-0/36"), refused()),
        ("negative", zero("bytes 0-0/-36"), refused()),
        (
            "more than asked",
            part("bytes 0-35/36", CONTENT),
            known(36).or(refused()),
        ),
        (
            "without Content-Range",
            response(PARTIAL, &["Content-Length: 1"], b"0"),
            refused(),
        ),
        (
            "a Content-Length that contradicts",
            response(
                PARTIAL,
                &["Content-Range: bytes 0-0/36", "Content-Length: 36"],
                CONTENT,
            ),
            refused(),
        ),
    ];
    run(values
        .into_iter()
        .map(|(name, answer, verdict)| Row::new(name, Script::answer(answer)).length(verdict))
        .collect());
}

#[test]
fn unsatisfiable() {
    let answer = |fields: &[&str]| {
        let fields: Vec<&str> = fields
            .iter()
            .copied()
            .chain(["Content-Length: 0"])
            .collect();
        Script::answer(response("HTTP/1.1 416 Range Not Satisfiable", &fields, b""))
    };
    let mut rows = Vec::new();
    for (name, value) in [
        (
            "with the complete length",
            &["Content-Range: bytes */36"][..],
        ),
        ("without Content-Range", &[]),
        (
            "with an odd Content-Range",
            &["Content-Range: bytes 5-9/36"],
        ),
        ("with a malformed Content-Range", &["Content-Range: odd"]),
    ] {
        for (ask_name, ask) in [
            ("beyond the end", range(40, 5)),
            ("at the end", range(36, 5)),
            ("open-ended at the end", from(36)),
            ("open-ended beyond", from(u64::MAX)),
            ("within", range(5, 5)),
            ("the last of 2^64 bytes", range(u64::MAX, 1)),
            ("beyond 2^64", range(u64::MAX, u64::MAX)),
        ] {
            let row = Row::new(format!("{name}, {ask_name}"), answer(value)).ask(ask);
            rows.push(row.fetch(status(416)).requests_at_most(1));
        }
        // At the start, 416 may stand for an empty source: asked anew, it still says 416.
        for (ask_name, ask) in [("the whole", WHOLE), ("from the start", range(0, 5))] {
            let row = Row::new(format!("{name}, {ask_name}"), answer(value)).ask(ask);
            rows.push(row.fetch(status(416)).requests_at_most(2));
        }
    }
    // An empty source as RFC 9110 §15.5.17 lets a server say it.
    let empty = answer(&["Content-Range: bytes */0"]);
    rows.push(
        Row::new("an empty source, the whole", empty.clone())
            .fetch(status(416).or(ok(b"", Some(0))))
            .length(status(416).or(known(0))),
    );
    rows.push(
        Row::new("an empty source, from the start", empty)
            .ask(range(0, 5))
            .fetch(status(416).or(ok(b"", Some(0)))),
    );
    for (name, value) in [
        ("without Content-Range", &[][..]),
        ("of 36", &["Content-Range: bytes */36"]),
    ] {
        rows.push(Row::new(format!("content_length, {name}"), answer(value)).length(status(416)));
    }
    run(rows);
}

/// A server that answers in parts: complete after several requests, or an error.
#[test]
fn parts() {
    let modern = |part_max: u64| Modern {
        part_max: Some(part_max),
        ..Modern::new(TOKEN, vec![Track::new(HANDLE, CONTENT)])
    };
    let mut rows = Vec::new();
    for part_max in [1, 3, 5, 35] {
        for (name, ask) in [
            ("the whole", WHOLE),
            ("from the start", range(0, 20)),
            ("within", range(5, 10)),
            ("open-ended", from(20)),
            ("beyond the end", range(30, 100)),
        ] {
            rows.push(
                Row::new(
                    format!("parts of {part_max}, {name}"),
                    modern(part_max).script(),
                )
                .ask(ask)
                .fetch(ok(right(ask), COMPLETE).or(broken(36)))
                .requests_at_most(40),
            );
        }
    }
    // The second part comes of another source: never a splice.
    let first = modern(5);
    let changed: Vec<(&str, Modern)> = vec![
        (
            "another complete length",
            Modern {
                tracks: vec![Track::new(HANDLE, &[&CONTENT[..], b"!"].concat())],
                ..first.clone()
            },
        ),
        (
            "another entity-tag and other bytes",
            Modern {
                tracks: vec![Track::new(HANDLE, &[b'#'; 36])],
                entity_tag: "\"v2\"".to_owned(),
                ..first.clone()
            },
        ),
        (
            "another entity-tag, and it ignores Range",
            Modern {
                tracks: vec![Track::new(HANDLE, &[b'#'; 36])],
                entity_tag: "\"v2\"".to_owned(),
                ignores_range: true,
                ..first.clone()
            },
        ),
    ];
    for (name, second) in changed {
        let first = first.clone();
        let script = Script::respond(move |request: &Request| {
            let server = if request.range().is_some_and(|(position, _)| position == 5) {
                &first
            } else {
                &second
            };
            vec![Step::Send(server.answer(request))]
        });
        rows.push(Row::new(name, script).ask(range(5, 10)).fetch(broken(5)));
    }
    run(rows);
}

#[test]
fn against_each_ask() {
    // Every range of a source of six bytes, against every honest 206 of it: accepted exactly when
    // it is the range asked for, cut to the source.
    let source = &CONTENT[..6];
    let mut rows = Vec::new();
    let asks = (0..6).flat_map(|start| {
        let bounded = (1..=7).map(move |len| range(start, len));
        bounded.chain([from(start)])
    });
    for ask in asks {
        let Ask { start, len } = ask;
        let wanted_last = len.map_or(5, |len| (start + len - 1).min(5));
        for first in 0..6u64 {
            for last in first..6 {
                let content = &source[first as usize..=last as usize];
                let script = Script::answer(part(&format!("bytes {first}-{last}/6"), content));
                let verdict = if (first, last) == (start, wanted_last) {
                    ok(content, Some(6))
                } else if first != start || last > wanted_last {
                    refused()
                } else {
                    broken(content.len())
                };
                let name = format!("{first}-{last} to {start}+{len:?}");
                rows.push(Row::new(name, script).ask(ask).fetch(verdict));
            }
        }
    }
    run(rows);
}
