//! Content delimited by `Content-Length` (RFC 9110 §8.6, RFC 9112 §6.3).

use peer_tests::script::{Script, Step, response};

use super::table::{
    COMPLETE, CONTENT, Row, Verdict, WHOLE, broken, known, ok, ok_whole, range, refused, run,
};

const OK: &str = "HTTP/1.1 200 OK";
const PARTIAL: &str = "HTTP/1.1 206 Partial Content";

#[test]
fn forms() {
    let read = || (ok_whole(), known(36));
    let no = || (refused(), refused());
    let either = || (ok_whole().or(refused()), known(36).or(refused()));
    let forms: Vec<(&str, &[&str], (Verdict, Verdict))> = vec![
        ("plain", &["Content-Length: 36"], read()),
        ("without white space", &["Content-Length:36"], read()),
        (
            "with white space around",
            &["Content-Length: \t 36\t "],
            read(),
        ),
        ("a leading zero", &["Content-Length: 036"], read()),
        ("five leading zeros", &["Content-Length: 0000036"], read()),
        ("a list of one value", &["Content-Length: 36, 36"], read()),
        (
            "a list without white space",
            &["Content-Length: 36,36"],
            read(),
        ),
        ("a list of three", &["Content-Length: 36, 36, 36"], read()),
        (
            "two lines of one value",
            &["Content-Length: 36", "Content-Length: 36"],
            read(),
        ),
        (
            "two lines apart",
            &["Content-Length: 36", "X-Odd: 1", "content-length: 36"],
            read(),
        ),
        (
            "40 leading zeros",
            &["Content-Length: 000000000000000000000000000000000000000036"],
            either(),
        ),
        // One value, written in two ways.
        (
            "two spellings of one value",
            &["Content-Length: 36, 036"],
            either(),
        ),
        // RFC 9110 §5.6.1: empty list elements are ignored, where a list is expected.
        ("an empty element first", &["Content-Length: ,36"], either()),
        ("an empty element last", &["Content-Length: 36,"], either()),
        ("two values", &["Content-Length: 36, 35"], no()),
        (
            "two values, the right one last",
            &["Content-Length: 35, 36"],
            no(),
        ),
        (
            "two lines of two values",
            &["Content-Length: 36", "Content-Length: 35"],
            no(),
        ),
        (
            "two lines, the right one last",
            &["Content-Length: 35", "Content-Length: 36"],
            no(),
        ),
        (
            "two lines, one of them empty",
            &["Content-Length: 36", "Content-Length:"],
            no(),
        ),
        ("a list with a word", &["Content-Length: 36, x"], no()),
        (
            "two values without a comma",
            &["Content-Length: 36 36"],
            no(),
        ),
        ("empty", &["Content-Length:"], no()),
        ("a lone comma", &["Content-Length: ,"], no()),
        ("a word", &["Content-Length: all"], no()),
        ("a plus sign", &["Content-Length: +36"], no()),
        ("a minus sign", &["Content-Length: -36"], no()),
        ("minus one", &["Content-Length: -1"], no()),
        ("hexadecimal", &["Content-Length: 0x24"], no()),
        ("hexadecimal digits", &["Content-Length: 36a"], no()),
        ("octal", &["Content-Length: 0o44"], no()),
        ("a fraction", &["Content-Length: 36.0"], no()),
        ("an exponent", &["Content-Length: 36e0"], no()),
        ("an underscore", &["Content-Length: 3_6"], no()),
        ("white space within", &["Content-Length: 3 6"], no()),
        ("a tab within", &["Content-Length: 3\t6"], no()),
        ("a parameter", &["Content-Length: 36;x=1"], no()),
        ("a unit", &["Content-Length: 36 bytes"], no()),
        ("quoted", &["Content-Length: \"36\""], no()),
        ("an asterisk", &["Content-Length: *"], no()),
        ("digits of another script", &["Content-Length: ٣٦"], no()),
        ("full-width digits", &["Content-Length: ３６"], no()),
        ("2^64", &["Content-Length: 18446744073709551616"], no()),
        (
            "2^64 + 36, which wraps to 36",
            &["Content-Length: 18446744073709551652"],
            no(),
        ),
        (
            "2^128 + 36",
            &["Content-Length: 340282366920938463463374607431768211492"],
            no(),
        ),
        (
            "thirty nines",
            &["Content-Length: 999999999999999999999999999999"],
            no(),
        ),
        (
            "a line with a space before the colon",
            &["Content-Length : 36"],
            no(),
        ),
    ];
    run(forms
        .into_iter()
        .map(|(name, fields, (fetch, length))| {
            Row::new(name, Script::answer(response(OK, fields, CONTENT)))
                .fetch(fetch)
                .length(length)
        })
        .collect());
}

#[test]
fn empty() {
    let none = response(OK, &["Content-Length: 0"], b"");
    let zeros = response(OK, &["Content-Length: 000"], b"");
    run(vec![
        Row::new("nothing", Script::answer(none.clone()))
            .fetch(ok(b"", Some(0)))
            .length(known(0)),
        Row::new("nothing, written thrice", Script::answer(zeros))
            .fetch(ok(b"", Some(0)))
            .length(known(0)),
        Row::new(
            "nothing, then the end",
            Script::always([Step::Send(none.clone()), Step::Fin]),
        )
        .fetch(ok(b"", Some(0)))
        .length(known(0)),
        // The source ends before the range does: all there is, is nothing.
        Row::new(
            "nothing of five bytes asked for",
            Script::answer(none.clone()),
        )
        .ask(range(0, 5))
        .fetch(ok(b"", Some(0))),
        // A range that begins beyond the end is not satisfiable, whatever the status says.
        Row::new("nothing of five bytes further on", Script::answer(none))
            .ask(range(5, 5))
            .fetch(broken(0).or(super::table::status(416))),
    ]);
}

#[test]
fn short() {
    let whole = response(OK, &["Content-Length: 36"], CONTENT);
    let part = response(
        PARTIAL,
        &["Content-Range: bytes 5-14/36", "Content-Length: 10"],
        b"",
    );
    let part = [&part[..], &CONTENT[5..15]].concat();
    let mut rows = Vec::new();
    for (name, ask, answer, size) in [
        ("200", WHOLE, &whole, CONTENT.len()),
        ("206", range(5, 10), &part, 10),
    ] {
        let head = answer.len() - size;
        for sent in 0..size {
            for end in [Step::Fin, Step::Reset] {
                let row = format!("a {name} of {size} bytes, {end:?} after {sent}");
                let script = Script::always([Step::Send(answer[..head + sent].to_vec()), end]);
                rows.push(Row::new(row, script).ask(ask).fetch(broken(sent)));
            }
        }
        for end in [Step::Fin, Step::Reset] {
            let row = format!("a {name} of {size} bytes, {end:?} after all of them");
            let right = &answer[head..];
            let script = Script::always([Step::Send(answer.clone()), end]);
            rows.push(Row::new(row, script).ask(ask).fetch(ok(right, COMPLETE)));
        }
    }
    run(rows);
}

#[test]
fn longer() {
    // RFC 9112 §6.3: what follows the declared length is no part of the message. The range asked
    // for is whole, and a client may also distrust it; the surplus is never handed over.
    let surplus: &[(&str, &[u8])] = &[
        ("a byte", b"!"),
        ("CRLF", b"\r\n"),
        ("text", b"surplus"),
        (
            "a response",
            b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nFORGED",
        ),
        ("100 KiB", &[b'!'; 100 << 10]),
    ];
    let mut rows = Vec::new();
    for (name, surplus) in surplus {
        let whole = response(OK, &["Content-Length: 36"], &[CONTENT, *surplus].concat());
        let fields = ["Content-Range: bytes 5-9/36", "Content-Length: 5"];
        let part = response(PARTIAL, &fields, &[b"56789", *surplus].concat());
        for (end_name, end) in [("", vec![]), (", then FIN", vec![Step::Fin])] {
            let with_end = |answer: &[u8]| {
                Script::always([Step::Send(answer.to_vec())].into_iter().chain(end.clone()))
            };
            rows.push(
                Row::new(format!("200 and {name}{end_name}"), with_end(&whole))
                    .fetch(ok_whole().or(broken(36))),
            );
            rows.push(
                Row::new(format!("206 and {name}{end_name}"), with_end(&part))
                    .ask(range(5, 5))
                    .fetch(ok(b"56789", COMPLETE).or(broken(5))),
            );
        }
    }
    run(rows);
}

#[test]
fn pieces() {
    let whole = response(OK, &["Content-Length: 36"], CONTENT);
    let part = response(
        PARTIAL,
        &["Content-Range: bytes 5-9/36", "Content-Length: 5"],
        b"56789",
    );
    run(vec![
        Row::new(
            "200, a byte at a time",
            Script::always([Step::Drip(whole.clone(), 1)]),
        )
        .fetch(ok_whole())
        .length(known(36)),
        Row::new(
            "200, seven bytes at a time",
            Script::always([Step::Drip(whole.clone(), 7)]),
        )
        .fetch(ok_whole())
        .length(known(36)),
        Row::new(
            "206, a byte at a time",
            Script::always([Step::Drip(part, 1)]),
        )
        .ask(range(5, 5))
        .fetch(ok(b"56789", COMPLETE)),
        Row::new(
            "200, then FIN",
            Script::always([Step::Send(whole), Step::Fin]),
        )
        .fetch(ok_whole())
        .length(known(36)),
    ]);
}
