//! The wire format of range transfers over HTTP/1.1: bytes to values, and values to bytes.
//!
//! In scope: request and response heads (RFC 9112 §2–5), message framing (§6–7), the request
//! target and its handle, byte ranges (RFC 9110 §14), validators and preconditions (§8.8, §13),
//! Bearer credentials (RFC 6750), `multipart/byteranges`.
//!
//! Out of scope, on purpose: sockets, clocks, threads, content. Nothing here keeps state between
//! two calls but [`framing::ChunkDecoder`], and no function allocates unless it returns a
//! `String` or appends to a buffer of its caller.
//!
//! Parsing is strict. What RFC 9112 lets a recipient tolerate (bare LF, white space before a
//! colon, obsolete line folding in requests) is refused: leniency is where two parsers disagree,
//! and where they disagree messages get smuggled. The one tolerance that a user agent owes,
//! unfolding a response's fields, is a function of its own: [`response::unfold`].

pub mod auth;
pub mod content_range;
pub mod date;
pub mod field;
pub mod framing;
pub mod limits;
pub mod multipart;
pub mod precondition;
pub mod range;
pub mod request;
pub mod response;
pub mod target;
pub mod validator;

mod text;

pub use auth::Token;
pub use content_range::ContentRange;
pub use date::HttpDate;
pub use field::{FieldName, Fields};
pub use framing::Framing;
pub use range::{RangeSpec, Span};
pub use request::{Method, RequestHead};
pub use response::ResponseHead;
pub use validator::{EntityTag, Validators};

/// The protocol version a head was sent with, as far as it changes what may be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// HTTP/1.0: no chunked framing, no persistence unless asked for.
    Http10,
    /// HTTP/1.1, and every later minor version of HTTP/1 (RFC 9110 §2.5).
    Http11,
}

/// Why a head cannot be taken for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeadError {
    /// The request-line or status-line does not follow its grammar.
    #[error("malformed start-line")]
    StartLine,
    /// A field line does not follow its grammar (RFC 9112 §5): no colon, white space before it,
    /// an obsolete fold, a control byte.
    #[error("malformed field line")]
    FieldLine,
    /// A line ends in a bare LF, or a CR stands alone (RFC 9112 §2.2).
    #[error("line does not end in CRLF")]
    LineEnd,
    /// A major version other than 1.
    #[error("unsupported protocol version")]
    Version,
    /// A start-line longer than [`limits::START_LINE_BYTES_MAX`].
    #[error("start-line of more than {} bytes", limits::START_LINE_BYTES_MAX)]
    StartLineTooLong,
    /// A head longer than [`limits::HEAD_BYTES_MAX`].
    #[error("head of more than {} bytes", limits::HEAD_BYTES_MAX)]
    TooLong,
    /// More than [`limits::FIELD_LINES_MAX`] field lines.
    #[error("more than {} field lines", limits::FIELD_LINES_MAX)]
    TooManyFields,
}
