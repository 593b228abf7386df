//! Programs that were not written for us, against the example as a user runs it, and our client
//! against servers that were not: byte-exact.
//!
//! A program that is not installed is skipped loudly. Where everything must be there, set
//! `PEER_TESTS_REQUIRE_PROGRAMS`: what is missing then fails.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod aria2;
mod bridge;
mod browser;
mod curl;
mod decode;
mod example;
#[cfg(target_os = "linux")]
mod faults;
mod ffmpeg;
mod gate;
mod harness;
mod media;
mod mend;
mod mpv;
mod servers;
mod wget;
