//! What a request allocates: its handle, and nothing else. And what a remote source holds: no more than
//! it was told to.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io,
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use peer_net::{
    ByteSource, PeerClient, PeerServer, RemoteSource, RemoteSourceConfig, SourceResolver,
    stream::Stream,
};

const LENGTH: u64 = 1 << 20;

/// A source of so many zeros.
struct Zeros(u64);

impl ByteSource for Zeros {
    fn len(&self) -> Option<u64> {
        Some(self.0)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let left = self.0.saturating_sub(offset);
        let n = buf.len().min(usize::try_from(left).unwrap());
        buf[..n].fill(0);
        Ok(n)
    }
}

/// A peer on the same thread, where allocations are counted: it sends the request so many times.
struct Peer {
    request: Vec<u8>,
    left: AtomicU64,
    received: AtomicU64,
}

impl Stream for Peer {
    fn read(&self, buf: &mut [u8]) -> io::Result<usize> {
        if self.left.load(Ordering::Relaxed) == 0 {
            return Ok(0);
        }
        self.left.fetch_sub(1, Ordering::Relaxed);
        buf[..self.request.len()].copy_from_slice(&self.request);
        Ok(self.request.len())
    }

    fn write(&self, buf: &[u8]) -> io::Result<usize> {
        self.received.fetch_add(buf.len() as u64, Ordering::Relaxed);
        Ok(buf.len())
    }

    fn set_read_timeout(&self, _: Option<Duration>) -> io::Result<()> {
        Ok(())
    }

    fn set_write_timeout(&self, _: Option<Duration>) -> io::Result<()> {
        Ok(())
    }

    fn shutdown_write(&self) -> io::Result<()> {
        Ok(())
    }

    fn hang_up(&self) {}
}

/// Allocations of one connection with so many requests for a range.
fn allocations(server: &PeerServer, range: u64, requests: u64) -> u64 {
    let request = format!(
        "GET /track/zeros HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer t\r\n\
         Range: bytes=7-{}\r\n\r\n",
        range + 6,
    );
    let peer = Arc::new(Peer {
        request: request.into_bytes(),
        left: AtomicU64::new(requests),
        received: AtomicU64::new(0),
    });
    let stream = Arc::clone(&peer);
    let counted = allocation_counter::measure(|| {
        server.serve_stream(stream, Ipv4Addr::LOCALHOST.into());
    });
    let received = peer.received.load(Ordering::Relaxed);
    assert!(received > requests * range, "{received} bytes of answers");
    counted.count_total
}

#[test]
fn a_request_allocates_its_handle_alone() {
    let source: Arc<dyn ByteSource> = Arc::new(Zeros(LENGTH));
    let resolver: SourceResolver = Arc::new(move |_| Some(Arc::clone(&source)));
    let server = PeerServer::builder("t", resolver).start().unwrap();
    // One that fits into one write, and one that takes a large block.
    for range in [1000, 500_000] {
        // What the server and the thread allocate once.
        allocations(&server, range, 10);
        let (few, many) = (
            allocations(&server, range, 10),
            allocations(&server, range, 110),
        );
        assert_eq!(
            many - few,
            100,
            "allocations of 100 requests for {range} bytes"
        );
    }
}

#[test]
fn a_remote_source_holds_its_blocks_and_no_more() {
    const LEN: u64 = 40 << 20;
    let source: Arc<dyn ByteSource> = Arc::new(Zeros(LEN));
    let resolver: SourceResolver = Arc::new(move |_| Some(Arc::clone(&source)));
    let server = PeerServer::start("127.0.0.1:0", "t", resolver).unwrap();
    let client = PeerClient::builder(server.local_addr().to_string(), "t");
    let client = client.build().unwrap();
    let mut config = RemoteSourceConfig::default();
    config.read_ahead.blocks = 16;
    config.read_ahead.requests = 4;
    let bound = (16 + 4) * config.read_ahead.block_bytes as u64;
    let mut buf = vec![1; 256 * 1024];
    // Threads of the server are not counted; whoever reads does all the work of the source.
    let counted = allocation_counter::measure(|| {
        let source = RemoteSource::open_with(&client, "a", config).unwrap();
        let mut read = |offset| {
            let n = source.read_at(offset, &mut buf).unwrap();
            assert!(buf[..n].iter().all(|byte| *byte == 0));
            n as u64
        };
        let mut offset = 0;
        while offset < LEN {
            offset += read(offset);
        }
        // And to and fro, so that every request that may be open is.
        for step in 0..200 {
            read(step * 7_340_033 % LEN);
        }
    });
    // Heads, buffers of connections and the policy's own numbers.
    let beside = 256 * 1024;
    assert!(
        counted.bytes_max <= bound + beside,
        "{} bytes at once, {bound} in blocks",
        counted.bytes_max
    );
    assert!(counted.bytes_max > bound / 2, "nothing was measured");
}
