//! The serving machine, walked over.

use std::time::Duration;

use peer_core::{
    Access, AllowedOrigins, Authorization, CloseReason, Output, ServerConfig, ServerConnection,
    SourceInfo, deadline::SUSPENDED,
};
use peer_proto::{EntityTag, HttpDate, Validators, limits::HEAD_BYTES_MAX};

use super::{Expected, Machine, Walked, walk};
use crate::check::server::at;

/// What a peer sends at a time. A request is written so that it is one piece, or a few.
const PIECES: &[&[u8]] = &[
    b"GET /track/a HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer secret\r\n\r\n",
    b"GET /track/a HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer secret\r\nRange: bytes=0-1\r\n\r\n",
    b"GET /track/a HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer secret\r\nRange: bytes=0-0,2-2\r\n\r\n",
    b"GET /track/a HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer secret\r\nRange: bytes=3-\r\n\r\n",
    b"GET /track/a HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer secret\r\nIf-None-Match: \"v\"\r\n\r\n",
    b"GET /track/a HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer secret\r\nIf-Match: \"w\"\r\n\r\n",
    b"GET /track/a HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer secret\r\nConnection: close\r\n\r\n",
    b"GET /track/a HTTP/1.0\r\nAuthorization: Bearer secret\r\n\r\n",
    b"GET /track/a HTTP/1.0\r\nAuthorization: Bearer secret\r\nConnection: keep-alive\r\n\r\n",
    b"HEAD /track/a HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer secret\r\n\r\n",
    b"PUT /track/a HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer secret\r\n\r\n",
    b"BREW /track/a HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer secret\r\n\r\n",
    b"GET /else HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer secret\r\n\r\n",
    b"GET ftp://h/track/a HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer secret\r\n\r\n",
    b"GET /track/%zz HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer secret\r\n\r\n",
    b"GET /track/a HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer secret\r\nExpect: tea\r\n\r\n",
    b"GET /track/a HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer wrong\r\n\r\n",
    b"GET /track/a HTTP/1.1\r\nHost: h\r\n\r\n",
    b"GET /track/a HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\n",
    b"GET /track/a HTTP/1.1\r\n\r\n",
    b"GET /track/a HTTP/2.0\r\n\r\n",
    b"POST /track/a HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer secret\r\nContent-Length: 2\r\n\r\n",
    b"POST /track/a HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer secret\r\nContent-Length: 9\r\n\
      Expect: 100-continue\r\n\r\n",
    b"POST /track/a HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer secret\r\n\
      Content-Length: 99999\r\n\r\n",
    b"GET /track/a HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer secret\r\n\
      Transfer-Encoding: chunked\r\n\r\n",
    b"GET /track/a HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer secret\r\n\
      Transfer-Encoding: gzip\r\n\r\n",
    b"\r\n",
    b"\0",
];

/// The same, for walks of several pieces: what comes in parts, stays unread, or is one of many.
const PARTS: &[&[u8]] = &[
    b"GET /track/a HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer secret\r\n\r\n",
    b"GET /track/a HTTP/1.0\r\nAuthorization: Bearer secret\r\n\r\n",
    b"GET /track/a HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer wrong\r\n\r\n",
    b"POST /track/a HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer secret\r\nContent-Length: 2\r\n\r\n",
    b"GET /track/a HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer secret\r\n\
      Transfer-Encoding: chunked\r\n\r\n",
    b"2\r\nxy\r\n0\r\n\r\n",
    b"fffff\r\nx",
    b"xy",
    b"GET /track/a HTTP/1.1\r\nHo",
    b"st: h\r\nAuthorization: Bearer secret\r\n\r\n",
    b"\0",
];

/// Tokens that are wrong, one after the other.
const GUESSES: &[&[u8]] = &[b"GET / HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer guess\r\n\r\n"];

/// The same, where the target lets in. `/k/a` is what the app knows.
const CAPABILITY_PIECES: &[&[u8]] = &[
    b"GET /k/a HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"HEAD /k/a HTTP/1.1\r\nHost: 127.0.0.1:80\r\nConnection: close\r\n\r\n",
    b"GET /k/a HTTP/1.0\r\nHost: [::1]\r\n\r\n",
    b"GET /k/a HTTP/1.1\r\nHost: rebound.example\r\n\r\n",
    b"GET /k/a HTTP/1.1\r\nHost: localhost\r\nOrigin: https://b\r\n\r\n",
    b"GET /k/a HTTP/1.1\r\nHost: localhost\r\nOrigin: https://a\r\n\r\n",
    b"GET /k/a HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: cross-site\r\n\r\n",
    b"OPTIONS /k/a HTTP/1.1\r\nHost: localhost\r\nOrigin: https://a\r\n\
      Access-Control-Request-Method: GET\r\n\r\n",
    b"GET /k/b HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"PUT /k/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n",
    b"xy",
];

/// The same, for pages of another origin, which is allowed.
const PAGE_PIECES: &[&[u8]] = &[
    b"OPTIONS /track/a HTTP/1.1\r\nHost: h\r\nOrigin: https://a\r\n\
      Access-Control-Request-Method: GET\r\n\r\n",
    b"OPTIONS /track/a HTTP/1.1\r\nHost: h\r\nOrigin: https://b\r\n\
      Access-Control-Request-Method: GET\r\n\r\n",
    b"GET /track/a HTTP/1.1\r\nHost: h\r\nOrigin: https://a\r\nAuthorization: Bearer secret\r\n\r\n",
    b"GET /track/a HTTP/1.1\r\nHost: h\r\nOrigin: https://a\r\nContent-Length: 2\r\n\r\n",
    b"xy",
];

/// Length of the source.
const LEN: u64 = 3;

/// What the app finds.
#[derive(Clone, Copy, Debug)]
enum Found {
    Nothing,
    /// A source with a length and a tag.
    Known,
    /// One whose length is not known.
    Unknown,
    Empty,
}

/// When it is noticed that a deadline has passed.
#[derive(Clone, Copy, Debug)]
enum Noticed {
    TooEarly,
    InTime,
    /// So late that the process cannot have run.
    Late,
}

#[derive(Clone, Copy, Debug)]
enum Fact {
    /// Number of the piece.
    Received(usize),
    /// As much of one line without an end as there is room for.
    ReceivedFill,
    Eof,
    Time(Noticed),
    Authorized(Authorization),
    Source(Found),
    SourceFailed,
    SourceEnd,
    Progress,
    /// Bytes of content.
    Sent(u64),
    HalfClosed,
}

/// Which machine it is.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Bearer,
    Pages,
    Capability,
}

#[derive(Clone)]
struct Server {
    /// What the peer may send.
    pieces: &'static [&'static [u8]],
    machine: ServerConnection,
    elapsed: Duration,
    /// Pieces that the peer may still send.
    left: usize,
    /// What it has sent since everything was read.
    text: Vec<u8>,
    found: Option<Found>,
    /// It is suspended once: again and again would be a state for each time.
    was_suspended: bool,
}

impl Server {
    fn new(kind: Kind, pieces: &'static [&'static [u8]], most: usize) -> Self {
        let machine = ServerConnection::new(ServerConfig::default(), 1, at(Duration::ZERO));
        let origins = || {
            let mut origins = AllowedOrigins::default();
            origins.allow("https://a").expect("an origin");
            origins
        };
        let machine = match kind {
            Kind::Bearer => machine,
            Kind::Pages => machine.with_allowed_origins(origins()),
            Kind::Capability => machine
                .with_access(Access::Capability)
                .with_allowed_origins(origins()),
        };
        Self {
            pieces,
            machine,
            elapsed: Duration::ZERO,
            left: most,
            text: Vec::new(),
            found: None,
            was_suspended: false,
        }
    }

    fn info(found: Found) -> Option<SourceInfo<'static>> {
        let complete_length = match found {
            Found::Nothing => return None,
            Found::Known => Some(LEN),
            Found::Unknown => None,
            Found::Empty => Some(0),
        };
        Some(SourceInfo {
            complete_length,
            content_type: None,
            validators: Validators {
                entity_tag: EntityTag::strong("v").ok(),
                last_modified: HttpDate::parse(b"Sun, 06 Nov 1994 08:49:37 GMT"),
            },
        })
    }

    fn receive(&mut self, bytes: &[u8]) {
        if let Output::Receive = self.machine.poll_output() {
            self.machine.receive_buffer()[..bytes.len()].copy_from_slice(bytes);
            self.text.extend_from_slice(bytes);
            self.left -= 1;
        }
        self.machine.handle_received(at(self.elapsed), bytes.len());
    }

    /// Content that is left of the source for this answer.
    fn content_left(&self) -> Option<u64> {
        match self.machine.poll_output() {
            Output::Send { .. } => Some(0),
            Output::SendSource { offset, len, .. } => {
                Some(len.unwrap_or_else(|| LEN.saturating_sub(offset)))
            }
            _ => None,
        }
    }
}

impl Machine for Server {
    type Fact = Fact;

    const FACTS: &'static [Fact] = &{
        // The longest table first: a piece that another lacks cannot be sent there.
        let mut facts = [Fact::Eof; PIECES.len() + 20];
        let mut at = 0;
        while at < PIECES.len() {
            facts[at] = Fact::Received(at);
            at += 1;
        }
        let more = [
            Fact::ReceivedFill,
            Fact::Eof,
            Fact::Time(Noticed::TooEarly),
            Fact::Time(Noticed::InTime),
            Fact::Time(Noticed::Late),
            Fact::Authorized(Authorization::Granted),
            Fact::Authorized(Authorization::Denied),
            Fact::Authorized(Authorization::Overloaded),
            Fact::Source(Found::Nothing),
            Fact::Source(Found::Known),
            Fact::Source(Found::Unknown),
            Fact::Source(Found::Empty),
            Fact::SourceFailed,
            Fact::SourceEnd,
            Fact::Progress,
            Fact::Sent(0),
            Fact::Sent(1),
            Fact::Sent(2),
            Fact::Sent(3),
            Fact::HalfClosed,
        ];
        let mut number = 0;
        while number < more.len() {
            facts[at + number] = more[number];
            number += 1;
        }
        facts
    };

    const BUGS: &'static [&'static str] = &["not asked for", "sent more than asked for"];

    fn expected(&self, fact: Fact) -> Expected {
        let output = self.machine.poll_output();
        let over = matches!(output, Output::Close { .. });
        let asked = |asked: bool| match asked {
            true => Expected::Change,
            false => Expected::Bug,
        };
        match fact {
            Fact::Received(_) | Fact::ReceivedFill if !matches!(output, Output::Receive) => {
                Expected::Bug
            }
            Fact::Received(_) | Fact::ReceivedFill if self.left == 0 => Expected::Impossible,
            Fact::Received(piece) => {
                let room = self.machine.clone().receive_buffer().len();
                match self.pieces.get(piece) {
                    Some(bytes) if bytes.len() <= room => Expected::Change,
                    _ => Expected::Impossible,
                }
            }
            Fact::ReceivedFill => Expected::Change,
            // Its half may end whenever it likes; who is not listening hears it later.
            Fact::Eof if matches!(output, Output::Receive) => Expected::Change,
            Fact::Eof => Expected::Nothing,
            Fact::Time(Noticed::TooEarly) => match self.machine.poll_timeout() {
                // A stranger's one deadline, which passed while its answer went out.
                Some((_, due)) if due <= at(self.elapsed).instant => Expected::Impossible,
                _ => Expected::Nothing,
            },
            Fact::Time(Noticed::Late) if self.was_suspended => Expected::Impossible,
            Fact::Time(_) => match self.machine.poll_timeout() {
                Some(_) => Expected::Change,
                None => Expected::Impossible,
            },
            Fact::Authorized(_) => asked(matches!(output, Output::Authorize { .. })),
            Fact::Source(_) => asked(matches!(output, Output::Resolve { .. })),
            Fact::SourceFailed | Fact::SourceEnd if over => Expected::Nothing,
            Fact::SourceFailed | Fact::SourceEnd => Expected::Change,
            Fact::Progress | Fact::Sent(0) => asked(self.content_left().is_some()),
            Fact::Sent(n) => match (self.content_left(), output) {
                (Some(left), Output::SendSource { len: None, .. }) if n > left => {
                    Expected::Impossible
                }
                // Nothing of a source is sent with an answer that has none.
                (Some(_), Output::Send { .. }) => Expected::Impossible,
                (Some(left), _) => asked(n <= left),
                (None, _) => Expected::Bug,
            },
            Fact::HalfClosed => asked(matches!(output, Output::HalfClose)),
        }
    }

    fn goes_on_without_peer(&self, fact: Fact) -> bool {
        match fact {
            Fact::Received(_) | Fact::ReceivedFill | Fact::Progress => false,
            // Whoever is suspended again and again may be kept waiting for as long.
            Fact::Time(Noticed::TooEarly | Noticed::Late) => false,
            // The prefix alone, which is done once.
            Fact::Sent(0) => match self.machine.poll_output() {
                Output::SendSource { prefix, .. } => !prefix.is_empty(),
                _ => true,
            },
            _ => true,
        }
    }

    fn feed(&mut self, fact: Fact) {
        if let Fact::Time(noticed) = fact {
            if let Some((_, deadline)) = self.machine.poll_timeout() {
                let deadline = deadline.saturating_duration_since(at(Duration::ZERO).instant);
                self.elapsed = match noticed {
                    Noticed::TooEarly => self.elapsed,
                    Noticed::InTime => deadline,
                    Noticed::Late => deadline + SUSPENDED + Duration::from_millis(1),
                };
                self.was_suspended |= matches!(noticed, Noticed::Late);
            }
        }
        let now = at(self.elapsed);
        match fact {
            Fact::Received(piece) => {
                let bytes = self.pieces.get(piece).copied().unwrap_or(b"");
                self.receive(bytes);
            }
            Fact::ReceivedFill => {
                let (left, mut more) = (self.left, HEAD_BYTES_MAX);
                loop {
                    let room = self.machine.receive_buffer().len().min(more);
                    self.left = left;
                    self.receive(&vec![b'x'; room]);
                    more -= room;
                    let waits = matches!(self.machine.poll_output(), Output::Receive);
                    if more == 0 || room == 0 || !waits {
                        break;
                    }
                }
            }
            Fact::Eof => self.machine.handle_eof(now),
            Fact::Time(_) => self.machine.handle_timeout(now),
            Fact::Authorized(authorization) => {
                self.machine.handle_authorized(now, authorization);
            }
            Fact::Source(found) => {
                self.found = Some(found);
                self.machine.handle_source(now, Self::info(found));
            }
            Fact::SourceFailed => self.machine.handle_source_failed(now),
            Fact::SourceEnd => self.machine.handle_source_end(now),
            Fact::Progress => self.machine.handle_progress(now),
            Fact::Sent(content) => self.machine.handle_sent(now, content),
            Fact::HalfClosed => self.machine.handle_half_closed(now),
        }
        if !matches!(
            self.machine.poll_output(),
            Output::SendSource { .. } | Output::Send { .. }
        ) {
            self.found = None;
        }
        if let Output::Receive = self.machine.poll_output() {
            // What is read past makes room first.
            let mut machine = self.machine.clone();
            machine.receive_buffer();
            if format!("{machine:?}").contains("received: 0,") {
                self.text.clear();
            }
        }
        if let Output::Close { .. } = self.machine.poll_output() {
            self.text.clear();
        }
    }

    fn key(&self) -> String {
        let output = match self.machine.poll_output() {
            Output::Send { bytes } => format!("Send {}", bytes.len()),
            Output::SendSource {
                prefix,
                offset,
                len,
                chunked,
            } => format!("SendSource {} {offset} {len:?} {chunked}", prefix.len()),
            output => format!("{output:?}"),
        };
        let deadline = self.machine.poll_timeout();
        let left = deadline.map(|(_, due)| due.saturating_duration_since(at(self.elapsed).instant));
        if self.is_over() {
            return format!("{:?}", self.machine);
        }
        // What a stranger has left of its one deadline shows only when its answer is out.
        let stranger = (!self.machine.is_authorized()).then_some(self.elapsed);
        let stranger = stranger.filter(|_| deadline.is_some());
        format!(
            "{:?} {output} {left:?} {stranger:?} {} {:?} {:?} {:?}",
            self.machine, self.left, self.found, self.text, self.was_suspended
        )
    }

    fn name(&self) -> String {
        let debug = format!("{:?}", self.machine);
        let state = debug.split("state: ").nth(1).unwrap_or_default();
        let end = state.find([' ', ',']).unwrap_or(state.len());
        state[..end].to_owned()
    }

    fn is_over(&self) -> bool {
        matches!(self.machine.poll_output(), Output::Close { .. })
    }

    fn check(&self) {
        let output = self.machine.poll_output();
        assert_eq!(output, self.machine.poll_output(), "polling is pure");
        let deadline = self.machine.poll_timeout();
        match output {
            Output::Receive => {
                assert!(deadline.is_some(), "waits for the peer without a deadline");
                assert!(!self.machine.clone().receive_buffer().is_empty());
            }
            Output::Send { bytes } => {
                assert!(deadline.is_some(), "sends without a deadline");
                assert!(!bytes.is_empty());
            }
            Output::SendSource { len, .. } => {
                assert!(self.machine.is_authorized(), "sends to a stranger");
                assert!(deadline.is_some(), "sends without a deadline");
                assert!(len != Some(0), "an instruction to send nothing");
            }
            Output::Resolve { handle } => {
                assert!(self.machine.is_authorized(), "asks the app for a stranger");
                assert_eq!(
                    self.machine.foreign(),
                    None,
                    "asks the app for a page of another origin"
                );
                assert!(["a", "b", ""].contains(&handle), "{handle}");
                assert_eq!(deadline, None, "the app has its time");
            }
            Output::Close { reason } => {
                assert_eq!(deadline, None, "a deadline for nothing");
                let is_refused = matches!(reason, CloseReason::Refused(_));
                assert!(!is_refused || self.machine.status().is_some());
            }
            Output::Authorize { .. } | Output::HalfClose => {}
        }
    }
}

/// Every fact in every state of the serving machine: for peers with a token, for pages, and where the
/// target lets in.
///
/// # Panics
/// Where a law does not hold.
#[must_use]
pub fn servers() -> Walked {
    let mut walked = Walked::default();
    for (kind, pieces, most) in [
        (Kind::Bearer, PIECES, 1),
        (Kind::Bearer, PARTS, 2),
        (Kind::Bearer, GUESSES, 3),
        (Kind::Pages, PAGE_PIECES, 2),
        (Kind::Capability, CAPABILITY_PIECES, 2),
    ] {
        walked.add(walk(&Server::new(kind, pieces, most)));
    }
    walked
}
