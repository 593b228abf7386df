//! Faults of processes and links, as an operating system makes them: stopped, killed, taken down.

use std::fs;
use std::io::{self, Write};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use cranpose_services::peer::{PeerClient, Progress, Timeouts};

use super::harness::{Scratch, Share, assert_same, finish, noise, peer, program, succeed};
use crate::capability::{Capability, has};

/// More than all buffers between two processes hold, so that most of it is still to be sent when
/// the first of it has arrived.
const LEN: usize = 40_000_003;
/// Bytes received before something happens.
const FIRST: usize = 1_000_000;
/// How long a process stands still, and a link is down.
const STOPPED: Duration = Duration::from_secs(5);
const DOWN: Duration = Duration::from_secs(3);
/// Whatever is waited for comes sooner than this, or never.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// Takes everything, and does something once when it has the first of it.
struct Trip<F> {
    bytes: Vec<u8>,
    then: Option<F>,
}

impl<F: FnOnce()> Trip<F> {
    fn new(then: F) -> Self {
        Self {
            bytes: Vec::new(),
            then: Some(then),
        }
    }
}

impl<F: FnOnce()> Write for Trip<F> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(buf);
        if self.bytes.len() >= FIRST {
            if let Some(then) = self.then.take() {
                then();
            }
        }
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn signal(process: u32, name: &str) {
    // Built into every shell, where the program of this name need not be installed.
    let line = format!("kill -{name} {process}");
    succeed(Command::new("sh").args(["-c", &line]));
}

/// A process that stands still until this is over: continued in any case, so that it can end.
struct Stopped(u32);

impl Stopped {
    fn new(process: u32) -> Self {
        signal(process, "STOP");
        Self(process)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        signal(self.0, "CONT");
    }
}

/// Fetches from a share that is stopped in the middle and continued; returns the retries made.
fn fetch_from_stopped(timeouts: Timeouts) -> Option<u32> {
    let scratch = Scratch::new();
    let content = noise(9, LEN);
    let share = Share::of([scratch.write("large.bin", &content)])?;
    let progress = Progress::new();
    let client = PeerClient::builder(&share.address, &share.token)
        .timeouts(timeouts)
        .build()
        .unwrap()
        .with_progress(&progress);
    let mut stop = None;
    let mut trip = Trip::new(|| {
        let stopped = Stopped::new(share.id());
        stop = Some(thread::spawn(move || {
            thread::sleep(STOPPED);
            drop(stopped);
        }));
    });
    let begun = Instant::now();
    client
        .fetch_to_writer("large.bin", 0, None, &mut trip)
        .unwrap();
    assert_same(&trip.bytes, &content);
    // Else all of it was there before the process was stopped, and nothing is shown.
    assert!(begun.elapsed() >= STOPPED, "{:?}", begun.elapsed());
    stop.unwrap().join().unwrap();
    Some(progress.snapshot().retries)
}

#[test]
fn a_server_that_is_stopped_and_continued_is_waited_for() {
    if let Some(retries) = fetch_from_stopped(Timeouts::default()) {
        assert_eq!(retries, 0);
    }
}

#[test]
fn a_server_that_is_stopped_for_longer_than_a_stall_may_last_is_asked_again() {
    let mut timeouts = Timeouts::default();
    timeouts.stall = Some(Duration::from_secs(1));
    timeouts.head = Some(Duration::from_secs(1));
    if let Some(retries) = fetch_from_stopped(timeouts) {
        assert!(retries > 0, "it was waited for");
    }
}

#[test]
fn a_server_that_is_killed_and_started_again_is_found_again() {
    let scratch = Scratch::new();
    let content = noise(9, LEN);
    let file = scratch.write("large.bin", &content);
    let token = scratch.join("token").display().to_string();
    let share = |port: &str| {
        let options = [
            "--bind",
            "127.0.0.1",
            "--port",
            port,
            "--token-file",
            &token,
        ];
        Share::with(options, [&file])
    };
    let Some(first) = share("0") else { return };
    let client = PeerClient::builder(&first.address, &first.token).build();
    let port = first.address.rsplit(':').next().unwrap().to_owned();
    let mut second = None;
    let mut trip = Trip::new(|| {
        drop(first);
        second = share(&port);
    });
    let progress = Progress::new();
    client
        .unwrap()
        .with_progress(&progress)
        .fetch_to_writer("large.bin", 0, None, &mut trip)
        .unwrap();
    assert_same(&trip.bytes, &content);
    assert!(progress.snapshot().retries > 0, "it was not missed");
}

/// Two network namespaces with a link of 20 Mbit/s between them, removed in the end.
struct Link {
    ends: [String; 2],
}

impl Link {
    /// `None`, loudly, where namespaces cannot be made.
    fn new() -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        program("ip")?;
        program("tc")?;
        if !has(&[Capability::NetworkNamespaces]) {
            return None;
        }
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = |end| format!("peer-{}-{number}{end}", std::process::id());
        let link = Self {
            ends: [name('a'), name('b')],
        };
        let [a, b] = &link.ends;
        for end in &link.ends {
            ip(&["netns", "add", end]);
        }
        ip(&[
            "-n", a, "link", "add", "wire0", "type", "veth", "peer", "name", "wire0", "netns", b,
        ]);
        for (end, address) in [(a, "10.73.0.1/24"), (b, "10.73.0.2/24")] {
            ip(&["-n", end, "addr", "add", address, "dev", "wire0"]);
            ip(&["-n", end, "link", "set", "wire0", "up"]);
            let rate = "qdisc add dev wire0 root tbf rate 20mbit burst 64kbit latency 100ms";
            let mut tc = Command::new("tc");
            succeed(tc.args(["-n", end]).args(rate.split(' ')));
        }
        Some(link)
    }

    /// A command that runs at one of the ends.
    fn at(&self, end: usize, command: &Command) -> Command {
        let mut inside = Command::new("ip");
        inside.args(["netns", "exec", &self.ends[end]]);
        inside.arg(command.get_program()).args(command.get_args());
        inside
    }

    fn set(&self, state: &str) {
        ip(&["-n", &self.ends[0], "link", "set", "wire0", state]);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        for end in &self.ends {
            // Where it was never made, that is said, and nothing else happens.
            let _ = Command::new("ip").args(["netns", "del", end]).output();
        }
    }
}

fn ip(arguments: &[&str]) {
    succeed(Command::new("ip").args(arguments));
}

#[test]
fn a_link_that_goes_down_for_a_while_costs_nothing_but_time() {
    // Four seconds of such a link.
    const LEN: usize = 10_000_003;
    let scratch = Scratch::new();
    let content = noise(10, LEN);
    let file = scratch.write("large.bin", &content);
    let Some(share) = peer(["share", "--bind", "10.73.0.1"]) else {
        return;
    };
    let Some(link) = Link::new() else { return };
    let share = Share::run(&mut link.at(0, &share), [&file]);
    let get = peer(["get", &share.address, &share.token, "large.bin", "-o"]).unwrap();
    let mut get = link.at(1, &get);
    let (copy, part) = (scratch.join("copy"), scratch.join("copy.part"));
    let begun = Instant::now();
    let mut got = get.arg(&copy).stderr(Stdio::piped()).spawn().unwrap();
    let arrived = || fs::metadata(&part).map_or(0, |part| part.len());
    while arrived() < FIRST as u64 {
        let ended = got.try_wait().unwrap();
        assert!(ended.is_none(), "it ended too early: {ended:?}");
        assert!(begun.elapsed() < WAIT_MAX, "nothing arrives");
        thread::sleep(Duration::from_millis(10));
    }
    link.set("down");
    let before = arrived();
    thread::sleep(DOWN);
    assert!(got.try_wait().unwrap().is_none() && before < LEN as u64);
    link.set("up");
    let ran = finish(got);
    assert!(ran.status.success(), "{}", ran.stderr);
    assert_same(&fs::read(&copy).unwrap(), &content);
    let took = begun.elapsed();
    // What the link lets through in less time, it did not carry all of.
    let least = Duration::from_secs_f64(LEN as f64 * 8.0 / 20e6 * 0.9) + DOWN;
    assert!(took >= least, "{took:?}: faster than the link is");
}

/// What a shell does with a file system of its own, which ends with it: the first download finds no
/// room, leaves the file that was there, and keeps what it got; the second goes on with it.
const FILL: &str = r#"
set -e
folder=$1 whole=$2
shift 2
mount -t tmpfs -o size=12m tmpfs "$folder"
cd "$folder"
echo before > copy
if "$@"; then exit 10; fi
test "$(cat copy)" = before
mount -o remount,size=64m "$folder"
"$@"
cmp copy "$whole"
test "$(ls)" = copy
"#;

#[test]
fn a_download_that_fills_the_disk_goes_on_when_there_is_room() {
    if !has(&[Capability::OwnMounts]) {
        return;
    }
    let scratch = Scratch::new();
    let file = scratch.write("large.bin", &noise(11, LEN));
    let folder = scratch.join("full");
    fs::create_dir(&folder).unwrap();
    let Some(share) = Share::of([&file]) else {
        return;
    };
    let get = peer([
        "get",
        &share.address,
        &share.token,
        "large.bin",
        "-o",
        "copy",
    ])
    .unwrap();
    let mut shell = Command::new("unshare");
    shell.args(["--mount", "sh", "-c", FILL, "sh"]);
    shell.args([&folder, &file]);
    shell.arg(get.get_program()).args(get.get_args());
    let ran = succeed(&mut shell);
    assert!(ran.stderr.contains("os error 28"), "{}", ran.stderr);
    let there = ran.stderr.contains("bytes were there already");
    assert!(there, "{}", ran.stderr);
}
