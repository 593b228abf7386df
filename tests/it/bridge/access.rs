//! Who is let in: whoever has the URL, calls the bridge by its own name, and is no foreign page. All
//! others get the same bytes.

use std::sync::Mutex;

use cranpose_services::peer::{BridgeStats, BytesSource, ServerEvent};
use peer_tests::raw::show;

use super::*;

fn item(text: &str) -> Arc<dyn ByteSource> {
    Arc::new(BytesSource::new(text.as_bytes().to_vec()))
}

/// The whole answer, but for the one field that changes by the second.
fn bytes_of_answer(bridge: &PeerBridge, request: &[u8]) -> String {
    let mut peer = RawPeer::connect(bridge.local_addr()).unwrap();
    peer.send(request).unwrap();
    peer.half_close().unwrap();
    let (answer, _) = peer.read_to_end().unwrap();
    let lines = String::from_utf8(answer).unwrap();
    let lines = lines.split_inclusive("\r\n");
    lines.filter(|line| !line.starts_with("Date: ")).collect()
}

const REFUSED: &str = "HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain; charset=utf-8\r\n\
                       Content-Length: 14\r\nCache-Control: no-store\r\n\r\n403 Forbidden\n";

#[test]
fn whatever_is_refused_gets_the_same_answer_and_is_counted_by_its_reason() {
    let bridge = PeerBridge::start().unwrap();
    let other_bridge = PeerBridge::start().unwrap();
    let short = PeerBridge::builder()
        .lifetime(Duration::ZERO)
        .start()
        .unwrap();
    let url = |bridge: &PeerBridge, name| bridge.url_of(item("content"), name).unwrap();
    let (good, other) = (url(&bridge, "a b.mp3"), url(&bridge, "other.mp3"));
    let revoked = url(&bridge, "revoked.mp3");
    bridge.revoke(&revoked);
    let expired = url(&short, "a.mp3");
    let foreign_url = url(&other_bridge, "a b.mp3");
    let capability = |url: &BridgeUrl| target(url).split('/').nth(1).unwrap().to_owned();
    let own = bridge.local_addr().to_string();
    let good = target(&good);
    assert!(good.ends_with("/a%20b.mp3"), "only its name shows");
    let guess = format!("/{}/a%20b.mp3", "0".repeat(32));
    let swapped = format!(
        "/{}/other.mp3",
        capability(&bridge.url_of(item("x"), "x.mp3").unwrap())
    );
    let nearly = good.replacen('/', "/0", 1);
    let upper = good.to_uppercase();
    let page = |site: &str| format!("Sec-Fetch-Site: {site}");

    type Reason = fn(&mut BridgeStats) -> &mut u64;
    let unknown: Reason = |stats| &mut stats.refused_unknown;
    let host: Reason = |stats| &mut stats.refused_host;
    let origin: Reason = |stats| &mut stats.refused_origin;
    let gone: Reason = |stats| &mut stats.refused_revoked;
    let mut rows: Vec<(Vec<u8>, Reason)> = Vec::new();
    let get = |target: &str, host: &str, lines: &[&str]| request("GET", target, host, lines);
    for target in [
        "/",
        "//",
        "/a",
        &*guess,
        &swapped,
        &nearly,
        &upper,
        target(&foreign_url),
        "/track/a",
        "*",
        "/%",
        "/%00/%ff",
        "https://localhost/a/b",
        "http://localhost/a/b",
        &format!("{good}/"),
        &good.replace("%20", "%2520"),
        &format!("/{good}"),
        &good[..good.len() - 1],
        &format!("/{}", capability(&revoked)),
    ] {
        rows.push((get(target, &own, &[]), unknown));
        // A token opens nothing here, and no range or condition is looked at.
        let more = [
            "Authorization: Bearer secret",
            "Range: bytes=9-1",
            "If-Match: \"x\"",
        ];
        rows.push((get(target, &own, &more), unknown));
    }
    rows.push((get(target(&revoked), &own, &[]), gone));
    for name in [
        "evil.example",
        "evil.example:80",
        "10.0.0.1",
        "0.0.0.0",
        "localhost.evil.example",
        "127.1",
        "[::]",
        "[fe80::1]",
        "127.0.0.1:99999",
        "192.168.1.2",
    ] {
        rows.push((get(good, name, &[]), host));
        rows.push((get(&guess, name, &[]), host));
        // Its own page is foreign, too, where its name is.
        let origin = format!("Origin: http://{name}");
        rows.push((get(good, name, &[&origin]), host));
        let absolute = format!("http://{name}{good}");
        rows.push((get(&absolute, &own, &[]), host));
    }
    for line in [
        "Origin: null",
        "Origin: https://evil.example",
        "Origin: http://127.0.0.1:1",
        "Origin: http://localhost",
        "Origin: ",
        "Origin: file://",
        &format!("Origin: https://{own}"),
        &page("cross-site"),
        &page("same-site"),
        &page("anything"),
        &page(""),
    ] {
        rows.push((get(good, &own, &[line]), origin));
        rows.push((get(&guess, &own, &[line]), origin));
        let absolute = format!("http://{own}{good}");
        rows.push((get(&absolute, &own, &[line]), origin));
    }
    let twice = format!("Origin: http://{own}\r\nOrigin: http://{own}");
    rows.push((get(good, &own, &[&twice]), origin));
    let asks = [
        "Origin: https://evil.example",
        "Access-Control-Request-Method: GET",
    ];
    rows.push((request("OPTIONS", good, &own, &asks), origin));
    for method in ["OPTIONS", "POST", "DELETE", "TRACE", "FETCH"] {
        rows.push((request(method, &guess, &own, &[]), unknown));
    }
    rows.push((b"GET / HTTP/1.1\r\nHost:\r\n\r\n".to_vec(), host));

    let mut expected = bridge.stats();
    for (request, reason) in &rows {
        assert_eq!(
            bytes_of_answer(&bridge, request),
            REFUSED,
            "{}",
            show(request)
        );
        *reason(&mut expected) += 1;
        expected.server.tokens_refused += 1;
        let stats = bridge.stats();
        let counts = |stats: &BridgeStats| {
            let BridgeStats {
                refused_unknown,
                refused_expired,
                refused_revoked,
                ..
            } = *stats;
            let told = [refused_unknown, refused_expired, refused_revoked];
            (
                told,
                stats.refused_host,
                stats.refused_origin,
                stats.server.tokens_refused,
            )
        };
        assert_eq!(counts(&stats), counts(&expected), "{}", show(request));
        assert_eq!(stats.server.requests, 0);
    }
    let own = short.local_addr().to_string();
    let request = get(target(&expired), &own, &[]);
    assert_eq!(bytes_of_answer(&short, &request), REFUSED);
    assert_eq!(short.stats().refused_expired, 1);
    // And to HEAD the same head.
    let head = bytes_of_answer(&bridge, &super::request("HEAD", &guess, "localhost", &[]));
    assert_eq!(head, REFUSED.strip_suffix("403 Forbidden\n").unwrap());
    assert_eq!(ask(&bridge, "GET", target(&other), &[]).content, b"content");
}

#[test]
fn who_has_the_url_is_let_in() {
    let bridge = PeerBridge::builder()
        .allow_origin("https://app.example")
        .unwrap()
        .start()
        .unwrap();
    let url = bridge.url_of(item("content"), "é/1.mp3").unwrap();
    let own = bridge.local_addr();
    let own_page = format!("Origin: http://{own}");
    let port = own.port();
    let good = target(&url);
    let absolute = format!("http://127.0.0.1:{port}{good}");
    let query = format!("{good}?t=1");
    let lower = good.replace("%C3%A9", "%c3%a9");
    for (target, host, lines) in [
        (good, own.to_string(), vec![]),
        (good, "localhost".to_owned(), vec![]),
        (good, format!("LOCALHOST:{port}"), vec![]),
        (good, "127.8.9.10:1".to_owned(), vec![]),
        (good, format!("[::1]:{port}"), vec![]),
        (&query, own.to_string(), vec![]),
        (&lower, own.to_string(), vec![]),
        (&absolute, own.to_string(), vec![]),
        (good, own.to_string(), vec!["Sec-Fetch-Site: none"]),
        (good, own.to_string(), vec!["Sec-Fetch-Site: same-origin"]),
        (
            good,
            own.to_string(),
            vec![&*own_page, "Sec-Fetch-Site: same-origin"],
        ),
        (
            good,
            own.to_string(),
            vec!["Authorization: Basic eDp5", "Authorization: x"],
        ),
        (
            good,
            own.to_string(),
            vec!["Origin: https://app.example", "Sec-Fetch-Site: cross-site"],
        ),
    ] {
        let mut peer = RawPeer::connect(own).unwrap();
        peer.send(&request("GET", target, &host, &lines)).unwrap();
        let answer = peer.read_response(false).unwrap().unwrap();
        assert_eq!(answer.status(), 200, "{target} {host} {lines:?}");
        assert_eq!(answer.content, b"content");
        assert_eq!(answer.field("Vary"), Some("Origin"));
        let is_foreign_page = lines.iter().any(|line| line.starts_with("Origin: https"));
        let readable = is_foreign_page.then_some("https://app.example");
        assert_eq!(answer.field("Access-Control-Allow-Origin"), readable);
    }
    let asks = [
        "Origin: https://app.example",
        "Access-Control-Request-Method: GET",
    ];
    let answer = ask(&bridge, "OPTIONS", good, &asks);
    assert_eq!((answer.status(), answer.content.len()), (204, 0));
    assert_eq!(
        answer.field("Access-Control-Allow-Origin"),
        Some("https://app.example")
    );
    // Only with the capability.
    assert_eq!(ask(&bridge, "OPTIONS", "/a/b", &asks).status(), 403);
    assert_eq!(ask(&bridge, "OPTIONS", good, &[]).status(), 405);
    assert_eq!(ask(&bridge, "POST", good, &[]).status(), 405);
}

#[test]
fn a_url_shows_its_capability_to_its_player_alone() {
    let events = Arc::new(Mutex::new(String::new()));
    let seen = Arc::clone(&events);
    let bridge = PeerBridge::builder()
        .on_event(move |event: &ServerEvent<'_>| *seen.lock().unwrap() += &format!("{event:?}\n"))
        .start()
        .unwrap();
    let url = bridge.url_of(item("content"), "a b.mp3").unwrap();
    let capability = target(&url).split('/').nth(1).unwrap();
    assert_eq!(capability.len(), 32, "128 bits in hexadecimal digits");
    let again = bridge.url_of(item("content"), "a b.mp3").unwrap();
    assert_ne!(again.as_str(), url.as_str());
    assert_eq!(ask(&bridge, "GET", target(&url), &[]).status(), 200);
    assert_eq!(ask(&bridge, "GET", "/x/y", &[]).status(), 403);
    let shown = format!("{url:?} {bridge:?} {:?}", bridge.stats());
    assert!(
        shown.contains("a b.mp3") && !shown.contains(capability),
        "{shown}"
    );
    let events = events.lock().unwrap();
    assert!(
        events.contains("handle: \"a b.mp3\"") && events.contains("TokenRefused"),
        "{events}"
    );
    assert!(!events.contains(capability), "{events}");
    assert_eq!(bridge.stats().urls, 2);
}

#[test]
fn a_bridge_is_for_this_device() {
    for address in ["0.0.0.0:0", "192.168.1.2:0", "[::]:0"] {
        let listened = PeerBridge::builder().listen(address.parse().unwrap());
        assert!(listened.is_err(), "{address}");
    }
    for origin in ["*", "null", "https://a/"] {
        assert!(
            PeerBridge::builder().allow_origin(origin).is_err(),
            "{origin}"
        );
    }
    let bridge = PeerBridge::start().unwrap();
    assert!(bridge.local_addr().ip().is_loopback());
    let other = PeerBridge::start().unwrap();
    // A URL of another bridge takes nothing back here.
    let url = bridge.url_of(item("a"), "a.mp3").unwrap();
    other.url_of(item("b"), "b.mp3").unwrap();
    other.revoke(&url);
    assert_eq!((other.stats().urls, bridge.stats().urls), (1, 1));
    assert_eq!(bridge.revoke_all(), 0);
    assert_eq!(bridge.stats().urls, 0);
    bridge.rebind().unwrap();
    let url = bridge.url_of(item("again"), "a.mp3").unwrap();
    assert_eq!(ask(&bridge, "GET", target(&url), &[]).content, b"again");
    assert!(bridge.is_listening());
}
