//! What a request for a representation is answered with: a pure decision (RFC 9110 §13–14).

use peer_proto::{
    FieldName, Fields, Framing, HttpDate, Method, RangeSpec, Span, Validators, Version,
    limits::RANGES_MAX,
    precondition::{self, Precondition},
    range::RangeSet,
};

/// The parts of a multipart answer: at least two, ascending, and neither touching nor overlapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts(Vec<Span>);

impl Parts {
    /// The spans, in order.
    #[must_use]
    pub fn spans(&self) -> &[Span] {
        &self.0
    }

    /// Appends a span, or joins it to the last one where it starts in or right behind that.
    fn push(&mut self, span: Span) {
        match self.0.last_mut() {
            Some(last) if span.offset >= last.offset && span.offset <= last.end() => {
                last.len = last.end().max(span.end()) - last.offset;
            }
            _ => self.0.push(span),
        }
    }

    /// Whether the spans are in order. Those that touch are joined already.
    fn is_ascending(&self) -> bool {
        self.0.is_sorted_by_key(|span| span.offset)
    }

    /// The same bytes in ascending spans.
    fn merged(mut self) -> Self {
        self.0.sort_unstable_by_key(|span| span.offset);
        let mut merged = Self(Vec::with_capacity(self.0.len()));
        for span in self.0 {
            merged.push(span);
        }
        merged
    }
}

/// The part of a representation that a range set selects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// All of it, as if there were no `Range`.
    Whole,
    /// One span.
    Single(Span),
    /// Several spans.
    Parts(Parts),
    /// No byte of it.
    Unsatisfiable,
}

/// Selects what to send of a representation of `complete_length` bytes.
///
/// An empty representation is sent whole, whatever was asked. Ranges that touch or overlap are
/// sent as one. Several ranges out of order are sent as one where they join to one, otherwise the
/// whole is: RFC 9110 §14.2 lets a server ignore such sets. So no answer ever carries more bytes
/// of the source than it has.
#[must_use]
pub fn select(set: &RangeSet<'_>, complete_length: u64) -> Selection {
    if complete_length == 0 {
        return Selection::Whole;
    }
    if let Some(only) = set.only() {
        let span = only.satisfy(complete_length);
        return span.map_or(Selection::Unsatisfiable, Selection::Single);
    }
    let mut satisfied = set.specs().filter_map(|spec| spec.satisfy(complete_length));
    let Some(first) = satisfied.next() else {
        return Selection::Unsatisfiable;
    };
    let Some(second) = satisfied.next() else {
        return Selection::Single(first);
    };
    let mut parts = Parts(vec![first]);
    for span in std::iter::once(second).chain(satisfied) {
        parts.push(span);
        if parts.0.len() > RANGES_MAX {
            return Selection::Whole;
        }
    }
    let is_ascending = parts.is_ascending();
    if !is_ascending {
        parts = parts.merged();
    }
    match parts.spans() {
        [span] => Selection::Single(*span),
        _ if is_ascending => Selection::Parts(parts),
        _ => Selection::Whole,
    }
}

/// The facts a plan rests on.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// `GET` or `HEAD`.
    pub method: Method,
    /// The request's version.
    pub version: Version,
    /// Whether the connection ends with this answer.
    pub close: bool,
    /// The request's fields.
    pub fields: Fields<'a>,
    /// Length of the representation; `None` when only its end will tell.
    pub complete_length: Option<u64>,
    /// Validators of the representation.
    pub validators: Validators,
    /// The date of the answer.
    pub now: Option<HttpDate>,
}

/// The answer to a request for a representation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// 200 with the whole representation, of this length.
    Whole(u64),
    /// 200 with a representation of unknown length, framed like this.
    Stream(Framing),
    /// 206 with one span.
    Single(Span, u64),
    /// 206 with several spans.
    Parts(Parts, u64),
    /// 304.
    NotModified,
    /// 412.
    PreconditionFailed,
    /// 416, of a representation of this length, if known.
    Unsatisfiable(Option<u64>),
}

/// Decides the answer.
#[must_use]
pub fn plan(question: &Question<'_>) -> Plan {
    match precondition::evaluate(&question.fields, &question.validators) {
        Precondition::Failed => return Plan::PreconditionFailed,
        Precondition::NotModified => return Plan::NotModified,
        Precondition::Holds => {}
    }
    let range = requested_range(question);
    match (question.complete_length, range) {
        (Some(length), None) => Plan::Whole(length),
        (Some(length), Some(set)) => match select(&set, length) {
            Selection::Whole => Plan::Whole(length),
            Selection::Single(span) => Plan::Single(span, length),
            Selection::Parts(parts) => Plan::Parts(parts, length),
            Selection::Unsatisfiable => Plan::Unsatisfiable(Some(length)),
        },
        (None, range) => {
            let chunked = question.version == Version::Http11 && !question.close;
            match range {
                // Whoever cannot read chunks takes what comes for the range it asked for, as the
                // published client does: better no answer than the wrong bytes.
                Some(set) if !chunked && starts_later(&set) => Plan::Unsatisfiable(None),
                _ if chunked => Plan::Stream(Framing::Chunked),
                _ => Plan::Stream(Framing::UntilClose),
            }
        }
    }
}

/// The ranges to act on: those of a GET (RFC 9110 §14.2) with one valid `Range` field, whose
/// `If-Range`, if any, names the current version.
fn requested_range<'a>(question: &Question<'a>) -> Option<RangeSet<'a>> {
    if question.method != Method::Get {
        return None;
    }
    let value = question.fields.single(FieldName::Range).ok()??;
    let set = RangeSet::parse(value).ok()?;
    precondition::if_range_holds(&question.fields, &question.validators, question.now)
        .then_some(set)
}

/// Whether it is one range with a first position other than 0.
fn starts_later(set: &RangeSet<'_>) -> bool {
    let mut specs = set.specs();
    matches!(
        (specs.next(), specs.next()),
        (Some(RangeSpec::Int { first_pos: 1.., .. }), None)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a range set means, bytes in a `Vec` at a time: for each spec the positions it names.
    fn named_positions(specs: &[RangeSpec], length: u64) -> Vec<Vec<u64>> {
        let positions: Vec<u64> = (0..length).collect();
        specs
            .iter()
            .map(|spec| {
                let keep = |&position: &u64| match *spec {
                    RangeSpec::Int {
                        first_pos,
                        last_pos,
                    } => position >= first_pos && last_pos.is_none_or(|last| position <= last),
                    RangeSpec::Suffix { suffix_length } => {
                        position >= length.saturating_sub(suffix_length)
                    }
                };
                positions.iter().copied().filter(keep).collect::<Vec<_>>()
            })
            .filter(|positions| !positions.is_empty())
            .collect()
    }

    fn text(specs: &[RangeSpec]) -> String {
        let specs = specs.iter().map(|spec| match *spec {
            RangeSpec::Int {
                first_pos,
                last_pos: None,
            } => format!("{first_pos}-"),
            RangeSpec::Int {
                first_pos,
                last_pos: Some(last),
            } => format!("{first_pos}-{last}"),
            RangeSpec::Suffix { suffix_length } => format!("-{suffix_length}"),
        });
        format!("bytes={}", specs.collect::<Vec<_>>().join(","))
    }

    fn check(specs: &[RangeSpec], length: u64) {
        let value = text(specs);
        let set = RangeSet::parse(value.as_bytes()).unwrap();
        let named = named_positions(specs, length);
        let mut union: Vec<u64> = named.concat();
        union.sort_unstable();
        union.dedup();
        let in_order = named.iter().map(|part| part[0]).is_sorted();
        let is_one = union.windows(2).all(|pair| pair[0] + 1 == pair[1]);
        let sent: Vec<Vec<u64>> = match select(&set, length) {
            Selection::Whole => {
                assert!(
                    length == 0 || !in_order && !is_one,
                    "{value}/{length}: ignored without need"
                );
                return;
            }
            Selection::Unsatisfiable => vec![],
            Selection::Single(span) => vec![(span.offset..span.end()).collect()],
            Selection::Parts(parts) => {
                assert!(
                    in_order,
                    "{value}/{length}: in another order than asked for"
                );
                let spans = parts.spans().iter();
                spans
                    .map(|span| (span.offset..span.end()).collect())
                    .collect()
            }
        };
        // Exactly the named bytes, each once, ascending, in parts that do not touch.
        assert_eq!(sent.concat(), union, "{value}/{length}");
        let apart = sent
            .windows(2)
            .all(|pair| pair[0].last().unwrap() + 1 < pair[1][0]);
        assert!(apart, "{value}/{length}: {sent:?}");
    }

    fn small_specs(max: u64) -> Vec<RangeSpec> {
        let ints = (0..=max).flat_map(|first_pos| {
            (first_pos..=max)
                .map(Some)
                .chain([None])
                .map(move |last_pos| RangeSpec::Int {
                    first_pos,
                    last_pos,
                })
        });
        ints.chain((0..=max).map(|suffix_length| RangeSpec::Suffix { suffix_length }))
            .collect()
    }

    #[test]
    fn one_range_exhaustively() {
        for length in 0..=12 {
            for spec in small_specs(13) {
                check(&[spec], length);
            }
        }
    }

    #[test]
    fn two_ranges_exhaustively() {
        for length in 0..=6 {
            for first in small_specs(7) {
                for second in small_specs(7) {
                    check(&[first, second], length);
                }
            }
        }
    }

    #[test]
    fn three_ranges_exhaustively() {
        for first in small_specs(4) {
            for second in small_specs(4) {
                for third in small_specs(4) {
                    check(&[first, second, third], 5);
                }
            }
        }
    }

    #[test]
    fn sixteen_parts_and_no_more() {
        let set = |count: u64| {
            let specs: Vec<_> = (0..count).map(|n| format!("{}-{}", 2 * n, 2 * n)).collect();
            format!("bytes={}", specs.join(","))
        };
        let selected = |value: &str| select(&RangeSet::parse(value.as_bytes()).unwrap(), 1000);
        assert!(matches!(selected(&set(16)), Selection::Parts(parts) if parts.spans().len() == 16));
        assert_eq!(selected(&set(17)), Selection::Whole);
        let touching: Vec<_> = (0..100).map(|n| format!("{n}-{n}")).collect();
        let value = format!("bytes={}", touching.join(","));
        assert_eq!(
            selected(&value),
            Selection::Single(Span {
                offset: 0,
                len: 100
            })
        );
    }

    #[test]
    fn of_an_unknown_length() {
        let close = Plan::Stream(Framing::UntilClose);
        for (range, without_chunks) in [
            ("", close.clone()),
            ("Range: bytes=0-\r\n", close.clone()),
            ("Range: bytes=0-4\r\n", close.clone()),
            ("Range: bytes=-5\r\n", close.clone()),
            ("Range: bytes=5-6,8-9\r\n", close.clone()),
            ("Range: bytes=6-5\r\n", close.clone()),
            ("Range: bytes=1-\r\nRange: bytes=1-\r\n", close.clone()),
            ("Range: bytes=1-\r\nIf-Range: \"other\"\r\n", close),
            ("Range: bytes=1-\r\n", Plan::Unsatisfiable(None)),
            ("Range: bytes=5-6,\r\n", Plan::Unsatisfiable(None)),
        ] {
            let text = format!("GET / HTTP/1.1\r\n{range}\r\n");
            let head = peer_proto::RequestHead::parse(text.as_bytes());
            let head = head.unwrap().unwrap();
            for (version, close, expected) in [
                (Version::Http11, false, Plan::Stream(Framing::Chunked)),
                (Version::Http11, true, without_chunks.clone()),
                (Version::Http10, false, without_chunks.clone()),
                (Version::Http10, true, without_chunks),
            ] {
                let question = Question {
                    method: Method::Get,
                    version,
                    close,
                    fields: head.fields(text.as_bytes()),
                    complete_length: None,
                    validators: Validators::default(),
                    now: None,
                };
                assert_eq!(plan(&question), expected, "{range:?} {version:?} {close}");
            }
        }
    }

    #[test]
    fn the_far_end_of_u64() {
        let value = format!("bytes=0-0,{}-", u64::MAX - 1);
        let set = RangeSet::parse(value.as_bytes()).unwrap();
        let Selection::Parts(parts) = select(&set, u64::MAX) else {
            panic!("two parts")
        };
        assert_eq!(
            parts.spans()[1],
            Span {
                offset: u64::MAX - 1,
                len: 1
            }
        );
    }
}
