//! Downloads to a file: interrupted, changed, crashed.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, mpsc::channel},
    time::Duration,
};

use cranpose_services::peer::{
    ByteSource, BytesSource, Cancel, OnChange, PeerClient, PeerError, PeerServer, Progress,
    RetryPolicy,
};

use crate::capability::{Capability, has};
use crate::fetch_script::{Act, Script, answer};

/// A directory of its own, removed with everything in it.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("peer-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn target(&self) -> PathBuf {
        self.0.join("a.bin")
    }

    fn part(&self) -> PathBuf {
        self.0.join("a.bin.part")
    }

    fn state(&self) -> PathBuf {
        self.0.join("a.bin.part.state")
    }

    /// What there is, apart from what a lock may leave behind.
    fn names(&self) -> Vec<String> {
        let names = fs::read_dir(&self.0).unwrap();
        let mut names: Vec<_> = names
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| !name.ends_with(".lock"))
            .collect();
        names.sort();
        names
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A client that leaves mending to the next download.
fn client(base: impl ToString) -> PeerClient {
    let builder = PeerClient::builder(base.to_string(), "secret");
    builder.retry(RetryPolicy::NEVER).build().unwrap()
}

fn whole(tag: &str) -> Vec<Act> {
    answer(format!(
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n{tag}\r\n0123456789"
    ))
}

fn cut(tag: &str) -> Vec<Act> {
    answer(format!(
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n{tag}\r\n0123"
    ))
}

fn rest(start: usize) -> Vec<Act> {
    answer(format!(
        "HTTP/1.1 206 Partial Content\r\nContent-Length: {}\r\nContent-Range: bytes {start}-9/10\r\n\
         {TAG}\r\n{}",
        10 - start,
        &"0123456789"[start..]
    ))
}

const TAG: &str = "ETag: \"v\"\r\n";

/// Leaves a download that was cut behind 4 of 10 bytes.
fn interrupt(target: &Path, tag: &str) {
    let script = Script::play(vec![cut(tag)]);
    match client(script.base()).download("a", target) {
        Err(PeerError::Truncated {
            expected: Some(10),
            received: 4,
        }) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_file_appears_when_it_is_complete() {
    let scratch = Scratch::new("complete");
    for len in [0, 1, 5_000_000] {
        let bytes: Vec<u8> = (0..len).map(|at: u32| (at * 7 / 3) as u8).collect();
        let source: Arc<dyn ByteSource> = Arc::new(BytesSource::new(bytes.clone()));
        let server = PeerServer::start(
            "127.0.0.1:0",
            "secret",
            Arc::new(move |_| Some(Arc::clone(&source))),
        )
        .unwrap();
        let progress = Progress::new();
        let client = client(server.local_addr()).with_progress(&progress);
        let done = client.download("a", scratch.target()).unwrap();
        assert_eq!((done.len, done.resumed_from), (u64::from(len), 0));
        assert!(fs::read(scratch.target()).unwrap() == bytes);
        assert_eq!(scratch.names(), ["a.bin"]);
        assert_eq!(progress.snapshot().received, u64::from(len));
    }
}

#[test]
fn an_interrupted_download_goes_on() {
    let scratch = Scratch::new("resume");
    fs::write(scratch.target(), "before").unwrap();
    interrupt(&scratch.target(), TAG);
    assert_eq!(fs::read(scratch.target()).unwrap(), b"before");
    assert_eq!(fs::read(scratch.part()).unwrap(), b"0123");
    assert_eq!(scratch.names(), ["a.bin", "a.bin.part", "a.bin.part.state"]);
    let script = Script::play(vec![rest(4)]);
    let progress = Progress::new();
    let client = client(script.base()).with_progress(&progress);
    let done = client.download("a", scratch.target()).unwrap();
    assert_eq!((done.len, done.resumed_from), (10, 4));
    assert_eq!(fs::read(scratch.target()).unwrap(), b"0123456789");
    assert_eq!(scratch.names(), ["a.bin"]);
    let snapshot = progress.snapshot();
    assert_eq!((snapshot.received, snapshot.expected), (10, Some(10)));
    let request = script.requests().remove(0);
    assert!(request.contains("Range: bytes=4-\r\nIf-Range: \"v\"\r\n"));
}

#[test]
fn a_connection_that_breaks_is_mended_within_a_download() {
    let scratch = Scratch::new("mend");
    let script = Script::play(vec![cut(TAG), rest(4)]);
    let mut retry = RetryPolicy::default();
    retry.pause = Duration::from_millis(1);
    let builder = PeerClient::builder(script.base(), "secret").retry(retry);
    let done = builder
        .build()
        .unwrap()
        .download("a", scratch.target())
        .unwrap();
    assert_eq!((done.len, done.resumed_from), (10, 0));
    assert_eq!(fs::read(scratch.target()).unwrap(), b"0123456789");
}

#[test]
fn a_changed_source_begins_anew_or_fails() {
    let scratch = Scratch::new("changed");
    interrupt(&scratch.target(), TAG);
    let other = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nETag: \"w\"\r\n\r\nnew";
    let script = Script::play(vec![answer(other)]);
    let result = client(script.base()).download_with("a", scratch.target(), OnChange::Fail);
    assert!(matches!(result, Err(PeerError::Changed)));
    assert_eq!(fs::read(scratch.part()).unwrap(), b"0123");
    let script = Script::play(vec![answer(other), answer(other)]);
    let done = client(script.base())
        .download("a", scratch.target())
        .unwrap();
    assert_eq!((done.len, done.resumed_from), (3, 0));
    assert_eq!(fs::read(scratch.target()).unwrap(), b"new");
    assert_eq!(scratch.names(), ["a.bin"]);
}

#[test]
fn without_a_strong_tag_it_begins_anew() {
    for tag in ["", "ETag: W/\"v\"\r\n"] {
        let scratch = Scratch::new("anew");
        interrupt(&scratch.target(), tag);
        let script = Script::play(vec![whole(tag)]);
        let done = client(script.base())
            .download("a", scratch.target())
            .unwrap();
        assert_eq!((done.len, done.resumed_from), (10, 0));
        assert_eq!(fs::read(scratch.target()).unwrap(), b"0123456789");
        assert!(!script.requests()[0].contains("Range"));
    }
}

#[test]
fn what_a_crash_may_leave_does_not_end_up_in_the_file() {
    let scratch = Scratch::new("crash");
    let finish = |acts: Vec<Act>, resumed_from: u64| {
        let script = Script::play(vec![acts]);
        let done = client(script.base())
            .download("a", scratch.target())
            .unwrap();
        assert_eq!((done.len, done.resumed_from), (10, resumed_from));
        assert_eq!(fs::read(scratch.target()).unwrap(), b"0123456789");
        assert_eq!(scratch.names(), ["a.bin"]);
        script.requests();
    };
    // Behind what is held, the part has bytes that never made it, or were never there.
    interrupt(&scratch.target(), TAG);
    fs::write(scratch.part(), b"0123\0\0\0\0\0\0\0\0\0\0\0").unwrap();
    finish(rest(4), 4);
    // The part is shorter than what is held, or gone.
    interrupt(&scratch.target(), TAG);
    fs::write(scratch.part(), b"01").unwrap();
    finish(whole(TAG), 0);
    interrupt(&scratch.target(), TAG);
    fs::remove_file(scratch.part()).unwrap();
    finish(whole(TAG), 0);
    // The state is cut, at any place.
    interrupt(&scratch.target(), TAG);
    let state = fs::read(scratch.state()).unwrap();
    fs::write(scratch.state(), &state[..state.len() / 2]).unwrap();
    finish(whole(TAG), 0);
    // It ended between the last two steps: the file is there, and a state of nothing.
    fs::write(scratch.state(), &state).unwrap();
    finish(whole(TAG), 0);
    // Everything is there but the renaming.
    interrupt(&scratch.target(), TAG);
    let held = String::from_utf8(state).unwrap().replace("\n4\n", "\n10\n");
    fs::write(scratch.state(), held).unwrap();
    fs::write(scratch.part(), b"0123456789").unwrap();
    let end = "HTTP/1.1 416 Any\r\nContent-Range: bytes */10\r\nContent-Length: 0\r\n\r\n";
    finish(answer(end), 10);
}

/// The state told the tag of an answer that broke before its content; the content was that of the
/// next answer, of another version. Had the source changed back, the two would have met.
#[test]
fn a_change_before_the_first_byte_is_noticed() {
    let scratch = Scratch::new("early");
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\nETag: \"v\"\r\n\r\n";
    let other = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nETag: \"w\"\r\n\r\nnew";
    let script = Script::play(vec![answer(head), answer(other), answer(other)]);
    let mut retry = RetryPolicy::default();
    retry.pause = Duration::from_millis(1);
    retry.from_nothing = true;
    let builder = PeerClient::builder(script.base(), "secret").retry(retry);
    let client = builder.build().unwrap();
    let done = client.download("a", scratch.target()).unwrap();
    assert_eq!((done.len, done.resumed_from), (3, 0));
    assert_eq!(fs::read(scratch.target()).unwrap(), b"new");
    assert!(script.requests()[1].contains("If-Range: \"v\"\r\n"));
}

#[test]
fn another_handle_is_another_download() {
    let scratch = Scratch::new("handle");
    interrupt(&scratch.target(), TAG);
    let script = Script::play(vec![whole(TAG)]);
    let done = client(script.base())
        .download("b", scratch.target())
        .unwrap();
    assert_eq!((done.len, done.resumed_from), (10, 0));
    assert!(!script.requests()[0].contains("Range"));
}

#[test]
fn what_is_not_ours_is_left_alone() {
    let scratch = Scratch::new("foreign");
    let client = client("127.0.0.1:9");
    let kind = |target: &Path| match client.download("a", target) {
        Err(PeerError::Io(error)) => error.kind(),
        other => panic!("{other:?}"),
    };
    fs::write(scratch.part(), "mine").unwrap();
    assert_eq!(kind(&scratch.target()), io::ErrorKind::AlreadyExists);
    assert_eq!(fs::read(scratch.part()).unwrap(), b"mine");
    assert_eq!(kind(&scratch.0), io::ErrorKind::IsADirectory);
    let nowhere = scratch.0.join("no").join("where");
    assert_eq!(kind(&nowhere), io::ErrorKind::NotFound);
    assert_eq!(kind(Path::new("/")), io::ErrorKind::InvalidInput);
    assert_eq!(scratch.names(), ["a.bin.part"]);
}

/// What is no plain file would be gone when the finished file takes its name. Tried by a link to it, as
/// that alone would be gone then.
#[test]
fn a_device_is_not_replaced() {
    if !has(&[Capability::FullDevice, Capability::SymbolicLinks]) {
        return;
    }
    let scratch = Scratch::new("device");
    let mut link = Command::new("ln");
    link.args(["-s", "/dev/full"]).arg(scratch.target());
    assert!(link.status().unwrap().success());
    let resolver =
        |_: &str| Some(Arc::new(BytesSource::new(b"new".to_vec())) as Arc<dyn ByteSource>);
    let server = PeerServer::start("127.0.0.1:0", "secret", Arc::new(resolver)).unwrap();
    match client(server.local_addr()).download("a", scratch.target()) {
        Err(PeerError::Io(error)) => assert_eq!(error.kind(), io::ErrorKind::InvalidInput),
        other => panic!("{other:?}"),
    }
    assert_eq!(scratch.names(), ["a.bin"]);
    assert!(fs::symlink_metadata(scratch.target()).unwrap().is_symlink());
}

#[test]
fn an_answer_that_is_none_leaves_nothing() {
    let scratch = Scratch::new("none");
    let script = Script::play(vec![answer(
        "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
    )]);
    let result = client(script.base()).download("a", scratch.target());
    assert!(matches!(result, Err(PeerError::NotFound)));
    assert!(scratch.names().is_empty());
}

#[test]
fn two_downloads_to_one_target_do_not_meet() {
    let scratch = Scratch::new("busy");
    let script = Script::play(vec![[cut(TAG), vec![Act::AwaitEnd]].concat()]);
    let cancel = Cancel::new();
    let (report, received) = channel();
    let progress = Progress::with_callback(Duration::ZERO, move |snapshot| {
        if snapshot.received == 4 {
            let _ = report.send(());
        }
    });
    let first = client(script.base())
        .with_cancel(&cancel)
        .with_progress(&progress);
    std::thread::scope(|scope| {
        let first = scope.spawn(|| first.download("a", scratch.target()));
        received.recv().unwrap();
        match client(script.base()).download("a", scratch.target()) {
            Err(PeerError::Io(error)) => assert_eq!(error.kind(), io::ErrorKind::ResourceBusy),
            other => panic!("{other:?}"),
        }
        cancel.cancel();
        let result = first.join().unwrap();
        assert!(matches!(result, Err(PeerError::Cancelled)), "{result:?}");
    });
    // What it had brought is kept, all the same.
    let script = Script::play(vec![rest(4)]);
    let done = client(script.base())
        .download("a", scratch.target())
        .unwrap();
    assert_eq!(done.resumed_from, 4);
}

/// On some platforms the lock is a file, and a process that was killed leaves it there. It is the
/// system's hold on the file that counts, and that ended with the process.
#[test]
fn a_lock_that_was_left_behind_keeps_nobody_out() {
    let scratch = Scratch::new("stale");
    interrupt(&scratch.target(), TAG);
    fs::write(scratch.0.join("a.bin.part.lock"), "").unwrap();
    let script = Script::play(vec![rest(4)]);
    let done = client(script.base())
        .download("a", scratch.target())
        .unwrap();
    assert_eq!((done.len, done.resumed_from), (10, 4));
    assert_eq!(scratch.names(), ["a.bin"]);
}
