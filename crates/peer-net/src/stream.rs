//! What the drivers need of a connection.

use std::{
    fs::File,
    io::{self, Read, Write},
    net::{Shutdown, TcpStream},
    time::Duration,
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
        let mut stream = self;
        Read::read(&mut stream, buf)
    }

    fn write(&self, buf: &[u8]) -> io::Result<usize> {
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

/// Whether a read or write ended by its timeout. Unix says `WouldBlock`, Windows `TimedOut`.
pub(crate) fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}
