//! Tools shared by the tests of this workspace.

pub mod check;
pub mod memory;
pub mod raw;
pub mod script;
pub mod silent;
pub mod sim;
