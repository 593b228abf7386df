//! Carries out one [`Fetch`] over one connection.

use std::{
    io::{self, Write},
    time::Instant,
};

use peer_core::fetch::{Fetch, FetchDone, FetchError, FetchOutput};

use crate::{
    cancel::{Cancel, Cancelled},
    client_connect::{Connection, Moved},
    error::{PeerError, Phase},
    progress::{Progress, ProgressState},
};

/// Bytes received in one read, and written in one write.
const BLOCK_BYTES: usize = 256 * 1024;

/// Where content goes.
pub(crate) trait Sink {
    /// Whether it takes content now. One that does not makes the driver leave off.
    fn wants(&self) -> bool {
        true
    }

    /// Room for content to be received into, at least one byte, when at most `max` will come.
    fn room(&mut self, max: u64) -> io::Result<&mut [u8]>;

    /// States that the first `n` bytes of the room are content.
    fn filled(&mut self, n: usize) -> io::Result<()>;

    /// Takes content that is already somewhere: at least one byte of it. Returns how many.
    fn put(&mut self, content: &[u8]) -> io::Result<usize>;
}

/// Why an exchange ended without its fetch being done.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The answer, or the lack of one.
    Fetch(FetchError),
    /// The network.
    Network(Phase, io::Error),
    /// The destination.
    Sink(io::Error),
    /// The caller wants no more of it.
    Cancelled,
}

impl From<Cancelled> for Failure {
    fn from(Cancelled: Cancelled) -> Self {
        Self::Cancelled
    }
}

impl PeerError {
    pub(crate) fn of_failure(failure: Failure) -> Self {
        match failure {
            Failure::Fetch(error) => Self::of_fetch(error),
            Failure::Network(phase, source) => Self::network(phase, source),
            Failure::Sink(error) => Self::Io(error),
            Failure::Cancelled => Self::Cancelled,
        }
    }
}

/// Who looks on.
#[derive(Clone, Copy, Default)]
pub(crate) struct Hooks<'a> {
    pub(crate) cancel: Option<&'a Cancel>,
    pub(crate) progress: Option<&'a Progress>,
}

impl Hooks<'_> {
    pub(crate) fn enter(&self, state: ProgressState) {
        if let Some(progress) = self.progress {
            progress.enter(state);
        }
    }
}

/// Runs `fetch` to its end, or until there is content that the sink does not want yet: `None`.
pub(crate) fn exchange(
    fetch: &mut Fetch,
    connection: &mut Connection,
    sink: &mut dyn Sink,
    hooks: Hooks<'_>,
) -> Result<Option<FetchDone>, Failure> {
    let stream = std::sync::Arc::clone(connection.stream());
    let watch = hooks.cancel.map(|cancel| cancel.watch(&stream));
    let _watch = watch.transpose()?;
    if fetch.answer().is_none() {
        hooks.enter(ProgressState::Waiting);
    }
    fetch.handle_resumed(Instant::now());
    let result = drive(fetch, connection, sink, hooks);
    // Whatever a hung up stream reported was the switch.
    if hooks.cancel.is_some_and(Cancel::is_cancelled) {
        return Err(Failure::Cancelled);
    }
    result
}

fn drive(
    fetch: &mut Fetch,
    connection: &mut Connection,
    sink: &mut dyn Sink,
    hooks: Hooks<'_>,
) -> Result<Option<FetchDone>, Failure> {
    let mut now = Instant::now();
    let received = |now: Instant, n: usize| {
        if let Some(progress) = hooks.progress {
            progress.received(now, n as u64);
        }
    };
    let mut begun = fetch.answer().is_some();
    loop {
        if hooks.cancel.is_some_and(Cancel::is_cancelled) {
            return Err(Failure::Cancelled);
        }
        if let (false, Some(answer)) = (begun, fetch.answer()) {
            begun = true;
            if let Some(progress) = hooks.progress {
                progress.receiving(answer.expected);
            }
        }
        let deadline = fetch.poll_timeout();
        if deadline.is_some_and(|deadline| now >= deadline) {
            fetch.handle_timeout(now);
        }
        match fetch.poll_output() {
            FetchOutput::Send { bytes } => {
                let moved = connection.write(bytes, now, deadline);
                now = Instant::now();
                match moved.map_err(|error| Failure::Network(Phase::Send, error))? {
                    Moved::Bytes(n) => fetch.handle_sent(now, n),
                    Moved::TimedOut => {}
                }
            }
            FetchOutput::Receive => {
                let phase = phase(fetch);
                let moved = connection.read(fetch.receive_buffer(), now, deadline);
                now = Instant::now();
                match moved.map_err(|error| Failure::Network(phase, error))? {
                    Moved::Bytes(0) => fetch.handle_eof(now),
                    Moved::Bytes(n) => fetch.handle_received(now, n),
                    Moved::TimedOut => {}
                }
            }
            FetchOutput::Content { .. } | FetchOutput::ReceiveContent { .. } if !sink.wants() => {
                return Ok(None);
            }
            FetchOutput::Content { bytes } => {
                let n = sink.put(bytes).map_err(Failure::Sink)?;
                now = Instant::now();
                fetch.handle_content(now, n as u64);
                received(now, n);
            }
            FetchOutput::ReceiveContent { max } => {
                let room = sink.room(max).map_err(Failure::Sink)?;
                let moved = connection.read(room, now, deadline);
                match moved.map_err(|error| Failure::Network(Phase::Content, error))? {
                    Moved::Bytes(0) => {
                        now = Instant::now();
                        fetch.handle_eof(now);
                    }
                    Moved::Bytes(n) => {
                        sink.filled(n).map_err(Failure::Sink)?;
                        // The destination may have taken its time, which is not the peer's.
                        now = Instant::now();
                        fetch.handle_content(now, n as u64);
                        received(now, n);
                    }
                    Moved::TimedOut => now = Instant::now(),
                }
            }
            FetchOutput::ReceiveSkipped { max } => {
                // Nothing is kept, so the empty head buffer will do.
                let room = at_most(fetch.receive_buffer(), max);
                let moved = connection.read(room, now, deadline);
                now = Instant::now();
                match moved.map_err(|error| Failure::Network(Phase::Content, error))? {
                    Moved::Bytes(0) => fetch.handle_eof(now),
                    Moved::Bytes(n) => fetch.handle_content(now, n as u64),
                    Moved::TimedOut => {}
                }
            }
            FetchOutput::Done(done) => return Ok(Some(done)),
            FetchOutput::Failed(error) => return Err(Failure::Fetch(error)),
        }
    }
}

fn phase(fetch: &Fetch) -> Phase {
    match fetch.answer() {
        Some(_) => Phase::Content,
        None => Phase::Head,
    }
}

fn at_most(buf: &mut [u8], max: u64) -> &mut [u8] {
    let len = usize::try_from(max).map_or(buf.len(), |max| buf.len().min(max));
    &mut buf[..len]
}

/// Collects content in memory, which grows as bytes come and not as a peer announces them.
#[derive(Debug, Default)]
pub(crate) struct BytesSink {
    bytes: Vec<u8>,
    len: usize,
}

impl BytesSink {
    pub(crate) fn into_bytes(mut self) -> Vec<u8> {
        self.bytes.truncate(self.len);
        self.bytes
    }

    /// Makes room for `more` bytes behind the content, `max` of which may come.
    fn reserve(&mut self, more: usize, max: u64) -> io::Result<()> {
        let needed = self.len.checked_add(more);
        let needed = needed.ok_or(io::ErrorKind::OutOfMemory)?;
        if needed > self.bytes.capacity() {
            // Twofold growth, or less where the end is nearer than that.
            let max = usize::try_from(max).unwrap_or(usize::MAX);
            let step = self.len.max(more).min(max.max(more));
            let wanted = self.len.saturating_add(step) - self.bytes.len();
            self.bytes.try_reserve_exact(wanted)?;
        }
        if needed > self.bytes.len() {
            self.bytes.resize(needed, 0);
        }
        Ok(())
    }
}

impl Sink for BytesSink {
    fn room(&mut self, max: u64) -> io::Result<&mut [u8]> {
        let block = usize::try_from(max).map_or(BLOCK_BYTES, |max| max.min(BLOCK_BYTES));
        self.reserve(block, max)?;
        Ok(&mut self.bytes[self.len..self.len + block])
    }

    fn filled(&mut self, n: usize) -> io::Result<()> {
        self.len += n;
        Ok(())
    }

    fn put(&mut self, content: &[u8]) -> io::Result<usize> {
        self.reserve(content.len(), content.len() as u64)?;
        self.bytes[self.len..self.len + content.len()].copy_from_slice(content);
        self.len += content.len();
        Ok(content.len())
    }
}

/// Hands content to a writer, block by block, out of one block.
pub(crate) struct WriterSink<'a> {
    writer: &'a mut dyn Write,
    block: Vec<u8>,
}

impl<'a> WriterSink<'a> {
    pub(crate) const fn new(writer: &'a mut dyn Write) -> Self {
        Self {
            writer,
            block: Vec::new(),
        }
    }
}

impl Sink for WriterSink<'_> {
    fn room(&mut self, max: u64) -> io::Result<&mut [u8]> {
        let len = usize::try_from(max).map_or(BLOCK_BYTES, |max| max.min(BLOCK_BYTES));
        if self.block.len() < len {
            self.block.resize(len, 0);
        }
        Ok(&mut self.block[..len])
    }

    fn filled(&mut self, n: usize) -> io::Result<()> {
        self.writer.write_all(&self.block[..n])
    }

    fn put(&mut self, content: &[u8]) -> io::Result<usize> {
        self.writer.write_all(content)?;
        Ok(content.len())
    }
}

/// Takes no content, for now or because there is none to come.
pub(crate) struct NoSink;

impl Sink for NoSink {
    fn wants(&self) -> bool {
        false
    }

    fn room(&mut self, _max: u64) -> io::Result<&mut [u8]> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn filled(&mut self, _n: usize) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn put(&mut self, _content: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Fills one block, and then wants no more.
pub(crate) struct BlockSink<'a> {
    pub(crate) block: &'a mut [u8],
    pub(crate) len: usize,
}

impl Sink for BlockSink<'_> {
    fn wants(&self) -> bool {
        self.len < self.block.len()
    }

    fn room(&mut self, max: u64) -> io::Result<&mut [u8]> {
        Ok(at_most(&mut self.block[self.len..], max))
    }

    fn filled(&mut self, n: usize) -> io::Result<()> {
        self.len += n;
        Ok(())
    }

    fn put(&mut self, content: &[u8]) -> io::Result<usize> {
        let room = at_most(&mut self.block[self.len..], content.len() as u64);
        room.copy_from_slice(&content[..room.len()]);
        let n = room.len();
        self.len += n;
        Ok(n)
    }
}

/// Takes what comes at a time, and then wants no more.
pub(crate) struct PieceSink<'a> {
    pub(crate) room: &'a mut [u8],
    pub(crate) len: usize,
}

impl Sink for PieceSink<'_> {
    fn wants(&self) -> bool {
        self.len == 0
    }

    fn room(&mut self, max: u64) -> io::Result<&mut [u8]> {
        Ok(at_most(self.room, max))
    }

    fn filled(&mut self, n: usize) -> io::Result<()> {
        self.len = n;
        Ok(())
    }

    fn put(&mut self, content: &[u8]) -> io::Result<usize> {
        let room = at_most(self.room, content.len() as u64);
        room.copy_from_slice(&content[..room.len()]);
        self.len = room.len();
        Ok(self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_grows_with_what_comes() {
        let mut sink = BytesSink::default();
        sink.put(b"head").unwrap();
        let room = sink.room(u64::MAX).unwrap();
        room[..3].copy_from_slice(b"abc");
        sink.filled(3).unwrap();
        assert!(sink.bytes.capacity() <= 2 * BLOCK_BYTES);
        for _ in 0..100 {
            let n = sink.room(u64::MAX).unwrap().len();
            sink.filled(n).unwrap();
        }
        assert!(sink.bytes.capacity() <= 2 * sink.len + BLOCK_BYTES);
        sink.room(1).unwrap()[0] = b'z';
        sink.filled(1).unwrap();
        let bytes = sink.into_bytes();
        assert_eq!(bytes.len(), 7 + 100 * BLOCK_BYTES + 1);
        assert!(bytes.starts_with(b"headabc") && bytes.ends_with(b"z"));
    }

    #[test]
    fn a_known_length_is_not_exceeded() {
        let mut sink = BytesSink::default();
        let mut left = 3 * BLOCK_BYTES + 5;
        while left > 0 {
            let n = sink.room(left as u64).unwrap().len();
            sink.filled(n).unwrap();
            left -= n;
        }
        assert_eq!(sink.bytes.capacity(), 3 * BLOCK_BYTES + 5);
    }
}
