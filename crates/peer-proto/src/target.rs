//! The request-target and the handle in it (RFC 9112 §3.2, RFC 3986).
//!
//! A handle is opaque. Dot segments are never resolved, an encoded slash is a slash, and what does
//! not decode to UTF-8 names nothing.

use crate::text;

/// First path segment of every target that can name a handle.
const SEGMENT: &[u8] = b"track";

/// What a request-target names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// `/track/{handle}`: the handle, decoded.
    Handle(String),
    /// A valid target that names no handle: another path, or one that is not UTF-8.
    Other,
}

/// Why a request-target cannot be answered with 404.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// Bytes that RFC 3986 forbids, a `%` without two hexadecimal digits, or another form than
    /// origin-form and absolute-form: status 400.
    #[error("malformed request-target")]
    Malformed,
    /// Absolute-form with a scheme other than `http`: status 421 (RFC 9110 §7.4).
    #[error("request-target of another scheme")]
    Scheme,
}

impl Target {
    /// Parses a request-target in origin-form or absolute-form. The query, if any, is checked and
    /// left out.
    ///
    /// # Errors
    /// [`TargetError`], for what is no such target.
    pub fn parse(target: &[u8]) -> Result<Self, TargetError> {
        let (_, path) = split(target)?;
        // An absolute-form without a path names the root.
        let Some(rest) = path.strip_prefix(b"/") else {
            return Ok(Self::Other);
        };
        let Some(slash) = rest.iter().position(|&byte| byte == b'/') else {
            return Ok(Self::Other);
        };
        let segment = &rest[..slash];
        if segment != SEGMENT && !decode(segment).eq(SEGMENT.iter().copied()) {
            return Ok(Self::Other);
        }
        let encoded = &rest[slash + 1..];
        let handle = if encoded.contains(&b'%') {
            let mut handle = Vec::with_capacity(encoded.len());
            handle.extend(decode(encoded));
            handle
        } else {
            encoded.to_vec()
        };
        Ok(String::from_utf8(handle).map_or(Self::Other, Self::Handle))
    }
}

/// What a request-target names where the target itself is what lets its holder in: a capability,
/// and the name of the item that it stands for.
#[derive(Clone, PartialEq, Eq)]
pub struct CapabilityTarget<'a> {
    /// The authority of an absolute-form: what the request calls this server, in place of `Host`
    /// (RFC 9112 §3.2.2).
    pub authority: Option<&'a [u8]>,
    /// Both segments, spelled as [`write_capability_target`] spells them without the first slash,
    /// however the request did. To be compared, in constant time. Keep it out of logs.
    pub path: Vec<u8>,
    /// The second segment, decoded.
    pub name: String,
}

impl<'a> CapabilityTarget<'a> {
    /// Parses `/{capability}/{name}`, in origin-form or absolute-form. The query, if any, is left
    /// out. `None` for everything else: no capability can be in it.
    #[must_use]
    pub fn parse(target: &'a [u8]) -> Option<Self> {
        let (authority, path) = split(target).ok()?;
        let rest = path.strip_prefix(b"/")?;
        let slash = rest.iter().position(|&byte| byte == b'/')?;
        let text = |encoded: &[u8]| String::from_utf8(decode(encoded).collect()).ok();
        let (capability, name) = (text(&rest[..slash])?, text(&rest[slash + 1..])?);
        let mut path = Vec::with_capacity(target.len());
        write_capability_target(&mut path, &capability, &name);
        path.remove(0);
        Some(Self {
            authority,
            path,
            name,
        })
    }
}

impl std::fmt::Debug for CapabilityTarget<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CapabilityTarget").finish_non_exhaustive()
    }
}

/// The authority of an absolute-form, and the path of either form. The query is checked.
fn split(target: &[u8]) -> Result<(Option<&[u8]>, &[u8]), TargetError> {
    let (authority, path_and_query) = match target.first() {
        Some(b'/') => (None, target),
        _ => {
            let (authority, rest) = split_authority(target)?;
            (Some(authority), rest)
        }
    };
    let mark = path_and_query.iter().position(|&byte| byte == b'?');
    // The mark is checked with the query, which may hold more of them.
    let (path, query) = path_and_query.split_at(mark.unwrap_or(path_and_query.len()));
    if !is_encoded(path, b"/") || !is_encoded(query, b"/?") {
        return Err(TargetError::Malformed);
    }
    Ok((authority, path))
}

/// The authority of an absolute-form, and the path and query behind it.
fn split_authority(target: &[u8]) -> Result<(&[u8], &[u8]), TargetError> {
    let colon = target
        .iter()
        .position(|&byte| byte == b':')
        .ok_or(TargetError::Malformed)?;
    let (scheme, rest) = (&target[..colon], &target[colon + 1..]);
    let is_scheme = scheme.first().is_some_and(u8::is_ascii_alphabetic)
        && scheme
            .iter()
            .all(|&b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
    let rest = rest
        .strip_prefix(b"//")
        .filter(|_| is_scheme)
        .ok_or(TargetError::Malformed)?;
    if !scheme.eq_ignore_ascii_case(b"http") {
        return Err(TargetError::Scheme);
    }
    let end = rest
        .iter()
        .position(|&b| matches!(b, b'/' | b'?'))
        .unwrap_or(rest.len());
    let authority = &rest[..end];
    if authority.is_empty() || authority[0] == b':' || !is_host(authority) {
        return Err(TargetError::Malformed);
    }
    Ok((authority, &rest[end..]))
}

/// Whether `value` is a valid `Host` field value: `uri-host [":" port]`, or empty
/// (RFC 9110 §7.2). User information is not part of it.
#[must_use]
pub fn is_host(value: &[u8]) -> bool {
    let (host, port) = match value {
        [b'[', rest @ ..] => {
            let Some(end) = rest.iter().position(|&byte| byte == b']') else {
                return false;
            };
            if !is_ip_literal(&rest[..end]) {
                return false;
            }
            (&[][..], &rest[end + 1..])
        }
        _ => match value.iter().position(|&byte| byte == b':') {
            Some(colon) => (&value[..colon], &value[colon..]),
            None => (value, &[][..]),
        },
    };
    let is_port = match port {
        [] => true,
        [b':', digits @ ..] => digits.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    is_port && is_reg_name(host)
}

/// Whether a `Host` field value names the loopback interface and no other: `localhost`, an address of
/// 127.0.0.0/8 in four decimal numbers, or `[::1]`; with any port or none.
#[must_use]
pub fn is_loopback(value: &[u8]) -> bool {
    let end = match value {
        [b'[', ..] => value.iter().position(|&byte| byte == b']').map(|at| at + 1),
        _ => value.iter().position(|&byte| byte == b':'),
    };
    let (host, port) = value.split_at(end.unwrap_or(value.len()));
    let is_port = match port {
        [] | [b':'] => true,
        [b':', digits @ ..] => {
            let digits = std::str::from_utf8(digits).ok();
            digits.is_some_and(|d| !d.starts_with('+') && d.parse::<u16>().is_ok())
        }
        _ => false,
    };
    let host = std::str::from_utf8(host).unwrap_or_default();
    let address: Option<core::net::Ipv4Addr> = host.parse().ok();
    let is_host = host.eq_ignore_ascii_case("localhost")
        || host == "[::1]"
        || address.is_some_and(|address| address.is_loopback());
    is_port && is_host
}

/// What may stand between brackets (RFC 3986 §3.2.2): an IPv6 address, or an address of some later
/// version. A zone is taken as RFC 6874 writes it (`%25eth0`) and as published peers do (`%eth0`).
fn is_ip_literal(literal: &[u8]) -> bool {
    if let [b'v' | b'V', future @ ..] = literal {
        let dot = future.iter().position(|&byte| byte == b'.').unwrap_or(0);
        let (version, address) = future.split_at(dot);
        return !version.is_empty()
            && version.iter().all(u8::is_ascii_hexdigit)
            && address.len() > 1
            && address[1..]
                .iter()
                .all(|&b| is_unreserved(b) || is_sub_delim(b) || b == b':');
    }
    let zone = literal
        .iter()
        .position(|&byte| byte == b'%')
        .unwrap_or(literal.len());
    let (address, zone) = literal.split_at(zone);
    let is_zone = zone.len() != 1 && zone.iter().all(|&b| is_unreserved(b) || b == b'%');
    let address = std::str::from_utf8(address).ok();
    is_zone && address.is_some_and(|address| address.parse::<core::net::Ipv6Addr>().is_ok())
}

fn is_reg_name(host: &[u8]) -> bool {
    well_escaped(host) && host.iter().all(|&b| text::is_reg_name_byte(b))
}

/// Appends `/track/` and the handle as one path segment: everything but the unreserved characters
/// of RFC 3986 is percent-encoded.
pub fn write_target(out: &mut Vec<u8>, handle: &str) {
    out.push(b'/');
    out.extend_from_slice(SEGMENT);
    out.push(b'/');
    write_segment(out, handle);
}

/// Appends a slash and the capability, a slash and the name, encoded as by [`write_target`].
pub fn write_capability_target(out: &mut Vec<u8>, capability: &str, name: &str) {
    out.push(b'/');
    write_segment(out, capability);
    out.push(b'/');
    write_segment(out, name);
}

fn write_segment(out: &mut Vec<u8>, segment: &str) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in segment.as_bytes() {
        if is_unreserved(byte) {
            out.push(byte);
        } else {
            out.extend([
                b'%',
                HEX[usize::from(byte >> 4)],
                HEX[usize::from(byte & 15)],
            ]);
        }
    }
}

const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

const fn is_sub_delim(byte: u8) -> bool {
    matches!(
        byte,
        b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'='
    )
}

/// Whether every byte is a `pchar` of RFC 3986 or one of `more`, and every `%` is an escape.
fn is_encoded(bytes: &[u8], more: &[u8]) -> bool {
    bytes
        .iter()
        .all(|&b| text::is_pchar(b) || more.contains(&b))
        && well_escaped(bytes)
}

fn well_escaped(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|&byte| byte == b'%') {
        match &rest[at + 1..] {
            [high, low, after @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                rest = after;
            }
            _ => return false,
        }
    }
    true
}

/// The bytes that valid percent-encoding stands for.
fn decode(bytes: &[u8]) -> impl Iterator<Item = u8> + '_ {
    let mut rest = bytes;
    std::iter::from_fn(move || match rest {
        [b'%', high, low, after @ ..] => {
            rest = after;
            Some((hex(*high) << 4) | hex(*low))
        }
        [byte, after @ ..] => {
            rest = after;
            Some(*byte)
        }
        [] => None,
    })
}

/// What a hexadecimal digit stands for. Letters of either case end with the same four bits.
const fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit & 0xf) + 9,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets() {
        let handle = |text: &str| Ok(Target::Handle(text.to_owned()));
        for (target, expected) in [
            ("/track/a", handle("a")),
            ("/track/", handle("")),
            ("/track/a/b", handle("a/b")),
            ("/track/a%2Fb", handle("a/b")),
            ("/track/a%2fb?x=y", handle("a/b")),
            ("/track/../a", handle("../a")),
            ("/track/%2e%2E/a", handle("../a")),
            ("/track/./a", handle("./a")),
            ("/track//a", handle("/a")),
            ("/track/%C3%A9", handle("é")),
            ("/track/%00", handle("\0")),
            ("/track/a+b", handle("a+b")),
            ("/%74rack/a", handle("a")),
            ("/track/a?", handle("a")),
            ("/track/a?x?y/z", handle("a")),
            ("http://host/track/a", handle("a")),
            ("HTTP://[::1]:80/track/a?q", handle("a")),
            ("/track/%FF", Ok(Target::Other)),
            ("/track/%C3", Ok(Target::Other)),
            ("/track", Ok(Target::Other)),
            ("/track%2Fa", Ok(Target::Other)),
            ("/Track/a", Ok(Target::Other)),
            ("//track/a", Ok(Target::Other)),
            ("/a/../track/a", Ok(Target::Other)),
            ("/", Ok(Target::Other)),
            ("http://host", Ok(Target::Other)),
            ("http://host?q", Ok(Target::Other)),
            ("/track/%", Err(TargetError::Malformed)),
            ("/track/%4", Err(TargetError::Malformed)),
            ("/track/%4g", Err(TargetError::Malformed)),
            ("/track/%%41", Err(TargetError::Malformed)),
            ("/other/%zz", Err(TargetError::Malformed)),
            ("/track/a?%zz", Err(TargetError::Malformed)),
            ("/track/a#b", Err(TargetError::Malformed)),
            ("/track/a\"b", Err(TargetError::Malformed)),
            ("/track/a[b", Err(TargetError::Malformed)),
            ("/track/a\\b", Err(TargetError::Malformed)),
            ("/track/é", Err(TargetError::Malformed)),
            ("", Err(TargetError::Malformed)),
            ("*", Err(TargetError::Malformed)),
            ("host:80", Err(TargetError::Malformed)),
            ("track/a", Err(TargetError::Malformed)),
            ("http:/track/a", Err(TargetError::Malformed)),
            ("http:///track/a", Err(TargetError::Malformed)),
            ("http://:80/track/a", Err(TargetError::Malformed)),
            ("http://me@host/track/a", Err(TargetError::Malformed)),
            ("https://host/track/a", Err(TargetError::Scheme)),
            ("a+-.9://host/track/a", Err(TargetError::Scheme)),
            ("9a://host/track/a", Err(TargetError::Malformed)),
            ("a_b://host/track/a", Err(TargetError::Malformed)),
            ("://host/track/a", Err(TargetError::Malformed)),
        ] {
            assert_eq!(Target::parse(target.as_bytes()), expected, "{target}");
        }
    }

    #[test]
    fn hosts() {
        for host in [
            "",
            "a",
            "a:80",
            "a:",
            "127.0.0.1:8080",
            "[::1]",
            "[::1]:80",
            "[fe80::1%25eth0]",
            "[fe80::1%eth0]:80",
            "[::ffff:192.0.2.1]",
            "[v1.a:b]",
            "[V1F.-._~!$&'()*+,;=:]",
            "a-b.c_d~",
            "%41",
        ] {
            assert!(is_host(host.as_bytes()), "{host}");
        }
        for host in [
            "a b",
            "a:b",
            "a:80:80",
            "[::1",
            "[]",
            "[zz]",
            "[127.0.0.1]",
            "[1:2:3:4:5:6:7:8:9]",
            "[fe80::1%]",
            "[fe80::1%eth/0]",
            "[v.a]",
            "[v1.]",
            "[v.]",
            "[vg.a]",
            "[v1a]",
            "[v1.a%41]",
            "[v1.a@b]",
            "[::1]a",
            "me@a",
            "a/b",
            "a,b:",
            "é",
            "%4",
            "a?b",
            "a#b",
            "[a]:x",
        ] {
            let comma_is_sub_delim = host == "a,b:";
            assert_eq!(is_host(host.as_bytes()), comma_is_sub_delim, "{host}");
        }
    }

    #[test]
    fn capabilities() {
        let parsed = |target: &str| {
            let parsed = CapabilityTarget::parse(target.as_bytes())?;
            let path = String::from_utf8(parsed.path).unwrap();
            Some((path, parsed.name, parsed.authority.map(<[u8]>::to_vec)))
        };
        let found = |path: &str, name: &str| Some((path.to_owned(), name.to_owned(), None));
        assert_eq!(parsed("/cap/a.mp3"), found("cap/a.mp3", "a.mp3"));
        assert_eq!(parsed("/cap/a.mp3?x=/y"), found("cap/a.mp3", "a.mp3"));
        // However it is spelled, it is compared as it was written.
        assert_eq!(
            parsed("/%63ap/%c3%a9%2f'"),
            found("cap/%C3%A9%2F%27", "é/'")
        );
        assert_eq!(parsed("/cap/a/b"), found("cap/a%2Fb", "a/b"));
        assert_eq!(parsed("//"), found("/", ""));
        assert_eq!(
            parsed("http://127.0.0.1:8/cap/a"),
            Some((
                "cap/a".to_owned(),
                "a".to_owned(),
                Some(b"127.0.0.1:8".to_vec())
            ))
        );
        for none in [
            "/",
            "/cap",
            "",
            "*",
            "cap/a",
            "/cap/%ff",
            "/%ff/a",
            "http://a",
            "http://a?/b/c",
            "/cap/%4",
            "https://a/cap/b",
            "/a b/c",
        ] {
            assert_eq!(parsed(none), None, "{none:?}");
        }
        let shown = format!("{:?}", CapabilityTarget::parse(b"/secret/a"));
        assert_eq!(shown, "Some(CapabilityTarget { .. })");
    }

    #[test]
    fn loopback_hosts() {
        for host in [
            "localhost",
            "LocalHost:1",
            "127.0.0.1",
            "127.0.0.1:65535",
            "127.255.1.2:80",
            "[::1]",
            "[::1]:8080",
            "localhost:",
        ] {
            assert!(
                is_host(host.as_bytes()) && is_loopback(host.as_bytes()),
                "{host}"
            );
        }
        for host in [
            "",
            ":80",
            "localhost.",
            "localhost.evil.example",
            "evil.localhost",
            "127.0.0.1.evil.example",
            "127.1",
            "127.0.0.01",
            "2130706433",
            "0x7f.0.0.1",
            "0.0.0.0",
            "128.0.0.1",
            "10.0.0.1",
            "[::]",
            "[::1",
            "[::1]x",
            "[0:0:0:0:0:0:0:1]",
            "[::ffff:127.0.0.1]",
            "::1",
            "[::1%25lo]",
            "localhost:65536",
            "localhost:+1",
            "localhost:8x",
            "user@localhost",
            "localhost:80:80",
        ] {
            assert!(!is_loopback(host.as_bytes()), "{host}");
        }
    }

    #[test]
    fn every_handle_comes_back() {
        for handle in ["", "a", "a/b", "../..", "é ü", "%41", "a?b#c", "\0\n", "🎵"] {
            let mut target = Vec::new();
            write_target(&mut target, handle);
            assert_eq!(
                Target::parse(&target),
                Ok(Target::Handle(handle.to_owned()))
            );
        }
        let mut target = Vec::new();
        write_target(&mut target, "Az09-_.~ /é");
        assert_eq!(target, b"/track/Az09-_.~%20%2F%C3%A9");
    }
}
