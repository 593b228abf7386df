//! RFC 9110 §14.1.2, §14.2, §14.6, §15.3.7.2: several ranges in one request.

use super::*;

fn ranged(handle: &str, range: &str) -> Vec<u8> {
    get(handle, &[&format!("Range: bytes={range}")])
}

/// `multipart/byteranges` with these parts of the letters.
fn parts(ranges: &[(u64, u64)]) -> Answer {
    answer(206).parts(LETTERS, ranges).lacks("Content-Range")
}

#[test]
fn ascending_and_apart() {
    run_table(&[
        stays(
            "two",
            ranged("letters", "0-0,2-2"),
            parts(&[(0, 0), (2, 2)]),
        ),
        stays(
            "two longer",
            ranged("letters", "0-4,10-14"),
            parts(&[(0, 4), (10, 14)]),
        ),
        stays(
            "a space",
            ranged("letters", "0-4, 10-14"),
            parts(&[(0, 4), (10, 14)]),
        ),
        stays(
            "white space everywhere",
            ranged("letters", "0-4 \t, \t 10-14"),
            parts(&[(0, 4), (10, 14)]),
        ),
        stays(
            "empty elements",
            ranged("letters", ",0-4,,10-14,"),
            parts(&[(0, 4), (10, 14)]),
        ),
        stays(
            "the last one open",
            ranged("letters", "0-4,10-"),
            parts(&[(0, 4), (10, 25)]),
        ),
        stays(
            "the last one too long",
            ranged("letters", "0-4,20-99"),
            parts(&[(0, 4), (20, 25)]),
        ),
        stays(
            "the last one a suffix",
            ranged("letters", "0-0,-1"),
            parts(&[(0, 0), (25, 25)]),
        ),
        stays(
            "first and last",
            ranged("letters", "0-0,25-25"),
            parts(&[(0, 0), (25, 25)]),
        ),
        stays(
            "one byte between",
            ranged("letters", "0-11,13-25"),
            parts(&[(0, 11), (13, 25)]),
        ),
        stays(
            "three",
            ranged("letters", "1-2,5-6,9-10"),
            parts(&[(1, 2), (5, 6), (9, 10)]),
        ),
        stays(
            "no content type",
            ranged("bare", "1-2,5-6"),
            answer(206).parts(LETTERS, &[(1, 2), (5, 6)]),
        ),
        ends(
            "close",
            get("letters", &["Range: bytes=1-2,5-6", "Connection: close"]),
            parts(&[(1, 2), (5, 6)]),
        ),
        either(
            "1.0",
            head(&["GET /track/letters HTTP/1.0", AUTH, "Range: bytes=1-2,5-6"]),
            parts(&[(1, 2), (5, 6)]),
        ),
        stays(
            "matching If-Range",
            get(
                "letters",
                &["Range: bytes=1-2,5-6", "If-Range: \"letters-1\""],
            ),
            parts(&[(1, 2), (5, 6)]),
        ),
        stays(
            "other If-Range",
            get("letters", &["Range: bytes=1-2,5-6", "If-Range: \"x\""]),
            letters(),
        ),
        stays(
            "unit in capitals",
            get("letters", &["Range: BYTES=1-2,5-6"]),
            parts(&[(1, 2), (5, 6)]),
        ),
        Row::new(
            "twice on one connection",
            joined(&[
                &ranged("letters", "1-2,5-6"),
                &ranged("letters", "0-0,3-3"),
                &ranged("letters", "7-7"),
            ]),
            vec![
                parts(&[(1, 2), (5, 6)]),
                parts(&[(0, 0), (3, 3)]),
                part(7, 7),
            ],
            Then::Stays,
        ),
    ]);
}

#[test]
fn that_leave_one_range() {
    // §15.3.7.2: a multipart answer to what is one range is not for a client that asked for one;
    // for several that leave one, the single range is the simpler right answer.
    run_table(&[
        stays(
            "one past the end",
            ranged("letters", "0-4,30-34"),
            part(0, 4),
        ),
        stays(
            "the first past the end",
            ranged("letters", "30-34,0-4"),
            part(0, 4),
        )
        .or(letters(), Then::Stays),
        stays("a suffix of none", ranged("letters", "0-4,-0"), part(0, 4)),
        stays("touching", ranged("letters", "0-4,5-9"), part(0, 9)),
        stays(
            "three touching",
            ranged("letters", "0-4,5-9,10-12"),
            part(0, 12),
        ),
        stays(
            "touching the suffix",
            ranged("letters", "0-20,-5"),
            part(0, 25),
        ),
        stays(
            "all past the end",
            ranged("letters", "30-34,40-"),
            unsatisfiable(),
        ),
        stays(
            "all past the end and a suffix of none",
            ranged("letters", "30-34,-0"),
            unsatisfiable(),
        ),
        stays(
            "one of an empty source",
            ranged("empty", "0-0,2-2"),
            answer(200).has("Content-Length", "0"),
        ),
        stays(
            "of one byte",
            ranged("one", "0-0,2-2"),
            answer(206)
                .has("Content-Range", "bytes 0-0/1")
                .content(b"x"),
        ),
    ]);
}

#[test]
fn overlapping_or_out_of_order() {
    // §14.2, §17.15: such sets may be attacks; merged or whole, and never more than the source.
    let merged = |name: &str, range: &str, first: usize, last: usize| {
        stays(name, ranged("letters", range), part(first, last)).or(letters(), Then::Stays)
    };
    let whole = |name: &str, range: &str| stays(name, ranged("letters", range), letters());
    let mut rows = vec![
        merged("overlapping", "0-9,5-14", 0, 14),
        merged("the same twice", "3-5,3-5", 3, 5),
        merged("one within another", "0-20,5-6", 0, 20),
        merged("one within a later one", "5-6,5-20", 5, 20),
        merged("three overlapping", "0-9,5-14,12-20", 0, 20),
        merged("open twice", "5-,5-", 5, 25),
        merged("open and later", "5-,10-", 5, 25),
        merged("suffixes", "-5,-10", 16, 25),
        merged("whole and a part", "0-,3-4", 0, 25),
        merged("descending and touching", "5-9,0-4", 0, 9),
        merged("descending and overlapping", "5-14,0-9", 0, 14),
    ];
    // Sorted by a server or answered whole; both are right, more bytes than the source are not.
    for (name, range, sorted) in [
        ("descending", "10-14,0-4", &[(0, 4), (10, 14)][..]),
        ("descending single bytes", "2-2,0-0", &[(0, 0), (2, 2)]),
        (
            "three out of order",
            "5-6,20-21,0-1",
            &[(0, 1), (5, 6), (20, 21)],
        ),
        ("suffix first", "-1,0-0", &[(0, 0), (25, 25)]),
        (
            "two that merge and one",
            "0-4,3-9,20-21",
            &[(0, 9), (20, 21)],
        ),
        (
            "two that touch and one",
            "0-4,5-9,20-21",
            &[(0, 9), (20, 21)],
        ),
    ] {
        let first = sorted[0].0 as usize;
        let last = sorted[sorted.len() - 1].1 as usize;
        rows.push(
            whole(name, range)
                .or(part(first, last), Then::Stays)
                .or(parts(sorted), Then::Stays),
        );
    }
    // The classic attack: many overlapping ranges of everything.
    let killer = (0..1000)
        .map(|n| format!("{n}-"))
        .collect::<Vec<_>>()
        .join(",");
    rows.push(merged("a thousand open ranges", &killer, 0, 25));
    let killer = format!("0-{}", ",0-".repeat(1000));
    rows.push(merged("everything a thousand times", &killer, 0, 25));
    run_table(&rows);
}

#[test]
fn how_many() {
    // Every other byte: what is apart stays apart.
    let spec = |n: u64, step: u64| {
        (0..n)
            .map(|i| format!("{0}-{0}", i * step))
            .collect::<Vec<_>>()
            .join(",")
    };
    let ranges = |n: u64, step: u64| (0..n).map(|i| (i * step, i * step)).collect::<Vec<_>>();
    let middle = patterned(0, MIDDLE as usize);
    let of_middle = |n: u64| {
        answer(206)
            .parts(&middle, &ranges(n, 100))
            .lacks("Content-Range")
    };
    let whole = || ok(&middle).lacks("Content-Range");
    let merged = |n: u64| {
        let last = (n - 1) * 100;
        answer(206)
            .content(&middle[..=last as usize])
            .has("Content-Range", &format!("bytes 0-{last}/{MIDDLE}"))
    };
    let mut rows: Vec<Row> = (2..=13)
        .map(|n| {
            stays(
                format!("{n} letters"),
                ranged("letters", &spec(n, 2)),
                parts(&ranges(n, 2)),
            )
        })
        .collect();
    for n in [2, 15, 16] {
        rows.push(stays(
            format!("{n} of middle"),
            ranged("middle", &spec(n, 100)),
            of_middle(n),
        ));
    }
    for n in [17, 18, 100, 500] {
        let row = stays(
            format!("{n} of middle"),
            ranged("middle", &spec(n, 100)),
            whole(),
        );
        rows.push(row.or(merged(n), Then::Stays));
    }
    // 34 ranges that touch in pairs.
    let pairs: Vec<String> = (0..17)
        .map(|i| format!("{}-{},{}-{}", i * 20, i * 20 + 4, i * 20 + 5, i * 20 + 9))
        .collect();
    let last = 16 * 20 + 9;
    rows.push(
        stays(
            "34 that merge to 17",
            ranged("middle", &pairs.join(",")),
            whole(),
        )
        .or(
            answer(206)
                .content(&middle[..=last])
                .has("Content-Range", &format!("bytes 0-{last}/{MIDDLE}")),
            Then::Stays,
        ),
    );
    let touching: Vec<String> = (0..100).map(|i| format!("{0}-{0}", i)).collect();
    rows.push(
        stays(
            "100 that merge to one",
            ranged("middle", &touching.join(",")),
            whole(),
        )
        .or(
            answer(206)
                .content(&middle[..100])
                .has("Content-Range", &format!("bytes 0-99/{MIDDLE}")),
            Then::Stays,
        ),
    );
    // Parts of many blocks.
    let big = patterned(0, BIG as usize);
    rows.push(stays(
        "long parts",
        ranged("big", "0-999999,1000001-2000000,2500000-"),
        answer(206).parts(
            &big,
            &[(0, 999_999), (1_000_001, 2_000_000), (2_500_000, BIG - 1)],
        ),
    ));
    run_table(&rows);
}

/// The answer to `bytes` on a connection of its own.
fn exchange(server: &PeerServer, bytes: &[u8]) -> Response {
    let mut peer = RawPeer::connect(server.local_addr()).unwrap();
    peer.send(bytes).unwrap();
    let response = peer.read_response(false).unwrap().unwrap();
    house_rules(&response, false).unwrap();
    response
}

#[test]
fn fields_of_parts() {
    // §15.3.7.2: Content-Type belongs in each part where the whole would have one; Content-Range
    // belongs in each part and never in the header section; and the length is exact.
    let server = start();
    let response = exchange(&server, &ranged("letters", "0-4,10-14"));
    assert_eq!(response.status(), 206);
    assert!(
        matches!(response.framing, Framing::Length(_)),
        "{:?}",
        response.framing
    );
    assert_eq!(response.field("ETag"), Some(LETTERS_TAG));
    assert_eq!(response.field("Accept-Ranges"), Some("bytes"));
    let parts = parse_byteranges(&response.content, &boundary(&response).unwrap()).unwrap();
    for part in &parts {
        let names: Vec<String> = part
            .fields
            .iter()
            .map(|(n, _)| n.to_ascii_lowercase())
            .collect();
        assert_eq!(
            names.iter().filter(|n| *n == "content-type").count(),
            1,
            "{names:?}"
        );
        assert_eq!(
            names.iter().filter(|n| *n == "content-range").count(),
            1,
            "{names:?}"
        );
        assert!(
            !names
                .iter()
                .any(|n| n == "content-length" || n == "transfer-encoding")
        );
        let media_type = part
            .fields
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case("content-type"));
        assert_eq!(media_type.unwrap().1, "audio/x-letters");
        assert_eq!(part.range.2, Some(26));
    }
}

#[test]
fn of_a_source_beyond_2_to_the_40() {
    let server = start();
    let (near, far) = (HUGE - 5, HUGE - 1);
    let range = format!("4294967294-4294967297,1099511627776-1099511627779,{near}-");
    let response = exchange(&server, &ranged("huge", &range));
    assert_eq!(response.status(), 206);
    let parts = parse_byteranges(&response.content, &boundary(&response).unwrap()).unwrap();
    let expected = [
        (4_294_967_294, 4_294_967_297),
        (1 << 40, (1 << 40) + 3),
        (near, far),
    ];
    assert_eq!(parts.len(), expected.len());
    for (part, (first, last)) in parts.iter().zip(expected) {
        assert_eq!(part.range, (first, last, Some(HUGE)));
        assert_eq!(part.content, patterned(first, (last - first + 1) as usize));
    }
}

#[test]
fn that_no_length_can_say() {
    // Two ranges that leave one byte of 2^64 - 1 out: with its boundaries, a multipart answer
    // would be longer than any Content-Length. They are satisfiable, so a 416 would be untrue.
    let server = start();
    let range = "bytes=0-9223372036854775807,9223372036854775809-";
    let mut peer = RawPeer::connect(server.local_addr()).unwrap();
    peer.send(&get("max", &[&format!("Range: {range}")]))
        .unwrap();
    let head = peer.read_head().unwrap().unwrap();
    match head.status {
        200 => assert_eq!(head.field("Content-Length"), Some("18446744073709551615")),
        206 => assert_eq!(
            head.field("Content-Range"),
            Some("bytes 0-18446744073709551614/18446744073709551615")
        ),
        status => panic!("{status} {:?}", head.fields),
    }
}

/// Content that its owner can replace: what a sender of the content could do who has seen an
/// earlier answer.
struct Replaceable(Mutex<Vec<u8>>);

impl ByteSource for Replaceable {
    fn len(&self) -> Option<u64> {
        Some(self.0.lock().unwrap().len() as u64)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let content = self.0.lock().unwrap();
        let rest = &content[(offset as usize).min(content.len())..];
        let n = rest.len().min(buf.len());
        buf[..n].copy_from_slice(&rest[..n]);
        Ok(n)
    }
}

#[test]
fn content_cannot_forge_a_boundary() {
    // RFC 2046 §5.1.1: the boundary must not appear in the parts. A server that does not read the
    // content ahead can only choose one that its author cannot know.
    let source = Arc::new(Replaceable(Mutex::new(vec![b'-'; 400])));
    let shared: Arc<dyn ByteSource> = source.clone();
    let server = start_with(BTreeMap::from([("forged".to_owned(), shared)]));
    for _ in 0..3 {
        let before = boundary(&exchange(&server, &ranged("forged", "0-199,201-399"))).unwrap();
        let mut forged = format!("\r\n--{before}--\r\n").into_bytes();
        forged.resize(400, b'-');
        source.0.lock().unwrap().clone_from(&forged);
        let response = exchange(&server, &ranged("forged", "0-199,201-399"));
        let now = boundary(&response).unwrap();
        let inside = peer_tests::raw::find(&forged, format!("--{now}").as_bytes());
        assert_eq!(inside, None, "the boundary {now} is in the content");
    }
}
