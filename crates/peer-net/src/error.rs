//! What can go wrong, as apps see it.

use std::io;

pub use peer_core::fetch::FetchDeadline;
use peer_core::fetch::FetchError;

/// Why a peer could not be served or fetched from.
///
/// Nothing that was fetched along with an error is what was asked for: a part at most.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PeerError {
    /// The peer does not accept the token (status 401). Asking again with the same one is in vain:
    /// pair the two apps anew.
    #[error("the peer does not accept the token")]
    Unauthorized,

    /// The peer does not know the handle (status 404). Read its catalogue again.
    #[error("the peer does not know the handle")]
    NotFound,

    /// The peer answered with another status that carries nothing of what was asked for: 416 when
    /// the range lies past the end, 5xx when the source fails, 3xx because redirects are not
    /// followed. Asking for the same again is rarely of use.
    #[error("the peer answered with status {0}")]
    Status(u16),

    /// The answer contradicts the protocol, itself, or what was asked for. A peer that is not what
    /// it should be, or something between the two that changes messages; the text tells what it
    /// was, for a bug report.
    #[error("the peer broke the protocol: {0}")]
    Protocol(String),

    /// Reading or writing failed on this side: the writer of
    /// [`fetch_to_writer`](crate::fetch_to_writer), a file, memory, or the address to listen on.
    /// The network's failures are [`Unreachable`](Self::Unreachable).
    #[error("{0}")]
    Io(#[source] io::Error),

    /// The base, the token or the handle cannot be used. Nothing was sent.
    #[error("{0}")]
    InvalidInput(String),

    /// The content ended before all of it was there, and could not be continued. Ask again for
    /// what is missing, unless the source may have changed.
    #[error("content ended after {received} bytes{}", OfExpected(*.expected))]
    Truncated {
        /// Bytes that should have come, where the peer told.
        expected: Option<u64>,
        /// Bytes that came.
        received: u64,
    },

    /// The source changed while it was fetched. What came is of the earlier version: begin anew.
    #[error("the source changed while it was fetched")]
    Changed,

    /// A deadline passed. The peer may be busy, asleep or gone; try again later.
    #[error("{}", deadline_text(*.0))]
    TimedOut(FetchDeadline),

    /// The operation was cancelled from this side.
    #[error("cancelled")]
    Cancelled,

    /// The network failed. Until the [`phase`](Phase) in which the answer comes, the peer is not
    /// there, or not reachable from here; afterwards the connection was lost.
    #[error("{phase}: {source}")]
    Unreachable {
        /// What was going on.
        phase: Phase,
        /// What the system reported.
        source: io::Error,
    },
}

/// What a client was doing when the network failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Phase {
    /// Looking up the peer's name.
    Resolve,
    /// Making the connection.
    Connect,
    /// Sending the request.
    Send,
    /// Waiting for the head of the answer.
    Head,
    /// Receiving the content.
    Content,
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Resolve => "cannot look up the peer's name",
            Self::Connect => "cannot connect to the peer",
            Self::Send => "cannot send the request",
            Self::Head => "lost the connection before the answer",
            Self::Content => "lost the connection in the content",
        })
    }
}

struct OfExpected(Option<u64>);

impl std::fmt::Display for OfExpected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(expected) => write!(f, " of {expected}"),
            None => Ok(()),
        }
    }
}

const fn deadline_text(deadline: FetchDeadline) -> &'static str {
    match deadline {
        FetchDeadline::Connect => "the peer could not be connected to in time",
        FetchDeadline::Head => "the peer did not answer in time",
        FetchDeadline::Stall => "the peer stopped sending",
        FetchDeadline::Whole => "the operation took too long",
        _ => "a deadline passed",
    }
}

impl From<FetchError> for PeerError {
    fn from(error: FetchError) -> Self {
        let ended = |phase| Self::Unreachable {
            phase,
            source: io::Error::new(io::ErrorKind::UnexpectedEof, error.to_string()),
        };
        match error {
            FetchError::Unauthorized => Self::Unauthorized,
            FetchError::NotFound => Self::NotFound,
            FetchError::Status(status) => Self::Status(status),
            FetchError::RangeNotSatisfiable { .. } => Self::Status(416),
            FetchError::Truncated { expected, received } => Self::Truncated { expected, received },
            FetchError::Changed => Self::Changed,
            FetchError::NoAnswer | FetchError::HeadCut => ended(Phase::Head),
            FetchError::TimedOut(deadline) => Self::TimedOut(deadline),
            _ => Self::Protocol(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error;

    #[test]
    fn texts() {
        for (error, text) in [
            (
                PeerError::from(FetchError::Truncated {
                    expected: Some(9),
                    received: 4,
                }),
                "content ended after 4 bytes of 9",
            ),
            (
                FetchError::Truncated {
                    expected: None,
                    received: 4,
                }
                .into(),
                "content ended after 4 bytes",
            ),
            (
                FetchError::RangeNotSatisfiable {
                    complete_length: None,
                }
                .into(),
                "the peer answered with status 416",
            ),
            (
                FetchError::ContentRange.into(),
                "the peer broke the protocol: partial content without a valid content-range",
            ),
            (
                FetchError::NoAnswer.into(),
                "lost the connection before the answer: the peer closed the connection without an answer",
            ),
        ] {
            assert_eq!(error.to_string(), text);
        }
    }

    #[test]
    fn the_io_error_is_kept() {
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        for error in [
            PeerError::Io(refused()),
            PeerError::Unreachable {
                phase: Phase::Connect,
                source: refused(),
            },
        ] {
            let source = error.source().unwrap().downcast_ref::<io::Error>();
            assert_eq!(source.unwrap().kind(), io::ErrorKind::ConnectionRefused);
        }
    }
}
