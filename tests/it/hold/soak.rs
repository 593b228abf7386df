//! A long mixed run: whatever clients do and the app changes, every byte delivered is the source's,
//! and in the end nothing is left.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use cranpose_services::peer::{PeerClient, PeerServer, TokenGrant};
use peer_tests::raw::RawPeer;

use super::{
    CONTENT_BYTES, Ledger, TOKEN, alone, descriptors, deserted, eventually, measured,
    named_threads, patterned, proc_number, request, resolver, short_deadlines, size,
};

/// Numbers that look random and can be had again.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

#[derive(Default)]
struct Done {
    stop: AtomicBool,
    fetched: AtomicU64,
    failed: AtomicU64,
    hung_up: AtomicU64,
    bytes: AtomicU64,
}

impl Done {
    fn is_over(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }
}

/// What all share: the server, which moves, and what was done.
struct World {
    server: PeerServer,
    base: Mutex<String>,
    done: Done,
}

impl World {
    fn base(&self) -> String {
        self.base
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// Fetches ranges with the library's client. What comes must be right; that nothing comes is to be
/// expected where listeners move and tokens are taken back.
fn fetches(world: &World, seed: u64) {
    let mut numbers = Numbers(seed);
    while !world.done.is_over() {
        let token = if numbers.below(2) == 0 {
            TOKEN
        } else {
            "guest-token"
        };
        let Ok(client) = PeerClient::builder(world.base(), token).build() else {
            continue;
        };
        for _ in 0..numbers.below(20) {
            let start = numbers.below(CONTENT_BYTES as u64);
            let len = 1 + numbers.below(300_000);
            match client.fetch_range("any", start, Some(len)) {
                Ok(result) => {
                    let len = (len as usize).min(CONTENT_BYTES - start as usize);
                    assert!(result.bytes == patterned(start, len), "{start}+{len}");
                    world.done.fetched.fetch_add(1, Ordering::SeqCst);
                    world.done.bytes.fetch_add(len as u64, Ordering::SeqCst);
                }
                Err(_) => {
                    world.done.failed.fetch_add(1, Ordering::SeqCst);
                    break;
                }
            }
        }
    }
}

/// Asks for much, takes some, goes away: what a player does at each seek.
fn seeks(world: &World, seed: u64) {
    let mut numbers = Numbers(seed);
    while !world.done.is_over() {
        let Some(mut peer) = world
            .base()
            .parse()
            .ok()
            .and_then(|at| RawPeer::connect(at).ok())
        else {
            continue;
        };
        let start = numbers.below(CONTENT_BYTES as u64);
        let range = format!("Range: bytes={start}-\r\n");
        if peer.send(&request("any", TOKEN, &range)).is_err() {
            continue;
        }
        let Ok(Some(head)) = peer.read_head() else {
            continue;
        };
        if head.status == 206 {
            let len = numbers.below(200_000).min(CONTENT_BYTES as u64 - start);
            if let Ok((content, _)) = peer.read_length(len) {
                assert!(content == patterned(start, content.len()), "from {start}");
            }
        }
        world.done.hung_up.fetch_add(1, Ordering::SeqCst);
    }
}

/// Takes the guest's token back, gives a new one, moves the listener.
fn meddles(world: &World) {
    let mut turn = 0;
    while !world.done.is_over() {
        thread::sleep(Duration::from_millis(50));
        turn += 1;
        world.server.revoke("guest");
        world
            .server
            .add_token("guest", TokenGrant::new("guest-token").unwrap());
        if turn % 4 == 0 {
            let address = world.server.rebind("127.0.0.1:0").unwrap();
            *world.base.lock().unwrap_or_else(PoisonError::into_inner) = address.to_string();
        }
    }
}

fn round(seconds: u64, ledger: &Arc<Ledger>) -> Done {
    let hook = Arc::clone(ledger);
    let server = PeerServer::builder(TOKEN, resolver(CONTENT_BYTES))
        .deadlines(short_deadlines())
        .on_event(move |event| hook.hear(event))
        .listen("127.0.0.1:0")
        .unwrap()
        .start()
        .unwrap();
    server.add_token("guest", TokenGrant::new("guest-token").unwrap());
    let base = Mutex::new(server.local_addr().to_string());
    let world = World {
        server,
        base,
        done: Done::default(),
    };
    thread::scope(|scope| {
        for seed in 1..=3 {
            let world = &world;
            scope.spawn(move || fetches(world, seed));
            scope.spawn(move || seeks(world, seed * 1_000));
        }
        scope.spawn(|| meddles(&world));
        let until = Instant::now() + Duration::from_secs(seconds);
        while Instant::now() < until {
            thread::sleep(Duration::from_millis(20));
            let stats = world.server.stats();
            assert!(stats.threads <= 48 + 240 + 8, "{stats:?}");
        }
        world.done.stop.store(true, Ordering::SeqCst);
    });
    let World { server, done, .. } = world;
    let stats = server.stats();
    deserted(&server);
    assert_eq!(stats.source_failed, 0, "{stats:?}");
    let shutdown = server.shutdown(Duration::ZERO);
    assert!(shutdown.all_threads_ended);
    // The system counts a thread for a moment longer than it runs.
    eventually("its threads are gone", || named_threads().unwrap_or(0) == 0);
    done
}

#[test]
fn whatever_happens() {
    if !alone("hold::soak::whatever_happens") {
        return;
    }
    let seconds = size("PEER_SOAK_SECONDS", 3);
    // The first round fills what is kept for ever: the allocator's arenas, the panic hook.
    round(1, &Arc::default());
    let before = (named_threads(), descriptors());
    let memory_before = proc_number("status", "VmRSS:");
    let ledger = Arc::new(Ledger::default());
    let done = round(seconds, &ledger);
    let after = (named_threads(), descriptors());
    let memory_after = proc_number("status", "VmRSS:");
    let ends = ledger.ends();
    let read = |counter: &AtomicU64| counter.load(Ordering::SeqCst);
    measured(&format!(
        "soak of {seconds} s: {} fetches and {} bytes exact, {} failed by revocation or move, {} \
         seeks, {} transfers, memory {memory_before:?} -> {memory_after:?} KiB, threads and \
         descriptors {before:?} -> {after:?}",
        read(&done.fetched),
        read(&done.bytes),
        read(&done.failed),
        read(&done.hung_up),
        ends.len(),
    ));
    assert!(read(&done.fetched) > 0 && read(&done.hung_up) > 0);
    assert_eq!(before, after);
    if let (Some(before), Some(after)) = (memory_before, memory_after) {
        // The ledger's rows are the test's own.
        let own = (ends.len() * 64 / 1024) as u64;
        assert!(after < before + own + 32 * 1024, "{before} -> {after} KiB");
    }
}
