//! Names documented for peers.
