//! Descriptors and threads run out: the server waits without spinning, says so once, and goes on.

use std::{
    fs::File,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpStream},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use cranpose_services::peer::{Limits, PeerServer, ServerConfig};
use peer_tests::raw::RawPeer;

use super::{
    ALONE, Log, PATIENCE, ProcessorTime, TOKEN, alone_with, deserted, eventually, fetch_exact, get,
    limited, measured, request, resolver, server_threads, short_deadlines, skip,
};
use crate::capability::{Capability, has, this_program};

fn server(deadlines: ServerConfig) -> PeerServer {
    PeerServer::builder(TOKEN, resolver(1 << 20))
        .deadlines(deadlines)
        .listen("127.0.0.1:0")
        .unwrap()
        .start()
        .unwrap()
}

#[test]
fn descriptors_taken_by_the_app() {
    let name = "hold::exhaustion::descriptors_taken_by_the_app";
    if !alone_with(name, |own| limited(own, "ulimit -n 64")) {
        return;
    }
    let log = Log::install();
    let server = server(short_deadlines());
    let address = server.local_addr();
    fetch_exact(address, 0, 1_000).unwrap();
    deserted(&server);
    let mut time = ProcessorTime::open();
    let mut files = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        files.push(file);
        assert!(files.len() < 1_000, "there is no limit");
    }
    // One for each client, and none for the server beyond those that Linux sets aside for each
    // thread at `accept`. One of the clients is left waiting.
    let mut waiting = Vec::new();
    eventually("the server notices", || {
        files.pop();
        if let Ok(mut peer) = RawPeer::connect(address) {
            let range = "Range: bytes=0-99\r\n";
            peer.send(&request("any", TOKEN, range)).unwrap();
            waiting.push(peer);
        }
        server.stats().accept_failed > 0 && server.stats().accepted <= waiting.len() as u64
    });
    let load = time.as_mut().map(ProcessorTime::load);
    measured(&format!(
        "descriptors exhausted by the app: load {load:?} of one processor over 2 s"
    ));
    assert!(load.is_none_or(|load| load < 0.05), "{load:?}");
    assert_eq!(log.count(log::Level::Warn), 1, "{:?}", log.lines());
    assert!(server.status().iter().all(|listener| listener.listening));
    drop(files);
    let start = Instant::now();
    for peer in &mut waiting {
        let answer = peer.read_response(false).unwrap();
        // On a machine so busy that its request came late, it may have had to give way.
        assert!(answer.is_some() || server.stats().evicted > 0);
        if let Some(answer) = answer {
            assert_eq!((answer.status(), answer.content.len()), (206, 100));
        }
    }
    measured(&format!(
        "served {:?} after descriptors were free",
        start.elapsed()
    ));
    for n in 0..20 {
        fetch_exact(address, n, 10_000).unwrap();
    }
    drop(waiting);
    deserted(&server);
    assert_eq!(log.count(log::Level::Warn), 1, "{:?}", log.lines());
}

/// A deadline that no test waits for: who is served before it was not kept out by strangers.
fn patient() -> ServerConfig {
    ServerConfig {
        head_timeout: 2 * PATIENCE,
        ..short_deadlines()
    }
}

/// The server has a process of its own here, and all of its descriptors are its own.
#[test]
fn descriptors_taken_by_strangers() {
    let name = "hold::exhaustion::descriptors_taken_by_strangers";
    if std::env::var_os(ALONE).is_some() {
        return serve_and_tell();
    }
    let mut own = this_program();
    own.args(["--exact", name, "--nocapture", "--test-threads=1"]);
    let Some(mut command) = limited(&own, "ulimit -n 64") else {
        return;
    };
    command.env(ALONE, "1").stdin(Stdio::piped());
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut hear = |word: &str| -> String {
        let line = lines.find_map(|line| {
            let line = line.unwrap();
            // The harness may have begun the line.
            line.split_once(word)
                .map(|(_, rest)| rest.trim().to_owned())
        });
        line.unwrap_or_else(|| panic!("no {word}"))
    };
    let address: SocketAddr = hear("ADDRESS").parse().unwrap();
    let strangers: Vec<TcpStream> = (0..120)
        .map(|_| TcpStream::connect(address).unwrap())
        .collect();
    let start = Instant::now();
    for n in 0..20 {
        fetch_exact(address, n, 10_000).unwrap_or_else(|why| panic!("fetch {n}: {why}"));
    }
    let took = start.elapsed();
    writeln!(input).unwrap();
    let said = hear("SAID");
    measured(&format!(
        "descriptors exhausted by strangers: 20 of 20 fetches took {took:?}; {said}"
    ));
    drop(strangers);
    fetch_exact(address, 5, 10_000).unwrap();
    drop(input);
    assert!(child.wait().unwrap().success());
}

/// Serves until its input ends, and says what happened for each line of it.
fn serve_and_tell() {
    let log = Log::install();
    let server = PeerServer::builder(TOKEN, resolver(1 << 20))
        .deadlines(patient())
        .limits(Limits {
            strangers: 100,
            strangers_per_address: 100,
            ..Limits::default()
        })
        .listen("127.0.0.1:0")
        .unwrap()
        .start()
        .unwrap();
    println!("\nADDRESS {}", server.local_addr());
    for _ in std::io::stdin().lines() {
        let stats = server.stats();
        assert!(stats.accept_failed > 0 && stats.evicted > 0, "{stats:?}");
        assert!(stats.strangers > 0, "they were let go: {stats:?}");
        assert_eq!(log.count(log::Level::Warn), 1, "{:?}", log.lines());
        println!(
            "SAID accept failed {}, evicted {}, strangers {}",
            stats.accept_failed, stats.evicted, stats.strangers
        );
    }
    assert!(server.shutdown(Duration::ZERO).all_threads_ended);
}

/// A user of one's own, so that the limit counts this process alone.
const PYTHON: &str = r"
import os, resource, sys
resource.setrlimit(resource.RLIMIT_NPROC, (12, 12))
own = 20000 + os.getpid() % 40000
os.setgroups([]); os.setgid(own); os.setuid(own)
try: os.execvp(sys.argv[1], sys.argv[1:])
except OSError: sys.exit(77)
";

#[test]
fn threads() {
    let name = "hold::exhaustion::threads";
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|own| is_owned_by_root(&own));
    if std::env::var_os(ALONE).is_none() && !is_root {
        return skip("limiting threads for one process takes root, and Linux");
    }
    // An emulator has threads of its own, and its own words for none to be had.
    if !has(&[Capability::NotEmulated]) {
        return;
    }
    let ran = alone_with(name, |own| {
        let mut python = Command::new("python3");
        python
            .args(["-c", PYTHON])
            .arg(own.get_program())
            .args(own.get_args());
        let reaches = Command::new("python3")
            .args(["-c", PYTHON])
            .arg(own.get_program())
            .arg("--list")
            .output();
        match reaches {
            Ok(output) if output.status.success() => Some(python),
            other => {
                skip(&format!(
                    "no process of another user: {:?}",
                    other.map(|o| o.status)
                ));
                None
            }
        }
    });
    if !ran {
        return;
    }
    let server = server(patient());
    let address = server.local_addr();
    let mut strangers = Vec::new();
    for _ in 0..40 {
        let mut stranger = TcpStream::connect(address).unwrap();
        let _ = stranger.write_all(b"GET");
        strangers.push(stranger);
    }
    eventually("threads run out", || {
        let stats = server.stats();
        stats.shed + stats.evicted > 0
    });
    assert!(server_threads(&server) < 12);
    let start = Instant::now();
    eventually("a peer with the token is served", || {
        fetch_exact(address, 0, 1_000).is_ok()
    });
    measured(&format!(
        "threads exhausted by strangers: served after {:?}, shed {}, evicted {}",
        start.elapsed(),
        server.stats().shed,
        server.stats().evicted
    ));
    assert!(server.stats().evicted > 0, "nobody gave way");
    drop(strangers);
    deserted(&server);
    for n in 0..20 {
        let answer = get(address, TOKEN, "any", &format!("Range: bytes={n}-{n}\r\n")).unwrap();
        assert_eq!(answer.status(), 206);
    }
    assert!(server.shutdown(Duration::ZERO).all_threads_ended);
}

#[cfg(unix)]
fn is_owned_by_root(metadata: &std::fs::Metadata) -> bool {
    std::os::unix::fs::MetadataExt::uid(metadata) == 0
}

#[cfg(not(unix))]
fn is_owned_by_root(_: &std::fs::Metadata) -> bool {
    false
}
