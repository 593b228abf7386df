//! Which web origins may read what a server answers (RFC 6454, and the CORS protocol of Fetch).
//!
//! An origin is compared byte by byte, as browsers serialize it. So whatever no browser would ever
//! send is refused when the list is made: an entry that looks right and never matches is worse than
//! an error.

use std::{fmt, net::Ipv4Addr, net::Ipv6Addr, sync::Arc};

use peer_proto::{FieldName, Fields};

/// The longest origin that a list takes, in bytes: a scheme, the longest host name that DNS knows
/// (253), and a port. It bounds what an answer's head can hold.
pub const ORIGIN_BYTES_MAX: usize = 320;

/// The longest that a browser remembers a preflight's answer, in seconds: a day is the most that
/// any of them takes (Firefox; Chromium takes 2 hours).
pub(crate) const MAX_AGE_SECONDS: &str = "86400";

/// Methods that a page may use.
pub(crate) const METHODS: &str = "GET, HEAD";

/// Fields that a page may send: all that an answer depends on.
pub(crate) const REQUEST_FIELDS: &str = "Authorization, Range, If-Range, If-Match, \
     If-None-Match, If-Modified-Since, If-Unmodified-Since";

/// Fields that a page may read, beyond those that every page may.
pub(crate) const ANSWER_FIELDS: &str =
    "Accept-Ranges, Content-Length, Content-Range, Date, ETag, Retry-After, WWW-Authenticate";

/// The origins whose pages may read answers. Empty, unless the app names some: then nothing on the
/// wire shows that there is such a list.
///
/// Clones share the list.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct AllowedOrigins(Arc<[Box<str>]>);

impl AllowedOrigins {
    /// Adds an origin as browsers serialize it: scheme and host in lower case, the port unless it
    /// is the scheme's default, and nothing behind it. `https://player.example`,
    /// `http://localhost:8080`, `http://[::1]:8080`, `chrome-extension://` and an extension's id.
    ///
    /// # Errors
    /// [`OriginError`], for what no browser sends, and for `*` and `null`, which stand for
    /// everybody. The list is unchanged then.
    pub fn allow(&mut self, origin: &str) -> Result<(), OriginError> {
        check(origin)?;
        if !self.allows(origin.as_bytes()) {
            self.0 = self.0.iter().cloned().chain([origin.into()]).collect();
        }
        Ok(())
    }

    /// Whether no origin is allowed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether an `Origin` field with this value names one of them. Exactly: no other port, no
    /// other case, no subdomain.
    #[must_use]
    pub fn allows(&self, origin: &[u8]) -> bool {
        self.position(origin).is_some()
    }

    /// The place of the origin that a request comes from, if it is one of these. A request that
    /// names several comes from none.
    pub(crate) fn find(&self, fields: &Fields<'_>) -> Option<usize> {
        if self.is_empty() {
            return None;
        }
        self.position(fields.single(FieldName::Origin).ok()??)
    }

    fn position(&self, origin: &[u8]) -> Option<usize> {
        self.0.iter().position(|one| one.as_bytes() == origin)
    }

    /// The origin at a place that [`find`](Self::find) gave.
    pub(crate) fn at(&self, place: usize) -> Option<&str> {
        self.0.get(place).map(|origin| &**origin)
    }
}

impl fmt::Debug for AllowedOrigins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter()).finish()
    }
}

/// Why a text is no origin that can be allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OriginError {
    /// `*`. Whoever lets every page in lets every page find the server, and try tokens from inside
    /// the network.
    #[error("`*` is every page of every site: name those that may read answers")]
    Any,
    /// `null`: what sandboxed frames, `data:` and `file:` documents send. Every site can make one.
    #[error("`null` is no site: every page can make a document that sends it")]
    Opaque,
    /// Longer than [`ORIGIN_BYTES_MAX`].
    #[error("longer than {ORIGIN_BYTES_MAX} bytes")]
    TooLong,
    /// It does not begin with a scheme in lower case and `://`.
    #[error("an origin begins with a scheme in lower case and ://, as in https://")]
    Scheme,
    /// Behind the scheme stands no host as a browser writes it: a name in ASCII and lower case, an
    /// IPv4 address in four decimal numbers, or an IPv6 address in brackets and in its shortest
    /// form.
    #[error(
        "its host is not as a browser sends it: lower case, xn-- for other scripts, the \
         shortest form of an address"
    )]
    Host,
    /// The port is no number from 1 to 65535 without leading zeros.
    #[error("its port is no number from 1 to 65535")]
    Port,
    /// The scheme's default port is named, which browsers leave out.
    #[error("browsers leave out the default port of a scheme: so must an origin")]
    DefaultPort,
    /// Something stands behind host and port; a single slash is something.
    #[error("an origin ends with its host or port: no path, not even a slash")]
    Path,
}

/// The serialization of an origin in ASCII (RFC 6454 §6.2), as the URL standard writes its parts.
fn check(origin: &str) -> Result<(), OriginError> {
    match origin {
        "*" => return Err(OriginError::Any),
        "null" => return Err(OriginError::Opaque),
        _ if origin.len() > ORIGIN_BYTES_MAX => return Err(OriginError::TooLong),
        _ => {}
    }
    let (scheme, rest) = origin.split_once("://").ok_or(OriginError::Scheme)?;
    let is_scheme = scheme.starts_with(|first: char| first.is_ascii_lowercase())
        && scheme
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b));
    if !is_scheme {
        return Err(OriginError::Scheme);
    }
    if rest.contains(['/', '?', '#', '\\']) {
        return Err(OriginError::Path);
    }
    let (is_host, port) = match rest.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']').ok_or(OriginError::Host)?;
            (is_ipv6(address), port)
        }
        None => {
            let end = rest.find(':').unwrap_or(rest.len());
            let (name, port) = rest.split_at(end);
            (is_name(name), port)
        }
    };
    if !is_host {
        return Err(OriginError::Host);
    }
    if port.is_empty() {
        return Ok(());
    }
    let port = port.strip_prefix(':').ok_or(OriginError::Host)?;
    let is_number = !port.starts_with('0') && port.bytes().all(|digit| digit.is_ascii_digit());
    let number: u16 = match port.parse() {
        Ok(number) if is_number => number,
        _ => return Err(OriginError::Port),
    };
    let default = match scheme {
        "http" | "ws" => Some(80),
        "https" | "wss" => Some(443),
        "ftp" => Some(21),
        _ => None,
    };
    if default == Some(number) {
        return Err(OriginError::DefaultPort);
    }
    Ok(())
}

/// A name, or an IPv4 address: what ends in a number is one to a browser, which then writes it as
/// four.
fn is_name(name: &str) -> bool {
    let is_byte = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._".contains(&b);
    let last = name.trim_end_matches('.').rsplit('.').next().unwrap_or("");
    let is_number = |digits: &str| {
        let hexadecimal = digits.strip_prefix("0x");
        let is_digit = |b: u8| match hexadecimal {
            Some(_) => b.is_ascii_hexdigit(),
            None => b.is_ascii_digit(),
        };
        hexadecimal.unwrap_or(digits).bytes().all(is_digit)
    };
    !last.is_empty()
        && name.bytes().all(is_byte)
        && (!is_number(last) || name.parse::<Ipv4Addr>().is_ok())
}

/// An address as the URL standard writes it: like RFC 5952, and never with an IPv4 address in it.
fn is_ipv6(text: &str) -> bool {
    let Ok(address) = text.parse::<Ipv6Addr>() else {
        return false;
    };
    let written = match address.segments() {
        [0, 0, 0, 0, 0, 0xffff, high, low] => format!("::ffff:{high:x}:{low:x}"),
        _ => address.to_string(),
    };
    written == text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_browsers_write_them() {
        for origin in [
            "https://player.example",
            "http://localhost",
            "http://localhost:8080",
            "http://localhost:443",
            "https://localhost:80",
            "http://127.0.0.1:1",
            "http://192.168.1.20:65535",
            "http://[::1]",
            "http://[fe80::1]:8080",
            "http://[::ffff:c0a8:114]",
            "https://xn--bcher-kva.example",
            "https://under_score.example.",
            "https://1.example",
            "https://a.0xyz",
            "chrome-extension://abcdefghijklmnopabcdefghijklmnop",
            "moz-extension://4b5f1bb6-1a8c-4e0a-9d2b-5b7d1c1f2a3b",
            "capacitor://localhost",
            "app+x.y-1://host",
        ] {
            assert_eq!(check(origin), Ok(()), "{origin}");
        }
        let scheme = "https://";
        let longest = scheme.to_owned() + &"a".repeat(ORIGIN_BYTES_MAX - scheme.len());
        assert_eq!(check(&longest), Ok(()));
        assert_eq!(check(&(longest + "a")), Err(OriginError::TooLong));
    }

    #[test]
    fn what_no_browser_sends_is_refused_with_the_reason() {
        use OriginError as E;
        let long = format!("https://{}", "a".repeat(ORIGIN_BYTES_MAX));
        for (origin, expected) in [
            ("*", E::Any),
            ("null", E::Opaque),
            (&*long, E::TooLong),
            ("", E::Scheme),
            ("player.example", E::Scheme),
            ("player.example:443", E::Scheme),
            ("//player.example", E::Scheme),
            ("://player.example", E::Scheme),
            ("HTTPS://player.example", E::Scheme),
            ("1http://a", E::Scheme),
            ("ht tp://a", E::Scheme),
            (" https://a", E::Scheme),
            ("https://", E::Host),
            ("file://", E::Host),
            ("https://:8080", E::Host),
            ("https://Player.example", E::Host),
            ("https://*.example", E::Host),
            ("https://b\u{fc}cher.example", E::Host),
            ("https://user@a", E::Host),
            ("https://user:pass@a", E::Port),
            ("https://a b", E::Host),
            ("https://a\r\nX: y", E::Host),
            ("https://a%41", E::Host),
            ("https://.", E::Host),
            ("http://127.1", E::Host),
            ("http://127.0.0.1.", E::Host),
            ("http://127.0.0.01", E::Host),
            ("http://2130706433", E::Host),
            ("http://0x7f.1", E::Host),
            ("http://a.0x7f", E::Host),
            ("http://[::1", E::Host),
            ("http://[0:0:0:0:0:0:0:1]", E::Host),
            ("http://[::FFFF]", E::Host),
            ("http://[::ffff:192.168.1.20]", E::Host),
            ("http://[fe80::1%eth0]", E::Host),
            ("http://[::1]8080", E::Host),
            ("http://a:", E::Port),
            ("http://a:0", E::Port),
            ("http://a:080", E::Port),
            ("http://a:+81", E::Port),
            ("http://a:65536", E::Port),
            ("http://a:81:82", E::Port),
            ("http://a:80", E::DefaultPort),
            ("https://a:443", E::DefaultPort),
            ("https://a/", E::Path),
            ("https://a/b", E::Path),
            ("https://a?b", E::Path),
            ("https://a#b", E::Path),
            ("https://a, https://b", E::Path),
        ] {
            let mut origins = AllowedOrigins::default();
            assert_eq!(origins.allow(origin), Err(expected), "{origin:?}");
            assert!(origins.is_empty());
        }
    }

    #[test]
    fn the_default_port_is_the_scheme_s() {
        for (origin, expected) in [
            ("ws://a:80", Err(OriginError::DefaultPort)),
            ("wss://a:443", Err(OriginError::DefaultPort)),
            ("ftp://a:21", Err(OriginError::DefaultPort)),
            ("ftp://a:80", Ok(())),
            ("tauri://a:80", Ok(())),
        ] {
            let mut origins = AllowedOrigins::default();
            assert_eq!(origins.allow(origin), expected, "{origin}");
            let shown = format!("{origins:?}");
            assert_eq!(shown.contains(origin), expected.is_ok(), "{shown}");
        }
    }

    #[test]
    fn a_request_comes_from_the_one_origin_that_it_names() {
        let mut origins = AllowedOrigins::default();
        let place = |origins: &AllowedOrigins, fields: &str| {
            let text = format!("GET / HTTP/1.1\r\n{fields}\r\n");
            let head = peer_proto::RequestHead::parse(text.as_bytes());
            origins.find(&head.unwrap().unwrap().fields(text.as_bytes()))
        };
        assert_eq!(place(&origins, "Origin: https://a.example\r\n"), None);
        for origin in ["https://a.example", "http://b:81"] {
            origins.allow(origin).unwrap();
        }
        for (fields, expected) in [
            ("Origin: https://a.example\r\n", Some(0)),
            ("origin: http://b:81\r\n", Some(1)),
            ("Origin: http://b:82\r\n", None),
            ("Origin: null\r\n", None),
            ("Origin: https://a.example\r\nOrigin: http://b:81\r\n", None),
            ("Host: https://a.example\r\n", None),
            ("", None),
        ] {
            assert_eq!(place(&origins, fields), expected, "{fields:?}");
        }
        assert_eq!(origins.at(1), Some("http://b:81"));
        assert_eq!(origins.at(2), None);
    }

    #[test]
    fn only_the_very_same_origin_matches() {
        let mut origins = AllowedOrigins::default();
        assert!(!origins.allows(b"https://a.example"));
        for origin in ["https://a.example", "http://a:81", "https://a.example"] {
            origins.allow(origin).unwrap();
        }
        assert_eq!(origins.0.len(), 2, "twice is once");
        for (origin, allowed) in [
            ("https://a.example", true),
            ("http://a:81", true),
            ("http://a.example", false),
            ("https://a.example:81", false),
            ("https://A.example", false),
            ("https://a.example.", false),
            ("https://b.a.example", false),
            ("https://a.example, https://b", false),
            ("null", false),
            ("*", false),
            ("", false),
        ] {
            assert_eq!(origins.allows(origin.as_bytes()), allowed, "{origin:?}");
        }
    }
}
