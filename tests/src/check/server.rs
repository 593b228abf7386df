//! The laws of the serving machine.

use std::{
    fmt,
    sync::LazyLock,
    time::{Duration, Instant, SystemTime},
};

use peer_core::{
    Access, AllowedOrigins, Authorization, CloseReason, Now, Output, ServerConfig,
    ServerConnection, SourceInfo,
};
use peer_proto::{EntityTag, HttpDate, Validators, limits::HEAD_BYTES_MAX};

use super::{Choices, naive};

/// The token that the machines under test accept.
pub const TOKEN: &[u8] = b"secret";

/// The one handle they know.
pub const HANDLE: &str = "a";

/// The clocks of every law: nothing depends on when it runs but the readings' differences.
pub(super) static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

pub(crate) fn at(elapsed: Duration) -> Now {
    let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000) + elapsed;
    Now::new(*EPOCH + elapsed, wall)
}

/// What a source is like, by choice.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Whether it says how long it is.
    pub length_known: bool,
    /// Its entity-tag.
    pub tag: Option<EntityTag>,
    /// Whether it has a modification date, long past.
    pub dated: bool,
    /// It fails when read at or past this offset.
    pub fails_at: Option<usize>,
    /// It ends here, whatever it said.
    pub ends_at: Option<usize>,
}

impl Source {
    /// A source out of a few choices.
    pub fn choose(choices: &mut Choices<'_>) -> Self {
        let kind = choices.byte();
        let len = [0, 1, 2, 7, 64, 300, 5000, 40_000][usize::from(choices.byte() % 8)];
        // No period that a split or a chunk could hide behind.
        let bytes = (0..len as u32).map(|at| (at ^ (at >> 7)) as u8).collect();
        let place = choices.u64() as usize % (len + 1);
        Self {
            bytes,
            length_known: kind & 1 == 0,
            tag: (kind & 2 == 0)
                .then(|| EntityTag::strong("v1").ok())
                .flatten(),
            dated: kind & 4 == 0,
            fails_at: (kind & 0x30 == 0x10).then_some(place),
            ends_at: (kind & 0x30 == 0x20).then_some(place),
        }
    }

    fn info(&self) -> SourceInfo<'_> {
        SourceInfo {
            complete_length: self.length_known.then_some(self.bytes.len() as u64),
            content_type: Some("audio/flac"),
            validators: Validators {
                entity_tag: self.tag,
                last_modified: self
                    .dated
                    .then(|| HttpDate::new(SystemTime::UNIX_EPOCH + Duration::from_secs(1000)))
                    .flatten(),
            },
        }
    }

    /// Up to `max` bytes at `offset`; `None` where it fails.
    fn read(&self, offset: u64, max: usize) -> Option<&[u8]> {
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        if self.fails_at.is_some_and(|fails_at| offset >= fails_at) {
            return None;
        }
        let end = self.ends_at.unwrap_or(self.bytes.len());
        let end = end.min(offset.saturating_add(max));
        let end = end.min(self.fails_at.unwrap_or(end));
        Some(self.bytes.get(offset..end).unwrap_or_default())
    }

    const fn is_whole(&self) -> bool {
        self.fails_at.is_none() && self.ends_at.is_none()
    }
}

/// What came out of a whole connection.
#[derive(Clone, PartialEq, Eq)]
pub struct Served {
    /// All bytes sent.
    pub sent: Vec<u8>,
    /// Why it ended.
    pub reason: CloseReason,
    /// Handles that the app was asked for.
    pub resolved: Vec<String>,
}

impl fmt::Debug for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "\"{}\" {:?} resolved {:?}",
            self.sent.escape_ascii(),
            self.reason,
            self.resolved
        )
    }
}

/// Serves what `received` asks for, handing over at most `step` bytes at a time and reading the
/// source in blocks of `block`, to the end of the connection.
///
/// # Panics
/// Where the machine does not end, or breaks a law that every step shows.
#[must_use]
pub fn serve(source: &Source, received: &[u8], step: usize, block: usize) -> Served {
    let now = at(Duration::ZERO);
    let connection = ServerConnection::new(ServerConfig::default(), 1, now);
    serve_on(connection, TOKEN, source, received, step, block)
}

/// The same on a connection that was made already, which lets in whoever presents `secret`.
fn serve_on(
    mut connection: ServerConnection,
    secret: &[u8],
    source: &Source,
    received: &[u8],
    step: usize,
    block: usize,
) -> Served {
    let now = at(Duration::ZERO);
    let mut served = Served {
        sent: Vec::new(),
        reason: CloseReason::Finished,
        resolved: Vec::new(),
    };
    let mut half_closed = false;
    let mut rest = received;
    // Each turn takes input, or sends at least a byte, or changes a state.
    let mut turns = 64 + 64 * received.len() + 2 * source.bytes.len() * (1 + received.len() / 40);
    loop {
        turns = turns.checked_sub(1).expect("the connection does not end");
        assert_eq!(
            connection.poll_output(),
            connection.poll_output(),
            "polling changed something"
        );
        let timeout = connection.poll_timeout();
        match connection.poll_output() {
            Output::Receive => {
                assert!(timeout.is_some(), "waits for the peer without a deadline");
                let buffer = connection.receive_buffer();
                assert!((1..=HEAD_BYTES_MAX).contains(&buffer.len()));
                let n = rest.len().min(buffer.len()).min(step);
                buffer[..n].copy_from_slice(&rest[..n]);
                rest = &rest[n..];
                if n == 0 {
                    connection.handle_eof(now);
                } else {
                    connection.handle_received(now, n);
                }
            }
            Output::Authorize { token } => {
                let authorization = if token == secret {
                    Authorization::Granted
                } else {
                    Authorization::Denied
                };
                connection.handle_authorized(now, authorization);
            }
            Output::Resolve { handle } => {
                assert!(connection.is_authorized(), "asked the app for a stranger");
                served.resolved.push(handle.to_owned());
                let found = handle == HANDLE;
                connection.handle_source(now, found.then(|| source.info()));
            }
            Output::Send { bytes } => {
                assert!(timeout.is_some(), "sends without a deadline");
                assert!(
                    !bytes.is_empty() && bytes.len() <= 4096,
                    "{} bytes",
                    bytes.len()
                );
                served.sent.extend_from_slice(bytes);
                connection.handle_sent(now, 0);
            }
            Output::SendSource {
                prefix,
                offset,
                len,
                chunked,
            } => {
                assert!(timeout.is_some(), "sends without a deadline");
                assert!(prefix.len() <= 4096);
                assert!(len != Some(0), "an instruction to send nothing");
                let max = len.map_or(block, |len| {
                    block.min(usize::try_from(len).unwrap_or(block))
                });
                match source.read(offset, max) {
                    None => connection.handle_source_failed(now),
                    Some([]) => connection.handle_source_end(now),
                    Some(bytes) => {
                        served.sent.extend_from_slice(prefix);
                        if chunked {
                            let line = format!("{:x}\r\n", bytes.len());
                            served.sent.extend_from_slice(line.as_bytes());
                        }
                        served.sent.extend_from_slice(bytes);
                        if chunked {
                            served.sent.extend_from_slice(b"\r\n");
                        }
                        connection.handle_sent(now, bytes.len() as u64);
                    }
                }
            }
            Output::HalfClose => {
                assert!(!half_closed, "closed its half twice");
                half_closed = true;
                connection.handle_half_closed(now);
            }
            Output::Close { reason } => {
                assert_eq!(connection.poll_timeout(), None, "a deadline for nothing");
                served.reason = reason;
                return served;
            }
        }
    }
}

/// Whatever a peer sends, however it is split: the same answers; they are framed as they declare,
/// hold the bytes of the source that they name and none else, answer the requests in order, and
/// end. Nobody without the token reaches the app.
///
/// # Panics
/// Where the law does not hold.
pub fn server(input: &[u8]) {
    let mut choices = Choices::new(input);
    let source = Source::choose(&mut choices);
    let step = 1 + usize::from(choices.byte());
    let block = [1, 7, 1000, 1 << 16][usize::from(choices.byte() % 4)];
    let block = block.max(source.bytes.len() / 500);
    let received = choices.rest();
    let whole = serve(&source, received, usize::MAX, block);
    if received.len() < 6000 {
        assert_eq!(serve(&source, received, 1, block), whole, "byte by byte");
    }
    assert_eq!(serve(&source, received, step, block), whole, "by {step}");
    if source.length_known && source.is_whole() {
        assert_eq!(serve(&source, received, step, 1 << 16), whole, "in blocks");
    }
    judge(&source, received, &whole);
}

/// The origin whose pages the machines of [`server_web`] let in.
const ORIGIN: &str = "https://a";

/// Lines that stand in an answer for the sake of web pages only.
const WEB_LINES: [&[u8]; 3] = [
    b"Vary: Origin\r\n",
    b"Access-Control-Allow-Origin: https://a\r\n",
    b"Access-Control-Expose-Headers: Accept-Ranges, Content-Length, Content-Range, Date, ETag, \
      Retry-After, WWW-Authenticate\r\n",
];

/// A server that lets pages of one origin in answers as one that does not, but for the fields that
/// tell them so: on the answers to that origin, and on no other, and on preflights, which it
/// answers for that origin alone. However the bytes are split.
///
/// # Panics
/// Where the law does not hold.
pub fn server_web(input: &[u8]) {
    let mut choices = Choices::new(input);
    let source = Source::choose(&mut choices);
    let step = 1 + usize::from(choices.byte());
    let block = 1000.max(source.bytes.len() / 500);
    let received = choices.rest();
    let serve_pages = |step| {
        let mut origins = AllowedOrigins::default();
        origins.allow(ORIGIN).expect("an origin");
        let now = at(Duration::ZERO);
        let connection =
            ServerConnection::new(ServerConfig::default(), 1, now).with_allowed_origins(origins);
        serve_on(connection, TOKEN, &source, received, step, block)
    };
    let mut with = serve_pages(usize::MAX);
    assert_eq!(serve_pages(step), with, "by {step}");
    judge_web(received, &with);
    if !received.windows(8).any(|bytes| bytes == b"OPTIONS ") {
        // Content of these sources counts up or down, so no line hides in it.
        for line in WEB_LINES {
            with.sent = without(&with.sent, line);
        }
        let without = serve(&source, received, usize::MAX, block);
        assert_eq!(with, without, "without the fields for pages");
    }
}

/// `bytes` with every occurrence of `line` left out.
fn without(mut bytes: &[u8], line: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(bytes.len());
    while let Some(at) = bytes.windows(line.len()).position(|part| part == line) {
        kept.extend_from_slice(&bytes[..at]);
        bytes = &bytes[at + line.len()..];
    }
    kept.extend_from_slice(bytes);
    kept
}

/// Holds what each answer tells web pages against the origin of its request.
fn judge_web(received: &[u8], served: &Served) {
    let (requests, _) = requests(received);
    let mut rest = &served.sent[..];
    for request in &requests {
        let naive::Lines::Complete(head) = naive::lines(rest, 0) else {
            return;
        };
        let (status, _) = naive::status_line(&head.start_line).expect("a status-line");
        rest = &rest[head.len..];
        let value = |name: &str| {
            let mut values = head.fields.iter().filter(|(other, _)| other == name);
            let value = values.next().map(|(_, value)| &value[..]);
            assert!(values.next().is_none(), "{name} twice");
            value
        };
        assert_eq!(value("vary"), Some(&b"Origin"[..]));
        let allowed = value("access-control-allow-origin");
        // A head that is refused before it is one comes from nobody.
        if allowed.is_some() || !matches!(status, 400 | 414 | 431 | 505) {
            let expected = request.of_page.then_some(ORIGIN.as_bytes());
            assert_eq!(allowed, expected, "{status} to {request:?}");
        }
        let preflight = request.of_page && request.asks_for_method;
        assert_eq!(
            value("access-control-expose-headers").is_some(),
            allowed.is_some()
        );
        assert_eq!(status == 204, value("access-control-max-age").is_some());
        if status == 204 {
            assert!(preflight, "204 to {request:?}");
            assert_eq!(value("content-length"), None);
        } else if preflight {
            assert!(matches!(status, 400 | 414 | 431 | 505), "{status}");
        }
        let length = value("content-length").and_then(|value| naive::number(value).flatten());
        let bodiless = request.is_head || matches!(status, 204 | 304);
        // What answers a request behind content of unknown length is judged by the other law.
        match length {
            _ if bodiless => {}
            Some(length) if length <= rest.len() as u64 => rest = &rest[length as usize..],
            _ => return,
        }
    }
}

/// The capability that the machines of [`server_bridge`] accept, with the name of its item.
const CAPABILITY: &[u8] = b"k/a";

/// What everybody gets who is refused by such a machine, but for the date and for the field that says
/// that the connection ends.
const REFUSAL: &[u8] = b"HTTP/1.1 403 Forbidden\r\nVary: Origin\r\n\
    Content-Type: text/plain; charset=utf-8\r\nContent-Length: 14\r\nCache-Control: no-store\r\n\r\n\
    403 Forbidden\n";

/// A server that lets requests in by their target lets in those that have it right, call the server
/// by a loopback name and come from no foreign page. All others that are requests at all get the same
/// bytes, and do not reach the app. However the bytes are split.
///
/// # Panics
/// Where the law does not hold.
pub fn server_bridge(input: &[u8]) {
    let mut choices = Choices::new(input);
    let source = Source::choose(&mut choices);
    let step = 1 + usize::from(choices.byte());
    let block = 1000.max(source.bytes.len() / 500);
    let received = choices.rest();
    let serve = |step| {
        let mut origins = AllowedOrigins::default();
        origins.allow(ORIGIN).expect("an origin");
        let now = at(Duration::ZERO);
        let connection = ServerConnection::new(ServerConfig::default(), 1, now)
            .with_access(Access::Capability)
            .with_allowed_origins(origins);
        serve_on(connection, CAPABILITY, &source, received, step, block)
    };
    let served = serve(usize::MAX);
    assert_eq!(serve(step), served, "by {step}");
    judge_bridge(received, &served);
}

/// Holds each answer of a bridge against what its request has to show.
fn judge_bridge(received: &[u8], served: &Served) {
    assert!(served.resolved.iter().all(|name| name == HANDLE));
    let (requests, more) = requests(received);
    let welcome = requests.iter().filter(|request| request.may_use_bridge);
    let (count, asked) = (welcome.count(), served.resolved.len());
    // What stands behind content is not read here.
    assert!(
        asked <= count || more,
        "{asked} reached the app, {count} may"
    );
    let mut rest = &served.sent[..];
    for request in &requests {
        let naive::Lines::Complete(head) = naive::lines(rest, 0) else {
            return;
        };
        let (status, _) = naive::status_line(&head.start_line).expect("a status-line");
        let value = |name: &str| {
            let value = head.fields.iter().find(|(other, _)| other == name);
            value.map(|(_, value)| &value[..])
        };
        let length = value("content-length").and_then(|value| naive::number(value).flatten());
        let bodiless = request.is_head || matches!(status, 204 | 304);
        let length = length.filter(|_| !bodiless).unwrap_or(0) as usize;
        if matches!(status, 400 | 414 | 431 | 501 | 505) && !request.may_use_bridge {
            // It was no request for the machine, which then ends the connection.
            assert_eq!(value("connection"), Some(&b"close"[..]), "{status}");
            return;
        }
        assert_eq!(
            status == 403,
            !request.may_use_bridge,
            "{status} to {request:?}"
        );
        if status == 403 {
            let answer = &rest[..head.len + length];
            let mut answer = without(answer, b"Date: Sun, 09 Sep 2001 01:46:40 GMT\r\n");
            for line in [&b"Connection: close\r\n"[..], b"Connection: keep-alive\r\n"] {
                answer = without(&answer, line);
            }
            // A page that is let read answers reads this one as well.
            for line in &WEB_LINES[1..] {
                let shorter = without(&answer, line);
                assert_eq!(shorter.len() < answer.len(), request.of_page);
                answer = shorter;
            }
            let expected = match request.is_head {
                true => REFUSAL
                    .strip_suffix(b"403 Forbidden\n")
                    .expect("its content"),
                false => REFUSAL,
            };
            assert_eq!(
                answer.escape_ascii().to_string(),
                expected.escape_ascii().to_string()
            );
        }
        if value("transfer-encoding").is_some() || head.len + length > rest.len() {
            return;
        }
        rest = &rest[head.len + length..];
    }
}

/// Whether a target is the one that the capability is for, read naively: with its first segment
/// replaced, it names the handle.
fn has_capability(target: &[u8]) -> Option<Option<Vec<u8>>> {
    let text = std::str::from_utf8(target).ok()?;
    let (before, path) = match text.strip_prefix('/') {
        Some(path) => ("", path),
        None => {
            let start = text.find("://")? + 3;
            let end = start + text[start..].find('/')?;
            (&text[..end], &text[end + 1..])
        }
    };
    let (first, rest) = path.split_once('/')?;
    let is_it = matches!(first, "k" | "%6b" | "%6B");
    let named = naive::handle(format!("{before}/track/{rest}").as_bytes());
    let authority = before
        .split_once("://")
        .map(|(_, authority)| authority.as_bytes().to_vec());
    (is_it && named == Ok(Some(HANDLE.to_owned()))).then_some(authority)
}

/// Whether a host, which is one by the grammar, is the loopback's, read naively.
fn is_own_host(host: &[u8]) -> bool {
    let text = String::from_utf8_lossy(host).to_ascii_lowercase();
    let (name, port) = match text.rfind(':') {
        Some(colon) if !text[colon..].contains(']') => (&text[..colon], &text[colon + 1..]),
        _ => (&*text, ""),
    };
    let numbers: Vec<&str> = name.split('.').collect();
    let is_number = |number: &&str| {
        let value: Result<u32, _> = number.parse();
        value.is_ok_and(|value| value < 256 && value.to_string() == *number)
    };
    let is_address = numbers.len() == 4 && numbers[0] == "127" && numbers.iter().all(is_number);
    let is_port = port.bytes().all(|digit| digit.is_ascii_digit())
        && port.trim_start_matches('0').len() <= 5
        && port.parse().unwrap_or(0) <= 65_535;
    is_port && (name == "localhost" || name == "[::1]" || is_address)
}

/// One request as far as its answer depends on it.
#[derive(Debug)]
struct Request {
    is_head: bool,
    authorized: bool,
    /// The naive reading of its one `Range` value.
    range: Option<Vec<naive::Asked>>,
    conditional: bool,
    is_get: bool,
    names_handle: bool,
    http10: bool,
    close: bool,
    /// It names the one origin that [`server_web`] allows.
    of_page: bool,
    /// It is a preflight by its method and fields.
    asks_for_method: bool,
    /// It has everything that [`server_bridge`] asks for.
    may_use_bridge: bool,
}

/// The requests of a stream, up to the first that has content or is malformed. Whether there is
/// more behind them is told too.
fn requests(mut received: &[u8]) -> (Vec<Request>, bool) {
    let mut requests = Vec::new();
    loop {
        let naive::Lines::Complete(head) = naive::lines(received, 4) else {
            return (requests, !received.is_empty());
        };
        let Some((method, target, minor)) = naive::request_line(&head.start_line) else {
            return (requests, true);
        };
        let values = |name: &str| -> Vec<&[u8]> {
            head.fields
                .iter()
                .filter(|(other, _)| other == name)
                .map(|(_, value)| &value[..])
                .collect()
        };
        let has = |name: &str| !values(name).is_empty();
        let bearer = match values("authorization")[..] {
            [value] if value.len() > 7 && value[..7].eq_ignore_ascii_case(b"bearer ") => {
                let token = value[7..].iter().position(|&byte| byte != b' ');
                token.map(|start| &value[7 + start..])
            }
            _ => None,
        };
        let range = match values("range")[..] {
            [value] => naive::ranges(value),
            _ => None,
        };
        let says = |option: &str| {
            values("connection").iter().any(|value| {
                value
                    .split(|&byte| byte == b',')
                    .any(|member| naive::trim(member).eq_ignore_ascii_case(option.as_bytes()))
            })
        };
        let conditional = ["if-match", "if-none-match", "if-range", "if-modified-since"]
            .iter()
            .chain(&["if-unmodified-since"])
            .any(|name| has(name));
        let hosts = values("host");
        let is_own = |origin: &[u8]| {
            let own = [b"http://", hosts.first().copied().unwrap_or_default()].concat();
            origin.eq_ignore_ascii_case(&own) && origin.starts_with(b"http://")
        };
        let is_welcome = match values("origin")[..] {
            [] => {
                let sites = values("sec-fetch-site");
                let ours = |site: &&[u8]| [&b"none"[..], b"same-origin"].contains(site);
                sites.iter().all(ours)
            }
            [origin] => origin == ORIGIN.as_bytes() || is_own(origin),
            _ => false,
        };
        let is_own_host = |host: &[u8]| naive::is_host(host) && is_own_host(host);
        let may_use_bridge = is_welcome
            && hosts.len() == 1
            && is_own_host(hosts[0])
            && has_capability(target).is_some_and(|named| named.is_none_or(|it| is_own_host(&it)));
        requests.push(Request {
            is_head: method == b"HEAD",
            is_get: method == b"GET",
            authorized: bearer == Some(TOKEN),
            range: range.filter(|_| method == b"GET"),
            conditional,
            names_handle: naive::handle(target) == Ok(Some(HANDLE.to_owned())),
            http10: minor == 0,
            close: says("close") || (minor == 0 && !says("keep-alive")),
            of_page: values("origin") == [ORIGIN.as_bytes()],
            asks_for_method: method == b"OPTIONS" && has("access-control-request-method"),
            may_use_bridge,
        });
        if has("content-length") || has("transfer-encoding") {
            return (requests, true);
        }
        received = &received[head.len..];
        if received.is_empty() {
            return (requests, false);
        }
    }
}

/// Reads all that was sent as a recipient would, and holds each answer against its request.
fn judge(source: &Source, received: &[u8], served: &Served) {
    let (requests, more) = requests(received);
    let asks_for_head = received.windows(5).any(|bytes| bytes == b"HEAD ");
    let mut rest = &served.sent[..];
    let mut answers = 0;
    while !rest.is_empty() {
        let naive::Lines::Complete(head) = naive::lines(rest, 0) else {
            panic!("what was sent is no head: {}", rest.escape_ascii());
        };
        let (status, _) = naive::status_line(&head.start_line).expect("a status-line");
        rest = &rest[head.len..];
        let request = requests.get(answers);
        answers += 1;
        assert!(
            request.is_some() || more,
            "an answer that nobody asked for: {status}"
        );
        let value = |name: &str| {
            let mut values = head.fields.iter().filter(|(other, _)| other == name);
            let value = values.next().map(|(_, value)| &value[..]);
            assert!(values.next().is_none(), "{name} twice");
            value
        };
        assert!(value("date").is_some());
        // The method of a request behind content, or that is malformed further down, is not known
        // here. Where a HEAD was asked for at all, its answer may also be the last thing sent.
        let is_head = request.map_or_else(
            || asks_for_head && (rest.is_empty() || rest.starts_with(b"HTTP/1.1 ")),
            |request| request.is_head,
        );
        let bodiless = is_head || matches!(status, 204 | 304);
        let length = value("content-length").map(|value| naive::number(value).flatten());
        let cut = served.reason == CloseReason::SourceFailed;
        let content = match (value("transfer-encoding"), length) {
            _ if bodiless => Vec::new(),
            (Some(coding), None) => {
                assert_eq!(coding, b"chunked");
                match naive::dechunk(rest) {
                    Some((content, used)) => {
                        rest = &rest[used..];
                        content
                    }
                    None => {
                        assert!(cut, "chunks that do not end");
                        return;
                    }
                }
            }
            (None, Some(length)) => {
                let length = length.expect("a length") as usize;
                if length > rest.len() {
                    assert!(cut, "{length} bytes declared, {} sent", rest.len());
                    assert!(!source.is_whole());
                    return;
                }
                let (content, after) = rest.split_at(length);
                rest = after;
                content.to_vec()
            }
            (None, None) => {
                assert_eq!(value("connection"), Some(&b"close"[..]));
                std::mem::take(&mut rest).to_vec()
            }
            (Some(_), Some(_)) => panic!("two framings"),
        };
        // Authorized connections alone see the source.
        let Some(request) = request else { continue };
        if !request.authorized {
            assert!(
                matches!(status, 400 | 401 | 408 | 414 | 431 | 501 | 505),
                "{status} to a stranger"
            );
            continue;
        }
        if matches!(status, 200 | 206) {
            assert!(
                request.is_get || request.is_head,
                "{status} to another method"
            );
            assert!(request.names_handle, "{status} for another handle");
        }
        let all = &source.bytes[..];
        match status {
            200 if is_head => {
                assert_eq!(
                    length,
                    source.length_known.then_some(Some(all.len() as u64))
                );
            }
            200 => {
                let end = if source.length_known {
                    all.len()
                } else {
                    source.ends_at.unwrap_or(all.len()).min(all.len())
                };
                if cut && rest.is_empty() {
                    assert!(all.starts_with(&content), "other bytes than the source's");
                } else {
                    assert_eq!(content, &all[..end]);
                }
            }
            206 => {
                let asked = request
                    .range
                    .as_ref()
                    .expect("206 to a request without a range");
                part(
                    all,
                    asked,
                    &content,
                    value("content-range"),
                    value("content-type"),
                );
            }
            416 => {
                let asked = request
                    .range
                    .as_ref()
                    .expect("416 to a request without a range");
                if source.length_known {
                    let none = asked
                        .iter()
                        .all(|&range| naive::select(range, all.len() as u64).is_none());
                    assert!(none && !all.is_empty(), "416 to {asked:?}");
                    let expected = format!("bytes */{}", all.len());
                    assert_eq!(value("content-range"), Some(expected.as_bytes()));
                } else {
                    assert!(
                        request.http10 || request.close,
                        "416 where chunks can be read"
                    );
                }
            }
            304 | 412 => assert!(request.conditional, "{status} without a precondition"),
            500 => assert!(!source.is_whole(), "500 without a failure"),
            400 | 404 | 405 | 408 | 414 | 417 | 421 | 431 | 501 | 505 => {
                assert!(length.is_some());
            }
            _ => panic!("status {status}"),
        }
        if request.range.is_none() {
            assert!(status != 206 && status != 416);
        }
        if request.close {
            assert_eq!(value("connection"), Some(&b"close"[..]));
            assert!(rest.is_empty(), "an answer behind the last one");
        }
    }
    // Every complete request before a close got its answer.
    if served.reason == CloseReason::Finished && !more {
        let due = requests
            .iter()
            .position(|request| request.close)
            .map_or(requests.len(), |last| last + 1);
        assert_eq!(answers, due, "{requests:?}");
    }
}

/// The content of a 206 against the ranges asked for.
fn part(
    all: &[u8],
    asked: &[naive::Asked],
    content: &[u8],
    range: Option<&[u8]>,
    content_type: Option<&[u8]>,
) {
    let spans: Vec<(usize, usize)> = asked
        .iter()
        .filter_map(|&range| naive::select(range, all.len() as u64))
        .map(|(start, end)| (start as usize, end as usize))
        .collect();
    assert!(!spans.is_empty(), "206 where nothing is selected");
    // What is selected, byte by byte.
    let mut selected = vec![false; all.len()];
    for &(start, end) in &spans {
        selected[start..end].fill(true);
    }
    let mut covered = vec![false; all.len()];
    let mut one = |range: &str, content: &[u8]| {
        let (span, complete) = range
            .strip_prefix("bytes ")
            .and_then(|range| range.split_once('/'))
            .expect("a content-range");
        let (first, last) = span.split_once('-').expect("an incl-range");
        let (first, last): (usize, usize) = (
            first.parse().expect("first-pos"),
            last.parse().expect("last-pos"),
        );
        assert_eq!(complete, all.len().to_string());
        assert_eq!(content, &all[first..=last], "other bytes than it names");
        for byte in &mut covered[first..=last] {
            assert!(!*byte, "a byte sent twice");
            *byte = true;
        }
    };
    match range {
        Some(range) => one(&String::from_utf8_lossy(range), content),
        None => {
            let boundary = content_type
                .and_then(|value| value.strip_prefix(b"multipart/byteranges; boundary="))
                .expect("several parts");
            let parts = naive::multipart(content, boundary).expect("a multipart content");
            assert!((2..=16).contains(&parts.len()));
            for (range, content) in &parts {
                one(range, content);
            }
        }
    }
    assert_eq!(covered, selected, "{asked:?}");
}

/// Facts in any order that a driver can state them, at any time: the machine stays within its
/// documented states, answers each poll purely, and still ends when the peer goes.
///
/// # Panics
/// Where the law does not hold.
pub fn server_facts(input: &[u8]) {
    let mut choices = Choices::new(input);
    let source = Source::choose(&mut choices);
    let mut elapsed = Duration::ZERO;
    let mut connection = ServerConnection::new(ServerConfig::default(), 1, at(elapsed));
    let mut closed = None;
    let mut last_status = None;
    while !choices.is_spent() {
        let now = at(elapsed);
        assert_eq!(connection.poll_output(), connection.poll_output());
        if let Some(reason) = closed {
            assert_eq!(
                connection.poll_output(),
                Output::Close { reason },
                "came back"
            );
        }
        if connection.status() != last_status {
            last_status = connection.status();
        }
        match choices.byte() % 16 {
            // Facts that may come at any time.
            0 => connection.handle_eof(now),
            1 => connection.handle_timeout(now),
            2 => connection.handle_source_failed(now),
            3 => {
                if matches!(
                    connection.poll_output(),
                    Output::Send { .. } | Output::SendSource { .. }
                ) {
                    connection.handle_progress(now);
                }
            }
            4 => elapsed += Duration::from_millis(choices.below(100_000)),
            5 => {
                if let Some((_, deadline)) = connection.poll_timeout() {
                    let deadline = deadline.saturating_duration_since(*EPOCH);
                    elapsed = elapsed.max(deadline);
                    connection.handle_timeout(at(elapsed));
                }
            }
            6 => elapsed += Duration::from_secs(choices.below(1 << 24)),
            // What was asked for.
            _ => match connection.poll_output() {
                Output::Receive => {
                    let bytes = match choices.byte() % 4 {
                        0 => choices.bytes(200),
                        1 => {
                            &b"GET /track/a HTTP/1.1\r\nHost: h\r\n\
                               Authorization: Bearer secret\r\nRange: bytes=1-4\r\n\r\n"[..]
                        }
                        2 => {
                            &b"GET /track/a HTTP/1.1\r\nHost: h\r\n\
                               Authorization: Bearer secret\r\nContent-Length: 9\r\n\r\n"[..]
                        }
                        _ => {
                            &b"GET /track/a HTTP/1.0\r\n\
                               Authorization: Bearer wrong\r\nConnection: keep-alive\r\n\r\n"[..]
                        }
                    };
                    let buffer = connection.receive_buffer();
                    assert!(!buffer.is_empty());
                    let n = bytes.len().min(buffer.len());
                    buffer[..n].copy_from_slice(&bytes[..n]);
                    if n > 0 {
                        connection.handle_received(now, n);
                    }
                }
                Output::Authorize { token } => {
                    let authorization = match choices.byte() % 4 {
                        0 => Authorization::Denied,
                        1 => Authorization::Overloaded,
                        _ if token == TOKEN => Authorization::Granted,
                        _ => Authorization::Denied,
                    };
                    connection.handle_authorized(now, authorization);
                }
                Output::Resolve { .. } => {
                    let found = choices.byte() % 4 > 0;
                    connection.handle_source(now, found.then(|| source.info()));
                }
                Output::Send { .. } => connection.handle_sent(now, 0),
                Output::SendSource { offset, len, .. } => {
                    let max = 1 + usize::from(choices.byte());
                    let max = len.map_or(max, |len| max.min(usize::try_from(len).unwrap_or(max)));
                    match source.read(offset, max).map(<[u8]>::len) {
                        None => connection.handle_source_failed(now),
                        Some(0) => connection.handle_source_end(now),
                        Some(n) => connection.handle_sent(now, n as u64),
                    }
                }
                Output::HalfClose => connection.handle_half_closed(now),
                Output::Close { reason } => {
                    assert_eq!(connection.poll_timeout(), None);
                    closed = Some(reason);
                }
            },
        }
    }
    drain(connection, &source, elapsed);
}

/// The peer is gone and nobody sends: it must end.
fn drain(mut connection: ServerConnection, source: &Source, elapsed: Duration) {
    let now = at(elapsed);
    for _ in 0..200 + 2 * source.bytes.len() {
        match connection.poll_output() {
            Output::Receive => connection.handle_eof(now),
            Output::Authorize { .. } => connection.handle_authorized(now, Authorization::Denied),
            Output::Resolve { .. } => connection.handle_source(now, Some(source.info())),
            Output::Send { .. } => connection.handle_sent(now, 0),
            Output::SendSource { offset, len, .. } => {
                let max = usize::try_from(len.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
                match source.read(offset, max).map(<[u8]>::len) {
                    None => connection.handle_source_failed(now),
                    Some(0) => connection.handle_source_end(now),
                    Some(n) => connection.handle_sent(now, n as u64),
                }
            }
            Output::HalfClose => connection.handle_half_closed(now),
            Output::Close { .. } => return,
        }
    }
    panic!("the connection does not end");
}
