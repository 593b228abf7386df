//! Whether an answer answers: status, range, framing, and the accounting of its content.

use peer_proto::{
    ContentRange, EntityTag, FieldName, Fields, Framing, HeadError, HttpDate, ResponseHead,
    framing::{self, ChunkDecoder, ChunkError, FramingError},
};

use super::{Coding, FetchDeadline, FetchRequest, Version, Want, at_most};

/// Why a fetch did not go well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// Status 401.
    #[error("the peer does not accept the token")]
    Unauthorized,
    /// Status 404.
    #[error("the peer does not know the handle")]
    NotFound,
    /// Another status that carries nothing of what was asked for.
    #[error("the peer answered with status {0}")]
    Status(u16),
    /// Nothing lies at the first position: status 416, or a whole representation that ends there
    /// or before.
    #[error("the range lies past the end")]
    RangeNotSatisfiable {
        /// Length of the whole representation, if the peer told it.
        complete_length: Option<u64>,
    },
    /// The head is none.
    #[error(transparent)]
    Head(HeadError),
    /// Status 101, which nobody asked for.
    #[error("the peer switches protocols")]
    SwitchingProtocols,
    /// One interim answer after the other, and none that is final.
    #[error("more than {} interim answers", super::INTERIM_ANSWERS_MAX)]
    TooManyInterimAnswers,
    /// Where the content ends cannot be told.
    #[error(transparent)]
    Framing(FramingError),
    /// A broken chunked coding.
    #[error(transparent)]
    Chunk(ChunkError),
    /// Content in a coding other than identity: its bytes are not those of the source.
    #[error("the content is encoded")]
    ContentEncoding,
    /// Status 206 without one valid `Content-Range`.
    #[error("partial content without a valid content-range")]
    ContentRange,
    /// Status 206 with several parts, where one was asked for.
    #[error("several parts where one range was asked for")]
    Multipart,
    /// Status 206 with another range than the one asked for.
    #[error("range {first_pos}-{last_pos} was not asked for")]
    AnotherRange {
        /// Offset of the first byte of the answer.
        first_pos: u64,
        /// Offset of its last byte.
        last_pos: u64,
    },
    /// `Content-Length` contradicts `Content-Range`.
    #[error("content-length {content_length} for a range of {range_len} bytes")]
    LengthMismatch {
        /// What `Content-Length` says.
        content_length: u64,
        /// What `Content-Range` says.
        range_len: u64,
    },
    /// More content than `Content-Range` declared.
    #[error("more content than the {declared} bytes of its range")]
    TooLong {
        /// What was declared.
        declared: u64,
    },
    /// The content ended early.
    #[error("content ended after {received} bytes")]
    Truncated {
        /// Bytes that should have been handed over, if the head told.
        expected: Option<u64>,
        /// Bytes that were.
        received: u64,
    },
    /// The answer is of another version than the earlier one it has to continue.
    #[error("the source has changed")]
    Changed,
    /// The connection ended before the first byte of an answer.
    #[error("the peer closed the connection without an answer")]
    NoAnswer,
    /// The connection ended within the head.
    #[error("the peer closed the connection within the head of its answer")]
    HeadCut,
    /// Nothing came for too long.
    #[error("deadline passed: {0:?}")]
    TimedOut(FetchDeadline),
}

/// What the head of an answer told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// 200 or 206; 416 for the length of an empty representation.
    pub status: u16,
    /// Length of the whole representation, if told.
    pub complete_length: Option<u64>,
    /// The strong entity-tag, if there is one.
    pub entity_tag: Option<EntityTag>,
    /// The modification date, if told.
    pub last_modified: Option<HttpDate>,
    /// Bytes that will be handed over, if the head tells.
    pub expected: Option<u64>,
    /// The answer is a shorter range than was asked for, although there is more.
    pub short: bool,
    /// The peer will keep the connection open.
    pub persistent: bool,
}

impl Answer {
    /// The version that this answer belongs to.
    #[must_use]
    pub const fn version(&self) -> Version {
        Version {
            entity_tag: self.entity_tag,
            last_modified: self.last_modified,
            complete_length: self.complete_length,
        }
    }
}

impl Version {
    /// Whether a 416 may say that nothing of this version is left. It need not carry validators;
    /// one that does carries the right ones.
    fn is_ended_by(&self, answer: &Answer) -> bool {
        let entity_tag = answer.entity_tag.or(self.entity_tag);
        self.is_continued_by(&Answer {
            entity_tag,
            ..*answer
        })
    }

    /// Whether an answer may continue this version. A whole may, too, when it is of this version:
    /// that is what a peer sends that serves no ranges of a source, for one whose length it does
    /// not know.
    fn is_continued_by(&self, answer: &Answer) -> bool {
        if self.entity_tag.is_some() && answer.entity_tag != self.entity_tag {
            return false;
        }
        // What one of the two does not tell cannot differ.
        let differ = |earlier: Option<u64>, now: Option<u64>| {
            earlier
                .zip(now)
                .is_some_and(|(earlier, now)| earlier != now)
        };
        let seconds = |date: Option<HttpDate>| date.map(HttpDate::seconds);
        !differ(self.complete_length, answer.complete_length)
            && !differ(seconds(self.last_modified), seconds(answer.last_modified))
    }
}

/// What was asked, as far as the answer is held against it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    want: Want,
    /// The positions of the `Range` field; `None` when there is none.
    pub(super) range: Option<(u64, Option<u64>)>,
    version: Option<Version>,
}

impl Asked {
    pub(super) fn new(request: &FetchRequest<'_>) -> Self {
        let has_tag = request
            .version
            .is_some_and(|version| version.entity_tag.is_some());
        let range = match request.want {
            // Unless it has to be of one version: only a range can be asked for on condition.
            Want::Content {
                start: 0,
                len: None,
            } if !has_tag => None,
            Want::Content { start, len } => {
                assert!(len != Some(0), "a range of no bytes cannot be asked for");
                // Past u64 there is nothing, so the sum may stop there.
                Some((start, len.map(|len| start.saturating_add(len - 1))))
            }
            Want::Length => Some((0, Some(0))),
        };
        let start = range.map_or(0, |(start, _)| start);
        assert!(
            !request.without_range || start == 0,
            "the whole cannot replace a range from {start}"
        );
        Self {
            want: request.want,
            range: range.filter(|_| !request.without_range),
            version: request.version,
        }
    }

    const fn start(&self) -> u64 {
        match self.want {
            Want::Content { start, .. } => start,
            Want::Length => 0,
        }
    }

    /// Judges a final answer's head.
    pub(super) fn judge(
        &self,
        head: &ResponseHead,
        fields: &Fields<'_>,
    ) -> Result<(Answer, Content), FetchError> {
        match head.status {
            200 | 206 => {}
            401 => return Err(FetchError::Unauthorized),
            404 => return Err(FetchError::NotFound),
            416 => return self.judge_unsatisfied(head, fields),
            status => return Err(FetchError::Status(status)),
        }
        let framing = framing::of_response(head.version, head.status, fields)?;
        let identity = |coding: &[u8]| coding.eq_ignore_ascii_case(b"identity");
        if !fields.members(FieldName::ContentEncoding).all(identity) {
            return Err(FetchError::ContentEncoding);
        }
        let base = Answer {
            status: head.status,
            complete_length: None,
            entity_tag: strong_tag(fields),
            last_modified: date(fields),
            expected: None,
            short: false,
            persistent: is_persistent(head, fields),
        };
        let (answer, content) = if head.status == 206 {
            self.judge_part(base, framing, fields)?
        } else {
            self.judge_whole(base, framing)?
        };
        match self.version {
            Some(version) if !version.is_continued_by(&answer) => Err(FetchError::Changed),
            _ => Ok((answer, content)),
        }
    }

    fn judge_part(
        &self,
        base: Answer,
        framing: Framing,
        fields: &Fields<'_>,
    ) -> Result<(Answer, Content), FetchError> {
        if fields.all(FieldName::ContentType).any(is_multipart) {
            return Err(FetchError::Multipart);
        }
        let Ok(Some(value)) = fields.single(FieldName::ContentRange) else {
            return Err(FetchError::ContentRange);
        };
        let Ok(ContentRange::Range {
            first_pos,
            last_pos,
            complete_length,
        }) = ContentRange::parse(value)
        else {
            return Err(FetchError::ContentRange);
        };
        let range_len = last_pos - first_pos + 1;
        if let Framing::Length(content_length) = framing {
            if content_length != range_len {
                return Err(FetchError::LengthMismatch {
                    content_length,
                    range_len,
                });
            }
        }
        let last_wanted = complete_length.map_or(u64::MAX, |length| length - 1);
        let (answers, short) = match self.range {
            // The whole was asked for: a part answers only when it is the whole.
            None => (first_pos == 0 && complete_length == Some(range_len), false),
            Some((start, None)) => (
                first_pos == start,
                // An unknown length leaves nothing to compare with.
                complete_length.is_some() && last_pos < last_wanted,
            ),
            Some((start, Some(last_asked))) => (
                first_pos == start && last_pos <= last_asked,
                last_pos < last_asked.min(last_wanted),
            ),
        };
        if !answers {
            return Err(FetchError::AnotherRange {
                first_pos,
                last_pos,
            });
        }
        let (skip, wanted) = match self.want {
            // Asked for the whole in place of a first part.
            Want::Content { len: Some(len), .. } => (0, range_len.min(len)),
            Want::Content { len: None, .. } => (0, range_len),
            // The one byte that had to be asked for, or the whole in place of it.
            Want::Length if self.range.is_some() => (range_len, 0),
            Want::Length => (0, 0),
        };
        let answer = Answer {
            complete_length,
            expected: Some(wanted),
            short,
            ..base
        };
        let content = Content::new(framing, skip, Some(wanted), Some(range_len));
        Ok((answer, content))
    }

    fn judge_whole(&self, base: Answer, framing: Framing) -> Result<(Answer, Content), FetchError> {
        let complete_length = match framing {
            Framing::Length(length) => Some(length),
            _ => None,
        };
        let (start, len) = match self.want {
            Want::Content { start, len } => (start, len),
            // The head has said it all: nothing is read.
            Want::Length => (0, Some(0)),
        };
        // At the very end of what is continued, nothing is what was left to fetch.
        let first = start.saturating_add(u64::from(self.version.is_none()));
        if start > 0 && complete_length.is_some_and(|length| length < first) {
            return Err(match self.version {
                // There was something here before.
                Some(_) => FetchError::Changed,
                None => FetchError::RangeNotSatisfiable { complete_length },
            });
        }
        let expected = match (complete_length, len) {
            (Some(length), Some(len)) => Some((length - start).min(len)),
            (Some(length), None) => Some(length - start),
            (None, _) => None,
        };
        let answer = Answer {
            complete_length,
            expected,
            ..base
        };
        let mut content = Content::new(framing, start, expected.or(len), complete_length);
        content.continues = self.version.is_some();
        Ok((answer, content))
    }

    fn judge_unsatisfied(
        &self,
        head: &ResponseHead,
        fields: &Fields<'_>,
    ) -> Result<(Answer, Content), FetchError> {
        if self.range.is_none() {
            return Err(FetchError::Status(416));
        }
        let complete_length = match fields.single(FieldName::ContentRange) {
            Ok(Some(value)) => match ContentRange::parse(value) {
                Ok(ContentRange::Unsatisfied { complete_length }) => Some(complete_length),
                _ => None,
            },
            _ => None,
        };
        // Nothing lies at the end, and nothing is what was left to fetch: of an empty
        // representation, or of one whose length shows only now.
        let is_end = complete_length == Some(self.start());
        if !is_end || (self.start() > 0 && self.version.is_none()) {
            return Err(match self.version {
                // There was something here before.
                Some(_) => FetchError::Changed,
                None => FetchError::RangeNotSatisfiable { complete_length },
            });
        }
        let answer = Answer {
            status: head.status,
            complete_length,
            entity_tag: strong_tag(fields),
            last_modified: date(fields),
            expected: Some(0),
            short: false,
            persistent: is_persistent(head, fields),
        };
        if self
            .version
            .is_some_and(|version| !version.is_ended_by(&answer))
        {
            return Err(FetchError::Changed);
        }
        let framing = framing::of_response(head.version, head.status, fields)?;
        Ok((answer, Content::new(framing, 0, Some(0), None)))
    }
}

/// Whether the peer keeps the connection open behind this answer (RFC 9112 §9.3).
fn is_persistent(head: &ResponseHead, fields: &Fields<'_>) -> bool {
    let says = |option| fields.has_member(FieldName::Connection, option);
    match head.version {
        peer_proto::Version::Http11 => !says("close"),
        peer_proto::Version::Http10 => says("keep-alive") && !says("close"),
    }
}

fn strong_tag(fields: &Fields<'_>) -> Option<EntityTag> {
    let value = fields.single(FieldName::ETag).ok()??;
    EntityTag::parse_strong(value)
}

fn date(fields: &Fields<'_>) -> Option<HttpDate> {
    let value = fields.single(FieldName::LastModified).ok()??;
    HttpDate::parse(value)
}

fn is_multipart(content_type: &[u8]) -> bool {
    const TYPE: &[u8] = b"multipart/byteranges";
    content_type
        .get(..TYPE.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(TYPE))
}

/// The accounting of an answer's content: what of it is still to come, and what becomes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Content {
    coding: Coding,
    /// Bytes to read past before the first that was asked for.
    pub(super) skip: u64,
    /// What `skip` was at first.
    start: u64,
    /// Something of the same version came before: it may end right where this begins.
    continues: bool,
    /// Bytes to hand over; `None`: all to the end.
    take: Option<u64>,
    /// Bytes to come, skipped ones included, if the head told.
    remaining: Option<u64>,
    /// What `remaining` was at first.
    declared: Option<u64>,
    /// What `take` was at first, if the head told that so many will come.
    expected: Option<u64>,
}

/// How far the buffered bytes carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// So many of them are dealt with.
    Used(usize),
    /// Something else has to happen first.
    Wait,
    /// The content is over. `framed`: and so is the message, as its framing tells.
    End { framed: bool },
}

impl Content {
    fn new(framing: Framing, skip: u64, take: Option<u64>, declared: Option<u64>) -> Self {
        let (coding, declared) = match framing {
            Framing::None => (Coding::Length, Some(0)),
            Framing::Length(length) => (Coding::Length, Some(length)),
            Framing::Chunked => (Coding::Chunked(ChunkDecoder::new()), declared),
            Framing::UntilClose => (Coding::UntilClose, declared),
        };
        Self {
            coding,
            skip,
            start: skip,
            continues: false,
            take,
            remaining: declared,
            declared,
            expected: declared.and(take),
        }
    }

    /// Content bytes that may come next, all of them either skipped or handed over.
    pub(super) fn due(&self) -> u64 {
        let remaining = self.remaining.unwrap_or(u64::MAX);
        let framed = match &self.coding {
            Coding::Length | Coding::UntilClose => remaining,
            Coding::Chunked(decoder) => decoder.content_remaining().min(remaining),
        };
        if self.skip > 0 {
            framed.min(self.skip)
        } else {
            framed.min(self.take.unwrap_or(u64::MAX))
        }
    }

    /// Counts `n` bytes of what was due.
    pub(super) fn take_content(&mut self, n: u64) {
        if self.skip > 0 {
            self.skip -= n;
        } else if let Some(take) = &mut self.take {
            *take -= n;
        }
        if let Some(remaining) = &mut self.remaining {
            *remaining -= n;
        }
        if let Coding::Chunked(decoder) = &mut self.coding {
            decoder.take_content(n);
        }
    }

    /// Goes one step on with what is buffered, when `received` bytes were handed over.
    pub(super) fn advance(&mut self, buffered: &[u8], received: u64) -> Result<Step, FetchError> {
        if self.skip == 0 && self.take == Some(0) && self.remaining != Some(0) {
            // All that was asked for is here. What follows is the rest of a whole, and is cut off.
            return Ok(Step::End { framed: false });
        }
        match &mut self.coding {
            Coding::Length if self.remaining == Some(0) => return Ok(Step::End { framed: true }),
            Coding::Chunked(decoder) if decoder.is_done() => {
                return match self.remaining {
                    Some(1..) => Err(self.truncated(received)),
                    None if self.continues && self.skip > 0 => Err(FetchError::Changed),
                    None if !self.continues && self.start > 0 && received == 0 => {
                        Err(FetchError::RangeNotSatisfiable {
                            complete_length: None,
                        })
                    }
                    _ => Ok(Step::End { framed: true }),
                };
            }
            Coding::Chunked(decoder) if decoder.content_remaining() == 0 => {
                if buffered.is_empty() {
                    return Ok(Step::Wait);
                }
                let used = decoder.parse(buffered)?;
                if self
                    .remaining
                    .is_some_and(|remaining| decoder.content_remaining() > remaining)
                {
                    return Err(self.too_long());
                }
                return Ok(Step::Used(used));
            }
            Coding::UntilClose if self.remaining == Some(0) && !buffered.is_empty() => {
                return Err(self.too_long());
            }
            Coding::Length | Coding::Chunked(_) | Coding::UntilClose => {}
        }
        let skipped = at_most(buffered.len(), self.due());
        if self.skip > 0 && skipped > 0 {
            self.take_content(skipped as u64);
            return Ok(Step::Used(skipped));
        }
        Ok(Step::Wait)
    }

    /// What the end of the connection means, when `received` bytes were handed over.
    pub(super) fn at_eof(&self, received: u64) -> Result<(), FetchError> {
        match (&self.coding, self.remaining) {
            (Coding::UntilClose, Some(0)) => Ok(()),
            // Of a whole that ends before the range begins nobody can say whether it was cut.
            (Coding::UntilClose, None) if self.start == 0 || received > 0 => Ok(()),
            _ => Err(self.truncated(received)),
        }
    }

    const fn truncated(&self, received: u64) -> FetchError {
        FetchError::Truncated {
            expected: self.expected,
            received,
        }
    }

    fn too_long(&self) -> FetchError {
        FetchError::TooLong {
            declared: self.declared.unwrap_or(0),
        }
    }
}
