//! The documented API, used as an app uses it: this module compiles exactly as long as every name
//! keeps the signature that apps were written against.
//!
//! Function pointers pin the signatures that can be written as a type; what takes `impl Trait` is
//! called with each kind of argument that apps pass.

#![allow(
    clippy::type_complexity,
    reason = "the signatures are spelled out on purpose"
)]

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cranpose_services::peer::{
    ByteSource, BytesSource, FetchResult, PeerError, PeerServer, SourceResolver, content_length,
    fetch_range, fetch_to_writer,
};

/// A source with the two methods that a source must have, and no other.
struct Counting {
    len: u64,
    reads: AtomicUsize,
}

impl ByteSource for Counting {
    fn len(&self) -> Option<u64> {
        Some(self.len)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        let rest = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX);
        let n = rest.min(buf.len());
        for (at, byte) in (offset..).zip(&mut buf[..n]) {
            *byte = at as u8;
        }
        Ok(n)
    }
}

fn resolver() -> SourceResolver {
    Arc::new(|handle: &str| -> Option<Arc<dyn ByteSource>> {
        match handle {
            "bytes" => Some(Arc::new(BytesSource::new(b"0123456789".to_vec()))),
            "count/Ü 1" => Some(Arc::new(Counting {
                len: 1000,
                reads: AtomicUsize::new(0),
            })),
            "empty" => Some(Arc::new(BytesSource::new(Vec::new()))),
            _ => None,
        }
    })
}

fn server() -> PeerServer {
    PeerServer::start("127.0.0.1:0", "token", resolver()).expect("loopback can be bound")
}

#[test]
fn signatures() {
    let _: fn(Vec<u8>) -> BytesSource = BytesSource::new;
    let _: fn(&PeerServer) -> SocketAddr = PeerServer::local_addr;
    let _: fn(&PeerServer) -> u16 = PeerServer::port;
    let _: fn(&str, &str, &str, u64, Option<u64>) -> Result<FetchResult, PeerError> = fetch_range;
    let _: fn(
        &str,
        &str,
        &str,
        u64,
        Option<u64>,
        &mut dyn Write,
    ) -> Result<Option<u64>, PeerError> = fetch_to_writer;
    let _: fn(&str, &str, &str) -> Result<Option<u64>, PeerError> = content_length;
    let _: fn(&Counting) -> Option<u64> = ByteSource::len;
    let _: fn(&Counting) -> bool = ByteSource::is_empty;
    let _: fn(&Counting, u64, &mut [u8]) -> io::Result<usize> = ByteSource::read_at;
    let _: SourceResolver = Arc::new(|_: &str| None) as Arc<dyn Fn(&str) -> _ + Send + Sync>;

    fn crosses_threads<T: Send + Sync + 'static>() {}
    crosses_threads::<Arc<dyn ByteSource>>();
    crosses_threads::<SourceResolver>();
    crosses_threads::<PeerServer>();
    crosses_threads::<FetchResult>();
    fn is_error<E: std::error::Error + Send + Sync + 'static>() {}
    is_error::<PeerError>();
}

#[test]
fn a_server_starts_on_every_kind_of_address() {
    let anywhere = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
    let servers = [
        PeerServer::start("127.0.0.1:0", "token", resolver()),
        PeerServer::start(("127.0.0.1", 0), String::from("token"), resolver()),
        PeerServer::start(anywhere, "token".to_owned(), resolver()),
        PeerServer::start(&[anywhere][..], "token", resolver()),
        PeerServer::start(
            String::from("localhost:0"),
            Box::<str>::from("token"),
            resolver(),
        ),
    ];
    for server in servers {
        let server = server.expect("loopback can be bound");
        let address: SocketAddr = server.local_addr();
        assert!(address.ip().is_loopback());
        assert_eq!(address.port(), server.port());
        assert_ne!(server.port(), 0);
        let base = address.to_string();
        assert_eq!(
            fetch_range(&base, "token", "bytes", 0, None)
                .map(|r| r.bytes)
                .ok(),
            Some(b"0123456789".to_vec())
        );
    }
}

#[test]
fn an_app_serves_and_fetches() {
    let server = server();
    let base = format!("127.0.0.1:{}", server.port());

    let FetchResult { total_len, bytes } =
        fetch_range(&base, "token", "bytes", 3, Some(4)).expect("a range");
    assert_eq!((total_len, bytes.as_slice()), (Some(10), &b"3456"[..]));
    let whole = fetch_range(&base, "token", "bytes", 0, None).expect("the whole");
    assert_eq!(
        (whole.total_len, whole.bytes),
        (Some(10), b"0123456789".to_vec())
    );

    let mut file = Vec::new();
    let total: Option<u64> =
        fetch_to_writer(&base, "token", "count/Ü 1", 250, None, &mut file).expect("to the end");
    assert_eq!(total, Some(1000));
    assert_eq!(
        file,
        (250..1000).map(|at: u64| at as u8).collect::<Vec<_>>()
    );

    assert_eq!(
        content_length(&base, "token", "count/Ü 1").ok(),
        Some(Some(1000))
    );
    assert_eq!(content_length(&base, "token", "empty").ok(), Some(Some(0)));
}

#[test]
fn is_empty_follows_len() {
    assert!(BytesSource::new(Vec::new()).is_empty());
    assert!(!BytesSource::new(vec![0]).is_empty());
    assert_eq!(BytesSource::new(vec![0; 3]).len(), Some(3));

    struct Live;
    impl ByteSource for Live {
        fn len(&self) -> Option<u64> {
            None
        }
        fn read_at(&self, _: u64, _: &mut [u8]) -> io::Result<usize> {
            Ok(0)
        }
    }
    assert!(!Live.is_empty(), "a length that is not known is not 0");

    let source = BytesSource::new(b"abc".to_vec());
    let mut buf = [0; 8];
    assert_eq!(source.read_at(1, &mut buf).ok(), Some(2));
    assert_eq!(&buf[..2], b"bc");
    assert_eq!(
        source.read_at(3, &mut buf).ok(),
        Some(0),
        "the end of the source"
    );
}

/// What an app does with each of the five names, and with those to come.
fn advice(error: &PeerError) -> String {
    match error {
        PeerError::Unauthorized => "pair again".to_owned(),
        PeerError::NotFound => "gone".to_owned(),
        PeerError::Status(status) => {
            let status: u16 = *status;
            format!("status {status}")
        }
        PeerError::Protocol(text) => {
            let text: &String = text;
            format!("protocol: {text}")
        }
        PeerError::Io(_) => "network".to_owned(),
        _ => "something newer".to_owned(),
    }
}

#[test]
fn errors_have_the_documented_names() {
    let server = server();
    let base = format!("127.0.0.1:{}", server.port());
    let error = |result: Result<FetchResult, PeerError>| advice(&result.expect_err("refused"));
    assert_eq!(
        error(fetch_range(&base, "wrong", "bytes", 0, None)),
        "pair again"
    );
    assert_eq!(
        error(fetch_range(&base, "token", "unknown", 0, None)),
        "gone"
    );
    assert_eq!(
        error(fetch_range(&base, "token", "bytes", 11, None)),
        "status 416"
    );

    let port = server.port();
    drop(server);
    let refused = fetch_range(&format!("127.0.0.1:{port}"), "token", "bytes", 0, None);
    let refused = refused.expect_err("nobody listens");
    assert_eq!(advice(&refused), "network");
    let source = std::error::Error::source(&refused).expect("the io::Error itself");
    assert!(source.is::<io::Error>());
}

#[test]
fn dropping_the_server_stops_accepting() {
    let server = server();
    let address = server.local_addr();
    assert!(std::net::TcpStream::connect(address).is_ok());
    drop(server);
    let again = fetch_range(&address.to_string(), "token", "bytes", 0, None);
    assert!(again.is_err(), "still served after the drop");
}
