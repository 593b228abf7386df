//! The serving side of one connection: requests in sequence, one answer each.
//!
//! ```text
//!            +------------------------------------------------------------------+
//!            v                                                                  |
//!   accept  Head --> Discard --> Authorize --> Resolve --> Spans, Stream --+     |
//!            |   (the request's      |            |     (content of a       |     |
//!            |      content)         |            |           source)       |     |
//!            +----------+------------+------------+---------> Answer -------+-----+
//!                                                     (all other bytes)     |
//!                                                                           v
//!                                                HalfClose --> Linger --> Closed
//! ```
//!
//! The order of checks is the order of these states: the message itself, then the token, then
//! method, target, handle, preconditions, ranges. Nothing about a target shows before the token
//! matched.
//!
//! A driver is one loop:
//!
//! ```
//! # use peer_core::*;
//! # fn drive(mut wire: impl std::io::Read + std::io::Write, content: &[u8]) -> std::io::Result<()> {
//! let now = || Now::new(std::time::Instant::now(), std::time::SystemTime::now());
//! let mut connection = ServerConnection::new(ServerConfig::default(), 7, now());
//! loop {
//!     match connection.poll_output() {
//!         Output::Receive => match wire.read(connection.receive_buffer())? {
//!             0 => connection.handle_eof(now()),
//!             n => connection.handle_received(now(), n),
//!         },
//!         Output::Authorize { token } => {
//!             // In earnest, Token::matches: it takes the same time for every wrong token.
//!             let authorization = match token {
//!                 b"secret" => Authorization::Granted,
//!                 _ => Authorization::Denied,
//!             };
//!             connection.handle_authorized(now(), authorization);
//!         }
//!         Output::Resolve { handle } => {
//!             let length = Some(content.len() as u64);
//!             let info = SourceInfo { complete_length: length, ..SourceInfo::default() };
//!             let found = (handle == "hello").then_some(info);
//!             connection.handle_source(now(), found);
//!         }
//!         Output::Send { bytes } => {
//!             wire.write_all(bytes)?;
//!             connection.handle_sent(now(), 0);
//!         }
//!         Output::SendSource { prefix, offset, len, .. } => {
//!             let content = &content[offset as usize..][..len.unwrap_or(0) as usize];
//!             wire.write_all(prefix)?;
//!             wire.write_all(content)?;
//!             connection.handle_sent(now(), content.len() as u64);
//!         }
//!         Output::HalfClose => connection.handle_half_closed(now()),
//!         Output::Close { .. } => return Ok(()),
//!     }
//! }
//! # }
//! # let request = b"GET /track/hello HTTP/1.0\r\nAuthorization: Bearer secret\r\n\r\n";
//! # struct Wire(&'static [u8], Vec<u8>);
//! # impl std::io::Read for Wire {
//! #     fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> { self.0.read(buf) }
//! # }
//! # impl std::io::Write for Wire {
//! #     fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> { self.1.write(buf) }
//! #     fn flush(&mut self) -> std::io::Result<()> { Ok(()) }
//! # }
//! # let mut wire = Wire(request, Vec::new());
//! # drive(&mut wire, b"content").unwrap();
//! # let answer = String::from_utf8(wire.1).unwrap();
//! # assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\ncontent"));
//! ```

use std::{
    fmt,
    time::{Duration, Instant},
};

use peer_proto::{
    FieldName, Method, Validators, auth, framing::LAST_CHUNK, limits::HEAD_BYTES_MAX,
    multipart::Boundary, response::Status,
};

use crate::{
    date::DateText,
    deadline::{Armed, Deadline, Expiry, Now},
    origin::AllowedOrigins,
    plan::{Question, plan},
};

mod access;
mod answer;
mod request;
#[cfg(test)]
mod tests;

use answer::{Asked, Content};
use request::{Request, Rest};

/// The deadlines of a server connection.
#[derive(Clone, Copy, Debug)]
pub struct ServerConfig {
    /// For the whole head of a request. A connection that has not shown the token gets it once,
    /// from its acceptance, whatever it sends.
    pub head_timeout: Duration,
    /// Between the requests of a connection that has shown the token.
    pub idle_timeout: Duration,
    /// For the peer to take one more byte of what is being sent.
    pub stall_timeout: Duration,
    /// For the peer to close its half after ours was closed.
    pub linger_timeout: Duration,
}

impl Default for ServerConfig {
    /// 10 s for a head, 60 s idle, 30 s without progress, 2 s of lingering.
    fn default() -> Self {
        Self {
            head_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            stall_timeout: Duration::from_secs(30),
            linger_timeout: Duration::from_secs(2),
        }
    }
}

/// What the driver does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output<'a> {
    /// Read into [`ServerConnection::receive_buffer`], and report
    /// [`handle_received`](ServerConnection::handle_received) or
    /// [`handle_eof`](ServerConnection::handle_eof).
    Receive,
    /// Compare the presented token, in constant time, and report
    /// [`handle_authorized`](ServerConnection::handle_authorized).
    Authorize {
        /// The credentials as they came; a capability and its name, spelled as
        /// [`write_capability_target`](peer_proto::target::write_capability_target) does without the
        /// first slash, or nothing. Keep them out of logs.
        token: &'a [u8],
    },
    /// Ask the app for the source of this handle, and report
    /// [`handle_source`](ServerConnection::handle_source).
    Resolve {
        /// The decoded handle.
        handle: &'a str,
    },
    /// Write all of these bytes, and report `handle_sent(now, 0)`.
    Send {
        /// A head, or framing. Content of a source never comes here.
        bytes: &'a [u8],
    },
    /// Read from the source, write `prefix` and what was read, and report
    /// [`handle_sent`](ServerConnection::handle_sent) with the number of *content* bytes. Any number up
    /// to `len` may be sent at a time; zero says that `prefix` alone is out.
    ///
    /// Read before writing: while `prefix` is a head that is not out yet, a source that fails
    /// still gets an honest 500.
    SendSource {
        /// Bytes that go before the content, in the same write if that is possible.
        prefix: &'a [u8],
        /// Where in the source to read.
        offset: u64,
        /// How many bytes are left to send; `None` means to the source's end, to be reported by
        /// [`handle_source_end`](ServerConnection::handle_source_end).
        len: Option<u64>,
        /// Whether each block must be enclosed as a chunk
        /// ([`peer_proto::framing::write_chunk_size`]).
        chunked: bool,
    },
    /// Close our half, and report
    /// [`handle_half_closed`](ServerConnection::handle_half_closed).
    HalfClose,
    /// Close the connection. Nothing more comes.
    Close {
        /// Why.
        reason: CloseReason,
    },
}

/// How a request shows that it may be served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// By a token in `Authorization`. The target is `/track/{handle}`.
    #[default]
    Bearer,
    /// By its target, `/{capability}/{name}`, for players that can send nothing else. Only a loopback
    /// `Host` is answered, and no page of another origin unless it is allowed. Whatever is refused
    /// gets the same 403. [`Output::Authorize`] presents both segments, and [`Output::Resolve`] the
    /// name.
    Capability,
}

impl Access {
    const fn refusal(self) -> Status {
        match self {
            Self::Bearer => Status::Unauthorized,
            Self::Capability => Status::Forbidden,
        }
    }
}

/// Why a request with a capability is refused, whatever its capability is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Foreign {
    /// It calls this server by a name that is not the loopback's: a page whose own name was made to
    /// lead here (DNS rebinding), or something that forwards.
    Host,
    /// It comes from a page of another origin.
    Origin,
}

/// What a presented token is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authorization {
    /// It is a valid one: serve the request.
    Granted,
    /// It is not: 401, or 403 for a capability.
    Denied,
    /// It is, but there is no room for another connection: 503, and close.
    Overloaded,
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseReason {
    /// The peer closed between two requests, or asked for it.
    Finished,
    /// The peer closed inside a head or its request's content.
    Incomplete,
    /// A request that leaves no way to find the next one: answered, then closed.
    Refused(Status),
    /// A deadline passed.
    TimedOut(Deadline),
    /// The source failed or ended early when the head was out. The connection must be cut at once,
    /// so that the peer sees the loss; where content ends by the connection's end, only a reset
    /// would show it, and a driver that can reset should.
    SourceFailed,
}

/// What the app's source says of itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct SourceInfo<'a> {
    /// Its length in bytes; `None`: only its end will tell.
    pub complete_length: Option<u64>,
    /// Its media type. One that is no field value is not sent.
    pub content_type: Option<&'a str>,
    /// Its validators.
    pub validators: Validators,
}

/// Bytes read and dropped after our half was closed.
const LINGER_BYTES_MAX: usize = 1 << 20;

/// Room for received bytes at first: more than a head of our own client or of most players.
const BUFFER_BYTES_MIN: usize = 512;

/// Wrong tokens on one connection before it is closed.
const DENIALS_MAX: u32 = 3;

#[derive(Clone)]
enum State {
    Head,
    /// The token stands at this place in the buffer.
    Authorize {
        start: usize,
        len: usize,
    },
    /// The target itself is what is presented.
    Present {
        path: Vec<u8>,
        name: String,
    },
    Resolve {
        handle: String,
    },
    /// `out` goes out; then the request is done.
    Answer,
    /// `out`, then the rest of this span; the others after it.
    Spans {
        parts: Content,
        index: usize,
        sent: u64,
    },
    /// `out`, then the source from `offset` on, to its end.
    Stream {
        offset: u64,
        chunked: bool,
    },
    /// Request content that is read past.
    Discard {
        rest: Rest,
        budget: u64,
    },
    HalfClose {
        reason: CloseReason,
    },
    Linger {
        reason: CloseReason,
        budget: usize,
    },
    Closed {
        reason: CloseReason,
    },
}

/// One server connection: see the module's documentation.
///
/// Its `Debug` tells where it stands, and nothing of what came from the peer.
///
/// Facts come in answer to [`poll_output`](Self::poll_output). The end of the peer's half, the time
/// and the failure of a source may be stated whenever they happen. Any other fact that was not asked
/// for is a bug of the driver: with debug assertions a panic, without them it changes nothing.
#[derive(Clone)]
pub struct ServerConnection {
    config: ServerConfig,
    access: Access,
    /// What the current request came by that must not be served, whatever it presents.
    foreign: Option<Foreign>,
    allowed_origins: AllowedOrigins,
    /// Which of these the current request comes from.
    origin: Option<usize>,
    boundary: Boundary,
    /// Received bytes that no answer has consumed yet stand at `start..filled`. Grows for a head that
    /// needs it, up to [`HEAD_BYTES_MAX`].
    buffer: Vec<u8>,
    start: usize,
    filled: usize,
    /// Up to here, the unfinished head was searched for a line's end.
    searched: usize,
    /// Control bytes that go out before, or instead of, content.
    out: Vec<u8>,
    date: DateText,
    state: State,
    request: Option<Request>,
    /// The connection ends with the current answer, and why.
    closing: Option<CloseReason>,
    armed: Option<Armed>,
    /// The one deadline that a peer gets before it has shown the token.
    stranger: Option<Armed>,
    /// The token was shown: this peer is no stranger.
    authorized: bool,
    /// Wrong tokens so far.
    denials: u32,
    /// No byte of the current answer went out yet.
    head_pending: bool,
    /// Status of the latest answer.
    status: Option<Status>,
}

impl ServerConnection {
    /// A connection that was accepted just now. `random` must differ between connections and be
    /// unknown to whoever makes the content: it becomes the multipart boundary.
    #[must_use]
    pub fn new(config: ServerConfig, random: u128, now: Now) -> Self {
        let stranger = Armed::new(Deadline::Head, now.instant, config.head_timeout);
        Self {
            config,
            access: Access::Bearer,
            foreign: None,
            allowed_origins: AllowedOrigins::default(),
            origin: None,
            boundary: Boundary::new(random),
            buffer: Vec::new(),
            start: 0,
            filled: 0,
            searched: 0,
            out: Vec::new(),
            date: DateText::default(),
            state: State::Head,
            request: None,
            closing: None,
            armed: stranger,
            stranger,
            authorized: false,
            denials: 0,
            head_pending: false,
            status: None,
        }
    }

    /// Lets pages of these origins read the answers, and answers their preflights without the
    /// token (Fetch, the CORS protocol). Every answer then says that it varies by `Origin`; to
    /// other origins, and to requests without one, it says nothing more.
    #[must_use]
    pub fn with_allowed_origins(mut self, origins: AllowedOrigins) -> Self {
        self.allowed_origins = origins;
        self
    }

    /// Lets requests in by another way than the token.
    #[must_use]
    pub const fn with_access(mut self, access: Access) -> Self {
        self.access = access;
        self
    }

    /// Why the request whose credentials are to be judged is refused whatever they are worth. They are
    /// judged all the same, so that the time taken tells nothing.
    #[must_use]
    pub const fn foreign(&self) -> Option<Foreign> {
        self.foreign
    }

    /// What to do next. Changes only by a `handle_*` call.
    #[must_use]
    pub fn poll_output(&self) -> Output<'_> {
        match &self.state {
            State::Head | State::Discard { .. } | State::Linger { .. } => Output::Receive,
            &State::Authorize { start, len } => Output::Authorize {
                token: &self.buffer[start..start + len],
            },
            State::Present { path, .. } => Output::Authorize { token: path },
            State::Resolve { handle } => Output::Resolve { handle },
            State::Answer => Output::Send { bytes: &self.out },
            State::Spans { parts, index, sent } => {
                let span = parts.spans()[*index];
                Output::SendSource {
                    prefix: &self.out,
                    offset: span.offset + sent,
                    len: Some(span.len - sent),
                    chunked: false,
                }
            }
            &State::Stream { offset, chunked } => Output::SendSource {
                prefix: &self.out,
                offset,
                len: None,
                chunked,
            },
            State::HalfClose { .. } => Output::HalfClose,
            &State::Closed { reason } => Output::Close { reason },
        }
    }

    /// The deadline that is armed, and when it ends. `None` while the app, not the peer, is waited
    /// for.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Deadline, Instant)> {
        self.armed.map(|armed| (armed.deadline, armed.at))
    }

    /// The status of the latest answer, from the moment it is decided.
    #[must_use]
    pub const fn status(&self) -> Option<Status> {
        self.status
    }

    /// Whether this peer has shown the token.
    #[must_use]
    pub const fn is_authorized(&self) -> bool {
        self.authorized
    }

    /// Where received bytes go: never empty while [`Output::Receive`] is due.
    pub fn receive_buffer(&mut self) -> &mut [u8] {
        if self.start == self.filled || matches!(self.state, State::Linger { .. }) {
            self.searched = 0;
            self.start = 0;
            self.filled = 0;
        } else if self.filled == self.buffer.len() {
            self.buffer.copy_within(self.start.., 0);
            self.filled -= self.start;
            self.searched = self.searched.saturating_sub(self.start);
            self.start = 0;
        }
        if self.filled == self.buffer.len() {
            let room = (2 * self.filled).clamp(BUFFER_BYTES_MIN, HEAD_BYTES_MAX);
            // To the byte: what a vector adds of its own would stay for as long as the connection.
            self.buffer.reserve_exact(room - self.filled);
            self.buffer.resize(room, 0);
        }
        &mut self.buffer[self.filled..]
    }

    /// States that `n` bytes were received into [`receive_buffer`](Self::receive_buffer).
    ///
    /// # Panics
    /// When that is more than the buffer had room for: the driver's bug.
    pub fn handle_received(&mut self, now: Now, n: usize) {
        if !was_asked(matches!(self.poll_output(), Output::Receive)) {
            return;
        }
        assert!(
            n <= self.buffer.len() - self.filled,
            "received more than there is room for"
        );
        self.filled += n;
        match &mut self.state {
            State::Discard { .. } => self.discard(now),
            &mut State::Linger {
                reason,
                ref mut budget,
            } => {
                *budget = budget.saturating_sub(n);
                if *budget == 0 {
                    self.close(reason);
                }
            }
            // Nothing else receives.
            _ => self.parse_head(now),
        }
    }

    /// States that the peer has closed its half. What it asked for before is still answered, so
    /// this is only heard when more input is needed.
    pub fn handle_eof(&mut self, now: Now) {
        match self.state {
            State::Head if self.start == self.filled => self.close(CloseReason::Finished),
            State::Head => {
                // The last line was not looked at yet if it came in pieces.
                self.searched = 0;
                self.parse_head(now);
                if matches!(self.state, State::Head) {
                    self.close(CloseReason::Incomplete);
                }
            }
            State::Discard { .. } => self.close(CloseReason::Incomplete),
            State::Linger { reason, .. } => self.close(reason),
            _ => {}
        }
    }

    /// States that time has passed. Nothing happens before [`poll_timeout`](Self::poll_timeout).
    pub fn handle_timeout(&mut self, now: Now) {
        let Some(armed) = &mut self.armed else { return };
        let deadline = armed.deadline;
        match armed.expire(now.instant) {
            Expiry::NotYet => return,
            Expiry::Renewed => {
                // A stranger's one deadline was given once more, not once more for each request.
                if self.stranger.is_some_and(|s| s.deadline == deadline) {
                    self.stranger = self.armed;
                }
                return;
            }
            Expiry::Passed => {}
        }
        let reason = CloseReason::TimedOut(deadline);
        match self.state {
            // Whoever sent a part of a request is told; whoever sent nothing is not.
            State::Head | State::Discard { .. } if self.start < self.filled => {
                self.refuse(now, Status::RequestTimeout, reason);
            }
            State::Linger { reason, .. } => self.close(reason),
            _ => self.close(reason),
        }
    }

    /// States what the presented token is worth.
    pub fn handle_authorized(&mut self, now: Now, authorization: Authorization) {
        if !was_asked(matches!(self.poll_output(), Output::Authorize { .. })) {
            return;
        }
        let name = match &self.state {
            State::Present { name, .. } => Some(name.clone()),
            _ => None,
        };
        let authorization = match (authorization, self.foreign) {
            (Authorization::Granted, Some(_)) => Authorization::Denied,
            (authorization, _) => authorization,
        };
        match authorization {
            Authorization::Granted => self.authorized = true,
            Authorization::Denied => {
                self.denials += 1;
                let status = self.access.refusal();
                if self.denials >= DENIALS_MAX {
                    self.closing.get_or_insert(CloseReason::Refused(status));
                }
                if self.access == Access::Capability {
                    return self.answer_error(now, status, |_| {});
                }
                return self.answer_error(now, Status::Unauthorized, |head| {
                    head.field("WWW-Authenticate", auth::CHALLENGE_INVALID_TOKEN);
                });
            }
            Authorization::Overloaded => {
                let status = Status::ServiceUnavailable;
                self.closing.get_or_insert(CloseReason::Refused(status));
                return self.answer_error(now, status, |head| {
                    head.field("Retry-After", "1");
                });
            }
        }
        // Where no capability is asked for, a preflight got its answer without a token.
        if self.origin.is_some() && self.is_preflight() {
            return self.answer_preflight(now);
        }
        match self.check_request(name) {
            Ok(handle) => {
                self.armed = None;
                self.enter(State::Resolve { handle });
            }
            Err(status @ Status::MethodNotAllowed) => self.answer_error(now, status, |head| {
                head.field("Allow", "GET, HEAD");
            }),
            // Whatever the peer thinks it asked for, it is not sure to frame the next one either.
            Err(Status::BadRequest) => self.give_up(now, Status::BadRequest),
            Err(status) => self.answer_error(now, status, |_| {}),
        }
    }

    /// States what the app's resolver gave: `None` for a handle it does not know.
    pub fn handle_source(&mut self, now: Now, source: Option<SourceInfo<'_>>) {
        if !was_asked(matches!(self.state, State::Resolve { .. })) {
            return;
        }
        let (Some(source), Some(request)) = (source, &self.request) else {
            return self.answer_error(now, Status::NotFound, |_| {});
        };
        let fields = request.head.fields(&self.buffer[self.start..self.filled]);
        let asked = Asked {
            is_head: request.head.method == Method::Head,
            if_range: fields.has(FieldName::IfRange),
        };
        let plan = plan(&Question {
            method: request.head.method,
            version: request.head.version,
            close: self.closing.is_some(),
            fields,
            complete_length: source.complete_length,
            validators: source.validators,
            now: now.date,
        });
        self.answer(now, plan, &source, asked);
    }

    /// States that the peer can take bytes from now on, or took some: the stall deadline starts
    /// anew. Call it before each write, and after one that took only a part.
    pub fn handle_progress(&mut self, now: Now) {
        if was_asked(self.is_sending()) {
            self.arm(now, Deadline::Stall, self.config.stall_timeout);
        }
    }

    /// States that the bytes of the current [`Output::Send`] were sent, or the prefix of the
    /// current [`Output::SendSource`] and `content` bytes of the source behind it.
    ///
    /// # Panics
    /// When that is more content than was asked for: the driver's bug.
    pub fn handle_sent(&mut self, now: Now, content: u64) {
        if !was_asked(self.is_sending()) {
            return;
        }
        self.out.clear();
        self.head_pending = false;
        match &mut self.state {
            State::Answer => self.finish(now),
            State::Stream { offset, .. } => *offset = offset.saturating_add(content),
            _ => self.spans_sent(now, content),
        }
    }

    /// States that the source has no byte at the offset asked for. Where its length is known, it has
    /// [failed](Self::handle_source_failed) by that.
    pub fn handle_source_end(&mut self, now: Now) {
        match self.state {
            State::Stream { chunked: true, .. } => {
                self.out.extend_from_slice(LAST_CHUNK);
                self.enter(State::Answer);
            }
            // An empty stream: its head is still to be sent.
            State::Stream { chunked: false, .. } if !self.out.is_empty() => {
                self.enter(State::Answer);
            }
            State::Stream { chunked: false, .. } => self.finish(now),
            _ => self.handle_source_failed(now),
        }
    }

    /// States that the app's resolver or source failed, panicked, or has changed since the answer
    /// was begun. Before anything went out this is a 500; after it, the connection is cut.
    pub fn handle_source_failed(&mut self, now: Now) {
        match self.state {
            State::Resolve { .. } => self.answer_error(now, Status::InternalServerError, |_| {}),
            State::Spans { .. } | State::Stream { .. } if self.head_pending => {
                self.answer_error(now, Status::InternalServerError, |_| {});
            }
            State::Closed { .. } => {}
            _ => self.close(CloseReason::SourceFailed),
        }
    }

    /// States that our half is closed.
    pub fn handle_half_closed(&mut self, now: Now) {
        let State::HalfClose { reason } = self.state else {
            was_asked(false);
            return;
        };
        self.arm(now, Deadline::Linger, self.config.linger_timeout);
        self.enter(State::Linger {
            reason,
            budget: LINGER_BYTES_MAX,
        });
    }

    const fn is_sending(&self) -> bool {
        matches!(
            self.state,
            State::Answer | State::Spans { .. } | State::Stream { .. }
        )
    }

    // Between two requests.

    /// The answer is out: on to the next request, or to the end.
    fn finish(&mut self, now: Now) {
        let mut unread = true;
        if let Some(request) = self.request.take() {
            self.start += request.head.head_len();
            unread = request.unread || self.start < self.filled;
        }
        match self.closing {
            None => self.next_request(now),
            Some(CloseReason::Finished) if !unread => self.close(CloseReason::Finished),
            // A connection closed on unread bytes is reset, and the answer may be lost with it
            // (RFC 9112 §9.6).
            Some(reason) => self.enter(State::HalfClose { reason }),
        }
    }

    fn next_request(&mut self, now: Now) {
        self.searched = 0;
        self.origin = None;
        self.foreign = None;
        self.enter(State::Head);
        if self.start < self.filled {
            self.arm_receive(now, Deadline::Head, self.config.head_timeout);
            self.parse_head(now);
        } else {
            self.arm_receive(now, Deadline::Idle, self.config.idle_timeout);
        }
    }

    fn arm(&mut self, now: Now, deadline: Deadline, timeout: Duration) {
        self.armed = Armed::new(deadline, now.instant, timeout);
    }

    /// Arms a deadline for what the peer sends. A stranger has one for all of it.
    fn arm_receive(&mut self, now: Now, deadline: Deadline, timeout: Duration) {
        if self.authorized {
            self.arm(now, deadline, timeout);
        } else {
            self.armed = self.stranger;
        }
    }

    fn close(&mut self, reason: CloseReason) {
        self.enter(State::Closed { reason });
    }

    /// The one place where the state changes.
    fn enter(&mut self, state: State) {
        log::trace!("{} -> {}", self.state.name(), state.name());
        if matches!(state, State::Closed { .. }) {
            self.armed = None;
        }
        self.state = state;
    }
}

/// Whether a fact was asked for; if not, it is the driver's bug.
fn was_asked(asked: bool) -> bool {
    debug_assert!(asked, "a fact that was not asked for: a bug of the driver");
    asked
}

impl fmt::Debug for ServerConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerConnection")
            .field("state", &self.state)
            .field("status", &self.status)
            .field("closing", &self.closing)
            .field("deadline", &self.armed.map(|armed| armed.deadline))
            .field("authorized", &self.authorized)
            .field("denials", &self.denials)
            .field("foreign", &self.foreign)
            .field("origin", &self.origin)
            .field("head_pending", &self.head_pending)
            .field("received", &(self.filled - self.start))
            .field("to_send", &self.out.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name();
        match self {
            Self::Head
            | Self::Authorize { .. }
            | Self::Present { .. }
            | Self::Resolve { .. }
            | Self::Answer => f.write_str(name),
            Self::Spans { index, sent, .. } => write!(f, "{name} {index} from {sent}"),
            Self::Stream { offset, chunked } => {
                write!(f, "{name} from {offset}, chunked: {chunked}")
            }
            Self::Discard { budget, .. } => write!(f, "{name} at most {budget}"),
            Self::HalfClose { reason } | Self::Closed { reason } => write!(f, "{name} {reason:?}"),
            Self::Linger { reason, budget } => write!(f, "{name} at most {budget} {reason:?}"),
        }
    }
}

impl State {
    /// For the log: never anything that came from the peer.
    const fn name(&self) -> &'static str {
        match self {
            Self::Head => "head",
            Self::Authorize { .. } => "authorize",
            Self::Present { .. } => "present",
            Self::Resolve { .. } => "resolve",
            Self::Answer => "answer",
            Self::Spans { .. } => "spans",
            Self::Stream { .. } => "stream",
            Self::Discard { .. } => "discard",
            Self::HalfClose { .. } => "half-close",
            Self::Linger { .. } => "linger",
            Self::Closed { .. } => "closed",
        }
    }
}
