//! The status-line, and what each status means to a fetch (RFC 9110 §15, RFC 9112 §4).

use peer_tests::script::{Script, Step, chunked, response};

use super::table::{
    CONTENT, Row, Verdict, any_error, broken, known, not_found, ok_whole, refused, run, status,
    unauthorized,
};

/// The whole content behind this status-line.
fn answer(status_line: &[u8]) -> Vec<u8> {
    let mut bytes = status_line.to_vec();
    bytes.extend(response("", &["Content-Length: 36"], CONTENT));
    bytes
}

/// The verdict on a status other than 200 and 206.
fn verdict(code: u16) -> Verdict {
    match code {
        401 => unauthorized(),
        404 => not_found(),
        // No content by definition, or not a final status: whichever error, never content.
        204 | 205 | 304 => any_error(),
        code => status(code),
    }
}

#[test]
fn status_lines() {
    let lines: &[(&str, &[u8], Verdict, Verdict)] = &[
        ("200 OK", b"HTTP/1.1 200 OK", ok_whole(), known(36)),
        (
            "another reason",
            b"HTTP/1.1 200 Very Well",
            ok_whole(),
            known(36),
        ),
        ("an empty reason", b"HTTP/1.1 200 ", ok_whole(), known(36)),
        (
            "a reason of digits",
            b"HTTP/1.1 200 404",
            ok_whole(),
            known(36),
        ),
        (
            "a tab in the reason",
            b"HTTP/1.1 200 O\tK",
            ok_whole(),
            known(36),
        ),
        (
            "obs-text in the reason",
            b"HTTP/1.1 200 \xc3\xa4\xff",
            ok_whole(),
            known(36),
        ),
        ("HTTP/1.0", b"HTTP/1.0 200 OK", ok_whole(), known(36)),
        ("HTTP/1.2", b"HTTP/1.2 200 OK", ok_whole(), known(36)),
        ("HTTP/1.9", b"HTTP/1.9 200 OK", ok_whole(), known(36)),
        // The space before an empty reason is required, and often forgotten.
        (
            "no space after the code",
            b"HTTP/1.1 200",
            ok_whole().or(refused()),
            known(36).or(refused()),
        ),
        // Recipients may parse on any white space (RFC 9112 §4).
        (
            "two spaces before the code",
            b"HTTP/1.1  200 OK",
            ok_whole().or(refused()),
            known(36).or(refused()),
        ),
        (
            "a tab before the code",
            b"HTTP/1.1\t200 OK",
            ok_whole().or(refused()),
            known(36).or(refused()),
        ),
        // Nobody reads the reason; control bytes in it may pass or not.
        (
            "a control byte in the reason",
            b"HTTP/1.1 200 O\x01K",
            ok_whole().or(refused()),
            known(36).or(refused()),
        ),
        // Servers once sent an empty line too much (RFC 9112 §2.2 allows for it in requests).
        (
            "an empty line before",
            b"\r\nHTTP/1.1 200 OK",
            ok_whole().or(refused()),
            known(36).or(refused()),
        ),
    ];
    let refused_lines: &[(&str, &[u8])] = &[
        ("HTTP/2.0", b"HTTP/2.0 200 OK"),
        ("HTTP/2", b"HTTP/2 200 OK"),
        ("HTTP/3.1", b"HTTP/3.1 200 OK"),
        ("HTTP/0.9", b"HTTP/0.9 200 OK"),
        ("HTTP/1.10", b"HTTP/1.10 200 OK"),
        ("HTTP/01.1", b"HTTP/01.1 200 OK"),
        ("HTTP/1", b"HTTP/1 200 OK"),
        ("HTTP/1.", b"HTTP/1. 200 OK"),
        ("HTTP/.1", b"HTTP/.1 200 OK"),
        ("HTTP/1.x", b"HTTP/1.x 200 OK"),
        ("HTTP/1,1", b"HTTP/1,1 200 OK"),
        ("HTTP 1.1", b"HTTP 1.1 200 OK"),
        ("the name in lower case", b"http/1.1 200 OK"),
        ("the name in mixed case", b"Http/1.1 200 OK"),
        ("ICY", b"ICY 200 OK"),
        ("SIP/2.0", b"SIP/2.0 200 OK"),
        ("RTSP/1.0", b"RTSP/1.0 200 OK"),
        ("a request-line", b"GET / HTTP/1.1"),
        ("nothing but the version", b"HTTP/1.1"),
        ("a space before the version", b" HTTP/1.1 200 OK"),
        ("no version", b"200 OK"),
        ("no space after the version", b"HTTP/1.1200 OK"),
        ("one digit", b"HTTP/1.1 2 OK"),
        ("two digits", b"HTTP/1.1 20 OK"),
        ("four digits", b"HTTP/1.1 2000 OK"),
        ("a code that wraps to 200 in 16 bits", b"HTTP/1.1 65736 OK"),
        ("a letter in the code", b"HTTP/1.1 2O0 OK"),
        ("a signed code", b"HTTP/1.1 +200 OK"),
        ("a negative code", b"HTTP/1.1 -20 OK"),
        ("a hexadecimal code", b"HTTP/1.1 0xC8 OK"),
        ("a fraction", b"HTTP/1.1 200.1 OK"),
        ("no space before the reason", b"HTTP/1.1 200OK"),
        ("digits of another script", "HTTP/1.1 ２００ OK".as_bytes()),
        ("NUL in the reason", b"HTTP/1.1 200 O\0K"),
        ("bare CR in the reason", b"HTTP/1.1 200 O\rK"),
        ("bare LF in the reason", b"HTTP/1.1 200 O\nK: v"),
        ("NUL before the version", b"\0HTTP/1.1 200 OK"),
        ("a byte order mark", b"\xef\xbb\xbfHTTP/1.1 200 OK"),
        ("a TLS alert", b"\x15\x03\x01\x00\x02\x02\x46"),
        (
            "an HTTP/2 SETTINGS frame",
            b"\x00\x00\x00\x04\x00\x00\x00\x00\x00",
        ),
        ("the content alone", b"<html><body>It works!</body></html>"),
    ];
    let accepted = lines.iter().map(|(name, line, fetch, length)| {
        let script = Script::answer(answer(line));
        Row::new(*name, script)
            .fetch(fetch.clone())
            .length(length.clone())
    });
    let refused = refused_lines.iter().map(|(name, line)| {
        let script = Script::answer(answer(line));
        Row::new(*name, script).fetch(refused()).length(refused())
    });
    run(accepted.chain(refused).collect());
}

#[test]
fn every_status_with_content() {
    let codes = (201..=299).chain(300..=599).filter(|code| *code != 206);
    run(codes
        .map(|code| {
            let script = Script::answer(answer(format!("HTTP/1.1 {code} Reason").as_bytes()));
            // A client may ask once more, without Range, where 416 may stand for an empty source.
            Row::new(code.to_string(), script)
                .fetch(verdict(code))
                .length(verdict(code))
        })
        .collect());
}

#[test]
fn codes_out_of_range() {
    // RFC 9110 §15: such a code should count as a 5xx. Whatever it counts as, it is no success.
    let codes = ["000", "001", "099", "600", "666", "700", "999"];
    run(codes
        .iter()
        .map(|code| {
            let script = Script::answer(answer(format!("HTTP/1.1 {code} Odd").as_bytes()));
            Row::new(*code, script)
                .fetch(any_error())
                .length(any_error())
        })
        .collect());
}

#[test]
fn errors_in_every_framing() {
    let codes = [
        201u16, 301, 400, 401, 403, 404, 409, 410, 429, 500, 501, 503, 505,
    ];
    let mut rows = Vec::new();
    for code in codes {
        let line = format!("HTTP/1.1 {code} Reason");
        let row = |name: &str, steps: Vec<Step>| {
            Row::new(format!("{code} {name}"), Script::always(steps))
                .fetch(verdict(code))
                .length(verdict(code))
        };
        let no_content = response(&line, &["Content-Length: 0"], b"");
        let framed = response(&line, &["Transfer-Encoding: chunked"], &chunked(CONTENT, 7));
        let closed = response(&line, &[], CONTENT);
        let short = response(&line, &["Content-Length: 36"], &CONTENT[..10]);
        let silent = response(&line, &["Content-Length: 36"], b"");
        let bad_chunk = response(&line, &["Transfer-Encoding: chunked"], b"zz\r\n");
        let endless = response(&line, &["Transfer-Encoding: chunked"], b"");
        rows.extend([
            row("without content", vec![Step::Send(no_content)]),
            row("chunked", vec![Step::Send(framed)]),
            row("close-delimited", vec![Step::Send(closed), Step::Fin]),
            // The head decided: what follows it, or does not, changes nothing.
            row("cut short", vec![Step::Send(short.clone()), Step::Fin]),
            row("reset in its content", vec![Step::Send(short), Step::Reset]),
            row(
                "content that never comes",
                vec![Step::Send(silent), Step::Hold],
            ),
            row("with a bad chunk", vec![Step::Send(bad_chunk), Step::Fin]),
            row(
                "with endless content",
                vec![
                    Step::Send(endless),
                    Step::Endless(b"5\r\nhello\r\n".to_vec(), 64 << 20),
                ],
            )
            .inspect(|server| match server.capped() {
                true => Err("the client read the endless content of an error".to_owned()),
                false => Ok(()),
            }),
        ]);
    }
    run(rows);
}

#[test]
fn redirects_are_never_followed() {
    let mut rows = Vec::new();
    for code in [300u16, 301, 302, 303, 307, 308] {
        for location in [
            "/track/other",
            "http://127.0.0.1:1/track/song",
            "//evil/",
            "",
            "?x",
        ] {
            let line = format!("HTTP/1.1 {code} Elsewhere");
            let location_line = format!("Location: {location}");
            let script =
                Script::answer(response(&line, &[&location_line, "Content-Length: 0"], b""));
            let row = Row::new(format!("{code} to {location:?}"), script)
                .fetch(status(code))
                .length(status(code))
                .requests_at_most(1);
            rows.push(row);
        }
    }
    run(rows);
}

#[test]
fn no_answer_at_all() {
    let rows = vec![
        Row::new("FIN instead of an answer", Script::always([Step::Fin])),
        Row::new("RST instead of an answer", Script::always([Step::Reset])),
    ];
    run(rows
        .into_iter()
        .map(|row| row.fetch(broken(0)).length(broken(0)))
        .collect());
}
