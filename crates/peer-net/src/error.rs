//! What can go wrong, as apps see it.

use std::io;

/// Why a peer could not be served or fetched from.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PeerError {
    /// The peer does not accept the token (status 401).
    #[error("the peer does not accept the token")]
    Unauthorized,
    /// The peer does not know the handle (status 404).
    #[error("the peer does not know the handle")]
    NotFound,
    /// The peer answered with another status.
    #[error("the peer answered with status {0}")]
    Status(u16),
    /// The answer contradicts the protocol.
    #[error("the peer broke the protocol: {0}")]
    Protocol(String),
    /// Reading or writing failed.
    #[error("{0}")]
    Io(#[source] io::Error),
    /// The base, the token or the handle cannot be used.
    #[error("{0}")]
    InvalidInput(String),
}
