//! The published server, with the habits that are documented of it: old and new peers meet on one
//! network.

use peer_tests::script::{Published, Script, ScriptServer, Step, Track, response};

use super::table::{
    Ask, COMPLETE, CONTENT, Call, HANDLE, Row, TOKEN, Verdict, WHOLE, broken, call, from, judge,
    known, not_found, ok, ok_whole, range, right, run, status, unauthorized, unknown,
};

fn serving(track: Track) -> Script {
    Published {
        token: TOKEN.to_owned(),
        tracks: vec![track],
    }
    .script()
}

#[test]
fn a_source_of_known_length() {
    let mut rows = vec![
        Row::new("the length", serving(Track::new(HANDLE, CONTENT))).length(known(36)),
        Row::new("the whole", serving(Track::new(HANDLE, CONTENT))).fetch(ok_whole()),
    ];
    let asks = (0..36).flat_map(|start| [from(start), range(start, 1), range(start, 7)]);
    for ask in asks.chain([
        range(0, 36),
        range(0, 37),
        range(0, u64::MAX),
        range(35, u64::MAX),
    ]) {
        let Ask { start, len } = ask;
        rows.push(
            Row::new(
                format!("{start}+{len:?}"),
                serving(Track::new(HANDLE, CONTENT)),
            )
            .ask(ask)
            .fetch(ok(right(ask), COMPLETE)),
        );
    }
    for (name, ask) in [
        ("at the end", range(36, 1)),
        ("open-ended at the end", from(36)),
        ("beyond the end", range(99, 5)),
        ("the last of 2^64 bytes", range(u64::MAX, 1)),
    ] {
        let row = Row::new(name, serving(Track::new(HANDLE, CONTENT))).ask(ask);
        rows.push(row.fetch(status(416)));
    }
    run(rows);
}

#[test]
fn an_empty_source() {
    let script = || serving(Track::new(HANDLE, b""));
    let nothing = || ok(b"", Some(0));
    run(vec![
        Row::new("the length", script()).length(known(0)),
        Row::new("the whole", script()).fetch(nothing()),
        // It says 416 and not why: a client may find out, or pass it on.
        Row::new("from the start", script())
            .ask(range(0, 5))
            .fetch(nothing().or(status(416))),
        Row::new("one byte", script())
            .ask(range(0, 1))
            .fetch(nothing().or(status(416))),
        Row::new("further on", script())
            .ask(range(5, 5))
            .fetch(status(416)),
        Row::new("open-ended further on", script())
            .ask(from(5))
            .fetch(status(416)),
    ]);
}

#[test]
fn a_source_of_unknown_length() {
    let script = || serving(Track::of_unknown_length(HANDLE, CONTENT));
    let either = |bytes: &[u8], ask: Ask| {
        Row::new(format!("{ask:?}"), script())
            .ask(ask)
            .fetch(ok(bytes, None).or(status(416)))
    };
    run(vec![
        Row::new("the length", script()).length(unknown()),
        Row::new("the whole", script()).fetch(ok(CONTENT, None)),
        either(b"01234", range(0, 5)),
        either(b"0", range(0, 1)),
        either(CONTENT, range(0, 36)),
        Row::new("further on", script())
            .ask(range(5, 5))
            .fetch(status(416)),
        Row::new("open-ended further on", script())
            .ask(from(5))
            .fetch(status(416)),
        Row::new(
            "nothing in it",
            serving(Track::of_unknown_length(HANDLE, b"")),
        )
        .fetch(ok(b"", None))
        .length(unknown()),
    ]);
}

#[test]
fn a_source_that_ends_early() {
    let mut rows = Vec::new();
    for ends_at in 0..36 {
        let script = || serving(Track::ending_at(HANDLE, CONTENT, ends_at));
        let row =
            |name: &str, ask: Ask| Row::new(format!("{name}, at {ends_at}"), script()).ask(ask);
        rows.push(row("the whole", WHOLE).fetch(broken(ends_at)));
        rows.push(row("from 10", from(10)).fetch(broken(ends_at.saturating_sub(10))));
        let bounded: Verdict = match ends_at {
            0..20 => broken(ends_at.saturating_sub(10)),
            _ => ok(&CONTENT[10..20], COMPLETE),
        };
        rows.push(row("within", range(10, 10)).fetch(bounded));
    }
    run(rows);
}

#[test]
fn credentials_and_handles() {
    let track = Track::new("a/b c?ä%41", CONTENT);
    let server = ScriptServer::start(serving(track));
    for what in [
        Call::FetchRange(WHOLE),
        Call::FetchToWriter(range(5, 5)),
        Call::ContentLength,
    ] {
        let right = match what {
            Call::FetchRange(_) => ok_whole(),
            Call::FetchToWriter(_) => ok(b"56789", COMPLETE),
            Call::ContentLength => known(36),
        };
        let seen = call(&server.base(), TOKEN, "a/b c?ä%41", what);
        judge(&right, what, &seen).unwrap();
        let seen = call(&server.base(), "wrong", "a/b c?ä%41", what);
        judge(&unauthorized(), what, &seen).unwrap();
        let seen = call(&server.base(), TOKEN, "a", what);
        judge(&not_found(), what, &seen).unwrap();
    }
}

/// Answers as such a server writes them, with fewer fields and more of them, in either case.
#[test]
fn other_spellings() {
    let fin = |line: &str, fields: &[&str], content: &[u8]| {
        Script::always([Step::Send(response(line, fields, content)), Step::Fin])
    };
    let part = "HTTP/1.1 206 Partial Content";
    run(vec![
        Row::new(
            "nothing but what is needed",
            fin("HTTP/1.1 200 OK", &["Content-Length: 36"], CONTENT),
        )
        .fetch(ok_whole())
        .length(known(36)),
        Row::new(
            "lower case",
            fin(
                part,
                &[
                    "content-range: bytes 5-9/36",
                    "content-length: 5",
                    "connection: close",
                ],
                b"56789",
            ),
        )
        .ask(range(5, 5))
        .fetch(ok(b"56789", COMPLETE)),
        Row::new(
            "the length first",
            fin(
                part,
                &[
                    "Content-Type: application/octet-stream",
                    "Content-Length: 5",
                    "Accept-Ranges: bytes",
                    "Content-Range: bytes 5-9/36",
                    "Connection: close",
                ],
                b"56789",
            ),
        )
        .ask(range(5, 5))
        .fetch(ok(b"56789", COMPLETE)),
        Row::new(
            "401 without a challenge",
            fin("HTTP/1.1 401 Unauthorized", &["Connection: close"], b""),
        )
        .fetch(unauthorized())
        .length(unauthorized()),
        Row::new(
            "404 without a length",
            fin("HTTP/1.1 404 Not Found", &["Connection: close"], b""),
        )
        .fetch(not_found())
        .length(not_found()),
    ]);
}
