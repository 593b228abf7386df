//! The facade behind a C interface, as a host app that is not written in Rust would link it.
//!
//! No function takes or returns a pointer; the only unsafe things here are the export attributes.
//! Results are numbers: what was asked for, or a negative code.

use std::sync::{Arc, Mutex, PoisonError};

use cranpose_services::peer::{self, BytesSource, PeerError, PeerServer, SourceResolver};

const TOKEN: &str = "host-token";
const HANDLE: &str = "noise";
/// More than socket buffers hold, so that a client that hangs up leaves the server writing.
const LEN: usize = 16 << 20;

const FAILED: i64 = -1;
const WRONG: i64 = -2;
const UNSUPPORTED: i64 = -3;

static SERVER: Mutex<Option<PeerServer>> = Mutex::new(None);

fn content() -> Vec<u8> {
    (0..LEN).map(|at| (at.wrapping_mul(31) >> 3) as u8).collect()
}

fn code(error: &PeerError) -> i64 {
    match error {
        PeerError::Io(error) if error.kind() == std::io::ErrorKind::Unsupported => UNSUPPORTED,
        _ => FAILED,
    }
}

/// Starts the server on an ephemeral loopback port and returns the port.
#[unsafe(no_mangle)]
pub extern "C" fn peer_host_start() -> i64 {
    let source = Arc::new(BytesSource::new(content()));
    let resolver: SourceResolver =
        Arc::new(move |handle| (handle == HANDLE).then(|| Arc::clone(&source) as _));
    match PeerServer::start("127.0.0.1:0", TOKEN, resolver) {
        Ok(server) => {
            let port = server.port();
            *SERVER.lock().unwrap_or_else(PoisonError::into_inner) = Some(server);
            port.into()
        }
        Err(error) => code(&error),
    }
}

/// Fetches the whole and a range in the middle from the server on `port`, compares every byte, and
/// returns how many there were.
#[unsafe(no_mangle)]
pub extern "C" fn peer_host_fetch(port: u16) -> i64 {
    let base = format!("127.0.0.1:{port}");
    let content = content();
    let (start, len) = (LEN / 3, 100_000);
    let whole = match peer::fetch_range(&base, TOKEN, HANDLE, 0, None) {
        Ok(result) => result.bytes,
        Err(error) => return code(&error),
    };
    let part = match peer::fetch_range(&base, TOKEN, HANDLE, start as u64, Some(len as u64)) {
        Ok(result) => result.bytes,
        Err(error) => return code(&error),
    };
    if whole != content || part != content[start..start + len] {
        return WRONG;
    }
    (whole.len() + part.len()) as i64
}

/// Stops the server. Returns 0, or -1 if none was running.
#[unsafe(no_mangle)]
pub extern "C" fn peer_host_stop() -> i64 {
    match SERVER.lock().unwrap_or_else(PoisonError::into_inner).take() {
        Some(_) => 0,
        None => FAILED,
    }
}
