//! Content delimited by the end of the connection (RFC 9112 §6.3, §8): it is complete when the
//! connection ended in order, and nothing in it can say otherwise.

use peer_tests::script::{Script, Step, response};

use crate::capability::{Capability, has};

use super::table::{
    COMPLETE, CONTENT, Row, WHOLE, broken, from, known, ok, ok_maybe_total, range, run, unknown,
};

fn fin(answer: Vec<u8>) -> Script {
    Script::always([Step::Send(answer), Step::Fin])
}

fn reset(answer: Vec<u8>) -> Script {
    Script::always([Step::Send(answer), Step::Reset])
}

#[test]
fn whole() {
    let heads: &[(&str, &str, &[&str])] = &[
        ("HTTP/1.1", "HTTP/1.1 200 OK", &[]),
        (
            "HTTP/1.1, Connection: close",
            "HTTP/1.1 200 OK",
            &["Connection: close"],
        ),
        (
            "HTTP/1.1, Connection: keep-alive",
            "HTTP/1.1 200 OK",
            &["Connection: keep-alive"],
        ),
        ("HTTP/1.0", "HTTP/1.0 200 OK", &[]),
        (
            "HTTP/1.0, Connection: keep-alive",
            "HTTP/1.0 200 OK",
            &["Connection: keep-alive"],
        ),
    ];
    let resets_show = has(&[Capability::ResetsShow]);
    let mut rows = Vec::new();
    for (name, line, fields) in heads {
        // The length was never said: what came is all that is known.
        rows.push(
            Row::new(*name, fin(response(line, fields, CONTENT)))
                .fetch(ok(CONTENT, None))
                .length(unknown()),
        );
        rows.push(
            Row::new(format!("{name}, nothing"), fin(response(line, fields, b"")))
                .fetch(ok(b"", None))
                .length(unknown()),
        );
        let answer = response(line, fields, CONTENT);
        let row = Row::new(format!("{name}, reset"), reset(answer)).length(unknown());
        rows.push(if resets_show {
            row.fetch(broken(36))
        } else {
            row
        });
    }
    let slow = Script::always([
        Step::Drip(response("HTTP/1.1 200 OK", &[], CONTENT), 1),
        Step::Fin,
    ]);
    rows.push(
        Row::new("a byte at a time", slow)
            .fetch(ok(CONTENT, None))
            .length(unknown()),
    );
    let never = Script::always([
        Step::Send(response("HTTP/1.1 200 OK", &[], b"")),
        Step::Hold,
    ]);
    rows.push(Row::new("content that never comes", never).length(unknown()));
    let endless = Script::always([
        Step::Send(response("HTTP/1.1 200 OK", &[], b"")),
        Step::Endless(b"endless".to_vec(), 64 << 20),
    ]);
    rows.push(
        Row::new("endless content", endless)
            .length(unknown())
            .inspect(|server| match server.capped() {
                true => Err("the client read all of it to learn a length".to_owned()),
                false => Ok(()),
            }),
    );
    run(rows);
}

#[test]
fn every_length() {
    let resets_show = has(&[Capability::ResetsShow]);
    let mut rows = Vec::new();
    for sent in 0..=CONTENT.len() {
        let answer = response("HTTP/1.1 200 OK", &[], &CONTENT[..sent]);
        rows.push(
            Row::new(format!("FIN after {sent} bytes"), fin(answer.clone()))
                .ask(WHOLE)
                .fetch(ok(&CONTENT[..sent], None)),
        );
        if resets_show {
            let row = Row::new(format!("RST after {sent} bytes"), reset(answer));
            rows.push(row.fetch(broken(sent)));
        }
    }
    run(rows);
}

#[test]
fn ranges() {
    let part = |said: &str, content: &[u8]| {
        let range = format!("Content-Range: bytes {said}");
        response(
            "HTTP/1.1 206 Partial Content",
            &[&range, "Connection: close"],
            content,
        )
    };
    let whole = |content: &[u8]| response("HTTP/1.1 200 OK", &["Connection: close"], content);
    let mut rows = vec![
        Row::new("206, all of it", fin(part("5-9/36", b"56789")))
            .ask(range(5, 5))
            .fetch(ok(b"56789", COMPLETE)),
        // The range is there; that the content goes on contradicts the Content-Range.
        Row::new("206, a byte more", fin(part("5-9/36", b"56789!")))
            .ask(range(5, 5))
            .fetch(ok(b"56789", COMPLETE).or(broken(5))),
        Row::new("206, open-ended", fin(part("5-35/36", &CONTENT[5..])))
            .ask(from(5))
            .fetch(ok(&CONTENT[5..], COMPLETE)),
        Row::new(
            "206, open-ended, complete length not said",
            fin(part("5-35/*", &CONTENT[5..])),
        )
        .ask(from(5))
        .fetch(ok(&CONTENT[5..], None)),
        Row::new("206 to content_length", fin(part("0-0/36", b"0"))).length(known(36)),
        Row::new("200 to a range from the start", fin(whole(CONTENT)))
            .ask(range(0, 5))
            .fetch(ok(&CONTENT[..5], None)),
        Row::new("200 to a range further on", fin(whole(CONTENT)))
            .ask(range(5, 5))
            .fetch(ok(b"56789", None).or(broken(0))),
        Row::new("200 to an open-ended range", fin(whole(CONTENT)))
            .ask(from(5))
            .fetch(ok_maybe_total(&CONTENT[5..], 36).or(broken(0))),
        // It ended in order before the range did: either that is the source's end, or it is short.
        Row::new("200, ends within the range", fin(whole(&CONTENT[..8])))
            .ask(range(5, 5))
            .fetch(ok_maybe_total(b"567", 8).or(broken(3))),
        Row::new("200, ends before the range", fin(whole(&CONTENT[..3])))
            .ask(range(5, 5))
            .fetch(broken(0).or(super::table::status(416))),
    ];
    for sent in 0..5 {
        for end in [Step::Fin, Step::Reset] {
            let answer = part("5-9/36", &CONTENT[5..5 + sent]);
            let name = format!("206, {end:?} after {sent} bytes");
            let script = Script::always([Step::Send(answer), end]);
            rows.push(Row::new(name, script).ask(range(5, 5)).fetch(broken(sent)));
        }
    }
    run(rows);
}
