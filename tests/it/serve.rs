//! What an app gets of the server beyond the wire: rates, streams, events.

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use cranpose_services::peer::{
    ByteSource, BytesSource, EntityTag, PeerServer, ServerEvent, SourceResolver, SpoolSource,
    TransferEnd, fetch_range, fetch_to_writer,
};

fn one(source: impl ByteSource + 'static) -> SourceResolver {
    let source: Arc<dyn ByteSource> = Arc::new(source);
    Arc::new(move |handle| (handle == "a").then(|| Arc::clone(&source)))
}

fn content(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n % 251) as u8).collect()
}

#[test]
fn a_rate_limit_slows_a_transfer_and_changes_nothing_else() {
    let content = content(60_000);
    for limit in [
        PeerServer::builder("t", one(BytesSource::new(content.clone()))).rate_limit(100_000),
        PeerServer::builder("t", one(BytesSource::new(content.clone())))
            .transfer_rate_limit(100_000),
    ] {
        let server = limit.listen("127.0.0.1:0").unwrap().start().unwrap();
        let base = server.local_addr().to_string();
        let start = Instant::now();
        assert!(fetch_range(&base, "t", "a", 0, None).unwrap().bytes == content);
        // 60,000 bytes at 100,000 a second, less one burst: never sooner, however fast the machine.
        assert!(
            start.elapsed() >= Duration::from_millis(450),
            "{:?}",
            start.elapsed()
        );
    }
}

#[test]
fn a_stream_is_served_while_it_comes_and_in_ranges_when_it_is_there() {
    struct Slow(u32);
    impl io::Read for Slow {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            if self.0 == 300_000 {
                return Ok(0);
            }
            let n = buf.len().min(10_000);
            for (byte, value) in buf.iter_mut().zip(self.0..).take(n) {
                *byte = (value % 251) as u8;
            }
            self.0 += n as u32;
            Ok(n)
        }
    }
    let spool = SpoolSource::with_memory(Slow(0), 100_000).unwrap();
    let server = PeerServer::start("127.0.0.1:0", "t", one(spool)).unwrap();
    let base = server.local_addr().to_string();
    assert!(fetch_range(&base, "t", "a", 0, None).unwrap().bytes == content(300_000));
    let part = fetch_range(&base, "t", "a", 99_990, Some(100_020)).unwrap();
    assert_eq!(part.total_len, Some(300_000));
    assert!(part.bytes == content(300_000)[99_990..200_010]);
}

/// Its bytes are `a` up to the middle; when they have been read it becomes all `b`.
struct Replaced {
    len: Option<u64>,
    is_new: AtomicBool,
}

impl ByteSource for Replaced {
    fn len(&self) -> Option<u64> {
        self.len
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        const LEN: u64 = 4 << 20;
        if offset >= LEN / 2 {
            self.is_new.store(true, Ordering::Relaxed);
        }
        let n = buf.len().min((LEN - offset) as usize);
        buf[..n].fill(if self.is_new.load(Ordering::Relaxed) {
            b'b'
        } else {
            b'a'
        });
        Ok(n)
    }

    fn entity_tag(&self) -> Option<EntityTag> {
        EntityTag::strong(if self.is_new.load(Ordering::Relaxed) {
            "b"
        } else {
            "a"
        })
        .ok()
    }
}

#[test]
fn no_byte_of_another_version_is_sent() {
    for len in [Some(4 << 20), None] {
        let source = Replaced {
            len,
            is_new: AtomicBool::new(false),
        };
        let server = PeerServer::start("127.0.0.1:0", "t", one(source)).unwrap();
        let base = server.local_addr().to_string();
        let mut got = Vec::new();
        let result = fetch_to_writer(&base, "t", "a", 0, None, &mut got);
        assert!(result.is_err(), "{len:?}: {result:?}");
        assert!(
            !got.is_empty() && got.iter().all(|&byte| byte == b'a'),
            "{len:?}"
        );
    }
}

#[test]
fn every_transfer_that_starts_ends_with_its_verdict() {
    let log = Arc::new(Mutex::new(Vec::new()));
    let events = Arc::clone(&log);
    let server = PeerServer::builder("t", one(BytesSource::new(content(1000))))
        .on_event(move |event| {
            let line = match event {
                ServerEvent::TransferStarted(transfer) => {
                    format!(
                        "{} {} {}",
                        transfer.id, transfer.token_name, transfer.handle
                    )
                }
                ServerEvent::TransferEnded {
                    transfer,
                    sent,
                    end,
                } => {
                    assert_eq!(*end, TransferEnd::Complete);
                    format!("{} sent {sent}", transfer.id)
                }
                ServerEvent::TokenRefused { address } => format!("refused {address}"),
                _ => return,
            };
            events.lock().unwrap().push(line);
            // What a hook does must not matter to the transfer.
            panic!("a hook's own fault");
        })
        .listen("127.0.0.1:0")
        .unwrap()
        .start()
        .unwrap();
    let base = server.local_addr().to_string();
    for (start, len) in [(0, None), (10, Some(5))] {
        assert!(fetch_range(&base, "t", "a", start, len).is_ok());
    }
    assert!(fetch_range(&base, "wrong", "a", 0, None).is_err());
    server.shutdown(Duration::from_secs(5));
    let mut lines = log.lock().unwrap().clone();
    lines.sort();
    let expected = [
        "0 default a",
        "0 sent 1000",
        "1 default a",
        "1 sent 5",
        "refused 127.0.0.1",
    ];
    assert_eq!(lines, expected);
}
