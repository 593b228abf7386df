//! Under construction.
pub mod peer;
