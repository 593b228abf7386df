//! Serves and fetches byte ranges between two apps on one network, over `std::net` alone.

pub mod base;
pub mod bridge;
pub mod cancel;
pub mod client;
pub mod client_connect;
pub mod config;
pub mod download;
pub mod error;
pub mod progress;
pub mod reader;
pub mod remote_source;
pub mod server;
pub mod source;
pub mod spool;
pub mod stream;
pub mod token_set;

mod blocks;
mod callback;
mod client_exchange;
mod client_transfer;
mod connection;
mod crew;
mod download_lock;
mod listener;
mod media_type;
mod pool;
mod relay;
mod service;
mod sync;
mod system;

#[cfg(all(test, peer_yields))]
mod stress;

pub use bridge::{BridgeStats, BridgeUrl, PeerBridge, PeerBridgeBuilder};
pub use cancel::Cancel;
pub use client::{
    FetchResult, PeerClient, PeerClientBuilder, PoolLimits, RetryPolicy, Timeouts, content_length,
    fetch_range, fetch_to_writer,
};
pub use config::{ServerEvent, Transfer, TransferEnd};
pub use download::{Downloaded, OnChange};
pub use error::{FetchDeadline, PeerError, Phase};
pub use progress::{Progress, ProgressSnapshot, ProgressState};
pub use reader::{PeerReader, ReadAheadConfig};
pub use remote_source::{RemoteSource, RemoteSourceConfig};
pub use server::{ListenerStatus, PeerServer, PeerServerBuilder, ServerStats, Shutdown};
pub use source::{ByteSource, BytesSource, FileSource, SourceMetadata, SourceResolver};
pub use spool::SpoolSource;
pub use token_set::TokenGrant;
