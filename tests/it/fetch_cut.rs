//! Exchanges in memory, cut at every byte in either direction, and split at every byte.

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use cranpose_services::peer::{PeerClient, PeerError, RetryPolicy};
use peer_net::{
    client_connect::{ClientStream, Connect},
    stream::Stream,
};

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Fin,
    Rst,
}

/// What a peer in memory does on one connection: takes so much of the requests, gives these bytes
/// in pieces of this size, and ends.
#[derive(Clone, Debug)]
struct Plan {
    takes: usize,
    gives: Vec<u8>,
    piece: usize,
    end: End,
}

impl Plan {
    fn new(gives: impl AsRef<[u8]>) -> Self {
        Self {
            takes: usize::MAX,
            gives: gives.as_ref().to_vec(),
            piece: usize::MAX,
            end: End::Fin,
        }
    }
}

#[derive(Debug)]
struct Memory(Mutex<Plan>);

impl Stream for Memory {
    fn read(&self, buf: &mut [u8]) -> io::Result<usize> {
        let mut plan = self.0.lock().unwrap();
        if plan.gives.is_empty() {
            return match plan.end {
                End::Fin => Ok(0),
                End::Rst => Err(io::ErrorKind::ConnectionReset.into()),
            };
        }
        let n = buf.len().min(plan.piece).min(plan.gives.len());
        let given: Vec<_> = plan.gives.drain(..n).collect();
        buf[..n].copy_from_slice(&given);
        Ok(n)
    }

    fn write(&self, buf: &[u8]) -> io::Result<usize> {
        let mut plan = self.0.lock().unwrap();
        let n = buf.len().min(plan.takes);
        plan.takes -= n;
        match n {
            0 => Err(io::ErrorKind::BrokenPipe.into()),
            n => Ok(n),
        }
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

impl ClientStream for Memory {
    fn is_quiet(&self) -> bool {
        // What a peer in memory has left to give answers a request that is not sent yet.
        true
    }
}

/// One plan per connection; connections beyond them are refused.
struct Peers(Mutex<VecDeque<Plan>>);

impl Connect for Peers {
    fn connect(&self, _: SocketAddr, _: Option<Duration>) -> io::Result<Arc<dyn ClientStream>> {
        match self.0.lock().unwrap().pop_front() {
            Some(plan) => Ok(Arc::new(Memory(Mutex::new(plan)))),
            None => Err(io::ErrorKind::ConnectionRefused.into()),
        }
    }
}

fn client(plans: impl IntoIterator<Item = Plan>, retry: RetryPolicy) -> PeerClient {
    let peers = Peers(Mutex::new(plans.into_iter().collect()));
    let builder = PeerClient::builder("127.0.0.1:9", "secret").retry(retry);
    builder.connector(Arc::new(peers)).build().unwrap()
}

/// An exchange, what it delivers, and how many bytes its answer has.
struct Exchange {
    name: &'static str,
    start: u64,
    len: Option<u64>,
    answer: String,
    content: &'static [u8],
    /// The end of the connection is the end of the content, whenever it comes.
    until_close: bool,
}

fn exchanges() -> Vec<Exchange> {
    let exchange = |name, start, len, answer: &str, content| Exchange {
        name,
        start,
        len,
        answer: answer.to_owned(),
        content,
        until_close: false,
    };
    vec![
        exchange(
            "200",
            0,
            None,
            "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789",
            b"0123456789",
        ),
        exchange(
            "206",
            2,
            Some(5),
            "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 2-6/10\r\nContent-Length: 5\r\n\r\n23456",
            b"23456",
        ),
        exchange(
            "206, close-delimited",
            2,
            Some(5),
            "HTTP/1.0 206 Partial Content\r\nContent-Range: bytes 2-6/10\r\n\r\n23456",
            b"23456",
        ),
        exchange(
            "chunked",
            0,
            None,
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
             3\r\n012\r\n7;a\r\n3456789\r\n0\r\nA: b\r\n\r\n",
            b"0123456789",
        ),
        exchange(
            "206, chunked",
            2,
            None,
            "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 2-9/10\r\n\
             Transfer-Encoding: chunked\r\n\r\n8\r\n23456789\r\n0\r\n\r\n",
            b"23456789",
        ),
        exchange(
            "behind an interim answer",
            0,
            None,
            "HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n012",
            b"012",
        ),
        exchange(
            "whole in place of a range",
            7,
            None,
            "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789",
            b"789",
        ),
        Exchange {
            until_close: true,
            ..exchange(
                "close-delimited",
                0,
                None,
                "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n0123456789",
                b"0123456789",
            )
        },
    ]
}

/// Fetches in both ways; they have to agree. Returns the verdict and what was handed over.
fn fetch(plan: &Plan, exchange: &Exchange) -> (Result<(), PeerError>, Vec<u8>) {
    let fetched = client([plan.clone()], RetryPolicy::NEVER);
    let whole = fetched.fetch_range("a", exchange.start, exchange.len);
    let mut written = Vec::new();
    let fetched = client([plan.clone()], RetryPolicy::NEVER);
    let result = fetched.fetch_to_writer("a", exchange.start, exchange.len, &mut written);
    match (&whole, &result) {
        (Ok(whole), Ok(_)) => assert!(whole.bytes == written),
        (Err(a), Err(b)) => assert_eq!(a.to_string(), b.to_string()),
        (a, b) => panic!("{}: {a:?} and {b:?}", exchange.name),
    }
    (result.map(|_| ()), written)
}

#[test]
fn complete_exactly_if_all_bytes_came() {
    for exchange in exchanges() {
        let answer = exchange.answer.as_bytes();
        for cut in 0..=answer.len() {
            for end in [End::Fin, End::Rst] {
                let mut plan = Plan::new(&answer[..cut]);
                plan.end = end;
                let (result, got) = fetch(&plan, &exchange);
                let at = format!("{} cut at {cut} by {end:?}: {result:?}", exchange.name);
                assert!(exchange.content.starts_with(&got), "{at}");
                let all = cut == answer.len();
                let needs_end = exchange.name.contains("close-delimited");
                let head = answer.windows(4).rposition(|w| w == b"\r\n\r\n").unwrap() + 4;
                let is_complete = match (exchange.until_close, needs_end) {
                    // Where the end is the delimiter, a proper one cannot be told from a cut.
                    (true, _) => end == End::Fin && cut >= head,
                    (false, true) => end == End::Fin && all,
                    (false, false) => all,
                };
                assert_eq!(result.is_ok(), is_complete, "{at}");
                if all {
                    assert_eq!(got, exchange.content, "{at}");
                }
                match result {
                    Err(PeerError::Truncated { received, expected }) => {
                        assert_eq!(end, End::Fin, "{at}");
                        assert_eq!(received, got.len() as u64, "{at}");
                        let len = exchange.content.len() as u64;
                        assert!(expected.is_none_or(|expected| expected == len), "{at}");
                    }
                    Err(error) => assert!(error.phase().is_some(), "{at}"),
                    Ok(()) => {}
                }
            }
        }
    }
}

#[test]
fn however_it_is_split() {
    for exchange in exchanges() {
        for piece in [1, 2, 3, 5, 8, 13] {
            let mut plan = Plan::new(&exchange.answer);
            plan.piece = piece;
            let (result, got) = fetch(&plan, &exchange);
            assert!(result.is_ok(), "{} by {piece}: {result:?}", exchange.name);
            assert_eq!(got, exchange.content, "{} by {piece}", exchange.name);
        }
    }
}

#[test]
fn a_request_that_is_cut_is_an_error_of_the_network() {
    let exchange = &exchanges()[0];
    let mut longest = 0;
    for takes in 0..1000 {
        let mut plan = Plan::new(&exchange.answer);
        plan.takes = takes;
        match fetch(&plan, exchange) {
            (Ok(()), got) => {
                assert_eq!(got, exchange.content);
                longest = takes;
                break;
            }
            (Err(error), got) => {
                assert_eq!(error.phase(), Some(peer_net::Phase::Send), "{takes}");
                assert!(got.is_empty());
            }
        }
    }
    assert!((60..200).contains(&longest), "{longest}");
}

#[test]
fn a_pair_on_one_connection_cut_anywhere() {
    let one = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n012";
    let two =
        "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 1-2/3\r\nContent-Length: 2\r\n\r\n12";
    for cut in 0..=two.len() {
        for end in [End::Fin, End::Rst] {
            let mut first = Plan::new(format!("{one}{}", &two[..cut]));
            first.end = end;
            // In pieces of one answer each: what comes along with an answer was not asked for.
            first.piece = one.len();
            let client = client([first, Plan::new(two)], RetryPolicy::NEVER);
            assert_eq!(client.fetch_range("a", 0, None).unwrap().bytes, b"012");
            let second = client.fetch_range("a", 1, None);
            // A kept connection that gives nothing is replaced, one that gives a part is not.
            let is_good = cut == 0 || cut == two.len();
            match second {
                Ok(got) if is_good => assert_eq!(got.bytes, b"12"),
                Err(_) if !is_good => {}
                other => panic!("cut at {cut} by {end:?}: {other:?}"),
            }
        }
    }
}

#[test]
fn mended_wherever_the_content_is_cut() {
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\nETag: \"v\"\r\n\r\n";
    for cut in 1..10 {
        for end in [End::Fin, End::Rst] {
            let mut first = Plan::new(format!("{head}{}", &"0123456789"[..cut]));
            first.end = end;
            let rest = format!(
                "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {cut}-9/10\r\n\
                 Content-Length: {}\r\nETag: \"v\"\r\n\r\n{}",
                10 - cut,
                &"0123456789"[cut..]
            );
            let mut retry = RetryPolicy::default();
            retry.pause = Duration::ZERO;
            let got = client([first, Plan::new(rest)], retry).fetch_range("a", 0, None);
            assert_eq!(got.unwrap().bytes, b"0123456789", "cut at {cut} by {end:?}");
        }
    }
}
