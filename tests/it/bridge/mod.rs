//! What is relayed: a peer's source read by many, and a bridge for players that carry no token.

mod access;
mod answers;
mod players;
mod remote;

use std::{sync::Arc, time::Duration};

use cranpose_services::peer::{
    BridgeUrl, ByteSource, PeerBridge, PeerClient, PeerServer, RetryPolicy, SourceResolver,
};
use peer_tests::raw::{RawPeer, Response};

fn serve(resolver: SourceResolver) -> PeerServer {
    PeerServer::start("127.0.0.1:0", "secret", resolver).unwrap()
}

/// A peer with one source, whose handle is `a`.
fn serve_one(source: impl ByteSource + 'static) -> PeerServer {
    let source: Arc<dyn ByteSource> = Arc::new(source);
    serve(Arc::new(move |handle| {
        (handle == "a").then(|| Arc::clone(&source))
    }))
}

fn client(base: impl ToString) -> PeerClient {
    let mut retry = RetryPolicy::default();
    retry.pause = Duration::from_millis(1);
    (retry.pause_max, retry.attempts) = (Duration::from_millis(50), 1000);
    let builder = PeerClient::builder(base.to_string(), "secret");
    builder.retry(retry).build().unwrap()
}

/// The request-target in a URL of a bridge.
fn target(url: &BridgeUrl) -> &str {
    let rest = url.as_str().strip_prefix("http://").unwrap();
    &rest[rest.find('/').unwrap()..]
}

/// A request with these lines behind the request-line and `Host`.
fn request(method: &str, target: &str, host: &str, lines: &[&str]) -> Vec<u8> {
    let mut request = format!("{method} {target} HTTP/1.1\r\n");
    if !host.is_empty() {
        request += &format!("Host: {host}\r\n");
    }
    for line in lines {
        request += &format!("{line}\r\n");
    }
    (request + "\r\n").into_bytes()
}

/// Asks a bridge on a connection of its own, as a player does.
fn ask(bridge: &PeerBridge, method: &str, target: &str, lines: &[&str]) -> Response {
    let host = bridge.local_addr().to_string();
    let mut peer = RawPeer::connect(bridge.local_addr()).unwrap();
    peer.send(&request(method, target, &host, lines)).unwrap();
    peer.read_response(method == "HEAD").unwrap().unwrap()
}

/// Bytes in which no stretch repeats another.
fn sample(len: usize) -> Vec<u8> {
    let mut random = Random(7);
    (0..len).map(|_| random.below(256) as u8).collect()
}

/// Xorshift64, from a seed other than 0.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}
