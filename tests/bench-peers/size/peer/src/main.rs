//! Serves a range, and fetches it.

use std::sync::Arc;

use cranpose_services::peer::{ByteSource, BytesSource, PeerServer, SourceResolver, fetch_range};

fn main() {
    let resolver: SourceResolver = Arc::new(|handle: &str| {
        (handle == "a").then(|| Arc::new(BytesSource::new(vec![7; 100])) as Arc<dyn ByteSource>)
    });
    let server = PeerServer::start("127.0.0.1:0", "t", resolver).expect("a port is free");
    let base = server.local_addr().to_string();
    let fetched = fetch_range(&base, "t", "a", 1, Some(10)).expect("it is there");
    println!("{}", fetched.bytes.len());
}
