//! Several ranges in one answer: `multipart/byteranges` (RFC 9110 §14.6).

use crate::{ContentRange, Span, text};

/// What separates the parts of one answer. Made of 128 random bits, so that no content can be
/// prepared to hold it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Boundary([u8; 32]);

impl Boundary {
    /// The boundary that spells `random`.
    #[must_use]
    pub fn new(random: u128) -> Self {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0; 32];
        for (digit, shift) in text.iter_mut().zip((0..32).rev()) {
            *digit = HEX[(random >> (4 * shift)) as usize & 15];
        }
        Self(text)
    }

    /// Appends the value of the answer's `Content-Type`.
    pub fn write_content_type(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"multipart/byteranges; boundary=");
        out.extend_from_slice(&self.0);
    }

    /// Appends what stands before a part's content: delimiter and the part's own fields.
    pub fn write_part_head(&self, out: &mut Vec<u8>, part: &PartHead<'_>) {
        out.extend_from_slice(if part.first { b"--" } else { b"\r\n--" });
        out.extend_from_slice(&self.0);
        out.extend_from_slice(b"\r\nContent-Type: ");
        out.extend_from_slice(part.content_type);
        out.extend_from_slice(b"\r\nContent-Range: ");
        let range = ContentRange::Range {
            first_pos: part.span.offset,
            last_pos: part.span.last_pos(),
            complete_length: Some(part.complete_length),
        };
        range.write(out);
        out.extend_from_slice(b"\r\n\r\n");
    }

    /// Appends what stands behind the last part's content.
    pub fn write_end(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"\r\n--");
        out.extend_from_slice(&self.0);
        out.extend_from_slice(b"--\r\n");
    }

    /// The length of the whole content for these parts; `None` when it does not fit.
    #[must_use]
    pub fn content_length(
        &self,
        spans: &[Span],
        content_type: &[u8],
        complete_length: u64,
    ) -> Option<u64> {
        const END: u64 = ("\r\n--".len() + 32 + "--\r\n".len()) as u64;
        spans
            .iter()
            .enumerate()
            .try_fold(END, |sum, (index, span)| {
                let delimiter = if index == 0 { 2 } else { 4 } + 32;
                let fields = "\r\nContent-Type: \r\nContent-Range: bytes -/\r\n\r\n".len();
                let values = content_type.len() as u64
                    + decimal_len(span.offset)
                    + decimal_len(span.last_pos())
                    + decimal_len(complete_length);
                sum.checked_add(delimiter + fields as u64 + values)?
                    .checked_add(span.len)
            })
    }
}

impl std::fmt::Debug for Boundary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Boundary({})", self.0.escape_ascii())
    }
}

/// What the head of one part says.
#[derive(Clone, Copy, Debug)]
pub struct PartHead<'a> {
    /// Whether it is the first part: no CRLF stands before its delimiter.
    pub first: bool,
    /// Media type of the representation.
    pub content_type: &'a [u8],
    /// The part of the representation; at least one byte.
    pub span: Span,
    /// Length of the whole representation.
    pub complete_length: u64,
}

fn decimal_len(value: u64) -> u64 {
    let mut digits = Vec::with_capacity(20);
    text::push_u64(&mut digits, value);
    digits.len() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_is_that_of_what_is_written() {
        let boundary = Boundary::new(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);
        let complete_length = 1_000_000;
        let spans =
            [(0, 1), (9, 1), (10, 90), (999_999, 1)].map(|(offset, len)| Span { offset, len });
        for count in 0..=spans.len() {
            let mut out = Vec::new();
            for (index, &span) in spans[..count].iter().enumerate() {
                let part = PartHead {
                    first: index == 0,
                    content_type: b"audio/flac",
                    span,
                    complete_length,
                };
                boundary.write_part_head(&mut out, &part);
                out.resize(out.len() + span.len as usize, b'x');
            }
            boundary.write_end(&mut out);
            let length = boundary.content_length(&spans[..count], b"audio/flac", complete_length);
            assert_eq!(length, Some(out.len() as u64));
        }
    }

    #[test]
    fn a_part() {
        let boundary = Boundary::new(1);
        let mut out = Vec::new();
        let span = Span { offset: 5, len: 5 };
        let part = PartHead {
            first: true,
            content_type: b"text/plain",
            span,
            complete_length: 10,
        };
        boundary.write_part_head(&mut out, &part);
        boundary.write_end(&mut out);
        let line = format!("{:032x}", 1);
        let expected = format!(
            "--{line}\r\nContent-Type: text/plain\r\nContent-Range: bytes 5-9/10\r\n\r\n\r\n--{line}--\r\n"
        );
        assert_eq!(String::from_utf8_lossy(&out), expected);
    }

    #[test]
    fn a_boundary_is_said_and_shown() {
        let boundary = Boundary::new(0xabc);
        let mut out = Vec::new();
        boundary.write_content_type(&mut out);
        let expected = format!("multipart/byteranges; boundary={:032x}", 0xabc);
        assert_eq!(String::from_utf8_lossy(&out), expected);
        assert_eq!(format!("{boundary:?}"), format!("Boundary({:032x})", 0xabc));
    }

    #[test]
    fn an_absurd_length_does_not_wrap() {
        let spans = [Span {
            offset: 0,
            len: u64::MAX,
        }];
        assert_eq!(Boundary::new(0).content_length(&spans, b"", u64::MAX), None);
        // Nor where what stands between two parts is too much.
        let spans = [u64::MAX - 200, 1].map(|len| Span { offset: 0, len });
        let content_length = |spans| Boundary::new(0).content_length(spans, b"", u64::MAX);
        assert!(content_length(&spans[..1]).is_some());
        assert_eq!(content_length(&spans), None);
    }
}
