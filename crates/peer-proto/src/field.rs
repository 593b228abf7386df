//! The header section: field lines, looked up by the names this protocol knows (RFC 9110 §5).

use crate::{HeadError, limits::FIELD_LINES_MAX};

macro_rules! field_names {
    ($($variant:ident = $text:literal,)*) => {
        /// A field name that some part of the protocol reads. Every other field is skipped.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum FieldName {
            $(#[doc = concat!("`", $text, "`")] $variant,)*
        }

        impl FieldName {
            const COUNT: usize = [$(Self::$variant),*].len();

            /// The name as it is written on the wire.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// The known name spelled by `name`, in any case; `None` for every other.
            #[must_use]
            pub fn parse(name: &[u8]) -> Option<Self> {
                // Nearly every name is spelled as its RFC does, and that is told by a few words.
                $(if name == $text.as_bytes() {
                    return Some(Self::$variant);
                })*
                // The length tells most names apart, so at most a few comparisons are made.
                $(if name.len() == $text.len() && name.eq_ignore_ascii_case($text.as_bytes()) {
                    return Some(Self::$variant);
                })*
                None
            }
        }
    };
}

field_names! {
    AcceptRanges = "Accept-Ranges",
    AccessControlRequestHeaders = "Access-Control-Request-Headers",
    AccessControlRequestMethod = "Access-Control-Request-Method",
    Authorization = "Authorization",
    Connection = "Connection",
    ContentEncoding = "Content-Encoding",
    ContentLength = "Content-Length",
    ContentRange = "Content-Range",
    ContentType = "Content-Type",
    Date = "Date",
    ETag = "ETag",
    Expect = "Expect",
    Host = "Host",
    IfMatch = "If-Match",
    IfModifiedSince = "If-Modified-Since",
    IfNoneMatch = "If-None-Match",
    IfRange = "If-Range",
    IfUnmodifiedSince = "If-Unmodified-Since",
    LastModified = "Last-Modified",
    Origin = "Origin",
    Range = "Range",
    RetryAfter = "Retry-After",
    SecFetchSite = "Sec-Fetch-Site",
    TransferEncoding = "Transfer-Encoding",
}

/// Where a field's value stands in its head. A head is at most 16 KiB.
#[derive(Clone, Copy, Debug)]
struct Place {
    start: u16,
    len: u16,
}

/// Field lines that nearly every head has room for.
const FEW_LINES: usize = 12;

/// The known fields of a parsed head, as places in its bytes.
///
/// Places instead of slices: the head stays in its connection's buffer until the request is
/// answered, so nothing is copied and nothing borrows. One for each name, since these move with the
/// head they are of: where a name has several lines, which is rare, they are looked for again.
#[derive(Clone, Debug)]
pub struct FieldLines {
    places: [Place; FieldName::COUNT],
    /// The names that have a line, and those that have several, by bits.
    present: u32,
    repeated: u32,
    /// Where the lines start, and where the last one ends.
    section: (u16, u16),
}

impl FieldLines {
    pub(crate) const fn new() -> Self {
        Self {
            places: [Place { start: 0, len: 0 }; FieldName::COUNT],
            present: 0,
            repeated: 0,
            section: (0, 0),
        }
    }

    /// Parses the header section that starts at `head[at..]`, to its empty line. Returns the lines
    /// and the length of the whole head; `None` while the empty line has not come.
    ///
    /// The grammar is httparse's with every leniency off; it still takes a bare LF for a line
    /// end, so the CR before each line's LF is checked here.
    pub(crate) fn parse(head: &[u8], at: usize) -> Result<Option<(Self, usize)>, HeadError> {
        // Room for the most lines there may be costs as much to clear as the usual few to parse, and
        // stack that every connection's thread would keep.
        let mut few = [httparse::EMPTY_HEADER; FEW_LINES];
        match httparse::parse_headers(&head[at..], &mut few) {
            Err(httparse::Error::TooManyHeaders) => Self::parse_many(head, at),
            parsed => Self::check(head, at, parsed),
        }
    }

    /// Does the same for more lines than usual.
    #[cold]
    #[inline(never)]
    fn parse_many(head: &[u8], at: usize) -> Result<Option<(Self, usize)>, HeadError> {
        let mut most = [httparse::EMPTY_HEADER; FIELD_LINES_MAX];
        Self::check(head, at, httparse::parse_headers(&head[at..], &mut most))
    }

    /// Keeps what is known of the parsed section, if it is one.
    fn check(
        head: &[u8],
        at: usize,
        parsed: Parsed<'_, '_>,
    ) -> Result<Option<(Self, usize)>, HeadError> {
        let section = &head[at..];
        let (used, fields) = match parsed {
            Ok(httparse::Status::Complete(parsed)) => parsed,
            Ok(httparse::Status::Partial) => {
                return bare_lf(section).map_or(Ok(None), |_| Err(HeadError::LineEnd));
            }
            Err(error) => return Err(first_error(section, error)),
        };
        // Then all places in it have one, and the casts below lose nothing.
        if u16::try_from(at + used).is_err() {
            return Err(HeadError::TooLong);
        }
        let place = |part: &[u8]| (part.as_ptr() as usize).wrapping_sub(section.as_ptr() as usize);
        let ends_in_crlf = |line_end: usize| section[..line_end].ends_with(b"\r\n");
        const NONE: FieldLines = FieldLines::new();
        let mut lines = NONE;
        for (index, field) in fields.iter().enumerate() {
            if index > 0 && !ends_in_crlf(place(field.name.as_bytes())) {
                return Err(HeadError::LineEnd);
            }
            let Some(name) = FieldName::parse(field.name.as_bytes()) else {
                continue;
            };
            let start = if field.value.is_empty() {
                0
            } else {
                at + place(field.value)
            };
            let (start, len) = (start as u16, field.value.len() as u16);
            let bit = 1 << name as u8;
            lines.repeated |= lines.present & bit;
            lines.present |= bit;
            lines.places[name as usize] = Place { start, len };
        }
        let last_line_end = used.saturating_sub(2);
        if !ends_in_crlf(used) || (!fields.is_empty() && !ends_in_crlf(last_line_end)) {
            return Err(HeadError::LineEnd);
        }
        lines.section = (at as u16, (at + last_line_end) as u16);
        Ok(Some((lines, at + used)))
    }

    /// The lines as fields of `head`, the bytes they were parsed from.
    #[must_use]
    pub fn of<'a>(&'a self, head: &'a [u8]) -> Fields<'a> {
        Fields { head, lines: self }
    }
}

/// What httparse says of a header section: its length and its lines.
type Parsed<'a, 'b> = httparse::Result<(usize, &'a [httparse::Header<'b>])>;

/// The error that shows first in a section that `error` was found in. The same one, whether the
/// bytes behind it have come yet or not.
#[cold]
#[inline(never)]
fn first_error(section: &[u8], error: httparse::Error) -> HeadError {
    let mut raw = [httparse::EMPTY_HEADER; FIELD_LINES_MAX];
    let error = match bare_lf(section) {
        Some(lf) => httparse::parse_headers(&section[..lf], &mut raw).err(),
        None => Some(error),
    };
    match error {
        None | Some(httparse::Error::NewLine) => HeadError::LineEnd,
        Some(httparse::Error::TooManyHeaders) => HeadError::TooManyFields,
        Some(_) => HeadError::FieldLine,
    }
}

/// The first LF without a CR before it.
fn bare_lf(bytes: &[u8]) -> Option<usize> {
    let mut last = b'\n';
    bytes.iter().position(|&byte| {
        let is_bare = byte == b'\n' && last != b'\r';
        last = byte;
        is_bare
    })
}

/// Field lines with their values.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a> {
    head: &'a [u8],
    lines: &'a FieldLines,
}

/// A field that may be given once was given more than once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} is repeated", .0.as_str())]
pub struct Repeated(pub FieldName);

impl<'a> Fields<'a> {
    /// Whether at least one line has this name.
    #[must_use]
    pub const fn has(&self, name: FieldName) -> bool {
        self.lines.present & (1 << name as u8) != 0
    }

    /// The values of all lines with this name, in order, without surrounding white space.
    pub fn all(&self, name: FieldName) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let (start, end) = self.lines.section;
        let section = match self.single(name) {
            Ok(_) => &[],
            Err(_) => &self.head[usize::from(start)..usize::from(end)],
        };
        // Each line was found to be one when the head was parsed.
        let again = section
            .split(|&byte| byte == b'\n')
            .filter_map(move |line| {
                let colon = line.iter().position(|&byte| byte == b':')?;
                let value = line[colon + 1..].strip_suffix(b"\r").unwrap_or_default();
                let is_it = FieldName::parse(&line[..colon]) == Some(name);
                is_it.then(|| crate::text::trim(value))
            });
        self.single(name).ok().flatten().into_iter().chain(again)
    }

    /// The value of a field defined as a single one.
    ///
    /// # Errors
    /// [`Repeated`] when several lines have the name: the values of a singleton field cannot be
    /// combined (RFC 9110 §5.3).
    pub fn single(&self, name: FieldName) -> Result<Option<&'a [u8]>, Repeated> {
        if self.lines.repeated & (1 << name as u8) != 0 {
            return Err(Repeated(name));
        }
        let Place { start, len } = self.lines.places[name as usize];
        let start = usize::from(start);
        Ok(self
            .has(name)
            .then(|| &self.head[start..start + usize::from(len)]))
    }

    /// The members of a list-based field over all its lines (RFC 9110 §5.6.1); empty members are
    /// skipped. For lists of tokens: a comma inside a quoted string would split it.
    pub fn members(&self, name: FieldName) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.all(name)
            .flat_map(|value| value.split(|&byte| byte == b','))
            .map(crate::text::trim)
            .filter(|member| !member.is_empty())
    }

    /// Whether a list of tokens has this member, in any case.
    #[must_use]
    pub fn has_member(&self, name: FieldName, token: &str) -> bool {
        self.members(name)
            .any(|member| member.eq_ignore_ascii_case(token.as_bytes()))
    }
}

/// Whether `value` may be written as a field value: visible ASCII and obs-text with inner SP and
/// HTAB, no white space at its ends, not empty.
#[must_use]
pub fn is_field_value(value: &[u8]) -> bool {
    !value.is_empty()
        && crate::text::trim(value).len() == value.len()
        && value.iter().all(|&byte| crate::text::is_field_byte(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(section: &str) -> Result<Option<(FieldLines, usize)>, HeadError> {
        FieldLines::parse(section.as_bytes(), 0)
    }

    #[test]
    fn no_lines_hold_no_field() {
        let lines = FieldLines::new();
        assert!(!lines.of(b"").has(FieldName::Host));
    }

    #[test]
    fn every_name_parses_to_itself_in_any_case() {
        for name in [
            FieldName::AcceptRanges,
            FieldName::ETag,
            FieldName::TransferEncoding,
        ] {
            for text in [name.as_str().to_lowercase(), name.as_str().to_uppercase()] {
                assert_eq!(FieldName::parse(text.as_bytes()), Some(name));
            }
        }
        assert_eq!(FieldName::parse(b"Etags"), None);
        assert_eq!(FieldName::parse(b""), None);
    }

    /// Places are kept in 16 bits.
    #[test]
    fn a_section_has_places_up_to_64_kib() {
        let section = |len: usize| {
            let around = "X: \r\nETag: \"v\"\r\n\r\n".len();
            format!("X: {}\r\nETag: \"v\"\r\n\r\n", "x".repeat(len - around))
        };
        let most = section(65_535);
        let (lines, used) = parse(&most).unwrap().unwrap();
        assert_eq!(used, 65_535);
        let fields = lines.of(most.as_bytes());
        assert_eq!(fields.single(FieldName::ETag), Ok(Some(&b"\"v\""[..])));
        let refused = parse(&section(65_536)).map(|_| ());
        assert_eq!(refused, Err(HeadError::TooLong));
    }

    #[test]
    fn lookup() {
        let text = "host: a\r\nX: 1\r\nConnection: close , ,keep-alive\r\n\
                    connection:TE\r\nRange:\r\n\r\nrest";
        let (lines, used) = parse(text).unwrap().unwrap();
        assert_eq!(&text[used..], "rest");
        let fields = lines.of(text.as_bytes());
        assert_eq!(fields.single(FieldName::Host), Ok(Some(&b"a"[..])));
        assert_eq!(fields.single(FieldName::Range), Ok(Some(&b""[..])));
        assert_eq!(fields.single(FieldName::ETag), Ok(None));
        assert_eq!(
            fields.single(FieldName::Connection),
            Err(Repeated(FieldName::Connection))
        );
        let members: Vec<_> = fields.members(FieldName::Connection).collect();
        assert_eq!(members, [&b"close"[..], b"keep-alive", b"TE"]);
        assert!(fields.has_member(FieldName::Connection, "te"));
        assert!(!fields.has_member(FieldName::Connection, "t"));
    }

    #[test]
    fn lines_of_one_name() {
        let text = "X: a\r\nCONNECTION:\r\nA: Connection: no\r\nconnection: \t b:c \t\r\n\
                    Connection:d\r\n\r\nConnection: later\r\n";
        let (lines, _) = parse(text).unwrap().unwrap();
        let values: Vec<_> = lines
            .of(text.as_bytes())
            .all(FieldName::Connection)
            .collect();
        assert_eq!(values, [&b""[..], b"b:c", b"d"]);
        // As many as there may be, behind a start-line.
        let text = "start\r\n".to_owned() + &"Host: a\r\n".repeat(64) + "\r\n";
        let (lines, _) = FieldLines::parse(text.as_bytes(), 7).unwrap().unwrap();
        let fields = lines.of(text.as_bytes());
        assert_eq!(fields.all(FieldName::Host).count(), 64);
        assert_eq!(fields.all(FieldName::Range).count(), 0);
        assert_eq!(
            fields.single(FieldName::Host),
            Err(Repeated(FieldName::Host))
        );
    }

    #[test]
    fn strict() {
        for (text, expected) in [
            ("A: b\n\r\n", HeadError::LineEnd),
            ("A: b\r\n\n", HeadError::LineEnd),
            ("A: b\r\nC: d\n\r\n", HeadError::LineEnd),
            ("A: b\nC: d\r\n\r\n", HeadError::LineEnd),
            ("\n", HeadError::LineEnd),
            ("A : b\r\n\r\n", HeadError::FieldLine),
            (" A: b\r\n\r\n", HeadError::FieldLine),
            ("A: b\r\n c\r\n\r\n", HeadError::FieldLine),
            ("A\r\n\r\n", HeadError::FieldLine),
            (": b\r\n\r\n", HeadError::FieldLine),
            ("A: b\0\r\n\r\n", HeadError::FieldLine),
            ("A: b\x7f\r\n\r\n", HeadError::FieldLine),
        ] {
            assert_eq!(
                parse(text).map(|done| done.is_some()),
                Err(expected),
                "{text:?}"
            );
        }
        assert!(parse("A: b\rc\r\n\r\n").is_err());
        // As soon as it shows, and the first of two.
        for (text, expected) in [
            ("A: b\n", HeadError::LineEnd),
            ("A: b\nC", HeadError::LineEnd),
            ("A: b\nC : d\r\n\r\n", HeadError::LineEnd),
            ("A : b\nC: d\r\n\r\n", HeadError::FieldLine),
        ] {
            assert_eq!(
                parse(text).map(|done| done.is_some()),
                Err(expected),
                "{text:?}"
            );
        }
        assert!(parse("A: b\r\n").unwrap().is_none());
    }

    #[test]
    fn sixty_four_lines_and_no_more() {
        let lines = |count: usize| "A: b\r\n".repeat(count) + "\r\n";
        assert!(parse(&lines(64)).unwrap().is_some());
        assert_eq!(parse(&lines(65)).map(|_| ()), Err(HeadError::TooManyFields));
    }

    #[test]
    fn values_fit_to_be_written() {
        for (value, fit) in [
            ("audio/mpeg", true),
            ("a b", true),
            ("", false),
            (" a", false),
            ("a\r\nb", false),
            ("a\0", false),
        ] {
            assert_eq!(is_field_value(value.as_bytes()), fit, "{value:?}");
        }
    }
}
