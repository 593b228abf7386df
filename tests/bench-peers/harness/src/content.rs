//! The bytes that are transferred: every place of the file can be told from every other.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
};

/// Length of the file.
pub(crate) const FILE_BYTES: u64 = 1 << 30;

/// The handle it is shared by, and its name on disk.
pub(crate) const HANDLE: &str = "bench";

/// The token that our side asks for.
pub(crate) const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// The eight bytes at a multiple of eight: its number, mixed (the finalizer of SplitMix64).
fn word(index: u64) -> [u8; 8] {
    let mut x = index.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (x ^ (x >> 31)).to_le_bytes()
}

/// Makes the file, unless it is there.
pub(crate) fn create(path: &Path) -> io::Result<()> {
    if std::fs::metadata(path).is_ok_and(|metadata| metadata.len() == FILE_BYTES) {
        return Ok(());
    }
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    for index in 0..FILE_BYTES / 8 {
        file.write_all(&word(index))?;
    }
    file.flush()
}

/// Whether `bytes` stand at `offset` of the file.
pub(crate) fn is_at(bytes: &[u8], offset: u64) -> bool {
    let mut at = offset;
    let mut rest = bytes;
    while !rest.is_empty() {
        let word = word(at / 8);
        let part = &word[(at % 8) as usize..];
        let part = &part[..part.len().min(rest.len())];
        if part != &rest[..part.len()] {
            return false;
        }
        at += part.len() as u64;
        rest = &rest[part.len()..];
    }
    true
}

/// Writes what stands at `offset`, also where no file could be as long.
pub(crate) fn fill(bytes: &mut [u8], offset: u64) {
    let mut at = offset;
    let mut rest = bytes;
    while !rest.is_empty() {
        let word = word(at / 8);
        let part = &word[(at % 8) as usize..];
        let (now, later) = rest.split_at_mut(part.len().min(rest.len()));
        now.copy_from_slice(&part[..now.len()]);
        at += now.len() as u64;
        rest = later;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_told_from_others() {
        let all: Vec<u8> = (0..8).flat_map(word).collect();
        assert!(is_at(&all, 0) && is_at(&all[5..], 5) && is_at(&all[9..20], 9));
        assert!(!is_at(&all, 8) && !is_at(&all[5..], 4));
        let mut filled = [0; 17];
        fill(&mut filled, 5);
        assert_eq!(filled, all[5..22]);
        let mut wrong = all;
        wrong[63] ^= 1;
        assert!(!is_at(&wrong, 0) && is_at(&wrong[..63], 0));
    }
}
