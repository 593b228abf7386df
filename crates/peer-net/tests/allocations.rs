//! What a request allocates: its handle, and nothing else.

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

use peer_net::{ByteSource, PeerServer, SourceResolver, stream::Stream};

const LENGTH: u64 = 1 << 20;

struct Zeros;

impl ByteSource for Zeros {
    fn len(&self) -> Option<u64> {
        Some(LENGTH)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let left = LENGTH.saturating_sub(offset);
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
    let source: Arc<dyn ByteSource> = Arc::new(Zeros);
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
