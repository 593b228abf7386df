//! What can be served: random access to bytes.

use std::{
    fs::{File, Metadata},
    hash::{DefaultHasher, Hash, Hasher},
    io,
    path::Path,
    sync::{Arc, OnceLock},
    time::SystemTime,
};

use peer_core::pace::Priority;
use peer_proto::EntityTag;

use crate::{cancel::Cancel, media_type};

/// Random access to the bytes of one representation.
///
/// Only [`len`](Self::len) and [`read_at`](Self::read_at) are required. Whatever a source says of
/// itself beyond them makes more possible: without an entity-tag, for one, a broken transfer
/// cannot be resumed.
///
/// Any number of transfers may read at once. A call may block; it holds up its own transfer only.
/// A panic fails its own transfer only.
pub trait ByteSource: Send + Sync {
    /// Length in bytes; `None` when only the end will tell.
    ///
    /// A source of unknown length is sent from its start; ranges of it cannot be served.
    fn len(&self) -> Option<u64>;

    /// Reads into `buf` from `offset` on. Returns how many bytes were read, at most `buf.len()`;
    /// fewer than asked for is fine. 0 is the end of the source.
    ///
    /// # Errors
    /// Any error ends the transfer, except [`io::ErrorKind::Interrupted`], which repeats the call.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize>;

    /// Whether the source is known to have no bytes.
    fn is_empty(&self) -> bool {
        self.len() == Some(0)
    }

    /// Media type, such as `audio/flac`. Provided: `None`, sent as `application/octet-stream`.
    fn content_type(&self) -> Option<&str> {
        None
    }

    /// Strong validator (RFC 9110 §8.8.1): must differ whenever any byte differs. Provided:
    /// `None`.
    ///
    /// It is asked again for each block of a transfer, between reading and sending it; when it has
    /// changed, the transfer is cut rather than continued with bytes of another version.
    fn entity_tag(&self) -> Option<EntityTag> {
        None
    }

    /// When the bytes last changed. Provided: `None`.
    fn last_modified(&self) -> Option<SystemTime> {
        None
    }

    /// What it is read for, where a rate limit makes transfers compete. Provided:
    /// [`Priority::Playback`]. The resolver is the place to decide.
    fn priority(&self) -> Priority {
        Priority::Playback
    }

    /// An open file that holds these bytes at the same offsets. Provided: `None`.
    ///
    /// With the crate's feature `sendfile`, on Linux and Android, a stretch of it is sent by the
    /// kernel, without a copy through this process. [`read_at`](Self::read_at) goes on being used
    /// for what is short, and everywhere else, so both must give the same bytes.
    fn file(&self) -> Option<&File> {
        None
    }

    /// What one answer reads in place of this source, and drops when it ends; `None`: the source
    /// itself. Provided: `None`.
    ///
    /// For a source whose reads may block for long, or whose version may change: what is given
    /// ends its reads with an error when `cancel` is thrown, which is done when the connection is
    /// cut, and is held to the version that it began with.
    ///
    /// # Errors
    /// When nothing can be read: [`io::ErrorKind::NotFound`] where there is no such source any
    /// more (404), any other for what may be over soon (500).
    fn reader(&self, cancel: &Cancel) -> io::Result<Option<Arc<dyn ByteSource>>> {
        let _ = cancel;
        Ok(None)
    }

    /// Length, validator and modification time, taken together. Provided: by the three methods
    /// above. Worth overriding where one look answers all three.
    fn metadata(&self) -> SourceMetadata {
        SourceMetadata {
            len: self.len(),
            entity_tag: self.entity_tag(),
            last_modified: self.last_modified(),
        }
    }
}

/// What a source says of its present version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SourceMetadata {
    /// See [`ByteSource::len`].
    pub len: Option<u64>,
    /// See [`ByteSource::entity_tag`].
    pub entity_tag: Option<EntityTag>,
    /// See [`ByteSource::last_modified`].
    pub last_modified: Option<SystemTime>,
}

/// The app's decision what is shared: an opaque handle to its source, or `None` (404).
///
/// Called once for each request with a valid token, on the thread of its connection. Only what it
/// gives is ever served.
pub type SourceResolver = Arc<dyn Fn(&str) -> Option<Arc<dyn ByteSource>> + Send + Sync>;

/// A source in memory.
#[derive(Debug)]
pub struct BytesSource {
    bytes: Vec<u8>,
    content_type: Option<String>,
    entity_tag: OnceLock<EntityTag>,
    last_modified: Option<SystemTime>,
}

impl BytesSource {
    /// A source of these bytes.
    #[must_use]
    pub const fn new(bytes: Vec<u8>) -> Self {
        Self {
            bytes,
            content_type: None,
            entity_tag: OnceLock::new(),
            last_modified: None,
        }
    }

    /// Gives it a media type.
    #[must_use]
    pub fn with_content_type(mut self, content_type: impl Into<String>) -> Self {
        self.content_type = Some(content_type.into());
        self
    }

    /// Gives it a validator, in place of the one that is made from the bytes at the first request.
    #[must_use]
    pub fn with_entity_tag(mut self, entity_tag: EntityTag) -> Self {
        self.entity_tag = OnceLock::from(entity_tag);
        self
    }

    /// Gives it a modification time.
    #[must_use]
    pub const fn with_last_modified(mut self, last_modified: SystemTime) -> Self {
        self.last_modified = Some(last_modified);
        self
    }
}

impl ByteSource for BytesSource {
    fn len(&self) -> Option<u64> {
        Some(self.bytes.len() as u64)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let rest = usize::try_from(offset)
            .ok()
            .and_then(|offset| self.bytes.get(offset..));
        let rest = rest.unwrap_or_default();
        let len = rest.len().min(buf.len());
        buf[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    fn content_type(&self) -> Option<&str> {
        self.content_type.as_deref()
    }

    fn entity_tag(&self) -> Option<EntityTag> {
        Some(*self.entity_tag.get_or_init(|| {
            let hash = |salt: u8| {
                let mut hasher = DefaultHasher::new();
                salt.hash(&mut hasher);
                self.bytes.hash(&mut hasher);
                hasher.finish()
            };
            tag(&[self.bytes.len() as u64, hash(0), hash(1)])
        }))
    }

    fn last_modified(&self) -> Option<SystemTime> {
        self.last_modified
    }
}

/// A file on disk, or one that somebody else opened, such as Android for a `content://` document.
///
/// Reads are positional: any number of transfers share one open file without disturbing each
/// other. Length and validator are looked up for each request, so a file that was replaced in
/// place is served as what it is now, and one that changes under a transfer cuts it.
#[derive(Debug)]
pub struct FileSource {
    file: File,
    content_type: Option<String>,
}

impl FileSource {
    /// Opens a file. Its media type follows from the extension of its name.
    ///
    /// # Errors
    /// As [`File::open`]; [`io::ErrorKind::InvalidInput`] for what is no regular file.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref();
        // Opening a pipe that nobody writes to would block, so it is looked at first.
        require_regular(&std::fs::metadata(path)?)?;
        let extension = path.extension().and_then(|extension| extension.to_str());
        let content_type = extension.and_then(media_type::of_extension);
        let source = Self::from_file(File::open(path)?)?;
        Ok(match content_type {
            Some(content_type) => source.with_content_type(content_type),
            None => source,
        })
    }

    /// Takes a file that is already open for reading.
    ///
    /// # Errors
    /// When its metadata cannot be read; [`io::ErrorKind::InvalidInput`] for what is no regular
    /// file: a pipe has no positions to read at.
    pub fn from_file(file: File) -> io::Result<Self> {
        require_regular(&file.metadata()?)?;
        Ok(Self {
            file,
            content_type: None,
        })
    }

    /// Gives it a media type, in place of the one by extension.
    #[must_use]
    pub fn with_content_type(mut self, content_type: impl Into<String>) -> Self {
        self.content_type = Some(content_type.into());
        self
    }
}

impl ByteSource for FileSource {
    fn len(&self) -> Option<u64> {
        self.metadata().len
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        read_at(&self.file, offset, buf)
    }

    fn content_type(&self) -> Option<&str> {
        self.content_type.as_deref()
    }

    fn entity_tag(&self) -> Option<EntityTag> {
        self.metadata().entity_tag
    }

    fn last_modified(&self) -> Option<SystemTime> {
        self.metadata().last_modified
    }

    fn file(&self) -> Option<&File> {
        Some(&self.file)
    }

    /// One look at the file. Where that fails nothing can be promised: no length, no validator.
    fn metadata(&self) -> SourceMetadata {
        self.file.metadata().map_or_else(
            |_| SourceMetadata::default(),
            |metadata| SourceMetadata {
                len: Some(metadata.len()),
                entity_tag: version_of(&metadata),
                last_modified: metadata.modified().ok(),
            },
        )
    }
}

fn require_regular(metadata: &Metadata) -> io::Result<()> {
    if metadata.is_file() {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidInput,
        "not a regular file",
    ))
}

/// The entity-tag that spells these numbers.
fn tag(numbers: &[u64]) -> EntityTag {
    use std::fmt::Write;
    let mut text = String::with_capacity(17 * numbers.len());
    for number in numbers {
        // Writing to a String cannot fail.
        let _ = write!(text, "-{number:x}");
    }
    EntityTag::strong(&text[1..]).expect("four numbers and their dashes are at most 67 characters")
}

/// The version of a file: identity, length, and both of its times to the nanosecond. The status
/// time cannot be set back, so it also changes where a tool restores the modification time.
#[cfg(unix)]
fn version_of(metadata: &Metadata) -> Option<EntityTag> {
    use std::os::unix::fs::MetadataExt;
    let nanoseconds = |seconds: i64, nanoseconds: i64| {
        seconds
            .wrapping_mul(1_000_000_000)
            .wrapping_add(nanoseconds) as u64
    };
    Some(tag(&[
        metadata.ino(),
        metadata.len(),
        nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
        nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
    ]))
}

/// The version of a file: length, and the times of its creation and last write.
#[cfg(windows)]
fn version_of(metadata: &Metadata) -> Option<EntityTag> {
    use std::os::windows::fs::MetadataExt;
    Some(tag(&[
        metadata.file_size(),
        metadata.last_write_time(),
        metadata.creation_time(),
    ]))
}

/// Elsewhere nothing finer than a time is known, and that is no strong validator.
#[cfg(not(any(unix, windows)))]
fn version_of(_: &Metadata) -> Option<EntityTag> {
    None
}

/// Reads at a position, without disturbing whoever else uses the file.
#[cfg(unix)]
pub(crate) fn read_at(file: &File, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buf, offset)
}

/// Reads at a position. The call moves the file's cursor, which nobody here uses.
#[cfg(windows)]
pub(crate) fn read_at(file: &File, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, buf, offset)
}

/// Where the platform has no positional reads there are no files either.
#[cfg(not(any(unix, windows)))]
pub(crate) fn read_at(_: &File, _: u64, _: &mut [u8]) -> io::Result<usize> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Writes all of `bytes` at a position.
#[cfg(unix)]
pub(crate) fn write_at(file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
}

/// Writes all of `bytes` at a position.
#[cfg(windows)]
pub(crate) fn write_at(file: &File, mut offset: u64, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let n = std::os::windows::fs::FileExt::seek_write(file, bytes, offset)?;
        if n == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        offset += n as u64;
        bytes = &bytes[n..];
    }
    Ok(())
}

/// Where the platform has no positional writes there are no files either.
#[cfg(not(any(unix, windows)))]
pub(crate) fn write_at(_: &File, _: u64, _: &[u8]) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(source: &dyn ByteSource, step: usize) -> Vec<u8> {
        let mut all = Vec::new();
        let mut buf = vec![0; step];
        loop {
            match source.read_at(all.len() as u64, &mut buf).unwrap() {
                0 => return all,
                n => all.extend_from_slice(&buf[..n]),
            }
        }
    }

    #[test]
    fn bytes() {
        let source = BytesSource::new(b"0123456789".to_vec());
        assert_eq!(source.len(), Some(10));
        assert!(!source.is_empty());
        assert_eq!(read_all(&source, 3), b"0123456789");
        for offset in [10, 11, u64::MAX] {
            assert_eq!(source.read_at(offset, &mut [0; 4]).unwrap(), 0);
        }
        assert!(BytesSource::new(vec![]).is_empty());
    }

    #[test]
    fn the_tag_of_bytes_follows_from_them() {
        let tag = |bytes: &[u8]| BytesSource::new(bytes.to_vec()).entity_tag().unwrap();
        assert_eq!(tag(b"a"), tag(b"a"));
        assert_ne!(tag(b"a"), tag(b"b"));
        assert_ne!(tag(b""), tag(b"\0"));
        let given = EntityTag::strong("v1").unwrap();
        let source = BytesSource::new(vec![]).with_entity_tag(given);
        assert_eq!(source.metadata().entity_tag, Some(given));
    }

    #[test]
    fn a_file_and_its_versions() {
        let path =
            std::env::temp_dir().join(format!("peer-net-source-{}.FLAC", std::process::id()));
        std::fs::write(&path, b"0123456789").unwrap();
        let source = FileSource::open(&path).unwrap();
        assert_eq!(source.content_type(), Some("audio/flac"));
        assert_eq!(source.len(), Some(10));
        assert_eq!(read_all(&source, 4), b"0123456789");
        let before = source.metadata();
        assert_eq!(before, source.metadata());
        assert!(before.entity_tag.is_some() && before.last_modified.is_some());
        std::fs::write(&path, b"012345678").unwrap();
        assert_eq!(source.len(), Some(9));
        assert_ne!(source.entity_tag(), before.entity_tag);
        // Windows keeps the name for as long as the file is open.
        drop(source);
        std::fs::remove_file(&path).unwrap();
        assert!(FileSource::open(&path).is_err());
    }

    #[test]
    fn only_regular_files() {
        let error = FileSource::open(std::env::temp_dir()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}
