//! What a server can be told beyond address, token and resolver.

use std::{fmt, net::IpAddr, sync::Arc, time::Duration};

use peer_core::{Access, AllowedOrigins, CloseReason, ServerConfig, admission::Limits};

/// Deadlines, budgets and hooks of a server. The defaults suit a phone in a shared flat.
#[derive(Clone, Default)]
pub(crate) struct Config {
    pub(crate) access: Access,
    pub(crate) deadlines: ServerConfig,
    pub(crate) limits: Limits,
    /// Bytes of content a second, over all transfers.
    pub(crate) rate: Option<u64>,
    /// Bytes of content a second, for each transfer.
    pub(crate) transfer_rate: Option<u64>,
    /// Web origins whose pages may read answers.
    pub(crate) origins: AllowedOrigins,
    pub(crate) hook: Option<EventHook>,
}

/// Called with what happens on a server. See [`ServerEvent`].
pub(crate) type EventHook = Arc<dyn Fn(&ServerEvent<'_>) + Send + Sync>;

/// Something an app may want to show, or hold a wake lock for.
///
/// Called on the thread of the connection it is about, with no lock held. A hook that blocks
/// holds up that connection; a panic in it is caught and dropped.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ServerEvent<'a> {
    /// Content of a source is about to be sent.
    TransferStarted(Transfer<'a>),
    /// A block of it was handed to the network.
    TransferProgressed {
        /// Which transfer.
        transfer: Transfer<'a>,
        /// Content bytes sent so far.
        sent: u64,
    },
    /// No more of it will be sent.
    TransferEnded {
        /// Which transfer.
        transfer: Transfer<'a>,
        /// Content bytes sent.
        sent: u64,
        /// How it ended.
        end: TransferEnd,
    },
    /// Somebody presented a token that is not valid.
    TokenRefused {
        /// Where from.
        address: IpAddr,
    },
    /// A listener takes no more connections; [`crate::server::PeerServer::rebind`] makes a new
    /// one. iOS takes the listeners of an app when the phone is locked.
    ListenerLost {
        /// The address it listened on.
        address: std::net::SocketAddr,
    },
}

/// One transfer: the content of one answer.
#[derive(Clone, Copy, Debug)]
pub struct Transfer<'a> {
    /// Different for each transfer of a server.
    pub id: u64,
    /// The name of the token it was asked for with.
    pub token_name: &'a str,
    /// The handle it was asked for by.
    pub handle: &'a str,
    /// Where it goes.
    pub address: IpAddr,
}

/// How a transfer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TransferEnd {
    /// Every byte of the answer was sent.
    Complete,
    /// The peer went away: every seek of every player ends like this.
    HungUp,
    /// The peer took no byte for too long.
    Stalled,
    /// The source failed, ended early or changed.
    SourceFailed,
    /// The server closed the connection: it was shut down, or the token revoked.
    Cut,
}

impl TransferEnd {
    pub(crate) const fn of(reason: CloseReason) -> Self {
        match reason {
            CloseReason::SourceFailed => Self::SourceFailed,
            CloseReason::TimedOut(_) => Self::Stalled,
            _ => Self::HungUp,
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("access", &self.access)
            .field("deadlines", &self.deadlines)
            .field("limits", &self.limits)
            .field("rate", &self.rate)
            .field("transfer_rate", &self.transfer_rate)
            .field("origins", &self.origins)
            .field("hook", &self.hook.is_some())
            .finish()
    }
}

/// The stack of a connection's thread. The driver needs a few KiB; resolver and sources of the app
/// run on it too.
pub(crate) const STACK_BYTES: usize = 256 * 1024;

/// Threads that wait for connections at one listener, at most, beyond those that serve one.
pub(crate) const ACCEPTORS_MAX: usize = 8;

/// How long `Drop` waits for threads that an app's callback may hold.
pub(crate) const DROP_WAIT: Duration = Duration::from_secs(1);
