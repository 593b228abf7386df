//! What the caller passes in: bases and tokens that cannot be sent safely are refused before
//! anything is sent, and every handle reaches the server as the one path segment it is.

use peer_tests::script::{Script, ScriptServer, own_loopback, response};

use crate::capability::{Capability, has};

use super::table::{
    CONTENT, Call, Case, HANDLE, TOKEN, Verdict, WHOLE, any_error, broken, call, judge, known,
    ok_whole, refused_input, run_cases,
};

const CALLS: [Call; 3] = [
    Call::FetchRange(WHOLE),
    Call::FetchToWriter(WHOLE),
    Call::ContentLength,
];

fn server() -> ScriptServer {
    ScriptServer::start(whole())
}

fn whole() -> Script {
    Script::answer(response(
        "HTTP/1.1 200 OK",
        &["Content-Length: 36"],
        CONTENT,
    ))
}

fn success(what: Call) -> Verdict {
    if what == Call::ContentLength {
        known(36)
    } else {
        ok_whole()
    }
}

fn case(name: String, run: impl FnOnce() -> Vec<String> + Send + 'static) -> (String, Case) {
    (name, Box::new(run))
}

#[test]
fn bases_that_are_refused() {
    // {port} is the port of a server that would answer, and 127.0.0.1 stands for its address.
    let bases = [
        "",
        ":",
        ":{port}",
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:port",
        "127.0.0.1:+{port}",
        "127.0.0.1:-{port}",
        "127.0.0.1:{port}x",
        "127.0.0.1:0x50",
        "127.0.0.1:65536",
        "127.0.0.1:165536",
        "127.0.0.1:99999999999999999999",
        "127.0.0.1:８０",
        "127.0.0.1:{port}:{port}",
        "127.0.0.1::{port}",
        " 127.0.0.1:{port}",
        "127.0.0.1:{port} ",
        "127.0.0.1 :{port}",
        "127.0.0.1: {port}",
        "127.0.0 .1:{port}",
        "\t127.0.0.1:{port}",
        "127.0.0.1:{port}\n",
        "127.0.0.1:{port}\r\n",
        "127.0.0.1:{port}\r\nX-Odd: 1",
        "127.0.0.1\r\n:{port}",
        "127.0.0.1\r\nX-Odd: 1\r\nY:{port}",
        "local\nhost:{port}",
        "127.0.0.1\0:{port}",
        "127.0.0.1:{port}\0",
        "localhost\0.example:{port}",
        "localhost\u{7f}:{port}",
        "localhost\u{85}:{port}",
        "http://127.0.0.1:{port}",
        "https://127.0.0.1:{port}",
        "//127.0.0.1:{port}",
        "127.0.0.1:{port}/",
        "127.0.0.1:{port}/track/song",
        "127.0.0.1/:{port}",
        "127.0.0.1\\:{port}",
        "127.0.0.1:{port}?x",
        "?x@127.0.0.1:{port}",
        "127.0.0.1:{port}#x",
        "user@127.0.0.1:{port}",
        "user:password@127.0.0.1:{port}",
        "@127.0.0.1:{port}",
        "<127.0.0.1>:{port}",
        "\"127.0.0.1\":{port}",
        "127.0.0.1%31:{port}",
        "::1:{port}",
        "::ffff:127.0.0.1:{port}",
        "[::ffff:127.0.0.1]",
        "[::ffff:127.0.0.1]:",
        "[::ffff:127.0.0.1]{port}",
        "[::ffff:127.0.0.1]x:{port}",
        "[::ffff:127.0.0.1]:{port}x",
        "x[::ffff:127.0.0.1]:{port}",
        "[::ffff:127.0.0.1:{port}",
        "::ffff:127.0.0.1]:{port}",
        "[[::ffff:127.0.0.1]]:{port}",
        "[]:{port}",
        "[127.0.0.1]:{port}",
        "[localhost]:{port}",
        "[::ffff:127.0.0.1 ]:{port}",
        "[::1%]:{port}",
        "[::1%lo\r\n]:{port}",
        "[fe80::1%eth0/x]:{port}",
        "[v1.x]:{port}",
    ];
    run_cases(bases.into_iter().map(|pattern| {
        case(format!("{pattern:?}"), move || {
            let server = server();
            let base = pattern
                .replace("{port}", &server.address().port().to_string())
                .replace("127.0.0.1", &server.address().ip().to_string());
            let mut failures = Vec::new();
            for what in CALLS {
                let seen = call(&base, TOKEN, HANDLE, what);
                failures.extend(judge(&refused_input(), what, &seen).err());
            }
            if server.connections() > 0 {
                failures.push("a connection was made".to_owned());
            }
            failures
                .into_iter()
                .map(|failure| format!("{pattern:?}: {failure}"))
                .collect()
        })
    }));
}

#[test]
fn bases_that_are_reached() {
    let reached = |pattern: &'static str, host: &'static str, address: &'static str| {
        case(format!("{pattern} on {address}"), move || {
            let server = ScriptServer::start_on(address, whole()).unwrap();
            let with_port =
                |pattern: &str| pattern.replace("{port}", &server.address().port().to_string());
            let mut failures = Vec::new();
            for what in CALLS {
                let seen = call(&with_port(pattern), TOKEN, HANDLE, what);
                failures.extend(judge(&success(what), what, &seen).err());
            }
            for request in server.requests() {
                if request.fields("host") != [with_port(host)] {
                    failures.push(format!("Host is {:?}", request.fields("host")));
                }
            }
            failures
                .into_iter()
                .map(|failure| format!("{pattern}: {failure}"))
                .collect()
        })
    };
    let v4 = "127.0.0.1:0";
    let v6 = "[::1]:0";
    run_cases([
        reached("127.0.0.1:{port}", "127.0.0.1:{port}", v4),
        // The name has an address of each family, and the peer listens on one of them.
        reached("localhost:{port}", "localhost:{port}", v4),
    ]);
    if has(&[Capability::Ipv6]) {
        run_cases([
            reached("[::1]:{port}", "[::1]:{port}", v6),
            reached("[0:0:0:0:0:0:0:1]:{port}", "[0:0:0:0:0:0:0:1]:{port}", v6),
        ]);
    }
}

/// A scope id is the sender's own business (RFC 6874 §4 keeps it out of `Host`).
#[test]
fn scope_ids() {
    if !has(&[Capability::Ipv6]) {
        return;
    }
    let server = ScriptServer::start_on("[::1]:0", whole()).unwrap();
    let port = server.address().port();
    let mut failures = Vec::new();
    for scope in ["1", "lo", " ", "no such scope", "4294967295"] {
        for what in CALLS {
            // Which scopes there are, and whether a loopback address has any, the system decides.
            let verdict = success(what).or(broken(0));
            let seen = call(&format!("[::1%{scope}]:{port}"), TOKEN, HANDLE, what);
            failures.extend(judge(&verdict, what, &seen).err());
        }
    }
    for request in server.requests() {
        if request.fields("host") != [format!("[::1]:{port}")] {
            failures.push(format!("Host is {:?}", request.fields("host")));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn peers_that_are_not_there() {
    // Never given to whoever asks for any port, and nothing serves it (tcpmux).
    let nobody = format!("{}:1", own_loopback());
    for what in CALLS {
        let seen = call(&nobody, TOKEN, HANDLE, what);
        judge(&broken(0), what, &seen).unwrap();
        let seen = call("127.0.0.1:0", TOKEN, HANDLE, what);
        judge(&broken(0), what, &seen).unwrap();
    }
}

#[test]
fn tokens_that_are_refused() {
    let tokens = [
        "a\r\nX-Odd: 1",
        "\r\n",
        "a\r\n",
        "\r\na",
        "a\rb",
        "a\nb",
        "\n",
        "a\0",
        "\0",
        "a\tb",
        "\u{1}",
        "a\u{7f}b",
        "\u{1b}[0m",
        "a\r\n\r\nGET /track/other HTTP/1.1\r\nHost: x\r\n\r\n",
    ];
    run_cases(tokens.into_iter().map(|token| {
        case(format!("{token:?}"), move || {
            let server = server();
            let mut failures = Vec::new();
            for what in CALLS {
                let seen = call(&server.base(), token, HANDLE, what);
                failures.extend(judge(&refused_input(), what, &seen).err());
            }
            if server.received() > 0 {
                failures.push(format!("{} bytes were sent", server.received()));
            }
            failures
                .into_iter()
                .map(|failure| format!("{token:?}: {failure}"))
                .collect()
        })
    }));
}

/// Tokens that are no b64token (RFC 6750 §2.1): refused, or sent exactly as they are.
#[test]
fn odd_tokens() {
    let tokens = [
        "", " ", "a b", " a", "a ", "tökén", "音", "\u{85}", "a,b", "a\"b", "Bearer x", "=",
    ];
    run_cases(tokens.into_iter().map(|token| {
        case(format!("{token:?}"), move || {
            let server = server();
            let mut failures = Vec::new();
            for what in CALLS {
                let verdict = success(what).or(refused_input());
                let seen = call(&server.base(), token, HANDLE, what);
                failures.extend(judge(&verdict, what, &seen).err());
            }
            for request in server.requests() {
                let head = String::from_utf8_lossy(&request.head).into_owned();
                let line = format!("\r\nAuthorization: Bearer {token}\r\n");
                if !head
                    .to_ascii_lowercase()
                    .contains(&line.to_ascii_lowercase())
                    || request.fields("authorization").len() != 1
                {
                    failures.push(format!("sent as {:?}", request.fields("authorization")));
                }
            }
            failures
                .into_iter()
                .map(|failure| format!("{token:?}: {failure}"))
                .collect()
        })
    }));
}

#[test]
fn handles() {
    let unreserved = "ABCXYZabcxyz0189-_.~";
    let known: Vec<(String, String)> = [
        ("song", "song"),
        (unreserved, unreserved),
        ("a b", "a%20b"),
        ("a+b", "a%2Bb"),
        ("a/b", "a%2Fb"),
        ("/a/", "%2Fa%2F"),
        ("a\\b", "a%5Cb"),
        ("a?b", "a%3Fb"),
        ("a#b", "a%23b"),
        ("a%41", "a%2541"),
        ("%", "%25"),
        ("%2F", "%252F"),
        ("a:b@c", "a%3Ab%40c"),
        ("a&b=c;d,e", "a%26b%3Dc%3Bd%2Ce"),
        ("!$'()*", "%21%24%27%28%29%2A"),
        ("\"<>^`{|}", "%22%3C%3E%5E%60%7B%7C%7D"),
        ("[::1]", "%5B%3A%3A1%5D"),
        ("ä", "%C3%A4"),
        ("a\u{308}", "a%CC%88"),
        ("音楽", "%E9%9F%B3%E6%A5%BD"),
        ("🎵", "%F0%9F%8E%B5"),
        ("\u{feff}", "%EF%BB%BF"),
        ("\u{10ffff}", "%F4%8F%BF%BF"),
        // Dot segments are unreserved characters: sent as they are, and nobody resolves them.
        (".", "."),
        ("..", ".."),
        ("...", "..."),
        ("../a", "..%2Fa"),
        ("./a", ".%2Fa"),
        ("a/../b", "a%2F..%2Fb"),
        ("..%2F", "..%252F"),
        // Encoded, no byte can leave the request-line.
        ("a\r\nX-Odd: 1", "a%0D%0AX-Odd%3A%201"),
        ("a HTTP/1.1\r\n\r\n", "a%20HTTP%2F1.1%0D%0A%0D%0A"),
        ("a\0b", "a%00b"),
        ("\t", "%09"),
        ("\u{7f}", "%7F"),
        ("http://elsewhere/", "http%3A%2F%2Felsewhere%2F"),
        ("//elsewhere", "%2F%2Felsewhere"),
    ]
    .into_iter()
    .map(|(handle, segment)| (handle.to_owned(), segment.to_owned()))
    .chain((0u8..128).map(|byte| {
        let segment = if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            char::from(byte).to_string()
        } else {
            format!("%{byte:02X}")
        };
        (
            format!("byte {}", char::from(byte)),
            format!("byte%20{segment}"),
        )
    }))
    .chain([
        ("x".repeat(2000), "x".repeat(2000)),
        ("ä".repeat(300), "%C3%A4".repeat(300)),
    ])
    .collect();
    run_cases(known.into_iter().map(|(handle, segment)| {
        let name = format!("{handle:.40?}");
        case(name.clone(), move || {
            let server = server();
            let mut failures = Vec::new();
            for what in CALLS {
                let seen = call(&server.base(), TOKEN, &handle, what);
                failures.extend(judge(&success(what), what, &seen).err());
            }
            let target = format!("/track/{segment}");
            for request in server.requests() {
                if request.target() != target || request.version() != "HTTP/1.1" {
                    failures.push(format!("asked for {:?}", request.target()));
                }
            }
            failures
                .into_iter()
                .map(|failure| format!("{name}: {failure}"))
                .collect()
        })
    }));
}

#[test]
fn an_empty_handle() {
    let server = server();
    for what in CALLS {
        let seen = call(&server.base(), TOKEN, "", what);
        judge(&success(what).or(refused_input()), what, &seen).unwrap();
    }
    assert!(
        server
            .requests()
            .iter()
            .all(|request| request.target() == "/track/")
    );
}

/// A handle so long that no server of ours would read the head (16 KiB).
#[test]
fn a_handle_beyond_every_limit() {
    let server = server();
    for what in CALLS {
        let seen = call(&server.base(), TOKEN, &"x".repeat(100_000), what);
        judge(&success(what).or(any_error()), what, &seen).unwrap();
    }
}
