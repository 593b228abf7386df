//! Decides what a range transfer does next, without doing any of it.
//!
//! Facts go in through `handle_*`; one instruction comes out of `poll_output`. There is no socket
//! here, no clock, no thread, and content never passes through: an instruction reads "send these
//! bytes, then N bytes of the source from offset O", and the driver decides how bytes move.
//!
//! Polling takes `&self`: asking twice gives the same answer, and nothing needs draining before
//! the next fact.

pub mod admission;
pub mod deadline;
pub mod download;
pub mod fetch;
pub mod kept;
pub mod origin;
pub mod pace;
pub mod plan;
pub mod read_ahead;
pub mod server;
pub mod transfer;

mod date;

pub use deadline::{Deadline, Now};
pub use origin::AllowedOrigins;
pub use server::{
    Access, Authorization, CloseReason, Foreign, Output, ServerConfig, ServerConnection, SourceInfo,
};
