//! `peer list`: shows what a peer shares.

use std::io::{self, Write};

use cranpose_services::peer::PeerClient;

use crate::Outcome;
use crate::arguments::Arguments;
use crate::catalogue::{self, Item, LIBRARY};

/// Longest catalogue that is read: a peer that sends more is not taken at its word.
const CATALOGUE_BYTES_MAX: u64 = 64 << 20;

pub(crate) fn run(mut arguments: Arguments) -> Outcome {
    let [base, token] = arguments.exactly(["BASE", "TOKEN"])?;
    let mut out = io::stdout().lock();
    for item in fetch(&base, &token)? {
        let length = item.length.map_or("?".into(), |length| length.to_string());
        let media_type = item.media_type.as_deref().unwrap_or("-");
        // A name may hold control characters; a terminal obeys those.
        let handle: String = item.handle.chars().map(visible).collect();
        writeln!(
            out,
            "{length:>14}  {:<26}  {handle}",
            media_type.escape_debug().to_string()
        )?;
    }
    Ok(out.flush()?)
}

/// Fetches and reads a peer's catalogue.
pub(crate) fn fetch(base: &str, token: &str) -> Outcome<Vec<Item>> {
    let client = PeerClient::builder(base, token).build();
    let client = client.map_err(|error| format!("cannot list {base:?}: {error}"))?;
    fetch_by(&client, base)
}

/// The same by a client that there is already.
pub(crate) fn fetch_by(client: &PeerClient, base: &str) -> Outcome<Vec<Item>> {
    let about = |error| format!("cannot list {base:?}: {error}");
    let library = client.fetch_range(LIBRARY, 0, Some(CATALOGUE_BYTES_MAX));
    let library = library.map_err(about)?;
    if library
        .total_len
        .is_some_and(|total| total > library.bytes.len() as u64)
    {
        return Err(format!("the catalogue is longer than {CATALOGUE_BYTES_MAX} bytes").into());
    }
    catalogue::parse(&library.bytes)
}

fn visible(character: char) -> char {
    if character.is_control() {
        char::REPLACEMENT_CHARACTER
    } else {
        character
    }
}
