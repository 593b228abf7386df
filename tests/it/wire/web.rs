//! Fetch, the CORS protocol: what pages of other origins may read, where the app lets them.

use super::*;

/// The origin that is allowed, and another one that is.
const PAGE: &str = "Origin: https://player.example";
const LOCAL_PAGE: &str = "Origin: http://localhost:8080";

/// A server that lets pages of two origins in.
fn start_for_pages() -> PeerServer {
    let map = sources();
    let resolver: SourceResolver = Arc::new(move |handle: &str| match handle {
        "panics" => panic!("as planned"),
        handle => map.get(handle).cloned(),
    });
    PeerServer::builder(TOKEN, resolver)
        .allow_origin("https://player.example")
        .and_then(|builder| builder.allow_origin("http://localhost:8080"))
        .and_then(|builder| builder.listen("127.0.0.1:0"))
        .and_then(|builder| builder.start())
        .unwrap()
}

/// A preflight, as Chromium sends it, with other fields.
fn preflight(path: &str, fields: &[&str]) -> Vec<u8> {
    let line = format!("OPTIONS {path} HTTP/1.1");
    let mut lines = vec![line.as_str(), HOST];
    lines.extend_from_slice(fields);
    head(&lines)
}

/// The fields that let a page read the answer.
fn readable(answer: Answer, origin: &str) -> Answer {
    answer
        .has("Access-Control-Allow-Origin", origin)
        .has("Vary", "Origin")
        .has(
            "Access-Control-Expose-Headers",
            "Accept-Ranges, Content-Length, Content-Range, Date, ETag, Retry-After, \
             WWW-Authenticate",
        )
        .lacks("Access-Control-Allow-Credentials")
}

/// No such field, as if there were no list of origins; only that there is one shows.
fn unreadable(answer: Answer) -> Answer {
    answer
        .has("Vary", "Origin")
        .lacks("Access-Control-Allow-Origin")
        .lacks("Access-Control-Expose-Headers")
        .lacks("Access-Control-Allow-Methods")
        .lacks("Access-Control-Allow-Headers")
        .lacks("Access-Control-Max-Age")
}

/// The answer to a preflight.
fn permission(origin: &str) -> Answer {
    readable(answer(204), origin)
        .has("Access-Control-Allow-Methods", "GET, HEAD")
        .has(
            "Access-Control-Allow-Headers",
            "Authorization, Range, If-Range, If-Match, If-None-Match, If-Modified-Since, \
             If-Unmodified-Since",
        )
        .has("Access-Control-Max-Age", "86400")
        .lacks("Access-Control-Allow-Private-Network")
        .lacks("Allow")
        .content(b"")
}

#[test]
fn preflights_need_no_token() {
    let player = || permission("https://player.example");
    let asks = "Access-Control-Request-Method: GET";
    let letters = "/track/letters";
    let rows = [
        stays(
            "as a browser sends it",
            preflight(
                letters,
                &[
                    PAGE,
                    asks,
                    "Access-Control-Request-Headers: authorization,if-range,range",
                    "Access-Control-Request-Private-Network: true",
                    "Sec-Fetch-Mode: cors",
                ],
            ),
            player(),
        ),
        stays(
            "of another allowed origin",
            preflight(letters, &[LOCAL_PAGE, asks]),
            permission("http://localhost:8080"),
        ),
        stays(
            "names in small letters",
            preflight(
                letters,
                &[
                    "origin: https://player.example",
                    "access-control-request-method: GET",
                ],
            ),
            player(),
        ),
        // Whether the method and the fields will do is for the browser to tell from the answer.
        stays(
            "of a method that is not allowed",
            preflight(letters, &[PAGE, "Access-Control-Request-Method: PUT"]),
            player(),
        ),
        stays(
            "with the token",
            preflight(letters, &[PAGE, asks, AUTH]),
            player(),
        ),
        // The third one would end a connection, if it were looked at.
        Row::new(
            "with wrong tokens",
            preflight(letters, &[PAGE, asks, "Authorization: Bearer wrong"]).repeat(4),
            vec![player(), player(), player(), player()],
            Then::Stays,
        ),
        // Nothing about the target shows: it is not looked at.
        stays(
            "of an unknown handle",
            preflight("/track/nothing", &[PAGE, asks]),
            player(),
        ),
        stays(
            "of another path",
            preflight("/x?y", &[PAGE, asks]),
            player(),
        ),
        stays("of everything", preflight("*", &[PAGE, asks]), player()),
        stays(
            "with content",
            joined(&[
                &preflight(letters, &[PAGE, asks, "Content-Length: 5"]),
                b"hello",
            ]),
            player(),
        ),
        ends(
            "that closes",
            preflight(letters, &[PAGE, asks, "Connection: close"]),
            player(),
        ),
        ends(
            "of HTTP/1.0",
            head(&["OPTIONS /track/letters HTTP/1.0", PAGE, asks]),
            player(),
        ),
        Row::new(
            "before, between and behind requests",
            joined(&[
                &preflight(letters, &[PAGE, asks]),
                &get("letters", &[PAGE]),
                &preflight(letters, &[LOCAL_PAGE, asks]),
                &get("letters", &[]),
            ]),
            vec![
                player(),
                readable(super::letters(), "https://player.example"),
                permission("http://localhost:8080"),
                unreadable(super::letters()),
            ],
            Then::Stays,
        ),
    ];
    run_table_at(&start_for_pages(), &rows);
}

#[test]
fn what_is_no_preflight_of_an_allowed_origin() {
    let asks = "Access-Control-Request-Method: GET";
    let path = "/track/letters";
    let refused_origins = [
        "Origin: https://other.example",
        "Origin: http://player.example",
        "Origin: https://player.example:444",
        "Origin: https://PLAYER.example",
        "Origin: https://player.example/",
        "Origin: https://player.example, https://player.example",
        "Origin: https://sub.player.example",
        "Origin: null",
        "Origin: *",
        "Origin:",
    ];
    let mut rows: Vec<Row> = refused_origins
        .iter()
        .map(|origin| {
            stays(
                *origin,
                preflight(path, &[origin, asks]),
                unreadable(answer(401)),
            )
        })
        .collect();
    rows.extend([
        stays(
            "no Origin",
            preflight(path, &[asks]),
            unreadable(answer(401)),
        ),
        stays(
            "two Origins",
            preflight(path, &[PAGE, PAGE, asks]),
            unreadable(answer(401)),
        ),
        // A page may send OPTIONS itself; that is no preflight, and no method of ours.
        stays(
            "no method asked for",
            preflight(path, &[PAGE]),
            readable(answer(401), "https://player.example"),
        ),
        stays(
            "no method asked for, with the token",
            preflight(path, &[PAGE, AUTH]),
            readable(answer(405), "https://player.example"),
        ),
        stays(
            "of another origin, with the token",
            preflight(path, &["Origin: https://other.example", asks, AUTH]),
            unreadable(answer(405)),
        ),
        stays(
            "GET with the fields of one",
            head(&["GET /track/letters HTTP/1.1", HOST, PAGE, asks]),
            readable(answer(401), "https://player.example"),
        ),
        ends(
            "without Host",
            head(&["OPTIONS /track/letters HTTP/1.1", PAGE, asks]),
            readable(answer(400), "https://player.example"),
        ),
        ends(
            "with content that is malformed",
            joined(&[
                &preflight(path, &[PAGE, asks, "Transfer-Encoding: chunked"]),
                b"x\r\n",
            ]),
            readable(answer(400), "https://player.example"),
        ),
    ]);
    run_table_at(&start_for_pages(), &rows);
}

#[test]
fn every_answer_to_an_allowed_origin_is_readable() {
    let page = |answer: Answer| readable(answer, "https://player.example");
    let with_page = |fields: &[&'static str]| [&[PAGE][..], fields].concat();
    let rows = [
        stays("200", get("letters", &[PAGE]), page(letters())),
        stays(
            "200 of an empty source",
            get("empty", &[PAGE]),
            page(ok(b"")),
        ),
        stays(
            "200 of unknown length",
            get("unknown", &[PAGE]),
            page(answer(200)),
        ),
        stays(
            "206",
            get("letters", &with_page(&["Range: bytes=3-4"])),
            page(part(3, 4)),
        ),
        stays(
            "206 in parts",
            get("letters", &with_page(&["Range: bytes=0-0,2-3"])),
            page(answer(206).parts(LETTERS, &[(0, 0), (2, 3)])),
        ),
        stays(
            "304",
            get("letters", &with_page(&["If-None-Match: \"letters-1\""])),
            page(answer(304)),
        ),
        stays(
            "401",
            head(&["GET /track/letters HTTP/1.1", HOST, PAGE]),
            page(answer(401)),
        ),
        stays(
            "401 with a wrong token",
            head(&[
                "GET /track/letters HTTP/1.1",
                HOST,
                PAGE,
                "Authorization: Bearer wrong",
            ]),
            page(answer(401)),
        ),
        stays("404", get("nothing", &[PAGE]), page(answer(404))),
        stays(
            "405",
            request("POST", "letters", &[PAGE]),
            page(answer(405)),
        ),
        stays(
            "412",
            get("letters", &with_page(&["If-Match: \"x\""])),
            page(answer(412)),
        ),
        stays(
            "416",
            get("letters", &with_page(&["Range: bytes=26-"])),
            page(unsatisfiable()),
        ),
        either(
            "417",
            get("letters", &with_page(&["Expect: x"])),
            page(answer(417)),
        ),
        stays("500", get("panics", &[PAGE]), page(answer(500))),
        stays(
            "501",
            request("BREW", "letters", &[PAGE]),
            page(answer(501)),
        ),
        ends("400", get("%", &[PAGE]), page(answer(400))),
        ends(
            "400 without Host",
            head(&["GET /track/letters HTTP/1.1", PAGE, AUTH]),
            page(answer(400)),
        ),
        ends(
            "400 with two tokens",
            get("letters", &with_page(&[AUTH, "Connection: close"])),
            page(answer(400)),
        ),
        stays(
            "HEAD",
            request("HEAD", "letters", &[PAGE]),
            page(answer(200)).for_head(),
        ),
        // A head that is none comes from nobody.
        ends(
            "400, malformed",
            get("letters", &[PAGE, "no colon"]),
            unreadable(answer(400)),
        ),
    ];
    run_table_at(&start_for_pages(), &rows);
}

#[test]
fn nobody_else_notices() {
    let stranger = "Origin: https://other.example";
    let rows: Vec<Row> = [None, Some(stranger), Some("Origin: null")]
        .into_iter()
        .flat_map(|origin| {
            let fields: Vec<&str> = origin.into_iter().collect();
            let name = |what: &str| format!("{what}, {origin:?}");
            [
                stays(
                    name("200"),
                    get("letters", &fields),
                    unreadable(letters().shows("ETag")),
                ),
                stays(
                    name("206"),
                    get("letters", &[&["Range: bytes=3-4"], &fields[..]].concat()),
                    unreadable(part(3, 4)),
                ),
                stays(
                    name("404"),
                    get("nothing", &fields),
                    unreadable(answer(404)),
                ),
                stays(
                    name("401"),
                    head(&[&["GET /track/letters HTTP/1.1", HOST], &fields[..]].concat()),
                    unreadable(answer(401)),
                ),
            ]
        })
        .collect();
    run_table_at(&start_for_pages(), &rows);
}

#[test]
fn without_a_list_there_is_no_web_access() {
    let silent = |answer: Answer| {
        answer
            .lacks("Vary")
            .lacks("Access-Control-Allow-Origin")
            .lacks("Access-Control-Expose-Headers")
            .lacks("Access-Control-Allow-Methods")
    };
    run_table(&[
        stays(
            "preflight",
            preflight(
                "/track/letters",
                &[PAGE, "Access-Control-Request-Method: GET"],
            ),
            silent(answer(401)),
        ),
        stays(
            "preflight with the token",
            preflight(
                "/track/letters",
                &[PAGE, AUTH, "Access-Control-Request-Method: GET"],
            ),
            silent(answer(405)),
        ),
        stays("GET", get("letters", &[PAGE]), silent(letters())),
        stays(
            "401",
            head(&["GET /track/letters HTTP/1.1", HOST, PAGE]),
            silent(answer(401)),
        ),
    ]);
}

#[test]
fn origins_that_no_browser_sends_are_refused_at_once() {
    use cranpose_services::peer::PeerError;
    for (origin, reason) in [
        ("*", "every page"),
        ("null", "no site"),
        ("https://player.example/", "not even a slash"),
        ("https://Player.example", "lower case"),
        ("https://player.example:443", "default port"),
        ("player.example", "https://"),
        ("https://a\r\nX: y", "host"),
    ] {
        let resolver: SourceResolver = Arc::new(|_| None);
        match PeerServer::builder(TOKEN, resolver).allow_origin(origin) {
            Err(PeerError::InvalidInput(text)) => {
                assert!(text.contains(reason), "{origin:?}: {text}");
                assert!(!text.contains('\r'), "{text:?}");
            }
            Err(other) => panic!("{origin:?}: {other:?}"),
            Ok(_) => panic!("{origin:?} was taken"),
        }
    }
}
