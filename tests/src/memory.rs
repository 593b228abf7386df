//! Connections in memory, and faults on demand: the drivers run over a [`Stream`], so a test can
//! have any of its calls fail, come short or take too long, without a network.

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use peer_net::stream::Stream;

/// A call that can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// [`Stream::read`].
    Read,
    /// [`Stream::write`].
    Write,
    /// [`Stream::set_read_timeout`].
    SetReadTimeout,
    /// [`Stream::set_write_timeout`].
    SetWriteTimeout,
    /// [`Stream::shutdown_write`].
    ShutdownWrite,
    /// The app's resolver.
    Resolve,
    /// What a source says of itself.
    Metadata,
    /// `ByteSource::read_at`.
    SourceRead,
}

/// What happens to a call that is struck.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It fails with an error of this kind.
    Error(io::ErrorKind),
    /// It moves one byte, however much was asked for.
    Short,
    /// It panics. For the app's calls; a stream is ours, and fails with a reset instead.
    Panic,
}

/// Strikes one call of a session: the one with this number, counted from zero over all calls.
#[derive(Debug)]
pub struct Faults {
    at: u64,
    fault: Fault,
    calls: AtomicU64,
    struck: Mutex<Option<Call>>,
}

impl Faults {
    /// Strikes call number `at` with `fault`.
    #[must_use]
    pub fn at(at: u64, fault: Fault) -> Arc<Self> {
        Arc::new(Self {
            at,
            fault,
            calls: AtomicU64::new(0),
            struck: Mutex::new(None),
        })
    }

    /// Strikes nothing, and counts.
    #[must_use]
    pub fn none() -> Arc<Self> {
        Self::at(u64::MAX, Fault::Short)
    }

    /// Counts a call, and says what shall happen to it.
    pub fn strike(&self, call: Call) -> Option<Fault> {
        if self.calls.fetch_add(1, Ordering::SeqCst) != self.at {
            return None;
        }
        *lock(&self.struck) = Some(call);
        Some(self.fault)
    }

    /// The call that was struck; `None` when the session was over before.
    #[must_use]
    pub fn struck(&self) -> Option<Call> {
        *lock(&self.struck)
    }

    /// Calls so far.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }

    /// Strikes a call of the app's: an error is returned, a panic is one. `true`: come short.
    ///
    /// # Errors
    /// The fault's.
    ///
    /// # Panics
    /// When that is the fault.
    pub fn strike_app(&self, call: Call) -> io::Result<bool> {
        match self.strike(call) {
            None => Ok(false),
            Some(Fault::Short) => Ok(true),
            Some(Fault::Error(kind)) => Err(kind.into()),
            Some(Fault::Panic) => panic!("struck on purpose"),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One direction of a connection.
#[derive(Debug, Default)]
struct Pipe {
    state: Mutex<PipeState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct PipeState {
    bytes: VecDeque<u8>,
    /// No more bytes will come.
    ended: bool,
    /// Nobody reads any more.
    broken: bool,
}

impl Pipe {
    fn change(&self, change: impl FnOnce(&mut PipeState)) {
        change(&mut lock(&self.state));
        self.changed.notify_all();
    }

    /// Waits until `ready` gives something, at most for `timeout`.
    fn wait<T>(
        &self,
        timeout: Option<Duration>,
        mut ready: impl FnMut(&mut PipeState) -> Option<T>,
    ) -> io::Result<T> {
        let until = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut state = lock(&self.state);
        loop {
            if let Some(result) = ready(&mut state) {
                drop(state);
                self.changed.notify_all();
                return Ok(result);
            }
            state = match until {
                None => self
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(until) => {
                    let left = until.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Err(io::ErrorKind::WouldBlock.into());
                    }
                    let waited = self.changed.wait_timeout(state, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }
}

/// One end of a connection in memory. Dropping it hangs up.
#[derive(Debug)]
pub struct MemoryStream {
    incoming: Arc<Pipe>,
    outgoing: Arc<Pipe>,
    /// Bytes that may be on their way; a writer waits beyond them, as for a socket's buffer.
    capacity: usize,
    read_timeout: Mutex<Option<Duration>>,
    write_timeout: Mutex<Option<Duration>>,
    faults: Arc<Faults>,
}

/// The two ends of a connection, each direction with room for `capacity` bytes. The calls of the
/// first end are counted, and struck, by `faults`.
#[must_use]
pub fn pair(capacity: usize, faults: &Arc<Faults>) -> (MemoryStream, MemoryStream) {
    let (there, back) = (Arc::new(Pipe::default()), Arc::new(Pipe::default()));
    let end = |incoming: &Arc<Pipe>, outgoing: &Arc<Pipe>, faults: &Arc<Faults>| MemoryStream {
        incoming: Arc::clone(incoming),
        outgoing: Arc::clone(outgoing),
        capacity: capacity.max(1),
        read_timeout: Mutex::new(None),
        write_timeout: Mutex::new(None),
        faults: Arc::clone(faults),
    };
    (
        end(&there, &back, faults),
        end(&back, &there, &Faults::none()),
    )
}

impl MemoryStream {
    /// The struck call's fate: an error, or how many bytes at most.
    fn limit(&self, call: Call, len: usize) -> io::Result<usize> {
        match self.faults.strike(call) {
            None => Ok(len),
            Some(Fault::Short) => Ok(len.min(1)),
            Some(Fault::Error(kind)) => Err(kind.into()),
            Some(Fault::Panic) => Err(io::ErrorKind::ConnectionReset.into()),
        }
    }

    /// Writes all of `bytes`.
    ///
    /// # Errors
    /// As [`Stream::write`].
    pub fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.write(bytes) {
                Ok(n) => bytes = &bytes[n..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads to the end of the peer's half.
    ///
    /// # Errors
    /// As [`Stream::read`].
    pub fn read_to_end(&self) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        let mut block = [0; 4096];
        loop {
            match self.read(&mut block)? {
                0 => return Ok(all),
                n => all.extend_from_slice(&block[..n]),
            }
        }
    }
}

impl Stream for MemoryStream {
    fn read(&self, buf: &mut [u8]) -> io::Result<usize> {
        let len = self.limit(Call::Read, buf.len())?;
        let timeout = *lock(&self.read_timeout);
        self.incoming.wait(timeout, |state| {
            if state.broken {
                return Some(0);
            }
            let n = len.min(state.bytes.len());
            for (to, from) in buf.iter_mut().zip(state.bytes.drain(..n)) {
                *to = from;
            }
            (n > 0 || state.ended || len == 0).then_some(n)
        })
    }

    fn write(&self, buf: &[u8]) -> io::Result<usize> {
        let len = self.limit(Call::Write, buf.len())?;
        let timeout = *lock(&self.write_timeout);
        let sent = self.outgoing.wait(timeout, |state| {
            if state.broken || state.ended {
                return Some(None);
            }
            let n = len.min(self.capacity.saturating_sub(state.bytes.len()));
            state.bytes.extend(&buf[..n]);
            (n > 0 || len == 0).then_some(Some(n))
        })?;
        sent.ok_or_else(|| io::ErrorKind::BrokenPipe.into())
    }

    fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.limit(Call::SetReadTimeout, 0)?;
        assert_ne!(timeout, Some(Duration::ZERO), "no socket takes this");
        *lock(&self.read_timeout) = timeout;
        Ok(())
    }

    fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.limit(Call::SetWriteTimeout, 0)?;
        assert_ne!(timeout, Some(Duration::ZERO), "no socket takes this");
        *lock(&self.write_timeout) = timeout;
        Ok(())
    }

    fn shutdown_write(&self) -> io::Result<()> {
        self.limit(Call::ShutdownWrite, 0)?;
        self.outgoing.change(|state| state.ended = true);
        Ok(())
    }

    fn hang_up(&self) {
        self.incoming.change(|state| {
            state.broken = true;
            state.bytes.clear();
        });
        self.outgoing.change(|state| state.ended = true);
    }
}

impl Drop for MemoryStream {
    fn drop(&mut self) {
        self.hang_up();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::thread;

    use super::*;

    #[test]
    fn bytes_pass_and_end() {
        let (a, b) = pair(3, &Faults::none());
        thread::scope(|scope| {
            scope.spawn(|| {
                a.write_all(b"0123456789").unwrap();
                a.shutdown_write().unwrap();
            });
            assert_eq!(b.read_to_end().unwrap(), b"0123456789");
        });
        b.write_all(b"x").unwrap();
        assert_eq!(a.read(&mut [0; 4]).unwrap(), 1);
    }

    #[test]
    fn a_hang_up_wakes_both_ends() {
        let (a, b) = pair(1, &Faults::none());
        // Nobody writes to who reads here: a byte could be there before the hang-up.
        let (reader, quiet) = pair(1, &Faults::none());
        thread::scope(|scope| {
            let reads = scope.spawn(|| reader.read(&mut [0; 1]).unwrap());
            let writes = scope.spawn(|| b.write_all(b"long").unwrap_err().kind());
            quiet.hang_up();
            a.hang_up();
            assert_eq!(reads.join().unwrap(), 0);
            assert_eq!(writes.join().unwrap(), io::ErrorKind::BrokenPipe);
        });
        assert_eq!(b.read(&mut [0; 1]).unwrap(), 0);
        assert_eq!(a.write(b"x").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn timeouts_hold() {
        let (a, _b) = pair(1, &Faults::none());
        a.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        a.set_write_timeout(Some(Duration::from_millis(1))).unwrap();
        let blocked = io::ErrorKind::WouldBlock;
        assert_eq!(a.read(&mut [0; 1]).unwrap_err().kind(), blocked);
        assert_eq!(a.write(b"xy").unwrap(), 1);
        assert_eq!(a.write(b"y").unwrap_err().kind(), blocked);
    }

    #[test]
    fn one_call_is_struck() {
        let faults = Faults::at(1, Fault::Error(io::ErrorKind::Interrupted));
        let (a, b) = pair(8, &faults);
        assert_eq!(a.write(b"x").unwrap(), 1);
        assert_eq!(
            a.write(b"y").unwrap_err().kind(),
            io::ErrorKind::Interrupted
        );
        assert_eq!(a.write(b"z").unwrap(), 1);
        assert_eq!(b.read(&mut [0; 8]).unwrap(), 2);
        assert_eq!((faults.struck(), faults.calls()), (Some(Call::Write), 3));
    }
}
