//! The demonstration: makes a sound, shares it, and fetches it back in every way.

use std::f64::consts::TAU;
use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;
use std::{env, fs, io};

use cranpose_services::peer::{PeerError, content_length, fetch_range, fetch_to_writer};

use crate::Outcome;
use crate::catalogue::Catalogue;
use crate::{list, share};

const SAMPLE_RATE: u32 = 44_100;
const SECONDS: u32 = 2;
/// Lengths of the pieces, taken in turn: odd ones, so that no two pieces meet on a boundary.
const PIECES: [u64; 4] = [1, 4_095, 16_384, 70_001];

pub(crate) fn run() -> Outcome {
    let mut out = io::stdout();
    let sound = chord();
    let folder = Folder::new()?;
    fs::write(folder.0.join("chord.wav"), &sound)?;
    writeln!(
        out,
        "made     chord.wav, {SECONDS} s, {} bytes",
        sound.len()
    )?;

    let token = share::fresh_token()?;
    let server = share::start(
        "127.0.0.1:0",
        &token,
        Catalogue::of(std::slice::from_ref(&folder.0))?,
        &[],
    )?;
    let base = server.local_addr().to_string();
    writeln!(out, "shared   at {base}, with a fresh token")?;

    let items = list::fetch(&base, &token)?;
    let [item] = items.as_slice() else {
        return Err(format!("one item was shared, {} are listed", items.len()).into());
    };
    let handle = item.handle.as_str();
    let length = sound.len() as u64;
    same("the listed length", item.length == Some(length))?;
    same(
        "the length asked for",
        content_length(&base, &token, handle)? == Some(length),
    )?;
    let media_type = item.media_type.as_deref().unwrap_or("no type");
    writeln!(out, "listed   {handle}, {media_type}, {length} bytes")?;

    let started = Instant::now();
    let mut whole = Vec::new();
    fetch_to_writer(&base, &token, handle, 0, None, &mut whole)?;
    same("the whole", whole == sound)?;
    writeln!(
        out,
        "fetched  the whole in {:.1} ms: same bytes",
        started.elapsed().as_secs_f64() * 1e3
    )?;

    let mut joined = Vec::new();
    let mut count = 0;
    for len in PIECES.iter().cycle() {
        let start = joined.len() as u64;
        if start == length {
            break;
        }
        let piece = fetch_range(&base, &token, handle, start, Some(*len))?;
        same(
            "the length of a piece",
            piece.bytes.len() as u64 == (*len).min(length - start),
        )?;
        same("the total beside a piece", piece.total_len == Some(length))?;
        joined.extend(piece.bytes);
        count += 1;
    }
    same("the pieces together", joined == sound)?;
    writeln!(out, "fetched  it again in {count} pieces: same bytes")?;

    let stranger = fetch_range(&base, "a wrong token", handle, 0, None);
    same(
        "the answer to a stranger",
        matches!(stranger, Err(PeerError::Unauthorized)),
    )?;
    let missing = fetch_range(&base, &token, "no such handle", 0, None);
    same(
        "the answer for no such handle",
        matches!(missing, Err(PeerError::NotFound)),
    )?;
    writeln!(out, "refused  a wrong token and an unknown handle")?;
    Ok(())
}

fn same(what: &str, holds: bool) -> Outcome {
    if holds {
        Ok(())
    } else {
        Err(format!("{what} is not as it should be").into())
    }
}

/// A chord of C major that dies away, as a WAV file: one channel, 16 bits.
fn chord() -> Vec<u8> {
    let samples = (0..SAMPLE_RATE * SECONDS).flat_map(|index| {
        let time = f64::from(index) / f64::from(SAMPLE_RATE);
        let tones = [261.63, 329.63, 392.00].map(|hertz| (TAU * hertz * time).sin());
        let level = tones.iter().sum::<f64>() / 3.0 * (-2.0 * time).exp();
        ((level * f64::from(i16::MAX)) as i16).to_le_bytes()
    });
    let data: Vec<u8> = samples.collect();
    let data_len = data.len() as u32;

    let mut wav = Vec::with_capacity(44 + data.len());
    wav.extend(b"RIFF");
    wav.extend((36 + data_len).to_le_bytes());
    wav.extend(b"WAVEfmt ");
    wav.extend(16_u32.to_le_bytes());
    wav.extend([1_u16, 1].map(u16::to_le_bytes).concat()); // PCM, one channel
    wav.extend(
        [SAMPLE_RATE, SAMPLE_RATE * 2]
            .map(u32::to_le_bytes)
            .concat(),
    ); // bytes a second
    wav.extend([2_u16, 16].map(u16::to_le_bytes).concat()); // bytes a frame, bits a sample
    wav.extend(b"data");
    wav.extend(data_len.to_le_bytes());
    wav.extend(data);
    wav
}

/// A new folder of our own, removed in the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Outcome<Self> {
        let path = env::temp_dir().join(format!("peer-demo-{}", share::fresh_token()?));
        let about = |error: io::Error| format!("{}: {error}", path.display());
        fs::create_dir(&path).map_err(about)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Nothing depends on it: at worst a small folder stays until the system tidies up.
        let _ = fs::remove_dir_all(&self.0);
    }
}
