//! Where decisions come from: a seed, or a fuzzer's bytes.

/// A stream of decisions.
#[derive(Clone, Debug)]
pub(crate) enum Dice {
    /// The generator of SplitMix64.
    Seeded(u64),
    /// Bytes, and zeros behind them: zero is always the uneventful choice.
    Spelled { bytes: Vec<u8>, at: usize },
}

impl Dice {
    pub(crate) const fn seeded(seed: u64) -> Self {
        Self::Seeded(seed)
    }

    pub(crate) fn spelled(bytes: &[u8]) -> Self {
        Self::Spelled {
            bytes: bytes.to_vec(),
            at: 0,
        }
    }

    fn next(&mut self, bytes_wanted: usize) -> u64 {
        match self {
            Self::Seeded(state) => {
                *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let mut mixed = *state;
                mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                mixed ^ (mixed >> 31)
            }
            Self::Spelled { bytes, at } => {
                let mut value = 0;
                for _ in 0..bytes_wanted {
                    value = value << 8 | u64::from(bytes.get(*at).copied().unwrap_or(0));
                    *at += 1;
                }
                value
            }
        }
    }

    /// A number below `bound`, which is at least 1.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        let wanted = if bound <= 256 { 1 } else { 3 };
        self.next(wanted) % bound
    }

    /// Happens in `percent` of a hundred cases.
    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        // The high end, so that zero means no.
        self.below(100) >= 100 - percent
    }

    /// One of these.
    pub(crate) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }
}
