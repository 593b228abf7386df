//! The mending machine, walked over.

use std::time::{Duration, Instant};

use peer_core::{
    fetch::{Answer, FetchDeadline, FetchDone, FetchError, Version, Want},
    transfer::{Attempt, AttemptEnd, RetryPolicy, Setback, Transfer, TransferOutput},
};
use peer_proto::EntityTag;

use super::{Expected, Machine, Walked, walk};
use crate::check::server::at;

/// Length of the source.
const LEN: u64 = 3;

/// The network's error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Broken;

/// What the head of an answer told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// There was no answer.
    Nothing,
    /// A length, and this strong tag.
    Tag(&'static str),
    /// A length and no tag.
    Length,
    /// Neither.
    Neither,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Done,
    /// With less than was asked for, although there is more.
    Short,
    Broken,
    Cut,
    TimedOut(FetchDeadline),
    NoRoom,
    NoRange,
    Changed,
    NotFound,
}

#[derive(Clone, Copy, Debug)]
enum Fact {
    Attempted { told: Told, received: u64, end: End },
    WaitedTooShort,
    Waited,
}

const TOLD: [Told; 5] = [
    Told::Nothing,
    Told::Tag("v"),
    Told::Tag("w"),
    Told::Length,
    Told::Neither,
];
const ENDS: [End; 12] = [
    End::Done,
    End::Short,
    End::Broken,
    End::Cut,
    End::TimedOut(FetchDeadline::Connect),
    End::TimedOut(FetchDeadline::Head),
    End::TimedOut(FetchDeadline::Stall),
    End::TimedOut(FetchDeadline::Whole),
    End::NoRoom,
    End::NoRange,
    End::Changed,
    End::NotFound,
];
const COUNTS: [u64; 3] = [0, 1, LEN];

#[derive(Clone)]
struct Mending {
    transfer: Transfer<Broken>,
    want: Want,
    given: Option<Version>,
    now: Instant,
    /// The tag of what was handed over first.
    tag: Option<Option<&'static str>>,
    /// The last attempt was done, and not short.
    is_whole: bool,
}

fn version(tag: &str) -> Version {
    Version {
        entity_tag: EntityTag::strong(tag).ok(),
        last_modified: None,
        complete_length: Some(LEN),
    }
}

impl Mending {
    fn new(want: Want, given: Option<Version>, policy: RetryPolicy) -> Self {
        let now = at(Duration::from_secs(1)).instant;
        let whole = Some(now + Duration::from_secs(100));
        Self {
            transfer: Transfer::new(want, given, policy, whole, 1, now),
            want,
            given,
            now,
            tag: None,
            is_whole: false,
        }
    }

    fn attempt(&self) -> Option<Attempt> {
        match self.transfer.poll_output() {
            TransferOutput::Attempt(attempt) => Some(attempt),
            _ => None,
        }
    }
}

impl Machine for Mending {
    type Fact = Fact;

    const FACTS: &'static [Fact] = &{
        let mut facts = [Fact::Waited; TOLD.len() * ENDS.len() * COUNTS.len() + 2];
        let mut at = 0;
        while at < TOLD.len() * ENDS.len() * COUNTS.len() {
            facts[at] = Fact::Attempted {
                told: TOLD[at % TOLD.len()],
                end: ENDS[at / TOLD.len() % ENDS.len()],
                received: COUNTS[at / TOLD.len() / ENDS.len()],
            };
            at += 1;
        }
        facts[at] = Fact::WaitedTooShort;
        facts
    };

    const BUGS: &'static [&'static str] = &["no attempt was to be made"];

    fn expected(&self, fact: Fact) -> Expected {
        match fact {
            Fact::Attempted {
                told,
                received,
                end,
            } => {
                let Some(attempt) = self.attempt() else {
                    return Expected::Bug;
                };
                let most = match attempt.want {
                    Want::Content { start, len } => len.unwrap_or(LEN).min(LEN - start.min(LEN)),
                    Want::Length => 0,
                };
                // What a fetch never says.
                let is_answered = told != Told::Nothing;
                let has_answer = received > 0 || matches!(end, End::Done | End::Short);
                let refused = matches!(
                    end,
                    End::NoRoom | End::NoRange | End::Changed | End::NotFound
                );
                let another = attempt.version.is_some_and(|version| {
                    let tag = match told {
                        Told::Tag(tag) => EntityTag::strong(tag).ok(),
                        _ => None,
                    };
                    is_answered && version.entity_tag.is_some() && version.entity_tag != tag
                });
                let possible = received <= most
                    && (is_answered || !has_answer)
                    && !(refused && is_answered)
                    && !another
                    && (end != End::Short || (0 < received && received < most))
                    && (end != End::Done || received == most || told == Told::Neither);
                match possible {
                    true => Expected::Change,
                    false => Expected::Impossible,
                }
            }
            Fact::WaitedTooShort => Expected::Nothing,
            Fact::Waited => match self.transfer.poll_output() {
                TransferOutput::Wait { .. } => Expected::Change,
                _ => Expected::Nothing,
            },
        }
    }

    fn goes_on_without_peer(&self, fact: Fact) -> bool {
        // Whatever attempts bring: there is an end to them.
        !matches!(fact, Fact::WaitedTooShort)
    }

    fn feed(&mut self, fact: Fact) {
        let (told, received, end) = match fact {
            Fact::WaitedTooShort => {
                return self.transfer.handle_waited(at(Duration::ZERO).instant);
            }
            Fact::Waited => {
                if let TransferOutput::Wait { until } = self.transfer.poll_output() {
                    // Policies of this world do not pause, so that time is no part of a state.
                    self.transfer.handle_waited(until.max(self.now));
                }
                return;
            }
            Fact::Attempted {
                told,
                received,
                end,
            } => (told, received, end),
        };
        let answer = Answer {
            status: 206,
            complete_length: (told != Told::Neither).then_some(LEN),
            entity_tag: match told {
                Told::Tag(tag) => EntityTag::strong(tag).ok(),
                _ => None,
            },
            last_modified: None,
            expected: None,
            short: end == End::Short,
            persistent: true,
        };
        let done = FetchDone {
            complete_length: answer.complete_length,
            received,
            short: end == End::Short,
            reusable: true,
        };
        let result = match end {
            End::Done | End::Short => Ok(done),
            End::Broken => Err(Setback::Network(Broken)),
            End::Cut => Err(Setback::Fetch(FetchError::Truncated {
                expected: None,
                received,
            })),
            End::TimedOut(which) => Err(Setback::Fetch(FetchError::TimedOut(which))),
            End::NoRoom => Err(Setback::Fetch(FetchError::Status(503))),
            End::NoRange => Err(Setback::Fetch(FetchError::RangeNotSatisfiable {
                complete_length: None,
            })),
            End::Changed => Err(Setback::Fetch(FetchError::Changed)),
            End::NotFound => Err(Setback::Fetch(FetchError::NotFound)),
        };
        let attempt = self.attempt();
        self.transfer.handle_attempt(
            self.now,
            AttemptEnd {
                answer: (told != Told::Nothing).then_some(answer),
                received,
                progressed: (received > 0).then_some(self.now),
                result,
            },
        );
        if attempt.is_some() {
            self.is_whole = end == End::Done;
            if received > 0 && self.tag.is_none() {
                self.tag = Some(match told {
                    Told::Tag(tag) => Some(tag),
                    _ => None,
                });
            }
        }
    }

    fn key(&self) -> String {
        if self.is_over() {
            // How an end came about no longer matters, only what is told of it.
            let setback = self.transfer.clone().take_setback();
            return format!(
                "{:?} {setback:?} {}",
                self.transfer.poll_output(),
                self.is_whole
            );
        }
        let debug = format!("{:?}", self.transfer);
        // It varies pauses, and there are none.
        let (before, jitter) = debug.split_once("jitter: ").unwrap_or((&debug, ""));
        let after = jitter.trim_start_matches(|c: char| c.is_ascii_digit());
        format!("{before}{after} {:?} {}", self.tag, self.is_whole)
    }

    fn name(&self) -> String {
        let name = match self.transfer.poll_output() {
            TransferOutput::Attempt(attempt) if attempt.without_range => "attempt without range",
            TransferOutput::Attempt(_) if self.transfer.received() > 0 => "attempt to continue",
            TransferOutput::Attempt(_) if self.transfer.retries() > 0 => "attempt again",
            TransferOutput::Attempt(_) => "attempt",
            TransferOutput::Wait { .. } => "wait",
            TransferOutput::Done { .. } => "done",
            TransferOutput::Failed => "failed",
        };
        name.to_owned()
    }

    fn is_over(&self) -> bool {
        matches!(
            self.transfer.poll_output(),
            TransferOutput::Done { .. } | TransferOutput::Failed
        )
    }

    fn check(&self) {
        let output = self.transfer.poll_output();
        assert_eq!(output, self.transfer.poll_output(), "polling is pure");
        let received = self.transfer.received();
        match output {
            TransferOutput::Attempt(attempt) => match (self.want, attempt.want) {
                (
                    Want::Content { start, len },
                    Want::Content {
                        start: from,
                        len: left,
                    },
                ) => {
                    assert_eq!(from, start + received, "a gap, or bytes twice");
                    assert_eq!(left, len.map(|len| len - received));
                    assert_ne!(left, Some(0), "nothing is asked for");
                    if let Some(tag) = self.tag {
                        let tag = tag.and_then(|tag| EntityTag::strong(tag).ok());
                        let asked = attempt.version.and_then(|version| version.entity_tag);
                        assert!(tag.is_some() && asked == tag, "a splice");
                        assert!(!attempt.without_range);
                    } else {
                        assert_eq!(attempt.version, self.given, "bound by what brought nothing");
                    }
                }
                (Want::Length, Want::Length) => {}
                _ => panic!("another thing is asked for"),
            },
            TransferOutput::Wait { until } => assert_eq!(until, self.now, "a pause"),
            TransferOutput::Done { .. } => assert!(self.is_whole, "a part taken for the whole"),
            TransferOutput::Failed => {
                let mut transfer = self.transfer.clone();
                assert!(transfer.take_setback().is_some(), "no reason");
                assert_eq!(transfer.take_setback(), None, "told twice");
                assert_eq!(transfer.poll_output(), TransferOutput::Failed);
            }
        }
    }
}

/// Every end of an attempt in every state of the mending machine: under policies that mend nothing,
/// what has begun, and everything; of a whole, a part, a part of a version, and a length.
///
/// # Panics
/// Where a law does not hold.
#[must_use]
pub fn transfers() -> Walked {
    let content = |start, len| Want::Content { start, len };
    let mut mend = RetryPolicy::MEND;
    (mend.attempts, mend.pause, mend.pause_max) = (2, Duration::ZERO, Duration::ZERO);
    let mut insist = mend;
    insist.from_nothing = true;
    let mut walked = Walked::default();
    for policy in [RetryPolicy::NEVER, mend, insist] {
        for (want, given) in [
            (content(0, None), None),
            (content(0, Some(2)), None),
            (content(1, None), Some(version("v"))),
            (Want::Length, None),
        ] {
            walked.add(walk(&Mending::new(want, given, policy)));
        }
    }
    walked
}
