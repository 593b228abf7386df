//! Integration tests.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod api;
mod bridge;
mod capability;
mod client;
mod corpus;
mod fetch_basic;
mod fetch_chaos;
mod fetch_client;
mod fetch_cut;
mod fetch_download;
mod fetch_reader;
mod fetch_scale;
mod fetch_script;
mod files;
mod hold;
mod laws;
mod real;
mod serve;
mod simulation;
mod wire;
