#![doc = include_str!("../README.md")]
//! # Where to look
//!
//! Everything is in [`peer`].

pub mod peer;
