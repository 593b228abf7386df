//! `peer get`: fetches one item, whole or a range of it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use cranpose_services::peer::{content_length, fetch_to_writer};

use crate::Outcome;
use crate::arguments::{Argument, Arguments, Usage, text, texts, unknown};
use crate::progress::Progress;

/// The bytes asked for: from `start`, `len` of them or all to the end.
struct Wanted {
    start: u64,
    len: Option<u64>,
}

pub(crate) fn run(mut arguments: Arguments) -> Outcome {
    let mut words = Vec::new();
    let mut wanted = Wanted {
        start: 0,
        len: None,
    };
    let mut output = None;
    while let Some(argument) = arguments.next() {
        match argument {
            Argument::Positional(word) => words.push(word),
            Argument::Option(option) => match option.as_str() {
                "--range" => wanted = parse_range(&text(arguments.value(&option)?)?)?,
                "-o" => output = Some(PathBuf::from(arguments.value(&option)?)),
                _ => return Err(unknown(&option)),
            },
        }
    }
    let [base, token, handle] = texts(words, ["BASE", "TOKEN", "HANDLE"])?;

    if output.as_deref() == Some(Path::new("-")) {
        let mut out = io::stdout().lock();
        fetch(&base, &token, &handle, &wanted, &mut out)?;
        return Ok(out.flush()?);
    }
    let target = match output {
        Some(file) => file,
        None => own_name(&handle)?,
    };
    // Beside the target, so that what bears its name is always whole.
    let mut part = target.clone().into_os_string();
    part.push(".part");
    let part = PathBuf::from(part);
    let about = |error| format!("{}: {error}", part.display());
    let mut file = File::create(&part).map_err(about)?;
    let fetched = fetch(&base, &token, &handle, &wanted, &mut file);
    let placed = fetched
        .and_then(|()| Ok(file.sync_all().map_err(about)?))
        .and_then(|()| {
            fs::rename(&part, &target)
                .map_err(|error| format!("{}: {error}", target.display()).into())
        });
    if placed.is_err() {
        // The failure to report is the first one.
        let _ = fs::remove_file(&part);
    }
    placed
}

fn fetch(base: &str, token: &str, handle: &str, wanted: &Wanted, out: &mut dyn Write) -> Outcome {
    let about = |error| format!("cannot get {handle:?}: {error}");
    // Asked first only to know how far there is to go.
    let total = content_length(base, token, handle).map_err(about)?;
    let expected = total.map(|total| {
        let left = total.saturating_sub(wanted.start);
        wanted.len.map_or(left, |len| len.min(left))
    });
    let mut out = Progress::new(out, expected);
    fetch_to_writer(base, token, handle, wanted.start, wanted.len, &mut out).map_err(about)?;
    Ok(())
}

/// `FIRST-LAST` or `FIRST-`.
fn parse_range(range: &str) -> Outcome<Wanted> {
    let parsed = range.split_once('-').and_then(|(first, last)| {
        let start: u64 = first.parse().ok()?;
        if last.is_empty() {
            return Some(Wanted { start, len: None });
        }
        let len = last
            .parse::<u64>()
            .ok()?
            .checked_sub(start)?
            .checked_add(1)?;
        Some(Wanted {
            start,
            len: Some(len),
        })
    });
    parsed.ok_or_else(|| Usage(format!("{range:?} is no range like 0-99 or 100-")).into())
}

/// The last part of the handle, as a file in the current folder that is not there yet.
fn own_name(handle: &str) -> Outcome<PathBuf> {
    let name = handle.rsplit(['/', '\\']).next().unwrap_or_default();
    let bad = |character: char| character.is_control() || "<>:\"|?*".contains(character);
    if name.is_empty() || name == "." || name == ".." || name.chars().any(bad) {
        return Err(Usage(format!("{handle:?} ends in no file name; say -o FILE")).into());
    }
    if fs::symlink_metadata(name).is_ok() {
        return Err(format!("{name:?} is there already; say -o FILE").into());
    }
    Ok(PathBuf::from(name))
}
