//! Readers of one remote source in every order of their threads: each gets the bytes of one version,
//! or an error, and none waits for whoever is not there any more.

use std::{
    net::SocketAddr,
    sync::{
        Mutex as Unmodelled,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use loom::thread;

use super::*;
use crate::{
    client_connect::{ClientStream, Connect},
    remote_source::RemoteSource,
    stream::Stream,
    sync::models::{explore, without_timeouts},
};

/// How the peer answers one request after the other; the last one again and again.
#[derive(Clone, Copy)]
enum Answer {
    /// With this version of the source, which is one byte throughout.
    Whole(u8),
    /// With this many bytes less than it declares.
    Cut(u8, usize),
    NotFound,
}

/// Bytes of the source, and of a block.
const LEN: usize = 4;
const BLOCK: usize = 2;

/// A peer without a network. Its own state is used by nobody while another thread can run.
struct Peer {
    answers: Vec<Answer>,
    asked: AtomicUsize,
}

/// A connection to it.
struct Line {
    peer: Arc<Peer>,
    answer: Unmodelled<Vec<u8>>,
}

impl Connect for Arc<Peer> {
    fn connect(&self, _: SocketAddr, _: Option<Duration>) -> io::Result<Arc<dyn ClientStream>> {
        Ok(Arc::new(Line {
            peer: Self::clone(self),
            answer: Unmodelled::default(),
        }))
    }
}

impl Peer {
    /// The answer to a head that was written in one piece.
    fn answer(&self, head: &[u8]) -> Vec<u8> {
        let head = std::str::from_utf8(head).unwrap();
        let range = head
            .lines()
            .find_map(|line| line.strip_prefix("Range: bytes="));
        let (first, last) = range.and_then(|range| range.split_once('-')).unwrap();
        let first: usize = first.parse().unwrap();
        let last = last.parse().unwrap_or(usize::MAX).min(LEN - 1);
        let turn = self.asked.fetch_add(1, Relaxed).min(self.answers.len() - 1);
        let (version, missing) = match self.answers[turn] {
            Answer::Whole(version) => (version, 0),
            Answer::Cut(version, missing) => (version, missing),
            Answer::NotFound => {
                return b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec();
            }
        };
        let len = last + 1 - first;
        let mut answer = format!(
            "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {first}-{last}/{LEN}\r\n\
             Content-Length: {len}\r\nETag: \"{version}\"\r\n\r\n"
        )
        .into_bytes();
        answer.resize(answer.len() + len - missing, version);
        answer
    }
}

impl Stream for Line {
    fn read(&self, buf: &mut [u8]) -> io::Result<usize> {
        let mut answer = self.answer.lock().unwrap();
        let n = answer.len().min(buf.len());
        buf[..n].copy_from_slice(&answer[..n]);
        answer.drain(..n);
        Ok(n)
    }

    fn write(&self, buf: &[u8]) -> io::Result<usize> {
        *self.answer.lock().unwrap() = self.peer.answer(buf);
        Ok(buf.len())
    }

    without_timeouts!();

    fn hang_up(&self) {}
}

impl ClientStream for Line {
    fn is_quiet(&self) -> bool {
        true
    }
}

fn client(answers: &[Answer]) -> (PeerClient, Arc<Peer>) {
    let peer = Arc::new(Peer {
        answers: answers.to_vec(),
        asked: AtomicUsize::new(0),
    });
    let builder = PeerClient::builder("127.0.0.1:1", "secret")
        .retry(RetryPolicy::NEVER)
        .connector(Arc::new(Arc::clone(&peer)));
    (builder.build().unwrap(), peer)
}

fn config() -> RemoteSourceConfig {
    let mut config = RemoteSourceConfig::default();
    config.read_ahead.block_bytes = BLOCK;
    config.read_ahead.blocks = 3;
    config.read_ahead.request_bytes_min = LEN as u64;
    config.read_ahead.request_bytes_max = LEN as u64;
    config.read_ahead.requests = 2;
    // No time passes in a model that matters.
    config.fresh_for = Duration::MAX;
    config
}

/// Reads from `start` to the end. The bytes are all of one version.
fn read_on(source: &RemoteSource, start: usize) -> Result<u8, Arc<PeerError>> {
    let mut got = Vec::new();
    let mut buf = [0; LEN];
    loop {
        match source.read_some((start + got.len()) as u64, &mut buf)? {
            0 => break,
            n => got.extend_from_slice(&buf[..n]),
        }
    }
    assert_eq!(got.len(), LEN - start);
    assert!(got.iter().all(|&byte| byte == got[0]), "{got:?}");
    Ok(got[0])
}

/// Two readers, one of which begins in the middle.
fn read_together(source: RemoteSource) -> [Result<u8, Arc<PeerError>>; 2] {
    let other = source.clone();
    let reader = thread::spawn(move || read_on(&other, 1));
    let one = read_on(&source, 0);
    [one, reader.join().unwrap()]
}

#[test]
fn readers_share_one_request() {
    explore(None, || {
        let (client, peer) = client(&[Answer::Whole(1)]);
        let source = RemoteSource::open_with(&client, "a", config()).unwrap();
        let read = read_together(source);
        assert!(read.iter().all(|read| matches!(read, Ok(1))), "{read:?}");
        assert_eq!(peer.asked.load(Relaxed), 1);
    });
}

#[test]
fn one_reader_asks_what_the_source_is_and_the_others_wait() {
    explore(Some(3), || {
        let (client, peer) = client(&[Answer::Whole(1)]);
        let read = read_together(RemoteSource::unopened(&client, "a", config(), None));
        assert!(read.iter().all(|read| matches!(read, Ok(1))), "{read:?}");
        assert_eq!(peer.asked.load(Relaxed), 1);
    });
}

/// Whoever waited for it is told, and whoever came later asks anew.
#[test]
fn a_failure_reaches_those_who_waited() {
    explore(None, || {
        let (client, _) = client(&[Answer::NotFound, Answer::Whole(1)]);
        let read = read_together(RemoteSource::unopened(&client, "a", config(), None));
        let failed = |read: &Result<_, Arc<PeerError>>| match read {
            Err(error) => matches!(**error, PeerError::NotFound),
            Ok(_) => false,
        };
        assert!(read.iter().any(failed), "{read:?}");
        assert!(
            read.iter()
                .all(|read| matches!(read, Ok(1)) || failed(read))
        );
    });
}

#[test]
fn a_lane_that_breaks_keeps_nobody_waiting() {
    explore(None, || {
        let (client, _) = client(&[Answer::Cut(1, 1), Answer::Whole(1)]);
        let source = RemoteSource::open_with(&client, "a", config()).unwrap();
        for read in read_together(source) {
            match read {
                Ok(version) => assert_eq!(version, 1),
                Err(error) => assert!(matches!(*error, PeerError::Truncated { .. }), "{error}"),
            }
        }
    });
}

/// The rest of the source is of another version than its beginning. One reader is held to the first
/// one; another one asks anew, and gets the second.
#[test]
fn nobody_reads_bytes_of_two_versions() {
    explore(Some(3), || {
        let (client, _) = client(&[Answer::Whole(1), Answer::Whole(2)]);
        let mut config = config();
        config.read_ahead.request_bytes_min = BLOCK as u64;
        config.read_ahead.request_bytes_max = BLOCK as u64;
        let shared = Shared::new(&client, "a", config, None);
        let first = shared.ask(None, shared.enter()).unwrap().epoch;
        let other = Arc::clone(&shared);
        let held = thread::spawn(move || read_version(&other, first));
        let mut read = read_version(&shared, first);
        assert_changed(read);
        read = read_version(&shared, shared.learn(None, 0).unwrap().epoch);
        assert_eq!(read.unwrap(), 2);
        assert_changed(held.join().unwrap());
    });
}

/// Reads all of one version. The bytes are all of one.
fn read_version(shared: &Arc<Shared>, epoch: u64) -> Result<u8, Arc<PeerError>> {
    let reading = Reading {
        shared,
        seat: shared.enter(),
        cancel: None,
        epoch,
    };
    let mut got = Vec::new();
    let mut buf = [0; LEN];
    loop {
        match reading.read(got.len() as u64, &mut buf)? {
            0 => break,
            n => got.extend_from_slice(&buf[..n]),
        }
    }
    assert!(
        got.len() == LEN && got.iter().all(|&byte| byte == got[0]),
        "{got:?}"
    );
    Ok(got[0])
}

fn assert_changed(read: Result<u8, Arc<PeerError>>) {
    let error = read.unwrap_err();
    assert!(matches!(*error, PeerError::Changed), "{error}");
}

/// Of the sources of one family, one at most keeps what it has when all readers are gone.
#[test]
fn one_of_a_family_rests() {
    explore(None, || {
        let family = Arc::new(Family::default());
        let (client, _) = client(&[Answer::Whole(1)]);
        let shared: Vec<_> = (0..2)
            .map(|_| Shared::new(&client, "a", config(), Some(Arc::clone(&family))))
            .collect();
        let read = |shared: &Arc<Shared>| {
            let seat = shared.enter();
            let known = shared.ask(None, seat).unwrap();
            let reading = Reading {
                shared,
                seat,
                cancel: None,
                epoch: known.epoch,
            };
            assert_eq!(reading.read(0, &mut [0; LEN]).unwrap(), BLOCK);
            shared.leave(seat);
        };
        let other = Arc::clone(&shared[1]);
        let reader = thread::spawn(move || read(&other));
        read(&shared[0]);
        reader.join().unwrap();
        let rests = |shared: &Arc<Shared>| {
            let state = lock(&shared.state);
            let epoch = state.epoch.as_ref().unwrap();
            epoch.blocks.iter().any(|block| !block.is_empty())
        };
        assert_eq!(shared.iter().filter(|shared| rests(shared)).count(), 1);
    });
}
