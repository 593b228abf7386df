//! Which page can fetch from a peer that allows its origin: the rows of `docs/WEB.md`.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use cranpose_services::peer::{
    ByteSource, BytesSource, EntityTag, FileSource, PeerBridge, PeerClient, PeerServer,
    SourceResolver,
};
use serde_json::{Value, json};

use super::driver::{Browser, version};
use super::site::{Files, SecureSite, serve};
use crate::real::harness::Scratch;
use crate::real::media::MP3;

const PAGE: &[u8] = b"<!doctype html><html lang=en><title>A page</title><body>";

/// A peer with the letters and a tone, which pages of these origins may read.
fn peer(origins: &[&str]) -> Option<PeerServer> {
    let tone = MP3.file()?;
    let resolver: SourceResolver = Arc::new(move |handle| {
        let source: Arc<dyn ByteSource> = match handle {
            "letters" => Arc::new(
                BytesSource::new(b"abcdefghijklmnopqrstuvwxyz".to_vec())
                    .with_entity_tag(EntityTag::strong("letters-1").unwrap()),
            ),
            "tone.mp3" => Arc::new(FileSource::open(&tone).unwrap()),
            _ => return None,
        };
        Some(source)
    });
    let mut builder = PeerServer::builder("secret", resolver);
    for origin in origins {
        builder = builder.allow_origin(origin).unwrap();
    }
    let started = builder.listen("127.0.0.1:0").and_then(|b| b.start());
    Some(started.unwrap())
}

fn site() -> u16 {
    let worker = include_bytes!("worker.js").to_vec();
    serve(Files::from([
        ("/", ("text/html", PAGE.to_vec())),
        ("/worker.js", ("text/javascript", worker)),
    ]))
}

/// What came of the page's tries with the peer at `base`.
fn outcomes(browser: &Browser, base: &str, more: Value) -> BTreeMap<String, String> {
    let mut given = json!({ "base": base, "token": "secret" });
    for (name, value) in more.as_object().unwrap() {
        given[name] = value.clone();
    }
    serde_json::from_value(browser.run(include_str!("tries.js"), given)).unwrap()
}

#[track_caller]
fn assert_outcomes(got: &BTreeMap<String, String>, expected: &[(&str, &str)]) {
    let wrong: Vec<_> = expected
        .iter()
        .filter(|(name, outcome)| got.get(*name).map(String::as_str) != Some(*outcome))
        .map(|(name, outcome)| format!("{name}: {:?}, expected {outcome:?}", got.get(*name)))
        .collect();
    assert!(wrong.is_empty(), "{}:\n{}", version(), wrong.join("\n"));
    assert_eq!(got.len(), expected.len(), "{got:?}");
}

/// All that a page can do whose fetches arrive.
const WORKS: [(&str, &str); 13] = [
    (
        "fetch",
        "200 | \"letters-1\" | bytes | 26 | abcdefghijklmnopqrstuvwxyz",
    ),
    ("range", "206 | bytes 3-4/26 | \"letters-1\" | de"),
    ("suffix", "206 | bytes 24-25/26 | yz"),
    ("ifRange", "200 | - | abcdefghijklmnopqrstuvwxyz"),
    ("noToken", "401 | Bearer realm=\"peer\" | 401 Unauthorized"),
    (
        "wrongToken",
        "401 | Bearer realm=\"peer\", error=\"invalid_token\" | 401 Unauthorized",
    ),
    ("unknown", "404 | 404 Not Found"),
    ("beyond", "416 | bytes */26 | 416 Range Not Satisfiable"),
    ("element", "error 4"),
    ("elementWithCors", "error 4"),
    ("blob", "plays and seeks"),
    ("mediaSource", "plays and seeks"),
    ("sandbox", "blocked"),
];

fn names(outcomes: &[(&str, &str)]) -> Value {
    outcomes.iter().map(|(name, _)| *name).collect()
}

#[test]
fn a_page_on_this_machine() {
    let port = site();
    let origin = format!("http://localhost:{port}");
    let Some(peer) = peer(&[&origin]) else { return };
    let base = peer.local_addr().to_string();
    let Some(browser) = Browser::start(&[]) else {
        return;
    };
    browser.go(&origin);
    let expected = [
        &WORKS[..],
        &[
            ("secure", "secure"),
            ("serviceWorker", "plays and seeks"),
            (
                "mediaSourceTypes",
                "audio/mpeg, audio/mp4; codecs=flac, audio/mp4; codecs=mp4a.40.2, audio/webm; codecs=opus",
            ),
        ],
    ]
    .concat();
    let got = outcomes(&browser, &base, json!({ "only": names(&expected) }));
    assert_outcomes(&got, &expected);

    // The same page under its other name is another origin.
    browser.go(&format!("http://127.0.0.1:{port}"));
    let only = json!({ "only": ["secure", "fetch", "noToken"] });
    let expected = [
        ("secure", "secure"),
        ("fetch", "blocked"),
        ("noToken", "blocked"),
    ];
    assert_outcomes(&outcomes(&browser, &base, only), &expected);
    assert_eq!(peer.stats().tokens_refused, 1, "{:?}", peer.stats());
}

#[test]
fn a_page_of_another_machine_without_tls() {
    let port = site();
    let origin = format!("http://page.test:{port}");
    let Some(peer) = peer(&[&origin]) else { return };
    let base = format!("peer.test:{}", peer.port());
    let spaces = format!(
        "--ip-address-space-overrides=127.0.0.1:{port}=local,127.0.0.1:{}=local",
        peer.port()
    );
    let Some(browser) = Browser::start(&[&spaces]) else {
        return;
    };
    browser.go(&origin);
    let expected = [
        &WORKS[..],
        &[
            ("secure", "not secure"),
            ("serviceWorker", "no service workers here"),
        ],
    ]
    .concat();
    let got = outcomes(&browser, &base, json!({ "only": names(&expected) }));
    assert_outcomes(&got, &expected);
    // Nor is anybody asked on the way from the network to this machine's own addresses, so far: the
    // specification wants it.
    let Some(here) = self::peer(&[&origin]) else {
        return;
    };
    let base = here.local_addr().to_string();
    let got = outcomes(&browser, &base, json!({ "only": ["fetch"] }));
    assert_outcomes(&got, &WORKS[..1]);
}

#[test]
fn a_page_of_a_file() {
    let Some(peer) = peer(&["http://localhost:1"]) else {
        return;
    };
    let Some(browser) = Browser::start(&[]) else {
        return;
    };
    let scratch = Scratch::new();
    let page = fs::canonicalize(scratch.write("page.html", PAGE)).unwrap();
    browser.go(&format!("file://{}", page.display()));
    let expected = [
        ("secure", "secure"),
        ("fetch", "blocked"),
        ("element", "error 4"),
        ("sandbox", "blocked"),
    ];
    let only = json!({ "only": names(&expected) });
    let got = outcomes(&browser, &peer.local_addr().to_string(), only);
    assert_outcomes(&got, &expected);
    // Its preflight came, and got what everybody gets.
    assert_eq!(peer.stats().requests, 0);
}

#[test]
fn a_page_with_tls() {
    let Some(site) = SecureSite::start(PAGE) else {
        return;
    };
    let origin = format!("https://page.test:{}", site.port);
    let Some(peer) = peer(&[&origin]) else { return };
    let Some(browser) = Browser::start(&[]) else {
        return;
    };
    browser.go(&origin);
    let expected = [&WORKS[..], &[("secure", "secure")]].concat();
    let only = json!({ "only": names(&expected) });
    // Loopback is trustworthy without TLS.
    let got = outcomes(&browser, &peer.local_addr().to_string(), only);
    assert_outcomes(&got, &expected);
    // Any other machine is mixed content.
    let expected = [("fetch", "blocked"), ("element", "error 4")];
    let only = json!({ "only": names(&expected) });
    let base = format!("peer.test:{}", peer.port());
    assert_outcomes(&outcomes(&browser, &base, only), &expected);
}

#[test]
fn a_page_of_the_public_network() {
    let Some(secure) = SecureSite::start(PAGE) else {
        return;
    };
    let plain = site();
    let origin = format!("https://page.test:{}", secure.port);
    let plain_origin = format!("http://page.test:{plain}");
    let Some(here) = peer(&[&origin, &plain_origin]) else {
        return;
    };
    let Some(there) = peer(&[&origin, &plain_origin]) else {
        return;
    };
    let spaces = format!(
        "--ip-address-space-overrides=127.0.0.1:{plain}=public,127.0.0.1:{}=public,\
         127.0.0.1:{}=loopback,127.0.0.1:{}=local",
        secure.port,
        here.port(),
        there.port()
    );
    let Some(browser) = Browser::start(&[&spaces]) else {
        return;
    };
    let here_base = here.local_addr().to_string();
    let there_base = format!("peer.test:{}", there.port());

    // Without TLS nothing arrives, and nobody is asked.
    browser.go(&plain_origin);
    for base in [&here_base, &there_base] {
        let got = outcomes(&browser, base, json!({ "only": ["fetch"] }));
        assert_outcomes(&got, &[("fetch", "blocked")]);
    }
    // With TLS the user is asked, and says no, and then yes.
    browser.go(&origin);
    for (base, space, permission) in [
        (&here_base, "loopback", "loopback-network"),
        (&there_base, "local", "local-network"),
    ] {
        let mut more = json!({ "only": ["permission"], "permission": permission,
                               "targetAddressSpace": space });
        let got = outcomes(&browser, base, more.clone());
        assert_outcomes(&got, &[("permission", "prompt")]);
        let answer = |setting: &str| {
            let said = json!({ "permission": { "name": permission }, "setting": setting,
                               "origin": origin });
            browser.devtools("Browser.setPermission", said);
        };
        answer("denied");
        more["only"] = json!(["fetch"]);
        assert_outcomes(
            &outcomes(&browser, base, more.clone()),
            &[("fetch", "blocked")],
        );
        answer("granted");
        let expected = [
            ("permission", "granted"),
            ("fetch", WORKS[0].1),
            ("range", WORKS[1].1),
        ];
        more["only"] = names(&expected);
        assert_outcomes(&outcomes(&browser, base, more), &expected);
    }
    assert_eq!(here.stats().requests, 2, "{:?}", here.stats());
}

/// The public half of a key that nobody has the other half of: it gives the extension below the same
/// origin wherever it is loaded from.
const EXTENSION_KEY: &str = "\
    MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAwaIqFb7ZI277NFPRTn3m7+RVqwbbFYBC7LJ8eaRGBDCvuo\
    BInQYOzbGI6NDFSK9pL0nO/QnvUNYOCVyx4apkM66TwzzmQtlYZQmdfXUj0tKLbMqrY9GN1gA1rdK4JLkyTZaaNkG9\
    1yQjD8/QMdgWnsgNYSypZhz0iSHc3nUz1J0mWhrTpJpoMb8Tw+2jHfnccD+6ZFcxloRb5xGue0XJ3kLKoSiievgHvA\
    zsPxVGMOrsRGDQHv3cf6hfnYpUYrWiOppt2c1L53Ee0GFkLU9bySP1fJiTZeilUGWbuDZiOxhhT0VjcOp67bovHaLR\
    UNHJkxF37iNk0DS7pa8irQ84dwIDAQAB";
const EXTENSION: &str = "chrome-extension://lcalglelkeffnpldamdiblepmlbfldho";

#[test]
fn a_page_of_an_extension() {
    let scratch = Scratch::new();
    let manifest = json!({ "manifest_version": 3, "name": "A page", "version": "1",
                           "key": EXTENSION_KEY });
    scratch.write("manifest.json", manifest.to_string().as_bytes());
    scratch.write("page.html", PAGE);
    let Some(peer) = peer(&[EXTENSION]) else {
        return;
    };
    let load = format!("--load-extension={}", scratch.path().display());
    let arguments = [
        &*load,
        "--disable-features=DisableLoadExtensionCommandLineSwitch",
    ];
    let Some(browser) = Browser::start(&arguments) else {
        return;
    };
    browser.go(&format!("{EXTENSION}/page.html"));
    let expected = [
        WORKS[0],
        WORKS[1],
        ("noToken", WORKS[4].1),
        ("blob", "plays and seeks"),
        ("mediaSource", "plays and seeks"),
    ];
    let only = json!({ "only": names(&expected) });
    let got = outcomes(&browser, &peer.local_addr().to_string(), only);
    assert_outcomes(&got, &expected);
}

#[test]
fn elements_of_other_pages_on_a_bridge() {
    let Some(secure) = SecureSite::start(PAGE) else {
        return;
    };
    let plain = format!("http://localhost:{}", site());
    let secure = format!("https://page.test:{}", secure.port);
    let Some(peer) = peer(&[]) else { return };
    let client = PeerClient::builder(peer.local_addr().to_string(), "secret");
    let client = client.build().unwrap();
    let scratch = Scratch::new();
    let file = fs::canonicalize(scratch.write("page.html", PAGE)).unwrap();
    let file = format!("file://{}", file.display());
    let Some(browser) = Browser::start(&[]) else {
        return;
    };
    let tries = |bridge: &PeerBridge, page: &str| {
        let url = bridge.url(&client, "tone.mp3", "tone.mp3").unwrap();
        browser.go(page);
        let only = json!(["bridged", "bridgedWithCors"]);
        outcomes(&browser, "", json!({ "only": only, "url": url.as_str() }))
    };
    let closed = PeerBridge::start().unwrap();
    let open = PeerBridge::builder()
        .allow_origin(&plain)
        .and_then(|builder| builder.allow_origin(&secure))
        .and_then(|builder| builder.start())
        .unwrap();
    for page in [&plain, &secure, &file] {
        let expected = [("bridged", "error 4"), ("bridgedWithCors", "error 4")];
        assert_outcomes(&tries(&closed, page), &expected);
    }
    assert_eq!(closed.stats().refused_origin, 6, "{:?}", closed.stats());
    for page in [&plain, &secure] {
        // Without the attribute no browser says what page it is.
        let expected = [
            ("bridged", "error 4"),
            ("bridgedWithCors", "plays and seeks"),
        ];
        assert_outcomes(&tries(&open, page), &expected);
    }
}
