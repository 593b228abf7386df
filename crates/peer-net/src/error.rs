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
    /// the range lies past the end, 500 when the source fails, 503 when the peer has no room for
    /// another connection, 3xx because redirects are not followed. Only 502, 503 and 504 pass with
    /// time; a [`RetryPolicy`](crate::RetryPolicy) waits for that.
    #[error("the peer answered with status {0}")]
    Status(u16),

    /// The answer contradicts the protocol, itself, or what was asked for. A peer that is not what
    /// it should be, or something between the two that changes messages; the text tells what it
    /// was, for a bug report.
    #[error("the peer broke the protocol: {0}")]
    Protocol(String),

    /// The system reported an error, kept with its kind. [`phase`](Self::phase) tells whether it
    /// was the network's: until the answer comes the peer is not there, or not reachable from
    /// here; afterwards the connection was lost. Without a phase it was this side's: the writer of
    /// [`fetch_to_writer`](crate::fetch_to_writer), a file, memory, or the address to listen on.
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
}

impl PeerError {
    /// What a client was doing when the network failed; `None` for every other error.
    #[must_use]
    pub fn phase(&self) -> Option<Phase> {
        match self {
            Self::Io(error) => Some(error.get_ref()?.downcast_ref::<NetworkError>()?.phase),
            _ => None,
        }
    }

    /// What kind of [`io::Error`] it is: see the conversion.
    pub(crate) fn io_kind(&self) -> io::ErrorKind {
        use io::ErrorKind;
        match self {
            Self::Unauthorized => ErrorKind::PermissionDenied,
            Self::NotFound => ErrorKind::NotFound,
            Self::Protocol(_) | Self::Changed => ErrorKind::InvalidData,
            Self::InvalidInput(_) => ErrorKind::InvalidInput,
            Self::Truncated { .. } => ErrorKind::ConnectionReset,
            Self::TimedOut(_) => ErrorKind::TimedOut,
            Self::Cancelled => ErrorKind::ConnectionAborted,
            Self::Status(_) => ErrorKind::Other,
            Self::Io(source) => match source.kind() {
                ErrorKind::UnexpectedEof => ErrorKind::ConnectionReset,
                ErrorKind::Interrupted => ErrorKind::Other,
                kind => kind,
            },
        }
    }

    pub(crate) fn network(phase: Phase, source: io::Error) -> Self {
        let kind = source.kind();
        Self::Io(io::Error::new(kind, NetworkError { phase, source }))
    }
}

/// What [`PeerError::Io`] carries when it was the network.
#[derive(Debug, thiserror::Error)]
#[error("{phase}: {source}")]
struct NetworkError {
    phase: Phase,
    source: io::Error,
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

impl PeerError {
    /// What the verdict over one answer is to an app. No `From`: that would be public, and the
    /// verdict's type is not.
    pub(crate) fn of_fetch(error: FetchError) -> Self {
        let ended = |phase| {
            let source = io::Error::new(io::ErrorKind::UnexpectedEof, error.to_string());
            Self::network(phase, source)
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

/// For what speaks `std::io`, such as [`Read`](io::Read). The [`PeerError`] is the inner error.
///
/// The kind is never [`UnexpectedEof`](io::ErrorKind::UnexpectedEof), which decoders take for the
/// end of the media, nor [`Interrupted`](io::ErrorKind::Interrupted), which `std` takes for a
/// reason to try again at once, for ever.
impl From<PeerError> for io::Error {
    fn from(error: PeerError) -> Self {
        Self::new(error.io_kind(), error)
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
                FetchError::Truncated {
                    expected: Some(9),
                    received: 4,
                },
                "content ended after 4 bytes of 9",
            ),
            (
                FetchError::Truncated {
                    expected: None,
                    received: 4,
                },
                "content ended after 4 bytes",
            ),
            (
                FetchError::RangeNotSatisfiable {
                    complete_length: None,
                },
                "the peer answered with status 416",
            ),
            (
                FetchError::ContentRange,
                "the peer broke the protocol: partial content without a valid content-range",
            ),
            (
                FetchError::NoAnswer,
                "lost the connection before the answer: the peer closed the connection without an answer",
            ),
        ] {
            assert_eq!(PeerError::of_fetch(error).to_string(), text);
        }
    }

    #[test]
    fn the_io_error_is_kept() {
        let refused = || io::Error::from_raw_os_error(111);
        let kind = refused().kind();
        for (error, phase) in [
            (PeerError::Io(refused()), None),
            (
                PeerError::network(Phase::Connect, refused()),
                Some(Phase::Connect),
            ),
        ] {
            assert_eq!(error.phase(), phase);
            let outer = error.source().unwrap().downcast_ref::<io::Error>().unwrap();
            assert_eq!(outer.kind(), kind);
            if phase.is_some() {
                let inner = outer.source().unwrap().downcast_ref::<io::Error>();
                assert_eq!(inner.unwrap().raw_os_error(), Some(111));
            }
        }
        assert_eq!(PeerError::Changed.phase(), None);
        let text = PeerError::network(Phase::Connect, refused()).to_string();
        assert!(text.starts_with("cannot connect to the peer: "), "{text}");
    }

    #[test]
    fn no_kind_says_that_all_is_well() {
        let of_kind = |kind| PeerError::network(Phase::Content, io::Error::from(kind));
        let truncated = FetchError::Truncated {
            expected: Some(9),
            received: 4,
        };
        let unsatisfiable = FetchError::RangeNotSatisfiable {
            complete_length: Some(0),
        };
        let errors = [
            PeerError::Unauthorized,
            PeerError::NotFound,
            PeerError::Status(500),
            PeerError::Protocol(String::new()),
            PeerError::InvalidInput(String::new()),
            PeerError::Changed,
            PeerError::TimedOut(FetchDeadline::Stall),
            PeerError::Cancelled,
            PeerError::Io(io::ErrorKind::UnexpectedEof.into()),
            of_kind(io::ErrorKind::UnexpectedEof),
            of_kind(io::ErrorKind::Interrupted),
            of_kind(io::ErrorKind::ConnectionReset),
            PeerError::of_fetch(truncated),
            PeerError::of_fetch(unsatisfiable),
            PeerError::of_fetch(FetchError::NoAnswer),
            PeerError::of_fetch(FetchError::HeadCut),
            PeerError::of_fetch(FetchError::ContentRange),
        ];
        for error in errors {
            let text = error.to_string();
            let error = io::Error::from(error);
            let misread = [io::ErrorKind::UnexpectedEof, io::ErrorKind::Interrupted];
            assert!(!misread.contains(&error.kind()), "{text}: {error:?}");
            let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
            assert!(inner.is_some_and(|inner: &PeerError| inner.to_string() == text));
        }
    }
}
