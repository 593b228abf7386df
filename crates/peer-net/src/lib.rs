//! Serves and fetches byte ranges between two apps on one network, over `std::net` alone.

pub mod config;
pub mod error;
pub mod server;
pub mod source;
pub mod stream;
pub mod token_set;

mod blocks;
mod connection;
mod listener;
mod media_type;
mod service;

pub use error::PeerError;
pub use server::PeerServer;
pub use source::{ByteSource, BytesSource, FileSource, SourceMetadata, SourceResolver};
