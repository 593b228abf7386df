//! What is not about one field: files as sources, addresses, tokens, starting and stopping.

use super::*;

use std::fs;
use std::path::PathBuf;

use cranpose_services::peer::{FileSource, PeerError};

use crate::capability::{Capability, has};

/// A directory that is gone when the test is.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("peer-wire-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn exchange(server: &PeerServer, bytes: &[u8]) -> Response {
    let mut peer = RawPeer::connect(server.local_addr()).unwrap();
    peer.send(bytes).unwrap();
    let response = peer
        .read_response(bytes.starts_with(b"HEAD"))
        .unwrap()
        .unwrap();
    if response.cut.is_none() {
        house_rules(&response, bytes.starts_with(b"HEAD")).unwrap();
    }
    response
}

fn offer(handle: &str, source: impl ByteSource + 'static) -> PeerServer {
    let source: Arc<dyn ByteSource> = Arc::new(source);
    start_with(BTreeMap::from([(handle.to_owned(), source)]))
}

#[test]
fn files() {
    let scratch = Scratch::new("files");
    let content = patterned(0, 300_007);
    let path = scratch.file("a track.mp3", &content);
    let by_path = FileSource::open(&path).unwrap();
    let by_file = FileSource::from_file(fs::File::open(&path).unwrap()).unwrap();
    let map: BTreeMap<String, Arc<dyn ByteSource>> = BTreeMap::from([
        ("path".to_owned(), Arc::new(by_path) as _),
        ("file".to_owned(), Arc::new(by_file) as _),
    ]);
    let server = start_with(map);
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    let seconds = modified.duration_since(UNIX_EPOCH).unwrap().as_secs();
    for handle in ["path", "file"] {
        let whole = exchange(&server, &get(handle, &[]));
        assert_eq!(whole.status(), 200, "{handle}");
        assert!(whole.content == content, "{handle}");
        let shown = parse_imf_fixdate(whole.field("Last-Modified").unwrap()).unwrap();
        assert_eq!(shown, seconds, "{handle}");
        let tag = whole.field("ETag").unwrap();
        assert!(tag.starts_with('"'), "{handle}: {tag} is not strong");
        let rest = exchange(
            &server,
            &get(
                handle,
                &["Range: bytes=300000-", &format!("If-Range: {tag}")],
            ),
        );
        assert_eq!((rest.status(), rest.content.len()), (206, 7), "{handle}");
        assert!(rest.content == content[300_000..], "{handle}");
        let parts = exchange(&server, &get(handle, &["Range: bytes=5-9,250000-260000"]));
        answer(206)
            .parts(&content, &[(5, 9), (250_000, 260_000)])
            .check(&parts)
            .unwrap();
        let known = exchange(&server, &get(handle, &[&format!("If-None-Match: {tag}")]));
        assert_eq!(known.status(), 304, "{handle}");
    }
    assert_eq!(
        exchange(&server, &get("path", &[])).field("Content-Type"),
        Some("audio/mpeg")
    );
}

#[test]
fn media_types_of_files() {
    let scratch = Scratch::new("types");
    for (name, types) in [
        ("a.mp3", &["audio/mpeg"][..]),
        ("A.MP3", &["audio/mpeg"]),
        ("two.dots.mp3", &["audio/mpeg"]),
        ("a.flac", &["audio/flac"]),
        ("a.wav", &["audio/wav", "audio/vnd.wave", "audio/x-wav"]),
        ("a.ogg", &["audio/ogg"]),
        (
            "a.opus",
            &["audio/ogg", "audio/opus", "audio/ogg; codecs=opus"],
        ),
        ("a.m4a", &["audio/mp4", "audio/m4a", "audio/x-m4a"]),
        ("a.aac", &["audio/aac"]),
        ("a.mp4", &["video/mp4"]),
        ("a.webm", &["video/webm"]),
        ("a.mkv", &["video/x-matroska", "video/matroska"]),
        ("a.jpg", &["image/jpeg"]),
        ("a.jpeg", &["image/jpeg"]),
        ("a.png", &["image/png"]),
        ("a.webp", &["image/webp"]),
        ("a.m3u8", &["application/vnd.apple.mpegurl"]),
        ("a.vtt", &["text/vtt", "text/vtt; charset=utf-8"]),
        (
            "a.srt",
            &[
                "application/x-subrip",
                "text/srt",
                "application/x-subrip; charset=utf-8",
            ],
        ),
    ] {
        let server = offer(
            "x",
            FileSource::open(scratch.file(name, b"content")).unwrap(),
        );
        let response = exchange(&server, &request("HEAD", "x", &[]));
        let media_type = response.field("Content-Type").unwrap_or_default();
        assert!(types.contains(&media_type), "{name}: {media_type:?}");
    }
    for name in ["no extension", "a.mp3.unheard-of", ".mp3", "mp3", "a."] {
        let server = offer(
            "x",
            FileSource::open(scratch.file(name, b"content")).unwrap(),
        );
        let response = exchange(&server, &request("HEAD", "x", &[]));
        let media_type = response.field("Content-Type");
        assert!(
            matches!(media_type, None | Some("application/octet-stream")),
            "{name}: {media_type:?}"
        );
    }
}

#[test]
fn files_that_are_empty_missing_or_no_files() {
    let scratch = Scratch::new("odd");
    let server = offer(
        "x",
        FileSource::open(scratch.file("empty.wav", b"")).unwrap(),
    );
    for fields in [
        &[][..],
        &["Range: bytes=0-"],
        &["Range: bytes=5-"],
        &["Range: bytes=-5"],
    ] {
        let response = exchange(&server, &get("x", fields));
        assert_eq!(
            (response.status(), response.field("Content-Length")),
            (200, Some("0"))
        );
    }
    assert!(FileSource::open(scratch.0.join("missing")).is_err());
    assert!(
        FileSource::open(&scratch.0).is_err(),
        "a directory is no source"
    );
}

#[test]
fn files_that_change() {
    let scratch = Scratch::new("changing");
    let path = scratch.file("a.bin", &patterned(0, 100_000));
    let tag = |path: &PathBuf| {
        let server = offer("x", FileSource::open(path).unwrap());
        exchange(&server, &get("x", &["Range: bytes=0-0"]))
            .field("ETag")
            .map(str::to_owned)
    };
    let before = tag(&path);
    assert_eq!(before, tag(&path), "the same file, another tag");
    let server = offer("x", FileSource::open(&path).unwrap());
    assert_eq!(exchange(&server, &get("x", &[])).content.len(), 100_000);
    // Cut behind the source's back: what is missing is missing visibly.
    fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(40_000)
        .unwrap();
    let response = exchange(&server, &get("x", &[]));
    match response.status() {
        200 if response.field("Content-Length") == Some("40000") => {
            assert_eq!((response.cut, response.content.len()), (None, 40_000));
        }
        200 => {
            assert!(response.cut.is_some() && response.content.len() <= 40_000);
        }
        status => assert_eq!(status, 500),
    }
    let response = exchange(&server, &get("x", &["Range: bytes=90000-"]));
    assert!(
        matches!(response.status(), 416 | 500) || response.content.is_empty(),
        "{}",
        brief(&response)
    );
    // A file of another length is another representation.
    assert_ne!(tag(&path), before);
}

#[test]
fn one_file_for_many_transfers() {
    let scratch = Scratch::new("shared");
    let content = patterned(0, 2_000_003);
    let file = fs::File::open(scratch.file("a.bin", &content)).unwrap();
    let server = offer("x", FileSource::from_file(file).unwrap());
    std::thread::scope(|scope| {
        for n in 0..16_usize {
            let (server, content) = (&server, &content);
            scope.spawn(move || {
                let mut peer = RawPeer::connect(server.local_addr()).unwrap();
                for round in 0..8 {
                    let first = (n * 123_457 + round * 240_007) % 1_900_000;
                    let last = first + 100_000;
                    peer.send(&get("x", &[&format!("Range: bytes={first}-{last}")]))
                        .unwrap();
                    let response = peer.read_response(false).unwrap().unwrap();
                    assert!(
                        response.content == content[first..=last],
                        "{n}, {first}-{last}"
                    );
                }
            });
        }
    });
}

#[test]
fn addresses() {
    let server = start();
    assert_eq!(server.port(), server.local_addr().port());
    assert_ne!(server.port(), 0);
    // A port that is taken is an error, not a second server.
    let resolver: SourceResolver = Arc::new(|_: &str| None);
    match PeerServer::start(server.local_addr(), "other", resolver.clone()) {
        Ok(_) => panic!("two servers on {}", server.local_addr()),
        Err(PeerError::Io(error)) => assert_eq!(error.kind(), io::ErrorKind::AddrInUse),
        Err(error) => panic!("{error:?}"),
    }
    if has(&[Capability::Ipv6]) {
        let server = PeerServer::start("[::1]:0", TOKEN, resolver).unwrap();
        let bytes = head(&[
            "GET /track/x HTTP/1.1",
            &format!("Host: {}", server.local_addr()),
            AUTH,
        ]);
        assert_eq!(exchange(&server, &bytes).status(), 404);
    }
}

#[test]
fn servers_do_not_share() {
    let serve = |token: &str, content: &'static [u8]| {
        let resolver: SourceResolver =
            Arc::new(move |_: &str| Some(Arc::new(Bare(content)) as Arc<dyn ByteSource>));
        PeerServer::start("127.0.0.1:0", token, resolver).unwrap()
    };
    let (one, two) = (serve("one-token", b"one"), serve("two-token", b"two"));
    let asked = |server: &PeerServer, token: &str| {
        let bytes = head(&[
            "GET /track/x HTTP/1.1",
            HOST,
            &format!("Authorization: Bearer {token}"),
        ]);
        let response = exchange(server, &bytes);
        (response.status(), response.content)
    };
    assert_eq!(asked(&one, "one-token"), (200, b"one".to_vec()));
    assert_eq!(asked(&two, "two-token"), (200, b"two".to_vec()));
    assert_eq!(asked(&one, "two-token").0, 401);
    assert_eq!(asked(&two, "one-token").0, 401);
}

#[test]
fn a_token_that_cannot_be_sent_lets_nobody_in() {
    // An empty or unsendable token is the app's mistake: refused at the start, or matched by none.
    for token in ["", " ", "a b", "a\r\nb", "\0", "ü"] {
        let resolver: SourceResolver =
            Arc::new(|_: &str| Some(Arc::new(Bare(LETTERS)) as Arc<dyn ByteSource>));
        let Ok(server) = PeerServer::start("127.0.0.1:0", token, resolver) else {
            continue;
        };
        for line in [
            "Authorization:",
            "Authorization: Bearer",
            "Authorization: Bearer ",
            "Authorization: Bearer  ",
            "Accept: */*",
        ] {
            let response = exchange(&server, &head(&["GET /track/x HTTP/1.1", HOST, line]));
            assert_eq!(response.status(), 401, "token {token:?}, {line}");
        }
    }
}

#[test]
fn a_dropped_server_accepts_no_more() {
    let server = start();
    let addr = server.local_addr();
    letters()
        .check(&exchange(&server, &get("letters", &[])))
        .unwrap();
    drop(server);
    // Refused, or taken by a backlog that nobody serves: never an answer.
    if let Ok(mut peer) = RawPeer::connect(addr) {
        let _ = peer.send(&get("letters", &[]));
        match peer.read_response(false) {
            Ok(None) | Err(ReadError::Ended(_)) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_port_can_be_served_again_at_once() {
    let mut server = start();
    let addr = server.local_addr();
    for _ in 0..10 {
        letters()
            .check(&exchange(&server, &get("letters", &["Connection: close"])))
            .unwrap();
        drop(server);
        let map = sources();
        let resolver: SourceResolver = Arc::new(move |handle: &str| map.get(handle).cloned());
        server = PeerServer::start(addr, TOKEN, resolver).unwrap();
    }
}

#[test]
fn fields_of_each_answer() {
    // What every answer must carry is checked for every row of every table (`house_rules`); here,
    // what each kind must not.
    run_table(&[
        stays(
            "200",
            get("letters", &[]),
            letters()
                .lacks("Allow")
                .lacks("WWW-Authenticate")
                .lacks("Transfer-Encoding")
                .lacks("Set-Cookie")
                .lacks("Location")
                .has("Content-Length", "26")
                .has("Accept-Ranges", "bytes"),
        ),
        stays(
            "404",
            get("nothing", &[]),
            answer(404)
                .lacks("Content-Range")
                .lacks("Allow")
                .lacks("WWW-Authenticate")
                .lacks("Transfer-Encoding"),
        ),
        stays(
            "416",
            get("letters", &["Range: bytes=26-"]),
            unsatisfiable()
                .lacks("WWW-Authenticate")
                .lacks("Transfer-Encoding"),
        ),
        stays(
            "304",
            get("letters", &["If-None-Match: *"]),
            answer(304)
                .lacks("Content-Range")
                .lacks("Transfer-Encoding")
                .shows("ETag")
                .shows("Cache-Control")
                .shows("Date"),
        ),
        either(
            "401",
            head(&["GET /track/letters HTTP/1.1", HOST]),
            answer(401)
                .shows("WWW-Authenticate")
                .lacks("Transfer-Encoding"),
        ),
        either(
            "405",
            request("POST", "letters", &[]),
            answer(405).lacks("WWW-Authenticate").lacks("Content-Range"),
        ),
        ends(
            "400",
            with_line("GET"),
            answer(400).has("Connection", "close").lacks("Allow"),
        ),
        ends(
            "431",
            get("letters", &[&format!("X: {}", "x".repeat(20_000))]),
            answer(431).has("Connection", "close"),
        ),
        ends(
            "505",
            with_line("GET /track/letters HTTP/2.0"),
            answer(505).has("Connection", "close"),
        ),
    ]);
}

#[test]
fn content_never_depends_on_how_it_was_asked_for() {
    // The same bytes as one range, as many, by HTTP/1.0, and whole.
    let server = start();
    let big = patterned(0, BIG as usize);
    let mut peer = RawPeer::connect(server.local_addr()).unwrap();
    let mut pieces = Vec::new();
    let step = 399_989;
    for first in (0..BIG).step_by(step) {
        let last = first + step as u64 - 1;
        peer.send(&get("big", &[&format!("Range: bytes={first}-{last}")]))
            .unwrap();
        let response = peer.read_response(false).unwrap().unwrap();
        assert_eq!(response.status(), 206);
        pieces.extend(response.content);
    }
    assert!(pieces == big, "in pieces");
    let whole = exchange(&server, &head(&["GET /track/big HTTP/1.0", AUTH]));
    assert!(whole.content == big, "HTTP/1.0");
    // To a peer that takes it slowly, in small reads.
    let mut peer = RawPeer::connect(server.local_addr()).unwrap();
    peer.send(&get("big", &["Connection: close"])).unwrap();
    assert_eq!(peer.read_head().unwrap().unwrap().status, 200);
    let mut slow = Vec::new();
    while (slow.len() as u64) < BIG {
        let (bytes, cut) = peer.read_length(1009.min(BIG - slow.len() as u64)).unwrap();
        assert_eq!(cut, None);
        slow.extend(bytes);
    }
    assert!(slow == big, "slowly");
}
