//! The server on the wire: rows of request bytes and what RFC 9110, RFC 9112 and RFC 6750 ask
//! for in answer.
//!
//! A row is data: a name, the bytes a peer sends, and the outcomes that are right. The one runner
//! below sends each row three ways (whole, whole with a further request in the same write, byte by
//! byte), so every row is also a test for lost synchronisation: after a row whose connection
//! stays, the further request must get its own answer; after a row whose connection ends, it must
//! get none. Every response of every row is also held to the rules that bind all responses
//! ([`house_rules`]). A table reports all its failing rows together.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod auth;
mod fields;
mod framing;
mod general;
mod host;
mod methods;
mod multipart;
mod persistence;
mod preconditions;
mod published_client;
mod ranges;
mod request_line;
mod source_faults;
mod target;
mod unknown_length;
mod web;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cranpose_services::peer::{ByteSource, BytesSource, EntityTag, PeerServer, SourceResolver};
use peer_tests::raw::{
    End, Framing, RawPeer, ReadError, Response, is_tchar, parse_byteranges, parse_content_range,
    parse_imf_fixdate, show,
};

/// The token of every server here.
const TOKEN: &str = "secret";
/// The field line that shows it.
const AUTH: &str = "Authorization: Bearer secret";
/// A Host for requests to which the host does not matter.
const HOST: &str = "Host: peer.test";

/// The content of the handle `letters`.
const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyz";
/// The entity-tag of the handle `letters`, as on the wire.
const LETTERS_TAG: &str = "\"letters-1\"";
/// The modification time of the handle `letters`: 2020-01-01 00:00:00 UTC.
const LETTERS_DATE: u64 = 1_577_836_800;
/// The same as an IMF-fixdate.
const LETTERS_DATE_TEXT: &str = "Wed, 01 Jan 2020 00:00:00 GMT";
/// The content of the handle `probe`, which the runner asks for behind every row.
const PROBE: &[u8] = b"the probe's own content";
/// The length of the handle `big`: many blocks of any size, and no multiple of one.
const BIG: u64 = 3 * 1024 * 1024 + 17;
/// The length of the handle `middle`: larger than any block that a test's failure should print.
const MIDDLE: u64 = 50_021;
/// The length of the handle `huge`, which no 32-bit number and no disk here holds.
const HUGE: u64 = 5 << 40;
/// The length of the sources that do not tell it.
const UNKNOWN: u64 = 100_003;

// ---------------------------------------------------------------------------------- the server

/// Copies the bytes of a patterned source from `offset` on into `buf`.
///
/// The pattern repeats after a prime number of bytes, so that no block, no page and no wrapped
/// number begins where another did; it is copied from a table, since tests run unoptimised.
fn fill_pattern(offset: u64, buf: &mut [u8]) {
    const PERIOD: usize = 65_521;
    static TABLE: OnceLock<Vec<u8>> = OnceLock::new();
    let table = TABLE.get_or_init(|| {
        let byte = |i: u64| (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8;
        (0..PERIOD as u64).map(byte).collect()
    });
    let mut at = (offset % PERIOD as u64) as usize;
    let mut rest = buf;
    while !rest.is_empty() {
        let n = rest.len().min(PERIOD - at);
        let (now, later) = rest.split_at_mut(n);
        now.copy_from_slice(&table[at..at + n]);
        (rest, at) = (later, 0);
    }
}

/// The bytes of a patterned source from `offset` on.
fn patterned(offset: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    fill_pattern(offset, &mut bytes);
    bytes
}

/// A source whose bytes are computed: of any length, and silent about it where asked to be.
struct Patterned {
    len: u64,
    tells_len: bool,
}

impl ByteSource for Patterned {
    fn len(&self) -> Option<u64> {
        self.tells_len.then_some(self.len)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX);
        let n = left.min(buf.len());
        fill_pattern(offset, &mut buf[..n]);
        Ok(n)
    }
}

/// What an app written against the documented names has: `len` and `read_at`, nothing else.
struct Bare(&'static [u8]);

impl ByteSource for Bare {
    fn len(&self) -> Option<u64> {
        Some(self.0.len() as u64)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let rest = &self.0[usize::try_from(offset).unwrap().min(self.0.len())..];
        let n = rest.len().min(buf.len());
        buf[..n].copy_from_slice(&rest[..n]);
        Ok(n)
    }
}

fn after_epoch(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn tagged(content: &[u8], tag: &str) -> BytesSource {
    BytesSource::new(content.to_vec()).with_entity_tag(EntityTag::strong(tag).unwrap())
}

/// The sources of the tables, by handle.
fn sources() -> BTreeMap<String, Arc<dyn ByteSource>> {
    let mut map: BTreeMap<String, Arc<dyn ByteSource>> = BTreeMap::new();
    let mut offer = |handle: &str, source: Arc<dyn ByteSource>| {
        assert!(
            map.insert(handle.to_owned(), source).is_none(),
            "{handle} twice"
        );
    };
    let letters = tagged(LETTERS, "letters-1")
        .with_content_type("audio/x-letters")
        .with_last_modified(after_epoch(LETTERS_DATE));
    offer("letters", Arc::new(letters));
    offer("probe", Arc::new(tagged(PROBE, "probe")));
    offer("plain", Arc::new(BytesSource::new(LETTERS.to_vec())));
    offer("empty", Arc::new(BytesSource::new(Vec::new())));
    offer("one", Arc::new(BytesSource::new(b"x".to_vec())));
    offer("comma", Arc::new(tagged(LETTERS, "a,b")));
    offer("bare", Arc::new(Bare(LETTERS)));
    offer(
        "dated",
        Arc::new(Dated {
            content: LETTERS,
            modified: after_epoch(LETTERS_DATE),
        }),
    );
    offer(
        "big",
        Arc::new(Patterned {
            len: BIG,
            tells_len: true,
        }),
    );
    offer(
        "middle",
        Arc::new(Patterned {
            len: MIDDLE,
            tells_len: true,
        }),
    );
    offer(
        "huge",
        Arc::new(Patterned {
            len: HUGE,
            tells_len: true,
        }),
    );
    offer(
        "max",
        Arc::new(Patterned {
            len: u64::MAX,
            tells_len: true,
        }),
    );
    offer(
        "unknown",
        Arc::new(Patterned {
            len: UNKNOWN,
            tells_len: false,
        }),
    );
    offer(
        "unknown-empty",
        Arc::new(Patterned {
            len: 0,
            tells_len: false,
        }),
    );
    for handle in ODD_HANDLES {
        offer(
            handle,
            Arc::new(BytesSource::new(handle.as_bytes().to_vec())),
        );
    }
    map
}

/// Handles that need encoding, or look like something that a server might treat; the content of
/// each is its own name.
const ODD_HANDLES: &[&str] = &[
    "a b",
    "a+b",
    "a/b/c",
    "/slash first",
    "slash last/",
    "a//b",
    ".",
    "..",
    "../letters",
    "dots/../up",
    "./here",
    "what?",
    "a#b",
    "50%",
    "%41",
    "a&b=c;d",
    "ünïcode",
    "日本語",
    "🎵",
    "e\u{301}",
    "\u{e9}",
    "nul\0inside",
    "line\r\nbreak",
    "~tilde_under-score.dot",
    "LETTERS",
    "letters ",
    " letters",
    "http://peer.test/track/x",
    "\\windows\\path",
    "\"quoted\"<b>",
];

/// Content with a modification time and no entity-tag.
struct Dated {
    content: &'static [u8],
    modified: SystemTime,
}

impl ByteSource for Dated {
    fn len(&self) -> Option<u64> {
        Some(self.content.len() as u64)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        Bare(self.content).read_at(offset, buf)
    }

    fn last_modified(&self) -> Option<SystemTime> {
        Some(self.modified)
    }
}

/// A server of the tables' sources.
fn start() -> PeerServer {
    start_with(sources())
}

/// A server of `map`, which always offers the probe as well.
fn start_with(mut map: BTreeMap<String, Arc<dyn ByteSource>>) -> PeerServer {
    map.entry("probe".to_owned())
        .or_insert_with(|| Arc::new(tagged(PROBE, "probe")));
    let resolver: SourceResolver = Arc::new(move |handle: &str| map.get(handle).cloned());
    PeerServer::start("127.0.0.1:0", TOKEN, resolver).unwrap()
}

// -------------------------------------------------------------------------------- the requests

/// A head of the given lines, each ended by CRLF, and the empty line.
fn head(lines: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in lines {
        bytes.extend_from_slice(line.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes
}

/// A request that shows the token: `method`, `/track/` and `path`, HTTP/1.1, and more fields.
fn request(method: &str, path: &str, fields: &[&str]) -> Vec<u8> {
    let line = format!("{method} /track/{path} HTTP/1.1");
    let mut lines = vec![line.as_str(), HOST, AUTH];
    lines.extend_from_slice(fields);
    head(&lines)
}

/// A GET that shows the token.
fn get(path: &str, fields: &[&str]) -> Vec<u8> {
    request("GET", path, fields)
}

/// A head whose request-line is `line`, with Host and token.
fn with_line(line: &str) -> Vec<u8> {
    head(&[line, HOST, AUTH])
}

/// The same for request-lines that are not text.
fn with_line_bytes(line: &[u8]) -> Vec<u8> {
    [line, b"\r\n", &head(&[HOST, AUTH])].concat()
}

/// A GET of the letters with one field line that need not be text.
fn with_field_bytes(line: &[u8]) -> Vec<u8> {
    [
        b"GET /track/letters HTTP/1.1\r\n",
        line,
        b"\r\n",
        &head(&[HOST, AUTH]),
    ]
    .concat()
}

/// One message behind another.
fn joined(messages: &[&[u8]]) -> Vec<u8> {
    messages.concat()
}

fn probe_request() -> Vec<u8> {
    get("probe", &[])
}

// ------------------------------------------------------------------------------------ the rows

/// What a field of an answer must be.
#[derive(Clone, Debug)]
enum Want {
    Is(String),
    Present,
    Absent,
}

/// What the content of an answer must be.
#[derive(Clone, Debug)]
enum Content {
    Any,
    Is(Vec<u8>),
    /// `multipart/byteranges` with these first and last positions of this source.
    Parts(Vec<u8>, Vec<(u64, u64)>),
}

/// One right answer.
#[derive(Clone, Debug)]
struct Answer {
    statuses: Vec<u16>,
    fields: Vec<(&'static str, Want)>,
    content: Content,
    to_head: bool,
}

/// An answer of this status.
fn answer(status: u16) -> Answer {
    answer_in(&[status])
}

/// An answer of one of these statuses, where the RFC or the design leaves the choice.
fn answer_in(statuses: &[u16]) -> Answer {
    Answer {
        statuses: statuses.to_vec(),
        fields: Vec::new(),
        content: Content::Any,
        to_head: false,
    }
}

/// 200 with this content.
fn ok(content: &[u8]) -> Answer {
    answer(200).content(content)
}

/// 200 with the letters whole.
fn letters() -> Answer {
    ok(LETTERS).lacks("Content-Range")
}

/// 206 with the letters from `first` to `last`.
fn part(first: usize, last: usize) -> Answer {
    answer(206)
        .content(&LETTERS[first..=last])
        .has("Content-Range", &format!("bytes {first}-{last}/26"))
}

/// 416 that tells the length of the letters.
fn unsatisfiable() -> Answer {
    answer(416).has("Content-Range", "bytes */26")
}

impl Answer {
    fn has(mut self, name: &'static str, value: &str) -> Self {
        self.fields.push((name, Want::Is(value.to_owned())));
        self
    }

    fn shows(mut self, name: &'static str) -> Self {
        self.fields.push((name, Want::Present));
        self
    }

    fn lacks(mut self, name: &'static str) -> Self {
        self.fields.push((name, Want::Absent));
        self
    }

    fn content(mut self, content: &[u8]) -> Self {
        self.content = Content::Is(content.to_vec());
        self
    }

    fn parts(mut self, source: &[u8], ranges: &[(u64, u64)]) -> Self {
        self.content = Content::Parts(source.to_vec(), ranges.to_vec());
        self
    }

    /// The answer to a HEAD: no content, whatever its fields say.
    fn for_head(mut self) -> Self {
        self.to_head = true;
        self.content(b"")
    }

    fn check(&self, response: &Response) -> Result<(), String> {
        if !self.statuses.contains(&response.status()) {
            return Err(format!(
                "expected status {:?}, got {}",
                self.statuses,
                response.status()
            ));
        }
        for (name, want) in &self.fields {
            let values: Vec<&str> = response.head.values(name).collect();
            let right = match want {
                Want::Is(value) => values == [value.as_str()],
                Want::Present => values.len() == 1,
                Want::Absent => values.is_empty(),
            };
            if !right {
                return Err(format!("expected {name}: {want:?}, got {values:?}"));
            }
        }
        match &self.content {
            Content::Any => Ok(()),
            Content::Is(content) if *content == response.content => Ok(()),
            Content::Is(content) => Err(format!(
                "expected content {}, got {}",
                show(content),
                show(&response.content)
            )),
            Content::Parts(source, ranges) => check_parts(response, source, ranges),
        }
    }
}

fn boundary(response: &Response) -> Result<String, String> {
    let media_type = response.field("Content-Type").ok_or("no Content-Type")?;
    let boundary = media_type
        .strip_prefix("multipart/byteranges; boundary=")
        .ok_or_else(|| format!("Content-Type {media_type:?}"))?;
    let bare = boundary.trim_matches('"');
    // RFC 2046 §5.1.1; unquoted, it must also be a token.
    let right = !bare.is_empty()
        && bare.len() <= 70
        && (bare.len() + 2 == boundary.len() || boundary.bytes().all(is_tchar));
    if right {
        Ok(bare.to_owned())
    } else {
        Err(format!("boundary {boundary:?}"))
    }
}

fn check_parts(response: &Response, source: &[u8], ranges: &[(u64, u64)]) -> Result<(), String> {
    let parts = parse_byteranges(&response.content, &boundary(response)?)?;
    let got: Vec<(u64, u64)> = parts.iter().map(|p| (p.range.0, p.range.1)).collect();
    if got != ranges {
        return Err(format!("expected parts {ranges:?}, got {got:?}"));
    }
    for part in &parts {
        let (first, last, total) = part.range;
        if total != Some(source.len() as u64) {
            return Err(format!("a part of {total:?} bytes"));
        }
        if part.content != source[first as usize..=last as usize] {
            return Err(format!("part {first}-{last} is {}", show(&part.content)));
        }
    }
    Ok(())
}

/// What becomes of the connection after a row's answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// The next request on it is answered.
    Stays,
    /// It is closed in order, and what was sent behind the row is never answered.
    Ends,
    /// The same, where the answer may be out before the reason to close comes to light.
    EndsUnannounced,
    /// Either of the two, as long as it is the one announced.
    Either,
}

/// One right way for a row to go.
#[derive(Clone, Debug)]
struct Outcome {
    answers: Vec<Answer>,
    then: Then,
}

/// A row: what is sent, and the outcomes that are right.
#[derive(Clone, Debug)]
struct Row {
    name: String,
    sends: Vec<u8>,
    half_closes: bool,
    outcomes: Vec<Outcome>,
}

impl Row {
    fn new(name: impl Into<String>, sends: Vec<u8>, answers: Vec<Answer>, then: Then) -> Self {
        let outcomes = vec![Outcome { answers, then }];
        Self {
            name: name.into(),
            sends,
            half_closes: false,
            outcomes,
        }
    }

    /// A second outcome that is as right as the first.
    fn or(mut self, answer: Answer, then: Then) -> Self {
        self.outcomes.push(Outcome {
            answers: vec![answer],
            then,
        });
        self
    }

    /// The connection may also end without any answer.
    fn or_nothing(mut self) -> Self {
        self.outcomes.push(Outcome {
            answers: Vec::new(),
            then: Then::Ends,
        });
        self
    }

    /// Whether the peer itself has said that its last request is the last.
    fn asks_for_the_end(&self) -> bool {
        let text = String::from_utf8_lossy(&self.sends).to_ascii_lowercase();
        let says_so =
            text.contains("close") || (text.contains("http/1.0") && !text.contains("keep-alive"));
        says_so
            && self
                .outcomes
                .iter()
                .all(|outcome| outcome.then != Then::Stays)
    }

    /// The peer ends its half behind the row's bytes, and no probe follows.
    fn half_closed(mut self) -> Self {
        self.half_closes = true;
        self
    }
}

fn stays(name: impl Into<String>, sends: Vec<u8>, answer: Answer) -> Row {
    Row::new(name, sends, vec![answer], Then::Stays)
}

fn ends(name: impl Into<String>, sends: Vec<u8>, answer: Answer) -> Row {
    Row::new(name, sends, vec![answer], Then::Ends)
}

fn either(name: impl Into<String>, sends: Vec<u8>, answer: Answer) -> Row {
    Row::new(name, sends, vec![answer], Then::Either)
}

/// An end that the server may not have known of when it answered.
fn unannounced(name: impl Into<String>, sends: Vec<u8>, answer: Answer) -> Row {
    Row::new(name, sends, vec![answer], Then::EndsUnannounced)
}

/// 400, after which nothing on the connection can be trusted.
fn refused(name: impl Into<String>, sends: Vec<u8>) -> Row {
    ends(name, sends, answer(400))
}

// ---------------------------------------------------------------------------------- the runner

/// How a row's bytes are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// In one write; the probe once the answers are there.
    Whole,
    /// With the probe in the same write.
    Pipelined,
    /// Row and probe in writes of one byte (of some bytes where the row is long).
    InPieces,
}

/// What came back.
#[derive(Debug, Default)]
struct Transcript {
    responses: Vec<Response>,
    probe_answered: bool,
    end: Option<End>,
    error: Option<String>,
}

impl Transcript {
    /// Reads up to the answer to the probe, `limit` responses, or the end of the connection.
    fn read(&mut self, peer: &mut RawPeer, row: &Row, limit: usize) {
        while self.responses.len() < limit && !self.probe_answered && self.end.is_none() {
            let to_head = row.outcomes[0]
                .answers
                .get(self.responses.len())
                .is_some_and(|answer| answer.to_head);
            match peer.read_response(to_head) {
                Ok(Some(response)) if response.field("ETag") == Some("\"probe\"") => {
                    if let Err(wrong) = house_rules(&response, false) {
                        self.error = Some(format!("answer to the probe: {wrong}"));
                    }
                    if response.status() != 200 || response.content != PROBE {
                        self.error = Some(format!("answer to the probe: {response:?}"));
                    }
                    self.probe_answered = true;
                }
                Ok(Some(response)) => {
                    if let Err(wrong) = house_rules(&response, to_head) {
                        self.error = Some(wrong);
                    }
                    if response.cut.is_some() {
                        self.error = Some("content cut short".to_owned());
                        self.end = response.cut;
                    }
                    // Close-delimited content has seen the end already.
                    if response.framing == Framing::UntilClose {
                        self.end = Some(End::Closed);
                    }
                    self.responses.push(response);
                }
                Ok(None) => self.end = Some(End::Closed),
                Err(ReadError::Ended(end)) => self.end = Some(end),
                Err(wrong) => {
                    self.error = Some(wrong.to_string());
                    self.end = Some(End::Reset);
                }
            }
        }
    }
}

fn run_row(addr: SocketAddr, row: &Row, mode: Mode) -> Result<(), String> {
    let mut peer = RawPeer::connect(addr).map_err(|e| format!("connect: {e}"))?;
    let mut transcript = Transcript::default();
    // A server that has refused may close while the rest is still being sent, hence the writes'
    // errors are not the verdict: the answers are.
    let pieces = |bytes: &[u8]| if bytes.len() <= 2048 { 1 } else { 499 };
    let probe = if row.half_closes {
        Vec::new()
    } else {
        probe_request()
    };
    match mode {
        Mode::Whole => {
            let _ = peer.send(&row.sends);
            if row.half_closes {
                let _ = peer.half_close();
            } else {
                let most = row
                    .outcomes
                    .iter()
                    .map(|o| o.answers.len())
                    .max()
                    .unwrap_or(0);
                transcript.read(&mut peer, row, most);
                if transcript.end.is_none()
                    && !transcript.responses.last().is_some_and(|r| r.head.closes())
                {
                    let _ = peer.send(&probe);
                }
            }
        }
        Mode::Pipelined => {
            let _ = peer.send(&joined(&[&row.sends, &probe]));
        }
        Mode::InPieces => {
            // Whoever asks for the end MUST NOT send a further request (RFC 9112 §9.6), and a server
            // that closes at once is not to blame where one arrives behind its close.
            let probe = if row.asks_for_the_end() {
                Vec::new()
            } else {
                probe
            };
            let bytes = joined(&[&row.sends, &probe]);
            let _ = peer.send_in_pieces(&bytes, pieces(&bytes));
            if row.half_closes {
                let _ = peer.half_close();
            }
        }
    }
    transcript.read(&mut peer, row, usize::MAX);
    if transcript.probe_answered && !peer.left_over().is_empty() {
        transcript.error = Some(format!(
            "behind the last answer: {}",
            show(peer.left_over())
        ));
    }
    let verdicts: Vec<String> = row
        .outcomes
        .iter()
        .filter_map(|outcome| judge(outcome, &transcript, row.half_closes).err())
        .collect();
    if verdicts.len() < row.outcomes.len() {
        return Ok(());
    }
    let got: Vec<String> = transcript.responses.iter().map(brief).collect();
    Err(format!(
        "{}\n      sent {}\n      got  [{}], probe answered: {}, end: {:?}",
        verdicts.join("; or: "),
        show(&row.sends),
        got.join(" | "),
        transcript.probe_answered,
        transcript.end,
    ))
}

fn brief(response: &Response) -> String {
    let fields: Vec<String> = response
        .head
        .fields
        .iter()
        .map(|(name, value)| format!("{name}: {value}"))
        .collect();
    format!(
        "{} {{{}}} {}",
        response.status(),
        fields.join(", "),
        show(&response.content)
    )
}

fn judge(outcome: &Outcome, transcript: &Transcript, half_closes: bool) -> Result<(), String> {
    if let Some(error) = &transcript.error {
        return Err(error.clone());
    }
    let (want, got) = (outcome.answers.len(), transcript.responses.len());
    if want != got {
        return Err(format!("expected {want} answers, got {got}"));
    }
    for (at, (answer, response)) in outcome
        .answers
        .iter()
        .zip(&transcript.responses)
        .enumerate()
    {
        answer
            .check(response)
            .map_err(|wrong| format!("answer {at}: {wrong}"))?;
    }
    let announced = transcript.responses.last().is_some_and(|r| r.head.closes());
    if transcript.probe_answered {
        if announced {
            return Err("went on after Connection: close".to_owned());
        }
        if matches!(outcome.then, Then::Ends | Then::EndsUnannounced) {
            return Err("the connection should have ended".to_owned());
        }
        return Ok(());
    }
    if outcome.then == Then::Stays {
        return Err("the connection should have stayed".to_owned());
    }
    match transcript.end {
        Some(End::Closed) => {}
        end => return Err(format!("expected an orderly close, got {end:?}")),
    }
    // RFC 9112 §9.6. Where the peer has ended its half, it needs no announcement.
    let silent = half_closes || outcome.then == Then::EndsUnannounced;
    if !announced && !silent && !transcript.responses.is_empty() {
        return Err("ended without Connection: close".to_owned());
    }
    Ok(())
}

/// Runs every row in every mode against one server, and fails with all that is wrong.
fn run_table(rows: &[Row]) {
    run_table_at(&start(), rows);
}

fn run_table_at(server: &PeerServer, rows: &[Row]) {
    const WORKERS: usize = 8;
    let mut names = BTreeSet::new();
    for row in rows {
        assert!(
            names.insert(row.name.as_str()),
            "two rows named {}",
            row.name
        );
    }
    let addr = server.local_addr();
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..WORKERS.min(rows.len()) {
            scope.spawn(|| {
                while let Some(row) = rows.get(next.fetch_add(1, Ordering::Relaxed)) {
                    for mode in [Mode::Whole, Mode::Pipelined, Mode::InPieces] {
                        // With nothing to follow it, the row is the whole pipeline.
                        if row.half_closes && mode == Mode::Pipelined {
                            continue;
                        }
                        if let Err(wrong) = run_row(addr, row, mode) {
                            let text = format!("  {} [{mode:?}]: {wrong}", row.name);
                            failures
                                .lock()
                                .unwrap()
                                .insert((row.name.clone(), mode as u8), text);
                            break;
                        }
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    let texts: Vec<String> = failures.into_values().collect();
    assert!(
        texts.is_empty(),
        "{} of {} rows fail:\n{}\n",
        texts.len(),
        rows.len(),
        texts.join("\n")
    );
}

// ---------------------------------------------------------------- what binds every response

/// The rules that bind every response, whatever was asked.
fn house_rules(response: &Response, to_head: bool) -> Result<(), String> {
    let status = response.status();
    let head = &response.head;
    for name in [
        "Accept-Ranges",
        "Access-Control-Allow-Headers",
        "Access-Control-Allow-Methods",
        "Access-Control-Allow-Origin",
        "Access-Control-Expose-Headers",
        "Access-Control-Max-Age",
        "Allow",
        "Cache-Control",
        "Connection",
        "Content-Length",
        "Content-Range",
        "Content-Type",
        "Date",
        "ETag",
        "Last-Modified",
        "Vary",
        "WWW-Authenticate",
    ] {
        if head.values(name).count() > 1 {
            return Err(format!("{name} more than once"));
        }
    }
    if head.fields.iter().any(|(_, value)| value.contains(TOKEN)) {
        return Err("the token is in a field".to_owned());
    }
    if !(200..600).contains(&status) {
        return Err(format!("status {status} as a final answer"));
    }
    // RFC 9110 §6.6.1: in every 2xx, 3xx and 4xx; the design adds 5xx.
    let date = head.field("Date").ok_or("no Date")?;
    let date = parse_imf_fixdate(date).ok_or_else(|| format!("Date {date:?}"))?;
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    if now.abs_diff(date) > 60 {
        return Err(format!("Date is {} s off", now.abs_diff(date)));
    }
    // §8.8.2.1.
    if let Some(text) = head.field("Last-Modified") {
        let modified = parse_imf_fixdate(text).ok_or_else(|| format!("Last-Modified {text:?}"))?;
        if modified > date {
            return Err("Last-Modified later than Date".to_owned());
        }
    }
    if let Some(tag) = head.field("ETag") {
        let opaque = tag.strip_prefix("W/").unwrap_or(tag);
        let inside = opaque.strip_prefix('"').and_then(|t| t.strip_suffix('"'));
        if inside.is_none_or(|t| t.contains('"') || t.bytes().any(|b| b <= 0x20 || b == 0x7f)) {
            return Err(format!("ETag {tag:?}"));
        }
    }
    match status {
        200 | 206 | 304 => {
            for directive in ["private", "no-transform"] {
                if !head.lists("Cache-Control", directive) {
                    return Err(format!("{status} without Cache-Control: {directive}"));
                }
            }
        }
        _ => {
            if head
                .fields
                .iter()
                .any(|(name, _)| name.eq_ignore_ascii_case("Last-Modified"))
            {
                return Err(format!("Last-Modified in a {status}"));
            }
        }
    }
    match status {
        200 | 206 => {
            let accepts = head.field("Accept-Ranges");
            if !matches!(accepts, Some("bytes" | "none")) {
                return Err(format!("Accept-Ranges {accepts:?} in a {status}"));
            }
            if response.framing == Framing::UntilClose && !head.closes() {
                return Err("close-delimited without Connection: close".to_owned());
            }
        }
        304 => {}
        // A preflight's, and of nothing else.
        204 => {
            if head.field("Access-Control-Allow-Origin").is_none() {
                return Err("204 to no allowed origin".to_owned());
            }
            if head.field("Content-Length").is_some() || head.field("Content-Type").is_some() {
                return Err("204 with fields of a content".to_owned());
            }
        }
        400..=599 => {
            // An explanation for whoever debugs: text, short, and safe to show.
            let media_type = head.field("Content-Type").unwrap_or_default();
            if !media_type.starts_with("text/plain") {
                return Err(format!("Content-Type {media_type:?} in a {status}"));
            }
            if !to_head && !matches!(response.framing, Framing::Length(1..=1024)) {
                return Err(format!("{status} explained by {:?}", response.framing));
            }
            if response
                .content
                .iter()
                .any(|&b| b != b'\n' && !(0x20..0x7f).contains(&b))
            {
                return Err(format!("explanation {}", show(&response.content)));
            }
        }
        _ => return Err(format!("status {status} is never the answer here")),
    }
    if status == 401 {
        check_challenge(
            head.field("WWW-Authenticate")
                .ok_or("401 without WWW-Authenticate")?,
        )?;
    }
    if status == 405 && head.field("Allow") != Some("GET, HEAD") {
        return Err(format!("405 with Allow {:?}", head.field("Allow")));
    }
    if matches!(status, 401 | 404) {
        for name in ["ETag", "Content-Range", "Allow"] {
            if head.values(name).next().is_some() {
                return Err(format!("{name} in a {status}"));
            }
        }
    }
    // Fetch, the CORS protocol and HTTP caches: what differs by origin says so.
    if head.field("Access-Control-Allow-Origin").is_some() && !head.lists("Vary", "Origin") {
        return Err("an answer to one origin that does not vary by it".to_owned());
    }
    match (status, head.field("Content-Range")) {
        (206, Some(range)) => {
            let (first, last, total) = parse_content_range(range)?;
            if total.is_none() {
                return Err(format!(
                    "Content-Range {range:?} without the complete length"
                ));
            }
            if response.framing != Framing::Length(last - first + 1) {
                return Err(format!("{range:?} framed as {:?}", response.framing));
            }
            if head
                .field("Content-Type")
                .is_some_and(|t| t.starts_with("multipart/byteranges"))
            {
                return Err("Content-Range beside multipart/byteranges".to_owned());
            }
        }
        (206, None) => {
            let parts = parse_byteranges(&response.content, &boundary(response)?)?;
            if parts.len() < 2 {
                return Err(format!("multipart of {} parts", parts.len()));
            }
        }
        (416, Some(range)) => {
            let length = range.strip_prefix("bytes */").unwrap_or_default();
            if length.is_empty() || !length.bytes().all(|b| b.is_ascii_digit()) {
                return Err(format!("Content-Range {range:?} in a 416"));
            }
        }
        (_, None) => {}
        (_, Some(range)) => return Err(format!("Content-Range {range:?} in a {status}")),
    }
    Ok(())
}

/// RFC 9110 §11.6.1, RFC 6750 §3: one Bearer challenge with a realm, each parameter once.
fn check_challenge(value: &str) -> Result<BTreeMap<String, String>, String> {
    let wrong = |what: &str| format!("WWW-Authenticate {value:?}: {what}");
    let mut rest = value
        .strip_prefix("Bearer ")
        .ok_or_else(|| wrong("not Bearer"))?;
    let mut params = BTreeMap::new();
    loop {
        rest = rest.trim_start_matches(' ');
        let (name, after) = rest.split_once('=').ok_or_else(|| wrong("no parameter"))?;
        if name.is_empty() || !name.bytes().all(is_tchar) {
            return Err(wrong("parameter name"));
        }
        let (text, after) = after
            .strip_prefix('"')
            .and_then(|quoted| quoted.split_once('"'))
            .ok_or_else(|| wrong("parameter is not a quoted-string"))?;
        if params
            .insert(name.to_ascii_lowercase(), text.to_owned())
            .is_some()
        {
            return Err(wrong("parameter twice"));
        }
        match after.trim_start_matches(' ') {
            "" => break,
            more => rest = more.strip_prefix(',').ok_or_else(|| wrong("no comma"))?,
        }
    }
    if !params.contains_key("realm") {
        return Err(wrong("no realm"));
    }
    Ok(params)
}

#[cfg(test)]
mod self_checks {
    //! The judge is judged too: answers that must not pass.

    use super::*;

    fn response(status: u16, fields: &[(&str, &str)], content: &[u8]) -> Response {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs();
        let mut head = peer_tests::raw::Head {
            status,
            reason: "R".to_owned(),
            fields: Vec::new(),
        };
        head.fields
            .push(("Date".to_owned(), peer_tests::raw::imf_fixdate(now)));
        for (name, value) in fields {
            head.fields.push(((*name).to_owned(), (*value).to_owned()));
        }
        let framing = head.framing(false).unwrap();
        Response {
            head,
            framing,
            content: content.to_vec(),
            cut: None,
        }
    }

    const GOOD: &[(&str, &str)] = &[
        ("Cache-Control", "private, no-transform"),
        ("Accept-Ranges", "bytes"),
        ("Content-Length", "3"),
    ];

    #[test]
    fn house_rules_accept_and_refuse() {
        assert_eq!(house_rules(&response(200, GOOD, b"abc"), false), Ok(()));
        let bad: &[&[(&str, &str)]] = &[
            &[("ETag", "\"a\""), ("ETag", "\"a\"")],
            &[("ETag", "a")],
            &[("ETag", "\"a\"b\"")],
            &[("Last-Modified", "Wed, 01 Jan 2020 00:00:00 UTC")],
            &[("Last-Modified", "Thu, 01 Jan 2099 00:00:00 GMT")],
            &[("Content-Range", "bytes 0-2/3")],
            &[("X", "secret")],
            &[("Date", "Wed, 01 Jan 2020 00:00:00 GMT")],
        ];
        for more in bad {
            let fields = [GOOD, more].concat();
            assert!(
                house_rules(&response(200, &fields, b"abc"), false).is_err(),
                "{more:?}"
            );
        }
        for missing in 0..2 {
            let mut fields = GOOD.to_vec();
            fields.remove(missing);
            assert!(
                house_rules(&response(200, &fields, b"abc"), false).is_err(),
                "{missing}"
            );
        }
        let web = [
            ("Vary", "Origin"),
            ("Access-Control-Allow-Origin", "https://a"),
        ];
        assert_eq!(house_rules(&response(204, &web, b""), false), Ok(()));
        for wrong in [&web[..1], &web[1..], &[web[0], web[1], web[1]]] {
            assert!(house_rules(&response(204, wrong, b""), false).is_err());
        }
        let text = [("Content-Type", "text/plain"), ("Content-Length", "3")];
        assert_eq!(house_rules(&response(404, &text, b"abc"), false), Ok(()));
        for status in [401, 405] {
            assert!(
                house_rules(&response(status, &text, b"abc"), false).is_err(),
                "{status}"
            );
        }
        assert!(house_rules(&response(404, &[], b"abc"), false).is_err());
        assert!(house_rules(&response(206, GOOD, b"abc"), false).is_err());
        let range = [GOOD, &[("Content-Range", "bytes 1-3/9")]].concat();
        assert_eq!(house_rules(&response(206, &range, b"abc"), false), Ok(()));
        let range = [GOOD, &[("Content-Range", "bytes 1-4/9")]].concat();
        assert!(house_rules(&response(206, &range, b"abc"), false).is_err());
    }

    #[test]
    fn challenges_are_read() {
        assert!(check_challenge("Bearer realm=\"a\"").is_ok());
        assert!(check_challenge("Bearer realm=\"a\", error=\"invalid_token\"").is_ok());
        for wrong in [
            "Bearer",
            "Bearer ",
            "Basic realm=\"a\"",
            "Bearer error=\"a\"",
            "Bearer realm=\"a",
        ] {
            assert!(check_challenge(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_judge_refuses_what_a_row_does_not_say() {
        let good = || response(200, GOOD, b"abc");
        let transcript = |responses, probe_answered, end| Transcript {
            responses,
            probe_answered,
            end,
            error: None,
        };
        let outcome = |then| Outcome {
            answers: vec![ok(b"abc")],
            then,
        };
        let pass = |then, t: &Transcript| judge(&outcome(then), t, false).is_ok();
        assert!(pass(Then::Stays, &transcript(vec![good()], true, None)));
        assert!(!pass(Then::Ends, &transcript(vec![good()], true, None)));
        assert!(!pass(
            Then::Stays,
            &transcript(vec![good()], false, Some(End::Closed))
        ));
        // An end that was not announced, or not in order.
        assert!(!pass(
            Then::Ends,
            &transcript(vec![good()], false, Some(End::Closed))
        ));
        let fields = [GOOD, &[("Connection", "close")]].concat();
        let last = || response(200, &fields, b"abc");
        assert!(pass(
            Then::Ends,
            &transcript(vec![last()], false, Some(End::Closed))
        ));
        assert!(!pass(
            Then::Ends,
            &transcript(vec![last()], false, Some(End::Reset))
        ));
        assert!(!pass(Then::Either, &transcript(vec![last()], true, None)));
        assert!(!pass(
            Then::Ends,
            &transcript(vec![last(), last()], false, Some(End::Closed))
        ));
        assert!(!pass(
            Then::Ends,
            &transcript(Vec::new(), false, Some(End::Closed))
        ));
        assert!(ok(b"abd").check(&good()).is_err());
        assert!(ok(b"abc").lacks("Accept-Ranges").check(&good()).is_err());
        assert!(ok(b"abc").shows("ETag").check(&good()).is_err());
        assert!(
            ok(b"abc")
                .has("Accept-Ranges", "none")
                .check(&good())
                .is_err()
        );
        assert!(answer(206).check(&good()).is_err());
    }
}
