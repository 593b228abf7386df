//! Byte ranges as they are answered: the `Content-Range` field (RFC 9110 §14.4).
//!
//! ```text
//! Content-Range     = range-unit SP ( range-resp / unsatisfied-range )
//! range-resp        = incl-range "/" ( complete-length / "*" )
//! unsatisfied-range = "*/" complete-length
//! ```

use crate::text;

/// A parsed `Content-Range` of the `bytes` unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentRange {
    /// The content is this part of the representation.
    Range {
        /// Offset of the first byte.
        first_pos: u64,
        /// Offset of the last byte, inclusive; not before `first_pos`.
        last_pos: u64,
        /// Length of the whole representation, beyond `last_pos`; `None` is written `*`.
        complete_length: Option<u64>,
    },
    /// No range could be satisfied (with status 416).
    Unsatisfied {
        /// Length of the whole representation.
        complete_length: u64,
    },
}

/// A `Content-Range` that does not follow its grammar, names another unit, or contradicts itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid content-range")]
pub struct InvalidContentRange;

impl ContentRange {
    /// Parses a field value. A number that does not fit in 64 bits is invalid here: unlike an
    /// asked-for position it cannot be clamped.
    ///
    /// # Errors
    /// [`InvalidContentRange`], also where the last position lies before the first, or at or past
    /// the complete length: RFC 9110 §14.4 forbids recombining such content.
    pub fn parse(value: &[u8]) -> Result<Self, InvalidContentRange> {
        Self::parse_inner(value).ok_or(InvalidContentRange)
    }

    fn parse_inner(value: &[u8]) -> Option<Self> {
        let (unit, rest) = value.split_at_checked(6)?;
        if !unit.eq_ignore_ascii_case(b"bytes ") {
            return None;
        }
        let slash = rest.iter().position(|&byte| byte == b'/')?;
        let (range, complete) = (&rest[..slash], &rest[slash + 1..]);
        let complete_length = if complete == b"*" {
            None
        } else {
            Some(text::digits_exact(complete)?)
        };
        if range == b"*" {
            return Some(Self::Unsatisfied {
                complete_length: complete_length?,
            });
        }
        let dash = range.iter().position(|&byte| byte == b'-')?;
        let first_pos = text::digits_exact(&range[..dash])?;
        let last_pos = text::digits_exact(&range[dash + 1..])?;
        if last_pos < first_pos || complete_length.is_some_and(|length| last_pos >= length) {
            return None;
        }
        // A span of 2^64 bytes has no length in a u64.
        (last_pos - first_pos).checked_add(1)?;
        Some(Self::Range {
            first_pos,
            last_pos,
            complete_length,
        })
    }

    /// Appends the field value.
    pub fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"bytes ");
        match self {
            Self::Range {
                first_pos,
                last_pos,
                complete_length,
            } => {
                text::push_u64(out, first_pos);
                out.push(b'-');
                text::push_u64(out, last_pos);
                out.push(b'/');
                match complete_length {
                    Some(length) => text::push_u64(out, length),
                    None => out.push(b'*'),
                }
            }
            Self::Unsatisfied { complete_length } => {
                out.extend_from_slice(b"*/");
                text::push_u64(out, complete_length);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        for text in [
            "bytes 0-0/1",
            "bytes 5-9/*",
            "bytes */0",
            "bytes 0-18446744073709551614/*",
            "bytes 18446744073709551614-18446744073709551615/*",
        ] {
            let mut out = Vec::new();
            ContentRange::parse(text.as_bytes())
                .unwrap()
                .write(&mut out);
            assert_eq!(out, text.as_bytes());
        }
        assert!(ContentRange::parse(b"BYTES 0-0/1").is_ok());
    }

    #[test]
    fn refused() {
        for text in [
            "",
            "bytes",
            "bytes ",
            "bytes=0-0/1",
            "bytes 0-0",
            "bytes 0/1",
            "bytes /1",
            "bytes 0-0/",
            "bytes -0/1",
            "bytes 0-/1",
            "bytes 1-0/2",
            "bytes 0-1/1",
            "bytes 0-5/5",
            "bytes */*",
            "bytes */",
            "bytes  0-0/1",
            "bytes 0 - 0/1",
            "bytes 0-0 /1",
            "bytes 0-0/1 ",
            "bytes 0-0/+1",
            "items 0-0/1",
            "bytes 0-18446744073709551615/*",
            "bytes 0-0/18446744073709551616",
            "bytes 18446744073709551616-18446744073709551617/*",
        ] {
            assert_eq!(
                ContentRange::parse(text.as_bytes()),
                Err(InvalidContentRange),
                "{text}"
            );
        }
    }
}
