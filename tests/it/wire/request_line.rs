//! RFC 9112 §2.2, §2.3, §3: the request-line, the version, and how much of it is read.

use super::*;

#[test]
fn versions() {
    let line = |version: &str| with_line(&format!("GET /track/letters {version}"));
    let mut rows = vec![
        stays("1.1", line("HTTP/1.1"), letters()),
        // §2.3: a higher minor version is the same protocol.
        stays("1.2", line("HTTP/1.2"), letters()),
        stays("1.9", line("HTTP/1.9"), letters()),
        ends("1.0", line("HTTP/1.0"), letters()),
        ends("2.0", line("HTTP/2.0"), answer(505)),
        ends("2.1", line("HTTP/2.1"), answer(505)),
        ends("3.0", line("HTTP/3.0"), answer(505)),
        ends("9.9", line("HTTP/9.9"), answer(505)),
        ends("0.9", line("HTTP/0.9"), answer_in(&[400, 505])),
        ends("0.0", line("HTTP/0.0"), answer_in(&[400, 505])),
        ends(
            "preface of HTTP/2",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
            answer(505),
        ),
        ends(
            "2.0 without token",
            head(&["GET /track/letters HTTP/2.0", HOST]),
            answer(505),
        ),
    ];
    for version in [
        "HTTP/1.10",
        "HTTP/11.1",
        "HTTP/01.1",
        "HTTP/1.01",
        "HTTP/1,1",
        "HTTP/11",
        "HTTP/1.",
        "HTTP/.1",
        "HTTP/1",
        "HTTP/",
        "HTTP",
        "HTTP/1.1.",
        "HTTP/1.1x",
        "HTTP/1.x",
        "HTTP/x.1",
        "HTTP/ 1.1",
        "HTTP /1.1",
        "HTTP/1 .1",
        "HTTP/-1.1",
        "HTTP/1.-1",
        "HTTP/+1.1",
        "http/1.1",
        "Http/1.1",
        "HTTPS/1.1",
        "HTTQ/1.1",
        "XHTTP/1.1",
        "ICY/1.1",
        "/1.1",
        "1.1",
        "HTTP/1\u{b7}1",
        "HTTP/\u{661}.1",
        "HTTP/1.1,",
        "HTTP//1.1",
        "HTTP\\1.1",
    ] {
        rows.push(refused(format!("version {version:?}"), line(version)));
    }
    run_table(&rows);
}

#[test]
fn white_space_and_shape() {
    let mut rows = Vec::new();
    for (name, line) in [
        ("no version", "GET /track/letters"),
        ("no version, space", "GET /track/letters "),
        ("method alone", "GET"),
        ("method and space", "GET "),
        ("no target", "GET HTTP/1.1"),
        ("empty target", "GET  HTTP/1.1"),
        (
            "two spaces after the method",
            "GET  /track/letters HTTP/1.1",
        ),
        (
            "two spaces before the version",
            "GET /track/letters  HTTP/1.1",
        ),
        ("space behind", "GET /track/letters HTTP/1.1 "),
        ("tab behind", "GET /track/letters HTTP/1.1\t"),
        ("space in front", " GET /track/letters HTTP/1.1"),
        ("tab in front", "\tGET /track/letters HTTP/1.1"),
        ("tab after the method", "GET\t/track/letters HTTP/1.1"),
        ("tab before the version", "GET /track/letters\tHTTP/1.1"),
        ("space in the target", "GET /track/let ters HTTP/1.1"),
        ("four words", "GET /track/letters x HTTP/1.1"),
        ("version twice", "GET /track/letters HTTP/1.1 HTTP/1.1"),
        ("vertical tab", "GET\u{b}/track/letters HTTP/1.1"),
        ("form feed", "GET\u{c}/track/letters HTTP/1.1"),
        ("no-break space", "GET\u{a0}/track/letters HTTP/1.1"),
        ("a response", "HTTP/1.1 200 OK"),
        ("a field line", "Host: peer.test"),
        ("no method", " /track/letters HTTP/1.1"),
        ("quoted", "\"GET\" /track/letters HTTP/1.1"),
    ] {
        rows.push(refused(name, with_line(line)));
    }
    for (name, bytes) in [
        (
            "bare LF after the request-line",
            &b"GET /track/letters HTTP/1.1\nHost: peer.test\r\n\
         Authorization: Bearer secret\r\n\r\n"[..],
        ),
        (
            "bare LF everywhere",
            b"GET /track/letters HTTP/1.1\nHost: peer.test\n\
         Authorization: Bearer secret\n\n",
        ),
        (
            "bare CR after the request-line",
            b"GET /track/letters HTTP/1.1\rHost: peer.test\r\n\
         Authorization: Bearer secret\r\n\r\n",
        ),
        (
            "CR CR LF",
            b"GET /track/letters HTTP/1.1\r\r\nHost: peer.test\r\n\
         Authorization: Bearer secret\r\n\r\n",
        ),
        (
            "LF CR",
            b"GET /track/letters HTTP/1.1\n\rHost: peer.test\r\n\
         Authorization: Bearer secret\r\n\r\n",
        ),
        (
            "bare CR inside",
            b"GET /track/letters\r HTTP/1.1\r\nHost: peer.test\r\n\
         Authorization: Bearer secret\r\n\r\n",
        ),
        ("HTTP/0.9", b"GET /track/letters\r\n\r\n"),
        (
            "garbage",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS hello\r\n\r\n",
        ),
        ("an SSH banner", b"SSH-2.0-OpenSSH_9.9\r\n\r\n"),
        ("a colon first", b":\r\n\r\n"),
        ("NUL bytes", b"\0\0\0\0\r\n\r\n"),
    ] {
        rows.push(refused(name, bytes.to_vec()));
    }
    run_table(&rows);
}

#[test]
fn every_control_and_high_byte() {
    let mut rows = Vec::new();
    for b in (0..=0x20).chain(0x7f..=0xff_u8) {
        // A CR or LF ends the line: those rows are above.
        if b == b'\r' || b == b'\n' {
            continue;
        }
        let target = [&b"GET /track/let"[..], &[b], b"ters HTTP/1.1"].concat();
        let name = format!("target with {b:#04x}");
        // A high byte is no part of a URI, and no doubt about where the message ends either.
        let then = if b >= 0x80 { Then::Either } else { Then::Ends };
        rows.push(Row::new(
            name,
            with_line_bytes(&target),
            vec![answer(400)],
            then,
        ));
        let method = [&b"GE"[..], &[b], b"T /track/letters HTTP/1.1"].concat();
        rows.push(refused(
            format!("method with {b:#04x}"),
            with_line_bytes(&method),
        ));
    }
    run_table(&rows);
}

#[test]
fn every_delimiter_in_the_method() {
    // RFC 9110 §9.1: a method is a token; what is one is unknown (501), what is not is malformed.
    let rows: Vec<Row> = (0x21..0x7f_u8)
        .map(|b| {
            let line = [&b"GE"[..], &[b], b"T /track/letters HTTP/1.1"].concat();
            let name = format!("method GE{}T", b as char);
            if is_tchar(b) {
                either(name, with_line_bytes(&line), answer(501))
            } else {
                refused(name, with_line_bytes(&line))
            }
        })
        .collect();
    run_table(&rows);
}

#[test]
fn empty_lines_before_the_request_line() {
    // §2.2: a server SHOULD ignore at least one empty line received prior to the request-line.
    let after = |prefix: &[u8]| joined(&[prefix, &get("letters", &[])]);
    run_table(&[
        stays("one", after(b"\r\n"), letters()),
        stays("two", after(b"\r\n\r\n"), letters()),
        stays("three", after(b"\r\n\r\n\r\n"), letters()),
        Row::new(
            "between requests",
            joined(&[
                &get("letters", &[]),
                b"\r\n",
                &get("letters", &["Range: bytes=1-1"]),
                b"\r\n",
            ]),
            vec![letters(), part(1, 1)],
            Then::Stays,
        ),
        refused("a bare LF", after(b"\n")),
        refused("a bare CR", after(b"\r")),
        refused("a space and CRLF", after(b" \r\n")),
        // Endless empty lines are no way to hold a connection.
        ends(
            "16 KiB of them",
            b"\r\n".repeat(8193),
            answer_in(&[400, 414, 431]),
        )
        .or_nothing(),
        Row::new("one, and the end", b"\r\n".to_vec(), Vec::new(), Then::Ends).half_closed(),
    ]);
}

#[test]
fn length_of_the_request_line() {
    // §3: at least 8000 octets SHOULD be supported; beyond the limit, 414.
    let line = |len: usize| {
        let frame = "GET /track/letters? HTTP/1.1".len();
        format!("GET /track/letters?{} HTTP/1.1", "q".repeat(len - frame))
    };
    let long_handle = |len: usize| format!("GET /track/{} HTTP/1.1", "h".repeat(len));
    run_table(&[
        stays("8000", with_line(&line(8000)), letters()),
        // The limit counts the CRLF.
        stays("8190", with_line(&line(8190)), letters()),
        ends("8191", with_line(&line(8191)), answer(414)),
        ends("8193", with_line(&line(8193)), answer(414)),
        ends("8300", with_line(&line(8300)), answer(414)),
        ends("16384", with_line(&line(16384)), answer(414)),
        ends("100000", with_line(&line(100_000)), answer(414)),
        ends("900000", with_line(&line(900_000)), answer(414)),
        stays("a long handle", with_line(&long_handle(8000)), answer(404)),
        ends(
            "a longer handle",
            with_line(&long_handle(8192)),
            answer(414),
        ),
        ends("without a token", head(&[&line(9000), HOST]), answer(414)),
        // The refusal does not wait for a CRLF that need never come.
        ends("unended", line(9000).into_bytes(), answer(414)),
        ends(
            "a method without end",
            vec![b'M'; 20_000],
            answer_in(&[400, 414, 501]),
        ),
        ends(
            "HTTP/1.0",
            with_line(&line(9000).replace("HTTP/1.1", "HTTP/1.0")),
            answer(414),
        ),
    ]);
}

#[test]
fn unfinished_heads_that_end() {
    // The peer ends its half inside a head: no request was made. An explanation may come.
    let whole = get("letters", &["Range: bytes=0-4"]);
    let rows: Vec<Row> = (0..whole.len())
        .map(|n| {
            let row = ends(
                format!("the first {n} bytes"),
                whole[..n].to_vec(),
                answer(400),
            );
            row.half_closed().or_nothing()
        })
        .collect();
    run_table(&rows);
}
