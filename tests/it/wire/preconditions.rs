//! RFC 9110 §8.8, §13: validators, preconditions, and the order in which they count.

use super::*;

/// The letters' modification time, before and after it, in seconds.
const BEFORE: u64 = LETTERS_DATE - 86_400;
const AFTER: u64 = LETTERS_DATE + 86_400;

fn date(name: &str, seconds: u64) -> String {
    format!("{name}: {}", peer_tests::raw::imf_fixdate(seconds))
}

fn not_modified() -> Answer {
    answer(304)
        .has("ETag", LETTERS_TAG)
        .shows("Cache-Control")
        .lacks("Transfer-Encoding")
        .lacks("Content-Range")
        .content(b"")
}

fn failed() -> Answer {
    answer(412).lacks("Content-Range")
}

#[test]
fn validators_sent() {
    run_table(&[
        stays(
            "given",
            get("letters", &[]),
            letters()
                .has("ETag", LETTERS_TAG)
                .has("Last-Modified", LETTERS_DATE_TEXT)
                .has("Content-Type", "audio/x-letters"),
        ),
        stays(
            "derived from the content",
            get("plain", &[]),
            letters().shows("ETag").lacks("Last-Modified"),
        ),
        stays(
            "derived from no content",
            get("empty", &[]),
            ok(b"").shows("ETag"),
        ),
        stays(
            "none",
            get("bare", &[]),
            letters().lacks("ETag").lacks("Last-Modified"),
        ),
        stays(
            "a date alone",
            get("dated", &[]),
            letters().has("Last-Modified", LETTERS_DATE_TEXT),
        ),
        stays(
            "a comma in the tag",
            get("comma", &[]),
            letters().has("ETag", "\"a,b\""),
        ),
    ]);
}

#[test]
fn if_none_match() {
    // §13.1.2: weak comparison; 304 for GET and HEAD.
    let asked = |value: &str| get("letters", &[&format!("If-None-Match: {value}")]);
    let mut rows = Vec::new();
    for value in [
        "\"letters-1\"",
        "W/\"letters-1\"",
        "*",
        " \"letters-1\" ",
        "\"x\", \"letters-1\"",
        "\"letters-1\", \"x\"",
        "\"x\",\"letters-1\"",
        "W/\"x\", W/\"letters-1\"",
        ", \"letters-1\"",
        "\"letters-1\",",
        "\"a\", , \"letters-1\"",
        "\"\", \"letters-1\"",
        "\"x\" , \"letters-1\" , \"y\"",
        "\"a,b\", \"letters-1\"",
        "\"*\", \"letters-1\"",
        "\"\\\", \"letters-1\"",
        " * ",
    ] {
        rows.push(stays(
            format!("matches {value:?}"),
            asked(value),
            not_modified(),
        ));
    }
    for value in [
        "\"x\"",
        "W/\"x\"",
        "\"letters-2\"",
        "\"Letters-1\"",
        "\"letters-1 \"",
        "\"letters\"",
        "\"letters-11\"",
        "\"\"",
        "W/\"\"",
        "\"x\", \"y\"",
        "\"*\"",
        "\"x,letters-1\"",
        "\"x\\\"letters-1\"",
        "\"W/letters-1\"",
        "\"x, \\\", \"y\"",
    ] {
        rows.push(stays(
            format!("does not match {value:?}"),
            asked(value),
            letters(),
        ));
    }
    // No entity-tag at all: what cannot be read matches nothing.
    for value in [
        "",
        "letters-1",
        "'letters-1'",
        "\"letters-1",
        "letters-1\"",
        "w/\"x\"",
        "W/letters-1",
        "x",
    ] {
        rows.push(stays(
            format!("is no tag {value:?}"),
            asked(value),
            letters(),
        ));
    }
    rows.extend([
        stays(
            "two lines, the second",
            get(
                "letters",
                &["If-None-Match: \"x\"", "If-None-Match: \"letters-1\""],
            ),
            not_modified(),
        ),
        stays(
            "two lines, the first",
            get(
                "letters",
                &["If-None-Match: \"letters-1\"", "If-None-Match: \"x\""],
            ),
            not_modified(),
        ),
        stays(
            "two lines, none",
            get("letters", &["If-None-Match: \"y\"", "If-None-Match: \"x\""]),
            letters(),
        ),
        stays(
            "a tag with a comma",
            get("comma", &["If-None-Match: \"x\", \"a,b\""]),
            answer(304),
        ),
        stays(
            "pieces of a tag with a comma",
            get("comma", &["If-None-Match: \"a\", \"b\""]),
            letters(),
        ),
        stays(
            "* of a source without tag",
            get("bare", &["If-None-Match: *"]),
            answer(304),
        ),
        stays(
            "a tag of a source without tag",
            get("bare", &["If-None-Match: \"x\""]),
            letters(),
        ),
        stays(
            "* of an unknown handle",
            get("nothing", &["If-None-Match: *"]),
            answer(404),
        ),
        stays(
            "* of an empty source",
            get("empty", &["If-None-Match: *"]),
            answer(304),
        ),
        stays(
            "with Range",
            get(
                "letters",
                &["If-None-Match: \"letters-1\"", "Range: bytes=1-2"],
            ),
            not_modified(),
        ),
        stays(
            "with unsatisfiable Range",
            get(
                "letters",
                &["If-None-Match: \"letters-1\"", "Range: bytes=90-"],
            ),
            not_modified(),
        ),
        stays(
            "other with Range",
            get("letters", &["If-None-Match: \"x\"", "Range: bytes=1-2"]),
            part(1, 2),
        ),
        either(
            "on a POST",
            request("POST", "letters", &["If-None-Match: *"]),
            answer(405),
        ),
        ends(
            "close",
            get("letters", &["If-None-Match: *", "Connection: close"]),
            not_modified(),
        ),
        ends(
            "1.0",
            head(&[
                "GET /track/letters HTTP/1.0",
                AUTH,
                "If-None-Match: \"letters-1\"",
            ]),
            not_modified(),
        ),
        Row::new(
            "304 and on",
            joined(&[
                &asked("*"),
                &asked("\"x\""),
                &asked("*"),
                &get("letters", &["Range: bytes=1-2"]),
            ]),
            vec![not_modified(), letters(), not_modified(), part(1, 2)],
            Then::Stays,
        ),
    ]);
    run_table(&rows);
}

#[test]
fn if_match() {
    // §13.1.1: strong comparison; 412.
    let asked = |value: &str| get("letters", &[&format!("If-Match: {value}")]);
    let mut rows = Vec::new();
    for value in [
        "\"letters-1\"",
        "*",
        "\"x\", \"letters-1\"",
        "\"letters-1\",\"x\"",
        "W/\"letters-1\", \"letters-1\"",
        ",\"letters-1\"",
        "\"\\\", \"letters-1\"",
    ] {
        rows.push(stays(format!("matches {value:?}"), asked(value), letters()));
    }
    for value in [
        "\"x\"",
        "W/\"letters-1\"",
        "W/\"x\"",
        "\"x\", \"y\"",
        "\"\"",
        "\"Letters-1\"",
        "\"*\"",
    ] {
        rows.push(stays(
            format!("does not match {value:?}"),
            asked(value),
            failed(),
        ));
    }
    // What cannot be read is no condition that held: never go on as if it had.
    for value in ["letters-1", "\"letters-1", "x"] {
        rows.push(either(
            format!("is no tag {value:?}"),
            asked(value),
            answer_in(&[400, 412]),
        ));
    }
    rows.extend([
        stays(
            "two lines, the second",
            get("letters", &["If-Match: \"x\"", "If-Match: \"letters-1\""]),
            letters(),
        ),
        stays(
            "two lines, none",
            get("letters", &["If-Match: \"x\"", "If-Match: \"y\""]),
            failed(),
        ),
        stays(
            "with Range",
            get("letters", &["If-Match: \"letters-1\"", "Range: bytes=1-2"]),
            part(1, 2),
        ),
        stays(
            "other with Range",
            get("letters", &["If-Match: \"x\"", "Range: bytes=1-2"]),
            failed(),
        ),
        stays(
            "other with unsatisfiable Range",
            get("letters", &["If-Match: \"x\"", "Range: bytes=90-"]),
            failed(),
        ),
        stays(
            "* of a source without tag",
            get("bare", &["If-Match: *"]),
            letters(),
        ),
        stays(
            "a tag of a source without tag",
            get("bare", &["If-Match: \"x\""]),
            failed(),
        ),
        // §13.2.1: preconditions are ignored where the answer without them is no 2xx.
        stays(
            "of an unknown handle",
            get("nothing", &["If-Match: \"x\""]),
            answer(404),
        ),
        stays(
            "* of an unknown handle",
            get("nothing", &["If-Match: *"]),
            answer(404),
        ),
        stays(
            "HEAD",
            request("HEAD", "letters", &["If-Match: \"x\""]),
            answer(412).for_head(),
        ),
        either(
            "without token",
            head(&["GET /track/letters HTTP/1.1", HOST, "If-Match: \"x\""]),
            answer(401),
        ),
    ]);
    run_table(&rows);
}

#[test]
fn if_modified_since() {
    let asked = |value: &str| get("letters", &[&format!("If-Modified-Since: {value}")]);
    let mut rows = vec![
        stays("equal", asked(LETTERS_DATE_TEXT), not_modified()),
        stays(
            "a second later",
            get("letters", &[&date("If-Modified-Since", LETTERS_DATE + 1)]),
            not_modified(),
        ),
        stays(
            "later",
            get("letters", &[&date("If-Modified-Since", AFTER)]),
            not_modified(),
        ),
        stays(
            "in the future",
            get(
                "letters",
                &["If-Modified-Since: Thu, 01 Jan 2099 00:00:00 GMT"],
            ),
            not_modified(),
        )
        .or(letters(), Then::Stays),
        stays(
            "a second before",
            get("letters", &[&date("If-Modified-Since", LETTERS_DATE - 1)]),
            letters(),
        ),
        stays(
            "before",
            get("letters", &[&date("If-Modified-Since", BEFORE)]),
            letters(),
        ),
        stays(
            "the epoch",
            get(
                "letters",
                &["If-Modified-Since: Thu, 01 Jan 1970 00:00:00 GMT"],
            ),
            letters(),
        ),
        // §5.6.7: all three formats MUST be accepted.
        stays(
            "RFC 850",
            asked(&peer_tests::raw::rfc850_date(LETTERS_DATE)),
            not_modified(),
        ),
        stays(
            "RFC 850, before",
            asked(&peer_tests::raw::rfc850_date(BEFORE)),
            letters(),
        ),
        stays(
            "RFC 850, of another century",
            asked(&peer_tests::raw::rfc850_date(784_111_777)),
            letters(),
        ),
        stays(
            "asctime",
            asked(&peer_tests::raw::asctime_date(LETTERS_DATE)),
            not_modified(),
        ),
        stays(
            "asctime, before",
            asked(&peer_tests::raw::asctime_date(BEFORE)),
            letters(),
        ),
        stays(
            "HEAD",
            request("HEAD", "letters", &[&date("If-Modified-Since", AFTER)]),
            answer(304).for_head(),
        ),
        stays(
            "with Range",
            get(
                "letters",
                &[&date("If-Modified-Since", AFTER), "Range: bytes=1-2"],
            ),
            not_modified(),
        ),
        stays(
            "before, with Range",
            get(
                "letters",
                &[&date("If-Modified-Since", BEFORE), "Range: bytes=1-2"],
            ),
            part(1, 2),
        ),
        stays(
            "without a date to compare",
            get("bare", &[&date("If-Modified-Since", AFTER)]),
            letters(),
        ),
        stays(
            "of a derived tag alone",
            get("plain", &[&date("If-Modified-Since", AFTER)]),
            letters(),
        ),
        stays(
            "a date and no tag",
            get("dated", &[&date("If-Modified-Since", LETTERS_DATE)]),
            answer(304),
        ),
        stays(
            "unknown handle",
            get("nothing", &[&date("If-Modified-Since", AFTER)]),
            answer(404),
        ),
        either(
            "on a POST",
            request("POST", "letters", &[&date("If-Modified-Since", AFTER)]),
            answer(405),
        ),
        // §13.1.3: ignored beside If-None-Match.
        stays(
            "beside another tag",
            get(
                "letters",
                &["If-None-Match: \"x\"", &date("If-Modified-Since", AFTER)],
            ),
            letters(),
        ),
        stays(
            "before, beside the tag",
            get(
                "letters",
                &[
                    "If-None-Match: \"letters-1\"",
                    &date("If-Modified-Since", BEFORE),
                ],
            ),
            not_modified(),
        ),
    ];
    // Not an HTTP-date: ignored.
    for bad in [
        "",
        "0",
        "1577836800",
        "now",
        "yesterday",
        "2020-01-02T00:00:00Z",
        "Thu, 02 Jan 2020 00:00:00 +0000",
        "Thu, 02 Jan 2020",
        "Thu, 02 Foo 2020 00:00:00 GMT",
        "Thu, 32 Jan 2020 00:00:00 GMT",
        "Thu, 02 Jan 2020 25:00:00 GMT",
        "Thu, 02 Jan 2020 00:61:00 GMT",
        "Thu, 02 Jan 20200 00:00:00 GMT",
        "Thu, 00 Jan 2020 00:00:00 GMT",
        "Thu, -2 Jan 2020 00:00:00 GMT",
        "Thu, 02 Jan 2020 00:00:00 GMT, Thu, 02 Jan 2020 00:00:00 GMT",
        "*",
        "\"letters-1\"",
        "Thu, 02 Jan 99999999999999999999 00:00:00 GMT",
    ] {
        rows.push(stays(format!("no date {bad:?}"), asked(bad), letters()));
    }
    run_table(&rows);
}

#[test]
fn if_unmodified_since() {
    let asked = |seconds: u64| get("letters", &[&date("If-Unmodified-Since", seconds)]);
    let mut rows = vec![
        stays("equal", asked(LETTERS_DATE), letters()),
        stays("later", asked(AFTER), letters()),
        stays("before", asked(BEFORE), failed()),
        stays("a second before", asked(LETTERS_DATE - 1), failed()),
        stays(
            "RFC 850, before",
            get(
                "letters",
                &[&format!(
                    "If-Unmodified-Since: {}",
                    peer_tests::raw::rfc850_date(BEFORE)
                )],
            ),
            failed(),
        ),
        stays(
            "asctime, before",
            get(
                "letters",
                &[&format!(
                    "If-Unmodified-Since: {}",
                    peer_tests::raw::asctime_date(BEFORE)
                )],
            ),
            failed(),
        ),
        stays(
            "with Range",
            get(
                "letters",
                &[&date("If-Unmodified-Since", AFTER), "Range: bytes=1-2"],
            ),
            part(1, 2),
        ),
        stays(
            "before, with Range",
            get(
                "letters",
                &[&date("If-Unmodified-Since", BEFORE), "Range: bytes=1-2"],
            ),
            failed(),
        ),
        stays(
            "without a date to compare",
            get("bare", &[&date("If-Unmodified-Since", BEFORE)]),
            letters(),
        ),
        stays(
            "unknown handle",
            get("nothing", &[&date("If-Unmodified-Since", BEFORE)]),
            answer(404),
        ),
        // §13.1.4: ignored beside If-Match.
        stays(
            "before, beside the tag",
            get(
                "letters",
                &[
                    "If-Match: \"letters-1\"",
                    &date("If-Unmodified-Since", BEFORE),
                ],
            ),
            letters(),
        ),
        stays(
            "later, beside another tag",
            get(
                "letters",
                &["If-Match: \"x\"", &date("If-Unmodified-Since", AFTER)],
            ),
            failed(),
        ),
    ];
    for bad in [
        "",
        "0",
        "now",
        "2018-01-02T00:00:00Z",
        "Mon, 32 Jan 2018 00:00:00 GMT",
    ] {
        let bytes = get("letters", &[&format!("If-Unmodified-Since: {bad}")]);
        rows.push(stays(format!("no date {bad:?}"), bytes, letters()));
    }
    run_table(&rows);
}

#[test]
fn in_order() {
    // §13.2.2.
    let tag = "\"letters-1\"";
    let field = |name: &str, value: &str| format!("{name}: {value}");
    let rows: Vec<Row> = [
        (
            "If-Match fails before If-None-Match",
            vec![field("If-Match", "\"x\""), field("If-None-Match", tag)],
            failed(),
        ),
        (
            "If-Match holds, If-None-Match does not",
            vec![field("If-Match", tag), field("If-None-Match", tag)],
            not_modified(),
        ),
        (
            "If-Match holds, so does If-None-Match",
            vec![field("If-Match", tag), field("If-None-Match", "\"x\"")],
            letters(),
        ),
        (
            "If-Unmodified-Since fails before If-None-Match",
            vec![
                date("If-Unmodified-Since", BEFORE),
                field("If-None-Match", tag),
            ],
            failed(),
        ),
        (
            "If-Unmodified-Since fails before If-Modified-Since",
            vec![
                date("If-Unmodified-Since", BEFORE),
                date("If-Modified-Since", AFTER),
            ],
            failed(),
        ),
        (
            "If-Unmodified-Since holds, If-Modified-Since does not",
            vec![
                date("If-Unmodified-Since", AFTER),
                date("If-Modified-Since", AFTER),
            ],
            not_modified(),
        ),
        (
            "If-Match fails before Range",
            vec![
                field("If-Match", "\"x\""),
                field("Range", "bytes=0-1"),
                field("If-Range", tag),
            ],
            failed(),
        ),
        (
            "If-None-Match fails before Range",
            vec![
                field("If-None-Match", tag),
                field("Range", "bytes=0-1"),
                field("If-Range", tag),
            ],
            not_modified(),
        ),
        (
            "all hold",
            vec![
                field("If-Match", tag),
                date("If-Unmodified-Since", BEFORE),
                field("If-None-Match", "\"x\""),
                date("If-Modified-Since", AFTER),
                field("If-Range", tag),
                field("Range", "bytes=0-1"),
            ],
            part(0, 1),
        ),
        (
            "all hold but If-Range",
            vec![
                field("If-Match", tag),
                field("If-None-Match", "\"x\""),
                field("If-Range", "\"x\""),
                field("Range", "bytes=0-1"),
            ],
            letters(),
        ),
        (
            "listed in another order",
            vec![
                field("Range", "bytes=0-1"),
                field("If-None-Match", tag),
                field("If-Match", "\"x\""),
            ],
            failed(),
        ),
    ]
    .into_iter()
    .map(|(name, fields, answer)| {
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        stays(name, get("letters", &fields), answer)
    })
    .collect();
    run_table(&rows);
}

#[test]
fn if_range() {
    // §13.1.5, and §15.3.7: the 206 to an If-Range omits what the peer has from before.
    let asked = |value: &str| {
        get(
            "letters",
            &["Range: bytes=2-5", &format!("If-Range: {value}")],
        )
    };
    let lean = || {
        part(2, 5)
            .has("ETag", LETTERS_TAG)
            .shows("Cache-Control")
            .lacks("Last-Modified")
            .lacks("Content-Type")
    };
    let mut rows = vec![
        stays("the tag", asked(LETTERS_TAG), lean()),
        stays("the tag in white space", asked(" \t\"letters-1\" "), lean()),
        stays("the date", asked(LETTERS_DATE_TEXT), lean()),
        stays(
            "the date of a source without tag",
            get(
                "dated",
                &[
                    "Range: bytes=2-5",
                    &format!("If-Range: {LETTERS_DATE_TEXT}"),
                ],
            ),
            part(2, 5),
        ),
        stays(
            "RFC 850",
            asked(&peer_tests::raw::rfc850_date(LETTERS_DATE)),
            lean(),
        )
        .or(letters(), Then::Stays),
        stays(
            "asctime",
            asked(&peer_tests::raw::asctime_date(LETTERS_DATE)),
            lean(),
        )
        .or(letters(), Then::Stays),
        stays(
            "open range",
            get("letters", &["Range: bytes=2-", "If-Range: \"letters-1\""]),
            part(2, 25),
        ),
        stays(
            "suffix range",
            get("letters", &["Range: bytes=-2", "If-Range: \"letters-1\""]),
            part(24, 25),
        ),
        stays(
            "unsatisfiable",
            get("letters", &["Range: bytes=90-", "If-Range: \"letters-1\""]),
            unsatisfiable(),
        ),
        stays(
            "other, unsatisfiable",
            get("letters", &["Range: bytes=90-", "If-Range: \"x\""]),
            letters(),
        ),
        stays(
            "without Range",
            get("letters", &["If-Range: \"letters-1\""]),
            letters(),
        ),
        stays(
            "other, without Range",
            get("letters", &["If-Range: \"x\""]),
            letters(),
        ),
        stays(
            "ignored Range",
            get("letters", &["Range: lines=0-1", "If-Range: \"letters-1\""]),
            letters(),
        ),
        stays(
            "a tag with a comma",
            get("comma", &["Range: bytes=2-5", "If-Range: \"a,b\""]),
            part(2, 5),
        ),
        stays(
            "a source without validators",
            get("bare", &["Range: bytes=2-5", "If-Range: \"x\""]),
            letters(),
        ),
        stays(
            "a source without validators, a date",
            get(
                "bare",
                &[
                    "Range: bytes=2-5",
                    &format!("If-Range: {LETTERS_DATE_TEXT}"),
                ],
            ),
            letters(),
        ),
        stays(
            "a date of a source without date",
            get(
                "plain",
                &[
                    "Range: bytes=2-5",
                    &format!("If-Range: {LETTERS_DATE_TEXT}"),
                ],
            ),
            letters(),
        ),
        stays(
            "unknown handle",
            get("nothing", &["Range: bytes=2-5", "If-Range: \"x\""]),
            answer(404),
        ),
        stays(
            "an empty source",
            get("empty", &["Range: bytes=0-", "If-Range: \"x\""]),
            ok(b""),
        ),
        ends(
            "1.0",
            head(&[
                "GET /track/letters HTTP/1.0",
                AUTH,
                "Range: bytes=2-5",
                "If-Range: \"letters-1\"",
            ]),
            lean(),
        ),
    ];
    let (day_before, day_after) = (date("x", BEFORE), date("x", AFTER));
    for value in [
        // Strong comparison: a weak tag never matches, not even itself.
        "W/\"letters-1\"",
        "\"x\"",
        "W/\"x\"",
        "\"Letters-1\"",
        "\"\"",
        "*",
        "letters-1",
        "'letters-1'",
        "\"letters-1\", \"x\"",
        "\"x\", \"letters-1\"",
        "\"letters-1",
        "letters-1\"",
        "\"letters-1\"x",
        "",
        &day_before[3..],
        &day_after[3..],
        "0",
        "now",
        "Wed, 01 Jan 2020 00:00:00",
        "2020-01-01T00:00:00Z",
        "Wed, 01 Jan 2020 00:00:01 GMT",
        "Tue, 31 Dec 2019 23:59:59 GMT",
        "Thu, 01 Jan 1970 00:00:00 GMT",
    ] {
        rows.push(stays(
            format!("does not match {value:?}"),
            asked(value),
            letters(),
        ));
    }
    run_table(&rows);
}

/// A source modified at a time that depends on when it is asked.
struct ModifiedAt(fn() -> SystemTime);

impl ByteSource for ModifiedAt {
    fn len(&self) -> Option<u64> {
        Bare(LETTERS).len()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        Bare(LETTERS).read_at(offset, buf)
    }

    fn last_modified(&self) -> Option<SystemTime> {
        Some((self.0)())
    }
}

fn one_exchange(server: &PeerServer, bytes: &[u8]) -> Response {
    let mut peer = RawPeer::connect(server.local_addr()).unwrap();
    peer.send(bytes).unwrap();
    let response = peer.read_response(false).unwrap().unwrap();
    house_rules(&response, false).unwrap();
    response
}

#[test]
fn a_date_is_strong_only_when_it_is_old() {
    // §8.8.2.2: strong where it is at least a second older than Date; §8.8.2.1: never later than it.
    let map: BTreeMap<String, Arc<dyn ByteSource>> = BTreeMap::from([
        (
            "future".to_owned(),
            Arc::new(ModifiedAt(|| SystemTime::now() + Duration::from_secs(3600))) as _,
        ),
        (
            "current".to_owned(),
            Arc::new(ModifiedAt(SystemTime::now)) as _,
        ),
        (
            "old".to_owned(),
            Arc::new(ModifiedAt(|| {
                after_epoch(LETTERS_DATE) + Duration::from_millis(700)
            })) as _,
        ),
    ]);
    let server = start_with(map);
    // house_rules refuses a Last-Modified later than Date.
    let future = one_exchange(&server, &get("future", &[]));
    let shown = future.field("Last-Modified").map(str::to_owned);
    let shown = shown.unwrap_or_else(|| future.field("Date").unwrap().to_owned());
    let again = get(
        "future",
        &["Range: bytes=0-1", &format!("If-Range: {shown}")],
    );
    assert_eq!(one_exchange(&server, &again).status(), 200);
    // Modified in the very second of the answer, it may be modified once more in it: weak. Where
    // the clock moves on between the two requests, it is another date: 200 all the same.
    let current = one_exchange(&server, &get("current", &[]));
    let shown = current.field("Last-Modified").unwrap();
    let again = get(
        "current",
        &["Range: bytes=0-1", &format!("If-Range: {shown}")],
    );
    assert_eq!(one_exchange(&server, &again).status(), 200);
    // A fraction of a second is not on the wire, and must not spoil the comparison.
    let old = one_exchange(&server, &get("old", &[]));
    assert_eq!(old.field("Last-Modified"), Some(LETTERS_DATE_TEXT));
    for (fields, status) in [
        (
            &[
                "Range: bytes=0-1",
                "If-Range: Wed, 01 Jan 2020 00:00:00 GMT",
            ][..],
            206,
        ),
        (&["If-Modified-Since: Wed, 01 Jan 2020 00:00:00 GMT"], 304),
        (&["If-Unmodified-Since: Wed, 01 Jan 2020 00:00:00 GMT"], 200),
        (&["If-Modified-Since: Tue, 31 Dec 2019 23:59:59 GMT"], 200),
        (&["If-Unmodified-Since: Tue, 31 Dec 2019 23:59:59 GMT"], 412),
    ] {
        assert_eq!(
            one_exchange(&server, &get("old", fields)).status(),
            status,
            "{fields:?}"
        );
    }
}

#[test]
fn derived_tags_follow_the_content() {
    let tag_of = |content: &[u8]| {
        let source: Arc<dyn ByteSource> = Arc::new(BytesSource::new(content.to_vec()));
        let server = start_with(BTreeMap::from([("x".to_owned(), source)]));
        let response = one_exchange(&server, &get("x", &[]));
        response.field("ETag").unwrap().to_owned()
    };
    let mut changed = LETTERS.to_vec();
    changed[13] ^= 1;
    let contents: [&[u8]; 6] = [LETTERS, &changed, b"", b"\0", b"\0\0", &LETTERS[..25]];
    let tags: BTreeSet<String> = contents.iter().map(|content| tag_of(content)).collect();
    assert_eq!(tags.len(), contents.len(), "{tags:?}");
    assert!(
        tags.iter().all(|tag| tag.starts_with('"')),
        "strong: {tags:?}"
    );
    // The same content, the same tag: a resumed transfer survives the server's restart.
    assert_eq!(tag_of(LETTERS), tag_of(LETTERS));
}

#[test]
fn the_tag_shown_is_the_tag_that_matches() {
    // For every source of the table: what an answer shows, asked back, gives 304 and 206.
    let server = start();
    for handle in ["letters", "plain", "one", "comma"] {
        let shown = one_exchange(&server, &get(handle, &[]));
        let tag = shown.field("ETag").unwrap();
        let back = get(handle, &[&format!("If-None-Match: {tag}")]);
        let answer = one_exchange(&server, &back);
        assert_eq!(
            (answer.status(), answer.field("ETag")),
            (304, Some(tag)),
            "{handle}"
        );
        let back = get(handle, &["Range: bytes=0-0", &format!("If-Range: {tag}")]);
        let answer = one_exchange(&server, &back);
        assert_eq!(
            (answer.status(), answer.field("ETag")),
            (206, Some(tag)),
            "{handle}"
        );
    }
}
