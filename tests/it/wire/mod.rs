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
mod rules;
mod self_checks;
mod source_faults;
mod sources;
mod target;
mod unknown_length;
mod web;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cranpose_services::peer::{ByteSource, BytesSource, EntityTag, PeerServer, SourceResolver};
use peer_tests::raw::{
    End, Framing, RawPeer, ReadError, Response, is_tchar, parse_byteranges, parse_content_range,
    parse_imf_fixdate, show,
};

use rules::{check_challenge, house_rules};
use sources::{
    Bare, ODD_HANDLES, after_epoch, fill_pattern, patterned, sources, start, start_with, tagged,
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
