//! The fetching machine, walked over.

use std::time::{Duration, Instant};

use peer_core::fetch::{
    Fetch, FetchDeadline, FetchError, FetchOutput, FetchRequest, FetchTimeouts,
};
use peer_core::fetch::{Version, Want};
use peer_proto::{EntityTag, Token, limits::HEAD_BYTES_MAX};

use super::{Expected, Machine, Walked, walk};
use crate::check::server::at;

/// What a peer sends at a time.
const PIECES: &[&[u8]] = &[
    b"HTTP/1.1 200 OK\r\nETag: \"v\"\r\nContent-Length: 3\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nab",
    b"HTTP/1.1 200 OK\r\nETag: \"v\"\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"HTTP/1.0 200 OK\r\nETag: \"v\"\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 206 Partial Content\r\nETag: \"v\"\r\nContent-Range: bytes 1-2/3\r\n\
      Content-Length: 2\r\n\r\n",
    b"HTTP/1.1 206 Partial Content\r\nETag: \"v\"\r\nContent-Range: bytes 1-1/3\r\n\
      Transfer-Encoding: chunked\r\n\r\n",
    b"HTTP/1.1 206 Partial Content\r\nETag: \"v\"\r\nContent-Range: bytes 1-2/3\r\n\r\nb",
    b"HTTP/1.1 206 Partial Content\r\nETag: \"w\"\r\nContent-Range: bytes 0-0/3\r\n\
      Content-Length: 1\r\n\r\na",
    b"HTTP/1.1 206 Partial Content\r\nContent-Type: multipart/byteranges; boundary=x\r\n\r\n",
    b"HTTP/1.1 206 Partial Content\r\nContent-Length: 3\r\n\r\n",
    b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 1-2/3\r\nContent-Length: 3\r\n\r\n",
    b"HTTP/1.1 416 Range Not Satisfiable\r\nContent-Range: bytes */1\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 416 Range Not Satisfiable\r\nContent-Range: bytes */0\r\nContent-Length: 1\r\n\r\n",
    b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    // Sixteen may come, and no more.
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n\
      HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n\
      HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n\
      HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n\
      HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n\
      HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 200 O",
    b"K\r\nContent-Length: 3\r\n\r\n",
    b"SSH-2.0\r\n",
    b"3\r\nabc\r\n0\r\n\r\n",
    b"1\r\nb",
    b"\r\n0\r\n\r\n",
    b"g\r\n",
    b"b",
];

#[derive(Clone, Copy, Debug)]
enum Fact {
    /// All of the request, or the first byte of what is left.
    Sent {
        all: bool,
    },
    /// Number of the piece.
    Received(usize),
    /// As much of one line without an end as there is room for.
    ReceivedFill,
    /// All of what was due, at most three bytes, or one.
    Content {
        all: bool,
    },
    /// More than was due.
    TooMuchContent,
    Resumed,
    Eof,
    TooEarly,
    InTime,
}

#[derive(Clone)]
struct Fetching {
    fetch: Fetch,
    elapsed: Duration,
    /// Pieces that the peer may still send.
    left: usize,
    /// What it has sent and the machine not used.
    text: Vec<u8>,
}

/// Most pieces that the peer sends.
const PIECES_MAX: usize = 3;

/// Most bytes of content that come at a time, and by that until a peer closes.
const CONTENT_MAX: u64 = 3;

impl Fetching {
    fn new(want: Want, without_range: bool, version: Option<Version>, stall: u64) -> Self {
        let token = Token::new("secret").expect("a token");
        let request = FetchRequest {
            host: "h",
            token: &token,
            handle: "a",
            want,
            without_range,
            version,
        };
        let begin = at(Duration::ZERO).instant;
        let timeouts = FetchTimeouts {
            head: Some(Duration::from_secs(10)),
            stall: Some(Duration::from_secs(stall)),
            whole: Some(begin + Duration::from_secs(25)),
        };
        Self {
            fetch: Fetch::new(&request, timeouts, begin),
            elapsed: Duration::ZERO,
            left: PIECES_MAX,
            text: Vec::new(),
        }
    }

    fn now(&self) -> Instant {
        at(self.elapsed).instant
    }

    /// Most bytes of content that may be stated.
    fn due(&self) -> Option<u64> {
        match self.fetch.poll_output() {
            FetchOutput::Content { bytes } => Some(bytes.len() as u64),
            FetchOutput::ReceiveContent { max } | FetchOutput::ReceiveSkipped { max } => Some(max),
            _ => None,
        }
    }

    /// Whether this content comes from the peer, and not out of the buffer.
    fn is_from_peer(&self) -> bool {
        !matches!(self.fetch.poll_output(), FetchOutput::Content { .. })
    }

    fn receive(&mut self, bytes: &[u8]) {
        if let FetchOutput::Receive = self.fetch.poll_output() {
            self.fetch.receive_buffer()[..bytes.len()].copy_from_slice(bytes);
            self.text.extend_from_slice(bytes);
            self.left -= 1;
        }
        self.fetch.handle_received(self.now(), bytes.len());
    }
}

impl Machine for Fetching {
    type Fact = Fact;

    const FACTS: &'static [Fact] = &{
        let mut facts = [Fact::Eof; PIECES.len() + 10];
        let mut at = 0;
        while at < PIECES.len() {
            facts[at] = Fact::Received(at);
            at += 1;
        }
        let more = [
            Fact::Sent { all: true },
            Fact::Sent { all: false },
            Fact::ReceivedFill,
            Fact::Content { all: true },
            Fact::Content { all: false },
            Fact::TooMuchContent,
            Fact::Resumed,
            Fact::Eof,
            Fact::TooEarly,
            Fact::InTime,
        ];
        let mut number = 0;
        while number < more.len() {
            facts[at + number] = more[number];
            number += 1;
        }
        facts
    };

    const BUGS: &'static [&'static str] = &["while ", "sent more than there is", "were due"];

    fn expected(&self, fact: Fact) -> Expected {
        let output = self.fetch.poll_output();
        let asked = |asked: bool| match asked {
            true => Expected::Change,
            false => Expected::Bug,
        };
        match fact {
            Fact::Sent { all: false } => match output {
                // Byte after byte is one state for each; one is enough.
                FetchOutput::Send { bytes } if !bytes.starts_with(b"GET") => Expected::Impossible,
                _ => asked(matches!(output, FetchOutput::Send { .. })),
            },
            Fact::Sent { all: true } => asked(matches!(output, FetchOutput::Send { .. })),
            Fact::Received(_) | Fact::ReceivedFill if output != FetchOutput::Receive => {
                Expected::Bug
            }
            Fact::Received(_) | Fact::ReceivedFill if self.left == 0 => Expected::Impossible,
            Fact::Received(piece) => {
                let room = self.fetch.clone().receive_buffer().len();
                match PIECES[piece].len() <= room {
                    true => Expected::Change,
                    false => Expected::Impossible,
                }
            }
            Fact::ReceivedFill => Expected::Change,
            Fact::Content { all: is_all } => match self.due() {
                Some(_) if self.is_from_peer() && self.left == 0 => Expected::Impossible,
                // Byte after byte of another's text is a state for each.
                Some(due) if !self.is_from_peer() && !is_all && due > CONTENT_MAX => {
                    Expected::Impossible
                }
                Some(_) => Expected::Change,
                None => Expected::Bug,
            },
            Fact::TooMuchContent => match self.due() {
                Some(u64::MAX) => Expected::Impossible,
                _ => Expected::Bug,
            },
            Fact::Resumed | Fact::Eof | Fact::InTime => Expected::Change,
            Fact::TooEarly => Expected::Nothing,
        }
    }

    fn goes_on_without_peer(&self, fact: Fact) -> bool {
        match fact {
            Fact::Received(_) | Fact::ReceivedFill | Fact::TooEarly | Fact::Resumed => false,
            Fact::Content { .. } | Fact::TooMuchContent => !self.is_from_peer(),
            Fact::Sent { .. } | Fact::Eof | Fact::InTime => true,
        }
    }

    fn feed(&mut self, fact: Fact) {
        let now = self.now();
        match fact {
            Fact::Sent { all } => {
                let len = match self.fetch.poll_output() {
                    FetchOutput::Send { bytes } => bytes.len(),
                    _ => 1,
                };
                self.fetch.handle_sent(now, if all { len } else { 1 });
            }
            Fact::Received(piece) => self.receive(PIECES[piece]),
            Fact::ReceivedFill => {
                let room = self.fetch.receive_buffer().len();
                self.receive(&vec![b'x'; room]);
            }
            Fact::Content { all } => {
                let is_from_peer = self.is_from_peer();
                let most = if is_from_peer { CONTENT_MAX } else { u64::MAX };
                let due = self.due().map_or(1, |due| due.min(most));
                self.fetch.handle_content(now, if all { due } else { 1 });
                self.left -= usize::from(is_from_peer);
            }
            Fact::TooMuchContent => {
                let due = self.due().unwrap_or(0);
                self.fetch.handle_content(now, due + 1);
            }
            Fact::Resumed => self.fetch.handle_resumed(now),
            Fact::Eof => self.fetch.handle_eof(now),
            Fact::TooEarly => self.fetch.handle_timeout(now),
            Fact::InTime => {
                if let Some(deadline) = self.fetch.poll_timeout() {
                    let begin = at(Duration::ZERO).instant;
                    let due = deadline.saturating_duration_since(begin);
                    self.elapsed = self.elapsed.max(due);
                    self.fetch.handle_timeout(self.now());
                }
            }
        }
        if self.is_over() || self.fetch.clone().receive_buffer().len() == HEAD_BYTES_MAX {
            self.text.clear();
        }
    }

    fn key(&self) -> String {
        let output = match self.fetch.poll_output() {
            FetchOutput::Send { bytes } => format!("Send {}", bytes.len()),
            output => format!("{output:?}"),
        };
        let deadline = self.fetch.poll_timeout();
        let left = deadline.map(|at| at.saturating_duration_since(self.now()));
        let (begun, progressed) = (self.fetch.has_begun(), self.fetch.progressed());
        // How an end came about no longer matters.
        let (left, elapsed, pieces) = match self.is_over() {
            true => (None, None, 0),
            false => (left, Some(self.elapsed), self.left),
        };
        format!(
            "{:?} {output} {left:?} {elapsed:?} {begun} {} {pieces} {:?}",
            self.fetch,
            progressed.is_some(),
            self.text
        )
    }

    fn name(&self) -> String {
        match self.fetch.poll_output() {
            FetchOutput::Send { .. } => "sending".to_owned(),
            FetchOutput::Receive if self.fetch.answer().is_none() => "head".to_owned(),
            FetchOutput::Receive => "framing".to_owned(),
            FetchOutput::Content { .. } => "buffered content".to_owned(),
            FetchOutput::ReceiveContent { .. } => "content".to_owned(),
            FetchOutput::ReceiveSkipped { .. } => "skipped content".to_owned(),
            FetchOutput::Done(done) if done.short => "done, short".to_owned(),
            FetchOutput::Done(_) => "done".to_owned(),
            FetchOutput::Failed(FetchError::TimedOut(which)) => {
                format!("failed: timed out: {which:?}")
            }
            FetchOutput::Failed(error) => {
                let debug = format!("{error:?}");
                let end = debug.find([' ', '(', '{']).unwrap_or(debug.len());
                format!("failed: {}", &debug[..end])
            }
        }
    }

    fn is_over(&self) -> bool {
        matches!(
            self.fetch.poll_output(),
            FetchOutput::Done(_) | FetchOutput::Failed(_)
        )
    }

    fn check(&self) {
        let output = self.fetch.poll_output();
        assert_eq!(output, self.fetch.poll_output(), "polling is pure");
        assert!(
            self.is_over() || self.fetch.poll_timeout().is_some(),
            "waits without a deadline"
        );
        match output {
            FetchOutput::Receive => {
                assert!(!self.fetch.clone().receive_buffer().is_empty(), "no room");
            }
            FetchOutput::Send { bytes } | FetchOutput::Content { bytes } => {
                assert!(!bytes.is_empty());
            }
            FetchOutput::ReceiveContent { max } | FetchOutput::ReceiveSkipped { max } => {
                assert!(max > 0);
            }
            FetchOutput::Done(done) => {
                assert_eq!(done.received, self.fetch.received());
                let answer = self.fetch.answer().expect("an answer");
                let told = answer
                    .expected
                    .is_none_or(|expected| expected == done.received);
                assert!(told, "{done:?} of {answer:?}");
            }
            FetchOutput::Failed(FetchError::TimedOut(which)) => {
                assert_ne!(which, FetchDeadline::Connect, "it is connected");
            }
            FetchOutput::Failed(_) => {}
        }
    }
}

/// Every fact in every state of the fetching machine: of a whole, a first part, a later one, one that
/// has to be of a version, a length, with a range and without.
///
/// # Panics
/// Where a law does not hold.
#[must_use]
pub fn fetches() -> Walked {
    let content = |start, len| Want::Content { start, len };
    let version = Version {
        entity_tag: EntityTag::strong("v").ok(),
        last_modified: None,
        complete_length: Some(3),
    };
    let mut walked = Walked::default();
    for (want, without_range, version, stall) in [
        (content(0, None), false, None, 20),
        (content(0, Some(2)), true, None, 20),
        (content(1, None), false, None, 20),
        (content(1, Some(2)), false, Some(version), 20),
        (content(3, None), false, Some(version), 20),
        // Here the whole is over sooner.
        (Want::Length, false, None, 30),
        (content(0, None), false, None, 30),
    ] {
        walked.add(walk(&Fetching::new(want, without_range, version, stall)));
    }
    walked
}
