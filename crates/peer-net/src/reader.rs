//! Reads a handle's source like a file.

use std::{
    io::{self, Read, Seek, SeekFrom},
    time::Instant,
};

pub use peer_core::read_ahead::ReadAheadConfig;
use peer_core::{
    fetch::{Version, Want},
    read_ahead::{ReadAhead, ReadStep},
    transfer::RetryPolicy,
};

use crate::{
    client::PeerClient,
    client_exchange::{BlockSink, Failure, NoSink},
    client_transfer::RunningTransfer,
    error::PeerError,
};

/// A handle's source as something to read and seek in: for decoders, tag readers, archives.
///
/// It keeps the blocks that were read last, and two requests open, so that going to the end
/// and back costs two requests, and going back a little none. A connection that breaks is mended
/// by the client's [`RetryPolicy`]. When the source changes, reading fails for good: bytes of two
/// versions are never mixed, as far as the peer's validators tell versions apart (a peer without
/// any is held to its length alone).
///
/// The timeout for whole operations does not apply: a reader lives as long as it is wanted.
///
/// Errors of [`Read`] carry the [`PeerError`]. Their kind is never
/// [`UnexpectedEof`](io::ErrorKind::UnexpectedEof), which decoders take for the end of the media, nor
/// [`Interrupted`](io::ErrorKind::Interrupted), after which callers try again at once.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::io::{Read, Seek, SeekFrom};
///
/// let client = peer_net::PeerClient::builder("192.168.1.7:8700", "secret").build()?;
/// let mut reader = client.reader("album/01.mp3")?;
/// let mut tag = [0; 128];
/// reader.seek(SeekFrom::End(-128))?;
/// reader.read_exact(&mut tag)?;
/// # Ok(())
/// # }
/// ```
pub struct PeerReader {
    client: PeerClient,
    handle: String,
    retry: RetryPolicy,
    policy: ReadAhead,
    blocks: Vec<Box<[u8]>>,
    lanes: Vec<Option<RunningTransfer>>,
    version: Option<Version>,
    position: u64,
    requests: u64,
    changed: bool,
}

impl PeerClient {
    /// Opens a handle's source for reading and seeking. Makes one request, whose content the
    /// first read gets.
    ///
    /// # Errors
    /// [`PeerError`].
    pub fn reader(&self, handle: &str) -> Result<PeerReader, PeerError> {
        self.reader_with(handle, ReadAheadConfig::default())
    }

    /// As [`reader`](Self::reader), with sizes of its own.
    ///
    /// # Errors
    /// [`PeerError`].
    pub fn reader_with(
        &self,
        handle: &str,
        config: ReadAheadConfig,
    ) -> Result<PeerReader, PeerError> {
        let policy = ReadAhead::new(config);
        let mut reader = PeerReader {
            client: self.clone(),
            handle: handle.to_owned(),
            retry: self.shared.retry,
            // Memory comes with the blocks that are read.
            blocks: vec![Box::default(); policy.config().blocks],
            lanes: (0..policy.config().requests).map(|_| None).collect(),
            policy,
            version: None,
            position: 0,
            requests: 0,
            changed: false,
        };
        if let ReadStep::Open { lane, start, len } = reader.policy.poll(0) {
            reader.open(lane, start, len)?;
        }
        // What is asked for from here on is known to be there: a new request is only the way on,
        // and may be tried as long as the mending of a broken one.
        reader.retry.from_nothing = true;
        Ok(reader)
    }
}

impl PeerReader {
    /// Length of the source; `None` while the peer has not told, and no read has met the end.
    #[must_use]
    pub const fn len(&self) -> Option<u64> {
        self.policy.complete_length()
    }

    /// Whether the source is known to have no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == Some(0)
    }

    /// Requests made so far, those that mended a connection not counted.
    #[must_use]
    pub const fn requests(&self) -> u64 {
        self.requests
    }

    /// Reads once at the position, like [`Read::read`], with the error as it is.
    ///
    /// # Errors
    /// [`PeerError`].
    pub fn read_some(&mut self, buf: &mut [u8]) -> Result<usize, PeerError> {
        if buf.is_empty() {
            return Ok(0);
        }
        loop {
            if self.changed {
                return Err(PeerError::Changed);
            }
            match self.policy.poll(self.position) {
                ReadStep::End => return Ok(0),
                ReadStep::Serve { slot, offset, len } => {
                    let n = len.min(buf.len());
                    buf[..n].copy_from_slice(&self.blocks[slot][offset..offset + n]);
                    self.policy.handle_served(slot);
                    self.position += n as u64;
                    return Ok(n);
                }
                ReadStep::Receive { lane, slot, offset } => self.receive(lane, slot, offset)?,
                ReadStep::Open { lane, start, len } => self.open(lane, start, len)?,
                // Only for readers that share: this one takes no lane.
                ReadStep::Wait { .. } => {
                    return Err(PeerError::Io(io::Error::other("a lane without its reader")));
                }
            }
        }
    }

    fn open(&mut self, lane: usize, start: u64, len: Option<u64>) -> Result<(), PeerError> {
        self.policy.handle_closed(lane);
        // The connection goes with what is still to come over it.
        self.lanes[lane] = None;
        self.requests += 1;
        let begun = Instant::now();
        let want = Want::Content { start, len };
        let mut running = RunningTransfer::new(want, self.version, self.retry, None);
        let ended = running.advance(&self.client, &self.handle, &mut NoSink);
        let (told, version) = match (ended, running.answer()) {
            (Ok(Some(fetched)), _) => (fetched.complete_length, fetched.version),
            (Ok(None), Some(answer)) => (answer.complete_length, Some(answer.version())),
            (Ok(None), None) => (None, None),
            (Err(failure), _) => return Err(self.failed(lane, failure)),
        };
        if let (None, Some(version)) = (self.version, version) {
            self.version = Some(version);
            running.bind(version);
        }
        let latency = begun.elapsed();
        self.policy.handle_opened(lane, start, len, told, latency);
        self.lanes[lane] = Some(running);
        Ok(())
    }

    fn receive(&mut self, lane: usize, slot: usize, offset: usize) -> Result<(), PeerError> {
        let begun = Instant::now();
        let Some(running) = &mut self.lanes[lane] else {
            self.policy.handle_closed(lane);
            return Ok(());
        };
        let block = &mut self.blocks[slot];
        if block.is_empty() {
            *block = vec![0; self.policy.config().block_bytes].into_boxed_slice();
        }
        let block = &mut block[offset..];
        let mut sink = BlockSink { block, len: 0 };
        let result = running.advance(&self.client, &self.handle, &mut sink);
        let n = sink.len;
        match result {
            Ok(ended) => {
                let ended = ended.is_some();
                let elapsed = begun.elapsed();
                self.policy.handle_received(lane, slot, n, ended, elapsed);
                if ended {
                    self.lanes[lane] = None;
                }
                Ok(())
            }
            Err(failure) => {
                // The block may be half of one thing and half of another.
                self.policy.handle_dropped(slot);
                Err(self.failed(lane, failure))
            }
        }
    }

    fn failed(&mut self, lane: usize, failure: Failure) -> PeerError {
        self.lanes[lane] = None;
        self.policy.handle_closed(lane);
        let error = PeerError::of_failure(failure);
        self.changed |= matches!(error, PeerError::Changed);
        error
    }
}

impl Read for PeerReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.read_some(buf).map_err(io::Error::from)
    }
}

impl Seek for PeerReader {
    /// Moves the position. Nothing is asked for until the next read.
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let (from, by) = match to {
            SeekFrom::Start(position) => (position, 0),
            SeekFrom::Current(by) => (self.position, by),
            SeekFrom::End(by) => match self.len() {
                Some(len) => (len, by),
                None => {
                    return Err(io::Error::new(
                        io::ErrorKind::Unsupported,
                        "the peer does not know where the source ends",
                    ));
                }
            },
        };
        let position = from.checked_add_signed(by).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "a position before the start")
        })?;
        self.position = position;
        Ok(position)
    }
}

impl std::fmt::Debug for PeerReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PeerReader")
            .field("handle", &self.handle)
            .field("len", &self.len())
            .field("position", &self.position)
            .field("requests", &self.requests)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn may_be_sent_and_shared() {
        const fn check<T: Send + Sync>() {}
        check::<PeerReader>();
        check::<PeerClient>();
    }
}
