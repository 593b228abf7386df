//! Dates in whole seconds, as HTTP carries them (RFC 9110 §5.6.7).

use std::time::{Duration, SystemTime};

/// The last second HTTP's four-digit year can name: 9999-12-31T23:59:59Z.
const LAST: u64 = 253_402_300_799;

/// A point in time with the resolution of HTTP: whole seconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HttpDate(u64);

impl HttpDate {
    /// The second that `time` lies in. `None` before 1970 or after the year 9999, which an
    /// HTTP-date cannot say.
    #[must_use]
    pub fn new(time: SystemTime) -> Option<Self> {
        let seconds = time.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs();
        (seconds <= LAST).then_some(Self(seconds))
    }

    /// Parses an HTTP-date: IMF-fixdate, and the two obsolete forms that RFC 9110 §5.6.7 makes
    /// every recipient accept. `None` for anything else.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(value).ok()?;
        Self::new(httpdate::parse_http_date(text).ok()?)
    }

    /// Seconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub const fn seconds(self) -> u64 {
        self.0
    }

    /// Appends the IMF-fixdate form, 29 bytes.
    pub fn write(self, out: &mut Vec<u8>) {
        use std::io::Write;
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(self.0);
        // Writing to a Vec cannot fail.
        let _ = write!(out, "{}", httpdate::HttpDate::from(time));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_forms_name_one_second() {
        let date = HttpDate(784_111_777);
        for text in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
        ] {
            assert_eq!(HttpDate::parse(text.as_bytes()), Some(date), "{text}");
        }
        let mut out = Vec::new();
        date.write(&mut out);
        assert_eq!(out, b"Sun, 06 Nov 1994 08:49:37 GMT");
    }

    #[test]
    fn what_http_cannot_say_is_no_date() {
        for text in [
            "",
            "now",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 32 Nov 1994 08:49:37 GMT",
            "\u{e9}",
        ] {
            assert_eq!(HttpDate::parse(text.as_bytes()), None, "{text}");
        }
        let epoch = SystemTime::UNIX_EPOCH;
        assert_eq!(HttpDate::new(epoch - Duration::from_secs(1)), None);
        assert_eq!(
            HttpDate::new(epoch + Duration::from_secs(LAST)),
            Some(HttpDate(LAST))
        );
        assert_eq!(HttpDate::new(epoch + Duration::from_secs(LAST + 1)), None);
    }
}
