//! How a client comes by a connection, and what it keeps of one.

use std::{
    io,
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        mpsc::{TryRecvError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{
    base::Base,
    cancel::{Cancel, Cancelled},
    error::Phase,
    stream::{Stream, is_timeout},
};

/// A stream that a client can keep for a later request.
pub trait ClientStream: Stream {
    /// Whether nothing has happened on the idle connection: the peer neither ended it nor sent
    /// anything. What a peer sends unasked could be taken for the answer to the next request.
    fn is_quiet(&self) -> bool;
}

impl ClientStream for TcpStream {
    fn is_quiet(&self) -> bool {
        if self.set_nonblocking(true).is_err() {
            return false;
        }
        let quiet = matches!(
            self.peek(&mut [0]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock
        );
        self.set_nonblocking(false).is_ok() && quiet
    }
}

/// Makes connections. [`TcpConnect`] is the one shipped; tests connect in memory.
pub trait Connect: Send + Sync + 'static {
    /// Connects to an address, within `timeout`.
    ///
    /// # Errors
    /// As [`TcpStream::connect_timeout`].
    fn connect(
        &self,
        address: SocketAddr,
        timeout: Option<Duration>,
    ) -> io::Result<Arc<dyn ClientStream>>;
}

/// Connects over TCP.
#[derive(Clone, Copy, Debug, Default)]
pub struct TcpConnect;

impl Connect for TcpConnect {
    fn connect(
        &self,
        address: SocketAddr,
        timeout: Option<Duration>,
    ) -> io::Result<Arc<dyn ClientStream>> {
        let stream = match timeout {
            Some(timeout) => TcpStream::connect_timeout(&address, timeout)?,
            None => TcpStream::connect(address)?,
        };
        // A request is one small segment: it must not wait for an acknowledgement.
        stream.set_nodelay(true)?;
        Ok(Arc::new(stream))
    }
}

/// Why there is no connection.
#[derive(Debug)]
pub(crate) enum NoConnection {
    /// The system said so.
    Failed(Phase, io::Error),
    /// Not until the deadline.
    TimedOut,
    /// Nobody wants it any more.
    Cancelled,
}

/// Connects to a peer, until `deadline`.
///
/// Neither a look-up nor a connect can be interrupted, and trying in short slices would send the
/// first segment anew each time. So what may block for longer than the caller can wait runs on a
/// thread of its own, which the caller abandons; it ends when the system gives up. That is only
/// for connections that can be cancelled, and for names, whose look-up knows no timeout: not for
/// every request.
pub(crate) fn dial(
    connect: &Arc<dyn Connect>,
    base: &Base,
    deadline: Option<Instant>,
    cancel: Option<&Cancel>,
) -> Result<Connection, NoConnection> {
    if cancel.is_none() && (deadline.is_none() || !base.is_named()) {
        return dial_here(&**connect, base, deadline);
    }
    let cancel = cancel.cloned().unwrap_or_default();
    let (result, dialled) = sync_channel(1);
    let dialler = {
        let (connect, base, cancel) = (Arc::clone(connect), base.clone(), cancel.clone());
        move || {
            // Fails when the caller is gone; the connection is closed with it.
            let _ = result.send(dial_here(&*connect, &base, deadline));
            drop(result);
            cancel.stir();
        }
    };
    let thread = thread::Builder::new().name("peer-connect".to_owned());
    if let Err(error) = thread.spawn(dialler) {
        return Err(NoConnection::Failed(Phase::Connect, error));
    }
    let outcome = cancel.wait_for(deadline, || match dialled.try_recv() {
        Ok(outcome) => Some(outcome),
        Err(TryRecvError::Empty) => None,
        // The connector panicked, and the message about it is out.
        Err(TryRecvError::Disconnected) => Some(Err(NoConnection::Failed(
            Phase::Connect,
            io::Error::other("the connector panicked"),
        ))),
    });
    match outcome {
        Ok(Some(outcome)) => outcome,
        Ok(None) => Err(NoConnection::TimedOut),
        Err(Cancelled) => Err(NoConnection::Cancelled),
    }
}

fn dial_here(
    connect: &dyn Connect,
    base: &Base,
    deadline: Option<Instant>,
) -> Result<Connection, NoConnection> {
    let addresses = base
        .resolve()
        .map_err(|error| NoConnection::Failed(Phase::Resolve, error))?;
    let mut last = NoConnection::TimedOut;
    let mut left = u32::try_from(addresses.len()).unwrap_or(u32::MAX);
    for address in addresses {
        // Each address gets its share, so that a silent one leaves time for the next.
        let share = deadline
            .map(|deadline| deadline.saturating_duration_since(Instant::now()) / left.max(1));
        if share.is_some_and(|share| share.is_zero()) {
            return Err(NoConnection::TimedOut);
        }
        left -= 1;
        last = match connect.connect(address, share) {
            Ok(stream) => return Ok(Connection::new(stream)),
            Err(error) if is_timeout(&error) => NoConnection::TimedOut,
            Err(error) => NoConnection::Failed(Phase::Connect, error),
        };
    }
    Err(last)
}

/// A connection with the timeouts that are set on it, so that none is set twice.
pub(crate) struct Connection {
    stream: Arc<dyn ClientStream>,
    read_timeout: Option<Duration>,
    write_timeout: Option<Duration>,
}

/// What became of a read or write.
pub(crate) enum Moved {
    /// So many bytes; for a read, 0 is the end.
    Bytes(usize),
    /// None yet, and it is time to look at the clock.
    TimedOut,
}

impl Connection {
    pub(crate) fn new(stream: Arc<dyn ClientStream>) -> Self {
        Self {
            stream,
            read_timeout: None,
            write_timeout: None,
        }
    }

    pub(crate) const fn stream(&self) -> &Arc<dyn ClientStream> {
        &self.stream
    }

    /// Receives into `buf`, at least until `deadline` comes near.
    pub(crate) fn read(
        &mut self,
        buf: &mut [u8],
        now: Instant,
        deadline: Option<Instant>,
    ) -> io::Result<Moved> {
        if let Some(timeout) = renewed(self.read_timeout, now, deadline) {
            self.stream.set_read_timeout(timeout)?;
            self.read_timeout = timeout;
        }
        moved(|| self.stream.read(buf))
    }

    /// Sends a part of `buf`, at least until `deadline` comes near.
    pub(crate) fn write(
        &mut self,
        buf: &[u8],
        now: Instant,
        deadline: Option<Instant>,
    ) -> io::Result<Moved> {
        if let Some(timeout) = renewed(self.write_timeout, now, deadline) {
            self.stream.set_write_timeout(timeout)?;
            self.write_timeout = timeout;
        }
        match moved(|| self.stream.write(buf))? {
            Moved::Bytes(0) => Err(io::ErrorKind::WriteZero.into()),
            moved => Ok(moved),
        }
    }
}

/// The timeout to set, if the one that is set does not do.
///
/// One that is somewhat too short does: it makes the driver look at the clock early, which costs
/// less than a system call for every block that is received.
fn renewed(
    set: Option<Duration>,
    now: Instant,
    deadline: Option<Instant>,
) -> Option<Option<Duration>> {
    let Some(deadline) = deadline else {
        return set.is_some().then_some(None);
    };
    // Zero would mean for ever, or be refused.
    let left = deadline
        .saturating_duration_since(now)
        .max(Duration::from_millis(1));
    match set {
        Some(set) if set <= left && set >= left / 2 => None,
        _ => Some(Some(left)),
    }
}

fn moved(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<Moved> {
    loop {
        return match call() {
            Ok(n) => Ok(Moved::Bytes(n)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if is_timeout(&error) => Ok(Moved::TimedOut),
            Err(error) => Err(error),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{io::Write, net::TcpListener};

    #[test]
    fn timeouts_are_set_when_they_have_to_be() {
        let now = Instant::now();
        let seconds = Duration::from_secs;
        let at = |n| Some(now + seconds(n));
        assert_eq!(renewed(None, now, None), None);
        assert_eq!(renewed(None, now, at(8)), Some(Some(seconds(8))));
        assert_eq!(renewed(Some(seconds(8)), now, at(8)), None);
        assert_eq!(renewed(Some(seconds(8)), now, at(10)), None);
        assert_eq!(
            renewed(Some(seconds(8)), now, at(17)),
            Some(Some(seconds(17)))
        );
        assert_eq!(
            renewed(Some(seconds(8)), now, at(7)),
            Some(Some(seconds(7)))
        );
        assert_eq!(renewed(Some(seconds(8)), now, None), Some(None));
        let past = now.checked_sub(seconds(1));
        assert_eq!(
            renewed(None, now, past.or(Some(now))),
            Some(Some(Duration::from_millis(1)))
        );
    }

    #[test]
    fn a_connection_is_quiet_until_the_peer_stirs() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let connect = || {
            let stream = TcpConnect.connect(address, None).unwrap();
            (stream, listener.accept().unwrap().0)
        };
        let (stream, mut peer) = connect();
        assert!(stream.is_quiet());
        peer.write_all(b"x").unwrap();
        // Waits until the byte is there, and leaves it there no more: hence a second one.
        assert_eq!(stream.read(&mut [0]).unwrap(), 1);
        assert!(stream.is_quiet());
        drop(peer);
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
        assert!(!stream.is_quiet());
        let (stream, mut peer) = connect();
        peer.write_all(b"xy").unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap(), 1);
        assert!(!stream.is_quiet());
    }
}
