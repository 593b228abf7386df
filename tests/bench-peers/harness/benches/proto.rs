//! What parsing and planning cost. `cargo xtask bench proto`
#![allow(missing_docs, reason = "criterion's macros make functions")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use peer_core::plan::select;
use peer_proto::{ContentRange, HttpDate, RequestHead, ResponseHead, range::RangeSet};

const REQUEST: &[u8] = b"GET /track/7c9e6679-7425-40de-944b-e07fc1f90ae7 HTTP/1.1\r\n\
    Host: 192.168.178.23:53871\r\n\
    Authorization: Bearer 0123456789abcdef0123456789abcdef\r\n\
    Accept-Encoding: identity\r\n\
    Range: bytes=137853952-138902527\r\n\r\n";

const RESPONSE: &[u8] = b"HTTP/1.1 206 Partial Content\r\n\
    Date: Sun, 22 Nov 2026 12:00:00 GMT\r\n\
    Cache-Control: private, no-transform\r\n\
    ETag: \"1a2b-40000000-18a3c5d7e9f01234\"\r\n\
    Accept-Ranges: bytes\r\n\
    Content-Type: audio/flac\r\n\
    Content-Length: 1048576\r\n\
    Content-Range: bytes 137853952-138902527/1073741824\r\n\r\n";

fn heads(c: &mut Criterion) {
    let mut group = c.benchmark_group("proto");
    group.bench_function("httparse alone", |b| {
        b.iter(|| {
            let mut fields = [httparse::EMPTY_HEADER; 12];
            let mut request = httparse::Request::new(&mut fields);
            let parsed = request.parse(black_box(REQUEST));
            black_box(parsed).is_ok()
        });
    });
    group.bench_function("request head", |b| {
        b.iter(|| black_box(RequestHead::parse(black_box(REQUEST))).is_ok());
    });
    group.bench_function("response head", |b| {
        b.iter(|| black_box(ResponseHead::parse(black_box(RESPONSE))).is_ok());
    });
    group.bench_function("content-range", |b| {
        let value = b"bytes 137853952-138902527/1073741824";
        b.iter(|| black_box(ContentRange::parse(black_box(value))).is_ok());
    });
    group.bench_function("date", |b| {
        let value = b"Sun, 22 Nov 2026 12:00:00 GMT";
        b.iter(|| black_box(HttpDate::parse(black_box(value))).is_some());
    });
    group.finish();
}

fn ranges(c: &mut Criterion) {
    let mut group = c.benchmark_group("plan");
    for (name, value) in [
        ("one range", &b"bytes=137853952-138902527"[..]),
        ("a suffix", b"bytes=-65536"),
        (
            "eight ranges",
            b"bytes=0-9,20-29,40-49,60-69,80-89,100-109,120-129,140-149",
        ),
    ] {
        group.bench_function(name, |b| {
            b.iter(|| {
                let set = RangeSet::parse(black_box(value)).expect("this is a range set");
                black_box(select(&set, black_box(1 << 30)));
            });
        });
    }
    group.finish();
}

criterion_group!(benches, heads, ranges);
criterion_main!(benches);
