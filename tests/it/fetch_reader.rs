//! `PeerReader` against the real server.

use std::{
    io::{self, ErrorKind, Read, Seek, SeekFrom},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use cranpose_services::peer::{
    ByteSource, BytesSource, EntityTag, PeerClient, PeerError, PeerReader, PeerServer,
    ReadAheadConfig, RetryPolicy, SourceResolver,
};

use crate::fetch_script::{Script, alone, answer};

fn serve(resolver: SourceResolver) -> PeerServer {
    PeerServer::start("127.0.0.1:0", "secret", resolver).unwrap()
}

fn serve_one(source: impl ByteSource + 'static) -> PeerServer {
    let source: Arc<dyn ByteSource> = Arc::new(source);
    serve(Arc::new(move |handle| {
        (handle == "a").then(|| Arc::clone(&source))
    }))
}

fn client(base: impl ToString) -> PeerClient {
    let mut retry = RetryPolicy::default();
    retry.pause = Duration::from_millis(1);
    let builder = PeerClient::builder(base.to_string(), "secret");
    builder.retry(retry).build().unwrap()
}

fn sample(len: usize) -> Vec<u8> {
    let mut random = Random(7);
    (0..len).map(|_| random.below(256) as u8).collect()
}

fn small() -> ReadAheadConfig {
    let mut config = ReadAheadConfig::default();
    config.block_bytes = 1000;
    config.blocks = 8;
    config.request_bytes_min = 4000;
    config.request_bytes_max = 64_000;
    config
}

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// Reads at random places and compares with the bytes; returns when `rounds` are over.
fn compare(reader: &mut PeerReader, bytes: &[u8], rounds: usize) {
    let len = bytes.len() as u64;
    let mut random = Random(3);
    for _ in 0..rounds {
        let position = match random.below(4) {
            0 => reader
                .seek(SeekFrom::Start(random.below(len + 10)))
                .unwrap(),
            1 => reader
                .seek(SeekFrom::End(-(random.below(len + 1) as i64)))
                .unwrap(),
            _ => reader.stream_position().unwrap(),
        };
        let mut got = vec![0; random.below(5000) as usize];
        let mut filled = 0;
        while filled < got.len() {
            match reader.read(&mut got[filled..]).unwrap() {
                0 => break,
                n => filled += n,
            }
        }
        let from = bytes.len().min(position as usize);
        let expected = &bytes[from..bytes.len().min(from + got.len())];
        assert!(got[..filled] == *expected, "at {position}");
    }
}

#[test]
fn reads_what_is_there_wherever_it_seeks() {
    for len in [0, 1, 999, 1000, 1001, 300_000] {
        let bytes = sample(len);
        let server = serve_one(BytesSource::new(bytes.clone()));
        let mut reader = client(server.local_addr())
            .reader_with("a", small())
            .unwrap();
        assert_eq!(reader.len(), Some(len as u64));
        assert_eq!(reader.is_empty(), len == 0);
        compare(&mut reader, &bytes, 300);
        reader.rewind().unwrap();
        let mut all = Vec::new();
        reader.read_to_end(&mut all).unwrap();
        assert!(all == bytes);
        assert_eq!(reader.read(&mut [0]).unwrap(), 0);
        assert_eq!(reader.seek(SeekFrom::End(5)).unwrap(), len as u64 + 5);
        assert_eq!(reader.read(&mut [0]).unwrap(), 0);
        assert!(reader.seek(SeekFrom::Current(-1_000_000)).is_err());
        for far in [u64::MAX - 1, u64::MAX] {
            assert_eq!(reader.seek(SeekFrom::Start(far)).unwrap(), far);
            assert_eq!(reader.read(&mut [0]).unwrap(), 0);
        }
        assert!(reader.seek(SeekFrom::Current(1)).is_err());
    }
}

#[test]
fn an_mp4_with_its_index_at_the_end_costs_a_request_for_each_way() {
    let bytes = sample(20_000_000);
    let server = serve_one(BytesSource::new(bytes.clone()));
    let mut reader = client(server.local_addr()).reader("a").unwrap();
    let mut buf = vec![0; 50_000];
    let mut read_at = |position: u64| {
        reader.seek(SeekFrom::Start(position)).unwrap();
        reader.read_exact(&mut buf).unwrap();
        assert!(buf[..] == bytes[position as usize..][..buf.len()]);
        reader.requests()
    };
    assert_eq!(read_at(0), 1);
    assert_eq!(read_at(19_900_000), 2);
    assert_eq!(read_at(50_000), 2);
    assert_eq!(read_at(19_950_000), 2);
    assert_eq!(read_at(100_000), 2);
    assert_eq!(read_at(0), 2);
}

/// A source that fails at every few reads, but not at the same place twice, nor where the reader
/// begins: then the answer would be that it fails.
struct Failing {
    bytes: BytesSource,
    reads: AtomicU64,
    failed_at: AtomicU64,
}

impl ByteSource for Failing {
    fn len(&self) -> Option<u64> {
        self.bytes.len()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let is_due = self.reads.fetch_add(1, Ordering::Relaxed) % 3 == 2;
        let is_again = self.failed_at.load(Ordering::Relaxed) == offset;
        if is_due && !is_again && offset % 1000 != 0 {
            self.failed_at.store(offset, Ordering::Relaxed);
            return Err(ErrorKind::Other.into());
        }
        let len = buf.len().min(700);
        self.bytes.read_at(offset, &mut buf[..len])
    }

    fn entity_tag(&self) -> Option<EntityTag> {
        self.bytes.entity_tag()
    }
}

#[test]
fn a_connection_that_breaks_and_breaks_is_mended_and_mended() {
    let bytes = sample(50_000);
    let server = serve_one(Failing {
        bytes: BytesSource::new(bytes.clone()),
        reads: AtomicU64::new(0),
        failed_at: AtomicU64::new(u64::MAX),
    });
    let mut reader = client(server.local_addr())
        .reader_with("a", small())
        .unwrap();
    compare(&mut reader, &bytes, 30);
    // The same for a whole fetch.
    let got = client(server.local_addr())
        .fetch_range("a", 0, None)
        .unwrap();
    assert!(got.bytes == bytes);
}

#[test]
fn a_server_that_starts_again_is_found_again() {
    let bytes = sample(200_000);
    let source: Arc<dyn ByteSource> = Arc::new(BytesSource::new(bytes.clone()));
    let resolver: SourceResolver = Arc::new(move |_| Some(Arc::clone(&source)));
    let server = PeerServer::start((alone(2), 0), "secret", Arc::clone(&resolver)).unwrap();
    let address = server.local_addr();
    let mut reader = client(address).reader_with("a", small()).unwrap();
    let mut buf = vec![0; 2_000];
    reader.read_exact(&mut buf).unwrap();
    server.shutdown(Duration::ZERO);
    let again = PeerServer::start(address, "secret", resolver).unwrap();
    let mut all = buf;
    reader.read_to_end(&mut all).unwrap();
    assert!(all == bytes);
    drop(again);
}

#[test]
fn a_source_that_changes_is_an_error_for_good() {
    let version = |byte| -> Arc<dyn ByteSource> { Arc::new(BytesSource::new(vec![byte; 50_000])) };
    let current = Arc::new(Mutex::new(version(1)));
    let shared = Arc::clone(&current);
    let server = serve(Arc::new(move |_| Some(Arc::clone(&shared.lock().unwrap()))));
    let mut reader = client(server.local_addr())
        .reader_with("a", small())
        .unwrap();
    reader.read_exact(&mut [0; 100]).unwrap();
    *current.lock().unwrap() = version(2);
    let mut rest = Vec::new();
    let error = reader.read_to_end(&mut rest).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    assert!(rest.iter().all(|byte| *byte == 1), "bytes of two versions");
    reader.rewind().unwrap();
    assert!(matches!(
        reader.read_some(&mut [0]),
        Err(PeerError::Changed)
    ));
}

/// A source that does not know its length.
struct Endless(BytesSource);

impl ByteSource for Endless {
    fn len(&self) -> Option<u64> {
        None
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read_at(offset, buf)
    }
}

#[test]
fn a_source_of_unknown_length_is_read_from_its_start() {
    let bytes = sample(30_000);
    let server = serve_one(Endless(BytesSource::new(bytes.clone())));
    let mut reader = client(server.local_addr())
        .reader_with("a", small())
        .unwrap();
    assert_eq!(reader.len(), None);
    let error = reader.seek(SeekFrom::End(0)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let mut buf = [0; 10];
    for position in [20_000, 5_000, 25_000] {
        reader.seek(SeekFrom::Start(position)).unwrap();
        reader.read_exact(&mut buf).unwrap();
        assert_eq!(buf, bytes[position as usize..][..10]);
    }
    for far in [u64::MAX, u64::MAX - 1] {
        reader.seek(SeekFrom::Start(far)).unwrap();
        assert_eq!(reader.read(&mut buf).unwrap(), 0);
    }
    reader.rewind().unwrap();
    let mut all = Vec::new();
    reader.read_to_end(&mut all).unwrap();
    assert!(all == bytes);
    assert_eq!(reader.len(), Some(30_000));
    assert_eq!(reader.seek(SeekFrom::End(0)).unwrap(), 30_000);
}

#[test]
fn a_published_server_is_read_too() {
    let part = |range: &str, body: &str| {
        answer(format!(
            "HTTP/1.1 206 Partial Content\r\nContent-Length: {}\r\nContent-Range: bytes {range}\r\n\
             Connection: close\r\n\r\n{body}",
            body.len()
        ))
    };
    let mut config = ReadAheadConfig::default();
    config.block_bytes = 2;
    config.request_bytes_min = 4;
    let script = Script::play(vec![part("0-3/10", "0123"), part("8-9/10", "89")]);
    let mut reader = client(script.base()).reader_with("a", config).unwrap();
    reader.seek(SeekFrom::End(-1)).unwrap();
    let mut buf = [0];
    reader.read_exact(&mut buf).unwrap();
    assert_eq!(&buf, b"9");
    let requests = script.requests();
    assert!(requests[0].contains("Range: bytes=0-3\r\n"));
    assert!(requests[1].contains("Range: bytes=8-9\r\n"));
    // Without a validator, a length that differs still shows.
    let script = Script::play(vec![part("0-3/10", "0123"), part("8-9/11", "89")]);
    let mut reader = client(script.base()).reader_with("a", config).unwrap();
    reader.seek(SeekFrom::Start(8)).unwrap();
    assert!(matches!(
        reader.read_some(&mut buf),
        Err(PeerError::Changed)
    ));
}

#[test]
fn what_cannot_be_opened_says_why() {
    let server = serve_one(BytesSource::new(vec![1]));
    let base = server.local_addr().to_string();
    let error = client(&base).reader("b").unwrap_err();
    assert!(matches!(error, PeerError::NotFound));
    let stranger = PeerClient::builder(base, "other").build().unwrap();
    let error = io::Error::from(stranger.reader("a").unwrap_err());
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
}

/// A decoder takes `UnexpectedEof` for the end of its media, and plays half a track as if that were
/// all; `read_exact` takes `Interrupted` for a reason to try again, and would do so for ever.
#[test]
fn a_failed_read_never_looks_like_the_end() {
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\nETag: \"v\"\r\n\r\n";
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let of = |status: &str| format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
    let cut = format!("{head}0123");
    let then = |second: &str| vec![answer(&cut), answer(second)];
    let mut rows = vec![
        ("cut", vec![answer(&cut)]),
        ("cut before the content", vec![answer(head)]),
        ("a cut chunk", vec![answer(format!("{chunked}4\r\n01"))]),
        ("no chunk", vec![answer(chunked)]),
        (
            "a broken chunk",
            vec![answer(format!("{chunked}4\r\n0123x"))],
        ),
        ("no answer to go on with", then("")),
        ("a cut head", then("HTTP/1.1 2")),
        ("no head", then("garbage\r\n\r\n")),
        ("an interim answer", then("HTTP/1.1 100 Go\r\n\r\n")),
        ("another version", then(&head.replace("\"v\"", "\"w\""))),
        ("a protocol", then(&of("101 Switching"))),
    ];
    for status in [
        "302 Moved",
        "401 No",
        "404 No",
        "416 No",
        "500 No",
        "503 No",
    ] {
        rows.push((status, then(&of(status))));
    }
    for (name, connections) in rows {
        let script = Script::play_at(alone(3), connections);
        let mut retry = RetryPolicy::default();
        (retry.pause, retry.attempts) = (Duration::from_millis(1), 1);
        let builder = PeerClient::builder(script.base(), "secret").retry(retry);
        let error = match builder.build().unwrap().reader("a") {
            Ok(mut reader) => reader.read_to_end(&mut Vec::new()).unwrap_err(),
            Err(error) => error.into(),
        };
        let misread = [ErrorKind::UnexpectedEof, ErrorKind::Interrupted];
        assert!(!misread.contains(&error.kind()), "{name}: {error:?}");
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
        assert!(inner.is_some_and(|_: &PeerError| true), "{name}: {error:?}");
    }
}
