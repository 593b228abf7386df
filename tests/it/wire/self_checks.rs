//! The judge is judged too: answers that must not pass.

use super::*;

fn response(status: u16, fields: &[(&str, &str)], content: &[u8]) -> Response {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let mut head = peer_tests::raw::Head {
        status,
        reason: "R".to_owned(),
        fields: Vec::new(),
    };
    head.fields
        .push(("Date".to_owned(), peer_tests::raw::imf_fixdate(now)));
    for (name, value) in fields {
        head.fields.push(((*name).to_owned(), (*value).to_owned()));
    }
    let framing = head.framing(false).unwrap();
    Response {
        head,
        framing,
        content: content.to_vec(),
        cut: None,
    }
}

const GOOD: &[(&str, &str)] = &[
    ("Cache-Control", "private, no-transform"),
    ("Accept-Ranges", "bytes"),
    ("Content-Length", "3"),
];

#[test]
fn house_rules_accept_and_refuse() {
    assert_eq!(house_rules(&response(200, GOOD, b"abc"), false), Ok(()));
    let bad: &[&[(&str, &str)]] = &[
        &[("ETag", "\"a\""), ("ETag", "\"a\"")],
        &[("ETag", "a")],
        &[("ETag", "\"a\"b\"")],
        &[("Last-Modified", "Wed, 01 Jan 2020 00:00:00 UTC")],
        &[("Last-Modified", "Thu, 01 Jan 2099 00:00:00 GMT")],
        &[("Content-Range", "bytes 0-2/3")],
        &[("X", "secret")],
        &[("Date", "Wed, 01 Jan 2020 00:00:00 GMT")],
    ];
    for more in bad {
        let fields = [GOOD, more].concat();
        assert!(
            house_rules(&response(200, &fields, b"abc"), false).is_err(),
            "{more:?}"
        );
    }
    for missing in 0..2 {
        let mut fields = GOOD.to_vec();
        fields.remove(missing);
        assert!(
            house_rules(&response(200, &fields, b"abc"), false).is_err(),
            "{missing}"
        );
    }
    let web = [
        ("Vary", "Origin"),
        ("Access-Control-Allow-Origin", "https://a"),
    ];
    assert_eq!(house_rules(&response(204, &web, b""), false), Ok(()));
    for wrong in [&web[..1], &web[1..], &[web[0], web[1], web[1]]] {
        assert!(house_rules(&response(204, wrong, b""), false).is_err());
    }
    let text = [("Content-Type", "text/plain"), ("Content-Length", "3")];
    assert_eq!(house_rules(&response(404, &text, b"abc"), false), Ok(()));
    for status in [401, 405] {
        assert!(
            house_rules(&response(status, &text, b"abc"), false).is_err(),
            "{status}"
        );
    }
    assert!(house_rules(&response(404, &[], b"abc"), false).is_err());
    assert!(house_rules(&response(206, GOOD, b"abc"), false).is_err());
    let range = [GOOD, &[("Content-Range", "bytes 1-3/9")]].concat();
    assert_eq!(house_rules(&response(206, &range, b"abc"), false), Ok(()));
    let range = [GOOD, &[("Content-Range", "bytes 1-4/9")]].concat();
    assert!(house_rules(&response(206, &range, b"abc"), false).is_err());
}

#[test]
fn challenges_are_read() {
    assert!(check_challenge("Bearer realm=\"a\"").is_ok());
    assert!(check_challenge("Bearer realm=\"a\", error=\"invalid_token\"").is_ok());
    for wrong in [
        "Bearer",
        "Bearer ",
        "Basic realm=\"a\"",
        "Bearer error=\"a\"",
        "Bearer realm=\"a",
    ] {
        assert!(check_challenge(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn the_judge_refuses_what_a_row_does_not_say() {
    let good = || response(200, GOOD, b"abc");
    let transcript = |responses, probe_answered, end| Transcript {
        responses,
        probe_answered,
        end,
        error: None,
    };
    let outcome = |then| Outcome {
        answers: vec![ok(b"abc")],
        then,
    };
    let pass = |then, t: &Transcript| judge(&outcome(then), t, false).is_ok();
    assert!(pass(Then::Stays, &transcript(vec![good()], true, None)));
    assert!(!pass(Then::Ends, &transcript(vec![good()], true, None)));
    assert!(!pass(
        Then::Stays,
        &transcript(vec![good()], false, Some(End::Closed))
    ));
    // An end that was not announced, or not in order.
    assert!(!pass(
        Then::Ends,
        &transcript(vec![good()], false, Some(End::Closed))
    ));
    let fields = [GOOD, &[("Connection", "close")]].concat();
    let last = || response(200, &fields, b"abc");
    assert!(pass(
        Then::Ends,
        &transcript(vec![last()], false, Some(End::Closed))
    ));
    assert!(!pass(
        Then::Ends,
        &transcript(vec![last()], false, Some(End::Reset))
    ));
    assert!(!pass(Then::Either, &transcript(vec![last()], true, None)));
    assert!(!pass(
        Then::Ends,
        &transcript(vec![last(), last()], false, Some(End::Closed))
    ));
    assert!(!pass(
        Then::Ends,
        &transcript(Vec::new(), false, Some(End::Closed))
    ));
    assert!(ok(b"abd").check(&good()).is_err());
    assert!(ok(b"abc").lacks("Accept-Ranges").check(&good()).is_err());
    assert!(ok(b"abc").shows("ETag").check(&good()).is_err());
    assert!(
        ok(b"abc")
            .has("Accept-Ranges", "none")
            .check(&good())
            .is_err()
    );
    assert!(answer(206).check(&good()).is_err());
}
