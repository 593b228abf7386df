//! Rate limits over real transfers: never more than allowed, and playback before prefetch.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use cranpose_services::peer::{ByteSource, PeerServer, Priority, SourceResolver};
use peer_tests::raw::find;

use super::{CONTENT_BYTES, TOKEN, measured, patterned, request};

/// A source that is for one or the other.
struct For(Priority);

impl ByteSource for For {
    fn len(&self) -> Option<u64> {
        Some(CONTENT_BYTES as u64)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let rest = &patterned(0, CONTENT_BYTES)[offset as usize..];
        let len = rest.len().min(buf.len());
        buf[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    fn priority(&self) -> Priority {
        self.0
    }
}

fn resolver() -> SourceResolver {
    Arc::new(|handle| {
        let priority = match handle {
            "prefetch" => Priority::Prefetch,
            _ => Priority::Playback,
        };
        Some(Arc::new(For(priority)))
    })
}

/// Takes what comes of each handle at the same time, for so long. Returns how many bytes came, and in
/// how many seconds they did.
fn take(server: &PeerServer, handles: &[&str], time: Duration) -> (Vec<u64>, f64) {
    let taken: Vec<AtomicU64> = handles.iter().map(|_| AtomicU64::new(0)).collect();
    // Made once, and not on the server's time.
    let content = patterned(0, CONTENT_BYTES);
    let began = Instant::now();
    let mut counts = Vec::new();
    let mut took = 0.0;
    thread::scope(|scope| {
        let mut connections = Vec::new();
        for (handle, taken) in handles.iter().zip(&taken) {
            let mut stream = TcpStream::connect(server.local_addr()).unwrap();
            stream.write_all(&request(handle, TOKEN, "")).unwrap();
            connections.push(stream.try_clone().unwrap());
            scope.spawn(move || {
                let mut got = Vec::new();
                let mut block = vec![0; 64 * 1024];
                while let Ok(n @ 1..) = stream.read(&mut block) {
                    got.extend_from_slice(&block[..n]);
                    taken.fetch_add(n as u64, Ordering::SeqCst);
                }
                // Who had no turn got no head.
                let head = find(&got, b"\r\n\r\n").map_or(got.len(), |end| end + 4);
                assert!(content.starts_with(&got[head..]));
            });
        }
        thread::sleep(time);
        took = began.elapsed().as_secs_f64();
        counts.extend(taken.iter().map(|taken| taken.load(Ordering::SeqCst)));
        for stream in connections {
            stream.shutdown(Shutdown::Both).unwrap();
        }
    });
    (counts, took)
}

/// Bytes of a head, at most.
const HEAD: u64 = 1_000;

#[test]
fn never_more_than_allowed() {
    const RATE: u64 = 2_000_000;
    const BURST: u64 = RATE / 10;
    for (count, each) in [(4, false), (1, false), (4, true)] {
        let builder = PeerServer::builder(TOKEN, resolver());
        let builder = if each {
            builder.transfer_rate_limit(RATE)
        } else {
            builder.rate_limit(RATE)
        };
        let server = builder.listen("127.0.0.1:0").unwrap().start().unwrap();
        let time = Duration::from_millis(1_500);
        let (taken, took) = take(&server, &vec!["playback"; count], time);
        let most = |transfers: u64| (RATE as f64 * took) as u64 * transfers + transfers * BURST;
        let limited = if each { count as u64 } else { 1 };
        let all = taken.iter().sum::<u64>();
        assert!(
            all <= most(limited) + count as u64 * HEAD,
            "{all} in {took} s"
        );
        // Each alone, where each is limited: none makes up for another.
        for one in taken.iter().filter(|_| each) {
            assert!(*one <= most(1) + HEAD, "{one} in {took} s");
        }
        measured(&format!(
            "{count} transfers, {} limited to {RATE} bytes a second: {:.3} of it in {took:.3} s",
            if each { "each" } else { "together" },
            all as f64 / took / (RATE * limited) as f64,
        ));
    }
}

#[test]
fn playback_goes_before_prefetch() {
    const RATE: u64 = 1_000_000;
    let server = PeerServer::builder(TOKEN, resolver())
        .rate_limit(RATE)
        .listen("127.0.0.1:0")
        .unwrap()
        .start()
        .unwrap();
    let handles = ["prefetch", "playback", "prefetch"];
    let (taken, _) = take(&server, &handles, Duration::from_secs(5));
    let [first, playback, second] = taken[..] else {
        panic!("three were asked for");
    };
    measured(&format!(
        "under a limit for all, playback got {playback} bytes, two that prefetch {first} and {second}"
    ));
    // By the rule 9 of 10. A machine that lets the thread of the one wait lets the others pass.
    assert!(playback > 2 * (first + second), "{taken:?}");
    assert!(first + second > 0, "slowed, not starved: {taken:?}");
}
