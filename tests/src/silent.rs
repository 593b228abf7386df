//! An address of this machine that neither takes a connection nor refuses one, as that of a device
//! which left the network.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

/// More than any system lets wait for `accept` without being told to.
const QUEUE_MAX: usize = 10_000;

/// How long a connection on loopback may take before it is taken for one that is never made.
const SILENCE: Duration = Duration::from_secs(1);

/// A listener whose queue is full: whoever connects now waits in vain. True of Linux and the BSDs;
/// Windows refuses.
#[derive(Debug)]
pub struct Silent {
    address: SocketAddr,
    _listener: TcpListener,
    _queue: Vec<TcpStream>,
}

impl Silent {
    /// Fills a listener's queue.
    ///
    /// # Errors
    /// Where the system refuses what does not fit into the queue, or has none that ends.
    pub fn new() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let mut queue = Vec::new();
        while queue.len() < QUEUE_MAX {
            match TcpStream::connect_timeout(&address, SILENCE) {
                Ok(stream) => queue.push(stream),
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    return Ok(Self {
                        address,
                        _listener: listener,
                        _queue: queue,
                    });
                }
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other("the queue of a listener has no end"))
    }

    /// The address that is silent.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}
