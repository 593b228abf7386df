//! One transfer, made of as many fetches as it takes: what to ask for next, when, and when to
//! give up.
//!
//! ```text
//!    +--> Attempt --> Done
//!    |      |
//!    |      +-------> Failed
//!    |      v
//!    +--- Wait
//! ```
//!
//! Parts of two versions never meet: what was handed over is continued only with the strong
//! entity-tag of the first answer, and only by an answer that carries it too.

use std::time::{Duration, Instant};

use crate::fetch::{Answer, FetchDeadline, FetchDone, FetchError, Version, Want};

/// When a transfer that met a setback goes on.
///
/// Setbacks are a broken or refused connection, a deadline other than that of the whole, and the
/// statuses 502, 503 and 504. Everything else is final at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RetryPolicy {
    /// Attempts in a row that may bring nothing. Any byte of content starts the count anew.
    pub attempts: u32,
    /// The pause before the first of them; doubled for each further one, and varied by a half so
    /// that many clients do not come back as one.
    pub pause: Duration,
    /// Longest pause.
    pub pause_max: Duration,
    /// Time after the last byte of content, or after the beginning, in which to go on.
    pub patience: Duration,
    /// Whether to go on when nothing has arrived yet. Without it, a peer that cannot be reached
    /// is reported at once.
    pub from_nothing: bool,
}

impl RetryPolicy {
    /// Never goes on after a setback.
    pub const NEVER: Self = Self {
        attempts: 0,
        pause: Duration::ZERO,
        pause_max: Duration::ZERO,
        patience: Duration::ZERO,
        from_nothing: false,
    };

    /// Mends a connection that broke in the content, for at most 5 seconds.
    pub const MEND: Self = Self {
        attempts: 5,
        pause: Duration::from_millis(100),
        pause_max: Duration::from_secs(2),
        patience: Duration::from_secs(5),
        from_nothing: false,
    };
}

impl Default for RetryPolicy {
    /// Mends a connection that broke in the content, for as long as 30 seconds without progress.
    fn default() -> Self {
        Self {
            attempts: 30,
            patience: Duration::from_secs(30),
            ..Self::MEND
        }
    }
}

/// Why an attempt did not go well. `E` is the network's error, as the driver knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Setback<E> {
    /// The answer, or the lack of one.
    Fetch(FetchError),
    /// The network.
    Network(E),
}

/// A fetch to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// What to ask for.
    pub want: Want,
    /// Whether to ask for the whole, although a range would do.
    pub without_range: bool,
    /// The version that the answer has to continue.
    pub version: Option<Version>,
    /// When the head of the answer has to be there; for any attempt but the first.
    pub answer_by: Option<Instant>,
}

/// What the driver has to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferOutput {
    /// Make this fetch, then [`Transfer::handle_attempt`].
    Attempt(Attempt),
    /// Do nothing until then, then [`Transfer::handle_waited`].
    Wait {
        /// When to go on.
        until: Instant,
    },
    /// Over: everything asked for was handed over.
    Done {
        /// Length of the whole representation, if the peer told it.
        complete_length: Option<u64>,
    },
    /// Over: [`Transfer::take_setback`] tells why.
    Failed,
}

/// What came of an attempt.
#[derive(Clone, Debug)]
pub struct AttemptEnd<E> {
    /// What the head of the answer told, if there was one.
    pub answer: Option<Answer>,
    /// Bytes of content handed over.
    pub received: u64,
    /// When the last of them was.
    pub progressed: Option<Instant>,
    /// How it ended.
    pub result: Result<FetchDone, Setback<E>>,
}

#[derive(Clone, Debug)]
enum State<E> {
    Attempt,
    Wait { until: Instant },
    Done,
    Failed(Option<Setback<E>>),
}

/// A transfer. See the [module](self).
#[derive(Clone, Debug)]
pub struct Transfer<E> {
    state: State<E>,
    want: Want,
    policy: RetryPolicy,
    /// When everything has to be over.
    whole: Option<Instant>,
    jitter: u64,
    without_range: bool,
    /// What the caller has to have continued.
    given: Option<Version>,
    /// What has to be continued: given by the caller, or by the answer whose content came first.
    version: Option<Version>,
    complete_length: Option<u64>,
    received: u64,
    /// Attempts in a row that brought nothing.
    in_vain: u32,
    retries: u32,
    progressed: Instant,
    /// The setback behind which there was no progress: what is reported when nothing helps.
    cause: Option<Setback<E>>,
}

impl<E> Transfer<E> {
    /// A transfer of `want`, of `version` if that is known from before, that is given up at
    /// `whole`. `seed` varies the pauses.
    #[must_use]
    pub fn new(
        want: Want,
        version: Option<Version>,
        policy: RetryPolicy,
        whole: Option<Instant>,
        seed: u64,
        now: Instant,
    ) -> Self {
        Self {
            state: State::Attempt,
            want,
            policy,
            whole,
            jitter: seed,
            without_range: false,
            given: version,
            version,
            complete_length: version.and_then(|version| version.complete_length),
            received: 0,
            in_vain: 0,
            retries: 0,
            progressed: now,
            cause: None,
        }
    }

    /// What to do next. Changes only through the `handle_*` methods.
    #[must_use]
    pub fn poll_output(&self) -> TransferOutput {
        match self.state {
            State::Attempt => TransferOutput::Attempt(Attempt {
                want: self.rest(),
                without_range: self.without_range && self.received == 0,
                version: if self.received == 0 {
                    self.given
                } else {
                    self.version
                },
                answer_by: self.cause.as_ref().and_then(|_| self.give_up_at()),
            }),
            State::Wait { until } => TransferOutput::Wait { until },
            State::Done => TransferOutput::Done {
                complete_length: self.complete_length,
            },
            State::Failed(_) => TransferOutput::Failed,
        }
    }

    /// Bytes handed over by all attempts.
    #[must_use]
    pub const fn received(&self) -> u64 {
        self.received
    }

    /// Attempts made after the first.
    #[must_use]
    pub const fn retries(&self) -> u32 {
        self.retries
    }

    /// The version of what was handed over, once an answer told.
    #[must_use]
    pub const fn version(&self) -> Option<Version> {
        self.version
    }

    /// Holds every further answer to `version`, although nothing of it was handed over yet: the
    /// caller has acted on what the head told.
    pub fn bind(&mut self, version: Version) {
        self.given = Some(version);
    }

    /// Why the transfer failed; `None` if it did not, or if it was told before.
    pub fn take_setback(&mut self) -> Option<Setback<E>> {
        match &mut self.state {
            State::Failed(setback) => setback.take(),
            State::Attempt | State::Wait { .. } | State::Done => None,
        }
    }

    /// States how an attempt ended.
    pub fn handle_attempt(&mut self, now: Instant, end: AttemptEnd<E>) {
        assert!(
            matches!(self.state, State::Attempt),
            "no attempt was to be made"
        );
        if let Some(answer) = end.answer {
            self.learn(&answer);
        }
        if end.received > 0 {
            self.received = self.received.saturating_add(end.received);
            self.progressed = end.progressed.unwrap_or(now);
            self.in_vain = 0;
            self.cause = None;
        }
        match end.result {
            Ok(done) if !done.short => self.state = State::Done,
            Ok(_) if self.can_continue() => {
                // The peer gave less than it was asked for, and there is more.
                self.retries = self.retries.saturating_add(1);
            }
            Ok(_) => {
                let setback = Setback::Fetch(self.truncated());
                self.state = State::Failed(Some(setback));
            }
            Err(Setback::Fetch(FetchError::RangeNotSatisfiable { .. }))
                if self.may_ask_for_the_whole() =>
            {
                self.without_range = true;
            }
            Err(setback) => self.set_back(now, setback),
        }
    }

    /// States that time has passed. Does nothing before the time to wait for.
    pub fn handle_waited(&mut self, now: Instant) {
        if matches!(self.state, State::Wait { until } if now >= until) {
            self.state = State::Attempt;
        }
    }

    /// What is still to be asked for.
    fn rest(&self) -> Want {
        match self.want {
            Want::Content { start, len } => Want::Content {
                start: start.saturating_add(self.received),
                len: len.map(|len| len - self.received),
            },
            Want::Length => Want::Length,
        }
    }

    fn learn(&mut self, answer: &Answer) {
        if self.received == 0 {
            // Of an earlier answer nothing was handed over: it binds nobody.
            self.version = self.given;
            self.complete_length = self.given.and_then(|version| version.complete_length);
        }
        let told = answer.version();
        self.complete_length = told.complete_length.or(self.complete_length);
        let version = self.version.get_or_insert(told);
        version.complete_length = self.complete_length;
    }

    /// Whether what was handed over, if anything, can be continued without a splice.
    fn can_continue(&self) -> bool {
        let has_tag = self
            .version
            .is_some_and(|version| version.entity_tag.is_some());
        let is_left = !matches!(self.rest(), Want::Content { len: Some(0), .. });
        (self.received == 0 || has_tag) && is_left
    }

    /// Published peers refuse every range of a source that is empty or of unknown length.
    fn may_ask_for_the_whole(&self) -> bool {
        let at_start = matches!(
            self.rest(),
            Want::Content {
                start: 0,
                len: Some(_)
            } | Want::Length
        );
        at_start && !self.without_range
    }

    fn set_back(&mut self, now: Instant, setback: Setback<E>) {
        let setback = match setback {
            Setback::Fetch(FetchError::Truncated { .. }) => Setback::Fetch(self.truncated()),
            other => other,
        };
        let passing = match &setback {
            Setback::Network(_) => true,
            Setback::Fetch(error) => is_passing(error),
        };
        let may_try = (self.received > 0 || self.policy.from_nothing) && self.can_continue();
        if !passing || !may_try {
            self.state = State::Failed(Some(setback));
            return;
        }
        let pause = self.pause();
        self.in_vain = self.in_vain.saturating_add(1);
        let cause = self.cause.take().unwrap_or(setback);
        let until = now.checked_add(pause);
        let in_time = until.filter(|until| self.give_up_at().is_none_or(|end| *until < end));
        match in_time {
            Some(until) if self.in_vain <= self.policy.attempts => {
                self.cause = Some(cause);
                self.retries = self.retries.saturating_add(1);
                self.state = State::Wait { until };
            }
            _ => self.state = State::Failed(Some(cause)),
        }
    }

    fn give_up_at(&self) -> Option<Instant> {
        let patient = self.progressed.checked_add(self.policy.patience);
        match (patient, self.whole) {
            (Some(patient), Some(whole)) => Some(patient.min(whole)),
            (patient, whole) => patient.or(whole),
        }
    }

    /// From half of the pause that is due to one and a half of it.
    fn pause(&mut self) -> Duration {
        let doubled = self
            .policy
            .pause
            .saturating_mul(1 << self.in_vain.min(16))
            .min(self.policy.pause_max);
        // The generator of SplitMix64: every seed will do, zero too.
        self.jitter = self.jitter.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.jitter;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        let percent = 50 + (mixed % 101) as u32;
        doubled.saturating_mul(percent) / 100
    }

    fn truncated(&self) -> FetchError {
        let expected = match (self.want, self.complete_length) {
            (Want::Length, _) => Some(0),
            (Want::Content { start, len }, Some(complete_length)) => {
                let to_end = complete_length.saturating_sub(start);
                Some(len.map_or(to_end, |len| len.min(to_end)))
            }
            (Want::Content { .. }, None) => None,
        };
        FetchError::Truncated {
            expected,
            received: self.received,
        }
    }
}

/// Whether the same request may have more luck: the connection failed, or the peer has no room, or
/// what stands between cannot reach it (RFC 9110 §15.6.3 to §15.6.5).
const fn is_passing(error: &FetchError) -> bool {
    matches!(
        error,
        FetchError::Truncated { .. }
            | FetchError::NoAnswer
            | FetchError::HeadCut
            | FetchError::Status(502..=504)
            | FetchError::TimedOut(
                FetchDeadline::Connect | FetchDeadline::Head | FetchDeadline::Stall
            )
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use peer_proto::EntityTag;

    const CUT: FetchError = FetchError::Truncated {
        expected: None,
        received: 0,
    };

    /// A transfer with its own clock.
    struct Scene {
        transfer: Transfer<&'static str>,
        now: Instant,
    }

    fn policy() -> RetryPolicy {
        RetryPolicy {
            attempts: 3,
            pause: Duration::from_secs(1),
            pause_max: Duration::from_secs(4),
            patience: Duration::from_secs(60),
            from_nothing: true,
        }
    }

    fn bytes(start: u64, len: Option<u64>) -> Want {
        Want::Content { start, len }
    }

    fn answer(tag: Option<&str>, complete_length: Option<u64>) -> Answer {
        Answer {
            status: 206,
            complete_length,
            entity_tag: tag.map(|tag| EntityTag::strong(tag).unwrap()),
            last_modified: None,
            expected: None,
            short: false,
            persistent: true,
        }
    }

    fn done(short: bool) -> Result<FetchDone, Setback<&'static str>> {
        Ok(FetchDone {
            complete_length: None,
            received: 0,
            short,
            reusable: false,
        })
    }

    impl Scene {
        fn new(want: Want, policy: RetryPolicy) -> Self {
            let now = Instant::now();
            Self {
                transfer: Transfer::new(want, None, policy, None, 7, now),
                now,
            }
        }

        #[track_caller]
        fn attempt(&self) -> Attempt {
            match self.transfer.poll_output() {
                TransferOutput::Attempt(attempt) => attempt,
                other => panic!("{other:?}"),
            }
        }

        fn end(
            &mut self,
            answer: Option<Answer>,
            received: u64,
            result: Result<FetchDone, Setback<&'static str>>,
        ) {
            let end = AttemptEnd {
                answer,
                received,
                progressed: (received > 0).then_some(self.now),
                result,
            };
            self.transfer.handle_attempt(self.now, end);
        }

        /// Waits as asked to; returns how long.
        #[track_caller]
        fn wait(&mut self) -> Duration {
            let TransferOutput::Wait { until } = self.transfer.poll_output() else {
                panic!("{:?}", self.transfer.poll_output());
            };
            let pause = until - self.now;
            if !pause.is_zero() {
                self.transfer.handle_waited(self.now);
                assert_eq!(self.transfer.poll_output(), TransferOutput::Wait { until });
            }
            self.now = until;
            self.transfer.handle_waited(self.now);
            pause
        }

        #[track_caller]
        fn failed(mut self) -> Setback<&'static str> {
            self.transfer.take_setback().expect("should have failed")
        }
    }

    #[test]
    fn one_attempt_that_goes_well() {
        let mut scene = Scene::new(bytes(3, Some(4)), policy());
        assert_eq!(
            scene.attempt(),
            Attempt {
                want: bytes(3, Some(4)),
                without_range: false,
                version: None,
                answer_by: None
            }
        );
        scene.end(Some(answer(None, Some(10))), 4, done(false));
        assert_eq!(
            scene.transfer.poll_output(),
            TransferOutput::Done {
                complete_length: Some(10)
            }
        );
        assert_eq!(scene.transfer.retries(), 0);
    }

    #[test]
    fn a_break_is_mended_with_the_tag() {
        let mut scene = Scene::new(bytes(3, None), policy());
        scene.end(
            Some(answer(Some("v"), Some(10))),
            2,
            Err(Setback::Network("reset")),
        );
        let pause = scene.wait();
        assert!(pause >= Duration::from_millis(500) && pause <= Duration::from_millis(1500));
        let attempt = scene.attempt();
        assert_eq!(attempt.want, bytes(5, None));
        let version = attempt.version.unwrap();
        assert_eq!(version, answer(Some("v"), Some(10)).version());
        assert_eq!(scene.transfer.version(), Some(version));
        assert!(attempt.answer_by.is_some());
        scene.end(Some(answer(Some("v"), None)), 5, done(false));
        assert_eq!(
            scene.transfer.poll_output(),
            TransferOutput::Done {
                complete_length: Some(10)
            }
        );
        assert_eq!(
            (scene.transfer.retries(), scene.transfer.received()),
            (1, 7)
        );
    }

    #[test]
    fn without_a_tag_there_is_no_way_on() {
        let mut scene = Scene::new(bytes(3, None), policy());
        scene.end(Some(answer(None, Some(10))), 2, Err(Setback::Fetch(CUT)));
        assert_eq!(
            scene.failed(),
            Setback::Fetch(FetchError::Truncated {
                expected: Some(7),
                received: 2
            })
        );
        let mut scene = Scene::new(bytes(3, None), policy());
        scene.end(
            Some(answer(None, Some(10))),
            2,
            Err(Setback::Network("reset")),
        );
        assert_eq!(scene.failed(), Setback::Network("reset"));
    }

    #[test]
    fn from_nothing_there_is_nothing_to_splice() {
        let mut scene = Scene::new(bytes(0, None), policy());
        scene.end(None, 0, Err(Setback::Network("refused")));
        scene.wait();
        assert_eq!(scene.attempt().want, bytes(0, None));
        scene.end(None, 0, Err(Setback::Fetch(FetchError::NoAnswer)));
        scene.wait();
        scene.end(Some(answer(None, Some(10))), 10, done(false));
        assert_eq!(scene.transfer.retries(), 2);
        let mut scene = Scene::new(bytes(0, None), RetryPolicy::MEND);
        scene.end(None, 0, Err(Setback::Network("refused")));
        assert_eq!(scene.failed(), Setback::Network("refused"));
        // What has begun is mended all the same.
        let mut scene = Scene::new(bytes(0, None), RetryPolicy::MEND);
        let told = Some(answer(Some("v"), Some(10)));
        scene.end(told, 2, Err(Setback::Network("reset")));
        scene.wait();
        assert_eq!(scene.attempt().want, bytes(2, None));
    }

    #[test]
    fn an_answer_without_content_binds_nobody() {
        let mut scene = Scene::new(bytes(5, None), policy());
        let cut = || Err(Setback::Fetch(CUT));
        scene.end(Some(answer(Some("v"), Some(10))), 0, cut());
        scene.wait();
        assert_eq!(scene.attempt().version, None);
        scene.end(Some(answer(Some("w"), Some(20))), 3, cut());
        scene.wait();
        let version = scene.attempt().version.unwrap();
        assert_eq!(version, answer(Some("w"), Some(20)).version());
        // What the caller continues binds from the start.
        let given = Some(answer(Some("v"), None).version());
        let now = Instant::now();
        let mut scene = Scene {
            transfer: Transfer::new(bytes(5, None), given, policy(), None, 7, now),
            now,
        };
        scene.end(None, 0, Err(Setback::Network("refused")));
        scene.wait();
        assert_eq!(scene.attempt().version, given);
        // And so does what the caller has noted.
        let mut scene = Scene::new(bytes(0, None), policy());
        let told = answer(Some("v"), Some(10));
        scene.transfer.bind(told.version());
        scene.end(Some(told), 0, cut());
        scene.wait();
        assert_eq!(scene.attempt().version, Some(told.version()));
    }

    #[test]
    fn attempts_in_vain_are_counted_and_progress_starts_anew() {
        let mut scene = Scene::new(bytes(0, None), policy());
        for round in 0..5 {
            scene.end(
                Some(answer(Some("v"), Some(100))),
                1,
                Err(Setback::Fetch(CUT)),
            );
            let mut last = scene.wait();
            for _ in 0..2 {
                scene.end(None, 0, Err(Setback::Network("refused")));
                let pause = scene.wait();
                assert!(
                    pause * 3 > last,
                    "{round}: pauses grow, but for their jitter"
                );
                assert!(pause <= Duration::from_secs(6));
                last = pause;
            }
        }
        scene.end(None, 0, Err(Setback::Network("refused")));
        // What is reported is the break, not that nobody was there to mend it.
        assert_eq!(
            scene.failed(),
            Setback::Fetch(FetchError::Truncated {
                expected: Some(100),
                received: 5
            })
        );
    }

    #[test]
    fn patience_ends() {
        let patient = RetryPolicy {
            attempts: u32::MAX,
            ..policy()
        };
        let mut scene = Scene::new(bytes(0, None), patient);
        let start = scene.now;
        let mut attempts = 0;
        while !matches!(scene.transfer.poll_output(), TransferOutput::Failed) {
            let end = start + patient.patience;
            assert!(scene.now < end);
            if attempts > 0 {
                assert_eq!(scene.attempt().answer_by, Some(end));
            }
            attempts += 1;
            scene.end(None, 0, Err(Setback::Network("refused")));
            if let TransferOutput::Wait { .. } = scene.transfer.poll_output() {
                scene.wait();
            }
        }
        assert!((10..60).contains(&attempts), "{attempts}");
    }

    #[test]
    fn the_whole_ends_it_too() {
        let now = Instant::now();
        let whole = now + Duration::from_secs(2);
        let transfer = Transfer::new(bytes(0, None), None, policy(), Some(whole), 7, now);
        let mut scene = Scene { transfer, now };
        scene.end(None, 0, Err(Setback::Network("refused")));
        scene.wait();
        assert_eq!(scene.attempt().answer_by, Some(whole));
        scene.now = whole;
        scene.end(None, 0, Err(Setback::Network("refused again")));
        assert_eq!(scene.failed(), Setback::Network("refused"));
    }

    #[test]
    fn a_whole_in_place_of_a_refused_range_is_mended_by_ranges() {
        let mut scene = Scene::new(bytes(0, Some(5)), policy());
        let refused = FetchError::RangeNotSatisfiable {
            complete_length: None,
        };
        scene.end(None, 0, Err(Setback::Fetch(refused)));
        scene.end(Some(answer(Some("v"), None)), 2, Err(Setback::Fetch(CUT)));
        scene.wait();
        assert_eq!(scene.attempt().want, bytes(2, Some(3)));
        assert!(!scene.attempt().without_range);
    }

    #[test]
    fn what_cannot_pass_is_final() {
        for error in [
            FetchError::Unauthorized,
            FetchError::NotFound,
            FetchError::Status(500),
            FetchError::Changed,
            FetchError::ContentRange,
            FetchError::TimedOut(FetchDeadline::Whole),
        ] {
            let mut scene = Scene::new(bytes(0, None), policy());
            scene.end(
                Some(answer(Some("v"), Some(10))),
                2,
                Err(Setback::Fetch(error)),
            );
            assert_eq!(scene.failed(), Setback::Fetch(error));
        }
    }

    #[test]
    fn a_shorter_answer_is_continued_at_once() {
        let mut scene = Scene::new(bytes(2, Some(6)), RetryPolicy::NEVER);
        for at in 0..5 {
            assert_eq!(scene.attempt().want, bytes(2 + at, Some(6 - at)));
            scene.end(Some(answer(Some("v"), Some(10))), 1, done(true));
        }
        scene.end(Some(answer(Some("v"), Some(10))), 1, done(false));
        assert!(matches!(
            scene.transfer.poll_output(),
            TransferOutput::Done { .. }
        ));
        let mut scene = Scene::new(bytes(2, Some(6)), policy());
        scene.end(Some(answer(None, Some(10))), 1, done(true));
        assert_eq!(
            scene.failed(),
            Setback::Fetch(FetchError::Truncated {
                expected: Some(6),
                received: 1
            })
        );
    }

    #[test]
    fn a_refused_range_at_the_start_is_asked_for_as_the_whole_once() {
        let refused = || {
            Err(Setback::Fetch(FetchError::RangeNotSatisfiable {
                complete_length: None,
            }))
        };
        for want in [bytes(0, Some(5)), Want::Length] {
            let mut scene = Scene::new(want, RetryPolicy::NEVER);
            scene.end(None, 0, refused());
            assert!(scene.attempt().without_range);
            assert_eq!(scene.attempt().want, want);
            scene.end(None, 0, refused());
            assert!(matches!(scene.failed(), Setback::Fetch(_)));
        }
        for want in [bytes(0, None), bytes(1, None)] {
            let mut scene = Scene::new(want, policy());
            scene.end(None, 0, refused());
            assert!(matches!(scene.failed(), Setback::Fetch(_)));
        }
    }

    #[test]
    fn all_bytes_without_a_proper_end_are_not_asked_for_again() {
        let mut scene = Scene::new(bytes(2, Some(3)), policy());
        scene.end(
            Some(answer(Some("v"), Some(10))),
            3,
            Err(Setback::Fetch(CUT)),
        );
        assert_eq!(
            scene.failed(),
            Setback::Fetch(FetchError::Truncated {
                expected: Some(3),
                received: 3
            })
        );
    }

    #[test]
    fn what_can_pass_is_tried_again() {
        let passing = [
            CUT,
            FetchError::NoAnswer,
            FetchError::HeadCut,
            FetchError::Status(502),
            FetchError::Status(503),
            FetchError::Status(504),
            FetchError::TimedOut(FetchDeadline::Connect),
            FetchError::TimedOut(FetchDeadline::Head),
            FetchError::TimedOut(FetchDeadline::Stall),
        ];
        for error in passing {
            let mut scene = Scene::new(bytes(0, None), policy());
            scene.end(None, 0, Err(Setback::Fetch(error)));
            scene.wait();
            // Nothing at all is tried again by whoever wants none of it.
            let mut scene = Scene::new(bytes(0, None), RetryPolicy::NEVER);
            let told = Some(answer(Some("v"), Some(10)));
            scene.end(told, 2, Err(Setback::Fetch(error)));
            scene.failed();
        }
    }

    /// A transfer whose pauses in milliseconds are [`PERCENT`] while they do not grow.
    fn paced(policy: RetryPolicy) -> Transfer<()> {
        let policy = RetryPolicy {
            pause: Duration::from_millis(100),
            ..policy
        };
        Transfer::new(Want::Length, None, policy, None, 1_234_567, Instant::now())
    }

    /// 50 and the remainder by 101 of what SplitMix64 is known to give from 1234567:
    /// 6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431,
    /// 16408922859458223821.
    const PERCENT: [u32; 5] = [129, 70, 126, 70, 64];

    #[test]
    fn pauses_grow_by_powers_of_two_from_a_half_to_one_and_a_half_of_them() {
        for (in_vain, pause_max, factor) in [
            (0, 3600, 1),
            (1, 3600, 2),
            (5, 3600, 32),
            (16, 36_000, 65_536),
            (17, 36_000, 65_536),
            (u32::MAX, 36_000, 65_536),
            (5, 2, 20),
        ] {
            let mut transfer = paced(RetryPolicy {
                pause_max: Duration::from_secs(pause_max),
                ..policy()
            });
            transfer.in_vain = in_vain;
            for percent in PERCENT {
                let expected = Duration::from_millis(1) * factor * percent;
                assert_eq!(transfer.pause(), expected, "{in_vain} in vain");
            }
        }
    }

    #[test]
    fn a_pause_that_would_end_with_the_patience_is_not_waited_for() {
        for (patience, waits) in [(129, false), (130, true)] {
            let mut transfer = paced(RetryPolicy {
                patience: Duration::from_millis(patience),
                ..policy()
            });
            let end = AttemptEnd {
                answer: None,
                received: 0,
                progressed: None,
                result: Err(Setback::Network(())),
            };
            transfer.handle_attempt(transfer.progressed, end);
            let is_waiting = matches!(transfer.poll_output(), TransferOutput::Wait { .. });
            assert_eq!(is_waiting, waits, "{patience} ms");
        }
    }

    #[test]
    fn pauses_differ_by_seed_alone() {
        let pauses = |seed| {
            let mut transfer: Transfer<()> =
                Transfer::new(Want::Length, None, policy(), None, seed, Instant::now());
            [(); 4].map(|()| transfer.pause())
        };
        assert_eq!(pauses(1), pauses(1));
        assert_ne!(pauses(1), pauses(2));
    }

    #[test]
    fn a_length_that_breaks_off_lacks_nothing() {
        let mut transfer = Transfer::new(
            Want::Length,
            None,
            RetryPolicy::NEVER,
            None,
            1,
            Instant::now(),
        );
        assert_eq!(transfer.version(), None);
        assert_eq!(transfer.take_setback(), None::<Setback<()>>, "not over yet");
        let end = AttemptEnd {
            answer: None,
            received: 0,
            progressed: None,
            result: Err(Setback::Fetch(CUT)),
        };
        transfer.handle_attempt(Instant::now(), end);
        let lacks = FetchError::Truncated {
            expected: Some(0),
            received: 0,
        };
        assert_eq!(transfer.take_setback(), Some(Setback::Fetch(lacks)));
    }

    #[test]
    #[should_panic(expected = "no attempt was to be made")]
    fn an_attempt_that_was_not_to_be_made_is_a_bug() {
        let mut transfer = Transfer::new(
            Want::Length,
            None,
            RetryPolicy::NEVER,
            None,
            1,
            Instant::now(),
        );
        for _ in 0..2 {
            let end = AttemptEnd {
                answer: None,
                received: 0,
                progressed: None,
                result: Err(Setback::Network(())),
            };
            transfer.handle_attempt(Instant::now(), end);
        }
    }
}
