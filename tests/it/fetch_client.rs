//! `PeerClient` against scripted servers: kept connections, mended ones, progress, cancelling.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Barrier, Mutex, mpsc::channel},
    time::{Duration, Instant},
};

use cranpose_services::peer::{
    Cancel, FetchDeadline, PeerClient, PeerClientBuilder, PeerError, Phase, PoolLimits, Progress,
    ProgressState, RetryPolicy, Timeouts, content_length, fetch_range, fetch_to_writer,
};
use peer_net::client_connect::{ClientStream, Connect};
use peer_tests::silent::Silent;

use crate::capability::{Capability, has};
use crate::fetch_script::{Act, Script, alone, answer};

const WHOLE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\nETag: \"v\"\r\n\r\n0123456789";

fn builder(script: &Script) -> PeerClientBuilder {
    let mut retry = RetryPolicy::default();
    retry.pause = Duration::from_millis(1);
    PeerClient::builder(script.base(), "secret").retry(retry)
}

fn client(script: &Script) -> PeerClient {
    builder(script).build().unwrap()
}

fn rest(start: u64, tag: &str) -> String {
    format!(
        "HTTP/1.1 206 Partial Content\r\nContent-Length: {}\r\nContent-Range: bytes {start}-9/10\r\n\
         ETag: \"{tag}\"\r\n\r\n{}",
        10 - start,
        &"0123456789"[start as usize..]
    )
}

/// A whole of 10 bytes that is cut behind 4.
fn cut(tag: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n{tag}\r\n0123")
}

#[test]
fn a_thousand_ranges_go_over_one_connection() {
    let acts: Vec<_> = (0..1000).flat_map(|_| answer(WHOLE)).collect();
    let script = Script::play(vec![acts]);
    for _ in 0..500 {
        let got = fetch_range(&script.base(), "secret", "a", 0, None).unwrap();
        assert_eq!(got.bytes, b"0123456789");
        let mut got = Vec::new();
        fetch_to_writer(&script.base(), "secret", "a", 0, None, &mut got).unwrap();
        assert_eq!(got, b"0123456789");
    }
    assert_eq!(script.requests().len(), 1000);
}

#[test]
fn a_kept_connection_that_died_is_replaced_once() {
    // The second request comes in, and instead of an answer the connection ends.
    let dying = [answer(WHOLE), vec![Act::Request]].concat();
    let script = Script::play(vec![dying, answer(WHOLE)]);
    let client = builder(&script).retry(RetryPolicy::NEVER).build().unwrap();
    for _ in 0..2 {
        assert_eq!(client.fetch_range("a", 0, None).unwrap().bytes.len(), 10);
    }
    assert_eq!(script.requests().len(), 3);
    // A new one that ends in the same way is an error.
    let script = Script::play(vec![vec![Act::Request]]);
    match content_length(&script.base(), "secret", "a") {
        Err(PeerError::Io(error)) => {
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
            assert_eq!(PeerError::Io(error).phase(), Some(Phase::Head));
        }
        other => panic!("{other:?}"),
    }
    // And so is a kept one that ends within an answer.
    let dying = [answer(WHOLE), answer("HTTP/1.1 2")].concat();
    let script = Script::play(vec![dying]);
    let client = builder(&script).retry(RetryPolicy::NEVER).build().unwrap();
    client.fetch_range("a", 0, None).unwrap();
    let error = client.fetch_range("a", 0, None).unwrap_err();
    assert_eq!(error.phase(), Some(Phase::Head));
}

#[test]
fn what_must_not_be_kept_is_not() {
    let chatty = format!("{WHOLE}HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad");
    let closing = WHOLE.replace("ETag", "Connection: close\r\nETag");
    for first in [chatty, closing] {
        let script = Script::play(vec![answer(first), answer(WHOLE)]);
        let client = client(&script);
        for _ in 0..2 {
            assert_eq!(
                client.fetch_range("a", 0, None).unwrap().bytes,
                b"0123456789"
            );
        }
        script.requests();
    }
    let script = Script::play(vec![answer(WHOLE), answer(WHOLE)]);
    let mut limits = PoolLimits::default();
    limits.idle_max = 0;
    let client = builder(&script).pool(limits).build().unwrap();
    for _ in 0..2 {
        client.fetch_range("a", 0, None).unwrap();
    }
    assert_eq!(script.requests().len(), 2);
}

#[test]
fn a_break_is_mended() {
    let tag = "ETag: \"v\"\r\n";
    let script = Script::play(vec![answer(cut(tag)), answer(rest(4, "v"))]);
    let progress = Progress::new();
    let client = client(&script).with_progress(&progress);
    let got = client.fetch_range("a", 0, None).unwrap();
    assert_eq!(
        (got.total_len, &got.bytes[..]),
        (Some(10), &b"0123456789"[..])
    );
    let snapshot = progress.snapshot();
    assert_eq!(
        (snapshot.received, snapshot.expected, snapshot.retries),
        (10, Some(10), 1)
    );
    assert_eq!(snapshot.state, ProgressState::Done);
    let requests = script.requests();
    assert!(!requests[0].contains("If-Range"));
    assert!(requests[1].contains("Range: bytes=4-\r\n"));
    assert!(requests[1].contains("If-Range: \"v\"\r\n"));
    // The free functions do it too.
    let script = Script::play(vec![answer(cut(tag)), answer(rest(4, "v"))]);
    let mut got = Vec::new();
    fetch_to_writer(&script.base(), "secret", "a", 0, None, &mut got).unwrap();
    assert_eq!(got, b"0123456789");
    script.requests();
}

#[test]
fn a_change_is_never_spliced() {
    let tag = "ETag: \"v\"\r\n";
    for second in [
        WHOLE.replace("\"v\"", "\"w\""),
        rest(4, "w"),
        rest(4, "v").replace("ETag", "X"),
        rest(4, "v").replace("/10", "/11"),
        "HTTP/1.1 416 Any\r\nContent-Range: bytes */3\r\nContent-Length: 0\r\n\r\n".to_owned(),
    ] {
        let script = Script::play(vec![answer(cut(tag)), answer(&second)]);
        let mut got = Vec::new();
        let result = client(&script).fetch_to_writer("a", 0, None, &mut got);
        assert!(matches!(result, Err(PeerError::Changed)), "{second}");
        assert_eq!(got, b"0123", "{second}");
        script.requests();
    }
}

#[test]
fn a_whole_of_the_same_version_is_read_past_what_came() {
    let script = Script::play(vec![answer(cut("ETag: \"v\"\r\n")), answer(WHOLE)]);
    let mut got = Vec::new();
    client(&script)
        .fetch_to_writer("a", 0, None, &mut got)
        .unwrap();
    assert_eq!(got, b"0123456789");
    assert!(script.requests()[1].contains("If-Range: \"v\"\r\n"));
}

#[test]
fn without_a_strong_tag_a_break_is_final() {
    for tag in [
        "",
        "ETag: W/\"v\"\r\n",
        "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n",
    ] {
        let script = Script::play(vec![answer(cut(tag))]);
        match client(&script).fetch_range("a", 0, None) {
            Err(PeerError::Truncated {
                expected: Some(10),
                received: 4,
            }) => {}
            other => panic!("{tag}: {other:?}"),
        }
        assert_eq!(script.requests().len(), 1);
    }
}

#[test]
fn a_break_that_nobody_mends_is_reported_as_it_was() {
    // Nobody listens any more when the second attempt is made.
    let script = Script::play_at(alone(1), vec![answer(cut("ETag: \"v\"\r\n"))]);
    let mut retry = RetryPolicy::default();
    retry.attempts = 3;
    retry.pause = Duration::from_millis(1);
    let client = builder(&script).retry(retry).build().unwrap();
    match client.fetch_range("a", 0, None) {
        Err(PeerError::Truncated {
            expected: Some(10),
            received: 4,
        }) => {}
        other => panic!("{other:?}"),
    }
}

/// Our own server answers 503 when it has no room, and a gateway 502 or 504 while what it stands
/// before starts again.
#[test]
fn a_peer_that_has_no_room_for_a_while_is_asked_again() {
    let busy = |status: &str| {
        answer(format!(
            "HTTP/1.1 {status}\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"
        ))
    };
    let busy_for_a_while = [busy("503 No"), busy("502 No"), busy("504 No")];
    let mut connections = vec![answer(cut("ETag: \"v\"\r\n"))];
    connections.extend(busy_for_a_while.clone());
    connections.push(answer(rest(4, "v")));
    let script = Script::play(connections);
    let got = client(&script).fetch_range("a", 0, None).unwrap();
    assert_eq!(got.bytes, b"0123456789");
    assert_eq!(script.requests().len(), 5);
    // At the beginning that is for whoever asked to wait for the peer.
    let script = Script::play(vec![busy("503 No")]);
    let result = client(&script).fetch_range("a", 0, None);
    assert!(matches!(result, Err(PeerError::Status(503))), "{result:?}");
    let mut connections = busy_for_a_while.to_vec();
    connections.push(answer(WHOLE));
    let script = Script::play(connections);
    let mut retry = RetryPolicy::default();
    (retry.pause, retry.from_nothing) = (Duration::from_millis(1), true);
    let client = builder(&script).retry(retry).build().unwrap();
    assert_eq!(client.content_length("a").unwrap(), Some(10));
    assert_eq!(script.requests().len(), 4);
}

#[test]
fn shorter_answers_are_put_together() {
    let part = |start: u64, end: u64, tag: &str| {
        let bytes = &"0123456789"[start as usize..end as usize];
        answer(format!(
            "HTTP/1.1 206 Partial Content\r\nContent-Length: {}\r\nContent-Range: bytes {start}-{}/10\r\n\
             {tag}\r\n{bytes}",
            bytes.len(),
            end - 1,
        ))
    };
    let tag = "ETag: \"v\"\r\n";
    let acts = [part(2, 4, tag), part(4, 5, tag), part(5, 8, tag)].concat();
    let script = Script::play(vec![acts]);
    let got = client(&script).fetch_range("a", 2, Some(6)).unwrap();
    assert_eq!((got.total_len, &got.bytes[..]), (Some(10), &b"234567"[..]));
    assert_eq!(script.requests().len(), 3);
    let script = Script::play(vec![part(2, 4, "")]);
    match client(&script).fetch_range("a", 2, None) {
        Err(PeerError::Truncated {
            expected: Some(8),
            received: 2,
        }) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn deadlines_have_names() {
    let short = Some(Duration::from_millis(20));
    let which = |timeouts, acts: Vec<Act>| {
        let script = Script::play(vec![[acts, vec![Act::AwaitEnd]].concat()]);
        let client = builder(&script).timeouts(timeouts).build().unwrap();
        match client.fetch_range("a", 0, None) {
            Err(PeerError::TimedOut(which)) => which,
            other => panic!("{other:?}"),
        }
    };
    // One at a time: a slow machine would let another pass on the way.
    let mut timeouts = Timeouts::default();
    timeouts.head = short;
    assert_eq!(which(timeouts, vec![Act::Request]), FetchDeadline::Head);
    let mut timeouts = Timeouts::default();
    timeouts.stall = short;
    assert_eq!(which(timeouts, answer(cut(""))), FetchDeadline::Stall);
    let mut timeouts = Timeouts::default();
    timeouts.whole = short;
    assert_eq!(which(timeouts, answer(cut(""))), FetchDeadline::Whole);
    assert_eq!(which(timeouts, vec![Act::Request]), FetchDeadline::Whole);
}

/// Runs an operation that would block for ever, and cancels it once `begun` says so. Returns how
/// long the end took.
fn cancelled_within(client: &PeerClient, cancel: &Cancel, begun: impl FnOnce()) -> Duration {
    let client = client.with_cancel(cancel);
    let (report, ended) = channel();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let result = client.fetch_range("a", 0, None);
            report.send((Instant::now(), result)).unwrap();
        });
        begun();
        let thrown = Instant::now();
        cancel.cancel();
        let (end, result) = ended.recv().unwrap();
        assert!(matches!(result, Err(PeerError::Cancelled)), "{result:?}");
        end.saturating_duration_since(thrown)
    })
}

fn patient(builder: PeerClientBuilder) -> PeerClientBuilder {
    let mut timeouts = Timeouts::default();
    timeouts.connect = None;
    timeouts.head = None;
    timeouts.stall = None;
    builder.timeouts(timeouts)
}

/// What the issue asks for is 100 ms; a loaded machine may need longer to run a thread at all.
const SOON: Duration = Duration::from_millis(if cfg!(debug_assertions) { 1000 } else { 100 });

#[test]
fn a_blocked_read_is_cancelled() {
    for acts in [vec![Act::Request], answer(cut("ETag: \"v\"\r\n"))] {
        let script = Script::play(vec![[acts, vec![Act::Report, Act::AwaitEnd]].concat()]);
        let client = patient(builder(&script)).build().unwrap();
        let took = cancelled_within(&client, &Cancel::new(), || script.reported());
        assert!(took < SOON, "{took:?}");
    }
}

#[test]
fn a_blocked_connect_is_cancelled() {
    /// Connects to nobody, for as long as the test runs.
    struct Silent {
        begun: Arc<Barrier>,
        release: Mutex<std::sync::mpsc::Receiver<()>>,
    }
    impl Connect for Silent {
        fn connect(&self, _: SocketAddr, _: Option<Duration>) -> io::Result<Arc<dyn ClientStream>> {
            self.begun.wait();
            let _ = self.release.lock().unwrap().recv();
            Err(io::ErrorKind::TimedOut.into())
        }
    }
    let begun = Arc::new(Barrier::new(2));
    let (release, released) = channel();
    let silent = Silent {
        begun: Arc::clone(&begun),
        release: Mutex::new(released),
    };
    let builder = PeerClient::builder("127.0.0.1:9", "secret").connector(Arc::new(silent));
    let client = patient(builder).build().unwrap();
    let took = cancelled_within(&client, &Cancel::new(), || {
        begun.wait();
    });
    assert!(took < SOON, "{took:?}");
    drop(release);
}

#[test]
fn a_connect_that_nobody_answers_is_cancelled() {
    if !has(&[Capability::SilentListener]) {
        return;
    }
    let silent = Silent::new().unwrap();
    let builder = PeerClient::builder(silent.address().to_string(), "secret");
    let (report, connecting) = channel();
    let progress = Progress::with_callback(Duration::MAX, move |snapshot| {
        if snapshot.state == ProgressState::Connecting {
            // Told again when it has ended, to nobody.
            let _ = report.send(());
        }
    });
    let client = patient(builder).build().unwrap().with_progress(&progress);
    let took = cancelled_within(&client, &Cancel::new(), || connecting.recv().unwrap());
    assert!(took < SOON, "{took:?}");
}

#[test]
fn a_connect_that_nobody_answers_times_out() {
    if !has(&[Capability::SilentListener]) {
        return;
    }
    let silent = Silent::new().unwrap();
    let after = Duration::from_millis(100);
    let set = |connect, whole| {
        let mut timeouts = Timeouts::default();
        (timeouts.connect, timeouts.whole) = (connect, whole);
        timeouts
    };
    for (timeouts, expected) in [
        (set(Some(after), None), FetchDeadline::Connect),
        (set(None, Some(after)), FetchDeadline::Whole),
        (set(Some(after), Some(after * 1000)), FetchDeadline::Connect),
    ] {
        let client = PeerClient::builder(silent.address().to_string(), "secret")
            .timeouts(timeouts)
            .build()
            .unwrap();
        // One that can be cancelled connects on a thread of its own.
        for client in [client.clone(), client.with_cancel(&Cancel::new())] {
            let begun = Instant::now();
            for result in [
                client.fetch_range("a", 0, None).map(|_| ()),
                client
                    .fetch_to_writer("a", 5, Some(5), &mut Vec::new())
                    .map(|_| ()),
                client.content_length("a").map(|_| ()),
            ] {
                assert!(
                    matches!(result, Err(PeerError::TimedOut(deadline)) if deadline == expected),
                    "{expected:?}: {result:?}"
                );
            }
            let took = begun.elapsed();
            assert!((3 * after..40 * after).contains(&took), "{took:?}");
        }
    }
}

#[test]
fn a_pause_is_cancelled_and_what_comes_after_never_begins() {
    let script = Script::play(vec![answer(cut("ETag: \"v\"\r\n"))]);
    let mut retry = RetryPolicy::default();
    retry.pause = Duration::from_secs(3600);
    retry.pause_max = Duration::from_secs(3600);
    retry.patience = Duration::from_secs(36000);
    let client = builder(&script).retry(retry).build().unwrap();
    let (report, pausing) = channel();
    let progress = Progress::with_callback(Duration::MAX, move |snapshot| {
        if snapshot.state == ProgressState::Pausing {
            report.send(()).unwrap();
        }
    });
    let cancel = Cancel::new();
    let watched = client.with_progress(&progress);
    let took = cancelled_within(&watched, &cancel, || pausing.recv().unwrap());
    assert!(took < SOON, "{took:?}");
    assert_eq!(progress.snapshot().state, ProgressState::Failed);
    let result = client.with_cancel(&cancel).content_length("a");
    assert!(matches!(result, Err(PeerError::Cancelled)));
    assert_eq!(script.requests().len(), 1);
}

#[test]
fn a_switch_that_is_not_thrown_changes_nothing() {
    let script = Script::play(vec![[answer(WHOLE), answer(WHOLE)].concat()]);
    let client = client(&script).with_cancel(&Cancel::new());
    for _ in 0..2 {
        assert_eq!(
            client.fetch_range("a", 0, None).unwrap().bytes,
            b"0123456789"
        );
    }
    assert_eq!(script.requests().len(), 2);
}
