//! One app serves byte ranges of what it can read; another fetches them.

// The documented names.
pub use peer_net::{
    ByteSource, BytesSource, FetchResult, PeerError, PeerServer, SourceResolver, content_length,
    fetch_range, fetch_to_writer,
};
// What goes beyond them.
pub use peer_core::{ServerConfig, admission::Limits, pace::Priority};
pub use peer_net::{
    BridgeStats, BridgeUrl, Cancel, Downloaded, FetchDeadline, FileSource, ListenerStatus,
    OnChange, PeerBridge, PeerBridgeBuilder, PeerClient, PeerClientBuilder, PeerReader,
    PeerServerBuilder, Phase, PoolLimits, Progress, ProgressSnapshot, ProgressState,
    ReadAheadConfig, RemoteSource, RemoteSourceConfig, RetryPolicy, ServerEvent, ServerStats,
    Shutdown, SourceMetadata, SpoolSource, Timeouts, TokenGrant, Transfer, TransferEnd,
};
pub use peer_net::{
    client_connect::{ClientStream, Connect},
    stream::Stream,
};
pub use peer_proto::EntityTag;
