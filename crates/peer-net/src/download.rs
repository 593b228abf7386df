//! Downloads to a file, which go on where they were interrupted.
//!
//! Beside the target lie, while a download is under way, `NAME.part` with the content and
//! `NAME.part.state` with what is needed to go on; on some platforms an empty `NAME.part.lock`,
//! which may stay. What is done with them, and in which order, is [`Download`]'s to say: that order
//! is why the target is either what it was before or the finished file, whatever happens at whatever
//! moment.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    time::Instant,
};

pub use peer_core::download::OnChange;
use peer_core::{
    download::{Download, DownloadOutput, FileStep, PartState},
    fetch::FetchError,
};

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
    /// and the like; [`InvalidInput`](io::ErrorKind::InvalidInput) for a device, a pipe or a
    /// socket, which [`fetch_to_writer`](Self::fetch_to_writer) can write to;
    /// [`ResourceBusy`](io::ErrorKind::ResourceBusy) while another download to the same target is
    /// under way, and [`AlreadyExists`](io::ErrorKind::AlreadyExists) when there is a `NAME.part`
    /// that no download left.
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
        let found = place.find(handle).map_err(Failure::Sink)?;
        let whole = self.shared.timeouts.whole;
        let whole = whole.and_then(|whole| Instant::now().checked_add(whole));
        let mut download = Download::new(found, on_change, Instant::now());
        let mut under_way = UnderWay::default();
        // What failed first is what there is to tell, and not that what came could not be kept.
        let mut failure = None;
        loop {
            let step = match download.poll_output() {
                DownloadOutput::Fetch { want, version } => {
                    // Of an attempt that this begins anew, too.
                    failure = None;
                    if let Some(progress) = self.hooks().progress {
                        progress.begin(download.held());
                    }
                    // The connection goes before another one is made.
                    under_way.running = None;
                    let retry = self.shared.retry;
                    let running = RunningTransfer::new(want, version, retry, whole);
                    under_way.begin(running, self, handle, &mut download)
                }
                DownloadOutput::Receive => under_way.receive(self, handle, &mut download),
                DownloadOutput::Done { len, resumed_from } => {
                    return Ok(Downloaded { len, resumed_from });
                }
                DownloadOutput::Failed => {
                    return Err(failure.unwrap_or(Failure::Sink(io::ErrorKind::Other.into())));
                }
                DownloadOutput::Files(step) => {
                    let done = place.carry_out(step, handle, &mut under_way.file);
                    let done = done.map_err(Failure::Sink);
                    done.map(|()| download.handle_done(Instant::now()))
                }
            };
            if let Err(failed) = step {
                let changed = matches!(failed, Failure::Fetch(FetchError::Changed));
                download.handle_failed(Instant::now(), changed);
                failure.get_or_insert(failed);
            }
        }
    }
}

/// The transfer that brings the content, and the file that it goes to.
#[derive(Default)]
struct UnderWay {
    running: Option<RunningTransfer>,
    /// It has brought all there is.
    ended: bool,
    file: Option<File>,
    block: Vec<u8>,
}

impl UnderWay {
    /// Begins a transfer, up to the head of its answer.
    fn begin(
        &mut self,
        mut running: RunningTransfer,
        client: &PeerClient,
        handle: &str,
        download: &mut Download,
    ) -> Result<(), Failure> {
        let ended = running.advance(client, handle, &mut NoSink)?;
        let told = match (&ended, running.answer()) {
            (Some(fetched), _) => fetched.version,
            (None, answer) => answer.map(|answer| answer.version()),
        };
        if let Some(version) = download.handle_answered(told) {
            running.bind(version);
        }
        self.ended = ended.is_some();
        self.running = Some(running);
        Ok(())
    }

    /// Receives content, until what came has to be made safe, or to the end.
    fn receive(
        &mut self,
        client: &PeerClient,
        handle: &str,
        download: &mut Download,
    ) -> Result<(), Failure> {
        if !self.ended {
            let (Some(running), Some(file)) = (&mut self.running, &self.file) else {
                return Err(Failure::Sink(io::Error::other("nothing is under way")));
            };
            let block = &mut self.block;
            let mut sink = PartSink {
                file,
                block,
                download,
            };
            self.ended = running.advance(client, handle, &mut sink)?.is_some();
        }
        if self.ended && download.poll_output() == DownloadOutput::Receive {
            download.handle_ended(Instant::now());
        }
        Ok(())
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

impl Place {
    fn new(target: &Path) -> io::Result<Self> {
        let Some(name) = target.file_name() else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the target has no file name",
            ));
        };
        // A link is followed: what it leads to is what its user would lose.
        match fs::metadata(target) {
            Ok(there) if there.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
            Ok(there) if !there.is_file() => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "the target is a device, a pipe or a socket",
                ));
            }
            _ => {}
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
    fn find(&self, handle: &str) -> io::Result<PartState> {
        let state = if_there(fs::read(&self.state))?;
        let part = if_there(fs::metadata(&self.part))?;
        let part = part.map(|metadata| metadata.len());
        PartState::found(handle, state.as_deref(), part).map_err(|_| {
            io::Error::new(
                io::ErrorKind::AlreadyExists,
                "there is a .part file beside the target that no download left",
            )
        })
    }

    /// Does what is to be done with the files. `part` is the open one.
    fn carry_out(&self, step: FileStep, handle: &str, part: &mut Option<File>) -> io::Result<()> {
        let closed = || io::Error::other("the part is not open");
        match step {
            FileStep::StoreState(state) => self.store(handle, &state),
            FileStep::OpenPart { len } => {
                *part = Some(self.open(len)?);
                Ok(())
            }
            FileStep::SyncPart => part.as_ref().ok_or_else(closed)?.sync_data(),
            FileStep::CutPart { len } => part.as_ref().ok_or_else(closed)?.set_len(len),
            FileStep::Finish => self.finish(part.take().ok_or_else(closed)?),
        }
    }

    /// Opens the part, cut to what is held: what lies behind it may be anything after a crash.
    fn open(&self, held: u64) -> io::Result<File> {
        let mut options = File::options();
        let mut file = options
            .write(true)
            .create(true)
            .truncate(false)
            .open(&self.part)?;
        file.set_len(held)?;
        file.seek(SeekFrom::Start(held))?;
        Ok(file)
    }

    /// Replaces the state, and returns when it is on the disk.
    fn store(&self, handle: &str, state: &PartState) -> io::Result<()> {
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

/// Nothing, for what is not there.
fn if_there<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        result => result.map(Some),
    }
}

/// Appends to the part, until what was written has to be made safe.
struct PartSink<'a> {
    file: &'a File,
    block: &'a mut Vec<u8>,
    download: &'a mut Download,
}

impl PartSink<'_> {
    /// Writes all of `content`, and tells what was written even if not all can be.
    fn append(mut file: &File, content: &[u8], download: &mut Download) -> io::Result<()> {
        let mut written = 0;
        let result = append(&mut file, content, &mut written);
        if written > 0 {
            download.handle_written(Instant::now(), written);
        }
        result
    }
}

/// Writes all of `content`, and counts what is written even if not all can be.
fn append(file: &mut impl Write, mut content: &[u8], written: &mut u64) -> io::Result<()> {
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
    fn wants(&self) -> bool {
        self.download.poll_output() == DownloadOutput::Receive
    }

    fn room(&mut self, max: u64) -> io::Result<&mut [u8]> {
        let len = usize::try_from(max).map_or(BLOCK_BYTES, |max| max.min(BLOCK_BYTES));
        if self.block.len() < len {
            self.block.resize(len, 0);
        }
        Ok(&mut self.block[..len])
    }

    fn filled(&mut self, n: usize) -> io::Result<()> {
        Self::append(self.file, &self.block[..n], self.download)
    }

    fn put(&mut self, content: &[u8]) -> io::Result<usize> {
        Self::append(self.file, content, self.download)?;
        Ok(content.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_beside_the_target() {
        let place = Place::new(Path::new("a.mp3")).unwrap();
        assert_eq!(place.part, Path::new("./a.mp3.part"));
        assert!(Place::new(Path::new("..")).is_err());
        let directory = Place::new(&std::env::temp_dir().join(".")).err().unwrap();
        assert_eq!(directory.kind(), io::ErrorKind::IsADirectory);
    }
}
