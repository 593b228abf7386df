//! The requests of players, in the order in which they make them, and exactly what they are answered.
//!
//! A step is what the player sends and what it must get: status, the range it is told, and the bytes.
//! A player that has seen enough closes its connection in the midst of an answer.

use cranpose_services::peer::BytesSource;

use super::*;

const LEN: u64 = 700_000;

/// How a step ends.
enum Then {
    /// The whole answer is read, and the connection kept.
    Keep,
    /// So many bytes are read, and the connection is closed.
    Leave(usize),
}

struct Step {
    method: &'static str,
    lines: &'static [&'static str],
    /// Status, and the first and last position of what is sent.
    answer: (u16, u64, u64),
    then: Then,
}

const fn step(lines: &'static [&'static str], answer: (u16, u64, u64), then: Then) -> Step {
    Step {
        method: "GET",
        lines,
        answer,
        then,
    }
}

fn play(steps: &[Step]) {
    let bytes = sample(LEN as usize);
    let origin = BytesSource::new(bytes.clone()).with_content_type("audio/mpeg");
    let tag = peer_tests::raw::show(origin.entity_tag().unwrap().opaque());
    let server = serve_one(origin);
    let bridge = PeerBridge::start().unwrap();
    let url = bridge
        .url(&client(server.local_addr()), "a", "Söng #1.mp3")
        .unwrap();
    let host = bridge.local_addr().to_string();
    let mut kept: Option<RawPeer> = None;
    for (number, step) in steps.iter().enumerate() {
        let mut peer = kept
            .take()
            .unwrap_or_else(|| RawPeer::connect(bridge.local_addr()).unwrap());
        peer.send(&request(step.method, target(&url), &host, step.lines))
            .unwrap();
        let head = peer.read_head().unwrap().unwrap();
        let (status, first, last) = step.answer;
        assert_eq!(head.status, status, "step {number}: {head:?}");
        let expected: &[u8] = match status {
            416 => b"416 Range Not Satisfiable\n",
            _ => &bytes[first as usize..=last as usize],
        };
        let fields = |names: &[&str]| {
            let value = |name: &&str| head.field(name).map(str::to_owned);
            names.iter().map(value).collect::<Vec<_>>()
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            head.field("Content-Length"),
            Some(&*expected.len().to_string())
        );
        let range = match status {
            200 => None,
            206 => Some(format!("bytes {first}-{last}/{LEN}")),
            _ => Some(format!("bytes */{LEN}")),
        };
        assert_eq!(
            head.field("Content-Range").map(str::to_owned),
            range,
            "step {number}"
        );
        if status != 416 {
            assert_eq!(
                fields(&["Accept-Ranges", "Content-Type", "Cache-Control", "ETag"]),
                [
                    some("bytes"),
                    some("audio/mpeg"),
                    some("private, no-cache, no-transform"),
                    Some(format!("\"{tag}\"")),
                ],
                "step {number}"
            );
            let policy = head.field("Cross-Origin-Resource-Policy");
            assert_eq!(policy, Some("same-origin"));
            assert_eq!(head.field("X-Content-Type-Options"), Some("nosniff"));
        }
        assert_eq!(
            fields(&[
                "Connection",
                "Transfer-Encoding",
                "Access-Control-Allow-Origin"
            ]),
            [None, None, None]
        );
        let read = match (step.method, &step.then) {
            ("HEAD", _) => continue,
            (_, Then::Keep) => expected.len(),
            (_, Then::Leave(read)) => *read,
        };
        let (content, cut) = peer.read_length(read as u64).unwrap();
        assert!(
            cut.is_none() && content == expected[..read],
            "step {number}"
        );
        if matches!(step.then, Then::Keep) {
            assert!(peer.left_over().is_empty(), "step {number}");
            kept = Some(peer);
        }
    }
    // All of it from the peer, and nothing of what the player left was fetched to its end.
    let stats = bridge.stats().server;
    assert_eq!(
        stats.source_failed + bridge.stats().server.tokens_refused,
        0,
        "{stats:?}"
    );
}

#[test]
fn avplayer_probes_two_bytes_then_asks_for_all_cancels_and_goes_on() {
    const UA: &str =
        "User-Agent: AppleCoreMedia/1.0.0.21A329 (iPhone; U; CPU OS 17_0 like Mac OS X)";
    const COMMON: [&str; 4] = [
        UA,
        "Accept: */*",
        "Accept-Encoding: identity",
        "Connection: keep-alive",
    ];
    play(&[
        step(
            &[
                "X-Playback-Session-Id: 1",
                "Range: bytes=0-1",
                COMMON[0],
                COMMON[1],
                COMMON[2],
                COMMON[3],
            ],
            (206, 0, 1),
            Then::Keep,
        ),
        step(
            &["Range: bytes=0-699999", UA, COMMON[2]],
            (206, 0, 699_999),
            Then::Leave(65_536),
        ),
        step(
            &["Range: bytes=655360-699999", UA],
            (206, 655_360, 699_999),
            Then::Keep,
        ),
        step(
            &["Range: bytes=65536-131071", UA],
            (206, 65_536, 131_071),
            Then::Keep,
        ),
        step(
            &["Range: bytes=131072-699999", UA],
            (206, 131_072, 699_999),
            Then::Leave(10),
        ),
        step(
            &["Range: bytes=300000-699999", UA],
            (206, 300_000, 699_999),
            Then::Keep,
        ),
        // Longer than the source: all that there is, and no less.
        step(
            &["Range: bytes=699990-900000", UA],
            (206, 699_990, 699_999),
            Then::Keep,
        ),
    ]);
}

#[test]
fn media3_asks_without_a_range_then_from_where_it_is_and_past_the_end() {
    const UA: &str = "User-Agent: app/1.0 (Linux;Android 14) AndroidXMedia3/1.4.1";
    const GZIP: &str = "Accept-Encoding: identity";
    play(&[
        step(
            &[UA, GZIP, "Connection: Keep-Alive"],
            (200, 0, 699_999),
            Then::Leave(200_000),
        ),
        step(
            &[UA, GZIP, "Range: bytes=200000-"],
            (206, 200_000, 699_999),
            Then::Leave(1),
        ),
        step(
            &[UA, GZIP, "Range: bytes=699999-"],
            (206, 699_999, 699_999),
            Then::Keep,
        ),
        // At the end it takes this for the end, by the length behind the star.
        step(&[UA, GZIP, "Range: bytes=700000-"], (416, 0, 0), Then::Keep),
        step(
            &[UA, GZIP, "Range: bytes=0-"],
            (206, 0, 699_999),
            Then::Keep,
        ),
    ]);
}

#[test]
fn chromium_asks_for_all_cancels_and_asks_from_where_it_wants() {
    const FETCH: [&str; 5] = [
        "Sec-Fetch-Site: same-origin",
        "Sec-Fetch-Mode: no-cors",
        "Sec-Fetch-Dest: audio",
        "Accept-Encoding: identity;q=1, *;q=0",
        "Referer: http://127.0.0.1/",
    ];
    const ALL: &[&str] = &[
        "Range: bytes=0-",
        FETCH[0],
        FETCH[1],
        FETCH[2],
        FETCH[3],
        FETCH[4],
    ];
    const END: &[&str] = &[
        "Range: bytes=688128-",
        FETCH[0],
        FETCH[1],
        FETCH[2],
        FETCH[3],
    ];
    const MIDDLE: &[&str] = &[
        "Range: bytes=327680-",
        FETCH[0],
        FETCH[1],
        FETCH[2],
        FETCH[3],
    ];
    const BACK: &[&str] = &[
        "Range: bytes=65536-",
        FETCH[0],
        FETCH[1],
        FETCH[2],
        FETCH[3],
    ];
    play(&[
        step(ALL, (206, 0, 699_999), Then::Leave(32_768)),
        step(END, (206, 688_128, 699_999), Then::Keep),
        step(MIDDLE, (206, 327_680, 699_999), Then::Leave(100_000)),
        step(BACK, (206, 65_536, 699_999), Then::Leave(1)),
        step(MIDDLE, (206, 327_680, 699_999), Then::Keep),
        step(ALL, (206, 0, 699_999), Then::Keep),
    ]);
}

#[test]
fn others_ask_for_the_head_first_or_for_the_end() {
    const HEAD: Step = Step {
        method: "HEAD",
        lines: &["User-Agent: VLC/3.0"],
        answer: (200, 0, 699_999),
        then: Then::Keep,
    };
    play(&[
        HEAD,
        step(
            &["Range: bytes=-65536", "Icy-MetaData: 1"],
            (206, 634_464, 699_999),
            Then::Keep,
        ),
        step(
            &["Range: bytes=0-", "TE: trailers"],
            (206, 0, 699_999),
            Then::Leave(5),
        ),
        HEAD,
    ]);
}
