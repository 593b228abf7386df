//! Response heads (RFC 9112 §4 and §5): parsing and writing.

use crate::{
    ContentRange, EntityTag, HeadError, HttpDate, Version,
    field::{FieldLines, Fields},
    limits::HEAD_BYTES_MAX,
    multipart::Boundary,
    request::{parse_version, start_line_end},
    text,
};

/// A parsed response head, as places in the bytes it was parsed from.
#[derive(Clone, Debug)]
pub struct ResponseHead {
    /// The version.
    pub version: Version,
    /// The status code, 100 to 999.
    pub status: u16,
    lines: FieldLines,
    len: usize,
}

impl ResponseHead {
    /// Parses a head at the start of `bytes`. `None` while it is incomplete: call again with more.
    ///
    /// # Errors
    /// [`HeadError`]. A [`HeadError::FieldLine`] may be an obsolete fold: see [`unfold`].
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>, HeadError> {
        // What is not HTTP need not be read to the limit, and is told by its first bytes however
        // much of it has come.
        let known = bytes.len().min(5);
        if bytes[..known] != b"HTTP/"[..known] {
            return Err(HeadError::StartLine);
        }
        let Some(line_end) = start_line_end(bytes, 0)? else {
            return Ok(None);
        };
        let line = &bytes[..line_end - 2];
        let (version, rest) = line.split_at_checked(8).ok_or(HeadError::StartLine)?;
        let version = parse_version(version)?;
        // The space behind the status code is required, and missing where the reason is empty.
        let (status, reason) = match rest {
            [b' ', a, b, c, reason @ ..]
                if [a, b, c].iter().all(|digit| digit.is_ascii_digit()) =>
            {
                let digit = |byte: u8| u16::from(byte - b'0');
                (digit(*a) * 100 + digit(*b) * 10 + digit(*c), reason)
            }
            _ => return Err(HeadError::StartLine),
        };
        let is_reason = reason.is_empty() || reason[0] == b' ';
        if status < 100 || !is_reason || !reason.iter().all(|&byte| text::is_field_byte(byte)) {
            return Err(HeadError::StartLine);
        }
        let Some((lines, len)) = FieldLines::parse(bytes, line_end)? else {
            return if bytes.len() >= HEAD_BYTES_MAX {
                Err(HeadError::TooLong)
            } else {
                Ok(None)
            };
        };
        if len > HEAD_BYTES_MAX {
            return Err(HeadError::TooLong);
        }
        Ok(Some(Self {
            version,
            status,
            lines,
            len,
        }))
    }

    /// Bytes from the start of the parsed input to behind the empty line.
    #[must_use]
    pub const fn head_len(&self) -> usize {
        self.len
    }

    /// The fields, in the bytes this head was parsed from.
    #[must_use]
    pub fn fields<'a>(&'a self, bytes: &'a [u8]) -> Fields<'a> {
        self.lines.of(bytes)
    }
}

/// Replaces each obsolete line fold in a response's header section by spaces, in place, as RFC
/// 9112 §5.2 asks of a user agent. Returns whether there was one.
///
/// Only complete folds are replaced, so it may be called on an incomplete head; it never goes past
/// the section's empty line.
pub fn unfold(head: &mut [u8]) -> bool {
    let mut found = false;
    let mut at = 0;
    while let Some(offset) = head[at..]
        .windows(3)
        .position(|bytes| bytes.starts_with(b"\r\n"))
    {
        let line_end = at + offset;
        match head[line_end + 2] {
            b' ' | b'\t' if at > 0 => {
                head[line_end..line_end + 2].fill(b' ');
                found = true;
            }
            b'\r' => break,
            _ => {}
        }
        at = line_end + 2;
    }
    found
}

/// A status this protocol answers with (RFC 9110 §15).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the reason phrases of RFC 9110")]
#[repr(u16)]
pub enum Status {
    Ok = 200,
    NoContent = 204,
    PartialContent = 206,
    NotModified = 304,
    BadRequest = 400,
    Unauthorized = 401,
    Forbidden = 403,
    NotFound = 404,
    MethodNotAllowed = 405,
    RequestTimeout = 408,
    PreconditionFailed = 412,
    UriTooLong = 414,
    RangeNotSatisfiable = 416,
    ExpectationFailed = 417,
    MisdirectedRequest = 421,
    TooManyRequests = 429,
    RequestHeaderFieldsTooLarge = 431,
    InternalServerError = 500,
    NotImplemented = 501,
    ServiceUnavailable = 503,
    HttpVersionNotSupported = 505,
}

impl Status {
    /// The three-digit code.
    #[must_use]
    pub const fn code(self) -> u16 {
        self as u16
    }

    /// Code and reason phrase, as the status-line and the explanation of an error carry them.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "200 OK",
            Self::NoContent => "204 No Content",
            Self::PartialContent => "206 Partial Content",
            Self::NotModified => "304 Not Modified",
            Self::BadRequest => "400 Bad Request",
            Self::Unauthorized => "401 Unauthorized",
            Self::Forbidden => "403 Forbidden",
            Self::NotFound => "404 Not Found",
            Self::MethodNotAllowed => "405 Method Not Allowed",
            Self::RequestTimeout => "408 Request Timeout",
            Self::PreconditionFailed => "412 Precondition Failed",
            Self::UriTooLong => "414 URI Too Long",
            Self::RangeNotSatisfiable => "416 Range Not Satisfiable",
            Self::ExpectationFailed => "417 Expectation Failed",
            Self::MisdirectedRequest => "421 Misdirected Request",
            Self::TooManyRequests => "429 Too Many Requests",
            Self::RequestHeaderFieldsTooLarge => "431 Request Header Fields Too Large",
            Self::InternalServerError => "500 Internal Server Error",
            Self::NotImplemented => "501 Not Implemented",
            Self::ServiceUnavailable => "503 Service Unavailable",
            Self::HttpVersionNotSupported => "505 HTTP Version Not Supported",
        }
    }
}

/// Appends a response head, line by line. Finish it with [`HeadWriter::end`].
///
/// The caller vouches for values that are bytes: [`crate::field::is_field_value`] checks them.
#[derive(Debug)]
pub struct HeadWriter<'a>(&'a mut Vec<u8>);

impl<'a> HeadWriter<'a> {
    /// Appends the status-line. The version is always HTTP/1.1: the highest that the sender
    /// conforms to (RFC 9110 §6.2).
    pub fn new(out: &'a mut Vec<u8>, status: Status) -> Self {
        out.extend_from_slice(b"HTTP/1.1 ");
        out.extend_from_slice(status.as_str().as_bytes());
        out.extend_from_slice(b"\r\n");
        Self(out)
    }

    #[inline]
    fn name(&mut self, name: &str) {
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b": ");
    }

    #[inline]
    fn line_end(&mut self) -> &mut Self {
        self.0.extend_from_slice(b"\r\n");
        self
    }

    /// Appends a field line with a text or other bytes for its value.
    #[inline]
    pub fn field(&mut self, name: &str, value: impl AsRef<[u8]>) -> &mut Self {
        self.name(name);
        self.0.extend_from_slice(value.as_ref());
        self.line_end()
    }

    /// Appends `Content-Length`.
    pub fn content_length(&mut self, length: u64) -> &mut Self {
        self.name("Content-Length");
        text::push_u64(self.0, length);
        self.line_end()
    }

    /// Appends `Content-Range`.
    pub fn content_range(&mut self, range: ContentRange) -> &mut Self {
        self.name("Content-Range");
        range.write(self.0);
        self.line_end()
    }

    /// Appends a field with an HTTP-date.
    pub fn date(&mut self, name: &str, date: HttpDate) -> &mut Self {
        self.name(name);
        date.write(self.0);
        self.line_end()
    }

    /// Appends `ETag`.
    pub fn entity_tag(&mut self, tag: EntityTag) -> &mut Self {
        self.name("ETag");
        tag.write(self.0);
        self.line_end()
    }

    /// Appends the `Content-Type` of an answer in several parts.
    pub fn boundary(&mut self, boundary: &Boundary) -> &mut Self {
        self.name("Content-Type");
        boundary.write_content_type(self.0);
        self.line_end()
    }

    /// Appends the empty line.
    pub fn end(&mut self) {
        self.line_end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FieldName;

    #[test]
    fn status_lines() {
        for (line, expected) in [
            ("HTTP/1.1 200 OK", Some((Version::Http11, 200))),
            ("HTTP/1.0 404 Not Found", Some((Version::Http10, 404))),
            ("HTTP/1.1 200 ", Some((Version::Http11, 200))),
            ("HTTP/1.1 200", Some((Version::Http11, 200))),
            ("HTTP/1.1 799 \u{e9}", Some((Version::Http11, 799))),
            ("HTTP/2.0 200 OK", None),
            ("HTTP/1.1 2000 OK", None),
            ("HTTP/1.1 20 OK", None),
            ("HTTP/1.1 100 Continue", Some((Version::Http11, 100))),
            ("HTTP/1.1 099 OK", None),
            ("HTTP/1.1  200 OK", None),
            ("HTTP/1.1\t200 OK", None),
            ("HTTP/1.1 200OK", None),
            ("HTTP/1.1 +20 OK", None),
            ("HTTP/1.1 200 O\0K", None),
            ("HTTP/1.1 200 O\rK", None),
            ("ICY 200 OK", None),
            ("", None),
        ] {
            let text = format!("{line}\r\nA: b\r\n\r\n");
            let got = ResponseHead::parse(text.as_bytes()).ok().flatten();
            assert_eq!(
                got.map(|head| (head.version, head.status)),
                expected,
                "{line:?}"
            );
        }
    }

    #[test]
    fn every_prefix_is_incomplete() {
        let text = b"HTTP/1.1 206 Partial Content\r\nContent-Length: 3\r\n\r\n";
        for end in 0..text.len() {
            assert!(
                ResponseHead::parse(&text[..end]).unwrap().is_none(),
                "{end}"
            );
        }
        assert_eq!(
            ResponseHead::parse(text).unwrap().unwrap().head_len(),
            text.len()
        );
        for noise in ["2", "220 ftp", "220 ftp\n", "220 ftp\r\n"] {
            assert_eq!(
                ResponseHead::parse(noise.as_bytes()).map(|_| ()),
                Err(HeadError::StartLine),
                "{noise:?}"
            );
        }
    }

    #[test]
    fn folds_become_spaces() {
        let mut text =
            b"HTTP/1.1 200 OK\r\nETag: \"a\"\r\n\t \r\nContent-Length:\r\n  5\r\n\r\n x\r\n y"
                .to_vec();
        let len = text.len();
        assert!(ResponseHead::parse(&text).is_err());
        assert!(unfold(&mut text));
        assert_eq!(text.len(), len);
        assert!(text.ends_with(b"\r\n\r\n x\r\n y"), "content is left alone");
        let head = ResponseHead::parse(&text).unwrap().unwrap();
        assert_eq!(
            head.fields(&text).single(FieldName::ETag),
            Ok(Some(&b"\"a\""[..]))
        );
        assert_eq!(
            head.fields(&text).single(FieldName::ContentLength),
            Ok(Some(&b"5"[..]))
        );
        assert!(!unfold(&mut text));
    }

    #[test]
    fn a_first_line_cannot_be_folded() {
        let mut text = b"HTTP/1.1 200 OK\r\n A: b\r\n\r\n".to_vec();
        assert!(!unfold(&mut text));
        assert!(ResponseHead::parse(&text).is_err());
    }

    #[test]
    fn limits() {
        let head = |len: usize| format!("HTTP/1.1 200 OK\r\nA: {}\r\n\r\n", "a".repeat(len - 24));
        let parse = |text: &str| ResponseHead::parse(text.as_bytes()).map(|head| head.is_some());
        assert_eq!(parse(&head(HEAD_BYTES_MAX)), Ok(true));
        assert_eq!(parse(&head(HEAD_BYTES_MAX + 1)), Err(HeadError::TooLong));
        let unended = &head(HEAD_BYTES_MAX + 2)[..HEAD_BYTES_MAX];
        assert_eq!(parse(unended), Err(HeadError::TooLong));
        assert_eq!(parse(&unended[..HEAD_BYTES_MAX - 1]), Ok(false));
    }

    #[test]
    fn every_status_is_written_with_its_code_and_its_name() {
        for (status, line) in [
            (Status::Ok, "200 OK"),
            (Status::NoContent, "204 No Content"),
            (Status::PartialContent, "206 Partial Content"),
            (Status::NotModified, "304 Not Modified"),
            (Status::BadRequest, "400 Bad Request"),
            (Status::Unauthorized, "401 Unauthorized"),
            (Status::Forbidden, "403 Forbidden"),
            (Status::NotFound, "404 Not Found"),
            (Status::MethodNotAllowed, "405 Method Not Allowed"),
            (Status::RequestTimeout, "408 Request Timeout"),
            (Status::PreconditionFailed, "412 Precondition Failed"),
            (Status::UriTooLong, "414 URI Too Long"),
            (Status::RangeNotSatisfiable, "416 Range Not Satisfiable"),
            (Status::ExpectationFailed, "417 Expectation Failed"),
            (Status::MisdirectedRequest, "421 Misdirected Request"),
            (Status::TooManyRequests, "429 Too Many Requests"),
            (
                Status::RequestHeaderFieldsTooLarge,
                "431 Request Header Fields Too Large",
            ),
            (Status::InternalServerError, "500 Internal Server Error"),
            (Status::NotImplemented, "501 Not Implemented"),
            (Status::ServiceUnavailable, "503 Service Unavailable"),
            (
                Status::HttpVersionNotSupported,
                "505 HTTP Version Not Supported",
            ),
        ] {
            let mut out = Vec::new();
            HeadWriter::new(&mut out, status).end();
            assert_eq!(out, format!("HTTP/1.1 {line}\r\n\r\n").into_bytes());
            assert_eq!(status.code().to_string(), line[..3]);
        }
    }

    #[test]
    fn validators_are_written_as_they_parse() {
        let date = HttpDate::parse(b"Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        let mut out = Vec::new();
        HeadWriter::new(&mut out, Status::Ok)
            .date("Last-Modified", date)
            .entity_tag(EntityTag::strong("v").unwrap())
            .end();
        let expected = "HTTP/1.1 200 OK\r\nLast-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
             ETag: \"v\"\r\n\r\n";
        assert_eq!(String::from_utf8_lossy(&out), expected);
    }

    #[test]
    fn written_heads_parse_back() {
        let mut out = Vec::new();
        HeadWriter::new(&mut out, Status::PartialContent)
            .content_length(u64::MAX)
            .content_range(ContentRange::Range {
                first_pos: 1,
                last_pos: 2,
                complete_length: Some(9),
            })
            .field("Content-Type", "audio/mpeg")
            .end();
        let head = ResponseHead::parse(&out).unwrap().unwrap();
        assert_eq!((head.status, head.head_len()), (206, out.len()));
        let range = head.fields(&out).single(FieldName::ContentRange);
        assert_eq!(range, Ok(Some(&b"bytes 1-2/9"[..])));
    }
}
