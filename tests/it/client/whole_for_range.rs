//! A 200 to a range (RFC 9110 §14.2 lets a server ignore `Range`): what precedes the range is read
//! past, exactly, or the answer is refused; it is never handed over as the range.

use peer_tests::script::{Delimited, Modern, Script, Step, Track, chunked, response};

use super::table::{
    COMPLETE, CONTENT, HANDLE, Row, TOKEN, broken, from, ok, ok_maybe_total, range, right, run,
    status,
};

const OK: &str = "HTTP/1.1 200 OK";

#[test]
fn in_every_framing() {
    let mut rows = Vec::new();
    for delimited in [
        Delimited::Length,
        Delimited::Chunked(36),
        Delimited::Chunked(7),
        Delimited::Chunked(1),
        Delimited::Close,
    ] {
        let server = Modern {
            delimited,
            ignores_range: true,
            ..Modern::new(TOKEN, vec![Track::new(HANDLE, CONTENT)])
        };
        for (name, ask) in [
            ("the first byte", range(0, 1)),
            ("from the start", range(0, 5)),
            ("all, bounded", range(0, 36)),
            ("from the start beyond the end", range(0, 100)),
            ("within", range(5, 5)),
            ("across chunks", range(5, 10)),
            ("the last byte", range(35, 1)),
            ("to the end", range(30, 6)),
            ("beyond the end", range(30, 100)),
            ("beyond every end", range(30, u64::MAX)),
            ("open-ended", from(5)),
            ("open-ended, the last byte", from(35)),
        ] {
            let right = right(ask);
            let verdict = match delimited {
                Delimited::Length => ok(right, COMPLETE),
                Delimited::Chunked(_) | Delimited::Close => ok_maybe_total(right, 36),
            };
            // From the start there is nothing to read past, and so no reason to refuse.
            let to_the_end = ask.start.saturating_add(ask.len.unwrap_or(u64::MAX)) > 36;
            let refusable = ask.start > 0 || (to_the_end && delimited == Delimited::Close);
            let verdict = if refusable {
                verdict.or(broken(right.len()))
            } else {
                verdict
            };
            let script = server.clone().script();
            rows.push(
                Row::new(format!("{delimited:?}, {name}"), script)
                    .ask(ask)
                    .fetch(verdict),
            );
        }
    }
    run(rows);
}

#[test]
fn that_ends_before_the_range() {
    let mut rows = Vec::new();
    let framings: Vec<(&str, Vec<u8>)> = vec![
        ("length", response(OK, &["Content-Length: 36"], CONTENT)),
        (
            "chunked",
            response(OK, &["Transfer-Encoding: chunked"], &chunked(CONTENT, 7)),
        ),
        ("close", response(OK, &[], CONTENT)),
    ];
    for (framing, answer) in framings {
        for (name, ask) in [
            ("beyond the end", range(40, 5)),
            ("far beyond the end", range(1 << 40, 5)),
            ("the last of 2^64 bytes", range(u64::MAX, 1)),
            ("beyond 2^64", range(u64::MAX, u64::MAX)),
            ("a bounded range at the end", range(36, 5)),
            ("open-ended beyond the end", from(40)),
            ("open-ended beyond 2^63", from(u64::MAX)),
        ] {
            let script = Script::always([Step::Send(answer.clone()), Step::Fin]);
            rows.push(
                Row::new(format!("{framing}, {name}"), script)
                    .ask(ask)
                    .fetch(broken(0).or(status(416))),
            );
        }
        // From the end to the end: nothing, or nothing satisfiable.
        let script = Script::always([Step::Send(answer), Step::Fin]);
        let row = Row::new(format!("{framing}, open-ended at the end"), script).ask(from(36));
        rows.push(row.fetch(ok_maybe_total(b"", 36).or(broken(0)).or(status(416))));
    }
    run(rows);
}

#[test]
fn that_breaks_off() {
    let answer = response(OK, &["Content-Length: 36"], CONTENT);
    let head = answer.len() - CONTENT.len();
    let framed = response(OK, &["Transfer-Encoding: chunked"], b"");
    let mut rows = Vec::new();
    for sent in 0..=CONTENT.len() {
        for end in [Step::Fin, Step::Reset] {
            let of_the_range = sent.clamp(5, 10) - 5;
            // Once the range is there, whoever stops reading is content.
            let verdict = |sent: usize| match sent {
                0..10 => broken(of_the_range),
                10..36 => ok_maybe_total(b"56789", 36).or(broken(5)),
                _ => ok_maybe_total(b"56789", 36).or(broken(0)),
            };
            let script = Script::always([Step::Send(answer[..head + sent].to_vec()), end.clone()]);
            let row = Row::new(format!("{end:?} after {sent} of 36 bytes"), script);
            rows.push(row.ask(range(5, 5)).fetch(verdict(sent)));

            let chunk = [&framed[..], b"24\r\n", &CONTENT[..sent]].concat();
            let script = Script::always([Step::Send(chunk), end.clone()]);
            let row = Row::new(format!("{end:?} after {sent} bytes of a chunk"), script);
            rows.push(row.ask(range(5, 5)).fetch(verdict(sent.min(35))));
        }
    }
    run(rows);
}

#[test]
fn with_a_content_range() {
    // RFC 9110 §14.4: Content-Range has no meaning in a 200. The content is the whole.
    let row = |name: &str, fields: &[&str], content: &[u8]| {
        Row::new(
            name,
            Script::always([Step::Send(response(OK, fields, content)), Step::Fin]),
        )
        .ask(range(5, 5))
    };
    run(vec![
        row(
            "the whole",
            &["Content-Range: bytes 5-9/36", "Content-Length: 36"],
            CONTENT,
        )
        .fetch(ok(b"56789", COMPLETE).or(broken(0))),
        // Five bytes in all, the range begins behind them.
        row(
            "the range alone",
            &["Content-Range: bytes 5-9/36", "Content-Length: 5"],
            b"56789",
        )
        .fetch(broken(0).or(status(416))),
        row(
            "malformed",
            &["Content-Range: odd", "Content-Length: 36"],
            CONTENT,
        )
        .fetch(ok(b"56789", COMPLETE).or(broken(0))),
        row(
            "of another length",
            &["Content-Range: bytes 5-9/99", "Content-Length: 36"],
            CONTENT,
        )
        .fetch(ok(b"56789", COMPLETE).or(broken(0))),
    ]);
}
