//! The large blocks that content passes through, shared by all connections of a server.

use crate::{service::lock, sync::Mutex};

/// Bytes of one block. Measured on the way: larger ones win nothing, smaller ones cost a system
/// call each.
pub(crate) const BLOCK_BYTES: usize = 256 * 1024;

/// Blocks kept for reuse. More transfers than this allocate, and free, their own.
const SPARE_MAX: usize = 8;

/// Blocks that no transfer uses now.
///
/// A fresh block costs a page fault for each of its pages when it is first written; a reused one
/// costs nothing. A connection holds one only while it sends, so an idle one stays small.
#[derive(Debug, Default)]
pub(crate) struct Blocks(Mutex<Vec<Box<[u8]>>>);

impl Blocks {
    pub(crate) fn take(&self) -> Box<[u8]> {
        let spare = lock(&self.0).pop();
        spare.unwrap_or_else(|| vec![0; BLOCK_BYTES].into_boxed_slice())
    }

    pub(crate) fn give_back(&self, block: Box<[u8]>) {
        let mut spare = lock(&self.0);
        if spare.len() < SPARE_MAX {
            spare.push(block);
        }
    }
}
