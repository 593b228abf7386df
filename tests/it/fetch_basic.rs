//! The documented functions against scripted servers on loopback.

use cranpose_services::peer::{PeerError, Phase, content_length, fetch_range, fetch_to_writer};
use std::{io, net::TcpListener};

use crate::capability::{Capability, has};
use crate::fetch_script::{Script, answer};

#[test]
fn a_range_and_its_request() {
    let script = Script::play(vec![answer(
        "HTTP/1.1 206 Partial Content\r\nContent-Length: 3\r\nContent-Range: bytes 2-4/10\r\n\r\n234",
    )]);
    let got = fetch_range(&script.base(), "secret", "a/b c", 2, Some(3)).unwrap();
    assert_eq!((got.total_len, &got.bytes[..]), (Some(10), &b"234"[..]));
    let base = script.base();
    assert_eq!(
        script.requests(),
        [format!(
            "GET /track/a%2Fb%20c HTTP/1.1\r\nHost: {base}\r\nAuthorization: Bearer secret\r\n\
             Accept-Encoding: identity\r\nRange: bytes=2-4\r\n\r\n"
        )]
    );
}

#[test]
fn a_published_server_is_understood() {
    let published = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\nConnection: close\r\n\r\n0123456789";
    let script = Script::play(vec![answer(published)]);
    let got = fetch_range(&script.base(), "secret", "a", 7, None).unwrap();
    assert_eq!((got.total_len, &got.bytes[..]), (Some(10), &b"789"[..]));
    // It refuses every range of an empty source, and of one whose length it does not know.
    let refusal =
        "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let empty = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let script = Script::play(vec![answer(refusal), answer(empty)]);
    assert_eq!(
        content_length(&script.base(), "secret", "a").unwrap(),
        Some(0)
    );
    let unknown = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n0123456789";
    let script = Script::play(vec![answer(refusal), answer(unknown)]);
    let got = fetch_range(&script.base(), "secret", "a", 0, Some(4)).unwrap();
    assert_eq!((got.total_len, &got.bytes[..]), (None, &b"0123"[..]));
    let requests = script.requests();
    assert!(requests[0].contains("Range: bytes=0-3"));
    assert!(!requests[1].contains("Range:"));
}

#[test]
fn incomplete_content_is_an_error_everywhere() {
    let cut = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01234";
    let script = Script::play(vec![answer(cut), answer(cut)]);
    let is_truncated = |error| {
        matches!(
            error,
            PeerError::Truncated {
                expected: Some(10),
                received: 5
            }
        )
    };
    let error = fetch_range(&script.base(), "secret", "a", 0, None).unwrap_err();
    assert!(is_truncated(error));
    let mut got = Vec::new();
    let error = fetch_to_writer(&script.base(), "secret", "a", 0, None, &mut got).unwrap_err();
    assert!(is_truncated(error));
    assert_eq!(got, b"01234");
}

#[test]
fn a_writers_error_is_told_from_the_networks() {
    struct Full;
    impl io::Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let whole = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789";
    let script = Script::play(vec![answer(whole)]);
    match fetch_to_writer(&script.base(), "secret", "a", 0, None, &mut Full) {
        Err(error) if error.phase().is_some() => panic!("{error:?}"),
        Err(PeerError::Io(error)) => assert_eq!(error.kind(), io::ErrorKind::StorageFull),
        other => panic!("{other:?}"),
    }
    // Never given to whoever asks for any port, and nothing serves it (tcpmux).
    let closed = "127.0.0.1:1";
    match content_length(closed, "secret", "a") {
        Err(error) if error.phase() == Some(Phase::Connect) => match error {
            PeerError::Io(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

#[test]
fn nothing_is_sent_for_what_cannot_be_asked() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let base = listener.local_addr().unwrap().to_string();
    for (base, token) in [
        (base.as_str(), "a\r\nX: y"),
        (base.as_str(), ""),
        (&format!("{base}\r\n"), "secret"),
        (&format!("http://{base}"), "secret"),
        (&format!("{base}/a"), "secret"),
        (&format!("me@{base}"), "secret"),
    ] {
        let error = fetch_range(base, token, "a", 0, None).unwrap_err();
        assert!(matches!(error, PeerError::InvalidInput(_)), "{error:?}");
    }
    assert_eq!(
        listener.accept().unwrap_err().kind(),
        io::ErrorKind::WouldBlock
    );
}

#[test]
fn a_full_disk_is_told_as_one() {
    if !has(&[Capability::FullDevice]) {
        return;
    }
    let whole = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789";
    let script = Script::play(vec![answer(whole)]);
    let mut full = std::fs::File::options()
        .write(true)
        .open("/dev/full")
        .unwrap();
    match fetch_to_writer(&script.base(), "secret", "a", 0, None, &mut full) {
        Err(PeerError::Io(error)) => assert_eq!(error.kind(), io::ErrorKind::StorageFull),
        other => panic!("{other:?}"),
    }
}
