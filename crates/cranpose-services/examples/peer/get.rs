//! `peer get`: fetches one item, whole or a range of it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use cranpose_services::peer::PeerClient;

use crate::Outcome;
use crate::arguments::{Argument, Arguments, Usage, text, texts, unknown};
use crate::progress;

/// A range: from `start`, `len` bytes or all to the end.
struct Range {
    start: u64,
    len: Option<u64>,
}

pub(crate) fn run(mut arguments: Arguments) -> Outcome {
    let mut words = Vec::new();
    let mut range = None;
    let mut output = None;
    while let Some(argument) = arguments.next() {
        match argument {
            Argument::Positional(word) => words.push(word),
            Argument::Option(option) => match option.as_str() {
                "--range" => range = Some(parse_range(&text(arguments.value(&option)?)?)?),
                "-o" => output = Some(PathBuf::from(arguments.value(&option)?)),
                _ => return Err(unknown(&option)),
            },
        }
    }
    let [base, token, handle] = texts(words, ["BASE", "TOKEN", "HANDLE"])?;
    let about = |error| format!("cannot get {handle:?}: {error}");
    let client = PeerClient::builder(base, token).build().map_err(about)?;
    let client = client.with_progress(&progress::bar());

    let whole = Range {
        start: 0,
        len: None,
    };
    match (range, output) {
        (range, Some(file)) if file.as_os_str() == "-" || takes_a_stream(&file) => {
            let Range { start, len } = range.unwrap_or(whole);
            let mut out: Box<dyn Write> = if file.as_os_str() == "-" {
                Box::new(io::stdout().lock())
            } else {
                let about = |error| format!("{}: {error}", file.display());
                Box::new(File::options().write(true).open(&file).map_err(about)?)
            };
            client
                .fetch_to_writer(&handle, start, len, &mut out)
                .map_err(about)?;
            Ok(out.flush()?)
        }
        (None, file) => {
            let file = file.map_or_else(|| own_name(&handle), Ok)?;
            let downloaded = client.download(&handle, file).map_err(about)?;
            let earlier = downloaded.resumed_from;
            if earlier > 0 {
                // Standard error may be closed; the file is there all the same.
                let _ = writeln!(
                    io::stderr(),
                    "peer: the first {earlier} bytes were there already"
                );
            }
            Ok(())
        }
        (Some(Range { start, len }), file) => {
            let file = file.map_or_else(|| own_name(&handle), Ok)?;
            replace(&file, |out| {
                Ok(client
                    .fetch_to_writer(&handle, start, len, out)
                    .map_err(about)?)
            })
        }
    }
}

/// Whether it is a device or a pipe, which nothing can take the place of.
fn takes_a_stream(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|there| !there.is_file() && !there.is_dir())
}

/// Writes a file beside the one meant, and puts it in its place when all went well.
fn replace(file: &Path, write: impl FnOnce(&mut File) -> Outcome<Option<u64>>) -> Outcome {
    let mut beside = file.as_os_str().to_owned();
    beside.push(".range");
    let beside = PathBuf::from(beside);
    let about = |error| format!("{}: {error}", beside.display());
    let mut out = File::create(&beside).map_err(about)?;
    let written = write(&mut out);
    let placed = written.and_then(|_| Ok(fs::rename(&beside, file).map_err(about)?));
    if placed.is_err() {
        // The failure to report is the first one.
        let _ = fs::remove_file(&beside);
    }
    placed
}

/// `FIRST-LAST` or `FIRST-`.
fn parse_range(range: &str) -> Outcome<Range> {
    let parsed = range.split_once('-').and_then(|(first, last)| {
        let start: u64 = first.parse().ok()?;
        if last.is_empty() {
            return Some(Range { start, len: None });
        }
        let len = last
            .parse::<u64>()
            .ok()?
            .checked_sub(start)?
            .checked_add(1)?;
        Some(Range {
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
