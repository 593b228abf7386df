//! The laws over enumerated and over random inputs.

use std::fmt;

use peer_proto::RangeSpec;
use peer_tests::check;
use proptest::{
    collection::vec,
    prelude::*,
    sample::{Index, select},
    test_runner::FileFailurePersistence,
};

/// Texts near which mistakes live; proptest edits them.
const SEEDS: &[&[u8]] = &[
    b"GET /track/a%20b?q HTTP/1.1\r\nHost: 127.0.0.1:80\r\nAuthorization: Bearer abc\r\n\
     Range: bytes=0-4,-5\r\nConnection: close\r\n\r\n",
    b"\r\nHEAD http://[::1]:80/track/x HTTP/1.0\r\nhost:a\r\nContent-Length: 5, 5\r\n\r\nhello",
    b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n0\r\n\r\n",
    b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-4/10\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.0 200\r\nETag: \"a\"\r\n  folded\r\nContent-Type:\r\n\taudio/flac\r\n\r\n x",
    b"5;x=\"y\"\r\nhello\r\n00a \t;\r\n0123456789\r\n0\r\nA: b\r\n\r\nrest",
    b"\0\0bytes=0-0, 18446744073709551616- ,-007",
    b"bytes 5-9/10",
    b"bytes */0",
    b"http://host:80/track/%C3%A9/../b?x#",
    b"Sun, 06 Nov 1994 08:49:37 GMT",
    b"Sunday, 06-Nov-94 08:49:37 GMT",
    b"W/\"a,b\", \"c\"",
    // For the fetching machine: a few bytes choose the question and the splits.
    b"\x06\x05\x04\x03HTTP/1.1 206 Partial Content\r\nETag: \"v1\"\r\nContent-Range: bytes 5-9/20\r\n\
     Content-Length: 5\r\n\r\nhello",
    b"\x02\x05\x03HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789",
    b"\0\x03HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"\x86\x05\x03HTTP/1.1 206 Partial Content\r\nETag: \"v1\"\r\nContent-Range: bytes 5-9/*\r\n\r\nhello",
    b"\0\0\x02HTTP/1.0 200 OK\r\n\r\nhello",
    // For the serving machine: twelve bytes choose the source and the splits.
    b"\0\x04\x03\0\0\0\0\0\0\0\x02\x01GET /track/a HTTP/1.1\r\nHost: h\r\n\
     Authorization: Bearer secret\r\nRange: bytes=1-4, 9-12\r\n\r\n\
     HEAD /track/a HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer secret\r\n\r\n",
    b"\x01\x05\x03\0\0\0\0\0\0\0\x02\x01GET /track/a HTTP/1.1\r\nHost: h\r\n\
     Authorization: Bearer secret\r\nRange: bytes=1-4\r\n\r\n\
     GET /track/a HTTP/1.0\r\nAuthorization: Bearer secret\r\n\r\n",
    b"\x10\x05\x03\0\0\0\0\0\0\0\x02\x01POST /track/a HTTP/1.1\r\nHost: h\r\n\
     Authorization: Bearer secret\r\nContent-Length: 5\r\n\r\nhello\
     GET /track/a HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer secret\r\n\r\n",
    b"\0\x04\0\0\0\0\0\0\0\0\x02GET /k/a HTTP/1.1\r\nHost: 127.0.0.1:80\r\nRange: bytes=1-2\r\n\r\n\
     GET http://localhost/%6b/a?t HTTP/1.1\r\nHost: [::1]\r\nOrigin: https://a\r\n\r\n\
     HEAD /k/b HTTP/1.1\r\nHost: localhost:8\r\nSec-Fetch-Site: cross-site\r\n\r\n\
     GET /k/a HTTP/1.1\r\nHost: 127.1.2.3\r\nSec-Fetch-Site: same-origin\r\n\r\n",
    b"\0\x04\0\0\0\0\0\0\0\0\x02OPTIONS /track/a HTTP/1.1\r\nHost: h\r\nOrigin: https://a\r\n\
     Access-Control-Request-Method: GET\r\n\r\n\
     GET /track/a HTTP/1.1\r\nHost: h\r\nOrigin: https://a\r\nAuthorization: Bearer secret\r\n\r\n",
];

#[derive(Clone, Debug)]
enum Edit {
    Insert(Index, u8),
    Remove(Index),
    Replace(Index, u8),
    Repeat(Index, u8),
    Cut(Index),
    Join(usize),
}

/// A byte, more often one that means something.
fn byte() -> impl Strategy<Value = u8> {
    prop_oneof![
        3 => select(&b"\r\n \t:,;=-/*\"%0159aAZ[]?#\0\x7f\xff"[..]),
        1 => any::<u8>(),
    ]
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        (any::<Index>(), byte()).prop_map(|(at, byte)| Edit::Insert(at, byte)),
        any::<Index>().prop_map(Edit::Remove),
        (any::<Index>(), byte()).prop_map(|(at, byte)| Edit::Replace(at, byte)),
        (any::<Index>(), any::<u8>()).prop_map(|(at, times)| Edit::Repeat(at, times)),
        any::<Index>().prop_map(Edit::Cut),
        (0..SEEDS.len()).prop_map(Edit::Join),
    ]
}

/// Bytes that a failure shows as text.
#[derive(Clone)]
struct Input(Vec<u8>);

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.0.escape_ascii())
    }
}

/// A seed after a few edits, or bytes of no meaning at all.
fn input() -> impl Strategy<Value = Input> {
    let edited = (select(SEEDS), vec(edit(), 0..6)).prop_map(|(seed, edits)| {
        let mut text = seed.to_vec();
        for edit in edits {
            let len = text.len();
            match edit {
                Edit::Insert(at, byte) => text.insert(at.index(len + 1), byte),
                Edit::Join(seed) => text.extend_from_slice(SEEDS[seed]),
                _ if len == 0 => {}
                Edit::Remove(at) => drop(text.remove(at.index(len))),
                Edit::Replace(at, byte) => text[at.index(len)] = byte,
                Edit::Repeat(at, times) => {
                    let tail = text[at.index(len)..].to_vec();
                    for _ in 0..usize::from(times).min(20_000 / tail.len()) {
                        text.extend_from_slice(&tail);
                    }
                }
                Edit::Cut(at) => text.truncate(at.index(len)),
            }
        }
        text
    });
    prop_oneof![4 => edited, 1 => vec(byte(), 0..200)].prop_map(Input)
}

fn config() -> ProptestConfig {
    ProptestConfig {
        cases: 400,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/it/laws.regressions"
        )))),
        ..ProptestConfig::default()
    }
}

macro_rules! laws {
    ($($name:ident,)*) => {
        proptest! {
            #![proptest_config(config())]
            $(#[test] fn $name(input in input()) { check::$name(&input.0); })*
        }
    };
}

laws! {
    chunked,
    content_range,
    dates,
    entity_tags,
    fetch,
    fetch_facts,
    fetch_honest,
    multipart,
    preconditions,
    range_field,
    request_head,
    request_round_trips,
    response_head,
    response_round_trips,
    server,
    server_bridge,
    server_facts,
    server_web,
    target,
    tokens,
}

/// Every range over every short length, and over lengths and positions where 64 bits end.
#[test]
fn every_range_selects_what_slicing_selects() {
    let small = 0..=12u64;
    let edges = [1 << 32, 1 << 63, u64::MAX]
        .into_iter()
        .flat_map(|edge: u64| (-2..=2).map(move |by| edge.saturating_add_signed(by)));
    let mut positions: Vec<_> = small.chain(edges).collect();
    positions.dedup();
    for &length in &positions {
        for &first_pos in &positions {
            check::selects(
                RangeSpec::Suffix {
                    suffix_length: first_pos,
                },
                length,
            );
            let open = RangeSpec::Int {
                first_pos,
                last_pos: None,
            };
            check::selects(open, length);
            for &last_pos in positions.iter().filter(|&&last_pos| last_pos >= first_pos) {
                let closed = RangeSpec::Int {
                    first_pos,
                    last_pos: Some(last_pos),
                };
                check::selects(closed, length);
            }
        }
    }
}

/// What was walked over, held against the names of all the states there are.
fn assert_walked(walked: &check::walk::Walked, names: &[&str], least: usize) {
    println!("{walked}");
    assert_eq!(walked.names(), names);
    // What gets lost of the facts, or of the ways to a state, makes a walk shorter.
    assert!(walked.states >= least, "{} states", walked.states);
    assert!(walked.ends > 0 && walked.bugs > 0 && walked.facts > walked.states);
}

#[test]
fn every_fact_in_every_state_of_a_server_connection() {
    let names = [
        "answer",
        "authorize",
        "closed",
        "discard",
        "half-close",
        "head",
        "linger",
        "present",
        "resolve",
        "spans",
        "stream",
    ];
    assert_walked(&check::walk::servers(), &names, 7000);
}

#[test]
fn every_fact_in_every_state_of_a_fetch() {
    let names = [
        "buffered content",
        "content",
        "done",
        "done, short",
        "failed: AnotherRange",
        "failed: Changed",
        "failed: Chunk",
        "failed: ContentEncoding",
        "failed: ContentRange",
        "failed: Framing",
        "failed: Head",
        "failed: HeadCut",
        "failed: LengthMismatch",
        "failed: Multipart",
        "failed: NoAnswer",
        "failed: NotFound",
        "failed: RangeNotSatisfiable",
        "failed: Status",
        "failed: SwitchingProtocols",
        "failed: TooLong",
        "failed: TooManyInterimAnswers",
        "failed: Truncated",
        "failed: Unauthorized",
        "failed: timed out: Head",
        "failed: timed out: Stall",
        "failed: timed out: Whole",
        "framing",
        "head",
        "sending",
        "skipped content",
    ];
    assert_walked(&check::walk::fetches(), &names, 2000);
}

#[test]
fn every_fact_in_every_state_of_a_transfer() {
    let names = [
        "attempt",
        "attempt again",
        "attempt to continue",
        "attempt without range",
        "done",
        "failed",
        "wait",
    ];
    assert_walked(&check::walk::transfers(), &names, 2500);
}
