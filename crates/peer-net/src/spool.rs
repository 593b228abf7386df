//! A source made of a stream that can be read once, and from its start only.

use std::{
    fs::{File, OpenOptions},
    hash::{BuildHasher, Hasher, RandomState},
    io::{self, Read},
    sync::{Arc, PoisonError},
    thread,
};

use peer_proto::EntityTag;

use crate::{
    callback::call,
    service::lock,
    source::{ByteSource, write_at},
    sync::{AtomicBool, Condvar, Mutex, Ordering},
};

/// Bytes kept in memory before the rest goes to a file.
pub const SPOOL_MEMORY_BYTES: usize = 4 << 20;

/// Bytes read from the stream at a time.
const STEP_BYTES: usize = 64 * 1024;

/// Any [`Read`], such as a pipe or a `content://` stream that cannot seek, as a [`ByteSource`].
///
/// One thread reads the stream to its end and keeps what it read: in memory up to a cap, and from
/// there on in a temporary file without a name. Any number of transfers read what is there, and
/// wait for what is on its way. Until the stream has ended its length is unknown, unless it was
/// given.
///
/// A stream that fails, fails every reader that gets that far; what came before is still served.
/// Dropping the source ends its thread as soon as the stream's current read returns.
#[derive(Debug)]
pub struct SpoolSource {
    shared: Arc<Shared>,
    content_type: Option<String>,
    entity_tag: EntityTag,
    len: Option<u64>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    abandoned: AtomicBool,
    memory_max: usize,
}

#[derive(Debug, Default)]
struct State {
    memory: Vec<u8>,
    /// What came behind `memory`, from offset 0 of the file on.
    file: Option<Arc<File>>,
    file_len: u64,
    end: Option<End>,
}

#[derive(Clone, Debug)]
enum End {
    Complete,
    /// An `io::Error` cannot be cloned for every reader, so its kind and text are kept.
    Failed(io::ErrorKind, String),
}

impl State {
    fn len(&self) -> u64 {
        self.memory.len() as u64 + self.file_len
    }
}

impl SpoolSource {
    /// Starts reading `stream`, keeping up to [`SPOOL_MEMORY_BYTES`] of it in memory.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn new(stream: impl Read + Send + 'static) -> io::Result<Self> {
        Self::with_memory(stream, SPOOL_MEMORY_BYTES)
    }

    /// Starts reading `stream`, keeping up to `memory_max` bytes of it in memory.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn with_memory(stream: impl Read + Send + 'static, memory_max: usize) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
            abandoned: AtomicBool::new(false),
            memory_max,
        });
        let producer = Arc::clone(&shared);
        let thread = thread::Builder::new().name("peer-spool".into());
        thread.spawn(move || producer.run(stream))?;
        let random = || RandomState::new().build_hasher().finish();
        let tag = format!("spool-{:016x}{:016x}", random(), random());
        let entity_tag = EntityTag::strong(tag).expect("38 visible characters are a tag");
        Ok(Self {
            shared,
            content_type: None,
            entity_tag,
            len: None,
        })
    }

    /// Gives it a media type.
    #[must_use]
    pub fn with_content_type(mut self, content_type: impl Into<String>) -> Self {
        self.content_type = Some(content_type.into());
        self
    }

    /// Says how many bytes the stream has, so that ranges can be served before it has ended. A
    /// stream that turns out shorter fails the transfers that miss the rest; what it has beyond is
    /// not served.
    #[must_use]
    pub const fn with_len(mut self, len: u64) -> Self {
        self.len = Some(len);
        self
    }
}

impl Drop for SpoolSource {
    fn drop(&mut self) {
        self.shared.abandoned.store(true, Ordering::Relaxed);
    }
}

impl ByteSource for SpoolSource {
    fn len(&self) -> Option<u64> {
        let state = lock(&self.shared.state);
        self.len
            .or_else(|| matches!(state.end, Some(End::Complete)).then(|| state.len()))
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let limit = self.len.map_or(u64::MAX, |len| len.saturating_sub(offset));
        let room = usize::try_from(limit).unwrap_or(usize::MAX).min(buf.len());
        let buf = &mut buf[..room];
        if buf.is_empty() {
            return Ok(0);
        }
        let mut state = lock(&self.shared.state);
        while state.len() <= offset {
            match &state.end {
                Some(End::Complete) => return Ok(0),
                Some(End::Failed(kind, text)) => return Err(io::Error::new(*kind, text.clone())),
                None => {}
            }
            let waited = self.shared.changed.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
        let memory_len = state.memory.len() as u64;
        if let Ok(at) = usize::try_from(offset) {
            if let Some(rest) = state.memory.get(at..).filter(|rest| !rest.is_empty()) {
                let len = rest.len().min(buf.len());
                buf[..len].copy_from_slice(&rest[..len]);
                return Ok(len);
            }
        }
        let available = state.len() - offset;
        let Some(file) = state.file.clone() else {
            return Ok(0);
        };
        drop(state);
        let len = usize::try_from(available)
            .unwrap_or(usize::MAX)
            .min(buf.len());
        crate::source::read_at(&file, offset - memory_len, &mut buf[..len])
    }

    fn content_type(&self) -> Option<&str> {
        self.content_type.as_deref()
    }

    fn entity_tag(&self) -> Option<EntityTag> {
        Some(self.entity_tag)
    }
}

impl Shared {
    /// The producer's thread: to the stream's end, its failure, or nobody's interest.
    fn run(&self, stream: impl Read) {
        // The stream is the app's: it may panic, in its destructor too.
        let end = call(|| self.spool(stream))
            .unwrap_or_else(|_| Err(io::Error::other("the stream panicked")));
        let end = match end {
            Ok(()) => End::Complete,
            Err(error) => End::Failed(error.kind(), error.to_string()),
        };
        lock(&self.state).end = Some(end);
        self.changed.notify_all();
    }

    fn spool(&self, mut stream: impl Read) -> io::Result<()> {
        let mut step = vec![0; STEP_BYTES];
        while !self.abandoned.load(Ordering::Relaxed) {
            let n = match stream.read(&mut step) {
                Ok(0) => return Ok(()),
                Ok(n) if n <= step.len() => n,
                Ok(_) => {
                    return Err(io::Error::other(
                        "the stream claims more bytes than there was room for",
                    ));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            self.append(&step[..n])?;
            self.changed.notify_all();
        }
        Err(io::Error::other("the source was dropped"))
    }

    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        let (file, file_len) = {
            let mut state = lock(&self.state);
            if state.file.is_none() {
                let room = self.memory_max - state.memory.len();
                let (kept, rest) = bytes.split_at(room.min(bytes.len()));
                // Memory that cannot be had is an error for the readers, not the end of the app.
                state.memory.try_reserve(kept.len())?;
                state.memory.extend_from_slice(kept);
                if rest.is_empty() {
                    return Ok(());
                }
                let file = Arc::new(nameless_file()?);
                write_at(&file, 0, rest)?;
                state.file = Some(file);
                state.file_len = rest.len() as u64;
                return Ok(());
            }
            (state.file.clone(), state.file_len)
        };
        // Written without the lock: readers see the bytes only once they are there.
        if let Some(file) = file {
            write_at(&file, file_len, bytes)?;
            lock(&self.state).file_len = file_len + bytes.len() as u64;
        }
        Ok(())
    }
}

/// A new temporary file that vanishes with its last handle.
fn nameless_file() -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    #[cfg(windows)]
    {
        use std::os::windows::fs::OpenOptionsExt;
        const FILE_FLAG_DELETE_ON_CLOSE: u32 = 0x0400_0000;
        options
            .share_mode(0)
            .custom_flags(FILE_FLAG_DELETE_ON_CLOSE);
    }
    let random = RandomState::new().build_hasher().finish();
    let path = std::env::temp_dir().join(format!("peer-spool-{random:016x}"));
    let file = options.open(&path)?;
    // On Windows closing does it, and an open file cannot be removed.
    #[cfg(not(windows))]
    std::fs::remove_file(&path)?;
    Ok(file)
}

#[cfg(all(test, peer_models))]
mod models;

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, Sender, channel};

    /// A stream that yields what it is sent, and ends when the sender is gone.
    struct Piped(Receiver<io::Result<Vec<u8>>>);

    impl Read for Piped {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            let Ok(bytes) = self.0.recv() else {
                return Ok(0);
            };
            let bytes = bytes?;
            buf[..bytes.len()].copy_from_slice(&bytes);
            Ok(bytes.len())
        }
    }

    fn piped() -> (Sender<io::Result<Vec<u8>>>, Piped) {
        let (sender, receiver) = channel();
        (sender, Piped(receiver))
    }

    fn read_exact(source: &SpoolSource, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        while all.len() < len {
            let mut buf = vec![0; len - all.len()];
            match source.read_at(offset + all.len() as u64, &mut buf)? {
                0 => break,
                n => all.extend_from_slice(&buf[..n]),
            }
        }
        Ok(all)
    }

    #[test]
    fn memory_then_file_and_many_readers() {
        let content: Vec<u8> = (0..300_000u32).map(|n| (n % 251) as u8).collect();
        let source = SpoolSource::with_memory(io::Cursor::new(content.clone()), 1000).unwrap();
        thread::scope(|scope| {
            for start in [0, 1, 999, 1000, 1001, 65_536, 299_999] {
                let (source, content) = (&source, &content);
                scope.spawn(move || {
                    let got = read_exact(source, start as u64, content.len() - start).unwrap();
                    assert!(got == content[start..], "from {start}");
                });
            }
        });
        assert_eq!(read_exact(&source, 300_000, 1).unwrap(), b"");
        assert_eq!(source.len(), Some(300_000));
    }

    #[test]
    fn readers_wait_for_what_is_on_its_way() {
        let (sender, stream) = piped();
        let source = SpoolSource::new(stream).unwrap();
        sender.send(Ok(b"ab".to_vec())).unwrap();
        assert_eq!(read_exact(&source, 0, 2).unwrap(), b"ab");
        assert_eq!(source.len(), None);
        thread::scope(|scope| {
            let reader = scope.spawn(|| read_exact(&source, 3, 1).unwrap());
            sender.send(Ok(b"cd".to_vec())).unwrap();
            assert_eq!(reader.join().unwrap(), b"d");
        });
        drop(sender);
        assert_eq!(read_exact(&source, 4, 1).unwrap(), b"");
        assert_eq!(source.len(), Some(4));
    }

    #[test]
    fn a_failure_reaches_every_reader_that_gets_there() {
        let (sender, stream) = piped();
        let source = SpoolSource::new(stream).unwrap().with_len(10);
        assert_eq!(source.len(), Some(10));
        sender.send(Ok(b"ab".to_vec())).unwrap();
        sender.send(Err(io::ErrorKind::BrokenPipe.into())).unwrap();
        for _ in 0..2 {
            let error = source.read_at(2, &mut [0]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
            assert_eq!(read_exact(&source, 0, 2).unwrap(), b"ab");
        }
    }

    #[test]
    fn a_given_length_bounds_it() {
        let source = SpoolSource::new(&b"0123456789"[..]).unwrap().with_len(4);
        assert_eq!(read_exact(&source, 2, 8).unwrap(), b"23");
        assert_eq!(source.read_at(4, &mut [0; 4]).unwrap(), 0);
    }

    #[test]
    fn a_panicking_stream_is_a_failure() {
        struct Panics;
        impl Read for Panics {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                panic!("the stream's own fault")
            }
        }
        let source = SpoolSource::new(Panics).unwrap();
        assert!(source.read_at(0, &mut [0]).is_err());
    }
}
