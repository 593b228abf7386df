//! Answers, byte by byte, and the verdict on each.

use super::*;
use FetchError as E;
use peer_proto::limits::HEAD_BYTES_MAX;

const WHOLE: Want = content(0, None);
const BYTES: &[u8] = b"0123456789";

const fn content(start: u64, len: Option<u64>) -> Want {
    Want::Content { start, len }
}

fn token() -> Token {
    Token::new("secret").unwrap()
}

fn tag(opaque: &str) -> EntityTag {
    EntityTag::strong(opaque).unwrap()
}

struct Asking {
    want: Want,
    without_range: bool,
    version: Option<Version>,
}

impl From<Want> for Asking {
    fn from(want: Want) -> Self {
        Self {
            want,
            without_range: false,
            version: None,
        }
    }
}

impl Asking {
    fn fetch(&self, timeouts: FetchTimeouts, now: Instant) -> Fetch {
        Fetch::new(
            &FetchRequest {
                host: "host:1",
                token: &token(),
                handle: "a b",
                want: self.want,
                without_range: self.without_range,
                version: self.version,
            },
            timeouts,
            now,
        )
    }
}

/// What came of an exchange: the verdict, the content handed over, and how many bytes of the
/// answer were read.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    end: Result<FetchDone, E>,
    content: Vec<u8>,
}

/// Plays `answer`, then the end of the connection, to a fetch, `step` bytes at a time.
fn play(asking: &Asking, answer: &[u8], step: usize) -> Outcome {
    let now = Instant::now();
    let mut fetch = asking.fetch(FetchTimeouts::default(), now);
    let mut got = Vec::new();
    let mut rest = answer;
    // Each byte is sent or received, and handed over, and there are a few steps besides.
    let mut steps = 0..2 * (fetch.request.len() + answer.len()) + 100;
    let end = loop {
        assert!(
            steps.next().is_some(),
            "no end of {}",
            answer.escape_ascii()
        );
        assert_eq!(fetch.poll_output(), fetch.poll_output(), "polling is pure");
        match fetch.poll_output() {
            FetchOutput::Send { bytes } => {
                let n = bytes.len().min(step);
                fetch.handle_sent(now, n);
            }
            FetchOutput::Content { bytes } => {
                let n = bytes.len().min(step);
                got.extend_from_slice(&bytes[..n]);
                fetch.handle_content(now, n as u64);
            }
            FetchOutput::Done(done) => break Ok(done),
            FetchOutput::Failed(error) => break Err(error),
            _ if rest.is_empty() => fetch.handle_eof(now),
            FetchOutput::Receive => {
                let buffer = fetch.receive_buffer();
                let n = rest.len().min(step).min(buffer.len());
                assert!(n > 0, "nowhere to receive to");
                buffer[..n].copy_from_slice(&rest[..n]);
                rest = &rest[n..];
                fetch.handle_received(now, n);
            }
            FetchOutput::ReceiveContent { max } => {
                let n = at_most(rest.len().min(step), max);
                got.extend_from_slice(&rest[..n]);
                rest = &rest[n..];
                fetch.handle_content(now, n as u64);
            }
            FetchOutput::ReceiveSkipped { max } => {
                let n = at_most(rest.len().min(step), max);
                rest = &rest[n..];
                fetch.handle_content(now, n as u64);
            }
        }
    };
    assert_eq!(fetch.received(), got.len() as u64);
    assert_eq!(fetch.progressed(), (!got.is_empty()).then_some(now));
    Outcome { end, content: got }
}

/// The same at every way to split the answer; all have to agree.
fn outcome(asking: impl Into<Asking>, answer: &[u8]) -> Outcome {
    let asking = asking.into();
    let outcome = play(&asking, answer, usize::MAX);
    for step in [1, 2, 3, 7, 100] {
        let split = play(&asking, answer, step);
        let forget_reuse = |outcome: &Outcome| {
            let end = outcome.end.map(|done| FetchDone {
                // What follows an answer is seen only when it comes along with it.
                reusable: false,
                ..done
            });
            (end, outcome.content.clone())
        };
        assert_eq!(
            forget_reuse(&split),
            forget_reuse(&outcome),
            "by {step}: {}",
            answer.escape_ascii()
        );
    }
    outcome
}

fn head(status: u16, fields: &str) -> String {
    let mut head = format!("HTTP/1.1 {status} Any\r\n");
    for field in fields.split('|').filter(|field| !field.is_empty()) {
        head.push_str(field);
        head.push_str("\r\n");
    }
    head + "\r\n"
}

/// Fields are separated by `|`.
fn answered(asking: impl Into<Asking>, status: u16, fields: &str, body: &str) -> Outcome {
    outcome(asking, (head(status, fields) + body).as_bytes())
}

#[track_caller]
fn good(outcome: &Outcome, content: &[u8], complete_length: Option<u64>) -> FetchDone {
    assert_eq!(
        outcome.content.escape_ascii().to_string(),
        content.escape_ascii().to_string()
    );
    let done = outcome.end.expect("should be good");
    assert_eq!(done.received, content.len() as u64);
    assert_eq!(done.complete_length, complete_length);
    done
}

#[track_caller]
fn bad(outcome: &Outcome, error: E) {
    assert_eq!(outcome.end, Err(error));
}

#[test]
fn requests() {
    let now = Instant::now();
    let sent = |asking: &Asking| match asking.fetch(FetchTimeouts::default(), now).poll_output() {
        FetchOutput::Send { bytes } => String::from_utf8(bytes.to_vec()).unwrap(),
        other => panic!("{other:?}"),
    };
    for (want, range) in [
        (WHOLE, None),
        (content(0, Some(1)), Some("bytes=0-0")),
        (content(5, None), Some("bytes=5-")),
        (content(5, Some(5)), Some("bytes=5-9")),
        (
            content(u64::MAX, Some(9)),
            Some("bytes=18446744073709551615-18446744073709551615"),
        ),
        (
            content(1, Some(u64::MAX)),
            Some("bytes=1-18446744073709551615"),
        ),
        (Want::Length, Some("bytes=0-0")),
    ] {
        let request = sent(&want.into());
        assert!(
            request.starts_with("GET /track/a%20b HTTP/1.1\r\nHost: host:1\r\n"),
            "{request}"
        );
        let found = request
            .lines()
            .find_map(|line| line.strip_prefix("Range: "));
        assert_eq!(found, range, "{want:?}");
        assert!(!request.contains("If-Range"));
    }
    let without = Asking {
        without_range: true,
        ..content(0, Some(5)).into()
    };
    assert!(!sent(&without).contains("Range"));
    let resumed = Asking {
        version: Some(Version {
            entity_tag: Some(tag("v")),
            ..Version::default()
        }),
        ..content(5, None).into()
    };
    assert!(sent(&resumed).contains("\r\nIf-Range: \"v\"\r\n"));
}

#[test]
fn whole() {
    let out = answered(WHOLE, 200, "Content-Length: 10|ETag: \"v\"", "0123456789");
    assert!(good(&out, BYTES, Some(10)).reusable);
    let out = answered(WHOLE, 200, "Content-Length: 0", "");
    assert!(good(&out, b"", Some(0)).reusable);
    let out = answered(
        WHOLE,
        200,
        "Content-Length: 10|Connection: Close",
        "0123456789",
    );
    assert!(!good(&out, BYTES, Some(10)).reusable);
    let out = answered(WHOLE, 200, "", "0123456789");
    assert!(!good(&out, BYTES, None).reusable);
    // More than was declared is not ours, and spoils the connection.
    let out = answered(WHOLE, 200, "Content-Length: 9", "0123456789");
    assert!(!good(&out, b"012345678", Some(9)).reusable);
    let out = outcome(
        WHOLE,
        b"HTTP/1.0 200 OK\r\nContent-Length: 10\r\n\r\n0123456789",
    );
    assert!(!good(&out, BYTES, Some(10)).reusable);
    let out = outcome(
        WHOLE,
        b"HTTP/1.0 200 OK\r\nContent-Length: 10\r\nConnection: keep-alive\r\n\r\n0123456789",
    );
    assert!(good(&out, BYTES, Some(10)).reusable);
}

#[test]
fn chunked() {
    let chunked = "Transfer-Encoding: chunked";
    let out = answered(
        WHOLE,
        200,
        chunked,
        "3;x=y\r\n012\r\n7\r\n3456789\r\n0\r\nA: b\r\n\r\n",
    );
    assert!(good(&out, BYTES, None).reusable);
    let out = answered(WHOLE, 200, chunked, "0\r\n\r\n");
    assert!(good(&out, b"", None).reusable, "nothing is a whole, too");
    for (body, received) in [
        ("", 0),
        ("3\r\n01", 2),
        ("3\r\n012", 3),
        ("3\r\n012\r\n", 3),
        ("3\r\n012\r\n0\r\n", 3),
    ] {
        let expected = None;
        bad(
            &answered(WHOLE, 200, chunked, body),
            E::Truncated { expected, received },
        );
    }
    let out = answered(WHOLE, 200, chunked, "3\r\n012x");
    bad(&out, E::Chunk(ChunkError::LineEnd));
    assert_eq!(out.content, b"012");
    let part = "Transfer-Encoding: chunked|Content-Range: bytes 2-4/10";
    let asked = content(2, Some(3));
    let out = answered(asked, 206, part, "3\r\n234\r\n0\r\n\r\n");
    assert!(good(&out, b"234", Some(10)).reusable);
    bad(
        &answered(asked, 206, part, "2\r\n23\r\n0\r\n\r\n"),
        E::Truncated {
            expected: Some(3),
            received: 2,
        },
    );
    bad(
        &answered(asked, 206, part, "4\r\n2345\r\n0\r\n\r\n"),
        E::TooLong { declared: 3 },
    );
    bad(
        &answered(asked, 206, part, "3\r\n234\r\n1\r\n5\r\n0\r\n\r\n"),
        E::TooLong { declared: 3 },
    );
}

#[test]
fn truncated() {
    for received in 0..10 {
        let out = answered(WHOLE, 200, "Content-Length: 10", &"0123456789"[..received]);
        let received = received as u64;
        bad(
            &out,
            E::Truncated {
                expected: Some(10),
                received,
            },
        );
        assert_eq!(out.content.len() as u64, received);
    }
}

#[test]
fn every_cut_of_a_head() {
    let text = head(200, "Content-Length: 10");
    bad(&outcome(WHOLE, b""), E::NoAnswer);
    for end in 1..text.len() {
        bad(&outcome(WHOLE, &text.as_bytes()[..end]), E::HeadCut);
    }
}

#[test]
fn parts() {
    let asked = content(2, Some(3));
    let out = answered(
        asked,
        206,
        "Content-Length: 3|Content-Range: bytes 2-4/10",
        "234",
    );
    assert!(good(&out, b"234", Some(10)).reusable);
    let fields = "Content-Length: 3|Content-Type: audio/mpeg|Content-Range: bytes 2-4/10";
    good(&answered(asked, 206, fields, "234"), b"234", Some(10));
    let out = answered(
        asked,
        206,
        "Content-Length: 3|Content-Range: bytes 2-4/*",
        "234",
    );
    assert!(!good(&out, b"234", None).short);
    let out = answered(asked, 206, "Content-Range: bytes 2-4/10", "234");
    assert!(!good(&out, b"234", Some(10)).reusable);
    bad(
        &answered(asked, 206, "Content-Range: bytes 2-4/10", "2345"),
        E::TooLong { declared: 3 },
    );
    bad(
        &answered(asked, 206, "Content-Range: bytes 2-4/10", "23"),
        E::Truncated {
            expected: Some(3),
            received: 2,
        },
    );
    // Up to the end, where that is nearer.
    let out = answered(
        content(8, Some(5)),
        206,
        "Content-Length: 2|Content-Range: bytes 8-9/10",
        "89",
    );
    assert!(!good(&out, b"89", Some(10)).short);
    let out = answered(
        content(8, None),
        206,
        "Content-Length: 2|Content-Range: bytes 8-9/10",
        "89",
    );
    assert!(!good(&out, b"89", Some(10)).short);
    // Fewer than asked for, although there are more.
    for (len, range) in [
        (Some(3), "bytes 2-3/10"),
        (Some(3), "bytes 2-3/*"),
        (None, "bytes 2-3/10"),
    ] {
        let fields = format!("Content-Length: 2|Content-Range: {range}");
        let out = answered(content(2, len), 206, &fields, "23");
        assert!(out.end.unwrap().short, "{len:?} {range}");
    }
    let out = answered(
        content(2, None),
        206,
        "Content-Length: 2|Content-Range: bytes 2-3/*",
        "23",
    );
    assert!(!good(&out, b"23", None).short);
}

#[test]
fn parts_that_do_not_answer() {
    let asked = content(2, Some(3));
    for (fields, error) in [
        ("Content-Length: 3", E::ContentRange),
        (
            "Content-Length: 3|Content-Range: bytes 2-4",
            E::ContentRange,
        ),
        (
            "Content-Length: 3|Content-Range: bytes */10",
            E::ContentRange,
        ),
        (
            "Content-Length: 3|Content-Range: bytes 2-4/4",
            E::ContentRange,
        ),
        (
            "Content-Length: 3|Content-Range: bytes 2-4/10|Content-Range: bytes 2-4/10",
            E::ContentRange,
        ),
        (
            "Content-Length: 3|Content-Range: bytes 0-2/10",
            E::AnotherRange {
                first_pos: 0,
                last_pos: 2,
            },
        ),
        (
            "Content-Length: 3|Content-Range: bytes 3-5/10",
            E::AnotherRange {
                first_pos: 3,
                last_pos: 5,
            },
        ),
        (
            "Content-Length: 4|Content-Range: bytes 2-5/10",
            E::AnotherRange {
                first_pos: 2,
                last_pos: 5,
            },
        ),
        (
            "Content-Length: 4|Content-Range: bytes 2-4/10",
            E::LengthMismatch {
                content_length: 4,
                range_len: 3,
            },
        ),
        (
            "Content-Length: 3|Content-Type: Multipart/ByteRanges; boundary=x|Content-Range: bytes 2-4/10",
            E::Multipart,
        ),
        (
            "Content-Length: 3|Content-Range: bytes 2-4/10|Content-Encoding: gzip",
            E::ContentEncoding,
        ),
        (
            "Content-Length: 3|Content-Length: 4|Content-Range: bytes 2-4/10",
            E::Framing(FramingError::Length),
        ),
        (
            "Content-Length: 3|Transfer-Encoding: chunked|Content-Range: bytes 2-4/10",
            E::Framing(FramingError::LengthAndCoding),
        ),
    ] {
        let out = answered(asked, 206, fields, "2345");
        bad(&out, error);
        assert_eq!(out.content, b"", "{fields}");
    }
    let identity = "Content-Length: 3|Content-Range: bytes 2-4/10|Content-Encoding: Identity";
    good(&answered(asked, 206, identity, "234"), b"234", Some(10));
}

#[test]
fn parts_nobody_asked_for() {
    let whole = "Content-Length: 10|Content-Range: bytes 0-9/10";
    let out = answered(WHOLE, 206, whole, "0123456789");
    assert!(good(&out, BYTES, Some(10)).reusable);
    for fields in [
        "Content-Length: 9|Content-Range: bytes 0-8/10",
        "Content-Length: 9|Content-Range: bytes 1-9/10",
        "Content-Length: 10|Content-Range: bytes 0-9/*",
    ] {
        let out = answered(WHOLE, 206, fields, "0123456789");
        assert!(matches!(out.end, Err(E::AnotherRange { .. })), "{fields}");
    }
    let first = Asking {
        without_range: true,
        ..content(0, Some(4)).into()
    };
    let out = answered(first, 206, whole, "0123456789");
    assert!(!good(&out, b"0123", Some(10)).reusable);
}

#[test]
fn whole_in_place_of_a_range() {
    let length = "Content-Length: 10";
    for (start, len, expected) in [
        (0, Some(4), "0123"),
        (0, Some(10), "0123456789"),
        (0, Some(11), "0123456789"),
        (3, None, "3456789"),
        (3, Some(2), "34"),
        (9, Some(5), "9"),
    ] {
        let asked = content(start, len);
        let out = answered(asked, 200, length, "0123456789");
        let done = good(&out, expected.as_bytes(), Some(10));
        let to_end = start + expected.len() as u64 == 10;
        assert_eq!(done.reusable, to_end, "{start} {len:?}");
        let chunks = "4\r\n0123\r\n6\r\n456789\r\n0\r\n\r\n";
        let out = answered(asked, 200, "Transfer-Encoding: chunked", chunks);
        good(&out, expected.as_bytes(), None);
        let out = answered(asked, 200, "", "0123456789");
        good(&out, expected.as_bytes(), None);
    }
    bad(
        &answered(content(3, None), 200, length, "012345"),
        E::Truncated {
            expected: Some(7),
            received: 3,
        },
    );
    bad(
        &answered(content(3, None), 200, length, "01"),
        E::Truncated {
            expected: Some(7),
            received: 0,
        },
    );
    for start in [10, 11] {
        let asked = content(start, None);
        bad(
            &answered(asked, 200, length, "0123456789"),
            E::RangeNotSatisfiable {
                complete_length: Some(10),
            },
        );
        let chunks = "a\r\n0123456789\r\n0\r\n\r\n";
        bad(
            &answered(asked, 200, "Transfer-Encoding: chunked", chunks),
            E::RangeNotSatisfiable {
                complete_length: None,
            },
        );
        bad(
            &answered(asked, 200, "", "0123456789"),
            E::Truncated {
                expected: None,
                received: 0,
            },
        );
    }
}

#[test]
fn lengths() {
    let part = "Content-Length: 1|Content-Range: bytes 0-0/10";
    let out = answered(Want::Length, 206, part, "0");
    assert!(good(&out, b"", Some(10)).reusable);
    let part = "Content-Length: 1|Content-Range: bytes 0-0/*";
    good(&answered(Want::Length, 206, part, "0"), b"", None);
    let chunks = "Transfer-Encoding: chunked|Content-Range: bytes 0-0/10";
    let out = answered(Want::Length, 206, chunks, "1\r\n0\r\n0\r\n\r\n");
    assert!(good(&out, b"", Some(10)).reusable);
    bad(
        &answered(Want::Length, 206, chunks, "1\r\n0"),
        E::Truncated {
            expected: Some(0),
            received: 0,
        },
    );
    let other = "Content-Length: 2|Content-Range: bytes 0-1/10";
    assert!(answered(Want::Length, 206, other, "01").end.is_err());
    // The rest of a whole is not read.
    let out = answered(Want::Length, 200, "Content-Length: 10", "");
    assert!(!good(&out, b"", Some(10)).reusable);
    let out = answered(Want::Length, 200, "Content-Length: 0", "");
    assert!(good(&out, b"", Some(0)).reusable);
    good(
        &answered(Want::Length, 200, "Transfer-Encoding: chunked", ""),
        b"",
        None,
    );
    good(&answered(Want::Length, 200, "", ""), b"", None);
}

#[test]
fn unsatisfiable() {
    let empty = "Content-Length: 0|Content-Range: bytes */0";
    for want in [Want::Length, content(0, Some(5))] {
        let out = answered(want, 416, empty, "");
        assert!(good(&out, b"", Some(0)).reusable);
        for (fields, complete_length) in [
            ("Content-Length: 0", None),
            ("Content-Range: bytes */5", Some(5)),
            ("Content-Range: bytes 0-0/0", None),
        ] {
            bad(
                &answered(want, 416, fields, ""),
                E::RangeNotSatisfiable { complete_length },
            );
        }
    }
    bad(
        &answered(content(3, None), 416, empty, ""),
        E::RangeNotSatisfiable {
            complete_length: Some(0),
        },
    );
    bad(
        &answered(content(10, None), 416, "Content-Range: bytes */10", ""),
        E::RangeNotSatisfiable {
            complete_length: Some(10),
        },
    );
    bad(&answered(WHOLE, 416, empty, ""), E::Status(416));
}

#[test]
fn an_answer_tells_what_there_is_of_a_part() {
    let now = Instant::now();
    for (len, expected) in [(None, 2), (Some(5), 2), (Some(2), 2), (Some(1), 1)] {
        let part = format!(
            "Content-Length: {expected}|Content-Range: bytes 8-{}/10",
            7 + expected
        );
        for head in [head(200, "Content-Length: 10"), head(206, &part)] {
            let mut fetch = Asking::from(content(8, len)).fetch(FetchTimeouts::default(), now);
            fetch.handle_sent(now, sent_len(&fetch));
            fetch.receive_buffer()[..head.len()].copy_from_slice(head.as_bytes());
            fetch.handle_received(now, head.len());
            let answer = fetch.answer().unwrap();
            assert_eq!(answer.complete_length, Some(10));
            assert_eq!(answer.expected, Some(expected), "{len:?}");
        }
    }
}

#[test]
fn statuses() {
    for (status, error) in [
        (201, E::Status(201)),
        (204, E::Status(204)),
        (301, E::Status(301)),
        (304, E::Status(304)),
        (401, E::Unauthorized),
        (403, E::Status(403)),
        (404, E::NotFound),
        (500, E::Status(500)),
        (503, E::Status(503)),
        (999, E::Status(999)),
    ] {
        let out = answered(WHOLE, status, "Content-Length: 10", "0123456789");
        bad(&out, error);
        assert_eq!(out.content, b"");
    }
}

#[test]
fn interim_answers() {
    let interim = head(103, "Link: x|Content-Length: 5");
    let answer = head(200, "Content-Length: 10") + "0123456789";
    let text = |count: usize| interim.repeat(count) + &answer;
    let most = INTERIM_ANSWERS_MAX as usize;
    for count in [1, 2, most] {
        let out = outcome(WHOLE, text(count).as_bytes());
        assert!(good(&out, BYTES, Some(10)).reusable);
    }
    bad(
        &outcome(WHOLE, text(most + 1).as_bytes()),
        E::TooManyInterimAnswers,
    );
    let out = outcome(WHOLE, (head(101, "Upgrade: x") + &answer).as_bytes());
    bad(&out, E::SwitchingProtocols);
    bad(&outcome(WHOLE, interim.as_bytes()), E::HeadCut);
    // Every head may be as long as the longest.
    let long = |status, len: usize| {
        let empty = head(status, "Content-Length: 10|A: ").len();
        head(
            status,
            &format!("Content-Length: 10|A: {}", "a".repeat(len - empty)),
        )
    };
    let asking = Asking::from(WHOLE);
    // Also where it comes along with what is before it.
    for before in [long(103, HEAD_BYTES_MAX), head(103, "")] {
        let text = before + &long(200, HEAD_BYTES_MAX) + "0123456789";
        for step in [1000, usize::MAX] {
            let out = play(&asking, text.as_bytes(), step);
            good(&out, BYTES, Some(10));
        }
    }
    let out = play(&asking, long(200, HEAD_BYTES_MAX + 1).as_bytes(), 1000);
    bad(&out, E::Head(HeadError::TooLong));
}

#[test]
fn heads() {
    let folded = b"HTTP/1.1 200 OK\r\nX: a\r\n\tb\r\nContent-Length:\r\n 10\r\n\r\n0123456789";
    good(&outcome(WHOLE, folded), BYTES, Some(10));
    for (text, error) in [
        (&b"SSH-2.0-x\r\n"[..], HeadError::StartLine),
        (b"HTTP/2.0 200 OK\r\n\r\n", HeadError::Version),
        (b"HTTP/1.1 200 OK\nA: b\n\n", HeadError::LineEnd),
        (b"HTTP/1.1 200 OK\r\nA b\r\n\r\n", HeadError::FieldLine),
    ] {
        bad(&outcome(WHOLE, text), E::Head(error));
    }
}

#[test]
fn versions() {
    let asked = |complete_length| Asking {
        version: Some(Version {
            entity_tag: Some(tag("v")),
            last_modified: None,
            complete_length,
        }),
        ..content(4, None).into()
    };
    let rest = "Content-Length: 6|Content-Range: bytes 4-9/10";
    let same = format!("{rest}|ETag: \"v\"");
    for known in [None, Some(10)] {
        let out = answered(asked(known), 206, &same, "456789");
        good(&out, b"456789", Some(10));
    }
    let unknown = "Content-Length: 6|Content-Range: bytes 4-9/*|ETag: \"v\"";
    good(
        &answered(asked(Some(10)), 206, unknown, "456789"),
        b"456789",
        None,
    );
    bad(&answered(asked(Some(11)), 206, &same, "456789"), E::Changed);
    for other in ["", "|ETag: \"w\"", "|ETag: W/\"v\""] {
        let out = answered(asked(None), 206, &format!("{rest}{other}"), "456789");
        bad(&out, E::Changed);
    }
    let whole = "Content-Length: 10|ETag: \"v\"";
    // A peer that serves no ranges of it sends the whole of the same version again.
    let out = answered(asked(None), 200, whole, "0123456789");
    good(&out, b"456789", Some(10));
    // And nothing may be what was left of it; less than there was before is another one.
    for (framing, message) in [
        ("Content-Length: 4", "0123"),
        ("Transfer-Encoding: chunked", "4\r\n0123\r\n0\r\n\r\n"),
    ] {
        let head = format!("{framing}|ETag: \"v\"");
        let out = answered(asked(None), 200, &head, message);
        good(&out, b"", framing.ends_with('4').then_some(4));
    }
    for (framing, message) in [
        ("Content-Length: 3", "012"),
        ("Transfer-Encoding: chunked", "3\r\n012\r\n0\r\n\r\n"),
    ] {
        let head = format!("{framing}|ETag: \"v\"");
        bad(&answered(asked(None), 200, &head, message), E::Changed);
    }
    let other = "Content-Length: 10|ETag: \"w\"";
    bad(&answered(asked(None), 200, other, "0123456789"), E::Changed);
    // Shorter now than where it is continued.
    bad(
        &answered(asked(None), 200, "Content-Length: 1", "0"),
        E::Changed,
    );
    bad(&answered(asked(None), 416, "", ""), E::Changed);
    // All was there already: the length shows only now.
    let end = "Content-Length: 0|Content-Range: bytes */4";
    good(&answered(asked(None), 416, end, ""), b"", Some(4));
    good(
        &answered(asked(None), 416, &format!("{end}|ETag: \"v\""), ""),
        b"",
        Some(4),
    );
    bad(
        &answered(asked(None), 416, &format!("{end}|ETag: \"w\""), ""),
        E::Changed,
    );
    bad(&answered(asked(Some(10)), 416, end, ""), E::Changed);
    let other_end = "Content-Length: 0|Content-Range: bytes */3";
    bad(&answered(asked(None), 416, other_end, ""), E::Changed);
}

#[test]
fn versions_without_a_tag() {
    let date = "Sun, 06 Nov 1994 08:49:37 GMT";
    let asked = || Asking {
        version: Some(Version {
            entity_tag: None,
            last_modified: HttpDate::parse(date.as_bytes()),
            complete_length: Some(10),
        }),
        ..content(4, None).into()
    };
    let rest = "Content-Length: 6|Content-Range: bytes 4-9/10";
    good(&answered(asked(), 206, rest, "456789"), b"456789", Some(10));
    let dated = format!("{rest}|Last-Modified: {date}");
    good(
        &answered(asked(), 206, &dated, "456789"),
        b"456789",
        Some(10),
    );
    let later = dated.replace(":37", ":38");
    bad(&answered(asked(), 206, &later, "456789"), E::Changed);
    let longer = "Content-Length: 6|Content-Range: bytes 4-9/11";
    bad(&answered(asked(), 206, longer, "456789"), E::Changed);
    let whole = answered(asked(), 200, "Content-Length: 10", "0123456789");
    good(&whole, b"456789", Some(10));
    let whole = answered(asked(), 200, "Content-Length: 11", "0123456789a");
    bad(&whole, E::Changed);
}

#[test]
fn deadlines() {
    let start = Instant::now();
    let after = |seconds| start + Duration::from_secs(seconds);
    let timeouts = FetchTimeouts {
        head: Some(Duration::from_secs(5)),
        stall: Some(Duration::from_secs(3)),
        whole: Some(after(10)),
    };
    let in_content = || {
        let mut fetch = Asking::from(WHOLE).fetch(timeouts, start);
        fetch.handle_sent(start, sent_len(&fetch));
        let head = head(200, "Content-Length: 10");
        fetch.receive_buffer()[..head.len()].copy_from_slice(head.as_bytes());
        fetch.handle_received(after(4), head.len());
        fetch
    };
    let failed = |fetch: &Fetch| match fetch.poll_output() {
        FetchOutput::Failed(error) => Some(error),
        _ => None,
    };
    let mut fetch = Asking::from(WHOLE).fetch(timeouts, start);
    assert_eq!(fetch.poll_timeout(), Some(after(5)));
    fetch.handle_timeout(after(4));
    assert_eq!(failed(&fetch), None);
    fetch.handle_timeout(after(5));
    assert_eq!(failed(&fetch), Some(E::TimedOut(FetchDeadline::Head)));
    let mut fetch = in_content();
    assert_eq!(fetch.poll_timeout(), Some(after(7)));
    fetch.handle_content(after(6), 1);
    assert_eq!(fetch.poll_timeout(), Some(after(9)));
    fetch.handle_timeout(after(9));
    assert_eq!(failed(&fetch), Some(E::TimedOut(FetchDeadline::Stall)));
    // What could be tried again is not told where the whole is over at the same time.
    for seconds in [7, 8] {
        let mut fetch = in_content();
        fetch.handle_content(after(seconds), 1);
        assert_eq!(fetch.poll_timeout(), Some(after(10)));
        fetch.handle_timeout(after(100));
        assert_eq!(failed(&fetch), Some(E::TimedOut(FetchDeadline::Whole)));
    }
    let mut fetch = in_content();
    fetch.handle_resumed(after(9));
    assert_eq!(fetch.poll_timeout(), Some(after(10)));
    let relaxed = FetchTimeouts {
        whole: None,
        ..timeouts
    };
    let mut fetch = Asking::from(WHOLE).fetch(relaxed, start);
    fetch.handle_resumed(after(4));
    assert_eq!(fetch.poll_timeout(), Some(after(5)), "only content may lie");
    let fetch = Asking::from(WHOLE).fetch(FetchTimeouts::default(), start);
    assert_eq!(fetch.poll_timeout(), None);
}

fn sent_len(fetch: &Fetch) -> usize {
    match fetch.poll_output() {
        FetchOutput::Send { bytes } => bytes.len(),
        _ => 0,
    }
}

#[test]
fn an_answer_has_begun_with_its_first_byte() {
    let now = Instant::now();
    let mut fetch = Asking::from(WHOLE).fetch(FetchTimeouts::default(), now);
    assert!(!fetch.has_begun());
    fetch.handle_sent(now, sent_len(&fetch));
    assert!(!fetch.has_begun());
    fetch.receive_buffer()[0] = b'H';
    fetch.handle_received(now, 1);
    assert!(fetch.has_begun());
    fetch.handle_eof(now);
    assert!(fetch.has_begun());
    let mut fetch = Asking::from(WHOLE).fetch(FetchTimeouts::default(), now);
    fetch.handle_eof(now);
    assert!(!fetch.has_begun());
}

#[test]
#[should_panic(expected = "2 bytes of content where 1 were due")]
fn more_content_than_due_is_a_bug() {
    let now = Instant::now();
    let mut fetch = Asking::from(WHOLE).fetch(FetchTimeouts::default(), now);
    fetch.handle_sent(now, sent_len(&fetch));
    let head = head(200, "Content-Length: 1");
    fetch.receive_buffer()[..head.len()].copy_from_slice(head.as_bytes());
    fetch.handle_received(now, head.len());
    fetch.handle_content(now, 2);
}

#[test]
fn a_length_on_the_peers_word_costs_nothing() {
    let out = answered(WHOLE, 200, "Content-Length: 18446744073709551615", "x");
    bad(
        &out,
        E::Truncated {
            expected: Some(u64::MAX),
            received: 1,
        },
    );
    let part = "Content-Range: bytes 18446744073709551614-18446744073709551614/*";
    let out = answered(content(u64::MAX - 1, None), 206, part, "x");
    good(&out, b"x", None);
}

#[test]
fn debug_tells_the_state_and_not_the_token() {
    let fetch = Asking::from(WHOLE).fetch(FetchTimeouts::default(), Instant::now());
    let debug = format!("{fetch:?}");
    assert!(debug.contains("Sending"), "{debug}");
    for secret in ["secret", "115, 101, 99, 114, 101, 116"] {
        assert!(!debug.contains(secret), "{debug}");
    }
}

/// The verdict on a head, when nothing follows it.
fn verdict_on(asking: impl Into<Asking>, head: &str) -> Result<FetchDone, E> {
    let head = head.replace('\n', "\r\n") + "\r\n\r\n";
    play(&asking.into(), head.as_bytes(), usize::MAX).end
}

#[test]
fn of_two_validators_neither_counts() {
    for twice in [
        "ETag: \"a\"\nETag: \"a\"",
        "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\nLast-Modified: Sun, 06 Nov 1994 08:49:37 GMT",
    ] {
        let text = format!("HTTP/1.1 200 OK\n{twice}\nContent-Length: 0\n\n");
        let mut fetch = Asking::from(WHOLE).fetch(FetchTimeouts::default(), Instant::now());
        receive(&mut fetch, text.replace('\n', "\r\n"));
        let answer = fetch.answer().unwrap();
        assert_eq!((answer.entity_tag, answer.last_modified), (None, None));
    }
}

/// Sends the request and hands over what comes.
fn receive(fetch: &mut Fetch, text: impl AsRef<[u8]>) {
    let text = text.as_ref();
    let now = Instant::now();
    if let FetchOutput::Send { bytes } = fetch.poll_output() {
        let n = bytes.len();
        fetch.handle_sent(now, n);
    }
    fetch.receive_buffer()[..text.len()].copy_from_slice(text);
    fetch.handle_received(now, text.len());
}

#[test]
fn the_media_type_is_told_if_it_is_one() {
    for (fields, expected) in [
        ("Content-Type: audio/flac\r\n", Some("audio/flac")),
        ("Content-Type: audio\r\n", None),
        ("Content-Type: audio/\u{e9}\r\n", None),
        ("Content-Type: a/b\r\nContent-Type: a/b\r\n", None),
        ("", None),
    ] {
        let mut fetch = Asking::from(WHOLE).fetch(FetchTimeouts::default(), Instant::now());
        assert_eq!(fetch.content_type(), None);
        let text = format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 3\r\n\r\n");
        receive(&mut fetch, &text);
        assert_eq!(fetch.content_type(), expected, "{fields:?}");
    }
    let mut fetch = Asking::from(WHOLE).fetch(FetchTimeouts::default(), Instant::now());
    let long = "x".repeat(CONTENT_TYPE_BYTES_MAX);
    let text = format!("HTTP/1.1 200 OK\r\nContent-Type: a/{long}\r\nContent-Length: 3\r\n\r\n");
    receive(&mut fetch, &text);
    assert_eq!(fetch.content_type(), None);
    // No text at all.
    let mut fetch = Asking::from(WHOLE).fetch(FetchTimeouts::default(), Instant::now());
    receive(
        &mut fetch,
        b"HTTP/1.1 200 OK\r\nContent-Type: a/\xff\r\nContent-Length: 3\r\n\r\n",
    );
    assert!(fetch.answer().is_some());
    assert_eq!(fetch.content_type(), None);
}

#[test]
fn a_length_is_learnt_from_a_part_that_is_the_whole() {
    let asking = Asking {
        want: Want::Length,
        without_range: true,
        version: None,
    };
    let part = "HTTP/1.1 206 Partial Content\nContent-Range: bytes 0-9/10\nContent-Length: 10";
    let done = verdict_on(asking, part).unwrap();
    assert_eq!((done.complete_length, done.received), (Some(10), 0));
}

#[test]
fn the_end_of_an_empty_source_is_framed_too() {
    let refused = "HTTP/1.1 416 Range Not Satisfiable\nContent-Range: bytes */0\n";
    let asking = || content(0, Some(5));
    let done = verdict_on(asking(), &format!("{refused}Transfer-Encoding: chunked")).unwrap();
    assert!(!done.reusable, "its content is not read");
    let twice = verdict_on(
        asking(),
        &format!("{refused}Content-Length: 1\nContent-Length: 2"),
    );
    assert_eq!(twice, Err(E::Framing(FramingError::Length)));
}
