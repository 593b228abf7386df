//! A download to a file that goes on where it was interrupted: what is done with its files, and in
//! which order.
//!
//! Beside the target lie a *part*, with the content so far, and a *state*, which says how many of the
//! part's bytes are held, and of which version. Whatever happens at whatever moment, to the process or
//! to the machine, the target is what it was before or the finished file:
//!
//! - The state is replaced as a whole, and only after the bytes that it tells of are on the disk. What
//!   the part has beyond them is dropped.
//! - A state that holds nothing is there before the part is; a part without a state is nobody's.
//! - The part becomes the target by being renamed, once all of it is on the disk.
//!
//! ```text
//!    +----------> Fetch --> StoreState --> OpenPart --> Receive --> SyncPart --> Finish --> Done
//!    |                                                   ^   |
//!    |  the source changed                               |   +-----> SyncPart --> StoreState
//!    |                                                   |                            |
//!    |                                                   +----------------------------+
//!    +------ SyncPart --> StoreState --> Failed     (whatever failed: what came is kept)
//! ```

use std::time::{Duration, Instant};

use peer_proto::{EntityTag, HttpDate, target};

use crate::fetch::{Version, Want};

/// After so many bytes, what was received is made safe against a crash.
pub const CHECKPOINT_BYTES: u64 = 64 * 1024 * 1024;

/// After so much time, what was received is made safe against a crash.
pub const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(1);

/// Times a download begins anew because the source changed, before that is an error.
const CHANGES_MAX: u32 = 3;

/// Bytes of the part that are given up where the state finds no room beside it. More than any
/// state, and than what a file system makes of one.
const STATE_ROOM_BYTES: u64 = 256 * 1024;

/// What to do when the source is not the one that a part was downloaded of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnChange {
    /// Drop the part and download the new version.
    #[default]
    StartAnew,
    /// Fail with `PeerError::Changed` and keep the part.
    Fail,
}

/// What is held of the part, and of which version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartState {
    /// The version that the part is of.
    pub version: Version,
    /// Bytes of the part that are on the disk.
    pub held: u64,
}

/// There is a part, and no state: it is not a download's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotOurs;

/// First line of a state, and its last: what lies between is whole.
const STATE_BEGIN: &[u8] = b"peer download 1";
const STATE_END: &[u8] = b"end";

impl PartState {
    /// Appends the text of the state of a download of `handle`.
    pub fn write(&self, out: &mut Vec<u8>, handle: &str) {
        out.extend_from_slice(STATE_BEGIN);
        out.extend_from_slice(b"\n");
        target::write_target(out, handle);
        out.extend_from_slice(b"\n");
        if let Some(tag) = self.version.entity_tag {
            tag.write(out);
        }
        out.extend_from_slice(b"\n");
        if let Some(date) = self.version.last_modified {
            date.write(out);
        }
        out.extend_from_slice(b"\n");
        if let Some(length) = self.version.complete_length {
            out.extend_from_slice(length.to_string().as_bytes());
        }
        out.extend_from_slice(b"\n");
        out.extend_from_slice(self.held.to_string().as_bytes());
        out.extend_from_slice(b"\n");
        out.extend_from_slice(STATE_END);
        out.extend_from_slice(b"\n");
    }

    /// `None` for what is no state, or one of another handle.
    #[must_use]
    pub fn parse(text: &[u8], handle: &str) -> Option<Self> {
        let lines: Vec<&[u8]> = text.split(|&byte| byte == b'\n').collect();
        let [begin, encoded, tag, date, length, held, end, ..] = lines[..] else {
            return None;
        };
        let mut expected = Vec::new();
        target::write_target(&mut expected, handle);
        let is_state = begin == STATE_BEGIN && end == STATE_END && encoded == expected;
        let version = Version {
            entity_tag: EntityTag::parse_strong(tag),
            last_modified: HttpDate::parse(date),
            complete_length: number(length),
        };
        let held = number(held)?;
        is_state.then_some(Self { version, held })
    }

    /// What an earlier download of `handle` left to go on with: the text of its state, and the length
    /// of its part, where they are there.
    ///
    /// # Errors
    /// [`NotOurs`].
    pub fn found(handle: &str, state: Option<&[u8]>, part: Option<u64>) -> Result<Self, NotOurs> {
        let Some(text) = state else {
            return match part {
                Some(_) => Err(NotOurs),
                None => Ok(Self::default()),
            };
        };
        let state = Self::parse(text, handle).unwrap_or_default();
        // Without a tag nobody can tell whether the rest would be of the same version.
        let goes_on = state.held <= part.unwrap_or(0) && state.version.entity_tag.is_some();
        Ok(if goes_on { state } else { Self::default() })
    }
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// What the driver does next. Whatever it is, when it cannot be done,
/// [`Download::handle_failed`] says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DownloadOutput {
    /// Begin a transfer, up to the head of its answer, then [`Download::handle_answered`].
    Fetch {
        /// What the part lacks.
        want: Want,
        /// The version that the part is of.
        version: Option<Version>,
    },
    /// Do this with the files, then [`Download::handle_done`].
    Files(FileStep),
    /// Receive content, and append it to the part: [`Download::handle_written`], until
    /// [`Download::handle_ended`].
    Receive,
    /// Over: the target is whole.
    Done {
        /// Its length.
        len: u64,
        /// Bytes of it that an earlier download had brought.
        resumed_from: u64,
    },
    /// Over: by what failed first.
    Failed,
}

/// What is done with the files of a download.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileStep {
    /// Replace the state as a whole, and return when it is on the disk.
    StoreState(PartState),
    /// Open the part, or make one, and cut it to this length.
    OpenPart {
        /// Bytes that are held.
        len: u64,
    },
    /// Return when the content of the part is on the disk.
    SyncPart,
    /// Cut the open part to this length.
    CutPart {
        /// Bytes that stay.
        len: u64,
    },
    /// Return when all of the part is on the disk, has become the target by being renamed, and that is
    /// on the disk, too; then remove the state.
    Finish,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Fetch,
    Begin,
    Open,
    Receive,
    /// The part first, then the state that tells of it.
    Sync(Purpose),
    Store(Purpose),
    Cut,
    Finish,
    Done,
    Failed,
}

/// Why what came is made safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// It is time to.
    GoOn,
    /// All of it is here.
    End,
    /// Something failed, and even so it is worth keeping.
    Keep,
    /// The same, of a part that was cut to make room.
    KeepLess,
}

/// A download. See the [module](self).
#[derive(Clone, Debug)]
pub struct Download {
    state: State,
    on_change: OnChange,
    changes: u32,
    part: PartState,
    resumed_from: u64,
    /// Bytes of the part, on the disk or not.
    written: u64,
    /// When all of them were.
    checked: Instant,
}

impl Download {
    /// A download that goes on with what was [found](PartState::found).
    #[must_use]
    pub const fn new(found: PartState, on_change: OnChange, now: Instant) -> Self {
        Self {
            state: State::Fetch,
            on_change,
            changes: 0,
            part: found,
            resumed_from: found.held,
            written: found.held,
            checked: now,
        }
    }

    /// What to do next. Changes only through the `handle_*` methods.
    #[must_use]
    pub fn poll_output(&self) -> DownloadOutput {
        let held = self.part.held;
        let step = match self.state {
            State::Fetch => {
                return DownloadOutput::Fetch {
                    want: Want::Content {
                        start: held,
                        len: None,
                    },
                    version: (held > 0).then_some(self.part.version),
                };
            }
            State::Receive => return DownloadOutput::Receive,
            State::Done => {
                return DownloadOutput::Done {
                    len: self.written,
                    resumed_from: self.resumed_from,
                };
            }
            State::Failed => return DownloadOutput::Failed,
            State::Begin => FileStep::StoreState(self.part),
            State::Open => FileStep::OpenPart { len: held },
            State::Sync(_) => FileStep::SyncPart,
            State::Store(_) => FileStep::StoreState(PartState {
                held: self.written,
                ..self.part
            }),
            State::Cut => FileStep::CutPart { len: self.written },
            State::Finish => FileStep::Finish,
        };
        DownloadOutput::Files(step)
    }

    /// Bytes that are held on the disk.
    #[must_use]
    pub const fn held(&self) -> u64 {
        self.part.held
    }

    /// States that the head of the answer is there, or all of it, and the version it told. Returns the
    /// version that every further answer has to be bound to, where it is not that of the part: a
    /// connection that breaks before any content could lead to another one.
    pub fn handle_answered(&mut self, told: Option<Version>) -> Option<Version> {
        assert_eq!(self.state, State::Fetch, "nothing was to be fetched");
        if self.part.held > 0 {
            self.state = State::Open;
            return None;
        }
        self.part.version = told.unwrap_or_default();
        self.state = State::Begin;
        Some(self.part.version)
    }

    /// States that `n` bytes were appended to the part.
    pub fn handle_written(&mut self, now: Instant, n: u64) {
        assert_eq!(self.state, State::Receive, "nothing was to be received");
        self.written = self.written.saturating_add(n);
        let is_much = self.written - self.part.held >= CHECKPOINT_BYTES;
        if is_much || now.saturating_duration_since(self.checked) >= CHECKPOINT_INTERVAL {
            self.make_safe(now, Purpose::GoOn);
        }
    }

    /// States that no more content comes: all of it is there.
    pub fn handle_ended(&mut self, now: Instant) {
        assert_eq!(self.state, State::Receive, "nothing was to be received");
        self.make_safe(now, Purpose::End);
    }

    /// States that what was to be done with the files is done.
    pub fn handle_done(&mut self, now: Instant) {
        self.state = match self.state {
            State::Begin => State::Open,
            State::Open => {
                self.written = self.part.held;
                self.checked = now;
                State::Receive
            }
            State::Sync(purpose) => State::Store(purpose),
            State::Store(purpose) => {
                self.part.held = self.written;
                self.after_sync(now, purpose)
            }
            State::Cut => State::Sync(Purpose::KeepLess),
            State::Finish => State::Done,
            State::Fetch | State::Receive | State::Done | State::Failed => {
                panic!("nothing was to be done with the files")
            }
        };
    }

    /// States that what was to be done failed. `changed`: because the source is of another version.
    pub fn handle_failed(&mut self, now: Instant, changed: bool) {
        match self.state {
            State::Fetch | State::Receive
                if changed
                    && self.on_change == OnChange::StartAnew
                    && self.changes < CHANGES_MAX =>
            {
                self.changes += 1;
                (self.part, self.resumed_from, self.written) = (PartState::default(), 0, 0);
                self.state = State::Fetch;
            }
            State::Receive | State::Sync(Purpose::GoOn) | State::Store(Purpose::GoOn) => {
                self.make_safe(now, Purpose::Keep);
            }
            // A part that has filled the disk makes room for its state.
            State::Sync(Purpose::End | Purpose::Keep)
            | State::Store(Purpose::End | Purpose::Keep) => {
                let shorter = self.written.saturating_sub(STATE_ROOM_BYTES);
                self.written = shorter.max(self.part.held);
                self.state = State::Cut;
            }
            State::Fetch
            | State::Begin
            | State::Open
            | State::Sync(Purpose::KeepLess)
            | State::Store(Purpose::KeepLess)
            | State::Cut
            | State::Finish => self.state = State::Failed,
            State::Done | State::Failed => {}
        }
    }

    /// Has what came put on the disk, if there is any that is not.
    fn make_safe(&mut self, now: Instant, purpose: Purpose) {
        self.state = if self.written > self.part.held {
            State::Sync(purpose)
        } else {
            self.after_sync(now, purpose)
        };
    }

    const fn after_sync(&mut self, now: Instant, purpose: Purpose) -> State {
        self.checked = now;
        match purpose {
            Purpose::GoOn => State::Receive,
            Purpose::End => State::Finish,
            Purpose::Keep | Purpose::KeepLess => State::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A download that follows a script: each row is what it asks for, and what then happens.
    #[derive(Clone, Copy, Debug)]
    enum Fact {
        Answered,
        Done,
        Written(u64),
        Ended,
        Failed,
        Changed,
    }
    use DownloadOutput as O;
    use Fact::*;

    fn version(tag: &str) -> Version {
        Version {
            entity_tag: EntityTag::strong(tag).ok(),
            last_modified: HttpDate::parse(b"Sun, 06 Nov 1994 08:49:37 GMT"),
            complete_length: Some(u64::MAX),
        }
    }

    fn held(held: u64) -> PartState {
        PartState {
            version: version("a"),
            held,
        }
    }

    fn fetch(start: u64) -> DownloadOutput {
        O::Fetch {
            want: Want::Content { start, len: None },
            version: (start > 0).then(|| version("a")),
        }
    }

    const SYNC: DownloadOutput = O::Files(FileStep::SyncPart);
    const FINISH: DownloadOutput = O::Files(FileStep::Finish);

    const fn store(state: PartState) -> DownloadOutput {
        O::Files(FileStep::StoreState(state))
    }

    const fn open(len: u64) -> DownloadOutput {
        O::Files(FileStep::OpenPart { len })
    }

    const fn cut(len: u64) -> DownloadOutput {
        O::Files(FileStep::CutPart { len })
    }

    #[track_caller]
    fn check(found: PartState, on_change: OnChange, rows: &[(DownloadOutput, Fact)], end: O) {
        let now = Instant::now();
        let mut download = Download::new(found, on_change, now);
        for (number, (output, fact)) in rows.iter().enumerate() {
            assert_eq!(download.poll_output(), *output, "before row {number}");
            match *fact {
                Answered => drop(download.handle_answered(Some(version("a")))),
                Done => download.handle_done(now),
                Written(n) => download.handle_written(now, n),
                Ended => download.handle_ended(now),
                Failed => download.handle_failed(now, false),
                Changed => download.handle_failed(now, true),
            }
        }
        assert_eq!(download.poll_output(), end);
        download.handle_failed(now, false);
        assert_eq!(download.poll_output(), end, "the end is final");
    }

    const NEW: PartState = PartState {
        version: Version {
            entity_tag: None,
            last_modified: None,
            complete_length: None,
        },
        held: 0,
    };
    const ROOM: u64 = STATE_ROOM_BYTES;

    /// What an app may have to download again after a crash, and what a full disk costs it.
    #[test]
    fn the_documented_values() {
        assert_eq!(CHECKPOINT_BYTES, 67_108_864);
        assert_eq!(STATE_ROOM_BYTES, 262_144);
    }

    #[test]
    fn the_state_comes_after_what_it_tells_of() {
        let rows = [
            (fetch(0), Answered),
            (store(held(0)), Done),
            (open(0), Done),
            (O::Receive, Written(7)),
            (O::Receive, Written(CHECKPOINT_BYTES - 7)),
            (SYNC, Done),
            (store(held(CHECKPOINT_BYTES)), Done),
            (O::Receive, Written(5)),
            (O::Receive, Ended),
            (SYNC, Done),
            (store(held(CHECKPOINT_BYTES + 5)), Done),
            (FINISH, Done),
        ];
        let end = O::Done {
            len: CHECKPOINT_BYTES + 5,
            resumed_from: 0,
        };
        check(NEW, OnChange::StartAnew, &rows, end);
        // Whatever fails at the files before content comes is the end of it; and so is the rename.
        for failing in [1, 2, 11] {
            let mut rows = rows[..=failing].to_vec();
            rows[failing].1 = Failed;
            check(NEW, OnChange::StartAnew, &rows, O::Failed);
        }
    }

    #[test]
    fn what_is_held_is_gone_on_with() {
        let rows = [
            (fetch(9), Answered),
            (open(9), Done),
            (O::Receive, Ended),
            (FINISH, Done),
        ];
        let end = O::Done {
            len: 9,
            resumed_from: 9,
        };
        check(held(9), OnChange::Fail, &rows, end);
        check(held(9), OnChange::Fail, &[(fetch(9), Failed)], O::Failed);
    }

    #[test]
    fn what_came_before_a_failure_is_kept() {
        let begin = [
            (fetch(9), Answered),
            (open(9), Done),
            (O::Receive, Written(ROOM + 1)),
            (O::Receive, Failed),
        ];
        let all = store(held(ROOM + 10));
        let less = store(held(10));
        let cut_to_room = cut(10);
        for end in [
            &[(SYNC, Done), (all, Done)][..],
            &[
                (SYNC, Failed),
                (cut_to_room, Done),
                (SYNC, Done),
                (less, Done),
            ],
            &[
                (SYNC, Done),
                (all, Failed),
                (cut_to_room, Done),
                (SYNC, Done),
                (less, Failed),
            ],
            &[(SYNC, Failed), (cut_to_room, Done), (SYNC, Failed)],
            &[(SYNC, Failed), (cut_to_room, Failed)],
        ] {
            check(held(9), OnChange::Fail, &[&begin, end].concat(), O::Failed);
        }
        // Nothing came: nothing is to be kept.
        let rows = [&begin[..2], &[(O::Receive, Failed)]].concat();
        check(held(9), OnChange::Fail, &rows, O::Failed);
        // What was held is never cut.
        let rows = [
            &begin[..2],
            &[
                (O::Receive, Written(1)),
                (O::Receive, Failed),
                (SYNC, Failed),
                (cut(9), Failed),
            ],
        ];
        check(held(9), OnChange::Fail, &rows.concat(), O::Failed);
        // Nor what could not be made safe on the way, or at the end.
        let on_the_way = (O::Receive, Written(CHECKPOINT_BYTES));
        let all = store(held(CHECKPOINT_BYTES + 9));
        for end in [
            &[on_the_way, (SYNC, Failed), (SYNC, Done), (all, Done)][..],
            &[
                on_the_way,
                (SYNC, Done),
                (all, Failed),
                (SYNC, Done),
                (all, Done),
            ],
        ] {
            check(
                held(9),
                OnChange::Fail,
                &[&begin[..2], end].concat(),
                O::Failed,
            );
        }
        let end = [
            begin[2],
            (O::Receive, Ended),
            (SYNC, Done),
            (store(held(ROOM + 10)), Failed),
            (cut_to_room, Done),
            (SYNC, Done),
            (less, Done),
        ];
        check(
            held(9),
            OnChange::Fail,
            &[&begin[..2], &end].concat(),
            O::Failed,
        );
    }

    #[test]
    fn a_changed_source_is_begun_anew_or_told() {
        check(held(9), OnChange::Fail, &[(fetch(9), Changed)], O::Failed);
        let mut rows = vec![(fetch(9), Changed)];
        rows.extend([(fetch(0), Changed); 2]);
        rows.push((fetch(0), Changed));
        check(held(9), OnChange::StartAnew, &rows, O::Failed);
        let rows = [
            (fetch(9), Answered),
            (open(9), Done),
            (O::Receive, Written(5)),
            (O::Receive, Changed),
            (fetch(0), Answered),
            (store(held(0)), Done),
            (open(0), Done),
            (O::Receive, Ended),
            (FINISH, Done),
        ];
        let end = O::Done {
            len: 0,
            resumed_from: 0,
        };
        check(held(9), OnChange::StartAnew, &rows, end);
    }

    #[test]
    fn time_makes_it_safe_too() {
        let begin = Instant::now();
        let mut download = Download::new(held(9), OnChange::Fail, begin);
        assert_eq!(
            download.handle_answered(Some(version("b"))),
            None,
            "it is bound already"
        );
        download.handle_done(begin);
        download.handle_written(begin + CHECKPOINT_INTERVAL / 2, 1);
        assert_eq!(download.poll_output(), O::Receive);
        download.handle_written(begin + CHECKPOINT_INTERVAL, 1);
        assert_eq!(download.poll_output(), SYNC);
        assert_eq!(download.held(), 9);
    }

    #[test]
    #[should_panic(expected = "nothing was to be done with the files")]
    fn a_file_that_nobody_asked_for_is_a_bug() {
        Download::new(NEW, OnChange::Fail, Instant::now()).handle_done(Instant::now());
    }

    #[test]
    fn states_round_trip_and_nothing_else_is_one() {
        for state in [PartState::default(), held(12345)] {
            let mut text = Vec::new();
            state.write(&mut text, "a/b\nc");
            assert_eq!(PartState::parse(&text, "a/b\nc"), Some(state));
            assert_eq!(PartState::parse(&text, "a/b"), None, "another handle");
            for end in 0..text.len() - 1 {
                assert_eq!(
                    PartState::parse(&text[..end], "a/b\nc"),
                    None,
                    "cut at {end}"
                );
            }
            let text = String::from_utf8_lossy(&text).into_owned();
            for (from, to) in [("download 1", "download 2"), ("\nend\n", "\nend \n")] {
                let other = text.replace(from, to);
                assert_eq!(
                    PartState::parse(other.as_bytes(), "a/b\nc"),
                    None,
                    "{other}"
                );
            }
        }
        assert_eq!(number(b"\xff"), None);
        let mut text = Vec::new();
        held(12345).write(&mut text, "a");
        let text = String::from_utf8_lossy(&text).replace("12345", "many");
        assert_eq!(PartState::parse(text.as_bytes(), "a"), None);
    }

    #[test]
    fn only_what_is_ours_whole_and_of_a_version_is_gone_on_with() {
        let text = |state: PartState| {
            let mut text = Vec::new();
            state.write(&mut text, "a");
            text
        };
        let mut tagless = held(9);
        tagless.version.entity_tag = None;
        let found = |text: &[u8], part| PartState::found("a", Some(text), part);
        assert_eq!(found(&text(held(9)), Some(10)), Ok(held(9)));
        assert_eq!(found(&text(held(9)), Some(9)), Ok(held(9)));
        for (text, part) in [
            (text(held(9)), Some(8)),
            (text(held(9)), None),
            (text(tagless), Some(9)),
            (b"torn".to_vec(), Some(9)),
        ] {
            assert_eq!(found(&text, part), Ok(PartState::default()));
        }
        assert_eq!(PartState::found("a", None, None), Ok(PartState::default()));
        assert_eq!(PartState::found("a", None, Some(0)), Err(NotOurs));
    }
}
