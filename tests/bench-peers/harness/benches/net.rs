//! What a transfer costs over loopback, ours to ours. `cargo xtask bench net`
#![allow(missing_docs, reason = "criterion's macros make functions")]

use std::{io, sync::Arc};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use peer_net::{ByteSource, BytesSource, PeerClient, PeerServer, PoolLimits, SourceResolver};

const HANDLE: &str = "bench";

fn transfers(c: &mut Criterion) {
    let source: Arc<dyn ByteSource> = Arc::new(BytesSource::new(vec![7; 64 << 20]));
    let resolver: SourceResolver = Arc::new(move |_| Some(Arc::clone(&source)));
    let server = PeerServer::start("127.0.0.1:0", "token", resolver).expect("a port is free");
    let base = server.local_addr().to_string();
    let client = PeerClient::builder(&base, "token")
        .build()
        .expect("it is an address");
    let mut limits = PoolLimits::default();
    limits.idle_max = 0;
    let forgetful = PeerClient::builder(&base, "token").pool(limits).build();
    let forgetful = forgetful.expect("it is an address");

    let mut group = c.benchmark_group("net");
    for len in [1 << 10, 64 << 10, 1 << 20, 64 << 20] {
        group.throughput(Throughput::Bytes(len));
        group.bench_function(format!("{} KiB", len >> 10), |b| {
            b.iter(|| client.fetch_to_writer(HANDLE, 0, Some(len), &mut io::sink()));
        });
    }
    group.throughput(Throughput::Elements(1));
    group.bench_function("a connection each", |b| {
        b.iter(|| forgetful.fetch_to_writer(HANDLE, 0, Some(1 << 10), &mut io::sink()));
    });
    group.finish();
}

criterion_group!(benches, transfers);
criterion_main!(benches);
