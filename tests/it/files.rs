//! Files, read by position or, with the feature `sendfile`, sent by the kernel: the same bytes, and
//! the same losses shown. `cargo test -p peer-tests --features sendfile --test it files::`

use std::{
    fs::{File, OpenOptions},
    io::{self, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use cranpose_services::peer::{
    ByteSource, FileSource, PeerServer, SourceResolver, fetch_range, fetch_to_writer,
};
use peer_tests::raw::{RawPeer, parse_byteranges};

/// More than the sockets of a connection hold on their own, so that a transfer of it waits for its
/// reader.
const LARGE: u64 = 64 << 20;

/// A file that is gone with its test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str, content: &[u8]) -> Self {
        let path = std::env::temp_dir().join(format!("peer-files-{}-{name}", std::process::id()));
        std::fs::write(&path, content).unwrap();
        Self(path)
    }

    /// All zeros, and no block on the disk.
    fn sparse(name: &str, len: u64) -> Self {
        let scratch = Self::new(name, b"");
        scratch.writable().set_len(len).unwrap();
        scratch
    }

    fn path(&self) -> &Path {
        &self.0
    }

    fn writable(&self) -> File {
        OpenOptions::new().write(true).open(&self.0).unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn one(source: impl ByteSource + 'static) -> SourceResolver {
    let source: Arc<dyn ByteSource> = Arc::new(source);
    Arc::new(move |handle| (handle == "a").then(|| Arc::clone(&source)))
}

fn start(source: impl ByteSource + 'static) -> PeerServer {
    PeerServer::start("127.0.0.1:0", "t", one(source)).unwrap()
}

fn content(len: usize) -> Vec<u8> {
    (0..len as u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect()
}

/// Asks for all of it, and returns once its head and first byte are here.
fn begin(server: &PeerServer) -> (RawPeer, u64) {
    let mut peer = RawPeer::connect(server.local_addr()).unwrap();
    peer.send(b"GET /track/a HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer t\r\n\r\n")
        .unwrap();
    let head = peer.read_head().unwrap().unwrap();
    let length: u64 = head.field("content-length").unwrap().parse().unwrap();
    let (first, end) = peer.read_length(1).unwrap();
    assert!(first.len() == 1 && end.is_none());
    (peer, length)
}

#[test]
fn every_range_is_what_the_file_holds() {
    let content = content(3 << 20);
    let file = Scratch::new("ranges", &content);
    let server = start(FileSource::open(file.path()).unwrap());
    let base = server.local_addr().to_string();
    let mut all = Vec::new();
    fetch_to_writer(&base, "t", "a", 0, None, &mut all).unwrap();
    assert!(all == content);
    // Around the lengths from which on a file is lent, and sent in several stretches.
    for len in [
        1,
        1000,
        16_383,
        16_384,
        16_385,
        65_536,
        (1 << 20) - 1,
        1 << 20,
        (1 << 20) + 1,
    ] {
        for start in [0, 1, 4095, 1_500_000, content.len() - len] {
            let got = fetch_range(&base, "t", "a", start as u64, Some(len as u64)).unwrap();
            assert!(got.bytes == content[start..start + len], "{start}+{len}");
        }
    }
}

#[test]
fn parts_of_a_file_stand_in_their_places() {
    let content = content(200_000);
    let file = Scratch::new("parts", &content);
    let server = start(FileSource::open(file.path()).unwrap());
    let mut peer = RawPeer::connect(server.local_addr()).unwrap();
    peer.send(
        b"GET /track/a HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer t\r\n\
          Range: bytes=0-9,50000-99999,150000-150009,160000-199999\r\n\r\n",
    )
    .unwrap();
    let answer = peer.read_response(false).unwrap().unwrap();
    assert_eq!(answer.status(), 206);
    let kind = answer.field("content-type").unwrap();
    let (_, boundary) = kind.split_once("boundary=").unwrap();
    let parts = parse_byteranges(&answer.content, boundary).unwrap();
    let spans = [0..10, 50_000..100_000, 150_000..150_010, 160_000..200_000];
    assert_eq!(parts.len(), spans.len());
    for (part, span) in parts.iter().zip(spans) {
        assert!(part.content == content[span.clone()], "{span:?}");
    }
}

#[test]
fn a_file_cut_short_under_its_transfer_is_a_loss_that_shows() {
    let file = Scratch::sparse("short", LARGE);
    let server = start(FileSource::open(file.path()).unwrap());
    let (mut peer, length) = begin(&server);
    assert_eq!(length, LARGE);
    file.writable().set_len(LARGE / 2).unwrap();
    let (rest, _) = peer.read_to_end().unwrap();
    assert!((rest.len() as u64) < LARGE - 1);
    assert!(rest.iter().all(|&byte| byte == 0));
}

#[test]
fn a_file_written_to_under_its_transfer_is_not_sent_on() {
    let file = Scratch::sparse("written", LARGE);
    let server = start(FileSource::open(file.path()).unwrap());
    let (mut peer, _) = begin(&server);
    let mut writable = file.writable();
    writable.seek(SeekFrom::Start(LARGE - 10)).unwrap();
    writable.write_all(b"another").unwrap();
    let (rest, _) = peer.read_to_end().unwrap();
    assert!((rest.len() as u64) < LARGE - 1);
    assert!(rest.iter().all(|&byte| byte == 0));
}

#[test]
fn whoever_hangs_up_on_a_file_harms_nobody() {
    let file = Scratch::sparse("hang-up", LARGE);
    let server = start(FileSource::open(file.path()).unwrap());
    for _ in 0..10 {
        drop(begin(&server));
    }
    let got = fetch_range(&server.local_addr().to_string(), "t", "a", 7, Some(1 << 20)).unwrap();
    assert!(got.bytes.len() == 1 << 20 && got.bytes.iter().all(|&byte| byte == 0));
}

#[test]
fn a_transfer_of_a_file_is_cut_by_the_end_of_its_server() {
    let file = Scratch::sparse("cut", LARGE);
    let server = start(FileSource::open(file.path()).unwrap());
    let (mut peer, _) = begin(&server);
    assert_eq!(server.shutdown(Duration::ZERO).cut, 1);
    assert!((peer.read_to_end().unwrap().0.len() as u64) < LARGE - 1);
}

/// A source whose bytes are in memory, and that lends what does not hold them.
struct Lent {
    content: Vec<u8>,
    /// `None` panics.
    lend: Option<File>,
    asked: AtomicBool,
}

impl Lent {
    fn new(lend: Option<File>) -> Self {
        Self {
            content: content(400_000),
            lend,
            asked: AtomicBool::new(false),
        }
    }
}

impl ByteSource for Lent {
    fn len(&self) -> Option<u64> {
        Some(self.content.len() as u64)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let rest = &self.content[offset as usize..];
        let len = rest.len().min(buf.len());
        buf[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    fn file(&self) -> Option<&File> {
        self.asked.store(true, Ordering::Relaxed);
        assert!(self.lend.is_some(), "the app's own fault");
        self.lend.as_ref()
    }
}

#[test]
fn a_file_that_cannot_be_sent_from_is_read() {
    let scratch = Scratch::new("unreadable", b"not these bytes");
    // The kernel sends from no directory, and not from what is open for writing alone.
    for lent in [
        File::open(std::env::temp_dir()).ok(),
        Some(scratch.writable()),
    ] {
        // Some platforms open no directory; then there is no such case.
        let Some(lent) = lent else { continue };
        let source = Arc::new(Lent::new(Some(lent)));
        let shared: Arc<dyn ByteSource> = source.clone();
        let resolver: SourceResolver = Arc::new(move |_| Some(Arc::clone(&shared)));
        let server = PeerServer::start("127.0.0.1:0", "t", resolver).unwrap();
        let got = fetch_range(&server.local_addr().to_string(), "t", "a", 0, None).unwrap();
        assert!(got.bytes == source.content);
        assert_eq!(
            source.asked.load(Ordering::Relaxed),
            cfg!(feature = "sendfile")
        );
    }
}

#[test]
fn a_source_that_panics_when_asked_for_its_file_fails_its_own_answer() {
    let server = start(Lent::new(None));
    let mut peer = RawPeer::connect(server.local_addr()).unwrap();
    // Nothing is out yet when it panics, so it is a 500; and what is short is never lent.
    let lent = if cfg!(feature = "sendfile") { 500 } else { 206 };
    for (range, status) in [("0-", lent), ("0-9", 206), ("5-", lent)] {
        let request = format!(
            "GET /track/a HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer t\r\nRange: bytes={range}\r\n\r\n"
        );
        peer.send(request.as_bytes()).unwrap();
        let answer = peer.read_response(false).unwrap().unwrap();
        assert!(answer.cut.is_none(), "{range}");
        assert_eq!(answer.status(), status, "{range}");
    }
}
