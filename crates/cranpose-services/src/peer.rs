//! One app serves byte ranges of what it can read; another fetches them.

pub use peer_net::{
    ByteSource, BytesSource, FileSource, PeerError, PeerServer, SourceMetadata, SourceResolver,
};
pub use peer_proto::EntityTag;
