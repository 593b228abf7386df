//! The client and the server over a link that breaks again and again: what arrives is what was
//! asked for, of one version.
//!
//! The simulator runs the machines over such links; here it is the drivers, the reader and the
//! download to a file, over real sockets. The seed decides where connections break and what is
//! asked for; which thread is how far when one does is up to the system.

use std::{
    fs,
    io::{ErrorKind, Read, Seek, SeekFrom, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use cranpose_services::peer::{
    ByteSource, BytesSource, Cancel, PeerClient, PeerError, PeerServer, Progress, ReadAheadConfig,
    RetryPolicy,
};

const LEN: usize = 1_500_000;

/// The generator of SplitMix64.
#[derive(Clone)]
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}

fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut dice = Dice(seed);
    (0..len).map(|_| dice.below(256) as u8).collect()
}

/// A few, or the one that `PEER_SEED` names, or as many as `PEER_SEEDS` says.
fn seeds() -> std::ops::Range<u64> {
    let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
    match number("PEER_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("PEER_SEEDS").unwrap_or(6),
    }
}

/// Stands before a server, and breaks what goes through.
pub(crate) struct BadLink {
    address: SocketAddr,
    broken: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl BadLink {
    pub(crate) fn before(server: SocketAddr, seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let link = Self {
            address: listener.local_addr().unwrap(),
            broken: Arc::default(),
            stop: Arc::default(),
        };
        let (broken, stop) = (Arc::clone(&link.broken), Arc::clone(&link.stop));
        thread::spawn(move || {
            let mut dice = Dice(seed);
            for client in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let mut dice = Dice(dice.below(u64::MAX));
                // One in eight is closed at once.
                if let (Ok(client), 1..) = (client, dice.below(8)) {
                    let broken = Arc::clone(&broken);
                    let server = TcpStream::connect(server).unwrap();
                    thread::spawn(move || pass(&client, &server, &mut dice, &broken));
                } else {
                    broken.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        link
    }

    pub(crate) fn client(&self, retry: RetryPolicy) -> PeerClient {
        let builder = PeerClient::builder(self.address.to_string(), "secret");
        builder.retry(retry).build().unwrap()
    }
}

impl Drop for BadLink {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        drop(TcpStream::connect(self.address));
    }
}

/// Passes on what is asked, and of the answers so many bytes as the dice say, in pieces.
fn pass(client: &TcpStream, server: &TcpStream, dice: &mut Dice, broken: &AtomicU64) {
    // One in eight.
    let loses_request = dice.below(8) == 0;
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut block = [0; 4096];
            let most = if loses_request { 20 } else { block.len() };
            while let Ok(n @ 1..) = (&mut &*client).read(&mut block[..most]) {
                if (&mut &*server).write_all(&block[..n]).is_err() || loses_request {
                    break;
                }
            }
            let _ = server.shutdown(Shutdown::Both);
        });
        let mut left = 1 + dice.below(300_000);
        let mut block = vec![0; 1 + dice.below(40_000) as usize];
        while left > 0 {
            let most = block.len().min(usize::try_from(left).unwrap());
            match (&mut &*server).read(&mut block[..most]) {
                Ok(n @ 1..) if (&mut &*client).write_all(&block[..n]).is_ok() => left -= n as u64,
                _ => break,
            }
        }
        broken.fetch_add(1, Ordering::Relaxed);
        let _ = server.shutdown(Shutdown::Both);
        let _ = client.shutdown(Shutdown::Both);
    });
}

/// Goes on however often a connection breaks, from the very first.
pub(crate) fn stubborn() -> RetryPolicy {
    let mut retry = RetryPolicy::default();
    retry.attempts = 1000;
    (retry.pause, retry.pause_max) = (Duration::from_millis(1), Duration::from_millis(5));
    retry.patience = Duration::from_secs(60);
    retry.from_nothing = true;
    retry
}

fn serve(bytes: &[u8]) -> PeerServer {
    let source: Arc<dyn ByteSource> = Arc::new(BytesSource::new(bytes.to_vec()));
    let resolver = move |_: &str| Some(Arc::clone(&source));
    PeerServer::start("127.0.0.1:0", "secret", Arc::new(resolver)).unwrap()
}

#[test]
fn fetches_are_whole() {
    let bytes = noise(1, LEN);
    let server = serve(&bytes);
    for seed in seeds() {
        let link = BadLink::before(server.local_addr(), seed);
        let client = link.client(stubborn());
        let mut dice = Dice(seed);
        thread::scope(|scope| {
            for _ in 0..4 {
                let (client, bytes) = (&client, &bytes);
                let mut dice = Dice(dice.below(u64::MAX));
                scope.spawn(move || {
                    for _ in 0..3 {
                        let start = dice.below(LEN as u64);
                        let len = 1 + dice.below(LEN as u64);
                        let end = LEN.min((start + len) as usize);
                        let expected = &bytes[start as usize..end];
                        let got = client.fetch_range("a", start, Some(len)).unwrap();
                        assert_eq!(got.total_len, Some(LEN as u64));
                        assert!(got.bytes == expected, "seed {seed}: {len} from {start}");
                        let mut got = Vec::new();
                        client
                            .fetch_to_writer("a", start, Some(len), &mut got)
                            .unwrap();
                        assert!(got == expected, "seed {seed}: {len} from {start}");
                        let length = client.content_length("a").unwrap();
                        assert_eq!(length, Some(LEN as u64));
                    }
                });
            }
        });
        assert!(link.broken.load(Ordering::Relaxed) > 0, "seed {seed}");
    }
}

#[test]
fn a_reader_is_like_the_bytes() {
    let bytes = noise(2, LEN);
    let server = serve(&bytes);
    for seed in seeds() {
        let link = BadLink::before(server.local_addr(), seed);
        let mut dice = Dice(seed);
        let mut config = ReadAheadConfig::default();
        config.block_bytes = 1 + dice.below(20_000) as usize;
        config.blocks = 2 + dice.below(30) as usize;
        config.request_bytes_min = dice.below(100_000);
        config.request_bytes_max = dice.below(1_000_000);
        let mut reader = link.client(stubborn()).reader_with("a", config).unwrap();
        assert_eq!(reader.len(), Some(LEN as u64));
        for _ in 0..60 {
            let position = match dice.below(3) {
                0 => reader.seek(SeekFrom::Start(dice.below(LEN as u64))),
                1 => reader.seek(SeekFrom::End(-(dice.below(100_000) as i64))),
                _ => reader.stream_position(),
            };
            let position = position.unwrap() as usize;
            let len = dice.below(60_000).min((LEN - position) as u64) as usize;
            let mut got = vec![0; len];
            reader.read_exact(&mut got).unwrap();
            let is_right = got == bytes[position..position + len];
            assert!(is_right, "seed {seed}: {len} at {position}, {config:?}");
        }
        assert!(link.broken.load(Ordering::Relaxed) > 0, "seed {seed}");
    }
}

/// A folder of one test's own, removed in the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let name = format!("peer-chaos-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_download_that_is_given_up_again_and_again_ends_whole() {
    let bytes = noise(3, LEN);
    let server = serve(&bytes);
    let scratch = Scratch::new("download");
    let mut resumed = 0;
    for seed in seeds() {
        let link = BadLink::before(server.local_addr(), seed);
        let target = scratch.0.join(seed.to_string());
        let mut dice = Dice(seed);
        let done = loop {
            let retry = match dice.below(2) {
                0 => RetryPolicy::NEVER,
                _ => stubborn(),
            };
            // Cancelled from its own thread, wherever it then is.
            let cancel = Cancel::new();
            let (switch, from) = (cancel.clone(), dice.below(2 * LEN as u64));
            let progress = Progress::with_callback(Duration::ZERO, move |snapshot| {
                if snapshot.received >= from {
                    switch.cancel();
                }
            });
            let client = link.client(retry).with_cancel(&cancel);
            match client.with_progress(&progress).download("a", &target) {
                Ok(done) => break done,
                Err(PeerError::Cancelled | PeerError::Truncated { .. } | PeerError::Io(_)) => {}
                Err(other) => panic!("seed {seed}: {other:?}"),
            }
            assert!(!target.exists(), "seed {seed}: half a file");
        };
        assert_eq!(done.len, LEN as u64);
        resumed += u64::from(done.resumed_from > 0);
        assert!(fs::read(&target).unwrap() == bytes, "seed {seed}");
        fs::remove_file(&target).unwrap();
        let left = fs::read_dir(&scratch.0).unwrap().map(Result::unwrap);
        let left = left.filter(|entry| entry.path().extension().is_none_or(|end| end != "lock"));
        assert_eq!(left.count(), 0, "seed {seed}: something is left");
    }
    assert!(resumed > 0, "nothing went on where it was");
}

/// Three versions, of which one is current, and another with every few requests.
#[test]
fn versions_never_mix() {
    let versions: Vec<_> = (4..7)
        .map(|seed| noise(seed, LEN - seed as usize))
        .collect();
    let scratch = Scratch::new("versions");
    let (mut whole, mut changed) = (0, 0);
    for seed in seeds() {
        let sources: Vec<Arc<dyn ByteSource>> = versions
            .iter()
            .map(|bytes| Arc::new(BytesSource::new(bytes.clone())) as Arc<dyn ByteSource>)
            .collect();
        let asked = AtomicU64::new(0);
        let every = 2 + Dice(seed).below(20);
        let resolver = move |_: &str| {
            let asked = asked.fetch_add(1, Ordering::Relaxed);
            let current = (asked / every) as usize % sources.len();
            Some(Arc::clone(&sources[current]))
        };
        let server = PeerServer::start("127.0.0.1:0", "secret", Arc::new(resolver)).unwrap();
        let link = BadLink::before(server.local_addr(), seed);
        let client = link.client(stubborn());
        for _ in 0..5 {
            match client.fetch_range("a", 0, None) {
                Ok(got) => {
                    assert!(versions.contains(&got.bytes), "seed {seed}: mixed");
                    whole += 1;
                }
                Err(PeerError::Changed) => changed += 1,
                Err(other) => panic!("seed {seed}: {other:?}"),
            }
            let mut read = Vec::new();
            let ended = match client.reader("a") {
                Ok(mut reader) => reader.read_to_end(&mut read).map(|_| ()),
                Err(error) => panic!("seed {seed}: {error:?}"),
            };
            match ended {
                Ok(()) => assert!(versions.contains(&read), "seed {seed}: mixed"),
                Err(error) => {
                    assert_eq!(
                        error.kind(),
                        ErrorKind::InvalidData,
                        "seed {seed}: {error:?}"
                    );
                    let begins = versions.iter().any(|version| version.starts_with(&read));
                    assert!(begins, "seed {seed}: mixed before the change");
                }
            }
            let target = scratch.0.join(seed.to_string());
            match client.download("a", &target) {
                Ok(_) => {
                    let got = fs::read(&target).unwrap();
                    assert!(versions.contains(&got), "seed {seed}: mixed in a file");
                    fs::remove_file(&target).unwrap();
                }
                Err(PeerError::Changed) => {}
                Err(other) => panic!("seed {seed}: {other:?}"),
            }
        }
    }
    assert!(whole > 0 && changed > 0, "{whole} whole, {changed} changed");
}
