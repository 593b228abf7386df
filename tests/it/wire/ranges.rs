//! RFC 9110 §14: one range of a source.

use super::*;

fn ranged(handle: &str, range: &str) -> Vec<u8> {
    get(handle, &[&format!("Range: {range}")])
}

#[test]
fn satisfiable() {
    let rows: Vec<Row> = [
        ("bytes=0-0", 0, 0),
        ("bytes=0-4", 0, 4),
        ("bytes=4-4", 4, 4),
        ("bytes=3-7", 3, 7),
        ("bytes=25-25", 25, 25),
        ("bytes=24-25", 24, 25),
        ("bytes=0-25", 0, 25),
        ("bytes=0-", 0, 25),
        ("bytes=1-", 1, 25),
        ("bytes=25-", 25, 25),
        // A last position at or past the end is the end.
        ("bytes=0-26", 0, 25),
        ("bytes=20-99", 20, 25),
        ("bytes=25-26", 25, 25),
        ("bytes=1-4294967295", 1, 25),
        ("bytes=1-4294967296", 1, 25),
        ("bytes=1-9223372036854775807", 1, 25),
        ("bytes=1-9223372036854775808", 1, 25),
        ("bytes=1-18446744073709551614", 1, 25),
        ("bytes=1-18446744073709551615", 1, 25),
        ("bytes=1-18446744073709551616", 1, 25),
        (
            "bytes=1-99999999999999999999999999999999999999999999",
            1,
            25,
        ),
        ("bytes=-1", 25, 25),
        ("bytes=-5", 21, 25),
        ("bytes=-25", 1, 25),
        ("bytes=-26", 0, 25),
        ("bytes=-27", 0, 25),
        ("bytes=-18446744073709551615", 0, 25),
        ("bytes=-18446744073709551616", 0, 25),
        ("bytes=-99999999999999999999999999999999999999999999", 0, 25),
        // Digits are digits: leading zeros change nothing.
        ("bytes=000-004", 0, 4),
        ("bytes=00000000000000000000000000000000000003-7", 3, 7),
        ("bytes=-005", 21, 25),
        // §14.1: range units are case-insensitive.
        ("BYTES=3-7", 3, 7),
        ("Bytes=3-7", 3, 7),
        ("bYtEs=-5", 21, 25),
        // §5.6.1.2: empty list elements are parsed and ignored.
        ("bytes=,3-7", 3, 7),
        ("bytes=3-7,", 3, 7),
        ("bytes=, ,3-7", 3, 7),
        ("bytes=3-7 ,", 3, 7),
    ]
    .into_iter()
    .map(|(range, first, last)| stays(range, ranged("letters", range), part(first, last)))
    .collect();
    run_table(&rows);
}

#[test]
fn unsatisfiable_at_the_end() {
    let rows: Vec<Row> = [
        "bytes=26-",
        "bytes=26-26",
        "bytes=26-30",
        "bytes=27-",
        "bytes=99-100",
        "bytes=4294967296-",
        "bytes=4294967297-4294967300",
        "bytes=9223372036854775808-",
        "bytes=18446744073709551615-",
        "bytes=18446744073709551616-",
        "bytes=18446744073709551617-18446744073709551618",
        "bytes=99999999999999999999999999999999999999-",
        "bytes=-0",
        "bytes=-00",
        "bytes=00026-",
        "bytes=,26-",
        "bytes=26-,-0",
        "bytes=30-31,40-",
    ]
    .into_iter()
    .map(|range| stays(range, ranged("letters", range), unsatisfiable()))
    .collect();
    run_table(&rows);
}

#[test]
fn ignored() {
    let mut rows: Vec<Row> = [
        // §14.2: an unknown unit MUST be ignored.
        "items=0-4",
        "byte=0-4",
        "bytesx=0-4",
        "seconds=1-2",
        "none=0-4",
        "lines=1-2,4-5",
        "x=-1",
        "byt=0-",
        // No ranges-specifier at all.
        "",
        "bytes",
        "bytes=",
        "=0-4",
        "0-4",
        "bytes:0-4",
        "bytes 0-4",
        "bytes;0-4",
        "bytes==0-4",
        "bytes= ",
        "\"bytes=0-4\"",
        "bytes=\"0-4\"",
        "bytes=0-4/26",
        "bytes 0-4/26",
        "bytes=*",
        "bytes=*/26",
        // No range-spec.
        "bytes=-",
        "bytes=--",
        "bytes=--5",
        "bytes=-5-",
        "bytes=5",
        "bytes=a-b",
        "bytes=0-b",
        "bytes=a-4",
        "bytes=0x0-0x4",
        "bytes=0-4x",
        "bytes=x0-4",
        "bytes=+0-4",
        "bytes=0-+4",
        "bytes=-+5",
        "bytes=0--4",
        "bytes=0-4-8",
        "bytes=0_4",
        "bytes=0.0-4",
        "bytes=0-4.0",
        "bytes=1e0-4",
        "bytes=0-4;q=1",
        "bytes=0:4",
        "bytes=0..4",
        "bytes=0–4",
        "bytes=٠-٤",
        "bytes=０-４",
        "bytes=0-4\u{a0}",
        "bytes=-5x",
        "bytes=first-last",
        "bytes=-1-5",
        "bytes={0-4}",
        "bytes=[0-4]",
        "bytes=(0-4)",
        // §14.1.1: a last position before the first is invalid, and spoils the whole set.
        "bytes=4-3",
        "bytes=25-0",
        "bytes=1-0",
        "bytes=30-29",
        "bytes=0-0,5-4",
        "bytes=5-4,0-0",
        "bytes=0-4,x",
        "bytes=0-4,-",
        "bytes=0-4,8",
        "bytes=9223372036854775808-9223372036854775807",
        // White space inside a range-spec, and other separators.
        "bytes=0 -4",
        "bytes=0- 4",
        "bytes=0 - 4",
        "bytes=- 5",
        "bytes =0-4",
        "bytes = 0-4",
        "bytes=0-4 6-8",
        "bytes=0-4;6-8",
        "bytes=0-4\t6-8",
        "bytes=0-1 bytes=3-4",
        "bytes=0-1,bytes=3-4",
        "bytes=0-1, lines=3-4",
    ]
    .into_iter()
    .map(|range| stays(format!("{range:?}"), ranged("letters", range), letters()))
    .collect();
    for (range, first, last) in [
        ("bytes= 0-4", 0, 4),
        ("bytes=\t0-4", 0, 4),
        ("bytes=,", 0, 25),
    ] {
        // Not what the grammar says, yet a list that some parsers see: ignored, or understood.
        let row = stays(format!("{range:?}"), ranged("letters", range), letters());
        rows.push(row.or(part(first, last), Then::Stays));
    }
    // Both saturate: reversed or past the end, and in no case a range of bytes.
    let saturated = "bytes=18446744073709551617-18446744073709551616";
    rows.push(
        stays("saturated", ranged("letters", saturated), letters())
            .or(unsatisfiable(), Then::Stays),
    );
    run_table(&rows);
}

#[test]
fn of_an_empty_source() {
    let none = || {
        answer(200)
            .has("Content-Length", "0")
            .lacks("Content-Range")
            .content(b"")
    };
    let mut rows = vec![stays("no range", get("empty", &[]), none())];
    for range in [
        "bytes=0-",
        "bytes=0-0",
        "bytes=1-",
        "bytes=5-9",
        "bytes=-1",
        "bytes=-0",
        "bytes=-99",
        "bytes=0-0,2-2",
        "bytes=0-,-1",
        "bytes=x",
        "lines=0-",
        "bytes=18446744073709551616-",
    ] {
        rows.push(stays(range, ranged("empty", range), none()));
    }
    run_table(&rows);
}

#[test]
fn of_one_byte() {
    let x = || {
        answer(206)
            .has("Content-Range", "bytes 0-0/1")
            .content(b"x")
    };
    let end = || answer(416).has("Content-Range", "bytes */1");
    run_table(&[
        stays("whole", get("one", &[]), ok(b"x")),
        stays("0-0", ranged("one", "bytes=0-0"), x()),
        stays("0-", ranged("one", "bytes=0-"), x()),
        stays("0-1", ranged("one", "bytes=0-1"), x()),
        stays("-1", ranged("one", "bytes=-1"), x()),
        stays("-2", ranged("one", "bytes=-2"), x()),
        stays("1-", ranged("one", "bytes=1-"), end()),
        stays("1-1", ranged("one", "bytes=1-1"), end()),
        stays("-0", ranged("one", "bytes=-0"), end()),
    ]);
}

#[test]
fn of_long_sources() {
    let of = |first: u64, last: u64, total: u64| {
        let len = usize::try_from(last - first + 1).unwrap();
        answer(206)
            .has("Content-Range", &format!("bytes {first}-{last}/{total}"))
            .content(&patterned(first, len))
    };
    let mut rows = Vec::new();
    let mut push = |handle: &str, total: u64, range: String, first: u64, last: u64| {
        let name = format!("{handle} {range}");
        rows.push(stays(name, ranged(handle, &range), of(first, last, total)));
    };
    for total_of in [("huge", HUGE), ("max", u64::MAX)] {
        let (handle, total) = total_of;
        for first in [
            0,
            1,
            (1 << 31) - 3,
            (1 << 32) - 3,
            (1 << 32) + 1,
            1 << 40,
            total - 10,
        ] {
            push(
                handle,
                total,
                format!("bytes={first}-{}", first + 9),
                first,
                first + 9,
            );
        }
        push(
            handle,
            total,
            format!("bytes={}-", total - 7),
            total - 7,
            total - 1,
        );
        push(
            handle,
            total,
            format!("bytes={}-18446744073709551615", total - 7),
            total - 7,
            total - 1,
        );
        push(
            handle,
            total,
            format!("bytes={}-18446744073709551616", total - 7),
            total - 7,
            total - 1,
        );
        push(handle, total, "bytes=-1".to_owned(), total - 1, total - 1);
        push(
            handle,
            total,
            "bytes=-300".to_owned(),
            total - 300,
            total - 1,
        );
        push(
            handle,
            total,
            format!("bytes={0}-{0}", total - 1),
            total - 1,
            total - 1,
        );
    }
    for (first, last) in [
        (0, BIG - 1),
        (1, BIG - 1),
        (65_535, 65_536),
        (262_143, 524_288),
        (BIG - 1, BIG - 1),
    ] {
        push("big", BIG, format!("bytes={first}-{last}"), first, last);
    }
    push(
        "big",
        BIG,
        "bytes=-1048577".to_owned(),
        BIG - 1_048_577,
        BIG - 1,
    );
    push("big", BIG, "bytes=1000000-".to_owned(), 1_000_000, BIG - 1);
    let all = patterned(0, BIG as usize);
    rows.push(stays(
        "big whole",
        get("big", &[]),
        ok(&all).has("Content-Length", &BIG.to_string()),
    ));
    for (handle, range, total) in [
        ("huge", "bytes=5497558138880-", HUGE),
        ("max", "bytes=18446744073709551615-", u64::MAX),
        ("max", "bytes=18446744073709551616-", u64::MAX),
        ("max", "bytes=-0", u64::MAX),
        ("big", "bytes=3145745-", BIG),
    ] {
        let end = answer(416).has("Content-Range", &format!("bytes */{total}"));
        rows.push(stays(
            format!("{handle} past the end {range}"),
            ranged(handle, range),
            end,
        ));
    }
    run_table(&rows);
}

#[test]
fn beside_other_fields() {
    let range = "Range: bytes=2-5";
    run_table(&[
        ends(
            "1.0",
            head(&["GET /track/letters HTTP/1.0", AUTH, range]),
            part(2, 5),
        ),
        ends(
            "close",
            get("letters", &[range, "Connection: close"]),
            part(2, 5),
        ),
        stays("unknown handle", get("nothing", &[range]), answer(404)),
        either("POST", request("POST", "letters", &[range]), answer(405)),
        stays(
            "of a source with len and read_at alone",
            get("bare", &[range]),
            part(2, 5),
        ),
        stays(
            "of a source without explicit validators",
            get("plain", &[range]),
            part(2, 5),
        ),
        stays(
            "Content-Range in a request",
            get("letters", &["Content-Range: bytes 0-4/26"]),
            letters(),
        ),
        stays(
            "Request-Range",
            get("letters", &["Request-Range: bytes=0-4"]),
            letters(),
        ),
        // §15.3.7: what a 200 would have carried; the representation's own fields included.
        stays(
            "fields of a 206",
            get("letters", &[range]),
            part(2, 5)
                .has("ETag", LETTERS_TAG)
                .has("Last-Modified", LETTERS_DATE_TEXT)
                .has("Content-Type", "audio/x-letters")
                .has("Accept-Ranges", "bytes")
                .has("Content-Length", "4")
                .shows("Cache-Control"),
        ),
        stays(
            "fields of a 416",
            get("letters", &["Range: bytes=26-"]),
            unsatisfiable().lacks("Last-Modified"),
        ),
    ]);
}

/// What a naive reader of RFC 9110 §14 gives: `None` for 416, else first and last position.
fn oracle(len: u64, spec: &str) -> Option<(u64, u64)> {
    let positions: Vec<u64> = match spec.split_once('-').unwrap() {
        ("", n) => {
            let n: u64 = n.parse().unwrap();
            (0..len).filter(|at| at + n >= len).collect()
        }
        (first, "") => (first.parse().unwrap()..len.max(first.parse().unwrap())).collect(),
        (first, last) => {
            let (first, last): (u64, u64) = (first.parse().unwrap(), last.parse().unwrap());
            (0..len).filter(|at| (first..=last).contains(at)).collect()
        }
    };
    Some((*positions.first()?, *positions.last()?))
}

#[test]
fn small_sources_exhaustively() {
    // Every range with positions 0..=5 of every source of 1..=4 bytes, on one connection each.
    let map: BTreeMap<String, Arc<dyn ByteSource>> = (1..=4)
        .map(|len| {
            let source = BytesSource::new(LETTERS[..len].to_vec());
            (format!("of{len}"), Arc::new(source) as Arc<dyn ByteSource>)
        })
        .collect();
    let server = start_with(map);
    let mut specs = Vec::new();
    for first in 0..=5_u64 {
        specs.push(format!("{first}-"));
        specs.push(format!("-{first}"));
        specs.extend((first..=5).map(|last| format!("{first}-{last}")));
    }
    for len in 1..=4_u64 {
        let handle = format!("of{len}");
        let mut peer = RawPeer::connect(server.local_addr()).unwrap();
        let pipeline: Vec<Vec<u8>> = specs
            .iter()
            .map(|spec| ranged(&handle, &format!("bytes={spec}")))
            .collect();
        peer.send(&pipeline.concat()).unwrap();
        for spec in &specs {
            let response = peer.read_response(false).unwrap().unwrap();
            house_rules(&response, false).unwrap();
            let range = response.field("Content-Range").unwrap();
            match oracle(len, spec) {
                Some((first, last)) => {
                    assert_eq!(response.status(), 206, "{spec} of {len}");
                    assert_eq!(
                        range,
                        format!("bytes {first}-{last}/{len}"),
                        "{spec} of {len}"
                    );
                    let content = &LETTERS[first as usize..=last as usize];
                    assert_eq!(response.content, content, "{spec} of {len}");
                }
                None => {
                    assert_eq!(response.status(), 416, "{spec} of {len}");
                    assert_eq!(range, format!("bytes */{len}"), "{spec} of {len}");
                }
            }
        }
    }
}
