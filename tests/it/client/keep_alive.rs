//! Persistent connections (RFC 9112 §9.3): a connection is used again only when the answer before
//! was read to its exact end, and a kept connection that turns out dead costs the caller nothing.

use std::collections::HashSet;

use peer_tests::script::{
    Connection, Modern, Request, Script, ScriptServer, Step, Track, chunked, response,
};

use super::table::{
    Ask, COMPLETE, CONTENT, Call, Case, HANDLE, Row, Sequence, TOKEN, Verdict, WHOLE, any_error,
    broken, call, from, judge, known, not_found, ok, ok_maybe_total, ok_whole, range, refused,
    right, run, run_cases, run_sequences, status, unauthorized,
};

const OK: &str = "HTTP/1.1 200 OK";
const FORGED: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nFORGED";

fn whole() -> Vec<u8> {
    response(OK, &["Content-Length: 36"], CONTENT)
}

/// Each connection gives this answer to its first request and a forged one to any later one.
fn then_forged(first: Vec<Step>) -> Script {
    let forged = vec![Step::Send(FORGED.to_vec())];
    Script::connections([Connection::answers([first, forged.clone(), forged])])
}

pub(super) fn each_on_its_own_connection(server: &ScriptServer) -> Result<(), String> {
    let connections: Vec<usize> = server
        .requests()
        .iter()
        .map(|request| request.connection)
        .collect();
    let distinct: HashSet<&usize> = connections.iter().collect();
    match distinct.len() == connections.len() {
        true => Ok(()),
        false => Err(format!("a connection was used again: {connections:?}")),
    }
}

#[test]
fn answers_that_end_the_connection() {
    let framed = chunked(CONTENT, 7);
    let with = |line: &str, fields: &[&str], content: &[u8]| response(line, fields, content);
    let length = "Content-Length: 36";
    let coding = "Transfer-Encoding: chunked";
    let exact = || (ok_whole(), known(36));
    let answers: Vec<(&str, Vec<u8>, (Verdict, Verdict))> = vec![
        (
            "close",
            with(OK, &[length, "Connection: close"], CONTENT),
            exact(),
        ),
        (
            "Close",
            with(OK, &[length, "connection: Close"], CONTENT),
            exact(),
        ),
        (
            "CLOSE",
            with(OK, &[length, "CONNECTION: CLOSE"], CONTENT),
            exact(),
        ),
        (
            "close in a list",
            with(OK, &[length, "Connection: x-odd, close"], CONTENT),
            exact(),
        ),
        (
            "close first in a list",
            with(OK, &[length, "Connection: close,x-odd"], CONTENT),
            exact(),
        ),
        (
            "close and keep-alive",
            with(OK, &[length, "Connection: close, keep-alive"], CONTENT),
            exact(),
        ),
        (
            "keep-alive and close",
            with(OK, &[length, "Connection: keep-alive, close"], CONTENT),
            exact(),
        ),
        (
            "close in a second line",
            with(
                OK,
                &[length, "Connection: keep-alive", "Connection: close"],
                CONTENT,
            ),
            exact(),
        ),
        (
            "HTTP/1.0",
            with("HTTP/1.0 200 OK", &[length], CONTENT),
            exact(),
        ),
        (
            "HTTP/1.0, close",
            with("HTTP/1.0 200 OK", &[length, "Connection: close"], CONTENT),
            exact(),
        ),
        (
            "chunked, close",
            with(OK, &[coding, "Connection: close"], &framed),
            (ok_maybe_total(CONTENT, 36), super::table::unknown()),
        ),
        // Faulty framing (RFC 9112 §6.1, §6.3): whoever reads it at all, closes.
        (
            "chunked with a length",
            with(OK, &[coding, length], &framed),
            (
                ok_maybe_total(CONTENT, 36).or(refused()),
                super::table::unknown().or(refused()),
            ),
        ),
        (
            "chunked in HTTP/1.0",
            with(
                "HTTP/1.0 200 OK",
                &[coding, "Connection: keep-alive"],
                &framed,
            ),
            (
                ok_maybe_total(CONTENT, 36).or(refused()),
                super::table::unknown().or(refused()),
            ),
        ),
        (
            "malformed",
            with(OK, &[length, "X-Odd : 1"], CONTENT),
            (refused(), refused()),
        ),
        (
            "two lengths",
            with(OK, &[length, "Content-Length: 6"], CONTENT),
            (refused(), refused()),
        ),
        (
            "an unknown coding",
            with(OK, &["Transfer-Encoding: x"], CONTENT),
            (refused(), refused()),
        ),
        (
            "another protocol",
            with("HTTP/1.1 101 Switching", &["Upgrade: x"], b""),
            (any_error(), any_error()),
        ),
    ];
    let mut rows = Vec::new();
    for (name, answer, (fetch, length)) in answers {
        rows.push(
            Sequence::new(name, then_forged(vec![Step::Send(answer)]))
                .then(Call::FetchRange(WHOLE), fetch.clone())
                .then(Call::FetchToWriter(WHOLE), fetch.clone())
                .then(Call::ContentLength, length.clone())
                .then(Call::ContentLength, length)
                .then(Call::FetchRange(WHOLE), fetch)
                .inspect(each_on_its_own_connection),
        );
    }
    run_sequences(rows);
}

/// Answers that are framed exactly and end nothing: one connection carries every call.
#[test]
fn answers_that_keep_the_connection() {
    let length = "Content-Length: 36";
    let coding = "Transfer-Encoding: chunked";
    let trailed = [&b"24\r\n"[..], CONTENT, b"\r\n0;a=b\r\nX-Odd: 1\r\n\r\n"].concat();
    let interim = [b"HTTP/1.1 103 x\r\nConnection: close\r\n\r\n", &whole()[..]].concat();
    let part = |first: usize, last: usize| {
        let fields = [
            format!("Content-Range: bytes {first}-{last}/36"),
            format!("Content-Length: {}", last - first + 1),
        ];
        let fields = fields.each_ref().map(String::as_str);
        response(
            "HTTP/1.1 206 Partial Content",
            &fields,
            &CONTENT[first..=last],
        )
    };
    let fetched = Call::FetchRange(WHOLE);
    let chunks = ok_maybe_total(CONTENT, 36);
    let answers: Vec<(&str, Vec<u8>, Call, Verdict)> = vec![
        ("a length", whole(), fetched, ok_whole()),
        (
            "keep-alive said",
            response(OK, &[length, "Connection: keep-alive"], CONTENT),
            fetched,
            ok_whole(),
        ),
        (
            "an option that only looks like close",
            response(OK, &[length, "Connection: x-close, closed"], CONTENT),
            fetched,
            ok_whole(),
        ),
        (
            "one length said twice",
            response(OK, &["Content-Length: 36, 36"], CONTENT),
            fetched,
            ok_whole(),
        ),
        (
            "chunks",
            response(OK, &[coding], &chunked(CONTENT, 5)),
            fetched,
            chunks.clone(),
        ),
        (
            "chunks and a trailer",
            response(OK, &[coding], &trailed),
            fetched,
            chunks,
        ),
        // The option belongs to the interim response, and that is no final one.
        ("an interim response first", interim, fetched, ok_whole()),
        (
            "nothing",
            response(OK, &["Content-Length: 0"], b""),
            fetched,
            ok(b"", Some(0)),
        ),
        (
            "a part",
            part(5, 9),
            Call::FetchToWriter(range(5, 5)),
            ok(b"56789", COMPLETE),
        ),
        (
            "a length asked for",
            part(0, 0),
            Call::ContentLength,
            known(36),
        ),
    ];
    let rows = answers.into_iter().map(|(name, answer, what, verdict)| {
        let row = Sequence::new(name, Script::answer(answer));
        let row = (0..4).fold(row, |row, _| row.then(what, verdict.clone()));
        row.inspect(
            |server| match (server.connections(), server.requests().len()) {
                (1, 4) => Ok(()),
                other => Err(format!("connections and requests: {other:?}, not 1 and 4")),
            },
        )
    });
    run_sequences(rows.collect());
}

/// The answer is an error, or is not read to its end, and what is left of it is a response in its
/// own right: whoever uses the connection again without having read all of it takes that for the
/// next answer.
#[test]
fn content_that_was_not_read() {
    let body = [FORGED, FORGED].concat();
    let length = format!("Content-Length: {}", body.len());
    let framed = chunked(&body, 11);
    let by_length = |line: &str| response(line, &[&length], &body);
    let by_chunks = |line: &str| response(line, &["Transfer-Encoding: chunked"], &framed);
    let first_five = [&CONTENT[..5], FORGED].concat();
    let first_five_length = format!("Content-Length: {}", first_five.len());
    let at_five = [&CONTENT[..10], FORGED].concat();
    let at_five_length = format!("Content-Length: {}", at_five.len());
    let (total, at_five_total) = (first_five.len() as u64, at_five.len() as u64);
    let shifted = response(
        "HTTP/1.1 206 Partial Content",
        &[
            &format!("Content-Range: bytes 6-{}/99", 5 + body.len()),
            &length,
        ],
        &body,
    );
    let gzip = response(OK, &["Content-Encoding: gzip", &length], &body);
    let whole_of = |total: u64| ok(&CONTENT[..5], Some(total));

    let cases: Vec<(&str, Vec<u8>, Call, Verdict)> = vec![
        (
            "404",
            by_length("HTTP/1.1 404 No"),
            Call::FetchRange(WHOLE),
            not_found(),
        ),
        (
            "404, chunked",
            by_chunks("HTTP/1.1 404 No"),
            Call::FetchRange(WHOLE),
            not_found(),
        ),
        (
            "401",
            by_length("HTTP/1.1 401 No"),
            Call::FetchToWriter(WHOLE),
            unauthorized(),
        ),
        (
            "416",
            by_length("HTTP/1.1 416 No"),
            Call::FetchRange(range(5, 5)),
            status(416),
        ),
        (
            "500",
            by_length("HTTP/1.1 500 No"),
            Call::FetchRange(WHOLE),
            status(500),
        ),
        (
            "503, chunked",
            by_chunks("HTTP/1.1 503 No"),
            Call::ContentLength,
            status(503),
        ),
        (
            "301",
            by_length("HTTP/1.1 301 No"),
            Call::FetchRange(WHOLE),
            status(301),
        ),
        // These have no content: the bytes behind the head belong to nothing.
        (
            "204",
            by_length("HTTP/1.1 204 No"),
            Call::FetchRange(WHOLE),
            any_error(),
        ),
        (
            "304",
            by_length("HTTP/1.1 304 No"),
            Call::FetchRange(WHOLE),
            any_error(),
        ),
        (
            "a 206 of another range",
            shifted,
            Call::FetchRange(range(5, 5)),
            refused(),
        ),
        ("gzip", gzip, Call::FetchRange(WHOLE), refused()),
        (
            "200 to content_length",
            response(OK, &[&length], &body),
            Call::ContentLength,
            known(body.len() as u64),
        ),
        (
            "chunked 200 to content_length",
            response(OK, &["Transfer-Encoding: chunked"], &framed),
            Call::ContentLength,
            super::table::unknown(),
        ),
        (
            "200, its first bytes",
            response(OK, &[&first_five_length], &first_five),
            Call::FetchRange(range(0, 5)),
            whole_of(total),
        ),
        (
            "200, bytes within",
            response(OK, &[&at_five_length], &at_five),
            Call::FetchToWriter(range(5, 5)),
            ok(b"56789", Some(at_five_total)).or(broken(0)),
        ),
        (
            "chunked 200, its first bytes",
            response(
                OK,
                &["Transfer-Encoding: chunked"],
                &chunked(&first_five, 5),
            ),
            Call::FetchRange(range(0, 5)),
            ok_maybe_total(&CONTENT[..5], total),
        ),
    ];
    let mut rows = Vec::new();
    for (name, answer, first, verdict) in cases {
        // The first connection gives this answer once; every other request is answered rightly.
        let script = Script::connections([
            Connection::respond({
                let given = std::sync::atomic::AtomicBool::new(false);
                move |_| match given.swap(true, std::sync::atomic::Ordering::Relaxed) {
                    false => vec![Step::Send(answer.clone())],
                    true => vec![Step::Send(whole())],
                }
            }),
            Connection::respond(|_| vec![Step::Send(whole())]),
        ]);
        rows.push(
            Sequence::new(name, script)
                .then(first, verdict)
                .then(Call::FetchRange(WHOLE), ok_whole())
                .then(Call::FetchToWriter(WHOLE), ok_whole()),
        );
    }
    run_sequences(rows);
}

/// The verdict is known before the content has come, and what comes later is a response in its
/// own right: nothing in the first read tells that the connection is not free.
#[test]
fn content_that_had_not_come() {
    let rest = [FORGED, FORGED].concat();
    let after = |already: usize| format!("Content-Length: {}", already + rest.len());
    let chunk = |already: &[u8]| {
        let size = format!("{:x}\r\n", already.len() + rest.len());
        response(
            OK,
            &["Transfer-Encoding: chunked"],
            &[size.as_bytes(), already].concat(),
        )
    };
    let total = |already: usize| (already + rest.len()) as u64;
    let cases: Vec<(&str, Vec<u8>, Call, Verdict)> = vec![
        (
            "404",
            response("HTTP/1.1 404 No", &[&after(0)], b""),
            Call::FetchRange(WHOLE),
            not_found(),
        ),
        (
            "401",
            response("HTTP/1.1 401 No", &[&after(0)], b""),
            Call::FetchToWriter(WHOLE),
            unauthorized(),
        ),
        (
            "500",
            response("HTTP/1.1 500 No", &[&after(0)], b""),
            Call::ContentLength,
            status(500),
        ),
        (
            "416",
            response("HTTP/1.1 416 No", &[&after(0)], b""),
            Call::FetchRange(range(5, 5)),
            status(416),
        ),
        (
            "200 to content_length",
            response(OK, &[&after(0)], b""),
            Call::ContentLength,
            known(total(0)),
        ),
        (
            "chunked 200 to content_length",
            response(OK, &["Transfer-Encoding: chunked"], b""),
            Call::ContentLength,
            super::table::unknown(),
        ),
        (
            "200, its first bytes",
            response(OK, &[&after(5)], &CONTENT[..5]),
            Call::FetchRange(range(0, 5)),
            ok(&CONTENT[..5], Some(total(5))),
        ),
        (
            "200, bytes within",
            response(OK, &[&after(10)], &CONTENT[..10]),
            Call::FetchToWriter(range(5, 5)),
            ok(b"56789", Some(total(10))).or(broken(0)),
        ),
        (
            "chunked 200, its first bytes",
            chunk(&CONTENT[..5]),
            Call::FetchRange(range(0, 5)),
            ok_maybe_total(&CONTENT[..5], total(5)),
        ),
        (
            "a 206 of another range",
            response(
                "HTTP/1.1 206 Partial Content",
                &[
                    &format!("Content-Range: bytes 6-{}/99", 5 + rest.len()),
                    &after(0),
                ],
                b"",
            ),
            Call::FetchRange(range(5, 5)),
            refused(),
        ),
    ];
    let rows = cases.into_iter().map(|(name, first, what, verdict)| {
        let late = vec![Step::Send(rest.clone())];
        let script = Script::connections([
            Connection::answers([vec![Step::Send(first)], late.clone(), late]),
            Connection::respond(|_| vec![Step::Send(whole())]),
        ]);
        Sequence::new(name, script)
            .then(what, verdict)
            .then(Call::FetchRange(WHOLE), ok_whole())
            .then(Call::FetchToWriter(WHOLE), ok_whole())
    });
    run_sequences(rows.collect());
}

/// A kept connection that is gone is replaced once, silently.
#[test]
fn dead_kept_connections() {
    let answered = || vec![Step::Send(whole())];
    let kept = |second: Vec<Step>| Connection::answers([answered(), second]);
    let good = || Connection::respond(|_| vec![Step::Send(whole())]);
    let head = whole().len() - CONTENT.len();
    let partial = |sent: usize| vec![Step::Send(whole()[..sent].to_vec()), Step::Fin];
    let twice = |name: String, script: Script, second: Verdict| {
        Sequence::new(name, script)
            .then(Call::FetchRange(WHOLE), ok_whole())
            .then(Call::FetchToWriter(WHOLE), second)
    };
    let mut rows = vec![
        twice(
            "FIN behind the answer".to_owned(),
            Script::connections([
                Connection::answers([[answered(), vec![Step::Fin]].concat()]),
                good(),
            ]),
            ok_whole(),
        ),
        twice(
            "RST behind the answer".to_owned(),
            Script::connections([
                Connection::answers([[answered(), vec![Step::Reset]].concat()]),
                good(),
            ]),
            ok_whole(),
        ),
        twice(
            "FIN instead of the second answer".to_owned(),
            Script::connections([kept(vec![Step::Fin]), good()]),
            ok_whole(),
        ),
        twice(
            "RST instead of the second answer".to_owned(),
            Script::connections([kept(vec![Step::Reset]), good()]),
            ok_whole(),
        ),
    ];
    // Once bytes of an answer came, asking anew is allowed and not required.
    for sent in [1, head / 2, head - 1, head, head + 10] {
        let written = sent.saturating_sub(head);
        rows.push(twice(
            format!("FIN after {sent} bytes of the second answer"),
            Script::connections([kept(partial(sent)), good()]),
            ok_whole().or(broken(written)),
        ));
    }
    // Replaced once, not for ever.
    for end in [Step::Fin, Step::Reset] {
        let dead = Connection::answers([vec![end.clone()]]);
        rows.push(
            twice(
                format!("every later connection ends in {end:?}"),
                Script::connections([kept(vec![end]), dead]),
                broken(0),
            )
            .inspect(|server| match server.requests().len() {
                0..=3 => Ok(()),
                more => Err(format!("{more} requests for two calls")),
            }),
        );
    }
    run_sequences(rows);
}

/// Many calls of one server: right answers each time, whether or not connections are kept.
#[test]
fn many_calls() {
    let server = Modern::new(TOKEN, vec![Track::new(HANDLE, CONTENT)]);
    let calls: Vec<(Call, Verdict)> = (0..36u64)
        .flat_map(|start| {
            let ask = if start % 3 == 0 {
                from(start)
            } else {
                range(start, 7)
            };
            let verdict = ok(right(ask), COMPLETE);
            [
                (Call::FetchRange(ask), verdict.clone()),
                (Call::FetchToWriter(ask), verdict),
                (Call::ContentLength, known(36)),
            ]
        })
        .chain([(Call::FetchRange(range(40, 1)), status(416))])
        .chain([(Call::FetchRange(WHOLE), ok_whole())])
        .collect();
    let sequence = Sequence::new("one after the other", server.script());
    run_sequences(vec![
        calls
            .into_iter()
            .fold(sequence, |sequence, (call, verdict)| {
                sequence.then(call, verdict)
            }),
    ]);
}

/// Many calls at once: no call sees another's answer.
#[test]
fn parallel_calls() {
    let server = Modern::new(TOKEN, vec![Track::new(HANDLE, CONTENT)]);
    let server = std::sync::Arc::new(ScriptServer::start(server.script()));
    let cases = (0..8u64).map(|thread| {
        let server = std::sync::Arc::clone(&server);
        let case = move || {
            let mut failures = Vec::new();
            for turn in 0..40 {
                let ask = range((thread * 5 + turn) % 36, 1 + turn % 9);
                let (what, verdict) = match turn % 3 {
                    0 => (Call::FetchRange(ask), ok(right(ask), COMPLETE)),
                    1 => (Call::FetchToWriter(ask), ok(right(ask), COMPLETE)),
                    _ => (Call::ContentLength, known(36)),
                };
                let seen = call(&server.base(), TOKEN, HANDLE, what);
                failures.extend(judge(&verdict, what, &seen).err());
            }
            failures
        };
        (format!("thread {thread}"), Box::new(case) as Case)
    });
    run_cases(cases);
}

/// One server, two tokens: a kept connection carries no one's credentials but the caller's.
#[test]
fn two_tokens() {
    let server =
        ScriptServer::start(Modern::new(TOKEN, vec![Track::new(HANDLE, CONTENT)]).script());
    let what = Call::FetchRange(WHOLE);
    for turn in 0..4 {
        let seen = call(&server.base(), TOKEN, HANDLE, what);
        judge(&ok_whole(), what, &seen).unwrap();
        let seen = call(&server.base(), "another", HANDLE, what);
        judge(&unauthorized(), what, &seen).unwrap();
        let seen = call(&server.base(), TOKEN, "other", what);
        judge(&not_found(), what, &seen).unwrap();
        assert!(server.requests().len() > turn * 3, "calls without requests");
    }
}

/// The second of two 206s on one connection answers the second request, not the first.
#[test]
fn stale_answers() {
    let part = |ask: Ask| {
        let last = ask.start + ask.len.unwrap() - 1;
        let fields = [
            format!("Content-Range: bytes {}-{last}/36", ask.start),
            format!("Content-Length: {}", ask.len.unwrap()),
        ];
        response(
            "HTTP/1.1 206 Partial Content",
            &[&fields[0], &fields[1]],
            right(ask),
        )
    };
    let (first, second) = (range(5, 5), range(10, 5));
    // Whatever is asked, on whichever connection, the answer is the one to the first request.
    let script = Script::respond(move |_: &Request| vec![Step::Send(part(first))]);
    run_sequences(vec![
        Sequence::new("the same 206 again", script.clone())
            .then(Call::FetchRange(first), ok(b"56789", COMPLETE))
            .then(Call::FetchRange(second), refused())
            .then(Call::FetchToWriter(second), refused())
            .then(Call::FetchRange(first), ok(b"56789", COMPLETE)),
    ]);
    run(vec![Row::new("alone", script).ask(second).fetch(refused())]);
}
