//! Recorded exchanges, cut at every byte by FIN and by RST, and split at every byte: complete
//! exactly when all bytes came.

use peer_tests::script::{Connection, Script, Step, chunked, response};

use super::table::{
    Ask, COMPLETE, CONTENT, Call, Row, Sequence, Verdict, WHOLE, broken, ok, ok_maybe_total,
    ok_whole, range, run, run_sequences,
};

/// An answer, what was asked, what comes of it, and how many content bytes lie before an offset.
struct Exchange {
    name: &'static str,
    ask: Ask,
    answer: Vec<u8>,
    complete: Verdict,
    content_before: Box<dyn Fn(usize) -> usize>,
}

fn exchanges() -> Vec<Exchange> {
    let by_length = |head: usize| move |cut: usize| cut.saturating_sub(head);
    let whole = response("HTTP/1.1 200 OK", &["Content-Length: 36"], CONTENT);
    let part = response(
        "HTTP/1.1 206 Partial Content",
        &["Content-Range: bytes 5-14/36", "Content-Length: 10"],
        &CONTENT[5..15],
    );
    let interim = [b"HTTP/1.1 100 Continue\r\n\r\n", &whole[..]].concat();
    let body = [
        &b"10;a=b\r\n"[..],
        &CONTENT[..16],
        b"\r\n",
        &chunk(&CONTENT[16..20]),
    ]
    .concat();
    let body = [&body[..], &chunked(&CONTENT[20..], 9)].concat();
    let framed = response("HTTP/1.1 200 OK", &["Transfer-Encoding: chunked"], &body);
    let trailed = [&framed[..framed.len() - 2], b"X-Odd: 1\r\n\r\n"].concat();
    let framed_part = response(
        "HTTP/1.1 206 Partial Content",
        &["Content-Range: bytes 5-14/36", "Transfer-Encoding: chunked"],
        &chunked(&CONTENT[5..15], 4),
    );
    // Content bytes are upper bounds where framing lies between them: whoever counts framing
    // bytes as content still fails, because what was written has to be a prefix of the content.
    let at_most = |head: usize, most: usize| move |cut: usize| cut.saturating_sub(head).min(most);
    let head_of = |answer: &[u8]| answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
    vec![
        Exchange {
            name: "200",
            ask: WHOLE,
            content_before: Box::new(by_length(whole.len() - 36)),
            answer: whole,
            complete: ok_whole(),
        },
        Exchange {
            name: "206",
            ask: range(5, 10),
            content_before: Box::new(by_length(part.len() - 10)),
            answer: part,
            complete: ok(&CONTENT[5..15], COMPLETE),
        },
        Exchange {
            name: "100 and 200",
            ask: WHOLE,
            content_before: Box::new(by_length(interim.len() - 36)),
            answer: interim,
            complete: ok_whole(),
        },
        Exchange {
            name: "chunked",
            ask: WHOLE,
            content_before: Box::new(at_most(head_of(&framed), 36)),
            answer: framed,
            complete: ok_maybe_total(CONTENT, 36),
        },
        Exchange {
            name: "chunked with a trailer",
            ask: WHOLE,
            content_before: Box::new(at_most(head_of(&trailed), 36)),
            answer: trailed,
            complete: ok_maybe_total(CONTENT, 36),
        },
        Exchange {
            name: "chunked 206",
            ask: range(5, 10),
            content_before: Box::new(at_most(head_of(&framed_part), 10)),
            answer: framed_part,
            complete: ok(&CONTENT[5..15], COMPLETE),
        },
    ]
}

/// One chunk, its size in capitals and with a leading zero.
fn chunk(data: &[u8]) -> Vec<u8> {
    [format!("0{:X}\r\n", data.len()).as_bytes(), data, b"\r\n"].concat()
}

fn cut_at_every_byte(end: &Step) {
    let mut rows = Vec::new();
    for exchange in exchanges() {
        for cut in 0..=exchange.answer.len() {
            let verdict = if cut == exchange.answer.len() {
                exchange.complete.clone()
            } else {
                broken((exchange.content_before)(cut))
            };
            let steps = [Step::Send(exchange.answer[..cut].to_vec()), end.clone()];
            let name = format!("{}, {end:?} after {cut}", exchange.name);
            rows.push(
                Row::new(name, Script::always(steps))
                    .ask(exchange.ask)
                    .fetch(verdict),
            );
        }
    }
    run(rows);
}

#[test]
fn answers_cut_by_fin() {
    cut_at_every_byte(&Step::Fin);
}

#[test]
fn answers_cut_by_rst() {
    cut_at_every_byte(&Step::Reset);
}

#[test]
fn answers_split() {
    let mut rows = Vec::new();
    for exchange in exchanges() {
        for at in 1..exchange.answer.len() {
            let script = Script::always([Step::Split(exchange.answer.clone(), vec![at])]);
            let name = format!("{}, split at {at}", exchange.name);
            let row = Row::new(name, script).ask(exchange.ask);
            rows.push(row.fetch(exchange.complete.clone()));
        }
        let script = Script::always([Step::Drip(exchange.answer.clone(), 1)]);
        let row = Row::new(format!("{}, a byte at a time", exchange.name), script);
        rows.push(row.ask(exchange.ask).fetch(exchange.complete));
    }
    run(rows);
}

/// The second of two answers on one connection, cut at every byte; every further connection cuts
/// at the same place, so that replacing the connection does not hide it.
#[test]
fn the_second_answer_cut() {
    let part = response(
        "HTTP/1.1 206 Partial Content",
        &["Content-Range: bytes 5-14/36", "Content-Length: 10"],
        &CONTENT[5..15],
    );
    let head = part.len() - 10;
    let mut rows = Vec::new();
    for end in [Step::Fin, Step::Reset] {
        for cut in 0..=part.len() {
            let cut_off = vec![Step::Send(part[..cut].to_vec()), end.clone()];
            let first = vec![Step::Send(response(
                "HTTP/1.1 200 OK",
                &["Content-Length: 36"],
                CONTENT,
            ))];
            let script = Script::connections([
                Connection::answers([first, cut_off.clone()]),
                Connection::answers([cut_off]),
            ]);
            let verdict = if cut == part.len() {
                ok(&CONTENT[5..15], COMPLETE)
            } else {
                broken(cut.saturating_sub(head))
            };
            rows.push(
                Sequence::new(format!("{end:?} after {cut}"), script)
                    .then(Call::FetchRange(WHOLE), ok_whole())
                    .then(Call::FetchToWriter(range(5, 10)), verdict),
            );
        }
    }
    run_sequences(rows);
}

/// The connection ends while the request is on its way: no answer, and no success.
#[test]
fn requests_cut() {
    let mut rows = Vec::new();
    for end in [Step::Fin, Step::Reset] {
        for received in 0..110 {
            let steps = [Step::Receive(received), end.clone()];
            let script = Script::connections([Connection::answers([]).greeting(steps)]);
            let name = format!("{end:?} after {received} bytes of the request");
            rows.push(Row::new(name, script).fetch(broken(0)).length(broken(0)));
        }
    }
    run(rows);
}

/// An answer that is complete before the request was read: the bytes are right, and so is `Ok`.
#[test]
fn answers_ahead_of_the_request() {
    let whole = response("HTTP/1.1 200 OK", &["Content-Length: 36"], CONTENT);
    let mut rows = Vec::new();
    for received in [0, 1, 10, 50] {
        let steps = [
            Step::Receive(received),
            Step::Send(whole.clone()),
            Step::Fin,
        ];
        let script = Script::connections([Connection::answers([]).greeting(steps)]);
        rows.push(
            Row::new(format!("after {received} bytes of the request"), script)
                .fetch(ok_whole().or(broken(36))),
        );
    }
    run(rows);
}
