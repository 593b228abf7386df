//! Sources that change, fail, end early and block.

use std::{
    sync::LazyLock,
    time::{Duration, SystemTime},
};

use peer_core::SourceInfo;
use peer_proto::{EntityTag, HttpDate, Validators};

use super::{Happened, SECOND, Time, dice::Dice};

/// A version of a source: its bytes follow from its number, and no two versions share a place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Version {
    pub(crate) number: u8,
    pub(crate) len: u64,
    /// From when on it is the current one.
    pub(crate) since: Time,
}

/// Bytes without a pattern; each version is another stretch of them.
static NOISE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut dice = Dice::seeded(7);
    (0..LEN_MAX + 1000).map(|_| dice.below(256) as u8).collect()
});

/// Length of the longest source.
const LEN_MAX: usize = 20_000;

impl Version {
    /// All its bytes.
    pub(crate) fn bytes(&self) -> &'static [u8] {
        let start = usize::from(self.number) * 100;
        &NOISE[start..start + self.len as usize]
    }

    /// Its bytes from one offset to another, or to its end.
    pub(crate) fn slice(&self, from: u64, to: u64) -> &'static [u8] {
        &self.bytes()[from.min(self.len) as usize..to.min(self.len) as usize]
    }
}

/// A stretch of time in which reading goes wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Trouble {
    /// Reads at or past this offset fail.
    Fails(u64),
    /// It ends here, whatever its length says.
    EndsEarly(u64),
    /// Each read takes so long.
    Blocks(Time),
}

/// What a read brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SourceRead {
    Bytes(usize),
    End,
    Failed,
}

/// A source.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) versions: Vec<Version>,
    pub(crate) length_known: bool,
    pub(crate) tagged: bool,
    trouble: Option<(Trouble, Time, Time)>,
}

impl Source {
    pub(crate) fn new(dice: &mut Dice, calm: bool) -> Self {
        let len = |dice: &mut Dice| match dice.below(4) {
            0 => dice.below(300),
            1 => dice.below(4),
            2 => dice.below(5000),
            _ => dice.below(LEN_MAX as u64),
        };
        let tagged = calm || !dice.chance(15);
        let mut versions = vec![Version {
            number: 1,
            len: len(dice),
            since: 0,
        }];
        // What has no tag cannot be told apart from what it was; nobody promises anything then.
        if !calm && tagged && dice.chance(30) {
            for number in 2..3 + dice.below(2) as u8 {
                let last = versions[versions.len() - 1];
                let len = if dice.chance(50) { last.len } else { len(dice) };
                let since = last.since + 1 + dice.below(30 * SECOND);
                versions.push(Version { number, len, since });
            }
        }
        let length_known = !dice.chance(20);
        let trouble = (!calm && dice.chance(20)).then(|| {
            let place = dice.below(versions[0].len + 1);
            let from = dice.below(20 * SECOND);
            let until = from + dice.below(60 * SECOND);
            let trouble = match dice.below(3) {
                0 => Trouble::Fails(place),
                // Where no length is known, where it ends is its end.
                1 if length_known => Trouble::EndsEarly(place),
                _ => Trouble::Blocks(dice.below(40 * SECOND)),
            };
            (trouble, from, until)
        });
        Self {
            versions,
            length_known,
            tagged,
            trouble,
        }
    }

    pub(crate) fn version(&self, time: Time) -> Version {
        let mut current = self.versions[0];
        for version in &self.versions {
            if version.since <= time {
                current = *version;
            }
        }
        current
    }

    /// The versions that were current at any time between two.
    pub(crate) fn versions_between(&self, from: Time, to: Time) -> Vec<Version> {
        let first = self.version(from);
        let later = self
            .versions
            .iter()
            .filter(|version| version.since > from && version.since <= to);
        std::iter::once(first).chain(later.copied()).collect()
    }

    pub(crate) fn entity_tag(&self, time: Time) -> Option<EntityTag> {
        let number = self.version(time).number;
        let tag = || EntityTag::strong(format!("v{number}")).ok();
        self.tagged.then(tag).flatten()
    }

    pub(crate) fn info(&self, time: Time) -> SourceInfo<'static> {
        let version = self.version(time);
        let modified = Duration::from_secs(1000 + u64::from(version.number));
        SourceInfo {
            complete_length: self.length_known.then_some(version.len),
            content_type: Some("audio/flac"),
            validators: Validators {
                entity_tag: self.entity_tag(time),
                last_modified: HttpDate::new(SystemTime::UNIX_EPOCH + modified),
            },
        }
    }

    /// How long a read takes now.
    pub(crate) fn blocks(&self, time: Time, happened: &mut Happened) -> Time {
        match self.trouble {
            Some((Trouble::Blocks(pause), from, until)) if (from..until).contains(&time) => {
                happened.source = true;
                pause
            }
            _ => 0,
        }
    }

    pub(crate) fn read(
        &self,
        time: Time,
        offset: u64,
        buf: &mut [u8],
        happened: &mut Happened,
    ) -> SourceRead {
        let version = self.version(time);
        if version.number > 1 {
            happened.changed = true;
        }
        let mut end = version.len;
        if let Some((trouble, from, until)) = self.trouble {
            if (from..until).contains(&time) {
                match trouble {
                    Trouble::Fails(place) if offset >= place => {
                        happened.source = true;
                        return SourceRead::Failed;
                    }
                    Trouble::Fails(place) => end = end.min(place),
                    Trouble::EndsEarly(place) if place < end => {
                        happened.source = true;
                        end = place;
                    }
                    Trouble::EndsEarly(_) | Trouble::Blocks(_) => {}
                }
            }
        }
        let n = end.saturating_sub(offset).min(buf.len() as u64) as usize;
        buf[..n].copy_from_slice(version.slice(offset, offset + n as u64));
        if n == 0 {
            SourceRead::End
        } else {
            SourceRead::Bytes(n)
        }
    }
}
