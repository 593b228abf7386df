//! One request for bytes of a handle, and the judgement of its answer.
//!
//! [`Fetch`] is told facts (`handle_*`) and asked what to do next ([`Fetch::poll_output`]). It
//! reads heads and chunk-size lines and nothing else: content goes from the socket to its
//! destination, and only its length is reported here. The one exception is content that arrived
//! in the same read as framing, which is lent out of the head buffer.
//!
//! ```text
//! Sending -> Head -> Content -> Done
//!              ^ |       |
//!       interim answers  |
//!    |           |       |
//!    +-----------+-------+----> Failed
//! ```
//!
//! The claim that all of this serves: a fetch that is `Done` handed over exactly the bytes that
//! were asked for, or says in [`FetchDone::short`] that the peer answered with fewer.

mod verdict;

#[cfg(test)]
mod tests;

use std::{
    fmt,
    time::{Duration, Instant},
};

use peer_proto::{
    EntityTag, FieldName, Fields, HeadError, HttpDate, ResponseHead, Token,
    framing::{ChunkDecoder, ChunkError, FramingError},
    limits::HEAD_BYTES_MAX,
    request::{RequestFields, write_request},
    response::unfold,
};

use verdict::Content;
pub use verdict::{Answer, FetchError};

/// Interim answers (1xx) read past before one answer. More is a peer that plays for time.
pub const INTERIM_ANSWERS_MAX: u32 = 16;

/// Media types longer than this are as good as none; RFC 6838 §4.2 allows 127 + 1 + 127 without
/// parameters.
pub const CONTENT_TYPE_BYTES_MAX: usize = 255;

/// What a fetch wants to learn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// The bytes from `start`, at most `len` of them; without `len`, to the end.
    Content {
        /// Offset of the first byte.
        start: u64,
        /// Most bytes wanted, at least 1.
        len: Option<u64>,
    },
    /// Only how long the representation is. Asked with a range of one byte.
    Length,
}

/// The version that an earlier answer belonged to. A part of another one is never taken for its
/// continuation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Version {
    /// Its strong entity-tag, if it has one. Asked for with `If-Range`, and the one proof that two
    /// parts belong together.
    pub entity_tag: Option<EntityTag>,
    /// Its modification date, if the earlier answer told it.
    pub last_modified: Option<HttpDate>,
    /// Its complete length, if the earlier answer told it.
    pub complete_length: Option<u64>,
}

/// A request to make.
#[derive(Clone, Copy)]
pub struct FetchRequest<'a> {
    /// The `Host` field's value.
    pub host: &'a str,
    /// The bearer token.
    pub token: &'a Token,
    /// The handle, not yet encoded.
    pub handle: &'a str,
    /// What is wanted.
    pub want: Want,
    /// Ask for the whole even where a range would do. For peers that refuse every range of some
    /// sources. Only with a start of 0.
    pub without_range: bool,
    /// The version that the answer has to continue.
    pub version: Option<Version>,
}

/// How long to wait. `None` waits for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FetchTimeouts {
    /// From the start of the request to the end of the answer's head.
    pub head: Option<Duration>,
    /// Without a byte of content.
    pub stall: Option<Duration>,
    /// When everything has to be over.
    pub whole: Option<Instant>,
}

/// Which deadline passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FetchDeadline {
    /// The name was not resolved, or the connection not made, in time.
    Connect,
    /// The answer's head did not come in time.
    Head,
    /// No content came for too long.
    Stall,
    /// The operation as a whole took too long.
    Whole,
}

/// What the driver has to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum FetchOutput<'a> {
    /// Send a part of these bytes, then [`Fetch::handle_sent`].
    Send {
        /// The rest of the request.
        bytes: &'a [u8],
    },
    /// Receive into [`Fetch::receive_buffer`], then [`Fetch::handle_received`] or
    /// [`Fetch::handle_eof`].
    Receive,
    /// Hand over a part of these bytes of content, then [`Fetch::handle_content`].
    Content {
        /// Content that came with framing.
        bytes: &'a [u8],
    },
    /// Receive content to where it belongs, then [`Fetch::handle_content`] or
    /// [`Fetch::handle_eof`].
    ReceiveContent {
        /// Most bytes to receive.
        max: u64,
    },
    /// Receive content that was not asked for and drop it, then [`Fetch::handle_content`] or
    /// [`Fetch::handle_eof`].
    ReceiveSkipped {
        /// Most bytes to receive.
        max: u64,
    },
    /// Over: all is well.
    Done(FetchDone),
    /// Over: the content handed over so far must not be taken for what was asked for.
    Failed(FetchError),
}

/// A fetch that went well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchDone {
    /// Length of the whole representation, if the peer told it.
    pub complete_length: Option<u64>,
    /// Bytes of content handed over.
    pub received: u64,
    /// The peer answered with a shorter range than asked for, although there is more: ask again
    /// from behind what was received.
    pub short: bool,
    /// The connection can carry another request.
    pub reusable: bool,
}

#[derive(Clone, Debug)]
enum State {
    Sending { sent: usize },
    Head { interim: u32 },
    Content(Content),
    Done { reusable: bool },
    Failed(FetchError),
}

impl State {
    const fn name(&self) -> &'static str {
        match self {
            Self::Sending { .. } => "sending",
            Self::Head { .. } => "head",
            Self::Content(_) => "content",
            Self::Done { .. } => "done",
            Self::Failed(_) => "failed",
        }
    }
}

/// The media type that an answer gives. One that could not be sent on is none.
fn content_type(fields: &Fields<'_>) -> Option<Box<str>> {
    let value = fields.single(FieldName::ContentType).ok()??;
    let text = std::str::from_utf8(value).ok()?;
    let is_type = text.len() <= CONTENT_TYPE_BYTES_MAX && text.contains('/') && text.is_ascii();
    is_type.then(|| text.into())
}

/// How content is delimited, with the place reached in it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Coding {
    /// By the declared number of bytes.
    Length,
    /// By chunk framing.
    Chunked(ChunkDecoder),
    /// By the end of the connection.
    UntilClose,
}

/// One request and its answer. See the [module](self).
///
/// Its `Debug` tells where it stands: nothing of the request, which holds the token, and no content.
#[derive(Clone)]
pub struct Fetch {
    state: State,
    request: Vec<u8>,
    asked: verdict::Asked,
    answer: Option<Answer>,
    content_type: Option<Box<str>>,
    received: u64,
    progressed: Option<Instant>,
    buffer: HeadBuffer,
    timeouts: FetchTimeouts,
    deadline: Option<(Instant, FetchDeadline)>,
}

impl Fetch {
    /// A fetch that is about to send its request.
    #[must_use]
    pub fn new(request: &FetchRequest<'_>, timeouts: FetchTimeouts, now: Instant) -> Self {
        let asked = verdict::Asked::new(request);
        let mut head = Vec::with_capacity(256);
        write_request(
            &mut head,
            &RequestFields {
                host: request.host,
                token: request.token,
                handle: request.handle,
                range: asked.range,
                if_range: request.version.and_then(|version| version.entity_tag),
                keep_alive: true,
            },
        );
        let mut fetch = Self {
            state: State::Sending { sent: 0 },
            request: head,
            asked,
            answer: None,
            content_type: None,
            received: 0,
            progressed: None,
            buffer: HeadBuffer::new(),
            timeouts,
            deadline: None,
        };
        fetch.arm(now, timeouts.head, FetchDeadline::Head);
        fetch
    }

    /// What to do next. Changes only through the `handle_*` methods.
    #[must_use]
    pub fn poll_output(&self) -> FetchOutput<'_> {
        match &self.state {
            State::Sending { sent } => FetchOutput::Send {
                bytes: &self.request[*sent..],
            },
            State::Head { .. } => FetchOutput::Receive,
            State::Content(content) => {
                let buffered = self.buffer.filled();
                match content.due() {
                    0 => FetchOutput::Receive,
                    due if content.skip > 0 => FetchOutput::ReceiveSkipped { max: due },
                    due if !buffered.is_empty() => FetchOutput::Content {
                        bytes: &buffered[..at_most(buffered.len(), due)],
                    },
                    due => FetchOutput::ReceiveContent { max: due },
                }
            }
            State::Done { reusable } => FetchOutput::Done(FetchDone {
                complete_length: self.answer.and_then(|answer| answer.complete_length),
                received: self.received,
                short: self.answer.is_some_and(|answer| answer.short),
                reusable: *reusable,
            }),
            State::Failed(error) => FetchOutput::Failed(*error),
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due. Renewed by content that arrives.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.deadline.map(|(deadline, _)| deadline)
    }

    /// What the head of the answer told, once it is judged and found to answer the request.
    #[must_use]
    pub const fn answer(&self) -> Option<&Answer> {
        self.answer.as_ref()
    }

    /// The media type that the answer gave the representation: one `Content-Type` field of at most
    /// [`CONTENT_TYPE_BYTES_MAX`] bytes, in ASCII.
    #[must_use]
    pub fn content_type(&self) -> Option<&str> {
        self.content_type.as_deref()
    }

    /// Bytes of content handed over.
    #[must_use]
    pub const fn received(&self) -> u64 {
        self.received
    }

    /// When the last byte of content was handed over.
    #[must_use]
    pub const fn progressed(&self) -> Option<Instant> {
        self.progressed
    }

    /// Whether the peer has sent any byte of an answer. Until then the connection may have been
    /// dead all along, and the request can be made again on another one.
    #[must_use]
    pub const fn has_begun(&self) -> bool {
        match self.state {
            State::Sending { .. } => false,
            State::Head { interim } => interim > 0 || !self.buffer.is_empty(),
            State::Content(_) | State::Done { .. } => true,
            State::Failed(error) => !matches!(error, FetchError::NoAnswer),
        }
    }

    /// The free part of the head buffer, never empty while [`FetchOutput::Receive`] is due.
    pub fn receive_buffer(&mut self) -> &mut [u8] {
        self.buffer.free()
    }

    /// States that `n` bytes of [`FetchOutput::Send`] were sent.
    ///
    /// # Panics
    /// When nothing, or less, was to be sent: a bug of the driver. The same holds for the other
    /// facts below.
    pub fn handle_sent(&mut self, _now: Instant, n: usize) {
        let State::Sending { sent } = &mut self.state else {
            panic!("sent {n} bytes while {}", self.state.name());
        };
        *sent += n;
        assert!(*sent <= self.request.len(), "sent more than there is");
        if *sent == self.request.len() {
            self.enter(State::Head { interim: 0 });
        }
    }

    /// States that `n` bytes, at least one, were received into the head buffer.
    pub fn handle_received(&mut self, now: Instant, n: usize) {
        assert!(
            n > 0 && matches!(self.poll_output(), FetchOutput::Receive),
            "received {n} bytes while {}",
            self.state.name()
        );
        self.buffer.fill(n);
        if matches!(self.state, State::Content(_)) {
            self.arm(now, self.timeouts.stall, FetchDeadline::Stall);
        } else {
            self.read_heads(now);
        }
        self.advance();
    }

    /// States that `n` bytes, at least one, of [`FetchOutput::Content`],
    /// [`FetchOutput::ReceiveContent`] or [`FetchOutput::ReceiveSkipped`] are where they belong.
    pub fn handle_content(&mut self, now: Instant, n: u64) {
        let State::Content(content) = &mut self.state else {
            panic!("{n} bytes of content while {}", self.state.name());
        };
        let buffered = self.buffer.filled().len();
        let due = content.due();
        let lent = content.skip == 0 && buffered > 0;
        let max = if lent {
            at_most(buffered, due) as u64
        } else {
            due
        };
        assert!(
            n > 0 && n <= max,
            "{n} bytes of content where {max} were due"
        );
        if content.skip == 0 {
            self.received += n;
            self.progressed = Some(now);
        }
        content.take_content(n);
        if lent {
            // Not more than what is buffered, so it fits.
            self.buffer.consume(n as usize);
        }
        self.arm(now, self.timeouts.stall, FetchDeadline::Stall);
        self.advance();
    }

    /// States that the driver left content lying for a while, and goes on: the time in between
    /// was not the peer's.
    pub fn handle_resumed(&mut self, now: Instant) {
        if matches!(self.state, State::Content(_)) {
            self.arm(now, self.timeouts.stall, FetchDeadline::Stall);
        }
    }

    /// States that the peer ended its half of the connection.
    pub fn handle_eof(&mut self, _now: Instant) {
        let end = match &self.state {
            State::Sending { .. } | State::Head { .. } if !self.has_begun() => {
                Err(FetchError::NoAnswer)
            }
            State::Sending { .. } | State::Head { .. } => Err(FetchError::HeadCut),
            State::Content(content) => content.at_eof(self.received),
            State::Done { .. } | State::Failed(_) => return,
        };
        match end {
            Ok(()) => self.enter(State::Done { reusable: false }),
            Err(error) => self.fail(error),
        }
    }

    /// States that time has passed. Does nothing before [`poll_timeout`](Self::poll_timeout).
    pub fn handle_timeout(&mut self, now: Instant) {
        if matches!(self.state, State::Done { .. } | State::Failed(_)) {
            return;
        }
        if let Some((_, which)) = self.deadline.filter(|(deadline, _)| now >= *deadline) {
            self.fail(FetchError::TimedOut(which));
        }
    }

    /// Arms the nearer of a deadline from now and that of the whole.
    fn arm(&mut self, now: Instant, timeout: Option<Duration>, which: FetchDeadline) {
        // A timeout beyond what an Instant can say is none.
        let deadline = timeout.and_then(|timeout| now.checked_add(timeout));
        self.deadline = match (deadline, self.timeouts.whole) {
            (Some(deadline), Some(whole)) if deadline < whole => Some((deadline, which)),
            (_, Some(whole)) => Some((whole, FetchDeadline::Whole)),
            (Some(deadline), None) => Some((deadline, which)),
            (None, None) => None,
        };
    }

    /// Reads as many heads as there are, until one is the answer.
    fn read_heads(&mut self, now: Instant) {
        while let State::Head { interim } = self.state {
            let head = match parse_head(self.buffer.filled_mut()) {
                Ok(Some(head)) => head,
                Ok(None) => return,
                Err(error) => return self.fail(FetchError::Head(error)),
            };
            let head_len = head.head_len();
            match head.status {
                101 => return self.fail(FetchError::SwitchingProtocols),
                100..=199 if interim == INTERIM_ANSWERS_MAX => {
                    return self.fail(FetchError::TooManyInterimAnswers);
                }
                100..=199 => {
                    self.buffer.consume(head_len);
                    // A head may fill the buffer, so it has to begin at its start.
                    self.buffer.compact();
                    self.enter(State::Head {
                        interim: interim + 1,
                    });
                }
                _ => {
                    let fields = head.fields(self.buffer.filled());
                    let judged = self.asked.judge(&head, &fields);
                    if judged.is_ok() {
                        self.content_type = content_type(&fields);
                    }
                    self.buffer.consume(head_len);
                    match judged {
                        Ok((answer, content)) => {
                            self.answer = Some(answer);
                            self.arm(now, self.timeouts.stall, FetchDeadline::Stall);
                            self.enter(State::Content(content));
                        }
                        Err(error) => self.fail(error),
                    }
                }
            }
        }
    }

    /// Goes on as far as the buffered bytes reach.
    fn advance(&mut self) {
        while let State::Content(content) = &mut self.state {
            let buffered = self.buffer.filled();
            match content.advance(buffered, self.received) {
                Ok(verdict::Step::Used(n)) => {
                    self.buffer.consume(n);
                }
                Ok(verdict::Step::Wait) => return,
                Ok(verdict::Step::End { framed }) => {
                    // What lies behind the answer was not asked for: nothing on this connection
                    // can be trusted to answer the next request.
                    let reusable = framed
                        && buffered.is_empty()
                        && self.answer.is_some_and(|answer| answer.persistent);
                    self.enter(State::Done { reusable });
                }
                Err(error) => self.fail(error),
            }
        }
    }

    fn fail(&mut self, error: FetchError) {
        self.enter(State::Failed(error));
    }

    fn enter(&mut self, state: State) {
        log::trace!("fetch: {} -> {}", self.state.name(), state.name());
        self.state = state;
    }
}

/// Parses a head, unfolding its fields if need be.
fn parse_head(bytes: &mut [u8]) -> Result<Option<ResponseHead>, HeadError> {
    match ResponseHead::parse(bytes) {
        Err(HeadError::FieldLine) if unfold(bytes) => ResponseHead::parse(bytes),
        result => result,
    }
}

/// `len`, or `max` where that is less.
fn at_most(len: usize, max: u64) -> usize {
    usize::try_from(max).map_or(len, |max| len.min(max))
}

impl fmt::Debug for Fetch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetch")
            .field("state", &self.state)
            .field("answer", &self.answer)
            .field("received", &self.received)
            .field("buffered", &self.buffer.filled().len())
            .field("deadline", &self.deadline.map(|(_, which)| which))
            .finish_non_exhaustive()
    }
}

/// The one buffer: heads, chunk framing, and content that came with them.
#[derive(Clone)]
struct HeadBuffer {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

impl HeadBuffer {
    fn new() -> Self {
        Self {
            bytes: vec![0; HEAD_BYTES_MAX].into_boxed_slice(),
            start: 0,
            end: 0,
        }
    }

    const fn is_empty(&self) -> bool {
        self.start == self.end
    }

    fn filled(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    fn filled_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.end]
    }

    fn free(&mut self) -> &mut [u8] {
        &mut self.bytes[self.end..]
    }

    fn fill(&mut self, n: usize) {
        assert!(n <= self.bytes.len() - self.end, "received more than fits");
        self.end += n;
    }

    fn consume(&mut self, n: usize) {
        self.start += n;
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
    }

    fn compact(&mut self) {
        self.bytes.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
    }
}

impl From<ChunkError> for FetchError {
    fn from(error: ChunkError) -> Self {
        Self::Chunk(error)
    }
}

impl From<FramingError> for FetchError {
    fn from(error: FramingError) -> Self {
        Self::Framing(error)
    }
}
