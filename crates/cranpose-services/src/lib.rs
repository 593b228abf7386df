#![doc = include_str!("../README.md")]
//! # Where to look
//!
//! Everything is in [`peer`].
//!
//! # Features
//!
//! `sendfile`, off by default: on Linux and Android the kernel sends from a file that a source lends
//! ([`peer::ByteSource::file`]), with no copy through the app. It is faster where the reader is, and
//! it takes back two promises:
//!
//! - sendfile(2) raises SIGPIPE when the peer has hung up. Rust's own programs ignore that signal; in
//!   an app that does not, it ends the process.
//! - The version of a file is looked at after each stretch was sent, not between reading and sending.
//!   A file that is overwritten in place just while its last stretch goes out may reach the peer
//!   mixed, as it may from any server that sends this way. One that is replaced by renaming never
//!   does.

pub mod peer;
