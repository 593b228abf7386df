//! Naive oracles: the grammars and the arithmetic once more, written to be read beside the RFC
//! and not to be fast. Nothing here shares code with what it is held against.

/// A head, taken apart line by line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The start-line, without its CRLF.
    pub start_line: Vec<u8>,
    /// Names in lower case, values without surrounding white space.
    pub fields: Vec<(String, Vec<u8>)>,
    /// Bytes up to and with the empty line.
    pub len: usize,
}

/// What the lines of a head amount to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lines {
    /// The empty line has not come, and nothing before it is wrong.
    Incomplete,
    /// Some line can be part of no head.
    Malformed,
    /// All lines are well formed; the start-line is not looked at.
    Complete(Head),
}

/// Takes a head apart: lines end in CRLF, `empty_lines` may come first (RFC 9112 §2).
#[must_use]
pub fn lines(bytes: &[u8], empty_lines: usize) -> Lines {
    let mut skipped = 0;
    let mut start_line = None;
    let mut fields = Vec::new();
    let mut len = 0;
    for line in bytes.split_inclusive(|&byte| byte == b'\n') {
        len += line.len();
        let Some(line) = line.strip_suffix(b"\n") else {
            return Lines::Incomplete;
        };
        let Some(line) = line.strip_suffix(b"\r") else {
            return Lines::Malformed;
        };
        let Some(start_line) = &start_line else {
            if !line.is_empty() {
                start_line = Some(line.to_vec());
            } else if skipped < empty_lines {
                skipped += 1;
            } else {
                return Lines::Malformed;
            }
            continue;
        };
        if line.is_empty() {
            return Lines::Complete(Head {
                start_line: start_line.clone(),
                fields,
                len,
            });
        }
        match field_line(line) {
            Some(field) => fields.push(field),
            None => return Lines::Malformed,
        }
    }
    Lines::Incomplete
}

/// `field-line = field-name ":" OWS field-value OWS` (RFC 9112 §5).
fn field_line(line: &[u8]) -> Option<(String, Vec<u8>)> {
    let colon = line.iter().position(|&byte| byte == b':')?;
    let name = std::str::from_utf8(&line[..colon]).ok()?;
    let value = trim(&line[colon + 1..]);
    let is_value = value
        .iter()
        .all(|&byte| byte == b'\t' || (byte >= 0x20 && byte != 0x7f));
    (is_token(name) && is_value).then(|| (name.to_ascii_lowercase(), value.to_vec()))
}

/// `token = 1*tchar` (RFC 9110 §5.6.2).
#[must_use]
pub fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c))
}

/// Cuts SP and HTAB off both ends.
#[must_use]
pub fn trim(bytes: &[u8]) -> &[u8] {
    let white = |byte: &u8| *byte == b' ' || *byte == b'\t';
    let start = bytes.iter().take_while(|byte| white(byte)).count();
    let end = bytes.iter().rev().take_while(|byte| white(byte)).count();
    if start == bytes.len() {
        &[]
    } else {
        &bytes[start..bytes.len() - end]
    }
}

/// Method and target of a request-line of HTTP/1 (RFC 9112 §3), and the minor version.
#[must_use]
pub fn request_line(line: &[u8]) -> Option<(&[u8], &[u8], u8)> {
    let parts: Vec<_> = line.split(|&byte| byte == b' ').collect();
    let [method, target, version] = parts[..] else {
        return None;
    };
    let is_method = std::str::from_utf8(method).is_ok_and(is_token);
    let is_target = !target.is_empty() && target.iter().all(|&b| b > 0x20 && b != 0x7f);
    let minor = minor_version(version)?;
    (is_method && is_target).then_some((method, target, minor))
}

/// Status of a status-line of HTTP/1 (RFC 9112 §4), and the minor version. The space behind the
/// status may be missing.
#[must_use]
pub fn status_line(line: &[u8]) -> Option<(u16, u8)> {
    let mut parts = line.splitn(3, |&byte| byte == b' ');
    let minor = minor_version(parts.next()?)?;
    let status = std::str::from_utf8(parts.next()?).ok()?;
    if status.len() != 3 || !status.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let reason = parts.next().unwrap_or_default();
    let is_reason = reason
        .iter()
        .all(|&byte| byte == b'\t' || (byte >= 0x20 && byte != 0x7f));
    let status = status.parse().ok().filter(|&status| status >= 100)?;
    is_reason.then_some((status, minor))
}

fn minor_version(version: &[u8]) -> Option<u8> {
    match version {
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', minor] if minor.is_ascii_digit() => {
            Some(minor - b'0')
        }
        _ => None,
    }
}

/// A number of any length; beyond `u64::MAX` it is `None` inside.
#[must_use]
pub fn number(text: &[u8]) -> Option<Option<u64>> {
    let is_number = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    is_number.then(|| std::str::from_utf8(text).ok()?.parse().ok())
}

/// A range as it was asked for: `(first, last)`, and `(None, last)` for a suffix.
pub type Asked = (Option<u64>, Option<u64>);

/// The ranges of a `Range` value, or `None` where it is to be ignored (RFC 9110 §14.2).
#[must_use]
pub fn ranges(value: &[u8]) -> Option<Vec<Asked>> {
    let text = value.to_ascii_lowercase();
    let set = text.strip_prefix(b"bytes=")?;
    let mut ranges = Vec::new();
    for member in set.split(|&byte| byte == b',').map(trim) {
        if member.is_empty() {
            continue;
        }
        let parts: Vec<_> = member.split(|&byte| byte == b'-').collect();
        let [first, last] = parts[..] else {
            return None;
        };
        let position = |text: &[u8]| number(text).map(|value| value.unwrap_or(u64::MAX));
        let range = match (first, last) {
            ([], last) => (None, Some(position(last)?)),
            (first, []) => (Some(position(first)?), None),
            (first, last) => (Some(position(first)?), Some(position(last)?)),
        };
        if let (Some(first), Some(last)) = range {
            if last < first {
                return None;
            }
        }
        ranges.push(range);
    }
    (!ranges.is_empty() && ranges.len() <= 200).then_some(ranges)
}

/// The positions that a range selects of `0..length`, in a type that cannot overflow: half-open.
#[must_use]
pub fn select((first, last): Asked, length: u64) -> Option<(u128, u128)> {
    let length = u128::from(length);
    let (start, end) = match (first, last) {
        (Some(first), Some(last)) => (u128::from(first), u128::from(last) + 1),
        (Some(first), None) => (u128::from(first), length),
        (None, suffix) => {
            let suffix = u128::from(suffix.unwrap_or(0)).min(length);
            (length - suffix, length)
        }
    };
    let end = end.min(length);
    (start < end).then_some((start, end))
}

/// Decodes a chunked message (RFC 9112 §7.1) that is wholly there: content and length. `None`
/// where it is broken or incomplete.
#[must_use]
pub fn dechunk(message: &[u8]) -> Option<(Vec<u8>, usize)> {
    let mut content = Vec::new();
    let mut at = 0;
    loop {
        let line = line_at(message, at)?;
        at += line.len() + 2;
        let (size, extension) = match line.iter().position(|&byte| byte == b';') {
            Some(semicolon) => (trim_end(&line[..semicolon]), &line[semicolon + 1..]),
            None => (line, &[][..]),
        };
        let is_text = |byte: &u8| *byte == b'\t' || (*byte >= 0x20 && *byte != 0x7f);
        if size.is_empty() || size.len() > 16 || !size.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        if extension.len() > 4096 || !extension.iter().all(is_text) {
            return None;
        }
        let size = u64::from_str_radix(std::str::from_utf8(size).ok()?, 16).ok()?;
        if size == 0 {
            break;
        }
        let end = at.checked_add(usize::try_from(size).ok()?)?;
        content.extend_from_slice(message.get(at..end)?);
        if message.get(end..end + 2)? != b"\r\n" {
            return None;
        }
        at = end + 2;
    }
    loop {
        let line = line_at(message, at)?;
        at += line.len() + 2;
        if line.is_empty() {
            return Some((content, at));
        }
        field_line(line)?;
    }
}

fn trim_end(bytes: &[u8]) -> &[u8] {
    let end = bytes
        .iter()
        .rposition(|&byte| byte != b' ' && byte != b'\t')
        .map_or(0, |last| last + 1);
    &bytes[..end]
}

/// The line at `at` without its CRLF, when that is there and no other CR or LF before it.
fn line_at(message: &[u8], at: usize) -> Option<&[u8]> {
    let rest = &message[at..];
    let end = rest.iter().position(|&b| b == b'\r' || b == b'\n')?;
    rest[end..].starts_with(b"\r\n").then(|| &rest[..end])
}

/// Takes a `multipart/byteranges` content apart (RFC 2046 §5.1.1): each part's `Content-Range`
/// value and its content.
#[must_use]
pub fn multipart(content: &[u8], boundary: &[u8]) -> Option<Vec<(String, Vec<u8>)>> {
    let delimiter = [b"--", boundary].concat();
    let mut rest = content.strip_prefix(&delimiter[..])?;
    let mut parts = Vec::new();
    let delimiter = [b"\r\n--", boundary].concat();
    loop {
        if let Some(rest) = rest.strip_prefix(b"--\r\n") {
            return rest.is_empty().then_some(parts);
        }
        rest = rest.strip_prefix(b"\r\n")?;
        let head_end = find(rest, b"\r\n\r\n")?;
        let head = std::str::from_utf8(&rest[..head_end]).ok()?;
        let range = head
            .lines()
            .find_map(|line| line.strip_prefix("Content-Range: "))?;
        rest = &rest[head_end + 4..];
        let end = find(rest, &delimiter)?;
        parts.push((range.to_owned(), rest[..end].to_vec()));
        rest = &rest[end + delimiter.len()..];
    }
}

/// Where `needle` first stands.
#[must_use]
pub fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}

/// Percent-decodes (RFC 3986 §2.1); `None` where a `%` is no escape.
#[must_use]
pub fn percent_decode(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut at = 0;
    while at < text.len() {
        if text[at] == b'%' {
            let digits = std::str::from_utf8(text.get(at + 1..at + 3)?).ok()?;
            if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return None;
            }
            out.push(u8::from_str_radix(digits, 16).ok()?);
            at += 3;
        } else {
            out.push(text[at]);
            at += 1;
        }
    }
    Some(out)
}

/// The handle that a target names: `Ok(None)` for a valid target without one, `Err` for what is
/// no target here.
///
/// # Errors
/// `()`: to be refused.
#[expect(clippy::result_unit_err, reason = "an oracle only says that, not why")]
pub fn handle(target: &[u8]) -> Result<Option<String>, ()> {
    let text = std::str::from_utf8(target).map_err(|_| ())?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-._~!$&'()*+,;=:@%/?".contains(c);
    let path_and_query = if text.starts_with('/') {
        text
    } else {
        let (scheme, rest) = text.split_once("://").ok_or(())?;
        if !scheme.eq_ignore_ascii_case("http") {
            return Err(());
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let authority = &rest[..end];
        if authority.is_empty() || authority.starts_with(':') || !is_host(authority.as_bytes()) {
            return Err(());
        }
        &rest[end..]
    };
    if !path_and_query.chars().all(allowed) {
        return Err(());
    }
    percent_decode(path_and_query.as_bytes()).ok_or(())?;
    let path = path_and_query
        .split_once('?')
        .map_or(path_and_query, |(path, _)| path);
    let mut segments = path.splitn(3, '/');
    let (root, first, rest) = (segments.next(), segments.next(), segments.next());
    let (Some(""), Some(first), Some(rest)) = (root, first, rest) else {
        return Ok(None);
    };
    if percent_decode(first.as_bytes()).as_deref() != Some(b"track") {
        return Ok(None);
    }
    Ok(percent_decode(rest.as_bytes()).and_then(|bytes| String::from_utf8(bytes).ok()))
}

/// Whether `value` is `uri-host [":" port]` (RFC 9110 §7.2).
#[must_use]
pub fn is_host(value: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(value) else {
        return false;
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._~!$&'()*+,;=".contains(c);
    let (host_ok, port) = if let Some(rest) = text.strip_prefix('[') {
        let Some((literal, port)) = rest.split_once(']') else {
            return false;
        };
        (is_ip_literal(literal), port)
    } else {
        let end = text.find(':').unwrap_or(text.len());
        let host = &text[..end];
        let ok =
            host.chars().all(|c| plain(c) || c == '%') && percent_decode(host.as_bytes()).is_some();
        (ok, &text[end..])
    };
    let port_ok = port.is_empty()
        || port
            .strip_prefix(':')
            .is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    host_ok && port_ok
}

/// `IPv6address / IPvFuture` (RFC 3986 §3.2.2), the former with or without a zone.
fn is_ip_literal(literal: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._~!$&'()*+,;=:".contains(c);
    if literal.starts_with(['v', 'V']) {
        return literal[1..]
            .split_once('.')
            .is_some_and(|(version, address)| {
                !version.is_empty()
                    && version.chars().all(|c| c.is_ascii_hexdigit())
                    && !address.is_empty()
                    && address.chars().all(plain)
            });
    }
    match literal.split_once('%') {
        None => is_ipv6(literal),
        Some((address, zone)) => {
            let in_zone = |c: char| c.is_ascii_alphanumeric() || "-._~%".contains(c);
            is_ipv6(address) && !zone.is_empty() && zone.chars().all(in_zone)
        }
    }
}

/// Eight groups, of which a `::` stands for one or more, and an IPv4 address for the last two.
fn is_ipv6(address: &str) -> bool {
    let groups = |part: &str, is_end: bool| -> Option<usize> {
        let parts: Vec<&str> = part.split(':').collect();
        let mut count = 0;
        for (at, group) in parts.iter().enumerate() {
            let is_last = is_end && at + 1 == parts.len();
            let is_hex = group.len() <= 4 && group.chars().all(|c| c.is_ascii_hexdigit());
            count += match group {
                _ if !group.is_empty() && is_hex => 1,
                _ if is_last && is_ipv4(group) => 2,
                _ => return None,
            };
        }
        Some(count)
    };
    let half = |part: &str, is_end| match part {
        "" => Some(0),
        part => groups(part, is_end),
    };
    match address.split_once("::") {
        None => groups(address, true) == Some(8),
        Some((start, end)) => match (half(start, false), half(end, true)) {
            (Some(start), Some(end)) => start + end <= 7,
            _ => false,
        },
    }
}

/// Four numbers up to 255 without leading zeros.
fn is_ipv4(address: &str) -> bool {
    let octet = |text: &str| {
        (1..=3).contains(&text.len())
            && text.chars().all(|c| c.is_ascii_digit())
            && (text == "0" || !text.starts_with('0'))
            && text.parse::<u16>().is_ok_and(|number| number <= 255)
    };
    address.split('.').count() == 4 && address.split('.').all(octet)
}
