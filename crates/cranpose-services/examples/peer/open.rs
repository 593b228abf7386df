//! `peer open`: a URL on this device for players that cannot send a token, or a page that plays.

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::Command;
use std::sync::Arc;

use cranpose_services::peer::{PeerBridge, PeerClient};

use crate::Outcome;
use crate::arguments::{Argument, Arguments, Usage, text, unknown};
use crate::{list, page};

pub(crate) fn run(mut arguments: Arguments) -> Outcome {
    let mut words = Vec::new();
    let mut player = None;
    let mut until_eof = false;
    while let Some(argument) = arguments.next() {
        match argument {
            Argument::Positional(word) => words.push(text(word)?),
            Argument::Option(option) => match option.as_str() {
                "--player" => player = Some(arguments.value(&option)?),
                "--until-eof" => until_eof = true,
                _ => return Err(unknown(&option)),
            },
        }
    }
    let (base, token, handle) = match &words[..] {
        [base, token] => (base, token, None),
        [base, token, handle] => (base, token, Some(handle)),
        _ => return Err(Usage("expected BASE TOKEN [HANDLE]; try --help".into()).into()),
    };

    let client = PeerClient::builder(base, token).build()?;
    let bridge = Arc::new(PeerBridge::start()?);
    let url = match handle {
        Some(handle) => {
            // A player that gets a URL of nothing would say so later, and less clearly.
            let about = |error| format!("cannot open {handle:?}: {error}");
            client.content_length(handle).map_err(about)?;
            let name = handle.rsplit('/').next().filter(|name| !name.is_empty());
            bridge.url(&client, handle, name.unwrap_or("track"))?
        }
        None => {
            // The page would say so as well, but here is who can mend it.
            list::fetch_by(&client, base)?;
            page::open(&bridge, &client, base, token)?
        }
    };
    match player {
        Some(player) => play(&player, url.as_str()),
        None => {
            let mut out = io::stdout().lock();
            // Whoever has the URL can read what is behind it, as long as this runs.
            writeln!(out, "url {}", url.as_str())?;
            out.flush()?;
            drop(out);
            if until_eof {
                io::copy(&mut io::stdin(), &mut io::sink())?;
                return Ok(());
            }
            loop {
                std::thread::park();
            }
        }
    }
}

/// Runs a player on the URL, to its end.
fn play(player: &OsString, url: &str) -> Outcome {
    let about = |what: &dyn std::fmt::Display| format!("{}: {what}", player.to_string_lossy());
    let status = Command::new(player)
        .arg(url)
        .status()
        .map_err(|error| about(&error))?;
    if !status.success() {
        return Err(about(&status).into());
    }
    Ok(())
}
