//! Shares media on the local network and fetches it: the whole of `cranpose_services::peer`.
//!
//! `cargo run --release --example peer` runs a demonstration that needs nothing; `-- --help` says
//! what else it does.

mod arguments;
mod catalogue;
mod demo;
mod get;
mod list;
mod open;
mod page;
mod play;
mod progress;
mod share;

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use arguments::{Arguments, Usage};

/// What a command gives back: nothing, or a reason for people to read.
type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

const HELP: &str = "\
Shares media on the local network and fetches it.

  peer                                  make a sound, share it on loopback, fetch it, check it
  peer share [OPTIONS] PATH...          share files, and folders with all that is in them
      --bind ADDRESS                      listen on this address only (default 0.0.0.0)
      --port N                            listen on this port (default: any free one)
      --allow-origin ORIGIN               let web pages of ORIGIN fetch, as in https://example.org
      --token-file FILE                   keep the token in FILE, for the next time (default: a
                                          fresh one each time)
      --until-eof                         stop when standard input ends (default: on Ctrl-C)
  peer list BASE TOKEN                  show what a peer shares
  peer get [OPTIONS] BASE TOKEN HANDLE  fetch one item
      --range FIRST-[LAST]                only these bytes, counted from 0, LAST included
      -o FILE                             where to put it, - for standard output
                                          (default: the last part of HANDLE, if not there yet)
  peer play [OPTIONS] BASE TOKEN HANDLE decode one track through a reader, seeking about first
      -o FILE                             where to put its samples (16 bits, little-endian), - for
                                          standard output (default: nowhere)
  peer open [OPTIONS] BASE TOKEN [HANDLE] print a URL for players that cannot send a token; without
                                          HANDLE that of a page which lists and plays everything
      --player PROGRAM                    run PROGRAM on the URL instead, and end with it
      --until-eof                         stop when standard input ends (default: on Ctrl-C)

BASE is host:port as `share` prints it, HANDLE is as `list` prints it. `share` leaves out hidden
files and symbolic links, and offers the list itself, as JSON, under the handle `library`.
Exit status: 0 done, 1 failed, 2 not understood.
";

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Standard error may be closed; the exit status tells the outcome all the same.
            let _ = writeln!(io::stderr(), "peer: {error}");
            ExitCode::from(if error.is::<Usage>() { 2 } else { 1 })
        }
    }
}

fn run(arguments: Vec<OsString>) -> Outcome {
    let mut options = arguments.iter().take_while(|word| *word != "--");
    if options.any(|word| word == "--help" || word == "-h") {
        return Ok(io::stdout().write_all(HELP.as_bytes())?);
    }
    let mut arguments = Arguments::new(arguments);
    let Some(command) = arguments.command() else {
        return demo::run();
    };
    match command.to_str() {
        Some("share") => share::run(arguments),
        Some("list") => list::run(arguments),
        Some("get") => get::run(arguments),
        Some("play") => play::run(arguments),
        Some("open") => open::run(arguments),
        _ => Err(Usage(format!("no command {command:?}; try --help")).into()),
    }
}
