//! Downloads to a file, which go on where they were interrupted.
//!
//! Beside the target lie, while a download is under way, `NAME.part` with the content and
//! `NAME.part.state` with what is needed to go on; on some platforms an empty `NAME.part.lock`,
//! which may stay. Whatever happens at whatever moment, the target
//! is either what it was before or the finished file:
//!
//! - The state says how many bytes of the part are held, of which version. It is replaced as a
//!   whole, and only after these bytes are on the disk. What the part has beyond them is dropped.
//! - A state that holds nothing is there before the part is; a part without a state is not ours,
//!   and is left alone.
//! - The part becomes the target by being renamed, once all of it is on the disk.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use peer_core::fetch::{FetchError, Version, Want};
use peer_proto::{EntityTag, HttpDate, target};

use crate::{
    client::PeerClient,
    client_exchange::{Failure, NoSink, Sink},
    client_transfer::RunningTransfer,
    download_lock::PartLock,
    error::PeerError,
    progress::ProgressState,
};

/// Bytes received in one read, and written in one write.
const BLOCK_BYTES: usize = 256 * 1024;

/// After so many bytes, or so much time, what was received is made safe against a crash.
const CHECKPOINT_BYTES: u64 = 64 * 1024 * 1024;
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(1);

/// Times a download begins anew because the source changed, before that is an error.
const CHANGES_MAX: u32 = 3;

/// What to do when the source is not the one that a part was downloaded of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnChange {
    /// Drop the part and download the new version.
    #[default]
    StartAnew,
    /// Fail with [`PeerError::Changed`] and keep the part.
    Fail,
}

/// A finished download.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Downloaded {
    /// Bytes of the file.
    pub len: u64,
    /// Bytes of it that an earlier download had brought.
    pub resumed_from: u64,
}

impl PeerClient {
    /// Downloads a handle's source to a file, or goes on with an earlier download of it. A file
    /// that is there is replaced, once the new one is complete; until then, or after an error, it
    /// is as it was.
    ///
    /// A download that was interrupted goes on where the peer sends a strong entity-tag and it is
    /// still the same; otherwise it begins anew.
    ///
    /// # Errors
    /// [`PeerError`]; [`PeerError::Io`] without a [`phase`](PeerError::phase) is the file's:
    /// [`IsADirectory`](io::ErrorKind::IsADirectory), [`StorageFull`](io::ErrorKind::StorageFull)
    /// and the like, [`ResourceBusy`](io::ErrorKind::ResourceBusy) while another download to the
    /// same target is under way, and [`AlreadyExists`](io::ErrorKind::AlreadyExists) when there is
    /// a `NAME.part` that no download left.
    pub fn download(
        &self,
        handle: &str,
        target: impl AsRef<Path>,
    ) -> Result<Downloaded, PeerError> {
        self.download_with(handle, target, OnChange::StartAnew)
    }

    /// As [`download`](Self::download), with a choice of what to do when the source has changed.
    ///
    /// # Errors
    /// As [`download`](Self::download).
    pub fn download_with(
        &self,
        handle: &str,
        target: impl AsRef<Path>,
        on_change: OnChange,
    ) -> Result<Downloaded, PeerError> {
        let hooks = self.hooks();
        if let Some(progress) = hooks.progress {
            progress.begin(0);
        }
        let result = self.download_to(handle, target.as_ref(), on_change);
        hooks.enter(match &result {
            Ok(_) => ProgressState::Done,
            Err(_) => ProgressState::Failed,
        });
        result.map_err(PeerError::of_failure)
    }

    fn download_to(
        &self,
        handle: &str,
        target: &Path,
        on_change: OnChange,
    ) -> Result<Downloaded, Failure> {
        let place = Place::new(target).map_err(Failure::Sink)?;
        let _lock = PartLock::take(&place.part).map_err(Failure::Sink)?;
        let mut state = place.load(handle).map_err(Failure::Sink)?;
        let whole = self.shared.timeouts.whole;
        let whole = whole.and_then(|whole| Instant::now().checked_add(whole));
        let mut changes = 0;
        loop {
            let resumed_from = state.held;
            match self.fetch_part(handle, &place, &mut state, whole) {
                Ok(part) => {
                    place.finish(part).map_err(Failure::Sink)?;
                    return Ok(Downloaded {
                        len: state.held,
                        resumed_from,
                    });
                }
                Err(Failure::Fetch(FetchError::Changed))
                    if on_change == OnChange::StartAnew && changes < CHANGES_MAX =>
                {
                    changes += 1;
                    state = State::default();
                    if let Some(progress) = self.hooks().progress {
                        progress.begin(0);
                    }
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    /// Fetches what the part lacks. Returns the part, complete.
    fn fetch_part(
        &self,
        handle: &str,
        place: &Place,
        state: &mut State,
        whole: Option<Instant>,
    ) -> Result<File, Failure> {
        if let Some(progress) = self.hooks().progress {
            progress.begin(state.held);
        }
        let version = (state.held > 0).then_some(state.version);
        let want = Want::Content {
            start: state.held,
            len: None,
        };
        let mut running = RunningTransfer::new(want, version, self.shared.retry, whole);
        let ended = running.advance(self, handle, &mut NoSink)?;
        if state.held == 0 {
            let told = match (&ended, running.answer()) {
                (Some(fetched), _) => fetched.version,
                (None, answer) => answer.map(|answer| answer.version()),
            };
            state.version = told.unwrap_or_default();
            // A connection that breaks before any content could lead to another version, and the
            // part would be of that one.
            running.bind(state.version);
            place.store(handle, state).map_err(Failure::Sink)?;
        }
        let mut sink = PartSink::open(handle, place, state).map_err(Failure::Sink)?;
        let result = match ended {
            Some(_) => Ok(()),
            None => running.run(self, handle, &mut sink).map(|_| ()),
        };
        if let Err(failure) = result {
            // Even what came before an error is worth keeping; that it cannot be kept is not what
            // there is to tell.
            let _ = sink.keep();
            return Err(failure);
        }
        sink.checkpoint().map_err(Failure::Sink)?;
        Ok(sink.file)
    }
}

/// The files of one download.
struct Place {
    target: PathBuf,
    directory: PathBuf,
    part: PathBuf,
    state: PathBuf,
    new_state: PathBuf,
}

/// What is held of the part, and of which version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct State {
    version: Version,
    held: u64,
}

impl Place {
    fn new(target: &Path) -> io::Result<Self> {
        let Some(name) = target.file_name() else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the target has no file name",
            ));
        };
        if target.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        let directory = match target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let beside = |suffix: &str| {
            let mut name = OsString::from(name);
            name.push(suffix);
            directory.join(name)
        };
        Ok(Self {
            target: target.to_owned(),
            directory: directory.to_owned(),
            part: beside(".part"),
            state: beside(".part.state"),
            new_state: beside(".part.state.new"),
        })
    }

    /// What an earlier download of `handle` left to go on with.
    fn load(&self, handle: &str) -> io::Result<State> {
        let text = match fs::read(&self.state) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return if self.part.try_exists()? {
                    Err(io::Error::new(
                        io::ErrorKind::AlreadyExists,
                        "there is a .part file beside the target that no download left",
                    ))
                } else {
                    Ok(State::default())
                };
            }
            Err(error) => return Err(error),
        };
        let part_len = match fs::metadata(&self.part) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
        let state = State::parse(&text, handle).unwrap_or_default();
        // Without a tag nobody can tell whether the rest would be of the same version.
        let goes_on = state.held <= part_len && state.version.entity_tag.is_some();
        Ok(if goes_on { state } else { State::default() })
    }

    /// Replaces the state, and returns when it is on the disk.
    fn store(&self, handle: &str, state: &State) -> io::Result<()> {
        let mut text = Vec::new();
        state.write(&mut text, handle);
        let mut file = File::create(&self.new_state)?;
        file.write_all(&text)?;
        file.sync_all()?;
        drop(file);
        fs::rename(&self.new_state, &self.state)?;
        self.sync_directory()
    }

    fn finish(&self, part: File) -> io::Result<()> {
        part.sync_all()?;
        // Windows renames nothing that is open.
        drop(part);
        fs::rename(&self.part, &self.target)?;
        self.sync_directory()?;
        fs::remove_file(&self.state)
    }

    /// Makes renames last. Elsewhere than on Unix a directory cannot be synced, and need not be.
    fn sync_directory(&self) -> io::Result<()> {
        if cfg!(unix) {
            File::open(&self.directory)?.sync_all()?;
        }
        Ok(())
    }
}

/// First line of a state, and its last: what lies between is whole.
const STATE_BEGIN: &[u8] = b"peer download 1";
const STATE_END: &[u8] = b"end";

impl State {
    fn write(&self, out: &mut Vec<u8>, handle: &str) {
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
    fn parse(text: &[u8], handle: &str) -> Option<Self> {
        let mut lines = text.split(|&byte| byte == b'\n');
        let mut line = || lines.next();
        let is_begin = line()? == STATE_BEGIN;
        let mut encoded = Vec::new();
        target::write_target(&mut encoded, handle);
        let is_same = line()? == encoded;
        let entity_tag = EntityTag::parse_strong(line()?);
        let last_modified = HttpDate::parse(line()?);
        let complete_length = number(line()?);
        let held = number(line()?)?;
        let is_whole = is_begin && line()? == STATE_END;
        (is_whole && is_same).then_some(Self {
            version: Version {
                entity_tag,
                last_modified,
                complete_length,
            },
            held,
        })
    }
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Bytes of the part that are given up where the state finds no room beside it. More than any
/// state, and than what a file system makes of one.
const STATE_ROOM_BYTES: u64 = 256 * 1024;

/// Appends to the part, and notes now and then how much of it is safe.
struct PartSink<'a> {
    handle: &'a str,
    place: &'a Place,
    state: &'a mut State,
    file: File,
    block: Vec<u8>,
    /// Bytes of the part, safe or not.
    written: u64,
    checked: Instant,
}

impl<'a> PartSink<'a> {
    fn open(handle: &'a str, place: &'a Place, state: &'a mut State) -> io::Result<Self> {
        let mut options = File::options();
        let mut file = options
            .write(true)
            .create(true)
            .truncate(false)
            .open(&place.part)?;
        // What lies behind the bytes that are held may be anything after a crash.
        file.set_len(state.held)?;
        file.seek(SeekFrom::Start(state.held))?;
        Ok(Self {
            handle,
            place,
            written: state.held,
            state,
            file,
            block: Vec::new(),
            checked: Instant::now(),
        })
    }

    fn checkpoint(&mut self) -> io::Result<()> {
        if self.written > self.state.held {
            self.file.sync_data()?;
            let state = State {
                held: self.written,
                ..*self.state
            };
            self.place.store(self.handle, &state)?;
            *self.state = state;
        }
        self.checked = Instant::now();
        Ok(())
    }

    /// As [`checkpoint`](Self::checkpoint), of a part that is not complete. One that has filled the
    /// disk makes room for its state.
    fn keep(&mut self) -> io::Result<()> {
        self.checkpoint().or_else(|_| {
            let shorter = self.written.saturating_sub(STATE_ROOM_BYTES);
            self.written = shorter.max(self.state.held);
            self.file.set_len(self.written)?;
            self.checkpoint()
        })
    }
}

/// Writes all of `content`, and counts what is written even if not all can be.
fn append(mut file: &File, mut content: &[u8], written: &mut u64) -> io::Result<()> {
    while !content.is_empty() {
        match file.write(content) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => {
                *written += n as u64;
                content = &content[n..];
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

impl Sink for PartSink<'_> {
    fn room(&mut self, max: u64) -> io::Result<&mut [u8]> {
        let len = usize::try_from(max).map_or(BLOCK_BYTES, |max| max.min(BLOCK_BYTES));
        if self.block.len() < len {
            self.block.resize(len, 0);
        }
        Ok(&mut self.block[..len])
    }

    fn filled(&mut self, n: usize) -> io::Result<()> {
        append(&self.file, &self.block[..n], &mut self.written)?;
        let unsafe_bytes = self.written - self.state.held;
        if unsafe_bytes >= CHECKPOINT_BYTES || self.checked.elapsed() >= CHECKPOINT_INTERVAL {
            self.checkpoint()?;
        }
        Ok(())
    }

    fn put(&mut self, content: &[u8]) -> io::Result<usize> {
        append(&self.file, content, &mut self.written)?;
        Ok(content.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_round_trip_and_nothing_else_is_one() {
        let full = State {
            version: Version {
                entity_tag: EntityTag::strong("a,b\u{e9}").ok(),
                last_modified: HttpDate::parse(b"Sun, 06 Nov 1994 08:49:37 GMT"),
                complete_length: Some(u64::MAX),
            },
            held: 12345,
        };
        for state in [State::default(), full] {
            let mut text = Vec::new();
            state.write(&mut text, "a/b\nc");
            assert_eq!(State::parse(&text, "a/b\nc"), Some(state));
            assert_eq!(State::parse(&text, "a/b"), None, "another handle");
            for end in 0..text.len() - 1 {
                assert_eq!(State::parse(&text[..end], "a/b\nc"), None, "cut at {end}");
            }
        }
    }

    #[test]
    fn names_beside_the_target() {
        let place = Place::new(Path::new("a.mp3")).unwrap();
        assert_eq!(place.part, Path::new("./a.mp3.part"));
        assert!(Place::new(Path::new("..")).is_err());
        let directory = Place::new(&std::env::temp_dir().join(".")).err().unwrap();
        assert_eq!(directory.kind(), io::ErrorKind::IsADirectory);
    }
}
