//! Scenarios on the machine alone; what goes over a real wire is tested in the `tests` package.

mod access;
mod answer;
mod deadline;
mod request;

use std::time::SystemTime;

use super::*;
use peer_proto::limits::DISCARD_BYTES_MAX;

/// A connection with a driver that answers every instruction from `content`.
struct Peer {
    connection: ServerConnection,
    now: Now,
    content: Vec<u8>,
    length: Option<u64>,
    /// The source fails when asked for this offset.
    fails_at: Option<u64>,
    sent: Vec<u8>,
}

impl Peer {
    fn new(content: &str) -> Self {
        let now = Now::new(
            Instant::now(),
            SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000),
        );
        Self {
            connection: ServerConnection::new(ServerConfig::default(), 1, now),
            now,
            content: content.into(),
            length: Some(content.len() as u64),
            fails_at: None,
            sent: Vec::new(),
        }
    }

    /// One that got a whole request, and the verdict on its token, and no more.
    fn asked(content: &str, request: &str, verdict: Authorization) -> Self {
        let mut peer = Self::new(content);
        peer.connection.receive_buffer()[..request.len()].copy_from_slice(request.as_bytes());
        peer.connection.handle_received(peer.now, request.len());
        peer.connection.handle_authorized(peer.now, verdict);
        peer
    }

    /// Hands over bytes and carries out instructions until more bytes, or nothing, is wanted.
    fn receive(&mut self, mut bytes: &[u8]) -> Option<CloseReason> {
        loop {
            let poll = format!("{:?}", self.connection.poll_output());
            assert_eq!(
                poll,
                format!("{:?}", self.connection.poll_output()),
                "polling is pure"
            );
            match self.connection.poll_output() {
                Output::Receive if bytes.is_empty() => return None,
                Output::Receive => {
                    let buffer = self.connection.receive_buffer();
                    assert!(!buffer.is_empty());
                    let n = bytes.len().min(buffer.len());
                    buffer[..n].copy_from_slice(&bytes[..n]);
                    bytes = &bytes[n..];
                    self.connection.handle_received(self.now, n);
                }
                Output::Authorize { token: b"t" } => {
                    self.connection
                        .handle_authorized(self.now, Authorization::Granted);
                }
                Output::Authorize { .. } => {
                    self.connection
                        .handle_authorized(self.now, Authorization::Denied);
                }
                Output::Resolve { handle } => {
                    let source = (handle == "a").then_some(SourceInfo {
                        complete_length: self.length,
                        content_type: Some("audio/mpeg"),
                        validators: Validators::default(),
                    });
                    self.connection.handle_source(self.now, source);
                }
                Output::Send { bytes } => {
                    assert!(!bytes.is_empty(), "nothing to send");
                    self.sent.extend_from_slice(bytes);
                    self.connection.handle_sent(self.now, 0);
                }
                Output::SendSource { offset, .. } if self.fails_at == Some(offset) => {
                    self.connection.handle_source_failed(self.now);
                }
                Output::SendSource {
                    prefix,
                    offset,
                    len,
                    chunked,
                } => {
                    // Three bytes at a time: every answer takes several steps.
                    let rest = self.content.get(offset as usize..).unwrap_or_default();
                    let n = rest.len().min(3).min(len.unwrap_or(3) as usize);
                    if n == 0 {
                        self.connection.handle_source_end(self.now);
                        continue;
                    }
                    self.sent.extend_from_slice(prefix);
                    if chunked {
                        self.sent.extend_from_slice(format!("{n:x}\r\n").as_bytes());
                    }
                    self.sent.extend_from_slice(&rest[..n]);
                    if chunked {
                        self.sent.extend_from_slice(b"\r\n");
                    }
                    self.connection.handle_sent(self.now, n as u64);
                }
                Output::HalfClose => self.connection.handle_half_closed(self.now),
                Output::Close { reason } => return Some(reason),
            }
        }
    }

    /// The answers so far, without their `Date`.
    fn answers(&self) -> String {
        let text = String::from_utf8(self.sent.clone()).unwrap();
        text.replace("Date: Sun, 09 Sep 2001 01:46:40 GMT\r\n", "")
    }

    fn wait(&mut self, time: Duration) {
        self.now.instant += time;
        self.connection.handle_timeout(self.now);
    }
}

fn get(more: &str) -> String {
    format!("GET /track/a HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer t\r\n{more}\r\n")
}

fn check(content: &str, request: &str, expected: &str, end: Option<CloseReason>) {
    let mut whole = Peer::new(content);
    assert_eq!(whole.receive(request.as_bytes()), end, "{request}");
    assert_eq!(whole.answers(), expected, "{request}");
    // Byte by byte comes to the same.
    let mut bytes = Peer::new(content);
    let mut last = None;
    for byte in request.bytes() {
        last = bytes.receive(&[byte]);
    }
    assert_eq!(
        (bytes.answers(), last),
        (expected.to_owned(), end),
        "{request}"
    );
}

const WHOLE: &str = "HTTP/1.1 200 OK\r\nCache-Control: private, no-transform\r\nAccept-Ranges: bytes\r\n\
                     Content-Type: audio/mpeg\r\nContent-Length: 10\r\n\r\n0123456789";

/// A connection that lets pages of `https://a` in.
fn for_pages() -> Peer {
    let mut peer = Peer::new("abc");
    let mut origins = AllowedOrigins::default();
    origins.allow("https://a").unwrap();
    peer.connection = peer.connection.with_allowed_origins(origins);
    peer
}
