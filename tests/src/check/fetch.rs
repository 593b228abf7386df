//! The laws of the fetching machine.

use std::{
    fmt,
    time::{Duration, Instant},
};

use peer_core::fetch::{
    Fetch, FetchDone, FetchError, FetchOutput, FetchRequest, FetchTimeouts, Version, Want,
};
use peer_proto::{
    EntityTag, Token,
    limits::{CHUNK_EXTENSION_BYTES_MAX, HEAD_BYTES_MAX, TRAILER_BYTES_MAX},
};

use super::{Choices, naive, server::EPOCH};

/// What is asked for, by choice.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    /// The range, or the length alone.
    pub want: Want,
    /// The range is not asked for as one.
    pub without_range: bool,
    /// What the answer has to continue.
    pub version: Option<Version>,
}

impl Question {
    fn choose(choices: &mut Choices<'_>) -> Self {
        let kind = choices.byte();
        let start = match kind & 3 {
            0 | 1 => 0,
            2 => u64::from(choices.byte()),
            _ => choices.position(),
        };
        let len = match kind >> 2 & 3 {
            0 => None,
            1 => Some(1 + u64::from(choices.byte())),
            2 => Some(5),
            _ => Some(choices.position().max(1)),
        };
        let want = if kind >> 4 & 7 == 7 {
            Want::Length
        } else {
            Want::Content { start, len }
        };
        let is_start = matches!(want, Want::Content { start: 0, .. } | Want::Length);
        let without_range = is_start && kind >> 4 & 7 == 6;
        let is_whole = matches!(
            want,
            Want::Content {
                start: 0,
                len: None
            }
        );
        let version = (kind & 0x80 != 0 && !is_whole && !without_range).then(|| Version {
            entity_tag: EntityTag::strong("v1").ok(),
            ..Version::default()
        });
        Self {
            want,
            without_range,
            version,
        }
    }

    fn asks_for_range(&self) -> bool {
        let is_whole = matches!(
            self.want,
            Want::Content {
                start: 0,
                len: None
            }
        );
        !is_whole && !self.without_range
    }
}

/// What came of a fetch.
#[derive(Clone, PartialEq, Eq)]
struct Fetched {
    content: Vec<u8>,
    end: Result<FetchDone, FetchError>,
}

impl fmt::Debug for Fetched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\" {:?}", self.content.escape_ascii(), self.end)
    }
}

fn start(question: &Question) -> (Fetch, Token) {
    let token = Token::new("secret").expect("a token");
    let request = FetchRequest {
        host: "h",
        token: &token,
        handle: "a",
        want: question.want,
        without_range: question.without_range,
        version: question.version,
    };
    let timeouts = FetchTimeouts {
        head: Some(Duration::from_secs(10)),
        stall: Some(Duration::from_secs(20)),
        whole: None,
    };
    (Fetch::new(&request, timeouts, *EPOCH), token)
}

/// Fetches from a peer that answers with `received`, at most `step` bytes at a time, and closes.
fn fetch_from(question: &Question, received: &[u8], step: usize) -> Fetched {
    let (mut fetch, _) = start(question);
    let now = *EPOCH;
    let mut rest = received;
    let mut content = Vec::new();
    let mut turns = 1000 + 4 * received.len();
    loop {
        turns = turns.checked_sub(1).expect("the fetch does not end");
        let begun = fetch.has_begun();
        assert_eq!(
            fetch.poll_output(),
            fetch.poll_output(),
            "polling changed something"
        );
        let mut take = |max: u64| {
            let max = usize::try_from(max).unwrap_or(usize::MAX);
            let n = rest.len().min(step).min(max);
            let (bytes, after) = rest.split_at(n);
            rest = after;
            bytes
        };
        match fetch.poll_output() {
            FetchOutput::Send { bytes } => {
                assert!(!bytes.is_empty());
                let n = bytes.len().min(step);
                fetch.handle_sent(now, n);
            }
            FetchOutput::Receive => {
                let buffer = fetch.receive_buffer();
                assert!((1..=HEAD_BYTES_MAX).contains(&buffer.len()));
                let bytes = take(buffer.len() as u64);
                buffer[..bytes.len()].copy_from_slice(bytes);
                match bytes.len() {
                    0 => fetch.handle_eof(now),
                    n => fetch.handle_received(now, n),
                }
            }
            FetchOutput::Content { bytes } => {
                assert!(!bytes.is_empty());
                let n = bytes.len().min(step);
                content.extend_from_slice(&bytes[..n]);
                fetch.handle_content(now, n as u64);
            }
            FetchOutput::ReceiveContent { max } => {
                assert!(max > 0);
                let bytes = take(max);
                content.extend_from_slice(bytes);
                match bytes.len() {
                    0 => fetch.handle_eof(now),
                    n => fetch.handle_content(now, n as u64),
                }
            }
            FetchOutput::ReceiveSkipped { max } => {
                assert!(max > 0);
                match take(max).len() {
                    0 => fetch.handle_eof(now),
                    n => fetch.handle_content(now, n as u64),
                }
            }
            FetchOutput::Done(done) => {
                assert_eq!(done.received, content.len() as u64);
                return Fetched {
                    content,
                    end: Ok(done),
                };
            }
            FetchOutput::Failed(error) => {
                assert_eq!(fetch.received(), content.len() as u64);
                return Fetched {
                    content,
                    end: Err(error),
                };
            }
        }
        assert!(
            !begun || fetch.has_begun(),
            "an answer that was begun is not begun any more"
        );
    }
}

/// The final answer, read naively: status, fields, content (`None`: broken or cut), and whether
/// its end was framed.
struct Reading {
    status: u16,
    head: naive::Head,
    content: Option<Vec<u8>>,
}

fn read(mut received: &[u8]) -> Option<Reading> {
    loop {
        let mut text = received.to_vec();
        peer_proto::response::unfold(&mut text);
        let naive::Lines::Complete(head) = naive::lines(&text, 0) else {
            return None;
        };
        let (status, _) = naive::status_line(&head.start_line)?;
        let rest = &received[head.len..];
        if (100..200).contains(&status) {
            received = rest;
            continue;
        }
        let mut lengths = head
            .fields
            .iter()
            .filter(|(name, _)| name == "content-length")
            .flat_map(|(_, value)| value.split(|&byte| byte == b','))
            .map(|member| naive::number(naive::trim(member)).flatten());
        let chunked = head
            .fields
            .iter()
            .any(|(name, _)| name == "transfer-encoding");
        let content = match (chunked, lengths.next()) {
            (true, None) => naive::dechunk(rest).map(|(content, _)| content),
            (false, Some(Some(length))) => {
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                rest.get(..length).map(<[u8]>::to_vec)
            }
            (false, None) => Some(rest.to_vec()),
            _ => None,
        };
        return Some(Reading {
            status,
            head,
            content,
        });
    }
}

/// Whatever a peer answers, however it is split: the same verdict and the same content; and what
/// is taken for an answer delivers exactly the bytes that a naive reading finds at the asked-for
/// positions.
///
/// # Panics
/// Where the law does not hold.
pub fn fetch(input: &[u8]) {
    let mut choices = Choices::new(input);
    let question = Question::choose(&mut choices);
    let step = 1 + usize::from(choices.byte());
    let received = choices.rest();
    let whole = fetch_from(&question, received, usize::MAX);
    for step in [1, step] {
        if received.len() > 6000 && step < 16 {
            continue;
        }
        let split = fetch_from(&question, received, step);
        // Whether there is more behind the answer only shows when it has come.
        let without_reuse = |fetched: &Fetched| Fetched {
            content: fetched.content.clone(),
            end: fetched.end.map(|done| FetchDone {
                reusable: false,
                ..done
            }),
        };
        assert_eq!(without_reuse(&split), without_reuse(&whole), "by {step}");
    }
    judge(&question, received, &whole);
}

fn judge(question: &Question, received: &[u8], fetched: &Fetched) {
    let reading = read(received);
    let done = match fetched.end {
        Ok(done) => done,
        Err(FetchError::NoAnswer) => return assert!(received.is_empty()),
        Err(error) => return refused(question, reading, error, received),
    };
    let reading = reading.expect("an answer that a naive reading finds, too");
    let value = |name: &str| {
        let mut values = reading
            .head
            .fields
            .iter()
            .filter(|(other, _)| other == name);
        values.next().map(|(_, value)| &value[..])
    };
    let coding = value("content-encoding").unwrap_or_default();
    assert!(
        reading.status == 416
            || coding
                .split(|&byte| byte == b',')
                .map(naive::trim)
                .all(|coding| coding.is_empty() || coding.eq_ignore_ascii_case(b"identity")),
        "encoded content"
    );
    // A 416 that says that nothing is left need not name the version.
    if let Some(version) = question.version.filter(|_| reading.status != 416) {
        let mut quoted = Vec::new();
        version
            .entity_tag
            .expect("the question names one")
            .write(&mut quoted);
        assert_eq!(value("etag"), Some(&quoted[..]), "another version");
    }
    let (start, len) = match question.want {
        Want::Content { start, len } => (start, len.unwrap_or(u64::MAX)),
        Want::Length => {
            assert!(fetched.content.is_empty());
            (0, 0)
        }
    };
    match reading.status {
        200 => {
            // The rest of a whole may be missing, when what was asked for is there.
            let Some(all) = reading.content else {
                return;
            };
            let from = usize::try_from(start).unwrap_or(usize::MAX).min(all.len());
            let to = all
                .len()
                .min(from.saturating_add(usize::try_from(len).unwrap_or(usize::MAX)));
            assert_eq!(
                fetched.content,
                &all[from..to],
                "other bytes than asked for"
            );
            assert!(
                start == 0 || len == 0 || from < to,
                "past the end is an error"
            );
            assert!(!done.short);
            if let Some(length) = done.complete_length {
                assert_eq!(Some(Some(length)), value("content-length").map(one_number));
            }
        }
        206 => {
            let range = value("content-range").expect("a content-range");
            let range = String::from_utf8_lossy(range).to_ascii_lowercase();
            let (span, complete) = range
                .strip_prefix("bytes ")
                .and_then(|range| range.split_once('/'))
                .expect("its grammar");
            let (first, last) = span.split_once('-').expect("an incl-range");
            let (first, last): (u64, u64) = (
                first.parse().expect("first-pos"),
                last.parse().expect("last-pos"),
            );
            let complete: Option<u64> = complete.parse().ok();
            assert_eq!(first, start, "another range");
            assert_eq!(done.complete_length, complete);
            if !question.asks_for_range() {
                assert_eq!(complete, Some(last + 1), "a part taken for the whole");
            }
            let Some(content) = reading.content else {
                // What lies behind a part that was wanted may be missing.
                assert!(
                    len < last - first + 1,
                    "a cut content taken for a whole one"
                );
                return;
            };
            let wanted = len.min(last - first + 1);
            assert_eq!(fetched.content.len() as u64, wanted);
            assert_eq!(fetched.content, &content[..wanted as usize]);
            if len > 0 && question.asks_for_range() {
                assert!(
                    last - first < len || question.without_range,
                    "more than asked for"
                );
                let more = complete.is_some_and(|complete| complete > last + 1);
                let all_asked = len == last - first + 1;
                let unknown = complete.is_none() && len != u64::MAX && !all_asked;
                assert_eq!(done.short, !all_asked && (more || unknown), "{done:?}");
            }
        }
        416 => {
            assert!(fetched.content.is_empty());
            let range = String::from_utf8_lossy(value("content-range").unwrap_or_default());
            let end = range.to_ascii_lowercase();
            let end = end
                .strip_prefix("bytes */")
                .and_then(|end| end.parse().ok());
            assert_eq!(end, Some(start), "something is left");
            assert_eq!(done.complete_length, end);
            assert!(start == 0 || question.version.is_some());
        }
        status => panic!("status {status} taken for an answer"),
    }
}

fn one_number(value: &[u8]) -> Option<u64> {
    let first = value.split(|&byte| byte == b',').next()?;
    naive::number(naive::trim(first)).flatten()
}

/// Verdicts that can be checked against the naive reading are true.
fn refused(question: &Question, reading: Option<Reading>, error: FetchError, received: &[u8]) {
    let status = reading.as_ref().map(|reading| reading.status);
    match error {
        FetchError::Unauthorized => assert_eq!(status, Some(401)),
        FetchError::NotFound => assert_eq!(status, Some(404)),
        FetchError::Status(told) => {
            assert_eq!(status, Some(told));
            assert!(!matches!(told, 200 | 206 | 401 | 404));
        }
        FetchError::Changed => assert!(question.version.is_some()),
        FetchError::AnotherRange {
            first_pos,
            last_pos,
        } => {
            assert_eq!(status, Some(206));
            assert!(first_pos <= last_pos);
        }
        FetchError::ContentRange | FetchError::Multipart | FetchError::LengthMismatch { .. } => {
            assert_eq!(status, Some(206));
        }
        FetchError::Truncated { expected, received } => {
            assert!(expected.is_none_or(|expected| received < expected || expected == 0));
        }
        FetchError::RangeNotSatisfiable { complete_length } => {
            let Want::Content { start, .. } = question.want else {
                return;
            };
            assert!(
                status == Some(416)
                    || (start > 0 && complete_length.is_none_or(|length| length <= start))
            );
        }
        FetchError::HeadCut => assert!(reading.is_none() && !received.is_empty()),
        FetchError::TimedOut(_) => panic!("no time has passed"),
        // The parsers' own laws cover what is malformed.
        _ => {}
    }
}

/// A peer that answers truly is always understood: whatever part is asked for of whatever source,
/// framed in whatever way, comes out as slicing says.
///
/// # Panics
/// Where the law does not hold.
pub fn fetch_honest(input: &[u8]) {
    let mut choices = Choices::new(input);
    let mut question = Question::choose(&mut choices);
    let style = choices.byte();
    let step = 1 + usize::from(choices.byte());
    let interim = choices.byte() % 4;
    let cut = u64::from(choices.byte());
    let all = choices.rest();
    if let Want::Content { start, len } = question.want {
        // Mostly inside.
        let start = if style & 1 == 0 {
            start % (all.len() as u64 + 1)
        } else {
            start
        };
        question.want = Want::Content { start, len };
        if !question.asks_for_range() {
            question.version = None;
        }
    }
    let length = all.len() as u64;
    let (start, len) = match question.want {
        Want::Content { start, len } => (start, len),
        Want::Length => (0, Some(1)),
    };
    let selected = naive::select(
        (Some(start), len.map(|len| start.saturating_add(len - 1))),
        length,
    );
    let mut answer = b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n".repeat(usize::from(interim));
    let as_part = question.asks_for_range() && style & 2 == 0;
    let mut range = None;
    let content = match selected {
        Some((first, end)) if as_part => {
            // Shorter than asked for, now and then (RFC 9110 §15.3.7 allows it).
            let end = if style & 0x40 != 0 {
                end.min(first + 1 + u128::from(cut))
            } else {
                end
            };
            range = Some((first, end));
            answer.extend_from_slice(b"HTTP/1.1 206 Partial Content\r\n");
            let line = format!("Content-Range: bytes {first}-{}/{length}\r\n", end - 1);
            answer.extend_from_slice(line.as_bytes());
            &all[first as usize..end as usize]
        }
        None if as_part && length > 0 => {
            let head = "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Length: 0\r\n";
            answer.extend_from_slice(head.as_bytes());
            let line = format!("Content-Range: bytes */{length}\r\n\r\n");
            answer.extend_from_slice(line.as_bytes());
            let fetched = fetch_from(&question, &answer, step);
            match question.version {
                // All of it is there already.
                Some(_) if start == length => {
                    let done = fetched.end.expect("nothing was left");
                    assert_eq!((done.received, done.complete_length), (0, Some(length)));
                }
                Some(_) => assert_eq!(fetched.end, Err(FetchError::Changed)),
                None => {
                    let complete_length = Some(length);
                    let expected = FetchError::RangeNotSatisfiable { complete_length };
                    assert_eq!(fetched.end, Err(expected));
                }
            }
            return;
        }
        _ => {
            answer.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
            all
        }
    };
    answer.extend_from_slice(b"ETag: \"v1\"\r\n");
    match style >> 2 & 3 {
        0 | 1 => {
            let line = format!("Content-Length: {}\r\n\r\n", content.len());
            answer.extend_from_slice(line.as_bytes());
            answer.extend_from_slice(content);
        }
        2 => {
            answer.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
            for chunk in content.chunks(step) {
                let line = format!("{:x};a=b\r\n", chunk.len());
                answer.extend_from_slice(line.as_bytes());
                answer.extend_from_slice(chunk);
                answer.extend_from_slice(b"\r\n");
            }
            answer.extend_from_slice(b"0\r\nTrailer: a\r\n\r\n");
        }
        _ => {
            answer.extend_from_slice(b"Connection: close\r\n\r\n");
            answer.extend_from_slice(content);
        }
    }
    let fetched = fetch_from(&question, &answer, step);
    if matches!(question.want, Want::Length) {
        let done = fetched.end.expect("the length");
        let told = range.is_some() || style >> 2 & 3 < 2;
        assert_eq!(done.complete_length, told.then_some(length));
        return;
    }
    let Some((first, end)) = range.or(selected) else {
        // Nothing there: the whole of an empty source, or past the end of another, or at the end
        // of what is continued.
        match fetched.end {
            Ok(_) => {
                assert!(start == 0 || (start == length && question.version.is_some()));
                assert!(fetched.content.is_empty());
            }
            Err(FetchError::Changed) => assert!(question.version.is_some() && start > length),
            Err(FetchError::RangeNotSatisfiable { .. }) => assert!(start > 0),
            // Nobody can say whether what ends by closing was cut.
            Err(FetchError::Truncated { .. }) => assert_eq!(style >> 2 & 3, 3),
            Err(_) => panic!("{fetched:?}"),
        }
        return;
    };
    let done = fetched.end.expect("an honest answer");
    assert_eq!(fetched.content, &all[first as usize..end as usize]);
    let wanted = selected.map_or(0, |(first, end)| end - first);
    assert_eq!(done.short, end - first < wanted);
}

/// Facts in any order that a driver can state them, at any time: each poll is pure, the end is
/// final, and it comes.
///
/// # Panics
/// Where the law does not hold.
pub fn fetch_facts(input: &[u8]) {
    const TEXTS: [&[u8]; 8] = [
        b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-4/10\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\n",
        b"\r\n",
        b"0\r\n\r\n",
        b"x",
    ];
    let mut choices = Choices::new(input);
    let question = Question::choose(&mut choices);
    let (mut fetch, _) = start(&question);
    let mut now = *EPOCH;
    let mut ended: Option<String> = None;
    while !choices.is_spent() {
        assert_eq!(fetch.poll_output(), fetch.poll_output());
        if let Some(ended) = &ended {
            assert_eq!(
                &format!("{:?}", fetch.poll_output()),
                ended,
                "the end is not final"
            );
        }
        match choices.byte() % 12 {
            0 => fetch.handle_eof(now),
            1 => fetch.handle_timeout(now),
            2 => now += Duration::from_millis(choices.below(50_000)),
            3 => {
                if let Some(deadline) = fetch.poll_timeout() {
                    now = now.max(deadline);
                    fetch.handle_timeout(now);
                    assert!(
                        matches!(
                            fetch.poll_output(),
                            FetchOutput::Done(_) | FetchOutput::Failed(_)
                        ),
                        "waits past its deadline"
                    );
                }
            }
            _ => proceed(&mut fetch, now, &mut choices, &TEXTS),
        }
        if matches!(
            fetch.poll_output(),
            FetchOutput::Done(_) | FetchOutput::Failed(_)
        ) {
            ended = Some(format!("{:?}", fetch.poll_output()));
        }
    }
    // The peer is gone: it must end.
    for _ in 0..8 + HEAD_BYTES_MAX + CHUNK_EXTENSION_BYTES_MAX + TRAILER_BYTES_MAX {
        match fetch.poll_output() {
            FetchOutput::Done(_) | FetchOutput::Failed(_) => return,
            FetchOutput::Content { bytes } => {
                let n = bytes.len() as u64;
                fetch.handle_content(now, n);
            }
            _ => fetch.handle_eof(now),
        }
    }
    panic!("the fetch does not end");
}

fn proceed(fetch: &mut Fetch, now: Instant, choices: &mut Choices<'_>, texts: &[&[u8]]) {
    let some = 1 + u64::from(choices.byte());
    match fetch.poll_output() {
        FetchOutput::Send { bytes } => {
            let n = bytes.len().min(some as usize);
            fetch.handle_sent(now, n);
        }
        FetchOutput::Receive => {
            let bytes = match usize::from(choices.byte()) {
                text if text < texts.len() => texts[text],
                _ => choices.bytes(100),
            };
            let buffer = fetch.receive_buffer();
            let n = bytes.len().min(buffer.len());
            buffer[..n].copy_from_slice(&bytes[..n]);
            if n > 0 {
                fetch.handle_received(now, n);
            }
        }
        FetchOutput::Content { bytes } => {
            let n = some.min(bytes.len() as u64);
            fetch.handle_content(now, n);
        }
        FetchOutput::ReceiveContent { max } | FetchOutput::ReceiveSkipped { max } => {
            fetch.handle_content(now, max.min(some));
        }
        FetchOutput::Done(_) | FetchOutput::Failed(_) => {}
    }
}
