//! From received bytes to a request whose credentials can be judged: its head, and reading past
//! its content.

use peer_proto::{
    FieldName, Framing, HeadError, Method, RequestHead, Version,
    auth::{self, Credentials},
    framing::{self, ChunkDecoder, FramingError},
    limits::{DISCARD_BYTES_MAX, HEAD_BYTES_MAX, START_LINE_BYTES_MAX},
    response::Status,
    target::{self, Target, TargetError},
};

use super::{Access, CloseReason, ServerConnection, State};
use crate::deadline::{Deadline, Now};

/// The current request: a parsed head whose bytes are at the start of the buffer.
#[derive(Clone)]
pub(super) struct Request {
    pub(super) head: RequestHead,
    /// Bytes of it may still come: its content was not read to the end.
    pub(super) unread: bool,
}

/// Request content that is still to come.
#[derive(Clone)]
pub(super) enum Rest {
    Length(u64),
    Chunked(ChunkDecoder),
}

impl Rest {
    const fn is_done(&self) -> bool {
        match self {
            Self::Length(remaining) => *remaining == 0,
            Self::Chunked(decoder) => decoder.is_done(),
        }
    }
}

impl ServerConnection {
    pub(super) fn parse_head(&mut self, now: Now) {
        // Without another line's end the head cannot have become complete, and parsing it again
        // for every byte of a trickle would cost the square of its length.
        let head = &self.buffer[self.start..self.filled];
        let is_first = self.searched <= self.start;
        let has_line_end = self.buffer[self.searched.max(self.start)..self.filled].contains(&b'\n');
        let is_full = head.len() == HEAD_BYTES_MAX;
        let is_one_long_line = head.len() > START_LINE_BYTES_MAX && !head.contains(&b'\n');
        if !(is_first || has_line_end || is_full || is_one_long_line) {
            self.searched = self.filled;
            return;
        }
        match RequestHead::parse(&self.buffer[self.start..self.filled]) {
            Ok(Some(head)) => {
                self.searched = 0;
                self.begin(now, head);
            }
            Ok(None) => {
                if self
                    .armed
                    .is_some_and(|armed| armed.deadline == Deadline::Idle)
                {
                    self.arm(now, Deadline::Head, self.config.head_timeout);
                }
                self.searched = self.filled;
            }
            Err(error) => {
                let status = match error {
                    HeadError::StartLineTooLong => Status::UriTooLong,
                    HeadError::TooLong | HeadError::TooManyFields => {
                        Status::RequestHeaderFieldsTooLarge
                    }
                    HeadError::Version => Status::HttpVersionNotSupported,
                    _ => Status::BadRequest,
                };
                self.refuse(now, status, CloseReason::Refused(status));
            }
        }
    }

    /// Takes a complete head: the message itself is checked, then read to its end.
    fn begin(&mut self, now: Now, head: RequestHead) {
        let bytes = &self.buffer[self.start..self.filled];
        self.origin = self.allowed_origins.find(&head.fields(bytes));
        let message = Message::check(&head, bytes);
        let (framing, close) = match message {
            Ok(message) => (message.framing, message.close),
            Err(status) => {
                // Kept for its method and version alone: nothing behind it is read.
                self.request = Some(Request { head, unread: true });
                return self.give_up(now, status);
            }
        };
        self.closing = close.then_some(CloseReason::Finished);
        let rest = match framing {
            Framing::Length(length) if length > 0 => Rest::Length(length),
            Framing::Chunked => Rest::Chunked(ChunkDecoder::new()),
            _ => {
                self.request = Some(Request {
                    head,
                    unread: false,
                });
                return self.present(now);
            }
        };
        // Whoever waits for a 100 may or may not send the content after a final answer (RFC 9110
        // §10.1.1); and more than a little is not worth reading. What comes behind such a request
        // cannot be told from its content, so the connection ends with the answer.
        let fields = head.fields(bytes);
        let expects_continue = fields.has(FieldName::Expect) && head.version == Version::Http11;
        let too_much = matches!(rest, Rest::Length(length) if length > DISCARD_BYTES_MAX);
        let head_is_full = head.head_len() == HEAD_BYTES_MAX;
        self.request = Some(Request { head, unread: true });
        if expects_continue || too_much || head_is_full {
            self.closing = Some(CloseReason::Finished);
            return self.present(now);
        }
        self.enter(State::Discard {
            rest,
            budget: DISCARD_BYTES_MAX,
        });
        self.discard(now);
    }

    /// Reads past the request's content, out of the buffer; its head stays where it is.
    pub(super) fn discard(&mut self, now: Now) {
        let (State::Discard { rest, budget }, Some(request)) = (&mut self.state, &mut self.request)
        else {
            return;
        };
        let content_start = self.start + request.head.head_len();
        let mut at = content_start;
        let read = loop {
            let input = &self.buffer[at..self.filled];
            let used = match rest {
                Rest::Length(remaining) => {
                    let used = clamp(*remaining, input.len());
                    *remaining -= used as u64;
                    used
                }
                // A chunk that is larger than what is read need not be waited for.
                Rest::Chunked(decoder) if decoder.content_remaining() > *budget => {
                    self.closing = Some(CloseReason::Finished);
                    break Ok(true);
                }
                Rest::Chunked(decoder) => match clamp(decoder.content_remaining(), input.len()) {
                    0 => match decoder.parse(input) {
                        Ok(used) => used,
                        Err(_) => break Err(Status::BadRequest),
                    },
                    content => {
                        decoder.take_content(content as u64);
                        content
                    }
                },
            };
            at += used;
            *budget = budget.saturating_sub(used as u64);
            if rest.is_done() {
                request.unread = false;
                break Ok(true);
            }
            if *budget == 0 {
                self.closing = Some(CloseReason::Finished);
                break Ok(true);
            }
            let waits = match rest {
                Rest::Chunked(decoder) => decoder.content_remaining() <= *budget,
                Rest::Length(_) => true,
            };
            if at == self.filled && waits {
                break Ok(false);
            }
        };
        self.buffer.copy_within(at..self.filled, content_start);
        self.filled -= at - content_start;
        match read {
            Ok(true) => self.present(now),
            Ok(false) => {}
            Err(status) => self.give_up(now, status),
        }
    }

    /// Has the request's credentials judged, or answers a preflight of an allowed origin.
    fn present(&mut self, now: Now) {
        let Some(Request { head, .. }) = &self.request else {
            return;
        };
        let bytes = &self.buffer[self.start..self.filled];
        if self.access == Access::Capability {
            return self.present_target();
        }
        // A browser never puts the token into a preflight, so it is not asked for. The answer is
        // the same whatever the target: nothing about that shows.
        if self.origin.is_some() && self.is_preflight() {
            return self.answer_preflight(now);
        }
        match auth::credentials(&head.fields(bytes)) {
            Credentials::Bearer(token) => {
                let start = token.as_ptr() as usize - self.buffer.as_ptr() as usize;
                let len = token.len();
                self.enter(State::Authorize { start, len });
            }
            Credentials::Repeated => self.answer_error(now, Status::BadRequest, |_| {}),
            Credentials::Absent | Credentials::Unusable => {
                self.answer_error(now, Status::Unauthorized, |head| {
                    head.field("WWW-Authenticate", auth::CHALLENGE);
                });
            }
        }
    }

    /// Whether a browser asks what a page may send (Fetch, the CORS protocol).
    pub(super) fn is_preflight(&self) -> bool {
        self.request.as_ref().is_some_and(|Request { head, .. }| {
            let fields = head.fields(&self.buffer[self.start..self.filled]);
            head.method == Method::Options && fields.has(FieldName::AccessControlRequestMethod)
        })
    }

    /// The checks that only a peer with the token gets to see. `name` is what a capability named.
    pub(super) fn check_request(&self, name: Option<String>) -> Result<String, Status> {
        let Some(Request { head, .. }) = &self.request else {
            return Err(Status::BadRequest);
        };
        let bytes = &self.buffer[self.start..self.filled];
        match head.method {
            Method::Get | Method::Head => {}
            Method::Options | Method::Other => return Err(Status::MethodNotAllowed),
            Method::Unknown => return Err(Status::NotImplemented),
        }
        let mut expectations = head.fields(bytes).members(FieldName::Expect);
        // HTTP/1.0 knows no expectations (RFC 9110 §10.1.1).
        if head.version == Version::Http11
            && !expectations.all(|member| member.eq_ignore_ascii_case(b"100-continue"))
        {
            return Err(Status::ExpectationFailed);
        }
        if let Some(name) = name {
            return Ok(name);
        }
        match Target::parse(head.target(bytes)) {
            Ok(Target::Handle(handle)) => Ok(handle),
            Ok(Target::Other) => Err(Status::NotFound),
            Err(TargetError::Scheme) => Err(Status::MisdirectedRequest),
            Err(_) => Err(Status::BadRequest),
        }
    }
}

/// What a request says before anybody looks at its token or target.
struct Message {
    framing: Framing,
    /// Whether the peer wants the connection to end with the answer.
    close: bool,
}

impl Message {
    /// Checks the message that starts `bytes`. Behind one that fails, no next request can be
    /// found.
    fn check(head: &RequestHead, bytes: &[u8]) -> Result<Self, Status> {
        let fields = head.fields(bytes);
        let mut hosts = fields.all(FieldName::Host);
        let host_is_valid = match (hosts.next(), hosts.next()) {
            (Some(host), None) => target::is_host(host),
            (None, _) => head.version == Version::Http10,
            (Some(_), Some(_)) => false,
        };
        if !host_is_valid {
            return Err(Status::BadRequest);
        }
        let framing = framing::of_request(head.version, &fields).map_err(|error| match error {
            FramingError::UnknownCoding => Status::NotImplemented,
            _ => Status::BadRequest,
        })?;
        let says_close = fields.has_member(FieldName::Connection, "close");
        let keep_alive = match head.version {
            Version::Http10 => fields.has_member(FieldName::Connection, "keep-alive"),
            Version::Http11 => true,
        };
        Ok(Self {
            framing,
            close: says_close || !keep_alive,
        })
    }
}

/// `remaining`, at most `available`.
fn clamp(remaining: u64, available: usize) -> usize {
    usize::try_from(remaining)
        .unwrap_or(usize::MAX)
        .min(available)
}
