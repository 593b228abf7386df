//! A peer that speaks raw bytes: what it sends is exactly what the test wrote, and what it
//! receives is read by a parser of its own, stricter than any client.
//!
//! Nothing here uses the project's parsers: a mistake made twice is a mistake no test sees.

use std::fmt::{self, Write as _};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// How long a peer waits for the next byte it was promised before it calls the wait a failure.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The most head bytes a response may have.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// The most content a response may bring: a server that sends without end fails its test, and
/// does not fill the machine first.
const CONTENT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How a connection came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The other side closed its half in order: FIN.
    Closed,
    /// The connection was reset, which may destroy bytes that were already on their way.
    Reset,
}

/// Why a response could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadError {
    /// The bytes are not an HTTP/1.1 response.
    Malformed(String),
    /// The connection ended inside a head.
    Ended(End),
    /// Nothing came for [`PATIENCE`].
    Silence,
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(why) => write!(f, "malformed response: {why}"),
            Self::Ended(end) => write!(f, "the connection ended inside a head ({end:?})"),
            Self::Silence => write!(f, "nothing came for {} s", PATIENCE.as_secs()),
        }
    }
}

impl std::error::Error for ReadError {}

/// How the end of a response's content is known (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// No content follows the head.
    Empty,
    /// As many bytes as `Content-Length` says.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
    /// Everything up to the end of the connection.
    UntilClose,
}

/// Status line and header section of a response.
#[derive(Clone, Debug)]
pub struct Head {
    /// The status code.
    pub status: u16,
    /// The reason phrase.
    pub reason: String,
    /// The field lines in order, names as sent, values without surrounding white space.
    pub fields: Vec<(String, String)>,
}

impl Head {
    /// Every value of the field `name`, in order.
    pub fn values<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.fields
            .iter()
            .filter(move |(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The value of the field `name`, where it is present once.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut values = self.values(name);
        let first = values.next();
        if values.next().is_some() { None } else { first }
    }

    /// Whether the list-based field `name` has `member`, in any case.
    #[must_use]
    pub fn lists(&self, name: &str, member: &str) -> bool {
        self.values(name)
            .flat_map(|value| value.split(','))
            .any(|m| m.trim_matches([' ', '\t']).eq_ignore_ascii_case(member))
    }

    /// Whether the response announces the end of its connection.
    #[must_use]
    pub fn closes(&self) -> bool {
        self.lists("Connection", "close")
    }

    /// The framing of the content that follows, or what is wrong with the fields that say it.
    pub fn framing(&self, to_head: bool) -> Result<Framing, String> {
        let mut lengths = self.values("Content-Length");
        let length = match lengths.next() {
            None => None,
            Some(text) if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) => {
                return Err(format!("Content-Length {text:?} is not a number"));
            }
            Some(text) => Some(text.parse::<u64>().map_err(|e| format!("{text}: {e}"))?),
        };
        if lengths.next().is_some() {
            return Err("Content-Length more than once".to_owned());
        }
        let mut codings = self.values("Transfer-Encoding");
        let chunked = match codings.next() {
            None => false,
            Some(coding) if coding.eq_ignore_ascii_case("chunked") => true,
            Some(coding) => return Err(format!("Transfer-Encoding {coding:?}")),
        };
        if codings.next().is_some() {
            return Err("Transfer-Encoding more than once".to_owned());
        }
        if chunked && length.is_some() {
            return Err("Content-Length beside Transfer-Encoding".to_owned());
        }
        let no_content = (100..200).contains(&self.status) || self.status == 204;
        if no_content && (chunked || length.is_some()) {
            return Err(format!("framing fields in a {}", self.status));
        }
        Ok(match length {
            _ if to_head || no_content || self.status == 304 => Framing::Empty,
            Some(length) => Framing::Length(length),
            None if chunked => Framing::Chunked,
            None => Framing::UntilClose,
        })
    }
}

/// One response: its head, its content as far as it came, and whether that was all of it.
#[derive(Clone, Debug)]
pub struct Response {
    /// Status line and header section.
    pub head: Head,
    /// The framing of the content.
    pub framing: Framing,
    /// The content, without its framing.
    pub content: Vec<u8>,
    /// `None` where the content is whole by its own framing; otherwise how the connection ended
    /// inside it. Close-delimited content that ended with a FIN counts as whole.
    pub cut: Option<End>,
}

impl Response {
    /// The status code.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.head.status
    }

    /// The value of the field `name`, where it is present once.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        self.head.field(name)
    }
}

/// One end of a connection to the server under test.
#[derive(Debug)]
pub struct RawPeer {
    stream: TcpStream,
    received: Vec<u8>,
    end: Option<End>,
}

impl RawPeer {
    /// Connects to the server at `addr`.
    pub fn connect(addr: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&addr, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self {
            stream,
            received: Vec::new(),
            end: None,
        })
    }

    /// Sends `bytes` in one write.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Sends `bytes` in writes of at most `size` bytes each.
    pub fn send_in_pieces(&mut self, bytes: &[u8], size: usize) -> io::Result<()> {
        bytes
            .chunks(size.max(1))
            .try_for_each(|piece| self.stream.write_all(piece))
    }

    /// Ends the sending half; what the server still sends can be read.
    pub fn half_close(&mut self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)
    }

    /// The address of this end.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.stream.local_addr()
    }

    /// Bytes received that no response has claimed.
    #[must_use]
    pub fn left_over(&self) -> &[u8] {
        &self.received
    }

    /// Reads the next response whole. `to_head` says that its request was a HEAD.
    ///
    /// `Ok(None)`: the connection was closed in order where a response could have begun.
    pub fn read_response(&mut self, to_head: bool) -> Result<Option<Response>, ReadError> {
        let Some(head) = self.read_head()? else {
            return Ok(None);
        };
        let framing = head.framing(to_head).map_err(ReadError::Malformed)?;
        let (content, cut) = match framing {
            Framing::Empty => (Vec::new(), None),
            Framing::Length(length) => self.read_length(length)?,
            Framing::Chunked => self.read_chunked()?,
            Framing::UntilClose => {
                let (content, end) = self.read_to_end()?;
                (content, (end == End::Reset).then_some(end))
            }
        };
        Ok(Some(Response {
            head,
            framing,
            content,
            cut,
        }))
    }

    /// Reads the next status line and header section.
    pub fn read_head(&mut self) -> Result<Option<Head>, ReadError> {
        loop {
            if let Some(at) = find(&self.received, b"\r\n\r\n") {
                let text: Vec<u8> = self.received.drain(..at + 4).collect();
                return parse_head(&text[..at + 2])
                    .map(Some)
                    .map_err(ReadError::Malformed);
            }
            if self.received.len() > HEAD_BYTES_MAX {
                return Err(ReadError::Malformed("a head without an end".to_owned()));
            }
            if let Some(end) = self.fill()? {
                return match end {
                    End::Closed if self.received.is_empty() => Ok(None),
                    _ if !self.received.is_empty() => Err(ReadError::Malformed(format!(
                        "the connection ended ({end:?}) inside a head: {}",
                        show(&self.received)
                    ))),
                    _ => Err(ReadError::Ended(end)),
                };
            }
        }
    }

    /// Reads `length` bytes of content, or as many as come.
    pub fn read_length(&mut self, length: u64) -> Result<(Vec<u8>, Option<End>), ReadError> {
        loop {
            if self.received.len() as u64 >= length {
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                return Ok((self.received.drain(..length).collect(), None));
            }
            if let Some(end) = self.fill()? {
                return Ok((std::mem::take(&mut self.received), Some(end)));
            }
        }
    }

    /// Reads everything up to the end of the connection.
    pub fn read_to_end(&mut self) -> Result<(Vec<u8>, End), ReadError> {
        loop {
            if let Some(end) = self.fill()? {
                return Ok((std::mem::take(&mut self.received), end));
            }
        }
    }

    fn read_chunked(&mut self) -> Result<(Vec<u8>, Option<End>), ReadError> {
        let mut content = Vec::new();
        loop {
            let Some(line) = self.read_line()? else {
                return Ok((content, self.end));
            };
            let digits = std::str::from_utf8(&line).unwrap_or("?");
            let right = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit());
            let size = match u64::from_str_radix(digits, 16) {
                Ok(size) if right => size,
                _ => return Err(ReadError::Malformed(format!("chunk-size {}", show(&line)))),
            };
            if size == 0 {
                return match self.read_line()? {
                    Some(line) if line.is_empty() => Ok((content, None)),
                    Some(line) => Err(ReadError::Malformed(format!(
                        "trailer field {}",
                        show(&line)
                    ))),
                    None => Ok((content, self.end)),
                };
            }
            let (chunk, cut) = self.read_length(size)?;
            content.extend_from_slice(&chunk);
            if cut.is_some() {
                return Ok((content, cut));
            }
            match self.read_line()? {
                Some(line) if line.is_empty() => {}
                Some(line) => {
                    return Err(ReadError::Malformed(format!(
                        "after a chunk: {}",
                        show(&line)
                    )));
                }
                None => return Ok((content, self.end)),
            }
        }
    }

    /// One line without its CRLF; `None` where the connection ended before the CRLF.
    fn read_line(&mut self) -> Result<Option<Vec<u8>>, ReadError> {
        loop {
            if let Some(at) = find(&self.received, b"\r\n") {
                let mut line: Vec<u8> = self.received.drain(..at + 2).collect();
                line.truncate(at);
                return Ok(Some(line));
            }
            if self.received.len() > HEAD_BYTES_MAX {
                return Err(ReadError::Malformed("a line without an end".to_owned()));
            }
            if self.fill()?.is_some() {
                self.received.clear();
                return Ok(None);
            }
        }
    }

    /// Waits for more bytes; `Some` when the connection has ended.
    fn fill(&mut self) -> Result<Option<End>, ReadError> {
        if self.end.is_some() {
            return Ok(self.end);
        }
        if self.received.len() > CONTENT_BYTES_MAX {
            return Err(ReadError::Malformed("content without end".to_owned()));
        }
        let deadline = Instant::now() + PATIENCE;
        let mut block = [0; 64 * 1024];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ReadError::Silence);
            }
            // A timeout of zero is refused by std; a millisecond more changes no verdict.
            let _ = self
                .stream
                .set_read_timeout(Some(left.max(Duration::from_millis(1))));
            match self.stream.read(&mut block) {
                Ok(0) => self.end = Some(End::Closed),
                Ok(n) => {
                    self.received.extend_from_slice(&block[..n]);
                    return Ok(None);
                }
                Err(e) => match e.kind() {
                    ErrorKind::Interrupted => continue,
                    ErrorKind::WouldBlock | ErrorKind::TimedOut => return Err(ReadError::Silence),
                    _ => self.end = Some(End::Reset),
                },
            }
            return Ok(self.end);
        }
    }
}

/// Parses a status line and field lines, each ended by CRLF, without the empty line.
pub fn parse_head(bytes: &[u8]) -> Result<Head, String> {
    let mut rest = bytes;
    let line = cut_line(&mut rest).ok_or("no status line")?;
    let text = std::str::from_utf8(line).map_err(|_| "status line is not text".to_owned())?;
    let after = text
        .strip_prefix("HTTP/1.1 ")
        .ok_or_else(|| format!("status line {text:?} does not begin with HTTP/1.1"))?;
    let (code, reason) = after
        .split_once(' ')
        .ok_or_else(|| format!("status line {text:?}: no second space"))?;
    if code.len() != 3 || !code.bytes().all(|b| b.is_ascii_digit()) || code.as_bytes()[0] == b'0' {
        return Err(format!("status code {code:?}"));
    }
    if !reason.bytes().all(is_field_byte) {
        return Err(format!("reason phrase {reason:?}"));
    }
    let mut fields = Vec::new();
    while !rest.is_empty() {
        let line = cut_line(&mut rest).ok_or("a field line without CRLF")?;
        fields.push(parse_field(line)?);
    }
    let status = code.parse().map_err(|_| "status code".to_owned())?;
    Ok(Head {
        status,
        reason: reason.to_owned(),
        fields,
    })
}

fn parse_field(line: &[u8]) -> Result<(String, String), String> {
    let colon = line
        .iter()
        .position(|&b| b == b':')
        .ok_or_else(|| format!("field line without a colon: {}", show(line)))?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    if name.is_empty() || !name.iter().copied().all(is_tchar) {
        return Err(format!("field name {}", show(name)));
    }
    if !value.iter().copied().all(is_field_byte) {
        return Err(format!("field value {}", show(value)));
    }
    let name = String::from_utf8_lossy(name).into_owned();
    let value = String::from_utf8_lossy(value);
    Ok((name, value.trim_matches([' ', '\t']).to_owned()))
}

/// Takes a line off the front; a CR or LF that is not part of the CRLF stays in it, where the
/// checks on its bytes refuse it.
fn cut_line<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let at = find(rest, b"\r\n")?;
    let line = &rest[..at];
    *rest = &rest[at + 2..];
    Some(line)
}

/// RFC 9110 §5.6.2.
#[must_use]
pub fn is_tchar(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

/// A byte that a field value or a reason phrase may hold: HTAB, SP, VCHAR, obs-text.
fn is_field_byte(b: u8) -> bool {
    b == b'\t' || (b >= 0x20 && b != 0x7f)
}

/// One part of `multipart/byteranges` content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The part's own fields.
    pub fields: Vec<(String, String)>,
    /// First and last position and complete length, from the part's Content-Range.
    pub range: (u64, u64, Option<u64>),
    /// The part's bytes.
    pub content: Vec<u8>,
}

/// Reads `multipart/byteranges` content (RFC 9110 §14.6, RFC 2046 §5.1.1) by its boundary,
/// trusting each part's Content-Range for its length and checking that a boundary follows.
pub fn parse_byteranges(content: &[u8], boundary: &str) -> Result<Vec<Part>, String> {
    let dash_boundary = format!("--{boundary}");
    let mut rest = content.strip_prefix(b"\r\n").unwrap_or(content);
    let mut parts = Vec::new();
    rest = rest
        .strip_prefix(dash_boundary.as_bytes())
        .ok_or_else(|| format!("content begins with {}, not its boundary", show(rest)))?;
    loop {
        if let Some(epilogue) = rest.strip_prefix(b"--") {
            if !matches!(epilogue, b"" | b"\r\n") {
                return Err(format!("after the last boundary: {}", show(epilogue)));
            }
            return Ok(parts);
        }
        rest = rest
            .strip_prefix(b"\r\n")
            .ok_or_else(|| format!("after a boundary: {}", show(rest)))?;
        let mut fields = Vec::new();
        loop {
            let line = cut_line(&mut rest).ok_or("a part's head has no end")?;
            if line.is_empty() {
                break;
            }
            fields.push(parse_field(line)?);
        }
        let mut ranges = fields
            .iter()
            .filter(|(n, _)| n.eq_ignore_ascii_case("Content-Range"));
        let range = ranges.next().ok_or("a part without Content-Range")?;
        if ranges.next().is_some() {
            return Err("a part with two Content-Range".to_owned());
        }
        let (first, last, total) = parse_content_range(&range.1)?;
        let length = usize::try_from(last - first + 1).map_err(|e| e.to_string())?;
        if rest.len() < length {
            return Err(format!(
                "part {} is {} bytes short",
                range.1,
                length - rest.len()
            ));
        }
        let (bytes, after) = rest.split_at(length);
        let range = (first, last, total);
        parts.push(Part {
            fields,
            range,
            content: bytes.to_vec(),
        });
        rest = after
            .strip_prefix(b"\r\n")
            .and_then(|r| r.strip_prefix(dash_boundary.as_bytes()))
            .ok_or_else(|| format!("no boundary after part {}: {}", parts.len(), show(after)))?;
    }
}

/// Reads the `bytes` range-resp of a Content-Range: first-pos, last-pos, complete-length.
pub fn parse_content_range(value: &str) -> Result<(u64, u64, Option<u64>), String> {
    let wrong = || format!("Content-Range {value:?}");
    let number = |text: &str| {
        let plain = !text.is_empty()
            && text.bytes().all(|b| b.is_ascii_digit())
            && (text == "0" || !text.starts_with('0'));
        if plain {
            text.parse::<u64>().map_err(|_| wrong())
        } else {
            Err(wrong())
        }
    };
    let (range, total) = value
        .strip_prefix("bytes ")
        .and_then(|r| r.split_once('/'))
        .ok_or_else(wrong)?;
    let (first, last) = range.split_once('-').ok_or_else(wrong)?;
    let (first, last) = (number(first)?, number(last)?);
    let total = if total == "*" {
        None
    } else {
        Some(number(total)?)
    };
    if last < first || total.is_some_and(|total| last >= total) {
        return Err(wrong());
    }
    Ok((first, last, total))
}

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const LONG_DAYS: [&str; 7] = [
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
];
const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// The civil date of a count of days since 1970-01-01: year, month 1..=12, day 1..=31.
///
/// Counted out year by year: slow and beyond doubt.
fn civil(mut days: u64) -> (u64, usize, u64) {
    let leap = |y: u64| y % 4 == 0 && (y % 100 != 0 || y % 400 == 0);
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    for (month, length) in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
        .into_iter()
        .enumerate()
    {
        if days < length {
            return (year, month + 1, days + 1);
        }
        days -= length;
    }
    unreachable!("a year's days are all in its months")
}

fn weekday(days: u64) -> usize {
    // 1970-01-01 was a Thursday.
    ((days + 3) % 7) as usize
}

/// `seconds` since the epoch as an IMF-fixdate: `Sun, 06 Nov 1994 08:49:37 GMT`.
#[must_use]
pub fn imf_fixdate(seconds: u64) -> String {
    let (days, time) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    format!(
        "{}, {day:02} {} {year:04} {} GMT",
        DAYS[weekday(days)],
        MONTHS[month - 1],
        clock(time)
    )
}

/// `seconds` since the epoch in the obsolete RFC 850 format.
#[must_use]
pub fn rfc850_date(seconds: u64) -> String {
    let (days, time) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    format!(
        "{}, {day:02}-{}-{:02} {} GMT",
        LONG_DAYS[weekday(days)],
        MONTHS[month - 1],
        year % 100,
        clock(time)
    )
}

/// `seconds` since the epoch in the obsolete format of ANSI C's `asctime()`.
#[must_use]
pub fn asctime_date(seconds: u64) -> String {
    let (days, time) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    format!(
        "{} {} {day:2} {} {year:04}",
        DAYS[weekday(days)],
        MONTHS[month - 1],
        clock(time)
    )
}

fn clock(time: u64) -> String {
    format!("{:02}:{:02}:{:02}", time / 3600, time / 60 % 60, time % 60)
}

/// The seconds since the epoch that an IMF-fixdate names; `None` for anything else.
#[must_use]
pub fn parse_imf_fixdate(text: &str) -> Option<u64> {
    // The candidate is found from its digits and then written again: what differs in any byte
    // (a wrong weekday too) is not the one fixed form.
    let digits = |range: std::ops::Range<usize>| text.get(range)?.parse::<u64>().ok();
    let month = MONTHS.iter().position(|m| text.get(8..11) == Some(m))?;
    let (day, year) = (digits(5..7)?, digits(12..16)?);
    let time = digits(17..19)? * 3600 + digits(20..22)? * 60 + digits(23..25)?;
    let mut days = (year.checked_sub(1970)?) * 365;
    while civil(days).0 < year {
        days += 1;
    }
    days += (0..366).find(|&n| {
        let (y, m, d) = civil(days + n);
        (y, m, d) == (year, month + 1, day)
    })?;
    let seconds = days * 86_400 + time;
    (imf_fixdate(seconds) == text).then_some(seconds)
}

/// Where `needle` begins in `haystack`.
#[must_use]
pub fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}

/// `bytes` as text for a failure message: escaped, and cut where they are long.
#[must_use]
pub fn show(bytes: &[u8]) -> String {
    const SHOWN: usize = 400;
    let mut text = String::new();
    for &b in bytes.iter().take(SHOWN) {
        let _ = write!(text, "{}", std::ascii::escape_default(b));
    }
    if bytes.len() > SHOWN {
        let _ = write!(text, "… ({} bytes)", bytes.len());
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use std::net::TcpListener;

    /// What a peer makes of `bytes` sent by a server that then closes.
    fn read(bytes: &'static [u8], to_head: bool) -> Result<Option<Response>, ReadError> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut peer = RawPeer::connect(listener.local_addr().unwrap()).unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(bytes).unwrap();
        drop(stream);
        peer.read_response(to_head)
    }

    #[test]
    fn responses_are_read_by_their_framing() {
        let whole = |bytes, to_head| {
            let response = read(bytes, to_head).unwrap().unwrap();
            (response.framing, response.content, response.cut)
        };
        assert_eq!(
            whole(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcd", false),
            (Framing::Length(3), b"abc".to_vec(), None)
        );
        assert_eq!(
            whole(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab", false),
            (Framing::Length(3), b"ab".to_vec(), Some(End::Closed))
        );
        assert_eq!(
            whole(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", true),
            (Framing::Empty, Vec::new(), None)
        );
        assert_eq!(
            whole(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n\
                 A\r\n0123456789\r\n0\r\n\r\n",
                false
            ),
            (Framing::Chunked, b"ab0123456789".to_vec(), None)
        );
        for short in [
            &b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n"[..],
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab",
        ] {
            let (_, content, cut) = whole(short, false);
            assert_eq!((&content[..], cut), (&b"ab"[..], Some(End::Closed)));
        }
        assert_eq!(
            whole(b"HTTP/1.1 200 OK\r\n\r\nabc", false),
            (Framing::UntilClose, b"abc".to_vec(), None)
        );
        assert!(read(b"", false).unwrap().is_none());
    }

    #[test]
    fn malformed_responses_are_refused() {
        for bytes in [
            &b"HTTP/1.0 200 OK\r\n\r\n"[..],
            b"HTTP/1.1 200\r\n\r\n",
            b"HTTP/1.1 20 OK\r\n\r\n",
            b"HTTP/1.1  200 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\nA: b\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n A: b\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nA: b\0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nA: b\rX: c\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nA: b\nX: c\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nA\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
            b"HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\na",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\na",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\na",
            b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1 \r\na\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nA: b",
            b"hello\r\n\r\n",
        ] {
            let answer = read(bytes, false);
            assert!(
                matches!(answer, Err(ReadError::Malformed(_))),
                "{}: {answer:?}",
                show(bytes)
            );
        }
    }

    #[test]
    fn dates_agree_with_the_examples_of_the_rfc() {
        // RFC 9110 §5.6.7.
        let seconds = 784_111_777;
        assert_eq!(imf_fixdate(seconds), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(rfc850_date(seconds), "Sunday, 06-Nov-94 08:49:37 GMT");
        assert_eq!(asctime_date(seconds), "Sun Nov  6 08:49:37 1994");
        assert_eq!(
            parse_imf_fixdate("Sun, 06 Nov 1994 08:49:37 GMT"),
            Some(seconds)
        );
        assert_eq!(
            parse_imf_fixdate("Thu, 29 Feb 2024 00:00:00 GMT"),
            Some(1_709_164_800)
        );
        for wrong in [
            "Mon, 06 Nov 1994 08:49:37 GMT",
            "Sun, 6 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37 UTC",
            "Sun, 06 Nov 1994 24:49:37 GMT",
            "Sun, 31 Feb 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "",
        ] {
            assert_eq!(parse_imf_fixdate(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn byteranges_are_read_strictly() {
        let good = "--B\r\nContent-Range: bytes 0-1/9\r\n\r\nab\r\n--B\r\nContent-Type: a/b\r\n\
                    Content-Range: bytes 4-4/9\r\n\r\ne\r\n--B--\r\n";
        let parts = parse_byteranges(good.as_bytes(), "B").unwrap();
        assert_eq!(parts.len(), 2);
        assert_eq!(
            (parts[0].range, &parts[0].content[..]),
            ((0, 1, Some(9)), &b"ab"[..])
        );
        assert_eq!(
            (parts[1].range, &parts[1].content[..]),
            ((4, 4, Some(9)), &b"e"[..])
        );
        for wrong in [
            "--B\r\nContent-Range: bytes 0-1/9\r\n\r\nabc\r\n--B--\r\n",
            "--B\r\nContent-Range: bytes 0-1/9\r\n\r\na\r\n--B--\r\n",
            "--B\r\nContent-Range: bytes 0-1/9\r\n\r\nab\r\n",
            "--B\r\n\r\nab\r\n--B--\r\n",
            "--B\nContent-Range: bytes 0-1/9\n\nab\n--B--\n",
            "--B\r\nContent-Range: bytes 0-1/9\r\n\r\nab\r\n--B--more",
            "--C\r\nContent-Range: bytes 0-1/9\r\n\r\nab\r\n--C--",
            "",
        ] {
            assert!(
                parse_byteranges(wrong.as_bytes(), "B").is_err(),
                "{wrong:?}"
            );
        }
        for wrong in [
            "bytes 1-0/9",
            "bytes 0-9/9",
            "bytes 0-9",
            "0-1/9",
            "bytes 00-1/9",
        ] {
            assert!(parse_content_range(wrong).is_err(), "{wrong}");
        }
        assert_eq!(parse_content_range("bytes 0-1/*"), Ok((0, 1, None)));
    }
}
