//! What taking connections asks of the operating system: here in one place, so that each of these
//! calls can be made to fail in tests, with the real service behind it.

use std::{
    io,
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use crate::config::STACK_BYTES;

/// How long a connection to one of our own listeners may take: it does not leave the device.
const CONNECT_MAX: Duration = Duration::from_millis(250);

/// The calls, as `std` has them; errors are the system's.
pub(crate) trait System: Send + Sync {
    /// Waits for a connection.
    fn accept(&self, listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
        listener.accept()
    }

    /// Starts a thread of the server.
    fn spawn(&self, run: Box<dyn FnOnce() + Send>) -> io::Result<()> {
        let thread = thread::Builder::new()
            .name("peer-server".into())
            .stack_size(STACK_BYTES);
        thread.spawn(run).map(drop)
    }

    /// Whether [`end_accept`](Self::end_accept) does what it says.
    fn can_end_accept(&self) -> bool {
        cfg!(any(target_os = "linux", target_os = "android"))
    }

    /// Ends every `accept` on the socket that this is a share of, and closes the share.
    ///
    /// Linux and Android shut a listening socket down, which is reached through the type of a
    /// connected one. Elsewhere that is refused, or does nothing.
    fn end_accept(&self, share: TcpListener) -> io::Result<()> {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        {
            TcpStream::from(std::os::fd::OwnedFd::from(share)).shutdown(std::net::Shutdown::Both)
        }
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        {
            drop(share);
            Err(io::ErrorKind::Unsupported.into())
        }
    }

    /// Has every connection of this listener send at once (`TCP_NODELAY`). Linux and Android let them
    /// inherit it, which saves each a call; elsewhere nobody promises that, and this is refused.
    fn set_nodelay(&self, listener: &TcpListener) -> io::Result<()> {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        {
            let share = std::os::fd::OwnedFd::from(listener.try_clone()?);
            TcpStream::from(share).set_nodelay(true)
        }
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        {
            let _ = listener;
            Err(io::ErrorKind::Unsupported.into())
        }
    }

    /// Connects to a listener of our own.
    fn connect(&self, address: &SocketAddr) -> io::Result<TcpStream> {
        TcpStream::connect_timeout(address, CONNECT_MAX)
    }
}

/// The operating system itself.
pub(crate) struct Os;

impl System for Os {}
