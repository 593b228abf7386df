//! What connections cost in memory, against what `docs/SECURITY.md` says they cost at most.

use std::{
    io::{BufRead, BufReader, Write},
    process::Stdio,
    time::Duration,
};

use cranpose_services::peer::{Limits, PeerServer, ServerConfig};
use peer_tests::raw::RawPeer;

use crate::capability::{Capability, has, this_program};

use super::{
    ALONE, CONTENT_BYTES, PATIENCE, TOKEN, eventually, measured, patterned, proc_number, request,
    resolver,
};

const CONNECTIONS: usize = 256;

/// Of an idle connection, resident: its buffers (19 KiB at most), and the pages of its thread's stack
/// that were touched. The bound is for a build without optimization.
const IDLE_KIB: u64 = 64;

/// A block, while content is sent.
const BLOCK_KIB: u64 = 256;

/// The server has a process of its own, whose memory is its own.
#[test]
fn of_idle_connections_and_of_transfers() {
    let name = "hold::memory::of_idle_connections_and_of_transfers";
    if std::env::var_os(ALONE).is_some() {
        return serve_and_tell();
    }
    // What an emulator has in memory is not what the program has.
    if !has(&[
        Capability::OwnPrograms,
        Capability::OwnNumbers,
        Capability::NotEmulated,
    ]) {
        return;
    }
    let mut own = this_program();
    own.args(["--exact", name, "--nocapture", "--test-threads=1"]);
    own.env(ALONE, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = own.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut hear = |word: &str| -> String {
        let said = lines.find_map(|line| Some(line.unwrap().split_once(word)?.1.trim().to_owned()));
        said.unwrap_or_else(|| panic!("no {word}"))
    };
    let address = hear("ADDRESS").parse().unwrap();
    let mut resident = |busy: usize| -> u64 {
        writeln!(input, "{busy}").unwrap();
        hear("KIB").parse().unwrap()
    };
    let before = resident(0);
    // Each is served a block first, so that nothing of an idle connection is still to come.
    let part = "Range: bytes=0-299999\r\n";
    let mut peers: Vec<RawPeer> = (0..CONNECTIONS)
        .map(|_| {
            let mut peer = RawPeer::connect(address).unwrap();
            peer.send(&request("any", TOKEN, part)).unwrap();
            let answer = peer.read_response(false).unwrap().unwrap();
            assert!(answer.content == patterned(0, 300_000));
            peer
        })
        .collect();
    let idle = resident(0);
    for peer in &mut peers {
        peer.send(&request("any", TOKEN, "")).unwrap();
    }
    let busy = resident(CONNECTIONS);
    drop(peers);
    let after = resident(0);
    let each = |kib: u64| kib.saturating_sub(before) as f64 / CONNECTIONS as f64;
    measured(&format!(
        "resident memory of {CONNECTIONS} connections: {before} KiB before, {idle} KiB idle ({:.1} KiB \
         each), {busy} KiB while all send ({:.1} KiB each), {after} KiB after",
        each(idle),
        each(busy),
    ));
    let connections = CONNECTIONS as u64;
    // Eight blocks are kept.
    assert!(
        idle <= before + connections * IDLE_KIB + 8 * BLOCK_KIB,
        "{idle} KiB"
    );
    let most = before + connections * (IDLE_KIB + BLOCK_KIB) + 8 * BLOCK_KIB;
    assert!(busy <= most, "{busy} KiB");
    drop(input);
    assert!(child.wait().unwrap().success());
}

/// Says how much memory is resident, for each line of its input: once as many transfers run as it
/// says, and all other connections are idle.
fn serve_and_tell() {
    let server = PeerServer::builder(TOKEN, resolver(CONTENT_BYTES))
        .deadlines(ServerConfig {
            idle_timeout: 10 * PATIENCE,
            stall_timeout: 10 * PATIENCE,
            ..ServerConfig::default()
        })
        .limits(Limits {
            paired: CONNECTIONS,
            paired_per_address: CONNECTIONS,
            ..Limits::default()
        })
        .listen("127.0.0.1:0")
        .unwrap()
        .start()
        .unwrap();
    println!("\nADDRESS {}", server.local_addr());
    for line in std::io::stdin().lines() {
        let busy: usize = line.unwrap().parse().unwrap();
        eventually("all are as they should be", || {
            let stats = server.stats();
            stats.busy == busy && stats.transfers_running == busy as u64 && stats.strangers == 0
        });
        let mut sent = 0;
        // Until they have filled what the network takes.
        eventually("nothing moves", || {
            std::thread::sleep(Duration::from_millis(50));
            sent == std::mem::replace(&mut sent, server.stats().content_bytes)
        });
        println!("KIB {}", proc_number("status", "VmRSS:").unwrap());
    }
    assert!(server.shutdown(Duration::ZERO).all_threads_ended);
}
