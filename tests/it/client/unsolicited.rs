//! Bytes that no request asked for (RFC 9112 §9.2): never part of an answer, and never the answer
//! to the next request.

use peer_tests::script::{Connection, Gate, Request, Script, ScriptServer, Step, response};

use super::table::{
    COMPLETE, CONTENT, Call, Row, Sequence, Verdict, WHOLE, broken, known, ok, ok_whole, range,
    run, run_sequences, status,
};

const FORGED: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nFORGED";
const FORGED_PART: &[u8] =
    b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 5-9/36\r\nContent-Length: 5\r\n\r\nFORGE";

/// The right answer to a request, kept alive.
fn right_answer(request: &Request) -> Vec<u8> {
    match request.range() {
        Some((first, Some(last))) => {
            let fields = [
                format!("Content-Range: bytes {first}-{last}/36"),
                format!("Content-Length: {}", last - first + 1),
            ];
            let content = &CONTENT[first as usize..=last as usize];
            response(
                "HTTP/1.1 206 Partial Content",
                &[&fields[0], &fields[1]],
                content,
            )
        }
        _ => response("HTTP/1.1 200 OK", &["Content-Length: 36"], CONTENT),
    }
}

/// Answers rightly, and sends this behind every answer.
fn trailed_by(surplus: &'static [u8]) -> Script {
    Script::respond(move |request| vec![Step::Send([&right_answer(request)[..], surplus].concat())])
}

const SURPLUS: &[(&str, &[u8])] = &[
    ("a response", FORGED),
    ("a 206", FORGED_PART),
    (
        "two responses",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n",
    ),
    ("a status-line", b"HTTP/1.1 404 Not Found\r\n"),
    ("the first byte of a response", b"H"),
    ("CRLF", b"\r\n"),
    (
        "a 408",
        b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    ),
    ("an interim response", b"HTTP/1.1 100 Continue\r\n\r\n"),
    ("text", b"surplus"),
];

fn part() -> Verdict {
    ok(b"56789", COMPLETE)
}

fn three_calls(
    name: String,
    script: Script,
    first: Verdict,
    second: Verdict,
    third: Verdict,
) -> Sequence {
    Sequence::new(name, script)
        .then(Call::FetchRange(WHOLE), first)
        .then(Call::FetchToWriter(range(5, 5)), second)
        .then(Call::ContentLength, third)
}

#[test]
fn in_the_same_segment() {
    let rows = SURPLUS.iter().map(|(name, surplus)| {
        let distrusted = |verdict: Verdict, written| verdict.or(broken(written));
        three_calls(
            format!("{name} behind each answer"),
            trailed_by(surplus),
            distrusted(ok_whole(), 36),
            distrusted(part(), 5),
            distrusted(known(36), 0),
        )
        // The surplus came with the answer, so the client knew of it.
        .inspect(super::keep_alive::each_on_its_own_connection)
    });
    run_sequences(rows.collect());
}

/// The first answer is exact; while the client rests, bytes come that it did not ask for.
#[test]
fn while_the_connection_is_idle() {
    let mut rows = Vec::new();
    for (name, surplus) in SURPLUS {
        for (end_name, end) in [("", None), (", then FIN", Some(Step::Fin))] {
            let (rest, came) = (Gate::new(), Gate::new());
            let steps: Vec<Step> = [Step::Pause(rest.clone()), Step::Send(surplus.to_vec())]
                .into_iter()
                .chain([Step::Signal(came.clone())])
                .chain(end)
                .collect();
            let first = Connection::respond({
                let asked = std::sync::atomic::AtomicUsize::new(0);
                move |request| {
                    let mut answer = vec![Step::Send(right_answer(request))];
                    if asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0 {
                        answer.extend(steps.clone());
                    }
                    answer
                }
            });
            let further = Connection::respond(|request| vec![Step::Send(right_answer(request))]);
            let script = Script::connections([first, further]);
            let row = three_calls(
                format!("{name}{end_name}"),
                script,
                ok_whole(),
                part(),
                known(36),
            );
            // The gates stay open after the first pause: later calls meet an ordinary server.
            rows.push(row.between(move |_: &ScriptServer| {
                rest.open();
                match came.wait() {
                    true => Ok(()),
                    false => Err("the script never came to its surplus bytes".to_owned()),
                }
            }));
        }
    }
    run_sequences(rows);
}

/// Bytes that come before the request was sent. A client cannot always tell them from an early
/// answer, but an error status in them stays one.
#[test]
fn before_the_request() {
    let greeted = |greeting: &[u8], end: Option<Step>| {
        let steps = [Step::Send(greeting.to_vec())].into_iter().chain(end);
        Script::connections([Connection::answers([]).greeting(steps)])
    };
    let rows = vec![
        (
            "a 408, then FIN",
            greeted(
                b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n",
                Some(Step::Fin),
            ),
            status(408).or(broken(0)),
        ),
        (
            "text, then FIN",
            greeted(b"220 mail.example ESMTP\r\n", Some(Step::Fin)),
            broken(0),
        ),
        (
            "an SSH version",
            greeted(b"SSH-2.0-x\r\n", Some(Step::Hold)),
            broken(0),
        ),
        ("FIN", greeted(b"", Some(Step::Fin)), broken(0)),
    ];
    run(rows
        .into_iter()
        .map(|(name, script, verdict)| {
            Row::new(name, script)
                .fetch(verdict.clone())
                .length(verdict)
        })
        .collect());
}
