//! What the machines cost by themselves: whole exchanges, in memory. `cargo xtask bench core`
#![allow(missing_docs, reason = "criterion's macros make functions")]

use std::{
    hint::black_box,
    time::{Instant, SystemTime},
};

use criterion::{Criterion, criterion_group, criterion_main};
use peer_core::{
    Authorization, Now, Output, ServerConfig, ServerConnection, SourceInfo,
    fetch::{Fetch, FetchOutput, FetchRequest, FetchTimeouts, Want},
};
use peer_proto::{EntityTag, Token, Validators};

const REQUEST: &[u8] = b"GET /track/7c9e6679-7425-40de-944b-e07fc1f90ae7 HTTP/1.1\r\n\
    Host: 192.168.178.23:53871\r\n\
    Authorization: Bearer 0123456789abcdef0123456789abcdef\r\n\
    Accept-Encoding: identity\r\n\
    Range: bytes=137853952-138902527\r\n\r\n";

const ANSWER: &[u8] = b"HTTP/1.1 206 Partial Content\r\n\
    ETag: \"v1\"\r\n\
    Content-Type: audio/flac\r\n\
    Content-Length: 65536\r\n\
    Content-Range: bytes 0-65535/1073741824\r\n\r\n";

fn now() -> Now {
    Now::new(Instant::now(), SystemTime::now())
}

/// Serves one request on a connection that stays open.
fn serve(connection: &mut ServerConnection, now: Now) {
    connection.receive_buffer()[..REQUEST.len()].copy_from_slice(REQUEST);
    connection.handle_received(now, REQUEST.len());
    let info = SourceInfo {
        complete_length: Some(1 << 30),
        content_type: Some("audio/flac"),
        validators: Validators {
            entity_tag: EntityTag::strong("v1").ok(),
            last_modified: None,
        },
    };
    loop {
        match connection.poll_output() {
            Output::Authorize { token } => {
                black_box(token);
                connection.handle_authorized(now, Authorization::Granted);
            }
            Output::Resolve { handle } => {
                black_box(handle);
                connection.handle_source(now, Some(info));
            }
            Output::SendSource { prefix, len, .. } => {
                black_box(prefix);
                connection.handle_sent(now, len.unwrap_or(0));
            }
            Output::Receive => return,
            output => panic!("not what this request leads to: {output:?}"),
        }
    }
}

fn server(c: &mut Criterion) {
    c.bench_function("core: serve a range", |b| {
        let mut connection = ServerConnection::new(ServerConfig::default(), 7, now());
        let now = now();
        b.iter(|| serve(&mut connection, now));
    });
    c.bench_function("core: accept, and serve a range", |b| {
        let now = now();
        b.iter(|| {
            serve(
                &mut ServerConnection::new(ServerConfig::default(), 7, now),
                now,
            )
        });
    });
}

fn fetch(c: &mut Criterion) {
    let token = Token::new("0123456789abcdef0123456789abcdef").expect("this is a token");
    c.bench_function("core: fetch a range", |b| {
        let now = Instant::now();
        b.iter(|| {
            let request = FetchRequest {
                host: "192.168.178.23:53871",
                token: &token,
                handle: "7c9e6679-7425-40de-944b-e07fc1f90ae7",
                want: Want::Content {
                    start: 0,
                    len: Some(65536),
                },
                without_range: false,
                version: None,
            };
            let mut fetch = Fetch::new(&request, FetchTimeouts::default(), now);
            loop {
                match fetch.poll_output() {
                    FetchOutput::Send { bytes } => {
                        let n = black_box(bytes).len();
                        fetch.handle_sent(now, n);
                    }
                    FetchOutput::Receive => {
                        fetch.receive_buffer()[..ANSWER.len()].copy_from_slice(ANSWER);
                        fetch.handle_received(now, ANSWER.len());
                    }
                    FetchOutput::ReceiveContent { max } => fetch.handle_content(now, max),
                    FetchOutput::Done(done) => break black_box(done),
                    output => panic!("not what this answer leads to: {output:?}"),
                }
            }
        });
    });
}

criterion_group!(benches, server, fetch);
criterion_main!(benches);
