//! Request heads (RFC 9112 §3 and §5): parsing and writing.

use crate::{
    HeadError, Version,
    field::{FieldLines, Fields},
    limits::{EMPTY_LINES_MAX, HEAD_BYTES_MAX, START_LINE_BYTES_MAX},
    text,
};

/// The request method, as far as answers differ by it (RFC 9110 §9). Case-sensitive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// `GET`: transfer the content.
    Get,
    /// `HEAD`: the head that a GET would get.
    Head,
    /// `OPTIONS`: not allowed here, but the method of a preflight (Fetch, the CORS protocol).
    Options,
    /// Another method that RFC 9110 or RFC 5789 defines: known, and not allowed here (405).
    Other,
    /// A method that nobody here knows (501).
    Unknown,
}

impl Method {
    fn parse(method: &[u8]) -> Self {
        match method {
            b"GET" => Self::Get,
            b"HEAD" => Self::Head,
            b"OPTIONS" => Self::Options,
            b"POST" | b"PUT" | b"DELETE" | b"CONNECT" | b"TRACE" | b"PATCH" => Self::Other,
            _ => Self::Unknown,
        }
    }
}

/// A parsed request head, as places in the bytes it was parsed from.
#[derive(Clone, Debug)]
pub struct RequestHead {
    /// The method.
    pub method: Method,
    /// The version.
    pub version: Version,
    target: (u16, u16),
    lines: FieldLines,
    len: usize,
}

impl RequestHead {
    /// Parses a head at the start of `bytes`. `None` while it is incomplete: call again with more.
    ///
    /// A few empty lines before the request-line are skipped (RFC 9112 §2.2). What can no longer
    /// become a valid head is refused as soon as that shows, not at its end.
    ///
    /// # Errors
    /// [`HeadError`]; nothing after the head's start can be trusted then.
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>, HeadError> {
        let mut start = 0;
        while bytes[start..].starts_with(b"\r\n") {
            start += 2;
            if start > 2 * EMPTY_LINES_MAX {
                return Err(HeadError::StartLine);
            }
        }
        // A TLS hello or other noise need not be waited for, and is told by its first byte however
        // much of it has come.
        if let Some(&byte) = bytes.get(start) {
            if !matches!(byte, b'\r' | b'\n') && !text::is_tchar(byte) {
                return Err(HeadError::StartLine);
            }
        }
        let (method, version, target_start, target_len, line_end) = match plain_line(bytes, start) {
            Some((target_start, target_len)) => {
                let line_end = target_start + target_len + PLAIN_LINE_END.len();
                let method = Method::Get;
                (method, Version::Http11, target_start, target_len, line_end)
            }
            None => {
                let Some(line_end) = start_line_end(bytes, start)? else {
                    return Ok(None);
                };
                let line = &bytes[start..line_end - 2];
                let (method, target, version) =
                    split_request_line(line).ok_or(HeadError::StartLine)?;
                let version = parse_version(version)?;
                let method = Method::parse(method);
                let target_start = start + line.len() - "HTTP/1.1".len() - 1 - target.len();
                (method, version, target_start, target.len(), line_end)
            }
        };
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
        // Both fit, since the start-line's cap is below 64 KiB.
        let target = (target_start as u16, target_len as u16);
        Ok(Some(Self {
            method,
            version,
            target,
            lines,
            len,
        }))
    }

    /// Bytes from the start of the parsed input to behind the empty line.
    #[must_use]
    pub const fn head_len(&self) -> usize {
        self.len
    }

    /// The request-target, in the bytes this head was parsed from.
    #[must_use]
    pub fn target<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        &bytes[usize::from(self.target.0)..][..usize::from(self.target.1)]
    }

    /// The fields, in the bytes this head was parsed from.
    #[must_use]
    pub fn fields<'a>(&'a self, bytes: &'a [u8]) -> Fields<'a> {
        self.lines.of(bytes)
    }
}

/// What stands behind the target in nearly every request-line.
const PLAIN_LINE_END: &[u8] = b" HTTP/1.1\r\n";

/// Place and length of the target in the request-line that nearly every request has, found in one
/// pass. `None` for every other line, whatever is wrong with it or not.
fn plain_line(bytes: &[u8], start: usize) -> Option<(usize, usize)> {
    const METHOD: &[u8] = b"GET ";
    let rest = bytes[start..].strip_prefix(METHOD)?;
    let ends = |byte: u8| byte <= b' ' || byte == 0x7f;
    // Without a way out of it, the inner loop becomes a few vector instructions.
    let blocks = rest.chunks_exact(16);
    let whole = blocks.take_while(|block| !block.iter().fold(false, |ended, &b| ended | ends(b)));
    let start_of_last = 16 * whole.count();
    let in_last = rest[start_of_last..].iter().position(|&byte| ends(byte))?;
    let len = start_of_last + in_last;
    if len == 0 {
        return None;
    }
    let is_short = METHOD.len() + len + PLAIN_LINE_END.len() <= START_LINE_BYTES_MAX;
    (is_short && rest[len..].starts_with(PLAIN_LINE_END)).then_some((start + METHOD.len(), len))
}

/// The place behind the start-line's CRLF, once it is there.
pub(crate) fn start_line_end(bytes: &[u8], start: usize) -> Result<Option<usize>, HeadError> {
    let line = &bytes[start..];
    match line.iter().position(|&byte| byte == b'\n') {
        Some(lf) if lf + 1 > START_LINE_BYTES_MAX => Err(HeadError::StartLineTooLong),
        Some(lf) if lf == 0 || line[lf - 1] != b'\r' => Err(HeadError::LineEnd),
        Some(lf) => Ok(Some(start + lf + 1)),
        None if line.len() > START_LINE_BYTES_MAX => Err(HeadError::StartLineTooLong),
        None => Ok(None),
    }
}

/// `request-line = method SP request-target SP HTTP-version`, single spaces, nothing else.
fn split_request_line(line: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let method_end = line.iter().position(|&byte| byte == b' ')?;
    let (method, rest) = (&line[..method_end], &line[method_end + 1..]);
    let target_end = rest.iter().position(|&byte| byte == b' ')?;
    let (target, version) = (&rest[..target_end], &rest[target_end + 1..]);
    let is_method = !method.is_empty() && method.iter().all(|&byte| text::is_tchar(byte));
    let is_target = !target.is_empty() && !target.iter().any(u8::is_ascii_control);
    (is_method && is_target && version.len() == 8).then_some((method, target, version))
}

/// `HTTP-version = "HTTP/" DIGIT "." DIGIT`, case-sensitive.
pub(crate) fn parse_version(version: &[u8]) -> Result<Version, HeadError> {
    match version {
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            match (major, minor) {
                (b'1', b'0') => Ok(Version::Http10),
                (b'1', _) => Ok(Version::Http11),
                _ => Err(HeadError::Version),
            }
        }
        _ => Err(HeadError::StartLine),
    }
}

/// What a GET for a range says.
#[derive(Clone, Copy)]
pub struct RequestFields<'a> {
    /// The `Host` field's value.
    pub host: &'a str,
    /// The bearer token.
    pub token: &'a crate::Token,
    /// The handle, not yet encoded.
    pub handle: &'a str,
    /// First and last position of the one range asked for; `None` asks for the whole.
    pub range: Option<(u64, Option<u64>)>,
    /// Serve the range only of this version (RFC 9110 §13.1.5).
    pub if_range: Option<crate::EntityTag>,
    /// Whether the connection may be used again afterwards.
    pub keep_alive: bool,
}

/// Appends the head of a GET request for a handle.
///
/// `Accept-Encoding: identity` keeps intermediaries from coding the content: ranges of a coded
/// representation are ranges of something else.
pub fn write_request(out: &mut Vec<u8>, request: &RequestFields<'_>) {
    out.extend_from_slice(b"GET ");
    crate::target::write_target(out, request.handle);
    out.extend_from_slice(b" HTTP/1.1\r\nHost: ");
    out.extend_from_slice(request.host.as_bytes());
    out.extend_from_slice(b"\r\nAuthorization: Bearer ");
    out.extend_from_slice(request.token.expose());
    out.extend_from_slice(b"\r\nAccept-Encoding: identity\r\n");
    if let Some((first_pos, last_pos)) = request.range {
        out.extend_from_slice(b"Range: ");
        crate::range::write_range(out, first_pos, last_pos);
        out.extend_from_slice(b"\r\n");
    }
    if let Some(tag) = request.if_range {
        out.extend_from_slice(b"If-Range: ");
        tag.write(out);
        out.extend_from_slice(b"\r\n");
    }
    if !request.keep_alive {
        out.extend_from_slice(b"Connection: close\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FieldName;

    fn parse(head: &str) -> Result<Option<RequestHead>, HeadError> {
        RequestHead::parse(head.as_bytes())
    }

    #[test]
    fn a_head_and_what_follows_it() {
        let text = "\r\nGET /track/a HTTP/1.1\r\nHost: b\r\n\r\nGET";
        let head = parse(text).unwrap().unwrap();
        assert_eq!(head.method, Method::Get);
        assert_eq!(head.version, Version::Http11);
        assert_eq!(head.target(text.as_bytes()), b"/track/a");
        assert_eq!(&text[head.head_len()..], "GET");
        let host = head.fields(text.as_bytes()).single(FieldName::Host);
        assert_eq!(host, Ok(Some(&b"b"[..])));
    }

    #[test]
    fn every_prefix_is_incomplete() {
        let text = "\r\n\r\nHEAD /track/a HTTP/1.0\r\nHost: b\r\nRange: bytes=0-1\r\n\r\n";
        for end in 0..text.len() {
            assert!(parse(&text[..end]).unwrap().is_none(), "{:?}", &text[..end]);
        }
        assert!(parse(text).unwrap().is_some());
    }

    #[test]
    fn request_lines() {
        for (line, expected) in [
            ("GET / HTTP/1.1", Ok((Method::Get, Version::Http11))),
            ("GET / HTTP/1.0", Ok((Method::Get, Version::Http10))),
            ("HEAD /abc HTTP/1.0", Ok((Method::Head, Version::Http10))),
            ("POST * HTTP/1.9", Ok((Method::Other, Version::Http11))),
            ("PUT / HTTP/1.1", Ok((Method::Other, Version::Http11))),
            ("DELETE / HTTP/1.1", Ok((Method::Other, Version::Http11))),
            ("CONNECT / HTTP/1.1", Ok((Method::Other, Version::Http11))),
            ("OPTIONS / HTTP/1.1", Ok((Method::Options, Version::Http11))),
            ("TRACE / HTTP/1.1", Ok((Method::Other, Version::Http11))),
            ("PATCH / HTTP/1.1", Ok((Method::Other, Version::Http11))),
            ("get / HTTP/1.1", Ok((Method::Unknown, Version::Http11))),
            ("GET / HTTP/2.0", Err(HeadError::Version)),
            ("GET / HTTP/0.9", Err(HeadError::Version)),
            ("PRI * HTTP/2.0", Err(HeadError::Version)),
            ("GET / HTTP/1.10", Err(HeadError::StartLine)),
            ("GET / HTTP/1", Err(HeadError::StartLine)),
            ("GET / http/1.1", Err(HeadError::StartLine)),
            ("GET / HTTP/x.1", Err(HeadError::StartLine)),
            ("GET /", Err(HeadError::StartLine)),
            ("GET", Err(HeadError::StartLine)),
            ("GET  / HTTP/1.1", Err(HeadError::StartLine)),
            ("GET /  HTTP/1.1", Err(HeadError::StartLine)),
            ("GET / HTTP/1.1 ", Err(HeadError::StartLine)),
            (" GET / HTTP/1.1", Err(HeadError::StartLine)),
            ("GET\t/ HTTP/1.1", Err(HeadError::StartLine)),
            ("GET /a b HTTP/1.1", Err(HeadError::StartLine)),
            ("GET /\x01 HTTP/1.1", Err(HeadError::StartLine)),
            ("GET /\r HTTP/1.1", Err(HeadError::StartLine)),
            ("G(T / HTTP/1.1", Err(HeadError::StartLine)),
            ("GET / HTTP/1.1\n", Err(HeadError::LineEnd)),
        ] {
            let text = format!("{line}\r\nHost: a\r\n\r\n");
            let head = parse(&text);
            if let Ok(Some(head)) = &head {
                let target = line.split(' ').nth(1).map(str::as_bytes);
                assert_eq!(Some(head.target(text.as_bytes())), target, "{line:?}");
            }
            let got = head.map(|head| head.map(|head| (head.method, head.version)));
            assert_eq!(got, expected.map(Some), "{line:?}");
        }
    }

    #[test]
    fn plain_lines() {
        let check = |before: &str, target: &str, end: &str, is_plain: bool| {
            let text = format!("{before}GET {target}{end}Host: a\r\n\r\n");
            let place = is_plain.then(|| (before.len() + 4, target.len()));
            assert_eq!(plain_line(text.as_bytes(), before.len()), place, "{text:?}");
        };
        // The end of the target in every place of a block, and the line's in the same or the next.
        for len in 1..=64 {
            check("", &"a".repeat(len), " HTTP/1.1\r\n", true);
            check("\r\n", &"a".repeat(len), " HTTP/1.1\r\n", true);
            check("", &"a".repeat(len), " HTTP/1.0\r\n", false);
            check("", &"a".repeat(len), " HTTP/1.1\n", false);
            check("", &"a".repeat(len), "\x7fHTTP/1.1\r\n", false);
        }
        check("", "", " HTTP/1.1\r\n", false);
        check("", "/a\x7f", " HTTP/1.1\r\n", false);
        check("", "/a\tb", " HTTP/1.1\r\n", false);
        let longest = "a".repeat(START_LINE_BYTES_MAX - "GET  HTTP/1.1\r\n".len());
        check("", &longest, " HTTP/1.1\r\n", true);
        check("", &(longest + "a"), " HTTP/1.1\r\n", false);
        assert_eq!(plain_line(b"HEAD / HTTP/1.1\r\n", 0), None);
    }

    #[test]
    fn noise_is_refused_at_once() {
        for noise in ["\x16", "\x16\x03\x01", "\x16\x03\n", "\x16\x03\r\n"] {
            assert_eq!(
                parse(noise).map(|_| ()),
                Err(HeadError::StartLine),
                "{noise:?}"
            );
        }
        assert_eq!(
            parse("GET / HTTP/1.1\n").map(|_| ()),
            Err(HeadError::LineEnd)
        );
        assert_eq!(parse("\n").map(|_| ()), Err(HeadError::LineEnd));
        let empty_lines = "\r\n".repeat(EMPTY_LINES_MAX);
        assert!(parse(&empty_lines).unwrap().is_none());
        let head = parse(&(empty_lines.clone() + "GET / HTTP/1.1\r\n\r\n"));
        assert!(head.unwrap().is_some());
        assert_eq!(
            parse(&(empty_lines + "\r\n")).map(|_| ()),
            Err(HeadError::StartLine)
        );
    }

    #[test]
    fn limits() {
        let line = |len: usize| format!("GET /{} HTTP/1.1\r\n", "a".repeat(len - 16));
        let fits = line(START_LINE_BYTES_MAX) + "\r\n";
        assert!(parse(&fits).unwrap().is_some());
        // The same by the way that lines of another version take.
        let old = fits.replace("HTTP/1.1", "HTTP/1.0");
        assert!(parse(&old).unwrap().is_some());
        let over = line(START_LINE_BYTES_MAX + 1);
        assert_eq!(parse(&over).map(|_| ()), Err(HeadError::StartLineTooLong));
        for end in [START_LINE_BYTES_MAX - 1, START_LINE_BYTES_MAX] {
            assert!(parse(&over[..end]).unwrap().is_none());
        }
        let long = "a".repeat(START_LINE_BYTES_MAX + 1);
        assert_eq!(parse(&long).map(|_| ()), Err(HeadError::StartLineTooLong));
        let head = |len: usize| format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "a".repeat(len - 23));
        assert!(parse(&head(HEAD_BYTES_MAX)).unwrap().is_some());
        assert_eq!(
            parse(&head(HEAD_BYTES_MAX + 1)).map(|_| ()),
            Err(HeadError::TooLong)
        );
        // A known field beyond what its place can say.
        let far = format!(
            "GET / HTTP/1.1\r\nA: {}\r\nHost: a\r\n\r\n",
            "a".repeat(70_000)
        );
        assert_eq!(parse(&far).map(|_| ()), Err(HeadError::TooLong));
        let unended = &head(HEAD_BYTES_MAX + 2)[..HEAD_BYTES_MAX];
        assert_eq!(parse(unended).map(|_| ()), Err(HeadError::TooLong));
    }

    #[test]
    fn written_requests_parse_back() {
        let token = crate::Token::new("t").unwrap();
        let mut out = Vec::new();
        write_request(
            &mut out,
            &RequestFields {
                host: "[::1]:80",
                token: &token,
                handle: "a b",
                range: Some((5, None)),
                if_range: Some(crate::EntityTag::strong("v").unwrap()),
                keep_alive: false,
            },
        );
        let expected = "GET /track/a%20b HTTP/1.1\r\nHost: [::1]:80\r\nAuthorization: Bearer t\r\n\
             Accept-Encoding: identity\r\nRange: bytes=5-\r\nIf-Range: \"v\"\r\nConnection: close\r\n\r\n";
        assert_eq!(String::from_utf8_lossy(&out), expected);
        assert_eq!(
            RequestHead::parse(&out).unwrap().unwrap().head_len(),
            out.len()
        );
    }
}
