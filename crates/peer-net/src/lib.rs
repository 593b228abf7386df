//! Serves and fetches byte ranges between two apps on one network, over `std::net` alone.

pub mod stream;
