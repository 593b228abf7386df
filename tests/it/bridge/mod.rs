//! What is relayed: a peer's source read by many, and a bridge for players that carry no token.

mod remote;

use std::{sync::Arc, time::Duration};

use cranpose_services::peer::{ByteSource, PeerClient, PeerServer, RetryPolicy, SourceResolver};

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
