//! From a decision to an answer: the head, and what content follows it.

use peer_proto::{
    ContentRange, Framing, Method, Span, Validators, Version,
    field::is_field_value,
    multipart::PartHead,
    response::{HeadWriter, Status},
};

use super::{Access, CloseReason, ServerConnection, SourceInfo, State};
use crate::{
    deadline::{Deadline, Now},
    origin,
    plan::{Parts, Plan},
};

/// Media type of a source that does not say.
const UNKNOWN_TYPE: &str = "application/octet-stream";

/// Media types longer than this are not sent; RFC 6838 §4.2 allows 127 + 1 + 127 without
/// parameters. Bounds what a response head can hold.
const CONTENT_TYPE_BYTES_MAX: usize = 255;

/// The spans of a source that make up an answer's content.
#[derive(Clone)]
pub(super) enum Content {
    One(Span),
    Many {
        parts: Parts,
        complete_length: u64,
        content_type: Box<[u8]>,
    },
}

impl Content {
    pub(super) fn spans(&self) -> &[Span] {
        match self {
            Self::One(span) => std::slice::from_ref(span),
            Self::Many { parts, .. } => parts.spans(),
        }
    }
}

/// What an answer's head depends on, of the request.
#[derive(Clone, Copy)]
pub(super) struct Asked {
    pub(super) is_head: bool,
    pub(super) if_range: bool,
}

/// The content of an answer, before its head is written.
enum Body {
    Spans(Content),
    Stream { chunked: bool },
}

impl ServerConnection {
    /// An error for a request whose end cannot be told: answer, close, and let the peer read it.
    pub(super) fn refuse(&mut self, now: Now, status: Status, reason: CloseReason) {
        self.request = None;
        self.closing = Some(reason);
        self.answer_error(now, status, |_| {});
    }

    /// The same, where the request's method and version are known.
    pub(super) fn give_up(&mut self, now: Now, status: Status) {
        self.closing = Some(CloseReason::Refused(status));
        self.answer_error(now, status, |_| {});
    }

    /// An error, with what more its head should say. The connection goes on if it can.
    pub(super) fn answer_error(
        &mut self,
        now: Now,
        status: Status,
        more: impl FnOnce(&mut HeadWriter<'_>),
    ) {
        let is_head = self
            .request
            .as_ref()
            .is_some_and(|r| r.head.method == Method::Head);
        let explanation = status.as_str();
        let mut head = self.begin_answer(now, status);
        head.field("Content-Type", "text/plain; charset=utf-8")
            .content_length(explanation.len() as u64 + 1)
            .field("Cache-Control", "no-store");
        more(&mut head);
        head.end();
        if !is_head {
            self.out.extend_from_slice(explanation.as_bytes());
            self.out.push(b'\n');
        }
        self.enter(State::Answer);
    }

    /// Tells a browser what pages of an allowed origin may send.
    pub(super) fn answer_preflight(&mut self, now: Now) {
        self.begin_answer(now, Status::NoContent)
            .field("Access-Control-Allow-Methods", origin::METHODS)
            .field("Access-Control-Allow-Headers", origin::REQUEST_FIELDS)
            .field("Access-Control-Max-Age", origin::MAX_AGE_SECONDS)
            .end();
        self.enter(State::Answer);
    }

    /// Starts a response head: the status-line, and what every answer says.
    fn begin_answer(&mut self, now: Now, status: Status) -> HeadWriter<'_> {
        self.status = Some(status);
        self.head_pending = true;
        self.arm(now, Deadline::Stall, self.config.stall_timeout);
        self.out.clear();
        let mut head = HeadWriter::new(&mut self.out, status);
        if let Some(date) = now.date {
            head.field("Date", self.date.of(date));
        }
        if self.closing.is_some() {
            head.field("Connection", "close");
        } else if self
            .request
            .as_ref()
            .is_some_and(|r| r.head.version == Version::Http10)
        {
            head.field("Connection", "keep-alive");
        }
        if !self.allowed_origins.is_empty() {
            // Of every answer, or a cache gives one page what was meant for another.
            head.field("Vary", "Origin");
        }
        let origin = self.origin.and_then(|at| self.allowed_origins.at(at));
        if let Some(origin) = origin {
            head.field("Access-Control-Allow-Origin", origin)
                .field("Access-Control-Expose-Headers", origin::ANSWER_FIELDS);
        }
        head
    }

    /// Answers with a representation, or a part of it, or the news that it has not changed.
    pub(super) fn answer(&mut self, now: Now, plan: Plan, source: &SourceInfo<'_>, asked: Asked) {
        let content_type = source
            .content_type
            .map(str::as_bytes)
            .filter(|content_type| {
                content_type.len() <= CONTENT_TYPE_BYTES_MAX && is_field_value(content_type)
            });
        let content_type = content_type.unwrap_or(UNKNOWN_TYPE.as_bytes());
        let boundary = self.boundary;
        let (plan, parts_length) = match plan {
            Plan::Parts(parts, complete_length) => {
                match boundary.content_length(parts.spans(), content_type, complete_length) {
                    Some(length) => (Plan::Parts(parts, complete_length), length),
                    // Nearly 2^64 bytes, and what stands between them: no length can say it.
                    None => (Plan::Whole(complete_length), 0),
                }
            }
            plan => (plan, 0),
        };
        let Validators {
            entity_tag,
            last_modified,
        } = source.validators;
        // A validator that is dated later than the answer would be none (RFC 9110 §8.8.2.1).
        let last_modified = match (last_modified, now.date) {
            (Some(modified), Some(date)) => Some(modified.min(date)),
            (modified, _) => modified,
        };
        let status = match plan {
            Plan::Whole(_) | Plan::Stream(_) => Status::Ok,
            Plan::Single(..) | Plan::Parts(..) => Status::PartialContent,
            Plan::NotModified => Status::NotModified,
            Plan::PreconditionFailed => {
                return self.answer_error(now, Status::PreconditionFailed, |_| {});
            }
            Plan::Unsatisfiable(complete_length) => {
                return self.answer_error(now, Status::RangeNotSatisfiable, |head| {
                    if let Some(complete_length) = complete_length {
                        head.content_range(ContentRange::Unsatisfied { complete_length });
                    }
                });
            }
        };
        if plan == Plan::Stream(Framing::UntilClose) {
            self.closing.get_or_insert(CloseReason::Finished);
        }
        let access = self.access;
        let cache_control = match access {
            Access::Bearer => "private, no-transform",
            // What a browser keeps must not outlive the capability.
            Access::Capability => "private, no-cache, no-transform",
        };
        let mut head = self.begin_answer(now, status);
        head.field("Cache-Control", cache_control);
        if access == Access::Capability {
            // The type is the source's word, and not for a browser to guess at.
            head.field("X-Content-Type-Options", "nosniff")
                // For browsers that do not say where a request comes from: no page of another origin
                // gets this without asking for it as CORS does.
                .field("Cross-Origin-Resource-Policy", "same-origin");
        }
        if let Some(tag) = entity_tag {
            head.entity_tag(tag);
        }
        // Whoever sent If-Range has these from an earlier answer (RFC 9110 §15.3.7), and whoever
        // gets a 304 needs the date only where there is no tag (§15.4.5).
        let knows = matches!(plan, Plan::Single(..)) && asked.if_range;
        let not_modified = plan == Plan::NotModified;
        if let Some(modified) =
            last_modified.filter(|_| !(knows || not_modified && entity_tag.is_some()))
        {
            head.date("Last-Modified", modified);
        }
        if !not_modified {
            let ranges = if matches!(plan, Plan::Stream(_)) {
                "none"
            } else {
                "bytes"
            };
            head.field("Accept-Ranges", ranges);
        }
        let content = match plan {
            Plan::Whole(length) => {
                head.field("Content-Type", content_type)
                    .content_length(length);
                (length > 0).then_some(Body::Spans(Content::One(Span {
                    offset: 0,
                    len: length,
                })))
            }
            Plan::Single(span, complete_length) => {
                if !knows {
                    head.field("Content-Type", content_type);
                }
                head.content_length(span.len)
                    .content_range(ContentRange::Range {
                        first_pos: span.offset,
                        last_pos: span.last_pos(),
                        complete_length: Some(complete_length),
                    });
                Some(Body::Spans(Content::One(span)))
            }
            Plan::Parts(parts, complete_length) => {
                head.boundary(&boundary).content_length(parts_length);
                let content_type = content_type.into();
                Some(Body::Spans(Content::Many {
                    parts,
                    complete_length,
                    content_type,
                }))
            }
            Plan::Stream(framing) => {
                head.field("Content-Type", content_type);
                let chunked = framing == Framing::Chunked;
                if chunked {
                    head.field("Transfer-Encoding", "chunked");
                }
                Some(Body::Stream { chunked })
            }
            Plan::NotModified | Plan::PreconditionFailed | Plan::Unsatisfiable(_) => None,
        };
        head.end();
        match content {
            Some(Body::Spans(parts)) if !asked.is_head => {
                if let Content::Many {
                    parts,
                    complete_length,
                    content_type,
                } = &parts
                {
                    let (span, complete_length) = (parts.spans()[0], *complete_length);
                    let part = PartHead {
                        first: true,
                        content_type,
                        span,
                        complete_length,
                    };
                    boundary.write_part_head(&mut self.out, &part);
                }
                self.enter(State::Spans {
                    parts,
                    index: 0,
                    sent: 0,
                });
            }
            Some(Body::Stream { chunked }) if !asked.is_head => {
                self.enter(State::Stream { offset: 0, chunked });
            }
            _ => self.enter(State::Answer),
        }
    }

    /// Goes on behind `content` bytes of the current span.
    pub(super) fn spans_sent(&mut self, now: Now, content: u64) {
        let State::Spans { parts, index, sent } = &mut self.state else {
            return;
        };
        let span = parts.spans()[*index];
        assert!(content <= span.len - *sent, "sent more than asked for");
        *sent += content;
        if *sent < span.len {
            return;
        }
        *index += 1;
        *sent = 0;
        let Content::Many {
            parts,
            complete_length,
            content_type,
        } = parts
        else {
            return self.finish(now);
        };
        if let Some(&span) = parts.spans().get(*index) {
            let complete_length = *complete_length;
            let part = PartHead {
                first: false,
                content_type,
                span,
                complete_length,
            };
            self.boundary.write_part_head(&mut self.out, &part);
        } else {
            self.boundary.write_end(&mut self.out);
            self.enter(State::Answer);
        }
    }
}
