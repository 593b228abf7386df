//! The laws: what must hold for every input, as plain functions that panic where it does not.
//!
//! Each law takes bytes, so that a property, a fuzz target and the replay of a committed corpus
//! all call the same function. A law never just calls the code: it holds it against an oracle in
//! [`naive`], against a second way to the same answer (other splits, a round trip), or against a
//! documented bound.

pub mod fetch;
pub mod naive;
pub mod server;
pub mod walk;
mod wire;

pub use fetch::{fetch, fetch_facts, fetch_honest};
pub use server::{server, server_bridge, server_facts, server_web};
pub use wire::{
    chunked, content_range, dates, entity_tags, multipart, preconditions, range_field,
    request_head, request_round_trips, response_head, response_round_trips, selects, target,
    tokens,
};

/// Whatever a fuzzer's input makes happen in the simulator's world: its law.
///
/// # Panics
/// Where the law does not hold.
pub fn simulation(input: &[u8]) {
    let report = crate::sim::run_bytes(input);
    assert!(report.delivered + report.failed > 0, "nobody did anything");
}

/// A law, as a fuzz target or a corpus replay runs it.
pub type Law = fn(&[u8]);

/// Every law with the name of its fuzz target (`tests/fuzz/targets/NAME.rs`) and of its corpus
/// (`tests/fuzz/corpus/NAME`).
pub const LAWS: &[(&str, Law)] = &[
    ("chunked", chunked),
    ("content_range", content_range),
    ("dates", dates),
    ("entity_tags", entity_tags),
    ("fetch", fetch),
    ("fetch_facts", fetch_facts),
    ("fetch_honest", fetch_honest),
    ("multipart", multipart),
    ("preconditions", preconditions),
    ("range_field", range_field),
    ("request_head", request_head),
    ("request_round_trips", request_round_trips),
    ("response_head", response_head),
    ("response_round_trips", response_round_trips),
    ("server", server),
    ("server_bridge", server_bridge),
    ("server_facts", server_facts),
    ("server_web", server_web),
    ("simulation", simulation),
    ("target", target),
    ("tokens", tokens),
];

/// Reads decisions off a fuzzer's input. Past its end every decision is zero, so each input means
/// something and shorter ones mean simpler things.
#[derive(Clone, Debug)]
pub struct Choices<'a>(&'a [u8]);

impl<'a> Choices<'a> {
    /// Decisions that `bytes` spell.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Whether every byte was used.
    #[must_use]
    pub const fn is_spent(&self) -> bool {
        self.0.is_empty()
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        let (&first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        first
    }

    /// The next bit of a byte of its own.
    pub fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// A number below `bound`, which is at least 1.
    pub fn below(&mut self, bound: u64) -> u64 {
        let value = if bound <= 256 {
            u64::from(self.byte())
        } else {
            self.u64()
        };
        value % bound
    }

    /// A number from eight bytes.
    pub fn u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        for byte in &mut bytes {
            *byte = self.byte();
        }
        u64::from_le_bytes(bytes)
    }

    /// A position: small, or within a few of a power of two where arithmetic goes wrong.
    pub fn position(&mut self) -> u64 {
        let near = i64::from(self.byte() as i8);
        match self.byte() % 6 {
            0 | 1 => near.unsigned_abs(),
            2 => (1u64 << 32).saturating_add_signed(near),
            3 => (1u64 << 63).saturating_add_signed(near),
            4 => u64::MAX.saturating_add_signed(near),
            _ => self.u64(),
        }
    }

    /// Up to `max` bytes, their count told by the first.
    pub fn bytes(&mut self, max: usize) -> &'a [u8] {
        let count = (usize::from(self.byte()) % (max + 1)).min(self.0.len());
        let (bytes, rest) = self.0.split_at(count);
        self.0 = rest;
        bytes
    }

    /// What is left, without using it up.
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.0
    }
}
