//! RFC 9110 §11, RFC 6750: credentials, challenges, and what an outsider learns.

use super::*;

const LINE: &str = "GET /track/letters HTTP/1.1";

fn with_credentials(credentials: &str) -> Vec<u8> {
    head(&[LINE, HOST, &format!("Authorization: {credentials}")])
}

#[test]
fn credentials_taken() {
    let rows: Vec<Row> = [
        "Bearer secret",
        "bearer secret",
        "BEARER secret",
        "bEaReR secret",
        // §11.4: 1*SP between scheme and token.
        "Bearer  secret",
        "Bearer     secret",
        // White space around a field value is not part of it.
        " Bearer secret",
        "\t Bearer secret",
        "Bearer secret ",
        "Bearer secret \t",
    ]
    .into_iter()
    .map(|c| stays(format!("{c:?}"), with_credentials(c), letters()))
    .chain([
        stays(
            "name in capitals",
            head(&[LINE, HOST, "AUTHORIZATION: Bearer secret"]),
            letters(),
        ),
        stays(
            "name in small letters",
            head(&[LINE, HOST, "authorization:Bearer secret"]),
            letters(),
        ),
        stays("first of all fields", head(&[LINE, AUTH, HOST]), letters()),
        stays(
            "Proxy-Authorization beside it",
            head(&[LINE, HOST, AUTH, "Proxy-Authorization: Basic eDp5"]),
            letters(),
        ),
        stays(
            "nominated by Connection",
            head(&[LINE, HOST, AUTH, "Connection: Authorization"]),
            letters(),
        ),
    ])
    .collect();
    run_table(&rows);
}

#[test]
fn credentials_refused() {
    let mut rows: Vec<Row> = [
        "Bearer Secret",
        "Bearer SECRET",
        "Bearer secre",
        "Bearer secrets",
        "Bearer ecret",
        "Bearer secrez",
        "Bearer tecret",
        "Bearer s",
        "Bearer secretsecret",
        "Bearer secret=",
        "Bearer secret==",
        "Bearer =secret",
        "Bearer s-e-c-r-e-t",
        "Bearer c2VjcmV0",
        "Bearer xxxxxx",
        "bearer wrong",
        "Bearer /",
    ]
    .into_iter()
    .map(|c| either(format!("{c:?}"), with_credentials(c), answer(401)))
    .collect();
    for length in [1, 100, 1000, 7000] {
        let bytes = with_credentials(&format!("Bearer {}", "a".repeat(length)));
        rows.push(either(format!("{length} bytes"), bytes, answer(401)));
    }
    run_table(&rows);
}

#[test]
fn credentials_garbled() {
    let rows: Vec<Row> = [
        "",
        "Bearer",
        "Bearer ",
        "Bearersecret",
        "Bearer\tsecret",
        "Bearer \tsecret",
        "Bearer\u{a0}secret",
        "secret",
        "Bearer secret secret",
        "Bearer secret x",
        "Bearer secret,",
        "Bearer secret, x=y",
        "Bearer ,secret",
        "Bearer \"secret\"",
        "Bearer 'secret'",
        "Bearer token=secret",
        "Bearer token=\"secret\"",
        "Bearer: secret",
        "Bearer=secret",
        "Bearer,secret",
        "Basic secret",
        "Basic c2VjcmV0",
        "Basic OnNlY3JldA==",
        "Digest username=\"secret\"",
        "Token secret",
        "MAC secret",
        "Negotiate secret",
        "Bearer2 secret",
        "XBearer secret",
        "\"Bearer\" secret",
        "Bearer sec ret",
        "Bearer secret;",
        "Bearer sécret",
        "Bearer secret, Bearer secret",
        "Basic x, Bearer secret",
        "Bearer secret\\",
        "Bearer %73ecret",
    ]
    .into_iter()
    .map(|c| either(format!("{c:?}"), with_credentials(c), answer(401)))
    .collect();
    run_table(&rows);
}

#[test]
fn repeated_or_elsewhere() {
    let wrong = "Authorization: Bearer wrong";
    run_table(&[
        either("twice, equal", head(&[LINE, HOST, AUTH, AUTH]), answer(400)),
        either(
            "twice, right first",
            head(&[LINE, HOST, AUTH, wrong]),
            answer(400),
        ),
        either(
            "twice, right last",
            head(&[LINE, HOST, wrong, AUTH]),
            answer(400),
        ),
        either(
            "twice, both wrong",
            head(&[LINE, HOST, wrong, wrong]),
            answer(400),
        ),
        either("twice, apart", head(&[LINE, AUTH, HOST, AUTH]), answer(400)),
        either(
            "twice, another case",
            head(&[LINE, HOST, AUTH, "AUTHORIZATION: Bearer secret"]),
            answer(400),
        ),
        either(
            "twice, one empty",
            head(&[LINE, HOST, AUTH, "Authorization:"]),
            answer(400),
        ),
        either(
            "twice, another scheme",
            head(&[LINE, HOST, AUTH, "Authorization: Basic eDp5"]),
            answer(400),
        ),
        either("none", head(&[LINE, HOST]), answer(401)),
        // RFC 6750 §2.2 and §2.3 are not offered: a token in a URI ends in logs.
        either(
            "in the query",
            head(&["GET /track/letters?access_token=secret HTTP/1.1", HOST]),
            answer(401),
        ),
        either(
            "as userinfo",
            head(&[
                "GET /track/letters HTTP/1.1",
                HOST,
                "Proxy-Authorization: Bearer secret",
            ]),
            answer(401),
        ),
        either(
            "as a cookie",
            head(&[LINE, HOST, "Cookie: Authorization=Bearer secret"]),
            answer(401),
        ),
        either(
            "in a longer name",
            head(&[LINE, HOST, "X-Authorization: Bearer secret"]),
            answer(401),
        ),
        either(
            "in a form",
            joined(&[
                &head(&[
                    LINE,
                    HOST,
                    "Content-Type: application/x-www-form-urlencoded",
                    "Content-Length: 19",
                ]),
                b"access_token=secret",
            ]),
            answer(401),
        ),
        either(
            "in 1.0",
            head(&["GET /track/letters HTTP/1.0"]),
            answer(401),
        ),
        ends(
            "in 1.0, right",
            head(&["GET /track/letters HTTP/1.0", AUTH]),
            letters(),
        ),
        either(
            "with an obs-fold",
            head(&[LINE, HOST, "Authorization: Bearer", " secret"]),
            answer(400),
        ),
        Row::new(
            "for each request anew",
            joined(&[&get("letters", &[]), &head(&[LINE, HOST])]),
            vec![letters(), answer(401)],
            Then::Either,
        ),
    ]);
}

/// One exchange on a connection of its own.
fn exchange(server: &PeerServer, bytes: &[u8]) -> Response {
    let mut peer = RawPeer::connect(server.local_addr()).unwrap();
    peer.send(bytes).unwrap();
    let response = peer
        .read_response(bytes.starts_with(b"HEAD"))
        .unwrap()
        .unwrap();
    house_rules(&response, bytes.starts_with(b"HEAD")).unwrap();
    response
}

#[test]
fn error_codes() {
    // RFC 6750 §3: no error code where no credentials came; invalid_token where they were wrong.
    let server = start();
    let challenge = |bytes: &[u8]| {
        let response = exchange(&server, bytes);
        assert_eq!(response.status(), 401, "{}", show(bytes));
        check_challenge(response.field("WWW-Authenticate").unwrap()).unwrap()
    };
    for (name, bytes) in [
        ("none", head(&[LINE, HOST])),
        ("another scheme", with_credentials("Basic c2VjcmV0")),
        (
            "query",
            head(&["GET /track/letters?access_token=secret HTTP/1.1", HOST]),
        ),
    ] {
        let params = challenge(&bytes);
        assert_eq!(params.keys().collect::<Vec<_>>(), ["realm"], "{name}");
    }
    for wrong in [
        "Bearer wrong",
        "Bearer Secret",
        "bearer secre",
        "Bearer secretsecret",
        "Bearer  x",
    ] {
        let params = challenge(&with_credentials(wrong));
        assert_eq!(
            params.get("error").map(String::as_str),
            Some("invalid_token"),
            "{wrong}"
        );
    }
}

#[test]
fn an_outsider_learns_nothing() {
    // Whatever is asked for, in whatever way, the answer without the token is the same answer.
    let server = start();
    let picture = |bytes: &[u8]| {
        let response = exchange(&server, bytes);
        let mut fields = response.head.fields.clone();
        fields.retain(|(name, _)| !name.eq_ignore_ascii_case("Date"));
        (
            response.head.status,
            response.head.reason.clone(),
            fields,
            response.content,
        )
    };
    for credentials in [
        None,
        Some("Authorization: Bearer wrong"),
        Some("Authorization: Basic eA=="),
    ] {
        let asked = |line: &str, fields: &[&str]| {
            let mut lines = vec![line, HOST];
            lines.extend(credentials);
            lines.extend_from_slice(fields);
            head(&lines)
        };
        let known = picture(&asked(LINE, &[]));
        assert_eq!(known.0, 401);
        for line in [
            "GET /track/nothing HTTP/1.1",
            "GET /track/empty HTTP/1.1",
            "GET /track/unknown HTTP/1.1",
            "GET /track/ HTTP/1.1",
            "GET / HTTP/1.1",
            "GET /admin HTTP/1.1",
            "GET /track/%FF HTTP/1.1",
            "GET http://peer.test/track/letters HTTP/1.1",
            "POST /track/letters HTTP/1.1",
            "PUT /track/letters HTTP/1.1",
            "DELETE /track/letters HTTP/1.1",
            "OPTIONS /track/letters HTTP/1.1",
            "OPTIONS * HTTP/1.1",
            "TRACE /track/letters HTTP/1.1",
            "PATCH /track/letters HTTP/1.1",
            "BREW /track/letters HTTP/1.1",
            "get /track/letters HTTP/1.1",
            "CONNECT peer.test:80 HTTP/1.1",
        ] {
            assert_eq!(
                picture(&asked(line, &[])),
                known,
                "{line} with {credentials:?}"
            );
        }
        for fields in [
            &["Range: bytes=0-1"][..],
            &["Range: bytes=900-"],
            &["Range: bytes=0-0,2-2"],
            &["If-None-Match: \"letters-1\""],
            &["If-None-Match: *"],
            &["If-Match: \"x\""],
            &["If-Modified-Since: Wed, 01 Jan 2020 00:00:00 GMT"],
            &["If-Unmodified-Since: Mon, 01 Jan 2018 00:00:00 GMT"],
            &["Range: bytes=0-1", "If-Range: \"letters-1\""],
            &["Accept: text/plain"],
        ] {
            assert_eq!(
                picture(&asked(LINE, fields)),
                known,
                "{fields:?} with {credentials:?}"
            );
        }
        // A HEAD gets the same fields and no content.
        let to_head = picture(&asked("HEAD /track/letters HTTP/1.1", &[]));
        assert_eq!(
            (to_head.0, &to_head.1, &to_head.2),
            (known.0, &known.1, &known.2)
        );
    }
}

#[test]
fn the_resolver_is_not_asked_without_the_token() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    let resolver: SourceResolver = Arc::new(move |handle: &str| {
        seen.lock().unwrap().push(handle.to_owned());
        None
    });
    let server = PeerServer::start("127.0.0.1:0", TOKEN, resolver).unwrap();
    let status = |bytes: &[u8]| exchange(&server, bytes).status();
    assert_eq!(status(&head(&["GET /track/outside HTTP/1.1", HOST])), 401);
    assert_eq!(status(&head(&["HEAD /track/outside HTTP/1.1", HOST])), 401);
    assert_eq!(
        status(&head(&[
            "GET /track/outside HTTP/1.1",
            HOST,
            "Authorization: Bearer x"
        ])),
        401
    );
    assert_eq!(
        status(&request("POST", "outside", &["Content-Length: 0"])),
        405
    );
    assert_eq!(status(&request("BREW", "outside", &[])), 501);
    assert_eq!(status(&with_line("GET /elsewhere/outside HTTP/1.1")), 404);
    assert_eq!(status(&get("inside", &[])), 404);
    assert_eq!(status(&request("HEAD", "inside%2Ftoo", &[])), 404);
    assert_eq!(*asked.lock().unwrap(), ["inside", "inside/too"]);
}

#[test]
fn tokens_of_every_shape() {
    // The app chooses the token; what RFC 6750's b64token allows must work.
    for token in [
        "a",
        "aA0-._~+/",
        "abc==",
        "0123456789abcdef0123456789abcdef",
        &"t".repeat(4096),
    ] {
        let map = sources();
        let resolver: SourceResolver = Arc::new(move |handle: &str| map.get(handle).cloned());
        let server = PeerServer::start("127.0.0.1:0", token, resolver).unwrap();
        let asked = |credentials: &str| {
            let bytes = head(&[LINE, HOST, &format!("Authorization: Bearer {credentials}")]);
            let mut peer = RawPeer::connect(server.local_addr()).unwrap();
            peer.send(&bytes).unwrap();
            peer.read_response(false).unwrap().unwrap().status()
        };
        assert_eq!(asked(token), 200, "{token}");
        assert_eq!(asked(&token[..token.len() - 1]), 401, "{token} less one");
        assert_eq!(asked(&format!("{token}t")), 401, "{token} and one more");
        assert_eq!(asked(TOKEN), 401, "another token than {token}");
    }
}
