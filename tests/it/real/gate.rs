//! A gate on the way from the share to its client: it closes after so many bytes.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

/// Whatever is waited for comes sooner than this, or never.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// Passes connections on, and only so many bytes of what the server says.
///
/// Where a real link stalls for some time, this one does until it is opened: the test decides what
/// happens meanwhile, and no clock does.
pub(super) struct Gate {
    pub(super) address: String,
    state: Arc<State>,
}

struct State {
    counts: Mutex<Counts>,
    changed: Condvar,
}

#[derive(Clone, Copy)]
struct Counts {
    /// Bytes that the server's side has sent through.
    passed: u64,
    /// Bytes at which the gate is closed.
    limit: u64,
    /// Whether somebody stands before the closed gate.
    held: bool,
}

impl Gate {
    /// A gate before this address, closed after `limit` bytes.
    pub(super) fn before(address: &str, limit: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let gate = Self {
            address: listener.local_addr().unwrap().to_string(),
            state: Arc::new(State {
                counts: Mutex::new(Counts {
                    passed: 0,
                    limit,
                    held: false,
                }),
                changed: Condvar::new(),
            }),
        };
        let (address, state) = (address.to_owned(), Arc::clone(&gate.state));
        // Runs until the process ends, like the threads of the connections.
        thread::spawn(move || {
            for client in listener.incoming() {
                let client = client.unwrap();
                match TcpStream::connect(&address) {
                    Ok(server) => pass(client, server, &state),
                    // The server is away: the client finds its connection closed.
                    Err(_) => drop(client),
                }
            }
        });
        gate
    }

    /// Waits until the limit is reached and more is to come.
    pub(super) fn wait_until_held(&self) {
        let counts = self.state.lock();
        let waited = self
            .state
            .changed
            .wait_timeout_while(counts, WAIT_MAX, |now| !now.held);
        assert!(!waited.unwrap().1.timed_out(), "the gate was never reached");
    }

    /// Closes the gate after so many bytes more, or opens it for good.
    pub(super) fn open(&self, more: Option<u64>) {
        let mut counts = self.state.lock();
        counts.limit = more.map_or(u64::MAX, |more| counts.passed + more);
        counts.held = false;
        self.state.changed.notify_all();
    }

    /// Bytes that the server has sent through it.
    pub(super) fn passed(&self) -> u64 {
        self.state.lock().passed
    }
}

impl State {
    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap()
    }

    /// Waits until some of `wanted` bytes may pass, and says how many.
    fn admit(&self, wanted: usize) -> usize {
        let mut counts = self.lock();
        while counts.passed >= counts.limit {
            counts.held = true;
            self.changed.notify_all();
            counts = self.changed.wait(counts).unwrap();
        }
        let left = usize::try_from(counts.limit - counts.passed).unwrap_or(usize::MAX);
        let admitted = wanted.min(left);
        counts.passed += admitted as u64;
        admitted
    }
}

/// Carries bytes both ways until either side is closed.
fn pass(client: TcpStream, server: TcpStream, state: &Arc<State>) {
    let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    thread::spawn(move || carry(from, to, |wanted| wanted));
    let state = Arc::clone(state);
    thread::spawn(move || carry(server, client, |wanted| state.admit(wanted)));
}

fn carry(mut from: TcpStream, mut to: TcpStream, admit: impl Fn(usize) -> usize) {
    let mut block = [0; 16 * 1024];
    // A side that is gone ends it; that is what the test watches the other side for.
    'open: while let Ok(read @ 1..) = from.read(&mut block) {
        let mut rest = &block[..read];
        while !rest.is_empty() {
            let (now, later) = rest.split_at(admit(rest.len()));
            if to.write_all(now).is_err() {
                break 'open;
            }
            rest = later;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}
