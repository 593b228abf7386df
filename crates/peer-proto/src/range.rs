//! Byte ranges as they are asked for: the `Range` field (RFC 9110 §14.1–14.2).
//!
//! ```text
//! ranges-specifier = range-unit "=" range-set
//! range-set        = 1#range-spec
//! range-spec       = int-range / suffix-range
//! int-range        = first-pos "-" [ last-pos ]
//! suffix-range     = "-" suffix-length
//! ```

use crate::{limits::RANGE_SPECS_MAX, text};

/// One range as it was asked for, before the complete length is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeSpec {
    /// `first-pos "-" [last-pos]`; both positions count, so `0-0` is one byte.
    Int {
        /// Offset of the first byte.
        first_pos: u64,
        /// Offset of the last byte, inclusive; `None` means to the end.
        last_pos: Option<u64>,
    },
    /// `"-" suffix-length`: the last bytes of the representation.
    Suffix {
        /// How many bytes from the end.
        suffix_length: u64,
    },
}

/// A stretch of content: what to send, once the complete length is known. The only half-open form
/// in the project; positions on the wire are inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Offset of the first byte.
    pub offset: u64,
    /// Number of bytes.
    pub len: u64,
}

impl Span {
    /// Offset of the last byte. For a span of at least one byte.
    #[must_use]
    pub const fn last_pos(self) -> u64 {
        self.offset.saturating_add(self.len.saturating_sub(1))
    }

    /// Offset behind the last byte.
    #[must_use]
    pub const fn end(self) -> u64 {
        self.offset.saturating_add(self.len)
    }
}

impl RangeSpec {
    /// The bytes this range selects of a representation of `complete_length` bytes; `None` when it
    /// selects none (RFC 9110 §14.1.2: unsatisfiable).
    #[inline]
    #[must_use]
    pub fn satisfy(self, complete_length: u64) -> Option<Span> {
        match self {
            Self::Int {
                first_pos,
                last_pos,
            } => {
                if first_pos >= complete_length {
                    return None;
                }
                let to_end = complete_length - first_pos;
                let len = match last_pos {
                    None => to_end,
                    // The last position counts, hence the one more; it may be u64::MAX.
                    Some(last_pos) => last_pos.saturating_sub(first_pos).min(to_end - 1) + 1,
                };
                Some(Span {
                    offset: first_pos,
                    len,
                })
            }
            Self::Suffix { suffix_length } => {
                let len = suffix_length.min(complete_length);
                if len == 0 {
                    return None;
                }
                Some(Span {
                    offset: complete_length - len,
                    len,
                })
            }
        }
    }
}

/// Why a `Range` field is not acted on. RFC 9110 §14.2 lets a server ignore it; the answer is 200.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ignored {
    /// A range unit other than `bytes`.
    Unit,
    /// Not a ranges-specifier: bad syntax, or a last position before the first.
    Invalid,
    /// More ranges than anybody needs ([`RANGE_SPECS_MAX`]).
    TooMany,
}

/// A valid `bytes` ranges-specifier, read lazily from its text.
#[derive(Clone, Copy, Debug)]
pub struct RangeSet<'a> {
    range_set: &'a [u8],
    /// The only range, if it is one: nearly every set is.
    only: Option<RangeSpec>,
}

impl<'a> RangeSet<'a> {
    /// Parses the value of a `Range` field: the unit in any case, positions beyond `u64::MAX`
    /// saturated.
    ///
    /// # Errors
    /// [`Ignored`] tells why the field is to be ignored; the set is then valid as a whole or not
    /// at all.
    pub fn parse(value: &'a [u8]) -> Result<Self, Ignored> {
        const UNIT: &[u8] = b"bytes";
        if let Some(range_set) = value.strip_prefix(b"bytes=") {
            if let only @ Some(_) = plain_spec(range_set) {
                return Ok(Self { range_set, only });
            }
        }
        let equals = value
            .iter()
            .position(|&byte| byte == b'=')
            .ok_or(Ignored::Invalid)?;
        let (unit, range_set) = (&value[..equals], &value[equals + 1..]);
        if !unit.eq_ignore_ascii_case(UNIT) {
            let is_token = !unit.is_empty() && unit.iter().all(|&byte| text::is_tchar(byte));
            return Err(if is_token {
                Ignored::Unit
            } else {
                Ignored::Invalid
            });
        }
        let set = Self {
            range_set,
            only: None,
        };
        let mut count = 0;
        for member in set.members() {
            parse_spec(member).ok_or(Ignored::Invalid)?;
            count += 1;
            if count > RANGE_SPECS_MAX {
                return Err(Ignored::TooMany);
            }
        }
        if count == 0 {
            Err(Ignored::Invalid)
        } else {
            Ok(set)
        }
    }

    /// The ranges, in the order they were asked for; at least one.
    pub fn specs(&self) -> impl Iterator<Item = RangeSpec> + use<'a> {
        self.members().filter_map(parse_spec)
    }

    /// The one range, where the text is nothing but that. `None` says nothing: look at
    /// [`specs`](Self::specs).
    #[inline]
    #[must_use]
    pub const fn only(&self) -> Option<RangeSpec> {
        self.only
    }

    fn members(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let members = self.range_set.split(|&byte| byte == b',').map(text::trim);
        members.filter(|member| !member.is_empty())
    }
}

/// Parses `first-pos "-" [last-pos]` in one pass. `None` for everything else, valid or not.
fn plain_spec(range_set: &[u8]) -> Option<RangeSpec> {
    let (first_pos, rest) = text::leading_digits(range_set)?;
    let last_pos = match rest.strip_prefix(b"-")? {
        [] => None,
        rest => match text::leading_digits(rest)? {
            (last_pos, []) if first_pos <= last_pos => Some(last_pos),
            _ => return None,
        },
    };
    Some(RangeSpec::Int {
        first_pos,
        last_pos,
    })
}

fn parse_spec(member: &[u8]) -> Option<RangeSpec> {
    let dash = member.iter().position(|&byte| byte == b'-')?;
    let (first, last) = (&member[..dash], &member[dash + 1..]);
    if first.is_empty() {
        return Some(RangeSpec::Suffix {
            suffix_length: text::digits(last)?,
        });
    }
    let first_pos = text::digits(first)?;
    let last_pos = if last.is_empty() {
        None
    } else {
        Some(text::digits(last)?)
    };
    if last_pos.is_some_and(|last_pos| last_pos < first_pos) {
        return None;
    }
    Some(RangeSpec::Int {
        first_pos,
        last_pos,
    })
}

/// Appends a `Range` field value for one int-range: `bytes=FIRST-LAST`.
pub fn write_range(out: &mut Vec<u8>, first_pos: u64, last_pos: Option<u64>) {
    out.extend_from_slice(b"bytes=");
    text::push_u64(out, first_pos);
    out.push(b'-');
    if let Some(last_pos) = last_pos {
        text::push_u64(out, last_pos);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn int(first_pos: u64, last_pos: Option<u64>) -> RangeSpec {
        RangeSpec::Int {
            first_pos,
            last_pos,
        }
    }

    fn suffix(suffix_length: u64) -> RangeSpec {
        RangeSpec::Suffix { suffix_length }
    }

    fn parse(value: &str) -> Result<Vec<RangeSpec>, Ignored> {
        RangeSet::parse(value.as_bytes()).map(|set| set.specs().collect())
    }

    #[test]
    fn accepted() {
        for (value, expected) in [
            ("bytes=0-0", vec![int(0, Some(0))]),
            ("BYTES=1-", vec![int(1, None)]),
            ("bytes=-5", vec![suffix(5)]),
            ("bytes=-0", vec![suffix(0)]),
            (
                "bytes=0-1, 3-4 ,\t-1",
                vec![int(0, Some(1)), int(3, Some(4)), suffix(1)],
            ),
            ("bytes=,,0-1,", vec![int(0, Some(1))]),
            ("bytes=007-8", vec![int(7, Some(8))]),
            ("bytes=5-99999999999999999999", vec![int(5, Some(u64::MAX))]),
            ("bytes=99999999999999999999-", vec![int(u64::MAX, None)]),
        ] {
            assert_eq!(parse(value), Ok(expected), "{value}");
        }
    }

    #[test]
    fn ignored() {
        for (value, why) in [
            ("", Ignored::Invalid),
            ("bytes", Ignored::Invalid),
            ("bytes=", Ignored::Invalid),
            ("bytes=,", Ignored::Invalid),
            ("bytes=1", Ignored::Invalid),
            ("bytes=-", Ignored::Invalid),
            ("bytes=5-4", Ignored::Invalid),
            ("bytes=0-1,5-4", Ignored::Invalid),
            ("bytes=a-b", Ignored::Invalid),
            ("bytes=0x1-2", Ignored::Invalid),
            ("bytes=1-2-3", Ignored::Invalid),
            ("bytes=--1", Ignored::Invalid),
            ("bytes= =1-2", Ignored::Invalid),
            ("bytes =1-2", Ignored::Invalid),
            ("bytes=1 - 2", Ignored::Invalid),
            ("bytes=+1-2", Ignored::Invalid),
            ("bytes=1.0-2", Ignored::Invalid),
            ("bytes=0-1;2-3", Ignored::Invalid),
            ("items=0-1", Ignored::Unit),
            ("=0-1", Ignored::Invalid),
        ] {
            assert_eq!(parse(value), Err(why), "{value}");
        }
        let many = |count: usize| format!("bytes={}", vec!["0-0"; count].join(","));
        assert!(parse(&many(RANGE_SPECS_MAX)).is_ok());
        assert_eq!(parse(&many(RANGE_SPECS_MAX + 1)), Err(Ignored::TooMany));
    }

    #[test]
    fn a_set_of_one_plain_range_is_that_range() {
        for (value, only) in [
            ("bytes=0-0", Some(int(0, Some(0)))),
            ("bytes=5-", Some(int(5, None))),
            ("bytes=007-19", Some(int(7, Some(19)))),
            ("bytes=-5", None),
            ("bytes=0-0,", None),
            ("bytes=0-0,2-", None),
            ("bytes= 0-0", None),
            ("BYTES=0-0", None),
        ] {
            let set = RangeSet::parse(value.as_bytes()).unwrap();
            assert_eq!(set.only(), only, "{value}");
            let first = set.specs().next();
            assert!(only.is_none() || first == only, "{value}: {first:?}");
        }
    }

    #[test]
    fn a_span_ends_behind_its_last_byte() {
        for (offset, len, last_pos, end) in [
            (0, 1, 0, 1),
            (5, 3, 7, 8),
            (u64::MAX - 1, 1, u64::MAX - 1, u64::MAX),
            (u64::MAX, 1, u64::MAX, u64::MAX),
        ] {
            let span = Span { offset, len };
            assert_eq!((span.last_pos(), span.end()), (last_pos, end), "{span:?}");
        }
    }

    #[test]
    fn satisfy_agrees_with_slicing() {
        for len in 0..=12u64 {
            for first in 0..=13u64 {
                for last in (first..=14).map(Some).chain([None, Some(u64::MAX)]) {
                    let end = last.map_or(len, |last| last.saturating_add(1)).min(len);
                    let naive = (first < end).then(|| Span {
                        offset: first,
                        len: end - first,
                    });
                    assert_eq!(
                        int(first, last).satisfy(len),
                        naive,
                        "{first}-{last:?}/{len}"
                    );
                }
                let naive = (first.min(len) > 0).then(|| Span {
                    offset: len - first.min(len),
                    len: first.min(len),
                });
                assert_eq!(suffix(first).satisfy(len), naive, "-{first}/{len}");
            }
        }
    }

    #[test]
    fn satisfy_at_the_edges_of_u64() {
        // The same naive oracle, in a wider type.
        let edges = [
            0,
            1,
            2,
            (1 << 32) - 1,
            1 << 32,
            (1 << 63) - 1,
            1 << 63,
            u64::MAX - 1,
            u64::MAX,
        ];
        for len in edges {
            for first in edges {
                for last in edges
                    .into_iter()
                    .filter(|&last| last >= first)
                    .map(Some)
                    .chain([None])
                {
                    let end = last.map_or(u128::from(len), |last| u128::from(last) + 1);
                    let end = end.min(u128::from(len));
                    let naive = (u128::from(first) < end).then(|| (first, end - u128::from(first)));
                    let span = int(first, last).satisfy(len);
                    assert_eq!(span.map(|span| (span.offset, u128::from(span.len))), naive);
                }
                let naive = (first.min(len) > 0).then(|| (len - first.min(len), first.min(len)));
                let span = suffix(first).satisfy(len);
                assert_eq!(span.map(|span| (span.offset, span.len)), naive);
            }
        }
    }

    #[test]
    fn written_ranges_parse_back() {
        for (first, last) in [
            (0, None),
            (5, Some(5)),
            (u64::MAX, None),
            (0, Some(u64::MAX)),
        ] {
            let mut out = Vec::new();
            write_range(&mut out, first, last);
            assert_eq!(
                RangeSet::parse(&out).map(|set| set.specs().collect()),
                Ok(vec![int(first, last)])
            );
        }
    }
}
