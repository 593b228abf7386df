//! A peer's handle as a source: what everything that serves sources can relay.

use std::{
    io,
    sync::{Arc, OnceLock, Weak, atomic::Ordering},
    time::{Duration, SystemTime},
};

use peer_core::read_ahead::ReadAheadConfig;
use peer_proto::EntityTag;

use crate::{
    cancel::Cancel,
    client::PeerClient,
    error::PeerError,
    relay::{Family, Known, Reading, Shared},
    source::ByteSource,
};

/// What the peer said of a version is believed for this long without asking again, unless set.
const FRESH_FOR: Duration = Duration::from_secs(10);

/// A handle of a peer, to be read at any place by any number of threads: a [`ByteSource`] that
/// relays another one.
///
/// Length, media type and validator are the peer's, learned by one request. Reads go over the
/// client's kept connections and are mended by its [`RetryPolicy`](crate::RetryPolicy). Readers share
/// what they fetch: there is one request for each stretch that is being read, a read of what another
/// one is fetching waits for it, and the blocks read last are kept. That costs at most
/// `(blocks + requests) * block_bytes` of memory, `(64 + 8) * 64 KiB` unless set, and only once they
/// were read. A request that no reader goes by any more is ended when another one is made.
///
/// Bytes of two versions are never mixed, as far as the peer's validators tell versions apart (a peer
/// without any is held to its length alone). When the source turns out to have changed, reads fail
/// with [`PeerError::Changed`], for good; what a server asks for a new answer
/// ([`ByteSource::reader`]) is of the new version.
///
/// A clone is a reader of its own and shares everything else; dropping it leaves the requests that it
/// went by. Errors of reads carry an `Arc<PeerError>`, shared by those who waited for the same bytes.
/// A [`Progress`](crate::Progress) of the client is told nothing.
pub struct RemoteSource {
    shared: Arc<Shared>,
    seat: Seat,
    cancel: Option<Cancel>,
    /// The version that this reader is held to.
    known: OnceLock<Arc<Known>>,
}

/// How a [`RemoteSource`] reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RemoteSourceConfig {
    /// Sizes of blocks and requests, and how many requests may be open at a time: 8 unless set.
    pub read_ahead: ReadAheadConfig,
    /// For how long after its last word the peer is not asked whether the source has changed, when
    /// a new answer begins. 10 s unless set.
    pub fresh_for: Duration,
}

impl Default for RemoteSourceConfig {
    fn default() -> Self {
        let mut read_ahead = ReadAheadConfig::default();
        read_ahead.requests = 8;
        Self {
            read_ahead,
            fresh_for: FRESH_FOR,
        }
    }
}

/// The place of one reader, taken with its first read.
struct Seat {
    shared: Weak<Shared>,
    number: OnceLock<u64>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let (Some(&number), Some(shared)) = (self.number.get(), self.shared.upgrade()) {
            shared.leave(number);
        }
    }
}

impl RemoteSource {
    /// Asks the peer for a handle's source. The one request that this takes also brings the first
    /// bytes.
    ///
    /// # Errors
    /// [`PeerError`]; [`PeerError::Io`] of kind [`io::ErrorKind::Unsupported`] for a source of which
    /// the peer does not tell the length: it has no places to read at.
    pub fn open(client: &PeerClient, handle: &str) -> Result<Self, PeerError> {
        Self::open_with(client, handle, RemoteSourceConfig::default())
    }

    /// As [`open`](Self::open), with settings of its own.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_with(
        client: &PeerClient,
        handle: &str,
        config: RemoteSourceConfig,
    ) -> Result<Self, PeerError> {
        let source = Self::unopened(client, handle, config, None);
        let known = source.shared.ask(None, source.seat())?;
        let _ = source.known.set(known);
        Ok(source)
    }

    /// A source that asks the peer when it is first read or asked for a
    /// [reader](ByteSource::reader).
    pub(crate) fn unopened(
        client: &PeerClient,
        handle: &str,
        config: RemoteSourceConfig,
        family: Option<Arc<Family>>,
    ) -> Self {
        Self::of(Shared::new(client, handle, config, family), None)
    }

    /// Asks the peer what media type it has, and with that for the rest of what it tells.
    pub(crate) fn learn_content_type(&self) -> Result<Option<String>, PeerError> {
        let known = self.shared.ask(None, self.seat())?;
        Ok(known.content_type.as_deref().map(str::to_owned))
    }

    fn of(shared: Arc<Shared>, cancel: Option<Cancel>) -> Self {
        let seat = Seat {
            shared: Arc::downgrade(&shared),
            number: OnceLock::new(),
        };
        Self {
            shared,
            seat,
            cancel,
            known: OnceLock::new(),
        }
    }

    /// Requests made so far, by all readers together; those that mended a connection not counted.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::Relaxed)
    }

    /// Reads once at a place, like [`ByteSource::read_at`], with the error as it is.
    ///
    /// # Errors
    /// [`PeerError`], shared with whoever waited for the same bytes.
    pub fn read_some(&self, offset: u64, buf: &mut [u8]) -> Result<usize, Arc<PeerError>> {
        if buf.is_empty() {
            return Ok(0);
        }
        let seat = self.seat();
        let known = match self.known.get() {
            Some(known) => known,
            None => {
                let known = self.shared.learn(self.cancel.as_ref(), seat)?;
                self.known.get_or_init(|| known)
            }
        };
        let reading = Reading {
            shared: &self.shared,
            seat,
            cancel: self.cancel.as_ref(),
            epoch: known.epoch,
        };
        reading.read(offset, buf)
    }

    /// The number of this reader, which has its place from now on.
    fn seat(&self) -> u64 {
        *self.seat.number.get_or_init(|| self.shared.enter())
    }
}

impl ByteSource for RemoteSource {
    fn len(&self) -> Option<u64> {
        self.known.get().map(|known| known.len)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.read_some(offset, buf).map_err(to_io)
    }

    fn content_type(&self) -> Option<&str> {
        self.known.get()?.content_type.as_deref()
    }

    /// The peer's own tag; `None` from the moment that the version is known to be gone.
    fn entity_tag(&self) -> Option<EntityTag> {
        let known = self.known.get()?;
        let tag = known.version.entity_tag?;
        self.shared.is_at(known.epoch).then_some(tag)
    }

    fn last_modified(&self) -> Option<SystemTime> {
        let date = self.known.get()?.version.last_modified?;
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(date.seconds()))
    }

    /// A reader of the present version. Asks the peer when nothing is known yet, or when what is
    /// known is older than [`RemoteSourceConfig::fresh_for`].
    fn reader(&self, cancel: &Cancel) -> io::Result<Option<Arc<dyn ByteSource>>> {
        let reader = Self::of(Arc::clone(&self.shared), Some(cancel.clone()));
        let learned = self.shared.learn(Some(cancel), reader.seat());
        let known = learned.map_err(to_io)?;
        let _ = reader.known.set(known);
        Ok(Some(Arc::new(reader)))
    }
}

impl Clone for RemoteSource {
    fn clone(&self) -> Self {
        let known = self.known.clone();
        Self {
            known,
            ..Self::of(Arc::clone(&self.shared), self.cancel.clone())
        }
    }
}

/// The error of a shared failure, with the kind that it would have alone.
fn to_io(error: Arc<PeerError>) -> io::Error {
    io::Error::new(error.io_kind(), error)
}

impl std::fmt::Debug for RemoteSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RemoteSource")
            .field("client", &self.shared.client)
            .field("handle", &self.shared.handle)
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}
