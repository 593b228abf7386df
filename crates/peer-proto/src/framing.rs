//! Where a message's content ends (RFC 9112 §6 and §7).

use crate::{
    FieldName, Fields, Version,
    limits::{CHUNK_EXTENSION_BYTES_MAX, CHUNK_SIZE_DIGITS_MAX, TRAILER_BYTES_MAX},
    text,
};

/// How the end of a message's content is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// The message has no content.
    None,
    /// `Content-Length`: this many bytes.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
    /// The end of the connection. Responses only; a cut looks like an end.
    UntilClose,
}

/// Why the end of a message's content cannot be told. The connection cannot be used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FramingError {
    /// `Content-Length` is no number, or several that differ.
    #[error("invalid content-length")]
    Length,
    /// Both `Content-Length` and `Transfer-Encoding`: two ways to read one message.
    #[error("content-length beside transfer-encoding")]
    LengthAndCoding,
    /// `Transfer-Encoding` is empty, or `chunked` is not its end or not its only one.
    #[error("transfer-encoding does not end in chunked")]
    NotChunked,
    /// A transfer coding other than `chunked`.
    #[error("unknown transfer coding")]
    UnknownCoding,
    /// `Transfer-Encoding` in HTTP/1.0.
    #[error("transfer-encoding in HTTP/1.0")]
    CodingInHttp10,
}

/// The framing of a request's content (RFC 9112 §6.3).
///
/// # Errors
/// [`FramingError`]: answer 400, or 501 for [`FramingError::UnknownCoding`], and close.
pub fn of_request(version: Version, fields: &Fields<'_>) -> Result<Framing, FramingError> {
    if has_coding(version, fields)? {
        return Ok(Framing::Chunked);
    }
    // A length beyond u64 is a valid one (RFC 9110 §8.6), and beyond what is read in any case.
    Ok(content_length(fields, text::digits)?.map_or(Framing::None, Framing::Length))
}

/// The framing of a response's content to a GET (RFC 9112 §6.3).
///
/// # Errors
/// [`FramingError`]: the content cannot be trusted.
pub fn of_response(
    version: Version,
    status: u16,
    fields: &Fields<'_>,
) -> Result<Framing, FramingError> {
    if matches!(status, 100..=199 | 204 | 304) {
        return Ok(Framing::None);
    }
    if has_coding(version, fields)? {
        return Ok(Framing::Chunked);
    }
    Ok(content_length(fields, text::digits_exact)?.map_or(Framing::UntilClose, Framing::Length))
}

/// Whether the content is chunked; every other coding is an error.
fn has_coding(version: Version, fields: &Fields<'_>) -> Result<bool, FramingError> {
    if !fields.has(FieldName::TransferEncoding) {
        return Ok(false);
    }
    if version == Version::Http10 {
        return Err(FramingError::CodingInHttp10);
    }
    if fields.has(FieldName::ContentLength) {
        return Err(FramingError::LengthAndCoding);
    }
    let mut chunked = 0;
    let mut others = false;
    let mut ends_chunked = false;
    for coding in fields.members(FieldName::TransferEncoding) {
        ends_chunked = coding.eq_ignore_ascii_case(b"chunked");
        if ends_chunked {
            chunked += 1;
        } else {
            others = true;
        }
    }
    match (chunked, others) {
        (1, false) => Ok(true),
        (1, true) if ends_chunked => Err(FramingError::UnknownCoding),
        // Also codings that are unknown: RFC 9112 §6.3 leaves no choice but 400 where chunked is
        // not the last one.
        _ => Err(FramingError::NotChunked),
    }
}

/// The one length that all values name; equal repetitions are one (RFC 9112 §6.3).
fn content_length(
    fields: &Fields<'_>,
    digits: impl Fn(&[u8]) -> Option<u64>,
) -> Result<Option<u64>, FramingError> {
    let mut length = None;
    for value in fields.all(FieldName::ContentLength) {
        for member in value.split(|&byte| byte == b',') {
            let number = digits(text::trim(member)).ok_or(FramingError::Length)?;
            if length.is_some_and(|known| known != number) {
                return Err(FramingError::Length);
            }
            length = Some(number);
        }
    }
    Ok(length)
}

/// Why a chunked message is broken. Nothing behind it can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChunkError {
    /// No chunk-size, or one of more digits than a length has.
    #[error("invalid chunk-size")]
    Size,
    /// A chunk extension with control bytes, or a longer one than
    /// [`CHUNK_EXTENSION_BYTES_MAX`].
    #[error("invalid or oversized chunk extension")]
    Extension,
    /// No CRLF behind a chunk's content, or a bare CR or LF.
    #[error("chunk does not end in CRLF")]
    LineEnd,
    /// A malformed trailer section, or a longer one than [`TRAILER_BYTES_MAX`].
    #[error("invalid or oversized trailer section")]
    Trailer,
}

/// What the next byte of a chunked message is part of (RFC 9112 §7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Size {
        digits: usize,
        size: u64,
    },
    /// White space that may stand before an extension, and nowhere else.
    SpaceBeforeExtension {
        size: u64,
        len: usize,
    },
    Extension {
        size: u64,
        len: usize,
    },
    SizeLf {
        size: u64,
    },
    Content {
        remaining: u64,
    },
    ContentCr,
    ContentLf,
    TrailerLine {
        len: usize,
    },
    TrailerName {
        len: usize,
    },
    TrailerValue {
        len: usize,
    },
    TrailerLf {
        len: usize,
    },
    EndLf,
    Done,
}

/// Reads the chunked transfer coding without touching content.
///
/// Feed framing bytes to [`parse`](Self::parse) until content is due, take that many bytes by any
/// means, say so with [`take_content`](Self::take_content), and go on. Trailer fields are checked
/// and dropped: this protocol defines none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkDecoder(Part);

impl Default for ChunkDecoder {
    fn default() -> Self {
        Self::new()
    }
}

impl ChunkDecoder {
    /// A decoder before the first chunk-size.
    #[must_use]
    pub const fn new() -> Self {
        Self(Part::Size { digits: 0, size: 0 })
    }

    /// Content bytes that come next. Zero: framing comes next, or the message has ended.
    #[must_use]
    pub const fn content_remaining(&self) -> u64 {
        match self.0 {
            Part::Content { remaining } => remaining,
            _ => 0,
        }
    }

    /// Whether the message has ended, trailer section included.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        matches!(self.0, Part::Done)
    }

    /// States that `n` bytes of content were taken.
    ///
    /// # Panics
    /// When that is more than [`content_remaining`](Self::content_remaining): the caller's bug.
    pub fn take_content(&mut self, n: u64) {
        let remaining = self.content_remaining();
        assert!(n <= remaining, "took {n} bytes of a chunk with {remaining}");
        if n == remaining && n > 0 {
            self.0 = Part::ContentCr;
        } else if n > 0 {
            self.0 = Part::Content {
                remaining: remaining - n,
            };
        }
    }

    /// Reads framing from the start of `bytes`, up to where content or the message's end comes.
    /// Returns how many bytes were framing.
    ///
    /// # Errors
    /// [`ChunkError`], at the first byte that breaks the coding. The decoder stays there.
    pub fn parse(&mut self, bytes: &[u8]) -> Result<usize, ChunkError> {
        for (used, &byte) in bytes.iter().enumerate() {
            if matches!(self.0, Part::Content { .. } | Part::Done) {
                return Ok(used);
            }
            self.0 = self.0.next(byte)?;
        }
        Ok(bytes.len())
    }
}

impl Part {
    fn next(self, byte: u8) -> Result<Self, ChunkError> {
        Ok(match (self, byte) {
            (Self::Size { digits, size }, _) if byte.is_ascii_hexdigit() => {
                if digits == CHUNK_SIZE_DIGITS_MAX {
                    return Err(ChunkError::Size);
                }
                let value = char::from(byte).to_digit(16).map_or(0, u64::from);
                Self::Size {
                    digits: digits + 1,
                    size: size * 16 + value,
                }
            }
            (Self::Size { digits: 0, .. }, _) => return Err(ChunkError::Size),
            (Self::Size { size, .. }, b'\r') => Self::SizeLf { size },
            (Self::Size { size, .. }, b';') => Self::Extension { size, len: 0 },
            (Self::Size { size, .. }, b' ' | b'\t') => Self::SpaceBeforeExtension { size, len: 0 },
            (Self::SpaceBeforeExtension { size, len }, b';') => Self::Extension { size, len },
            (
                Self::SpaceBeforeExtension {
                    len: CHUNK_EXTENSION_BYTES_MAX,
                    ..
                },
                _,
            ) => {
                return Err(ChunkError::Extension);
            }
            (Self::SpaceBeforeExtension { size, len }, b' ' | b'\t') => {
                Self::SpaceBeforeExtension { size, len: len + 1 }
            }
            (Self::Size { .. } | Self::SpaceBeforeExtension { .. }, _) => {
                return Err(ChunkError::Size);
            }
            (Self::Extension { size, .. }, b'\r') => Self::SizeLf { size },
            (Self::Extension { size, len }, _) => {
                if len == CHUNK_EXTENSION_BYTES_MAX || !text::is_field_byte(byte) {
                    return Err(ChunkError::Extension);
                }
                Self::Extension { size, len: len + 1 }
            }
            (Self::SizeLf { size: 0 }, b'\n') => Self::TrailerLine { len: 0 },
            (Self::SizeLf { size }, b'\n') => Self::Content { remaining: size },
            (Self::ContentCr, b'\r') => Self::ContentLf,
            (Self::ContentLf, b'\n') => Self::Size { digits: 0, size: 0 },
            (Self::SizeLf { .. } | Self::ContentCr | Self::ContentLf, _) => {
                return Err(ChunkError::LineEnd);
            }
            (Self::TrailerLine { .. }, b'\r') => Self::EndLf,
            (Self::TrailerLine { len } | Self::TrailerName { len }, _) if text::is_tchar(byte) => {
                Self::TrailerName {
                    len: within_trailer(len)?,
                }
            }
            (Self::TrailerName { len }, b':') => Self::TrailerValue {
                len: within_trailer(len)?,
            },
            (Self::TrailerValue { len }, b'\r') => Self::TrailerLf {
                len: within_trailer(len)?,
            },
            (Self::TrailerValue { len }, _) if text::is_field_byte(byte) => Self::TrailerValue {
                len: within_trailer(len)?,
            },
            (Self::TrailerLf { len }, b'\n') => Self::TrailerLine {
                len: within_trailer(len)?,
            },
            (Self::EndLf, b'\n') => Self::Done,
            (
                Self::TrailerLine { .. }
                | Self::TrailerName { .. }
                | Self::TrailerValue { .. }
                | Self::TrailerLf { .. }
                | Self::EndLf,
                _,
            ) => return Err(ChunkError::Trailer),
            // The caller stops at these two.
            (Self::Content { .. } | Self::Done, _) => self,
        })
    }
}

fn within_trailer(len: usize) -> Result<usize, ChunkError> {
    if len >= TRAILER_BYTES_MAX {
        Err(ChunkError::Trailer)
    } else {
        Ok(len + 1)
    }
}

/// Bytes that a chunk-size line needs before a chunk of any size.
pub const CHUNK_PREFIX_BYTES: usize = CHUNK_SIZE_DIGITS_MAX + 2;

/// Bytes that stand behind a chunk's content.
pub const CHUNK_SUFFIX: &[u8; 2] = b"\r\n";

/// The end of a chunked message: last-chunk and an empty trailer section.
pub const LAST_CHUNK: &[u8; 5] = b"0\r\n\r\n";

/// Writes the chunk-size line of a chunk of `size` bytes to the end of `prefix`, so that it stands
/// right before content that follows it. Returns where it starts.
pub fn write_chunk_size(prefix: &mut [u8; CHUNK_PREFIX_BYTES], size: u64) -> usize {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut at = CHUNK_PREFIX_BYTES - 2;
    prefix[at..].copy_from_slice(b"\r\n");
    let mut rest = size;
    loop {
        at -= 1;
        prefix[at] = HEX[(rest & 15) as usize];
        rest >>= 4;
        if rest == 0 {
            return at;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::FieldLines;

    fn with_fields<T>(section: &str, check: impl Fn(&Fields<'_>) -> T) -> T {
        let text = format!("{section}\r\n");
        let (lines, _) = FieldLines::parse(text.as_bytes(), 0).unwrap().unwrap();
        check(&lines.of(text.as_bytes()))
    }

    #[test]
    fn requests() {
        use FramingError as E;
        for (section, expected) in [
            ("", Ok(Framing::None)),
            ("Content-Length: 5\r\n", Ok(Framing::Length(5))),
            (
                "Content-Length: 5\r\nContent-Length: 5\r\n",
                Ok(Framing::Length(5)),
            ),
            ("Content-Length: 5, 5\r\n", Ok(Framing::Length(5))),
            (
                "Content-Length: 18446744073709551616\r\n",
                Ok(Framing::Length(u64::MAX)),
            ),
            ("Content-Length: 5\r\nContent-Length: 6\r\n", Err(E::Length)),
            ("Content-Length: 5, 6\r\n", Err(E::Length)),
            ("Content-Length: 5,\r\n", Err(E::Length)),
            ("Content-Length:\r\n", Err(E::Length)),
            ("Content-Length: +5\r\n", Err(E::Length)),
            ("Content-Length: -5\r\n", Err(E::Length)),
            ("Content-Length: 0x5\r\n", Err(E::Length)),
            ("Content-Length: 5 5\r\n", Err(E::Length)),
            ("Transfer-Encoding: chunked\r\n", Ok(Framing::Chunked)),
            ("Transfer-Encoding: CHUNKED\r\n", Ok(Framing::Chunked)),
            ("Transfer-Encoding: , chunked\r\n", Ok(Framing::Chunked)),
            (
                "Transfer-Encoding: gzip, chunked\r\n",
                Err(E::UnknownCoding),
            ),
            (
                "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n",
                Err(E::UnknownCoding),
            ),
            ("Transfer-Encoding: chunked, gzip\r\n", Err(E::NotChunked)),
            (
                "Transfer-Encoding: chunked, chunked\r\n",
                Err(E::NotChunked),
            ),
            ("Transfer-Encoding: xchunked\r\n", Err(E::NotChunked)),
            ("Transfer-Encoding: chunked;q=1\r\n", Err(E::NotChunked)),
            ("Transfer-Encoding: identity\r\n", Err(E::NotChunked)),
            ("Transfer-Encoding:\r\n", Err(E::NotChunked)),
            (
                "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
                Err(E::LengthAndCoding),
            ),
        ] {
            let got = with_fields(section, |fields| of_request(Version::Http11, fields));
            assert_eq!(got, expected, "{section:?}");
        }
        let old = |fields: &Fields<'_>| of_request(Version::Http10, fields);
        assert_eq!(
            with_fields("Transfer-Encoding: chunked\r\n", old),
            Err(E::CodingInHttp10)
        );
        assert_eq!(
            with_fields("Content-Length: 5\r\n", old),
            Ok(Framing::Length(5))
        );
    }

    #[test]
    fn responses() {
        for (status, section, expected) in [
            (200, "", Ok(Framing::UntilClose)),
            (200, "Content-Length: 5\r\n", Ok(Framing::Length(5))),
            (206, "Transfer-Encoding: chunked\r\n", Ok(Framing::Chunked)),
            (
                200,
                "Content-Length: 18446744073709551616\r\n",
                Err(FramingError::Length),
            ),
            (204, "Content-Length: 5\r\n", Ok(Framing::None)),
            (304, "Content-Length: 5\r\n", Ok(Framing::None)),
            (100, "", Ok(Framing::None)),
        ] {
            let got = with_fields(section, |fields| {
                of_response(Version::Http11, status, fields)
            });
            assert_eq!(got, expected, "{status} {section:?}");
        }
    }

    /// Decodes a whole message, handing the decoder at most `step` bytes at a time.
    fn decode(message: &[u8], step: usize) -> Result<(Vec<u8>, usize, bool), ChunkError> {
        let mut decoder = ChunkDecoder::new();
        let mut content = Vec::new();
        let mut at = 0;
        while at < message.len() && !decoder.is_done() {
            let input = &message[at..message.len().min(at + step)];
            let remaining = decoder.content_remaining();
            if remaining > 0 {
                let take = input
                    .len()
                    .min(usize::try_from(remaining).unwrap_or(usize::MAX));
                content.extend_from_slice(&input[..take]);
                decoder.take_content(take as u64);
                at += take;
            } else {
                at += decoder.parse(input)?;
            }
        }
        Ok((content, at, decoder.is_done()))
    }

    fn check(message: &str, expected: Result<(&str, &str, bool), ChunkError>) {
        let expected = expected.map(|(content, rest, done)| {
            (
                content.as_bytes().to_vec(),
                message.len() - rest.len(),
                done,
            )
        });
        for step in [usize::MAX / 2, 1, 2, 3, 7] {
            assert_eq!(
                decode(message.as_bytes(), step),
                expected,
                "{message:?} by {step}"
            );
        }
    }

    #[test]
    fn chunks() {
        check("5\r\nhello\r\n0\r\n\r\nrest", Ok(("hello", "rest", true)));
        check(
            "1\r\na\r\n00a\r\n0123456789\r\n0\r\n\r\n",
            Ok(("a0123456789", "", true)),
        );
        check(
            "A;x=\"y\";z\r\n0123456789\r\n0;end\r\n\r\n",
            Ok(("0123456789", "", true)),
        );
        check("1 \t;x\r\na\r\n0\r\n\r\n", Ok(("a", "", true)));
        check("0\r\nA: b\r\nC:\r\n\r\nrest", Ok(("", "rest", true)));
        check("5\r\nhel", Ok(("hel", "", false)));
        check("5\r\nhello\r\n0\r\n\r", Ok(("hello", "", false)));
        check("ffffffffffffffff\r\nx", Ok(("x", "", false)));
    }

    #[test]
    fn broken_chunks() {
        check("\r\n", Err(ChunkError::Size));
        check("x\r\n", Err(ChunkError::Size));
        check("-1\r\n", Err(ChunkError::Size));
        check("0x5\r\n", Err(ChunkError::Size));
        check(" 5\r\n", Err(ChunkError::Size));
        check("5 \r\nhello", Err(ChunkError::Size));
        check("10000000000000000\r\n", Err(ChunkError::Size));
        check("00000000000000005\r\n", Err(ChunkError::Size));
        check("5;\n", Err(ChunkError::Extension));
        check("5;\0\r\n", Err(ChunkError::Extension));
        check("5\n", Err(ChunkError::Size));
        check("5\rh", Err(ChunkError::LineEnd));
        check("5\r\nhelloX", Err(ChunkError::LineEnd));
        check("5\r\nhello\rX", Err(ChunkError::LineEnd));
        check("5\r\nhello\n", Err(ChunkError::LineEnd));
        check("0\r\n\n", Err(ChunkError::Trailer));
        check("0\r\nA b\r\n", Err(ChunkError::Trailer));
        check("0\r\n A: b\r\n", Err(ChunkError::Trailer));
        check("0\r\nA: b\n", Err(ChunkError::Trailer));
        check("0\r\n\rX", Err(ChunkError::Trailer));
    }

    #[test]
    fn taking_nothing_changes_nothing() {
        let mut decoder = ChunkDecoder::default();
        for framing in ["5", "\r\n"] {
            decoder.parse(framing.as_bytes()).unwrap();
            let before = decoder.clone();
            decoder.take_content(0);
            assert_eq!(decoder, before);
        }
        decoder.take_content(4);
        assert_eq!(decoder.content_remaining(), 1);
    }

    #[test]
    fn endless_framing_ends() {
        let extension = format!("5;{}", "x".repeat(CHUNK_EXTENSION_BYTES_MAX + 1));
        check(&extension, Err(ChunkError::Extension));
        let space = format!("5{}", " ".repeat(CHUNK_EXTENSION_BYTES_MAX + 2));
        check(&space, Err(ChunkError::Extension));
        let trailer = format!("0\r\n{}", "A: b\r\n".repeat(TRAILER_BYTES_MAX / 6 + 1));
        check(&trailer, Err(ChunkError::Trailer));
        // At each place of a line that the limit may fall on.
        for shift in 0..6 {
            let lines = "A: b\r\n".repeat(TRAILER_BYTES_MAX / 6 + 2);
            let trailer = format!("0\r\n{}: \r\n{lines}", "X".repeat(1 + shift));
            let last = decode(trailer.as_bytes(), 1);
            assert_eq!(last, Err(ChunkError::Trailer), "{shift}");
            let within = &trailer[..3 + TRAILER_BYTES_MAX];
            assert!(decode(within.as_bytes(), 1).is_ok(), "{shift}");
        }
    }

    #[test]
    fn written_chunks_decode() {
        assert_eq!(CHUNK_PREFIX_BYTES, "ffffffffffffffff\r\n".len());
        for size in [1u64, 15, 16, 255, 256 * 1024, u64::MAX] {
            let mut prefix = [0; CHUNK_PREFIX_BYTES];
            let start = write_chunk_size(&mut prefix, size);
            let mut decoder = ChunkDecoder::new();
            assert_eq!(
                decoder.parse(&prefix[start..]),
                Ok(CHUNK_PREFIX_BYTES - start)
            );
            assert_eq!(decoder.content_remaining(), size);
        }
        let mut decoder = ChunkDecoder::new();
        assert_eq!(decoder.parse(LAST_CHUNK), Ok(LAST_CHUNK.len()));
        assert!(decoder.is_done());
    }

    #[test]
    #[should_panic(expected = "took 6 bytes of a chunk with 5")]
    fn taking_more_than_is_there_is_a_bug() {
        let mut decoder = ChunkDecoder::new();
        let _ = decoder.parse(b"5\r\n");
        decoder.take_content(6);
    }
}
