//! The laws of `peer-proto`.

use std::time::{Duration, SystemTime};

use peer_proto::{
    ContentRange, EntityTag, FieldName, Fields, Framing, HttpDate, Method, RangeSpec, RequestHead,
    ResponseHead, Span, Token, Validators, Version,
    auth::{self, Credentials},
    field, framing,
    framing::ChunkDecoder,
    limits::{
        EMPTY_LINES_MAX, FIELD_LINES_MAX, HEAD_BYTES_MAX, RANGE_SPECS_MAX, START_LINE_BYTES_MAX,
    },
    multipart::{Boundary, PartHead},
    precondition::{self, Precondition},
    range::{RangeSet, write_range},
    request::{RequestFields, write_request},
    response::{HeadWriter, Status, unfold},
    target::{Target, is_host, write_target},
};

use super::{
    Choices,
    naive::{self, Lines},
};

const EVERY_NAME: [FieldName; 23] = [
    FieldName::AcceptRanges,
    FieldName::AccessControlRequestHeaders,
    FieldName::AccessControlRequestMethod,
    FieldName::Authorization,
    FieldName::Connection,
    FieldName::ContentEncoding,
    FieldName::ContentLength,
    FieldName::ContentRange,
    FieldName::ContentType,
    FieldName::Date,
    FieldName::ETag,
    FieldName::Expect,
    FieldName::Host,
    FieldName::IfMatch,
    FieldName::IfModifiedSince,
    FieldName::IfNoneMatch,
    FieldName::IfRange,
    FieldName::IfUnmodifiedSince,
    FieldName::LastModified,
    FieldName::Origin,
    FieldName::Range,
    FieldName::RetryAfter,
    FieldName::TransferEncoding,
];

/// What can follow an incomplete head; used to show that a refused one had no future.
const ENDINGS: &[&[u8]] = &[
    b"\r\n\r\n",
    b"\n\r\n",
    b": a\r\n\r\n",
    b"a: a\r\n\r\n",
    b" / HTTP/1.1\r\n\r\n",
    b"/ HTTP/1.1\r\n\r\n",
    b" HTTP/1.1\r\n\r\n",
    b"HTTP/1.1\r\n\r\n",
    b"1\r\n\r\n",
];

/// A request head parses exactly where RFC 9112's grammar, read naively, says so, to the same
/// parts; every prefix of it is incomplete; whatever is refused could never have become a head;
/// and how the bytes were split changes nothing.
///
/// # Panics
/// Where the law does not hold.
pub fn request_head(bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(HEAD_BYTES_MAX)];
    let whole = RequestHead::parse(bytes);
    let lines = naive::lines(bytes, EMPTY_LINES_MAX);
    match &whole {
        Ok(Some(head)) => {
            let Lines::Complete(expected) = &lines else {
                panic!("taken for a head: {lines:?}");
            };
            let (method, target, minor) =
                naive::request_line(&expected.start_line).expect("a request-line");
            assert_eq!(head.head_len(), expected.len);
            assert_eq!(head.target(bytes), target);
            assert_eq!(head.version == Version::Http10, minor == 0);
            let known: &[&[u8]] = &[
                b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH",
            ];
            let expected_method = match method {
                b"GET" => Method::Get,
                b"HEAD" => Method::Head,
                b"OPTIONS" => Method::Options,
                other if known.contains(&other) => Method::Other,
                _ => Method::Unknown,
            };
            assert_eq!(head.method, expected_method);
            let fields = head.fields(bytes);
            same_fields(&fields, expected);
            derived_from(head.version, &fields);
            target_bytes(target);
        }
        Ok(None) => {
            assert_eq!(lines, Lines::Incomplete, "waits for more");
            assert!(bytes.len() < HEAD_BYTES_MAX, "waits past the limit");
        }
        Err(_) => {
            assert!(
                !is_request(&lines),
                "refused although it is one: {whole:?} {lines:?}"
            );
            if lines == Lines::Incomplete && bytes.len() < 4096 {
                for ending in ENDINGS {
                    let lines = naive::lines(&[bytes, ending].concat(), EMPTY_LINES_MAX);
                    assert!(
                        !is_request(&lines),
                        "refused too early: {whole:?} {lines:?}"
                    );
                }
            }
        }
    }
    // Incremental arrival. Long heads are cut more coarsely: parsing starts over on every call.
    let step = bytes.len() / 64 + 1;
    for end in (0..bytes.len()).step_by(step) {
        let split = RequestHead::parse(&bytes[..end]);
        match (&split, &whole) {
            (Ok(None), _) => {}
            (Ok(Some(early)), Ok(Some(head))) => {
                assert_eq!(early.head_len(), head.head_len(), "at {end}");
                assert_eq!(early.target(bytes), head.target(bytes), "at {end}");
            }
            (Err(early), Err(late)) => assert_eq!(early, late, "at {end}"),
            _ => panic!("{split:?} of the first {end} bytes, {whole:?} of all"),
        }
    }
}

fn is_request(lines: &Lines) -> bool {
    match lines {
        Lines::Complete(head) => naive::request_line(&head.start_line).is_some() && fits(head),
        _ => false,
    }
}

fn fits(head: &naive::Head) -> bool {
    head.start_line.len() + 2 <= START_LINE_BYTES_MAX
        && head.fields.len() <= FIELD_LINES_MAX
        && head.len <= HEAD_BYTES_MAX
}

/// As [`request_head`], for responses; and unfolding bytes as they arrive gives what unfolding
/// all of them gives, changes no byte but the folds', and none of the content.
///
/// # Panics
/// Where the law does not hold.
pub fn response_head(bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(HEAD_BYTES_MAX)];
    let is_response = |lines: &Lines| match lines {
        Lines::Complete(head) => naive::status_line(&head.start_line).is_some() && fits(head),
        _ => false,
    };
    let whole = ResponseHead::parse(bytes);
    let lines = naive::lines(bytes, 0);
    match &whole {
        Ok(Some(head)) => {
            let Lines::Complete(expected) = &lines else {
                panic!("taken for a head: {lines:?}");
            };
            let (status, minor) = naive::status_line(&expected.start_line).expect("a status-line");
            assert_eq!(head.status, status);
            assert_eq!(head.version == Version::Http10, minor == 0);
            assert_eq!(head.head_len(), expected.len);
            let fields = head.fields(bytes);
            same_fields(&fields, expected);
            response_framing(head, &fields);
        }
        Ok(None) => {
            assert_eq!(lines, Lines::Incomplete, "waits for more");
            assert!(bytes.len() < HEAD_BYTES_MAX, "waits past the limit");
        }
        Err(_) => assert!(
            !is_response(&lines),
            "refused although it is one: {whole:?} {lines:?}"
        ),
    }
    let step = bytes.len() / 64 + 1;
    let mut unfolded = Vec::new();
    for end in (0..bytes.len()).step_by(step) {
        let split = ResponseHead::parse(&bytes[..end]);
        match (&split, &whole) {
            (Ok(None), _) => {}
            (Ok(Some(early)), Ok(Some(head))) => {
                assert_eq!(early.head_len(), head.head_len(), "at {end}");
                assert_eq!(early.status, head.status, "at {end}");
            }
            (Err(early), Err(late)) => assert_eq!(early, late, "at {end}"),
            _ => panic!("{split:?} of the first {end} bytes, {whole:?} of all"),
        }
        unfolded.extend_from_slice(&bytes[unfolded.len()..end]);
        unfold(&mut unfolded);
    }
    unfolded.extend_from_slice(&bytes[unfolded.len()..]);
    unfold(&mut unfolded);
    let mut at_once = bytes.to_vec();
    let found = unfold(&mut at_once);
    assert_eq!(unfolded, at_once, "how the head was split changed it");
    assert_eq!(found, at_once != bytes);
    let section_end = naive::find(bytes, b"\r\n\r\n").unwrap_or(bytes.len());
    for (at, (&before, &after)) in bytes.iter().zip(&at_once).enumerate() {
        if before != after {
            assert!(after == b' ' && matches!(before, b'\r' | b'\n'));
            assert!(at < section_end, "a byte of the content was changed");
        }
    }
    let mut again = at_once.clone();
    assert!(!unfold(&mut again), "a fold was left");
}

fn response_framing(head: &ResponseHead, fields: &Fields<'_>) {
    let framing = framing::of_response(head.version, head.status, fields);
    if matches!(head.status, 100..=199 | 204 | 304) {
        assert_eq!(framing, Ok(Framing::None));
        return;
    }
    match framing {
        Ok(Framing::None) => panic!("a {} has content", head.status),
        Ok(Framing::Length(length)) => {
            for value in fields.all(FieldName::ContentLength) {
                for member in value.split(|&byte| byte == b',') {
                    assert_eq!(naive::number(naive::trim(member)), Some(Some(length)));
                }
            }
            assert!(!fields.has(FieldName::TransferEncoding));
        }
        Ok(Framing::Chunked) => assert!(only_chunked(head.version, fields)),
        Ok(Framing::UntilClose) => {
            assert!(!fields.has(FieldName::ContentLength));
            assert!(!fields.has(FieldName::TransferEncoding));
        }
        Err(_) => {
            assert!(fields.has(FieldName::ContentLength) || fields.has(FieldName::TransferEncoding))
        }
    }
}

fn only_chunked(version: Version, fields: &Fields<'_>) -> bool {
    let codings: Vec<_> = fields
        .all(FieldName::TransferEncoding)
        .flat_map(|value| value.split(|&byte| byte == b','))
        .map(naive::trim)
        .filter(|coding| !coding.is_empty())
        .collect();
    version == Version::Http11
        && !fields.has(FieldName::ContentLength)
        && matches!(codings[..], [coding] if coding.eq_ignore_ascii_case(b"chunked"))
}

/// Every known name finds the values, in order, that the naive reading has under it.
fn same_fields(fields: &Fields<'_>, expected: &naive::Head) {
    for name in EVERY_NAME {
        let expected: Vec<_> = expected
            .fields
            .iter()
            .filter(|(other, _)| other.eq_ignore_ascii_case(name.as_str()))
            .map(|(_, value)| &value[..])
            .collect();
        let values: Vec<_> = fields.all(name).collect();
        assert_eq!(values, expected, "{name:?}");
        assert_eq!(fields.has(name), !expected.is_empty(), "{name:?}");
        match (fields.single(name), &expected[..]) {
            (Ok(None), []) | (Err(_), [_, _, ..]) => {}
            (Ok(Some(value)), [only]) => assert_eq!(value, *only, "{name:?}"),
            (single, _) => panic!("{name:?}: {single:?} of {expected:?}"),
        }
    }
}

/// What a server reads out of a request's fields.
fn derived_from(version: Version, fields: &Fields<'_>) {
    match framing::of_request(version, fields) {
        Ok(Framing::None) => assert!(!fields.has(FieldName::ContentLength)),
        Ok(Framing::Length(length)) => {
            for value in fields.all(FieldName::ContentLength) {
                for member in value.split(|&byte| byte == b',') {
                    let number = naive::number(naive::trim(member)).expect("a length");
                    assert_eq!(number.unwrap_or(u64::MAX), length);
                }
            }
        }
        Ok(Framing::Chunked) => assert!(only_chunked(version, fields)),
        Ok(Framing::UntilClose) => panic!("a request does not end by closing"),
        Err(_) => {
            assert!(fields.has(FieldName::ContentLength) || fields.has(FieldName::TransferEncoding))
        }
    }
    let values: Vec<_> = fields.all(FieldName::Authorization).collect();
    match (auth::credentials(fields), &values[..]) {
        (Credentials::Absent, []) | (Credentials::Repeated, [_, _, ..]) => {}
        (Credentials::Unusable, [value]) => {
            assert!(value.len() <= 7 || !value[..7].eq_ignore_ascii_case(b"bearer "));
        }
        (Credentials::Bearer(token), [value]) => {
            assert!(value[..7].eq_ignore_ascii_case(b"bearer ") && value.ends_with(token));
            assert!(!token.is_empty() && token[0] != b' ');
        }
        _ => panic!("credentials do not fit {values:?}"),
    }
    for value in fields.all(FieldName::Range) {
        range_value(value);
    }
    for value in fields.all(FieldName::Host) {
        assert_eq!(is_host(value), naive::is_host(value), "{value:?}");
    }
}

/// The chunked coding: any split gives the same content, the same end and the same verdict, which
/// are those of a naive decoder; and what the writer writes decodes to what was written.
///
/// # Panics
/// Where the law does not hold.
pub fn chunked(input: &[u8]) {
    let mut choices = Choices::new(input);
    let step = usize::from(choices.byte()) + 1;
    let message = choices.rest();
    let whole = decode(message, usize::MAX);
    for step in [1, 2, 3, step] {
        assert_eq!(decode(message, step), whole, "by {step}");
    }
    let expected = naive::dechunk(message);
    match (whole, expected) {
        (Ok((content, used, true)), Some(expected)) => assert_eq!((content, used), expected),
        (Ok((_, _, false)) | Err(_), None) => {}
        (got, expected) => panic!("{got:?}, naively {expected:?}"),
    }
    // The same bytes as content, in chunks of `step`.
    let mut written = Vec::new();
    for chunk in message.chunks(step) {
        let mut prefix = [0; framing::CHUNK_PREFIX_BYTES];
        let start = framing::write_chunk_size(&mut prefix, chunk.len() as u64);
        written.extend_from_slice(&prefix[start..]);
        written.extend_from_slice(chunk);
        written.extend_from_slice(framing::CHUNK_SUFFIX);
    }
    written.extend_from_slice(framing::LAST_CHUNK);
    let len = written.len();
    assert_eq!(decode(&written, step), Ok((message.to_vec(), len, true)));
}

/// Content, bytes used and whether the message ended, handing over `step` bytes at a time.
fn decode(message: &[u8], step: usize) -> Result<(Vec<u8>, usize, bool), framing::ChunkError> {
    let mut decoder = ChunkDecoder::new();
    let mut content = Vec::new();
    let mut at = 0;
    while at < message.len() && !decoder.is_done() {
        let input = &message[at..message.len().min(at.saturating_add(step))];
        let due = decoder.content_remaining();
        if due > 0 {
            let take = usize::try_from(due).map_or(input.len(), |due| due.min(input.len()));
            content.extend_from_slice(&input[..take]);
            decoder.take_content(take as u64);
            at += take;
        } else {
            let before = decoder.clone();
            let used = decoder.parse(input)?;
            assert!(used <= input.len());
            assert!(used > 0 || before != decoder, "no progress");
            at += used;
        }
    }
    Ok((content, at, decoder.is_done()))
}

/// A `Range` value is acted on exactly where the grammar, read naively, says so, to the same
/// ranges, and each selects exactly what slicing would.
///
/// # Panics
/// Where the law does not hold.
pub fn range_field(input: &[u8]) {
    let mut choices = Choices::new(input);
    let length = choices.position();
    range_value(choices.rest());
    let (first, last) = (choices.position(), choices.position());
    selects(
        RangeSpec::Int {
            first_pos: first.min(last),
            last_pos: Some(first.max(last)),
        },
        length,
    );
    let open = RangeSpec::Int {
        first_pos: first,
        last_pos: None,
    };
    selects(open, length);
    selects(
        RangeSpec::Suffix {
            suffix_length: last,
        },
        length,
    );
    let mut out = Vec::new();
    let last_pos = (first % 2 == 0).then_some(first.max(last));
    write_range(&mut out, first, last_pos);
    assert_eq!(naive::ranges(&out), Some(vec![(Some(first), last_pos)]));
    range_value(&out);
}

fn range_value(value: &[u8]) {
    let expected = naive::ranges(value);
    let set = match RangeSet::parse(value) {
        Ok(set) => set,
        Err(why) => {
            assert_eq!(expected, None, "ignored: {why:?}");
            return;
        }
    };
    let specs: Vec<_> = set.specs().collect();
    assert!((1..=RANGE_SPECS_MAX).contains(&specs.len()));
    assert_eq!(
        specs.iter().map(asked).collect::<Vec<_>>(),
        expected.unwrap_or_default()
    );
    for spec in specs {
        for length in [0, 1, 12, u64::MAX] {
            selects(spec, length);
        }
    }
}

const fn asked(spec: &RangeSpec) -> naive::Asked {
    match *spec {
        RangeSpec::Int {
            first_pos,
            last_pos,
        } => (Some(first_pos), last_pos),
        RangeSpec::Suffix { suffix_length } => (None, Some(suffix_length)),
    }
}

/// One range of a representation of `length` bytes selects what slicing selects.
///
/// # Panics
/// Where the law does not hold.
pub fn selects(spec: RangeSpec, length: u64) {
    let span = spec.satisfy(length);
    let got =
        span.map(|Span { offset, len }| (u128::from(offset), u128::from(offset) + u128::from(len)));
    assert_eq!(
        got,
        naive::select(asked(&spec), length),
        "{spec:?} of {length}"
    );
    if let Some(span) = span {
        assert_eq!(
            u128::from(span.end()),
            u128::from(span.offset) + u128::from(span.len)
        );
        assert_eq!(span.last_pos(), span.end() - 1);
    }
}

/// A `Content-Range` that parses is written back as one that parses to the same, is true in
/// itself, and names a span that fits a `u64`.
///
/// # Panics
/// Where the law does not hold.
pub fn content_range(input: &[u8]) {
    let mut choices = Choices::new(input);
    let (first, last, complete) = (choices.position(), choices.position(), choices.position());
    let built = match choices.byte() % 3 {
        0 => ContentRange::Unsatisfied {
            complete_length: complete,
        },
        kind => ContentRange::Range {
            first_pos: first,
            last_pos: last,
            complete_length: (kind == 1).then_some(complete),
        },
    };
    let mut out = Vec::new();
    built.write(&mut out);
    let is_true = match built {
        ContentRange::Unsatisfied { .. } => true,
        ContentRange::Range {
            complete_length, ..
        } => {
            let len = u128::from(last)
                .wrapping_sub(u128::from(first))
                .wrapping_add(1);
            first <= last
                && complete_length.is_none_or(|length| last < length)
                && len <= u128::from(u64::MAX)
        }
    };
    assert_eq!(ContentRange::parse(&out).ok(), is_true.then_some(built));
    let text = choices.rest();
    if let Ok(parsed) = ContentRange::parse(text) {
        let mut out = Vec::new();
        parsed.write(&mut out);
        assert_eq!(ContentRange::parse(&out), Ok(parsed));
        // Only the unit's case and leading zeros may differ from how it came.
        let without_zeros = |text: &[u8]| {
            let numbers = text.to_ascii_lowercase();
            let parts: Vec<_> = numbers
                .split(|byte| b" -/".contains(byte))
                .map(|part| match naive::number(part) {
                    Some(number) => number.map_or_else(String::new, |number| number.to_string()),
                    None => String::from_utf8_lossy(part).into_owned(),
                })
                .collect();
            parts
        };
        assert_eq!(without_zeros(&out), without_zeros(text));
    }
}

/// A target names a handle exactly where RFC 3986, read naively, says so, and the same one; every
/// handle is written to a target that names it again, in unreserved characters and escapes.
///
/// # Panics
/// Where the law does not hold.
pub fn target(input: &[u8]) {
    target_bytes(input);
    assert_eq!(is_host(input), naive::is_host(input));
    let handle = String::from_utf8_lossy(input);
    let mut out = Vec::new();
    write_target(&mut out, &handle);
    let encoded = out.strip_prefix(b"/track/").expect("the prefix");
    assert!(
        encoded
            .iter()
            .all(|&byte| byte.is_ascii_alphanumeric() || b"-._~%".contains(&byte))
    );
    assert_eq!(Target::parse(&out), Ok(Target::Handle(handle.into_owned())));
}

fn target_bytes(target: &[u8]) {
    let expected = naive::handle(target);
    match Target::parse(target) {
        Ok(Target::Handle(handle)) => assert_eq!(expected, Ok(Some(handle))),
        Ok(Target::Other) => assert_eq!(expected, Ok(None)),
        Err(_) => assert_eq!(expected, Err(())),
    }
}

/// A date that parses is written as an IMF-fixdate of 29 bytes that parses to the same second;
/// every second that HTTP can name makes that round trip.
///
/// # Panics
/// Where the law does not hold.
pub fn dates(input: &[u8]) {
    let mut choices = Choices::new(input);
    // Windows keeps no time later than the year 30828.
    let time = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(choices.u64() >> 24));
    let built = time.and_then(HttpDate::new);
    for date in [built, HttpDate::parse(input)].into_iter().flatten() {
        let mut out = Vec::new();
        date.write(&mut out);
        assert_eq!(out.len(), 29);
        assert!(out.ends_with(b" GMT"));
        assert_eq!(HttpDate::parse(&out), Some(date));
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(date.seconds());
        assert_eq!(HttpDate::new(time), Some(date));
    }
}

/// Whatever can be a strong tag parses back from what is written; whatever parses is written as
/// it came.
///
/// # Panics
/// Where the law does not hold.
pub fn entity_tags(input: &[u8]) {
    let is_tag = input.len() <= 78
        && input
            .iter()
            .all(|&byte| byte == 0x21 || (0x23..=0x7e).contains(&byte) || byte >= 0x80);
    let built = EntityTag::strong(input).ok();
    assert_eq!(built.is_some(), is_tag);
    if let Some(tag) = built {
        let mut out = Vec::new();
        tag.write(&mut out);
        assert_eq!(EntityTag::parse_strong(&out), Some(tag));
        assert_eq!(tag.opaque(), input);
        out.insert(0, b'/');
        out.insert(0, b'W');
        assert_eq!(
            EntityTag::parse_strong(&out),
            None,
            "a weak one is no strong one"
        );
    }
    if let Some(tag) = EntityTag::parse_strong(input) {
        let mut out = Vec::new();
        tag.write(&mut out);
        assert_eq!(out, input);
    }
}

/// Preconditions follow RFC 9110 §13.2.2 as written out naively over lists of generated tags and
/// dates, and `If-Range` holds only for what names the current version.
///
/// # Panics
/// Where the law does not hold.
pub fn preconditions(input: &[u8]) {
    const TAGS: [&str; 4] = ["a", "b", "a,b", ""];
    const SECONDS: [u64; 3] = [784_111_776, 784_111_777, 784_111_778];
    let mut choices = Choices::new(input);
    let validators = Validators {
        entity_tag: match choices.byte() % 5 {
            4 => None,
            tag => EntityTag::strong(TAGS[usize::from(tag)]).ok(),
        },
        last_modified: match choices.byte() % 4 {
            3 => None,
            second => date(SECONDS[usize::from(second)]),
        },
    };
    let mut text = b"GET / HTTP/1.1\r\n".to_vec();
    let [if_match, if_none_match] = [FieldName::IfMatch, FieldName::IfNoneMatch].map(|name| {
        let kind = choices.byte() % 4;
        if kind == 0 {
            return None;
        }
        text.extend_from_slice(name.as_str().as_bytes());
        text.extend_from_slice(b": ");
        let mut tags = Vec::new();
        if kind == 1 {
            text.extend_from_slice(b"*");
        } else {
            for index in 0..choices.below(4) {
                let tag = TAGS[choices.below(4) as usize];
                let weak = choices.flag();
                let separator = if index == 0 { "" } else { " ,, " };
                let prefix = if weak { "W/" } else { "" };
                text.extend_from_slice(format!("{separator}{prefix}\"{tag}\"").as_bytes());
                tags.push((weak, tag));
            }
        }
        text.extend_from_slice(b"\r\n");
        Some((kind == 1, tags))
    });
    let [modified_since, unmodified_since] =
        [FieldName::IfModifiedSince, FieldName::IfUnmodifiedSince].map(|name| {
            let second = match choices.byte() % 5 {
                0 => return None,
                1 => None,
                other => Some(SECONDS[usize::from(other) - 2]),
            };
            text.extend_from_slice(name.as_str().as_bytes());
            text.extend_from_slice(b": ");
            match second.and_then(date) {
                Some(date) => date.write(&mut text),
                None => text.extend_from_slice(b"yesterday"),
            }
            text.extend_from_slice(b"\r\n");
            second
        });
    let if_range = match choices.byte() % 8 {
        0 => None,
        kind @ 1..=3 => Some((None, Some(SECONDS[usize::from(kind) - 1]))),
        kind => Some((Some(TAGS[usize::from(kind) - 4]), None)),
    };
    let weak = choices.byte() % 4 == 1;
    if let Some((tag, second)) = if_range {
        text.extend_from_slice(b"If-Range: ");
        if let Some(tag) = tag {
            let prefix = if weak { "W/" } else { "" };
            text.extend_from_slice(format!("{prefix}\"{tag}\"").as_bytes());
        }
        if let Some(date) = second.and_then(date) {
            date.write(&mut text);
        }
        text.extend_from_slice(b"\r\n");
    }
    text.extend_from_slice(b"\r\n");
    let head = RequestHead::parse(&text)
        .expect("well formed")
        .expect("complete");
    let fields = head.fields(&text);

    let current = validators.entity_tag.as_ref().map(EntityTag::opaque);
    let modified = validators.last_modified.map(HttpDate::seconds);
    let listed = |list: &(bool, Vec<(bool, &str)>), weak_counts: bool| {
        list.0
            || list
                .1
                .iter()
                .any(|&(weak, tag)| (weak_counts || !weak) && current == Some(tag.as_bytes()))
    };
    let newer = |since: u64| modified.is_some_and(|modified| modified > since);
    let not_newer = |since: u64| modified.is_some_and(|modified| modified <= since);
    let first_failed = match &if_match {
        Some(list) => !listed(list, false),
        None => unmodified_since.is_some_and(newer),
    };
    let not_modified = match &if_none_match {
        Some(list) => listed(list, true),
        None => modified_since.is_some_and(not_newer),
    };
    let expected = match (first_failed, not_modified) {
        (true, _) => Precondition::Failed,
        (false, true) => Precondition::NotModified,
        (false, false) => Precondition::Holds,
    };
    assert_eq!(
        precondition::evaluate(&fields, &validators),
        expected,
        "{}",
        text.escape_ascii()
    );
    for now in [None, date(SECONDS[0]), date(SECONDS[1]), date(SECONDS[2])] {
        let holds = match if_range {
            None => true,
            Some((Some(tag), _)) => !weak && current == Some(tag.as_bytes()),
            Some((None, second)) => {
                modified.is_some()
                    && modified == second
                    && now.is_some_and(|now| Some(now.seconds()) > modified)
            }
        };
        assert_eq!(
            precondition::if_range_holds(&fields, &validators, now),
            holds,
            "{}",
            text.escape_ascii()
        );
    }
    // And any bytes at all as their values are judged without a panic, never in favour of a
    // version that is not named.
    hostile_preconditions(choices.rest(), &validators);
}

fn hostile_preconditions(value: &[u8], validators: &Validators) {
    if !field::is_field_value(value) || value.len() > 4096 {
        return;
    }
    for name in [FieldName::IfRange, FieldName::IfMatch] {
        let mut text = b"GET / HTTP/1.1\r\n".to_vec();
        text.extend_from_slice(name.as_str().as_bytes());
        text.extend_from_slice(b": ");
        text.extend_from_slice(value);
        text.extend_from_slice(b"\r\n\r\n");
        let Ok(Some(head)) = RequestHead::parse(&text) else {
            panic!("refused {}", text.escape_ascii());
        };
        let fields = head.fields(&text);
        let named = validators.entity_tag.is_some_and(|tag| {
            let mut quoted = Vec::new();
            tag.write(&mut quoted);
            naive::find(value, &quoted).is_some()
        });
        if name == FieldName::IfMatch {
            if precondition::evaluate(&fields, validators) == Precondition::Holds {
                assert!(named || value == b"*", "{}", value.escape_ascii());
            }
        } else if precondition::if_range_holds(&fields, validators, None) {
            assert!(named, "{}", value.escape_ascii());
        }
    }
}

fn date(seconds: u64) -> Option<HttpDate> {
    HttpDate::new(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

/// A token accepts what equals it and nothing else; what can be a token can be sent.
///
/// # Panics
/// Where the law does not hold.
pub fn tokens(input: &[u8]) {
    let mut choices = Choices::new(input);
    let other = choices.bytes(64).to_vec();
    let text = String::from_utf8_lossy(choices.rest()).into_owned();
    let Ok(token) = Token::new(text.clone()) else {
        let is_sendable = field::is_field_value(text.as_bytes()) && !text.contains('\t');
        assert!(!is_sendable);
        return;
    };
    assert!(token.matches(text.as_bytes()));
    assert_eq!(token.matches(&other), other == text.as_bytes());
    for end in 0..text.len().min(64) {
        assert!(
            !token.matches(&text.as_bytes()[..end]),
            "a prefix of {end} bytes"
        );
    }
    assert!(!token.matches(&[text.as_bytes(), b"x"].concat()));
    let mut changed = text.clone().into_bytes();
    for at in 0..changed.len().min(64) {
        changed[at] ^= 1;
        assert!(!token.matches(&changed), "a change at {at}");
        changed[at] ^= 1;
    }
    assert_eq!(format!("{token:?}"), "Token(…)", "the same for all");
}

/// Whatever request is written parses, to exactly what was asked for.
///
/// # Panics
/// Where the law does not hold.
pub fn request_round_trips(input: &[u8]) {
    let mut choices = Choices::new(input);
    let (first, last) = (choices.position(), choices.position());
    let range = match choices.byte() % 3 {
        0 => None,
        1 => Some((first, None)),
        _ => Some((first.min(last), Some(first.max(last)))),
    };
    let keep_alive = choices.flag();
    let if_range = EntityTag::strong(choices.bytes(80)).ok();
    let token = String::from_utf8_lossy(choices.bytes(200)).into_owned();
    let Ok(token) = Token::new(token) else { return };
    let handle = &String::from_utf8_lossy(choices.rest());
    let mut out = Vec::new();
    write_request(
        &mut out,
        &RequestFields {
            host: "127.0.0.1:80",
            token: &token,
            handle,
            range,
            if_range: if_range.filter(|_| range.is_some()),
            keep_alive,
        },
    );
    let head = match RequestHead::parse(&out) {
        Ok(Some(head)) => head,
        other => {
            // Three bytes of target for each of the handle's, at worst.
            assert!(handle.len() * 3 + 32 > START_LINE_BYTES_MAX, "{other:?}");
            return;
        }
    };
    assert_eq!(head.head_len(), out.len());
    assert_eq!((head.method, head.version), (Method::Get, Version::Http11));
    let target = Target::parse(head.target(&out));
    assert_eq!(target, Ok(Target::Handle(handle.to_string())));
    let fields = head.fields(&out);
    let Credentials::Bearer(credentials) = auth::credentials(&fields) else {
        panic!("no credentials");
    };
    assert!(token.matches(credentials));
    let asked = fields
        .single(FieldName::Range)
        .expect("one at most")
        .map(|value| naive::ranges(value).expect("a valid range"));
    assert_eq!(
        asked,
        range.map(|(first_pos, last_pos)| vec![(Some(first_pos), last_pos)])
    );
    assert_eq!(
        fields
            .single(FieldName::IfRange)
            .expect("one at most")
            .and_then(EntityTag::parse_strong),
        if_range.filter(|_| range.is_some())
    );
    assert_eq!(
        fields.has_member(FieldName::Connection, "close"),
        !keep_alive
    );
    assert!(
        fields
            .single(FieldName::Host)
            .is_ok_and(|host| host.is_some_and(is_host))
    );
    request_head(&out);
}

/// Whatever response head is written parses, to exactly what was said.
///
/// # Panics
/// Where the law does not hold.
pub fn response_round_trips(input: &[u8]) {
    const STATUS: [Status; 21] = [
        Status::Ok,
        Status::NoContent,
        Status::PartialContent,
        Status::NotModified,
        Status::BadRequest,
        Status::Unauthorized,
        Status::Forbidden,
        Status::NotFound,
        Status::MethodNotAllowed,
        Status::RequestTimeout,
        Status::PreconditionFailed,
        Status::UriTooLong,
        Status::RangeNotSatisfiable,
        Status::ExpectationFailed,
        Status::MisdirectedRequest,
        Status::TooManyRequests,
        Status::RequestHeaderFieldsTooLarge,
        Status::InternalServerError,
        Status::NotImplemented,
        Status::ServiceUnavailable,
        Status::HttpVersionNotSupported,
    ];
    let mut choices = Choices::new(input);
    let status = STATUS[choices.below(21) as usize];
    let length = choices.position();
    let (first, last) = (choices.position(), choices.position());
    let range = ContentRange::Range {
        first_pos: first.min(last),
        last_pos: first.max(last),
        complete_length: None,
    };
    let date = date(choices.u64() >> 28);
    let tag = EntityTag::strong(choices.bytes(80)).ok();
    let value = choices.rest();
    let mut out = Vec::new();
    let mut writer = HeadWriter::new(&mut out, status);
    writer.content_length(length).content_range(range);
    if let Some(date) = date {
        writer.date("Last-Modified", date);
    }
    if let Some(tag) = tag {
        writer.entity_tag(tag);
    }
    let sendable = field::is_field_value(value) && value.len() < 8192;
    if sendable {
        writer.field("Content-Type", value);
    }
    writer.end();
    let head = ResponseHead::parse(&out)
        .expect("well formed")
        .expect("complete");
    assert_eq!((head.status, head.head_len()), (status.code(), out.len()));
    assert!(status.as_str().starts_with(&status.code().to_string()));
    let fields = head.fields(&out);
    let single = |name| fields.single(name).expect("one at most");
    assert_eq!(
        single(FieldName::ContentLength).and_then(naive::number),
        Some(Some(length))
    );
    let fits = u128::from(first.abs_diff(last)) < u128::from(u64::MAX);
    assert_eq!(
        single(FieldName::ContentRange).and_then(|value| ContentRange::parse(value).ok()),
        fits.then_some(range)
    );
    assert_eq!(
        single(FieldName::LastModified).and_then(HttpDate::parse),
        date
    );
    assert_eq!(
        single(FieldName::ETag).and_then(EntityTag::parse_strong),
        tag
    );
    assert_eq!(single(FieldName::ContentType), sendable.then_some(value));
}

/// A `multipart/byteranges` content is as long as it was declared to be, and a naive reader takes
/// exactly the asked-for slices out of it.
///
/// # Panics
/// Where the law does not hold.
pub fn multipart(input: &[u8]) {
    let mut choices = Choices::new(input);
    let random = u128::from(choices.u64()) << 64 | u128::from(choices.u64());
    let count = 1 + choices.below(16);
    let cuts: Vec<_> = (0..count)
        .map(|_| (choices.byte(), choices.byte()))
        .collect();
    let content_type = String::from_utf8_lossy(choices.bytes(40)).into_owned();
    let source = choices.rest();
    if source.is_empty() || !field::is_field_value(content_type.as_bytes()) {
        return;
    }
    let boundary = Boundary::new(random);
    let mut line = Vec::new();
    boundary.write_content_type(&mut line);
    let text = line
        .strip_prefix(b"multipart/byteranges; boundary=")
        .expect("the media type")
        .to_vec();
    assert_eq!(text, format!("{random:032x}").into_bytes());
    if naive::find(source, &text).is_some() {
        return;
    }
    let spans: Vec<_> = cuts
        .iter()
        .map(|&(offset, len)| {
            let offset = usize::from(offset) % source.len();
            let len = 1 + usize::from(len) % (source.len() - offset);
            Span {
                offset: offset as u64,
                len: len as u64,
            }
        })
        .collect();
    let mut out = Vec::new();
    let slice = |span: &Span| &source[span.offset as usize..span.end() as usize];
    for (index, span) in spans.iter().enumerate() {
        boundary.write_part_head(
            &mut out,
            &PartHead {
                first: index == 0,
                content_type: content_type.as_bytes(),
                span: *span,
                complete_length: source.len() as u64,
            },
        );
        out.extend_from_slice(slice(span));
    }
    boundary.write_end(&mut out);
    assert_eq!(
        boundary.content_length(&spans, content_type.as_bytes(), source.len() as u64),
        Some(out.len() as u64)
    );
    let expected: Vec<_> = spans
        .iter()
        .map(|span| {
            let range = format!(
                "bytes {}-{}/{}",
                span.offset,
                span.offset + span.len - 1,
                source.len()
            );
            (range, slice(span).to_vec())
        })
        .collect();
    assert_eq!(naive::multipart(&out, &text), Some(expected));
}
