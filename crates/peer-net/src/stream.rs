//! What the drivers need of a connection.

use std::{
    fs::File,
    io::{self, Read, Write},
    net::{Shutdown, TcpStream},
    thread,
    time::{Duration, Instant},
};

/// A byte stream between two peers: what the server's and the client's drivers run over.
///
/// Shipped for [`TcpStream`]; tests run the same drivers over an in-memory pair with faults, and
/// an encrypted stream could stand here. All methods take `&self`, so that a connection can be
/// hung up by one thread while another one is blocked in it.
///
/// There is no vectored write on purpose: on Linux it raises SIGPIPE where `write` does not, and
/// that kills a host app that did not ask to ignore it.
pub trait Stream: Send + Sync {
    /// Receives into `buf`; 0 is the end of the peer's half.
    ///
    /// # Errors
    /// As [`Read::read`]; [`io::ErrorKind::WouldBlock`] or [`io::ErrorKind::TimedOut`] when the
    /// read timeout ran out.
    fn read(&self, buf: &mut [u8]) -> io::Result<usize>;

    /// Sends a part of `buf`, at least one byte.
    ///
    /// # Errors
    /// As [`Write::write`]; a timeout as for [`read`](Self::read), only when nothing was sent.
    fn write(&self, buf: &[u8]) -> io::Result<usize>;

    /// Sends a part of `file`, at most `len` bytes of it from `offset` on; 0 is the file's end. The
    /// write timeout holds. Provided: [`io::ErrorKind::Unsupported`], after which the caller reads
    /// the file and writes what it read. [`TcpStream`] can do it with the feature `sendfile`, on
    /// Linux and Android.
    ///
    /// # Errors
    /// As [`write`](Self::write) when the connection is gone or the timeout ran out; any other where
    /// this stream, the file system or the file cannot do it. Nothing was sent then.
    fn send_file(&self, file: &File, offset: u64, len: u64) -> io::Result<usize> {
        let _ = (file, offset, len);
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Bounds every later read. `None` waits for ever. Never called with zero.
    ///
    /// # Errors
    /// When the platform refuses.
    fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()>;

    /// Bounds every later write. `None` waits for ever. Never called with zero.
    ///
    /// # Errors
    /// When the platform refuses.
    fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()>;

    /// Ends our half: the peer reads to the end of what was sent, and may go on sending.
    ///
    /// # Errors
    /// When the connection is gone already.
    fn shutdown_write(&self) -> io::Result<()>;

    /// Ends both halves. A read or write that another thread is blocked in returns.
    fn hang_up(&self);
}

impl Stream for TcpStream {
    fn read(&self, buf: &mut [u8]) -> io::Result<usize> {
        if !HANG_UP_WAKES {
            wait_to_read(self)?;
        }
        let mut stream = self;
        Read::read(&mut stream, buf)
    }

    fn write(&self, buf: &[u8]) -> io::Result<usize> {
        if !HANG_UP_WAKES {
            return write_without_blocking(self, buf);
        }
        let mut stream = self;
        Write::write(&mut stream, buf)
    }

    #[cfg(all(feature = "sendfile", any(target_os = "linux", target_os = "android")))]
    fn send_file(&self, file: &File, mut offset: u64, len: u64) -> io::Result<usize> {
        // The call takes no more than this at a time; 32-bit systems could not even say it.
        let len = len.min(i32::MAX as u64) as usize;
        Ok(rustix::fs::sendfile(self, file, Some(&mut offset), len)?)
    }

    fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        Self::set_read_timeout(self, timeout)
    }

    fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        Self::set_write_timeout(self, timeout)
    }

    fn shutdown_write(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }

    fn hang_up(&self) {
        // Fails only for a connection that is gone, which is what was asked for.
        let _ = self.shutdown(Shutdown::Both);
    }
}

/// Whether shutting a connection down returns whoever is blocked in it. Windows refuses later calls
/// only, so that nobody may be blocked for long there.
const HANG_UP_WAKES: bool = !cfg!(windows);

/// How long a hang-up may go unnoticed where it wakes nobody.
const SLICE: Duration = Duration::from_millis(50);

/// Waits until there is something to receive, or the end, or the read timeout ran out, and looks up
/// after each [`SLICE`], which a call on a connection that was hung up fails to.
///
/// The wait is a peek: on Windows a read whose timeout runs out may have taken what came just then.
fn wait_to_read(stream: &TcpStream) -> io::Result<()> {
    let limit = stream.read_timeout()?;
    if limit.is_some_and(|limit| limit <= SLICE) {
        return stream.peek(&mut [0]).map(drop);
    }
    let began = Instant::now();
    stream.set_read_timeout(Some(SLICE))?;
    let waited = loop {
        match stream.peek(&mut [0]) {
            Err(error)
                if is_timeout(&error) && limit.is_none_or(|limit| began.elapsed() < limit) => {}
            other => break other.map(drop),
        }
    };
    // After a hang-up it is of no use, and may fail for that reason alone.
    let restored = stream.set_read_timeout(limit);
    waited.and(restored)
}

/// Writes as a blocking write does, without being blocked in it: a write whose timeout runs out does
/// not say on Windows what was sent of it, so that it cannot be taken up again.
fn write_without_blocking(mut stream: &TcpStream, buf: &[u8]) -> io::Result<usize> {
    let limit = stream.write_timeout()?;
    let began = Instant::now();
    let mut pause = Duration::from_millis(1);
    stream.set_nonblocking(true)?;
    let written = loop {
        // The system's; ours has the same name, and ends up here.
        match Write::write(&mut stream, buf) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            other => break other,
        }
        let left = limit.map(|limit| limit.saturating_sub(began.elapsed()));
        if left.is_some_and(|left| left.is_zero()) {
            break Err(io::ErrorKind::TimedOut.into());
        }
        thread::sleep(left.map_or(pause, |left| left.min(pause)));
        pause = (pause * 2).min(SLICE);
    };
    // What was written is written: an error here shows again in the next call.
    let restored = stream.set_nonblocking(false);
    written.and_then(|written| restored.map(|()| written))
}

/// Whether a read or write ended by its timeout. Unix says `WouldBlock`, Windows `TimedOut`.
pub(crate) fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use std::{
        net::{Ipv4Addr, TcpListener},
        sync::mpsc,
    };

    fn connected() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (near, listener.accept().unwrap().0)
    }

    /// Fills what the system keeps of a connection whose peer takes nothing.
    fn fill(stream: &TcpStream) -> usize {
        let short = Some(Duration::from_millis(100));
        stream.set_write_timeout(short).unwrap();
        let mut filled = 0;
        loop {
            match write_without_blocking(stream, &[7; 65_536]) {
                Ok(written) => filled += written,
                Err(error) => {
                    assert!(is_timeout(&error), "{error}");
                    return filled;
                }
            }
        }
    }

    /// Runs `blocked` on a thread, hangs up when it waits, and wants it to return.
    fn hung_up(stream: TcpStream, blocked: impl FnOnce(&TcpStream) + Send + 'static) {
        let waiting = stream.try_clone().unwrap();
        let (done, ended) = mpsc::channel();
        thread::spawn(move || {
            blocked(&waiting);
            done.send(()).unwrap();
        });
        // Whether it waits by now or not, it must not wait for ever.
        thread::sleep(SLICE * 2);
        stream.hang_up();
        ended.recv_timeout(Duration::from_secs(30)).unwrap();
    }

    #[test]
    fn a_hang_up_ends_a_read_and_a_write_that_wait() {
        let (near, _far) = connected();
        hung_up(near, |stream| {
            assert!(!matches!(Stream::read(stream, &mut [0]), Ok(1..)));
        });
        let (near, _far) = connected();
        fill(&near);
        near.set_write_timeout(None).unwrap();
        hung_up(
            near,
            |stream| while Stream::write(stream, &[7; 65_536]).is_ok() {},
        );
    }

    #[test]
    fn a_wait_in_slices_ends_with_what_comes() {
        let (near, mut far) = connected();
        let sender = thread::spawn(move || {
            thread::sleep(SLICE * 3);
            far.write_all(b"late").unwrap();
        });
        wait_to_read(&near).unwrap();
        assert_eq!(Stream::read(&near, &mut [0; 8]).unwrap(), 4);
        sender.join().unwrap();
        wait_to_read(&near).unwrap();
        assert_eq!(Stream::read(&near, &mut [0; 8]).unwrap(), 0);
    }

    #[test]
    fn timeouts_hold_in_slices_and_are_left_as_they_were() {
        let (near, _far) = connected();
        for limit in [SLICE / 2, SLICE * 3] {
            near.set_read_timeout(Some(limit)).unwrap();
            // As the system keeps it, which may be rounded.
            let kept = near.read_timeout().unwrap();
            let began = Instant::now();
            assert!(is_timeout(&wait_to_read(&near).unwrap_err()));
            assert!(began.elapsed() >= limit / 2);
            assert_eq!(near.read_timeout().unwrap(), kept);
        }
    }

    #[test]
    fn a_write_that_does_not_block_loses_nothing() {
        let (near, mut far) = connected();
        let filled = fill(&near);
        assert!(filled > 0);
        let reader = thread::spawn(move || {
            let mut received = Vec::new();
            far.read_to_end(&mut received).unwrap();
            received
        });
        near.set_write_timeout(None).unwrap();
        let mut sent = 0;
        while sent < 1 << 20 {
            sent += write_without_blocking(&near, &[7; 65_536]).unwrap();
        }
        drop(near);
        let received = reader.join().unwrap();
        assert!(received.len() == filled + sent && received.iter().all(|byte| *byte == 7));
    }
}
